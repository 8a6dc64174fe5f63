"""One HTTP exchange at a time: connections, time limits, and what a failure proves.

Time limits:

    connect       `connect_timeout_seconds`
    upload        no progress for `stall_timeout_seconds` while the body is sent, or for `read_timeout_seconds` once the peer has all of
                  it; an upload that is slow but progresses has no limit (see `pushengine.celonis.upload.Upload`)
    other calls   no data for `read_timeout_seconds`; in total, the connect timeout plus 5 read timeouts
    dead host     detected by TCP itself (keepalive, TCP_USER_TIMEOUT), within 60 s by default
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp

from pushengine.celonis import wire
from pushengine.celonis.connections import (
    build_ssl_context,
    environment_proxy,
    open_socket,
    remove_closed,
    shut_down_sockets,
)
from pushengine.celonis.error_mapping import TRANSPORT_EXCEPTIONS, Call, translate_error, without_secrets
from pushengine.celonis.upload import Upload, UploadBody
from pushengine.config.settings import EngineSettings
from pushengine.errors import EngineClosedError, UnexpectedResponseError
from pushengine.interfaces import FileSystem
from pushengine.model import FileParts
from pushengine.runtime.clock import Clock

_ERROR_BODY_SECONDS = 10.0
_ERROR_BODY_BYTES = 1024 * 1024
_CLOSE_SECONDS = 5.0
_MAX_DATE_INTERVAL_SECONDS = 5.0
_READ_TIMEOUTS_PER_CALL = 5


@dataclasses.dataclass(slots=True)
class _Sending:
    """Whether aiohttp has reported that the request headers were sent. Until then, nothing was sent."""

    is_started: bool = False


def _trace_sending() -> aiohttp.TraceConfig:
    async def mark_started(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
        context.trace_request_ctx.is_started = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(mark_started)
    return trace


class Transport:
    """Sends requests and reads the responses. Connections open on first use; `aclose()` closes all of them.

    Args:
        origin: Scheme, host and port of the team.
        settings: Private CA and time limits.
        clock: Clock for `on_server_date`.
        filesystem: File system that uploads read files from.
        on_server_date: Called with (server time in seconds UTC, monotonic time halfway between request and response), for each response
            of the team that arrived within a few seconds.

    Raises:
        ConfigError: The CA file cannot be used.
    """

    def __init__(
        self,
        origin: str,
        *,
        settings: EngineSettings,
        clock: Clock,
        filesystem: FileSystem,
        on_server_date: Callable[[float, float], None] | None = None,
    ) -> None:
        self._origin = origin
        self._settings = settings
        self._clock = clock
        self._filesystem = filesystem
        self._on_server_date = on_server_date
        self._ssl = build_ssl_context(settings.ca_file)
        self._http: aiohttp.ClientSession | None = None
        self._bodies: set[UploadBody] = set()
        self._sockets: list[socket.socket] = []
        self._has_responded = False
        self._is_closed = False

    def __repr__(self) -> str:
        return "closed" if self._is_closed else f"{len(self._bodies)} uploads running"

    def open_upload(self, source: memoryview | FileParts) -> Upload:
        """Create an upload, to be passed to `exchange()` once."""
        return Upload(
            source,
            files=self._filesystem,
            stall_timeout_seconds=self._settings.stall_timeout_seconds,
            read_timeout_seconds=self._settings.read_timeout_seconds,
            clock=self._clock,
        )

    async def exchange(
        self,
        method: str,
        url: str,
        call: Call,
        *,
        headers: Mapping[str, str],
        json: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        upload: Upload | None = None,
        take: Callable[[bytes], bool] | None = None,
    ) -> wire.ApiResponse:
        """Send one request and read the response, whatever its status.

        Args:
            method: HTTP method.
            url: Address.
            call: What is attempted.
            headers: Headers of the request.
            json: JSON body, or None.
            form: Form body, or None.
            upload: Body of an upload, or None.
            take: Called with each piece of the body if the status is 2xx, in place of keeping it; returns whether more is needed. If not,
                the rest is not read, and the connection is closed.

        Raises:
            PushEngineError: There was no usable response; see `pushengine.celonis.error_mapping`.
        """
        session = self._session()
        # Credentials are passed with each request: aiohttp would send default headers of the session to a proxy too, in CONNECT.
        options: dict[str, Any] = {"headers": headers, "json": json, "data": upload.body if upload else form}
        options |= environment_proxy(url)
        options["timeout"] = self._timeout(upload)
        options["trace_request_ctx"] = sending = _Sending()
        started_at = self._clock.monotonic()
        try:
            async with (
                self._running(upload),
                session.request(method, url, allow_redirects=False, **options) as response,
            ):
                if url.startswith(f"{self._origin}/"):
                    self._has_responded = True
                    self._observe_date(response, (upload and upload.body.sent_at) or started_at)
                if take is not None and response.status < 300:  # noqa: PLR2004 - HTTP status classes
                    await _pass_on(response, call, take)
                    return wire.ApiResponse(response.status, response.headers, b"")
                body, is_complete = await _read_body(response, call, upload)
                if upload is not None and upload.body.is_complete:
                    upload.is_finished = True
                return wire.ApiResponse(response.status, response.headers, body, is_complete=is_complete)
        except TRANSPORT_EXCEPTIONS as exc:
            if upload is not None and upload.body.error is not None:
                raise upload.body.error from upload.body.error.__cause__
            raise translate_error(
                without_secrets(exc),
                call,
                is_sent=sending.is_started,
                upload=upload,
                has_responded=self._has_responded,
                proxy=options.get("proxy", ""),
            ) from exc
        except RuntimeError as exc:
            if self._is_closed:
                raise EngineClosedError(f"{call.operation}: the client was closed") from exc
            raise

    @contextlib.asynccontextmanager
    async def _running(self, upload: Upload | None) -> AsyncIterator[None]:
        """Watch an upload for stalls. Abort its connection at the end, with the bytes still in buffers, unless the response was read."""
        if upload is None:
            yield
            return
        self._bodies.add(upload.body)
        try:
            async with upload.watched():
                yield
        finally:
            self._bodies.discard(upload.body)
            if not upload.is_finished:
                upload.body.abort()

    def _session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise EngineClosedError("the client is closed")
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, socket_factory=self._open_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_trace_sending()],
                headers={"Accept": "application/json", "User-Agent": "pushengine"},
                # trust_env would also use credentials for the team from a .netrc file. `environment_proxy` finds the proxies instead.
                trust_env=False,
            )
        return self._http

    def _timeout(self, upload: Upload | None) -> aiohttp.ClientTimeout:
        settings = self._settings
        if upload is not None:
            return aiohttp.ClientTimeout(connect=settings.connect_timeout_seconds)
        return aiohttp.ClientTimeout(
            connect=settings.connect_timeout_seconds,
            sock_read=settings.read_timeout_seconds,
            total=settings.connect_timeout_seconds + _READ_TIMEOUTS_PER_CALL * settings.read_timeout_seconds,
        )

    def _open_socket(self, address: tuple[Any, ...]) -> socket.socket:
        remove_closed(self._sockets)
        self._sockets.append(open_socket(address, stall_timeout_seconds=self._settings.stall_timeout_seconds))
        return self._sockets[-1]

    def _observe_date(self, response: aiohttp.ClientResponse, sent_at: float) -> None:
        now = self._clock.monotonic()
        date = wire.parse_http_date(response.headers.get("Date"))
        if self._on_server_date is not None and date is not None and 0 <= now - sent_at <= _MAX_DATE_INTERVAL_SECONDS:
            self._on_server_date(date, (now + sent_at) / 2)

    def stop(self) -> None:
        """Refuse to start any more exchanges."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Abort the running uploads and close all connections; safe to call twice."""
        self.stop()
        for body in list(self._bodies):
            body.abort()
        if self._http is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._http.close()
        await shut_down_sockets(self._sockets)


