"""Conversions from text: CSV fields, and text columns for which the user requests a type. Formats other than these: `schema.text.localized`.

For a text column (CSV), these types are tried in this order. All values of the column must match; a column that matches no other type
stays STRING, with its values unchanged:

    INTEGER    the canonical text of a 64-bit integer: no leading zero, no plus sign, no "-0"
    FLOAT      a plain decimal number whose digits survive (`schema.digits`); whole numbers must be below 2**53. `.5`, `1.2E4` and `12e+04`
               are numbers; `5.`, `007.5`, `+1` and `nan` are not. At least one value of the column must have a point, because `12E4` and `1E-02`
               may be ids, and it must not look like groups of thousands (`1.000` next to `950`)
    BOOLEAN    true/false, all in the same letter case
    DATETIME   all dates (sent as midnight), all date-times without a zone (sent unchanged), or all with a zone or offset (sent in UTC)
    STRING     everything else, and columns without any value
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.schema.base import (
    MICROS,
    MIDNIGHT,
    NANOS,
    Conversion,
    Evidence,
    MisfitError,
    any_of,
    largest,
    require_pattern,
    require_years,
    strings_of,
)
from pushengine.schema.digits import require_precision


def _other_bytes(strings: pa.Array, usual: bytes) -> bytes:
    """Return the bytes of all values that are not in `usual`, in one pass: far cheaper than a regular expression."""
    if not len(strings) or strings.buffers()[2] is None:
        return b""
    offsets = memoryview(strings.buffers()[1]).cast("B").cast("i")
    start, end = offsets[strings.offset], offsets[strings.offset + len(strings)]
    values: bytes = strings.buffers()[2].slice(start, end - start).to_pybytes()
    return values.translate(None, usual)


def _canonical_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = strings_of(array)
    values = strings.cast(to)  # also accepts "007", "-0" and "0x1F"
    unusual = _other_bytes(strings, b"0123456789")
    if unusual.strip(b"-"):
        require_pattern(strings, "^(?:0|-?[1-9][0-9]*)$", "not a plain integer")
    elif (unusual and any_of(pc.starts_with(strings, "-0"))) or largest(
        pc.binary_length(_starting_with(strings, "0"))
    ) > 1:
        raise MisfitError("not a plain integer")
    return values


def _starting_with(strings: pa.Array, start: str) -> pa.Array:
    """Return the strings that begin with `start`. They are usually few, so that closer checks of them are cheap."""
    starts = pc.starts_with(strings, start)
    return strings.filter(starts) if any_of(starts) else strings.slice(0, 0)


def _forced_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = strings_of(array)
    require_pattern(strings, "^-?[0-9]+$", "not an integer")
    return strings.cast(to)


_NUMBER = r"^(?:0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)?\.[0-9]+)$"
_SCIENTIFIC = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?[eE][+-]?[0-9]{1,3}$"
_GROUPED = r"^-?[1-9][0-9]{0,2}\.[0-9]{3}$"


def _plain_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = strings_of(array)
    values = _numbers(strings, to)  # also accepts "nan", "+1", "007.5" and "5."
    unusual = _other_bytes(strings, b"0123456789.")
    if unusual.strip(b"-"):
        require_pattern(strings, f"{_NUMBER}|{_SCIENTIFIC}", "not a plain number")
    elif any_of(pc.ends_with(strings, ".")):
        raise MisfitError("not a plain number")
    else:
        for start in ("0", "-0") if unusual else ("0",):
            require_pattern(_starting_with(strings, start), _NUMBER, "not a plain number")
    require_precision(strings, values, has_exponents=bool(unusual.strip(b"-")))
    return values


def _forced_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = strings_of(array)
    values = _numbers(strings, to)
    require_precision(strings, values, has_exponents=True)
    return values


def _numbers(strings: pa.Array, to: pa.DataType) -> pa.Array:
    try:
        return strings.cast(to)
    except ValueError:
        raise MisfitError("not a number with a point as decimal sign") from None


def _point_facts(array: pa.Array) -> frozenset[str]:
    """Return what numbers show about their points: `decimal` if one can only be a decimal sign, otherwise `grouped`, `whole` or both."""
    strings = strings_of(array)
    if not _other_bytes(strings, b"0123456789-"):
        return frozenset(["whole"])
    has_point = pc.match_substring(strings, ".")
    pointed = strings.filter(has_point)
    if len(pointed) and pc.all(pc.match_substring_regex(pointed, _GROUPED)).as_py() is False:
        return frozenset(["decimal"])
    others = strings.filter(pc.invert(has_point)) if len(pointed) else strings
    is_whole = pc.invert(pc.or_(pc.match_substring(others, "e"), pc.match_substring(others, "E")))
    return frozenset([*(["grouped"] if len(pointed) else []), *(["whole"] if any_of(is_whole) else [])])


_HAS_DECIMAL_POINT = Evidence(
    _point_facts, "decimal", lambda facts: "decimal" in facts or ("grouped" in facts and "whole" not in facts)
)


def _boolean_words(true: str, false: str) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, _to: pa.DataType) -> pa.Array:
        strings = strings_of(array)
        is_true = pc.equal(strings, true)
        if pc.all(pc.or_(is_true, pc.equal(strings, false))).as_py() is False:
            raise MisfitError(f"neither {true} nor {false}")
        return is_true

    return parse


def _forced_boolean(array: pa.Array, to: pa.DataType) -> pa.Array:
    return _boolean_words("true", "false")(pc.ascii_lower(strings_of(array)), to)


def _text_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = strings_of(array)
    lengths = pc.min_max(pc.binary_length(strings))
    if (lengths["min"].as_py() or 10) != 10 or (lengths["max"].as_py() or 10) != 10:  # noqa: PLR2004 - YYYY-MM-DD
        raise MisfitError("not a date")
    try:
        dates = strings.cast(to)
    except ValueError:
        raise MisfitError("not a date like 2024-01-31") from None
    return require_years(dates, MisfitError)


_MIN_TIMESTAMP_LENGTH = len("2024-01-01T00:00")
_MICROS_LENGTH = len("2024-01-01T00:00:00.000000")


def _text_timestamp(*, zoned: bool, dates: bool = False) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = strings_of(array)
        lengths = pc.binary_length(strings)
        shortest = pc.min(lengths).as_py()
        if shortest is not None and shortest < _MIN_TIMESTAMP_LENGTH:
            is_short = pc.less(lengths, _MIN_TIMESTAMP_LENGTH)
            if not dates or any_of(pc.not_equal(lengths.filter(is_short), 10)):
                raise MisfitError("not a date and time")
        zoned_type = pa.timestamp(to.unit, "UTC" if zoned else None)
        try:
            timestamps = strings.cast(zoned_type)
        except ValueError:
            if to.unit != "us" or largest(lengths) <= _MICROS_LENGTH:
                raise
            # .NET and SQL Server write 7 to 9 fractional digits of a second: accept them if all after the sixth are zero.
            timestamps = pc.replace_substring_regex(strings, r"(\.[0-9]{6})0{1,3}(Z|[+-].*)?$", r"\1\2").cast(
                zoned_type
            )
        return require_years(timestamps.view(to), MisfitError)

    return parse


def _key_timestamp(shape: str, *, zoned: bool) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    parse_timestamp = _text_timestamp(zoned=zoned)

    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = strings_of(array)
        require_pattern(
            strings, shape, "it is spelled unlike the date-times before it, and two spellings could be one key"
        )
        return parse_timestamp(strings, to)

    return parse


def _key_timestamps() -> tuple[Conversion, ...]:
    """Return a conversion for each spelling of date-times, under which two different texts are never the same instant."""
    return tuple(
        Conversion(
            f"key_{'t' if separator == 'T' else 'space'}_{digits}{'_' + zone if zone else ''}",
            "DATETIME",
            _key_timestamp(
                rf"^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{separator}[0-9]{{2}}:[0-9]{{2}}"
                rf"{'' if digits < 0 else ':[0-9]{2}'}{'' if digits < 1 else f'[.][0-9]{{{digits}}}'}{re.escape(zone)}$",
                zoned=bool(zone),
            ),
            MICROS,
        )
        for separator in ("T", " ")
        for digits in range(-1, 10)  # of the fraction of a second; -1: no seconds either
        for zone in ("", "Z", "+00:00")
    )


PLAIN_TEXT = Conversion("plain_text", "STRING", lambda array, _to: strings_of(array), pa.string())
"""For text files, whose reader has already ensured that they are valid UTF-8."""
TEXT_INTEGER = Conversion("text_integer", "INTEGER", _canonical_integer, pa.int64())
TEXT_FLOAT = Conversion("text_float", "FLOAT", _plain_float, pa.float64(), _HAS_DECIMAL_POINT)
TEXT_BOOLEANS = tuple(
    Conversion(f"text_{true}", "BOOLEAN", _boolean_words(true, false), pa.bool_())
    for true, false in (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
)
TEXT_DATE = Conversion("text_date", "DATETIME", _text_date, MIDNIGHT)
TEXT_NAIVE = Conversion("text_naive_us", "DATETIME", _text_timestamp(zoned=False), MICROS)
TEXT_UTC = Conversion("text_utc_us", "DATETIME", _text_timestamp(zoned=True), MICROS)
TEXT_NAIVE_NANOS = Conversion("text_naive_ns", "DATETIME", _text_timestamp(zoned=False), NANOS)
TEXT_UTC_NANOS = Conversion("text_utc_ns", "DATETIME", _text_timestamp(zoned=True), NANOS)
FORCED_INTEGER = Conversion("forced_integer", "INTEGER", _forced_integer, pa.int64())
FORCED_FLOAT = Conversion("forced_float", "FLOAT", _forced_float, pa.float64())
FORCED_BOOLEAN = Conversion("forced_boolean", "BOOLEAN", _forced_boolean, pa.bool_())
FORCED_NAIVE = Conversion("forced_naive_us", "DATETIME", _text_timestamp(zoned=False, dates=True), MICROS)
FORCED_NAIVE_NANOS = Conversion("forced_naive_ns", "DATETIME", _text_timestamp(zoned=False, dates=True), NANOS)
TOO_FINE = {
    one.name: micros
    for one, micros in ((TEXT_NAIVE_NANOS, TEXT_NAIVE), (TEXT_UTC_NANOS, TEXT_UTC), (FORCED_NAIVE_NANOS, FORCED_NAIVE))
}
"""Conversions of date-times finer than a microsecond, which inference refuses and earlier versions sent -> those without."""
KEY_TIMESTAMPS = _key_timestamps()
FROM_TEXT = (
    *(TEXT_INTEGER, TEXT_FLOAT, *TEXT_BOOLEANS, TEXT_DATE, TEXT_NAIVE, TEXT_UTC, TEXT_NAIVE_NANOS, TEXT_UTC_NANOS),
    *(FORCED_INTEGER, FORCED_FLOAT, FORCED_BOOLEAN, FORCED_NAIVE, FORCED_NAIVE_NANOS),
    *(*KEY_TIMESTAMPS, PLAIN_TEXT),
)
"""All conversions from text in the formats that need no setting."""
