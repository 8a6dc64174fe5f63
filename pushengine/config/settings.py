"""The engine settings, each with its unit, bounds and default.

Memory
    `peak memory <= 150 MB + max_memory_bytes`. The interpreter, the libraries and the sample take 150 MB. The rest is accounted for: a
    chunk reserves `fitting_chunk_bytes * RESERVE_FACTOR` bytes before its rows are read, and only its payload's size once it is encoded.
    A chunk has `chunk_bytes` of rows, or less if memory is short, so that one chunk can be read while each encoder thread works on
    another. If a single row needs more than the whole budget, its chunk is processed alone. Parquet that is passed through stays on disk,
    except for the buffers of its uploads. Other code in the process adds to this: pyarrow imports pandas if it is installed, which takes
    40 MB.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pushengine.config.csv_settings import CSV_SETTINGS, CsvSettings, Dialect, Locale, Repair
from pushengine.config.problems import problems_of
from pushengine.errors import ConfigError
from pushengine.model import Drift, DuplicateKeys, LongerStrings, MissingColumns, NewColumns, TypeChanges
from pushengine.schema.rules import MAX_LENGTH
from pushengine.text import parse_duration

MIB = 1024 * 1024
_MOST_TIME, _MOST = 10**9, 10**18
"""Largest values of settings: sums of times stay within the calendar, and SQLite and NumPy can store the others."""
RESERVE_FACTOR = 10.0
"""Bytes reserved for each byte of rows. Four to five of them are in use at the same time: the rows as read, parsed, converted and encoded.
The rest is memory that the allocator, the Parquet writer and the connections keep for reuse. The factor is chosen so that the memory
formula of this module holds (`benchmarks/memory.py`).
"""
FREE_SHARE = 8
"""A push that holds memory leaves 1/8 of it to pushes that hold none: a small one never waits for the uploads of a large one."""


def _usable_cores() -> int:
    """Return the number of cores that this process may use, from 2 to 8.

    At least 2, because a thread also spends time waiting; at most 8, because memory grows with the number of threads.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores, 2), 8)


class PushSettings(TypedDict, total=False):
    """The settings that a single push may override; `EngineSettings` and `CsvSettings` describe them."""

    drift: Drift
    new_columns: NewColumns | None
    missing_columns: MissingColumns | None
    types: TypeChanges | None
    verified_new_columns: bool
    on_longer_string: LongerStrings
    min_string_length: int
    string_headroom: float
    duplicate_keys: DuplicateKeys
    min_rows: int
    max_drop: float | None
    max_rejects: int | float | str
    patience: float | str
    rejects: Path | str | None
    dialect: Dialect | None
    delimiter: str | None
    encoding: str | None
    quote: str | None
    escape: str | None
    skip_lines: int | None
    skip_footer: int | None
    comment: str | None
    header: bool | None
    names: Sequence[str]
    trim: bool | None
    nameless: Repair | None
    duplicate_names: Repair | None
    empty_columns: Repair | None
    trailing_delimiter: Repair | None
    locale: Locale | None
    decimal: Literal[".", ","] | None
    thousands: str | None
    date_format: str | Sequence[str]
    null: str | Sequence[str]
    zero_date_null: bool | None
    subsecond: Literal["refuse", "cut"] | None


PUSH_SETTINGS = tuple(PushSettings.__annotations__)
"""Names of the settings that a single push may override."""


