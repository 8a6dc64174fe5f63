"""Spooling: sources that can be read only once are kept on disk until they are loaded."""

import asyncio
import contextvars
import io
import os
import threading

import pyarrow as pa
import pytest
from support.interrupting import DrainAt

from pushengine import events
from pushengine.errors import ConfigError, EngineClosedError, InvalidRequestError, JournalError, OutcomeUnknownError

KIB = 1024


def spooled(stage):
    folder = stage.folder / "state" / "spool"
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


async def batches(count=6, rows=4000, longest=10):
    for number in range(count):
        texts = [f"{number}-{row:06d}".ljust(longest if number == count - 1 else 10, "x") for row in range(rows)]
        yield pa.record_batch({"N": pa.array(range(number * rows, (number + 1) * rows)), "T": texts})


async def test_a_push_of_a_spooled_iterator_can_restart(start):
    """A text longer than those of the sample needs a second pass, which an iterator alone cannot provide."""
    stage = await start(chunk_bytes=64 * KIB, sample_bytes=64 * KIB)
    receipt = await stage.push(batches(longest=400), spool=True)
    assert receipt.restarts == 1
    assert await stage.query("select count(*), count(distinct N), max(length(T)) from T") == [(24_000, 24_000, 400)]
    assert spooled(stage) == []


async def test_a_push_of_a_spooled_batch_reader_is_resumed_by_its_id(start):
    stage = await start(chunk_bytes=64 * KIB, max_uploads=1)
    schema = pa.schema([("N", pa.int64())])
    reader = pa.RecordBatchReader.from_batches(
        schema, (pa.record_batch({"N": pa.array(range(n * 9000, n * 9000 + 9000), pa.int64())}) for n in range(5))
    )
    upload = stage.engine._client.upload_chunk
    sent = []

    async def cut_after_two(*args):
        if len(sent) == 2:
            stage.engine.drain()
        await upload(*args)
        sent.append(args)

    stage.engine._client.upload_chunk = cut_after_two
    with pytest.raises(Exception, match="interrupted") as caught:
        await stage.push(reader, mode="append", spool=True)
    push_id = caught.value.receipt.push_id
    assert spooled(stage) == [f"{push_id}.arrow"]
    await stage.engine.aclose()

    engine = await stage.open_engine(chunk_bytes=64 * KIB)
    assert [row.push_id for row in await engine.open_pushes()] == [push_id]
    receipt = await engine.resume(push_id)
    assert (receipt.push_id, receipt.resumed) == (push_id, True)
    assert await stage.query("select count(*), count(distinct N) from T") == [(45_000, 45_000)]
    (resumed,) = stage.sink.of(events.PushResumed)
    assert resumed.chunks_acknowledged >= 2
    assert spooled(stage) == []
    assert await engine.open_pushes() == []
    with pytest.raises(ConfigError, match="has ended"):
        await engine.resume(push_id)


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow"])
async def test_a_byte_stream_is_pushed(start, kind):
    import pyarrow.parquet as pq

    stage = await start()
    table = pa.table({"N": pa.array([1, 2, 3]), "ID": ["007", "a,b", None]})
    data = io.BytesIO()
    if kind == "csv":
        data.write(b'N,ID\n1,007\n2,"a,b"\n3,\n')
    elif kind == "parquet":
        pq.write_table(table, data)
    else:
        with pa.ipc.new_stream(data, table.schema) as writer:
            writer.write_table(table)
    data.seek(0)
    receipt = await stage.push(data, format=kind)
    assert receipt.rows == 3
    assert await stage.rows() == [(1, "007"), (2, "a,b"), (3, None)]
    assert spooled(stage) == []


async def test_a_pipe_is_read_to_its_end(start):
    stage = await start()
    read_end, write_end = os.pipe()

    def write():
        with open(write_end, "wb") as pipe:
            pipe.write(b"N\n" + b"".join(b"%d\n" % n for n in range(100_000)))

    with open(read_end, "rb") as pipe:
        _, receipt = await asyncio.gather(asyncio.to_thread(write), stage.push(pipe, format="csv"))
    assert receipt.rows == 100_000
    assert await stage.query("select count(*), max(N) from T") == [(100_000, 99_999)]


async def test_a_byte_stream_needs_a_format(stage):
    with pytest.raises(ConfigError, match="stream") as caught:
        await stage.push(io.BytesIO(b"N\n1\n"))
    assert caught.value.key == "format"


async def test_a_push_that_fails_permanently_keeps_no_spool(stage):
    with pytest.raises(Exception, match="line 3"):
        await stage.push(io.BytesIO(b"A,B\n1,2\n1,2,3\n"), format="csv")
    assert spooled(stage) == []
    assert stage.jobs() == []


async def test_an_iterator_that_raises_while_it_is_spooled_leaves_no_spool_and_no_job(stage):
    async def broken():
        yield pa.record_batch({"N": [1]})
        raise RuntimeError("the database went away")

    with pytest.raises(Exception, match="went away"):
        await stage.push(broken(), spool=True)
    assert spooled(stage) == []
    assert stage.jobs() == []


@pytest.mark.parametrize("is_spooled", [False, True], ids=["", "spool"])
async def test_a_generator_may_keep_context_across_a_yield(stage, is_spooled):
    """Context variables, timeouts and task groups belong to the task that iterates, so one task must iterate from the sample to the last chunk."""
    variable = contextvars.ContextVar("variable")

    async def generator():
        token = variable.set(1)
        async with asyncio.timeout(3600), asyncio.TaskGroup():
            for number in range(3):
                yield pa.record_batch({"N": [number]})
        variable.reset(token)

    receipt = await stage.push(generator(), spool=is_spooled)
    assert (receipt.rows, await stage.rows()) == (3, [(0,), (1,), (2,)])


