"""Who has spent what of a team's submit quota: one SQLite file, shared by all processes of the host.

File `quota.sqlite3` in the state folder, format 1 (`PRAGMA user_version`):

```
quota(team TEXT PRIMARY KEY,       -- host of the team
      hour INTEGER NOT NULL,       -- UTC hour number (seconds // 3600) by the server's clock; never decreases
      spent INTEGER NOT NULL,      -- grants in that hour; never refunded
      next_grant REAL NOT NULL,    -- server time before which no further grant leaves (spacing within the second)
      blocked_until REAL NOT NULL) -- server time before which the server refuses submits (a 429 said so)
```

A grant is one `BEGIN IMMEDIATE` transaction that is durable (`synchronous=FULL`) before the submit leaves, so a crash can lose a grant
that was not used but never forget one that was. SQLite's own locking orders the processes.

Why spacing and not a window per second: grants at least `1.1 / submits_per_second` apart make any window of one second hold at most
`submits_per_second`, with 10 % left for the jitter between the grant and the server. `AsyncLimiter(10, 1)` would let 20 through.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from pushengine.database import open_durable
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
    ) -> None:
        self.path = path
        self.submits_per_hour = submits_per_hour
        self.spacing_seconds = _SPACING_MARGIN / submits_per_second
        self._guard_seconds = hour_guard_seconds
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
            if version == 0:
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version={FORMAT_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def reserve(self, team: str, server_now: float) -> QuotaGrant:
        """Take one submit at `server_now` (seconds UTC by the server's clock), or say how long to wait.

        A grant is never refunded. A clock that stepped back waits for the hour that the ledger has already seen.

        Raises:
            LedgerError: The file cannot be used.
        """
        hour = math.floor(server_now / 3600)
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT hour, spent, next_grant, blocked_until FROM quota WHERE team = ?", (team,)
            ).fetchone()
            seen_hour, spent, next_grant, blocked_until = row or (hour, 0, 0.0, 0.0)
            if hour > seen_hour or hour < seen_hour - _MAX_CLOCK_LEAD_HOURS:
                # A ledger more than a day ahead was written by a wrong clock: believing it would block the team for good.
                if hour < seen_hour:
                    next_grant = blocked_until = 0.0
                seen_hour, spent = hour, 0
            refusal = self._refusal(
                server_now, seen_hour=seen_hour, spent=spent, next_grant=next_grant, blocked_until=blocked_until
            )
            if refusal is not None:
                return refusal
            connection.execute(
                "INSERT INTO quota VALUES (:team, :hour, :spent, :next_grant, :blocked_until)"
                " ON CONFLICT (team) DO UPDATE SET hour = :hour, spent = :spent, next_grant = :next_grant,"
                " blocked_until = :blocked_until",
                {
                    "team": team,
                    "hour": seen_hour,
                    "spent": spent + 1,
                    "next_grant": server_now + self.spacing_seconds,
                    "blocked_until": blocked_until,
                },
            )
        return QuotaGrant(granted=True, wait_seconds=0.0, reason="", spent=spent + 1)

    def _refusal(
        self, server_now: float, *, seen_hour: int, spent: int, next_grant: float, blocked_until: float
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
            ("second", next_grant - server_now),
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
        with self._transaction() as connection:
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
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            if self._connection is None:
                raise LedgerError("the quota ledger is closed", path=str(self.path))
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

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
