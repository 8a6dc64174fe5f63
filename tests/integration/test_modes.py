"""What each mode does to the table, row by row."""

import datetime as dt

import pyarrow as pa
import pytest

from pushengine.errors import ConfigError, SchemaError


def people(*pairs):
    return pa.table({"ID": [pair[0] for pair in pairs], "NAME": [pair[1] for pair in pairs]})


FIRST = people(("001", "ada"), ("002", "bob"), ("003", None))


async def test_replace_puts_the_new_rows_in_place_of_all_others(stage):
    await stage.push(FIRST)
    receipt = await stage.push(people(("003", "cy"), ("004", "dan")))
    assert await stage.rows() == [("003", "cy"), ("004", "dan")]
    assert (receipt.mode, receipt.rows) == ("replace", 2)
    assert {job.spec.type for job in stage.jobs()} == {"REPLACE"}


async def test_replace_may_change_the_columns(stage):
    await stage.push(FIRST)
    receipt = await stage.push(pa.table({"AMOUNT": [1.5]}))
    assert await stage.rows() == [(1.5,)]
    assert receipt.schema_changes == (
        "ID: dropped, no column of the table is in the source",
        "NAME: dropped, no column of the table is in the source",
        "AMOUNT FLOAT: new column",
    )


async def test_replace_adds_new_columns_and_keeps_missing_ones_as_null_unless_they_are_excluded(stage):
    await stage.push(FIRST)
    receipt = await stage.push(pa.table({"ID": ["004"], "AMOUNT": [1.5]}))
    assert await stage.rows(columns="ID, AMOUNT, NAME") == [("004", 1.5, None)]
    assert receipt.schema_changes == ("AMOUNT FLOAT: new column", "NAME: not in the source, NULL")
    receipt = await stage.push(pa.table({"ID": ["004"], "AMOUNT": [1.5]}))
    assert receipt.schema_changes == ()
    await stage.push(pa.table({"ID": ["004"], "AMOUNT": [1.5]}), exclude=["NAME"])
    assert await stage.rows() == [("004", 1.5)]


async def test_append_adds_rows_each_time(stage):
    await stage.push(FIRST)
    for _ in range(2):
        await stage.push(people(("001", "eve")), mode="append")
    assert await stage.rows(order="1, 2") == [
        ("001", "ada"),
        ("001", "eve"),
        ("001", "eve"),
        ("002", "bob"),
        ("003", None),
    ]


async def test_append_creates_a_missing_table(stage):
    await stage.push(FIRST, mode="append")
    assert len(await stage.rows()) == 3


async def test_upsert_replaces_rows_of_the_same_key_and_adds_the_others(stage):
    await stage.push(FIRST, mode="upsert", keys=["ID"])
    await stage.push(people(("002", "BOB"), ("004", "dan")), mode="upsert", keys=["ID"])
    assert await stage.rows() == [("001", "ada"), ("002", "BOB"), ("003", None), ("004", "dan")]


async def test_an_upsert_may_be_repeated(stage):
    for _ in range(3):
        await stage.push(FIRST, mode="upsert", keys=["ID"])
    assert await stage.rows() == [("001", "ada"), ("002", "bob"), ("003", None)]


async def test_upsert_on_two_keys(stage):
    def table(amount):
        return pa.table({"A": ["x", "x"], "B": [1, 2], "V": [amount, amount]})

    await stage.push(table(1), mode="upsert", keys=["A", "B"])
    await stage.push(table(2).slice(1), mode="upsert", keys=["A", "B"])
    assert await stage.rows(order="1, 2") == [("x", 1, 1), ("x", 2, 2)]


async def test_among_rows_with_the_same_key_the_highest_value_of_the_chosen_column_wins(stage):
    versions = pa.table({"ID": ["a", "a", "a"], "V": [2, 3, 1]})
    await stage.push(versions, mode="upsert", keys=["ID"], duplicate_removal_column="V")
    assert await stage.rows() == [("a", 3)]


async def test_delete_removes_the_rows_with_these_keys(stage):
    await stage.push(FIRST, mode="upsert", keys=["ID"])
    receipt = await stage.push(pa.table({"ID": ["002", "999"]}), mode="delete", keys=["ID"])
    assert await stage.rows() == [("001", "ada"), ("003", None)]
    assert (receipt.mode, receipt.rows, receipt.verified) == ("delete", 2, "checksum")


async def test_rows_have_the_time_of_their_last_change(stage):
    await stage.push(FIRST)
    ((earliest, count),) = await stage.query("select min(_CELONIS_CHANGE_DATE), count(*) from T")
    assert count == 3
    now = stage.emulator.settings.now()
    assert 0 <= now - earliest.replace(tzinfo=dt.UTC).timestamp() < 60


async def test_a_connection_has_its_own_tables(stage):
    await stage.push(FIRST)
    await stage.push(people(("9", "zoe")), connection_id="conn")
    assert len(await stage.rows()) == 3
    assert await stage.query('select ID, NAME from conn."T"') == [("9", "zoe")]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"table": " "}, "table"),
        ({"mode": "merge"}, "mode"),
        ({"mode": "upsert"}, "keys"),
        ({"mode": "delete"}, "keys"),
        ({"mode": "append", "keys": ["ID"]}, "keys"),
        ({"keys": ["ID"]}, "keys"),
        ({"mode": "upsert", "keys": "ID"}, "keys"),
    ],
    ids=[
        "no name",
        "unknown mode",
        "upsert without keys",
        "delete without keys",
        "append with keys",
        "replace with keys",
        "one string",
    ],
)
async def test_invalid_combinations_of_options_are_rejected(stage, options, key):
    with pytest.raises(ConfigError) as caught:
        await stage.push(FIRST, **options)
    assert caught.value.key == key
    assert stage.jobs() == []


async def test_a_key_that_is_not_in_the_source_is_rejected(stage):
    with pytest.raises((ConfigError, SchemaError), match="NR"):
        await stage.push(FIRST, mode="upsert", keys=["NR"])
    assert stage.jobs("NEW") == []


async def test_a_missing_key_value_is_rejected(stage):
    with pytest.raises(SchemaError, match="ID"):
        await stage.push(people(("1", "a"), (None, "b")), mode="upsert", keys=["ID"])
    assert stage.jobs("NEW") == []
