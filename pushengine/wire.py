"""The Data Push API on the wire: build each request, parse each answer. Pure functions, no I/O.

Requests (paths below `/{base}/api/v1/data-push/{pool}`; base is `data-ingestion` or the older `integration`):

    POST   /jobs/                        create          JSON, see `build_create_job`
    GET    /jobs/                        list jobs       (create and list have the trailing slash, nothing else has)
    GET    /jobs/{id}                    read
    POST   /jobs/{id}                    submit          query duplicateRemovalColumn, empty body
    DELETE /jobs/{id}                    delete
    POST   /jobs/{id}/chunks/upserted    upload          multipart/form-data, one part `file`
    POST   /jobs/{id}/chunks/deleted     upload deletes  the same
    GET    /jobs/{id}/chunks             list chunks

Error bodies seen (fact sheet 3.3): `{reference, message, shortMessage}`, `{errors: [{attribute, error, errorCode}]}`,
`{title, status, detail, errorCode}`, `{error, error_description | message}`; plain text, HTML and nothing at all.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import email.utils
import html
import ipaddress
import json
import math
import re
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NoReturn

from pushengine.auth import OAuthClient
from pushengine.errors import (
    ApiError,
    AuthenticationError,
    ConfigError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    UnexpectedResponseError,
)
from pushengine.model import ChunkType, Job, JobId, JobStatus, RemoteChunk, TableColumn, Target

MAX_FIELD_LENGTH = 65_000
MAX_ERROR_TEXT_BYTES = 2048
_MAX_ERROR_SCAN_BYTES = 64 * 1024
_MAX_WAIT_SECONDS = 24 * 3600.0
_LEAST_EPOCH = 1e9
_HALF_DAY_SECONDS = 12 * 3600
_DAY_SECONDS = 24 * 3600

CSV_PARSING_OPTIONS: Mapping[str, Any] = {
    "charSet": "UTF-8",
    "separatorSequence": ",",
    "quoteSequence": '"',
    "escapeSequence": '"',
    "lineEnding": "\n",
    "decimalSeparator": ".",
    "thousandSeparator": "",
    "dateFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "additionalColumnOptions": [],
}
"""How our CSV chunks are written (RFC 4180): sent whole, because the server's defaults are not documented."""


@dataclasses.dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request, less host, credentials and upload body.

    Attributes:
        method: GET, POST or DELETE.
        path: Absolute, percent-quoted.
        query: Unquoted names and values.
        json: Body, or None.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    json: Mapping[str, Any] | None = None

    @property
    def target(self) -> str:
        """Path and query as they stand in the request line."""
        return (
            f"{self.path}?{urllib.parse.urlencode(self.query, quote_via=urllib.parse.quote)}"
            if self.query
            else self.path
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRequest:
    """A client credentials grant.

    Attributes:
        form: Form fields.
        authorization: Value of the Authorization header for client_secret_basic, or None for client_secret_post.
    """

    form: Mapping[str, str] = dataclasses.field(repr=False)
    authorization: str | None = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenGrant:
    """An access token.

    Attributes:
        access_token: The token.
        lifetime_seconds: How long it is good for, from when it was asked for.
        scope: What was granted, or "" where the answer does not say.
    """

    access_token: str = dataclasses.field(repr=False)
    lifetime_seconds: float
    scope: str


# --------------------------------------------------------------------------------------------------------------- addresses


def parse_url(url: str, *, key: str = "url") -> urllib.parse.SplitResult:
    """Check an address that credentials are to be sent to.

    Raises:
        ConfigError: Not an absolute https:// address (http:// for loopback only), or with credentials in it.
    """
    text = url.strip()
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{key} is not a URL", key=key, hint="https://<team>.<cluster>.celonis.cloud") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(
            f"{key} is not a URL", key=key, hint="begin with https://, as in https://acme.eu-1.celonis.cloud"
        )
    if "@" in parts.netloc:
        raise ConfigError(f"{key} has credentials in it", key=key, hint="give keys as settings of their own")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ConfigError(f"{key} contains white space or control characters", key=key)
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(f"{key}: http:// would send credentials in the clear to {host}", key=key, hint="use https://")
    return parts


