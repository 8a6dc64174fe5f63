"""What is known of a table while other pushes, other tools and other versions load it, and when the outcome of a push is unknown."""

import asyncio
import datetime as dt

import pyarrow as pa
import pytest
from support import interrupting

from pushengine import errors, events
from pushengine.pipeline.target_table import UNREADABLE


async def reopen(nights, **options):
    await nights.stage.engine.aclose()
    nights.stage.engine = await nights.stage.open_engine(**options)


# --- The platform's columns


@pytest.mark.parametrize("is_exact", [False, True])
async def test_a_host_without_memory_learns_the_columns_from_the_platform(open_nights, tmp_path, is_exact):
    nights = await open_nights(emulator={"lists_exact_types": is_exact})
    await nights.push("ID,CODE,X,D\n1,007,1.5,2026-01-31\n")
    await reopen(nights, state_dir=tmp_path / "other host")
    receipt = await nights.push("ID,CODE,X,D\n2,8,3,2026-02-01\n", mode="append")
    assert receipt.schema_changes == receipt.notes == ()
    assert await nights.rows(columns="ID, CODE, X") == [(1, "007", 1.5), (2, "8", 3.0)]
    error = await nights.refused(f"ID,CODE,X,D\n3,{'x' * 256},3,2026-02-01\n", errors.SchemaError, mode="append")
    assert "column CODE of the table holds 255" in str(error)


@pytest.mark.parametrize("is_exact", [False, True])
async def test_memory_says_what_the_platform_lists_inexactly(open_nights, is_exact):
    nights = await open_nights(emulator={"lists_exact_types": is_exact})
    await nights.push("ID,B\n1,true\n")
    await nights.push("ID,B\n2,false\n", mode="append")
    assert await nights.types() == {"ID": "BIGINT", "B": "BOOLEAN"}
    assert await nights.rows() == [(1, True), (2, False)]


async def test_the_platform_wins_over_memory(nights):
    await nights.push("ID,S\n1,x\n")
    other = await nights.stage.open_engine(state_dir=nights.folder / "other host")
    await other.push(nights.folder / "night1.csv", table="T", column_types={"ID": "FLOAT", "S": "STRING(300)"})
    receipt = await nights.push(f"ID,S\n1.5,{'x' * 300}\n", mode="append")
    assert receipt.schema_changes == ()
    assert await nights.rows() == [(1.0, "x"), (1.5, "x" * 300)]


async def test_without_permission_to_read_memory_suffices_and_that_is_said_once(open_nights, tmp_path):
    nights = await open_nights(emulator={"columns_readable": False})
    await nights.push("ID,CODE\n1,007\n")
    notes = [(await nights.push("ID,CODE\n2,8\n", mode="append")).notes for _ in range(2)]
    assert notes == [(UNREADABLE,), ()]
    assert await nights.rows() == [(1, "007"), (2, "8"), (2, "8")]


async def test_the_tables_of_another_connection_are_other_tables(nights):
    await nights.push("ID\n007\n")
    receipt = await nights.push("ID\n8\n", connection_id="c1")
    assert receipt.schema_changes == ()
    found = await nights.stage.query("SELECT data_type FROM duckdb_columns() WHERE column_name = 'ID' ORDER BY 1")
    assert found == [("BIGINT",), ("VARCHAR",)]


async def test_a_table_is_known_in_any_letter_case(nights):
    await nights.push("ID\n007\n", table="Orders")
    receipt = await nights.push("id\n8\n", table="ORDERS", mode="append")
    assert receipt.schema_changes == ()
    assert len(await nights.stage.query("SELECT 1 FROM duckdb_tables() WHERE table_name ILIKE 'orders'")) == 1
    assert nights.remembered().known.name == "Orders"


