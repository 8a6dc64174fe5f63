"""The second half of the pipeline: sends the queued payloads to the destination.

An attempt to upload a chunk ends in one of three ways:

    *acknowledged*  The chunk is in the job.
    *refused*       A response proves that the chunk is not in the job, or nothing was sent. It may be sent again.
    *unknown*       The chunk may be in the job. Before it is sent again, the job's chunk list is read while no other upload is running.
                    If the chunk is not listed, it is sent again. The first attempt may still arrive later, so the check before submit
                    waits until that is no longer possible (`push.job.JobRunner.seal`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from pushengine import events
from pushengine.errors import (
    ApiError,
    EngineClosedError,
    JobVanishedError,
    NotFoundError,
    PushEngineError,
    RateLimitedError,
    RequestTimeoutError,
)
from pushengine.journal import facts
from pushengine.model import JobId, Payload
from pushengine.pipeline.concurrency import ConcurrencyController, LimitChange, Outcome
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.memory_budget import BudgetScope, ReadyChunk
from pushengine.pipeline.reconciler import Reconciler
from pushengine.pipeline.retry import had_no_effect
from pushengine.runtime.aio import SILENT_SECONDS

_OVERLOADED = (503, 504)


class UploadSlots:
    """Limits the number of active workers to what the controller allows, and reports the outcome of every attempt to it.

    A worker keeps its slot until its chunk is done, even while it waits for a retry: this reduces the load on a server that refuses
    requests. When the limit falls, workers above it first finish their chunk.
    """

    def __init__(self, context: PushContext, controller: ConcurrencyController) -> None:
        self._context = context
        self._controller = controller
        self._taken = 0
        self._is_free = asyncio.Event()
        self._in_flight = 0
        self._silence_timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a free slot, and hold it during the block."""
        while self._taken >= self._controller.limit:
            self._is_free.clear()
            await self._is_free.wait()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._is_free.set()

    @contextlib.contextmanager
    def attempt(self, nbytes: int) -> Iterator[Callable[[PushEngineError | None], None]]:
        """Measure one attempt.

        Yields a function that the block calls with the error, or with None if the chunk was acknowledged. If the block does not call it,
        the attempt counts as "failed".
        """
        outcome: Outcome = "failed"

        def report(error: PushEngineError | None) -> None:
            nonlocal outcome
            outcome = "acknowledged" if error is None else "refused" if is_overload(error) else "failed"

        attempt = self._controller.started(nbytes, self._context.clock.monotonic())
        self._in_flight += 1
        if self._in_flight == 1:
            self._restart_silence_timer()
        try:
            yield report
        finally:
            self._in_flight -= 1
            self._restart_silence_timer()
            self._apply(self._controller.ended(attempt, self._context.clock.monotonic(), outcome))

    def _restart_silence_timer(self) -> None:
        """Restart the timer that announces, once, that no upload has ended for `SILENT_SECONDS`."""
        if self._silence_timer is not None:
            self._silence_timer.cancel()
        loop = asyncio.get_running_loop()
        self._silence_timer = loop.call_later(SILENT_SECONDS, self._announce_silence) if self._in_flight else None

    def _announce_silence(self) -> None:
        count = "1 upload is" if self._in_flight == 1 else f"{self._in_flight} uploads are"
        self._context.emit_wait(f"no response yet, {count} in flight")

    def _apply(self, change: LimitChange | None) -> None:
        if change is None:
            return
        self._is_free.set()
        self._context.emit(
            events.ConcurrencyChanged(
                push_id=self._context.push_id,
                before=change.before,
                after=change.after,
                reason=change.reason,
                bytes_per_second=change.bytes_per_second,
            )
        )


def is_overload(error: PushEngineError) -> bool:
    """Return whether fewer concurrent uploads may help: the server reported overload, or did not respond in time."""
    # A broken connection is not counted: it says nothing about load. Neither does the token endpoint about that of the uploads.
    if isinstance(error, ApiError):
        return not error.is_unsent and (isinstance(error, RateLimitedError) or error.status in _OVERLOADED)
    return isinstance(error, RequestTimeoutError) or isinstance(error.__cause__, TimeoutError)


