"""The state of a push, computed by applying its facts in order. Running and resumed pushes and `pushengine show` all use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pushengine.journal import facts
from pushengine.journal.facts import Fact, FactRow, PushPlanned
from pushengine.model import ChunkType, JobId, SentChunk

ChunkState = Literal["sending", "acked", "refused", "unknown", "absent"]
SubmitState = Literal["none", "intended", "unknown", "accepted"]


@dataclasses.dataclass(slots=True)
class ChunkRecord:
    """One chunk of one job.

    Attributes:
        state: State of the upload. After a crash, `sending` means that the outcome is unknown.
        attempts: Number of uploads that were sent or were about to be sent.
        rejected: Number of rows that were rejected, so that they are not part of the chunk.
        zombie_since: Time of the chunk's last reconciliation (seconds UTC), once one has found an attempt missing; None before. The
            chunk is sent again then, and until its quarantine ends the missing attempt may still arrive as a duplicate.
    """

    chunk_id: str
    rows: int
    source_rows: tuple[int, int]
    payload_bytes: int
    digests: Mapping[str, str]
    type: ChunkType
    state: ChunkState = "sending"
    attempts: int = 0
    rejected: int = 0
    zombie_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is unknown if the job holds the chunk."""
        return self.state in ("sending", "unknown")

    def as_sent(self) -> SentChunk:
        """Return the chunk in the form that is compared with the job's chunk list."""
        return SentChunk(
            chunk_id=self.chunk_id,
            rows=self.rows,
            payload_bytes=self.payload_bytes,
            digests=self.digests,
            type=self.type,
        )


@dataclasses.dataclass(slots=True)
class JobRecord:
    """One job of a push.

    Attributes:
        has_all_rows: Whether every row of the source is acknowledged.
        verified: How the job's chunk list was compared with what was sent, or None if that has not been done yet.
        submits: Number of submits that were sent or were about to be sent.
        accepted_at: When the platform accepted the first submit, in seconds UTC, or None if it has not accepted one.
        repeats: Number of submits after `accepted_at`; a job that stays NEW is submitted again.
        is_discarded: Whether the job was deleted.
        is_abandoned: Whether the push was restarted without this job, which is never used again, even if its deletion failed.
    """

    job_id: JobId
    chunks: dict[str, ChunkRecord] = dataclasses.field(default_factory=dict)
    has_all_rows: bool = False
    verified: Literal["checksum", "count"] | None = None
    submits: int = 0
    submit: SubmitState = "none"
    has_unknown_submit: bool = False
    accepted_at: float | None = None
    repeats: int = 0
    status: str | None = None
    logs: tuple[str, ...] = ()
    is_discarded: bool = False
    is_abandoned: bool = False

    @property
    def may_have_run(self) -> bool:
        """Whether a submit was sent that is not known to have been refused. Such a job must not be deleted."""
        return self.submit != "none" or self.has_unknown_submit or self.accepted_at is not None

    @property
    def is_complete(self) -> bool:
        """Whether all chunks of the source are acknowledged, so that the job only has to be verified, submitted and polled."""
        return self.has_all_rows or self.verified is not None or self.may_have_run

    @property
    def acked(self) -> list[ChunkRecord]:
        """The chunks that the job holds, in source order."""
        acked = [chunk for chunk in self.chunks.values() if chunk.state == "acked"]
        return sorted(acked, key=lambda chunk: chunk.source_rows)

    def resume_point(self) -> tuple[int, int]:
        """Return the index of the first chunk that the job may lack, and its first row. All earlier rows are acknowledged."""
        index = row = covered = expected = 0
        for chunk in self.acked:
            number = int(chunk.chunk_id.partition(".")[0])
            if chunk.source_rows[0] != covered or number > expected:
                break  # a chunk may be missing although no row is: all of its rows were rejected
            covered, expected = chunk.source_rows[1], number + 1
            if "." not in chunk.chunk_id:  # reading cannot start between the parts of a split chunk
                index, row = int(chunk.chunk_id) + 1, covered
        return index, row

    @property
    def quarantined_since(self) -> float | None:
        """The latest `zombie_since` of the job's chunks, or None if no earlier attempt may still arrive."""
        return max((c.zombie_since for c in self.chunks.values() if c.zombie_since is not None), default=None)


