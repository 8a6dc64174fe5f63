"""Translates every failure that aiohttp, the operating system or the platform reports into one of `pushengine.errors`.

What a failure proves (create, upload and submit are the calls that are not idempotent):

    no connection, TLS or proxy tunnel                       ConnectionFailedError: nothing was sent; a bad certificate, or no TLS
                                                             although the address has never responded: UntrustedServerError
    no response to GET or DELETE                             RequestTimeoutError or TransportError: safe to repeat
    no response to create, upload or submit                  OutcomeUnknownError: the call may have taken effect
    4xx, except 408 and 425                                  the request was refused
    5xx, 408, 425 or an unusable response to these three     disposition `outcome_unknown`
    3xx, 421, 501, HTML or another body not from the platform  proves nothing: handled like an unusable response (but see `_PROXY_STATUSES`)
    no access token                                          the call was not sent (`error.is_unsent`), whatever the token endpoint sent

Whether a failed call may have taken effect depends on both the call and the failure, so these functions take both. Messages quote
nothing that could contain a secret.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import urllib.parse
from collections.abc import Sequence

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from pushengine.celonis import error_responses, wire
from pushengine.celonis.upload import Upload
from pushengine.errors import (
    ConfigError,
    ConnectionFailedError,
    ConnectionPhase,
    Disposition,
    ForeignResponseError,
    OutcomeUnknownError,
    ProxyRefusedError,
    PushEngineError,
    RequestTimeoutError,
    TransportError,
    UnexpectedResponseError,
    UntrustedServerError,
)
from pushengine.model import JobId
from pushengine.redaction import clean_text, clip_text, redact

_MAX_RESPONSE_BYTES = 4 * 1024 * 1024
_CHECK_NETWORK = "check the network and the proxy"
_CHECK_PROXY = "check HTTPS_PROXY, its credentials, and NO_PROXY"
_NO_REASON = "it was reset or closed"
_CHECK_FIRST = "the request may have succeeded; pushengine checks before re-sending"

_PROXY_STATUSES = frozenset({401, 403, 407, 408, 413, 425, 429, *range(500, 600)})
"""Statuses that mean the same whether a proxy or the platform sends them. With any other, above all 404, an HTML page proves nothing."""

_NO_TLS = frozenset(
    {
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "NO_PROTOCOLS_AVAILABLE",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "UNKNOWN_PROTOCOL",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)
"""OpenSSL's reasons if a server responds to a TLS handshake with something else, or with a version that is too old."""
_TEMPORARY_STATUSES = frozenset({408, 425, 429})

_OTHER_SERVER_STATUSES = frozenset({421, 501})
"""Misdirected Request: the server does not serve this host. Not Implemented: it does not know the method (RFC 9110, 15.5.20 and 15.6.2)."""

TRANSPORT_EXCEPTIONS = (
    aiohttp.ClientError,
    HttpProcessingError,
    aiohttp.EofStream,
    aiohttp.WSMessageTypeError,
    OSError,
)
"""The exceptions that aiohttp, the OS and asyncio raise (`asyncio.TimeoutError` is an OSError)."""
_UNSENT = (
    aiohttp.ClientConnectorError,  # DNS, TCP, TLS, certificate, proxy
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)
_BAD_ADDRESS = (aiohttp.InvalidURL, aiohttp.RedirectClientError, aiohttp.NonHttpUrlClientError)
_BAD_RESPONSE = (aiohttp.ClientResponseError, HttpProcessingError, aiohttp.WSMessageTypeError)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """The call that is attempted, with all that is needed to interpret its failure.

    Attributes:
        operation: Description for messages: what is done, on which job, at which team.
        is_idempotent: Whether it is safe to make the call twice.
        job_id: Id of the job that is submitted; None for other calls.
        optional_response: None if a 2xx response must have a body. Otherwise the body may be empty or must be this: a `job`, a `chunk`, or
            `any` JSON that reports no error.
        max_response_bytes: A larger body is rejected if the call needs the body, and cut otherwise.
    """

    operation: str
    is_idempotent: bool
    job_id: JobId | None = None
    optional_response: wire.OptionalResponse | None = None
    max_response_bytes: int = _MAX_RESPONSE_BYTES

    @property
    def unclear_disposition(self) -> Disposition:
        """Disposition of a failure that leaves open whether the call took effect."""
        return "transient" if self.is_idempotent else "outcome_unknown"


