"""Checks the values in Parquet files that are passed through: lengths and encoding of strings, timestamps, keys without NULL.

Only what these checks need is read:

    key that may be NULL    all values
    STRING, INT96           raw pages, or just the dictionary if it contains all values (`page_checks.py`);
                            all values if those are not certainly valid
    INT64 timestamp         the statistics in the footer; all values if they are missing or not valid, or do not tell: whether nanoseconds
                            are whole microseconds, or values in Spark's old calendar
    any other column        nothing
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from pushengine.errors import SchemaError, SourceChangedError, SourceReadError, damaged
from pushengine.interfaces import FileSystem, SourceBatch
from pushengine.model import MAX_PAYLOAD_BYTES
from pushengine.parquet.decoding import ParquetDecoder, batch_rows, reading
from pushengine.parquet.eligibility import ParquetLayout
from pushengine.parquet.footer import MAGIC, TAIL_BYTES, ColumnChunk
from pushengine.parquet.page_checks import has_safe_timestamps, has_short_strings
from pushengine.parquet.spark_calendar import FIRST_INT96_DAY, SparkCalendar
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conform import conform
from pushengine.schema.times.int96 import FIRST_DAY
from pushengine.schema.times.stamps import WHOLE_MICROS
from pushengine.text import first_line

_COLUMN_ROWS = 64 * 1024
_MAX_EXTRA_BYTES = 1024 * 1024
"""Most bytes that a file sent as a whole may have outside of row groups and footer: page indexes and the like."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Consecutive row groups of one file.

    Attributes:
        layout: The file.
        first: Number of the first row group, from 0.
        end: Number after that of the last row group.
        first_row: Row of the file at which the run begins, from 0.
    """

    layout: ParquetLayout
    first: int
    end: int
    first_row: int

    @property
    def nbytes(self) -> int:
        """Number of bytes of data in the row groups."""
        return sum(nbytes for _, nbytes in self.layout.groups[self.first : self.end])

    @property
    def rows(self) -> int:
        """Number of rows in the row groups."""
        return sum(rows for rows, _ in self.layout.groups[self.first : self.end])

    @property
    def is_complete(self) -> bool:
        """Whether the run contains all row groups of the file."""
        return self.end - self.first == len(self.layout.groups)

    @property
    def is_file(self) -> bool:
        """Whether the run is sent as the whole file, byte for byte."""
        layout = self.layout
        extra = layout.file.size - len(MAGIC) - layout.data_bytes - layout.footer.nbytes - TAIL_BYTES
        return self.is_complete and extra <= _MAX_EXTRA_BYTES and layout.file.size <= MAX_PAYLOAD_BYTES


def check_values(run: Run, schema: TableSchema, filesystem: FileSystem) -> None:
    """Check every value of a run that its schema does not prove valid. Blocking; CPU-bound.

    Raises:
        SchemaError: A value does not fit.
        SourceReadError: The data is damaged, or the file has changed or cannot be read.
    """
    with reading(run.layout.file, filesystem) as file:
        _Check(run, schema, file).run()


def iter_columns(run: Run, schema: TableSchema, filesystem: FileSystem) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a run as they would be sent. Blocking; CPU-bound.

    Args:
        run: The row groups.
        schema: The columns to read.
        filesystem: Opens the file.

    Raises:
        SchemaError: A value does not fit.
        SourceReadError: The data is damaged, or the file has changed or cannot be read.
    """
    source, row = run.layout.file.shown, run.first_row
    names = [column.name for column in schema.columns]
    with reading(run.layout.file, filesystem) as file:
        try:
            parquet = ParquetDecoder(file, run.layout.footer)
            for batch in parquet.iter_batches(range(run.first, run.end), _COLUMN_ROWS, names):
                yield conform(schema, SourceBatch(batch, source, row))
                row += batch.num_rows
        except (pa.ArrowException, OSError, IndexError) as exc:
            raise damaged("Parquet", first_line(exc), source=source) from exc


