"""Two hosts of one team push many tables again and again, over real HTTP, with faults, late commits and clocks that jump.

Each table must hold exactly its rows, every push must end, and memory, descriptors and threads must not grow. The short form ends after a
number of pushes, so that it does not depend on the speed of the machine. The long one takes an hour (`SOAK_SECONDS`):
`pytest -m slow tests/faults/test_soak.py`.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import itertools
import math
import os
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.far_emulator import FarEmulator

from pushengine import OAuthClient
from pushengine.config.settings import EngineSettings
from pushengine.engine import PushEngine
from pushengine.errors import PushEngineError
from pushengine.push.outcome import is_resumable
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers

SHORT_PUSHES, SHORT_TABLES = 60, 20
LONG_SECONDS, LONG_TABLES = float(os.environ.get("SOAK_SECONDS", "3600")), 300
AT_ONCE = 5
MAX_RUNS = 30
ROWS = 150
LONGEST_SILENCE_SECONDS = 60.0
"""Virtual time shows silences of two seconds (`test_simulation.py`); here the machine may be busy, so that only a hang is recognized."""
MAX_GROWTH_BYTES = 48 * 1024 * 1024
JUMPS = (0.0, 0.0, 3600.0, -3600.0, 20 * 3600.0, -20 * 3600.0, 90 * 86400.0)
LOGIN_PAGE = "<html>Sign in</html>"
FAULTS = [
    {"action": "status", "code": 500},
    {"action": "status", "code": 503, "after_commit": True},
    {"action": "rate_limit", "form": "retry_after", "seconds": 0.2},
    {"action": "drop_before"},
    {"action": "drop_before", "after_bytes": 3000},
    {"action": "drop_after", "reset": True},
    {"action": "commit_late", "seconds": 0.6},
    {"action": "commit_late", "seconds": 0.2},
    {"action": "truncated"},
    {"action": "malformed"},
    {"action": "empty"},
    {"action": "expire_tokens"},
    {"action": "status", "code": 200, "body": LOGIN_PAGE},
    {"action": "delay", "seconds": 0.2, "when": "after"},
]
PLAN = {"seed": 1, "faults": [{"operation": "*", "probability": 0.1 / len(FAULTS), **fault} for fault in FAULTS]}
SETTINGS = {
    "chunk_bytes": 64 * 1024,
    "sample_bytes": 64 * 1024,
    "max_uploads": 4,
    "encoder_threads": 2,
    "settle_seconds": 0.1,
    "quarantine_seconds": 1.0,
    "conflict_wait_seconds": 0.2,
    "retry_max_wait_seconds": 0.5,
    "poll_max_interval_seconds": 0.5,
    "hour_guard_seconds": 0.0,
    "submits_per_second": 20,
    "submits_per_hour": 1_000_000,
}


class JumpingClock(SystemClock):
    """The clock of this machine, which somebody changes now and then. The monotonic clock is not affected."""

    def __init__(self, rng):
        self._rng, self._off_by = rng, 0.0

    def now(self):
        return super().now() + self._off_by

    def jump(self):
        self._off_by = self._rng.choice(JUMPS)


class Host:
    """One host: an engine with a state folder and a clock of its own, and the tables that it loads."""

    def __init__(self, name, folder, url, encoders):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.clock = JumpingClock(random.Random(name))
        self.pushed = Counter()
        self.ended = Counter()
        self.silences = []
        self._heard_at = {}
        self._locks = defaultdict(asyncio.Lock)
        self.engine = PushEngine(
            url,
            pool_id="pool",
            auth=OAuthClient("id", "secret"),
            settings=EngineSettings(**SETTINGS),
            state_dir=self.folder / "state",
            sinks=[self],
            runtime=Runtime(
                clock=self.clock,
                rng=random.Random(name),
                filesystem=LocalFileSystem(),
                off_loop=asyncio.to_thread,
                new_workers=functools.partial(ThreadWorkers, encoders),
            ),
        )

    def emit(self, event):
        now = self.clock.monotonic()
        seconds = now - self._heard_at.get(event.push_id, now)
        if seconds > LONGEST_SILENCE_SECONDS:
            self.silences.append((seconds, event))
        self._heard_at[event.push_id] = now
        if hasattr(event, "receipt") or not event.push_id:
            del self._heard_at[event.push_id]

    async def load(self, number):
        """Push one table until it is DONE. Even tables are replaced, odd ones grow."""
        table = f"{self.name}{number}"
        path = self.folder / f"{table}.csv"
        if not path.exists():
            rng = random.Random(table)
            path.write_text("ID,TEXT\n" + "".join(f"{row},{rng.getrandbits(4000):x}\n" for row in range(ROWS)))
        async with self._locks[number]:
            await self._run_until_done(path, table, number)

    async def _run_until_done(self, path, table, number):
        for _run in range(MAX_RUNS):
            try:
                receipt = await self.engine.push(path, table=table, mode="append" if number % 2 else "replace")
            except PushEngineError as error:
                assert is_resumable(error), error
                assert str(error)
                self.ended[type(error).__name__] += 1
                continue
            assert (receipt.status, receipt.rows) == ("DONE", ROWS)
            self.pushed[number] += 1
            return
        raise AssertionError(f"table {table} is not loaded after {MAX_RUNS} runs: {self.ended}")


@dataclasses.dataclass(frozen=True)
class Usage:
    """What this process uses."""

    rss_bytes: int
    descriptors: int
    threads: int

    @classmethod
    def now(cls):
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count())


async def soak(folder, *, pushes, seconds, tables):
    """Push until `pushes` pushes have been started and `seconds` are over. Return the hosts, and the usage after each tenth push."""
    ends_at = time.monotonic() + seconds
    usages = []
    with contextlib.ExitStack() as stack:
        far = stack.enter_context(
            FarEmulator(
                fault_plan=PLAN,
                queue_seconds=0.0,
                run_seconds=0.0,
                submits_per_second=SETTINGS["submits_per_second"],
                submits_per_hour=SETTINGS["submits_per_hour"],
                rate_limit_headers=True,
            )
        )
        encoders = stack.enter_context(ThreadPoolExecutor(2))
        # Threads that stay: those of `to_thread`, and the encoders.
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(64)))
        list(encoders.map(time.sleep, [0.05, 0.05]))
        hosts = [Host(name, folder, far.url, encoders) for name in "AB"]
        numbers = itertools.count()

        async def work(host):
            for number in numbers:
                if number >= pushes or time.monotonic() > ends_at:
                    return
                await host.load(number % tables)
                if number % 10 == 9:
                    host.clock.jump()
                    usages.append(Usage.now())

        before = Usage.now()
        async with hosts[0].engine, hosts[1].engine, asyncio.TaskGroup() as group:
            for host in hosts * AT_ONCE:
                group.create_task(work(host))
        after = Usage.now()
        for host in hosts:
            for number, count in host.pushed.items():
                times = count if number % 2 else 1
                sql = f'select count(*), count(distinct ID), count(distinct TEXT) from "{host.name}{number}"'
                assert far.query(sql) == [(times * ROWS, ROWS, ROWS)], (host.name, number)
    return hosts, before, after, usages


def check(hosts, before, after, usages):
    assert [host.silences for host in hosts] == [[], []]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    half = len(usages) // 2
    early, late = usages[:half], usages[half:]
    for name in ("descriptors", "threads"):
        assert max(getattr(one, name) for one in late) <= 1.5 * max(getattr(one, name) for one in early) + 10
    assert max(one.rss_bytes for one in late) <= max(one.rss_bytes for one in early) + MAX_GROWTH_BYTES


@pytest.mark.timeout(300)
async def test_two_hosts_push_for_a_while_and_nothing_is_lost_doubled_or_leaked(tmp_path):
    hosts, *usage = await soak(tmp_path, pushes=SHORT_PUSHES, seconds=math.inf, tables=SHORT_TABLES)
    check(hosts, *usage)
    assert sum(host.pushed.total() for host in hosts) == SHORT_PUSHES


@pytest.mark.slow
@pytest.mark.timeout(LONG_SECONDS + 1200)
async def test_two_hosts_push_for_an_hour_and_nothing_is_lost_doubled_or_leaked(tmp_path):
    hosts, *usage = await soak(tmp_path, pushes=math.inf, seconds=LONG_SECONDS, tables=LONG_TABLES)
    check(hosts, *usage)
    print([(host.pushed.total(), dict(host.ended)) for host in hosts], usage[0], usage[1])  # noqa: T201
