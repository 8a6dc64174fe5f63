"""Which settings hold and where each came from, in a form that may be shown: `pushengine config show`."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pushengine.config.csv_settings import CSV_SETTINGS, CsvSettings, preset_settings
from pushengine.config.expansion import SECRET_KEYS, redacted
from pushengine.config.load import AuthSection, Flags, given_variables
from pushengine.config.loads.models import LoadKeys
from pushengine.config.loads.precedence import Merged, values_of
from pushengine.config.loads.reading import LoadsReading
from pushengine.config.loads.targets import DEFAULT
from pushengine.config.settings import PUSH_SETTINGS
from pushengine.redaction import MASKED, mask

BUILT_IN = "built-in"
_BUILT_IN: Mapping[str, Any] = {
    "target": DEFAULT,
    "mode": "replace",
    "keys": [],
    "timezone": "UTC",
    "pick": "newest",
    "cleanup": "leave",
    "changed_files": "refuse",
    "same_content": "skip",
    "priority": 0,
    "retries": 0,
    "tags": [],
}
_FLAGS = {"url": "--url", "pool_id": "--pool", "connection_id": "--connection"}


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting that holds.

    Attributes:
        key: Its key: `mode`, `columns.MATNR`.
        value: Its value as JSON has it, with secrets masked; None if it is unset.
        origin: Where it came from: `built-in`, `[defaults]`, `[[load]] sap`, `environment PUSHENGINE_URL`, `flag --url`.
    """

    key: str
    value: Any
    origin: str


def settings_of_process(
    reading: LoadsReading, flags: Flags, environ: Mapping[str, str] | None = None
) -> dict[str, list[Setting]]:
    """Return the settings besides those of loads, by the name of their table in the file."""
    variables = given_variables(environ)
    shown = reading.read.expansion.shown
    found = {
        "connection": list(_connection(_table(shown, "connection"), flags, variables)),
        "auth": list(_auth(_table(shown, "auth"), variables)),
    }
    config = reading.config
    engine = config.engine.model_dump(mode="json")
    csv = engine.pop("csv")
    found["engine"] = [_from_file("engine", key, value, shown) for key, value in engine.items()]
    found["csv"] = [_from_file("csv", key, value, shown) for key, value in csv.items()]
    found["log"] = [_from_file("log", key, value, shown) for key, value in config.log.model_dump().items()]
    if format_ := flags.log_format or variables.get("PUSHENGINE_LOG"):
        origin = "flag --log-format" if flags.log_format else "environment PUSHENGINE_LOG"
        found["log"] = [Setting("format", format_, origin), *found["log"][1:]]
    state = _table(shown, "state")
    is_of_file = state.get("dir") and ("load" in shown or "PUSHENGINE_STATE_DIR" not in variables)
    origin = "[state]" if is_of_file else BUILT_IN
    if not is_of_file and "PUSHENGINE_STATE_DIR" in variables:
        origin = "environment PUSHENGINE_STATE_DIR"
    found["state"] = [Setting("dir", str(config.state_dir), origin)]
    for name in reading.loads.targets:
        if name != DEFAULT:
            section = _table(_table(shown, "targets"), name)
            found[f"targets.{name}"] = [
                Setting(key, _masked(key, value), f"[targets.{name}]") for key, value in section.items()
            ]
    return found


def settings_of_load(reading: LoadsReading, rule: str, table: str | None) -> list[Setting]:
    """Return the settings of a table of a rule, whatever it is; None as the table: of the tables without settings of their own."""
    origins = reading.origins[rule]
    by_fold = {name.casefold(): name for name in origins}
    merged = origins[by_fold.get((table or "").casefold(), "")]
    return [*_of_rule(reading, rule), *_own(reading, merged), *_of_push(reading, merged)]


