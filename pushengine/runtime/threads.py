"""Threads for work that would block the event loop: a reader for each push, and encoders shared by all pushes of an engine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pushengine.runtime.aio import finish

P = ParamSpec("P")
T = TypeVar("T")


def prefer_jemalloc() -> None:
    """Make Arrow allocate with jemalloc if it is built in, unless `ARROW_DEFAULT_MEMORY_POOL` says otherwise.

    This is process-wide: call it from the command line program only, never from library code. A push takes a tenth less time and a fifth
    less memory (`benchmarks/README.md`): blocks pass from thread to thread, and other allocators return them to the system meanwhile.
    """
    import pyarrow as pa  # noqa: PLC0415 - nothing else in this module needs pyarrow

    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


class ThreadWorkers:
    """Implements `interfaces.Workers` with threads; there is one instance per push.

    Each source is read by a single thread, so it needs no locks.

    Args:
        encoders: The engine's thread pool; not closed by `aclose()`.
    """

    def __init__(self, encoders: ThreadPoolExecutor) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="pushengine-read")
        self._encoders = encoders
        self._running: set[concurrent.futures.Future[object]] = set()

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the reader thread; calls run in order."""
        return await self._run(self._reader, functools.partial(function, *args, **kwargs))

    async def encode(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on one of the encoder threads."""
        return await self._run(self._encoders, functools.partial(function, *args, **kwargs))

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        future = executor.submit(call)
        self._running.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Cancel calls that have not started, wait for those that have, and end the reader thread."""
        # A copy, because a future removes itself from the set when it ends.
        running = {future for future in list(self._running) if not future.cancel()}
        try:
            if running:
                await finish(asyncio.to_thread(concurrent.futures.wait, running))
        finally:
            self._reader.shutdown(wait=True)
