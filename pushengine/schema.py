"""Arrow types and texts to column types of the target, with every value checked.

A column is read by one `Reading`: a vectorised function from the source's array to the array that is sent. It raises where a single
value would not survive, so "the type fits" and "each value converts" are the same piece of code, in the sample and in the push.
`SchemaSettler` keeps, per column, the readings that held for everything seen so far and takes the first of them; `conform` applies it.

What text (CSV) may become, in this order; all values of a column must agree, whatever does not stays STRING as it is:

    INTEGER    the canonical text of a 64-bit integer: no leading zero, no plus sign, no "-0"
    FLOAT      a plain decimal number of at most 17 significant digits, whole ones below 2**53; `.5` is one, `5.`, `007.5`, `+1`,
               `nan` and `12E4` (it may be an id; `1.2E4` and `12e+04` are numbers) are not
    BOOLEAN    true/false in one letter case
    DATETIME   all dates (at midnight), all date-times without zone (as they are), or all with zone or offset (as UTC instants)
    STRING     everything else, and columns without any value
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.model import ColumnType, TableColumn
from pushengine.types import SourceBatch

RESERVED_NAMES = ("_celonis_change_date",)
"""The platform adds these itself (case-folded)."""
MIN_LENGTH = 80
MAX_LENGTH = 16_250
"""Characters; times 4 bytes this is the platform's ceiling of 65,000 bytes for a value."""
LENGTH_HEADROOM = 2
MAX_FLOAT_DIGITS = 17
MAX_DECIMAL_DIGITS = 15
"""A decimal number of this many digits comes back unchanged from a double."""
MAX_EXACT_INTEGER = 2**53
_SHOWN_CHARACTERS = 40
_SHOWN_NAMES = 20
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_SECOND = int((dt.datetime(1400, 1, 1, tzinfo=dt.UTC) - _EPOCH).total_seconds())
_END_SECOND = int((dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - _EPOCH).total_seconds()) + 1


class _MisfitError(ValueError):
    """A value that a reading cannot hold; Arrow's own conversion errors are ValueErrors too."""


