"""Stages for the model of tables: a platform in memory that keeps tables, and engines that push to it in virtual time and may be killed.

The platform does what is documented, and the worst where nothing is: it cuts strings that are longer than their column, fails jobs whose
types differ from the table's, and refuses a submit while another job of the table runs.
"""

import asyncio
import contextlib
import dataclasses
import functools
import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from support.inline import inline, limiter_on
from support.simulation import NoLock, SimulatedCrash, SimWorkers

from pushengine import PushEngine, UserApiKey
from pushengine.config.options import LoadOptions
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConflictError, JournalLockedError, PermissionDeniedError, PushEngineError
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import JournalFile
from pushengine.journal.tables import all_tables
from pushengine.model import FileParts, FileRef, JobStatus, Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push.opening import PushRequest
from pushengine.push.run import PushRun
from pushengine.quota.ledger import open_ledger
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers
from pushengine.testing import MemoryDestination, RecordingSink, VirtualClock

RUN_SECONDS = 3.0
_PHYSICAL = {
    "INTEGER": pa.types.is_integer,
    "FLOAT": pa.types.is_floating,
    "BOOLEAN": pa.types.is_boolean,
    "STRING": pa.types.is_string,
    "DATETIME": pa.types.is_timestamp,
}


class StoredTable(NamedTuple):
    name: str
    columns: list
    rows: list

    def structure(self):
        return {one.name.casefold(): (one.name, one.type, one.length) for one in self.columns}


class UnluckyJobError(Exception):
    """A job ends with ERROR, although nothing is wrong with it."""


class TablePlatform(MemoryDestination):
    """A platform that keeps its tables in memory.

    Args:
        clock: Its clock; jobs take `RUN_SECONDS`.
        listing: How it lists the columns of tables: `exact`, `coarse` (four types, as the vendor's client knows them) or `denied`.

    Attributes:
        tables: By case-folded name.
        submits: (id, case-folded table) of the submitted jobs, in order.
        structures: Columns of the table after each job, by its id, as `MemoryStage.structure` returns them.
        problems: What a platform must never be asked to do, such as to load a job whose types are not those of the table.
    """

    def __init__(self, clock, *, listing="exact"):
        super().__init__()
        self.clock, self.listing = clock, listing
        self.files = None
        self.tables = {}
        self.submits = []
        self.problems = []
        self.structures = {}
        self._due = []

    def submit(self, job_id, duplicate_removal_column):
        self.advance()
        job = self._new_job(job_id)
        if any(other.target.table.casefold() == job.target.table.casefold() for _, other in self._due):
            raise ConflictError("another job of this table is running", status=409)
        self.submits.append((job_id, job.target.table.casefold()))
        job.status = JobStatus.QUEUED
        self._due.append((self.clock.monotonic() + RUN_SECONDS, job))

    def advance(self):
        """Execute the jobs that are due."""
        due = [job for at, job in self._due if at <= self.clock.monotonic()]
        self._due = [(at, job) for at, job in self._due if job not in due]
        for job in due:
            try:
                self._load(job)
            except UnluckyJobError as error:
                job.status, job.logs = JobStatus.ERROR, (str(error),)
            except (ValueError, KeyError) as error:
                job.status, job.logs = JobStatus.ERROR, (str(error),)
                self.problems.append(f"job {job.id} for {job.target} with {job.columns} fails: {error}")
            else:
                job.status = JobStatus.DONE
                stored = self.tables.get(job.target.table.casefold())
                self.structures[job.id] = None if stored is None else stored.structure()

    def read(self, job_id):
        self.advance()
        return super().read(job_id)

    def columns(self, table, connection_id):
        self.advance()
        if self.listing == "denied":
            raise PermissionDeniedError("no permission to list columns", status=403)
        stored = self.tables.get(table.casefold())
        if stored is None:
            return []
        if self.listing == "exact":
            return list(stored.columns)
        return [dataclasses.replace(one, type="INTEGER") if one.type == "BOOLEAN" else one for one in stored.columns]

    def _load(self, job):
        target, name = job.target, job.target.table.casefold()
        before = self.tables.get(name)
        if target.mode == "delete" and before is None:
            return
        if target.mode == "replace" or before is None:
            columns = list(job.columns)
            rows = []
        else:
            columns, rows = list(before.columns), before.rows
        known = {column.name.casefold(): column for column in columns}
        sent = {column.name.casefold() for column in job.columns}
        for column in job.columns:
            if column.name.casefold() not in known:
                if target.mode == "delete":
                    raise ValueError(f"the table has no column {column.name}")
                columns.append(column)
                known[column.name.casefold()] = column
                rows = [{**row, column.name.casefold(): None} for row in rows]
            elif known[column.name.casefold()].type != column.type:
                raise ValueError(f"column {column.name} is {known[column.name.casefold()]}, not {column}")
        loaded = [
            {one: row.get(one) for one in known} for payload in job.payloads for row in self._rows(payload, known, job)
        ]
        if target.mode in ("upsert", "delete"):
            keys = [key.casefold() for key in target.keys]
            if not set(keys) <= sent:
                raise ValueError(f"the keys {keys} are not columns of the job")
            given = {tuple(row[key] for key in keys): row for row in loaded}
            rows = [row for row in rows if tuple(row[key] for key in keys) not in given]
            loaded = [] if target.mode == "delete" else list(given.values())
        name_now = target.table if target.mode == "replace" or before is None else before.name
        self.tables[name] = StoredTable(name_now, columns, rows + loaded)

    def _rows(self, payload, known, job):
        data = self.files.read(payload.data) if isinstance(payload.data, FileParts) else payload.data
        table = pq.read_table(pa.BufferReader(data))
        arrays = {}
        for field in table.schema:
            column = known[field.name.casefold()]
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if not _PHYSICAL[column.type](kind):
                raise ValueError(f"column {field.name} is {kind} in the file and {column.type} in the job")
            array = table.column(field.name)
            if pa.types.is_timestamp(kind):
                array = array.cast(pa.timestamp("us"))
            values = array.to_pylist()
            if column.type == "STRING":
                values = [None if value is None else value[: column.length] for value in values]
            if column.type == "FLOAT":
                values = [None if value is None else float(value) for value in values]
            arrays[field.name.casefold()] = values
        return [dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)]


