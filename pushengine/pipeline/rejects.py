"""Collects the rows that a push leaves out, and writes the file that lists them.

The file is CSV (UTF-8, a header line, LF), with a line for each problem of a rejected row (the first ten), in the order of the source:

    file             file or object that holds the row
    line             line at which the row begins, from 1; empty if the source is not text
    byte_position    bytes of text before the row, after a byte order mark and decompression, and as UTF-8; empty if the source is not text,
                     or if lines are left out of the text before its rows are read, or it has escapes or long delimiters
    column_name      column of the source; empty if the row has more or fewer fields than the header
    error_type       CAST, LENGTH, NULL KEY, MISSING COLUMNS or TOO MANY COLUMNS
    csv_line         the whole row as the file holds it; a JSON object if the source is not text
    error_message    the problem

It is named after the push, and private to the user, since it holds rows. Chunks are encoded in any order and some of them twice: their lines
are spooled to a temporary file and put in order at the end of the pass. A pass that is interrupted leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import decimal
import io
import json
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import pyarrow as pa

from pushengine.errors import JobTaintedError, SchemaError, ValueMisfitError
from pushengine.interfaces import ReadableRows, SourceBatch, SourceBlock
from pushengine.model import JobId
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import T
from pushengine.schema.rejects import Problem, sifted
from pushengine.schema.times.limits import text_of
from pushengine.state.file_errors import setting_errors
from pushengine.text import flag, format_rows

HEADER = ("file", "line", "byte_position", "column_name", "error_type", "csv_line", "error_message")
_ROWS_BEYOND = 1000
"""A pass ends early once it has found this number of rows more than are allowed: they are enough to see what is wrong."""
_FILE_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}[.]csv")


class FirstReject(NamedTuple):
    """The first rejected row of a chunk, as an error names it."""

    source: str
    position: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """The rejected rows of one chunk; `offset` and `nbytes` locate their lines in the temporary file."""

    offset: int
    nbytes: int
    rows: int
    first: FirstReject


@dataclasses.dataclass(frozen=True, slots=True)
class RejectLimit:
    """The number of rows that may be rejected, or their share of all rows (a float)."""

    limit: int | float

    def allows(self, rejected: int, rows: int) -> bool:
        """Return whether this number of rejected rows is allowed, of this number of rows."""
        if isinstance(self.limit, float):
            return rejected <= decimal.Decimal(str(self.limit)) * rows
        return rejected <= self.limit

    def is_hopeless(self, rejected: int) -> bool:
        """Return whether it is clear before the end of the source that too many rows are rejected, and enough of them are listed."""
        return isinstance(self.limit, int) and rejected > self.limit + _ROWS_BEYOND

    def __str__(self) -> str:
        return (
            f"{self.limit:,}"
            if isinstance(self.limit, int)
            else f"{decimal.Decimal(str(self.limit)) * 100:f}".rstrip("0").rstrip(".") + "%"
        )


class RejectedRows:
    """The rows that one pass over a source rejects. Thread-safe; a context manager that removes its temporary file.

    Args:
        limit: How many rows may be rejected.
        widens: Whether a wider schema may still be inferred, for values that only the present one does not hold.
        job_id: The job that receives the other rows.
        scratch: Folder for the temporary file; it may not exist yet.

    Attributes:
        stop: Ends the pass early; called on an encoder thread.
        rows: Number of rejected rows.
        is_stopped: Whether the pass was ended early, so that it has not seen all rows.
        must_decode: Whether files that are passed through have rows to reject, so that they must be decoded.
    """

    def __init__(self, limit: RejectLimit, *, widens: bool, job_id: JobId, scratch: Path) -> None:
        self.widens = widens
        self.rows = 0
        self.is_stopped = False
        self.must_decode = False
        self._limit = limit
        self.stop: Callable[[], object] = _ignore
        self._job_id = job_id
        self._scratch = scratch
        self._lock = threading.Lock()
        self._spool: IO[bytes] | None = None
        self._parts: dict[tuple[int, ...], _Part] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._spool is not None:
            self._spool.close()

    def chunk(self) -> ChunkRejects:
        """Return what collects the rejected rows of one chunk."""
        return ChunkRejects(self)

    @contextlib.contextmanager
    def passing_through(self) -> Iterator[None]:
        """Convert the refusal of a value in files that are passed through, of which no row can be left out.

        Raises:
            JobTaintedError: There is a value that does not fit: the files have to be decoded, in a fresh job.
        """
        try:
            yield
        except SchemaError as error:
            if self.widens and isinstance(error, ValueMisfitError):
                raise
            self.must_decode = True
            raise JobTaintedError(
                f"the files are decoded, so that rows can be left out: {error.message}", job_id=self._job_id
            ) from error

    def add(self, chunk_id: str, rows: int, lines: bytes, first: FirstReject) -> None:
        """Add the rejected rows of a chunk.

        Raises:
            ConfigError: The temporary file cannot be written.
        """
        with self._lock, _writing(self._scratch):
            if self._spool is None:
                self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._spool = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 - `__exit__` closes it
            offset = self._spool.seek(0, os.SEEK_END)
            self._spool.write(lines)
            self._parts[tuple(map(int, chunk_id.split(".")))] = _Part(offset, len(lines), rows, first)
            self.rows += rows
            if self._limit.is_hopeless(self.rows) and not self.is_stopped:
                self.is_stopped = True
                self.stop()

    def write(self, path: Path) -> None:
        """Write the file that lists all rejected rows. Blocking. Without any, remove the one of an earlier pass.

        Raises:
            ConfigError: The file cannot be written.
        """
        with _writing(path.parent):
            if not self._parts:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.unlink(missing_ok=True)
            temporary.touch(mode=0o600, exist_ok=False)
            with temporary.open("wb") as file:
                file.write(_csv_lines([HEADER]))
                for part in self._ordered():
                    self._copy(part, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)

    def _ordered(self) -> list[_Part]:
        return [self._parts[key] for key in sorted(self._parts)]

    def _copy(self, part: _Part, target: IO[bytes]) -> None:
        assert self._spool is not None  # noqa: S101 - there are parts
        self._spool.seek(part.offset)
        left = part.nbytes
        while left:
            piece = self._spool.read(min(left, 1024 * 1024))
            target.write(piece)
            left -= len(piece)

    def require_allowed(self, loaded: int, path: Path) -> None:
        """Require that not too many rows are rejected.

        Args:
            loaded: Number of rows that were not rejected.
            path: The file that lists the others.

        Raises:
            SchemaError: Too many rows are rejected, or all of them.
        """
        total = loaded + self.rows
        if not self.rows or (loaded and not self.is_stopped and self._limit.allows(self.rows, total)):
            return
        first = self._ordered()[0].first
        count = f"more than {self.rows - 1:,}" if self.is_stopped else f"{self.rows:,} of {format_rows(total)}"
        why = f"max_rejects allows {self._limit}" if loaded or self.is_stopped else "no row is left to load"
        raise SchemaError(
            f"{first.message}; {count} cannot be loaded, and {why}: see {path}",
            source=first.source,
            position=first.position,
            hint=f"fix the rows, or leave them out: {flag('max-rejects', str(self.rows))}"
            if loaded and not self.is_stopped
            else "",
        )


class ChunkRejects:
    """The rejected rows of one chunk. They count only once the chunk is encoded: one that is too large is split and encoded again."""

    def __init__(self, pass_: RejectedRows) -> None:
        self._pass = pass_
        self._lines = io.BytesIO()
        self._first: FirstReject | None = None
        self.rows = 0

    def load(self, block: SourceBlock, schema: TableSchema, check: Callable[[SourceBatch], T]) -> T:
        """Call `check` with the rows of a block that are not rejected, and return its result.

        Raises:
            SourceError: The block has a problem that is no reason to reject single rows.
        """
        result, readable, problems = sifted(block, schema, check, widens=self._pass.widens)
        if readable is not None:
            listed = list(_listed(readable, problems))
            self._lines.write(_csv_lines([line for line, _ in listed]))
            self._first = self._first or listed[0][1]
            self.rows += len({problem.number for problem in problems})
        return result

    def commit(self, chunk_id: str) -> None:
        """Count the rejected rows: the chunk is encoded.

        Raises:
            ConfigError: They cannot be kept on disk.
        """
        if self._first is not None:
            self._pass.add(chunk_id, self.rows, self._lines.getvalue(), self._first)


def _listed(readable: ReadableRows, problems: Sequence[Problem]) -> Iterator[tuple[tuple[object, ...], FirstReject]]:
    """Yield a line of the file for each problem, and how an error names the row."""
    batch = readable.batch
    numbers = sorted({problem.number for problem in problems})
    raw = {} if readable.raw is None else dict(zip(numbers, readable.raw(numbers), strict=True))
    texts = {} if raw else dict(zip(numbers, _as_json(batch, numbers), strict=True))
    for number, column, kind, message in problems:
        row = raw.get(number)
        where = f"row {batch.first_row + number + 1}" if row is None else f"line {row.line}"
        place = ("", "", texts.get(number)) if row is None else (row.line, row.byte_position, row.text)
        line = (batch.source, place[0], place[1], column, kind, place[2], message)
        yield line, FirstReject(batch.source, where + (f", column {column}" if column else ""), message)


def _as_json(batch: SourceBatch, numbers: Sequence[int]) -> list[str]:
    rows = batch.batch.take(pa.array(numbers, pa.int64()))
    columns = [
        (name, [_plain(value) for value in column])
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    return [
        json.dumps({name: values[row] for name, values in columns}, ensure_ascii=False) for row in range(rows.num_rows)
    ]


def _plain(scalar: Any) -> str | int | float | bool | None:
    """Return a value as JSON can hold it: numbers and booleans as they are, anything else as text."""
    if not scalar.is_valid:
        return None
    t = pa.types
    if t.is_integer(scalar.type) or t.is_boolean(scalar.type) or t.is_floating(scalar.type):
        number: int | float | bool = scalar.as_py()
        return number if number - number == 0 else str(number)  # JSON has neither infinity nor NaN
    try:
        return text_of(scalar)
    except (ValueError, OverflowError):  # Python cannot represent it
        return str(scalar.cast(pa.string()))


def _csv_lines(lines: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue().encode("utf-8", "backslashreplace")  # the name of a file may not be text


def _writing(folder: Path) -> contextlib.AbstractContextManager[None]:
    return setting_errors(
        "cannot list rejected rows in",
        folder,
        key="rejects",
        hint="name a folder that this user can write to: --rejects DIR",
    )


def _ignore() -> None:
    """Do nothing; the default for `RejectedRows.stop`."""


def delete_old_files(folder: Path, before: float) -> None:
    """Delete the files in a folder that list the rejected rows of old pushes. Blocking; problems are left to the next process.

    Args:
        folder: The folder; it may not exist.
        before: Time of the last change, seconds UTC, before which a file is old.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _FILE_NAME.fullmatch(path.with_suffix(".csv").name) and path.lstat().st_mtime < before:
                path.unlink(missing_ok=True)
