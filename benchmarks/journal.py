"""What does the journal cost, in a push and per durable fact?

While one part of a push waits for the journal, others work: the reader, the encoders, other uploads. So a wait alone is not a cost.
`journal_share` counts the time during which a journal call was pending and nothing else of the push was under way (no call of the reader or
of an encoder, no upload). It adds the CPU time of the journal's thread while others were under way, which they could have used.
`waited_share` is the upper bound: the time during which a journal call was pending, whatever else was under way.

Sides:
  push        a push of `--rows` rows
  small_push  a push of a hundredth of the rows
  in_memory   as `push`, with the journal in memory: no thread, no disk. `push_over_in_memory` is the journal's cost in wall time,
              as far as the machine's noise allows one to measure one percent
  alone       facts recorded one after the other
  together    facts recorded by four concurrent tasks, which share disk flushes
  fdatasync   4 KiB written and flushed: the minimum cost of a durable fact on this disk
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Meter

from pushengine.celonis.data_push import DataPushClient
from pushengine.journal.facts import FactRow
from pushengine.journal.store import Journal, JournalFile
from pushengine.runtime.threads import ThreadWorkers

TASKS = 4


class _Watch:
    """A record of which parts of a push are under way, over time.

    Attributes:
        calls: Number of journal calls.
        waited_seconds: Time during which at least one journal call was pending.
        idle_seconds: The part of `waited_seconds` during which nothing else was under way.
        busy_cpu_seconds: CPU time of the journal's thread while something else was under way.
    """

    def __init__(self, journal: Journal) -> None:
        self.calls = 0
        self.waited_seconds = self.idle_seconds = self.busy_cpu_seconds = 0.0
        self._pending = self._others = 0
        self._clock = time.pthread_getcpuclockid(journal._thread.ident)  # noqa: SLF001
        self._at, self._cpu_at = time.perf_counter(), time.clock_gettime(self._clock)
        journal.do = self._around(journal.do, is_journal=True)
        journal.read = self._around(journal.read, is_journal=True)
        for owner, name in ((ThreadWorkers, "_run"), (DataPushClient, "upload_chunk")):
            setattr(owner, name, self._around(getattr(owner, name), is_journal=False))

    def _around(self, function: Callable[..., Any], *, is_journal: bool) -> Callable[..., Any]:
        @functools.wraps(function)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            self._move(1, is_journal=is_journal)
            try:
                return await function(*args, **kwargs)
            finally:
                self._move(-1, is_journal=is_journal)

        return watched

    def _move(self, step: int, *, is_journal: bool) -> None:
        now, cpu = time.perf_counter(), time.clock_gettime(self._clock)
        self.waited_seconds += (now - self._at) * bool(self._pending)
        self.idle_seconds += (now - self._at) * (self._pending > 0 and not self._others)
        self.busy_cpu_seconds += (cpu - self._cpu_at) * bool(self._others)
        self._at, self._cpu_at = now, cpu
        if is_journal:
            self._pending += step
            self.calls += step > 0
        else:
            self._others += step


class _MemoryJournal:
    """A journal with the real one's calls, but without its thread, transactions and disk."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._file = JournalFile(Path(folder) / "unused.sqlite3")
            self._file._db.close()  # noqa: SLF001
        self._file._db = sqlite3.connect(":memory:", isolation_level=None)  # noqa: SLF001
        self._file._prepare()  # noqa: SLF001

    async def do(self, call: Any) -> Any:
        """Run the call at once."""
        return call(self._file)

    read = do


async def _push(job: dict[str, Any], *, is_in_memory: bool) -> dict[str, Any]:
    async with harness.engine(job) as engine:
        journal = engine._shared.journal  # noqa: SLF001
        watch = _Watch(journal)
        if is_in_memory:
            memory = _MemoryJournal()
            journal.do, journal.read = memory.do, memory.read
        commits = journal.commits
        with Meter() as meter:
            receipt = await engine.push(job["csv"], table="EVENTS")
        commits = journal.commits - commits
    figures = meter.figures(receipt.source_bytes) | {"chunks": receipt.chunks}
    if is_in_memory:
        return figures
    return figures | {
        "calls": watch.calls,
        "commits": commits,
        "journal_share": (watch.idle_seconds + watch.busy_cpu_seconds) / meter.seconds,
        "waited_share": watch.waited_seconds / meter.seconds,
        "idle_ms": watch.idle_seconds * 1000,
        "busy_cpu_ms": watch.busy_cpu_seconds * 1000,
        "ms_waited_per_call": watch.waited_seconds * 1000 / watch.calls,
    }


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the journal in a push."""
    return asyncio.run(_push(job, is_in_memory=False))


def small_push(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the journal in a small push."""
    return asyncio.run(_push(job | {"csv": job["small_csv"]}, is_in_memory=False))


def in_memory(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the same push without the journal's thread and disk."""
    return asyncio.run(_push(job, is_in_memory=True))


async def _record(job: dict[str, Any], tasks: int) -> dict[str, Any]:
    seconds: list[float] = []
    body = {"job_id": "0" * 32, "chunk_id": "000000", "rows": 500_000, "digests": {"sha256": "0" * 64, "md5": "0" * 32}}

    async def write(count: int) -> None:
        for _ in range(count):
            start = time.perf_counter()
            await journal.do(lambda file: file.append(FactRow("push", time.time(), "chunk_sending", body)))
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
    """Record facts one after the other."""
    return asyncio.run(_record(job, 1))


def together(job: dict[str, Any]) -> dict[str, Any]:
    """Record facts by four concurrent tasks."""
    return asyncio.run(_record(job, TASKS))


def fdatasync(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the minimum: write and flush 4 KiB."""
    return _latencies(harness.flush_seconds(Path(job["folder"]), job["facts"]))


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "push": push,
    "small_push": small_push,
    "in_memory": in_memory,
    "alone": alone,
    "together": together,
    "fdatasync": fdatasync,
}


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    csv, small_csv = folder / "events.csv", folder / "small.csv"
    nbytes = harness.write_event_log(csv, args.rows)
    harness.write_event_log(small_csv, max(args.rows // 100, 1))
    with harness.sink(folder) as sink:
        job = {
            "csv": csv,
            "small_csv": small_csv,
            "url": sink.url,
            "ca_file": sink.ca_file,
            "folder": folder,
            "facts": args.facts,
        }
        runs = harness.interleaved(tuple(SIDES), args.repeat, lambda name: harness.side(name, **job))
    return {
        "csv_mb": round(nbytes / harness.MB, 1),
        "ratios": {
            "journal_over_push": harness.spread([one["journal_share"] for one in runs["push"]], 4),
            "waited_over_push": harness.spread([one["waited_share"] for one in runs["push"]], 4),
            "journal_over_small_push": harness.spread([one["journal_share"] for one in runs["small_push"]], 4),
            "push_over_in_memory": harness.ratio(runs["push"], runs["in_memory"], "seconds"),
            "fact_p50_over_fdatasync": harness.ratio(runs["alone"], runs["fdatasync"], "p50_ms"),
            "alone_over_together_ms_per_fact": harness.ratio(runs["alone"], runs["together"], "ms_per_fact"),
        },
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(harness.arguments(__doc__, rows=4_000_000, facts={"type": int, "default": 400}), SIDES, main)