class _OutOfRangeError(_MisfitError):
    """A value that no column type of the target can hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One way to read a column.

    Attributes:
        name: Its name in a settled `Column`.
        type: The column type that it gives.
        parse: (array, physical type) -> array of that type; raises ValueError if one value does not survive.
        arrow_type: Physical type, or None for "as the source has it" (timestamps keep their unit).
    """

    name: str
    type: ColumnType
    parse: Callable[[pa.Array, pa.DataType], pa.Array]
    arrow_type: pa.DataType | None = None

    def fits(self, array: pa.Array, arrow_type: pa.DataType) -> bool:
        """Whether all values survive."""
        try:
            self.parse(array, arrow_type)
        except _OutOfRangeError:
            raise
        except ValueError:
            return False
        return True


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One settled column.

    Attributes:
        name: As the source and the target call it.
        type: The platform's type.
        arrow_type: Physical type in every chunk.
        length: Declared length in characters, for STRING.
        reading: Name of the reading that values go through; empty for the obvious one.
        is_forced: The user asked for this type.
    """

    name: str
    type: ColumnType
    arrow_type: pa.DataType
    length: int | None = None
    reading: str = ""
    is_forced: bool = False

    def __repr__(self) -> str:
        return f"{self.name} {self.type}" + ("" if self.length is None else f"({self.length})")


@dataclasses.dataclass(frozen=True, slots=True)
class TableSchema:
    """The one schema of a push: every chunk has exactly these columns and physical types.

    Attributes:
        columns: In the order of the source.
        keys: Key columns; no value of theirs may be missing.
    """

    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Physical schema of every chunk."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    def table_columns(self) -> list[TableColumn]:
        """What the platform is told (`tableSchema.columns`)."""
        return [TableColumn(column.name, column.type, column.length) for column in self.columns]

    def __repr__(self) -> str:
        return f"TableSchema({', '.join(map(repr, self.columns))})"


# --- Readings ---------------------------------------------------------------------------------------------------------------------


def _largest(values: pa.Array) -> int:
    return pc.max(values).as_py() or 0


def _any(mask: pa.Array) -> bool:
    return pc.any(mask).as_py() is True


def _cast(array: pa.Array, to: pa.DataType) -> pa.Array:
    return array.cast(to)


def _strings(array: pa.Array) -> pa.Array:
    return array if array.type == pa.string() else array.cast(pa.string())


def _strange_bytes(strings: pa.Array, usual: bytes) -> bytes:
    """The bytes of all values that are not `usual` ones: one pass, far cheaper than a regular expression."""
    if not len(strings) or strings.buffers()[2] is None:
        return b""
    offsets = memoryview(strings.buffers()[1]).cast("B").cast("i")
    start, end = offsets[strings.offset], offsets[strings.offset + len(strings)]
    values: bytes = strings.buffers()[2].slice(start, end - start).to_pybytes()
    return values.translate(None, usual)


def _require_pattern(strings: pa.Array, pattern: str, reason: str) -> None:
    if pc.all(pc.match_substring_regex(strings, pattern)).as_py() is False:
        raise _MisfitError(reason)


def _has_leading_zero(strings: pa.Array) -> bool:
    return _any(pc.starts_with(strings, "0")) or _any(pc.starts_with(strings, "-0"))


def _canonical_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)  # takes "007", "-0" and "0x1F" as well
    if _has_leading_zero(strings) or _strange_bytes(strings, b"0123456789-"):
        _require_pattern(strings, "^(?:0|-?[1-9][0-9]*)$", "not the plain text of an integer")
    return values


def _forced_integer(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    _require_pattern(strings, "^-?[0-9]+$", "not an integer")
    return strings.cast(to)


_NUMBER = r"^(?:0|-?[1-9][0-9]*|-?(?:0|[1-9][0-9]*)?\.[0-9]+)$"
_SCIENTIFIC = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+(?:[eE][+-]?[0-9]{1,3})?|[eE][+-][0-9]{1,3})$"


def _plain_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)  # takes "nan", "+1", "007.5" and "5." as well
    strange = _strange_bytes(strings, b"0123456789.-")
    if strange:
        _require_pattern(strings, f"{_NUMBER}|{_SCIENTIFIC}", "not a plain number")
    elif _has_leading_zero(strings) or _any(pc.ends_with(strings, ".")):
        _require_pattern(strings, _NUMBER, "not a plain number")
    _require_precision(strings, values, has_exponents=bool(strange))
    return values


def _forced_float(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    values = strings.cast(to)
    _require_precision(strings, values, has_exponents=True)
    return values


def _require_precision(strings: pa.Array, values: pa.Array, *, has_exponents: bool) -> None:
    """No overflow, no underflow, at most 17 digits, and whole numbers only where every one of them has a double of its own."""
    if pc.all(pc.is_finite(values)).as_py() is False:
        raise _MisfitError("not a finite number")
    lengths = pc.binary_length(strings)
    has_long = _largest(lengths) > MAX_FLOAT_DIGITS + 1
    if has_long:
        long = strings.filter(pc.greater(lengths, MAX_FLOAT_DIGITS + 1))
        mantissas = pc.replace_substring_regex(long, r"[eE].*|[-+.]", "")
        if _largest(pc.binary_length(pc.ascii_ltrim(mantissas, "0"))) > MAX_FLOAT_DIGITS:
            raise _MisfitError(f"more than {MAX_FLOAT_DIGITS} significant digits")
    if (has_long or has_exponents) and _any(
        pc.match_substring_regex(strings.filter(pc.equal(values, 0.0)), r"^[-+]?[0.]*[1-9]")
    ):
        raise _MisfitError("too small for a double")
    large = pc.greater_equal(pc.abs(values), float(MAX_EXACT_INTEGER))
    if _any(large) and _any(pc.invert(pc.match_substring_regex(strings.filter(large), "[.eE]"))):
        raise _MisfitError("an integer that a double does not hold")


def _words(true: str, false: str) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, _to: pa.DataType) -> pa.Array:
        strings = _strings(array)
        is_true = pc.equal(strings, true)
        if pc.all(pc.or_(is_true, pc.equal(strings, false))).as_py() is False:
            raise _MisfitError(f"neither {true} nor {false}")
        return is_true

    return parse


def _forced_words(array: pa.Array, to: pa.DataType) -> pa.Array:
    return _words("true", "false")(pc.ascii_lower(_strings(array)), to)


def _require_years(stamps: pa.Array, error: type[_MisfitError]) -> pa.Array:
    factor = _PER_SECOND[stamps.type.unit]
    bounds = pc.min_max(stamps.view(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    if first is not None and (first < _FIRST_SECOND * factor or last >= _END_SECOND * factor):
        raise error("the platform holds the years 1400 to 9999 only")
    return stamps


def _text_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    strings = _strings(array)
    lengths = pc.min_max(pc.binary_length(strings))
    if (lengths["min"].as_py() or 10) != 10 or (lengths["max"].as_py() or 10) != 10:  # noqa: PLR2004 - YYYY-MM-DD
        raise _MisfitError("not a date")
    return _require_years(strings.cast(to), _MisfitError)


_MIN_STAMP_LENGTH = len("2024-01-01T00:00")
_MICROS_LENGTH = len("2024-01-01T00:00:00.000000")


def _text_stamp(*, zoned: bool, dates: bool = False) -> Callable[[pa.Array, pa.DataType], pa.Array]:
    def parse(array: pa.Array, to: pa.DataType) -> pa.Array:
        strings = _strings(array)
        lengths = pc.binary_length(strings)
        shortest = pc.min(lengths).as_py()
        if shortest is not None and shortest < _MIN_STAMP_LENGTH:
            is_short = pc.less(lengths, _MIN_STAMP_LENGTH)
            if not dates or _any(pc.not_equal(lengths.filter(is_short), 10)):
                raise _MisfitError("not a date and time")
        zoned_type = pa.timestamp(to.unit, "UTC" if zoned else None)
        try:
            stamps = strings.cast(zoned_type)
        except ValueError:
            if to.unit != "us" or _largest(lengths) <= _MICROS_LENGTH:
                raise
            # 7 to 9 digits of a second, as .NET and SQL Server write them: fine where all beyond the sixth are zero
            stamps = pc.replace_substring_regex(strings, r"(\.[0-9]{6})0{1,3}(Z|[+-].*)?$", r"\1\2").cast(zoned_type)
        return _require_years(stamps.view(to), _MisfitError)

    return parse


def _arrow_stamp(array: pa.Array, to: pa.DataType) -> pa.Array:
    stamps = array.view(pa.timestamp(array.type.unit))  # with a zone, Arrow holds the instant in UTC
    return _require_years(stamps if stamps.type == to else stamps.cast(to), _OutOfRangeError)


def _arrow_date(array: pa.Array, to: pa.DataType) -> pa.Array:
    return _require_years(array.cast(to), _OutOfRangeError)


def _plain_decimals(array: pa.Array) -> pa.Array:
    """Exact text, never in scientific notation (Arrow writes 0.0000000001 as 1.00E-10)."""
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
        if _largest(pc.binary_length(digits)) > MAX_DECIMAL_DIGITS:
            raise _MisfitError(f"more than {MAX_DECIMAL_DIGITS} significant digits")
    return texts.cast(
        to
    )  # by way of the text: Arrow's own conversion is off by one unit in the last place for many values


def _uuid_text(array: pa.Array) -> pa.Array:
    storage = array.storage
    start = storage.offset * 16
    data = storage.buffers()[1].slice(start, len(storage) * 16).to_pybytes() if len(storage) else b""
    flat = pa.Array.from_buffers(pa.binary(32), len(storage), [None, pa.py_buffer(data.hex().encode())])
    text = flat.cast(pa.binary()).cast(pa.string())
    parts = [pc.utf8_slice_codeunits(text, *part) for part in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))]
    return pc.if_else(storage.is_valid(), pc.binary_join_element_wise(*parts, "-"), pa.scalar(None, pa.string()))


def _text(array: pa.Array, to: pa.DataType) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        return _uuid_text(array) if _is_uuid(array.type) else _text(array.storage, to)
    if _is_string(array.type):
        array.validate(full=True)  # strings of Parquet files and foreign memory may be no UTF-8
        return _strings(array)
    if pa.types.is_decimal(array.type):
        return _plain_decimals(array)
    return array.cast(to)


def _bool8(array: pa.Array, _to: pa.DataType) -> pa.Array:
    return pc.not_equal(array.storage, pa.scalar(0, pa.int8()))


_MIDNIGHT = pa.timestamp("ms")
_MICROS = pa.timestamp("us")
_NANOS = pa.timestamp("ns")
TEXT = Reading("text", "STRING", _text, pa.string())
_INTEGER = Reading("integer", "INTEGER", _cast, pa.int64())
_FLOAT = Reading("float", "FLOAT", _cast, pa.float64())
_BOOLEAN = Reading("boolean", "BOOLEAN", _cast, pa.bool_())
_DECIMAL_FLOAT = Reading("decimal_float", "FLOAT", _decimal_float, pa.float64())
_STAMP = Reading("timestamp", "DATETIME", _arrow_stamp)
_DATE = Reading("date", "DATETIME", _arrow_date, _MIDNIGHT)
_BOOL8 = Reading("bool8", "BOOLEAN", _bool8, pa.bool_())
_TEXT_INTEGER = Reading("text_integer", "INTEGER", _canonical_integer, pa.int64())
_TEXT_FLOAT = Reading("text_float", "FLOAT", _plain_float, pa.float64())
_TEXT_BOOLEANS = tuple(
    Reading(f"text_{true}", "BOOLEAN", _words(true, false), pa.bool_())
    for true, false in (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
)
_TEXT_DATE = Reading("text_date", "DATETIME", _text_date, _MIDNIGHT)
_TEXT_STAMPS = (
    _TEXT_DATE,
    Reading("text_naive_us", "DATETIME", _text_stamp(zoned=False), _MICROS),
    Reading("text_utc_us", "DATETIME", _text_stamp(zoned=True), _MICROS),
    Reading("text_naive_ns", "DATETIME", _text_stamp(zoned=False), _NANOS),
    Reading("text_utc_ns", "DATETIME", _text_stamp(zoned=True), _NANOS),
)
_FORCED_FROM_TEXT: dict[ColumnType, tuple[Reading, ...]] = {
    "INTEGER": (Reading("forced_integer", "INTEGER", _forced_integer, pa.int64()),),
    "FLOAT": (Reading("forced_float", "FLOAT", _forced_float, pa.float64()),),
    "BOOLEAN": (Reading("forced_boolean", "BOOLEAN", _forced_words, pa.bool_()),),
    "DATETIME": (
        *_TEXT_STAMPS,
        Reading("forced_naive_us", "DATETIME", _text_stamp(zoned=False, dates=True), _MICROS),
        Reading("forced_naive_ns", "DATETIME", _text_stamp(zoned=False, dates=True), _NANOS),
    ),
    "DATE": (_TEXT_DATE,),
    "STRING": (TEXT,),
}
_FROM_TEXT = (_TEXT_INTEGER, _TEXT_FLOAT, *_TEXT_BOOLEANS, *_TEXT_STAMPS, TEXT)
_READINGS: dict[str, Reading] = {
    reading.name: reading
    for reading in (
        *(_INTEGER, _FLOAT, _BOOLEAN, _DECIMAL_FLOAT, _STAMP, _DATE, _BOOL8, *_FROM_TEXT),
        *(reading for readings in _FORCED_FROM_TEXT.values() for reading in readings),
    )
}


def _is_string(arrow_type: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def _is_uuid(arrow_type: pa.DataType) -> bool:
    return getattr(arrow_type, "extension_name", "") == "arrow.uuid"


def decoded_type(arrow_type: pa.DataType) -> pa.DataType:
    """The type without dictionary, run-end or view encoding (whose slices do not tell their size) and narrow decimals."""
    while pa.types.is_dictionary(arrow_type) or pa.types.is_run_end_encoded(arrow_type):
        arrow_type = arrow_type.value_type
    if pa.types.is_string_view(arrow_type):
        return pa.string()
    if pa.types.is_decimal(arrow_type) and arrow_type.bit_width < 128:  # noqa: PLR2004 - Arrow hardly computes with those
        return pa.decimal128(arrow_type.precision, arrow_type.scale)
    return arrow_type


def decoded(array: pa.Array) -> pa.Array:
    """The same values in the `decoded_type`."""
    if pa.types.is_dictionary(array.type):
        return decoded(array.dictionary).take(array.indices)
    if pa.types.is_run_end_encoded(array.type):
        return decoded(pc.run_end_decode(array))
    plain = decoded_type(array.type)
    return array if array.type == plain else array.cast(plain)


def _forced_readings(arrow_type: pa.DataType, wanted: ColumnType) -> tuple[Reading, ...]:
    """How a source type can become the type that the user asks for; empty if it cannot."""
    t = pa.types
    if _is_string(arrow_type):
        return _FORCED_FROM_TEXT.get(wanted, ())
    if t.is_null(arrow_type):
        return {"DATETIME": (_DATE,), "DATE": (_DATE,)}.get(
            wanted, tuple(reading for reading in (_INTEGER, _FLOAT, _BOOLEAN, TEXT) if reading.type == wanted)
        )
    options: list[Reading] = list(_readings(arrow_type, is_text=False))
    if t.is_integer(arrow_type) or t.is_floating(arrow_type) or t.is_decimal(arrow_type):
        options += [_INTEGER, _DECIMAL_FLOAT if t.is_decimal(arrow_type) else _FLOAT]
    elif t.is_boolean(arrow_type):
        options += [_INTEGER]
    elif t.is_date(arrow_type) and wanted == "DATE":
        return (_DATE,)
    options += [TEXT]
    return tuple(dict.fromkeys(reading for reading in options if reading.type == wanted))


def _readings(arrow_type: pa.DataType, *, is_text: bool) -> tuple[Reading, ...]:  # noqa: PLR0911 - one line per family of types
    """The ways to read a source type, the best first; empty if the target cannot hold it."""
    t = pa.types
    if isinstance(arrow_type, pa.BaseExtensionType):
        if getattr(arrow_type, "extension_name", "") == "arrow.bool8":
            return (_BOOL8,)
        return (TEXT,) if _is_uuid(arrow_type) or _is_string(arrow_type.storage_type) else ()
    if _is_string(arrow_type):
        return _FROM_TEXT if is_text else (TEXT,)
    if t.is_integer(arrow_type):
        return (_INTEGER, TEXT) if t.is_uint64(arrow_type) else (_INTEGER,)
    if t.is_floating(arrow_type):
        return (_FLOAT,)
    if t.is_decimal(arrow_type):
        return (_INTEGER if arrow_type.scale <= 0 else _DECIMAL_FLOAT, TEXT)
    if t.is_boolean(arrow_type):
        return (_BOOLEAN,)
    if t.is_timestamp(arrow_type):
        return (_STAMP,)
    if t.is_date(arrow_type):
        return (_DATE,)
    return (TEXT,) if t.is_time(arrow_type) or t.is_null(arrow_type) else ()


def _read(array: pa.Array, reading: Reading, to: pa.DataType) -> pa.Array:
    return pa.nulls(len(array), to) if pa.types.is_null(array.type) else reading.parse(array, to)


def _first_misfit(array: pa.Array, reading: Reading, to: pa.DataType) -> int:
    """Index of the first value that does not fit, by bisection: only the failing batch pays for it."""
    good, bad = 0, len(array)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            _read(array.slice(good, middle - good), reading, to)
        except ValueError:
            bad = middle
        else:
            good = middle
    return good


# --- Errors -----------------------------------------------------------------------------------------------------------------------


def _position(source: SourceBatch, index: int, name: str) -> str:
    line = "" if source.first_line is None else f" (line {source.first_line + index})"
    return f"row {source.first_row + index + 1}{line}, column {name}"


def _shown(value: Any) -> str:
    try:
        text = str(value.as_py())
    except (ValueError, OverflowError):  # not UTF-8, or nanoseconds that datetime does not hold
        text = "?"
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def _error_class(value: pa.Array, column: Column) -> type[SchemaError]:
    """Whether a schema settled from all values would hold this one."""
    try:
        if column.is_forced:
            readings = _forced_readings(value.type, column.type)
            fits = any(reading.fits(value, reading.arrow_type or column.arrow_type) for reading in readings)
        else:
            fits = TEXT in _readings(value.type, is_text=True) and TEXT.fits(value, pa.string())
        if fits and column.arrow_type == pa.string():
            fits = _largest(pc.utf8_length(TEXT.parse(value, pa.string()))) <= MAX_LENGTH
    except ValueError:
        return SchemaError
    return ValueMisfitError if fits else SchemaError


def _misfit(source: SourceBatch, array: pa.Array, index: int, column: Column, reason: str) -> SchemaError:
    value = array.slice(index, 1)
    return _error_class(value, column)(
        f"{_shown(value[0])} does not fit {column!r}: {reason}",
        source=source.source,
        position=_position(source, index, column.name),
        hint="declare the column STRING" if column.is_forced and column.type != "STRING" else "",
    )


def _reason(exc: ValueError) -> str:
    return str(exc) if isinstance(exc, _MisfitError) else "it would not survive"


def _too_long(source: SourceBatch, strings: pa.Array, name: str, limit: int) -> SchemaError | None:
    """The first value of more than `limit` characters."""
    if _largest(pc.binary_length(strings)) <= limit:
        return None
    lengths = pc.utf8_length(strings)
    if _largest(lengths) <= limit:
        return None
    index = pc.index(pc.greater(lengths, limit), value=True).as_py()
    characters = lengths[index].as_py()
    if characters <= MAX_LENGTH:
        error: type[SchemaError] = ValueMisfitError
        reason = f"declared with {limit}"
    else:
        error, reason = SchemaError, f"the platform cuts at {MAX_LENGTH}"
    return error(
        f"{_shown(strings[index])} has {characters} characters, {reason}",
        source=source.source,
        position=_position(source, index, name),
        hint="shorten the value or leave the column out" if error is SchemaError else "",
    )


def _require_key(source: SourceBatch, array: pa.Array, name: str) -> None:
    if array.null_count or pa.types.is_null(array.type):
        index = pc.index(array.is_null(), value=True).as_py()
        raise SchemaError(
            "no value in a key column",
            source=source.source,
            position=_position(source, max(index, 0), name),
            hint="rows without a key cannot be matched in the table",
        )


# --- Settling ---------------------------------------------------------------------------------------------------------------------


class _Candidates:
    """What one column may still become."""

    def __init__(self, field: pa.Field, readings: Sequence[Reading], forced: ColumnType | None) -> None:
        self.name: str = field.name
        self.source_type = field.type
        self.readings = list(readings)
        self.forced = forced
        self.has_values = False
        self.longest = 0
        self.too_long: SchemaError | None = None

    def physical(self, reading: Reading) -> pa.DataType:
        return reading.arrow_type or pa.timestamp(self.source_type.unit)

    def column(self) -> Column:
        reading = self.readings[0] if self.has_values or self.forced or not _is_string(self.source_type) else TEXT
        kind = self.forced or reading.type
        if kind != "STRING":
            return Column(self.name, kind, self.physical(reading), None, reading.name, self.forced is not None)
        if self.too_long is not None:
            raise self.too_long
        length = min(max(self.longest * LENGTH_HEADROOM, MIN_LENGTH), MAX_LENGTH)
        return Column(self.name, kind, pa.string(), length, reading.name, self.forced is not None)

    def observe(self, source: SourceBatch, array: pa.Array) -> None:
        if array.null_count == len(array) or pa.types.is_null(array.type):
            return
        self.has_values = True
        before = self.readings
        try:
            self.readings = [reading for reading in before if reading.fits(array, self.physical(reading))]
        except _OutOfRangeError as exc:
            raise self._refusal(source, array, before) from exc
        if not self.readings:
            raise self._refusal(source, array, before)
        if TEXT in self.readings:
            self._measure(source, TEXT.parse(array, pa.string()))

    def _measure(self, source: SourceBatch, strings: pa.Array) -> None:
        if _largest(pc.binary_length(strings)) > self.longest:
            self.longest = max(self.longest, _largest(pc.utf8_length(strings)))
            self.too_long = self.too_long or _too_long(source, strings, self.name, MAX_LENGTH)

    def _refusal(self, source: SourceBatch, array: pa.Array, readings: Sequence[Reading]) -> SchemaError:
        """The value at which the last of the readings failed."""
        index, reading = -1, readings[0]
        for candidate in readings:
            failed_at = _first_misfit(array, candidate, self.physical(candidate))
            if failed_at > index:
                index, reading = failed_at, candidate
        reason = "unlike the values before it"
        try:
            reading.parse(array.slice(index, 1), self.physical(reading))
        except ValueError as exc:
            reason = _reason(exc)
        kind = self.forced or reading.type
        return SchemaError(
            f"{_shown(array[index])} does not fit {self.name} {kind}: {reason}",
            source=source.source,
            position=_position(source, index, self.name),
            hint="declare the column STRING" if self.forced else "",
        )


class SchemaSettler:
    """Finds the schema of a push from a sample of its rows, or from all of them.

    A schema settled from all batches holds for all of them: `conform` then raises no `ValueMisfitError`. Not thread-safe.
    """

    def __init__(
        self,
        source_schema: pa.Schema,
        *,
        is_text: bool,
        overrides: Mapping[str, ColumnType] | None = None,
        keys: Iterable[str] = (),
        source: str = "",
    ) -> None:
        """Check names and types.

        Raises:
            SchemaError: A name is empty, reserved or there twice, a type cannot be held, a key or override names no column.
        """
        self._source = source
        self._keys = tuple(keys)
        self._check_names(source_schema.names)
        wanted = dict(overrides or {})
        for role, names in (("key", self._keys), ("type override", wanted)):
            self._check_known(source_schema.names, role, names)
        self._columns = [self._candidates(field, wanted.get(field.name), is_text=is_text) for field in source_schema]

    def _fail(self, message: str, hint: str = "") -> SchemaError:
        return SchemaError(message, source=self._source, hint=hint)

    def _check_names(self, names: Sequence[str]) -> None:
        if not names:
            raise self._fail("there are no columns")
        seen: dict[str, str] = {}
        for number, name in enumerate(names, 1):
            folded = name.casefold()
            if not name.strip():
                raise self._fail(f"column {number} has no name")
            if folded in RESERVED_NAMES:
                raise self._fail(
                    f"column {name}: the platform adds a column of this name itself", "rename or leave it out"
                )
            if folded in seen:
                other = seen[folded]
                message = (
                    f"column {name} is there twice"
                    if other == name
                    else f"columns {other} and {name} differ by letter case only"
                )
                raise self._fail(message, "column names of the platform are case-insensitive")
            seen[folded] = name

    def _check_known(self, names: Sequence[str], role: str, wanted: Iterable[str]) -> None:
        for name in wanted:
            if name not in names:
                alike = [known for known in names if known.casefold() == name.casefold()]
                shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
                hint = f"is it {alike[0]}?" if alike else f"columns: {shown}"
                raise self._fail(f"{role} {name} is no column of the source", hint)

    def _candidates(self, field: pa.Field, forced: ColumnType | None, *, is_text: bool) -> _Candidates:
        arrow_type = decoded_type(field.type)
        readings = _readings(arrow_type, is_text=is_text)
        if not readings:
            raise self._fail(
                f"column {field.name}: type {field.type} cannot be held by the target",
                "flatten, convert or leave it out"
                if pa.types.is_nested(arrow_type)
                else "convert it to text or a number",
            )
        if forced is not None:
            readings = _forced_readings(arrow_type, forced)
            if not readings:
                raise self._fail(
                    f"column {field.name}: {field.type} cannot become {forced}", "declare the column STRING"
                )
        return _Candidates(pa.field(field.name, arrow_type), readings, forced)

    def observe(self, source: SourceBatch) -> None:
        """Learn from a batch.

        Raises:
            SchemaError: A value that no schema under these overrides can hold.
        """
        for candidates in self._columns:
            array = decoded(_column_named(source, candidates.name))
            if candidates.name in self._keys and len(array):
                _require_key(source, array, candidates.name)
            candidates.observe(source, array)

    def settle(self) -> TableSchema:
        """The schema that holds for all that was observed.

        Raises:
            SchemaError: A string is longer than the platform holds.
        """
        return TableSchema(tuple(candidates.column() for candidates in self._columns), self._keys)


# --- Conforming -------------------------------------------------------------------------------------------------------------------


def _column_named(source: SourceBatch, name: str) -> pa.Array:
    batch = source.batch
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise SchemaError(f"column {name} is missing", source=source.source, position=f"row {source.first_row + 1}")
    return batch.column(index)


def conform(schema: TableSchema, source: SourceBatch) -> pa.RecordBatch:
    """Bring a batch to the settled schema, checking every value. Thread-safe; Arrow works without the interpreter lock.

    Raises:
        ValueMisfitError: A value outside this schema, which a schema settled from the whole source would hold.
        SchemaError: Other columns, a key without value, or a value that the target cannot hold.
    """
    batch = source.batch
    if batch.num_columns > len(schema.columns):
        extra = set(batch.schema.names) - {column.name for column in schema.columns}
        raise SchemaError(
            f"unexpected column {', '.join(sorted(extra)) or 'twice'}",
            source=source.source,
            position=f"row {source.first_row + 1}",
        )
    arrays = [_conform_column(source, column, is_key=column.name in schema.keys) for column in schema.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow_schema)


def _conform_column(source: SourceBatch, column: Column, *, is_key: bool) -> pa.Array:
    array = decoded(_column_named(source, column.name))
    if is_key and len(array):
        _require_key(source, array, column.name)
    reading = _READINGS.get(column.reading) or _obvious_reading(source, array, column)
    try:
        values = _read(array, reading, column.arrow_type)
    except ValueError as exc:
        index = _first_misfit(array, reading, column.arrow_type)
        raise _misfit(source, array, index, column, _reason(exc)) from exc
    except (
        NotImplementedError,
        AttributeError,
        TypeError,
    ) as exc:  # the column has another type than in the batches before
        raise _type_changed(source, array, column) from exc
    if column.length is not None:
        error = _too_long(source, values, column.name, column.length)
        if error is not None:
            raise error
    return values


def _obvious_reading(source: SourceBatch, array: pa.Array, column: Column) -> Reading:
    readings = _forced_readings(array.type, column.type)
    fitting = [reading for reading in readings if reading.arrow_type in (None, column.arrow_type)]
    if not fitting:
        raise _type_changed(source, array, column)
    return fitting[0]


def _type_changed(source: SourceBatch, array: pa.Array, column: Column) -> SchemaError:
    return SchemaError(
        f"type {array.type} does not match {column!r}",
        source=source.source,
        position=f"row {source.first_row + 1}, column {column.name}",
    )
