"""Compares the rows of a push whose keys have equal hashes.

`KeyRuns` finds the hashes that occur more than once. If there are any, the source is read again: `DuplicateSearch` compares the values of the
rows with these hashes. Rows that are equal in every column are no duplicates, and neither are rows whose keys only share a hash. `LastRows`
says in a third pass which rows to keep so that each key is left with its last row, whatever the rows are called and in which order chunks
are encoded: it knows that row by its content.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.pipeline.keys.hashes import Words, hash_keys
from pushengine.schema.misfits import shown

_HELD_KEYS = 10_000
_HELD_BYTES = 16 * 1024 * 1024
_UNPROVEN_KEYS = 1000
_BYTES_PER_KEY = 2 * 8 + 8 + 8 + 4 + 1 + 1 + 1


class _HashIndex:
    """Finds hashes in a sorted array of hashes."""

    def __init__(self, hashes: Words) -> None:
        self._first, self._second = (np.ascontiguousarray(half) for half in hashes.T)

    def __len__(self) -> int:
        return len(self._first)

    def __getitem__(self, slots: npt.NDArray[np.intp]) -> Words:
        return np.column_stack((self._first[slots], self._second[slots]))

    def find(self, hashes: Words) -> npt.NDArray[np.intp]:
        """Return where each hash is in the array; -1 if it is not there."""
        slots = np.searchsorted(self._first, hashes[:, 0])
        found = np.full(len(hashes), -1, np.intp)
        rows = np.flatnonzero(slots < len(self))
        while len(rows):
            rows = rows[self._first[slots[rows]] == hashes[rows, 0]]
            is_equal = self._second[slots[rows]] == hashes[rows, 1]
            found[rows[is_equal]] = slots[rows[is_equal]]
            rows = rows[~is_equal]  # hashes that share their first half are neighbors
            slots[rows] += 1
            rows = rows[slots[rows] < len(self)]
        return found


class LastRows:
    """The last row of each key that occurs more than once."""

    def __init__(self, index: _HashIndex, last: npt.NDArray[np.uint64]) -> None:
        self._index = index
        self._last = last

    def keep_mask(self, rows: pa.RecordBatch, hashes: Words) -> npt.NDArray[np.bool_]:
        """Return for each row whether to keep it: its key occurs once, or it equals the last row of its key. Thread-safe.

        Args:
            rows: Rows as they are sent.
            hashes: Hashes of their keys.
        """
        slots = self._index.find(hashes)
        keep = slots < 0
        repeated = np.flatnonzero(~keep)
        if len(repeated):
            fingerprints = hash_keys(rows.take(pa.array(repeated)).columns)[:, 0]
            keep[repeated] = fingerprints == self._last[slots[repeated]]
        return keep


class RowPosition(NamedTuple):
    """Where a row is.

    Attributes:
        source: File or object name.
        row: Number within the file, from 1.
        line: Line within the file, from 1; None if unknown.
    """

    source: str
    row: int
    line: int | None

    def __str__(self) -> str:
        return f"row {self.row}" + ("" if self.line is None else f" (line {self.line})")


@dataclasses.dataclass(frozen=True, slots=True)
class EqualKeys:
    """Two rows that have equal keys and differ in another column.

    Attributes:
        key: Names and values of the key columns, the values as messages show them.
        first: The earlier row, which is the first row with this key.
        second: The later row.
        hash: Hash of the key, shape (1, 2), to search for the rows of this key alone.
    """

    key: str
    first: RowPosition
    second: RowPosition
    hash: Words = dataclasses.field(repr=False, compare=False)


class _Held(NamedTuple):
    """The first row with a key, and where its key values are."""

    position: RowPosition
    keys: Sequence[pa.Array]
    row: int


class DuplicateSearch:
    """Compares the rows whose keys have the same hashes, in a pass over the whole source. Not thread-safe.

    If there are many such keys, the values of only the first 10,000 are kept. If none of these belongs to differing rows, but another one
    does, `found` is None and `unproven` holds hashes: search for these in another pass.

    Args:
        hashes: What `KeyRuns.duplicates()` returned, or `unproven`.
        keys: Names of the key columns.

    Attributes:
        rows: Number of rows observed.
        found: The first two differing rows with equal keys; None if there are none so far.
    """

    def __init__(self, hashes: Words, keys: Sequence[str]) -> None:
        count = len(hashes)
        self.rows = 0
        self.found: EqualKeys | None = None
        self._keys = keys
        self._index = _HashIndex(hashes)
        self._is_met = np.zeros(count, np.bool_)
        self._last = np.zeros(count, np.uint64)
        self._counts = np.zeros(count, np.uint32)
        self._fingerprints = np.zeros(count, np.uint64)
        self._differs = np.zeros(count, np.bool_)
        self._is_held = np.zeros(count, np.bool_)
        self._held: dict[int, _Held] = {}
        self._held_bytes = 0
        self._file = ("", 0)

    def observe(self, rows: pa.RecordBatch, source: SourceBatch, block_rows: int | None = None) -> None:
        """Compare the next rows. Call it with all rows of the source, in order.

        Args:
            rows: The rows as they are sent, converted to the schema of the push.
            source: The batch that they come from, for their file and, if it is known, their line. Rows are counted here.
            block_rows: Number of rows that the batch had before some were rejected; None if none were.
        """
        if self._file[0] != source.source:
            self._file = (source.source, self.rows)
        slots = self._index.find(hash_keys([rows.column(name) for name in self._keys]))
        at = np.flatnonzero(slots >= 0)
        if len(at):
            numbers = at if source.numbers is None else np.array(source.numbers, np.intp)[at]
            self._compare(rows.take(pa.array(at)), slots[at], numbers, source.first_line)
        self.rows += rows.num_rows if block_rows is None else block_rows

    @property
    def memory_bytes(self) -> int:
        """Bytes held: about 40 for each hash, and the key values of some rows, about 16 MiB."""
        return len(self._index) * _BYTES_PER_KEY + self._held_bytes

    @property
    def rows_involved(self) -> int:
        """Number of rows observed whose key also belongs to a row that differs."""
        return int(self._counts[self._differs].sum())

    @property
    def unproven(self) -> Words:
        """Hashes of keys to search for in another pass, at most 1,000; empty if `found` is set or nothing is left to prove."""
        slots = np.flatnonzero(self._differs & ~self._is_held)
        return self._index[slots[: 0 if self.found else _UNPROVEN_KEYS]]

    def last_rows(self) -> LastRows:
        """Return the last row of each key, after the whole source was observed."""
        return LastRows(self._index, self._last)

    @property
    def keys_involved(self) -> int:
        """Number of keys that belong to differing rows."""
        return int(np.count_nonzero(self._differs))

    def refusal(self) -> SchemaError:
        """Return the error that names the two rows; only if `found` is set."""
        if self.found is None:
            raise AssertionError("no rows with equal keys were found")
        key, first, second = self.found.key, self.found.first, self.found.second
        where = str(first) if first.source == second.source else f"{first} of {first.source}"
        return SchemaError(
            f"has the same key as {where} ({key}) and differs from it; "
            f"{self.rows_involved:,} rows share their key with a row that differs",
            source=second.source,
            position=str(second),
            hint="send one row per key, load the last of each (--duplicate-keys last), or let the platform keep the row with the highest"
            " value of a column (--order-by COL)",
        )

    def _compare(
        self, rows: pa.RecordBatch, slots: npt.NDArray[np.intp], numbers: npt.NDArray[np.intp], first_line: int | None
    ) -> None:
        fingerprints = hash_keys(rows.columns)[:, 0]
        met, first, counts = np.unique(slots, return_index=True, return_counts=True)
        is_new = ~self._is_met[met]
        self._is_met[met] = True
        self._fingerprints[met[is_new]] = fingerprints[first[is_new]]
        self._counts[met] += counts.astype(np.uint32)
        self._last[slots] = fingerprints  # if a key has several rows here, NumPy keeps the last assignment
        differs = fingerprints != self._fingerprints[slots]
        self._differs[slots[differs]] = True
        if self.found is None:
            keys = [rows.column(name) for name in self._keys]
            position = functools.partial(self._position, numbers, first_line)
            self._hold(np.sort(first[is_new]), slots, keys, position)
            self._prove(np.flatnonzero(differs & self._is_held[slots]), slots, keys, position)

    def _position(self, numbers: npt.NDArray[np.intp], first_line: int | None, index: int) -> RowPosition:
        file, first_row = self._file
        row = int(numbers[index])
        return RowPosition(file, self.rows - first_row + row + 1, None if first_line is None else first_line + row)

    def _hold(
        self,
        indices: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
        keys: Sequence[pa.Array],
        position: Callable[[int], RowPosition],
    ) -> None:
        """Keep the key values of some rows, if there is room."""
        has_room = self._held_bytes < _HELD_BYTES or len(self._index) <= _UNPROVEN_KEYS
        indices = indices[: _HELD_KEYS - len(self._held) if has_room else 0]
        if not len(indices):
            return
        copies = [key.take(pa.array(indices)) for key in keys]
        self._held_bytes += sum(copy.nbytes for copy in copies)
        self._is_held[slots[indices]] = True
        for number, index in enumerate(indices.tolist()):
            self._held[int(slots[index])] = _Held(position(index), copies, number)

    def _prove(
        self,
        indices: npt.NDArray[np.intp],
        slots: npt.NDArray[np.intp],
        keys: Sequence[pa.Array],
        position: Callable[[int], RowPosition],
    ) -> None:
        """Set `found` to the first of some rows whose key values equal those of the first row with this hash."""
        for index in indices.tolist():
            slot = int(slots[index])
            first = self._held[slot]
            if all(_is_equal(mine[index], theirs[first.row]) for mine, theirs in zip(keys, first.keys, strict=True)):
                key = ", ".join(f"{name} {shown(values[index])}" for name, values in zip(self._keys, keys, strict=True))
                self.found = EqualKeys(key, first.position, position(index), self._index[np.array([slot])])
                return


def _is_equal(one: Any, other: Any) -> bool:
    """Whether two scalars are equal, as `hash_keys` understands it: NaN equals NaN."""
    if pa.types.is_floating(one.type):
        return bool(one.as_py() == other.as_py() or (math.isnan(one.as_py()) and math.isnan(other.as_py())))
    return bool(one.equals(other))
