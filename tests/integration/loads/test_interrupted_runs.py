"""Runs of loads that are interrupted, meet other processes, or lose an outcome: the engine's host against the emulator."""

import asyncio
import random
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.run_listener import Listener

from pushengine import EngineSettings, events
from pushengine.cli.exit_codes import describe_error, exit_code_for
from pushengine.config.load import Flags
from pushengine.config.loads.reading import load_loads
from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.emulator.faults import Fault, FaultPlan, Status
from pushengine.errors import JournalLockedError, OutcomeUnknownError
from pushengine.host import EngineHost
from pushengine.loads.outcome import Failure
from pushengine.loads.run import LoadRun
from pushengine.loads.selection import Selection
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers
from pushengine.testing import RecordingSink

HEAD = """
[state]
dir = "state"

[connection]
url = "{url}"
pool_id = "pool-1"

[auth]
api_key = "test-key-1"
"""
SAP = """
[[load]]
name = "sap"
source = "in/{table}_{date:%Y%m%d}.csv"
mode = "MODE"
"""


class QuickClock(SystemClock):
    """A clock that is far from a full hour, and whose sleeps are short."""

    _shift = 600.0 - SystemClock().now() % 3600.0

    def __init__(self):
        self.slept = []

    def now(self):
        return super().now() + self._shift

    async def sleep(self, seconds):
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.005))


class DrainOn:
    """Drains a host at the n-th event of a kind."""

    def __init__(self, kind, nth=1):
        self.kind, self.left, self.host = kind, nth, None

    def emit(self, event):
        if isinstance(event, self.kind):
            self.left -= 1
            if not self.left:
                self.host.drain()


def judge(error):
    found = describe_error(error)
    return Failure(exit_code_for(error), f"{found['message']} {found['hint']}")


class Nights:
    """A folder with extracts and a config file, one team, and runs of its loads, each in a host of its own."""

    def __init__(self, emulator, folder):
        self.emulator, self.folder = emulator, folder
        self.sink = RecordingSink()
        self.clock = QuickClock()

    def config(self, text):
        head = HEAD.replace("{url}", self.emulator.url)
        (self.folder / "pushengine.toml").write_text(head + textwrap.dedent(text))

    def extract(self, name, *ids):
        path = self.folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("ID,NAME\n" + "".join(f"{one},name {one}\n" for one in ids))
        return path

    async def run(self, *names, continues=False, drain=None, change=None, **settings):
        """Run the loads; `drain` is a `DrainOn`, `change` is called with the open host."""
        _, loads = load_loads(Flags(config=self.folder / "pushengine.toml"), {})
        listener = Listener()
        self.listener = listener
        with ThreadPoolExecutor(2) as encoders:
            runtime = Runtime(
                clock=self.clock,
                rng=random.Random(),
                filesystem=LocalFileSystem(),
                off_loop=asyncio.to_thread,
                new_workers=lambda: ThreadWorkers(encoders),
            )
            sinks = [self.sink, *([drain] if drain else [])]
            quick = EngineSettings(**({"settle_seconds": 0.001, "submits_per_second": 1000} | settings))
            async with EngineHost(
                state_dir=self.folder / "state", settings=quick, sinks=sinks, runtime=runtime
            ) as host:
                if drain is not None:
                    drain.host = host
                if change is not None:
                    await change(host, listener)
                run = LoadRun(host, loads, Selection.of(loads, names), listener=listener, judge=judge)
                return await (run.continue_run() if continues else run.run())

    async def ids(self, table):
        return [row[0] for row in await self.emulator.query(f'SELECT ID FROM "{table}" ORDER BY ALL')]

    def done_jobs(self, table):
        return sum(
            job.spec.target_name == table and str(job.status) == "DONE" for job in self.emulator.service.jobs.values()
        )


def states(result):
    return {f"{row.load}.{row.table}": row.state for row in result.loads}


@pytest.fixture
async def nights(tmp_path):
    settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0, submits_per_second=10_000, submits_per_hour=10_000)
    async with Emulator(settings=settings) as emulator:
        yield Nights(emulator, tmp_path)


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_continue_finishes_the_newest_unfinished_run_with_the_files_as_recorded(nights, mode):
    nights.config(SAP.replace("MODE", mode))
    for number in range(12):
        nights.extract(f"T{number}_20261126.csv", 1, 2)
    broken = await nights.run(drain=DrainOn(events.PushFinished, 4))
    assert broken.exit_code == 130
    left = [row.table for row in broken.loads if row.state in ("planned", "running")]
    assert left
    nights.extract(f"{left[0]}_20261127.csv", 7)  # not part of that run
    done = await nights.run(continues=True)
    assert (done.exit_code, done.run.run_id) == (0, broken.run.run_id)
    assert set(states(done).values()) == {"done"}
    assert len(done.loads) == 12
    for number in range(12):
        assert await nights.ids(f"T{number}") == [1, 2]
        assert nights.done_jobs(f"T{number}") == 1
    assert await nights.run(continues=True) is None
    later = await nights.run()
    assert {name: state for name, state in states(later).items() if state == "done"} == {f"sap.{left[0]}": "done"}


