"""The platform's time, from the `Date` headers of its responses.

A header is cut to whole seconds, so it only says that the time lies somewhere in a second; but the next one says so of another second, and
the truth is where they overlap. This matters twice: no submit leaves near a full hour, so an error below the guard cannot put it in the
wrong hour; and the spacing within the second holds over all processes only if their clocks agree, to about the margin that the ledger adds.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection
from typing import NamedTuple

from pushengine.runtime.clock import Clock

_MIN_AGREEING_SAMPLES = 3
_MAX_WITNESS_DIFFERENCE_SECONDS = 120.0
_MAX_ROUNDING_SECONDS = 1.0


class _Place(NamedTuple):
    low: float
    high: float
    samples: int


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
        if self._believed is None or before is None or abs(distance - self._believed) <= _MAX_ROUNDING_SECONDS:
            self._host_distance = host
        elif abs(host - before) > _MAX_WITNESS_DIFFERENCE_SECONDS >= abs(distance - host):
            self._distances.clear()
            self._believed, self._host_distance = None, host

    def _place(self) -> _Place | None:
        """Where the server's time lies, or None where there is too little to tell."""
        host = self._host_now()
        near = host if self._believed is None else self._believed
        place = _agreed(self._distances, near)
        if place.samples >= _MIN_AGREEING_SAMPLES:
            return place
        confirmed = [one for one in self._distances if abs(one - host) <= _MAX_WITNESS_DIFFERENCE_SECONDS]
        return _agreed(confirmed, near) if confirmed else None


def _agreed(distances: Collection[float], near: float) -> _Place:
    """Where most samples agree, each of which may be half a second off; the place nearest to `near` if several are as good."""
    edges = sorted([(distance - 0.5, 1) for distance in distances] + [(distance + 0.5, -1) for distance in distances])
    covering = itertools.accumulate(step for _, step in edges)
    places = [
        _Place(start, end, count)
        for count, ((start, _), (end, _)) in zip(covering, itertools.pairwise(edges), strict=False)
    ]
    return min(places, key=lambda place: (-place.samples, abs((place.low + place.high) / 2 - near)))
