"""A push in fast-forward: real HTTP and real files, but time runs fifty times as fast for the engine."""

import asyncio
import functools
import random
import time

from pushengine import OAuthClient
from pushengine.config.settings import EngineSettings
from pushengine.engine import PushEngine
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers

SPEED = 50.0


class FastClock:
    """Real time, fifty times as fast, starting ten minutes past a full hour."""

    def __init__(self):
        self._start = time.monotonic()
        self._epoch = 1_750_000_000.0 - 1_750_000_000.0 % 3600.0 + 600.0

    def now(self):
        return self._epoch + self.monotonic()

    def monotonic(self):
        return (time.monotonic() - self._start) * SPEED

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / SPEED)


async def push_once(url, clock, encoders, folder, source, **settings):
    """Push a file in small chunks with an engine of its own, as one process would."""
    runtime = Runtime(
        clock=clock,
        rng=random.Random(),
        filesystem=LocalFileSystem(),
        off_loop=asyncio.to_thread,
        new_workers=functools.partial(ThreadWorkers, encoders),
    )
    async with PushEngine(
        url,
        pool_id="pool",
        auth=OAuthClient("id", "secret"),
        settings=EngineSettings(**{"chunk_bytes": 64 * 1024, "max_uploads": 2, "quarantine_seconds": 40} | settings),
        state_dir=folder,
        runtime=runtime,
    ) as engine:
        return await engine.push(str(source), table="T", mode="append")