def response_error(response: wire.ApiResponse, call: Call, *, now: float, secrets: Sequence[str]) -> PushEngineError:
    """Build the error for a response that is not 2xx. If its outcome is unclear, the call determines the disposition."""
    if response.status < 400:  # noqa: PLR2004 - HTTP status classes
        location = wire.header(response.headers, "location") or ""
        with contextlib.suppress(ValueError):
            location = urllib.parse.urlsplit(location).hostname or "the same host"
        where = clip_text(redact(clean_text(location), secrets), 200)
        what = f"is a redirect to {where}, which is not followed"
        return _foreign_response(response, call, what, hint="set the URL to the address of the team itself")
    if response.status in _OTHER_SERVER_STATUSES:
        what, hint = (
            "says that this is another server",
            "check that the URL is that of a Celonis team, and any proxy in between",
        )
        return _foreign_response(response, call, what, hint=hint)
    if response.status not in _PROXY_STATUSES and response.body.lstrip()[:1] == b"<":
        hint = "check that the URL is that of a Celonis team, and for a proxy between this host and the platform"
        return _foreign_response(
            response, call, "came with an HTML or XML page that is not from the platform", hint=hint
        )
    return error_responses.parse_error(
        response.status,
        response.headers,
        response.body,
        operation=call.operation,
        now=now,
        secrets=secrets,
        unclear_disposition=call.unclear_disposition,
    )


def require_genuine(response: wire.ApiResponse, call: Call) -> None:
    """Reject a 2xx response that the platform did not send, such as the login page of a proxy.

    Raises:
        UnexpectedResponseError: The response is not the platform's, so it acknowledges nothing.
    """
    if call.optional_response is None or not response.body.strip():
        return
    problem = wire.find_foreign_body(response, call.optional_response, call.job_id)
    if problem is not None:
        hint = "check for a proxy or a login page between this host and the platform"
        raise _foreign_response(response, call, f"came with a body that is not from the platform: {problem}", hint=hint)


def _foreign_response(response: wire.ApiResponse, call: Call, what: str, *, hint: str) -> ForeignResponseError:
    """Build the error for a response that is not from the platform. Such a response does not prove whether the call took effect."""
    return ForeignResponseError(
        f"{call.operation}: status {response.status} {what}",
        status=response.status,
        hint=hint,
        disposition=call.unclear_disposition,
    )


def translate_error(
    exc: BaseException,
    call: Call,
    *,
    is_sent: bool = True,
    upload: Upload | None = None,
    has_responded: bool = False,
    proxy: str = "",
) -> PushEngineError:
    """Translate an exception of aiohttp, the OS or asyncio. Its text is not quoted, since it may contain addresses with secrets.

    Args:
        exc: The exception.
        call: What was attempted.
        is_sent: Whether anything of the request was sent.
        upload: The upload, if it was one.
        has_responded: Whether there has been a response from this address. If the port does not speak TLS now, that may pass.
        proxy: URL of the proxy through which the call was made; empty if there is none.
    """
    if isinstance(exc, _BAD_ADDRESS):
        return ConfigError(
            f"{call.operation}: the URL cannot be used", key="url", hint="https://<team>.<cluster>.celonis.cloud"
        )
    if isinstance(exc, _UNSENT) or not is_sent:
        return _connection_failed(exc, call, has_responded=has_responded, proxy=proxy)
    if isinstance(exc, _BAD_RESPONSE):
        return UnexpectedResponseError(
            f"{call.operation}: the response is not valid HTTP",
            status=getattr(exc, "status", 0),
            hint="check for a proxy between this host and the platform",
            disposition=call.unclear_disposition,
        )
    if upload is not None and not upload.body.is_started:
        return ConnectionFailedError(
            f"{call.operation}: the connection was lost before the body was sent", hint=_CHECK_NETWORK
        )
    return _no_response(_describe(exc, upload), call, is_timeout=isinstance(exc, TimeoutError))


def _no_response(what: str, call: Call, *, is_timeout: bool) -> TransportError:
    if not call.is_idempotent:
        return OutcomeUnknownError(f"{call.operation}: {what}", hint=_CHECK_FIRST)
    if is_timeout:
        return RequestTimeoutError(f"{call.operation}: {what}", phase="read", hint=_CHECK_NETWORK)
    return TransportError(f"{call.operation}: {what}", hint=_CHECK_NETWORK)


