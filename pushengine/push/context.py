"""What a push is given: the seams that a simulation owns, and what all pushes of one engine share."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.interfaces import Destination, Lock
from pushengine.journal.store import Journal
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.quota.limiter import SubmitLimiter
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime


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
    settings: EngineSettings
    runtime: Runtime
    drain: DrainSwitch
    sink: events.EventSink
    table_locks: dict[str, asyncio.Lock]
    finished: set[str]
    """Pushes that this engine brought to DONE and told its caller of. One that a killed process brought to DONE is told again."""
