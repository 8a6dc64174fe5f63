"""A text file with the marks of its dialect as single bytes, read in blocks."""

from __future__ import annotations

import contextlib
import itertools
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import pyarrow as pa

from pushengine.config.csv_settings import CsvSettings
from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.sources.csv.header import DELIMITERS
from pushengine.sources.csv.layout import SET_ENCODING, fail
from pushengine.sources.csv.lines import (
    LineError,
    ListLines,
    Pieces,
    pieces_of,
    separator_of,
    without_first_lines,
    without_last_lines,
)
from pushengine.sources.csv.rows import has_nul
from pushengine.sources.csv.spelling import Spelling
from pushengine.sources.files import compression_of
from pushengine.sources.text_stream import Content, CountedFile, EncodingError, open_content


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
        self.kind = compression_of(ref)
        self._csv = csv
        self._list: ListLines | None = None
        try:
            self._file = filesystem.open(ref)
        except OSError as exc:
            raise unreadable(ref.uri, exc) from exc
        self._counted_file = CountedFile(self._file)
        try:
            with self.errors():
                content = open_content(self._counted_file, self.kind, csv.encoding or "utf-8")
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

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()

    def fail(self, message: str, line: int | None, hint: str = "") -> NoReturn:
        """Raise an error about a line.

        Raises:
            SourceReadError: Always.
        """
        fail(self.ref.uri, message, line, hint)

    def filled(self, size: int) -> memoryview:
        """Return the pending bytes and those that follow: at least `size` bytes, fewer only at the end of the file."""
        # Allocate from Arrow's pool, which reuses freed memory for the next block; fresh memory from the system has to be zeroed first.
        block = memoryview(pa.allocate_buffer(max(size, len(self.pending)))).cast("B")
        start = done = len(self.pending)
        block[:done] = self.pending
        if done < size:
            with self.errors():
                done += self._content.fill(block[done:size])
        if done < len(block) // 2:  # a small file or the end of one: copy, so that the large buffer can be freed
            block = memoryview(bytes(block[:done]))
        self._check_text(block[:done], start)
        return block[:done]

    def _check_text(self, block: memoryview, start: int) -> None:
        if has_nul(block[start:]):
            line = self.line()
            data = bytes(block)
            before = data.count(b"\n", 0, data.index(b"\0"))
            self.fail(
                "not text: it contains a NUL byte", line + before, f"is it UTF-16? {SET_ENCODING}" if line == 1 else ""
            )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Convert the errors of decompression, decoding, lines and the disk to `SourceReadError`."""
        try:
            yield
        except EncodingError as exc:
            self.fail(str(exc), exc.line, SET_ENCODING)
        except LineError as exc:
            self.fail(str(exc), exc.line, exc.hint)
        except (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as exc:
            self.fail(f"damaged {self.kind} file after line {self.line()}: {exc}", None, "fetch it again")
        except OSError as exc:
            if self.kind is not None and exc.errno is None:
                self.fail(f"damaged {self.kind} file after line {self.line()}: {exc}", None, "fetch it again")
            raise unreadable(self.ref.uri, exc) from exc

    def _prepared(self, content: Content) -> Content:
        """Return the content from the header line onwards, with the marks of the dialect as single bytes."""
        csv = self._csv
        line = self.first_line
        pieces = pieces_of(content)
        if csv.skip_lines:
            pieces = without_first_lines(pieces, csv.skip_lines)
            line += csv.skip_lines
        if csv.skip_footer:
            pieces = without_last_lines(pieces, csv.skip_footer)
        if csv.dialect == "excel":
            head = next((piece for piece in pieces if piece), b"")
            found = separator_of(head)
            if found is not None:
                head = head[len(found[1]) :]
                line += 1
                if self.delimiter is None:
                    self.delimiter, self.chosen = found[0], "sep line"
            pieces = itertools.chain([head], pieces)
        if csv.dialect == "sap-list":
            self._list = ListLines(self.delimiter or "|", (csv.comment or "").encode(), line)
            pieces = self._list.rows(pieces)
        if csv.escape or (self.delimiter is not None and (len(self.delimiter) > 1 or not self.delimiter.isascii())):
            known = DELIMITERS if self.delimiter is None else (self.delimiter,)
            self.spelling = Spelling(known, csv.quote_character, csv.escape or "")
            pieces = self.spelling.encoded(pieces)
        self.first_line = line
        is_changed = csv.skip_lines or csv.skip_footer or csv.dialect in ("excel", "sap-list") or self.spelling
        return Content(Pieces(pieces)) if is_changed else content
