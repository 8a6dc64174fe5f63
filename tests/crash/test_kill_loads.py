"""A run of forty loads that is killed at any point and then continued: only what is left is done, and each table is loaded once."""

import asyncio
import collections
import contextlib
import random
import signal

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

TABLES, ROWS = 40, 30
CONFIG = """
[state]
dir = "state"

[engine]
quarantine_seconds = 0.5
settle_seconds = 0.2
poll_max_interval_seconds = 0.2
hour_guard_seconds = 0
submits_per_hour = 100000

[[load]]
name = "night"
source = "in/{table}_{date:%Y%m%d}.csv"
mode = "MODE"
"""


def write_night(lab, mode):
    (lab.folder / "c.toml").write_text(CONFIG.replace("MODE", mode))
    folder = lab.folder / "in"
    folder.mkdir()
    for number in range(TABLES):
        rows = "".join(f"{row},text of row {row}\n" for row in range(ROWS))
        (folder / f"T{number:02d}_20261126.csv").write_text("N,TEXT\n" + rows)


async def check_tables(lab):
    for number in range(TABLES):
        (found,) = await lab.emulator.query(f"SELECT count(*), count(DISTINCT N) FROM T{number:02d}")
        assert found == (ROWS, ROWS), f"T{number:02d}"
    done = collections.Counter(
        job.spec.target_name for job in lab.emulator.service.jobs.values() if str(job.status) == "DONE"
    )
    assert set(done.values()) == {1}
    assert len(done) == TABLES


def done_jobs(lab):
    return sum(str(job.status) == "DONE" for job in lab.emulator.service.jobs.values())


async def kill_when(lab, process, jobs):
    """Kill a run once so many jobs are done."""
    while done_jobs(lab) < min(jobs, TABLES) and process.returncode is None:
        await asyncio.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


@pytest.mark.parametrize(("mode", "seed"), [("append", 1), ("replace", 2)])
async def test_a_run_is_killed_and_continued(lab, mode, seed):
    rng = random.Random(seed)
    write_night(lab, mode)
    process = await lab.run("load", "--json")
    killed = 0
    for number in range(5):
        # The first kill comes after the run was recorded: a run that is killed before that has nothing to continue.
        await kill_when(lab, process, done_jobs(lab) + rng.randint(not number, 8))
        await asyncio.sleep(rng.uniform(0, 0.02))
        code, _, err = await lab.finish(process)
        assert code in (0, -signal.SIGKILL), err
        killed += code != 0
        process = await lab.run("load", "--continue", "--json")
    code, result, err = await lab.finish(process)
    assert code == 0, err
    assert killed
    if result["run_id"] is not None:
        assert {load["state"] for load in result["loads"]} == {"done"}
        assert len(result["loads"]) == TABLES
    await check_tables(lab)


@pytest.mark.parametrize("mode", ["append", "replace"])
async def test_a_run_is_killed_and_the_next_night_comes(lab, mode):
    write_night(lab, mode)
    process = await lab.run("load", "--json")
    await kill_when(lab, process, 15)
    await lab.finish(process)
    code, result, err = await lab.finish(await lab.run("load", "--json"))
    assert code == 0, err
    assert {load["state"] for load in result["loads"]} <= {"done", "skipped"}
    await check_tables(lab)
