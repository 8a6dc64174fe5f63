"""Several targets in one process: one journal, one ledger, one memory budget, one drain."""

import asyncio
import threading

import pytest

from pushengine import EngineSettings, OAuthClient, UserApiKey
from pushengine.emulator.server import Emulator
from pushengine.emulator.settings import EmulatorSettings
from pushengine.errors import ConfigError, EngineClosedError
from pushengine.events import JobSubmitted, PushFinished, QuotaWaited
from pushengine.host import EngineHost
from pushengine.loads.lanes import Lanes

KEY = UserApiKey("test-key-1")
OWN_THREADS = ("pushengine-read", "pushengine-encode", "pushengine-journal")
SETTINGS = EngineSettings(hour_guard_seconds=0, submits_per_second=1000)


@pytest.fixture
async def emulator():
    async with Emulator(settings=EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("ID,NAME\n1,a\n2,b\n")
    return path


async def test_pushes_into_two_pools_of_one_team_share_journal_ledger_and_memory(emulator, source, tmp_path):
    async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
        engines = [await host.engine(emulator.url, pool_id=pool, auth=KEY) for pool in ("pool-1", "pool-2")]
        receipts = await asyncio.gather(*(engine.push(source, table="T") for engine in engines))
        assert [receipt.rows for receipt in receipts] == [2, 2]
        rows = await host.read(lambda file: file.pushes())
        assert sorted(row.pool_id for row in rows) == ["pool-1", "pool-2"]
        assert (await host.quota(engines[0].team)).spent == 2
        assert [(await engine.quota()).spent for engine in engines] == [2, 2]
        assert engines[0]._shared.limiter is engines[1]._shared.limiter
        assert engines[0]._shared.budget is engines[1]._shared.budget
        assert host.finished == {receipt.push_id for receipt in receipts}


async def test_two_teams_have_a_quota_each_in_one_ledger(emulator, source, tmp_path):
    async with (
        Emulator(settings=EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)) as other,
        EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host,
    ):
        first = await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
        second = await host.engine(other.url, pool_id="pool-1", auth=KEY)
        await first.push(source, table="T")
        await first.push(source, table="U")
        await second.push(source, table="T")
        assert ((await host.quota(first.team)).spent, (await host.quota(second.team)).spent) == (2, 1)


async def test_the_same_target_is_the_same_engine(emulator, tmp_path):
    async with EngineHost(state_dir=tmp_path / "state") as host:
        first = await host.engine(emulator.url, pool_id="pool-1", auth=OAuthClient("id", "secret"))
        same = await host.engine(emulator.url, pool_id="pool-1", auth=OAuthClient("id", "secret"))
        others = [
            await host.engine(emulator.url, pool_id="pool-2", auth=OAuthClient("id", "secret")),
            await host.engine(emulator.url, pool_id="pool-1", auth=OAuthClient("id", "other")),
            await host.engine(emulator.url, pool_id="pool-1", auth=OAuthClient("id", "secret"), connection_id="c"),
        ]
        assert same is first
        assert len({first, *others}) == 4
        async with first as again:  # it is open already
            assert again is first


async def test_a_host_that_is_not_open_has_no_engines(emulator, tmp_path):
    host = EngineHost(state_dir=tmp_path / "state")
    with pytest.raises(EngineClosedError, match="not open"):
        await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
    async with host:
        with pytest.raises(ConfigError):
            await host.engine("ftp://x", pool_id="pool-1", auth=KEY)
        engine = await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
    with pytest.raises(EngineClosedError, match="closed"):
        await engine.quota()
    with pytest.raises(EngineClosedError, match="closed"):
        await host.read(lambda file: file.pushes())
    with pytest.raises(EngineClosedError, match="closed"):
        async with host:
            pass
    await host.aclose()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(OWN_THREADS)] == []


async def test_events_of_all_engines_arrive_and_end_with_the_host(emulator, source, tmp_path):
    async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
        events = host.events()
        for pool in ("pool-1", "pool-2"):
            await (await host.engine(emulator.url, pool_id=pool, auth=KEY)).push(source, table="T")
    assert [event.pool async for event in events if isinstance(event, PushFinished)] == ["pool-1", "pool-2"]


async def test_a_drain_of_the_host_ends_the_pushes_of_all_engines(emulator, source, tmp_path):
    async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
        engines = [await host.engine(emulator.url, pool_id=pool, auth=KEY) for pool in ("pool-1", "pool-2")]
        host.drain()
        for engine in engines:
            with pytest.raises(EngineClosedError, match="interrupted"):
                await engine.push(source, table="T")


async def test_receipts_count_as_returned_only_if_the_block_ends_well(emulator, source, tmp_path):
    async def push(*, fails):
        async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
            receipt = await (await host.engine(emulator.url, pool_id="pool-1", auth=KEY)).push(source, table="T")
            if fails:
                raise LookupError
        return receipt

    with pytest.raises(LookupError):
        await push(fails=True)
    assert (await push(fails=False)).resumed
    assert not (await push(fails=False)).resumed


async def test_leaving_the_host_cancels_its_pushes(source, tmp_path):
    async with Emulator(settings=EmulatorSettings(queue_seconds=3600.0)) as emulator:
        async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
            events = host.events()
            engine = await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
            push = asyncio.create_task(engine.push(source, table="T"))
            async for event in events:
                if isinstance(event, JobSubmitted):
                    break
        assert push.cancelled()


async def test_tables_of_one_name_in_two_pools_do_not_wait_for_each_other(source, tmp_path):
    async with (
        Emulator(settings=EmulatorSettings(queue_seconds=3600.0)) as emulator,
        EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host,
    ):
        events, submitted = host.events(), set()
        engines = [await host.engine(emulator.url, pool_id=pool, auth=KEY) for pool in ("pool-1", "pool-2")]
        pushes = [asyncio.create_task(engine.push(source, table="T")) for engine in engines]
        async for event in events:
            if isinstance(event, JobSubmitted):
                submitted.add(event.pool)
            if len(submitted) == 2:
                break
    assert [push.cancelled() for push in pushes] == [True, True]


async def test_the_priority_of_a_push_is_that_of_its_submit(emulator, source, tmp_path, monkeypatch):
    async with EngineHost(state_dir=tmp_path / "state", settings=SETTINGS) as host:
        engine = await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
        limiter, asked = engine._shared.limiter, []
        acquire = limiter.acquire

        async def spy(*args, priority):
            asked.append(priority)
            return await acquire(*args, priority=priority)

        monkeypatch.setattr(limiter, "acquire", spy)
        await engine.push(source, table="T")
        await engine.push(source, table="T", priority=7)
    assert asked == [0, 7]


async def test_pushes_that_wait_for_quota_keep_no_threads(emulator, source, tmp_path):
    settings = EngineSettings(hour_guard_seconds=0, submits_per_second=1000, submits_per_hour=1)
    lanes, waiting = Lanes(2), set()
    async with EngineHost(state_dir=tmp_path / "state", settings=settings) as host:
        events = host.events()
        engine = await host.engine(emulator.url, pool_id="pool-1", auth=KEY)
        pushes = [asyncio.create_task(engine.push(source, table=f"T{n}", slot=lanes.slot(1))) for n in range(20)]
        async for event in events:
            if isinstance(event, QuotaWaited):
                waiting.add(event.push_id)
            if len(waiting) == 19:
                break
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("pushengine-read")]
        assert 1 <= len(threads) <= 4
        host.drain()
        await asyncio.wait(pushes)
