"""Pushes that need a slot to read and upload: they give it back as soon as the platform has all rows, and in every way out."""

import asyncio
import io

import pytest
from support.interrupting import interrupted

from pushengine.errors import EngineClosedError, SourceError
from pushengine.events import ChunkUploaded, JobSubmitted, QuotaWaited, WaitStarted
from pushengine.loads.lanes import Lanes


class WatchedSlot:
    """A slot that records what happens to it."""

    def __init__(self, lanes, log, name):
        self._slot, self._log, self._name = lanes.slot(1), log, name
        self.is_held = False

    async def acquire(self):
        await self._slot.acquire()
        if not self.is_held:
            self.is_held = True
            self._log.append(f"{self._name} starts")

    def release(self):
        self._slot.release()
        if self.is_held:
            self.is_held = False
            self._log.append(f"{self._name} ends")


@pytest.fixture
def lanes():
    return Lanes(1)


def write(folder, name="rows.csv", rows=3):
    (folder / name).write_text("ID,NAME\n" + "".join(f"{n},name {n}\n" for n in range(rows)))
    return folder / name


async def until(stage, kind, count):
    """Wait for some events of a kind."""
    async for event in stage.engine.events():
        count -= isinstance(event, kind)
        if not count:
            return


async def test_a_push_that_waits_for_its_job_does_not_hold_up_the_next_one(start, lanes, tmp_path):
    stage = await start(emulator={"queue_seconds": 3600.0})
    submitted = asyncio.create_task(until(stage, JobSubmitted, 3))
    await asyncio.sleep(0)
    source = write(tmp_path)
    pushes = [
        asyncio.create_task(stage.engine.push(source, table=table, slot=lanes.slot(1))) for table in ("A", "B", "C")
    ]
    await submitted
    assert lanes.held == 0
    stage.engine.drain()
    assert {type(error) for error in await asyncio.gather(*pushes, return_exceptions=True)} == {EngineClosedError}


async def test_a_push_that_waits_for_an_earlier_job_of_its_table_does_not_hold_up_others(start, lanes, tmp_path):
    stage = await start(emulator={"queue_seconds": 3600.0})
    submitted = asyncio.create_task(until(stage, JobSubmitted, 1))
    await asyncio.sleep(0)
    first = asyncio.create_task(stage.engine.push(write(tmp_path), table="A"))
    await submitted
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    waiting = asyncio.create_task(until(stage, WaitStarted, 1))
    await asyncio.sleep(0)
    log = []
    slot = WatchedSlot(lanes, log, "second")
    second = asyncio.create_task(stage.engine.push(write(tmp_path, "other.csv", rows=5), table="A", slot=slot))
    await waiting
    assert log == []
    assert lanes.held == 0
    stage.engine.drain()
    [error] = await asyncio.gather(second, return_exceptions=True)
    assert type(error) is EngineClosedError


async def test_a_push_that_waits_for_quota_does_not_hold_up_the_next_one(start, lanes, tmp_path):
    stage = await start(submits_per_hour=1)
    waiting = asyncio.create_task(until(stage, QuotaWaited, 2))
    await asyncio.sleep(0)
    source = write(tmp_path)
    pushes = [
        asyncio.create_task(stage.engine.push(source, table=table, slot=lanes.slot(1))) for table in ("A", "B", "C")
    ]
    await waiting
    assert lanes.held == 0
    stage.engine.drain()
    outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    assert sum(isinstance(error, EngineClosedError) for error in outcomes) == 2


async def test_pushes_read_and_upload_one_after_the_other(stage, lanes, tmp_path):
    source, log = write(tmp_path), []
    slots = [WatchedSlot(lanes, log, table) for table in "ABC"]
    await asyncio.gather(*(stage.engine.push(source, table=table, slot=slots[n]) for n, table in enumerate("ABC")))
    assert sorted(log) == ["A ends", "A starts", "B ends", "B starts", "C ends", "C starts"]
    assert [line.split()[1] for line in log] == ["starts", "ends"] * 3


async def test_a_slot_is_given_back_when_a_push_fails(stage, lanes, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    log = []
    with pytest.raises(SourceError):
        await stage.push(tmp_path / "empty.csv", slot=WatchedSlot(lanes, log, "T"))
    assert log == ["T starts", "T ends"]


async def test_a_slot_is_given_back_when_the_caller_gives_up(stage, lanes, tmp_path, monkeypatch):
    started = asyncio.Event()

    async def hang(*_args):
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stage.engine._client, "upload_chunk", hang)
    push = asyncio.create_task(stage.push(write(tmp_path), slot=lanes.slot(1)))
    await started.wait()
    assert lanes.held == 1
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert lanes.held == 0


async def test_a_drain_ends_the_wait_for_a_slot(stage, lanes, tmp_path):
    other = lanes.slot(1)
    await other.acquire()
    push = asyncio.create_task(stage.push(write(tmp_path), slot=lanes.slot(1)))
    await asyncio.sleep(0)
    stage.engine.drain()
    with pytest.raises(EngineClosedError):
        await push
    other.release()
    assert lanes.held == 0


async def test_a_stream_is_written_to_disk_with_the_slot(stage, lanes):
    log = []
    receipt = await stage.push(io.BytesIO(b"ID\n1\n"), format="csv", slot=WatchedSlot(lanes, log, "T"))
    assert receipt.rows == 1
    assert log == ["T starts", "T ends"]


async def test_a_restart_takes_the_slot_again(stage, lanes, tmp_path):
    """The platform forgets the chunks of the first job after it has acknowledged them: the push reads its source a second time."""
    log, list_chunks, jobs = [], stage.engine._client.list_chunks, []

    async def forget(job_id, **options):
        jobs.append(job_id)
        return [] if job_id == jobs[0] else await list_chunks(job_id, **options)

    stage.engine._client.list_chunks = forget
    receipt = await stage.push(write(tmp_path), slot=WatchedSlot(lanes, log, "T"))
    assert (receipt.rows, receipt.restarts) == (3, 1)
    assert log == ["T starts", "T ends", "T starts", "T ends"]


async def test_a_resumed_push_takes_a_slot_too(stage, lanes, tmp_path):
    source = write(tmp_path)
    await interrupted(stage, stage.push(source), ChunkUploaded)
    log = []
    (left,) = await stage.engine.open_pushes()
    receipt = await stage.engine.resume(left.push_id, slot=WatchedSlot(lanes, log, "T"))
    assert receipt.rows == 3
    assert log == ["T starts", "T ends"]


async def test_a_small_push_does_not_wait_for_the_uploads_of_a_large_one(start, tmp_path, monkeypatch):
    """The large one has all the memory that it may have, and no upload of it ends."""
    stage = await start(max_memory_bytes=32 * 1024 * 1024, encoder_threads=2)
    upload, created = stage.engine._client.upload_chunk, []

    async def hang(job_id, *args):
        created.append(job_id)
        if job_id == created[0]:
            await asyncio.Event().wait()
        await upload(job_id, *args)

    monkeypatch.setattr(stage.engine._client, "upload_chunk", hang)
    large = asyncio.create_task(stage.engine.push(write(tmp_path, "large.csv", 3_000_000), table="L"))
    budget = stage.engine._shared.budget
    while not any(waiter.leaves for waiter in budget._waiters):
        assert not large.done()
        await asyncio.sleep(0.01)
    receipts = await asyncio.gather(*(stage.engine.push(write(tmp_path), table=f"S{n}") for n in range(20)))
    assert [receipt.rows for receipt in receipts] == [3] * 20
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    assert budget.reserved == 0
