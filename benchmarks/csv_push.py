"""How fast does a CSV file become acknowledged chunks, compared with the alternatives and with the machine's own limit?

Sides:
  push     `PushEngine.push()` over TLS, with journal and checksums; its time ends with the response to the last chunk
  duckdb   `COPY csv TO parquet` to disk: converts, sends nothing
  vendor   what the vendor's Python client does: pandas reads the file, then 100,000-row Parquet chunks are posted one after the other
  floor    CPU time of parsing, encoding, hashing and TLS, each alone on one thread; divided by the cores, the minimum time on this machine

`--rtt-seconds` and `--mb-per-second` put a long link between push or vendor and the sink. `--profile` adds how a push spends its time:
CPU seconds of each stage, per GB of CSV. `--quoted` quotes every text.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import io
import os
import socket
import ssl
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
from harness import MIB, Meter

VENDOR_CHUNK_ROWS = 100_000
RANGE_BYTES = 8 * MIB
CHUNK_ROWS = 500_000


# -------------------------------------------------------------------------------------------------------------------- push


async def _push(job: dict[str, Any]) -> tuple[Any, Meter, float]:
    from pushengine.runtime.threads import prefer_jemalloc

    prefer_jemalloc()  # as the command line does
    sink = harness.LastAcknowledgement()
    async with harness.engine(job, sinks=[sink], **job.get("settings", {})) as engine:
        # Imports, the connection and the platform's checksum algorithm are set-up: every push but a team's first has them already.
        await engine.push(pa.table({"N": [1]}), table="WARM")
        start = time.perf_counter()
        with Meter() as meter:
            receipt = await engine.push(job["csv"], table="EVENTS")
        return receipt, meter, sink.at - start


def push(job: dict[str, Any]) -> dict[str, Any]:
    """Push the file with the engine."""
    stages = _Stages()
    with stages.watching() if job.get("profile") else contextlib.nullcontext():
        receipt, meter, acknowledged = asyncio.run(_push(job))
    if (receipt.status, receipt.rows, receipt.verified) != ("DONE", job["rows"], "checksum"):
        raise SystemExit(f"the push does not match the request: {receipt}")
    nbytes = Path(job["csv"]).stat().st_size
    result = meter.figures(nbytes) | {
        "seconds": acknowledged,
        "mb_per_second": nbytes / harness.MB / acknowledged,
        "whole_push_seconds": meter.seconds,
        "plan_seconds": receipt.timings["plan"],
        "payload_mb": receipt.payload_bytes / harness.MB,
        "chunks": receipt.chunks,
    }
    return result | ({"stages": stages.report(nbytes, meter)} if job.get("profile") else {})


class _Stages:
    """CPU and wall seconds of the engine's stages, measured by wrapping their functions. Renamed functions are reported as missing."""

    WATCHED = (
        ("read: next bytes", "pushengine.sources.csv.text_file", "TextFile.filled"),
        ("read: whole rows, quotes", "pushengine.sources.csv.reading", "CsvPass._complete_rows"),
        ("reader thread in all", "pushengine.sources.threaded", "ThreadStream._read_some"),
        ("sample: find types", "pushengine.schema.inference", "SchemaInference.observe"),
        ("encode: parse as text", "pushengine.sources.csv.layout", "Layout.parse"),
        ("encode: types and lengths", "pushengine.pipeline.encoding", "conform"),
        ("encode: digests", "pushengine.pipeline.encoding", "_digest"),
        ("encode: all but digests", "pushengine.pipeline.encoding", "_write_parquet"),
    )

    def __init__(self) -> None:
        self._cpu: dict[str, float] = defaultdict(float)
        self._wall: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._missing: list[str] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        import importlib

        undo: list[Callable[[], None]] = []
        for stage, module, path in self.WATCHED:
            owner: Any = importlib.import_module(module)
            *outer, name = path.split(".")
            try:
                for part in outer:
                    owner = getattr(owner, part)
                original = getattr(owner, name)
            except AttributeError:
                self._missing.append(path)
                continue
            setattr(owner, name, self._timed(stage, original))
            undo.append(functools.partial(setattr, owner, name, original))
        try:
            yield
        finally:
            for step in undo:
                step()

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self._cpu[stage] += time.thread_time() - cpu
                    self._wall[stage] += time.perf_counter() - wall

        return timed

    def report(self, nbytes: int, meter: Meter) -> dict[str, Any]:
        gigabytes = nbytes / 1e9
        parse, types, digests = "encode: parse as text", "encode: types and lengths", "encode: digests"
        encode = "encode: all but digests"
        whole = ("reader thread in all", encode, digests, "sample: find types")
        cpu, wall = dict(self._cpu), dict(self._wall)
        for seconds in (cpu, wall):
            seconds["encode: write Parquet"] = seconds.get(encode, 0) - seconds.get(types, 0) - seconds.get(parse, 0)
        cpu["event loop, TLS and the rest"] = meter.cpu_seconds - sum(cpu.get(stage, 0) for stage in whole)
        return {
            "cpu_seconds_per_gb": {stage: round(seconds / gigabytes, 2) for stage, seconds in sorted(cpu.items())},
            "wall_seconds": {stage: round(seconds, 2) for stage, seconds in sorted(wall.items())},
            "busy_cores": round(meter.cpu_seconds / meter.seconds, 2),
            "missing": self._missing,
        }


