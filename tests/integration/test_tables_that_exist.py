"""Pushes into tables that exist, night after night: what each column becomes, what is refused, and where a change is told."""

import asyncio
import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine import errors
from pushengine.events import TableCompared

AT = dt.datetime(2026, 1, 31)


# --- Replace is sticky


async def test_a_document_number_stays_text_when_tonights_numbers_have_no_leading_zero(nights):
    await nights.push("VBELN\n0000000017\n")
    receipt = await nights.push("VBELN\n4711\n815\n")
    assert receipt.schema_changes == ()
    assert await nights.types() == {"VBELN": "VARCHAR(255)"}
    assert await nights.rows() == [("4711",), ("815",)]


async def test_a_float_stays_a_float_when_tonights_numbers_are_whole(nights):
    await nights.push("X\n1.5\n")
    await nights.push("X\n15\n")
    await nights.push("X\n2.5\n")
    assert await nights.types() == {"X": "DOUBLE"}
    assert await nights.rows() == [(2.5,)]


async def test_an_integer_widens_to_float_and_then_to_text_and_never_back(nights):
    told = [(await nights.push(f"X\n{value}\n")).schema_changes for value in ("1", "2", "1.5", "3", "0x", "4")]
    assert told == [(), (), ("X INTEGER -> FLOAT",), (), ("X FLOAT -> STRING(255)",), ()]
    assert await nights.rows() == [("4",)]


@pytest.mark.parametrize(
    ("first", "second", "type_", "value"),
    [
        ("true", "false", "BOOLEAN", False),
        ("true", "TRUE", "BOOLEAN", True),
        ("true", "yes", "VARCHAR(255)", "yes"),
        ("true", "1", "VARCHAR(255)", "1"),
        ("2026-01-31", "2026-01-31 00:00:00", "TIMESTAMP", AT),
        ("2026-01-31 00:00:00", "2026-01-31", "TIMESTAMP", AT),
        ("2026-01-31T01:00:00+01:00", "2026-01-31T00:00:00Z", "TIMESTAMP", AT),
        ("2026-01-31", "31.01.2026", "VARCHAR(255)", "31.01.2026"),
        ("17", "true", "VARCHAR(255)", "true"),
        ("17", "2026-01-31", "VARCHAR(255)", "2026-01-31"),
        ("1.5", "12345678901234567890", "VARCHAR(255)", "12345678901234567890"),
        ("17", "9223372036854775808", "VARCHAR(255)", "9223372036854775808"),
        ("17", "-0", "VARCHAR(255)", "-0"),
    ],
)
async def test_a_replaced_column_keeps_its_type_while_every_value_fits(nights, first, second, type_, value):
    await nights.push(f"ID;X\n1;{first}\n")
    before = await nights.types()
    receipt = await nights.push(f"ID;X\n1;{second}\n2;\n")
    types = await nights.types()
    assert types["X"] == type_
    assert len(receipt.schema_changes) == (types != before)
    assert await nights.rows() == [(1, value), (2, None)]


async def test_values_that_fit_the_old_type_only_in_part_widen_the_column_for_all_of_them(nights):
    await nights.push("ID,D\n1,2026-01-31\n")
    await nights.push("ID,D\n1,2026-01-31\n2,2026-01-31 10:00:00\n3,never\n")
    assert await nights.rows() == [(1, "2026-01-31"), (2, "2026-01-31 10:00:00"), (3, "never")]


async def test_a_column_without_values_tonight_keeps_its_type(nights):
    await nights.push("ID,X,S\n1,1.5,a\n")
    types = await nights.types()
    await nights.push("ID,X,S\n1,,\n")
    assert await nights.types() == types
    assert await nights.rows() == [(1, None, None)]


