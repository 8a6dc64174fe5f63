from __future__ import annotations

import base64
import datetime as dt
import json

import pytest

from pushengine import errors, redaction
from pushengine.celonis import error_responses, oauth, wire
from pushengine.credentials import OAuthClient
from pushengine.model import JobStatus, TableColumn, Target

COLUMNS = [TableColumn("ID", "INTEGER"), TableColumn("Name", "STRING", 120), TableColumn("Long", "STRING", 70_000)]
NOW = dt.datetime(2026, 3, 1, 13, 45, 30, tzinfo=dt.UTC).timestamp()


def error_of(status, body=b"", headers=None, **keywords):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_responses.parse_error(
        status, headers or {}, raw, operation="submit job J at acme", now=NOW, **keywords
    )


# ---------------------------------------------------------------------------------------------------------------- requests


def test_create_sends_the_whole_schema():
    target = Target("VBAK", "upsert", keys=("id",), connection_id="con")
    request = wire.build_create_job("pool", target, COLUMNS)
    assert (request.method, request.target) == ("POST", "/data-ingestion/api/v1/data-push/pool/jobs/")
    assert request.json == {
        "targetName": "VBAK",
        "dataPoolId": "pool",
        "connectionId": "con",
        "type": "DELTA",
        "fileType": "PARQUET",
        "keys": ["id"],
        "fallbackVarcharLength": 65_000,
        "tableSchema": {
            "tableName": "VBAK",
            "columns": [
                {"columnName": "ID", "columnType": "INTEGER", "pkField": True},
                {"columnName": "Name", "columnType": "STRING", "fieldLength": 120, "pkField": False},
                {"columnName": "Long", "columnType": "STRING", "fieldLength": 70_000, "pkField": False},
            ],
        },
    }


def test_create_omits_what_is_not_set():
    request = wire.build_create_job("pool", Target("T"), COLUMNS[:1], base_path="integration")
    assert request.path == "/integration/api/v1/data-push/pool/jobs/"
    assert request.json["type"] == "REPLACE"
    assert request.json["keys"] == []
    assert not {"connectionId", "fallbackVarcharLength", "csvParsingOptions"} & set(request.json)


