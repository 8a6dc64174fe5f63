"""The submit limiter: waits after refusals, the queue, the ledger's grants, and the server's clock."""

import asyncio
import contextlib
import math
import multiprocessing
import random
import shutil
import sqlite3
import threading

import pytest
from support.inline import limiter_on

from pushengine.errors import LedgerError
from pushengine.quota.ledger import SqliteLedger
from pushengine.quota.server_clock import ServerClock
from pushengine.testing import VirtualClock, run_in_virtual_time

HOUR = 3600.0
NOON = 1_750_000_000.0 - 1_750_000_000.0 % HOUR


def opened(path, clock):
    ledger = SqliteLedger(path)
    return ledger, limiter_on(ledger, clock)


def waits_after_refusals(tmp_path, count, *, retry_after=None, spent_before=0):
    waits = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        for number in range(spent_before):
            assert ledger.reserve("acme", NOON + 10 + number).granted
        for _ in range(count):
            await limiter.acquire(lambda *wait: None)
            refused_at = clock.now()
            await limiter.refused(retry_after)
            await limiter.acquire(lambda *wait: None)
            waits.append(clock.now() - refused_at)
        ledger.close()

    run_in_virtual_time(main())
    return waits


def test_a_429_without_a_time_waits_a_second_at_first_and_finally_until_the_full_hour(tmp_path):
    waits = waits_after_refusals(tmp_path, 4)
    assert waits[0] == pytest.approx(1, abs=0.5)
    assert waits[1] == pytest.approx(5, abs=1)
    assert waits[2] == pytest.approx(30, abs=4)
    assert waits[3] == pytest.approx(HOUR - 600 - 36 + 2, abs=15)


def test_a_429_when_the_ledgers_count_is_nearly_full_waits_for_the_next_hour(tmp_path):
    (wait,) = waits_after_refusals(tmp_path, 1, spent_before=245)
    assert wait == pytest.approx(HOUR - 600 + 2, abs=4)


def test_a_429_with_a_time_waits_that_long(tmp_path):
    (wait,) = waits_after_refusals(tmp_path, 1, retry_after=77.0)
    assert wait == pytest.approx(77, abs=3)


def test_a_waiting_push_reports_until_when_it_waits(tmp_path):
    announced = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        for number in range(250):
            assert ledger.reserve("acme", NOON + 10 + number).granted
        spent = await limiter.acquire(lambda *wait: announced.append(wait))
        ledger.close()
        return spent

    assert run_in_virtual_time(main()) == 1
    ((until, wait, reason),) = announced
    assert reason == "hour"
    assert until.timestamp() == pytest.approx(NOON + HOUR + 2, abs=3)
    assert wait == pytest.approx(HOUR - 600 + 2, abs=3)


def test_an_unusable_ledger_grants_nothing_and_names_the_file(tmp_path):
    path = tmp_path / "quota.sqlite3"
    path.write_bytes(b"this is not a database, but it is long enough to look like one" * 100)
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(path)
    assert caught.value.path == str(path)
    assert "PUSHENGINE_STATE_DIR" in caught.value.hint


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "quota.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(LedgerError, match="format 99"):
        SqliteLedger(path)