async def test_lengths_grow_in_a_replace_and_never_shrink(nights):
    lengths = []
    for count in (3, 100, 3, 300, 1):
        receipt = await nights.push(f"ID,S\n1,{'x' * count}\n")
        lengths.append((await nights.types())["S"])
        assert len(receipt.schema_changes) == (count == 300)
    assert lengths == ["VARCHAR(255)", "VARCHAR(255)", "VARCHAR(255)", "VARCHAR(1200)", "VARCHAR(1200)"]


async def test_a_requested_type_changes_the_column_of_a_replaced_table_for_good(nights):
    await nights.push("ID\n17\n")
    receipt = await nights.push("ID\n17\n", column_types={"ID": "STRING(10)"})
    assert receipt.schema_changes == ("ID INTEGER -> STRING(10)",)
    await nights.push("ID\n18\n")
    assert await nights.types() == {"ID": "VARCHAR(10)"}
    await nights.push("ID\n19\n", column_types={"ID": "INTEGER"})
    assert await nights.rows() == [(19,)]


async def test_typed_files_keep_the_types_that_hold_their_values_exactly(nights):
    await nights.push("I,F,S,D,T\n1,1.5,007,2026-01-31,x\n")
    types = await nights.types()
    from decimal import Decimal

    typed = pa.table(
        {
            "I": pa.array([2], pa.int16()),
            "F": pa.array([3], pa.int64()),
            "S": pa.array([8], pa.int64()),
            "D": pa.array([AT.date()], pa.date32()),
            "T": pa.array([Decimal("1.10")], pa.decimal128(10, 2)),
        }
    )
    pq.write_table(typed, nights.folder / "typed.parquet")
    receipt = await nights.push(nights.folder / "typed.parquet")
    assert receipt.schema_changes == ()
    assert await nights.types() == types
    assert await nights.rows() == [(2, 3.0, "8", AT, "1.10")]


@pytest.mark.parametrize("library", ["pandas", "polars"])
async def test_data_frames_land_in_the_remembered_types(nights, library):
    frames = pytest.importorskip(library)
    await nights.push("I,F,S\n1,1.5,007\n")
    types = await nights.types()
    frame = frames.DataFrame({"I": [2], "F": [3], "S": [8]})
    for mode in ("replace", "append"):
        await nights.push(frame, mode=mode)
        assert await nights.types() == types
    assert await nights.rows() == [(2, 3.0, "8")] * 2


async def test_a_change_is_told_in_receipt_event_and_journal(nights):
    await nights.push("X,GONE\n1,1\n")
    receipt = await nights.push("X,CAME\n1.5,1\n")
    changes = ("X INTEGER -> FLOAT", "CAME INTEGER: new column", "GONE: not in the source, NULL")
    assert receipt.schema_changes == changes
    assert receipt.to_dict()["schema_changes"] == list(changes)
    assert any("was GONE renamed to CAME? --rename CAME=GONE" in note for note in receipt.notes)
    (event,) = [event for event in nights.stage.sink.events if isinstance(event, TableCompared)]
    assert tuple(event.changes) == changes


async def test_the_first_push_into_a_table_tells_no_change(nights):
    receipt = await nights.push("X\n1\n", drift="freeze")
    assert receipt.schema_changes == receipt.notes == ()


# --- The policy


NIGHT = "ID,A\n1,10\n"


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
@pytest.mark.parametrize(
    ("source", "policy", "flag"),
    [
        ("ID,A,NEW\n1,10,1\n", "new_columns", "--new-columns ignore"),
        ("ID\n1\n", "missing_columns", "--missing-columns null"),
    ],
)
async def test_freeze_and_each_single_policy_refuse_differences(nights, mode, source, policy, flag):
    await nights.push(NIGHT)
    keys = {"keys": ["ID"]} if mode == "upsert" else {}
    for settings in ({"drift": "freeze"}, {policy: "refuse"}):
        error = await nights.refused(source, errors.SchemaError, mode=mode, **keys, **settings)
        assert flag in error.hint
    await nights.push(NIGHT, mode=mode, drift="freeze", **keys)
    option, value = flag.removeprefix("--").split()
    await nights.push(source, mode=mode, drift="freeze", **{option.replace("-", "_"): value}, **keys)
    assert list(await nights.types()) == ["ID", "A"]


