"""What does a small table cost when hundreds are loaded in one process?

`--tables` CSV files of `--rows` rows each, into one table each, against the emulator in a process of its own; quota and spacing are off.

Sides:
  load      `pushengine load`: a command that finds all tables by one rule and loads them, 8 at a time
  together  all tables in one process by the library: one host, 8 at a time
  whole     the rows of all tables as one table, in one process
  apart     the first `--apart` tables, a command (`pushengine push`) for each, one after the other
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
from harness import MB, Meter

PARALLEL = 8
PEAK_MB = 400
UNLIMITED = 10**6
POOL, KEY = "pool", "key"


async def _push(job: dict[str, Any]) -> dict[str, Any]:
    from pushengine import EngineSettings, UserApiKey
    from pushengine.host import EngineHost
    from pushengine.loads.lanes import Lanes
    from pushengine.runtime.threads import prefer_jemalloc

    harness.without_pandas()
    prefer_jemalloc()  # as the command line does
    harness.warm_up()
    settings = EngineSettings(submits_per_second=UNLIMITED, submits_per_hour=UNLIMITED, hour_guard_seconds=0)
    lanes, sources = Lanes(PARALLEL), [Path(source) for source in job["sources"]]
    with tempfile.TemporaryDirectory() as state:
        async with EngineHost(state_dir=state, settings=settings) as host:
            engine = await host.engine(job["url"], pool_id=POOL, auth=UserApiKey(KEY))
            await engine.list_jobs()
            with Meter() as meter:
                receipts = await asyncio.gather(
                    *(
                        engine.push(source, table=source.stem, slot=lanes.slot(source.stat().st_size))
                        for source in sources
                    )
                )
            commits = host.journal.commits
    rows = sum(receipt.rows for receipt in receipts)
    if rows != job["rows"]:
        raise SystemExit(f"{rows} of {job['rows']} rows arrived")
    return meter.figures(job["nbytes"]) | {"commits": commits}


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push all sources at the same time."""
    return asyncio.run(_push(job))


def apart(job: dict[str, Any]) -> dict[str, Any]:
    """Run a command for each source, one after the other."""
    with tempfile.TemporaryDirectory() as state:
        environ = os.environ | {
            "PUSHENGINE_URL": job["url"],
            "PUSHENGINE_POOL_ID": POOL,
            "PUSHENGINE_API_KEY": KEY,
            "PUSHENGINE_STATE_DIR": state,
        }
        start = time.perf_counter()
        for source in job["sources"]:
            command = [sys.executable, "-m", "pushengine", "push", source, "--table", Path(source).stem, "--quiet"]
            subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "seconds_per_table": seconds / len(job["sources"])}


_CONFIG = """
[state]
dir = "state"

[connection]
url = "{url}"
pool_id = "{pool}"

[auth]
api_key = "{key}"

[engine]
submits_per_second = {unlimited}
submits_per_hour = {unlimited}
hour_guard_seconds = 0

[[load]]
name = "night"
source = "{folder}/{{table}}.csv"
"""


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Run one command that loads all tables."""
    with tempfile.TemporaryDirectory() as work:
        values = {"url": job["url"], "pool": POOL, "key": KEY, "unlimited": UNLIMITED, "folder": job["folder"]}
        Path(work, "pushengine.toml").write_text(_CONFIG.format(**values))
        start = time.perf_counter()
        command = [sys.executable, "-m", "pushengine", "load", "--json"]
        done = subprocess.run(command, check=True, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    states = json.loads(done.stdout)["states"]
    if states != {"done": job["tables"]}:
        raise SystemExit(f"not all {job['tables']} tables are done: {states}")
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_rss_mb": usage.ru_maxrss / 1024}


async def _emulate() -> None:
    from pushengine.emulator import Emulator, EmulatorSettings

    settings = EmulatorSettings(
        queue_seconds=0.0, run_seconds=0.0, submits_per_second=UNLIMITED, submits_per_hour=UNLIMITED
    )
    async with Emulator(settings=settings) as emulator:
        print(emulator.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def emulate(_job: dict[str, Any]) -> dict[str, Any]:
    """Run the emulator until standard input ends."""
    asyncio.run(_emulate())
    return {}


@contextlib.contextmanager
def emulator() -> Iterator[str]:
    """Run the emulator in a process of its own; yield its address."""
    command = [sys.executable, sys.argv[0], "--side", "emulator"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn, each against an emulator of its own."""
    extracts = folder / "extracts"
    extracts.mkdir(exist_ok=True)
    tables = [extracts / f"TABLE_{number:03d}.csv" for number in range(args.tables)]
    sizes = [harness.write_event_log(path, args.rows, first_row=n * args.rows) for n, path in enumerate(tables)]
    whole = folder / "WHOLE.csv"
    whole_size = harness.write_event_log(whole, args.rows * args.tables)

    def once(name: str) -> dict[str, Any]:
        with emulator() as url:
            if name == "load":
                figures = harness.side("load", url=url, folder=extracts, tables=len(tables))
                return figures | {"seconds_per_table": figures["seconds"] / len(tables)}
            if name == "apart":
                return harness.side("apart", url=url, sources=tables[: args.apart])
            sources, nbytes = ([whole], whole_size) if name == "whole" else (tables, sum(sizes))
            figures = harness.side("push", url=url, sources=sources, nbytes=nbytes, rows=args.rows * args.tables)
            return figures | {"seconds_per_table": figures["seconds"] / len(sources)}

    runs = harness.interleaved(("load", "together", "whole", "apart"), args.repeat, once)
    return {
        "tables": args.tables,
        "parallel": PARALLEL,
        "csv_mb": round(sum(sizes) / MB, 1),
        "is_under_400_mb": max(run["peak_rss_mb"] for side in ("load", "together") for run in runs[side]) < PEAK_MB,
        "ratios": {
            "load_over_apart_per_table": harness.ratio(runs["load"], runs["apart"], "seconds_per_table"),
            "together_seconds_over_whole": harness.ratio(runs["together"], runs["whole"], "seconds"),
            "together_over_apart_per_table": harness.ratio(runs["together"], runs["apart"], "seconds_per_table"),
        },
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "load": load,
    "push": push,
    "apart": apart,
    "emulator": emulate,
}

if __name__ == "__main__":
    options = {"tables": {"type": int, "default": 300}, "apart": {"type": int, "default": 10}}
    harness.run(harness.arguments(__doc__, rows=100, **options), SIDES, main)
