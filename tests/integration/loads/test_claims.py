"""What a push means to its load is written in the transaction of its last fact: all of it, or nothing."""

import asyncio
import contextlib
import hashlib
import json
import signal
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.interrupting import interrupted

from pushengine import events
from pushengine.errors import JobFailedError, OutcomeUnknownError, SourceError, SubmitOutcomeUnknownError
from pushengine.journal.loads import BlockRow, Run, RunLoad
from pushengine.journal.store import JournalFile
from pushengine.model import Claim
from pushengine.push.identity import load_identity
from pushengine.runtime.files import LocalFileSystem

CLAIM = Claim(load="sap", table="T", generation="2026-11-27", run_id="run-1")


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,S\n1,x\n2,y\n")
    return path


@contextlib.contextmanager
def memory(stage):
    with contextlib.closing(JournalFile(stage.folder / "state" / "journal.sqlite3")) as file:
        yield file.loads


def write(stage, change):
    with contextlib.closing(JournalFile(stage.folder / "state" / "journal.sqlite3")) as file, file.transaction():
        change(file.loads)


def begin(stage, run_id="run-1"):
    item = RunLoad(load="sap", table="T", generation="2026-11-27", number=5, state="running", is_late=True)
    write(stage, lambda loads: loads.begin_run(Run(run_id=run_id, started_at=1.0), [item]))


async def push(stage, source, **options):
    return await stage.push(source, claim=CLAIM, **({"load_id": "run-1/sap.T/2026-11-27"} | options))


def state_of(stage):
    """Return all that is remembered of the load: (files, tables, blocks, what the run did)."""
    with memory(stage) as loads:
        return loads.files("sap"), loads.tables(), loads.blocks(), loads.run_loads("run-1")


async def test_a_push_that_is_done_writes_its_files_its_table_and_its_run(stage, csv):
    begin(stage)
    receipt = await push(stage, csv)
    (file,), (table,), blocks, (item,) = state_of(stage)
    (ref,) = LocalFileSystem().list(str(csv))
    assert file.is_unchanged(ref)
    assert (file.path, file.state, file.push_id, file.generation) == (str(csv), "loaded", receipt.push_id, "2026-11-27")
    assert file.sha256 == hashlib.sha256(csv.read_bytes()).hexdigest()
    assert file.first_seen_at == file.loaded_at > 0
    assert (table.load, table.table, table.team, table.pool_id) == ("sap", "T", stage.engine.team, "pool-1")
    assert (table.connection_id, table.generation, table.push_id) == ("", "2026-11-27", receipt.push_id)
    assert blocks == []
    assert (item.state, item.rows, item.push_id, item.number, item.is_late) == ("done", 2, receipt.push_id, 5, True)
    assert (item.load_id, item.source_bytes, item.payload_bytes) == (
        "run-1/sap.T/2026-11-27",
        csv.stat().st_size,
        receipt.payload_bytes,
    )
    assert item.files == (str(csv),)
    assert item.ended_at >= item.started_at > 0


async def test_all_files_of_a_push_are_loaded(stage, tmp_path):
    begin(stage)
    paths = []
    for name in "ab":
        paths.append(tmp_path / f"{name}.csv")
        paths[-1].write_text(f"ID\n{len(paths)}\n")
    await push(stage, paths)
    files, *_ = state_of(stage)
    assert [file.path for file in files] == [str(path) for path in paths]
    assert len({file.sha256 for file in files}) == 2


async def test_files_that_are_sent_unchanged_are_known_by_their_content_too(stage, tmp_path):
    begin(stage)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"N": list(range(20_000))}), path, version="2.4", store_schema=False)
    await push(stage, path)
    (file,), *_ = state_of(stage)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_push_with_rejects_is_done_with_rejects(stage, csv):
    begin(stage)
    csv.write_text("ID,S\n1,x\nzwei,y\n3,z\n")
    await push(stage, csv, column_types={"ID": "INTEGER"}, max_rejects=5)
    *_, (item,) = state_of(stage)
    assert (item.state, item.rows, item.rejected) == ("rejects", 2, 1)


