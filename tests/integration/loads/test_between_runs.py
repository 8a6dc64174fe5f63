"""Runs of `load` that meet other runs: stale plans, runs that were overtaken, pushes that an earlier run submitted."""

import asyncio
import contextlib
import dataclasses

import pytest
from support.run_listener import Listener

from pushengine import EngineSettings
from pushengine.config.load import Flags
from pushengine.config.loads.reading import load_loads
from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.errors import ConnectionFailedError, EngineClosedError
from pushengine.host import EngineHost
from pushengine.journal.loads import BlockRow
from pushengine.journal.store import JournalFile
from pushengine.loads.outcome import Failure
from pushengine.loads.planning import Planner
from pushengine.loads.run import LoadRun
from pushengine.loads.selection import Selection
from pushengine.push.job import JobRunner
from pushengine.push.session import PushSession

HEAD = """
[state]
dir = "state"
[connection]
url = "{url}"
pool_id = "pool-1"
[auth]
api_key = "test-key-1"
"""
EVENTS = """
[[load]]
name = "events"
source = "in/events_*.csv"
table = "EVENTS"
mode = "append"
"""
DATED = """
[[load]]
name = "sap"
source = "in/{table}_{date:%Y%m%d}.csv"
mode = "replace"
"""


class Killed(BaseException):
    """Ends a run as a kill does: nothing is recorded of it."""


class Site:
    """A config file, a folder of extracts, and runs in this process."""

    def __init__(self, emulator, folder):
        self.emulator, self.folder = emulator, folder
        self.settings = EngineSettings(hour_guard_seconds=0, submits_per_second=1000)
        self.listener = Listener()

    def config(self, text, head=HEAD):
        (self.folder / "c.toml").write_text(head.replace("{url}", self.emulator.url) + text)

    def extract(self, name, *rows):
        path = self.folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["ID,NAME", *rows]) + "\n")
        return path

    @contextlib.asynccontextmanager
    async def opened(self, *names, **settings):
        _, loads = load_loads(Flags(config=self.folder / "c.toml"), {})
        settings = self.settings.model_copy(update=settings)
        async with EngineHost(state_dir=self.folder / "state", settings=settings) as host:
            judge = lambda error: Failure(getattr(error, "exit_code", 3), str(error))  # noqa: E731
            yield LoadRun(host, loads, Selection.of(loads, names), listener=self.listener, judge=judge)

    async def load(self, *names, **settings):
        async with self.opened(*names, **settings) as run:
            return await run.run()

    async def go_on(self, *names, **settings):
        async with self.opened(*names, **settings) as run:
            return await run.continue_run()

    async def killed(self, monkeypatch, *names):
        """Record a run that is killed before its first push."""

        async def kill(*_):
            raise Killed

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(LoadRun, "_carry_out", kill)
            await self.load(*names)

    def slow(self, seconds):
        """Let jobs that are submitted from now on run for so long."""
        self.emulator.settings = dataclasses.replace(self.emulator.settings, run_seconds=seconds)

    async def ids(self, table):
        return [str(one) for (one,) in await self.emulator.query(f'SELECT ID FROM "{table}" ORDER BY 1')]

    def memory(self, call):
        with contextlib.closing(JournalFile(self.folder / "state" / "journal.sqlite3")) as file:
            return call(file.loads)


def states(result):
    return [(item.row.generation, item.row.state) for item in result.items]


@pytest.fixture
async def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)
    async with Emulator(settings=settings) as emulator:
        yield Site(emulator, tmp_path)


async def overtaken(site, monkeypatch, meanwhile):
    """Run `load`, with `meanwhile` between its plan and its pushes."""
    plan = Planner.plan
    first = [True]

    async def planned(self, *args):
        found = await plan(self, *args)
        if first.pop() if first else False:
            await meanwhile()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Planner, "plan", planned)
        return await site.load()


async def test_an_append_leaves_out_files_that_another_process_has_loaded_since_it_was_planned(site, monkeypatch):
    site.config(EVENTS)
    first = site.extract("events_1.csv", "1,a")
    second = site.folder / "events_2.csv"

    async def meanwhile():
        second_path = site.folder / "in" / "events_2.csv"
        second_path.rename(second)
        await site.load()
        second.rename(second_path)

    site.extract("events_2.csv", "2,b")
    await overtaken(site, monkeypatch, meanwhile)
    assert await site.ids("EVENTS") == ["1", "2"], first


