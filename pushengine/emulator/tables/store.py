"""The tables of an emulated team, in a DuckDB file or in memory.

A file is open only while an operation uses it, so that other processes can read it in between. An in-memory database
lives as long as the store. Every method blocks and may be called from any thread.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from pushengine.emulator.tables.columns import quote

OPEN_TIMEOUT_SECONDS = 10.0
_OPEN_RETRY_SECONDS = 0.02
_HELD_BY_ANOTHER = ("Could not set lock", "used by another process")  # POSIX, Windows

_Result = TypeVar("_Result")


class Store:
    """One DuckDB database, shared by loads and queries."""

    def __init__(self, database: Path | None, temp_folder: Path) -> None:
        self._database = database
        self._temp_folder = temp_folder
        self._lock = threading.Lock()
        self._root: Any = None
        self._users = 0

    def open(self) -> None:
        """Create the database, or check that it can be opened."""
        with self._connection():
            pass

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows; it sees committed loads only."""
        with self._connection() as connection:
            rows: list[tuple[Any, ...]] = connection.execute(sql, parameters).fetchall()
        return rows

    def transact(self, schema: str, work: Callable[[Any], _Result]) -> _Result:
        """Run `work` in a transaction of its own, in which `schema` exists, and return its result.

        Several may run at a time, if they write to different tables.
        """
        with self._connection() as connection:
            # In a transaction of its own: of two that create a schema at the same time, one would fail.
            with self._lock:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
            connection.execute("BEGIN")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(duckdb.Error):  # a failed COMMIT has already rolled back
                    connection.execute("ROLLBACK")
                raise
        return result

    def close(self) -> None:
        """Close the database if it is still open; a file was already checkpointed and closed by its last user."""
        with self._lock:
            if self._root is not None:
                self._root.close()
                self._root = None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        connection = self._acquire()
        try:
            yield connection
        finally:
            connection.close()
            self._release()

    def _acquire(self) -> Any:
        with self._lock:
            if self._root is None:
                self._root = self._connect()
            self._users += 1
            return self._root.cursor()

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._database is not None and self._users == 0:
                self._root.execute("CHECKPOINT")
                self._root.close()
                self._root = None

    def _connect(self) -> Any:
        if self._database is None:
            return duckdb.connect(":memory:", config={"temp_directory": str(self._temp_folder / "duckdb")})
        deadline = time.monotonic() + OPEN_TIMEOUT_SECONDS
        while True:
            try:
                return duckdb.connect(str(self._database))
            except duckdb.IOException as exc:
                # Another process has the file open, either briefly, as this class does, or permanently. DuckDB raises the same class
                # for a file that cannot be opened at all, without a code: only the text of the error distinguishes them.
                if time.monotonic() > deadline or not any(word in str(exc) for word in _HELD_BY_ANOTHER):
                    raise
                time.sleep(_OPEN_RETRY_SECONDS)
