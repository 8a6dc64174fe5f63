"""SHA-256 of the files of a push, computed beside the reading: what tells later whether a source holds what was sent.

Each file is read once more, on the encoder threads, closely behind the pass that makes chunks of it: from the page cache, not from the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pushengine.interfaces import FileSystem, Workers
from pushengine.push.identity import FileHash

_STEP_BYTES = 8 * 1024 * 1024


class FileHasher:
    """Hashes files as far as they have been read.

    Args:
        files: In the order in which they are read.
        filesystem: Where they lie.
        workers: Their encoder threads do the work.
    """

    def __init__(self, files: Sequence[Path], *, filesystem: FileSystem, workers: Workers) -> None:
        self._files = files
        self._filesystem = filesystem
        self._workers = workers
        self._read_bytes = 0
        self._is_read = False
        self._progress = asyncio.Event()

    def follow(self, nbytes: int) -> None:
        """So many bytes of all files have been read."""
        self._read_bytes = nbytes
        self._progress.set()

    def finish(self) -> None:
        """All is read."""
        self._is_read = True
        self._progress.set()

    async def run(self) -> list[str]:
        """The digests, in hex, one for each file.

        Raises:
            SourceReadError: A file is gone or unreadable.
        """
        digests = []
        before = 0
        for path in self._files:
            one = FileHash(path, self._filesystem)
            while not one.is_complete:
                await self._reached(before + one.position + _STEP_BYTES)
                await self._workers.encode(one.advance, _STEP_BYTES)
            digests.append(one.hexdigest())
            before += one.position
        return digests

    async def _reached(self, nbytes: int) -> None:
        while not self._is_read and self._read_bytes < nbytes:
            self._progress.clear()
            await self._progress.wait()
