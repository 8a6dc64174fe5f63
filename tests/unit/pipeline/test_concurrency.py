"""The number of concurrent uploads: over simulated links in virtual time, decision by decision, and with the real uploader."""

import asyncio
import contextlib
import functools
import io
import itertools
import random

import pytest
from pydantic import ValidationError
from support.contexts import push_context
from support.links import LINKS, FixedLimit, controller, upload_over

from pushengine import EngineSettings, events
from pushengine.cli.live import display
from pushengine.errors import (
    ConnectionFailedError,
    NotFoundError,
    OutcomeUnknownError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
)
from pushengine.journal import facts
from pushengine.logs import level_of
from pushengine.model import Payload
from pushengine.pipeline.concurrency import START_LIMIT, ConcurrencyController
from pushengine.pipeline.memory_budget import ReadyChunk
from pushengine.pipeline.reconciler import Reconciler
from pushengine.pipeline.retry import RetryPolicy
from pushengine.pipeline.uploader import Uploader, UploadSlots, is_overload
from pushengine.testing import MemoryDestination, VirtualClock, run_in_virtual_time

MB = 1_000_000
SEEDS = (0, 1, 2)
STEADY_AFTER_SECONDS = 60
MEASURED_SECONDS = 120

LIMITS = {  # lowest and highest acceptable limit, from one minute onwards
    "capped link, 10 MB/s per connection": (9, 14),
    "a link between two limits": (8, 14),
    "one fast connection saturates": (2, 8),
    "connections alone limit": (14, 16),
    "jitter": (10, 16),
    "a knee, more connections carry less": (5, 9),
    "refuses above 6": (4, 8),
    "refuses above 2": (1, 3),
    "stalls above 6": (4, 9),
    "slow producer": (4, 6),
    "producer just above the start": (6, 12),
    "tiny chunks": (14, 16),
    "huge chunks": (10, 16),
    "chunks of 256 MB": (10, 16),
    "very long round trip": (14, 16),
    "link gets faster": (12, 16),
    "link gets slower": (4, 12),
    "connections get slower": (13, 16),
    "lossy, one in ten crawls": (12, 16),
}


def window(link):
    """Return the seconds between which a run is measured: from a minute after the start or after the last change of rates."""
    start = max((0, *link.changes_at)) + STEADY_AFTER_SECONDS
    return int(start), int(start + MEASURED_SECONDS)


@functools.cache
def best_fixed_goodput(name):
    start, end = window(LINKS[name])
    runs = (upload_over(LINKS[name], FixedLimit(limit), seconds=end) for limit in (1, 2, 4, 6, 8, 12, 16))
    return max(run.goodput(start, end) for run in runs)


@functools.cache
def run_of(name, seed):
    start, end = window(LINKS[name])
    return upload_over(LINKS[name], controller(), seconds=end, seed=seed), start, end


# ------------------------------------------------------------------------------------------------------------------ over links


@pytest.mark.parametrize("name", LINKS)
def test_after_a_minute_goodput_is_at_least_nine_tenths_of_the_best_fixed_limit(name):
    for seed in SEEDS:
        run, start, end = run_of(name, seed)
        assert run.goodput(start, end) >= 0.9 * best_fixed_goodput(name), f"seed {seed}: {run.changes}"


@pytest.mark.parametrize("name", LINKS)
def test_the_limit_stays_in_the_range_expected_for_the_link(name):
    lowest, highest = LIMITS[name]
    for seed in SEEDS:
        run, start, end = run_of(name, seed)
        assert lowest <= run.limit_between(start, end) <= highest, f"seed {seed}: {run.changes}"
        assert all(1 <= change.after <= 16 for _, change in run.changes)


@pytest.mark.parametrize(
    "name", [name for name, link in LINKS.items() if min(link.refuse_above, link.stall_above) < 100]
)
def test_in_steady_state_hardly_any_upload_is_refused(name):
    for seed in SEEDS:
        run, start, end = run_of(name, seed)
        assert run.refused_share(start, end) <= 0.02, f"seed {seed}"


def test_a_fast_start_needs_three_epochs():
    run = upload_over(LINKS["capped link, 10 MB/s per connection"], controller(), seconds=10)
    assert [change.after for _, change in run.changes][:2] == [8, 16]
    assert run.goodput(5, 10) >= 90


def test_a_saturated_link_gets_no_more_connections_than_it_needs():
    run = upload_over(LINKS["one fast connection saturates"], controller(32), seconds=180)
    assert run.limit_between(60, 180) < 8


