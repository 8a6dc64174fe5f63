"""Conversions of one column, from the source's array to the array that is sent, with every value checked.

A `Conversion` is a vectorized function that raises if any value would not survive. "The type fits" and "each value converts" are
therefore the same code, in the sample and in the push. `conversions_of`, `key_conversions` and `forced_conversions` list the conversions of
a source type, and `conversion_named` finds one again. Those from text are in `schema.text.values` and `schema.text.localized`.
"""

from __future__ import annotations

import dataclasses
import decimal
import functools
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pushengine.model import ColumnType
from pushengine.schema.base import (
    MIDNIGHT,
    Conversion,
    MisfitError,
    OutOfRangeError,
    any_of,
    is_string,
    require_years,
    strings_of,
)
from pushengine.schema.digits import SAFE_DIGITS, require_digits
from pushengine.schema.formats import ValueFormats
from pushengine.schema.text import values as text
from pushengine.schema.text.localized import localized, named
from pushengine.schema.times.int96 import is_int96
from pushengine.schema.times.limits import why_not_text
from pushengine.schema.times.stamps import (
    CUT_TO_MICROS,
    TIMESTAMP,
    WHOLE_MICROS,
    conversions_of_stamps,
    int96_micros,
    is_stamp,
)

_DEFAULT_FORMATS = ValueFormats()


def _cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    return array.cast(to)


def _arrow_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    return require_years(array.cast(to), OutOfRangeError)


def _plain_decimals(array: pa.Array) -> pa.Array:
    """Return the exact text of decimals, never in scientific notation (Arrow writes 0.0000000001 as 1.00E-10)."""
    texts = array.cast(pa.string())
    scientific = pc.match_substring(texts, "E")
    if not any_of(scientific):
        return texts
    fixed = [format(decimal.Decimal(text), "f") for text in texts.filter(scientific).to_pylist()]
    return pc.replace_with_mask(texts, pc.fill_null(scientific, fill_value=False), pa.array(fixed, pa.string()))


def _decimal_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    texts = _plain_decimals(array)
    # Cast from text: Arrow's own conversion from decimal is off by one unit in the last place for many values.
    values = texts.cast(to)
    if array.type.precision > SAFE_DIGITS:
        is_long = pc.greater(pc.binary_length(texts), SAFE_DIGITS)
        if any_of(is_long):
            require_digits(texts.filter(is_long), values.filter(is_long), has_exponents=False)
    return values


