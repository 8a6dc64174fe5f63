"""Source over Parquet files, read row group by row group as one table."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceError, SourceReadError, damaged, unreadable
from pushengine.interfaces import FileSystem, SourceBatch, Structure
from pushengine.model import FileRef
from pushengine.parquet.decoding import ParquetDecoder, batch_rows
from pushengine.parquet.eligibility import ParquetLayout, ReencodeError, read_layouts, require_schema
from pushengine.parquet.footer import Footer
from pushengine.parquet.slices import PassthroughBlock, cut
from pushengine.parquet.spark_calendar import SparkCalendar
from pushengine.parquet.thrift_compact import FooterError
from pushengine.schema.columns import TableSchema
from pushengine.schema.times.int96 import is_int96
from pushengine.sources.files import FilesSource, evenly_spread, plain_batch, plain_schema, require_same_columns
from pushengine.text import first_line, format_count, spelled_like

_BYTES_PER_TEXT = 32
"""Assumed decoded bytes of a text value. Row groups record only their encoded size, which is far too small for a dictionary column."""
_SAMPLE_BYTES_PER_PART = 256 * 1024
_JOINED_BYTES = 256 * 1024
_JOINED_ROWS = 8 * 1024
"""Row groups are read together up to this size and number of rows. Arrow needs as long to begin a row group as for hundreds of rows."""
_MAX_DECIMAL128 = 38
_ENCRYPTED = "encrypt"


class _Part(NamedTuple):
    """Row groups that are read together: one, or several tiny ones.

    Attributes:
        groups: Their numbers.
        first_row: Row of the file at which they begin.
        rows: Number of their rows.
        nbytes: Their size, decompressed.
        stored_bytes: Their size in the file.
    """

    groups: range
    first_row: int
    rows: int
    nbytes: int
    stored_bytes: int

    @property
    def position(self) -> str:
        """The row groups, for messages."""
        first = self.groups.start + 1
        return f"row group {first}" if len(self.groups) == 1 else f"row groups {first} to {self.groups.stop}"


@dataclasses.dataclass(slots=True)
class _LargeFooter:
    """The last large footer that was read, and its parts. A file is opened several times, and it takes long to read."""

    footer: Footer | None = None
    parts: Sequence[_Part] = ()


class _ParquetPass:
    """One pass over one file."""

    def __init__(self, ref: FileRef, filesystem: FileSystem, known: _LargeFooter) -> None:
        self._ref = ref
        self._known = known
        self._bytes_done = 0
        self._rows_skipped = 0
        self._schema: pa.Schema | None = None
        with contextlib.ExitStack() as stack:
            try:
                self._file = stack.enter_context(filesystem.open(ref))
                self._parquet = ParquetDecoder(self._file, known.footer)
                large = self._parquet.large_footer
                if large is not None and large is not known.footer:
                    known.footer, known.parts = large, ()
                self.schema = plain_schema(self._parquet.schema)
                self.calendar = SparkCalendar.of(self._parquet.metadata.metadata)
            except OSError as exc:
                if exc.errno is not None:
                    raise unreadable(ref.shown, exc) from exc
                raise self._damaged(exc) from exc
            except (pa.ArrowException, UnicodeDecodeError) as exc:
                raise self._damaged(exc) from exc
            self._stack = stack.pop_all()

    def _damaged(self, exc: Exception, position: str | None = None) -> SourceReadError:
        text = first_line(exc)
        if _ENCRYPTED in text.lower():  # Arrow raises the same class for damaged and encrypted files
            return SourceReadError("the file is encrypted", source=self._ref.shown, position=position)
        return damaged("Parquet", text, source=self._ref.shown, position=position)

    def widen_to(self, schema: pa.Schema) -> _ParquetPass:
        """Yield batches in this schema, to which the file's own schema is widened. Returns the pass itself."""
        self._schema = schema
        return self

    def bytes_read(self) -> int:
        return self._bytes_done

    def close(self) -> None:
        self._stack.close()

    @functools.cached_property
    def parts(self) -> Sequence[_Part]:
        """The parts of the file, in order. The same file always has the same parts.

        Raises:
            SourceReadError: The footer contradicts itself.
        """
        large = self._parquet.large_footer
        if large is not None and large is self._known.footer and self._known.parts:
            return self._known.parts
        try:
            parts = list(self._parts())
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged(exc) from exc
        rows, total = sum(part.rows for part in parts), self._parquet.rows
        if rows != total:
            raise damaged("Parquet", f"{rows} rows in row groups, {total} in all", source=self._ref.shown)
        if large is not None and large is self._known.footer:
            self._known.parts = parts
        return parts

    def _parts(self) -> Iterator[_Part]:
        row = first = rows = nbytes = stored = 0
        count = self._parquet.group_count
        for number in range(count):
            group_rows, size, stored_size = self._group(number)
            if number > first and (nbytes + size > _JOINED_BYTES or rows + group_rows > _JOINED_ROWS):
                yield _Part(range(first, number), row, rows, nbytes, stored)
                row, first, rows, nbytes, stored = row + rows, number, 0, 0, 0
            rows += group_rows
            nbytes += size
            stored += stored_size
        if count:
            yield _Part(range(first, count), row, rows, nbytes, stored)

    def _group(self, number: int) -> tuple[int, int, int]:
        """Return the rows, the decompressed and the stored size of a row group, if its columns have as many values as it has rows.

        Arrow is not asked about a column: where size statistics are damaged, it ends the process.
        """
        found = None
        with contextlib.suppress(FooterError, IndexError):
            found = None if self._parquet.footer is None else self._parquet.footer.sizes(number)
        if found is None:  # Arrow has read it: what our parser does not know is left to the decoding
            group = self._parquet.row_group(number)
            return group.num_rows, group.total_byte_size, group.total_byte_size
        rows, size, sizes = found
        for index, (values, _) in enumerate(sizes):
            if values != rows and index in self._flat_columns:
                raise damaged(
                    "Parquet",
                    f"{rows} rows, but {values} values in column {self._parquet.metadata.schema.column(index).path}",
                    source=self._ref.shown,
                    position=f"row group {number + 1}",
                )
        return rows, size, sum(nbytes for _, nbytes in sizes)

    @functools.cached_property
    def _flat_columns(self) -> frozenset[int]:
        columns = self._parquet.metadata.schema
        return frozenset(index for index in range(len(columns)) if not columns.column(index).max_repetition_level)

    def skip(self, rows: int) -> int:
        for part in self.parts:
            if self._rows_skipped + part.rows > rows:
                break
            self._bytes_done += part.stored_bytes
            self._rows_skipped += part.rows
        return self._rows_skipped

    def blocks(self) -> Iterator[SourceBatch]:
        for part in self.parts:
            if part.first_row >= self._rows_skipped:
                yield from self.part(part)
                self._bytes_done += part.stored_bytes

    def _batch_rows(self, part: _Part) -> int:
        encoded = part.nbytes / max(part.rows, 1)
        texts = sum(_BYTES_PER_TEXT for field in self.schema if not _width(field.type))
        fixed = sum(_width(field.type) for field in self.schema)
        return batch_rows(max(encoded, texts + fixed))

    def part(self, part: _Part) -> Iterator[SourceBatch]:
        """Yield the rows of a part in batches. The reader holds one decoded batch at a time.

        Raises:
            SourceReadError: The data is damaged, or the number of rows is not the one in the footer.
            SchemaError: A value does not fit the common type of all files, or is in Spark's old calendar.
        """
        rows = 0
        try:
            for raw in self._parquet.iter_batches(part.groups, self._batch_rows(part)):
                self.calendar.require_new(raw, self._ref.shown, part.first_row + rows)
                batch = self._widened(raw, part.first_row + rows)
                yield SourceBatch(batch, self._ref.shown, part.first_row + rows)
                rows += batch.num_rows
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged(exc, part.position) from exc
        if rows != part.rows:
            raise SourceReadError(
                f"{rows} rows, but the footer says {part.rows}", source=self._ref.shown, position=part.position
            )

    def _widened(self, raw: pa.RecordBatch, row: int) -> pa.RecordBatch:
        try:
            return plain_batch(raw, self._schema or self.schema)
        except ValueError as exc:
            raise SchemaError(
                f"a value does not fit the common type of all files: {first_line(exc)}",
                source=self._ref.shown,
                position=f"after row {row}",
            ) from exc


