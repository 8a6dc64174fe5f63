"""What is passed in to the engine: time, chance, files and threads."""

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
from pushengine.runtime.threads import ThreadWorkers


def _nothing() -> None:
    """Closes nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What the engine does not make itself, so that a simulation can own it: time, chance, files and threads.

    Attributes:
        clock: Measures and waits.
        rng: Source of jitter and names.
        filesystem: Finds and opens source files.
        off_loop: Runs a blocking call away from the event loop.
        new_workers: Makes the threads of one push.
        close: Called when the engine closes; waits for the threads to end.
    """

    clock: Clock
    rng: random.Random
    filesystem: FileSystem
    off_loop: OffLoop
    new_workers: Callable[[], Workers]
    close: Callable[[], None] = _nothing


def system_runtime(encoder_threads: int) -> Runtime:
    """This machine's clock, files and threads; all pushes share `encoder_threads` threads that encode."""
    encoders = ThreadPoolExecutor(encoder_threads, thread_name_prefix="pushengine-encode")
    return Runtime(
        clock=SystemClock(),
        rng=random.SystemRandom(),
        filesystem=LocalFileSystem(),
        off_loop=asyncio.to_thread,
        new_workers=functools.partial(ThreadWorkers, encoders),
        close=encoders.shutdown,
    )
