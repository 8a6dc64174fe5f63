"""Checks on the sample of a text file: whether the way in which it is read is the right one.

The header line alone decides how a file is read. These checks compare it with the rows: a table with a single column that another delimiter
would split, a header line that looks like a row, a web page. What they find is a doubt with the flags to continue. A check is worth its place
if it stops wrong files and hardly any good ones; a flag that is given answers it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.config.csv_settings import CsvSettings
from pushengine.interfaces import Doubt
from pushengine.sources.csv.header import Columns, FirstRow
from pushengine.sources.csv.structure.cells import are_numbered_names, kind_of, kind_of_column
from pushengine.sources.csv.structure.first_lines import (
    DELIMITERS,
    comment_mark,
    commented,
    is_page,
    is_ruler,
    lines_of,
    several_characters,
    skipping,
)
from pushengine.sources.csv.structure.hints import Way, hint_of, quoted, with_names, working

_MAX_CELLS = 6000
_MIN_ROWS = 8
_SHOWN_CHARACTERS = 40
_OTHER_DELIMITERS = (":", "^", "~", "#")
_CONTROL = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f]")
_GAP = re.compile(r"\S {2,}\S")
_COMMENT_LINE = re.compile(r"#+(?:[ \t]|$)|//|-- ")
_BLANK_QUOTE = re.compile(r'^[ \t]+".*"[ \t]*$')
_BOM = "\ufeff"
_TITLE_LINES = 20
_ONE_COLUMN = Way("if there is a single column", {"delimiter": ","})
_FIRST_ROW = Way("if it is a row", {"header": False})
_WORDS = {
    "number": "a number",
    "date": "a date",
    "time": "a time",
    "id": "a UUID",
    "address": "an address",
    "truth": "a truth value",
}
_IS_HEADER = Way("if it does hold the column names", {"header": True})


class FileSample:
    """The start of one file, as text and as it is read.

    Args:
        first: The first row.
        columns: The columns.
        read_lines: Reads the first lines of the file as text. Called at most once, and only for a file whose header line may split otherwise.
        given: The settings of the push, with those of the presets.

    Attributes:
        header: Text of the first row.
        cells: The header cell of each column that is not left out; the column name if there is no header line.
        values: The first values of each column, without NULLs.
        rows: Number of rows.
        repeated_header: Number of the first row that repeats the header line, from 0; None if there is none.
        marked: Number of the first row that begins with a byte order mark.
        names_as_values: Index of a column -> number of the first row that has its header cell as value.
    """

    def __init__(
        self, first: FirstRow, columns: Columns, read_lines: Callable[[], Sequence[str]], given: CsvSettings
    ) -> None:
        self.given = given
        self.delimiter = first.delimiter
        self.chosen = first.chosen
        self.source = first.source
        self.line = first.line
        self.header = first.raw.decode(errors="replace")
        self.has_header = first.is_header
        self._read_lines = read_lines
        self._header_cells = header_cells(first, columns)
        self.cells = list(self._header_cells.values())
        self.values: list[list[str]] = [[] for _ in self.cells]
        self.rows = 0
        self.repeated_header: int | None = None
        self.marked: int | None = None
        self.names_as_values: dict[int, int] = {}

    def observe(self, batch: pa.RecordBatch) -> None:
        """Add the next rows, with every column as text."""
        first = self.rows
        self.rows += batch.num_rows
        arrays = [batch.column(name) for name in self._header_cells]
        if not arrays or not batch.num_rows:
            return
        wanted = max(_MAX_CELLS // len(arrays), _MIN_ROWS) - first
        if wanted > 0:
            for array, values in zip(arrays, self.values, strict=True):
                values.extend(value for value in array.slice(0, wanted).to_pylist() if value is not None)
        if self.marked is None:
            at = pc.index(pc.starts_with(arrays[0], _BOM), value=True).as_py()
            self.marked = None if at < 0 else first + at
        if self.repeated_header is None:
            row = repeated_header(batch, self._header_cells)
            self.repeated_header = None if row is None else first + row
        for index, cell in enumerate(self.cells):
            if index not in self.names_as_values:
                at = pc.index(arrays[index], cell).as_py()
                if at >= 0:
                    self.names_as_values[index] = first + at

    @functools.cached_property
    def _lines(self) -> list[str]:
        """Text of the first row and the lines after it, without escaped characters."""
        lines = self._read_lines()[self.line - 1 :]
        if not self.given.escape:
            return list(lines)
        escaped = re.compile(re.escape(self.given.escape) + ".")
        return [escaped.sub("", line) for line in lines]

    @property
    def rows_text(self) -> list[str]:
        """Text of the lines after the header line, if there is one."""
        return self._lines[len(lines_of(self.header)) if self.has_header else 0 :]

    @functools.cached_property
    def text(self) -> str:
        """Text of the header line and the lines after it."""
        return "\n".join([self.header, *self.rows_text])

    def skipping(self) -> tuple[Way, ...]:
        """Return the ways to read the file with a later header line."""
        return tuple(skipping(self._lines, self.line, self.given.quote_character)) if self.has_header else ()

    @property
    def answers_header(self) -> bool:
        """Whether the user said whether there is a header line."""
        return self.given.header is not None or not self.has_header

    # The kinds, to be asked after the last batch

    @functools.cached_property
    def kinds_of_names(self) -> tuple[str, ...]:
        """What each column name looks like."""
        return tuple(map(kind_of, self.cells))

    @functools.cached_property
    def kinds_of_columns(self) -> tuple[str, ...]:
        """What the values of each column look like. Slow: nearly always, `proves_header` is enough."""
        return tuple(map(kind_of_column, self.values))

    @functools.cached_property
    def proves_header(self) -> bool:
        """Whether a column of values has a text as its name."""
        return any(
            name == "text" and kind_of_column(values) not in ("", "text")
            for name, values in zip(self.kinds_of_names, self.values, strict=True)
        )


def header_cells(first: FirstRow, columns: Columns) -> dict[str, str]:
    """Return name -> header cell of each column that is not left out; the name stands for the cell if there is no header line."""
    return {
        name: first.cells[index] if first.is_header else name
        for index, name in enumerate(columns.names)
        if name is not None
    }


def repeated_header(batch: pa.RecordBatch, header: Mapping[str, str]) -> int | None:
    """Return the number of the first row, from 0, that repeats the header cells; a byte order mark before the first does not count."""
    (name, cell), *others = header.items()
    # Nearly always, one column shows that there is none, without the two searches of the first one.
    if others and pc.index(batch.column(others[-1][0]), others[-1][1]).as_py() < 0:
        return None
    for first in (cell, _BOM + cell):
        if pc.index(batch.column(name), first).as_py() < 0:  # much faster than a comparison
            continue
        same = pc.equal(batch.column(name), first)
        for other, text in others:
            same = pc.and_(same, pc.equal(batch.column(other), text))
        row = pc.index(same, value=True).as_py()
        if row >= 0:
            return int(row)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A doubt whose ways to continue have not been tried.

    Attributes:
        message: What was found.
        ways: Settings that may read the file rightly, the most likely first.
        keep: The way to read the file as it is.
        line: Line of the file, from 1; None if it is not about a single line.
        advice: What else to do; empty if there is nothing.
    """

    message: str
    ways: tuple[Way, ...]
    keep: Way
    line: int | None
    advice: str = ""

    def doubt(
        self,
        source: str,
        leads_on: Callable[[Mapping[str, Any]], bool],
        others: Iterable[Finding] = (),
        *,
        names: Sequence[str] = (),
    ) -> Doubt:
        """Return the doubt with the ways that work.

        Args:
            source: Name of the file.
            leads_on: Whether the file can be read with these settings in addition to those given, without another doubt.
            others: All findings about the file; the way to read it as it is answers them, too.
            names: Names of the table's columns, in order, if it exists.
        """
        settings = dict(self.keep.settings)
        for other in others:
            settings |= {name: value for name, value in other.keep.settings.items() if name not in settings}
        ways = with_names(self.ways, names, leads_on)
        hint = hint_of([*working(ways, leads_on), Way(self.keep.purpose, settings)])
        return Doubt(self.message, source, f"{self.advice}; {hint}" if self.advice else hint, self.line)


