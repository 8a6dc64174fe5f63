"""Applies faults to requests on the wire; `faults.py` decides which faults fire.

When the emulator closes, all waits end at once: delays are cut short, and late commits that still wait are dropped.
"""

import asyncio
import json
import logging
import math
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import hdrs, web

from pushengine.emulator import faults as f
from pushengine.emulator.faults import Call, Faults, Operation
from pushengine.emulator.http.messages import drain_body, hold_body, response_of
from pushengine.emulator.jobs.service import EmulatorService
from pushengine.emulator.refusals import gateway

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_STAND_IN_BODY = b"{}"  # cut in half instead when the response has no body

_log = logging.getLogger("pushengine.emulator")


@dataclass(frozen=True)
class Exchange:
    """A call, its request, and the function that processes it, which may be called repeatedly once the body is held."""

    call: Call
    request: web.Request
    process: Callable[[], Awaitable[web.Response]]


class Injection:
    """A layer between the wire and the processing of every request, which applies the faults.

    Args:
        service: The state machine.
        pause: Waits for a number of seconds; returns False, without further waiting, when the emulator closes.
        sweep: Deletes the spool files that are no longer needed after a request.

    Attributes:
        faults: The plan in use; may be replaced at any time.
    """

    def __init__(
        self,
        service: EmulatorService,
        *,
        faults: Faults,
        pause: Callable[[float], Awaitable[bool]],
        sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self.faults = faults
        self._service = service
        self._pause = pause
        self._sweep = sweep
        self._late: set[asyncio.Task[None]] = set()
        self._perform: dict[type[f.Action], Callable[[Any, Exchange], Awaitable[web.StreamResponse]]] = {
            f.Status: self._status,
            f.RateLimit: self._rate_limit,
            f.Delay: self._delay,
            f.DropBefore: self._drop_before,
            f.DropAfter: self._drop_after,
            f.CommitLate: self._commit_late,
            f.Duplicate: self._duplicate,
            f.Truncated: self._truncated,
            f.Malformed: self._malformed,
            f.Empty: self._empty,
            f.StaleStatus: self._stale_status,
            f.ExpireTokens: self._expire_tokens,
            f.Vanish: self._vanish,
        }

    @property
    def pending(self) -> int:
        """Number of calls that were cut off from their caller and are still to be processed."""
        return len(self._late)

    async def run(
        self, operation: Operation, request: web.Request, process: Callable[[], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        """Process a request and apply the fault that is due, if there is one."""
        call = await self._call(operation, request)
        action = self.faults.pick(call)
        if action is None:
            return await process()
        _log.info("fault_fired operation=%s action=%s", operation, action.name)
        return await self._perform[type(action)](action, Exchange(call, request, process))

    async def finish(self) -> None:
        """Wait for late calls that are still being processed while the emulator closes."""
        while self._late:
            await asyncio.wait(self._late)

    async def _call(self, operation: Operation, request: web.Request) -> Call:
        job_id = request.match_info.get("job_id")
        number, table = self._service.created.get(job_id or "", (None, None))
        if operation is Operation.CREATE and self.faults.plan.reads_created_tables:
            table = _created_table(await hold_body(request))
        return Call(operation, job_id, number, table)

    # Instead of processing

    async def _status(self, action: f.Status, exchange: Exchange) -> web.StreamResponse:
        if action.after_commit:
            await exchange.process()
        else:
            await drain_body(exchange.request, action.after_bytes)
        body = None if action.body is None or isinstance(action.body, str) else json.dumps(action.body)
        response = web.Response(status=action.code, text=action.body if body is None else body)
        if body is not None:
            response.content_type = "application/json"
        response.headers.update(action.headers)
        if action.after_bytes is not None:
            response.force_close()
        return response

    async def _rate_limit(self, action: f.RateLimit, exchange: Exchange) -> web.StreamResponse:
        await drain_body(exchange.request, None)
        seconds = str(math.ceil(action.seconds))
        until = math.ceil(self._service.settings.now() + action.seconds)
        match action.form:
            case "retry_after":
                return web.Response(status=429, headers={hdrs.RETRY_AFTER: seconds})
            case "retry_after_date":
                return web.Response(status=429, headers={hdrs.RETRY_AFTER: formatdate(until, usegmt=True)})
            case "x_ratelimit_reset":
                limits = {
                    "x-ratelimit-limit": str(self._service.settings.submits_per_hour),
                    "x-ratelimit-remaining": "0",
                }
                return web.Response(status=429, headers=limits | {"x-ratelimit-reset": seconds})
            case "body":
                detail = f"The rate limit is exceeded. Retry at {self._service.style.time(until)}."
                return response_of(gateway(429, "Too Many Requests", detail, "LIMIT_RATE_EXCEEDED"))
            case "bare":
                return web.Response(status=429)

    async def _drop_before(self, action: f.DropBefore, exchange: Exchange) -> web.StreamResponse:
        await drain_body(exchange.request, action.after_bytes)
        return _cut_off(exchange.request, reset=action.reset)

    # Around processing

    async def _delay(self, action: f.Delay, exchange: Exchange) -> web.StreamResponse:
        if action.when == "before":
            await self._pause(action.seconds)
            return await exchange.process()
        response = await exchange.process()
        await self._pause(action.seconds)
        return response

    async def _drop_after(self, action: f.DropAfter, exchange: Exchange) -> web.StreamResponse:
        await exchange.process()
        return _cut_off(exchange.request, reset=action.reset)

    async def _commit_late(self, action: f.CommitLate, exchange: Exchange) -> web.StreamResponse:
        await hold_body(exchange.request)
        task = asyncio.get_running_loop().create_task(self._process_late(action, exchange), name="emulator-late-commit")
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return _cut_off(exchange.request, reset=action.reset)

    async def _process_late(self, action: f.CommitLate, exchange: Exchange) -> None:
        if await self._pause(action.seconds):
            response = await exchange.process()
            await self._sweep()
            _log.info("late_commit operation=%s status=%d", exchange.call.operation, response.status)

    async def _duplicate(self, action: f.Duplicate, exchange: Exchange) -> web.StreamResponse:
        await hold_body(exchange.request)
        first = await exchange.process()
        last = await exchange.process()
        return first if action.answer == "first" else last

    async def _expire_tokens(self, _action: f.ExpireTokens, exchange: Exchange) -> web.StreamResponse:
        self._service.authenticator.expire_tokens()
        return await exchange.process()

    async def _vanish(self, action: f.Vanish, exchange: Exchange) -> web.StreamResponse:
        job_id = exchange.call.job_id or ""
        if action.when == "before":
            self._service.vanish(job_id, runs=action.runs)
            return await exchange.process()
        response = await exchange.process()
        self._service.vanish(job_id, runs=action.runs)
        return response

    # Changed responses

    async def _truncated(self, _action: f.Truncated, exchange: Exchange) -> web.StreamResponse:
        whole = await exchange.process()
        body = _body(whole) or _STAND_IN_BODY
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(body)
        await response.prepare(exchange.request)
        await response.write(body[: len(body) // 2])
        _cut_off(exchange.request, reset=False)
        return response

    async def _malformed(self, action: f.Malformed, exchange: Exchange) -> web.StreamResponse:
        return _with_body(await exchange.process(), action.body.encode())

    async def _empty(self, _action: f.Empty, exchange: Exchange) -> web.StreamResponse:
        return _with_body(await exchange.process(), b"")

    async def _stale_status(self, action: f.StaleStatus, exchange: Exchange) -> web.StreamResponse:
        response = await exchange.process()
        if response.status != web.HTTPOk.status_code:
            return response
        shown = json.loads(_body(response))
        for job in shown if isinstance(shown, list) else [shown]:
            job["status"] = action.status or self._service.jobs[job["id"]].previous_status
        return _with_body(response, json.dumps(shown).encode())


def _created_table(body: bytes) -> str | None:
    try:
        table = json.loads(body).get("targetName")
    except (ValueError, AttributeError):
        return None
    return table if isinstance(table, str) else None


def _body(response: web.Response) -> bytes:
    return bytes(response.body) if isinstance(response.body, (bytes, bytearray)) else b""


def _with_body(response: web.Response, body: bytes) -> web.Response:
    """Return the same response with another body."""
    headers = {name: value for name, value in response.headers.items() if name != hdrs.CONTENT_LENGTH}
    return web.Response(status=response.status, headers=headers, body=body)


def _cut_off(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection; the returned response cannot be sent anymore."""
    transport = request.transport
    if transport is not None and reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    elif transport is not None:
        transport.close()
    return web.Response()
