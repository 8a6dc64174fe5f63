"""Base of the sources over files: reads several files as one table and selects the files to sample."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Protocol

from pushengine.errors import SchemaError, unreadable
from pushengine.interfaces import BlockReader, FileSystem, SourceBlock, Structure
from pushengine.model import FileRef
from pushengine.text import first_line, shown_name, shown_names, spelled_like

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
COMPRESSION_NAMES = ", ".join(COMPRESSIONS)
_SHOWN_NAMES = 5


def compression_of(ref: FileRef) -> str | None:
    """Return the name of the compression that the file's suffix stands for, or None."""
    return COMPRESSIONS.get(PurePath(ref.uri).suffix.lower())


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema without metadata and with plain types.

    Dictionary, run-end and view encodings are decoded, because Arrow does not report the true size of their slices.
    """
    import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

    from pushengine.schema.conversions import decoded_type  # noqa: PLC0415

    return pa.schema([pa.field(field.name, decoded_type(field.type)) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns in the order, the spelling and the types of `schema`.

    Raises:
        ValueError: A column has a type of another kind, or a value that its type in `schema` cannot represent; the message names it.
    """
    import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

    from pushengine.schema.conversions import decoded  # noqa: PLC0415

    columns = []
    positions = {name: position for position, name in enumerate(spelled_like(batch.schema.names, schema.names))}
    for field in schema:
        column = batch.column(positions[field.name])
        try:
            column = decoded(column)
            columns.append(column if column.type == field.type else _as_type(column, field.type))
        except (ValueError, NotImplementedError) as exc:
            raise ValueError(f"column {field.name}: {first_line(exc)}") from exc
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as_type(column: pa.Array, to: pa.DataType) -> pa.Array:
    """Return a column in the type that the source has for it, with every value unchanged.

    Raises:
        ValueError: A value is not in that type, or all of them mean something else there.
    """
    import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

    from pushengine.schema.conversions import are_same_kind  # noqa: PLC0415
    from pushengine.schema.times.int96 import is_int96  # noqa: PLC0415
    from pushengine.schema.times.stamps import WHOLE_MICROS  # noqa: PLC0415

    if not are_same_kind(column.type, to):
        raise ValueError(f"its type is {column.type}, not {to}")
    if is_int96(column.type):
        column = WHOLE_MICROS.parse(column, pa.timestamp("us"))
    return column.cast(to)


