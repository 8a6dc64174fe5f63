"""Fingerprints of files, which show whether files have changed without reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from pushengine.errors import SourceReadError
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.runtime.files import absolute_uri

FileChange = Literal["same", "touched", "changed"]
Fingerprint = list[list[Any]]
"""One list per file: absolute URI, size in bytes, `FileRef.version[0]`, SHA-256 of the probes in hex, `FileRef.version[1:]`."""
_PROBE_BYTES = 64 * 1024


def fingerprint_files(filesystem: FileSystem, refs: Sequence[FileRef]) -> Fingerprint:
    """Return the fingerprint of files; reads up to three probes of 64 KiB per file. Blocking.

    Raises:
        SourceReadError: A file is missing or unreadable.
    """
    return [_fingerprint(filesystem, ref) for ref in refs]


def _fingerprint(filesystem: FileSystem, ref: FileRef) -> list[Any]:
    try:
        found = filesystem.stat(ref)
        size = found.size
        digest = hashlib.sha256()
        with filesystem.open(ref) as file:
            for offset in sorted({0, max(size // 2 - _PROBE_BYTES // 2, 0), max(size - _PROBE_BYTES, 0)}):
                file.seek(offset)
                digest.update(file.read(_PROBE_BYTES))
    except OSError as error:
        hint = "was it moved or deleted?" if isinstance(error, FileNotFoundError) else ""
        raise SourceReadError(f"cannot be read: {error.strerror or error}", source=ref.shown, hint=hint) from error
    return [
        absolute_uri(ref.uri),
        size,
        found.version[0],
        digest.hexdigest(),
        *found.version[1:],
    ]


def compare_files(before: Fingerprint | None, now: Fingerprint | None) -> FileChange:
    """Compare an earlier fingerprint with the current one.

    Returns:
        `same`, `changed` or `touched`. Touched means that the files can differ only between the probes, so the caller must read the
        content to be sure. This is the result for files that were touched, copied, renamed or restored, but also for content that was
        replaced under a restored modification time.
    """
    if before == now:
        return "same"
    if before is None or now is None or sizes_and_probes(before) != sizes_and_probes(now):
        return "changed"
    return "touched"


def sizes_and_probes(files: Fingerprint) -> list[tuple[int, str]]:
    """Return the size and the SHA-256 of the probes of each file."""
    return [(file[1], file[3]) for file in files]


def paths_in_earlier_order(before: Fingerprint | None, now: Fingerprint | None) -> list[str] | None:
    """Return the paths of the current files in the order of the earlier read, if renaming has changed that order.

    Files are matched by their sizes and probes.

    Returns:
        None if the order is the same, the files do not match, or a fingerprint is missing.
    """
    if before is None or now is None or sizes_and_probes(before) == sizes_and_probes(now):
        return None
    if sorted(sizes_and_probes(before)) != sorted(sizes_and_probes(now)):
        return None
    places: dict[tuple[int, str], list[int]] = {}
    for place, known in enumerate(sizes_and_probes(before)):
        places.setdefault(known, []).append(place)
    placed = sorted((places[known].pop(0), file[0]) for known, file in zip(sizes_and_probes(now), now, strict=True))
    return [path for _, path in placed]


def is_same_except_inode(before: Fingerprint | None, now: Fingerprint | None) -> bool:
    """Whether fingerprints agree in all but device, inode and change time, which some file systems report differently each time."""
    return before is not None and now is not None and [file[:4] for file in before] == [file[:4] for file in now]
