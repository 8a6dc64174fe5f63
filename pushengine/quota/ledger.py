"""The quota ledger: a SQLite file in which all processes of the host count the submits of each team.

File `quota.sqlite3` in the state folder, format 1 (`PRAGMA user_version`):

```
quota(team TEXT PRIMARY KEY,       -- host of the team
      hour INTEGER NOT NULL,       -- UTC hour number (seconds // 3600) by the server's clock
      spent INTEGER NOT NULL,      -- grants in that hour; never refunded
      next_grant REAL NOT NULL,    -- host time before which there is no further grant (spacing within the second)
      blocked_until REAL NOT NULL) -- server time before which the server refuses submits (after a 429)
blocks(team TEXT PRIMARY KEY,      -- details of `blocked_until`; older versions of format 1 do not know this table
       server_until REAL NOT NULL, -- equals `blocked_until`; if not, an older version has set a block since
       host_until REAL NOT NULL,   -- the same point in time by the host's clock; the block ends as soon as either clock reaches it
       set_at_host REAL NOT NULL,  -- host time when the block was set
       is_named INTEGER NOT NULL,  -- 1: the server specified the time
       reason TEXT NOT NULL)       -- for people
```

Hours follow the server's clock. Spacing follows the host's clock, which all processes share: their estimates of the server's time differ by
up to a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pushengine.config.settings import EngineSettings
from pushengine.errors import LedgerError
from pushengine.interfaces import QuotaGrant
from pushengine.model import QuotaStatus
from pushengine.quota.rules import Block, ClockReading, QuotaRow, QuotaRules
from pushengine.state.file_errors import state_errors
from pushengine.state.sqlite import flush_log, open_durable, transaction
from pushengine.text import iso_utc

FORMAT_VERSION = 1
# Spacing instead of a window per second: with grants at least `1.1 / submits_per_second` apart, any window of one second holds at most
# `submits_per_second`, and 10 % is left for jitter between the grant and the server. `AsyncLimiter(10, 1)` would let 20 through.
_SPACING_MARGIN = 1.1

_QUOTA_SCHEMA = """
CREATE TABLE IF NOT EXISTS quota (
    team TEXT PRIMARY KEY,
    hour INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    next_grant REAL NOT NULL,
    blocked_until REAL NOT NULL
) STRICT
"""
_BLOCKS_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    team TEXT PRIMARY KEY,
    server_until REAL NOT NULL,
    host_until REAL NOT NULL,
    set_at_host REAL NOT NULL,
    is_named INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT
"""


@dataclasses.dataclass(frozen=True, slots=True)
class LedgerStatus:
    """The ledger's information about a team.

    Attributes:
        spent: Number of grants in this UTC hour.
        block_seconds: Seconds for which submits are still blocked; 0 if they are not.
        block_reason: Why submits are blocked, in words, or None if they are not.
    """

    spent: int
    block_seconds: float
    block_reason: str | None


