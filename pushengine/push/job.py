"""The life of one push job: create, verify, submit under the quota, poll to the end.

The rules for submit (fact sheet 3.2): a 409 or a lost answer says nothing about what happened, so the job's status is read. Anything
but NEW means that a submit took effect; NEW means wait and submit the same job again, which can run at most once. Every attempt
spends a submit of the hour.

An acknowledgement is believed, but not for ever: what stands between here and there may have given it, and nobody would ever load the
table. A job that stays NEW is submitted again a few times (`_REPEAT_AFTER_SECONDS`), then only polled.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

from pushengine import events
from pushengine.errors import (
    ConflictError,
    JobDeadlineError,
    JobFailedError,
    JobVanishedError,
    NotFoundError,
    PushEngineError,
    RateLimitedError,
    RetriesExhaustedError,
    SubmitOutcomeUnknownError,
    UnexpectedResponseError,
    VerificationError,
)
from pushengine.events import EventSink
from pushengine.interfaces import Destination
from pushengine.journal.push_log import PushLog
from pushengine.model import Job, JobId, JobStatus, RemoteChunk, TableColumn, Target
from pushengine.pipeline.retry import RetryPolicy, call_with_retries, is_undone
from pushengine.pipeline.verification import verify_chunks
from pushengine.quota.limiter import SubmitLimiter
from pushengine.runtime.aio import SILENT_SECONDS, finish, told_when_slow
from pushengine.runtime.clock import Clock
from pushengine.runtime.drain import DrainSwitch

T = TypeVar("T")

_FIRST_POLL_SECONDS = 0.2
_POLL_GROWTH = 1.5
_MAX_SUBMIT_ATTEMPTS = 12
_DELETE_TIMEOUT_SECONDS = 10.0
_UNKNOWN_SETTLE_SECONDS = 5.0
_LOOKS = 6
_CREATE_ATTEMPTS = 5
_REPEAT_AFTER_SECONDS = (30.0, 120.0, 480.0, 1800.0)
"""How long after the acknowledgement of its submit a job that is still NEW is submitted again."""


class JobRunner:
    """Takes one push through its job.

    Args:
        destination: Where the job lives.
        limiter: The team's submit quota.
        target: Table, mode and keys.
        policy: Retries of calls that are safe to repeat.
        clock: Waits and measures.
        rng: Jitter.
        drain: Interrupts waits.
        log: Intents before, outcomes after.
        sink: Takes events.
        on_retry: Told of each wait before another attempt.
        conflict_wait_seconds: Wait after a 409 while the job is still NEW.
        poll_max_interval_seconds: Longest wait between two polls.
        job_deadline_seconds: How long a submitted job is awaited.
        quarantine_seconds: How long an upload without an answer, that was sent again, may still arrive.
        settle_seconds: How long the server may take to list what it has acknowledged.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        limiter: SubmitLimiter,
        target: Target,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        drain: DrainSwitch,
        log: PushLog,
        sink: EventSink,
        on_retry: Callable[[str, int, float, PushEngineError], None],
        conflict_wait_seconds: float,
        poll_max_interval_seconds: float,
        job_deadline_seconds: float,
        quarantine_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._destination = destination
        self._limiter = limiter
        self._target = target
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._drain = drain
        self._log = log
        self._push_id = log.push_id
        self._sink = sink
        self._on_retry = on_retry
        self._conflict_wait_seconds = conflict_wait_seconds
        self._poll_max_interval_seconds = poll_max_interval_seconds
        self._job_deadline_seconds = job_deadline_seconds
        self._quarantine_seconds = quarantine_seconds
        self._settle_seconds = settle_seconds
        self._told_only_polled: set[JobId] = set()

    async def create(self, columns: Sequence[TableColumn]) -> Job:
        """Open the job. A create whose answer is lost is made again: an empty job that nobody knows stays invisible and expires.

        It is the first call of a push, and a wrong address is likelier then than an outage: it gives up sooner than later calls.
        """

        async def attempt_once() -> Job:
            await self._log.record("job_intended")
            try:
                return await self._destination.create_job(self._target, columns)
            except UnexpectedResponseError as error:
                # a redirect, or a page instead of an error: the address is wrong, and asking again does not change it
                is_final = 300 <= error.status < 500  # noqa: PLR2004 - HTTP status classes
                raise error.replace(disposition="terminal" if is_final else "transient") from error.__cause__
            except PushEngineError as error:
                if error.disposition != "outcome_unknown":
                    raise
                raise error.replace(disposition="transient") from error.__cause__

        job = await self._repeat(
            attempt_once, f"create of a push job for table {self._target.table}", max_attempts=_CREATE_ATTEMPTS
        )
        await self._log.record("job_created", job_id=job.id)
        self._sink.emit(events.JobCreated(push_id=self._push_id, job_id=job.id))
        return job

    async def seal(self, job_id: JobId) -> Literal["checksum", "count"]:
        """List the job's chunks and compare them with what was sent: the last look before submit.

        Where an upload without an answer was sent again, its first attempt may still arrive: the look is taken when that is over.

        Raises:
            VerificationError: They differ; the job must not be submitted.
            JobVanishedError: The job is gone.
            EngineClosedError: The engine drains while the quarantine lasts.
        """
        await self._wait_for_quarantine(job_id)
        sent = [chunk.as_sent() for chunk in self._log.state.job_of(job_id).acked]
        known = await self._log.known_checksum()
        for look in range(_LOOKS):
            listed = await self.list_chunks(job_id)
            found = verify_chunks(sent, listed, known=known)
            if found.verified is not None or len(listed) >= len(sent) or look == _LOOKS - 1:
                break
            wait = self._settle_seconds * 2**look  # the list may lag behind
            self._emit_waiting(f"the list of chunks of job {job_id} is not complete yet", wait)
            await self._drain.guard(self._clock.sleep(wait))
        if found.verified is None:
            raise VerificationError(f"job {job_id} does not hold what was sent: {found.difference}", job_id=job_id)
        if found.algorithm is not None and found.algorithm != known:
            await self._log.learn_checksum(found.algorithm)
        await self._log.record("job_sealed", job_id=job_id, chunks=len(sent), verified=found.verified)
        self._sink.emit(
            events.JobVerified(push_id=self._push_id, job_id=job_id, chunks=len(sent), verified=found.verified)
        )
        return found.verified

    async def _wait_for_quarantine(self, job_id: JobId) -> None:
        missed = [chunk.zombie_since for chunk in self._log.state.job_of(job_id).chunks.values()]
        elapsed = min((self._log.seconds_since(at) for at in missed if at is not None), default=math.inf)
        wait = self._quarantine_seconds - elapsed
        if wait > 0:
            self._emit_wait(job_id, self._utc_in(wait), wait, "quarantine")
            await self._drain.guard(self._clock.sleep(wait))

    def _utc_in(self, seconds: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock.now() + seconds, tz=dt.UTC)

    async def list_chunks(self, job_id: JobId) -> list[RemoteChunk]:
        """What the job holds.

        Raises:
            JobVanishedError: The job is gone.
        """

        async def attempt_once() -> list[RemoteChunk]:
            try:
                return await self._destination.list_chunks(job_id)
            except NotFoundError as error:
                raise self._vanished(job_id) from error

        return await self._repeat(attempt_once, f"listing of the chunks of job {job_id}")

    async def submit(self, job_id: JobId) -> None:
        """Submit once under the quota, however many attempts that takes.

        Raises:
            JobVanishedError: The job is gone, and no submit of ours can have run it.
            SubmitOutcomeUnknownError: The job is gone after an attempt whose outcome is not known.
            RetriesExhaustedError: Refused too often.
            EngineClosedError: The engine drains while the submit waits.
        """
        start = self._clock.monotonic()
        last_error: PushEngineError | None = None
        for attempt in range(1, _MAX_SUBMIT_ATTEMPTS + 1):
            self._drain.check()
            await self._drain.guard(
                self._limiter.acquire(
                    lambda *wait: self._emit_wait(job_id, *wait), lambda message: self._emit_correction(job_id, message)
                )
            )
            is_accepted, last_error = await self._submit_once(job_id, attempt)
            if is_accepted:
                self._limiter.accepted()
                await self._accept(job_id)
                return
        elapsed = self._clock.monotonic() - start
        reason = "" if last_error is None else f", the last time with: {last_error.message}"
        is_busy = last_error is None or isinstance(last_error, ConflictError | RateLimitedError)
        raise RetriesExhaustedError(
            f"submit of job {job_id} was not accepted in {_MAX_SUBMIT_ATTEMPTS} attempts{reason}",
            attempts=_MAX_SUBMIT_ATTEMPTS,
            elapsed_seconds=elapsed,
            hint="other tools of the team may be submitting" if is_busy else last_error.hint if last_error else "",
        ) from last_error

    async def was_accepted_before(self, job_id: JobId) -> bool:
        """An earlier process may have submitted: then the job tells."""
        record = self._log.state.job_of(job_id)
        if not record.may_have_run:
            return False
        if record.accepted_at is None:
            if not await self._has_left_new(job_id):
                await self._log.record("submit_unknown", job_id=job_id, error="the process ended before the answer")
                return False
            await self._accept(job_id)
        return True

    async def _accept(self, job_id: JobId) -> None:
        await self._log.record("submit_accepted", job_id=job_id)
        self._sink.emit(events.JobSubmitted(push_id=self._push_id, job_id=job_id, submits=self._log.state.submits))

    async def _submit_once(self, job_id: JobId, attempt: int) -> tuple[bool, PushEngineError | None]:
        """One attempt and, where its outcome is open, a look at the job and the wait that follows."""
        await self._intend_submit(job_id)
        try:
            await self._send_submit(job_id)
        except PushEngineError as error:
            return await self._settle_submit(job_id, attempt, error), error
        return True, None

    async def _intend_submit(self, job_id: JobId) -> None:
        try:
            await self._log.record("submit_intended", job_id=job_id)
        except asyncio.CancelledError:  # the fact is written, the request has not left
            await finish(self._log.record("submit_refused", job_id=job_id, error="cancelled before it left"))
            raise

    async def _send_submit(self, job_id: JobId) -> None:
        with self._told_when_slow(f"submit of job {job_id}"):
            await self._destination.submit_job(job_id, duplicate_removal_column=self._target.duplicate_removal_column)

    async def _settle_submit(self, job_id: JobId, attempt: int, error: PushEngineError) -> bool:
        """Was it accepted although it failed? If not, wait as the failure asks for."""
        if isinstance(error, ConflictError):
            wait = self._conflict_wait_seconds * self._rng.uniform(0.5, 1.5)
            if await self._is_accepted_after_all(job_id, attempt, error, wait):
                return True
            await self._log.record("submit_refused", job_id=job_id, error=error.message)
            return False
        if not is_undone(error):
            await self._log.record("submit_unknown", job_id=job_id, error=error.message)
            wait = _UNKNOWN_SETTLE_SECONDS + self._backoff(attempt)
            return await self._is_accepted_after_all(job_id, attempt, error, wait)
        await self._log.record("submit_refused", job_id=job_id, error=error.message)
        if isinstance(error, NotFoundError):
            raise self._vanished(job_id) from error
        if error.disposition == "terminal":
            raise error
        if isinstance(error, RateLimitedError):
            wait = await self._refused(error)
            self._on_retry(f"submit of job {job_id}", attempt, wait, error)
        else:
            await self._wait_before_resubmit(job_id, attempt, error, self._backoff(attempt))
        return False

    async def _refused(self, error: RateLimitedError) -> float:
        """Have all submits of this host wait as a 429 asks for; returns for how long, seconds."""
        with self._told_when_ledger_is_locked():
            return await self._limiter.refused(error.retry_after_seconds)

    async def _is_accepted_after_all(self, job_id: JobId, attempt: int, error: PushEngineError, wait: float) -> bool:
        """After a submit whose outcome is open: the job left NEW, now or after the time that a late effect may take."""
        if await self._has_left_new(job_id):
            return True
        await self._wait_before_resubmit(job_id, attempt, error, wait)
        return await self._has_left_new(job_id)

    def _vanished(self, job_id: JobId) -> PushEngineError:
        if self._log.state.job_of(job_id).may_have_run:
            return SubmitOutcomeUnknownError(
                f"job {job_id} is gone after a submit whose answer was lost: whether it ran cannot be found out",
                job_id=job_id,
                hint="look at the table's row count and _CELONIS_CHANGE_DATE before pushing again",
            )
        return JobVanishedError(f"job {job_id} is gone before its submit", job_id=job_id)

    async def _has_left_new(self, job_id: JobId) -> bool:
        """The job has left NEW."""
        try:
            job = await self._read(job_id)
        except NotFoundError as error:
            raise self._vanished(job_id) from error
        return job.status is not JobStatus.NEW

    async def _wait_before_resubmit(self, job_id: JobId, attempt: int, error: PushEngineError, wait: float) -> None:
        self._on_retry(f"submit of job {job_id}", attempt, wait, error)
        await self._drain.guard(self._clock.sleep(wait))

    def _backoff(self, attempt: int) -> float:
        return self._rng.uniform(0, min(self._policy.max_wait_seconds, self._policy.first_wait_seconds * 2**attempt))

    def _emit_wait(self, job_id: JobId, until: dt.datetime, wait_seconds: float, reason: str) -> None:
        self._sink.emit(
            events.QuotaWaited(
                push_id=self._push_id,
                job_id=job_id,
                until=until.strftime("%Y-%m-%dT%H:%M:%SZ"),
                wait_seconds=wait_seconds,
                reason=reason,
            )
        )

    def _emit_waiting(self, reason: str, seconds: float | None = None) -> None:
        if seconds is None or seconds > SILENT_SECONDS:
            self._sink.emit(events.WaitStarted(push_id=self._push_id, reason=reason, seconds=seconds))

    def _told_when_ledger_is_locked(self) -> contextlib.AbstractContextManager[None]:
        return told_when_slow(lambda: self._emit_waiting("another process has the quota ledger locked"))

    def _told_when_slow(self, operation: str) -> contextlib.AbstractContextManager[None]:
        return told_when_slow(lambda: self._emit_waiting(f"no response yet, {operation}"))

    def _emit_correction(self, job_id: JobId, message: str) -> None:
        self._sink.emit(events.QuotaLedgerCorrected(push_id=self._push_id, job_id=job_id, message=message))

    async def poll(self, job_id: JobId) -> Job:
        """Read the submitted job until its status is final.

        Raises:
            JobFailedError: ERROR or CANCELED, with the job's logs.
            JobDeadlineError: Not final at the deadline; the job goes on without us.
            SubmitOutcomeUnknownError: The job is gone.
            EngineClosedError: The engine drains; the job goes on without us.
        """
        deadline = self._clock.monotonic() + self._job_deadline_seconds
        interval = _FIRST_POLL_SECONDS
        seen: JobStatus | None = None
        while True:
            job = await self._poll_once(job_id, deadline, is_first=seen is None)
            if job is not None and job.status is not seen:
                seen = job.status
                await self._log.record("job_polled", job_id=job_id, status=seen.value)
                self._sink.emit(events.JobStatusChanged(push_id=self._push_id, job_id=job_id, status=seen.value))
            if job is not None and job.status is JobStatus.NEW:
                await self._repeat_submit(job_id)
            if job is not None and job.status.is_settled:
                await self._log.record("job_settled", job_id=job_id, status=job.status.value, logs=list(job.logs))
                return self._settle(job)
            if self._clock.monotonic() + interval > deadline:
                raise JobDeadlineError(
                    f"job {job_id} is {seen.value if seen else 'not readable'} after"
                    f" {self._job_deadline_seconds:.0f} s",
                    job_id=job_id,
                    hint=f"it goes on without us: pushengine jobs show {job_id}",
                )
            await self._drain.guard(self._clock.sleep(interval))
            interval = min(interval * _POLL_GROWTH, self._poll_max_interval_seconds)

    async def _repeat_submit(self, job_id: JobId) -> None:
        """Submit a job again that stays NEW although its submit was acknowledged, if it is time to. Whatever comes of it, polling tells."""
        record = self._log.state.job_of(job_id)
        if record.accepted_at is None or record.repeats > len(_REPEAT_AFTER_SECONDS):
            return
        elapsed = self._log.seconds_since(record.accepted_at)
        if record.repeats == len(_REPEAT_AFTER_SECONDS):
            if job_id not in self._told_only_polled:
                self._told_only_polled.add(job_id)
                self._emit_stayed_new(job_id, elapsed, is_submitted_again=False)
            return
        if elapsed < _REPEAT_AFTER_SECONDS[record.repeats]:
            return
        with self._told_when_ledger_is_locked():
            is_granted = await self._limiter.try_acquire(functools.partial(self._emit_correction, job_id))
        if not is_granted:
            return
        self._emit_stayed_new(job_id, elapsed, is_submitted_again=True)
        await self._intend_submit(job_id)
        try:
            await self._send_submit(job_id)
        except PushEngineError as error:
            is_refused = is_undone(error) and not isinstance(error, NotFoundError)
            await self._log.record(
                "submit_refused" if is_refused else "submit_unknown", job_id=job_id, error=error.message
            )
            if isinstance(error, RateLimitedError):
                await self._refused(error)
        else:
            self._limiter.accepted()
            await self._log.record("submit_accepted", job_id=job_id)

    def _emit_stayed_new(self, job_id: JobId, seconds: float, *, is_submitted_again: bool) -> None:
        self._sink.emit(
            events.JobStayedNew(
                push_id=self._push_id,
                job_id=job_id,
                seconds=seconds,
                submits=self._log.state.submits,
                is_submitted_again=is_submitted_again,
            )
        )

    async def _poll_once(self, job_id: JobId, deadline: float, *, is_first: bool) -> Job | None:
        """The job, or None where this look at it failed in a way that passes: the deadline bounds such failures."""
        try:
            with self._told_when_slow(f"poll of job {job_id}") if is_first else contextlib.nullcontext():
                return await self._destination.get_job(job_id)
        except NotFoundError as error:
            raise self._vanished(job_id) from error
        except PushEngineError as error:
            if error.disposition == "terminal" and not isinstance(error, UnexpectedResponseError):
                raise
            wait = getattr(error, "retry_after_seconds", None) or self._backoff(3)
            wait = min(wait, max(deadline - self._clock.monotonic(), 0.0))
            self._on_retry(f"poll of job {job_id}", 1, wait, error)
            await self._drain.guard(self._clock.sleep(wait))
            return None

    def settled_before(self, job_id: JobId) -> Job | None:
        """The job, if the journal has its end: nobody is asked again, the platform may have forgotten it.

        Raises:
            JobFailedError: It ended with ERROR or CANCELED.
        """
        record = self._log.state.job_of(job_id)
        if record.status is None or not JobStatus(record.status).is_settled:
            return None
        return self._settle(Job(job_id, JobStatus(record.status), logs=record.logs))

    def _settle(self, job: Job) -> Job:
        self._sink.emit(events.JobSettled(push_id=self._push_id, job_id=job.id, status=job.status.value, logs=job.logs))
        if job.status is JobStatus.DONE:
            return job
        message = "; ".join(job.logs) or "the job has no logs"
        raise JobFailedError(
            f"job {job.id} for table {self._target.table} ended with {job.status.value}: {message}",
            job_id=job.id,
            status=job.status.value,
            server_message=message,
            hint="the table is unchanged; fix what the logs name and push again",
        )

    async def discard(self, job_id: JobId) -> None:
        """Delete the unsubmitted job; a failure is told as an event only, since the platform deletes it in time anyway."""
        error: str | None = None
        try:
            async with asyncio.timeout(_DELETE_TIMEOUT_SECONDS):
                with self._told_when_slow(f"deletion of job {job_id}"):
                    await self._destination.delete_job(job_id)
        except (PushEngineError, TimeoutError) as caught:
            error = str(caught) or type(caught).__name__
        await self._log.record("job_discarded", job_id=job_id, error=error)
        self._sink.emit(events.JobDeleted(push_id=self._push_id, job_id=job_id, error=error))

    async def _read(self, job_id: JobId) -> Job:
        return await self._repeat(lambda: self._destination.get_job(job_id), f"reading of job {job_id}")

    async def _repeat(
        self, attempt_once: Callable[[], Awaitable[T]], operation: str, *, max_attempts: int | None = None
    ) -> T:
        policy = self._policy
        if max_attempts is not None:
            policy = dataclasses.replace(policy, max_attempts=min(policy.max_attempts, max_attempts))

        async def attempt_told() -> T:
            with self._told_when_slow(operation):
                return await attempt_once()

        return await call_with_retries(
            attempt_told,
            operation=operation,
            policy=policy,
            clock=self._clock,
            rng=self._rng,
            on_retry=self._on_retry,
        )
