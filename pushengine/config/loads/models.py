"""The tables of a config file that say what is loaded: `[targets.X]`, `[defaults]`, `[[load]]`, `[load.tables.X]` and `[[notify]]`.

A key of a load may stand in `[defaults]`, in `[[load]]` and in `[load.tables.X]`, unless it says which files a rule is about. Settings of a push
are among them; `EngineSettings` and `CsvSettings` check their values.
"""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from pushengine.config.csv_settings import CSV_SETTINGS, CsvSettings
from pushengine.config.load import AuthSection, ConfigFile, ConnectionSection, Section
from pushengine.config.loads.resolved import CleanUp, Pick
from pushengine.config.settings import PUSH_SETTINGS, EngineSettings
from pushengine.model import Mode
from pushengine.text import parse_duration, storable

DAEMON_KEYS = ("schedule", "watch", "settle", "batch", "missed")
"""Keys that are accepted, and have no effect without the daemon of a later version."""
LATER_KEYS = ("sql", "cursor", "lag", "full_every", "on_cursor_null", "cursor_is_unique")
"""Keys that a later version will know."""
MERGED_KEYS = ("columns", "rename")
"""Keys whose values are tables, which are merged by key."""
_MOST_SECONDS = 10**9
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_NAME = re.compile(r"[^\W_][\w-]*")
_CRON_FIELD = re.compile(r"[\w*/,?#-]+")
_CRON_WORD = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)")
_CRON_FIELDS = 5


def _seconds(value: Any) -> Any:
    seconds = parse_duration(value) if isinstance(value, str) else value
    if seconds is None or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise PydanticCustomError(
            "duration", "Input should be a duration such as 90s, 30m, 26h or 7d, or a number of seconds"
        )
    if not 0 <= seconds <= _MOST_SECONDS:
        raise PydanticCustomError("duration", "Input should be between 0 and {most} seconds", {"most": _MOST_SECONDS})
    return float(seconds)


def _time_of_day(value: Any) -> Any:
    if isinstance(value, dt.time) and value.tzinfo is None:
        return value
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise PydanticCustomError("time_of_day", 'Input should be a time of day such as "05:00"')
    return dt.time(int(found[1]), int(found[2]))


def _zone(value: Any) -> Any:
    if isinstance(value, zoneinfo.ZoneInfo):
        return value
    try:
        return zoneinfo.ZoneInfo(value) if isinstance(value, str) and value else None
    except (KeyError, ValueError, OSError):
        return None


def _known_zone(value: zoneinfo.ZoneInfo | None) -> zoneinfo.ZoneInfo:
    if value is None:
        raise PydanticCustomError(
            "timezone",
            'Input should be a time zone such as "Europe/Berlin" (a system without zones needs the package tzdata)',
        )
    return value


def _checked_text(value: str) -> str:
    if not value.strip() or storable(value) != value or "\0" in value:
        raise PydanticCustomError("text", "Input should be a text that is not empty")
    return value


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise PydanticCustomError("name", "Input should be a name of letters, digits, _ and -")
    return value


def _checked_schedule(value: str) -> str:
    fields = value.split()
    is_cron = len(fields) == _CRON_FIELDS and all(map(_CRON_FIELD.fullmatch, fields))
    if not is_cron and not _CRON_WORD.fullmatch(value.strip()):
        raise PydanticCustomError("schedule", 'Input should be five fields as of cron, such as "0 2 * * *"')
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_checked_text)]
Texts = Annotated[
    list[Text],
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^\s*[0-9.]+\s*[smhd]?\s*$"}, {"type": "number"}]}),
]
TimeOfDay = Annotated[
    dt.time, BeforeValidator(_time_of_day), WithJsonSchema({"type": "string", "pattern": "^[0-2]?[0-9]:[0-5][0-9]$"})
]
Zone = Annotated[
    Any, BeforeValidator(_zone), AfterValidator(_known_zone), WithJsonSchema({"type": "string", "minLength": 1})
]
Columns = dict[Text, Text]


class TargetSection(ConnectionSection, AuthSection):
    """A `[targets.X]` table: where loads go. `[connection]` and `[auth]` are the target `default`."""


