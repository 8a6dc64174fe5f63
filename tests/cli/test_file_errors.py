"""Whatever the operating system refuses at whatever path ends with a documented exit code, the path and a remedy, and never as a bug."""

import errno
import io
import os
import sys
from pathlib import Path

import pytest
from support.command_line import CommandLine
from support.refusals import WRITE_ERRORS, refusing

ERRORS = (
    "EACCES EPERM ENOSPC EDQUOT EROFS EMFILE ENFILE EIO ENAMETOOLONG ELOOP ENOTDIR EISDIR ENOMEM EFBIG EBUSY ESTALE"
)
TEMPORARY = {"ENOSPC", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EBUSY"}
PUSH = ("push", "a.csv", "--table", "T", "--emulator", "out.duckdb")
STATE = "out.duckdb.state"
# name -> fragment of the path, the command, whether the path is only read
PLACES = {
    "config": ("conf.toml", (*PUSH, "--config", "conf.toml"), True),
    "default config": ("config.toml", PUSH, True),
    "ca_file": ("ca.pem", (*PUSH, "--config", "conf.toml"), True),
    "secret file": ("secret.txt", ("jobs", "list", "--config", "conf.toml"), True),
    "columns": ("columns.toml", (*PUSH, "--columns", "columns.toml"), True),
    "import": ("columns.toml", ("schema", "import", "T", "columns.toml", "--emulator", "out.duckdb"), True),
    "output": ("new.jsonl", ("schema", "export", "T", "--emulator", "out.duckdb", "--output", "new.jsonl"), False),
    "database": ("out.duckdb", PUSH, True),
    "fault plan": ("plan.json", ("emulator", "--faults", "plan.json"), True),
    "state folder": (STATE, PUSH, False),
    "journal of history": ("state/journal.sqlite3", ("history",), True),
    "journal of show": ("state/journal.sqlite3", ("show", "x"), True),
    "journal of check": ("state/journal.sqlite3", ("journal", "check"), True),
    "journal of export": ("state/journal.sqlite3", ("journal", "export"), True),
    "journal of schema": ("state/journal.sqlite3", ("schema", "show"), True),
    "journal of plan": ("state/journal.sqlite3", ("plan", "a.csv", "--table", "T"), True),
    "locks": ("locks", PUSH, False),
    "lock": (".lock", PUSH, False),
    "rejects": ("listed", (*PUSH, "--max-rejects", "1", "--rejects", "listed", "--column", "B=INTEGER"), False),
    "spool": ("spool", ("push", "-", "--format", "csv", "--table", "T", "--emulator", "out.duckdb"), False),
}


@pytest.fixture
def cli(tmp_path, monkeypatch):
    made = CommandLine(tmp_path, monkeypatch)
    made.write("a.csv", "A,B\n1,2\n2,x\n3,4\n")
    made.write("columns.toml", '[columns]\nA = "INTEGER"\n')
    made.write("ca.pem", "")
    made.write("secret.txt", "s\n")
    made.write("plan.json", '{"rules": []}')
    made.write("conf.toml", '[engine]\nca_file = "ca.pem"\n[auth]\napi_key_file = "secret.txt"\n')
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path / "home")
    (tmp_path / "home").mkdir()
    made.write("home/config.toml", "")
    return made


@pytest.fixture
def loaded(cli, monkeypatch):
    """The command line after a push, with a journal in the default state folder too."""
    assert cli.push("a.csv").code == 0
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(cli.folder / "state"))
    (cli.folder / "state").mkdir()
    for one in (cli.folder / STATE).glob("*.sqlite3*"):
        (cli.folder / "state" / one.name).write_bytes(one.read_bytes())
    return cli


def is_explained(result, code, *parts):
    assert result.code == code, (result.code, result.err)
    assert result.err.count("error: ") == 1, result.err
    assert all(part in result.err for part in parts), result.err
    assert result.hint
    return True


@pytest.mark.parametrize("place", PLACES)
def test_every_error_at_a_path_is_explained(loaded, monkeypatch, place):
    fragment, words, is_read = PLACES[place]
    for name in ERRORS.split():
        number = getattr(errno, name)
        if is_read and number in WRITE_ERRORS:
            continue
        with open("a.csv", "rb") as file:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            with refusing(fragment, number):
                result = loaded.run(*words)
        shown = Path(fragment).parts[0].strip(".")
        assert is_explained(result, 75 if name in TEMPORARY else 2, shown, os.strerror(number)), name