@dataclasses.dataclass(slots=True)
class PushState:
    """The state of a push.

    Attributes:
        fingerprints: Fingerprints of the source files under which chunks may have been sent; once all rows are acknowledged, only the final
            one. Empty for objects in memory.
        sha256: SHA-256 of the content of each file that was sent, or None if it is not known (yet).
        known: The table as it was known when `schema` was inferred; None if nothing was known of it.
        changes: How `schema` differs from it.
        notes: What the user should know about the push.
        drops_duplicates: Whether the job holds only the last of the rows with equal keys.
        decodes: Whether files that could be passed through are decoded, because rows of them are rejected.
        knows_all_rows: Whether `schema` was inferred from all rows: no other schema would hold more of them.
        rejects: What the receipt says about the rows that the latest pass rejected; None if it rejected none.
    """

    planned: PushPlanned | None = None
    schema: Mapping[str, Any] | None = None
    jobs: list[JobRecord] = dataclasses.field(default_factory=list)
    restarts: int = 0
    submits: int = 0
    started_at: float | None = None
    receipt: Mapping[str, Any] | None = None
    fingerprints: list[list[list[Any]]] = dataclasses.field(default_factory=list)
    sha256: tuple[str, ...] | None = None
    known: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    drops_duplicates: bool = False
    decodes: bool = False
    knows_all_rows: bool = False
    rejects: Mapping[str, Any] | None = None

    @property
    def job(self) -> JobRecord | None:
        """The job that the push is working with, or None before the first job and between two jobs."""
        last = self.jobs[-1] if self.jobs else None
        return None if last is None or last.is_discarded or last.is_abandoned else last

    @property
    def may_have_run(self) -> bool:
        """Whether the current job may have run. The push is then completed from its journal alone, whatever has happened to its source."""
        return self.job is not None and self.job.may_have_run

    @property
    def is_done(self) -> bool:
        """Whether the push reached DONE, even if no caller has received the receipt."""
        return self.receipt is not None and self.receipt["status"] == "DONE"

    @property
    def has_rejects(self) -> bool:
        """Whether rows of the source were rejected, so that a job lacks them."""
        return self.rejects is not None or any(chunk.rejected for job in self.jobs for chunk in job.chunks.values())

    def job_of(self, job_id: str) -> JobRecord:
        """Return the record of one job."""
        return next(job for job in reversed(self.jobs) if job.job_id == job_id)

    def chunk_of(self, job_id: str, chunk_id: str) -> ChunkRecord:
        """Return the record of one chunk."""
        return self.job_of(job_id).chunks[chunk_id]


