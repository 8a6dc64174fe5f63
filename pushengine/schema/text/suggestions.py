"""Settings under which a text column would be numbers or dates. They are named in notes and hints, and never applied unasked."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.model import ColumnType
from pushengine.schema.base import MICROS, Conversion, any_of, is_string, strings_of
from pushengine.schema.formats import DateFormat, ValueFormats
from pushengine.schema.text import values as text
from pushengine.schema.text.localized import ZERO_DATES, localized
from pushengine.text import flag

_PREFIX_VALUES = 32
_SHAPED_VALUES = 4
_NULL_WORDS = pa.array(
    [
        "NULL",
        "null",
        "Null",
        "\\N",
        "N/A",
        "n/a",
        "NA",
        "#N/A",
        "#NV",
        "NaN",
        "nan",
        "None",
        "none",
        "nil",
        "(null)",
        "-",
        "?",
    ]
)
_MAX_WORDS = 5
_FINE = "times finer than a microsecond"
_ZERO_DATES = pa.array(ZERO_DATES)
_DAY_FIRST = ("dd.mm.yyyy", "dd/mm/yyyy", "dd-mm-yyyy", "d.m.yyyy", "d/m/yyyy", "d-m-yyyy")
_MONTH_FIRST = ("mm/dd/yyyy", "mm-dd-yyyy", "m/d/yyyy", "m-d-yyyy")
_YEAR_FIRST = ("yyyymmdd", "yyyy/mm/dd", "yyyy.mm.dd")
_NUMBER = re.compile(r"-?(?:0(?![0-9])|[1-9.,])[0-9.,]*(?:[eE][+-]?[0-9]+)?-?")
_BOOLEAN = re.compile("true|false", re.IGNORECASE)
_ISO = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}.*")
_TIMES = ("", " HH:MM:SS", " HH:MM")


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """A way to read text columns under a setting.

    Attributes:
        conversion: How values are read.
        looks: What the values then are; empty if the conversion needs no setting, but for words and dates that are NULL.
        flags: The setting, as flags of the command.
        sense: What tells this reading from others of the same values, such as whether day or month come first; empty if they mean the same.
        after: Names of strict conversions: values that fit one of them fit this reading, too.
        shape: What every value matches; None if that is not known. Most text is ruled out by it, much faster than by the conversion.
    """

    conversion: Conversion
    looks: str = ""
    flags: str = ""
    sense: str = ""
    after: frozenset[str] = frozenset()
    shape: re.Pattern[str] | None = None

    @property
    def physical(self) -> pa.DataType:
        """Physical type of the values."""
        return self.conversion.arrow_type or MICROS


def _numbers(looks: str, flags: str, after: Collection[str], sense: str = "", **formats: str) -> list[Reading]:
    given = ValueFormats(**formats, has_trailing_minus=True)  # type: ignore[arg-type] # the signs only
    return [
        Reading(localized(one, given), looks, flags, sense, frozenset(after), _NUMBER)
        for one in (text.TEXT_INTEGER, text.TEXT_FLOAT)
    ]


@functools.cache
def _usual_readings() -> tuple[Reading, ...]:
    """Return the readings, those with the fewest settings first."""
    whole, decimal = ("text_integer",), ("text_integer", "text_float")
    strict = [
        Reading(text.TEXT_INTEGER, after=frozenset(whole), shape=_NUMBER),
        Reading(text.TEXT_FLOAT, after=frozenset(decimal), shape=_NUMBER),
        *(Reading(one, after=frozenset([one.name]), shape=_BOOLEAN) for one in text.TEXT_BOOLEANS),
        *(
            Reading(one, after=frozenset([one.name]), shape=_ISO)
            for one in (text.TEXT_DATE, text.TEXT_NAIVE, text.TEXT_UTC)
        ),
    ]
    numbers = [
        *_numbers("numbers with a minus after them", flag("decimal", "."), decimal),
        *_numbers("numbers with a decimal comma", flag("decimal", ","), whole, "decimal", decimal=","),
        *_numbers("numbers with commas between thousands", flag("thousands", ","), decimal, "thousands", thousands=","),
        *_numbers(
            "numbers with a decimal comma and points between thousands",
            f"{flag('decimal', ',')} {flag('thousands', '.')}",
            whole,
            decimal=",",
            thousands=".",
        ),
    ]
    cut = ValueFormats(cuts_subseconds=True)
    fine = [
        Reading(localized(one, cut), _FINE, flag("subsecond", "cut"), after=frozenset([one.name]), shape=_ISO)
        for one in (text.TEXT_NAIVE, text.TEXT_UTC)
    ]
    return (*strict, *numbers, *_dates(), *fine)


def _dates() -> list[Reading]:
    found = []
    for time in _TIMES:
        base = text.TEXT_NAIVE if time else text.TEXT_DATE
        for sense, formats in (("day", _DAY_FIRST), ("month", _MONTH_FIRST), ("", _YEAR_FIRST)):
            for written in formats:
                date_format = DateFormat.parse(written + time)
                conversion = localized(base, ValueFormats(), date_format)
                shape = re.compile(
                    "".join(
                        re.escape(part.text) if part.text else f"[0-9]{{{part.width or '1,2'}}}"
                        for part in date_format.parts
                    )
                )
                flags = flag("date-format", date_format.text)
                found.append(Reading(conversion, date_format.text, flags, sense, shape=shape))
    return found


def readings_kept_out(conversions: Iterable[Conversion], name: str, kind: ColumnType) -> list[Reading]:
    """Return the readings of formats that are given but not used, because the table keeps the type of the column.

    Args:
        conversions: The conversions of the formats.
        name: Name of the column.
        kind: Type of the column in the table.
    """
    return [
        Reading(one, f"{one.type}, but stays {kind} as in the table", flag("column", f"{name}={one.type}"))
        for one in conversions
    ]


class Suggestions:
    """Finds the settings under which one text column, which is otherwise text, would have another type.

    Args:
        readings: The ways to read the column; None for those that are usual.
        is_key: Whether it is a key column, in which no two texts may become one value.
        has_words: Whether words may be NULL.
    """

    def __init__(
        self, readings: Sequence[Reading] | None = None, *, is_key: bool = False, has_words: bool = True
    ) -> None:
        self._readings = _usual_readings() if readings is None else readings
        self._is_key = is_key
        self._has_words = has_words
        self._left: list[Reading] | None = None
        self._facts: dict[str, frozenset[str]] = {}
        self._words: dict[str, None] = {}
        self._has_zeros = False
        self._has_values = False

    def observe(self, array: pa.Array, before: Mapping[str, frozenset[str]], *, is_first: bool) -> None:
        """Narrow the readings down.

        Args:
            array: Values of the column.
            before: Names of the conversions that fit all values before these -> what is found of their evidence.
            is_first: Whether there were none.
        """
        if self._left is None:
            self._facts, self._has_values = dict(before), not is_first
            self._left = [one for one in self._readings if is_first or one.after & before.keys()]
            if self._is_key:
                self._left = [one for one in self._left if one.conversion.type == "DATETIME" and one.looks != _FINE]
        if not self._left:
            return
        strings = strings_of(array)
        prefix = self._without_nulls(strings.drop_null().slice(0, _PREFIX_VALUES))
        shown = prefix.drop_null().slice(0, _SHAPED_VALUES).to_pylist()
        self._left = [
            one
            for one in self._left
            if (one.shape is None or all(map(one.shape.fullmatch, shown))) and one.conversion.fits(prefix, one.physical)
        ]
        if not self._left:
            return
        values = self._without_nulls(strings)
        self._has_values = self._has_values or values.null_count < len(values)
        self._left = [one for one in self._left if one.conversion.fits(values, one.physical)]
        for one in self._left:
            if one.conversion.evidence is not None:
                name = one.conversion.name
                self._facts[name] = one.conversion.evidence.added(self._facts.get(name, frozenset()), values)

    def _without_nulls(self, strings: pa.Array) -> pa.Array:
        """Return the values with those words and dates that may mean NULL as NULL. A key always has a value."""
        if self._is_key:
            return strings
        is_word = pc.is_in(strings, _NULL_WORDS)
        if self._has_words and any_of(is_word):
            self._words |= dict.fromkeys(pc.unique(strings.filter(is_word)).to_pylist())
        is_zero = pc.is_in(strings, _ZERO_DATES)
        self._has_zeros = self._has_zeros or any_of(is_zero)
        is_null = pc.or_(is_word, is_zero) if self._has_words else is_zero
        return pc.if_else(is_null, pa.scalar(None, pa.string()), strings)

    def _found(self) -> list[Reading]:
        if not self._has_values or len(self._words) > _MAX_WORDS:
            return []
        return [
            one
            for one in self._left or []
            if (one.conversion.evidence is None or one.conversion.evidence.suffices(self._facts[one.conversion.name]))
            and (one.conversion.type == "DATETIME" or not self._has_zeros)
        ]

    def note(self, name: str) -> str:
        """Return what the column looks like and the flags that say so; empty if it looks like text."""
        found = self._found()
        if not found or self._is_strict(found):
            return ""
        first = found[0]
        # 01/02/2024 may be in January or February, 1,000 may be one or thousand.
        other = next((one for one in found if first.sense and one.sense not in ("", first.sense)), None)
        looks = f"looks like {first.looks}" if first.looks else f"is {first.conversion.type}"
        looks += f" or {other.looks}" if other is not None else ""
        but = [*map(repr, self._words), *(["dates of zeros"] if self._has_zeros else [])]
        looks += f" but for {', '.join(but)}" if but else ""
        return f"{name} {looks}: {' or '.join(' '.join(self._flags(one)) for one in (first, other) if one is not None)}"

    def flags(self, kind: ColumnType) -> str:
        """Return the flags under which the column fits this type; empty if there are none."""
        types = {"FLOAT": ("FLOAT", "INTEGER"), "DATE": ("DATETIME",)}.get(kind, (kind,))
        found = [one for one in self._found() if one.conversion.type in types]
        return "" if not found or self._is_strict(found) else " ".join(self._flags(found[0]))

    def _is_strict(self, found: Iterable[Reading]) -> bool:
        """Return whether no setting is missing: the values fit a reading that needs none."""
        return not self._words and not self._has_zeros and any(not one.looks for one in found)

    def _flags(self, reading: Reading) -> list[str]:
        words = [flag("null", ",".join(self._words))] if self._words else []
        zeros = ["--zero-date-null"] if self._has_zeros else []
        return [*([reading.flags] if reading.flags else []), *words, *zeros]


def flags_for(array: pa.Array, kind: ColumnType, *, is_key: bool = False, has_words: bool = True) -> str:
    """Return the flags under which text fits a column of this type; empty if there are none, or if it is no text."""
    if not is_string(array.type):
        return ""
    suggestions = Suggestions(is_key=is_key, has_words=has_words)
    try:
        suggestions.observe(array, {}, is_first=True)
    except UnicodeDecodeError:  # strings of a damaged file
        return ""
    return suggestions.flags(kind)
