"""The state of a push as a fold over its facts: what a crash left, what a resume starts from, what `pushengine show` tells.

Facts and what they carry (besides push_id and time):

```
push_planned     target, source, recipe, fingerprint, schema        the push begins; nothing was sent
session_started  pid, resumed, fingerprint?                         a process works on it from here on; its files, if they look touched
job_intended                                                        a create is about to leave
job_created      job_id
chunk_sending    job_id, chunk_id, rows, first_row, end_row, payload_bytes, digests, type     an upload is about to leave
chunk_acked      job_id, chunk_id                                   the platform answered that it has it
chunk_refused    job_id, chunk_id, error                            it proved that it has not
chunk_unknown    job_id, chunk_id, error                            no answer: it may have it
chunk_settled    job_id, chunk_id, is_present, how                  the job's chunk list decided it
source_acked     job_id, rows, fingerprint, sha256                  all rows are acknowledged; digests of the files, or null
job_sealed       job_id, chunks, verified                           the list equals what was sent
submit_intended  job_id                                             a submit is about to leave; spends quota
submit_refused   job_id, error                                      it certainly had no effect
submit_unknown   job_id, error
submit_accepted  job_id
job_polled       job_id, status
job_settled      job_id, status, logs
job_discarded    job_id, error                                      deleted, or the deletion failed
push_restarted   reason, schema?                                    a fresh job follows
push_finished    receipt
push_failed      error, error_type, receipt
push_interrupted receipt
push_superseded  reason                                             the source changed: another push took its place
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pushengine.journal.facts import Fact
from pushengine.model import ChunkType, JobId, SentChunk

ChunkState = Literal["sending", "acked", "refused", "unknown", "absent"]
SubmitState = Literal["none", "intended", "unknown", "accepted"]


@dataclasses.dataclass(slots=True)
class ChunkRecord:
    """One chunk of one job.

    Attributes:
        state: `sending` after a crash means that the outcome is unknown.
        attempts: Uploads that left, or were about to.
        zombie_since: When an attempt without an answer was last seen not to have arrived and the chunk was sent again, or None: until its
            quarantine is over, the old attempt may still arrive as a duplicate.
    """

    chunk_id: str
    rows: int
    source_rows: tuple[int, int]
    payload_bytes: int
    digests: Mapping[str, str]
    type: ChunkType
    state: ChunkState = "sending"
    attempts: int = 0
    zombie_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the job holds it is not known."""
        return self.state in ("sending", "unknown")

    def as_sent(self) -> SentChunk:
        """What the manifest needs."""
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
        is_whole: Every row of the source is acknowledged.
        verified: How its chunk list was compared with what was sent before submit, or None: that was not done yet.
        submits: Submits that left, or were about to.
        accepted_at: When the platform took the first submit that counts, seconds UTC, or None.
        repeats: Submits since then, because the job stayed NEW.
        is_discarded: It is deleted.
        is_abandoned: The push went on without it: even if its deletion failed, it is never used again.
    """

    job_id: JobId
    chunks: dict[str, ChunkRecord] = dataclasses.field(default_factory=dict)
    is_whole: bool = False
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
        """A submit left whose refusal is not known: the job is not ours to delete."""
        return self.submit != "none" or self.has_unknown_submit or self.accepted_at is not None

    @property
    def is_complete(self) -> bool:
        """All chunks of the source are acknowledged: what is left is to look, submit and poll."""
        return self.is_whole or self.verified is not None or self.may_have_run

    @property
    def acked(self) -> list[ChunkRecord]:
        """Chunks that the job holds, in the order of the source."""
        acked = [chunk for chunk in self.chunks.values() if chunk.state == "acked"]
        return sorted(acked, key=lambda chunk: chunk.source_rows)

    def resume_point(self) -> tuple[int, int]:
        """Number of the first chunk that the job may lack, and the row that it begins with: all rows before are acknowledged."""
        index = row = covered = 0
        for chunk in self.acked:
            if chunk.source_rows[0] != covered:
                break
            covered = chunk.source_rows[1]
            if "." not in chunk.chunk_id:  # between the parts of a split chunk no reading can begin
                index, row = int(chunk.chunk_id) + 1, covered
        return index, row

    @property
    def quarantined_since(self) -> float | None:
        """When the job was last seen without an attempt that may still arrive, or None."""
        return max((c.zombie_since for c in self.chunks.values() if c.zombie_since is not None), default=None)


@dataclasses.dataclass(slots=True)
class PushState:
    """Where a push stands.

    Attributes:
        fingerprints: Of the files as each process found them that sent chunks of them; none for objects in memory.
        sha256: Of the content of each file that was sent, or None where that is not known (yet).
    """

    planned: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    jobs: list[JobRecord] = dataclasses.field(default_factory=list)
    restarts: int = 0
    submits: int = 0
    started_at: float | None = None
    receipt: Mapping[str, Any] | None = None
    fingerprints: list[list[list[Any]]] = dataclasses.field(default_factory=list)
    sha256: tuple[str, ...] | None = None

    @property
    def job(self) -> JobRecord | None:
        """The job that the push works with, or None between two."""
        last = self.jobs[-1] if self.jobs else None
        return None if last is None or last.is_discarded or last.is_abandoned else last

    @property
    def may_have_run(self) -> bool:
        """A submit of its job left whose refusal is not known: the push is ended from its own journal, whatever became of its source."""
        return self.job is not None and self.job.may_have_run

    @property
    def is_done(self) -> bool:
        """It got to DONE, although perhaps nobody was told."""
        return self.receipt is not None and self.receipt["status"] == "DONE"

    def job_of(self, job_id: str) -> JobRecord:
        """The record of one job."""
        return next(job for job in reversed(self.jobs) if job.job_id == job_id)

    def chunk_of(self, job_id: str, chunk_id: str) -> ChunkRecord:
        """The record of one chunk."""
        return self.job_of(job_id).chunks[chunk_id]


class PushHistory:
    """The fold: apply facts in order, read `state`. Live pushes and resumed ones go through the same code."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self.state = PushState()
        self._jobs: dict[str, JobRecord] = {}
        for fact in facts:
            self.apply(fact.kind, fact.at, fact.body)

    def apply(self, kind: str, at: float, body: Mapping[str, Any]) -> None:
        """Take one fact; kinds that change no state (and those of newer versions) are passed over."""
        handler = _HANDLERS.get(kind)
        if handler is not None:
            handler(self.state, self._jobs, at, body)


