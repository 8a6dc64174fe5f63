"""Opens Parquet files for decoding: in small batches, through a small buffer, with page checksums verified, INT96 values as stored."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.parquet.footer import MAGIC, TAIL_BYTES, Footer, with_trailer
from pushengine.parquet.int96_columns import as_bytes
from pushengine.parquet.thrift_compact import FooterError
from pushengine.schema.times.int96 import INT96

_BATCH_BYTES = 2 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_MAX_BATCH_ROWS = 65_536
_MIN_BATCH_ROWS = 256
_LARGE_FOOTER_BYTES = 2 * 1024 * 1024
_COLUMNS_AT_A_TIME = 16 * 1024
"""Number of columns of row groups in a part of a large footer. Arrow needs about 1 kB for each of them."""


@contextlib.contextmanager
def reading(ref: FileRef, filesystem: FileSystem) -> Iterator[BinaryIO]:
    """Open a file for reading, and turn any OSError into a source error.

    Raises:
        SourceReadError: The file cannot be opened or read.
    """
    try:
        with filesystem.open(ref) as file:
            yield file
    except OSError as exc:
        raise unreadable(ref.shown, exc) from exc


class ParquetDecoder:
    """An open Parquet file, decoded by Arrow, with INT96 columns of the type `schema.times.int96.INT96`.

    Arrow needs ten times the size of a footer to hold it. Of a file with a large footer, it is given some row groups at a time.

    Args:
        file: A seekable file. The caller closes it.
        known: A footer that the file may have, to save parsing it again if it is large.

    Attributes:
        metadata: The footer, as a `pyarrow.parquet.FileMetaData`. It has row groups only if it is small: use `row_group`.
        schema: Arrow schema of the batches.
        large_footer: The footer as pushengine parses it, if it is large and understood.

    Raises:
        OSError, pa.ArrowException, UnicodeDecodeError: The file is damaged or is not a Parquet file.
    """

    def __init__(self, file: BinaryIO, known: Footer | None = None) -> None:
        self._file = file
        self._known = known
        self._raw_footer = _read_footer(file, known)
        self._dictionaries: tuple[str, ...] = ()
        self._int96: frozenset[str] = frozenset()
        self.large_footer = large = self.footer if len(self._raw_footer) > _LARGE_FOOTER_BYTES else None
        parquet = _open(file) if large is None else self._open_groups(large, range(0))
        found: pa.Schema = parquet.schema_arrow
        columns = parquet.schema
        if any(columns.column(index).physical_type == "INT96" for index in range(len(columns))):
            raw = self._raw_footer if large is None else large.with_groups(0, [])
            parquet = _open(file, metadata=_metadata_of(_with_int96_as_bytes(raw)))
            changed = zip(found, parquet.schema_arrow, strict=True)
            self._int96 = frozenset(field.name for field, now in changed if field.type != now.type)
        self.metadata: Any = parquet.metadata
        self.schema = pa.schema([self._field(field) for field in found])
        self._step = max(self.group_count if large is None else _COLUMNS_AT_A_TIME // max(len(columns), 1), 1)
        self._opened: tuple[range, Any] | None = (range(self.group_count), parquet) if large is None else None

    @functools.cached_property
    def footer(self) -> Footer | None:
        """The footer as pushengine parses it; None if it is not understood."""
        if self._known is not None and self._known.data is self._raw_footer:
            return self._known
        try:
            return Footer(self._raw_footer)
        except FooterError:
            return None

    @property
    def group_count(self) -> int:
        """Number of row groups."""
        return int(self.metadata.num_row_groups) if self.large_footer is None else self.large_footer.group_count

    @property
    def rows(self) -> int:
        """Number of rows, as the footer records it."""
        return int(self.metadata.num_rows) if self.large_footer is None else self.large_footer.rows

    def row_group(self, number: int) -> Any:
        """Return a row group of the footer, as a `pyarrow.parquet.RowGroupMetaData`.

        Raises:
            IndexError: There is no such row group.
        """
        groups, parquet = self._with_group(number)
        return parquet.metadata.row_group(number - groups.start)

    def with_dictionaries(self, names: Sequence[str]) -> ParquetDecoder:
        """Return a decoder of the same file that reads string columns as dictionary arrays, without expanding their values."""
        other = copy.copy(self)
        other._dictionaries, other._opened = tuple(names), None  # noqa: SLF001 - a copy of itself
        return other

    def _field(self, field: pa.Field) -> pa.Field:
        return pa.field(field.name, INT96) if field.name in self._int96 else field

    def iter_batches(
        self, row_groups: Sequence[int], batch_size: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some row groups in batches, which may span row groups.

        Args:
            row_groups: Numbers of the row groups, ascending.
            batch_size: Number of rows in a batch.
            columns: Names of the columns; None for all.

        Raises:
            OSError, pa.ArrowException: The data is damaged.
            IndexError: There is no such row group.
        """
        for _, numbers in itertools.groupby(row_groups, lambda number: number // self._step):
            wanted = list(numbers)
            groups, parquet = self._with_group(wanted[0])
            batches = parquet.iter_batches(
                batch_size=batch_size,
                row_groups=[number - groups.start for number in wanted],
                columns=None if columns is None else list(columns),
                use_threads=False,
            )
            yield from map(self._with_int96, batches) if self._int96 else batches

    def _with_int96(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [
            pa.ExtensionArray.from_storage(INT96, array) if name in self._int96 else array
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([self._field(field) for field in batch.schema]))

    def _with_group(self, number: int) -> tuple[range, Any]:
        """Return Arrow's file with this row group, and the numbers of its row groups."""
        if not 0 <= number < self.group_count:
            raise IndexError(f"there is no row group {number}")
        if self._opened is None or number not in self._opened[0]:
            self._opened = None  # release the other row groups first
            first = number // self._step * self._step
            groups = range(first, min(first + self._step, self.group_count))
            self._opened = groups, self._open_groups(self.large_footer, groups)
        return self._opened

    def _open_groups(self, large: Footer | None, groups: range) -> Any:
        if large is None:
            return _open(self._file, metadata=self.metadata, dictionaries=self._dictionaries)
        # Arrow does not use the total number of rows.
        raw = large.with_groups(0, [large.raw_group(number) for number in groups])
        metadata = _metadata_of(_with_int96_as_bytes(raw) if self._int96 else raw)
        return _open(self._file, metadata=metadata, dictionaries=self._dictionaries)


def _open(file: BinaryIO, *, metadata: Any = None, dictionaries: Sequence[str] = ()) -> Any:
    return pq.ParquetFile(
        file,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,  # without a buffer, the first batch already reads the whole column of a row group
        page_checksum_verification=True,
    )


def _read_footer(file: BinaryIO, known: Footer | None) -> bytes:
    """Return the footer of a file; empty if it does not end like a Parquet file, which Arrow reports.

    If it is that of `known`, return the same object, so that a large footer is held only once.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - TAIL_BYTES, 0))
    tail = file.read(TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != MAGIC or length > size - TAIL_BYTES:
        return b""
    start = size - TAIL_BYTES - length
    file.seek(start)
    if known is not None and len(known.data) == length:
        pieces = (memoryview(known.data)[at : at + _BUFFER_BYTES] for at in range(0, length, _BUFFER_BYTES))
        if all(file.read(len(piece)) == piece for piece in pieces):
            return known.data
        file.seek(start)
    return file.read(length)


def _with_int96_as_bytes(footer: bytes) -> bytes:
    """Return a footer as Arrow must have it to return INT96 values unchanged."""
    try:
        return as_bytes(footer)
    except FooterError as exc:
        raise pa.ArrowInvalid(f"the footer is damaged: {exc}") from exc


def _metadata_of(footer: bytes) -> Any:
    return pq.read_metadata(io.BytesIO(MAGIC + with_trailer(footer)))


def batch_rows(bytes_per_row: float) -> int:
    """Return the number of rows in a batch of about 2 MiB, limited to 256 to 65,536 rows."""
    return int(min(max(_BATCH_BYTES / max(bytes_per_row, 1), _MIN_BATCH_ROWS), _MAX_BATCH_ROWS))