def findings(sample: FileSample) -> Iterator[Finding]:
    """Yield what speaks against the way in which a file is read, the worst first."""
    for check in (
        _page,
        _ruler,
        _comment_as_header,
        _other_delimiter,
        _aligned,
        _two_delimiters,
        _row_as_header,
        _ruler_below_header,
        _repeated_header,
        _name_as_value,
        _mark_in_mid_file,
        _blank_before_quote,
        _single_quotes,
    ):
        found = check(sample)
        if found is not None:
            yield found


# --- The first line ---------------------------------------------------------------------------------------------------------------


def _page(sample: FileSample) -> Finding | None:
    if sample.given.header is not None or not is_page(sample.header):
        return None
    return Finding(
        f"{_start(sample.header)} looks like a web page, XML or JSON, not like a header line",
        (),
        _IS_HEADER,
        sample.line,
        "check how the extract was made",
    )


def _ruler(sample: FileSample) -> Finding | None:
    if sample.answers_header or not is_ruler(sample.header):
        return None
    ways = (Way("if it is a list with rulers", {"dialect": "sap-list"}), *sample.skipping())
    return Finding(f"{_start(sample.header)} has no letters: it is no header line", ways, _IS_HEADER, sample.line)


def _ruler_below_header(sample: FileSample) -> Finding | None:
    """Find a ruler in the first row, as clients of databases print it below the header line."""
    first = [values[0] if values else None for values in sample.values]
    if sample.answers_header or not first or not all(value and is_ruler(value) for value in first):
        return None
    mark = (first[0] or "")[:2]
    ways = () if sample.given.comment is not None else (Way("if lines of dashes are no rows", {"comment": mark}),)
    keep = Way("if they are rows", {"header": True})
    return Finding(f"a ruler stands below the header line: {_start(first[0] or '')}", ways, keep, sample.line + 1)


