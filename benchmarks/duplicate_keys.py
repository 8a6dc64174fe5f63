"""What does it cost to find rows with equal keys?

Each side encodes `--rows` events with a number and a document number in front (the work of the encoder threads in a push: parse, convert,
write Parquet, checksums), hashes their keys and looks for hashes that occur more than once. The CPU seconds of the two kinds of work are
counted apart, within the same run. No key occurs twice.

Sides:
  push       a whole push of the same file to the sink, without keys
  int        the key is a number
  text       the key is a text of 10 characters
  composite  the key is a text of 20 characters and a number

`*_over_encode` is the time for keys over that of encoding, `*_over_push` over all CPU seconds of the push. `hash`, `runs` and `search` are
nanoseconds per row for the hashes, for collecting them, and for `KeyRuns.duplicates()`.
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

from pushengine.config.settings import EngineSettings
from pushengine.pipeline.chunking import Chunk
from pushengine.pipeline.encoding import EncodingOptions, encode
from pushengine.pipeline.keys.hashes import hash_keys
from pushengine.pipeline.keys.runs import KeyRuns
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.conform import conform
from pushengine.schema.inference import SchemaInference
from pushengine.schema.rules import SchemaRules
from pushengine.sources.registry import open_source

KEYS = {"int": ["NUMBER"], "text": ["DOCUMENT"], "composite": ["_CASE_KEY", "_SORTING"]}
CHUNK_BYTES = EngineSettings().chunk_bytes
BLOCK_ROWS = 250_000


def write_csv(path: Path, rows: int) -> int:
    """Write the events and return the size."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as arrow_csv

    with path.open("wb") as file:
        for start in range(0, rows, BLOCK_ROWS):
            numbers = pa.array(range(start, min(start + BLOCK_ROWS, rows)))
            table = harness.event_table(start, len(numbers))
            texts = pc.utf8_lpad(numbers.cast(pa.string()), 10, "0")
            table = table.add_column(0, "DOCUMENT", texts).add_column(0, "NUMBER", numbers)
            arrow_csv.write_csv(table, file, arrow_csv.WriteOptions(include_header=start == 0))
    return path.stat().st_size


def keys(job: dict[str, Any], *, names: list[str]) -> dict[str, Any]:
    """Encode all rows on this thread, hash their keys and search the hashes."""
    harness.without_pandas()
    source = open_source(job["csv"], settings=EngineSettings(), filesystem=LocalFileSystem())
    rules = SchemaRules(mode="upsert", keys=tuple(names))
    inference = SchemaInference(source.schema(), is_text=True, rules=rules)
    for batch in source.sample(EngineSettings().sample_bytes):
        inference.observe(batch)
    schema = inference.infer_schema()
    seconds = dict.fromkeys(("encode", "hash", "runs", "search"), 0.0)

    def timed(what: str, function: Callable[..., Any], *args: Any) -> Any:
        start = time.thread_time()
        result = function(*args)
        seconds[what] += time.thread_time() - start
        return result

    with tempfile.TemporaryDirectory(dir=job["folder"]) as folder, KeyRuns(Path(folder)) as runs, Meter() as meter:
        waiting: list[Any] = []

        def flush() -> None:
            chunk = Chunk("000000", tuple(waiting), sum(block.nbytes for block in waiting))
            timed("encode", encode, chunk, schema, EncodingOptions(), ("sha256", "md5"))
            for block in waiting:
                batch = conform(schema, block.decode())
                hashes = timed("hash", hash_keys, [batch.column(name) for name in schema.keys])
                timed("runs", runs.add, hashes)
            waiting.clear()

        for block in source.open():
            waiting.append(block)
            if sum(block.nbytes for block in waiting) >= CHUNK_BYTES:
                flush()
        if waiting:
            flush()
        held = runs.memory_bytes
        repeated = timed("search", runs.duplicates)
        spilled = runs.spilled_bytes
    rows = runs.rows
    if len(repeated) or rows != job["rows"]:
        raise SystemExit(f"{rows} rows and {len(repeated)} keys that occur more than once")
    found = {f"{what}_ns_per_row": spent / rows * 1e9 for what, spent in seconds.items()}
    spent = seconds["hash"] + seconds["runs"] + seconds["search"]
    return (
        meter.figures(job["nbytes"])
        | found
        | {
            "keys_cpu_seconds": spent,
            "keys_over_encode": spent / seconds["encode"],
            "held_mb": held / harness.MB,
            "disk_mb": spilled / harness.MB,
        }
    )


async def _push(job: dict[str, Any]) -> dict[str, Any]:
    async with harness.engine(job) as engine:
        with Meter() as meter:
            await engine.push(job["csv"], table="EVENTS")
    return meter.figures(job["nbytes"])


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file."""
    return asyncio.run(_push(job))


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "push": push,
    **{name: functools.partial(keys, names=names) for name, names in KEYS.items()},
}


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    csv = folder / "events.csv"
    nbytes = write_csv(csv, args.rows)
    with harness.sink(folder) as sink:
        job = {
            "csv": csv,
            "nbytes": nbytes,
            "rows": args.rows,
            "url": sink.url,
            "ca_file": sink.ca_file,
            "folder": folder,
        }
        runs = harness.interleaved(tuple(SIDES), args.repeat, lambda name: harness.side(name, **job))
    ratios = {}
    for name in KEYS:
        ratios[f"{name}_over_encode"] = harness.spread([one["keys_over_encode"] for one in runs[name]])
        pairs = zip(runs[name], runs["push"], strict=True)
        ratios[f"{name}_over_push"] = harness.spread(
            [one["keys_cpu_seconds"] / whole["cpu_seconds"] for one, whole in pairs]
        )
    return {
        "csv_mb": round(nbytes / harness.MB, 1),
        "ratios": ratios,
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    }


if __name__ == "__main__":
    harness.run(harness.arguments(__doc__, rows=4_000_000), SIDES, main)
