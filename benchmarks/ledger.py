"""Is the quota ledger exact with eight processes, and what does a grant cost?

Four patterns of requests, each by 8 processes on one file that they create at the same time, and two minimums:
  hammering   `--rows` requests per process as fast as possible, in one hour with 250 submits: exactly 250 are granted
  per_second  the same with time running a hundred times as fast, under the quota of 10 per second: never more than 10 in any second
  paced       all 8 request at the same time every 50 ms, under the quota of 10 per second: like real processes, but far more often
  granted     as `paced`, but every request is granted: 160 durable grants per second, 16 times what the quota allows
  flushed     8 processes each write 4 KiB into one file and flush it, at the same time every 50 ms: the minimum for `granted`
  fdatasync   one process: 4 KiB written and flushed, the minimum cost of a durable grant on this disk
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

from pushengine.quota.ledger import SqliteLedger

PROCESSES = 8
HOUR_QUOTA = 250
MID_HOUR = 1_750_001_400.0
INTERVAL_SECONDS = 0.05
PACED_TRIES = 100
SPEED = 100.0
Request = tuple[float, float, bool]


def _request_or_fail(*args: Any) -> None:
    """Run one process. After a failure, it still puts an empty result, so that the parent does not wait for it."""
    try:
        _request_grants(*args)
    except BaseException:
        args[-1].put([])
        raise


def _request_grants(path: Path, pattern: str, tries: int, start: Any, results: Any) -> None:
    """Run one process; put (server time, seconds, granted) of each request."""
    start.wait()
    ledger = SqliteLedger(
        path,
        submits_per_second=10**9 if pattern in {"hammering", "granted"} else 10,
        submits_per_hour=10**6 if pattern == "granted" else HOUR_QUOTA,
    )
    requests: list[Request] = []
    start.wait()
    started = start.started_at.value
    for turn in range(tries):
        if pattern in {"paced", "granted"}:
            time.sleep(max(0.0, started + turn * INTERVAL_SECONDS - time.monotonic()))
        while True:
            elapsed = time.monotonic() - start.started_at.value
            now = MID_HOUR + elapsed * (SPEED if pattern == "per_second" else 1.0)
            at = time.perf_counter()
            grant = ledger.reserve("team", now)
            requests.append((now, time.perf_counter() - at, grant.granted))
            if pattern in {"per_second", "paced"} or grant.granted or grant.reason != "second":
                break  # otherwise another process got a grant with a later time while this one waited for the file
    ledger.close()
    results.put(requests)


class _Start:
    """A barrier that starts all processes at the same time."""

    def __init__(self, context: Any) -> None:
        self.started_at = context.Value("d", 0.0)
        self._barrier = context.Barrier(PROCESSES)

    def wait(self) -> None:
        if self._barrier.wait(30) == 0:
            self.started_at.value = time.monotonic()
        self._barrier.wait(30)


def _flush(path: Path, _pattern: str, tries: int, start: Any, results: Any) -> None:
    """Run one process of the side `flushed`."""
    requests: list[Request] = []
    with path.open("ab", buffering=0) as file:
        for _ in range(2):
            start.wait()
        started = start.started_at.value
        for turn in range(tries):
            time.sleep(max(0.0, started + turn * INTERVAL_SECONDS - time.monotonic()))
            at = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            requests.append((0.0, time.perf_counter() - at, True))
    results.put(requests)


def _together(pattern: str, tries: int) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        start, results = _Start(context), context.SimpleQueue()
        args = (Path(folder, "quota.sqlite3"), pattern, tries, start, results)
        target = _flush if pattern == "flushed" else _request_or_fail
        workers = [context.Process(target=target, args=args) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        per_process = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
    if not all(per_process):
        raise SystemExit("a process failed")
    requests = [request for one in per_process for request in one]
    granted = sorted(now for now, _, is_granted in requests if is_granted)
    return _latencies([seconds for _, seconds, _ in requests]) | {
        "grant_p99_ms": _ms([seconds for _, seconds, is_granted in requests if is_granted], 0.99),
        "tries": len(requests),
        "granted": len(granted),
        "most_in_any_second": max(sum(at <= other < at + 1.0 for other in granted) for at in granted),
    }


def _latencies(seconds: list[float]) -> dict[str, float]:
    return {"p50_ms": _ms(seconds, 0.5), "p99_ms": _ms(seconds, 0.99), "max_ms": _ms(seconds, 1.0)}


def _ms(seconds: list[float], share: float) -> float:
    return harness.percentile(seconds, share) * 1000


def hammering(job: dict[str, Any]) -> dict[str, Any]:
    """Request as fast as possible, under the quota per hour."""
    return _together("hammering", job["tries"])


def per_second(job: dict[str, Any]) -> dict[str, Any]:
    """Request as fast as possible, under the quota per second."""
    return _together("per_second", job["tries"])


def paced(job: dict[str, Any]) -> dict[str, Any]:
    """Request at the same time every 50 ms, under the quota per second."""
    return _together("paced", min(job["tries"], PACED_TRIES))


def granted(job: dict[str, Any]) -> dict[str, Any]:
    """Request at the same time every 50 ms; every request is granted."""
    return _together("granted", min(job["tries"], PACED_TRIES))


def flushed(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the minimum for eight processes: write and flush 4 KiB at the same time."""
    return _together("flushed", min(job["tries"], PACED_TRIES))


def fdatasync(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the minimum for one process: write and flush 4 KiB."""
    with tempfile.TemporaryDirectory() as folder:
        return _latencies(harness.flush_seconds(Path(folder), job["tries"]))


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "hammering": hammering,
    "per_second": per_second,
    "paced": paced,
    "granted": granted,
    "flushed": flushed,
    "fdatasync": fdatasync,
}


def main(args: Any, _folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    runs = harness.interleaved(tuple(SIDES), args.repeat, lambda name: harness.side(name, tries=args.rows))
    expected = min(HOUR_QUOTA, PROCESSES * args.rows)
    return {
        "processes": PROCESSES,
        "is_exact": all(one["granted"] == expected for one in runs["hammering"]),
        "ratios": {
            "granted_p50_over_flushed": harness.ratio(runs["granted"], runs["flushed"], "p50_ms"),
            "granted_p99_over_flushed": harness.ratio(runs["granted"], runs["flushed"], "p99_ms"),
            "paced_p99_over_fdatasync": harness.ratio(runs["paced"], runs["fdatasync"], "p99_ms"),
            "hammering_p99_over_fdatasync": harness.ratio(runs["hammering"], runs["fdatasync"], "p99_ms"),
        },
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(harness.arguments(__doc__, rows=200), SIDES, main)
