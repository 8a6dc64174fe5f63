"""The end of a push job: from all rows acknowledged to its final status. Needs nothing from the source."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable

from pushengine.errors import (
    JobDeadlineError,
    JobFailedError,
    PushEngineError,
)
from pushengine.journal import facts
from pushengine.journal.state import JobRecord
from pushengine.model import Job, JobId, JobStatus
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.target_table import TargetTable
from pushengine.push.job import JobRunner
from pushengine.push.submission import Submission

_FIRST_POLL_SECONDS = 0.2
_POLL_GROWTH = 1.5
_BUSY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """What happens around the submit of a push while no other push of this engine may submit into the table.

    Attributes:
        find_busy: Returns why this push has to wait: another push has submitted a job of the table that has not ended. Empty if none has.
        finish: Records the end of the push.
        is_held: Whether the caller has the turn already: it ends an earlier push before its own submit.
    """

    find_busy: Callable[[], Awaitable[str]]
    finish: Callable[[], Awaitable[None]]
    is_held: bool = False


async def end_job(context: PushContext, record: JobRecord, turn: Turn) -> None:
    """Verify, submit and poll the job, skipping the steps that are done already.

    Args:
        context: The push.
        record: Its job.
        turn: What happens around the submit.

    Raises:
        PushEngineError: The cause of the failure; the job is left as it is.
    """
    context.drain.check()
    if _is_recorded_as_done(context, record):
        await turn.finish()
        return
    jobs = JobRunner(context)

    table = _TableLock(context)

    async def require_suitable() -> None:
        while reason := await turn.find_busy():
            context.emit_wait(reason)
            await table.pause(_BUSY_SECONDS)
        await TargetTable(context).require_unchanged()

    submission = Submission(jobs, record.job_id, require_suitable)
    async with contextlib.nullcontext() if turn.is_held else table:
        if not await submission.was_accepted_before():
            # Once a submit was sent, the job may be running and its chunk list proves nothing; it was verified before that submit.
            if not record.submits:
                await require_suitable()
                with context.timed("verify"):
                    await jobs.seal(record.job_id)
            with context.timed("submit"):
                await submission.submit()
        with context.timed("poll"):
            await Polling(jobs, submission, record.job_id).run()
        await turn.finish()


class _TableLock:
    """Serializes the submits of one table: the platform rejects parallel ones with 409 (fact sheet 3.2). An async context manager.

    Args:
        context: The push.
    """

    def __init__(self, context: PushContext) -> None:
        self._context = context
        target = context.target
        shared = context.shared
        name = f"{shared.destination.team}/{shared.pool_id}/{target.connection_id or ''}/{target.table}".casefold()
        self._lock = shared.table_locks.setdefault(name, asyncio.Lock())
        self._is_held = False

    async def __aenter__(self) -> None:
        with self._context.announce_when_slow(
            f"another push into table {self._context.target.table} has to finish first"
        ):
            await self._lock.acquire()
        self._is_held = True

    async def __aexit__(self, *_exc: object) -> None:
        self._release()

    async def pause(self, seconds: float) -> None:
        """Wait without the lock: the push that this one waits for may be one of this engine, which needs it to end."""
        was_held = self._is_held
        self._release()
        await self._context.sleep(seconds)
        if was_held:
            await self.__aenter__()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._lock.release()


def _is_recorded_as_done(context: PushContext, record: JobRecord) -> bool:
    """Return whether the journal has the job's final status. The platform is not queried again: it may have forgotten the job.

    Raises:
        JobFailedError: It ended with ERROR or CANCELED.
    """
    if record.status is None or not JobStatus(record.status).is_settled:
        return False
    context.log.emit_events_of(facts.JobSettled(job_id=record.job_id, status=record.status, logs=record.logs))
    _require_done(context, Job(record.job_id, JobStatus(record.status), logs=record.logs))
    return True


def _require_done(context: PushContext, job: Job) -> Job:
    """Return the job if it is DONE.

    Raises:
        JobFailedError: It is ERROR or CANCELED.
    """
    if job.status is JobStatus.DONE:
        return job
    message = "; ".join(job.logs) or "the job has no logs"
    raise JobFailedError(
        f"job {job.id} for table {context.target.table} ended with {job.status.value}: {message}",
        job_id=job.id,
        status=job.status.value,
        server_message=message,
        hint="the table is unchanged; fix the problem named in the logs and push again",
    )


class Polling:
    """Polls a submitted job until its status is final.

    Args:
        jobs: Operations on the job.
        submission: The submit of the job, which is repeated if the job stays NEW.
        job_id: Id of the job.
    """

    def __init__(self, jobs: JobRunner, submission: Submission, job_id: JobId) -> None:
        self._jobs = jobs
        self._context = jobs.context
        self._submission = submission
        self._job_id = job_id
        self._failures = 0

    async def run(self) -> Job:
        """Poll the job until it is DONE.

        Raises:
            JobFailedError: The job ended with ERROR or CANCELED; the error has its logs.
            JobDeadlineError: The status is not final at the deadline; the job keeps running on the platform.
            SubmitOutcomeUnknownError: The job is gone.
            EngineClosedError: The engine drains; the job keeps running on the platform.
        """
        clock, settings, log = self._context.clock, self._context.settings, self._context.log
        deadline = clock.monotonic() + settings.job_deadline_seconds
        interval = _FIRST_POLL_SECONDS
        seen: JobStatus | None = None
        while True:
            job = await self._poll_once(deadline, is_first=seen is None)
            if job is not None and job.status is not seen:
                seen = job.status
                await log.record(facts.JobPolled(job_id=self._job_id, status=seen.value))
            if job is not None and job.status is JobStatus.NEW:
                await self._submission.repeat_if_due()
            if job is not None and job.status.is_settled:
                await log.record(facts.JobSettled(job_id=self._job_id, status=job.status.value, logs=job.logs))
                return _require_done(self._context, job)
            if clock.monotonic() + interval > deadline:
                raise JobDeadlineError(
                    f"job {self._job_id} is {seen.value if seen else 'not readable'} after"
                    f" {settings.job_deadline_seconds:.0f} s",
                    job_id=self._job_id,
                    hint=f"it keeps running on the platform: pushengine jobs show {self._job_id}",
                )
            await self._context.sleep(interval)
            interval = min(interval * _POLL_GROWTH, settings.poll_max_interval_seconds)

    async def _poll_once(self, deadline: float, *, is_first: bool) -> Job | None:
        """Read the job once; return None after a failure that may pass. The deadline bounds how long such failures are tolerated."""
        context = self._context
        slow = context.announce_when_slow(f"no response yet, poll of job {self._job_id}")
        try:
            with slow if is_first else contextlib.nullcontext():
                job = await self._jobs.read_once(self._job_id)
        except PushEngineError as error:
            if error.disposition != "transient":
                raise
            wait = getattr(error, "retry_after_seconds", None) or context.backoff(3 + self._failures)
            self._failures += 1
            wait = min(wait, max(deadline - context.clock.monotonic(), 0.0))
            context.on_retry(f"poll of job {self._job_id}", self._failures, wait, error)
            await context.sleep(wait)
            return None
        self._failures = 0
        context.succeeded()
        return job
