"""A whole night from one seed: the real engine on virtual time against a model of the platform that loses, delays and repeats things.

`simulate(seed)` pushes one source, restarting the engine after each crash or resumable failure as a person would, and returns what
the platform saw. The checker (`Night.problems`) knows nothing of the engine: it looks only at the table, the submits and their times.
"""

import asyncio
import bisect
import dataclasses
import hashlib
import io
import math
import random
import tempfile
from collections import Counter
from pathlib import Path

from pushengine.budget import ByteBudget
from pushengine.config import EngineSettings
from pushengine.drain import DrainSwitch
from pushengine.engine import PushRun, Runtime, Shared, is_resumable
from pushengine.errors import (
    ConflictError,
    ConnectionFailedError,
    JobFailedError,
    NotFoundError,
    OutcomeUnknownError,
    PushEngineError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    SubmitOutcomeUnknownError,
)
from pushengine.journal import JournalFile
from pushengine.ledger import SqliteLedger
from pushengine.limiter import ServerClock, SubmitLimiter
from pushengine.model import Job, JobId, JobStatus, RemoteChunk, Target
from pushengine.testing import RecordingSink, VirtualClock, run_in_virtual_time

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
EPOCH = 1_750_000_000.0
LATEST_ARRIVAL_SECONDS = 50.0


class SimulatedCrash(BaseException):
    """The process is gone: from here on nothing of it has any effect."""


@dataclasses.dataclass
class SimChunk:
    id: str
    type: str
    checksum: str | None
    rows: tuple[int, int]
    stored_at: float


@dataclasses.dataclass
class SimJob:
    id: str
    target: Target
    status: JobStatus = JobStatus.NEW
    chunks: list[SimChunk] = dataclasses.field(default_factory=list)
    submitted_at: float | None = None


@dataclasses.dataclass(frozen=True)
class Weather:
    """How bad the night is; probabilities of one call each."""

    fault: float = 0.15
    crash: float = 0.02
    vanish: float = 0.005
    late: float = 0.3
    checksum: str = "md5"
    list_lag_seconds: float = 0.5
    quarantine_seconds: float = 60.0

    @staticmethod
    def of(rng):
        return Weather(
            fault=rng.choice([0.0, 0.05, 0.15, 0.3, 0.45]),
            crash=rng.choice([0.0, 0.01, 0.03]),
            vanish=rng.choice([0.0, 0.0, 0.01]),
            checksum=rng.choice(["md5", "sha1", "sha256", "crc32", "opaque", "none"]),
        )


class Platform:
    """What the server is and remembers. Its faults live in `SimDestination`."""

    def __init__(self, clock, rng, weather):
        self.clock, self.rng, self.weather = clock, rng, weather
        self.jobs = {}
        self.table = []
        self.submit_times = []
        self.wrong_submits = []
        self.executions = []
        self.sent_bytes = 0
        self.expected_rows = None

    def create(self, target):
        job = SimJob(f"job-{len(self.jobs)}-{self.rng.getrandbits(32):08x}", target)
        self.jobs[job.id] = job
        return Job(JobId(job.id), job.status)

    def job(self, job_id):
        if job_id not in self.jobs:
            raise NotFoundError(f"no job {job_id}", status=404)
        return self.jobs[job_id]

    def store(self, job_id, payload, kind):
        job = self.job(job_id)
        if job.status is not JobStatus.NEW:
            raise ConflictError("the job is not NEW", status=409)
        checksum = {
            "opaque": lambda: f"{self.rng.getrandbits(64):016x}-x",
            "none": lambda: None,
        }.get(self.weather.checksum, lambda: hash_of(self.weather.checksum, payload))()
        job.chunks.append(
            SimChunk(f"c{self.rng.getrandbits(32)}", kind, checksum, payload.source_rows, self.clock.now())
        )

    def listed(self, job_id):
        newest = self.clock.now() - self.weather.list_lag_seconds
        chunks = self.job(job_id).chunks
        return [RemoteChunk(c.id, c.type, c.checksum) for c in chunks if c.stored_at <= newest]

    def submit(self, job_id):
        self.submit_times.append(self.clock.now())
        job = self.job(job_id)
        if job.status is not JobStatus.NEW:
            raise ConflictError("the job is not NEW", status=409)
        ranges = sorted(chunk.rows for chunk in job.chunks)
        if not is_exact_cover(ranges, self.expected_rows):
            self.wrong_submits.append((job_id, ranges))
        job.status, job.submitted_at = JobStatus.QUEUED, self.clock.now()

    def status(self, job_id):
        job = self.job(job_id)
        if job.submitted_at is not None and not job.status.is_settled:
            age = self.clock.now() - job.submitted_at
            job.status = JobStatus.QUEUED if age < 1 else JobStatus.RUNNING if age < 5 else JobStatus.DONE
            if job.status is JobStatus.DONE:
                self.executions.append(job_id)
                self.table += [chunk.rows for chunk in job.chunks]
        return Job(JobId(job_id), job.status, logs=("done",) if job.status is JobStatus.DONE else ())


