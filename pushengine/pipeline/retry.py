"""Decides whether and when to retry a failed call.

A failed attempt has one of three dispositions (`error.disposition`): *transient* (it had no effect, so another attempt is safe), *terminal*
(another attempt cannot help) or *outcome unknown* (it may have taken effect). A call with an unknown outcome is never simply sent again:
the caller first determines what happened.

Without patience, a call ends after a few attempts. With it, the attempts of an outage do not count: the call is repeated until it succeeds
or no call of the push has succeeded for that long. A refusal for too many requests (429) is no outage. Neither is a host name that cannot
be resolved or a failed TLS handshake before the first success of the engine: then a wrong address is likelier.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pushengine.errors import ConnectionFailedError, PushEngineError, RateLimitedError, RetriesExhaustedError
from pushengine.runtime.clock import Clock
from pushengine.text import format_count

T = TypeVar("T")


def had_no_effect(error: PushEngineError) -> bool:
    """Return whether an error proves that a non-idempotent call had no effect: the call was refused or never sent."""
    return error.disposition == "terminal" or error.is_unsent or isinstance(error, RateLimitedError)


@dataclasses.dataclass(frozen=True, slots=True)
class RetryDecision:
    """The decision after a failed attempt.

    Attributes:
        retry: Whether to try again after `wait_seconds`.
        is_exhausted: Whether the error is retryable, but no retries are left.
    """

    retry: bool
    wait_seconds: float = 0.0
    is_exhausted: bool = False


class RetryBudget:
    """A budget of retries shared by all calls of an engine. Each retry spends from it, each successful call earns some back.

    When the platform is down, many calls with a few retries each become a retry storm; the budget ends it after about `capacity` retries.

    Args:
        capacity: Number of retries that can be made without any successful call.
        earned_by_success: Retries that one successful call earns back; may be a fraction.
    """

    def __init__(self, capacity: float = 100.0, earned_by_success: float = 0.2) -> None:
        self.capacity = capacity
        self.left = capacity
        self._earned_by_success = earned_by_success

    def spend(self) -> None:
        """Spend one retry, just before it is made."""
        self.left -= 1.0

    def earn(self) -> None:
        """Earn back retries after a successful call."""
        self.left = min(self.left + self._earned_by_success, self.capacity)


@dataclasses.dataclass(slots=True)
class LastSuccess:
    """When a call of the engine last succeeded, by the monotonic clock, seconds; None if none has."""

    at: float | None = None


@dataclasses.dataclass(slots=True)
class Outage:
    """The time in which no call of a push succeeds.

    Attributes:
        since: Start of the first attempt that failed after the last success, by the monotonic clock, seconds; None if none has.
        is_announced: Whether it has been reported.
    """

    since: float | None = None
    is_announced: bool = False

    def extend(self, started_at: float, last: LastSuccess) -> float:
        """Add a failed attempt that started at `started_at`; return the start of the outage."""
        if self.since is None or not self.is_running(last):
            self.since = started_at if last.at is None else max(started_at, last.at)
            self.is_announced = False
        return self.since

    def is_running(self, last: LastSuccess) -> bool:
        """Whether no call has succeeded since it began."""
        return self.since is not None and (last.at is None or last.at <= self.since)


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Capped exponential backoff with full jitter. A wait that the server asks for is the minimum.

    Attributes:
        max_attempts: Maximum attempts of one call, including the first.
        first_wait_seconds: Upper bound of the first wait; doubled for each further wait.
        max_wait_seconds: Upper bound of every wait, not counting the time that the server asks for.
        max_elapsed_seconds: Latest start of an attempt, counted from the start of the first one.
        budget: Retry budget shared by all calls under this policy. Attempts of an outage that is waited for spend nothing of it.
        last_success: When a call under this policy last succeeded.
    """

    max_attempts: int = 5
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_elapsed_seconds: float = 600.0
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)
    last_success: LastSuccess = dataclasses.field(default_factory=LastSuccess)

    def backoff(self, retries: int, rng: random.Random) -> float:
        """Return a random wait before another attempt, seconds. Its upper bound doubles with each of the `retries` made before."""
        return rng.uniform(0, min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** min(retries, 60)))

    def decide(
        self,
        error: PushEngineError,
        *,
        attempt: int,
        elapsed_seconds: float,
        rng: random.Random,
        is_reconciled: bool = False,
    ) -> RetryDecision:
        """Decide what follows after `attempt` (from 1) failed with `error`, `elapsed_seconds` after the first attempt started.

        `is_reconciled` means that the outcome was unknown, but the attempt has since been found to have had no effect, so another is safe.
        """
        if error.disposition != "transient" and not is_reconciled:
            return RetryDecision(retry=False)
        wait = self.backoff(attempt - 1, rng)
        if isinstance(error, RateLimitedError) and error.retry_after_seconds is not None:
            wait += error.retry_after_seconds
        is_out_of_time = elapsed_seconds + wait > self.max_elapsed_seconds
        if attempt >= self.max_attempts or is_out_of_time or self.budget.left < 1.0:
            return RetryDecision(retry=False, is_exhausted=True)
        return RetryDecision(retry=True, wait_seconds=wait)


