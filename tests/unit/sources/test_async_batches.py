"""Async iterators as sources: one task iterates, each batch is produced only on request, and a cancellation loses nothing."""

import asyncio
import contextvars

import pytest
from support.chunks import Batches, all_chunks, chunker, rows_of
from support.inline import inline

from pushengine.errors import SourceReadError
from pushengine.pipeline.chunking import Chunker
from pushengine.sources.async_batches import IteratorSource

VARIABLE = contextvars.ContextVar("VARIABLE")


def opened_iterator(batches):
    return IteratorSource(batches, label="f", schema=None)


async def stream(batches):
    for one in batches:
        yield one


async def test_an_async_source_yields_the_same_chunks_as_a_blocking_one():
    def source():
        return opened_iterator(stream(Batches(10, 300, 7)))

    expected = [(chunk.chunk_id, rows_of(chunk)) for chunk in await all_chunks(chunker(Batches(10, 300, 7), 500))]
    opened = source()
    chunks = Chunker(await opened.open(), 500, read=inline)
    assert [(chunk.chunk_id, rows_of(chunk)) for chunk in await all_chunks(chunks)] == expected
    assert await chunks.next_chunk() is None
    with pytest.raises(SourceReadError, match="only once"):
        await opened.open()
    await opened.aclose()
    stopped = Chunker(await source().open(), 500, read=inline)
    stopped.stop()
    assert await stopped.next_chunk() is None


async def test_sampled_batches_of_an_async_source_are_read_again_with_the_rest():
    source = opened_iterator(stream(Batches(10, 10, 10)))
    assert (await source.schema()).names == ["x"]
    sample = await source.sample(100)
    assert [(await sample.next_block()).rows, (await sample.next_block()).rows, await sample.next_block()] == [
        10,
        10,
        None,
    ]
    (chunk,) = await all_chunks(Chunker(await source.open(), 5000, read=inline))
    assert rows_of(chunk) == list(range(30))
    await source.aclose()


async def test_a_stop_does_not_wait_for_an_iterator_that_yields_nothing():
    waiting = asyncio.Event()

    async def silent():
        yield first
        waiting.set()
        await asyncio.Event().wait()

    (first,) = Batches(10).batches
    source = opened_iterator(silent())
    chunks = Chunker(await source.open(), 5000, read=inline)
    reading = asyncio.create_task(chunks.next_chunk())
    await waiting.wait()
    chunks.stop()
    assert await reading is None
    await source.aclose()


async def with_a_context_variable():
    token = VARIABLE.set(1)
    async for one in stream(Batches(10, 10)):
        yield one
    VARIABLE.reset(token)


async def with_a_time_limit():
    async with asyncio.timeout(3600):
        async for one in stream(Batches(10, 10)):
            yield one


async def with_a_task_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(0))
        async for one in stream(Batches(10, 10)):
            yield one


@pytest.mark.parametrize("generator", [with_a_context_variable, with_a_time_limit, with_a_task_group])
async def test_state_that_a_generator_keeps_across_a_yield_stays_in_one_task(generator):
    """Each call may come from a different task: the push reads the sample, and its producer reads the chunks."""
    source = opened_iterator(generator())
    assert (await asyncio.create_task(source.schema())).names == ["x"]
    sample = await source.sample(100)
    await asyncio.create_task(sample.next_block())
    blocks = await source.open()
    rows = [(await asyncio.create_task(blocks.next_block())).rows for _ in range(2)]
    assert (rows, await asyncio.create_task(blocks.next_block())) == ([10, 10], None)
    await source.aclose()


async def test_a_time_limit_inside_a_generator_is_raised_as_its_error():
    async def limited():
        async with asyncio.timeout(0.01):
            async for one in stream(Batches(10)):
                yield one
            await asyncio.Event().wait()

    source = opened_iterator(limited())
    blocks = await source.open()
    await blocks.next_block()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await blocks.next_block()
    await source.aclose()


async def test_a_batch_is_produced_only_on_request_and_survives_a_cancelled_request():
    made, may_continue = [], asyncio.Event()

    async def generator():
        for one in Batches(10, 10, 10).batches:
            made.append(one.first_row)
            await may_continue.wait()
            yield one

    source = opened_iterator(generator())
    blocks = await source.open()
    assert made == []
    request = asyncio.create_task(blocks.next_block())
    while not made:
        await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    may_continue.set()
    assert [(await blocks.next_block()).first_row, (await blocks.next_block()).first_row] == [0, 10]
    assert made == [0, 10]
    await source.aclose()


@pytest.mark.parametrize("is_started", [False, True])
async def test_closing_ends_a_generator_whether_or_not_it_has_started(is_started):
    events = []

    async def generator():
        try:
            events.append("started")
            await asyncio.Event().wait()
            yield
        finally:
            await asyncio.sleep(0)
            events.append("closed")

    source = opened_iterator(generator())
    blocks = await source.open()
    if is_started:
        request = asyncio.create_task(blocks.next_block())
        while not events:
            await asyncio.sleep(0)
        blocks.stop()
        assert await request is None
    await source.aclose()
    await source.aclose()
    assert events == (["started", "closed"] if is_started else [])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_closes_an_iterator_that_was_never_read():
    class Cursor:
        closed = 0

        def __aiter__(self):
            return self

        async def aclose(self):
            self.closed += 1

    cursor = Cursor()
    source = opened_iterator(cursor)
    await source.aclose()
    await source.aclose()
    assert cursor.closed == 1


async def test_closing_ends_a_generator_that_continues_after_a_cancellation():
    is_requested = asyncio.Event()

    async def stubborn():
        for one in Batches(10, 10).batches:
            is_requested.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield one

    source = opened_iterator(stubborn())
    blocks = await source.open()
    request = asyncio.create_task(blocks.next_block())
    await is_requested.wait()
    blocks.stop()
    assert await request is None
    await source.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_while_a_generator_is_closed_is_not_lost():
    async def generator():
        try:
            async for one in stream(Batches(10, 10)):
                yield one
        finally:
            raise ValueError("the cursor cannot be closed")

    source = opened_iterator(generator())
    await (await source.open()).next_block()
    with pytest.raises(ValueError, match="cannot be closed"):
        await source.aclose()
