"""Answers that a server might give to any call: garbage, cut, hostile or almost right, as the bytes of a response."""

import base64
import gzip
import json
import zlib

from hypothesis import strategies as st

SECRET, CLIENT_SECRET, TOKEN = "secret-7f3a9c", "client-secret-51d2", "token-b8e0"
SECRETS = (SECRET, CLIENT_SECRET, TOKEN, base64.b64encode(f"client:{CLIENT_SECRET}".encode()).decode())

TEXTS = st.sampled_from(["", "J", "NEW", "DONE", "\ud800", "\x1b[31m", "\r\n", "x" * 5000, *SECRETS]) | st.text(
    max_size=8
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 1e308, float("nan"), float("inf")])
FIELDS = st.sampled_from(
    [
        "id",
        "status",
        "logs",
        "targetName",
        "type",
        "lastModified",
        "checksum",
        "error",
        "errors",
        "message",
        "code",
        "access_token",
        "token_type",
        "expires_in",
        "scope",
        "error_description",
        "reference",
        "frontendErrorKey",
        "name",
        "length",
        "dataSourceId",
        "domain",
        "errorCode",
        "details",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS | TEXTS, inner, max_size=6),
    max_leaves=12,
)
GENUINE = st.fixed_dictionaries(
    {"id": TEXTS | VALUES, "status": st.sampled_from(["NEW", "DONE"]) | VALUES},
    optional=dict.fromkeys(("logs", "targetName", "type", "lastModified", "checksum", "name", "length"), VALUES),
)
JSON = (VALUES | GENUINE | st.lists(GENUINE, max_size=4)).map(lambda value: json.dumps(value).encode())
ODD = st.sampled_from(
    [
        b"",
        b" ",
        b"null",
        b"<html>maintenance</html>",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 50_000 + b"]" * 50_000,
        b"9" * 100_000,
        b'{"id": ' + b"9" * 100_000 + b"}",
        b'{"id": "\\ud800", "status": "NEW"}',
        b'[{"id": "\\ud800", "status": "NEW"}]',
        b"\xff\xfe[\x00",
        b"\x00" * 100,
        b"[{}" + b",{}" * 200_000 + b"]",
        b"[" + b"[]," * 200_000 + b"[]]",
    ]
)
BODIES = (
    JSON
    | ODD
    | st.binary(max_size=40)
    | st.builds(lambda body, cut: body[: cut % (len(body) + 1)], JSON, st.integers(0))
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Content-Type",
            "Date",
            "Retry-After",
            "Location",
            "WWW-Authenticate",
            "Set-Cookie",
            "X-RateLimit-Reset",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "Content-Language",
            "X-Request-Id",
            "traceparent",
        ]
    ),
    st.sampled_from(
        [
            *("", "nan", "-5", "1e999", "9" * 400, "inf", "0", "x" * 7000),
            *("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 Foo 20000 99:99:99 +9999"),
            *("application/json; charset=\x01", "text/html", "application/json;charset=utf-7"),
            *("http://[::1", "//", f"https://elsewhere.example/?token={TOKEN}", *SECRETS),
        ]
    ),
    max_size=5,
)
STATUSES = st.sampled_from(
    [200, 200, 200, 201, 202, 204, 206, 299, 301, 304, 307, 400, 401, 403, 404, 405, 407, 408]
) | st.sampled_from(
    [
        409,
        413,
        415,
        418,
        422,
        425,
        428,
        429,
        451,
        499,
        500,
        501,
        502,
        503,
        504,
        511,
        520,
        599,
        999,
        100,
        101,
        103,
        0,
        20000,
    ]
)
ENCODINGS = {
    "": lambda body: body,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "gzip that is none": lambda body: body,
    "br": lambda body: body,
    "unknown": lambda body: body,
}
LENGTHS = st.sampled_from(
    ["right", "right", "right", "none", "too long", "too short", "huge", "negative", "text", "chunked", "bad chunks"]
)


def answer_of(status, headers, body, encoding, length):
    """Return the bytes of a response."""
    body = ENCODINGS[encoding](body)
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    if encoding:
        lines.append(f"Content-Encoding: {encoding.split()[0]}")
    lengths = {
        "right": len(body),
        "too long": len(body) + 10,
        "too short": max(len(body) - 3, 0),
        "huge": 10**15,
        "negative": -1,
        "text": "many",
    }
    if length in lengths:
        lines.append(f"Content-Length: {lengths[length]}")
    if length in ("chunked", "bad chunks"):
        lines.append("Transfer-Encoding: chunked")
        size = f"{len(body):x}" if length == "chunked" else "zz"
        body = size.encode() + b"\r\n" + body + b"\r\n" + (b"0\r\n\r\n" if body else b"\r\n")
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


ANSWERS = st.builds(answer_of, STATUSES, HEADERS, BODIES, st.sampled_from(list(ENCODINGS)), LENGTHS) | st.binary(
    max_size=60
)
BOMB = gzip.compress(b"[" + b" " * 400 * 1024 * 1024, 9)
"""400 kB that become 400 MB."""
GRANT = answer_of(200, {}, json.dumps({"access_token": TOKEN, "expires_in": 900}).encode(), "", "right")
