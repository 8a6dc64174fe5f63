"""Conversions of one column, from the source's array to the array that is sent, with every value checked.

A `Conversion` is a vectorized function that raises if any value would not survive. "The type fits" and "each value converts" are
therefore the same code, in the sample and in the push. `conversions_of` and `forced_conversions` list the conversions of a source type.

For a text column (CSV), these types are tried in this order. All values of the column must match; a column that matches no other type
stays STRING, with its values unchanged:

    INTEGER    the canonical text of a 64-bit integer: no leading zero, no plus sign, no "-0"
    FLOAT      a plain decimal number of at most 17 significant digits; whole numbers must be below 2**53. `.5`, `1.2E4` and `12e+04`
               are numbers; `5.`, `007.5`, `+1`, `nan` and `12E4` (which may be an id) are not
    BOOLEAN    true/false, all in the same letter case
    DATETIME   all dates (sent as midnight), all date-times without a zone (sent unchanged), or all with a zone or offset (sent in UTC)
    STRING     everything else, and columns without any value
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import re
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pushengine.model import ColumnType
from pushengine.schema import int96, temporal

MAX_FLOAT_DIGITS = 17
MAX_DECIMAL_DIGITS = 15
"""A decimal number with at most this many digits survives the conversion to a double and back."""
MAX_EXACT_INTEGER = 2**53
_PREFIX_VALUES = 32
_WRONG_YEAR = "the platform supports only the years 1400 to 9999"
_TOO_FINE = "it is finer than a microsecond"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_SECOND = int((dt.datetime(1400, 1, 1, tzinfo=dt.UTC) - _EPOCH).total_seconds())
_END_SECOND = int((dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - _EPOCH).total_seconds()) + 1


class MisfitError(ValueError):
    """A value that a conversion cannot represent. Arrow's own conversion errors are ValueErrors too."""


