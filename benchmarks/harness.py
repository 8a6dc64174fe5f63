"""What all benchmarks share: arguments, sides in their own processes, the sink, generated event logs, and the JSON output.

A *side* is one way to do the work that a benchmark measures. Each run of a side is a new process of the same script (`--side NAME`),
so that its CPU seconds and peak memory are its own. Its time excludes imports and set-up. Sides take turns within each repetition,
and a ratio compares two runs of the same repetition, because the machine may be slower a minute later.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import importlib.abc
import importlib.metadata
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pyarrow as pa

MB = 1_000_000
MIB = 1024 * 1024
SIDE_TIMEOUT_SECONDS = 600
_PACKAGES = ("pushengine", "pyarrow", "aiohttp", "duckdb", "pandas", "trustme")
_ACTIVITIES = (
    "Create Purchase Order",
    "Approve Purchase Order",
    "Record Goods Receipt",
    "Record Invoice Receipt",
    "Clear Invoice",
)
_TEXTS = ("standard order", "Lieferung verspätet", "price checked by buyer", "3-way match", "express, unter Vorbehalt")
_BLOCK_ROWS = 250_000


def arguments(doc: str, *, rows: int, **extra: Mapping[str, Any]) -> argparse.Namespace:
    """Parse the command line: `--rows`, `--repeat`, and the options that one script adds."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--job", type=json.loads, default={}, help=argparse.SUPPRESS)
    for name, options in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), **options)
    return parser.parse_args()


def run(
    args: argparse.Namespace, sides: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]], main: Callable[..., Any]
) -> None:
    """Run as one side, or as the parent that runs all sides. Print one JSON object."""
    if args.side:
        print(json.dumps(sides[args.side](args.job)))
        return
    with tempfile.TemporaryDirectory(prefix="pushengine-bench-") as folder:
        start = time.monotonic()
        result = main(args, Path(folder))
        about = {
            "benchmark": Path(sys.argv[0]).stem,
            "at": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
            "machine": machine(),
            "rows": args.rows,
            "repeat": args.repeat,
            "elapsed_seconds": round(time.monotonic() - start, 1),
        }
    text = json.dumps(about | result, indent=2)
    print(re.sub(r"\{\s+(\"min\": [^}]*?)\s+\}", lambda match: "{" + " ".join(match[1].split()) + "}", text))


