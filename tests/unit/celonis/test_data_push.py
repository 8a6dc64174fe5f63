"""Request bodies, resets, stalls and cancellation, against raw socket servers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import weakref

import pytest
from support.files import file_ref

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import UserApiKey
from pushengine.model import FileParts, FileSlice, Payload, TableColumn, Target
from pushengine.runtime.clock import SystemClock

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MIB = 1024 * 1024


class Raw:
    """A server whose connections are handled by a function of (reader, writer)."""

    def __init__(self):
        self.handle = None
        self.connections = 0
        self.closed = asyncio.Event()
        self.tasks = set()

    async def serve(self, reader, writer):
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            await self.handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.transport.abort()

    @staticmethod
    async def head(reader):
        """Return the raw head of the request and its content length."""
        raw = await reader.readuntil(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in raw.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return raw, (lengths or [0])[0]


@pytest.fixture
async def raw():
    raw = Raw()
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0, limit=64 * 1024)
    for listening in server.sockets:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    raw.port = server.sockets[0].getsockname()[1]
    yield raw
    server.close()
    await server.wait_closed()
    for task in raw.tasks:
        task.cancel()
    await asyncio.gather(*raw.tasks, return_exceptions=True)
    await run_pending_callbacks()


@pytest.fixture
async def connect(raw):
    async with contextlib.AsyncExitStack() as stack:

        def build(port=None, **settings):
            client = DataPushClient(
                f"http://127.0.0.1:{port or raw.port}",
                "pool",
                UserApiKey("key"),
                settings=EngineSettings(**settings),
                clock=SystemClock(),
            )
            stack.push_async_callback(client.aclose)
            return client

        yield build


def payload_of(data):
    return Payload("000001", memoryview(data), 1, (0, 1), {})


def file_payload(path, offset, nbytes):
    return Payload("000001", FileParts((FileSlice(file_ref(path), offset, nbytes),)), 1, (0, 1), {})


def open_sockets_to(port):
    """Return this process's TCP connections to a port: their rows in the kernel's table."""
    wanted = f"0100007F:{port:04X}"
    mine = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return [row for row in rows if row[2] == wanted and f"socket:[{row[9]}]" in mine]


async def run_pending_callbacks():
    for _ in range(10):
        await asyncio.sleep(0)


# ----------------------------------------------------------------------------------------------------------------- bodies


async def test_the_request_body_has_a_content_length_and_one_part(raw, connect):
    data = os.urandom(3 * MIB + 17)
    seen = {}

    async def handle(reader, writer):
        seen["head"], length = await raw.head(reader)
        seen["body"] = await reader.readexactly(length)
        writer.write(OK)
        await writer.drain()
        await reader.read(1)

    raw.handle = handle
    await connect().upload_chunk("J", payload_of(data), "UPSERT")
    head = seen["head"].decode().lower()
    assert "transfer-encoding" not in head
    assert "content-type: multipart/form-data; boundary=" in head
    boundary = head.partition("boundary=")[2].split("\r\n")[0].encode()
    first, part, last = seen["body"].split(b"--" + boundary)
    assert (first, last) == (b"", b"--\r\n")
    assert part == (
        b'\r\nContent-Disposition: form-data; name="file"; filename="file"\r\nContent-Type: application/octet-stream\r\n\r\n'
        + data
        + b"\r\n"
    )


async def test_a_payload_is_freed_as_soon_as_it_is_acknowledged(raw, connect):
    """The garbage collector is off: it may not run for minutes while a process creates only large buffers."""

    async def handle(reader, writer):
        while True:
            _, length = await raw.head(reader)
            await reader.readexactly(length)
            writer.write(OK)

    class Data(bytearray):
        """A bytearray that supports weak references."""

    raw.handle = handle
    client = connect()
    gc.disable()
    try:
        for _ in range(3):
            data = Data(MIB)
            reference = weakref.ref(data)
            await client.upload_chunk("job", payload_of(data), "UPSERT")
            del data
            assert reference() is None
    finally:
        gc.enable()


async def test_a_file_is_sent_from_its_offset(raw, connect, tmp_path):
    data = os.urandom(2 * MIB + 3)
    (tmp_path / "chunk").write_bytes(b"skip" + data + b"rest")
    seen = []

    async def handle(reader, writer):
        _, length = await raw.head(reader)
        seen.append(await reader.readexactly(length))
        writer.write(OK)

    raw.handle = handle
    await connect().upload_chunk("J", file_payload(tmp_path / "chunk", 4, len(data)), "UPSERT")
    assert data in seen[0]
    assert b"rest" not in seen[0]


async def test_a_file_that_ends_early_is_reported_and_its_connection_closed(raw, connect, tmp_path):
    (tmp_path / "chunk").write_bytes(bytes(2 * MIB))

    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length)
        pytest.fail("the whole body arrived")

    raw.handle = handle
    with pytest.raises(errors.SourceReadError):
        await connect().upload_chunk("J", file_payload(tmp_path / "chunk", 0, 3 * MIB), "UPSERT")
    await raw.closed.wait()
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)


# ----------------------------------------------------------------------------------------------------------------- stalls


async def test_a_slow_upload_that_progresses_outlasts_every_timeout(raw, connect):
    """The upload takes longer than the stall and read timeouts together, but no pause is as long as either."""

    async def handle(reader, writer):
        _, length = await raw.head(reader)
        loop = asyncio.get_running_loop()
        left, started_at = length, loop.time()
        while left:
            left -= len(await reader.read(256 * 1024))
            turn = asyncio.Event()
            loop.call_later(0.02, turn.set)  # the server is slow on purpose
            await turn.wait()
        raw.took = loop.time() - started_at
        writer.write(OK)
        await writer.drain()
        await reader.read(1)

    raw.handle = handle
    client = connect(stall_timeout_seconds=0.4, read_timeout_seconds=0.3)
    await client.upload_chunk("J", payload_of(bytes(12 * MIB)), "UPSERT")
    assert raw.took > 0.7


async def test_a_peer_that_stops_reading_is_detected(raw, connect):
    async def handle(reader, writer):
        await raw.head(reader)
        await asyncio.Event().wait()

    raw.handle = handle
    client = connect(stall_timeout_seconds=0.2, read_timeout_seconds=30)
    started_at = asyncio.get_running_loop().time()
    with pytest.raises(errors.OutcomeUnknownError) as caught:
        await client.upload_chunk("J", payload_of(bytes(64 * MIB)), "UPSERT")
    assert asyncio.get_running_loop().time() - started_at < 2
    assert "accepted for 0.2 s" in str(caught.value)
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)


async def test_a_peer_that_never_responds_is_detected(raw, connect):
    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length)
        await asyncio.Event().wait()

    raw.handle = handle
    client = connect(stall_timeout_seconds=30, read_timeout_seconds=0.2)
    with pytest.raises(errors.OutcomeUnknownError) as caught:
        await client.upload_chunk("J", payload_of(bytes(MIB)), "UPSERT")
    assert "no response within 0.2 s" in str(caught.value)
    with pytest.raises(errors.RequestTimeoutError) as caught:
        await client.get_job("J")
    assert caught.value.phase == "read"
    for call in (
        client.create_job(Target("T"), [TableColumn("A", "DATE")]),
        client.submit_job("J", duplicate_removal_column=None),
    ):
        with pytest.raises(errors.OutcomeUnknownError):
            await call
    with pytest.raises(errors.RequestTimeoutError):
        await client.delete_job("J")


async def test_a_connection_that_is_never_established_is_not_a_stall(connect):
    """The queue of the listener is full: the connect timeout applies, and nothing was sent."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    try:
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        await run_pending_callbacks()
        client = connect(full.getsockname()[1], connect_timeout_seconds=0.2, stall_timeout_seconds=0.05)
        with pytest.raises(errors.ConnectionFailedError) as caught:
            await client.upload_chunk("J", payload_of(bytes(10)), "UPSERT")
        assert "in time" in str(caught.value)
        assert caught.value.disposition == "transient"
    finally:
        for sock in [*waiting, full]:
            sock.close()


