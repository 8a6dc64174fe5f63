"""Who has spent what of a team's submit quota: one SQLite file, shared by all processes of the host.

File `quota.sqlite3` in the state folder, format 1 (`PRAGMA user_version`):

```
quota(team TEXT PRIMARY KEY,       -- host of the team
      hour INTEGER NOT NULL,       -- UTC hour number (seconds // 3600) by the server's clock; never decreases
      spent INTEGER NOT NULL,      -- grants in that hour; never refunded
      next_grant REAL NOT NULL,    -- host time before which no further grant leaves (spacing within the second)
      blocked_until REAL NOT NULL) -- server time before which the server refuses submits (a 429 said so)
```

A grant is one `BEGIN IMMEDIATE` transaction that is on the disk before the submit leaves, so a crash can lose a grant that was not used
but never forget one that was. The flush comes after the commit and outside of the lock (`synchronous=NORMAL`, then `flush_log`): grants of
several processes share the disk's time instead of queueing for it, and each flush covers all commits before it. What is refused is refused
by a read, which waits for nobody: within a day all that a ledger knows only grows, so what it knew a moment ago refuses rightly.

Hours are the server's, but the spacing is by the host's clock, which all processes share: what each of them takes for the server's time
differs by up to a second.

Why spacing and not a window per second: grants at least `1.1 / submits_per_second` apart make any window of one second hold at most
`submits_per_second`, with 10 % left for the jitter between the grant and the server. `AsyncLimiter(10, 1)` would let 20 through.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pushengine.database import flush_log, open_durable
from pushengine.errors import LedgerError
from pushengine.types import QuotaGrant

FORMAT_VERSION = 1
_SPACING_MARGIN = 1.1
_MAX_CLOCK_LEAD_HOURS = 24

_SCHEMA = """
CREATE TABLE IF NOT EXISTS quota (
    team TEXT PRIMARY KEY,
    hour INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    next_grant REAL NOT NULL,
    blocked_until REAL NOT NULL
) STRICT
"""


class SqliteLedger:
    """`types.QuotaLedger` on a file. Thread-safe and process-safe; every method blocks on disk.

    Args:
        path: The database file; its folder must exist.
        submits_per_second: Quota of any second.
        submits_per_hour: Quota of a UTC hour.
        hour_guard_seconds: No grant this near to a full hour on either side, because the server's clock decides which hour it is.
        flush: Puts on the disk what was committed to the file.

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
        self._guard_seconds = hour_guard_seconds
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
                    f"the quota ledger has format {version}, this version knows {FORMAT_VERSION}",
                    path=str(self.path),
                    hint="use the newer pushengine that wrote it, or another state folder",
                )
            connection.execute("PRAGMA synchronous=NORMAL")
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
                connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def reserve(self, team: str, server_now: float, host_now: float | None = None) -> QuotaGrant:
        """Take one submit, or say how long to wait.

        A grant is never refunded. A clock that stepped back waits for the hour that the ledger has already seen.

        Args:
            team: Whose quota.
            server_now: Seconds UTC by the server's clock.
            host_now: Seconds UTC by the clock of this host; the server's if None.

        Raises:
            LedgerError: The file cannot be used.
        """
        host_now = server_now if host_now is None else host_now
        with self._reading() as connection:
            refusal, _ = self._look(connection, team, server_now, host_now)
        if refusal is not None:
            return refusal
        with self._transaction() as connection:
            refusal, after = self._look(connection, team, server_now, host_now)
            if refusal is not None:
                return refusal
            connection.execute(
                "INSERT INTO quota VALUES (:team, :hour, :spent, :next_grant, :blocked_until)"
                " ON CONFLICT (team) DO UPDATE SET hour = :hour, spent = :spent, next_grant = :next_grant,"
                " blocked_until = :blocked_until",
                after,
            )
        return QuotaGrant(granted=True, wait_seconds=0.0, reason="", spent=after["spent"])

    def _look(
        self, connection: sqlite3.Connection, team: str, server_now: float, host_now: float
    ) -> tuple[QuotaGrant | None, dict[str, Any]]:
        """Why not now, or None; and the row as a grant leaves it."""
        hour = math.floor(server_now / 3600)
        row = connection.execute(
            "SELECT hour, spent, next_grant, blocked_until FROM quota WHERE team = ?", (team,)
        ).fetchone()
        seen_hour, spent, next_grant, blocked_until = row or (hour, 0, 0.0, 0.0)
        if hour > seen_hour or hour < seen_hour - _MAX_CLOCK_LEAD_HOURS:
            # A ledger more than a day ahead was written by a wrong clock: believing it would block the team for good.
            if hour < seen_hour:
                next_grant = blocked_until = 0.0
            seen_hour, spent = hour, 0
        spacing = min(next_grant - host_now, self.spacing_seconds)  # more than one: the host's clock stepped back
        refusal = self._refusal(
            server_now, seen_hour=seen_hour, spent=spent, spacing=spacing, blocked_until=blocked_until
        )
        return refusal, {
            "team": team,
            "hour": seen_hour,
            "spent": spent + 1,
            "next_grant": host_now + self.spacing_seconds,
            "blocked_until": blocked_until,
        }

    def _refusal(
        self, server_now: float, *, seen_hour: int, spent: int, spacing: float, blocked_until: float
    ) -> QuotaGrant | None:
        """Why not now, or None. The longest wait is told first, so that a waiting push says the right time."""
        hour_start, hour_end = seen_hour * 3600.0, (seen_hour + 1) * 3600.0
        into_hour = server_now % 3600.0
        guard = self._guard_seconds
        refusals = [
            ("server", blocked_until - server_now),
            ("hour", hour_end + guard - server_now if spent >= self.submits_per_hour else 0.0),
            ("boundary", hour_start + guard - server_now if server_now < hour_start else 0.0),
            ("boundary", guard - into_hour),
            ("boundary", 3600.0 - into_hour + guard if into_hour > 3600.0 - guard else 0.0),
            ("second", spacing),
        ]
        reason, wait = max(refusals, key=lambda refusal: refusal[1])
        return QuotaGrant(granted=False, wait_seconds=wait, reason=reason, spent=spent) if wait > 0 else None

    def block_until(self, team: str, server_until: float) -> None:
        """Grant nothing to this team before `server_until` (seconds UTC): a 429 said so.

        Raises:
            LedgerError: The file cannot be used.
        """
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO quota VALUES (:team, 0, 0, 0.0, :until)"
                " ON CONFLICT (team) DO UPDATE SET blocked_until = max(blocked_until, :until)",
                {"team": team, "until": server_until},
            )

    def spent(self, team: str, server_now: float) -> int:
        """Grants of the UTC hour that holds `server_now`.

        Raises:
            LedgerError: The file cannot be used.
        """
        return self._read(team, server_now)[0]

    def blocked_until(self, team: str, server_now: float) -> float | None:
        """When the server's refusal ends (seconds UTC), or None where there is none.

        Raises:
            LedgerError: The file cannot be used.
        """
        return self._read(team, server_now)[1]

    def _read(self, team: str, server_now: float) -> tuple[int, float | None]:
        with self._reading() as connection:
            row = connection.execute("SELECT hour, spent, blocked_until FROM quota WHERE team = ?", (team,)).fetchone()
        if row is None:
            return 0, None
        hour, spent, blocked_until = row
        return (spent if hour == math.floor(server_now / 3600) else 0), (
            blocked_until if blocked_until > server_now else None
        )

    def close(self) -> None:
        """Release the file; safe to call twice."""
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
        """What is written is on the disk at the end."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            changes = connection.total_changes
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            if connection.total_changes > changes:
                self._flush(self.path)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(
                f"cannot use the quota ledger: {error}",
                path=str(self.path),
                hint="the state folder must be on a local disk, writable and not full; PUSHENGINE_STATE_DIR names another",
            ) from error

    def __repr__(self) -> str:
        return f"<SqliteLedger {self.path} {self.submits_per_hour}/h>"
