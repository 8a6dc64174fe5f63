"""Queue -> destination: the second half of the pipeline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pushengine import events
from pushengine.budget import BudgetScope, ReadyChunk
from pushengine.clock import Clock
from pushengine.errors import JobVanishedError, NotFoundError, PushEngineError
from pushengine.events import EventSink
from pushengine.model import ChunkType, JobId, Payload, SentChunk
from pushengine.retry import RetryPolicy, call_with_retries
from pushengine.types import Destination


class Uploader:
    """Sends the chunks of one attempt of a push, `max_uploads` at a time.

    Args:
        destination: Takes chunks.
        job_id: The job they belong to.
        kind: Upserted or deleted rows.
        queue: Where chunks come from.
        budget: Gets a chunk's memory back when it is acknowledged.
        policy: Which failures are worth another attempt; an unknown outcome never is.
        clock: Waits between attempts.
        rng: Jitter.
        push_id: For events.
        sink: Takes events.
        on_retry: Told of each wait before another attempt.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        job_id: JobId,
        kind: ChunkType,
        queue: asyncio.Queue[ReadyChunk],
        budget: BudgetScope,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        push_id: str,
        sink: EventSink,
        on_retry: Callable[[str, int, float, PushEngineError], None],
    ) -> None:
        self._destination = destination
        self._job_id = job_id
        self._kind: ChunkType = kind
        self._queue = queue
        self._budget = budget
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._push_id = push_id
        self._sink = sink
        self._on_retry = on_retry
        self.sent: list[SentChunk] = []

    async def run(self) -> None:
        """Send chunks for ever; one worker. Cancelled by its owner when the queue is done with.

        Raises:
            PushEngineError: The first failure that no further attempt can help.
        """
        while True:
            await self._send_and_release(await self._queue.get())

    async def _send_and_release(self, ready: ReadyChunk) -> None:
        await self._send(ready.payload)
        self._budget.release(ready.reservation)
        self._queue.task_done()

    async def _send(self, payload: Payload) -> None:
        start = self._clock.monotonic()

        async def attempt_once(attempt: int) -> None:
            self._sink.emit(
                events.UploadStarted(
                    push_id=self._push_id,
                    chunk_id=payload.chunk_id,
                    job_id=self._job_id,
                    attempt=attempt,
                    payload_bytes=payload.size,
                )
            )
            try:
                await self._destination.upload_chunk(self._job_id, payload, self._kind)
            except NotFoundError as error:
                raise JobVanishedError(f"job {self._job_id} is gone before its submit", job_id=self._job_id) from error

        await call_with_retries(
            attempt_once,
            operation=f"upload of chunk {payload.chunk_id} to job {self._job_id}",
            policy=self._policy,
            clock=self._clock,
            rng=self._rng,
            on_retry=self._on_retry,
        )
        self.sent.append(
            SentChunk(
                chunk_id=payload.chunk_id,
                rows=payload.rows,
                payload_bytes=payload.size,
                digests=payload.digests,
                type=self._kind,
            )
        )
        self._sink.emit(
            events.ChunkUploaded(
                push_id=self._push_id,
                chunk_id=payload.chunk_id,
                job_id=self._job_id,
                rows=payload.rows,
                payload_bytes=payload.size,
                elapsed_seconds=self._clock.monotonic() - start,
            )
        )