class Kill:
    """Kills a process at one of its steps: before or after a use of the journal, and before and after a request."""

    def __init__(self, at=None):
        self.at = at
        self.steps = 0
        self.is_dead = False

    def step(self):
        self.steps += 1
        self.is_dead = self.is_dead or self.steps == self.at
        if self.is_dead:
            raise SimulatedCrash


class KilledJournal:
    """The real journal file, without its thread."""

    def __init__(self, file, kill):
        self._file, self._kill = file, kill

    async def do(self, call):
        return await self._call(call, self._file.transaction)

    async def read(self, call):
        return await self._call(call, self._file.snapshot)

    async def _call(self, call, block):
        self._kill.step()
        with block():
            result = call(self._file)
        await asyncio.sleep(0.001)
        self._kill.step()
        return result


class KilledDestination:
    """The platform as one process sees it."""

    def __init__(self, platform, kill):
        self._platform, self._kill = platform, kill
        self.team = platform.team

    def __getattr__(self, name):
        method = getattr(self._platform, name)

        async def call(*args, **kwargs):
            self._kill.step()
            await asyncio.sleep(0.01)
            self._kill.step()
            result = await method(*args, **kwargs)
            await asyncio.sleep(0.01)
            self._kill.step()
            return result

        return call


class MemoryFiles:
    """Files in memory."""

    def __init__(self):
        self._files = {}
        self._writes = 0

    def write(self, name, data):
        self._writes += 1
        self._files[name] = data, self._writes

    def list(self, pattern):
        return [self._ref(pattern)] if pattern in self._files else []

    def stat(self, file):
        return self._ref(file.uri)

    def open(self, file):
        return io.BytesIO(self._files[file.uri][0])

    def _ref(self, name):
        data, write = self._files[name]
        return FileRef(name, len(data), (write, 1, write, write))

    def read(self, parts):
        """Return the bytes of an upload from files."""
        found = [
            part if isinstance(part, bytes) else self._files[part.file.uri][0][part.offset :][: part.nbytes]
            for part in parts.parts
        ]
        return b"".join(found)


class HeldLock:
    """The lock of a push, which only one process at a time holds."""

    def __init__(self, held, identity):
        if identity in held:
            raise JournalLockedError("another process works on this push", path=identity)
        held.add(identity)
        self._held, self._identity = held, identity

    def release(self):
        self._held.discard(self._identity)


class Outcome(NamedTuple):
    """How a push ended: with a receipt, with an error, or killed."""

    receipt: object = None
    error: object = None


