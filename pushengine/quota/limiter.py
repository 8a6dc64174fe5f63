"""The limiter that keeps submits within a team's quota: by default 10 per second, and 250 per UTC hour of the server's clock.

Each submit passes two gates. Within this process, submits queue: a higher priority first, then first come, first served. Only the head of the
queue asks the ledger, and `aiolimiter` spaces the requests (burst 1). The ledger then spaces and counts the submits of all processes on the
host. If it refuses for a second or more, the whole queue waits, and every submit in it reports until when.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import math
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from pushengine.interfaces import OffLoop, QuotaGrant, QuotaLedger
from pushengine.quota.server_clock import ServerClock
from pushengine.quota.turns import Ticket, Turns
from pushengine.runtime.aio import SILENT_SECONDS, cancel_and_wait
from pushengine.runtime.clock import Clock
from pushengine.text import utc

_SHORT_WAITS_SECONDS = (1.0, 5.0, 30.0)
_NEARLY_SPENT = 0.95
_MIN_WAIT_SECONDS = 0.001
_MIN_ANNOUNCED_WAIT_SECONDS = 1.0
_MAX_JITTER_SECONDS = 2.0
_SAME_WAIT_SECONDS = 5.0
_MAX_BLOCKED_SLEEP_SECONDS = 60.0


def _ignore_warning(_message: str) -> None:
    """Ignore a warning; the default callback."""


class SubmitLimiter:
    """Grants the submits of one team within its quota.

    Args:
        ledger: Counts submits and applies the rules for all processes of the host; called off the event loop.
        team: Host of the team.
        server_clock: Estimates the server's time, which decides which hour it is.
        clock: The host's clock, also used to sleep.
        off_loop: Runs the ledger's blocking calls.
        rng: Source of the jitter that is added to waits, so that processes waiting for the same hour do not wake at once.
    """

    def __init__(
        self,
        ledger: QuotaLedger,
        *,
        team: str,
        server_clock: ServerClock,
        clock: Clock,
        off_loop: OffLoop,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._team = team
        self._server_clock = server_clock
        self._clock = clock
        self._off_loop = off_loop
        self._rng = rng
        self._spacing = AsyncLimiter(1, ledger.spacing_seconds)
        self._turns = Turns()
        self._queue: dict[Ticket, _Announcements | None] = {}
        self._rest: _Rest | None = None
        self._refusals_in_a_row = 0

    async def acquire(
        self,
        on_wait: Callable[[dt.datetime, float, str], None],
        on_warning: Callable[[str], None] = _ignore_warning,
        *,
        priority: int = 0,
    ) -> int:
        """Wait for a grant for one submit, to be sent immediately.

        Args:
            on_wait: Called with (end of the wait in UTC, wait in seconds, reason) before each wait of a second or more, and if queueing
                takes longer than `runtime.aio.SILENT_SECONDS`. The reasons are those of `QuotaGrant`, plus `turn` for the queue, where
                the end is an estimate.
            on_warning: Called with a description of what the ledger had to correct in its file.
            priority: Submits of a higher priority leave first.

        Returns:
            Number of grants in this UTC hour that the ledger has counted, including this one.

        Raises:
            LedgerError: The ledger cannot be used; nothing may be submitted.
        """
        with self._queued(priority, _Announcements(on_wait, self._server_clock, self._clock)) as ticket:
            while True:
                await self._turns.take(ticket)
                try:
                    while not self._turns.is_outranked:
                        await self._spacing.acquire()
                        grant = await self._ask_patiently(on_warning, math.inf)
                        if grant.granted:
                            return grant.spent
                        await self._wait_at_the_head(grant)
                finally:
                    self._turns.give_back()

    async def try_acquire(self, on_warning: Callable[[str], None] = _ignore_warning, *, priority: int = 0) -> bool:
        """Get a grant for one submit unless that takes a second or more; return whether it was granted.

        Raises:
            LedgerError: The ledger cannot be used; nothing may be submitted.
        """
        limit = _MIN_ANNOUNCED_WAIT_SECONDS
        if self._rest is not None or len(self._turns) * self._ledger.spacing_seconds >= limit:
            return False
        deadline = self._clock.monotonic() + limit
        with self._queued(priority) as ticket:
            try:
                async with asyncio.timeout(limit):
                    await self._turns.take(ticket)
            except TimeoutError:
                return False
            try:
                await self._spacing.acquire()
                return (await self._ask_patiently(on_warning, deadline)).granted
            finally:
                self._turns.give_back()

    async def _ask_patiently(self, on_warning: Callable[[str], None], deadline: float) -> QuotaGrant:
        """Ask the ledger until it grants, or refuses for a second or more, or past `deadline`."""
        while True:
            grant = await self._off_loop(self._ledger.reserve, self._team, self._server_clock.now(), self._clock.now())
            if grant.warning:
                on_warning(grant.warning)
            is_long = grant.wait_seconds >= _MIN_ANNOUNCED_WAIT_SECONDS
            if grant.granted or is_long or self._clock.monotonic() + grant.wait_seconds >= deadline:
                return grant
            await self._clock.sleep(max(grant.wait_seconds, _MIN_WAIT_SECONDS))

    async def _wait_at_the_head(self, grant: QuotaGrant) -> None:
        """Wait as the ledger demands, for the whole queue, or until a submit of a higher priority arrives, which then asks itself."""
        wait = grant.wait_seconds + self._rng.uniform(0, min(_MAX_JITTER_SECONDS, grant.wait_seconds / 10))
        self._rest = _Rest(self._clock.monotonic() + wait, grant.reason)
        for waits in filter(None, self._queue.values()):
            waits.announce(wait, grant.reason)
        # Ask again in between: a block may end early, by `pushengine quota reset` or because a wrong clock had set it.
        seconds = min(wait, _MAX_BLOCKED_SLEEP_SECONDS) if grant.reason == "server" else wait
        waiting = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._turns.outranked())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._rest = None
            await cancel_and_wait(*waiting)
        for ticket in self._queue:
            self._watch(ticket)

    @contextlib.contextmanager
    def _queued(self, priority: int, waits: _Announcements | None = None) -> Iterator[Ticket]:
        """Hold a place in the queue, and announce waits to `waits`."""
        ticket = self._turns.join(priority)
        self._queue[ticket] = waits
        if waits is not None and self._rest is not None:
            waits.announce(max(self._rest.until - self._clock.monotonic(), 0.0), self._rest.reason)
        self._watch(ticket)
        try:
            yield ticket
        finally:
            self._turns.leave(ticket)
            del self._queue[ticket]
            if waits is not None and waits.timer is not None:
                waits.timer.cancel()

    def _watch(self, ticket: Ticket) -> None:
        """Announce an estimated wait if the submit is still in the queue in `SILENT_SECONDS`, and the queue moves."""
        waits = self._queue[ticket]
        if waits is None:
            return

        def announce() -> None:
            if self._rest is None:
                waits.announce(max(self._turns.index(ticket), 1) * self._ledger.spacing_seconds, "turn")

        if waits.timer is not None:
            waits.timer.cancel()
        waits.timer = asyncio.get_running_loop().call_later(SILENT_SECONDS, announce)

    async def refused(self, retry_after_seconds: float | None) -> float:
        """Block submits on the whole host after a submit got a 429; return the requested length in seconds, before the ledger's limits.

        Args:
            retry_after_seconds: The time that the server specified, in seconds, or None.

        Raises:
            LedgerError: The ledger cannot be used.
        """
        # A 429 without a time (the documented one has no content) has two possible causes: the per-second quota, which recovers at once,
        # or the hourly quota, which other tools of the team spend too and which recovers at the next full UTC hour. The first few refusals
        # in a row are attributed to the per-second quota, unless the ledger's count says that the hour is nearly spent.
        now, host_now = self._server_clock.now(), self._clock.now()
        seconds, named = retry_after_seconds, "gave no retry time"
        if seconds is None:
            spent = await self._off_loop(self._ledger.spent, self._team, now, host_now)
            is_hour_spent = spent >= self._ledger.submits_per_hour * _NEARLY_SPENT
            short_waits = () if is_hour_spent else _SHORT_WAITS_SECONDS
            until_next_hour = 3600.0 - now % 3600.0
            seconds = dict(enumerate(short_waits)).get(self._refusals_in_a_row, until_next_hour)
        else:
            named = f"asked to wait {round(seconds, 1):g} s"
        self._refusals_in_a_row += 1
        await self._off_loop(
            self._ledger.block,
            self._team,
            seconds,
            now,
            host_now,
            is_named=retry_after_seconds is not None,
            reason=f"the server refused a submit (429) and {named}",
        )
        return seconds

    def accepted(self) -> None:
        """Note that the server accepted a submit, so that earlier refusals no longer count."""
        self._refusals_in_a_row = 0

    async def spent(self) -> int:
        """Return the number of grants in this UTC hour that the ledger has counted."""
        return await self._off_loop(self._ledger.spent, self._team, self._server_clock.now(), self._clock.now())

    def __repr__(self) -> str:
        return f"<SubmitLimiter {self._team} {self._ledger!r} offset {self._server_clock.offset_seconds:+.1f} s>"


class _Rest(NamedTuple):
    """A wait of the whole queue: until when by the monotonic clock, in seconds, and why."""

    until: float
    reason: str


class _Announcements:
    """Announces the waits of one submit, each of them once.

    Attributes:
        timer: Announces that the submit waits in the queue.
    """

    def __init__(
        self, on_wait: Callable[[dt.datetime, float, str], None], server_clock: ServerClock, clock: Clock
    ) -> None:
        self._on_wait = on_wait
        self._server_clock = server_clock
        self._clock = clock
        self._announced_until = -math.inf
        self.timer: asyncio.TimerHandle | None = None

    def announce(self, wait_seconds: float, reason: str) -> None:
        """Announce a wait, unless an announced one is still running and this one ends at most `_SAME_WAIT_SECONDS` later."""
        now = self._clock.monotonic()  # a clock that is set back would make an announced wait seem to last longer
        if now < self._announced_until and now + wait_seconds <= self._announced_until + _SAME_WAIT_SECONDS:
            return
        self._announced_until = now + wait_seconds
        self._on_wait(utc(self._server_clock.now() + wait_seconds), wait_seconds, reason)
