"""Translate errors of SQLite and the operating system about the journal into pushengine's errors."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pushengine.errors import JournalCorruptError, JournalError
from pushengine.state.sqlite import is_damage


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate SQLite and operating system errors that are raised in the block, see `translation`."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        raise translation(path, error) from error


def translation(path: Path, error: BaseException) -> BaseException:
    """Return a new `JournalError` for an error of SQLite or the operating system; any other error is returned unchanged.

    The error is created for each caller separately, because each push attaches its own receipt to the error that it raises.
    """
    if not isinstance(error, sqlite3.DatabaseError | OSError):
        return error
    translated_error = corrupt(path, str(error)) if is_damage(error) else unusable(path, error)
    translated_error.__cause__ = error
    return translated_error


def unusable(path: Path, error: Exception) -> JournalError:
    """Return the error for a journal that cannot be opened, read or written."""
    return JournalError(
        f"cannot use the journal: {error}",
        path=str(path),
        hint="the state folder must be on a local disk, writable and not full; set PUSHENGINE_STATE_DIR to use another",
    )


def corrupt(path: Path, verdict: str) -> JournalCorruptError:
    """Return the error for a journal that is damaged."""
    return JournalCorruptError(
        f"the journal is damaged: {verdict}",
        path=str(path),
        hint="the file is left unchanged: `pushengine journal check` reports what can be read, `pushengine journal export` saves it",
    )
