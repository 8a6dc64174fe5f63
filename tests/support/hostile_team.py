"""A team between the command and the emulator whose responses are hostile: texts in jobs, chunks and errors that attack a terminal."""

import contextlib
import json
import urllib.parse

from aiohttp import web
from support.hostile import HOSTILE, UNPAIRED
from support.proxies import Proxy, forwarded


class HostileTeam(Proxy):
    """The ids of jobs that it names begin with `HOSTILE`; their logs and names are hostile, too.

    Attributes:
        failing: Called with method and path of each request; returns a status and a body to respond with instead, or None.
    """

    def __init__(self, url):
        super().__init__()
        self._upstream = url
        self.failing = lambda _method, _path: None

    async def respond(self, request):
        path = urllib.parse.quote(urllib.parse.unquote(request.url.raw_path).replace(HOSTILE, ""))
        body = await request.read()
        if (failure := self.failing(request.method, path)) is not None:
            status, text = failure
            return web.Response(status=status, body=text, content_type="application/json")
        async with self.client.request(
            request.method,
            self._upstream + path,
            params=request.query,
            data=body,
            headers=forwarded(request.headers),
            allow_redirects=False,
        ) as response:
            content = await response.read()
            with contextlib.suppress(ValueError):
                content = json.dumps(_made_hostile(json.loads(content))).encode()
            return web.Response(status=response.status, body=content, headers=forwarded(response.headers))


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