async def test_an_empty_push_that_creates_no_job_has_loaded_its_file(stage, csv):
    begin(stage)
    csv.write_text("ID,S\n")
    await push(stage, csv, mode="append", allow_empty=True)
    (file,), (_table,), _, (item,) = state_of(stage)
    assert (file.state, file.sha256, item.state, item.rows) == ("loaded", "", "done", 0)
    assert stage.jobs() == []


async def test_a_push_without_a_claim_writes_nothing_and_says_that_a_load_has_the_table(stage, csv, tmp_path):
    begin(stage)
    assert (await push(stage, csv)).notes == ()
    before = state_of(stage)
    other = tmp_path / "b.csv"
    other.write_text("ID,S\n3,z\n")
    receipt = await stage.push(other, table="t", mode="append")
    assert receipt.notes == ("table t is loaded by load sap: this push changes neither its files nor its cursor",)
    assert (await stage.push(other, table="U")).notes == ()
    assert state_of(stage) == before


@pytest.mark.parametrize("mode", ["upsert", "delete"])
async def test_a_failed_file_of_an_upsert_or_delete_blocks_until_it_is_done(stage, csv, mode):
    begin(stage)
    await stage.push(csv, mode="replace")
    csv.write_text("ID,S\n1,x\n1,y\n")
    with pytest.raises(SourceError):
        await push(stage, csv, mode=mode, keys=["NOPE"])
    files, tables, (block,), (item,) = state_of(stage)
    assert (files, tables) == ([], [])
    assert (block.path, block.kind, block.push_id) == (str(csv), "failed", item.push_id)
    assert "NOPE" in block.reason
    assert (item.state, item.rows, item.reason) == ("failed", 0, block.reason)
    await push(stage, csv, mode=mode, keys=["ID"], duplicate_keys="last")
    (file,), _, blocks, (item,) = state_of(stage)
    assert (file.state, blocks, item.state, item.reason) == ("loaded", [], "done", "")


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_failed_replace_or_append_blocks_nothing(stage, csv, mode):
    begin(stage)
    csv.write_text("")
    with pytest.raises(SourceError):
        await push(stage, csv, mode=mode)
    files, _, blocks, (item,) = state_of(stage)
    assert (files, blocks, item.state) == ([], [], "failed")


async def test_a_failed_job_of_an_upsert_blocks_its_files(start, csv):
    stage = await start()
    begin(stage)

    class Sink:
        def emit(self, event):
            if isinstance(event, events.JobVerified):
                for chunk in stage.emulator.service.jobs[event.job_id].chunks:
                    chunk.path.write_bytes(b"rotten")

    stage.engine._bus.add(Sink())
    with pytest.raises(JobFailedError):
        await push(stage, csv, mode="upsert", keys=["ID"])
    _, _, (block,), (item,) = state_of(stage)
    assert (block.path, block.kind, item.state) == (str(csv), "failed", "failed")


async def test_an_unknown_outcome_blocks_in_every_mode(stage, csv):
    begin(stage)

    async def lost(job_id, **_options):
        del stage.emulator.service.jobs[job_id]
        raise OutcomeUnknownError("no response")

    stage.engine._client.submit_job = lost
    with pytest.raises(SubmitOutcomeUnknownError):
        await push(stage, csv)
    _, _, (block,), (item,) = state_of(stage)
    assert (block.path, block.kind, item.state, item.exit_code) == (str(csv), "unknown", "unknown", 6)


async def test_done_lifts_the_blocks_of_its_own_files_only(stage, csv):
    begin(stage)
    for path, kind in ((str(csv), "failed"), ("/gone.csv", "failed"), ("", "unknown")):
        row = BlockRow(load="sap", table="T", path=path, kind=kind, push_id="p", reason="r", at=1.0)
        write(stage, lambda loads, row=row: loads.put_block(row))
    await push(stage, csv)
    *_, blocks, _ = state_of(stage)
    assert {block.path for block in blocks} == {"/gone.csv", ""}


async def test_an_interrupted_push_means_nothing_until_resume_ends_it(stage, csv):
    begin(stage)
    receipt = await interrupted(stage, push(stage, csv), events.ChunkUploaded)
    files, tables, blocks, (item,) = state_of(stage)
    assert (files, tables, blocks, item.state) == ([], [], [], "running")
    with memory(stage) as loads:
        assert loads.open_pushes() == [(receipt.push_id, CLAIM)]
    await stage.engine.resume(receipt.push_id)
    (file,), (_table,), _, (item,) = state_of(stage)
    assert (file.push_id, item.state) == (receipt.push_id, "done")
    with memory(stage) as loads:
        assert loads.open_pushes() == []


