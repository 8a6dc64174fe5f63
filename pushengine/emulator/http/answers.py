"""Refusals as HTTP responses."""

from aiohttp import web

from pushengine.emulator.refusals import Refusal


def answer_of(refused: Refusal) -> web.Response:
    """The response that says it."""
    if refused.body is None:
        return web.Response(status=refused.status, headers=refused.headers)
    if isinstance(refused.body, str):
        return web.Response(status=refused.status, headers=refused.headers, text=refused.body)
    return web.json_response(dict(refused.body), status=refused.status, headers=refused.headers)
