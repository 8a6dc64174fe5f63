"""SQLite as the journal and the quota ledger use it: with a write-ahead log, and commits on disk before they are reported."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pushengine.state.file_errors import result_code

BUSY_TIMEOUT_SECONDS = 30.0
_SHORT_WAITS_PERIOD_SECONDS = 0.02
_SHORT_WAIT_SECONDS = 0.00005
_LONG_WAIT_SECONDS = 0.002
_flush = getattr(os, "fdatasync", os.fsync)
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damage(error: BaseException) -> bool:
    """Return whether the error means that the file is damaged or not a database."""
    if isinstance(error, sqlite3.OperationalError) and result_code(error) is None:
        # Raised by Python's sqlite3 module, not by SQLite. When reading there is only one such error: a text is not valid UTF-8.
        return True
    return result_code(error) in _DAMAGED


class PatientConnection(sqlite3.Connection):
    """A connection that waits for the locks of other processes at every statement.

    SQLite's own busy handler sleeps longer and longer, up to 100 ms, so a later process can overtake; and it does not wait at all while
    several processes create the same new file. Transactions here take a fraction of a millisecond, and writing ones start with
    `BEGIN IMMEDIATE`, so retrying soon is fair and cheap and cannot deadlock.
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement, waiting as long as the file is locked.

        Raises:
            sqlite3.Error: As usual; `OperationalError` if the file stays locked for longer than `BUSY_TIMEOUT_SECONDS`.
        """
        start: float | None = None
        while True:
            try:
                return super().execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if result_code(error) not in _LOCKED:
                    raise
                now = time.monotonic()  # a real wait for a lock, which an injected `Clock` does not control
                start = now if start is None else start
                if now - start > BUSY_TIMEOUT_SECONDS:
                    raise
            time.sleep(_SHORT_WAIT_SECONDS if now - start < _SHORT_WAITS_PERIOD_SECONDS else _LONG_WAIT_SECONDS)


def open_durable(path: Path) -> sqlite3.Connection:
    """Open or create a database, private to the user, in autocommit mode, usable from any thread but only one at a time.

    Raises:
        sqlite3.Error: The database cannot be opened.
        OSError: Its file permissions cannot be set.
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
    """Run the block in a transaction: commit it at the end, or roll it back if the block raises.

    Raises:
        sqlite3.Error: The transaction could not be started or committed; nothing was written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after a full disk or an I/O error SQLite has already rolled back
            connection.execute("ROLLBACK")
        raise


def flush_log(path: Path) -> None:
    """Flush to disk everything that any process has committed so far. For `synchronous=NORMAL`; call it without holding the database lock.

    The caller must have the database open, because SQLite deletes the log when the last connection closes. What a checkpoint has already
    moved out of the log, SQLite has flushed itself.

    Raises:
        OSError: The log cannot be flushed; committed data may be lost in a power failure.
    """
    descriptor = os.open(f"{path}-wal", os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


_SQLITE_MAGIC = b"SQLite format 3\0"


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a database read-only.

    If SQLite cannot create the files of the write-ahead log next to the database, and there is no log with content, the database is
    opened as immutable.

    Raises:
        sqlite3.Error: The file cannot be opened, or is not a database (`SQLITE_NOTADB`).
        OSError: The file is missing or unreadable.
    """
    path.stat()  # raises OSError
    with path.open("rb") as file:
        start = file.read(len(_SQLITE_MAGIC))
    if start != _SQLITE_MAGIC[: len(start)] or (0 < len(start) < len(_SQLITE_MAGIC)):
        error = sqlite3.DatabaseError("file is not a database")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        raise error
    name = path.absolute().as_uri()
    try:
        return _require_readable(sqlite3.connect(f"{name}?mode=ro", uri=True, isolation_level=None, timeout=30))
    except sqlite3.OperationalError:
        if wal_of(path).exists() and wal_of(path).stat().st_size:
            raise
        return _require_readable(sqlite3.connect(f"{name}?immutable=1", uri=True, isolation_level=None))


def _require_readable(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def wal_of(path: Path) -> Path:
    """Return the path of the write-ahead log of a database file."""
    return path.with_name(f"{path.name}-wal")
