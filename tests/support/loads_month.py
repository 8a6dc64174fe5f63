"""A month of nights of `pushengine load` from one seed, in virtual time: the shipped orchestrator, engine, journal and quota ledger.

Only the platform (`support.table_stage`), the clock and the threads are replaced. Files and the state folder are real. Each content of a
file has a name of its own in every row (column SRC), so that what the platform has loaded says by itself which content arrived how often.
What each source delivers, and what must become of it, is in `support.loads_feeds`.
"""

import asyncio
import contextlib
import math
import random
import tempfile
from pathlib import Path
from unittest import mock

from support.inline import inline
from support.loads_feeds import DAY_SECONDS, EPOCH, INITIAL_IDS, NightTable, feeds_of, is_equal
from support.quotas import most_in_any_hour, most_in_any_second
from support.simulation import SCRATCH, SimulatedCrash, SimWorkers
from support.table_stage import Kill, KilledDestination, KilledJournal, StoredTable, TablePlatform, UnluckyJobError

from pushengine.cli.exit_codes import EXIT_TEMPORARY, describe_error, exit_code_for
from pushengine.config.load import Flags
from pushengine.config.loads.reading import load_loads
from pushengine.emulator.jobs.quota import SubmitQuota
from pushengine.errors import (
    ConnectionFailedError,
    OutcomeUnknownError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
)
from pushengine.host import EngineHost
from pushengine.journal.store import JournalFile
from pushengine.loads.outcome import Failure
from pushengine.loads.run import LoadRun
from pushengine.loads.selection import Selection
from pushengine.model import JobStatus, TableColumn
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.testing import VirtualClock, run_in_virtual_time

PER_SECOND, PER_HOUR = 10, 250
OUTAGE_SECONDS = 1200.0
HOUR = 3600.0
RUN_AT, SECOND_RUN_AT = 2 * HOUR, 4.5 * HOUR
HEALTHY_NIGHTS = 2
"""The last nights have no faults, so that everything must be in order after them."""
MAX_RUNS = 6
CONFIG = """
[state]
dir = "state"

[connection]
url = "https://acme.eu-1.celonis.cloud"
pool_id = "00000000-0000-4000-8000-000000000001"

[auth]
api_key = "test-key-1"

[defaults]
timezone = "UTC"
patience = "1h"

[[load]]
name = "full"
source = "in/full/{table}_{date:%Y%m%d}_{part}.*"
mode = "replace"
max_age = "25h"
deadline = "05:00"

[[load]]
name = "changes"
source = "in/changes/{table}_{date:%Y%m%d}_{seq}.csv"
mode = "upsert"
keys = ["ID"]
verified_new_columns = true
max_age = "25h"

[[load]]
name = "events"
source = "in/events/{table}-*"
mode = "append"
verified_new_columns = true
max_age = "23h"

[[load]]
name = "gone"
source = "in/gone/{table}_{date:%Y%m%d}.csv"
mode = "delete"
keys = ["ID"]
max_age = "25h"
priority = 5
"""


