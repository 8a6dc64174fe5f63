"""The command is killed, something changes, and the same command is run again: no row is lost, duplicated or mixed with rows of another file."""

import asyncio
import os
import shutil
import signal
import sys

import pytest
from support.lab import CONFIG, ROWS

from pushengine.emulator.faults import Delay, Fault, FaultPlan

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

OTHER_PYARROW = """
import sys
import pyarrow
pyarrow.__version__ = "99.0"
from pushengine import __main__
sys.exit(__main__.main())
"""
DIES_BEFORE_OUTPUT = """
import os, signal
from pushengine import __main__
from pushengine.cli import terminal
terminal.print_json = lambda value: os.kill(os.getpid(), signal.SIGKILL)
__main__.main()
"""
PLAIN = ("-m", "pushengine")


def configure(lab, lines):
    (lab.folder / "c.toml").write_text(f"{CONFIG}{lines}\n")


def touch(lab):
    os.utime(lab.folder / "big.csv")


def replace_with_a_copy(lab):
    """Replace the file by a copy with the same content, time and name, as a restored backup would be."""
    path = lab.folder / "big.csv"
    shutil.copy2(path, lab.folder / "copy")
    (lab.folder / "copy").rename(path)


def rename_file(lab):
    (lab.folder / "big.csv").rename(lab.folder / "big-2.csv")


CHANGES = {
    "nothing": lambda lab: None,
    "touched": touch,
    "copied": replace_with_a_copy,
    "renamed": rename_file,
    "different number of cores": lambda lab: configure(lab, "encoder_threads = 5"),
    "different chunk size": lambda lab: lab.resized(),
    "different codec": lambda lab: configure(lab, 'compression = "NONE"'),
    "touched, different number of cores": lambda lab: (touch(lab), configure(lab, "encoder_threads = 5")),
}


def replace_in_the_middle(lab, *, keeps_time):
    """Replace the content by one of the same size that the probes do not notice, optionally with the old modification time."""
    path = lab.folder / "big.csv"
    before = path.stat()
    data = path.read_bytes()
    at = data.index(b"some text", len(data) // 4)
    path.unlink()
    path.write_bytes(data[:at] + b"SOME TEXT" + data[at + 9 :])
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


async def kill(lab, process):
    process.kill()
    code, output, err = await lab.finish(process)
    assert (code, output) == (-signal.SIGKILL, None), err
    lab.emulator.faults = None


async def start_and_kill_after_submit(lab, *, mode="append", source="big*.csv"):
    """Kill the command after the platform received the submit, and before its response arrives."""
    lab.emulator.faults = FaultPlan([Fault("submit", Delay(60, when="after"))])
    before = len(jobs_that_ran(lab))
    process = await lab.start("T", source=source, mode=mode)
    while len(jobs_that_ran(lab)) == before:
        assert process.returncode is None
        await asyncio.sleep(0.002)
    await kill(lab, process)


async def start_and_kill_while_uploading(lab, *, mode="append", source="big*.csv"):
    process = await lab.start("T", source=source, mode=mode)
    assert await lab.wait_for_chunks(process, 10)
    await kill(lab, process)


def jobs_that_ran(lab):
    return [job for job in lab.emulator.service.jobs.values() if str(job.status) != "NEW"]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_submitted_push_is_finished_from_its_journal(lab, change):
    await start_and_kill_after_submit(lab)
    (job,) = jobs_that_ran(lab)
    CHANGES[change](lab)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert code == 0, err
    assert (receipt["status"], receipt["resumed"], receipt["job_id"], receipt["rows"]) == ("DONE", True, job.id, ROWS)
    assert jobs_that_ran(lab) == [job]
    await lab.check_table("T")
    # the receipt was printed, so the same command now means a new push
    code, again, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert (code, again["resumed"], again["push_id"] != receipt["push_id"]) == (0, False, True), err
    assert await lab.emulator.query('select count(*), count(distinct N) from "T"') == [(2 * ROWS, ROWS)]


@pytest.mark.parametrize("change", ["touched", "nothing"])
async def test_a_different_version_of_pyarrow_after_the_submit_changes_nothing(lab, change):
    await start_and_kill_after_submit(lab)
    CHANGES[change](lab)
    code, receipt, err = await lab.finish(await lab.start("T", ("-c", OTHER_PYARROW), source="big*.csv"))
    assert (code, receipt["resumed"], receipt["rows"]) == (0, True, ROWS), err
    await lab.check_table("T")


@pytest.mark.parametrize("mode", ["replace", "upsert", "delete"])
async def test_a_submitted_push_of_any_mode_is_finished_from_its_journal(lab, mode):
    if mode == "delete":
        code, _, err = await lab.finish(await lab.start("T", mode="upsert"))
        assert code == 0, err
    await start_and_kill_after_submit(lab, mode=mode)
    before = jobs_that_ran(lab)
    touch(lab)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv", mode=mode))
    assert (code, receipt["resumed"], receipt["rows"]) == (0, True, ROWS), err
    assert jobs_that_ran(lab) == before
    if mode == "delete":
        assert await lab.emulator.query('select count(*) from "T"') == [(0,)]
    else:
        await lab.check_table("T")


async def test_a_finished_but_unreported_push_is_reported_even_after_its_file_was_touched(lab):
    code, output, err = await lab.finish(await lab.start("T", ("-c", DIES_BEFORE_OUTPUT), source="big*.csv"))
    assert (code, output) == (-signal.SIGKILL, None), err
    touch(lab)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert (code, receipt["status"], receipt["rows"]) == (0, "DONE", ROWS), err
    await lab.check_table("T")
    assert len(jobs_that_ran(lab)) == 1


async def test_a_receipt_that_could_not_be_written_is_reported_by_the_next_run(lab):
    """The rows are in the table, but the caller sees a failed command, because the disk of its log is full."""
    with open("/dev/full", "w") as full:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushengine", "push", "big.csv", "--table", "T", "--mode", "append"),
            cwd=lab.folder,
            env=lab.environment,
            stdout=full,
            stderr=asyncio.subprocess.PIPE,
        )
        await process.communicate()
    assert process.returncode not in (0, None)
    code, receipt, err = await lab.finish(await lab.start("T"))
    assert (code, receipt["status"], receipt["resumed"]) == (0, "DONE", True), err
    await lab.check_table("T")


