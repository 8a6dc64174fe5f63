# ruff: noqa: PT012 - a failing transaction takes two lines
"""The journal file: a write is durable before it is reported as done, any crash leaves a prefix, and a damaged file is left unchanged."""

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pushengine.cli import exit_codes
from pushengine.errors import JournalCorruptError, JournalError, JournalVersionError
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.loads import TABLES
from pushengine.journal.reader import JournalReader
from pushengine.journal.sqlite_errors import translated
from pushengine.journal.store import FORMAT_VERSION, Journal, JournalFile
from pushengine.state.folder import refuse_network_file_system

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None


def row(number=0, state="open", identity="i", at=100.0):
    return PushRow(
        push_id=f"push-{number}",
        identity=identity,
        team="acme",
        pool_id="p",
        target="T",
        source="a.csv",
        created_at=at,
        updated_at=at,
        state=state,
    )


def fact(number, push=0, **body):
    return FactRow(f"push-{push}", 100.0 + number, f"kind-{number}", {"number": number, **body})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def file(path):
    with contextlib.closing(JournalFile(path)) as opened:
        yield opened


@pytest.fixture
async def journal(path):
    opened = Journal(path)
    await opened.open()
    yield opened
    await opened.aclose()


def put(file, *facts):
    with file.transaction():
        for one in facts:
            file.append(one)


# --- Format and durability --------------------------------------------------------------------------------------------------------------


def test_every_commit_is_flushed_to_disk(file):
    pragmas = {name: file._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_the_file_has_a_format_version_and_is_private(file, path):
    assert file._db.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
    tables = {name for (name,) in file._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"pushes", "facts", "teams", "tables", "tables_examined", *TABLES}
    assert path.stat().st_mode & 0o777 == 0o600


def test_facts_are_read_back_in_order_with_their_bodies(file):
    facts = [fact(number, text="Größe 日本 '\"\n", nested={"a": [1, None, 2.5]}) for number in range(50)]
    with file.transaction():
        file.begin_push(row())
        file.begin_push(row(1))
    for one in facts:
        put(file, one, fact(99, push=1))
    assert file.facts("push-0") == facts
    assert len(file.facts("push-1")) == 50
    assert file.facts("push-2") == []


def test_find_open_returns_the_newest_push_of_an_identity_that_is_open_or_finished(file):
    with file.transaction():
        for number, state in enumerate(["done", "open", "finished", "failed", "superseded", "unknown", "done"]):
            file.begin_push(row(number, state, at=100.0 + number))
        file.begin_push(row(9, identity="other", at=999.0))
    assert file.find_open("i").push_id == "push-2"
    with file.transaction():
        file.set_state("push-2", "done", 200.0)
    assert file.find_open("i").push_id == "push-1"
    assert file.find_open("unknown") is None
    assert file.push("push-2") == dataclasses.replace(row(2, "done", at=102.0), updated_at=200.0)
    assert [one.push_id for one in file.pushes(limit=3)] == ["push-9", "push-6", "push-5"]
    assert [one.push_id for one in file.pushes(state="open")] == ["push-9", "push-1"]


def test_pushes_that_announced_a_submit_are_found_until_they_end(file):
    with file.transaction():
        for number, state in enumerate(["open", "open", "open", "done", "finished"]):
            file.begin_push(row(number, state, at=float(number)))
            file.append(FactRow(f"push-{number}", 1.0, "chunk_acked", {}))
            if number != 1:
                file.append(FactRow(f"push-{number}", 1.0, "submit_intended", {}))
    assert [one.push_id for one in file.announced_pushes()] == ["push-2", "push-0"]


def test_the_checksum_algorithm_is_stored_per_team(file):
    assert file.checksum_of("acme") is None
    for algorithm in ("md5/hex", "sha1/base64"):
        with file.transaction():
            file.record_checksum("acme", algorithm)
        assert file.checksum_of("acme") == algorithm
    assert file.checksum_of("other") is None


def test_prune_deletes_only_old_pushes_that_have_ended(file):
    states = ["open", "finished", "done", "failed", "superseded", "unknown"]
    with file.transaction():
        for number, state in enumerate(states):
            for age, at in ((0, 10.0), (100, 500.0)):
                file.begin_push(row(number + age, state, at=at))
                file.append(FactRow(f"push-{number + age}", at, "k", {}))
    with file.transaction():
        assert file.prune(100.0) == 3
    left = {one.push_id for one in file.pushes()}
    assert left == {f"push-{number}" for number in (0, 1, 5, *range(100, 106))}
    assert {push for (push,) in file._db.execute("SELECT DISTINCT push_id FROM facts")} == left


def test_the_numbers_of_facts_rise_although_all_pushes_are_old(file):
    numbers = []
    for number in (1, 2):
        with file.transaction():
            file.begin_push(row(number, "done", at=10.0))
            file.append(FactRow(f"push-{number}", 10.0, "k", {}))
        numbers += file._db.execute("SELECT max(seq) FROM facts").fetchone()
        with file.transaction():
            file.prune(1e9)
    assert numbers == [1, 2]
    assert [one.push_id for one in file.pushes()] == ["push-2"]


def test_a_failed_transaction_writes_nothing(file):
    put(file, fact(1))
    with pytest.raises(ZeroDivisionError), file.transaction():
        file.append(fact(2))
        _ = 1 / 0
    assert [one.kind for one in file.facts("push-0")] == ["kind-1"]
    put(file, fact(3))


def test_a_transaction_that_sqlite_itself_rolled_back_raises_the_original_error(file):
    (pages,) = file._db.execute("PRAGMA page_count").fetchone()
    file._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="full") as caught, file.transaction():
        file.append(fact(1, text="x" * 100_000))
    assert not isinstance(caught.value.__context__, sqlite3.Error)