class SqliteLedger:
    """A file-based `interfaces.QuotaLedger`. Thread-safe and process-safe; every method blocks on disk.

    Args:
        path: The database file; its folder must exist.
        submits_per_second: Maximum number of grants in any window of one second.
        submits_per_hour: Maximum number of grants in a UTC hour.
        hour_guard_seconds: Seconds before and after each full hour without grants, because the server's clock decides which hour it is.
        flush: Flushes to disk what was committed to the file.

    Raises:
        LedgerError: The file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        submits_per_second: int = 10,
        submits_per_hour: int = 250,
        hour_guard_seconds: float = 2.0,
        flush: Callable[[Path], None] = flush_log,
    ) -> None:
        self.path = path
        self.submits_per_hour = submits_per_hour
        self.spacing_seconds = _SPACING_MARGIN / submits_per_second
        self._rules = QuotaRules(submits_per_hour, self.spacing_seconds, hour_guard_seconds)
        self._flush = flush
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        with self._translated():
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = open_durable(self.path)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > FORMAT_VERSION:
                raise LedgerError(  # noqa: TRY301 - the connection is closed below
                    f"the quota ledger has format {version}, this version supports up to {FORMAT_VERSION}",
                    path=str(self.path),
                    hint="use the newer pushengine that wrote it, or another state folder",
                )
            connection.execute("PRAGMA synchronous=NORMAL")
            is_complete = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'blocks'").fetchone() == (
                1,
            )
            if version == 0 or not is_complete:
                with transaction(connection):
                    connection.execute(_QUOTA_SCHEMA)
                    connection.execute(_BLOCKS_SCHEMA)
                    connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def reserve(self, team: str, server_now: float, host_now: float | None = None) -> QuotaGrant:
        """Grant one submit, or return a refusal with the time to wait. A grant is never refunded.

        The grant is on disk when this returns. A crash can lose a grant that was not used, but never one that was.

        Args:
            team: Host of the team whose quota is spent.
            server_now: Seconds UTC by the server's clock.
            host_now: Seconds UTC by the clock of this host; None means the same as `server_now`.

        Raises:
            LedgerError: The file cannot be used.
        """
        now = _clock_reading(server_now, host_now)
        # Refuse after a plain read, which does not wait for the write lock. Within an hour the row only becomes stricter, short of a reset,
        # so a stale read never refuses what a fresh one would grant. A row that needs a correction is handled under the lock.
        with self._reading() as connection:
            seen = _read(connection, team)
        refusal = self._rules.refusal(seen, now)
        if refusal is not None and self._rules.corrected(seen, now)[0] == seen:
            return refusal
        with self._transaction() as connection:
            before = row = _read(connection, team)
            warnings: tuple[str, ...] = ()
            if row == seen:  # a row written while waiting for the lock is only newer than `now`, not wrong
                row, warnings = self._rules.corrected(row, now)
            refusal = self._rules.refusal(row, now)
            if refusal is None:
                row = self._rules.granted(row, now)
            _write(connection, team, row, before)
        warning = f"the quota ledger was written with a clock that was ahead: {'; '.join(warnings)}" if warnings else ""
        if refusal is not None:
            return dataclasses.replace(refusal, warning=warning)
        return QuotaGrant(granted=True, wait_seconds=0.0, reason="", spent=row.spent, warning=warning)

    def block(
        self,
        team: str,
        seconds: float,
        server_now: float,
        host_now: float | None = None,
        *,
        is_named: bool,
        reason: str,
    ) -> None:
        """Grant nothing to this team for a time, after a 429. An existing block that lasts longer is kept.

        Args:
            team: Host of the team.
            seconds: How long, in seconds: at most a day if the server specified the time, otherwise at most until the next full hour.
            server_now: Seconds UTC by the server's clock.
            host_now: Seconds UTC by the clock of this host; None means the same as `server_now`.
            is_named: Whether the server specified the time.
            reason: Why, for people.

        Raises:
            LedgerError: The file cannot be used.
        """
        now = _clock_reading(server_now, host_now)
        block = Block.for_seconds(seconds, now, is_named=is_named, reason=reason)
        with self._transaction() as connection:
            row = _read(connection, team)
            if row.block is None or block.seconds_left(now) >= row.block.corrected(now).seconds_left(now):
                _write(connection, team, dataclasses.replace(row, block=block), row)

    def reset(self, team: str, server_now: float, host_now: float | None = None) -> tuple[str, ...]:
        """Clear a block and implausible future times, but never the count of this hour.

        Returns:
            A description of each thing that was cleared; empty if there was nothing to clear.

        Raises:
            LedgerError: The file cannot be used.
        """
        now = _clock_reading(server_now, host_now)
        with self._transaction() as connection:
            before = _read(connection, team)
            row, cleared = self._rules.reset(before, now)
            if cleared:
                _write(connection, team, row, before)
        return cleared

    def spent(self, team: str, server_now: float, host_now: float | None = None) -> int:
        """Return the number of grants in the UTC hour that contains `server_now`.

        Raises:
            LedgerError: The file cannot be used.
        """
        return self.status(team, server_now, host_now).spent

    def status(self, team: str, server_now: float, host_now: float | None = None) -> LedgerStatus:
        """Return what is spent and whether submits are blocked, without changing the file.

        Raises:
            LedgerError: The file cannot be used.
        """
        now = _clock_reading(server_now, host_now)
        with self._reading() as connection:
            row, _ = self._rules.corrected(_read(connection, team), now)
        seconds = row.block.seconds_left(now) if row.block is not None else 0.0
        return LedgerStatus(
            self._rules.spent(row, now), seconds, row.block.reason if row.block is not None and seconds else None
        )

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            if self._connection is None:
                raise LedgerError("the quota ledger is closed", path=str(self.path))
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a `BEGIN IMMEDIATE` transaction; what it wrote is on disk at the end."""
        # The flush follows the commit, outside SQLite's lock (`synchronous=NORMAL`, then `flush_log`): processes do not queue for the disk,
        # and each flush covers all earlier commits.
        with self._reading() as connection:
            changes = connection.total_changes
            with transaction(connection):
                yield connection
            if connection.total_changes > changes:
                self._flush(self.path)

    def _translated(self) -> contextlib.AbstractContextManager[None]:
        return state_errors("cannot use the quota ledger", self.path, kind=LedgerError)

    def __repr__(self) -> str:
        return f"<SqliteLedger {self.path} {self.submits_per_hour}/h>"


