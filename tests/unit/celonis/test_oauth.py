from __future__ import annotations

import asyncio
import base64
import gc
import json

import pytest

from pushengine import errors
from pushengine.celonis.oauth import TokenSource
from pushengine.celonis.wire import ApiResponse
from pushengine.credentials import AppKey, OAuthClient, UserApiKey

CLIENT = OAuthClient("client", "the-secret", scope="some.scope")


class ManualClock:
    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds


class Endpoint:
    """A fake token endpoint: it records requests, can hold them, and returns listed responses first, then fresh tokens."""

    def __init__(self, *responses, lifetime=899):
        self.requests = []
        self.responses = list(responses)
        self.lifetime = lifetime
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request):
        self.requests.append(request)
        await self.gate.wait()
        if self.responses:
            response = self.responses.pop(0)
            if isinstance(response, Exception):
                raise response
            return response
        body = {"access_token": f"token-{len(self.requests)}", "expires_in": self.lifetime, "scope": "some.scope"}
        return ApiResponse(200, {}, json.dumps(body).encode())


def refusal(status, code):
    return ApiResponse(status, {}, json.dumps({"error": code}).encode())


@pytest.mark.parametrize(("credentials", "header"), [(UserApiKey("k"), "Bearer k"), (AppKey("k"), "AppKey k")])
async def test_a_static_key_is_sent_with_its_scheme_and_needs_no_endpoint(credentials, header):
    endpoint = Endpoint()
    tokens = TokenSource(credentials, endpoint, ManualClock())
    assert await tokens.authorization() == header
    assert not tokens.is_refreshable
    assert tokens.secrets() == ("k",)
    assert not endpoint.requests
    await tokens.aclose()


async def test_a_token_is_kept_until_shortly_before_it_expires():
    clock, endpoint = ManualClock(), Endpoint()
    tokens = TokenSource(CLIENT, endpoint, clock)
    assert tokens.scope is None
    assert await tokens.authorization() == "Bearer token-1"
    assert tokens.scope == "some.scope"
    clock.time += 899 - 120 - 1
    assert await tokens.authorization() == "Bearer token-1"
    clock.time += 2
    assert await tokens.authorization() == "Bearer token-2"


async def test_a_short_lived_token_is_refreshed_after_a_share_of_its_lifetime():
    clock = ManualClock()
    tokens = TokenSource(CLIENT, Endpoint(lifetime=10), clock)
    await tokens.authorization()
    clock.time += 7.9
    assert await tokens.authorization() == "Bearer token-1"
    clock.time += 0.2
    assert await tokens.authorization() == "Bearer token-2"


async def test_the_lifetime_of_a_token_starts_when_it_is_requested():
    clock, endpoint = ManualClock(), Endpoint(lifetime=100)
    tokens = TokenSource(CLIENT, endpoint, clock)
    endpoint.gate.clear()
    waiting = asyncio.create_task(tokens.authorization())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    clock.time += 81
    endpoint.gate.set()
    await waiting
    await tokens.authorization()
    assert len(endpoint.requests) == 2


async def test_concurrent_callers_share_one_refresh():
    endpoint = Endpoint()
    endpoint.gate.clear()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    callers = [asyncio.create_task(tokens.authorization()) for _ in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    endpoint.gate.set()
    assert set(await asyncio.gather(*callers)) == {"Bearer token-1"}
    assert len(endpoint.requests) == 1


async def test_a_cancelled_caller_does_not_cancel_the_refresh_for_the_others():
    endpoint = Endpoint()
    endpoint.gate.clear()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    first, second = (asyncio.create_task(tokens.authorization()) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    endpoint.gate.set()
    assert await second == "Bearer token-1"
    assert first.cancelled()


async def test_a_refresh_that_fails_after_all_callers_have_gone_is_silent(caplog):
    endpoint = Endpoint(errors.TransportError("lost"))
    endpoint.gate.clear()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    caller = asyncio.create_task(tokens.authorization())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait([caller])
    endpoint.gate.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await tokens.authorization() == "Bearer token-2"
    gc.collect()
    assert not caplog.records


async def test_invalidate_drops_only_the_refused_token():
    endpoint = Endpoint()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    old = await tokens.authorization()
    tokens.invalidate(old)
    new = await tokens.authorization()
    assert new != old
    tokens.invalidate(old)
    assert await tokens.authorization() == new
    assert len(endpoint.requests) == 2


async def test_a_token_that_is_still_valid_is_used_while_the_endpoint_is_unavailable():
    clock, endpoint = ManualClock(), Endpoint()
    tokens = TokenSource(CLIENT, endpoint, clock)
    await tokens.authorization()
    endpoint.responses = [errors.TransportError("down"), ApiResponse(503, {}, b""), errors.TransportError("down")]
    clock.time += 800
    assert await tokens.authorization() == "Bearer token-1"
    assert await tokens.authorization() == "Bearer token-1"
    clock.time += 100
    with pytest.raises(errors.TransportError):
        await tokens.authorization()


@pytest.mark.parametrize("status", [400, 401])
async def test_auto_tries_basic_then_post_and_remembers_which_one_works(status):
    clock, endpoint = ManualClock(), Endpoint(refusal(status, "invalid_client"))
    tokens = TokenSource(CLIENT, endpoint, clock)
    await tokens.authorization()
    clock.time += 1000
    await tokens.authorization()
    assert [request.authorization is not None for request in endpoint.requests] == [True, False, False]
    assert endpoint.requests[1].form["client_secret"] == "the-secret"


@pytest.mark.parametrize("method", ["basic", "post"])
async def test_a_configured_method_is_the_only_one_tried(method):
    endpoint = Endpoint(refusal(401, "invalid_client"))
    tokens = TokenSource(OAuthClient("c", "the-secret", method=method), endpoint, ManualClock())
    with pytest.raises(errors.AuthenticationError) as caught:
        await tokens.authorization()
    assert len(endpoint.requests) == 1
    assert (endpoint.requests[0].authorization is not None) is (method == "basic")
    assert "client secret" in caught.value.hint


async def test_a_scope_that_the_client_does_not_have_is_named():
    tokens = TokenSource(CLIENT, Endpoint(refusal(400, "invalid_scope")), ManualClock())
    with pytest.raises(errors.AuthenticationError) as caught:
        await tokens.authorization()
    assert "'some.scope'" in caught.value.hint
    assert caught.value.code == "invalid_scope"


async def test_neither_token_nor_secret_is_shown():
    endpoint = Endpoint()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    await tokens.authorization()
    shown = repr(tokens) + repr(vars(tokens))
    endpoint.responses = [
        ApiResponse(401, {}, b"the-secret is wrong, and so is token-1 and " + base64.b64encode(b"the-secret"))
    ] * 2
    tokens.invalidate("Bearer token-1")
    with pytest.raises(errors.AuthenticationError) as caught:
        await tokens.authorization()
    shown += str(caught.value) + repr(caught.value)
    assert "the-secret" not in shown
    assert base64.b64encode(b"the-secret").decode() not in shown


async def test_closing_ends_a_running_refresh():
    endpoint = Endpoint()
    endpoint.gate.clear()
    tokens = TokenSource(CLIENT, endpoint, ManualClock())
    caller = asyncio.create_task(tokens.authorization())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await tokens.aclose()
    with pytest.raises(errors.EngineClosedError):
        await caller
    with pytest.raises(errors.EngineClosedError):
        await tokens.authorization()
