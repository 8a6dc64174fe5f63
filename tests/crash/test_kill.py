"""The real command line, killed in the middle of its work and run again, until every row is in the table exactly once."""

import asyncio
import contextlib
import os
import random
import signal

import pytest
from support.lab import ROWS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

KILLS_PER_PUSH = 8
KILLS = 20
MANY_KILLS = 1000
MAX_RUNS = 40


async def push_through_kills(lab, rng, table):
    """Run one push, killing it several times. Return its receipt and how often it was killed."""
    for deaths in range(MAX_RUNS):
        process = await lab.start(table)
        if deaths < KILLS_PER_PUSH:
            if rng.random() < 0.8:
                await lab.wait_for_chunks(process, rng.randint(0, 8))
                await asyncio.sleep(rng.uniform(0, 0.03))
            else:
                await asyncio.sleep(rng.uniform(0.3, 2.0))
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code, receipt, err = await lab.finish(process)
        assert code in (0, -signal.SIGKILL), err
        if receipt is not None:  # printed, even if the process was killed right after that
            return receipt, deaths + (code != 0)
    raise AssertionError(f"table {table}: not done after {MAX_RUNS} runs")


async def kill_loop(lab, seed, kills):
    rng = random.Random(seed)
    killed = resumed = number = restarts = 0
    while killed < kills:
        number += 1
        table = f"T{number}"
        receipt, deaths = await push_through_kills(lab, rng, table)
        assert (receipt["status"], receipt["rows"]) == ("DONE", ROWS)
        await lab.check_table(table)
        lab.check_submits(table)
        restarts += lab.check_resent(table)
        resumed += receipt["resumed"]
        killed += deaths
    return killed, resumed, restarts


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_rows_arrive_once_however_often_the_command_is_killed(lab, seed):
    killed, resumed, _ = await kill_loop(lab, seed, KILLS // 2)
    assert killed >= KILLS // 2
    assert resumed


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_rows_arrive_once_after_a_thousand_kills(lab):
    killed, resumed, restarts = await kill_loop(lab, int(os.environ.get("KILL_SEED", "3")), MANY_KILLS)
    print(f"{killed} kills, {resumed} pushes resumed, {restarts} started again")  # noqa: T201
    assert killed >= MANY_KILLS


DIES_BEFORE_OUTPUT = """
import os, signal
from pushengine import __main__
from pushengine.cli import terminal
terminal.print_json = lambda value: os.kill(os.getpid(), signal.SIGKILL)
__main__.main()
"""


async def test_a_command_killed_just_before_it_reports_success_reports_it_on_the_next_run(lab):
    code, output, err = await lab.finish(await lab.start("T", ("-c", DIES_BEFORE_OUTPUT)))
    assert (code, output) == (-signal.SIGKILL, None), err
    await lab.check_table("T")
    code, receipt, err = await lab.finish(await lab.start("T"))
    assert (code, receipt["status"], receipt["rows"]) == (0, "DONE", ROWS), err
    await lab.check_table("T")
    lab.check_submits("T")


async def test_the_second_of_two_commands_with_the_same_push_learns_which_process_runs_it(lab):
    first = await lab.start("T")
    assert await lab.wait_for_chunks(first, 3)
    await lab.pause(first)
    code, output, _ = await lab.finish(await lab.start("T"))
    assert code == 75
    assert output["error"]["type"] == "JournalLockedError"
    assert f"table T is being loaded by pid {first.pid}" in output["error"]["message"]
    first.send_signal(signal.SIGCONT)
    code, receipt, err = await lab.finish(first)
    assert (code, receipt["status"]) == (0, "DONE"), err
    await lab.check_table("T")
    lab.check_submits("T")


async def test_two_commands_that_share_a_ledger_and_push_to_different_tables_both_succeed(lab):
    both = [await lab.start(table) for table in ("A", "B")]
    results = await asyncio.gather(*(lab.finish(process) for process in both))
    assert [code for code, _, _ in results] == [0, 0]
    for table in ("A", "B"):
        await lab.check_table(table)
        lab.check_submits(table)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_during_upload_ends_the_command_soon_and_the_next_run_resumes(lab, number):
    rows = ROWS * 4
    lab.write(rows)
    process = await lab.start("T")
    assert await lab.wait_for_chunks(process, 10)
    process.send_signal(number)
    code, receipt, err = await lab.finish(process, 10)
    assert code == 130, err
    assert (receipt["status"], receipt["submits"]) == ("INTERRUPTED", 0)
    (job,) = lab.emulator.service.jobs.values()
    assert len(job.chunks) >= 10
    with lab.journal() as file:
        (push,) = file.pushes()
        facts = file.facts(push.push_id)
        assert push.state == "open"
    acked = {fact.body["chunk_id"] for fact in facts if fact.kind == "chunk_acked"}
    assert len(acked) == len(job.chunks)

    code, receipt, err = await lab.finish(await lab.start("T"))
    assert (code, receipt["status"], receipt["resumed"], receipt["rows"]) == (0, "DONE", True, rows), err
    assert list(lab.emulator.service.jobs) == [job.id]
    with lab.journal() as file:
        later = file.facts(push.push_id)[len(facts) :]
    assert not acked & {fact.body["chunk_id"] for fact in later if fact.kind == "chunk_sending"}
    await lab.check_table("T", rows)
    lab.check_submits("T")
