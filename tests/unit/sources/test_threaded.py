"""A blocking pass that async code reads: blocks read ahead, errors, stopping and closing."""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.chunks import Batches
from support.inline import inline

from pushengine.errors import SourceReadError
from pushengine.runtime.threads import ThreadWorkers
from pushengine.sources.threaded import ThreadStream


async def test_small_blocks_are_read_several_at_a_time_and_counted_one_by_one():
    """A thread switch costs more than reading a small block."""
    switches = 0

    async def read(function, /, *args):
        nonlocal switches
        switches += 1
        return function(*args)

    batches = Batches(*[10] * 1000)
    blocks = ThreadStream(batches, read)
    seen = []
    while (block := await blocks.next_block()) is not None:
        seen.append((block.first_row, blocks.rows_read, blocks.bytes_read))
    assert seen == [(number * 10, number * 10 + 10, number + 1) for number in range(1000)]
    assert await blocks.next_block() is None
    assert switches <= 2


async def test_large_blocks_are_read_one_at_a_time():
    batches = Batches(*[200_000] * 3)
    blocks = ThreadStream(batches, inline)
    await blocks.next_block()
    assert batches.taken == 1


async def test_an_error_of_the_source_is_raised_after_the_blocks_that_precede_it():
    class Failing(Batches):
        def __iter__(self):
            yield from super().__iter__()
            raise SourceReadError("gone")

    blocks = ThreadStream(Failing(10, 10), inline)
    assert [(await blocks.next_block()).first_row, (await blocks.next_block()).first_row] == [0, 10]
    with pytest.raises(SourceReadError, match="gone"):
        await blocks.next_block()


async def test_a_stop_ends_the_reading_after_the_current_block():
    class Stopping(Batches):
        def __iter__(self):
            for one in super().__iter__():
                blocks.stop()
                yield one

    batches = Stopping(*[10] * 100)
    blocks = ThreadStream(batches, inline)
    assert await blocks.next_block() is None
    assert (batches.taken, batches.stopped) == (1, 1)


async def test_closing_stops_and_closes_the_reader():
    class Open(Batches):
        is_exited = False

        def __iter__(self):
            try:
                yield from super().__iter__()
            finally:
                self.is_exited = True
                raise OSError("the reader is closed nevertheless")

    batches = Open(*[200_000] * 3)
    blocks = ThreadStream(batches, inline)
    await blocks.next_block()
    with pytest.raises(OSError, match="closed nevertheless"):
        await blocks.aclose()
    assert (batches.is_exited, batches.stopped, batches.closed) == (True, 1, 1)
    assert await blocks.next_block() is None


async def test_closing_waits_for_the_read_that_is_running():
    is_reading, may_end = threading.Event(), threading.Event()

    class Slow(Batches):
        def __iter__(self):
            for one in super().__iter__():
                is_reading.set()
                assert may_end.wait(30)
                yield one

        def stop(self):
            super().stop()
            may_end.set()

    with ThreadPoolExecutor(1) as encoders:
        workers = ThreadWorkers(encoders)
        batches = Slow(*[10] * 100)
        blocks = ThreadStream(batches, workers.read)
        reading = asyncio.create_task(blocks.next_block())
        await asyncio.to_thread(functools.partial(is_reading.wait, 30))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await blocks.aclose()
        await workers.aclose()
    assert (batches.taken, batches.closed) == (1, 1)
