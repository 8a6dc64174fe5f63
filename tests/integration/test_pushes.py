"""A push as its caller sees it: receipt, events, concurrent pushes, memory, drain and close."""

import asyncio
import dataclasses
import random

import pyarrow as pa
import pytest
from support.interrupting import DrainAt

from pushengine import PushEngine, UserApiKey, events
from pushengine.emulator.faults import Fault, FaultPlan, Status
from pushengine.errors import EngineClosedError, JobDeadlineError, LedgerError
from pushengine.quota.ledger import SqliteLedger
from pushengine.runtime.clock import SystemClock

SMALL = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}
MIB = 1024 * 1024
QUOTE = '"'


def numbers(count=100_000, start=0):
    return pa.table({"N": range(start, start + count)})


def texts(megabytes):
    rng = random.Random(4)
    return pa.table({"N": range(megabytes * 1024), "TEXT": [rng.randbytes(512).hex() for _ in range(megabytes * 1024)]})


async def test_the_receipt_of_a_finished_push(stage, save_csv, rows):
    source = save_csv("a.csv", rows)
    receipt = await stage.push(source)
    (job,) = stage.jobs()
    assert dataclasses.replace(receipt, push_id="", elapsed_seconds=0, timings={}, checksums=(), payload_bytes=0) == (
        type(receipt)(
            push_id="",
            job_id=job.id,
            table="T",
            mode="replace",
            status="DONE",
            dialect={"delimiter": ",", "quote": QUOTE, "encoding": "utf-8"},
            rows=1000,
            chunks=1,
            payload_bytes=0,
            source_bytes=source.stat().st_size,
            elapsed_seconds=0,
            retries=0,
            submits=1,
            submitted=True,
            restarts=0,
            resumed=False,
            verified="checksum",
            job_logs=tuple(job.logs),
            quota_used=1,
            quota_limit=250,
            schema=(
                {"name": "N", "type": "INTEGER", "length": None},
                {"name": "ID", "type": "STRING", "length": 255},
                {"name": "X", "type": "FLOAT", "length": None},
                {"name": "AT", "type": "DATETIME", "length": None},
                {"name": "B", "type": "BOOLEAN", "length": None},
                {"name": "S", "type": "STRING", "length": 255},
            ),
        )
    )
    assert receipt.push_id
    assert receipt.payload_bytes == sum(chunk.size_bytes for chunk in job.chunks)
    assert len(receipt.checksums) == 1
    assert set(receipt.timings) == {"plan", "transfer", "verify", "submit", "poll"}
    assert 0 < sum(receipt.timings.values()) <= receipt.elapsed_seconds


async def test_the_json_receipt_has_the_documented_keys(stage):
    receipt = (await stage.push(numbers(10))).to_dict()
    promised = (
        "push_id job_id table mode status rows chunks payload_bytes source_bytes elapsed_seconds retries submits"
        " restarts resumed verified job_logs"
    )
    assert set(promised.split()) <= set(receipt)


async def test_events_come_in_the_order_of_the_steps_of_a_push(stage):
    receipt = await stage.push(numbers(10))
    names = [name for name in stage.names() if name != "job_status_changed"]
    assert names == [
        *("push_started", "job_created", "chunk_read", "chunk_encoded", "upload_started", "chunk_uploaded"),
        *("source_acknowledged", "job_verified", "job_submitted", "job_settled", "push_finished"),
    ]
    assert stage.sink.of(events.JobStatusChanged)[-1].status == "DONE"
    assert {event.push_id for event in stage.sink.events} == {receipt.push_id}
    assert stage.sink.of(events.PushFinished)[0].receipt == receipt


async def test_the_events_of_each_chunk_come_in_order(start):
    stage = await start(**SMALL)
    receipt = await stage.push(numbers())
    assert receipt.chunks > 5
    for chunk_id in {event.chunk_id for event in stage.sink.of(events.ChunkRead)}:
        names = [event.name for event in stage.sink.events if getattr(event, "chunk_id", None) == chunk_id]
        assert names == ["chunk_read", "chunk_encoded", "upload_started", "chunk_uploaded"]
    assert sum(event.rows for event in stage.sink.of(events.ChunkUploaded)) == 100_000


