"""What happens during a push, as frozen records.

One vocabulary for logs, progress display and `PushEngine.events()`: the class `ChunkUploaded` is the log event `chunk_uploaded`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Protocol

from pushengine.model import Receipt


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events; `push_id` says which push."""

    push_id: str

    @property
    def name(self) -> str:
        """The event's name in logs: noun and past verb in snake case."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()

    def fields(self) -> dict[str, Any]:
        """All attributes as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushStarted(Event):
    """The source is resolved and the schema settled."""

    table: str
    mode: str
    source: str
    source_bytes: int | None
    columns: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobCreated(Event):
    """A push job exists on the server; nothing is visible in the table yet."""

    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRead(Event):
    """Rows for one chunk were read from the source; `source_bytes_read` counts how far reading got, where the source can tell."""

    chunk_id: str
    source_bytes_read: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkEncoded(Event):
    """A chunk became a payload."""

    chunk_id: str
    rows: int
    payload_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadStarted(Event):
    """An attempt to upload a chunk began."""

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
    """The job's chunk list told whether an upload without an answer has arrived."""

    job_id: str
    chunk_id: str
    is_present: bool
    how: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyChanged(Event):
    """From now on `after` chunks are uploaded at once; `reason` as in `concurrency.LimitChange`.

    `bytes_per_second` is what was acknowledged under the limit before, or None where that is not known.
    """

    before: int
    after: int
    reason: str
    bytes_per_second: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushResumed(Event):
    """An earlier process left this push unfinished; it goes on."""

    job_id: str | None
    chunks_acknowledged: int
    rows_acknowledged: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaLearned(Event):
    """All rows were read for the schema after the sample's did not hold; `changes` are the columns that differ from it."""

    changes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushSuperseded(Event):
    """An unfinished push of the same command cannot go on; it is ended and a new one takes its place."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPushSettled(Event):
    """The job of an earlier push of the same command had been submitted and has come to its end; now a new push begins.

    `rows` are in the table where `status` is DONE; `reason` says why the earlier push is not all that was asked for.
    """

    table: str
    mode: str
    status: str
    rows: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPushLeft(Event):
    """Another command's push into the same table was left unfinished; it stays as it is, and a person may want to resume it."""

    table: str
    mode: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WaitStarted(Event):
    """The push waits; `seconds` is for how long at most, where that is known. Waits of less than two seconds are not told."""

    reason: str
    seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """An attempt failed and another follows."""

    operation: str
    attempt: int
    wait_seconds: float
    error: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRestarted(Event):
    """The job was given up before submit and the push starts again in a fresh one with what was learned."""

    job_id: str | None
    restarts: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobVerified(Event):
    """The job's chunk list equals what was sent."""

    job_id: str
    chunks: int
    verified: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaWaited(Event):
    """A submit has to wait; `until` is the UTC time it waits for, ISO 8601.

    `reason` is `hour`, `boundary`, `second` or `server` as in `interfaces.QuotaGrant`, `turn` where earlier submits of this process leave first
    (`until` is an estimate then), or `quarantine` where an upload without an answer may still arrive.
    """

    job_id: str
    until: str
    wait_seconds: float
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLedgerCorrected(Event):
    """The quota ledger held times that a wrong clock had written; they no longer count."""

    job_id: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted(Event):
    """The submit was accepted."""

    job_id: str
    submits: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobStayedNew(Event):
    """The platform acknowledged a submit, and the job is still NEW `seconds` later.

    It is submitted again if `is_submitted_again`, at the cost of one submit of the hour; else it is only polled from now on.
    """

    job_id: str
    seconds: float
    submits: int
    is_submitted_again: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobStatusChanged(Event):
    """A poll saw a new status."""

    job_id: str
    status: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSettled(Event):
    """The final status was seen."""

    job_id: str
    status: str
    logs: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobDeleted(Event):
    """A push deleted its unsubmitted job, or could not (`error`)."""

    job_id: str
    error: str | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFinished(Event):
    """The push is over; the one line that sums it up."""

    receipt: Receipt

    def fields(self) -> dict[str, Any]:
        """The receipt's fields."""
        return self.receipt.to_dict()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFailed(Event):
    """The push ended without DONE."""

    error: str
    error_type: str
    receipt: Receipt

    def fields(self) -> dict[str, Any]:
        """Error and receipt."""
        return {**self.receipt.to_dict(), "error": self.error, "error_type": self.error_type}


class EventSink(Protocol):
    """Takes events as they happen. Must be quick and must not raise: it is called on the event loop."""

    def emit(self, event: Event) -> None:
        """Take one event."""
        ...
