"""The submit quota holds for any order of arrivals and any processes, restarts and clocks."""

import asyncio
import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.inline import limiter_on
from support.quotas import most_in_any_hour, most_in_any_second

from pushengine.quota.ledger import SqliteLedger
from pushengine.quota.server_clock import ServerClock
from pushengine.testing import VirtualClock, run_in_virtual_time

HOUR = 3600.0
NOON = 1_750_000_000.0 - 1_750_000_000.0 % HOUR


class Process:
    """One pushengine process of a host.

    It uses the clock of the host, its own estimate of the server's time, and its own ledger handle on the shared file.
    """

    def __init__(self, path, clock, *, skew=0.0, error=0.0, per_second=10, per_hour=250, host=None):
        local = host or VirtualClock(clock.epoch + skew)
        self.server_clock = ServerClock(local)
        for _ in range(9):
            self.server_clock.observe(math.floor(clock.now() + error), local.monotonic())
        self.ledger = SqliteLedger(path, submits_per_second=per_second, submits_per_hour=per_hour)
        self.limiter = limiter_on(self.ledger, local, server_clock=self.server_clock, rng=random.Random(7))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(st.floats(0, 3 * HOUR), min_size=1, max_size=60),
    start_in_hour=st.floats(0, HOUR - 1),
    skew=st.floats(-30, 30),
    errors=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=3),
    per_hour=st.integers(1, 30),
    per_second=st.integers(1, 10),
)
def test_no_second_and_no_hour_holds_more_than_the_quota(
    tmp_path_factory, arrivals, start_in_hour, skew, errors, per_hour, per_second
):
    path = tmp_path_factory.mktemp("ledger") / "quota.sqlite3"
    granted = []

    async def main():
        clock = VirtualClock(NOON + start_in_hour)
        processes = [
            Process(path, clock, skew=skew, error=error, per_hour=per_hour, per_second=per_second) for error in errors
        ]

        async def submit(number, delay):
            await clock.sleep(delay)
            await processes[number % len(processes)].limiter.acquire(lambda *wait: None)
            granted.append(clock.now())

        async with asyncio.TaskGroup() as group:
            for number, delay in enumerate(arrivals):
                group.create_task(submit(number, delay))
        for process in processes:
            process.ledger.close()

    run_in_virtual_time(main())
    assert len(granted) == len(arrivals)
    assert most_in_any_second(granted) <= per_second
    assert most_in_any_hour(granted) <= per_hour