def hash_of(name, payload):
    return payload.digests["crc32"] if name == "crc32" else hashlib.new(name, payload.data).hexdigest()


def is_exact_cover(ranges, rows):
    end = 0
    for start, stop in ranges:
        if start != end:
            return False
        end = stop
    return end == rows


class SimDestination:
    """`types.Destination` with a bad network in front of the platform."""

    team = "acme"

    def __init__(self, platform, world):
        self.platform, self.world = platform, world

    async def create_job(self, target, columns):
        return await self.call("create", lambda: self.platform.create(target), is_idempotent=False)

    async def get_job(self, job_id):
        return await self.call("get", lambda: self.platform.status(job_id))

    async def list_jobs(self):
        return await self.call("list", lambda: [self.platform.status(job_id) for job_id in self.platform.jobs])

    async def delete_job(self, job_id):
        def delete():
            job = self.platform.jobs.get(job_id)
            if job is not None and job.status is JobStatus.NEW:
                del self.platform.jobs[job_id]

        await self.call("delete", delete)

    async def upload_chunk(self, job_id, payload, kind):
        self.platform.sent_bytes += payload.size
        await self.call("upload", lambda: self.platform.store(job_id, payload, kind), is_idempotent=False)

    async def list_chunks(self, job_id):
        return await self.call("list_chunks", lambda: self.platform.listed(job_id))

    async def submit_job(self, job_id, *, duplicate_removal_column):
        await self.call("submit", lambda: self.platform.submit(job_id), is_idempotent=False)

    async def aclose(self):
        pass

    async def call(self, operation, process, *, is_idempotent=True):
        world, rng, weather = self.world, self.world.rng, self.platform.weather
        world.maybe_crash(operation)
        await asyncio.sleep(rng.expovariate(20))
        world.maybe_crash(operation)
        self.maybe_vanish(operation)
        fault = None
        if rng.random() < weather.fault:
            fault = rng.choice(["not_sent", "lost_before", "lost_after", "late", "500_before", "500_after", "429", "409"])
        if fault == "not_sent":
            raise ConnectionFailedError("refused")
        if fault == "lost_before":
            await asyncio.sleep(rng.uniform(0, 50))
            raise lost(is_idempotent)
        if fault == "500_before":
            raise server_error(is_idempotent)
        if fault == "429" and operation != "upload":
            self.count_refused(operation)
            raise RateLimitedError("slow down", retry_after_seconds=rng.choice([None, 1.0, 20.0]))
        if fault == "409" and operation == "submit":
            self.count_refused(operation)
            raise ConflictError("another submit is under way", status=409)
        if fault == "late" and not is_idempotent and rng.random() < weather.late:
            world.later(rng.uniform(0, LATEST_ARRIVAL_SECONDS), process)
            raise lost(is_idempotent)
        answer = process()
        await asyncio.sleep(rng.expovariate(20))
        world.maybe_crash(operation)
        if fault == "lost_after":
            raise lost(is_idempotent)
        if fault == "500_after":
            raise server_error(is_idempotent)
        return answer

    def count_refused(self, operation):
        if operation == "submit":
            self.platform.submit_times.append(self.platform.clock.now())

    def maybe_vanish(self, operation):
        if self.world.rng.random() < self.platform.weather.vanish and operation in ("upload", "list_chunks", "submit"):
            for job in list(self.platform.jobs.values()):
                if job.status is JobStatus.NEW:
                    del self.platform.jobs[job.id]


