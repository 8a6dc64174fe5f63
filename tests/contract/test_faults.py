"""Every fault over real HTTP: what the caller sees, and the platform's state afterwards."""

import asyncio
import contextlib
import json
import math
import time
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from pushengine.emulator import EmulatorSettings, Fault, FaultPlan
from pushengine.emulator import faults as f

ROWS = {"a": [1]}
CUT_OFF = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.fixture
def broken(team):
    """Give the team's emulator a fault plan with one rule."""

    def _broken(operation, action, **limits):
        team.emulator.faults = [Fault(operation, action, **limits)]
        return team

    return _broken


async def filled_job(team, table="orders", kind="DELTA"):
    job_id = await team.new_job(table, kind)
    assert (await team.upload(job_id, ROWS)).status == 200
    return job_id


async def wait_until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def is_cut_off(call):
    """Return whether the call ends without a response."""
    with contextlib.suppress(*CUT_OFF):
        await call
        return False
    return True


@pytest.fixture
def single(team):
    """The team with a client that never retries by itself; by default, aiohttp retries GET and DELETE."""
    team.session._retry_connection = False
    return team


CALLS = {
    "create": lambda team, _: team.create("other"),
    "list": lambda team, _: team.request("GET", team.jobs_path),
    "get": lambda team, job_id: team.get(job_id),
    "submit": lambda team, job_id: team.submit(job_id),
    "delete": lambda team, job_id: team.delete(job_id),
    "upsert": lambda team, job_id: team.upload(job_id, ROWS),
    "delete_rows": lambda team, job_id: team.upload(job_id, ROWS, "deleted"),
    "list_chunks": lambda team, job_id: team.request("GET", f"{team.jobs_path}{job_id}/chunks"),
    "discovery": lambda team, _: team.request("GET", "/.well-known/openid-configuration"),
    "token": lambda team, _: team.request(
        "POST",
        "/oauth2/token",
        headers={},
        data={"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"},
    ),
    "team": lambda team, _: team.request("GET", "/api/team"),
    "user": lambda team, _: team.request("GET", "/api/cloud"),
    "permissions": lambda team, _: team.request("GET", "/api/cloud/permissions"),
    "list_pools": lambda team, _: team.request("GET", "/integration/api/pools"),
    "get_pool": lambda team, _: team.request("GET", "/integration/api/pools/pool-1"),
    "list_tables": lambda team, _: team.request("GET", "/integration/api/pools/pool-1/tables"),
    "list_columns": lambda team, _: team.request("GET", "/integration/api/pools/pool-1/columns?tableName=orders"),
}
"""Each operation as a call that succeeds on a keyed DELTA job with one chunk."""


async def world(team):
    """Return the platform's state: the table, number of submits and chunk types of each job."""
    jobs = team.emulator.service.jobs.values()
    return [(job.spec.target_name, job.submits, [chunk.type.value for chunk in job.chunks]) for job in jobs]


@pytest.fixture
async def job_id(single):
    job_id = await single.new_job("orders", "DELTA", keys=["a"])
    await single.upload(job_id, ROWS)
    return job_id


# Every operation can fail


def test_every_operation_has_a_call():
    assert set(CALLS) == set(f.Operation)


@pytest.mark.parametrize("operation", CALLS)
async def test_a_status_replaces_processing(single, job_id, operation):
    before = await world(single)
    single.emulator.faults = [Fault(operation, f.Status(503, {"error": "busy"}, {"X-Reason": "test"}))]
    response = await CALLS[operation](single, job_id)
    assert (response.status, response.json, response.headers["X-Reason"]) == (503, {"error": "busy"}, "test")
    assert response.headers["Content-Type"].startswith("application/json")
    assert await world(single) == before
    assert single.emulator.faults.fired == [(operation, 1, "status")]


@pytest.mark.parametrize("operation", CALLS)
async def test_a_call_dropped_before_processing_has_no_effect(single, job_id, operation):
    before = await world(single)
    single.emulator.faults = [Fault(operation, f.DropBefore())]
    assert await is_cut_off(CALLS[operation](single, job_id))
    assert await world(single) == before
    assert (operation, 1, "drop_before") in single.emulator.faults.fired


