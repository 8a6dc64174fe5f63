"""Which failures are retried, and how a call with retries handles them."""

import asyncio
import random

import pytest

from pushengine.errors import (
    AuthenticationError,
    ConfigError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    RetriesExhaustedError,
    ServerError,
    SourceReadError,
    TransportError,
    UnexpectedResponseError,
)
from pushengine.pipeline.retry import Retries, RetryBudget, RetryDecision, RetryPolicy, call_with_retries
from pushengine.testing import VirtualClock, run_in_virtual_time

TRANSIENT = [
    ConnectionFailedError("no connection"),
    RequestTimeoutError("slow", phase="read"),
    TransportError("reset"),
    RateLimitedError("too many"),
    ServerError("broken", status=503),
]
FINAL = [
    OutcomeUnknownError("lost"),
    UnexpectedResponseError("nonsense", status=200),
    AuthenticationError("who?", status=401),
    PermissionDeniedError("no", status=403),
    NotFoundError("gone", status=404),
    ConflictError("busy", status=409),
    PayloadTooLargeError("big", status=413),
    InvalidRequestError("bad", status=400),
    ConfigError("bad key"),
    SourceReadError("bad file"),
]


def name_of(value):
    return type(value).__name__ if isinstance(value, Exception) else None


class FullJitter(random.Random):
    """A generator that always returns the maximum jitter."""

    def uniform(self, a, b):
        return b


def decide(error, *, policy=None, attempt=1, elapsed=0.0):
    return (policy or RetryPolicy()).decide(error, attempt=attempt, elapsed_seconds=elapsed, rng=FullJitter())


@pytest.mark.parametrize("error", TRANSIENT, ids=name_of)
def test_a_transient_error_is_retried(error):
    assert decide(error).retry


@pytest.mark.parametrize("error", FINAL, ids=name_of)
def test_a_permanent_error_or_an_unknown_outcome_is_not_retried(error):
    assert decide(error) == RetryDecision(retry=False)


def test_the_disposition_of_the_individual_error_decides():
    assert not decide(ServerError("broken", status=500, disposition="outcome_unknown")).retry


