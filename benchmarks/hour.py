"""Do 300 small tables, pushed at once, use all 250 submits of the hour, and not one more?

The real engine runs in virtual time: pushes, limiter, quota ledger and journal are the shipped ones, and two hours pass in seconds. The
platform is in memory and independent of them. It has its own clock, reports it in whole seconds like a `Date` header, responds after 20 to
80 ms, and checks each submit on arrival with the emulator's quota, 10 in any second and 250 in a UTC hour. It rejects all others with 429.

Sides, each with `--tables` CSV files of `--rows` rows:
  burst     one engine, started ten minutes past a full hour
  engines   four engines that share one ledger, as four processes on one host would
  boundary  one engine, started 20 s before a full hour, so that the first hour ends before its quota is used up
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import datetime as dt
import functools
import math
import random
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Meter

from pushengine.config.settings import EngineSettings
from pushengine.emulator.jobs.quota import SubmitQuota
from pushengine.errors import RateLimitedError
from pushengine.journal.store import JournalFile
from pushengine.model import Job, JobId, JobStatus, Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push.opening import PushRequest
from pushengine.push.run import PushRun
from pushengine.quota.ledger import SqliteLedger
from pushengine.quota.limiter import SubmitLimiter
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.state.lock import PushLock, TableLock
from pushengine.testing import MemoryDestination, MemoryJob, RecordingSink, VirtualClock, run_in_virtual_time

HOUR = 3600.0
NOON = 1_750_003_200.0 - 1_750_003_200.0 % HOUR
PER_SECOND, PER_HOUR = 10, 250
BEGIN_SECONDS = {"burst": 600.0, "engines": 600.0, "boundary": HOUR - 20.0}
RUN_SECONDS = 3.0
LATENCY_SECONDS = (0.01, 0.04)
MAX_SKEW_SECONDS = 20.0


class Platform:
    """The platform that all engines push to: its jobs, and the quota by its own clock.

    Attributes:
        jobs: The jobs by id.
        submitted_at: When each job was submitted, by the platform's clock.
        arrivals: When submits arrived, by the platform's clock, including rejected ones.
        refused: The number of submits that were rejected with 429.
    """

    def __init__(self, clock: VirtualClock, rng: random.Random) -> None:
        self._clock, self.rng = clock, rng
        self._skew = rng.uniform(-MAX_SKEW_SECONDS, MAX_SKEW_SECONDS)
        self._quota = SubmitQuota(per_second=PER_SECOND, per_hour=PER_HOUR, refused_count=False, now=self.now)
        self.jobs: dict[str, MemoryJob] = {}
        self.submitted_at: dict[str, float] = {}
        self.arrivals: list[float] = []
        self.refused = 0

    def now(self) -> float:
        """Return the time by the platform's clock."""
        return self._clock.now() + self._skew

    def judge_submit(self) -> None:
        """Reject a submit that arrives now if the quota is used up. Raises RateLimitedError."""
        self.arrivals.append(self.now())
        if not self._quota.admit().granted:
            self.refused += 1
            raise RateLimitedError("submit job: 429", status=429)


class Connection(MemoryDestination):
    """One engine's connection to the platform; each response gives this engine the platform's time."""

    def __init__(self, platform: Platform, clock: VirtualClock, observe: Callable[[float, float], None]) -> None:
        super().__init__()
        self.jobs = platform.jobs
        self._platform, self._clock, self._observe = platform, clock, observe

    async def call(self, operation: str, job_id: str | None, effect: Callable[[], Any]) -> Any:
        rng, started = self._platform.rng, self._clock.monotonic()
        await self._clock.sleep(rng.uniform(*LATENCY_SECONDS))
        date = math.floor(self._platform.now())
        try:
            return await super().call(operation, job_id, effect)
        finally:
            await self._clock.sleep(rng.uniform(*LATENCY_SECONDS))
            self._observe(date, (started + self._clock.monotonic()) / 2)

    def new_id(self) -> JobId:
        return JobId(str(uuid.UUID(int=self._platform.rng.getrandbits(128))))

    def submit(self, job_id: str, duplicate_removal_column: str | None) -> None:
        self._platform.judge_submit()
        super().submit(job_id, duplicate_removal_column)

    def execute(self, job: MemoryJob) -> None:
        job.status = JobStatus.RUNNING
        self._platform.submitted_at[job.id] = self._platform.now()

    def read(self, job_id: str) -> Job:
        submitted_at = self._platform.submitted_at.get(job_id)
        if submitted_at is not None and self._platform.now() >= submitted_at + RUN_SECONDS:
            self.jobs[job_id].status = JobStatus.DONE
        return super().read(job_id)