@pytest.mark.parametrize("pushes", [2, 4, 8])
def test_concurrent_pushes_fill_the_link_and_share_it(pushes):
    limiters = [controller() for _ in range(pushes)]
    run = upload_over(LINKS["capped link, 10 MB/s per connection"], *limiters, seconds=180)
    assert run.goodput(60, 180) >= 98
    assert min(run.mb_of) > 0.7 * max(run.mb_of)
    assert sum(limiter.limit for limiter in limiters) < 0.8 * 16 * pushes


# ------------------------------------------------------------------------------------------------------------------ decisions


class Uploads:
    """Uploads of 10 MB under a controller, each with a given duration; all slots are busy unless `count` says otherwise."""

    def __init__(self, **options):
        self.controller = ConcurrencyController(**({"lowest": 1, "highest": 16} | options))
        self.now = 0.0
        self.changes = []

    def together(self, seconds, outcome="acknowledged", count=None):
        """Run as many uploads as the limit, or `count`, that start and end at the same time; return the changes of the limit."""
        attempts = [self.controller.started(10 * MB, self.now) for _ in range(count or self.controller.limit)]
        self.now += seconds
        results = [self.controller.ended(one, self.now, outcome) for one in attempts]
        self.changes += [change for change in results if change]
        return [change for change in results if change]

    def rounds(self, seconds, number):
        return [change.reason for _ in range(number) for change in self.together(seconds)]


def test_the_limit_starts_at_four_or_at_the_nearest_value_in_range():
    assert START_LIMIT == 4
    for lowest, highest, start in ((1, 16, 4), (1, 2, 2), (8, 16, 8), (3, 3, 3)):
        assert ConcurrencyController(lowest=lowest, highest=highest).limit == start


def test_the_limit_never_changes_if_lowest_equals_highest():
    uploads = Uploads(lowest=4, highest=4)
    for turn in range(50):
        uploads.together(1.0 + turn % 3, "refused" if turn % 7 == 0 else "acknowledged")
    assert (uploads.changes, uploads.controller.limit) == ([], 4)


def test_the_limit_doubles_while_that_helps_and_each_change_reports_the_goodput():
    uploads = Uploads(highest=32)
    assert [(c.before, c.after, c.reason, c.bytes_per_second) for c in uploads.together(2.0)] == [
        (4, 8, "doubling", pytest.approx(20 * MB))
    ]
    assert [(c.before, c.after, c.bytes_per_second) for c in uploads.together(2.0)] == [(8, 16, pytest.approx(40 * MB))]
    (back,) = uploads.together(4.0)  # twice as many, each half as fast
    assert (back.before, back.after, back.reason) == (16, 8, "no gain")


def test_a_doubling_with_a_small_gain_is_reduced_to_the_limit_that_suffices():
    uploads = Uploads()
    uploads.together(2.0)
    (change,) = uploads.together(3.6)  # 8 carry 22 MB/s where 4 carried 20
    assert (change.before, change.after, change.reason) == (8, 5, "no gain")


def test_nothing_is_decided_before_two_seconds_and_the_duration_of_an_upload():
    uploads = Uploads()
    assert uploads.rounds(0.3, 6) == []
    assert uploads.rounds(0.3, 1) == ["doubling"]
    slow = Uploads()
    assert slow.together(30.0)[0].after == 8
    slow.controller.ended(slow.controller.started(MB, slow.now), slow.now + 3.0, "acknowledged")
    assert slow.controller.limit == 8


def test_the_limit_does_not_grow_while_uploads_wait_for_rows():
    uploads = Uploads()
    for _ in range(20):
        uploads.together(2.0, count=2)
    assert uploads.changes == []


def test_a_refusal_reduces_the_limit_by_three_tenths_once():
    uploads = Uploads()
    uploads.rounds(2.0, 2)
    (change,) = uploads.together(2.0, "refused")
    assert (change.before, change.after, change.reason, change.bytes_per_second) == (16, 11, "refusal", None)


def test_refusals_of_uploads_started_before_the_decrease_do_not_count_again():
    uploads = Uploads()
    uploads.rounds(2.0, 2)
    attempts = [uploads.controller.started(10 * MB, uploads.now) for _ in range(16)]
    for attempt, later in zip(attempts, (1.0, 10.0, 20.0, 30.0), strict=False):
        uploads.controller.ended(attempt, uploads.now + later, "refused")
    assert uploads.controller.limit == 11


