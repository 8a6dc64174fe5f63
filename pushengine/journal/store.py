r"""The journal file: an append-only SQLite record of every push of this host.

File `journal.sqlite3` in the state folder, format 2 (`PRAGMA user_version`):

```
pushes(push_id TEXT PRIMARY KEY,
       identity TEXT NOT NULL,     -- hash of team, pool, target and source: the same command gives the same identity
       team TEXT NOT NULL, pool_id TEXT NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL,
       created_at REAL NOT NULL, updated_at REAL NOT NULL,               -- seconds UTC
       state TEXT NOT NULL)        -- open | finished (DONE, receipt perhaps not returned yet) | done | failed | superseded | unknown
facts(seq INTEGER PRIMARY KEY, push_id TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
      body TEXT NOT NULL)         -- JSON; a byte 0xE4 of a file name that is not UTF-8 is the escape \udce4
teams(team TEXT PRIMARY KEY, checksum TEXT)   -- checksum algorithm that the platform was found to use
```

Beside these, `journal/tables.py` describes what is remembered of the loaded tables, and `journal/loads.py` what is remembered of loads,
which format 1 lacks. A file of format 1 is upgraded when it is opened for writing; reading it does not change it.

Facts are only appended, in one order, so whatever survives a crash is a prefix of what happened. `journal/state.py` computes the state of
a push from its facts. A fact about an intent (`chunk_sending`, `submit_intended`) is durable before the request is sent, a fact about an
outcome before it is reported to anyone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pushengine.errors import JournalError
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.loads import LOADS_SCHEMA
from pushengine.journal.queries import FORMAT_VERSION, JournalQueries, require_sound
from pushengine.journal.sqlite_errors import corrupt, translated, translation
from pushengine.journal.tables import (
    TABLES_SCHEMA,
    LoadedPush,
    RememberedTable,
    TableKey,
    TableMemory,
    unremembered_pushes,
)
from pushengine.schema.known import KnownTable
from pushengine.state.folder import refuse_network_file_system
from pushengine.state.sqlite import BUSY_TIMEOUT_SECONDS, open_durable, transaction
from pushengine.text import storable

T = TypeVar("T")

_MIN_PAGE_BYTES = 512
_EXAMINED_STEP = 10_000
"""Facts after which the number of the last examined one is stored anew, so that opening the file stays fast."""

_SCHEMA = """
CREATE TABLE pushes (
    push_id TEXT PRIMARY KEY, identity TEXT NOT NULL, team TEXT NOT NULL, pool_id TEXT NOT NULL, target TEXT NOT NULL,
    source TEXT NOT NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, state TEXT NOT NULL
) STRICT;
CREATE INDEX pushes_by_identity ON pushes (identity, created_at);
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY, push_id TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX facts_by_push ON facts (push_id, seq);
CREATE TABLE teams (team TEXT PRIMARY KEY, checksum TEXT) STRICT;
"""

_STATE_INDEX = "CREATE INDEX IF NOT EXISTS pushes_by_state ON pushes (state, created_at)"
"""Not part of the format: it is added to journals that lack it, and SQLite maintains it even when an older version writes."""


class Outcome(NamedTuple):
    """The outcome of one call: its result, or the error that it raised (None if it succeeded)."""

    result: Any
    error: BaseException | None


class JournalFile(JournalQueries):
    """The journal database, blocking and single-threaded; `Journal` runs it in a thread.

    Raises:
        JournalCorruptError: The file fails its integrity check; it is left unchanged.
        JournalVersionError: A newer version of pushengine wrote the file.
        JournalError: The file cannot be opened, read or written.
    """

    def __init__(self, path: Path) -> None:
        refuse_network_file_system(path.parent)
        with translated(path):
            _check(path)
            super().__init__(open_durable(path), path)
        try:
            with translated(path):
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        if self.known_format() < FORMAT_VERSION:
            with self.transaction():
                self._upgrade()
        self._db.execute(_STATE_INDEX)
        for statement in TABLES_SCHEMA.split(";"):
            self._db.execute(statement)
        self.tables = TableMemory(self._db)
        self._examined_seq = self.tables.examined_seq()
        last_seq = self.tables.last_seq()
        if last_seq > self._examined_seq + _EXAMINED_STEP or self.tables.unremembered(self._examined_seq):
            with self.transaction():
                self._remember_older()
        self._examined_seq = last_seq

    def _upgrade(self) -> None:
        """Create what a new file, or one of format 1, lacks. In one transaction: another process sees either format, and nothing between."""
        version = self.known_format()  # again: another process may have upgraded it meanwhile
        schemas = ((1, _SCHEMA), (FORMAT_VERSION, LOADS_SCHEMA))
        for statement in ";".join(schema for number, schema in schemas if version < number).split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version={FORMAT_VERSION}")

    def _remember_older(self) -> None:
        """Remember the pushes that an older version of pushengine has ended."""
        last_seq = self.tables.last_seq()
        for key, push in unremembered_pushes(self, self.tables, self._examined_seq):
            self.tables.apply(key, push)
        self.tables.set_examined(last_seq)

    def known_table(self, key: TableKey) -> KnownTable | None:
        """Return what is known of a table; None if nothing is. Does not write."""
        last_seq, table = self.tables.last_seq(), self.tables.get(key)
        older = list(unremembered_pushes(self, self.tables, self._examined_seq))
        for (
            other,
            push,
        ) in older:  # ended by an older version since this file was opened; they are stored when it is opened again
            if other == key:
                table = table or RememberedTable.new(push.table)
                table.apply(push)
        if not older:
            self._examined_seq = last_seq
        return None if table is None or not table.known.columns else table.known

    def remember(self, key: TableKey, push: LoadedPush, job_id: str) -> None:
        """Remember a push that has ended, unless its job was never submitted."""
        seq = self.tables.submit_seq(push.push_id, job_id)
        if seq:
            self.tables.apply(key, dataclasses.replace(push, seq=seq))

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager that commits the block durably at its end, or rolls all of it back."""
        return transaction(self._db)

    def write_together(self, calls: Sequence[Callable[[JournalFile], Any]]) -> list[Outcome]:
        """Run all calls in one durable transaction. A call that raises is rolled back alone; the others are kept.

        Returns:
            For each call, what it returned or raised.

        Raises:
            sqlite3.Error: The transaction itself failed; nothing was recorded for any call.
            BaseException: Whatever the call raises, if there is only one.
        """
        if len(calls) == 1:  # by far the most common case: a savepoint would equal the transaction
            with self.transaction():
                return [Outcome(calls[0](self), None)]
        outcomes = []
        # One cursor for all calls, without the lock retries of `PatientConnection.execute`: this transaction holds the lock. Half the cost.
        execute = self._db.cursor().execute
        with self.transaction():
            for call in calls:
                execute("SAVEPOINT call")
                try:
                    outcomes.append(Outcome(call(self), None))
                except BaseException as error:
                    if not self._db.in_transaction:  # full disk or I/O error: SQLite rolled back all calls
                        raise
                    execute("ROLLBACK TO call")
                    outcomes.append(Outcome(None, error))
                # If a call swallowed such an error, the savepoint is gone and this raises.
                execute("RELEASE call")
        return outcomes

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read a consistent snapshot of the file in the block. Other processes are not blocked; writes in the block fail."""
        self._db.execute("PRAGMA query_only=ON")
        try:
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                if self._db.in_transaction:  # not after an I/O error
                    self._db.execute("ROLLBACK")
        finally:
            self._db.execute("PRAGMA query_only=OFF")

    def begin_push(self, row: PushRow) -> None:
        """Add a new push to the list of pushes."""
        self._db.execute("INSERT INTO pushes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", dataclasses.astuple(row))

    def append(self, fact: FactRow) -> None:
        """Append one fact and update the time of its push."""
        body = storable(json.dumps(fact.body, ensure_ascii=False, separators=(",", ":")))
        self._db.execute(
            "INSERT INTO facts (push_id, at, kind, body) VALUES (?, ?, ?, ?)", (fact.push_id, fact.at, fact.kind, body)
        )
        self._db.execute("UPDATE pushes SET updated_at = ? WHERE push_id = ?", (fact.at, fact.push_id))

    def set_state(self, push_id: str, state: str, at: float) -> None:
        """Set the state of a push in the list of pushes; `at` is in seconds UTC."""
        self._db.execute("UPDATE pushes SET state = ?, updated_at = ? WHERE push_id = ?", (state, at, push_id))

    def record_checksum(self, team: str, checksum: str) -> None:
        """Store the checksum algorithm that the platform uses for a team."""
        self._db.execute(
            "INSERT INTO teams VALUES (?, ?) ON CONFLICT (team) DO UPDATE SET checksum = excluded.checksum",
            (team, checksum),
        )

    def prunable(self, before: float) -> tuple[int, int]:
        """Return how many pushes, and how many whole runs, `prune` would delete."""
        which, arguments = self._prunable(before)
        (pushes,) = self._db.execute(f"SELECT count(*) FROM pushes WHERE {which}", arguments).fetchone()  # noqa: S608 - a constant
        self._db.execute("SAVEPOINT trial")
        runs = self.loads.prune(before)
        self._db.execute("ROLLBACK TO trial")
        self._db.execute("RELEASE trial")
        return pushes, runs

    def _prunable(self, before: float) -> tuple[str, tuple[float, str | None]]:
        newest = self._db.execute("SELECT push_id FROM facts ORDER BY seq DESC LIMIT 1").fetchone()
        which = "state IN ('done', 'failed', 'superseded') AND updated_at < ? AND push_id IS NOT ?"
        return which, (before, newest[0] if newest else None)

    def prune(self, before: float) -> int:
        """Delete done, failed and superseded pushes last updated before this time (seconds UTC); return the number deleted.

        Old runs are deleted, too; load ids, and what is remembered of loads and tables, stay.

        The push with the newest fact stays: SQLite would give its number to a new fact, but the memory of tables compares these numbers.
        """
        which, arguments = self._prunable(before)
        self.loads.prune(before)
        self._db.execute(f"DELETE FROM facts WHERE push_id IN (SELECT push_id FROM pushes WHERE {which})", arguments)  # noqa: S608 - a constant
        return self._db.execute(f"DELETE FROM pushes WHERE {which}", arguments).rowcount  # noqa: S608 - a constant


def _check(path: Path) -> None:
    """Check the file over a read-only connection: closing a writable one would write the log into a damaged file.

    Raises:
        JournalCorruptError: The file is damaged.
    """
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return
    if size < _MIN_PAGE_BYTES:  # SQLite would treat it as an empty database
        raise corrupt(path, f"it is truncated to {size} bytes")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as db:
        require_sound(db, path)


class _Call(NamedTuple):
    """A call that waits for the journal's thread."""

    run: Callable[[JournalFile], Any]
    future: Future[Any]
    is_write: bool


