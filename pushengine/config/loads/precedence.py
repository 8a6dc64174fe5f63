"""Which value of a setting holds if several places of a config file give one, and where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pushengine.config.csv_settings import preset_settings
from pushengine.config.loads.models import MERGED_KEYS
from pushengine.config.problems import KeyPath

_POLICIES = ("new_columns", "missing_columns", "types")


@dataclasses.dataclass(frozen=True, slots=True)
class Level:
    """One place that gives settings of a load: `[defaults]`, `[[load]]` or `[load.tables.X]`.

    Attributes:
        path: Where it is in the file.
        origin: Its name for people: `[load.tables.VBAP]`.
        values: The settings that it gives.
        shown: The same settings as they may be shown.
    """

    path: KeyPath
    origin: str
    values: Mapping[str, Any]
    shown: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """The value of a setting, and where it came from."""

    value: Any
    shown: Any
    origin: str
    path: KeyPath


Merged = dict[tuple[str, ...], Given]
"""Settings by key. A setting whose value is a table is one for each of its keys: `("columns", "MATNR")`."""


def merged(levels: Iterable[Level]) -> Merged:
    """Return the settings that hold: a later level wins. Scalars and lists replace, tables merge by key.

    A preset (`locale`, `dialect`, `drift`) replaces what earlier levels say about the single settings that it stands for.
    """
    found: Merged = {}
    for level in levels:
        for name in _replaced_by_presets(level.values):
            found.pop((name,), None)
        for name, value in level.values.items():
            shown = level.shown.get(name)
            path = (*level.path, name)
            if name in MERGED_KEYS:
                for key, one in value.items():
                    seen = shown.get(key) if isinstance(shown, dict) else None
                    found[name, key] = Given(one, seen, level.origin, (*path, key))
            else:
                found[name,] = Given(value, shown, level.origin, path)
    return found


def _replaced_by_presets(values: Mapping[str, Any]) -> set[str]:
    names = {name for key in ("dialect", "locale") for name in preset_settings(values.get(key))}
    return names | set(_POLICIES if "drift" in values else ())


def values_of(settings: Merged) -> dict[str, Any]:
    """Return the settings by name, with those that are tables put together again."""
    values: dict[str, Any] = {}
    for key, given in settings.items():
        if len(key) == 1:
            values[key[0]] = given.value
        else:
            values.setdefault(key[0], {})[key[1]] = given.value
    return values
