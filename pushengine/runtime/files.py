"""The local file system, as used by sources and uploads."""

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

_IGNORED_PREFIXES = (".", "_")
"""Name prefixes of files that Spark and other tools write beside the data, such as `_SUCCESS` and `.part-0.crc`."""
_PIECE_BYTES = 1024 * 1024
_MISSING_FILE_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


class LocalFileSystem:
    """Implements `interfaces.FileSystem` with the files of this machine.

    The version of a file has four parts: mtime, which copying tools set at will; device and inode, which reveal another file under the
    same name; and ctime, which cannot be set.
    """

    def list(self, pattern: str) -> list[FileRef]:
        """Return the regular files that a path, directory or glob stands for, sorted.

        A directory stands for its own files, except those whose names start with `.` or `_`.
        """
        return list(_regular_files(_expand_pattern(pattern)))

    def stat(self, file: FileRef) -> FileRef:
        """Return the file as it is now."""
        path = Path(file.uri)
        return _ref(path, path.stat())

    def open(self, file: FileRef) -> BinaryIO:
        """Open the file for reading, unbuffered: sources read in large blocks."""
        return Path(file.uri).open("rb", buffering=0)

    async def read_ranges(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the ranges (offset, length), read on a thread in pieces of at most 1 MiB; stop early where the file ends."""
        opened = await _open_file(file.uri)
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
    """Return the scheme of an address (`s3` for `s3://bucket/key`); None for a path of this machine."""
    found = _SCHEME.match(uri)
    return None if found is None else found[1].lower()


def absolute_uri(uri: str) -> str:
    """Return the path made absolute, independent of the working directory; an address with a scheme is returned unchanged."""
    return uri if scheme_of(uri) else str(Path(uri).absolute())


def _ref(path: Path, found: os.stat_result) -> FileRef:
    return FileRef(str(path), found.st_size, (found.st_mtime_ns, found.st_dev, found.st_ino, found.st_ctime_ns))


def _regular_files(paths: Iterable[Path]) -> Iterator[FileRef]:
    """Yield the paths that are regular files; skip those that vanished since they were listed."""
    for path in paths:
        try:
            found = path.stat()
        except ValueError:  # a NUL in the name
            continue
        except OSError as error:
            if error.errno not in _MISSING_FILE_ERRNOS:
                raise
            continue
        if stat.S_ISREG(found.st_mode):
            yield _ref(path, found)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in place of `~`. Where there is no such user, `~name` is a file name like any other."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - the method of `Path` raises RuntimeError


def _expand_pattern(pattern: str) -> Iterable[Path]:
    path = expanded(pattern)
    if path.is_dir():
        return sorted(f for f in path.iterdir() if not f.name.startswith(_IGNORED_PREFIXES))
    if path.exists() or not glob.has_magic(pattern):
        return [path]
    # A pattern that contains `**` twice can match the same file several times.
    return sorted(set(map(Path, glob.glob(str(path), recursive=True))))  # noqa: PTH207 - absolute patterns


async def _open_file(path: str) -> Any:
    """Open a file on a thread. If this is cancelled, the thread opens the file all the same, so it is closed again."""

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
