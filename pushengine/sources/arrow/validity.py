"""Validation of Arrow memory that another library filled: its offsets, indices, run ends and texts.

Arrow itself follows them unchecked, so a damaged array crashes the process or reads memory that is not its own, even in an error message.
No value of an array is read before this check, and none of an array that failed it.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from pushengine.errors import SchemaError
from pushengine.text import first_line

_HINT = "the library that made the data filled its memory wrongly; convert the column there, or drop it"


class Damage(NamedTuple):
    """A column whose memory is damaged.

    Attributes:
        message: What Arrow says about it.
        position: The row, as far as it can be told, and the column.
    """

    message: str
    position: str


def find_damage(batch: pa.RecordBatch, first_row: int) -> Damage | None:
    """Return the first damaged column of a batch, none of whose values has been read; None if all columns are valid.

    Args:
        batch: The batch.
        first_row: Row of the source at which it begins, from 0.
    """
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        try:
            _validate(array)
        except pa.ArrowException as exc:
            return Damage(first_line(exc), f"row {first_row + _first_damaged(array) + 1}, column {name}")
    return None


def require_valid(batch: pa.RecordBatch, label: str, first_row: int) -> None:
    """Check all columns of a batch from the memory of another library.

    Args:
        batch: The batch, none of whose values has been read.
        label: Name of the source.
        first_row: Row of the source at which the batch begins, from 0.

    Raises:
        SchemaError: A column is damaged.
    """
    damage = find_damage(batch, first_row)
    if damage is not None:
        raise SchemaError(
            f"the memory of the column is damaged: {damage.message}",
            source=label,
            position=damage.position,
            hint=_HINT,
        )


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