def _of_rule(reading: LoadsReading, rule: str) -> Iterator[Setting]:
    sections = reading.read.expansion.shown.get("load", ())
    section: Mapping[str, Any] = next((one for one in sections if one.get("name") == rule), {})
    for name in ("source", "table"):
        if name in section:
            yield Setting(name, _json(section[name]), f"[[load]] {rule}")


def _own(reading: LoadsReading, merged: Merged) -> Iterator[Setting]:
    for name in LoadKeys.model_fields:
        given = [(key, one) for key, one in merged.items() if key[0] == name]
        for key, one in given:
            yield Setting(".".join(key), _masked(name, _json(one.shown)), one.origin)
        if given:
            continue
        value, origin = _BUILT_IN.get(name), BUILT_IN
        if name == "connection_id":
            target = reading.loads.targets.get(values_of(merged).get("target", DEFAULT))
            if target is not None and target.connection_id:
                value, origin = target.connection_id, f"target {target.name}"
        yield Setting(name, value, origin)


def _of_push(reading: LoadsReading, merged: Merged) -> Iterator[Setting]:
    engine = reading.config.engine
    given = {key[0]: one for key, one in merged.items() if len(key) == 1 and key[0] in PUSH_SETTINGS}
    effective = engine.with_overrides({name: one.value for name, one in given.items()})
    filled = effective.csv.filled()
    shown = reading.read.expansion.shown
    for name in PUSH_SETTINGS:
        if name in given:
            yield Setting(name, _json(given[name].shown), given[name].origin)
            continue
        is_csv = name in CSV_SETTINGS
        table = "csv" if is_csv else "engine"
        value = getattr(effective.csv if is_csv else effective, name)
        preset = getattr(filled, name) if is_csv else None
        if is_csv and value in (None, ()) and preset not in (None, ()):
            yield Setting(name, _json(preset), _preset_of(effective.csv, name))
        else:
            yield _from_file(table, name, _json(value), shown)


def _preset_of(csv: CsvSettings, name: str) -> str:
    """Return the preset that gives a setting its value: `locale = "de"`."""
    is_of_locale = name in preset_settings(csv.locale)
    return f'locale = "{csv.locale}"' if is_of_locale else f'dialect = "{csv.dialect}"'


def _table(values: Any, name: str) -> Mapping[str, Any]:
    found = values.get(name) if isinstance(values, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _from_file(table: str, key: str, value: Any, shown: Mapping[str, Any]) -> Setting:
    section = _table(shown, table)
    if key in section:
        return Setting(key, _masked(key, _json(section[key])), f"[{table}]")
    return Setting(key, _masked(key, value), BUILT_IN)


def _connection(section: Mapping[str, Any], flags: Flags, variables: Mapping[str, str]) -> Iterator[Setting]:
    for key, flag in _FLAGS.items():
        variable = f"PUSHENGINE_{key.upper()}"
        value, origin = section.get(key), "[connection]"
        if getattr(flags, key):
            value, origin = getattr(flags, key), f"flag {flag}"
        elif variable in variables:
            value, origin = variables[variable], f"environment {variable}"
        yield Setting(key, _masked(key, value), origin if value else BUILT_IN)


def _auth(section: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Setting]:
    for key, field in AuthSection.model_fields.items():
        variable = f"PUSHENGINE_{key.upper()}"
        value, origin = section.get(key), "[auth]"
        if variable in variables and key != "method":
            value, origin = variables[variable], f"environment {variable}"
        elif value is None:
            value, origin = field.default, BUILT_IN
        yield Setting(key, _masked(key, value), origin)


def _masked(key: str, value: Any) -> Any:
    if key in SECRET_KEYS:
        return None if value in (None, "") else MASKED
    return mask(redacted(value)) if isinstance(value, str) else value


def _json(value: Any) -> Any:
    if isinstance(value, str):
        return mask(redacted(value))
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _json(one) for key, one in value.items()}
    return str(value) if isinstance(value, Path | dt.date | dt.time) else value
