"""The engine's side of a source: infers the schema of a push and gives its chunks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.interfaces import AsyncSource, BlockStream, FileSystem, SourceBatch, SourceBlock, Workers
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.slices import MEMORY_BYTES, PassthroughBlock, PassthroughReader
from pushengine.pipeline.chunking import Block, Chunker, Taper
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import checked
from pushengine.schema.inference import SchemaInference
from pushengine.sources.fingerprint import Fingerprint, fingerprint_files
from pushengine.sources.parquet import ParquetSource
from pushengine.sources.threaded import ThreadSource, ThreadStream


class SourceReader:
    """A source, read for a push.

    Args:
        source: The source.
        settings: How it is read and cut.
        new_inference: Makes a `SchemaInference` for a schema of the source.
        workers: Threads that read and decode.
    """

    def __init__(
        self,
        source: AsyncSource,
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
        schema = await self._source.schema()
        self.size_bytes = await self._source.size_bytes()
        inference = self._new_inference(schema, is_text=self._source.is_text, source=self.label)
        source, sample_bytes = self._source, self._settings.sample_bytes
        blocks = await source.open() if is_exhaustive else await source.sample(sample_bytes)
        self.sampled_rows = self.sampled_bytes = 0
        async with contextlib.aclosing(blocks):
            while (block := await blocks.next_block()) is not None:
                self.sampled_rows += await self._workers.encode(_observe, inference, block)
                self.sampled_bytes += block.nbytes
        if not self.sampled_rows and not is_exhaustive:
            return await self.settle(is_exhaustive=True)  # only some of many files were looked at
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        return inference.settle()

    async def passthrough_blocks(self, schema: TableSchema) -> list[PassthroughBlock] | ReencodeError | None:
        """The files as blocks that need no decoding, or why they have to be decoded; None where that is no question."""
        source = self._source.source if isinstance(self._source, ThreadSource) else None
        if not isinstance(source, ParquetSource):
            return None
        try:
            return await self._workers.read(source.passthrough_blocks, schema)
        except ReencodeError as reason:
            return reason

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int, schema: TableSchema) -> AsyncIterator[Chunker]:
        """A pass over all rows from `first_row` on, in chunks numbered from `first_index`; or over all, where rows are not known yet."""
        passthrough = await self.passthrough_blocks(schema)
        taper: Taper | None = None
        blocks: BlockStream[Block]
        if isinstance(passthrough, list):
            chunk_bytes = MEMORY_BYTES
            reader = PassthroughReader(passthrough, label=self.label, start_row=first_row)
            blocks = ThreadStream(reader, self._workers.read)
        else:
            chunk_bytes = self._settings.fitting_chunk_bytes
            size = await self._source.size_bytes()
            taper = Taper(size, self._settings.encoder_threads) if size else None
            blocks = await self._source.open(first_row)  # last: what fails after it would leave it open
        async with contextlib.aclosing(blocks):
            yield Chunker(
                blocks,
                chunk_bytes,
                read=self._workers.read,
                first_index=first_index,
                first_row=first_row,
                taper=taper,
                is_passthrough=isinstance(passthrough, list),
            )

    async def aclose(self) -> None:
        """Close what outlives a pass."""
        await self._source.aclose()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedSource:
    """A source that is open, and its files as they are now (None for objects in memory)."""

    source_reader: SourceReader
    fingerprint: Fingerprint | None


def _observe(inference: SchemaInference, block: SourceBlock) -> int:
    """Learn from a block; returns its rows."""

    def observe(batch: SourceBatch) -> int:
        inference.observe(batch, block.located)
        return batch.rows

    return checked(block, observe)