class Journal:
    """The journal for asynchronous code: every write returns once its effect is durable.

    One thread runs all calls. Writes that are waiting at the same time are committed together, in call order, so that many uploads
    share one disk flush (`synchronous=FULL`); reads follow. A read therefore sees all earlier writes of this process, and possibly
    later ones.

    Args:
        path: The database file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._work, name="pushengine-journal", daemon=True)
        self._is_closed = False
        self.commits = 0

    async def open(self) -> None:
        """Start the thread and open the file.

        Raises:
            JournalError: The file cannot be used; see `JournalFile` for the more specific errors.
        """
        self._thread.start()
        await asyncio.wrap_future(self._opened)

    async def aclose(self) -> None:
        """Finish the waiting calls and close the file; safe to call twice."""
        if self._is_closed or not self._thread.is_alive():
            self._is_closed = True
            return
        self._is_closed = True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    async def do(self, call: Callable[[JournalFile], T]) -> T:
        """Run a call that writes, on the journal's thread. When this returns, all of it is durable; if it raises, none of it was recorded.

        Raises:
            JournalError: The file cannot be read or written (such as a full disk or a read-only folder); nothing was recorded.
        """
        return await self._enqueue(call, is_write=True)

    async def read(self, call: Callable[[JournalFile], T]) -> T:
        """Run a call that only reads, on the journal's thread. It does not wait for writes of other processes.

        Raises:
            JournalError: The file cannot be read, or the call tried to write.
        """
        return await self._enqueue(call, is_write=False)

    def _enqueue(self, call: Callable[[JournalFile], T], *, is_write: bool) -> asyncio.Future[T]:
        if self._is_closed:
            raise JournalError("the journal is closed", path=str(self.path))
        future: Future[T] = Future()
        self._calls.put(_Call(call, future, is_write))
        # A cancelled call that has not started is dropped; one that has started completes, and its outcome is ignored.
        return asyncio.wrap_future(future)

    def _work(self) -> None:
        try:
            file = JournalFile(self.path)
        except BaseException as error:  # noqa: BLE001 - raised by `open`
            if self._opened.set_running_or_notify_cancel():
                self._opened.set_exception(error)
            return
        if self._opened.set_running_or_notify_cancel():  # it was not interrupted meanwhile
            self._opened.set_result(None)
        try:
            is_last = False
            while not is_last:
                batch, is_last = self._next_batch()
                self._write(file, [one for one in batch if one.is_write])
                for one in batch:
                    if not one.is_write:
                        self._read(file, one)
        finally:
            file.close()

    def _next_batch(self) -> tuple[list[_Call], bool]:
        batch = []
        call = self._calls.get()
        while call is not None:
            batch.append(call)
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, file: JournalFile, batch: Sequence[_Call]) -> None:
        waiting = [one for one in batch if one.future.set_running_or_notify_cancel()]
        if not waiting:
            return
        try:
            outcomes = file.write_together([one.run for one in waiting])
        except BaseException as error:  # noqa: BLE001 - raised to all callers of the batch
            outcomes = [Outcome(None, error)] * len(waiting)
        else:
            self.commits += 1
        for one, outcome in zip(waiting, outcomes, strict=True):
            self._resolve(one.future, outcome)

    def _read(self, file: JournalFile, one: _Call) -> None:
        if not one.future.set_running_or_notify_cancel():
            return
        try:
            with file.snapshot():
                outcome = Outcome(one.run(file), None)
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            outcome = Outcome(None, error)
        self._resolve(one.future, outcome)

    def _resolve(self, future: Future[Any], outcome: Outcome) -> None:
        if outcome.error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(translation(self.path, outcome.error))
