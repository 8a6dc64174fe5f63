"""SHA-256 of the files of a push, computed beside the reading: what tells later whether a source holds what was sent.

Each file is read once more, on the encoder threads, closely behind the pass that makes chunks of it: from the page cache, not from the disk.
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
    """Hashes files as far as they have been read.

    Args:
        files: In the order in which they are read.
        filesystem: Where they lie.
        workers: Their encoder threads do the work.
    """

    def __init__(self, files: Sequence[FileRef], *, filesystem: FileSystem, workers: Workers) -> None:
        self._files = files
        self._filesystem = filesystem
        self._workers = workers
        self._read_bytes = 0
        self._is_read = False
        self._progress = asyncio.Event()

    def follow(self, nbytes: int | None) -> None:
        """This many bytes of all files have been read; None at the end."""
        self._is_read = self._is_read or nbytes is None
        self._read_bytes = nbytes or 0
        self._progress.set()

    async def run(self) -> list[str]:
        """The digests, in hex, one for each file.

        Raises:
            SourceReadError: A file is gone or unreadable.
        """
        digests = []
        before = 0
        for ref in self._files:
            one = FileHash(ref, self._filesystem)
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


_READ_BYTES = 1024 * 1024


class FileHash:
    """SHA-256 of one file, a part after the other. Blocking; one call at a time, from any thread.

    Attributes:
        position: Bytes hashed so far.
        is_complete: The end of the file is reached.
    """

    def __init__(self, ref: FileRef, filesystem: FileSystem) -> None:
        self.position = 0
        self.is_complete = False
        self._ref = ref
        self._filesystem = filesystem
        self._hash = hashlib.sha256()

    def advance(self, nbytes: int) -> None:
        """Hash the next bytes of the file.

        Raises:
            SourceReadError: It is gone or unreadable.
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
            raise unreadable(self._ref.uri, error) from error

    def hexdigest(self) -> str:
        """Of what was hashed so far."""
        return self._hash.hexdigest()
