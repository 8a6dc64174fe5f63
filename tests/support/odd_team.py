"""A team between the command and the emulator that gives odd answers to some calls, and knows what it accepted."""

import asyncio
import contextlib
import dataclasses
import email.utils
import json
import re

from aiohttp import web
from support.answers import SECRET, TOKEN
from support.proxies import Proxy, forwarded

_SILENT_SECONDS = 2.0
_JOB = r"/data-ingestion/api/v1/data-push/[^/]+/jobs/[^/]+"
_OPERATIONS = tuple(
    (method, re.compile(path), name)
    for method, path, name in (
        ("POST", r"/oauth2/token", "token"),
        ("GET", r"/api/cloud/team", "team"),
        ("GET", r"/integration/api/pools/[^/]+/columns", "columns"),
        ("GET", r"/integration/api/pools/[^/]+/tables", "tables"),
        ("POST", r"/data-ingestion/api/v1/data-push/[^/]+/jobs/", "create"),
        ("GET", r"/data-ingestion/api/v1/data-push/[^/]+/jobs/", "list"),
        ("GET", _JOB, "get"),
        ("POST", _JOB, "submit"),
        ("DELETE", _JOB, "delete"),
        ("GET", rf"{_JOB}/chunks", "chunks"),
        ("POST", rf"{_JOB}/chunks/(upserted|deleted)", "upload"),
    )
)
OPERATIONS = tuple(name for _, _, name in _OPERATIONS)


@dataclasses.dataclass
class Oddity:
    """An odd answer to some of the calls of an operation.

    Attributes:
        operation: One of `OPERATIONS`.
        first: Number of the first call that gets it, from 0.
        times: How many calls get it.
        answer: The bytes of the response; or what replaces values of the honest one: a path of keys and indexes, and the value.
        is_carried_out: Whether the emulator gets the request. Always true if the honest response is changed.
        stays: Whether the connection stays open after the bytes.
    """

    operation: str
    first: int
    times: int
    answer: bytes | tuple[tuple[str | int, ...], object]
    is_carried_out: bool = False
    stays: bool = False


class OddTeam(Proxy):
    """A proxy that handles one request at a time: nothing arrives late.

    Args:
        emulator: The emulator, which runs.
        now: The time that its `Date` headers show, seconds UTC.

    Attributes:
        calls: The operations that were called since `be()`, in order.
    """

    def __init__(self, emulator, now):
        super().__init__()
        self._emulator, self._now = emulator, now
        self._turn = asyncio.Lock()
        self._oddities, self.calls = (), []

    def be(self, *oddities):
        """Be odd in these ways from now on; honest without any."""
        self.calls = []
        self._oddities = oddities

    async def respond(self, request):
        path, query = request.url.raw_path, request.url.raw_query_string
        name = next(
            (one for method, to, one in _OPERATIONS if method == request.method and to.fullmatch(path)), "other"
        )
        body = await request.read()
        async with self._turn:
            count = self.calls.count(name)
            self.calls.append(name)
            odd = next(
                (one for one in self._oddities if one.operation == name and 0 <= count - one.first < one.times), None
            )
            raw = odd.answer if odd is not None and isinstance(odd.answer, bytes) else None
            if raw is None or odd.is_carried_out:
                response = await self._honest(request, f"{path}?{query}" if query else path, name, body)
                if odd is not None and raw is None:
                    return web.Response(
                        status=response.status, headers=response.headers, body=_changed(response.body, *odd.answer)
                    )
        return response if raw is None else await self._raw(request, raw, stays=odd.stays)

    async def _honest(self, request, target, name, body):
        date = {"Date": email.utils.formatdate(self._now(), usegmt=True)}
        if name == "token":
            grant = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 900}
            return web.json_response(grant, headers=date)
        headers = forwarded(request.headers) | {"Authorization": f"AppKey {SECRET}"}
        async with self.client.request(
            request.method, self._emulator.url + target, data=body, headers=headers, allow_redirects=False
        ) as response:
            if name == "submit":  # jobs must not take longer than sleeps, which take no time
                while any(job.status.is_at_work for job in tuple(self._emulator.service.jobs.values())):
                    await asyncio.sleep(0.001)
            return web.Response(
                status=response.status, body=await response.read(), headers=forwarded(response.headers) | date
            )

    @staticmethod
    async def _raw(request, raw, *, stays):
        transport = request.transport
        if transport is not None and not transport.is_closing():
            transport.write(raw)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SILENT_SECONDS if stays else 0):
                    while not transport.is_closing():
                        await asyncio.sleep(0.005)
            transport.close()
        return web.Response()


def _changed(body, path, value):
    """Return an honest body with another value at a path; unchanged if it has no such place."""
    try:
        whole = [json.loads(body)]
    except ValueError:
        return body
    place, last = whole, 0
    for one in path:
        inner = place[last]
        if isinstance(inner, list) and isinstance(one, str) and inner:
            inner, place, last = inner[0], inner, 0
        if (isinstance(inner, list) and isinstance(one, int) and -len(inner) <= one < len(inner)) or (
            isinstance(inner, dict) and isinstance(one, str)
        ):
            place, last = inner, one
    place[last] = value
    return json.dumps(whole[0]).encode()