WRITES = {
    "create": [("orders", 0, ["UPSERT"]), ("other", 0, [])],
    "submit": [("orders", 1, ["UPSERT"])],
    "delete": [],
    "upsert": [("orders", 0, ["UPSERT", "UPSERT"])],
    "delete_rows": [("orders", 0, ["UPSERT", "DELETE"])],
}


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(
    "action", [f.DropAfter(), f.DropAfter(reset=True), f.CommitLate(0.02), f.CommitLate(0.02, reset=False)], ids=repr
)
async def test_a_call_cut_off_without_a_response_still_takes_effect(single, job_id, operation, action):
    single.emulator.faults = [Fault(operation, action, nth=1)]
    assert await is_cut_off(CALLS[operation](single, job_id))
    await wait_until(lambda: single.emulator.pending_commits == 0)
    assert await world(single) == WRITES[operation]


@pytest.mark.parametrize("operation", WRITES)
async def test_a_call_with_an_error_status_may_have_taken_effect(single, job_id, operation):
    single.emulator.faults = [Fault(operation, f.Status(500, "Internal error", after_commit=True))]
    response = await CALLS[operation](single, job_id)
    assert (response.status, response.content) == (500, b"Internal error")
    assert await world(single) == WRITES[operation]


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize("action", [f.Malformed(), f.Empty(), f.Truncated()], ids=repr)
async def test_a_call_with_an_unreadable_response_still_takes_effect(single, job_id, operation, action):
    single.emulator.faults = [Fault(operation, action)]
    if isinstance(action, f.Truncated):
        with pytest.raises(aiohttp.ClientPayloadError):
            await CALLS[operation](single, job_id)
    else:
        response = await CALLS[operation](single, job_id)
        assert (response.status, response.content) == (200, getattr(action, "body", "").encode())
    assert await world(single) == WRITES[operation]


@pytest.mark.parametrize("operation", ["get", "list", "list_chunks", "token"])
async def test_responses_to_read_calls_can_be_broken_too(single, job_id, operation):
    single.emulator.faults = [Fault(operation, f.Truncated(), nth=1), Fault(operation, f.Malformed(body="{"), nth=2)]
    with pytest.raises(aiohttp.ClientPayloadError):
        await CALLS[operation](single, job_id)
    response = await CALLS[operation](single, job_id)
    assert (response.status, response.content, response.headers["Content-Length"]) == (200, b"{", "1")
    assert (await CALLS[operation](single, job_id)).json


@pytest.mark.parametrize("operation", CALLS)
async def test_a_star_matches_every_operation(single, job_id, operation):
    single.emulator.faults = [Fault("*", f.Status(502))]
    response = await CALLS[operation](single, job_id)
    assert (response.status, response.content) == (502, b"")


async def test_a_rule_for_a_job_does_not_match_calls_without_a_job(single, job_id):
    single.emulator.faults = [Fault("*", f.Status(502), job=job_id)]
    statuses = {operation: (await CALLS[operation](single, job_id)).status for operation in CALLS}
    assert {operation for operation, status in statuses.items() if status == 502} == (
        {"get", "submit", "delete", "upsert", "delete_rows", "list_chunks"}
    )


# The calls that a rule applies to


async def statuses(team, count):
    return [(await team.request("GET", team.jobs_path)).status for _ in range(count)]


@pytest.mark.parametrize(
    ("limits", "hit"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"nth": 1}, [1]),
        ({"nth": [2, 5]}, [2, 5]),
        ({"after": 4}, [5, 6]),
        ({"every": 2}, [2, 4, 6]),
        ({"after": 1, "every": 3}, [4]),
        ({"times": 2}, [1, 2]),
        ({"after": 2, "times": 2}, [3, 4]),
        ({"probability": 0.0}, []),
    ],
    ids=repr,
)
async def test_a_rule_selects_the_calls_it_applies_to(broken, limits, hit):
    team = broken("list", f.Status(503), **limits)
    assert [index for index, status in enumerate(await statuses(team, 6), 1) if status == 503] == hit
    assert [nth for _, nth, _ in team.emulator.faults.fired] == hit
    assert team.emulator.faults.calls == {"list": 6}