async def test_a_frozen_replace_changes_no_type_and_no_length(nights):
    await nights.push("ID,A,S\n1,10,x\n")
    for source in ("ID,A,S\n1,1.5,x\n", f"ID,A,S\n1,10,{'x' * 256}\n"):
        for settings in ({"drift": "freeze"}, {"types": "refuse"}):
            error = await nights.refused(source, errors.SchemaError, **settings)
            assert "row 1 (line 2)" in str(error)
            assert error.hint
    await nights.push("ID,A,S\n2,,y\n", drift="freeze")
    assert await nights.rows() == [(2, None, "y")]


@pytest.mark.parametrize("behaviour", ["refuse", "add", "ignore"])
async def test_a_new_column_in_a_delta_is_added_only_where_that_is_verified(open_nights, behaviour):
    nights = await open_nights(emulator={"delta_new_columns": behaviour})
    await nights.push(NIGHT)
    source = "ID,A,NEW\n2,20,x\n"
    await nights.refused(source, errors.SchemaError, mode="append")
    if behaviour == "add":
        receipt = await nights.push(source, mode="append", verified_new_columns=True)
        assert receipt.schema_changes == ("NEW STRING(255): new column",)
        assert await nights.rows() == [(1, 10, None), (2, 20, "x")]
        await nights.push("ID,A,NEW\n3,30,7\n", mode="append")
        assert (await nights.rows())[-1] == (3, 30, "7")
    receipt = await nights.push(source, mode="append", new_columns="ignore")
    assert receipt.schema_changes == (() if behaviour == "add" else ("NEW: not in the table, left out",))


async def test_a_missing_column_is_null_and_a_replace_keeps_it(nights):
    await nights.push("ID,A,S,D,B\n1,10,x,2026-01-31,true\n")
    types = await nights.types()
    for mode, keys in (("append", ()), ("upsert", ("ID",)), ("replace", ())):
        receipt = await nights.push("ID\n2\n", mode=mode, keys=keys)
        also = ", also in rows that are updated" if mode == "upsert" else ""
        assert receipt.schema_changes == tuple(f"{name}: not in the source, NULL{also}" for name in "ASDB")
        assert await nights.types() == types
    assert await nights.rows() == [(2, None, None, None, None)]
    receipt = await nights.push("ID\n3\n", exclude=["S", "D"])
    assert list(await nights.types()) == ["ID", "A", "B"]


async def test_a_renamed_column_goes_into_the_column_of_the_table(nights):
    await nights.push("ID,KUNNR\n1,0007\n")
    for rename in ({"CUSTOMER": "KUNNR"}, {"KUNNR": "CUSTOMER"}):
        receipt = await nights.push("ID,CUSTOMER\n2,8\n", mode="append", rename=rename)
        assert receipt.schema_changes == ()
    assert await nights.rows() == [(1, "0007"), (2, "8"), (2, "8")]


# --- Deltas


@pytest.mark.parametrize("mode", ["append", "upsert"])
async def test_columns_come_in_any_order_and_letter_case(nights, mode):
    await nights.push("Id,Name,Amount\n1,007,1.5\n")
    keys = ["ID"] if mode == "upsert" else []
    receipt = await nights.push("AMOUNT,name,ID\n2,8,2\n", mode=mode, keys=keys)
    assert receipt.schema_changes == ()
    typed = pa.table({"name": ["9"], "amount": [3], "id": [3]})
    pq.write_table(typed, nights.folder / "typed.parquet")
    await nights.push(nights.folder / "typed.parquet", mode=mode, keys=["id"] if keys else [])
    assert list(await nights.types()) == ["Id", "Name", "Amount"]
    assert await nights.rows() == [(1, "007", 1.5), (2, "8", 2.0), (3, "9", 3.0)]


