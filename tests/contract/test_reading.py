"""What the vendor's client reads: the user, the pools, the tables and their columns."""

import asyncio
import json
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from support.vendor_client import VendorClient

POOLS = "/integration/api/pools"
ALL_TYPES = ("INTEGER", "FLOAT", "STRING", "BOOLEAN", "DATETIME", "DATE", "TIME")
CHANGE_DATE = "_CELONIS_CHANGE_DATE"


def schema(*columns):
    names = ("columnName", "columnType", "fieldLength")
    return {"tableName": "t", "columns": [dict(zip(names, column, strict=False)) for column in columns]}


async def tables(team, pool="pool-1"):
    return (await team.request("GET", f"{POOLS}/{pool}/tables")).json


async def columns(team, table, pool="pool-1", **query):
    response = await team.request("GET", f"{POOLS}/{pool}/columns?{urlencode({'tableName': table} | query)}")
    assert response.status == 200, response.content
    return {column["name"]: (column["type"], column["length"]) for column in response.json}


# The vendor's client


class ReadingClient(VendorClient):
    """The requests of `get_celonis`, `create_table`, `get_table` and `get_columns` of pycelonis 2.20, in its order."""

    def get_celonis(self):
        user = self.request("GET", "/api/cloud", parse=True)
        permissions = self.request("GET", "/api/cloud/permissions", parse=True)
        team = self.request("GET", "/api/team", parse=True)
        assert isinstance(user["name"], str)
        assert all(isinstance(entry["serviceName"], str) for entry in permissions)
        assert not team.get("trackingEnabled")  # tracking would send requests to other hosts

    def get_data_pool(self, pool_id):
        return self.request("GET", f"{POOLS}/{pool_id}", parse=True)["id"]

    def get_table(self, name):
        for table in self.request("GET", f"{POOLS}/pool-1/tables", parse=True):
            if table["name"].casefold() == name.casefold() and table["dataSourceId"] is None:
                return table
        return None

    def create_table(self, content, name):
        if self.get_table(name) is not None:
            raise AssertionError("the table exists already")
        assert self.push(content)["status"] == "DONE"
        return self.get_table(name)

    def get_columns(self, table):
        query = urlencode({"tableName": table["name"]})  # httpx sends no schemaName if the table has no dataSourceId
        return self.request("GET", f"{POOLS}/pool-1/columns?{query}", parse=True)


@pytest.mark.parametrize("authorization", ["Bearer key", "AppKey key"])
async def test_the_vendors_requests_create_a_table_and_read_its_columns(start, to_parquet, authorization):
    team = await start()
    client = ReadingClient(team.emulator.port, authorization)

    def session():
        client.get_celonis()
        assert client.get_data_pool("pool-1") == "pool-1"
        table = client.create_table(to_parquet({"ID": [1, 2], "NAME": ["short", None]}), "activities")
        read = client.get_columns(table)
        client.connection.close()
        return table, read

    table, read = await asyncio.to_thread(session)
    assert table == {
        "name": "ACTIVITIES",
        "loaderSource": None,
        "available": False,
        "dataSourceId": None,
        "dataSourceName": None,
        "columns": [],
        "type": "TABLE",
        "schemaName": "pool-1",
    }
    assert read == [
        {"name": "ID", "length": None, "type": "INTEGER"},
        {"name": "NAME", "length": 16, "type": "STRING"},
        {"name": CHANGE_DATE, "length": None, "type": "DATE"},
    ]


# Columns


@pytest.mark.parametrize(
    ("is_exact", "listed"),
    [
        (False, ["INTEGER", "FLOAT", "STRING", "INTEGER", "DATE", "DATE", "DATE", "DATE"]),
        (True, [*ALL_TYPES, "DATETIME"]),
    ],
)
async def test_types_are_those_that_the_vendor_knows_or_all(start, is_exact, listed):
    team = await start(lists_exact_types=is_exact)
    text = ",".join(ALL_TYPES) + "\n" + "," * 6 + "\n"
    declared = schema(*((kind, kind) for kind in ALL_TYPES))
    await team.load("t", text.encode(), fileType="CSV", tableSchema=declared)
    read = await columns(team, "t")
    assert [kind for kind, _ in read.values()] == listed
    assert list(read) == [*ALL_TYPES, CHANGE_DATE]


@pytest.mark.parametrize(("declared", "listed"), [(None, 320), (7, 28), (16_250, 65_000)])
async def test_lengths_come_back_times_four(team, declared, listed):
    await team.load("t", {"a": ["x"]}, tableSchema=schema(("a", "STRING", declared)))
    assert (await columns(team, "T"))["a"] == ("STRING", listed)


async def test_a_table_that_does_not_exist_has_no_columns(team):
    assert await columns(team, "t") == {}
    assert (await team.request("GET", f"{POOLS}/pool-1/columns")).json == []


