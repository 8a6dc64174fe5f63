"""With the JSON log format, every line on stderr is one JSON object, whatever a command does and however it ends."""

import json
import signal

import pytest

pytestmark = pytest.mark.timeout(300)  # many commands a test
NOWHERE = {"PUSHENGINE_URL": "http://127.0.0.1:9", "PUSHENGINE_POOL_ID": "pool-1", "PUSHENGINE_API_KEY": "test-key-1"}
IDS = {"push_id", "table", "pool"}


def lines_of(text):
    """Parse every line of stderr; each has the ids of a push, its level and its time."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert {"event", "level", "timestamp"} | IDS <= line.keys(), line
    return lines


@pytest.fixture
def team(emulator):
    _, _, exports = emulator()
    return exports


def failure(done):
    """Return the last line, which must be the failure of the command and have its exit code."""
    *_, last = lines_of(done.err)
    assert (last["event"], last["level"], last["exit_code"]) == ("command_failed", "error", done.code)
    return last


def test_every_event_of_a_push_names_push_table_and_pool(team, pushengine, orders):
    done = pushengine("push", orders, "--table", "T", "--log-format", "json", **team)
    assert done.code == 0
    lines = lines_of(done.err)
    assert {(line["table"], line["pool"]) for line in lines} == {("T", team["PUSHENGINE_POOL_ID"])}
    (push_id,) = {line["push_id"] for line in lines}
    assert f"  push      {push_id}" in done.out
    assert pushengine("show", push_id).code == 0


FAILURES = (
    (("push", "ragged.csv", "--table", "T"), 3),
    (("push", "ragged.csv", "--table", "T", "--quiet"), 3),
    (("push", "missing.csv", "--table", "T"), 3),
    (("push", "orders.csv"), 2),
    (("push", "orders.csv", "--table", "T", "--mode", "none"), 2),
    (("plan", "missing.csv", "--table", "T"), 3),
    (("resume", "nothing"), 2),
    (("show", "nothing"), 2),
    (("jobs", "show", "nothing"), 75),
    (("jobs", "delete", "nothing"), 75),
    (("quota", "--url", "x y"), 2),
    (("schema", "show", "--config", "missing.toml"), 2),
    (("schema", "export", "T"), 2),
    (("schema", "import", "T", "missing.toml"), 2),
    (("schema", "forget", "T"), 2),
    (("journal", "export", "--config", "missing.toml"), 2),
    (("journal", "check", "--config", "missing.toml"), 2),
    (("history", "--config", "missing.toml"), 2),
    (("demo", "--database", "x.csv"), 2),
    (("emulator", "--faults", "missing.json"), 2),
    (("none",), 2),
    ((), 2),
)
# Every third command belongs to one test: what `schema export` wrote is imported in the same one.
SUCCESSES = (
    ("plan", "orders.csv", "--table", "T"),
    ("resume",),
    ("history",),
    ("show", "T"),
    ("check",),
    ("jobs", "list"),
    ("quota",),
    ("quota", "reset", "--json"),
    ("schema", "show"),
    ("schema", "export", "T", "--output", "t.toml"),
    ("schema", "forget", "T"),
    ("journal", "check"),
    ("schema", "import", "T", "t.toml"),
    ("journal", "export", "--output", "facts.jsonl"),
    ("demo", "--cases", "5"),
    ("push", "orders.csv", "--table", "T", "--emulator", "--json"),
)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.usefixtures("orders")
def test_failures_of_every_command(pushengine, tmp_path, part):
    (tmp_path / "ragged.csv").write_text("A,B\n1,2\n3\n")
    for words, code in FAILURES[part::3]:
        done = pushengine(*words, **NOWHERE, PUSHENGINE_LOG="json", PUSHENGINE_DEBUG="1")
        assert (words, done.code) == (words, code), done.err
        last = failure(done)
        assert last["error"]
        assert ("traceback" in last) == (last["error_type"] != "UsageError"), words


@pytest.mark.usefixtures("orders")
def test_the_format_is_known_from_the_config_file_also_if_that_is_wrong_and_from_the_flag_first(pushengine, tmp_path):
    (tmp_path / "bad.toml").write_text("[log]\nformat = 'json'\n[engine]\nunknown = 1\n")
    assert "unknown key engine.unknown" in failure(pushengine("history", "--config", "bad.toml"))["error"]
    assert failure(pushengine("push", "orders.csv", "--config=bad.toml"))["error_type"] == "UsageError"
    plain = pushengine("push", "x.csv", "--table", "T", "--emulator", "--log-format", "console", PUSHENGINE_LOG="json")
    assert "error: x.csv: no such file" in plain.err


@pytest.mark.parametrize("part", range(3))
@pytest.mark.usefixtures("orders")
def test_successes_of_every_command(team, pushengine, part):
    for words in (("push", "orders.csv", "--table", "T"), *SUCCESSES[part::3]):
        done = pushengine(*words, **team, PUSHENGINE_LOG="json")
        assert (words, done.code) == (words, 0), done.err
        lines_of(done.err)


def test_an_interrupted_push_says_so_in_json(start, tmp_path):
    (tmp_path / "big.csv").write_bytes(b"ID,TEXT\n" + b"0000104711,some text that repeats\n" * 3_000_000)
    (tmp_path / "slow.toml").write_text("[engine]\nchunk_bytes = 65536\nmax_uploads = 1\nencoder_threads = 1\n")
    process = start("push", "big.csv", "--table", "T", "--emulator", "--log-format", "json", "--config", "slow.toml")
    assert any("job_created" in line for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    lines = lines_of(err)
    assert process.returncode == lines[-1]["exit_code"] == 130
    assert [line["message"] for line in lines if line["event"] == "message_printed"] == [
        "stopping: requests in flight are finished first; another Ctrl-C or SIGTERM aborts"
    ]
