"""Source over Parquet files, read row group by row group as one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceError, SourceReadError, damaged, unreadable
from pushengine.interfaces import FileSystem, SourceBatch
from pushengine.model import FileRef
from pushengine.parquet.decoding import batch_rows, open_parquet
from pushengine.parquet.eligibility import ParquetLayout, ReencodeError, read_layouts, require_schema
from pushengine.parquet.slices import PassthroughBlock, cut
from pushengine.schema.columns import TableSchema
from pushengine.sources.files import FilesSource, evenly_spread, plain_batch, plain_schema, require_same_columns
from pushengine.text import first_line, spelled_like

_BYTES_PER_TEXT = 32
"""Assumed decoded bytes of a text value. Row groups record only their encoded size, which is far too small for a dictionary column."""
_SAMPLE_BYTES_PER_PART = 256 * 1024
_MAX_DECIMAL128 = 38
_MAX_MICROS_IN_NANOS = (2**63 - 1) // 1000
_ENCRYPTED = "encrypt"


class _ParquetPass:
    """One pass over one file."""

    def __init__(self, ref: FileRef, filesystem: FileSystem) -> None:
        self._ref = ref
        self._bytes_done = 0
        self._first_group = self._first_row = 0
        self._schema: pa.Schema | None = None
        with contextlib.ExitStack() as stack:
            try:
                self._file = stack.enter_context(filesystem.open(ref))
                self.parquet = open_parquet(self._file, "us")
                self._nanos: Any = open_parquet(self._file, "ns") if self._int96_columns() else None
                self.metadata = self.parquet.metadata
                self.schema = plain_schema(self.parquet.schema_arrow)
            except OSError as exc:
                if exc.errno is not None:
                    raise unreadable(ref.uri, exc) from exc
                raise self._damaged(exc) from exc
            except (pa.ArrowException, UnicodeDecodeError) as exc:
                raise self._damaged(exc) from exc
            self._stack = stack.pop_all()

    def _int96_columns(self) -> list[str]:
        columns = self.parquet.schema
        return [columns.column(i).path for i in range(len(columns)) if columns.column(i).physical_type == "INT96"]

    def _damaged(self, exc: Exception, row_group: int | None = None) -> SourceReadError:
        position = None if row_group is None else f"row group {row_group + 1}"
        text = first_line(exc)
        if _ENCRYPTED in text.lower():  # Arrow raises the same class for damaged and encrypted files
            return SourceReadError("the file is encrypted", source=self._ref.uri, position=position)
        return damaged("Parquet", text, source=self._ref.uri, position=position)

    def widen_to(self, schema: pa.Schema) -> _ParquetPass:
        """Yield batches in this schema, to which the file's own schema is widened. Returns the pass itself."""
        self._schema = schema
        return self

    def allow_truncated_timestamps(self) -> None:
        """Yield INT96 timestamps in microseconds without checking whether finer digits are truncated."""
        self._nanos = None

    def bytes_read(self) -> int:
        return self._bytes_done

    def close(self) -> None:
        self._stack.close()

    def skip(self, rows: int) -> int:
        while self._first_group < self.metadata.num_row_groups:
            group_rows = self.metadata.row_group(self._first_group).num_rows
            if self._first_row + group_rows > rows:
                break
            self._bytes_done += self._stored_bytes(self._first_group)
            self._first_row += group_rows
            self._first_group += 1
        return self._first_row

    def blocks(self) -> Iterator[SourceBatch]:
        rows = self._first_row
        for row_group in range(self._first_group, self.metadata.num_row_groups):
            yield from self.row_group(row_group, rows)
            rows += self.metadata.row_group(row_group).num_rows
            self._bytes_done += self._stored_bytes(row_group)

    def _stored_bytes(self, row_group: int) -> int:
        group = self.metadata.row_group(row_group)
        return sum(group.column(i).total_compressed_size for i in range(group.num_columns))

    def _batch_rows(self, row_group: int) -> int:
        group = self.metadata.row_group(row_group)
        encoded = group.total_byte_size / max(group.num_rows, 1)
        texts = sum(_BYTES_PER_TEXT for field in self.schema if not _width(field.type))
        fixed = sum(_width(field.type) for field in self.schema)
        return batch_rows(max(encoded, texts + fixed))

    def row_group(self, row_group: int, first_row: int) -> Iterator[SourceBatch]:
        """Yield the rows of one row group in batches. The reader holds one decoded batch at a time.

        Raises:
            SourceReadError: The data is damaged, or the number of rows is not the one in the footer.
            SchemaError: A value does not fit the common type of all files, or an INT96 timestamp is finer than a microsecond.
        """
        expected, rows = self.metadata.row_group(row_group).num_rows, 0
        options = {"batch_size": self._batch_rows(row_group), "row_groups": [row_group], "use_threads": False}
        try:
            nanos = self._nanos.iter_batches(**options, columns=self._int96_columns()) if self._nanos else None
            for raw in self.parquet.iter_batches(**options):
                if nanos is not None:
                    self._require_whole_micros(raw, next(nanos), first_row + rows)
                batch = self._widened(raw, first_row + rows)
                yield SourceBatch(batch, self._ref.uri, first_row + rows)
                rows += batch.num_rows
        except (pa.ArrowException, OSError) as exc:
            raise self._damaged(exc, row_group) from exc
        if rows != expected:
            raise SourceReadError(
                f"{rows} rows, but the footer says {expected}",
                source=self._ref.uri,
                position=f"row group {row_group + 1}",
            )

    def _widened(self, raw: pa.RecordBatch, row: int) -> pa.RecordBatch:
        try:
            return plain_batch(raw, self._schema or self.schema)
        except (ValueError, NotImplementedError) as exc:
            raise SchemaError(
                f"a value does not fit the common type of all files: {first_line(exc)}",
                source=self._ref.uri,
                position=f"after row {row}",
            ) from exc

    def _require_whole_micros(self, raw: pa.RecordBatch, nanos: pa.RecordBatch, row: int) -> None:
        """Reject INT96 timestamps that are finer than a microsecond.

        Read in microseconds, Arrow silently truncates INT96 values. Read in nanoseconds, values that do not fit in 64 bits silently wrap
        around. So both readings are compared, but only where the nanoseconds fit.

        Raises:
            SchemaError: The readings differ.
        """
        for name, fine in zip(nanos.schema.names, nanos.columns, strict=True):
            coarse = raw.column(name).view(pa.int64())
            coarse = coarse.filter(in_range := pc.less(pc.abs(coarse), _MAX_MICROS_IN_NANOS))
            differs = pc.not_equal(fine.view(pa.int64()).filter(in_range), pc.multiply(coarse, 1000))
            if pc.any(differs).as_py():
                raise SchemaError(
                    f"column {name} has INT96 timestamps finer than a microsecond, which would be truncated",
                    source=self._ref.uri,
                    position=f"after row {row}",
                    hint="write it as INT64 timestamps in nanoseconds",
                )


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
    for field in first:
        other = schema.field(names.index(field.name)).type
        common = _common_type(field.type, other)
        if common is None:
            raise SchemaError(
                f"column {field.name} is {other}, but {field.type} in {first_file.uri}",
                source=ref.uri,
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
        self._is_passthrough = False

    def schema(self) -> pa.Schema:
        """Return the common schema of all files. Reads the footer of every file.

        Raises:
            SourceReadError: A file is damaged, encrypted or not a Parquet file.
            SchemaError: A file has a duplicate column name, or the files have different columns or types without a common type.
        """
        if self._schema is None:
            common: pa.Schema | None = None
            for ref in self.files:
                with contextlib.closing(_ParquetPass(ref, self._filesystem)) as one:
                    if len(set(one.schema.names)) < len(one.schema.names):
                        raise SchemaError("a column name appears twice", source=ref.uri)
                    common = one.schema if common is None else _unified(common, self.files[0], one.schema, ref)
            self._schema = common
        return self._schema

    def decode_all(self) -> None:
        """Decode the files from now on, whether or not they could be passed through."""
        self._is_passthrough = False

    def passthrough_blocks(self, schema: TableSchema) -> list[PassthroughBlock]:
        """Return the files as blocks for passthrough, which are not decoded.

        Raises:
            ReencodeError: The files must be decoded and encoded again; the message is the reason.
        """
        self._is_passthrough = False
        layouts = self._passthrough_layouts()
        if isinstance(layouts, ReencodeError):
            raise layouts
        require_schema(layouts, schema)
        self._is_passthrough = True
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
        one = _ParquetPass(ref, self._filesystem)
        try:
            _unified(schema, self.files[0], one.schema, ref)
        except SourceError:
            one.close()
            raise
        if self._is_passthrough:
            one.allow_truncated_timestamps()  # these rows serve schema inference only; the file itself is sent and keeps its nanoseconds
        return one.widen_to(schema)

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Yield the first rows of row groups, evenly spread over all files: about `max_bytes` in all, or all rows of a small source."""
        self._is_passthrough = not isinstance(self._passthrough_layouts(), ReencodeError)
        yield from super().sample(max_bytes)

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        with contextlib.closing(self._open(ref)) as one:
            yield from _sampled(one, max_bytes)


def _sampled(one: _ParquetPass, max_bytes: int) -> Iterator[SourceBatch]:
    groups = one.metadata.num_row_groups
    first_rows = [0]
    for number in range(groups):
        first_rows.append(first_rows[-1] + one.metadata.row_group(number).num_rows)
    is_small = sum(one.metadata.row_group(number).total_byte_size for number in range(groups)) <= max_bytes
    chosen = evenly_spread(groups, groups if is_small else max(1, max_bytes // _SAMPLE_BYTES_PER_PART))
    left = max_bytes
    for done, number in enumerate(chosen):
        share, spent = left // (len(chosen) - done), 0
        for source in one.row_group(number, first_rows[number]):
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
