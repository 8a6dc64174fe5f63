"""The submit of a job: at most one takes effect, and every attempt counts against the quota.

A 409 or a lost response does not say what happened (fact sheet 3.2), so the job's status is read. Any status but NEW means that a submit
took effect. NEW means that the same job is submitted again after a wait; it can run at most once. Every attempt spends one submit of
the hour.

A job that stays NEW although its submit was acknowledged is submitted again a few times (`_REPEAT_AFTER_SECONDS`), then only polled. Each
process that takes the push over tries as often: whatever swallowed the submits, or refused them, may be gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeGuard

from pushengine import events
from pushengine.errors import (
    ConflictError,
    NotFoundError,
    PushEngineError,
    RateLimitedError,
    RetriesExhaustedError,
    TableChangedError,
)
from pushengine.journal import facts
from pushengine.model import JobId, JobStatus
from pushengine.pipeline.retry import had_no_effect
from pushengine.push.job import JobRunner
from pushengine.runtime.aio import finish
from pushengine.schema.columns import sent_name

_MAX_SUBMIT_ATTEMPTS = 12
_UNKNOWN_WAIT_SECONDS = 5.0
_REPEAT_AFTER_SECONDS = (30.0, 120.0, 480.0, 1800.0)
"""When a job that is still NEW is submitted again, in seconds after the acknowledgement of its submit, or after this process took over.