# ----------------------------------------------------------------------------------------------------------------- resets


def reset(writer):
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("when", ["while sending", "before the response", "inside the response"])
async def test_a_connection_lost_during_an_upload_leaves_the_outcome_unknown(raw, connect, how, when):
    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length if when != "while sending" else MIB)
        if when == "inside the response":
            writer.write(OK[:-4])
            await writer.drain()
        if how == "reset":
            reset(writer)

    raw.handle = handle
    client = connect()
    with pytest.raises(errors.OutcomeUnknownError) as caught:
        await client.upload_chunk("J", payload_of(bytes(8 * MIB)), "UPSERT")
    assert caught.value.__cause__ is not None
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_a_connection_lost_during_other_calls_is_a_transport_error(raw, connect, how):
    async def handle(reader, writer):
        await raw.head(reader)
        if how == "reset":
            reset(writer)

    raw.handle = handle
    client = connect()
    for call in (client.get_job("J"), client.delete_job("J"), client.list_chunks("J")):
        with pytest.raises(errors.TransportError) as caught:
            await call
        assert type(caught.value) is errors.TransportError
    for call in (
        client.create_job(Target("T"), [TableColumn("A", "DATE")]),
        client.submit_job("J", duplicate_removal_column=None),
    ):
        with pytest.raises(errors.OutcomeUnknownError):
            await call


async def test_a_response_that_is_cut_off_is_a_transport_error_if_its_body_is_needed(raw, connect):
    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id": "J"')
        await writer.drain()

    raw.handle = handle
    client = connect()
    with pytest.raises(errors.TransportError) as caught:
        await client.get_job("J")
    assert "cut off" in str(caught.value)
    with pytest.raises(errors.OutcomeUnknownError):
        await client.create_job(Target("T"), [TableColumn("A", "DATE")])
    await client.upload_chunk("J", payload_of(b"x"), "UPSERT")  # the status is enough


