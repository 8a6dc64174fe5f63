"""Every call of a push x every kind of answer, over real HTTP: the exit code, and what is said about the state of the table.

Each case gives one answer to every call of one operation. The push ends as the table says; afterwards, when the platform answers as it
should, the same command loads the rows, once.
"""

import pytest

from pushengine import OAuthClient, UserApiKey
from pushengine.cli.exit_codes import exit_code_for, failure_fields
from pushengine.emulator.faults import FaultPlan
from pushengine.errors import PushEngineError

PAGE = "<!DOCTYPE html><html><title>Sign in</title></html>"
LARGE = 5 * 1024 * 1024


def status(code, body=None, **headers):
    return {"action": "status", "code": code, "body": body, "headers": headers}


ANSWERS = {
    "redirect": status(302, Location="https://login.example/"),
    "400": status(400, {"message": "no"}),
    "401": status(401, {"message": "no"}),
    "403": status(403, {"message": "no"}),
    "404": status(404, {"message": "no"}),
    "404 page": status(404, PAGE),
    "405 page": status(405, PAGE),
    "407": status(407, PAGE),
    "408": status(408),
    "409": status(409, {"message": "no"}),
    "413": status(413, PAGE),
    "421": status(421),
    "425": status(425),
    "429": status(429, **{"Retry-After": "0"}),
    "500": status(500, {"message": "no"}),
    "501 page": status(501, PAGE),
    "502 page": status(502, PAGE),
    "503": status(503),
    "200 page": status(200, PAGE),
    "200 text": status(200, "hello"),
    "200 list of numbers": status(200, [1]),
    "200 error": status(200, {"error": "no"}),
    "oversized": status(200, "x" * LARGE),
    "oversized error": status(500, "x" * LARGE),
    "reset": {"action": "drop_before"},
    "cut": {"action": "truncated"},
}
NOTHING, REFUSED, SENT = "nothing was submitted", "every submit was refused", "a submit of job"
USAGE, FAILED, ACCESS, UNKNOWN, TEMPORARY = 2, 3, 4, 6, 75
ACCESS_REFUSED = {"401": ACCESS, "403": ACCESS, "407": ACCESS}
EXPECTED = {
    # Nothing has been created yet: what is not the platform is a wrong address, unless it may be a page that passes.
    "token": {
        **ACCESS_REFUSED,
        **dict.fromkeys(["redirect", "400", "404", "404 page", "405 page", "409", "413", "421", "501 page"], USAGE),
    },
    "create": {
        **ACCESS_REFUSED,
        **dict.fromkeys(["redirect", "404 page", "405 page", "421", "501 page"], USAGE),
        **dict.fromkeys(["400", "404", "409", "413"], FAILED),
    },
    "upsert": {**ACCESS_REFUSED, **dict.fromkeys(["400", "404", "409", "413"], FAILED), "cut": "DONE"},
    "list_chunks": {**ACCESS_REFUSED, **dict.fromkeys(["400", "404", "409", "413"], FAILED)},
    "submit": {**ACCESS_REFUSED, **dict.fromkeys(["400", "404", "413"], FAILED), "cut": "DONE"},
    # The job was submitted: what a poll cannot read never fails the push. Only a job that stays missing has an unknown outcome.
    "get": {**ACCESS_REFUSED, "404": UNKNOWN},
}
UNSURE = {
    "redirect",
    "404 page",
    "405 page",
    "408",
    "421",
    "425",
    "500",
    "501 page",
    "502 page",
    "503",
    "oversized error",
    "reset",
}
"""Answers to a submit that do not prove that it was refused."""


def state_after(operation, name):
    """Return what must be said about the table after a push that this answer ended."""
    if operation == "get":
        return SENT
    if operation != "submit":
        return NOTHING
    return SENT if name in UNSURE or name.startswith("200") or name == "oversized" else REFUSED


