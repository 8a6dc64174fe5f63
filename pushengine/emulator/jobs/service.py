r"""The state machine of push jobs: which requests each status allows, and what each request changes.

    NEW --submit--> QUEUED --> RUNNING --> DONE | ERROR
     \--age, delete--> gone               \--delete--> gone

Nothing here does I/O or waits: the server calls a method, gets a decision and carries it out. Every method runs on the
event loop and never awaits, so no other request can interleave with it.
"""

import logging
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pushengine.emulator.auth import Authenticator
from pushengine.emulator.jobs.model import Chunk, ChunkType, FileColumn, Job, JobStatus, JsonStyle
from pushengine.emulator.jobs.pools import Pools
from pushengine.emulator.jobs.quota import SubmitQuota, Verdict
from pushengine.emulator.jobs.requests import parse_job
from pushengine.emulator.refusals import Refusal, gateway, invalid_file, not_found, refusal
from pushengine.emulator.settings import EmulatorSettings

_log = logging.getLogger("pushengine.emulator")


class EmulatorService:
    """The jobs, the submit quota and the authentication of one emulated team.

    Attributes:
        jobs: Every existing job, by id, oldest first.
        created: Number (from 1) and table of every job ever created, by id.
        garbage: Spool files that are no longer needed; the server deletes them.
        pools: The pools, and the schemas of their tables.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self.settings = settings
        self.jobs: dict[str, Job] = {}
        self.created: dict[str, tuple[int, str]] = {}
        self.garbage: list[Path] = []
        self.authenticator = Authenticator(settings)
        self.quota = SubmitQuota(
            per_second=settings.submits_per_second,
            per_hour=settings.submits_per_hour,
            refused_count=settings.refused_submits_count,
            now=settings.now,
        )
        self.style = JsonStyle(settings.datetime_format)
        self.pools = Pools(settings)

    # Jobs

    def create(self, pool_id: str, body: Any) -> Job:
        """Create a job from the body of a create request."""
        now = self.settings.now()
        spec = parse_job(body, pool_id, self.settings.connection_ids)
        job = Job(id=str(uuid.uuid4()), pool_id=pool_id, spec=spec, created_at=now, last_modified=now)
        self.jobs[job.id] = job
        self.created[job.id] = (len(self.created) + 1, job.spec.target_name)
        self.pools.see(pool_id)
        _log.info("job_created job_id=%s table=%s type=%s", job.id, job.spec.target_name, job.spec.type)
        return job

    def schema_name(self, job: Job) -> str:
        """Return the DuckDB schema of a job's table."""
        return self.pools.schema_of(job.pool_id, job.spec.connection_id)

    def list_jobs(self, pool_id: str) -> list[Job]:
        """Return every job of the pool, oldest first."""
        self._expire()
        return [job for job in self.jobs.values() if job.pool_id == pool_id]

    def get(self, pool_id: str, job_id: str) -> Job:
        """Return the job, or raise a Refusal with 404."""
        self._expire()
        job = self.jobs.get(job_id)
        if job is None or job.pool_id != pool_id:
            raise not_found(f"Push job {job_id}")
        return job

    def delete(self, pool_id: str, job_id: str) -> None:
        """Delete a job and its chunks.

        A QUEUED or RUNNING job cannot be deleted. The effect on a NEW job depends on the setting `delete_unsubmitted`.
        """
        job = self.get(pool_id, job_id)
        effect = self.settings.delete_unsubmitted if job.status is JobStatus.NEW else "remove"
        if job.status.is_at_work or effect == "refuse":
            raise _conflict(f"Push job {job_id} is {job.status} and cannot be deleted.")
        if effect == "cancel":
            self._set_status(job, JobStatus.CANCELED)
        if effect == "remove":
            self._forget(job)

    def vanish(self, job_id: str, *, runs: bool) -> None:
        """Make a job disappear in any status; with `runs`, an execution in progress still loads its rows."""
        job = self.jobs.get(job_id)
        if job is None:
            return
        if not job.status.is_at_work:
            self._forget(job)
            return
        del self.jobs[job_id]  # its files stay: they are needed until the execution has ended
        job.is_lost = not runs

    def team_limits(self) -> dict[str, Any]:
        """Return the submit limits, as fields of the team object."""
        return {
            "dataPushJobSubmissionLimitPerSec": self.settings.submits_per_second,
            "dataPushJobSubmissionLimitPerHour": self.settings.submits_per_hour,
            "unlimitedDataPushJobSubmissions": False,
        }

    # Chunks

    def check_upload(self, pool_id: str, job_id: str, chunk_type: ChunkType) -> Job:
        """Return the job if it accepts a chunk of this type now; raise a Refusal otherwise."""
        job = self.get(pool_id, job_id)
        if job.status is not JobStatus.NEW:
            raise _conflict(f"Push job {job_id} is {job.status}; chunks can only be added while it is NEW.")
        if chunk_type is ChunkType.DELETE and (job.spec.type != "DELTA" or not job.spec.keys):
            raise refusal(400, "Deleting is only possible for DELTA jobs with keys.", "Delete only possible for delta")
        return job

    def add_chunk(
        self,
        pool_id: str,
        job_id: str,
        chunk_type: ChunkType,
        *,
        path: Path,
        columns: tuple[FileColumn, ...],
        size_bytes: int,
        checksum: str | None,
    ) -> Chunk:
        """Add an uploaded and validated file to its job, after checking again: the job may have changed during the upload."""
        job = self.check_upload(pool_id, job_id, chunk_type)
        _check_same_schema(job, chunk_type, columns)
        now = self.settings.now()
        chunk = Chunk(
            id=str(uuid.uuid4()),
            type=chunk_type,
            path=path,
            columns=columns,
            size_bytes=size_bytes,
            checksum=checksum or secrets.token_hex(16),
            created_at=now,
        )
        job.chunks.append(chunk)
        job.first_chunks.setdefault(chunk_type, chunk)
        job.last_modified = now
        _log.info("chunk_added job_id=%s chunk_id=%s bytes=%d", job_id, chunk.id, size_bytes)
        return chunk

    def list_chunks(self, pool_id: str, job_id: str, page: int = 0) -> list[Chunk]:
        """Return the chunks that the chunk list of a job already shows, or one page of them; pages count from 0."""
        visible_until = self.settings.now() - self.settings.chunk_list_lag_seconds
        visible = [chunk for chunk in self.get(pool_id, job_id).chunks if chunk.created_at <= visible_until]
        page_size = self.settings.chunk_list_page_size
        return visible if page_size is None else visible[page * page_size : (page + 1) * page_size]

    # Submit and execution

    def spend_submit(self) -> Verdict:
        """Count a submit that arrives now; the quota is checked before the job."""
        return self.quota.admit()

    def release_submit(self, verdict: Verdict) -> Verdict:
        """Undo the count of a submit that failed within quota, unless `failed_submits_count` is set; return its verdict."""
        return verdict if self.settings.failed_submits_count else self.quota.release(verdict)

    def refuse_submit(self, verdict: Verdict) -> Refusal:
        """Build the 429 for a submit over quota: empty, as documented, or a gateway error if `rate_limit_headers` is set."""
        _log.info("submit_refused reset_seconds=%d", verdict.reset_seconds)
        if not self.settings.rate_limit_headers:
            return Refusal(429)
        until = self.style.time(self.settings.now() + verdict.reset_seconds)
        detail = f"The rate limit is exceeded. Retry at {until}."
        refused = gateway(429, "Too Many Requests", detail, "LIMIT_RATE_EXCEEDED")
        refused.headers["Retry-After"] = str(verdict.reset_seconds)
        return refused

    def submit(self, pool_id: str, job_id: str, duplicate_removal_column: str | None) -> Job | None:
        """Queue a job and return it for execution; return None if it is not NEW and the submit has no effect."""
        job = self.get(pool_id, job_id)
        job.submits += 1
        if job.status is not JobStatus.NEW and not self._may_run_again(job):
            if self.settings.resubmit != "conflict":
                return None
            raise _conflict(f"Push job {job_id} is {job.status}; only a NEW job can be executed.")
        if self.settings.conflict_scope == "table" and self._table_is_busy(job):
            raise _conflict(f"Another push job is writing the table {job.spec.target_name}.")
        job.duplicate_removal_column = duplicate_removal_column or None
        job.runs += 1
        self._set_status(job, JobStatus.QUEUED)
        return job

    def begin(self, job: Job) -> None:
        """Record that the job has left the queue and is RUNNING."""
        self._set_status(job, JobStatus.RUNNING)

    def finish(self, job: Job, status: JobStatus, logs: Sequence[str]) -> None:
        """Record the end of a job; its chunk files become garbage unless the settings allow it to run again."""
        job.logs.extend(logs)
        self._set_status(job, status)
        if self.settings.resubmit != "rerun":
            self.garbage.extend(chunk.path for chunk in job.chunks)

    def discard(self, job: Job) -> None:
        """Discard the chunk files of a lost job, which is not executed."""
        _log.info("job_lost job_id=%s", job.id)
        self.garbage.extend(chunk.path for chunk in job.chunks)

    def take_garbage(self) -> list[Path]:
        """Return the spool files that the caller must delete now."""
        garbage, self.garbage = self.garbage, []
        return garbage

    def _may_run_again(self, job: Job) -> bool:
        return self.settings.resubmit == "rerun" and not job.status.is_at_work

    def _table_is_busy(self, job: Job) -> bool:
        return any(
            other is not job and other.status.is_at_work and other.target == job.target for other in self.jobs.values()
        )

    def _set_status(self, job: Job, status: JobStatus) -> None:
        job.previous_status, job.status = job.status, status
        job.last_modified = self.settings.now()
        _log.info("job_status_changed job_id=%s status=%s", job.id, status)

    def _expire(self) -> None:
        oldest = self.settings.now() - self.settings.unsubmitted_job_ttl_seconds
        expired = [job for job in self.jobs.values() if job.status is JobStatus.NEW and self._age_from(job) <= oldest]
        for job in expired:
            self._forget(job)

    def _age_from(self, job: Job) -> float:
        return job.created_at if self.settings.unsubmitted_job_ttl_from == "created" else job.last_modified

    def _forget(self, job: Job) -> None:
        del self.jobs[job.id]
        self.garbage.extend(chunk.path for chunk in job.chunks)


