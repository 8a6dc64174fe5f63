"""Reads a source for a push: infers the schema and yields the chunks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError, no_rows
from pushengine.interfaces import (
    AsyncSource,
    BlockStream,
    Doubt,
    FileSystem,
    SourceBatch,
    SourceBlock,
    Structure,
    Workers,
)
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.slices import MEMORY_BYTES, PassthroughBlock, PassthroughReader
from pushengine.pipeline.chunking import Block, Chunker, Taper
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import checked, conform
from pushengine.schema.inference import InferredSchema, SchemaInference
from pushengine.schema.known import KnownTable
from pushengine.schema.rejects import Problem, sifted
from pushengine.schema.rules import SchemaRules
from pushengine.sources.fingerprint import Fingerprint, fingerprint_files
from pushengine.sources.parquet import ParquetSource
from pushengine.sources.threaded import ThreadSource, ThreadStream
from pushengine.text import format_bytes

ObserveRows = Callable[[pa.RecordBatch, SourceBatch, int], None]
_BYTES_PER_COLUMN = 20 * 1024
"""Memory that each column takes, however few rows there are: its candidates, Arrow's buffers and those of the Parquet writer."""
_FIRST_ROWS = 5
"""Rows that `pushengine plan` shows."""


class SourceReader:
    """A source as read by a push.

    Args:
        source: The source.
        settings: How the source is sampled and cut into chunks.
        rules: What decides the schema besides the rows.
        workers: Threads that read and decode.

    Attributes:
        first_rows: The first rows of the sample; None until the schema is inferred with reasons, or if there are none.
        structure: How the text of the source is written; None until the schema is inferred, or if the source is not text.
    """

    def __init__(
        self,
        source: AsyncSource,
        settings: EngineSettings,
        rules: SchemaRules,
        workers: Workers,
    ) -> None:
        self._source = source
        self._settings = settings
        self._rules = rules
        self._workers = workers
        self.label = source.label
        self.files = source.files
        self.is_text = source.is_text
        self.is_repeatable = source.is_repeatable
        self.size_bytes: int | None = None
        self.sampled_rows = 0
        self.sampled_bytes = 0
        self.first_rows: SourceBatch | None = None
        self.structure: Structure | None = None

    async def fingerprint(self, filesystem: FileSystem) -> list[Any] | None:
        """Return the fingerprint of the files, by which later changes are detected; None for objects in memory."""
        files = self._source.files
        return await self._workers.read(fingerprint_files, filesystem, files) if files else None

    async def infer(
        self, known: KnownTable | None, *, is_exhaustive: bool = False, explains: bool = False
    ) -> InferredSchema:
        """Infer one schema for the whole push, from a sample or from every row.

        Args:
            known: The table that the rows are for; None if it is new or nothing is known of it.
            is_exhaustive: Whether to read every row.
            explains: Whether to find the reasons for the types, too, and to keep the first rows.

        Returns:
            The schema. If the source has no rows, `is_empty` is set, and the schema is that of an empty table.

        Raises:
            SourceError: The source is unreadable, malformed or unsuitable, or has more columns than fit into the memory budget.
        """
        schema = await self._source.schema()
        self._require_memory(len(schema))
        self.size_bytes = await self._source.size_bytes()
        if not len(schema) and not self.files and (self._rules.is_delta or not self._rules.allow_empty):
            # An iterator that ended without a batch.
            return InferredSchema(TableSchema(()), (), is_empty=True)
        try:
            inference = SchemaInference(
                schema,
                is_text=self._source.is_text,
                rules=self._rules,
                known=known,
                source=self.label,
                explains=explains,
            )
        except SchemaError:
            await self._check_structure(
                known, is_as_before=False
            )  # columns of a file that is read wrongly are the wrong ones
            raise
        source, sample_bytes = self._source, self._settings.sample_bytes
        blocks = await source.open() if is_exhaustive else await source.sample(sample_bytes)
        self.sampled_rows = self.sampled_bytes = 0
        async with contextlib.aclosing(blocks):
            while (block := await blocks.next_block()) is not None:
                rows = await self._workers.encode(self._observe, inference, block)
                if explains and rows and self.first_rows is None:
                    self.first_rows = await self._workers.encode(_first_rows, block)
                self.sampled_rows += rows
                self.sampled_bytes += block.nbytes
        if not self.sampled_rows and not is_exhaustive and self.is_repeatable:
            # The sample covers only some of the files; others may have rows.
            return await self.infer(known, is_exhaustive=True, explains=explains)
        notes = await self._check_structure(known, is_as_before=inference.has_columns_of_table)
        inferred = inference.infer(is_empty=not self.sampled_rows)
        return dataclasses.replace(inferred, notes=(*notes, *inferred.notes))

    def _require_memory(self, columns: int) -> None:
        needed = columns * _BYTES_PER_COLUMN
        if needed > self._settings.max_memory_bytes:
            raise SchemaError(
                f"{columns:,} columns take about {format_bytes(needed)} of memory, more than max_memory_bytes allows",
                source=self.label,
                hint=f"set max_memory_bytes = {needed}, or split the columns over several tables",
            )

    def _observe(self, inference: SchemaInference, block: SourceBlock) -> int:
        """Update the inference with the rows of a block, and return their number."""

        def observe(batch: SourceBatch) -> int:
            inference.observe(batch, block.located)
            return batch.rows

        try:
            return checked(block, observe)
        except SourceReadError:
            if not self._settings.allows_rejects:
                raise
        readable = block.readable()
        observe(readable.batch)
        return readable.rows

    async def _check_structure(self, known: KnownTable | None, *, is_as_before: bool) -> tuple[str, ...]:
        """Return what the user should know about the structure of the source.

        Args:
            known: The table; None if it is new or nothing is known of it.
            is_as_before: Whether the table has the same columns, so that earlier pushes read the source in the same way.

        Raises:
            SourceReadError: The structure is doubtful, and the table does not have the same columns.
        """
        found = await self._source.structure(() if known is None else [column.name for column in known.columns])
        self.structure = found if self.is_text else None
        if found is None:
            return ()
        doubts = found.doubts
        if doubts and not is_as_before:
            doubt = doubts[0]
            raise SourceReadError(doubt.message, source=doubt.source, position=_position(doubt), hint=doubt.hint)
        return (*map(_note, doubts), *found.notes)

    def require_rows(self, inferred: InferredSchema) -> None:
        """Require that a replace has rows, unless the user allows an empty one. The other modes just have nothing to do.

        Raises:
            SourceReadError: It has none.
        """
        if inferred.is_empty and self._rules.mode == "replace" and not self._rules.allow_empty:
            raise no_rows(self.label)

    async def observe_rows(self, schema: TableSchema, observe: ObserveRows) -> None:
        """Read all rows once more, and call `observe` with those of each block that are sent, in order, on one thread at a time.

        Args:
            schema: Schema of the push.
            observe: Called with the rows as they are sent and as they were read, and with the number of rows of the block.

        Raises:
            SourceError: The source is unreadable or has changed.
        """
        blocks = await self._source.open()
        async with contextlib.aclosing(blocks):
            while (block := await blocks.next_block()) is not None:
                await self._workers.encode(self._observe_rows, schema, block, observe)

    def _observe_rows(self, schema: TableSchema, block: SourceBlock, observe: ObserveRows) -> None:
        def conformed(source: SourceBatch) -> tuple[pa.RecordBatch, SourceBatch]:
            return conform(schema, source), source

        if not self._settings.allows_rejects:
            batch = block.decode()
            observe(conform(schema, batch), batch, batch.rows)
            return
        (rows, batch), readable, _ = sifted(block, schema, conformed, widens=False)
        observe(rows, batch, batch.rows if readable is None else readable.rows)

    async def count_rejects(self, schema: TableSchema) -> tuple[int, int, str]:
        """Read the sample once more, and count the rows that a push would reject.

        Returns:
            The number of rejected rows; the number of rows in the sample; and the first problem, empty if there is none.

        Raises:
            SourceError: The source is unreadable, or has a problem for which no row can be rejected.
        """

        def problems_of(block: SourceBlock) -> tuple[int, Sequence[Problem], int]:
            kept, readable, problems = sifted(
                block, schema, lambda batch: conform(schema, batch).num_rows, widens=False
            )
            return kept, problems, 0 if readable is None else readable.rows - kept

        rejected = total = 0
        first = ""
        blocks = await self._source.sample(self._settings.sample_bytes)
        async with contextlib.aclosing(blocks):
            while (block := await blocks.next_block()) is not None:
                kept, problems, left_out = await self._workers.encode(problems_of, block)
                rejected, total = rejected + left_out, total + kept + left_out
                first = first or (problems[0].message if problems else "")
        return rejected, total, first

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
    async def chunks(
        self,
        first_index: int,
        first_row: int,
        schema: TableSchema,
        *,
        allow_empty: bool = False,
        allow_passthrough: bool = True,
    ) -> AsyncIterator[Chunker]:
        """Start a pass over the rows from `first_row` onwards, in chunks numbered from `first_index`.

        If blocks do not know their row counts, the pass covers all rows, in chunks numbered from 0. With `allow_empty`, a source without
        rows is one chunk without rows. Without `allow_passthrough`, files are decoded and encoded again.
        """
        passthrough: list[PassthroughBlock] | ReencodeError | None = None
        if allow_passthrough:
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
            chunker = Chunker(
                blocks,
                chunk_bytes,
                read=self._workers.read,
                first_index=first_index,
                first_row=first_row,
                taper=taper,
                is_passthrough=isinstance(passthrough, list),
            )
            chunker.if_empty = _empty_batch(schema, self.label) if allow_empty else None
            yield chunker

    async def aclose(self) -> None:
        """Close what outlives a pass, such as an iterator."""
        await self._source.aclose()


