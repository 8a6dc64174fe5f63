"""Whatever the operating system refuses at whatever path ends with a documented exit code, the path and a remedy, and never as a bug."""

import errno
import io
import os
import shutil
import subprocess
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


# --- Real processes ---------------------------------------------------------------------------------------------------------------------

OTHER_USER = 65534
WITHOUT_PRIVILEGES = "setpriv --bounding-set -dac_override,-dac_read_search,-fowner"
as_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs permission to give files to another user, and to lay down privileges",
)
on_posix = pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")


@pytest.fixture
def process(tmp_path):
    """Return a function that runs a command in a process, with words and variables that need not be text; other options are for `run`."""
    (tmp_path / "a.csv").write_text("A,B\n1,2\n")
    kept = {os.fsencode(k): os.fsencode(v) for k, v in os.environ.items() if not k.startswith(("PUSHENGINE_", "XDG_"))}
    root = os.fsencode(Path(__file__).parents[2])
    base = {**kept, b"PYTHONPATH": root, b"HOME": os.fsencode(tmp_path), b"PUSHENGINE_STATE_DIR": b"state"}

    def run(*words, env=(), shell="", **options):
        words = [sys.executable, "-m", "pushengine", *words]
        if shell:
            words = ["sh", "-c", shell if "$@" in shell else f'{shell} "$@"', "sh", *words]
        done = subprocess.run(
            [os.fsencode(word) for word in words],
            env={**base, **dict(env)},
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        err = done.stderr.decode()
        assert "Traceback" not in err
        assert "bug:" not in err
        assert not any(code < 32 and code not in b"\n" for code in done.stderr), done.stderr
        return done.returncode, done.stdout.decode(), err

    return run


BAD = b"\xe4\xff"
TO_NOWHERE = ("--url", "http://127.0.0.1:1", "--pool", "p")


@on_posix
def test_a_file_whose_name_is_not_text_is_pushed(process, tmp_path):
    (tmp_path / os.fsdecode(BAD + b".csv")).write_bytes(b"A,B\n1,2\nx,3\n")
    words = ("--table", "T", "--emulator", "e.duckdb", "--column", "A=INTEGER", "--max-rejects", "1")
    code, out, err = process("push", BAD + b".csv", *words, "--rejects", BAD)
    assert code == 0, err
    assert "\\xe4\\xff" in out + err
    (listed,) = (tmp_path / os.fsdecode(BAD)).iterdir()
    assert "\\udce4\\udcff.csv" in listed.read_text()
    assert process("push", "*.csv", "--table", "U", "--emulator", "e.duckdb")[0] == 0
    assert process("history", env={b"PUSHENGINE_STATE_DIR": b"e.duckdb.state"})[0] == 0
    assert process("show", "T", env={b"PUSHENGINE_STATE_DIR": b"e.duckdb.state"})[0] == 0


@on_posix
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("push", "a.csv", "--table", BAD, "--emulator"), 2),
        (("push", "a.csv", "--table", "T", "--emulator", BAD + b".duckdb"), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--connection", BAD), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--rename", b"A=" + BAD), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--key", BAD, "--mode", "upsert"), 3),
        (("push", "a.csv", "--table", "T", "--emulator", "--column", BAD + b"=STRING"), 3),
        (("push", "a.csv", "--table", "T", "--emulator", "--delimiter", BAD), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--config", BAD), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--columns", BAD), 2),
        (("push", "a.csv", "--table", "T", "--emulator", "--rejects", "~nobody-/x", "--max-rejects", "1"), 2),
        (("push", BAD, "--table", "T", "--emulator"), 3),
        (("push", "~nobody-/a.csv", "--table", "T", "--emulator"), 3),
        (("push", "x" * 5000, "--table", "T", "--emulator"), 3),
        (("jobs", "show", BAD, *TO_NOWHERE), 2),
        (("jobs", "delete", BAD, *TO_NOWHERE), 2),
        (("jobs", "list", "--url", "http://127.0.0.1:1", "--pool", BAD), 2),
        (("show", BAD), 2),
        (("resume", BAD, *TO_NOWHERE), 2),
        (("schema", "export", BAD), 2),
        (("schema", "import", "T", BAD, "--emulator", "e.duckdb"), 2),
        (("emulator", "--faults", BAD), 2),
        (("emulator", "--database", BAD), 2),
    ],
)
def test_words_that_are_not_text_are_refused(process, words, code):
    found, _, err = process(*words, env={b"PUSHENGINE_API_KEY": b"key"})
    assert found == code, err
    assert "rror: " in err


