"""Passthrough: Parquet files that suit the platform are sent without being decoded, and arrive as faithfully as any others."""

import asyncio
import os

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConnectionFailedError, SchemaError, SourceReadError
from pushengine.push.plan import plan_source

SMALL = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}
GROUP = 1000
COUNT = 20 * GROUP
LATE = 7 * GROUP + 321


def columns(count=COUNT, **changed):
    return {
        "N": list(range(count)),
        "ID": [f"{number % 977:010d}" for number in range(count)],
        "X": [number / 3 for number in range(count)],
        "AT": pa.array([number * 37_123_456 for number in range(count)], pa.timestamp("us")),
        "B": [number % 3 == 0 for number in range(count)],
        "S": [None if number % 5 == 0 else f"größe {number * 7919 % 10_007}" for number in range(count)],
    } | changed


@pytest.fixture
def write(tmp_path):
    def write(table, name="rows.parquet", **options):
        path = tmp_path / name
        pq.write_table(
            pa.table(table), path, **{"row_group_size": GROUP, "use_deprecated_int96_timestamps": True} | options
        )
        return path

    return write


async def arrived(stage, path):
    """Return the rows in the table, and the rows that DuckDB reads from the file."""
    found = await stage.query('select * exclude (_CELONIS_CHANGE_DATE) from "T" order by N')
    return found, duckdb.sql(f"from '{path}' order by N").fetchall()


async def test_a_file_of_many_row_groups_arrives_in_several_chunks_with_every_value(start, write):
    stage = await start(**SMALL)
    path = write(columns())
    receipt = await stage.push(path)
    found, expected = await arrived(stage, path)
    assert found == expected
    assert (receipt.rows, receipt.verified, receipt.restarts) == (COUNT, "checksum", 0)
    assert receipt.chunks > 3
    size = path.stat().st_size
    assert size * 0.9 < receipt.payload_bytes < size * 1.2
    assert stage.engine._shared.budget.reserved == 0


async def test_a_file_that_is_small_enough_is_sent_byte_for_byte(start, write):
    stage = await start()
    path = write(columns(500))
    receipt = await stage.push(path)
    found, expected = await arrived(stage, path)
    assert found == expected
    assert (receipt.chunks, receipt.payload_bytes) == (1, path.stat().st_size)
    plan = await plan_source(path, table="T")
    assert "sent unchanged" in plan.notes
    assert plan.estimated_chunks == 1


async def test_small_files_share_one_chunk(start, write):
    stage = await start()
    table = pa.table(columns())
    for number in range(20):
        write(table.slice(number * GROUP, GROUP), f"{number:02d}.parquet", row_group_size=300)
    receipt = await stage.push(str(write(table.slice(0, 0), "99.parquet").with_name("*.parquet")))
    found = await stage.query('select * exclude (_CELONIS_CHANGE_DATE) from "T" order by N')
    assert [row[0] for row in found] == list(range(COUNT))
    assert receipt.chunks == 1


@pytest.mark.parametrize("chunks", ["one", "many"])
async def test_files_that_duckdb_wrote_are_sent_unchanged(start, tmp_path, chunks):
    stage = await start(**(SMALL if chunks == "many" else {}))
    path = tmp_path / "duck.parquet"
    duckdb.sql(
        f"copy (select i as N, 'text ' || i % 9 as S, i / 7 as X, i % 2 = 0 as B from range(60000) t(i)) to '{path}'"
        " (row_group_size 2048)"
    )
    assert "sent unchanged" in (await plan_source(path, table="T")).notes
    receipt = await stage.push(path)
    found, expected = await arrived(stage, path)
    assert found == expected
    assert (receipt.chunks > 1) == (chunks == "many")


REENCODED = {
    "V2 pages": {"data_page_version": "2.0"},
    "zstd": {"compression": "zstd"},
    "int32": {"n": pa.int32()},
    "int64 timestamps": {"use_deprecated_int96_timestamps": False},
    "passthrough is off": {},
}


@pytest.mark.parametrize("case", REENCODED)
async def test_a_file_that_does_not_suit_the_platform_is_reencoded_and_arrives(start, write, case):
    settings = {"parquet_as_it_is": case != "passthrough is off"}
    stage = await start(**settings)
    options = dict(REENCODED[case])
    kind = options.pop("n", pa.int64())
    path = write(columns(N=pa.array(range(COUNT), kind)), **options)
    await stage.push(path)
    found, expected = await arrived(stage, path)
    assert found == expected
    (note,) = (await plan_source(path, table="T", settings=EngineSettings(**settings))).notes
    assert note.startswith("re-encoded: ")


async def test_a_text_too_long_for_the_column_late_in_the_file_restarts_the_push_and_arrives_uncut(start, write):
    stage = await start(**SMALL)
    texts = ["abc"] * COUNT
    texts[LATE] = "ß" * 3000
    receipt = await stage.push(write(columns(S=texts)))
    assert await stage.query(f"select S from T where N = {LATE}") == [("ß" * 3000,)]
    assert await stage.query("select count(*), count(distinct N), max(length(S)) from T") == [(COUNT, COUNT, 3000)]
    assert (receipt.restarts, receipt.submits, receipt.rows) == (1, 1, COUNT)
    (restarted,) = stage.sink.of(events.PushRestarted)
    assert f"row {LATE + 1}, column S" in restarted.reason
    assert [job.id for job in stage.jobs()] == [receipt.job_id]


