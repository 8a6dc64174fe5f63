"""Request bodies, streamed, discarded, or held in memory for later processing; and the responses for refusals."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from pushengine.emulator.refusals import Refusal

_HELD = web.RequestKey("held", bytes)
_CONTINUED = web.RequestKey("continued", bool)


async def postpone_continue(_request: web.Request) -> None:
    """Postpone `100 Continue` until the body is needed, so that a refusal can be sent instead."""


async def send_continue(request: web.Request) -> None:
    """Send `100 Continue`, once per request, if the caller waits for it."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and _CONTINUED not in request:
        request[_CONTINUED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp takes any other value to mean that the final response has started


async def iter_body(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the pieces of the body; a held body is one piece."""
    if _HELD in request:
        yield request[_HELD]
        return
    while data := await request.content.readany():
        yield data


async def read_body(request: web.Request) -> bytes:
    """Return the whole body."""
    await send_continue(request)
    return request[_HELD] if _HELD in request else await request.read()


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the text fields of a form; a held body is always read as URL-encoded.

    Raises:
        Refusal: 400 if the form is malformed.
    """
    await send_continue(request)
    try:
        if _HELD in request:
            return dict(parse_qsl(request[_HELD].decode(), keep_blank_values=True))
        fields = await request.post()
    except ValueError as exc:
        raise Refusal(400, {"error": "invalid_request", "error_description": "the form is malformed"}) from exc
    return {name: value for name, value in fields.items() if isinstance(value, str)}


async def hold_body(request: web.Request) -> bytes:
    """Read the whole body into memory; it can then be read any number of times, even without a connection."""
    await send_continue(request)
    request[_HELD] = b"".join([piece async for piece in iter_body(request)])
    return request[_HELD]


async def drain_body(request: web.Request, up_to_bytes: int | None) -> None:
    """Read and discard the body; with `up_to_bytes`, stop once this number of bytes was read."""
    if up_to_bytes == 0:
        return
    await send_continue(request)
    drained_bytes = 0
    async for piece in iter_body(request):
        drained_bytes += len(piece)
        if up_to_bytes is not None and drained_bytes >= up_to_bytes:
            return


def response_of(refused: Refusal) -> web.Response:
    """Return the response for a refusal."""
    if refused.body is None:
        return web.Response(status=refused.status, headers=refused.headers)
    if isinstance(refused.body, str):
        return web.Response(status=refused.status, headers=refused.headers, text=refused.body)
    return web.json_response(dict(refused.body), status=refused.status, headers=refused.headers)
