"""The Data Push API on the wire: builds requests and parses responses. Pure functions, no I/O.

Requests (paths below `/{base}/api/v1/data-push/{pool}`; base is `data-ingestion` or the older `integration`):

    POST   /jobs/                        create          JSON, see `build_create_job`
    GET    /jobs/                        list jobs       (only create and list have the trailing slash)
    GET    /jobs/{id}                    read
    POST   /jobs/{id}                    submit          query duplicateRemovalColumn, empty body
    DELETE /jobs/{id}                    delete
    POST   /jobs/{id}/chunks/upserted    upload          multipart/form-data, one part `file`
    POST   /jobs/{id}/chunks/deleted     upload deletes  same body as upload
    GET    /jobs/{id}/chunks             list chunks

Requests of the vendor's client that read tables (paths below `/integration/api/pools/{pool}`, whatever the base):

    GET    /tables                       list tables
    GET    /columns                      list columns    query tableName and, for a data connection, its id as schemaName

Responses other than 2xx are parsed in `pushengine.celonis.error_responses`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import ipaddress
import json
import math
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn

from pushengine.errors import ConfigError, UnexpectedResponseError
from pushengine.model import ChunkType, Job, JobId, JobStatus, RemoteChunk, TableColumn, Target
from pushengine.redaction import clean_text
from pushengine.text import name_key, shown_name, storable

MAX_FIELD_LENGTH = 65_000
OptionalResponse = Literal["job", "chunk", "any"]
_CHUNK_FIELDS = frozenset({"id", "checksum", "pushJobId", "type"})
"""Fields of `DataPushChunk` (fact sheet 1.7) by which a response is recognized as a chunk."""

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
"""The format of CSV chunks (RFC 4180). Every option is sent, because the server's defaults are not documented."""


@dataclasses.dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request without its host, credentials and upload body.

    Attributes:
        method: GET, POST or DELETE.
        path: Absolute path, percent-encoded.
        query: Query parameters, not percent-encoded.
        json: JSON body, or None.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)
    json: Mapping[str, Any] | None = None

    @property
    def target(self) -> str:
        """Path and query as they appear in the request line."""
        return (
            f"{self.path}?{urllib.parse.urlencode(self.query, quote_via=urllib.parse.quote)}"
            if self.query
            else self.path
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response as received. `is_complete` is False if the body broke off or exceeded the size limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_complete: bool = True


# --------------------------------------------------------------------------------------------------------------- addresses


def parse_url(url: str, *, key: str = "url") -> urllib.parse.SplitResult:
    """Check and split an address that credentials will be sent to.

    Raises:
        ConfigError: The address is not an absolute https:// address (http:// is allowed for loopback), or it contains credentials,
            whitespace or control characters.
    """
    text = url.strip()
    try:
        parts = urllib.parse.urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{key} is not a URL", key=key, hint="https://<team>.<cluster>.celonis.cloud") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ConfigError(
            f"{key} is not a URL", key=key, hint="start with https://, as in https://acme.eu-1.celonis.cloud"
        )
    if "@" in parts.netloc:
        raise ConfigError(f"{key} contains credentials", key=key, hint="pass credentials in their own settings")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ConfigError(f"{key} contains whitespace or control characters", key=key)
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(f"{key}: http:// would send credentials in the clear to {host}", key=key, hint="use https://")
    return parts


