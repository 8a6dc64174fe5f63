"""`push`, `plan`, `check`, `quota`, `jobs`, `demo`: from arguments to the rows in the table, the output and the exit code."""

import contextlib
import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from pushengine.quota.ledger import SqliteLedger

RECEIPT_KEYS = {
    *("push_id", "job_id", "table", "mode", "status", "rows", "chunks", "payload_bytes", "source_bytes"),
    *("elapsed_seconds", "retries", "submits", "restarts", "resumed", "verified", "job_logs"),
}


def rows_of(database, table="ORDERS"):
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(f'SELECT "ID", "NAME", "AMOUNT" FROM "{table}" ORDER BY 1').fetchall()


EXPECTED = [("0001", "Müller", 1.5), ("0002", "Groß", 2.25), ("0003", None, None)]


def test_push_into_an_emulator_file_prints_the_receipt_and_nothing_else(pushengine, orders, tmp_path):
    done = pushengine("push", orders, "--table", "ORDERS", "--emulator", "out.duckdb", "--json")
    assert done.code == 0, done.err
    assert done.json.keys() >= RECEIPT_KEYS
    assert (done.json["status"], done.json["rows"], done.json["verified"]) == ("DONE", 3, "checksum")
    assert rows_of(tmp_path / "out.duckdb") == EXPECTED


@pytest.mark.parametrize(
    "words", ["{} --emulator --table ORDERS", "--emulator {} --table ORDERS", "{} --table ORDERS --emulator"]
)
def test_emulator_without_a_file_is_in_memory_wherever_the_option_stands(pushengine, orders, tmp_path, words):
    done = pushengine("push", *words.format(orders.name).split())
    assert done.code == 0, done.err
    assert done.out.startswith("DONE  ORDERS  replace")
    assert "in memory" in done.out
    assert "ORDERS: job is DONE" in done.err
    assert not list(tmp_path.glob("*.duckdb"))


def test_a_push_into_the_embedded_emulator_does_not_use_the_ledger_of_the_user(pushengine, orders, tmp_path):
    assert pushengine("push", orders, "--table", "T", "--emulator", "--quiet").code == 0
    assert not (tmp_path / "state").exists()


def test_quiet_prints_nothing(pushengine, orders):
    done = pushengine("push", orders, "--table", "T", "--emulator", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_modes_keys_and_column_types_are_applied(pushengine, orders, tmp_path):
    common = ("--table", "ORDERS", "--emulator", "o.duckdb", "--json", "--column", "AMOUNT=STRING")
    assert pushengine("push", orders, *common).code == 0
    orders.write_text("ID,NAME,AMOUNT\n0002,neu,9\n0004,vier,4\n")
    assert pushengine("push", orders, *common, "--mode", "upsert", "--key", "ID").json["mode"] == "upsert"
    assert rows_of(tmp_path / "o.duckdb") == [
        ("0001", "Müller", "1.50"),
        ("0002", "neu", "9"),
        ("0003", None, None),
        ("0004", "vier", "4"),
    ]


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        ("nowhere.csv --table T --emulator", 3, "SourceReadError"),
        ("orders.csv --table T", 2, "ConfigError"),
        ("orders.csv --table T --emulator --mode upsert", 2, "ConfigError"),
        ("orders.csv --table T --emulator --column ID=NUMBER", 2, "ConfigError"),
        ("orders.csv --table T --emulator --config nowhere.toml", 2, "ConfigError"),
        ("orders.csv --table T --url https://127.0.0.1:9 --pool p", 2, "ConfigError"),
        ("orders.csv --mode merge --table T", 2, "UsageError"),
        ("s3://bucket/orders.csv --table T --emulator", 2, "ConfigError"),
    ],
    ids=["missing-file", "no-url", "no-keys", "bad-type", "no-config", "no-credentials", "bad-mode", "object-store"],
)
def test_a_failure_has_an_exit_code_a_json_object_and_a_message(pushengine, orders, words, code, kind):
    done = pushengine("push", *words.split(), "--json")
    assert done.code == code, done.err
    assert done.json["status"] == "ERROR"
    assert done.json["error"]["type"] == kind
    assert set(done.json["error"]) == {"type", "message", "hint"}
    assert "Traceback" not in done.err
    assert done.err