def _comment_as_header(sample: FileSample) -> Finding | None:
    given = sample.given
    if sample.answers_header or len(sample.cells) > 1:
        return None
    mark = comment_mark(sample.header)
    if given.comment is not None or not mark or not _COMMENT_LINE.match(sample.header):
        return None
    ways = (*commented(mark), *sample.skipping())
    return Finding(
        f"{_start(sample.header)} looks like a comment, not like a header line", ways, _IS_HEADER, sample.line
    )


# --- The delimiter ----------------------------------------------------------------------------------------------------------------


def count_outside_quotes(line: str, delimiter: str) -> int:
    """Return how often a delimiter occurs outside quotes in a line."""
    if '"' not in line:
        return line.count(delimiter)
    return sum(part.count(delimiter) for part in line.split('"')[::2])


def counts(lines: Sequence[str], delimiter: str) -> list[int]:
    """Return how often a delimiter occurs in each line that is not empty."""
    return [count_outside_quotes(line, delimiter) for line in lines if line.strip()]


def _splits_alike(sample: FileSample, delimiter: str) -> bool:
    """Return whether a delimiter occurs in the header line, and as often in every row."""
    header = count_outside_quotes(sample.header, delimiter)
    found = counts(sample.rows_text, delimiter) if header else []
    return bool(found) and all(number == header for number in found)


def _other_delimiter(sample: FileSample) -> Finding | None:
    """Find a delimiter that splits all rows alike, though the file is read as a single column."""
    if len(sample.cells) > 1 or sample.given.delimiter is not None:
        return None
    several = several_characters(sample.header)
    control = _CONTROL.findall(sample.header)
    others = dict.fromkeys([*several, *control, *DELIMITERS, *_OTHER_DELIMITERS])
    others.pop(sample.delimiter, None)
    for delimiter in others:
        if _splits_alike(sample, delimiter):
            return _split_alike(delimiter, _delimiter_ways(delimiter), None)
    for delimiter in (*DELIMITERS, "\x01"):
        if delimiter == sample.delimiter:
            continue
        found = counts(sample.rows_text, delimiter)
        start = next((at for at, number in enumerate(found[:_TITLE_LINES]) if number and number == found[-1]), None)
        rest = found[start:] if start is not None else []
        if len(rest) > max(start or 0, 1) and len(set(rest)) == 1:
            ways = sample.skipping()
            return _split_alike(delimiter, (*ways, *_delimiter_ways(delimiter)), sample.line)
    return None


def _delimiter_ways(delimiter: str) -> tuple[Way, ...]:
    purpose = f"if {quoted(delimiter)} separates the fields"
    dialect = [Way("if it is a file of Hive", {"dialect": "hive"})] if delimiter == "\x01" else []
    plain = {"delimiter": delimiter}
    return (Way(purpose, plain), *dialect, Way(purpose, {**plain, "header": False}, is_last_resort=True))


def _split_alike(delimiter: str, ways: tuple[Way, ...], line: int | None) -> Finding:
    words = "the header line and all sampled rows" if line is None else "the sampled rows, but not the header line,"
    message = f"a single column, yet {quoted(delimiter)} splits {words} alike"
    return Finding(message, ways, _ONE_COLUMN, line)


def _aligned(sample: FileSample) -> Finding | None:
    """Find columns that are aligned with blanks."""
    if len(sample.cells) > 1 or sample.given.delimiter is not None or not _GAP.search(sample.header):
        return None
    lines = [line for line in sample.rows_text if line.strip()]
    if 2 * sum(_GAP.search(line.strip()) is not None for line in lines) < len(lines):
        return None
    return Finding(
        "a single column, and the header line has gaps of several blanks: the columns are aligned",
        (Way("if two blanks separate the fields", {"delimiter": "  ", "trim": True}),),
        _ONE_COLUMN,
        sample.line,
        "export it with a delimiter",
    )