def side(name: str, **job: Any) -> dict[str, Any]:
    """Run one side of this script in its own process; return its figures."""
    environ = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    command = [sys.executable, sys.argv[0], "--side", name, "--job", json.dumps(job, default=str)]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=False, timeout=SIDE_TIMEOUT_SECONDS)
    if done.returncode:
        raise SystemExit(f"side {name} failed with code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def interleaved(
    names: Sequence[str], repeat: int, once: Callable[[str], dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Run all sides repeatedly; return the runs by side. Each repetition starts with another side."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(repeat):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            print(f"{turn + 1}/{repeat} {name}", file=sys.stderr)
            runs[name].append(once(name))
    return runs


# ---------------------------------------------------------------------------------------------------------------- figures


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return the minimum, median and maximum."""
    return {
        "min": round(min(values), digits),
        "median": round(statistics.median(values), digits),
        "max": round(max(values), digits),
    }


def spreads(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the spread of each number in the runs."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    return {name: spread([one[name] for one in runs]) for name in names}


def ratio(over: Sequence[Mapping[str, Any]], under: Sequence[Mapping[str, Any]], figure: str) -> dict[str, float]:
    """Return the spread of the ratio of two sides, computed within each repetition."""
    return spread([a[figure] / b[figure] for a, b in zip(over, under, strict=True) if b[figure]] or [0.0])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a `share` of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def flush_seconds(folder: Path, count: int) -> list[float]:
    """Measure `count` times how many seconds this disk needs to make 4 KiB durable: the minimum cost of a durable fact or grant."""
    seconds = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"x" * MIB)
        os.fsync(file.fileno())
        for turn in range(count):
            at = time.perf_counter()
            os.pwrite(file.fileno(), b"y" * 4096, turn % 256 * 4096)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - at)
    return seconds


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, _path: Any, _target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("hidden, as if only pushengine were installed", name=fullname)


def without_pandas() -> None:
    """Hide pandas, as if only pushengine were installed: pyarrow imports pandas if it finds it, which takes 40 MB."""
    sys.meta_path.insert(0, _NoPandas())


def warm_up() -> None:
    """Make pyarrow import pandas, which it does at its first conversion if pandas is installed, so that no side's time includes the import."""
    import pyarrow as pa

    pa.scalar(0)


@contextlib.asynccontextmanager
async def engine(job: Mapping[str, Any], *, sinks: Sequence[Any] = (), **settings: Any) -> AsyncIterator[Any]:
    """Open an engine for the job's sink, with its own state folder, after it has made its first connection."""
    from pushengine import EngineSettings, PushEngine, UserApiKey

    with tempfile.TemporaryDirectory() as state:
        async with PushEngine(
            job["url"],
            pool_id="pool",
            auth=UserApiKey("key"),
            settings=EngineSettings(ca_file=job["ca_file"], hour_guard_seconds=0, **settings),
            state_dir=Path(state),
            sinks=sinks,
        ) as opened:
            warm_up()
            await opened.list_jobs()
            yield opened


class LastAcknowledgement:
    """An event sink that records when the last chunk was acknowledged."""

    def __init__(self) -> None:
        self.at = 0.0

    def emit(self, event: Any) -> None:
        """Handle an event of the engine."""
        if event.name == "chunk_uploaded":
            self.at = time.perf_counter()


class Meter:
    """Wall time, CPU time and peak memory of this process within a `with` block."""

    def __enter__(self) -> Self:
        gc.collect()  # a full collection of what set-up left takes 30 ms, as much as a small push, and would fall on a side by chance
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        self.rss_before = memory("VmRSS")
        self._cpu, self._system = cpu_seconds(), resource.getrusage(resource.RUSAGE_SELF).ru_stime
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_seconds = cpu_seconds() - self._cpu
        self.system_seconds = resource.getrusage(resource.RUSAGE_SELF).ru_stime - self._system
        self.peak_rss = memory("VmHWM")

    def figures(self, nbytes: int) -> dict[str, float]:
        """Return the figures that every side reports; `nbytes` is the size of the side's input."""
        return {
            "seconds": self.seconds,
            "mb_per_second": nbytes / MB / self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "system_seconds": self.system_seconds,
            "cpu_seconds_per_gb": self.cpu_seconds / (nbytes / 1e9),
            "peak_rss_mb": self.peak_rss / MB,
        }


def cpu_seconds() -> float:
    """Return the user and system seconds of this process, over all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def memory(field: str) -> int:
    """Return a field of /proc/self/status in bytes; 0 where there is no such file or field."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)


def machine() -> dict[str, Any]:
    """Describe the machine and its load."""
    cpu = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    return {
        "system": platform.platform(terse=True),
        "cpu": cpu or platform.machine(),
        "cores": os.cpu_count(),
        "load_before_and_after": [_LOAD, os.getloadavg()[0]],
    }


_LOAD = os.getloadavg()[0]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------------------------------- input


def event_types() -> dict[str, pa.DataType]:
    """Return the types that the engine infers for the generated log; the floor parses into the same types."""
    import pyarrow as pa

    text = pa.string()
    return {
        "_CASE_KEY": text,
        "ACTIVITY_EN": text,
        "EVENTTIME": pa.timestamp("us"),
        "_SORTING": pa.int64(),
        "USER_NAME": text,
        "VENDOR_ID": text,
        "ORDER_ITEM": text,
        "NET_VALUE": pa.float64(),
        "REMARK": text,
    }


def write_event_log(path: Path, rows: int, *, first_row: int = 0, is_quoted: bool = False) -> int:
    """Write a made-up purchase-to-pay event log of about 130 bytes per row and return its size. The same arguments give the same bytes.

    Args:
        path: The file to write.
        rows: The number of rows.
        first_row: Number of the first row.
        is_quoted: Quote every text, and put a delimiter into one of them. Otherwise, the file has no quotes at all.
    """
    import pyarrow.csv as arrow_csv

    with path.open("wb") as file:
        for start in range(first_row, first_row + rows, _BLOCK_ROWS):
            table = _events(start, min(_BLOCK_ROWS, first_row + rows - start), is_quoted=is_quoted)
            options = arrow_csv.WriteOptions(
                include_header=start == first_row,
                quoting_style="all_valid" if is_quoted else "none",
                quoting_header="none",
            )
            arrow_csv.write_csv(table, file, options)
    return path.stat().st_size


def event_table(start: int, rows: int) -> pa.Table:
    """Return rows of the same log as a typed table."""
    import pyarrow as pa

    table = _events(start, rows, is_quoted=False)
    return table.cast(pa.schema(list(event_types().items())))


def _events(start: int, rows: int, *, is_quoted: bool) -> pa.Table:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    number = np.arange(start, start + rows, dtype=np.int64)
    chance = np.random.default_rng(start)
    second = 1_700_000_000 + number * 3 + chance.integers(0, 1000, rows)
    stamps = pa.array(second * 1_000_000 + chance.integers(0, 1_000_000, rows), pa.timestamp("us"))
    texts = _TEXTS if is_quoted else tuple(text.replace(",", "") for text in _TEXTS)
    columns = {
        "_CASE_KEY": _padded("P2P-100-", number // 6, 12),
        "ACTIVITY_EN": pa.array(_ACTIVITIES).take(pa.array(chance.integers(0, len(_ACTIVITIES), rows))),
        "EVENTTIME": pc.replace_substring(stamps.cast(pa.string()), " ", "T"),
        "_SORTING": pa.array(number % 6),
        "USER_NAME": _padded("USER", chance.integers(0, 3000, rows), 5),
        "VENDOR_ID": _padded("", chance.integers(0, 40_000, rows), 10),
        "ORDER_ITEM": _padded("45", chance.integers(0, 10**9, rows), 15),
        "NET_VALUE": pa.array(chance.integers(0, 10_000_000, rows) / 100),
        "REMARK": pa.array(texts).take(pa.array(chance.integers(0, len(texts), rows))),
    }
    return pa.table(columns)


def _padded(prefix: str, numbers: Any, width: int) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0"), "")


# -------------------------------------------------------------------------------------------------------------------- sink


class Sink:
    """The receiving end (`sink.py`) in its own process.

    Attributes:
        url: The address that it listens on.
        ca_file: The CA certificate that verifies it.
    """

    def __init__(self, folder: Path, **options: float) -> None:
        import trustme

        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        key_file = folder / "sink.pem"
        authority.cert_pem.write_to_path(self.ca_file)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(key_file)
        command = [sys.executable, str(Path(__file__).with_name("sink.py")), str(key_file)]
        command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"https://127.0.0.1:{self._request(None)['port']}"

    def take_stats(self) -> dict[str, Any]:
        """Return bytes, requests and CPU seconds since the last call."""
        return self._request("stats")

    def _request(self, command: str | None) -> dict[str, Any]:
        if command is not None and self._process.stdin is not None:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline() if self._process.stdout else ""
        response: dict[str, Any] = json.loads(line or "{}")
        return response

    def close(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=10)


@contextlib.contextmanager
def sink(folder: Path, **options: float) -> Iterator[Sink]:
    """Run a sink during a `with` block."""
    place = Path(tempfile.mkdtemp(dir=folder))
    server = Sink(place, **options)
    try:
        yield server
    finally:
        server.close()