def test_column_types_are_checked_before_anything_is_opened(pushengine, orders):
    done = pushengine("push", orders, "--table", "T", "--column", "ID")
    assert (done.code, done.out) == (2, "")
    assert "--column ID: not NAME=TYPE" in done.err


def test_a_push_without_a_team_suggests_the_emulator(pushengine, orders):
    assert "--emulator" in pushengine("push", orders, "--table", "T").err
    assert "--emulator" not in pushengine("jobs", "list").err


def test_an_unreachable_team_is_a_temporary_failure(pushengine, orders, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text("[engine]\nmax_attempts = 1\n")
    done = pushengine(
        *("push", orders, "--table", "T", "--json", "--config", config),
        PUSHENGINE_URL="http://127.0.0.1:9",
        PUSHENGINE_POOL_ID="p",
        PUSHENGINE_API_KEY="hunter2-hunter2",
    )
    assert done.code == 75, done.err
    assert "hunter2" not in done.out + done.err


def test_json_log_lines_go_to_stderr(pushengine, orders):
    import json

    done = pushengine("push", orders, "--table", "T", "--emulator", "--json", PUSHENGINE_LOG="json")
    names = [json.loads(line)["event"] for line in done.err.splitlines()]
    assert names[0] == "push_started"
    assert names[-1] == "push_finished"
    assert "chunk_read" in names
    assert done.json["status"] == "DONE"


def test_log_level_adds_log_lines_to_the_progress(pushengine, orders, tmp_path):
    (tmp_path / "c.toml").write_text("[log]\nlevel = 'info'\n")
    done = pushengine("push", orders, "--table", "T", "--emulator", "--config", "c.toml")
    assert "[info     ] job_created" in done.err
    assert "T: job is DONE" in done.err
    assert "chunk_read" not in done.err


def test_a_closed_stdout_does_not_change_the_exit_code(start, orders):
    process = start("push", orders, "--table", "T", "--emulator")
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert "Traceback" not in process.stderr.read()


def test_debug_shows_the_traceback(pushengine, orders):
    assert "Traceback" in pushengine("push", "no.csv", "--table", "T", "--emulator", PUSHENGINE_DEBUG="1").err
    assert "Traceback" in pushengine("--debug", "push", "no.csv", "--table", "T", "--emulator").err


def test_a_bug_is_described_in_one_line_with_exit_code_1(orders, monkeypatch, capsys):
    from pushengine.cli import app, session

    def broken(**_):
        raise RuntimeError("hopeless")

    monkeypatch.setattr(session, "load_config", broken)
    assert app.main(["push", str(orders), "--table", "T", "--json"]) == 1
    captured = capsys.readouterr()
    assert "bug: RuntimeError: hopeless" in captured.err
    assert "Traceback" not in captured.err
    assert '"RuntimeError"' in captured.out


@pytest.mark.parametrize("words", [("plan",), ("push", "--dry-run")])
def test_plan_shows_the_schema_and_sends_nothing(pushengine, orders, words, tmp_path):
    done = pushengine(words[0], orders, "--table", "ORDERS", *words[1:], "--json")
    assert done.code == 0, done.err
    assert [(column["name"], column["type"]) for column in done.json["columns"]] == [
        ("ID", "STRING"),
        ("NAME", "STRING"),
        ("AMOUNT", "FLOAT"),
    ]
    text = pushengine(words[0], orders, "--table", "ORDERS", *words[1:]).out
    assert text.startswith("PLAN  ORDERS  replace, nothing was sent")
    assert not (tmp_path / "state").exists()


def test_demo_prints_the_table_and_the_receipt(pushengine):
    done = pushengine("demo", "--cases", "500", "--seed", "3")
    assert done.code == 0, done.err
    assert "P2P_ACTIVITIES now holds" in done.out
    assert "VENDOR_ID 0000104" in done.out
    assert "DONE  P2P_ACTIVITIES" in done.out
    assert "Müller" not in done.out + done.err


def test_demo_with_json_keeps_its_table_in_the_given_database(pushengine, tmp_path):
    done = pushengine("demo", "--cases", "300", "--database", "demo.duckdb", "--json")
    assert done.json["status"] == "DONE"
    with duckdb.connect(str(tmp_path / "demo.duckdb"), read_only=True) as connection:
        [(rows,)] = connection.execute('SELECT count(*) FROM "P2P_ACTIVITIES"').fetchall()
    assert rows == done.json["rows"] == done.json["demo"]["rows"]


def test_quota_needs_no_credentials_and_starts_with_all_submits_left(pushengine):
    done = pushengine("quota", "--url", "https://acme.eu-1.celonis.cloud", "--json")
    assert done.code == 0, done.err
    assert (done.json["team"], done.json["spent"], done.json["remaining"]) == ("acme.eu-1.celonis.cloud", 0, 250)
    assert "250 of 250 submits left" in pushengine("quota", "--url", "https://acme.eu-1.celonis.cloud").out


TEAM = "acme.eu-1.celonis.cloud"
TEAM_URL = ("--url", f"https://{TEAM}")
REFUSED = "the server refused a submit (429) and asked for 600 s"


@pytest.fixture
def ledger(environment):
    """Open the ledger that the command uses."""
    folder = Path(environment["PUSHENGINE_STATE_DIR"])
    folder.mkdir()
    with contextlib.closing(SqliteLedger(folder / "quota.sqlite3")) as ledger:
        yield ledger


def test_quota_shows_a_block_and_its_reason(pushengine, ledger):
    ledger.block(TEAM, 600.0, time.time(), is_named=True, reason=REFUSED)
    done = pushengine("quota", *TEAM_URL, "--json")
    assert (done.json["remaining"], done.json["blocked_reason"]) == (0, REFUSED)
    until = dt.datetime.fromisoformat(done.json["blocked_until"]).timestamp()
    assert until == pytest.approx(time.time() + 600, abs=30)
    text = pushengine("quota", *TEAM_URL).out
    assert done.json["blocked_until"].partition("T")[2] + f": {REFUSED}" in text
    assert "pushengine quota reset" in text


def test_quota_reset_clears_a_block_and_future_times_but_not_the_count(pushengine, ledger):
    now = time.time()
    assert ledger.reserve(TEAM, (now // 3600 + 24) * 3600 + 1800).granted
    ledger.block(TEAM, 600.0, now, is_named=True, reason=REFUSED)
    done = pushengine("quota", "reset", *TEAM_URL)
    assert done.code == 0, done.err
    cleared, status = done.out.splitlines()[0], done.out.splitlines()[1]
    assert cleared.startswith(f"cleared for {TEAM}: a block for another ")
    for words in (REFUSED, "ahead of this host's clock", "an hour that has not started"):
        assert words in cleared
    assert "249 of 250 submits left this hour, 1 spent" in status
    again = pushengine("quota", "reset", *TEAM_URL)
    assert again.out.splitlines()[0] == f"nothing to clear for {TEAM}"


@pytest.mark.parametrize("words", [("quota", "reset", *TEAM_URL, "--json"), ("quota", *TEAM_URL, "--json", "reset")])
def test_quota_reset_with_json_prints_the_status_afterwards(pushengine, ledger, words):
    ledger.block(TEAM, 600.0, time.time(), is_named=True, reason=REFUSED)
    done = pushengine(*words)
    assert done.code == 0, done.err
    assert (done.json["team"], done.json["remaining"], done.json["blocked_until"]) == (TEAM, 250, None)
    assert "cleared" in done.err


def test_help_of_quota_names_its_options_and_reset(pushengine):
    text = pushengine("quota", "--help").out
    for words in ("left of this hour's submits", "--url", "--config", "--json", "reset"):
        assert words in text
    assert "Never clears this hour's count" in " ".join(pushengine("quota", "reset", "--help").out.split())
    assert pushengine("quota", "resett").code == 2


def test_quota_without_a_writable_state_folder_is_a_configuration_error(pushengine, tmp_path):
    (tmp_path / "file").write_text("")
    done = pushengine("quota", "--url", "https://acme.eu-1.celonis.cloud", PUSHENGINE_STATE_DIR=str(tmp_path / "file"))
    assert done.code == 2
    assert "state folder" in done.err


def test_standard_input_is_pushed_with_the_given_format(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pushengine", "push", "-", "--format", "csv", "--table", "T", "--emulator", "--json"],
        input=b"ID,NAME\n007,a\n008,b\n",
        capture_output=True,
        cwd=tmp_path,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 2
