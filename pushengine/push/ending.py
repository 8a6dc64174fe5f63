"""The end of a push job: from all rows acknowledged to its final status. Needs nothing from the source."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pushengine.errors import (
    JobDeadlineError,
    JobFailedError,
    NotFoundError,
    PushEngineError,
    UnexpectedResponseError,
)
from pushengine.journal import facts
from pushengine.journal.state import JobRecord
from pushengine.model import Job, JobId, JobStatus
from pushengine.pipeline.context import PushContext
from pushengine.push.job import JobRunner
from pushengine.push.submission import Submission

_FIRST_POLL_SECONDS = 0.2
_POLL_GROWTH = 1.5


async def end_job(context: PushContext, record: JobRecord) -> Job:
    """Verify, submit and poll the job, skipping the steps that are done already.

    Raises:
        PushEngineError: The cause of the failure; the job is left as it is.
    """
    context.drain.check()
    final = _recorded_final_job(context, record)
    if final is not None:
        return final
    jobs = JobRunner(context)
    submission = Submission(jobs, record.job_id)
    async with _submit_turn(context):
        if not await submission.was_accepted_before():
            # Once a submit was sent, the job may be running and its chunk list proves nothing; it was verified before that submit.
            if not record.submits:
                with context.timed("verify"):
                    await jobs.seal(record.job_id)
            with context.timed("submit"):
                await submission.submit()
        with context.timed("poll"):
            return await Polling(jobs, submission, record.job_id).run()


@contextlib.asynccontextmanager
async def _submit_turn(context: PushContext) -> AsyncIterator[None]:
    """Serialize the submits of one table: the platform rejects parallel ones with 409 (fact sheet 3.2)."""
    target = context.target
    name = f"{target.connection_id or ''}/{target.table}".casefold()
    lock = context.shared.table_locks.setdefault(name, asyncio.Lock())
    with context.announce_when_slow(f"another push into table {target.table} has to finish first"):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _recorded_final_job(context: PushContext, record: JobRecord) -> Job | None:
    """Return the job if the journal has its final status. The platform is not queried again: it may have forgotten the job.

    Raises:
        JobFailedError: It ended with ERROR or CANCELED.
    """
    if record.status is None or not JobStatus(record.status).is_settled:
        return None
    context.log.emit_events_of(facts.JobSettled(job_id=record.job_id, status=record.status, logs=record.logs))
    return _require_done(context, Job(record.job_id, JobStatus(record.status), logs=record.logs))


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
                return await context.destination.get_job(self._job_id)
        except NotFoundError as error:
            raise self._jobs.vanished(self._job_id) from error
        except PushEngineError as error:
            if error.disposition == "terminal" and not isinstance(error, UnexpectedResponseError):
                raise
            wait = getattr(error, "retry_after_seconds", None) or context.backoff(3)
            wait = min(wait, max(deadline - context.clock.monotonic(), 0.0))
            context.on_retry(f"poll of job {self._job_id}", 1, wait, error)
            await context.sleep(wait)
            return None
