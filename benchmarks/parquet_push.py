"""How fast is the passthrough of a Parquet file, compared with uploading its bytes alone and with decoding and encoding it?

Sides, all over TLS and with the same number of concurrent uploads:
  as_it_is  `PushEngine.push()` with journal, checksums and value checks; its time ends with the response to the last chunk
  raw       the same bytes, cut the same way, sent from memory through the client alone
  decoded   as `as_it_is`, but every value that needs a check is decoded instead of first checked in its raw page (`parquet/page_checks.py`)
  encoded   the same push with `parquet_as_it_is=false`
and without any upload, on one thread:
  cut       the file is cut into payloads, and every value that needs a check is checked
  recode    the file is decoded and encoded with the same settings, without checks

The files: `log` is the event log of `harness.py`, a third of whose bytes are texts that differ in every row. `erp` is a wide table of codes,
amounts and dates, as in an ERP system, with few distinct texts. pyarrow writes both with its defaults, except for INT96 timestamps.
`is_equal` is true if pyarrow and DuckDB read the same rows from the payloads as from the source.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import harness
import pyarrow as pa
import pyarrow.parquet as pq
from harness import MB, Meter

ROW_GROUP_ROWS = 1_000_000
PART_ROWS = 250_000
DISTINCT_ROWS = 2_000_000
KINDS = ("log", "erp")


async def _push(job: dict[str, Any], *, as_it_is: bool) -> dict[str, Any]:
    sink = harness.LastAcknowledgement()
    settings = job.get("settings", {}) | {"parquet_as_it_is": as_it_is}
    async with harness.engine(job, sinks=[sink], **settings) as engine:
        # The first connection and imports are set-up. A team's first push also determines which checksum the platform uses.
        first = Path(job["file"]).with_name("first.parquet")
        pq.write_table(pa.table({"A": [1]}), first)
        await engine.push(first, table="FIRST")
        start = time.perf_counter()
        with Meter() as meter:
            receipt = await engine.push(job["file"], table="T")
    if (receipt.status, receipt.rows, receipt.verified) != ("DONE", job["rows"], job["verified"]):
        raise SystemExit(f"the push does not match the request: {receipt}")
    nbytes, seconds = job["nbytes"], sink.at - start
    return meter.figures(nbytes) | {
        "seconds": seconds,
        "mb_per_second": nbytes / MB / seconds,
        "plan_seconds": receipt.timings["plan"],
        "payload_mb": receipt.payload_bytes / MB,
        "chunks": receipt.chunks,
    }


def as_it_is(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file unchanged with the engine."""
    return asyncio.run(_push(job, as_it_is=True))