def test_a_failed_commit_leaves_no_transaction_open(file):
    def deny(action, what, *_rest):
        is_commit = (action, what) == (sqlite3.SQLITE_TRANSACTION, "COMMIT")
        return sqlite3.SQLITE_DENY if is_commit else sqlite3.SQLITE_OK

    file._db.set_authorizer(deny)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        put(file, fact(1))
    file._db.set_authorizer(None)
    put(file, fact(2))
    assert file.facts("push-0") == [fact(2)]


def test_processes_that_create_and_write_the_file_concurrently_lose_nothing(path):
    command = (
        "import sys; from pathlib import Path; from pushengine.journal.store import *\n"
        "file = JournalFile(Path(sys.argv[1]))\n"
        "for n in range(50):\n"
        "    with file.transaction(): file.append(FactRow(sys.argv[2], 1.0, 'k', {'n': n}))\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", command, path, name]) for name in "abc"]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    with contextlib.closing(JournalFile(path)) as file:
        assert [[one.body["n"] for one in file.facts(name)] for name in "abc"] == [list(range(50))] * 3


# --- The journal's thread ---------------------------------------------------------------------------------------------------------------


async def held(journal):
    """Keep the journal's thread busy until the gate is opened. Return the call that waits for the gate, and the gate."""
    started, gate = threading.Event(), threading.Event()

    def work(_file):
        started.set()
        gate.wait(10)

    first = asyncio.ensure_future(journal.do(work))
    while not started.is_set():
        await asyncio.sleep(0.001)
    return first, gate


async def test_calls_that_wait_at_the_same_time_share_one_commit_and_keep_their_order(journal):
    first, gate = await held(journal)
    many = [asyncio.ensure_future(journal.do(lambda file, n=n: file.append(fact(n)))) for n in range(100)]
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(first, *many)
    assert journal.commits == 2
    assert [one.body["number"] for one in await journal.read(lambda file: file.facts("push-0"))] == list(range(100))


async def together(journal, *calls):
    """Make calls that wait at the same time, each given as (method name of `Journal`, call). Return their results or errors."""
    first, gate = await held(journal)
    waiting = [asyncio.ensure_future(getattr(journal, name)(call)) for name, call in calls]
    await asyncio.sleep(0.01)
    gate.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


def adding(number, **body):
    return ("do", lambda file: file.append(fact(number, **body)))


async def numbers(journal):
    return [one.body["number"] for one in await journal.read(lambda file: file.facts("push-0"))]


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), JournalCorruptError("damaged", path="j")])
async def test_a_failing_call_rolls_back_only_its_own_writes(journal, error):
    def bad(file):
        file.append(fact(2))
        file.append(fact(3))
        raise error

    results = await together(journal, adding(1), ("do", bad), adding(4))
    assert results == [None, error, None]
    assert journal.commits == 2
    assert await numbers(journal) == [1, 4]


