"""What does the journal cost: in a push, and per durable fact?

Sides:
  push        a push of `--rows` rows with the journal's thread under a stop-watch: its share of the wall time, busy and waited for
  alone       facts recorded one after the other
  together    the same by four tasks at once, which share disk flushes
  fdatasync   4 KiB written and flushed: the least that a durable fact can cost on this disk
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Meter

TASKS = 4


class _StopWatch:
    """Adds up the time inside of functions that it wraps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self.calls += 1

        return timed

    def around_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return await function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start
                self.calls += 1

        return timed


async def _push(job: dict[str, Any]) -> dict[str, Any]:
    from pushengine import EngineSettings, PushEngine, UserApiKey
    from pushengine.journal import Journal

    busy, waited = _StopWatch(), _StopWatch()
    for name, wrap in (("_commit", busy.around), ("do", waited.around_async)):
        setattr(Journal, name, wrap(getattr(Journal, name)))
    settings = EngineSettings(ca_file=job["ca_file"], hour_guard_seconds=0)
    with tempfile.TemporaryDirectory(dir=Path(job["csv"]).parent) as state:
        async with PushEngine(
            job["url"], pool_id="pool", auth=UserApiKey("key"), settings=settings, state_dir=Path(state)
        ) as engine:
            harness.warm_up()
            await engine.list_jobs()
            busy.seconds = waited.seconds = busy.calls = waited.calls = 0
            with Meter() as meter:
                receipt = await engine.push(job["csv"], table="EVENTS")
    return meter.figures(job["nbytes"]) | {
        "chunks": receipt.chunks,
        "calls": waited.calls,
        "commits": busy.calls,
        "journal_busy_seconds": busy.seconds,
        "journal_busy_share": busy.seconds / meter.seconds,
        "ms_waited_per_call": waited.seconds * 1000 / max(waited.calls, 1),
    }


def push(job: dict[str, Any]) -> dict[str, Any]:
    """The journal inside a push."""
    return asyncio.run(_push(job))


async def _record(job: dict[str, Any], tasks: int) -> dict[str, Any]:
    from pushengine.journal import Fact, Journal

    seconds: list[float] = []
    body = {"job_id": "0" * 32, "chunk_id": "000000", "rows": 500_000, "digests": {"sha256": "0" * 64, "md5": "0" * 32}}

    async def write(count: int) -> None:
        for _ in range(count):
            start = time.perf_counter()
            await journal.do(lambda file: file.append(Fact("push", time.time(), "chunk_sending", body)))
            seconds.append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory(dir=job["folder"]) as folder:
        journal = Journal(Path(folder, "journal.sqlite3"))
        await journal.open()
        with Meter() as meter:
            await asyncio.gather(*(write(job["facts"] // tasks) for _ in range(tasks)))
        commits = journal.commits
        await journal.aclose()
    return _latencies(seconds) | {
        "ms_per_fact": meter.seconds * 1000 / len(seconds),
        "cpu_ms_per_fact": meter.cpu_seconds * 1000 / len(seconds),
        "facts_per_commit": len(seconds) / commits,
    }


def _latencies(seconds: list[float]) -> dict[str, float]:
    return {f"p{share * 100:.0f}_ms": harness.percentile(seconds, share) * 1000 for share in (0.5, 0.99)}


def alone(job: dict[str, Any]) -> dict[str, Any]:
    """One after the other."""
    return asyncio.run(_record(job, 1))


def together(job: dict[str, Any]) -> dict[str, Any]:
    """Four at once."""
    return asyncio.run(_record(job, TASKS))


def fdatasync(job: dict[str, Any]) -> dict[str, Any]:
    """The floor."""
    return _latencies(harness.flush_seconds(Path(job["folder"]), job["facts"]))


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "push": push,
    "alone": alone,
    "together": together,
    "fdatasync": fdatasync,
}


def main(args: Any, folder: Path) -> dict[str, Any]:
    """All in turn."""
    csv = folder / "events.csv"
    nbytes = harness.write_event_log(csv, args.rows)
    with harness.sink(folder) as sink:
        job = {
            "csv": csv,
            "nbytes": nbytes,
            "url": sink.url,
            "ca_file": sink.ca_file,
            "folder": folder,
            "facts": args.facts,
        }
        runs = harness.interleaved(tuple(SIDES), args.repeat, lambda name: harness.side(name, **job))
    return {
        "csv_mb": round(nbytes / harness.MB, 1),
        "ratios": {
            "journal_busy_over_push": harness.spread([one["journal_busy_share"] for one in runs["push"]], 4),
            "fact_p50_over_fdatasync": harness.ratio(runs["alone"], runs["fdatasync"], "p50_ms"),
            "alone_over_together_ms_per_fact": harness.ratio(runs["alone"], runs["together"], "ms_per_fact"),
        },
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(harness.arguments(__doc__, rows=2_000_000, facts={"type": int, "default": 400}), SIDES, main)
