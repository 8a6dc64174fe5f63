"""The rules of a config file: precedence applied, and what they say checked for each load."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

from pushengine.config.columns_file import read_types
from pushengine.config.load import Config
from pushengine.config.loads.checks import TableReader
from pushengine.config.loads.models import DAEMON_KEYS, RuleSection, TableSection
from pushengine.config.loads.precedence import Level, Merged, merged, values_of
from pushengine.config.loads.resolved import LoadSettings, Rule, Target
from pushengine.config.options import LoadOptions, PushOptions
from pushengine.config.patterns import SourcePattern
from pushengine.config.problems import KeyPath, Problem, did_you_mean
from pushengine.config.settings import PUSH_SETTINGS
from pushengine.errors import ConfigError
from pushengine.runtime.files import scheme_of
from pushengine.state.file_errors import expanded_setting
from pushengine.text import shown_name

Origins: TypeAlias = Mapping[str, Merged]
"""What holds for the tables of a rule, by table; "" stands for all tables that have no settings of their own."""
_OF_RULE = ("name", "source", "table", "tables", "parallel")
_RENAMED = {"columns": "column_types", "changed_files": "loads_changed_files", "same_content": "loads_same_content"}
_PUSH_OPTIONS = ("rename", "select", "exclude", "allow_empty", *PUSH_SETTINGS)
_PLAIN = (
    "target",
    "connection_id",
    "mode",
    "format",
    "order_by",
    "pick",
    "max_age",
    "deadline",
    "timezone",
    "cleanup",
    "control",
)
_NUMBERS = ("priority", "retries")


@dataclasses.dataclass(frozen=True, slots=True)
class ReadRule:
    """A rule, where it stands, and where its settings came from."""

    rule: Rule
    path: KeyPath
    origins: Origins


def read_rules(reader: TableReader, config: Config, targets: Mapping[str, Target], defaults: Level) -> list[ReadRule]:
    """Return the rules of the file, as far as they can be understood."""
    _check_target(reader, defaults, targets, "")
    book: list[ReadRule] = []
    names: dict[str, str] = {}
    for number in reader.listed("load"):
        read = _RuleReader(reader, config, targets, number).read(defaults, names)
        if read is not None:
            book.append(read)
    return book


class _RuleReader:
    """Reads one rule."""

    def __init__(self, reader: TableReader, config: Config, targets: Mapping[str, Target], number: int) -> None:
        self._reader = reader
        self._config = config
        self._targets = targets
        self._path: KeyPath = ("load", number)
        self._label = reader.rule_at(self._path)

    def read(self, defaults: Level, names: dict[str, str]) -> ReadRule | None:
        """Return the rule; None if it lacks a name or sources."""
        reader, path, label = self._reader, self._path, self._label
        own = reader.level(RuleSection, path, f"[[load]] {label}", label)
        _check_target(reader, own, self._targets, label)
        name, sources = own.values.get("name"), own.values.get("source")
        if name is not None and names.setdefault(name.casefold(), name) is not None:
            self._check_name(name, names)
        if name is None or sources is None:
            return None
        table = own.values.get("table")
        levels = [defaults, _without(own, _OF_RULE)]
        overrides = self._overrides(table)
        origins = {"": merged(levels)} | {one: merged([*levels, level]) for one, level in overrides.items()}
        for one, found in origins.items():
            is_open = not one and bool(overrides) and table is None  # the tables that are loaded may all have their own
            self._check(found, f"{name}.{one or table}" if one or table else name, is_open=is_open)
        absolute = tuple(filter(None, (self._source(text, table) for text in sources)))
        spelling = {one.casefold(): one for one in overrides}
        settings_for = _settings_for(name, origins, spelling, self._folder)
        rule = Rule(
            name=name,
            sources=absolute,
            table=table,
            overrides=tuple(overrides),
            settings_for=settings_for,
            tags=tuple(values_of(origins[""]).get("tags") or ()),
        )
        return ReadRule(rule, path, origins)

    def _check_name(self, name: str, names: dict[str, str]) -> None:
        numbers = [number for number in self._reader.listed("load") if self._is_named(number, name)]
        if len(numbers) > 1 and self._path[1] != numbers[0]:
            first = names[name.casefold()]
            self._add(("name",), f"another load has the name {first}: names must differ, also without letter case")

    def _is_named(self, number: int, name: str) -> bool:
        found, _ = self._reader.found(("load", number, "name"))
        return isinstance(found, str) and found.casefold() == name.casefold()

    @property
    def _folder(self) -> Path:
        return self._reader.read.folder

    def _add(self, path: KeyPath, text: str, load: str = "") -> None:
        self._reader.problems.append(Problem((*self._path, *path), text, load or self._label))

    def _overrides(self, table: str | None) -> dict[str, Level]:
        found: dict[str, Level] = {}
        spelled: dict[str, str] = {}
        for name in self._reader.named((*self._path, "tables")):
            label = f"{self._label}.{name}"
            path = (*self._path, "tables", name)
            level = self._reader.level(TableSection, path, f"[load.tables.{shown_name(name)}]", label)
            _check_target(self._reader, level, self._targets, label)
            other = spelled.setdefault(name.casefold(), name)
            if other != name:
                self._add(
                    ("tables", name), f"{other} and {name} are the same table: names are equal without letter case"
                )
            if table is not None and table.casefold() != name.casefold():
                self._add(("tables", name), f"this load is of table {table} only", label)
            found[name] = level
        return found

    def _source(self, text: str, table: str | None) -> str | None:
        if scheme_of(text):
            self._add(("source",), "sources that are no paths of this machine need a later version")
            return None
        folder = _escaped(os.path.abspath(self._folder))  # noqa: PTH100 - links stay as they are named
        try:
            path = os.path.join(folder, expanded_setting(text, key="source"))  # noqa: PTH118 - a slash at the end counts
            placeholders = SourcePattern.parse(path).placeholders
        except (ConfigError, ValueError) as error:
            self._add(("source",), getattr(error, "message", str(error)).removeprefix("source: "))
            return None
        if "table" not in placeholders and table is None:
            self._add(("source",), "it needs {table}, or the load needs table: which table are the files for?")
        elif "table" in placeholders and table is not None:
            self._add(("table",), "{table} in source names the tables already: leave one of them out")
        return path

    def _check(self, found: Merged, load: str, *, is_open: bool) -> None:
        """Check what holds for a load: settings that depend on each other, of whatever places in the file."""
        values = values_of(found)
        mode, keys = values.get("mode", "replace"), values.get("keys") or []
        needs_keys = mode in ("upsert", "delete")
        if needs_keys and not keys and not is_open:
            self._report(found, ("mode",), f'mode {mode} needs keys: keys = ["COLUMN"]', load)
        if keys and not needs_keys:
            self._report(
                found, ("keys",), f"mode {mode} takes no keys: leave them out (keys = []), or use upsert", load
            )
        if "cursor" in (self._reader.found(self._path)[0] or {}) and mode == "replace":
            self._add(("cursor",), "a cursor with mode replace would leave only the newest rows in the table", load)
        try:
            SourcePattern.parse(values.get("control") or "x")
        except ValueError as error:
            self._report(found, ("control",), str(error), load)
        options = {name: value for name, value in values.items() if name in PUSH_SETTINGS}
        try:
            self._config.engine.with_overrides(options)
        except ConfigError as error:
            key = (error.key or "",)
            self._report(found, key if key in found else (), error.message.removeprefix(f"{error.key}: "), load)
        try:
            options_of(values, self._folder)
        except ConfigError as error:
            self._report(found, (error.key or "",), error.message, load)

    def _report(self, found: Merged, key: tuple[str, ...], text: str, load: str) -> None:
        given = found.get(key)
        path = given.path if given is not None else (*self._path, *key)
        self._reader.problems.append(Problem(path, text, load))


def _escaped(folder: str) -> str:
    """Return a folder as a pattern has it, whatever characters it has."""
    return re.sub(r"[*?\[]", r"[\g<0>]", folder).replace("{", "{{").replace("}", "}}")


def _check_target(reader: TableReader, level: Level, targets: Mapping[str, Target], load: str) -> None:
    name = level.values.get("target")
    if name is not None and name not in targets:
        known = f"; known are {', '.join(map(shown_name, targets))}" if len(targets) > 1 else ""
        text = f"no target {shown_name(name)}{did_you_mean(name, targets) or known}"
        reader.problems.append(Problem((*level.path, "target"), text, load))


def _without(level: Level, names: tuple[str, ...]) -> Level:
    return dataclasses.replace(level, values={name: one for name, one in level.values.items() if name not in names})


def _settings_for(
    rule: str, origins: Origins, spelling: Mapping[str, str], folder: Path
) -> Callable[[str], LoadSettings]:
    """Return the function that returns the settings of a table, which may be spelled in other letter case than the file spells it."""

    @functools.cache
    def values_for(name: str) -> dict[str, Any]:
        return settings_values(values_of(origins[name]), folder)

    def settings_for(table: str) -> LoadSettings:
        name = table if table in origins else spelling.get(table.casefold(), "")
        return LoadSettings(rule=rule, table=table, **values_for(name))

    return settings_for


def settings_values(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the attributes of `LoadSettings` that settings of the file stand for.

    Raises:
        ConfigError: A file that they name cannot be read.
    """
    found: dict[str, Any] = {name: values[name] for name in (*_PLAIN, *_NUMBERS) if values.get(name) is not None}
    found["keys"] = tuple(values.get("keys") or ())
    found["tags"] = tuple(values.get("tags") or ())
    found["options"] = options_of(values, folder)
    found["loads_changed_files"] = values.get("changed_files") == "load"
    found["loads_same_content"] = values.get("same_content") == "load"
    found["daemon_keys"] = tuple(name for name in DAEMON_KEYS if values.get(name) not in (None, False))
    if values.get("cleanup_dir"):
        found["cleanup_dir"] = _path(values["cleanup_dir"], folder, "cleanup_dir")
    if values.get("control"):
        found["control"] = values["control"]
        if "/" in found["control"]:  # otherwise, the control files are beside the files
            place = _escaped(os.path.abspath(folder))  # noqa: PTH100 - the folder may not exist
            found["control"] = os.path.join(place, expanded_setting(found["control"], key="control"))  # noqa: PTH118
    return found


