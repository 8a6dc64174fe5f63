"""Checks what a push needs: URL, TLS, credentials, scope and pool permission, each with a remedy.

Up to three calls are made, none of which changes anything. The five result lines are derived from their responses:

    token   POST to the token endpoint   OAuth clients only
    team    GET /api/cloud/team          is it a team, and are the credentials valid?
    jobs    GET the pool's push jobs     may the credentials push into the pool?

Any HTTP response proves that the address and TLS work. An OAuth client that `team` refuses may still be able to push, so it is judged by
`token` and `jobs` only.
"""

from __future__ import annotations

import dataclasses
import errno
import ssl
import urllib.parse
from collections.abc import Awaitable
from typing import Any

from pushengine.celonis.data_push import DataPushClient
from pushengine.credentials import AppKey, Credentials, OAuthClient
from pushengine.errors import (
    ApiError,
    AuthenticationError,
    ConfigError,
    EngineClosedError,
    NotFoundError,
    PermissionDeniedError,
    PushEngineError,
    TransportError,
    iter_causes,
)
from pushengine.model import CheckResult

CHECKS = ("URL", "TLS", "credentials", "scope", "pool permission")
_SCOPE_CODES = ("invalid_scope", "access_denied")
_PUSH_SCOPES = frozenset({"integration.data-pools:data_push", "integration.data-pools"})
_SETTINGS = {
    "PUSHENGINE_URL": "URL",
    "url": "URL",
    "ca_file": "TLS",
    "engine.ca_file": "TLS",
    "auth": "credentials",
    "token_url": "credentials",
    "PUSHENGINE_POOL_ID": "pool permission",
    "pool_id": "pool permission",
}
_REFUSED_REMEDY = (
    "the connection was refused: check the host and port of the URL, and whether a firewall or proxy is in between"
)
_TLS_REMEDY = "this port may not speak TLS: check the port of the URL, and any proxy in between"


@dataclasses.dataclass(frozen=True, slots=True)
class _CheckResponse:
    """The outcome of one call: the value that it returned, or the error that it raised."""

    value: Any = None
    error: PushEngineError | None = None

    @property
    def was_answered(self) -> bool:
        """Whether the server responded, even if with an error."""
        return self.error is None or isinstance(self.error, ApiError)


@dataclasses.dataclass(frozen=True, slots=True)
class _Probes:
    """The outcomes of the calls; None means that a call was not made."""

    url: urllib.parse.SplitResult
    team_name: str
    credentials: Credentials
    token: _CheckResponse | None = None
    team: _CheckResponse | None = None
    jobs: _CheckResponse | None = None

    def team_outcomes(self) -> list[_CheckResponse]:
        """Return the outcomes of the calls to the team's own address, in the order of the calls."""
        token_url = self.credentials.token_url if isinstance(self.credentials, OAuthClient) else None
        is_elsewhere = token_url and urllib.parse.urlsplit(token_url).netloc != self.url.netloc
        made = (None if is_elsewhere else self.token, self.team, self.jobs)
        return [response for response in made if response is not None]


async def run_checks(client: DataPushClient, url: str, credentials: Credentials) -> list[CheckResult]:
    """Make the calls and return the lines of `pushengine check`; changes nothing on the platform.

    Args:
        client: Client for the pool in question.
        url: Address of the team that the client was created with.
        credentials: Credentials that the client was created with.
    """
    probes = _Probes(urllib.parse.urlsplit(url.strip()), client.team, credentials)
    if isinstance(credentials, OAuthClient):
        probes = dataclasses.replace(probes, token=await _call(client.probe_token()))
    if probes.token is None or probes.token.error is None:
        probes = dataclasses.replace(probes, team=await _call(client.check_team()))
    if probes.team is not None and probes.team.was_answered:
        probes = dataclasses.replace(probes, jobs=await _call(client.list_jobs()))
    return [_check_url(probes), _check_tls(probes), *_check_access(probes)]


def results_for_bad_setting(error: ConfigError) -> list[CheckResult] | None:
    """Return the lines for a missing or invalid setting that prevents all calls; None if the error is about any other setting."""
    name = _SETTINGS.get(error.key or "")
    return (name and [_failed(name, error) if check == name else _unchecked(check) for check in CHECKS]) or None


async def _call(call: Awaitable[Any]) -> _CheckResponse:
    try:
        return _CheckResponse(await call)
    except EngineClosedError:
        raise
    except PushEngineError as error:
        return _CheckResponse(error=error)


# ------------------------------------------------------------------------------------------------------------------- lines


def _check_url(probes: _Probes) -> CheckResult:
    responses = probes.team_outcomes()
    if any(response.was_answered for response in responses):
        return _passed("URL", f"{probes.team_name} responds")
    if not responses:
        return _unchecked("URL")
    error = responses[0].error
    if _tls_error(error) is not None:
        return _passed("URL", f"{probes.team_name} accepts connections")
    is_closed = any(getattr(link, "errno", None) == errno.ECONNREFUSED for link in iter_causes(error))
    return _failed("URL", error, remedy=_REFUSED_REMEDY if is_closed else None)


def _check_tls(probes: _Probes) -> CheckResult:
    if probes.url.scheme == "http":
        return _passed("TLS", "not used (loopback)")
    responses = probes.team_outcomes()
    if any(response.was_answered for response in responses):
        return _passed("TLS", "the certificate is verified")
    broken = _tls_error(responses[0].error) if responses else None
    if broken is None:
        return _unchecked("TLS")
    is_certificate = isinstance(broken, ssl.SSLCertVerificationError)
    return _failed("TLS", responses[0].error, remedy=None if is_certificate else _TLS_REMEDY)