def _width(arrow_type: pa.DataType) -> int:
    try:
        return (int(arrow_type.bit_width) + 7) // 8
    except ValueError:
        return 0


# --- Several files as one table -----------------------------------------------------------------------------------------------------


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:  # noqa: PLR0911 - one line per family of types
    """Return the type that holds all values of both types, or None if there is none. Integers are never widened to floats."""
    t = pa.types
    if one == other or t.is_null(other):
        return one
    if t.is_null(one):
        return other
    one, other = (pa.timestamp("us") if is_int96(kind) else kind for kind in (one, other))
    if all(t.is_string(kind) or t.is_large_string(kind) for kind in (one, other)):
        return pa.large_string()
    if all(map(t.is_signed_integer, (one, other))) or all(map(t.is_unsigned_integer, (one, other))):
        return max(one, other, key=lambda kind: kind.bit_width)
    if all(map(t.is_integer, (one, other))):
        return None if pa.uint64() in (one, other) else pa.int64()
    if all(map(t.is_floating, (one, other))):
        return max(one, other, key=lambda kind: kind.bit_width)
    if all(map(t.is_decimal, (one, other))):
        scale = max(one.scale, other.scale)
        precision = max(one.precision - one.scale, other.precision - other.scale) + scale
        return pa.decimal128(precision, scale) if precision <= _MAX_DECIMAL128 else None
    if all(map(t.is_timestamp, (one, other))) and (one.tz is None) == (other.tz is None):
        finest = max(one.unit, other.unit, key=("s", "ms", "us", "ns").index)
        return pa.timestamp(finest, one.tz and "UTC")
    return pa.date64() if all(map(t.is_date, (one, other))) else None


