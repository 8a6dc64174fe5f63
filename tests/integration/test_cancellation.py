"""Cancelling a push at any point leaves nothing running, nothing reserved, no job of the engine, and an engine that works."""

import asyncio
import functools
import itertools
import threading

import pyarrow as pa
import pytest

from pushengine import events
from pushengine.errors import InvalidRequestError, OutcomeUnknownError, SourceReadError
from pushengine.testing import RecordingSink

ROWS = 30_000
FAST = {"submits_per_second": 1000, "submits_per_hour": 100_000}
SETTINGS = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024, "max_uploads": 2, **FAST}
MAX_CASES = 60


def numbers(first):
    return pa.table({"N": range(first, first + ROWS)})


def engine_tasks():
    """Return the running tasks, except the test itself and those of the emulator's server."""
    return {
        task
        for task in asyncio.all_tasks() - {asyncio.current_task()}
        if "RequestHandler" not in repr(task.get_coro()) and not task.get_name().startswith("emulator-job")
    }


def reader_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pushengine-read")]


class Lab:
    """Runs pushes that are cancelled, and checks what must hold after each."""

    def __init__(self, stage):
        self.stage = stage
        self.firsts = itertools.count(1, ROWS)
        self.interrupted = set()
        for name in ("create_job", "submit_job", "delete_job"):
            setattr(stage.engine._client, name, functools.partial(self.call, name, getattr(stage.engine._client, name)))

    async def call(self, name, function, *args, **options):
        try:
            return await function(*args, **options)
        except asyncio.CancelledError:
            self.interrupted.add(name)
            raise

    async def wait_for_jobs(self):
        """Wait until the emulator has finished the jobs of earlier pushes."""
        while self.stage.jobs("QUEUED") or self.stage.jobs("RUNNING"):
            await asyncio.sleep(0)

    async def contents(self):
        try:
            ((count, lowest, highest),) = await self.stage.query("select count(distinct N), min(N), max(N) from T")
        except Exception:  # noqa: BLE001 - no table yet
            return None
        assert (count, highest) == (ROWS, lowest + ROWS - 1), "never half a push"
        return lowest

    async def push_cancelled_by(self, cancel):
        """Push new rows while `cancel(task)` runs; then make all checks; then make a push that must work. Return whether the first was cancelled."""
        self.interrupted.clear()
        before, first = await self.contents(), next(self.firsts)
        push = asyncio.create_task(self.stage.push(numbers(first)))
        canceller = asyncio.create_task(cancel(push))
        async with asyncio.timeout(20):
            (result,) = await asyncio.gather(push, return_exceptions=True)
        canceller.cancel()
        await asyncio.gather(canceller, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError) or result.status == "DONE"
        self.check()
        await self.wait_for_jobs()
        after = await self.contents()
        assert after in ((first,) if not isinstance(result, BaseException) else (before, first))
        again = next(self.firsts)
        receipt = await self.stage.push(numbers(again))
        assert (receipt.status, receipt.rows, await self.contents()) == ("DONE", ROWS, again)
        return isinstance(result, asyncio.CancelledError)

    def check(self):
        engine = self.stage.engine
        assert engine_tasks() == set()
        assert engine._shared.budget.reserved == 0
        assert not engine._shared.budget._waiters
        assert not engine._pushes
        assert not any(lock.locked() for lock in engine._shared.table_locks.values())
        assert reader_threads() == []
        left = self.stage.jobs("NEW")
        assert not left or self.interrupted, f"{left} left, although no call was cancelled"
        for job in left:
            del self.stage.emulator.service.jobs[job.id]


@pytest.fixture
async def lab(start):
    return Lab(await start(emulator=FAST, **SETTINGS))


def spread(total):
    return sorted({round(step * (total - 1) / (MAX_CASES - 1)) for step in range(MAX_CASES)})


async def steps_of_a_push(lab):
    """Return the number of turns of the event loop that a push takes while another task keeps the loop turning."""
    steps = 0

    async def count(push):
        nonlocal steps
        while not push.done():
            steps += 1
            await asyncio.sleep(0)

    push = asyncio.create_task(lab.stage.push(numbers(next(lab.firsts))))
    await asyncio.gather(push, count(push))
    return steps


async def test_a_push_may_be_cancelled_at_any_step(lab):
    total = await steps_of_a_push(lab)
    cut = 0
    for step in spread(total):

        async def cancel(push, step=step):
            for _ in range(step):
                await asyncio.sleep(0)
            push.cancel()

        cut += await lab.push_cancelled_by(cancel)
    assert cut >= MAX_CASES // 3


