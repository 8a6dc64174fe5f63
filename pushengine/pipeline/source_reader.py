"""Reads a source for a push: infers the schema and yields the chunks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import no_rows
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
    """A source as read by a push.

    Args:
        source: The source.
        settings: How the source is sampled and cut into chunks.
        new_inference: Creates a `SchemaInference` from the source's Arrow schema.
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
        """Return the fingerprint of the files, by which later changes are detected; None for objects in memory."""
        files = self._source.files
        return await self._workers.read(fingerprint_files, filesystem, files) if files else None

    async def infer_schema(self, *, is_exhaustive: bool) -> TableSchema:
        """Infer one schema for the whole push, from a sample or from every row.

        Raises:
            SourceError: The source is unreadable, malformed, unsuitable or empty.
        """
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
            # The sample covers only some of the files; others may have rows.
            return await self.infer_schema(is_exhaustive=True)
        if not self.sampled_rows:
            raise no_rows(self.label)
        return inference.infer_schema()

    async def passthrough_blocks(self, schema: TableSchema) -> list[PassthroughBlock] | ReencodeError | None:
        """Return the blocks for passthrough, or the reason why the files must be re-encoded; None if the source is not Parquet."""
        source = self._source.source if isinstance(self._source, ThreadSource) else None
        if not isinstance(source, ParquetSource):
            return None
        try:
            return await self._workers.read(source.passthrough_blocks, schema)
        except ReencodeError as reason:
            return reason

    @contextlib.asynccontextmanager
    async def chunks(self, first_index: int, first_row: int, schema: TableSchema) -> AsyncIterator[Chunker]:
        """Start a pass over the rows from `first_row` onwards, in chunks numbered from `first_index`.

        If blocks do not know their row counts, the pass covers all rows, in chunks numbered from 0.
        """
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
            blocks = await self._source.open(first_row)  # open last: a failure after it would leak it
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
        """Close what outlives a pass, such as an iterator."""
        await self._source.aclose()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedSource:
    """An open source with the fingerprint of its files when it was opened (None for objects in memory)."""

    source_reader: SourceReader
    fingerprint: Fingerprint | None


def _observe(inference: SchemaInference, block: SourceBlock) -> int:
    """Update the inference with the rows of a block, and return their number."""

    def observe(batch: SourceBatch) -> int:
        inference.observe(batch, block.located)
        return batch.rows

    return checked(block, observe)
