"""The local file system as sources see it."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import BinaryIO

from pushengine.interfaces import FileStat

_NO_DATA_PREFIXES = (".", "_")
"""What Spark and others put beside the data: `_SUCCESS`, `.part-0.crc`."""


class LocalFileSystem:
    """`interfaces.FileSystem` over the files of this machine. Blocking; raises OSError as it comes."""

    def expand(self, pattern: str) -> list[Path]:
        """Regular files that a path, a directory (its own files, none hidden or beginning with `_`) or a glob means, sorted."""
        path = Path(pattern).expanduser()
        if path.is_dir():
            return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith(_NO_DATA_PREFIXES))
        if path.exists() or not glob.has_magic(pattern):
            return [path] if path.is_file() else []
        return sorted(f for f in map(Path, glob.glob(str(path), recursive=True)) if f.is_file())  # noqa: PTH207 - absolute patterns

    def size_bytes(self, path: Path) -> int:
        """Length of a file."""
        return path.stat().st_size

    def stat(self, path: Path) -> FileStat:
        """What is known of a file without reading it."""
        found = path.stat()
        return FileStat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)

    def open_binary(self, path: Path) -> BinaryIO:
        """Open for reading, without a buffer of its own: sources read in blocks."""
        return path.open("rb", buffering=0)
