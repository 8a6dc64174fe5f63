"""`history --failed --since --table --load`: pushes found by what became of them, with their errors, in 80 columns."""

import contextlib
import json
import time

import pytest

from pushengine.cli.app import main
from pushengine.journal.facts import FactRow, PushFailed, PushPlanned, PushRow, SessionStarted
from pushengine.journal.store import JournalFile

CLAIM = {"load": "sap", "table": "VBAP", "generation": "g", "run_id": "r"}
ERROR = "job 123 for table VBAP ended with ERROR: " + "the column MATNR has a value that is too long; " * 6


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(state))
    now = time.time()
    rows = (
        ("old", "VBAP", "done", None, 90),
        ("bad", "VBAP", "failed", CLAIM, 2),
        ("lost", "LOST", "unknown", None, 1),
    )
    with contextlib.closing(JournalFile(state / "journal.sqlite3")) as file, file.transaction():
        for name, table, push_state, claim, days in rows:
            at = now - days * 86_400
            file.begin_push(PushRow(f"20261127T000000Z-{name:0>8}", "i", "t", "p", table, "a.csv", at, at, push_state))
            target = {"table": table, "mode": "append", "keys": []}
            facts = [PushPlanned(target=target, claim=claim), SessionStarted(pid=1, resumed=False)]
            if push_state != "done":
                facts.append(PushFailed(error=ERROR, error_type="JobFailedError", receipt={"status": "ERROR"}))
            for fact in facts:
                file.append(FactRow.of(f"20261127T000000Z-{name:0>8}", at, fact))

    def call(*words, code=0):
        capsys.readouterr()
        assert main(["history", *words]) == code
        output = capsys.readouterr()
        return output.err if code else output.out

    return call


def found(run, *words):
    return [push["push_id"][-8:].lstrip("0") for push in json.loads(run(*words, "--json"))["pushes"]]


def test_pushes_are_found_by_state_time_table_and_load(run):
    assert found(run) == ["lost", "bad", "old"]
    assert found(run, "--failed") == ["lost", "bad"]
    assert found(run, "--since", "10d") == ["lost", "bad"]
    assert found(run, "--table", "vbap") == ["bad", "old"]
    assert found(run, "--load", "SAP") == found(run, "--load", "sap.vbap") == ["bad"]
    assert found(run, "--load", "other") == []
    assert found(run, "--failed", "--limit", "1") == ["lost"]
    assert found(run, "--table", "VBAP", "--failed", "--since", "10d") == ["bad"]


def test_the_errors_are_shown_in_80_columns(run):
    shown = run("--failed")
    assert shown.count("error: job 123 for table VBAP ended with ERROR") == 2
    assert max(map(len, shown.splitlines())) <= 80
    assert run("--load", "other").startswith("no such push in ")
    (bad,) = json.loads(run("--load", "sap", "--json"))["pushes"]
    assert (bad["error"], bad["load"]) == (ERROR, "sap.VBAP")


def test_a_time_that_is_none_is_refused(run):
    assert "--since soon names no time" in run("--since", "soon", code=2)
