"""The HTTP client of the Data Push API: one call is one attempt, and every failure is one of `pushengine.errors`.

Retrying is up to the caller, except for one replay with a new token after a 401. For what a failure proves, see
`pushengine.celonis.error_mapping`.
"""

from __future__ import annotations

import contextlib
import functools
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pushengine.celonis import wire
from pushengine.celonis.columns import columns_of, parse_listed_column, parse_table_name
from pushengine.celonis.error_mapping import Call, require_genuine, response_error
from pushengine.celonis.lists import ListReader
from pushengine.celonis.oauth import TokenRequest, TokenSource
from pushengine.celonis.transport import Transport
from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials, OAuthClient
from pushengine.errors import (
    AuthenticationError,
    ConfigError,
    NotFoundError,
    OutcomeUnknownError,
    PushEngineError,
    UnexpectedResponseError,
)
from pushengine.interfaces import FileSystem
from pushengine.model import ChunkType, FileParts, Job, JobId, JobStatus, Payload, RemoteChunk, TableColumn, Target
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.runtime.files import LocalFileSystem

T = TypeVar("T")

_MAX_LIST_BYTES = 1024 * 1024 * 1024
_MAX_KEPT_BYTES = 128 * 1024 * 1024
_MAX_CHUNKS_KEPT_BYTES = 512 * 1024 * 1024
"""Memory for what is kept of a list of chunks: about a million of them."""
_BYTES_PER_CHUNK, _CHUNKS_SLACK_BYTES = 1024, 16 * 1024 * 1024
"""If it is known how many chunks there can be, memory for each of them, and for a few odd ones. A chunk takes about 700 bytes."""
_CLOCK_SLACK_SECONDS = 2.0