def exhausted_error(
    operation: str, attempts: int, elapsed_seconds: float, error: PushEngineError
) -> RetriesExhaustedError:
    """Return the error to raise after the last allowed attempt failed with `error`."""
    return RetriesExhaustedError(
        f"{operation} failed in {format_count(attempts, 'attempt')} within {elapsed_seconds:.0f} s, last error: {error.message}",
        attempts=attempts,
        elapsed_seconds=elapsed_seconds,
        hint=error.hint or "run the same command again later",
    )


class Retries:
    """The attempts of one call: counts them, and decides what follows a failed one.

    Args:
        operation: What the call does, for messages.
        policy: Limits the attempts.
        clock: Measures the time.
        rng: Random number generator for jitter.
        outage: The time in which no call of the push succeeds, shared by its calls; None means that this is its only call.
        patience_seconds: Longest outage that the call waits for; 0 means that the limits of the policy hold for every failure.

    Attributes:
        operation: What the call does.
        attempts: Number of failed attempts.
    """

    def __init__(
        self,
        operation: str,
        *,
        policy: RetryPolicy,
        clock: Clock,
        rng: random.Random,
        outage: Outage | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        self.attempts = 0
        self.operation = operation
        self._policy = policy
        self._outage = outage or Outage()
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._rng = rng
        self._start = self._counted_since = self._attempt_start = clock.monotonic()
        self._counted = 0
        self._outage_since: float | None = None

    def start_attempt(self) -> None:
        """Note that an attempt starts now."""
        self._attempt_start = self._clock.monotonic()

    def leave_out(self, seconds: float) -> None:
        """Leave out the time for finding out what an attempt did: however long that takes, it does not use up the retries."""
        self._counted_since += seconds

    def succeeded(self) -> None:
        """Note that the call has succeeded, and earn retries back."""
        self._policy.budget.earn()
        self._policy.last_success.at = self._clock.monotonic()

    def wait_after(self, error: PushEngineError, *, is_reconciled: bool = False) -> float:
        """Return the seconds to wait before another attempt, after one failed with `error`.

        `is_reconciled` means that the outcome was unknown, but the attempt has since been found to have had no effect, so another is safe.

        Raises:
            RetriesExhaustedError: It was the last one that is allowed.
            PushEngineError: The error itself: another attempt cannot fix it, or only one is allowed.
        """
        self.attempts += 1
        now = self._clock.monotonic()
        is_retryable = error.disposition == "transient" or is_reconciled
        if is_retryable and self._is_outage(error):
            decision = self._decide_in_outage(now)
        else:
            self._counted += 1
            decision = self._policy.decide(
                error,
                attempt=self._counted,
                elapsed_seconds=now - self._counted_since,
                rng=self._rng,
                is_reconciled=is_reconciled,
            )
            if decision.retry:
                self._policy.budget.spend()
        if decision.is_exhausted and (self.attempts > 1 or is_reconciled):
            raise exhausted_error(self.operation, self.attempts, now - self._start, error) from error
        if not decision.retry:
            raise error
        return decision.wait_seconds

    def _is_outage(self, error: PushEngineError) -> bool:
        """Return whether a failed attempt is part of an outage that is waited for."""
        if not self._patience_seconds or isinstance(error, RateLimitedError):
            return False
        is_address_doubtful = isinstance(error, ConnectionFailedError) and error.phase in ("name", "tls")
        return not is_address_doubtful or self._policy.last_success.at is not None

    def _decide_in_outage(self, now: float) -> RetryDecision:
        """Wait until the outage has lasted too long. The last attempt is made then, not before."""
        policy = self._policy
        since = self._outage.extend(self._attempt_start, policy.last_success)
        if since != self._outage_since:
            # Other calls have succeeded in between, so this failure counts: the call may be one that never succeeds.
            self._outage_since = since
            self._counted += 1
        left = since + self._patience_seconds - now
        if left <= 0 or self._counted > policy.max_attempts:
            return RetryDecision(retry=False, is_exhausted=True)
        wait = min(policy.backoff(self.attempts - 1, self._rng), left)
        self._counted_since = now + wait
        return RetryDecision(retry=True, wait_seconds=wait)


async def call_with_retries(
    attempt_once: Callable[[], Awaitable[T]],
    retries: Retries,
    *,
    on_retry: Callable[[str, int, float, PushEngineError], None],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Make a call, and repeat it as long as its retries allow.

    Args:
        attempt_once: Makes one attempt.
        retries: Decides whether and when to try again.
        on_retry: Called with (operation, attempt, wait_seconds, error) before each wait.
        sleep: Waits for this many seconds, and may raise to end the call.

    Raises:
        RetriesExhaustedError: The last allowed attempt failed; its error is the cause.
        PushEngineError: An error that another attempt cannot fix, unchanged.
    """
    while True:
        retries.start_attempt()
        try:
            result = await attempt_once()
        except PushEngineError as error:
            wait = retries.wait_after(error)
            on_retry(retries.operation, retries.attempts, wait, error)
            await sleep(wait)
        else:
            retries.succeeded()
            return result