async def _read_body(response: aiohttp.ClientResponse, call: Call, upload: Upload | None) -> tuple[bytes, bool]:
    """Return the body and whether it is complete. If the status is enough, a body that breaks off or is too large is cut, not refused."""
    is_status_enough = response.status >= 300 or call.optional_response is not None  # noqa: PLR2004 - HTTP status classes
    limit = min(call.max_response_bytes, _ERROR_BODY_BYTES) if is_status_enough else call.max_response_bytes
    data = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS if is_status_enough else None):
            async for piece in response.content.iter_any():
                data += piece
                if upload is not None:
                    upload.received_bytes += len(piece)
                if len(data) > limit:
                    _refuse_size(response.status, call, is_status_enough=is_status_enough)
                    return bytes(data), False
    except TRANSPORT_EXCEPTIONS:
        if not is_status_enough:
            raise
        return bytes(data), False
    return bytes(data), True


async def _pass_on(response: aiohttp.ClientResponse, call: Call, take: Callable[[bytes], bool]) -> None:
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > call.max_response_bytes:
            _refuse_size(response.status, call, is_status_enough=False)
        if not take(piece):
            response.close()
            return


def _refuse_size(status: int, call: Call, *, is_status_enough: bool) -> None:
    if not is_status_enough:
        raise UnexpectedResponseError(
            f"{call.operation}: the response is larger than {call.max_response_bytes} bytes",
            status=status,
            disposition="terminal" if call.is_idempotent else "outcome_unknown",
        )
