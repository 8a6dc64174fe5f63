"""Cuts blocks of rows into chunks of bounded size. Every pass over the same source yields the same chunks."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence

from pushengine.interfaces import BlockStream, OffLoop, SourceBatch, SourceBlock
from pushengine.parquet.slices import PassthroughBlock

Block = SourceBlock | PassthroughBlock
"""A block as a source returns it: rows to be encoded, or file ranges that are sent unchanged."""

_MIN_TAPERED_BYTES = 8 * 1024 * 1024
_DOUBLINGS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one upload.

    Attributes:
        chunk_id: `000000`, `000001`, ...; halves add `.0` and `.1`.
        blocks: The rows as the source returned them; at least one block.
        nbytes: Size of the rows as the source holds them, bytes.
    """

    chunk_id: str
    blocks: tuple[Block, ...]
    nbytes: int

    def __repr__(self) -> str:
        return f"Chunk({self.chunk_id}, {len(self.blocks)} blocks, {self.nbytes} bytes)"

    @property
    def rows(self) -> int | None:
        """Number of rows; None if it is unknown until the blocks are decoded."""
        rows = [block.rows for block in self.blocks]
        return None if None in rows else sum(row for row in rows if row is not None)

    @property
    def passthrough(self) -> PassthroughBlock | None:
        """The passthrough block, which always forms a chunk by itself; None if the chunk has to be encoded."""
        first = self.blocks[0]
        return first if isinstance(first, PassthroughBlock) else None

    @property
    def encoded_blocks(self) -> Sequence[SourceBlock]:
        """The blocks that have to be encoded."""
        return [block for block in self.blocks if not isinstance(block, PassthroughBlock)]

    def halves(self) -> tuple[Chunk, ...]:
        """Return the two halves of the rows; nothing if there are fewer than two rows. CPU-bound, because it decodes the blocks."""
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
    """Return how many rows from the start fit into `max_bytes`; at least one."""
    # Measuring slices works because Arrow's `nbytes` counts the bytes that a slice refers to, not the whole buffers that it shares.
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
    """Smaller chunks at both ends of a source, so that all encoders start early and finish at about the same time.

    Attributes:
        size_bytes: Size of the whole source.
        encoders: Number of encoder threads that share the rest of the source; a chunk is at most half of a fair share.
    """

    size_bytes: int
    encoders: int

    def limit_bytes(self, index: int, left_bytes: int) -> int:
        """Return the maximum size of a chunk, bytes.

        Args:
            index: The chunk's number.
            left_bytes: Size of the source from the chunk's first row onwards.
        """
        begin = _MIN_TAPERED_BYTES << min(index // self.encoders, _DOUBLINGS)
        return min(begin, max(left_bytes // (2 * self.encoders), _MIN_TAPERED_BYTES))


class Chunker:
    """The chunks of one pass over a source. A chunk consists of whole blocks; only a decoded block larger than a chunk is cut.

    Args:
        blocks: The pass. Blocks that are not decoded must already have a suitable size.
        max_chunk_bytes: Maximum size of a chunk as the source holds it, bytes.
        read: Runs a call on the reader thread, where blocks are cut.
        first_index: Number of the first chunk; not 0 when a push is resumed.
        first_row: Source row at which the first chunk begins; must be the end of an earlier chunk. Rows before it are dropped.
        is_passthrough: Whether the blocks are files, or ranges of files, that are sent unchanged.
        taper: Limits for the first and last chunks. Ignored if blocks know their row counts, since the pass may then begin in the middle.

    Attributes:
        first_row: Row at which the first chunk begins; always 0 if blocks do not know their row counts.
        chunk_bytes: Expected size of a chunk in memory, bytes.
        if_empty: A batch without rows, which becomes the only chunk of a source without rows; None: such a source has no chunk.
        on_read: Called once per chunk with how far the source has been read, bytes (0 if unknown), and with None at the end.
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
            first_index = first_row = 0  # without row counts the pass cannot skip rows
        else:
            taper = None  # after a start in the middle, the number of bytes left is unknown
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
        self.if_empty: SourceBatch | None = None

    async def next_chunk(self) -> Chunk | None:
        """Return the next chunk; None at the end or once stopped. Stopping drops the rows of an unfinished chunk.

        Raises:
            SourceError: Raised by the source.
        """
        chunk = await self._next_chunk()
        self.on_read(None if chunk is None else self.bytes_read or 0)
        return chunk

    async def _next_chunk(self) -> Chunk | None:
        while not self._is_stopped:
            chunk = await self._take()
            if chunk is None and self._is_at_end and self._next_index == 0 and self.if_empty is not None:
                self._next_index = 1
                return Chunk("000000", (self.if_empty,), 0)
            if chunk is not None or self._is_at_end:
                return chunk
            block = await self._blocks.next_block()
            if block is None:
                self._is_at_end = True
            else:
                await self._add_from_first_row(block)
        return None

    def stop(self) -> None:
        """Make `next_chunk()` return None once the block being read has arrived."""
        self._is_stopped = True
        self._blocks.stop()

    @property
    def bytes_read(self) -> int | None:
        """How far the source has been read, in bytes of the source; None if unknown."""
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
        """Return a chunk if there are enough rows for one or the source has ended; None otherwise."""
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
        """Return the rows of the first waiting block that fit into a chunk. The remaining rows take the block's place."""
        rows = _rows_within(source, self.chunk_bytes)
        rest = _slice(source, rows, source.rows - rows)
        self._total_bytes += rest.nbytes - self._waiting_bytes[0]
        self._waiting[0], self._waiting_bytes[0] = rest, rest.nbytes
        return _slice(source, 0, rows)


def _last_rows(block: Block, rows: int) -> SourceBatch:
    if isinstance(block, PassthroughBlock):
        raise AssertionError("a pass over passthrough blocks must begin at a block boundary")  # noqa: TRY004 - an internal error
    batch = block.decode()
    return _slice(batch, batch.rows - rows, rows)


def _ignore(_bytes_read: int | None) -> None:
    """Do nothing; the default for `Chunker.on_read`."""
