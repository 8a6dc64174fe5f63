"""`config check`, `show` and `schema`: the config file before anything is loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import exit_codes, options, runner, terminal
from pushengine.errors import ConfigError, PushEngineError
from pushengine.text import format_count, shown_name

if TYPE_CHECKING:
    from pushengine.config.load import Flags
    from pushengine.config.loads.origins import Setting
    from pushengine.config.loads.reading import LoadsReading
    from pushengine.config.problems import Problem

LoadArgument = Annotated[
    str | None,
    typer.Argument(metavar="[LOAD]", help="A load: RULE or RULE.TABLE; otherwise the settings of all of them."),
]
_NEEDS_DAEMON = "needs the daemon, which a later version brings; `pushengine load` ignores it"


def check(
    *,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    as_json: options.AsJson = False,
) -> None:
    """Check the config file. Names everything that is wrong at once, also folders that are missing or cannot be written; sends nothing."""
    problems: list[Problem] = []

    async def body(_interrupts: runner.Interrupts) -> None:
        import dataclasses

        from pushengine.config.loads.places import problems_of_places
        from pushengine.config.loads.reading import error_of, read_loads

        reading = read_loads(_flags(config, url, pool, connection))
        problems.extend([*reading.problems, *_addresses(reading), *problems_of_places(reading)])
        notes = list(_notes(reading))
        if problems:
            error = error_of(dataclasses.replace(reading, problems=tuple(problems)))
            raise error.replace(hint="`pushengine help settings` shows every key")
        if as_json:
            terminal.print_json(
                {
                    "status": "OK",
                    "path": str(reading.read.path),
                    "problems": [],
                    "notes": notes,
                    "loads": [rule.name for rule in reading.loads.rules],
                }
            )
            return
        found = format_count(len(reading.loads.rules), "load")
        terminal.print_result([f"{shown_name(str(reading.read.path))}: no problems, {found}", *notes])

    def on_error(error: BaseException) -> None:
        if as_json:
            listed = [{"key": one.key, "load": one.load or None, "message": one.text} for one in problems]
            described = exit_codes.describe_error(error)
            terminal.print_json({"status": "ERROR", "error": described, "problems": _masked(listed)})

    runner.run(body, on_error=on_error)


def show(
    load: LoadArgument = None,
    *,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    as_json: options.AsJson = False,
) -> None:
    """Show the settings that hold, and where each came from. Secrets are not shown."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.config.loads.origins import settings_of_load, settings_of_process
        from pushengine.config.loads.reading import error_of, read_loads

        flags = _flags(config, url, pool, connection)
        reading = read_loads(flags, wants_credentials=False)
        if reading.problems:
            raise error_of(reading)
        if load is None:
            found = settings_of_process(reading, flags)
            for rule in reading.loads.rules:
                for table in (None, *rule.overrides):
                    name = f"load {rule.name}" + (f".{table}" if table else "")
                    found[name] = _given(settings_of_load(reading, rule.name, table))
        else:
            rule_name, table = _named(reading, load)
            found = {f"load {load}": settings_of_load(reading, rule_name, table)}
        if as_json:
            terminal.print_json({"path": str(reading.read.path), "settings": _to_json(found)})
        else:
            terminal.print_result([f"config file {shown_name(str(reading.read.path))}", *_lines(found)])

    runner.run(body, as_json=as_json)


def schema(*, output: options.Output = None) -> None:
    """Write the JSON schema of the config file, with which editors complete and check it."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.config.loads.json_schema import config_schema

        if output is None:
            terminal.print_json(config_schema())
            return
        with terminal.writing_to(output) as file:
            file.write(f"{json.dumps(config_schema(), indent=2)}\n")

    runner.run(body)


def _flags(config: Path | None, url: str | None, pool: str | None, connection: str | None) -> Flags:
    from pushengine.config.load import Flags

    return Flags(config=config, url=url, pool_id=pool, connection_id=connection)


def _addresses(reading: LoadsReading) -> Iterator[Problem]:
    """Yield what is wrong with the addresses of the targets."""
    from pushengine.celonis.wire import parse_team_url
    from pushengine.config.problems import Problem

    for name, target in reading.loads.targets.items():
        path = ("connection", "url") if name == "default" else ("targets", name, "url")
        try:
            if target.url:
                parse_team_url(target.url)
        except PushEngineError as error:
            yield Problem(path, error.message)


def _notes(reading: LoadsReading) -> Iterator[str]:
    """Yield what the user should know of a file that is right."""
    for rule in reading.loads.rules:
        keys = dict.fromkeys(
            key for table in (rule.table or "", *rule.overrides) for key in rule.settings_for(table).daemon_keys
        )
        if keys:
            yield f"load {rule.name}: {', '.join(keys)} {_NEEDS_DAEMON}"
    for key in reading.loads.daemon_keys:
        yield f"[[{key}]] {_NEEDS_DAEMON}"
    variable = os.environ.get("PUSHENGINE_STATE_DIR")
    if variable and reading.loads.rules and Path(variable).absolute() != reading.config.state_dir.absolute():
        yield "PUSHENGINE_STATE_DIR has no effect: beside [[load]], the state folder is [state] dir"


def _named(reading: LoadsReading, load: str) -> tuple[str, str | None]:
    """Return the rule and the table that a word names.

    Raises:
        ConfigError: There is no such load.
    """
    from pushengine.config.problems import did_you_mean

    name, dot, table = load.partition(".")
    names = [rule.name for rule in reading.loads.rules]
    rule = next((rule for rule in reading.loads.rules if rule.name == name), None)
    if rule is None:
        hint = f"the file has {', '.join(names)}" if names else "the file has no [[load]]"
        raise ConfigError(f"no load {shown_name(name)}{did_you_mean(name, names)}", key="LOAD", hint=hint)
    if dot and rule.table is not None and rule.table.casefold() != table.casefold():
        raise ConfigError(f"load {name} is of table {rule.table} only", key="LOAD", hint=f"{name}.{rule.table}")
    return name, table or None


def _given(settings: Sequence[Setting]) -> list[Setting]:
    return [one for one in settings if one.origin.startswith("[") and one.origin not in ("[engine]", "[csv]")]


def _lines(found: Mapping[str, Sequence[Setting]]) -> Iterator[str]:
    from pushengine.redaction import mask

    for name, settings in found.items():
        yield ""
        yield name if name.startswith("load ") else f"[{name}]"
        words = [f"{one.key} = {_word(one.value)}" for one in settings]
        width = min(max(map(len, words), default=0), 48)
        for word, one in zip(words, settings, strict=True):
            yield mask(f"  {word:<{width}}  {one.origin}")


def _word(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _to_json(found: Mapping[str, Sequence[Setting]]) -> dict[str, Any]:
    return {
        name: [{"key": one.key, "value": _masked(one.value), "origin": one.origin} for one in settings]
        for name, settings in found.items()
    }


def _masked(value: Any) -> Any:
    """Return a JSON value with all secrets masked."""
    from pushengine.redaction import mask

    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(one) for one in value]
    return {key: _masked(one) for key, one in value.items()} if isinstance(value, dict) else value
