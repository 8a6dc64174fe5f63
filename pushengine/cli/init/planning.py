"""Finds the settings with which a file can be read, with the code that plans a push: it goes on as the planner's hints say."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pushengine.config.csv_settings import CSV_SETTINGS, CsvSettings, preset_settings
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, PushEngineError, SourceError
from pushengine.model import Plan
from pushengine.push.plan import plan_source

_SAMPLE_BYTES = 256 * 1024
_MOST_STEPS = 8
_BOOLEANS = tuple(name for name, field in CsvSettings.model_fields.items() if "bool" in str(field.annotation))
_LISTS = ("names", "null", "date_format")
_FLAG = re.compile(r"--(no-)?([a-z][a-z-]*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """What the sample of a file shows.

    Attributes:
        settings: The settings of text files that it needs.
        types: Column -> type.
        first_rows: The first rows as they will land.
        doubts: Columns whose type or reading is doubtful, each in a line.
        problem: Why it cannot be read; empty if it can.
    """

    settings: Mapping[str, Any]
    types: Mapping[str, str]
    first_rows: Sequence[Mapping[str, Any]] = ()
    doubts: Sequence[str] = ()
    problem: str = ""


async def examine(path: Path) -> Examined:
    """Find the settings with which a file is read best. Reads only its start."""
    settings: dict[str, Any] = {}
    guesses: list[str] = []
    plan: Plan | None = None
    for _ in range(_MOST_STEPS):
        try:
            plan = await _plan(path, settings)
        except SourceError as error:
            ways = list(_ways(error.hint))
            if not ways or _added(settings, ways[0]) == settings:
                return Examined(settings, {}, problem=error.message)
            if len(ways) > 1:
                guesses.append(f"{error.message}; the first of these ways was taken; {error.hint}")
            settings = _added(settings, ways[0])
            continue
        except PushEngineError as error:
            return Examined(settings, {}, problem=error.message)
        more = settings
        for note in plan.notes:
            ways = list(_ways(note))
            if len(ways) == 1:  # with two, a person has to choose
                more = _added(more, ways[0])
        if more == settings:
            break
        settings = more
    if plan is None:
        return Examined(settings, {}, problem="no settings were found with which it can be read")
    short = await _with_locale(path, settings, plan)
    doubts = [*guesses, *(one for one in plan.notes if any(_ways(one)))]
    return Examined(short, _types(plan), plan.first_rows, doubts)


async def is_read_alike(path: Path, settings: Mapping[str, Any], one: Examined) -> bool:
    """Return whether a file is read with these settings as it is with those that were found for it."""
    try:
        plan = await _plan(path, settings)
    except PushEngineError:
        return False
    return _types(plan) == one.types and list(plan.first_rows) == list(one.first_rows)


async def _with_locale(path: Path, settings: dict[str, Any], plan: Plan) -> dict[str, Any]:
    """Return the settings with a preset in place of those that it stands for, if every column is read alike."""
    covered = set(preset_settings("de")) & settings.keys()
    if settings.get("decimal") != "," and settings.get("date_format") != ["dd.mm.yyyy"]:
        return settings
    short = {name: one for name, one in settings.items() if name not in covered} | {"locale": "de"}
    return short if await is_read_alike(path, short, Examined(settings, _types(plan), plan.first_rows)) else settings


async def _plan(path: Path, settings: Mapping[str, Any]) -> Plan:
    engine = EngineSettings(sample_bytes=_SAMPLE_BYTES)
    return await plan_source([str(path)], table="T", settings=engine.with_overrides(settings))


def _types(plan: Plan) -> dict[str, str]:
    return {column.name: column.type for column in plan.columns}


def _added(settings: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with those of one more way; formats and words are added, another value does not replace one that is set."""
    result = dict(settings)
    for name, value in found.items():
        if name in ("null", "date_format"):
            result[name] = [*result.get(name, []), *(one for one in value if one not in result.get(name, []))]
        else:
            result.setdefault(name, value)
    try:
        EngineSettings().with_overrides(result)
    except ConfigError:
        return dict(settings)
    return result


def _ways(text: str) -> Iterator[dict[str, Any]]:
    """Yield the settings that the flags in a hint or a note stand for, one for each way to go on."""
    for part in re.split(r"; | or (?=--)", text):
        at = part.find("--")
        if at < 0:
            continue
        found = _settings_of(part[at:])
        if found:
            yield found


def _settings_of(flags: str) -> dict[str, Any]:
    """Return the settings that flags stand for; none if one of them is no setting of text files."""
    try:
        words = shlex.split(flags)
    except ValueError:
        return {}
    found: dict[str, Any] = {}
    while words:
        match = _FLAG.fullmatch(words.pop(0))
        name = match[2].replace("-", "_") if match else ""
        if match is None or name not in CSV_SETTINGS:
            return {}
        if name in _BOOLEANS:
            found[name] = not match[1]
        elif not words:
            return {}
        elif name in _LISTS:
            value = words.pop(0)
            found[name] = [value] if name == "date_format" else value.split(",")
        else:
            value = words.pop(0)
            found[name] = int(value) if value.isdecimal() else value
    return found


def in_config_words(text: str) -> str:
    """Return a note of the planner with settings of the config file in place of flags: `D looks like dd.mm.yyyy: date_format = ...`."""
    for way in _ways(text):
        for name, value in way.items():
            flag = name.replace("_", "-")
            words = rf"--(?:no-)?{flag}\b" if name in _BOOLEANS else rf"--{flag} (?:'[^']*'|\S+)"
            found = re.search(words, text)
            text = text.replace(found[0], f"{name} = {_word(value)}", 1) if found else text
    return text


def _word(value: Any) -> str:
    return json.dumps(value[0] if isinstance(value, list) and len(value) == 1 else value, ensure_ascii=False)
