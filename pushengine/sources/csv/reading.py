"""One pass over one text file: the first lines, then the rows in blocks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import lzma
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, TypeAlias

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError, unreadable
from pushengine.interfaces import FileSystem, ReadableRows, SourceBatch, SourceBlock
from pushengine.model import FileRef
from pushengine.sources.csv.header import DELIMITERS, Columns, FirstRow, choose_delimiter, columns_of
from pushengine.sources.csv.layout import MAX_ROW_BYTES, SET_ENCODING, Layout, TextRows, fail
from pushengine.sources.csv.lines import (
    NO_ROW,
    LineError,
    ListLines,
    Pieces,
    pieces_of,
    separator_of,
    without_first_lines,
    without_last_lines,
)
from pushengine.sources.csv.raw_rows import BlockStart, RawRows
from pushengine.sources.csv.rows import BLANKS, Dialect, has_nul, header_row, leading_lines
from pushengine.sources.csv.spelling import Spelling
from pushengine.sources.files import compression_of
from pushengine.sources.first_bytes import WrongKindError, compression_of_content, head_of
from pushengine.sources.text_stream import Content, CountedFile, EncodingError, open_content
from pushengine.text import first_line, flag

BLOCK_BYTES = 7 * 1024 * 1024
"""Bytes of text parsed at once.

