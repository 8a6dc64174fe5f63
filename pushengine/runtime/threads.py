"""Threads for work that would block the event loop: a reader for each push, and encoders shared by all pushes of an engine."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pushengine.runtime.aio import finish

_MANY_FILES = 8192
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


def allow_many_files() -> None:
    """Let this process open as many files as the system allows it: each push that waits for quota holds two locks.

    This is process-wide: call it from the command line program only. Does nothing where there is no such limit.
    """
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(_MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ReaderThreads:
    """Threads that read sources: each serves one push at a time, and another one afterwards."""

    def __init__(self) -> None:
        self._free: list[ThreadPoolExecutor] = []

    def take(self) -> ThreadPoolExecutor:
        """Return a thread that no other push uses."""
        return self._free.pop() if self._free else ThreadPoolExecutor(1, thread_name_prefix="pushengine-read")

    def give_back(self, reader: ThreadPoolExecutor) -> None:
        """Let other pushes use a thread, which has nothing to do anymore."""
        self._free.append(reader)

    def close(self) -> None:
        """End all threads that were given back."""
        while self._free:
            self._free.pop().shutdown(wait=True)


class ThreadWorkers:
    """Implements `interfaces.Workers` with threads; there is one instance per push.

    Each pass over a source is read by a single thread, so it needs no locks.

    Args:
        encoders: The engine's thread pool; not closed by `aclose()`.
        readers: The engine's reader threads; None means a thread of its own.
    """

    def __init__(self, encoders: ThreadPoolExecutor, readers: ReaderThreads | None = None) -> None:
        self._readers = ReaderThreads() if readers is None else readers
        self._owns_readers = readers is None
        self._reader: ThreadPoolExecutor | None = None
        self._encoders = encoders
        self._running: set[concurrent.futures.Future[object]] = set()

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the reader thread; calls run in order."""
        if self._reader is None:
            self._reader = self._readers.take()
        return await self._run(self._reader, functools.partial(function, *args, **kwargs))

    async def encode(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on one of the encoder threads."""
        return await self._run(self._encoders, functools.partial(function, *args, **kwargs))

    async def _run(self, executor: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        future = executor.submit(call)
        self._running.add(future)  # type: ignore[arg-type]
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    def rest(self) -> None:
        """Give the reader thread back until the next read, unless it is still busy."""
        if self._reader is not None and not self._running:
            self._readers.give_back(self._reader)
            self._reader = None

    async def aclose(self) -> None:
        """Cancel calls that have not started, wait for those that have, and give the reader thread back."""
        # A copy, because a future removes itself from the set when it ends.
        running = {future for future in list(self._running) if not future.cancel()}
        try:
            if running:
                await finish(asyncio.to_thread(concurrent.futures.wait, running))
        finally:
            if self._reader is not None:
                self._readers.give_back(self._reader)
                self._reader = None
            if self._owns_readers:
                self._readers.close()
