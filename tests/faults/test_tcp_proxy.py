"""The proxy that the fault tests rely on: it cuts at the exact byte, forwards everything else, and leaves nothing behind."""

import asyncio
import contextlib
import gc
import time

import aiohttp
import pytest
from support.tcp_proxy import TcpProxy

from pushengine.emulator import Emulator


class Sink:
    """A server that records what each connection sent and responds with `answer` once it has received `wanted` bytes."""

    def __init__(self, wanted=1, answer=b"", *, reads=True):
        self.wanted = wanted
        self.answer = answer
        self.reads = reads
        self.received = []
        self.ends = []
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader, writer):
        self._tasks.add(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader, writer):
        index = len(self.received)
        self.received.append(b"")
        self.ends.append(None)
        try:
            while self.reads and (data := await reader.read(65536)):
                had = len(self.received[index])
                self.received[index] += data
                if had < self.wanted <= len(self.received[index]):
                    writer.write(self.answer)
                    await writer.drain()
            if not self.reads:
                await asyncio.sleep(60)
            self.ends[index] = "end"
        except ConnectionError:
            self.ends[index] = "reset"
        finally:
            writer.transport.abort()


class Client:
    def __init__(self, proxy):
        self.proxy = proxy

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def send(self, data):
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def read_to_end(self):
        """Read until the connection ends; return the data and how it ended."""
        data = b""
        try:
            while piece := await self.reader.read(65536):
                data += piece
        except ConnectionResetError:
            return data, "reset"
        return data, "end"


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def stays(condition, seconds=0.05):
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        assert condition()
        await asyncio.sleep(0.005)


def some_bytes(count):
    return bytes(index % 251 for index in range(count))


async def test_everything_is_forwarded_both_ways():
    data = some_bytes(1_000_000)
    async with Sink(len(data), data[::-1]) as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        await client.send(data)
        assert await client.reader.readexactly(len(data)) == data[::-1]
        assert sink.received == [data]
        assert (proxy.request_bytes, proxy.answer_bytes, proxy.accepted, proxy.cuts) == (len(data), len(data), 1, 0)
        client.writer.write_eof()
        assert await client.read_to_end() == (b"", "end")
        await until(lambda: proxy.connections == 0)


@pytest.mark.parametrize("count", [0, 1, 999, 70_000, 300_000])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "orderly"])
async def test_a_request_is_cut_at_the_byte(count, reset):
    async with Sink(10**9) as sink, TcpProxy(sink.port) as proxy:
        proxy.cut_after(request=count, reset=reset)
        async with Client(proxy) as client:
            await client.send(some_bytes(400_000))
            _, end = await client.read_to_end()
            assert end == "reset" or not reset  # unread data turn an orderly end into a reset
            await until(lambda: sink.ends == ["end"])
            assert sink.received == [some_bytes(count)]
    assert proxy.cuts == 1


@pytest.mark.parametrize("count", [0, 1, 999, 70_000])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "orderly"])
async def test_a_response_is_cut_at_the_byte(count, reset):
    async with Sink(1, some_bytes(100_000)) as sink, TcpProxy(sink.port) as proxy:
        proxy.cut_after(answer=count, reset=reset)
        async with Client(proxy) as client:
            await client.send(b"x")
            assert await client.read_to_end() == (some_bytes(count), "reset" if reset else "end")


async def test_a_cut_may_be_limited_to_a_number_of_connections():
    async with Sink() as sink, TcpProxy(sink.port) as proxy:
        proxy.cut_after(request=2, times=2)
        for _ in range(3):
            async with Client(proxy) as client:
                await client.send(b"abc")
                client.writer.write_eof()
                await client.read_to_end()
        await until(lambda: sink.ends == ["end"] * 3)
        assert sink.received == [b"ab", b"ab", b"abc"]
        assert proxy.cuts == 2


async def test_a_cut_may_count_all_connections_together():
    async with Sink() as sink, TcpProxy(sink.port) as proxy:
        proxy.cut_after(request=5, over="all")
        for _ in range(2):
            async with Client(proxy) as client:
                await client.send(b"abc")
                client.writer.write_eof()
                await client.read_to_end()
        await until(lambda: sink.ends == ["end"] * 2)
        assert sink.received == [b"abc", b"ab"]


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "orderly"])
async def test_all_open_connections_can_be_cut_at_once(reset):
    async with Sink(1, b"hello") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as one, Client(proxy) as two:
        for client in (one, two):
            await client.send(b"x")
            assert await client.reader.readexactly(5) == b"hello"
        proxy.cut(reset=reset)
        for client in (one, two):
            assert await client.read_to_end() == (b"", "reset" if reset else "end")
        assert proxy.cuts == 2


@pytest.mark.parametrize("reading", [True, False], ids=["reading", "not reading"])
async def test_a_stalled_request_continues_after_restore(reading):
    data = some_bytes(3_000_000)
    async with Sink(len(data), b"done") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        proxy.stall("request", reading=reading)
        sending = asyncio.ensure_future(client.send(data * 4))
        await stays(lambda: not any(sink.received))
        if reading:
            await sending  # the sender notices nothing
        else:
            await stays(lambda: not sending.done())
        proxy.restore()
        await sending
        assert await client.reader.readexactly(4) == b"done"
        await until(lambda: sink.received == [data * 4])


