"""One HTTP exchange at a time: connections, time limits, and what a failure proves.

Time limits. aiohttp has none for writing, so a watch follows each upload: body bytes handed over, bytes still in the buffers of the
transport and (Linux) of the kernel. Nothing of it moved for `stall_timeout_seconds` while the body is under way, or for
`read_timeout_seconds` once the peer has all of it: the connection is aborted. A slow upload that moves has no limit. A host that is
gone without a word is noticed by TCP itself (keepalive, TCP_USER_TIMEOUT), within 60 s by default.
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
from pushengine.celonis.connections import build_ssl_context, end_sockets, environment_proxy, forget_closed, open_socket
from pushengine.celonis.error_mapping import BORDER_ERRORS, Call, border_error, defused
from pushengine.celonis.upload import Upload, UploadBody
from pushengine.config.settings import EngineSettings
from pushengine.errors import EngineClosedError, UnexpectedResponseError
from pushengine.interfaces import FileSystem
from pushengine.model import FileParts
from pushengine.runtime.clock import Clock

_ERROR_BODY_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_MAX_DATE_INTERVAL_SECONDS = 5.0
_READ_TIMEOUTS_PER_CALL = 5


@dataclasses.dataclass(slots=True)
class _Sending:
    """Whether the head of a request has left, as far as aiohttp tells: before that, nothing was sent."""

    is_started: bool = False


def _trace_sending() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
        context.trace_request_ctx.is_started = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    return trace


class Transport:
    """Sends requests to one team and reads its answers. Connections open at first use; `aclose()` leaves none.

    Args:
        origin: Scheme and host of the team.
        settings: Private CA and time limits.
        clock: Measures.
        filesystem: Where the files of uploads lie.
        on_server_date: Told the server's clock (seconds UTC) and our monotonic one at the middle of the call, for each answer of the team
            that came within a few seconds.

    Raises:
        ConfigError: A CA file that cannot be used.
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
        self._is_closed = False

    def __repr__(self) -> str:
        return "closed" if self._is_closed else f"{len(self._bodies)} uploads running"

    def open_upload(self, source: memoryview | FileParts) -> Upload:
        """A body to be sent once by `exchange()`."""
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
    ) -> wire.ApiResponse:
        """Send one request and read its answer, whatever its status.

        Raises:
            PushEngineError: No answer; see `pushengine.celonis.error_mapping`.
        """
        session = self._session()
        # Handed over as keywords: credentials are no default headers, which aiohttp would also send to a proxy in CONNECT.
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
                    self._observe_date(response, (upload and upload.body.sent_at) or started_at)
                body, is_complete = await _read_body(response, call, upload)
                if upload is not None and upload.body.is_complete:
                    upload.is_finished = True
                return wire.ApiResponse(response.status, response.headers, body, is_complete=is_complete)
        except BORDER_ERRORS as exc:
            if upload is not None and upload.body.error is not None:
                raise upload.body.error from upload.body.error.__cause__
            raise border_error(defused(exc), call, is_sent=sending.is_started, upload=upload) from exc
        except RuntimeError as exc:
            if self._is_closed:
                raise EngineClosedError(f"{call.operation}: the client was closed") from exc
            raise

    @contextlib.asynccontextmanager
    async def _running(self, upload: Upload | None) -> AsyncIterator[None]:
        """Watch an upload, and leave none of its bytes in a buffer unless it was answered."""
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
                # aiohttp's own trust_env would also take credentials for the team from a .netrc file: proxies are found below.
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
        forget_closed(self._sockets)
        self._sockets.append(open_socket(address, stall_timeout_seconds=self._settings.stall_timeout_seconds))
        return self._sockets[-1]

    def _observe_date(self, response: aiohttp.ClientResponse, sent_at: float) -> None:
        now = self._clock.monotonic()
        date = wire.parse_http_date(response.headers.get("Date"))
        if self._on_server_date is not None and date is not None and 0 <= now - sent_at <= _MAX_DATE_INTERVAL_SECONDS:
            self._on_server_date(date, (now + sent_at) / 2)

    def stop(self) -> None:
        """Begin no exchange any more."""
        self._is_closed = True

    async def aclose(self) -> None:
        """Abort what is running and close all connections; safe to call twice."""
        self.stop()
        for body in list(self._bodies):
            body.abort()
        if self._http is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._http.close()
        await end_sockets(self._sockets)


async def _read_body(response: aiohttp.ClientResponse, call: Call, upload: Upload | None) -> tuple[bytes, bool]:
    """The answer's body, within bounds, and whether it is whole. Where the status says enough, a body that breaks off is cut there."""
    is_status_enough = response.status >= 300 or call.optional_response is not None  # noqa: PLR2004 - HTTP status classes
    data = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS if is_status_enough else None):
            async for piece in response.content.iter_any():
                data += piece
                if upload is not None:
                    upload.received_bytes += len(piece)
                if len(data) > call.max_response_bytes:
                    _refuse_size(response.status, call, is_status_enough=is_status_enough)
                    return bytes(data), False
    except BORDER_ERRORS:
        if not is_status_enough:
            raise
        return bytes(data), False
    return bytes(data), True


def _refuse_size(status: int, call: Call, *, is_status_enough: bool) -> None:
    if not is_status_enough:
        raise UnexpectedResponseError(
            f"{call.operation}: the answer is larger than {call.max_response_bytes} bytes",
            status=status,
            disposition="terminal" if call.is_idempotent else "outcome_unknown",
        )