def decoded(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file without the checks on raw pages, to measure what those save."""
    with mock.patch("pushengine.parquet.value_checks._Check._passes_page_checks", return_value=False):
        return asyncio.run(_push(job, as_it_is=True))


def encoded(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file decoded and encoded again."""
    return asyncio.run(_push(job, as_it_is=False))


def raw(job: dict[str, Any]) -> dict[str, Any]:
    """Upload the bytes alone, from memory."""
    payloads = [
        memoryview(b"".join(_bytes_of(part) for part in parts.parts)) for _, parts in _cut_file(Path(job["file"]))
    ]
    meter = asyncio.run(_upload_all(job, payloads))
    return meter.figures(sum(payload.nbytes for payload in payloads)) | {"chunks": len(payloads)}


async def _upload_all(job: dict[str, Any], payloads: list[memoryview]) -> Meter:
    from pushengine import EngineSettings, UserApiKey
    from pushengine.celonis.data_push import DataPushClient
    from pushengine.model import Payload, TableColumn, Target

    settings = EngineSettings(ca_file=job["ca_file"], **job.get("settings", {}))
    client = DataPushClient(job["url"], "pool", UserApiKey("key"), settings=settings)
    created = await client.create_job(Target("T"), [TableColumn("A", "INTEGER")])
    await client.list_jobs()
    waiting = list(enumerate(payloads))

    async def send() -> None:
        while waiting:
            number, data = waiting.pop(0)
            await client.upload_chunk(created.id, Payload(f"{number:06d}", data, 1, (number, number + 1), {}), "UPSERT")

    with Meter() as meter:
        await asyncio.gather(*(send() for _ in range(settings.max_uploads)))
    await client.aclose()
    return meter


def cut(job: dict[str, Any]) -> dict[str, Any]:
    """Cut and check the payloads without an upload."""
    from pushengine import EngineSettings
    from pushengine.parquet.slices import checked_payload
    from pushengine.runtime.files import LocalFileSystem
    from pushengine.schema.inference import SchemaInference
    from pushengine.sources import open_source

    path, filesystem = Path(job["file"]), LocalFileSystem()
    source: Any = open_source(path, settings=EngineSettings(**job.get("settings", {})), filesystem=filesystem)
    inference = SchemaInference(source.schema(), is_text=False)
    for batch in source.sample(harness.MIB):
        inference.observe(batch)
    schema = inference.infer_schema()
    with Meter() as meter:
        for slice_ in source.passthrough_blocks(schema):
            checked_payload("000000", slice_, schema, digests=(), filesystem=filesystem)
    return meter.figures(path.stat().st_size)


def recode(job: dict[str, Any]) -> dict[str, Any]:
    """Decode and encode the file, as a plain tool would."""
    path = Path(job["file"])
    pa.set_cpu_count(1)
    with Meter() as meter, pq.ParquetFile(path) as source:
        for number in range(source.num_row_groups):
            table = source.read_row_group(number, use_threads=False)
            texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
            with pq.ParquetWriter(
                pa.BufferOutputStream(), table.schema, use_dictionary=texts, use_deprecated_int96_timestamps=True
            ) as writer:
                writer.write_table(table)
    return meter.figures(path.stat().st_size)


# ---------------------------------------------------------------------------------------------------------------- payloads


def _cut_file(path: Path) -> list[tuple[Any, Any]]:
    """Cut the file as the engine does with its defaults; return each slice with the location of its bytes."""
    from pushengine import EngineSettings
    from pushengine.parquet.eligibility import read_layouts
    from pushengine.parquet.slices import cut, parts_of
    from pushengine.runtime.files import LocalFileSystem

    settings = EngineSettings()
    layouts = read_layouts(LocalFileSystem().list(str(path)), LocalFileSystem(), settings)
    return [(slice_, parts_of(slice_)) for slice_ in cut(layouts, settings.fitting_chunk_bytes)]


def _bytes_of(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    with Path(part.file.uri).open("rb") as file:
        file.seek(part.offset)
        data: bytes = file.read(part.nbytes)
    return data


def _is_equal(path: Path, folder: Path) -> bool:
    """Return whether pyarrow and DuckDB read the same rows from the payloads as from the source."""
    import duckdb

    with tempfile.TemporaryDirectory(dir=folder) as place, pq.ParquetFile(path) as source:
        for number, (slice_, parts) in enumerate(_cut_file(path)):
            file = Path(place, f"{number:06d}.parquet")
            file.write_bytes(b"".join(map(_bytes_of, parts.parts)))
            run = slice_.runs[0]
            for index in range(run.first, run.end):
                with pq.ParquetFile(file) as found:
                    if not found.read_row_group(index - run.first).equals(source.read_row_group(index)):
                        return False
        names = ", ".join(f'"{name}"' for name in source.schema_arrow.names)
        query = f"select count(*), sum(hash({names})) from "
        with duckdb.connect() as database:
            results = [database.execute(f"{query} '{what}'").fetchone() for what in (path, f"{place}/*.parquet")]
    return results[0] == results[1]


# ------------------------------------------------------------------------------------------------------------------- input


def _write(path: Path, kind: str, rows: int) -> int:
    """Write a file of this many rows and return its size. The rows repeat after `DISTINCT_ROWS`."""
    groups: list[pa.Table] = []
    for start in range(0, min(rows, DISTINCT_ROWS), ROW_GROUP_ROWS):
        parts = list(_parts(kind, start, min(start + ROW_GROUP_ROWS, rows)))
        groups.append(pa.concat_tables(parts))
    with pq.ParquetWriter(path, groups[0].schema, use_deprecated_int96_timestamps=True) as writer:
        for number, start in enumerate(range(0, rows, ROW_GROUP_ROWS)):
            group = groups[number % len(groups)].slice(0, rows - start)
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return path.stat().st_size


def _parts(kind: str, start: int, end: int) -> Iterator[pa.Table]:
    for first in range(start, end, PART_ROWS):
        count = min(PART_ROWS, end - first)
        yield harness.event_table(first, count) if kind == "log" else _erp(first, count)


def _erp(start: int, rows: int) -> pa.Table:
    """Return rows of a made-up order table with forty columns: keys, codes, amounts, dates and counts."""
    import numpy as np

    chance = np.random.default_rng(start)
    codes = pa.array([f"{number:04d}" for number in range(2000)])
    columns: dict[str, Any] = {
        "VBELN": [f"{number // 10:010d}" for number in range(start, start + rows)],
        "POSNR": np.arange(start, start + rows) % 10 * 10,
    }
    for number in range(20):
        columns[f"CODE_{number}"] = codes.take(pa.array(chance.integers(0, 3 + number**2 * 4, rows)))
    for number in range(10):
        columns[f"AMOUNT_{number}"] = chance.integers(0, 10**6, rows) / 100
    for number in range(4):
        days = chance.integers(19_000, 19_000 + 300 * (number + 1), rows)
        columns[f"DATE_{number}"] = pa.array(days * 86_400_000_000).cast(pa.timestamp("us"))
    for number in range(4):
        columns[f"COUNT_{number}"] = chance.integers(0, 10 ** (number + 2), rows)
    return pa.table(columns)


# -------------------------------------------------------------------------------------------------------------------- main


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn, for each kind of table."""
    about: dict[str, Any] = {"ratios": {}, "figures": {}, "file_mb": {}, "is_equal": True}
    with harness.sink(
        folder, rtt_seconds=args.rtt_seconds, mb_per_second=args.mb_per_second, no_checksums=int(args.no_checksums)
    ) as sink:
        for kind in args.kinds.split(","):
            path = folder / f"{kind}.parquet"
            about["file_mb"][kind] = round(_write(path, kind, args.rows) / MB, 1)
            about["is_equal"] &= _is_equal(path, folder)
            job = {
                "file": path,
                "nbytes": path.stat().st_size,
                "rows": args.rows,
                "url": sink.url,
                "ca_file": sink.ca_file,
                "settings": args.settings,
                "verified": "count" if args.no_checksums else "checksum",
            }
            sides = ("as_it_is", "raw", "decoded", "encoded", "cut", "recode")
            runs = harness.interleaved(sides, args.repeat, lambda name, job=job: harness.side(name, **job))
            about["ratios"] |= {
                f"{kind}_raw_seconds_over_as_it_is": harness.ratio(runs["raw"], runs["as_it_is"], "seconds"),
                f"{kind}_decoded_seconds_over_as_it_is": harness.ratio(runs["decoded"], runs["as_it_is"], "seconds"),
                f"{kind}_decoded_cpu_over_as_it_is": harness.ratio(runs["decoded"], runs["as_it_is"], "cpu_seconds"),
                f"{kind}_encoded_seconds_over_as_it_is": harness.ratio(runs["encoded"], runs["as_it_is"], "seconds"),
                f"{kind}_encoded_cpu_over_as_it_is": harness.ratio(runs["encoded"], runs["as_it_is"], "cpu_seconds"),
                f"{kind}_recode_seconds_over_cut": harness.ratio(runs["recode"], runs["cut"], "seconds"),
                f"{kind}_recode_cpu_over_cut": harness.ratio(runs["recode"], runs["cut"], "cpu_seconds"),
            }
            about["figures"] |= {f"{kind}_{name}": harness.spreads(one) for name, one in runs.items()}
            path.unlink()
    link = {"rtt_seconds": args.rtt_seconds, "mb_per_second_per_connection": args.mb_per_second}
    return about | {"settings": args.settings, "link": link, "has_checksums": not args.no_checksums}


if __name__ == "__main__":
    import json

    harness.run(
        harness.arguments(
            __doc__,
            rows=16_000_000,
            rtt_seconds={"type": float, "default": 0.0},
            mb_per_second={"type": float, "default": 0.0, "help": "rate of each connection"},
            no_checksums={
                "action": "store_true",
                "help": "the sink reports no checksums: pushes are verified by count, and the sink needs less CPU",
            },
            kinds={"default": ",".join(KINDS), "help": "the kinds of tables, separated by commas"},
            settings={"type": json.loads, "default": {}, "help": "engine settings to try, as JSON"},
        ),
        {"as_it_is": as_it_is, "raw": raw, "decoded": decoded, "encoded": encoded, "cut": cut, "recode": recode},
        main,
    )
