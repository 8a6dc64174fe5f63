"""What do many small files of one table cost, and how long does pushengine take to start?

Sides:
  files     `--files` CSV files with `--rows` rows in total, pushed as one table: one job, one submit
  one_file  the same rows in one file
  help      `pushengine --help`
  import    `import pushengine`
  python    an interpreter that does nothing, which is part of `help` and `import`
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import Meter

STARTS = {"help": ("-m", "pushengine", "--help"), "import": ("-c", "import pushengine"), "python": ("-c", "pass")}


async def _push(job: dict[str, Any]) -> dict[str, Any]:
    async with harness.engine(job) as engine:
        with Meter() as meter:
            receipt = await engine.push(job["source"], table="EVENTS")
    if receipt.rows != job["rows"]:
        raise SystemExit(f"{receipt.rows} of {job['rows']} rows arrived")
    return meter.figures(job["nbytes"]) | {"plan_seconds": receipt.timings["plan"], "chunks": receipt.chunks}


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push one table."""
    return asyncio.run(_push(job))


def _start(arguments: tuple[str, ...]) -> dict[str, Any]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"ms": elapsed * 1000, "cpu_ms": cpu * 1000}


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    many, one = folder / "many", folder / "one.csv"
    many.mkdir()
    share = args.rows // args.files
    sizes = [harness.write_event_log(many / f"{n:04d}.csv", share, first_row=n * share) for n in range(args.files)]
    whole = harness.write_event_log(one, share * args.files)
    with harness.sink(folder) as sink:
        job = {"url": sink.url, "ca_file": sink.ca_file, "rows": share * args.files}

        def once(name: str) -> dict[str, Any]:
            if name in STARTS:
                return _start(STARTS[name])
            sink.take_stats()
            source, nbytes = (many, sum(sizes)) if name == "files" else (one, whole)
            figures = harness.side("push", source=source, nbytes=nbytes, **job)
            stats = sink.take_stats()
            return figures | {what: stats[what] for what in ("jobs", "submits", "requests", "connections")}

        runs = harness.interleaved(("files", "one_file", *STARTS), args.repeat, once)
    return {
        "files": args.files,
        "csv_mb": round(sum(sizes) / harness.MB, 1),
        "is_one_job_and_one_submit": all(run["jobs"] == run["submits"] == 1 for run in runs["files"]),
        "ratios": {"files_seconds_over_one_file": harness.ratio(runs["files"], runs["one_file"], "seconds")},
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"push": push}

if __name__ == "__main__":
    harness.run(harness.arguments(__doc__, rows=400_000, files={"type": int, "default": 400}), SIDES, main)