class MemoryStage:
    """A platform in memory, a journal on disk, and processes that push.

    Args:
        folder: For the journal and the quota ledger.
        listing: See `TablePlatform`.
        platform: A platform in place of a `TablePlatform`.
        seed: Seed of the engines' random numbers.
        settings: Settings of the engines.
    """

    def __init__(self, folder, *, listing="exact", platform=None, seed=0, **settings):
        self.platform = platform or TablePlatform(VirtualClock(), listing=listing)
        self.clock = self.platform.clock
        self.files = self.platform.files = MemoryFiles()
        self._folder = Path(folder)
        self.journal = JournalFile(self._folder / "journal.sqlite3")
        self._ledger = open_ledger(EngineSettings(**settings), self._folder / "quota.sqlite3")
        self._held = set()
        self._rng = random.Random(seed)
        self._settings = settings
        self.sink = RecordingSink()

    def close(self):
        self._ledger.close()
        self.journal.close()

    def process(self, kill_at=None):
        """Return a process: what all pushes of one engine share."""
        kill = Kill(kill_at)
        settings = EngineSettings(encoder_threads=2, max_uploads=2, **self._settings)
        runtime = Runtime(
            clock=self.clock,
            rng=random.Random(self._rng.getrandbits(64)),
            filesystem=self.files,
            off_loop=inline,
            new_workers=SimWorkers,
        )
        return kill, Shared(
            destination=KilledDestination(self.platform, kill),
            pool_id="pool",
            limiter=limiter_on(self._ledger, self.clock, rng=runtime.rng),
            journal=KilledJournal(self.journal, kill),
            take_lock=functools.partial(HeldLock, self._held),
            take_table_lock=NoLock,
            policy=RetryPolicy(),
            budget=ByteBudget(settings.max_memory_bytes),
            engine_settings=settings,
            runtime=runtime,
            drain=DrainSwitch(),
            sink=self.sink,
            table_locks={},
            scratch=self._folder,
            rejects=self._folder,
            said=set(),
            finished=set(),
        )

    def write(self, step, name):
        """Write the source of a step, and return it as the caller of a push names it."""
        if step.extract.kind == "arrow":
            return arrow_table(step.extract)
        name = f"{name}.{step.extract.kind}"
        self.files.write(name, file_bytes(step.extract))
        return name

    async def push(self, step, spec, process=None):
        """Push a source, and return the outcome; a killed push has neither a receipt nor an error."""
        kill, shared = process or self.process()
        # Smaller chunks and samples than a user may set: an extract of some rows has several of them.
        small = {"sample_bytes": 40, "chunk_bytes": 60}
        settings = shared.engine_settings.with_overrides(step.settings).model_copy(update=small)
        request = PushRequest(
            spec=spec,
            target=Target(step.table, step.mode, step.keys),
            options=LoadOptions(
                column_types=step.types,
                rename=step.rename,
                select=step.select,
                exclude=step.exclude,
                allow_empty=step.allow_empty,
            ),
        )
        push_id = f"push-{self._rng.getrandbits(48):012x}"
        run = PushRun(request, dataclasses.replace(shared, engine_settings=settings), push_id)
        try:
            receipt = await run.run()
        except SimulatedCrash:
            return Outcome()
        except PushEngineError as error:
            assert not kill.is_dead, error
            return Outcome(error=error)
        if kill.is_dead:
            return Outcome()
        self.journal.set_state(receipt.push_id, "done", self.clock.now())  # as the engine does when it is closed
        return Outcome(receipt)

    async def structure(self, table):
        """Return the columns of a table: case-folded name -> (name, type, length); None if there is no such table."""
        self.platform.advance()
        stored = self.platform.tables.get(table.casefold())
        return None if stored is None else stored.structure()

    async def structure_after(self, job_id):
        """Return the columns that a table had after a job that loaded it."""
        return self.platform.structures[job_id]

    async def rows(self, table):
        """Return the rows of a table."""
        stored = self.platform.tables.get(table.casefold())
        return [] if stored is None else stored.rows

    def submits(self, table=None):
        """Return the ids of the submitted jobs, of one table or of all, in order."""
        return [job_id for job_id, name in self.platform.submits if table is None or name == table.casefold()]

    def problems(self, *, may_leave_job):
        """Return what the platform must not have been asked to do since the last call, and the jobs that were left on it."""
        found, self.platform.problems = self.platform.problems, []
        left = [job.id for job in self.platform.jobs.values() if job.status is JobStatus.NEW]
        for job_id in left:
            del self.platform.jobs[job_id]
        return found + [f"job {job_id} was left behind" for job_id in left if not may_leave_job]

    def remembered(self, table):
        """Return what the journal remembers of a table, like `structure`; None if it remembers nothing."""
        return remembered_columns(self.journal, table)


def remembered_columns(journal, table):
    tables = {key.name: found.known for key, found in all_tables(journal).items()}
    known = tables.get(table.casefold())
    if known is None or not known.columns:
        return None
    assert known.doubt == ""
    return {one.name.casefold(): (one.name, one.type, one.length) for one in known.columns}


def arrow_table(extract):
    columns = list(zip(*extract.rows, strict=True)) or [[] for _ in extract.names]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, extract.types, strict=True)]
    return pa.Table.from_arrays(arrays, names=list(extract.names))


def csv_field(text):
    if text is None:
        return ""
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if text == "" or set(text) & set('",\r\n;\t|') else text