def parse_team_url(url: str) -> tuple[str, str]:
    """Origin (`https://acme.eu-1.celonis.cloud`) and team (`acme.eu-1.celonis.cloud`) of a team's address.

    Raises:
        ConfigError: Not such an address.
    """
    parts = parse_url(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("url has more than a host", key="url", hint=f"{parts.scheme}://{parts.netloc} alone")
    default = 443 if parts.scheme == "https" else 80
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    team = host if parts.port in (None, default) else f"{host}:{parts.port}"
    return f"{parts.scheme}://{team}", team


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------------------------------------------------------- requests


def build_create_job(
    pool_id: str, target: Target, columns: Sequence[TableColumn], *, base_path: str = "data-ingestion"
) -> ApiRequest:
    """Open a job. The schema is always sent: without it the platform cuts strings at 80 characters."""
    keys = {key.casefold() for key in target.keys}
    body: dict[str, Any] = {
        "targetName": target.table,
        "dataPoolId": pool_id,
        "type": target.job_type,
        "fileType": target.file_type,
        "keys": list(target.keys),
        "tableSchema": {
            "tableName": target.table,
            "columns": [_column(column, is_key=column.name.casefold() in keys) for column in columns],
        },
    }
    if target.connection_id:
        body["connectionId"] = target.connection_id
    lengths = [column.length for column in columns if column.length is not None]
    if lengths:
        body["fallbackVarcharLength"] = min(max(lengths), MAX_FIELD_LENGTH)
    if target.file_type == "CSV":
        body["csvParsingOptions"] = dict(CSV_PARSING_OPTIONS)
    return ApiRequest("POST", _jobs_path(base_path, pool_id), json=body)


def build_list_jobs(pool_id: str, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Read all jobs of the pool."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id))


def build_get_job(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Read one job."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id, job_id))


def build_submit_job(
    pool_id: str, job_id: JobId, *, duplicate_removal_column: str | None = None, base_path: str = "data-ingestion"
) -> ApiRequest:
    """Start the execution."""
    query = {"duplicateRemovalColumn": duplicate_removal_column} if duplicate_removal_column else {}
    return ApiRequest("POST", _jobs_path(base_path, pool_id, job_id), query=query)


def build_delete_job(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Delete a job and its chunks."""
    return ApiRequest("DELETE", _jobs_path(base_path, pool_id, job_id))


def build_upload_chunk(
    pool_id: str, job_id: JobId, kind: ChunkType, *, base_path: str = "data-ingestion"
) -> ApiRequest:
    """Send one chunk; the multipart body is `pushengine.body`'s."""
    action = "deleted" if kind == "DELETE" else "upserted"
    return ApiRequest("POST", _jobs_path(base_path, pool_id, job_id, "chunks", action))


def build_list_chunks(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Read what a job holds."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id, job_id, "chunks"))


def build_check_team() -> ApiRequest:
    """Read the team; answers with `domain` when the credentials are good."""
    return ApiRequest("GET", "/api/cloud/team")


def build_token_request(credentials: OAuthClient, method: Literal["basic", "post"]) -> TokenRequest:
    """A client credentials grant (RFC 6749, 4.4) with client_secret_basic or client_secret_post."""
    form = {"grant_type": "client_credentials"}
    if credentials.scope:
        form["scope"] = credentials.scope
    secret = credentials.client_secret.reveal()
    if method == "post":
        return TokenRequest({**form, "client_id": credentials.client_id, "client_secret": secret}, None)
    pair = f"{urllib.parse.quote_plus(credentials.client_id)}:{urllib.parse.quote_plus(secret)}"  # RFC 6749, 2.3.1
    return TokenRequest(form, "Basic " + base64.b64encode(pair.encode()).decode("ascii"))


def _column(column: TableColumn, *, is_key: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {"columnName": column.name, "columnType": column.type, "pkField": is_key}
    if column.length is not None:
        raw["fieldLength"] = column.length
    return raw


def _jobs_path(base_path: str, pool_id: str, *segments: str) -> str:
    """`.../jobs/` for the collection (trailing slash), `.../jobs/{id}/...` for what lies below it."""
    quoted = "/".join(_segment(segment) for segment in segments)
    return f"/{_segment(base_path)}/api/v1/data-push/{_segment(pool_id)}/jobs/{quoted}"


def _segment(text: str) -> str:
    if text in ("", ".", ".."):
        raise ConfigError(f"{text!r} cannot be part of an API address", hint="check the data pool id and the job id")
    return urllib.parse.quote(text, safe="")


# ----------------------------------------------------------------------------------------------------------------- answers


def parse_job(body: bytes, *, operation: str, status: int = 200) -> Job:
    """A `DataPushJob`; unknown fields are ignored.

    Raises:
        UnexpectedResponseError: Not a job: no JSON, no id, or a status that we do not know.
    """
    return _job(_load(body, operation, status), operation, status)


def parse_jobs(body: bytes, *, operation: str, status: int = 200) -> list[Job]:
    """An array of `DataPushJob`; see `parse_job`."""
    return [_job(raw, operation, status) for raw in _load_list(body, operation, status)]


def parse_chunks(body: bytes, *, operation: str, status: int = 200) -> list[RemoteChunk]:
    """An array of `DataPushChunk`.

    Raises:
        UnexpectedResponseError: Not such an array.
    """
    return [_chunk(raw, operation, status) for raw in _load_list(body, operation, status)]


def parse_object(body: bytes, *, operation: str, status: int = 200) -> dict[str, Any]:
    """Any JSON object.

    Raises:
        UnexpectedResponseError: Something else.
    """
    return _require_object(_load(body, operation, status), operation, status)


def parse_token(body: bytes, *, operation: str, status: int = 200) -> TokenGrant:
    """A successful answer of the token endpoint.

    Raises:
        UnexpectedResponseError: No usable bearer token in it. The message never holds the answer.
    """
    raw = parse_object(body, operation=operation, status=status)
    token = raw.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        _refuse(operation, status, "it holds no usable access_token")
    if str(raw.get("token_type") or "Bearer").lower() != "bearer":
        _refuse(operation, status, "its token_type is not Bearer")
    lifetime = _seconds(raw.get("expires_in", 300))
    if lifetime is None or lifetime <= 0:
        _refuse(operation, status, "its expires_in is no positive number")
    return TokenGrant(token, lifetime, str(raw.get("scope") or ""))


def parse_datetime(value: object) -> dt.datetime | None:
    """Epoch milliseconds or ISO 8601 (UTC where it names no offset); None for anything else."""
    try:
        if isinstance(value, str) and not value.strip().isdigit():
            parsed = dt.datetime.fromisoformat(value.strip())
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.UTC)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return dt.datetime.fromtimestamp(float(value) / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def parse_http_date(value: str | None) -> float | None:
    """An HTTP date as seconds UTC, or None."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None


def retry_after_seconds(headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """The wait that an answer asks for, in order of trust: Retry-After, x-ratelimit-reset, a clock time in the body; else None.

    Args:
        headers: Of the answer; names in any case.
        body: Of the answer.
        now: Seconds UTC, by the server's clock if known.
    """
    value = header(headers, "retry-after")
    if value is not None:
        seconds = _seconds(value)
        date = parse_http_date(value)
        if seconds is not None or date is not None:
            return _wait(seconds if seconds is not None else (date or now) - now)
    seconds = _seconds(header(headers, "x-ratelimit-reset"))
    if seconds is not None:
        return _wait(seconds - now if seconds >= _LEAST_EPOCH else seconds)
    return _clock_time(_explain(body).text, now)


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by name in any case, or None."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _load(body: bytes, operation: str, status: int) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        error = _unusable(operation, status, "it is no JSON")
    raise error  # outside of the handler: a JSONDecodeError would carry the whole body along


def _load_list(body: bytes, operation: str, status: int) -> list[Any]:
    raw = _load(body, operation, status)
    if not isinstance(raw, list):
        _refuse(operation, status, "it is no list")
    return raw


def _require_object(raw: Any, operation: str, status: int) -> dict[str, Any]:
    if not isinstance(raw, dict):
        _refuse(operation, status, "it is no JSON object")
    return raw


def _job(raw: Any, operation: str, status: int) -> Job:
    raw = _require_object(raw, operation, status)
    job_id = raw.get("id")
    if not isinstance(job_id, str) or not job_id:
        _refuse(operation, status, "a job in it has no id")
    try:
        job_status = JobStatus(raw.get("status"))
    except ValueError:
        _refuse(
            operation,
            status,
            f"job {clean_text(job_id)} has the unknown status {clean_text(str(raw.get('status')))[:40]!r}",
        )
    logs = raw.get("logs") or ()
    return Job(
        id=JobId(job_id),
        status=job_status,
        target_name=str(raw.get("targetName") or ""),
        type=str(raw.get("type") or ""),
        logs=tuple(str(line) for line in (logs if isinstance(logs, list | tuple) else (logs,))),
        last_modified=parse_datetime(raw.get("lastModified")),
    )


def _chunk(raw: Any, operation: str, status: int) -> RemoteChunk:
    raw = _require_object(raw, operation, status)
    chunk_id = raw.get("id")
    if not isinstance(chunk_id, str) or not chunk_id:
        _refuse(operation, status, "a chunk in it has no id")
    checksum = raw.get("checksum")
    return RemoteChunk(chunk_id, str(raw.get("type") or ""), str(checksum) if checksum else None)


def _refuse(operation: str, status: int, reason: str) -> NoReturn:
    raise _unusable(operation, status, reason)


def _unusable(operation: str, status: int, reason: str) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        f"{operation}: the answer cannot be used, {reason}",
        status=status,
        hint="is the URL that of a Celonis team, and does something between here and there change answers?",
    )


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _wait(seconds: float) -> float:
    return min(max(seconds, 0.0), _MAX_WAIT_SECONDS)


_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?")
_TIME_OF_DAY = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])")


def _clock_time(text: str, now: float) -> float | None:
    """Seconds until the UTC time that a text names; 0 for one that has just passed."""
    if (found := _ISO_TIME.search(text)) and (date := parse_datetime(found[0])):
        return _wait(date.timestamp() - now)
    found = _TIME_OF_DAY.search(text)
    if not found:
        return None
    hour, minute, second = (int(part or 0) for part in found.groups())
    ahead = (hour * 3600 + minute * 60 + second - now) % _DAY_SECONDS
    return ahead if ahead <= _HALF_DAY_SECONDS else 0.0


# ------------------------------------------------------------------------------------------------------------------ errors


@dataclasses.dataclass(frozen=True, slots=True)
class _Explanation:
    text: str = ""
    code: str | None = None
    reference: str | None = None


def parse_error(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    operation: str,
    now: float,
    secrets: Collection[str] = (),
) -> ApiError:
    """The error that an answer stands for.

    Args:
        status: Not 2xx.
        headers: Of the answer.
        body: Of the answer, in any of the known shapes or none.
        operation: What was tried, on what.
        now: Seconds UTC, to tell a wait from a clock time.
        secrets: What must not be quoted, should the answer repeat it.
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
    kind, hint = _KINDS.get(status, (None, ""))
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
        kind, hint = _kind_of_range(status)
    return kind(message, status=status, code=code, request_id=request_id, hint=hint)


def parse_token_error(
    answer: ApiAnswer, *, operation: str, scope: str, now: float, secrets: Collection[str]
) -> ApiError:
    """The error that an unsuccessful answer of the token endpoint stands for (RFC 6749, 5.2)."""
    error = parse_error(answer.status, answer.headers, answer.body, operation=operation, now=now, secrets=secrets)
    code = token_error_code(answer)
    if code is None:
        if isinstance(error, NotFoundError):
            error.hint = "check the team URL, or set the token URL of the OAuth client"
        return error
    if code in ("invalid_scope", "access_denied"):
        hint = (
            f"the OAuth client does not hold the scope that was asked for, {scope!r}: give it that scope in the team's settings, "
            "or set the scope to the one it holds (integration.data-pools:data_push or integration.data-pools)"
        )
    elif code == "invalid_client":
        hint = "check client id and client secret, and that the client still exists in this team"
    else:
        hint = "the OAuth client must allow the client credentials grant"
    return AuthenticationError(error.message, status=answer.status, code=code, request_id=error.request_id, hint=hint)


def token_error_code(answer: ApiAnswer) -> str | None:
    """`error` of RFC 6749, 5.2; a 401 that names none is `invalid_client`; None for any other answer."""
    if answer.status not in (400, 401, 403):
        return None
    try:
        raw = json.loads(answer.body)
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
    return "invalid_client" if answer.status == 401 else None  # noqa: PLR2004 - an HTTP status


def clean_text(text: str) -> str:
    """One line without control characters or runs of white space."""
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())


def redact(text: str, secrets: Collection[str]) -> str:
    """The text without these values and their base64, should it repeat them."""
    for secret in sorted((s for s in secrets if s), key=len, reverse=True):
        encoded = base64.b64encode(secret.encode()).decode("ascii")
        for form in (secret, encoded, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret)):
            text = text.replace(form, "***")
    return text


def clip_text(text: str, max_bytes: int = MAX_ERROR_TEXT_BYTES) -> str:
    """The text within a number of UTF-8 bytes, with an ellipsis where it was cut."""
    raw = text.encode()
    return text if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "…"


def _explain(body: bytes) -> _Explanation:
    """What an error body says, in whichever shape."""
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


_KINDS: Mapping[int, tuple[type[ApiError], str]] = {
    401: (
        AuthenticationError,
        (
            "the credentials are wrong or have expired: check that the key was pasted whole and without spaces, and that a user "
            "API key is given as api_key (sent as Bearer) and an application key as app_key (sent as AppKey), not the other way round"
        ),
    ),
    403: (
        PermissionDeniedError,
        (
            "the credentials are good and may not do this: give the OAuth client the scope integration.data-pools:data_push (or "
            "integration.data-pools), and give it, or the key, the 'Data Push API' permission on this data pool"
        ),
    ),
    404: (NotFoundError, "check the team URL and the data pool id, and that the job has not been deleted"),
    409: (ConflictError, "the job is not in a state for this, or another job of the table is being submitted"),
    413: (PayloadTooLargeError, "set a smaller chunk_bytes"),
    429: (RateLimitedError, "the team's request quota is spent; run again later"),
}


def _kind_of_range(status: int) -> tuple[type[ApiError], str]:
    if 400 <= status < 500:  # noqa: PLR2004 - HTTP status classes
        return InvalidRequestError, "the platform refuses the request as it is"
    if status >= 500:  # noqa: PLR2004
        return ServerError, "the platform or something in front of it failed; run again later"
    return UnexpectedResponseError, "is the URL that of a Celonis team?"