@pytest.mark.parametrize("spelling", ["plain", "other case", "other type", "other order"])
async def test_parquet_is_passed_through_only_if_its_columns_are_those_of_the_table(nights, spelling):
    plain = pa.table({"ID": pa.array([1, 2], pa.int64()), "S": ["a", "b"]})
    files = {
        "plain": plain,
        "other case": plain.rename_columns(["id", "S"]),
        "other type": plain.set_column(0, "ID", pa.array([1, 2], pa.int32())),
        "other order": plain.select(["S", "ID"]),
    }
    await nights.push(plain)
    pq.write_table(files[spelling], nights.folder / "t.parquet", use_deprecated_int96_timestamps=True)
    receipt = await nights.push(nights.folder / "t.parquet", mode="append")
    assert receipt.schema_changes == ()
    assert await nights.rows() == [(1, "a"), (1, "a"), (2, "b"), (2, "b")]
    assert list(await nights.types()) == ["ID", "S"]


async def test_passthrough_notices_strings_that_the_table_cannot_hold(nights):
    await nights.push(pa.table({"ID": [1], "S": ["a"]}))
    pq.write_table(pa.table({"ID": [2], "S": ["x" * 256]}), nights.folder / "t.parquet")
    error = await nights.refused(nights.folder / "t.parquet", errors.SchemaError, mode="append")
    assert "256 characters" in str(error)


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
async def test_csv_chunks_land_in_the_remembered_types_too(open_nights, mode):
    nights = await open_nights(file_type="CSV")
    await nights.push("ID,F,S,D,B,GONE\n1,1.5,007,2026-01-31,true,1\n")
    types = await nights.types()
    receipt = await nights.push(
        "S,ID,F,D,B\n8,2,3,2026-02-01 10:00:00,false\n", mode=mode, keys=["ID"] if mode == "upsert" else []
    )
    (change,) = receipt.schema_changes
    assert change.startswith("GONE: not in the source, NULL")
    assert {**await nights.types()} == types
    row = (2, 3.0, "8", dt.datetime(2026, 2, 1, 10), False, None)
    assert (await nights.rows(columns="ID, F, S, D, B, GONE"))[-1] == row


async def test_a_delete_sends_its_keys_only_and_checks_nothing_else(nights):
    await nights.push("ID,POS,A,S\n0001,1,1,x\n0002,2,2,y\n0003,3,3,z\n")
    source = f"POS,ID,A,NEW\n2,2,text,1\n1,0001,{'x' * 300},2\n"
    receipt = await nights.push(source, mode="delete", keys=["ID", "POS"], drift="freeze")
    assert receipt.schema_changes == receipt.notes == ()
    assert await nights.rows() == [("0002", 2, 2, "y"), ("0003", 3, 3, "z")]
    job = nights.stage.jobs()[-1]
    assert [column.name for column in job.spec.schema] == ["POS", "ID"]
    assert nights.remembered().known.columns[2].type == "INTEGER"
    error = await nights.refused("ID,POS\n1,x\n", errors.SchemaError, mode="delete", keys=["ID", "POS"])
    assert "column POS" in str(error)


# --- Empty sources


@pytest.mark.parametrize("mode", ["append", "upsert", "delete"])
@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("is_typed", [True, False])
async def test_an_empty_delta_is_done_without_a_job(open_nights, mode, accepts, is_typed):
    nights = await open_nights(emulator={"accepts_empty_chunks": accepts})
    await nights.push("ID,A,S\n1,1.5,x\n")
    before, jobs = await nights.contents(), nights.stage.jobs()
    keys = [] if mode == "append" else ["ID"]
    source = pa.table({"ID": pa.array([], pa.int64()), "NEW": pa.array([], pa.string())}) if is_typed else "ID,NEW\n"
    receipt = await nights.push(source, mode=mode, keys=keys, drift="freeze")
    assert (receipt.status, receipt.rows, receipt.job_id, receipt.submits) == ("DONE", 0, None, 0)
    assert receipt.schema_changes == ()
    assert await nights.contents() == before
    assert nights.stage.jobs() == jobs