def lost(is_idempotent):
    if is_idempotent:
        return RequestTimeoutError("no answer", phase="read")
    return OutcomeUnknownError("no answer")


def server_error(is_idempotent):
    error = ServerError("bad gateway", status=502)
    if not is_idempotent:
        error.disposition = "outcome_unknown"
    return error


class SimJournal:
    """The real journal file, written inline; a crash may come before or after each write."""

    def __init__(self, file, world):
        self.file, self.world = file, world
        self.writes = 0

    async def do(self, call):
        self.world.maybe_crash("journal")
        with self.file.transaction():
            result = call(self.file)
        self.writes += 1
        await asyncio.sleep(0.001)
        self.world.maybe_crash("journal")
        return result


class SimWorkers:
    """Threads, without threads."""

    async def read(self, function, *args, **kwargs):
        await asyncio.sleep(0.002)
        return function(*args, **kwargs)

    encode = read

    async def aclose(self):
        pass


class SimFiles:
    """One file in memory."""

    def __init__(self, data):
        self.data = data

    def expand(self, pattern):
        return [Path(pattern)]

    def size_bytes(self, path):
        return len(self.data)

    def changed_at_ns(self, path):
        return 1

    def open_binary(self, path):
        return io.BytesIO(self.data)


class NoLock:
    def release(self):
        pass


async def inline(function, /, *args, **kwargs):
    return function(*args, **kwargs)


class World:
    """Chance, crashes and late arrivals of one night."""

    def __init__(self, seed, weather=None):
        self.rng = random.Random(seed)
        self.weather = weather or Weather.of(self.rng)
        self.clock = VirtualClock(EPOCH + self.rng.uniform(0, 3600))
        self.is_crashed = False
        self.crash_after = None
        self.steps = 0
        self.crashes = 0
        self.trace = hashlib.sha256()
        self._late = set()

    def maybe_crash(self, where):
        """A point at which the process may die; dead processes have no effect."""
        self.steps += 1
        self.trace.update(f"{where} {self.clock.now():.6f};".encode())
        if self.is_crashed:
            raise SimulatedCrash
        planned = self.crash_after is not None and self.steps == self.crash_after
        if planned or (self.crash_after is None and self.rng.random() < self.weather.crash):
            self.is_crashed = True
            self.crashes += 1
            raise SimulatedCrash

    def later(self, seconds, process):
        def arrive():
            try:
                process()
            except PushEngineError:
                pass  # nobody hears the answer

        handle = asyncio.get_running_loop().call_later(seconds, arrive)
        self._late.add(handle)


@dataclasses.dataclass
class Night:
    """What became of a push, as the platform saw it."""

    seed: object
    outcome: str
    runs: int
    rows: int
    table: list
    wrong_submits: list
    executions: list
    submit_times: list
    trace: str
    crashes: int
    steps: int
    restarts: int
    sent_bytes: int
    payload_bytes: int
    error: str

    def problems(self, *, per_second=10, per_hour=250):
        """What must never be, as sentences."""
        found = []
        if self.outcome == "DONE" and not is_exact_cover(sorted(self.table), self.rows):
            found.append(f"DONE, but the table holds {sorted(self.table)} of {self.rows} rows")
        if self.outcome == "failed" and self.table:
            found.append("failed, but the table was changed")
        if len(self.executions) > 1:
            found.append(f"{len(self.executions)} jobs ran for one push")
        if self.wrong_submits:
            found.append(f"a job was submitted that did not hold the source: {self.wrong_submits}")
        times = sorted(self.submit_times)
        if max((bisect.bisect_left(times, t + 1.0) - i for i, t in enumerate(times)), default=0) > per_second:
            found.append("over the quota of a second")
        if max(Counter(math.floor(t / 3600) for t in times).values(), default=0) > per_hour:
            found.append("over the quota of an hour")
        if self.outcome == "stuck":
            found.append(f"not settled after {self.runs} runs")
        return [f"seed {self.seed!r}: {problem}" for problem in found]