def test_a_refused_limit_is_avoided_for_longer_each_time():
    refused_at = []
    uploads = Uploads()
    for turn in range(400):
        if uploads.controller.limit > 6:
            refused_at.append(turn)
            uploads.together(2.0, "refused")
        else:
            uploads.together(2.0)
    waits = [later - earlier for earlier, later in itertools.pairwise(refused_at)]
    assert waits[0] > 10
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(waits[:3]))
    assert len(refused_at) / 400 < 0.02


def test_broken_connections_do_not_change_the_limit():
    uploads = Uploads()
    uploads.together(2.0)
    assert uploads.together(1.0, "failed") == []
    assert uploads.controller.limit == 8


def test_a_fall_counts_only_if_it_is_measured_twice_in_a_row_at_an_unchanged_limit():
    uploads = Uploads()
    uploads.rounds(2.0, 2)
    while uploads.controller.limit == 16:
        uploads.together(2.0)
    assert uploads.together(2.0)[0].reason == "loss"  # the trial of 15 uploads
    assert (uploads.controller.limit, uploads.rounds(4.0, 1)) == (16, [])
    uploads.together(2.0)
    assert uploads.rounds(4.0, 1) == []
    (change,) = uploads.together(4.0)
    assert (change.before, change.after, change.reason) == (16, 14, "fall")
    assert uploads.rounds(4.0, 2) == ["growth", "growth"]


def test_stalled_uploads_lower_the_goodput_before_they_end():
    goodput = {}
    for stalled in (0, 2):
        uploads = Uploads()
        uploads.together(2.0)
        for _ in range(stalled):
            uploads.controller.started(10 * MB, uploads.now)
        for _ in range(6):
            uploads.together(0.45, count=8 - stalled)
        goodput[stalled] = uploads.changes[1].bytes_per_second
    assert goodput[0] == pytest.approx(8 * 10 * MB / 0.45, rel=0.05)
    assert goodput[2] == pytest.approx(6 * 10 * MB / 0.45, rel=0.05)


def test_the_repr_shows_running_uploads_limit_and_goodput():
    uploads = Uploads()
    assert repr(uploads.controller) == "<ConcurrencyController 0 of 4 uploads, goodput unknown>"
    uploads.together(2.0)
    uploads.controller.started(MB, uploads.now)
    assert repr(uploads.controller) == "<ConcurrencyController 1 of 8 uploads, goodput 20.0 MB/s>"


# ------------------------------------------------------------------------------------------------------------------ the uploader


class Server(MemoryDestination):
    """Takes about a second per chunk, and refuses an upload while `most` others are running."""

    def __init__(self, clock, most):
        super().__init__(checksum=None)
        self.clock, self.most = clock, most
        self.running = self.peak = self.refused = 0
        self.taken = []

    async def upload_chunk(self, job_id, payload, kind):
        if self.running >= self.most:
            self.refused += 1
            raise RateLimitedError("slow down")
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.clock.sleep(random.Random(payload.chunk_id).uniform(0.9, 1.1))
        finally:
            self.running -= 1
        self.taken.append(payload.chunk_id)


async def upload_all(server, clock, chunks, highest, lowest=1):
    """Upload chunks through the real uploader; return the sink with its events."""
    context = push_context(server, clock, policy=RetryPolicy(max_attempts=20))
    sink = context.shared.sink
    await context.log.record(facts.JobCreated(job_id="j"))
    slots = UploadSlots(context, ConcurrencyController(lowest=lowest, highest=highest))
    queue = asyncio.Queue(maxsize=4)
    with context.shared.budget.scope() as budget:
        uploader = Uploader(
            context,
            "j",
            queue=queue,
            budget=budget,
            slots=slots,
            reconciler=Reconciler(context, "j", server.list_chunks),
        )
        workers = [asyncio.create_task(uploader.run()) for _ in range(highest)]
        for number in range(chunks):
            payload = Payload(f"{number:06d}", memoryview(bytes(1000)), 1, (number, number + 1), {})
            await queue.put(ReadyChunk(payload, budget.take(payload.size)))
        await queue.join()
        for worker in workers:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker
    assert (slots._taken, slots._controller._running) == (0, set())
    return sink


