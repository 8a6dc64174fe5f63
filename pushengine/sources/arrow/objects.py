"""Sources over rows in memory or in a stream: objects with the Arrow PyCapsule interface, pyarrow datasets, async iterators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pushengine.errors import ConfigError, SchemaError, SourceError, SourceReadError
from pushengine.interfaces import BlockReader, SourceBatch, SourceBlock
from pushengine.model import FileRef
from pushengine.schema.conversions import are_same_kind
from pushengine.sources.arrow.pandas_frames import frame_table
from pushengine.sources.arrow.validity import require_valid
from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.files import evenly_spread, plain_batch, plain_schema
from pushengine.text import first_line, shown_some

SLICE_ROWS = 65_536
"""Rows per slice. A batch of a data frame can be as large as the frame, so batches are passed on in slices."""
_SAMPLE_PARTS = 16
_DATASET_OPTIONS = {"batch_size": SLICE_ROWS, "batch_readahead": 1, "fragment_readahead": 1}


def open_object(spec: Any, *, schema: pa.Schema | None) -> ArrowSource | IteratorSource | None:
    """Return the source over an object, or None if the object is not a source. Called by `registry.open_source`.

    Raises:
        ConfigError: `schema` was given for an object that has its own.
    """
    label = f"{type(spec).__module__.partition('.')[0]} {type(spec).__name__}".removeprefix("builtins ")
    if hasattr(spec, "__aiter__"):
        if schema is not None:
            schema = plain_schema(schema)
        return IteratorSource(_iter_async(spec, schema, label), label=label, schema=schema)
    source = _open_sync(spec, label)
    if source is not None and schema is not None:
        raise ConfigError("schema= is only for async iterators; other sources have their own schema", key="schema")
    return source


def _open_sync(spec: Any, label: str) -> ArrowSource | None:  # noqa: PLR0911 - one line per kind of object
    if isinstance(spec, pa.Table | pa.RecordBatch):
        table = spec if isinstance(spec, pa.Table) else pa.Table.from_batches([spec])
        return TableSource(lambda: table, label)
    if isinstance(spec, pa.RecordBatchReader):
        return ArrowSource(lambda: spec, label, is_repeatable=False)
    if type(spec).__module__.partition(".")[0] == "pandas" and hasattr(spec, "__arrow_c_stream__"):
        # Convert once: pandas would convert the frame again for every request.
        return TableSource(lambda: frame_table(spec, label), label)
    if type(spec).__name__ == "Series" and hasattr(spec, "to_frame"):
        return _open_sync(spec.to_frame(), label)
    if type(spec).__name__ == "DuckDBPyRelation":
        return ArrowSource(lambda: _relation_stream(spec, label), label, is_repeatable=True)
    if hasattr(spec, "__arrow_c_stream__"):
        return ArrowSource(
            lambda: pa.RecordBatchReader.from_stream(spec),
            label,
            is_repeatable=_is_repeatable(spec),
            nbytes=_nbytes(spec),
        )
    if hasattr(spec, "__arrow_c_array__"):
        return TableSource(lambda: pa.Table.from_batches([pa.record_batch(spec)]), label)
    if isinstance(getattr(spec, "schema", None), pa.Schema) and hasattr(spec, "scanner"):  # pyarrow.dataset.Dataset
        return ArrowSource(lambda: _dataset_reader(spec, label), label, is_repeatable=True)
    return None


def _dataset_reader(dataset: Any, label: str) -> pa.RecordBatchReader:
    """Return the rows of a pyarrow dataset.

    Raises:
        SchemaError: A file has a column of another kind than the dataset: Arrow would convert it, with losses that raise no error.
    """
    for fragment in dataset.get_fragments():
        if getattr(getattr(fragment, "format", None), "default_extname", "") in ("csv", "json"):
            continue  # text, which is read in the types of the dataset
        own = _plain_schema(fragment.physical_schema, label)
        for field in _plain_schema(dataset.schema, label):
            index = own.get_field_index(field.name)
            if index >= 0 and not are_same_kind(own.field(index).type, field.type):
                raise SchemaError(
                    f"column {field.name} is {own.field(index).type}, but {field.type} in the dataset",
                    source=getattr(fragment, "path", "") or label,
                    hint="push the files by their paths, or separately",
                )
    return dataset.scanner(**_DATASET_OPTIONS).to_reader()


def _relation_stream(relation: Any, label: str) -> pa.RecordBatchReader:
    """Return the rows of a DuckDB relation.

    Raises:
        SchemaError: A column has times with a zone, which DuckDB drops for Arrow.
    """
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if str(kind) in ("TIME WITH TIME ZONE", "TIMETZ"):
            raise SchemaError(
                f"column {name} has times with a zone, which Arrow cannot hold",
                source=label,
                hint=f"select it as text: CAST({name} AS VARCHAR)",
            )
    return pa.RecordBatchReader.from_stream(relation)


def _plain_schema(schema: pa.Schema, label: str) -> pa.Schema:
    """Return the schema with plain types.

    Raises:
        SchemaError: A column name is not UTF-8.
    """
    try:
        return plain_schema(schema)
    except UnicodeDecodeError as exc:
        raise SchemaError("the name of a column is not UTF-8", source=label) from exc


def _is_repeatable(spec: Any) -> bool:
    """Whether the rows can be requested again: true for a frame or relation; false for an iterator, cursor, reader or unknown type."""
    if hasattr(spec, "__next__"):
        return False
    return hasattr(type(spec), "__dataframe__") or type(spec).__name__ in (
        "DataFrame",
        "DuckDBPyRelation",
        "ChunkedArray",
    )


def _nbytes(spec: Any) -> int | None:
    estimate = getattr(spec, "estimated_size", None)  # polars
    nbytes = estimate() if callable(estimate) else getattr(spec, "nbytes", None)
    return nbytes if isinstance(nbytes, int) else None


def _slices(batch: pa.RecordBatch, schema: pa.Schema, label: str, first_row: int) -> Iterator[SourceBatch]:
    """Yield a batch in slices, converted to the plain types of `schema`.

    Raises:
        SchemaError: The batch has other columns, or a value or type that cannot be converted.
    """
    if set(batch.schema.names) != set(schema.names) or batch.num_columns != len(schema):
        raise SchemaError(
            f"columns {shown_some(batch.schema.names)} instead of {shown_some(schema.names)}",
            source=label,
            position=f"row {first_row + 1}",
        )
    for offset in range(0, batch.num_rows, SLICE_ROWS):
        rows = batch.slice(offset, SLICE_ROWS)
        try:
            yield SourceBatch(plain_batch(rows, schema), label, first_row + offset)
        except ValueError as exc:
            raise SchemaError(
                f"the batch does not match the schema: {first_line(exc)}",
                source=label,
                position=f"after row {first_row + offset}",
                hint="convert all batches to the types of the first one; an iterator can also be pushed with schema=",
            ) from exc


def _read_error(label: str, exc: BaseException) -> SourceReadError:
    return SourceReadError(f"the source failed: {type(exc).__name__}: {first_line(exc)}", source=label)


class _StreamReader(BlockReader[SourceBatch]):
    """One pass over batches, in order."""

    def __init__(self, batches: Iterable[SourceBatch], close: Callable[[], object]) -> None:
        self._batches = batches
        self._close = close
        self._bytes_read = 0
        self.rows_read = 0

    def __iter__(self) -> Iterator[SourceBatch]:
        for source in self._batches:
            self.rows_read += source.batch.num_rows
            self._bytes_read += source.batch.nbytes
            yield source

    def stop(self) -> None:
        """Do nothing: each batch knows its first row, so there is no search to stop."""

    def bytes_read(self) -> int:
        """Return the Arrow bytes of the batches yielded so far."""
        return self._bytes_read

    def close(self) -> None:
        """Release the stream."""
        self._close()


class ArrowSource:
    """A stream of record batches; each pass requests a new stream if the source is repeatable."""

    is_text = False
    files: tuple[FileRef, ...] = ()
    _is_valid = False
    """Whether the memory of the rows is known to be valid before they are read."""

    def __init__(
        self, connect: Callable[[], Any], label: str, *, is_repeatable: bool, nbytes: int | None = None
    ) -> None:
        """`connect` returns a pyarrow RecordBatchReader (always the same one if the source is not repeatable)."""
        self.label = label
        self.is_repeatable = is_repeatable
        self._connect = connect
        self._size_bytes = nbytes
        self._schema: pa.Schema | None = None
        self._stream: Any = None
        self._sampled: list[SourceBatch] = []
        self._batches: Iterator[SourceBatch] | None = None
        self._is_opened = False

    def size_bytes(self) -> int | None:
        """Return the size in bytes that the object reports, or None if it reports none."""
        return self._size_bytes

    def _connected(self) -> Any:
        """Return the stream. A stream that cannot be requested again is kept for later calls.

        Raises:
            SchemaError: The object is not a table of typed columns.
            SourceReadError: The object failed in another way.
        """
        if self._stream is not None:
            return self._stream
        try:
            stream = self._connect()
        except SourceError:
            raise
        except (TypeError, ValueError, NotImplementedError) as exc:
            raise SchemaError(f"not a table of typed columns: {first_line(exc)}", source=self.label) from exc
        except Exception as exc:  # a foreign stream may raise anything
            raise _read_error(self.label, exc) from exc
        if not self.is_repeatable:
            self._stream = stream
        return stream

    def schema(self) -> pa.Schema:
        """Return the schema in plain types: dictionary and view encodings are decoded.

        Raises:
            SchemaError: The object cannot be converted to columns that have one type each.
        """
        if self._schema is None:
            stream = self._connected()
            self._schema = _plain_schema(stream.schema, self.label)
            if self.is_repeatable:
                _close_quietly(stream)
        return self._schema

    def _iter(self, stream: Any) -> Iterator[SourceBatch]:
        row = 0
        schema = self.schema()
        while True:
            try:
                batch = stream.read_next_batch()
            except StopIteration:
                return
            except Exception as exc:  # a foreign stream may raise anything
                raise _read_error(self.label, exc) from exc
            if not self._is_valid:
                require_valid(batch, self.label, row)
            yield from _slices(batch, schema, self.label, row)
            row += batch.num_rows

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Yield the first batches, about `max_bytes` in all. If the source is not repeatable, `open()` yields the same batches first."""
        self.schema()
        stream = self._connected()
        batches = self._iter(stream)
        if not self.is_repeatable:
            self._batches = batches = self._batches or batches
        size = 0
        for source in batches:
            if not self.is_repeatable:
                self._sampled.append(source)
            size += source.batch.nbytes
            yield source
            if size >= max_bytes:
                break
        if self.is_repeatable:
            _close_quietly(stream)

    def structure(self, names: Sequence[str] = ()) -> None:
        """Return None: typed columns have no dialect."""

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:  # noqa: ARG002 - a stream has no way to skip rows
        """Start a pass over all rows.

        Raises:
            SourceReadError: This is the second pass over a stream that can be read only once.
        """
        if self._is_opened and not self.is_repeatable:
            raise SourceReadError("can be read only once", source=self.label, hint="pass a table instead of a reader")
        self._is_opened = True
        self.schema()  # reject an object without typed columns here, not at the first batch
        stream = self._connected()
        rest = self._batches or self._iter(stream)
        return _StreamReader(self._from_start(rest), lambda: _close_quietly(stream))

    def _from_start(self, rest: Iterator[SourceBatch]) -> Iterator[SourceBatch]:
        sampled, self._sampled = self._sampled, []
        sampled.reverse()
        while sampled:
            yield sampled.pop()
        yield from rest


