"""What sources over files share: several files read as one table, and how many of them are sampled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

from pushengine.errors import SourceReadError, unreadable
from pushengine.interfaces import BlockReader, FileSystem, SourceBatch, SourceBlock
from pushengine.model import FileRef

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
COMPRESSION_NAMES = ", ".join(COMPRESSIONS)


def compression_of(ref: FileRef) -> str | None:
    """Compression by the file's name, or None."""
    return COMPRESSIONS.get(PurePath(ref.uri).suffix.lower())


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema without metadata, of types whose slices tell their size."""
    import pyarrow as pa  # noqa: PLC0415 - this module stays light

    from pushengine.schema.conversions import decoded_type  # noqa: PLC0415

    return pa.schema([pa.field(field.name, decoded_type(field.type)) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a batch in the order and the types of `schema`.

    Raises:
        ValueError: A value does not survive the change of type.
        NotImplementedError: There is no way from the one type to the other.
    """
    import pyarrow as pa  # noqa: PLC0415 - this module stays light

    from pushengine.schema.conversions import decoded  # noqa: PLC0415

    columns = []
    for position, field in enumerate(schema):
        is_here = batch.schema.names[position] == field.name
        column = decoded(batch.column(position if is_here else batch.schema.get_field_index(field.name)))
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers below `count`, evenly spread, the first and the last included."""
    if wanted >= count:
        return list(range(count))
    if wanted <= 1:
        return [0]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


class FilePass(Protocol):
    """One file being read."""

    def skip(self, rows: int) -> int:
        """Leave out at most so many rows from the start without reading them; returns how many were left out."""
        ...

    def blocks(self) -> Iterator[SourceBlock]:
        """Its rows, without those left out."""
        ...

    def bytes_read(self) -> int:
        """How far."""
        ...

    def close(self) -> None:
        """Close the file; safe to call twice."""
        ...


class FilesReader(BlockReader[SourceBlock]):
    """One pass over several files as one table; rows before `start_row` are left out where a file can do that."""

    def __init__(
        self,
        label: str,
        refs: Sequence[FileRef],
        sizes: Sequence[int],
        open_pass: Callable[[FileRef], FilePass],
        *,
        start_row: int = 0,
        knows_rows: bool = True,
        stopped: threading.Event | None = None,
    ) -> None:
        self.rows_read = 0 if knows_rows else None
        self._start_row = start_row
        self._label = label
        self._files = list(zip(refs, sizes, strict=True))
        self._open_pass = open_pass
        self._stopped = stopped or threading.Event()
        self._current: FilePass | None = None
        self._bytes_before = 0

    def __iter__(self) -> Iterator[SourceBlock]:
        has_rows = self._start_row > 0
        try:
            for ref, size in self._files:
                current = self._current = self._open_pass(ref)
                if self.rows_read is not None:
                    self.rows_read += current.skip(max(self._start_row - self.rows_read, 0))
                for block in current.blocks():
                    has_rows = True
                    if self.rows_read is not None:
                        self.rows_read += block.rows or 0
                    yield block
                self.close()
                self._bytes_before += size
        finally:
            self.close()
        require_rows(has_rows, self._label)

    def bytes_read(self) -> int:
        """Bytes of the files as they lie, compressed where they are."""
        current = self._current
        return self._bytes_before + (0 if current is None else current.bytes_read())

    def stop(self) -> None:
        """Looking for the row of an error may end."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file that is open."""
        current, self._current = self._current, None
        if current is not None:
            current.close()


class FilesSource:
    """What sources over files share. A kind of file adds `is_text`, `schema`, `_open` and `_sample_of`."""

    is_repeatable = True
    knows_rows = True
    """Blocks tell their rows before they are decoded."""
    min_sample_bytes = 256 * 1024
    """Of many files, no more are sampled than give each this much."""

    def __init__(self, refs: Sequence[FileRef], *, label: str, filesystem: FileSystem) -> None:
        self.label = label
        self.files = tuple(refs)
        self._filesystem = filesystem
        self.stopped = threading.Event()

    def size_bytes(self) -> int:
        """Length of all files, compressed where they are.

        Raises:
            SourceReadError: A file is gone.
        """
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        sizes = []
        for ref in self.files:
            try:
                sizes.append(self._filesystem.stat(ref).size)
            except OSError as exc:
                raise unreadable(ref.uri, exc) from exc
        return sizes

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:
        """Begin a pass over all rows; those before `start_row` are left out where a file can do that without reading them."""
        self.stopped = threading.Event()
        return FilesReader(
            self.label,
            self.files,
            self._sizes(),
            self._open,
            start_row=start_row,
            knows_rows=self.knows_rows,
            stopped=self.stopped,
        )

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Rows of each file, or of an even spread of many, about `max_bytes` in all.

        Raises:
            SourceReadError: A file cannot be read, or no file has rows.
        """
        chosen = spread(len(self.files), max(1, max_bytes // self.min_sample_bytes))
        rows = 0
        for index in chosen:
            for batch in self._sample_of(self.files[index], max(max_bytes // len(chosen), 1)):
                rows += batch.rows
                yield batch
        if len(chosen) == len(self.files):
            require_rows(rows, self.label)

    def _open(self, ref: FileRef) -> FilePass:
        raise NotImplementedError

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        raise NotImplementedError


def require_rows(rows: int, label: str) -> None:
    """Refuse a source without rows: a replaced table would be emptied by an extract that failed.

    Raises:
        SourceReadError: No rows.
    """
    if not rows:
        raise SourceReadError("no rows", source=label, hint="nothing was pushed")
