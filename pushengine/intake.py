"""The engine's side of a source: settles the schema of a push and gives its chunks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from pushengine.chunking import AsyncChunkReader, Chunk, ChunkReader
from pushengine.config import EngineSettings
from pushengine.drain import DrainSwitch
from pushengine.errors import EngineClosedError, SourceReadError
from pushengine.producer import BlockingChunkStream, ChunkStream
from pushengine.recipe import fingerprint_files
from pushengine.schema import SchemaSettler, TableSchema
from pushengine.sources import AsyncSource
from pushengine.types import BatchReader, FileSystem, Source, SourceBatch, Workers
from pushengine.workers import finish

T = TypeVar("T")


class DrainableStream:
    """A `ChunkStream` whose next chunk is not waited for once the engine drains: an iterator may have nothing to say for hours."""

    def __init__(self, stream: ChunkStream, drain: DrainSwitch) -> None:
        self._stream = stream
        self._drain = drain
        self.stop = stream.stop
        self.bytes_read = stream.bytes_read

    async def next_chunk(self) -> Chunk | None:
        """The next one, or None after the last or when the engine drains."""
        with contextlib.suppress(EngineClosedError):
            return await self._drain.guard(self._stream.next_chunk())
        return None


class Intake:
    """A source that can be read on a thread."""

    def __init__(
        self,
        source: Source,
        settings: EngineSettings,
        new_settler: Callable[..., SchemaSettler],
        workers: Workers,
    ) -> None:
        self._source = source
        self._settings = settings
        self._new_settler = new_settler
        self._workers = workers
        self.label = source.label
        self.is_repeatable = source.is_repeatable
        self.size_bytes: int | None = None
        self.sampled_rows = 0
        self.sampled_bytes = 0

    async def fingerprint(self, filesystem: FileSystem) -> list[Any] | None:
        """What tells the same files from changed ones; None for objects in memory."""
        files = self._source.files
        return await self._workers.read(fingerprint_files, filesystem, files) if files else None

    async def settle(self, *, is_exhaustive: bool) -> TableSchema:
        """One schema for the whole push, from a sample or from every row."""
        read = self._workers.read
        schema = await read(self._source.schema)
        self.size_bytes = await read(self._source.size_bytes)
        settler = self._new_settler(schema, is_text=self._source.is_text, source=self.label)
        reader = await read(self._source.open) if is_exhaustive else None
        batches = iter(reader) if reader is not None else self._source.sample(self._settings.sample_bytes)
        self.sampled_rows = self.sampled_bytes = 0
        try:
            while (batch := await read(_next_or_none, batches)) is not None:
                await self._workers.encode(settler.observe, batch)
                self.sampled_rows += batch.batch.num_rows
                self.sampled_bytes += batch.batch.nbytes
        finally:
            await self._close(batches, reader)
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        return settler.settle()

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int) -> AsyncIterator[ChunkStream]:
        """A pass over all rows from `first_row` on, in chunks numbered from `first_index`."""
        reader = await self._workers.read(self._source.open, first_row)
        chunk_reader = ChunkReader(reader, self._settings.chunk_bytes, first_index=first_index, first_row=first_row)
        try:
            yield BlockingChunkStream(
                chunk_reader.next_chunk,
                stop=chunk_reader.stop,
                bytes_read=reader.bytes_read,
                read=self._workers.read,
            )
        finally:
            chunk_reader.stop()
            await self._close(None, reader)

    async def _close(self, batches: Iterator[SourceBatch] | None, reader: BatchReader | None) -> None:
        """Close on the reader thread, behind whatever read is still running there."""

        def close() -> None:
            closer = getattr(batches, "close", None)
            if closer is not None:
                closer()
            if reader is not None:
                reader.close()

        await finish(self._workers.read(close))

    async def aclose(self) -> None:
        """Nothing is open between two passes."""


class AsyncIntake:
    """An async iterator of record batches: the first ones are kept back to settle the schema."""

    is_repeatable = False
    size_bytes: int | None = None

    def __init__(
        self,
        source: AsyncSource,
        settings: EngineSettings,
        new_settler: Callable[..., SchemaSettler],
        drain: DrainSwitch,
    ) -> None:
        self._source = source
        self._drain = drain
        self._settings = settings
        self._new_settler = new_settler
        self._kept: list[SourceBatch] = []
        self.label = source.label
        self.sampled_rows = 0
        self.sampled_bytes = 0

    async def fingerprint(self, filesystem: FileSystem) -> list[Any] | None:
        """None: nobody can read it again."""
        del filesystem
        return None

    async def settle(self, *, is_exhaustive: bool) -> TableSchema:
        """One schema for the whole push, from the first batches."""
        del is_exhaustive
        while self.sampled_bytes < self._settings.sample_bytes:
            batch = await anext(self._source.batches, None)
            if batch is None:
                break
            self._kept.append(batch)
            self.sampled_bytes += batch.batch.nbytes
            self.sampled_rows += batch.batch.num_rows
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        schema = self._source.schema or self._kept[0].batch.schema
        settler = self._new_settler(schema, is_text=False, source=self.label)
        for batch in self._kept:
            settler.observe(batch)
        return settler.settle()

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int) -> AsyncIterator[ChunkStream]:
        """All batches in chunks."""
        del first_index, first_row
        async with contextlib.aclosing(self._batches()) as batches:
            yield DrainableStream(AsyncChunkReader(batches, self._settings.chunk_bytes), self._drain)

    async def _batches(self) -> AsyncGenerator[SourceBatch, None]:
        while self._kept:
            yield self._kept.pop(0)
        async for batch in self._source.batches:
            yield batch

    async def aclose(self) -> None:
        """Close the iterator."""
        await self._source.aclose()


def open_intake(
    source: Source | AsyncSource,
    settings: EngineSettings,
    new_settler: Callable[..., SchemaSettler],
    workers: Workers,
    drain: DrainSwitch,
) -> Intake | AsyncIntake:
    """The intake for a source."""
    if isinstance(source, AsyncSource):
        return AsyncIntake(source, settings, new_settler, drain)
    return Intake(source, settings, new_settler, workers)


def _next_or_none(batches: Iterator[T]) -> T | None:
    return next(batches, None)