def _close_quietly(stream: Any) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        close()


class TableSource(ArrowSource):
    """A table in memory, whose sample is spread over all of its rows."""

    _is_valid = True

    def __init__(self, build: Callable[[], pa.Table], label: str) -> None:
        """`build` returns the table; it is called once, on the reader thread."""
        super().__init__(lambda: self._table().to_reader(SLICE_ROWS), label, is_repeatable=True)
        self._build = build
        self._built: pa.Table | None = None

    def _table(self) -> pa.Table:
        if self._built is None:
            built, row = self._build(), 0
            for batch in built.to_batches():
                require_valid(
                    batch, self.label, row
                )  # once, because slices of a table would check its dictionaries again
                row += batch.num_rows
            self._built = built
        return self._built

    def size_bytes(self) -> int | None:
        """Return the Arrow bytes of the table; None until the table is first read, which may convert it."""
        return None if self._built is None else int(self._built.nbytes)

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Yield evenly spread slices, about `max_bytes` in all; every row of a table that is not larger."""
        schema = self.schema()
        table = self._table()
        rows = max(1, int(table.num_rows * min(1.0, max_bytes / max(table.nbytes, 1))) // _SAMPLE_PARTS)
        is_complete = table.nbytes <= max_bytes
        starts = [0] if is_complete else [rows * part for part in evenly_spread(table.num_rows // rows, _SAMPLE_PARTS)]
        for start in starts:
            row = start
            for batch in table.slice(start, None if is_complete else rows).to_batches():
                yield from _slices(batch, schema, self.label, row)
                row += batch.num_rows


async def _iter_async(batches: AsyncIterator[Any], schema: pa.Schema | None, label: str) -> AsyncIterator[SourceBatch]:
    """Yield the batches in order of arrival, all in one schema, and close the iterator at the end."""
    row = 0
    iterator = aiter(batches)
    try:
        while True:
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                break
            except SourceError:
                raise
            except Exception as exc:  # the caller's iterator may raise anything
                raise _read_error(label, exc) from exc
            for batch in _as_batches(item, label, row):
                schema = schema or _plain_schema(batch.schema, label)
                require_valid(batch, label, row)
                for source in _slices(batch, schema, label, row):
                    yield source
                row += batch.num_rows
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _as_batches(item: Any, label: str, row: int) -> list[pa.RecordBatch]:
    if isinstance(item, pa.RecordBatch):
        return [item]
    try:
        if hasattr(item, "__arrow_c_array__"):
            return [pa.record_batch(item)]
        if hasattr(item, "__arrow_c_stream__"):
            return list(pa.RecordBatchReader.from_stream(item))
    except (ValueError, TypeError) as exc:
        raise SchemaError(f"not a record batch: {first_line(exc)}", source=label, position=f"after row {row}") from exc
    raise SchemaError(f"{type(item).__name__} is not a record batch", source=label, position=f"after row {row}")
