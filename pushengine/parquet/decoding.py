"""Opens Parquet files for decoding: in small batches, through a small buffer, with page checksums verified."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef

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
        raise unreadable(ref.uri, exc) from exc


def open_parquet(file: BinaryIO, unit: str, *, metadata: Any = None, dictionaries: Sequence[str] = ()) -> Any:
    """Return a `pyarrow.parquet.ParquetFile` over an open file.

    Args:
        file: A seekable file. The caller closes it.
        unit: Unit of the timestamps that INT96 values are converted to, such as `us`.
        metadata: The footer, if it has been read already.
        dictionaries: Columns to read as dictionary arrays, without expanding their values.

    Raises:
        OSError, pa.ArrowException: The file is damaged or is not a Parquet file.
    """
    return pq.ParquetFile(
        file,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,  # without a buffer, the first batch already reads the whole column of a row group
        coerce_int96_timestamp_unit=unit,
        page_checksum_verification=True,
    )


def batch_rows(bytes_per_row: float) -> int:
    """Return the number of rows in a batch of about 2 MiB, limited to 256 to 65,536 rows."""
    return int(min(max(_BATCH_BYTES / max(bytes_per_row, 1), _MIN_BATCH_ROWS), _MAX_BATCH_ROWS))
