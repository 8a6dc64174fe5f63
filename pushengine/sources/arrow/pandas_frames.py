"""Conversion of pandas frames to Arrow tables, in which every value is what it was in the frame."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa

from pushengine.errors import SchemaError
from pushengine.text import first_line

_EXACT_MODULES = ("builtins", "uuid")
"""Modules of types that pyarrow converts without a loss, or not at all, if a column holds only one of them."""
_SHOWN_CHARACTERS = 40


def frame_table(frame: Any, label: str) -> pa.Table:
    """Convert a pandas frame or series.

    The index becomes columns if one of its levels has a name, and is left out otherwise. pyarrow's default depends on the index values.

    Raises:
        SchemaError: A column has values of several kinds, or that Arrow cannot hold.
    """
    if not hasattr(frame, "columns"):
        frame = frame.to_frame("value" if frame.name is None else frame.name)
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except UnicodeEncodeError as exc:
        raise SchemaError(f"a text has characters that do not exist: {first_line(exc)}", source=label) from exc
    except (ValueError, TypeError, OverflowError, NotImplementedError) as exc:
        raise _unconvertible(frame, label, exc) from exc
    for index, name in enumerate(table.schema.names):
        values = frame.iloc[:, index]
        if values.dtype == object:
            _require_same(values.array, table.column(index), name, label)
    return table


def _unconvertible(frame: Any, label: str, exc: Exception) -> SchemaError:
    """Return the error for the column that cannot be converted."""
    for index, name in enumerate(frame.columns):
        try:
            pa.Array.from_pandas(frame.iloc[:, index])
        except (ValueError, TypeError, OverflowError, NotImplementedError) as cause:
            is_large = isinstance(cause, OverflowError)
            what = "has integers of more than 64 bits" if is_large else f"cannot be converted: {first_line(cause)}"
            return SchemaError(
                f"column {name} {what}",
                source=label,
                hint=f"convert it to one type before, such as text: frame[{str(name)!r}].astype('string')",
            )
    return SchemaError(f"not a table of typed columns: {first_line(exc)}", source=label)


def _require_same(values: Any, column: pa.ChunkedArray, name: str, label: str) -> None:
    """Require that a column of Python objects has the same values in Arrow.

    pyarrow infers a type from some of the objects and casts the others to it: times of day and time zones disappear without an error.

    Raises:
        SchemaError: A value has changed.
    """
    kinds = {kind for kind in set(map(type, values)) if not _is_missing_kind(kind)}
    if len(kinds) > 1 and kinds - {float} <= {str, bytes, decimal.Decimal}:
        kinds.discard(float)  # NaN for a missing value: pyarrow accepts no other float beside these
    if len(kinds) <= 1 and all(kind.__module__ in _EXACT_MODULES or kind is decimal.Decimal for kind in kinds):
        return
    kind_of_first: type | None = None
    for row, (before, after) in enumerate(zip(values, column, strict=True)):
        if not after.is_valid:  # NULL, as None, NaN and NaT are
            continue
        kind_of_first = kind_of_first or type(before)
        if not _is_same(before, after):
            raise SchemaError(
                f"{_shown(before)} ({type(before).__name__}) among values of type {kind_of_first.__name__}"
                f" would become {_shown(after.as_py())}",
                source=label,
                position=f"row {row + 1}, column {name}",
                hint="convert the column to one type before, or drop it",
            )


def _is_missing_kind(kind: type) -> bool:
    return kind.__name__ in ("NoneType", "NAType", "NaTType")


def _is_same(before: Any, after: pa.Scalar) -> bool:
    value = after.as_py()
    if isinstance(before, bool) is not isinstance(value, bool):
        return type(before).__name__ == "bool" and isinstance(value, bool)  # numpy's
    if isinstance(before, dt.time) and before.tzinfo is not None:
        return False
    try:
        return bool(before == value)
    except (TypeError, ValueError):
        return False


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")
