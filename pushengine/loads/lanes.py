"""Slots for the loads of a run: only so many read and upload at once, and small ones never wait for large ones."""

from __future__ import annotations

import asyncio


class Lanes:
    """Grants slots.

    Of the waiting loads, a higher priority comes first. Among equals, one slot takes the largest load at a time and the others take the
    smallest: large loads start early, so the run does not end with waiting for one of them, and small ones never queue behind them. If
    there is only one slot, the smallest goes first.

    Args:
        count: How many slots there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: set[LaneSlot] = set()
        self._large: LaneSlot | None = None
        self._waiting: dict[LaneSlot, asyncio.Future[None]] = {}

    def slot(self, nbytes: int, priority: int = 0) -> LaneSlot:
        """Return the slot of one load, which is not held yet.

        Args:
            nbytes: Size of its source, bytes.
            priority: Higher ones come first.
        """
        return LaneSlot(self, nbytes, priority)

    @property
    def held(self) -> int:
        """How many slots are held."""
        return len(self._held)

    async def take(self, slot: LaneSlot) -> None:
        """Wait for a slot."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[slot] = future
        self._grant()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back(slot)
            raise
        finally:
            self._waiting.pop(slot, None)

    def give_back(self, slot: LaneSlot) -> None:
        """Release a slot, and grant it to a waiting load."""
        self._held.discard(slot)
        if self._large is slot:
            self._large = None
        self._grant()

    def holds(self, slot: LaneSlot) -> bool:
        """Whether this slot is held."""
        return slot in self._held

    def _grant(self) -> None:
        while len(self._held) < self._count and (chosen := self._next()) is not None:
            self._held.add(chosen)
            self._waiting[chosen].set_result(None)

    def _next(self) -> LaneSlot | None:
        waiting = [slot for slot, future in self._waiting.items() if not future.done()]
        if not waiting:
            return None
        highest = max(slot.priority for slot in waiting)
        waiting = [slot for slot in waiting if slot.priority == highest]
        if self._large is None and self._count > 1:
            self._large = max(waiting, key=lambda slot: slot.nbytes)
            return self._large
        return min(waiting, key=lambda slot: slot.nbytes)


class LaneSlot:
    """The slot of one load; implements `interfaces.Slot`."""

    def __init__(self, lanes: Lanes, nbytes: int, priority: int) -> None:
        self.nbytes = nbytes
        self.priority = priority
        self._lanes = lanes

    async def acquire(self) -> None:
        """Wait for the slot; returns at once if it is held."""
        if not self._lanes.holds(self):
            await self._lanes.take(self)

    def release(self) -> None:
        """Give the slot back; safe to call twice."""
        if self._lanes.holds(self):
            self._lanes.give_back(self)
