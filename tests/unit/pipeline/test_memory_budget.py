"""The memory budget: first come, first served, and no reservation is lost however its use ends."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushengine.pipeline.memory_budget import ByteBudget


async def turns(count=5):
    """Let every task run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def start(coroutine):
    task = asyncio.create_task(coroutine)
    await turns()
    return task


async def test_a_request_that_fits_is_granted_at_once():
    budget = ByteBudget(100)
    first = await budget.acquire(60)
    second = await budget.acquire(40)
    assert (budget.reserved, first.size, second.size) == (100, 60, 40)


async def test_a_request_that_does_not_fit_waits_for_a_release():
    budget = ByteBudget(100)
    first = await budget.acquire(60)
    waiting = await start(budget.acquire(50))
    assert not waiting.done()
    first.release()
    await waiting
    assert budget.reserved == 50


async def test_grants_are_first_come_first_served():
    """A small request that would fit does not overtake a large one, which could otherwise starve."""
    budget = ByteBudget(100)
    held = await budget.acquire(60)
    large = await start(budget.acquire(80))
    small = await start(budget.acquire(10))
    assert not small.done()
    held.release()
    await turns()
    assert large.done()
    assert small.done()
    assert budget.reserved == 90


async def test_a_late_request_queues_behind_waiting_ones_even_if_it_fits():
    budget = ByteBudget(100)
    held = await budget.acquire(60)
    large = await start(budget.acquire(100))
    late = await start(budget.acquire(1))
    held.release()
    await turns()
    assert large.done()
    assert not late.done()
    (await large).release()
    await late


async def test_a_request_over_the_capacity_runs_alone():
    budget = ByteBudget(100)
    held = await budget.acquire(1)
    oversized = await start(budget.acquire(250))
    follower = await start(budget.acquire(1))
    assert not oversized.done()
    held.release()
    await turns()
    assert oversized.done()
    assert not follower.done()
    (await oversized).release()
    await turns()
    assert follower.done()
    assert (budget.reserved, budget.peak) == (1, 250)


async def test_a_second_release_has_no_effect():
    budget = ByteBudget(100)
    held = await budget.acquire(60)
    other = await budget.acquire(20)
    held.release()
    held.release()
    assert budget.reserved == other.size == 20


async def test_shrinking_a_reservation_admits_the_next_request():
    budget = ByteBudget(100)
    held = await budget.acquire(100)
    waiting = await start(budget.acquire(70))
    held.resize(30)
    await turns()
    assert waiting.done()
    assert budget.reserved == 100


async def test_growing_never_waits_and_shows_in_the_peak():
    budget = ByteBudget(100)
    held = await budget.acquire(80)
    held.resize(130)
    assert (budget.reserved, budget.peak) == (130, 130)
    held.release()
    assert (budget.reserved, budget.peak) == (0, 130)


async def test_take_never_waits():
    budget = ByteBudget(100)
    await budget.acquire(100)
    taken = budget.take(50)
    assert (budget.reserved, budget.peak) == (150, 150)
    taken.release()
    assert budget.reserved == 100


async def test_cancelling_a_waiter_admits_the_one_behind_it():
    budget = ByteBudget(100)
    await budget.acquire(60)
    large = await start(budget.acquire(80))
    small = await start(budget.acquire(10))
    large.cancel()
    await turns()
    assert large.cancelled()
    assert small.done()
    assert budget.reserved == 70


async def test_a_waiter_cancelled_in_the_same_turn_as_its_grant_returns_the_bytes():
    budget = ByteBudget(100)
    held = await budget.acquire(100)
    waiting = await start(budget.acquire(80))
    behind = await start(budget.acquire(90))
    held.release()  # grants `waiting`, which has not run yet
    assert budget.reserved == 80
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    assert behind.done()
    assert budget.reserved == 90


async def test_a_waiter_cancelled_before_a_release_in_the_same_turn_is_skipped():
    budget = ByteBudget(100)
    held = await budget.acquire(100)
    waiting = await start(budget.acquire(80))
    behind = await start(budget.acquire(90))
    waiting.cancel()
    held.release()
    await turns()
    assert waiting.cancelled()
    assert behind.done()
    assert budget.reserved == 90