async def test_an_empty_replace_is_refused_unless_it_is_allowed(nights):
    await nights.push("ID,A,S\n1,1.5,x\n")
    types = await nights.types()
    error = await nights.refused("ID,A,S\n", errors.SourceReadError)
    assert "--allow-empty" in error.hint
    receipt = await nights.push("S,ID,A\n", allow_empty=True)
    assert (receipt.rows, receipt.chunks, receipt.submits) == (0, 1, 1)
    assert await nights.rows() == []
    assert {**await nights.types()} == types
    await nights.push("ID,A,S\n1,2,3\n")
    assert await nights.rows() == [(1, 2.0, "3")]


async def test_a_file_of_0_bytes_and_no_file_are_refused_unless_that_is_allowed(nights):
    await nights.push("ID,A,S\n1,1.5,x\n")
    types = await nights.types()
    for mode in ("replace", "append"):
        await nights.refused("", mode=mode)
        await nights.refused(nights.folder / "nothing" / "*.csv", mode=mode)
    assert (await nights.push("", mode="append", allow_empty=True)).submits == 0
    assert len(await nights.rows()) == 1
    await nights.push("", allow_empty=True)
    assert await nights.rows() == []
    assert await nights.types() == types


async def test_a_platform_that_takes_no_empty_chunk_keeps_the_table(open_nights):
    nights = await open_nights(emulator={"accepts_empty_chunks": False})
    await nights.push("ID,A\n1,1.5\n")
    with pytest.raises(errors.PushEngineError):
        await nights.push("ID,A\n", allow_empty=True)
    assert await nights.rows() == [(1, 1.5)]


async def test_an_empty_first_push_cannot_know_the_columns(nights):
    assert (await nights.push("ID,A\n", mode="append")).rows == 0
    assert await nights.contents() is None
    await nights.push("ID,A\n1,1.5\n", mode="append")
    assert await nights.rows() == [(1, 1.5)]


# --- Guards


def numbers(count):
    return "ID\n" + "".join(f"{number}\n" for number in range(count))


async def test_a_replace_with_too_few_rows_is_refused_before_the_submit(nights):
    await nights.push(numbers(100))
    error = await nights.refused(numbers(99), min_rows=100)
    assert "99 rows" in str(error)
    assert "--min-rows" in error.hint
    await nights.push(numbers(100), min_rows=100)


async def test_a_replace_that_loses_too_many_rows_is_refused_before_the_submit(nights):
    await nights.push(numbers(3), max_drop=0.0)  # nothing to compare with
    await nights.push(numbers(100), max_drop=0.5)
    error = await nights.refused(numbers(49), max_drop=0.5)
    assert "51% fewer than the 100" in str(error)
    assert "--max-drop" in error.hint
    await nights.push(numbers(50), max_drop=0.5)
    await nights.push(numbers(3), max_drop=1)
    assert len(await nights.rows()) == 3


async def test_guards_do_not_apply_to_deltas(nights):
    await nights.push(numbers(100))
    await nights.push(numbers(1), mode="append", min_rows=100, max_drop=0.0)


async def test_an_allowed_empty_replace_is_guarded_too(nights):
    await nights.push(numbers(4))
    await nights.refused(numbers(0), max_drop=0.5, allow_empty=True)


# --- Pushes at once, and pushes of unknown outcome


async def test_two_pushes_at_once_into_one_table(nights):
    await nights.push("ID,A\n1,1\n")
    await asyncio.gather(
        nights.push("ID,A\n1,1.5\n2,2.5\n"),
        nights.push("ID,A\n3,3\n", mode="append"),
    )
    known = {column.name: column.type for column in nights.remembered().known.columns}
    types = {"BIGINT": "INTEGER", "DOUBLE": "FLOAT"}
    assert known == {name: types[kind] for name, kind in (await nights.types()).items()}
    assert await nights.rows() in ([(1, 1.5), (2, 2.5)], [(1, 1.5), (2, 2.5), (3, 3.0)])
    await nights.push("ID,A\n4,4\n", mode="append")


