"""CSV and other delimited text, read strictly.

A file is cut into blocks of whole rows, and each block is parsed by Arrow with every column as text; what the texts mean is for
`pushengine.schema` to settle. Cutting ourselves keeps row and line numbers exact, memory flat and errors local: Arrow's own streaming
reader reads ahead dozens of blocks, stops at a row longer than a block, and takes malformed quotes without a word.

What a row is:

- A quote has a meaning at the start of a field only; inside, it is doubled. A quote elsewhere (`5" pipe`) is a character. Text after a
  closing quote, and a quote that is never closed, are errors: other readers drop the quotes or swallow the rows.
- Rows end with LF or CRLF; in a file whose first line ends with a lone CR, with CR. The other ends are errors outside of quotes.
- An empty line is no row, except in a file of one column, where it is a NULL.
- An unquoted empty field is NULL; `""` is an empty string.
- The first line that is not empty holds the column names.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import dataclasses
import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol

import pyarrow as pa
import pyarrow.csv as arrow_csv

from pushengine.config import EngineSettings
from pushengine.errors import ConfigError, SchemaError, SourceReadError
from pushengine.sources.base import FilesSource, compression_of, require_rows, spread, unreadable
from pushengine.types import FileSystem, SourceBatch

BLOCK_BYTES = 1024 * 1024
MAX_ROW_BYTES = 32 * 1024 * 1024
"""A longer row is taken for a quote that is not closed."""
_MIN_SAMPLE_BYTES = 64 * 1024
_MIN_BLOCK_BYTES = 4096
_DELIMITERS = (",", ";", "\t", "|")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


# --- Bytes ------------------------------------------------------------------------------------------------------------------------


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted:
    """A file that knows how much was read of it; short reads are completed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            data = self._file.read(size)
            if not data:
                break
            size -= len(data)
            self.bytes_read += len(data)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Inflated:
    """The content of a gzip, bzip2 or xz file, of several members too; a file that breaks off is an error."""

    def __init__(self, file: _Readable, kind: str) -> None:
        self._file = file
        self._kind = kind
        self._decoder = self._new()
        self._is_fresh = True
        self._input = b""

    def _new(self) -> Any:
        if self._kind == "gzip":
            return zlib.decompressobj(wbits=31)
        return bz2.BZ2Decompressor() if self._kind == "bz2" else lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            data = self._some(size)
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while True:
            if self._decoder.eof:
                self._input = self._decoder.unused_data.lstrip(b"\0") or self._file.read(BLOCK_BYTES).lstrip(b"\0")
                if not self._input:
                    return b""
                self._decoder, self._is_fresh = self._new(), True
            elif self._kind == "gzip":
                self._input = self._decoder.unconsumed_tail or self._file.read(BLOCK_BYTES)
            else:
                self._input = self._file.read(BLOCK_BYTES) if self._decoder.needs_input else b""
            if not self._input and (self._kind == "gzip" or self._decoder.needs_input):
                if self._is_fresh:
                    return b""
                raise EOFError("the compressed file breaks off before its end")
            self._is_fresh = False
            data: bytes = self._decoder.decompress(self._input, size)
            if data:
                return data


class _ArrowInflated:
    """The content of a zstd or lz4 file."""

    def __init__(self, file: _Counted, kind: str) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Raw(file), mode="r"), kind)

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        return data


class _Raw:
    """A counted file with what Arrow asks of a file object."""

    closed = False

    def __init__(self, file: _Counted) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        """The pass owns the file."""


class _Recoded:
    """Text of another encoding as UTF-8."""

    def __init__(self, file: _Readable, encoding: str, head: bytes) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._head = head
        self._is_done = False
        self.lines = 0

    def read(self, size: int) -> bytes:
        while not self._is_done:
            raw, self._head = self._head or self._file.read(size), b""
            self._is_done = not raw
            try:
                text = self._decoder.decode(raw, final=self._is_done)
            except UnicodeDecodeError as exc:
                good = exc.object[: exc.start].decode(self._encoding, "ignore")
                raise _EncodingError(self.lines + good.count("\n") + 1, self._encoding, exc) from exc
            if text:
                self.lines += text.count("\n")
                return text.encode("utf-8", "surrogatepass")
        return b""


