"""The border for errors of files: every error of the operating system, at every file of the state folder."""

import asyncio
import errno
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
from support.refusals import refusing

from pushengine.cli.exit_codes import exit_code_for
from pushengine.errors import ConfigError, JournalError, LedgerError, PushEngineError
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import JournalFile
from pushengine.quota.ledger import SqliteLedger
from pushengine.sources.spool import SpoolHold, spool_bytes
from pushengine.state import file_errors
from pushengine.state.file_errors import expanded_setting, read_text, setting_errors, state_error, temporary_folder
from pushengine.state.lock import PushLock

TEMPORARY = {"ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT"}
LONG = "x" * 300

ERRORS = [
    name for name in errno.errorcode.values() if name not in ("ENOENT", "EEXIST", "EINTR", "EAGAIN", "EWOULDBLOCK")
]


def locked(folder):
    PushLock(folder, "i").release()


async def _spooled(folder):
    class Stream:
        def __init__(self):
            self.pieces = [b"A\n1\n"]

        def read(self, _size):
            return self.pieces.pop() if self.pieces else b""

    with SpoolHold() as hold:
        await spool_bytes(Stream(), folder / "p.csv", hold, asyncio.to_thread)


def spooled(folder):
    asyncio.run(_spooled(folder))


@pytest.mark.parametrize("use", [locked, spooled])
@pytest.mark.parametrize("name", ERRORS)
def test_every_error_at_a_file_of_the_state_folder_has_a_code_the_path_and_a_remedy(tmp_path, use, name):
    number = getattr(errno, name)
    with pytest.raises(JournalError) as caught, refusing("inside", number):
        use(tmp_path / "inside")
    assert os.strerror(number) in caught.value.message
    assert str(tmp_path / "inside") in caught.value.message
    assert caught.value.hint
    assert exit_code_for(caught.value) == (75 if name in TEMPORARY else 2)


def test_a_full_disk_at_the_pid_in_a_lock_is_temporary_and_releases_the_lock(tmp_path, monkeypatch):
    def full(_descriptor, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(JournalError, match="No space left") as caught:
            PushLock(tmp_path, "i")
    assert exit_code_for(caught.value) == 75
    PushLock(tmp_path, "i").release()


# --- Errors that SQLite hides -----------------------------------------------------------------------------------------------------------


def opened(path):
    JournalFile(path).close()


def read(path):
    JournalReader(path).close()


def counted(path):
    SqliteLedger(path).close()


PATHS = {
    "a folder": (lambda folder: folder, "Is a directory"),
    "below a file": (lambda folder: _file(folder) / "db", "Not a directory"),
    "too long": (lambda folder: folder / LONG, "File name too long"),
    "a circle": (lambda folder: _circle(folder) / "db", "Too many levels"),
    "missing folder": (lambda folder: folder / "none" / "db", "No such file"),
}


def _file(folder):
    (folder / "file").touch()
    return folder / "file"


def _circle(folder):
    (folder / "circle").symlink_to(folder / "circle")
    return folder / "circle"


@pytest.mark.parametrize("use", [opened, read, counted])
@pytest.mark.parametrize("case", PATHS)
def test_a_database_that_cannot_be_opened(tmp_path, use, case):
    make, reason = PATHS[case]
    with pytest.raises((JournalError, LedgerError), match=reason) as caught:
        use(make(tmp_path))
    assert exit_code_for(caught.value) == 2
    assert str(tmp_path) in caught.value.message
    assert caught.value.hint


def test_too_many_open_files_are_found_behind_an_error_of_sqlite(tmp_path):
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    with refusing(os.devnull, errno.EMFILE):
        found = state_error("cannot use the journal", tmp_path / "db", error)
    assert "Too many open files" in found.message
    assert exit_code_for(found) == 75


# --- Paths and small files that settings name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reason"),
    [("a\0b", "NUL"), ("\ud800", "not text that this system can store"), (LONG, "File name too long")],
)
def test_a_path_that_cannot_exist(path, reason):
    with pytest.raises(ConfigError, match=reason) as caught:
        read_text("cannot read the file", Path(path), key="key")
    assert caught.value.key == "key"
    assert caught.value.hint
    assert exit_code_for(caught.value) == 2


def test_other_errors_pass_unchanged():
    with pytest.raises(ValueError, match=r"^bug$"), setting_errors("cannot read", "x", key="key"):
        raise ValueError("bug")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff", "it is not UTF-8 text"), (bytes(2000), "larger than"), (None, "No such file")]
)
def test_a_small_file_that_cannot_be_used(tmp_path, monkeypatch, content, reason):
    monkeypatch.setattr(file_errors, "_MAX_TEXT_BYTES", 1000)
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        read_text("cannot read the file", tmp_path / "x", key="key", hint="do this")


def test_the_home_of_a_user(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded_setting("~/x", key="key") == Path("/home/me/x")
    assert expanded_setting("a/~x", key="key") == Path("a/~x")
    with pytest.raises(ConfigError, match="there is no user nobody-: ~nobody-/x") as caught:
        expanded_setting("~nobody-/x", key="key")
    assert caught.value.key == "key"


@pytest.mark.parametrize("name", ERRORS)
def test_a_temporary_folder_that_cannot_be_created(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        pytest.raises(PushEngineError) as caught,
        refusing(str(tmp_path), getattr(errno, name)),
        temporary_folder("p-"),
    ):
        pytest.fail("it must not be entered")
    assert caught.value.key == "TMPDIR"
    assert exit_code_for(caught.value) == (75 if name in TEMPORARY else 2)


def test_a_temporary_folder_is_private_and_deleted():
    with temporary_folder("p-") as folder:
        (folder / "x").touch()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_only_a_path_that_is_not_text_is_reported_as_such(tmp_path):
    path = tmp_path / "\ud800"
    assert "not text" in state_error("cannot open", path, UnicodeEncodeError("utf-8", str(path), 0, 1, "")).message
    beside = UnicodeEncodeError("utf-8", f"{path}-wal", 0, 1, "")
    assert "not text" in state_error("cannot open", path, beside).message
    for bug in (UnicodeEncodeError("utf-8", "a value", 0, 1, ""), UnicodeDecodeError("utf-8", b"x", 0, 1, "")):
        assert state_error("cannot write", path, bug) is None
