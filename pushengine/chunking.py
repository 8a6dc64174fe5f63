"""Record batches -> chunks of a bounded size, the same ones at every pass over the same batches."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator

from pushengine.types import BatchReader, SourceBatch


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of upload: rows under the byte limit.

    Attributes:
        chunk_id: `000000`, `000001`, ...; halves add `.0` and `.1`.
        batches: The rows, as the source has them.
        rows: Number of rows; at least one.
        nbytes: Their Arrow bytes.
        source_rows: Half-open range of rows of the whole source.
    """

    chunk_id: str
    batches: tuple[SourceBatch, ...]
    rows: int
    nbytes: int
    source_rows: tuple[int, int]

    def __repr__(self) -> str:
        return f"Chunk({self.chunk_id}, rows {self.source_rows[0]}..{self.source_rows[1]}, {self.nbytes} bytes)"

    def halves(self) -> tuple[Chunk, Chunk]:
        """The first and the second half of the rows, without copying them.

        Raises:
            ValueError: There is one row only.
        """
        if self.rows < 2:  # noqa: PLR2004 - one row has no halves
            raise ValueError(f"chunk {self.chunk_id} of one row cannot be split")
        first, second = self._cut(self.rows // 2)
        start, end = self.source_rows
        middle = start + self.rows // 2
        return (
            _chunk(f"{self.chunk_id}.0", first, (start, middle)),
            _chunk(f"{self.chunk_id}.1", second, (middle, end)),
        )

    def _cut(self, rows: int) -> tuple[list[SourceBatch], list[SourceBatch]]:
        first: list[SourceBatch] = []
        second: list[SourceBatch] = []
        for source in self.batches:
            taken = max(0, min(rows, source.batch.num_rows))
            if taken:
                first.append(_slice(source, 0, taken))
            if taken < source.batch.num_rows:
                second.append(_slice(source, taken, source.batch.num_rows - taken))
            rows -= taken
        return first, second


def _chunk(chunk_id: str, batches: list[SourceBatch], source_rows: tuple[int, int]) -> Chunk:
    nbytes = sum(source.batch.nbytes for source in batches)
    return Chunk(chunk_id, tuple(batches), source_rows[1] - source_rows[0], nbytes, source_rows)


def _slice(source: SourceBatch, offset: int, rows: int) -> SourceBatch:
    if offset == 0 and rows == source.batch.num_rows:
        return source
    return SourceBatch(
        source.batch.slice(offset, rows),
        source.source,
        source.first_row + offset,
        None if source.first_line is None else source.first_line + offset,
    )


def _rows_within(source: SourceBatch, max_bytes: int) -> int:
    """How many rows from the start fit; at least one. `nbytes` counts what a slice refers to, not the buffers that it shares."""
    fits, too_many = 1, source.batch.num_rows
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if source.batch.slice(0, middle).nbytes <= max_bytes:
            fits = middle
        else:
            too_many = middle
    return fits


class _Packer:
    """Whole batches into chunks; only a batch that is larger than a chunk is cut."""

    def __init__(self, max_chunk_bytes: int, *, first_index: int = 0, first_row: int = 0) -> None:
        self._max_bytes = max_chunk_bytes
        self._waiting: deque[SourceBatch] = deque()
        self._waiting_bytes: deque[int] = deque()
        self._total_bytes = 0
        self._count = first_index
        self._rows = first_row

    def add(self, source: SourceBatch) -> None:
        if source.batch.num_rows:
            self._waiting.append(source)
            self._waiting_bytes.append(source.batch.nbytes)
            self._total_bytes += self._waiting_bytes[-1]

    def take(self, *, is_last: bool) -> Chunk | None:
        """A chunk, if there are rows enough for one (or the source has ended)."""
        if not self._waiting:
            return None
        batches: list[SourceBatch] = []
        total = 0
        if self._waiting_bytes[0] > self._max_bytes and self._waiting[0].batch.num_rows > 1:
            batches = [self._cut_first()]
        else:
            if not is_last and self._total_bytes < self._max_bytes:
                return None
            while self._waiting and (not batches or total + self._waiting_bytes[0] <= self._max_bytes):
                nbytes = self._waiting_bytes.popleft()
                total += nbytes
                self._total_bytes -= nbytes
                batches.append(self._waiting.popleft())
        rows = sum(source.batch.num_rows for source in batches)
        chunk = _chunk(f"{self._count:06d}", batches, (self._rows, self._rows + rows))
        self._count += 1
        self._rows += rows
        return chunk

    def _cut_first(self) -> SourceBatch:
        source = self._waiting[0]
        rows = _rows_within(source, self._max_bytes)
        rest = _slice(source, rows, source.batch.num_rows - rows)
        self._total_bytes += rest.batch.nbytes - self._waiting_bytes[0]
        self._waiting[0], self._waiting_bytes[0] = rest, rest.batch.nbytes
        return _slice(source, 0, rows)


class ChunkReader:
    """Chunks of one pass over a source. Blocking; for the reader thread. `stop()` may come from any thread.

    Args:
        reader: The pass.
        max_chunk_bytes: Bound of a chunk's Arrow bytes.
        first_index: Number of the first chunk, where a push goes on.
        first_row: Row of the source that it begins with; must be where a chunk ended. Rows before it are dropped.
    """

    def __init__(self, reader: BatchReader, max_chunk_bytes: int, *, first_index: int = 0, first_row: int = 0) -> None:
        self._reader = reader
        self._first_row = first_row
        self._batches: Iterator[SourceBatch] | None = None
        self._packer = _Packer(max_chunk_bytes, first_index=first_index, first_row=first_row)
        self._stopped = threading.Event()
        self._is_at_end = False

    def next_chunk(self) -> Chunk | None:
        """The next chunk; None at the end, or once stopped (rows read for an unfinished chunk are dropped then).

        Raises:
            SourceError: From the source.
        """
        if self._batches is None:
            self._batches = iter(self._reader)
        while not self._stopped.is_set():
            chunk = self._packer.take(is_last=self._is_at_end)
            if chunk is not None or self._is_at_end:
                return chunk
            source = next(self._batches, None)
            if source is None:
                self._is_at_end = True
            else:
                self._add_from_first_row(source)
        return None

    def _add_from_first_row(self, source: SourceBatch) -> None:
        rows = source.batch.num_rows
        dropped = max(self._first_row - (self._reader.rows_read - rows), 0)
        if dropped < rows:
            self._packer.add(_slice(source, dropped, rows - dropped))

    def stop(self) -> None:
        """Let `next_chunk()` return None after the batch that is being read."""
        self._stopped.set()

    def bytes_read(self) -> int | None:
        """How far the source has been read, in its own bytes."""
        return self._reader.bytes_read()

    def close(self) -> None:
        """Release files; safe to call twice, on the reader thread."""
        self._stopped.set()
        self._reader.close()


class AsyncChunkReader:
    """The same over an async iterator; for one task."""

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