def evenly_spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` of the numbers below `count`, evenly spread, from the first to the last (only 0 if `wanted` is 1)."""
    if wanted >= count:
        return list(range(count))
    if wanted <= 1:
        return [0]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def require_same_columns(
    first: Sequence[str], first_file: FileRef, names: Sequence[str], ref: FileRef, *, position: str | None = None
) -> None:
    """Require that a file has the same columns as the first one, in any order.

    Args:
        first: Columns of the first file.
        first_file: The first file.
        names: Columns of the other file.
        ref: The other file.
        position: Where the other file names its columns, for the message.

    Raises:
        SchemaError: It has not.
    """
    before, now = frozenset(first), frozenset(names)
    missing = [name for name in first if name not in now]
    extra = [name for name in names if name not in before]
    if not missing and not extra and len(names) == len(first):
        return
    missing_names = shown_names(missing[:_SHOWN_NAMES], beside=extra)
    parts = [f"lacks {missing_names}"] if missing else []
    parts += [f"adds {shown_names(extra[:_SHOWN_NAMES], beside=missing)}"] if extra else []
    is_blank = {name.strip() for name in missing} == {name.strip() for name in extra}
    raise SchemaError(
        f"columns differ from those in {shown_name(first_file.shown)}: {' and '.join(parts) or 'one appears twice'}",
        source=ref.shown,
        position=position,
        hint="if they are the same: --trim" if is_blank and missing else "",
    )


class FilePass(Protocol):
    """One pass over one file."""

    def skip(self, rows: int) -> int:
        """Skip at most `rows` rows at the start without reading them; return the number of rows skipped."""
        ...

    def blocks(self) -> Iterator[SourceBlock]:
        """Yield the rows in blocks, without the skipped ones."""
        ...

    def bytes_read(self) -> int:
        """Return the number of bytes of the file read so far."""
        ...

    def close(self) -> None:
        """Close the file; safe to call twice."""
        ...


class FilesReader(BlockReader[SourceBlock]):
    """One pass over several files as one table. It skips rows before `start_row` where the format can seek."""

    def __init__(
        self,
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
        self._files = list(zip(refs, sizes, strict=True))
        self._open_pass = open_pass
        self._stopped = stopped or threading.Event()
        self._current: FilePass | None = None
        self._bytes_before = 0

    def __iter__(self) -> Iterator[SourceBlock]:
        try:
            for ref, size in self._files:
                current = self._current = self._open_pass(ref)
                if self.rows_read is not None:
                    self.rows_read += current.skip(max(self._start_row - self.rows_read, 0))
                for block in current.blocks():
                    if self.rows_read is not None:
                        self.rows_read += block.rows or 0
                    yield block
                self.close()
                self._bytes_before += size
        finally:
            self.close()

    def bytes_read(self) -> int:
        """Return the bytes read so far, as stored on disk (compressed bytes of a compressed file)."""
        current = self._current
        return self._bytes_before + (0 if current is None else current.bytes_read())

    def stop(self) -> None:
        """Cancel: the search for the row of an error may stop."""
        self._stopped.set()

    def close(self) -> None:
        """Close the current file, if one is open; safe to call twice."""
        current, self._current = self._current, None
        if current is not None:
            current.close()


class FilesSource:
    """Base class of the sources over files. A subclass for a format adds `is_text`, `schema`, `_open` and `_sample_of`."""

    is_repeatable = True
    knows_rows = True
    """Whether blocks know their number of rows before they are decoded."""
    min_sample_bytes = 256 * 1024
    """Smallest share of the sample for one file, in bytes: of many files, only as many are sampled as can each have this much."""

    def __init__(self, refs: Sequence[FileRef], *, label: str, filesystem: FileSystem) -> None:
        self.label = label
        self.files = tuple(refs)
        self._filesystem = filesystem
        self.stopped = threading.Event()

    def size_bytes(self) -> int:
        """Return the total size of all files in bytes, as stored on disk.

        Raises:
            SourceReadError: A file is missing.
        """
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        sizes = []
        for ref in self.files:
            try:
                sizes.append(self._filesystem.stat(ref).size)
            except OSError as exc:
                raise unreadable(ref.shown, exc) from exc
        return sizes

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:
        """Start a pass over all rows. Rows before `start_row` are skipped where the format can seek."""
        self.stopped = threading.Event()
        return FilesReader(
            self.files,
            self._sizes(),
            self._open,
            start_row=start_row,
            knows_rows=self.knows_rows,
            stopped=self.stopped,
        )

    def sample(self, max_bytes: int) -> Iterator[SourceBlock]:
        """Yield rows of each file, or of an even selection if there are many: about `max_bytes` in all.

        Raises:
            SourceReadError: A file cannot be read.
        """
        chosen = evenly_spread(len(self.files), max(1, max_bytes // self.min_sample_bytes))
        for index in chosen:
            yield from self._sample_of(self.files[index], max(max_bytes // len(chosen), 1))

    def structure(self, names: Sequence[str] = ()) -> Structure | None:  # noqa: ARG002 - for text only
        """Return None: only text files have a dialect."""
        return None

    def _open(self, ref: FileRef) -> FilePass:
        raise NotImplementedError

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBlock]:
        raise NotImplementedError


class EmptySource(FilesSource):
    """Files of 0 bytes, or no file at all, as a source without columns and rows."""

    is_text = True

    def schema(self) -> pa.Schema:
        """Return a schema without columns."""
        import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

        return pa.schema([])

    def sample(self, max_bytes: int) -> Iterator[SourceBlock]:  # noqa: ARG002 - there is nothing to sample
        """Yield nothing."""
        return iter(())

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:  # noqa: ARG002 - there are no rows
        """Start a pass without blocks."""
        return FilesReader((), (), self._open)