async def test_a_table_of_another_maker_lists_what_is_known_of_it(team):
    await team.load("t", {"a": [1]})
    await team.rows("CREATE VIEW v AS SELECT a, 1.5::DECIMAL(3, 1) AS d, 'x' AS s FROM t")
    assert await columns(team, "v") == {"a": ("INTEGER", None), "d": (None, None), "s": ("STRING", None)}
    assert {table["name"]: table["type"] for table in await tables(team)} == {"t": "TABLE", "v": "VIEW"}


# Data connections and pools


async def test_each_data_connection_has_its_own_tables(team):
    await team.load("t", {"a": [1]})
    await team.load("T", {"b": [1]}, connectionId="c1")
    assert list(await columns(team, "t")) == ["a", CHANGE_DATE]
    assert list(await columns(team, "t", schemaName="c1")) == ["b", CHANGE_DATE]
    assert await columns(team, "t", schemaName="c2") == {}
    found = [(table["name"], table["dataSourceId"], table["schemaName"]) for table in await tables(team)]
    assert found == [("t", None, "pool-1"), ("T", "c1", "pool-1_c1")]


async def test_each_pool_has_its_own_tables(start):
    team = await start()
    await team.load("t", {"a": [1]})
    team.jobs_path = team.jobs_path.replace("pool-1", "pool-2")
    await team.load("u", {"b": [1]})
    await team.load("w", {"c": [1]}, connectionId="c1")

    async def names(pool):
        return [(table["name"], table["dataSourceId"]) for table in await tables(team, pool)]

    assert (await names("pool-1"), await names("pool-2")) == ([("t", None)], [("u", None), ("w", "c1")])
    assert list(await columns(team, "w", "pool-2", schemaName="c1")) == ["c", CHANGE_DATE]
    assert await columns(team, "t", "pool-2") == {}
    assert await columns(team, "u") == {}
    listed = (await team.request("GET", POOLS)).json
    assert [(pool["id"], pool["name"]) for pool in listed] == [("pool-1", "pool-1"), ("pool-2", "pool-2")]


async def test_tables_of_an_earlier_emulator_can_be_read_before_the_first_job(start, tmp_path):
    first = await start(database=tmp_path / "team.duckdb")
    await first.load("t", {"a": [1]}, connectionId="c1")
    second = await start(database=tmp_path / "team.duckdb")
    assert [(table["name"], table["dataSourceId"]) for table in await tables(second)] == [("t", "c1")]
    assert list(await columns(second, "t", schemaName="c1")) == ["a", CHANGE_DATE]


async def test_configured_pools_are_listed_and_others_do_not_exist(start):
    team = await start(pool_ids=frozenset({"pool-1", "closed"}), forbidden_pool_ids=frozenset({"closed"}))
    assert [pool["id"] for pool in (await team.request("GET", POOLS)).json] == ["pool-1"]
    for path in ("", "/tables", "/columns?tableName=t"):
        statuses = [
            (await team.request("GET", f"{POOLS}/{pool}{path}")).status for pool in ("pool-1", "closed", "other")
        ]
        assert statuses == [200, 403, 404]


# Permissions


READS = (POOLS, f"{POOLS}/pool-1", f"{POOLS}/pool-1/tables", f"{POOLS}/pool-1/columns?tableName=t")


@pytest.mark.parametrize("path", ["/api/cloud", "/api/cloud/permissions", *READS])
async def test_every_call_needs_credentials(team, path):
    assert (await team.request("GET", path, headers={})).status == 401


async def test_callers_without_the_permission_cannot_read_tables_and_columns_but_can_push(start):
    team = await start(columns_readable=False)
    assert (await team.load("t", {"a": [1]}))["status"] == "DONE"
    responses = [await team.request("GET", path) for path in READS]
    assert [response.status for response in responses] == [200, 200, 403, 403]
    assert responses[-1].json["errorCode"] == "ADMIN_ACCESS_ERROR"
    assert (await team.request("GET", "/api/cloud/permissions")).json == []


@pytest.mark.parametrize(
    ("scopes", "read", "push"),
    [
        ("integration.data-pools:data_push", 403, 200),
        ("integration.data-pools", 200, 200),
        ("integration.data-pools:read integration.data-pools:data_push", 200, 200),
    ],
)
async def test_a_token_needs_a_scope_to_read(start, scopes, read, push):
    team = await start(scopes=tuple(scopes.split()))
    grant = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret", "scope": scopes}
    token = (await team.request("POST", "/oauth2/token", headers={}, data=grant)).json["access_token"]
    team.headers = {"Authorization": f"Bearer {token}"}
    assert {(await team.request("GET", path)).status for path in READS} == {read}
    assert (await team.request("GET", team.jobs_path)).status == push
    assert (await team.request("GET", "/api/cloud")).status == 200


# Switches of DELTA jobs


async def delta(team, data, **fields):
    return await team.load("t", data, kind="DELTA", **fields)


