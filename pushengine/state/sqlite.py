"""SQLite as journal and ledger use it: a write-ahead log, every commit on the disk before anyone hears of it."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BUSY_TIMEOUT_SECONDS = 30.0
_SHORT_WAITS_SECONDS = 0.02
_SHORT_WAIT_SECONDS = 0.00005
_LONG_WAIT_SECONDS = 0.002
_flush = getattr(os, "fdatasync", os.fsync)
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def result_code(error: BaseException | None) -> int | None:
    """SQLite's primary result code, without what an extended one adds; None for an error that is not SQLite's."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_damage(error: BaseException) -> bool:
    """Whether the file is no sound database."""
    if isinstance(error, sqlite3.OperationalError) and result_code(error) is None:
        # Of Python's module, not of SQLite. In reading it has one such error, and no class for it: a text is no UTF-8.
        return True
    return result_code(error) in _DAMAGED


def may_pass(error: BaseException | None) -> bool:
    """Whether it may work later, without a change of command or configuration: others keep the file locked, or the disk is full."""
    code = result_code(error)
    return code in _LOCKED or code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC


class PatientConnection(sqlite3.Connection):
    """Waits for other processes, at every statement.

    SQLite's own way of waiting sleeps longer and longer, up to 100 ms, while whoever came later and asks at the right moment overtakes; and
    it does not wait at all where several make the same new file. Transactions here take a fraction of a millisecond, and writing ones begin
    with `BEGIN IMMEDIATE`: asking again soon is fair and cheap, and never a deadlock.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement as soon as the file is not locked.

        Raises:
            sqlite3.Error: As usual; `OperationalError` where it is locked for longer than `BUSY_TIMEOUT_SECONDS`.
        """
        start: float | None = None
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if result_code(error) not in _LOCKED:
                    raise
                now = time.monotonic()  # a lock wait of the system's, outside any clock of ours
                start = now if start is None else start
                if now - start > BUSY_TIMEOUT_SECONDS:
                    raise
            time.sleep(_SHORT_WAIT_SECONDS if now - start < _SHORT_WAITS_SECONDS else _LONG_WAIT_SECONDS)


def open_durable(path: Path) -> sqlite3.Connection:
    """Open or make a database; private to the user, in autocommit mode, usable from any one thread at a time.

    Raises:
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made private.
    """
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, factory=PatientConnection
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block is committed at its end, or nothing of it.

    Raises:
        sqlite3.Error: It could not begin or be committed; nothing of it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after a full disk or an I/O error SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def flush_log(path: Path) -> None:
    """Have the disk hold all that was committed to the database so far, by any process: for `synchronous=NORMAL`, outside of its lock.

    The caller has the database open, or its log would be gone. What a checkpoint took out of the log before, SQLite has flushed itself.

    Raises:
        OSError: It cannot be flushed; what was committed may be lost when the power fails.
    """
    descriptor = os.open(f"{path}-wal", os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


_SQLITE_MAGIC = b"SQLite format 3\0"


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database without the right to change it.

    Where not even the files of the write-ahead log can be made beside it, it is opened as a file that nobody changes.

    Raises:
        sqlite3.Error: It cannot be opened, or is no database (`SQLITE_NOTADB`).
        OSError: It is missing or unreadable.
    """
    if not path.is_file():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with path.open("rb") as file:
        start = file.read(len(_SQLITE_MAGIC))
    if start != _SQLITE_MAGIC[: len(start)] or (0 < len(start) < len(_SQLITE_MAGIC)):
        error = sqlite3.DatabaseError("file is not a database")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error
    name = path.absolute().as_uri()
    try:
        return _tried(sqlite3.connect(f"{name}?mode=ro", uri=True, isolation_level=None, timeout=30))
    except sqlite3.OperationalError:
        if wal_of(path).exists() and wal_of(path).stat().st_size:
            raise
        return _tried(sqlite3.connect(f"{name}?immutable=1", uri=True, isolation_level=None))


def _tried(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def wal_of(path: Path) -> Path:
    """The write-ahead log beside a database file."""
    return path.with_name(f"{path.name}-wal")