async def test_a_seed_makes_probabilities_reproducible(team):
    runs = []
    for seed in (7, 7, 8):
        team.emulator.faults = FaultPlan([Fault("list", f.Status(503), probability=0.5)], seed=seed)
        runs.append(await statuses(team, 20))
    assert runs[0] == runs[1] != runs[2]
    assert 3 < runs[0].count(503) < 17


async def test_a_rule_may_apply_to_one_table(team):
    team.emulator.faults = [Fault("create", f.Status(503), table="ORDERS", nth=2)]
    tables = ["orders", "items", "Orders", "orders"]
    assert [(await team.create(table)).status for table in tables] == [200, 200, 503, 200]
    team.emulator.faults = [Fault("*", f.Status(503), table="orders")]
    jobs = (await team.request("GET", team.jobs_path)).json
    assert [(await team.get(job["id"])).status for job in jobs] == [503, 200, 503]


async def test_a_table_rule_ignores_creates_that_do_not_name_that_table(broken):
    team = broken("create", f.Status(503), table="orders")
    for body in (b"{", b"[]", b'{"targetName": 1}', b'{"targetName": "other"}'):
        assert (await team.request("POST", team.jobs_path, data=body)).status == 400


async def test_a_rule_may_apply_to_one_job(team):
    jobs = [await team.new_job(f"t{number}") for number in range(3)]
    team.emulator.faults = [Fault("get", f.Status(503), job=2), Fault("get", f.Status(504), job=jobs[2])]
    assert [(await team.get(job_id)).status for job_id in jobs] == [200, 503, 504]
    await team.delete(jobs[1])
    assert (await team.get(jobs[1])).status == 503, "a number stays with its job"


async def test_the_first_due_rule_acts_and_every_matching_rule_counts_the_call(team):
    team.emulator.faults = [
        Fault("list", f.Status(501), nth=2),
        Fault("*", f.Status(502), nth=[2, 3]),
        Fault("get", f.Status(503)),
    ]
    assert await statuses(team, 4) == [200, 501, 502, 200]
    assert team.emulator.faults.fired == [("list", 2, "status"), ("list", 3, "status")]


async def test_a_plan_can_be_replaced_while_the_emulator_runs(team):
    assert (await statuses(team, 1), team.emulator.faults.fired) == ([200], [])
    team.emulator.faults = FaultPlan([Fault("list", f.Status(503))])
    assert await statuses(team, 1) == [503]
    team.emulator.faults = None
    assert await statuses(team, 1) == [200]
    assert "1 calls, 0 fired" in repr(team.emulator.faults)


async def test_a_plan_in_the_settings_can_be_used_by_several_emulators(start):
    plan = FaultPlan([Fault("list", f.Status(503), nth=1)])
    for _ in range(2):
        assert await statuses(await start(fault_plan=plan), 2) == [503, 200]


# Cut connections


@pytest.mark.parametrize("after_bytes", [0, 1, 10_000])
async def test_an_upload_is_dropped_in_the_middle_of_its_body(single, job_id, to_parquet, after_bytes):
    content = to_parquet({"a": list(range(2_000_000))}, compression="none", use_dictionary=False)
    single.emulator.faults = [Fault("upsert", f.DropBefore(after_bytes=after_bytes))]
    assert await is_cut_off(single.upload(job_id, content))
    assert await single.chunks(job_id) != []
    assert len(single.spool_files()) == 1


