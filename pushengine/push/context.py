"""What a push is given: the seams that a simulation owns, and what all pushes of one engine share."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable

from pushengine import events
from pushengine.config.load import EngineSettings
from pushengine.interfaces import Destination, FileSystem, Lock, OffLoop, Workers
from pushengine.journal.store import Journal
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.quota.limiter import SubmitLimiter
from pushengine.runtime.clock import Clock
from pushengine.runtime.drain import DrainSwitch


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What the engine does not make itself, so that a simulation can own it: time, chance, files and threads."""

    clock: Clock
    rng: random.Random
    filesystem: FileSystem
    off_loop: OffLoop
    new_workers: Callable[[], Workers]


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
