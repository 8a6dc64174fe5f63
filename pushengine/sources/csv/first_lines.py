"""What the first lines of a text file look like: which one is the header line, and how a file that is refused can be read."""

from __future__ import annotations

import collections
import csv
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv import cells
from pushengine.sources.csv.hints import Way, quoted

DELIMITERS = ("\t", "|", ";", ",")
"""From the one that is hardly ever part of a value to the one that often is."""
_SEARCHED_LINES = 200
_TITLE_LINES = 30
_BOM = "\ufeff"
_PAGE = re.compile(r"""\s*(?:<!doctype|<html|<\?xml|\{\s*"|\[\s*\{)""", re.IGNORECASE)
_NO_WORD = re.compile(r"[\W_]+")
_COMMENT = re.compile(r"#|//|--(?=\s)|%(?=\s)")
_SEPARATOR_LINE = re.compile(r'"?sep=(?:.|\\t)"?\s*', re.IGNORECASE)
_SEVERAL = re.compile(r"""[^\w\s"'.,()\[\]{}/\\<>*?!+=-]{2,4}""")
_ESCAPED_QUOTE = re.compile(r'\\"')


def is_page(line: str) -> bool:
    """Return whether a line is the start of a web page, an XML document or JSON."""
    return _PAGE.match(line.lstrip(_BOM)) is not None


def is_ruler(line: str) -> bool:
    """Return whether a line consists of dashes and the like."""
    return len(line.strip()) > 1 and _NO_WORD.fullmatch(line.strip()) is not None


def is_separator_line(line: str) -> bool:
    """Return whether a line is the first of a file of Excel that names the delimiter: `sep=;`."""
    return _SEPARATOR_LINE.fullmatch(line.lstrip(_BOM)) is not None


def comment_mark(line: str) -> str:
    """Return the mark at the start of a line that is a comment, or an empty text."""
    match = _COMMENT.match(line.lstrip(_BOM))
    return match[0] if match else ""


def several_characters(line: str) -> list[str]:
    """Return what may be delimiters of several characters in a line, such as `||` or `@@`, the longest first."""
    return sorted(set(_SEVERAL.findall(line)), key=lambda found: (-len(found), found))


class FirstText:
    """The first lines of a file.

    Args:
        source: Name of the file.
        text: The first lines.
        given: The settings of the push, with those of the presets.

    Attributes:
        lines: The lines.
        line: Number of the line that is read as the header line, from 1.
        header: The line that is read as the header line; empty if there is none.
        rows: The lines after it.
    """

    def __init__(self, source: str, text: str, given: CsvSettings) -> None:
        self.source = source
        self.given = given
        self.lines = tuple(text.removeprefix(_BOM).splitlines())
        skipped = given.skip_lines or 0
        while skipped < len(self.lines) and self._is_skipped(self.lines[skipped]):
            skipped += 1
        self.line = skipped + 1
        self.header = self.lines[skipped] if skipped < len(self.lines) else ""
        self.rows = self.lines[skipped + given.has_header :]

    def _is_skipped(self, line: str) -> bool:
        comment, dialect = self.given.comment, self.given.dialect
        return (
            not line.strip()
            or (comment is not None and line.startswith(comment))
            or (dialect == "excel" and is_separator_line(line))
            or (dialect == "sap-list" and not line.lstrip().startswith("|"))
        )

    def skipping(self) -> tuple[Way, ...]:
        """Return the ways to read the file with a later header line."""
        return tuple(skipping(self.lines[self.line - 1 :], self.line, self.given.quote_character))


@dataclasses.dataclass(frozen=True, slots=True)
class HeaderLine:
    """A line that may be the header line, with the delimiter that its cells are separated by.

    Attributes:
        line: Number of the line, from 1.
        delimiter: The delimiter.
        cells: The cells.
        share: Of the rows below it, how many have as many cells, from 0 to 1.
    """

    line: int
    delimiter: str
    cells: tuple[str, ...]
    share: float


