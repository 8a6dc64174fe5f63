"""The first half of the pipeline: reads the source, encodes its chunks and puts the payloads on a bounded queue.

The reader thread runs one read at a time, while all encoder threads encode chunks. Memory for a chunk is reserved before its rows are
read, so a slow destination stops the reading (backpressure) instead of filling memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from pushengine import events
from pushengine.config.settings import RESERVE_FACTOR
from pushengine.errors import SourceChangedError
from pushengine.interfaces import Workers
from pushengine.journal.state import JobRecord
from pushengine.model import Payload
from pushengine.pipeline.chunking import Chunk, Chunker
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.encoding import JOURNAL_DIGEST, OversizedPayloadError
from pushengine.pipeline.memory_budget import BudgetScope, ReadyChunk, Reservation

MAX_EXPANSION = 16
"""Bytes of rows for each byte of a source, at most: files may be compressed."""
_MIN_RESERVED_BYTES = 64 * 1024


class AlreadySent:
    """The chunks that the job already holds, from an earlier pass or an earlier process.

    Args:
        record: The job.
        label: The source's name, for messages.
        rechecks: Whether to encode these chunks again and compare them with what was sent, because the source may have changed since.
    """

    def __init__(self, record: JobRecord, label: str, *, rechecks: bool) -> None:
        self._record = record
        self._label = label
        self.rechecks = rechecks

    def rows(self, chunk_id: str) -> int | None:
        """Return the number of rows of a chunk that the job already holds; None for other chunks."""
        known = self._record.chunks.get(chunk_id)
        return known.rows if known is not None and known.state == "acked" else None

    def check(self, payload: Payload) -> None:
        """Compare a chunk as encoded now with the one that was sent under the same id.

        Raises:
            SourceChangedError: They differ.
        """
        sent = self._record.chunks[payload.chunk_id]
        if (payload.rows, payload.digests[JOURNAL_DIGEST]) != (sent.rows, sent.digests[JOURNAL_DIGEST]):
            raise SourceChangedError(
                "changed since its first rows were sent",
                source=self._label,
                position=f"rows {sent.source_rows[0] + 1} to {sent.source_rows[1]}",
                hint="push it again once it is complete",
            )


class Producer:
    """Reads, encodes and queues the chunks of one job.

    Args:
        context: The push.
        chunks: Yields the chunks. With `before.rechecks` it must start at row 0.
        encode: Encodes a chunk into a payload; CPU-bound, runs on encoder threads.
        queue: Bounded queue; receives a `ReadyChunk` for each payload.
        budget: Memory reservations of this pass over the source.
        workers: Reader and encoder threads.
        before: Chunks that are not sent again.

    Attributes:
        end_row: Number of source rows up to the end of the last chunk that was encoded now or acknowledged before.
        nbytes: Size of the rows read, as the source holds them, bytes.
    """

    def __init__(
        self,
        context: PushContext,
        chunks: Chunker,
        *,
        encode: Callable[[Chunk], Payload],
        queue: asyncio.Queue[ReadyChunk],
        budget: BudgetScope,
        workers: Workers,
        before: AlreadySent,
    ) -> None:
        self._context = context
        self._chunks = chunks
        self._encode = encode
        self._queue = queue
        self._budget = budget
        self._reserve_bytes = int(_largest_chunk(chunks.chunk_bytes, context.measures.source_bytes) * RESERVE_FACTOR)
        self._workers = workers
        self._already_sent = before
        # Read one chunk more than there are encoders, so that no encoder waits for the reader.
        self._slots = asyncio.Semaphore(context.shared.engine_settings.encoder_threads + 1)
        self.end_row = chunks.first_row
        self.nbytes = 0

    async def run(self) -> None:
        """Put every chunk of the source on the queue; return when all of them are queued.

        Raises:
            ExceptionGroup: The first failures. All tasks started by this method have ended by then.
        """
        begins = _FirstRow(self._chunks.first_row)
        async with asyncio.TaskGroup() as encoders:
            while True:
                await self._slots.acquire()
                reservation = await self._budget.acquire(self._reserve_bytes)
                chunk = await self._read(reservation)
                if chunk is None:
                    break
                ends = _FirstRow()
                encoders.create_task(
                    self._encode_and_queue(chunk, reservation, begins, ends), name=f"encode {chunk.chunk_id}"
                )
                begins = ends
                del chunk  # only the task may keep its memory alive
        self.end_row = await begins.row()

    async def _read(self, reservation: Reservation) -> Chunk | None:
        chunk = await self._chunks.next_chunk()
        if chunk is None:
            self._budget.release(reservation)
            return None
        reservation.resize(int(chunk.nbytes * RESERVE_FACTOR))
        self.nbytes += chunk.nbytes
        self._context.emit(
            events.ChunkRead(
                push_id=self._context.push_id, chunk_id=chunk.chunk_id, source_bytes_read=self._chunks.bytes_read
            )
        )
        return chunk

    async def _encode_and_queue(
        self, chunk: Chunk, reservation: Reservation, begins: _FirstRow, ends: _FirstRow
    ) -> None:
        parts = await self._encode_within_limit(chunk)
        del chunk
        row = await begins.row()
        ready = []
        for part in parts:
            if isinstance(part, int):
                row += part
                continue
            payload = dataclasses.replace(part, source_rows=(row, row + part.rows))
            row += part.rows
            ready.append(ReadyChunk(payload, self._budget.take(payload.memory_bytes)))
        del parts
        ends.set_row(row)
        self._budget.release(reservation)
        for item in ready:
            payload = item.payload
            self._context.emit(
                events.ChunkEncoded(
                    push_id=self._context.push_id,
                    chunk_id=payload.chunk_id,
                    rows=payload.rows,
                    payload_bytes=payload.size,
                )
            )
            await self._queue.put(item)
        self._slots.release()  # only now, so that a full queue stops the encoders and, through them, the reader

    async def _encode_within_limit(self, chunk: Chunk) -> list[Payload | int]:
        """Return the chunk's payload, or several if it had to be split. A part that the job already holds yields its row count instead."""
        rows = self._already_sent.rows(chunk.chunk_id)
        if rows is not None and not self._already_sent.rechecks:
            return [rows]
        try:
            payload = await self._workers.encode(self._encode, chunk)
        except OversizedPayloadError:
            halves = await self._workers.encode(chunk.halves)
            if not halves:
                raise
            return [part for half in halves for part in await self._encode_within_limit(half)]
        if rows is None:
            # All rows of a chunk may be left out; a source without rows is one chunk that is sent.
            return [payload] if payload.rows or not chunk.nbytes else [0]
        self._already_sent.check(payload)
        return [rows]


def _largest_chunk(chunk_bytes: int, source_bytes: int | None) -> int:
    """Return how many bytes of rows a chunk of a source can have: a small source reserves little. Compressed files hold more than their size."""
    return chunk_bytes if source_bytes is None else min(chunk_bytes, source_bytes * MAX_EXPANSION + _MIN_RESERVED_BYTES)


class _FirstRow:
    """The first row of a chunk, known once all chunks before it are encoded. Chunks are encoded concurrently and finish in any order."""

    def __init__(self, row: int | None = None) -> None:
        self._row: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if row is not None:
            self.set_row(row)

    def set_row(self, row: int) -> None:
        """Set the row: all chunks before this one are counted."""
        self._row.set_result(row)

    async def row(self) -> int:
        """Wait until the row is known, and return it."""
        return await asyncio.shield(self._row)
