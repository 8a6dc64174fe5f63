"""Request bodies, streamed, discarded, or held in memory for later processing; and the responses for refusals."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from pushengine.emulator.chunks.multipart import MultipartError, read_fields
from pushengine.emulator.refusals import Refusal, gateway

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_FORM_BYTES = 1024 * 1024
STALL_TIMEOUT = web.AppKey("stall_timeout", float)
_MAX_FORM_FIELDS = 100

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


def refuse_encoded(request: web.Request) -> None:
    """Check that the body is not compressed: no client compresses its requests, and nothing says that the platform could read them.

    Raises:
        Refusal: 415 if the request has a `Content-Encoding`, whether it is true or not.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding not in {"", "identity"}:
        refused = gateway(415, "Unsupported Media Type", "Request bodies must not be encoded.", "UNSUPPORTED_ENCODING")
        refused.headers[hdrs.ACCEPT_ENCODING] = "identity"
        raise refused


async def iter_body(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the pieces of the body; a held body is one piece.

    Raises:
        Refusal: 408 if the client sends nothing more for the stall timeout.
    """
    if _HELD in request:
        yield request[_HELD]
        return
    while True:
        try:
            async with asyncio.timeout(request.app[STALL_TIMEOUT]):
                data = await request.content.readany()
        except TimeoutError:
            raise gateway(408, "Request Timeout", "The request body stopped arriving.", "REQUEST_TIMEOUT") from None
        if not data:
            return
        yield data


async def read_body(request: web.Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the whole body.

    Raises:
        Refusal: 413 if it is larger than `max_bytes`, 408 if the client stops sending.
    """
    await send_continue(request)
    pieces, size_bytes = [], 0
    async for piece in iter_body(request):
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise gateway(413, "Payload Too Large", f"The body is larger than {max_bytes} bytes.", "PAYLOAD_TOO_LARGE")
    return b"".join(pieces)


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the text fields of a form, URL-encoded or multipart; any other body is read as URL-encoded.

    Raises:
        Refusal: 400 if the form is malformed.
    """
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        if request.content_type == "multipart/form-data":
            return read_fields(request.headers[hdrs.CONTENT_TYPE], body)
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS))
    except (MultipartError, ValueError) as exc:
        raise Refusal(400, {"error": "invalid_request", "error_description": "the form is malformed"}) from exc


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
