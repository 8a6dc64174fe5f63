"""Waiting: for a task that must come to its end, and never for long without a word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

SILENT_SECONDS = 1.5
"""No wait lasts longer without being announced, back-pressure and polling aside. Two seconds are promised; the rest is for a busy loop."""


@contextlib.contextmanager
def announce_when_slow(announce: Callable[[], None]) -> Iterator[None]:
    """Call `tell` if what is awaited in the block takes longer than `SILENT_SECONDS`."""
    handle = asyncio.get_running_loop().call_later(SILENT_SECONDS, announce)
    try:
        yield
    finally:
        handle.cancel()


async def wait_until_done(task: asyncio.Future[Any]) -> None:
    """Wait for its end, however often the waiting is cancelled; a cancellation is raised then. Its result is for the caller to look at."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def mark_retrieved(task: asyncio.Future[Any]) -> None:
    """Look at the outcome of an ended task that nobody will ask for, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()


async def cancel_and_wait(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and see them end, however they do and however often the waiting is cancelled; a cancellation is raised then.

    They are cancelled once: what they do to clean up comes to its end.
    """
    for task in tasks:
        task.cancel()
    await wait_until_done(asyncio.gather(*tasks, return_exceptions=True))


async def finish(cleanup: Coroutine[Any, Any, object]) -> None:
    """Await a clean-up to its end, even if the awaiting task is cancelled meanwhile, however often."""
    task = asyncio.ensure_future(cleanup)
    try:
        await wait_until_done(task)
    except asyncio.CancelledError:
        mark_retrieved(task)
        raise
    task.result()
