"""Events from many pushes to whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from pushengine.events import Event, EventSink

_MAX_BUFFERED_EVENTS = 10_000


class EventBus:
    """An `EventSink` that passes events on to other sinks and to subscribers.

    Args:
        sinks: Get every event, on the event loop.
    """

    def __init__(self, sinks: Iterable[EventSink] = ()) -> None:
        self._sinks = list(sinks)
        self._subscribers: set[asyncio.Queue[Event | None]] = set()
        self._is_closed = False

    def add(self, sink: EventSink) -> None:
        """Give it every event from now on."""
        self._sinks.append(sink)

    def remove(self, sink: EventSink) -> None:
        """Give it no more events."""
        self._sinks.remove(sink)

    def emit(self, event: Event) -> None:
        """Give an event to all."""
        for sink in self._sinks:
            sink.emit(event)
        for queue in self._subscribers:
            _put_dropping_oldest(queue, event)

    async def subscribe(self) -> AsyncIterator[Event]:
        """What happens from now on until the bus is closed. A reader that falls 10,000 events behind misses the oldest."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_BUFFERED_EVENTS)
        if self._is_closed:
            return
        self._subscribers.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._subscribers.discard(queue)

    def close(self) -> None:
        """End all subscriptions, behind what was emitted so far."""
        self._is_closed = True
        for queue in self._subscribers:
            _put_dropping_oldest(queue, None)


def _put_dropping_oldest(queue: asyncio.Queue[Any], item: Any) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
