"""The context in which a push runs: what it shares with the engine's other pushes, and what belongs to it alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import PushEngineError
from pushengine.interfaces import Destination, Lock, Slot
from pushengine.journal.push_log import PushLog
from pushengine.journal.store import Journal
from pushengine.model import Target
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import Outage, Retries, RetryPolicy, call_with_retries
from pushengine.quota.limiter import SubmitLimiter
from pushengine.runtime.aio import SILENT_SECONDS, announce_when_slow
from pushengine.runtime.clock import Clock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime
from pushengine.text import utc

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """The objects that all pushes of one engine share."""

    destination: Destination
    pool_id: str
    limiter: SubmitLimiter
    policy: RetryPolicy
    journal: Journal
    take_lock: Callable[[str], Lock]
    """Locks a push by its identity."""
    take_table_lock: Callable[[str, str], Lock]
    """Locks a table, given its place and its name: see `state.lock.TableLock`."""
    budget: ByteBudget
    engine_settings: EngineSettings
    runtime: Runtime
    drain: DrainSwitch
    sink: events.EventSink
    table_locks: dict[str, asyncio.Lock]
    scratch: Path
    """Folder for temporary files; it may not exist yet."""
    rejects: Path
    """Folder of the files that list rejected rows; it may not exist yet."""
    said: set[str]
    """What the engine has said once and does not repeat for each push."""
    finished: set[str]
    """Ids of pushes that reached DONE and whose receipt this engine has returned to its caller. A push that reached DONE in a killed
    process is not among them: its receipt is returned once more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """The place of a push among the others of its process.

    Attributes:
        slot: Permission to read and upload; None means that none is needed.
        priority: Submits of a higher priority leave first.
    """

    slot: Slot | None = None
    priority: int = 0


@dataclasses.dataclass(slots=True)
class Measures:
    """What this process measures about a push, for the receipt.

    Attributes:
        start: Start of this session by the monotonic clock, seconds; spooling a stream is not included.
        source_bytes: Size of the source; None if unknown.
        timings: Seconds spent in each phase.
        outage: The time in which no call of the push succeeds.
    """

    start: float
    retries: int = 0
    is_resumed: bool = False
    source_bytes: int | None = None
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    outage: Outage = dataclasses.field(default_factory=Outage)