class OutOfRangeError(MisfitError):
    """A value that no column type of the target can hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """A way to read a column.

    Attributes:
        name: Name that `Column.conversion` refers to.
        type: Column type of the result.
        parse: (array, physical type) -> array of that type; raises ValueError if any value does not survive.
        arrow_type: Physical type of the result; None means a timestamp in the unit of the source.
    """

    name: str
    type: ColumnType
    parse: Callable[[pa.Array, pa.DataType], pa.Array]
    arrow_type: pa.DataType | None = None

    def fits(self, array: pa.Array, arrow_type: pa.DataType) -> bool:
        """Return whether all values survive.

        Raises:
            OutOfRangeError: No column type of the target can hold one of the values.
        """
        try:
            # Try a short prefix first: if nothing fits, Arrow builds an error per value, which takes about 100 times as long.
            if len(array) > _PREFIX_VALUES:
                self.parse(array.slice(0, _PREFIX_VALUES), arrow_type)
            self.parse(array, arrow_type)
        except OutOfRangeError:
            raise
        except ValueError:
            return False
        return True

    def read(self, array: pa.Array, to: pa.DataType) -> pa.Array:
        """Return the values as they are sent.

        Raises:
            ValueError: A value does not survive.
        """
        return pa.nulls(len(array), to) if pa.types.is_null(array.type) else self.parse(array, to)

    def first_misfit(self, array: pa.Array, to: pa.DataType) -> int:
        """Return the index of the first value that does not fit, found by bisection: only a batch that failed pays for it."""
        good, bad = 0, len(array)
        while bad - good > 1:
            # Begin with a short prefix, as `fits` does.
            middle = (good + bad) // 2 if good else min(bad // 2, _PREFIX_VALUES)
            try:
                self.read(array.slice(good, middle - good), to)
            except ValueError:
                bad = middle
            else:
                good = middle
        return good


def largest(values: pa.Array) -> int:
    """Return the largest of these numbers, or 0 if there are none."""
    return pc.max(values).as_py() or 0


def _any(mask: pa.Array) -> bool:
    return pc.any(mask).as_py() is True


def _cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    return array.cast(to)


def _strings(array: pa.Array) -> pa.Array:
    return array if array.type == pa.string() else array.cast(pa.string())


def _other_bytes(strings: pa.Array, usual: bytes) -> bytes:
    """Return the bytes of all values that are not in `usual`, in one pass: far cheaper than a regular expression."""
    if not len(strings) or strings.buffers()[2] is None:
        return b""
    offsets = memoryview(strings.buffers()[1]).cast("B").cast("i")
    start, end = offsets[strings.offset], offsets[strings.offset + len(strings)]
    values: bytes = strings.buffers()[2].slice(start, end - start).to_pybytes()
    return values.translate(None, usual)


def _require_pattern(strings: pa.Array, pattern: str, reason: str) -> None:
    if pc.all(pc.match_substring_regex(strings, pattern)).as_py() is False:
        raise MisfitError(reason)


def _canonical_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)  # also accepts "007", "-0" and "0x1F"
    unusual = _other_bytes(strings, b"0123456789")
    if unusual.strip(b"-"):
        _require_pattern(strings, "^(?:0|-?[1-9][0-9]*)$", "not a plain integer")
    elif (unusual and _any(pc.starts_with(strings, "-0"))) or largest(
        pc.binary_length(_starting_with(strings, "0"))
    ) > 1:
        raise MisfitError("not a plain integer")
    return values


def _starting_with(strings: pa.Array, start: str) -> pa.Array:
    """Return the strings that begin with `start`. They are usually few, so that closer checks of them are cheap."""
    starts = pc.starts_with(strings, start)
    return strings.filter(starts) if _any(starts) else strings.slice(0, 0)


def _forced_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    _require_pattern(strings, "^-?[0-9]+$", "not an integer")
    return strings.cast(to)


_NUMBER = r"^(?:0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)?\.[0-9]+)$"
_SCIENTIFIC = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|[eE][+-][0-9]{1,3})$"


def _plain_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)  # also accepts "nan", "+1", "007.5" and "5."
    unusual = _other_bytes(strings, b"0123456789.")
    if unusual.strip(b"-"):
        _require_pattern(strings, f"{_NUMBER}|{_SCIENTIFIC}", "not a plain number")
    elif _any(pc.ends_with(strings, ".")):
        raise MisfitError("not a plain number")
    else:
        for start in ("0", "-0") if unusual else ("0",):
            _require_pattern(_starting_with(strings, start), _NUMBER, "not a plain number")
    _require_precision(strings, values, has_exponents=bool(unusual.strip(b"-")))
    return values


def _forced_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)
    _require_precision(strings, values, has_exponents=True)
    return values


def _require_precision(strings: pa.Array, values: pa.Array, *, has_exponents: bool) -> None:
    """Reject overflow, underflow, more than 17 digits, and integers of magnitude 2**53 or more, which a double may not hold exactly."""
    if pc.all(pc.is_finite(values)).as_py() is False:
        raise MisfitError("not a finite number")
    lengths = pc.binary_length(strings)
    has_long = largest(lengths) > MAX_FLOAT_DIGITS + 1
    if has_long:
        long = strings.filter(pc.greater(lengths, MAX_FLOAT_DIGITS + 1))
        mantissas = pc.replace_substring_regex(long, r"[eE].*|[-+.]", "")
        if largest(pc.binary_length(pc.ascii_ltrim(mantissas, "0"))) > MAX_FLOAT_DIGITS:
            raise MisfitError(f"more than {MAX_FLOAT_DIGITS} significant digits")
    if (has_long or has_exponents) and _any(
        pc.match_substring_regex(strings.filter(pc.equal(values, 0.0)), r"^[-+]?[0.]*[1-9]")
    ):
        raise MisfitError("too small for a double")
    large = pc.greater_equal(pc.abs(values), float(MAX_EXACT_INTEGER))
    if _any(large) and _any(pc.invert(pc.match_substring_regex(strings.filter(large), "[.eE]"))):
        raise MisfitError("an integer that a double cannot represent exactly")


def _boolean_words(true: str, false: str) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, _to: pa.DataType) -> pa.Array:
        strings = _strings(array)
        is_true = pc.equal(strings, true)
        if pc.all(pc.or_(is_true, pc.equal(strings, false))).as_py() is False:
            raise MisfitError(f"neither {true} nor {false}")
        return is_true

    return parse


def _forced_boolean(array: pa.Array, to: pa.DataType) -> pa.Array:
    return _boolean_words("true", "false")(pc.ascii_lower(_strings(array)), to)


def _require_years(timestamps: pa.Array, error: type[MisfitError]) -> pa.Array:
    factor = temporal.PER_SECOND[timestamps.type.unit]
    bounds = pc.min_max(timestamps.view(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    if first is not None and (first < _FIRST_SECOND * factor or last >= _END_SECOND * factor):
        raise error(_WRONG_YEAR)
    return timestamps


def _text_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    lengths = pc.min_max(pc.binary_length(strings))
    if (lengths["min"].as_py() or 10) != 10 or (lengths["max"].as_py() or 10) != 10:  # noqa: PLR2004 - YYYY-MM-DD
        raise MisfitError("not a date")
    return _require_years(strings.cast(to), MisfitError)


_MIN_TIMESTAMP_LENGTH = len("2024-01-01T00:00")
_MICROS_LENGTH = len("2024-01-01T00:00:00.000000")


def _text_timestamp(*, zoned: bool, dates: bool = False) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = _strings(array)
        lengths = pc.binary_length(strings)
        shortest = pc.min(lengths).as_py()
        if shortest is not None and shortest < _MIN_TIMESTAMP_LENGTH:
            is_short = pc.less(lengths, _MIN_TIMESTAMP_LENGTH)
            if not dates or _any(pc.not_equal(lengths.filter(is_short), 10)):
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
        return _require_years(timestamps.view(to), MisfitError)

    return parse


def _arrow_timestamp(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return _int96_micros(array, cuts=True).cast(to)
    timestamps = array.view(pa.timestamp(array.type.unit))  # if it has a zone, Arrow stores the UTC instant
    return _require_years(timestamps if timestamps.type == to else timestamps.cast(to), OutOfRangeError)


def _int96_micros(array: pa.Array, *, cuts: bool) -> pa.Array:
    stamps = int96.read(array)
    if stamps.has_wrong_time:
        raise OutOfRangeError("its time of day is not within 24 hours")
    if stamps.has_wrong_day:
        raise OutOfRangeError(_WRONG_YEAR)
    if stamps.is_finer and not cuts:
        raise MisfitError(_TOO_FINE)
    return stamps.micros


def _whole_micros(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return _int96_micros(array, cuts=False).cast(to)
    if array.type.unit == "ns" and temporal.is_finer_than_micros(array.view(_NANOS)):
        raise MisfitError(_TOO_FINE)
    return _arrow_timestamp(array, to)


def _cut_to_micros(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return _int96_micros(array, cuts=True).cast(to)
    return _arrow_timestamp(temporal.cut_to_micros(array) if array.type.unit == "ns" else array, to)


def _arrow_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    return _require_years(array.cast(to), OutOfRangeError)


def _plain_decimals(array: pa.Array) -> pa.Array:
    """Return the exact text of decimals, never in scientific notation (Arrow writes 0.0000000001 as 1.00E-10)."""
    texts = array.cast(pa.string())
    scientific = pc.match_substring(texts, "E")
    if not _any(scientific):
        return texts
    fixed = [format(decimal.Decimal(text), "f") for text in texts.filter(scientific).to_pylist()]
    return pc.replace_with_mask(texts, pc.fill_null(scientific, fill_value=False), pa.array(fixed, pa.string()))


def _decimal_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    texts = _plain_decimals(array)
    if array.type.precision > MAX_DECIMAL_DIGITS:
        digits = pc.ascii_rtrim(texts, "0") if array.type.scale > 0 else texts
        digits = pc.ascii_ltrim(pc.replace_substring(digits, ".", ""), "-0")
        if largest(pc.binary_length(digits)) > MAX_DECIMAL_DIGITS:
            raise MisfitError(f"more than {MAX_DECIMAL_DIGITS} significant digits")
    # Cast from text: Arrow's own conversion from decimal is off by one unit in the last place for many values.
    return texts.cast(to)


def _uuid_text(array: pa.Array) -> pa.Array:
    storage = array.storage
    start = storage.offset * 16
    data = storage.buffers()[1].slice(start, len(storage) * 16).to_pybytes() if len(storage) else b""
    flat = pa.Array.from_buffers(pa.binary(32), len(storage), [None, pa.py_buffer(data.hex().encode())])
    text = flat.cast(pa.binary()).cast(pa.string())
    parts = [pc.utf8_slice_codeunits(text, *part) for part in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
    return pc.if_else(storage.is_valid(), pc.binary_join_element_wise(*parts, "-"), pa.scalar(None, pa.string()))


def _text(array: pa.Array, to: pa.DataType) -> pa.Array:
    if int96.is_int96(array.type):
        return _int96_micros(array, cuts=False).cast(to)
    if isinstance(array.type, pa.BaseExtensionType):
        return _uuid_text(array) if _is_uuid(array.type) else _text(array.storage, to)
    if is_string(array.type):
        array.validate(full=True)  # strings from Parquet files and foreign memory may be invalid UTF-8
        return _strings(array)
    if pa.types.is_decimal(array.type):
        return _plain_decimals(array)
    if (reason := temporal.why_not_text(array)) is not None:
        raise MisfitError(reason)
    return array.cast(to)


def _bool8(array: pa.Array, _to: pa.DataType) -> pa.Array:
    return pc.not_equal(array.storage, pa.scalar(0, pa.int8()))


_MIDNIGHT = pa.timestamp("ms")
_MICROS = pa.timestamp("us")
_NANOS = pa.timestamp("ns")
TEXT = Conversion("text", "STRING", _text, pa.string())
_PLAIN_TEXT = Conversion("plain_text", "STRING", lambda array, _to: _strings(array), pa.string())
"""For text files, whose reader has already ensured that they are valid UTF-8."""
_INTEGER = Conversion("integer", "INTEGER", _cast, pa.int64())
_FLOAT = Conversion("float", "FLOAT", _cast, pa.float64())
_BOOLEAN = Conversion("boolean", "BOOLEAN", _cast, pa.bool_())
_DECIMAL_FLOAT = Conversion("decimal_float", "FLOAT", _decimal_float, pa.float64())
_TIMESTAMP = Conversion("timestamp", "DATETIME", _arrow_timestamp)
WHOLE_MICROS = Conversion("timestamp_us", "DATETIME", _whole_micros, _MICROS)
CUT_TO_MICROS = Conversion("timestamp_cut", "DATETIME", _cut_to_micros, _MICROS)
"""For typed timestamps that are finer than the platform's microseconds. Never for keys: two of them could become one."""
_DATE = Conversion("date", "DATETIME", _arrow_date, _MIDNIGHT)
_BOOL8 = Conversion("bool8", "BOOLEAN", _bool8, pa.bool_())
_TEXT_INTEGER = Conversion("text_integer", "INTEGER", _canonical_integer, pa.int64())
_TEXT_FLOAT = Conversion("text_float", "FLOAT", _plain_float, pa.float64())
_TEXT_BOOLEANS = tuple(
    Conversion(f"text_{true}", "BOOLEAN", _boolean_words(true, false), pa.bool_())
    for true, false in (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
)
_TEXT_DATE = Conversion("text_date", "DATETIME", _text_date, _MIDNIGHT)
_TEXT_TIMESTAMPS = (
    _TEXT_DATE,
    Conversion("text_naive_us", "DATETIME", _text_timestamp(zoned=False), _MICROS),
    Conversion("text_utc_us", "DATETIME", _text_timestamp(zoned=True), _MICROS),
    Conversion("text_naive_ns", "DATETIME", _text_timestamp(zoned=False), _NANOS),
    Conversion("text_utc_ns", "DATETIME", _text_timestamp(zoned=True), _NANOS),
)


def _key_timestamp(shape: str, *, zoned: bool) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    parse_timestamp = _text_timestamp(zoned=zoned)

    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = _strings(array)
        _require_pattern(
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
            _MICROS if digits <= 6 else _NANOS,  # noqa: PLR2004 - microseconds have six digits
        )
        for separator in ("T", " ")
        for digits in range(-1, 10)  # of the fraction of a second; -1: no seconds either
        for zone in ("", "Z", "+00:00")
    )