def parse_team_url(url: str) -> tuple[str, str]:
    """Return the origin (`https://acme.eu-1.celonis.cloud`) and the team (`acme.eu-1.celonis.cloud`) of a team's address.

    Raises:
        ConfigError: The address is invalid, or it has more than a host.
    """
    parts = parse_url(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("url must contain only a host", key="url", hint=f"use {parts.scheme}://{parts.netloc}")
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
    """Build the request that creates a job. It always sends the schema: without it the platform cuts strings at 80 characters."""
    keys = {name_key(key) for key in target.keys}
    body: dict[str, Any] = {
        "targetName": target.table,
        "dataPoolId": pool_id,
        "type": target.job_type,
        "fileType": target.file_type,
        "keys": list(target.keys),
        "tableSchema": {
            "tableName": target.table,
            "columns": [_column(column, is_key=name_key(column.name) in keys) for column in columns],
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
    """Build the request that lists all jobs of the pool."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id))


def build_get_job(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Build the request that reads one job."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id, job_id))


def build_submit_job(
    pool_id: str, job_id: JobId, *, duplicate_removal_column: str | None = None, base_path: str = "data-ingestion"
) -> ApiRequest:
    """Build the request that submits a job."""
    query = {"duplicateRemovalColumn": duplicate_removal_column} if duplicate_removal_column else {}
    return ApiRequest("POST", _jobs_path(base_path, pool_id, job_id), query=query)


def build_delete_job(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Build the request that deletes a job and its chunks."""
    return ApiRequest("DELETE", _jobs_path(base_path, pool_id, job_id))


def build_upload_chunk(
    pool_id: str, job_id: JobId, kind: ChunkType, *, base_path: str = "data-ingestion"
) -> ApiRequest:
    """Build the request that uploads one chunk, without its multipart body (see `pushengine.celonis.upload`)."""
    action = "deleted" if kind == "DELETE" else "upserted"
    return ApiRequest("POST", _jobs_path(base_path, pool_id, job_id, "chunks", action))


def build_list_chunks(pool_id: str, job_id: JobId, *, base_path: str = "data-ingestion") -> ApiRequest:
    """Build the request that lists the chunks of a job."""
    return ApiRequest("GET", _jobs_path(base_path, pool_id, job_id, "chunks"))


def build_list_tables(pool_id: str) -> ApiRequest:
    """Build the request that lists the tables of the pool."""
    return ApiRequest("GET", f"/integration/api/pools/{_segment(pool_id)}/tables")


def build_list_columns(pool_id: str, table: str, connection_id: str | None) -> ApiRequest:
    """Build the request that lists the columns of a table. pycelonis sends the id of the data connection as `schemaName`, too."""
    query = {"tableName": table} | ({"schemaName": connection_id} if connection_id else {})
    return ApiRequest("GET", f"/integration/api/pools/{_segment(pool_id)}/columns", query=query)


def build_check_team() -> ApiRequest:
    """Build the request that reads the team. The response has `domain` if the credentials are valid."""
    return ApiRequest("GET", "/api/cloud/team")


def _column(column: TableColumn, *, is_key: bool) -> dict[str, Any]:
    raw: dict[str, Any] = {"columnName": column.name, "columnType": column.type, "pkField": is_key}
    if column.length is not None:
        raw["fieldLength"] = column.length
    return raw


def _jobs_path(base_path: str, pool_id: str, *segments: str) -> str:
    """Return `.../jobs/` for the collection (trailing slash), `.../jobs/{id}/...` for anything below it."""
    quoted = "/".join(_segment(segment) for segment in segments)
    return f"/{_segment(base_path)}/api/v1/data-push/{_segment(pool_id)}/jobs/{quoted}"


def _segment(text: str) -> str:
    if text in ("", ".", "..") or storable(text) != text:
        raise ConfigError(
            f"{shown_name(text)} cannot be part of an API address", hint="check the data pool id and the job id"
        )
    return urllib.parse.quote(text, safe="")


# --------------------------------------------------------------------------------------------------------------- responses


def parse_job(body: bytes, *, operation: str, status: int = 200) -> Job:
    """Parse a `DataPushJob`; unknown fields are ignored.

    Raises:
        UnexpectedResponseError: The body is not a job: it is not JSON, or has no id or an unknown status.
    """
    return parse_listed_job(_load(body, operation, status), operation=operation, status=status)


def parse_listed_job(raw: Any, *, operation: str, status: int = 200) -> Job:
    """Parse an element of a list of jobs; see `parse_job`."""
    raw = _require_object(raw, operation, status)
    job_id = raw.get("id")
    if not isinstance(job_id, str) or not job_id:
        raise_unusable(operation, status, "a job in it has no id")
    if storable(job_id) != job_id:
        raise_unusable(operation, status, "the id of a job in it is not text")
    try:
        job_status = JobStatus(raw.get("status"))
    except ValueError:
        raise_unusable(
            operation,
            status,
            f"job {clean_text(job_id)} has the unknown status {clean_text(str(raw.get('status')))[:40]!r}",
        )
    logs = raw.get("logs") or ()
    return Job(
        id=JobId(job_id),
        status=job_status,
        target_name=_text(raw.get("targetName")),
        type=_text(raw.get("type")),
        logs=tuple(storable(str(line)) for line in (logs if isinstance(logs, list | tuple) else (logs,))),
        last_modified=parse_datetime(raw.get("lastModified")),
    )


def parse_listed_chunk(raw: Any, *, operation: str, status: int = 200) -> RemoteChunk:
    """Parse an element of a list of chunks: a `DataPushChunk`.

    Raises:
        UnexpectedResponseError: It is not a chunk: not an object, or without id.
    """
    raw = _require_object(raw, operation, status)
    chunk_id = raw.get("id")
    if not isinstance(chunk_id, str) or not chunk_id:
        raise_unusable(operation, status, "a chunk in it has no id")
    return RemoteChunk(storable(chunk_id), _chunk_type(raw.get("type")), _text(raw.get("checksum")) or None)


def _chunk_type(raw: Any) -> str:
    """Return the type of a chunk; the same object for all chunks of a known type, because there may be a million of them."""
    return "UPSERT" if raw == "UPSERT" else "DELETE" if raw == "DELETE" else _text(raw)


def parse_object(body: bytes, *, operation: str, status: int = 200) -> dict[str, Any]:
    """Parse any JSON object.

    Raises:
        UnexpectedResponseError: The body is not a JSON object.
    """
    return _require_object(_load(body, operation, status), operation, status)


def parse_seconds(value: object) -> float | None:
    """Return the value as a finite number of seconds, or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def parse_datetime(value: object) -> dt.datetime | None:
    """Parse epoch milliseconds or ISO 8601 (UTC if it has no offset); return None for anything else."""
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
    """Parse an HTTP date into seconds UTC; return None if it is missing or invalid."""
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() if value else None
    except (ValueError, OverflowError):
        return None


def find_foreign_body(response: ApiResponse, expected: OptionalResponse, job_id: str | None) -> str | None:
    """Return why a non-empty body cannot be from the platform, or None if it can.

    The platform's responses to submit, upload and delete are not documented (fact sheet 1.2), so this requires little: JSON that reports no
    error, for a chunk at least one of its fields, and for a job its id or status, which must be correct. An empty object passes.
    """
    start = response.body.lstrip()[:1]
    try:
        raw = json.loads(response.body)
    except (ValueError, RecursionError):
        if not response.is_complete and start == b"{":
            return None
        return "HTML" if start == b"<" else "not JSON"
    if not isinstance(raw, dict):
        return None if expected == "any" else "not a JSON object"
    return _object_problem(raw, expected, job_id)


def _object_problem(raw: Mapping[str, Any], expected: OptionalResponse, job_id: str | None) -> str | None:
    if raw.get("error") or raw.get("errors"):
        return "it reports an error"
    if expected == "job":
        return _job_problem(raw, job_id)
    return "not a chunk" if expected == "chunk" and raw and not _CHUNK_FIELDS & raw.keys() else None


def _job_problem(raw: Mapping[str, Any], job_id: str | None) -> str | None:
    if raw and not {"id", "status"} & raw.keys():
        return "not a job"
    if raw.get("id") not in (None, job_id):
        return "another job"
    return None if raw.get("status") in (None, *JobStatus) else "not the status of a job"


def header(headers: Mapping[str, str], name: str) -> str | None:
    """Return a header by its lowercase name, whatever its case in `headers`; None if it is missing."""
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _load(body: bytes, operation: str, status: int) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        error = _unusable(operation, status, "it is not JSON")
    raise error  # outside the handler: a chained JSONDecodeError would hold the whole body


def _require_object(raw: Any, operation: str, status: int) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise_unusable(operation, status, "it is not a JSON object")
    return raw


def _text(raw: Any) -> str:
    """Return a value as text that can be stored: half of a surrogate pair is written as an escape."""
    return storable(str(raw or ""))


def raise_unusable(operation: str, status: int, reason: str) -> NoReturn:
    """Raise the error for a response that does not parse.

    Raises:
        UnexpectedResponseError: Always.
    """
    raise _unusable(operation, status, reason)


def _unusable(operation: str, status: int, reason: str) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        f"{operation}: the response cannot be used, {reason}",
        status=status,
        hint="check that the URL is that of a Celonis team, and that nothing in between modifies responses",
    )
