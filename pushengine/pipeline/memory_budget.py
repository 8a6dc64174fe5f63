"""Bytes in flight: acquired before rows are read, trued up after encoding, released when the platform has the chunk.

`peak memory <= base + capacity`, plus at most one reservation that is larger than the whole capacity and therefore runs alone.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import Iterator

from pushengine.model import Payload


class Reservation:
    """Some bytes of a budget; released once, or trued up on the way."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self._budget = budget
        self._size = size

    @property
    def size(self) -> int:
        """Bytes held now."""
        return self._size

    def resize(self, size: int) -> None:
        """Hold another number of bytes from now on. Never waits: growing may overdraw the budget until others release."""
        self._budget._release(self._size - size)  # noqa: SLF001 - two halves of one thing
        self._size = size

    def release(self) -> None:
        """Give all bytes back; safe to call twice."""
        self.resize(0)


class ByteBudget:
    """A number of bytes shared by all pushes of an engine. Grants are first come, first served, so a large request is not starved.

    Args:
        capacity: Bytes that may be reserved at one time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.peak = 0
        self._waiters: collections.deque[tuple[int, asyncio.Future[None]]] = collections.deque()

    async def acquire(self, size: int) -> Reservation:
        """Wait until `size` bytes are free (or, for a size over the capacity, until nothing else is reserved)."""
        if self._waiters or not self._fits(size):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((size, future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():
                    self._release(size)  # granted and cancelled in the same turn of the loop
                else:
                    self._wake()
                raise
        else:
            self._take(size)
        return Reservation(self, size)

    def take(self, size: int) -> Reservation:
        """Reserve without waiting, for bytes that exist already; may overdraw the budget until others release."""
        self._take(size)
        return Reservation(self, size)

    @contextlib.contextmanager
    def scope(self) -> Iterator[BudgetScope]:
        """Reservations that end with the block, however it ends: a task cancelled before it ran has no `finally`."""
        scope = BudgetScope(self)
        try:
            yield scope
        finally:
            scope.release_all()

    def _fits(self, size: int) -> bool:
        return self.reserved == 0 or self.reserved + size <= self.capacity

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
            if not future.done():  # else it was cancelled while it waited
                if not self._fits(size):
                    return
                self._take(size)
                future.set_result(None)
            self._waiters.popleft()

    def __repr__(self) -> str:
        return f"<ByteBudget {self.reserved:,} of {self.capacity:,} bytes, {len(self._waiters)} waiting>"


class BudgetScope:
    """The reservations of one attempt of a push."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held: set[Reservation] = set()

    async def acquire(self, size: int) -> Reservation:
        """As `ByteBudget.acquire()`."""
        return self._hold(await self._budget.acquire(size))

    def take(self, size: int) -> Reservation:
        """As `ByteBudget.take()`."""
        return self._hold(self._budget.take(size))

    def release(self, reservation: Reservation) -> None:
        """Give one reservation back."""
        reservation.release()
        self._held.discard(reservation)

    def release_all(self) -> None:
        """Give back whatever is still held."""
        while self._held:
            self._held.pop().release()

    def _hold(self, reservation: Reservation) -> Reservation:
        self._held.add(reservation)
        return reservation


@dataclasses.dataclass(frozen=True, slots=True)
class ReadyChunk:
    """A payload on its way to an uploader, with the memory it holds."""

    payload: Payload
    reservation: Reservation
