"""The nouns of a push, as frozen data. No I/O, and nothing heavy is imported.

What flows: source -> record batch -> `Chunk` (chunking.py) -> `Payload` -> `SentChunk` -> `Job`, and at the end a `Receipt`.
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
"""Below the platform's 1 GB with the multipart around it."""
SEND_BUFFER_BYTES = 4 * 1024 * 1024
"""What an upload from files holds of them: the piece that is sent and the one that is read ahead."""

Mode = Literal["replace", "append", "upsert", "delete"]
MODES: tuple[Mode, ...] = ("replace", "append", "upsert", "delete")
FileType = Literal["PARQUET", "CSV"]
ChunkType = Literal["UPSERT", "DELETE"]
ColumnType = Literal["INTEGER", "DATE", "TIME", "DATETIME", "FLOAT", "BOOLEAN", "STRING"]


class JobStatus(enum.StrEnum):
    """What the server says a job is (`DataPushJob.status`, fact sheet 1.4)."""

    NEW = "NEW"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    ERROR = "ERROR"
    CANCELED = "CANCELED"

    @property
    def is_settled(self) -> bool:
        """No further change is to be expected."""
        return self in (JobStatus.DONE, JobStatus.ERROR, JobStatus.CANCELED)


@dataclasses.dataclass(frozen=True, slots=True)
class TableColumn:
    """One column of `tableSchema` (fact sheet 1.6).

    Attributes:
        name: Column name, sent as it is.
        type: The platform's type.
        length: For STRING: declared length in characters; None else.
    """

    name: str
    type: ColumnType
    length: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where the rows go and what they do there.

    Attributes:
        table: Target table name.
        mode: replace, append, upsert or delete.
        keys: Primary key columns; needed by upsert and delete, refused else.
        connection_id: Data connection, or None for the pool's global schema.
        file_type: How chunks are encoded.
        duplicate_removal_column: Which of several rows with equal keys wins: the one with the highest value here. Sent with submit.
    """

    table: str
    mode: Mode = "replace"
    keys: tuple[str, ...] = ()
    connection_id: str | None = None
    file_type: FileType = "PARQUET"
    duplicate_removal_column: str | None = None

    @property
    def job_type(self) -> Literal["REPLACE", "DELTA"]:
        """`DataPushJob.type` of this mode."""
        return "REPLACE" if self.mode == "replace" else "DELTA"

    @property
    def chunk_type(self) -> ChunkType:
        """Which of the two chunk operations carries the rows."""
        return "DELETE" if self.mode == "delete" else "UPSERT"


@dataclasses.dataclass(frozen=True, slots=True)
class FileRef:
    """A file as a file system listed it.

    Attributes:
        uri: What finds it and what messages call it: a path of this machine.
        size: Its length then, bytes.
        version: Tells its content of then from a later one. First the time of the last change of the content, or what stands for it; on
            this machine that is nanoseconds UTC, followed by device, inode and the time of the last change of anything.
    """

    uri: str
    size: int
    version: tuple[int | str, ...]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePath(self.uri).name


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """Part of a file."""

    file: FileRef
    offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class FileParts:
    """Bytes that lie in files, mostly: these pieces, one after the other. A file must stay as it is until they are sent."""

    parts: tuple[bytes | FileSlice, ...]

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.nbytes_in_memory + sum(part.nbytes for part in self.parts if isinstance(part, FileSlice))

    @property
    def nbytes_in_memory(self) -> int:
        """How many of them are in memory."""
        return sum(len(part) for part in self.parts if isinstance(part, bytes))


@dataclasses.dataclass(frozen=True, slots=True)
class Payload:
    """The encoded bytes of one chunk, ready to be sent.

    Attributes:
        chunk_id: Stable name of the chunk inside its push, such as `000003` (or `000003.0` after a split).
        data: The bytes, kept alive until the chunk is acknowledged, or where they are read each time they are sent.
        rows: Rows inside.
        source_rows: Half-open range of rows of the whole source.
        digests: Checksum algorithm -> hex digest of `data`.
    """

    chunk_id: str
    data: memoryview | FileParts
    rows: int
    source_rows: tuple[int, int]
    digests: Mapping[str, str]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.data.nbytes

    @property
    def memory_bytes(self) -> int:
        """What it keeps in memory until it is acknowledged; bytes in files take the buffers of one upload."""
        return self.data.nbytes_in_memory + SEND_BUFFER_BYTES if isinstance(self.data, FileParts) else self.size


@dataclasses.dataclass(frozen=True, slots=True)
class SentChunk:
    """What is remembered of a chunk that the platform acknowledged."""

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
    """A push job as the server describes it."""

    id: JobId
    status: JobStatus
    target_name: str = ""
    type: str = ""
    logs: tuple[str, ...] = ()
    last_modified: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a push would do; nothing was sent to find it out.

    Attributes:
        source_bytes: Size of the source as it lies, or None where unknown.
        sampled_rows: Rows that types and string lengths were settled from.
        is_sample_complete: The sample was the whole source: the push cannot meet a value that does not fit.
        estimated_chunks: Expected number of chunks, or None where the source's size is unknown.
        submits: What the push takes from the hourly quota.
        notes: What a careful person would want to know before pushing.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What this host's ledger knows of a team's submit quota.

    Attributes:
        team: Host of the team.
        hour_start: Begin of the current UTC hour, ISO 8601.
        spent: Submits in it so far.
        limit: Submits that an hour allows.
        resets_at: Begin of the next UTC hour, ISO 8601.
        blocked_until: The server refuses submits until then, ISO 8601, or None.
        blocked_reason: Why, in words, or None.
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
        """Submits left in this hour."""
        return 0 if self.blocked_until else max(self.limit - self.spent, 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**dataclasses.asdict(self), "remaining": self.remaining}


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `pushengine check`.

    Attributes:
        name: What was checked.
        is_ok: True, False, or None where it could not be checked.
        detail: What was found.
        remedy: What to do if it is not good.
        error: The failure behind it, for the exit code.
    """

    name: str
    is_ok: bool | None
    detail: str
    remedy: str = ""
    error: Exception | None = dataclasses.field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"name": self.name, "is_ok": self.is_ok, "detail": self.detail, "remedy": self.remedy}


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """What a push did: the one-line summary for people and the JSON object for machines.

    Attributes:
        verified: How the chunk list was compared before submit: `checksum` or `count`; None when the push ended before.
        source_bytes: Size of the source, as it lies (compressed where it is); Arrow bytes for in-memory sources.
        elapsed_seconds: Wall time from start to settled.
        quota_used: Submits of this team in the current UTC hour that the ledger knows of.
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
    checksums: tuple[str, ...] = ()
    timings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    quota_used: int | None = None
    quota_limit: int | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Receipt:
        """What `to_dict()` gave."""
        return cls(**{**raw, "job_logs": tuple(raw["job_logs"]), "checksums": tuple(raw["checksums"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the keys are part of the contract."""
        raw = dataclasses.asdict(self)
        raw["elapsed_seconds"] = round(self.elapsed_seconds, 3)
        raw["timings"] = {name: round(seconds, 3) for name, seconds in self.timings.items()}
        raw["job_logs"] = list(self.job_logs)
        raw["checksums"] = list(self.checksums)
        return raw