def _two_delimiters(sample: FileSample) -> Finding | None:
    """Find another delimiter that splits the header line and all rows alike."""
    if len(sample.cells) < 2 or sample.given.delimiter is not None or sample.delimiter not in DELIMITERS:  # noqa: PLR2004
        return None
    rank = DELIMITERS.index(sample.delimiter)
    own = count_outside_quotes(sample.header, sample.delimiter)
    for other in DELIMITERS:
        is_likelier = DELIMITERS.index(other) < rank or count_outside_quotes(sample.header, other) >= own
        if other == sample.delimiter or not is_likelier or not _splits_alike(sample, other):
            continue
        return Finding(
            f"two delimiters split the header line and all sampled rows alike: {quoted(other)} and {quoted(sample.delimiter)}",
            _delimiter_ways(other),
            Way(f"if {quoted(sample.delimiter)} separates the fields", {"delimiter": sample.delimiter}),
            sample.line,
        )
    return None


# --- The header line --------------------------------------------------------------------------------------------------------------


def _row_as_header(sample: FileSample) -> Finding | None:
    """Find column names that are of the kind of their columns."""
    if sample.answers_header or sample.proves_header:
        return None
    names = sample.kinds_of_names
    alike = [
        at
        for at, (name, kind) in enumerate(zip(names, sample.kinds_of_columns, strict=True))
        if name not in ("", "text") and (kind == name or not sample.rows)
    ]
    if not alike:
        return None
    if all(names[at] == "number" for at in alike):
        rows = list(zip(*(sample.values[at] for at in alike), strict=False))
        if are_numbered_names([sample.cells[at] for at in alike], rows):
            return None
    name, kind = sample.cells[alike[0]], _WORDS[names[alike[0]]]
    return Finding(
        f"the header line looks like a row: {_start(name)} is {kind}, like the values of its column",
        (_FIRST_ROW,),
        _IS_HEADER,
        sample.line,
    )


def _repeated_header(sample: FileSample) -> Finding | None:
    """Find the whole header line among the rows."""
    if sample.answers_header or sample.repeated_header is None:
        return None
    found = header_in_mid_file(sample.repeated_header)
    if sample.proves_header:
        return found
    return dataclasses.replace(found, ways=(Way(f"if line {sample.line} is a row, too", {"header": False}),))


def header_in_mid_file(row: int) -> Finding:
    """Return the finding that a row, counted from 0, repeats the header line."""
    return Finding(
        f"row {row + 1:,} repeats the header line: were files joined?",
        (),
        Way("to load it as a row", {"header": True}),
        None,
        "remove it from the file",
    )


def _name_as_value(sample: FileSample) -> Finding | None:
    """Find a column name among the values of its own column of texts, where nothing else shows that line 1 is a header line."""
    if sample.answers_header or sample.repeated_header is not None or sample.proves_header:
        return None
    for at, row in sorted(sample.names_as_values.items()):
        if sample.kinds_of_names[at] == sample.kinds_of_columns[at] == "text":
            return Finding(
                f"the header line looks like a row: {_start(sample.cells[at])} is a value of its own column, too (row {row + 1:,})",
                (_FIRST_ROW,),
                _IS_HEADER,
                sample.line,
            )
    return None


def _mark_in_mid_file(sample: FileSample) -> Finding | None:
    if sample.given.trim is not None or sample.marked is None:
        return None
    return Finding(
        f"row {sample.marked + 1:,} begins with a byte order mark: were files joined?",
        (Way("to cut it off", {"trim": True}),),
        Way("to keep it", {"trim": False}),
        None,
    )


# --- Quotes -----------------------------------------------------------------------------------------------------------------------


def _blank_before_quote(sample: FileSample) -> Finding | None:
    """Find values in quotes after a blank, which then belong to the value."""
    if sample.given.trim is not None or sample.given.quote is not None:
        return None
    for name, values in zip(sample.cells, sample.values, strict=True):
        quoted_values = filter(_BLANK_QUOTE.match, (name, *values))
        value = next((v for v in quoted_values if sample.delimiter + v in sample.text), None)
        if value is not None:
            return Finding(
                f"a blank stands before the opening quote in column {name.strip()}: {_start(value)}, so that the quotes belong to the value",
                (Way("to read the quotes as quotes", {"trim": True}),),
                Way("to keep blanks and quotes", {"trim": False}),
                None,
            )
    return None


def _single_quotes(sample: FileSample) -> Finding | None:
    """Find a column whose values are all in single quotes."""
    if sample.given.quote is not None:
        return None
    for name, values in zip(sample.cells, sample.values, strict=True):
        if len(values) + _in_single_quotes(name) > 1 and all(map(_in_single_quotes, values)):
            return Finding(
                f"all sampled values of column {name} are in single quotes",
                (Way("if they quote the values", {"quote": "'"}),),
                Way("if they belong to the values", {"quote": '"'}),
                None,
            )
    return None


def _in_single_quotes(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == "'"


def _start(text: str) -> str:
    return quoted(text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}...")
