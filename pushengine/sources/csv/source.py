"""Source over CSV and other delimited text, read strictly.

The reader thread cuts a file into blocks of whole rows. An encoder thread then parses each block with Arrow, with every column as text;
`pushengine.schema.inference` determines the column types.

File format:

- A quote is special only at the start of a field; a quote inside a quoted field is doubled. Any other quote (`5" pipe`) is an ordinary
  character. Text after a closing quote and a quote that is never closed are errors; other readers drop the quotes or lose rows there.
- Rows end with LF or CRLF, or with CR in a file whose first line ends with a lone CR. Outside quotes, any other line end is an error.
- An empty line is not a row, except in a file with one column, where it is a NULL.
- An unquoted empty field is NULL; `""` is an empty string.
- The first line that is not empty holds the column names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import lzma
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError, unreadable
from pushengine.interfaces import FileSystem, SourceBatch, Structure
from pushengine.model import FileRef
from pushengine.sources.csv.rows import HEADER_ROW, QUOTED_PART, Dialect, has_nul
from pushengine.sources.files import FilesSource, compression_of
from pushengine.sources.text_stream import CountedFile, EncodingError, open_content
from pushengine.text import first_line, flag

BLOCK_BYTES = 7 * 1024 * 1024
"""Bytes of text parsed at once.

Smaller blocks spend more time on Python calls than on parsing, and those calls run one thread at a time. From 8 MiB onwards, jemalloc
returns the memory of each block to the system, which must zero the pages for the next block.
"""
MAX_ROW_BYTES = 32 * 1024 * 1024
"""Maximum length of a row; a longer one most likely contains a quote that is never closed."""
_MIN_SAMPLE_BYTES = 64 * 1024
_ARROW_BLOCK_BYTES = 4 * MAX_ROW_BYTES
_MIN_BLOCK_BYTES = 4096
_DELIMITERS = (",", ";", "\t", "|")
_SET_ENCODING = f"name its encoding, such as {flag('encoding', 'cp1252')}"


# --- Rows -------------------------------------------------------------------------------------------------------------------------


def _fail(source: str, message: str, line: int | None, hint: str = "") -> NoReturn:
    position = None if line is None else f"line {line}"
    raise SourceReadError(message, source=source, position=position, hint=hint)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How the text of one file becomes record batches.

    Attributes:
        source: Name of the file in messages.
        names: Column names in the order of the header line.
        wanted_names: The same names in the order of the table.
        dialect: Delimiter and line end.
    """

    source: str
    names: tuple[str, ...]
    wanted_names: tuple[str, ...]
    dialect: Dialect

    def lines(self, body: bytes | memoryview) -> int:
        """Count the line ends in some whole rows, including those inside quotes."""
        return bytes(body).count(b"\r" if self.dialect.line_end == b"\r" else b"\n")

    def parse(self, body: bytes | memoryview, first_line: Callable[[], int | None]) -> pa.RecordBatch:
        """Parse whole rows into one batch, with every column as text.

        Args:
            body: Text of the rows.
            first_line: Returns the number of their first line, or None if unknown; called only to report an error.

        Raises:
            SourceReadError: A row has more or fewer fields than the header line, or is not UTF-8.
        """
        try:
            _require_utf8(body)
            if body[-1] not in b"\r\n":
                # At the end of the data, Arrow treats an empty field as quoted if the field before it is quoted.
                body = bytes(body) + self.dialect.line_end
            table = arrow_csv.read_csv(pa.py_buffer(body), *self._options)
        except pa.ArrowInvalid as exc:
            self._refuse(bytes(body), first_line() or 1, exc)
        batches = table.to_batches()
        if len(batches) > 1:
            batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)

    @functools.cached_property
    def _options(self) -> tuple[Any, Any, Any]:
        return (
            arrow_csv.ReadOptions(column_names=self.names, use_threads=False, block_size=_ARROW_BLOCK_BYTES),
            arrow_csv.ParseOptions(
                delimiter=self.dialect.delimiter, newlines_in_values=True, ignore_empty_lines=len(self.names) > 1
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(self.names, pa.string()),
                include_columns=self.wanted_names,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _refuse(self, body: bytes, line: int, exc: pa.ArrowInvalid) -> NoReturn:
        """Raise the error for a block that Arrow rejected, with the line number found by a slow second pass over the block."""
        expected = len(self.names)
        end = self.dialect.line_end[-1:]
        for offset, fields in self.dialect.iter_rows(body):
            if fields != expected and (fields or expected == 1):
                _fail(self.source, f"expected {expected} fields, found {fields}", line + body.count(end, 0, offset))
        try:
            body.decode()
        except UnicodeDecodeError as problem:
            _fail(
                self.source,
                f"not UTF-8 text: {problem.reason}",
                line + body.count(end, 0, problem.start),
                _SET_ENCODING,
            )
        _fail(self.source, first_line(exc), line)

    def batch(self, body: bytes | memoryview, row: int, line: int) -> SourceBatch:
        """Parse whole rows whose first row and line are known."""
        return self.place(self.parse(body, lambda: line), body, row, line)

    def place(self, batch: pa.RecordBatch, body: bytes | memoryview, row: int, line: int) -> SourceBatch:
        """Return a parsed batch with its position; the line is set only if every row takes exactly one line."""
        ends = self.lines(body) + (not bytes(body[-1:]).endswith((b"\n", b"\r")))
        return SourceBatch(batch, self.source, row, line if batch.num_rows == ends else None)


def _require_utf8(body: bytes | memoryview) -> None:
    """Check that a block is UTF-8, as a single string.

    Checking each value takes four times as long and finds no more, since fields are cut at ASCII characters.

    Raises:
        pa.ArrowInvalid: The block is not UTF-8.
    """
    ends = pa.py_buffer(np.array([0, len(body)], np.int32))
    pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(body)]).validate(full=True)