DAY = 24 * HOUR
FAR = st.sampled_from([1.0, 1.5, 3.0, 60.0, 1800.0, HOUR, 5000.0, 20 * HOUR, 90 * DAY]).flatmap(
    lambda seconds: st.sampled_from([seconds, -seconds])
)
# Errors of single wrong Date headers. A host clock that jumped by one of the values above could confirm none of them.
WRONG = st.sampled_from([700.0, -700.0, 20.3 * HOUR, -20.3 * HOUR, 77.7 * DAY])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(st.floats(0, 3 * HOUR), min_size=1, max_size=60),
    start_in_hour=st.floats(0, HOUR - 1),
    jumps=st.lists(st.tuples(st.floats(0, 3 * HOUR), FAR), max_size=4),
    wrong=st.lists(WRONG, max_size=6),
    processes=st.integers(1, 3),
    per_hour=st.integers(1, 30),
    per_second=st.integers(1, 10),
)
@example(  # both submits arrive within 0.01 s after a jump
    arrivals=[0.0, 0.0078125],
    start_in_hour=2.0,
    jumps=[(0.0, 1.0), (0.0, 1.0)],
    wrong=[],
    processes=2,
    per_hour=2,
    per_second=1,
)
def test_neither_jumps_of_the_host_clock_nor_single_wrong_dates_break_the_quota_or_lose_an_hour(
    tmp_path_factory, arrivals, start_in_hour, jumps, wrong, processes, per_hour, per_second
):
    path = tmp_path_factory.mktemp("ledger") / "quota.sqlite3"
    granted, jumped, waits, rng = [], [], [], random.Random(5)

    async def main():
        clock, host = VirtualClock(NOON + start_in_hour), VirtualClock(NOON + start_in_hour + 11.0)
        members = [Process(path, clock, host=host, per_hour=per_hour, per_second=per_second) for _ in range(processes)]
        errors = list(wrong)

        def respond(server_clock, number):
            error = errors.pop() if errors and number % 5 == 4 else 0.0
            server_clock.observe(math.floor(clock.now() + error), host.monotonic())

        async def submit(number, delay):
            await clock.sleep(delay)
            process = members[number % processes]
            respond(process.server_clock, number)
            await process.limiter.acquire(lambda _until, wait, _reason: waits.append(wait))
            granted.append(clock.now())
            await clock.sleep(rng.uniform(0.01, 0.1))
            respond(process.server_clock, 0)

        async def jump(delay, seconds):
            await clock.sleep(delay)
            host.epoch += seconds
            jumped.append(clock.now())

        async with asyncio.TaskGroup() as group:
            for number, delay in enumerate(arrivals):
                group.create_task(submit(number, delay))
            for delay, seconds in jumps:
                group.create_task(jump(delay, seconds))
        for process in members:
            process.ledger.close()

    run_in_virtual_time(main())
    assert len(granted) == len(arrivals)
    assert most_in_any_hour(granted) <= per_hour
    # A second is not counted across a jump of the host clock. Grants within 0.01 s after a jump count on neither side, because a process
    # may read the clock before the jump and use that reading after it.
    for start, end in itertools.pairwise([-math.inf, *sorted(jumped), math.inf]):
        assert most_in_any_second([time for time in granted if start + 0.01 <= time < end]) <= per_second
    assert max(waits, default=0) <= HOUR + 2 * 2 + 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    in_hour=st.floats(3, HOUR - 3),
    ahead=FAR,
    spent=st.integers(0, 4),
    is_blocked=st.booleans(),
    dates_before=st.lists(WRONG | FAR, max_size=1),
    dates_after=st.lists(WRONG, max_size=1),
    is_confirmed=st.booleans(),
)
def test_once_the_clocks_are_right_no_wait_extends_beyond_the_next_full_hour(
    tmp_path_factory, in_hour, ahead, spent, is_blocked, dates_before, dates_after, is_confirmed
):
    """A process runs on a host whose clock is wrong. The clock is corrected, and another process starts."""
    path = tmp_path_factory.mktemp("ledger") / "quota.sqlite3"

    async def main():
        clock, wrong_host = VirtualClock(NOON + in_hour), VirtualClock(NOON + in_hour + ahead)
        before = Process(path, clock, host=wrong_host, per_hour=4)
        before.server_clock = before.limiter._server_clock = ServerClock(wrong_host)
        for error in dates_before:
            before.server_clock.observe(math.floor(clock.now() + error), wrong_host.monotonic())
        for _ in range(spent):
            await before.limiter.acquire(lambda *wait: None)
        if is_blocked:
            for _ in range(4):  # the last of them is attributed to the hourly quota
                await before.limiter.refused(None)
        before.ledger.close()
        right_host = VirtualClock(NOON + in_hour)
        after = Process(path, clock, host=right_host, per_hour=4)
        if not is_confirmed:
            after.server_clock = after.limiter._server_clock = ServerClock(right_host)
        for error in dates_after:
            after.server_clock.observe(math.floor(clock.now() + error), right_host.monotonic())
        started = clock.now()
        await after.limiter.acquire(lambda *wait: None)
        after.ledger.close()
        return started, clock.now()

    started, granted_at = run_in_virtual_time(main())
    assert granted_at <= (math.floor(started / HOUR) + 1) * HOUR + 2 + 2 + 1  # guard, jitter