async def test_missing_ones_are_searched_again(nights):
    nights.config(SAP.replace("MODE", "replace"))
    old = nights.extract("VBAK_20261125.csv", 1)
    nights.extract("VBAP_20261125.csv", 1)
    await nights.run()
    old.unlink()
    nights.extract("VBAP_20261126.csv", 2)
    found = await nights.run()
    assert (found.exit_code, states(found)) == (3, {"sap.VBAK": "missing", "sap.VBAP": "done"})
    nights.extract("VBAK_20261126.csv", 3)
    again = await nights.run(continues=True)
    assert (again.exit_code, again.run.run_id) == (0, found.run.run_id)
    assert await nights.ids("VBAK") == [3]
    assert nights.done_jobs("VBAP") == 2


@pytest.mark.parametrize("changes", [False, True])
async def test_an_open_push_resumes_if_its_settings_are_equal_else_it_is_superseded(nights, changes):
    nights.config(SAP.replace("MODE", "append"))
    nights.extract("T_20261126.csv", *range(20_000))
    small = {"chunk_bytes": 64 * 1024, "sample_bytes": 64 * 1024, "max_uploads": 1}
    broken = await nights.run(drain=DrainOn(events.ChunkUploaded), **small)
    assert states(broken) == {"sap.T": "running"}
    if changes:
        nights.config(SAP.replace("MODE", "append") + 'columns = { NAME = "STRING(99)" }\n')
    done = await nights.run(continues=True, **small)
    assert states(done) == {"sap.T": "done"}
    (item,) = done.items
    assert item.receipt.resumed is not changes
    superseded = [event for event in nights.sink.events if isinstance(event, events.PushSuperseded)]
    assert bool(superseded) is changes
    assert len(await nights.ids("T")) == 20_000
    assert nights.done_jobs("T") == 1


@pytest.mark.parametrize("continues", [False, True])
async def test_a_run_first_settles_submitted_pushes_of_its_loads(nights, continues):
    nights.config(SAP.replace("MODE", "append"))
    nights.extract("T_20261126.csv", 1, 2)
    broken = await nights.run(drain=DrainOn(events.JobSubmitted))
    assert states(broken)["sap.T"] in ("running", "done")
    nights.extract("T_20261127.csv", 3)
    await nights.run(continues=continues)
    if continues:
        await nights.run()
    assert await nights.ids("T") == [1, 2, 3]
    assert nights.done_jobs("T") == 2


async def test_the_next_run_continues_unsubmitted_pushes_of_the_same_files_and_replaces_others(nights):
    nights.config(SAP.replace("MODE", "append"))
    nights.extract("SAME_20261126.csv", *range(9000))
    nights.extract("MORE_20261126.csv", *range(9000))
    small = {"chunk_bytes": 64 * 1024, "sample_bytes": 64 * 1024, "max_uploads": 1}
    await nights.run(drain=DrainOn(events.ChunkUploaded, 2), **small)
    nights.extract("MORE_20261127.csv", 9001)
    done = await nights.run(**small)
    assert states(done) == {"sap.SAME": "done", "sap.MORE": "done"}
    assert len(await nights.ids("SAME")) == 9000
    assert len(await nights.ids("MORE")) == 9001
    assert (nights.done_jobs("SAME"), nights.done_jobs("MORE")) == (1, 1)