@dataclasses.dataclass(frozen=True, slots=True)
class PushContext:
    """One push: its target, its journal, and the means to wait, retry and emit events.

    Attributes:
        shared: What the push shares with the engine's other pushes.
        target: Table, mode and keys.
        log: The push's journal. Recording a fact also emits the corresponding events.
        settings: The engine's settings, except those that determine the chunks: these are kept as they were when the push was planned.
        measures: Measurements for the receipt.
        place: The place of the push among the others of its process.
    """

    shared: Shared
    target: Target
    log: PushLog
    settings: EngineSettings
    measures: Measures
    place: Place = dataclasses.field(default_factory=Place)

    @property
    def push_id(self) -> str:
        """The id of the push."""
        return self.log.push_id

    @property
    def destination(self) -> Destination:
        """The service that receives the chunks."""
        return self.shared.destination

    @property
    def clock(self) -> Clock:
        """The clock that measures and waits."""
        return self.shared.runtime.clock

    @property
    def rng(self) -> random.Random:
        """The random number generator for jitter."""
        return self.shared.runtime.rng

    @property
    def drain(self) -> DrainSwitch:
        """The switch that interrupts waits when the engine drains."""
        return self.shared.drain

    def emit(self, event: events.Event) -> None:
        """Send an event of the push to the engine's listeners."""
        self.log.emit(event)

    def emit_wait(self, reason: str, seconds: float | None = None) -> None:
        """Emit a `WaitStarted` event, unless the wait is known to be at most `SILENT_SECONDS`."""
        if seconds is None or seconds > SILENT_SECONDS:
            self.emit(events.WaitStarted(push_id=self.push_id, reason=reason, seconds=seconds))

    def emit_quota_wait(self, job_id: str, until: dt.datetime, wait_seconds: float, reason: str) -> None:
        """Emit a `QuotaWaited` event: until when a submit waits, and why."""
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
        """Emit a `WaitStarted` event if the block takes longer than `SILENT_SECONDS`."""
        return announce_when_slow(lambda: self.emit_wait(reason))

    async def take_slot(self) -> None:
        """Wait for the permission to read and upload, if the push needs one; returns at once if it has it.

        Raises:
            EngineClosedError: The engine drains.
        """
        if self.place.slot is not None:
            with self.announce_when_slow("others read and upload first"):
                await self.drain.guard(self.place.slot.acquire())

    def give_slot_back(self) -> None:
        """Let another push read and upload; this one may take the slot again."""
        if self.place.slot is not None:
            self.place.slot.release()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, unless the engine drains first.

        Raises:
            EngineClosedError: The engine drains.
        """
        await self.drain.guard(self.clock.sleep(seconds))

    def on_retry(self, operation: str, attempt: int, wait_seconds: float, error: PushEngineError) -> None:
        """Count a retry and emit its `RetryScheduled` event, before the wait."""
        self.measures.retries += 1
        self._announce_outage(wait_seconds)
        self.emit(
            events.RetryScheduled(
                push_id=self.push_id,
                operation=operation,
                attempt=attempt,
                wait_seconds=round(wait_seconds, 3),
                error=error.message,
            )
        )

    def _announce_outage(self, wait_seconds: float) -> None:
        """Emit a `WaitStarted` event, once, for an outage that is waited for and lasts longer than `SILENT_SECONDS`."""
        outage, now = self.measures.outage, self.clock.monotonic()
        if outage.since is None or outage.is_announced or not outage.is_running(self.shared.policy.last_success):
            return
        elapsed = now - outage.since
        if elapsed + wait_seconds > SILENT_SECONDS:
            outage.is_announced = True
            since = utc(self.clock.now() - elapsed)
            left = self.settings.patience - elapsed
            self.emit_wait(f"no call to the platform has succeeded since {since:%H:%M:%SZ}", left)

    def retries(self, operation: str, *, max_attempts: int | None = None) -> Retries:
        """Return what decides on the retries of one call, for callers that make the attempts themselves."""
        policy = self.shared.policy
        if max_attempts is not None:
            policy = dataclasses.replace(policy, max_attempts=min(policy.max_attempts, max_attempts))
        return Retries(
            operation,
            policy=policy,
            clock=self.clock,
            rng=self.rng,
            outage=self.measures.outage,
            patience_seconds=self.settings.patience,
        )

    def succeeded(self) -> None:
        """Note that a call to the platform has succeeded whose attempts spend no retries, so that it earns none back."""
        self.shared.policy.last_success.at = self.clock.monotonic()

    def backoff(self, attempt: int) -> float:
        """Return a random wait after `attempt`, seconds, for callers that do not leave the decision to the policy."""
        return self.shared.policy.backoff(attempt, self.rng)

    async def repeat(
        self,
        call: Callable[[], Awaitable[T]],
        operation: str,
        *,
        max_attempts: int | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> T:
        """Make a call that is safe to repeat, as often as the retry policy allows.

        Args:
            call: Makes one attempt.
            operation: What the call does, for messages.
            max_attempts: Maximum number of attempts, if the policy allows more.
            sleep: Waits for this many seconds before another attempt, and may raise to end the call; None means `self.sleep`.

        Raises:
            RetriesExhaustedError: The last allowed attempt failed.
            EngineClosedError: The engine drains while the call waits for another attempt.
            PushEngineError: An error that another attempt cannot fix.
        """

        async def attempt() -> T:
            with self.announce_when_slow(f"no response yet, {operation}"):
                return await call()

        retries = self.retries(operation, max_attempts=max_attempts)
        return await call_with_retries(attempt, retries, on_retry=self.on_retry, sleep=sleep or self.sleep)

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time that the block takes to the receipt's timings."""
        start = self.clock.monotonic()
        try:
            yield
        finally:
            timings = self.measures.timings
            timings[phase] = timings.get(phase, 0.0) + self.clock.monotonic() - start