async def test_other_settings_of_a_load_supersede_its_unsubmitted_push(stage, csv):
    begin(stage)
    receipt = await interrupted(stage, push(stage, csv), events.ChunkUploaded)
    again = await push(stage, csv, column_types={"ID": "STRING"})
    assert again.push_id != receipt.push_id
    assert again.schema[0]["type"] == "STRING"
    (file,), *_ = state_of(stage)
    assert file.push_id == again.push_id
    assert len(stage.jobs("DONE")) == 1


async def test_other_settings_of_a_load_do_not_repeat_what_is_done(stage, csv):
    begin(stage)
    first = await push(stage, csv, mode="append")
    assert (await push(stage, csv, mode="append", column_types={"ID": "STRING"})).push_id == first.push_id
    assert len(await stage.rows()) == 2


async def test_a_push_that_another_process_holds_blocks_nothing(stage, csv):
    begin(stage)
    script = (
        "import sys; from pathlib import Path; from pushengine.state.lock import PushLock;"
        "lock = PushLock(Path(sys.argv[1]), sys.argv[2]); print(flush=True); sys.stdin.read()"
    )
    identity = load_identity(stage.engine.team, "pool-1", "run-1/sap.T/2026-11-27")
    arguments = [sys.executable, "-c", script, str(stage.folder / "state" / "locks"), identity]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(Exception, match="held by pid"):
            await push(stage, csv, mode="upsert", keys=["ID"])
        holder.stdin.close()
    _, _, blocks, (item,) = state_of(stage)
    assert (blocks, item.state) == ([], "running")


# --- Killed at every commit

_PUSHES = """
import asyncio, json, os, signal, sys
from pushengine import PushEngine, UserApiKey, EngineSettings
from pushengine.model import Claim
from pushengine.state.sqlite import PatientConnection
url, state, source, left, mode = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
execute = PatientConnection.execute
def counted(self, sql, *rest):
    global left
    if sql == "COMMIT":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, *rest)
async def main():
    claim = Claim(load="sap", table="T", generation="2026-11-27", run_id="run-1")
    async with PushEngine(url, pool_id="pool-1", auth=UserApiKey("test-key"), state_dir=state) as engine:
        PatientConnection.execute = counted
        keys = ["ID"] if mode == "upsert" else []
        receipt = await engine.push(source, table="T", mode=mode, keys=keys, claim=claim, load_id="once")
        print(json.dumps([receipt.push_id, receipt.status, receipt.rows]))
asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.timeout(300)
async def test_a_process_killed_at_any_commit_leaves_all_or_nothing_and_the_next_run_loads_the_file_once(stage, csv):
    begin(stage)
    await stage.engine.aclose()
    left, deaths = 1, 0
    while True:
        number = f"{left:03}"
        csv.write_text(f"ID,S\n{number},x\n")

        async def run(at, number=number):
            arguments = [stage.emulator.url, stage.folder / "state", csv, str(at), "append"]
            script = _PUSHES.replace('"once"', repr(number))
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, *map(str, arguments), stdout=asyncio.subprocess.PIPE
            )
            output, _ = await process.communicate()
            return process.returncode, output

        code, _ = await run(left)
        files, tables, _, (item,) = state_of(stage)
        before = [file.push_id for file in files]
        assert [table.push_id for table in tables] == before
        with memory(stage) as loads:
            done = loads.load_id(stage.engine.team, "pool-1", number)
        is_done = done is not None
        assert is_done == (before == [done.push_id] if is_done else False)
        if code == 0:
            assert is_done
            break
        assert code == -signal.SIGKILL
        deaths += 1
        code, output = await run(0)
        assert code == 0
        push_id, status, rows = json.loads(output)
        assert (status, rows) == ("DONE", 1)
        (file,), (table,), _, (item,) = state_of(stage)
        assert file.push_id == table.push_id == item.push_id == push_id
        assert item.state == "done"
        assert len(stage.jobs("DONE")) == left
        left += 1
    assert deaths > 8
    assert len(await stage.rows()) == deaths + 1
