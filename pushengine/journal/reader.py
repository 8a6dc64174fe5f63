"""Read-only access to a sound journal, for commands such as `history` and `show`.

Nothing here writes to the journal; it is read in place while other processes use it. `journal/salvage.py` reads damaged ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pushengine.errors import ConfigError
from pushengine.journal.facts import PushRow
from pushengine.journal.queries import JournalQueries, require_sound
from pushengine.journal.sqlite_errors import translated
from pushengine.model import Claim
from pushengine.state.sqlite import open_read_only

_MAX_SHOWN = 5
_HISTORY = "`pushengine history` lists pushes"
_PUSHES_OF_JOBS = """
SELECT pushes.*, CASE WHEN json_valid(made.body) THEN json_extract(made.body, '$.job_id') END AS job_id
FROM pushes JOIN facts AS made USING (push_id)
WHERE made.kind = 'job_created' AND substr(job_id, 1, ?1) = ?2
ORDER BY pushes.created_at DESC, pushes.rowid DESC
"""


_PUSHES_WITH_CLAIMS = """
SELECT pushes.*, (
    SELECT CASE WHEN json_valid(body) THEN json_extract(body, '$.claim') END FROM facts
    WHERE facts.push_id = pushes.push_id AND kind = 'push_planned' ORDER BY seq LIMIT 1)
FROM pushes WHERE created_at >= ?1 AND (NOT ?2 OR state IN ('failed', 'unknown')) ORDER BY created_at DESC, rowid DESC
"""


class JournalReader(JournalQueries):
    """A sound journal, opened read-only in place. Use it in a `with` statement.

    Args:
        path: The database file.

    Raises:
        JournalCorruptError: The journal is damaged.
        JournalVersionError: A newer version of pushengine wrote the journal.
        JournalError: The journal cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with translated(path):
            super().__init__(open_read_only(path), path)
            try:
                require_sound(self._db, path)
                self.known_format()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def select(
        self,
        *,
        limit: int,
        is_failed: bool = False,
        since: float = 0.0,
        table: str | None = None,
        load: str | None = None,
    ) -> list[PushRow]:
        """Return at most `limit` pushes, newest first.

        Args:
            limit: Number of pushes.
            is_failed: Only those that failed or whose outcome is unknown.
            since: Only those that began at or after this time, seconds UTC.
            table: Only those into this table, in any case.
            load: Only those of this rule or load (`sap`, `sap.VBAP`), in any case.
        """
        found = []
        with translated(self.path):
            for *row, claim in self._db.execute(_PUSHES_WITH_CLAIMS, (since, is_failed)):
                push = PushRow(*row)
                if table is not None and push.target.casefold() != table.casefold():
                    continue
                if load is not None and (claim is None or load.casefold() not in _names_of(claim)):
                    continue
                found.append(push)
                if len(found) == limit:
                    break
        return found

    def find_push(self, prefix: str) -> PushRow:
        """Return the push whose id equals `prefix`, or otherwise the only one whose id starts with it.

        Raises:
            ConfigError: No push matches, or more than one does.
        """
        with translated(self.path):
            found = self._by_push_id(prefix)
            if len(found) == 1:
                return found[0]
            if found:
                raise _ambiguous(prefix, "pushes", found)
            other = self._by_job_id(prefix)[:1] or self._by_table(prefix)
        if other:
            raise ConfigError(
                f"{prefix} is not the id of a push, which is needed here",
                key="push_id",
                hint=f"`pushengine show {prefix}` finds push {other[0].push_id}",
            )
        raise ConfigError(f"the journal has no push {prefix}", key="push_id", hint=_HISTORY)

    def find(self, words: str) -> PushRow:
        """Return the push that `words` name: by its id, by the id of one of its jobs, or as the newest push of a table.

        An id may be shortened to a unique prefix. The case of a table name does not matter.

        Raises:
            ConfigError: No push matches, or the prefix matches several.
        """
        with translated(self.path):
            pushes = self._by_push_id(words)
            if len(pushes) == 1:
                return pushes[0]
            by_job = self._by_job_id(words)
            # An ambiguous prefix may still be the whole name of a table.
            found = by_job if len(by_job) == 1 and not pushes else self._by_table(words)
        if found:
            return found[0]
        if pushes:
            raise _ambiguous(words, "pushes", pushes)
        if by_job:
            raise _ambiguous(words, "jobs of pushes", by_job)
        raise ConfigError(f"the journal has no push, job or table {words}", key="push_id", hint=_HISTORY)

    def _by_push_id(self, prefix: str) -> list[PushRow]:
        rows = self._db.execute(
            "SELECT * FROM pushes WHERE substr(push_id, 1, ?) = ? ORDER BY created_at DESC, rowid DESC",
            (len(prefix), prefix),
        )
        found = [PushRow(*row) for row in rows]
        return [row for row in found if row.push_id == prefix] or found

    def _by_job_id(self, prefix: str) -> list[PushRow]:
        rows = self._db.execute(_PUSHES_OF_JOBS, (len(prefix), prefix)).fetchall()
        exact = [row for row in rows if row[-1] == prefix]
        return list(dict.fromkeys(PushRow(*row[:-1]) for row in exact or rows))

    def _by_table(self, name: str) -> list[PushRow]:
        """Return the newest push of a table, if there is one."""
        rows = self._db.execute("SELECT * FROM pushes ORDER BY created_at DESC, rowid DESC")
        wanted = name.casefold()  # SQLite compares only ASCII letters without case
        return [push for push in (PushRow(*row) for row in rows) if push.target.casefold() == wanted][:1]


def _names_of(claim: str) -> tuple[str, str]:
    """Return the names, case-folded, under which a push of a load is found: that of its rule, and its own."""
    found = Claim.from_dict(json.loads(claim))
    return found.load.casefold(), f"{found.load}.{found.table}".casefold()


def _ambiguous(prefix: str, what: str, found: Sequence[PushRow]) -> ConfigError:
    some = ", ".join(row.push_id for row in found[:_MAX_SHOWN])
    return ConfigError(f"{len(found)} {what} start with {prefix!r}", key="push_id", hint=f"choose one: {some}")