@pytest.mark.parametrize(
    ("switch", "status", "rows", "lengths"),
    [
        ("refuse", "ERROR", [(1, "x")], {"a": None, "b": 8}),
        ("add", "DONE", [(1, "x", None), (2, "y", "new")], {"a": None, "b": 8, "C": 12}),
        ("ignore", "DONE", [(1, "x"), (2, "y")], {"a": None, "b": 8}),
    ],
)
@pytest.mark.parametrize("keys", [[], ["a"]], ids=["append", "upsert"])
async def test_a_column_that_the_table_lacks_is_refused_added_or_ignored(start, switch, status, rows, lengths, keys):
    team = await start(delta_new_columns=switch)
    await team.load("t", {"a": [1], "b": ["x"]}, tableSchema=schema(("a", "INTEGER"), ("b", "STRING", 2)))
    declared = schema(("C", "STRING", 3), ("a", "INTEGER"), ("b", "STRING", 9))
    job = await delta(team, {"C": ["new!"], "a": [2], "b": ["y"]}, keys=keys, tableSchema=declared)
    assert job["status"] == status, job["logs"]
    assert await team.rows(f"SELECT * EXCLUDE {CHANGE_DATE} FROM t ORDER BY a") == rows
    assert {name: length for name, (_, length) in (await columns(team, "t")).items() if name != CHANGE_DATE} == lengths


@pytest.mark.parametrize("switch", ["refuse", "ignore"])
async def test_a_key_that_the_table_lacks_is_never_ignored(start, switch):
    team = await start(delta_new_columns=switch)
    await team.load("t", {"a": [1]})
    job = await delta(team, {"a": [2], "k": [1]}, keys=["k"])
    assert (job["status"], await team.rows("SELECT a FROM t")) == ("ERROR", [(1,)])


async def test_a_failed_job_adds_no_column(start):
    team = await start(delta_new_columns="add")
    await team.load("t", {"a": [1]})
    declared = schema(("a", "INTEGER"), ("b", "INTEGER"))
    job = await delta(team, b"a,b\n2,no number\n", fileType="CSV", tableSchema=declared)
    assert job["status"] == "ERROR"
    assert list(await columns(team, "t")) == ["a", CHANGE_DATE]


@pytest.mark.parametrize(
    ("switch", "status", "rows", "length"),
    [
        ("cut", "DONE", [("xx",), ("lo",), (None,)], 8),
        ("refuse", "ERROR", [("xx",)], 8),
        ("widen", "DONE", [("xx",), ("long",), (None,)], 16),
    ],
)
@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
async def test_a_string_longer_than_its_column_is_cut_refused_or_widens_it(
    start, switch, status, rows, length, file_type
):
    team = await start(delta_long_strings=switch)
    await team.load("t", {"a": ["xx"]}, tableSchema=schema(("a", "STRING", 2)))
    data = {"a": ["longer", None]} if file_type == "PARQUET" else b'a\nlonger\n""\n'
    job = await delta(team, data, fileType=file_type, tableSchema=schema(("a", "STRING", 4)))
    assert job["status"] == status, job["logs"]
    assert ("Column 'a' holds 2 characters; a value is longer" in " ".join(job["logs"])) == (status == "ERROR")
    assert await team.rows("SELECT nullif(a, '') FROM t ORDER BY rowid") == rows
    assert (await columns(team, "t"))["a"] == ("STRING", length)


async def test_strings_that_fit_pass_where_longer_ones_are_refused(start):
    team = await start(delta_long_strings="refuse")
    await team.load("t", {"a": ["xx"]}, tableSchema=schema(("a", "STRING", 2)))
    job = await delta(team, {"a": ["yy"]}, fallbackVarcharLength=1)
    assert (job["status"], await team.rows("SELECT a FROM t")) == ("DONE", [("xx",), ("yy",)])


# Files with 0 rows


NOTHING = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.string())})
DECLARED = schema(("a", "FLOAT"), ("b", "STRING", 5))


async def test_replacing_with_0_rows_leaves_an_empty_table_with_the_declared_columns(team):
    await team.load("t", {"old": [1]})
    job = await team.load("t", NOTHING, tableSchema=DECLARED)
    assert job["status"] == "DONE"
    assert await team.rows("SELECT * FROM t") == []
    assert await columns(team, "t") == {"a": ("FLOAT", None), "b": ("STRING", 20), CHANGE_DATE: ("DATE", None)}


async def test_a_file_with_0_rows_may_be_an_invalid_file(start):
    team = await start(accepts_empty_chunks=False)
    job_id = await team.new_job("t", tableSchema=DECLARED)
    response = await team.upload(job_id, NOTHING)
    assert (response.status, response.json["shortMessage"]) == (400, "Invalid file")
    assert json.loads(response.content)["message"] == "The file contains no rows."
    assert await team.chunks(job_id) == []
    assert (await team.upload(job_id, {"a": [1.0], "b": ["x"]})).status == 200
