"""What the first lines of a text file look like: which one is the header line, and how a file that is refused can be read."""

from __future__ import annotations

import collections
import csv
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv.structure import cells
from pushengine.sources.csv.structure.hints import Way, quoted

DELIMITERS = ("\t", "|", ";", ",")
"""From the one that is hardly ever part of a value to the one that often is."""
_SEARCHED_LINES = 200
_TITLE_LINES = 30
_FOOTER_LINES = 3
_MAX_NAMES = 20
_BOM = "\ufeff"
_LINE_END = re.compile(r"\r\n|\n|\r")
_PAGE = re.compile(r"""\s*(?:<!doctype|<html|<\?xml|\{\s*(?:"|$)|\[\s*(?:\{|$))""", re.IGNORECASE)
_NO_WORD = re.compile(r"[\W_]+")
_COMMENT = re.compile(r"#|//|--(?=\s)|%(?=\s)")
_SEPARATOR_LINE = re.compile(r'"?sep=(?:.|\\t)"?\s*', re.IGNORECASE)
_SEVERAL = re.compile(r"""[^\w\s"'.,()\[\]{}/\\<>*?!+=-]{2,4}""")
_SINGLE_QUOTE = re.compile(r"(?:^|[,;\t|])'", re.MULTILINE)
_ESCAPED_QUOTE = re.compile(r'\\"')
_CONTROL_ESCAPE = re.compile(r"(?<!\\)\\[ntrbZ0]")
"""A line end, a tab and the like as databases escape them; to the parser, they are the letters."""
_NULL_FIELD = re.compile(r"(?:^|[,;\t|])\\N(?=[,;\t|]|$)", re.MULTILINE)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text without their line ends, which are CRLF, LF or CR."""
    return _LINE_END.split(text.removeprefix(_BOM))


def is_page(line: str) -> bool:
    """Return whether a line is the start of a web page, an XML document or JSON."""
    return _PAGE.match(line) is not None


def is_ruler(line: str) -> bool:
    """Return whether a line consists of dashes and the like."""
    return len(line.strip()) > 1 and _NO_WORD.fullmatch(line.strip()) is not None


def is_separator_line(line: str) -> bool:
    """Return whether a line is the first of a file of Excel that names the delimiter: `sep=;`."""
    return _SEPARATOR_LINE.fullmatch(line) is not None


def comment_mark(line: str) -> str:
    """Return the mark at the start of a line that is a comment, or an empty text."""
    match = _COMMENT.match(line)
    return match[0] if match else ""


def several_characters(line: str) -> list[str]:
    """Return what may be delimiters of several characters in a line, such as `||` or `@@`, the longest first."""
    return sorted(set(_SEVERAL.findall(line)), key=lambda found: (-len(found), found))


def first_row_of(lines: Sequence[str], given: CsvSettings) -> int:
    """Return the index of the line that is read as the first row; the number of lines if there is none."""
    at = given.skip_lines or 0
    while at < len(lines) and _is_skipped(lines[at], given):
        at += 1
    return min(at, len(lines))


def _is_skipped(line: str, given: CsvSettings) -> bool:
    return (
        not line.strip()
        or (given.comment is not None and line.startswith(given.comment))
        or (given.dialect == "excel" and is_separator_line(line))
        or (given.dialect == "sap-list" and not line.lstrip().startswith(given.delimiter or "|"))
    )


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
    if delimiter == quote:
        return
    options = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    # Python's reader knows delimiters of one character only.
    mark = delimiter if len(delimiter) == 1 else "\x1f"
    texts = (f"{line.replace(delimiter, mark)}\n" for line in lines[:_SEARCHED_LINES])
    reader = csv.reader(texts, delimiter=mark, **options)
    start = 0
    try:
        for row in reader:
            yield start, row
            start = reader.line_num
    except csv.Error:
        return


HEADER_LINE = "the header line"
PAGE = "a web page, XML or JSON"
_LINE_KINDS: tuple[tuple[Callable[[str], object], str], ...] = (
    (is_page, PAGE),
    (is_separator_line, "a sep= line of Excel"),
    (is_ruler, "a ruler"),
    (comment_mark, "a comment"),
)
TELLING_KINDS = frozenset(words for _, words in _LINE_KINDS)
"""What the first line looks like if it is no header line for sure."""


def kind_of_line(lines: Sequence[str], given: CsvSettings) -> str:
    """Return what the first of some lines looks like, in words: `a title`, `a row of data`."""
    for test, words in _LINE_KINDS:
        if test(lines[0]):
            return words
    likely = header_lines(lines, quote=given.quote_character) if given.delimiter is None else []
    delimiter = given.delimiter or (likely[0].delimiter if likely else ",")
    found = next((row for _, row in _rows(lines[:1], delimiter, given.quote_character)), [])
    if cells.looks_like_row(found):
        return "a row of data"
    filled = sum(map(bool, map(str.strip, found)))
    return "a title" if likely and filled == 1 and len(likely[0].cells) > 1 else HEADER_LINE


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
            before = max(len(row) for _, row in _rows(lines[: header.line - first], header.delimiter, quote))
            if before > max(len(header.cells) // 2, 1):  # the lines before it are no title
                continue
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
    start = first_row_of(lines, given)
    shown = lines[start:]
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
    kind = kind_of_line(shown, given)
    is_first = bool(likely) and likely[0].line == start + 1
    if kind == "a row of data" or (is_first and _comes_back(likely[0], shown, start + 1, given.quote_character)):
        yield Way(f"if line {start + 1} is a row", {"header": False})
    if (
        kind in ("a title", "a ruler", "a comment")
        or not likely
        or len(likely[0].cells) > 2 + top.count(likely[0].delimiter)
    ):
        yield from skipping(shown, start + 1, given.quote_character)
    yield from _other_marks(shown, given)
    yield from _repairs(given)
    yield from _named(shown, start + 1, given)
    yield from _shorter(shown, given)
    if given.quote is None and any('"' in line for line in shown):
        yield Way("if quotes are ordinary characters", {"quote": ""}, is_last_resort=True)
    yield from skipping(shown, start + 1, given.quote_character)


def _comes_back(header: HeaderLine, lines: Sequence[str], first: int, quote: str) -> bool:
    """Return whether a cell of a line is a value of its own column, too, below it."""
    rows = [row for at, row in _rows(lines, header.delimiter, quote) if first + at > header.line]
    rows = [row for row in rows if len(row) == len(header.cells)]
    return any(cell.strip() and cell in below for cell, *below in zip(header.cells, *rows, strict=True))


def _other_marks(lines: Sequence[str], given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file with another delimiter, quote or escape."""
    text = "\n".join(lines)
    if given.delimiter is None:
        for delimiter in (*several_characters(lines[0]), *(one.delimiter for one in header_lines(lines))):
            yield Way(f"if {quoted(delimiter)} separates the fields", {"delimiter": delimiter})
        if " " in lines[0].strip() and not any(delimiter in lines[0] for delimiter in DELIMITERS):
            yield Way("if blanks separate the fields", {"delimiter": " "})
    if _ESCAPED_QUOTE.search(text) and given.escape is None and not _CONTROL_ESCAPE.search(text):
        null = {"null": ["\\N"]} if _NULL_FIELD.search(text) and not given.null else {}
        yield Way("if a backslash stands before quotes in a field", {"escape": "\\", **null})
    if given.quote is None and '"' not in lines[0] and _SINGLE_QUOTE.search(text):
        yield Way("if single quotes enclose fields", {"quote": "'"})
    if given.trim is None and re.search(r'[^\w\s][ \t]+"|"[ \t]+[^\w\s]', text):
        yield Way("if blanks around quotes do not count", {"trim": True})


