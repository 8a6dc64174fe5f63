"""Slots of a run: how many, and in which order."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pushengine.loads.lanes import Lanes


async def order_of(count, loads):
    """Return the order in which loads (size, priority) get their slot, each holding it until the next ones were granted."""
    lanes, order, held = Lanes(count), [], []
    slots = [lanes.slot(size, priority) for size, priority in loads]

    async def take(number):
        await slots[number].acquire()
        order.append(loads[number])
        held.append(slots[number])

    tasks = [asyncio.create_task(take(number)) for number in range(len(loads))]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert lanes.held <= count
        if held:
            held.pop(0).release()
    for slot in held:
        slot.release()
    assert lanes.held == 0
    return order


async def test_small_loads_never_wait_for_one_large_one():
    lanes = Lanes(2)
    large = lanes.slot(10**9)
    await large.acquire()
    for size in range(5):
        small = lanes.slot(size)
        await asyncio.wait_for(small.acquire(), 5)
        small.release()


async def test_the_largest_starts_early_and_holds_one_slot_only():
    lanes = Lanes(2)
    await (first := lanes.slot(1)).acquire()
    await (second := lanes.slot(1)).acquire()
    waiting = {size: asyncio.create_task(lanes.slot(size).acquire()) for size in (5, 900, 3, 800)}
    await asyncio.sleep(0)
    first.release()
    second.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(size for size, task in waiting.items() if task.done()) == [3, 900]
    for task in waiting.values():
        task.cancel()


async def test_with_one_slot_the_smallest_goes_first():
    order = await order_of(1, [(5, 0), (1, 0), (9, 0), (3, 0)])
    assert order[1:] == [(1, 0), (3, 0), (9, 0)]  # the first one found it free


async def test_a_higher_priority_goes_first():
    lanes = Lanes(1)
    await (held := lanes.slot(1)).acquire()
    got = []

    async def take(priority):
        slot = lanes.slot(1, priority)
        await slot.acquire()
        got.append(priority)
        slot.release()

    tasks = [asyncio.create_task(take(priority)) for priority in (0, 5, 1)]
    await asyncio.sleep(0)
    held.release()
    await asyncio.gather(*tasks)
    assert got == [5, 1, 0]


async def test_a_cancelled_wait_gives_its_slot_back():
    lanes = Lanes(1)
    await (held := lanes.slot(1)).acquire()
    task = asyncio.create_task(lanes.slot(2).acquire())
    await asyncio.sleep(0)
    held.release()  # the slot is granted to the task, which is cancelled before it runs
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.wait_for(lanes.slot(3).acquire(), 5)


@given(
    count=st.integers(1, 4),
    loads=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 2)), max_size=12),
)
def test_every_load_gets_its_slot_once(count, loads):
    assert sorted(asyncio.run(order_of(count, loads))) == sorted(loads)
