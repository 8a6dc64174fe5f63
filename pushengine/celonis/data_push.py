"""The HTTP client of the Data Push API: one call is one attempt, and every failure is one of `pushengine.errors`.

Retrying is the caller's. The one exception is a 401 with an OAuth client: the answer proves that the request was refused, so one new
token and one replay are safe for every call, uploads included.

What a failure proves: see `pushengine.celonis.error_mapping`.

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
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import aiohttp

from pushengine.celonis import wire
from pushengine.celonis.connections import build_ssl_context, end_sockets, environment_proxy, forget_closed, open_socket
from pushengine.celonis.error_mapping import BORDER_ERRORS, Call, answer_error, border_error, defused, require_genuine
from pushengine.celonis.oauth import TokenRequest, TokenSource
from pushengine.celonis.upload import Upload, UploadBody
from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials, OAuthClient
from pushengine.errors import (
    AuthenticationError,
    ConfigError,
    EngineClosedError,
    NotFoundError,
    OutcomeUnknownError,
    UnexpectedResponseError,
)
from pushengine.model import ChunkType, FileParts, Job, JobId, JobStatus, Payload, RemoteChunk, TableColumn, Target
from pushengine.runtime.clock import Clock, SystemClock

T = TypeVar("T")

_MAX_LIST_BYTES = 64 * 1024 * 1024
_MAX_LOOP_PARSE_BYTES = 1024 * 1024
_ERROR_BODY_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_MAX_DATE_INTERVAL_SECONDS = 5.0
_CLOCK_SLACK_SECONDS = 2.0
_READ_TIMEOUTS_PER_CALL = 5


@dataclasses.dataclass(slots=True)
class _Sending:
    """Whether the head of a request has left, as far as aiohttp tells: before that, nothing was sent."""

    is_begun: bool = False


def _trace_sending() -> aiohttp.TraceConfig:
    async def note(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:
        context.trace_request_ctx.is_begun = True

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(note)
    return trace


class DataPushClient:
    """A data pool as a `Destination`. Connections open at first use; `aclose()` leaves none.

    Args:
        url: The team's address, host only; https:// except for loopback.
        pool_id: The data pool.
        credentials: Who pushes.
        settings: Base path, private CA and time limits.
        clock: Time of tokens and of `on_server_date`.
        on_server_date: Told the server's clock (seconds UTC) and our monotonic one at the middle of the call, for each answer that came
            within a few seconds.

    Raises:
        ConfigError: An address that credentials must not go to, a pool id that is none, or a CA file that cannot be used.
    """

    team: str

    def __init__(
        self,
        url: str,
        pool_id: str,
        credentials: Credentials,
        *,
        settings: EngineSettings | None = None,
        clock: Clock | None = None,
        on_server_date: Callable[[float, float], None] | None = None,
    ) -> None:
        self._origin, self.team = wire.parse_team_url(url)
        self._pool_id = pool_id.strip()
        if not self._pool_id or not self._pool_id.isprintable() or "/" in self._pool_id:
            raise ConfigError(
                "pool_id is no data pool id", key="pool_id", hint="it is the last part of the pool's address"
            )
        self._settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._on_server_date = on_server_date
        self._token_url = f"{self._origin}/oauth2/token"
        if isinstance(credentials, OAuthClient) and credentials.token_url:
            self._token_url = wire.parse_url(credentials.token_url, key="token_url").geturl()
        self._tokens = TokenSource(credentials, self._fetch_token, self._clock)
        self._ssl = build_ssl_context(self._settings.ca_file)
        self._http: aiohttp.ClientSession | None = None
        self._bodies: set[UploadBody] = set()
        self._sockets: list[socket.socket] = []
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._bodies)} uploads running"
        return f"<DataPushClient {self.team} pool {self._pool_id} {state}>"

    # ---------------------------------------------------------------------------------------------------------- destination

    async def create_job(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Open a job.

        Raises:
            OutcomeUnknownError: No answer, or one that names no job and no listing makes it certain which it is.
        """
        call = self._call(f"create a job for table {target.table}", is_idempotent=False)
        request = wire.build_create_job(self._pool_id, target, columns, base_path=self._settings.base_path)
        began_at = self._clock.now()
        answer = await self._request(request, call)
        if answer.body.strip():
            return await _parse(wire.parse_job, answer, call)
        return await self._find_created_job(target, call, answer, self._clock.now() - began_at)

    async def get_job(self, job_id: JobId) -> Job:
        """Read one job."""
        call = self._call(f"read job {job_id}")
        answer = await self._request(
            wire.build_get_job(self._pool_id, job_id, base_path=self._settings.base_path), call
        )
        return await _parse(wire.parse_job, answer, call)

    async def list_jobs(self) -> list[Job]:
        """Read all jobs of the pool."""
        call = self._call(f"list the jobs of pool {self._pool_id}", max_answer_bytes=_MAX_LIST_BYTES)
        answer = await self._request(wire.build_list_jobs(self._pool_id, base_path=self._settings.base_path), call)
        return await _parse(wire.parse_jobs, answer, call)

    async def delete_job(self, job_id: JobId) -> None:
        """Delete a job and its chunks; a job that is gone already is no error."""
        call = self._call(f"delete job {job_id}", optional_answer="any")
        with contextlib.suppress(NotFoundError):
            await self._request(wire.build_delete_job(self._pool_id, job_id, base_path=self._settings.base_path), call)

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """Send one chunk, from memory or from files.

        Raises:
            SourceReadError: A file is shorter than promised or cannot be read; the job does not hold the chunk.
        """
        call = self._call(
            f"upload chunk {payload.chunk_id} to job {job_id}", is_idempotent=False, optional_answer="chunk"
        )
        request = wire.build_upload_chunk(self._pool_id, job_id, kind, base_path=self._settings.base_path)
        await self._request(request, call, payload.data)

    async def list_chunks(self, job_id: JobId) -> list[RemoteChunk]:
        """Read what the job holds."""
        call = self._call(f"list the chunks of job {job_id}", max_answer_bytes=_MAX_LIST_BYTES)
        answer = await self._request(
            wire.build_list_chunks(self._pool_id, job_id, base_path=self._settings.base_path), call
        )
        return await _parse(wire.parse_chunks, answer, call)

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """Start the execution."""
        call = self._call(f"submit job {job_id}", is_idempotent=False, job_id=job_id, optional_answer="job")
        request = wire.build_submit_job(
            self._pool_id, job_id, duplicate_removal_column=duplicate_removal_column, base_path=self._settings.base_path
        )
        await self._request(request, call)

    async def check_team(self) -> dict[str, Any]:
        """Read the team (`domain` and more): are the address and the credentials good?"""
        call = self._call("read the team")
        return await _parse(wire.parse_object, await self._request(wire.build_check_team(), call), call)

    async def probe_token(self) -> str | None:
        """Get an access token, if the credentials are an OAuth client's; the scope that it was granted, where the platform says."""
        await self._tokens.authorization()
        return self._tokens.scope

    async def aclose(self) -> None:
        """Abort what is running and close all connections; safe to call twice."""
        self._is_closed = True
        await self._tokens.aclose()
        for body in list(self._bodies):
            body.abort()
        if self._http is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._http.close()
        await end_sockets(self._sockets)

    # ---------------------------------------------------------------------------------------------------------------- calls

    def _call(self, what: str, **options: Any) -> Call:
        return Call(**{"operation": f"{what} at {self.team}", "is_idempotent": True, **options})

    async def _find_created_job(
        self, target: Target, call: Call, answer: wire.ApiAnswer, elapsed_seconds: float
    ) -> Job:
        """The job that a 201 without a body is about: by its Location, else the only one that fits in the list."""
        location = wire.header(answer.headers, "location")
        if location and (
            job_id := urllib.parse.unquote(urllib.parse.urlsplit(location).path.rstrip("/").rpartition("/")[2])
        ):
            return await self.get_job(JobId(job_id))
        server_now = wire.parse_http_date(wire.header(answer.headers, "date")) or self._clock.now()
        earliest = server_now - elapsed_seconds - _CLOCK_SLACK_SECONDS
        fitting = [
            job
            for job in await self.list_jobs()
            if job.target_name == target.table
            and job.status is JobStatus.NEW
            and job.type == target.job_type
            and job.last_modified is not None
            and job.last_modified.timestamp() >= earliest
        ]
        if len(fitting) != 1:
            raise OutcomeUnknownError(
                f"{call.operation}: the answer names no job, and {len(fitting)} new jobs of the pool could be it",
                hint="an unused job does no harm: the platform deletes it in time",
            )
        return fitting[0]

    async def _request(
        self, request: wire.ApiRequest, call: Call, source: memoryview | FileParts | None = None
    ) -> wire.ApiAnswer:
        """One attempt; after a 401 and with a new token, one more."""
        authorization = await self._tokens.authorization()
        try:
            return await self._attempt(request, call, source, authorization)
        except AuthenticationError:
            if not self._tokens.is_refreshable:
                raise
            self._tokens.invalidate(authorization)
        return await self._attempt(request, call, source, await self._tokens.authorization())

    async def _attempt(
        self, request: wire.ApiRequest, call: Call, source: memoryview | FileParts | None, authorization: str
    ) -> wire.ApiAnswer:
        upload = None if source is None else self._open_upload(source)
        answer = await self._exchange(
            request.method,
            self._origin + request.target,
            call,
            headers={"Authorization": authorization},
            json=request.json,
            upload=upload,
        )
        if answer.status >= 300:  # noqa: PLR2004 - HTTP status classes
            secrets = (*self._tokens.secrets(), authorization.partition(" ")[2])
            raise answer_error(answer, call, now=self._clock.now(), secrets=secrets)
        if upload is not None and not upload.body.is_complete:
            raise UnexpectedResponseError(
                f"{call.operation}: status {answer.status} before the whole body was sent",
                status=answer.status,
                hint="something between here and the platform answers for it",
            )
        require_genuine(answer, call)
        return answer

    def _open_upload(self, source: memoryview | FileParts) -> Upload:
        return Upload(
            source,
            stall_timeout_seconds=self._settings.stall_timeout_seconds,
            read_timeout_seconds=self._settings.read_timeout_seconds,
            clock=self._clock,
        )

    async def _fetch_token(self, request: TokenRequest) -> wire.ApiAnswer:
        headers = {"Authorization": request.authorization} if request.authorization else {}
        call = self._call("get an access token")
        answer = await self._exchange("POST", self._token_url, call, headers=headers, form=request.form)
        if 300 <= answer.status < 400:  # noqa: PLR2004 - HTTP status class
            raise answer_error(answer, call, now=self._clock.now(), secrets=())
        return answer

    # ------------------------------------------------------------------------------------------------------------- exchange

    async def _exchange(
        self,
        method: str,
        url: str,
        call: Call,
        *,
        headers: Mapping[str, str],
        json: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
        upload: Upload | None = None,
    ) -> wire.ApiAnswer:
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
        began_at = self._clock.monotonic()
        try:
            async with (
                self._running(upload),
                session.request(method, url, allow_redirects=False, **options) as response,
            ):
                if url.startswith(f"{self._origin}/"):
                    self._observe_date(response, (upload and upload.body.sent_at) or began_at)
                body, is_whole = await _read_body(response, call, upload)
                if upload is not None and upload.body.is_complete:
                    upload.is_settled = True
                return wire.ApiAnswer(response.status, response.headers, body, is_whole=is_whole)
        except BORDER_ERRORS as exc:
            if upload is not None and upload.body.error is not None:
                raise upload.body.error from upload.body.error.__cause__
            raise border_error(defused(exc), call, is_sent=sending.is_begun, upload=upload) from exc
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
            if not upload.is_settled:
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