class Uploader:
    """Sends the chunks of one job, several at a time.

    Args:
        context: The push. Once its engine drains, queued chunks are dropped instead of sent.
        job_id: The job that receives the chunks.
        queue: The chunks to send.
        budget: The budget to which a chunk's memory is released when it is acknowledged or dropped.
        slots: Limits the number of active workers.
        reconciler: Determines whether uploads without a response have arrived.
    """

    def __init__(
        self,
        context: PushContext,
        job_id: JobId,
        *,
        queue: asyncio.Queue[ReadyChunk],
        budget: BudgetScope,
        slots: UploadSlots,
        reconciler: Reconciler,
    ) -> None:
        self._context = context
        self._job_id = job_id
        self._queue = queue
        self._budget = budget
        self._slots = slots
        self._reconciler = reconciler

    async def run(self) -> None:
        """Send chunks forever, as one of several workers. The owner cancels it once the queue is finished.

        Raises:
            PushEngineError: The first failure that another attempt cannot fix.
        """
        while True:
            # Take a slot first: a chunk already taken off the queue must not wait for one.
            async with self._slots.slot():
                await self._send_and_release(await self._queue.get())

    async def _send_and_release(self, ready: ReadyChunk) -> None:
        # A drain drops the chunks that are on the queue or wait for another attempt; the source still has them.
        try:
            if not self._context.drain.is_set:
                await self._send(ready.payload)
        except EngineClosedError:
            if not self._context.drain.is_set:
                raise
        self._budget.release(ready.reservation)
        self._queue.task_done()

    async def _send(self, payload: Payload) -> None:
        clock = self._context.clock
        start = clock.monotonic()
        operation = f"upload of chunk {payload.chunk_id} to job {self._job_id}"
        retries = self._context.retries(operation)
        while (error := await self._attempt_once(payload, retries.attempts + 1)) is not None:
            is_unknown = not had_no_effect(error)
            if is_unknown:
                lost_at = clock.monotonic()
                if await self._reconciler.has_arrived(payload.chunk_id):
                    break
                retries.leave_out(clock.monotonic() - lost_at)
            wait = retries.wait_after(error, is_reconciled=is_unknown)
            self._context.on_retry(operation, retries.attempts, wait, error)
            await self._context.sleep(wait)
            retries.start_attempt()
        retries.succeeded()
        self._context.emit(
            events.ChunkUploaded(
                push_id=self._context.push_id,
                chunk_id=payload.chunk_id,
                job_id=self._job_id,
                rows=payload.rows,
                payload_bytes=payload.size,
                elapsed_seconds=clock.monotonic() - start,
            )
        )

    async def _attempt_once(self, payload: Payload, attempt: int) -> PushEngineError | None:
        """Make one attempt while holding the gate; return its error, or None if the chunk was acknowledged."""
        ids = {"job_id": self._job_id, "chunk_id": payload.chunk_id}
        async with self._reconciler.gate.upload():
            with self._slots.attempt(payload.size) as report:
                error = await self._attempt_recorded(payload, attempt, ids)
                report(error)
        return error

    async def _attempt_recorded(self, payload: Payload, attempt: int, ids: Mapping[str, str]) -> PushEngineError | None:
        """Make one attempt, and record a fact before it and its outcome after it; return its error, or None."""
        await self._context.log.record(
            facts.ChunkSending(
                **ids,
                rows=payload.rows,
                first_row=payload.source_rows[0],
                end_row=payload.source_rows[1],
                payload_bytes=payload.size,
                digests=dict(payload.digests),
                type=self._context.target.chunk_type,
                rejected=payload.rejected,
            )
        )
        self._context.emit(
            events.UploadStarted(push_id=self._context.push_id, **ids, attempt=attempt, payload_bytes=payload.size)
        )
        try:
            await self._context.destination.upload_chunk(self._job_id, payload, self._context.target.chunk_type)
        except PushEngineError as error:
            kind = facts.ChunkRefused if had_no_effect(error) else facts.ChunkUnknown
            await self._context.log.record(kind(**ids, error=error.message))
            if isinstance(error, NotFoundError):
                raise JobVanishedError(
                    f"job {self._job_id} disappeared before it was submitted", job_id=self._job_id
                ) from error
            return error
        await self._context.log.record(facts.ChunkAcked(**ids))
        return None
