"""The local file system as sources and uploads see it."""

from __future__ import annotations

import asyncio
import errno
import glob
import os
import re
import stat
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import aiofiles

from pushengine.model import FileRef
from pushengine.runtime.aio import wait_until_done

_NO_DATA_PREFIXES = (".", "_")
"""What Spark and others put beside the data: `_SUCCESS`, `.part-0.crc`."""
_PIECE_BYTES = 1024 * 1024
_IS_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class LocalFileSystem:
    """`interfaces.FileSystem` over the files of this machine.

    A version has four parts: the time of the last change of the content, which copying tools set to whatever they like; device and inode, which
    tell another file under the same name; and the time of the last change of anything, which nobody can set.
    """

    def list(self, pattern: str) -> list[FileRef]:
        """Regular files that a path, a directory (its own files, none hidden or beginning with `_`) or a glob means, sorted."""
        return list(_regular(_expanded(pattern)))

    def stat(self, file: FileRef) -> FileRef:
        """The file as it is now."""
        path = Path(file.uri)
        return _ref(path, path.stat())

    def open(self, file: FileRef) -> BinaryIO:
        """Open for reading, without a buffer of its own: sources read in blocks."""
        return Path(file.uri).open("rb", buffering=0)

    async def read_ranges(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        """The bytes of ranges (offset, length), a mebibyte at a time, read on a thread; ends early where the file does."""
        opened = await _opened(file.uri)
        try:
            for offset, nbytes in ranges:
                await opened.seek(offset)
                left = nbytes
                while left:
                    piece = await opened.read(min(_PIECE_BYTES, left))
                    if not piece:
                        return
                    left -= len(piece)
                    yield piece
        finally:
            await wait_until_done(asyncio.create_task(opened.close()))


def scheme_of(uri: str) -> str | None:
    """`s3` of `s3://bucket/key`; None for a path of this machine."""
    found = _SCHEME.match(uri)
    return None if found is None else found[1].lower()


def absolute_uri(uri: str) -> str:
    """The same file, wherever the process stands; an address with a scheme is absolute already."""
    return uri if scheme_of(uri) else str(Path(uri).absolute())


def _ref(path: Path, found: os.stat_result) -> FileRef:
    return FileRef(str(path), found.st_size, (found.st_mtime_ns, found.st_dev, found.st_ino, found.st_ctime_ns))


def _regular(paths: Iterable[Path]) -> Iterator[FileRef]:
    """Those that are regular files; what has gone since it was listed is none."""
    for path in paths:
        try:
            found = path.stat()
        except ValueError:  # a NUL in the name
            continue
        except OSError as error:
            if error.errno not in _IS_NO_FILE:
                raise
            continue
        if stat.S_ISREG(found.st_mode):
            yield _ref(path, found)


def _expanded(pattern: str) -> Iterable[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        return sorted(f for f in path.iterdir() if not f.name.startswith(_NO_DATA_PREFIXES))
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    # A pattern with `**` twice finds a file once for each way to it.
    return sorted(set(map(Path, glob.glob(str(path), recursive=True))))  # noqa: PTH207 - absolute patterns


async def _opened(path: str) -> Any:
    """An open file; closed again where the opening is cancelled, since the thread opens it all the same."""

    async def opening() -> Any:
        return await aiofiles.open(path, "rb")

    task = asyncio.create_task(opening())
    try:
        await wait_until_done(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await wait_until_done(asyncio.create_task(task.result().close()))
        raise
    return task.result()
