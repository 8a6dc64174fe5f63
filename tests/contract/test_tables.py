"""The content of the tables after a job: REPLACE, DELTA, keys, deletes, lengths, names and times."""

import asyncio
import datetime as dt
import threading

import pyarrow as pa
import pytest

from pushengine.emulator import server as emulator_server

CHANGE_DATE = "_CELONIS_CHANGE_DATE"
KEEP, NULLIFY = "UPSERT_WITH_UNCHANGED_METADATA", "UPSERT_WITH_NULLIFICATION"


def schema(*columns):
    names = ("columnName", "columnType", "fieldLength")
    return {"tableName": "t", "columns": [dict(zip(names, column, strict=False)) for column in columns]}


async def upsert(team, *uploads, **fields):
    job = await team.load("t", *uploads, kind="DELTA", **({"keys": ["id"]} | fields))
    assert job["status"] == "DONE", job["logs"]
    return job


# REPLACE


async def test_replace_recreates_the_table(team):
    await team.load("t", {"a": [1], "b": ["x"]}, {"a": [2], "b": ["y"]})
    job = await team.load("T", {"c": [1.5]})
    assert job["status"] == "DONE"
    assert job["logs"]
    assert await team.rows(f'SELECT * EXCLUDE "{CHANGE_DATE}" FROM t') == [(1.5,)]


async def test_the_change_date_is_the_utc_load_time(start, clock):
    team = await start(now=clock)
    await team.load("t", {"a": [1]})
    assert await team.rows("SELECT * FROM t") == [(1, dt.datetime(2026, 1, 1, 0, 10))]


async def test_a_failed_job_keeps_the_old_table(team):
    await team.load("t", {"a": ["old"]})
    bad = b"a\n1\nnot a number\n"
    job = await team.load("t", b"a\n1\n", bad, fileType="CSV", tableSchema=schema(("a", "INTEGER")))
    assert job["status"] == "ERROR"
    assert "not a number" in job["logs"][0]
    assert await team.rows("SELECT a FROM t") == [("old",)]
    assert team.spool_files() == []


async def test_a_table_is_replaced_atomically(team):
    """A reader sees either all old rows or all new rows."""
    await team.load("t", {"a": [0] * 1000})
    job_id = await team.new_job("t")
    for _ in range(5):
        await team.upload(job_id, {"a": [1] * 100_000})
    await team.submit(job_id)
    waiting = asyncio.create_task(team.settled(job_id))
    seen = set()
    while not waiting.done():
        seen |= set(await team.rows("SELECT count(*), min(a), max(a) FROM t"))
    seen |= set(await team.rows("SELECT count(*), min(a), max(a) FROM t"))
    assert seen <= {(1000, 0, 0), (500_000, 1, 1)}
    assert (500_000, 1, 1) in seen


async def test_declared_column_types_are_used(team):
    columns = schema(
        ("I", "INTEGER"), ("f", "FLOAT"), ("d", "DATE"), ("at", "DATETIME"), ("t", "TIME"), ("s", "STRING")
    )
    at = pa.array([dt.datetime(2020, 1, 2, 3, 4, 5)], pa.timestamp("us"))
    await team.load("t", {"i": [1], "f": [2], "d": at, "at": at, "t": ["03:04:05"], "s": ["x"]}, tableSchema=columns)
    types = await team.rows("SELECT column_name, data_type FROM information_schema.columns ORDER BY ordinal_position")
    assert types == [
        ("I", "BIGINT"),
        ("f", "DOUBLE"),
        ("d", "DATE"),
        ("at", "TIMESTAMP"),
        ("t", "TIME"),
        ("s", "VARCHAR"),
        (CHANGE_DATE, "TIMESTAMP"),
    ]
    row = (1, 2.0, dt.date(2020, 1, 2), dt.datetime(2020, 1, 2, 3, 4, 5), dt.time(3, 4, 5), "x")
    assert await team.rows(f"SELECT * EXCLUDE {CHANGE_DATE} FROM t") == [row]


# Lengths


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ({}, 80),
        ({"fallbackVarcharLength": 5}, 5),
        ({"tableSchema": schema(("a", "STRING", 7))}, 7),
        ({"tableSchema": schema(("a", "STRING")), "fallbackVarcharLength": 9}, 9),
    ],
    ids=["default", "fallback", "declared", "fallback for undeclared"],
)
async def test_longer_strings_are_truncated_silently(team, fields, length):
    job = await team.load("t", {"a": ["😀" * 200, "short"]}, **fields)
    assert job["status"] == "DONE"
    assert "cut" not in " ".join(job["logs"])
    assert await team.rows("SELECT a FROM t") == [("😀" * length,), ("short"[:length],)]


