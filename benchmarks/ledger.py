"""Is the quota ledger exact under eight processes, and what does a grant cost?

Ways of asking, each by 8 processes on one file that they make at the same moment, and two floors:
  hammering   `--rows` tries per process, as fast as they go, at one hour with 250 submits: exactly 250 are granted
  per_second  the same at a hundred times the speed of time, under the quota of 10 a second: never more than 10 in any second
  paced       all 8 ask at one moment every 50 ms, under the quota of 10 a second: as real ones ask, only far more often
  granted     the same, and each is granted: 160 durable grants a second, 16 times what the quota allows
  flushed     8 processes write 4 KiB each into one file and flush it, at one moment every 50 ms: the floor of `granted`
  fdatasync   one process: 4 KiB written and flushed, the least that a durable grant can cost on this disk
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
PACE_SECONDS = 0.05
PACED_TRIES = 100
SPEED = 100.0
Ask = tuple[float, float, bool]


def _ask_or_tell(*args: Any) -> None:
    """One process; a failure must not leave the others waiting for its answer."""
    try:
        _ask(*args)
    except BaseException:
        args[-1].put([])
        raise


def _ask(path: Path, way: str, tries: int, start: Any, answers: Any) -> None:
    """One process: (server time, seconds, granted) of each try."""
    start.wait()
    ledger = SqliteLedger(
        path,
        submits_per_second=10**9 if way in {"hammering", "granted"} else 10,
        submits_per_hour=10**6 if way == "granted" else HOUR_QUOTA,
    )
    asks: list[Ask] = []
    start.wait()
    started = start.moment.value
    for turn in range(tries):
        if way in {"paced", "granted"}:
            time.sleep(max(0.0, started + turn * PACE_SECONDS - time.monotonic()))
        while True:
            elapsed = time.monotonic() - start.moment.value
            now = MID_HOUR + elapsed * (SPEED if way == "per_second" else 1.0)
            at = time.perf_counter()
            grant = ledger.reserve("team", now)
            asks.append((now, time.perf_counter() - at, grant.granted))
            if way in {"per_second", "paced"} or grant.granted or grant.reason != "second":
                break  # else another process was granted a later moment while this one waited for the file
    ledger.close()
    answers.put(asks)


class _Start:
    """Lets all processes set off at one moment."""

    def __init__(self, context: Any) -> None:
        self.moment = context.Value("d", 0.0)
        self._barrier = context.Barrier(PROCESSES)

    def wait(self) -> None:
        if self._barrier.wait(30) == 0:
            self.moment.value = time.monotonic()
        self._barrier.wait(30)


def _flush(path: Path, _way: str, tries: int, start: Any, answers: Any) -> None:
    """One process of the floor."""
    asks: list[Ask] = []
    with path.open("ab", buffering=0) as file:
        for _ in range(2):
            start.wait()
        started = start.moment.value
        for turn in range(tries):
            time.sleep(max(0.0, started + turn * PACE_SECONDS - time.monotonic()))
            at = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            asks.append((0.0, time.perf_counter() - at, True))
    answers.put(asks)


def _together(way: str, tries: int) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        start, answers = _Start(context), context.SimpleQueue()
        args = (Path(folder, "quota.sqlite3"), way, tries, start, answers)
        target = _flush if way == "flushed" else _ask_or_tell
        workers = [context.Process(target=target, args=args) for _ in range(PROCESSES)]
        for worker in workers:
            worker.start()
        asked = [answers.get() for _ in workers]
        for worker in workers:
            worker.join()
    if not all(asked):
        raise SystemExit("a process failed")
    asks = [ask for one in asked for ask in one]
    granted = sorted(now for now, _, is_granted in asks if is_granted)
    return _latencies([seconds for _, seconds, _ in asks]) | {
        "grant_p99_ms": _ms([seconds for _, seconds, is_granted in asks if is_granted], 0.99),
        "tries": len(asks),
        "granted": len(granted),
        "most_in_any_second": max(sum(at <= other < at + 1.0 for other in granted) for at in granted),
    }


def _latencies(seconds: list[float]) -> dict[str, float]:
    return {"p50_ms": _ms(seconds, 0.5), "p99_ms": _ms(seconds, 0.99), "max_ms": _ms(seconds, 1.0)}


def _ms(seconds: list[float], share: float) -> float:
    return harness.percentile(seconds, share) * 1000


def hammering(job: dict[str, Any]) -> dict[str, Any]:
    """As fast as they go."""
    return _together("hammering", job["tries"])


def per_second(job: dict[str, Any]) -> dict[str, Any]:
    """Under the quota of the second."""
    return _together("per_second", job["tries"])


def paced(job: dict[str, Any]) -> dict[str, Any]:
    """At one moment, again and again, under the quota of the second."""
    return _together("paced", min(job["tries"], PACED_TRIES))


def granted(job: dict[str, Any]) -> dict[str, Any]:
    """At one moment, again and again, and all are granted."""
    return _together("granted", min(job["tries"], PACED_TRIES))


def flushed(job: dict[str, Any]) -> dict[str, Any]:
    """The floor of eight at once."""
    return _together("flushed", min(job["tries"], PACED_TRIES))


def fdatasync(job: dict[str, Any]) -> dict[str, Any]:
    """The floor."""
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
    """All in turn."""
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