class DataPushClient:
    """A data pool as a `Destination`. Connections open on first use; `aclose()` closes all of them.

    Args:
        url: Address of the team, host only; https:// except for loopback.
        pool_id: Id of the data pool.
        credentials: Credentials to push with.
        settings: Base path, private CA and time limits; None means the defaults.
        filesystem: File system that uploads read files from; None means the local one.
        clock: Clock for token lifetimes and `on_server_date`; None means the system clock.
        on_server_date: Called with (server time in seconds UTC, monotonic time halfway between request and response), for each response
            of the team that arrived within a few seconds.

    Raises:
        ConfigError: An address that credentials must not be sent to, an invalid pool id, or an unusable CA file.
    """

    team: str

    def __init__(
        self,
        url: str,
        pool_id: str,
        credentials: Credentials,
        *,
        settings: EngineSettings | None = None,
        filesystem: FileSystem | None = None,
        clock: Clock | None = None,
        on_server_date: Callable[[float, float], None] | None = None,
    ) -> None:
        self._origin, self.team = wire.parse_team_url(url)
        self._pool_id = pool_id.strip()
        if not self._pool_id or not self._pool_id.isprintable() or "/" in self._pool_id:
            raise ConfigError(
                "pool_id is not a valid data pool id", key="pool_id", hint="it is the last part of the pool's address"
            )
        self._settings = settings or EngineSettings()
        self._clock = clock or SystemClock()
        self._token_url = f"{self._origin}/oauth2/token"
        if isinstance(credentials, OAuthClient) and credentials.token_url:
            self._token_url = wire.parse_url(credentials.token_url, key="token_url").geturl()
        self._transport = Transport(
            self._origin,
            settings=self._settings,
            clock=self._clock,
            filesystem=filesystem or LocalFileSystem(),
            on_server_date=on_server_date,
        )
        self._tokens = TokenSource(credentials, self._fetch_token, self._clock)

    def __repr__(self) -> str:
        return f"<DataPushClient {self.team} pool {self._pool_id} {self._transport!r}>"

    # ---------------------------------------------------------------------------------------------------------- destination

    async def create_job(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Create a job.

        Raises:
            OutcomeUnknownError: There was no response, or it names no job and the list of jobs does not identify the job either.
        """
        call = self._call(f"create a job for table {target.table}", is_idempotent=False)
        request = wire.build_create_job(self._pool_id, target, columns, base_path=self._settings.base_path)
        started_at = self._clock.now()
        response = await self._request(request, call)
        if response.body.strip():
            return _parse(wire.parse_job, response, call)
        return await self._find_created_job(target, call, response, self._clock.now() - started_at)

    async def get_job(self, job_id: JobId) -> Job:
        """Read one job."""
        call = self._call(f"read job {job_id}")
        request = wire.build_get_job(self._pool_id, job_id, base_path=self._settings.base_path)
        response = await self._request(request, call)
        return _require_same(job_id, _parse(wire.parse_job, response, call), call, response.status)

    async def list_jobs(self) -> list[Job]:
        """Read all jobs of the pool."""
        return await self._jobs_where(lambda _job: True)

    async def _jobs_where(self, is_wanted: Callable[[Job], bool]) -> list[Job]:
        def wanted(raw: object, *, operation: str) -> Job | None:
            job = wire.parse_listed_job(raw, operation=operation)
            return job if is_wanted(job) else None

        request = wire.build_list_jobs(self._pool_id, base_path=self._settings.base_path)
        return await self._read_list(request, f"list the jobs of pool {self._pool_id}", wanted)

    async def delete_job(self, job_id: JobId) -> None:
        """Delete a job and its chunks. A job that is already gone is not an error."""
        call = self._call(f"delete job {job_id}", optional_response="any")
        with contextlib.suppress(NotFoundError):
            await self._request(wire.build_delete_job(self._pool_id, job_id, base_path=self._settings.base_path), call)

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """Upload one chunk, from memory or from files.

        Raises:
            SourceReadError: A file is shorter than expected or cannot be read; the job does not hold the chunk.
        """
        call = self._call(
            f"upload chunk {payload.chunk_id} to job {job_id}", is_idempotent=False, optional_response="chunk"
        )
        request = wire.build_upload_chunk(self._pool_id, job_id, kind, base_path=self._settings.base_path)
        await self._request(request, call, payload.data)

    async def list_chunks(self, job_id: JobId, *, limit: int | None = None) -> list[RemoteChunk]:
        """List the chunks that the job holds, at most `limit` of them."""
        request = wire.build_list_chunks(self._pool_id, job_id, base_path=self._settings.base_path)
        return await self._read_list(
            request,
            f"list the chunks of job {job_id}",
            wire.parse_listed_chunk,
            max_kept_bytes=_MAX_CHUNKS_KEPT_BYTES if limit is None else _CHUNKS_SLACK_BYTES + limit * _BYTES_PER_CHUNK,
            limit=limit,
        )

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """Submit a job: the platform starts to execute it."""
        call = self._call(f"submit job {job_id}", is_idempotent=False, job_id=job_id, optional_response="job")
        request = wire.build_submit_job(
            self._pool_id, job_id, duplicate_removal_column=duplicate_removal_column, base_path=self._settings.base_path
        )
        await self._request(request, call)

    async def table_columns(self, table: str, connection_id: str | None) -> list[TableColumn]:
        """Read the columns of a table that exists, as the vendor's client does; empty if the platform lists none.

        Credentials that may push need not be allowed to read: expect `PermissionDeniedError` or `NotFoundError`. Types may be rough:
        see `model.may_be_listed_as`.
        """
        found = await self._listed_columns(table, connection_id)
        if found:
            return found
        # The platform may compare names exactly. The vendor's client takes the spelling from the list of tables.
        what = f"list the tables of pool {self._pool_id}"
        parse = functools.partial(parse_table_name, table=table, connection_id=connection_id)
        listed = await self._read_list(wire.build_list_tables(self._pool_id), what, parse)
        spelled = [name for name in listed if name != table]
        return await self._listed_columns(spelled[0], connection_id) if spelled else []

    async def check_team(self) -> dict[str, Any]:
        """Read the team (`domain` and more). Success proves that the address and the credentials are valid."""
        call = self._call("read the team")
        return _parse(wire.parse_object, await self._request(wire.build_check_team(), call), call)

    async def probe_token(self) -> str | None:
        """Get an access token (OAuth clients only). Return its scope, or None if the platform does not report one."""
        await self._tokens.authorization()
        return self._tokens.scope

    async def aclose(self) -> None:
        """Abort the running calls and close all connections; safe to call twice."""
        self._transport.stop()
        await self._tokens.aclose()
        await self._transport.aclose()

    # ---------------------------------------------------------------------------------------------------------------- calls

    async def _listed_columns(self, table: str, connection_id: str | None) -> list[TableColumn]:
        request = wire.build_list_columns(self._pool_id, table, connection_id)
        return columns_of(await self._read_list(request, f"list the columns of table {table}", parse_listed_column))

    async def _read_list(
        self,
        request: wire.ApiRequest,
        what: str,
        parse: Callable[..., T | None],
        *,
        max_kept_bytes: int | None = None,
        limit: int | None = None,
    ) -> list[T]:
        """Read a list while it arrives, and keep what `parse` returns of each of its objects (`ListReader`)."""
        call = self._call(what, max_response_bytes=_MAX_LIST_BYTES)
        reader: ListReader[T] = ListReader(
            functools.partial(parse, operation=call.operation),
            call.operation,
            max_kept_bytes=max_kept_bytes or min(_MAX_KEPT_BYTES, self._settings.max_memory_bytes),
            limit=limit,
        )
        await self._request(request, call, take=reader.feed)
        return reader.finish()

    def _call(self, what: str, **options: Any) -> Call:
        return Call(**{"operation": f"{what} at {self.team}", "is_idempotent": True, **options})

    async def _find_created_job(
        self, target: Target, call: Call, response: wire.ApiResponse, elapsed_seconds: float
    ) -> Job:
        """Find the job that a 201 without a body created: by its Location header, otherwise as the only match in the list of jobs."""
        if job_id := _last_segment(wire.header(response.headers, "location") or ""):
            with contextlib.suppress(NotFoundError):  # it may not be readable yet
                return await self.get_job(JobId(job_id))
        server_now = wire.parse_http_date(wire.header(response.headers, "date")) or self._clock.now()
        earliest = server_now - elapsed_seconds - _CLOCK_SLACK_SECONDS
        candidates = [job for job in await self.list_jobs() if _may_be_created(job, target, earliest)]
        if len(candidates) != 1:
            what = f"the response names no job, and {len(candidates)} new jobs of the pool match"
            hint = "an unused job does no harm: the platform eventually deletes it"
            raise OutcomeUnknownError(f"{call.operation}: {what}", hint=hint)
        return candidates[0]

    async def _request(
        self,
        request: wire.ApiRequest,
        call: Call,
        source: memoryview | FileParts | None = None,
        take: Callable[[bytes], bool] | None = None,
    ) -> wire.ApiResponse:
        """Make one attempt. After a 401 for an OAuth client, replay it once with a new token."""
        authorization = await self._authorization()
        try:
            return await self._attempt(request, call, source, take, authorization)
        except AuthenticationError as error:
            # A 401 proves that the request was refused, so one replay is safe for every call, uploads included.
            if not self._tokens.is_refreshable or error.status != 401:  # noqa: PLR2004 - an HTTP status
                raise
            self._tokens.invalidate(authorization)
        return await self._attempt(request, call, source, take, await self._authorization())

    async def _authorization(self) -> str:
        try:
            return await self._tokens.authorization()
        except PushEngineError as error:
            # True of every call that needs the token, so it does not matter that calls that wait for the same refresh share the error.
            error.is_unsent = True
            raise

    async def _attempt(
        self,
        request: wire.ApiRequest,
        call: Call,
        source: memoryview | FileParts | None,
        take: Callable[[bytes], bool] | None,
        authorization: str,
    ) -> wire.ApiResponse:
        upload = None if source is None else self._transport.open_upload(source)
        response = await self._transport.exchange(
            request.method,
            self._origin + request.target,
            call,
            headers={"Authorization": authorization},
            json=request.json,
            upload=upload,
            take=take,
        )
        if response.status >= 300:  # noqa: PLR2004 - HTTP status classes
            secrets = (*self._tokens.secrets(), authorization.partition(" ")[2])
            raise response_error(response, call, now=self._clock.now(), secrets=secrets)
        if upload is not None and not upload.body.is_complete:
            raise UnexpectedResponseError(
                f"{call.operation}: status {response.status} before the whole body was sent",
                status=response.status,
                hint="something between this host and the platform responds in its place",
            )
        require_genuine(response, call)
        return response

    async def _fetch_token(self, request: TokenRequest) -> wire.ApiResponse:
        headers = {"Authorization": request.authorization} if request.authorization else {}
        call = self._call("get an access token")
        response = await self._transport.exchange("POST", self._token_url, call, headers=headers, form=request.form)
        if 300 <= response.status < 400:  # noqa: PLR2004 - HTTP status class
            raise response_error(response, call, now=self._clock.now(), secrets=())
        return response


# --------------------------------------------------------------------------------------------------------------- responses


def _last_segment(location: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(location).path.rstrip("/").rpartition("/")[2])


def _may_be_created(job: Job, target: Target, earliest: float) -> bool:
    """Return whether a job may be one that was created for this target at `earliest` (seconds UTC) or later."""
    return (
        job.target_name == target.table
        and job.status is JobStatus.NEW
        and job.type == target.job_type
        and job.last_modified is not None
        and job.last_modified.timestamp() >= earliest
    )


def _require_same(job_id: JobId, job: Job, call: Call, status: int) -> Job:
    """Return the job if it is the one that was asked for.

    Raises:
        UnexpectedResponseError: It is another one.
    """
    if job.id == job_id:
        return job
    raise UnexpectedResponseError(
        f"{call.operation}: the response is another job",
        status=status,
        hint="check for a proxy between this host and the platform",
        disposition=call.unclear_disposition,
    )


def _parse(parse: Callable[..., T], response: wire.ApiResponse, call: Call) -> T:
    """Parse a response. For idempotent calls an unusable one is transient: the next one may be good."""
    try:
        return parse(response.body, operation=call.operation, status=response.status)
    except UnexpectedResponseError as error:
        raise error.replace(disposition=call.unclear_disposition) from error.__cause__
    except RecursionError:  # a text in it needs a deeper stack than its parsing
        unusable = UnexpectedResponseError(
            f"{call.operation}: the response is nested too deeply",
            status=response.status,
            disposition=call.unclear_disposition,
        )
    raise unusable
