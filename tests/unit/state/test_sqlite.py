"""SQLite errors are distinguished by their codes, because their texts also contain names of tables and files, and values."""

import contextlib
import errno
import sqlite3

import pytest

from pushengine.cli import exit_codes
from pushengine.errors import JournalCorruptError, JournalError, LedgerError
from pushengine.journal.sqlite_errors import translated
from pushengine.state import sqlite
from pushengine.state.sqlite import open_durable, result_code

EXTENDED = 2 << 8


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.sqlite3"


@pytest.fixture
def db(path):
    with contextlib.closing(open_durable(path)) as opened:
        yield opened


def coded(code, text="it broke", kind=sqlite3.OperationalError):
    error = kind(text)
    error.sqlite_errorcode = code
    return error


def translation(path, error):
    with pytest.raises(JournalError) as caught, translated(path):
        raise error
    return caught.value


def test_a_name_that_contains_the_word_locked_is_no_reason_to_wait(db, monkeypatch):
    monkeypatch.setattr(sqlite.time, "sleep", lambda _seconds: pytest.fail("it must not wait"))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        db.execute("SELECT locked FROM sqlite_schema")


def test_a_transaction_waits_until_a_lock_is_released(db, path, monkeypatch):
    other = open_durable(path)
    monkeypatch.setattr(sqlite.time, "sleep", lambda _seconds: other.close())  # which releases the lock
    other.execute("BEGIN IMMEDIATE")
    db.execute("BEGIN IMMEDIATE")
    db.execute("ROLLBACK")


def test_a_lock_that_is_held_too_long_is_a_temporary_error(db, path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.0)
    with contextlib.closing(open_durable(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            db.execute("BEGIN IMMEDIATE")
    assert result_code(caught.value) == sqlite3.SQLITE_BUSY
    assert exit_codes.exit_code_for(translation(path, caught.value)) == 75


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT | EXTENDED])
def test_damage_is_recognized_by_its_code(path, code):
    assert isinstance(translation(path, coded(code, kind=sqlite3.DatabaseError)), JournalCorruptError)


@pytest.mark.parametrize("text", ["malformed", "file is not a database", "Could not decode to UTF-8"])
def test_an_error_text_alone_does_not_indicate_damage(path, text):
    assert type(translation(path, coded(sqlite3.SQLITE_ERROR, text))) is JournalError
    assert type(translation(path, OSError(errno.EACCES, text))) is JournalError


def test_a_text_that_is_not_utf8_is_damage(db, path):
    """The error comes from Python's `sqlite3` module, not from SQLite, and has no code."""
    with pytest.raises(JournalCorruptError, match="UTF-8"), translated(path):
        db.execute("SELECT CAST(x'ff' AS TEXT)").fetchone()


@pytest.mark.parametrize("kind", [JournalError, LedgerError])
@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (coded(sqlite3.SQLITE_FULL), 75),
        (coded(sqlite3.SQLITE_BUSY | EXTENDED), 75),
        (coded(sqlite3.SQLITE_LOCKED), 75),
        (OSError(errno.ENOSPC, "no room"), 75),
        (coded(sqlite3.SQLITE_CANTOPEN, "unable to open /full/locked.sqlite3"), 2),
        (coded(sqlite3.SQLITE_READONLY), 2),
        (OSError(errno.EACCES, "Permission denied", "/full/locked"), 2),
        (None, 2),
    ],
    ids=repr,
)
def test_a_temporary_error_is_recognized_by_its_code(kind, cause, code):
    error = kind("cannot use it", path="p")
    error.__cause__ = cause
    assert exit_codes.exit_code_for(error) == code
