"""Helpers for tests: virtual time that jumps to the next timer, a recording sink, an in-memory platform, and an emulator.

A test that needs hours runs in milliseconds:

```python
async def night() -> None:
    clock = VirtualClock(epoch=1_750_000_000)
    await clock.sleep(3600)

run_in_virtual_time(night())
```

With `pytest_plugins = ["pushengine.testing"]` in the top `conftest.py`, every test can use an emulator of the Data Push API:

```python
async def test_a_lost_response(pushengine_emulator):
    pushengine_emulator.faults = FaultPlan([Fault("upsert", DropAfter(), nth=1)])  # from pushengine.emulator.faults
    ...  # push to pushengine_emulator.url
    assert await pushengine_emulator.query("SELECT count(*) FROM orders") == [(3,)]

def test_without_a_loop(pushengine_emulator_thread):
    assert pushengine_emulator_thread.query("SELECT 1") == [(1,)]

@pytest.fixture
def pushengine_emulator_settings():  # replaces the default, in a test module or in conftest.py
    return EmulatorSettings(submits_per_hour=3)
```

pytest is needed only for the fixtures. PYTEST_DONT_REWRITE: this module may be imported before pytest loads it as a plugin.
"""

from __future__ import annotations

import asyncio
import dataclasses
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pushengine.errors import ConflictError, NotFoundError
from pushengine.events import Event
from pushengine.model import ChunkType, Job, JobId, JobStatus, Payload, RemoteChunk, TableColumn, Target

if TYPE_CHECKING:
    from pushengine.emulator import Emulator, EmulatorSettings, LocalCertificate
    from pushengine.emulator.faults import Fault, FaultPlan, Faults

