"""A whole night from one seed: the real engine in virtual time against a model of the platform that loses, delays and repeats things.

`simulate(seed)` pushes one source. It starts the engine again after each crash or resumable failure, as a person would, and returns what
the platform saw. The checker (`Night.problems`) does not depend on the engine: it reads only the table, the submits and their times.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import io
import math
import random
import tempfile
import zlib
from collections import Counter
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from support.inline import inline, limiter_on
from support.quotas import most_in_any_hour, most_in_any_second

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    JobFailedError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    PushEngineError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    SourceReadError,
    SubmitOutcomeUnknownError,
    UnexpectedResponseError,
)
from pushengine.journal.state import PushHistory
from pushengine.journal.store import JournalFile
from pushengine.model import FileParts, FileRef, Job, JobId, JobStatus, RemoteChunk, TableColumn, Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push import identity as push_identity_module
from pushengine.push.opening import PushRequest
from pushengine.push.outcome import is_resumable
from pushengine.push.run import PushRun
from pushengine.quota.ledger import SqliteLedger
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime
from pushengine.testing import MemoryDestination, RecordingSink, VirtualClock, run_in_virtual_time

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
EPOCH = 1_750_000_000.0
LATEST_ARRIVAL_SECONDS = 50.0
STALE_SECONDS = 30.0
SLOW_JOB_SECONDS = 5 * 3600.0
BAD_RUNS = 20
"""Later runs neither crash nor are stopped, so the push must finish, however bad the network is."""


class SimulatedCrash(BaseException):
    """The process has died: from now on, nothing that it does has any effect."""


@dataclasses.dataclass(frozen=True, order=True)
class Rows:
    """The content of a payload, read from its bytes: rows `start` to `stop` of some version of the source."""

    start: int
    stop: int
    texts: tuple = dataclasses.field(repr=False)


FOREIGN = Rows(0, 1, ("foreign",))


@dataclasses.dataclass
class SimChunk:
    id: str
    type: str
    checksum: str | None
    rows: "Rows"
    stored_at: float


@dataclasses.dataclass
class SimJob:
    id: str
    target: Target
    columns: tuple[TableColumn, ...]
    status: JobStatus = JobStatus.NEW
    chunks: list[SimChunk] = dataclasses.field(default_factory=list)
    submitted_at: float | None = None
    run_seconds: float = 5.0

    @property
    def text_length(self):
        return next(column.length for column in self.columns if column.name == "TEXT")


@dataclasses.dataclass(frozen=True)
class Weather:
    """How bad the night is. Values are probabilities per call unless stated otherwise.

    Attributes:
        fault: Something goes wrong with a call.
        crash: The process dies, at one step.
        vanish: All unsubmitted jobs disappear.
        late: A request that was cut off or abandoned is processed later, after at most `LATEST_ARRIVAL_SECONDS`.
        repeat: A proxy sends an upload twice. (Counting cannot detect that; only real checksums can.)
        foreign: Another client adds a chunk to the push's job. (Again, only real checksums can detect that.)
        stale: A status response is some seconds old.
        disk: A write of the journal fails.
        drain: A run receives a request to stop at a random time.
        change: The source is replaced between two runs, or during one.
        touch: Between two runs the source is copied onto itself, or gets another modification time.
        rename: Between two runs the source gets another name, which the same pattern matches.
        sneak: Between two runs some rows of the source change, but its size and its modification time do not.
        reconfigure: Between two runs the settings change, the number of cores, or the version of a library.
        host_clock: The host's clock is changed, between two runs or during one.
        server_clock: The platform's clock is changed.
        wrong_date: A `Date` header is wrong by hours or days.
        impostor: Something other than the platform responds, with a page that is not the platform's or, worse, with an empty 200. (For an
            upload, only checksums detect that: together with a late upload, the count is right.)
        other_host: Another host of the team has spent an hour's submits, so that all others of that hour get a 429. (It never spends two
            hours in a row.)
        slow_job: A job takes five hours.
        job_error: A job ends with ERROR.
        undeletable: The deletion of a job is refused.
        checksum: The kind of checksum in the chunk list. With `opaque` and `none`, the engine can only count chunks.
        list_lag_seconds: How much later a chunk appears in the list.
        resubmit: The response to a submit of a job that was submitted before: `conflict`, `accept` (200 without effect) or `rerun` (a finished
            job runs again; a late request then does harm that cannot be prevented).
        forgets_chunks: A submitted job has an empty chunk list.
        lists_columns: Whether the columns of tables can be read: `yes`, `no` (404), or `forbidden` (403).
    """

    fault: float = 0.15
    crash: float = 0.02
    vanish: float = 0.005
    late: float = 0.3
    repeat: float = 0.0
    foreign: float = 0.0
    stale: float = 0.0
    disk: float = 0.0
    drain: float = 0.0
    change: float = 0.0
    touch: float = 0.0
    rename: float = 0.0
    sneak: float = 0.0
    reconfigure: float = 0.0
    host_clock: float = 0.0
    server_clock: float = 0.0
    wrong_date: float = 0.0
    impostor: float = 0.0
    other_host: float = 0.0
    slow_job: float = 0.0
    job_error: float = 0.0
    undeletable: float = 0.0
    checksum: str = "md5"
    list_lag_seconds: float = 0.5
    quarantine_seconds: float = 60.0
    resubmit: str = "conflict"
    forgets_chunks: bool = False
    lists_columns: str = "no"

    @property
    def only_counts(self):
        """Whether chunks cannot be distinguished, so that the engine can only count them."""
        return self.checksum in ("opaque", "none")

    @staticmethod
    def of(rng):
        checksum = rng.choice(["md5", "sha1", "sha256", "crc32", "opaque", "none"])
        is_real = not Weather(checksum=checksum).only_counts
        return Weather(
            fault=rng.choice([0.0, 0.05, 0.15, 0.3, 0.45]),
            crash=rng.choice([0.0, 0.01, 0.03]),
            vanish=rng.choice([0.0, 0.0, 0.01]),
            late=rng.choice([0.0, 0.3, 1.0]),
            repeat=rng.choice([0.0, 0.0, 0.02]) if is_real else 0.0,
            foreign=rng.choice([0.0, 0.0, 0.02]) if is_real else 0.0,
            stale=rng.choice([0.0, 0.3]),
            disk=rng.choice([0.0, 0.0, 0.01]),
            drain=rng.choice([0.0, 0.0, 0.5]),
            change=rng.choice([0.0, 0.0, 0.2]),
            touch=rng.choice([0.0, 0.3]),
            rename=rng.choice([0.0, 0.0, 0.2]),
            sneak=rng.choice([0.0, 0.0, 0.2]),
            reconfigure=rng.choice([0.0, 0.3]),
            host_clock=rng.choice([0.0, 0.0, 0.3]),
            server_clock=rng.choice([0.0, 0.0, 0.0, 0.2]),
            wrong_date=rng.choice([0.0, 0.0, 0.05]),
            impostor=rng.choice([0.0, 0.0, 0.05]),
            undeletable=rng.choice([0.0, 0.0, 0.5]),
            job_error=rng.choice([0.0, 0.0, 0.0, 0.2]),
            checksum=checksum,
            list_lag_seconds=rng.choice([0.0, 0.5, 0.5, 3.0]),
            resubmit=rng.choice(["conflict", "conflict", "accept"]),
            forgets_chunks=rng.random() < 0.25,
            lists_columns=rng.choice(["yes", "no", "forbidden"]),
            other_host=rng.choice([0.0, 0.0, 0.5]),
            slow_job=rng.choice([0.0, 0.0, 0.0, 0.05]),
        )


CALM = Weather(fault=0.0, crash=0.0, vanish=0.0, late=0.0)


class Platform:
    """The server and its state. `SimDestination` adds the faults."""

    def __init__(self, clock, rng, weather):
        self.clock, self.rng, self.weather = clock, rng, weather
        self.jobs = {}
        self.table = []
        self.columns = ()
        self.submit_times = []
        self.wrong_submits = []
        self.wrong_columns = []
        self.executions = []
        self.sent_bytes = 0
        self.largest_payload = 0
        self.hour_times = []
        self.texts_of_version = {}
        self.files = None
        self._spends_odd_hours = rng.random() < 0.5
        self._spent_hours = {}
        self._read = {}

    def create(self, target, columns):
        job = SimJob(f"job-{len(self.jobs)}-{self.rng.getrandbits(32):08x}", target, tuple(columns))
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
        self._add(job, kind, checksum, self._rows_in(payload))

    def store_foreign(self, job_id):
        job = self.jobs.get(job_id)
        if job is not None and job.status is JobStatus.NEW:
            self._add(job, "UPSERT", hashlib.new("md5", self.rng.randbytes(8)).hexdigest(), FOREIGN)

    def _add(self, job, kind, checksum, rows):
        job.chunks.append(SimChunk(f"c{self.rng.getrandbits(32)}", kind, checksum, rows, self.clock.monotonic()))

    def _rows_in(self, payload):
        key = hashlib.sha256(payload.data).digest()
        if key not in self._read:
            self._read[key] = rows_in(payload.data)
        return self._read[key]

    def listed(self, job_id):
        job = self.job(job_id)
        if job.status is not JobStatus.NEW and self.weather.forgets_chunks:
            return []
        newest = self.clock.monotonic() - self.weather.list_lag_seconds
        return [RemoteChunk(c.id, c.type, c.checksum) for c in job.chunks if c.stored_at <= newest]

    def count_submit(self):
        """Record the submit by true time and by the platform's own clock, which determines the hour."""
        self.submit_times.append(self.clock.monotonic())
        self.hour_times.append(self.clock.now())

    def is_spent(self):
        """Return whether another host has spent the submits of this hour."""
        hour = int(self.clock.now() // 3600.0)
        if hour not in self._spent_hours:
            is_its_turn = hour % 2 == self._spends_odd_hours
            self._spent_hours[hour] = self.rng.random() < self.weather.other_host and is_its_turn
        return self._spent_hours[hour]

    def submit(self, job_id):
        self.count_submit()
        job = self.job(job_id)
        if self.weather.other_host and self.is_spent():
            raise RateLimitedError("the hour's submits are spent")
        if job.status is not JobStatus.NEW:
            if self.weather.resubmit == "accept":
                return
            if self.weather.resubmit == "rerun" and job.status.is_settled:
                job.status, job.submitted_at = JobStatus.QUEUED, self.clock.monotonic()
                return
            raise ConflictError("the job is not NEW", status=409)
        held = sorted(chunk.rows for chunk in job.chunks)
        if not self.is_whole(held) or any(len(text) > job.text_length for rows in held for text in rows.texts):
            self.wrong_submits.append((job_id, held))
        job.status, job.submitted_at = JobStatus.QUEUED, self.clock.monotonic()
        if self.weather.slow_job and self.rng.random() < self.weather.slow_job:
            job.run_seconds = SLOW_JOB_SECONDS

    def is_whole(self, held):
        """Return whether these are the rows of one version of the source, each exactly once."""
        return bool(self.versions_of(held))

    def versions_of(self, held):
        """Return the versions of the source whose rows these are, each exactly once. Versions differ, so there is at most one."""
        ranges = [(rows.start, rows.stop) for rows in sorted(held)]
        return {
            version
            for version, texts in self.texts_of_version.items()
            if is_exact_cover(ranges, len(texts)) and all(rows.texts == texts[rows.start : rows.stop] for rows in held)
        }

    def advance(self):
        """Advance the jobs to the current time."""
        for job in list(self.jobs.values()):
            if job.submitted_at is None or job.status.is_settled:
                continue
            age = self.clock.monotonic() - job.submitted_at
            job.status = JobStatus.QUEUED if age < 1 else JobStatus.RUNNING
            if age >= job.run_seconds:
                self._execute(job)

    def _execute(self, job):
        if self.rng.random() < self.weather.job_error:
            job.status = JobStatus.ERROR
            return
        job.status = JobStatus.DONE
        held = [chunk.rows for chunk in job.chunks]
        mode = job.target.mode
        if mode == "replace" or (mode != "delete" and not self.columns):
            self.columns = job.columns
        elif mode != "delete" and job.columns != self.columns:
            self.wrong_columns.append((job.id, job.columns))
        self.executions.append((job.id, frozenset(self.versions_of(held))))
        self.table = self.table + held if job.target.mode == "append" else held

    def listed_columns(self):
        if self.weather.lists_columns == "forbidden":
            raise PermissionDeniedError("no permission to read tables", status=403)
        if self.weather.lists_columns == "no":
            raise NotFoundError("there is no such page", status=404)
        return list(self.columns)

    def status(self, job_id, age=0.0):
        """Return the job as it was `age` seconds ago."""
        self.advance()
        job = self.job(job_id)
        if job.submitted_at is not None and self.clock.monotonic() - age < job.submitted_at:
            return Job(JobId(job_id), JobStatus.NEW)
        return Job(JobId(job_id), job.status, logs=(job.status.value.lower(),) if job.status.is_settled else ())


def rows_in(data):
    """Read the rows of a payload as the platform would."""
    try:
        table = pq.read_table(pa.BufferReader(data), use_threads=False)
    except (pa.ArrowException, OSError):  # parts of a file that was replaced meanwhile
        return FOREIGN
    ids, texts = (table.column(name).to_pylist() for name in ("ID", "TEXT"))
    start = int(ids[0])
    if [int(one) for one in ids] != list(range(start, start + len(ids))):
        return FOREIGN
    return Rows(start, start + len(ids), tuple(texts))


def hash_of(name, payload):
    return f"{zlib.crc32(payload.data):08x}" if name == "crc32" else hashlib.new(name, payload.data).hexdigest()


def is_exact_cover(ranges, rows):
    end = 0
    for start, stop in ranges:
        if start != end:
            return False
        end = stop
    return end == rows


WRONG_BY_SECONDS = (3600.0, -3600.0, 20 * 3600.0, -20 * 3600.0, 90 * 86400.0)
"""Possible errors of a clock or a `Date` header."""
FAULTS = ("not_sent", "lost_before", "lost_after", "late", "500_before", "500_after", "429", "409", "409_after")


class SimDestination(MemoryDestination):
    """A bad network in front of the platform."""

    def __init__(self, platform, world):
        super().__init__()
        self.platform, self.world = platform, world
        self.jobs = platform.jobs

    def create(self, target, columns):
        return self.platform.create(target, columns)

    def read(self, job_id):
        return self.platform.status(job_id)

    def delete(self, job_id):
        job = self.platform.jobs.get(job_id)
        if self.world.rng.random() < self.world.weather.undeletable:
            raise server_error(is_idempotent=True)
        if job is not None and job.status is JobStatus.NEW:
            del self.platform.jobs[job_id]

    def listed(self, job_id):
        return self.platform.listed(job_id)

    def submit(self, job_id, duplicate_removal_column):
        self.platform.submit(job_id)

    def columns(self, table, connection_id):
        return self.platform.listed_columns()

    async def get_job(self, job_id):
        rng, weather = self.world.rng, self.platform.weather
        age = rng.uniform(0, STALE_SECONDS) if rng.random() < weather.stale else 0.0
        return await self.call("get", job_id, lambda: self.platform.status(job_id, age))

    async def upload_chunk(self, job_id, payload, kind):
        rng, weather = self.world.rng, self.platform.weather
        self.platform.sent_bytes += payload.size
        self.platform.largest_payload = max(self.platform.largest_payload, payload.size)
        if isinstance(payload.data, FileParts):
            payload = dataclasses.replace(payload, data=self.platform.files.read(payload.data))
        is_repeated, is_foreign = rng.random() < weather.repeat, rng.random() < weather.foreign

        def store():
            self.platform.store(job_id, payload, kind)
            if is_repeated:
                self.platform.store(job_id, payload, kind)
            if is_foreign:
                self.platform.store_foreign(job_id)

        await self.call("upload", job_id, store)

    async def call(self, operation, job_id, process):  # noqa: PLR0912 - a flat list of what goes wrong
        world, rng, weather = self.world, self.world.rng, self.platform.weather
        is_idempotent = operation not in ("create", "upload", "submit")
        world.maybe_crash(operation)
        try:
            await asyncio.sleep(rng.expovariate(20))
            world.maybe_crash(operation)
        except (SimulatedCrash, asyncio.CancelledError):
            if not is_idempotent and rng.random() < weather.late:  # the request is in transit, but its caller has gone
                world.later(rng.uniform(0, LATEST_ARRIVAL_SECONDS), process)
            raise
        self.maybe_vanish(operation)
        fault = rng.choice(FAULTS) if rng.random() < weather.fault else None
        if fault == "not_sent":
            raise ConnectionFailedError("refused")
        if fault == "lost_before":
            await asyncio.sleep(rng.uniform(0, 50))
            raise lost(is_idempotent)
        if fault == "500_before":
            raise server_error(is_idempotent)
        if fault == "429":
            self.count_refused(operation)
            raise RateLimitedError("slow down", retry_after_seconds=rng.choice([None, 1.0, 20.0]))
        if fault == "409" and operation == "submit":
            self.count_refused(operation)
            raise ConflictError("another submit is under way", status=409)
        if fault == "late" and not is_idempotent and rng.random() < weather.late:
            world.later(rng.uniform(0, LATEST_ARRIVAL_SECONDS), process)
            raise lost(is_idempotent)
        if rng.random() < weather.impostor:
            await asyncio.sleep(rng.expovariate(20))
            swallowed = ("submit", "delete") if weather.only_counts else ("submit", "delete", "upload")
            if operation in swallowed and rng.random() < 0.5:
                return None  # the impostor's own empty 200
            raise impostor(rng, operation, is_idempotent)
        sent_at = world.clock.monotonic()
        response = process()
        await asyncio.sleep(rng.expovariate(20))
        world.maybe_crash(operation)
        world.observe_date(sent_at)
        if fault == "lost_after":
            raise lost(is_idempotent)
        if fault == "500_after":
            raise server_error(is_idempotent)
        if fault == "409_after" and operation == "submit":
            raise ConflictError("another submit is under way", status=409)
        return response

    def count_refused(self, operation):
        if operation == "submit":
            self.platform.count_submit()

    def maybe_vanish(self, operation):
        if self.world.rng.random() < self.platform.weather.vanish and operation in ("upload", "list_chunks", "submit"):
            for job in list(self.platform.jobs.values()):
                if job.status is JobStatus.NEW:
                    del self.platform.jobs[job.id]


def lost(is_idempotent):
    if is_idempotent:
        return RequestTimeoutError("no response", phase="read")
    return OutcomeUnknownError("no response")


def server_error(is_idempotent):
    return ServerError("bad gateway", status=502, disposition=None if is_idempotent else "outcome_unknown")


def impostor(rng, operation, is_idempotent):
    """Return the error that the client raises for a response of something else: a login page, a redirect, too large a body, or a refusal."""
    disposition = "transient" if is_idempotent else "outcome_unknown"
    if operation != "create" and rng.random() < 0.1:  # such a push ends, and another run continues it
        return AuthenticationError("not authorized", status=401)
    status, message = rng.choice(
        [(200, "a login page"), (302, "a redirect"), (200, "larger than allowed"), (404, "an HTML page")]
    )
    if operation == "create":
        status = 200  # a redirect is final there: the address is wrong
    return UnexpectedResponseError(message, status=status, disposition=disposition)


class SimJournal:
    """The real journal file, without its thread; a crash may come before or after each call."""

    def __init__(self, file, world):
        self.file, self.world = file, world

    async def do(self, call):
        return await self._call(call, self.file.transaction)

    async def read(self, call):
        return await self._call(call, self.file.snapshot)

    async def _call(self, call, block):
        world = self.world
        world.maybe_crash("journal")
        if world.rng.random() < world.weather.disk:
            raise JournalError("cannot use the journal: database or disk is full", path="journal")
        with block():
            result = call(self.file)
        await asyncio.sleep(0.001)
        world.maybe_crash("journal")
        return result


class SimWorkers:
    """Workers that run their functions on the event loop, without threads."""

    async def read(self, function, *args, **kwargs):
        await asyncio.sleep(0.002)
        return function(*args, **kwargs)

    encode = read

    def rest(self):
        pass

    async def aclose(self):
        pass


class SimFiles:
    """A file in memory, and the changes that may happen to it between two runs."""

    def __init__(self, kind, make, platform, rng):
        self.kind, self.make, self.platform, self.rng = kind, make, platform, rng
        self.pattern = f"night*.{kind}"
        self.name = f"night.{kind}"
        self.version = self.modified_at = self.changed_at = self.inode = 0
        self.texts = []
        self.replace()

    def _write(self, texts):
        self.version += 1
        self.texts = self.platform.texts_of_version[self.version] = tuple(texts)
        self.data = self.make.encoded(texts)

    def replace(self):
        """Replace the file with another extract under the same name."""
        self._write(self.make.texts(self.version + 1))
        self.touch()

    def touch(self):
        """Keep the content, but copy the file or change its modification time."""
        self.modified_at += 1
        self.inode += self.rng.random() < 0.5
        self.changed_at += 1

    def rename(self):
        """Keep the content under another name."""
        self.name = f"night-{self.rng.getrandbits(16)}.{self.kind}"
        self.changed_at += 1

    def sneak(self):
        """Change the content but keep the size and modification time. In a large enough file, no probe reads the changed row."""
        texts = list(self.texts)
        row = len(texts) * self.rng.choice([1, 3]) // 4
        texts[row] = f"s{self.version + 1:x}".ljust(len(texts[row]), "z")[: len(texts[row])]
        self._write(texts)
        self.changed_at += 1

    def list(self, pattern):
        return [self.stat(None)]

    def stat(self, file):
        return FileRef(self.name, len(self.data), (self.modified_at, 1, self.inode, self.changed_at))

    def open(self, file):
        return io.BytesIO(self.data)

    def read(self, parts):
        """Return the bytes that an upload of these parts sends now."""
        found = [part if isinstance(part, bytes) else self.data[part.offset :][: part.nbytes] for part in parts.parts]
        if sum(map(len, found)) != parts.nbytes:
            raise SourceReadError("the file ended early: it changed while it was being sent", source=self.name)
        return memoryview(b"".join(found))


class SimClock(VirtualClock):
    """A wall clock that can be changed. All clocks share the same monotonic time."""

    def __init__(self, epoch):
        super().__init__(epoch)
        self.is_off_by = 0.0

    def now(self):
        return super().now() + self.is_off_by

    def set_wrong(self, rng):
        """Make the clock wrong, or right again if it was wrong."""
        self.is_off_by = rng.choice([0.0, 0.0, *WRONG_BY_SECONDS]) if self.is_off_by == 0.0 else 0.0


class NoLock:
    def __init__(self, *_names):
        pass

    def release(self):
        pass


class World:
    """The random numbers, crashes and late arrivals of one night."""

    def __init__(self, seed, weather=None):
        self.rng = random.Random(seed)
        self.weather = weather or Weather.of(self.rng)
        self.clock = SimClock(EPOCH + self.rng.uniform(0, 3600))
        """The host's clock. The platform has its own."""
        self.server_clock = SimClock(self.clock.epoch)
        self.observed = None
        self.versions = {"pyarrow": "1", "machine": "simulated"}
        self.is_updated = False
        self.is_crashed = False
        self.crash_plan = None
        self.run_number = 0
        self.run_steps = 0
        self.steps = 0
        self.crashes = 0
        self.trace = hashlib.sha256()
        self._late = set()

    def begin_run(self):
        """Start the run of a new process."""
        self.is_crashed = False
        self.run_number += 1
        self.run_steps = 0

    def is_time_to_die(self):
        if self.crash_plan is None:
            return self.run_number <= BAD_RUNS and self.rng.random() < self.weather.crash
        return self.run_number <= len(self.crash_plan) and self.run_steps == self.crash_plan[self.run_number - 1]

    def maybe_crash(self, where):
        """Raise `SimulatedCrash` if the process dies at this point or has died before."""
        self.steps += 1
        self.run_steps += 1
        self.trace.update(f"{where} {self.clock.monotonic():.6f};".encode())
        if self.is_crashed:
            raise SimulatedCrash
        if self.is_time_to_die():
            self.is_crashed = True
            self.crashes += 1
            raise SimulatedCrash

    def observe_date(self, sent_at):
        """Give the engine the response's `Date`, which has whole seconds."""
        date = self.server_clock.now()
        if self.rng.random() < self.weather.wrong_date:
            date += self.rng.choice(WRONG_BY_SECONDS)
        self.observed(math.floor(date), (sent_at + self.clock.monotonic()) / 2)

    def change_between_runs(self, files, settings):
        """Apply the changes that may happen while no process runs. Return the settings of the next run."""
        rng, weather = self.rng, self.weather
        for chance, change in (
            (weather.change, files.replace),
            (weather.touch, files.touch),
            (weather.rename, files.rename),
            (weather.sneak, files.sneak),
            (weather.host_clock, lambda: self.clock.set_wrong(rng)),
            (weather.server_clock, lambda: self.server_clock.set_wrong(rng)),
        ):
            if rng.random() < chance:
                change()
        if rng.random() < weather.reconfigure:
            settings = settings.model_copy(update={"encoder_threads": rng.randint(1, 8)})
        if rng.random() < weather.reconfigure / 4:
            settings = settings.model_copy(update={"compression": rng.choice(["SNAPPY", "ZSTD"])})
        if rng.random() < weather.reconfigure / 4:
            settings = settings.model_copy(update={"chunk_bytes": rng.choice([64, 96, 128]) * 1024})
        if rng.random() < weather.reconfigure / 4:
            settings = settings.model_copy(update={"parquet_as_it_is": not settings.parquet_as_it_is})
        if rng.random() < weather.reconfigure / 2:
            self.versions = self.versions | {"pyarrow": str(rng.randint(1, 3))}
            self.is_updated = True
        return settings

    def later(self, seconds, process):
        def arrive():
            with contextlib.suppress(PushEngineError):  # the caller has gone, so there is nobody to receive the error
                process()

        handle = asyncio.get_running_loop().call_later(seconds, arrive)
        self._late.add(handle)


@dataclasses.dataclass
class Night:
    """The outcome of a push, as the platform saw it."""

    seed: object
    outcome: str
    runs: int
    platform: Platform
    versions: range
    silences: list
    longest_run_seconds: float
    may_load_again: bool
    """Whether content may be loaded twice: the mode yields the same table, and a new version cannot compare what the old one encoded."""
    trace: str
    crashes: int
    steps: int
    restarts: int
    max_uploads: int
    payload_bytes: int
    resumed: bool
    error: str

    @property
    def table(self):
        return sorted(self.platform.table)

    @property
    def resent_bytes(self):
        """Bytes sent beyond one upload of each chunk."""
        return self.platform.sent_bytes - self.payload_bytes

    @property
    def in_flight_bytes(self):
        """The maximum number of bytes in flight at a crash."""
        return self.max_uploads * self.platform.largest_payload

    def problems(self, *, per_second=10, per_hour=250):  # noqa: PLR0912 - a flat list of what must not happen
        """Return one sentence for each thing that must never happen but did."""
        found = []
        platform, ran = self.platform, Counter(versions for _, versions in self.platform.executions)
        if self.outcome == "DONE" and not ran:
            found.append("DONE, but no job ran")
        ran_in_order = [max(versions, default=0) for _, versions in platform.executions]
        if self.outcome == "DONE" and ran and ran_in_order[-1] not in self.versions:
            found.append(f"DONE, but version {ran_in_order[-1]} was loaded last, the source had {self.versions}")
        if self.outcome == "failed" and self.versions.stop == 2 and platform.table and not self.may_load_again:
            found.append("failed, but the table was changed")
        if ran and max(ran.values()) > 1 and not self.may_load_again:
            found.append(f"{max(ran.values())} jobs ran for the same content")
        if any(len(versions) != 1 for _, versions in platform.executions):
            found.append(f"a job ran whose rows are not one version of the source: {platform.executions}")
        if ran_in_order != sorted(ran_in_order):
            found.append(f"older content was loaded after newer content: {ran_in_order}")
        if self.silences:
            found.append(f"silent waits: {self.silences}")
        if self.longest_run_seconds > LONGEST_RUN_SECONDS:
            found.append(f"a run took {self.longest_run_seconds:.0f} s")
        if platform.wrong_submits:
            found.append(f"a job was submitted that did not contain the source: {platform.wrong_submits}")
        if platform.wrong_columns:
            found.append(
                f"the columns of a job were not those of the table {platform.columns}: {platform.wrong_columns}"
            )
        if most_in_any_second(platform.submit_times) > per_second:
            found.append("more submits than the quota per second")
        if most_in_any_hour(platform.hour_times) > per_hour:
            found.append("more submits than the quota per hour")
        if self.outcome == "stuck":
            found.append(f"not finished after {self.runs} runs")
        return [f"seed {self.seed!r}: {problem}" for problem in found]


class SourceMaker:
    """A maker of rows for a source, and of the file that contains them."""

    def __init__(self, kind, rng, rows):
        self.kind, self.rng, self.rows = kind, rng, rows
        self.group_rows = rng.randint(20, 200)

    def texts(self, version):
        """Return new rows, all different from those of other versions."""
        rng = self.rng
        count = self.rows or (rng.randint(400, 1500) if rng.random() < 0.1 else rng.randint(1, 400))
        texts = [f"v{version}-{rng.getrandbits(64):016x}{'x' * 1200}" for _ in range(count)]
        if rng.random() < 0.3:
            texts[rng.randrange(count)] += "y" * 4000  # longer than a sample of the source may show
        return texts

    def encoded(self, texts):
        """Return the bytes of the file."""
        ids = [f"{row:08d}" for row in range(len(texts))]
        if self.kind == "csv":
            return "".join(f"{a},{b}\n" for a, b in zip(["ID", *ids], ["TEXT", *texts], strict=True)).encode()
        file = io.BytesIO()
        pq.write_table(pa.table({"ID": ids, "TEXT": texts}), file, row_group_size=self.group_rows)
        return file.getvalue()


MOST_SILENT_SECONDS = 5.0
"""No single wait of more than 2 s is silent, but several shorter ones may follow one another."""
LONGEST_RUN_SECONDS = 4 * 3600.0


class ListeningSink(RecordingSink):
    """A sink that records each time a push emitted no event although no upload was under way, no wait was announced, and no job was polled."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock
        self.silences = []
        self.uploads = set()
        self.announced_until = self.heard_at = clock.monotonic()

    def emit(self, event):
        self.listen(event)
        super().emit(event)

    def listen(self, event=None):
        now = self.clock.monotonic()
        if not self.uploads and now > max(self.announced_until, self.heard_at) + MOST_SILENT_SECONDS:
            self.silences.append((round(now - self.heard_at, 1), repr(self.events[-1:])[:300], repr(event)[:300]))
        self.heard_at = now
        match event:
            case events.UploadStarted():
                self.uploads.add(event.chunk_id)
            case events.ChunkUploaded() | events.ChunkReconciled():
                self.uploads.discard(event.chunk_id)
            case events.PushRestarted():
                self.uploads.clear()
            case events.JobSubmitted() | events.JobStatusChanged():
                self.announced_until = math.inf
            case events.PushStarted() | events.EarlierPushSettled():
                self.announced_until = now
            case events.RetryScheduled() | events.QuotaWaited() | events.WaitStarted():
                seconds = getattr(event, "wait_seconds", None) or getattr(event, "seconds", None)
                # Without a known duration, the push is silent until a response arrives and causes the next event.
                self.announced_until = max(self.announced_until, now + (seconds or 150.0))
        if isinstance(event, events.RetryScheduled) and event.operation.startswith("upload of chunk "):
            self.uploads.discard(event.operation.split()[3])


def simulate(seed, *, weather=None, crash_after=None, mode=None, kind=None, max_runs=60, rows=None):
    """Simulate one push from its plan to its end, through every crash.

    Args:
        seed: Determines everything that is not given here.
        weather: How bad the night is.
        crash_after: The step of the first run, or the steps of the first runs, at which the process dies; then none dies at random.
        mode: append, replace, upsert or delete.
        kind: csv or parquet.
        max_runs: The number of runs after which the push counts as stuck.
        rows: The number of rows in the source.
    """
    plan = crash_after if crash_after is None or isinstance(crash_after, tuple) else (crash_after,)
    return run_in_virtual_time(_night(seed, weather, plan, mode, kind, max_runs, rows))


async def _night(seed, weather, crash_plan, mode, kind, max_runs, rows):
    world = World(seed, weather)
    world.crash_plan = crash_plan
    mode = mode or world.rng.choice(["append", "append", "replace", "upsert", "delete"])
    kind = kind or world.rng.choice(["csv", "parquet"])
    platform = Platform(world.server_clock, random.Random(f"platform {seed}"), world.weather)
    maker = SourceMaker(kind, random.Random(f"source {seed}"), rows)
    files = SimFiles(kind, maker, platform, random.Random(f"files {seed}"))
    platform.files = files
    settings = EngineSettings(
        chunk_bytes=64 * 1024,
        sample_bytes=64 * 1024,
        max_uploads=world.rng.randint(1, 4),
        encoder_threads=2,
        parquet_as_it_is=random.Random(f"as it is {seed}").random() < 0.4,
        quarantine_seconds=world.weather.quarantine_seconds,
        job_deadline_seconds=2 * 3600.0,
        poll_max_interval_seconds=60.0,  # jobs that outlast the deadline would be polled very often
    )
    outcome, receipt, error, last = "stuck", None, "", None
    silences, longest, first_version = [], 0.0, 1
    with (
        tempfile.TemporaryDirectory(dir=SCRATCH) as folder,
        mock.patch.object(push_identity_module, "library_versions", side_effect=lambda: world.versions),
    ):
        file = JournalFile(Path(folder) / "journal.sqlite3")
        ledger = SqliteLedger(Path(folder) / "quota.sqlite3")
        try:
            while world.run_number < max_runs and outcome == "stuck":
                world.begin_run()
                if world.run_number > 1:
                    settings = world.change_between_runs(files, settings)
                first_version, started_at = files.version, world.clock.monotonic()
                sink = ListeningSink(world.clock)
                outcome, receipt, error = await _one_run(
                    world, platform, settings, files, SimJournal(file, world), ledger, mode, sink
                )
                longest = max(longest, world.clock.monotonic() - started_at)
                silences += sink.silences
                last = receipt or last
                await asyncio.sleep(world.rng.uniform(0, 30))
            await asyncio.sleep(2 * LATEST_ARRIVAL_SECONDS)
            platform.advance()
            check_facts(file)
        finally:
            ledger.close()
            file.close()
    return Night(
        seed=seed,
        outcome=outcome,
        runs=world.run_number,
        platform=platform,
        versions=range(first_version, files.version + 1),
        silences=silences,
        longest_run_seconds=longest,
        may_load_again=mode != "append" and world.is_updated,
        trace=world.trace.hexdigest(),
        crashes=world.crashes,
        steps=world.steps,
        restarts=last.restarts if last else 0,
        max_uploads=settings.max_uploads,
        payload_bytes=last.payload_bytes if last else 0,
        resumed=bool(last and last.resumed),
        error=error,
    )


def check_facts(file):
    """Check that every push history of this night can be read, at each of its prefixes."""
    for push in file.pushes():
        history = PushHistory()
        for fact in file.facts(push.push_id):
            history.apply(fact.fact, fact.at)


async def _one_run(world, platform, settings, files, journal, ledger, mode, sink):
    """Run one process until the push is DONE, fails permanently, or fails such that another run may finish it."""
    destination = SimDestination(platform, world)
    server_clock = ServerClock(world.clock)
    world.observed = server_clock.observe
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
        limiter=limiter_on(ledger, world.clock, server_clock=server_clock, rng=runtime.rng),
        journal=journal,
        take_lock=NoLock,
        take_table_lock=NoLock,
        policy=RetryPolicy(),
        budget=ByteBudget(settings.max_memory_bytes),
        engine_settings=settings,
        runtime=runtime,
        drain=DrainSwitch(),
        sink=sink,
        table_locks={},
        scratch=Path("never used"),
        rejects=Path("never used"),
        said=set(),
        finished=set(),
    )
    alarms = []
    if world.run_number <= BAD_RUNS and world.rng.random() < world.weather.drain:
        alarms.append(asyncio.get_running_loop().call_later(world.rng.expovariate(0.1), shared.drain.set))
    if world.rng.random() < world.weather.change / 4:
        alarms.append(asyncio.get_running_loop().call_later(world.rng.expovariate(1), files.replace))
    if world.rng.random() < world.weather.host_clock / 4:
        alarms.append(asyncio.get_running_loop().call_later(world.rng.expovariate(1), world.clock.set_wrong, world.rng))
    # A delete sends its keys only: with the text among them, the versions of the source can be told apart.
    keys = {"upsert": ("ID",), "delete": ("ID", "TEXT")}.get(mode, ())
    request = PushRequest(spec=files.pattern, target=Target("T", mode, keys))
    run = PushRun(request, shared, f"push-{world.rng.getrandbits(32):08x}")
    try:
        receipt = await run.run()
    except SimulatedCrash:
        return "stuck", None, "crash"
    except PushEngineError as error:
        return outcome_of(error, world), error.receipt, repr(error)
    finally:
        sink.listen()
        for alarm in alarms:
            alarm.cancel()
        leftover = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not leftover, leftover
        assert shared.budget.reserved == 0
    journal.file.set_state(
        receipt.push_id, "done", world.clock.now()
    )  # as the engine does after it has returned the receipt
    return receipt.status, receipt, ""


def outcome_of(error, world):
    """Return what the error means for the person: nothing more to do, or "stuck", which means to run the same command again."""
    if isinstance(error, SubmitOutcomeUnknownError):
        return "unknown"
    if isinstance(error, JobFailedError):
        return "failed"
    return "stuck" if world.is_crashed or is_resumable(error) else "failed"
