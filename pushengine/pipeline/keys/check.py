"""Watches the keys of the rows that a job sends: finds those that occur more than once, and leaves earlier rows out."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from pushengine.pipeline.keys.duplicates import LastRows
from pushengine.pipeline.keys.hashes import Words, hash_keys
from pushengine.pipeline.keys.runs import KeyRuns

if TYPE_CHECKING:
    import pyarrow as pa

Mask: TypeAlias = npt.NDArray[np.bool_]


class KeyCheck:
    """The keys of one pass over a source.

    Args:
        keys: Names of the key columns.
        runs: Collects the hashes of all keys; None if they have been collected by an earlier pass.
        kept: The rows to keep of each key that occurs more than once; None to keep all rows.
    """

    def __init__(self, keys: tuple[str, ...], *, runs: KeyRuns | None, kept: LastRows | None) -> None:
        self.keys = keys
        self.runs = runs
        self._kept = kept

    def chunk(self) -> ChunkKeys:
        """Return what watches the keys of one chunk."""
        return ChunkKeys(self, self._kept)

    def add(self, hashes: list[Words]) -> None:
        """Add the keys of a chunk. Thread-safe."""
        if self.runs is not None:
            for one in hashes:
                self.runs.add(one)


class ChunkKeys:
    """The keys of one chunk. They count only once the chunk is encoded: one that is too large is split and encoded again."""

    def __init__(self, check: KeyCheck, kept: LastRows | None) -> None:
        self._check = check
        self._kept = kept
        self._hashes: list[Words] = []

    def observe(self, rows: pa.RecordBatch) -> Mask | None:
        """Watch some rows of the chunk, as they are sent. Runs on an encoder thread.

        Returns:
            Which of the rows to send; None means all.
        """
        hashes = hash_keys([rows.column(name) for name in self._check.keys])
        if self._kept is None:
            self._hashes.append(hashes)
            return None
        return self._kept.keep_mask(rows, hashes)

    def commit(self) -> None:
        """Count the keys: the chunk is encoded."""
        self._check.add(self._hashes)
