"""What everything that works on a push is given: what all pushes of an engine share, and what belongs to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import PushEngineError
from pushengine.interfaces import Destination, Lock
from pushengine.journal.push_log import PushLog
from pushengine.journal.store import Journal
from pushengine.model import Target
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy, call_with_retries
from pushengine.quota.limiter import SubmitLimiter
from pushengine.runtime.aio import SILENT_SECONDS, announce_when_slow
from pushengine.runtime.clock import Clock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What all pushes of one engine share."""

    destination: Destination
    pool_id: str
    limiter: SubmitLimiter
    policy: RetryPolicy
    journal: Journal
    take_lock: Callable[[str], Lock]
    budget: ByteBudget
    engine_settings: EngineSettings
    runtime: Runtime
    drain: DrainSwitch
    sink: events.EventSink
    table_locks: dict[str, asyncio.Lock]
    finished: set[str]
    """Pushes that this engine brought to DONE and told its caller of. One that a killed process brought to DONE is told again."""


@dataclasses.dataclass(slots=True)
class Measures:
    """What this process measured of a push, for its receipt.

    Attributes:
        start: When the command began, by the monotonic clock.
        source_bytes: Size of the source, or None where it is not known.
        timings: Seconds by phase.
    """

    start: float
    retries: int = 0
    is_resumed: bool = False
    source_bytes: int | None = None
    timings: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class PushContext:
    """One push: where it goes, what is known of it, and how it waits, tries again and tells.

    Attributes:
        shared: What it shares with the engine's other pushes.
        target: Table, mode and keys.
        log: Its journal; emits the events of what is recorded.
        settings: The engine's, but for those that decided about the chunks of this push.
        measures: For its receipt.
    """

    shared: Shared
    target: Target
    log: PushLog
    settings: EngineSettings
    measures: Measures

    @property
    def push_id(self) -> str:
        """Its name."""
        return self.log.push_id

    @property
    def destination(self) -> Destination:
        """The platform."""
        return self.shared.destination

    @property
    def clock(self) -> Clock:
        """Measures and waits."""
        return self.shared.runtime.clock

    @property
    def rng(self) -> random.Random:
        """Source of jitter."""
        return self.shared.runtime.rng

    @property
    def drain(self) -> DrainSwitch:
        """Interrupts waits when the engine stops."""
        return self.shared.drain

    def emit(self, event: events.Event) -> None:
        """Tell what happens."""
        self.shared.sink.emit(event)

    def emit_wait(self, reason: str, seconds: float | None = None) -> None:
        """Tell of a wait, unless it is known to be short."""
        if seconds is None or seconds > SILENT_SECONDS:
            self.emit(events.WaitStarted(push_id=self.push_id, reason=reason, seconds=seconds))

    def emit_quota_wait(self, job_id: str, until: dt.datetime, wait_seconds: float, reason: str) -> None:
        """Tell until when a submit waits, and why: see `events.QuotaWaited`."""
        self.emit(
            events.QuotaWaited(
                push_id=self.push_id,
                job_id=job_id,
                until=f"{until:%Y-%m-%dT%H:%M:%SZ}",
                wait_seconds=wait_seconds,
                reason=reason,
            )
        )

    def announce_when_slow(self, reason: str) -> contextlib.AbstractContextManager[None]:
        """Tell of a wait in the block, if it gets long."""
        return announce_when_slow(lambda: self.emit_wait(reason))

    async def sleep(self, seconds: float) -> None:
        """Wait, until the engine drains.

        Raises:
            EngineClosedError: It drains.
        """
        await self.drain.guard(self.clock.sleep(seconds))

    def on_retry(self, operation: str, attempt: int, wait_seconds: float, error: PushEngineError) -> None:
        """Count and tell a wait before another attempt."""
        self.measures.retries += 1
        self.emit(
            events.RetryScheduled(
                push_id=self.push_id,
                operation=operation,
                attempt=attempt,
                wait_seconds=round(wait_seconds, 3),
                error=error.message,
            )
        )

    def backoff(self, attempt: int) -> float:
        """A random wait after `attempt`, where the policy alone does not decide; seconds."""
        return self.shared.policy.backoff(attempt, self.rng)

    async def repeat(self, call: Callable[[], Awaitable[T]], operation: str, *, max_attempts: int | None = None) -> T:
        """Make a call that is safe to repeat, as often as the retry policy allows.

        Args:
            call: Makes one attempt.
            operation: What it does, for messages.
            max_attempts: Fewer attempts than the policy allows.

        Raises:
            RetriesExhaustedError: After the last attempt.
            PushEngineError: What another attempt cannot help.
        """
        policy = self.shared.policy
        if max_attempts is not None:
            policy = dataclasses.replace(policy, max_attempts=min(policy.max_attempts, max_attempts))

        async def attempt() -> T:
            with self.announce_when_slow(f"no response yet, {operation}"):
                return await call()

        return await call_with_retries(
            attempt, operation=operation, policy=policy, clock=self.clock, rng=self.rng, on_retry=self.on_retry
        )

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time of the block to the receipt's timings."""
        start = self.clock.monotonic()
        try:
            yield
        finally:
            timings = self.measures.timings
            timings[phase] = timings.get(phase, 0.0) + self.clock.monotonic() - start
