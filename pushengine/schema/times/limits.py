"""Limits of Arrow's temporal types: which values have a text, and digits finer than a microsecond.

Arrow checks neither. Cast to text, a value that it cannot format becomes a placeholder such as `<value out of range: 86400000000>`, or digits
without a meaning; `str()` of a time outside of a day wraps around.
"""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.schema.base import PER_SECOND
from pushengine.schema.times import int96

_DAY_SECONDS = 86_400
_MAX_NUMBER = 2**63 - 1
_EPOCH = dt.date(1970, 1, 1)
_FIRST_DAY = (dt.date.min - _EPOCH).days
_LAST_DAY = (dt.date.max - _EPOCH).days


def integers_of(array: pa.Array) -> pa.Array:
    """Return the numbers that a date, time, timestamp or duration array stores, as 64-bit integers."""
    width = array.type.bit_width
    numbers = array.view(pa.int32() if width == pa.int32().bit_width else pa.int64())
    return numbers.cast(pa.int64())


def bounds_of_text(arrow_type: pa.DataType) -> tuple[int, int] | None:
    """Return the smallest and the largest number of a type whose text is correct; None if all texts are.

    Dates and timestamps have a text in the years 1 to 9999, times within a day.
    """
    t = pa.types
    if t.is_time(arrow_type):
        return 0, _DAY_SECONDS * PER_SECOND[arrow_type.unit] - 1
    if t.is_date32(arrow_type):
        return _FIRST_DAY, _LAST_DAY
    if t.is_date64(arrow_type) or t.is_timestamp(arrow_type):
        day = _DAY_SECONDS * (PER_SECOND["ms"] if t.is_date64(arrow_type) else PER_SECOND[arrow_type.unit])
        if t.is_date64(arrow_type) or arrow_type.tz is None:
            return _FIRST_DAY * day, (_LAST_DAY + 1) * day - 1
        # A time zone moves the text by less than a day, past the range of 64-bit numbers, too.
        return max((_FIRST_DAY + 1) * day, -_MAX_NUMBER + day), min(_LAST_DAY * day - 1, _MAX_NUMBER - day)
    return None


def why_not_text(array: pa.Array) -> str | None:
    """Return why a value of the array has no text, or None if all values have one."""
    bounds = bounds_of_text(array.type)
    if bounds is None:
        return None
    numbers = integers_of(array)
    if pa.types.is_date64(array.type) and _has_rest(numbers, _DAY_SECONDS * PER_SECOND["ms"]):
        return "a date with a time of day"
    found = pc.min_max(numbers)
    first, last = found["min"].as_py(), found["max"].as_py()
    if first is None or (bounds[0] <= first and last <= bounds[1]):
        return None
    if pa.types.is_time(array.type):
        return "not a time of day: it must be from 00:00:00 to before 24:00:00"
    return "it has no text in the years 1 to 9999"


def text_of(value: pa.Scalar) -> str:
    """Return a value as messages show it: a temporal value without a text as its number and unit, never as something that it is not.

    Raises:
        ValueError, OverflowError: Python cannot represent the value.
    """
    if int96.is_int96(value.type):
        return int96.text_of(value.value.as_py()) if value.is_valid else "None"
    bounds = bounds_of_text(value.type)
    if bounds is not None and value.is_valid:
        array = pa.array([value.value], pa.int64())
        if not bounds[0] <= value.value <= bounds[1]:
            return _number_with_unit(value)
        if pa.types.is_timestamp(value.type) and value.type.unit == "ns":
            return str(array.view(pa.timestamp("ns")).cast(pa.string())[0])
    return str(value.as_py())


def _number_with_unit(value: pa.Scalar) -> str:
    if pa.types.is_time(value.type):
        seconds, fraction = divmod(abs(value.value), PER_SECOND[value.type.unit])
        digits = len(str(PER_SECOND[value.type.unit])) - 1
        sign = "-" if value.value < 0 else ""
        clock = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        return f"{clock}.{fraction:0{digits}d}" if fraction else clock
    unit = "days" if pa.types.is_date32(value.type) else getattr(value.type, "unit", "ms")
    return f"{value.value} {unit} since 1970"


def is_finer_than_micros(timestamps: pa.Array) -> bool:
    """Return whether a timestamp in nanoseconds has digits after the sixth."""
    return _has_rest(timestamps.view(pa.int64()), 1000)


def _has_rest(numbers: pa.Array, divisor: int) -> bool:
    return pc.any(pc.not_equal(pc.multiply(pc.divide(numbers, divisor), divisor), numbers)).as_py() is True


def cut_to_micros(timestamps: pa.Array) -> pa.Array:
    """Return timestamps in nanoseconds as microseconds, each rounded down, also before 1970: as the digits are cut off in writing."""
    numbers = timestamps.view(pa.int64())
    micros = pc.divide(numbers, 1000)  # rounds towards zero
    is_above = pc.greater(pc.multiply(micros, 1000), numbers)
    return pc.subtract(micros, is_above.cast(pa.int64())).view(pa.timestamp("us"))
