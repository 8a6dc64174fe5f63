"""What the text of a cell looks like: a number, a date, an address, or just a text.

This is for people's layouts, not for types: `1.234,56-`, `31.01.2024` and `12 %` are data whatever type their column gets.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_KINDS = (
    (
        "date",
        r"(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{4}|\d{2}))(?:[T ]+\d{1,2}:\d\d.*)?|\d{4}-\d\d",
    ),
    ("time", r"\d{1,3}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AaPp][Mm])?"),
    ("number", r"[-+(]?[$€£]?\s?(?:\d+(?:[.,' ]\d+)*|[.,]\d+)(?:[eE][-+]?\d+)?\s?[-%€)]?"),
    ("id", r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    ("address", r"(?:https?|ftp|s3)://\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)
_MARKS = re.compile(r"[0-9@:]")
_TRUTH = frozenset(("true", "false"))
_NO_VALUE = frozenset(("", "na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", r"\n", "#n/a"))
_PLAIN_NUMBER = re.compile(r"\s*(?:0|-?[1-9][0-9]*)(?:\.[0-9]+)?\s*")
_YEAR = re.compile(r"[0-9]{4}")
_FIRST_YEAR, _LAST_YEAR = 1800, 2199
_MANY = 3


def kind_of(cell: str) -> str:
    """Return what a cell looks like: `date`, `time`, `number`, `id`, `address`, `truth`, `text`, or `` if it stands for no value."""
    text = cell.strip()
    if text.casefold() in _NO_VALUE:
        return ""
    if not _MARKS.search(text):
        return "truth" if text.casefold() in _TRUTH else "text"
    return next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(text)), "text")


def kind_of_column(cells: Sequence[str]) -> str:
    """Return what all cells look like that stand for a value: one kind, `text` if they differ, `` if there are none."""
    kinds = filter(None, map(kind_of, cells))
    first = next(kinds, "")
    return "text" if any(kind != first for kind in kinds) else first


def looks_like_row(cells: Sequence[str]) -> bool:
    """Return whether cells look like a row of data and not like column names: one is a value, and numbers are not those of a pivot table."""
    values = [cell for cell in cells if kind_of(cell) not in ("", "text")]
    return bool(values) and not are_numbered_names(values, ())


def looks_like_names(cells: Sequence[str]) -> bool:
    """Return whether cells look like column names: texts, all different and none empty."""
    filled = [cell.strip() for cell in cells]
    return all(filled) and len(set(filled)) == len(filled) and not looks_like_row(cells)


def are_numbered_names(values: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether numbers in a header line are names: years, numbers from 0 or 1 in steps of 1, or ascending numbers.

    Args:
        values: The cells of the header line that look like values, from left to right.
        rows: Cells of the same columns in the rows below. If these ascend in every row too, ascending numbers prove nothing.
    """
    if not all(map(_PLAIN_NUMBER.fullmatch, values)) or not _ascend(values):
        return False
    numbers = [float(value) for value in values]
    if all(number.is_integer() and _FIRST_YEAR <= number <= _LAST_YEAR for number in numbers):
        return not rows or not all(_are_years(row) for row in rows)
    if len(numbers) < _MANY:
        return False
    if numbers[0] in (0, 1) and numbers == [numbers[0] + step for step in range(len(numbers))]:
        return True
    return not rows or not all(all(map(_PLAIN_NUMBER.fullmatch, row)) and _ascend(row) for row in rows)


def _ascend(numbers: Sequence[str]) -> bool:
    return all(float(one) < float(other) for one, other in itertools.pairwise(numbers))


def _are_years(row: Sequence[str]) -> bool:
    return all(_YEAR.fullmatch(cell.strip()) and _FIRST_YEAR <= int(cell) <= _LAST_YEAR for cell in row)
