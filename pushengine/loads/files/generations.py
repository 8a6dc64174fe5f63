"""Generations: files that one push loads, and their order.

The key of a generation is text, stable from run to run: `2026-11-27`, `2026-11-27/3`, `2026-11-27T14:30:00`, or `3` where only `{seq}`
orders the files. It is empty for files without `{date}` and `{seq}`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import zoneinfo
from collections.abc import Iterable

from pushengine.config.patterns import Match
from pushengine.model import FileRef

Order = tuple[dt.datetime, int]
"""By date, then by number. Generations without one of the two come before those with it."""
_NO_DATE = dt.datetime.min  # noqa: DTZ901 - dates of files have no time zone
_DIGITS = re.compile("([0-9]+)")


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file with what its pattern says about it, and whether it is still being written."""

    file: FileRef
    match: Match
    is_unfinished: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """Files that one push loads.

    Attributes:
        key: Key; empty for files without `{date}` and `{seq}`.
        files: The files in their order: by `{part}`, then by path, digits as numbers.
        date: From `{date}`, without a time zone; None without one.
        seq: From `{seq}`; None without one.
        unfinished: Files that are still being written: their names say so, or they changed while the folder was listed.
        incomplete: Why files are still to come, according to its control file; empty if nothing is known to be missing.
        wrong: How its files contradict its control file, so that it must not be loaded; empty if they do not.
        expected_rows: Number of rows according to its control file; None if that is not known.
    """

    key: str
    files: tuple[FileRef, ...]
    date: dt.datetime | None = None
    seq: int | None = None
    unfinished: tuple[FileRef, ...] = ()
    incomplete: str = ""
    wrong: str = ""
    expected_rows: int | None = None

    @property
    def is_ordered(self) -> bool:
        """Whether the generation has a date or a number."""
        return bool(self.key)

    @property
    def order(self) -> Order:
        """The place among the generations of a table."""
        return (self.date or _NO_DATE, -1 if self.seq is None else self.seq)

    @property
    def size(self) -> int:
        """Size of all files, bytes."""
        return sum(file.size for file in self.files)


def key_of(date: dt.datetime | None, seq: int | None) -> str:
    """Return the key of a generation."""
    parts = []
    if date is not None:
        parts.append(date.date().isoformat() if date.time() == dt.time() else date.isoformat())
    if seq is not None:
        parts.append(str(seq))
    return "/".join(parts)


def order_of(key: str) -> Order | None:
    """Return the place that a key stands for; None for the empty key, or one that no generation has."""
    first, slash, last = key.partition("/")
    try:
        date = dt.datetime.fromisoformat(first) if "-" in first else None
        number = last if date is not None else first
        seq = int(number) if number else -1
    except ValueError:
        return None
    if not key or (date is None and slash):
        return None
    return (date or _NO_DATE, seq)


def date_of(key: str) -> dt.datetime | None:
    """Return the date in a key; None if it has none."""
    order = order_of(key)
    return None if order is None or order[0] == _NO_DATE else order[0]


def age_of(date: dt.datetime, timezone: dt.tzinfo | zoneinfo.ZoneInfo, now: float) -> float:
    """Return the age of a generation's date, in seconds: the time since it began in the time zone of the load."""
    return now - date.replace(tzinfo=timezone).timestamp()


def group(found: Iterable[FoundFile]) -> tuple[Generation, ...]:
    """Return the generations of one table, in their order.

    Files that are equal in `{date}` and `{seq}` are one generation. Without these, so are files with `{part}`; each other file is one by
    itself, since nothing says which belong together.
    """
    groups: dict[tuple[str, str], list[FoundFile]] = {}
    for one in found:
        key = key_of(one.match.date, one.match.seq)
        alone = "" if key or one.match.part is not None else one.file.uri
        groups.setdefault((key, alone), []).append(one)
    generations = []
    for (key, _), members in groups.items():
        members.sort(key=lambda one: (natural(one.match.part or ""), natural(one.file.uri)))
        generations.append(
            Generation(
                key,
                tuple(one.file for one in members if not one.is_unfinished),
                members[0].match.date,
                members[0].match.seq,
                unfinished=tuple(one.file for one in members if one.is_unfinished),
            )
        )
    generations.sort(key=lambda one: (one.order, natural((*one.files, *one.unfinished)[0].uri)))
    return tuple(generations)


def natural(text: str) -> tuple[tuple[str, int, str], ...]:
    """Return a sort key that compares digits within texts as numbers: `part9` comes before `part10`."""
    pieces = _DIGITS.split(text)
    pairs = zip(pieces[::2], [*pieces[1::2], ""], strict=True)
    return tuple((word, int(digits or "-1"), digits) for word, digits in pairs)
