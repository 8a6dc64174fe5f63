"""Turns text of whole rows into record batches, with every column as text."""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from pushengine.errors import SchemaError, SourceReadError
from pushengine.interfaces import SourceBatch
from pushengine.sources.csv.header import Columns
from pushengine.sources.csv.lines import NO_ROW
from pushengine.sources.csv.rows import Dialect, count_of, leading_lines, longer_blanks
from pushengine.sources.csv.spelling import Spelling
from pushengine.sources.text_stream import encoding_hint
from pushengine.text import first_line, flag

MAX_ROW_BYTES = 32 * 1024 * 1024
"""Maximum length of a row; a longer one most likely contains a quote that is never closed."""
SET_ENCODING = encoding_hint()
_ARROW_BLOCK_BYTES = 4 * MAX_ROW_BYTES
_SHOWN_CHARACTERS = 40

Position: TypeAlias = Callable[[], tuple[int, int]]
"""Returns the first row (from 0) and the first line (from 1) of a block. Slow: for error messages only."""


def fail(source: str, message: str, line: int | None, hint: str = "") -> NoReturn:
    """Raise an error about a line of a file.

    Raises:
        SourceReadError: Always.
    """
    position = None if line is None else f"line {line}"
    raise SourceReadError(message, source=source, position=position, hint=hint)


