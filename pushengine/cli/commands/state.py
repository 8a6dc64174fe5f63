"""`state` and `resolve`: what the journal remembers of loads, and what a person decides about it."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pushengine.cli import options, runner, session, terminal
from pushengine.errors import ConfigError
from pushengine.text import format_count, shown_name, storable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pushengine.config.load import Config
    from pushengine.journal.loads import FileRow, LoadMemory
    from pushengine.journal.reader import JournalReader

LoadName = Annotated[str, typer.Argument(metavar="LOAD", help="A load: RULE.TABLE, such as sap.VBAP.")]
_SHOW = "`pushengine state show` lists the loads that are remembered"


class _Load(NamedTuple):
    """A load by its names, as they are spelled."""

    rule: str
    table: str

    def __str__(self) -> str:
        return f"{self.rule}.{self.table}"


# --- Show


def show(
    load: Annotated[
        str | None, typer.Argument(metavar="[LOAD]", help="A rule, or one of its loads: sap, sap.VBAP.")
    ] = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is remembered of loads: files, cursors, blocks, expected tables. Reads this host's journal; needs no account."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.commands.state_words import describe_loads

        loaded = session.load_history_config(config, emulator)
        with _reading(loaded) as reader:
            loads = reader.loads
            chosen = _matching(loads, load)
            found = [_state_of(loads, one) for one in chosen]
        if as_json:
            terminal.print_json({"loads": found})
        else:
            terminal.print_result(describe_loads(found, loaded.state_dir, is_short=load is None))

    runner.run(body, as_json=as_json)


def _state_of(loads: LoadMemory, load: _Load) -> dict[str, Any]:
    """Return what is remembered of a load, as JSON types."""
    expected = [row for row in loads.tables(load.rule) if row.table.casefold() == load.table.casefold()]
    cursor = loads.cursor(*load)
    return {
        "name": str(load),
        "load": load.rule,
        "table": load.table,
        "expected": _plain(expected[0]) if expected else None,
        "cursor": None if cursor is None else _plain(cursor),
        "blocks": [_plain(row) for row in loads.blocks(*load)],
        "files": [_plain(row) for row in loads.files(*load)],
    }


def _plain(row: Any) -> dict[str, Any]:
    from pushengine.text import iso_utc

    raw = {key: value for key, value in dataclasses.asdict(row).items() if key not in ("load", "table")}
    for key in ("first_seen_at", "loaded_at", "at"):
        if key in raw:
            raw[key] = iso_utc(raw[key]) if raw[key] else None
    return raw


# --- Decide


def skip(
    load: LoadName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to leave out; it need not exist any more.")],
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Leave a file out of a load: it counts as dealt with, and later files of an upsert or delete no longer wait for it."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.runtime.files import absolute_uri

        loaded = session.load_history_config(config, emulator)
        path = absolute_uri(str(file))
        with session.editing_journal(_with_journal(loaded)) as journal:
            loads = journal.loads
            one = _one(loads, load)
            block = next((row for row in loads.blocks(*one) if row.path == path), None)
            if block is not None and block.kind == "unknown":
                raise ConfigError(
                    f"it is unknown whether push {block.push_id} loaded {shown_name(path)}",
                    key="FILE",
                    hint=f"check the table, then: pushengine resolve {block.push_id} --loaded, or --not-loaded",
                )
            loads.put_file(_skipped(loads, one, path))
            loads.lift(*one, path)
        text = f"skipped: {shown_name(path)} of {one}"
        _print({"load": str(one), "path": storable(path), "was_blocked": block is not None}, text, as_json=as_json)

    runner.run(body, as_json=as_json)


def _skipped(loads: LoadMemory, load: _Load, path: str) -> FileRow:
    from pushengine.journal.loads import FileRow
    from pushengine.runtime.files import LocalFileSystem

    now = time.time()
    known = next((row for row in loads.files(*load) if row.path == path), None)
    found = [one for one in LocalFileSystem().list(path) if one.uri == path] if Path(path).is_file() else []
    if known is None and not found and not any(row.path == path for row in loads.blocks(*load)):
        raise ConfigError(f"there is no file {shown_name(path)}, and load {load} knows none", key="FILE", hint=_SHOW)
    row = known or FileRow(load=load.rule, table=load.table, path=path, size=0, version=(), first_seen_at=now)
    if found and not row.is_unchanged(found[0]):
        row = dataclasses.replace(row, size=found[0].size, version=found[0].version, sha256="", push_id="")
    return dataclasses.replace(row, state="skipped", loaded_at=now)


def retire(
    load: LoadName,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Expect a table no longer: from now on it is not missing when its rule finds no file for it."""

    async def body(_interrupts: runner.Interrupts) -> None:
        loaded = session.load_history_config(config, emulator)
        with session.editing_journal(_with_journal(loaded)) as journal:
            one = _one(journal.loads, load)
            was_expected = journal.loads.retire(*one)
        text = f"retired: {one}" if was_expected else f"{one} is not expected: there is nothing to retire"
        _print({"load": str(one), "was_expected": was_expected}, text, as_json=as_json)

    runner.run(body, as_json=as_json)


def set_(
    load: LoadName,
    cursor: Annotated[str, typer.Argument(metavar="CURSOR", help="The next load reads the rows from this value on.")],
    *,
    kind: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Type of the value; that of the cursor before, if not given."),
    ] = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Set the cursor of a load."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.journal.loads import CursorRow

        loaded = session.load_history_config(config, emulator)
        with session.editing_journal(loaded) as journal:
            one = _one(journal.loads, load, may_be_new=True)
            before = journal.loads.cursor(*one)
            chosen = kind or ("STRING" if before is None else before.type)
            row = CursorRow(load=one.rule, table=one.table, value=cursor, type=chosen, push_id="", at=time.time())
            journal.loads.put_cursor(row)
        was = "none" if before is None else shown_name(before.value)
        result = {
            "load": str(one),
            "cursor": cursor,
            "type": chosen,
            "before": None if before is None else before.value,
        }
        _print(result, f"set: the cursor of {one} is {shown_name(cursor)}; it was {was}", as_json=as_json)

    runner.run(body, as_json=as_json)