KEY_FROM_TEXT = (_TEXT_INTEGER, _TEXT_DATE, *_key_timestamps(), _PLAIN_TEXT)
"""Conversions of a key column of a text file, the best first."""
_FORCED_FROM_TEXT: dict[ColumnType, tuple[Conversion, ...]] = {
    "INTEGER": (Conversion("forced_integer", "INTEGER", _forced_integer, pa.int64()),),
    "FLOAT": (Conversion("forced_float", "FLOAT", _forced_float, pa.float64()),),
    "BOOLEAN": (Conversion("forced_boolean", "BOOLEAN", _forced_boolean, pa.bool_()),),
    "DATETIME": (
        *_TEXT_TIMESTAMPS,
        Conversion("forced_naive_us", "DATETIME", _text_timestamp(zoned=False, dates=True), _MICROS),
        Conversion("forced_naive_ns", "DATETIME", _text_timestamp(zoned=False, dates=True), _NANOS),
    ),
    "DATE": (_TEXT_DATE,),
    "STRING": (TEXT,),
}
_FROM_TEXT = (_TEXT_INTEGER, _TEXT_FLOAT, *_TEXT_BOOLEANS, *_TEXT_TIMESTAMPS, _PLAIN_TEXT)


def _no_values(array: pa.Array, to: pa.DataType) -> pa.Array:
    if array.null_count < len(array):
        raise MisfitError("the types differ")
    return pa.nulls(len(array), to)


