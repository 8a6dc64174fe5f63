"""A team between the command and the emulator whose responses are hostile: texts in jobs, chunks and errors that attack a terminal."""

import asyncio
import contextlib
import json
import threading
import urllib.parse

import aiohttp
from aiohttp import web
from support.hostile import HOSTILE, UNPAIRED

_SKIPPED = {"content-length", "transfer-encoding", "content-encoding", "connection", "date", "server", "host"}


class HostileTeam:
    """A proxy in a thread of its own. The ids of jobs that it names begin with `HOSTILE`; their logs and names are hostile, too.

    Attributes:
        failing: Called with method and path of each request; returns a status and a body to respond with instead, or None.
    """

    def __init__(self, url):
        self._upstream = url
        self.failing = lambda _method, _path: None
        self.url = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self):
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(aiohttp.ClientSession())
            runner = web.ServerRunner(web.Server(self._respond))  # routes would not match line breaks
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()

    async def _respond(self, request):
        path = urllib.parse.quote(urllib.parse.unquote(request.url.raw_path).replace(HOSTILE, ""))
        body = await request.read()
        if (failure := self.failing(request.method, path)) is not None:
            status, text = failure
            return web.Response(status=status, body=text, content_type="application/json")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _SKIPPED}
        async with self._client.request(
            request.method,
            self._upstream + path,
            params=request.query,
            data=body,
            headers=headers,
            allow_redirects=False,
        ) as response:
            content = await response.read()
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _SKIPPED}
            with contextlib.suppress(ValueError):
                content = json.dumps(_made_hostile(json.loads(content))).encode()
            return web.Response(status=response.status, body=content, headers=kept)


def _made_hostile(value):
    if isinstance(value, list):
        return [_made_hostile(one) for one in value]
    if not isinstance(value, dict):
        return value
    changed = {name: _made_hostile(one) for name, one in value.items()}
    if "id" in value and "status" in value:
        changed |= {"id": HOSTILE + value["id"], "logs": [UNPAIRED, *(value.get("logs") or []), *[HOSTILE] * 100]}
        changed |= {name: f"{value[name]}{UNPAIRED}" for name in ("targetName", "type") if name in value}
    elif "checksum" in value:
        changed["id"] = f"{value.get('id')}{UNPAIRED}"
    return changed


def error_body():
    """Return the body of an error response whose every text is hostile."""
    names = ("message", "error", "error_description", "errorCode", "title", "frontendTranslationKey")
    return json.dumps(dict.fromkeys(names, UNPAIRED) | {"errors": [UNPAIRED]}).encode()
