"""What tells the same files from changed ones."""

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
_PROBE_BYTES = 64 * 1024


def fingerprint_files(filesystem: FileSystem, refs: Sequence[FileRef]) -> Fingerprint:
    """What tells the same files from changed ones without reading all of them. Blocking.

    Raises:
        SourceReadError: A file is gone or unreadable.
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
        raise SourceReadError(
            f"cannot be read: {error.strerror or error}", source=ref.uri, hint="was it moved or deleted?"
        ) from error
    return [
        absolute_uri(ref.uri),
        size,
        found.version[0],
        digest.hexdigest(),
        *found.version[1:],
    ]


def compare_files(before: Fingerprint | None, now: Fingerprint | None) -> FileChange:
    """Whether files are what they were.

    Returns:
        `same`; `changed`; or `touched`: only what lies between the probes could differ, so the content has to be read to know. Touched,
        copied, renamed and restored files look like this, and so does another content under a restored time.
    """
    if before == now:
        return "same"
    if before is None or now is None or sizes_and_probes(before) != sizes_and_probes(now):
        return "changed"
    return "touched"


def sizes_and_probes(files: Fingerprint) -> list[tuple[int, str]]:
    """Size and hash of the probes of each file."""
    return [(file[1], file[3]) for file in files]


def in_order_of(before: Fingerprint | None, now: Fingerprint | None) -> list[str] | None:
    """The paths of today's files in the order in which they were read before, where names have changed so that it is another one; or None.

    Files are known by their sizes and probes.
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


def is_same_but_for_inode(before: Fingerprint | None, now: Fingerprint | None) -> bool:
    """All but device, inode and change time: some file systems give these anew at every look."""
    return before is not None and now is not None and [file[:4] for file in before] == [file[:4] for file in now]
