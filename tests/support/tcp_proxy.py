"""A TCP proxy that breaks connections on command: cuts at exact bytes, stalls, slows down, delays, refuses.

async with TcpProxy(emulator.port) as proxy:
    proxy.cut_after(request=1000)       # each connection: the server receives 1000 bytes, then the end
    ...                                 # the client connects to proxy.url
    proxy.restore()                     # connections that are still open continue; none is lost
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Literal

Direction = Literal["request", "answer"]
BOTH = ("request", "answer")

_PIECE_BYTES = 64 * 1024
_SLICES_PER_SECOND = 20  # how often a slow direction sends
_CLOSING_SECONDS = 1.0  # how long closing waits for a peer that does not read the rest
_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class _Cut:
    """Where connections are cut: `limits` are bytes per direction, of each connection or of all of them together."""

    limits: dict
    over: Literal["connection", "all"]
    reset: bool
    times: int | None
    passed: dict  # bytes per direction over all connections since the cut was ordered


class TcpProxy:
    """A proxy that forwards connections to a port on this machine.

    Attributes:
        port: The port that the proxy listens on.
        accepted: Connections accepted so far.
        cuts: Connections cut so far.
        request_bytes: Bytes forwarded to the server so far.
        answer_bytes: Bytes forwarded to the client so far.
    """

    def __init__(self, target_port, *, host="127.0.0.1"):
        self._target = host, target_port
        self._server = None
        self._links = set()
        self._errors = []
        self._changed = asyncio.Event()
        self._reset_rules()
        self.port = 0
        self.accepted = 0
        self.cuts = 0
        self.passed = dict.fromkeys(BOTH, 0)

    def __repr__(self):
        return f"<TcpProxy {self.url}, {self.connections} connections, {self.cuts} cut, {self.passed}>"

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, self._target[0], 0, limit=_PIECE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        links = list(self._links)
        for link in links:
            link.task.cancel()
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)
        for link in links:  # a task cancelled before its first step has not closed its connection
            _close(link.client[1], reset=True)
        await self._server.wait_closed()
        if self._errors:
            raise ExceptionGroup("the proxy failed", self._errors)

    @property
    def url(self):
        return f"http://{self._target[0]}:{self.port}"

    @property
    def request_bytes(self):
        return self.passed["request"]

    @property
    def answer_bytes(self):
        return self.passed["answer"]

    @property
    def connections(self):
        """Number of open connections."""
        return len(self._links)

    # Orders. Each one is in effect until it is replaced or until `restore`.

    def cut_after(self, *, request=None, answer=None, over="connection", reset=True, times=None):
        """Cut connections after exactly this number of forwarded bytes.

        Args:
            request: Bytes from the client.
            answer: Bytes from the server.
            over: Count the bytes of each connection, or of all connections together from now on.
            reset: End the client's side with a TCP reset rather than in order; the server's side ends in order.
            times: Number of connections to cut; None cuts every connection.
        """
        limits = {"request": request, "answer": answer}
        self._cut = _Cut(limits, over, reset, times, dict.fromkeys(BOTH, 0))
        self._change()

    def cut(self, *, reset=True):
        """Cut every open connection."""
        for link in list(self._links):
            link.end(reset=reset)

    def stall(self, *directions: Direction, reading=True):
        """Stop forwarding in these directions, or in both if none is given.

        Args:
            directions: The directions to stall.
            reading: Read and keep what arrives; otherwise do not even read it.
        """
        self._stalled = dict.fromkeys(directions or BOTH, reading)
        self._change()

    def slow(self, bytes_per_second, *directions: Direction):
        """Limit each connection to this many bytes per second in these directions, or in both if none is given."""
        self._rates = dict.fromkeys(directions or BOTH, bytes_per_second)
        self._change()

    def delay(self, seconds, *directions: Direction):
        """Forward everything this many seconds later; this does not limit the bytes in transit."""
        self._latency = dict.fromkeys(directions or BOTH, seconds)
        self._change()

    def refuse(self, *, reset=True):
        """End new connections as soon as they are accepted."""
        self._refusing = reset
        self._change()

    def restore(self):
        """Forward everything again, including the bytes that were held back."""
        self._reset_rules()
        self._change()

    def _reset_rules(self):
        self._cut = _Cut({}, "connection", reset=True, times=0, passed=dict.fromkeys(BOTH, 0))
        self._stalled = {}
        self._rates = {}
        self._latency = {}
        self._refusing = None

    def _change(self):
        self._changed.set()
        self._changed = asyncio.Event()
        for link in self._links:
            for pipe in link.pipes:
                pipe.wake()

    def _accept(self, reader, writer):
        self.accepted += 1
        if self._refusing is not None:
            _close(writer, reset=self._refusing)
            return
        link = _Link(self, reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda task: self._forget(link, task))

    def _forget(self, link, task):
        self._links.discard(link)
        if not task.cancelled() and task.exception() is not None:
            self._errors.append(task.exception())


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy, reader, writer):
        self.proxy = proxy
        self.client = reader, writer
        self.pipes = []
        self.ended = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(self._run())

    def end(self, *, reset):
        """Cut the connection."""
        if not self.ended.done():
            self.proxy.cuts += 1
            self.ended.set_result(reset)

    async def _run(self):
        client_reader, client_writer = self.client
        server_writer = None
        reset = True
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.proxy._target, limit=_PIECE_BYTES)
            self.pipes = [
                _Pipe(self, "request", client_reader, server_writer),
                _Pipe(self, "answer", server_reader, client_writer),
            ]
            reset = await self._forward()
        except OSError:  # the target does not listen
            pass
        finally:
            _close(client_writer, reset=reset)
            if server_writer is not None:
                _close(server_writer, reset=False)
            await _closed(client_writer, server_writer)

    async def _forward(self):
        """Forward until both directions have ended, one is broken, or the proxy cuts. Return whether to end the client's side with a reset."""
        tasks = [asyncio.ensure_future(pipe.run()) for pipe in self.pipes]
        try:
            both = asyncio.gather(*tasks)
            await asyncio.wait([both, self.ended], return_when=asyncio.FIRST_COMPLETED)
            if self.ended.done():
                return self.ended.result()
            error = both.exception()
            if error is not None and not isinstance(error, OSError):
                raise error
            return error is not None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, both, return_exceptions=True)