Smaller blocks spend more time on Python calls than on parsing, and those calls run one thread at a time. From 8 MiB onwards, jemalloc
returns the memory of each block to the system, which must zero the pages for the next block.
"""
_PROBE_BYTES = 64 * 1024
"""Bytes of rows that show whether a column without a name is empty."""

Arguments: TypeAlias = tuple[FileRef, EngineSettings, FileSystem, int, Sequence[str], threading.Event]
"""File, settings, file system, block size in bytes, columns in the order of the table, and an event that is set to stop the pass."""


class _TextBlock:
    """A block of whole rows as raw text from the file; an encoder thread parses it (`interfaces.SourceBlock`).

    Args:
        body: Text of the rows.
        layout: How to parse the text.
        position: Returns the first row and line of the block, by reading the file up to the block.
        start: Where the block begins; known only if rows may be rejected.
    """

    rows: None = None

    def __init__(
        self,
        body: TextRows,
        layout: Layout,
        position: Callable[[], tuple[int, int]],
        start: BlockStart | None = None,
    ) -> None:
        self._body = body
        self._layout = layout
        self._position = position
        self._start = start

    @property
    def nbytes(self) -> int:
        """Length of the text in bytes."""
        return self._body.text.nbytes

    def decode(self) -> SourceBatch:
        """Parse the rows. The position in the file is unknown, so the batch says row 0; see `located`."""
        return SourceBatch(self._layout.parse(self._body, self._position), self._layout.source, 0)

    def located(self, batch: SourceBatch) -> SourceBatch:
        """Return the batch with its first row and line, found by reading the file up to this block."""
        placed = self._layout.place(batch.batch, self._body, *self._position())
        return dataclasses.replace(placed, numbers=batch.numbers)

    def readable(self) -> ReadableRows:
        """Return the rows that have as many fields as there are columns, and the others.

        Raises:
            SourceReadError: The block is not UTF-8.
            SchemaError: A column that is left out because it is empty has a value.
        """
        assert self._start is not None  # noqa: S101 - the pass was opened with settings that allow rejects
        layout, body = self._layout, bytes(self._body.text)
        layout.require_utf8(body, self._start.line)
        rows = RawRows(body, layout, self._start)
        fields, numbers = len(layout.columns.names), rows.regular
        if not rows.ragged:
            return ReadableRows(self.decode(), fields=fields, raw=rows.raw)
        text = TextRows(memoryview(rows.text_of(numbers)), is_regular=False)
        batch = SourceBatch(layout.parse(text, self._position), layout.source, 0, numbers=numbers)
        return ReadableRows(batch, rows.ragged, fields, rows.raw)


class CsvPass:
    """One pass over one file.

    Rows and lines are not counted while reading, because counting takes as long as everything else together. If a message needs a position,
    the file is read again up to that block; the same arguments yield the same blocks.
    """

    def __init__(self, arguments: Arguments) -> None:
        ref, settings, filesystem, block_bytes, wanted_names, _ = arguments
        self._arguments = arguments
        self._ref = ref
        self._csv = settings.csv.filled()
        self._allows_rejects = settings.allows_rejects
        self._block_bytes = block_bytes
        self._text_bytes = 0
        self._pending = memoryview(b"")
        self._blocks_returned = 0
        self._list: ListLines | None = None
        self._counted: tuple[int, int] = (0, 1)
        self.compression: str | None = None
        try:
            self._file = filesystem.open(ref)
        except OSError as exc:
            raise unreadable(ref.uri, exc) from exc
        self._counted_file = CountedFile(self._file)
        try:
            with self._errors():
                self.compression = compression_of_content(head_of(self._file), compression_of(ref))
                content = open_content(self._counted_file, self.compression, settings.csv.encoding)
                self._content = self._prepared(content)
            self.first, dialect, self.first_line = self._read_first_row()
            self._counted = (0, self.first_line)
            self.layout = Layout(ref.uri, Columns(()), (), dialect, self._csv.null, self._spelling)
            columns = columns_of(self.first, self._csv, self._first_rows).spelled_like(wanted_names)
            self.layout = dataclasses.replace(
                self.layout, columns=columns, wanted_names=tuple(wanted_names) or columns.kept_names
            )
        except BaseException:
            self._file.close()
            raise

    def bytes_read(self) -> int:
        """Return the number of bytes of the file read so far."""
        return self._counted_file.bytes_read

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def skip(self, rows: int) -> int:
        """Return 0: rows cannot be skipped without reading them."""
        del rows
        return 0

    @property
    def left_out(self) -> Mapping[str, int]:
        """Number of lines left out of a list of SAP so far, by kind."""
        return {} if self._list is None else self._list.left_out

    # Errors and their positions

    def _fail(self, message: str, line: int | None, hint: str = "") -> NoReturn:
        fail(self._ref.uri, message, line, hint)

    def _line(self) -> int:
        """Return the number of the first line after the blocks yielded so far."""
        blocks, line = self._counted
        return (
            line if blocks == self._blocks_returned else _position_of_block(self._arguments, self._blocks_returned)[1]
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert the errors of decompression, decoding, lines and the disk to `SourceReadError`."""
        try:
            yield
        except WrongKindError as exc:
            self._fail(str(exc), None, exc.hint)
        except EncodingError as exc:
            self._fail(str(exc), exc.line, exc.hint)
        except LineError as exc:
            self._fail(str(exc), exc.line, exc.hint)
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
            self._fail(f"damaged {self.compression} file after line {self._line()}: {exc}", None, "fetch it again")
        except OSError as exc:
            if self.compression is not None and exc.errno is None:
                self._fail(f"damaged {self.compression} file after line {self._line()}: {exc}", None, "fetch it again")
            raise unreadable(self._ref.uri, exc) from exc

    def _check_text(self, block: memoryview, start: int) -> None:
        if has_nul(block[start:]):
            line = self._line()
            data = bytes(block)
            before = data.count(b"\n", 0, data.index(b"\0"))
            self._fail("not text: it contains a NUL byte", line + before, "remove it: no text has one")

    # First lines

    def _prepared(self, content: Content) -> Content:
        """Return the content from the header line onwards, with the marks of the dialect as single bytes."""
        csv = self._csv
        line = 1
        pieces = pieces_of(content)
        if csv.skip_lines:
            pieces = without_first_lines(pieces, csv.skip_lines)
            line += csv.skip_lines
        if csv.skip_footer:
            pieces = without_last_lines(pieces, csv.skip_footer)
        delimiter = csv.delimiter
        self._chosen = "given"
        if csv.dialect == "excel":
            head = next((piece for piece in pieces if piece), b"")
            found = separator_of(head)
            if found is not None:
                head = head[len(found[1]) :]
                line += 1
                if delimiter is None:
                    delimiter, self._chosen = found[0], "sep line"
            pieces = itertools.chain([head], pieces)
        if csv.dialect == "sap-list":
            self._list = ListLines(delimiter or "|", (csv.comment or "").encode(), line)
            pieces = self._list.rows(pieces)
        self._delimiter = delimiter
        self._spelling = None
        if csv.escape or (delimiter is not None and (len(delimiter) > 1 or not delimiter.isascii())):
            known = DELIMITERS if delimiter is None else (delimiter,)
            self._spelling = Spelling(known, csv.quote_character, csv.escape or "")
            pieces = self._spelling.encoded(pieces)
        self._counted = (0, line)
        is_changed = csv.skip_lines or csv.skip_footer or csv.dialect in ("excel", "sap-list") or self._spelling
        self._is_spelled_as_in_file = not is_changed
        return Content(Pieces(pieces)) if is_changed else content

    def _read_first_row(self) -> tuple[FirstRow, Dialect, int]:
        """Return the first row, the dialect, and the line number of the first row that holds values."""
        csv = self._csv
        mark = self._delimiter if self._spelling is None else self._spelling.mark
        comment = NO_ROW if self._list is not None else (csv.comment or "").encode()
        quote = csv.quote_character
        row_pattern = header_row(
            quote.encode(), "".join(DELIMITERS if mark is None else (mark,)).encode(), BLANKS if csv.trim else ""
        )
        size = self._block_bytes
        while True:
            block = self._filled(size)
            grew = len(block) == size
            text = bytes(block)
            skipped = leading_lines(comment, BLANKS if csv.trim else "").match(text)
            start = skipped.end() if skipped else 0
            match = row_pattern.match(text, start)
            # A CR or an open quote at the very end may continue in the next block.
            if match and match[1] and (not grew or match.end() < len(text)):
                break
            if not grew:
                if start == len(text):
                    hint = "" if text else "--allow-empty loads an empty extract"
                    self._fail("no header line: the file is empty", self._counted[1], hint)
                self._fail("the header line has unbalanced quotes", self._counted[1])
            self._pending = block
            size *= 2
            if size > 2 * MAX_ROW_BYTES:
                self._fail(f"the header line is longer than {MAX_ROW_BYTES} bytes", 1, "is it a text file?")
        raw, line_end = match[1], match[2] or b"\n"
        chosen = self._chosen
        if mark is None:
            mark, chosen = choose_delimiter(raw, csv, self._ref.name)
        dialect = Dialect(mark, line_end, quote=quote, trim=bool(csv.trim), comment=comment)
        line = self._counted[1] + _count_lines(text[:start])
        cells = self._cells(raw, dialect, line)
        spelled = raw if self._spelling is None else self._spelling.raw(raw)
        self._refuse_separator(spelled, line)
        first = FirstRow(self._ref.uri, line, spelled, cells, self._delimiter or mark, chosen, csv.has_header)
        if csv.has_header:
            self._pending = block[match.end() :]
            return first, dialect, line + _count_lines(match[0])
        # In a table of one column, an empty line is a row.
        start = 0 if len(cells) == 1 else start
        self._pending = block[start:]
        return first, dialect, self._counted[1] + _count_lines(text[:start])

    def _cells(self, row: bytes, dialect: Dialect, line: int) -> tuple[str, ...]:
        fields = dialect.split(row)
        what = "header line" if self._csv.has_header else "first line"
        if fields is None:
            self._fail(f"the {what} is malformed: text after a closing quote, or a quote that is not closed", line)
        try:
            return tuple(
                (field if self._spelling is None else self._spelling.value(field)).decode() for field in fields
            )
        except UnicodeDecodeError:
            self._fail(f"the {what} is not UTF-8 text", line, SET_ENCODING)

    def _refuse_separator(self, row: bytes, line: int) -> None:
        """Refuse a `sep=` line, which names the delimiter for Excel."""
        if self._csv.dialect != "excel" and line == 1 and separator_of(row) is not None and not self._csv.names:
            self._fail(
                f"the first line is {row.decode()!r}: it names the delimiter for Excel and is no header line",
                line,
                flag("dialect", "excel"),
            )

    def _first_rows(self) -> list[list[bytes]]:
        """Return the fields of the rows in the first 64 KiB after the header line."""
        self._pending = self._filled(_PROBE_BYTES)
        is_all = len(self._pending) < _PROBE_BYTES
        text = bytes(self._pending[:_PROBE_BYTES])
        rows = [row for row in self.layout.dialect.iter_rows(text) if row.fields and (is_all or row.end < len(text))]
        return [self.layout.dialect.split(text[row.start : row.end]) or [] for row in rows]

    # Rows

    def blocks(self) -> Iterator[_TextBlock]:
        """Yield all rows in blocks that are not parsed yet."""
        line = self.first_line
        for number, body in enumerate(self.bodies()):
            start = self._start_of(body, line) if self._allows_rejects else None
            if self.layout.has_rows(body):
                position = functools.partial(_position_of_block, self._arguments, number)
                yield _TextBlock(body, self.layout, position, start)
            if self._allows_rejects:
                line += self.layout.lines(body.text)

    def _start_of(self, body: TextRows, line: int) -> BlockStart:
        """Return where the block begins that was just cut; `line` is its first line."""
        at = self._text_bytes - len(self._pending) - body.text.nbytes
        edge = b"" if self._list is None else self.first.delimiter.encode()
        return BlockStart(line, at if self._is_spelled_as_in_file else None, edge)

    def decoded(self, max_bytes: int | None = None) -> Iterator[SourceBlock]:
        """Yield parsed rows with their row and line numbers: all rows, or about the first `max_bytes` bytes of text.

        Where rows may be rejected, a block with malformed rows is yielded as it is.
        """
        row = done = 0
        line = self.first_line
        for body in self.bodies():
            block = self.sampled(body, row, line)
            row += block.readable().rows
            line += self.layout.lines(body.text)
            self._counted = (self._blocks_returned, line)
            done += body.text.nbytes
            if block.rows != 0:
                yield block
            if max_bytes is not None and done + self._block_bytes // 2 > max_bytes:
                return

    def sampled(self, body: TextRows, row: int, line: int) -> SourceBlock:
        """Return the rows of the block that was just cut, parsed if all of them are well-formed.

        Raises:
            SourceReadError: They are not, and rows may not be rejected.
        """
        try:
            return self.layout.batch(body, row, line)
        except SourceReadError:
            if not self._allows_rejects:
                raise
        return _TextBlock(body, self.layout, lambda: (row, line), self._start_of(body, line))

    def bodies(self) -> Iterator[TextRows]:
        """Yield the text in blocks of whole rows."""
        # Blocks are cut here so that all cores can parse, memory stays flat and errors are exact. Arrow's own streaming reader reads
        # dozens of blocks ahead, fails on a row that is longer than a block, and silently accepts malformed quotes.
        size = self._block_bytes
        while len(block := self._filled(size)):
            is_last = len(block) < size
            cut, is_regular = self._complete_rows(block, is_last=is_last)
            self._pending = block[cut:]
            if not cut:
                if len(block) > MAX_ROW_BYTES:
                    self._fail(
                        f"a row of more than {MAX_ROW_BYTES} bytes begins here",
                        self._line(),
                        "is a closing quote missing?",
                    )
                size *= 2  # the row is longer than a block
                continue
            size = self._block_bytes
            self._blocks_returned += 1
            yield TextRows(block[:cut], is_regular)

    def _filled(self, size: int) -> memoryview:
        """Return the pending bytes and those that follow: at least `size` bytes, fewer only at the end of the file."""
        # Allocate from Arrow's pool, which reuses freed memory for the next block; fresh memory from the system has to be zeroed first.
        block = memoryview(pa.allocate_buffer(max(size, len(self._pending)))).cast("B")
        start = done = len(self._pending)
        block[:done] = self._pending
        if done < size:
            with self._errors():
                done += self._content.fill(block[done:size])
        self._text_bytes += done - start
        if done < len(block) // 2:  # a small file or the end of one: copy, so that the large buffer can be freed
            block = memoryview(bytes(block[:done]))
        self._check_text(block[:done], start)
        return block[:done]

    def _complete_rows(self, block: memoryview, *, is_last: bool) -> tuple[int, bool]:
        """Return the length of the whole rows at the start of a block, and whether their quotes are regular.

        Raises:
            SourceReadError: A row is malformed.
        """
        dialect = self.layout.dialect
        cut = dialect.regular_cut(block, is_last=is_last)
        if cut is not None:
            return cut, True
        text = bytes(block)
        cut = dialect.irregular_cut(text)
        rest = text[cut:]
        if not (dialect.last_row if is_last else dialect.partial_row).fullmatch(rest):
            self._malformed(rest, self._line() + self.layout.lines(text[:cut]))
        return len(text) if is_last else cut, False

    def _malformed(self, rest: bytes, line: int) -> NoReturn:
        dialect, lines = self.layout.dialect, self.layout.lines
        matched = dialect.fields.match(rest)
        at = matched.end() if matched else 0
        line += lines(rest[:at])
        if not dialect.quote or not dialect.stripped(rest[at:]).startswith(dialect.quote):
            end = "line feed" if dialect.line_end == b"\r" else "carriage return"
            self._fail(f"a lone {end} outside quotes, unlike the line ends before it", line, "are line ends mixed?")
        q = re.escape(dialect.quote)
        at = rest.index(dialect.quote, at)
        quoted = re.compile(rb"%b(?:[^%b]++|%b%b)*+%b" % (q, q, q, q, q)).match(rest, at)
        if quoted is None:
            self._fail("a quote opens here and is never closed", line)
        line += lines(rest[at : quoted.end()])
        self._fail("text after the closing quote of a field", line, "quotes inside a field must be doubled")


