"""Operating system locks on files in the state folder.

The operating system releases a lock however its process ends, so the existence of a lock file does not mean that it is locked.

    POSIX      `flock` on the file.
    Windows    A lock on a range of bytes, far beyond the end of any file, because other processes can neither read nor write locked bytes.
               Byte locks are always exclusive: a shared lock takes any one byte of the range, an exclusive lock takes all of them.
               An open file can be neither renamed nor deleted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import threading
from pathlib import Path
from typing import Any

from pushengine.errors import JournalError, JournalLockedError
from pushengine.state.file_errors import state_errors
from pushengine.text import shown_name


def _import_or_none(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl: Any = _import_or_none("fcntl")
_msvcrt: Any = None if _fcntl is not None else _import_or_none("msvcrt")

CAN_RENAME_OPEN_FILES = _fcntl is not None
"""Whether this system can rename and delete a file while it is open."""

_FIRST_LOCKED_BYTE = 1 << 43
_LOCKED_BYTES = 64
"""Maximum number of holders of a shared lock on Windows."""


class FileLock:
    """A lock on an open file. It takes over the file and closes it in `release()`, or at once if the file cannot be locked.

    Args:
        descriptor: File descriptor of the open file.
        is_shared: Whether others may hold a shared lock at the same time.

    Raises:
        BlockingIOError: Another holder has a conflicting lock.
        OSError: The system cannot lock this file.
        JournalError: This system does not support file locks.
    """

    def __init__(self, descriptor: int, *, is_shared: bool = False) -> None:
        self.descriptor = descriptor
        self._bytes = range(0)
        try:
            self._take(is_shared=is_shared)
        except BaseException:
            os.close(descriptor)
            raise

    def _take(self, *, is_shared: bool) -> None:
        if _fcntl is not None:
            _fcntl.flock(self.descriptor, (_fcntl.LOCK_SH if is_shared else _fcntl.LOCK_EX) | _fcntl.LOCK_NB)
        elif _msvcrt is not None:
            self._bytes = self._take_bytes(is_shared=is_shared)
        else:
            raise JournalError(
                "cannot lock files on this system: Python has neither fcntl nor msvcrt here",
                path="",
                hint="run it on Linux, macOS or Windows: without locks two processes could push the same rows",
            )

    def _take_bytes(self, *, is_shared: bool) -> range:
        all_bytes = range(_FIRST_LOCKED_BYTE, _FIRST_LOCKED_BYTE + _LOCKED_BYTES)
        for locked in [range(byte, byte + 1) for byte in all_bytes] if is_shared else [all_bytes]:
            try:
                self._lock_bytes(_msvcrt.LK_NBLCK, locked)
            except OSError as error:
                if error.errno != errno.EACCES:
                    raise
            else:
                return locked
        raise BlockingIOError(errno.EAGAIN, "another process has it locked")

    def _lock_bytes(self, mode: int, locked: range) -> None:
        os.lseek(self.descriptor, locked.start, os.SEEK_SET)
        _msvcrt.locking(self.descriptor, mode, len(locked))

    def release(self) -> None:
        """Release the lock and close the file; safe to call twice."""
        if self.descriptor < 0:
            return
        if self._bytes:  # closing the file also unlocks on Windows, but not necessarily at once
            with contextlib.suppress(OSError):
                self._lock_bytes(_msvcrt.LK_UNLCK, self._bytes)
        os.close(self.descriptor)
        self.descriptor = -1


class PushLock:
    """An exclusive lock that lets only one process work on a push: on `locks/<identity>.lock`, which contains that process's pid.

    Args:
        folder: Folder of the lock files; created if missing.
        identity: Identity of the push.
        refusal: What is held, for the message of the error.

    Raises:
        JournalLockedError: Another process is working on the same push.
        JournalError: The lock cannot be taken for another reason.
    """

    def __init__(self, folder: Path, identity: str, *, refusal: str = "this push is held") -> None:
        self.path = _path_of(folder, identity)
        with state_errors("cannot lock this push", self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._lock = FileLock(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            except BlockingIOError as error:
                raise JournalLockedError(
                    f"{refusal} by pid {_pid_in(self.path) or 'unknown'}",
                    path=str(self.path),
                    hint="wait for it, or stop that process; then run the same command again",
                ) from error
            try:
                self._write_pid()
            except BaseException:
                self._lock.release()
                raise

    def _write_pid(self) -> None:
        os.ftruncate(self._lock.descriptor, 0)
        os.lseek(self._lock.descriptor, 0, os.SEEK_SET)
        os.write(self._lock.descriptor, str(os.getpid()).encode("ascii"))

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        self._lock.release()


class TableLock:
    """A lock that lets only one process load a table: on `locks/table-<digest>.lock`, which contains that process's pid.

    Pushes of one process may hold it together: they take turns. It is free when the last of them has released it.

    Args:
        folder: Folder of the lock files; created if missing.
        place: The table with team, pool and data connection, in words; equal for names that differ only in case.
        table: Name of the table, for messages.

    Raises:
        JournalLockedError: Another process is loading the table.
        JournalError: The lock cannot be taken for another reason.
    """

    def __init__(self, folder: Path, place: str, table: str) -> None:
        digest = hashlib.sha256(place.casefold().encode("utf-8", "surrogatepass")).hexdigest()
        name = f"table-{digest}"
        self._key = os.getpid(), _path_of(folder, name).absolute()  # a forked child holds nothing
        with _TABLE_LOCKS.guard:
            held = _TABLE_LOCKS.held.get(self._key)
            if held is None:
                held = [PushLock(folder, name, refusal=f"table {shown_name(table)} is being loaded"), 0]
                _TABLE_LOCKS.held[self._key] = held
            held[1] += 1
        self._is_held = True

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        if not self._is_held:
            return
        self._is_held = False
        with _TABLE_LOCKS.guard:
            held = _TABLE_LOCKS.held[self._key]
            held[1] -= 1
            if not held[1]:
                held[0].release()
                del _TABLE_LOCKS.held[self._key]


class _TableLocks:
    """The table locks that this process holds: for each file the lock, and by how many it is held."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.held: dict[tuple[int, Path], list[Any]] = {}


_TABLE_LOCKS = _TableLocks()


def holder_of(folder: Path, identity: str) -> int | None:
    """Return the pid of the process that holds the push's lock, or None if there is none or it cannot be determined.

    Checks by taking a shared lock for an instant.

    Raises:
        JournalError: This system does not support file locks.
    """
    path = _path_of(folder, identity)
    try:
        FileLock(os.open(path, os.O_RDONLY), is_shared=True).release()
    except BlockingIOError:
        pid = _pid_in(path)
        return int(pid) if pid.isdecimal() else None
    except OSError:
        return None
    return None


def _path_of(folder: Path, identity: str) -> Path:
    return folder / f"{identity[:32]}.lock"


def _pid_in(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes()[:32].decode("ascii", "replace").strip()
    return ""
