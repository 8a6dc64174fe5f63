"""Certificates, protocol versions and proxies, against real TLS servers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl

import pytest
import trustme

from pushengine import errors
from pushengine.celonis.connections import build_ssl_context
from pushengine.celonis.data_push import DataPushClient
from pushengine.cli.exit_codes import exit_code_for
from pushengine.config.settings import EngineSettings
from pushengine.credentials import OAuthClient, UserApiKey
from pushengine.model import Payload
from pushengine.runtime.clock import SystemClock

JOB = b'{"id": "J", "status": "NEW"}'
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(JOB), JOB)
MARKER = "M4RKER-password"
pytestmark = pytest.mark.usefixtures("without_environment_proxies")


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@contextlib.asynccontextmanager
async def tls_server(cert, *, handle=None, port=0, **context_options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    for name, value in context_options.items():
        setattr(context, name, value)

    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            if handle is not None:
                await handle(reader, writer)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
                ]
                await reader.readexactly((lengths or [0])[0])
                writer.write(RESPONSE)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await end(tasks)


async def end(tasks):
    """Cancel the handlers of a server and run the loop until their transports are closed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def client_of(url, credentials=None, **settings):
    client = DataPushClient(
        url, "pool", credentials or UserApiKey("key"), settings=EngineSettings(**settings), clock=SystemClock()
    )
    try:
        yield client
    finally:
        await client.aclose()


async def test_a_private_ca_is_added_by_ca_file(authority, ca_file):
    async with (
        tls_server(authority.issue_cert("127.0.0.1")) as port,
        client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client,
    ):
        assert (await client.get_job("J")).id == "J"
        await client.upload_chunk("J", Payload("0", memoryview(bytes(3 << 20)), 1, (0, 1), {}), "UPSERT")


@pytest.mark.parametrize("case", ["unknown CA", "another host", "expired", "not yet valid"])
async def test_an_invalid_certificate_is_refused(authority, ca_file, case):
    now = dt.datetime.now(dt.UTC)
    certs = {
        "unknown CA": lambda: trustme.CA().issue_cert("127.0.0.1"),
        "another host": lambda: authority.issue_cert("other.example"),
        "expired": lambda: authority.issue_cert(
            "127.0.0.1", not_before=now - dt.timedelta(days=9), not_after=now - dt.timedelta(days=1)
        ),
        "not yet valid": lambda: authority.issue_cert(
            "127.0.0.1", not_before=now + dt.timedelta(days=1), not_after=now + dt.timedelta(days=9)
        ),
    }
    async with tls_server(certs[case]()) as port, client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client:
        with pytest.raises(errors.UntrustedServerError) as caught:
            await client.upload_chunk("J", Payload("0", memoryview(b"x"), 1, (0, 1), {}), "UPSERT")
    assert (caught.value.disposition, caught.value.phase, exit_code_for(caught.value)) == ("terminal", "tls", 2)
    assert "ca_file" in caught.value.hint
    assert "not trusted" in caught.value.message


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(authority, ca_file):
    old = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}
    async with (
        tls_server(authority.issue_cert("127.0.0.1"), **old) as port,
        client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client,
    ):
        with pytest.raises(errors.ConnectionFailedError):
            await client.get_job("J")


def test_verification_is_always_on(ca_file):
    for context in (build_ssl_context(None), build_ssl_context(ca_file)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, "", "not a certificate"], ids=["missing", "empty", "text"])
