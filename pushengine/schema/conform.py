"""Conversion of source batches to the columns of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch, SourceBlock
from pushengine.schema.base import Conversion
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conversions import conversion_named, decoded, forced_conversions
from pushengine.schema.misfits import column_named, misfit, reason_of, require_key, too_long
from pushengine.text import shown_some

T = TypeVar("T")


def conform(schema: TableSchema, source: SourceBatch) -> pa.RecordBatch:
    """Convert a batch to the schema of the push, checking every value. Thread-safe; Arrow releases the GIL while it works.

    Raises:
        ValueMisfitError: A value does not fit this schema, but would fit one inferred from the whole source.
        SchemaError: The columns differ, a key has no value, or the target cannot hold a value.
    """
    batch = source.batch
    if batch.num_columns > len(schema.columns) or not schema.is_source_order:
        extra = set(batch.schema.names) - {one.source_name for one in schema.columns if not one.is_missing}
        if (extra := extra - schema.ignored) or batch.num_columns > len(set(batch.schema.names)):
            raise SchemaError(
                f"unexpected column {shown_some(sorted(extra)) or '(a duplicate)'}",
                source=source.source,
                position=f"row {source.first_row + 1}",
            )
    arrays = [_conform_column(source, column, is_key=column.name in schema.keys) for column in schema.columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in schema.columns])


def checked(block: SourceBlock, check: Callable[[SourceBatch], T]) -> T:
    """Call `check` with the rows of a block and return its result.

    If `check` rejects the rows, it is called again with their exact position, which is slow to find, so that its error names the right
    row and line.

    Raises:
        SourceError: The rows are malformed, or `check` raised it.
    """
    batch = block.decode()
    try:
        return check(batch)
    except SchemaError:
        located = block.located(batch)
        if located is batch:
            raise
    return check(located)


def _conform_column(source: SourceBatch, column: Column, *, is_key: bool) -> pa.Array:
    if column.is_missing:
        return pa.nulls(source.rows, column.arrow_type)
    array = decoded(column_named(source, column.source_name))
    if is_key and len(array):
        require_key(source, array, column.source_name)
    conversion = conversion_of(source, array, column)
    try:
        values = conversion.read(array, column.arrow_type)
    except ValueError as exc:
        index = conversion.first_misfit(array, column.arrow_type)
        raise misfit(source, array, index, column, reason_of(exc)) from exc
    except (
        NotImplementedError,
        AttributeError,
        TypeError,
    ) as exc:  # the column's type differs from that of earlier batches
        raise _type_changed(source, array, column) from exc
    if column.length is not None:
        error = too_long(source, values, column)
        if error is not None:
            raise error
    return values


def conversion_of(source: SourceBatch, array: pa.Array, column: Column) -> Conversion:
    """Return the conversion that the values of a column go through: the one that its schema names, or else the obvious one.

    Raises:
        SchemaError: No conversion leads from the type of the array to that of the column.
    """
    named = conversion_named(column.conversion)
    if named is not None:
        return named
    conversions = forced_conversions(array.type, column.type)
    fitting = [conversion for conversion in conversions if conversion.arrow_type in (None, column.arrow_type)]
    if not fitting:
        raise _type_changed(source, array, column)
    return fitting[0]


def _type_changed(source: SourceBatch, array: pa.Array, column: Column) -> SchemaError:
    return SchemaError(
        f"type {array.type} does not match {column!r}",
        source=source.source,
        position=f"row {source.first_row + 1}, column {column.source_name}",
    )
