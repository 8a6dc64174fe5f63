"""The HTTP layer: routes, reading requests, writing responses. `EmulatorService` makes the decisions."""

import functools
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, Protocol, TypeVar

import aiohttp
from aiohttp import hdrs, web

from pushengine.emulator.chunks.multipart import MultipartError, boundary_of
from pushengine.emulator.chunks.uploads import Spool, TooLargeError, Upload
from pushengine.emulator.chunks.validation import inspect_file
from pushengine.emulator.faults import Operation
from pushengine.emulator.http.connections import Connections
from pushengine.emulator.http.fault_injection import Injection
from pushengine.emulator.http.messages import (
    STALL_TIMEOUT,
    iter_body,
    postpone_continue,
    read_body,
    read_form,
    refuse_encoded,
    response_of,
    send_continue,
)
from pushengine.emulator.http.pools import PoolRoutes
from pushengine.emulator.jobs.model import Chunk, ChunkType, Job
from pushengine.emulator.jobs.quota import Verdict
from pushengine.emulator.jobs.requests import parse_json
from pushengine.emulator.jobs.service import EmulatorService
from pushengine.emulator.refusals import Refusal, gateway, internal_error, refusal

BASE_PATHS = ("/data-ingestion", "/integration")
POOLS_PATH = "/integration/api/pools"
TEAM_DOMAIN = "emulator"

_PIECE_BYTES = 1024 * 1024
_FORM_OVERHEAD_BYTES = 64 * 1024
_MAX_PAGE_DIGITS = 9
_OPEN_OPERATIONS = {Operation.TOKEN, Operation.DISCOVERY}
_POOL_OPERATIONS = {Operation.LIST_POOLS, Operation.GET_POOL, Operation.LIST_TABLES, Operation.LIST_COLUMNS}