async def test_cancelling_while_a_slow_reader_is_spooled_stops_the_reader(stage):
    read, is_reading, may_continue = [], threading.Event(), threading.Event()

    def slow():
        for number in range(1000):
            read.append(number)
            if number == 2:
                is_reading.set()
                assert may_continue.wait(30)
            yield pa.record_batch({"N": [number]})

    reader = pa.RecordBatchReader.from_batches(pa.schema({"N": pa.int64()}), slow())
    push = asyncio.create_task(stage.push(reader, spool=True))
    await asyncio.to_thread(is_reading.wait, 30)
    push.cancel()
    for _ in range(100):  # the cancellation is delivered within a few turns of the event loop, without a thread
        await asyncio.sleep(0)
    may_continue.set()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert read == [0, 1, 2]
    assert spooled(stage) == []


async def test_an_unwritable_spool_is_an_error_whose_hint_names_the_setting(stage):
    (stage.folder / "state" / "spool").write_text("in the way")
    with pytest.raises(JournalError, match="cannot write the spool") as caught:
        await stage.push(batches(), spool=True)
    assert "PUSHENGINE_STATE_DIR" in caught.value.hint


async def test_old_spools_are_deleted_at_the_next_start(start):
    stage = await start()
    folder = stage.folder / "state" / "spool"
    folder.mkdir()
    (folder / "old.arrow").write_bytes(b"x")
    (folder / "new.arrow").write_bytes(b"x")
    os.utime(folder / "old.arrow", (1_000_000_000, 1_000_000_000))
    await stage.open_engine()
    assert spooled(stage) == ["new.arrow"]


async def test_a_job_left_behind_is_deleted_at_the_next_start(start):
    """The push failed, and the network died before its job could be deleted."""
    stage = await start()
    client = stage.engine._client

    async def reject(*args):
        raise InvalidRequestError("no", status=400)

    async def unreachable(*args):
        raise OutcomeUnknownError("no response")

    client.upload_chunk, client.delete_job = reject, unreachable
    with pytest.raises(InvalidRequestError):
        await stage.push(pa.table({"N": [1]}))
    assert len(stage.jobs("NEW")) == 1
    await stage.engine.aclose()

    engine = await stage.open_engine()
    await engine.push(pa.table({"N": [2]}), table="OTHER")
    assert stage.jobs("NEW") == []
    assert [event.error for event in stage.sink.of(events.JobDeleted)] == ["no response", None]


async def test_an_older_push_cannot_undo_a_newer_one(start, tmp_path):
    """The first night's push was interrupted, the second night's succeeded: a resume in the morning must not bring back the rows of the first."""
    stage = await start(chunk_bytes=64 * KIB, max_uploads=1)
    first, second = tmp_path / "night1.csv", tmp_path / "night2.csv"
    first.write_text("N\n" + "".join(f"{n}\n" for n in range(60_000)))
    second.write_text("N\n1\n2\n")
    stage.engine._bus.add(DrainAt(events.ChunkUploaded, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await stage.push(str(first))
    await stage.engine.aclose()

    engine = await stage.open_engine()
    assert [row.push_id for row in await engine.open_pushes()] == [caught.value.receipt.push_id]
    await engine.push(str(second), table="T")
    (superseded,) = stage.sink.of(events.PushSuperseded)
    assert (superseded.push_id, "newer push" in superseded.reason) == (caught.value.receipt.push_id, True)
    assert await engine.open_pushes() == []
    assert stage.jobs("NEW") == []
    with pytest.raises(ConfigError, match="has ended"):
        await engine.resume(superseded.push_id)
    assert await stage.rows() == [(1,), (2,)]


async def test_two_unfinished_appends_to_one_table_do_not_affect_each_other(start, tmp_path):
    stage = await start(chunk_bytes=64 * KIB, max_uploads=1)
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for number, file in enumerate(files):
        file.write_text("N\n" + "".join(f"{n}\n" for n in range(number * 60_000, (number + 1) * 60_000)))
    for file in files:
        engine = await stage.open_engine(chunk_bytes=64 * KIB, max_uploads=1)
        engine._bus.add(DrainAt(events.ChunkUploaded, engine))
        with pytest.raises(EngineClosedError):
            await engine.push(str(file), table="T", mode="append")
        await engine.aclose()
    engine = await stage.open_engine()
    rows = await engine.open_pushes()
    assert len(rows) == 2
    for row in rows:
        await engine.resume(row.push_id)
    assert await stage.query("select count(*), count(distinct N) from T") == [(120_000, 120_000)]


async def test_a_type_that_the_sample_did_not_show_is_reported(start, tmp_path):
    stage = await start(chunk_bytes=64 * KIB, sample_bytes=64 * KIB)
    path = tmp_path / "late.csv"
    path.write_text("ID,N\n" + "".join(f"{n},{n}\n" for n in range(60_000)) + "notint,1\n")
    receipt = await stage.push(str(path))
    assert receipt.restarts == 1
    (learned,) = stage.sink.of(events.SchemaLearned)
    assert learned.changes == ("ID INTEGER -> STRING(255)",)