class _EncodingError(ValueError):
    def __init__(self, line: int, encoding: str, exc: UnicodeDecodeError) -> None:
        super().__init__(f"not {encoding} text: {exc.reason}")
        self.line = line


class _WithHead:
    """Bytes that were looked at already, then the rest."""

    def __init__(self, file: _Readable, head: bytes) -> None:
        self._file = file
        self._head = head

    def read(self, size: int) -> bytes:
        head, self._head = self._head, b""
        return head or self._file.read(size)


def _text_bytes(file: _Readable, encoding: str) -> _Readable:
    """UTF-8 without byte order mark, whatever the file has."""
    head = file.read(4)
    for mark, marked_encoding in _BOMS:
        if head.startswith(mark):
            if marked_encoding == "utf-8":
                return _WithHead(file, head[len(mark) :])
            return _Recoded(file, marked_encoding, head)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return _WithHead(file, head)
    return _Recoded(file, encoding, head)


# --- Rows -------------------------------------------------------------------------------------------------------------------------


_HEADER_ROW = re.compile(rb'((?:(?:(?<=[,;\t|])|\A)"(?:[^"]++|"")*+"|[^"\r\n]++|(?<=[^,;\t|])")*+)(\r\n|\n|\r|\Z)')
_QUOTED_PART = re.compile(rb'(?:(?<=[,;\t|])|\A)"(?:[^"]++|"")*+"')


class _Dialect:
    """Delimiter and line end of a file, as patterns over bytes."""

    def __init__(self, delimiter: str, line_end: bytes) -> None:
        self.delimiter = delimiter
        self.line_end = line_end
        d = re.escape(delimiter.encode())
        end = rb"\r" if line_end == b"\r" else rb"\r?\n"
        quoted = rb'"(?:[^"]++|"")*+"'
        plain = rb"[^\"%b\r\n][^%b\r\n]*+" % (d, d)
        field = rb"(?:%b|%b|)" % (quoted, plain)
        self.field = re.compile(rb"(%b)(%b|%b|\Z)" % (field, d, end))
        self.fields = re.compile(rb"(?:%b%b)*+" % (field, d))
        self.rows = re.compile(rb"(?:(?:%b%b)*+%b%b)*+" % (field, d, field, end))
        self.last_row = re.compile(rb"(?:%b%b)*+%b" % (field, d, field))
        self.begun_row = re.compile(rb'(?:%b%b)*+(?:%b|"(?:[^"]++|"")*+"?)\r?' % (field, d, field))

    def split(self, row: bytes) -> list[bytes] | None:
        """Fields of one row without its line end, unquoted; None if it is malformed."""
        if not self.last_row.fullmatch(row):
            return None
        fields = []
        for match in self.field.finditer(row):
            is_quoted = match[1].startswith(b'"')
            fields.append(match[1][1:-1].replace(b'""', b'"') if is_quoted else match[1])
            if not match[2]:
                break
        return fields

    def iter_rows(self, block: bytes) -> Iterator[tuple[int, int]]:
        """(offset, number of fields) of each row of a well-formed block."""
        start = fields = 0
        for match in self.field.finditer(block):
            fields += 1
            if match[2] != self.delimiter.encode():
                if match.end() > start:
                    yield start, fields if match.end() - len(match[2]) > start else 0
                start, fields = match.end(), 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    names: tuple[str, ...]
    dialect: _Dialect
    lines: int


