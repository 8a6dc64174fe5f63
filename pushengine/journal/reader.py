"""Read-only access to a sound journal, for commands such as `history` and `show`.

Nothing here writes to the journal; it is read in place while other processes use it. `journal/salvage.py` reads damaged ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pushengine.errors import ConfigError
from pushengine.journal.facts import PushRow
from pushengine.journal.queries import JournalQueries, require_sound
from pushengine.journal.sqlite_errors import translated
from pushengine.state.sqlite import open_read_only

_MAX_SHOWN = 5


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

    def find(self, prefix: str) -> PushRow:
        """Return the push whose id equals `prefix`, or otherwise the only one whose id starts with it.

        Raises:
            ConfigError: No push matches, or more than one does.
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
                f"the journal has no push {prefix}", key="push_id", hint="`pushengine history` lists pushes"
            )
        some = ", ".join(row.push_id for row in found[:_MAX_SHOWN])
        raise ConfigError(f"{len(found)} pushes start with {prefix!r}", key="push_id", hint=f"choose one: {some}")
