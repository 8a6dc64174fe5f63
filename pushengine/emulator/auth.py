"""Authentication and authorization of callers: Authorization headers and the OAuth client-credentials grant."""

import base64
import binascii
import hmac
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote_plus

from pushengine.emulator.refusals import Refusal, gateway
from pushengine.emulator.settings import DATA_PUSH_SCOPES, READ_SCOPES, ClientAuthMethod, EmulatorSettings

_HEADER = re.compile(r"(?P<scheme>bearer|appkey) +(?P<credential>[\x21-\x7e]+)", re.IGNORECASE)
_SCOPE_SPELLINGS = dict.fromkeys(
    ("integration.data-pools:data-push", "integration.data-pools:datapush"), "integration.data-pools:data_push"
)
_HEADER_HINT = "Malformed Authorization header. Use 'Authorization: Bearer <token>' or 'Authorization: AppKey <key>'."


@dataclass(frozen=True)
class Principal:
    """An authenticated caller; `scopes` is None for a static key, which is not limited by scopes."""

    scopes: frozenset[str] | None = None


@dataclass(frozen=True)
class _Token:
    scopes: frozenset[str]
    expires_at: float


class Authenticator:
    """An issuer of access tokens, which also checks the credentials of requests."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._tokens: dict[str, _Token] = {}

    def authenticate(self, header: str | None) -> Principal:
        """Return the caller that an Authorization header identifies.

        Raises:
            Refusal: 401 if the header is missing or malformed, or if its credential is invalid or expired. For a
                malformed header, the body is a plain-text hint.
        """
        if header is None:
            raise _unauthorized()
        match = _HEADER.fullmatch(header)
        if match is None:
            raise Refusal(401, _HEADER_HINT)
        is_bearer = match["scheme"].lower() == "bearer"
        token = self._tokens.get(match["credential"])
        if token is not None:
            if not is_bearer or token.expires_at <= self._settings.now():
                raise _unauthorized()
            return Principal(token.scopes)
        self._check_static_key(match["credential"], is_bearer=is_bearer)
        return Principal()

    def expire_tokens(self) -> None:
        """Invalidate every token issued so far."""
        self._tokens = {text: replace(token, expires_at=-math.inf) for text, token in self._tokens.items()}

    def require_pool(self, principal: Principal, pool_id: str) -> None:
        """Check that the caller may push into the pool.

        Raises:
            Refusal: 403 if the token lacks the data push scope or the pool is forbidden, 404 if the pool does not exist.
        """
        if principal.scopes is not None and principal.scopes.isdisjoint(DATA_PUSH_SCOPES):
            raise gateway(403, "Forbidden", "The token lacks the data push scope.", "INSUFFICIENT_SCOPE")
        self._check_pool(pool_id)

    def require_read(self, principal: Principal, pool_id: str | None) -> None:
        """Check that the caller may read the pools of the team, or this pool.

        Raises:
            Refusal: 403 if the token lacks every scope to read or the pool is forbidden, 404 if the pool does not exist.
        """
        if principal.scopes is not None and principal.scopes.isdisjoint(READ_SCOPES):
            raise gateway(403, "Forbidden", "The token lacks the scope to read data pools.", "INSUFFICIENT_SCOPE")
        if pool_id is not None:
            self._check_pool(pool_id)

    def _check_pool(self, pool_id: str) -> None:
        if pool_id in self._settings.forbidden_pool_ids:
            raise gateway(403, "Forbidden", "No permission on this data pool.", "ADMIN_ACCESS_ERROR")
        if self._settings.pool_ids is not None and pool_id not in self._settings.pool_ids:
            raise gateway(404, "Not Found", "The data pool does not exist.", "NOT_FOUND")

    def grant(self, authorization: str | None, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Issue an access token and return the response body (RFC 6749, client credentials only).

        Raises:
            Refusal: 400 or 401 with an RFC 6749 error body.
        """
        self._check_client(authorization, parameters)
        grant_type = parameters.get("grant_type")
        if not grant_type:
            raise _oauth_error(400, "invalid_request", "grant_type is missing")
        if grant_type != "client_credentials":
            raise _oauth_error(400, "unsupported_grant_type", "only client_credentials is supported")
        scopes = parameters.get("scope", "").split() or list(self._settings.scopes)
        known = frozenset(map(self._known_scope, scopes))
        if not known <= set(map(self._known_scope, self._settings.scopes)):
            raise _oauth_error(400, "invalid_scope", "the client does not hold every requested scope")
        return self._issue(scopes, known)

    def _known_scope(self, scope: str) -> str:
        """Return the scope that a spelling of it means."""
        return _SCOPE_SPELLINGS.get(scope, scope) if self._settings.tolerates_scope_spellings else scope

    def _issue(self, scopes: list[str], known_scopes: frozenset[str]) -> dict[str, Any]:
        lifetime = self._settings.token_lifetime_seconds
        token = secrets.token_urlsafe(32)
        self._tokens[token] = _Token(known_scopes, self._settings.now() + lifetime)
        return {"access_token": token, "scope": " ".join(scopes), "token_type": "Bearer", "expires_in": lifetime}

    def _check_static_key(self, credential: str, *, is_bearer: bool) -> None:
        known = self._settings.credentials
        if known is None:
            return
        expected = known.api_key if is_bearer else known.app_key
        if expected is None or not _equal(credential, expected):
            raise _unauthorized()

    def _check_client(self, authorization: str | None, parameters: Mapping[str, str]) -> None:
        method, client_id, client_secret = _client_credentials(authorization, parameters)
        known = self._settings.credentials
        is_known = known is None or (
            known.client_id is not None
            and known.client_secret is not None
            and _equal(client_id, known.client_id)
            and _equal(client_secret, known.client_secret)
        )
        if not is_known or method not in self._settings.client_auth_methods:
            raise _invalid_client()


def _client_credentials(authorization: str | None, parameters: Mapping[str, str]) -> tuple[ClientAuthMethod, str, str]:
    """Return the authentication method, the client id and the client secret; exactly one method may be used."""
    in_parameters = "client_secret" in parameters
    if authorization is not None:
        if in_parameters:
            raise _oauth_error(400, "invalid_request", "more than one client authentication method")
        return "basic", *_basic_credentials(authorization)
    client_id, client_secret = parameters.get("client_id", ""), parameters.get("client_secret", "")
    if not client_id or not client_secret:
        raise _invalid_client()
    return "post", client_id, client_secret


def _basic_credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _invalid_client()
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise _invalid_client() from None
    client_id, colon, client_secret = decoded.partition(":")
    if not colon or not client_id or not client_secret:
        raise _invalid_client()
    return unquote_plus(client_id), unquote_plus(client_secret)


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())


def _unauthorized() -> Refusal:
    return Refusal(401, {"error": "Unauthorized"})


def _invalid_client() -> Refusal:
    refused = _oauth_error(401, "invalid_client", "client authentication failed")
    refused.headers["WWW-Authenticate"] = "Basic"
    return refused


def _oauth_error(status: int, error: str, description: str) -> Refusal:
    return Refusal(status, {"error": error, "error_description": description})
