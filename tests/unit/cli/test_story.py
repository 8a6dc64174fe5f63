"""The description of a push in lines, derived from its recorded facts."""

from pathlib import Path

import pytest

from pushengine.cli.describe import describe_history
from pushengine.cli.hints import Hints
from pushengine.cli.push_sessions import sessions_of
from pushengine.cli.story import describe_push_story, summarise
from pushengine.journal.facts import FactRow, PushRow
from pushengine.text import format_ids, format_rows

STATE = Path("/var/state")
T0 = 1_750_000_000.0  # 15:06:40
JOB = {"job_id": "j1"}
PLAN = {
    "target": {"table": "T", "mode": "replace", "keys": []},
    "source": ["/a.csv"],
    "source_bytes": 126_000_000,
    "schema": {"columns": [["A"], ["B"]], "keys": []},
}
RECEIPT = {"status": "INTERRUPTED", "rows": 30, "chunks": 3, "payload_bytes": 3000}


def row(state="open"):
    return PushRow("p1", "identity", "acme", "pool-1", "T", "/a.csv", T0, T0, state)


class Script:
    """Facts that are one second apart."""

    def __init__(self, **plan):
        self.facts = []
        self.at = T0
        self.add("push_planned", **(PLAN | plan)).session(1, resumed=False)

    def add(self, kind, **body):
        self.facts.append(FactRow("p1", self.at, kind, body))
        self.at += 1
        return self

    def session(self, pid, *, resumed=True):
        return self.add("session_started", pid=pid, resumed=resumed)

    def job(self):
        return self.add("job_intended").add("job_created", **JOB)

    def send(self, number):
        chunk = {"chunk_id": f"{number:06d}", "rows": 1_000_000, "payload_bytes": 1000, "digests": {}, "type": "UPSERT"}
        return self.add("chunk_sending", **JOB, **chunk, first_row=number * 1_000_000, end_row=(number + 1) * 1_000_000)

    def chunk(self, kind, number, **body):
        return self.add(f"chunk_{kind}", **JOB, chunk_id=f"{number:06d}", **body)

    def acked(self, *numbers):
        for number in numbers:
            self.send(number).chunk("acked", number)
        return self

    def story(self, state="open", holder=None):
        return describe_push_story(row(state), self.facts, holder=holder)


def texts(lines):
    return [line[12:] for line in lines if line[4:5] == ":"]


def test_many_acknowledged_chunks_become_one_line():
    story = Script().job().acked(*range(42)).story()
    assert "  15:08:07  chunks 000000-000041 acknowledged, 42.0 M rows, 42.0 kB, 15:06:44-15:08:07" in story
    assert len(story) == 14


def test_a_killed_push_shows_what_was_in_flight_and_how_it_was_reconciled():
    script = Script().job().acked(0).send(1).send(2).session(2)
    script.chunk("settled", 1, is_present=True, how="checksum").chunk("settled", 2, is_present=False, how="checksum")
    script.acked(2).add("job_sealed", **JOB, chunks=3, verified="checksum")
    assert texts(script.story()) == [
        "planned: replace table T, 2 columns",
        "session 1: process 1 started",
        "job j1 created",
        "chunk 000000 acknowledged, 1.0 M rows, 1.00 kB, 15:06:44-15:06:45",
        "killed: process 1 ended without recording why, with chunks 000001-000002 in flight; outcome unknown",
        "session 2: process 2 resumed with job j1: 1 chunk, 1.0 M rows, already acknowledged",
        "reconciled by checksum from the job's chunk list: found chunk 000001, not sent again; did not find chunk 000002, to be sent again",
        "chunk 000002 acknowledged, 1.0 M rows, 1.00 kB, 15:06:51-15:06:52; sent again: 000002",
        (
            "sealed: the job holds 3 chunks, exactly what was sent, by checksum; listed 3.0 s after the last upload was found missing,"
            " when it could no longer arrive late"
        ),
        "killed: process 2 ended without recording why",
    ]


def test_a_lost_submit_is_described_before_and_after_a_kill():
    script = Script().job().acked(0).add("job_sealed", **JOB, chunks=1, verified="count").add("submit_intended", **JOB)
    script.session(2).add("submit_accepted", **JOB).add("job_polled", **JOB, status="RUNNING")
    script.add("job_settled", **JOB, status="DONE", logs=["loaded"]).add("push_finished", receipt=RECEIPT)
    story = script.story("done")
    assert any(line.startswith("killed: process 1 ") and "with a submit in flight" in line for line in texts(story))
    assert texts(story)[-3:] == [
        "the job is no longer NEW: the submit was accepted after all",
        "the job ended with DONE, after RUNNING",
        "done: 30 rows in 3 chunks, 3.00 kB",
    ]
    assert "            loaded" in story
    assert [session.ended for session in sessions_of(script.facts)] == ["killed", "done"]


