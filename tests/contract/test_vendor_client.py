"""The official client loads a table."""

import asyncio
from datetime import datetime

import pytest
from support.vendor_client import VendorClient


@pytest.mark.parametrize("authorization", ["Bearer key", "AppKey key"])
@pytest.mark.parametrize(
    "switches", [{}, {"upload_returns_chunk": False, "datetime_format": "epoch_ms"}], ids=["defaults", "terse"]
)
async def test_the_vendors_requests_load_a_table(start, to_parquet, authorization, switches):
    team = await start(**switches)
    client = VendorClient(team.emulator.port, authorization)
    job = await asyncio.to_thread(client.push, to_parquet({"ID": [1, 2], "NAME": ["short", None]}))
    assert job["status"] == "DONE"
    modified = job["lastModified"]
    assert datetime.fromisoformat(modified) if isinstance(modified, str) else modified > 1e12
    assert await team.rows("SELECT ID, NAME FROM ACTIVITIES ORDER BY ID") == [(1, "shor"), (2, None)]
    assert (await team.get(job["id"])).status == 404
