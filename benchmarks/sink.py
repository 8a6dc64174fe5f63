"""The receiving end of the benchmarks: a TLS server that gives minimal responses, counts bytes and computes the MD5 of each chunk.

It costs as little as possible, because it shares the machine with what is measured: one blocking thread per connection, and bytes are received
into one buffer and never joined. On `stats` in stdin, it prints its counters since the last `stats` to stdout, including its own CPU time.

Options that simulate links slower than loopback:
  --rtt-seconds          delays each response by this time, and a new connection by twice this time (TCP and TLS)
  --mb-per-second        limits how fast each connection is read
  --link-mb-per-second   limits how fast all connections together are read
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import re
import resource
import socket
import ssl
import sys
import threading
import time
import uuid
from collections import Counter
from typing import Any

MB = 1_000_000
BUFFER_BYTES = 256 * 1024
SHAPED_BUFFER_BYTES = 64 * 1024
_PATH = re.compile(r"/[^/]+/api/v1/data-push/[^/]+/jobs/(?:([^/?]+)(/chunks(?:/(\w+))?)?)?(?:\?.*)?$")


class State:
    """Jobs and counters, protected by one lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self._cpu = 0.0

    def respond(self, method: str, path: str, digest: str | None) -> tuple[int, Any]:
        """Process a request; return the status and the body of the response."""
        match = _PATH.match(path)
        if match is None:
            return 404, None
        job_id, chunks, action = match.groups()
        with self.lock:
            if job_id is None:
                return self._create() if method == "POST" else (200, [])
            job = self.jobs.get(job_id)
            if job is None:
                return 404, None
            if action:
                self.counts["chunks"] += 1
                kind = "DELETE" if action == "deleted" else "UPSERT"
                job["chunks"].append({"id": uuid.uuid4().hex, "type": kind, "checksum": digest})
                return 200, None
            if chunks:
                return 200, job["chunks"]
            if method == "POST":
                self.counts["submits"] += 1
                job["status"] = "DONE"
            elif method == "DELETE":
                del self.jobs[job_id]
            return 200, {"id": job_id, "status": job["status"], "logs": []}

    def _create(self) -> tuple[int, Any]:
        self.counts["jobs"] += 1
        job_id = uuid.uuid4().hex
        self.jobs[job_id] = {"status": "NEW", "chunks": []}
        return 200, {"id": job_id, "status": "NEW"}

    def take_stats(self) -> dict[str, float]:
        """Return the counters since the last call."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = usage.ru_utime + usage.ru_stime
        with self.lock:
            stats = {"cpu_seconds": cpu - self._cpu} | {
                name: self.counts[name] for name in ("bytes", "jobs", "chunks", "submits", "requests", "connections")
            }
            self._cpu = cpu
            self.counts.clear()
        return stats


class RateLimit:
    """A rate limit for bytes. Idle time is not saved up for later bytes."""

    def __init__(self, mb_per_second: float) -> None:
        self._rate = mb_per_second * MB
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, nbytes: int) -> float:
        """Return the seconds to wait after these bytes."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        with self._lock:
            self._free_at = max(self._free_at, now - 0.05) + nbytes / self._rate
            return self._free_at - now


class Connection:
    """One client's connection, served until it closes."""

    def __init__(self, sock: ssl.SSLSocket, state: State, link: RateLimit, args: argparse.Namespace) -> None:
        self._sock = sock
        self._state = state
        self._args = args
        self._view = memoryview(bytearray(SHAPED_BUFFER_BYTES if is_shaped(args) else BUFFER_BYTES))
        self._left = memoryview(b"")
        self._limits = (RateLimit(args.mb_per_second), link)

    def serve(self) -> None:
        """Serve requests until the connection closes."""
        while (head := self._read_until(b"\r\n\r\n", BUFFER_BYTES)) is not None:
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            digest = self._read_body(int(headers.get("content-length", 0)), headers.get("content-type", ""))
            time.sleep(self._args.rtt_seconds)
            status, value = self._state.respond(method, path, digest)
            body = b"" if value is None else json.dumps(value).encode()
            self._sock.sendall(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
            self._state.counts["requests"] += 1

    def _read_body(self, length: int, content_type: str) -> str | None:
        """Receive the whole body. Return the MD5 of the part of a multipart body; None without one or with `--no-checksums`."""
        _, _, boundary = content_type.partition("boundary=")
        if not boundary:
            while length:
                length -= len(self._some(length))
            return None
        part_head = self._read_until(b"\r\n\r\n", length) or b""
        tail = len(f"\r\n--{boundary.strip(chr(34))}--\r\n")
        left = length - len(part_head) - 4 - tail
        self._state.counts["bytes"] += left
        digest = hashlib.md5(usedforsecurity=False)
        while left:
            piece = self._some(left)
            left -= len(piece)
            if not self._args.no_checksums:
                digest.update(piece)
        while tail:
            tail -= len(self._some(tail))
        return None if self._args.no_checksums else digest.hexdigest()

    def _read_until(self, end: bytes, limit: int) -> bytes | None:
        """Return the bytes before `end` and consume `end` too; None at the end of the connection."""
        data = b""
        while (at := data.find(end)) < 0:
            piece = self._some(limit)
            if not piece:
                return None
            data += piece
        self._left = memoryview(data[at + len(end) :] + bytes(self._left))
        return data[:at]

    def _some(self, limit: int) -> memoryview:
        if not self._left:
            self._left = self._view[: self._sock.recv_into(self._view)]
            self._wait_for_rate(len(self._left))
        piece, self._left = self._left[:limit], self._left[limit:]
        return piece

    def _wait_for_rate(self, nbytes: int) -> None:
        ahead = max(limit.take(nbytes) for limit in self._limits)
        if ahead > 0.005:
            time.sleep(ahead)


def is_shaped(args: argparse.Namespace) -> bool:
    """Return whether a rate is limited, so that bytes must not accumulate in this end's buffers."""
    return bool(args.mb_per_second or args.link_mb_per_second)


def serve(
    sock: socket.socket, context: ssl.SSLContext, state: State, link: RateLimit, args: argparse.Namespace
) -> None:
    """Serve one connection on its thread."""
    state.counts["connections"] += 1
    with contextlib.suppress(OSError), sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        time.sleep(2 * args.rtt_seconds)
        with context.wrap_socket(sock, server_side=True) as secured:
            Connection(secured, state, link, args).serve()


def accept(listener: socket.socket, context: ssl.SSLContext, state: State, args: argparse.Namespace) -> None:
    """Accept connections for ever, with a thread for each."""
    link = RateLimit(args.link_mb_per_second)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, context, state, link, args), daemon=True).start()


def main() -> None:
    """Listen until stdin closes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("certificate")
    parser.add_argument("--rtt-seconds", type=float, default=0.0)
    parser.add_argument("--mb-per-second", type=float, default=0.0)
    parser.add_argument("--link-mb-per-second", type=float, default=0.0)
    parser.add_argument("--no-checksums", type=float, default=0, help="1: report no checksums")
    args = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.certificate)
    listener = socket.socket()
    if is_shaped(args):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * SHAPED_BUFFER_BYTES)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    state = State()
    threading.Thread(target=accept, args=(listener, context, state, args), daemon=True).start()
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(state.take_stats()), flush=True)


if __name__ == "__main__":
    main()
