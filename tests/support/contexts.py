"""The context of a push, for tests of a push's parts."""

import asyncio
import random
from pathlib import Path

from support.inline import inline
from support.journals import memory_log

from pushengine import EngineSettings
from pushengine.model import Target
from pushengine.pipeline.context import Measures, PushContext, Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.testing import RecordingSink


def push_context(
    destination,
    clock,
    *,
    log=None,
    limiter=None,
    sink=None,
    rng=None,
    policy=None,
    drain=None,
    target=None,
    push_id="p",
    **settings,
):
    """Return a push context with defaults for everything not given; call it inside the event loop."""
    sink = sink or RecordingSink()
    settings = EngineSettings(**settings)
    shared = Shared(
        destination=destination,
        pool_id="pool",
        limiter=limiter,
        policy=policy or RetryPolicy(),
        journal=None,
        take_lock=None,
        take_table_lock=None,
        budget=ByteBudget(settings.max_memory_bytes),
        engine_settings=settings,
        runtime=Runtime(
            clock=clock,
            rng=rng or random.Random(1),
            filesystem=LocalFileSystem(),
            off_loop=inline,
            new_workers=None,
        ),
        drain=drain or DrainSwitch(),
        sink=sink,
        table_locks={},
        scratch=Path("never used"),
        rejects=Path("never used"),
        said=set(),
        finished=set(),
    )
    return PushContext(
        shared=shared,
        target=target or Target("ORDERS"),
        log=log or memory_log(clock, push_id=push_id, sink=sink),
        settings=settings,
        measures=Measures(asyncio.get_running_loop().time()),
    )