async def test_a_stale_plan_does_not_replace_a_newer_generation(site, monkeypatch):
    site.config(DATED)
    site.extract("T_20261126.csv", "26,a")

    async def meanwhile():
        site.extract("T_20261127.csv", "27,a")
        await site.load()

    await overtaken(site, monkeypatch, meanwhile)
    assert await site.ids("T") == ["27"]


async def test_a_continued_run_leaves_alone_what_a_later_run_was_about(site, monkeypatch):
    site.config(DATED)
    site.extract("T_20261126.csv", "26,a")
    site.extract("U_20261126.csv", "26,a")
    await site.killed(monkeypatch)
    site.extract("T_20261127.csv", "27,a")
    await site.load("sap.T")
    await site.go_on()
    assert await site.ids("T") == ["27"]
    assert await site.ids("U") == ["26"]


async def test_a_continued_run_may_be_about_some_of_its_loads(site, monkeypatch):
    site.config(DATED)
    site.extract("T_20261126.csv", "26,a")
    site.extract("U_20261126.csv", "26,a")
    await site.killed(monkeypatch)
    result = await site.go_on("sap.T")
    assert states(result) == [("2026-11-26", "done")]
    result = await site.go_on()
    assert [item.name for item in result.items if item.row.state == "done"] == ["sap.T", "sap.U"]
    assert await site.go_on() is None


async def test_a_continued_run_whose_file_has_gone_takes_what_is_there_now(site, monkeypatch):
    site.config(DATED)
    path = site.extract("T_20261126.csv", "26,a")
    await site.killed(monkeypatch)
    path.unlink()
    site.extract("T_20261127.csv", "27,a")
    result = await site.go_on()
    assert states(result) == [("2026-11-27", "done")]
    assert result.exit_code == 0
    assert await site.go_on() is None


async def test_a_missing_load_that_has_come_is_missing_no_longer(site):
    site.config(DATED.replace('mode = "replace"', 'mode = "replace"\n[load.tables.T]\n'))
    site.extract("U_20261126.csv", "26,a")
    result = await site.load()
    assert sorted(state for _, state in states(result)) == ["done", "missing"]
    site.extract("T_20261127.csv", "27,a")
    result = await site.go_on()
    assert result.exit_code == 0, states(result)
    assert await site.ids("T") == ["27"]
    assert await site.go_on() is None


async def test_a_file_that_comes_for_a_load_of_a_run_is_not_taken_for_what_that_run_has_loaded(site):
    site.config(EVENTS.replace('mode = "append"', 'mode = "append"\nmax_age = "1s"'))
    path = site.extract("events_1.csv", "1,a")
    await site.load()
    path.unlink()
    with contextlib.closing(JournalFile(site.folder / "state" / "journal.sqlite3")) as file, file.transaction():
        (run,) = file.loads.runs()
        (row,) = file.loads.run_loads(run.run_id)
        file.loads.set_load(
            run.run_id, dataclasses.replace(row, generation="(missing)", state="missing", number=1, exit_code=3)
        )
    site.extract("events_2.csv", "2,b")
    await site.go_on()
    assert await site.ids("EVENTS") == ["1", "2"]


async def test_an_open_submitted_push_keeps_its_files_from_being_loaded_again(site):
    site.config(EVENTS)
    site.extract("events_1.csv", "1,a")
    site.slow(seconds=5)
    result = await site.load(job_deadline_seconds=0.3, poll_max_interval_seconds=0.1)
    assert result.exit_code != 0
    site.slow(seconds=0)
    again = await site.load(job_deadline_seconds=0.3, poll_max_interval_seconds=0.1)
    assert states(again) == [("", "blocked")]
    assert again.exit_code == 75
    await site.load(job_deadline_seconds=30)
    await site.load(job_deadline_seconds=30)
    assert await site.ids("EVENTS") == ["1"]


