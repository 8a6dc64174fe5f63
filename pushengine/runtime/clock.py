"""The clock through which the engine reads the time and sleeps."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The engine's source of time. Passed in, so that tests and simulations can control it."""

    def now(self) -> float:
        """Wall-clock time in seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds; can be cancelled."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Wall-clock time in seconds since 1970-01-01 UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds; can be cancelled."""
        await asyncio.sleep(seconds)