def _connection_failed(exc: BaseException, call: Call, *, has_responded: bool, proxy: str) -> ConnectionFailedError:
    phase: ConnectionPhase = "connect"
    what, hint = "no connection", _CHECK_NETWORK
    if isinstance(exc, aiohttp.ClientConnectorCertificateError | aiohttp.ServerFingerprintMismatch):
        reason = getattr(getattr(exc, "certificate_error", None), "verify_message", "") or "it is not the one expected"
        return UntrustedServerError(
            f"{call.operation}: the server's certificate is not trusted: {clean_text(reason)}",
            phase="tls",
            hint="where a company proxy or a private CA signs certificates, set ca_file to its PEM file; never turn verification off",
        )
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        what, hint = f"the proxy refuses the tunnel with status {exc.status}", _CHECK_PROXY
        if 400 <= exc.status < 500 and exc.status not in _TEMPORARY_STATUSES:  # noqa: PLR2004 - HTTP status class
            return ProxyRefusedError(f"{call.operation}: {what}", status=exc.status, hint=hint)
        phase = "proxy"
    elif isinstance(exc, aiohttp.ClientProxyConnectionError):
        what, hint, phase = "the proxy cannot be reached", "check HTTPS_PROXY and NO_PROXY", "proxy"
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        (what, hint), phase = _unresolved(exc.host, proxy), "name"
    elif isinstance(exc, aiohttp.ClientConnectorSSLError):
        what, phase = f"the TLS handshake failed: {_reason(exc.os_error)}", "tls"
        hint = "check that the port in the URL speaks TLS 1.2 or later, and any proxy in between"
        if getattr(exc.os_error, "reason", None) in _NO_TLS and not has_responded:
            return UntrustedServerError(f"{call.operation}: {what}", phase=phase, hint=hint)
    elif isinstance(exc, TimeoutError):
        what = "could not connect in time"
    elif isinstance(exc, aiohttp.ClientConnectorError):
        what = f"no connection: {_reason(exc.os_error)}"
    return ConnectionFailedError(f"{call.operation}: {what}", hint=hint, phase=phase)


def _unresolved(host: str, proxy: str) -> tuple[str, str]:
    """Return what failed and a hint, for a host name that cannot be resolved."""
    if proxy and host == urllib.parse.urlsplit(proxy).hostname:
        return "the name of the proxy cannot be resolved", _CHECK_PROXY
    return "the host name cannot be resolved", "check the team in the URL, and the network"


def _describe(exc: BaseException, upload: Upload | None) -> str:
    sent = (
        f"{upload.body.bytes_sent - upload.body.unsent_bytes()} of {upload.body.size} bytes had been accepted"
        if upload
        else ""
    )
    if upload is not None and upload.timed_out is not None:
        silence = f"{upload.limit_seconds:g} s"
        return (
            f"no response within {silence}"
            if upload.timed_out == "read"
            else f"no data was accepted for {silence}, after {sent}"
        )
    if isinstance(exc, TimeoutError):
        return "no response in time"
    if isinstance(exc, aiohttp.ClientPayloadError | aiohttp.EofStream):
        return "the response was cut off"
    reason = "the server closed it" if isinstance(exc, aiohttp.ServerDisconnectedError) else _reason(exc)
    return f"the connection was lost before the response: {reason}" + (f" ({sent})" if sent else "")


def _reason(exc: BaseException) -> str:
    """Return the operating system's reason for an error, without the text that aiohttp adds to it."""
    if isinstance(exc, aiohttp.ClientOSError):
        if isinstance(exc.__cause__, OSError):
            return _reason(exc.__cause__)
        return os.strerror(exc.errno) if exc.errno else _NO_REASON  # its own text may contain the URL
    reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None)
    return clean_text(reason) if isinstance(reason, str) and reason else _NO_REASON


def without_secrets(exc: BaseException) -> BaseException:
    """Remove from an exception and its causes, in place, what could reveal secrets: request headers, proxy passwords, server text.

    Server text may repeat what was sent. The parts of responses that messages quote go through `redact`.
    """
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, aiohttp.ClientResponseError):
            link.request_info = link.request_info._replace(headers={})  # type: ignore[arg-type]
            link.message, link.headers, link.args = "", None, (link.request_info, ())
        elif isinstance(link, aiohttp.ClientConnectorError):
            key = link._conn_key._replace(proxy_auth=None)  # noqa: SLF001 - aiohttp offers no other way
            link._conn_key = key  # noqa: SLF001
            link.args = (key, *link.args[1:])
        elif isinstance(link, HttpProcessingError | aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
            link.args = ()
            vars(link).clear()
        link = link.__cause__ or link.__context__
    return exc