def test_an_unusable_ca_file_is_a_config_error(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(errors.ConfigError) as caught:
        build_ssl_context(path)
    assert caught.value.key == "ca_file"
    assert str(path) in str(caught.value)


async def test_https_to_a_server_without_tls_is_a_failed_handshake(ca_file):
    async def serve(reader, writer):
        await reader.read(100)
        writer.write(RESPONSE)
        await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", ca_file=ca_file) as client:
        with pytest.raises(errors.UntrustedServerError) as caught:
            await client.get_job("J")
    assert "TLS handshake" in str(caught.value)
    assert exit_code_for(caught.value) == 2


async def test_a_server_that_has_responded_and_then_speaks_no_tls_may_do_so_again(authority, ca_file):
    """A load balancer that restarts, say: hours of good responses say that the address is right."""

    async def serve(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.transport.abort()

    async with contextlib.AsyncExitStack() as stack:
        async with tls_server(authority.issue_cert("127.0.0.1")) as port:
            client = await stack.enter_async_context(client_of(f"https://127.0.0.1:{port}", ca_file=ca_file))
            await client.get_job("J")
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        async with server:
            with pytest.raises(errors.ConnectionFailedError) as caught:
                await client.submit_job("J", duplicate_removal_column=None)
    error = caught.value
    assert (type(error), error.disposition, error.phase, error.is_unsent) == (
        errors.ConnectionFailedError,
        "transient",
        "tls",
        True,
    )
    assert "TLS handshake" in str(error)
    assert exit_code_for(error) == 75


async def test_a_certificate_that_is_no_longer_trusted_is_refused_after_any_response(authority, ca_file):
    async with contextlib.AsyncExitStack() as stack:
        async with tls_server(authority.issue_cert("127.0.0.1")) as port:
            client = await stack.enter_async_context(client_of(f"https://127.0.0.1:{port}", ca_file=ca_file))
            await client.get_job("J")
        async with tls_server(trustme.CA().issue_cert("127.0.0.1"), port=port):
            with pytest.raises(errors.UntrustedServerError) as caught:
                await client.get_job("J")
    assert (caught.value.disposition, exit_code_for(caught.value)) == ("terminal", 2)


async def test_a_connection_that_is_reset_during_the_handshake_may_work_later(ca_file):
    async def serve(_reader, writer):
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, client_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", ca_file=ca_file) as client:
        with pytest.raises(errors.ConnectionFailedError) as caught:
            await client.get_job("J")
    assert (type(caught.value), caught.value.disposition) == (errors.ConnectionFailedError, "transient")


async def test_a_host_name_that_does_not_resolve_is_transient():
    async with client_of("https://team.invalid") as client:
        with pytest.raises(errors.ConnectionFailedError) as caught:
            await client.get_job("J")
    assert (caught.value.disposition, caught.value.phase) == ("transient", "name")
    assert "host name" in str(caught.value)


async def test_closing_does_not_wait_for_the_close_notify_of_a_silent_peer(authority, ca_file):
    """aiohttp releases a cancelled TLS connection while asyncio still waits up to 30 s for the peer's close_notify."""
    reached = asyncio.Event()

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        reached.set()
        await asyncio.Event().wait()

    async with tls_server(authority.issue_cert("127.0.0.1"), handle=handle) as port:
        async with client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client:
            call = asyncio.create_task(client.get_job("J"))
            await reached.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            sockets = list(client._transport._sockets)
            assert sockets
        assert [sock.fileno() for sock in sockets] == [-1] * len(sockets)


# ---------------------------------------------------------------------------------------------------------------- proxies


@contextlib.asynccontextmanager
async def proxy(response=None):
    """Run a CONNECT proxy that records the heads of the requests it receives."""
    heads, relays = [], set()

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head.decode())
        if response is not None:
            writer.write(response)
            await writer.drain()
            writer.transport.abort()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        upstream = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for pair in ((reader, upstream[1]), (upstream[0], writer)):
            task = asyncio.create_task(copy(*pair))
            relays.add(task)
            task.add_done_callback(relays.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heads
    finally:
        server.close()
        await server.wait_closed()
        while relays:
            await asyncio.wait(relays)


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
async def test_the_environments_proxy_is_used_and_does_not_see_the_teams_credentials(
    authority, ca_file, monkeypatch, variable
):
    async with tls_server(authority.issue_cert("127.0.0.1")) as port, proxy() as (proxy_port, heads):
        monkeypatch.setenv(variable, f"http://user:{MARKER}@127.0.0.1:{proxy_port}")
        async with client_of(f"https://127.0.0.1:{port}", UserApiKey("the-key"), ca_file=ca_file) as client:
            await client.get_job("J")
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{port} ")
    assert "\r\nProxy-Authorization: Basic " in heads[0]
    assert "the-key" not in heads[0]


async def test_no_proxy_is_honored(authority, ca_file, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with (
        tls_server(authority.issue_cert("127.0.0.1")) as port,
        client_of(f"https://127.0.0.1:{port}", ca_file=ca_file) as client,
    ):
        await client.get_job("J")


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (b"407 Proxy Authentication Required", errors.ProxyRefusedError, 4),
        (b"403 Forbidden", errors.ProxyRefusedError, 4),
        (b"405 Method Not Allowed", errors.ProxyRefusedError, 2),  # a web server, not a proxy
        (b"502 Bad Gateway", errors.ConnectionFailedError, 75),
        (b"", errors.ConnectionFailedError, 75),
    ],
    ids=["407", "403", "405", "502", "closes"],
)
async def test_nothing_is_sent_if_the_proxy_refuses_the_tunnel(monkeypatch, status, kind, code):
    response = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status if status else b""
    async with proxy(response) as (port, _):
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{MARKER}@127.0.0.1:{port}")
        async with client_of("https://team.invalid") as client:
            with pytest.raises(errors.ConnectionFailedError) as caught:
                await client.submit_job("J", duplicate_removal_column=None)
    assert (f"status {status[:3].decode()}" in str(caught.value)) == bool(status)
    assert (type(caught.value), exit_code_for(caught.value), caught.value.is_unsent) == (kind, code, True)
    assert MARKER not in repr(caught.value) + repr(caught.value.__cause__)


async def test_a_proxy_whose_name_cannot_be_resolved_is_named(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    async with client_of("https://team.invalid") as client:
        with pytest.raises(errors.ConnectionFailedError) as caught:
            await client.get_job("J")
    assert "the name of the proxy cannot be resolved" in str(caught.value)
    assert "HTTPS_PROXY" in caught.value.hint
    assert caught.value.phase == "name"


async def test_an_unreachable_proxy_is_reported(monkeypatch):
    async with proxy() as (port, _):
        pass
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{port}")
    async with client_of("https://team.invalid", OAuthClient("c", "s")) as client:
        with pytest.raises(errors.ConnectionFailedError) as caught:
            await client.submit_job("J", duplicate_removal_column=None)
    assert "the proxy cannot be reached" in str(caught.value)


async def test_an_unsupported_kind_of_proxy_is_a_config_error(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://user:{MARKER}@127.0.0.1:1")
    async with client_of("https://team.invalid") as client:
        with pytest.raises(errors.ConfigError) as caught:
            await client.get_job("J")
    assert MARKER not in str(caught.value)