async def test_replace_without_schema_resets_the_lengths(team):
    await team.load("t", {"a": ["x" * 200]}, tableSchema=schema(("a", "STRING", 150)))
    assert await team.rows("SELECT length(a) FROM t") == [(150,)]
    await team.load("t", {"a": ["x" * 200]})
    assert await team.rows("SELECT length(a) FROM t") == [(80,)]


async def test_delta_keeps_the_lengths_of_the_table(start, tmp_path):
    """This also holds if another emulator created the table."""
    first = await start(database=tmp_path / "team.duckdb")
    await first.load("t", {"a": ["x" * 200]}, tableSchema=schema(("a", "STRING", 10)))
    second = await start(database=tmp_path / "team.duckdb")
    await second.load("t", {"A": ["y" * 200]}, kind="DELTA", fallbackVarcharLength=100)
    assert await second.rows("SELECT a FROM t") == [("x" * 10,), ("y" * 10,)]


# DELTA


async def test_delta_without_keys_appends(team):
    await team.load("t", {"a": [1]}, kind="DELTA")
    await team.load("t", {"a": [1]}, {"a": [2]}, kind="DELTA")
    assert await team.rows("SELECT a FROM t") == [(1,), (1,), (2,)]


async def test_delta_with_keys_replaces_equal_keys(team):
    await team.load("t", {"id": [1, 2], "v": ["a", "b"]})
    await upsert(team, {"id": [2, 3], "v": ["B", "C"]}, keys=["ID"])
    assert await team.rows("SELECT id, v FROM t ORDER BY id") == [(1, "a"), (2, "B"), (3, "C")]


async def test_all_keys_together_identify_a_row(team):
    await team.load("t", {"a": [1, 1], "b": ["x", "y"], "v": [1, 2]})
    await upsert(team, {"v": [20], "b": ["y"], "a": [1]}, keys=["b", "a"])
    assert await team.rows("SELECT a, b, v FROM t ORDER BY v") == [(1, "x", 1), (1, "y", 20)]


@pytest.mark.parametrize(("strategy", "kept"), [(KEEP, "old"), (NULLIFY, None), (None, "old")])
async def test_columns_absent_from_the_file(team, strategy, kept):
    await team.load("t", {"id": [1, 2], "v": [1, 2], "note": ["old", "other"]})
    await upsert(team, {"id": [1, 3], "v": [10, 30]}, upsertStrategy=strategy)
    assert await team.rows("SELECT id, v, note FROM t ORDER BY id") == [(1, 10, kept), (2, 2, "other"), (3, 30, None)]


async def test_the_last_uploaded_row_wins_among_equal_keys(team):
    await upsert(team, {"id": [1, 1], "v": [1, 2]}, {"id": [1], "v": [0]})
    assert await team.rows("SELECT id, v FROM t") == [(1, 0)]


@pytest.mark.parametrize("kind", ["REPLACE", "DELTA"])
async def test_the_highest_duplicate_removal_value_wins(team, kind):
    data = {"id": [1, 1, 1, 2], "v": [5, 9, 7, 1], "ts": pa.array([5, 9, None, 1])}
    job = await team.load("t", data, {"id": [1], "v": [0], "ts": [8]}, kind=kind, keys=["id"], removal="TS")
    assert job["status"] == "DONE", job["logs"]
    assert await team.rows("SELECT id, v FROM t ORDER BY id") == [(1, 9), (2, 1)]


async def test_a_duplicate_removal_column_must_exist(team):
    job = await team.load("t", {"id": [1]}, kind="DELTA", keys=["id"], removal="nowhere")
    assert job["status"] == "ERROR"
    assert "nowhere" in job["logs"][0]
    assert await team.rows("SELECT count(*) FROM information_schema.tables") == [(0,)]


async def test_duplicates_may_be_allowed(team):
    await upsert(team, {"id": [1, 1], "v": [1, 2]}, allowDuplicate=True)
    assert await team.rows("SELECT id, v FROM t") == [(1, 1), (1, 2)]


async def test_deleted_chunks_delete_by_key(team):
    await team.load("t", {"id": [1, 2, 3], "v": [1, 2, 3]})
    await upsert(team, ({"id": [2, 9], "other": ["x", "y"]}, "deleted"))
    assert await team.rows("SELECT id FROM t ORDER BY id") == [(1,), (3,)]


async def test_chunks_apply_in_upload_order(team):
    await team.load("t", {"id": [1, 2, 3], "v": [1, 2, 3], "note": ["a", "b", "c"]})
    await upsert(
        team,
        {"id": [1, 4], "v": [10, 40]},
        ({"id": [1, 2, 4]}, "deleted"),
        {"id": [2, 5], "v": [20, 50]},
    )
    assert await team.rows("SELECT id, v, note FROM t ORDER BY id") == [(2, 20, None), (3, 3, "c"), (5, 50, None)]