def _conflict(message: str) -> Refusal:
    return refusal(409, message, "Conflict")


def _check_same_schema(job: Job, chunk_type: ChunkType, columns: tuple[FileColumn, ...]) -> None:
    """Check that chunks of one type have the same schema, and that all chunks agree on the types of shared columns."""
    incoming = {column.name: column.type for column in columns}
    for chunk in job.first_chunks.values():
        earlier = {column.name: column.type for column in chunk.columns}
        if chunk.type is chunk_type and list(earlier.items()) != list(incoming.items()):
            raise invalid_file(
                f"The schema of the file differs from that of chunk {chunk.id}: {_difference(earlier, incoming)}"
            )
        for name in earlier.keys() & incoming.keys():
            if earlier[name] is not incoming[name]:
                raise invalid_file(
                    f"Column '{name}' is {incoming[name]} in this file and {earlier[name]} in chunk {chunk.id}."
                )


def _difference(earlier: dict[str, Any], incoming: dict[str, Any]) -> str:
    missing, extra = [n for n in earlier if n not in incoming], [n for n in incoming if n not in earlier]
    changed = [n for n in incoming if n in earlier and earlier[n] is not incoming[n]]
    if not (missing or extra or changed):
        return "the columns are in a different order."
    return f"missing {missing}, additional {extra}, changed type {changed}."
