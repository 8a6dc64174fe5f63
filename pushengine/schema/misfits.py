"""Errors for values that a column cannot hold. They name the source, the row and the column."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.schema.columns import Column
from pushengine.schema.conversions import (
    TEXT,
    MisfitError,
    conversions_of,
    forced_conversions,
    largest,
    text_conversion,
)

MAX_LENGTH = 16_250
"""Longest string, in characters. At 4 bytes each, this is the platform's limit of 65,000 bytes per value."""
_SHOWN_CHARACTERS = 40


def position_of(source: SourceBatch, index: int, name: str) -> str:
    """Return the row (from 1) and column of a value, and its line if it is known."""
    line = "" if source.first_line is None else f" (line {source.first_line + index})"
    return f"row {source.first_row + index + 1}{line}, column {name}"


def shown(value: Any) -> str:
    """Return a value as messages show it: quoted and shortened to 40 characters."""
    try:
        text = str(value.as_py())
    except (ValueError, OverflowError):  # invalid UTF-8, or nanoseconds that datetime cannot represent
        text = "?"
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def _error_class(value: pa.Array, column: Column) -> type[SchemaError]:
    """Return ValueMisfitError if a schema inferred from all values could hold this one, otherwise SchemaError."""
    try:
        if column.is_forced:
            conversions = forced_conversions(value.type, column.type)
            fits = any(conversion.fits(value, conversion.arrow_type or column.arrow_type) for conversion in conversions)
        else:
            text = text_conversion(conversions_of(value.type, is_text=True))
            fits = text is not None and text.fits(value, pa.string())
        if fits and column.arrow_type == pa.string():
            fits = largest(pc.utf8_length(TEXT.parse(value, pa.string()))) <= MAX_LENGTH
    except ValueError:
        return SchemaError
    return ValueMisfitError if fits else SchemaError


def misfit(source: SourceBatch, array: pa.Array, index: int, column: Column, reason: str) -> SchemaError:
    """Return the error for the value at `index` of a column."""
    value = array.slice(index, 1)
    return _error_class(value, column)(
        f"{shown(value[0])} does not fit {column!r}: {reason}",
        source=source.source,
        position=position_of(source, index, column.name),
        hint="declare the column STRING" if column.is_forced and column.type != "STRING" else "",
    )


def reason_of(exc: ValueError) -> str:
    """Return in a few words why a conversion failed."""
    return str(exc) if isinstance(exc, MisfitError) else "it would not survive the conversion unchanged"


def too_long(source: SourceBatch, strings: pa.Array, name: str, limit: int) -> SchemaError | None:
    """Return the error for the first value of more than `limit` characters, or None if there is no such value."""
    if largest(pc.binary_length(strings)) <= limit:
        return None
    lengths = pc.utf8_length(strings)
    if largest(lengths) <= limit:
        return None
    index = pc.index(pc.greater(lengths, limit), value=True).as_py()
    characters = lengths[index].as_py()
    if characters <= MAX_LENGTH:
        error: type[SchemaError] = ValueMisfitError
        reason = f"more than the declared {limit}"
    else:
        error, reason = SchemaError, f"the platform truncates at {MAX_LENGTH}"
    return error(
        f"{shown(strings[index])} has {characters} characters, {reason}",
        source=source.source,
        position=position_of(source, index, name),
        hint="shorten the value or leave the column out" if error is SchemaError else "",
    )


def require_key(source: SourceBatch, array: pa.Array, name: str) -> None:
    """Check that a key column has a value in every row.

    Raises:
        SchemaError: A value is missing.
    """
    if array.null_count or pa.types.is_null(array.type):
        index = pc.index(array.is_null(), value=True).as_py()
        raise SchemaError(
            "no value in a key column",
            source=source.source,
            position=position_of(source, max(index, 0), name),
            hint="rows without a key cannot be matched in the table",
        )


def column_named(source: SourceBatch, name: str) -> pa.Array:
    """Return the column with this name.

    Raises:
        SchemaError: The batch has no such column.
    """
    batch = source.batch
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise SchemaError(f"column {name} is missing", source=source.source, position=f"row {source.first_row + 1}")
    return batch.column(index)
