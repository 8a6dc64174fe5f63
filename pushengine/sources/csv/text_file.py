"""A text file with the marks of its dialect as single bytes, read in blocks; and its first row."""

from __future__ import annotations

import contextlib
import itertools
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import pyarrow as pa

from pushengine.config.csv_settings import CsvSettings
from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.sources.csv.header import DELIMITERS, FirstRow, choose_delimiter
from pushengine.sources.csv.layout import MAX_ROW_BYTES, SET_ENCODING, fail
from pushengine.sources.csv.lines import (
    NO_ROW,
    LineError,
    ListLines,
    Pieces,
    pieces_of,
    separator_of,
    without_first_lines,
    without_last_lines,
    without_marks,
)
from pushengine.sources.csv.rows import BLANKS, Dialect, has_nul, header_row, leading_lines
from pushengine.sources.csv.spelling import Spelling
from pushengine.sources.files import compression_of
from pushengine.sources.first_bytes import WrongKindError, compression_of_content, head_of
from pushengine.sources.text_stream import Content, CountedFile, EncodingError, open_content
from pushengine.text import flag


class TextFile:
    """An open text file, from its header line onwards.

    Args:
        ref: The file.
        csv: The settings, with those of their presets.
        filesystem: Opens the file.

    Attributes:
        pending: Bytes that were read and not used yet; the next block begins with them.
        delimiter: The delimiter; None if the first row shows it.
        chosen: Where the delimiter comes from (`header.FirstRow.chosen`).
        spelling: How escapes and long delimiters are encoded; None if there are none.
        compression: How the file is compressed, or None.
        text_bytes: Number of bytes of text read so far, with the pending ones.
        is_as_stored: Whether the text is that of the file (if need be, decompressed and recoded), with nothing left out or respelled.
        first_line: Number of the first line after those that are skipped, from 1.
        line: Returns the number of the first line after the blocks used so far. Slow: for error messages only.
    """

    def __init__(self, ref: FileRef, csv: CsvSettings, filesystem: FileSystem) -> None:
        self.ref = ref
        self.pending = memoryview(b"")
        self.delimiter = csv.delimiter
        self.chosen = "given"
        self.spelling: Spelling | None = None
        self.first_line = 1
        self.line: Callable[[], int] = lambda: self.first_line
        self.compression: str | None = None
        self.text_bytes = 0
        self._csv = csv
        self._list: ListLines | None = None
        try:
            self._file = filesystem.open(ref)
        except OSError as exc:
            raise unreadable(ref.shown, exc) from exc
        self._counted_file = CountedFile(self._file)
        try:
            with self.errors():
                self.compression = compression_of_content(head_of(self._file), compression_of(ref))
                content = open_content(self._counted_file, self.compression, csv.encoding)
                self._content = self._prepared(content)
        except BaseException:
            self._file.close()
            raise

    @property
    def bytes_read(self) -> int:
        """Number of bytes of the file read so far."""
        return self._counted_file.bytes_read

    @property
    def left_out(self) -> Mapping[str, int]:
        """Number of lines left out of a list of SAP so far, by kind."""
        return {} if self._list is None else self._list.left_out

    @property
    def edge(self) -> bytes:
        """What the file has before and after each row, and the text has not: the outer delimiters of a list."""
        return b"" if self._list is None else self._list.delimiter

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def fail(self, message: str, line: int | None, hint: str = "") -> NoReturn:
        """Raise an error about a line.

        Raises:
            SourceReadError: Always.
        """
        fail(self.ref.shown, message, line, hint)

    def filled(self, size: int) -> memoryview:
        """Return the pending bytes and those that follow: at least `size` bytes, fewer only at the end of the file."""
        # Allocate from Arrow's pool, which reuses freed memory for the next block; fresh memory from the system has to be zeroed first.
        block = memoryview(pa.allocate_buffer(max(size, len(self.pending)))).cast("B")
        start = done = len(self.pending)
        block[:done] = self.pending
        if done < size:
            with self.errors():
                done += self._content.fill(block[done:size])
        self.text_bytes += done - start
        if done < len(block) // 2:  # a small file or the end of one: copy, so that the large buffer can be freed
            block = memoryview(bytes(block[:done]))
        self._check_text(block[:done], start)
        return block[:done]

    def _check_text(self, block: memoryview, start: int) -> None:
        if has_nul(block[start:]):
            line = self.line()
            data = bytes(block)
            before = data.count(b"\n", 0, data.index(b"\0"))
            self.fail("not text: it contains a NUL byte", line + before, "remove it: no text has one")

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Convert the errors of decompression, decoding, lines and the disk to `SourceReadError`."""
        try:
            yield
        except WrongKindError as exc:
            self.fail(str(exc), None, exc.hint)
        except EncodingError as exc:
            self.fail(str(exc), exc.line, exc.hint)
        except LineError as exc:
            self.fail(str(exc), exc.line, exc.hint)
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
            self.fail(f"damaged {self.compression} file after line {self.line()}: {exc}", None, "fetch it again")
        except OSError as exc:
            if self.compression is not None and exc.errno is None:
                self.fail(f"damaged {self.compression} file after line {self.line()}: {exc}", None, "fetch it again")
            raise unreadable(self.ref.shown, exc) from exc

    def _prepared(self, content: Content) -> Content:
        """Return the content from the header line onwards, with the marks of the dialect as single bytes."""
        csv = self._csv
        pieces = pieces_of(content)
        if csv.skip_lines:
            pieces = without_first_lines(pieces, csv.skip_lines)
            self.first_line += csv.skip_lines
        if csv.dialect == "excel":
            pieces = self._without_separator_line(pieces)
        if csv.escape or (self.delimiter is not None and (len(self.delimiter) > 1 or not self.delimiter.isascii())):
            known = DELIMITERS if self.delimiter is None else (self.delimiter,)
            self.spelling = Spelling(known, csv.quote_character, csv.escape or "")
        if csv.dialect == "sap-list" or self.spelling is not None:
            pieces = without_marks(pieces)
        self._leading, self._row = self._patterns()
        if csv.skip_footer:
            pieces = without_last_lines(pieces, csv.skip_footer, self._line_end)
        if csv.dialect == "sap-list":
            comment = (csv.comment or "").encode()
            self._list = ListLines(self.delimiter or "|", comment, self.first_line, csv.escape or "")
            pieces = self._list.rows(pieces)
        if self.spelling is not None:
            pieces = self.spelling.encoded(pieces)
        is_changed = csv.skip_lines or csv.skip_footer or csv.dialect in ("excel", "sap-list") or self.spelling
        self.is_as_stored = not is_changed
        return Content(Pieces(pieces)) if is_changed else content

    def _without_separator_line(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Return the text without the line at its start that names the delimiter, if there is one."""
        head = next((piece for piece in pieces if piece), b"")
        found = separator_of(head)
        if found is not None:
            head = head[len(found[1]) :]
            self.first_line += 1
            if self.delimiter is None:
                self.delimiter, self.chosen = found[0], "sep line"
        return itertools.chain([head], pieces)

    @property
    def mark(self) -> str | None:
        """The delimiter as the text has it; None if the first row shows it."""
        return self.delimiter if self.spelling is None else self.spelling.mark

    @property
    def comment(self) -> bytes:
        """What lines begin with that are no rows; empty if there are none."""
        return NO_ROW if self._csv.dialect == "sap-list" else (self._csv.comment or "").encode()

    def _patterns(self) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
        """Return the patterns of the lines before the first row, and of the first row."""
        quote = self._csv.quote_character
        marks = tuple(one for one in DELIMITERS if one != quote) if self.mark is None else (self.mark,)
        blanks = "".join(blank for blank in BLANKS if blank not in (*marks, quote)) if self._csv.trim else ""
        return leading_lines(self.comment, blanks), header_row(quote.encode(), "".join(marks).encode(), blanks)

    def match_first_row(self, text: bytes) -> tuple[int, re.Match[bytes] | None]:
        """Return where the first row of a text begins, and its match; the match is empty if the row is not whole."""
        skipped = self._leading.match(text)
        start = skipped.end() if skipped else 0
        return start, self._row.match(text, start)

    def _line_end(self, text: bytes) -> bytes:
        """Return the last byte of a line end of a text as stored, or nothing if its first row is not whole."""
        _, match = self.match_first_row(text if self.spelling is None else self.spelling.encode(text))
        return match[2][-1:] if match and match[1] and match.end() < len(match.string) else b""


