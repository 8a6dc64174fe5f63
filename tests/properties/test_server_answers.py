"""Whatever a server answers to whichever call: an error of pushengine or a result, in time, in bounded memory, and without secrets."""

import asyncio
import dataclasses
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.answers import ANSWERS, BOMB, CLIENT_SECRET, GRANT, SECRET, SECRETS, TOKEN, answer_of

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import OAuthClient, UserApiKey
from pushengine.model import Payload, TableColumn, Target

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
