"""Queue -> destination: the second half of the pipeline, and how an upload without an answer is settled.

An upload ends in one of three ways. *Acknowledged*: the chunk is in the job. *Refused*: an answer proves that it is not, or nothing was
sent; it may be sent again. *Unknown*: it may be in the job; it is never sent again before the job's chunk list was read at a quiet
moment, with no other upload under way. What the list does not hold is sent again, and the first attempt is remembered as one that may
still arrive: the seal before submit waits for it (`jobs.JobRunner.seal`).
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
from pushengine.pipeline.retry import exhausted, is_undone
from pushengine.runtime.aio import SILENT_SECONDS

_OVERLOADED = (503, 504)


class UploadSlots:
    """As many workers at once as the controller allows, and what becomes of their attempts told to it.

    A worker keeps its slot until its chunk is settled, waits for a retry included: a server that refuses gets less to do. When the limit
    sinks, those above it finish first.
    """

    def __init__(self, context: PushContext, controller: ConcurrencyController) -> None:
        self._context = context
        self._controller = controller
        self._taken = 0
        self._is_free = asyncio.Event()
        self._under_way = 0
        self._alarm: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Be one of those who may upload."""
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
        """Time one attempt; the block calls what it is given with the error, or None for an acknowledgement. Else it counts for nothing."""
        outcome: Outcome = "failed"

        def finish(error: PushEngineError | None) -> None:
            nonlocal outcome
            outcome = "acknowledged" if error is None else "refused" if is_overload(error) else "failed"

        attempt = self._controller.started(nbytes, self._context.clock.monotonic())
        self._under_way += 1
        if self._under_way == 1:
            self._listen()
        try:
            yield finish
        finally:
            self._under_way -= 1
            self._listen()
            self._apply(self._controller.ended(attempt, self._context.clock.monotonic(), outcome))

    def _listen(self) -> None:
        """Tell when nothing is heard of any upload for a moment, once until something is heard again."""
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(SILENT_SECONDS, self._announce_silence) if self._under_way else None

    def _announce_silence(self) -> None:
        count = "1 upload is" if self._under_way == 1 else f"{self._under_way} uploads are"
        self._context.emit_wait(f"no response yet, {count} under way")

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
    """Whether fewer uploads at once may help: the server says so, or says nothing for too long. A connection that broke tells nothing."""
    if isinstance(error, ApiError):
        return isinstance(error, RateLimitedError) or error.status in _OVERLOADED
    return isinstance(error, RequestTimeoutError) or isinstance(error.__cause__, TimeoutError)


class Uploader:
    """Sends the chunks of one job, several at a time.

    Args:
        context: The push; once its engine drains, chunks on the queue are dropped instead of sent.
        job_id: The job they belong to.
        queue: Where chunks come from.
        budget: Gets a chunk's memory back when it is acknowledged.
        slots: How many workers are active.
        reconciler: Decides what became of uploads without an answer.
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
        """Send chunks for ever; one worker. Cancelled by its owner when the queue is done with.

        Raises:
            PushEngineError: The first failure that no further attempt can help.
        """
        while True:
            # the slot first: a chunk that is not on the queue any more must not wait for its turn
            async with self._slots.slot():
                await self._send_and_release(await self._queue.get())

    async def _send_and_release(self, ready: ReadyChunk) -> None:
        if not self._context.drain.is_set:  # what is not under way is dropped then: the source still has it
            await self._send(ready.payload)
        self._budget.release(ready.reservation)
        self._queue.task_done()

    async def _send(self, payload: Payload) -> None:
        start = self._context.clock.monotonic()
        operation = f"upload of chunk {payload.chunk_id} to job {self._job_id}"
        attempt = 1
        while (error := await self._attempt_once(payload, attempt)) is not None:
            is_unknown = not is_undone(error)
            if is_unknown and await self._reconciler.has_arrived(payload.chunk_id):
                break
            elapsed = self._context.clock.monotonic() - start
            decision = self._context.shared.policy.decide(
                error, attempt=attempt, elapsed_seconds=elapsed, rng=self._context.rng, is_reconciled=is_unknown
            )
            if decision.is_exhausted:
                raise exhausted(operation, attempt, elapsed, error) from error
            if not decision.retry:
                raise error
            self._context.shared.policy.budget.spend()
            self._context.on_retry(operation, attempt, decision.wait_seconds, error)
            with contextlib.suppress(EngineClosedError):
                await self._context.sleep(decision.wait_seconds)
            if self._context.drain.is_set:
                return  # not sent, as what is still on the queue
            attempt += 1
        self._context.shared.policy.budget.earn()
        self._context.emit(
            events.ChunkUploaded(
                push_id=self._context.push_id,
                chunk_id=payload.chunk_id,
                job_id=self._job_id,
                rows=payload.rows,
                payload_bytes=payload.size,
                elapsed_seconds=self._context.clock.monotonic() - start,
            )
        )

    async def _attempt_once(self, payload: Payload, attempt: int) -> PushEngineError | None:
        """One attempt as part of the traffic; None if the chunk was acknowledged."""
        ids = {"job_id": self._job_id, "chunk_id": payload.chunk_id}
        async with self._reconciler.gate.upload():
            with self._slots.attempt(payload.size) as finish:
                error = await self._attempt_recorded(payload, attempt, ids)
                finish(error)
        return error

    async def _attempt_recorded(self, payload: Payload, attempt: int, ids: Mapping[str, str]) -> PushEngineError | None:
        """Between its two facts."""
        await self._context.log.record(
            facts.ChunkSending(
                **ids,
                rows=payload.rows,
                first_row=payload.source_rows[0],
                end_row=payload.source_rows[1],
                payload_bytes=payload.size,
                digests=dict(payload.digests),
                type=self._context.target.chunk_type,
            )
        )
        self._context.emit(
            events.UploadStarted(push_id=self._context.push_id, **ids, attempt=attempt, payload_bytes=payload.size)
        )
        try:
            await self._context.destination.upload_chunk(self._job_id, payload, self._context.target.chunk_type)
        except PushEngineError as error:
            kind = facts.ChunkRefused if is_undone(error) else facts.ChunkUnknown
            await self._context.log.record(kind(**ids, error=error.message))
            if isinstance(error, NotFoundError):
                raise JobVanishedError(f"job {self._job_id} is gone before its submit", job_id=self._job_id) from error
            return error
        await self._context.log.record(facts.ChunkAcked(**ids))
        return None
