"""Turns at something that one at a time may use: a higher priority first, then in order of arrival."""

from __future__ import annotations

import asyncio
import bisect
import itertools


class Ticket:
    """A place in the queue.

    Attributes:
        rank: Determines the order; lower ranks come first.
        waiting: Set while the ticket waits for its turn.
    """

    __slots__ = ("rank", "waiting")

    def __init__(self, rank: tuple[int, int]) -> None:
        self.rank = rank
        self.waiting: asyncio.Future[None] | None = None


class Turns:
    """A queue of tickets, of which one has the turn."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []  # by rank, including the one that has the turn
        self._arrivals = itertools.count()
        self._holder: Ticket | None = None
        self._outranked = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tickets)

    def join(self, priority: int) -> Ticket:
        """Return a new ticket. It keeps its place, however often it takes the turn, until `leave()`."""
        ticket = Ticket((-priority, next(self._arrivals)))
        bisect.insort(self._tickets, ticket, key=lambda one: one.rank)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket that does not have the turn."""
        self._tickets.remove(ticket)

    def index(self, ticket: Ticket) -> int:
        """Return how many tickets come before this one."""
        return self._tickets.index(ticket)

    async def take(self, ticket: Ticket) -> None:
        """Wait until it is the ticket's turn: of the tickets that wait, the first one gets the turn."""
        ticket.waiting = asyncio.get_running_loop().create_future()
        self._pass_on()
        if self._holder is not None and ticket.rank < self._holder.rank:
            self._outranked.set()
        try:
            await ticket.waiting
        except asyncio.CancelledError:
            if self._holder is ticket:  # it got the turn in the same iteration of the event loop
                self.give_back()
            raise
        finally:
            ticket.waiting = None

    def give_back(self) -> None:
        """Pass the turn on."""
        self._holder = None
        self._outranked.clear()
        self._pass_on()

    @property
    def is_outranked(self) -> bool:
        """Whether a ticket with a lower rank than the holder's waits, so that the holder has to give the turn back unless it is done."""
        return self._outranked.is_set()

    async def outranked(self) -> None:
        """Wait until the holder is outranked."""
        await self._outranked.wait()

    def _pass_on(self) -> None:
        if self._holder is not None:
            return
        for ticket in self._tickets:
            if ticket.waiting is not None and not ticket.waiting.done():
                self._holder = ticket
                ticket.waiting.set_result(None)
                return
