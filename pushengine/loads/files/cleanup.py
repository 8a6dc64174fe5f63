"""Moves or deletes the files of a load after DONE, unless they have changed since they were loaded.

| `FileRow.cleanup` | meaning |
|---|---|
| empty | nothing was begun: a loaded file of a load with `cleanup` waits for it |
| `{"do": "move", "to": PATH}` | the file is being moved to this path |
| `{"do": "delete"}` | the file is being deleted |
| `{"done": "move", "to": PATH}` | it was moved there |
| `{"done": "delete"}` | it was deleted |
| `{"done": "gone"}` | somebody else has moved or deleted it |

What is to be done is stored before anything happens to the file. So the next run finishes what a killed one began.

When it is done, the row gets the path to which the file was moved, or for a deleted file one that no file has: its content stays known, and
another file may come under its name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from pushengine.config.loads.resolved import LoadSettings
from pushengine.interfaces import OffLoop
from pushengine.journal.loads import FileRow
from pushengine.model import FileRef
from pushengine.runtime.files import LocalFileSystem

MOVED_FOLDER = "loaded"
"""Folder beside the files for those that were moved, if the load names none."""
_NO_LINKS = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES, errno.EINVAL}
)
_PIECE_BYTES = 1024 * 1024
Store = Callable[[FileRow, str], Awaitable[None]]
"""Called with a row and its former path: stores the row, and forgets the former path if that differs, in one transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of a file.

    Attributes:
        row: Its row now.
        problem: Why it was left where it is; empty if it was not.
    """

    row: FileRow
    problem: str = ""


def pending(settings: LoadSettings, rows: Iterable[FileRow]) -> list[FileRow]:
    """Return the rows of the files that are to be moved or deleted, those that a killed process began among them."""
    return [
        row
        for row in rows
        if row.state == "loaded"
        and ("do" in _plan(row) or (not row.cleanup and settings.cleanup != "leave" and row.push_id))
    ]


def is_moved_away(settings: LoadSettings, path: str) -> bool:
    """Whether a path is in a dated folder to which a load moves its files: a pattern with `**` would find it again."""
    folder = Path(path).parent
    try:
        dt.date.fromisoformat(folder.name)
    except ValueError:
        return False
    base = folder.parent
    return settings.cleanup == "move" and (
        base.name == MOVED_FOLDER if settings.cleanup_dir is None else base == settings.cleanup_dir
    )


async def clean_up(
    settings: LoadSettings,
    rows: Iterable[FileRow],
    *,
    store: Store,
    off_loop: OffLoop,
    now: float,
    disk: Disk | None = None,
) -> list[Cleaned]:
    """Move or delete the files that are pending. A file that cannot be moved or deleted is left, and tried again by the next run.

    Args:
        settings: The settings of the load.
        rows: What is remembered of its files.
        store: Stores a row.
        off_loop: Runs blocking calls.
        now: Seconds UTC; names the dated folder.
        disk: How to change files; a test passes another one.
    """
    disk = disk or Disk()
    day = dt.datetime.fromtimestamp(now, settings.timezone).date().isoformat()
    cleaned = []
    for row in pending(settings, rows):
        cleaning = _Cleaning(settings, row, day=day, disk=disk)
        try:
            while not cleaning.is_over:
                if (planned := await off_loop(cleaning.plan)) is not None:
                    await store(planned, row.path)
                    await off_loop(cleaning.carry_out)
            if cleaning.row != row:
                await store(cleaning.row, row.path)
        except OSError as error:
            cleaning.problem = (
                f"cannot {_plan(cleaning.row).get('do') or settings.cleanup} it: {error.strerror or error}"
            )
        cleaned.append(Cleaned(cleaning.row, cleaning.problem))
    return cleaned


class Disk:
    """Changes to files, one method each. All block and raise OSError."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder and those above it."""
        folder.mkdir(parents=True, exist_ok=True)

    def link(self, source: Path, to: Path) -> None:
        """Give a file another name. Fails if there is such a file."""
        os.link(source, to)

    def reserve(self, path: Path) -> None:
        """Create an empty file. Fails if there is such a file."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def rename(self, source: Path, to: Path) -> None:
        """Rename a file, in place of one that is there."""
        source.rename(to)

    def copy(self, source: Path, to: Path) -> None:
        """Copy a file and its times, and write it to the disk."""
        with source.open("rb") as reader, to.open("wb") as writer:
            shutil.copyfileobj(reader, writer, _PIECE_BYTES)
            writer.flush()
            os.fsync(writer.fileno())
        shutil.copystat(source, to)

    def unlink(self, path: Path) -> None:
        """Delete a file."""
        path.unlink()

    def sync_folder(self, folder: Path) -> None:
        """Write the names in a folder to the disk."""
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # file systems that cannot
                raise
        finally:
            os.close(opened)


class _Cleaning:
    """One file while it is moved or deleted. The methods block.

    Attributes:
        row: Its row as it is to be stored.
        is_over: Whether there is nothing more to do.
        problem: Why the file was left.
    """

    def __init__(self, settings: LoadSettings, row: FileRow, *, day: str, disk: Disk) -> None:
        self.row = row
        self.is_over = False
        self.problem = ""
        self._settings = settings
        self._day = day
        self._disk = disk
        self._path = Path(row.path)

    def plan(self) -> FileRow | None:
        """Return the row with what is to be done; None if nothing is, or it was done before the process was killed."""
        plan = _plan(self.row)
        to = Path(plan["to"]) if plan.get("to") else None
        if to is not None:
            self._discard_part(to)
        if not os.path.lexists(self._path):
            self._finish(
                "gone" if plan.get("do") is None else plan["do"], to if to is not None and to.exists() else None
            )
            return None
        if to is not None and self._is_there(to):
            self._disk.unlink(self._path)
            self._finish("move", to)
            return None
        if not self._is_unchanged():
            self.is_over = True
            self.problem = "it has changed since it was loaded"
            return None
        action = plan.get("do") or self._settings.cleanup
        new = {"do": action, "to": str(self._free_name())} if action == "move" else {"do": action}
        self.row = dataclasses.replace(self.row, cleanup=json.dumps(new))
        return self.row

    def carry_out(self) -> None:
        """Do what is planned. If another file has taken the name meanwhile, it has to be planned again."""
        plan = _plan(self.row)
        if plan["do"] == "delete":
            self._disk.unlink(self._path)
            self._finish("delete", None)
            return
        to = Path(plan["to"])
        self._disk.make_folder(to.parent)
        try:
            self._move(to)
        except FileExistsError:
            return
        if not self.problem:
            self._finish("move", to)
        self.is_over = True

    def _move(self, to: Path) -> None:
        try:
            self._put(self._path, to, keeps=True)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            part = _part(to)
            self._disk.copy(self._path, part)
            if not self._is_unchanged():
                self._disk.unlink(part)
                self.problem = "it changed while it was copied"
                return
            self._put(part, to)
        self._disk.sync_folder(to.parent)
        if os.path.lexists(self._path):
            self._disk.unlink(self._path)

    def _put(self, source: Path, to: Path, *, keeps: bool = False) -> None:
        """Give a file its final name, never that of another file. `keeps`: its former name is removed later."""
        try:
            self._disk.link(source, to)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._disk.reserve(to)  # a file system without links: only its own empty file is overwritten
            try:
                self._disk.rename(source, to)
            except OSError:
                self._disk.unlink(to)
                raise
            return
        if not keeps:
            self._disk.unlink(source)

    def _discard_part(self, to: Path) -> None:
        """Delete what a killed process left of its move: the copy, and the empty file that it created to reserve the name."""
        if os.path.lexists(_part(to)):
            self._disk.unlink(_part(to))
        if self.row.size and to.is_file() and not to.stat().st_size:
            self._disk.unlink(to)

    def _free_name(self) -> Path:
        folder = (self._settings.cleanup_dir or self._path.parent / MOVED_FOLDER) / self._day
        stem, dot, suffixes = self._path.name.partition(".")
        for number in itertools.count(1):
            name = self._path.name if number == 1 else f"{stem}-{number}{dot}{suffixes}"
            if not os.path.lexists(folder / name):
                return folder / name
        raise AssertionError

    def _is_there(self, to: Path) -> bool:
        """Whether the planned place has the file already: under both names, or as a whole copy."""
        try:
            found, here = to.stat(), self._path.stat()
        except OSError:
            return False
        if (found.st_dev, found.st_ino) == (here.st_dev, here.st_ino):
            return True
        return (
            self._is_unchanged()
            and found.st_size == self.row.size
            and bool(self.row.sha256)
            and _digest(to) == self.row.sha256
        )

    def _is_unchanged(self) -> bool:
        return self.row.is_unchanged(LocalFileSystem().stat(FileRef(self.row.path, 0, ())))

    def _finish(self, what: str, to: Path | None) -> None:
        done = {"done": what} if to is None else {"done": what, "to": str(to)}
        path = f"{self.row.path} ({what}, {self.row.sha256[:12] or self.row.push_id})" if to is None else str(to)
        self.row = dataclasses.replace(self.row, path=path, cleanup=json.dumps(done))
        self.is_over = True


def _plan(row: FileRow) -> dict[str, Any]:
    found = json.loads(row.cleanup) if row.cleanup else {}
    return found if isinstance(found, dict) else {}


def _part(to: Path) -> Path:
    return to.with_name(f".{to.name}.pushengine-part")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