def header_lines(lines: Sequence[str], first: int = 1, quote: str = '"') -> list[HeaderLine]:
    """Return what may be the header line, at most one for each delimiter, the likeliest first.

    Args:
        lines: The first lines of the file.
        first: Number of the first of them.
        quote: Quote character; empty if there is none.
    """
    found = [_header_line(lines, first, delimiter, quote) for delimiter in DELIMITERS]
    return sorted((one for one in found if one is not None), key=lambda one: (one.share, len(one.cells)), reverse=True)


def _header_line(lines: Sequence[str], first: int, delimiter: str, quote: str) -> HeaderLine | None:
    rows = [(line, row) for line, row in _rows(lines, delimiter, quote) if any(map(str.strip, row))]
    widths = collections.Counter(len(row) for _, row in rows if len(row) > 1)
    if not widths:
        return None
    width = widths.most_common(1)[0][0]
    candidates = [at for at, (_, row) in enumerate(rows[:_TITLE_LINES]) if len(row) == width]
    if not candidates:
        return None
    best = max(candidates[:_TITLE_LINES], key=lambda at: (sum(map(bool, map(str.strip, rows[at][1]))), -at))
    below = rows[best + 1 :]
    share = sum(len(row) == width for _, row in below) / len(below) if below else 0.0
    return HeaderLine(first + rows[best][0], delimiter, tuple(rows[best][1]), share)