def _unified(first: pa.Schema, first_file: FileRef, schema: pa.Schema, ref: FileRef) -> pa.Schema:
    names = spelled_like(schema.names, first.names)
    require_same_columns(first.names, first_file, names, ref)
    fields = []
    if first.equals(schema):  # nearly always, and it is asked for each pass
        return first
    types = dict(zip(names, schema.types, strict=True))
    for field in first:
        other = types[field.name]
        common = _common_type(field.type, other)
        if common is None:
            raise SchemaError(
                f"column {field.name} is {other}, but {field.type} in {first_file.shown}",
                source=ref.shown,
                hint="push them separately",
            )
        fields.append(pa.field(field.name, common))
    return pa.schema(fields)


class ParquetSource(FilesSource):
    """Parquet files as one table. Each column has the type that holds the values of all files."""

    is_text = False
    min_sample_bytes = _SAMPLE_BYTES_PER_PART

    def __init__(
        self, refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem
    ) -> None:
        super().__init__(refs, label=label, filesystem=filesystem)
        self._settings = settings
        self._schema: pa.Schema | None = None
        self._layouts: list[ParquetLayout] | ReencodeError | None = None
        self._calendar_notes: list[str] = []
        self._known = _LargeFooter()

    def schema(self) -> pa.Schema:
        """Return the common schema of all files. Reads the footer of every file.

        Raises:
            SourceReadError: A file is damaged, encrypted or not a Parquet file.
            SchemaError: A file has a duplicate column name, or the files have different columns or types without a common type.
        """
        if self._schema is None:
            common: pa.Schema | None = None
            for ref in self.files:
                with contextlib.closing(_ParquetPass(ref, self._filesystem, self._known)) as one:
                    if len(set(one.schema.names)) < len(one.schema.names):
                        raise SchemaError("a column name appears twice", source=ref.shown)
                    common = one.schema if common is None else _unified(common, self.files[0], one.schema, ref)
                    self._calendar_notes += filter(None, [one.calendar.note(one.schema, ref.shown)])
            self._schema = common
        return self._schema

    def structure(self, names: Sequence[str] = ()) -> Structure | None:  # noqa: ARG002 - for text only
        """Return what the user should know about the calendar of the files; None if there is nothing to say."""
        notes = self._calendar_notes
        if not notes:
            return None
        more = [f"the same holds for {format_count(len(notes) - 1, 'more file')}"] if notes[1:] else []
        return Structure({}, notes=(notes[0], *more))

    def passthrough_blocks(self, schema: TableSchema) -> list[PassthroughBlock]:
        """Return the files as blocks for passthrough, which are not decoded.

        Raises:
            ReencodeError: The files must be decoded and encoded again; the message is the reason.
        """
        layouts = self._passthrough_layouts()
        if isinstance(layouts, ReencodeError):
            raise layouts
        require_schema(layouts, schema)
        return cut(layouts, self._settings.fitting_chunk_bytes)

    def _passthrough_layouts(self) -> list[ParquetLayout] | ReencodeError:
        if self._layouts is None:
            try:
                self._layouts = read_layouts(self.files, self._filesystem, self._settings)
            except ReencodeError as reason:
                self._layouts = reason
            except OSError as exc:
                raise unreadable(self.label, exc) from exc
        return self._layouts

    def _open(self, ref: FileRef) -> _ParquetPass:
        schema = self.schema()
        one = _ParquetPass(ref, self._filesystem, self._known)
        try:
            _unified(schema, self.files[0], one.schema, ref)
        except SourceError:
            one.close()
            raise
        return one.widen_to(schema)

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        with contextlib.closing(self._open(ref)) as one:
            yield from _sampled(one, max_bytes)


def _sampled(one: _ParquetPass, max_bytes: int) -> Iterator[SourceBatch]:
    parts = one.parts
    is_small = sum(part.nbytes for part in parts) <= max_bytes
    chosen = evenly_spread(len(parts), len(parts) if is_small else max(1, max_bytes // _SAMPLE_BYTES_PER_PART))
    left = max_bytes
    for done, number in enumerate(chosen):
        share, spent = left // (len(chosen) - done), 0
        for source in one.part(parts[number]):
            yield source
            spent += source.batch.nbytes
            if spent >= share:
                break
        left = max(left - spent, 0)


def open_files(
    refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem
) -> ParquetSource:
    """Return the source over these files. Called by `registry.open_source`."""
    return ParquetSource(refs, label=label, settings=settings, filesystem=filesystem)
