"""The first row of a text file: its delimiter, and the names of the columns."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from pushengine.config.csv_settings import CsvSettings
from pushengine.errors import SchemaError
from pushengine.sources.csv.rows import BLANKS, quoted_part
from pushengine.text import flag, format_count, name_key, nfc, spelled_like

DELIMITERS = (",", ";", "\t", "|")
"""Delimiters that the header line may show, except the one that is the quote character."""


@dataclasses.dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file, in its order.

    Attributes:
        names: The name of each column; None if it is left out.
        empty: The columns that are left out because they are empty, by index, each with the flag that says so.
    """

    names: tuple[str | None, ...]
    empty: Mapping[int, str] = dataclasses.field(default_factory=dict)

    @property
    def kept_names(self) -> tuple[str, ...]:
        """The names of the columns that are not left out."""
        return tuple(name for name in self.names if name is not None)

    def spelled_like(self, wanted: Sequence[str]) -> Self:
        """Return the columns with the names in the spelling that `wanted` has for them."""
        kept = iter(spelled_like(self.kept_names, wanted))
        names = tuple(None if name is None else next(kept) for name in self.names)
        return dataclasses.replace(self, names=names)

    @property
    def parsed_names(self) -> tuple[str, ...]:
        """A name for each column, for the parser."""
        return tuple(f"\0{index}" if name is None else name for index, name in enumerate(self.names))


@dataclasses.dataclass(frozen=True, slots=True)
class FirstRow:
    """What the first row of a file shows.

    Attributes:
        source: Name of the file.
        line: Its line number, from 1.
        raw: Its text as the file spells it, without its line end.
        cells: Its fields.
        delimiter: The delimiter.
        chosen: Why this delimiter: `given`, `sep line`, `file name` or `counted`.
        is_header: Whether the row holds the names of the columns.
    """

    source: str
    line: int
    raw: bytes
    cells: tuple[str, ...]
    delimiter: str
    chosen: str
    is_header: bool


def choose_delimiter(row: bytes, csv: CsvSettings, file_name: str) -> tuple[str, str]:
    """Return the delimiter that the first row shows, and why it was chosen (`FirstRow.chosen`)."""
    bare = quoted_part(csv.quote_character.encode(), "".join(DELIMITERS).encode(), BLANKS if csv.trim else "").sub(
        b"", row
    )
    if b"\t" in bare and ".tsv" in file_name.lower():
        return "\t", "file name"

    def rank(delimiter: str) -> tuple[bool, int]:
        count = bare.count(delimiter.encode())
        return count > 0 and count + 1 == len(csv.names), count

    return max((one for one in DELIMITERS if one != csv.quote_character), key=rank), "counted"


def columns_of(first: FirstRow, csv: CsvSettings, sample: Callable[[], Sequence[Sequence[bytes]]]) -> Columns:
    """Return the columns of a file.

    Args:
        first: Its first row.
        csv: The settings.
        sample: Returns the first rows; called only if a column has no name, or may have none.

    Raises:
        SchemaError: A column has no name or that of another, the names of the settings do not fit the row, or no column is left.
    """
    names: list[str | None] = list(first.cells)
    if not first.is_header and not csv.names:
        names = [f"column_{number}" for number in range(1, len(names) + 1)]
    rows: Sequence[Sequence[bytes]] = ()
    if csv.trailing_delimiter in ("rename", "drop"):
        rows = sample()
        _mark_trailing_delimiter(first, names, rows)
    if csv.names:
        names = _given_names(first, csv, names)
    nameless = [index for index, name in enumerate(names) if not (name or "").strip(BLANKS).strip()]
    rows = sample() if nameless and not rows else rows
    empty: dict[int, str] = {}
    for index in nameless:
        empty |= _repair_nameless(first, csv, names, index, rows)
    _repair_duplicates(first, csv, names, nameless)
    if set(names) == {None}:
        raise _problem(first, "no column has a name, so that none is left", flag("nameless", "rename"))
    return Columns(tuple(names), empty)


