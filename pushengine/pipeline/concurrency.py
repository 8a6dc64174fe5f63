"""Adapts the number of concurrent uploads of a push to its goodput, the rate of acknowledged bytes.

    goodput = mean number of running attempts * acknowledged bytes / total duration of the attempts

Attempts that started before the last change of the limit are ignored. This module is pure logic: no clock, no tasks. Times are seconds on
any clock that never steps back.

Epochs
    Each epoch yields one measurement. It ends with an acknowledgement, once it has lasted two seconds and the median duration of an upload,
    and once it has seen as many uploads as the limit (half while doubling; more if their rates vary). It is evidence only if, on average,
    at least 0.9 of the limit was in use.

Decisions
    *doubling*  At the start: double the limit as long as that gains 15 %.
    *growth*    Afterwards: try one more upload. Keep it, and try the next at once, if goodput rose by 5 %, or by 40 % of the gain on a
                free path (1 / limit), whichever is less. Otherwise go back.
    *trimming*  Try one upload fewer. Keep it if goodput drops by less than 3 % (less the measurement's uncertainty), so that the limit
                does not drift to its maximum on a saturated link.
    *refusal*   After a 429, 503, 504, stall or timeout: reduce to 0.7 of the limit, at most once per epoch. Attempts that started before
                the last such reduction do not count. The number of uploads at which it happened is avoided for 15 epochs, doubling each
                time up to 120.
    *fall*      Goodput dropped by 20 % at an unchanged limit, twice in a row: the path has changed. Reduce to 0.9 and grow again.
    After a trial that was taken back, the limit rests for some epochs before the next one; this rest doubles each time.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import statistics
from typing import Literal

START_LIMIT = 4
SHORTEST_EPOCH_SECONDS = 2.0
_DOUBLING_GAIN = 1.15
_GROWTH_SHARE, _GROWTH_GAIN = 0.4, 0.05
_TRIM_LOSS = 0.03
_REFUSAL_FACTOR = 0.7
_FALL, _FALL_FACTOR = 0.8, 0.9
_REACHED = 0.9  # share of the limit that must be running on average
_OVERDUE = 2.0  # multiple of the duration expected from an upload's size
_SMOOTHING = 0.3
_LONGEST_REST = {1: 8, -1: 32}  # epochs before growth (1) or trimming (-1) is tried again
_FIRST_AVOIDANCE, _LONGEST_AVOIDANCE = 15, 120  # epochs
_REMEMBERED_UPLOADS = 33
_MOST_ROUNDS = 8.0  # uploads per connection that an epoch may require

Outcome = Literal["acknowledged", "refused", "failed"]
Reason = Literal["doubling", "growth", "trimming", "no gain", "loss", "not reached", "refusal", "fall"]


@dataclasses.dataclass(frozen=True, slots=True)
class LimitChange:
    """A change of the limit.

    Attributes:
        before: The previous limit.
        after: The new limit.
        reason: The rule that decided. "no gain", "loss" and "not reached" take a trial back.
        bytes_per_second: Goodput of the epoch that ended; None if the change did not end a complete epoch.
    """

    before: int
    after: int
    reason: Reason
    bytes_per_second: float | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RunningAttempt:
    """An attempt to upload a chunk; `in_flight` is the number of attempts running when it started, including itself."""

    nbytes: int
    started_at: float
    in_flight: int


class _Epoch:
    """The measurements of one epoch.

    Goodput is computed from whole attempts, because an upload is acknowledged as a whole. One acknowledged upload, however large, yields a
    first value. Response times are not used: for bodies of 10-500 MB they measure the body, not the path.
    """

    def __init__(self, started_at: float) -> None:
        self.started_at = self.updated_at = started_at
        self.uploads = 0
        self.nbytes = 0
        self._attempt_seconds = 0.0
        self._busy_seconds = 0.0

    def advance(self, now: float, busy: int) -> None:
        self._busy_seconds += busy * (now - self.updated_at)
        self.updated_at = now

    def add(self, attempt: RunningAttempt, seconds: float, outcome: Outcome) -> None:
        self._attempt_seconds += seconds
        if outcome == "acknowledged":
            self.uploads += 1
            self.nbytes += attempt.nbytes

    @property
    def mean_busy(self) -> float:
        """Mean number of running attempts; those above the limit do not count."""
        return self._busy_seconds / max(self.updated_at - self.started_at, 1e-9)

    def goodput(self, running: set[RunningAttempt]) -> float:
        """Return the goodput in bytes per second; `running` are the attempts that have not ended."""
        # Failed attempts count with their duration. So does a running one that takes over twice the time expected from its size:
        # this detects stalled uploads before they end.
        expected = _OVERDUE * self._attempt_seconds / max(self.nbytes, 1)
        overdue = sum(
            self.updated_at - max(one.started_at, self.started_at)
            for one in running
            if self.updated_at - one.started_at > expected * one.nbytes
        )
        return self.mean_busy * self.nbytes / max(self._attempt_seconds + overdue, 1e-9)


class ConcurrencyController:
    """The limit on concurrent uploads of one push.

    Concurrent pushes find their shares of a link without coordination: on a saturated link, growth gains each of them less than the rule
    requires. With a common limit, chunks that one push has already taken off its queue would wait in memory for another push's uploads.

    Args:
        lowest: Lower bound of the limit.
        highest: Upper bound of the limit.

    Attributes:
        limit: Current maximum number of concurrent uploads. When it falls, uploads already running continue.
    """

    def __init__(self, *, lowest: int, highest: int) -> None:
        self.limit = min(max(START_LIMIT, lowest), highest)
        self._lowest, self._highest = lowest, highest
        self._running: set[RunningAttempt] = set()
        self._recent: collections.deque[tuple[float, float]] = collections.deque(maxlen=_REMEMBERED_UPLOADS)
        self._epoch: _Epoch | None = None
        self._changed_at = -math.inf
        self._base_limit = self.limit  # the limit to which a failed trial returns
        self._goodput: float | None = None  # at the base limit
        self._is_doubling = self.limit < highest
        self._has_fallen = False
        self._rest = {1: 0, -1: 0}
        self._next_rest = {1: 1, -1: 1}
        self._refused_at = -math.inf
        self._ceiling: int | None = None
        self._avoidance = 0
        self._next_avoidance = _FIRST_AVOIDANCE

    def __repr__(self) -> str:
        rate = "unknown" if self._goodput is None else f"{self._goodput / 1e6:.1f} MB/s"
        return f"<ConcurrencyController {len(self._running)} of {self.limit} uploads, goodput {rate}>"

    # ---------------------------------------------------------------------------------------------- reported by the uploader

    def started(self, nbytes: int, now: float) -> RunningAttempt:
        """Record the start of an attempt to upload `nbytes` bytes."""
        self._advance(now)
        attempt = RunningAttempt(max(nbytes, 1), now, len(self._running) + 1)
        self._running.add(attempt)
        return attempt

    def ended(self, attempt: RunningAttempt, now: float, outcome: Outcome) -> LimitChange | None:
        """Record the end of an attempt, and return the change of the limit that follows, if any.

        The outcome is "refused" after a 429, 503, 504, stall or timeout, and "failed" after any other error, which says nothing about load.
        """
        epoch = self._advance(now)
        self._running.discard(attempt)
        seconds = now - attempt.started_at
        if attempt.started_at >= self._changed_at:
            epoch.add(attempt, seconds, outcome)
        if outcome == "refused":
            return self._refused(attempt, now)
        if outcome == "acknowledged":
            self._recent.append((seconds, seconds / attempt.nbytes))
            if now - epoch.started_at >= self._epoch_seconds() and epoch.uploads >= self._required_uploads():
                return self._decide(epoch, now)
        return None

    # -------------------------------------------------------------------------------------------------------------- evidence

    def _advance(self, now: float) -> _Epoch:
        if self._epoch is None:
            self._epoch = _Epoch(now)
        self._epoch.advance(now, min(len(self._running), self.limit))
        return self._epoch

    def _epoch_seconds(self) -> float:
        median = statistics.median(seconds for seconds, _ in self._recent) if self._recent else 0.0
        return max(SHORTEST_EPOCH_SECONDS, median)

    def _variation(self) -> float:
        """Return the standard deviation of the recent uploads' seconds per byte, relative to their mean."""
        rates = [seconds_per_byte for _, seconds_per_byte in self._recent] or [1.0]
        return statistics.pstdev(rates) / max(statistics.fmean(rates), 1e-18)

    def _required_uploads(self) -> float:
        """Return the number of acknowledged uploads that an epoch needs."""
        # Half as many are enough while doubling, which needs only a coarse measurement.
        rounds = 0.5 if self._is_doubling else 1.0
        return self.limit * rounds * min(1 + 8 * self._variation() ** 2, _MOST_ROUNDS)

    # -------------------------------------------------------------------------------------------------------------- decisions

    def _refused(self, attempt: RunningAttempt, now: float) -> LimitChange | None:
        tried = max(attempt.in_flight, self.limit)
        after = max(self._lowest, min(round(tried * _REFUSAL_FACTOR), tried - 1))
        is_handled = attempt.started_at <= self._refused_at or now - self._refused_at < self._epoch_seconds()
        if after >= self.limit or is_handled:
            return None
        self._refused_at = now
        self._ceiling = max(after, attempt.in_flight - 1)
        self._avoidance = self._next_avoidance
        self._next_avoidance = min(2 * self._next_avoidance, _LONGEST_AVOIDANCE)
        self._is_doubling = False
        return self._start_over(after, "refusal", now, None)

    def _decide(self, epoch: _Epoch, now: float) -> LimitChange | None:
        goodput = epoch.goodput(self._running)
        self._epoch = _Epoch(now)
        self._avoidance = max(self._avoidance - 1, 0)
        if not self._avoidance:
            self._ceiling = None
        if epoch.mean_busy < _REACHED * self.limit:
            return self._judge_limit_not_reached(epoch, goodput, now)
        doubt = self._variation() / math.sqrt(epoch.uploads)
        if self.limit > self._base_limit:
            return self._judge_growth(goodput, now)
        if self.limit < self._base_limit:
            return self._judge_trimming(goodput, now, doubt)
        return self._judge_no_trial(goodput, now, doubt)

    def _judge_limit_not_reached(self, epoch: _Epoch, goodput: float, now: float) -> LimitChange | None:
        """End a trial in an epoch that did not reach the limit; the limit becomes the number of uploads that was sufficient."""
        # Such an epoch proves nothing: while uploaders wait for the producer, a higher limit cannot help.
        if self.limit == self._base_limit:
            return None
        self._wait_for_next(1 if self.limit > self._base_limit else -1)
        enough = max(min(math.ceil(epoch.mean_busy), self.limit), self._base_limit)
        return self._adopt(enough, None, "not reached", now, goodput)

    def _judge_no_trial(self, goodput: float, now: float, doubt: float) -> LimitChange | None:
        if self._goodput is not None and goodput < self._goodput * min(_FALL, 1 - 3 * doubt):
            if self._has_fallen:
                return self._start_over(min(self.limit - 1, int(self.limit * _FALL_FACTOR)), "fall", now, goodput)
            self._has_fallen = True
            return None
        self._has_fallen = False
        known = goodput if self._goodput is None else self._goodput
        self._goodput = known + _SMOOTHING * (goodput - known)
        return self._try_next(now, goodput)

    def _judge_growth(self, goodput: float, now: float) -> LimitChange | None:
        known = self._goodput or goodput
        gain = goodput / known
        if self._is_doubling and gain < _DOUBLING_GAIN:
            self._is_doubling = False
            # The number of uploads that reaches this goodput at the previous rate per connection.
            enough = min(math.ceil(self._base_limit * max(gain, 1.0)), self.limit)
            return self._adopt(enough, known if enough == self._base_limit else None, "no gain", now, goodput)
        if not self._is_doubling and gain < 1 + min(_GROWTH_SHARE / self._base_limit, _GROWTH_GAIN):
            self._wait_for_next(1)
            return self._adopt(self._base_limit, known, "no gain", now, goodput)
        self._base_limit, self._goodput = self.limit, goodput
        self._rest[1], self._next_rest[1] = 0, 1
        if self._is_doubling and self.limit >= self._highest:
            self._is_doubling, self._goodput = False, None  # too coarse to judge single steps against
            return None
        return self._try_next(now, goodput)

    def _judge_trimming(self, goodput: float, now: float, doubt: float) -> LimitChange | None:
        known = self._goodput or goodput
        if goodput < known * (1 - _TRIM_LOSS + doubt):
            self._wait_for_next(-1)
            return self._adopt(self._base_limit, known, "loss", now, goodput)
        self._base_limit = self.limit  # goodput stays the reference, so that small losses add up
        return self._try_next(now, goodput)

    def _try_next(self, now: float, goodput: float) -> LimitChange | None:
        """Start the next trial. If none is due or possible, the limit rests for another epoch."""
        highest = min(self._highest, self._ceiling or self._highest)
        if self._rest[1] <= 0 and self.limit < highest:
            if self._is_doubling:
                return self._change(min(2 * self.limit, highest), "doubling", now, goodput)
            return self._change(self.limit + 1, "growth", now, goodput)
        if self._rest[-1] <= 0 and self.limit > self._lowest:
            return self._change(self.limit - 1, "trimming", now, goodput)
        self._rest = {direction: rest - 1 for direction, rest in self._rest.items()}
        return None

    def _wait_for_next(self, direction: int) -> None:
        self._rest[direction] = self._next_rest[direction]
        self._next_rest[direction] = min(2 * self._next_rest[direction], _LONGEST_REST[direction])

    def _adopt(self, limit: int, known: float | None, reason: Reason, now: float, goodput: float) -> LimitChange | None:
        self._base_limit, self._goodput = limit, known
        return self._change(limit, reason, now, goodput)

    def _start_over(self, limit: int, reason: Reason, now: float, goodput: float | None) -> LimitChange | None:
        """Set the limit and forget what was measured, because the path has changed. Growth is tried first."""
        self._base_limit, self._goodput = max(limit, self._lowest), None
        self._has_fallen = False
        self._rest, self._next_rest = {1: 0, -1: 4}, {1: 1, -1: 4}
        return self._change(self._base_limit, reason, now, goodput)

    def _change(self, after: int, reason: Reason, now: float, goodput: float | None) -> LimitChange | None:
        before, self.limit = self.limit, after
        if after == before:
            return None
        self._changed_at = now
        self._epoch = _Epoch(now)
        return LimitChange(before, after, reason, goodput)
