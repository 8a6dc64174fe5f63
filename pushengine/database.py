"""SQLite as journal and ledger use it: a write-ahead log, every commit on the disk before it returns."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

BUSY_TIMEOUT_SECONDS = 30.0
_RETRY_SECONDS = 0.02


def open_durable(path: Path) -> sqlite3.Connection:
    """Open or make a database; private to the user, in autocommit mode, usable from any one thread at a time.

    Raises:
        sqlite3.Error: It cannot be opened.
        OSError: It cannot be made private.
    """
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous=FULL")
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """The one statement for which SQLite does not wait while another process makes the same new file."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS  # a lock wait of the system's, outside any clock of ours
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return
