"""A push that ends before it is planned is in the journal as failed; an unfinished push outlives a successor that cannot be planned."""

import asyncio
import contextlib
import io
import sqlite3

import pytest
from support import interrupting
from support.interrupting import DrainAt, change_plan

from pushengine import events
from pushengine.config.options import LoadOptions
from pushengine.emulator.faults import Fault, FaultPlan, Status
from pushengine.errors import (
    ConfigError,
    EngineClosedError,
    JournalError,
    JournalLockedError,
    PushEngineError,
    SourceError,
)
from pushengine.journal.reader import JournalReader
from pushengine.journal.state import PushHistory
from pushengine.journal.store import Journal
from pushengine.model import Target
from pushengine.push.identity import push_identity
from pushengine.state.lock import PushLock

BROKEN = 'N,S\n1,"never closed\n'


def csv(path, rows=100, first=0):
    path.write_text("N,S\n" + "".join(f"{n},x{n}\n" for n in range(first, first + rows)))
    return path


async def interrupted(stage, spec, **options):
    """Drain a push while it uploads, and open another engine. Return its id."""
    receipt = await interrupting.interrupted(stage, stage.push(spec, **options), events.ChunkUploaded)
    stage.sink.events.clear()
    return receipt.push_id


def pushes(stage):
    """Return all pushes in the journal, newest first, each with its facts."""
    with JournalReader(stage.folder / "state" / "journal.sqlite3") as reader:
        return [(row, reader.facts(row.push_id)) for row in reader.pushes()]


def check_failed(stage, error, *, row, found, table="T"):
    """Check that one push failed while it was planned, and that everything which was reported about it names its id."""
    assert (row.state, row.target) == ("failed", table)
    assert [fact.kind for fact in found] == ["push_planned", "session_started", "push_failed"]
    state = PushHistory(found).state
    assert (state.schema, state.planned.target["mode"]) == (None, "replace")
    cause = found[-1].fact
    assert cause.error_type == type(error).__name__
    assert str(error) in ("", cause.error)
    assert cause.receipt["push_id"] == row.push_id
    (failed,) = stage.sink.of(events.PushFailed)
    assert failed.push_id == row.push_id
    assert stage.sink.of(events.PushStarted) == []
    if isinstance(error, PushEngineError):
        assert error.receipt.push_id == row.push_id


@contextlib.contextmanager
def lock_of(stage, path):
    """Hold the lock of the push command as another process would."""
    shared = stage.engine._shared
    identity = push_identity(
        team=shared.destination.team,
        pool_id=shared.pool_id,
        target=Target(table="T", mode="replace"),
        source=[str(path)],
        source_format=None,
        options=LoadOptions(),
    )
    lock = PushLock(stage.folder / "state" / "locks", identity)
    try:
        yield
    finally:
        lock.release()


async def drained(stage):
    stage.engine.drain()
    await stage.push(csv(stage.folder / "a.csv"))


async def locked(stage):
    path = csv(stage.folder / "a.csv")
    with lock_of(stage, path):
        await stage.push(path)


async def broken(stage):
    path = stage.folder / "a.csv"
    path.write_text(BROKEN)
    await stage.push(path)


async def missing(stage):
    await stage.push(stage.folder / "none.csv")


async def twice(stage):
    path = csv(stage.folder / "a.csv")
    await stage.push([path, path])


async def broken_iterator(stage):
    async def rows():
        raise RuntimeError("the database has gone")
        yield

    await stage.push(rows())


async def broken_stream(stage):
    class Stream(io.BytesIO):
        def read(self, *_size):
            raise OSError(5, "Input/output error")

    await stage.push(Stream(), format="csv")


async def spooled_iterator(stage):
    async def rows():
        raise RuntimeError("the database has gone")
        yield

    await stage.push(rows(), spool=True)


async def stream_without_format(stage):
    await stage.push(io.BytesIO(b"N\n1\n"))


@pytest.mark.parametrize(
    ("push", "error"),
    [
        (broken, SourceError),
        (missing, SourceError),
        (twice, ConfigError),
        (drained, EngineClosedError),
        (locked, JournalLockedError),
        (broken_iterator, SourceError),
        (broken_stream, SourceError),
        (spooled_iterator, SourceError),
        (stream_without_format, ConfigError),
    ],
)
async def test_a_push_that_ends_before_it_is_planned_is_recorded_as_failed(stage, push, error):
    with pytest.raises(error) as caught:
        await push(stage)
    ((row, found),) = pushes(stage)
    check_failed(stage, caught.value, row=row, found=found)
    assert await stage.engine.open_pushes() == []
    assert stage.jobs() == []
    with pytest.raises(ConfigError, match="failed while it was planned") as resumed:
        await stage.engine.resume(row.push_id)
    assert (resumed.value.key, resumed.value.hint) == ("push_id", "run its command again")
    assert list((stage.folder / "state" / "spool").glob("*")) == []


@pytest.mark.parametrize("spool", [False, True])
async def test_a_push_that_is_cancelled_before_it_is_planned_is_recorded_as_failed(stage, spool):
    reached = asyncio.Event()

    async def rows():
        reached.set()
        await asyncio.Event().wait()
        yield

    push = asyncio.ensure_future(stage.push(rows(), spool=spool))
    await reached.wait()
    push.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await push
    ((row, found),) = pushes(stage)
    check_failed(stage, caught.value, row=row, found=found)
    assert found[-1].fact.receipt["status"] == "INTERRUPTED"


