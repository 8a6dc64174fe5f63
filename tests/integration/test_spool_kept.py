"""A spool file is the only copy of a stream, so no file is deleted that belongs to an open push or whose lock is held."""

import asyncio
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from support.interrupting import change_plan

from pushengine.errors import (
    ConnectionFailedError,
    EngineClosedError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    SubmitOutcomeUnknownError,
)
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.threads import ThreadWorkers
from pushengine.sources.spool import SpoolHold

QUICK = {"max_attempts": 2, "retry_max_wait_seconds": 0.01, "quarantine_seconds": 0.1, "settle_seconds": 0.1}
CSV = b"N\n" + b"".join(b"%d\n" % number for number in range(5000))

CHILD = """
import asyncio, sys
from pathlib import Path
from pushengine import PushEngine, UserApiKey

class Stream:
    calls = 0
    def read(self, size):
        self.calls += 1
        if self.calls == 2:
            print("reading", flush=True)
        return {1: b"N\\n1\\n", 2: sys.stdin.buffer.read() if self.calls == 2 else b""}.get(self.calls, b"")

async def never(*args):
    print("uploading", flush=True)
    await asyncio.Event().wait()

async def main(url, state, hangs):
    async with PushEngine(url, pool_id="pool-1", auth=UserApiKey("test-key"), state_dir=Path(state)) as engine:
        if hangs:
            engine._client.upload_chunk = never
        receipt = await engine.push(Stream(), table="T", format="csv")
        print(receipt.status, receipt.rows, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def folder_of(stage):
    return stage.folder / "state" / "spool"


def spooled(stage):
    return sorted(path.name for path in folder_of(stage).glob("*")) if folder_of(stage).is_dir() else []


def age(stage):
    """Make all files of the spool look as if they were written long ago."""
    for path in folder_of(stage).iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))


def is_free(path):
    with SpoolHold() as hold:
        return hold.take_exclusively(path)


async def reopened(stage, **settings):
    """Open another engine on the same state folder, when everything in the spool is old."""
    age(stage)
    return await stage.open_engine(**QUICK, **settings)


class LaterClock(SystemClock):
    """A clock that is a week ahead, as after a week or when the host's clock is wrong for a while."""

    def now(self):
        return super().now() + 7 * 86_400.0


class Gate:
    """A stream whose second read blocks until the test lets the stream end."""

    def __init__(self, data=CSV):
        self.pieces = [data]
        self.is_waiting = threading.Event()
        self.may_end = threading.Event()

    def read(self, size):
        if self.pieces:
            return self.pieces.pop()
        self.is_waiting.set()
        assert self.may_end.wait(30)
        return b""


async def test_a_spool_that_is_being_written_survives_another_start(start):
    """Standard input may be slow: days may pass between two lines, and the push is not in the journal yet."""
    stage, stream = await start(**QUICK), Gate()
    push = asyncio.create_task(stage.push(stream, format="csv"))
    await asyncio.to_thread(stream.is_waiting.wait, 30)
    (part,) = spooled(stage)
    assert part.endswith(".csv.part")
    await reopened(stage)
    assert spooled(stage) == [part]
    stream.may_end.set()
    assert (await push).rows == 5000
    assert spooled(stage) == []


async def test_a_live_push_older_than_stale_hours_keeps_its_spool(start):
    stage = await start(**QUICK)
    started, may_go = asyncio.Event(), asyncio.Event()
    upload = stage.engine._client.upload_chunk

    async def slow(*args):
        started.set()
        await may_go.wait()
        await upload(*args)

    stage.engine._client.upload_chunk = slow
    push = asyncio.create_task(stage.push(io.BytesIO(CSV), format="csv"))
    await started.wait()
    (name,) = spooled(stage)
    assert not is_free(folder_of(stage) / name)
    await stage.open_engine(clock=LaterClock())
    assert spooled(stage) == [name]
    may_go.set()
    assert (await push).rows == 5000
    assert await stage.query("select count(distinct N) from T") == [(5000,)]
    assert spooled(stage) == []


