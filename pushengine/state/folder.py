"""The folder of journal, ledger, locks and spool, and what it tells of the quota."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path

from pushengine.config.load import EngineSettings, default_state_dir
from pushengine.errors import ConfigError
from pushengine.model import QuotaStatus
from pushengine.quota.ledger import SqliteLedger


def open_state_dir(state_dir: Path | None = None) -> Path:
    """The folder of journal, ledger and locks, made private if it is not there.

    Raises:
        ConfigError: It cannot be made.
    """
    folder = state_dir or default_state_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the state folder {folder}: {error.strerror}",
            key="PUSHENGINE_STATE_DIR",
            hint="name a folder that this user may write",
        ) from error
    return folder


def open_ledger(settings: EngineSettings, folder: Path) -> SqliteLedger:
    """The quota ledger of this user on this host.

    Raises:
        LedgerError: The file cannot be used.
    """
    return SqliteLedger(
        folder / "quota.sqlite3",
        submits_per_second=settings.submits_per_second,
        submits_per_hour=settings.submits_per_hour,
        hour_guard_seconds=settings.hour_guard_seconds,
    )


def quota_status(ledger: SqliteLedger, team: str, server_now: float, host_now: float | None = None) -> QuotaStatus:
    """What `ledger` knows of the hour that holds `server_now` (seconds UTC); `host_now` as in `SqliteLedger`. Blocks on disk."""
    hour = math.floor(server_now / 3600)
    known = ledger.status(team, server_now, host_now)
    return QuotaStatus(
        team=team,
        hour_start=_iso(hour * 3600),
        spent=known.spent,
        limit=ledger.submits_per_hour,
        resets_at=_iso((hour + 1) * 3600),
        blocked_until=_iso(server_now + known.block_seconds) if known.block_seconds else None,
        blocked_reason=known.block_reason,
    )


def _iso(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
