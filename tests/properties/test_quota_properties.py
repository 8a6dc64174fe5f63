"""The submit quota as a property over any order of arrivals, processes, restarts and clocks."""

import asyncio
import bisect
import math
import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushengine.ledger import SqliteLedger
from pushengine.limiter import ServerClock, SubmitLimiter
from pushengine.testing import VirtualClock, run_in_virtual_time

HOUR = 3600.0
NOON = 1_750_000_000.0 - 1_750_000_000.0 % HOUR


async def inline(function, /, *args, **kwargs):
    return function(*args, **kwargs)


def most_in_any_second(times):
    times = sorted(times)
    return max((bisect.bisect_left(times, start + 1.0) - index for index, start in enumerate(times)), default=0)


def most_in_any_hour(times):
    return max(Counter(math.floor(time / HOUR) for time in times).values(), default=0)


class Process:
    """One pushengine process of a host: the clock of the host, an own idea of the server's time, an own ledger handle on the shared file."""

    def __init__(self, path, clock, *, skew, error=0.0, per_second=10, per_hour=250):
        local = VirtualClock(clock.epoch + skew)
        self.server_clock = ServerClock(local)
        for _ in range(9):
            self.server_clock.observe(math.floor(clock.now() + error), local.monotonic())
        self.ledger = SqliteLedger(path, submits_per_second=per_second, submits_per_hour=per_hour)
        self.limiter = SubmitLimiter(
            self.ledger,
            team="acme",
            server_clock=self.server_clock,
            clock=local,
            off_loop=inline,
            rng=random.Random(7),
            spacing_seconds=self.ledger.spacing_seconds,
            submits_per_hour=per_hour,
        )


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


def test_a_backlog_uses_the_whole_hour_and_goes_on_in_the_next(tmp_path):
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
    guard = 2 - 0.5  # a Date header tells the time to half a second
    assert not [time for time in granted if time % HOUR < guard or time % HOUR > HOUR - guard]


def test_processes_that_differ_about_the_servers_time_keep_the_second_together(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    granted = []
    for step in range(1000):  # five seconds of the host, in which four processes ask again and again
        host_now = NOON + 100 + step * 0.005
        granted += [
            host_now for error in (0.9, -0.9, 0.0, 0.4) if ledger.reserve("acme", host_now + error, host_now).granted
        ]
    ledger.close()
    assert most_in_any_second(granted) <= 10
    assert len(granted) >= 43


def test_a_host_clock_that_steps_back_waits_for_one_spacing_only(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert ledger.reserve("acme", NOON + 100, NOON + 100).granted
    refused = ledger.reserve("acme", NOON + 100.2, NOON - 500)
    assert (refused.granted, refused.reason) == (False, "second")
    assert refused.wait_seconds == pytest.approx(ledger.spacing_seconds, abs=1e-6)
    assert ledger.reserve("acme", NOON + 100.4, NOON - 499.8).granted
    ledger.close()


def test_a_restart_forgets_nothing(tmp_path):
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


def test_a_clock_that_steps_back_does_not_get_the_hour_again(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3", submits_per_hour=2)
    for second in (10, 20):
        assert ledger.reserve("acme", NOON + second).granted
    assert not ledger.reserve("acme", NOON - 600).granted
    assert ledger.reserve("acme", NOON + HOUR + 10).granted
    assert not ledger.reserve("acme", NOON + 30).granted
    ledger.close()


def test_a_ledger_written_by_a_clock_days_ahead_does_not_block_the_team_for_good(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert ledger.reserve("acme", NOON + 40 * 24 * HOUR + 10).granted
    refused = ledger.reserve(
        "acme", NOON + 10
    )  # what was granted a moment ago, by whatever clock, still counts for the second
    assert refused.wait_seconds <= ledger.spacing_seconds + 1e-6
    assert ledger.reserve("acme", NOON + 10.2).granted
    ledger.close()


def test_nothing_is_granted_before_the_time_that_the_server_named(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    ledger.block("acme", 490.0, NOON + 10, is_named=True, reason="it said so")
    refused = ledger.reserve("acme", NOON + 100)
    assert (refused.granted, refused.reason, refused.wait_seconds) == (False, "server", 400.0)
    assert ledger.status("acme", NOON + 100).block_seconds == 400.0
    assert ledger.reserve("acme", NOON + 501).granted
    assert ledger.status("acme", NOON + 501).block_seconds == 0.0
    ledger.close()


def test_threads_and_handles_on_one_file_never_grant_more_than_the_hour_holds(tmp_path):
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
def test_the_hour_is_the_servers(skew):
    async def main():
        true_time = VirtualClock(NOON)
        local = VirtualClock(NOON + skew)
        server = ServerClock(local)
        for _ in range(5):
            await asyncio.sleep(0.37)
            server.observe(math.floor(true_time.now()), local.monotonic())
        return abs(server.now() - true_time.now())

    assert run_in_virtual_time(main()) <= 0.5


def test_one_wild_date_header_does_not_move_the_clock():
    async def main():
        clock = VirtualClock(NOON)
        server = ServerClock(clock)
        for _ in range(4):
            server.observe(math.floor(clock.now()), clock.monotonic())
        server.observe(NOON + 86_400, clock.monotonic())
        return server.offset_seconds

    assert abs(run_in_virtual_time(main())) <= 0.5