# --- Values that the sample did not show


LATE = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}
COUNT = 12_000


def late(last):
    return "ID;X;S\n" + "".join(f"{number};1;abcdefghij\n" for number in range(COUNT)) + last


@pytest.mark.parametrize(
    ("last", "changes"),
    [
        ("-1;1.5;a\n", ("X INTEGER -> FLOAT",)),
        ("-1;0x;a\n", ("X INTEGER -> STRING(255)",)),
        (f"-1;1;{'y' * 300}\n", ("S STRING(255) -> STRING(1200)",)),
    ],
)
async def test_a_late_value_widens_a_replaced_table_in_a_fresh_job_and_is_refused_in_a_delta(
    open_nights, last, changes
):
    nights = await open_nights(**LATE)
    await nights.push("ID;X;S\n1;1;a\n")
    for options in ({"mode": "append"}, {"mode": "upsert", "keys": ["ID"]}, {"types": "refuse"}):
        error = await nights.refused(late(last), errors.SchemaError, **options)
        assert f"row {COUNT + 1} (line {COUNT + 2}), column {changes[0][0]}" in str(error)
    receipt = await nights.push(late(last))
    assert (receipt.schema_changes, receipt.restarts, receipt.submits) == (changes, 1, 1)
    assert len(await nights.rows()) == COUNT + 1


async def test_a_late_longer_string_is_sent_by_a_team_that_knows_its_platform(open_nights):
    nights = await open_nights(emulator={"delta_long_strings": "widen"}, on_longer_string="send", **LATE)
    await nights.push("ID;X;S\n1;1;a\n")
    receipt = await nights.push(late(f"-1;1;{'y' * 300}\n"), mode="append")
    assert (receipt.restarts, receipt.submits) == (1, 1)
    assert (await nights.rows())[0] == (-1, 1, "y" * 300)


async def test_a_requested_length_is_kept_whatever_is_set_for_longer_strings(nights):
    error = await nights.refused(
        "S\nabcd\n", errors.SchemaError, column_types={"S": "STRING(3)"}, on_longer_string="send"
    )
    assert "4 characters" in str(error)
    await nights.push("S\nabc\n", column_types={"S": "STRING(3)"}, on_longer_string="send")
    await nights.refused("S\nabcd\n", errors.SchemaError, types="refuse", on_longer_string="send")


# --- Time zones of typed columns


@pytest.mark.parametrize(
    ("first", "zone", "reason"),
    [
        ("2026-01-31T00:00:00Z", None, "it has no time zone, but the values of the table had one"),
        ("2026-01-31T00:00:00", "Europe/Berlin", "it has a time zone, but the values of the table had none"),
    ],
)
@pytest.mark.parametrize("mode", ["append", "upsert"])
async def test_typed_times_of_the_other_kind_are_refused_unless_the_type_is_requested(
    nights, first, zone, reason, mode
):
    options = {"mode": mode} | ({"keys": ["K"]} if mode == "upsert" else {})
    await nights.push(f"K;A\n1;{first}\n")
    times = pa.table({"K": [2], "A": pa.array([AT], pa.timestamp("us", zone))})
    error = await nights.refused(times, errors.SchemaError, **options)
    assert reason in error.message
    assert "--column A=DATETIME accepts it" in error.hint
    await nights.push(times, **options, column_types={"A": "DATETIME"})
    await nights.push(pa.table({"K": [3], "A": pa.array([None], pa.timestamp("us", zone))}), **options)
    other = pa.timestamp("us", None if zone else "Europe/Berlin")
    await nights.push(pa.table({"K": [4], "A": pa.array([AT], other)}), **options)
    assert await nights.rows("K, A", order="K") == [(1, AT), (2, AT), (3, None), (4, AT)]
