"""Request bodies: read from the wire as they come, thrown away, or held so that a request can be processed later."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from pushengine.emulator.refusals import Refusal

_HELD = web.RequestKey("held", bytes)
_CONTINUED = web.RequestKey("continued", bool)


async def expect_nothing(_request: web.Request) -> None:
    """Leave `Expect: 100-continue` to the moment the body is wanted, so that a refusal comes instead of it."""


async def send_continue(request: web.Request) -> None:
    """Say once that the body is wanted, if the caller waits for that."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and _CONTINUED not in request:
        request[_CONTINUED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the response proper has not begun


async def iter_body(request: web.Request) -> AsyncIterator[bytes]:
    """The pieces of the body."""
    if _HELD in request:
        yield request[_HELD]
        return
    while data := await request.content.readany():
        yield data


async def read_body(request: web.Request) -> bytes:
    """The whole body."""
    await send_continue(request)
    return request[_HELD] if _HELD in request else await request.read()


async def read_form(request: web.Request) -> dict[str, str]:
    """The fields of a form; of a held body, only those of an urlencoded one."""
    await send_continue(request)
    try:
        if _HELD in request:
            return dict(parse_qsl(request[_HELD].decode(), keep_blank_values=True))
        fields = await request.post()
    except ValueError as exc:
        raise Refusal(400, {"error": "invalid_request", "error_description": "the form is malformed"}) from exc
    return {name: value for name, value in fields.items() if isinstance(value, str)}


async def hold_body(request: web.Request) -> bytes:
    """Keep the whole body in memory: from now on it can be read any number of times, with or without a connection."""
    await send_continue(request)
    request[_HELD] = b"".join([piece async for piece in iter_body(request)])
    return request[_HELD]


async def drain_body(request: web.Request, up_to_bytes: int | None) -> None:
    """Read the body, or this much of it, and throw it away."""
    if up_to_bytes == 0:
        return
    await send_continue(request)
    drained_bytes = 0
    async for piece in iter_body(request):
        drained_bytes += len(piece)
        if up_to_bytes is not None and drained_bytes >= up_to_bytes:
            return


def response_of(refused: Refusal) -> web.Response:
    """The response that says it."""
    if refused.body is None:
        return web.Response(status=refused.status, headers=refused.headers)
    if isinstance(refused.body, str):
        return web.Response(status=refused.status, headers=refused.headers, text=refused.body)
    return web.json_response(dict(refused.body), status=refused.status, headers=refused.headers)
