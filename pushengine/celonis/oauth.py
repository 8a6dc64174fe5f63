"""The Authorization header: static keys, and access tokens that are refreshed before they expire."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from pushengine.celonis import wire
from pushengine.celonis.error_responses import parse_token_error, token_error_code
from pushengine.celonis.wire import parse_object, parse_seconds, raise_unusable
from pushengine.credentials import AppKey, Credentials, OAuthClient
from pushengine.errors import EngineClosedError, PushEngineError, UnexpectedResponseError
from pushengine.runtime.clock import Clock


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request with the client credentials grant.

    Attributes:
        form: Form fields of the body.
        authorization: Value of the Authorization header for client_secret_basic; None for client_secret_post.
    """

    form: Mapping[str, str] = dataclasses.field(repr=False)
    authorization: str | None = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenGrant:
    """An access token that the token endpoint granted.

    Attributes:
        access_token: The token.
        lifetime_seconds: Lifetime of the token, counted from the request.
        scope: Granted scope, or "" if the response does not report it.
    """

    access_token: str = dataclasses.field(repr=False)
    lifetime_seconds: float
    scope: str


def build_token_request(credentials: OAuthClient, method: Literal["basic", "post"]) -> TokenRequest:
    """Build a client credentials request (RFC 6749, 4.4) with client_secret_basic or client_secret_post."""
    form = {"grant_type": "client_credentials"}
    if credentials.scope:
        form["scope"] = credentials.scope
    if method == "post":
        pair = {"client_id": credentials.client_id, "client_secret": credentials.client_secret.reveal()}
        return TokenRequest(form | pair, None)
    return TokenRequest(form, "Basic " + base64.b64encode(credentials.basic_pair.reveal().encode()).decode("ascii"))


def parse_token(body: bytes, *, operation: str, status: int = 200) -> TokenGrant:
    """Parse a successful response of the token endpoint.

    Raises:
        UnexpectedResponseError: The response holds no usable bearer token. The message never quotes the response.
    """
    raw = parse_object(body, operation=operation, status=status)
    token = raw.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise_unusable(operation, status, "it holds no usable access_token")
    if str(raw.get("token_type") or "Bearer").lower() != "bearer":
        raise_unusable(operation, status, "its token_type is not Bearer")
    lifetime = parse_seconds(raw.get("expires_in", 300))
    if lifetime is None or lifetime <= 0:
        raise_unusable(operation, status, "its expires_in is not a positive number")
    return TokenGrant(token, lifetime, str(raw.get("scope") or ""))


TokenFetch = Callable[[TokenRequest], Awaitable[wire.ApiResponse]]
"""Posts a token request to the token endpoint, in one attempt, and returns the response whatever its status."""

_OPERATION = "get an access token"
_MAX_MARGIN_SECONDS = 120.0
_MARGIN_SHARE = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    header: str = dataclasses.field(repr=False)
    scope: str
    refresh_at: float
    expires_at: float


