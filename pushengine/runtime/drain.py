"""Graceful shutdown: abandon waits that are safe to abandon, finish what is in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pushengine.errors import EngineClosedError
from pushengine.runtime.aio import cancel_and_wait

T = TypeVar("T")


class DrainSwitch:
    """A switch that is set once, when the engine is asked to stop; it interrupts waits that are safe to abandon."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Start draining."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the engine drains."""
        return self._event.is_set()

    async def when_set(self, call: Callable[[], None]) -> None:
        """Wait until the engine drains, then call `call`."""
        await self._event.wait()
        call()

    def check(self) -> None:
        """Raise `EngineClosedError` if the engine drains."""
        if self.is_set:
            raise EngineClosedError("interrupted", hint="run the same command again")

    async def guard(self, wait: Awaitable[T]) -> T:
        """Await something that is safe to abandon; cancel it when the engine drains.

        Raises:
            EngineClosedError: The engine drains.
        """
        if self.is_set and asyncio.iscoroutine(wait):
            wait.close()
        self.check()
        waiting = asyncio.ensure_future(wait)
        draining = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({waiting, draining}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            await cancel_and_wait(waiting, draining)
        self.check()
        raise AssertionError("unreachable: neither done nor draining")