@dataclasses.dataclass(frozen=True, slots=True)
class OpenedSource:
    """An open source with the fingerprint of its files when it was opened (None for objects in memory)."""

    source_reader: SourceReader
    fingerprint: Fingerprint | None


def _position(doubt: Doubt) -> str | None:
    return None if doubt.line is None else f"line {doubt.line}"


def _note(doubt: Doubt) -> str:
    where = ", ".join(part for part in (doubt.source, _position(doubt)) if part)
    return f"{where}: {doubt.message}; read as before, because the table has the same columns"


def _empty_batch(schema: TableSchema, label: str) -> SourceBatch:
    """Return a batch without rows that conforms to the schema."""
    columns = [column for column in schema.columns if not column.is_missing]
    empty = {column.source_name: pa.nulls(0) for column in columns}
    return SourceBatch(pa.RecordBatch.from_pydict(empty), label, 0)


def _first_rows(block: SourceBlock) -> SourceBatch:
    batch = _decoded(block)
    first = batch.batch.take(
        pa.array(range(min(batch.rows, _FIRST_ROWS)))
    )  # a slice would keep the whole block in memory
    return dataclasses.replace(batch, batch=first)


def _decoded(block: SourceBlock) -> SourceBatch:
    """Return the rows of a block without those that have more or fewer fields than the header."""
    try:
        return block.decode()
    except SourceReadError:  # the sample has been read once already: such rows may be rejected
        return block.readable().batch
