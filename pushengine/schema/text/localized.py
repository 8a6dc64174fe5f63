"""Conversions from text whose format a setting says: numbers, dates, dates of zeros and fractions of a second.

Each rewrites the values as the strict conversions of `schema.text.values` expect them, which then check them: `1.234,50-` becomes
`-1234.50`, `31.01.2024` becomes `2024-01-31`.

Its name is that of the strict conversion and its format, since journals and the memory of tables hold the name only:

    text_float@decimal=,;thousands=.;minus=trailing
    text_date@format=dd.mm.yyyy;zero=null
    text_naive_us@subsecond=cut
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pushengine.schema.base import Conversion, Evidence, MisfitError, any_of, require_pattern, strings_of
from pushengine.schema.formats import DateFormat, ValueFormats
from pushengine.schema.text.values import FROM_TEXT

Rewrite = Callable[[pa.Array], pa.Array]

_STRICT = {conversion.name: conversion for conversion in FROM_TEXT}
_NUMBER_OPTIONS, _DATE_OPTIONS = {"decimal", "thousands", "minus"}, {"format", "zero", "subsecond"}
_PLAIN = " ,.:/-'_"
"""Characters that a name holds as they are; `;` and `=` separate."""
ZERO_DATES = tuple(
    date + time for date in ("00000000", "00.00.0000", "0000-00-00") for time in ("", " 00:00:00", "T00:00:00")
)
"""Dates of zeros, as SAP and MySQL write them."""
_ZERO = ord("0")
_FIELDS = ("year", "month", "day", "hour", "minute", "second", "fraction")
_FRACTION = r"(\.[0-9]{6})[0-9]{1,3}(Z|[+-].*)?$"


def localized(base: Conversion, formats: ValueFormats, date_format: DateFormat | None = None) -> Conversion:
    """Return a strict conversion for values in other formats.

    Args:
        base: The strict conversion, of a number or a date.
        formats: What is said of the column: numbers use the signs, dates whether zeros are NULL and fractions of a second are cut.
        date_format: The format of the dates; None for ISO 8601.
    """
    options = {}
    if base.type in ("INTEGER", "FLOAT"):
        options = {"decimal": formats.decimal, "thousands": formats.thousands}
        options["minus"] = "trailing" if formats.has_trailing_minus else ""
    elif base.type == "DATETIME":
        options = {"format": "" if date_format is None else date_format.name}
        options["zero"] = "null" if formats.zero_date_null else ""
        options["subsecond"] = "cut" if formats.cuts_subseconds and base.name != "text_date" else ""
    given = ";".join(f"{key}={quote(value, safe=_PLAIN)}" for key, value in options.items() if value)
    return named(f"{base.name}@{given}") or base if given else base


@functools.lru_cache(maxsize=1024)
def named(name: str) -> Conversion | None:
    """Return the conversion with a format of this name; None if there is none."""
    base_name, _, given = name.partition("@")
    base = _STRICT.get(base_name)
    if base is None or not given:
        return None
    options = {key: unquote(value) for key, _, value in (part.partition("=") for part in given.split(";"))}
    if set(options) - (_NUMBER_OPTIONS if base.type in ("INTEGER", "FLOAT") else _DATE_OPTIONS) or not all(
        options.values()
    ):
        return None
    try:
        rewrites, evidence = _dates(options) if base.type == "DATETIME" else _number(options)
    except (ValueError, KeyError):
        return None

    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = strings_of(array)
        for rewrite in rewrites:
            strings = rewrite(strings)
        return base.parse(strings, to)

    return dataclasses.replace(
        base, name=name, parse=parse, evidence=evidence if base.evidence or base.type == "DATETIME" else None
    )


# --- Numbers


def _number(options: dict[str, str]) -> tuple[list[Rewrite], Evidence]:
    decimal, thousands = options["decimal"], options.get("thousands", "")
    rewrites: list[Rewrite] = []
    if options.get("minus"):
        rewrites.append(_with_leading_minus)
    if thousands:
        rewrites.append(_without(thousands, decimal))
    if decimal != ".":
        rewrites.append(_with_point(decimal))

    def find(array: pa.Array) -> frozenset[str]:
        return frozenset(["decimal"] if any_of(pc.match_substring(array, decimal)) else [])

    return rewrites, Evidence(find, "decimal", lambda facts: "decimal" in facts)


def _with_leading_minus(strings: pa.Array) -> pa.Array:
    is_trailing = pc.ends_with(strings, "-")
    if not any_of(is_trailing):
        return strings
    return pc.replace_substring_regex(strings, r"^([^-]+)-$", r"-\1")


def _without(thousands: str, decimal: str) -> Rewrite:
    pattern = rf"^-?[1-9][0-9]{{0,2}}(?:{re.escape(thousands)}[0-9]{{3}})+(?:{re.escape(decimal)}[0-9]+)?$"

    def rewrite(strings: pa.Array) -> pa.Array:
        is_grouped = pc.match_substring(strings, thousands)
        if not any_of(is_grouped):
            return strings
        require_pattern(
            strings.filter(is_grouped), pattern, f"not in groups of three digits separated by {thousands!r}"
        )
        return pc.replace_substring(strings, thousands, "")

    return rewrite


def _with_point(decimal: str) -> Rewrite:
    def rewrite(strings: pa.Array) -> pa.Array:
        if any_of(pc.match_substring(strings, ".")):
            raise MisfitError(f"not a number with {decimal!r} as decimal sign")
        return pc.replace_substring(strings, decimal, ".")

    return rewrite


# --- Dates


def _dates(options: dict[str, str]) -> tuple[list[Rewrite], Evidence | None]:
    date_format = DateFormat.parse(options["format"]) if "format" in options else None
    rewrites: list[Rewrite] = []
    evidence = None
    if "zero" in options:
        zero = _without_zeros(date_format)
        rewrites.append(zero)

        def find(array: pa.Array) -> frozenset[str]:
            return frozenset(["date"] if zero(strings_of(array)).null_count < len(array) else [])

        evidence = Evidence(find, "date", lambda facts: "date" in facts)
    if date_format is not None:
        rewrites.append(functools.partial(_as_iso, date_format))
    if "subsecond" in options:
        rewrites.append(_without_nanos)
    return rewrites, evidence


def _without_zeros(date_format: DateFormat | None) -> Rewrite:
    own = [] if date_format is None else [date_format.zero]
    zeros = pa.array([*own, *ZERO_DATES])

    def rewrite(strings: pa.Array) -> pa.Array:
        is_zero = pc.is_in(strings, zeros)
        return pc.if_else(is_zero, pa.scalar(None, pa.string()), strings) if any_of(is_zero) else strings

    return rewrite


def _without_nanos(strings: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(strings, _FRACTION, r"\1\2")


def _as_iso(date_format: DateFormat, strings: pa.Array) -> pa.Array:
    """Return dates in ISO 8601. Whether there is such a day, the strict conversion checks.

    Raises:
        MisfitError: A value does not have the format.
    """
    if all(part.width or part.text for part in date_format.parts):
        return _rearranged(date_format, strings)
    pattern = "".join(
        f"(?P<{part.field}>{f'[0-9]{{{part.width}}}' if part.width else '[1-9][0-9]?'})"
        if part.field
        else re.escape(part.text)
        for part in date_format.parts
    )
    found = pc.extract_regex(strings, f"^{pattern}$")
    if found.null_count > strings.null_count:
        raise MisfitError(f"not a date like {date_format.text}")

    def digits(field: str) -> pa.Array:
        values = pc.struct_field(found, field)
        return values if field == "fraction" else pc.utf8_lpad(values, 2, "0")

    fields = {part.field for part in date_format.parts}
    iso = pc.binary_join_element_wise(*map(digits, ("year", "month", "day")), "-")
    time = [digits(field) for field in ("hour", "minute", "second") if field in fields]
    if time:
        iso = pc.binary_join_element_wise(iso, pc.binary_join_element_wise(*time, ":"), " ")
    return pc.binary_join_element_wise(iso, digits("fraction"), ".") if "fraction" in fields else iso


def _rearranged(date_format: DateFormat, strings: pa.Array) -> pa.Array:
    """Return dates of a format of fixed width in ISO 8601: the same characters in another order, moved for all values at once."""
    sources, texts, width = _layout(date_format)
    values = strings.drop_null() if strings.null_count else strings
    lengths = pc.min_max(pc.binary_length(values))
    if not len(values):
        return strings
    if lengths["min"].as_py() != width or lengths["max"].as_py() != width:
        raise MisfitError(f"not a date like {date_format.text}")
    start = np.frombuffer(values.buffers()[1], np.int32)[values.offset]
    given = np.frombuffer(values.buffers()[2], np.uint8)[start : start + len(values) * width].reshape(-1, width)
    iso = np.empty((len(values), len(sources)), np.uint8)
    is_digit = sources >= 0
    iso[:, is_digit] = given[:, sources[is_digit]]
    iso[:, ~is_digit] = -sources[~is_digit]
    is_text = texts > 0
    if (iso[:, is_digit] - _ZERO).max() > 9 or (given[:, is_text] != texts[is_text]).any():  # noqa: PLR2004 - digits
        raise MisfitError(f"not a date like {date_format.text}")
    is_valid = strings.is_valid().to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(is_valid) * len(sources)]).astype(np.int32)
    bitmap = pa.py_buffer(np.packbits(is_valid, bitorder="little")) if strings.null_count else None
    return pa.StringArray.from_buffers(len(strings), pa.py_buffer(offsets), pa.py_buffer(iso), bitmap)


@functools.lru_cache(maxsize=64)
def _layout(date_format: DateFormat) -> tuple[Any, Any, int]:
    """Return the layout of a format of fixed width.

    Returns:
        For each character of the ISO text, its position in the value, or if it is a separator its code, negative; for each character of the
        value, its code if it is a separator, otherwise 0; and the width of the value.
    """
    starts: dict[str, tuple[int, int]] = {}
    texts: list[int] = []
    for part in date_format.parts:
        if part.field:
            starts[part.field] = (len(texts), part.width)
        texts += [0] * part.width if part.field else part.text.encode()
    sources: list[int] = []
    for separator, field in zip(("", "-", "-", " ", ":", ":", "."), _FIELDS, strict=True):
        if field in starts:
            start, width = starts[field]
            sources += [*(-code for code in separator.encode()), *range(start, start + width)]
    return np.array(sources), np.array(texts), len(texts)
