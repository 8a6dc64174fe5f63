"""The exit codes of the manual: each of them from every command that can end with it, as real processes against a real server."""

import contextlib
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from pushengine.emulator import EmulatorSettings
from pushengine.emulator.faults import DropAfter, Fault, FaultPlan, Status, Vanish
from pushengine.testing import EmulatorThread

pytestmark = pytest.mark.timeout(300)  # many commands a test
PUSH = ("push", "orders.csv", "--table", "T")
NETWORK = (PUSH, ("check",), ("jobs", "list"), ("jobs", "show", "j"), ("jobs", "delete", "j"))
LOCAL = (
    *(("plan", "orders.csv", "--table", "T"), ("history",), ("show", "T"), ("quota",), ("quota", "reset"), ("resume",)),
    *(("schema", "show"), ("schema", "export", "T"), ("schema", "import", "T", "t.toml"), ("schema", "forget", "T")),
    *(("journal", "check"), ("journal", "export"), ("demo", "--cases", "5")),
)
BUG = "import sys, asyncio; asyncio.run = lambda body: (body.close(), 1 / 0); from pushengine.cli.app import main; sys.exit(main())"


@pytest.fixture
def team(environment, orders, tmp_path):
    """Return an emulator whose credentials the environment has; calls that fail are repeated once, soon."""
    settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)
    (tmp_path / "c.toml").write_text(
        "[engine]\nmax_attempts = 2\nretry_max_wait_seconds = 0.1\npoll_max_interval_seconds = 0.1\nquarantine_seconds = 0.2\n"
        "settle_seconds = 0.1\n"
    )
    (tmp_path / "t.toml").write_text('table = "T"\n[columns]\nID = "STRING(255)"\n')
    with EmulatorThread(settings=settings) as team:
        environment |= {
            "PUSHENGINE_URL": team.url,
            "PUSHENGINE_POOL_ID": "pool-1",
            "PUSHENGINE_API_KEY": "test-key-1",
            "PUSHENGINE_CONFIG": str(tmp_path / "c.toml"),
        }
        yield team


@pytest.fixture
def codes(pushengine):
    """Return a function that runs commands, two at a time, and returns the exit code of each."""

    def run(commands, **extra):
        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(lambda words: pushengine(*words, **extra), commands))
        for one in done:
            assert "Traceback" not in one.err, one.err
        return {words: one.code for words, one in zip(commands, done, strict=True)}

    return run


def all_with(commands, code):
    return dict.fromkeys(commands, code)


def test_0(codes, team, pushengine):
    assert pushengine(*PUSH).code == 0
    commands = [("check",), ("jobs", "list"), *LOCAL]
    commands.remove(("schema", "forget", "T"))  # the others show the table
    assert codes(commands) == all_with(commands, 0)
    job = next(iter(team.emulator.service.jobs))
    for words in (("jobs", "show", job), ("jobs", "delete", job), ("schema", "forget", "T")):
        assert pushengine(*words).code == 0


@pytest.mark.usefixtures("team")
def test_1_only_after_a_bug(environment, tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    def run(words):
        return subprocess.run(
            [sys.executable, "-c", BUG, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
            check=False,
        )

    for words in (*NETWORK, *LOCAL, ("emulator",)):
        done = run(words)
        assert (words, done.returncode) == (words, 1)
        assert "bug: ZeroDivisionError" in done.stderr


@pytest.mark.usefixtures("team")
def test_2_for_a_wrong_word_and_a_wrong_setting(codes):
    commands = [(*words, "--nonsense") for words in (*NETWORK, *LOCAL, ("emulator",))]
    assert codes(commands[::2]) == all_with(commands[::2], 2)
    configured = [words for words in (*NETWORK, *LOCAL, ("emulator", "--strict-auth")) if words[0] != "demo"]
    wrong = [(*words, "--config", "none.toml") for words in configured[1::2]]
    assert codes(wrong) == all_with(wrong, 2)


def test_2_for_a_damaged_journal_and_a_missing_push(codes, team, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.sqlite3").write_bytes(b"no journal at all, but a text " * 200)
    commands = [PUSH, *(words for words in LOCAL if words[0] in ("history", "show", "resume", "journal", "schema"))]
    assert codes(commands) == all_with(commands, 2)
    databases = [("demo", "--database", "x.csv"), ("emulator", "--database", "x.csv")]
    assert codes(databases) == all_with(databases, 2)


def test_3_for_a_source_a_refusal_and_a_missing_job(codes, team, tmp_path):
    (tmp_path / "ragged.csv").write_text("A,B\n1,2\n3\n")
    bad = ("ragged.csv", "--table", "T")
    commands = [("push", *bad), ("plan", *bad), ("jobs", "show", "none"), ("jobs", "delete", "none")]
    assert codes(commands) == all_with(commands, 3)
    team.faults = FaultPlan([Fault("*", Status(400, {"message": "no"}))])
    assert codes([PUSH, ("jobs", "list")]) == all_with([PUSH, ("jobs", "list")], 3)


def test_4_for_refused_credentials(codes, team):
    for status in (401, 403):
        team.faults = FaultPlan([Fault("*", Status(status, {"message": "no"}))])
        assert codes(NETWORK) == all_with(NETWORK, 4), status


def test_6_if_the_job_vanished_after_a_submit_without_a_response(pushengine, team):
    team.faults = FaultPlan([Fault("submit", DropAfter()), Fault("get", Vanish())])
    done = pushengine(*PUSH)
    assert done.code == 6, done.err
    assert "pushengine show " in done.err


def closed_port():
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_75_without_a_network_and_from_a_failing_server(codes, team):
    team.faults = FaultPlan([Fault("*", Status(503))])
    assert codes(NETWORK) == all_with(NETWORK, 75)
    extra = {"PUSHENGINE_URL": f"http://127.0.0.1:{closed_port()}"}
    assert codes(NETWORK, **extra) == all_with(NETWORK, 75)


def test_75_for_a_push_that_is_left_and_resume_has_the_same_codes(pushengine, team):
    team.faults = FaultPlan([Fault("upsert", Status(503))])
    assert pushengine(*PUSH).code == 75
    assert pushengine("resume").code == 75
    team.faults = FaultPlan([Fault("*", Status(401, {"message": "no"}))])
    assert pushengine("resume").code == 4
    team.faults = None
    assert pushengine("resume").code == 0


@pytest.mark.parametrize(
    "words", [("push", "big.csv", "--table", "T"), ("resume",), ("emulator",), ("demo", "--cases", "200000")]
)
def test_130_after_a_signal(words, start, pushengine, team, tmp_path):
    (tmp_path / "big.csv").write_bytes(b"ID,TEXT\n" + b"0000104711,some text that repeats\n" * 2_000_000)
    (tmp_path / "c.toml").write_text("[engine]\nchunk_bytes = 65536\nmax_uploads = 1\nencoder_threads = 1\n")
    if words == ("resume",):
        first = start("push", "big.csv", "--table", "T")
        assert any("created" in line for line in first.stderr)
        first.send_signal(signal.SIGKILL)
        first.wait()
    process = start(*words)
    stream = process.stdout if words == ("emulator",) else process.stderr
    ready = {"emulator": "emulator at", "demo": "generating", "resume": "resuming", "push": "created"}[words[0]]
    assert any(ready in line for line in stream)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=250)
    assert process.returncode == (0 if words == ("emulator",) else 130), err
    assert "Traceback" not in err