def _check_access(probes: _Probes) -> list[CheckResult]:
    """Return the last three lines. Those after a failed one are not checked."""
    who = probes.credentials
    credentials = _check_client(who, probes) if isinstance(who, OAuthClient) else _check_key(who, probes)
    if credentials.is_ok is False:
        return [credentials, _unchecked("scope"), _unchecked("pool permission")]
    scope = _check_scope(who, probes) if isinstance(who, OAuthClient) else _passed("scope", _no_scope(who))
    pool = _unchecked("pool permission") if scope.is_ok is False else _check_pool(who, probes)
    return [credentials, scope, pool]


def _check_client(who: OAuthClient, probes: _Probes) -> CheckResult:
    refused = probes.token.error if probes.token else None
    if isinstance(refused, ApiError):
        if refused.code in _SCOPE_CODES:
            return _passed("credentials", f"OAuth client {who.client_id} is accepted")
        return _failed("credentials", refused)
    if refused is not None:
        return _unchecked("credentials") if probes.team_outcomes() else _failed("credentials", refused)
    if probes.jobs is not None and isinstance(probes.jobs.error, AuthenticationError):
        return _failed(
            "credentials",
            probes.jobs.error,
            remedy="the team refuses the token that was granted: check that the token endpoint (token_url) belongs to this team",
        )
    return _passed("credentials", f"OAuth client {who.client_id} was granted an access token")


def _check_key(who: Credentials, probes: _Probes) -> CheckResult:
    kind = "application key" if isinstance(who, AppKey) else "user API key"
    errors = [
        response.error for response in (probes.jobs, probes.team) if response is not None and response.was_answered
    ]
    if not errors:
        return _unchecked("credentials")
    refused = next((error for error in errors if isinstance(error, AuthenticationError)), None)
    if refused is not None and errors[0] is not None:
        return _failed("credentials", refused)
    if any(error is None or isinstance(error, PermissionDeniedError) for error in errors):
        return _passed("credentials", f"the {kind} is accepted")
    return _unchecked("credentials", "the responses are inconclusive")


def _no_scope(who: Credentials) -> str:
    if isinstance(who, AppKey):
        return "not applicable: the key has the permissions that it was granted"
    return "not applicable: the key has its owner's permissions"


def _check_scope(who: OAuthClient, probes: _Probes) -> CheckResult:
    if probes.token is None or not probes.token.was_answered:
        return _unchecked("scope")
    if probes.token.error is not None:
        return _failed("scope", probes.token.error)
    granted = set((probes.token.value or who.scope).split())
    granted_scopes = " ".join(sorted(granted)) or "not reported"
    is_denied = probes.jobs is not None and isinstance(probes.jobs.error, PermissionDeniedError)
    if set(who.scope.split()) <= granted and (granted & _PUSH_SCOPES or not is_denied):
        return _passed("scope", f"granted: {granted_scopes}")
    wanted = who.scope if not set(who.scope.split()) <= granted else " or ".join(sorted(_PUSH_SCOPES))
    missing_scope = AuthenticationError(
        f"granted: {granted_scopes}; needed: {wanted}",
        status=200,
        code="invalid_scope",
        hint="grant the OAuth client that scope in the team's settings, and request it: [auth] scope in the config file",
    )
    return _failed("scope", missing_scope)


def _check_pool(who: Credentials, probes: _Probes) -> CheckResult:
    if probes.jobs is None:
        return _unchecked("pool permission")
    error = probes.jobs.error
    if error is None:
        return _passed("pool permission", "push jobs of the pool can be listed")
    remedy = None
    if isinstance(error, PermissionDeniedError):
        remedy = f"in the permissions of this data pool, grant 'Data Push API' to {_holder(who)}"
        if error.code is None:
            remedy += "; a refusal without a reason may also mean that the team's API is disabled"
    elif isinstance(error, NotFoundError):
        remedy = (
            "the team has no such data pool, or hides it from these credentials: compare pool_id with the last part of the pool's"
            " address in the browser; if it is right, try the other base_path in [engine] of the config file"
        )
    return _failed("pool permission", error, remedy=remedy)


def _holder(who: Credentials) -> str:
    if isinstance(who, OAuthClient):
        return f"the OAuth client {who.client_id}"
    return "the application key" if isinstance(who, AppKey) else "the user that the API key belongs to"


def _tls_error(error: PushEngineError | None) -> ssl.SSLError | None:
    """Return the failed TLS handshake behind an error, or None. A failed handshake means that the TCP connection was established."""
    if not isinstance(error, TransportError):
        return None
    return next((link for link in iter_causes(error) if isinstance(link, ssl.SSLError)), None)


def _passed(name: str, detail: str) -> CheckResult:
    return CheckResult(name, is_ok=True, detail=detail)


def _unchecked(name: str, reason: str = "") -> CheckResult:
    return CheckResult(name, is_ok=None, detail="not checked" + (f": {reason}" if reason else ""))


def _failed(name: str, error: PushEngineError | None, *, remedy: str | None = None) -> CheckResult:
    assert error is not None  # noqa: S101 - a failed line always has an error
    return CheckResult(name, is_ok=False, detail=error.message, remedy=remedy or error.hint, error=error)
