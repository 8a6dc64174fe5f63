"""The threads of one push: reads run in order, and no thread is left."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pushengine.runtime.threads import ReaderThreads, ThreadWorkers


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2, thread_name_prefix="test-encode") as encoders:
        yield encoders


@pytest.fixture
async def workers(pool):
    made = ThreadWorkers(pool)
    yield made
    await made.aclose()


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pushengine-read")]


async def test_reads_run_in_order_on_one_thread(workers):
    seen = []

    def read(number):
        seen.append((number, threading.current_thread().name))
        return number

    assert await asyncio.gather(*(workers.read(read, number) for number in range(20))) == list(range(20))
    assert [number for number, _ in seen] == list(range(20))
    assert len({name for _, name in seen}) == 1


async def test_results_and_errors_reach_the_caller(workers):
    assert await workers.encode(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await workers.read(divmod, 7, 0)


async def test_closing_waits_for_the_running_call_and_drops_those_that_have_not_started(pool):
    workers = ThreadWorkers(pool)
    started, proceed, done = threading.Event(), threading.Event(), []

    def work(number):
        started.set()
        proceed.wait(10)
        done.append(number)

    tasks = [asyncio.create_task(workers.read(work, number)) for number in range(10)]
    await asyncio.to_thread(started.wait, 10)
    closing = asyncio.create_task(workers.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    proceed.set()
    await closing
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [0]
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [False] + [True] * 9
    assert reader_threads() == []


async def test_closing_after_a_cancelled_read_waits_for_its_thread(pool):
    workers = ThreadWorkers(pool)
    started, done = threading.Event(), threading.Event()
    released = threading.Event()

    def work():
        started.set()
        released.wait(10)
        done.set()

    task = asyncio.create_task(workers.read(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    asyncio.get_running_loop().call_later(0.01, released.set)
    await workers.aclose()
    assert done.is_set()
    assert reader_threads() == []


async def test_closing_twice_is_safe_and_leaves_the_encoder_pool_open(pool):
    workers = ThreadWorkers(pool)
    await workers.read(int)
    await workers.aclose()
    await workers.aclose()
    assert pool.submit(int).result() == 0


async def test_a_cancelled_close_still_ends_the_thread(pool):
    """Ctrl-C twice: the second one arrives during the cleanup of the first."""
    workers = ThreadWorkers(pool)
    started, released = threading.Event(), threading.Event()

    def work():
        started.set()
        released.wait(10)

    task = asyncio.create_task(workers.read(work))
    await asyncio.to_thread(started.wait, 10)
    closing = asyncio.create_task(workers.aclose())
    for _ in range(3):
        await asyncio.sleep(0)
        closing.cancel()
    asyncio.get_running_loop().call_later(0.01, released.set)
    with pytest.raises(asyncio.CancelledError):
        await closing
    await task
    assert reader_threads() == []


async def test_pushes_one_after_the_other_share_a_reader_thread(pool):
    readers, used = ReaderThreads(), set()
    for _ in range(3):
        workers = ThreadWorkers(pool, readers)
        used.add(await workers.read(threading.get_ident))
        await workers.aclose()
    assert len(used) == 1
    assert len(reader_threads()) == 1
    readers.close()
    assert reader_threads() == []


async def test_a_push_that_rests_lends_its_thread_to_others_and_reads_again_later(pool):
    readers = ReaderThreads()
    resting, reading = ThreadWorkers(pool, readers), ThreadWorkers(pool, readers)
    first = await resting.read(threading.get_ident)
    resting.rest()
    assert await reading.read(threading.get_ident) == first
    assert await resting.read(threading.get_ident) != first
    for workers in (resting, reading):
        await workers.aclose()
    readers.close()
    assert reader_threads() == []


async def test_a_push_that_still_reads_keeps_its_thread(pool):
    readers, released = ReaderThreads(), threading.Event()
    busy, other = ThreadWorkers(pool, readers), ThreadWorkers(pool, readers)
    task = asyncio.create_task(busy.read(released.wait, 10))
    await asyncio.sleep(0)
    busy.rest()
    assert await other.read(int) == 0
    released.set()
    assert await task
    for workers in (busy, other):
        await workers.aclose()
    readers.close()
    assert reader_threads() == []


def test_the_limit_of_open_files_is_raised():
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
from pushengine.runtime.threads import allow_many_files
allow_many_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == (8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)))
"""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout == "True\n"