T = TypeVar("T")
E = TypeVar("E", bound=Event)
_TURN_SECONDS = 1e-6


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never waits for a timer: it adds the timeout to the time of the loop instead.

    Each turn of the loop takes a microsecond, because code that polls until a short time has passed would otherwise never finish.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready files, or let time jump if there are none; with `timeout` None, wait for a file in real time."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.elapsed += max(timeout, 0.0)
        self.elapsed += _TURN_SECONDS
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` jumps to the next timer whenever nothing else is ready."""

    def __init__(self) -> None:
        self._time_selector = _JumpingSelector()
        super().__init__(self._time_selector)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._time_selector.elapsed


class VirtualClock:
    """A `Clock` that reads the time of the running loop.

    Args:
        epoch: Wall-clock time at the loop's time 0, in seconds since 1970-01-01 UTC.
    """

    def __init__(self, epoch: float = 1_750_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        """Return the wall-clock time in seconds since 1970-01-01 UTC."""
        return self.epoch + self.monotonic()

    def monotonic(self) -> float:
        """Return the time of the running loop in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` of the loop's time."""
        await asyncio.sleep(seconds)


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to completion on a `VirtualTimeLoop` and return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class RecordingSink:
    """An `EventSink` that keeps every event in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Append the event to `events`."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one class, in order."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclasses.dataclass(slots=True)
class MemoryJob:
    """A push job in a `MemoryDestination`; its chunks and payloads are in order of arrival."""

    id: JobId
    target: Target
    columns: tuple[TableColumn, ...]
    status: JobStatus = JobStatus.NEW
    chunks: list[RemoteChunk] = dataclasses.field(default_factory=list)
    payloads: list[Payload] = dataclasses.field(default_factory=list)
    logs: tuple[str, ...] = ()


class MemoryDestination:
    """An in-memory platform (`interfaces.Destination`) for tests of code that pushes. It uses no HTTP and never waits.

    Every call is an operation (`create`, `get`, `list`, `delete`, `upload`, `list_chunks`, `submit` or `columns`) with an effect. Override
    `call()` to make the platform slow, unreliable or full: nothing has happened before `effect()`, and everything has after it.

    ```python
    class LosesEachResponse(MemoryDestination):
        async def call(self, operation, job_id, effect):
            await super().call(operation, job_id, effect)
            raise OutcomeUnknownError("no response")
    ```

    Override an effect (`create()` to `submit()`) to emulate a different platform, or `execute()` to change what happens to a submitted job.

    Args:
        team: Host of the team.
        checksum: The digest that chunk lists show (`md5`, `sha1`, `sha256` or `crc32`), or None for a platform that shows none.

    Attributes:
        jobs: Jobs by id, oldest first.
        calls: Name of every operation so far, in order.
    """

    def __init__(self, team: str = "acme", *, checksum: str | None = "md5") -> None:
        self.team = team
        self.checksum = checksum
        self.jobs: dict[str, MemoryJob] = {}
        self.calls: list[str] = []
        self._created = 0

    async def call(self, operation: str, job_id: str | None, effect: Callable[[], T]) -> T:
        """Record one call and carry out its effect."""
        del job_id
        self.calls.append(operation)
        return effect()

    # --- Effects

    def create(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Create a job."""
        job = MemoryJob(self.new_id(), target, tuple(columns))
        self.jobs[job.id] = job
        return self.read(job.id)

    def new_id(self) -> JobId:
        """Return the id for the next job."""
        self._created += 1
        return JobId(f"job-{self._created}")

    def job(self, job_id: str) -> MemoryJob:
        """Return a job by its id.

        Raises:
            NotFoundError: The job does not exist.
        """
        if job_id not in self.jobs:
            raise NotFoundError(f"job {job_id} does not exist", status=404)
        return self.jobs[job_id]

    def read(self, job_id: str) -> Job:
        """Return a job as the platform shows it."""
        job = self.job(job_id)
        return Job(job.id, job.status, target_name=job.target.table, type=job.target.job_type, logs=job.logs)

    def delete(self, job_id: str) -> None:
        """Delete a job; a job that does not exist is not an error."""
        self.jobs.pop(job_id, None)

    def store(self, job_id: str, payload: Payload, kind: ChunkType) -> None:
        """Add a chunk to a job.

        Raises:
            NotFoundError, ConflictError: The job is gone, or not NEW.
        """
        job = self._new_job(job_id)
        checksum = None if self.checksum is None else payload.digests.get(self.checksum)
        job.chunks.append(RemoteChunk(f"chunk-{len(job.chunks)}", kind, checksum))
        job.payloads.append(payload)

    def listed(self, job_id: str) -> list[RemoteChunk]:
        """Return the chunks of a job."""
        return list(self.job(job_id).chunks)

    def submit(self, job_id: str, duplicate_removal_column: str | None) -> None:
        """Submit a job, which `execute()` then executes.

        Raises:
            NotFoundError, ConflictError: The job is gone, or not NEW.
        """
        del duplicate_removal_column
        self.execute(self._new_job(job_id))

    def columns(self, table: str, connection_id: str | None) -> list[TableColumn]:
        """Return the columns of a table that exists; by default, this platform keeps no tables and lists none."""
        del table, connection_id
        return []

    def execute(self, job: MemoryJob) -> None:
        """Execute a submitted job: by default it is DONE at once."""
        job.status = JobStatus.DONE

    def _new_job(self, job_id: str) -> MemoryJob:
        job = self.job(job_id)
        if job.status is not JobStatus.NEW:
            raise ConflictError(f"job {job_id} is {job.status.value}", status=409)
        return job

    # --- `interfaces.Destination`

    async def create_job(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """See `create()`."""
        return await self.call("create", None, lambda: self.create(target, columns))

    async def get_job(self, job_id: JobId) -> Job:
        """See `read()`."""
        return await self.call("get", job_id, lambda: self.read(job_id))

    async def list_jobs(self) -> list[Job]:
        """Return all jobs, oldest first."""
        return await self.call("list", None, lambda: [self.read(job_id) for job_id in self.jobs])

    async def delete_job(self, job_id: JobId) -> None:
        """See `delete()`."""
        await self.call("delete", job_id, lambda: self.delete(job_id))

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """See `store()`."""
        await self.call("upload", job_id, lambda: self.store(job_id, payload, kind))

    async def list_chunks(self, job_id: JobId, *, limit: int | None = None) -> list[RemoteChunk]:
        """See `listed()`."""
        return await self.call("list_chunks", job_id, lambda: self.listed(job_id)[:limit])

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """See `submit()`."""
        await self.call("submit", job_id, lambda: self.submit(job_id, duplicate_removal_column))

    async def table_columns(self, table: str, connection_id: str | None) -> list[TableColumn]:
        """See `columns()`."""
        return await self.call("columns", None, lambda: self.columns(table, connection_id))

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


class EmulatorThread:
    """An `Emulator` on its own event loop in a thread, for code without a loop or with several loops.

    ```python
    with EmulatorThread() as emulator:
        subprocess.run(["pushengine", "push", "orders.csv", "--url", emulator.url])
        assert emulator.query("SELECT count(*) FROM orders") == [(3,)]
    ```

    Args:
        database: DuckDB file for the tables; None keeps them in memory.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        settings: Limits, credentials and behavior of the team; None uses the defaults.
        tls: Certificate to serve https with; None serves http.

    Attributes:
        emulator: The emulator. Its attributes and `query` may be used from any thread and loop, but not `start` and `aclose`.
    """

    def __init__(
        self,
        database: str | Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: EmulatorSettings | None = None,
        tls: LocalCertificate | None = None,
    ) -> None:
        from pushengine.emulator import Emulator  # noqa: PLC0415 - a slow import that tests with only a clock do not need

        self.emulator = Emulator(database, host=host, port=port, settings=settings, tls=tls)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Future[None] = Future()
        self._outcome: Future[None] = Future()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base URL of the emulated team."""
        return self.emulator.url

    @property
    def port(self) -> int:
        """The port that the emulator listens on."""
        return self.emulator.port

    @property
    def faults(self) -> Faults:
        """The active fault plan; assigning a plan, or rules, replaces it and resets its counters."""
        return self.emulator.faults

    @faults.setter
    def faults(self, plan: FaultPlan | Iterable[Fault] | None) -> None:
        self.emulator.faults = plan

    def query(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run SQL on the tables and return the rows; blocks. It sees the rows of a job only after they are committed."""
        if self._loop is None:
            raise RuntimeError("the emulator is not running")
        return asyncio.run_coroutine_threadsafe(self.emulator.query(sql, params), self._loop).result()

    def start(self) -> None:
        """Start the thread and listen; raise whatever starting the emulator raises."""
        if self._thread is not None:
            raise RuntimeError("the emulator is already running")
        listening: Future[None] = Future()
        self._stop, self._outcome = Future(), Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="pushengine-emulator-loop")
        self._thread.start()
        try:
            listening.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the emulator as `Emulator.aclose` does and end its thread; safe to call when not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set_result(None)
        thread.join()
        self._outcome.result()

    def _run(self, listening: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(listening))
        except BaseException as exc:  # noqa: BLE001 - re-raised by close()
            self._outcome.set_exception(exc)
        else:
            self._outcome.set_result(None)

    async def _serve(self, listening: Future[None]) -> None:
        """Run the emulator until `close()`; a failure to start is passed to `start()` through `listening`."""
        try:
            await self.emulator.start()
        except BaseException as exc:  # noqa: BLE001 - re-raised by start()
            listening.set_exception(exc)
            return
        self._loop = asyncio.get_running_loop()
        listening.set_result(None)
        try:
            await asyncio.wrap_future(self._stop)
        finally:
            self._loop = None
            await self.emulator.aclose()


try:
    import pytest
except ImportError:  # only the fixtures need pytest; everything above works without it
    pass
else:

    @pytest.fixture
    def pushengine_emulator_settings() -> EmulatorSettings:
        """Return the settings of the emulated team; define a fixture of this name to change them."""
        from pushengine.emulator import EmulatorSettings  # noqa: PLC0415 - see above

        return EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)

    @pytest.fixture
    def pushengine_emulator_thread(pushengine_emulator_settings: EmulatorSettings) -> Iterator[EmulatorThread]:
        """Yield a running emulator for tests without an event loop; `pushengine_emulator` is the same emulator."""
        with EmulatorThread(settings=pushengine_emulator_settings) as thread:
            yield thread

    @pytest.fixture
    def pushengine_emulator(pushengine_emulator_thread: EmulatorThread) -> Emulator:
        """Return a running emulator on a free port; it is closed after the test.

        It has its own event loop, so it responds no matter which loops a test and its fixtures run on.
        """
        return pushengine_emulator_thread.emulator