class _CsvPass:
    """One file being read."""

    def __init__(
        self, path: Path, settings: EngineSettings, filesystem: FileSystem, block_bytes: int = BLOCK_BYTES
    ) -> None:
        self._path = path
        self._settings = settings
        self._block_bytes = block_bytes
        self._pending = b""
        self._is_at_end = False
        try:
            self._file = filesystem.open_binary(path)
        except OSError as exc:
            raise unreadable(str(path), exc) from exc
        self._counted = _Counted(self._file)
        try:
            self._content = self._opened()
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def _opened(self) -> _Readable:
        kind = compression_of(self._path)
        with self._errors(1):
            content: _Readable = self._counted
            if kind in ("zstd", "lz4"):
                content = _ArrowInflated(self._counted, kind)
            elif kind is not None:
                content = _Inflated(self._counted, kind)
            return _text_bytes(content, self._settings.csv_encoding)

    def bytes_read(self) -> int:
        return self._counted.bytes_read

    def close(self) -> None:
        self._file.close()

    def _fail(self, message: str, line: int | None, hint: str = "") -> NoReturn:
        position = None if line is None else f"line {line}"
        raise SourceReadError(message, source=str(self._path), position=position, hint=hint)

    @contextlib.contextmanager
    def _errors(self, line: int) -> Iterator[None]:
        """What decompression, decoding and the disk may raise, as our error."""
        try:
            yield
        except _EncodingError as exc:
            self._fail(str(exc), exc.line, "set csv_encoding")
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
            self._fail(f"damaged {compression_of(self._path)} file after line {line}: {exc}", None, "fetch it again")
        except OSError as exc:
            if compression_of(self._path) is not None and exc.errno is None:
                self._fail(
                    f"damaged {compression_of(self._path)} file after line {line}: {exc}", None, "fetch it again"
                )
            raise unreadable(str(self._path), exc) from exc

    def _read_more(self, size: int, line: int) -> bool:
        """Fill up what is pending to a size; False once the end of the file is reached."""
        size -= len(self._pending)
        if self._is_at_end or size <= 0:
            return not self._is_at_end
        with self._errors(line):
            data = self._content.read(size)
        self._is_at_end = not data
        if b"\0" in data:
            before = self._pending.count(b"\n") + data.count(b"\n", 0, data.index(b"\0"))
            hint = "is it UTF-16? set csv_encoding" if line == 1 else ""
            self._fail("not text: there is a NUL byte", line + before, hint)
        self._pending += data
        return bool(data)

    def _read_header(self) -> _Header:
        size = self._block_bytes
        while True:
            grew = self._read_more(size, 1)
            row = self._pending.lstrip(b"\r\n")
            match = _HEADER_ROW.match(row)
            # a CR or an open quote at the very end may go on in the next block
            if match and match[1] and (not grew or match.end() < len(row)):
                break
            if not grew:
                self._fail(
                    "no header line: the file is empty" if not row else "the quotes of the header line do not match", 1
                )
            size = max(size, 2 * len(self._pending))
            if size > 2 * MAX_ROW_BYTES:
                self._fail(f"the header line is longer than {MAX_ROW_BYTES} bytes", 1, "is it a text file?")
        skipped = self._pending[: len(self._pending) - len(row)]
        lines = max(skipped.count(b"\n"), skipped.count(b"\r"))
        header = match[1]
        dialect = _Dialect(self._delimiter(header), match[2] or b"\n")
        names = self._names(header, dialect, lines + 1)
        self._pending = row[match.end() :]
        end = b"\r" if dialect.line_end == b"\r" else b"\n"
        return _Header(names, dialect, lines + match[0].count(end))

    def _delimiter(self, header: bytes) -> str:
        if self._settings.csv_delimiter is not None:
            return self._settings.csv_delimiter
        bare = _QUOTED_PART.sub(b"", header)
        if b"\t" in bare and ".tsv" in self._path.name.lower():
            return "\t"
        return max(_DELIMITERS, key=lambda delimiter: bare.count(delimiter.encode()))

    def _names(self, header: bytes, dialect: _Dialect, line: int) -> tuple[str, ...]:
        fields = dialect.split(header)
        if fields is None:
            self._fail("the header line is malformed: text after a closing quote, or a quote that is not closed", line)
        try:
            names = tuple(field.decode() for field in fields)
        except UnicodeDecodeError:
            self._fail("the header line is not UTF-8 text", line, "set csv_encoding")
        for number, name in enumerate(names, 1):
            problem = f"column {number} has no name" if not name.strip() else f"column {name} is there twice"
            if not name.strip() or name in names[: number - 1]:
                raise SchemaError(f"{problem} in the header line", source=str(self._path), position=f"line {line}")
        return names

    def batches(self, max_bytes: int | None = None) -> Iterator[SourceBatch]:
        """Rows in blocks: all, or about the first `max_bytes` bytes of text."""
        line, row, size, done = self.header.lines + 1, 0, self._block_bytes, 0
        while max_bytes is None or done + self._block_bytes // 2 <= max_bytes:
            grew = self._read_more(size, line)
            block = self._pending
            if not block:
                return
            cut = self._whole_rows(block, line, is_last=not grew)
            if not cut:
                if len(block) > MAX_ROW_BYTES:
                    self._fail(f"a row of more than {MAX_ROW_BYTES} bytes begins here", line, "is a quote not closed?")
                size = 2 * len(block)  # a row longer than a block
                continue
            size = self._block_bytes
            body, self._pending = block[:cut], block[cut:]
            batch = self._parsed(body, line)
            lines = body.count(b"\r" if self.header.dialect.line_end == b"\r" else b"\n")
            if batch.num_rows:
                is_row_per_line = batch.num_rows == lines or (
                    not body.endswith((b"\n", b"\r")) and batch.num_rows == lines + 1
                )
                yield SourceBatch(batch, str(self._path), row, line if is_row_per_line else None)
            row += batch.num_rows
            line += lines
            done += cut

    def _whole_rows(self, block: bytes, line: int, *, is_last: bool) -> int:
        """Length of the whole rows that a block begins with. Malformed rows end here."""
        dialect = self.header.dialect
        if b'"' not in block:
            cut = len(block) if is_last else block.rfind(dialect.line_end[-1:]) + 1
            if dialect.line_end == b"\r":
                is_clean = b"\n" not in block
            else:
                returns = block.count(b"\r", 0, cut)
                is_clean = not returns or returns == block.count(b"\r\n", 0, cut)
            if is_clean:
                return cut
        matched = dialect.rows.match(block)
        cut = matched.end() if matched else 0
        rest = block[cut:]
        if is_last:
            if not dialect.last_row.fullmatch(rest):
                self._malformed(rest, line + block.count(dialect.line_end[-1:], 0, cut))
            return len(block)
        if not dialect.begun_row.fullmatch(rest):
            self._malformed(rest, line + block.count(dialect.line_end[-1:], 0, cut))
        return cut

    def _malformed(self, rest: bytes, line: int) -> NoReturn:
        dialect = self.header.dialect
        matched = dialect.fields.match(rest)
        at = matched.end() if matched else 0
        line += rest.count(dialect.line_end[-1:], 0, at)
        if rest[at : at + 1] != b'"':
            end = "line feed" if dialect.line_end == b"\r" else "carriage return"
            self._fail(f"a lone {end} outside of quotes, unlike the line ends before", line, "are line ends mixed?")
        quoted = re.compile(rb'"(?:[^"]++|"")*+"').match(rest, at)
        if quoted is None:
            self._fail("a quote opens here and is never closed", line)
        line += rest.count(dialect.line_end[-1:], at, quoted.end())
        self._fail("text after the closing quote of a field", line, "quotes inside a field must be doubled")

    def _parsed(self, body: bytes, line: int) -> pa.RecordBatch:
        names = self.header.names
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(body),
                read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(body) + 1),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.header.dialect.delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=len(names) > 1,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as exc:
            self._refused(body, line, exc)
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)

    def _refused(self, body: bytes, line: int, exc: pa.ArrowInvalid) -> NoReturn:
        """Find the line of what Arrow refused, by a slow second look at this block."""
        dialect, expected = self.header.dialect, len(self.header.names)
        end = dialect.line_end[-1:]
        for offset, fields in dialect.iter_rows(body):
            if fields != expected and (fields or expected == 1):
                self._fail(f"expected {expected} fields, found {fields}", line + body.count(end, 0, offset))
        try:
            body.decode()
        except UnicodeDecodeError as problem:
            self._fail(
                f"not UTF-8 text: {problem.reason}", line + body.count(end, 0, problem.start), "set csv_encoding"
            )
        self._fail(str(exc).splitlines()[0][:200], line)