def test_create_sets_every_csv_parsing_option():
    options = wire.build_create_job("pool", Target("T", file_type="CSV"), COLUMNS).json["csvParsingOptions"]
    assert options == {
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


JOBS = "/data-ingestion/api/v1/data-push/pool/jobs"


@pytest.mark.parametrize(
    ("request_", "method", "target"),
    [
        (wire.build_list_jobs("pool"), "GET", f"{JOBS}/"),
        (wire.build_get_job("pool", "J"), "GET", f"{JOBS}/J"),
        (wire.build_submit_job("pool", "J"), "POST", f"{JOBS}/J"),
        (
            wire.build_submit_job("pool", "J", duplicate_removal_column="A &B"),
            "POST",
            f"{JOBS}/J?duplicateRemovalColumn=A%20%26B",
        ),
        (wire.build_delete_job("pool", "J"), "DELETE", f"{JOBS}/J"),
        (wire.build_upload_chunk("pool", "J", "UPSERT"), "POST", f"{JOBS}/J/chunks/upserted"),
        (wire.build_upload_chunk("pool", "J", "DELETE"), "POST", f"{JOBS}/J/chunks/deleted"),
        (wire.build_list_chunks("pool", "J"), "GET", f"{JOBS}/J/chunks"),
        (wire.build_list_tables("pool"), "GET", "/integration/api/pools/pool/tables"),
        (wire.build_list_columns("pool", "T", None), "GET", "/integration/api/pools/pool/columns?tableName=T"),
        (
            wire.build_list_columns("p/x", "Straße&T", "c 1"),
            "GET",
            "/integration/api/pools/p%2Fx/columns?tableName=Stra%C3%9Fe%26T&schemaName=c%201",
        ),
        (
            wire.build_get_job("p/../x", "a b?c#d"),
            "GET",
            "/data-ingestion/api/v1/data-push/p%2F..%2Fx/jobs/a%20b%3Fc%23d",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_operation_has_its_method_and_path(request_, method, target):
    assert (request_.method, request_.target) == (method, target)


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused(segment):
    with pytest.raises(errors.ConfigError):
        wire.build_get_job("pool", segment)


def test_token_requests_with_both_authentication_methods():
    client = OAuthClient("id:1", "s/+", scope="a b")
    basic = oauth.build_token_request(client, "basic")
    assert basic.form == {"grant_type": "client_credentials", "scope": "a b"}
    assert base64.b64decode(basic.authorization.removeprefix("Basic ")) == b"id%3A1:s%2F%2B"
    post = oauth.build_token_request(client, "post")
    assert post.authorization is None
    assert post.form == {
        "grant_type": "client_credentials",
        "scope": "a b",
        "client_id": "id:1",
        "client_secret": "s/+",
    }
    assert "s/+" not in repr(post) + repr(basic)
    assert "scope" not in oauth.build_token_request(OAuthClient("i", "s", scope=""), "basic").form


# -------------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "origin", "team"),
    [
        ("https://acme.eu-1.celonis.cloud", "https://acme.eu-1.celonis.cloud", "acme.eu-1.celonis.cloud"),
        (" https://ACME.eu-1.celonis.cloud:443/ ", "https://acme.eu-1.celonis.cloud", "acme.eu-1.celonis.cloud"),
        ("https://acme:8443", "https://acme:8443", "acme:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://localhost", "http://localhost", "localhost"),
        ("http://[::1]:99", "http://[::1]:99", "[::1]:99"),
    ],
)
def test_the_team_is_the_host_of_its_url(url, origin, team):
    assert wire.parse_team_url(url) == (origin, team)


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.eu-1.celonis.cloud",
        "http://10.0.0.1",
        "http://localhost.evil.example",
        "acme.eu-1.celonis.cloud",
        "ftp://acme",
        "",
        "https://",
        "https://user:p4ss@acme",
        "https://acme/ui/package",
        "https://acme?x=1",
        "https://acme:port",
        "https://[::1",
        "https://ac me",
        "https://acme\x00",
    ],
)
def test_a_url_that_must_not_receive_credentials_is_refused(url):
    with pytest.raises(errors.ConfigError) as caught:
        wire.parse_team_url(url)
    assert caught.value.key == "url"
    assert "p4ss" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- responses


def parse_job(raw):
    return wire.parse_job(json.dumps(raw).encode(), operation="read job J")


def test_a_job_may_have_unknown_fields_and_lack_optional_ones():
    assert parse_job({"id": "J", "status": "NEW", "surprise": {"x": 1}}).status is JobStatus.NEW
    job = parse_job(
        {"id": "J", "status": "ERROR", "targetName": "T", "type": "DELTA", "logs": ["a", "b"], "lastModified": 0}
    )
    assert (job.target_name, job.type, job.logs) == ("T", "DELTA", ("a", "b"))
    assert job.last_modified == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert parse_job({"id": "J", "status": "DONE", "logs": "one line"}).logs == ("one line",)


@pytest.mark.parametrize(
    "raw",
    [
        {"status": "NEW"},
        {"id": "", "status": "NEW"},
        {"id": 7, "status": "NEW"},
        {"id": "J"},
        {"id": "J", "status": "PAUSED"},
        [],
        None,
        "J",
    ],
    ids=repr,
)
def test_an_invalid_job_is_unexpected(raw):
    with pytest.raises(errors.UnexpectedResponseError):
        parse_job(raw)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff\xfe", b"[" * 100_000], ids=lambda body: repr(body[:6]))
@pytest.mark.parametrize("parse", [wire.parse_job, wire.parse_object, oauth.parse_token])
def test_a_body_that_is_not_json_is_unexpected(parse, body):
    with pytest.raises(errors.UnexpectedResponseError):
        parse(body, operation="op")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_700_000_000_123, "2023-11-14T22:13:20.123000+00:00"),
        ("1700000000123", "2023-11-14T22:13:20.123000+00:00"),
        ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:20.123000+00:00"),
        ("2023-11-14T23:13:20+01:00", "2023-11-14T23:13:20+01:00"),
        ("2023-11-14T22:13:20", "2023-11-14T22:13:20+00:00"),
        (None, None),
        (True, None),
        ("soon", None),
        (10**30, None),
        ({}, None),
    ],
    ids=repr,
)
def test_datetimes_come_as_epoch_milliseconds_or_iso(value, expected):
    parsed = wire.parse_datetime(value)
    assert (parsed.isoformat() if parsed else None) == expected