def _mark_trailing_delimiter(first: FirstRow, names: list[str | None], rows: Sequence[Sequence[bytes]]) -> None:
    """Make the last column one without a name if all rows end with a delimiter."""
    count = len(names)
    if not rows or any(row[-1] for row in rows):
        return
    if first.is_header and all(len(row) == count + 1 for row in rows):
        names.append("")
    elif not first.is_header and count > 1:
        names[-1] = ""


def _given_names(first: FirstRow, csv: CsvSettings, names: list[str | None]) -> list[str | None]:
    """Return the names of the settings, and the last of the others if it stands for a trailing delimiter."""
    ends = [""] if len(names) == len(csv.names) + 1 and not names[-1] else []
    count = len(names) - len(ends)
    if first.cells == csv.names and not first.is_header:
        raise _problem(first, "the first line has these names", "leave out --names, or add --header")
    if len(csv.names) != count:
        what = "header line" if first.is_header else "first line"
        given = format_count(len(csv.names), "name is", "names are")
        raise _problem(
            first,
            f"{given} given, and the {what} has {format_count(count, 'field')}",
            f"name each column, such as {flag('names', ','.join(f'column_{n}' for n in range(1, min(count, 3) + 1)))}",
        )
    if len(set(map(nfc, csv.names))) < count:
        name = collections.Counter(map(nfc, csv.names)).most_common(1)[0][0]
        raise _problem(first, f"the name {name} is given twice", "give each column a name of its own")
    return [*csv.names, *ends]


def _problem(first: FirstRow, message: str, hint: str) -> SchemaError:
    return SchemaError(message, source=first.source, position=f"line {first.line}", hint=hint)


def _repair_nameless(
    first: FirstRow, csv: CsvSettings, names: list[str | None], index: int, rows: Sequence[Sequence[bytes]]
) -> dict[int, str]:
    """Name or leave out a column without a name; return its index and the flag if it must be empty."""
    is_empty = all(index < len(row) and not row[index] for row in rows)
    is_last = index == len(names) - 1 and index > 0
    number = index + 1
    for name, repair, applies in (
        ("trailing-delimiter", csv.trailing_delimiter, is_empty and is_last),
        ("empty-columns", csv.empty_columns, is_empty),
        ("nameless", csv.nameless, True),
    ):
        if applies and repair in ("rename", "drop"):
            names[index] = None if repair == "drop" else f"column_{number}"
            return {index: name} if repair == "drop" and name != "nameless" else {}
    hint = flag("nameless", "rename")
    if is_empty:
        hint = flag("trailing-delimiter", "drop") if is_last else flag("empty-columns", "drop")
    raise _problem(first, f"column {number} has no name in the header line", hint)


def _repair_duplicates(first: FirstRow, csv: CsvSettings, names: list[str | None], generated: Sequence[int]) -> None:
    """Rename or leave out the columns that have the name of another.

    Args:
        first: The first row.
        csv: The settings.
        names: The names; changed in place.
        generated: Indexes of the columns whose names are not those of the file, and give way to them.
    """
    # Names in different letter case are refused later, unless the settings say what to do about them.
    key = name_key if csv.duplicate_names in ("rename", "drop") else nfc
    taken: set[str] = set()
    renamed = list(generated)
    for index in sorted(set(range(len(names))) - set(generated)):
        name = names[index]
        if name is None:
            continue
        if key(name) in taken:
            if csv.duplicate_names == "drop":
                names[index] = None
            elif csv.duplicate_names == "rename":
                renamed.append(index)
            else:
                message = f"column {name} appears twice in the header line"
                raise _problem(first, message, flag("duplicate-names", "rename"))
        taken.add(key(name))
    counts: collections.Counter[str] = collections.Counter()
    for index in sorted(renamed):
        name = new = names[index]
        while name is not None and new is not None and key(new) in taken:
            counts[key(name)] += 1
            new = f"{name}_{counts[key(name)] + 1}"
        names[index] = new
        taken.add(key(new or ""))
