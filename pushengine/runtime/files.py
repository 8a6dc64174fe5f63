"""The local file system as sources and uploads see it."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, BinaryIO

import aiofiles

from pushengine.model import FileRef
from pushengine.runtime.aio import settled

_NO_DATA_PREFIXES = (".", "_")
"""What Spark and others put beside the data: `_SUCCESS`, `.part-0.crc`."""
_PIECE_BYTES = 1024 * 1024


class LocalFileSystem:
    """`interfaces.FileSystem` over the files of this machine.

    A version has four parts: the time of the last change of the content, which copying tools set to whatever they like; device and inode, which
    tell another file under the same name; and the time of the last change of anything, which nobody can set. Times in nanoseconds UTC.
    """

    def list(self, pattern: str) -> list[FileRef]:
        """Regular files that a path, a directory (its own files, none hidden or beginning with `_`) or a glob means, sorted."""
        return [_ref(path) for path in _expanded(pattern)]

    def stat(self, file: FileRef) -> FileRef:
        """The file as it is now."""
        return _ref(Path(file.uri))

    def open(self, file: FileRef) -> BinaryIO:
        """Open for reading, without a buffer of its own: sources read in blocks."""
        return Path(file.uri).open("rb", buffering=0)

    async def read_range(self, file: FileRef, offset: int, nbytes: int) -> AsyncGenerator[bytes, None]:
        """`nbytes` from `offset` on, a mebibyte at a time, read on a thread; fewer where the file ends before."""
        opened = await _opened(file.uri)
        try:
            await opened.seek(offset)
            while nbytes and (piece := await opened.read(min(_PIECE_BYTES, nbytes))):
                nbytes -= len(piece)
                yield piece
        finally:
            await settled(asyncio.create_task(opened.close()))


def _ref(path: Path) -> FileRef:
    found = path.stat()
    return FileRef(str(path), found.st_size, (found.st_mtime_ns, found.st_dev, found.st_ino, found.st_ctime_ns))


def _expanded(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith(_NO_DATA_PREFIXES))
    if path.exists() or not glob.has_magic(pattern):
        return [path] if path.is_file() else []
    return sorted(f for f in map(Path, glob.glob(str(path), recursive=True)) if f.is_file())  # noqa: PTH207 - absolute patterns


async def _opened(path: str) -> Any:
    """An open file; closed again where the opening is cancelled, since the thread opens it all the same."""

    async def opening() -> Any:
        return await aiofiles.open(path, "rb")

    task = asyncio.create_task(opening())
    try:
        await settled(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await settled(asyncio.create_task(task.result().close()))
        raise
    return task.result()