async def test_a_push_may_be_cancelled_twice_at_any_step(lab):
    """The second Ctrl-C arrives during the cleanup of the first. It may interrupt the deletion of the job, and nothing else."""
    total = await steps_of_a_push(lab)
    for step in spread(total)[::2]:

        async def cancel(push, step=step):
            for _ in range(step):
                await asyncio.sleep(0)
            for pause in (1, 1, 2, 3, 5, 8):
                push.cancel()
                for _ in range(pause):
                    await asyncio.sleep(0)

        await lab.push_cancelled_by(cancel)


async def test_a_push_may_be_cancelled_at_every_event(lab):
    lab.stage.sink.events.clear()
    await lab.stage.push(numbers(next(lab.firsts)))
    total = len(lab.stage.sink.events)
    assert 15 <= total <= 60

    class Trap(RecordingSink):
        def emit(self, event):
            super().emit(event)
            if len(self.events) == self.at:
                self.push.cancel()

    cut = 0
    for number in range(1, total + 1):
        trap = Trap()
        trap.at = number

        async def cancel(push, trap=trap):
            trap.push = push
            await asyncio.Event().wait()

        lab.stage.engine._bus.add(trap)
        trap.push = asyncio.current_task()  # replaced before the first event: a source is opened on a thread
        cut += await lab.push_cancelled_by(cancel)
        lab.stage.engine._bus.remove(trap)
    assert cut >= total - 3


async def test_cancelling_a_push_closes_its_iterator(lab):
    closed = []

    async def batches():
        try:
            while True:
                yield pa.record_batch({"N": range(10_000)})
        finally:
            closed.append(True)

    push = asyncio.create_task(lab.stage.push(batches()))
    async for event in lab.stage.engine.events():
        if event.name == "chunk_uploaded":
            break
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert closed == [True]
    lab.check()


async def test_a_timeout_around_a_push_raises_timeout_error(lab):
    async def batches():
        yield pa.record_batch({"N": range(10_000)})
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await lab.stage.push(batches())
    lab.check()


async def test_one_cancelled_push_does_not_disturb_another(lab):
    pushes = [asyncio.create_task(lab.stage.push(numbers(0), table=f"T{number}")) for number in range(4)]
    async for event in lab.stage.engine.events():
        if event.name == "chunk_uploaded":
            break
    pushes[1].cancel()
    pushes[2].cancel()
    results = await asyncio.gather(*pushes, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, True, False]
    for number in (0, 3):
        assert await lab.stage.query(f"select count(*), count(distinct N) from T{number}") == [(ROWS, ROWS)]
    lab.check()


async def reject(*args):
    raise InvalidRequestError("the schema of the file differs", status=400)


async def test_a_failing_upload_stops_the_reader(lab):
    calls = itertools.count(1)
    upload = lab.stage.engine._client.upload_chunk

    async def second_fails(*args):
        await (reject() if next(calls) == 2 else upload(*args))

    lab.stage.engine._client.upload_chunk = second_fails
    read = 0

    async def batches():
        nonlocal read
        for number in range(1000):
            read = number
            yield pa.record_batch({"N": range(10_000)})

    with pytest.raises(InvalidRequestError, match="differs") as caught:
        await lab.stage.push(batches())
    assert read < 50
    assert caught.value.receipt.status == "ERROR"
    assert lab.stage.jobs() == []
    lab.check()


async def test_uploads_that_all_fail_at_once_raise_the_first_failure(lab):
    lab.stage.engine._client.upload_chunk = reject
    with pytest.raises(InvalidRequestError):
        await lab.stage.push(numbers(0))
    assert lab.stage.jobs() == []
    lab.check()


async def test_a_failing_source_stops_uploads_that_hang(lab):
    hanging = []

    async def hang(*args):
        hanging.append(args)
        await asyncio.Event().wait()

    lab.stage.engine._client.upload_chunk = hang

    async def batches():
        yield pa.record_batch({"N": range(20_000)})
        while not hanging:
            await asyncio.sleep(0)
        raise RuntimeError("the database went away")

    with pytest.raises(SourceReadError, match="went away"):
        await lab.stage.push(batches())
    assert hanging
    assert lab.stage.jobs() == []
    lab.check()


async def test_an_upload_without_a_response_is_found_in_the_chunk_list_and_no_row_is_duplicated(lab):
    """The chunk may be in the job or not, so the chunk list is checked before the chunk is sent again."""
    calls = itertools.count(1)
    upload = lab.stage.engine._client.upload_chunk

    async def lose_third_response(*args):
        await upload(*args)
        if next(calls) == 3:
            raise OutcomeUnknownError("no response")

    lab.stage.engine._client.upload_chunk = lose_third_response
    receipt = await lab.stage.push(numbers(7))
    assert (receipt.restarts, receipt.verified, await lab.contents()) == (0, "checksum", 7)
    assert len(lab.stage.sink.of(events.ChunkReconciled)) == 1
    assert len(lab.stage.jobs()) == 1
    lab.check()
