"""Source -> payloads in a bounded queue: the first half of the pipeline.

One read is under way at a time, on the reader thread, while up to `encoders` chunks are encoded. Memory for a chunk is reserved before
its rows are read, so a slow destination stops the reading (backpressure) instead of filling memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from pushengine import events
from pushengine.budget import BudgetScope, ReadyChunk, Reservation
from pushengine.encoding import OversizedPayloadError
from pushengine.events import EventSink
from pushengine.model import Payload
from pushengine.types import Workers

if TYPE_CHECKING:
    from pushengine.chunking import Chunk

RESERVE_FACTOR = 2.5
"""Bytes reserved for each byte of rows: the rows, their converted copy, and the payload that grows out of them."""


class ChunkStream(Protocol):
    """Chunks in the order of the source."""

    async def next_chunk(self) -> Chunk | None:
        """The next one, or None after the last or after `stop()`."""
        ...

    def stop(self) -> None:
        """End the stream at the next chance."""
        ...

    def bytes_read(self) -> int | None:
        """How far the source has been read, where that is known."""
        ...


class Producer:
    """Reads, encodes and queues the chunks of one attempt of a push.

    Args:
        stream: Where chunks come from.
        encode: Chunk -> payload; CPU-bound, runs on encoder threads.
        queue: Bounded; gets a `ReadyChunk` for each chunk.
        budget: This attempt's share of the memory.
        chunk_bytes: Expected Arrow bytes of a chunk.
        workers: Threads.
        encoders: Most chunks that are being encoded at one time.
        push_id: For events.
        sink: Takes events.
        is_acked: Whether the job holds a chunk already, from an earlier process: it is neither encoded nor sent again.
    """

    def __init__(
        self,
        stream: ChunkStream,
        *,
        encode: Callable[[Chunk], Payload],
        queue: asyncio.Queue[ReadyChunk],
        budget: BudgetScope,
        chunk_bytes: int,
        workers: Workers,
        encoders: int,
        push_id: str,
        sink: EventSink,
        is_acked: Callable[[Chunk], bool],
    ) -> None:
        self._stream = stream
        self._is_acked = is_acked
        self._encode = encode
        self._queue = queue
        self._budget = budget
        self._reserve_bytes = int(chunk_bytes * RESERVE_FACTOR)
        self._workers = workers
        self._slots = asyncio.Semaphore(encoders)
        self._push_id = push_id
        self._sink = sink
        self.rows = 0
        self.nbytes = 0

    async def run(self) -> None:
        """Put every chunk of the source on the queue; returns when all are on it.

        Raises:
            ExceptionGroup: Of the first failures; everything this method started has ended by then.
        """
        async with asyncio.TaskGroup() as encoders:
            while True:
                await self._slots.acquire()
                reservation = await self._budget.acquire(self._reserve_bytes)
                chunk = await self._read(reservation)
                if chunk is None:
                    break
                if self._is_acked(chunk):
                    self._budget.release(reservation)
                    self._slots.release()
                    continue
                encoders.create_task(self._encode_and_queue(chunk, reservation), name=f"encode {chunk.chunk_id}")
                del chunk  # its memory belongs to the task now

    async def _read(self, reservation: Reservation) -> Chunk | None:
        chunk = await self._stream.next_chunk()
        if chunk is None:
            self._budget.release(reservation)
            return None
        reservation.resize(int(chunk.nbytes * RESERVE_FACTOR))
        self.rows += chunk.rows
        self.nbytes += chunk.nbytes
        self._sink.emit(
            events.ChunkRead(
                push_id=self._push_id,
                chunk_id=chunk.chunk_id,
                rows=chunk.rows,
                source_bytes_read=self._stream.bytes_read(),
            )
        )
        return chunk

    async def _encode_and_queue(self, chunk: Chunk, reservation: Reservation) -> None:
        payloads = await self._encode_within_limit(chunk)
        del chunk
        ready = [ReadyChunk(payload, self._budget.take(payload.size)) for payload in payloads]
        self._budget.release(reservation)
        for item in ready:
            payload = item.payload
            self._sink.emit(
                events.ChunkEncoded(
                    push_id=self._push_id, chunk_id=payload.chunk_id, rows=payload.rows, payload_bytes=payload.size
                )
            )
            await self._queue.put(item)
        self._slots.release()  # not before: a full queue holds the encoders, and they the reader

    async def _encode_within_limit(self, chunk: Chunk) -> list[Payload]:
        try:
            return [await self._workers.encode(self._encode, chunk)]
        except OversizedPayloadError:
            if chunk.rows == 1:
                raise
            halves = [half for half in chunk.halves() if not self._is_acked(half)]
            return [payload for half in halves for payload in await self._encode_within_limit(half)]


class BlockingChunkStream:
    """A `ChunkStream` over a blocking chunk reader, each call on the reader thread."""

    def __init__(
        self,
        next_chunk: Callable[[], Chunk | None],
        *,
        stop: Callable[[], None],
        bytes_read: Callable[[], int | None],
        read: Callable[[Callable[[], Chunk | None]], Awaitable[Chunk | None]],
    ) -> None:
        self._next_chunk = next_chunk
        self._read = read
        self.stop = stop
        self.bytes_read = bytes_read

    async def next_chunk(self) -> Chunk | None:
        """The next one, or None after the last or after `stop()`."""
        return await self._read(self._next_chunk)