async def test_a_subscription_yields_all_events_and_ends_with_the_engine(stage):
    seen = []

    async def follow():
        seen.extend([event async for event in stage.engine.events()])

    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    await stage.push(numbers(10))
    await stage.engine.aclose()
    async with asyncio.timeout(10):
        await following
    assert seen == stage.sink.events


async def test_a_subscription_to_a_closed_engine_ends_at_once(stage):
    await stage.engine.aclose()
    assert [event async for event in stage.engine.events()] == []


async def test_several_tables_are_pushed_at_once(start):
    stage = await start(**SMALL)
    pushes = [stage.push(numbers(30_000, number), table=f"T{number}") for number in range(5)]
    receipts = await asyncio.gather(*pushes)
    for number in range(5):
        rows = await stage.query(f"select count(*), min(N), max(N) from T{number}")
        assert rows == [(30_000, number, number + 29_999)]
    assert len({receipt.push_id for receipt in receipts}) == 5
    assert stage.engine._shared.budget.reserved == 0


async def test_pushes_into_one_table_submit_one_after_the_other(start):
    """The platform responds to a submit with 409 while another job of the table is queued or running."""
    quota = {"submits_per_second": 1000}
    stage = await start(emulator={"run_seconds": 0.15, **quota}, **quota, **SMALL)
    receipts = await asyncio.gather(
        *(
            stage.push(numbers(30_000, 30_000 * number), mode="append", table="t" if number % 2 else "T")
            for number in range(4)
        )
    )
    assert await stage.query("select count(*), count(distinct N), max(N) from T") == [(120_000, 120_000, 119_999)]
    assert [receipt.submits for receipt in receipts] == [1] * 4
    assert stage.sink.of(events.RetryScheduled) == []


async def test_two_engines_on_one_table_take_turns(start):
    """The lock of the table belongs to the process: each engine waits until the push of the other one has ended."""
    stage = await start(emulator={"run_seconds": 0.1})
    other = await stage.open_engine()
    receipts = await asyncio.gather(
        stage.push(numbers(10), mode="append"), other.push(numbers(10, 10), table="T", mode="append")
    )
    assert await stage.query("select count(*), count(distinct N) from T") == [(20, 20)]
    assert all(job.runs == 1 for job in stage.jobs("DONE"))
    assert sum(receipt.submits for receipt in receipts) >= 2


async def test_many_small_chunks_arrive_with_many_concurrent_uploads(start):
    stage = await start(max_uploads=8, encoder_threads=2, **SMALL)
    receipt = await stage.push(numbers(600_000))
    assert await stage.query("select count(*), count(distinct N), max(N) from T") == [(600_000, 600_000, 599_999)]
    assert receipt.chunks >= 70
    assert receipt.chunks == len(set(receipt.checksums))


async def test_memory_in_flight_stays_within_its_limit(start):
    stage = await start(max_memory_bytes=32 * MIB, chunk_bytes=6 * MIB, sample_bytes=MIB, max_uploads=8)
    table = texts(64)
    receipt = await stage.push(table)
    budget = stage.engine._shared.budget
    assert await stage.query("select count(*), count(distinct TEXT) from T") == [(64 * 1024, 64 * 1024)]
    assert receipt.chunks >= 10
    assert budget.peak <= 32 * MIB + max(event.payload_bytes for event in stage.sink.of(events.ChunkEncoded))
    assert budget.reserved == 0


async def test_a_chunk_larger_than_the_memory_budget_is_still_sent(start):
    stage = await start(max_memory_bytes=32 * MIB, chunk_bytes=16 * MIB, sample_bytes=MIB)
    await stage.push(texts(40))
    assert await stage.query("select count(*), count(distinct TEXT) from T") == [(40 * 1024, 40 * 1024)]
    assert stage.engine._shared.budget.reserved == 0


async def test_engines_with_one_state_folder_share_the_quota(start):
    stage = await start()
    other = await stage.open_engine()
    for number in range(2):
        await stage.push(numbers(3), table=f"A{number}")
    receipt = await other.push(numbers(3), table="B")
    assert receipt.quota_used == 3
    assert (await stage.engine.quota()).spent == 3
    assert (await stage.engine.quota()).remaining == 247