async def test_timestamps_finer_than_a_microsecond_arrive_whether_or_not_a_text_is_too_long(start, write):
    stage = await start(**SMALL)
    stamps = pa.array([number * 1_000_000_007 for number in range(COUNT)], pa.timestamp("ns"))
    texts = ["abc"] * COUNT
    assert (await stage.push(write(columns(AT=stamps, S=texts)))).restarts == 0
    texts[LATE] = "ß" * 3000
    receipt = await stage.push(write(columns(AT=stamps, S=texts), "long.parquet"))
    assert (receipt.restarts, receipt.rows) == (1, COUNT)
    assert await stage.query("select count(*), max(length(S)) from T") == [(COUNT, 3000)]


async def test_a_missing_key_value_is_rejected_with_its_row(start, write):
    stage = await start(**SMALL)
    ids = list(range(COUNT))
    ids[LATE] = None
    path = write(columns(ID=ids))
    with pytest.raises(SchemaError) as caught:
        await stage.push(path, mode="upsert", keys=["ID"])
    assert f"row {LATE + 1}, column ID" in str(caught.value)
    assert str(path) in str(caught.value)
    assert stage.jobs() == []


async def test_upserts_and_deletes_are_sent_unchanged(start, write):
    stage = await start(**SMALL)
    await stage.push(write(columns()), mode="upsert", keys=["N"])
    await stage.push(write(columns(GROUP, X=[0.0] * GROUP), "new.parquet"), mode="upsert", keys=["N"])
    assert await stage.query("select count(*), count(distinct N), sum((X = 0)::int) from T") == [(COUNT, COUNT, GROUP)]
    await stage.push(write(columns(GROUP), "gone.parquet"), mode="delete", keys=["N"])
    assert await stage.query("select count(*), min(N) from T") == [(COUNT - GROUP, GROUP)]


class WhenUploaded:
    """An event sink that calls a function when the given number of chunks is in the job."""

    def __init__(self, count, call):
        self.count, self.call = count, call

    def emit(self, event):
        if isinstance(event, events.ChunkUploaded):
            self.count -= 1
            if self.count == 0:
                self.call()


@pytest.mark.parametrize("how", ["truncated", "other bytes", "deleted"])
async def test_a_file_that_changes_while_it_is_sent_is_never_submitted(start, write, how):
    stage = await start(**SMALL, max_uploads=1, encoder_threads=1)
    path = write(columns())

    def change():
        data = path.read_bytes()
        if how == "deleted":
            path.unlink()
        elif how == "truncated":
            os.truncate(path, len(data) // 2)
        else:
            path.write_bytes(data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :])

    stage.engine._bus.add(WhenUploaded(1, change))
    with pytest.raises((SourceReadError, SchemaError)) as caught:
        await stage.push(path)
    assert path.name in str(caught.value)
    assert stage.jobs("DONE") == []
    assert stage.engine._shared.budget.reserved == 0


async def interrupt_after_three_chunks(stage, path):
    push = asyncio.ensure_future(stage.push(path))
    stage.engine._bus.add(WhenUploaded(3, push.cancel))
    with pytest.raises(asyncio.CancelledError):
        await push


async def test_an_interrupted_push_sends_only_the_missing_chunks(start, write):
    stage = await start(**SMALL, max_uploads=1, encoder_threads=1)
    path = write(columns())
    await interrupt_after_three_chunks(stage, path)
    before = len(stage.sink.of(events.ChunkUploaded))
    stage.engine = await stage.open_engine(**SMALL, encoder_threads=1)
    receipt = await stage.push(path)
    assert (receipt.resumed, receipt.rows) == (True, COUNT)
    assert len(stage.sink.of(events.ChunkUploaded)) == receipt.chunks
    assert 3 <= before < receipt.chunks
    found, expected = await arrived(stage, path)
    assert found == expected


async def test_an_interrupted_passthrough_push_is_not_mixed_with_reencoded_chunks(start, write):
    stage = await start(**SMALL, max_uploads=1, encoder_threads=1)
    path = write(columns())
    await interrupt_after_three_chunks(stage, path)
    stage.engine = await stage.open_engine(**SMALL, encoder_threads=1, parquet_as_it_is=False)
    receipt = await stage.push(path)
    assert not receipt.resumed
    found, expected = await arrived(stage, path)
    assert found == expected


async def test_a_retried_upload_reads_the_file_again(start, write):
    stage = await start(**SMALL)
    path = write(columns())
    original = stage.engine._shared.destination.upload_chunk
    failed = []

    async def flaky(job_id, payload, kind):
        if payload.chunk_id not in failed:
            failed.append(payload.chunk_id)
            raise ConnectionFailedError("refused")
        await original(job_id, payload, kind)

    stage.engine._shared.destination.upload_chunk = flaky
    receipt = await stage.push(path)
    assert receipt.retries == receipt.chunks == len(failed)
    found, expected = await arrived(stage, path)
    assert found == expected


async def test_memory_in_flight_does_not_grow_with_the_size_of_the_files(start, write):
    stage = await start(max_memory_bytes=32 << 20)
    path = write(columns(), use_dictionary=False, compression="none")
    await stage.push(path)
    assert stage.engine._shared.budget.peak <= 32 << 20
