"""The engine's side of a source: settles the schema of a push and gives its chunks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from pushengine.config.settings import EngineSettings
from pushengine.errors import EngineClosedError, SourceReadError
from pushengine.interfaces import BlockReader, FileSystem, Source, SourceBatch, SourceBlock, Workers
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.slices import MEMORY_BYTES, PassthroughChunk, PassthroughReader
from pushengine.pipeline.chunking import AsyncChunkReader, Chunk, ChunkReader, Taper
from pushengine.pipeline.streams import BlockingChunkStream, ChunkStream
from pushengine.runtime.aio import finish
from pushengine.runtime.drain import DrainSwitch
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import checked
from pushengine.schema.inference import SchemaInference
from pushengine.sources import AsyncSource
from pushengine.sources.fingerprint import Fingerprint, fingerprint_files
from pushengine.sources.parquet import ParquetSource

T = TypeVar("T")


class DrainableStream:
    """A `ChunkStream` whose next chunk is not waited for once the engine drains: an iterator may have nothing to say for hours."""

    sends_files = False

    def __init__(self, stream: AsyncChunkReader, chunk_bytes: int, drain: DrainSwitch) -> None:
        self._stream = stream
        self.first_row = stream.first_row
        self.chunk_bytes = chunk_bytes
        self._drain = drain
        self.stop = stream.stop
        self.bytes_read = stream.bytes_read

    async def next_chunk(self) -> Chunk | None:
        """The next one, or None after the last or when the engine drains."""
        with contextlib.suppress(EngineClosedError):
            return await self._drain.guard(self._stream.next_chunk())
        return None


class SourceReader:
    """A source that can be read on a thread."""

    def __init__(
        self,
        source: Source,
        settings: EngineSettings,
        new_inference: Callable[..., SchemaInference],
        workers: Workers,
    ) -> None:
        self._source = source
        self._settings = settings
        self._new_inference = new_inference
        self._workers = workers
        self.label = source.label
        self.files = source.files
        self.is_text = source.is_text
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
        inference = self._new_inference(schema, is_text=self._source.is_text, source=self.label)
        reader = await read(self._source.open) if is_exhaustive else None
        blocks: Iterator[SourceBlock] = (
            self._source.sample(self._settings.sample_bytes) if reader is None else iter(reader)
        )
        self.sampled_rows = self.sampled_bytes = 0
        try:
            while (block := await read(_next_or_none, blocks)) is not None:
                self.sampled_rows += await self._workers.encode(_observe, inference, block)
                self.sampled_bytes += block.nbytes
        finally:
            if reader is not None:
                reader.stop()
            await self._close(blocks, reader)
        if not self.sampled_rows and not is_exhaustive:
            return await self.settle(is_exhaustive=True)  # only some of many files were looked at
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        return inference.settle()

    async def pieces(self, schema: TableSchema) -> list[PassthroughChunk] | ReencodeError | None:
        """The files as chunks that need no decoding, or why they have to be decoded; None where that is no question."""
        if not isinstance(self._source, ParquetSource):
            return None
        try:
            return await self._workers.read(self._source.pieces, schema)
        except ReencodeError as reason:
            return reason

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int, schema: TableSchema) -> AsyncIterator[ChunkStream]:
        """A pass over all rows from `first_row` on, in chunks numbered from `first_index`; or over all, where rows are not known yet."""
        pieces = await self.pieces(schema)
        if isinstance(pieces, list):
            piece_reader = PassthroughReader(pieces, first_index=first_index, first_row=first_row)
            yield BlockingChunkStream(piece_reader, read=self._workers.read, chunk_bytes=MEMORY_BYTES, sends_files=True)
            return
        reader = await self._workers.read(self._source.open, first_row)
        size = await self._workers.read(self._source.size_bytes)
        chunk_reader = ChunkReader(
            reader,
            self._settings.fitting_chunk_bytes,
            first_index=first_index,
            first_row=first_row,
            taper=Taper(size, self._settings.encoder_threads) if size else None,
        )
        try:
            yield BlockingChunkStream(
                chunk_reader, read=self._workers.read, chunk_bytes=self._settings.fitting_chunk_bytes
            )
        finally:
            chunk_reader.stop()
            await self._close(None, reader)

    async def _close(self, blocks: Iterator[SourceBlock] | None, reader: BlockReader | None) -> None:
        """Close on the reader thread, behind whatever read is still running there."""

        def close() -> None:
            closer = getattr(blocks, "close", None)
            if closer is not None:
                closer()
            if reader is not None:
                reader.close()

        await finish(self._workers.read(close))

    async def aclose(self) -> None:
        """Nothing is open between two passes."""


class AsyncSourceReader:
    """An async iterator of record batches: the first ones are kept back to settle the schema."""

    files = ()
    is_text = False
    is_repeatable = False
    size_bytes: int | None = None

    def __init__(
        self,
        source: AsyncSource,
        settings: EngineSettings,
        new_inference: Callable[..., SchemaInference],
        drain: DrainSwitch,
    ) -> None:
        self._source = source
        self._drain = drain
        self._settings = settings
        self._new_inference = new_inference
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
        inference = self._new_inference(schema, is_text=False, source=self.label)
        for batch in self._kept:
            inference.observe(batch)
        return inference.settle()

    async def pieces(self, schema: TableSchema) -> None:
        """None: there is no file."""

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int, schema: TableSchema) -> AsyncIterator[ChunkStream]:
        """All batches in chunks."""
        del first_index, first_row, schema
        chunk_bytes = self._settings.fitting_chunk_bytes
        async with contextlib.aclosing(self._batches()) as batches:
            yield DrainableStream(AsyncChunkReader(batches, chunk_bytes), chunk_bytes, self._drain)

    async def _batches(self) -> AsyncGenerator[SourceBatch, None]:
        while self._kept:
            yield self._kept.pop(0)
        async for batch in self._source.batches:
            yield batch

    async def aclose(self) -> None:
        """Close the iterator."""
        await self._source.aclose()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that is open, and its files as they are now (None for objects in memory)."""

    source_reader: SourceReader | AsyncSourceReader
    fingerprint: Fingerprint | None


def open_source_reader(
    source: Source | AsyncSource,
    settings: EngineSettings,
    new_inference: Callable[..., SchemaInference],
    workers: Workers,
    drain: DrainSwitch,
) -> SourceReader | AsyncSourceReader:
    """The source_reader for a source."""
    if isinstance(source, AsyncSource):
        return AsyncSourceReader(source, settings, new_inference, drain)
    return SourceReader(source, settings, new_inference, workers)


def _observe(inference: SchemaInference, block: SourceBlock) -> int:
    """Learn from a block; returns its rows."""

    def observe(batch: SourceBatch) -> int:
        inference.observe(batch, block.located)
        return batch.rows

    return checked(block, observe)


def _next_or_none(batches: Iterator[T]) -> T | None:
    return next(batches, None)
