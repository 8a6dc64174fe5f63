"""The submit quota of a team: one limit for any second and one for each UTC hour."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Verdict:
    """The decision of the quota on one submit, with the state of the window that decided it."""

    granted: bool
    limit: int
    remaining: int
    reset_seconds: int


class SubmitQuota:
    """A quota that counts submits as they arrive.

    The hour is a fixed window that starts on the full UTC hour. The second is a sliding window: no one-second interval,
    wherever it starts, contains more than `per_second` granted submits.
    """

    def __init__(self, *, per_second: int, per_hour: int, refused_count: bool, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._per_hour = per_hour
        self._refused_count = refused_count
        self._now = now
        self._recent: deque[float] = deque()
        self._hour = 0
        self._spent_in_hour = 0

    @property
    def spent_in_hour(self) -> int:
        """Number of submits counted in the UTC hour of the latest submit."""
        return self._spent_in_hour

    def admit(self) -> Verdict:
        """Decide on a submit that arrives now, and count it; a refused submit counts only with `refused_count`."""
        now = self._now()
        self._roll(now)
        hour_is_open = self._spent_in_hour < self._per_hour
        granted = hour_is_open and len(self._recent) < self._per_second
        if granted or self._refused_count:
            self._recent.append(now)
            self._spent_in_hour += 1
        if hour_is_open and not granted:
            return Verdict(granted=False, limit=self._per_second, remaining=0, reset_seconds=1)
        return Verdict(
            granted=granted,
            limit=self._per_hour,
            remaining=max(0, self._per_hour - self._spent_in_hour),
            reset_seconds=math.ceil((self._hour + 1) * SECONDS_PER_HOUR - now),
        )

    def release(self, verdict: Verdict) -> Verdict:
        """Undo the latest granted submit, as if it had not arrived, and return its updated verdict."""
        self._recent.pop()
        self._spent_in_hour -= 1
        return replace(verdict, remaining=verdict.remaining + 1)

    def _roll(self, now: float) -> None:
        hour = int(now // SECONDS_PER_HOUR)
        if hour != self._hour:
            self._hour = hour
            self._spent_in_hour = 0
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
