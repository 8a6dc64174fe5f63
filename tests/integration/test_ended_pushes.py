"""A submitted push is finished exactly once, by the next run, whatever the files, the platform and other processes do in the meantime."""

import asyncio
import contextlib
import dataclasses
import io
import random
import sqlite3

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import interrupting
from support.interrupting import change_plan

from pushengine import events
from pushengine.emulator.faults import Fault, FaultPlan, Status
from pushengine.errors import ConfigError, JournalError, SourceReadError
from pushengine.journal import facts
from pushengine.journal.push_log import PushLog
from pushengine.push import delivery
from pushengine.push.run import PushRun

SLOW = {"run_seconds": 0.3}
PAGE = Status(404, body="<html><title>404 Not Found</title>default backend - 404</html>")


async def interrupted(stage, spec, kind=events.JobSubmitted, **options):
    """Interrupt an append at an event, and return its receipt."""
    return await interrupting.interrupted(stage, stage.push(spec, **({"mode": "append"} | options)), kind)


def csv(path, rows, first=0):
    path.write_text("N,S\n" + "".join(f"{n},x{n}\n" for n in range(first, first + rows)))
    return path


def passthrough(path, rows, first=0):
    """Write a Parquet file that is sent to the platform unchanged."""
    rng = random.Random(first)
    columns = {"N": list(range(first, first + rows)), "S": [f"{rng.getrandbits(64):x}" for _ in range(rows)]}
    pq.write_table(pa.table(columns), path, version="2.4", store_schema=False)
    return path


async def count(stage):
    return (await stage.query("select count(*), count(distinct N) from T"))[0]


@pytest.mark.parametrize("make", [csv, passthrough])
@pytest.mark.parametrize("kind", [events.JobSubmitted, events.ChunkUploaded], ids=["submitted", "uploading"])
async def test_files_renamed_into_another_order_are_recognized_as_the_same_files(start, make, kind):
    stage = await start(emulator=SLOW)
    suffix = "csv" if make is csv else "parquet"
    make(stage.folder / f"a.{suffix}", 20_000)
    make(stage.folder / f"b.{suffix}", 30_000, 20_000)
    spec = str(stage.folder / f"*.{suffix}")
    await interrupted(stage, spec, kind)
    (stage.folder / f"a.{suffix}").rename(stage.folder / f"c.{suffix}")
    receipt = await stage.push(spec, mode="append")
    assert (receipt.resumed, receipt.rows, await count(stage)) == (True, 50_000, (50_000, 50_000))


async def test_an_html_page_with_status_404_does_not_mean_that_the_job_is_gone(start):
    stage = await start(emulator=SLOW)
    stage.emulator.faults = FaultPlan([Fault("get", PAGE, nth=[1, 2])])
    receipt = await stage.push(csv(stage.folder / "a.csv", 100), mode="append")
    assert (receipt.status, await count(stage)) == ("DONE", (100, 100))


async def test_an_html_page_with_status_404_does_not_count_as_a_deleted_job(start):
    stage = await start()
    stage.emulator.faults = FaultPlan([Fault("delete", PAGE), Fault("list_chunks", Status(400))])
    with pytest.raises(Exception, match="status 400"):
        await stage.push(csv(stage.folder / "a.csv", 100))
    (deleted,) = stage.sink.of(events.JobDeleted)
    assert all(text in deleted.error for text in ("status 404", "page that is not from the platform"))


async def test_a_push_that_another_process_finished_in_the_meantime_is_not_started_again(start, monkeypatch):
    stage = await start(emulator=SLOW)
    receipt = await interrupted(stage, csv(stage.folder / "a.csv", 100))
    late = await stage.open_engine()
    run = PushRun.run

    async def run_after_the_other(self):
        monkeypatch.undo()
        assert (await stage.engine.resume(receipt.push_id)).status == "DONE"
        await stage.engine.aclose()
        return await run(self)

    monkeypatch.setattr(PushRun, "run", run_after_the_other)
    with pytest.raises(ConfigError, match="is over: another process has ended it"):
        await late.resume(receipt.push_id)
    assert await count(stage) == (100, 100)


async def test_a_file_that_cannot_be_read_does_not_count_as_changed(start, monkeypatch):
    stage = await start(emulator=SLOW)
    path = passthrough(stage.folder / "a.parquet", 20_000)
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


