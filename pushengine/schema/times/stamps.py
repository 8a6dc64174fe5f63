"""Conversions of typed timestamps. The platform has microseconds: finer digits are cut, and the user is told."""

from __future__ import annotations

import pyarrow as pa

from pushengine.schema.base import MICROS, NANOS, Conversion, MisfitError, OutOfRangeError, require_years
from pushengine.schema.times import int96, limits


def is_stamp(arrow_type: pa.DataType) -> bool:
    """Return whether arrays of this type hold timestamps."""
    return bool(pa.types.is_timestamp(arrow_type)) or int96.is_int96(arrow_type)


def int96_micros(array: pa.Array, *, cuts: bool) -> pa.Array:
    """Return INT96 timestamps in microseconds.

    Args:
        array: The timestamps.
        cuts: Whether later digits are cut.

    Raises:
        OutOfRangeError: The platform cannot hold one.
        MisfitError: One is finer than a microsecond.
    """
    stamps = int96.read(array)
    if stamps.has_wrong_time:
        raise OutOfRangeError("its time of day is not within 24 hours")
    if stamps.has_wrong_day:
        raise OutOfRangeError("the platform supports only the years 1400 to 9999")
    if stamps.is_finer and not cuts:
        raise MisfitError("it is finer than a microsecond")
    return stamps.micros


def _in_any_unit(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return int96_micros(array, cuts=True).cast(to)
    timestamps = array.view(pa.timestamp(array.type.unit))  # if it has a zone, Arrow stores the UTC instant
    return require_years(timestamps if timestamps.type == to else timestamps.cast(to), OutOfRangeError)


def _in_whole_micros(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return int96_micros(array, cuts=False).cast(to)
    if array.type.unit == "ns" and limits.is_finer_than_micros(array.view(NANOS)):
        raise MisfitError("it is finer than a microsecond")
    return _in_any_unit(array, to)


def _cut_to_micros(array: pa.Array, to: pa.DataType) -> pa.Array:
    is_fine = not int96.is_int96(array.type) and array.type.unit == "ns"
    return _in_any_unit(limits.cut_to_micros(array) if is_fine else array, to)


TIMESTAMP = Conversion("timestamp", "DATETIME", _in_any_unit)
WHOLE_MICROS = Conversion("timestamp_us", "DATETIME", _in_whole_micros, MICROS)
CUT_TO_MICROS = Conversion("timestamp_cut", "DATETIME", _cut_to_micros, MICROS)
"""For timestamps that are finer than a microsecond. Never for keys, unless requested: two of them could become one."""


def conversions_of_stamps(arrow_type: pa.DataType) -> tuple[Conversion, ...]:
    """Return the conversions of a type that holds timestamps, the best first."""
    is_fine = int96.is_int96(arrow_type) or arrow_type.unit == "ns"
    return (WHOLE_MICROS, CUT_TO_MICROS) if is_fine else (TIMESTAMP,)
