"""Whatever a server answers to whichever call: an error of pushengine or a result, in time, in bounded memory, and without secrets."""

import asyncio
import base64
import dataclasses
import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import OAuthClient, UserApiKey
from pushengine.model import Payload, TableColumn, Target

SECRET, CLIENT_SECRET, TOKEN = "secret-7f3a9c", "client-secret-51d2", "token-b8e0"
SECRETS = (SECRET, CLIENT_SECRET, TOKEN, base64.b64encode(f"client:{CLIENT_SECRET}".encode()).decode())
SECONDS = 20.0
"""Far more than the sum of the time limits of a call."""
SETTINGS = EngineSettings(connect_timeout_seconds=1.0, read_timeout_seconds=0.1, stall_timeout_seconds=0.3)
MAX_BYTES = 48 * 1024 * 1024
CALLS = {
    "create": lambda client: client.create_job(Target("T"), [TableColumn("A", "INTEGER")]),
    "get": lambda client: client.get_job("J"),
    "jobs": lambda client: client.list_jobs(),
    "delete": lambda client: client.delete_job("J"),
    "upload": lambda client: client.upload_chunk(
        "J", Payload("000001", memoryview(b"A\n1\n"), 1, (0, 1), {}), "UPSERT"
    ),
    "chunks": lambda client: client.list_chunks("J", limit=5),
    "submit": lambda client: client.submit_job("J", duplicate_removal_column=None),
    "columns": lambda client: client.table_columns("T", None),
    "team": lambda client: client.check_team(),
    "token": lambda client: client.probe_token(),
}

# --- Answers

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
GRANT = answer_of(200, {}, json.dumps({"access_token": TOKEN, "expires_in": 900}).encode(), "", "right")


class Connection(asyncio.Protocol):
    """Sends one answer to all requests, except those for a token if it grants them, and then closes or stays silent."""

    def __init__(self, answer, *, grants, stays, transports):
        self.answer, self.grants, self.stays = answer, grants, stays
        self.transports = transports
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport
        self.transports.append(transport)

    def data_received(self, data):
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if not end or len(body) < length:
            return
        self.received = b""
        self.transport.write(GRANT if self.grants and head.startswith(b"POST /oauth2/token") else self.answer)
        if not self.stays:
            self.transport.close()


async def called(call, answer, *, is_oauth, stays):
    """Make one call to a server and return its result or error."""
    transports = []
    listener = await asyncio.get_running_loop().create_server(
        lambda: Connection(answer, grants=is_oauth and call != "token", stays=stays, transports=transports),
        "127.0.0.1",
        0,
    )
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    credentials = OAuthClient("client", CLIENT_SECRET) if is_oauth or call == "token" else UserApiKey(SECRET)
    client = DataPushClient(url, "pool", credentials, settings=SETTINGS)
    try:
        async with asyncio.timeout(SECONDS):
            return await CALLS[call](client)
    except errors.PushEngineError as error:
        return error
    finally:
        await client.aclose()
        listener.close()
        for transport in transports:
            transport.abort()
        await listener.wait_closed()
        await asyncio.sleep(0)


def shown(error):
    """Return all that may be shown of an error."""
    chain, seen = error, []
    while chain is not None:
        seen += [str(chain), repr(chain), getattr(chain, "hint", ""), *getattr(chain, "__notes__", ())]
        if isinstance(chain, errors.PushEngineError):
            seen.append(repr({name: value for name, value in vars(chain).items() if not name.startswith("__")}))
        chain = chain.__cause__
    return "\n".join(seen)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(list(CALLS)), ANSWERS, st.booleans(), st.booleans())
@example("create", answer_of(201, {}, b'{"id": "\\ud800", "status": "NEW"}', "", "right"), False, False)
@example("get", answer_of(200, {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, b"{}", "gzip", "right"), False, False)
@example("get", answer_of(503, {"Retry-After": "9" * 400}, b"", "", "right"), False, False)
@example("get", answer_of(429, {"Retry-After": "nan", "X-RateLimit-Reset": "1e999"}, b"", "", "right"), False, False)
def test_any_answer_is_a_result_or_an_error_of_pushengine(call, answer, is_oauth, stays):
    outcome = asyncio.run(called(call, answer, is_oauth=is_oauth, stays=stays))
    if isinstance(outcome, errors.PushEngineError):
        text = shown(outcome)
        secrets = {SECRET} if not is_oauth and call != "token" else {*SECRETS} - {SECRET}
        if call == "token":
            secrets.discard(TOKEN)  # which only the answer would hold
        assert not [secret for secret in secrets if secret in text], text
    elif call in ("create", "get", "jobs", "chunks"):
        for one in outcome if isinstance(outcome, list) else [outcome]:
            repr(dataclasses.astuple(one)).encode()
            one.id.encode()
            "".join((one.type, *getattr(one, "logs", ()))).encode()


@pytest.mark.parametrize("call", ["jobs", "get"])
def test_a_text_that_is_nested_almost_too_deeply_to_be_parsed(call):
    """Making text of a value may need a deeper stack than parsing it."""
    for depth in range(900, 1000, 1 if call == "jobs" else 4):
        job = b'{"id": "J", "status": "NEW", "logs": [%s]}' % (b"[" * depth + b"]" * depth)
        answer = answer_of(200, {}, b"[%s]" % job if call == "jobs" else job, "", "right")
        asyncio.run(called(call, answer, is_oauth=False, stays=False))


BOMB = gzip.compress(b"[" + b" " * 400 * 1024 * 1024, 9)
"""400 kB that become 400 MB."""


@pytest.mark.parametrize("call", [call for call in CALLS if call != "token"])
@pytest.mark.parametrize("status", [200, 400])
def test_a_compressed_bomb_takes_bounded_memory(call, status):
    answer = answer_of(status, {}, b"", "", "none").replace(
        b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    )
    tracemalloc.start()
    try:
        outcome = asyncio.run(called(call, answer + BOMB, is_oauth=False, stays=False))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert outcome is None or isinstance(outcome, errors.PushEngineError)
    assert peak < MAX_BYTES