class LoadKeys(Section):
    """The keys that `[defaults]`, `[[load]]` and `[load.tables.X]` share, besides the settings of a push."""

    target: Annotated[Text | None, Field(description="name of the target: [targets.NAME], or default")] = None
    connection_id: Annotated[Text | None, Field(description="data connection; unset: the one of the target")] = None
    mode: Annotated[Mode | None, Field(description="how the rows change the table; unset: replace")] = None
    keys: Annotated[list[Text] | None, Field(description="key columns, for upsert and delete")] = None
    format: Annotated[
        Literal["csv", "parquet", "arrow"] | None, Field(description="format of the files; unset: by their names")
    ] = None
    order_by: Annotated[
        Text | None, Field(description="of rows with equal keys, the platform keeps the highest in this column")
    ] = None
    columns: Annotated[
        Columns | None, Field(description='types by column name or pattern: { MATNR = "STRING(40)" }')
    ] = None
    columns_file: Annotated[
        Text | None, Field(description="file of column types, as `pushengine schema export` writes it")
    ] = None
    rename: Annotated[Columns | None, Field(description="column of the files = its name in the table")] = None
    select: Annotated[list[Text] | None, Field(description="the only columns to send")] = None
    exclude: Annotated[list[Text] | None, Field(description="columns to leave out")] = None
    allow_empty: Annotated[bool | None, Field(description="load an empty file; a replace then empties the table")] = (
        None
    )
    timezone: Annotated[Zone | None, Field(description="time zone of deadline and schedule; unset: UTC")] = None
    pick: Annotated[
        Pick | None, Field(description="which of several generations a replace loads; unset: newest; all: all of them")
    ] = None
    max_age: Annotated[
        Duration | None, Field(description='age above which the newest generation counts as missing: "26h"')
    ] = None
    deadline: Annotated[
        TimeOfDay | None, Field(description='time of day by which the load has to be done: "05:00"')
    ] = None
    cleanup: Annotated[
        CleanUp | None, Field(description="what happens to files that are loaded; unset: leave them")
    ] = None
    cleanup_dir: Annotated[
        Text | None, Field(description="folder for cleanup = move; unset: a folder loaded beside the files")
    ] = None
    control: Annotated[
        Text | None, Field(description='control files, with a number of rows or names of parts: "{table}_{date}.ctl"')
    ] = None
    changed_files: Annotated[
        Literal["refuse", "load"] | None,
        Field(description="append: a file that is known and has other content; unset: refuse"),
    ] = None
    same_content: Annotated[
        Literal["skip", "load"] | None,
        Field(description="a content that is loaded already, under another name; unset: skip"),
    ] = None
    priority: Annotated[
        int | None, Field(ge=-1000, le=1000, description="submits of a higher priority leave first; unset: 0")
    ] = None
    retries: Annotated[
        int | None, Field(ge=0, le=100, description="how often a load is tried again after a temporary failure")
    ] = None
    tags: Annotated[Texts | None, Field(description="words that `pushengine load --tag` selects by")] = None
    schedule: Annotated[
        Annotated[str, AfterValidator(_checked_schedule)] | None,
        Field(description='needs the daemon: when to load, as in cron: "0 2 * * *"'),
    ] = None
    watch: Annotated[bool | None, Field(description="needs the daemon: load files as they arrive")] = None
    settle: Annotated[
        Duration | None, Field(description="needs the daemon: how long a file must not change before it is loaded")
    ] = None
    batch: Annotated[
        Duration | None, Field(description="needs the daemon: time in which arrivals are gathered into one push")
    ] = None
    missed: Annotated[
        Text | None, Field(description="needs the daemon: what to do about a schedule that was missed")
    ] = None


def _push_settings() -> dict[str, Any]:
    """Return the settings of a push as fields of a model. Their values are checked by the models that they come from."""
    schemas = {**EngineSettings.model_json_schema()["properties"], **CsvSettings.model_json_schema()["properties"]}
    texts: dict[str, list[dict[str, Any]]] = {
        "patience": [{"type": "string"}],
        "max_rejects": [{"type": "string"}],
        **{name: [{"type": "string"}] for name in ("names", "date_format", "null")},
    }
    fields: dict[str, Any] = {}
    for name in PUSH_SETTINGS:
        model = CsvSettings if name in CSV_SETTINGS else EngineSettings
        schema = {key: value for key, value in schemas[name].items() if key not in ("default", "title", "description")}
        if name in texts:
            schema = {"anyOf": [*schema.pop("anyOf", [schema]), *texts[name]]}
        description = model.model_fields[name].description
        fields[name] = (Annotated[Any, WithJsonSchema(schema)], Field(default=None, description=description))
    return fields


PushKeys: Any = create_model("PushKeys", __base__=LoadKeys, **_push_settings())


class TableSection(PushKeys):  # type: ignore[misc]
    """A `[load.tables.X]` table: what holds for one table of a rule only."""


class DefaultsSection(PushKeys):  # type: ignore[misc]
    """The `[defaults]` table: what holds for all loads."""

    parallel: Annotated[
        int | None, Field(ge=1, le=1000, description="how many loads read or upload at once; unset: 8")
    ] = None


class RuleSection(PushKeys):  # type: ignore[misc]
    """A `[[load]]` table: one rule, a load for each table found."""

    name: Annotated[
        Annotated[str, AfterValidator(_checked_name)], Field(description="name of the rule, unique in the file")
    ]
    source: Annotated[
        Texts,
        Field(
            min_length=1, description="files: paths with {table}, {date:%Y%m%d}, {seq}, {part} and *; one or several"
        ),
    ]
    table: Annotated[
        Text | None, Field(description="the table of all files, if {table} in source does not name it")
    ] = None
    tables: Annotated[
        dict[Text, TableSection] | None, Field(description="exceptions for single tables: [load.tables.X]")
    ] = None


class NotifySection(Section):
    """A `[[notify]]` table: needs the daemon."""

    webhook: Annotated[Text | None, Field(description="needs the daemon: address that gets the messages")] = None
    on: Annotated[
        list[Literal["failed", "missing", "late", "blocked", "rejects", "recovered", "done"]] | None,
        Field(description="needs the daemon: what is reported"),
    ] = None
    repeat_interval: Annotated[
        Duration | None, Field(description="needs the daemon: time until the same thing is reported again")
    ] = None


class LoadsFile(ConfigFile):
    """A whole config file, for the JSON schema."""

    targets: Annotated[dict[str, TargetSection], Field(default={}, description="where loads go, besides [connection]")]
    defaults: Annotated[DefaultsSection | None, Field(description="what holds for all loads")] = None
    load: Annotated[list[RuleSection], Field(default=[], description="the rules: what is loaded")]
    notify: Annotated[list[NotifySection], Field(default=[], description="needs the daemon: who is notified")]