def test_a_backlog_uses_the_whole_hour_and_continues_in_the_next(tmp_path):
    granted, announced = [], []

    async def main():
        clock = VirtualClock(NOON + 1000)
        process = Process(tmp_path / "quota.sqlite3", clock, skew=0)
        async with asyncio.TaskGroup() as group:
            for _ in range(600):

                async def submit():
                    await process.limiter.acquire(lambda until, wait, reason: announced.append((until, reason)))
                    granted.append(clock.now())

                group.create_task(submit())
        process.ledger.close()

    run_in_virtual_time(main())
    per_hour = Counter(math.floor((time - NOON) / HOUR) for time in granted)
    assert per_hour == {0: 250, 1: 250, 2: 100}
    assert most_in_any_second(granted) <= 10
    assert {reason for _, reason in announced} == {"hour", "turn"}
    assert min(until.minute for until, reason in announced if reason == "hour") == 0
    guard = 2 - 0.5  # a Date header gives the time to within half a second
    assert not [time for time in granted if time % HOUR < guard or time % HOUR > HOUR - guard]


def test_processes_with_different_server_times_together_stay_within_the_quota_per_second(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    granted = []
    for step in range(1000):  # five seconds of host time, in which four processes ask every 5 ms
        host_now = NOON + 100 + step * 0.005
        granted += [
            host_now for error in (0.9, -0.9, 0.0, 0.4) if ledger.reserve("acme", host_now + error, host_now).granted
        ]
    ledger.close()
    assert most_in_any_second(granted) <= 10
    assert len(granted) >= 43


def test_after_the_host_clock_steps_back_the_wait_is_only_one_spacing(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert ledger.reserve("acme", NOON + 100, NOON + 100).granted
    refused = ledger.reserve("acme", NOON + 100.2, NOON - 500)
    assert (refused.granted, refused.reason) == (False, "second")
    assert refused.wait_seconds == pytest.approx(ledger.spacing_seconds, abs=1e-6)
    assert ledger.reserve("acme", NOON + 100.4, NOON - 499.8).granted
    ledger.close()


def test_grants_of_the_hour_still_count_after_a_restart(tmp_path):
    path = tmp_path / "quota.sqlite3"
    for expected in (1, 2, 3):
        ledger = SqliteLedger(path, submits_per_hour=3)
        grant = ledger.reserve("acme", NOON + 100 + expected)
        assert (grant.granted, grant.spent) == (True, expected)
        ledger.close()
    ledger = SqliteLedger(path, submits_per_hour=3)
    refused = ledger.reserve("acme", NOON + 200)
    assert (refused.granted, refused.reason) == (False, "hour")
    assert refused.wait_seconds == pytest.approx(HOUR + 2 - 200)
    assert ledger.reserve("other-team", NOON + 200).granted
    ledger.close()


def test_a_clock_that_steps_back_does_not_get_the_hourly_quota_again(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3", submits_per_hour=2)
    for second in (10, 20):
        assert ledger.reserve("acme", NOON + second).granted
    assert not ledger.reserve("acme", NOON - 600).granted
    assert ledger.reserve("acme", NOON + HOUR + 10).granted
    assert not ledger.reserve("acme", NOON + 30).granted
    ledger.close()


def test_a_ledger_written_by_a_clock_days_ahead_does_not_block_the_team_permanently(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert ledger.reserve("acme", NOON + 40 * 24 * HOUR + 10).granted
    # The last grant still counts for the second, whatever the clock was.
    refused = ledger.reserve("acme", NOON + 10)
    assert refused.wait_seconds <= ledger.spacing_seconds + 1e-6
    assert ledger.reserve("acme", NOON + 10.2).granted
    ledger.close()


def test_no_submit_is_granted_before_the_time_that_the_server_named(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    ledger.block("acme", 490.0, NOON + 10, is_named=True, reason="the server refused")
    refused = ledger.reserve("acme", NOON + 100)
    assert (refused.granted, refused.reason, refused.wait_seconds) == (False, "server", 400.0)
    assert ledger.status("acme", NOON + 100).block_seconds == 400.0
    assert ledger.reserve("acme", NOON + 501).granted
    assert ledger.status("acme", NOON + 501).block_seconds == 0.0
    ledger.close()


def test_threads_and_handles_on_one_file_never_grant_more_than_the_hourly_quota(tmp_path):
    path = tmp_path / "quota.sqlite3"

    async def main():
        ledgers = [SqliteLedger(path, submits_per_second=10**9, submits_per_hour=50) for _ in range(4)]
        grants = await asyncio.gather(
            *(asyncio.to_thread(ledgers[n % 4].reserve, "acme", NOON + 10 + n / 1000) for n in range(200))
        )
        for ledger in ledgers:
            ledger.close()
        return sum(grant.granted for grant in grants)

    assert asyncio.run(main()) == 50


@pytest.mark.parametrize("skew", [-1800.0, -2.5, 0.0, 3.0, 7200.0])
def test_the_server_clock_follows_the_server_whatever_the_local_clock_shows(skew):
    async def main():
        true_time = VirtualClock(NOON)
        local = VirtualClock(NOON + skew)
        server = ServerClock(local)
        for _ in range(5):
            await asyncio.sleep(0.37)
            server.observe(math.floor(true_time.now()), local.monotonic())
        return abs(server.now() - true_time.now())

    assert run_in_virtual_time(main()) <= 0.5


def test_one_wrong_date_header_does_not_move_the_server_clock():
    async def main():
        clock = VirtualClock(NOON)
        server = ServerClock(clock)
        for _ in range(4):
            server.observe(math.floor(clock.now()), clock.monotonic())
        server.observe(NOON + 86_400, clock.monotonic())
        return server.offset_seconds

    assert abs(run_in_virtual_time(main())) <= 0.5


# --- The queue of one process


submits = st.tuples(
    st.floats(0, 40),  # when it arrives
    st.integers(-2, 2),  # its priority
    st.one_of(st.none(), st.floats(0, 60)),  # when it is cancelled, after it arrived
    st.booleans(),  # whether it only tries
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrivals=st.lists(submits, min_size=1, max_size=40),
    blocks=st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 90)), max_size=3),
    per_hour=st.integers(3, 60),
)
def test_submits_leave_by_priority_and_none_is_forgotten(tmp_path_factory, arrivals, blocks, per_hour):
    """Whatever is cancelled, whatever the platform refuses: every submit that is not cancelled leaves, and never before a more urgent one."""
    path = tmp_path_factory.mktemp("ledger") / "quota.sqlite3"
    granted, waiting, overtaken = [], {}, []

    async def main():
        clock = VirtualClock(NOON + HOUR - 100)
        process = Process(path, clock, per_hour=per_hour)
        limiter = process.limiter

        async def submit(number, delay, priority, cancelled_after, tries):
            await clock.sleep(delay)
            rank = (-priority, number)
            if tries:
                if await limiter.try_acquire(priority=priority):
                    granted.append(clock.now())
                return
            waiting[rank] = clock.now()
            try:
                async with asyncio.timeout(cancelled_after):
                    await limiter.acquire(lambda *wait: None, priority=priority)
                granted.append(clock.now())
                # The head of the queue may be asking the ledger while a more urgent one arrives.
                urgent = [other for other, since in waiting.items() if other[0] < rank[0] and since < clock.now() - 1.2]
                overtaken.extend((rank, other) for other in urgent)
            except TimeoutError:
                pass
            finally:
                del waiting[rank]

        async def block(delay, seconds):
            await clock.sleep(delay)
            process.ledger.block("acme", seconds, clock.now(), is_named=True, reason="429")

        async with asyncio.TaskGroup() as group:
            for number, arrival in enumerate(arrivals):
                group.create_task(submit(number, *arrival))
            for one in blocks:
                group.create_task(block(*one))
        assert not limiter._queue
        assert len(limiter._turns) == 0
        process.ledger.close()

    run_in_virtual_time(main())
    never_cancelled = sum(not tries and after is None for _, _, after, tries in arrivals)
    assert len(granted) >= never_cancelled
    assert most_in_any_second(granted) <= 10
    assert most_in_any_hour(granted) <= per_hour
    assert overtaken == []
