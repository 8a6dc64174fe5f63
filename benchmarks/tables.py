"""Which chunk size and which dictionaries suit which kind of table? Measures CPU time of an encoder thread and payload bytes, per GB of CSV.

Kinds of table, all as CSV: `log` (the event log of the other benchmarks), `quoted` (the same with every text quoted), `wide` (an ERP extract
of 120 columns: codes, amounts, dates, flags, mostly repeated or empty), `texts` (long free texts, all different), and any `--file`.
Ratios compare with the defaults, which are `chunk_16`.

Variants: `chunk_N` has chunks of N MiB. The others have the default size. `all` and `none` write every string column with or without a
dictionary, while the default is a dictionary where values repeat. `statistics` also writes statistics. `zstd` compresses with ZSTD.
`--rows` is the number of rows of `log`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import harness
from harness import MB, MIB

VARIANTS = ("chunk_4", "chunk_16", "chunk_64", "all", "none", "statistics", "zstd")


async def _inline(function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def encode(job: dict[str, Any]) -> dict[str, Any]:
    """Encode all chunks of one file on one thread; the reader's time does not count."""
    from pushengine.config.settings import EngineSettings
    from pushengine.pipeline import encoding
    from pushengine.pipeline.chunking import Chunker
    from pushengine.runtime.files import LocalFileSystem
    from pushengine.runtime.threads import prefer_jemalloc
    from pushengine.schema.inference import SchemaInference
    from pushengine.sources import open_source
    from pushengine.sources.threaded import ThreadStream

    prefer_jemalloc()
    variant = job["variant"]
    chunk_bytes = int(variant.removeprefix("chunk_")) * MIB if variant.startswith("chunk_") else 16 * MIB
    source: Any = open_source(
        job["csv"], settings=EngineSettings(chunk_bytes=chunk_bytes), filesystem=LocalFileSystem()
    )
    inference = SchemaInference(source.schema(), is_text=True)
    for batch in source.open():
        inference.observe(batch.decode())
    schema = inference.infer_schema()
    options = encoding.EncodingOptions(compression="ZSTD" if variant == "zstd" else "SNAPPY")
    cpu = payload = nbytes = chunks = 0.0

    async def encode_all() -> None:
        nonlocal cpu, payload, nbytes, chunks
        chunker = Chunker(ThreadStream(source.open(), _inline), chunk_bytes, read=_inline)
        while (chunk := await chunker.next_chunk()) is not None:
            started = time.thread_time()
            payload += encoding.encode(chunk, schema, options, ("sha256",)).size
            cpu += time.thread_time() - started
            nbytes += chunk.nbytes
            chunks += 1

    with _writer_options(variant):
        asyncio.run(encode_all())
    return {
        "cpu_seconds_per_gb": cpu / (nbytes / 1e9),
        "payload_mb_per_gb": payload / MB / (nbytes / 1e9),
        "chunks": chunks,
    }


@contextlib.contextmanager
def _writer_options(variant: str) -> Iterator[None]:
    """Change how Parquet is written, as the variant requires."""
    import pyarrow.parquet as pq

    original: Callable[..., Any] = pq.ParquetWriter
    options: dict[str, Any] = {"all": {"use_dictionary": True}, "none": {"use_dictionary": False}}.get(variant, {})
    if variant == "statistics":
        options = {"write_statistics": True}
    with mock.patch.object(pq, "ParquetWriter", lambda *args, **kwargs: original(*args, **kwargs | options)):
        yield


def _write_wide(path: Path, rows: int) -> None:
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(f"COLUMN_{number:03d}" for number in range(120)) + "\n")
        for row in range(rows):
            amount = f"{chance.randrange(10**7) / 100:.2f}"
            date = f"2024-{row % 12 + 1:02d}-{row % 28 + 1:02d}"
            cells = [f"{row:010d}", f"{row // 7:010d}", amount, date, "1000", f"{chance.randrange(5000):08d}"]
            cells += [
                chance.choice(("", "", "X", "EUR", "0001", "", date, amount, "ZNB", str(chance.randrange(100))))
                for _ in range(114)
            ]
            file.write(",".join(cells) + "\n")


def _write_texts(path: Path, rows: int) -> None:
    chance = random.Random(2)
    words = [f"{chance.getrandbits(24):x}"[: chance.randrange(2, 7)] for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        file.write("ID,STATUS,TEXT\n")
        for row in range(rows):
            text = " ".join(chance.choices(words, k=chance.randrange(20, 160)))
            file.write(f'{row:08d},{row % 5},"{text}, so ""it"" is"\n')


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run every kind of table with every variant."""
    files = {kind: folder / f"{kind}.csv" for kind in ("log", "quoted", "wide", "texts")}
    harness.write_event_log(files["log"], args.rows)
    harness.write_event_log(files["quoted"], args.rows, is_quoted=True)
    _write_wide(files["wide"], max(args.rows // 6, 1))
    _write_texts(files["texts"], max(args.rows // 4, 1))
    files |= {Path(name).name: Path(name) for name in args.file}
    figures: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for kind, csv in files.items():
        runs = harness.interleaved(
            args.variants.split(","),
            args.repeat,
            lambda variant, csv=csv: harness.side("encode", csv=csv, variant=variant),
        )
        figures |= {f"{kind}_{variant}": harness.spreads(one) for variant, one in runs.items()}
        for variant, one in runs.items():
            ratios[f"{kind}_{variant}_cpu"] = harness.ratio(one, runs["chunk_16"], "cpu_seconds_per_gb")
            ratios[f"{kind}_{variant}_payload"] = harness.ratio(one, runs["chunk_16"], "payload_mb_per_gb")
    csv_mb = {kind: round(path.stat().st_size / MB, 1) for kind, path in files.items()}
    return {"csv_mb": csv_mb, "ratios": ratios, "figures": figures}


if __name__ == "__main__":
    harness.run(
        harness.arguments(
            __doc__,
            rows=600_000,
            variants={
                "default": ",".join(VARIANTS),
                "help": "the variants to run, separated by commas; must include chunk_16",
            },
            file={"action": "append", "default": [], "help": "another CSV file to try"},
        ),
        {"encode": encode},
        main,
    )
