"""Opens Parquet files for decoding: in small batches, through a small buffer, with page checksums verified, INT96 values as stored."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.parquet.footer import MAGIC, TAIL_BYTES, with_trailer
from pushengine.parquet.int96_columns import as_bytes
from pushengine.parquet.thrift_compact import FooterError
from pushengine.schema.times.int96 import INT96

_BATCH_BYTES = 2 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_MAX_BATCH_ROWS = 65_536
_MIN_BATCH_ROWS = 256


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

    Args:
        file: A seekable file. The caller closes it.

    Attributes:
        metadata: The footer, as a `pyarrow.parquet.FileMetaData`.
        schema: Arrow schema of the batches.

    Raises:
        OSError, pa.ArrowException, UnicodeDecodeError: The file is damaged or is not a Parquet file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._parquet = _open(file)
        found: pa.Schema = self._parquet.schema_arrow
        columns = self._parquet.schema
        self._int96: frozenset[str] = frozenset()
        if any(columns.column(index).physical_type == "INT96" for index in range(len(columns))):
            self._parquet = _open(file, metadata=_with_int96_as_bytes(file))
            changed = zip(found, self._parquet.schema_arrow, strict=True)
            self._int96 = frozenset(field.name for field, now in changed if field.type != now.type)
        self.metadata: Any = self._parquet.metadata
        self.schema = pa.schema([self._field(field) for field in found])

    def with_dictionaries(self, names: Sequence[str]) -> ParquetDecoder:
        """Return a decoder of the same file that reads string columns as dictionary arrays, without expanding their values."""
        other = copy.copy(self)
        other._parquet = _open(self._file, metadata=self.metadata, dictionaries=names)  # noqa: SLF001 - a copy of itself
        return other

    def _field(self, field: pa.Field) -> pa.Field:
        return pa.field(field.name, INT96) if field.name in self._int96 else field

    def iter_batches(
        self, row_groups: Sequence[int], batch_size: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some row groups in batches, which may span row groups.

        Raises:
            OSError, pa.ArrowException: The data is damaged.
            IndexError: There is no such row group.
        """
        batches = self._parquet.iter_batches(
            batch_size=batch_size,
            row_groups=list(row_groups),
            columns=None if columns is None else list(columns),
            use_threads=False,
        )
        if not self._int96:
            return batches  # type: ignore[no-any-return]
        return map(self._with_int96, batches)

    def _with_int96(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        arrays = [
            pa.ExtensionArray.from_storage(INT96, array) if name in self._int96 else array
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([self._field(field) for field in batch.schema]))


def _open(file: BinaryIO, *, metadata: Any = None, dictionaries: Sequence[str] = ()) -> Any:
    return pq.ParquetFile(
        file,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,  # without a buffer, the first batch already reads the whole column of a row group
        page_checksum_verification=True,
    )


def read_footer(file: BinaryIO) -> bytes:
    """Return the footer of a file that Arrow has opened."""
    size = file.seek(0, io.SEEK_END)
    file.seek(size - TAIL_BYTES)
    length = int.from_bytes(file.read(TAIL_BYTES)[:4], "little")
    file.seek(size - TAIL_BYTES - length)
    return file.read(length)


def _with_int96_as_bytes(file: BinaryIO) -> Any:
    """Return the metadata of a file as Arrow must have it to return INT96 values unchanged."""
    try:
        footer = as_bytes(read_footer(file))
    except FooterError as exc:
        raise pa.ArrowInvalid(f"the footer is damaged: {exc}") from exc
    return pq.read_metadata(io.BytesIO(MAGIC + with_trailer(footer)))


def batch_rows(bytes_per_row: float) -> int:
    """Return the number of rows in a batch of about 2 MiB, limited to 256 to 65,536 rows."""
    return int(min(max(_BATCH_BYTES / max(bytes_per_row, 1), _MIN_BATCH_ROWS), _MAX_BATCH_ROWS))