def options_of(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the keyword arguments of `PushEngine.push` that settings of the file stand for.

    Raises:
        ConfigError: A file that they name cannot be read.
    """
    options = {name: values[name] for name in _PUSH_OPTIONS if values.get(name) is not None}
    if values.get("columns"):
        options["column_types"] = dict(values["columns"])
    if values.get("columns_file"):
        options["default_types"] = _types_in(_path(values["columns_file"], folder, "columns_file"))
    if options.get("rejects"):
        options["rejects"] = _path(options["rejects"], folder, "rejects")
    LoadOptions.split(cast("PushOptions", options))
    return options


def _types_in(path: Path) -> dict[str, str]:
    try:
        types = read_types(path)
        LoadOptions.split({"default_types": types})
    except ConfigError as error:
        raise ConfigError(error.message, key="columns_file", hint=error.hint) from error
    return types


def _path(text: str, folder: Path, key: str) -> Path:
    return Path(os.path.abspath(folder)) / expanded_setting(text, key=key)  # noqa: PTH100 - the folder may not exist


def check_places(
    reader: TableReader,
    book: list[ReadRule],
    targets: Mapping[str, Target],
    config: Config,
    *,
    wants_credentials: bool,
) -> None:
    """Check where loads go: the target `default` must have an address if one uses it, and no two rules may be of one table."""
    claims: dict[tuple[str, ...], str] = {}
    is_used = ""
    for one in book:
        tables = [one.rule.table] if one.rule.table is not None else one.rule.overrides
        for name in ("", *one.rule.overrides):
            if values_of(one.origins[name]).get("target", "default") == "default":
                is_used = is_used or one.rule.name
        if one.rule.table is None:
            continue
        for table in tables:
            values = values_of(one.origins.get(table, one.origins[""]))
            target = targets.get(values.get("target", "default"))
            if target is None:
                continue
            connection = values.get("connection_id", target.connection_id) or ""
            place = (target.url, target.pool_id, connection, table.casefold())
            other = claims.setdefault(place, one.rule.name)
            if other != one.rule.name:
                text = f"load {other} is of table {table}, too: a table belongs to one load"
                reader.problems.append(Problem((*one.path, "table"), text, one.rule.name))
    if is_used and wants_credentials:
        _require_default(reader, config, is_used)


def _require_default(reader: TableReader, config: Config, load: str) -> None:
    for key, require in (
        (("connection", "url"), config.require_url),
        (("connection", "pool_id"), config.require_pool_id),
        (("auth",), config.require_credentials),
    ):
        if any(one.path[: len(key)] == key or one.path[0] == "auth" == key[0] for one in reader.problems):
            continue
        try:
            require()
        except ConfigError as error:
            reader.problems.append(Problem(key, f"{error.message} for the target default: {error.hint}", load))
