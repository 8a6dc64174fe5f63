"""Errors for values that a column cannot hold. They name the source, the row and the column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.model import ColumnType
from pushengine.schema.base import Conversion, MisfitError, OutOfRangeError, is_string, largest
from pushengine.schema.columns import Column
from pushengine.schema.conversions import TEXT, conversions_of, forced_conversions, text_conversion
from pushengine.schema.known import had_no_values
from pushengine.schema.rules import MAX_LENGTH
from pushengine.schema.text.suggestions import flags_for
from pushengine.schema.times.limits import text_of
from pushengine.schema.times.stamps import CUT_TO_MICROS, WHOLE_MICROS
from pushengine.text import flag

_SHOWN_CHARACTERS = 40


def position_of(source: SourceBatch, index: int, name: str) -> str:
    """Return the row (from 1) and column of a value, and its line if it is known."""
    number = source.number(index)
    line = "" if source.first_line is None else f" (line {source.first_line + number})"
    return f"row {source.first_row + number + 1}{line}, column {name}"


def shown(value: Any) -> str:
    """Return a value as messages show it: quoted and shortened to 40 characters."""
    try:
        text = text_of(value)
    except (ValueError, OverflowError):  # invalid UTF-8, or nanoseconds that datetime cannot represent
        text = "?"
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def misfit_class(value: pa.Array, column: Column) -> type[SchemaError]:
    """Return ValueMisfitError if a schema inferred from all values could hold this one, otherwise SchemaError."""
    if had_no_values(column.conversion):  # the sample had no value, so there is more to learn
        return ValueMisfitError
    if column.conversion == WHOLE_MICROS.name and fits_any((CUT_TO_MICROS,), value):
        return ValueMisfitError
    if column.is_fixed:
        return SchemaError
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


def fits_any(conversions: Iterable[Conversion], value: pa.Array) -> bool:
    """Return whether one of the conversions can read the value."""
    try:
        return any(one.fits(value, one.arrow_type or pa.timestamp("us")) for one in conversions)
    except OutOfRangeError:
        return False


def fixed_hint(column: Column, kind: ColumnType, value: pa.Array) -> str:
    """Return what helps if a value does not fit a column whose type cannot change.

    Args:
        column: The column; only its name and what fixes its type matter.
        kind: Type of the column.
        value: The value, as an array of length one; of length zero if no value of the source's type fits.
    """
    name = column.name
    change = {
        "table": f"to change the column, load the whole table again, not just these rows: --mode replace {flag('column', f'{name}=STRING')}",
        "policy": "--types widen lets the replace change the column",
        "file": f"{flag('column', f'{name}=STRING')} overrides the file of columns",
        "": "",
    }[column.fixed_by]
    if kind == "STRING" and column.fixed_by == "table":
        return f"leave it out ({flag('exclude', column.source_name)}) or convert it to text"
    if column.is_forced:
        return change
    requested = forced_conversions(value.type, kind)
    if fits_any(requested, value):
        read = ""
        if len(value) and kind in ("INTEGER", "FLOAT"):
            read = f" (it is read as {requested[0].read(value, requested[0].arrow_type or value.type)[0]})"
        return f"{flag('column', f'{name}={kind}')} accepts it{read}; {change}"
    return change


def with_setting(
    hint: str, array: pa.Array, index: int, kind: ColumnType, *, is_key: bool = False, has_words: bool = True
) -> str:
    """Return a hint that also names the setting under which the values fit.

    Args:
        hint: What helps besides.
        array: Values of the column.
        index: The first that does not fit.
        kind: Type of the column.
        is_key: Whether it is a key column.
        has_words: Whether words may be NULL, which a setting for text files says.
    """
    rest = (array, array.slice(index), array.slice(index, 1))
    found = next(filter(None, (flags_for(one, kind, is_key=is_key, has_words=has_words) for one in rest)), "")
    return "; ".join(filter(None, [f"{found} reads it" if found else "", hint]))


def misfit(source: SourceBatch, array: pa.Array, index: int, column: Column, reason: str) -> SchemaError:
    """Return the error for the value at `index` of a column."""
    value = array.slice(index, 1)
    hint = "declare the column STRING" if column.is_forced and column.type != "STRING" else ""
    if column.is_fixed:
        hint = fixed_hint(column, column.type, value)
    if column.is_forced or column.is_fixed:
        hint = with_setting(hint, array, index, column.type, has_words=not column.is_forced)
    return misfit_class(value, column)(
        misfit_message(value, column, reason),
        source=source.source,
        position=position_of(source, index, column.source_name),
        hint=hint,
    )


def misfit_message(value: pa.Array, column: Column, reason: str) -> str:
    """Return the message of the error for a value, an array of length one."""
    return f"{shown(value[0])} does not fit {column!r}: {reason}"


def all_misfits(conversion: Conversion, array: pa.Array, to: pa.DataType) -> list[int]:
    """Return the indices of all values that do not fit. Slow where many different ones do not.

    Text that cannot be text because it is not UTF-8 is no misfit of single values: nothing of it is read.
    """
    if not is_string(array.type):
        return _misfits_by_bisection(conversion, array, to)
    if conversion is TEXT or _fits(conversion, array, to):
        return []
    encoded = array.dictionary_encode()  # wrong values are often the same few words
    bad = _misfits_by_bisection(conversion, encoded.dictionary, to)
    is_bad = pc.is_in(encoded.indices, pa.array(bad, encoded.indices.type))
    found: list[int] = pc.indices_nonzero(is_bad).to_pylist() if bad else []
    return found


def _fits(conversion: Conversion, array: pa.Array, to: pa.DataType) -> bool:
    try:
        conversion.read(array, to)
    except ValueError:
        return False
    return True


def _misfits_by_bisection(conversion: Conversion, array: pa.Array, to: pa.DataType) -> list[int]:
    found: list[int] = []
    waiting = [(0, len(array))]
    while waiting:
        start, end = waiting.pop()
        if _fits(conversion, array.slice(start, end - start), to):
            continue
        if end - start == 1:
            found.append(start)
        else:
            middle = (start + end) // 2
            waiting += [(middle, end), (start, middle)]
    return found


def too_long_at(strings: pa.Array, limit: int) -> list[int]:
    """Return the indices of all strings of more than `limit` characters."""
    if largest(pc.binary_length(strings)) <= limit:
        return []
    found: list[int] = pc.indices_nonzero(
        pc.fill_null(pc.greater(pc.utf8_length(strings), limit), fill_value=False)
    ).to_pylist()
    return found


def nulls_at(array: pa.Array) -> list[int]:
    """Return the indices of all values that are NULL."""
    if pa.types.is_null(array.type):
        return list(range(len(array)))
    found: list[int] = pc.indices_nonzero(array.is_null()).to_pylist() if array.null_count else []
    return found


def reason_of(exc: ValueError) -> str:
    """Return in a few words why a conversion failed."""
    return str(exc) if isinstance(exc, MisfitError) else "it would not survive the conversion unchanged"


def too_long(source: SourceBatch, strings: pa.Array, column: Column) -> SchemaError | None:
    """Return the error for the first value that is longer than the column, or None if there is no such value."""
    limit = column.length or MAX_LENGTH
    if largest(pc.binary_length(strings)) <= limit:
        return None
    lengths = pc.utf8_length(strings)
    if largest(lengths) <= limit:
        return None
    return length_error(source, strings, pc.index(pc.greater(lengths, limit), value=True).as_py(), column)


def length_error(source: SourceBatch, strings: pa.Array, index: int, column: Column) -> SchemaError:
    """Return the error for the string at `index`, which is longer than the column."""
    limit = column.length or MAX_LENGTH
    characters = pc.utf8_length(strings[index]).as_py()
    error: type[SchemaError] = SchemaError
    name = column.name
    leave_out = f"leave the column out: {flag('exclude', column.source_name)}"
    if characters > MAX_LENGTH:
        reason, hint = f"the platform truncates at {MAX_LENGTH}", f"shorten the value or {leave_out}"
    elif column.has_fixed_length and column.fixed_by == "policy":
        reason, hint = f"column {name} of the table holds {limit}", "--types widen lets the replace make it longer"
    elif column.has_fixed_length and column.fixed_by == "table":
        reason = f"column {name} of the table holds {limit}"
        hint = (
            "a column can grow only when the whole table is loaded again, not just these rows: --mode replace"
            f" {flag('column', f'{name}=STRING({min(2 * characters, MAX_LENGTH)})')}; or {leave_out};"
            ' or set on_longer_string = "send" if you know what the platform does with it'
        )
    elif column.has_fixed_length:
        reason = f"more than the requested {limit}"
        hint = flag("column", f"{name}=STRING({characters})")
    else:
        error, reason, hint = ValueMisfitError, f"more than the declared {limit}", ""
    return error(
        f"{shown(strings[index])} has {characters} characters, {reason}",
        source=source.source,
        position=position_of(source, index, column.source_name),
        hint=hint,
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
