"""The data types of a push, all immutable. This module does no I/O and imports nothing heavy.

Data flow: source -> record batch -> `Chunk` (chunking.py) -> `Payload` -> `SentChunk` -> `Job`, and finally a `Receipt`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, NewType

JobId = NewType("JobId", str)
MAX_PAYLOAD_BYTES = 990_000_000
"""Largest payload, bytes. It leaves room for the multipart framing below the platform's limit of 1 GB."""
SEND_BUFFER_BYTES = 4 * 1024 * 1024
"""Memory counted for one upload from files, bytes: the piece being sent and the piece being read ahead."""
RESERVED_NAMES = ("_celonis_change_date",)
"""Names of columns that the platform adds itself (case-folded)."""

Mode = Literal["replace", "append", "upsert", "delete"]
MODES: tuple[Mode, ...] = ("replace", "append", "upsert", "delete")
FileType = Literal["PARQUET", "CSV"]
ChunkType = Literal["UPSERT", "DELETE"]
ColumnType = Literal["INTEGER", "DATE", "TIME", "DATETIME", "FLOAT", "BOOLEAN", "STRING"]
NewColumns = Literal["add", "refuse", "ignore"]
MissingColumns = Literal["null", "refuse"]
TypeChanges = Literal["widen", "refuse"]
LongerStrings = Literal["refuse", "send"]
DuplicateKeys = Literal["refuse", "last", "allow"]
Drift = Literal["evolve", "freeze"]


def type_name(kind: str, length: int | None) -> str:
    """Return a column type as people write it: `FLOAT`, `STRING(255)`."""
    return kind if length is None else f"{kind}({length})"


class JobStatus(enum.StrEnum):
    """The status of a job as the server reports it (`DataPushJob.status`, fact sheet 1.4)."""

    NEW = "NEW"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELED = "CANCELED"

    @property
    def is_settled(self) -> bool:
        """Whether the status is final."""
        return self in (JobStatus.DONE, JobStatus.ERROR, JobStatus.CANCELED)