@pytest.mark.parametrize(
    ("raw", "lifetime"), [({"expires_in": 899}, 899.0), ({"expires_in": "899"}, 899.0), ({}, 300.0)], ids=repr
)
def test_a_token_response_has_a_token_and_its_lifetime(raw, lifetime):
    grant = oauth.parse_token(json.dumps({"access_token": "tok", "scope": "s", **raw}).encode(), operation="op")
    assert (grant.access_token, grant.lifetime_seconds, grant.scope) == ("tok", lifetime, "s")
    assert "tok" not in repr(grant)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"access_token": ""},
        {"access_token": "a b"},
        {"access_token": "a\r\nX: y"},
        {"access_token": "tök"},
        {"access_token": "tok", "token_type": "mac"},
        {"access_token": "tok", "expires_in": 0},
        {"access_token": "tok", "expires_in": "never"},
        {"access_token": "tok", "expires_in": True},
    ],
    ids=repr,
)
def test_an_unusable_token_response_is_unexpected_and_not_quoted(raw):
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        oauth.parse_token(json.dumps(raw).encode(), operation="op")
    assert "tok" not in str(caught.value).replace("access_token", "").replace("token_type", "")


# ------------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (401, errors.AuthenticationError, "AppKey"),
        (403, errors.PermissionDeniedError, "integration.data-pools:data_push"),
        (404, errors.NotFoundError, "data pool id"),
        (409, errors.ConflictError, "another job"),
        (413, errors.PayloadTooLargeError, "chunk_bytes"),
        (429, errors.RateLimitedError, "quota"),
        (400, errors.InvalidRequestError, "rejects"),
        (418, errors.InvalidRequestError, "rejects"),
        (500, errors.ServerError, "again"),
        (503, errors.ServerError, "again"),
        (304, errors.UnexpectedResponseError, "URL"),
    ],
)
def test_each_status_has_its_error_and_remedy(status, kind, hint):
    error = error_of(status)
    assert type(error) is kind
    assert error.status == status
    assert hint in error.hint
    assert "submit job J at acme" in str(error)


