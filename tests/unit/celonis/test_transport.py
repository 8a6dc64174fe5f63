"""The client against a real HTTP server: what it sends, and how it handles each response."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time

import pytest
from aiohttp import web

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import AppKey, OAuthClient, UserApiKey
from pushengine.model import JobStatus, Payload, TableColumn, Target
from pushengine.runtime.clock import SystemClock

OAUTH = OAuthClient("client", "the-secret")
COLUMNS = [TableColumn("ID", "INTEGER"), TableColumn("NAME", "STRING", 40)]
JOBS = "/data-ingestion/api/v1/data-push/pool/jobs"


def payload_of(data, chunk_id="000001"):
    return Payload(chunk_id, memoryview(data), 1, (0, 1), {})


class Team:
    """A server that records requests and responds with the result of a function."""

    def __init__(self):
        self.requests = []
        self.respond = lambda _request, _body: web.json_response({"id": "J", "status": "NEW"})
        self.tokens = 0

    async def handle(self, request):
        if request.path == "/oauth2/token":
            self.tokens += 1
            return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": 899, "scope": "granted"})
        body = await request.read()
        self.requests.append((request.method, request.path_qs, request.headers.copy(), body))
        response = self.respond(request, body)
        return await response if asyncio.iscoroutine(response) else response


@pytest.fixture
async def team():
    team = Team()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", team.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    team.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield team
    await runner.cleanup()


@pytest.fixture
async def connect(team):
    async with contextlib.AsyncExitStack() as stack:

        def build(credentials=None, *, pool_id="pool", clock=None, on_server_date=None, **settings):
            client = DataPushClient(
                f"http://{team.address}",
                pool_id,
                credentials or UserApiKey("key"),
                settings=EngineSettings(**settings),
                clock=clock or SystemClock(),
                on_server_date=on_server_date,
            )
            stack.push_async_callback(client.aclose)
            return client

        yield build


# ----------------------------------------------------------------------------------------------------------- requests


async def test_every_operation_sends_its_method_and_path(team, connect):
    client = connect()
    responses = {
        ("POST", f"{JOBS}/"): {"id": "J", "status": "NEW"},
        ("GET", f"{JOBS}/"): [{"id": "J", "status": "DONE"}],
        ("GET", f"{JOBS}/J"): {"id": "J", "status": "RUNNING"},
        ("GET", f"{JOBS}/J/chunks"): [{"id": "C", "type": "UPSERT"}],
        ("GET", "/api/cloud/team"): {"domain": "acme"},
    }
    team.respond = lambda request, _body: web.json_response(responses.get((request.method, request.path), {}))
    assert (await client.create_job(Target("T"), COLUMNS)).id == "J"
    assert [job.status for job in await client.list_jobs()] == [JobStatus.DONE]
    assert (await client.get_job("J")).status is JobStatus.RUNNING
    await client.upload_chunk("J", payload_of(b"x"), "UPSERT")
    await client.upload_chunk("J", payload_of(b"x"), "DELETE")
    assert [chunk.id for chunk in await client.list_chunks("J")] == ["C"]
    await client.submit_job("J", duplicate_removal_column="A+B &C")
    await client.submit_job("J", duplicate_removal_column=None)
    await client.delete_job("J")
    assert await client.check_team() == {"domain": "acme"}
    assert [(method, path) for method, path, _, _ in team.requests] == [
        ("POST", f"{JOBS}/"),
        ("GET", f"{JOBS}/"),
        ("GET", f"{JOBS}/J"),
        ("POST", f"{JOBS}/J/chunks/upserted"),
        ("POST", f"{JOBS}/J/chunks/deleted"),
        ("GET", f"{JOBS}/J/chunks"),
        ("POST", f"{JOBS}/J?duplicateRemovalColumn=A%2BB%20%26C"),
        ("POST", f"{JOBS}/J"),
        ("DELETE", f"{JOBS}/J"),
        ("GET", "/api/cloud/team"),
    ]
    assert {headers["Authorization"] for _, _, headers, _ in team.requests} == {"Bearer key"}
    assert json.loads(team.requests[0][3])["tableSchema"]["columns"][1]["fieldLength"] == 40
    assert team.requests[6][3] == b""


async def test_ids_are_percent_encoded_and_the_old_base_path_can_be_chosen(team, connect):
    client = connect(pool_id=" pool one ", base_path="integration")
    with pytest.raises(errors.UnexpectedResponseError, match="another job"):  # the server knows only one
        await client.get_job("a/b%2F?x#ü")
    assert team.requests[0][1] == "/integration/api/v1/data-push/pool%20one/jobs/a%2Fb%252F%3Fx%23%C3%BC"


@pytest.mark.parametrize("credentials", [AppKey("app"), UserApiKey("app"), OAUTH], ids=["app key", "api key", "oauth"])
async def test_credentials_are_sent_with_their_scheme(team, connect, credentials):
    client = connect(credentials)
    await client.get_job("J")
    expected = {AppKey: "AppKey app", UserApiKey: "Bearer app", OAuthClient: "Bearer token-1"}[type(credentials)]
    assert team.requests[0][2]["Authorization"] == expected
    assert await client.probe_token() == ("granted" if credentials is OAUTH else None)
    assert team.tokens == (credentials is OAUTH)


async def test_the_team_is_the_host_of_the_url(connect, team):
    assert connect().team == team.address
    assert DataPushClient("https://acme.eu-1.celonis.cloud", "p", OAUTH).team == "acme.eu-1.celonis.cloud"


@pytest.mark.parametrize("pool_id", ["", " ", "a/b", "a\nb"])
def test_an_invalid_pool_id_is_refused(pool_id):
    with pytest.raises(errors.ConfigError) as caught:
        DataPushClient("https://acme", pool_id, OAUTH)
    assert caught.value.key == "pool_id"


@pytest.mark.parametrize("url", ["http://acme.example/oauth2/token", "not a url"])
def test_a_token_url_is_validated_like_a_team_url(url):
    with pytest.raises(errors.ConfigError) as caught:
        DataPushClient("https://acme", "pool", OAuthClient("c", "s", token_url=url))
    assert caught.value.key == "token_url"


async def test_no_credentials_are_taken_from_netrc(team, connect, monkeypatch, tmp_path):
    """aiohttp's trust_env would send these instead of the configured ones, or fail because there are two."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login mallory password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await connect(OAUTH).get_job("J")
    assert team.requests[0][2]["Authorization"] == "Bearer token-1"