# ------------------------------------------------------------------------------------------------------------ alternatives


def duckdb(job: dict[str, Any]) -> dict[str, Any]:
    """Convert the file with DuckDB, without sending anything."""
    import duckdb as database

    with tempfile.TemporaryDirectory(dir=Path(job["csv"]).parent) as folder, database.connect() as connection:
        with Meter() as meter:
            connection.execute(f"COPY (FROM read_csv('{job['csv']}')) TO '{folder}/out.parquet' (FORMAT parquet)")
        payload = Path(folder, "out.parquet").stat().st_size
    return meter.figures(Path(job["csv"]).stat().st_size) | {"payload_mb": payload / harness.MB}


def vendor(job: dict[str, Any]) -> dict[str, Any]:
    """Read the whole file with pandas, then post it chunk by chunk."""
    import pandas as pd

    connection = http.client.HTTPSConnection(
        job["url"].removeprefix("https://"), context=ssl.create_default_context(cafile=job["ca_file"])
    )
    jobs = "/data-ingestion/api/v1/data-push/pool/jobs/"
    created = _request(connection, "POST", jobs, b"{}", "application/json")
    job_id = created.partition(b'"id": "')[2].partition(b'"')[0].decode()
    boundary, payload = "5d2f", 0
    with Meter() as meter:
        frame = pd.read_csv(job["csv"], parse_dates=["EVENTTIME"])
        for start in range(0, len(frame), VENDOR_CHUNK_ROWS):
            file = io.BytesIO()
            frame.iloc[start : start + VENDOR_CHUNK_ROWS].to_parquet(
                file, index=False, use_deprecated_int96_timestamps=True
            )
            payload += len(file.getvalue())
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'.encode()
            body = b"".join((head, file.getvalue(), f"\r\n--{boundary}--\r\n".encode()))
            _request(
                connection, "POST", f"{jobs}{job_id}/chunks/upserted", body, f"multipart/form-data; boundary={boundary}"
            )
    connection.close()
    return meter.figures(Path(job["csv"]).stat().st_size) | {"payload_mb": payload / harness.MB}


