"""Submits: the quota, conflicts, and what a submit requires."""

import asyncio

import pytest

ROWS = {"a": [1]}


async def filled_job(team, table="orders", **fields):
    job_id = await team.new_job(table, **fields)
    assert (await team.upload(job_id, ROWS)).status == 200
    return job_id


async def submit_statuses(team, count):
    return [(await team.submit("nowhere")).status for _ in range(count)]


@pytest.mark.parametrize("options", [{}, {"json": {}}, {"data": b"null"}], ids=["no body", "{}", "null"])
async def test_a_job_runs_regardless_of_the_body_of_its_submit(team, options):
    job_id = await filled_job(team)
    response = await team.submit(job_id, **options)
    assert (response.status, response.content) == (200, b"")
    assert (await team.settled(job_id))["status"] == "DONE"
    assert await team.rows("SELECT a FROM orders") == [(1,)]


async def test_a_job_passes_through_queued_and_running(start):
    team = await start(queue_seconds=0.05, run_seconds=0.05)
    job_id = await filled_job(team)
    await team.submit(job_id)
    seen = []
    while not seen or seen[-1] not in {"DONE", "ERROR"}:
        job = (await team.get(job_id)).json
        if job["status"] not in seen:
            seen.append(job["status"])
        assert (job["lastPing"] is not None) == (job["status"] in {"QUEUED", "RUNNING"})
        await asyncio.sleep(0.002)
    assert seen == ["QUEUED", "RUNNING", "DONE"]


async def test_a_job_without_chunks_ends_in_error(team):
    job_id = await team.new_job()
    assert (await team.submit(job_id)).status == 200
    job = await team.settled(job_id)
    assert job["status"] == "ERROR"
    assert "no chunks" in job["logs"][0]


async def test_a_submitted_job_accepts_neither_another_submit_nor_chunks(team):
    job_id = await filled_job(team)
    await team.submit(job_id)
    await team.settled(job_id)
    response = await team.submit(job_id)
    assert response.status == 409
    assert "DONE" in response.json["message"]
    assert (await team.upload(job_id, ROWS)).status == 409
    assert await team.rows("SELECT count(*) FROM orders") == [(1,)]


async def test_a_queued_job_accepts_no_delete_submit_or_chunks(start):
    team = await start(queue_seconds=60)
    job_id = await filled_job(team)
    await team.submit(job_id)
    assert (await team.delete(job_id)).status == 409
    assert (await team.submit(job_id)).status == 409
    assert (await team.upload(job_id, ROWS)).status == 409


async def test_a_second_submit_may_be_accepted_without_effect(start):
    team = await start(resubmit="accept")
    job_id = await filled_job(team, kind="DELTA")
    for _ in range(2):
        assert (await team.submit(job_id)).status == 200
        await team.settled(job_id)
    assert await team.rows("SELECT count(*) FROM orders") == [(1,)]


async def test_a_second_submit_may_run_the_job_twice(start):
    team = await start(resubmit="rerun")
    job_id = await filled_job(team, kind="DELTA")
    for _ in range(2):
        assert (await team.submit(job_id)).status == 200
        await team.settled(job_id)
    assert await team.rows("SELECT count(*) FROM orders") == [(2,)]
    assert team.emulator.service.jobs[job_id].runs == 2


@pytest.mark.parametrize(("scope", "status"), [("table", 409), ("job", 200)])
async def test_one_table_is_written_by_one_job_at_a_time(start, scope, status):
    team = await start(conflict_scope=scope, queue_seconds=60)
    first, same, other = [await filled_job(team, table) for table in ("orders", "ORDERS", "items")]
    elsewhere = await filled_job(team, "orders", connectionId="c1")
    assert (await team.submit(first)).status == 200
    assert (await team.submit(same)).status == status
    assert (await team.submit(other)).status == 200
    assert (await team.submit(elsewhere)).status == 200
    if status == 409:
        assert (await team.get(same)).json["status"] == "NEW"


async def test_at_most_ten_submits_fit_into_any_second(start, clock):
    team = await start(now=clock)
    assert await submit_statuses(team, 5) == [404] * 5
    clock.now += 0.6
    assert await submit_statuses(team, 6) == [404] * 5 + [429]
    clock.now += 0.4  # the first five are a second old, the others are not
    assert await submit_statuses(team, 6) == [404] * 5 + [429]


async def test_the_hourly_quota_rolls_over_at_the_full_utc_hour(start, clock):
    team = await start(now=clock, submits_per_hour=3)
    assert await submit_statuses(team, 4) == [404, 404, 404, 429]
    clock.now += 49 * 60 + 59
    assert await submit_statuses(team, 1) == [429]
    clock.now += 1
    assert await submit_statuses(team, 4) == [404, 404, 404, 429]


async def test_a_rejected_submit_leaves_the_job_new(start, clock):
    team = await start(now=clock, submits_per_hour=0)
    job_id = await filled_job(team)
    response = await team.submit(job_id)
    assert (response.status, response.content) == (429, b"")
    assert "Retry-After" not in response.headers
    assert not any(name.lower().startswith("x-ratelimit") for name in response.headers)
    assert (await team.get(job_id)).json["status"] == "NEW"


@pytest.mark.parametrize(("counts", "statuses"), [(False, [404]), (True, [429])])
async def test_whether_rejected_submits_use_up_quota_is_a_switch(start, clock, counts, statuses):
    team = await start(now=clock, submits_per_second=1, submits_per_hour=3, refused_submits_count=counts)
    assert await submit_statuses(team, 3) == [404, 429, 429]
    clock.now += 1
    assert await submit_statuses(team, 1) == statuses


async def test_rate_limit_headers_state_how_long_to_wait(start, clock):
    team = await start(now=clock, submits_per_hour=2, rate_limit_headers=True)
    first = await team.submit(await filled_job(team, "a"))
    assert first.headers["x-ratelimit-limit"] == "2"
    assert first.headers["x-ratelimit-remaining"] == "1"
    await team.submit("nowhere")
    refused = await team.submit("nowhere")
    assert refused.status == 429
    assert refused.headers["Retry-After"] == refused.headers["x-ratelimit-reset"] == str(50 * 60)
    assert refused.json["errorCode"] == "LIMIT_RATE_EXCEEDED"
    assert "2026-01-01T01:00:00" in refused.json["detail"]


async def test_only_submits_are_limited(start, clock):
    team = await start(now=clock, submits_per_second=0)
    for _ in range(15):
        job_id = await filled_job(team)
        assert (await team.get(job_id)).status == 200


async def test_concurrent_submits_of_a_job_run_it_once(team):
    job_id = await filled_job(team, kind="DELTA")
    responses = await asyncio.gather(*(team.submit(job_id) for _ in range(5)))
    assert sorted(response.status for response in responses) == [200, 409, 409, 409, 409]
    await team.settled(job_id)
    assert await team.rows("SELECT count(*) FROM orders") == [(1,)]