async def test_deleting_from_a_table_that_does_not_exist_succeeds(team):
    await upsert(team, ({"id": [1]}, "deleted"))
    assert await team.rows("SELECT count(*) FROM information_schema.tables") == [(0,)]


@pytest.mark.parametrize("data", [{"a": [1], "new": [1]}, {"a": ["x"]}], ids=["new column", "other type"])
async def test_delta_does_not_change_a_table(team, data):
    await team.load("t", {"a": [1]})
    job = await team.load("t", data, kind="DELTA")
    assert job["status"] == "ERROR"
    assert await team.rows("SELECT a FROM t") == [(1,)]


async def test_integers_are_loaded_into_a_float_column(team):
    await team.load("t", {"a": [0.5]})
    await team.load("t", {"a": [2]}, kind="DELTA")
    assert await team.rows("SELECT a FROM t") == [(0.5,), (2.0,)]


# Names

NAMES = [
    "case:concept:name",
    "(case)_Amount",
    "Straße ñ 表",
    'quo"te',
    "it's",
    "select",
    "a.b",
    "a",
    "%",
    "c0",
    "rowid2",
]


@pytest.mark.parametrize("keys", [[], NAMES[:3]], ids=["append", "upsert"])
async def test_names_may_contain_any_character(team, keys):
    columns = schema(*((name, "STRING") for name in NAMES))
    data = {name: [f"value of {name}"] for name in NAMES}
    for _ in range(2):
        job = await team.load('my "table": ü', data, kind="DELTA", keys=keys, tableSchema=columns, connectionId='c"1')
        assert job["status"] == "DONE", job["logs"]
    rows = await team.rows(f'SELECT * EXCLUDE {CHANGE_DATE} FROM "c""1"."my ""table"": ü"')
    assert rows == [tuple(f"value of {name}" for name in NAMES)] * (1 if keys else 2)


async def test_names_ignore_case_in_every_script(team):
    await team.load("Größe", {"Ä": [1], "id": [1]})
    await team.load("GRÖSSE", {"ä": [2], "ID": [1]}, kind="DELTA", keys=["Id"])
    assert await team.rows('SELECT "Ä", id FROM "Größe"') == [(2, 1)]


async def test_each_pool_and_connection_has_its_own_schema(start):
    team = await start()
    await team.load("t", {"a": [1]})
    await team.load("t", {"a": [2]}, connectionId="c1")
    team.jobs_path = "/data-ingestion/api/v1/data-push/pool-2/jobs/"
    await team.load("t", {"a": [3]})
    await team.load("t", {"a": [4]}, connectionId="c1")
    tables = await team.rows("SELECT table_schema FROM information_schema.tables ORDER BY 1")
    assert tables == [("c1",), ("main",), ("pool-2",), ("pool-2_c1",)]
    assert await team.rows('SELECT a FROM "pool-2_c1".t') == [(4,)]


@pytest.mark.parametrize("stem", ["main", "t", "odd name"])
async def test_a_database_file_may_have_any_name(start, tmp_path, stem):
    team = await start(database=tmp_path / f"{stem}.duckdb")
    assert (await team.load("t", {"id": [1]}, kind="DELTA", keys=["id"]))["status"] == "DONE"
    assert (await team.load("t", {"id": [1]}, kind="DELTA", keys=["id"]))["status"] == "DONE"


# Times


async def test_timestamps_arrive_exactly_over_the_whole_range(team):
    timestamps = [
        dt.datetime(1400, 1, 1),
        dt.datetime(1677, 9, 21, 0, 12, 43, 145224),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        dt.datetime(2262, 4, 11, 23, 47, 16, 854776),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
        None,
    ]
    await team.load("t", {"n": list(range(6)), "ts": pa.array(timestamps, pa.timestamp("us"))})
    assert await team.rows("SELECT ts FROM t ORDER BY n") == [(timestamp,) for timestamp in timestamps]


async def test_timestamps_outside_the_calendar_become_null(team):
    timestamps = [dt.datetime(1399, 12, 31, 23, 59, 59, 999999), dt.datetime(1, 1, 1)]
    late = pa.array([253_402_300_800_000_000], pa.int64()).cast(pa.timestamp("us"))
    await team.load("t", {"ts": pa.concat_arrays([pa.array(timestamps, pa.timestamp("us")), late])})
    assert await team.rows("SELECT ts FROM t") == [(None,)] * 3


