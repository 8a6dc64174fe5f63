"""The columns of a table that exists, as the client reads them from the emulator."""

import contextlib
import datetime as dt

import pyarrow as pa
import pytest

from pushengine import EngineSettings, OAuthClient, UserApiKey, errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.model import TableColumn

ROWS = pa.table(
    {
        "n": [1],
        "text": ["four"],
        "flag": [True],
        "amount": [1.5],
        "at": pa.array([dt.datetime(2026, 1, 2, 3)], pa.timestamp("us")),
    }
)


def client_of(stage, auth=None, **settings):
    client = DataPushClient(
        stage.emulator.url, "pool-1", auth or UserApiKey("key"), settings=EngineSettings(**settings)
    )
    return contextlib.aclosing(client)


@pytest.mark.parametrize("base_path", ["data-ingestion", "integration"])
@pytest.mark.parametrize("is_exact", [False, True])
async def test_the_client_reads_the_columns_that_a_push_declared(start, base_path, is_exact):
    stage = await start(emulator={"lists_exact_types": is_exact}, base_path=base_path)
    await stage.push(ROWS, table="orders")
    declared = await stage.emulator.query("SELECT comment FROM duckdb_columns() WHERE column_name = 'text'")
    async with client_of(stage, base_path=base_path) as client:
        columns = await client.table_columns("ORDERS", None)
        assert await client.table_columns("ORDERS", "c1") == []
    text = columns.pop(1)
    assert (text.name, text.type, [(f"VARCHAR({text.length})",)]) == ("text", "STRING", declared)
    assert columns == [
        TableColumn("n", "INTEGER"),
        TableColumn("flag", "BOOLEAN" if is_exact else "INTEGER"),
        TableColumn("amount", "FLOAT"),
        TableColumn("at", "DATETIME"),
    ]


async def test_a_client_that_may_only_push_is_denied(stage):
    auth = OAuthClient("id", "secret", scope="integration.data-pools:data_push")
    async with client_of(stage, auth) as client:
        with pytest.raises(errors.PermissionDeniedError, match="list the columns of table orders"):
            await client.table_columns("orders", None)


async def test_a_key_whose_owner_may_not_read_is_denied(start):
    stage = await start(emulator={"columns_readable": False})
    async with client_of(stage) as client:
        with pytest.raises(errors.PermissionDeniedError):
            await client.table_columns("orders", None)
