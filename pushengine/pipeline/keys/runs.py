"""Finds hashes of keys that occur more than once in a push, in bounded memory.

Hashes that do not fit into memory are sorted and written to a temporary file in runs, which are merged at the end.

The file holds the runs one after the other, 16 bytes per row: of a run, first the first 64 bits of all hashes, then the second ones, in the
machine's byte order. A run is sorted by the first 64 bits without the lowest of them; of a hash that occurs more than twice in a run, two
copies are kept. The file has no name, so it is gone once it is closed, however the process ends.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from pushengine.errors import SchemaError
from pushengine.pipeline.keys.hashes import Words
from pushengine.state.file_errors import state_errors

MAX_REPEATED_KEYS = 10_000_000
"""Most keys that may occur more than once; `DuplicateSearch` holds about 40 bytes for each."""
MEMORY_BYTES = 64 * 1024 * 1024
_BYTES_PER_ROW = 96
"""Memory per row of a run while runs are merged, if every hash occurs twice: six copies of the hashes or of their order."""
_WORD_BYTES = 8
_MIN_BLOCK_ROWS = 16

_Halves: TypeAlias = npt.NDArray[np.uint64]
"""The first or second 64 bits of some hashes."""


class KeyRuns:
    """The hashes of all keys of one push. A context manager.

    Call `add()` for every row exactly once, then `duplicates()`, then `close()`.

    Args:
        folder: Folder for the temporary file; created if it does not exist. Nothing is written as long as the hashes fit into one run.
        max_memory_bytes: What `add()` and `duplicates()` may hold, apart from the hashes that `duplicates()` returns.
        source: The source's name in messages.

    Attributes:
        rows: Number of rows added.
        spilled_bytes: Size of the temporary file.
    """

    def __init__(self, folder: Path, *, max_memory_bytes: int = MEMORY_BYTES, source: str = "") -> None:
        self.rows = 0
        self.spilled_bytes = 0
        self._folder = folder
        self._source = source
        self._max_memory_bytes = max_memory_bytes
        self._run_rows = max(max_memory_bytes // _BYTES_PER_ROW, 2)
        self._order_bits = np.uint64((self._run_rows - 1).bit_length())
        # One buffer is filled while the other is sorted and written. Memory that is not filled yet takes no space.
        self._free: list[Words] = [np.empty((2, self._run_rows), np.uint64) for _ in range(2)]
        self._filling: Words | None = self._free.pop()
        self._filled = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._disk = threading.Lock()
        self._file: IO[bytes] | None = None
        self._runs: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def memory_bytes(self) -> int:
        """Most bytes that the rows added so far may need; grows with the rows up to `max_memory_bytes`."""
        return min(self.rows * _BYTES_PER_ROW, self._max_memory_bytes)

    def add(self, hashes: Words) -> None:
        """Add the hashes of some rows, shape (rows, 2). Thread-safe; blocks while hashes are written faster than the disk accepts them.

        Does nothing once closed.

        Raises:
            JournalError: The temporary file cannot be written. The exit code is 75 if the disk is full.
        """
        with self._changed:
            self.rows += len(hashes)
        while len(hashes):
            full = None
            with self._changed:
                while self._filling is None and not self._is_closed:
                    self._changed.wait()
                if self._filling is None:
                    return
                taken = min(len(hashes), self._run_rows - self._filled)
                self._filling[:, self._filled : self._filled + taken] = hashes[:taken].T
                self._filled += taken
                if self._filled == self._run_rows:
                    full, self._filled = self._filling, 0
                    self._filling = self._free.pop() if self._free else None
            hashes = hashes[taken:]
            if full is not None:
                self._spill_and_reuse(full)

    def duplicates(self, max_keys: int = MAX_REPEATED_KEYS) -> Words:
        """Return the hashes that occur more than once, each once, sorted, shape (count, 2). No rows may be added afterwards.

        CPU-bound. Reads the temporary file, if there is one. Must not be called while `add()` runs; the result is incomplete once closed.

        Raises:
            SchemaError: There are more than `max_keys` such hashes.
            JournalError: The temporary file cannot be written or read.
        """
        found: list[Words] = [np.empty((0, 2), np.uint64)]
        count = 0
        with contextlib.closing(self._ranges()) as ranges:
            for rows in ranges:
                repeated = _repeated(rows)
                found.append(repeated)
                count += len(repeated)
                if count > max_keys:
                    raise SchemaError(
                        f"more than {max_keys:,} keys occur more than once",
                        source=self._source,
                        hint="check that the key columns identify a row",
                    )
        return np.concatenate(found)

    def close(self) -> None:
        """Free the memory and the temporary file; safe to call twice. Another thread that is in `add()` or `duplicates()` ends early."""
        with self._changed:
            self._is_closed = True
            self._filling, self._free = None, []
            self._changed.notify_all()
        with self._disk:
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):  # what could not be written earlier fails again
                    file.close()

    def _spill_and_reuse(self, buffer: Words) -> None:
        try:
            self._spill(buffer)
        finally:
            with self._changed:
                if self._filling is None and not self._is_closed:
                    self._filling = buffer
                elif not self._is_closed:
                    self._free.append(buffer)
                self._changed.notify_all()

    def _spill(self, halves: Words) -> None:
        # One thread at a time, which bounds the memory for sorting; a run is sorted much faster than its rows are encoded.
        with self._disk, self._errors():
            if self._is_closed:
                return
            if self._file is None:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - `close` closes it
            order = _order(halves[0], halves[1], self._order_bits)
            self._file.seek(self.spilled_bytes)
            for half in halves:
                self._file.write(half.take(order).data)
            self._file.flush()
            self._runs.append((self.spilled_bytes, len(order)))
            self.spilled_bytes += 2 * _WORD_BYTES * len(order)

    def _ranges(self) -> Generator[_Rows]:
        """Yield all rows, in ascending ranges of hashes of about `_run_rows` rows; equal hashes are in the same range."""
        if not self._runs:
            if self._filling is not None:
                first, second = self._filling[:, : self._filled]
                yield _Rows(first, lambda: second)
            return
        if self._filling is not None and self._filled:
            self._spill(self._filling[:, : self._filled])
        self._filling, self._filled, self._free = None, 0, []  # the memory is needed for reading
        with self._disk, self._errors():
            if self._file is not None:
                yield from self._merged(self._file)

    def _merged(self, file: IO[bytes]) -> Iterator[_Rows]:
        runs = [_Run(file, start, count) for start, count in self._runs]
        block = max(self._run_rows // len(runs), _MIN_BLOCK_ROWS)
        while runs and not self._is_closed:
            for run in runs:
                run.fill(block)
            # Rows from the smallest of these onwards may have equal ones that are not read yet.
            limit = min((run.last for run in runs if not run.is_read), default=None)
            if limit is not None:
                limit = limit >> self._order_bits << self._order_bits
            taken = [run.take(limit) for run in runs]
            runs = [run for run in runs if not run.is_taken]
            first = np.concatenate([rows.first for rows in taken])
            if len(first):
                yield _Rows(first, functools.partial(_all_seconds, taken))
            else:
                block *= 2  # a run has a whole block of hashes that are alike in the bits by which runs are sorted

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return state_errors(
            "cannot keep the hashes of the keys",
            self._folder,
            hint="the state folder must be writable and have room for 16 bytes per row; PUSHENGINE_STATE_DIR sets another",
        )


class _Rows(NamedTuple):
    """Some hashes. Only if two rows share the first 64 bits are the others needed.

    Attributes:
        first: The first 64 bits of each hash.
        load_second: Returns the second 64 bits of each hash.
    """

    first: _Halves
    load_second: Callable[[], _Halves]


def _all_seconds(parts: Sequence[_Rows]) -> _Halves:
    return np.concatenate([rows.load_second() for rows in parts])


class _Run:
    """A run that is being read.

    Args:
        file: The temporary file.
        start: Where the run begins, bytes.
        count: Number of rows of the run.
    """

    def __init__(self, file: IO[bytes], start: int, count: int) -> None:
        self._file = file
        self._start = start
        self._count = count
        self._read_rows = self._taken_rows = 0
        self._waiting: _Halves = np.empty(0, np.uint64)

    @property
    def is_read(self) -> bool:
        """Whether there is nothing left to read."""
        return self._read_rows == self._count

    @property
    def is_taken(self) -> bool:
        """Whether all rows were taken."""
        return self._taken_rows == self._count

    @property
    def last(self) -> np.uint64:
        """The first 64 bits of the last hash that is read."""
        return np.uint64(self._waiting[-1])

    def fill(self, rows: int) -> None:
        """Read on until `rows` rows wait to be taken, or the run ends."""
        missing = min(rows - len(self._waiting), self._count - self._read_rows)
        if missing > 0:
            self._waiting = np.concatenate([self._waiting, self._read(self._read_rows, missing)])
            self._read_rows += missing

    def take(self, limit: np.uint64 | None) -> _Rows:
        """Take the rows that sort before `limit`, whose lowest bits are 0; all rows if it is None."""
        count = len(self._waiting) if limit is None else int(np.searchsorted(self._waiting, limit))
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        rows = _Rows(taken, functools.partial(self._read, self._count + self._taken_rows, count))
        self._taken_rows += count
        return rows

    def _read(self, word: int, count: int) -> _Halves:
        self._file.seek(self._start + word * _WORD_BYTES)
        data = self._file.read(count * _WORD_BYTES)
        if len(data) != count * _WORD_BYTES:
            raise OSError("the temporary file was cut short")
        return np.frombuffer(data, np.uint64)


def _order(first: _Halves, second: _Halves, order_bits: np.uint64) -> npt.NDArray[np.int64]:
    """Return the rows sorted by the first 64 bits without the lowest `order_bits` of them; at most two of equal rows."""
    # The lowest bits make room for the number of the row, so sorting 64-bit numbers yields the order, several times as fast as argsort.
    mask = (np.uint64(1) << order_bits) - np.uint64(1)
    order = first & ~mask
    order |= np.arange(len(first), dtype=np.uint64)
    order.sort()
    order &= mask
    rows = order.view(np.int64)
    half = first.take(rows)
    is_same = half[1:] == half[:-1]
    if is_same.any():
        half = second.take(rows)
        is_same &= half[1:] == half[:-1]
        is_third = np.zeros(len(rows), np.bool_)
        is_third[2:] = is_same[1:] & is_same[:-1]
        rows = rows[~is_third]
    return rows


def _repeated(rows: _Rows) -> Words:
    """Return the hashes that occur more than once, each once, sorted."""
    first = np.sort(rows.first)
    first = first[1:][first[1:] == first[:-1]]
    if not len(first):
        return np.empty((0, 2), np.uint64)
    nearest = np.minimum(np.searchsorted(first, rows.first), len(first) - 1)
    candidates = np.flatnonzero(first[nearest] == rows.first)
    hashes = np.column_stack((rows.first[candidates], rows.load_second()[candidates]))
    hashes = hashes[np.lexsort((hashes[:, 1], hashes[:, 0]))]
    is_repeated = (hashes[1:] == hashes[:-1]).all(axis=1)
    is_repeated[1:] &= ~is_repeated[:-1]  # a third row: its first pair is enough
    repeated: Words = hashes[1:][is_repeated]
    return repeated