async def test_a_rejected_statement_fails_only_its_own_call(journal):
    results = await together(
        journal,
        ("do", lambda file: file.begin_push(row())),
        ("do", lambda file: file.begin_push(row())),
        ("do", lambda file: file.begin_push(row(1))),
    )
    assert [type(result) for result in results] == [type(None), JournalError, type(None)]
    assert "UNIQUE" in results[1].message
    assert len(await journal.read(lambda file: file.pushes())) == 2


async def test_a_damaged_fact_of_one_push_affects_neither_writes_nor_reads_of_other_pushes(journal):
    damaged = "INSERT INTO facts (push_id, at, kind, body) VALUES ('push-1', 1.0, 'k', '{')"
    await journal.do(lambda file: file._db.execute(damaged) and None)
    results = await together(
        journal, adding(1), ("read", lambda file: file.facts("push-1")), ("read", lambda file: file.facts("push-0"))
    )
    assert [type(result) for result in results] == [type(None), JournalCorruptError, list]
    assert results[2] == [fact(1)]


@pytest.mark.parametrize("is_swallowed", [False, True], ids=["raised", "swallowed by the call"])
async def test_a_full_disk_fails_every_call_whose_writes_were_rolled_back(journal, is_swallowed):
    """On a full disk SQLite itself rolls back the whole transaction; later writes would be committed without the earlier ones."""

    def fill(file):
        with contextlib.suppress(sqlite3.OperationalError) if is_swallowed else contextlib.nullcontext():
            file.append(fact(2, text="x" * 500_000))

    def limit(file):
        (pages,) = file._db.execute("PRAGMA page_count").fetchone()
        file._db.execute(f"PRAGMA max_page_count={pages + 20}")

    await journal.do(limit)
    results = await together(journal, adding(1), ("do", fill), adding(3), ("read", lambda file: file.facts("push-0")))
    assert [type(result) for result in results] == [JournalError, JournalError, JournalError, list]
    assert results[3] == []
    assert len({id(result) for result in results}) == 4, "each caller attaches its own receipt to its error"
    if not is_swallowed:
        assert all("disk is full" in result.message for result in results[:3])
        assert [exit_codes.exit_code_for(result) for result in results[:3]] == [75, 75, 75]
    await journal.do(lambda file: file.append(fact(5)))
    assert await numbers(journal) == [5]


@pytest.mark.parametrize("step", ["BEGIN", "COMMIT"])
async def test_a_failed_begin_or_commit_fails_every_call_of_the_transaction(journal, step):
    def refuse(file):
        file._db.set_authorizer(
            lambda action, what, *_rest: (
                sqlite3.SQLITE_DENY if (action, what) == (sqlite3.SQLITE_TRANSACTION, step) else sqlite3.SQLITE_OK
            )
        )

    files = []
    await journal.read(files.append)
    first, gate = await held(journal)
    waiting = [asyncio.ensure_future(journal.do(call)) for _, call in (adding(1), adding(2))]
    await asyncio.sleep(0.01)
    refuse(files[0])
    gate.set()
    results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert {type(result) for result in results[1:]} == {JournalError}
    files[0]._db.set_authorizer(None)
    await journal.do(lambda file: file.append(fact(3)))
    assert await numbers(journal) == [3]


async def test_a_read_sees_the_writes_queued_before_it_and_causes_no_extra_commit(journal):
    def all_of(file):
        return [one.body["number"] for one in file.facts("push-0")]

    results = await together(journal, adding(1), ("read", all_of), adding(2), ("read", all_of))
    assert results[1][:1] == [1]
    assert results[3] == [1, 2]
    assert journal.commits == 2


async def test_a_read_does_not_wait_for_another_process_that_is_writing(journal, path):
    await journal.do(lambda file: file.append(fact(1)))
    with contextlib.closing(JournalFile(path)) as other, other.transaction():
        other.append(fact(2))
        assert await numbers(journal) == [1]
    assert await numbers(journal) == [1, 2]


async def test_a_read_sees_a_single_snapshot(journal, path):
    def twice(file):
        before = file.facts("push-0")
        with contextlib.closing(JournalFile(path)) as other:
            put(other, fact(1))
        return before, file.facts("push-0")

    assert await journal.read(twice) == ([], [])
    assert await numbers(journal) == [1]