_EMPTY_TYPES: dict[ColumnType, pa.DataType] = {
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "DATETIME": _MIDNIGHT,
    "DATE": _MIDNIGHT,
    "TIME": pa.string(),
}
NO_VALUES = {
    kind: Conversion(f"no_values_{kind.lower()}", kind, _no_values, arrow_type)
    for kind, arrow_type in _EMPTY_TYPES.items()
}
"""For columns without any value, whatever their type in the source: NULL fits every column type."""
CONVERSIONS: dict[str, Conversion] = {
    conversion.name: conversion
    for conversion in (
        *(TEXT, _INTEGER, _FLOAT, _BOOLEAN, _DECIMAL_FLOAT, _TIMESTAMP, _DATE, _BOOL8, *_FROM_TEXT, *KEY_FROM_TEXT),
        *(WHOLE_MICROS, CUT_TO_MICROS),
        *NO_VALUES.values(),
        *(conversion for conversions in _FORCED_FROM_TEXT.values() for conversion in conversions),
    )
}
"""All conversions by name."""


def is_string(arrow_type: pa.DataType) -> bool:
    """Return whether arrays of this type hold text, in any of Arrow's string layouts."""
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def is_stamp(arrow_type: pa.DataType) -> bool:
    """Return whether arrays of this type hold timestamps."""
    return bool(pa.types.is_timestamp(arrow_type)) or int96.is_int96(arrow_type)