class _Check:
    """The check of one run."""

    def __init__(self, run: Run, schema: TableSchema, file: BinaryIO) -> None:
        self._run = run
        self._schema = schema
        self._source = run.layout.file.shown
        self._file = file
        self._leaves = run.layout.footer.leaves or ()
        self._calendar = SparkCalendar.of(run.layout.footer.key_values)

    @functools.cached_property
    def _plain(self) -> ParquetDecoder:
        return ParquetDecoder(self._file, self._run.layout.footer)

    @functools.cached_property
    def _dictionaries(self) -> ParquetDecoder:
        return self._plain.with_dictionaries([leaf.name for leaf in self._leaves if leaf.kind == "STRING"])

    def run(self) -> None:
        """Check all row groups of the run.

        Raises:
            SchemaError: A value does not fit.
            SourceReadError: The data is damaged, or the file has changed.
        """
        row = self._run.first_row
        for number in range(self._run.first, self._run.end):
            try:
                self._row_group(number, row)
            except IndexError as exc:  # the file was replaced by one with fewer row groups
                raise SourceChangedError(
                    "changed while it was being read", source=self._source, hint="push it when it is complete"
                ) from exc
            except (pa.ArrowException, OSError) as exc:
                raise self._damaged(first_line(exc), number) from exc
            row += self._run.layout.groups[number][0]

    def _damaged(self, what: str, number: int) -> SourceReadError:
        return damaged("Parquet", what, source=self._source, position=f"row group {number + 1}")

    def _row_group(self, number: int, first_row: int) -> None:
        group = self._run.layout.footer.group(number)
        for index, (column, chunk) in enumerate(zip(self._schema.columns, group.chunks, strict=True)):
            if self._needs_reading(number, index, column) and not self._passes_page_checks(index, chunk):
                rows = self._column(number, index, chunk, first_row)
                if rows != group.rows:
                    raise self._damaged(f"{rows} rows in column {column.name}, the footer says {group.rows}", number)

    def _needs_reading(self, number: int, index: int, column: Column) -> bool:
        leaf = self._leaves[index]
        if leaf.kind in ("STRING", "INT96"):
            return True
        if self._may_lack_key(index):
            return True
        if column.type != "DATETIME":
            return False
        if column.conversion == WHOLE_MICROS.name or self._calendar.has_old_dates:  # the bounds do not tell
            return True
        recorded = self._plain.row_group(number).column(index).statistics
        return recorded is None or not _are_bounds_valid(column, self._plain.schema.field(index).type, recorded)

    def _passes_page_checks(self, index: int, chunk: ColumnChunk) -> bool:
        column, leaf = self._schema.columns[index], self._leaves[index]
        if self._may_lack_key(index):
            return False
        if leaf.kind == "STRING":
            return has_short_strings(self._file, chunk, column.length or 0, is_required=leaf.is_required)
        return leaf.kind == "INT96" and has_safe_timestamps(
            self._file,
            chunk,
            is_required=leaf.is_required,
            allows_finer=column.conversion != WHOLE_MICROS.name,
            first_day=FIRST_INT96_DAY if self._calendar.has_old_int96 else FIRST_DAY,
        )

    def _may_lack_key(self, index: int) -> bool:
        """Return whether this is a key column that may contain NULL. Statistics are ignored: they may be wrong, and keys are few."""
        return self._schema.columns[index].name in self._schema.keys and not self._leaves[index].is_required

    def _column(self, number: int, index: int, chunk: ColumnChunk, first_row: int) -> int:
        """Check one column of a row group and return its number of rows."""
        column, leaf = self._schema.columns[index], self._leaves[index]
        schema = TableSchema((column,), tuple(key for key in self._schema.keys if key == column.name))
        file = self._dictionaries if leaf.kind == "STRING" and chunk.is_dictionary else self._plain
        recorded = self._plain.row_group(number).column(index)
        rows = 0
        batch_size = batch_rows(max(recorded.total_uncompressed_size, 1) / max(recorded.num_values, 1))
        for batch in file.iter_batches([number], batch_size, [column.name]):
            self._calendar.require_new(batch, self._source, first_row + rows)
            array = batch.column(batch.schema.get_field_index(column.name))
            self._values(array, schema, first_row + rows)
            rows += len(array)
        return rows

    def _values(self, array: pa.Array, schema: TableSchema, first_row: int) -> None:
        name = schema.columns[0].name
        if pa.types.is_dictionary(array.type) and not (schema.keys and array.null_count):
            # An invalid entry is found again below, with its row, unless no row uses it.
            with contextlib.suppress(SchemaError):
                conform(
                    TableSchema(schema.columns), SourceBatch(_one_column_batch(name, array.dictionary), self._source, 0)
                )
                return
        conform(schema, SourceBatch(_one_column_batch(name, array), self._source, first_row))


def _are_bounds_valid(column: Column, stored: pa.DataType, recorded: Any) -> bool:
    """Return whether the minimum and maximum timestamp are recorded and valid."""
    if not recorded.has_min_max:
        return False
    bounds = pa.array([recorded.min_raw, recorded.max_raw], pa.int64()).view(pa.timestamp(stored.unit))
    try:
        conform(TableSchema((column,)), SourceBatch(_one_column_batch(column.name, bounds), "", 0))
    except SchemaError:
        return False
    return True


def _one_column_batch(name: str, array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], names=[name])
