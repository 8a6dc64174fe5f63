"""Threads for what would block the event loop: one that reads a source, and encoders shared by all pushes of an engine."""

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
    """Have Arrow take its memory from jemalloc where it is built in, unless `ARROW_DEFAULT_MEMORY_POOL` says otherwise.

    For a process that is ours: it holds for all of it. A push takes a tenth less time and a fifth less memory (`benchmarks/README.md`),
    because blocks go from thread to thread and other allocators give them back to the system on the way.
    """
    import pyarrow as pa  # noqa: PLC0415 - everything else here does without

    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


class ThreadWorkers:
    """`interfaces.Workers` on threads, one for each push: a source is read by one thread, so it needs no locks of its own.

    Args:
        encoders: The engine's pool; not closed by `aclose()`.
    """

    def __init__(self, encoders: ThreadPoolExecutor) -> None:
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="pushengine-read")
        self._encoders = encoders
        self._running: set[concurrent.futures.Future[object]] = set()

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run on the reader thread, in order."""
        return await self._run(self._reader, functools.partial(function, *args, **kwargs))

    async def encode(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run on one of the encoder threads."""
        return await self._run(self._encoders, functools.partial(function, *args, **kwargs))

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        future = executor.submit(call)
        self._running.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Drop calls that have not begun, wait for those that have, end the reader thread."""
        running = {future for future in list(self._running) if not future.cancel()}  # each that ends leaves the set
        try:
            if running:
                await finish(asyncio.to_thread(concurrent.futures.wait, running))
        finally:
            self._reader.shutdown(wait=True)