@pytest.mark.parametrize(
    ("body", "text", "code", "request_id"),
    [
        (
            {"reference": "ref-1", "message": "An error", "shortMessage": "short"},
            "An error [reference ref-1]",
            None,
            "ref-1",
        ),
        ({"reference": "ref-1", "shortMessage": "short"}, "short", None, "ref-1"),
        (
            {"errors": [{"attribute": "keys", "error": "missing", "errorCode": "E1"}, {"error": "bad"}]},
            "keys: missing; bad [code E1]",
            "E1",
            None,
        ),
        (
            {"title": "Limit", "status": 429, "detail": "Try later", "errorCode": "LIMIT_RATE_EXCEEDED"},
            "Limit: Try later [code LIMIT_RATE_EXCEEDED]",
            "LIMIT_RATE_EXCEEDED",
            None,
        ),
        ({"error": "Unauthorized"}, "Unauthorized", None, None),
        ({"error": "invalid_scope", "error_description": "no"}, "invalid_scope: no", "invalid_scope", None),
        ([{"title": "In a list"}], "In a list", None, None),
        (b"plain text\r\nand more\x00\x1b[31m", "plain text and more [31m", None, None),
        (b"<html><head><title>502 Bad &amp; Gateway</title></head></html>", "502 Bad & Gateway", None, None),
        (b"<p>Nothing <script>evil()</script>here</p>", "Nothing here", None, None),
        (b"{broken", "{broken", None, None),
        (b"\xff\xfe\x80", "���", None, None),
        (b"", "", None, None),
        (b"[]", "", None, None),
        (b"[1]", "1", None, None),
        (b'{"errors": [1], "reference": "r"}', "", None, "r"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_all_known_shapes_of_error_bodies_are_parsed(body, text, code, request_id):
    error = error_of(400, body)
    assert text in error.message
    assert (error.code, error.request_id) == (code, request_id)
    if not text and not request_id:
        assert error.message == "submit job J at acme: status 400"


def test_the_reference_may_be_in_a_header():
    assert error_of(500, headers={"X-Request-ID": "abc\n1"}).request_id == "abc 1"


def test_a_long_text_is_cut():
    error = error_of(400, ("ä" * 5000).encode())
    assert len(error.message.encode()) < redaction.MAX_ERROR_TEXT_BYTES + 100
    assert error.message.endswith("…")


@pytest.mark.parametrize(
    "form", [lambda s: s, lambda s: base64.b64encode(s.encode()).decode(), lambda s: s.replace("/", "%2F")]
)
def test_a_secret_that_a_response_repeats_is_not_quoted(form):
    error = error_of(
        401,
        {"message": "bad key " + form("top/secret"), "errorCode": form("top/secret"), "reference": form("top/secret")},
        secrets=("", "top", "top/secret"),
    )
    assert form("top/secret") not in str(error) + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"Retry-After": "17"}, b"", 17),
        ({"retry-after": "1.5"}, b"", 1.5),
        ({"Retry-After": "-5"}, b"", 0),
        ({"Retry-After": "99999999"}, b"", 86_400),
        ({"Retry-After": "Sun, 01 Mar 2026 13:46:00 GMT"}, b"", 30),
        ({"Retry-After": "Sun, 01 Mar 2026 13:00:00 GMT"}, b"", 0),
        ({"Retry-After": "soon", "X-RateLimit-Reset": "40"}, b"", 40),
        ({"x-ratelimit-reset": str(NOW + 12)}, b"", 12),
        ({"x-ratelimit-reset": "nan"}, b"", None),
        ({}, {"detail": "Limit reached, try again at 14:00 UTC"}, 870),
        ({}, {"detail": "Limit reached, try again at 14:00:10"}, 880),
        ({}, {"detail": "retry after 2026-03-01T14:00:00Z please"}, 870),
        ({}, {"detail": "retry after 2026-03-01 13:00 please"}, 0),
        ({}, {"detail": "retry at 13:45:00"}, 0),
        ({}, {"detail": "retry at 00:15"}, 37_770),
        ({}, b"try 99:99 or 1:2:3:4", None),
        ({}, b"", None),
    ],
    ids=repr,
)
def test_the_wait_that_a_response_asks_for(headers, body, expected):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert error_responses.retry_after_seconds(headers, raw, NOW) == expected
    assert error_of(429, raw, headers).retry_after_seconds == expected


@pytest.mark.parametrize(
    ("status", "body", "code", "kind", "hint"),
    [
        (401, {"error": "invalid_client"}, "invalid_client", errors.AuthenticationError, "client secret"),
        (401, b"", "invalid_client", errors.AuthenticationError, "client secret"),
        (400, {"error": "invalid_scope"}, "invalid_scope", errors.AuthenticationError, "'the.scope'"),
        (
            400,
            {"error": "unauthorized_client"},
            "unauthorized_client",
            errors.AuthenticationError,
            "client credentials grant",
        ),
        (400, {"error": "other"}, None, errors.ForeignResponseError, "team URL"),
        (400, b"nothing", None, errors.ForeignResponseError, "team URL"),
        (403, b"<html>", None, errors.PermissionDeniedError, ""),
        (404, b"", None, errors.ForeignResponseError, "team URL"),
        (405, b"<html>", None, errors.ForeignResponseError, "team URL"),
        (407, b"", None, errors.AuthenticationError, "HTTPS_PROXY"),
        (408, b"", None, errors.InvalidRequestError, ""),
        (409, b"", None, errors.ForeignResponseError, "team URL"),
        (500, b"", None, errors.ServerError, ""),
        (501, b"", None, errors.ForeignResponseError, "team URL"),
        (429, b"", None, errors.RateLimitedError, ""),
    ],
)
def test_errors_of_the_token_endpoint_have_their_class_code_and_hint(status, body, code, kind, hint):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = wire.ApiResponse(status, {}, raw)
    assert error_responses.token_error_code(response) == code
    error = error_responses.parse_token_error(response, operation="get a token", scope="the.scope", now=NOW, secrets=())
    assert type(error) is kind
    assert hint in error.hint
