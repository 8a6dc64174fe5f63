"""Long-running commands that receive real signals, and the emulator as a server."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

ROW = b"0000104711,123.45,some text that repeats\n"


@pytest.fixture
def slow_push(start, tmp_path):
    """Start a push that takes many seconds: a large file in tiny chunks, one at a time. Return when its job is created.

    The embedded emulator and its state folder end with the process, so that nothing can be resumed.
    """
    (tmp_path / "big.csv").write_bytes(b"ID,AMOUNT,TEXT\n" + ROW * 3_000_000)
    (tmp_path / "slow.toml").write_text("[engine]\nchunk_bytes = 65536\nmax_uploads = 1\nencoder_threads = 1\n")
    process = start("push", "big.csv", "--table", "T", "--emulator", "--json", "--config", "slow.toml")
    assert any("created" in line for line in process.stderr)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_finishes_requests_in_flight_and_leaves_nothing_to_resume(slow_push, number):
    slow_push.send_signal(number)
    out, err = slow_push.communicate(timeout=30)
    assert slow_push.returncode == 130
    receipt = json.loads(out)
    assert (receipt["status"], receipt["submits"]) == ("INTERRUPTED", 0)
    assert receipt["rows"] < 3_000_000
    assert "stopping: requests in flight are finished first; another Ctrl-C or SIGTERM aborts" in err
    assert "hint: run the same command again\n" in err
    assert "pushengine resume" not in out + err
    assert "Traceback" not in err


def test_the_second_signal_aborts(slow_push):
    slow_push.send_signal(signal.SIGINT)
    assert any("aborts" in line for line in slow_push.stderr)
    slow_push.send_signal(signal.SIGTERM)
    out, err = slow_push.communicate(timeout=30)
    assert slow_push.returncode == 130
    assert json.loads(out)["status"] == "INTERRUPTED"
    assert "Traceback" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_push_of_files_says_how_to_resume_it(emulator, start, pushengine, tmp_path, number):
    """Its job is kept, and the chunks in the job are not sent again."""
    _, _, exports = emulator()
    (tmp_path / "big.csv").write_bytes(b"ID,AMOUNT,TEXT\n" + ROW * 1_000_000)
    (tmp_path / "slow.toml").write_text("[engine]\nchunk_bytes = 262144\nmax_uploads = 1\nencoder_threads = 1\n")
    push = ("push", "big.csv", "--table", "T", "--config", "slow.toml")
    process = start(*push, "--log-format", "json", **exports)
    uploaded = 0
    for line in process.stderr:
        uploaded += "chunk_uploaded" in line
        if uploaded == 5:
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    *_, last = [json.loads(line) for line in err.splitlines()]
    kept = r"nothing was submitted, the table is unchanged; \d+ chunks are acknowledged and kept"
    assert re.fullmatch(kept, last["state"])
    push_id = last["push_id"]
    assert last["hint"] == f"run the same command again, or: pushengine resume {push_id} --config slow.toml"
    assert "job_deleted" not in err
    listed = pushengine("jobs", "list", "--json", **exports).json["jobs"]
    assert [job["status"] for job in listed] == ["NEW"]
    shown = pushengine("show", push_id)
    assert "interrupted: process" in shown.out
    done = pushengine("resume", "--config", "slow.toml", **exports)
    assert done.code == 0, done.err
    assert re.search(r"^  resumed   \d+ of \d+ chunks, [\d,]+ rows, had already been sent$", done.out, re.MULTILINE)
    assert "1,000,000 in " in done.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_emulator_prints_its_address_first_and_ends_cleanly_on_a_signal(emulator, number):
    process, first, exports = emulator()
    assert re.search(r"http://127\.0\.0\.1:\d+", first)[0] == exports["PUSHENGINE_URL"]
    process.send_signal(number)
    _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, "")


def test_the_environment_that_the_emulator_prints_is_all_that_a_push_needs(emulator, pushengine, orders):
    _, _, exports = emulator()
    done = pushengine("push", orders, "--table", "T", "--json", **exports)
    assert (done.code, done.json["status"]) == (0, "DONE"), done.err
    check = pushengine("check", **exports)
    assert check.code == 0, check.out
    assert check.out.count("ok  ") == 5
    listed = pushengine("jobs", "list", "--json", **exports).json["jobs"]
    assert [(job["id"], job["status"], job["target_name"]) for job in listed] == [(done.json["job_id"], "DONE", "T")]
    assert done.json["job_id"] in pushengine("jobs", "list", **exports).out
    shown = pushengine("jobs", "show", done.json["job_id"], "--json", **exports)
    assert shown.json["status"] == "DONE"
    quota = pushengine("quota", "--url", exports["PUSHENGINE_URL"], "--json")
    assert quota.json["spent"] == 1
    assert pushengine("jobs", "delete", done.json["job_id"], **exports).out == f"job {done.json['job_id']} is deleted\n"
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}
    missing = pushengine("jobs", "show", "nope", "--json", **exports)
    assert missing.code == 3
    assert missing.json["error"]["type"] == "NotFoundError"


def test_a_strict_emulator_accepts_only_the_credentials_in_its_environment(emulator, pushengine, orders):
    _, _, exports = emulator("--strict-auth", PUSHENGINE_API_KEY="the-right-key")
    assert "PUSHENGINE_API_KEY" not in exports
    assert pushengine("push", orders, "--table", "T", "--json", **exports, PUSHENGINE_API_KEY="the-right-key").code == 0
    refused = pushengine("push", orders, "--table", "T", "--json", **exports, PUSHENGINE_API_KEY="wrong-key-x")
    assert refused.code == 4, refused.err
    assert refused.json["error"]["type"] == "AuthenticationError"
    assert "wrong-key-x" not in refused.out + refused.err
    check = pushengine("check", "--json", **exports, PUSHENGINE_API_KEY="wrong-key-x")
    assert check.code == 4
    assert check.json["is_ok"] is False


def test_an_emulator_knows_only_the_connections_that_it_is_given(emulator, pushengine, orders):
    _, _, exports = emulator("--connection", "sap", "--connection", "crm")
    assert pushengine("push", orders, "--table", "T", "--connection", "crm", "--json", **exports).code == 0
    refused = pushengine("push", orders, "--table", "T", "--connection", "crn", "--json", **exports)
    assert refused.code == 3, refused.err
    assert "connectionId: is not a data connection of the pool" in " ".join(refused.json["error"]["message"].split())


def test_a_strict_emulator_without_credentials_is_a_configuration_error(pushengine):
    done = pushengine("emulator", "--strict-auth")
    assert done.code == 2
    assert "no credentials" in done.err


def test_a_port_in_use_is_reported(emulator, pushengine):
    _, _, exports = emulator()
    done = pushengine("emulator", "--port", exports["PUSHENGINE_URL"].rpartition(":")[2])
    assert done.code == 2
    assert "cannot listen on port" in done.err


@pytest.mark.parametrize(
    "words", ["push orders.csv --table T --emulator not.duckdb --json", "demo --database not.duckdb --json"]
)
def test_a_file_that_is_not_a_database_is_reported(pushengine, orders, tmp_path, words):
    (tmp_path / "not.duckdb").write_text("this is not a database" * 1000)
    done = pushengine(*words.split())
    assert done.code == 2, done.err
    assert "cannot use not.duckdb" in done.json["error"]["message"]


# --tls


def test_an_emulator_with_a_certificate_prints_all_that_a_push_over_https_needs(start, pushengine, orders, tmp_path):
    process = start("emulator", "--tls")
    exports = {}
    setting = ""
    for line in process.stdout:
        if match := re.match(r"export (\w+)=(.*)", line):
            exports[match[1]] = match[2]
        setting = line[1:].strip() if "ca_file = " in line else setting
        if "REQUESTS_CA_BUNDLE" in exports:
            break
    assert exports["PUSHENGINE_URL"].startswith("https://127.0.0.1:")
    assert exports["SSL_CERT_FILE"] == exports["REQUESTS_CA_BUNDLE"]
    no_proxy = {"NO_PROXY": "127.0.0.1"}
    done = pushengine("push", orders, "--table", "T", "--json", **exports, **no_proxy)
    assert (done.code, done.json["status"]) == (0, "DONE"), done.err
    (tmp_path / "tls.toml").write_text(f"[engine]\n{setting}\n")
    del exports["SSL_CERT_FILE"], exports["REQUESTS_CA_BUNDLE"]
    check = pushengine("check", "--config", "tls.toml", **exports, **no_proxy)
    assert check.code == 0, check.out
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (0, "")
    assert not Path(setting.partition('"')[2].rstrip('"')).exists()


def test_a_certificate_needs_the_extra(pushengine, tmp_path):
    (tmp_path / "trustme.py").write_text("raise ImportError('not installed')\n")
    done = pushengine("emulator", "--tls", PYTHONPATH=f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    assert done.code == 2
    assert "pip install 'pushengine[tls]'" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("patience", ["0", "30m"])
def test_a_signal_ends_the_wait_for_a_team_that_does_not_respond(start, orders, patience):
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        team = {
            "PUSHENGINE_URL": f"http://127.0.0.1:{unused.getsockname()[1]}",
            "PUSHENGINE_POOL_ID": "pool",
            "PUSHENGINE_API_KEY": "key-1",
        }
        process = start("push", orders, "--table", "T", "--patience", patience, **team)
        waits = "no call to the platform has succeeded since" if patience == "30m" else "attempt 2 failed"
        assert any(waits in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "nothing was submitted, the table is unchanged" in err
    assert "attempt 9 failed" not in err