def test_a_closed_ledger_says_so(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.reserve("acme", NOON)


def test_the_ledger_file_is_private(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert (tmp_path / "quota.sqlite3").stat().st_mode & 0o077 == 0
    ledger.close()


def test_the_reason_of_a_block_says_what_the_server_asked_for(tmp_path):
    reasons = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        for retry_after in (None, 77.0):
            await limiter.refused(retry_after)
            reasons.append(ledger.status("acme", clock.now()).block_reason)
        ledger.close()

    run_in_virtual_time(main())
    facts = [("(429)" in reason, "no retry time" in reason, "77 s" in reason) for reason in reasons]
    assert facts == [(True, True, False), (True, False, True)]


def test_a_host_clock_that_was_ahead_once_delays_no_submit_and_is_reported_once(tmp_path):
    warnings = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        assert ledger.reserve("acme", NOON + 600 + 90 * 24 * HOUR).granted
        for _ in range(3):
            await limiter.acquire(lambda *wait: None, warnings.append)
        ledger.close()
        return clock.now() - NOON - 600

    assert run_in_virtual_time(main()) < 1
    assert len(warnings) == 1
    assert "clock" in warnings[0]


def test_a_block_that_is_reset_ends_the_wait_within_a_minute(tmp_path):
    announced = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        ledger.block("acme", 20 * HOUR, clock.now(), is_named=True, reason="no")
        waiting = asyncio.ensure_future(limiter.acquire(lambda *wait: announced.append(wait)))
        await clock.sleep(300)
        assert not waiting.done()
        ledger.reset("acme", clock.now())
        reset_at = clock.now()
        await waiting
        ledger.close()
        return clock.now() - reset_at

    assert run_in_virtual_time(main()) <= 61
    assert [reason for _, _, reason in announced] == ["server"]  # reported once, not every minute


# --- The queue, and reports of waits ----------------------------------------------------------------------------------------------------


def waits_in_queue(tmp_path, count, **extra):
    """Return which waits are reported to each of `count` submits that arrive at once, and when each is granted."""
    waits, granted_at = [[] for _ in range(count)], [0.0] * count

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)

        async def submit(number):
            await limiter.acquire(lambda *wait: waits[number].append((clock.now() - NOON - 600, *wait)))
            granted_at[number] = clock.now() - NOON - 600

        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(submit(number))
        ledger.close()

    run_in_virtual_time(main())
    return waits, granted_at


def test_every_wait_in_the_queue_of_more_than_two_seconds_is_reported(tmp_path):
    waits, granted_at = waits_in_queue(tmp_path, 250)
    for number, (announced, at) in enumerate(zip(waits, granted_at, strict=True)):
        assert len(announced) == (1 if at > 1.5 else 0), number
    ((announced_at, until, wait, reason),) = waits[249]
    assert (announced_at, reason) == (pytest.approx(1.5, abs=0.01), "turn")
    assert announced_at + wait == pytest.approx(granted_at[249], rel=0.05)
    assert until.timestamp() - NOON - 600 == pytest.approx(granted_at[249], rel=0.05)


def test_nothing_is_reported_after_a_submit_was_granted_or_cancelled_in_the_queue(tmp_path):
    announced = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        waiting = [asyncio.ensure_future(limiter.acquire(lambda *wait: announced.append(wait))) for _ in range(30)]
        await clock.sleep(1.0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert await limiter.try_acquire()
        await clock.sleep(10)
        ledger.close()

    run_in_virtual_time(main())
    assert not announced


def test_a_queue_after_a_long_wait_is_reported_too(tmp_path):
    """When the block ends, all submits wake at once; the last of them waits in the queue for a while."""
    reasons = [[] for _ in range(100)]

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        ledger.block("acme", 30.0, clock.now(), is_named=True, reason="no")
        await asyncio.gather(
            *(limiter.acquire(lambda _until, _wait, reason, own=one: own.append(reason)) for one in reasons)
        )
        ledger.close()

    run_in_virtual_time(main())
    assert all(one[0] in {"server", "turn"} for one in reasons)
    assert any(one[-2:] == ["server", "turn"] for one in reasons)


# --- Trying without a long wait ---------------------------------------------------------------------------------------------------------


def test_trying_takes_only_a_grant_that_is_available_at_once(tmp_path):
    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        taken = [await limiter.try_acquire() for _ in range(3)]
        after = clock.now() - NOON - 600
        ledger.block("acme", 100.0, clock.now(), is_named=True, reason="no")
        taken.append(await limiter.try_acquire())
        assert clock.now() - NOON - 600 - after < 0.2
        spent = ledger.spent("acme", clock.now())
        ledger.close()
        return taken, spent

    assert run_in_virtual_time(main()) == ([True, True, True, False], 3)


def test_trying_does_not_wait_in_a_long_queue(tmp_path):
    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        waiting = [asyncio.ensure_future(limiter.acquire(lambda *wait: None)) for _ in range(30)]
        await asyncio.sleep(0)
        started = clock.now()
        assert not await limiter.try_acquire()
        assert clock.now() - started < 0.01
        await asyncio.wait(waiting)
        assert await limiter.try_acquire()
        ledger.close()

    run_in_virtual_time(main())


def test_trying_stops_after_a_second_if_other_processes_are_always_first(tmp_path):
    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)

        async def others():
            while True:
                grant = ledger.reserve("acme", clock.now())
                await clock.sleep(grant.wait_seconds)

        greedy = asyncio.ensure_future(others())
        await asyncio.sleep(0)
        took = await limiter.try_acquire()
        elapsed = clock.now() - NOON - 600
        greedy.cancel()
        ledger.close()
        return took, elapsed

    took, elapsed = run_in_virtual_time(main())
    assert took or elapsed >= 0.9
    assert elapsed < 1.3


def test_trying_passes_warnings_on(tmp_path):
    warnings = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        assert ledger.reserve("acme", NOON + 600 + HOUR).granted
        assert await limiter.try_acquire(warnings.append)
        ledger.close()

    run_in_virtual_time(main())
    assert len(warnings) == 1


# --- Durable, and quick under contention ------------------------------------------------------------------------------------------------


def test_a_grant_is_on_disk_before_it_is_returned(tmp_path):
    """What a power cut leaves at the time of the flush already holds the grant, which no caller has received yet."""
    path, grants, left = tmp_path / "quota.sqlite3", [], []

    def cut_the_power(_path):
        folder = tmp_path / f"left-{len(left)}"
        folder.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", folder / f"quota.sqlite3{suffix}")
        with contextlib.closing(SqliteLedger(folder / "quota.sqlite3")) as after:
            left.append((len(grants), after.spent("acme", NOON)))

    ledger = SqliteLedger(path, flush=cut_the_power)
    for number in range(3):
        grants.append(ledger.reserve("acme", NOON + 10 + number))  # noqa: PERF401 - the flush counts them
    ledger.close()
    assert all(grant.granted for grant in grants)
    assert left == [(0, 1), (1, 2), (2, 3)]


def test_a_grant_that_cannot_be_flushed_is_spent_and_not_returned(tmp_path):
    def fail(_path):
        raise OSError(5, "Input/output error")

    path = tmp_path / "quota.sqlite3"
    ledger = SqliteLedger(path, flush=fail)
    with pytest.raises(LedgerError, match="Input/output"):
        ledger.reserve("acme", NOON + 10)
    assert ledger.spent("acme", NOON + 10) == 1
    with pytest.raises(LedgerError, match="Input/output"):
        ledger.block("acme", 500.0, NOON, is_named=True, reason="")
    ledger.close()


def test_a_refusal_writes_nothing_and_does_not_wait_for_a_writer(tmp_path):
    flushed = []
    ledger = SqliteLedger(tmp_path / "quota.sqlite3", submits_per_hour=1, flush=flushed.append)
    assert ledger.reserve("acme", NOON + 10).granted
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert ledger.reserve("acme", NOON + 20).reason == "hour"
        assert ledger.spent("acme", NOON + 20) == 1
        assert ledger.status("acme", NOON + 20).block_seconds == 0.0
    ledger.close()
    assert flushed == [ledger.path]


def test_a_request_while_another_process_writes_is_granted_afterwards(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.05, writer.execute, ["COMMIT"])
        end.start()
        assert ledger.reserve("acme", NOON + 10).granted
        end.join()
    ledger.close()


def grant_some(path, start, results):
    start.wait(30)
    with contextlib.closing(SqliteLedger(path, submits_per_second=10**9, submits_per_hour=50)) as ledger:
        # All use the same time: a process behind the others would be refused because of the spacing.
        grants = [ledger.reserve("acme", NOON + 10) for _ in range(20)]
    results.put(sum(grant.granted for grant in grants))


def test_processes_that_create_the_file_at_the_same_time_share_one_quota(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(4), context.SimpleQueue()
    args = (tmp_path / "quota.sqlite3", start, results)
    processes = [context.Process(target=grant_some, args=args) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(50)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(results.get() for _ in processes) == 50


# --- Order, and the server's clock ------------------------------------------------------------------------------------------------------


def test_waiting_submits_are_granted_in_the_order_of_arrival(tmp_path):
    left = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)

        async def submit(number):
            await limiter.acquire(lambda *wait: None)
            left.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(submit(number))
        ledger.close()
        return clock.now() - NOON - 600

    elapsed = run_in_virtual_time(main())
    assert left == list(range(30))
    assert elapsed == pytest.approx(29 * 0.11, rel=0.05)


def test_a_submit_cancelled_at_the_head_of_the_queue_makes_way_for_the_next(tmp_path):
    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        await limiter.acquire(lambda *wait: None)
        waiting = [asyncio.ensure_future(limiter.acquire(lambda *wait: None)) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        ledger.close()
        return [task.cancelled() for task in waiting], clock.now() - NOON - 600

    cancelled, elapsed = run_in_virtual_time(main())
    assert cancelled == [True, False, False]
    assert elapsed < 0.5


def order_of(tmp_path, priorities, *, spent_before=0, late=()):
    """Return the order in which submits of these priorities leave; those of `late` arrive ten seconds after the others."""
    left = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        for number in range(spent_before):
            assert ledger.reserve("acme", NOON + 10 + number).granted

        async def submit(number, priority, delay):
            await clock.sleep(delay)
            await limiter.acquire(lambda *wait: None, priority=priority)
            left.append(number)

        async with asyncio.TaskGroup() as group:
            for number, priority in enumerate([*priorities, *late]):
                group.create_task(submit(number, priority, 0.0 if number < len(priorities) else 10.0))
        ledger.close()

    run_in_virtual_time(main())
    return left


def test_submits_leave_by_priority_then_by_arrival(tmp_path):
    """The first one leaves at once, and the second one has its turn before the others arrive."""
    assert order_of(tmp_path, [0, 0, 5, -1, 5, 0]) == [0, 1, 2, 4, 5, 3]


def test_submits_that_wait_for_the_next_hour_leave_by_priority_too(tmp_path):
    assert order_of(tmp_path, [0, 0, 5, -1, 5, 0], spent_before=250) == [2, 4, 0, 1, 5, 3]


def test_a_submit_that_arrives_while_others_wait_for_the_next_hour_leaves_first_if_it_is_more_urgent(tmp_path):
    assert order_of(tmp_path, [0, 0], spent_before=250, late=[1, 0, -1, 2]) == [5, 2, 0, 1, 3, 4]


def test_a_submit_that_arrives_while_others_wait_reports_until_when_at_once(tmp_path):
    announced = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        ledger.block("acme", 900.0, clock.now(), is_named=True, reason="no")
        first = asyncio.ensure_future(limiter.acquire(lambda *wait: None))
        await clock.sleep(300)
        second = asyncio.ensure_future(limiter.acquire(lambda *wait: announced.append(wait)))
        await asyncio.sleep(0)
        assert [(reason, round(wait / 60)) for _, wait, reason in announced] == [("server", 10)]
        assert not await limiter.try_acquire(priority=9)
        await asyncio.gather(first, second)
        ledger.close()

    run_in_virtual_time(main())


def test_when_the_submit_at_the_head_gives_up_the_next_one_waits_in_its_place(tmp_path):
    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = opened(tmp_path / "quota.sqlite3", clock)
        ledger.block("acme", 30.0, clock.now(), is_named=True, reason="no")
        waiting = [asyncio.ensure_future(limiter.acquire(lambda *wait: None)) for _ in range(3)]
        await clock.sleep(10)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        ledger.close()
        return [task.cancelled() for task in waiting], clock.now() - NOON - 600

    cancelled, elapsed = run_in_virtual_time(main())
    assert cancelled == [True, False, False]
    assert elapsed == pytest.approx(31, abs=3)


@pytest.mark.parametrize("offset", [-1234.56, -0.3, 0.0, 0.77, 3600.0])
def test_the_servers_clock_is_estimated_to_a_tenth_of_a_second_and_rarely_changes(offset):
    """Its dates are whole seconds. Processes whose estimates differ by more than the spacing's margin could exceed the quota together."""
    errors, offsets = [], []

    async def main():
        clock, rng = VirtualClock(NOON), random.Random(3)
        server = ServerClock(clock)
        for number in range(600):
            await clock.sleep(rng.uniform(0.01, 0.4))
            started, sent_at = clock.monotonic(), clock.now()
            there, back = rng.uniform(0.01, 0.04), rng.uniform(0.01, 0.04)
            await clock.sleep(there + back)
            server.observe(math.floor(sent_at + there + offset), (started + clock.monotonic()) / 2)
            if number > 50:
                errors.append(abs(server.offset_seconds - offset))
                offsets.append(round(server.offset_seconds, 5))

    run_in_virtual_time(main())
    assert max(errors) < 0.1
    assert len(set(offsets)) < len(offsets) / 4


def test_the_estimate_follows_a_server_clock_that_was_adjusted():
    async def main():
        clock = VirtualClock(NOON)
        server = ServerClock(clock)
        for number in range(80):
            await clock.sleep(0.37)
            server.observe(math.floor(clock.now() + (0.0 if number < 40 else 7.0)), clock.monotonic())
        return server.offset_seconds

    assert run_in_virtual_time(main()) == pytest.approx(7.0, abs=0.2)


def test_before_the_first_response_the_hosts_clock_is_used():
    async def main():
        clock = VirtualClock(NOON)
        return ServerClock(clock).now() - clock.now()

    assert run_in_virtual_time(main()) == pytest.approx(0.0, abs=0.001)


def offsets_after(*dates_ahead, host_ahead=0.0):
    """Return by how many seconds the server's estimated time is ahead of the true time after each response with such a date."""

    async def main():
        true_time, host = VirtualClock(NOON + 600), VirtualClock(NOON + 600 + host_ahead)
        server, found = ServerClock(host), []
        for ahead in dates_ahead:
            await true_time.sleep(0.37)
            server.observe(math.floor(true_time.now() + ahead), host.monotonic())
            found.append(server.now() - true_time.now())
        return found

    return run_in_virtual_time(main())


TWENTY_HOURS = 20 * HOUR


@pytest.mark.parametrize("wrong_at", range(6))
@pytest.mark.parametrize("wrong", [TWENTY_HOURS, -TWENTY_HOURS, 90 * 24 * HOUR, 600.0])
def test_a_single_wrong_date_is_not_trusted_wherever_it_comes(wrong, wrong_at):
    dates = [0.0] * 6
    dates[wrong_at] = wrong
    assert max(abs(offset) for offset in offsets_after(*dates)) <= 0.6


def test_a_date_near_the_hosts_clock_is_trusted_at_once_and_any_other_if_three_agree():
    assert offsets_after(40.0)[0] == pytest.approx(40.0, abs=0.6)
    found = offsets_after(HOUR, HOUR, HOUR)
    assert found == pytest.approx([0.0, 0.0, HOUR], abs=0.6)


def test_two_wrong_dates_that_disagree_are_not_trusted_even_if_the_hosts_clock_is_wrong():
    found = offsets_after(TWENTY_HOURS, 0.0, 5 * HOUR, 0.0, 0.0, 0.0, host_ahead=HOUR)
    assert found[:4] == pytest.approx([HOUR] * 4, abs=0.6)
    assert found[4:] == pytest.approx([0.0, 0.0], abs=0.6)


@pytest.mark.parametrize("jump", [-90 * 24 * HOUR, -HOUR, -1.0, 1.0, HOUR, 90 * 24 * HOUR])
def test_adjusting_the_hosts_clock_does_not_move_the_servers_time(jump):
    async def main():
        true_time, host = VirtualClock(NOON + 600), VirtualClock(NOON + 600)
        server, errors = ServerClock(host), []
        for number in range(60):
            await true_time.sleep(0.37)
            if number == 20:
                host.epoch += jump
            errors.append(abs(server.now() - true_time.now()))
            server.observe(math.floor(true_time.now()), host.monotonic())
        return errors

    assert max(run_in_virtual_time(main())) <= 0.6


@pytest.mark.parametrize("wrong_before", [0, 1, 2])
def test_after_the_machine_slept_the_first_date_that_the_hosts_clock_confirms_is_trusted(wrong_before):
    """The monotonic clock stopped during the sleep, the host's clock did not."""

    async def main():
        host = VirtualClock(NOON + 600)
        server = ServerClock(host)
        for _ in range(31):
            await host.sleep(0.37)
            server.observe(math.floor(host.now()), host.monotonic())
        host.epoch += 8 * HOUR
        for number in range(wrong_before):
            server.observe(math.floor(host.now()) + (number + 2) * HOUR, host.monotonic())
        server.observe(math.floor(host.now()), host.monotonic())
        return server.offset_seconds

    assert run_in_virtual_time(main()) == pytest.approx(0.0, abs=0.6)