@dataclasses.dataclass(frozen=True, slots=True)
class TextRows:
    """Whole rows as text.

    Attributes:
        text: The rows, with escapes and long delimiters as `spelling` encodes them.
        is_regular: Whether their quotes are regular (`Dialect.regular_cut`).
    """

    text: memoryview
    is_regular: bool


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the text of one file becomes record batches.

    Attributes:
        source: Name of the file in messages.
        columns: The columns in the order of the file.
        wanted_names: Their names in the order of the table.
        dialect: Delimiter, quotes and line end.
        null_words: Unquoted words that are NULL, besides an empty field.
        spelling: How escapes and long delimiters are encoded; None if there are none.
    """

    source: str
    columns: Columns
    wanted_names: tuple[str, ...]
    dialect: Dialect
    null_words: tuple[str, ...] = ()
    spelling: Spelling | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns in the order of the file, without those that are left out."""
        return self.columns.kept_names

    def lines(self, text: bytes | memoryview) -> int:
        """Count the line ends in some whole rows, including those inside quotes."""
        escaped = 0 if self.spelling is None else self.spelling.escaped_line_ends(bytes(text), self.dialect.line_end)
        return count_of(text, self.dialect.line_end[-1]) + escaped

    def raw(self, text: bytes) -> bytes:
        """Return text of some rows as the file spells it."""
        return text if self.spelling is None else self.spelling.raw(text)

    def parse(self, rows: TextRows, position: Position, line: int | None = None) -> pa.RecordBatch:
        """Parse whole rows into one batch, with every column as text.

        Args:
            rows: The rows.
            position: Returns their position; called only to report an error.
            line: Their first line, if it is known, so that the search for it is saved.

        Raises:
            SourceReadError: A row has more or fewer fields than the header line, or is not UTF-8.
            SchemaError: A column that is left out because it is empty has a value.
        """
        try:
            self._require_utf8(rows.text)
            text = self.dialect.without_comments(rows.text, is_regular=rows.is_regular)
            batch = self._trimmed(bytes(text), is_regular=rows.is_regular) if self.dialect.trim else self._parsed(text)
        except pa.ArrowInvalid as exc:
            self._refuse(bytes(rows.text), position()[1] if line is None else line, exc)
        if self.spelling is not None:
            columns = [self.spelling.decode(column) for column in batch.columns]
            batch = pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        return self._without_empty_columns(batch, rows, position) if self.columns.empty else batch

    def _parsed(self, text: bytes | memoryview) -> pa.RecordBatch:
        """Parse whole rows without comments and without blanks around fields.

        Raises:
            pa.ArrowInvalid: A row has more or fewer fields than there are columns.
        """
        if not len(text):
            return self._no_rows
        if text[-1] not in b"\r\n":
            # At the end of the data, Arrow treats an empty field as quoted if the field before it is quoted.
            text = self._ended(bytes(text))
        if bytes(text[:3]) == codecs.BOM_UTF8:
            # Arrow takes a mark at the start of the data for one of the file, and drops it.
            text = codecs.BOM_UTF8 + bytes(text)
        table = arrow_csv.read_csv(pa.py_buffer(text), *self._options)
        batches = table.to_batches()
        if len(batches) > 1:
            batches = table.combine_chunks().to_batches()
        return batches[0] if batches else self._no_rows

    def _ended(self, text: bytes) -> bytes:
        """Return text with a line end at its end: a last line of blanks is a line, too."""
        return text if not len(text) or text[-1] in b"\r\n" else text + self.dialect.line_end

    def _trimmed(self, text: bytes, *, is_regular: bool) -> pa.RecordBatch:
        """Parse whole rows with blanks around fields.

        Raises:
            pa.ArrowInvalid: A row has more or fewer fields than there are columns.
        """
        dialect = self.dialect
        blanks = dialect.blanks
        has_longer = any(blank.encode() in text for blank in longer_blanks(blanks))
        if dialect.quote not in text or not dialect.quote:
            # Without quotes, the values can be trimmed after parsing, many times as fast as the text before it.
            with contextlib.suppress(pa.ArrowInvalid):  # such as a line of blanks only, or a byte of `spelling`
                batch = self._parsed(text)
                trim = pc.utf8_trim if has_longer else pc.ascii_trim
                characters = blanks if has_longer else "".join(filter(str.isascii, blanks))
                columns = [self._with_nulls(trim(column, characters)) for column in batch.columns]
                return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
        return self._parsed(dialect.without_blanks(self._ended(text), is_regular=is_regular))

    def _with_nulls(self, column: pa.Array) -> pa.Array:
        """Return unquoted values with those that mean NULL as NULL."""
        is_null = pc.equal(pc.binary_length(column), 0)
        for word in filter(None, self._null_values):
            is_null = pc.or_(is_null, pc.equal(column, pa.scalar(word, pa.binary()).cast(pa.string(), safe=False)))
        return pc.if_else(is_null, pa.scalar(None, pa.string()), column)

    @functools.cached_property
    def _null_values(self) -> list[bytes]:
        words = {word.strip(self.dialect.blanks) if self.dialect.trim else word for word in ("", *self.null_words)}
        encode = bytes if self.spelling is None else self.spelling.encode
        return [encode(word.encode()) for word in sorted(words)]

    def has_rows(self, rows: TextRows) -> bool:
        """Whether there are lines that count as rows."""
        leading = self._leading_lines.match(rows.text)
        return leading is None or leading.end() < len(rows.text)

    @functools.cached_property
    def _leading_lines(self) -> re.Pattern[bytes]:
        return leading_lines(self.dialect.comment, self.dialect.blanks, has_empty=len(self.columns.names) > 1)

    @functools.cached_property
    def _no_rows(self) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist([], schema=pa.schema([(name, pa.string()) for name in self.wanted_names]))

    @functools.cached_property
    def _options(self) -> tuple[Any, Any, Any]:
        names = self.columns.parsed_names
        return (
            arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=_ARROW_BLOCK_BYTES),
            arrow_csv.ParseOptions(
                delimiter=self.dialect.delimiter,
                quote_char=self.dialect.quote.decode() or False,
                newlines_in_values=True,
                ignore_empty_lines=len(names) > 1,
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[*self.wanted_names, *(names[index] for index in self.columns.empty)],
                null_values=self._null_values,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _require_utf8(self, text: memoryview) -> None:
        """Check that a block is UTF-8, as a single string.

        Checking each value takes four times as long and finds no more, since fields are cut at ASCII characters.

        Raises:
            pa.ArrowInvalid: The block is not UTF-8.
        """
        valid = Spelling.as_utf8(bytes(text)) if self._has_marks else text
        ends = pa.py_buffer(np.array([0, len(text)], np.int32))
        pa.Array.from_buffers(pa.string(), 1, [None, ends, pa.py_buffer(valid)]).validate(full=True)

    def _without_empty_columns(self, batch: pa.RecordBatch, rows: TextRows, position: Position) -> pa.RecordBatch:
        """Return a batch without the columns that are left out because they are empty.

        Raises:
            SchemaError: One of them has a value.
        """
        count = len(self.wanted_names)
        if not batch.num_rows:
            return batch.select(range(count))
        for index, column in zip(self.columns.empty, batch.columns[count:], strict=True):
            lengths = pc.fill_null(pc.binary_length(column), 0)
            if not pc.max(lengths).as_py():
                continue
            at = pc.index(pc.greater(lengths, 0), pa.scalar(True)).as_py()  # noqa: FBT003 - the value of a scalar
            row, line = position()
            text = bytes(rows.text)
            starts = [found.start for found in self.dialect.iter_rows(text) if found.fields or len(batch.columns) == 1]
            line += self.lines(text[: starts[at]])
            value = column[at].as_py()[:_SHOWN_CHARACTERS]
            raise SchemaError(
                f"column {index + 1} has no name and is left out because it is empty, but it has the value {value!r}",
                source=self.source,
                position=f"row {row + at + 1} (line {line}), column {index + 1}",
                hint=f"keep it with {flag(self.columns.empty[index], 'rename')}",
            )
        return batch.select(range(count))

    def _refuse(self, body: bytes, line: int, exc: pa.ArrowException) -> NoReturn:
        """Raise the error for a block that Arrow rejected, with the line number found by a slow second pass over the block."""
        expected = len(self.columns.names)
        for row in self.dialect.iter_rows(body):
            if row.fields not in (0, expected):
                line += self.lines(body[: row.start])
                ends = body[: row.end].endswith(self.dialect.delimiter.encode()) and row.fields == expected + 1
                leave_out = f"repair the row, or leave out and list up to 10 such rows: {flag('max-rejects', '10')}"
                hint = f"if every row ends so, add {flag('trailing-delimiter', 'drop')}" if ends else leave_out
                fail(self.source, f"expected {expected} fields, found {row.fields}", line, hint)
        self.require_utf8(body, line)
        fail(self.source, first_line(exc), line)

    @property
    def _has_marks(self) -> bool:
        """Whether the text holds bytes of `spelling` or marks of lines that are no rows, which are not UTF-8."""
        return self.spelling is not None or self.dialect.comment == NO_ROW

    def require_utf8(self, body: bytes, line: int) -> None:
        """Require that whole rows, of which `line` is the first line, are UTF-8.

        Raises:
            SourceReadError: They are not.
        """
        try:
            (Spelling.as_utf8(body) if self._has_marks else body).decode()
        except UnicodeDecodeError as problem:
            fail(
                self.source,
                f"not UTF-8 text: {problem.reason}",
                line + self.lines(body[: problem.start]),
                SET_ENCODING,
            )

    def batch(self, rows: TextRows, row: int, line: int) -> SourceBatch:
        """Parse whole rows whose first row and line are known."""
        return self.place(self.parse(rows, lambda: (row, line)), rows, row, line)

    def place(self, batch: pa.RecordBatch, rows: TextRows, row: int, line: int) -> SourceBatch:
        """Return a parsed batch with its position; the line is set only if every row takes exactly one line."""
        ends = self.lines(rows.text) + (not bytes(rows.text[-1:]).endswith((b"\n", b"\r")))
        return SourceBatch(batch, self.source, row, line if batch.num_rows == ends else None)
