"""`jobs delete` tells of each job whether it was there."""

import json
import urllib.request

import pytest


@pytest.fixture
def team(emulator, tmp_path):
    """Start an emulator; gives its environment and ids of as many new jobs as asked for."""

    def run(jobs, *faults):
        (tmp_path / "plan.json").write_text(json.dumps({"faults": list(faults)}))
        _, _, exports = emulator("--faults", "plan.json")
        url = f"{exports['PUSHENGINE_URL']}/integration/api/v1/data-push/{exports['PUSHENGINE_POOL_ID']}/jobs/"
        body = {"targetName": "T", "type": "REPLACE", "dataPoolId": exports["PUSHENGINE_POOL_ID"]}
        headers = {"Authorization": "Bearer anything", "Content-Type": "application/json"}
        ids = []
        for _ in range(jobs):
            request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
            with urllib.request.urlopen(request) as answer:
                ids.append(json.load(answer)["id"])
        return exports, ids

    return run


def test_jobs_that_exist_are_deleted(team, pushengine):
    exports, (first, second, third) = team(3)
    done = pushengine("jobs", "delete", first, second, first, **exports)
    assert (done.code, done.out, done.err) == (0, f"job {first} is deleted\njob {second} is deleted\n", "")
    done = pushengine("jobs", "delete", third, "--json", **exports)
    assert (done.code, done.json, done.err) == (0, {"deleted": [third]}, "")
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_a_job_that_never_existed_is_not_called_deleted(team, pushengine):
    exports, _ = team(0)
    done = pushengine("jobs", "delete", "nope", **exports)
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        f"error: there is no job nope in pool {exports['PUSHENGINE_POOL_ID']}",
        "hint: `pushengine jobs list` shows the existing jobs; are team and pool right?",
    ]


def test_those_that_exist_are_deleted_and_the_others_told(team, pushengine):
    exports, (first, second) = team(2)
    done = pushengine("jobs", "delete", "nope", first, "nor-this", second, **exports)
    assert (done.code, done.out) == (3, f"job {first} is deleted\njob {second} is deleted\n")
    assert "error: there are no jobs nope, nor-this in pool " in done.err
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_with_json_the_failure_is_one_value_and_tells_what_was_deleted(team, pushengine):
    exports, (job_id,) = team(1)
    done = pushengine("jobs", "delete", job_id, "nope", "--json", **exports)
    assert done.code == 3
    details = done.json
    assert (details["status"], details["deleted"], details["error"]["type"]) == ("ERROR", [job_id], "NotFoundError")
    assert "no job nope" in details["error"]["message"]
    assert "jobs list" in details["error"]["hint"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"nth": 1, "action": "drop_after"}, id="the connection sends it again"),
        pytest.param({"nth": [1, 2], "action": "drop_after"}, id="the command sends it again"),
        pytest.param({"nth": 1, "action": "status", "code": 503, "after_commit": True}, id="a gateway gave up"),
    ],
)
def test_a_deletion_whose_answer_was_lost_counts(team, pushengine, fault):
    """The job is gone when it is deleted again, and it was this command that deleted it."""
    exports, (job_id,) = team(1, {"operation": "delete", **fault})
    done = pushengine("jobs", "delete", job_id, "--json", **exports)
    assert (done.code, done.json) == (0, {"deleted": [job_id]}), done.err
    assert pushengine("jobs", "list", "--json", **exports).json == {"jobs": []}


def test_what_was_deleted_before_a_failure_is_told(team, pushengine):
    exports, (first, second) = team(2, {"operation": "delete", "nth": 2, "action": "status", "code": 403})
    done = pushengine("jobs", "delete", first, second, **exports)
    assert (done.code, done.out) == (4, f"job {first} is deleted\n")
    listed = pushengine("jobs", "list", "--json", **exports).json["jobs"]
    assert [job["id"] for job in listed] == [second]