def file_bytes(extract):
    """Return the file of an extract: CSV, or Parquet in row groups of two rows."""
    if extract.kind == "csv":
        lines = [extract.names, *extract.rows] if extract.names else []
        return "".join(",".join(map(csv_field, line)) + "\n" for line in lines).encode()
    file = io.BytesIO()
    pq.write_table(arrow_table(extract), file, row_group_size=2)
    return file.getvalue()


class EmulatorJournal:
    """The journal of a running engine, whose process may be killed at each use of it."""

    def __init__(self, journal, kill):
        self._journal, self._kill = journal, kill

    async def do(self, call):
        return await self._step(self._journal.do, call)

    async def read(self, call):
        return await self._step(self._journal.read, call)

    async def _step(self, use, call):
        self._kill.step()
        result = await use(call)
        self._kill.step()
        return result


class EmulatorStage:
    """The emulator with its DuckDB tables, files and a journal on disk, and engines that push over real HTTP.

    Args:
        emulator: The running emulator; it must add new columns to its tables.
        folder: For the files and the state of the engines.
        new_clock: Makes the clock of an engine.
    """

    def __init__(self, emulator, folder, new_clock):
        self.emulator = emulator
        self._folder, self._new_clock = Path(folder), new_clock

    def process(self, kill_at=None):
        return Kill(kill_at)

    def write(self, step, name):
        if step.extract.kind == "arrow":
            return arrow_table(step.extract)
        path = self._folder / f"{name}.{step.extract.kind}"
        path.write_bytes(file_bytes(step.extract))
        return path

    @contextlib.asynccontextmanager
    async def _engine(self):
        with ThreadPoolExecutor(2) as encoders:
            runtime = Runtime(
                clock=self._new_clock(),
                rng=random.Random(),
                filesystem=LocalFileSystem(),
                off_loop=asyncio.to_thread,
                new_workers=functools.partial(ThreadWorkers, encoders),
            )
            async with PushEngine(
                self.emulator.url,
                pool_id="pool",
                auth=UserApiKey("key"),
                settings=EngineSettings(submits_per_hour=100_000, submits_per_second=100_000, quarantine_seconds=0),
                state_dir=self._folder / "state",
                runtime=runtime,
            ) as engine:
                yield engine

    async def push(self, step, spec, process=None):
        """Push a source with an engine of its own, and return the outcome."""
        kill = process or Kill()
        async with self._engine() as engine:
            journal = EmulatorJournal(engine._shared.journal, kill)
            engine._shared = dataclasses.replace(engine._shared, journal=journal)
            try:
                receipt = await engine.push(
                    spec,
                    table=step.table,
                    mode=step.mode,
                    keys=step.keys,
                    column_types=step.types,
                    rename=step.rename,
                    select=step.select,
                    exclude=step.exclude,
                    allow_empty=step.allow_empty,
                    **step.settings,
                )
            except SimulatedCrash:
                return Outcome()
            except PushEngineError as error:
                return Outcome(error=error)
            if kill.is_dead:
                engine._shared.finished.clear()
                return Outcome()
            return Outcome(receipt)

    async def structure(self, table):
        found = await self.emulator.query(
            "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE lower(table_name) = lower(?)", [table]
        )
        columns = {
            name.casefold(): (name, _FROM_DUCKDB[kind], int(comment[len("VARCHAR(") : -1]) if comment else None)
            for name, kind, comment in found
            if name != "_CELONIS_CHANGE_DATE"
        }
        return columns or None

    async def rows(self, table):
        columns = await self.structure(table)
        if columns is None:
            return []
        names = ", ".join(f'"{name}"' for name, *_ in columns.values())
        return [
            dict(zip(columns, row, strict=True)) for row in await self.emulator.query(f'SELECT {names} FROM "{table}"')
        ]

    def submits(self, table=None):
        jobs = [job for job in self.emulator.service.jobs.values() if str(job.status) != "NEW"]
        return [job.id for job in jobs if table is None or job.spec.target_name.casefold() == table.casefold()]

    def problems(self, *, may_leave_job):
        jobs = self.emulator.service.jobs
        left = [job.id for job in jobs.values() if str(job.status) == "NEW"]
        for job_id in left:
            del jobs[job_id]
        failed = [f"job {job.id} failed: {job.logs}" for job in jobs.values() if str(job.status) == "ERROR"]
        return failed + [f"job {job_id} was left behind" for job_id in left if not may_leave_job]

    def remembered(self, table):
        with JournalReader(self._folder / "state" / "journal.sqlite3") as reader:
            return remembered_columns(reader, table)


_FROM_DUCKDB = {
    "BIGINT": "INTEGER",
    "DOUBLE": "FLOAT",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "STRING",
    "TIMESTAMP": "DATETIME",
}
