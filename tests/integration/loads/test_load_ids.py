"""A load id stands for one push, which is loaded once: `push(load_id=...)`."""

import contextlib
import io

import pyarrow as pa
import pytest
from support.interrupting import interrupted

from pushengine import events
from pushengine.errors import ConfigError, OutcomeUnknownError, SourceError, SubmitOutcomeUnknownError
from pushengine.journal.store import JournalFile


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,S\n1,x\n2,y\n")
    return path


async def append(stage, source, load_id="night", **options):
    return await stage.push(source, load_id=load_id, **({"mode": "append"} | options))


async def reopen(stage):
    await stage.engine.aclose()
    stage.engine = await stage.open_engine()


async def count(stage):
    return (await stage.query("select count(*) from T"))[0][0]


async def test_a_push_that_is_done_under_its_load_id_is_not_repeated_and_gives_its_receipt(stage, csv):
    first = await append(stage, csv)
    assert (first.status, first.load_id, first.resumed) == ("DONE", "night", False)
    for _ in range(2):
        again = await append(stage, csv)
        assert (again.push_id, again.rows, again.load_id, again.resumed) == (first.push_id, 2, "night", True)
        for name in ("job_id", "status", "checksums", "schema", "verified", "submits", "payload_bytes"):
            assert getattr(again, name) == getattr(first, name)
        await reopen(stage)
    assert (await count(stage), len(stage.jobs())) == (2, 1)


async def test_the_old_receipt_is_returned_though_the_files_are_gone_or_changed_and_history_is_pruned(stage, csv):
    first = await append(stage, csv)
    csv.write_text("ID,S\n3,z\n")
    assert (await append(stage, csv)).push_id == first.push_id
    csv.unlink()
    await stage.push(io.BytesIO(b"ID\n1\n"), table="OTHER", format="csv")  # the newest push is never pruned
    await stage.engine.aclose()
    with contextlib.closing(JournalFile(stage.folder / "state" / "journal.sqlite3")) as journal:
        with journal.transaction():
            journal.prune(before=1e12)
        assert journal.push(first.push_id) is None
    stage.engine = await stage.open_engine()
    assert (await append(stage, csv)).push_id == first.push_id
    assert await count(stage) == 2


async def test_two_load_ids_are_two_pushes(stage, csv):
    assert (await append(stage, csv)).push_id != (await append(stage, csv, "morning")).push_id
    assert await count(stage) == 4


async def test_a_load_id_of_another_push_is_refused_and_what_differs_is_named(stage, csv, tmp_path):
    await append(stage, csv)
    other = tmp_path / "b.csv"
    other.write_text("ID,S\n9,x\n")
    for source, options, differs in (
        (other, {}, rf"source: {csv}, not {other}"),
        (csv, {"table": "U"}, "table: t, not u"),
        (csv, {"mode": "replace"}, "mode: append, not replace"),
        (csv, {"mode": "upsert", "keys": ["ID"]}, "mode: append, not upsert"),
        (csv, {"column_types": {"ID": "STRING"}}, "column types: none, not "),
        (csv, {"select": ["ID"]}, "options: none, not "),
    ):
        with pytest.raises(ConfigError, match=r"load id night belongs to push .*, which has another") as caught:
            await append(stage, source, **options)
        assert differs in str(caught.value)
        assert caught.value.key == "load_id"
    assert (await count(stage), len(stage.jobs())) == (2, 1)


async def test_a_push_that_failed_under_its_load_id_may_be_tried_again(stage, csv):
    csv.write_text("")
    with pytest.raises(SourceError):
        await append(stage, csv)
    csv.write_text("ID,S\n1,x\n")
    assert (await append(stage, csv)).rows == 1
    with pytest.raises(ConfigError, match="mode"):
        await append(stage, csv, mode="replace")


@pytest.mark.parametrize("kind", [events.ChunkUploaded, events.JobSubmitted])
async def test_a_push_that_was_interrupted_is_continued_under_its_load_id(stage, csv, kind):
    receipt = await interrupted(stage, append(stage, csv), kind)
    assert receipt.load_id == "night"
    again = await append(stage, csv)
    assert (again.push_id, again.resumed, again.load_id) == (receipt.push_id, True, "night")
    assert (await append(stage, csv)).push_id == receipt.push_id
    assert (await count(stage), len(stage.jobs("DONE"))) == (2, 1)


async def test_a_submitted_push_is_ended_under_its_load_id_though_its_file_has_changed(start, csv):
    stage = await start(emulator={"run_seconds": 0.3})
    receipt = await interrupted(stage, append(stage, csv), events.JobSubmitted)
    csv.write_text("ID,S\n7,x\n8,x\n9,x\n")
    again = await append(stage, csv)
    assert (again.push_id, again.rows) == (receipt.push_id, 2)
    assert await count(stage) == 2


async def test_resume_ends_a_push_under_its_load_id(stage, csv):
    receipt = await interrupted(stage, append(stage, csv), events.ChunkUploaded)
    assert (await stage.engine.resume(receipt.push_id)).load_id == "night"
    await reopen(stage)
    assert (await append(stage, csv)).push_id == receipt.push_id
    assert await count(stage) == 2


async def test_an_interrupted_push_under_a_load_id_is_refused_with_other_options(stage, csv):
    await interrupted(stage, append(stage, csv), events.ChunkUploaded)
    with pytest.raises(ConfigError, match="which has another mode"):
        await append(stage, csv, mode="replace")


async def test_a_push_of_unknown_outcome_is_not_repeated_under_its_load_id(stage, csv):
    client = stage.engine._client

    async def lost(job_id, **_options):
        del stage.emulator.service.jobs[job_id]
        raise OutcomeUnknownError("no response")

    client.submit_job = lost
    with pytest.raises(SubmitOutcomeUnknownError) as first:
        await append(stage, csv)
    await reopen(stage)
    with pytest.raises(SubmitOutcomeUnknownError, match="whether that was loaded is unknown") as caught:
        await append(stage, csv)
    assert f"pushengine resolve {first.value.receipt.push_id} --loaded" in caught.value.hint
    assert stage.jobs() == []


async def test_streams_and_objects_in_memory_have_load_ids_too(stage):
    first = await append(stage, io.BytesIO(b"ID\n1\n"), format="csv")
    assert (await append(stage, io.BytesIO(b"ID\n1\n"), format="csv")).push_id == first.push_id
    with pytest.raises(ConfigError, match="another source"):
        await append(stage, io.BytesIO(b"ID\n2\n"), format="csv")
    table = pa.table({"ID": [1]})
    second = await append(stage, table, "frame")
    assert (await append(stage, table, "frame")).push_id == second.push_id
    assert await count(stage) == 2


@pytest.mark.parametrize("load_id", ["", " ", "\udce4"])
async def test_a_load_id_that_cannot_be_one_is_refused(stage, csv, load_id):
    with pytest.raises(ConfigError) as caught:
        await append(stage, csv, load_id)
    assert caught.value.key == "load_id"


async def test_an_empty_append_is_done_under_its_load_id(stage, csv):
    csv.write_text("ID,S\n")
    first = await append(stage, csv, allow_empty=True)
    assert (first.rows, first.load_id) == (0, "night")
    assert (await append(stage, csv, allow_empty=True)).push_id == first.push_id
