"""The first row of a text file, and the dialect that it shows."""

from __future__ import annotations

import re

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv.header import DELIMITERS, FirstRow, choose_delimiter
from pushengine.sources.csv.layout import MAX_ROW_BYTES, SET_ENCODING
from pushengine.sources.csv.lines import NO_ROW, separator_of
from pushengine.sources.csv.rows import BLANKS, Dialect, header_row, leading_lines
from pushengine.sources.csv.text_file import TextFile
from pushengine.text import flag


def read_first_row(file: TextFile, csv: CsvSettings, block_bytes: int) -> tuple[FirstRow, Dialect, int]:
    """Return the first row, the dialect, and the line number of the first row that holds values; `file.pending` begins with it.

    Args:
        file: The file.
        csv: The settings, with those of their presets.
        block_bytes: Number of bytes to read at first.

    Raises:
        SourceReadError: There is no row, or it is malformed.
    """
    mark = file.delimiter if file.spelling is None else file.spelling.mark
    marks = (*DELIMITERS, csv.quote_character) if mark is None else (mark, csv.quote_character)
    blanks = "".join(blank for blank in BLANKS if blank not in marks) if csv.trim else ""
    comment = NO_ROW if csv.dialect == "sap-list" else (csv.comment or "").encode()
    pattern = header_row(
        csv.quote_character.encode(), "".join(DELIMITERS if mark is None else (mark,)).encode(), blanks
    )
    text, match = _matched(file, pattern, leading_lines(comment, blanks), block_bytes)
    start, raw = match.start(), match[1]
    line = file.first_line + _count_lines(text[:start], file)
    chosen = file.chosen
    if mark is None:
        mark, chosen = choose_delimiter(raw, csv, file.ref.name)
    dialect = Dialect(mark, match[2] or b"\n", quote=csv.quote_character, trim=bool(csv.trim), comment=comment)
    cells = _cells(raw, dialect, file, "header line" if csv.has_header else "first line", line)
    spelled = raw if file.spelling is None else file.spelling.raw(raw)
    if line == 1 and csv.dialect != "excel" and separator_of(spelled) is not None:
        message = f"the first line is {spelled.decode()!r}: it names the delimiter for Excel and is no header line"
        file.fail(message, line, flag("dialect", "excel"))
    first = FirstRow(file.ref.uri, line, spelled, cells, file.delimiter or mark, chosen, csv.has_header)
    # Without a header line, the row is the first of the rows; in a table of one column, empty lines before it are rows, too.
    end = match.end() if csv.has_header else 0 if len(cells) == 1 else start
    file.pending = file.pending[end:]
    return first, dialect, file.first_line + _count_lines(text[:end], file)


def _matched(
    file: TextFile, pattern: re.Pattern[bytes], leading: re.Pattern[bytes], size: int
) -> tuple[bytes, re.Match[bytes]]:
    """Return the start of the file, which stays pending, and the match of its first row."""
    while True:
        block = file.pending = file.filled(size)
        grew = len(block) == size
        text = bytes(block)
        skipped = leading.match(text)
        start = skipped.end() if skipped else 0
        match = pattern.match(text, start)
        # A CR or an open quote at the very end may continue in the next block.
        if match and match[1] and (not grew or match.end() < len(text)):
            return text, match
        if not grew:
            if start == len(text):
                hint = "" if text or file.kind else "--allow-empty loads an empty extract"
                file.fail("no header line: the file is empty", file.first_line, hint)
            file.fail("the header line has unbalanced quotes", file.first_line + _count_lines(text[:start], file))
        size *= 2
        if size > 2 * MAX_ROW_BYTES:
            file.fail(f"the header line is longer than {MAX_ROW_BYTES} bytes", file.first_line, "is it a text file?")


def _cells(row: bytes, dialect: Dialect, file: TextFile, what: str, line: int) -> tuple[str, ...]:
    fields = dialect.split(row)
    if fields is None:
        file.fail(f"the {what} is malformed: text after a closing quote, or a quote that is not closed", line)
    try:
        texts = [(field if file.spelling is None else file.spelling.value(field)).decode() for field in fields]
    except UnicodeDecodeError:
        file.fail(f"the {what} is not UTF-8 text", line, SET_ENCODING)
    return tuple(text.strip(BLANKS) if dialect.trim else text for text in texts)


def _count_lines(text: bytes, file: TextFile) -> int:
    escaped = 0 if file.spelling is None else file.spelling.escaped_line_ends(text, b"\n")
    return max(text.count(b"\n"), text.count(b"\r")) + escaped