async def test_the_time_zone_of_a_column_survives_a_delta_of_typed_or_forced_values(nights):
    zoned, naive = "ID,AT\n1,2026-01-31T10:00:00Z\n", "ID,AT\n1,2026-01-31T10:00:00\n"
    await nights.push(zoned)
    await nights.refused(naive, errors.SchemaError, mode="append")
    await nights.push(naive, mode="append", column_types={"AT": "DATETIME"})
    at = pa.array([dt.datetime(2026, 1, 31, 10)], pa.timestamp("us", "UTC"))
    await nights.push(pa.table({"ID": [1], "AT": at}), mode="append")
    await nights.push("ID,AT\n1,\n", mode="append")
    await nights.push(zoned, mode="append")
    await nights.refused(naive, errors.SchemaError, mode="append")
    found = await nights.stage.query('SELECT "AT", count(*) FROM "T" GROUP BY "AT" ORDER BY 2')
    assert found == [(None, 1), (dt.datetime(2026, 1, 31, 10), 4)]
    await nights.push(naive)
    await nights.refused(zoned, errors.SchemaError, mode="append")


# --- Other pushes


def push_before_the_append(nights, push):
    """Let a push run when the first job is created, if it is that of an append. Return the modes of the jobs, in the order of their creation."""
    client, created = nights.stage.engine._client, nights.stage.engine._client.create_job
    calls = []

    async def create(target, columns):
        calls.append(target.mode)
        if calls == ["append"]:
            await push
        return await created(target, columns)

    client.create_job = create
    return calls


async def test_an_append_that_was_planned_before_a_replace_starts_again(nights):
    """The replace is done while the append has sent its rows but not its submit."""
    await nights.push("ID,A\n1,1\n")
    replaced = asyncio.get_running_loop().create_future()

    async def replace():
        await nights.push("ID,A\n1,1.5\n")
        replaced.set_result(None)

    calls = push_before_the_append(nights, replace())
    receipt = await nights.push("ID,A\n2,2\n", mode="append")
    assert calls == ["append", "replace", "append"]
    assert replaced.done()
    assert (receipt.restarts, receipt.submits) == (1, 1)
    assert await nights.rows() == [(1, 1.5), (2, 2.0)]
    assert [str(job.status) for job in nights.stage.jobs()] == ["DONE"] * 3


@pytest.mark.parametrize(
    ("replaced", "exclude", "learned", "row"),
    [
        ("ID,A,B\n1,1,x\n", [], [], (2, 2, None)),
        ("ID,A,B\n1,x,x\n", [], [("A INTEGER -> STRING(255)", "B STRING(255): new column")], (2, "2", None)),
        ("ID,B\n1,x\n", ["A"], [("B STRING(255): new column", "A: gone")], (2, None)),
    ],
)
async def test_an_append_restarts_with_the_columns_that_the_table_has_now(nights, replaced, exclude, learned, row):
    await nights.push("ID,A\n1,1\n")
    push_before_the_append(nights, nights.push(replaced, exclude=exclude))
    receipt = await nights.push("ID,A\n2,2\n", mode="append", new_columns="ignore")
    assert receipt.restarts == len(learned)
    assert [event.changes for event in nights.stage.sink.of(events.SchemaLearned)] == learned
    assert (await nights.rows())[-1] == row


async def test_an_append_that_no_longer_suits_the_table_is_refused_before_its_submit(nights):
    await nights.push("ID,A\n1,x\n")
    push_before_the_append(nights, nights.push("ID,A\n1,1\n", column_types={"A": "INTEGER"}))
    with pytest.raises(errors.SchemaError) as info:
        await nights.push("ID,A\n2,y\n", mode="append")
    assert "'y' does not fit A INTEGER" in str(info.value)
    assert info.value.receipt.submits == 0
    assert await nights.rows() == [(1, 1)]


async def interrupted(nights, source, **options):
    """Interrupt a push before it sends anything, and return its id."""
    receipt = await interrupting.interrupted(nights.stage, nights.push(source, **options), events.JobCreated)
    return receipt.push_id


