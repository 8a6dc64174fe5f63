"""Does peak memory stay constant when the input grows twenty-fold, and below the formula?

The formula (docstring of `config.settings`) is: peak RSS <= base + max_memory_bytes, with a base of about 150 MB. The base measured here is
the RSS of a process with an open engine before its first push.

The same push runs with `--rows` / 20 rows and with `--rows` rows (half a gigabyte and ten gigabytes). Each connection carries
`--mb-per-second`, which is slow enough that payloads wait and the budget limits them. `default` means the engine's defaults; `small` is a
budget that both inputs fill.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import harness
from harness import MB, MIB, Meter

BASE_MB = 150
BUDGETS: dict[str, dict[str, int]] = {
    "default": {},
    "small": {"max_memory_bytes": 128 * MIB},
}


async def _push(job: dict[str, Any]) -> dict[str, Any]:
    from pushengine import EngineSettings
    from pushengine.runtime.threads import prefer_jemalloc

    harness.without_pandas()
    prefer_jemalloc()  # as the command line does
    async with harness.engine(job, **job["settings"]) as engine:
        with Meter() as meter:
            receipt = await engine.push(job["csv"], table="EVENTS")
    settings = EngineSettings(**job["settings"])
    return meter.figures(job["nbytes"]) | {
        "base_rss_mb": meter.rss_before / MB,
        "over_base_mb": (meter.peak_rss - meter.rss_before) / MB,
        "max_memory_mb": settings.max_memory_bytes / MB,
        "formula_mb": BASE_MB + settings.max_memory_bytes / MB,
        "payload_mb": receipt.payload_bytes / MB,
        "chunks": receipt.chunks,
    }


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push once in its own process."""
    return asyncio.run(_push(job))


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run both sizes with both budgets."""
    files = {"part": folder / "part.csv", "whole": folder / "whole.csv"}
    sizes = {
        name: harness.write_event_log(path, args.rows if name == "whole" else max(args.rows // 20, 1))
        for name, path in files.items()
    }
    result: dict[str, Any] = {
        "csv_mb": {name: round(size / MB, 1) for name, size in sizes.items()},
        "ratios": {},
        "figures": {},
    }
    with harness.sink(folder, mb_per_second=args.mb_per_second) as sink:
        for budget in args.budgets.split(","):
            job = {"url": sink.url, "ca_file": sink.ca_file, "settings": BUDGETS[budget]}
            runs = harness.interleaved(
                ("part", "whole"),
                args.repeat,
                lambda name, job=job: harness.side("push", csv=files[name], nbytes=sizes[name], **job),
            )
            result["ratios"] |= {
                f"{budget}_peak_whole_over_part": harness.ratio(runs["whole"], runs["part"], "peak_rss_mb"),
                f"{budget}_peak_over_formula": harness.spread(
                    [one["peak_rss_mb"] / one["formula_mb"] for one in runs["whole"]]
                ),
            }
            result["figures"] |= {f"{budget}_{name}": harness.spreads(one) for name, one in runs.items()}
    formula = f"peak RSS <= {BASE_MB} MB + max_memory_bytes"
    return result | {"mb_per_second_per_connection": args.mb_per_second, "formula": formula}


if __name__ == "__main__":
    harness.run(
        harness.arguments(
            __doc__,
            rows=75_000_000,
            mb_per_second={"type": float, "default": 10.0},
            budgets={"default": ",".join(BUDGETS), "help": "the budgets to run, separated by commas"},
        ),
        {"push": push},
        main,
    )
