"""One pass over one text file: the first lines, then the rows in blocks."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, TypeAlias

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.interfaces import FileSystem, ReadableRows, SourceBatch, SourceBlock
from pushengine.model import FileRef
from pushengine.sources.csv.header import Columns, columns_of
from pushengine.sources.csv.layout import MAX_ROW_BYTES, Layout, Position, TextRows
from pushengine.sources.csv.raw_rows import BlockStart, RawRows
from pushengine.sources.csv.rows import Dialect
from pushengine.sources.csv.text_file import TextFile, read_first_row

BLOCK_BYTES = 7 * 1024 * 1024
"""Bytes of text parsed at once.

Smaller blocks spend more time on Python calls than on parsing, and those calls run one thread at a time. From 8 MiB onwards, jemalloc
returns the memory of each block to the system, which must zero the pages for the next block.
"""
_PROBE_BYTES = 64 * 1024
"""Bytes of rows that show whether a column without a name is empty."""

Arguments: TypeAlias = tuple[FileRef, EngineSettings, FileSystem, int, Sequence[str], threading.Event]
"""File, settings, file system, block size in bytes, columns in the order of the table, and an event that is set to stop the pass."""

Watch: TypeAlias = Callable[[SourceBatch, Position], None]
"""Called with the parsed rows of a block and with what returns its position."""


class _TextBlock:
    """A block of whole rows as raw text from the file; an encoder thread parses it (`interfaces.SourceBlock`).

    Args:
        body: Text of the rows.
        layout: How to parse the text.
        position: Returns the first row and line of the block, by reading the file up to the block.
        start: Where the block begins; known only if rows may be rejected.
        watch: Called with the parsed rows and `position`, unless it is None.
    """

    rows: None = None

    def __init__(
        self,
        body: TextRows,
        layout: Layout,
        position: Position,
        start: BlockStart | None,
        watch: Watch | None,
    ) -> None:
        self._body = body
        self._layout = layout
        self._position = position
        self._start = start
        self._watch = watch

    @property
    def nbytes(self) -> int:
        """Length of the text in bytes."""
        return self._body.text.nbytes

    def decode(self) -> SourceBatch:
        """Parse the rows. The position in the file is unknown, so the batch says row 0; see `located`."""
        line = None if self._start is None else self._start.line
        return self._watched(SourceBatch(self._layout.parse(self._body, self._position, line), self._layout.source, 0))

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
        layout = self._layout
        layout.require_utf8(bytes(self._body.text), self._start.line)
        rows = RawRows(self._body, layout, self._start)
        fields = len(layout.columns.names)
        if not rows.ragged:
            return ReadableRows(self.decode(), fields=fields, raw=rows.raw)
        batch = SourceBatch(layout.parse(rows.without_ragged(), self._position), layout.source, 0, numbers=rows.regular)
        return ReadableRows(self._watched(batch), rows.ragged, fields, rows.raw)

    def _watched(self, batch: SourceBatch) -> SourceBatch:
        if self._watch is not None:
            self._watch(batch, self._position)
        return batch


class CsvPass:
    """One pass over one file.

    Rows and lines are not counted while reading, because counting takes as long as everything else together. If a message needs a position,
    the file is read again up to that block; the same arguments yield the same blocks.

    Attributes:
        watch: Called with the rows of each block, on the thread that parses it; None to call nothing.
    """

    def __init__(self, arguments: Arguments) -> None:
        ref, settings, filesystem, block_bytes, wanted_names, _ = arguments
        self.watch: Watch | None = None
        self._arguments = arguments
        self._allows_rejects = settings.allows_rejects
        self._block_bytes = block_bytes
        self._blocks_returned = 0
        csv = settings.csv.filled()
        self._file = TextFile(ref, csv, filesystem)
        try:
            self.first, dialect, self.first_line = read_first_row(self._file, csv, block_bytes)
            self._counted = (0, self.first_line)
            self._file.line = self._line
            layout = Layout(ref.shown, Columns(()), (), dialect, csv.null, self._file.spelling)
            columns = columns_of(self.first, csv, functools.partial(self._first_rows, dialect)).spelled_like(
                wanted_names
            )
            wanted_names = tuple(wanted_names) or columns.kept_names
            self.layout = dataclasses.replace(layout, columns=columns, wanted_names=wanted_names)
        except BaseException:
            self._file.close()
            raise

    def bytes_read(self) -> int:
        """Return the number of bytes of the file read so far."""
        return self._file.bytes_read

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def skip(self, rows: int) -> int:
        """Return 0: rows cannot be skipped without reading them."""
        del rows
        return 0

    @property
    def compression(self) -> str | None:
        """How the file is compressed, or None."""
        return self._file.compression

    @property
    def left_out(self) -> Mapping[str, int]:
        """Number of lines left out of a list of SAP so far, by kind."""
        return self._file.left_out

    def _line(self) -> int:
        """Return the number of the first line after the blocks yielded so far."""
        blocks, line = self._counted
        return (
            line if blocks == self._blocks_returned else _position_of_block(self._arguments, self._blocks_returned)[1]
        )

    def _first_rows(self, dialect: Dialect) -> list[list[bytes]]:
        """Return the fields of the rows in the first 64 KiB after the header line."""
        self._file.pending = self._file.filled(_PROBE_BYTES)
        is_all = len(self._file.pending) < _PROBE_BYTES
        text = bytes(self._file.pending[:_PROBE_BYTES])
        rows = [row for row in dialect.iter_rows(text) if row.fields and (is_all or row.end < len(text))]
        return [dialect.split(text[row.start : row.end]) or [] for row in rows]

    # Rows

    def blocks(self) -> Iterator[_TextBlock]:
        """Yield all rows in blocks that are not parsed yet."""
        line = self.first_line
        for number, body in enumerate(self.bodies()):
            start = self._start_of(body, line) if self._allows_rejects else None
            if self.layout.has_rows(body):
                position = functools.partial(_position_of_block, self._arguments, number)
                yield _TextBlock(body, self.layout, position, start, self.watch)
            if self._allows_rejects:
                line += self.layout.lines(body.text)

    def _start_of(self, body: TextRows, line: int) -> BlockStart:
        """Return where the block begins that was just cut; `line` is its first line."""
        file = self._file
        at = file.text_bytes - len(file.pending) - body.text.nbytes
        return BlockStart(line, at if file.is_as_stored else None, file.edge)

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
        return _TextBlock(body, self.layout, lambda: (row, line), self._start_of(body, line), None)

    def bodies(self) -> Iterator[TextRows]:
        """Yield the text in blocks of whole rows."""
        # Blocks are cut here so that all cores can parse, memory stays flat and errors are exact. Arrow's own streaming reader reads
        # dozens of blocks ahead, fails on a row that is longer than a block, and silently accepts malformed quotes.
        size = self._block_bytes
        while len(block := self._file.filled(size)):
            is_last = len(block) < size
            cut, is_regular = self._complete_rows(block, is_last=is_last)
            self._file.pending = block[cut:]
            if not cut:
                if len(block) > MAX_ROW_BYTES:
                    self._file.fail(
                        f"a row of more than {MAX_ROW_BYTES} bytes begins here",
                        self._line(),
                        "is a closing quote missing?",
                    )
                size *= 2  # the row is longer than a block
                continue
            size = self._block_bytes
            self._blocks_returned += 1
            yield TextRows(block[:cut], is_regular)

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
            self._file.fail(
                f"a lone {end} outside quotes, unlike the line ends before it", line, "are line ends mixed?"
            )
        q = re.escape(dialect.quote)
        at = rest.index(dialect.quote, at)
        quoted = re.compile(rb"%b(?:[^%b]++|%b%b)*+%b" % (q, q, q, q, q)).match(rest, at)
        if quoted is None:
            self._file.fail("a quote opens here and is never closed", line)
        line += lines(rest[at : quoted.end()])
        self._file.fail("text after the closing quote of a field", line, "quotes inside a field must be doubled")


def _position_of_block(arguments: Arguments, number: int) -> tuple[int, int]:
    """Return the first row and first line of block `number`, by reading the file up to that block.

    Raises:
        SourceReadError: The file has changed or can no longer be read, or the pass was stopped.
    """
    with contextlib.closing(CsvPass(arguments)) as reread:
        row, line = 0, reread.first_line
        for body in itertools.islice(reread.bodies(), number):
            if arguments[-1].is_set():
                raise SourceReadError("stopped while searching for the position of a row", source=arguments[0].shown)
            row += reread.sampled(body, row, line).readable().rows
            line += reread.layout.lines(body.text)
        return row, line
