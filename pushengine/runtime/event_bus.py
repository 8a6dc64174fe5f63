"""Distribution of the events of all pushes to sinks and subscribers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterable
from typing import Any

from pushengine.events import Event, EventSink

_MAX_BUFFERED_EVENTS = 10_000


class EventBus:
    """An `EventSink` that passes events on to other sinks and to subscribers.

    Args:
        sinks: Receive every event, on the event loop.
    """

    def __init__(self, sinks: Iterable[EventSink] = ()) -> None:
        self._sinks = list(sinks)
        self._subscribers: set[asyncio.Queue[Event | None]] = set()
        self._is_closed = False

    def add(self, sink: EventSink) -> None:
        """Add a sink; it receives every event from now on."""
        self._sinks.append(sink)

    def remove(self, sink: EventSink) -> None:
        """Remove a sink; it receives no more events."""
        self._sinks.remove(sink)

    def emit(self, event: Event) -> None:
        """Pass an event to all sinks and subscribers."""
        for sink in tuple(self._sinks):  # a sink may remove itself
            sink.emit(event)
        for queue in self._subscribers:
            _put_dropping_oldest(queue, event)

    def subscribe(self) -> AsyncIterator[Event]:
        """Iterate over the events emitted after this call, until the bus is closed.

        A reader that falls 10,000 events behind misses the oldest ones.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_BUFFERED_EVENTS)
        if self._is_closed:
            queue.put_nowait(None)
        # Subscribe now and not at the first step of the iteration, which may come after the push whose events the caller wants.
        self._subscribers.add(queue)
        return self._iterate(queue)

    async def _iterate(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._subscribers.discard(queue)

    def close(self) -> None:
        """End all subscriptions, after the events emitted so far."""
        self._is_closed = True
        for queue in self._subscribers:
            _put_dropping_oldest(queue, None)


class PushSink:
    """An `EventSink` for the events of one push: fills in its table and pool and passes them on."""

    def __init__(self, sink: EventSink, *, table: str, pool: str) -> None:
        self._sink = sink
        self._table = table
        self._pool = pool

    def emit(self, event: Event) -> None:
        """Pass an event on with the table and the pool of the push."""
        self._sink.emit(dataclasses.replace(event, table=self._table, pool=self._pool))


def _put_dropping_oldest(queue: asyncio.Queue[Any], item: Any) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
