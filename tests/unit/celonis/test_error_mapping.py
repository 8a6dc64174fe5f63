"""The error for each status, the translation of aiohttp's exceptions, and the secrets that no error may show."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
import os
import socket
import ssl
import traceback

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions, web
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.celonis.error_mapping import Call, translate_error, without_secrets
from pushengine.celonis.upload import Upload
from pushengine.config.settings import EngineSettings
from pushengine.credentials import AppKey, OAuthClient, UserApiKey
from pushengine.model import Payload, TableColumn, Target
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.files import LocalFileSystem

MARKER = "M4RKER-s3cr3t+/x"
BASE = "/data-ingestion/api/v1/data-push/pool/jobs"
SAFE = Call("read job J at team", is_idempotent=True)
UNSAFE = Call("submit job J at team", is_idempotent=False)


def payload_of(data=b"x"):
    return Payload("000001", memoryview(data), 1, (0, 1), {})


OPERATIONS = {
    "create": (lambda client: client.create_job(Target("T"), [TableColumn("A", "DATE")]), "POST", f"{BASE}/"),
    "list": (lambda client: client.list_jobs(), "GET", f"{BASE}/"),
    "get": (lambda client: client.get_job("J"), "GET", f"{BASE}/J"),
    "upload": (lambda client: client.upload_chunk("J", payload_of(), "UPSERT"), "POST", f"{BASE}/J/chunks/upserted"),
    "chunks": (lambda client: client.list_chunks("J"), "GET", f"{BASE}/J/chunks"),
    "submit": (lambda client: client.submit_job("J", duplicate_removal_column=None), "POST", f"{BASE}/J"),
    "delete": (lambda client: client.delete_job("J"), "DELETE", f"{BASE}/J"),
    "team": (lambda client: client.check_team(), "GET", "/api/cloud/team"),
    "columns": (lambda client: client.table_columns("T", None), "GET", "/integration/api/pools/pool/columns"),
}
UNSAFE_OPERATIONS = {"create", "upload", "submit"}
STATUSES = {
    400: (errors.InvalidRequestError, "terminal"),
    401: (errors.AuthenticationError, "terminal"),
    403: (errors.PermissionDeniedError, "terminal"),
    404: (errors.NotFoundError, "terminal"),
    408: (errors.InvalidRequestError, "transient"),
    409: (errors.ConflictError, "terminal"),
    413: (errors.PayloadTooLargeError, "terminal"),
    415: (errors.InvalidRequestError, "terminal"),
    429: (errors.RateLimitedError, "transient"),
    500: (errors.ServerError, "transient"),
    503: (errors.ServerError, "transient"),
    304: (errors.ForeignResponseError, "transient"),
    407: (errors.AuthenticationError, "terminal"),
    421: (errors.ForeignResponseError, "transient"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_every_operation_raises_the_error_of_each_status(operation):
    """Uses real connections. `test_status_table` covers all other statuses, without a server."""
    call, method, path = OPERATIONS[operation]
    status = 0
    seen = set()

    async def respond(request):
        await request.read()
        seen.add((request.method, request.path))
        return web.json_response({"message": "because"}, status=status)

    server = web.Server(respond, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    team = f"127.0.0.1:{runner.addresses[0][1]}"
    client = DataPushClient(f"http://{team}", "pool", UserApiKey("key"), clock=SystemClock())
    for status, (kind, disposition) in STATUSES.items():
        if operation in UNSAFE_OPERATIONS and status in (304, 408, 421, 500, 503):
            disposition = "outcome_unknown"  # noqa: PLW2901
        if (operation, status) == ("delete", 404):
            await call(client)
            continue
        with pytest.raises(errors.ApiError) as caught:
            await call(client)
        assert (status, type(caught.value), caught.value.disposition) == (status, kind, disposition)
        assert team in str(caught.value)
        assert "because" in str(caught.value) or kind is errors.ForeignResponseError
    assert seen == {(method, path)}
    await client.aclose()
    await runner.cleanup()


# -------------------------------------------------------------------------------------------------------------- translation

KEY = ConnectionKey("h", 443, True, True, URL("http://proxy"), ("user", MARKER), None)
HEADERS = CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {MARKER}"}))
INFO = RequestInfo(URL("https://h/p"), "GET", HEADERS, URL("https://h/p"))
BROKEN = OSError(104, "Connection reset by peer")


def response_error(kind):
    return lambda: kind(INFO, (), status=502, message="m", headers=HEADERS)


FAILED, UNTRUSTED, LOST, TIMED = "failed", "untrusted", "lost", "timed out"
UNEXPECTED, CONFIG = "unexpected", "config"
AIOHTTP_EXCEPTIONS = {
    "ClientConnectionError": (lambda: client_exceptions.ClientConnectionError("gone"), LOST),
    "ClientConnectionResetError": (lambda: client_exceptions.ClientConnectionResetError("gone"), LOST),
    "ClientConnectorCertificateError": (
        lambda: client_exceptions.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "bad")),
        UNTRUSTED,
    ),
    "ClientConnectorDNSError": (lambda: client_exceptions.ClientConnectorDNSError(KEY, BROKEN), FAILED),
    "ClientConnectorError": (lambda: client_exceptions.ClientConnectorError(KEY, BROKEN), FAILED),
    "ClientConnectorSSLError": (lambda: client_exceptions.ClientConnectorSSLError(KEY, ssl.SSLError(1, "bad")), FAILED),
    "ClientError": (lambda: client_exceptions.ClientError("any"), LOST),
    "ClientHttpProxyError": (response_error(client_exceptions.ClientHttpProxyError), FAILED),
    "ClientOSError": (lambda: client_exceptions.ClientOSError(104, "Can not write request body for https://h"), LOST),
    "ClientPayloadError": (lambda: client_exceptions.ClientPayloadError("broke off"), LOST),
    "ClientProxyConnectionError": (lambda: client_exceptions.ClientProxyConnectionError(KEY, BROKEN), FAILED),
    "ClientResponseError": (response_error(client_exceptions.ClientResponseError), UNEXPECTED),
    "ClientSSLError": (lambda: client_exceptions.ClientSSLError(KEY, BROKEN), FAILED),
    "ConnectionTimeoutError": (lambda: client_exceptions.ConnectionTimeoutError("slow"), FAILED),
    "ContentTypeError": (response_error(client_exceptions.ContentTypeError), UNEXPECTED),
    "InvalidURL": (lambda: client_exceptions.InvalidURL("x"), CONFIG),
    "InvalidUrlClientError": (lambda: client_exceptions.InvalidUrlClientError("x"), CONFIG),
    "InvalidUrlRedirectClientError": (lambda: client_exceptions.InvalidUrlRedirectClientError("x"), CONFIG),
    "NonHttpUrlClientError": (lambda: client_exceptions.NonHttpUrlClientError("x"), CONFIG),
    "NonHttpUrlRedirectClientError": (lambda: client_exceptions.NonHttpUrlRedirectClientError("x"), CONFIG),
    "RedirectClientError": (lambda: client_exceptions.RedirectClientError("x"), CONFIG),
    "ServerConnectionError": (lambda: client_exceptions.ServerConnectionError("gone"), LOST),
    "ServerDisconnectedError": (client_exceptions.ServerDisconnectedError, LOST),
    "ServerFingerprintMismatch": (lambda: client_exceptions.ServerFingerprintMismatch(b"a", b"b", "h", 1), UNTRUSTED),
    "ServerTimeoutError": (lambda: client_exceptions.ServerTimeoutError("slow"), TIMED),
    "SocketTimeoutError": (lambda: client_exceptions.SocketTimeoutError("slow"), TIMED),
    "TooManyRedirects": (response_error(client_exceptions.TooManyRedirects), UNEXPECTED),
    "UnixClientConnectorError": (lambda: client_exceptions.UnixClientConnectorError("/p", KEY, BROKEN), FAILED),
    "UploadAbortedError": (lambda: client_exceptions.UploadAbortedError("cut"), LOST),
    "WSMessageTypeError": (lambda: client_exceptions.WSMessageTypeError("x"), UNEXPECTED),
    "WSServerHandshakeError": (response_error(client_exceptions.WSServerHandshakeError), UNEXPECTED),
}
OTHER_EXCEPTIONS = {
    "asyncio.TimeoutError": (asyncio.TimeoutError, TIMED),
    "OSError": (lambda: BROKEN, LOST),
    "ssl.SSLError": (lambda: ssl.SSLError(1, "bad record"), LOST),
    "EofStream": (aiohttp.EofStream, LOST),
    "HttpProcessingError": (lambda: http_exceptions.HttpProcessingError(code=400, message="m"), UNEXPECTED),
    "BadStatusLine": (lambda: http_exceptions.BadStatusLine("x"), UNEXPECTED),
}
SAFE_KINDS = {
    FAILED: errors.ConnectionFailedError,
    UNTRUSTED: errors.UntrustedServerError,
    LOST: errors.TransportError,
    TIMED: errors.RequestTimeoutError,
    UNEXPECTED: errors.UnexpectedResponseError,
    CONFIG: errors.ConfigError,
}
UNSAFE_KINDS = SAFE_KINDS | {LOST: errors.OutcomeUnknownError, TIMED: errors.OutcomeUnknownError}


def test_every_exception_class_of_aiohttp_is_in_the_table():
    classes = inspect.getmembers(client_exceptions, lambda item: inspect.isclass(item) and issubclass(item, Exception))
    assert {name for name, item in classes if item.__module__ == client_exceptions.__name__} == set(AIOHTTP_EXCEPTIONS)


@pytest.mark.parametrize("name", [*AIOHTTP_EXCEPTIONS, *OTHER_EXCEPTIONS])
def test_each_exception_is_translated_to_its_error(name):
    build, what = (AIOHTTP_EXCEPTIONS | OTHER_EXCEPTIONS)[name]
    safe, unsafe = translate_error(without_secrets(build()), SAFE), translate_error(without_secrets(build()), UNSAFE)
    assert type(safe) is SAFE_KINDS[what]
    assert type(unsafe) is UNSAFE_KINDS[what]
    if what == UNEXPECTED:
        assert (safe.disposition, unsafe.disposition) == ("transient", "outcome_unknown")
    assert "read job J at team" in str(safe)
    assert "https://h" not in str(safe) + str(unsafe)
    assert safe.hint


@pytest.mark.parametrize(
    "name",
    [name for name, (_, what) in (AIOHTTP_EXCEPTIONS | OTHER_EXCEPTIONS).items() if what in (LOST, TIMED, UNEXPECTED)],
)
def test_a_failure_before_the_head_is_sent_means_that_nothing_was_sent(name):
    error = translate_error(without_secrets((AIOHTTP_EXCEPTIONS | OTHER_EXCEPTIONS)[name][0]()), UNSAFE, is_sent=False)
    assert type(error) is errors.ConnectionFailedError


@pytest.mark.parametrize(
    ("status", "kind", "disposition"),
    [
        (302, errors.ConnectionFailedError, "transient"),
        (400, errors.ProxyRefusedError, "terminal"),
        (403, errors.ProxyRefusedError, "terminal"),
        (405, errors.ProxyRefusedError, "terminal"),
        (407, errors.ProxyRefusedError, "terminal"),
        (408, errors.ConnectionFailedError, "transient"),
        (429, errors.ConnectionFailedError, "transient"),
        (502, errors.ConnectionFailedError, "transient"),
        (504, errors.ConnectionFailedError, "transient"),
    ],
)
def test_a_tunnel_that_the_proxy_refuses_is_not_a_passing_failure(status, kind, disposition):
    exc = client_exceptions.ClientHttpProxyError(INFO, (), status=status, message="m", headers=HEADERS)
    error = translate_error(without_secrets(exc), UNSAFE)
    assert (type(error), error.disposition, error.phase, error.is_unsent) == (kind, disposition, "proxy", True)
    assert getattr(error, "status", status) == status


def test_an_upload_that_fails_before_its_body_starts_was_not_sent():
    upload = Upload(
        memoryview(b"x"), files=LocalFileSystem(), stall_timeout_seconds=1, read_timeout_seconds=1, clock=SystemClock()
    )
    broken = client_exceptions.ClientOSError(None, "Can not write request body for https://h")
    assert type(translate_error(broken, UNSAFE, upload=upload)) is errors.ConnectionFailedError
    upload.body.bytes_sent = 1
    assert type(translate_error(broken, UNSAFE, upload=upload)) is errors.OutcomeUnknownError


def test_a_lost_connection_is_described_with_the_systems_reason_without_aiohttps_text():
    def message_of(exc, cause=None):
        exc.__cause__ = cause
        return str(translate_error(exc, SAFE))

    wrapped = client_exceptions.ClientOSError(104, "Some text about https://h")
    assert "https://h" not in message_of(wrapped)
    assert "before the response: Connection reset by peer" in message_of(wrapped)
    assert "before the response: Broken pipe" in message_of(wrapped, OSError(32, "Broken pipe"))
    assert "before the response: it was reset or closed" in message_of(
        client_exceptions.ClientOSError(None, "at https://h")
    )
    assert "before the response: it was reset or closed" in message_of(client_exceptions.ClientOSError("at https://h"))


@pytest.mark.parametrize("name", AIOHTTP_EXCEPTIONS)
def test_the_cause_shows_no_credentials(name):
    exc = without_secrets(AIOHTTP_EXCEPTIONS[name][0]())
    text = repr(exc) + str(exc) + "".join(traceback.format_exception(exc))
    assert MARKER not in text
    assert isinstance(exc, getattr(client_exceptions, name))


# ---------------------------------------------------------------------------------------------------------------- secrets


class Hostile:
    """A server that echoes everything it receives, or fails in one of several ways."""

    WAYS = ("echo 401", "echo 403", "echo 400", "echo 500", "echo 200", "redirect", "reset", "not http", "cut", "hang")

    def __init__(self, way):
        self.way = way
        self.tasks = set()

    async def __call__(self, reader, writer):
        self.tasks.add(asyncio.current_task())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            sent = head + await reader.readexactly(length)
            authorization = next(
                (line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization:")), b""
            )
            words = b" ".join([authorization, sent[-300:], MARKER.encode(), base64.b64encode(MARKER.encode())])
            text = words.replace(b"\r", b" ").replace(b"\n", b" ")
            responses = {
                "redirect": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://evil/?"
                + MARKER.encode()
                + b"\r\n\r\n",
                "not http": text + b"\r\n\r\n",
                "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + text,
            }
            if self.way.startswith("echo"):
                writer.write(
                    b"HTTP/1.1 %s X\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s"
                    % (self.way[5:].encode(), text, len(text), text)
                )
            elif self.way in responses:
                writer.write(responses[self.way])
            if self.way == "hang":
                await asyncio.Event().wait()
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if self.way == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                writer.transport.abort()
            writer.close()


def all_text_of(error):
    """Return all text that could be printed for an error and its causes."""
    seen, texts = set(), []
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        texts += [
            str(error),
            repr(error),
            repr(error.args),
            repr(vars(error)),
            "".join(traceback.format_exception(error)),
        ]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("way", Hostile.WAYS)
@pytest.mark.parametrize("operation", ["create", "get", "upload", "submit", "delete"])
@pytest.mark.parametrize("kind", ["api key", "app key", "oauth"])
async def test_no_error_shows_a_secret(kind, operation, way, caplog):
    caplog.set_level(logging.DEBUG)
    hostile = Hostile(way)
    server = await asyncio.start_server(hostile, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    credentials = {"api key": UserApiKey, "app key": AppKey, "oauth": lambda secret: OAuthClient("client", secret)}[
        kind
    ](MARKER)
    settings = EngineSettings(read_timeout_seconds=0.05, stall_timeout_seconds=0.05)
    client = DataPushClient(url, "pool", credentials, settings=settings, clock=SystemClock())
    shown = repr(client) + repr(credentials)
    try:
        await OPERATIONS[operation][0](client)
    except errors.PushEngineError as error:
        shown += all_text_of(error)
    await client.aclose()
    server.close()
    await server.wait_closed()
    for task in hostile.tasks:
        task.cancel()
    await asyncio.gather(*hostile.tasks, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    shown += caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    basic = base64.b64encode(f"client:{MARKER}".encode()).decode()
    for form in (MARKER, base64.b64encode(MARKER.encode()).decode(), basic):
        assert form not in shown
    assert os.environ.get("PUSHENGINE_API_KEY") is None