_log = logging.getLogger("pushengine.emulator")
_Result = TypeVar("_Result")
_Handler = Callable[[web.Request], Awaitable[web.Response]]
_AnyHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RunBlocking(Protocol):
    """A callable that runs a blocking function on another thread."""

    async def __call__(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Run the function and return its result."""
        ...


class EmulatorApp:
    """The aiohttp application of an emulator.

    Args:
        service: The state machine, which makes all decisions.
        spool: Folder that uploads are written to.
        pools: Handlers of the calls that read pools, tables and columns.
        run_blocking: Runs file work off the event loop.
        execute: Starts the execution of a queued job.
        sweep: Deletes the spool files that are no longer needed after a request.
        injection: Applies the faults.

    Attributes:
        connections: The open connections.
    """

    def __init__(
        self,
        service: EmulatorService,
        spool: Spool,
        *,
        pools: PoolRoutes,
        run_blocking: RunBlocking,
        execute: Callable[[Job], None],
        sweep: Callable[[], Awaitable[None]],
        injection: Injection,
    ) -> None:
        self._service = service
        self._spool = spool
        self._pools = pools
        self._run_blocking = run_blocking
        self._execute = execute
        self._sweep = sweep
        self._injection = injection
        self.connections = Connections(service.settings.stall_timeout_seconds)
        self.application = web.Application(middlewares=[self._respond])
        self.application[STALL_TIMEOUT] = service.settings.stall_timeout_seconds
        self.application.on_response_prepare.append(self._set_date)
        self._add_routes()

    def _add_routes(self) -> None:
        for base in BASE_PATHS:
            jobs = f"{base}/api/v1/data-push/{{pool_id}}/jobs/"
            job = jobs + "{job_id}"
            self._route("POST", jobs, Operation.CREATE, self._create)
            self._route("GET", jobs, Operation.LIST, self._list)
            self._route("GET", job, Operation.GET, self._get)
            self._route("POST", job, Operation.SUBMIT, self._submit)
            self._route("DELETE", job, Operation.DELETE, self._delete)
            self._route("GET", f"{job}/chunks", Operation.LIST_CHUNKS, self._list_chunks)
            self._route("POST", f"{job}/chunks/upserted", Operation.UPSERT, self._upload)
            self._route("POST", f"{job}/chunks/deleted", Operation.DELETE_ROWS, self._upload)
        self._route("POST", "/oauth2/token", Operation.TOKEN, self._token)
        self._route("GET", "/.well-known/openid-configuration", Operation.DISCOVERY, self._discovery)
        self._route("GET", "/api/cloud/team", Operation.TEAM, self._team)
        self._route("GET", "/api/team", Operation.TEAM, self._team)
        self._route("GET", "/api/cloud", Operation.USER, self._pools.user)
        self._route("GET", "/api/cloud/permissions", Operation.PERMISSIONS, self._pools.permissions)
        self._route("GET", POOLS_PATH, Operation.LIST_POOLS, self._pools.pools)
        self._route("GET", f"{POOLS_PATH}/{{pool_id}}", Operation.GET_POOL, self._pools.pool)
        self._route("GET", f"{POOLS_PATH}/{{pool_id}}/tables", Operation.LIST_TABLES, self._pools.tables)
        self._route("GET", f"{POOLS_PATH}/{{pool_id}}/columns", Operation.LIST_COLUMNS, self._pools.columns)

    def _route(self, method: str, path: str, operation: Operation, handler: _Handler) -> None:
        dispatched = functools.partial(self._dispatch, operation, handler)
        if self._service.settings.tolerates_slashes:
            path = _with_any_slashes(path)
        for name in ("GET", "HEAD") if method == "GET" else (method,):
            self.application.router.add_route(name, path, dispatched, expect_handler=postpone_continue)

    @web.middleware
    async def _respond(self, request: web.Request, handler: _AnyHandler) -> web.StreamResponse:
        """Turn whatever happens to a request into a response in one of the API's forms."""
        with self.connections.processing(request):
            try:
                return await handler(request)
            except web.HTTPMethodNotAllowed as exc:
                allowed = ", ".join(sorted(exc.allowed_methods))
                if request.method == hdrs.METH_OPTIONS:
                    return web.Response(headers={hdrs.ALLOW: allowed})
                refused = gateway(405, "Method Not Allowed", f"Use {allowed}.", "METHOD_NOT_ALLOWED", Allow=allowed)
            except web.HTTPException as exc:
                detail = "There is no such resource." if isinstance(exc, web.HTTPNotFound) else exc.reason
                refused = gateway(exc.status, exc.reason, detail, exc.reason.upper().replace(" ", "_"))
            except Exception:  # noqa: BLE001 - a bug here is answered like one of the platform
                reference = str(uuid.uuid4())
                refused = internal_error(reference)
                _log.exception("request_failed method=%s path=%r reference=%s", request.method, request.path, reference)
            return response_of(refused)

    async def _dispatch(self, operation: Operation, handler: _Handler, request: web.Request) -> web.StreamResponse:
        """Handle a request of any operation, together with the faults and the cleanup.

        This is the only place where faults are injected between the wire and the service: all processing happens inside.
        """
        process = functools.partial(self._process, operation, handler, request)
        try:
            response = await self._injection.run(operation, request, process)
        except Refusal as refused:  # of a body that a fault reads
            response = response_of(refused)
        except (aiohttp.ClientError, ConnectionError, web.RequestPayloadError) as exc:
            # The caller disconnected, or sent fewer bytes than announced or malformed ones; nothing of the request was kept.
            _log.info("request_broken operation=%s error=%s", operation, type(exc).__name__)
            response = response_of(refusal(400, "The request body is incomplete.", "Bad request"))
            response.force_close()
        await self._sweep()
        return response

    async def _process(self, operation: Operation, handler: _Handler, request: web.Request) -> web.Response:
        try:
            if operation not in _OPEN_OPERATIONS:
                self._admit(operation, request)
            refuse_encoded(request)
            return await handler(request)
        except Refusal as refused:
            _log.info("request_refused operation=%s status=%d", operation, refused.status)
            return response_of(refused)

    def _admit(self, operation: Operation, request: web.Request) -> None:
        principal = self._service.authenticator.authenticate(request.headers.get(hdrs.AUTHORIZATION))
        pool_id = request.match_info.get("pool_id")
        if operation in _POOL_OPERATIONS:
            self._service.authenticator.require_read(principal, pool_id)
        elif pool_id is not None:
            self._service.authenticator.require_pool(principal, pool_id)

    async def _set_date(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers[hdrs.DATE] = formatdate(self._service.settings.now(), usegmt=True)

    # Jobs

    async def _create(self, request: web.Request) -> web.Response:
        job = self._service.create(request.match_info["pool_id"], parse_json(await read_body(request)))
        if not self._service.settings.create_returns_body:
            return web.Response(status=201)
        return _json(self._service.style.job(job))

    async def _list(self, request: web.Request) -> web.Response:
        jobs = self._service.list_jobs(request.match_info["pool_id"])
        return _json([self._service.style.job(job) for job in jobs])

    async def _get(self, request: web.Request) -> web.Response:
        return _json(self._service.style.job(self._service.get(*_ids(request))))

    async def _delete(self, request: web.Request) -> web.Response:
        self._service.delete(*_ids(request))
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        await read_body(request)
        verdict = self._service.spend_submit()
        try:
            if not verdict.granted:
                raise self._service.refuse_submit(verdict)
            job = self._service.submit(*_ids(request), request.query.get("duplicateRemovalColumn"))
        except Refusal as refused:
            if verdict.granted:
                verdict = self._service.release_submit(verdict)
            refused.headers.update(self._rate_limit_headers(verdict))
            raise
        if job is not None:
            self._execute(job)
        return web.Response(headers=self._rate_limit_headers(verdict))

    def _rate_limit_headers(self, verdict: Verdict) -> dict[str, str]:
        if not self._service.settings.rate_limit_headers:
            return {}
        return {
            "x-ratelimit-limit": str(verdict.limit),
            "x-ratelimit-remaining": str(verdict.remaining),
            "x-ratelimit-reset": str(verdict.reset_seconds),
        }

    # Chunks

    async def _list_chunks(self, request: web.Request) -> web.Response:
        pool_id, job_id = _ids(request)
        digits = request.query.get("page", "0")
        # A number with more digits is a page beyond the end, which a page with the maximum number of digits is too.
        page = int(digits[:_MAX_PAGE_DIGITS]) if digits.isascii() and digits.isdecimal() else 0
        chunks = self._service.list_chunks(pool_id, job_id, page)
        return _json([self._service.style.chunk(chunk, job_id) for chunk in chunks])

    async def _upload(self, request: web.Request) -> web.Response:
        deletes = request.path.rstrip("/").endswith("/deleted")
        chunk_type = ChunkType.DELETE if deletes else ChunkType.UPSERT
        self._service.check_upload(*_ids(request), chunk_type)
        try:
            chunk = await self._receive(request, chunk_type)
        except MultipartError as exc:
            raise refusal(400, str(exc), "Invalid multipart request") from exc
        except TooLargeError as exc:
            raise refusal(413, str(exc), "Payload too large") from exc
        if not self._service.settings.upload_returns_chunk:
            return web.Response()
        return _json(self._service.style.chunk(chunk, request.match_info["job_id"]))

    async def _receive(self, request: web.Request, chunk_type: ChunkType) -> Chunk:
        """Spool, validate and add one file; after any failure, nothing of it remains."""
        settings = self._service.settings
        pool_id, job_id = _ids(request)
        spec = self._service.get(pool_id, job_id).spec
        boundary = boundary_of(request.headers.get(hdrs.CONTENT_TYPE, ""))
        if (request.content_length or 0) > settings.max_chunk_bytes + _FORM_OVERHEAD_BYTES:
            raise TooLargeError(f"The file is larger than {settings.max_chunk_bytes} bytes.")
        await send_continue(request)
        upload = Upload(self._spool.new_file(), boundary, settings)
        try:
            await self._run_blocking(upload.open)
            await self._spool_body(request, upload)
            checksum = await self._run_blocking(upload.finish)
            columns = await self._run_blocking(inspect_file, upload.path, spec, chunk_type, settings)
            return self._service.add_chunk(
                pool_id,
                job_id,
                chunk_type,
                path=upload.path,
                columns=columns,
                size_bytes=upload.size_bytes,
                checksum=checksum,
            )
        except BaseException:
            upload.abandon()
            self._service.garbage.append(upload.path)
            raise

    async def _spool_body(self, request: web.Request, upload: Upload) -> None:
        """Copy the body in large pieces: a thread switch costs more than writing a small piece."""
        pieces: list[bytes] = []
        held_bytes = 0
        async for data in iter_body(request):
            pieces.append(data)
            held_bytes += len(data)
            if held_bytes >= _PIECE_BYTES:
                await self._run_blocking(upload.write, b"".join(pieces))
                pieces, held_bytes = [], 0
        await self._run_blocking(upload.write, b"".join(pieces))

    # Callers

    async def _token(self, request: web.Request) -> web.Response:
        parameters = dict(request.query)
        parameters.update(await read_form(request))
        granted = self._service.authenticator.grant(request.headers.get(hdrs.AUTHORIZATION), parameters)
        return _json(granted, {"Cache-Control": "no-store"})

    async def _team(self, request: web.Request) -> web.Response:
        domain = {"domain": TEAM_DOMAIN}
        is_key_check = "cloud" in request.path
        return _json(domain if is_key_check else domain | self._service.team_limits())

    async def _discovery(self, request: web.Request) -> web.Response:
        """Respond with the OpenID Connect document in which clients find the token endpoint."""
        settings = self._service.settings
        document = {
            "issuer": str(request.url.origin()),
            "token_endpoint": str(request.url.origin() / "oauth2/token"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": sorted(
                f"client_secret_{name}" for name in settings.client_auth_methods
            ),
            "scopes_supported": list(settings.scopes),
        }
        return _json(document)


def _with_any_slashes(path: str) -> str:
    """Return the pattern of a path in which slashes may be repeated, and the last one may be missing or added."""
    first, *names = path.strip("/").split("/")
    return f"/{{s:/*}}{first}" + "".join(f"{{s{index}:/+}}{name}" for index, name in enumerate(names)) + "{end:/*}"


def _ids(request: web.Request) -> tuple[str, str]:
    return request.match_info["pool_id"], request.match_info["job_id"]


def _json(body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(body, headers=headers)
