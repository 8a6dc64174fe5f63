"""The submit quota: at most 10 a second and 250 per UTC hour and team, by the server's clock.

Two gates before each submit. In this process submits queue up, first come, first served, and only the head of the queue asks the ledger;
`aiolimiter` spaces them (burst 1). The ledger, shared by all processes of the host, then spaces and counts over all of them. Who has
to wait for a second or more lets the others ask meanwhile, so that each push can say until when it waits.

The hour is the server's: its `Date` headers tell its time. A header is cut to whole seconds, so it only says that the time
lies somewhere in a second; but the next one says so of another second, and the truth is where they overlap. This matters twice: no
submit leaves near a full hour, so an error below the guard cannot put it in the wrong hour; and the spacing within the second holds over
all processes only if their clocks agree, to about the margin that the ledger adds.
"""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
import itertools
import random
from collections.abc import Callable, Collection
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from pushengine.clock import Clock
from pushengine.types import OffLoop, QuotaGrant, QuotaLedger

_MIN_AGREEING_SAMPLES = 3
_MAX_WITNESS_DIFFERENCE_SECONDS = 120.0
_SHORT_WAITS_SECONDS = (1.0, 5.0, 30.0)
_NEARLY_SPENT = 0.95
_MIN_WAIT_SECONDS = 0.001
_MIN_ANNOUNCED_WAIT_SECONDS = 1.0
_MAX_JITTER_SECONDS = 2.0


class ServerClock:
    """Server time, estimated from the `Date` headers of its last answers.

    Kept as a distance from the monotonic clock, so that setting the host's clock does not move it. No single header is believed against
    everything else: at least three must agree, or one must agree with the host's own clock, which is a second witness then. Until then the
    host's clock is all there is.
    """

    def __init__(self, clock: Clock, *, samples: int = 31) -> None:
        self._clock = clock
        self._distances: collections.deque[float] = collections.deque(maxlen=samples)
        self._believed: float | None = None
        self._host_distance: float | None = None

    def observe(self, server_date: float, monotonic_midpoint: float) -> None:
        """Take one answer's `Date` (seconds UTC, cut to whole seconds) and the monotonic clock at the middle of the call.

        The estimate moves no further than the samples ask for: a clock that trembles would make the ledger refuse what is due.
        """
        distance = server_date + 0.5 - monotonic_midpoint
        self._forget_after_a_sleep(distance)
        self._distances.append(distance)
        place = self._place()
        if place is not None:
            self._believed = (
                (place.low + place.high) / 2
                if self._believed is None
                else min(max(self._believed, place.low), place.high)
            )

    def now(self) -> float:
        """Seconds UTC by the server's clock."""
        return self._clock.now() if self._believed is None else self._clock.monotonic() + self._believed

    @property
    def offset_seconds(self) -> float:
        """What to add to the host's clock; 0 while no header is believed."""
        return 0.0 if self._believed is None else self._believed - self._host_now()

    def _host_now(self) -> float:
        """The host's clock, as a distance from the monotonic one."""
        return self._clock.now() - self._clock.monotonic()

    def _forget_after_a_sleep(self, distance: float) -> None:
        """While the machine sleeps, the monotonic clock may stand still and the host's goes on: what was seen before means nothing then.

        A host clock that was merely set looks the same, but no `Date` agrees with it.
        """
        host, before = self._host_now(), self._host_distance
        self._host_distance = host
        is_host_moved = before is not None and abs(host - before) > _MAX_WITNESS_DIFFERENCE_SECONDS
        if is_host_moved and abs(distance - host) <= _MAX_WITNESS_DIFFERENCE_SECONDS:
            self._distances.clear()
            self._believed = None

    def _place(self) -> _Place | None:
        """Where the server's time lies, or None where there is too little to tell."""
        host = self._host_now()
        near = host if self._believed is None else self._believed
        place = _agreed(self._distances, near)
        if place.samples >= _MIN_AGREEING_SAMPLES:
            return place
        confirmed = [one for one in self._distances if abs(one - host) <= _MAX_WITNESS_DIFFERENCE_SECONDS]
        return _agreed(confirmed, near) if confirmed else None


class _Place(NamedTuple):
    low: float
    high: float
    samples: int


def _agreed(distances: Collection[float], near: float) -> _Place:
    """Where most samples agree, each of which may be half a second off; the place nearest to `near` if several are as good."""
    edges = sorted([(distance - 0.5, 1) for distance in distances] + [(distance + 0.5, -1) for distance in distances])
    covering = itertools.accumulate(step for _, step in edges)
    places = [
        _Place(start, end, count)
        for count, ((start, _), (end, _)) in zip(covering, itertools.pairwise(edges), strict=False)
    ]
    return min(places, key=lambda place: (-place.samples, abs((place.low + place.high) / 2 - near)))


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
        self._turn = asyncio.Lock()
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
        while not (grant := await self._ask_in_turn()).granted:
            wait = grant.wait_seconds + self._rng.uniform(0, min(_MAX_JITTER_SECONDS, grant.wait_seconds / 10))
            on_wait(self._utc_in(wait), wait, grant.reason)
            await self._clock.sleep(wait)
        return grant.spent

    async def _ask_in_turn(self) -> QuotaGrant:
        """A grant, or a wait of a second or more; shorter ones are waited for at the head of the queue."""
        async with self._turn:
            await self._spacing.acquire()
            while True:
                grant = await self._off_loop(
                    self._ledger.reserve, self._team, self._server_clock.now(), self._clock.now()
                )
                if grant.granted or grant.wait_seconds >= _MIN_ANNOUNCED_WAIT_SECONDS:
                    return grant
                await self._clock.sleep(max(grant.wait_seconds, _MIN_WAIT_SECONDS))

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