@dataclasses.dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of `tableSchema` (fact sheet 1.6).

    Attributes:
        name: Column name, sent unchanged.
        type: The platform's type.
        length: Declared length in characters of a STRING column; None for other types.
    """

    name: str
    type: ColumnType
    length: int | None = None


_LISTED_AS: Mapping[ColumnType, ColumnType] = {"DATE": "DATETIME", "TIME": "DATETIME", "BOOLEAN": "INTEGER"}


def may_be_listed_as(column_type: ColumnType, listed: ColumnType) -> bool:
    """Return whether a column of this type may be read back as `listed` (`Destination.table_columns`).

    The vendor's client knows four types of existing columns: STRING, INTEGER, FLOAT, and DATE for all kinds of time (`PoolColumnType` of
    pycelonis 2.20). pushengine reads that DATE as DATETIME. How the platform lists BOOLEAN is not published; INTEGER is assumed. A type that
    is known otherwise is therefore more exact than a listed one that it may be listed as.
    """
    return listed in (column_type, _LISTED_AS.get(column_type))


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The table to load and how to load it.

    Attributes:
        table: Target table name.
        mode: replace, append, upsert or delete.
        keys: Primary key columns; required for upsert and delete, rejected otherwise.
        connection_id: Data connection; None selects the pool's global schema.
        file_type: Encoding of the chunks.
        duplicate_removal_column: Among rows with equal keys, the row with the highest value in this column wins. Sent with submit.
    """

    table: str
    mode: Mode = "replace"
    keys: tuple[str, ...] = ()
    connection_id: str | None = None
    file_type: FileType = "PARQUET"
    duplicate_removal_column: str | None = None

    @property
    def job_type(self) -> Literal["REPLACE", "DELTA"]:
        """The `DataPushJob.type` for this mode."""
        return "REPLACE" if self.mode == "replace" else "DELTA"

    @property
    def chunk_type(self) -> ChunkType:
        """The chunk operation that carries the rows."""
        return "DELETE" if self.mode == "delete" else "UPSERT"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a push means to a load of the config file. It is recorded with the plan of the push, and takes effect when the push ends.

    Attributes:
        load: Name of the rule, the `[[load]]` of the config file.
        table: Table, as the rule spells it.
        generation: Key of the generation that the push loads.
        run_id: The run that started the push.
        expected_rows: Number of rows that its files have to hold, according to a control file; None if that is not known.
    """

    load: str
    table: str
    generation: str
    run_id: str
    expected_rows: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Claim:
        """Restore a claim from the journal."""
        return cls(
            load=str(raw["load"]),
            table=str(raw["table"]),
            generation=str(raw["generation"]),
            run_id=str(raw["run_id"]),
            expected_rows=raw.get("expected_rows"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the claim as JSON types."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclasses.dataclass(frozen=True, slots=True)
class FileRef:
    """A file as it was when a file system listed it.

    Attributes:
        uri: Path on this machine. It locates the file, and names it in messages unless it has a label.
        size: Length when listed, bytes.
        version: Differs from an earlier version if the content has changed. The first item is the time of the last content change, or
            its equivalent. For local files: mtime (nanoseconds UTC), device, inode, and the time of the last change of any kind (ctime).
        label: What the user calls the file, if it is a copy of something else, such as "standard input"; empty otherwise.
    """

    uri: str
    size: int
    version: tuple[int | str, ...]
    label: str = dataclasses.field(default="", compare=False)

    @property
    def shown(self) -> str:
        """The name of the file in messages."""
        return self.label or self.uri

    @property
    def name(self) -> str:
        """The last component of the path."""
        return PurePath(self.uri).name

    @property
    def inode(self) -> tuple[int | str, ...] | None:
        """Device and inode of a local file, which all its names share; None if the file system has none."""
        return self.version[1:3] if len(self.version) == 4 and self.version[2] else None  # noqa: PLR2004 - see `version`


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """A byte range of a file."""

    file: FileRef
    offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class FileParts:
    """A byte sequence assembled from file slices and in-memory bytes. The files must not change until it has been sent."""

    parts: tuple[bytes | FileSlice, ...]

    @property
    def nbytes(self) -> int:
        """Total length in bytes."""
        return self.nbytes_in_memory + sum(part.nbytes for part in self.parts if isinstance(part, FileSlice))

    @property
    def nbytes_in_memory(self) -> int:
        """Number of bytes held in memory."""
        return sum(len(part) for part in self.parts if isinstance(part, bytes))


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """The encoded bytes of one chunk, ready to be sent.

    Attributes:
        chunk_id: Stable name of the chunk within its push, such as `000003` (or `000003.0` after a split).
        data: Either the bytes, held in memory until the chunk is acknowledged, or the file parts that each attempt reads.
        rows: Number of rows.
        source_rows: The rows' half-open range within the whole source, without the rejected rows.
        digests: Checksum algorithm -> hex digest of `data`.
        rejected: Number of rows of the chunk that were rejected, so that they are not part of it.
    """

    chunk_id: str
    data: memoryview | FileParts
    rows: int
    source_rows: tuple[int, int]
    digests: Mapping[str, str]
    rejected: int = 0

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.data.nbytes

    @property
    def memory_bytes(self) -> int:
        """Memory held until the chunk is acknowledged, bytes. Data in files counts with the buffers of one upload."""
        return self.data.nbytes_in_memory + SEND_BUFFER_BYTES if isinstance(self.data, FileParts) else self.size


@dataclasses.dataclass(frozen=True, slots=True)
class SentChunk:
    """A chunk as it was sent, with what is needed to find it in a job's chunk list."""

    chunk_id: str
    rows: int
    payload_bytes: int
    digests: Mapping[str, str]
    type: ChunkType


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteChunk:
    """One entry of a job's chunk list (`DataPushChunk`, fact sheet 1.7)."""

    id: str
    type: str
    checksum: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A push job as the server reports it."""

    id: JobId
    status: JobStatus
    target_name: str = ""
    type: str = ""
    logs: tuple[str, ...] = ()
    last_modified: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do, determined without sending anything.

    Attributes:
        source_bytes: Size of the source on disk or in memory; None if unknown.
        sampled_rows: Number of rows from which types and string lengths were inferred.
        is_sample_complete: Whether the sample was the whole source, so that the push cannot meet a value that does not fit.
        estimated_chunks: Expected number of chunks; None if it cannot be estimated.
        submits: Number of submits that the push takes from the hourly quota.
        notes: Things that the user should know before pushing.
        schema: The columns, each with `name`, `type`, `length`, the `reason` for its type, and the `value` that decided it.
        schema_changes: What differs between the table and the push; empty if nothing does or the table is new.
        first_rows: The first rows as they will land: column name -> text, None for NULL.
        dialect: How the text of the source is written; None if it is not text.
        dialect_reason: Why it is read so, and how sure that is.
    """

    table: str
    mode: Mode
    keys: tuple[str, ...]
    files: tuple[str, ...]
    source_bytes: int | None
    columns: tuple[TableColumn, ...]
    sampled_rows: int
    is_sample_complete: bool
    estimated_chunks: int | None
    submits: int = 1
    notes: tuple[str, ...] = ()
    schema: tuple[Mapping[str, Any], ...] = ()
    schema_changes: tuple[str, ...] = ()
    first_rows: tuple[Mapping[str, str | None], ...] = ()
    dialect: Mapping[str, Any] | None = None
    dialect_reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain JSON types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaStatus:
    """A team's submit quota according to this host's ledger.

    Attributes:
        team: The team's host name.
        hour_start: Start of the current UTC hour, ISO 8601.
        spent: Submits so far in this hour.
        limit: Submits allowed per hour.
        resets_at: Start of the next UTC hour, ISO 8601.
        blocked_until: Time until which the server refuses submits, ISO 8601; None if it does not.
        blocked_reason: Why the server refuses submits, as text; None if it does not.
    """

    team: str
    hour_start: str
    spent: int
    limit: int
    resets_at: str
    blocked_until: str | None = None
    blocked_reason: str | None = None

    @property
    def remaining(self) -> int:
        """Number of submits left in this hour."""
        return 0 if self.blocked_until else max(self.limit - self.spent, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the status as plain JSON types, with `remaining`."""
        return {**dataclasses.asdict(self), "remaining": self.remaining}


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `pushengine check`.

    Attributes:
        name: What was checked.
        is_ok: Whether the check passed; None if it could not be made.
        detail: What was found.
        remedy: What to do if the check did not pass.
        error: The error behind a failed check; it determines the exit code.
    """

    name: str
    is_ok: bool | None
    detail: str
    remedy: str = ""
    error: Exception | None = dataclasses.field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types, without `error`."""
        return {"name": self.name, "is_ok": self.is_ok, "detail": self.detail, "remedy": self.remedy}


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """The final summary of a push, printed as one line for people or as a JSON object for programs.

    Attributes:
        verified: How the chunk list was compared before submit: `checksum` or `count`; None if the push ended before that.
        source_bytes: Size of the source on disk (compressed size for compressed files); Arrow bytes for in-memory sources.
        elapsed_seconds: Elapsed real time of this session, from its start (after a stream was spooled) to the end of the push.
        submitted: Whether a submit of the job was sent that is not known to have been refused. If not, the table is unchanged.
        quota_used: Submits by this team in the current UTC hour, as counted by the ledger.
        schema: The columns as they were sent, each with `name`, `type` and `length` (characters; None unless it is a STRING).
        schema_changes: What differed between the table and the push; empty if nothing did or the table was new.
        notes: What the user should know about the push.
        rejects: None if no row was rejected; otherwise `rows`, their number, and `file`, which lists them. A push that is DONE has loaded
            all other rows.
        dialect: How the text of the source was written; None if it was not text.
        load_id: The load id that the caller gave to the push; None if there was none.
    """

    push_id: str
    job_id: str | None
    table: str
    mode: Mode
    status: Literal["DONE", "ERROR", "CANCELED", "INTERRUPTED"]
    rows: int
    chunks: int
    payload_bytes: int
    source_bytes: int
    elapsed_seconds: float
    retries: int
    submits: int
    restarts: int
    resumed: bool
    verified: Literal["checksum", "count"] | None
    job_logs: tuple[str, ...]
    submitted: bool = False
    checksums: tuple[str, ...] = ()
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    quota_used: int | None = None
    quota_limit: int | None = None
    schema: tuple[Mapping[str, Any], ...] = ()
    schema_changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rejects: Mapping[str, Any] | None = None
    dialect: Mapping[str, Any] | None = None
    load_id: str | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Receipt:
        """Restore a receipt from the result of `to_dict()`, of this or another version."""
        known = {field.name for field in dataclasses.fields(cls)}
        values: Any = {
            key: tuple(value) if isinstance(value, list) else value for key, value in raw.items() if key in known
        }
        return cls(**{"submitted": bool(raw.get("submits")), **values})  # earlier versions did not record it

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as plain JSON types. The keys are part of the public contract."""
        raw = dataclasses.asdict(self)
        raw["elapsed_seconds"] = round(self.elapsed_seconds, 3)
        raw["timings"] = {name: round(seconds, 3) for name, seconds in self.timings.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in raw.items()}