# Limits


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
@pytest.mark.parametrize("character", ["x", "\u00e4", "\u20ac", "\U0001f600"])
async def test_no_string_is_longer_than_65000_bytes(team, character, file_type):
    # One byte more or less moves the cut through each byte of a character.
    values = [prefix + character * 80_000 for prefix in ("", "x", "xx", "xxx")] + [character * 3]
    data = {"a": values} if file_type == "PARQUET" else "\n".join(["a", *values]).encode()
    job = await team.load("t", data, fileType=file_type, fallbackVarcharLength=65_000)
    assert job["status"] == "DONE", job["logs"]
    expected = [value.encode()[:65_000].decode(errors="ignore") for value in values]
    assert [value for (value,) in await team.rows("SELECT a FROM t")] == expected


# Wide tables, and jobs side by side


@pytest.mark.parametrize("count", [250, 251, 600])
async def test_a_wide_table_keeps_its_lengths(start, tmp_path, count):
    team = await start(database=tmp_path / "pool.duckdb", delta_long_strings="widen", delta_new_columns="add")
    names = [f"c{index}" for index in range(count - 1)]  # and the change date
    declared = schema(*((name, "STRING", index % 7 + 1) for index, name in enumerate(names)))
    await team.load("t", {name: ["long long"] for name in names}, tableSchema=declared)
    wider = schema(("c0", "STRING", 5), ("new", "STRING", 9))
    job = await team.load("t", {"c0": ["long long"], "new": ["long long long"]}, kind="DELTA", tableSchema=wider)
    assert job["status"] == "DONE", job["logs"]
    response = await team.request("GET", "/integration/api/pools/pool-1/columns?tableName=t")
    lengths = {column["name"]: column["length"] for column in response.json if column["type"] == "STRING"}
    assert lengths == {name: 4 * (index % 7 + 1) for index, name in enumerate(names)} | {"c0": 20, "new": 36}
    assert await team.rows("SELECT c0, c1, new FROM t ORDER BY c1") == [("l", "lo", None), ("long ", None, "long long")]


async def test_a_table_of_5000_columns_is_loaded(team):
    data = pa.table({f"c{index}": [str(index)] if index % 2 else [index] for index in range(5000)})
    job = await team.load("t", data, kind="DELTA", keys=["c0"])
    assert job["status"] == "DONE", job["logs"]
    assert await team.rows("SELECT c0, c1, c4999 FROM t") == [(0, "1", "4999")]


async def test_jobs_of_different_tables_do_not_wait_for_each_other(start, tmp_path):
    team = await start(database=tmp_path / "pool.duckdb")
    wide, narrow = await team.new_job("wide"), await team.new_job("narrow", connectionId="c1")
    await team.upload(wide, {"a": list(range(10))})
    await team.upload(narrow, {"a": [1]})
    may_end = threading.Event()
    load = emulator_server.Load.run

    def slow(self):
        if self._job.id == wide:
            may_end.wait(20)
        return load(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulator_server.Load, "run", slow)
        for job_id in (wide, narrow):
            assert (await team.submit(job_id)).status == 200
        try:
            assert (await team.settled(narrow))["status"] == "DONE"
            assert (await team.get(wide)).json["status"] == "RUNNING"
        finally:
            may_end.set()
        assert (await team.settled(wide))["status"] == "DONE"
    assert await team.rows("SELECT count(*), (SELECT count(*) FROM c1.narrow) FROM wide") == [(10, 1)]


async def test_many_jobs_run_side_by_side(start, tmp_path):
    team = await start(database=tmp_path / "pool.duckdb", submits_per_second=100)
    job_ids = []
    for index in range(24):
        job_ids.append(await team.new_job(f"t{index}", "DELTA", keys=["a"], connectionId=f"c{index % 3}"))
        await team.upload(job_ids[-1], {"a": list(range(50)), "b": ["x"] * 50})
    assert {r.status for r in await asyncio.gather(*map(team.submit, job_ids))} == {200}
    assert {(await team.settled(job_id))["status"] for job_id in job_ids} == {"DONE"}
    counts = [await team.rows(f"SELECT count(*) FROM c{index % 3}.t{index}") for index in range(24)]
    assert counts == [[(50,)]] * 24


async def test_jobs_of_one_table_run_one_after_the_other(start):
    team = await start(conflict_scope="job", submits_per_second=100)
    job_ids = [await team.new_job("t" if index % 2 else "T", "DELTA") for index in range(8)]
    for job_id in job_ids:
        await team.upload(job_id, {"a": [1]})
    await asyncio.gather(*map(team.submit, job_ids))
    assert {(await team.settled(job_id))["status"] for job_id in job_ids} == {"DONE"}
    assert await team.rows("SELECT count(*) FROM t") == [(8,)]