async def test_the_same_standard_input_again_resumes_the_same_push(lab):
    words = ("push", "-", "--format", "csv", "--table", "T", "--mode", "append", "--json")
    data = (lab.folder / "big.csv").read_bytes()
    lab.emulator.faults = FaultPlan([Fault("submit", Delay(60, when="after"))])
    process = await lab.run(*words, stdin=data)
    while not jobs_that_ran(lab):
        assert process.returncode is None
        await asyncio.sleep(0.002)
    await kill(lab, process)
    code, receipt, err = await lab.finish(await lab.run(*words, stdin=data))
    assert (code, receipt["status"], receipt["resumed"]) == (0, "DONE", True), err
    await lab.check_table("T")


@pytest.mark.parametrize("keeps_time", [False, True], ids=["new time", "old time"])
async def test_new_content_after_the_submit_is_pushed_too_and_the_old_rows_are_reported(lab, keeps_time):
    await start_and_kill_after_submit(lab)
    replace_in_the_middle(lab, keeps_time=keeps_time)
    process = await lab.run("push", "big*.csv", "--table", "T", "--mode", "append")
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert f"its {ROWS:,} rows are in table T and stay there; the source has changed since".encode() in err
    assert b"DONE  T  append" in out
    ((rows, ids, changed),) = await lab.emulator.query(
        "select count(*), count(distinct N), count(*) filter (contains(TEXT, 'SOME TEXT')) from \"T\""
    )
    assert (rows, ids, changed) == (2 * ROWS, ROWS, 1)
    assert len(jobs_that_ran(lab)) == 2


async def test_a_file_missing_after_the_submit_is_an_error_that_says_its_rows_are_in_the_table(lab):
    await start_and_kill_after_submit(lab, source="big.csv")
    (lab.folder / "big.csv").unlink()
    code, output, err = await lab.finish(await lab.start("T"))
    assert code == 3, err
    assert "no such file; but push" in output["error"]["message"]
    assert "is DONE: its 30,000 rows are in the table" in output["error"]["message"]
    await lab.check_table("T")