def _count_lines(text: bytes) -> int:
    return max(text.count(b"\n"), text.count(b"\r"))


def _position_of_block(arguments: Arguments, number: int) -> tuple[int, int]:
    """Return the first row and first line of block `number`, by reading the file up to that block.

    Raises:
        SourceReadError: The file has changed or can no longer be read, or the pass was stopped.
    """
    with contextlib.closing(CsvPass(arguments)) as reread:
        row, line = 0, reread.first_line
        for body in itertools.islice(reread.bodies(), number):
            if arguments[-1].is_set():
                raise SourceReadError("stopped while searching for the position of a row", source=arguments[0].uri)
            row += reread.sampled(body, row, line).readable().rows
            line += reread.layout.lines(body.text)
        return row, line


def first_bytes(ref: FileRef, settings: EngineSettings, filesystem: FileSystem) -> bytes:
    """Return the first 64 KiB of a file as UTF-8, without a line that is cut off; as they are if their encoding is not known.

    Raises:
        SourceReadError: They cannot be read.
    """
    head = memoryview(bytearray(_PROBE_BYTES))
    try:
        with filesystem.open(ref) as file:
            compression = compression_of_content(head_of(file), compression_of(ref))
            size = open_content(CountedFile(file), compression, settings.csv.encoding).fill(head)
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
        raise SourceReadError(first_line(exc), source=ref.uri) from exc
    text = bytes(head[:size])
    return text if size < len(head) else text.rpartition(b"\n")[0] or text
