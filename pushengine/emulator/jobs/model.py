"""Push jobs and their chunks: the fields, the statuses, the limits, and the JSON in which the API shows them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

MAX_VARCHAR_BYTES = 65_000
BYTES_PER_CHARACTER = 4
MAX_FIELD_LENGTH = MAX_VARCHAR_BYTES // BYTES_PER_CHARACTER
CHANGE_DATE_COLUMN = "_CELONIS_CHANGE_DATE"


class JobStatus(StrEnum):
    """The status of a job, as the server reports it."""

    NEW = "NEW"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELED = "CANCELED"

    @property
    def is_at_work(self) -> bool:
        """Whether the job has been submitted and has not finished."""
        return self in {JobStatus.QUEUED, JobStatus.RUNNING}


class ColumnType(StrEnum):
    """The column types of a table schema."""

    INTEGER = "INTEGER"
    DATE = "DATE"
    TIME = "TIME"
    DATETIME = "DATETIME"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    STRING = "STRING"


class ChunkType(StrEnum):
    """The operation that a chunk applies with its rows."""

    UPSERT = "UPSERT"
    DELETE = "DELETE"


@dataclass(frozen=True)
class SchemaColumn:
    """A column of a job's `tableSchema`; `field_length` is in characters."""

    name: str
    type: ColumnType
    field_length: int | None = None


@dataclass(frozen=True)
class CsvOptions:
    """A job's `csvParsingOptions`. The defaults are assumptions: the platform does not publish its own."""

    charset: str = "UTF-8"
    separator: str = ","
    quote: str = '"'
    escape: str = '"'
    line_ending: str | None = None
    decimal_separator: str = "."
    thousand_separator: str = ""
    date_format: str | None = None
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class JobSpec:
    """The job that a client asked for; `raw` is the JSON of the request, from which responses are built."""

    target_name: str
    type: Literal["REPLACE", "DELTA"]
    file_type: Literal["PARQUET", "CSV"]
    connection_id: str | None
    keys: tuple[str, ...]
    schema: tuple[SchemaColumn, ...] | None
    fallback_varchar_length: int | None
    nullifies_absent_columns: bool
    allow_duplicate: bool
    csv: CsvOptions
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class FileColumn:
    """A column of an uploaded file; CSV columns are all STRING until the types of the table are known."""

    name: str
    type: ColumnType


@dataclass(frozen=True)
class Chunk:
    """An uploaded file that passed validation."""

    id: str
    type: ChunkType
    path: Path
    columns: tuple[FileColumn, ...]
    size_bytes: int
    checksum: str
    created_at: float


@dataclass(kw_only=True)
class Job:
    """A push job and its history; with `is_lost` set, it is not executed.

    `first_chunks` has the first chunk of each type, whose schema all others of the type share.
    """

    id: str
    pool_id: str
    spec: JobSpec
    created_at: float
    last_modified: float
    status: JobStatus = JobStatus.NEW
    previous_status: JobStatus = JobStatus.NEW
    is_lost: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    first_chunks: dict[ChunkType, Chunk] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    duplicate_removal_column: str | None = None
    submits: int = 0
    runs: int = 0

    @property
    def target(self) -> tuple[str, str | None, str]:
        """The pool, connection and table that the job writes to, for detecting jobs that write to the same table."""
        return self.pool_id, self.spec.connection_id, self.spec.target_name.casefold()


@dataclass(frozen=True)
class JsonStyle:
    """The JSON form of jobs and chunks. The datetime format is a setting because the platform's is not published."""

    datetime_format: Literal["iso", "epoch_ms"]

    def time(self, seconds: float) -> str | int:
        """Return the JSON form of a point in time (Unix seconds), truncated to milliseconds."""
        milliseconds = math.floor(seconds * 1000)
        if self.datetime_format == "epoch_ms":
            return milliseconds
        at = datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def job(self, job: Job) -> dict[str, Any]:
        """Return a job as the API shows it: the fields that the client sent, then those that the server sets."""
        return {name: job.spec.raw.get(name) for name in _CLIENT_FIELDS} | {
            "id": job.id,
            "dataPoolId": job.pool_id,
            "targetName": job.spec.target_name,
            "type": job.spec.type,
            "fileType": job.spec.file_type,
            "keys": list(job.spec.keys),
            "status": job.status.value,
            "logs": list(job.logs),
            "lastModified": self.time(job.last_modified),
            "lastPing": self.time(job.last_modified) if job.status.is_at_work else None,
            "changeDate": None,
        }

    def chunk(self, chunk: Chunk, job_id: str) -> dict[str, Any]:
        """Return a chunk as the API shows it."""
        return {
            "id": chunk.id,
            "creationDate": self.time(chunk.created_at),
            "type": chunk.type.value,
            "pushJobId": job_id,
            "checksum": chunk.checksum,
        }


_CLIENT_FIELDS = (
    "allowDuplicate",
    "connectionId",
    "csvParsingOptions",
    "fallbackVarcharLength",
    "foreignKeys",
    "mirrorTargetNames",
    "postExecutionQuery",
    "tableSchema",
    "targetSchema",
    "upsertStrategy",
)


def first_duplicate(names: list[str]) -> str | None:
    """Return the first name that equals an earlier one; case is ignored, as on the platform."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None
