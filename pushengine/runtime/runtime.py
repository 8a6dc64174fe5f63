"""What is passed in to the engine: clock, random numbers, files and threads."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pushengine.interfaces import FileSystem, OffLoop, Workers
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.threads import ReaderThreads, ThreadWorkers


def _do_nothing() -> None:
    """Do nothing: the default of `Runtime.close`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What the engine does not create itself, so that a simulation can control it: clock, random numbers, files and threads.

    Attributes:
        clock: Reads the time and sleeps.
        rng: Source of jitter and of random ids.
        filesystem: Lists and opens source files.
        off_loop: Runs a blocking call away from the event loop.
        new_workers: Creates the threads of one push.
        close: Called when the engine closes; waits until the threads have ended.
    """

    clock: Clock
    rng: random.Random
    filesystem: FileSystem
    off_loop: OffLoop
    new_workers: Callable[[], Workers]
    close: Callable[[], None] = _do_nothing


def system_runtime(encoder_threads: int) -> Runtime:
    """Return a runtime with this machine's clock, files and threads; all pushes share `encoder_threads` encoder threads."""
    encoders = ThreadPoolExecutor(encoder_threads, thread_name_prefix="pushengine-encode")
    readers = ReaderThreads()

    def close() -> None:
        encoders.shutdown()
        readers.close()

    return Runtime(
        clock=SystemClock(),
        rng=random.SystemRandom(),
        filesystem=LocalFileSystem(),
        off_loop=asyncio.to_thread,
        new_workers=functools.partial(ThreadWorkers, encoders, readers),
        close=close,
    )