async def test_loopback_is_never_sent_through_a_proxy(team, connect, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await connect().get_job("J")).id == "J"


# -------------------------------------------------------------------------------------------------------- create, delete


def listed(*, age=0.0, **changes):
    modified = None if age is None else int((time.time() - age) * 1000)
    return {"id": "J1", "status": "NEW", "targetName": "T", "type": "REPLACE", "lastModified": modified, **changes}


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        ([{}, {"id": "J0", "age": 3600}, {"id": "X", "targetName": "U"}, {"id": "Y", "status": "DONE"}], "J1"),
        ([{}, {"id": "J2"}], None),
        ([{"age": None}], None),
        ([{"age": 3600}], None),
        ([{"type": "DELTA"}], None),
        ([], None),
    ],
    ids=["one match", "two matches", "unknown age", "older", "another type", "none"],
)
async def test_a_job_created_by_a_201_without_a_body_is_found_only_if_exactly_one_matches(team, connect, jobs, found):
    team.respond = lambda request, _body: (
        web.Response(status=201) if request.method == "POST" else web.json_response([listed(**job) for job in jobs])
    )
    create = connect().create_job(Target("T"), COLUMNS)
    if found:
        assert (await create).id == found
    else:
        with pytest.raises(errors.OutcomeUnknownError):
            await create


