"""Columns that the platform lists, and how the client finds them."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from support.lists import read_list

from pushengine import errors
from pushengine.celonis import data_push
from pushengine.celonis.columns import columns_of, parse_listed_column, parse_table_name
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import UserApiKey
from pushengine.model import TableColumn, may_be_listed_as
from pushengine.runtime.clock import SystemClock

CHANGE_DATE = {"name": "_CELONIS_CHANGE_DATE", "length": None, "type": "DATE"}


def column(name, kind, length=None):
    return {"name": name, "length": length, "type": kind}


def parsed(*listed):
    return columns_of(read_list(json.dumps(listed).encode(), parse_listed_column))


def test_the_columns_of_a_table_come_in_its_order_without_that_of_the_platform():
    listed = [column("B", "INTEGER", 8), column("a", "STRING", 320), CHANGE_DATE, column("C", "FLOAT")]
    expected = [TableColumn("B", "INTEGER"), TableColumn("a", "STRING", 80), TableColumn("C", "FLOAT")]
    assert parsed(*listed) == expected
    assert parsed(*listed, None) == expected
    assert parsed() == []


@pytest.mark.parametrize(
    ("listed", "characters"),
    [(320, 80), (65_000, 16_250), (7, 1), (3, None), (0, None), (-1, None), (None, None), ("320", None)],
)
def test_the_length_of_a_string_is_a_quarter_of_the_bytes(listed, characters):
    assert parsed(column("a", "STRING", listed)) == [TableColumn("a", "STRING", characters)]


@pytest.mark.parametrize(("change_date", "kind"), [("DATE", "DATETIME"), ("DATETIME", "DATE"), (None, "DATETIME")])
def test_date_is_any_kind_of_time_unless_the_platform_lists_a_datetime(change_date, kind):
    listed = [column("d", "DATE"), column("_celonis_change_date", change_date)]
    assert parsed(*listed) == [TableColumn("d", kind)]


@pytest.mark.parametrize("kind", ["DECIMAL", "string", "", None, 7, ["STRING"]])
def test_a_column_of_an_unknown_type_is_left_out(kind):
    assert parsed(column("a", kind), {"name": "b"}, column("c", "BOOLEAN")) == [TableColumn("c", "BOOLEAN")]


def test_a_name_that_is_listed_twice_is_left_out():
    assert parsed(column("a", "STRING"), column("b", "FLOAT"), column("A", "INTEGER")) == [TableColumn("b", "FLOAT")]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b"[7]", b"[[]]", b'[{"type": "STRING"}]', b'[{"name": ""}]', b'[{"name": 1}]']
)
def test_a_body_that_is_not_a_list_of_named_objects_is_unusable(body):
    with pytest.raises(errors.UnexpectedResponseError, match="list: the response cannot be used"):
        read_list(body, parse_listed_column)
    with pytest.raises(errors.UnexpectedResponseError, match="list: the response cannot be used"):
        read_list(body, parse_table_name, table="t", connection_id=None)


@pytest.mark.parametrize(("connection_id", "spelled"), [(None, ["ORDERS", "orders"]), ("c1", ["Orders"]), ("c2", [])])
def test_a_table_is_found_by_name_and_data_connection(connection_id, spelled):
    tables = [("ORDERS", None), ("Orders", "c1"), ("orders", ""), ("order", None)]
    body = json.dumps([{"name": name, "dataSourceId": source} for name, source in tables]).encode()
    assert read_list(body, parse_table_name, table="oRDERS", connection_id=connection_id) == spelled


def test_a_type_may_be_listed_as_a_rougher_one():
    kinds = ["INTEGER", "DATE", "TIME", "DATETIME", "FLOAT", "BOOLEAN", "STRING"]
    rougher = {
        (kind, listed) for kind in kinds for listed in kinds if kind != listed and may_be_listed_as(kind, listed)
    }
    assert rougher == {("DATE", "DATETIME"), ("TIME", "DATETIME"), ("BOOLEAN", "INTEGER")}
    assert all(may_be_listed_as(kind, kind) for kind in kinds)


# The client


@pytest.fixture
async def team():
    """Serve `team.tables`, a mapping of (name, connection) to columns, with exact names; `team.requests` are the requests."""

    class Team:
        def __init__(self):
            self.tables, self.requests, self.statuses = {}, [], {}

        async def respond(self, request):
            self.requests.append(request.path_qs)
            route = request.path.rpartition("/")[2]
            if route in self.statuses:
                return web.json_response({"message": "because"}, status=self.statuses[route])
            if route == "tables":
                return web.json_response([{"name": name, "dataSourceId": source} for name, source in self.tables])
            return web.json_response(self.tables.get((request.query["tableName"], request.query.get("schemaName")), []))

    team = Team()
    runner = web.ServerRunner(web.Server(team.respond, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    team.client = DataPushClient(
        url, "pool", UserApiKey("key"), settings=EngineSettings(base_path="data-ingestion"), clock=SystemClock()
    )
    yield team
    await team.client.aclose()
    await runner.cleanup()


async def test_one_request_reads_a_table_that_is_spelled_as_the_platform_does(team):
    team.tables = {("T", None): [column("a", "FLOAT")], ("T", "c1"): [column("b", "STRING", 40)]}
    assert await team.client.table_columns("T", None) == [TableColumn("a", "FLOAT")]
    assert await team.client.table_columns("T", "c1") == [TableColumn("b", "STRING", 10)]
    base = "/integration/api/pools/pool"
    assert team.requests == [f"{base}/columns?tableName=T", f"{base}/columns?tableName=T&schemaName=c1"]


async def test_another_spelling_is_found_in_the_list_of_tables(team):
    team.tables = {("Orders", None): [column("a", "FLOAT")], ("ORDERS", "c1"): [column("b", "FLOAT")]}
    assert await team.client.table_columns("orders", "c1") == [TableColumn("b", "FLOAT")]
    assert [request.rpartition("/")[2] for request in team.requests] == [
        "columns?tableName=orders&schemaName=c1",
        "tables",
        "columns?tableName=ORDERS&schemaName=c1",
    ]


async def test_a_table_that_does_not_exist_has_no_columns(team):
    team.tables = {("other", None): [column("a", "FLOAT")], ("t", "c1"): [column("a", "FLOAT")]}
    assert await team.client.table_columns("t", None) == []
    assert len(team.requests) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, errors.AuthenticationError), (403, errors.PermissionDeniedError), (404, errors.NotFoundError)],
)
@pytest.mark.parametrize("route", ["columns", "tables"])
async def test_a_refusal_of_either_call_is_raised(team, route, status, kind):
    team.statuses = {route: status}
    with pytest.raises(kind, match=f"list the {route} of"):
        await team.client.table_columns("t", None)


async def test_the_list_of_columns_is_bounded(team, monkeypatch):
    monkeypatch.setattr(data_push, "_MAX_LIST_BYTES", 1024 * 1024)
    team.tables = {("t", None): [column("x" * 1024, "FLOAT")] * 5000}
    with pytest.raises(errors.UnexpectedResponseError, match="larger than"):
        await team.client.table_columns("t", None)