# --- The source -------------------------------------------------------------------------------------------------------------------


class CsvSource(FilesSource):
    """CSV files as one table, every column as text."""

    is_text = True

    def __init__(self, paths: Sequence[Path], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> None:
        super().__init__(paths, label=label, filesystem=filesystem)
        self._settings = settings
        self._names: tuple[str, ...] | None = None

    def schema(self) -> pa.Schema:
        """All columns as strings, in the order of the first file. Reads the header line of every file.

        Raises:
            SourceReadError: A file cannot be read or has no header line.
            SchemaError: Names are empty or there twice, or files differ.
        """
        if self._names is None:
            for path in self.files:
                with contextlib.closing(_CsvPass(path, self._settings, self._filesystem, 64 * 1024)) as one:
                    self._require_columns(path, one.header.names)
        return pa.schema([pa.field(name, pa.string()) for name in self._names or ()])

    def _require_columns(self, path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
        if self._names is None:
            self._names = names
        missing = [name for name in self._names if name not in names]
        extra = [name for name in names if name not in self._names]
        if missing or extra:
            parts = [f"{word} {', '.join(found[:5])}" for word, found in (("lacks", missing), ("adds", extra)) if found]
            raise SchemaError(
                f"other columns than in {self.files[0]}: {' and '.join(parts)}", source=str(path), position="line 1"
            )
        return self._names

    def _open(self, path: Path, block_bytes: int = BLOCK_BYTES) -> _OrderedPass:
        one = _CsvPass(path, self._settings, self._filesystem, block_bytes)
        try:
            return _OrderedPass(one, self._require_columns(path, one.header.names))
        except BaseException:
            one.close()
            raise

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """The beginning of each file, or of an even spread of many, within `max_bytes` of text; all of a small source."""
        self.schema()
        files = spread(len(self.files), max(1, max_bytes // _MIN_SAMPLE_BYTES))
        share = max(max_bytes // len(files), 1)
        block_bytes = min(BLOCK_BYTES, max(share, _MIN_BLOCK_BYTES))
        is_whole = not any(map(compression_of, self.files)) and self.size_bytes() <= max_bytes
        rows = 0
        for index in files:
            with contextlib.closing(self._open(self.files[index], block_bytes)) as one:
                for batch in one.batches(None if is_whole else max(share, block_bytes)):
                    rows += batch.batch.num_rows
                    yield batch
        if len(files) == len(self.files):
            require_rows(rows, self.label)


class _OrderedPass:
    """A pass that gives the columns in the order of the first file."""

    def __init__(self, one: _CsvPass, names: tuple[str, ...]) -> None:
        self._pass = one
        self._names = None if one.header.names == names else list(names)
        self.bytes_read = one.bytes_read
        self.close = one.close

    def skip(self, rows: int) -> int:
        del rows
        return 0

    def batches(self, max_bytes: int | None = None) -> Iterator[SourceBatch]:
        for source in self._pass.batches(max_bytes):
            yield source if self._names is None else dataclasses.replace(source, batch=source.batch.select(self._names))


def open_files(paths: Sequence[Path], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> CsvSource:
    """The registry's way in.

    Raises:
        ConfigError: `csv_delimiter` or `csv_encoding` cannot be used.
    """
    delimiter = settings.csv_delimiter
    if delimiter is not None and (not delimiter.isascii() or delimiter in '"\r\n\0'):
        raise ConfigError(f"{delimiter!r} cannot be a delimiter", key="csv_delimiter", hint="one ASCII character")
    try:
        codecs.getincrementaldecoder(settings.csv_encoding)
        "".encode(settings.csv_encoding)
    except LookupError as exc:
        raise ConfigError(f"unknown encoding {settings.csv_encoding}", key="csv_encoding") from exc
    return CsvSource(paths, label=label, settings=settings, filesystem=filesystem)
