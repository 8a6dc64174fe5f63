"""`jobs delete` reports for each job whether it existed."""

import json
import re
import urllib.request

import pytest


@pytest.fixture
def team(emulator, tmp_path):
    """Return a function that starts an emulator and creates jobs in it. It returns the environment and the ids of the jobs."""

    def run(jobs, *faults):
        (tmp_path / "plan.json").write_text(json.dumps({"faults": list(faults)}))
        _, _, exports = emulator("--faults", "plan.json")
        url = f"{exports['PUSHENGINE_URL']}/integration/api/v1/data-push/{exports['PUSHENGINE_POOL_ID']}/jobs/"
        body = {"targetName": "T", "type": "REPLACE", "dataPoolId": exports["PUSHENGINE_POOL_ID"]}
        headers = {"Authorization": "Bearer anything", "Content-Type": "application/json"}
        ids = []
        for _ in range(jobs):
            request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
            with urllib.request.urlopen(request) as response:
                ids.append(json.load(response)["id"])
        return exports, ids

    return run


def test_jobs_that_exist_are_deleted(team, pushengine):
    exports, (first, second, third) = team(3)
    done = pushengine("jobs", "delete", first, second, first, **exports)
    assert (done.code, done.out, done.err) == (0, f"job {first} is deleted\njob {second} is deleted\n", "")
    done = pushengine("jobs", "delete", third, "--json", **exports)
    assert (done.code, done.json, done.err) == (0, {"deleted": [third]}, "")
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_a_job_that_never_existed_is_not_reported_as_deleted(team, pushengine):
    exports, _ = team(0)
    done = pushengine("jobs", "delete", "nope", **exports)
    assert (done.code, done.out) == (3, "")
    pool = exports["PUSHENGINE_POOL_ID"]
    assert re.fullmatch(rf"error: .*no job nope in pool {pool}\nhint: .*`pushengine jobs list`.*\n", done.err), done.err


def test_existing_jobs_are_deleted_and_the_others_are_reported(team, pushengine):
    exports, (first, second) = team(2)
    done = pushengine("jobs", "delete", "nope", first, "nor-this", second, **exports)
    assert (done.code, done.out) == (3, f"job {first} is deleted\njob {second} is deleted\n")
    assert "error: there are no jobs nope, nor-this in pool " in done.err
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_with_json_the_error_is_one_object_with_the_deleted_jobs(team, pushengine):
    exports, (job_id,) = team(1)
    done = pushengine("jobs", "delete", job_id, "nope", "--json", **exports)
    assert done.code == 3
    printed = done.json
    assert (printed["status"], printed["deleted"], printed["error"]["type"]) == ("ERROR", [job_id], "NotFoundError")
    assert "no job nope" in printed["error"]["message"]
    assert "jobs list" in printed["error"]["hint"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"nth": 1, "action": "drop_after"}, id="the connection retries"),
        pytest.param({"nth": [1, 2], "action": "drop_after"}, id="the command retries"),
        pytest.param(
            {"nth": 1, "action": "status", "code": 503, "after_commit": True}, id="a gateway returns an error"
        ),
    ],
)
def test_a_deletion_whose_response_was_lost_counts_as_done(team, pushengine, fault):
    """The job no longer exists when the deletion is retried, and it was this command that deleted it."""
    exports, (job_id,) = team(1, {"operation": "delete", **fault})
    done = pushengine("jobs", "delete", job_id, "--json", **exports)
    assert (done.code, done.json) == (0, {"deleted": [job_id]}), done.err
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_jobs_deleted_before_a_failure_are_reported(team, pushengine):
    exports, (first, second) = team(2, {"operation": "delete", "nth": 2, "action": "status", "code": 403})
    done = pushengine("jobs", "delete", first, second, **exports)
    assert (done.code, done.out) == (4, f"job {first} is deleted\n")
    listed = pushengine("jobs", "list", "--json", **exports).json["jobs"]
    assert [job["id"] for job in listed] == [second]