async def test_a_source_that_cannot_be_compared_with_what_was_sent_is_sent_again(start):
    """All chunks of an append are staged, but not submitted: starting again costs little and is always correct."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 60_000)
    await interrupted(stage, path, events.JobVerified)
    with contextlib.closing(sqlite3.connect(stage.folder / "state" / "journal.sqlite3")) as db:
        db.execute("delete from facts where kind = 'source_acked'")  # as in a journal written by an earlier version ...
        db.execute("update facts set body = json_set(body, '$.recipe.pyarrow', '1.0') where kind = 'push_planned'")
        db.commit()  # ... and by another version of pyarrow
    data = bytearray(path.read_bytes())
    at = data.index(b"x15000")
    data[at : at + 6] = b"y15000"
    path.write_bytes(data)
    receipt = await stage.push(path, mode="append")
    assert not receipt.resumed
    assert await stage.query("select count(*) filter (S = 'y15000') from T") == [(1,)]
    assert await count(stage) == (60_000, 60_000)


async def test_a_job_whose_final_status_is_in_the_journal_is_not_queried(start, monkeypatch):
    """The process died between the last two facts, and the platform deletes finished jobs after some time."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    record = PushLog.record

    async def fail(self, fact, **state):
        if isinstance(fact, facts.PushFinished):
            raise JournalError("disk full", path="journal")
        await record(self, fact, **state)

    with monkeypatch.context() as patch:
        patch.setattr(PushLog, "record", fail)
        with pytest.raises(JournalError):
            await stage.push(path, mode="append")
    await stage.engine.aclose()
    stage.emulator.service.jobs.clear()
    stage.engine = await stage.open_engine()
    receipt = await stage.push(path, mode="append")
    assert (receipt.status, receipt.resumed, await count(stage)) == ("DONE", True, (100, 100))


async def test_a_job_that_is_resumed_during_a_sweep_is_not_deleted(start):
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
            other._shared.finished.clear()  # as if it was killed before it reported the receipt
            await other.aclose()
        return result

    sweeper._shared.journal.read = resumed_meanwhile
    await sweeper.push(csv(stage.folder / "b.csv", 1), table="U")
    assert swept
    assert (await (await stage.open_engine()).push(path, table="T", mode="append")).push_id == receipt.push_id
    assert await count(stage) == (100, 100)


async def test_a_push_resumes_with_the_encoding_that_it_started_with(start):
    """This holds for a fresh job of the push, too: one job must not contain chunks of two encodings."""
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


@pytest.mark.parametrize("make", [csv, passthrough])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"file_type": "CSV"}),
        ({"file_type": "CSV"}, {}),
        ({}, {"compression": "NONE", "timestamps": "INT64"}),
        ({}, {"chunk_bytes": 128 * 1024, "encoder_threads": 3}),
        ({}, {"csv_delimiter": ";", "csv_encoding": "utf-16"}),
        ({"parquet_as_it_is": False}, {}),
        ({}, {"max_uploads": 2, "max_attempts": 3}),
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)
async def test_a_push_resumed_by_its_id_continues_with_the_settings_it_was_planned_with(start, make, before, now):
    """Whatever the settings are now: no chunk is sent twice, and all chunks are what one process would have sent."""
    small = {"chunk_bytes": 64 * 1024, "max_uploads": 1}
    stage = await start(**(small | before))
    path = make(stage.folder / ("a.csv" if make is csv else "a.parquet"), 60_000)
    first = await interrupted(stage, path, events.ChunkUploaded)
    await stage.engine.aclose()
    stage.engine = await stage.open_engine(**(small | now))
    receipt = await stage.engine.resume(first.push_id)
    assert (receipt.push_id, receipt.resumed, receipt.restarts) == (first.push_id, True, 0)
    assert await count(stage) == (60_000, 60_000)
    assert stage.sink.of(events.PushSuperseded) == []
    assert receipt.job_id == first.job_id


@pytest.mark.parametrize("change", ["version", "memory"])
async def test_a_push_that_cannot_be_resumed_is_replaced_by_one_with_its_settings(start, change):
    """Its chunks cannot be made again by another pyarrow or in less memory; `resume` says so and starts again."""
    planned = {"file_type": "CSV", "chunk_bytes": 4 * 1024 * 1024, "encoder_threads": 1}
    stage = await start(**planned)
    path = csv(stage.folder / "a.csv", 1000)
    first = await interrupted(stage, path, events.ChunkUploaded)
    if change == "version":
        change_plan(
            stage, "UPDATE facts SET body = json_set(body, '$.recipe.pyarrow', '1.0') WHERE kind = 'push_planned'"
        )
    await stage.engine.aclose()
    limits = {"max_memory_bytes": 32 * 1024 * 1024} if change == "memory" else {}
    stage.engine = await stage.open_engine(encoder_threads=2, **limits)
    receipt = await stage.engine.resume(first.push_id)
    assert (receipt.resumed, receipt.rows, await count(stage)) == (False, 1000, (1000, 1000))
    (superseded,) = stage.sink.of(events.PushSuperseded)
    reason = "because of a changed pyarrow" if change == "version" else "its chunks no longer fit into max_memory_bytes"
    assert (superseded.push_id, reason in superseded.reason) == (first.push_id, True)
    (job,) = stage.jobs()
    assert job.spec.file_type == "CSV"


