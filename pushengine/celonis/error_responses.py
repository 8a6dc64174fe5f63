"""Translates a response that is not 2xx into one of `pushengine.errors`. Pure functions, no I/O.

Error bodies seen (fact sheet 3.3): `{reference, message, shortMessage}`, `{errors: [{attribute, error, errorCode}]}`,
`{title, status, detail, errorCode}`, `{error, error_description | message}`; plain text, HTML and empty bodies.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from pushengine.celonis.wire import ApiResponse, header, parse_datetime, parse_http_date, parse_seconds
from pushengine.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    Disposition,
    ForeignResponseError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnexpectedResponseError,
)
from pushengine.redaction import clean_text, clip_text, redact

_MAX_ERROR_SCAN_BYTES = 64 * 1024
_MAX_WAIT_SECONDS = 24 * 3600.0
_MIN_EPOCH_SECONDS = 1e9
_HALF_DAY_SECONDS = 12 * 3600
_DAY_SECONDS = 24 * 3600

_UNCLEAR_STATUSES = frozenset({408, 425})
"""Statuses as unclear as 5xx: the server may not have read the whole request (408) or not have processed it yet (425)."""

_ERROR_CLASSES: Mapping[int, tuple[type[ApiError], str]] = {
    401: (
        AuthenticationError,
        (
            "the credentials are wrong or have expired: check that the key was pasted completely and without spaces, and that a user "
            "API key is given as api_key (sent as Bearer) and an application key as app_key (sent as AppKey), not vice versa"
        ),
    ),
    403: (
        PermissionDeniedError,
        (
            "the credentials are valid but lack permission for this: grant the OAuth client the scope integration.data-pools:data_push (or "
            "integration.data-pools), and grant it, or the key, the 'Data Push API' permission on this data pool"
        ),
    ),
    407: (AuthenticationError, "the proxy wants other credentials: check HTTPS_PROXY and NO_PROXY"),
    404: (NotFoundError, "check the team URL and the data pool id, and that the job has not been deleted"),
    409: (ConflictError, "the job is in the wrong state, or another job for the table is being submitted"),
    413: (PayloadTooLargeError, "set a smaller chunk_bytes"),
    429: (RateLimitedError, "the team's request quota is spent; run again later"),
}


_ABOUT_THE_CALL = (NotFoundError, ConflictError, PayloadTooLargeError, InvalidRequestError)


def parse_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    operation: str,
    now: float,
    secrets: Collection[str] = (),
    unclear_disposition: Disposition | None = None,
) -> ApiError:
    """Build the error for a response that is not 2xx.

    Args:
        status: HTTP status, not 2xx.
        headers: Response headers.
        body: Response body, in any of the known shapes, or empty.
        operation: Description for the message: what was attempted, on what.
        now: Seconds UTC, to convert a clock time into a wait.
        secrets: Values to mask, in case the response repeats them.
        unclear_disposition: Disposition of a response that leaves open whether the call took effect; None means the default of the error class.
    """
    found = _explain(body)
    text = clip_text(redact(clean_text(found.text), secrets))
    code = clip_text(redact(clean_text(found.code), secrets), 100) if found.code else None
    reference = found.reference or header(headers, "x-request-id") or header(headers, "x-correlation-id")
    request_id = clip_text(redact(clean_text(reference), secrets), 200) if reference else None
    details = [f"code {code}"] if code and code not in text else []
    details += [f"reference {request_id}"] if request_id and request_id not in text else []
    message = (
        f"{operation}: status {status}"
        + (f", {text}" if text else "")
        + (f" [{', '.join(details)}]" if details else "")
    )
    kind, hint = _ERROR_CLASSES.get(status, (None, ""))
    if kind is RateLimitedError:
        return RateLimitedError(
            message,
            status=status,
            code=code,
            request_id=request_id,
            hint=hint,
            retry_after_seconds=retry_after_seconds(headers, body, now),
        )
    if kind is None:
        kind, hint = _class_of_status(status)
    is_unclear = status in _UNCLEAR_STATUSES or status >= 500  # noqa: PLR2004 - HTTP status class
    return kind(
        message,
        status=status,
        code=code,
        request_id=request_id,
        hint=hint,
        disposition=unclear_disposition if is_unclear else None,
    )


def parse_token_error(
    response: ApiResponse, *, operation: str, scope: str, now: float, secrets: Collection[str]
) -> ApiError:
    """Build the error for an unsuccessful response of the token endpoint (RFC 6749, 5.2)."""
    error = parse_error(response.status, response.headers, response.body, operation=operation, now=now, secrets=secrets)
    code = token_error_code(response)
    if code is None:
        is_unclear = response.status in _UNCLEAR_STATUSES
        is_missing = response.status == 501 or isinstance(error, (*_ABOUT_THE_CALL, UnexpectedResponseError))  # noqa: PLR2004 - Not Implemented
        if is_unclear or not is_missing:
            return error.replace(disposition="transient") if is_unclear else error
        # There is no token endpoint. The class must not be one that says something about the call that needs the token, such as a 404.
        return ForeignResponseError(
            error.message,
            status=response.status,
            code=error.code,
            request_id=error.request_id,
            hint="check the team URL",
            disposition="transient",
        )
    if code in ("invalid_scope", "access_denied"):
        hint = (
            f"the OAuth client does not hold the requested scope, {scope!r}: grant it that scope in the team's settings, "
            "or set the scope to the one it holds (integration.data-pools:data_push or integration.data-pools)"
        )
    elif code == "invalid_client":
        hint = "check client id and client secret, and that the client still exists in this team"
    else:
        hint = "the OAuth client must allow the client credentials grant"
    return AuthenticationError(error.message, status=response.status, code=code, request_id=error.request_id, hint=hint)


def token_error_code(response: ApiResponse) -> str | None:
    """Return the `error` code of RFC 6749, 5.2. Without one, return `invalid_client` for a 401 and None for any other response."""
    if response.status not in (400, 401, 403):
        return None
    try:
        raw = json.loads(response.body)
    except (ValueError, RecursionError):
        raw = None
    code = raw.get("error") if isinstance(raw, dict) else None
    known = (
        "invalid_client",
        "invalid_scope",
        "invalid_request",
        "invalid_grant",
        "unauthorized_client",
        "access_denied",
    )
    if code in (*known, "unsupported_grant_type"):
        return str(code)
    return "invalid_client" if response.status == 401 else None  # noqa: PLR2004 - an HTTP status


def _class_of_status(status: int) -> tuple[type[ApiError], str]:
    if 400 <= status < 500:  # noqa: PLR2004 - HTTP status classes
        return InvalidRequestError, "the platform rejects the request: correct what it names and push again"
    if status >= 500:  # noqa: PLR2004
        return ServerError, "the platform or something in front of it failed; run again later"
    return UnexpectedResponseError, "check that the URL is that of a Celonis team"


# ------------------------------------------------------------------------------------------------------------------- waits


def retry_after_seconds(headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """Return the wait that a response asks for, in seconds, at most 24 hours; None if it asks for none.

    The sources, in order of trust: Retry-After, x-ratelimit-reset, a clock time in the body.

    Args:
        headers: Response headers; names in any case.
        body: Response body.
        now: Seconds UTC, preferably by the server's clock.
    """
    value = header(headers, "retry-after")
    if value is not None:
        seconds = parse_seconds(value)
        date = parse_http_date(value)
        if seconds is not None or date is not None:
            return _wait(seconds if seconds is not None else (date or now) - now)
    seconds = parse_seconds(header(headers, "x-ratelimit-reset"))
    if seconds is not None:
        return _wait(seconds - now if seconds >= _MIN_EPOCH_SECONDS else seconds)
    return _clock_time(_explain(body).text, now)


def _wait(seconds: float) -> float:
    return min(max(seconds, 0.0), _MAX_WAIT_SECONDS)


_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_TIME_OF_DAY = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])")


def _clock_time(text: str, now: float) -> float | None:
    """Return the seconds until the UTC time that a text names; 0 if it has passed (a time of day: within the last 12 hours)."""
    if (found := _ISO_TIME.search(text)) and (date := parse_datetime(found[0])):
        return _wait(date.timestamp() - now)
    found = _TIME_OF_DAY.search(text)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    ahead = (hour * 3600 + minute * 60 + second - now) % _DAY_SECONDS
    return ahead if ahead <= _HALF_DAY_SECONDS else 0.0


# ------------------------------------------------------------------------------------------------------------------ bodies


@dataclasses.dataclass(frozen=True, slots=True)
class _Explanation:
    text: str = ""
    code: str | None = None
    reference: str | None = None


def _explain(body: bytes) -> _Explanation:
    """Extract text, code and reference from an error body of any shape."""
    text = body[:_MAX_ERROR_SCAN_BYTES].decode("utf-8", errors="replace").strip()
    if text.startswith(("{", "[")):
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError):
            return _Explanation(text)
        return _explain_object(raw[0] if isinstance(raw, list) and raw else raw) if raw else _Explanation()
    return _Explanation(_strip_html(text) if text.startswith("<") else text)


def _explain_object(raw: Any) -> _Explanation:
    if not isinstance(raw, dict):
        return _Explanation(json.dumps(raw))
    errors = raw.get("errors")
    if isinstance(errors, list) and errors:
        return _explain_errors([entry for entry in errors if isinstance(entry, dict)], raw)
    parts = [_text(raw, name) for name in ("title", "error", "message", "detail", "error_description")]
    parts = parts if any(parts) else [_text(raw, "shortMessage")]
    code = _text(raw, "errorCode") or _text(raw, "code") or (_text(raw, "error") if "error_description" in raw else "")
    return _Explanation(
        ": ".join(dict.fromkeys(part for part in parts if part)), code or None, _text(raw, "reference") or None
    )


def _explain_errors(errors: list[dict[str, Any]], raw: dict[str, Any]) -> _Explanation:
    lines = [": ".join(part for part in (_text(entry, "attribute"), _text(entry, "error")) if part) for entry in errors]
    code = next((_text(entry, "errorCode") for entry in errors if _text(entry, "errorCode")), None)
    return _Explanation("; ".join(line for line in lines if line), code, _text(raw, "reference") or None)


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _strip_html(text: str) -> str:
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title and title[1].strip():
        return html.unescape(title[1]).strip()
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", " ", text, flags=re.IGNORECASE | re.DOTALL)
    return html.unescape(re.sub(r"<[^>]*>", " ", text)).strip()