def _rows(lines: Sequence[str], delimiter: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows with the index of their first line, as far as Python's reader can split them."""
    options = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    reader = csv.reader((f"{line}\n" for line in lines[:_SEARCHED_LINES]), delimiter=delimiter, **options)
    start = 0
    try:
        for row in reader:
            yield start, row
            start = reader.line_num
    except csv.Error:
        return


_LINE_KINDS: tuple[tuple[Callable[[str], object], str], ...] = (
    (is_page, "a web page or an error document"),
    (is_separator_line, "a sep= line of Excel"),
    (is_ruler, "a ruler"),
    (comment_mark, "a comment"),
)
TELLING_KINDS = frozenset(words for _, words in _LINE_KINDS)
"""What the first line looks like if it is no header line for sure."""


def kind_of_line(line: str, delimiter: str) -> str:
    """Return what the first line of a file looks like, in words: `a title`, `a row of data`."""
    for test, words in _LINE_KINDS:
        if test(line):
            return words
    found = [cell.strip() for cell in next((row for _, row in _rows([line], delimiter, '"')), [])]
    if cells.looks_like_row(found):
        return "a row of data"
    if len(found) == 1 or sum(map(bool, found)) == 1:
        return "a title"
    return "the header line"


def skipping(lines: Sequence[str], first: int, quote: str = '"') -> Iterator[Way]:
    """Yield the ways to read a file whose header line is not the first of these lines."""
    for header in header_lines(lines, first, quote):
        if header.line == first:
            continue
        skip = {"skip_lines": header.line - 1}
        delimiter = {"delimiter": header.delimiter}
        named = f"if line {header.line} is the header line"
        unnamed = f"if line {header.line} is the first row"
        if cells.looks_like_row(header.cells):
            yield Way(unnamed, {**skip, "header": False})
            yield Way(unnamed, {**skip, **delimiter, "header": False}, is_last_resort=True)
        else:
            yield Way(named, skip)
            yield Way(named, {**skip, **delimiter}, is_last_resort=True)
            yield Way(unnamed, {**skip, "header": False}, is_last_resort=True)


def commented(mark: str) -> Iterator[Way]:
    """Yield the ways to read a file with lines that are comments."""
    purpose = f"if lines that begin with {mark} are comments"
    yield Way(purpose, {"comment": mark})
    for delimiter in DELIMITERS:
        yield Way(purpose, {"comment": mark, "delimiter": delimiter}, is_last_resort=True)
    yield Way(f"{purpose}, and there is no header line", {"comment": mark, "header": False}, is_last_resort=True)


def ways_to_read(lines: Sequence[str], given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file that was refused, the likeliest first. Some of them will not work: try each.

    Args:
        lines: The first lines of the file, as text.
        given: The settings with which it was refused, with those of the presets.
    """
    start = (given.skip_lines or 0) if not given.comment else 0
    shown = [line.lstrip(_BOM) if number == 0 else line for number, line in enumerate(lines)][start:]
    if not shown or is_page(shown[0]):
        return
    top = shown[0]
    if is_separator_line(top):
        yield Way("if it is a file of Excel", {"dialect": "excel"})
    if is_ruler(top) or any(
        line.lstrip().startswith("|") and line.rstrip().endswith("|") for line in shown[:_TITLE_LINES]
    ):
        yield Way("if it is a list with | and rulers", {"dialect": "sap-list"})
    mark = comment_mark(top)
    if mark:
        yield from commented(mark)
    likely = header_lines(shown, start + 1, given.quote_character)
    kind = kind_of_line(top, given.delimiter or (likely[0].delimiter if likely else ","))
    if kind == "a row of data" or (likely and _comes_back(likely[0], shown, given.quote_character)):
        yield Way(f"if line {start + 1} is a row", {"header": False})
    if kind in ("a title", "a ruler", "a comment") or (likely and likely[0].line > start + 1):
        yield from skipping(shown, start + 1, given.quote_character)
    yield from _other_marks(shown, given)
    yield from _repairs(given)
    yield from skipping(shown, start + 1, given.quote_character)


def _comes_back(header: HeaderLine, lines: Sequence[str], quote: str) -> bool:
    """Return whether a cell of a line is a value of its own column, too."""
    rows = [row for _, row in _rows(lines, header.delimiter, quote)][1:]
    return any(
        cell in rest
        for cell, *rest in zip(header.cells, *(row for row in rows if len(row) == len(header.cells)), strict=True)
    )


def _other_marks(lines: Sequence[str], given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file with another delimiter, quote or escape."""
    text = "\n".join(lines)
    if given.delimiter is None:
        for delimiter in (*several_characters(lines[0]), *(one.delimiter for one in header_lines(lines))):
            yield Way(f"if {quoted(delimiter)} separates the fields", {"delimiter": delimiter})
    if _ESCAPED_QUOTE.search(text) and given.escape is None:
        yield Way("if a backslash stands before quotes in a field", {"escape": "\\"})
    if given.quote is None and "'" in text:
        yield Way("if single quotes enclose fields", {"quote": "'"})
    if given.trim is None and re.search(r'[^\w\s][ \t]+"|"[ \t]+[^\w\s]', text):
        yield Way("if blanks around quotes do not count", {"trim": True})
    if given.quote is None and '"' in text:
        yield Way("if quotes are ordinary characters", {"quote": ""}, is_last_resort=True)


def _repairs(given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file with an odd header line."""
    if given.trailing_delimiter is None:
        yield Way("if every line ends with a delimiter", {"trailing_delimiter": "drop"})
    if given.empty_columns is None:
        yield Way(
            "if columns without a name and without values do not count", {"empty_columns": "drop"}, is_last_resort=True
        )
    if given.nameless is None:
        yield Way("to number columns without a name", {"nameless": "rename"}, is_last_resort=True)
    if given.duplicate_names is None:
        yield Way("to number columns with equal names", {"duplicate_names": "rename"}, is_last_resort=True)
        if given.nameless is None:
            both = {"nameless": "rename", "duplicate_names": "rename"}
            yield Way("to number columns without a name of their own", both, is_last_resort=True)
    for count in range(1, 4):
        purpose = f"if the last {count} lines are no rows" if count > 1 else "if the last line is no row"
        yield Way(purpose, {"skip_footer": count}, is_last_resort=True)
