"""Waiting for a task that must come to its end."""

from __future__ import annotations

import asyncio
from typing import Any


async def settled(task: asyncio.Future[Any]) -> None:
    """Wait for its end, however often the waiting is cancelled; a cancellation is raised then. Its result is for the caller to look at."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def mark_seen(task: asyncio.Future[Any]) -> None:
    """Look at the outcome of an ended task that nobody will ask for, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()