@pytest.mark.parametrize(
    ("mode", "words"), [("append", "If they are not, push again."), ("replace", "run twice and yields the same table")]
)
def test_an_unknown_outcome_explains_how_a_person_can_decide(mode, words):
    script = Script(target={"table": "T", "mode": mode, "keys": []}).job().acked(0).add("submit_intended", **JOB)
    script.add("submit_unknown", **JOB, error="reset").add("push_failed", error="gone", error_type="X", receipt=RECEIPT)
    story = "\n".join(script.story("unknown"))
    for part in (
        "OUTCOME UNKNOWN",
        "submit with unknown outcome: reset",
        "_CELONIS_CHANGE_DATE",
        "row count",
    ):
        assert part in story
    assert words in story


def test_the_ends_of_sessions_are_distinguished():
    script = Script().add("push_interrupted", receipt=RECEIPT, error="x").session(2)
    script.add("push_interrupted", receipt=RECEIPT | {"status": "ERROR"}, error="no route").session(3).session(4)
    assert [session.ended for session in sessions_of(script.facts, holder=4)] == [
        "interrupted",
        "stopped",
        "killed",
        "running",
    ]
    story = script.story(holder=4)
    assert story[0] == "push p1  RUNNING, pid 4"
    assert story[-1] == "Process 4 is working on it."
    assert any(line.startswith("stopped: process 2 ") and line.endswith(": no route") for line in texts(story))


def test_refusals_deletion_and_restart_are_described():
    script = Script().job().send(0).chunk("refused", 0, error="HTTP 503").acked(0)
    script.add("job_discarded", **JOB, error=None).add("push_restarted", reason="a longer text")
    script.add("push_failed", error="bad row", error_type="X", receipt=RECEIPT)
    story = script.story("failed")
    assert texts(story)[3:] == [
        "chunk 000000 refused, so not stored: HTTP 503",
        "chunk 000000 acknowledged, 1.0 M rows, 1.00 kB, 15:06:44-15:06:47; sent again: 000000",
        "unsubmitted job j1 deleted",
        "restarted in a fresh job: a longer text",
        "failed: bad row",
    ]
    assert story[-1] == "Nothing was submitted: the table is unchanged."


def test_the_last_session_of_an_abandoned_push_ends_with_its_own_last_fact():
    script = Script().job()
    script.at += 86_400
    script.add("job_discarded", **JOB, error=None).add("push_superseded", reason="nobody resumed it in time")
    assert texts(script.story("superseded"))[-3:] == [
        "killed: process 1 ended without recording why",
        "unsubmitted job j1 deleted",
        "abandoned: nobody resumed it in time",
    ]
    [session] = sessions_of(script.facts)
    assert session.ended_at - session.started_at == 2


def test_a_push_that_cannot_be_resumed_says_what_to_do_instead():
    assert Script(source=None).story()[-1].startswith("It read an object in memory, which is gone")
    assert describe_push_story(row(), [])[-1] == "It ended before it had sent anything: run its command again."


def test_history_is_shown_as_a_table():
    script = Script().job().acked(0, 1)
    assert describe_history([], STATE) == [
        "no pushes yet in /var/state (pushes into --emulator FILE are recorded in FILE.state)"
    ]
    assert describe_history([summarise(row(), script.facts)], STATE) == [
        "PUSH  TABLE  MODE     STATE  ROWS       STARTED (UTC)  WORK   RUNS",
        "p1    T      replace  open   2,000,000  15 Jun 15:06   6.0 s  1",
    ]


def test_ids_are_shown_as_ranges_and_large_row_counts_in_millions():
    assert format_ids(["000002", "000000", "000001", "000004", "000004.1"]) == "000000-000002, 000004, 000004.1"
    assert [format_rows(n) for n in (1, 999_999, 2_100_000)] == ["1 row", "999,999 rows", "2.1 M rows"]


def test_a_push_that_failed_while_it_was_planned_is_described_without_columns_or_chunks():
    script = Script(schema=None, source_bytes=None)
    script.add("push_failed", error="a.csv, line 7: quote never ends", error_type="SourceReadError", receipt=RECEIPT)
    assert script.story("failed") == [
        "push p1  FAILED",
        "  table     T in pool pool-1 of acme",
        "  source    /a.csv",
        "  sessions  1 (failed), 1.0 s of work",
        "",
        "2025-06-15, UTC",
        "  15:06:40  requested: replace table T",
        "  15:06:41  session 1: process 1 started",
        "  15:06:42  failed while it was planned: a.csv, line 7: quote never ends",
        "",
        "Nothing was submitted: the table is unchanged.",
    ]
    summary = summarise(row("failed"), script.facts)
    assert (summary.state, summary.mode, summary.rows, summary.sessions) == ("failed", "replace", 0, 1)


def test_a_cancellation_which_has_no_message_is_described():
    script = Script(schema=None).add("push_failed", error="", error_type="CancelledError", receipt=RECEIPT)
    assert texts(script.story("failed"))[-1] == "failed while it was planned: the process was asked to stop"


def test_the_next_step_names_the_config_file_that_was_named():
    lines = describe_push_story(row(), Script().facts, hints=Hints(config=Path("night.toml")))
    assert lines[-1] == "To continue it: pushengine resume p1 --config night.toml, or the same push command again."
