"""`history`, `show` and `resume` know every push id that was printed, also those of pushes that failed before they sent anything."""

import re
import sqlite3

import pytest

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def team(emulator, environment):
    _, _, exports = emulator()
    environment |= exports


def failing_push(pushengine, tmp_path):
    (tmp_path / "bad.csv").write_text('ID,NAME\n1,"never closed\n')
    failed = pushengine("push", "bad.csv", "--table", "Orders", "--json")
    assert failed.code == 3, failed.err
    return failed.json


def test_a_push_that_failed_while_it_was_planned_is_listed_and_shown(team, pushengine, tmp_path):
    push_id = failing_push(pushengine, tmp_path)["push_id"]
    [listed] = pushengine("history", "--json").json["pushes"]
    assert (listed["push_id"], listed["state"], listed["table"], listed["mode"]) == (
        push_id,
        "failed",
        "Orders",
        "replace",
    )
    assert re.search(rf"^{push_id}  Orders  replace  failed  0 ", pushengine("history").out, re.MULTILINE)
    for words in (push_id, push_id[:-2], "orders"):
        shown = pushengine("show", words)
        assert shown.code == 0, shown.err
        assert shown.out.startswith(f"push {push_id}  FAILED\n")
        assert "failed while it was planned: bad.csv, line 2: a quote opens here and is never closed" in shown.out
        assert "Nothing was submitted: the table is unchanged." in shown.out
    story = pushengine("show", push_id, "--json").json
    assert (story["state"], story["source"]) == ("failed", "bad.csv")
    assert [fact["kind"] for fact in story["facts"]] == ["push_planned", "session_started", "push_failed"]
    assert [run["ended"] for run in story["runs"]] == ["failed"]
    resumed = pushengine("resume", push_id)
    assert resumed.code == 2
    assert f"push {push_id} has ended: it failed while it was planned; there is nothing to resume" in resumed.err
    assert "hint: run its command again" in resumed.err
    assert pushengine("resume").out == "nothing to resume: no push into this pool was left unfinished\n"


def test_show_finds_a_push_by_its_job_and_resume_does_not(team, pushengine, orders):
    done = pushengine("push", orders, "--table", "ORDERS", "--json").json
    for words in (done["job_id"], done["job_id"][:13], "orders"):
        assert pushengine("show", words, "--json").json["push_id"] == done["push_id"]
    refused = pushengine("resume", done["job_id"])
    assert refused.code == 2
    assert f"{done['job_id']} is not the id of a push" in refused.err
    assert f"finds push {done['push_id']}" in refused.err
    missing = pushengine("show", "NOTHING", "--json")
    assert (missing.code, missing.json["error"]["message"]) == (2, "the journal has no push, job or table NOTHING")


@pytest.mark.parametrize("place", ["file", "file/state"])
@pytest.mark.parametrize("words", [("history",), ("history", "--json"), ("show", "x"), ("resume", "x")])
def test_a_state_folder_that_cannot_be_used_is_an_error(pushengine, tmp_path, place, words):
    (tmp_path / "file").write_text("")
    done = pushengine(*words, PUSHENGINE_STATE_DIR=str(tmp_path / place))
    assert done.code == 2
    reason = " is a file" if place == "file" else ": Not a directory"
    assert f"the state folder {tmp_path / place}{reason}" in done.err


def test_pushes_that_cannot_be_resumed_are_counted(team, pushengine, orders, tmp_path):
    pushengine("push", orders, "--table", "ORDERS")
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as db:
        db.execute("DELETE FROM facts")
        db.execute("UPDATE pushes SET state = 'open'")
    db.close()
    done = pushengine("resume")
    assert (done.code, done.out) == (0, "nothing was resumed: 1 unfinished push skipped\n")
    assert done.err.startswith("skipped: push ")
    assert pushengine("resume", "--json").json == []
