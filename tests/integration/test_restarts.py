"""Surprises before the submit lead to a restart with a better schema, or to a clear error, and never to a wrong value."""

import dataclasses

import pyarrow as pa
import pytest

from pushengine import events
from pushengine.emulator.faults import FaultPlan
from pushengine.errors import (
    JobFailedError,
    RetriesExhaustedError,
    SchemaError,
    SourceReadError,
    ValueMisfitError,
    VerificationError,
)

SMALL = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}
COUNT = 200_000
LATE = COUNT * 77 // 100
BLOCK = 1024 * 1024


def lines(count=COUNT, **special):
    """Return the rows of a CSV of several megabytes, `N,CODE,TEXT`. The keyword `at` sets special rows: {row number: (code, text)}."""
    at = special.get("at", {})
    return [(number, *at.get(number, (str(number % 1000), "abcdefgh"))) for number in range(count)]


async def totals(stage):
    return (await stage.query("select count(*), count(distinct N), sum(N) from T"))[0]


ALL = (COUNT, COUNT, COUNT * (COUNT - 1) // 2)


async def test_a_string_longer_than_all_sampled_ones_restarts_the_push_and_arrives_uncut(start, save_csv):
    stage = await start(**SMALL)
    long = "ß" * 3000
    receipt = await stage.push(save_csv("a.csv", lines(at={LATE: ("1", long)}), ["N", "CODE", "TEXT"]))
    assert await totals(stage) == ALL
    assert await stage.query(f"select TEXT from T where N = {LATE}") == [(long,)]
    assert await stage.query("select max(length(TEXT)), count(*) from T where TEXT <> 'abcdefgh'") == [(3000, 1)]
    assert (receipt.restarts, receipt.submits, receipt.rows) == (1, 1, COUNT)
    assert [job.id for job in stage.jobs()] == [receipt.job_id]
    created, again = stage.sink.of(events.JobCreated)
    assert [event.job_id for event in stage.sink.of(events.JobDeleted)] == [created.job_id]
    assert again.job_id == receipt.job_id
    assert stage.engine._shared.budget.reserved == 0


async def test_leading_zeros_that_appear_late_make_the_column_a_string(start, save_csv):
    stage = await start(**SMALL)
    receipt = await stage.push(save_csv("a.csv", lines(at={LATE: ("0042", "x")}), ["N", "CODE", "TEXT"]))
    assert await totals(stage) == ALL
    assert await stage.query(f"select CODE from T where N in (42, {LATE}) order by N") == [("42",), ("0042",)]
    assert receipt.restarts == 1


async def test_a_push_of_a_table_in_memory_can_restart_too(start):
    stage = await start(**SMALL)
    texts = ["abc"] * COUNT
    texts[LATE] = "y" * 500
    receipt = await stage.push(pa.table({"N": range(COUNT), "TEXT": texts}))
    assert await totals(stage) == ALL
    assert await stage.query("select max(length(TEXT)) from T") == [(500,)]
    assert receipt.restarts == 1


async def test_a_push_of_a_source_that_can_be_read_only_once_cannot_restart_and_says_so(start):
    stage = await start(**SMALL)
    await stage.push(pa.table({"N": [1]}))

    async def batches():
        for number in range(20):
            text = "y" * 500 if number == 15 else "abc"
            yield pa.record_batch({"N": [number] * 5000, "TEXT": [text] * 5000})

    with pytest.raises(ValueMisfitError) as caught:
        await stage.push(batches())
    assert "read only once" in caught.value.hint
    assert await stage.rows() == [(1,)]
    assert stage.jobs("NEW") == []


async def test_a_value_too_long_for_any_column_is_rejected_with_its_column_and_file(start, save_csv):
    stage = await start(**SMALL)
    source = save_csv("a.csv", lines(at={LATE: ("1", "z" * 20_000)}), ["N", "CODE", "TEXT"])
    with pytest.raises(SchemaError) as caught:
        await stage.push(source)
    assert "TEXT" in str(caught.value)
    assert "a.csv" in str(caught.value)
    assert stage.jobs() == []


async def test_a_malformed_row_late_in_a_file_leaves_the_table_as_it_was(start, save_csv):
    stage = await start(**SMALL)
    await stage.push(pa.table({"N": [1, 2]}))
    source = save_csv("a.csv", lines(), ["N", "CODE", "TEXT"])
    broken = source.read_text().splitlines()
    broken[LATE] += ",too,many"
    source.write_text("\n".join(broken))
    with pytest.raises(SourceReadError) as caught:
        await stage.push(source)
    assert str(LATE + 1) in str(caught.value)
    assert "a.csv" in str(caught.value)
    assert await stage.rows() == [(1,), (2,)]
    assert stage.jobs("NEW") == []
    assert (caught.value.receipt.status, caught.value.receipt.submits) == ("ERROR", 0)
    assert stage.engine._shared.budget.reserved == 0


async def test_a_job_that_vanishes_between_two_uploads_is_created_again(start):
    """The platform deletes unsubmitted jobs after some time. No rows became visible, so the push starts again."""
    stage = await start(**SMALL)

    class Sink:
        def emit(self, event):
            if isinstance(event, events.ChunkUploaded) and not stage.sink.of(events.PushRestarted):
                stage.emulator.service.jobs.pop(event.job_id, None)

    stage.engine._bus.add(Sink())
    receipt = await stage.push(pa.table({"N": range(COUNT)}))
    assert await totals(stage) == ALL
    assert (receipt.restarts, receipt.submits) == (1, 1)


async def test_a_job_that_vanishes_before_its_submit_is_created_again(start):
    stage = await start()

    class Sink:
        def emit(self, event):
            if isinstance(event, events.JobVerified) and not stage.sink.of(events.PushRestarted):
                del stage.emulator.service.jobs[event.job_id]

    stage.engine._bus.add(Sink())
    receipt = await stage.push(pa.table({"N": range(COUNT)}))
    assert await totals(stage) == ALL
    assert (receipt.restarts, receipt.submits) == (1, 2)


async def test_a_job_with_a_lost_chunk_is_noticed_and_never_submitted(start):
    stage = await start(**SMALL)

    class Sink:
        def emit(self, event):
            if isinstance(event, events.ChunkUploaded) and not stage.sink.of(events.PushRestarted):
                chunks = stage.emulator.service.jobs[event.job_id].chunks
                if len(chunks) > 3:
                    chunks.pop()

    stage.engine._bus.add(Sink())
    receipt = await stage.push(pa.table({"N": range(COUNT)}))
    assert await totals(stage) == ALL
    assert (receipt.restarts, receipt.submits) == (1, 1)


async def test_a_job_whose_chunk_list_never_matches_is_abandoned_without_a_submit(start):
    stage = await start(emulator={"chunk_list_lag_seconds": 3600.0})
    with pytest.raises((VerificationError, RetriesExhaustedError)) as caught:
        await stage.push(pa.table({"N": [1]}))
    assert caught.value.receipt.submits == 0
    assert stage.jobs() == []


async def test_a_push_whose_every_upload_is_repeated_on_its_way_says_what_to_look_for(start):
    stage = await start(
        emulator={"fault_plan": FaultPlan.from_data({"faults": [{"operation": "upsert", "action": "duplicate"}]})}
    )
    with pytest.raises(VerificationError, match="sent 1 UPSERT, the job holds 2 UPSERT") as caught:
        await stage.push(pa.table({"N": [1]}))
    assert "proxy that repeats" in caught.value.hint
    assert (caught.value.receipt.restarts, caught.value.receipt.submits, stage.jobs()) == (3, 0, [])


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("checksum", ["md5", "sha1", "sha256", "crc32", "opaque"])
async def test_every_kind_of_checksum_of_the_platform_can_be_verified(start, table, rows, checksum, encoding):
    stage = await start(emulator={"checksum": checksum, "checksum_encoding": encoding}, chunk_bytes=64 * 1024)
    receipt = await stage.push(table)
    assert receipt.verified == ("count" if checksum == "opaque" else "checksum")
    assert await stage.rows() == rows


async def test_a_value_that_fits_no_schema_is_reported_with_its_row_even_after_a_restart(start, save_csv):
    stage = await start(**SMALL)
    rows = [(str(number), "x") for number in range(50_000)]
    rows[40_000] = ("40000", "y" * 300)  # longer than the sample suggested: now all rows are read
    rows[45_000] = ("no number", "x")
    source = save_csv("a.csv", rows, ["N", "TEXT"])
    with pytest.raises(SchemaError, match="no number") as caught:
        await stage.push(source, column_types={"N": "INTEGER"})
    assert caught.value.position == "row 45001 (line 45002), column N"


async def test_a_text_too_long_for_the_platform_is_reported_with_its_row(start, save_csv):
    stage = await start(**SMALL)
    rows = [(str(number), "x") for number in range(50_000)]
    rows[40_000] = ("40000", "y" * 300)
    rows[45_000] = ("45000", "z" * 20_000)
    source = save_csv("a.csv", rows, ["N", "TEXT"])
    with pytest.raises(SchemaError, match="20000 characters") as caught:
        await stage.push(source)
    assert caught.value.position == "row 45001 (line 45002), column TEXT"


async def test_a_change_of_the_platforms_checksum_costs_one_restart(start, table, rows):
    stage = await start(emulator={"checksum": "md5"}, chunk_bytes=64 * 1024)
    assert (await stage.push(table)).restarts == 0
    stage.emulator.service.settings = dataclasses.replace(stage.emulator.service.settings, checksum="sha1")
    changed = await stage.push(table)
    assert (changed.verified, changed.restarts) == ("checksum", 1)
    later = await stage.push(table)
    assert (later.verified, later.restarts) == ("checksum", 0)
    assert await stage.rows() == rows


async def test_a_job_that_fails_on_the_platform_leaves_the_old_table_and_reports_the_reason(start, monkeypatch):
    stage = await start()
    await stage.push(pa.table({"N": [1]}))

    class Sink:
        def emit(self, event):
            if isinstance(event, events.JobVerified):
                for chunk in stage.emulator.service.jobs[event.job_id].chunks:
                    chunk.path.write_bytes(b"rotten")

    stage.engine._bus.add(Sink())
    with pytest.raises(JobFailedError) as caught:
        await stage.push(pa.table({"N": [2]}))
    (failed,) = stage.jobs("ERROR")
    assert failed.logs[0] in str(caught.value)
    assert (caught.value.job_id, caught.value.status) == (failed.id, "ERROR")
    assert (caught.value.receipt.status, caught.value.receipt.job_id) == ("ERROR", failed.id)
    assert await stage.rows() == [(1,)]


async def test_an_iterator_that_raises_is_a_source_error_and_leaves_no_job(start):
    stage = await start(**SMALL)
    closed = []

    async def batches():
        try:
            for number in range(10):
                yield pa.record_batch({"N": [number] * 20_000})
            raise RuntimeError("the database went away")
        finally:
            closed.append(True)

    with pytest.raises(SourceReadError, match="the database went away"):
        await stage.push(batches())
    assert closed == [True]
    assert stage.jobs() == []
