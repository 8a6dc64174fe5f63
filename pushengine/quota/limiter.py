"""The submit quota: at most 10 a second and 250 per UTC hour and team, by the server's clock.

Two gates before each submit. In this process submits queue up, first come, first served, and only the head of the queue asks the ledger;
`aiolimiter` spaces them (burst 1). The ledger, shared by all processes of the host, then spaces and counts over all of them. Who has
to wait for a second or more lets the others ask meanwhile, so that each push can say until when it waits; who stands in the queue for
longer than a moment says so too.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import math
import random
from collections.abc import Callable, Iterator

from aiolimiter import AsyncLimiter

from pushengine.interfaces import OffLoop, QuotaGrant, QuotaLedger
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.aio import announce_when_slow
from pushengine.runtime.clock import Clock
from pushengine.text import utc

_SHORT_WAITS_SECONDS = (1.0, 5.0, 30.0)
_NEARLY_SPENT = 0.95
_MIN_WAIT_SECONDS = 0.001
_MIN_ANNOUNCED_WAIT_SECONDS = 1.0
_MAX_JITTER_SECONDS = 2.0
_SAME_WAIT_SECONDS = 5.0
_MAX_BLOCKED_SLEEP_SECONDS = 60.0


def _ignore(_message: str) -> None:
    """Whoever does not want to be told."""


class SubmitLimiter:
    """Grants submits of one team inside its quota.

    Args:
        ledger: The count and the rules, shared by all processes of the host; called off the loop.
        team: Host of the team.
        server_clock: Which hour it is.
        clock: Waits.
        off_loop: Runs the ledger's blocking calls.
        rng: Jitter after long waits, so that processes which wait for the same hour do not wake as one.
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
        self._turn = asyncio.Lock()
        self._line: dict[object, None] = {}  # who waits for its turn, or has it, first come first
        self._refusals_in_a_row = 0

    async def acquire(
        self, on_wait: Callable[[dt.datetime, float, str], None], on_warning: Callable[[str], None] = _ignore
    ) -> int:
        """Wait for the right to submit once, now.

        Args:
            on_wait: Told (until in UTC, wait in seconds, reason) before each wait of a second or more, and in a line that takes longer than
                a moment; the reasons are those of `QuotaGrant`, and `turn` in the line, whose end is an estimate.
            on_warning: Told what the ledger had to correct in itself.

        Returns:
            Submits of this UTC hour that the ledger knows of, this one included.

        Raises:
            LedgerError: The ledger cannot be used; nothing may be submitted then.
        """
        waits = _Announcements(on_wait, self._server_clock)
        while not (grant := await self._take_turn(on_warning, on_line=waits.announce_queue)).granted:
            wait = grant.wait_seconds + self._rng.uniform(0, min(_MAX_JITTER_SECONDS, grant.wait_seconds / 10))
            waits.announce(wait, grant.reason)
            # A block may be lifted before its time: by `pushengine quota reset`, or because it was set by a wrong clock.
            await self._clock.sleep(min(wait, _MAX_BLOCKED_SLEEP_SECONDS) if grant.reason == "server" else wait)
        return grant.spent

    async def try_acquire(self, on_warning: Callable[[str], None] = _ignore) -> bool:
        """Take the right to submit once if it can be had without a wait of a second or more; True if it was.

        Raises:
            LedgerError: The ledger cannot be used; nothing may be submitted then.
        """
        if len(self._line) * self._ledger.spacing_seconds >= _MIN_ANNOUNCED_WAIT_SECONDS:
            return False
        try:
            grant = await self._take_turn(on_warning, patience_seconds=_MIN_ANNOUNCED_WAIT_SECONDS)
        except TimeoutError:
            return False
        return grant.granted

    async def _take_turn(
        self,
        on_warning: Callable[[str], None],
        *,
        on_line: Callable[[float], None] | None = None,
        patience_seconds: float | None = None,
    ) -> QuotaGrant:
        """A grant, or a wait of a second or more; shorter ones are waited for at the head of the queue, for as long as patience lasts.

        Raises:
            TimeoutError: The turn did not come in `patience_seconds`.
        """
        patience_ends_at = math.inf if patience_seconds is None else self._clock.monotonic() + patience_seconds
        with self._standing_in_line(on_line):
            async with asyncio.timeout(patience_seconds):
                await self._turn.acquire()
            try:
                await self._spacing.acquire()
                return await self._try_once(on_warning, patience_ends_at)
            finally:
                self._turn.release()

    async def _try_once(self, on_warning: Callable[[str], None], patience_ends_at: float) -> QuotaGrant:
        while True:
            grant = await self._off_loop(self._ledger.reserve, self._team, self._server_clock.now(), self._clock.now())
            if grant.warning:
                on_warning(grant.warning)
            is_long = grant.wait_seconds >= _MIN_ANNOUNCED_WAIT_SECONDS
            if grant.granted or is_long or self._clock.monotonic() + grant.wait_seconds >= patience_ends_at:
                return grant
            await self._clock.sleep(max(grant.wait_seconds, _MIN_WAIT_SECONDS))

    @contextlib.contextmanager
    def _standing_in_line(self, on_line: Callable[[float], None] | None) -> Iterator[None]:
        """Hold a place in the queue; `on_line` is told how long it will take if the turn has not come soon."""
        place = object()
        self._line[place] = None

        def announce() -> None:
            if on_line is not None:
                on_line(max(list(self._line).index(place), 1) * self._ledger.spacing_seconds)

        try:
            with announce_when_slow(announce):
                yield
        finally:
            del self._line[place]

    async def refused(self, retry_after_seconds: float | None) -> float:
        """A submit was answered with 429: grant nothing, on the whole host, before the server's time is over. Returns how long, in seconds.

        An answer without a time (the documented one has no content) has two possible causes. The quota of the second: it passes at once.
        The quota of the hour, which other tools of the team spend too: it passes at the next full UTC hour. The first refusals are taken for
        the former, unless our own count says that the hour is nearly spent.
        """
        now, host_now = self._server_clock.now(), self._clock.now()
        seconds, named = retry_after_seconds, "named no time"
        if seconds is None:
            spent = await self._off_loop(self._ledger.spent, self._team, now, host_now)
            is_hour_spent = spent >= self._ledger.submits_per_hour * _NEARLY_SPENT
            short_waits = () if is_hour_spent else _SHORT_WAITS_SECONDS
            until_next_hour = 3600.0 - now % 3600.0
            seconds = dict(enumerate(short_waits)).get(self._refusals_in_a_row, until_next_hour)
        else:
            named = f"asked for {round(seconds, 1):g} s"
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
        """A submit was taken: what refused before has passed."""
        self._refusals_in_a_row = 0

    async def spent(self) -> int:
        """Submits of this UTC hour that the ledger knows of."""
        return await self._off_loop(self._ledger.spent, self._team, self._server_clock.now(), self._clock.now())

    def __repr__(self) -> str:
        return f"<SubmitLimiter {self._team} {self._ledger!r} offset {self._server_clock.offset_seconds:+.1f} s>"


class _Announcements:
    """Tells the waits of one submit, each of them once."""

    def __init__(self, on_wait: Callable[[dt.datetime, float, str], None], server_clock: ServerClock) -> None:
        self._on_wait = on_wait
        self._server_clock = server_clock
        self._announced_until = -math.inf

    def announce(self, wait_seconds: float, reason: str) -> None:
        """It waits so long, unless that is what was told before."""
        now = self._server_clock.now()
        if now < self._announced_until and now + wait_seconds <= self._announced_until + _SAME_WAIT_SECONDS:
            return
        self._announced_until = now + wait_seconds
        self._on_wait(utc(self._announced_until), wait_seconds, reason)

    def announce_queue(self, wait_seconds: float) -> None:
        """It stands in the line and will for about so long."""
        self.announce(wait_seconds, "turn")
