"""Queries on a journal, shared by the writable `JournalFile` and the read-only `JournalReader`."""

from __future__ import annotations

import functools
import json
import sqlite3
from pathlib import Path

from pushengine.errors import JournalVersionError
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.loads import LoadMemory
from pushengine.journal.sqlite_errors import corrupt, translated

FORMAT_VERSION = 2

# A damaged fact, whose body is not valid JSON, must not fail a query over all pushes. Both queries read it in the way that prevents a
# deletion: its job was submitted, its push needs the file. They use CASE because SQLite may evaluate the terms of an AND in any order.

_FORGOTTEN_JOBS = """
SELECT pushes.*, json_extract(made.body, '$.job_id') AS job_id
FROM pushes JOIN facts AS made USING (push_id)
WHERE pushes.team = ?1 AND pushes.pool_id = ?2 AND made.kind = 'job_created' AND json_valid(made.body)
  AND (pushes.state IN ('failed', 'superseded') OR (pushes.state = 'open' AND pushes.updated_at < ?3))
  AND NOT EXISTS (
    SELECT 1 FROM facts AS later
    WHERE later.push_id = made.push_id AND later.kind IN ('submit_intended', 'job_discarded')
      AND CASE WHEN json_valid(later.body) AND json_valid(made.body) THEN
        json_extract(later.body, '$.job_id') = json_extract(made.body, '$.job_id')
        AND (later.kind = 'submit_intended' OR json_extract(later.body, '$.error') IS NULL)
      ELSE 1 END)
"""

_NEEDS_FILE = """
WITH plans(body) AS (
  SELECT (SELECT body FROM facts WHERE facts.push_id = pushes.push_id AND kind = 'push_planned' ORDER BY seq LIMIT 1)
  FROM pushes WHERE state IN ('open', 'unknown') OR updated_at >= ?2
)
SELECT EXISTS (
  SELECT 1 FROM plans
  WHERE body IS NOT NULL AND CASE WHEN json_valid(body) THEN EXISTS (
      SELECT 1 FROM json_each(body, '$.fingerprint') AS file
      WHERE substr(json_extract(file.value, '$[0]'), -length(?1) - 1) = '/' || ?1)
    ELSE 1 END)
"""


