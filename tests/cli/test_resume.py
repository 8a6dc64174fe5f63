"""Pushes that were killed: `resume` finishes them, `show` describes what happened, `history` lists them, `journal` saves what it can."""

import contextlib
import json
import os
import re
import signal
import sqlite3
import threading
import time

import pytest

from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.emulator.faults import Delay, DropAfter, DropBefore, Fault, FaultPlan
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.store import JournalFile
from pushengine.state.lock import PushLock

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(120),
]  # these tests start many processes, on machines that also do other work

ROWS = 80_000


class Team:
    """An emulator that runs on a separate thread."""

    def __init__(self):
        import asyncio

        self.loop = asyncio.new_event_loop()
        self.emulator = Emulator(settings=EmulatorSettings())
        self.thread = threading.Thread(target=self.loop.run_forever)

    def run(self, work):
        import asyncio

        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def __enter__(self):
        self.thread.start()
        self.run(self.emulator.start())
        return self

    def __exit__(self, *_exc):
        self.run(self.emulator.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def fail(self, *faults):
        async def set_them():
            self.emulator.faults = FaultPlan(list(faults))

        self.run(set_them())

    def rows(self, table="T"):
        return self.run(self.emulator.query(f'SELECT count(*), count(DISTINCT "ID") FROM "{table}"'))


@pytest.fixture
def team(environment, tmp_path):
    """Run a team; the environment and the config file point to it."""
    (tmp_path / "small.toml").write_text(
        "[engine]\nchunk_bytes = 65536\nmax_uploads = 2\nquarantine_seconds = 0.5\nsettle_seconds = 0.1\n"
        "max_attempts = 2\nretry_max_wait_seconds = 0.01\n"
    )
    with Team() as running:
        environment |= {
            "PUSHENGINE_URL": running.emulator.url,
            "PUSHENGINE_POOL_ID": "00000000-0000-4000-8000-000000000001",
            "PUSHENGINE_API_KEY": "any-key",
            "PUSHENGINE_CONFIG": str(tmp_path / "small.toml"),
        }
        yield running


@pytest.fixture
def big(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("ID,TEXT\n" + "".join(f"{number:010d},some text\n" for number in range(ROWS)), encoding="utf-8")
    return path


def wait_for(process, words, count=1):
    """Read the log of a process until `count` lines have contained the text."""
    for line in process.stderr:
        count -= words in line
        if not count:
            return
    raise AssertionError(f"the log ended too early: {words}")


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def killed_twice(team, start, big):
    """Kill a push while uploads are in flight, resume it, and kill it again. Return its arguments.

    One upload is lost; another arrives, and only its response is lost. The retry of the lost upload starts after a wait of at most
    0.01 s, long before the uploads that never end.
    """
    slow = Delay(30, when="before")
    push = ("push", big, "--table", "T", "--log-format", "json")
    team.fail(Fault("upsert", DropAfter(), nth=3), Fault("upsert", slow, after=8))
    process = start(*push)
    wait_for(process, '"event": "upload_started"', 10)
    time.sleep(0.1)
    kill(process)
    team.fail(Fault("upsert", DropBefore(), nth=2), Fault("upsert", Delay(30, when="after"), after=13))
    process = start(*push)
    wait_for(process, '"event": "upload_started"', 15)
    time.sleep(0.3)
    kill(process)
    team.fail()
    return push


def story_of(pushengine):
    """Return the only push, as `history` lists it, and what `show` prints about it."""
    [push] = pushengine("history", "--json").json["pushes"]
    shown = pushengine("show", push["push_id"])
    assert shown.code == 0, shown.err
    return push, shown.out


def test_a_push_killed_twice_is_resumed_and_described(killed_twice, pushengine, team):
    push, story = story_of(pushengine)
    assert (push["state"], push["sessions"]) == ("open", 2)
    assert f"To continue it: pushengine resume {push['push_id']}, or" in story
    shown = pushengine("show", push["push_id"], "--config", "small.toml")
    assert f"To continue it: pushengine resume {push['push_id']} --config small.toml, or" in shown.out
    done = pushengine("resume", push["push_id"][:-2], "--json")
    assert done.code == 0, done.err
    assert (done.json["status"], done.json["rows"], done.json["resumed"]) == ("DONE", ROWS, True)
    assert done.json["push_id"] == push["push_id"]
    assert f"resuming push {push['push_id']}: " in done.err
    assert team.rows() == [(ROWS, ROWS)]
    push, story = story_of(pushengine)
    assert (push["state"], push["rows"], push["sessions"]) == ("done", ROWS, 3)
    ids = re.findall(r"session (\d): process (\d+) (started|resumed)", story)
    assert [(number, how) for number, _, how in ids] == [("1", "started"), ("2", "resumed"), ("3", "resumed")]
    assert len(re.findall(r"killed: process \d+ .*with chunk.* outcome unknown", story)) == 2
    for pattern in (
        r"with unknown outcome: the connection was lost before the response",
        r"reconciled by checksum from the job's chunk list: found chunk",
        r"did not find chunks? \d{6}.*, to be sent again",
        r"chunks 0000.* acknowledged, [\d,]+ rows, [\d.]+ kB.*; sent again: ",
        r"resumed with job \S+: \d+ chunks, [\d,]+ rows, already acknowledged",
        r"sealed: the job holds 26 chunks, exactly what was sent, by checksum; listed .* could no longer arrive late",
        r"submitted: the platform accepted the job",
        r"the job ended with DONE",
        r"done: 80,000 rows in 26 chunks",
    ):
        assert re.search(pattern, story), pattern


def test_the_same_command_resumes_the_push_and_leaves_nothing_to_resume(killed_twice, pushengine, team):
    done = pushengine(*killed_twice, "--log-format", "console")
    assert done.code == 0, done.err
    assert re.search(r"resuming push \S+: \d+ of its chunks, [\d,]+ rows, are already acknowledged", done.err)
    assert re.search(r"^  resumed   \d+ of 26 chunks, ", done.out, re.MULTILINE)
    assert team.rows() == [(ROWS, ROWS)]
    nothing = pushengine("resume")
    assert (nothing.code, nothing.out) == (0, "nothing to resume: no push into this pool was left unfinished\n")
    assert pushengine("resume", "--json").json == []
    assert pushengine("resume", "--quiet").out == ""
    [push] = pushengine("history", "--json").json["pushes"]
    again = pushengine("resume", push["push_id"], "--json")
    assert (again.code, again.json["error"]["type"]) == (2, "ConfigError")


def test_resume_reports_a_push_that_another_process_holds_and_finishes_the_others(team, start, pushengine, orders):
    team.fail(Fault("upsert", Delay(30, when="before")))
    for table in ("T", "ORDERS"):
        process = start("push", orders, "--table", table, "--log-format", "json")
        wait_for(process, '"event": "upload_started"')
        kill(process)
    team.fail()
    journal = JournalFile(orders.parent / "state" / "journal.sqlite3")
    first = next(row for row in journal.pushes() if row.target == "T")
    journal.close()
    lock = PushLock(orders.parent / "state" / "locks", first.identity)
    try:
        shown = pushengine("show", first.push_id)
        done = pushengine("resume", "--json")
        one = pushengine("resume", first.push_id)
    finally:
        lock.release()
    assert f"RUNNING, pid {os.getpid()}" in shown.out
    assert done.code == one.code == 75
    assert f"held by pid {os.getpid()}" in done.err
    assert f"held by pid {os.getpid()}" in one.err
    assert [(push["table"], push["status"]) for push in done.json] == [("T", "ERROR"), ("ORDERS", "DONE")]
    assert done.json[0]["error"]["type"] == "JournalLockedError"
    assert team.rows("ORDERS") == [(3, 3)]


def test_history_and_show_need_neither_credentials_nor_a_journal(pushengine, tmp_path):
    assert (
        pushengine("history").out
        == f"no pushes yet in {tmp_path / 'state'} (pushes into --emulator FILE are recorded in FILE.state)\n"
    )
    assert pushengine("history", "--json").json == {"pushes": []}
    shown = pushengine("show", "2026")
    assert shown.code == 2
    assert "there is no push 2026" in shown.err
    assert pushengine("journal", "check").code == 0


def test_the_same_load_id_is_pushed_once(pushengine, team, orders):
    words = ("push", orders, "--table", "ORDERS", "--mode", "append", "--json", "--load-id")
    first, again, other = (pushengine(*words, name) for name in ("night-1", "night-1", "night-2"))
    assert (first.code, again.code, other.code) == (0, 0, 0), again.err
    assert (first.json["push_id"], True) == (again.json["push_id"], again.json["resumed"])
    assert other.json["push_id"] != first.json["push_id"]
    assert team.rows("ORDERS") == [(6, 3)]


@pytest.fixture
def journal(tmp_path):
    """Create a journal with many facts on many pages."""
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "journal.sqlite3"
    file = JournalFile(path)
    with file.transaction():
        for number in range(3):
            push_id = f"2026010{number}T000000Z-0000000{number}"
            file.begin_push(PushRow(push_id, f"i{number}", "acme", "pool", f"T{number}", "a.csv", 1.0, 2.0, "failed"))
            for fact in range(500):
                file.append(FactRow(push_id, 1.0 + fact, "job_polled", {"job_id": "j", "status": "RUNNING", "n": fact}))
    file.close()
    return path


def test_an_undamaged_journal_is_checked_and_exported(pushengine, journal, tmp_path):
    check = pushengine("journal", "check")
    assert check.code == 0, check.out
    assert check.out.startswith("ok  journal\n")
    assert "3 pushes: 3 failed" in check.out
    assert "1,500 facts can be read" in check.out
    export = pushengine("journal", "export")
    lines = [json.loads(line) for line in export.out.splitlines()]
    assert (export.code, len(lines)) == (0, 1500)
    assert lines[0] == {
        "seq": 1,
        "push_id": "20260100T000000Z-00000000",
        "at": 1.0,
        "kind": "job_polled",
        "body": {"job_id": "j", "status": "RUNNING", "n": 0},
    }
    assert pushengine("journal", "export", "--output", "facts.jsonl").code == 0
    assert len((tmp_path / "facts.jsonl").read_text().splitlines()) == 1500
    assert pushengine("journal", "export", "--output", "facts.jsonl").code == 2
    ambiguous = pushengine("show", "2026")
    assert ambiguous.code == 2
    assert "3 pushes start with '2026'" in ambiguous.err


def pages_of(path):
    """Return the page size, and the page numbers of the leaves of the table of facts, in order."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'facts'").fetchone()
    raw = path.read_bytes()
    page = raw[(root - 1) * size : root * size]
    count = int.from_bytes(page[3:5])
    children = [int.from_bytes(page[12 + 2 * n : 14 + 2 * n]) for n in range(count)]
    return size, [int.from_bytes(page[at : at + 4]) for at in children] + [int.from_bytes(page[8:12])]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_damaged_journal_stops_pushes_is_left_unchanged_and_exports_what_can_be_read(
    pushengine, journal, orders, place
):
    size, pages = pages_of(journal)
    page = {"first": pages[0], "middle": pages[len(pages) // 2], "last": pages[-1]}[place]
    with journal.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    before = journal.read_bytes()
    push = pushengine(
        *("push", orders, "--table", "T", "--url", "http://127.0.0.1:9", "--pool", "p"), PUSHENGINE_API_KEY="k"
    )
    assert push.code == 2
    assert "the journal is damaged" in push.err
    assert "pushengine journal export" in push.err
    check = pushengine("journal", "check", "--json")
    assert check.code == 2
    assert check.json["problems"]
    export = pushengine("journal", "export")
    assert export.code == 2
    read = [json.loads(line)["seq"] for line in export.out.splitlines()]
    assert read == sorted(set(read))
    assert len(read) >= 1500 - 120
    assert len(read) + check.json["unreadable"] == 1500
    assert journal.read_bytes() == before
    assert pushengine("history").code == 2


@pytest.mark.parametrize("damage", ["header", "truncated", "garbage"])
def test_a_journal_that_cannot_be_read_is_reported_and_left_unchanged(pushengine, journal, damage):
    pages_of(journal)
    raw = journal.read_bytes()
    journal.write_bytes(
        {"header": b"\0" * 100 + raw[100:], "truncated": raw[: len(raw) // 2], "garbage": b"no database " * 1000}[
            damage
        ]
    )
    before = journal.read_bytes()
    check = pushengine("journal", "check")
    assert check.code == 2, check.err
    assert "FAILED  journal" in check.out
    export = pushengine("journal", "export")
    assert export.code == 2, export.err
    assert "Traceback" not in check.err + export.err
    assert journal.read_bytes() == before


def test_a_journal_of_a_newer_version_is_rejected(pushengine, journal):
    with contextlib.closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA user_version = 99")
    assert pushengine("history").code == 2
    check = pushengine("journal", "check")
    assert check.code == 2
    assert "99" in check.out


def test_the_emulator_applies_a_fault_plan(start, pushengine, orders, tmp_path):
    (tmp_path / "plan.json").write_text('{"faults": [{"operation": "upsert", "nth": 1, "action": "drop_after"}]}')
    process = start("emulator", "--faults", "plan.json")
    exports = {}
    while len(exports) < 3:
        line = process.stdout.readline()
        if match := re.match(r"export (\w+)=(.*)", line):
            exports[match[1]] = match[2]
    done = pushengine("push", orders, "--table", "T", **exports)
    assert done.code == 0, done.err
    assert "chunk 000000, whose upload was not acknowledged, has arrived (compared by " in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read"),
        ("{", "bad fault plan: plan.json"),
        ('{"faults": [{"operation": "nope", "action": "empty"}]}', "faults[0].operation: must be one of create"),
    ],
)
def test_an_invalid_fault_plan_is_rejected_with_a_reason(pushengine, tmp_path, text, words):
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    done = pushengine("emulator", "--faults", "plan.json")
    assert done.code == 2
    assert words in done.err
