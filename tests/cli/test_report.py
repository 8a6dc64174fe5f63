"""`pushengine report` on a journal as loads leave it."""

import contextlib
import datetime as dt
import json
import os

import pytest
from support.run_memory import run_load

from pushengine.journal.loads import Run
from pushengine.journal.store import JournalFile
from pushengine.state.folder import StateFolder


@pytest.fixture
def add_run(tmp_path):
    """Return a function that writes a run of two hours ago into the journal of the state folder."""

    def add(*loads, hours_ago=2, ended=True, pid=1):
        folder = tmp_path / "state"
        folder.mkdir(mode=0o700, exist_ok=True)
        at = dt.datetime.now().timestamp() - 3600 * hours_ago
        run_id = f"run-{hours_ago}"
        with contextlib.closing(JournalFile(StateFolder(folder).journal)) as journal:
            with journal.transaction():
                journal.loads.begin_run(Run(run_id=run_id, started_at=at, pid=pid), loads)
            if ended:
                with journal.transaction():
                    journal.loads.end_run(run_id, at + 60, 0)
        return run_id

    return add


def test_all_well_exits_with_0(pushengine, add_run):
    add_run(run_load(rows=1_234, started_at=1.0, ended_at=3.0))
    done = pushengine("report", "--since", "12h")
    assert done.code == 0, done.err
    assert done.out.startswith("ALL WELL\n")
    assert "sap.VBAP  done   1,234" in done.out


def test_a_failure_exits_with_3_and_names_the_commands(pushengine, add_run, tmp_path):
    add_run(run_load(), run_load("MSEG", "failed", reason="bad", push_id="p1", exit_code=3))
    (tmp_path / "night.toml").write_text("")
    done = pushengine("report", "--since", "12h", "--config", "night.toml")
    assert (done.code, done.err) == (3, "")
    assert "    -> see what happened: pushengine show p1 --config night.toml" in done.out.splitlines()


def test_a_run_of_a_process_that_has_gone_is_cut_off_and_of_this_one_is_at_work(pushengine, add_run):
    add_run(run_load("A", "running"), ended=False, pid=os.getpid())
    assert pushengine("report", "--since", "12h").code == 0
    add_run(run_load("A", "running"), ended=False, pid=2**22 + 1, hours_ago=1)  # above the highest id of a process
    done = pushengine("report", "--since", "12h", "--json")
    assert done.code == 3
    assert [(load["name"], load["is_cut_off"]) for load in done.json["loads"]] == [("sap.A", True)]


def test_no_run_since_then_is_no_good_news(pushengine, add_run):
    add_run(run_load(), hours_ago=30)
    done = pushengine("report", "--since", "12h")
    assert done.code == 3
    assert done.out.startswith("NOTHING RAN")


def test_a_state_folder_without_a_journal_says_where_it_looked(pushengine, tmp_path):
    done = pushengine("report")
    assert done.code == 2
    assert f"there is no journal in {tmp_path / 'state'}" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--since", "never"), "--since never names no time"),
        (("--load", "sab"), "the journal has no load sab"),
        (("--output", "absent/report.html"), "cannot write"),
    ],
)
def test_what_cannot_be_reported_is_a_usage_error(pushengine, add_run, words, message):
    add_run(run_load())
    done = pushengine("report", *words)
    assert done.code == 2
    assert message in done.err


def test_only_a_named_load(pushengine, add_run):
    add_run(run_load(), run_load("MSEG", "failed", exit_code=3))
    done = pushengine("report", "--since", "12h", "--load", "SAP.vb*", "--json")
    assert (done.code, [load["name"] for load in done.json["loads"]]) == (0, ["sap.VBAP"])


@pytest.mark.parametrize(
    ("form", "begins"), [("html", "<!DOCTYPE html>"), ("md", "**ALL WELL**"), ("json", "{"), ("text", "ALL WELL")]
)
def test_a_file_is_written_whole_in_place_of_an_older_one(pushengine, add_run, tmp_path, form, begins):
    add_run(run_load("売上"))
    file = tmp_path / "report.out"
    file.write_text("older" * 100_000)
    done = pushengine("report", "--since", "12h", "--format", form, "--output", file)
    assert (done.code, done.out, done.err) == (0, "", "")
    text = file.read_text(encoding="utf-8")
    assert text.startswith(begins)
    assert "older" not in text
    assert "売上" in text or form == "json"
    assert sorted(path.name for path in tmp_path.glob("*report*")) == ["report.out"]
    to_stdout = pushengine("report", "--since", "12h", "--format", form).out
    if form == "json":
        assert json.loads(text)["loads"] == json.loads(to_stdout)["loads"]