def test_waits_double_up_to_the_cap():
    policy = RetryPolicy(max_attempts=9, first_wait_seconds=1.0, max_wait_seconds=10.0)
    waits = [decide(TRANSIENT[0], policy=policy, attempt=attempt).wait_seconds for attempt in range(1, 8)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_waits_are_jittered_over_their_whole_range():
    policy, rng = RetryPolicy(first_wait_seconds=1.0), random.Random(3)
    waits = [policy.decide(TRANSIENT[0], attempt=1, elapsed_seconds=0, rng=rng).wait_seconds for _ in range(300)]
    assert min(waits) < 0.1
    assert 0.9 < max(waits) <= 1.0


@pytest.mark.parametrize("attempt", [1, 4])
def test_a_wait_that_the_server_asks_for_is_a_minimum_even_above_the_cap(attempt):
    policy = RetryPolicy(max_wait_seconds=5.0)
    error = RateLimitedError("too many", retry_after_seconds=90.0)
    for seed in range(50):
        wait = policy.decide(error, attempt=attempt, elapsed_seconds=0, rng=random.Random(seed)).wait_seconds
        assert 90.0 <= wait <= 95.0


@pytest.mark.parametrize(
    ("attempt", "elapsed", "retry_after"),
    [(5, 0.0, None), (7, 0.0, None), (1, 600.0, None), (1, 0.0, 600.0)],
    ids=["last attempt", "beyond the last attempt", "time is up", "the wait would be too long"],
)
def test_retries_end_after_the_last_attempt_or_the_maximum_time(attempt, elapsed, retry_after):
    decision = decide(RateLimitedError("no", retry_after_seconds=retry_after), attempt=attempt, elapsed=elapsed)
    assert (decision.retry, decision.is_exhausted) == (False, True)


class Call:
    """Raises the given errors one after the other, then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.attempts = []
        self.retries = []
        self.times = []

    async def once(self):
        self.attempts.append(len(self.attempts) + 1)
        self.times.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def run(self, policy=None, *, patience=0.0):
        retries = Retries(
            "upload of chunk 000001",
            policy=policy or RetryPolicy(),
            clock=VirtualClock(),
            rng=FullJitter(),
            patience_seconds=patience,
        )
        return await call_with_retries(
            self.once, retries, on_retry=lambda *retry: self.retries.append(retry), sleep=asyncio.sleep
        )


def test_a_successful_call_is_made_once():
    call = Call()
    assert run_in_virtual_time(call.run()) == "done"
    assert (call.attempts, call.retries) == ([1], [])


def test_a_call_with_transient_errors_is_retried_after_its_waits():
    errors = [ConnectionFailedError("a"), ServerError("b", status=502), RequestTimeoutError("c", phase="read")]
    call = Call(*errors)
    assert run_in_virtual_time(call.run(RetryPolicy(first_wait_seconds=2.0))) == "done"
    assert call.attempts == [1, 2, 3, 4]
    assert call.retries == [
        ("upload of chunk 000001", attempt, wait, error)
        for attempt, wait, error in zip((1, 2, 3), (2.0, 4.0, 8.0), errors, strict=True)
    ]
    assert call.times == pytest.approx([0.0, 2.0, 6.0, 14.0], abs=0.01)


def test_a_retry_waits_as_long_as_the_server_asks():
    call = Call(RateLimitedError("no", retry_after_seconds=45.0))
    run_in_virtual_time(call.run())
    assert 45.0 <= call.times[1] - call.times[0] <= 45.6


def test_the_final_error_reports_the_attempts_the_elapsed_time_and_the_cause():
    errors = [ServerError(f"broken {number}", status=500, hint="ask them") for number in range(3)]
    call = Call(*errors)
    with pytest.raises(RetriesExhaustedError) as caught:
        run_in_virtual_time(call.run(RetryPolicy(max_attempts=3, first_wait_seconds=1.0)))
    assert caught.value.attempts == 3
    assert caught.value.elapsed_seconds == pytest.approx(3.0, abs=0.01)
    assert caught.value.__cause__ is errors[-1]
    assert caught.value.hint == "ask them"
    assert all(part in str(caught.value) for part in ("upload of chunk 000001", " 3 attempts", " 3 s", "broken 2"))
    assert call.attempts == [1, 2, 3]


def test_with_a_single_allowed_attempt_the_original_error_is_raised():
    error = ServerError("broken", status=500)
    with pytest.raises(ServerError) as caught:
        run_in_virtual_time(Call(error).run(RetryPolicy(max_attempts=1)))
    assert caught.value is error


@pytest.mark.parametrize("error", FINAL, ids=name_of)
def test_a_call_that_must_not_be_retried_is_made_once(error):
    call = Call(error)
    with pytest.raises(type(error)) as caught:
        run_in_virtual_time(call.run())
    assert caught.value is error
    assert (call.attempts, call.retries) == ([1], [])


def test_a_permanent_error_after_a_transient_one_ends_the_retries():
    call = Call(ConnectionFailedError("a"), OutcomeUnknownError("b"))
    with pytest.raises(OutcomeUnknownError):
        run_in_virtual_time(call.run())
    assert call.attempts == [1, 2]


def test_no_attempt_starts_after_the_maximum_time():
    call = Call(*(ServerError("broken", status=500) for _ in range(100)))
    policy = RetryPolicy(max_attempts=100, first_wait_seconds=8.0, max_wait_seconds=8.0, max_elapsed_seconds=30.0)
    with pytest.raises(RetriesExhaustedError):
        run_in_virtual_time(call.run(policy))
    assert max(call.times) <= 30.0


@pytest.mark.parametrize("error", [asyncio.CancelledError(), ValueError("a bug")], ids=name_of)
def test_an_exception_from_outside_pushengine_is_raised_unchanged(error):
    call = Call(error)
    with pytest.raises(type(error)):
        run_in_virtual_time(call.run())
    assert (call.attempts, call.retries) == ([1], [])


def test_cancelling_during_a_wait_ends_it_at_once():
    call = Call(RateLimitedError("no", retry_after_seconds=300.0))

    async def main():
        task = asyncio.create_task(call.run())
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == pytest.approx(10, abs=0.01)
    assert call.attempts == [1]


# --- The retry budget that all calls share


def test_when_all_calls_fail_the_budget_limits_the_retries():
    """Many calls with a few attempts each would otherwise overload a platform that is down."""
    budget = RetryBudget(capacity=10)
    policy = RetryPolicy(max_attempts=5, budget=budget)
    attempts = []

    async def fail():
        attempts.append(len(attempts) + 1)
        raise ConnectionFailedError("refused")

    async def main():
        calls = (
            call_with_retries(
                fail,
                Retries("call", policy=policy, clock=VirtualClock(), rng=random.Random(1)),
                on_retry=lambda *retry: None,
                sleep=asyncio.sleep,
            )
            for _ in range(40)
        )
        return await asyncio.gather(*calls, return_exceptions=True)

    errors = run_in_virtual_time(main())
    assert len(errors) == 40
    assert all(isinstance(error, ConnectionFailedError | RetriesExhaustedError) for error in errors)
    assert len(attempts) == 40 + 10
    assert budget.left == 0


def test_successful_calls_earn_retries_up_to_the_capacity():
    budget = RetryBudget(capacity=10, earned_by_success=0.5)
    for _ in range(4):
        budget.spend()
    for _ in range(3):
        budget.earn()
    assert budget.left == 7.5
    for _ in range(100):
        budget.earn()
    assert budget.left == 10


def test_a_call_that_succeeds_earns_and_the_time_counts_as_the_last_success():
    policy = RetryPolicy(budget=RetryBudget(capacity=10, earned_by_success=0.5))
    policy.budget.left = 4.0
    run_in_virtual_time(Call(ConnectionFailedError("refused")).run(policy))
    assert policy.budget.left == 4.0 - 1.0 + 0.5
    assert policy.last_success.at == pytest.approx(0.5, abs=0.01)


# --- Patience: `tests/faults/test_outages.py` has whole pushes


def test_the_backoff_stays_at_its_cap_however_many_attempts_there_were():
    assert RetryPolicy(max_wait_seconds=30.0).backoff(100_000, FullJitter()) == 30.0


def test_too_many_requests_are_no_outage():
    """The platform responds, so its limits hold as without patience, and the time of an outage before does not count."""
    policy = RetryPolicy(max_attempts=4)
    call = Call(*[ServerError("down", status=503)] * 30, *[RateLimitedError("no")] * 9)
    with pytest.raises(RetriesExhaustedError) as caught:
        run_in_virtual_time(call.run(policy, patience=1800.0))
    assert caught.value.attempts == 30 + 3  # the outage counts as one
    assert isinstance(caught.value.__cause__, RateLimitedError)
    assert policy.budget.left == policy.budget.capacity - 2


def test_with_patience_the_last_attempt_is_made_when_it_is_over():
    call = Call(*[ConnectionFailedError("refused")] * 1000)
    with pytest.raises(RetriesExhaustedError):
        run_in_virtual_time(call.run(RetryPolicy(max_attempts=2), patience=100.0))
    assert call.times[-1] == pytest.approx(100.0, abs=0.01)


def test_a_permanent_error_ends_a_call_with_patience_too():
    call = Call(ConnectionFailedError("refused"), AuthenticationError("no", status=401))
    with pytest.raises(AuthenticationError):
        run_in_virtual_time(call.run(patience=100.0))
