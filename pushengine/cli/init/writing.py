"""Writes a first config file: what was found, and why, in comments."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pushengine.cli.init.names import NamedFile, NamedRule
from pushengine.cli.init.planning import Examined, examine, in_config_words, is_read_alike
from pushengine.text import format_bytes, format_count, shown_some

FILL_IN = "FILL IN"
_DELTA = re.compile(r"delta|incremental|changes|(?:^|[^a-z])incr?(?:[^a-z]|$)", re.IGNORECASE)
_MOST_DOUBTS = 3
_MUCH_SMALLER = 0.5
_NEUTRAL: Mapping[str, Any] = {
    "decimal": ".",
    "thousands": "",
    "encoding": "utf-8",
    "quote": '"',
    "header": True,
    "trim": False,
    "zero_date_null": False,
    "skip_lines": 0,
    "skip_footer": 0,
}
"""Values with which a table does without a setting of its rule."""
_OF_LOCALE = {"decimal": ".", "thousands": ""}


@dataclasses.dataclass(frozen=True, slots=True)
class FoundRule:
    """A rule with the settings of its tables.

    Attributes:
        named: The rule as the names of its files say.
        mode: How its rows are loaded, and why.
        settings: What most tables need.
        overrides: What single tables need instead.
        examined: What was found of each table.
    """

    named: NamedRule
    mode: tuple[str, str]
    settings: Mapping[str, Any]
    overrides: Mapping[str, Mapping[str, Any]]
    examined: Mapping[str, Examined]


async def examined_rule(named: NamedRule) -> FoundRule:
    """Return a rule with the settings that its tables need. Reads the start of the newest file of each."""
    examined = {table: await examine(files[0].path) for table, files in named.files.items()}
    usable = {table: one for table, one in examined.items() if not one.problem}
    votes = collections.Counter(_key(one.settings) for one in usable.values())
    common: Mapping[str, Any] = json.loads(votes.most_common(1)[0][0]) if votes else {}
    overrides = {}
    for table, one in usable.items():
        if _key(one.settings) == _key(common):
            continue
        if not await is_read_alike(named.files[table][0].path, common, one):
            overrides[table] = await _override(named.files[table][0].path, one, common)
    return FoundRule(named, _mode(named), common, overrides, examined)


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


async def _override(path: Path, one: Examined, common: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table needs besides the settings of its rule: its own, and those that take back one of the rule."""
    lacking = {name: _NEUTRAL[name] for name in common if name not in one.settings and name in _NEUTRAL}
    if "locale" in common and "locale" not in one.settings:
        lacking |= {name: value for name, value in _OF_LOCALE.items() if name not in one.settings}
    own = {name: value for name, value in one.settings.items() if common.get(name) != value}
    for name in list(lacking):
        fewer = {key: value for key, value in lacking.items() if key != name}
        if await is_read_alike(path, {**common, **fewer, **own}, one):
            lacking = fewer
    return {**lacking, **own}


def _mode(named: NamedRule) -> tuple[str, str]:
    names = [*named.templates, *named.files]
    if any(_DELTA.search(Path(name).name) for name in names):
        return (
            "append",
            'the names say that files hold changes: if rows change, write mode = "upsert" and keys = ["COLUMN"]',
        )
    return "replace", "each file looks like a whole extract: it replaces its table"


def config_text(
    rules: Sequence[FoundRule],
    others: Sequence[Path],
    *,
    folder: Path,
    state_dir: Path,
    environ: Mapping[str, str],
) -> str:
    """Return the content of the config file."""
    lines = [
        f"# Written by `pushengine init` from {_comment(str(folder))}. Next:",
        "#   pushengine load --dry-run     shows what would be loaded",
        "#   pushengine load --emulator    loads it into an emulator on this machine",
        "#   pushengine config check       checks this file; `pushengine help loads` explains it",
        "",
        *_target(environ),
        "",
        "[state]",
        f"dir = {_toml(str(state_dir))}  # what is loaded is remembered here: keep it, on a local disk",
        "",
        "[defaults]",
        '#timezone = "Europe/Berlin"  # for deadline',
        '#patience = "1h"             # wait this long for a platform that does not respond',
        "#max_drop = 0.5              # refuse a replace that loses more than half of the rows",
    ]
    if others:
        lines += [
            "",
            f"# Not loaded, because these are no csv, parquet or arrow files: {_comment(shown_some([one.name for one in others], 5))}",
        ]
    for rule in rules:
        lines += ["", *_rule(rule)]
    return "\n".join(lines) + "\n"