@on_posix
@pytest.mark.parametrize("value", [b"~nobody-/x", b"x" * 5000, b"a.csv/" + BAD, b"loop/x"])
@pytest.mark.parametrize("name", ["STATE_DIR", "CONFIG", "CLIENT_SECRET_FILE", "API_KEY_FILE", "APP_KEY_FILE", "LOG"])
def test_variables_that_cannot_be_used_are_refused(process, tmp_path, name, value):
    (tmp_path / "loop").symlink_to("loop")
    env = {f"PUSHENGINE_{name}".encode(): value}
    if name == "CLIENT_SECRET_FILE":
        env[b"PUSHENGINE_CLIENT_ID"] = b"id"
    elif "KEY" not in name:
        env[b"PUSHENGINE_API_KEY"] = b"key"
    code, _, err = process("jobs", "list", *TO_NOWHERE, env=env)
    assert (code, "error: " in err) == (2, True), err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    "words", [("history",), ("history", "--json"), ("--help",), ("--version",), ("push", "--help")]
)
def test_a_full_disk_under_standard_output_is_temporary(process, words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pushengine", *words], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr.decode().splitlines()[0]) == (
        75,
        "error: cannot write standard output: No space left on device",
    )


@on_posix
@pytest.mark.parametrize(("closed", "code"), [("0<&-", 0), ("1>&-", 0), ("2>&-", 0), ("0<&- 1>&- 2>&-", 0)])
def test_closed_standard_streams_are_no_problem(process, tmp_path, closed, code):
    words = ("push", "a.csv", "--table", "T", "--emulator", "e.duckdb")
    assert process(*words, shell=f'"$@" {closed}')[0] == code
    for one in (tmp_path / "e.duckdb.state").glob("*.sqlite3"):
        assert one.read_bytes().startswith(b"SQLite format 3")


@on_posix
def test_limits_of_files_and_descriptors(process):
    words = ("push", "a.csv", "--table", "T", *TO_NOWHERE)
    env = {b"PUSHENGINE_API_KEY": b"key"}
    code, _, err = process(*words, env=env, shell="ulimit -f 0;")
    assert (code, "ulimit -f" in err or "disk I/O" in err) == (2, True), err
    for number in (9, 11):
        code, _, err = process(*words, env=env, shell=f"ulimit -n {number};")
        assert (code, "ulimit -n" in err) == (75, True), err


@as_root
@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (("push", "a.csv", "--table", "T", *TO_NOWHERE), 0o700),
        (("history",), 0o700),
        (("show", "T"), 0o700),
        (("schema", "show"), 0o700),
        (("schema", "forget", "T"), 0o700),
        (("journal", "check"), 0o700),
        (("journal", "export"), 0o700),
        (("plan", "a.csv", "--table", "T"), 0o700),
        (("resume", *TO_NOWHERE), 0o700),
        (("quota", *TO_NOWHERE[:2]), 0o700),
        (("push", "a.csv", "--table", "T", *TO_NOWHERE), 0o777),
    ],
)
def test_a_state_folder_of_another_user_is_refused(process, tmp_path, words, mode):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    os.chown(tmp_path / "state", OTHER_USER, OTHER_USER)
    code, _, err = process(*words, env={b"PUSHENGINE_API_KEY": b"key"}, shell=WITHOUT_PRIVILEGES)
    assert code == 2, err
    assert "state" in err
    assert "Permission denied" in err or "belongs to another user" in err
    assert "PUSHENGINE_STATE_DIR" in err