def other_process(stage, *, hangs=False):
    """Start a process that pushes what is written to its standard input. If `hangs`, none of its uploads ever ends."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, stage.emulator.url, str(stage.folder / "state"), "hangs" if hangs else ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.parametrize("is_killed", [False, True], ids=["alive", "killed"])
async def test_the_spool_of_another_process_is_kept_while_that_process_lives(start, is_killed):
    """The real kernel holds the lock on the file for exactly as long as the other process lives."""
    stage = await start(**QUICK)
    child = other_process(stage)
    try:
        assert await asyncio.to_thread(child.stdout.readline) == b"reading\n"
        (part,) = spooled(stage)
        await reopened(stage)
        assert spooled(stage) == [part]
        if is_killed:
            child.kill()
        out, _ = await asyncio.to_thread(child.communicate, b"" if is_killed else b"2\n3\n")
        assert out == (b"" if is_killed else b"DONE 3\n")
        if is_killed:
            assert spooled(stage) == [part]
            await reopened(stage)
    finally:
        child.kill()
        await asyncio.to_thread(child.communicate)
    assert spooled(stage) == []


async def test_a_killed_push_keeps_its_spool_for_as_long_as_it_is_open(start):
    stage = await start(**QUICK)
    child = other_process(stage, hangs=True)
    try:
        assert await asyncio.to_thread(child.stdout.readline) == b"reading\n"
        child.stdin.write(b"2\n3\n")
        child.stdin.close()
        assert await asyncio.to_thread(child.stdout.readline) == b"uploading\n"
        (name,) = spooled(stage)
        await stage.open_engine(clock=LaterClock())
        assert spooled(stage) == [name]
    finally:
        child.kill()
        await asyncio.to_thread(child.wait)
        child.stdout.close()
    await stage.open_engine(clock=LaterClock())
    assert spooled(stage) == [name]
    engine = await stage.open_engine(**QUICK)
    (row,) = await engine.open_pushes()
    assert (await engine.resume(row.push_id)).rows == 3
    assert await stage.query("select count(distinct N) from T") == [(3,)]
    assert spooled(stage) == []


async def interrupted(stage):
    """Interrupt a push of a stream after its job was created, close its engine, and return the push id."""
    stage.engine._client.upload_chunk = _unreachable
    with pytest.raises(Exception, match="no route") as caught:
        await stage.push(io.BytesIO(CSV), format="csv")
    await stage.engine.aclose()
    return caught.value.receipt.push_id


async def _unreachable(*_args):
    raise ConnectionFailedError("no route")


async def test_a_push_that_ended_early_keeps_its_spool_for_as_long_as_it_is_open(start):
    stage = await start(**QUICK)
    push_id = await interrupted(stage)
    assert spooled(stage) == [f"{push_id}.csv"]
    assert is_free(folder_of(stage) / f"{push_id}.csv")
    engine = await reopened(stage)
    assert spooled(stage) == [f"{push_id}.csv"]
    assert (await engine.resume(push_id)).rows == 5000
    assert spooled(stage) == []


async def test_a_push_that_replaces_another_reads_the_same_spool(start):
    """The new push has a different id than the file name contains."""
    stage = await start(**QUICK)
    first = await interrupted(stage)
    # another version of pyarrow: resuming starts a new push
    change_plan(stage, "UPDATE facts SET body = json_set(body, '$.recipe.pyarrow', '1.0') WHERE kind = 'push_planned'")
    engine = await reopened(stage)
    engine._client.upload_chunk = _unreachable
    with pytest.raises(Exception, match="no route") as caught:
        await engine.resume(first)
    second = caught.value.receipt.push_id
    await engine.aclose()
    assert second != first
    engine = await reopened(stage)
    assert spooled(stage) == [f"{first}.csv"]
    assert (await engine.resume(second)).rows == 5000
    assert spooled(stage) == []


async def test_a_submit_whose_outcome_is_unknown_keeps_the_spool(start):
    """An operator may have to push again from it."""
    stage = await start(**QUICK)
    client = stage.engine._client

    async def lost(job_id, **_options):
        del stage.emulator.service.jobs[job_id]
        raise OutcomeUnknownError("no response")

    client.submit_job = lost
    with pytest.raises(SubmitOutcomeUnknownError) as caught:
        await stage.push(io.BytesIO(CSV), format="csv")
    name = f"{caught.value.receipt.push_id}.csv"
    assert spooled(stage) == [name]
    await stage.engine.aclose()
    engine = await reopened(stage)
    assert spooled(stage) == [name]
    assert (await engine.push(folder_of(stage) / name, table="T")).rows == 5000
    assert spooled(stage) == [name]


async def test_a_permanently_failed_poll_keeps_the_spool_because_the_push_is_open(start):
    stage = await start(**QUICK)
    client = stage.engine._client
    submit, get = client.submit_job, client.get_job
    submitted = []

    async def remember(job_id, **options):
        submitted.append(job_id)
        await submit(job_id, **options)

    async def reject(job_id):
        if submitted:
            raise PermissionDeniedError("no", status=403)
        return await get(job_id)

    client.submit_job, client.get_job = remember, reject
    with pytest.raises(PermissionDeniedError) as caught:
        await stage.push(io.BytesIO(CSV), format="csv")
    push_id = caught.value.receipt.push_id
    assert spooled(stage) == [f"{push_id}.csv"]
    await stage.engine.aclose()
    engine = await reopened(stage)
    assert (await engine.resume(push_id)).rows == 5000
    assert spooled(stage) == []
    assert len(submitted) == 1


async def test_a_failure_before_the_journal_lists_the_push_keeps_no_spool(start):
    stage = await start(**QUICK)

    async def fail_to_create(*_args, **_options):
        raise NotFoundError("no pool", status=404)

    stage.engine._client.create_job = fail_to_create
    with pytest.raises(NotFoundError):
        await stage.push(io.BytesIO(CSV), format="csv")
    with pytest.raises(Exception, match="line 3"):
        await stage.push(io.BytesIO(b"A,B\n1,2\n1,2,3\n"), format="csv")
    assert spooled(stage) == []


async def test_a_spool_is_kept_if_the_journal_cannot_be_read(start):
    stage = await start(**QUICK)
    journal = stage.engine._shared.journal

    def failing(call_journal):
        async def fail_once_spooled(call):
            if spooled(stage):
                raise JournalError("disk full", path="j")
            return await call_journal(call)

        return fail_once_spooled

    journal.do, journal.read = failing(journal.do), failing(journal.read)
    with pytest.raises(JournalError):
        await stage.push(io.BytesIO(CSV), format="csv")
    (name,) = spooled(stage)
    assert is_free(folder_of(stage) / name)


@pytest.mark.parametrize("is_closed", [False, True], ids=["cancelled", "engine-closed"])
async def test_a_push_that_is_stopped_while_spooling_leaves_neither_file_nor_lock(start, is_closed):
    stage, stream = await start(**QUICK), Gate()
    push = asyncio.create_task(stage.push(stream, format="csv"))
    await asyncio.to_thread(stream.is_waiting.wait, 30)
    (part,) = spooled(stage)
    kept = folder_of(stage) / "kept"
    os.link(folder_of(stage) / part, kept)  # a link to the same file shows whether the lock is still held
    assert not is_free(kept)
    if is_closed:
        await stage.engine.aclose()
    else:
        push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    stream.may_end.set()
    assert spooled(stage) == ["kept"]
    assert is_free(kept)


async def test_a_push_that_is_cancelled_after_its_stream_was_spooled_leaves_no_file(start, monkeypatch):
    """The file is complete, but no push is in the journal yet: nothing would ever read it."""
    stage = await start(**QUICK)
    is_closing = asyncio.Event()
    close = ThreadWorkers.aclose

    async def slow_close(workers):
        try:
            if spooled(stage):
                is_closing.set()
                await asyncio.Event().wait()  # until the push is cancelled
        finally:
            await close(workers)

    monkeypatch.setattr(ThreadWorkers, "aclose", slow_close)
    push = asyncio.create_task(stage.push(pa.table({"N": range(100)}), spool=True))
    await is_closing.wait()
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert spooled(stage) == []


@pytest.mark.parametrize("step", range(0, 60, 3))
async def test_a_push_that_is_cancelled_at_any_point_releases_its_file(start, step):
    """The file is kept if, and only if, the journal lists the push as open."""
    stage = await start(**QUICK)
    push = asyncio.create_task(stage.push(pa.table({"N": range(100)}), spool=True))
    for _ in range(step):
        await asyncio.sleep(0)
        if push.done():
            break
    push.cancel()
    await asyncio.gather(push, return_exceptions=True)
    assert spooled(stage) == [f"{row.push_id}.arrow" for row in await stage.engine.open_pushes()]
    assert all(is_free(path) for path in folder_of(stage).glob("*"))


async def test_a_drained_push_releases_its_file_and_keeps_it(start):
    stage = await start(**QUICK)
    upload = stage.engine._client.upload_chunk

    async def drain(*args):
        stage.engine.drain()
        await upload(*args)

    stage.engine._client.upload_chunk = drain
    table = pa.table({"N": range(500_000)})
    with pytest.raises(EngineClosedError) as caught:
        await stage.engine.push(table, table="T", spool=True)
    name = f"{caught.value.receipt.push_id}.arrow"
    assert spooled(stage) == [name]
    assert is_free(folder_of(stage) / name)


async def test_concurrent_starts_that_clean_up_do_not_disturb_each_other(start):
    stage = await start(**QUICK)
    folder_of(stage).mkdir()
    for number in range(20):
        (folder_of(stage) / f"{number}.csv").write_bytes(b"x")
    age(stage)
    await asyncio.gather(*(stage.open_engine() for _ in range(4)))
    assert spooled(stage) == []