class PushHistory:
    """Computes the state of a push: `apply` its facts in order, then read `state`. Running and resumed pushes use the same code."""

    def __init__(self, rows: Iterable[FactRow] = ()) -> None:
        self.state = PushState()
        self._jobs: dict[str, JobRecord] = {}
        for row in rows:
            if row.fact is not None:
                self.apply(row.fact, row.at)

    def apply(self, fact: Fact, at: float) -> None:
        """Apply one fact that was recorded at `at` (seconds UTC). Facts that do not affect the state are ignored."""
        match fact:
            case (
                facts.ChunkSending()
                | facts.ChunkAcked()
                | facts.ChunkRefused()
                | facts.ChunkUnknown()
                | facts.ChunkReconciled()
            ):
                self._apply_to_chunk(fact, self._jobs[fact.job_id].chunks, at)
            case facts.SubmitIntended() | facts.SubmitRefused() | facts.SubmitUnknown() | facts.SubmitAccepted():
                self._apply_to_submit(fact, self._jobs[fact.job_id], at)
            case facts.JobCreated():
                self._jobs[fact.job_id] = JobRecord(JobId(fact.job_id))
                self.state.jobs.append(self._jobs[fact.job_id])
            case facts.JobSealed():
                self._jobs[fact.job_id].verified = fact.verified
            case facts.JobPolled():
                self._jobs[fact.job_id].status = fact.status
            case facts.JobSettled():
                job = self._jobs[fact.job_id]
                job.status, job.logs = fact.status, tuple(fact.logs)
            case facts.JobDiscarded():
                self._jobs[fact.job_id].is_discarded = fact.error is None
            case _:
                self._apply_to_push(fact, at)

    def _apply_to_push(self, fact: Fact, at: float) -> None:
        state = self.state
        match fact:
            case facts.PushPlanned():
                state.planned, state.schema, state.started_at = fact, fact.schema, at
                state.known, state.changes, state.notes = fact.known, tuple(fact.changes), tuple(fact.notes)
                state.fingerprints = [fact.fingerprint] if fact.fingerprint else []
            case facts.SessionStarted():
                if fact.fingerprint:
                    state.fingerprints.append(fact.fingerprint)
            case facts.RowsRejected():
                state.rejects = {"rows": fact.rows, "file": fact.file} if fact.rows else None
            case facts.SourceAcked():
                self._jobs[fact.job_id].has_all_rows = True
                # From here the content is certain: every chunk matches the files as they were at this fingerprint.
                state.fingerprints = [fact.fingerprint] if fact.fingerprint else []
                state.sha256 = None if fact.sha256 is None else tuple(fact.sha256)
            case facts.PushRestarted():
                state.restarts += 1
                for job in state.jobs:
                    job.is_abandoned = True
                state.notes += tuple(fact.notes)
                state.drops_duplicates = state.drops_duplicates or fact.drops_duplicates
                state.decodes = state.decodes or fact.decodes
                state.rejects = None
                if fact.schema:
                    state.knows_all_rows = True
                    state.schema, state.changes = fact.schema, tuple(fact.changes)
                    state.known = fact.known or state.known
            case facts.PushFinished() | facts.PushFailed() | facts.PushInterrupted() | facts.PushResolved():
                state.receipt = fact.receipt

    @staticmethod
    def _apply_to_chunk(fact: facts.ChunkFact, chunks: dict[str, ChunkRecord], at: float) -> None:
        match fact:
            case facts.ChunkSending():
                record = chunks.get(fact.chunk_id)
                if record is None:
                    record = chunks[fact.chunk_id] = _record_of(fact)
                # If the source changed, a chunk that is sent again may have different bytes: the latest ones count.
                record.rows, record.source_rows = fact.rows, (fact.first_row, fact.end_row)
                record.payload_bytes, record.digests = fact.payload_bytes, fact.digests
                record.rejected = fact.rejected
                record.state = "sending"
                record.attempts += 1
            case facts.ChunkAcked():
                chunks[fact.chunk_id].state = "acked"
            case facts.ChunkRefused():
                chunks[fact.chunk_id].state = "refused"
            case facts.ChunkUnknown():
                chunks[fact.chunk_id].state = "unknown"
            case facts.ChunkReconciled():
                record = chunks[fact.chunk_id]
                record.state = "acked" if fact.is_present else "absent"
                if not fact.is_final and (not fact.is_present or record.zombie_since is not None):
                    record.zombie_since = at

    def _apply_to_submit(self, fact: facts.SubmitFact, job: JobRecord, at: float) -> None:
        match fact:
            case facts.SubmitIntended():
                job.submit = "intended"
                job.submits += 1
                job.repeats += job.accepted_at is not None
                self.state.submits += 1
            case facts.SubmitRefused():
                job.submit = "none"
            case facts.SubmitUnknown():
                job.submit, job.has_unknown_submit = "unknown", True
            case facts.SubmitAccepted():
                job.submit = "accepted"
                job.accepted_at = at if job.accepted_at is None else job.accepted_at


def _record_of(fact: facts.ChunkSending) -> ChunkRecord:
    return ChunkRecord(
        chunk_id=fact.chunk_id,
        rows=fact.rows,
        source_rows=(fact.first_row, fact.end_row),
        payload_bytes=fact.payload_bytes,
        digests=fact.digests,
        type=fact.type,
    )
