"""Limits the bytes in flight: reserved before rows are read, adjusted after encoding, released when the platform has the chunk.

`peak memory <= base + capacity`; a single reservation larger than the whole capacity runs alone and may exceed it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Iterator

from pushengine.model import Payload

_MIN_LONG_HELD_BYTES = 64 * 1024


class Reservation:
    """A number of bytes reserved from a budget. It can be resized, and is released at the end."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    @property
    def size(self) -> int:
        """Number of bytes held now."""
        return self._size

    def resize(self, size: int) -> None:
        """Change the number of bytes held. Never waits: growing may overdraw the budget until other reservations are released."""
        self._budget._release(self._size - size)  # noqa: SLF001 - both classes are one implementation
        self._size = size

    def release(self) -> None:
        """Return all bytes to the budget; safe to call twice."""
        self.resize(0)


class ByteBudget:
    """A memory budget shared by all pushes of an engine. Requests are served in order, so that a large one does not starve.

    Args:
        capacity: Bytes that may be reserved at the same time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.peak = 0
        self._long_held = 0
        self._waiters: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    async def acquire(self, size: int) -> Reservation:
        """Wait until `size` bytes are free, then reserve them. A size over the capacity waits until only long-held ones are reserved."""
        if self._waiters or not self._fits(size):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((size, future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._release(size)  # granted, but cancelled in the same iteration of the event loop
                else:
                    self._wake()
                raise
        else:
            self._take(size)
        return Reservation(self, size)

    def take(self, size: int) -> Reservation:
        """Reserve without waiting, for bytes already in memory. May overdraw the budget until other reservations are released."""
        self._take(size)
        return Reservation(self, size)

    @contextlib.contextmanager
    def long_held(self, wanted: int) -> Iterator[int]:
        """Reserve memory for the whole pass over a source, without waiting; return how many bytes.

        What is reserved so is at most a quarter of the capacity, and less the more pushes ask for it: pushes that hold memory while they
        wait for more would otherwise wait for each other.
        """
        size = max(min(wanted, (self.capacity // 4 - self._long_held) // 2), _MIN_LONG_HELD_BYTES)
        self._long_held += size
        reservation = self.take(size)
        try:
            yield size
        finally:
            self._long_held -= size
            reservation.release()

    @contextlib.contextmanager
    def scope(self) -> Iterator[BudgetScope]:
        """Return a scope that releases all its reservations when the block ends."""
        # Tasks cannot be relied on to release their own: a task cancelled before it first runs never reaches its `finally`.
        scope = BudgetScope(self)
        try:
            yield scope
        finally:
            scope.release_all()

    def _fits(self, size: int) -> bool:
        # What is long held is released only once its push gets more: with many such pushes, waiting for it would never end.
        return self.reserved <= self._long_held or self.reserved + size <= self.capacity

    def _take(self, size: int) -> None:
        self.reserved += size
        self.peak = max(self.peak, self.reserved)

    def _release(self, size: int) -> None:
        self.reserved -= size
        self.peak = max(self.peak, self.reserved)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            size, future = self._waiters[0]
            if not future.done():  # a future that is done was cancelled while it waited
                if not self._fits(size):
                    return
                self._take(size)
                future.set_result(None)
            self._waiters.popleft()

    def __repr__(self) -> str:
        return f"<ByteBudget {self.reserved:,} of {self.capacity:,} bytes, {len(self._waiters)} waiting>"


class BudgetScope:
    """The reservations made while the chunks of one job are transferred."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held: set[Reservation] = set()

    async def acquire(self, size: int) -> Reservation:
        """Same as `ByteBudget.acquire()`."""
        return self._hold(await self._budget.acquire(size))

    def take(self, size: int) -> Reservation:
        """Same as `ByteBudget.take()`."""
        return self._hold(self._budget.take(size))

    def release(self, reservation: Reservation) -> None:
        """Release one reservation."""
        reservation.release()
        self._held.discard(reservation)

    def release_all(self) -> None:
        """Release all reservations that are still held."""
        while self._held:
            self._held.pop().release()

    def _hold(self, reservation: Reservation) -> Reservation:
        self._held.add(reservation)
        return reservation


@dataclasses.dataclass(frozen=True, slots=True)
class ReadyChunk:
    """A payload queued for upload, with its memory reservation."""

    payload: Payload
    reservation: Reservation
