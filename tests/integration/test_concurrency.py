"""Adaptive concurrency in the whole engine, over real HTTP; `tests/unit/pipeline/test_concurrency.py` tests the decisions."""

import pyarrow as pa

from pushengine import events
from pushengine.emulator.faults import Delay, Fault, FaultPlan
from pushengine.runtime.clock import SystemClock

SPEED = 10.0
SETTINGS = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}


class FastClock(SystemClock):
    """A clock that runs ten times as fast, so that a slow platform takes little real time: an epoch of 2 seconds takes 0.2 seconds."""

    _to_ten_past = 600.0 - SystemClock().now() % 3600.0

    def now(self):
        return super().now() + self._to_ten_past

    def monotonic(self):
        return super().monotonic() * SPEED

    async def sleep(self, seconds):
        await super().sleep(seconds / SPEED)


def uploads_at_once(sink):
    """Yield (uploads in flight, limit) at the start of each upload."""
    limit, in_flight = 4, set()
    for event in sink.events:
        match event:
            case events.ConcurrencyChanged():
                limit = event.after
            case events.UploadStarted():
                in_flight.add(event.chunk_id)
                yield len(in_flight), limit
            case events.ChunkUploaded():
                in_flight.discard(event.chunk_id)


async def push_slowly(start, count, **settings):
    stage = await start(clock=FastClock(), **SETTINGS, **settings)
    stage.emulator.faults = FaultPlan([Fault("upsert", Delay(0.2))])
    receipt = await stage.push(pa.table({"N": range(count)}))
    assert (receipt.status, receipt.verified) == ("DONE", "checksum")
    assert await stage.query("select count(*), count(distinct N) from T") == [(count, count)]
    return stage


async def test_a_push_over_a_slow_path_uploads_more_at_once_and_reports_it(start):
    stage = await push_slowly(start, 400_000)
    first = stage.sink.of(events.ConcurrencyChanged)[0]
    assert (first.before, first.after, first.reason) == (4, 8, "doubling")
    assert first.bytes_per_second > 0
    assert first.push_id == stage.sink.of(events.PushFinished)[0].push_id
    observed = list(uploads_at_once(stage.sink))
    assert max(number for number, _ in observed) > 4
    assert all(number <= limit for number, limit in observed)


async def test_equal_minimum_and_maximum_fix_the_number_of_uploads(start):
    stage = await push_slowly(start, 100_000, min_uploads=3, max_uploads=3)
    assert stage.sink.of(events.ConcurrencyChanged) == []
    assert max(number for number, _ in uploads_at_once(stage.sink)) == 3
