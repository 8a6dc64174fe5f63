"""What does the upload body cost over TLS, compared with blocking `ssl.sendall`, and is the event loop ever blocked?

Sides, with the client on core 0 and the sink on core 1 if there are two:
  client    four concurrent payloads through `DataPushClient`, on one event loop
  sendall   the same bytes, one payload after the other, by one blocking `sendall` each
  uvloop, aiofastnet   as `client`, on the event loop of these packages, if they are installed

The loop's lag is how late a 1 ms timer fires. `idle_loop_lag_ms` is the lag of an idle loop, which the machine causes.
On a machine with other load, both are mostly time given to other processes. `loop_busy_ms` is the loop's own part: its CPU time between two
timer calls. The extra memory is the increase of peak RSS during the uploads; the payloads are in memory before. `--rows` is the size of a
payload in MiB.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
from harness import MB, MIB, Meter

UPLOADS = 4
TICK_SECONDS = 0.001


def _payload(job: dict[str, Any]) -> memoryview:
    _pin(0)
    return memoryview(os.urandom(MIB) * job["mib"])


def _pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


class _LagWatch:
    """A repeated timer that records how late it fires."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self.busy_ms: list[float] = []
        self._cpu = time.thread_time()
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + TICK_SECONDS
        self._handle = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now, cpu = self._loop.time(), time.thread_time()
        self.lags_ms.append((now - self._due) * 1000)
        self.busy_ms.append((cpu - self._cpu) * 1000)
        self._cpu = cpu
        self._due = now + TICK_SECONDS
        self._handle = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        self._handle.cancel()


async def _upload_all(job: dict[str, Any], data: memoryview) -> tuple[Meter, _LagWatch, _LagWatch]:
    from pushengine import EngineSettings, UserApiKey
    from pushengine.celonis.data_push import DataPushClient
    from pushengine.model import Payload, TableColumn, Target

    idle = _LagWatch()
    await asyncio.sleep(0.5)
    idle.stop()
    client = DataPushClient(job["url"], "pool", UserApiKey("key"), settings=EngineSettings(ca_file=job["ca_file"]))
    created = await client.create_job(Target("T"), [TableColumn("A", "INTEGER")])
    # Open the connections first, as the side `sendall` does.
    await asyncio.gather(*(client.list_jobs() for _ in range(UPLOADS)))
    payloads = [Payload(f"{number:06d}", data, 1, (number, number + 1), {}) for number in range(UPLOADS)]
    watch = _LagWatch()
    with Meter() as meter:
        await asyncio.gather(*(client.upload_chunk(created.id, payload, "UPSERT") for payload in payloads))
    watch.stop()
    await client.aclose()
    return meter, watch, idle


def client(job: dict[str, Any], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> dict[str, Any]:
    """Upload with the engine's client."""
    data = _payload(job)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        meter, watch, idle = runner.run(_upload_all(job, data))
    return meter.figures(UPLOADS * data.nbytes) | {
        "extra_mb_per_upload": max(meter.peak_rss - meter.rss_before, 0) / MB / UPLOADS,
        "loop_lag_ms": watch.lags_ms,
        "loop_busy_ms": watch.busy_ms,
        "idle_loop_lag_ms": idle.lags_ms,
    }


def uvloop(job: dict[str, Any]) -> dict[str, Any]:
    """Upload with the engine's client on uvloop."""
    import uvloop as package

    return client(job, package.new_event_loop)


def aiofastnet(job: dict[str, Any]) -> dict[str, Any]:
    """Upload with the engine's client on a loop with the transports of aiofastnet."""
    import aiofastnet as package

    return client(job, package.loop_factory())


def sendall(job: dict[str, Any]) -> dict[str, Any]:
    """Upload with blocking `sendall`, the minimum."""
    data = _payload(job)
    host, port = job["url"].removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=job["ca_file"])
    with (
        context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as sock,
        Meter() as meter,
    ):
        for _ in range(UPLOADS):
            sock.sendall(b"POST /none HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % data.nbytes)
            sock.sendall(data)
            sock.recv(1000)
    return meter.figures(UPLOADS * data.nbytes) | {
        "extra_mb_per_upload": max(meter.peak_rss - meter.rss_before, 0) / MB / UPLOADS
    }


def main(args: Any, folder: Path) -> dict[str, Any]:
    """Run all sides in turn."""
    _pin(1)
    with harness.sink(folder, no_checksums=1) as sink:  # the sink's process inherits core 1
        job = {"url": sink.url, "ca_file": sink.ca_file, "mib": args.rows}
        loops = [name for name in ("uvloop", "aiofastnet") if importlib.util.find_spec(name)]
        sides = ("client", "sendall", *loops)
        runs = harness.interleaved(sides, args.repeat, lambda name: harness.side(name, **job))
    lags = {}
    for figure in ("loop_lag_ms", "loop_busy_ms", "idle_loop_lag_ms"):
        for one in (one for name in loops for one in runs[name]):
            del one[figure]
        values = [lag for one in runs["client"] for lag in one.pop(figure)]
        lags[figure] = {
            "p50": round(harness.percentile(values, 0.5), 3),
            "p99": round(harness.percentile(values, 0.99), 3),
            "p99.9": round(harness.percentile(values, 0.999), 3),
            "max": round(max(values), 3),
            "ticks": len(values),
        }
    return {
        "uploads": UPLOADS,
        "payload_mib": args.rows,
        "ratios": {
            "client_mb_per_second_over_sendall": harness.ratio(runs["client"], runs["sendall"], "mb_per_second"),
            "client_cpu_over_sendall": harness.ratio(runs["client"], runs["sendall"], "cpu_seconds"),
        }
        | {
            f"{name}_mb_per_second_over_client": harness.ratio(runs[name], runs["client"], "mb_per_second")
            for name in loops
        }
        | {f"{name}_cpu_over_client": harness.ratio(runs[name], runs["client"], "cpu_seconds") for name in loops},
        "figures": {name: harness.spreads(one) for name, one in runs.items()},
    } | lags


if __name__ == "__main__":
    harness.run(
        harness.arguments(__doc__, rows=128),
        {"client": client, "sendall": sendall, "uvloop": uvloop, "aiofastnet": aiofastnet},
        main,
    )
