"""Validation of Arrow memory that another library filled: its offsets, indices, run ends and texts.

Arrow itself follows them unchecked, so a damaged array crashes the process or reads memory that is not its own, even in an error message.
No value of an array is read before this check, and none of an array that failed it.
"""

from __future__ import annotations

import pyarrow as pa

from pushengine.errors import SchemaError
from pushengine.text import first_line

_HINT = "the library that made the data filled its memory wrongly; convert the column there, or drop it"


def require_valid(batch: pa.RecordBatch, label: str, first_row: int) -> None:
    """Check all columns of a batch.

    Args:
        batch: The batch, none of whose values has been read.
        label: Name of the source.
        first_row: Row of the source at which the batch begins, from 0.

    Raises:
        SchemaError: A column is damaged.
    """
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            _validate(array)
        except pa.ArrowException as exc:
            raise SchemaError(
                f"the memory of the column is damaged: {first_line(exc)}",
                source=label,
                position=f"row {first_row + _first_damaged(array) + 1}, column {name}",
                hint=_HINT,
            ) from exc


def _validate(array: pa.Array) -> None:
    # The full check also rejects times outside of a day, which are no danger and have an error of their own if the column is sent.
    array.validate(full=not pa.types.is_temporal(array.type))


def _first_damaged(array: pa.Array) -> int:
    """Return the index of the first value whose part of the memory is damaged; 0 if all are, or none is alone."""
    good, bad = 0, len(array)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _validate(array.slice(good, middle - good))
        except pa.ArrowException:
            bad = middle
        else:
            good = middle
    return good if bad < len(array) or good else 0