def _repairs(given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file with an odd header line."""
    if given.trailing_delimiter is None:
        yield Way("if every line ends with a delimiter", {"trailing_delimiter": "drop"})
    if given.empty_columns is None:
        yield Way(
            "if columns without a name and without values do not count", {"empty_columns": "drop"}, is_last_resort=True
        )
    if given.nameless is None:
        yield Way("to number columns without a name", {"nameless": "rename"})
    if given.duplicate_names is None:
        yield Way("to number columns with equal names", {"duplicate_names": "rename"})
        if given.nameless is None:
            both = {"nameless": "rename", "duplicate_names": "rename"}
            yield Way("to number columns without a name of their own", both, is_last_resort=True)


def _named(lines: Sequence[str], first: int, given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read rows with one cell more or less than the header line, by giving the names.

    The header line ends with a delimiter that the rows lack, or the rows begin with row names, which have no name (R).
    """
    if given.names or given.header is not None:
        return
    for header in header_lines(lines, first, given.quote_character):
        rows = list(_rows(lines, header.delimiter, given.quote_character))
        width = len(header.cells)
        at, names = next(
            ((at, row) for at, row in rows if len(row) in (width - 1, width + 1) and all(row[:-1])), (0, [])
        )
        if len(names) > width and not names[-1].strip():
            names = names[:-1]
        elif (
            1 < len(names) < width
            and not any('"' in cell for cell in names)
            and all(row[-1] for _, row in rows if len(row) == width)
        ):
            names = ["column_1", *names]
        else:
            continue
        names = [name.strip() for name in names]
        is_short = 0 < len(names) <= _MAX_NAMES and not any("," in name for name in names)
        if is_short and cells.looks_like_names(names) and first + at < header.line:
            yield Way("to give the names", {"skip_lines": first + at, "names": names})


def _shorter(lines: Sequence[str], given: CsvSettings) -> Iterator[Way]:
    """Yield the ways to read a file whose rows do not fit its header line: as a single column, or without its last lines."""
    split = sum(any(delimiter in line for delimiter in DELIMITERS) for line in lines)
    if (
        given.delimiter is None
        and not any(delimiter in lines[0] for delimiter in DELIMITERS)
        and 2 * split <= len(lines)
    ):
        yield Way("if there is a single column", {"delimiter": "\t"})
    filled = [line for line in lines if line.strip()]
    delimiter = next(iter(header_lines(lines, quote=given.quote_character)), None)
    for count in range(1, min(_FOOTER_LINES, len(filled) // 2) + 1):
        # A row that is cut off looks otherwise: it has delimiters, an open quote, or a number only.
        if delimiter is None or not all(_is_footer(line, delimiter.delimiter) for line in filled[-count:]):
            return
        purpose = f"if the last {count} lines are no rows" if count > 1 else "if the last line is no row"
        yield Way(purpose, {"skip_footer": count}, is_last_resort=True)


def _is_footer(line: str, delimiter: str) -> bool:
    return delimiter not in line and '"' not in line and any(map(str.isalpha, line))