class JournalQueries:
    """Queries on an open journal database. Every method blocks on disk.

    Args:
        db: Connection to the database.
        path: The database file, for error messages.
    """

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._db = db

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the database."""
        return self._db

    @functools.cached_property
    def loads(self) -> LoadMemory:
        """What is remembered of loads."""
        return LoadMemory(self._db)

    def known_format(self) -> int:
        """Return the format number of the file; 0 if nothing has been written yet.

        Raises:
            JournalVersionError: A newer version of pushengine wrote the file.
        """
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT_VERSION:
            raise JournalVersionError(
                f"the journal has format {version}, this version supports up to {FORMAT_VERSION}",
                path=str(self.path),
                hint="use the newer pushengine that wrote it, or another state folder",
            )
        return int(version)

    def pushes(self, *, state: str | None = None, limit: int = 1000) -> list[PushRow]:
        """Return at most `limit` pushes, newest first; `state` selects those in one state."""
        chosen = "" if state is None else "WHERE state = :state"
        with translated(self.path):
            rows = self._db.execute(
                f"SELECT * FROM pushes {chosen} ORDER BY created_at DESC, rowid DESC LIMIT :limit",  # noqa: S608 - only constants
                {"state": state, "limit": limit},
            )
            return [PushRow(*row) for row in rows]

    def announced_pushes(self) -> list[PushRow]:
        """Return the open pushes that announced a submit, newest first. It may have been refused since."""
        with translated(self.path):
            rows = self._db.execute(
                "SELECT * FROM pushes WHERE state = 'open' AND EXISTS"
                " (SELECT 1 FROM facts WHERE facts.push_id = pushes.push_id AND kind = 'submit_intended')"
                " ORDER BY created_at DESC, rowid DESC"
            )
            return [PushRow(*row) for row in rows]

    def push(self, push_id: str) -> PushRow | None:
        """Return the push with this id, or None if there is none."""
        row = self._db.execute("SELECT * FROM pushes WHERE push_id = ?", (push_id,)).fetchone()
        return PushRow(*row) if row else None

    def newest(self, identity: str) -> PushRow | None:
        """Return the newest push of this identity, in whatever state; None if there is none."""
        row = self._db.execute(
            "SELECT * FROM pushes WHERE identity = ? ORDER BY created_at DESC, rowid DESC LIMIT 1", (identity,)
        ).fetchone()
        return PushRow(*row) if row else None

    def find_open(self, identity: str) -> PushRow | None:
        """Return the newest push of this identity that is unfinished, or DONE without its receipt having reached the caller."""
        rows = self._db.execute(
            "SELECT * FROM pushes WHERE identity = ? AND state IN ('open', 'finished') ORDER BY created_at DESC, rowid DESC LIMIT 1",
            (identity,),
        ).fetchall()
        return PushRow(*rows[0]) if rows else None

    def facts(self, push_id: str) -> list[FactRow]:
        """Return the facts of a push in the order in which they were recorded.

        Raises:
            JournalCorruptError: One of the facts is not valid JSON, or lacks a key that every version has written.
        """
        try:
            with translated(self.path):
                rows = self._db.execute(
                    "SELECT push_id, at, kind, body FROM facts WHERE push_id = ? ORDER BY seq", (push_id,)
                ).fetchall()
            found = [FactRow(push, at, kind, json.loads(body)) for push, at, kind, body in rows]
            for row in found:
                _ = row.fact  # decode now: here the error can name the push
        except (ValueError, TypeError) as error:
            raise corrupt(self.path, f"a fact of push {push_id} cannot be read: {error}") from error
        return found

    def stale_pushes(self, stale_before: float) -> list[PushRow]:
        """Return open pushes without a recorded job that were last updated before `stale_before` (seconds UTC).

        Closing them leaves no known job behind on the platform.
        """
        rows = self._db.execute(
            "SELECT * FROM pushes WHERE state = 'open' AND updated_at < ? AND NOT EXISTS"
            " (SELECT 1 FROM facts WHERE facts.push_id = pushes.push_id AND kind = 'job_created')",
            (stale_before,),
        )
        return [PushRow(*row) for row in rows]

    def forgotten_jobs(self, team: str, pool_id: str, stale_before: float) -> list[tuple[PushRow, str]]:
        """Return jobs that no push will continue, as (push, job id): not deleted, and without a recorded intent to submit.

        Their push failed, was superseded, or is open but was last updated before `stale_before` (seconds UTC).
        """
        rows = self._db.execute(_FORGOTTEN_JOBS, (team, pool_id, stale_before))
        return [(PushRow(*row[:-1]), row[-1]) for row in rows]

    def is_forgotten(self, push_id: str, job_id: str, stale_before: float) -> bool:
        """Return whether `forgotten_jobs` still lists this job."""
        row = self.push(push_id)
        if row is None:
            return False
        rows = self._db.execute(
            f"{_FORGOTTEN_JOBS} AND pushes.push_id = ?4", (row.team, row.pool_id, stale_before, push_id)
        )
        return job_id in [found[-1] for found in rows]

    def needs_file(self, name: str, *, ended_since: float | None = None) -> bool:
        """Return whether any push needs, or recently needed, a source file of this name.

        Checks pushes in state `open` or `unknown`, and with `ended_since` (seconds UTC) also all that were last updated at or after that
        time. Files that a pattern or a folder matched count as well.
        """
        # Only the file name is compared: one folder has many spellings. Nor is the push found by its id: a push that replaced another
        # reads the file that is named after the other one.
        (is_needed,) = self._db.execute(_NEEDS_FILE, (name, ended_since)).fetchone()
        return bool(is_needed)

    def checksum_of(self, team: str) -> str | None:
        """Return the checksum algorithm that the platform uses for a team, or None if it is not known yet."""
        row = self._db.execute("SELECT checksum FROM teams WHERE team = ?", (team,)).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def require_sound(db: sqlite3.Connection, path: Path) -> None:
    """Run SQLite's quick structural check.

    Raises:
        JournalCorruptError: The database is damaged.
    """
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise corrupt(path, verdict)