async def test_a_stalled_response_direction_does_not_affect_requests():
    async with Sink(1, b"hello") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        proxy.stall("answer")
        await client.send(b"x")
        await until(lambda: sink.received == [b"x"])
        reading = asyncio.ensure_future(client.reader.readexactly(5))
        await stays(lambda: not reading.done())
        proxy.restore()
        assert await reading == b"hello"


async def test_a_stall_without_a_direction_affects_both():
    async with Sink(1, b"hello") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        await client.send(b"x")
        assert await client.reader.readexactly(5) == b"hello"
        proxy.stall()
        await client.send(b"y")
        await stays(lambda: sink.received == [b"x"])


async def test_a_slow_direction_is_limited_to_its_rate():
    async with Sink(20_000, b"ok") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        proxy.slow(100_000)
        started = time.monotonic()
        await client.send(bytes(20_000))
        await client.reader.readexactly(2)
        assert 0.1 < time.monotonic() - started < 2
        proxy.slow(1)
        await client.send(bytes(100_000))
        await stays(lambda: len(sink.received[0]) < 21_000)
        proxy.restore()
        await until(lambda: len(sink.received[0]) == 120_000)


async def test_a_delay_adds_up_over_both_directions_but_not_over_pieces():
    async with Sink(10, b"ok") as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        proxy.delay(0.1)
        started = time.monotonic()
        for _ in range(10):
            await client.send(b"x")
            await asyncio.sleep(0.001)
        await client.reader.readexactly(2)
        assert 0.2 <= time.monotonic() - started < 0.9
        proxy.delay(60, "request")
        await client.send(b"late")
        await stays(lambda: len(sink.received[0]) == 10)
        proxy.restore()
        await until(lambda: sink.received[0][10:] == b"late")


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "orderly"])
async def test_new_connections_may_be_refused(reset):
    async with Sink() as sink, TcpProxy(sink.port) as proxy:
        proxy.refuse(reset=reset)
        with contextlib.suppress(ConnectionResetError):
            async with Client(proxy) as client:
                assert await client.read_to_end() == (b"", "reset" if reset else "end")
        assert sink.received == []
        proxy.restore()
        async with Client(proxy) as client:
            await client.send(b"x")
            await until(lambda: sink.received == [b"x"])


async def test_a_target_that_does_not_listen_causes_a_reset():
    async with Sink() as sink:
        pass
    async with TcpProxy(sink.port) as proxy, Client(proxy) as client:
        assert await client.read_to_end() == (b"", "reset")


async def test_a_server_that_reads_nothing_does_not_block_the_proxy():
    async with Sink(reads=False) as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        sending = asyncio.ensure_future(client.send(bytes(20_000_000)))
        await stays(lambda: not sending.done())
        proxy.cut()
        await sending
        await until(lambda: proxy.connections == 0)


@pytest.mark.parametrize("order", ["nothing", "stall", "slow", "delay"])
async def test_nothing_is_left_after_closing(order):
    tasks = asyncio.all_tasks()
    async with Sink(1, b"hello") as sink:
        during = asyncio.all_tasks()
        async with TcpProxy(sink.port) as proxy:
            {
                "nothing": lambda: 0,
                "stall": proxy.stall,
                "slow": lambda: proxy.slow(1),
                "delay": lambda: proxy.delay(60),
            }[order]()
            clients = [Client(proxy) for _ in range(3)]
            for client in clients:
                await client.__aenter__()
                await client.send(b"xyz" * 100_000)
            await until(lambda: proxy.connections == 3)
        assert proxy.connections == 0
        for client in clients:
            assert (await client.read_to_end())[1] in {"reset", "end"}
            await client.__aexit__()
        await until(lambda: not [task for task in asyncio.all_tasks() - during if "_serve" not in repr(task)])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
    await until(lambda: asyncio.all_tasks() <= tasks)
    gc.collect()  # an unclosed socket causes a warning, and warnings are errors


async def test_a_connection_accepted_just_before_closing_is_closed_too():
    async with Sink() as sink, TcpProxy(sink.port) as proxy, Client(proxy) as client:
        while not proxy.accepted:
            await asyncio.sleep(0)
        await proxy.__aexit__()
        assert (await client.read_to_end())[1] == "reset"


async def test_http_passes_through_and_breaks_on_command():
    async with Emulator() as emulator, TcpProxy(emulator.port) as proxy, aiohttp.ClientSession() as session:
        session._retry_connection = False
        headers = {"Authorization": "Bearer key"}
        async with session.get(f"{proxy.url}/api/team", headers=headers) as response:
            body = await response.read()
        assert response.status == 200
        proxy.cut_after(answer=proxy.answer_bytes - 1, over="all", times=1)
        with pytest.raises(aiohttp.ClientError):
            async with session.get(f"{proxy.url}/api/team", headers=headers) as response:
                await response.read()
        async with session.get(f"{proxy.url}/api/team", headers=headers) as response:
            assert await response.read() == body
        assert repr(proxy).startswith(f"<TcpProxy {proxy.url}, 1 connections, 1 cut")
