"""Does adaptive concurrency fill a link as well as the best fixed number of uploads does?

The sink simulates the link: `--link-mb-per-second` in total, `--mb-per-second` per connection, `--rtt-seconds` of round trip. Each run pushes
one table of `--mb` MB. The rows are one batch of random numbers, repeated. Parquet cannot make them smaller, so encoding a chunk takes little
time compared with sending it, and memory stays constant whatever `--mb` is.

Sides:
  adaptive   the engine with its defaults
  fixed_N    the engine with min_uploads = max_uploads = N, for each N of `--fixed`

`mb_per_second` is the rate of acknowledged payload from the first upload to the last response. `steady_mb_per_second` is the same without the
first `--ramp-seconds` and without the end, when connections are idle after the last uploads. Each upload's bytes are spread evenly over its
duration. `--rows` is the number of values in a chunk (8 bytes each).
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness import MB, Meter

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = 8
SETTINGS: dict[str, Any] = {"sample_bytes": 1024 * 1024, "compression": "NONE"}


class _Uploads:
    """An event sink that records when each chunk was uploaded, and the concurrency limits."""

    def __init__(self) -> None:
        import time

        self._now = time.perf_counter
        self._started: dict[str, float] = {}
        self.spans: list[tuple[float, float, int]] = []
        self.limits: list[tuple[float, int, str]] = []

    def emit(self, event: Any) -> None:
        now = self._now()
        if event.name == "upload_started":
            self._started.setdefault(event.chunk_id, now)
        elif event.name == "chunk_uploaded":
            self.spans.append((self._started[event.chunk_id], now, event.payload_bytes))
        elif event.name == "concurrency_changed":
            self.limits.append((now, event.after, event.reason))

    @property
    def start(self) -> float:
        return min(started for started, _, _ in self.spans)

    def mb_per_second(self, after: float, until: float) -> float:
        """Return the rate of acknowledged uploads between two points in time."""
        nbytes = sum(
            size * max(min(ended, until) - max(started, after), 0.0) / (ended - started)
            for started, ended, size in self.spans
        )
        return nbytes / MB / max(until - after, 1e-9)

    def mean_limit(self, start: int, after: float, until: float) -> float:
        total, limit, at = 0.0, start, self.start
        for changed_at, following, _ in [*self.limits, (until, 0, "")]:
            total += limit * max(min(changed_at, until) - max(at, after), 0.0)
            limit, at = following, changed_at
        return total / max(until - after, 1e-9)


async def _same_rows(batch: pa.RecordBatch, times: int) -> AsyncIterator[pa.RecordBatch]:
    for _ in range(times):
        yield batch


async def _push(job: dict[str, Any]) -> tuple[_Uploads, Meter, Any]:
    import numpy as np
    import pyarrow as pa

    numbers = np.random.default_rng(1).random((COLUMNS, job["rows"] // COLUMNS))
    batch = pa.record_batch([pa.array(column) for column in numbers], names=[f"N{n}" for n in range(COLUMNS)])
    times = max(round(job["mb"] * MB / batch.nbytes), 1)
    settings = SETTINGS | {"chunk_bytes": max(batch.nbytes, 64 * 1024)} | job["settings"]
    uploads = _Uploads()
    async with harness.engine(job, sinks=[uploads], **settings) as engine:
        with Meter() as meter:
            receipt = await engine.push(_same_rows(batch, times), table="NUMBERS", schema=batch.schema)
    if (receipt.status, receipt.rows) != ("DONE", times * batch.num_rows):
        raise SystemExit(f"the push does not match the request: {receipt}")
    return uploads, meter, receipt


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push once over the link."""
    uploads, meter, receipt = asyncio.run(_push(job))
    end = max(ended for _, ended, _ in uploads.spans)
    tail = statistics.median(ended - started for started, ended, _ in uploads.spans)
    steady = min(uploads.start + job["ramp_seconds"], end), max(end - 2 * tail, uploads.start)
    if steady[1] <= steady[0]:  # a run too short to have a steady part
        steady = uploads.start, end
    started_with = job["settings"].get("max_uploads", 4)
    return meter.figures(receipt.payload_bytes) | {
        "seconds": end - uploads.start,
        "mb_per_second": uploads.mb_per_second(uploads.start, end),
        "steady_mb_per_second": uploads.mb_per_second(*steady),
        "steady_seconds": steady[1] - steady[0],
        "steady_limit": uploads.mean_limit(started_with, *steady),
        "upload_seconds": tail,
        "chunk_mb": receipt.payload_bytes / receipt.chunks / MB,
        "retries": receipt.retries,
        "limits": [[round(at - uploads.start, 2), limit, reason] for at, limit, reason in uploads.limits],
    }


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides over the same link."""
    link = {name: getattr(args, name) for name in ("rtt_seconds", "mb_per_second", "link_mb_per_second")}
    fixed = [int(number) for number in args.fixed.split(",")]
    sides: dict[str, dict[str, int]] = {"adaptive": {}} | {
        f"fixed_{n}": {"min_uploads": n, "max_uploads": n} for n in fixed
    }
    with harness.sink(folder, no_checksums=1, **link) as sink:
        job = {"url": sink.url, "ca_file": sink.ca_file, "rows": args.rows, "ramp_seconds": args.ramp_seconds}
        runs = harness.interleaved(
            list(sides),
            args.repeat,
            lambda name: harness.side("push", mb=args.mb * _share(sides[name], link), settings=sides[name], **job),
        )
    limits = [one.pop("limits") for side in runs.values() for one in side][: args.repeat]
    figures = {name: harness.spreads(one) for name, one in runs.items()}
    best = max(
        (name for name in runs if name != "adaptive"), key=lambda name: figures[name]["steady_mb_per_second"]["median"]
    )
    return {
        "link": link | {"mb": args.mb, "ramp_seconds": args.ramp_seconds},
        "best_fixed": best,
        "ratios": {
            "adaptive_steady_over_link": harness.spread(
                [one["steady_mb_per_second"] / args.link_mb_per_second for one in runs["adaptive"]]
            ),
            "adaptive_steady_over_best_fixed": harness.ratio(runs["adaptive"], runs[best], "steady_mb_per_second"),
            "adaptive_whole_over_link": harness.spread(
                [one["mb_per_second"] / args.link_mb_per_second for one in runs["adaptive"]]
            ),
            "adaptive_whole_over_best_fixed": harness.ratio(runs["adaptive"], runs[best], "mb_per_second"),
        },
        "figures": figures,
        "limits": limits,
    }


def _share(settings: dict[str, int], link: dict[str, float]) -> float:
    """Return a side's share of the data: few connections send less, to take as long as many. The amount does not affect their rate."""
    return min(settings.get("max_uploads", 32) * link["mb_per_second"] / link["link_mb_per_second"], 1.0)


if __name__ == "__main__":
    harness.run(
        harness.arguments(
            __doc__,
            rows=1_000_000,
            mb={"type": float, "default": 3500},
            fixed={"default": "1,2,4,8,12,16,24"},
            ramp_seconds={"type": float, "default": 10.0},
            rtt_seconds={"type": float, "default": 0.1},
            mb_per_second={"type": float, "default": 10.0},
            link_mb_per_second={"type": float, "default": 100.0},
        ),
        {"push": push},
        main,
    )
