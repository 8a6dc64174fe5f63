"""How numbers, dates and NULL are spelled in text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Self

_TOKENS = re.compile(r"yyyy|mm|dd|d|m|HH|MM|SS|%[YmdHMS]")


@dataclasses.dataclass(frozen=True, slots=True)
class DateFormat:
    """A format of dates or date-times, such as `dd.mm.yyyy`.

    Attributes:
        text: The format as it is given.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a format.

        Raises:
            ValueError: It has no year, month or day; the message says so.
        """
        found = set(_TOKENS.findall(text))
        if not (found & {"yyyy", "%Y"} and found & {"mm", "m", "%m"} and found & {"dd", "d", "%d"}):
            raise ValueError(f"{text!r} is no date format: write it like dd.mm.yyyy, yyyymmdd or %d.%m.%Y")
        return cls(text)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ValueFormats:
    """How values are spelled in the text files of a push.

    Attributes:
        decimal: Decimal sign.
        thousands: Separator between groups of three digits; empty if there is none.
        has_trailing_minus: Whether a minus may stand after a number.
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
    column_date_formats: Mapping[str, tuple[DateFormat, ...]] = dataclasses.field(default_factory=dict)
    null_words: tuple[str, ...] = ()
    zero_date_null: bool = False
    cuts_subseconds: bool = False