async def test_a_resumed_append_finds_the_column_that_another_push_added_meanwhile(open_nights):
    nights = await open_nights(emulator={"delta_new_columns": "add"}, verified_new_columns=True)
    await nights.push("ID,A\n1,1\n")
    push_id = await interrupted(nights, "ID,A,NEW\n2,2,8\n", mode="append")
    await nights.push("ID,A,NEW\n3,3,007\n", mode="append", verified_new_columns=True)
    receipt = await nights.stage.engine.resume(push_id)
    assert (receipt.restarts, receipt.submits) == (1, 1)
    assert await nights.rows() == [(1, 1, None), (2, 2, "8"), (3, 3, "007")]
    assert {str(job.status) for job in nights.stage.jobs()} == {"DONE"}


async def test_a_resumed_append_of_which_nothing_changed_goes_on(nights):
    await nights.push("ID,A\n1,1\n")
    push_id = await interrupted(nights, "ID,A\n2,2\n", mode="append")
    await nights.push("ID,A\n3,3\n", mode="append")
    receipt = await nights.stage.engine.resume(push_id)
    assert (receipt.restarts, receipt.submits, receipt.push_id) == (0, 1, push_id)
    assert await nights.rows() == [(1, 1), (2, 2), (3, 3)]


async def test_replaces_and_appends_at_once_leave_a_table_that_is_remembered_as_it_is(nights):
    await nights.push("ID,A\n1,1\n")
    pushes = [
        nights.push("ID,A,B\n1,1.5,x\n"),
        nights.push("ID,A\n3,3\n", mode="append"),
        nights.push("ID,A\n4,4\n", mode="upsert", keys=["ID"]),
        nights.push("ID,A\n5,zz\n"),
        nights.push("ID,A\n6,6\n", mode="append"),
    ]
    outcomes = await asyncio.gather(*pushes, return_exceptions=True)
    for one in outcomes:
        if isinstance(one, BaseException) and not isinstance(one, errors.PushEngineError):
            raise one
    types = {"BIGINT": "INTEGER", "DOUBLE": "FLOAT"}
    table = {name: types.get(kind, "STRING") for name, kind in (await nights.types()).items()}
    assert {column.name: column.type for column in nights.remembered().known.columns} == table


# --- Unknown outcomes


async def test_a_push_of_unknown_outcome_makes_the_memory_doubtful_until_the_next_replace(nights):
    await nights.push("ID,A\n1,1\n")
    client, submit = nights.stage.engine._client, nights.stage.engine._client.submit_job

    async def lost(job_id, **_options):
        del nights.stage.emulator.service.jobs[job_id]
        raise errors.OutcomeUnknownError("no response")

    client.submit_job = lost
    with pytest.raises(errors.SubmitOutcomeUnknownError) as info:
        await nights.push("ID,A\n1,1.5\n")
    push_id = info.value.receipt.push_id
    client.submit_job = submit
    assert nights.remembered().known.doubt == push_id
    assert [column.type for column in nights.remembered().known.columns] == ["INTEGER", "INTEGER"]
    receipt = await nights.push("ID,A\n2,2\n", mode="append")
    assert any(push_id in note for note in receipt.notes)
    assert nights.remembered().known.doubt == push_id
    receipt = await nights.push("ID,A\n3,3\n")
    assert nights.remembered().known.doubt == ""
    assert (await nights.push("ID,A\n4,4\n", mode="append")).notes == ()


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_push_whose_job_failed_is_not_remembered(open_nights, mode):
    nights = await open_nights(emulator={"delta_new_columns": "refuse", "accepts_empty_chunks": False})
    await nights.push("ID,A\n1,1\n")
    before = nights.remembered().known
    options = {"allow_empty": True} if mode == "replace" else {"verified_new_columns": True}
    with pytest.raises(errors.PushEngineError):
        await nights.push("ID,A\n" if mode == "replace" else "ID,A,NEW\n1,1,1\n", mode=mode, **options)
    assert nights.remembered().known == before
