"""Blocks of rows -> chunks of a bounded size, the same ones at every pass over the same source."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

from pushengine.interfaces import BlockStream, OffLoop, SourceBatch, SourceBlock
from pushengine.parquet.slices import PassthroughBlock

Block = SourceBlock | PassthroughBlock
"""What a source gives: rows to be encoded, or files that hold them as they are sent."""

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
    blocks: tuple[Block, ...]
    nbytes: int

    def __repr__(self) -> str:
        return f"Chunk({self.chunk_id}, {len(self.blocks)} blocks, {self.nbytes} bytes)"

    @property
    def rows(self) -> int | None:
        """How many, or None where only decoding tells."""
        rows = [block.rows for block in self.blocks]
        return None if None in rows else sum(row for row in rows if row is not None)

    @property
    def passthrough(self) -> PassthroughBlock | None:
        """Where its bytes lie in files, if they are sent as they are: such a block is a chunk of its own."""
        first = self.blocks[0]
        return first if isinstance(first, PassthroughBlock) else None

    @property
    def encoded_blocks(self) -> Sequence[SourceBlock]:
        """The rows that are to be encoded."""
        return [block for block in self.blocks if not isinstance(block, PassthroughBlock)]

    def halves(self) -> tuple[Chunk, ...]:
        """The first and the second half of the rows, or nothing where there is one row. CPU-bound: decodes."""
        batches = [block.decode() for block in self.encoded_blocks]
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


def _chunk(chunk_id: str, blocks: Sequence[Block]) -> Chunk:
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


class Chunker:
    """Chunks of one pass over a source: whole blocks, but for a decoded one that is larger than a chunk, which is cut.

    Args:
        blocks: The pass. Blocks that are not decoded come in the right size.
        max_chunk_bytes: Bound of a chunk's bytes as the source has them.
        read: Runs a call on the reader thread: cuts a block there.
        first_index: Number of the first chunk, where a push goes on.
        first_row: Row of the source that it begins with; must be where a chunk ended. Rows before it are dropped.
        is_passthrough: Blocks are files, or parts of them, that are sent as they are.
        taper: Sizes of the last chunks; only for streams that always begin at the beginning, or what is left would not be known.

    Attributes:
        first_row: The row that the first chunk begins with: 0, whatever was asked for, where blocks do not know their rows.
        chunk_bytes: Expected bytes of a chunk in memory.
        on_read: Called with each chunk: how far the source has been read, bytes (0 where that is not known); and with None at the end.
    """

    def __init__(
        self,
        blocks: BlockStream[Block],
        max_chunk_bytes: int,
        *,
        read: OffLoop,
        first_index: int = 0,
        first_row: int = 0,
        taper: Taper | None = None,
        is_passthrough: bool = False,
    ) -> None:
        if blocks.rows_read is None:
            first_index = first_row = 0
        else:
            taper = None
        self.first_row = first_row
        self.chunk_bytes = max_chunk_bytes
        self.is_passthrough = is_passthrough
        self._blocks = blocks
        self._read = read
        self.on_read: Callable[[int | None], None] = _ignore
        self._taper = taper
        self._next_index = first_index
        self._waiting: deque[Block] = deque()
        self._waiting_bytes: deque[int] = deque()
        self._total_bytes = 0
        self._is_stopped = False
        self._is_at_end = False

    async def next_chunk(self) -> Chunk | None:
        """The next chunk; None at the end, or once stopped (rows read for an unfinished chunk are dropped then).

        Raises:
            SourceError: From the source.
        """
        chunk = await self._next_chunk()
        self.on_read(None if chunk is None else self.bytes_read or 0)
        return chunk

    async def _next_chunk(self) -> Chunk | None:
        while not self._is_stopped:
            chunk = await self._take()
            if chunk is not None or self._is_at_end:
                return chunk
            block = await self._blocks.next_block()
            if block is None:
                self._is_at_end = True
            else:
                await self._add_from_first_row(block)
        return None

    def stop(self) -> None:
        """Let `next_chunk()` return None after the block that is being read."""
        self._is_stopped = True
        self._blocks.stop()

    @property
    def bytes_read(self) -> int | None:
        """How far the source has been read, in its own bytes."""
        return self._blocks.bytes_read

    async def _add_from_first_row(self, block: Block) -> None:
        end = self._blocks.rows_read
        if end is None or block.rows is None or end - block.rows >= self.first_row:
            self._add(block)
        elif end > self.first_row:
            self._add(await self._read(_last_rows, block, end - self.first_row))

    def _add(self, block: Block) -> None:
        if block.rows != 0:
            self._waiting.append(block)
            self._waiting_bytes.append(block.nbytes)
            self._total_bytes += self._waiting_bytes[-1]

    async def _take(self) -> Chunk | None:
        """A chunk, if there are rows enough for one, or the source has ended."""
        if not self._waiting:
            return None
        limit = self._limit()
        blocks: list[Block] = []
        total = 0
        first = self._waiting[0]
        if self._waiting_bytes[0] > self.chunk_bytes and isinstance(first, SourceBatch) and first.rows > 1:
            cut = await self._read(self._cut_first, first)
            blocks, total = [cut], cut.nbytes
        else:
            if not self._is_at_end and self._total_bytes < limit:
                return None
            while self._waiting and (not blocks or total + self._waiting_bytes[0] <= limit):
                nbytes = self._waiting_bytes.popleft()
                total += nbytes
                self._total_bytes -= nbytes
                blocks.append(self._waiting.popleft())
        chunk = Chunk(f"{self._next_index:06d}", tuple(blocks), total)
        self._next_index += 1
        return chunk

    def _limit(self) -> int:
        if self._taper is None:
            return self.chunk_bytes
        left = self._taper.size_bytes - (self.bytes_read or 0) + self._total_bytes
        return min(self._taper.limit_bytes(self._next_index, left), self.chunk_bytes)

    def _cut_first(self, source: SourceBatch) -> SourceBatch:
        """The rows of the first waiting block that fit into a chunk; the others wait in its place."""
        rows = _rows_within(source, self.chunk_bytes)
        rest = _slice(source, rows, source.rows - rows)
        self._total_bytes += rest.nbytes - self._waiting_bytes[0]
        self._waiting[0], self._waiting_bytes[0] = rest, rest.nbytes
        return _slice(source, 0, rows)


def _last_rows(block: Block, rows: int) -> SourceBatch:
    if isinstance(block, PassthroughBlock):
        raise AssertionError("a pass over such blocks begins with one")  # noqa: TRY004 - a fault of ours
    batch = block.decode()
    return _slice(batch, batch.rows - rows, rows)


def _ignore(_bytes_read: int | None) -> None:
    """Nobody follows the reading."""
