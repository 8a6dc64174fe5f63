"""The journal for those who only look: `history`, `show`, `journal check` and `journal export`.

Nothing here writes to the journal. A sound one is read in place, beside the processes that work with it. A damaged one is copied with its
write-ahead log into a temporary folder, and read there row by row, so that one bad page costs its own rows only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pushengine.errors import ConfigError, JournalVersionError
from pushengine.journal.facts import Fact, PushRow
from pushengine.journal.sqlite_errors import corrupt, translated
from pushengine.journal.store import FORMAT_VERSION, read_facts
from pushengine.state.sqlite import open_read_only

_FACT_COLUMNS = "seq, push_id, at, kind, body"
_PROBLEMS_TOLD = 5


class JournalReader:
    """Reads a sound journal in place; to be used in a `with` statement.

    Args:
        path: The database file.

    Raises:
        JournalCorruptError: It is damaged.
        JournalVersionError: A newer version wrote it.
        JournalError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated(path):
            self._db = open_read_only(path)
            try:
                self._check()
            except BaseException:
                self._db.close()
                raise

    def _check(self) -> None:
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise corrupt(self.path, verdict)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT_VERSION:
            raise JournalVersionError(
                f"the journal has format {version}, this version knows {FORMAT_VERSION}",
                path=str(self.path),
                hint="use the newer pushengine that wrote it",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._db.close()

    def pushes(self, limit: int = -1) -> list[PushRow]:
        """Pushes, newest first."""
        with translated(self.path):
            rows = self._db.execute("SELECT * FROM pushes ORDER BY created_at DESC, rowid DESC LIMIT ?", (limit,))
            return [PushRow(*row) for row in rows]

    def find(self, prefix: str) -> PushRow:
        """The one push whose id begins like this.

        Raises:
            ConfigError: There is none, or more than one.
        """
        with translated(self.path):
            rows = self._db.execute(
                "SELECT * FROM pushes WHERE substr(push_id, 1, ?) = ? ORDER BY created_at DESC", (len(prefix), prefix)
            ).fetchall()
        found = [PushRow(*row) for row in rows]
        exact = [row for row in found if row.push_id == prefix]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if not found:
            raise ConfigError(
                f"the journal knows no push {prefix}", key="push_id", hint="`pushengine history` lists pushes"
            )
        some = ", ".join(row.push_id for row in found[:_PROBLEMS_TOLD])
        raise ConfigError(f"{len(found)} pushes begin with {prefix!r}", key="push_id", hint=f"which one: {some}")

    def facts(self, push_id: str) -> list[Fact]:
        """What is known of a push, in order."""
        with translated(self.path):
            return read_facts(self._db, self.path, push_id)