def _target(environ: Mapping[str, str]) -> Iterator[str]:
    yield "# Where to. Environment variables of these names win over the file: PUSHENGINE_URL, PUSHENGINE_POOL_ID, ..."
    yield "[connection]"
    for key, example, what in (
        ("url", "https://TEAM.REALM.celonis.cloud", "the address of the team"),
        ("pool_id", "00000000-0000-0000-0000-000000000000", "the id of the data pool, as in its address"),
    ):
        value = environ.get(f"PUSHENGINE_{key.upper()}")
        if value:
            yield f"{key} = {_toml(value)}"
        else:
            yield f'#{key} = "{example}"  # {FILL_IN}: {what}'
    connection = environ.get("PUSHENGINE_CONNECTION_ID")
    yield (
        f"connection_id = {_toml(connection)}"
        if connection
        else (
            '#connection_id = "..."  # only if tables belong to a data connection; otherwise, they are in the global schema'
        )
    )
    yield ""
    yield "[auth]"
    found = [name for name in _SECRETS if environ.get(f"PUSHENGINE_{name.upper()}")]
    for name in found:
        yield f'{name} = "${{PUSHENGINE_{name.upper()}}}"'
    if not found:
        yield f'#client_id = "..."  # {FILL_IN}: the OAuth client'
        yield f'#client_secret = "${{file:/path/to/secret}}"  # {FILL_IN}: its secret, in a file of its own or as ${{VARIABLE}}'


_SECRETS = (
    "client_id",
    "client_secret",
    "client_secret_file",
    "scope",
    "api_key",
    "api_key_file",
    "app_key",
    "app_key_file",
)


def _rule(rule: FoundRule) -> Iterator[str]:
    named = rule.named
    tables = list(named.files)
    count = sum(map(len, named.files.values()))
    yield f"# {format_count(len(tables), 'table')} in {format_count(count, 'file')}: {_comment(shown_some(tables, 8))}"
    yield "[[load]]"
    yield f"name = {_toml(named.name)}"
    sources = [_toml(one) for one in named.templates]
    yield f"source = {sources[0]}" if len(sources) == 1 else f"source = [{', '.join(sources)}]"
    if named.table is not None:
        yield f"table = {_toml(named.table)}"
    mode, why = rule.mode
    yield f'mode = "{mode}"  # {why}'
    for name, value in rule.settings.items():
        yield f"{name} = {_toml(value)}  # {_reason(name)}"
    if mode == "replace" and any(file.date for files in named.files.values() for file in files):
        yield '#max_age = "26h"     # report a table as missing if its newest date is older'
        yield '#deadline = "05:00"  # report a load as late after this time'
    yield '#cleanup = "move"    # move files that are loaded into a folder `loaded` beside them'
    for line in _notes(rule):
        yield f"# {_comment(line)}"
    for table, settings in rule.overrides.items():
        yield ""
        yield f"[load.tables.{_key_word(table)}]  # written otherwise than most"
        for name, value in settings.items():
            yield f"{name} = {_toml(value)}"


def _reason(name: str) -> str:
    return {
        "locale": "numbers and dates are written like 1.234,56 and 26.11.2026",
        "encoding": "the files are not UTF-8",
        "date_format": "as dates are written",
        "decimal": "as numbers are written",
    }.get(name, "as the files are written")


def _notes(rule: FoundRule) -> Iterator[str]:
    for table, one in rule.examined.items():
        if one.problem:
            yield f"{table} cannot be read as it is: {one.problem}"
        for doubt in one.doubts[:_MOST_DOUBTS]:
            yield f"{table}: {in_config_words(doubt)}"
        if len(one.doubts) > _MOST_DOUBTS:
            yield f"{table}: {len(one.doubts) - _MOST_DOUBTS} more such columns: `pushengine plan` shows them"
    for table, files in rule.named.files.items():
        yield from _of_sizes(table, files)
    folded: dict[str, str] = {}
    for table in rule.named.files:
        other = folded.setdefault(table.casefold(), table)
        if other != table:
            yield f"{other} and {table} are one table to the platform: rename the files of one of them"


def _of_sizes(table: str, files: Sequence[NamedFile]) -> Iterator[str]:
    """Yield a doubt about the mode if the newest generation is much smaller than the one before."""
    sizes: dict[Any, int] = {}
    for file in files:
        sizes[file.date] = sizes.get(file.date, 0) + file.size
    if len(sizes) > 1 and None not in sizes:
        newest, before = list(sizes.values())[:2]
        if newest < before * _MUCH_SMALLER:
            yield (
                f"{table}: the newest files ({format_bytes(newest)}) are much smaller than those before ({format_bytes(before)}):"
                ' if they hold changes only, write mode = "upsert" and keys'
            )


def _toml(value: Any) -> str:
    """Return a value as TOML; `$` is doubled, because `${...}` would be expanded."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value.replace("$", "$$"), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _key_word(name: str) -> str:
    return (
        name
        if re.fullmatch(r"[A-Za-z0-9_-]+", name)
        else json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
    )


def _comment(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)