def _planned(state: PushState, _jobs: dict[str, JobRecord], at: float, body: Mapping[str, Any]) -> None:
    state.planned, state.schema, state.started_at = body, body["schema"], at
    state.fingerprints = [body["fingerprint"]] if body.get("fingerprint") else []


def _session(state: PushState, _jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    if body.get("fingerprint"):
        state.fingerprints.append(body["fingerprint"])


def _job_created(state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]] = JobRecord(JobId(body["job_id"]))
    state.jobs.append(jobs[body["job_id"]])


def _chunk_sending(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    chunks = jobs[body["job_id"]].chunks
    record = chunks.get(body["chunk_id"])
    if record is None:
        record = chunks[body["chunk_id"]] = ChunkRecord(
            chunk_id=body["chunk_id"],
            rows=body["rows"],
            source_rows=(body["first_row"], body["end_row"]),
            payload_bytes=body["payload_bytes"],
            digests=body["digests"],
            type=body["type"],
        )
    # What is sent again may have other bytes than before, where its source changed: these are the ones that count now.
    record.rows, record.source_rows = body["rows"], (body["first_row"], body["end_row"])
    record.payload_bytes, record.digests = body["payload_bytes"], body["digests"]
    record.state = "sending"
    record.attempts += 1


def _chunk_acked(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].chunks[body["chunk_id"]].state = "acked"


def _chunk_refused(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].chunks[body["chunk_id"]].state = "refused"


def _chunk_unknown(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].chunks[body["chunk_id"]].state = "unknown"


def _chunk_settled(_state: PushState, jobs: dict[str, JobRecord], at: float, body: Mapping[str, Any]) -> None:
    record = jobs[body["job_id"]].chunks[body["chunk_id"]]
    record.state = "acked" if body["is_present"] else "absent"
    if not body["is_present"] or record.zombie_since is not None:
        record.zombie_since = at


def _source_acked(state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].is_whole = True
    state.fingerprints = (
        [body["fingerprint"]] if body["fingerprint"] else []
    )  # by now they are known to have had one content
    state.sha256 = None if body["sha256"] is None else tuple(body["sha256"])


def _sealed(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].verified = body["verified"]


def _submit_intended(state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    job = jobs[body["job_id"]]
    job.submit = "intended"
    job.submits += 1
    job.repeats += job.accepted_at is not None
    state.submits += 1


def _submit_refused(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].submit = "none"


def _submit_unknown(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    job = jobs[body["job_id"]]
    job.submit, job.has_unknown_submit = "unknown", True


def _submit_accepted(_state: PushState, jobs: dict[str, JobRecord], at: float, body: Mapping[str, Any]) -> None:
    job = jobs[body["job_id"]]
    job.submit = "accepted"
    job.accepted_at = at if job.accepted_at is None else job.accepted_at


def _job_polled(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].status = body["status"]


def _job_settled(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    job = jobs[body["job_id"]]
    job.status, job.logs = body["status"], tuple(body["logs"])


def _job_discarded(_state: PushState, jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    jobs[body["job_id"]].is_discarded = body["error"] is None


def _restarted(state: PushState, _jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    state.restarts += 1
    for job in state.jobs:
        job.is_abandoned = True
    state.schema = body.get("schema") or state.schema


def _ended(state: PushState, _jobs: dict[str, JobRecord], _at: float, body: Mapping[str, Any]) -> None:
    state.receipt = body["receipt"]


_HANDLERS = {
    "push_planned": _planned,
    "session_started": _session,
    "job_created": _job_created,
    "chunk_sending": _chunk_sending,
    "chunk_acked": _chunk_acked,
    "chunk_refused": _chunk_refused,
    "chunk_unknown": _chunk_unknown,
    "chunk_settled": _chunk_settled,
    "source_acked": _source_acked,
    "job_sealed": _sealed,
    "submit_intended": _submit_intended,
    "submit_refused": _submit_refused,
    "submit_unknown": _submit_unknown,
    "submit_accepted": _submit_accepted,
    "job_polled": _job_polled,
    "job_settled": _job_settled,
    "job_discarded": _job_discarded,
    "push_restarted": _restarted,
    "push_finished": _ended,
    "push_failed": _ended,
    "push_interrupted": _ended,
}