class EngineSettings(BaseModel):
    """Settings of an engine. The defaults suit a team's nightly load; `config.example.toml` describes each in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_path: Annotated[Literal["data-ingestion", "integration"], Field(description="API base path")] = (
        "data-ingestion"
    )
    ca_file: Annotated[Path | None, Field(description="PEM file of a private CA, added to the system's")] = None
    max_memory_bytes: Annotated[int, Field(ge=32 * MIB, description="rows and payloads in flight, bytes")] = 1024 * MIB
    chunk_bytes: Annotated[
        int, Field(ge=64 * 1024, le=256 * MIB, description="bytes of rows in one chunk, before encoding")
    ] = 16 * MIB
    min_uploads: Annotated[int, Field(ge=1, le=32, description="fewest concurrent chunk uploads of one push")] = 1
    max_uploads: Annotated[
        int, Field(ge=1, le=32, validate_default=True, description="most concurrent chunk uploads of one push")
    ] = 16
    encoder_threads: Annotated[int, Field(ge=1, le=64, description="threads that parse and encode chunks")] = Field(
        default_factory=_usable_cores
    )
    file_type: Annotated[Literal["PARQUET", "CSV"], Field(description="encoding of chunks")] = "PARQUET"
    compression: Annotated[
        Literal["SNAPPY", "ZSTD", "NONE"], Field(description="Parquet codec; SNAPPY is known to work on the platform")
    ] = "SNAPPY"
    timestamps: Annotated[
        Literal["INT96", "INT64"], Field(description="Parquet timestamps; INT96 is known to work on the platform")
    ] = "INT96"
    parquet_as_it_is: Annotated[
        bool, Field(description="send suitable Parquet files unchanged, without decoding and re-encoding")
    ] = True
    sample_bytes: Annotated[
        int, Field(ge=64 * 1024, description="how much of a source is read to infer types and string lengths, bytes")
    ] = 4 * MIB
    connect_timeout_seconds: Annotated[float, Field(gt=0, description="TCP and TLS set-up of one connection")] = 15.0
    read_timeout_seconds: Annotated[float, Field(gt=0, description="longest silence while waiting for a response")] = (
        120.0
    )
    stall_timeout_seconds: Annotated[float, Field(gt=0, le=600, description="longest silence while sending a body")] = (
        50.0
    )
    max_attempts: Annotated[int, Field(ge=1, le=20, description="attempts of a call that is safe to repeat")] = 10
    retry_max_wait_seconds: Annotated[float, Field(gt=0, description="longest wait between two attempts")] = 30.0
    patience: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description='longest outage of the platform that a push waits for, seconds or "90s", "30m", "2h"; 0: as max_attempts says',
        ),
    ] = 0.0
    poll_max_interval_seconds: Annotated[float, Field(gt=0, description="longest wait between two polls of a job")] = (
        15.0
    )
    job_deadline_seconds: Annotated[float, Field(gt=0, description="longest wait for a submitted job to end")] = (
        6 * 3600.0
    )
    conflict_wait_seconds: Annotated[
        float, Field(gt=0, description="wait after a 409 on submit while the job is still NEW")
    ] = 30.0
    settle_seconds: Annotated[
        float,
        Field(ge=0, le=60, description="wait before listing a job's chunks to find an upload without a response"),
    ] = 1.0
    quarantine_seconds: Annotated[
        float,
        Field(
            ge=0,
            le=3600,
            description="how long an upload without a response may still arrive after its chunk was sent again",
        ),
    ] = 60.0
    stale_hours: Annotated[
        float,
        Field(
            gt=0, description="an interrupted push that is not resumed for this long is abandoned and its job deleted"
        ),
    ] = 24.0
    history_days: Annotated[int, Field(ge=1, description="how long finished pushes stay in the journal")] = 90
    submits_per_second: Annotated[int, Field(ge=1, description="submit quota of the team in any second")] = 10
    submits_per_hour: Annotated[int, Field(ge=1, description="submit quota of the team in a UTC hour")] = 250
    hour_guard_seconds: Annotated[
        float, Field(ge=0, le=60, description="no submit this close to a full hour, before or after")
    ] = 2.0
    drift: Annotated[
        Drift, Field(description="what may differ between a table and a push into it: freeze refuses every difference")
    ] = "evolve"
    new_columns: Annotated[
        NewColumns | None,
        Field(description="columns that the table lacks: add, refuse or ignore (leave them out); unset: as drift says"),
    ] = None
    missing_columns: Annotated[
        MissingColumns | None,
        Field(description="columns of the table that the source lacks: null or refuse; unset: as drift says"),
    ] = None
    types: Annotated[
        TypeChanges | None,
        Field(description="column types and lengths in a replace: widen if needed, or refuse; unset: as drift says"),
    ] = None
    verified_new_columns: Annotated[
        bool, Field(description="you know that the platform adds the new columns of an append or upsert to the table")
    ] = False
    on_longer_string: Annotated[
        LongerStrings,
        Field(
            description="append and upsert: a string longer than its column; send only if you know what happens to it"
        ),
    ] = "refuse"
    min_string_length: Annotated[
        int,
        Field(ge=1, le=MAX_LENGTH, description="smallest length that a new STRING column is declared with, characters"),
    ] = 255
    string_headroom: Annotated[
        float, Field(ge=1, le=100, description="length of a new STRING column, as a multiple of its longest value")
    ] = 4.0
    duplicate_keys: Annotated[
        DuplicateKeys,
        Field(
            description="rows of one upsert with equal keys: refuse, load the last one, or allow (the platform decides)"
        ),
    ] = "refuse"
    min_rows: Annotated[int, Field(ge=0, description="a replace with fewer rows is refused")] = 0
    max_drop: Annotated[
        float | None,
        Field(
            ge=0, le=1, description="a replace that loses more than this share of the last replace's rows is refused"
        ),
    ] = None
    max_rejects: Annotated[
        int | float,
        Field(ge=0, description="rows that may be left out of a load: a number, or a share of all rows (0.01, 1%)"),
    ] = 0
    rejects: Annotated[
        Path | None,
        Field(description="folder of the files that list rejected rows; unset: a folder of the state folder"),
    ] = None
    csv: Annotated[CsvSettings, Field(description="how text files are written, unless a push says otherwise")] = (
        CsvSettings()
    )

    @property
    def fitting_chunk_bytes(self) -> int:
        """Bytes of rows in one chunk: `chunk_bytes`, or less if one chunk per encoder thread plus one would exceed the memory budget."""
        share = self.max_memory_bytes * (1 - 1 / FREE_SHARE) / (self.encoder_threads + 1) / RESERVE_FACTOR
        return min(self.chunk_bytes, int(share))

    @property
    def allows_rejects(self) -> bool:
        """Whether rows that cannot be loaded may be left out."""
        return self.max_rejects > 0

    @property
    def effective_new_columns(self) -> NewColumns:
        """What to do with columns that the table lacks: `new_columns`, or what `drift` says."""
        return self.new_columns or ("refuse" if self.drift == "freeze" else "add")

    @property
    def effective_missing_columns(self) -> MissingColumns:
        """What to do if the source lacks columns of the table: `missing_columns`, or what `drift` says."""
        return self.missing_columns or ("refuse" if self.drift == "freeze" else "null")

    @property
    def effective_types(self) -> TypeChanges:
        """Whether a replace may change types and lengths: `types`, or what `drift` says."""
        return self.types or ("refuse" if self.drift == "freeze" else "widen")

    def with_overrides(self, overrides: Mapping[str, Any]) -> Self:
        """Return the settings with those that one push overrides.

        A push that sets `drift` overrides the engine's three policies, too, unless it sets them itself.

        Raises:
            ConfigError: A value is not allowed.
        """
        if not overrides:
            return self
        if unknown := sorted(set(overrides) - set(PUSH_SETTINGS)):
            raise ConfigError(
                f"{unknown[0]} is not a setting of a push", key=unknown[0], hint=f"one of {', '.join(PUSH_SETTINGS)}"
            )
        policies = dict.fromkeys(("new_columns", "missing_columns", "types")) if "drift" in overrides else {}
        csv = {name: value for name, value in overrides.items() if name in CSV_SETTINGS}
        others = {name: value for name, value in overrides.items() if name not in CSV_SETTINGS}
        try:
            return type(self).model_validate(
                {**self.model_dump(), **policies, **others, "csv": self.csv.with_overrides(csv)}
            )
        except ValidationError as error:
            key, text = problems_of(type(self), error)
            key = key.removeprefix("csv.")
            raise ConfigError(text.removeprefix("csv."), key=key) from None

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: Any, info: ValidationInfo) -> Any:
        most = _MOST_TIME if str(info.field_name).endswith(("_seconds", "_hours", "_days")) else _MOST
        if isinstance(value, int | float) and not isinstance(value, bool) and not value <= most:
            raise PydanticCustomError("less_than_equal", "Input should be less than or equal to {le}", {"le": most})
        return value

    @field_validator("patience", mode="before")
    @classmethod
    def _parse_patience(cls, value: Any) -> Any:
        """Return the seconds that a text stands for."""
        seconds = parse_duration(value) if isinstance(value, str) else value
        if seconds is None or isinstance(seconds, bool):
            raise PydanticCustomError(
                "patience", "Input should be a duration such as 90s, 30m or 2h, or a number of seconds"
            )
        return seconds

    @field_validator("max_rejects", mode="before")
    @classmethod
    def _parse_share(cls, value: Any) -> Any:
        """Return the number that a text stands for: `5` is a number of rows, `0.05` and `5%` are a share of them."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else int(text) if text.isdecimal() else float(text)
        except ValueError:
            raise PydanticCustomError(
                "max_rejects", "Input should be a number of rows (5) or a share of them (0.01, 1%)"
            ) from None

    @field_validator("max_rejects")
    @classmethod
    def _check_share(cls, value: Any) -> Any:
        if isinstance(value, float) and not value <= 1:
            raise PydanticCustomError("max_rejects", "Input should be a whole number of rows, or a share from 0 to 1")
        return value

    @model_validator(mode="before")
    @classmethod
    def _take_earlier_names(cls, values: Any) -> Any:
        """Accept `csv_delimiter` and `csv_encoding`, the names of earlier versions for two settings of `csv`."""
        earlier = {"csv_delimiter": "delimiter", "csv_encoding": "encoding"}
        if not isinstance(values, Mapping) or not earlier.keys() & values.keys():
            return values
        csv = values.get("csv") or {}
        given = csv.given() if isinstance(csv, CsvSettings) else dict(csv)
        moved = {earlier[name]: value for name, value in values.items() if name in earlier}
        return {**{name: value for name, value in values.items() if name not in earlier}, "csv": {**moved, **given}}

    @field_validator("max_uploads")
    @classmethod
    def _check_range(cls, value: int, info: ValidationInfo) -> int:
        lowest = info.data.get("min_uploads", 1)
        if value < lowest:
            raise PydanticCustomError(
                "range", "Input should be at least min_uploads, which is {lowest}", {"lowest": lowest}
            )
        return value
