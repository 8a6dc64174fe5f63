"""Chunks one after another, for asynchronous code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from pushengine.parquet.slices import PassthroughChunk, PassthroughReader
from pushengine.pipeline.chunking import Chunk, ChunkReader

Rows = Chunk | PassthroughChunk
"""What flows: rows to be encoded, or files that hold them as they are sent."""


class ChunkStream(Protocol):
    """Chunks in the order of the source.

    Attributes:
        first_row: Row of the source that the first of them begins with.
        chunk_bytes: Expected bytes of one in memory.
        sends_files: They are files, or parts of them, as they are.
    """

    first_row: int
    chunk_bytes: int
    sends_files: bool

    async def next_chunk(self) -> Rows | None:
        """The next one, or None after the last or after `stop()`."""
        ...

    def stop(self) -> None:
        """End the stream at the next chance."""
        ...

    def bytes_read(self) -> int | None:
        """How far the source has been read, where that is known."""
        ...


class BlockingChunkStream:
    """A `ChunkStream` over a blocking reader, each chunk read on the reader thread."""

    def __init__(
        self,
        reader: ChunkReader | PassthroughReader,
        *,
        read: Callable[[Callable[[], Rows | None]], Awaitable[Rows | None]],
        chunk_bytes: int,
        sends_files: bool = False,
    ) -> None:
        self.first_row = reader.first_row
        self.chunk_bytes = chunk_bytes
        self.sends_files = sends_files
        self.stop = reader.stop
        self.bytes_read = reader.bytes_read
        self._next_chunk = reader.next_chunk
        self._read = read

    async def next_chunk(self) -> Rows | None:
        """The next one, or None after the last or after `stop()`."""
        return await self._read(self._next_chunk)
