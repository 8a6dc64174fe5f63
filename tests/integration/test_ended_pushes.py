"""A push that was submitted is ended once, by whoever comes next, whatever the files, the platform and other processes do meanwhile."""

import asyncio
import contextlib
import dataclasses
import io
import random
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine import events
from pushengine.emulator.faults import Fault, FaultPlan, Status
from pushengine.errors import ConfigError, EngineClosedError, JournalError, SourceReadError
from pushengine.journal import facts
from pushengine.journal.push_log import PushLog
from pushengine.push import delivery
from pushengine.push.run import PushRun

SLOW = {"run_seconds": 0.3}
PAGE = Status(404, body="<html><title>404 Not Found</title>default backend - 404</html>")


class When:
    """An event sink that drains an engine at one kind of event."""

    def __init__(self, kind, engine):
        self.kind, self.engine = kind, engine

    def emit(self, event):
        if isinstance(event, self.kind):
            self.engine.drain()


async def interrupted(stage, spec, kind=events.JobSubmitted, **options):
    """A push that was told to stop at an event; its engine is closed, and another one is open."""
    stage.engine._bus.add(When(kind, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await stage.push(spec, **({"mode": "append"} | options))
    await stage.engine.aclose()
    stage.engine = await stage.open_engine()
    return caught.value.receipt


def csv(path, rows, first=0):
    path.write_text("N,S\n" + "".join(f"{n},x{n}\n" for n in range(first, first + rows)))
    return path


def as_it_is(path, rows, first=0):
    """A file that goes to the platform as it is."""
    rng = random.Random(first)
    columns = {"N": list(range(first, first + rows)), "S": [f"{rng.getrandbits(64):x}" for _ in range(rows)]}
    pq.write_table(pa.table(columns), path, version="2.4", store_schema=False)
    return path


async def count(stage):
    return (await stage.query("select count(*), count(distinct N) from T"))[0]


@pytest.mark.parametrize("make", [csv, as_it_is])
@pytest.mark.parametrize("kind", [events.JobSubmitted, events.ChunkUploaded], ids=["submitted", "in the middle"])
async def test_files_whose_names_change_their_order_are_the_same_files(start, make, kind):
    stage = await start(emulator=SLOW)
    suffix = "csv" if make is csv else "parquet"
    make(stage.folder / f"a.{suffix}", 20_000)
    make(stage.folder / f"b.{suffix}", 30_000, 20_000)
    spec = str(stage.folder / f"*.{suffix}")
    await interrupted(stage, spec, kind)
    (stage.folder / f"a.{suffix}").rename(stage.folder / f"c.{suffix}")
    receipt = await stage.push(spec, mode="append")
    assert (receipt.resumed, receipt.rows, await count(stage)) == (True, 50_000, (50_000, 50_000))


async def test_a_page_that_says_404_is_no_word_of_the_platform_about_a_job(start):
    stage = await start(emulator=SLOW)
    stage.emulator.faults = FaultPlan([Fault("get", PAGE, nth=[1, 2])])
    receipt = await stage.push(csv(stage.folder / "a.csv", 100), mode="append")
    assert (receipt.status, await count(stage)) == ("DONE", (100, 100))


async def test_a_page_that_says_404_deletes_no_job(start):
    stage = await start()
    stage.emulator.faults = FaultPlan([Fault("delete", PAGE), Fault("list_chunks", Status(400))])
    with pytest.raises(Exception, match="status 400"):
        await stage.push(csv(stage.folder / "a.csv", 100))
    (deleted,) = stage.sink.of(events.JobDeleted)
    assert "page that is not the platform's" in deleted.error


async def test_a_push_that_another_process_ends_meanwhile_is_not_begun_again(start, monkeypatch):
    stage = await start(emulator=SLOW)
    receipt = await interrupted(stage, csv(stage.folder / "a.csv", 100))
    late = await stage.open_engine()
    run = PushRun.run

    async def after_the_other(self):
        monkeypatch.undo()
        assert (await stage.engine.resume(receipt.push_id)).status == "DONE"
        await stage.engine.aclose()
        return await run(self)

    monkeypatch.setattr(PushRun, "run", after_the_other)
    with pytest.raises(ConfigError, match="is over: another process has ended it"):
        await late.resume(receipt.push_id)
    assert await count(stage) == (100, 100)


async def test_what_cannot_be_read_is_not_another_content(start, monkeypatch):
    stage = await start(emulator=SLOW)
    path = as_it_is(stage.folder / "a.parquet", 20_000)
    await interrupted(stage, path)
    path.touch()

    def broken(*_arguments, **_options):
        raise SourceReadError("Input/output error", source="a.parquet")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "build_payload", broken)
        with pytest.raises(SourceReadError, match="is DONE: its 20,000 rows are in the table"):
            await stage.push(path, mode="append")
    assert (await stage.push(path, mode="append")).resumed
    assert await count(stage) == (20_000, 20_000)


async def test_a_content_that_cannot_be_compared_is_never_submitted_for_another(start):
    """All chunks of an append are there, but not submitted: starting over costs little and is certain."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 60_000)
    await interrupted(stage, path, events.JobVerified)
    with contextlib.closing(sqlite3.connect(stage.folder / "state" / "journal.sqlite3")) as db:
        db.execute("delete from facts where kind = 'source_acked'")  # as in a journal of an earlier version ...
        db.execute("update facts set body = json_set(body, '$.recipe.pyarrow', '1.0') where kind = 'push_planned'")
        db.commit()  # ... and of another pyarrow
    data = bytearray(path.read_bytes())
    at = data.index(b"x15000")
    data[at : at + 6] = b"y15000"
    path.write_bytes(data)
    receipt = await stage.push(path, mode="append")
    assert not receipt.resumed
    assert await stage.query("select count(*) filter (S = 'y15000') from T") == [(1,)]
    assert await count(stage) == (60_000, 60_000)


async def test_a_job_whose_end_is_in_the_journal_is_not_asked_for(start, monkeypatch):
    """The process died between the last two facts, and the platform forgets jobs in time."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    record = PushLog.record

    async def failing(self, fact, **state):
        if isinstance(fact, facts.PushFinished):
            raise JournalError("disk full", path="journal")
        await record(self, fact, **state)

    with monkeypatch.context() as patch:
        patch.setattr(PushLog, "record", failing)
        with pytest.raises(JournalError):
            await stage.push(path, mode="append")
    await stage.engine.aclose()
    stage.emulator.service.jobs.clear()
    stage.engine = await stage.open_engine()
    receipt = await stage.push(path, mode="append")
    assert (receipt.status, receipt.resumed, await count(stage)) == ("DONE", True, (100, 100))


async def test_a_job_that_is_resumed_while_others_are_swept_is_not_deleted(start):
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    receipt = await interrupted(stage, path, events.ChunkUploaded)
    with contextlib.closing(sqlite3.connect(stage.folder / "state" / "journal.sqlite3")) as db:
        db.execute("update pushes set updated_at = updated_at - 1000000")
        db.commit()
    sweeper, other = stage.engine, await stage.open_engine()
    read = sweeper._shared.journal.read
    swept = []

    async def resumed_meanwhile(call):
        result = await read(call)
        if not swept and isinstance(result, list) and result and isinstance(result[0], tuple):
            swept.append(result)
            assert (await other.resume(receipt.push_id)).status == "DONE"
            other._shared.finished.clear()  # killed before it told
            await other.aclose()
        return result

    sweeper._shared.journal.read = resumed_meanwhile
    await sweeper.push(csv(stage.folder / "b.csv", 1), table="U")
    assert swept
    assert (await (await stage.open_engine()).push(path, table="T", mode="append")).push_id == receipt.push_id
    assert await count(stage) == (100, 100)


async def test_a_push_goes_on_with_the_encoding_that_it_began_with(start):
    """A fresh job of it, too: chunks of two encodings do not go into one job."""
    small = {"chunk_bytes": 64 * 1024, "max_uploads": 1}
    stage = await start(**small)
    path = csv(stage.folder / "a.csv", 60_000)
    await interrupted(stage, path, events.JobVerified)
    stage.emulator.service.jobs.clear()
    stage.engine = await stage.open_engine(**small, file_type="CSV")
    await interrupted(stage, path, events.ChunkUploaded)
    stage.engine = await stage.open_engine(**small)
    assert (await stage.push(path, mode="append")).status == "DONE"
    assert await count(stage) == (60_000, 60_000)


async def test_a_push_that_is_resumed_by_its_id_may_begin_anew_in_another_encoding(start):
    stage = await start(file_type="CSV")
    receipt = await interrupted(stage, csv(stage.folder / "a.csv", 100), events.ChunkUploaded)
    assert (await stage.engine.resume(receipt.push_id)).status == "DONE"
    assert await count(stage) == (100, 100)


async def test_a_file_system_that_numbers_its_files_anew_at_every_look_is_believed(start):
    stage = await start()
    runtime = stage.engine._shared.runtime
    numbers = iter(range(1000))

    class Renumbering(type(runtime.filesystem)):
        def stat(self, file):
            now = super().stat(file)
            modified, device, _, changed = now.version
            return dataclasses.replace(now, version=(modified, device, next(numbers), changed))

    runtime = dataclasses.replace(runtime, filesystem=Renumbering())
    object.__setattr__(stage.engine._shared, "runtime", runtime)
    assert (await stage.push(csv(stage.folder / "a.csv", 1000))).status == "DONE"


# --- Streams


@pytest.mark.parametrize("kind", [events.JobSubmitted, events.ChunkUploaded], ids=["submitted", "in the middle"])
async def test_the_same_stream_again_is_the_same_push(start, kind):
    """It is kept under another name each time; what it holds tells."""
    stage = await start(emulator=SLOW)
    data = b"N\n" + b"".join(b"%d\n" % n for n in range(100))
    first = await interrupted(stage, io.BytesIO(data), kind, format="csv")
    receipt = await stage.push(io.BytesIO(data), mode="append", format="csv")
    assert (receipt.push_id, receipt.resumed, await count(stage)) == (first.push_id, True, (100, 100))
    assert await stage.engine.open_pushes() == []
    again = await stage.push(io.BytesIO(data), mode="append", format="csv")
    assert (again.resumed, await count(stage)) == (False, (200, 100))


async def test_another_stream_into_the_table_says_that_a_push_was_left(start):
    stage = await start()
    first = await interrupted(stage, io.BytesIO(b"N\n1\n"), events.ChunkUploaded, format="csv")
    await stage.push(io.BytesIO(b"N\n2\n"), mode="append", format="csv")
    assert [event.push_id for event in stage.sink.of(events.EarlierPushLeft)] == [first.push_id]
    assert (await stage.engine.resume(first.push_id)).status == "DONE"
    assert await stage.query("select N from T order by N") == [(1,), (2,)]


# --- Earlier pushes into the table that another version wrote


def change_plan(stage, sql):
    with sqlite3.connect(stage.folder / "state" / "journal.sqlite3") as db:
        assert db.execute(sql).rowcount == 1
    db.close()


@pytest.mark.parametrize(
    "change", ["'$.target.of_tomorrow', 1", """'$.recipe.csv', json('[null, "utf-8", "of tomorrow"]')"""]
)
async def test_an_earlier_push_of_a_newer_version_does_not_stop_another_one(start, change):
    """It has written more of its target or of its CSV settings than this version knows."""
    stage = await start()
    first = await interrupted(stage, csv(stage.folder / "a.csv", 10), events.ChunkUploaded)
    change_plan(stage, f"UPDATE facts SET body = json_set(body, {change}) WHERE kind = 'push_planned'")
    await stage.push(csv(stage.folder / "b.csv", 10, first=10), mode="append")
    assert [event.push_id for event in stage.sink.of(events.EarlierPushLeft)] == [first.push_id]
    assert (await stage.engine.resume(first.push_id)).status == "DONE"
    assert await count(stage) == (20, 20)


async def test_an_earlier_push_without_a_plan_is_over_when_another_one_begins(start):
    """Older versions listed a push before they planned it; it has sent nothing."""
    stage = await start()
    first = await interrupted(stage, csv(stage.folder / "a.csv", 10), events.ChunkUploaded)
    change_plan(stage, "DELETE FROM facts WHERE kind = 'push_planned'")
    await stage.push(csv(stage.folder / "b.csv", 10, first=10), mode="append")
    assert [event.push_id for event in stage.sink.of(events.PushSuperseded)] == [first.push_id]
    assert stage.sink.of(events.EarlierPushLeft) == []
    assert (await stage.engine.open_pushes(), await count(stage)) == ([], (10, 10))


# --- Who was told


async def test_who_did_not_come_to_its_end_is_told_again(start):
    """The caller failed after its push was DONE, as on a full disk while it told of it: running it again must not load the rows twice."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    told = None
    with contextlib.suppress(OSError):
        async with contextlib.AsyncExitStack() as stack:
            stage.stack = stack
            engine = await stage.open_engine()
            told = await engine.push(path, table="T", mode="append")
            raise OSError(28, "No space left on device")
    receipt = await stage.push(path, mode="append")
    assert (receipt.push_id, receipt.resumed, await count(stage)) == (told.push_id, True, (100, 100))


async def test_cancelling_while_the_lock_is_taken_gives_it_back(start):
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    for turns in range(60):
        push = asyncio.ensure_future(stage.push(path))
        for _ in range(turns):
            await asyncio.sleep(0)
        push.cancel()
        await asyncio.gather(push, return_exceptions=True)
    assert (await stage.push(path)).status == "DONE"
