"""Waits are reported with their reason, and a job left running by an earlier push is finished from the journal alone."""

import asyncio
import contextlib
import sqlite3

import pytest
from support.interrupting import DrainAt, interrupted

from pushengine import events
from pushengine.errors import EngineClosedError


class WhenWaiting:
    """An event sink that calls a function at the first reported wait."""

    def __init__(self, call):
        self.call = call
        self.reasons = []

    def emit(self, event):
        if isinstance(event, events.WaitStarted):
            self.reasons.append(event.reason)
            if len(self.reasons) == 1:
                self.call()


async def test_a_wait_for_a_journal_that_another_process_has_locked_is_reported(start, table, rows):
    stage = await start()
    await stage.push(table)
    with contextlib.closing(
        sqlite3.connect(stage.folder / "state" / "journal.sqlite3", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        sink = WhenWaiting(lambda: other.execute("COMMIT"))
        stage.engine._bus.add(sink)
        receipt = await stage.push(table)
    assert receipt.status == "DONE"
    assert sink.reasons == ["the journal is slow, or another process has it locked"]
    assert await stage.rows() == rows


async def test_a_push_that_waits_for_another_push_into_the_same_table_says_so(start, table):
    """The first push waits in its poll until the second has reported that it waits."""
    stage = await start()
    may_poll = asyncio.Event()
    original = stage.engine._shared.destination.get_job

    async def get_job(job_id):
        await may_poll.wait()
        return await original(job_id)

    stage.engine._shared.destination.get_job = get_job
    waits = []

    class Sink:
        def emit(self, event):
            if isinstance(event, events.WaitStarted) and event.reason.startswith("another push"):
                waits.append(event.reason)
                may_poll.set()

    stage.engine._bus.add(Sink())
    receipts = await asyncio.gather(*(stage.push(table, mode="append") for _ in range(2)))
    assert [receipt.status for receipt in receipts] == ["DONE", "DONE"]
    assert ["table T" in reason for reason in waits] == [True]


@pytest.mark.parametrize("source", ["table", "file"])
async def test_a_submitted_push_is_finished_by_its_id_without_its_source(start, table, rows, save_csv, source):
    """An object in memory is lost with its process; the rows that were sent are not."""
    stage = await start(emulator={"run_seconds": 0.3})
    spec = table if source == "table" else save_csv("a.csv", rows)
    stage.engine._bus.add(DrainAt(events.JobSubmitted, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await stage.push(spec, mode="append")
    push_id = caught.value.receipt.push_id
    await stage.engine.aclose()
    if source == "file":
        spec.unlink()
    engine = await stage.open_engine()
    assert [row.push_id for row in await engine.open_pushes()] == [push_id]
    receipt = await engine.resume(push_id)
    assert (receipt.push_id, receipt.status, receipt.rows, receipt.resumed) == (push_id, "DONE", len(rows), True)
    assert await stage.query("select count(*) from T") == [(len(rows),)]
    assert await engine.open_pushes() == []


async def test_an_older_submitted_push_is_finished_before_a_newer_one_replaces_the_table(start, save_csv):
    stage = await start(emulator={"run_seconds": 0.3})
    old, new = save_csv("old.csv", [(1,), (2,)], ["N"]), save_csv("new.csv", [(7,)], ["N"])
    older = await interrupted(stage, stage.push(old), events.JobSubmitted)
    assert (await stage.push(new)).status == "DONE"
    assert await stage.rows() == [(7,)]
    assert [str(job.status) for job in stage.jobs()] == ["DONE", "DONE"]
    # the older push was never reported: the same command reports it now, and does not undo the newer one
    again = await stage.push(old)
    assert (again.push_id, again.status) == (older.push_id, "DONE")
    assert await stage.rows() == [(7,)]
    waited_for = f"push {again.push_id} into table T was submitted"
    assert [event.reason for event in stage.sink.of(events.WaitStarted) if waited_for in event.reason]