class NightPlatform(TablePlatform):
    """The platform with its quota, another client that spends it, failing calls, failing jobs and an outage.

    Attributes:
        fault: Probability of a fault of one call.
        error: Probability that a job ends with ERROR.
        is_down: Whether the outage is on.
        loads: Case-folded table -> the contents of each job that was DONE, in order, as SRC -> number of rows.
        failed: Case-folded tables whose job ended with ERROR since the caller emptied it -> when.
        own: When our submits arrived, seconds UTC by the platform's clock.
        refused: Number of our submits that got a 429.
        orphans: Number of jobs whose creation got no response, so that nobody knows them.
        src_of_deleted: Case-folded table and id -> the content that deletes it: a delete sends the keys only.
    """

    def __init__(self, clock, rng):
        super().__init__(clock)
        self.rng = rng
        self.team = "acme.eu-1.celonis.cloud"
        self.skew = rng.uniform(-20.0, 20.0)
        self.quota = SubmitQuota(per_second=PER_SECOND, per_hour=PER_HOUR, refused_count=False, now=self.now)
        self.fault = self.error = 0.0
        self.is_down = False
        self.loads, self.failed, self.own = {}, {}, []
        self.refused = self.faults = self.orphans = 0
        self.observe = None
        self.src_of_deleted = {}

    def now(self):
        return self.clock.now() + self.skew

    async def call(self, operation, job_id, effect):
        rng, sent_at = self.rng, self.clock.monotonic()
        await asyncio.sleep(rng.uniform(0.01, 0.08))
        if self.is_down:
            raise ConnectionFailedError("refused")
        kind = rng.choice(["refused", "500", "lost", "late 500"]) if rng.random() < self.fault else ""
        self.faults += bool(kind)
        self.orphans += operation == "create" and kind in ("lost", "late 500")
        is_idempotent = operation in ("get", "list", "list_chunks", "delete", "columns")
        unknown = None if is_idempotent else "outcome_unknown"
        if kind == "refused":
            raise ConnectionFailedError("refused")
        if kind == "500":
            raise ServerError("bad gateway", status=502, disposition=unknown)
        try:
            result = await super().call(operation, job_id, effect)
        finally:
            self.observe(math.floor(self.now()), (sent_at + self.clock.monotonic()) / 2)
        if kind == "late 500":
            raise ServerError("bad gateway", status=502, disposition=unknown)
        if kind == "lost":
            if is_idempotent:
                raise RequestTimeoutError("no response", phase="read")
            raise OutcomeUnknownError("no response")
        return result

    def submit(self, job_id, duplicate_removal_column):
        self._new_job(job_id)
        self.own.append(self.now())
        if not self.quota.admit().granted:
            self.refused += 1
            raise RateLimitedError("too many submits", status=429)
        super().submit(job_id, duplicate_removal_column)

    async def spend(self):
        """Submit as another client of the team: a few jobs an hour, and many at once in some nights."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 240.0))
            for _ in range(self.rng.choice([1, 1, 1, 2, 30])):
                self.quota.admit()
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))

    def _load(self, job):
        name = job.target.table.casefold()
        if self.rng.random() < self.error:
            self.failed[name] = self.clock.now()
            raise UnluckyJobError("out of memory")
        columns = {column.name.casefold(): column for column in job.columns}
        counts = {}
        for payload in job.payloads:
            for row in self._rows(payload, columns, job):
                src = row.get("src") or self.src_of_deleted[name, str(row["id"])]
                counts[src] = counts.get(src, 0) + 1
        super()._load(job)
        self.loads.setdefault(name, []).append(counts)
        job.payloads.clear()


class _Death(Kill):
    """Kills a process at a step or at a time; from then on nothing that it does has any effect."""

    def __init__(self, at=None, after_seconds=None):
        super().__init__(at)
        self.died = asyncio.Event()
        self._timer = None
        if after_seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(after_seconds, self.die)

    def die(self):
        self.is_dead = True
        self.died.set()

    def step(self):
        try:
            super().step()
        except SimulatedCrash:
            self.died.set()
            raise

    def end(self):
        if self._timer is not None:
            self._timer.cancel()


class _Journal(KilledJournal):
    """The journal of one process."""

    def __init__(self, path, world):
        super().__init__(None, world.kill)
        self._path, self._world = path, world

    async def open(self):
        self._file = JournalFile(self._path)
        self._world.opened.append(self)

    async def aclose(self):
        if self._file is not None:
            self._file.close()
            self._file = None


class _Connection(KilledDestination):
    """The platform as one engine sees it."""

    async def aclose(self):
        pass


class _Silence:
    """Listens to a run and says nothing."""

    def __getattr__(self, name):
        return lambda *_told: None


def judge(error):
    return Failure(exit_code_for(error), describe_error(error)["message"])


def _item(row):
    return row.load, row.table, row.generation, row.files


class LoadsMonth:
    """A month from one seed.

    Args:
        seed: Determines everything.
        nights: Number of nights.
        tables: Number of tables.
        kill: Probability that a run is killed.

    Attributes:
        problems: One sentence for everything that must not be so.
        kills, runs: How often a process was killed, and how many there were.
        states: State of a load at the end of a run -> how often.
    """

    def __init__(self, seed, *, nights=30, tables=300, kill=0.4):
        self.rng = random.Random(seed)
        self.nights, self.kill_chance = nights, kill
        self.tables = tables
        self.problems = []
        self.kills = self.runs = 0
        self.states = {}
        self.opened = []
        self.kill = None
        self._is_after_kill = False
        self._usual_steps, self._usual_seconds = 100 * tables, 20.0

    def run(self):
        """Run the whole month in virtual time, and return it."""
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            run_in_virtual_time(self._run(Path(folder)))
        return self

    async def _run(self, folder):
        clock = VirtualClock(EPOCH)
        self.platform = platform = NightPlatform(clock, self.rng)
        (folder / "pushengine.toml").write_text(CONFIG)
        self.folder = folder
        self.feeds = feeds_of(folder / "in", self.tables, self.rng)
        self.by_table = {feed.name.casefold(): feed for feed in self.feeds}
        for feed in self.feeds:
            feed.src_of_deleted = platform.src_of_deleted
            if feed.rule == "gone":
                columns = [TableColumn("ID", "INTEGER"), TableColumn("SRC", "STRING", 255), TableColumn("V", "INTEGER")]
                rows = [{"id": number, "src": "by hand", "v": number} for number in range(INITIAL_IDS)]
                platform.tables[feed.name.casefold()] = StoredTable(feed.name, columns, rows)

        def connect(*_args, on_server_date, **_options):
            platform.observe = on_server_date
            return _Connection(platform, self.kill)

        with (
            mock.patch("pushengine.engine.DataPushClient", connect),
            mock.patch("pushengine.push.resources.Journal", lambda path: _Journal(path, self)),
        ):
            client = asyncio.create_task(platform.spend())
            try:
                for night in range(self.nights):
                    await self._night(night)
            finally:
                client.cancel()
        self._check_month()

    def _say(self, night, problem):
        self.problems.append(f"night {night}: {problem}")

    # --- One night

    async def _night(self, night):
        is_healthy = night >= self.nights - HEALTHY_NIGHTS
        self.platform.fault, self.platform.error = (0.0, 0.0) if is_healthy else (0.01, 0.02)
        for feed in self.feeds:
            feed.deliver(night, is_healthy=is_healthy)
        await self._sleep_until(night, RUN_AT + self.rng.uniform(0, 60))
        outage = None
        if night == self.nights // 2 and not is_healthy:
            outage = asyncio.create_task(self._outage())
        await self._load(night, is_healthy=is_healthy, has_patience=outage is not None)
        if outage is not None:
            await outage
        for feed in self.feeds:
            feed.deliver_late()
        await self._sleep_until(night, SECOND_RUN_AT)
        await self._load(night, is_healthy=is_healthy, continues=night % 2 == 0)
        await self._sleep_until(night + 1, 0.0)

    async def _sleep_until(self, night, second):
        await asyncio.sleep(max(60.0, EPOCH + night * DAY_SECONDS + second - self.platform.clock.now()))

    async def _outage(self):
        await asyncio.sleep(self.rng.uniform(0.2, 5.0))
        self.platform.is_down = True
        await asyncio.sleep(OUTAGE_SECONDS)
        self.platform.is_down = False

    async def _load(self, night, *, is_healthy, continues=False, has_patience=False):
        """Run `load`, which may be killed, and then perhaps `load --continue`, until one run ends by itself or is given up."""
        for attempt in range(MAX_RUNS):
            kill_at = after = None
            if not is_healthy and not has_patience and self.rng.random() < self.kill_chance:
                if self.rng.random() < 0.5:
                    kill_at = self.rng.randrange(1, self._usual_steps)
                else:
                    after = self.rng.uniform(0.0, self._usual_seconds)
            before = {
                feed.name: feed.expectation(self._loads_of(feed), self.platform.clock.now()) for feed in self.feeds
            }
            started_at = self.platform.clock.now()
            result = await self._process(kill_at, after, continues=continues)
            self._check_tables(night)
            if result == "killed":
                self.kills += 1
                self._is_after_kill = True
                if attempt and self.rng.random() < 0.4:
                    return  # the next night's run goes on
                continues = self.rng.random() < 0.7
                continue
            if result is None:  # nothing to continue
                continues = False
                continue
            if result.run.started_at < EPOCH + night * DAY_SECONDS:  # it has finished the run of another night
                self._check_journal(night, result)
                continues = False
                continue
            self._check_run(night, result, before, started_at, has_patience=has_patience, was_continued=continues)
            self._is_after_kill = False
            return

    async def _process(self, kill_at, after, *, continues):
        """Run one process; return its result, or `killed`."""
        self.runs += 1
        started_at = self.platform.clock.monotonic()
        self.kill = kill = _Death(kill_at, after)
        task = asyncio.create_task(self._command(continues=continues))
        death = asyncio.create_task(kill.died.wait())
        await asyncio.wait({task, death}, return_when=asyncio.FIRST_COMPLETED)
        if kill.is_dead:
            task.cancel()
        await asyncio.wait({task})
        if not kill.is_dead and kill.steps > 10 * self.tables:  # a run that loaded most tables
            self._usual_steps, self._usual_seconds = kill.steps, self.platform.clock.monotonic() - started_at
        death.cancel()
        kill.end()
        for journal in self.opened:
            await journal.aclose()
        self.opened.clear()
        if kill.is_dead:
            with contextlib.suppress(BaseException):
                task.result()
            return "killed"
        return task.result()

    async def _command(self, *, continues):
        config, loads = load_loads(Flags(config=self.folder / "pushengine.toml"), {})
        runtime = Runtime(
            clock=self.platform.clock,
            rng=random.Random(self.rng.getrandbits(64)),
            filesystem=LocalFileSystem(),
            off_loop=inline,
            new_workers=SimWorkers,
        )
        state = self.folder / "state"
        async with EngineHost(state_dir=state, settings=config.engine, runtime=runtime) as host:
            run = LoadRun(host, loads, Selection.of(loads), listener=_Silence(), judge=judge)
            return await (run.continue_run() if continues else run.run())

    # --- Checks

    def _loads_of(self, feed):
        self.platform.advance()
        return self.platform.loads.get(feed.name.casefold(), [])

    def _check_tables(self, night):
        """Check what the platform holds: each content once and whole, in order, and the table that follows from it."""
        for feed in self.feeds:
            loads = self._loads_of(feed)
            for problem in feed.problems_of(loads):
                self._say(night, f"{feed.rule}.{feed.name}: {problem}")
            stored = self.platform.tables.get(feed.name.casefold())
            rows = [] if stored is None else stored.rows
            if not is_equal(rows, feed.rows_after(loads)):
                self._say(night, f"{feed.rule}.{feed.name}: the table does not hold what its loads say")
        for problem in self.platform.problems:
            self._say(night, problem)
        self.platform.problems.clear()

    def _check_run(self, night, result, before, started_at, *, has_patience, was_continued):
        """Check what a run that ended by itself says about each load, and what the journal has."""
        told = {}
        for row in result.loads:
            self.states[row.state] = self.states.get(row.state, 0) + 1
            told.setdefault(row.table.casefold(), []).append(row)
            if row.state in ("planned", "running", "unknown"):
                self._say(night, f"{row.load}.{row.table} is {row.state} after the run: {row.reason}")
            if has_patience and row.exit_code == EXIT_TEMPORARY:
                self._say(night, f"{row.load}.{row.table} did not wait for the end of the outage: {row.reason}")
            if row.load == "full" and row.ended_at > started_at:
                due = EPOCH + night * DAY_SECONDS + 5 * HOUR
                if row.is_late != (row.ended_at > due):
                    self._say(
                        night,
                        f"{row.load}.{row.table} ended at {row.ended_at - due:+.0f} s and is_late is {row.is_late}",
                    )
        for feed in self.feeds:
            rows = told.get(feed.name.casefold(), [])
            failed_at = self.platform.failed.get(feed.name.casefold())
            if failed_at is not None or any(row.exit_code == EXIT_TEMPORARY for row in rows):
                is_told = any(row.state in ("done", "failed", "skipped", "blocked") for row in rows)
                if failed_at is not None and failed_at >= started_at and not is_told:
                    self._say(night, f"{feed.rule}.{feed.name}: its failure was not told")
                continue
            if was_continued and any(row.state == "failed" and row.ended_at < started_at for row in rows):
                continue  # only what is temporary is tried again
            for problem in before[feed.name].problems(
                rows, self._loads_of(feed), was_continued=was_continued, is_after_kill=self._is_after_kill
            ):
                self._say(night, f"{feed.rule}.{feed.name}: {problem}")
        self.platform.failed.clear()
        self._check_journal(night, result)

    def _check_journal(self, night, result):
        with contextlib.closing(JournalFile(self.folder / "state" / "journal.sqlite3")) as file:
            memory = file.loads
            run = memory.run(result.run.run_id)
            if run is None or run.ended_at is None or run.exit_code != result.exit_code:
                self._say(night, f"the journal has {run}, not the end of the run with exit code {result.exit_code}")
            stored = {_item(row): row.state for row in memory.run_loads(result.run.run_id)}
            if stored != (found := {_item(row): row.state for row in result.loads}):
                differing = dict(stored.items() ^ found.items())
                self._say(night, f"the journal has other states than the result of the run: {differing}")
            loaded, blocked = {}, {}
            for row in memory.files():
                if row.state == "loaded":
                    loaded.setdefault(row.table.casefold(), set()).add(row.path)
            for block in memory.blocks():
                blocked.setdefault(block.table.casefold(), set()).add(block.path)
            last = {row.table.casefold(): row for row in memory.tables()}
            for feed in self.feeds:
                key = feed.name.casefold()
                table = NightTable(loaded.get(key, set()), blocked.get(key, set()), last.get(key))
                for problem in feed.problems_of_memory(table, self._loads_of(feed)):
                    self._say(night, f"{feed.rule}.{feed.name}: {problem}")

    def _check_month(self):
        for feed in self.feeds:
            loads = self._loads_of(feed)
            for problem in feed.left_over(loads):
                self._say(self.nights, f"{feed.rule}.{feed.name}: {problem}")
        left = [job for job in self.platform.jobs.values() if job.status is JobStatus.NEW]
        if len(left) > self.platform.orphans + self.kills:
            self._say(self.nights, f"{len(left)} jobs were left behind, such as one of {left[0].target.table}")
        times = self.platform.own
        if (most := most_in_any_second(times)) > PER_SECOND:
            self._say(self.nights, f"{most} submits in one second")
        if (most := most_in_any_hour(times)) > PER_HOUR:
            self._say(self.nights, f"{most} submits in one hour")