class TokenSource:
    """Provides the value of the Authorization header.

    Args:
        credentials: Credentials to push with.
        fetch: Posts a request to the token endpoint; used for OAuth clients only.
        clock: Clock for token lifetimes.
    """

    def __init__(self, credentials: Credentials, fetch: TokenFetch, clock: Clock) -> None:
        self._credentials = credentials
        self._fetch = fetch
        self._clock = clock
        self._token: _Token | None = None
        self._refresh: asyncio.Task[_Token] | None = None
        self._method: Literal["basic", "post"] | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        state = "no token" if self._token is None else "token held"
        return f"<TokenSource {type(self._credentials).__name__} {state}>"

    @property
    def is_refreshable(self) -> bool:
        """Whether `authorization` can return another value after `invalidate`. Static keys never change."""
        return isinstance(self._credentials, OAuthClient)

    @property
    def scope(self) -> str | None:
        """Scope of the current token; None if there is no token or the platform did not report its scope."""
        return (self._token and self._token.scope) or None

    def secrets(self) -> tuple[str, ...]:
        """Return the values that no message may contain: the secrets of the credentials and the current token."""
        secrets = tuple(secret.reveal() for secret in self._credentials.secrets)
        return secrets if self._token is None else (*secrets, self._token.header.partition(" ")[2])

    async def authorization(self) -> str:
        """Return the header value to send now.

        Raises:
            AuthenticationError: The token endpoint refuses the client; the hint says why.
            PushEngineError: The token endpoint cannot be reached or fails. A transient failure is raised only if no valid token is left.
            EngineClosedError: A token is needed after `aclose()`, or `aclose()` cancelled its refresh.
        """
        if not isinstance(self._credentials, OAuthClient):
            scheme = "AppKey" if isinstance(self._credentials, AppKey) else "Bearer"
            return f"{scheme} {self._credentials.key.reveal()}"
        if self._token is not None and self._clock.monotonic() < self._token.refresh_at:
            return self._token.header
        try:
            return (await self._refreshed(self._credentials)).header
        except PushEngineError as error:
            token = self._token
            if error.disposition != "transient" or token is None or self._clock.monotonic() >= token.expires_at:
                raise
            return token.header  # still valid for a while; the next call tries to refresh again

    def invalidate(self, header_value: str) -> None:
        """Drop the token after a 401, unless it has been replaced in the meantime."""
        if self._token is not None and self._token.header == header_value:
            self._token = None

    async def aclose(self) -> None:
        """Cancel a running refresh and drop the token."""
        self._is_closed = True
        self._token = None
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])

    async def _refreshed(self, client: OAuthClient) -> _Token:
        """Join the running refresh, or start one."""
        if self._is_closed:
            raise EngineClosedError("the client is closed")
        if self._refresh is None:
            self._refresh = asyncio.create_task(self._refresh_once(client), name="pushengine-token-refresh")
            self._refresh.add_done_callback(self._end_refresh)
        # All callers share one refresh, which runs as its own task: cancelling one caller must not cancel it for the others.
        refresh = self._refresh
        try:
            return await asyncio.shield(refresh)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if refresh.cancelled() and not (task and task.cancelling()):
                raise EngineClosedError("the client was closed while it was getting an access token") from None
            raise

    def _end_refresh(self, refresh: asyncio.Task[_Token]) -> None:
        self._refresh = None
        # Callers get the exception from the task. Reading it here keeps asyncio from warning that it was never retrieved.
        if not refresh.cancelled() and refresh.exception() is None:
            self._token = refresh.result()

    async def _refresh_once(self, client: OAuthClient) -> _Token:
        requested_at = self._clock.monotonic()
        response = await self._grant(client)
        if not _is_success(response):
            raise parse_token_error(
                response, operation=_OPERATION, scope=client.scope, now=self._clock.now(), secrets=self.secrets()
            )
        try:
            grant = parse_token(response.body, operation=_OPERATION, status=response.status)
        except UnexpectedResponseError as error:
            # The call that needs the token has not been sent, so a retry is safe; a login page may be gone by then.
            raise error.replace(disposition="transient") from error.__cause__
        margin = min(_MAX_MARGIN_SECONDS, _MARGIN_SHARE * grant.lifetime_seconds)
        expires_at = requested_at + grant.lifetime_seconds
        return _Token(f"Bearer {grant.access_token}", grant.scope, expires_at - margin, expires_at)

    async def _grant(self, client: OAuthClient) -> wire.ApiResponse:
        """Request a token with the client's method. `auto` tries basic, then post, and remembers which one worked."""
        method = self._method or ("basic" if client.method == "auto" else client.method)
        response = await self._fetch(build_token_request(client, method))
        if client.method == "auto" and self._method is None and token_error_code(response) == "invalid_client":
            method = "post"
            response = await self._fetch(build_token_request(client, method))
        if _is_success(response):
            self._method = method
        return response


def _is_success(response: wire.ApiResponse) -> bool:
    return 200 <= response.status < 300  # noqa: PLR2004 - HTTP status class