def in_flight_over_limit(sink):
    """Return by how many the running uploads ever exceeded the limit, not counting those that ran when it fell."""
    limit, running, worst = START_LIMIT, set(), 0
    for event in sink.events:
        match event:
            case events.ConcurrencyChanged():
                limit = max(event.after, len(running))
            case events.UploadStarted():
                running.add(event.chunk_id)
                worst = max(worst, len(running) - limit)
            case events.ChunkUploaded():
                running.discard(event.chunk_id)
    return worst


def test_the_uploader_grows_to_the_maximum_and_reports_each_step():
    async def push():
        clock = VirtualClock()
        server = Server(clock, most=100)
        return server, await upload_all(server, clock, chunks=300, highest=16)

    server, sink = run_in_virtual_time(push())
    assert sorted(server.taken) == [f"{number:06d}" for number in range(300)]
    changes = sink.of(events.ConcurrencyChanged)
    assert [(event.before, event.after, event.reason) for event in changes[:2]] == [
        (4, 8, "doubling"),
        (8, 16, "doubling"),
    ]
    assert changes[0].bytes_per_second == pytest.approx(4000, rel=0.1)
    assert changes[0].push_id == "p"
    assert server.peak == 16
    assert in_flight_over_limit(sink) == 0


def test_a_refusing_server_gets_as_many_uploads_as_it_accepts_and_none_is_cancelled():
    async def push():
        clock = VirtualClock()
        server = Server(clock, most=6)
        return server, await upload_all(server, clock, chunks=600, highest=16), clock.monotonic()

    server, sink, seconds = run_in_virtual_time(push())
    assert sorted(server.taken) == [f"{number:06d}" for number in range(600)]  # each once, none abandoned
    assert "refusal" in {event.reason for event in sink.of(events.ConcurrencyChanged)}
    assert server.refused <= 0.03 * 600
    assert seconds < 600 / 6 / 0.85
    assert in_flight_over_limit(sink) <= 0


def test_a_fixed_number_of_uploads_never_changes():
    async def push():
        clock = VirtualClock()
        server = Server(clock, most=100)
        return server, await upload_all(server, clock, chunks=60, highest=3, lowest=3)

    server, sink = run_in_virtual_time(push())
    assert (server.peak, sink.of(events.ConcurrencyChanged)) == (3, [])


def caused_by(error, cause):
    error.__cause__ = cause
    return error


def from_the_token_endpoint(error):
    error.is_unsent = True
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RateLimitedError("429"), True),
        (ServerError("503", status=503), True),
        (ServerError("504", status=504), True),
        (RequestTimeoutError("no response", phase="read"), True),
        (caused_by(OutcomeUnknownError("no data was accepted for 50 s"), TimeoutError()), True),
        (caused_by(ConnectionFailedError("could not connect in time"), TimeoutError()), True),
        (from_the_token_endpoint(RateLimitedError("a 429 without an upload")), False),
        (from_the_token_endpoint(ServerError("a 503 without an upload", status=503)), False),
        (ServerError("500", status=500), False),
        (NotFoundError("404", status=404), False),
        (caused_by(OutcomeUnknownError("reset"), ConnectionResetError()), False),
        (ConnectionFailedError("refused"), False),
    ],
    ids=str,
)
def test_only_signs_of_overload_are_a_reason_for_fewer_uploads(error, expected):
    assert is_overload(error) is expected


# ------------------------------------------------------------------------------------------------------------------ settings, display


def test_a_minimum_above_the_maximum_is_rejected_by_name():
    with pytest.raises(ValidationError, match="at least min_uploads, which is 5"):
        EngineSettings(min_uploads=5, max_uploads=4)
    with pytest.raises(ValidationError, match="at least min_uploads, which is 20"):
        EngineSettings(min_uploads=20)
    assert EngineSettings(min_uploads=4, max_uploads=4).max_uploads == 4


def test_progress_shows_the_limit_once_it_has_changed():
    progress = display.Progress()
    started = events.UploadStarted(push_id="p", chunk_id="1", job_id="j", attempt=1, payload_bytes=1)
    progress.apply(started, 1.0)
    assert "1 in flight" in progress.transfer()
    change = events.ConcurrencyChanged(push_id="p", before=4, after=8, reason="doubling", bytes_per_second=4e6)
    progress.apply(change, 2.0)
    assert "1 of 8 in flight" in progress.transfer()
    assert level_of(change) == "debug"
    stream = io.StringIO()
    display.PlainDisplay(stream).emit(change)
    assert not stream.getvalue()
