"""Whether to try again, and when. Pure decisions: nothing here waits or sends.

One attempt ends in one of three outcomes (`error.disposition`): *transient* (nothing was done: another attempt is safe), *terminal*
(another attempt cannot help) or *outcome unknown* (it may have been done). The last is never answered by sending again; whoever asked
finds out what happened first.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pushengine.errors import ConnectionFailedError, PushEngineError, RateLimitedError, RetriesExhaustedError
from pushengine.runtime.clock import Clock

T = TypeVar("T")


def is_undone(error: PushEngineError) -> bool:
    """Whether this failure of a call that is not idempotent proves that nothing was done: it was refused, or never left."""
    return error.disposition == "terminal" or isinstance(error, ConnectionFailedError | RateLimitedError)


@dataclasses.dataclass(frozen=True, slots=True)
class RetryDecision:
    """What follows a failed attempt.

    Attributes:
        retry: Try again after `wait_seconds`.
        is_exhausted: Not again, although the error is of the kind that may pass.
    """

    retry: bool
    wait_seconds: float = 0.0
    is_exhausted: bool = False


class RetryBudget:
    """Retries that all calls of an engine share: spent by each retry, earned back by calls that work.

    When a platform is down, many calls with a few retries each are a storm; the budget ends it after about `capacity` retries.

    Args:
        capacity: Retries that may be made before a call must work again.
        earned_by_success: Retries that one call that works gives back.
    """

    def __init__(self, capacity: float = 100.0, earned_by_success: float = 0.2) -> None:
        self.capacity = capacity
        self.left = capacity
        self._earned_by_success = earned_by_success

    def spend(self) -> None:
        """A retry is about to be made."""
        self.left -= 1.0

    def earn(self) -> None:
        """A call worked."""
        self.left = min(self.left + self._earned_by_success, self.capacity)


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Capped exponential backoff with full jitter; a wait that the server asks for is honoured as a minimum.

    Attributes:
        max_attempts: Attempts of one call, the first included.
        first_wait_seconds: Upper bound of the first wait; doubled for each further one.
        max_wait_seconds: Cap of one wait of ours.
        max_elapsed_seconds: No attempt begins later than this after the first.
        budget: Shared by all calls that go by this policy.
    """

    max_attempts: int = 5
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0
    max_elapsed_seconds: float = 600.0
    budget: RetryBudget = dataclasses.field(default_factory=RetryBudget)

    def backoff(self, retries: int, rng: random.Random) -> float:
        """A random wait before another attempt, seconds; the longest possible one doubles with each of the `retries` before."""
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
        """The decision after `attempt` (from 1) failed with `error`, `elapsed_seconds` after the first attempt began.

        `is_reconciled`: the outcome was unknown and has been found out since: nothing was done, another attempt is safe.
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


def exhausted(operation: str, attempts: int, elapsed_seconds: float, error: PushEngineError) -> RetriesExhaustedError:
    """The error after the last allowed attempt failed with `error`."""
    return RetriesExhaustedError(
        f"{operation} failed {attempts} times in {elapsed_seconds:.0f} s, the last time with: {error.message}",
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
    """Repeat one call while the policy says so.

    Args:
        attempt_once: Makes one attempt.
        operation: What the call does, for messages.
        policy: Decides.
        clock: Measures and waits.
        rng: Source of jitter.
        on_retry: Told (operation, attempt, wait_seconds, error) before each wait.

    Raises:
        RetriesExhaustedError: After the last attempt; the last error is its cause.
        PushEngineError: Any error that another attempt cannot help, as it came.
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
                raise exhausted(operation, attempt, elapsed, error) from error
            if not decision.retry:
                raise
            policy.budget.spend()
            on_retry(operation, attempt, decision.wait_seconds, error)
            await clock.sleep(decision.wait_seconds)
        else:
            policy.budget.earn()
            return result
        attempt += 1
