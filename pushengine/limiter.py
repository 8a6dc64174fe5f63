"""The submit quota: at most 10 a second and 250 per UTC hour and team, by the server's clock.

Two gates before each submit. `aiolimiter` spaces the submits of this process (burst 1), so that waiting tasks queue up fairly and do
not hammer the ledger; the ledger, shared by all processes of the host, then spaces and counts over all of them.

The hour is the server's: its `Date` headers, which have a resolution of one second, give the offset of our clock (median of the last
nine). No submit leaves near a full hour, so an error of the offset below the guard cannot put it in the wrong hour.
"""

from __future__ import annotations

import collections
import datetime as dt
import random
import statistics
from collections.abc import Callable

from aiolimiter import AsyncLimiter

from pushengine.clock import Clock
from pushengine.types import OffLoop, QuotaLedger

_SHORT_WAITS_SECONDS = (1.0, 5.0, 30.0)
_NEARLY_SPENT = 0.95
_MIN_WAIT_SECONDS = 0.001
_MIN_ANNOUNCED_WAIT_SECONDS = 1.0
_MAX_JITTER_SECONDS = 2.0


class ServerClock:
    """Server time, estimated from the `Date` headers of its answers."""

    def __init__(self, clock: Clock, *, samples: int = 9) -> None:
        self._clock = clock
        self._offsets: collections.deque[float] = collections.deque(maxlen=samples)

    def observe(self, server_date: float, local_midpoint: float) -> None:
        """Take one answer's `Date` (seconds UTC, cut to whole seconds) and our clock at the middle of the call."""
        self._offsets.append(server_date + 0.5 - local_midpoint)

    @property
    def offset_seconds(self) -> float:
        """What to add to our clock; 0 before the first answer."""
        return statistics.median(self._offsets) if self._offsets else 0.0

    def now(self) -> float:
        """Seconds UTC by the server's clock."""
        return self._clock.now() + self.offset_seconds


class SubmitLimiter:
    """Grants submits of one team inside its quota.

    Args:
        ledger: Shared count; called off the loop.
        team: Host of the team.
        server_clock: Which hour it is.
        clock: Waits.
        off_loop: Runs the ledger's blocking calls.
        rng: Jitter after long waits, so that processes which wait for the same hour do not wake as one.
        spacing_seconds: Least time between two submits of this process.
        submits_per_hour: Quota of a UTC hour, to judge a 429 that does not say how long.
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
        spacing_seconds: float,
        submits_per_hour: int,
    ) -> None:
        self._ledger = ledger
        self._team = team
        self._server_clock = server_clock
        self._clock = clock
        self._off_loop = off_loop
        self._rng = rng
        self._submits_per_hour = submits_per_hour
        self._spacing = AsyncLimiter(1, spacing_seconds)
        self._refusals_in_a_row = 0

    async def acquire(self, on_wait: Callable[[dt.datetime, float, str], None]) -> int:
        """Wait for the right to submit once, now.

        Args:
            on_wait: Told (until in UTC, wait in seconds, reason) before each wait of a second or more.

        Returns:
            Submits of this UTC hour that the ledger knows of, this one included.

        Raises:
            LedgerError: The ledger cannot be used; nothing may be submitted then.
        """
        while True:
            await self._spacing.acquire()
            grant = await self._off_loop(self._ledger.reserve, self._team, self._server_clock.now())
            if grant.granted:
                return grant.spent
            wait = grant.wait_seconds
            if wait >= _MIN_ANNOUNCED_WAIT_SECONDS:
                wait += self._rng.uniform(0, min(_MAX_JITTER_SECONDS, wait / 10))
                on_wait(self._utc_in(wait), wait, grant.reason)
            await self._clock.sleep(max(wait, _MIN_WAIT_SECONDS))

    async def refused(self, retry_after_seconds: float | None) -> None:
        """A submit was answered with 429: grant nothing, on the whole host, before the server's time is over.

        An answer without a time (the documented one has no content) has two possible causes. The quota of the second: it passes at once.
        The quota of the hour, which other tools of the team spend too: it passes at the next full UTC hour. The first refusals are taken for
        the former, unless our own count says that the hour is nearly spent.
        """
        now = self._server_clock.now()
        if retry_after_seconds is None:
            spent = await self._off_loop(self._ledger.spent, self._team, now)
            is_hour_spent = spent >= self._submits_per_hour * _NEARLY_SPENT
            short_waits = () if is_hour_spent else _SHORT_WAITS_SECONDS
            until_next_hour = 3600.0 - now % 3600.0
            retry_after_seconds = dict(enumerate(short_waits)).get(self._refusals_in_a_row, until_next_hour)
        self._refusals_in_a_row += 1
        await self._off_loop(self._ledger.block_until, self._team, now + retry_after_seconds)

    def accepted(self) -> None:
        """A submit was taken: what refused before has passed."""
        self._refusals_in_a_row = 0

    async def spent(self) -> int:
        """Submits of this UTC hour that the ledger knows of."""
        return await self._off_loop(self._ledger.spent, self._team, self._server_clock.now())

    def _utc_in(self, wait_seconds: float) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._server_clock.now() + wait_seconds, tz=dt.UTC)

    def __repr__(self) -> str:
        return f"<SubmitLimiter {self._team} {self._ledger!r} offset {self._server_clock.offset_seconds:+.1f} s>"