async def test_a_file_name_with_brackets_stands_for_that_file_alone(site):
    site.config(EVENTS)
    site.extract("events_1.csv", "1,a")
    site.extract("events_[1].csv", "2,b")
    await site.load()
    assert await site.ids("EVENTS") == ["1", "2"]
    site.extract("events_[2].csv", "3,b")
    await site.load()
    assert await site.ids("EVENTS") == ["1", "2", "3"]


async def test_an_open_push_that_cannot_be_ended_keeps_no_other_load_from_being_loaded(site, monkeypatch):
    site.config(DATED)
    site.extract("T_20261126.csv", "26,a")
    site.extract("U_20261126.csv", "26,a")
    taken = []

    async def seal(*_):
        taken.append(1)
        raise EngineClosedError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(JobRunner, "seal", seal)
        await site.load("sap.T")
    assert taken
    site.extract("T_20261127.csv", "27,a")

    async def unreachable(*_):
        raise ConnectionFailedError("no network")

    with monkeypatch.context() as patch:
        patch.setattr(PushSession, "supersede", unreachable)
        result = await site.load()
    assert states(result) == [("2026-11-27", "failed"), ("2026-11-26", "done")]
    assert "has to be ended first" in result.items[0].row.reason
    await site.load()
    assert await site.ids("T") == ["27"]


async def test_open_pushes_are_ended_where_no_load_uses_the_default_target(site, monkeypatch):
    target = '[targets.prod]\nurl = "URL"\npool_id = "pool-1"\napi_key = "test-key-1"\n[defaults]\ntarget = "prod"\n'
    site.config(target.replace("URL", site.emulator.url) + DATED, head='[state]\ndir = "state"\n')
    site.extract("T_20261126.csv", "26,a")

    async def seal(*_):
        raise EngineClosedError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(JobRunner, "seal", seal)
        await site.load()
    site.extract("T_20261127.csv", "27,a")
    assert states(await site.load()) == [("2026-11-27", "done")]


async def test_a_continued_run_does_not_pass_a_file_of_an_upsert_that_failed_meanwhile(site, monkeypatch):
    site.config(DATED.replace('mode = "replace"', 'mode = "upsert"\nkeys = ["ID"]'))
    bad = site.extract("T_20261126.csv", '1,"open')
    site.extract("T_20261127.csv", "2,b")
    await site.killed(monkeypatch)
    run_id = site.memory(lambda loads: loads.runs()[0].run_id)
    with contextlib.closing(JournalFile(site.folder / "state" / "journal.sqlite3")) as file, file.transaction():
        first, _ = file.loads.run_loads(run_id)
        file.loads.set_load(run_id, dataclasses.replace(first, state="failed"))
        file.loads.put_block(
            BlockRow(load="sap", table="T", path=str(bad), kind="failed", push_id="p", reason="broken", at=1.0)
        )
    result = await site.go_on()
    assert states(result) == [("2026-11-26", "failed"), ("2026-11-27", "blocked")]
    assert "pushengine state skip sap.T" in result.items[1].row.reason


async def test_a_drain_ends_the_planning(site, monkeypatch):
    site.config(DATED)
    site.extract("T_20261126.csv", "26,a")
    async with site.opened() as run:

        async def discover(_planner):
            run._host.drain()
            await asyncio.Event().wait()

        monkeypatch.setattr(Planner, "_discover", discover)
        with pytest.raises(EngineClosedError):
            await asyncio.wait_for(run.run(), 10)
    assert site.memory(lambda loads: loads.runs()) == []


async def test_a_continued_run_leaves_out_a_file_that_a_person_has_skipped(site, monkeypatch):
    site.config(EVENTS)
    site.extract("events_1.csv", "1,a")
    bad = site.extract("events_2.csv", "2,b")
    await site.killed(monkeypatch)
    with contextlib.closing(JournalFile(site.folder / "state" / "journal.sqlite3")) as file, file.transaction():
        (row,) = file.loads.files("events", "EVENTS", [str(bad)])
        file.loads.put_file(dataclasses.replace(row, state="skipped", loaded_at=1.0))  # as `state skip` does
    await site.go_on()
    assert await site.ids("EVENTS") == ["1"]
