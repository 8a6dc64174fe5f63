"""Helpers for waiting: wait for tasks despite cancellation, and announce long waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

SILENT_SECONDS = 1.5
"""Longest unannounced wait, except for backpressure and polling. The promise is 2 seconds; the rest allows for a busy event loop."""


@contextlib.contextmanager
def announce_when_slow(announce: Callable[[], None]) -> Iterator[None]:
    """Call `announce` if the block takes longer than `SILENT_SECONDS`."""
    handle = asyncio.get_running_loop().call_later(SILENT_SECONDS, announce)
    try:
        yield
    finally:
        handle.cancel()


async def wait_until_done(task: asyncio.Future[Any]) -> None:
    """Wait until the task ends, however often the waiting is cancelled; then raise the cancellation, if any.

    The task's result or exception is left for the caller to read.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def mark_retrieved(task: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a finished task that has no other reader, so that asyncio does not log a warning about it."""
    if not task.cancelled():
        task.exception()


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until all have ended, however often the waiting is cancelled; then raise the cancellation, if any.

    Each task is cancelled only once, so that its own cleanup can finish. Exceptions of the tasks are ignored.
    """
    for task in tasks:
        task.cancel()
    await wait_until_done(asyncio.gather(*tasks, return_exceptions=True))


async def finish(cleanup: Coroutine[Any, Any, object]) -> None:
    """Run a cleanup to its end, however often the awaiting task is cancelled meanwhile."""
    task = asyncio.ensure_future(cleanup)
    try:
        await wait_until_done(task)
    except asyncio.CancelledError:
        mark_retrieved(task)
        raise
    task.result()