@pytest.mark.parametrize(
    "response", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
async def test_a_response_that_is_not_http_is_unexpected(raw, connect, response):
    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length)
        writer.write(response)
        await writer.drain()
        await reader.read(1)

    raw.handle = handle
    client = connect()
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await client.get_job("J")
    assert caught.value.disposition == "transient"
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await client.submit_job("J", duplicate_removal_column=None)
    assert caught.value.disposition == "outcome_unknown"


async def test_a_refused_connection_is_transient(connect):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        client = connect(sock.getsockname()[1])
        for call in (client.get_job("J"), client.upload_chunk("J", payload_of(b"x"), "UPSERT")):
            with pytest.raises(errors.ConnectionFailedError) as caught:
                await call
            assert caught.value.disposition == "transient"


# -------------------------------------------------------------------------------------------------------- early responses


@pytest.mark.parametrize(("status", "kind"), [(413, errors.PayloadTooLargeError), (401, errors.AuthenticationError)])
@pytest.mark.parametrize("then", ["close", "keep"])
async def test_a_refusal_before_the_body_is_complete_is_reported(raw, connect, status, kind, then):
    """aiohttp#6138: the write error of the closed connection hides a response that arrived before it."""

    async def handle(reader, writer):
        await raw.head(reader)
        await reader.readexactly(MIB)
        writer.write(b'HTTP/1.1 %d No\r\nContent-Length: 17\r\n\r\n{"message":"no!"}' % status)
        await writer.drain()
        if then == "keep":
            with contextlib.suppress(ConnectionError):
                await asyncio.Event().wait()

    raw.handle = handle
    client = connect()
    with pytest.raises(kind) as caught:
        await client.upload_chunk("J", payload_of(bytes(32 * MIB)), "UPSERT")
    assert "no!" in str(caught.value)
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)


async def test_a_refusal_whose_body_never_ends_is_reported(raw, connect, monkeypatch):
    monkeypatch.setattr("pushengine.celonis.transport._ERROR_BODY_SECONDS", 0.1)

    async def handle(reader, writer):
        await raw.head(reader)
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 1000\r\n\r\ntoo big")
        await asyncio.Event().wait()

    raw.handle = handle
    with pytest.raises(errors.PayloadTooLargeError) as caught:
        await connect().upload_chunk("J", payload_of(bytes(MIB)), "UPSERT")
    assert "too big" in str(caught.value)


async def test_a_2xx_before_the_body_is_complete_is_not_a_success(raw, connect):
    async def handle(reader, writer):
        await raw.head(reader)
        writer.write(OK)
        await writer.drain()
        await asyncio.Event().wait()

    raw.handle = handle
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await connect().upload_chunk("J", payload_of(bytes(64 * MIB)), "UPSERT")
    assert caught.value.disposition == "outcome_unknown"


# ----------------------------------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("phase", ["writing", "waiting"])
async def test_a_cancelled_upload_leaves_no_connection(raw, connect, phase):
    reached = asyncio.Event()

    async def handle(reader, writer):
        _, length = await raw.head(reader)
        await reader.readexactly(length if phase == "waiting" else MIB)
        reached.set()
        await asyncio.Event().wait()

    raw.handle = handle
    client = connect()
    upload = asyncio.create_task(client.upload_chunk("J", payload_of(bytes(16 * MIB)), "UPSERT"))
    await reached.wait()
    assert open_sockets_to(raw.port)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)
    assert len(asyncio.all_tasks()) == 2  # the tasks of this test and of the server


async def test_a_call_can_be_cancelled_at_any_step(raw, connect):
    async def handle(reader, writer):
        while True:
            _, length = await raw.head(reader)
            await reader.readexactly(length)
            writer.write(OK)
            await writer.drain()

    raw.handle = handle
    client = connect()
    for steps in range(60):
        upload = asyncio.create_task(client.upload_chunk("J", payload_of(bytes(2 * MIB)), "UPSERT"))
        for _ in range(steps):
            await asyncio.sleep(0)
        upload.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upload
    await client.upload_chunk("J", payload_of(b"x"), "UPSERT")
    await client.aclose()
    await run_pending_callbacks()
    assert not open_sockets_to(raw.port)
    assert not client._transport._bodies


async def test_closing_ends_a_stalled_upload(raw, connect):
    reached = asyncio.Event()

    async def handle(reader, writer):
        await raw.head(reader)
        reached.set()
        await asyncio.Event().wait()

    raw.handle = handle
    client = connect()
    upload = asyncio.create_task(client.upload_chunk("J", payload_of(bytes(64 * MIB)), "UPSERT"))
    await reached.wait()
    await client.aclose()
    with pytest.raises(errors.OutcomeUnknownError):
        await upload
    assert not open_sockets_to(raw.port)
