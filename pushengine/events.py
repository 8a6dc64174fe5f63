"""The events of a push, as frozen records.

Logs, the progress display and `PushEngine.events()` share these events: the class `ChunkUploaded` is the log event `chunk_uploaded`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Protocol

from pushengine.model import Receipt


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base class of all events.

    Attributes:
        push_id: Id of the push; empty for what concerns no push, such as a wait while the engine opens.
        table: Name of its table. Like `pool`, it is filled in where the push emits its events (`runtime.event_bus.PushSink`).
        pool: Id of the data pool.
    """

    push_id: str
    table: str = ""
    pool: str = ""

    @property
    def name(self) -> str:
        """The event's name in logs: the class name in snake case, a noun and a past participle."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def fields(self) -> dict[str, Any]:
        """Return all attributes as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushStarted(Event):
    """The source was opened and its schema inferred."""

    mode: str
    source: str
    source_bytes: int | None
    columns: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TableCompared(Event):
    """The source differs from the table, or there is something to know about the table. Emitted before anything is sent.

    Attributes:
        changes: Differences between the table and the push, such as `ID INTEGER -> STRING(255)`.
        notes: What the user should know about the push.
    """

    changes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobCreated(Event):
    """A push job was created on the platform. The table has not changed yet."""

    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRead(Event):
    """The rows of one chunk were read.

    `source_bytes_read` is how far the source has been read, bytes; None if unknown.
    """

    chunk_id: str
    source_bytes_read: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEncoded(Event):
    """A chunk was encoded into a payload."""

    chunk_id: str
    rows: int
    payload_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted(Event):
    """An attempt to upload a chunk started."""

    chunk_id: str
    job_id: str
    attempt: int
    payload_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkUploaded(Event):
    """The platform acknowledged a chunk."""

    chunk_id: str
    job_id: str
    rows: int
    payload_bytes: int
    elapsed_seconds: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReconciled(Event):
    """The job's chunk list showed whether an upload without a response has arrived; `how` is `checksum` or `count`."""

    job_id: str
    chunk_id: str
    is_present: bool
    how: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyChanged(Event):
    """The limit on concurrent uploads changed from `before` to `after`; `reason` as in `concurrency.LimitChange`.

    `bytes_per_second` is the goodput under the previous limit; None if unknown.
    """

    before: int
    after: int
    reason: str
    bytes_per_second: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushResumed(Event):
    """A push that an earlier process left unfinished was resumed."""

    job_id: str | None
    chunks_acknowledged: int
    rows_acknowledged: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaLearned(Event):
    """The schema was inferred from all rows, because a value did not fit the previous one; `changes` lists the columns that differ."""

    changes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushSuperseded(Event):
    """An unfinished push that cannot or must not be resumed was ended; a new push takes its place."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPushSettled(Event):
    """The submitted job of an earlier push of the same command reached its final status, and a new push begins.

    If `status` is DONE, its `rows` rows are in the table. `reason` says why another push is needed.
    """

    mode: str
    status: str
    rows: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPushLeft(Event):
    """An unfinished push of another command into the same table was found and left unchanged. It can still be resumed by hand."""

    mode: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WaitStarted(Event):
    """The push is waiting; `seconds` is the longest that the wait can take, None if unknown.

    Waits known to be at most `runtime.aio.SILENT_SECONDS` (1.5 s) are not reported. Waits before a submit are `QuotaWaited` events.
    """

    reason: str
    seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """An attempt failed; another one follows after `wait_seconds`."""

    operation: str
    attempt: int
    wait_seconds: float
    error: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRestarted(Event):
    """The job was abandoned before submit, and the push starts again in a fresh job, with a wider schema if a value did not fit."""

    job_id: str | None
    restarts: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RowsRejected(Event):
    """The source was read to its end, and `rows` rows of it cannot be loaded; `file` lists them. Whether they are too many follows."""

    job_id: str
    rows: int
    file: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceAcknowledged(Event):
    """All rows of the source, `rows`, are acknowledged; the job's chunk list is compared next."""

    job_id: str
    rows: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobVerified(Event):
    """The job's chunk list was compared with what was sent, and they match."""

    job_id: str
    chunks: int
    verified: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWaited(Event):
    """A submit has to wait; `until` is the UTC time until which it waits, ISO 8601.

    `reason` is one of:
        `hour`, `boundary`, `second` or `server`: as in `interfaces.QuotaGrant`.
        `turn`: earlier submits of this process are sent first; `until` is an estimate.
        `quarantine`: an upload without a response may still arrive.
    """

    job_id: str
    until: str
    wait_seconds: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLedgerCorrected(Event):
    """The quota ledger contained times written under a wrong clock; they were corrected."""

    job_id: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StateFolderTightened(Event):
    """Other users had access to the state folder or to files in it; it was taken from them. The event of an engine, not of a push."""

    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """The platform accepted the submit."""

    job_id: str
    submits: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobStayedNew(Event):
    """The platform acknowledged a submit, but the job is still NEW `seconds` later.

    If `is_submitted_again`, the job is submitted again, which spends another submit of the hour. Otherwise it is only polled from now on.
    """

    job_id: str
    seconds: float
    submits: int
    is_submitted_again: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusChanged(Event):
    """A poll returned a new job status."""

    job_id: str
    status: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSettled(Event):
    """The job reached its final status."""

    job_id: str
    status: str
    logs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobDeleted(Event):
    """A push deleted its unsubmitted job, or failed to delete it; `error` says why."""

    job_id: str
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFinished(Event):
    """The push ended with DONE; `receipt` sums it up."""

    receipt: Receipt

    def fields(self) -> dict[str, Any]:
        """Return the receipt's fields and the pool."""
        return {**self.receipt.to_dict(), "pool": self.pool}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFailed(Event):
    """The push ended without reaching DONE."""

    error: str
    error_type: str
    receipt: Receipt

    def fields(self) -> dict[str, Any]:
        """Return the receipt's fields and the pool, with `error` and `error_type`."""
        return {**self.receipt.to_dict(), "pool": self.pool, "error": self.error, "error_type": self.error_type}


class EventSink(Protocol):
    """A consumer of events. It is called on the event loop, so it must return quickly and must not raise."""

    def emit(self, event: Event) -> None:
        """Handle one event."""
        ...