async def test_a_push_waits_for_the_next_hour_when_the_quota_is_spent(start):
    """Server and engines share a clock that advances by each sleep; the third submit falls into the next hour."""

    class Hours(SystemClock):
        offset = 600.0 - SystemClock().now() % 3600.0

        def now(self):
            return super().now() + self.offset

        def monotonic(self):
            return super().monotonic() + self.offset

        async def sleep(self, seconds):
            await asyncio.sleep(0.001)
            Hours.offset += seconds

    clock = Hours()
    stage = await start(emulator={"now": clock.now, "submits_per_hour": 2}, clock=clock, submits_per_hour=2)
    other = await stage.open_engine(clock=clock, submits_per_hour=2)
    receipts = [
        await (stage.engine if number % 2 else other).push(numbers(3), table=f"T{number}") for number in range(5)
    ]
    assert [receipt.submits for receipt in receipts] == [1] * 5, "the emulator rejected none"
    assert [receipt.quota_used for receipt in receipts] == [1, 2, 1, 2, 1]
    assert {event.reason for event in stage.sink.of(events.QuotaWaited)} <= {"hour", "boundary"}
    assert "hour" in {event.reason for event in stage.sink.of(events.QuotaWaited)}


async def test_a_drain_while_rows_are_sent_ends_the_push_and_deletes_its_job(start):
    stage = await start(**SMALL)
    await stage.push(pa.table({"N": [1]}))
    stage.engine._bus.add(DrainAt(events.ChunkUploaded, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await stage.push(numbers(500_000))
    receipt = caught.value.receipt
    assert (receipt.status, receipt.submits) == ("INTERRUPTED", 0)
    assert 1 <= receipt.chunks < 60
    assert stage.jobs("NEW") == []
    assert await stage.rows() == [(1,)]
    assert stage.engine._shared.budget.reserved == 0


async def test_a_drain_while_waiting_for_an_iterator_ends_the_push(start):
    """A stream that yields no more rows must not keep the process from stopping."""
    stage = await start(**SMALL)
    waiting = asyncio.Event()

    async def batches():
        for number in range(4):
            yield pa.record_batch({"N": [number] * 20_000})
        waiting.set()
        await asyncio.Event().wait()

    push = asyncio.create_task(stage.push(batches()))
    async with asyncio.timeout(20):
        await waiting.wait()
        stage.engine.drain()
        with pytest.raises(EngineClosedError):
            await push
    assert stage.jobs("NEW") == []


async def test_a_drain_does_not_wait_for_another_attempt(start):
    """The only upload slot waits 30 seconds before its next attempt; everything else waits for the slot."""
    stage = await start(clock=SystemClock(), min_uploads=1, max_uploads=1, **SMALL)
    stage.emulator.faults = FaultPlan([Fault("upsert", Status(503, headers={"Retry-After": "30"}))])
    stage.engine._bus.add(DrainAt(events.RetryScheduled, stage.engine))
    async with asyncio.timeout(10):
        with pytest.raises(EngineClosedError):
            await stage.push(numbers(100_000))
    assert stage.jobs("NEW") == []


async def test_a_drained_engine_accepts_no_push(stage):
    stage.engine.drain()
    with pytest.raises(EngineClosedError):
        await stage.push(numbers(3))
    assert stage.jobs() == []


async def test_a_drain_before_the_engine_is_open_takes_effect(stage, tmp_path):
    engine = PushEngine(stage.emulator.url, pool_id="pool-1", auth=UserApiKey("k"), state_dir=tmp_path / "own")
    engine.drain()
    async with engine:
        with pytest.raises(EngineClosedError):
            await engine.push(numbers(3), table="T")
    assert stage.jobs() == []


async def test_a_subscription_ends_even_when_the_engine_fails_to_close(stage, tmp_path, monkeypatch):
    async def fail():
        raise OSError("no")

    engine = PushEngine(stage.emulator.url, pool_id="pool-1", auth=UserApiKey("k"), state_dir=tmp_path / "own")
    await engine.__aenter__()
    listening = asyncio.create_task(anext(engine.events(), "ended"))
    await asyncio.sleep(0)
    with monkeypatch.context() as patched:
        patched.setattr(engine._client, "aclose", fail)
        with pytest.raises(OSError, match="no"):
            await engine.aclose()
    assert await listening == "ended"
    assert [event async for event in engine.events()] == []
    await engine.aclose()


async def test_the_elapsed_time_of_a_push_starts_at_the_call(stage, monkeypatch):
    """The cleanup before the first push of an engine counts too."""
    monkeypatch.setattr(stage.engine._resources, "sweep", lambda: asyncio.sleep(0.3))
    receipt = await stage.push(numbers(3))
    assert receipt.elapsed_seconds >= 0.3


async def test_a_drain_while_the_job_runs_leaves_it_to_the_platform(start):
    stage = await start(emulator={"run_seconds": 0.2})
    push = asyncio.create_task(stage.push(numbers(3)))
    async for event in stage.engine.events():
        if isinstance(event, events.JobSubmitted):
            break
    stage.engine.drain()
    with pytest.raises(EngineClosedError) as caught:
        await push
    assert (caught.value.receipt.status, caught.value.receipt.submits) == ("INTERRUPTED", 1)
    assert len(stage.jobs()) == 1


async def test_a_job_that_takes_too_long_is_left_running_at_the_deadline(start):
    stage = await start(emulator={"run_seconds": 3600.0}, job_deadline_seconds=0.3)
    with pytest.raises(JobDeadlineError) as caught:
        await stage.push(numbers(3))
    assert caught.value.job_id == stage.jobs()[0].id
    assert caught.value.receipt.status == "ERROR"


async def test_closing_ends_running_pushes_and_leaves_no_jobs_or_tasks(start):
    """All pushes have created their jobs by then: a job whose create call was interrupted may stay, because its id is unknown."""
    stage = await start(emulator={"run_seconds": 3600.0}, **SMALL)
    before = asyncio.all_tasks()
    pushes = [asyncio.create_task(stage.push(numbers(500_000), table=f"T{number}")) for number in range(3)]
    with_chunks = set()
    async for event in stage.engine.events():
        if isinstance(event, events.ChunkUploaded):
            with_chunks.add(event.push_id)
        if len(with_chunks) == len(pushes):
            break
    await stage.engine.aclose()
    assert all(push.cancelled() for push in pushes)
    assert stage.jobs("NEW") == []
    assert {
        task for task in asyncio.all_tasks() - before if "Server" not in repr(task) and "aiohttp" not in repr(task)
    } == set()
    with pytest.raises(EngineClosedError):
        await stage.push(numbers(3))
    await stage.engine.aclose()


async def test_a_push_on_an_engine_that_was_never_opened_is_an_error(tmp_path):
    engine = PushEngine("http://127.0.0.1:1", pool_id="p", auth=UserApiKey("k"), state_dir=tmp_path)
    with pytest.raises(EngineClosedError, match="not open"):
        await engine.push(numbers(3), table="T")
    await engine.aclose()


async def test_an_engine_with_its_own_threads_and_clock_can_push(stage, tmp_path):
    """The engine is built as users build it, with nothing injected."""
    async with PushEngine(
        stage.emulator.url, pool_id="pool-1", auth=UserApiKey("k"), state_dir=tmp_path / "own"
    ) as engine:
        receipt = await engine.push(numbers(3), table="T")
    assert receipt.status == "DONE"
    assert await stage.rows() == [(0,), (1,), (2,)]


async def test_the_repr_of_an_engine_shows_its_state_and_no_secret(stage, tmp_path):
    text = repr(stage.engine)
    assert text.startswith(f"<PushEngine 127.0.0.1:{stage.emulator.port} 0 pushes running, <ByteBudget 0 of ")
    assert "test-key" not in text
    await stage.engine.aclose()
    assert "closed" in repr(stage.engine)


async def test_a_ledger_that_fails_after_the_load_does_not_fail_the_push(stage, monkeypatch):
    def fail(*args):
        raise LedgerError("disk full", path="x")

    monkeypatch.setattr(SqliteLedger, "spent", fail)
    receipt = await stage.push(numbers(3))
    assert (receipt.status, receipt.quota_used) == ("DONE", None)