async def test_a_201_with_a_location_names_the_job(team, connect):
    team.respond = lambda request, _body: (
        web.Response(status=201, headers={"Location": f"{JOBS}/J%207"})
        if request.method == "POST"
        else web.json_response({"id": request.path.rpartition("/")[2], "status": "NEW"})
    )
    assert (await connect().create_job(Target("T"), COLUMNS)).id == "J 7"


async def test_a_create_response_that_cannot_be_parsed_leaves_the_outcome_unknown(team, connect):
    team.respond = lambda _request, _body: web.json_response({"status": "NEW"})
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await connect().create_job(Target("T"), COLUMNS)
    assert caught.value.disposition == "outcome_unknown"


async def test_deleting_a_job_that_is_already_gone_succeeds(team, connect):
    team.respond = lambda _request, _body: web.Response(status=404)
    await connect().delete_job("J")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_accepts_upload_submit_and_delete(team, connect, status):
    team.respond = lambda _request, _body: web.Response(status=status)
    client = connect()
    await client.upload_chunk("J", payload_of(b"x"), "UPSERT")
    await client.submit_job("J", duplicate_removal_column=None)
    await client.delete_job("J")


# -------------------------------------------------------------------------------------------------------- authentication


async def test_a_401_leads_to_one_new_token_and_one_replay(team, connect):
    def respond(request, body):
        fresh = request.headers["Authorization"] == "Bearer token-2"
        return web.json_response({"id": "J", "status": "NEW"}) if fresh else web.Response(status=401)

    team.respond = respond
    client = connect(OAUTH)
    await client.upload_chunk("J", payload_of(b"data" * 1000), "UPSERT")
    assert len(team.requests) == 2
    assert b"data" * 1000 in team.requests[1][3]
    await client.submit_job("J", duplicate_removal_column=None)
    assert (len(team.requests), team.tokens) == (3, 2)


async def test_a_second_401_is_final(team, connect):
    team.respond = lambda _request, _body: web.Response(status=401)
    with pytest.raises(errors.AuthenticationError):
        await connect(OAUTH).create_job(Target("T"), COLUMNS)
    assert (len(team.requests), team.tokens) == (2, 2)


async def test_concurrent_calls_that_get_a_401_share_one_new_token(team, connect):
    def respond(request, body):
        fresh = request.headers["Authorization"] == "Bearer token-2"
        return web.json_response({"id": "J", "status": "NEW"}) if fresh else web.Response(status=401)

    team.respond = respond
    client = connect(OAUTH)
    await asyncio.gather(*(client.get_job("J") for _ in range(20)))
    assert team.tokens == 2


async def test_a_401_for_a_static_key_is_final(team, connect):
    team.respond = lambda _request, _body: web.Response(status=401)
    with pytest.raises(errors.AuthenticationError):
        await connect().get_job("J")
    assert len(team.requests) == 1


# ------------------------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_reported_and_not_followed(team, connect, status):
    location = "https://evil.example/path?token=abc"
    team.respond = lambda _request, _body: web.Response(status=status, headers={"Location": location})
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await connect().submit_job("J", duplicate_removal_column=None)
    assert "evil.example" in str(caught.value)
    assert "token=abc" not in str(caught.value)
    assert caught.value.disposition == "outcome_unknown"  # a redirect does not prove whether the submit took effect
    assert len(team.requests) == 1