# --- Move to another host


def export(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that is remembered of loads and tables.")
    ] = False,
    output: options.Output = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
) -> None:
    """Write what is remembered of loads and tables as JSON, for `state import` on the host that takes over."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.journal.transfer import export_memory

        if not everything:
            raise ConfigError("say what to export", key="--all", hint="pushengine state export --all")
        loaded = session.load_history_config(config, emulator)
        with _reading(loaded) as reader:
            found = export_memory(reader, time.time())
            open_pushes = len(reader.pushes(state="open"))
        with terminal.ignoring_broken_pipe(), terminal.writing_to(output) as file:
            file.write(storable(json.dumps(found, ensure_ascii=False, indent=1)) + "\n")
        if open_pushes:
            count = format_count(open_pushes, "unfinished push", "unfinished pushes")
            terminal.print_to_stderr([f"{count} stay behind: finish them here first with `pushengine resume`"])

    runner.run(body)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `state export --all` wrote.")],
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Remember what another host exported, in place of what is known here of the same files, tables and load ids."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.journal.transfer import import_memory
        from pushengine.state.file_errors import setting_errors

        loaded = session.load_history_config(config, emulator)
        try:
            with setting_errors("cannot read the exported state", file, key="FILE"):
                raw = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{shown_name(str(file))} is not JSON: {error}", key="FILE") from error
        with session.editing_journal(loaded) as journal:
            counts = import_memory(journal, raw)
        words = (
            ("load_files", "file"),
            ("load_tables", "expected table"),
            ("load_cursors", "cursor"),
            ("load_blocks", "block"),
            ("load_ids", "load id"),
            ("runs", "run"),
            ("tables", "remembered table"),
        )
        text = ", ".join(format_count(counts[name], word) for name, word in words)
        _print({"imported": counts}, f"imported: {text}", as_json=as_json)

    runner.run(body, as_json=as_json)


# --- Unknown outcomes


def resolve(
    push: options.PushWords,
    *,
    is_loaded: Annotated[
        bool | None,
        typer.Option("--loaded/--not-loaded", help="Whether its rows are in the table.", show_default=False),
    ] = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what became of a push whose outcome is unknown (exit code 6), so that its load can go on."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.journal.resolution import resolve_push

        loaded = session.load_history_config(config, emulator)
        with _reading(loaded) as reader:
            push_id = reader.find(push).push_id
        if is_loaded is None:
            raise ConfigError(
                f"say whether push {push_id} was loaded",
                key="push_id",
                hint=f"pushengine resolve {push_id} --loaded, or --not-loaded; `pushengine show {push_id}` says how to find out",
            )
        with session.editing_journal(loaded) as journal:
            lifted = resolve_push(journal, push_id, is_loaded=is_loaded, at=time.time())
        text = f"resolved: push {push_id} is {'done' if is_loaded else 'failed'}"
        if lifted:
            text += f"; no longer blocked: {', '.join(lifted)}"
        _print({"push_id": push_id, "is_loaded": is_loaded, "lifted": lifted}, text, as_json=as_json)

    runner.run(body, as_json=as_json)


# --- Common


def _print(value: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        terminal.print_json(value)
    else:
        terminal.print_result([text])


def _with_journal(loaded: Config) -> Config:
    """Return the configuration if its state folder has a journal.

    Raises:
        ConfigError: It has none.
    """
    if loaded.state.find_journal() is None:
        raise ConfigError(
            f"nothing is remembered of loads: there is no journal in {shown_name(str(loaded.state_dir))}",
            key="state",
            hint="name the config file of the loads with --config, or set PUSHENGINE_STATE_DIR to their state folder",
        )
    return loaded


def _reading(loaded: Config) -> JournalReader:
    from pushengine.journal.reader import JournalReader

    return JournalReader(_with_journal(loaded).state.find_journal() or loaded.state.journal)


def _known(loads: LoadMemory) -> Iterator[_Load]:
    """Yield every load of which something is remembered, once, in order."""
    named: dict[tuple[str, str], _Load] = {}
    for rule, table in loads.names():
        named.setdefault((rule.casefold(), table.casefold()), _Load(rule, table))
    yield from (named[key] for key in sorted(named))


def _matching(loads: LoadMemory, name: str | None) -> list[_Load]:
    """Return the loads that a name means: a rule's, or one.

    Raises:
        ConfigError: None is known.
    """
    known = list(_known(loads))
    wanted = None if name is None else name.casefold()
    found = [one for one in known if wanted in (None, one.rule.casefold(), str(one).casefold())]
    if not found and name is not None:
        raise ConfigError(f"nothing is remembered of a load {shown_name(name)}", key="LOAD", hint=_SHOW)
    return found


def _one(loads: LoadMemory, name: str, *, may_be_new: bool = False) -> _Load:
    """Return the load with this name.

    Raises:
        ConfigError: It is not known, or the name is that of a rule.
    """
    found = [one for one in _known(loads) if str(one).casefold() == name.casefold()]
    if found:
        return found[0]
    rule, dot, table = name.partition(".")
    if may_be_new and rule and dot and table:
        return _Load(rule, table)
    hint = "a load is named RULE.TABLE" if not dot else _SHOW
    raise ConfigError(f"nothing is remembered of a load {shown_name(name)}", key="LOAD", hint=hint)