def is_zoned(conversion: str) -> bool:
    """Return whether the conversion of this name reads text with a time zone or an offset."""
    return conversion.startswith("text_utc") or conversion.endswith(("_Z", "_+00:00"))


def has_zone(arrow_type: pa.DataType, conversion: Conversion) -> bool:
    """Return whether the values that a conversion reads from this type have a time zone or an offset."""
    return arrow_type.tz is not None if pa.types.is_timestamp(arrow_type) else is_zoned(conversion.name)


def is_zone_known(conversion: str) -> bool:
    """Return whether the conversion of this name says if its date-times have a time zone; those of typed columns do not."""
    return conversion.startswith(("text_", "key_", "forced_"))


def _is_uuid(arrow_type: pa.DataType) -> bool:
    return getattr(arrow_type, "extension_name", "") == "arrow.uuid"


def decoded_type(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type without dictionary, run-end or view encoding, and with decimals of at least 128 bits.

    Slices of arrays in those encodings do not report their own size.
    """
    while pa.types.is_dictionary(arrow_type) or pa.types.is_run_end_encoded(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_string_view(arrow_type):
        return pa.string()
    if pa.types.is_binary_view(arrow_type):
        return pa.binary()
    if pa.types.is_decimal(arrow_type) and arrow_type.bit_width < 128:  # noqa: PLR2004 - Arrow has few functions for these
        return pa.decimal128(arrow_type.precision, arrow_type.scale)
    return arrow_type


def decoded(array: pa.Array) -> pa.Array:
    """Return the same values in their `decoded_type`. The array must be valid: Arrow follows its indices and offsets without a check."""
    if pa.types.is_dictionary(array.type):
        return decoded(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        # Arrow decodes runs of some types only, but runs of indices always.
        numbers = pa.array(np.arange(len(array.values), dtype=np.int32))
        runs = pa.RunEndEncodedArray.from_arrays(array.run_ends, numbers).slice(array.offset, len(array))
        return decoded(array.values).take(pc.run_end_decode(runs))
    plain = decoded_type(array.type)
    return array if array.type == plain else array.cast(plain)


def are_same_kind(arrow_type: pa.DataType, to: pa.DataType) -> bool:
    """Return whether a cast from one decoded type to the other keeps every value or raises an error."""
    t = pa.types
    if t.is_null(arrow_type) or arrow_type == to:
        return True
    if t.is_floating(arrow_type) and t.is_floating(to):
        return bool(arrow_type.bit_width <= to.bit_width)  # Arrow rounds without an error
    if is_stamp(arrow_type) and t.is_timestamp(to):
        return (getattr(arrow_type, "tz", None) is None) is (to.tz is None)
    if t.is_date(arrow_type):
        return bool(t.is_date64(to))
    kinds = (is_string, t.is_integer, t.is_decimal, t.is_time, _is_binary)
    return any(is_kind(arrow_type) and is_kind(to) for is_kind in kinds)


def _is_binary(arrow_type: pa.DataType) -> bool:
    return bool(pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type))


def text_conversion(conversions: Iterable[Conversion]) -> Conversion | None:
    """Return the conversion that yields text, or None if there is none."""
    return next((conversion for conversion in conversions if conversion in (TEXT, _PLAIN_TEXT)), None)


def forced_conversions(arrow_type: pa.DataType, target_type: ColumnType) -> tuple[Conversion, ...]:
    """Return the conversions from a source type to the type that the user requested; empty if it cannot be converted."""
    t = pa.types
    if is_string(arrow_type):
        return _FORCED_FROM_TEXT.get(target_type, ())
    if t.is_null(arrow_type):
        return {"DATETIME": (_DATE,), "DATE": (_DATE,)}.get(
            target_type,
            tuple(conversion for conversion in (_INTEGER, _FLOAT, _BOOLEAN, TEXT) if conversion.type == target_type),
        )
    options: list[Conversion] = list(conversions_of(arrow_type, is_text=False))
    if t.is_integer(arrow_type) or t.is_floating(arrow_type) or t.is_decimal(arrow_type):
        options += [_INTEGER, _DECIMAL_FLOAT if t.is_decimal(arrow_type) else _FLOAT]
    elif t.is_boolean(arrow_type):
        options += [_INTEGER]
    elif t.is_date(arrow_type) and target_type == "DATE":
        return (_DATE,)
    elif is_stamp(arrow_type) and target_type == "DATETIME":
        return tuple(
            dict.fromkeys((options[-1], _TIMESTAMP))
        )  # the type has no nanoseconds, so requesting it cuts them
    options += [TEXT]
    return tuple(dict.fromkeys(conversion for conversion in options if conversion.type == target_type))


def conversions_of(arrow_type: pa.DataType, *, is_text: bool) -> tuple[Conversion, ...]:  # noqa: PLR0911 - one line per family of types
    """Return the conversions of a source type, the best first; empty if the target cannot hold it."""
    t = pa.types
    if is_stamp(arrow_type):
        is_fine = int96.is_int96(arrow_type) or arrow_type.unit == "ns"
        return (WHOLE_MICROS, CUT_TO_MICROS) if is_fine else (_TIMESTAMP,)
    if isinstance(arrow_type, pa.BaseExtensionType):
        if getattr(arrow_type, "extension_name", "") == "arrow.bool8":
            return (_BOOL8,)
        return (TEXT,) if _is_uuid(arrow_type) or is_string(arrow_type.storage_type) else ()
    if is_string(arrow_type):
        return _FROM_TEXT if is_text else (TEXT,)
    if t.is_integer(arrow_type):
        return (_INTEGER, TEXT) if t.is_uint64(arrow_type) else (_INTEGER,)
    if t.is_floating(arrow_type):
        return (_FLOAT,)
    if t.is_decimal(arrow_type):
        return (_INTEGER if arrow_type.scale <= 0 else _DECIMAL_FLOAT, TEXT)
    if t.is_boolean(arrow_type):
        return (_BOOLEAN,)
    if t.is_date(arrow_type):
        return (_DATE,)
    return (TEXT,) if t.is_time(arrow_type) or t.is_null(arrow_type) else ()