FOREIGN_BODIES = {
    "a login page": "<!DOCTYPE html><html><title>Sign in</title></html>",
    "a login page after whitespace": "\r\n  <html>Sign in</html>",
    "plain text": "Please sign in",
    "a JSON error": '{"error": "Unauthorized"}',
    "a list of errors": '{"errors": [{"error": "login required"}]}',
    "truncated JSON": '{"id": "J", "status": "QUEU',
}
ACKNOWLEDGED = {
    "submit": (
        ["", " \n", '{"id": "J", "status": "QUEUED"}', '{"status": "NEW"}', '{"id": "J"}'],
        [
            *('{"message": "hello"}', "[]", "null", '{"status": "UP"}', '{"status": 200, "message": "sign in"}'),
            *('{"id": "session-1"}', '{"id": "J", "status": "FAILED"}', '{"id": "other", "status": "QUEUED"}'),
        ],
    ),
    "upload": (
        ["", '{"id": "c1", "checksum": "00"}', '{"type": "UPSERT"}', "{}"],
        ['{"message": "hello"}', "[1]", '"ok"'],
    ),
    "delete": (["", "{}", "null", '{"id": "J"}', "[]"], []),
}
CALLS = {
    "submit": lambda client: client.submit_job("J", duplicate_removal_column=None),
    "upload": lambda client: client.upload_chunk("J", payload_of(b"x"), "UPSERT"),
    "delete": lambda client: client.delete_job("J"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_body_that_is_not_from_the_platform_acknowledges_nothing(team, connect, call):
    """A proxy that requests its own password also responds with 200."""
    client = connect()
    good, bad = ACKNOWLEDGED[call]
    for body in good:
        team.respond = lambda _request, _body, text=body: web.Response(text=text)
        await CALLS[call](client)
    for body in [*FOREIGN_BODIES.values(), *bad]:
        team.respond = lambda _request, _body, text=body: web.Response(text=text)
        with pytest.raises(errors.UnexpectedResponseError, match="not from the platform") as caught:
            await CALLS[call](client)
        assert caught.value.disposition == ("transient" if call == "delete" else "outcome_unknown"), body
        assert "proxy" in caught.value.hint


@pytest.mark.parametrize("body", ["", *FOREIGN_BODIES.values()])
async def test_a_read_whose_body_is_not_from_the_platform_is_transient(team, connect, body):
    client = connect()
    team.respond = lambda _request, _body: web.Response(text=body)
    for read in (client.get_job("J"), client.list_jobs(), client.list_chunks("J")):
        with pytest.raises(errors.UnexpectedResponseError) as caught:
            await read
        assert caught.value.disposition == "transient"


async def test_the_size_of_a_response_is_bounded(team, connect, monkeypatch):
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 65536)
        return response

    team.respond = lambda request, _body: endless(request)
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await connect().get_job("J")
    assert caught.value.disposition == "terminal"
    assert "4194304" in str(caught.value)


async def test_lists_may_be_larger_than_other_responses(team, connect):
    jobs = [{"id": f"J{n}", "status": "DONE", "logs": ["x" * 1000]} for n in range(6000)]
    text = json.dumps(jobs)
    team.respond = lambda _request, _body: web.Response(text=text, content_type="application/json")
    assert len(await connect().list_jobs()) == 6000


@pytest.mark.parametrize(
    ("call", "disposition"),
    [
        (lambda client: client.get_job("J"), "transient"),
        (lambda client: client.list_chunks("J"), "transient"),
        (lambda client: client.create_job(Target("T"), COLUMNS), "outcome_unknown"),
    ],
    ids=["get", "list", "create"],
)
async def test_an_html_page_instead_of_json_is_reported(team, connect, call, disposition):
    team.respond = lambda _request, _body: web.Response(text="<html>maintenance</html>", content_type="text/html")
    with pytest.raises(errors.UnexpectedResponseError) as caught:
        await call(connect())
    assert caught.value.disposition == disposition


@pytest.mark.parametrize(
    ("call", "disposition"),
    [
        (lambda client: client.get_job("J"), "transient"),
        (lambda client: client.delete_job("J"), "transient"),
        (lambda client: client.create_job(Target("T"), COLUMNS), "outcome_unknown"),
        (lambda client: client.upload_chunk("J", payload_of(b"x"), "UPSERT"), "outcome_unknown"),
        (lambda client: client.submit_job("J", duplicate_removal_column=None), "outcome_unknown"),
    ],
    ids=["get", "delete", "create", "upload", "submit"],
)
async def test_a_5xx_is_transient_for_idempotent_calls_and_unknown_for_others(team, connect, call, disposition):
    team.respond = lambda _request, _body: web.json_response({"reference": "R-1", "message": "boom"}, status=502)
    with pytest.raises(errors.ServerError) as caught:
        await call(connect())
    assert caught.value.disposition == disposition
    assert caught.value.request_id == "R-1"
    assert team.address in str(caught.value)


async def test_a_429_carries_its_wait(team, connect):
    team.respond = lambda _request, _body: web.Response(status=429, headers={"Retry-After": "7"})
    with pytest.raises(errors.RateLimitedError) as caught:
        await connect().submit_job("J", duplicate_removal_column=None)
    assert caught.value.retry_after_seconds == 7


async def test_a_failing_token_endpoint_does_not_make_a_submit_unknown(team, connect):
    async def broken(request):
        return web.Response(status=503)

    team.handle_token = broken
    client = connect(OAuthClient("c", "s", token_url=f"http://{team.address}/other/token"))
    team.respond = lambda _request, _body: web.Response(status=503)
    with pytest.raises(errors.ServerError) as caught:
        await client.submit_job("J", duplicate_removal_column=None)
    assert caught.value.disposition == "transient"
    assert [path for _, path, _, _ in team.requests] == ["/other/token"]


async def test_each_response_reports_the_servers_time(team, connect):
    seen = []
    team.respond = lambda _request, _body: web.json_response(
        {"id": "J", "status": "NEW"}, headers={"Date": "Sun, 01 Mar 2026 13:46:00 GMT"}
    )
    client = connect(on_server_date=lambda server, local: seen.append((server, local)))
    before = time.monotonic()
    await client.get_job("J")
    await client.upload_chunk("J", payload_of(bytes(1 << 20)), "UPSERT")
    assert [server for server, _ in seen] == [1772372760.0] * 2
    assert all(before <= local <= time.monotonic() for _, local in seen)


async def test_a_slow_response_reports_no_time(team, connect):
    """In a long call it is not known when the server set the Date header."""

    class Leaping(SystemClock):
        def __init__(self):
            self.ahead = 0.0

        def monotonic(self):
            return super().monotonic() + self.ahead

    clock, seen = Leaping(), []

    def respond(request, body):
        clock.ahead += 60
        return web.json_response({"id": "J", "status": "NEW"})

    team.respond = respond
    await connect(clock=clock, on_server_date=lambda *pair: seen.append(pair)).get_job("J")
    assert not seen


# --------------------------------------------------------------------------------------------------------------- lifetime


async def test_a_closed_client_refuses_calls(connect, team):
    client = connect()
    await client.get_job("J")
    await client.aclose()
    await client.aclose()
    assert "closed" in repr(client)
    with pytest.raises(errors.EngineClosedError):
        await client.get_job("J")


async def test_connections_are_reused_between_calls(connect, team):
    ports = []
    team.respond = lambda request, _body: (
        ports.append(request.transport.get_extra_info("peername")[1]),
        web.json_response({"id": "J", "status": "NEW"}),
    )[1]
    client = connect()
    await client.get_job("J")
    await client.upload_chunk("J", payload_of(b"x"), "UPSERT")
    await client.get_job("J")
    assert len(set(ports)) == 1


async def test_every_connection_has_tcp_keepalive_and_a_user_timeout(connect, team):
    client = connect()
    await client.get_job("J")
    (sock,) = client._transport._sockets
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 55_000
        idle, interval, probes = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * probes < 60


async def test_closing_ends_calls_in_flight(connect, team):
    arrived = asyncio.Event()

    async def never(request):
        arrived.set()
        await asyncio.Event().wait()

    team.respond = lambda request, _body: never(request)
    client = connect()
    call = asyncio.create_task(client.get_job("J"))
    await arrived.wait()
    await client.aclose()
    with pytest.raises((errors.TransportError, errors.EngineClosedError)):
        await call