class _InlineJournal:
    """The journal's file without its thread, because virtual time does not wait for threads."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFile(path)

    async def do(self, call: Any) -> Any:
        with self._file.transaction():
            return call(self._file)

    async def read(self, call: Any) -> Any:
        with self._file.snapshot():
            return call(self._file)

    def close(self) -> None:
        self._file.close()


class _InlineWorkers:
    """Workers that run their functions on the event loop, without threads."""

    async def read(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0.002)
        return function(*args, **kwargs)

    encode = read

    def rest(self) -> None:
        """Do nothing; there is no thread to give back."""

    async def aclose(self) -> None:
        """Do nothing; there are no threads to end."""


async def _inline(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _engine(platform: Platform, clock: VirtualClock, rng: random.Random, state: Path, stack: Any) -> Shared:
    """Return what the pushes of one engine share. `state` is the folder that the engines of one host share."""
    ledger = stack.enter_context(contextlib.closing(SqliteLedger(state / "quota.sqlite3")))
    journal: Any = stack.enter_context(contextlib.closing(_InlineJournal(state / "journal.sqlite3")))
    server_clock = ServerClock(clock)
    settings = EngineSettings()
    runtime = Runtime(clock=clock, rng=rng, filesystem=LocalFileSystem(), off_loop=_inline, new_workers=_InlineWorkers)
    return Shared(
        destination=Connection(platform, clock, server_clock.observe),
        pool_id="pool",
        limiter=SubmitLimiter(
            ledger,
            team="acme",
            server_clock=server_clock,
            clock=clock,
            off_loop=_inline,
            rng=rng,
        ),
        policy=RetryPolicy(),
        journal=journal,
        take_lock=lambda identity: PushLock(state / "locks", identity),
        take_table_lock=functools.partial(TableLock, state / "locks"),
        budget=ByteBudget(settings.max_memory_bytes),
        engine_settings=settings,
        runtime=runtime,
        rejects=state / "rejects",
        drain=DrainSwitch(),
        sink=RecordingSink(),
        table_locks={},
        scratch=Path("never used"),
        said=set(),
        finished=set(),
    )


def _simulate(job: dict[str, Any], *, engines: int, begin: float) -> dict[str, Any]:
    """Push all tables at once, in virtual time."""
    state = Path(job["folder"], uuid.uuid4().hex)
    state.mkdir()
    files = sorted(Path(job["files"]).iterdir())
    return run_in_virtual_time(_push_all(job, files, state, engines=engines, begin=begin))


async def _push_all(
    job: dict[str, Any], files: list[Path], state: Path, *, engines: int, begin: float
) -> dict[str, Any]:
    rng = random.Random(job["seed"])
    with contextlib.ExitStack() as stack:
        local = VirtualClock(NOON)
        platform = Platform(local, rng)
        local.epoch += begin - (platform.now() - NOON)  # `begin` seconds past the hour, by the platform's clock
        shared = [_engine(platform, local, rng, state, stack) for _ in range(engines)]
        runs = [
            PushRun(
                PushRequest(spec=str(file), target=Target(file.stem.upper(), "replace")),
                shared[n % engines],
                f"push-{n}",
            )
            for n, file in enumerate(files)
        ]
        with Meter() as meter:
            receipts = await asyncio.gather(*(run.run() for run in runs))
    if any(receipt.status != "DONE" or receipt.rows != job["rows"] for receipt in receipts):
        raise SystemExit("not every table is complete")
    return _judge(platform, begin) | {"tables": len(receipts), "seconds": meter.seconds}


def _judge(platform: Platform, begin: float) -> dict[str, Any]:
    times = platform.arrivals
    hours = Counter(math.floor((at - NOON) / HOUR) for at in times)
    first = [at for at in times if at < NOON + HOUR]
    return {
        "submits": len(times),
        "refused": platform.refused,
        "in_first_hour": hours[0],
        "in_second_hour": hours[1],
        "later": len(times) - hours[0] - hours[1],
        "most_in_any_second": max(bisect.bisect_left(times, at + 1.0) - n for n, at in enumerate(times)),
        "first_after_seconds": times[0] - NOON - begin,
        "first_hour_spent_after_seconds": first[-1] - NOON - begin,
        "next_hour_begun_after_seconds": min((at - NOON - HOUR for at in times if at >= NOON + HOUR), default=0.0),
        "last_after_seconds": times[-1] - NOON - begin,
    }


def burst(job: dict[str, Any]) -> dict[str, Any]:
    """Push with one engine, ten minutes past a full hour."""
    return _simulate(job, engines=1, begin=BEGIN_SECONDS["burst"])


def engines(job: dict[str, Any]) -> dict[str, Any]:
    """Push with four engines that share one ledger."""
    return _simulate(job, engines=4, begin=BEGIN_SECONDS["engines"])


def boundary(job: dict[str, Any]) -> dict[str, Any]:
    """Push with one engine, 20 s before a full hour."""
    return _simulate(job, engines=1, begin=BEGIN_SECONDS["boundary"])


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "burst": burst,
    "engines": engines,
    "boundary": boundary,
}


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn, each time with other latencies and another clock of the platform."""
    files = folder / "tables"
    files.mkdir()
    for number in range(args.tables):
        harness.write_event_log(files / f"table_{number:04d}.csv", args.rows, first_row=number * args.rows)
    names = args.sides.split(",")
    seeds = {name: iter(range(args.repeat)) for name in names}
    job = {"files": files, "folder": folder, "rows": args.rows}
    runs = harness.interleaved(names, args.repeat, lambda name: harness.side(name, seed=next(seeds[name]), **job))
    whole, every = min(PER_HOUR, args.tables), [run for one in runs.values() for run in one]
    return {
        "tables": args.tables,
        "begun_at": {
            name: dt.datetime.fromtimestamp(NOON + BEGIN_SECONDS[name], tz=dt.UTC).isoformat() for name in names
        },
        "is_whole_hour_used": all(
            run["in_first_hour"] == whole for name in names if name != "boundary" for run in runs[name]
        ),
        "is_without_429": not any(run["refused"] for run in every),
        "is_at_most_10_in_any_second": all(run["most_in_any_second"] <= PER_SECOND for run in every),
        "ratios": {
            f"{name}_first_hour_over_quota": harness.spread([run["in_first_hour"] / PER_HOUR for run in runs[name]])
            for name in names
        },
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(
        harness.arguments(
            __doc__,
            rows=50,
            tables={"type": int, "default": 300},
            sides={"default": ",".join(SIDES), "help": "the sides to run, separated by commas"},
        ),
        SIDES,
        main,
    )
