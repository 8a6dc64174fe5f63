"""Decides whether and when to retry a failed call.

A failed attempt has one of three dispositions (`error.disposition`): *transient* (it had no effect, so another attempt is safe), *terminal*
(another attempt cannot help) or *outcome unknown* (it may have taken effect). A call with an unknown outcome is never simply sent again:
the caller first determines what happened.
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
    return error.disposition == "terminal" or isinstance(error, ConnectionFailedError | RateLimitedError)


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


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Capped exponential backoff with full jitter. A wait that the server asks for is the minimum.

    Attributes:
        max_attempts: Maximum attempts of one call, including the first.
        first_wait_seconds: Upper bound of the first wait; doubled for each further wait.
        max_wait_seconds: Upper bound of every wait, not counting the time that the server asks for.
        max_elapsed_seconds: Latest start of an attempt, counted from the start of the first one.
        budget: Retry budget shared by all calls under this policy.
    """

    max_attempts: int = 5
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_elapsed_seconds: float = 600.0
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)

    def backoff(self, retries: int, rng: random.Random) -> float:
        """Return a random wait before another attempt, seconds. Its upper bound doubles with each of the `retries` made before."""
        return rng.uniform(0, min(self.max_wait_seconds, self.first_wait_seconds * 2**retries))

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


async def call_with_retries(
    attempt_once: Callable[[], Awaitable[T]],
    *,
    operation: str,
    policy: RetryPolicy,
    clock: Clock,
    rng: random.Random,
    on_retry: Callable[[str, int, float, PushEngineError], None],
) -> T:
    """Make a call, and repeat it as long as the policy allows.

    Args:
        attempt_once: Makes one attempt.
        operation: What the call does, for messages.
        policy: Decides whether and when to try again.
        clock: Measures and waits.
        rng: Random number generator for jitter.
        on_retry: Called with (operation, attempt, wait_seconds, error) before each wait.

    Raises:
        RetriesExhaustedError: The last allowed attempt failed; its error is the cause.
        PushEngineError: An error that another attempt cannot fix, unchanged.
    """
    start = clock.monotonic()
    attempt = 1
    while True:
        try:
            result = await attempt_once()
        except PushEngineError as error:
            elapsed = clock.monotonic() - start
            decision = policy.decide(error, attempt=attempt, elapsed_seconds=elapsed, rng=rng)
            if decision.is_exhausted and attempt > 1:
                raise exhausted_error(operation, attempt, elapsed, error) from error
            if not decision.retry:
                raise
            policy.budget.spend()
            on_retry(operation, attempt, decision.wait_seconds, error)
            await clock.sleep(decision.wait_seconds)
        else:
            policy.budget.earn()
            return result
        attempt += 1
