"""Blocks of rows -> chunks of a bounded size, the same ones at every pass over the same source."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence

from pushengine.interfaces import BlockReader, SourceBatch, SourceBlock

_MIN_TAPERED_BYTES = 8 * 1024 * 1024
_DOUBLINGS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of upload: rows under the byte limit.

    Attributes:
        chunk_id: `000000`, `000001`, ...; halves add `.0` and `.1`.
        blocks: The rows, as the source has them; at least one block.
        nbytes: Their size as the source has them.
    """

    chunk_id: str
    blocks: tuple[SourceBlock, ...]
    nbytes: int

    def __repr__(self) -> str:
        return f"Chunk({self.chunk_id}, {len(self.blocks)} blocks, {self.nbytes} bytes)"

    @property
    def rows(self) -> int | None:
        """How many, or None where only decoding tells."""
        rows = [block.rows for block in self.blocks]
        return None if None in rows else sum(row for row in rows if row is not None)

    def halves(self) -> tuple[Chunk, ...]:
        """The first and the second half of the rows, or nothing where there is one row. CPU-bound: decodes."""
        batches = [block.decode() for block in self.blocks]
        rows = sum(batch.rows for batch in batches)
        if rows < 2:  # noqa: PLR2004 - one row has no halves
            return ()
        parts = _cut(batches, rows // 2)
        return tuple(_chunk(f"{self.chunk_id}.{number}", part) for number, part in enumerate(parts))


def _cut(batches: Sequence[SourceBatch], rows: int) -> tuple[list[SourceBatch], list[SourceBatch]]:
    first: list[SourceBatch] = []
    second: list[SourceBatch] = []
    for batch in batches:
        taken = max(0, min(rows, batch.rows))
        if taken:
            first.append(_slice(batch, 0, taken))
        if taken < batch.rows:
            second.append(_slice(batch, taken, batch.rows - taken))
        rows -= taken
    return first, second


def _chunk(chunk_id: str, blocks: Sequence[SourceBlock]) -> Chunk:
    return Chunk(chunk_id, tuple(blocks), sum(block.nbytes for block in blocks))


def _slice(source: SourceBatch, offset: int, rows: int) -> SourceBatch:
    if offset == 0 and rows == source.rows:
        return source
    return SourceBatch(
        source.batch.slice(offset, rows),
        source.source,
        source.first_row + offset,
        None if source.first_line is None else source.first_line + offset,
    )


def _rows_within(source: SourceBatch, max_bytes: int) -> int:
    """How many rows from the start fit; at least one. `nbytes` counts what a slice refers to, not the buffers that it shares."""
    fits, too_many = 1, source.rows
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if source.batch.slice(0, middle).nbytes <= max_bytes:
            fits = middle
        else:
            too_many = middle
    return fits


class _Packer:
    """Whole blocks into chunks; only a decoded one that is larger than a chunk is cut (others are read in the right size)."""

    def __init__(self, max_chunk_bytes: int, *, first_index: int = 0) -> None:
        self._max_bytes = max_chunk_bytes
        self._waiting: deque[SourceBlock] = deque()
        self._waiting_bytes: deque[int] = deque()
        self._total_bytes = 0
        self.next_index = first_index

    def add(self, block: SourceBlock) -> None:
        if block.rows != 0:
            self._waiting.append(block)
            self._waiting_bytes.append(block.nbytes)
            self._total_bytes += self._waiting_bytes[-1]

    def take(self, *, is_last: bool, max_bytes: int | None = None) -> Chunk | None:
        """A chunk, if there are rows enough for one (or the source has ended); of at most `max_bytes` where that is less than the limit."""
        if not self._waiting:
            return None
        limit = self._max_bytes if max_bytes is None else min(max_bytes, self._max_bytes)
        blocks: list[SourceBlock] = []
        total = 0
        first = self._waiting[0]
        if self._waiting_bytes[0] > self._max_bytes and isinstance(first, SourceBatch) and first.rows > 1:
            blocks = [self._cut_first(first)]
        else:
            if not is_last and self._total_bytes < limit:
                return None
            while self._waiting and (not blocks or total + self._waiting_bytes[0] <= limit):
                nbytes = self._waiting_bytes.popleft()
                total += nbytes
                self._total_bytes -= nbytes
                blocks.append(self._waiting.popleft())
        chunk = _chunk(f"{self.next_index:06d}", blocks)
        self.next_index += 1
        return chunk

    @property
    def waiting_bytes(self) -> int:
        """What was added and not yet taken."""
        return self._total_bytes

    def _cut_first(self, source: SourceBatch) -> SourceBatch:
        rows = _rows_within(source, self._max_bytes)
        rest = _slice(source, rows, source.rows - rows)
        self._total_bytes += rest.nbytes - self._waiting_bytes[0]
        self._waiting[0], self._waiting_bytes[0] = rest, rest.nbytes
        return _slice(source, 0, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class Taper:
    """Smaller chunks at both ends, so that all encoders begin soon and end at about the same time.

    Attributes:
        size_bytes: Size of the whole source.
        encoders: Who share what is left; a chunk is at most half of a fair share.
    """

    size_bytes: int
    encoders: int

    def limit_bytes(self, index: int, left_bytes: int) -> int:
        """Most bytes of one chunk.

        Args:
            index: Its number.
            left_bytes: Size of the source from its first row on.
        """
        begin = _MIN_TAPERED_BYTES << min(index // self.encoders, _DOUBLINGS)
        return min(begin, max(left_bytes // (2 * self.encoders), _MIN_TAPERED_BYTES))


class ChunkReader:
    """Chunks of one pass over a source. Blocking; for the reader thread. `stop()` may come from any thread.

    Args:
        reader: The pass.
        max_chunk_bytes: Bound of a chunk's Arrow bytes.
        first_index: Number of the first chunk, where a push goes on.
        first_row: Row of the source that it begins with; must be where a chunk ended. Rows before it are dropped.
        taper: Sizes of the last chunks; only for readers that always begin at the beginning, or what is left would not be known.

    Attributes:
        first_row: The row that the first chunk begins with: 0, whatever was asked for, where blocks do not know their rows.
    """

    def __init__(
        self,
        reader: BlockReader,
        max_chunk_bytes: int,
        *,
        first_index: int = 0,
        first_row: int = 0,
        taper: Taper | None = None,
    ) -> None:
        if reader.rows_read is None:
            first_index = first_row = 0
        else:
            taper = None
        self._taper = taper
        self.first_row = first_row
        self._reader = reader
        self._blocks: Iterator[SourceBlock] | None = None
        self._packer = _Packer(max_chunk_bytes, first_index=first_index)
        self._stopped = threading.Event()
        self._is_at_end = False

    def next_chunk(self) -> Chunk | None:
        """The next chunk; None at the end, or once stopped (rows read for an unfinished chunk are dropped then).

        Raises:
            SourceError: From the source.
        """
        if self._blocks is None:
            self._blocks = iter(self._reader)
        while not self._stopped.is_set():
            chunk = self._packer.take(is_last=self._is_at_end, max_bytes=self._tapered())
            if chunk is not None or self._is_at_end:
                return chunk
            block = next(self._blocks, None)
            if block is None:
                self._is_at_end = True
            else:
                self._add_from_first_row(block)
        return None

    def _tapered(self) -> int | None:
        if self._taper is None:
            return None
        left = self._taper.size_bytes - (self._reader.bytes_read() or 0) + self._packer.waiting_bytes
        return self._taper.limit_bytes(self._packer.next_index, left)

    def _add_from_first_row(self, block: SourceBlock) -> None:
        end = self._reader.rows_read
        if end is None or block.rows is None or end - block.rows >= self.first_row:
            self._packer.add(block)
        elif end > self.first_row:
            batch = block.decode()
            self._packer.add(_slice(batch, batch.rows - (end - self.first_row), end - self.first_row))

    def stop(self) -> None:
        """Let `next_chunk()` return None after the block that is being read."""
        self._stopped.set()
        self._reader.stop()

    def bytes_read(self) -> int | None:
        """How far the source has been read, in its own bytes."""
        return self._reader.bytes_read()


class AsyncChunkReader:
    """The same over an async iterator; for one task."""

    first_row = 0

    def __init__(self, batches: AsyncIterator[SourceBatch], max_chunk_bytes: int) -> None:
        self._batches = batches
        self._packer = _Packer(max_chunk_bytes)
        self._is_stopped = False
        self._is_at_end = False

    async def next_chunk(self) -> Chunk | None:
        """The next chunk; None at the end, or once stopped.

        Raises:
            SourceError: From the source.
        """
        while not self._is_stopped:
            chunk = self._packer.take(is_last=self._is_at_end)
            if chunk is not None or self._is_at_end:
                return chunk
            try:
                self._packer.add(await anext(self._batches))
            except StopAsyncIteration:
                self._is_at_end = True
        return None

    def bytes_read(self) -> None:
        """Not known."""

    def stop(self) -> None:
        """Let `next_chunk()` return None after the batch that is being awaited."""
        self._is_stopped = True