async def test_a_read_that_tries_to_write_is_rejected(journal):
    with pytest.raises(JournalError, match="readonly"):
        await journal.read(lambda file: file.append(fact(1)))
    await journal.do(lambda file: file.append(fact(2)))
    assert await numbers(journal) == [2]


async def test_the_writes_of_a_completed_call_are_in_the_file(journal, path):
    await journal.do(lambda file: file.append(fact(1)))
    with contextlib.closing(JournalFile(path)) as other:
        assert other.facts("push-0") == [fact(1)]


async def test_a_call_cancelled_before_it_starts_never_runs(journal):
    first, gate = await held(journal)
    started = []
    second = asyncio.ensure_future(journal.do(lambda file: file.append(fact(1))))
    third = asyncio.ensure_future(journal.read(started.append))
    await asyncio.sleep(0.01)
    second.cancel()
    third.cancel()
    await asyncio.wait({second, third})
    gate.set()
    await first
    assert await numbers(journal) == []
    assert started == []


async def test_closing_the_journal_writes_the_waiting_calls_and_rejects_later_ones(path):
    journal = Journal(path)
    await journal.open()
    waiting = [asyncio.ensure_future(journal.do(lambda file, n=n: file.append(fact(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await journal.aclose()
    await asyncio.gather(*waiting)
    with pytest.raises(JournalError, match="closed"):
        await journal.do(lambda _file: None)
    await journal.aclose()
    assert not any(thread.name == "pushengine-journal" for thread in threading.enumerate())
    with contextlib.closing(JournalFile(path)) as file:
        assert len(file.facts("push-0")) == 20


async def test_a_journal_that_cannot_be_opened_leaves_no_thread_running(tmp_path):
    journal = Journal(tmp_path / "none" / "journal.sqlite3")
    with pytest.raises(JournalError, match="No such file or directory"):
        await journal.open()
    await journal.aclose()
    assert not any(thread.name == "pushengine-journal" and thread.is_alive() for thread in threading.enumerate())


# --- Damage -----------------------------------------------------------------------------------------------------------------------------


def test_a_newer_format_is_rejected_and_left_unchanged(path):
    JournalFile(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version={FORMAT_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(JournalVersionError) as caught:
        JournalFile(path)
    assert "newer" in caught.value.hint
    assert exit_codes.exit_code_for(caught.value) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"x" * 100_000, b"SQLite format 3\0" + b"x" * 5000, b"\0" * 8192, b"x"], ids=len)
def test_a_file_of_garbage_is_rejected_and_left_unchanged(path, content):
    path.write_bytes(content)
    with pytest.raises(JournalCorruptError) as caught:
        JournalFile(path)
    assert path.read_bytes() == content
    assert "unchanged" in caught.value.hint
    assert exit_codes.exit_code_for(caught.value) == 2


def filled(path, facts=300):
    with contextlib.closing(JournalFile(path)) as file:
        with file.transaction():
            file.begin_push(row())
        for number in range(facts // 10):
            put(file, *(fact(10 * number + one, text="x" * 200) for one in range(10)))
    return path.read_bytes()


def test_a_page_of_garbage_anywhere_is_detected_and_the_file_is_left_unchanged(path):
    whole = filled(path)
    rng = random.Random(3)
    pages = len(whole) // 4096
    assert pages > 10
    for page in range(pages):
        damaged = bytearray(whole)
        damaged[page * 4096 : (page + 1) * 4096] = rng.randbytes(4096)
        path.write_bytes(damaged)
        with pytest.raises(JournalCorruptError):
            JournalFile(path)
        assert path.read_bytes() == damaged, page


def test_a_damaged_file_and_its_log_are_both_left_unchanged(path, tmp_path):
    """A crash leaves the log next to the file. Closing the database would write the log into the damaged file."""
    filled(path)
    writer = JournalFile(path)
    put(writer, fact(1))
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("journal.sqlite3", "journal.sqlite3-wal"):
        shutil.copy(tmp_path / name, kept / name)
    writer.close()
    damaged = bytearray((kept / "journal.sqlite3").read_bytes())
    damaged[5 * 4096 : 6 * 4096] = bytes(range(256)) * 16
    (kept / "journal.sqlite3").write_bytes(damaged)
    log = (kept / "journal.sqlite3-wal").read_bytes()
    assert log
    with pytest.raises(JournalCorruptError):
        JournalFile(kept / "journal.sqlite3")
    assert (kept / "journal.sqlite3").read_bytes() == damaged
    assert (kept / "journal.sqlite3-wal").read_bytes() == log


def test_a_flipped_bit_is_an_error_or_leaves_the_file_readable(path):
    """SQLite checks structure, not content. Damage that it does not detect must not crash pushengine either."""
    whole = filled(path, 40)
    rng = random.Random(4)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with contextlib.suppress(JournalCorruptError, JournalVersionError):
            with contextlib.closing(JournalFile(path)) as file, translated(path):
                facts = file.facts("push-0")
            assert len(facts) <= 40


def test_a_fact_that_is_not_valid_json_counts_as_damage(file):
    file._db.execute("INSERT INTO facts (push_id, at, kind, body) VALUES ('push-0', 1.0, 'k', '{\"a\": ')")
    with pytest.raises(JournalCorruptError, match="push-0"):
        file.facts("push-0")
    with JournalReader(file.path) as reader, pytest.raises(JournalCorruptError, match="push-0"):
        reader.facts("push-0")


def plan_of(file, push, body):
    """Record a stale push that is open and has no job, with this body of its plan."""
    with file.transaction():
        file.begin_push(row(push))
        file._db.execute(
            "INSERT INTO facts (push_id, at, kind, body) VALUES (?, 1.0, 'push_planned', ?)", (f"push-{push}", body)
        )


def test_a_file_is_kept_if_a_damaged_plan_may_name_it(file):
    plan_of(file, 0, '{"fingerprint": [["/spool/a.csv", 1, 2, "x"]]}')
    assert [file.needs_file("a.csv"), file.needs_file("b.csv")] == [True, False]
    plan_of(file, 1, '{"fingerprint": [["/spool/b.')
    assert [file.needs_file("a.csv"), file.needs_file("b.csv")] == [True, True]
    with file.transaction():
        file.set_state("push-1", "done", 200.0)
    assert file.needs_file("b.csv") is False


@pytest.mark.parametrize(
    ("kind", "is_listed"), [("job_created", False), ("submit_intended", False), ("job_discarded", False), ("k", True)]
)
def test_a_job_is_not_listed_as_forgotten_if_a_damaged_fact_may_prove_otherwise(file, kind, is_listed):
    with file.transaction():
        for push in (0, 1):
            file.begin_push(row(push))
            if push or kind != "job_created":
                file.append(FactRow(f"push-{push}", 1.0, "job_created", {"job_id": f"j{push}"}))
        file._db.execute("INSERT INTO facts (push_id, at, kind, body) VALUES ('push-0', 1.0, ?, '{')", (kind,))
    listed = [job_id for _, job_id in file.forgotten_jobs("acme", "p", 1000.0)]
    assert sorted(listed) == (["j0", "j1"] if is_listed else ["j1"])


def test_a_truncated_file_is_detected(path):
    whole = filled(path)
    for size in (1, 100, 4096, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 4097):
        path.write_bytes(whole[:size])
        with pytest.raises(JournalCorruptError):
            JournalFile(path)
        assert path.read_bytes() == whole[:size]


@pytest.fixture
def power_cut():
    """Create a journal with small pages and three commits in its log, as a power cut leaves it.

    Yield the facts, the size of the log, and a function that reads the journal with the log truncated to a size and damaged at a place.
    """
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        path = Path(folder) / "journal.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA page_size=512")
            db.execute("VACUUM")
        JournalFile(path).close()
        file = JournalFile(path)
        facts = [fact(number) for number in range(3)]
        for one in facts:
            put(file, one)
        base, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
        file.close()
        assert len(log) > 3 * 512
        copy = Path(folder) / "copy.sqlite3"

        def read(size, damage=None):
            copy.write_bytes(base)
            cut = bytearray(log[:size])
            if damage is not None:
                cut[damage] ^= 0x55
            Path(f"{copy}-wal").write_bytes(cut)
            Path(f"{copy}-shm").unlink(missing_ok=True)
            with contextlib.closing(JournalFile(copy)) as opened:
                return opened.facts("push-0")

        yield facts, len(log), read


def test_a_log_truncated_at_any_byte_yields_a_prefix_of_the_facts_and_nothing_else(power_cut):
    facts, size, read = power_cut
    longest = 0
    for length in range(size + 1):
        found = read(length)
        assert found == facts[: len(found)], length
        assert len(found) >= longest
        longest = len(found)
    assert longest == len(facts)


def test_a_log_damaged_at_any_place_yields_a_prefix_of_the_facts(power_cut):
    facts, size, read = power_cut
    for place in range(0, size, 7):
        found = read(size, place)
        assert found == facts[: len(found)], place


# --- State folders that it cannot use ---------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 0:21 / / rw,relatime - ext4 /dev/root rw
30 22 0:40 / /mnt/share rw shared:1 - {kind} server:/x rw
31 30 0:41 / /mnt/share/local rw - ext4 /dev/sdb rw
32 22 0:42 / /mnt/with\\040space rw - {kind} server:/y rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"])
@pytest.mark.parametrize("place", ["/mnt/share", "/mnt/share/state/deep", "/mnt/with space/state"])
def test_a_network_file_system_is_rejected(tmp_path, kind, place):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(kind=kind))
    with pytest.raises(JournalError, match=f"network file system \\({kind}\\)") as caught:
        refuse_network_file_system(Path(place), mounts)
    assert exit_codes.exit_code_for(caught.value) == 2


@pytest.mark.parametrize("place", ["/", "/home/state", "/mnt/shared", "/mnt/share/local", "/mnt/share/local/x"])
def test_a_local_file_system_is_accepted(tmp_path, place):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(kind="nfs"))
    refuse_network_file_system(Path(place), mounts)
    refuse_network_file_system(Path(place), tmp_path / "none")


def test_a_write_to_a_full_disk_is_an_error_and_loses_nothing(file):
    put(file, fact(1))
    (pages,) = file._db.execute("PRAGMA page_count").fetchone()
    file._db.execute(f"PRAGMA max_page_count={pages + 2}")
    written = 1
    with pytest.raises(JournalError, match="full") as caught, translated(file.path):
        for number in range(2, 1000):
            put(file, fact(number, text="x" * 500))
            written += 1
    assert "PUSHENGINE_STATE_DIR" in caught.value.hint
    assert len(file.facts("push-0")) == written


@pytest.fixture
def command(tmp_path):
    """Return a function that runs `pushengine push` with a state folder."""
    (tmp_path / "a.csv").write_text("ID\n1\n2\n")

    def run(state):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PUSHENGINE_")}
        environment = kept | {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "PUSHENGINE_STATE_DIR": str(state),
            "PUSHENGINE_URL": "http://127.0.0.1:9",
            "PUSHENGINE_POOL_ID": "p",
            "PUSHENGINE_API_KEY": "test-key-1",
            "HOME": str(tmp_path),
        }
        words = [sys.executable, "-m", "pushengine", "push", tmp_path / "a.csv", "--table", "T", "--json"]
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )

    return run


def check_refused(done, *words, code=2):
    printed = json.loads(done.stdout)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert printed["error"]["hint"]
    assert any(word in printed["error"]["message"] for word in words), printed
    return printed["error"]["type"]


def test_a_damaged_journal_stops_the_command(tmp_path, command):
    state = tmp_path / "state"
    state.mkdir()
    (state / "journal.sqlite3").write_bytes(b"x" * 10_000)
    assert check_refused(command(state), "damaged") == "JournalCorruptError"
    assert (state / "journal.sqlite3").read_bytes() == b"x" * 10_000


@pytest.mark.skipif(os.geteuid() != 0, reason="needs permission to mount")
@pytest.mark.parametrize(("how", "code"), [("full", 75), ("read-only", 2)])
def test_a_state_folder_that_is_full_or_read_only_stops_the_command(tmp_path, command, how, code):
    state = tmp_path / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", state]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        if how == "full":
            (state / "ballast").write_bytes(b"x" * 60_000)
        else:
            subprocess.run(["mount", "-o", "remount,ro", state], check=True)
        check_refused(command(state), "full", "readonly", "unable to open", "Read-only", "disk I/O", code=code)
    finally:
        subprocess.run(["umount", state], check=True)


# --- The journal compared with a model --------------------------------------------------------------------------------------------------

pushes = st.integers(0, 3)
states = st.sampled_from(["open", "finished", "done", "failed", "superseded", "unknown"])
bodies = st.dictionaries(
    st.text(max_size=5), st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20), max_size=3
)


class JournalMachine(RuleBasedStateMachine):
    """After any operations in any order, with crashes in between, the file holds everything that was committed and nothing else."""

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory(dir=SCRATCH)
        self.number = 0
        self.file = JournalFile(self.path)
        self.rows, self.facts, self.teams, self.at = {}, {}, {}, 0.0

    @property
    def path(self):
        return Path(self.folder.name) / f"journal{self.number}.sqlite3"

    def now(self):
        self.at += 1.0
        return self.at

    def touch(self, name, **changes):
        if name in self.rows:
            self.rows[name] = dataclasses.replace(self.rows[name], updated_at=self.at, **changes)

    @rule(number=pushes, state=states)
    def begin_push(self, number, state):
        if f"push-{number}" in self.rows:
            return
        new = row(number, state, identity=f"i{number % 2}", at=self.now())
        with self.file.transaction():
            self.file.begin_push(new)
        self.rows[new.push_id] = new

    @precondition(lambda self: self.rows)
    @rule(number=pushes, many=st.lists(bodies, min_size=1, max_size=4))
    def append(self, number, many):
        name = f"push-{number}"
        new = [FactRow(name, self.now(), "k", body) for body in many]
        put(self.file, *new)
        self.facts.setdefault(name, []).extend(new)
        if self.file.push(name) is not None and self.file.push(name).updated_at == self.at:
            self.touch(name)  # a journal may update the time of the push with each fact, but need not

    @rule(number=pushes, state=states)
    def set_state(self, number, state):
        with self.file.transaction():
            self.file.set_state(f"push-{number}", state, self.now())
        self.touch(f"push-{number}", state=state)

    @rule(team=st.sampled_from("ab"), algorithm=st.sampled_from(["md5/hex", "sha1/hex"]))
    def record_checksum(self, team, algorithm):
        with self.file.transaction():
            self.file.record_checksum(team, algorithm)
        self.teams[team] = algorithm

    @rule(age=st.integers(0, 20))
    def prune(self, age):
        before, ended = self.at - age, ("done", "failed", "superseded")
        gone = {name for name, one in self.rows.items() if one.state in ended and one.updated_at < before}
        gone -= {name for (name,) in self.file._db.execute("SELECT push_id FROM facts ORDER BY seq DESC LIMIT 1")}
        with self.file.transaction():
            assert self.file.prune(before) == len(gone)
        for name in gone:
            del self.rows[name]
            self.facts.pop(name, None)

    @rule(number=pushes)
    def fail(self, number):
        with pytest.raises(ZeroDivisionError), self.file.transaction():
            self.file.append(FactRow(f"push-{number}", self.now(), "never", {}))
            self.file.record_checksum("a", "never")
            self.file.prune(self.at + 1)
            _ = 1 / 0

    @rule()
    def close_and_open(self):
        self.file.close()
        self.file = JournalFile(self.path)

    @rule(in_transaction=st.booleans())
    def crash(self, in_transaction):
        """Continue with only what is on disk at this point in time."""
        if in_transaction:
            self.file._db.execute("BEGIN IMMEDIATE")
            self.file.append(FactRow("push-0", self.now(), "never", {}))
        old = self.path
        self.number += 1
        for suffix in ("", "-wal"):
            if Path(f"{old}{suffix}").exists():
                shutil.copy(f"{old}{suffix}", f"{self.path}{suffix}")
        self.file.close()
        self.file = JournalFile(self.path)

    @invariant()
    def file_matches_the_model(self):
        if not hasattr(self, "rows"):
            return
        for number in range(4):
            name = f"push-{number}"
            assert self.file.push(name) == self.rows.get(name)
            assert self.file.facts(name) == self.facts.get(name, [])
        for identity in ("i0", "i1"):
            found = [
                one for one in self.rows.values() if one.identity == identity and one.state in ("open", "finished")
            ]
            assert self.file.find_open(identity) == max(found, key=lambda one: one.created_at, default=None)
        assert {team: self.file.checksum_of(team) for team in "ab"} == {team: self.teams.get(team) for team in "ab"}

    def teardown(self):
        if hasattr(self, "file"):
            self.file.close()
            self.folder.cleanup()


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