def csv_bytes(rows, rng):
    lines = ["ID,TEXT"]
    lines += [f"{row:08d},{rng.getrandbits(64):016x}{'x' * 1200}" for row in range(rows)]
    return ("\n".join(lines) + "\n").encode()


def simulate(seed, *, weather=None, crash_after=None, mode="append", patch=None, max_runs=300, rows=None):
    """One push, from plan to settled, through every crash. `patch(push_run_module)` may break the engine on purpose."""
    return run_in_virtual_time(_night(seed, weather, crash_after, mode, patch, max_runs, rows))


async def _night(seed, weather, crash_after, mode, patch, max_runs, rows):
    world = World(seed, weather)
    world.crash_after = crash_after
    rows = rows or world.rng.randint(1, 400)
    files = SimFiles(csv_bytes(rows, random.Random(seed)))
    platform = Platform(world.clock, random.Random(f"platform {seed}"), world.weather)
    platform.expected_rows = rows
    settings = EngineSettings(
        chunk_bytes=64 * 1024,
        max_uploads=world.rng.randint(1, 4),
        quarantine_seconds=world.weather.quarantine_seconds,
    )
    outcome, runs, restarts, payload_bytes, error = "stuck", 0, 0, 0, ""
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        file = JournalFile(Path(folder) / "journal.sqlite3")
        ledger = SqliteLedger(Path(folder) / "quota.sqlite3")
        try:
            while runs < max_runs and outcome == "stuck":
                runs += 1
                world.is_crashed = False
                outcome, receipt, error = await _one_run(world, platform, settings, files, SimJournal(file, world), ledger, mode)
                if receipt is not None:
                    restarts, payload_bytes = max(restarts, receipt.restarts), receipt.payload_bytes
                await asyncio.sleep(world.rng.uniform(0, 30))
            await asyncio.sleep(2 * LATEST_ARRIVAL_SECONDS)
        finally:
            ledger.close()
            file.close()
    return Night(
        seed, outcome, runs, rows, platform.table, platform.wrong_submits, platform.executions, platform.submit_times,
        world.trace.hexdigest(), world.crashes, world.steps, restarts, platform.sent_bytes, payload_bytes, error,
    )


async def _one_run(world, platform, settings, files, journal, ledger, mode):
    """One process: until DONE, a failure for good, or one that running again may repair."""
    destination = SimDestination(platform, world)
    runtime = Runtime(
        clock=world.clock,
        rng=random.Random(world.rng.getrandbits(64)),
        filesystem=files,
        off_loop=inline,
        new_workers=SimWorkers,
    )
    shared = Shared(
        destination=destination,
        pool_id="pool",
        limiter=SubmitLimiter(
            ledger,
            team=destination.team,
            server_clock=ServerClock(world.clock),
            clock=world.clock,
            off_loop=inline,
            rng=runtime.rng,
            spacing_seconds=ledger.spacing_seconds,
            submits_per_hour=250,
        ),
        journal=journal,
        take_lock=lambda identity: NoLock(),
        budget=ByteBudget(settings.max_memory_bytes),
        settings=settings,
        runtime=runtime,
        drain=DrainSwitch(),
        sink=RecordingSink(),
        table_locks={},
        finished=set(),
    )
    run = PushRun("night.csv", Target("T", mode), shared, push_id=f"push-{world.rng.getrandbits(32):08x}")
    try:
        receipt = await run.run()
    except SimulatedCrash:
        return "stuck", None, "crash"
    except PushEngineError as error:
        return outcome_of(error, world), error.receipt, repr(error)
    finally:
        leftover = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not leftover, leftover
        assert shared.budget.reserved == 0
    journal.file.set_state(receipt.push_id, "done", world.clock.now())  # as the engine does once the caller has the receipt
    return receipt.status, receipt, ""


def outcome_of(error, world):
    """What a person does next: nothing, or the same command again."""
    if isinstance(error, SubmitOutcomeUnknownError):
        return "unknown"
    if isinstance(error, JobFailedError):
        return "failed"
    return "stuck" if world.is_crashed or is_resumable(error) else "failed"
