"""Switches for behavior that the vendor has not published: V2, V4, V5 and V6; the others are in test_submit.py and test_upload.py."""

import pytest

ROWS = {"a": [1]}


async def test_a_chunk_list_may_come_in_pages(start):
    team = await start(chunk_list_page_size=2)
    job_id = await team.new_job()
    chunks = [(await team.upload(job_id, ROWS)).json for _ in range(5)]

    async def page(query):
        return (await team.request("GET", f"{team.jobs_path}{job_id}/chunks{query}")).json

    assert await page("") == chunks[:2]
    assert [await page(f"?page={number}") for number in range(4)] == [chunks[:2], chunks[2:4], chunks[4:], []]
    assert await page("?page=last") == chunks[:2]


@pytest.mark.parametrize(("count", "spent"), [(True, 3), (False, 1)], ids=["count", "do not count"])
async def test_whether_failed_submits_use_up_quota_is_a_switch(start, count, spent):
    team = await start(failed_submits_count=count, rate_limit_headers=True)
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    responses = [await team.submit("nowhere"), await team.submit(job_id), await team.submit(job_id)]
    assert [response.status for response in responses] == [404, 200, 409]
    assert team.emulator.service.quota.spent_in_hour == spent
    assert int(responses[-1].headers["x-ratelimit-remaining"]) == 250 - spent


async def test_failed_submits_that_do_not_count_are_not_limited_per_second(start, clock):
    team = await start(failed_submits_count=False, submits_per_second=1, now=clock)
    assert [(await team.submit("nowhere")).status for _ in range(3)] == [404, 404, 404]


@pytest.mark.parametrize(("counted_from", "status"), [("created", 404), ("modified", 200)])
async def test_the_age_of_a_job_may_count_from_its_latest_chunk(start, clock, counted_from, status):
    team = await start(now=clock, unsubmitted_job_ttl_seconds=100, unsubmitted_job_ttl_from=counted_from)
    job_id = await team.new_job()
    clock.now += 60
    await team.upload(job_id, ROWS)
    clock.now += 60
    assert (await team.get(job_id)).status == status
    clock.now += 60
    assert (await team.get(job_id)).status == 404


@pytest.mark.parametrize(
    ("effect", "response_status", "status", "chunks"),
    [("remove", 200, None, 0), ("cancel", 200, "CANCELED", 1), ("ignore", 200, "NEW", 1), ("refuse", 409, "NEW", 1)],
)
async def test_deleting_a_new_job_may_leave_it_in_place(start, effect, response_status, status, chunks):
    team = await start(delete_unsubmitted=effect)
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    assert (await team.delete(job_id)).status == response_status
    assert (await team.get(job_id)).json.get("status") == status
    assert len(team.spool_files()) == chunks
    if status is not None:
        assert len(await team.chunks(job_id)) == chunks


@pytest.mark.parametrize("effect", ["cancel", "ignore", "refuse"])
async def test_a_finished_job_is_always_deleted(start, effect):
    team = await start(delete_unsubmitted=effect)
    job = await team.load("t", ROWS)
    assert (await team.delete(job["id"])).status == 200
    assert (await team.get(job["id"])).status == 404