async def test_a_scope_releases_all_it_holds_however_it_ends():
    budget = ByteBudget(100)
    outside = await budget.acquire(5)

    async def fail():
        with budget.scope() as scope:
            await scope.acquire(30)
            scope.take(100)
            scope.release(await scope.acquire(0) if budget.reserved < 100 else scope.take(7))
            raise RuntimeError("any")

    with pytest.raises(RuntimeError):
        await fail()
    assert budget.reserved == outside.size == 5


async def test_a_scope_that_is_cancelled_while_it_waits_holds_nothing():
    budget = ByteBudget(100)
    held = await budget.acquire(100)

    async def wait():
        with budget.scope() as scope:
            await scope.acquire(30)

    waiting = await start(wait())
    waiting.cancel()
    await turns()
    held.release()
    assert budget.reserved == 0
    assert "0 waiting" in repr(budget)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(1, 150)),
        st.tuples(st.just("release"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("shrink"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.integers(1, 3)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(operations)
def test_in_any_order_of_events_the_budget_is_fair_exact_and_within_capacity(steps):
    """Check against a model: the sum of live reservations is held, grants keep the order of arrival, and one over capacity is alone."""

    async def main():
        budget = ByteBudget(100)
        tasks, granted, live = [], [], {}

        async def hold(number, size):
            live[number] = await budget.acquire(size)
            granted.append(number)

        for action, value in steps:
            if action in ("release", "shrink"):
                await turns(1)  # earlier requests are in the queue before memory is released
            if action == "acquire":
                tasks.append(asyncio.create_task(hold(len(tasks), value)))
            elif action == "release" and live:
                live.pop(sorted(live)[value % len(live)]).release()
            elif action == "shrink" and live:
                reservation = live[sorted(live)[value % len(live)]]
                reservation.resize(reservation.size // 2)
            elif action == "cancel" and tasks:
                tasks[value % len(tasks)].cancel()
            elif action == "turn":
                await turns(value)
            if action in ("release", "shrink", "cancel"):
                await turns(2)  # a waiter that this grants memory to runs before the next request arrives
            assert budget.reserved >= sum(reservation.size for reservation in live.values())
            assert budget.reserved <= 100 or sum(reservation.size > 0 for reservation in live.values()) <= 1
        await turns()
        assert granted == sorted(granted)
        assert budget.reserved == sum(reservation.size for reservation in live.values())
        assert budget.peak <= 150
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for reservation in live.values():
            reservation.release()
        assert budget.reserved == 0
        assert not budget._waiters

    asyncio.run(main())


async def test_pushes_that_hold_memory_for_long_never_wait_for_each_other_however_many_they_are():
    budget = ByteBudget(2**20)
    done = []

    async def push(number):
        with budget.long_held(2**20):
            await turns(1)
            with budget.scope() as scope:
                await scope.acquire(2**19)
                done.append(number)
                await turns(1)

    async with asyncio.timeout(10):
        await asyncio.gather(*map(push, range(40)))
    assert (len(done), budget.reserved) == (40, 0)


# --- A large push and small ones


async def test_a_push_that_holds_memory_leaves_an_eighth_to_those_that_hold_none():
    budget = ByteBudget(800)
    with budget.scope() as large, budget.scope() as small:
        for _ in range(7):
            await large.acquire(100)
        more = await start(large.acquire(100))
        assert not more.done()
        await asyncio.wait_for(small.acquire(60), 1)
        await turns()
        assert not more.done()
        assert budget.reserved == 760
        more.cancel()


async def test_a_small_push_overtakes_a_large_one_that_waits_for_more():
    budget = ByteBudget(800)
    with budget.scope() as large:
        held = await large.acquire(650)
        more = await start(large.acquire(150))
        again = await start(large.acquire(10))
        for _ in range(3):
            with budget.scope() as small:
                await asyncio.wait_for(small.acquire(100), 1)
        large.release(held)
        await asyncio.gather(more, again)
        assert budget.reserved == 160


async def test_pushes_that_hold_nothing_are_served_in_order():
    budget = ByteBudget(800)
    with budget.scope() as large, budget.scope() as second, budget.scope() as third:
        held = await large.acquire(700)
        more = await start(large.acquire(50))
        first_of_second = await start(second.acquire(400))
        first_of_third = await start(third.acquire(50))
        assert [task.done() for task in (more, first_of_second, first_of_third)] == [False] * 3
        large.release(held)
        await turns()
        assert more.done()
        assert first_of_second.done()
        assert first_of_third.done()
