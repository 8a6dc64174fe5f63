"""How numbers, dates and NULL are spelled in text."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping
from typing import Self

_TOKENS = re.compile(r"%-[dm]|%[YmdHMSfT]|yyyy|hh24|hh|mm|mi|ss|dd|d|m|f{1,9}|.", re.IGNORECASE | re.DOTALL)
_FIELDS = {
    "yyyy": "year",
    "%Y": "year",
    "mm": "month",
    "m": "month",
    "%m": "month",
    "%-m": "month",
    "dd": "day",
    "d": "day",
    "%d": "day",
    "%-d": "day",
    "hh": "hour",
    "hh24": "hour",
    "%H": "hour",
    "mi": "minute",
    "%M": "minute",
    "ss": "second",
    "%S": "second",
}
_SPELLED = {
    ("year", 4): "yyyy",
    ("month", 2): "mm",
    ("month", 0): "m",
    ("day", 2): "dd",
    ("day", 0): "d",
    ("hour", 2): "HH",
    ("minute", 2): "MM",
    ("second", 2): "SS",
}
_LITERALS = re.compile(r"[^A-Za-z0-9%\\]|T")


@dataclasses.dataclass(frozen=True, slots=True)
class DatePart:
    """A part of a date format.

    Attributes:
        field: year, month, day, hour, minute, second or fraction; empty for a separator.
        width: Number of digits; 0 for one or two without a leading zero.
        text: The separator.
    """

    field: str
    width: int = 0
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class DateFormat:
    """A format of dates or date-times without a time zone.

    | written | means |
    |---|---|
    | `yyyy`, `%Y` | year, four digits |
    | `mm`, `%m`; `m`, `%-m` | month with two digits; without a leading zero |
    | `dd`, `%d`; `d`, `%-d` | day, likewise |
    | `HH`, `%H`; `MM`, `MI`, `%M`; `SS`, `%S` | hour (0 to 23), minute, second, two digits each |
    | `fff`; `%f` | fraction of a second with as many digits; with six |
    | anything else but letters and digits, and T | itself |

    Upper and lower case mean the same, but in `%m` and `%M`: `mm` after an hour is the minute. A format is strict: `dd.mm.yyyy` does not read
    1.2.2024. So two texts are never the same time.

    Attributes:
        text: The format as it is given.
        parts: What it consists of.
    """

    text: str
    parts: tuple[DatePart, ...] = dataclasses.field(compare=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a format.

        Raises:
            ValueError: It does not have year, month and day, the time is not in order, or a part is unknown; the message says so.
        """
        parts: list[DatePart] = []
        for word in _TOKENS.findall(text.replace("%T", "%H:%M:%S")):
            parts.append(_part(word, [part.field for part in parts if part.field]) or _refuse(text))
        fields = [part.field for part in parts if part.field]
        time = [field for field in fields if field not in ("year", "month", "day")]
        is_date = sorted(field for field in fields if field not in time) == ["day", "month", "year"]
        is_time = time == ["hour", "minute", "second", "fraction"][: len(time)] and len(time) != 1
        # Digits of one or two characters need a separator after them.
        is_clear = all(part.width or not after.field for part, after in itertools.pairwise(parts) if part.field)
        if not (is_date and is_time and is_clear):
            _refuse(text)
        return cls(text, tuple(parts))

    @property
    def name(self) -> str:
        """The format as `dd.mm.yyyy HH:MM:SS` is written: two formats of the same name are the same."""
        return "".join(_SPELLED.get((part.field, part.width), part.text or "f" * part.width) for part in self.parts)

    @property
    def has_time(self) -> bool:
        """Whether values have a time of day."""
        return any(part.field == "hour" for part in self.parts)

    @property
    def zero(self) -> str:
        """A date of this format in which every digit is zero."""
        return "".join("0" * (part.width or 1) if part.field else part.text for part in self.parts)


def _part(word: str, fields: list[str]) -> DatePart | None:
    """Return a part of a format, after parts with these fields; None if there is no such part."""
    spelled = word if word.startswith("%") else word.lower()
    if spelled == "mm" and fields and fields[-1] == "hour":
        return DatePart("minute", 2)
    if word == "%f" or spelled.startswith("f"):
        return DatePart("fraction", 6 if word == "%f" else len(word))
    if spelled not in _FIELDS:
        return DatePart("", text=word) if _LITERALS.fullmatch(word) else None
    field = _FIELDS[spelled]
    return DatePart(field, 4 if field == "year" else 0 if spelled in ("d", "m", "%-d", "%-m") else 2)


def _refuse(text: str) -> DatePart:
    raise ValueError(f"{text!r} is no date format: write it like dd.mm.yyyy, yyyymmdd, dd.mm.yyyy HH:MM:SS or %d.%m.%Y")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ValueFormats:
    """How values are spelled in the text files of a push.

    Attributes:
        decimal: Decimal sign.
        thousands: Separator between groups of three digits; empty if there is none.
        has_trailing_minus: Whether a minus may stand after a number; so if a decimal sign or a separator is given.
        date_formats: Formats of dates besides ISO 8601.
        column_date_formats: Formats of dates of single columns; they win.
        null_words: Words that are NULL.
        zero_date_null: Whether a date of zeros is NULL.
        cuts_subseconds: Whether digits of a time beyond microseconds are cut.
    """

    decimal: str = "."
    thousands: str = ""
    has_trailing_minus: bool = False
    date_formats: tuple[DateFormat, ...] = ()
    column_date_formats: Mapping[str, tuple[DateFormat, ...]] = dataclasses.field(default_factory=dict, hash=False)
    null_words: tuple[str, ...] = ()
    zero_date_null: bool = False
    cuts_subseconds: bool = False

    @property
    def has_numbers(self) -> bool:
        """Whether it is said how numbers are spelled."""
        return self.has_trailing_minus or self.decimal != "." or bool(self.thousands)

    def for_column(self, *names: str) -> Self:
        """Return the formats of a column, which may have several names: `date_formats` are then its own."""
        found = next((self.column_date_formats[name] for name in names if name in self.column_date_formats), None)
        return dataclasses.replace(
            self, date_formats=self.date_formats if found is None else found, column_date_formats={}
        )