async def test_the_loser_of_a_table_is_skipped_with_the_pid_and_exits_with_75(nights):
    nights.config(SAP.replace("MODE", "replace"))
    nights.extract("T_20261126.csv", 1)
    nights.extract("OTHER_20261126.csv", 1)
    (nights.folder / "state").mkdir(mode=0o700)
    script = (
        "import sys, pathlib; from pushengine.state.lock import TableLock;"
        f"lock = TableLock(pathlib.Path({str(nights.folder / 'state' / 'locks')!r}), sys.argv[1], 'T');"
        "print('locked', flush=True); sys.stdin.read()"
    )
    host = nights.emulator.url.removeprefix("http://")
    holder = subprocess.Popen(
        [sys.executable, "-c", script, f"{host}/pool-1//T"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "locked\n"
        found = await nights.run()
        holder.stdin.close()
    assert states(found) == {"sap.T": "skipped", "sap.OTHER": "done"}
    assert found.exit_code == 75
    (skipped,) = [row for row in found.loads if row.table == "T"]
    assert f"pid {holder.pid}" in skipped.reason
    assert (await nights.run(continues=True)).exit_code == 0
    assert await nights.ids("T") == [1]


async def test_a_run_that_another_process_works_on_is_not_continued(nights):
    nights.config(SAP.replace("MODE", "replace"))
    for number in range(12):
        nights.extract(f"T{number}_20261126.csv", 1)
    broken = await nights.run(drain=DrainOn(events.PushFinished, 3))
    assert broken.exit_code == 130

    held = []

    async def hold(host, _listener):
        held.append(host.working_on(broken.run.run_id))
        await held[0].__aenter__()

    with pytest.raises(JournalLockedError, match=f"run {broken.run.run_id} is under way"):
        await nights.run(continues=True, change=hold)
    await held[0].__aexit__(None, None, None)
    assert (await nights.run(continues=True)).exit_code == 0


async def test_files_that_another_run_loaded_meanwhile_are_not_loaded_again(nights):
    nights.config(SAP.replace("MODE", "append"))
    nights.extract("A_20261126.csv", 1)
    nights.extract("B_20261126.csv", 1)

    async def interfere(host, _listener):
        """Load everything in another run, after this one was planned."""
        original = LoadRun._carry_out

        async def carry_out(self, means, run, items):
            LoadRun._carry_out = original
            other = LoadRun(host, self._loads, self._selection, listener=Listener(), judge=judge)
            await other.run()
            return await original(self, means, run, items)

        LoadRun._carry_out = carry_out

    found = await nights.run(change=interfere)
    assert set(states(found).values()) == {"skipped"}
    assert "meanwhile" in found.loads[0].reason
    assert (await nights.ids("A"), await nights.ids("B")) == ([1], [1])


async def test_an_unknown_outcome_blocks_until_it_is_resolved(nights):
    nights.config(SAP.replace("MODE", "append"))
    nights.extract("T_20261126.csv", 1)

    async def lose(host, _listener):
        engine = await host.engine(nights.emulator.url, pool_id="pool-1", auth=_key(), connection_id=None)

        async def lost(job_id, **_options):
            del nights.emulator.service.jobs[job_id]
            raise OutcomeUnknownError("no response")

        engine._client.submit_job = lost

    found = await nights.run(change=lose)
    assert (found.exit_code, states(found)) == (6, {"sap.T": "unknown"})
    nights.extract("T_20261127.csv", 2)
    again = await nights.run()
    assert again.exit_code == 3
    assert set(states(again).values()) == {"blocked"}
    assert "resolve" in again.loads[0].reason
    assert nights.done_jobs("T") == 0


def _key():
    from pushengine import UserApiKey

    return UserApiKey("test-key-1")


@pytest.mark.parametrize(("retries", "state"), [(0, "failed"), (2, "done")])
async def test_retries_are_for_temporary_failures(nights, retries, state):
    nights.config(SAP.replace("MODE", "replace") + f"retries = {retries}\n")
    nights.extract("T_20261126.csv", 1)
    nights.emulator.faults = FaultPlan([Fault("create", Status(503), times=2)])
    found = await nights.run(max_attempts=1)
    assert states(found) == {"sap.T": state}
    assert found.exit_code == (0 if retries else 75)
    assert len([note for note in nights.listener.notes if "trying again" in note]) == retries


async def test_other_failures_are_not_retried(nights):
    nights.config(SAP.replace("MODE", "replace") + "retries = 3\n")
    nights.extract("T_20261126.csv", 1).write_text('ID,NAME\n1,"open\n')
    found = await nights.run()
    assert (found.exit_code, states(found)) == (3, {"sap.T": "failed"})
    assert nights.listener.notes == []


async def test_late_is_told_beside_the_state(nights):
    nights.config(SAP.replace("MODE", "replace") + 'deadline = "05:00"\ntimezone = "UTC"\n')
    nights.extract("T_20261126.csv", 1)
    found = await nights.run()
    assert [(row.state, row.is_late) for row in found.loads] == [("done", False)]
    nights.clock._shift += 3 * 86_400  # nothing was loaded for three days: today's deadline, or yesterday's, has passed
    nights.extract("T_20261129.csv", 2)
    late = await nights.run()
    now = nights.clock.now() % 86_400
    assert [(row.state, row.is_late) for row in late.loads] == [("done", now > 5 * 3600)]