@pytest.mark.parametrize("operation", EXPECTED)
async def test_each_answer_to_each_call_ends_a_push_as_it_should(start, operation):
    stage = await start(emulator={"submits_per_second": 1000, "submits_per_hour": 100_000})
    source = stage.folder / "a.csv"
    source.write_text("A\n1\n2\n3\n")
    auth = OAuthClient("id", "secret") if operation == "token" else UserApiKey("test-key")
    settings = {"max_attempts": 3, "quarantine_seconds": 0, "settle_seconds": 0.1, "submits_per_second": 1000}
    settings |= {"submits_per_hour": 100_000, "hour_guard_seconds": 0}
    problems = []
    for number, (name, answer) in enumerate(ANSWERS.items()):
        table = f"T{number}"
        stage.emulator.faults = FaultPlan.from_data({"faults": [{"operation": operation, **answer}]})
        engine = await stage.open_engine(
            auth=auth, **settings, **({"job_deadline_seconds": 0.2} if operation == "get" else {})
        )
        found = await outcome(engine, source, table)
        expected = EXPECTED[operation].get(name, TEMPORARY)
        expected = (expected, "" if expected == "DONE" else state_after(operation, name))
        if not (found[0] == expected[0] and found[1].startswith(expected[1])):
            problems.append(f"{name}: {found}, not {expected}")
        if (
            operation == "get" and expected[0] != UNKNOWN
        ):  # a later run begins with a read of the job, and gets the same answer
            engine = await stage.open_engine(auth=auth, **settings, job_deadline_seconds=0.2)
            resumed = await outcome(engine, source, table)
            if not (resumed[0] == expected[0] and resumed[1].startswith(SENT)):
                problems.append(f"{name}, resumed: {resumed}")
        stage.emulator.faults = None
        if expected[0] == UNKNOWN:
            continue
        engine = await stage.open_engine(auth=auth, **settings)
        again = await outcome(engine, source, table)
        loaded = await stage.query(f"select A from {table} order by A")
        runs = sum(job.runs for job in stage.jobs() if job.spec.target_name == table)
        if (again, loaded, runs) != (("DONE", ""), [(1,), (2,), (3,)], 2 if expected[0] == "DONE" else 1):
            problems.append(f"then, after {name}: {again}, {loaded}, {runs} jobs ran")
    assert problems == []


async def outcome(engine, source, table, mode="replace"):
    """Push a file; return the exit code and the state of the table that an error reports, or DONE."""
    try:
        receipt = await engine.push(source, table=table, mode=mode)
    except PushEngineError as error:
        return exit_code_for(error), failure_fields(error)["state"]
    finally:
        await engine.aclose()
    return receipt.status, ""


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_wrong_token_address_is_a_matter_of_configuration_whichever_call_is_the_first(start, mode):
    """An append reads the columns of the table first, and goes on without them if they cannot be read."""
    stage = await start()
    (stage.folder / "a.csv").write_text("A\n1\n")
    stage.emulator.faults = FaultPlan.from_data({"faults": [{"operation": "token", **ANSWERS["404 page"]}]})
    engine = await stage.open_engine(auth=OAuthClient("id", "secret"))
    assert (await outcome(engine, stage.folder / "a.csv", "T", mode))[0] == USAGE
    assert len(stage.emulator.faults.fired) == 1


WRONG_ADDRESS = dict.fromkeys(["redirect", "404 page", "405 page", "421", "501 page"], USAGE)
REJECTED = dict.fromkeys(["400", "404", "409", "413"], FAILED)
SINGLE_CALLS = {
    "list": (lambda engine: engine.list_jobs(), {**ACCESS_REFUSED, **WRONG_ADDRESS, **REJECTED}),
    "get": (lambda engine: engine.get_job("J"), {**ACCESS_REFUSED, **WRONG_ADDRESS, **REJECTED, "oversized": FAILED}),
    "list_chunks": (lambda engine: engine.list_chunks("J"), {**ACCESS_REFUSED, **WRONG_ADDRESS, **REJECTED}),
    "delete": (
        lambda engine: engine.delete_job("J"),
        {**ACCESS_REFUSED, **WRONG_ADDRESS, **REJECTED, **dict.fromkeys(["404", "200 list of numbers"], "DONE")},
    ),
}


@pytest.mark.parametrize("operation", SINGLE_CALLS)
async def test_each_answer_to_a_single_call_has_its_exit_code(start, operation):
    """The calls that a person makes, as with `jobs list`; they are not repeated."""
    stage = await start()
    call, expected = SINGLE_CALLS[operation]
    found = {}
    for name, answer in ANSWERS.items():
        stage.emulator.faults = FaultPlan.from_data({"faults": [{"operation": operation, **answer}]})
        try:
            await call(stage.engine)
        except PushEngineError as error:
            found[name] = exit_code_for(error)
        else:
            found[name] = "DONE"
    del found["cut"]  # there is no such job
    assert found == {name: expected.get(name, TEMPORARY) for name in found}