def _uuid_text(array: pa.Array) -> pa.Array:
    storage = array.storage
    start = storage.offset * 16
    data = storage.buffers()[1].slice(start, len(storage) * 16).to_pybytes() if len(storage) else b""
    flat = pa.Array.from_buffers(pa.binary(32), len(storage), [None, pa.py_buffer(data.hex().encode())])
    text = flat.cast(pa.binary()).cast(pa.string())
    parts = [pc.utf8_slice_codeunits(text, *part) for part in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
    return pc.if_else(storage.is_valid(), pc.binary_join_element_wise(*parts, "-"), pa.scalar(None, pa.string()))


def _text(array: pa.Array, to: pa.DataType) -> pa.Array:
    if is_int96(array.type):
        return int96_micros(array, cuts=False).cast(to)
    if isinstance(array.type, pa.BaseExtensionType):
        return _uuid_text(array) if _is_uuid(array.type) else _text(array.storage, to)
    if is_string(array.type):
        array.validate(full=True)  # strings from Parquet files and foreign memory may be invalid UTF-8
        return strings_of(array)
    if pa.types.is_decimal(array.type):
        return _plain_decimals(array)
    if (reason := why_not_text(array)) is not None:
        raise MisfitError(reason)
    return array.cast(to)


def _bool8(array: pa.Array, _to: pa.DataType) -> pa.Array:
    return pc.not_equal(array.storage, pa.scalar(0, pa.int8()))


TEXT = Conversion("text", "STRING", _text, pa.string())
_INTEGER = Conversion("integer", "INTEGER", _cast, pa.int64())
_FLOAT = Conversion("float", "FLOAT", _cast, pa.float64())
_BOOLEAN = Conversion("boolean", "BOOLEAN", _cast, pa.bool_())
_DECIMAL_FLOAT = Conversion("decimal_float", "FLOAT", _decimal_float, pa.float64())
_DATE = Conversion("date", "DATETIME", _arrow_date, MIDNIGHT)
_BOOL8 = Conversion("bool8", "BOOLEAN", _bool8, pa.bool_())


def _no_values(array: pa.Array, to: pa.DataType) -> pa.Array:
    if array.null_count < len(array):
        raise MisfitError("the types differ")
    return pa.nulls(len(array), to)


_EMPTY_TYPES: dict[ColumnType, pa.DataType] = {
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "DATETIME": MIDNIGHT,
    "DATE": MIDNIGHT,
    "TIME": pa.string(),
}
NO_VALUES = {
    kind: Conversion(f"no_values_{kind.lower()}", kind, _no_values, arrow_type)
    for kind, arrow_type in _EMPTY_TYPES.items()
}
"""For columns without any value, whatever their type in the source: NULL fits every column type."""
_BY_NAME: dict[str, Conversion] = {
    conversion.name: conversion
    for conversion in (
        *(TEXT, _INTEGER, _FLOAT, _BOOLEAN, _DECIMAL_FLOAT, _DATE, _BOOL8),
        *(TIMESTAMP, WHOLE_MICROS, CUT_TO_MICROS),
        *text.FROM_TEXT,
        *NO_VALUES.values(),
    )
}


def conversion_named(name: str) -> Conversion | None:
    """Return the conversion of this name, of this or an earlier version; None if there is none."""
    return _BY_NAME.get(name) or named(name)


@functools.lru_cache(maxsize=256)
def _from_text(formats: ValueFormats) -> tuple[Conversion, ...]:
    """Return the conversions of a text column, the best first."""
    numbers = (text.TEXT_INTEGER, text.TEXT_FLOAT)
    return (
        *_given_dates(formats),  # before numbers, because 20240131 is one
        *((localized(one, formats) for one in numbers) if formats.has_numbers else numbers),
        *text.TEXT_BOOLEANS,
        *_iso_dates(formats),
        text.PLAIN_TEXT,
    )


@functools.lru_cache(maxsize=256)
def _key_from_text(formats: ValueFormats) -> tuple[Conversion, ...]:
    """Return the conversions of a key column of text, under which two different texts are never one value, the best first."""
    exact = dataclasses.replace(formats, zero_date_null=False, cuts_subseconds=False)
    return (*_given_dates(exact), text.TEXT_INTEGER, text.TEXT_DATE, *text.KEY_TIMESTAMPS, text.PLAIN_TEXT)


@functools.lru_cache(maxsize=256)
def _forced_from_text(formats: ValueFormats, target_type: ColumnType) -> tuple[Conversion, ...]:
    """Return the conversions from text to a type that the user requests."""
    if target_type in ("INTEGER", "FLOAT"):
        forced = text.FORCED_INTEGER if target_type == "INTEGER" else text.FORCED_FLOAT
        return (localized(forced, formats) if formats.has_numbers else forced,)
    if target_type == "DATETIME":
        mixed = localized(text.FORCED_NAIVE, formats)
        nanos = () if formats.cuts_subseconds else (text.FORCED_NAIVE_NANOS,)
        return (*_given_dates(formats), *_iso_dates(formats), mixed, *nanos)
    if target_type == "DATE":
        return (
            *(one for one in _given_dates(formats) if one.arrow_type == MIDNIGHT),
            localized(text.TEXT_DATE, formats),
        )
    return {"BOOLEAN": (text.FORCED_BOOLEAN,), "STRING": (TEXT,)}.get(target_type, ())


def given_conversions(formats: ValueFormats) -> tuple[Conversion, ...]:
    """Return the conversions of a text column that exist only because of a setting."""
    return tuple(one for one in _from_text(formats) if "@" in one.name)


def _given_dates(formats: ValueFormats) -> tuple[Conversion, ...]:
    return tuple(
        localized(text.TEXT_NAIVE if one.has_time else text.TEXT_DATE, formats, one) for one in formats.date_formats
    )


def _iso_dates(formats: ValueFormats) -> tuple[Conversion, ...]:
    iso = tuple(localized(one, formats) for one in (text.TEXT_DATE, text.TEXT_NAIVE, text.TEXT_UTC))
    return iso if formats.cuts_subseconds else (*iso, text.TEXT_NAIVE_NANOS, text.TEXT_UTC_NANOS)


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
    return next((conversion for conversion in conversions if conversion in (TEXT, text.PLAIN_TEXT)), None)


def forced_conversions(
    arrow_type: pa.DataType, target_type: ColumnType, formats: ValueFormats = _DEFAULT_FORMATS
) -> tuple[Conversion, ...]:
    """Return the conversions from a source type to the type that the user requested; empty if it cannot be converted."""
    t = pa.types
    if is_string(arrow_type):
        return _forced_from_text(formats, target_type)
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
        return tuple(dict.fromkeys((options[-1], TIMESTAMP)))  # the type has no nanoseconds, so requesting it cuts them
    options += [TEXT]
    return tuple(dict.fromkeys(conversion for conversion in options if conversion.type == target_type))


def key_conversions(
    arrow_type: pa.DataType, *, is_text: bool, formats: ValueFormats = _DEFAULT_FORMATS
) -> tuple[Conversion, ...]:
    """Return the conversions of a key column, the best first: those that never turn two values into one.

    `1.1` and `1.10` are two keys, so a key is never FLOAT. Empty if the target cannot hold the type, or if it is a float.
    """
    if is_string(arrow_type):
        return _key_from_text(formats) if is_text else (TEXT,)
    found = conversions_of(arrow_type, is_text=is_text)
    return tuple(one for one in found if one.type != "FLOAT" and one is not CUT_TO_MICROS)


def conversions_of(  # noqa: PLR0911 - one line per family of types
    arrow_type: pa.DataType, *, is_text: bool, formats: ValueFormats = _DEFAULT_FORMATS
) -> tuple[Conversion, ...]:
    """Return the conversions of a source type, the best first; empty if the target cannot hold it."""
    t = pa.types
    if is_stamp(arrow_type):
        return conversions_of_stamps(arrow_type)
    if isinstance(arrow_type, pa.BaseExtensionType):
        if getattr(arrow_type, "extension_name", "") == "arrow.bool8":
            return (_BOOL8,)
        return (TEXT,) if _is_uuid(arrow_type) or is_string(arrow_type.storage_type) else ()
    if is_string(arrow_type):
        return _from_text(formats) if is_text else (TEXT,)
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