class _TextBlock:
    """A block of whole rows as raw text from the file; an encoder thread parses it (`interfaces.SourceBlock`).

    Args:
        body: Text of the rows.
        layout: How to parse the text.
        position: Returns the first row and line of the block, by reading the file up to the block.
    """

    rows: None = None

    def __init__(self, body: memoryview, layout: _Layout, position: Callable[[], tuple[int, int]]) -> None:
        self._body = body
        self._layout = layout
        self._position = position

    @property
    def nbytes(self) -> int:
        """Length of the text in bytes."""
        return self._body.nbytes

    def decode(self) -> SourceBatch:
        """Parse the rows. The position in the file is unknown, so the batch says row 0; see `located`."""
        batch = self._layout.parse(self._body, lambda: self._position()[1])
        return SourceBatch(batch, self._layout.source, 0)

    def located(self, batch: SourceBatch) -> SourceBatch:
        """Return the batch with its first row and line, found by reading the file up to this block."""
        return self._layout.place(batch.batch, self._body, *self._position())


_Arguments: TypeAlias = tuple[FileRef, EngineSettings, FileSystem, int, Sequence[str], threading.Event]
"""File, settings, file system, block size in bytes, columns in the order of the table, and an event that is set to stop the pass."""


class _CsvPass:
    """One pass over one file.

    Rows and lines are not counted while reading, because counting takes as long as everything else together. If a message needs a position,
    the file is read again up to that block; the same arguments yield the same blocks.
    """

    def __init__(self, arguments: _Arguments) -> None:
        ref, settings, filesystem, block_bytes, wanted_names, _ = arguments
        self._arguments = arguments
        self._ref = ref
        self._csv = settings.csv.filled()
        self._block_bytes = block_bytes
        self._pending = memoryview(b"")
        self._blocks_returned = 0
        self._counted: tuple[int, int] = (0, 1)
        self._kind = compression_of(ref)
        try:
            self._file = filesystem.open(ref)
        except OSError as exc:
            raise unreadable(ref.uri, exc) from exc
        self._counted_file = CountedFile(self._file)
        try:
            with self._errors():
                self._content = open_content(self._counted_file, self._kind, settings.csv.encoding or "utf-8")
            names, dialect, lines = self._read_header()
            self.layout = _Layout(ref.uri, names, tuple(wanted_names) or names, dialect)
            self.first_line = lines + 1
            self._counted = (0, self.first_line)
        except BaseException:
            self._file.close()
            raise

    def bytes_read(self) -> int:
        return self._counted_file.bytes_read

    def close(self) -> None:
        self._file.close()

    def skip(self, rows: int) -> int:
        del rows
        return 0

    # Errors and their positions

    def _fail(self, message: str, line: int | None, hint: str = "") -> NoReturn:
        _fail(self._ref.uri, message, line, hint)

    def _line(self) -> int:
        """Return the number of the first line after the blocks yielded so far."""
        blocks, line = self._counted
        return (
            line if blocks == self._blocks_returned else _position_of_block(self._arguments, self._blocks_returned)[1]
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert the errors of decompression, decoding and the disk to `SourceReadError`."""
        try:
            yield
        except EncodingError as exc:
            self._fail(str(exc), exc.line, _SET_ENCODING)
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
            self._fail(f"damaged {self._kind} file after line {self._line()}: {exc}", None, "fetch it again")
        except OSError as exc:
            if self._kind is not None and exc.errno is None:
                self._fail(f"damaged {self._kind} file after line {self._line()}: {exc}", None, "fetch it again")
            raise unreadable(self._ref.uri, exc) from exc

    def _check_text(self, block: memoryview, start: int) -> None:
        if has_nul(block[start:]):
            line = self._line()
            data = bytes(block)
            before = data.count(b"\n", 0, data.index(b"\0"))
            self._fail(
                "not text: it contains a NUL byte", line + before, f"is it UTF-16? {_SET_ENCODING}" if line == 1 else ""
            )

    # Header

    def _read_header(self) -> tuple[tuple[str, ...], Dialect, int]:
        size = self._block_bytes
        while True:
            block = self._filled(size)
            grew = len(block) == size
            text = bytes(block)
            row = text.lstrip(b"\r\n")
            match = HEADER_ROW.match(row)
            # A CR or an open quote at the very end may continue in the next block.
            if match and match[1] and (not grew or match.end() < len(row)):
                break
            if not grew:
                if not row:
                    hint = "" if text or self._kind else "--allow-empty loads an empty extract"
                    self._fail("no header line: the file is empty", 1, hint)
                self._fail("the header line has unbalanced quotes", 1)
            self._pending = block
            size *= 2
            if size > 2 * MAX_ROW_BYTES:
                self._fail(f"the header line is longer than {MAX_ROW_BYTES} bytes", 1, "is it a text file?")
        skipped = text[: len(text) - len(row)]
        lines = max(skipped.count(b"\n"), skipped.count(b"\r"))
        header = match[1]
        dialect = Dialect(self._delimiter(header), match[2] or b"\n")
        names = self._names(header, dialect, lines + 1)
        self._pending = block[len(skipped) + match.end() :]
        end = b"\r" if dialect.line_end == b"\r" else b"\n"
        return names, dialect, lines + match[0].count(end)

    def _delimiter(self, header: bytes) -> str:
        if self._csv.delimiter is not None:
            return self._csv.delimiter
        bare = QUOTED_PART.sub(b"", header)
        if b"\t" in bare and ".tsv" in self._ref.name.lower():
            return "\t"
        return max(_DELIMITERS, key=lambda delimiter: bare.count(delimiter.encode()))

    def _names(self, header: bytes, dialect: Dialect, line: int) -> tuple[str, ...]:
        fields = dialect.split(header)
        if fields is None:
            self._fail("the header line is malformed: text after a closing quote, or a quote that is not closed", line)
        try:
            names = tuple(field.decode() for field in fields)
        except UnicodeDecodeError:
            self._fail("the header line is not UTF-8 text", line, _SET_ENCODING)
        for number, name in enumerate(names, 1):
            problem = f"column {number} has no name" if not name.strip() else f"column {name} appears twice"
            if not name.strip() or name in names[: number - 1]:
                raise SchemaError(f"{problem} in the header line", source=self._ref.uri, position=f"line {line}")
        return names

    # Rows

    def blocks(self) -> Iterator[_TextBlock]:
        """Yield all rows in blocks that are not parsed yet."""
        for number, body in enumerate(self.bodies()):
            if not self._is_blank(body):
                yield _TextBlock(body, self.layout, functools.partial(_position_of_block, self._arguments, number))

    def _is_blank(self, body: memoryview) -> bool:
        """Whether a block has only empty lines that do not count as rows."""
        return len(self.layout.names) > 1 and body[0] in b"\r\n" and not bytes(body).strip(b"\r\n")

    def decoded(self, max_bytes: int | None = None) -> Iterator[SourceBatch]:
        """Yield parsed rows with their row and line numbers: all rows, or about the first `max_bytes` bytes of text."""
        row = done = 0
        line = self.first_line
        for body in self.bodies():
            batch = self.layout.batch(body, row, line)
            row += batch.rows
            line += self.layout.lines(body)
            self._counted = (self._blocks_returned, line)
            done += body.nbytes
            if batch.rows:
                yield batch
            if max_bytes is not None and done + self._block_bytes // 2 > max_bytes:
                return

    def bodies(self) -> Iterator[memoryview]:
        """Yield the text in blocks of whole rows."""
        # Blocks are cut here so that all cores can parse, memory stays flat and errors are exact. Arrow's own streaming reader reads
        # dozens of blocks ahead, fails on a row that is longer than a block, and silently accepts malformed quotes.
        size = self._block_bytes
        while len(block := self._filled(size)):
            is_last = len(block) < size
            cut = self._complete_rows(block, is_last=is_last)
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
            yield block[:cut]

    def _filled(self, size: int) -> memoryview:
        """Return the pending bytes and those that follow: at least `size` bytes, fewer only at the end of the file."""
        # Allocate from Arrow's pool, which reuses freed memory for the next block; fresh memory from the system has to be zeroed first.
        block = memoryview(pa.allocate_buffer(max(size, len(self._pending)))).cast("B")
        start = done = len(self._pending)
        block[:done] = self._pending
        if done < size:
            with self._errors():
                done += self._content.fill(block[done:size])
        if done < len(block) // 2:  # a small file or the end of one: copy, so that the large buffer can be freed
            block = memoryview(bytes(block[:done]))
        self._check_text(block[:done], start)
        return block[:done]

    def _complete_rows(self, block: memoryview, *, is_last: bool) -> int:
        """Return the length of the whole rows at the start of a block.

        Raises:
            SourceReadError: A row is malformed.
        """
        dialect = self.layout.dialect
        cut = dialect.regular_cut(block, is_last=is_last)
        if cut is not None:
            return cut
        text = bytes(block)
        cut = dialect.irregular_cut(text)
        rest = text[cut:]
        if not (dialect.last_row if is_last else dialect.partial_row).fullmatch(rest):
            self._malformed(rest, self._line() + text.count(dialect.line_end[-1:], 0, cut))
        return len(text) if is_last else cut

    def _malformed(self, rest: bytes, line: int) -> NoReturn:
        dialect = self.layout.dialect
        matched = dialect.fields.match(rest)
        at = matched.end() if matched else 0
        line += rest.count(dialect.line_end[-1:], 0, at)
        if rest[at : at + 1] != b'"':
            end = "line feed" if dialect.line_end == b"\r" else "carriage return"
            self._fail(f"a lone {end} outside quotes, unlike the line ends before it", line, "are line ends mixed?")
        quoted = re.compile(rb'"(?:[^"]++|"")*+"').match(rest, at)
        if quoted is None:
            self._fail("a quote opens here and is never closed", line)
        line += rest.count(dialect.line_end[-1:], at, quoted.end())
        self._fail("text after the closing quote of a field", line, "quotes inside a field must be doubled")


def _position_of_block(arguments: _Arguments, number: int) -> tuple[int, int]:
    """Return the first row and first line of block `number`, by reading the file up to that block.

    Raises:
        SourceReadError: The file has changed or can no longer be read, or the pass was stopped.
    """
    with contextlib.closing(_CsvPass(arguments)) as reread:
        row, line = 0, reread.first_line
        for body in itertools.islice(reread.bodies(), number):
            if arguments[-1].is_set():
                raise SourceReadError("stopped while searching for the position of a row", source=arguments[0].uri)
            row += reread.layout.parse(body, lambda: None).num_rows
            line += reread.layout.lines(body)
        return row, line


# --- The source -------------------------------------------------------------------------------------------------------------------


class CsvSource(FilesSource):
    """CSV files as one table, with every column as text."""

    is_text = True
    knows_rows = False
    min_sample_bytes = _MIN_SAMPLE_BYTES

    def __init__(
        self, refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem
    ) -> None:
        super().__init__(refs, label=label, filesystem=filesystem)
        self._settings = settings
        self._names: tuple[str, ...] | None = None
        self._delimiter: str | None = None
        self._is_sample_complete = False

    def schema(self) -> pa.Schema:
        """Return all columns as strings, in the order of the first file. Reads the header line of every file.

        Raises:
            SourceReadError: A file cannot be read or has no header line.
            SchemaError: A column name is empty or duplicated, or the files have different columns.
        """
        if self._names is None:
            for ref in self.files:
                with contextlib.closing(self._pass(ref, 64 * 1024, ())) as one:
                    self._delimiter = self._delimiter or one.layout.dialect.delimiter
                    self._require_columns(ref, one.layout.names)
        return pa.schema([pa.field(name, pa.string()) for name in self._names or ()])

    def _require_columns(self, ref: FileRef, names: tuple[str, ...]) -> tuple[str, ...]:
        if self._names is None:
            self._names = names
        missing = [name for name in self._names if name not in names]
        extra = [name for name in names if name not in self._names]
        if missing or extra:
            parts = [f"{word} {', '.join(found[:5])}" for word, found in (("lacks", missing), ("adds", extra)) if found]
            raise SchemaError(
                f"columns differ from those in {self.files[0].uri}: {' and '.join(parts)}",
                source=ref.uri,
                position="line 1",
            )
        return self._names

    def _pass(self, ref: FileRef, block_bytes: int, wanted_names: Sequence[str]) -> _CsvPass:
        return _CsvPass((ref, self._settings, self._filesystem, block_bytes, wanted_names, self.stopped))

    def _open(self, ref: FileRef, max_block_bytes: int | None = None) -> _CsvPass:
        block_bytes = min(max_block_bytes or BLOCK_BYTES, self._settings.fitting_chunk_bytes)
        one = self._pass(ref, block_bytes, self._names or ())
        try:
            self._require_columns(ref, one.layout.names)
        except BaseException:
            one.close()
            raise
        return one

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Yield the start of each file, or of an even selection if there are many: about `max_bytes` of text, or all of a small source."""
        self.schema()
        self._is_sample_complete = not any(map(compression_of, self.files)) and self.size_bytes() <= max_bytes
        yield from super().sample(max_bytes)

    def structure(self) -> Structure:
        """Return how the text is written."""
        delimiters = {} if self._delimiter is None else {"delimiter": self._delimiter}
        return Structure({**self._settings.csv.to_dict(), **delimiters})

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        block_bytes = min(BLOCK_BYTES, max(max_bytes, _MIN_BLOCK_BYTES))
        with contextlib.closing(self._open(ref, block_bytes)) as one:
            yield from one.decoded(None if self._is_sample_complete else max(max_bytes, block_bytes))


def open_files(refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> CsvSource:
    """Return the source over these files. Called by `registry.open_source`."""
    return CsvSource(refs, label=label, settings=settings, filesystem=filesystem)
