"""Which files of a load are known already: by path and stat without reading them, otherwise by size and SHA-256 of the content."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from pushengine.journal.loads import FileRow
from pushengine.model import FileRef

Hasher = Callable[[FileRef], Awaitable[str]]
"""Returns the SHA-256 of a file's content in hex."""
Knowledge = Literal["new", "loaded", "skipped", "changed"]


@dataclasses.dataclass(frozen=True, slots=True)
class Examined:
    """A file of a load, compared with what is remembered.

    Attributes:
        file: The file.
        knowledge: `new`: never loaded or skipped under this path; `changed`: it was, with another content.
        row: What is to be remembered of it now.
        before: What was remembered under its path; None if nothing was.
    """

    file: FileRef
    knowledge: Knowledge
    row: FileRow
    before: FileRow | None = None

    @property
    def is_pending(self) -> bool:
        """Whether its content was neither loaded nor skipped under this path."""
        return self.knowledge in {"new", "changed"}


class KnownFiles:
    """What is remembered of the files of one load.

    Args:
        load: Name of the rule.
        table: Table, as spelled.
        rows: Its rows.
        hasher: Reads a file. It is called only where the stat leaves open what a file holds, and at most once a file.
        now: The time, seconds UTC.
    """

    def __init__(self, load: str, table: str, rows: Iterable[FileRow], *, hasher: Hasher, now: float) -> None:
        self._load, self._table = load, table
        self.by_path = {row.path: row for row in rows}
        self._hasher = hasher
        self._now = now
        self._digests: dict[str, str] = {}
        self._loaded_digests = {row.sha256 for row in self.loaded} - {""}

    @property
    def loaded(self) -> list[FileRow]:
        """The rows of files that were loaded."""
        return [row for row in self.by_path.values() if row.state == "loaded"]

    async def examine(self, file: FileRef, generation: str) -> Examined:
        """Compare a file with what is remembered of its path."""
        before = self.by_path.get(file.uri)
        if before is None:
            return Examined(file, "new", self._seen(file, generation))
        kind: Knowledge = "new" if before.state == "seen" else before.state
        if before.is_unchanged(file):
            return Examined(file, kind, dataclasses.replace(before, generation=before.generation or generation), before)
        if before.sha256 and before.size == file.size and await self.digest(file) == before.sha256:
            return Examined(file, kind, dataclasses.replace(before, version=file.version), before)  # touched
        # A file that waited because another one with its content was being loaded is known by that content.
        is_new = before.state == "seen" and before.sha256 not in self._loaded_digests
        return Examined(file, "new" if is_new else "changed", self._seen(file, generation, before), before)

    async def digest(self, file: FileRef) -> str:
        """Return the SHA-256 of a file's content in hex."""
        if file.uri not in self._digests:
            row = self.by_path.get(file.uri)
            known = row.sha256 if row is not None and row.is_unchanged(file) else ""
            self._digests[file.uri] = known or await self._hasher(file)
        return self._digests[file.uri]

    def same_as(self, one: Examined, twin: FileRow) -> FileRow:
        """Return the row of a file that is skipped because its content is loaded under another name."""
        return dataclasses.replace(
            one.row, state="skipped", sha256=twin.sha256, push_id=twin.push_id, loaded_at=self._now
        )

    def with_digest(self, row: FileRow) -> FileRow:
        """Return a row with the digest of its content, if that was computed."""
        return row if row.sha256 else dataclasses.replace(row, sha256=self._digests.get(row.path, ""))

    def _seen(self, file: FileRef, generation: str, before: FileRow | None = None) -> FileRow:
        return FileRow(
            load=self._load,
            table=self._table,
            path=file.uri,
            size=file.size,
            version=file.version,
            generation=generation,
            first_seen_at=self._now,
            cleanup=before.cleanup if before is not None else "",
        )


class Contents:
    """What files hold, to find those with equal content. A file is read only if another one has its size.

    Args:
        known: Reads files.
        rows: Rows of files to compare others with.
    """

    def __init__(self, known: KnownFiles, rows: Iterable[FileRow]) -> None:
        self._known = known
        self._rows: dict[int, dict[str, list[FileRow]]] = {}
        self._unread: dict[int, list[Examined]] = {}
        for row in rows:
            if row.sha256:
                self._rows.setdefault(row.size, {}).setdefault(row.sha256, []).append(row)

    def add(self, one: Examined) -> None:
        """Compare later files with this one, too."""
        self._unread.setdefault(one.file.size, []).append(one)

    async def twin(self, one: Examined) -> FileRow | None:
        """Return the row under another path that has the same content; None if there is none."""
        size = one.file.size
        for other in self._unread.pop(size, ()):
            digest = await self._known.digest(other.file)
            row = dataclasses.replace(other.row, path=other.file.uri, sha256=digest)
            self._rows.setdefault(size, {}).setdefault(digest, []).append(row)
        rows = self._rows.get(size)
        if not rows or all(row.path == one.file.uri for found in rows.values() for row in found):
            return None
        found = rows.get(await self._known.digest(one.file), ())
        return next((row for row in found if row.path != one.file.uri), None)
