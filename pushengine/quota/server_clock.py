"""Estimate the platform's time from the `Date` headers of its responses.

A header is truncated to whole seconds, so it only places the time within an interval of one second. The overlap of several such intervals
is narrower. The accuracy matters because the server's clock decides which hour a submit counts for. No submit is sent near a full hour, so
an error below that guard time cannot put it into the wrong hour.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection
from typing import NamedTuple

from pushengine.runtime.clock import Clock

_MIN_AGREEING_SAMPLES = 3
_MAX_HOST_DIFFERENCE_SECONDS = 120.0
_MAX_ROUNDING_SECONDS = 1.0


class _Interval(NamedTuple):
    low: float
    high: float
    samples: int


class ServerClock:
    """The server's time, estimated from the `Date` headers of its latest responses.

    The estimate is stored as an offset from the monotonic clock, so that adjusting the host's clock does not change it. No single header is
    trusted: at least three must agree with each other, or one must agree with the host's clock. Until then, the host's clock is used.
    """

    def __init__(self, clock: Clock, *, samples: int = 31) -> None:
        self._clock = clock
        self._offsets: collections.deque[float] = collections.deque(maxlen=samples)
        self._estimate: float | None = None
        self._host_offset: float | None = None

    def observe(self, server_date: float, monotonic_midpoint: float) -> None:
        """Add a sample: a response's `Date` (seconds UTC, in whole seconds) and the monotonic time halfway through the call.

        The estimate moves only as far as the samples require: with a jittering clock, the ledger might refuse a submit that is due.
        """
        offset = server_date + 0.5 - monotonic_midpoint
        self._reset_after_sleep(offset)
        self._offsets.append(offset)
        interval = self._agreed_interval()
        if interval is not None:
            self._estimate = (
                (interval.low + interval.high) / 2
                if self._estimate is None
                else min(max(self._estimate, interval.low), interval.high)
            )

    def now(self) -> float:
        """Return the current time by the server's clock, in seconds UTC."""
        return self._clock.now() if self._estimate is None else self._clock.monotonic() + self._estimate

    @property
    def offset_seconds(self) -> float:
        """Seconds to add to the host's clock to get the server's; 0 while there is no estimate."""
        return 0.0 if self._estimate is None else self._estimate - self._current_host_offset()

    def _current_host_offset(self) -> float:
        """Return the host's clock as an offset from the monotonic clock, in seconds."""
        return self._clock.now() - self._clock.monotonic()

    def _reset_after_sleep(self, offset: float) -> None:
        """Discard all samples if the machine has slept.

        The monotonic clock may stop during sleep while the host's clock continues, which makes earlier offsets wrong. If the host's clock
        was only adjusted, the same jump is visible, but the new `Date` does not agree with the host's clock.
        """
        host, before = self._current_host_offset(), self._host_offset
        if self._estimate is None or before is None or abs(offset - self._estimate) <= _MAX_ROUNDING_SECONDS:
            self._host_offset = host
        elif abs(host - before) > _MAX_HOST_DIFFERENCE_SECONDS >= abs(offset - host):
            self._offsets.clear()
            self._estimate, self._host_offset = None, host

    def _agreed_interval(self) -> _Interval | None:
        """Return the interval that contains the server's offset, or None if the samples do not determine it."""
        host = self._current_host_offset()
        near = host if self._estimate is None else self._estimate
        interval = _agreed(self._offsets, near)
        if interval.samples >= _MIN_AGREEING_SAMPLES:
            return interval
        confirmed = [one for one in self._offsets if abs(one - host) <= _MAX_HOST_DIFFERENCE_SECONDS]
        return _agreed(confirmed, near) if confirmed else None


def _agreed(offsets: Collection[float], near: float) -> _Interval:
    """Return the interval where most samples agree, each within half a second; on a tie, the interval nearest to `near`."""
    edges = sorted([(offset - 0.5, 1) for offset in offsets] + [(offset + 0.5, -1) for offset in offsets])
    covering = itertools.accumulate(step for _, step in edges)
    intervals = [
        _Interval(start, end, count)
        for count, ((start, _), (end, _)) in zip(covering, itertools.pairwise(edges), strict=False)
    ]
    return min(intervals, key=lambda interval: (-interval.samples, abs((interval.low + interval.high) / 2 - near)))
