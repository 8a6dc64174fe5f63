"""Parquet files opened to be decoded: in small batches, through a small buffer, with page checksums verified."""

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
    """An open file, whose errors are those of a source.

    Raises:
        SourceReadError: It cannot be opened or read.
    """
    try:
        with filesystem.open(ref) as file:
            yield file
    except OSError as exc:
        raise unreadable(ref.uri, exc) from exc


def open_parquet(file: BinaryIO, unit: str, *, metadata: Any = None, dictionaries: Sequence[str] = ()) -> Any:
    """A `pyarrow.parquet.ParquetFile` over an open file.

    Args:
        file: Seekable; not closed.
        unit: What INT96 timestamps become, as `us`.
        metadata: The footer, where it is known.
        dictionaries: Columns to be read without spreading their dictionaries.

    Raises:
        OSError, pa.ArrowException: The file is damaged, or no Parquet file.
    """
    return pq.ParquetFile(
        file,
        metadata=metadata,
        read_dictionary=list(dictionaries),
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES,  # without it a column of a row group is read as a whole, for the first batch of it already
        coerce_int96_timestamp_unit=unit,
        page_checksum_verification=True,
    )


def batch_rows(bytes_per_row: float) -> int:
    """Rows of a batch of about 2 MiB, within bounds."""
    return int(min(max(_BATCH_BYTES / max(bytes_per_row, 1), _MIN_BATCH_ROWS), _MAX_BATCH_ROWS))
