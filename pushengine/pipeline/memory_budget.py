"""Limits the bytes in flight: reserved before rows are read, adjusted after encoding, released when the platform has the chunk.

`peak memory <= base + capacity`; a single reservation larger than the whole capacity runs alone and may exceed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from pushengine.config.settings import FREE_SHARE
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


class _Waiter(NamedTuple):
    """A request that waits: its size, how much it leaves free, and the future that grants it."""

    size: int
    leaves: int
    future: asyncio.Future[None]


class ByteBudget:
    """A memory budget shared by all pushes of a host. Requests are served in order, so that a large one does not starve.

    Args:
        capacity: Bytes that may be reserved at the same time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.peak = 0
        self._long_held = 0
        self._waiters: list[_Waiter] = []

    async def acquire(self, size: int, *, leaves: int = 0) -> Reservation:
        """Wait until `size` bytes are free, then reserve them. A size over the capacity waits until only long-held ones are reserved.

        Args:
            size: Number of bytes.
            leaves: Number of bytes that stay free for requests that leave nothing free; these overtake it.
        """
        is_behind = any(not waiter.leaves or leaves for waiter in self._waiters)
        if is_behind or not self._fits(size, leaves):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(_Waiter(size, leaves, future))
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

    def _fits(self, size: int, leaves: int) -> bool:
        # What is long held is released only once its push gets more: with many such pushes, waiting for it would never end.
        return self.reserved <= self._long_held or self.reserved + size <= self.capacity - leaves

    def _take(self, size: int) -> None:
        self.reserved += size
        self.peak = max(self.peak, self.reserved)

    def _release(self, size: int) -> None:
        self.reserved -= size
        self.peak = max(self.peak, self.reserved)
        self._wake()

    def _wake(self) -> None:
        is_blocked = False
        waiting = []
        for index, waiter in enumerate(self._waiters):
            if waiter.future.done():  # it was cancelled while it waited
                continue
            if (is_blocked and waiter.leaves) or not self._fits(waiter.size, waiter.leaves):
                waiting.append(waiter)
                if not waiter.leaves:
                    waiting += self._waiters[index + 1 :]
                    break
                is_blocked = True
                continue
            self._take(waiter.size)
            waiter.future.set_result(None)
        self._waiters = waiting

    def __repr__(self) -> str:
        return f"<ByteBudget {self.reserved:,} of {self.capacity:,} bytes, {len(self._waiters)} waiting>"


class BudgetScope:
    """The reservations made while the chunks of one job are transferred."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held: set[Reservation] = set()

    async def acquire(self, size: int) -> Reservation:
        """Same as `ByteBudget.acquire()`. If the scope holds memory already, it leaves some to others."""
        leaves = self._budget.capacity // FREE_SHARE if self._held else 0
        return self._hold(await self._budget.acquire(size, leaves=leaves))

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