def read_first_row(file: TextFile, csv: CsvSettings, block_bytes: int) -> tuple[FirstRow, Dialect, int]:
    """Return the first row, the dialect, and the line number of the first row that holds values; `file.pending` begins with it.

    Args:
        file: The file.
        csv: The settings, with those of their presets.
        block_bytes: Number of bytes to read at first.

    Raises:
        SourceReadError: There is no row, or it is malformed.
    """
    text, match = _matched(file, block_bytes)
    start, raw = match.start(), match[1]
    line = file.first_line + _count_lines(text[:start], file)
    mark, chosen = file.mark, file.chosen
    if mark is None:
        mark, chosen = choose_delimiter(raw, csv, file.ref.name)
    # A row at the very end may lack its line end; it then ends as the lines before it do.
    line_end = match[2] or (b"\r" if text[:start].endswith(b"\r") else b"\n")
    dialect = Dialect(mark, line_end, quote=csv.quote_character, trim=bool(csv.trim), comment=file.comment)
    cells = _cells(raw, dialect, file, "header line" if csv.has_header else "first line", line)
    spelled = raw if file.spelling is None else file.spelling.raw(raw)
    if line == 1 and csv.dialect != "excel" and separator_of(spelled) is not None:
        message = f"the first line is {spelled.decode()!r}: it names the delimiter for Excel and is no header line"
        file.fail(message, line, flag("dialect", "excel"))
    first = FirstRow(file.ref.shown, line, spelled, cells, file.delimiter or mark, chosen, csv.has_header)
    # Without a header line, the row is the first of the rows; in a table of one column, empty lines before it are rows, too.
    end = match.end() if csv.has_header else 0 if len(cells) == 1 else start
    file.pending = file.pending[end:]
    return first, dialect, file.first_line + _count_lines(text[:end], file)


def _matched(file: TextFile, size: int) -> tuple[bytes, re.Match[bytes]]:
    """Return the start of the file, which stays pending, and the match of its first row."""
    while True:
        block = file.pending = file.filled(size)
        grew = len(block) == size
        text = bytes(block)
        start, match = file.match_first_row(text)
        # A CR or an open quote at the very end may continue in the next block.
        if match and match[1] and (not grew or match.end() < len(text)):
            return text, match
        if not grew:
            if start == len(text):
                hint = "" if text else "--allow-empty loads an empty extract"
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
    escaped = 0 if file.spelling is None else max(file.spelling.escaped_line_ends(text, end) for end in (b"\n", b"\r"))
    return max(text.count(b"\n"), text.count(b"\r")) + escaped