class _Pipe:
    """One direction of a connection. One loop reads and another writes, so that latency and stalls do not block reading."""

    def __init__(self, link, direction, reader, writer):
        self.link = link
        self.proxy = link.proxy
        self.direction = direction
        self.reader = reader
        self.writer = writer
        self.passed = 0
        self._pieces = deque()  # (arrived at, bytes); empty bytes or an error are the end
        self._held_bytes = 0
        self._waiters = []
        writer.transport.set_write_buffer_limits(0)  # so that drain waits until the kernel has taken everything

    async def run(self):
        reading, writing = asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())
        try:
            await asyncio.gather(reading, writing)
        finally:
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self):
        loop = asyncio.get_running_loop()
        while True:
            await self._until(self._may_read)
            try:
                data = await self.reader.read(_PIECE_BYTES)
            except OSError as exc:  # a reset; bytes received before it are still forwarded
                data = exc
            self._pieces.append((loop.time(), data))
            self.wake()
            if not data or isinstance(data, OSError):
                return
            self._held_bytes += len(data)

    async def _write(self):
        loop = asyncio.get_running_loop()
        while True:
            await self._until(lambda: self.direction not in self.proxy._stalled)
            if self._room() == 0:
                self._end()
                return
            await self._until(lambda: self._pieces)
            arrived_at, data = self._pieces[0]
            wait = arrived_at + self.proxy._latency.get(self.direction, 0.0) - loop.time()
            if wait > 0:
                await self._pause(wait)
                continue
            if self.direction in self.proxy._stalled:
                continue
            self._pieces.popleft()
            if isinstance(data, OSError):
                raise data
            if not data:
                self.writer.write_eof()
                return
            await self._pass(arrived_at, data)

    async def _pass(self, arrived_at, data):
        """Forward the part of a piece that may be forwarded now, and put the rest back."""
        rate = self.proxy._rates.get(self.direction)
        room = self._room()
        size = min(len(data), max(1, int(rate / _SLICES_PER_SECOND)) if rate else len(data))
        size = size if room is None else min(size, room)
        if size < len(data):
            self._pieces.appendleft((arrived_at, data[size:]))
        self._count(size)
        self.writer.write(data[:size])
        await self.writer.drain()
        self.wake()
        if rate and self._room() != 0:
            await self._pause(size / rate)

    def _room(self):
        """Return the number of bytes until the cut; None without a cut ahead."""
        cut = self.proxy._cut
        limit = cut.limits.get(self.direction)
        if limit is None or cut.times == 0:
            return None
        return max(0, limit - (self.passed if cut.over == "connection" else cut.passed[self.direction]))

    def _count(self, size):
        self.passed += size
        self.proxy._cut.passed[self.direction] += size
        self.proxy.passed[self.direction] += size
        self._held_bytes -= size

    def _end(self):
        cut = self.proxy._cut
        if self.link.ended.done():
            return
        if cut.times is not None:
            cut.times -= 1
        self.link.end(reset=cut.reset)

    def _may_read(self):
        reading = self.proxy._stalled.get(self.direction)
        latency = self.proxy._latency.get(self.direction)
        return reading or latency or (reading is None and self._held_bytes < _PIECE_BYTES)

    async def _until(self, condition):
        """Wait until the condition is true. Orders and the other loop of this pipe can change it."""
        while not condition():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def wake(self):
        """Wake the loops to check their conditions again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _pause(self, seconds):
        """Wait this long, or until the next order."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.proxy._changed.wait()


def _close(writer, *, reset):
    """End a connection: in order after the bytes already written, or with a reset."""
    connection = writer.get_extra_info("socket")
    if reset and connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        writer.transport.abort()
    else:
        writer.close()


async def _closed(*writers):
    """Wait until the writers are closed, for at most `_CLOSING_SECONDS`; then abort them."""
    waiting = [asyncio.ensure_future(writer.wait_closed()) for writer in writers if writer is not None]
    try:
        await asyncio.wait(waiting, timeout=_CLOSING_SECONDS)
    finally:
        for writer in filter(None, writers):
            writer.transport.abort()
        await asyncio.gather(*waiting, return_exceptions=True)