# ------------------------------------------------------------------------------------------------------------------- answers


async def _parse(parse: Callable[..., T], answer: wire.ApiAnswer, call: Call) -> T:
    """Parse an answer, large ones on a thread; one that cannot be used may be good next time, where asking again does no harm."""
    try:
        if len(answer.body) > _MAX_LOOP_PARSE_BYTES:
            return await asyncio.to_thread(parse, answer.body, operation=call.operation, status=answer.status)
        return parse(answer.body, operation=call.operation, status=answer.status)
    except UnexpectedResponseError as error:
        raise error.replace(disposition=call.if_unclear) from error.__cause__


async def _read_body(response: aiohttp.ClientResponse, call: Call, upload: Upload | None) -> tuple[bytes, bool]:
    """The answer's body, within bounds, and whether it is whole. Where the status says enough, a body that breaks off is cut there."""
    is_status_enough = response.status >= 300 or call.optional_answer is not None  # noqa: PLR2004 - HTTP status classes
    data = bytearray()
    try:
        async with asyncio.timeout(_ERROR_BODY_SECONDS if is_status_enough else None):
            async for piece in response.content.iter_any():
                data += piece
                if upload is not None:
                    upload.received_bytes += len(piece)
                if len(data) > call.max_answer_bytes:
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
            f"{call.operation}: the answer is larger than {call.max_answer_bytes} bytes",
            status=status,
            disposition="terminal" if call.is_idempotent else "outcome_unknown",
        )
