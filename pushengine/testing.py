"""Helpers for tests: time that moves only when everybody waits, and a sink that remembers.

A test that needs hours runs in milliseconds:

```python
async def night() -> None:
    clock = VirtualClock(epoch=1_750_000_000)
    await clock.sleep(3600)

run_in_virtual_time(night())
```
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from pushengine.events import Event

T = TypeVar("T")
E = TypeVar("E", bound=Event)


_TURN_SECONDS = 1e-6


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what would be waited for is added to the loop's time instead.

    Each turn of the loop takes a microsecond, as a real one does: code that waits for "the rest of a moment" must get there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready files now; else let time jump. A loop that waits for ever (`timeout` None) waits for real."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.elapsed += max(timeout, 0.0)
        self.elapsed += _TURN_SECONDS
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` jumps to the next timer whenever nothing else is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.elapsed


class VirtualClock:
    """A `Clock` on the running loop's time.

    Args:
        epoch: Wall-clock seconds UTC at the loop's time 0.
    """

    def __init__(self, epoch: float = 1_750_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        """Wall-clock time in seconds since 1970-01-01 UTC."""
        return self.epoch + self.monotonic()

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in the loop's time."""
        await asyncio.sleep(seconds)


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a `VirtualTimeLoop`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class RecordingSink:
    """An `EventSink` that keeps every event in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one class, in order."""
        return [event for event in self.events if isinstance(event, kind)]
