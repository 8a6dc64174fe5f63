"""A client that stops sending or reading is cut off after a time; one that is slow is not."""

import asyncio
import contextlib
import json
import socket

import pytest

from pushengine.emulator import faults as f

STALL_SECONDS = 0.4
HEAD = "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key\r\n"


@contextlib.asynccontextmanager
async def connection(team):
    reader, writer = await asyncio.open_connection("127.0.0.1", team.emulator.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def rest(reader):
    """Return what the server still sends until it closes the connection."""
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 20)
    return b""


@pytest.fixture
async def impatient(start):
    return await start(stall_timeout_seconds=STALL_SECONDS)


def head_of(method, path, *headers):
    return (HEAD.format(method=method, path=path) + "".join(f"{line}\r\n" for line in headers) + "\r\n").encode()


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-More:"],
    ids=["nothing", "part-of-a-line", "part-of-the-head"],
)
async def test_a_request_whose_head_never_ends_is_cut(impatient, sent):
    async with connection(impatient) as (reader, writer):
        writer.write(sent)
        assert await rest(reader) == b""


@pytest.mark.parametrize("path", ["jobs", "token", "submit", "upload"])
async def test_a_body_that_is_shorter_than_announced_is_a_408(impatient, path):
    job_id = await impatient.new_job()
    path = {
        "jobs": impatient.jobs_path,
        "token": "/oauth2/token",
        "submit": impatient.jobs_path + job_id,
        "upload": f"{impatient.jobs_path}{job_id}/chunks/upserted",
    }[path]
    async with connection(impatient) as (reader, writer):
        multipart = "Content-Type: multipart/form-data; boundary=contract-boundary"
        writer.write(head_of("POST", path, multipart, "Content-Length: 1000") + b"--contract-boundary\r\n")
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["errorCode"] == "REQUEST_TIMEOUT"
    assert (await impatient.get(job_id)).json["status"] == "NEW"
    assert impatient.spool_files() == []


async def test_a_fault_that_reads_the_body_waits_no_longer(impatient):
    impatient.emulator.faults = [f.Fault("create", f.DropBefore())]
    async with connection(impatient) as (reader, writer):
        writer.write(head_of("POST", impatient.jobs_path, "Content-Length: 10") + b"{")
        assert (await rest(reader)).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_upload_that_makes_progress_goes_on(start, to_form, to_parquet):
    team = await start(stall_timeout_seconds=2.0)
    job_id = await team.new_job("t")
    content = to_form(to_parquet({"a": [1]}))
    size = len(content) // 25
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def slowly():
        for begin in range(0, len(content), size):
            yield content[begin : begin + size]
            await asyncio.sleep(0.1)

    headers = team.headers | {"Content-Type": "multipart/form-data; boundary=contract-boundary"}
    path = f"{team.jobs_path}{job_id}/chunks/upserted"
    response = await team.request("POST", path, data=slowly(), headers=headers)
    assert (response.status, loop.time() - started > 2.0) == (200, True)


async def test_a_client_that_never_reads_is_cut(impatient):
    for _ in range(200):
        await impatient.new_job("t", postExecutionQuery="x" * 50_000)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", impatient.emulator.port))
    await loop.sock_sendall(sock, head_of("GET", impatient.jobs_path))
    async with asyncio.timeout(20):
        while impatient.emulator.connections > 1:  # the other one is the test's own
            await asyncio.sleep(0.01)
    sock.close()


async def test_an_idle_connection_and_a_slow_response_are_not_cut(impatient):
    async with connection(impatient) as (reader, writer):
        for _ in range(2):
            impatient.emulator.faults = [f.Fault("list", f.Delay(STALL_SECONDS * 1.5))]
            writer.write(head_of("GET", impatient.jobs_path))
            assert (await reader.readuntil(b"\r\n\r\n[]")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(STALL_SECONDS * 1.5)
