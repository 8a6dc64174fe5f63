"""Translate errors of SQLite and the operating system about the journal into pushengine's errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pushengine.errors import JournalCorruptError
from pushengine.state.file_errors import state_error
from pushengine.state.sqlite import is_damage


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and the operating system that are raised in the block, see `translation`."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        found = translation(path, error)
        raise found from found.__cause__


def translation(path: Path, error: BaseException) -> BaseException:
    """Return a new `JournalError` for an error of SQLite or the operating system; any other error is returned unchanged.

    The error is created for each caller separately, because each push attaches its own receipt to the error that it raises.
    """
    if not isinstance(error, sqlite3.DatabaseError | OSError):
        return error
    if is_damage(error):
        damage = corrupt(path, str(error))
        damage.__cause__ = error
        return damage
    return state_error("cannot use the journal", path, error) or error


def corrupt(path: Path, verdict: str) -> JournalCorruptError:
    """Return the error for a journal that is damaged."""
    return JournalCorruptError(
        f"the journal is damaged: {verdict}",
        path=str(path),
        hint="the file is left unchanged: `pushengine journal check` reports what can be read, `pushengine journal export` saves it",
    )