async def test_resume_finishes_a_submitted_push_without_its_file(lab):
    await start_and_kill_after_submit(lab, source="big.csv")
    (lab.folder / "big.csv").unlink()
    code, output, err = await lab.finish(await lab.run("resume", "--json"))
    assert code == 0, err
    assert [(one["status"], one["rows"], one["resumed"]) for one in output] == [("DONE", ROWS, True)]
    await lab.check_table("T")


@pytest.mark.parametrize(
    "change",
    ["nothing", "touched", "copied", "renamed", "different number of cores", "different chunk size"],
)
async def test_a_push_killed_while_uploading_is_resumed_if_the_content_is_the_same(lab, change):
    await start_and_kill_while_uploading(lab)
    (job,) = lab.emulator.service.jobs.values()
    stored = len(job.chunks)
    CHANGES[change](lab)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert (code, receipt["resumed"], receipt["job_id"], receipt["rows"]) == (0, True, job.id, ROWS), err
    assert stored >= 10
    assert len(job.chunks) == receipt["chunks"]
    await lab.check_table("T")
    lab.check_resent("T")


@pytest.mark.parametrize("change", ["different codec", "different version of pyarrow"])
async def test_a_push_killed_while_uploading_starts_again_if_its_chunks_would_differ(lab, change):
    await start_and_kill_while_uploading(lab)
    (before,) = lab.emulator.service.jobs
    if change in CHANGES:
        CHANGES[change](lab)
    program = ("-c", OTHER_PYARROW) if change not in CHANGES else PLAIN
    code, receipt, err = await lab.finish(await lab.start("T", program, source="big*.csv"))
    assert (code, receipt["resumed"], receipt["rows"]) == (0, False, ROWS), err
    assert "its chunks would be encoded differently now" in err
    assert list(lab.emulator.service.jobs) == [receipt["job_id"]] != [before]
    await lab.check_table("T")


@pytest.mark.parametrize("keeps_time", [False, True], ids=["new time", "old time"])
async def test_two_contents_are_never_mixed_even_if_size_and_probes_are_equal(lab, keeps_time):
    await start_and_kill_while_uploading(lab)
    replace_in_the_middle(lab, keeps_time=keeps_time)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert (code, receipt["rows"]) == (0, ROWS), err
    await lab.check_table("T")
    assert await lab.emulator.query("select count(*) from \"T\" where contains(TEXT, 'SOME TEXT')") == [(1,)]
    assert len(jobs_that_ran(lab)) == 1


async def test_a_push_in_a_journal_of_an_earlier_version_is_resumed(lab):
    """Its plan has no digests of the files, only part of the file-system metadata, and names every setting."""
    await start_and_kill_while_uploading(lab)
    with lab.journal() as file:
        for seq, body in file._db.execute("SELECT seq, body FROM facts WHERE kind = 'push_planned'").fetchall():
            older = lab.older_plan(body)
            file._db.execute("UPDATE facts SET body = ? WHERE seq = ?", (older, seq))
    touch(lab)
    code, receipt, err = await lab.finish(await lab.start("T", source="big*.csv"))
    assert (code, receipt["resumed"], receipt["rows"]) == (0, True, ROWS), err
    await lab.check_table("T")


@pytest.mark.parametrize("change", ["different codec", "different chunk size"])
async def test_resume_continues_with_the_settings_of_the_push_from_any_config(lab, change):
    await start_and_kill_while_uploading(lab)
    (job,) = lab.emulator.service.jobs
    CHANGES[change](lab)
    lab.folder.joinpath("c.toml").rename(lab.folder / "other.toml")
    del lab.environment["PUSHENGINE_CONFIG"]
    with lab.journal() as file:
        (push,) = file.pushes()
    command = ("resume", push.push_id, "--config", "other.toml", "--json")
    code, receipt, err = await lab.finish(await lab.run(*command))
    assert (code, receipt["resumed"], receipt["push_id"], receipt["rows"]) == (0, True, push.push_id, ROWS), err
    assert list(lab.emulator.service.jobs) == [job]
    await lab.check_table("T")
