"""Pushes of pipes, and of files whose names are not UTF-8, as a library user makes them: resumed, cancelled, counted once."""

import asyncio
import gzip
import os
from pathlib import Path

import pytest
from support.interrupting import interrupted

from pushengine import events
from pushengine.push.identity import push_identity, source_patterns

KIB = 1024
ROWS = 40_000
TEXT = b"N,T\n" + b"".join(b"%d,%08d\n" % (number, number) for number in range(ROWS))


@pytest.fixture
def non_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Auftr\xe4ge.csv"))
    try:
        path.write_bytes(TEXT)
    except OSError:
        pytest.skip("this file system has only names that are UTF-8")
    return path


@pytest.mark.parametrize("how", ["by its command", "by its id", "by a pattern"])
async def test_a_push_of_a_file_whose_name_is_not_utf8_is_resumed(start, non_utf8, how):
    settings = {"chunk_bytes": 64 * KIB, "max_uploads": 1}
    stage = await start(**settings)
    source = non_utf8.parent / "Auftr?ge.csv" if how == "by a pattern" else non_utf8
    receipt = await interrupted(stage, stage.push(source), events.ChunkUploaded, **settings)
    if how == "by its id":
        resumed = await stage.engine.resume(receipt.push_id)
    else:
        resumed = await stage.push(source)
    assert (resumed.push_id, resumed.resumed) == (receipt.push_id, True)
    assert await stage.query("select count(*), count(distinct N) from T") == [(ROWS, ROWS)]
    assert stage.sink.of(events.PushSuperseded) == []


def identity(path, **target):
    from pushengine.config.options import LoadOptions
    from pushengine.model import Target

    return push_identity(
        team="team.example",
        pool_id="pool",
        target=Target("T", **target),
        source=source_patterns(path),
        source_format=None,
        options=LoadOptions(),
    )


def test_identities_of_names_that_are_utf8_are_those_of_earlier_versions():
    assert identity("/data/Größe.csv") == "6dce3db391436ca5a57b7737dc60efa019b4683a61e6497d524795ac7c26302a"
    names = [b"/data/Auftr\xe4ge.csv", b"/data/Auftr\xf6ge.csv", rb"/data/Auftr\udce4ge.csv", rb"/data/Auftr\xe4ge.csv"]
    assert len({identity(os.fsdecode(name)) for name in names}) == len(names)


# --- Pipes


async def written(path, data):
    await asyncio.to_thread(path.write_bytes, data)


@pytest.mark.parametrize("data", [TEXT, gzip.compress(TEXT)], ids=["plain", "gzip"])
async def test_a_fifo_is_pushed_and_a_second_command_with_the_same_content_is_another_push(start, tmp_path, data):
    stage = await start()
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    for _ in range(2):
        _, receipt = await asyncio.gather(written(path, data), stage.push(path, mode="append"))
        assert receipt.rows == ROWS
    assert await stage.query("select count(*), count(distinct N) from T") == [(2 * ROWS, ROWS)]
    assert list((stage.folder / "state" / "spool").iterdir()) == []


async def test_a_push_of_a_fifo_is_resumed_by_its_command_with_the_same_content(start, tmp_path):
    settings = {"chunk_bytes": 64 * KIB, "max_uploads": 1}
    stage = await start(**settings)
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    first = asyncio.ensure_future(written(path, TEXT))
    receipt = await interrupted(stage, stage.push([path]), events.ChunkUploaded, **settings)
    await first
    _, resumed = await asyncio.gather(written(path, TEXT), stage.push([path]))
    assert (resumed.push_id, resumed.resumed) == (receipt.push_id, True)
    assert await stage.query("select count(*), count(distinct N) from T") == [(ROWS, ROWS)]


async def test_a_push_that_waits_for_the_writer_of_a_fifo_can_be_cancelled(stage, tmp_path):
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    push = asyncio.create_task(stage.push(path))
    while not (waiting := stage.sink.of(events.WaitStarted)):
        await asyncio.sleep(0.01)
    assert waiting[0].reason == "the stream is written to disk first"
    push.cancel()
    with pytest.raises(asyncio.CancelledError):
        await push
    assert stage.jobs() == []
    assert list((stage.folder / "state" / "spool").iterdir()) == []
