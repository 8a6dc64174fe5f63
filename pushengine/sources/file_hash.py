"""SHA-256 of the files of a push, computed while they are read. Later it shows whether a source still holds what was sent.

Each file is read a second time, on the encoder threads and closely behind the pass that cuts chunks. The bytes are then still in the
page cache and are not read from disk again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from pushengine.errors import unreadable
from pushengine.interfaces import FileSystem, Workers
from pushengine.model import FileRef

_STEP_BYTES = 8 * 1024 * 1024


class FileHasher:
    """A hasher that follows the pass over the files and stays behind it.

    Args:
        files: The files, in the order in which they are read.
        filesystem: Opens the files.
        workers: Threads; the encoder threads do the hashing.
    """

    def __init__(self, files: Sequence[FileRef], *, filesystem: FileSystem, workers: Workers) -> None:
        self._files = files
        self._filesystem = filesystem
        self._workers = workers
        self._read_bytes = 0
        self._is_read = False
        self._progress = asyncio.Event()

    def follow(self, nbytes: int | None) -> None:
        """Record that `nbytes` bytes of all files together have been read so far; None means that all files are read."""
        self._is_read = self._is_read or nbytes is None
        self._read_bytes = nbytes or 0
        self._progress.set()

    async def run(self) -> list[str]:
        """Hash all files and return their digests in hex, one per file.

        Raises:
            SourceReadError: A file is missing or unreadable.
        """
        digests = []
        before = 0
        for ref in self._files:
            one = FileHash(ref, self._filesystem)
            while not one.is_complete:
                await self._wait_until_read(before + one.position + _STEP_BYTES)
                await self._workers.encode(one.advance, _STEP_BYTES)
            digests.append(one.hexdigest())
            before += one.position
        return digests

    async def _wait_until_read(self, nbytes: int) -> None:
        while not self._is_read and self._read_bytes < nbytes:
            self._progress.clear()
            await self._progress.wait()


_READ_BYTES = 1024 * 1024


class FileHash:
    """The SHA-256 of one file, computed step by step. Blocking; one call at a time, from any thread.

    Attributes:
        position: Number of bytes hashed so far.
        is_complete: Whether the end of the file has been reached.
    """

    def __init__(self, ref: FileRef, filesystem: FileSystem) -> None:
        self.position = 0
        self.is_complete = False
        self._ref = ref
        self._filesystem = filesystem
        self._hash = hashlib.sha256()

    def advance(self, nbytes: int) -> None:
        """Hash the next `nbytes` bytes of the file, or fewer at its end.

        Raises:
            SourceReadError: The file is missing or unreadable.
        """
        buffer = memoryview(bytearray(_READ_BYTES))
        end = self.position + nbytes
        try:
            with self._filesystem.open(self._ref) as file:
                file.seek(self.position)
                while self.position < end:
                    size = file.readinto(buffer[: end - self.position])  # type: ignore[attr-defined]
                    if not size:
                        self.is_complete = True
                        return
                    self._hash.update(buffer[:size])
                    self.position += size
        except OSError as error:
            raise unreadable(self._ref.shown, error) from error

    def hexdigest(self) -> str:
        """Return the digest of the bytes hashed so far, in hex."""
        return self._hash.hexdigest()