The acknowledgement may have come from a proxy between pushengine and the platform; then the job would never run.
"""


def _is_refused_for_rate(error: PushEngineError) -> TypeGuard[RateLimitedError]:
    """Return whether the platform refused a submit because of too many requests. A 429 of the token endpoint does not: nothing was sent."""
    return isinstance(error, RateLimitedError) and not error.is_unsent


class Submission:
    """Submits one job.

    Args:
        jobs: Operations on the job.
        job_id: Id of the job.
        require_suitable: Called before each attempt; raises `TableChangedError` if the rows no longer suit the table.
    """

    def __init__(self, jobs: JobRunner, job_id: JobId, require_suitable: Callable[[], Awaitable[None]]) -> None:
        self._jobs = jobs
        self._context = jobs.context
        self._limiter = jobs.context.shared.limiter
        self._log = jobs.context.log
        self._job_id = job_id
        self._operation = f"submit of job {job_id}"
        self._require_suitable = require_suitable
        self._repeats = 0
        self._is_only_polled = False

    async def submit(self) -> None:
        """Submit the job under the quota, with as many attempts as needed (at most `_MAX_SUBMIT_ATTEMPTS`).

        Raises:
            JobVanishedError: The job is gone, and no submit of this push can have run it.
            TableChangedError: Another push has changed the table; the job will not run.
            SubmitOutcomeUnknownError: The job is gone after an attempt whose outcome is unknown.
            RetriesExhaustedError: No attempt was accepted.
            EngineClosedError: The engine drains while the submit waits.
        """
        start = self._context.clock.monotonic()
        last_error: PushEngineError | None = None
        for attempt in range(1, _MAX_SUBMIT_ATTEMPTS + 1):
            self._context.drain.check()
            if await self._has_run_although_unsuitable():
                return
            await self._context.drain.guard(
                self._limiter.acquire(
                    lambda *wait: self._context.emit_quota_wait(self._job_id, *wait),
                    self._emit_correction,
                    priority=self._context.place.priority,
                )
            )
            is_accepted, last_error = await self._submit_once(attempt)
            if is_accepted:
                self._limiter.accepted()
                await self._log.record(facts.SubmitAccepted(job_id=self._job_id))
                return
        reason = "" if last_error is None else f", last error: {last_error.message}"
        is_busy = last_error is None or isinstance(last_error, ConflictError) or _is_refused_for_rate(last_error)
        raise RetriesExhaustedError(
            f"{self._operation} was not accepted in {_MAX_SUBMIT_ATTEMPTS} attempts{reason}",
            attempts=_MAX_SUBMIT_ATTEMPTS,
            elapsed_seconds=self._context.clock.monotonic() - start,
            hint="other tools of the team may be submitting" if is_busy else last_error.hint if last_error else "",
        ) from last_error

    async def _has_run_although_unsuitable(self) -> bool:
        """Require that the rows still suit the table, before another attempt is made.

        Returns:
            Whether an earlier attempt turned out to have been accepted, so that there is nothing left to decide.

        Raises:
            TableChangedError: They do not, and no attempt can take effect anymore.
        """
        try:
            await self._require_suitable()
        except TableChangedError:
            if not self._log.state.job_of(self._job_id).may_have_run:
                raise
            # An attempt without a response may still arrive, but not after the quarantine.
            wait = self._context.settings.quarantine_seconds
            self._context.emit_wait(
                "the table has changed; waiting until an earlier submit can no longer take effect", wait
            )
            await self._context.sleep(wait)
            if await self._has_left_new():
                await self._log.record(facts.SubmitAccepted(job_id=self._job_id))
                return True
            await self._jobs.discard(self._job_id)
            raise
        return False

    async def was_accepted_before(self) -> bool:
        """Whether a submit of an earlier process was accepted. If the journal does not say, the job's status decides."""
        record = self._log.state.job_of(self._job_id)
        if not record.may_have_run:
            return False
        if record.accepted_at is None:
            if not await self._has_left_new():
                error = "the process ended before the response"
                await self._log.record(facts.SubmitUnknown(job_id=self._job_id, error=error))
                return False
            await self._log.record(facts.SubmitAccepted(job_id=self._job_id))
        return True

    async def _submit_once(self, attempt: int) -> tuple[bool, PushEngineError | None]:
        """Make one attempt. If it fails, check the job if necessary, and wait as the failure requires."""
        await self._intend()
        try:
            await self._send()
        except PushEngineError as error:
            return await self._decide(attempt, error), error
        return True, None

    async def _intend(self) -> None:
        try:
            await self._log.record(facts.SubmitIntended(job_id=self._job_id))
        except asyncio.CancelledError:  # the fact is recorded, but the request was not sent
            refused = facts.SubmitRefused(job_id=self._job_id, error="cancelled before it was sent")
            await finish(self._log.record(refused))
            raise

    async def _send(self) -> None:
        with self._context.announce_when_slow(f"no response yet, {self._operation}"):
            order_by = self._context.target.duplicate_removal_column
            if order_by is not None:
                order_by = sent_name(self._log.state.schema, order_by)
            await self._context.destination.submit_job(self._job_id, duplicate_removal_column=order_by)
        self._context.succeeded()

    async def _decide(self, attempt: int, error: PushEngineError) -> bool:
        """Return whether a failed attempt was accepted after all; if not, wait as the failure requires."""
        refused = facts.SubmitRefused(job_id=self._job_id, error=error.message)
        if isinstance(error, ConflictError):
            wait = self._context.settings.conflict_wait_seconds * self._context.rng.uniform(0.5, 1.5)
            if await self._is_accepted_after_all(attempt, error, wait):
                return True
            await self._log.record(refused)
            return False
        if not had_no_effect(error):
            await self._log.record(facts.SubmitUnknown(job_id=self._job_id, error=error.message))
            wait = _UNKNOWN_WAIT_SECONDS + self._context.backoff(attempt)
            return await self._is_accepted_after_all(attempt, error, wait)
        await self._log.record(refused)
        if isinstance(error, NotFoundError):
            return await self._is_accepted_although_missing(attempt, error)
        if error.disposition == "terminal":
            raise error
        if _is_refused_for_rate(error):
            wait = await self._block_submits(error)
            self._context.on_retry(self._operation, attempt, wait, error)
            return False
        wait = self._context.backoff(attempt) + (getattr(error, "retry_after_seconds", None) or 0.0)
        await self._wait_before_resubmit(attempt, error, wait)
        # Wait with reads for the end of an outage: each submit spends one of the hour.
        return await self._has_left_new()

    async def _is_accepted_although_missing(self, attempt: int, error: NotFoundError) -> bool:
        """Whether a job that this submit did not find was submitted before. One 404 does not prove that it is gone.

        Raises:
            JobVanishedError: No submit can have run it, so that the push can start again, whether it is gone or not.
            SubmitOutcomeUnknownError: It is gone.
        """
        if not self._log.state.job_of(self._job_id).may_have_run:
            raise self._jobs.vanished(self._job_id) from error
        return await self._is_accepted_after_all(attempt, error, _UNKNOWN_WAIT_SECONDS)

    async def _block_submits(self, error: RateLimitedError) -> float:
        """Block all submits of this host for as long as a 429 requires; return the time in seconds."""
        with self._announce_locked_ledger():
            return await self._limiter.refused(error.retry_after_seconds)

    async def _is_accepted_after_all(self, attempt: int, error: PushEngineError, wait: float) -> bool:
        """Whether a submit with an unknown outcome took effect: the job has left NEW, now or after `wait` seconds.

        The wait is the time that a late effect may take.
        """
        if await self._has_left_new():
            return True
        await self._wait_before_resubmit(attempt, error, wait)
        return await self._has_left_new()

    async def _has_left_new(self) -> bool:
        return (await self._jobs.read(self._job_id)).status is not JobStatus.NEW

    async def _wait_before_resubmit(self, attempt: int, error: PushEngineError, wait: float) -> None:
        self._context.on_retry(self._operation, attempt, wait, error)
        await self._context.sleep(wait)

    def _announce_locked_ledger(self) -> contextlib.AbstractContextManager[None]:
        return self._context.announce_when_slow("another process has the quota ledger locked")

    def _emit_correction(self, message: str) -> None:
        self._context.emit(
            events.QuotaLedgerCorrected(push_id=self._context.push_id, job_id=self._job_id, message=message)
        )

    async def repeat_if_due(self) -> None:
        """Submit a job again that is still NEW although its submit was acknowledged, if the next repeat is due.

        Its outcome shows in later polls.
        """
        record = self._log.state.job_of(self._job_id)
        if record.accepted_at is None:
            return
        elapsed = self._log.seconds_since(record.accepted_at)
        if self._repeats == len(_REPEAT_AFTER_SECONDS):
            if not self._is_only_polled:
                self._is_only_polled = True
                self._emit_stayed_new(elapsed, is_submitted_again=False)
            return
        if elapsed < _REPEAT_AFTER_SECONDS[self._repeats]:
            return
        with self._announce_locked_ledger():
            is_granted = await self._limiter.try_acquire(self._emit_correction, priority=self._context.place.priority)
        if not is_granted:
            return
        self._repeats += 1
        self._emit_stayed_new(elapsed, is_submitted_again=True)
        await self._intend()
        try:
            await self._send()
        except PushEngineError as error:
            is_refused = had_no_effect(error) and not isinstance(error, NotFoundError)
            kind = facts.SubmitRefused if is_refused else facts.SubmitUnknown
            await self._log.record(kind(job_id=self._job_id, error=error.message))
            if _is_refused_for_rate(error):
                await self._block_submits(error)
        else:
            self._limiter.accepted()
            await self._log.record(facts.SubmitAccepted(job_id=self._job_id))

    def _emit_stayed_new(self, seconds: float, *, is_submitted_again: bool) -> None:
        self._context.emit(
            events.JobStayedNew(
                push_id=self._context.push_id,
                job_id=self._job_id,
                seconds=seconds,
                submits=self._log.state.submits,
                is_submitted_again=is_submitted_again,
            )
        )