async def test_a_push_that_is_cancelled_while_old_jobs_are_swept_is_recorded_as_failed(stage, monkeypatch):
    reached = asyncio.Event()

    async def sweep():
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.engine._resources, "sweep", sweep)
    push = asyncio.ensure_future(stage.push(csv(stage.folder / "a.csv")))
    await reached.wait()
    push.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await push
    ((row, found),) = pushes(stage)
    check_failed(stage, caught.value, row=row, found=found)


async def test_a_failure_that_cannot_be_recorded_is_still_the_one_that_is_raised(stage, monkeypatch):
    async def full(*_arguments):
        raise JournalError("database or disk is full", path="journal.sqlite3")

    monkeypatch.setattr(Journal, "do", full)
    with pytest.raises(SourceError) as caught:
        await missing(stage)
    (failed,) = stage.sink.of(events.PushFailed)
    assert failed.receipt == caught.value.receipt


async def test_a_push_that_succeeds_records_nothing_before_it_is_planned(stage):
    """Its first facts are one transaction. The one before it reads what is remembered of the table."""
    journal = stage.engine._shared.journal
    before, seen = journal.commits, []

    class Watch:
        def emit(self, event):
            if isinstance(event, events.PushStarted):
                seen.append(journal.commits - before)

    stage.engine._bus.add(Watch())
    await stage.push(csv(stage.folder / "a.csv", 1))
    assert seen == [1]


async def test_an_earlier_push_that_cannot_be_ended_adds_no_push(start):
    """What was printed is the id of the earlier push, and the journal knows it."""
    stage = await start(emulator={"run_seconds": 0.3})
    path = csv(stage.folder / "a.csv")
    stage.engine._bus.add(DrainAt(events.JobSubmitted, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await stage.push(path)
    await stage.engine.aclose()
    stage.emulator.faults = FaultPlan([Fault("get", Status(404))])
    stage.engine = await stage.open_engine()
    with pytest.raises(PushEngineError) as again:
        await stage.push(path)
    assert again.value.receipt.push_id == caught.value.receipt.push_id
    assert [row.push_id for row, _ in pushes(stage)] == [caught.value.receipt.push_id]


# --- An unfinished push and its successor


def snapshot(stage, push_id):
    with contextlib.closing(sqlite3.connect(stage.folder / "state" / "journal.sqlite3")) as db:
        return (
            db.execute("SELECT * FROM pushes WHERE push_id = ?", (push_id,)).fetchall(),
            db.execute("SELECT * FROM facts WHERE push_id = ? ORDER BY seq", (push_id,)).fetchall(),
        )


async def test_an_unfinished_push_stays_as_it_was_if_its_successor_cannot_be_planned(stage):
    path = csv(stage.folder / "a.csv", 1000)
    content = path.read_bytes()
    first = await interrupted(stage, path)
    before, jobs = snapshot(stage, first), [job.id for job in stage.jobs()]
    path.write_text(BROKEN)
    with pytest.raises(SourceError, match="quot") as caught:
        await stage.push(path)
    assert caught.value.receipt.push_id != first
    assert snapshot(stage, first) == before
    assert [job.id for job in stage.jobs()] == jobs
    assert stage.sink.of(events.PushSuperseded) == []
    (newest, found), _ = pushes(stage)
    check_failed(stage, caught.value, row=newest, found=found)
    path.write_bytes(content)
    receipt = await stage.push(path)
    assert (receipt.push_id, receipt.resumed) == (first, True)
    assert await stage.query("select count(*) from T") == [(1000,)]


async def test_an_unfinished_push_is_superseded_once_its_successor_is_planned(stage):
    path = csv(stage.folder / "a.csv", 1000)
    first = await interrupted(stage, path)
    csv(path, 10)
    receipt = await stage.push(path)
    assert (receipt.push_id != first, receipt.rows, receipt.resumed) == (True, 10, False)
    assert [(row.push_id, row.state) for row, _ in pushes(stage)] == [
        (receipt.push_id, "finished"),
        (first, "superseded"),
    ]
    assert [job.status for job in stage.jobs()] == ["DONE"]


async def test_a_push_without_a_plan_stays_as_it_was_if_its_successor_cannot_be_planned(stage):
    """Older versions listed a push in the journal before they planned it."""
    path = csv(stage.folder / "a.csv")
    first = await interrupted(stage, path)
    change_plan(stage, "DELETE FROM facts WHERE kind = 'push_planned'")
    before = snapshot(stage, first)
    path.write_text(BROKEN)
    with pytest.raises(SourceError):
        await stage.push(path)
    assert snapshot(stage, first) == before
    csv(path)
    await stage.push(path)
    assert [row.state for row, _ in pushes(stage)] == ["finished", "failed", "superseded"]


async def test_a_source_that_is_gone_leaves_the_unfinished_push_which_is_the_one_reported(stage):
    path = csv(stage.folder / "a.csv")
    first = await interrupted(stage, path)
    before = snapshot(stage, first)
    path.unlink()
    for again in (stage.push(path), stage.engine.resume(first)):
        with pytest.raises(SourceError) as caught:
            await again
        assert caught.value.receipt.push_id == first
    assert [event.push_id for event in stage.sink.of(events.PushFailed)] == [first, first]
    assert snapshot(stage, first) == before
    assert len(pushes(stage)) == 1


async def test_resuming_a_push_that_another_process_holds_adds_no_push(stage):
    path = csv(stage.folder / "a.csv")
    first = await interrupted(stage, path)
    with lock_of(stage, path), pytest.raises(JournalLockedError) as caught:
        await stage.engine.resume(first)
    assert caught.value.receipt.push_id == first
    assert [row.push_id for row, _ in pushes(stage)] == [first]