def _clock_reading(server_now: float, host_now: float | None) -> ClockReading:
    return ClockReading(server_now, server_now if host_now is None else host_now)


def _read(connection: sqlite3.Connection, team: str) -> QuotaRow:
    found = connection.execute(
        "SELECT hour, spent, next_grant, blocked_until, server_until, host_until, set_at_host, is_named, reason"
        " FROM quota LEFT JOIN blocks USING (team) WHERE team = ?",
        (team,),
    ).fetchone()
    if found is None:
        return QuotaRow()
    hour, spent, next_grant, blocked_until, server_until, host_until, set_at_host, is_named, reason = found
    block = None
    if server_until == blocked_until:
        block = Block(server_until, host_until, set_at_host, bool(is_named), reason)
    elif blocked_until > 0:
        block = Block.of_older_version(blocked_until)
    return QuotaRow(hour, spent, next_grant, block)


def _write(connection: sqlite3.Connection, team: str, row: QuotaRow, before: QuotaRow) -> None:
    if row == before:
        return
    connection.execute(
        "INSERT INTO quota VALUES (:team, :hour, :spent, :next_grant, :blocked_until)"
        " ON CONFLICT (team) DO UPDATE SET hour = :hour, spent = :spent, next_grant = :next_grant,"
        " blocked_until = :blocked_until",
        {
            "team": team,
            "hour": row.hour,
            "spent": row.spent,
            "next_grant": row.next_grant,
            "blocked_until": row.block.server_until if row.block is not None else 0.0,
        },
    )
    if row.block is None and before.block is not None:
        connection.execute("DELETE FROM blocks WHERE team = ?", (team,))
    elif row.block is not None and row.block != before.block:
        connection.execute(
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)", (team, *dataclasses.astuple(row.block))
        )


def open_ledger(settings: EngineSettings, path: Path) -> SqliteLedger:
    """Open the quota ledger at `path`: `StateFolder.quota`, which all processes of this user on this host share.

    Raises:
        LedgerError: The file cannot be used.
    """
    return SqliteLedger(
        path,
        submits_per_second=settings.submits_per_second,
        submits_per_hour=settings.submits_per_hour,
        hour_guard_seconds=settings.hour_guard_seconds,
    )


def quota_of_hour(team: str, server_now: float, *, limit: int, spent: int = 0) -> QuotaStatus:
    """Return the quota status of the hour that contains `server_now` (seconds UTC), in which nothing blocks submits."""
    hour = math.floor(server_now / 3600)
    return QuotaStatus(
        team=team, hour_start=iso_utc(hour * 3600), spent=spent, limit=limit, resets_at=iso_utc((hour + 1) * 3600)
    )


def quota_status(ledger: SqliteLedger, team: str, server_now: float, host_now: float | None = None) -> QuotaStatus:
    """Return the quota status of the hour that contains `server_now` (seconds UTC). Blocks on disk.

    `host_now` is in seconds UTC by the clock of this host; None means the same as `server_now`.
    """
    known = ledger.status(team, server_now, host_now)
    return dataclasses.replace(
        quota_of_hour(team, server_now, limit=ledger.submits_per_hour, spent=known.spent),
        blocked_until=iso_utc(server_now + known.block_seconds) if known.block_seconds else None,
        blocked_reason=known.block_reason,
    )
