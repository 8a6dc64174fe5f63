"""Processes that load the same table at the same time: one of them does, the others learn which one. Others are not disturbed."""

import json
import signal

import pytest

pytestmark = pytest.mark.crash


@pytest.fixture
async def loading(lab):
    """A process that loads table T, stopped in the middle."""
    (lab.folder / "small.csv").write_text("N,ID,TEXT\n1,a,b\n")
    process = await lab.start("T")
    assert await lab.wait_for_chunks(process, 3)
    await lab.pause(process)
    return process


async def test_another_push_into_the_table_is_refused_and_told_by_whom(lab, loading):
    for table in ("T", "t"):
        code, output, _ = await lab.finish(await lab.start(table, source="small.csv"))
        assert (code, output["error"]["type"]) == (75, "JournalLockedError")
        assert output["error"]["message"] == f"table {table} is being loaded by pid {loading.pid}"
    loading.send_signal(signal.SIGCONT)
    code, receipt, err = await lab.finish(loading)
    assert (code, receipt["status"]) == (0, "DONE"), err
    await lab.check_table("T")
    lab.check_submits("T")
    code, receipt, err = await lab.finish(await lab.start("T", source="small.csv"))
    assert (code, receipt["rows"]) == (0, 1), err


async def test_other_tables_and_the_same_table_of_another_pool_are_loaded_meanwhile(lab, loading):
    code, receipt, err = await lab.finish(await lab.start("U", source="small.csv"))
    assert (code, receipt["status"]) == (0, "DONE"), err
    lab.environment["PUSHENGINE_POOL_ID"] = "pool-2"
    code, receipt, err = await lab.finish(await lab.start("T", source="small.csv"))
    assert (code, receipt["status"]) == (0, "DONE"), err


async def test_a_killed_process_leaves_the_table_free(lab, loading):
    loading.kill()
    await loading.communicate()
    code, receipt, err = await lab.finish(await lab.start("T", source="small.csv", mode="replace"))
    assert (code, receipt["rows"]) == (0, 1), err


async def test_a_resume_is_refused_while_another_push_loads_the_table(lab, loading):
    loading.kill()
    await loading.communicate()
    other = await lab.run("push", "small.csv", "--table", "t", "--mode", "append", "--json")
    assert (await lab.finish(other))[0] == 0  # an append leaves the other append open
    holder = await lab.start("T", source="big.csv", mode="upsert")
    assert await lab.wait_for_chunks(holder, 3)
    await lab.pause(holder)
    process = await lab.run("resume", "--json")
    out, err = await process.communicate()
    assert process.returncode == 75, err
    assert f"is being loaded by pid {holder.pid}" in json.loads(out)[0]["error"]["message"]
    holder.send_signal(signal.SIGCONT)
    code, _, err = await lab.finish(holder)
    assert code == 0, err