def _request(connection: http.client.HTTPSConnection, method: str, path: str, body: bytes, content_type: str) -> bytes:
    connection.request(method, path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    data = response.read()
    if response.status != http.client.OK:
        raise SystemExit(f"{method} {path}: {response.status}")
    return data


# ------------------------------------------------------------------------------------------------------------------- floor


def floor(job: dict[str, Any]) -> dict[str, Any]:
    """Run each stage alone, on this thread, over the whole file. Only CPU time counts, not waits."""
    cpu: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.thread_time()
        yield
        cpu[name] += time.thread_time() - start

    import hashlib
    import zlib

    pa.set_cpu_count(1)
    connection = _connect(job)
    payload_bytes = 0
    strings = [name for name, kind in harness.event_types().items() if kind == pa.string()]
    for table in _typed_tables(Path(job["csv"]), stage):
        with stage("encode"):
            sink = pa.BufferOutputStream()
            pq.write_table(
                table,
                sink,
                compression="snappy",
                use_dictionary=strings,
                use_deprecated_int96_timestamps=True,
                store_schema=False,
            )
            payload = memoryview(sink.getvalue())
        payload_bytes += payload.nbytes
        with stage("hash"):
            for name in ("sha256", "md5", "sha1"):
                hashlib.new(name, payload, usedforsecurity=False).hexdigest()
            zlib.crc32(payload)
        with stage("tls"):
            connection.sendall(b"POST /none HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % payload.nbytes)
            connection.sendall(payload)
            connection.recv(1000)
    connection.close()
    nbytes = Path(job["csv"]).stat().st_size
    total = sum(cpu.values())
    cores = os.cpu_count() or 1
    return {
        "seconds": total / cores,
        "mb_per_second": nbytes / harness.MB / (total / cores),
        "cpu_seconds": total,
        "cpu_seconds_per_gb": total / (nbytes / 1e9),
        "payload_mb": payload_bytes / harness.MB,
    } | {f"{name}_cpu_seconds_per_gb": seconds / (nbytes / 1e9) for name, seconds in cpu.items()}


def _typed_tables(path: Path, stage: Callable[[str], Any]) -> Iterator[pa.Table]:
    """Yield the file as tables the size of a chunk; ranges that end with a line are parsed directly into the final types."""
    waiting: list[pa.Table] = []
    convert = arrow_csv.ConvertOptions(
        column_types=harness.event_types(), strings_can_be_null=True, quoted_strings_can_be_null=False
    )
    with path.open("rb") as file:
        names = file.readline().decode().strip().split(",")
        while data := file.read(RANGE_BYTES):
            data += file.readline()
            with stage("parse"):
                read = arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=MIB)
                waiting.append(arrow_csv.read_csv(pa.BufferReader(data), read, convert_options=convert))
            if sum(table.num_rows for table in waiting) >= CHUNK_ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _connect(job: dict[str, Any]) -> ssl.SSLSocket:
    host, port = job["url"].removeprefix("https://").split(":")
    sock = socket.create_connection((host, int(port)))
    return ssl.create_default_context(cafile=job["ca_file"]).wrap_socket(sock, server_hostname=host)


# -------------------------------------------------------------------------------------------------------------------- main


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    csv = folder / "events.csv"
    nbytes = harness.write_event_log(csv, args.rows, is_quoted=args.quoted)
    is_shaped = bool(args.rtt_seconds or args.mb_per_second)
    names = ("push", "vendor") if is_shaped else ("push", "duckdb", "vendor", "floor")
    sink_cpu: list[float] = []
    with harness.sink(folder, rtt_seconds=args.rtt_seconds, mb_per_second=args.mb_per_second) as sink:
        job = {"csv": csv, "rows": args.rows, "url": sink.url, "ca_file": sink.ca_file, "settings": args.settings}

        def once(name: str) -> dict[str, Any]:
            sink.take_stats()
            figures = harness.side(name, **job)
            if name == "push":
                sink_cpu.append(sink.take_stats()["cpu_seconds"] / (nbytes / 1e9))
            return figures

        runs = harness.interleaved(names, args.repeat, once)
        profile = harness.side("push", **job, profile=True)["stages"] if args.profile else None
    ratios = {
        "vendor_seconds_over_push": harness.ratio(runs["vendor"], runs["push"], "seconds"),
        "vendor_cpu_over_push": harness.ratio(runs["vendor"], runs["push"], "cpu_seconds"),
        "vendor_memory_over_push": harness.ratio(runs["vendor"], runs["push"], "peak_rss_mb"),
    }
    if not is_shaped:
        ratios |= {
            "duckdb_seconds_over_push": harness.ratio(runs["duckdb"], runs["push"], "seconds"),
            "duckdb_cpu_over_push": harness.ratio(runs["duckdb"], runs["push"], "cpu_seconds"),
            "floor_seconds_over_push": harness.ratio(runs["floor"], runs["push"], "seconds"),
            "floor_cpu_over_push": harness.ratio(runs["floor"], runs["push"], "cpu_seconds"),
        }
    return {
        "csv_mb": round(nbytes / harness.MB, 1),
        "link": {"rtt_seconds": args.rtt_seconds, "mb_per_second_per_connection": args.mb_per_second},
        "settings": args.settings,
        "ratios": ratios,
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
        "sink_cpu_seconds_per_gb": harness.spread(sink_cpu),
    } | ({"profile": profile} if profile else {})


if __name__ == "__main__":
    import json

    harness.run(
        harness.arguments(
            __doc__,
            rows=4_000_000,
            rtt_seconds={"type": float, "default": 0.0},
            mb_per_second={"type": float, "default": 0.0},
            settings={
                "type": json.loads,
                "default": {},
                "help": 'engine settings to try, as JSON: {"chunk_bytes": 16777216}',
            },
            profile={"action": "store_true"},
            quoted={"action": "store_true"},
        ),
        {"push": push, "duckdb": duckdb, "vendor": vendor, "floor": floor},
        main,
    )