async def raw_response(team, request):
    """Return what a plain TCP connection receives, and whether it ended with a reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", team.emulator.port)
    writer.write(request)
    data, is_reset = b"", False
    try:
        while piece := await reader.read(65536):
            data += piece
    except ConnectionResetError:
        is_reset = True
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return data, is_reset


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "orderly"])
@pytest.mark.parametrize("action", [f.DropBefore, f.DropAfter, lambda reset: f.CommitLate(0, reset)])
async def test_a_connection_ends_with_a_reset_or_in_order(broken, action, reset):
    team = broken("list", action(reset=reset))
    request = f"GET {team.jobs_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n\r\n".encode()
    assert await raw_response(team, request) == (b"", reset)


async def test_a_truncated_response_declares_more_bytes_than_it_sends(broken):
    team = broken("list", f.Truncated())
    await team.new_job()
    request = f"GET {team.jobs_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n\r\n".encode()
    data, _ = await raw_response(team, request)
    head, _, body = data.partition(b"\r\n\r\n")
    declared = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert len(body) == declared // 2 > 100


async def test_an_early_status_does_not_wait_for_the_body(broken):
    """A gateway rejects a request in this way while the caller is still sending."""
    team = broken("upsert", f.Status(413, after_bytes=0))
    job_id = await team.new_job()
    head = (
        f"POST {team.jobs_path}{job_id}/chunks/upserted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\n"
        "Content-Length: 1000000\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", team.emulator.port)
    writer.write(head.encode())
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_rejection_comes_before_100_continue(broken):
    team = broken("upsert", f.Status(413, after_bytes=0))
    assert (await team.upload(await team.new_job(), ROWS, expect100=True)).status == 413


@pytest.mark.parametrize(
    "action", [f.Status(503), f.Duplicate(), f.Delay(0.01), f.Status(503, after_commit=True)], ids=repr
)
async def test_callers_that_wait_for_100_continue_receive_it_once(broken, action):
    team = broken("upsert", action)
    job_id = await team.new_job()
    assert (await team.upload(job_id, ROWS, expect100=True)).status in {200, 503}


# Late and duplicate processing


async def test_a_late_chunk_appears_after_the_caller_listed_the_chunks(single, job_id):
    single.emulator.faults = [Fault("upsert", f.CommitLate(0.1))]
    assert await is_cut_off(single.upload(job_id, ROWS))
    assert single.emulator.pending_commits == 1
    assert len(await single.chunks(job_id)) == 1
    await wait_until(lambda: single.emulator.pending_commits == 0)
    assert len(await single.chunks(job_id)) == 2


async def test_a_late_chunk_for_a_job_that_was_submitted_meanwhile_leaves_no_file(single, job_id):
    single.emulator.faults = [Fault("upsert", f.CommitLate(0.05))]
    assert await is_cut_off(single.upload(job_id, ROWS))
    await single.submit(job_id)
    assert (await single.settled(job_id))["status"] == "DONE"
    await wait_until(lambda: single.emulator.pending_commits == 0)
    assert await single.rows("SELECT count(*) FROM orders") == [(1,)]
    await wait_until(lambda: single.spool_files() == [])


async def test_a_late_submit_still_runs_the_job(single, job_id):
    single.emulator.faults = [Fault("submit", f.CommitLate(0.05))]
    assert await is_cut_off(single.submit(job_id))
    assert (await single.get(job_id)).json["status"] == "NEW"
    assert (await single.settled(job_id))["status"] == "DONE"


@pytest.mark.parametrize("action", [f.CommitLate(600), f.Delay(600), f.Delay(600, when="after")], ids=repr)
async def test_closing_does_not_wait_for_faults(start, action):
    """Late commits are dropped: a request not yet processed when the platform stops is never processed."""
    team = await start()
    job_id = await team.new_job()
    team.emulator.faults = [Fault("upsert", action)]
    upload = asyncio.ensure_future(team.upload(job_id, ROWS))
    await wait_until(lambda: team.emulator.faults.fired and (upload.done() or not isinstance(action, f.CommitLate)))
    if isinstance(action, f.Delay) and action.when == "after":
        await wait_until(lambda: team.emulator.service.jobs[job_id].chunks)
    started = time.monotonic()
    await team.emulator.aclose()
    assert time.monotonic() - started < 3
    with contextlib.suppress(aiohttp.ClientError):
        await upload
    assert team.emulator.pending_commits == 0
    assert len(team.emulator.service.jobs[job_id].chunks) == (0 if isinstance(action, f.CommitLate) else 1)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_delay_is_before_or_after_processing(team, when):
    job_id = await team.new_job()
    job = team.emulator.service.jobs[job_id]
    team.emulator.faults = [Fault("upsert", f.Delay(0.1, when))]
    started = time.monotonic()
    upload = asyncio.ensure_future(team.upload(job_id, ROWS))
    await asyncio.sleep(0.05)
    assert len(job.chunks) == (when == "after")
    assert (await upload).status == 200
    assert time.monotonic() - started >= 0.1


@pytest.mark.parametrize("response", ["first", "last"])
async def test_a_duplicated_upload_adds_two_chunks_and_returns_one(broken, response):
    team = broken("upsert", f.Duplicate(response))
    job_id = await team.new_job(kind="DELTA")
    returned = (await team.upload(job_id, ROWS)).json
    chunks = await team.chunks(job_id)
    assert len(chunks) == 2
    assert chunks.index(returned) == (0 if response == "first" else 1)
    assert len({chunk["checksum"] for chunk in chunks}) == 1


@pytest.mark.parametrize(("response", "status"), [("first", 200), ("last", 409)])
async def test_a_duplicated_submit_runs_once(broken, response, status):
    team = broken("submit", f.Duplicate(response))
    job_id = await filled_job(team)
    assert (await team.submit(job_id)).status == status
    await team.settled(job_id)
    assert await team.rows("SELECT count(*) FROM orders") == [(1,)]
    assert team.emulator.service.quota.spent_in_hour == 2


async def test_a_duplicated_create_makes_two_jobs(broken):
    team = broken("create", f.Duplicate())
    await team.create()
    assert len((await team.request("GET", team.jobs_path)).json) == 2


async def test_both_copies_of_a_duplicated_token_request_are_parsed(single, job_id):
    single.emulator.faults = [Fault("token", f.Duplicate())]
    assert (await CALLS["token"](single, job_id)).json["token_type"] == "Bearer"


# Job status


async def test_a_job_can_show_its_previous_status(broken):
    team = broken("get", f.StaleStatus(), after=1, times=2)
    job_id = await filled_job(team)
    await team.submit(job_id)
    job = team.emulator.service.jobs[job_id]
    await wait_until(lambda: job.status == "DONE")
    assert [(await team.get(job_id)).json["status"] for _ in range(4)] == ["DONE", "RUNNING", "RUNNING", "DONE"]


async def test_a_job_can_show_any_status(team):
    job_id = await filled_job(team)
    team.emulator.faults = [Fault("get", f.StaleStatus("DONE")), Fault("list", f.StaleStatus("PAUSED"))]
    assert (await team.get(job_id)).json["status"] == "DONE"
    assert [job["status"] for job in (await team.request("GET", team.jobs_path)).json] == ["PAUSED"]
    assert (await team.get("nowhere")).status == 404


@pytest.mark.parametrize("operation", ["get", "submit", "upsert", "list_chunks", "delete"])
async def test_a_job_vanishes_before_the_call(single, job_id, operation):
    single.emulator.faults = [Fault(operation, f.Vanish())]
    assert (await CALLS[operation](single, job_id)).status == 404
    assert (await single.get(job_id)).status == 404
    assert single.spool_files() == []


@pytest.mark.parametrize(("runs", "rows"), [(True, 1), (False, 0)], ids=["and loads", "and does not load"])
async def test_a_job_vanishes_after_its_submit(single, job_id, runs, rows):
    """The API then cannot show whether the rows were loaded."""
    single.emulator.faults = [Fault("submit", f.Vanish("after", runs=runs))]
    assert (await single.submit(job_id)).status == 200
    assert (await single.get(job_id)).status == 404
    await wait_until(lambda: not single.emulator._executions)
    tables = await single.rows("SELECT count(*) FROM information_schema.tables")
    assert tables == [(rows,)]
    assert single.spool_files() == []


async def test_a_job_that_has_vanished_can_vanish_again(single, job_id):
    single.emulator.faults = [Fault("get", f.Vanish("after"))]
    assert [(await single.get(job_id)).status for _ in range(3)] == [200, 404, 404]


# Rejections


@pytest.mark.parametrize("form", ["retry_after", "retry_after_date", "x_ratelimit_reset", "body", "bare"])
async def test_too_many_requests_is_reported_in_every_known_form(start, clock, form):
    team = await start(now=clock)
    team.emulator.faults = [Fault("submit", f.RateLimit(90.5, form), nth=1)]
    job_id = await filled_job(team)
    response = await team.submit(job_id)
    assert response.status == 429
    checks = {
        "retry_after": lambda: int(response.headers["Retry-After"]) == 91,
        "retry_after_date": lambda: (
            parsedate_to_datetime(response.headers["Retry-After"]).timestamp() == math.ceil(clock.now + 90.5)
        ),
        "x_ratelimit_reset": lambda: (
            (response.headers["x-ratelimit-reset"], response.headers["x-ratelimit-remaining"]) == ("91", "0")
        ),
        "body": lambda: response.json["errorCode"] == "LIMIT_RATE_EXCEEDED" and "00:11:31" in response.json["detail"],
        "bare": lambda: response.content == b"",
    }
    assert {name for name, check in checks.items() if _holds(check)} == {form} | ({"bare"} if form != "body" else set())
    assert team.emulator.service.quota.spent_in_hour == 0
    assert (await team.submit(job_id)).status == 200


def _holds(check):
    try:
        return check()
    except (KeyError, ValueError, TypeError):
        return False


async def test_tokens_expire_all_at_once(single, job_id):
    token = (await CALLS["token"](single, job_id)).json["access_token"]
    single.headers = {"Authorization": f"Bearer {token}"}
    single.emulator.faults = [Fault("get", f.ExpireTokens(), nth=2)]
    assert [(await single.get(job_id)).status for _ in range(3)] == [200, 401, 401]
    single.headers = {"Authorization": f"Bearer {(await CALLS['token'](single, job_id)).json['access_token']}"}
    assert (await single.get(job_id)).status == 200
    single.headers = {"Authorization": "Bearer static"}
    single.emulator.faults = [Fault("get", f.ExpireTokens())]
    assert (await single.get(job_id)).status == 200


async def test_a_token_requested_while_tokens_expire_is_valid(single, job_id):
    single.emulator.faults = [Fault("token", f.ExpireTokens())]
    token = (await CALLS["token"](single, job_id)).json["access_token"]
    single.headers = {"Authorization": f"Bearer {token}"}
    assert (await single.get(job_id)).status == 200


# Plans as data

EVERYTHING = """
{"seed": 3, "faults": [
  {"operation": "upsert", "nth": [2, 5], "action": "drop_after", "reset": true},
  {"operation": "submit", "nth": 1, "action": "status", "code": 503, "body": {"a": [1]}, "headers": {"X": "y"}, "after_commit": true},
  {"operation": "get", "after": 1, "every": 2, "times": 3, "table": "orders", "action": "stale_status", "status": "NEW"},
  {"operation": "*", "probability": 0.5, "job": 2, "action": "delay", "seconds": 0.5, "when": "after"},
  {"operation": "create", "action": "drop_before", "after_bytes": 10, "reset": false},
  {"operation": "delete_rows", "action": "commit_late", "seconds": 1.5},
  {"operation": "delete", "action": "duplicate", "answer": "first"},
  {"operation": "list", "action": "truncated"},
  {"operation": "list", "action": "malformed", "body": "{"},
  {"operation": "list_chunks", "action": "empty"},
  {"operation": "submit", "action": "rate_limit", "seconds": 60.0, "form": "body"},
  {"operation": "token", "action": "expire_tokens"},
  {"operation": "submit", "action": "vanish", "when": "after", "runs": false}
]}
"""


def test_a_plan_converts_to_plain_data_and_back():
    plan = FaultPlan.from_json(EVERYTHING)
    assert plan.to_data() == json.loads(EVERYTHING)
    assert plan.to_json() == EVERYTHING.strip()
    assert FaultPlan.from_json(plan.to_json()) == plan
    assert {fault.action.name for fault in plan.faults} == set(f.ACTIONS)
    assert FaultPlan.from_data([]) == FaultPlan()


def test_a_plan_is_read_from_a_file(tmp_path):
    (tmp_path / "plan.json").write_text(EVERYTHING)
    (tmp_path / "plan.toml").write_text(
        'seed = 7\n[[faults]]\noperation = "upsert"\nnth = [1, 3]\naction = "commit_late"\nseconds = 2\n'
    )
    assert FaultPlan.from_file(tmp_path / "plan.json") == FaultPlan.from_json(EVERYTHING)
    expected = FaultPlan([Fault("upsert", f.CommitLate(2.0), nth=(1, 3))], seed=7)
    assert FaultPlan.from_file(str(tmp_path / "plan.toml")) == expected


@pytest.mark.parametrize(
    ("name", "content"), [("p.json", b"{"), ("p.json", b"\xff"), ("p.toml", b"faults ="), ("p.json", b'{"rules": []}')]
)
def test_an_error_names_the_file_that_is_not_a_plan(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(f.FaultPlanError, match=name):
        FaultPlan.from_file(tmp_path / name)


DELAY = {"operation": "get", "action": "delay", "seconds": 1}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (DELAY | {"operation": "poll"}, r"operation: must be one of create, .*\*"),
        (DELAY | {"action": "explode"}, "action: must be one of status, "),
        ({"operation": "get"}, "action: must be one of"),
        ({"action": "empty"}, "operation: field required"),
        ({"operation": "get", "action": "delay"}, "seconds: field required"),
        (DELAY | {"nht": 1}, "nht: extra inputs"),
        (DELAY | {"code": 503}, "code: extra inputs"),
        (DELAY | {"seconds": "1"}, "seconds: input should be a valid number"),
        (DELAY | {"seconds": -1}, "seconds: must not be negative"),
        (DELAY | {"seconds": math.nan}, "seconds: must not be"),
        (DELAY | {"when": "later"}, "when: input should be 'before' or 'after'"),
        (DELAY | {"nth": 0}, r"nth: must .*\b1\b"),
        (DELAY | {"nth": []}, r"nth: must .*\b1\b"),
        (DELAY | {"nth": True}, "nth"),
        (DELAY | {"nth": ["1"]}, "nth"),
        (DELAY | {"nth": 1, "after": 2}, "nth: .*after or every"),
        (DELAY | {"after": -1}, "after: must not be negative"),
        (DELAY | {"every": 0}, "every: must be at least 1"),
        (DELAY | {"times": 0}, "times: must be at least 1"),
        (DELAY | {"probability": 1.5}, "probability: must be between"),
        (DELAY | {"job": 1.5}, "job"),
        (DELAY | {"operation": "list", "job": 1}, "job: list .*job"),
        (DELAY | {"operation": "token", "table": "t"}, "table: token .*table"),
        ({"operation": "submit", "action": "stale_status"}, "action: stale_status .* submit"),
        ({"operation": "create", "action": "vanish"}, "action: vanish .* create"),
        ({"operation": "get", "action": "status", "code": 100}, "code: must be between"),
        ({"operation": "get", "action": "status", "code": 500, "headers": {"A": 1}}, "headers.A"),
        ({"operation": "get", "action": "status", "code": 500, "after_commit": True, "after_bytes": 1}, "after_bytes"),
        ("drop", "must be an object"),
    ],
    ids=repr,
)
def test_an_invalid_rule_is_rejected_with_its_location(rule, message):
    with pytest.raises(f.FaultPlanError, match=rf"^faults\[1\]\..*{message}"):
        FaultPlan.from_data({"faults": [DELAY, rule]})


@pytest.mark.parametrize("data", [3, None, {"faults": 1}, {"seed": "x"}, {"seed": True}, {"rules": []}], ids=repr)
def test_data_that_is_not_a_plan_is_rejected(data):
    with pytest.raises(f.FaultPlanError):
        FaultPlan.from_data(data)


def test_the_settings_have_no_fault_plan_by_default():
    assert EmulatorSettings().fault_plan is None