async def test_a_file_system_that_renumbers_its_files_at_every_stat_is_accepted(start):
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


@pytest.mark.parametrize("kind", [events.JobSubmitted, events.ChunkUploaded], ids=["submitted", "uploading"])
async def test_the_same_stream_again_resumes_the_same_push(start, kind):
    """The stream is spooled under another name each time; its content identifies it."""
    stage = await start(emulator=SLOW)
    data = b"N\n" + b"".join(b"%d\n" % n for n in range(100))
    first = await interrupted(stage, io.BytesIO(data), kind, format="csv")
    receipt = await stage.push(io.BytesIO(data), mode="append", format="csv")
    assert (receipt.push_id, receipt.resumed, await count(stage)) == (first.push_id, True, (100, 100))
    assert await stage.engine.open_pushes() == []
    again = await stage.push(io.BytesIO(data), mode="append", format="csv")
    assert (again.resumed, await count(stage)) == (False, (200, 100))


async def test_another_stream_into_the_table_reports_the_unfinished_push(start):
    stage = await start()
    first = await interrupted(stage, io.BytesIO(b"N\n1\n"), events.ChunkUploaded, format="csv")
    await stage.push(io.BytesIO(b"N\n2\n"), mode="append", format="csv")
    assert [event.push_id for event in stage.sink.of(events.EarlierPushLeft)] == [first.push_id]
    assert (await stage.engine.resume(first.push_id)).status == "DONE"
    assert await stage.query("select N from T order by N") == [(1,), (2,)]


# --- Earlier pushes into the table, recorded by another version


@pytest.mark.parametrize(
    "change", ["'$.target.of_tomorrow', 1", """'$.recipe.csv', json('[null, "utf-8", "of tomorrow"]')"""]
)
async def test_an_unfinished_push_of_a_newer_version_does_not_stop_another_one(start, change):
    """Its plan has fields of the target or of the CSV settings that this version does not know."""
    stage = await start()
    first = await interrupted(stage, csv(stage.folder / "a.csv", 10), events.ChunkUploaded)
    change_plan(stage, f"UPDATE facts SET body = json_set(body, {change}) WHERE kind = 'push_planned'")
    await stage.push(csv(stage.folder / "b.csv", 10, first=10), mode="append")
    assert [event.push_id for event in stage.sink.of(events.EarlierPushLeft)] == [first.push_id]
    assert (await stage.engine.resume(first.push_id)).status == "DONE"
    assert await count(stage) == (20, 20)


async def test_an_earlier_push_without_a_plan_is_closed_when_another_one_starts(start):
    """Older versions listed a push in the journal before they planned it; such a push has sent nothing."""
    stage = await start()
    first = await interrupted(stage, csv(stage.folder / "a.csv", 10), events.ChunkUploaded)
    change_plan(stage, "DELETE FROM facts WHERE kind = 'push_planned'")
    await stage.push(csv(stage.folder / "b.csv", 10, first=10), mode="append")
    assert [event.push_id for event in stage.sink.of(events.PushSuperseded)] == [first.push_id]
    assert stage.sink.of(events.EarlierPushLeft) == []
    assert (await stage.engine.open_pushes(), await count(stage)) == ([], (10, 10))


# --- Receipts that did not reach the caller


async def test_a_caller_that_failed_after_the_push_gets_the_same_receipt_again(start):
    """The caller failed after its push was DONE, for example on a full disk while it reported the push. A second run must not load the rows twice."""
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    receipt = None
    with contextlib.suppress(OSError):
        async with contextlib.AsyncExitStack() as stack:
            stage.stack = stack
            engine = await stage.open_engine()
            receipt = await engine.push(path, table="T", mode="append")
            raise OSError(28, "No space left on device")
    again = await stage.push(path, mode="append")
    assert (again.push_id, again.resumed, await count(stage)) == (receipt.push_id, True, (100, 100))


async def test_cancelling_while_the_lock_is_taken_releases_it(start):
    stage = await start()
    path = csv(stage.folder / "a.csv", 100)
    for turns in range(60):
        push = asyncio.ensure_future(stage.push(path))
        for _ in range(turns):
            await asyncio.sleep(0)
        push.cancel()
        await asyncio.gather(push, return_exceptions=True)
    assert (await stage.push(path)).status == "DONE"
