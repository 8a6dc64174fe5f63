"""Helpers for tests: time that moves only when everybody waits, a sink that remembers, a platform in memory, and an emulator to push into.

A test that needs hours runs in milliseconds:

```python
async def night() -> None:
    clock = VirtualClock(epoch=1_750_000_000)
    await clock.sleep(3600)

run_in_virtual_time(night())
```

With `pytest_plugins = ["pushengine.testing"]` in the top `conftest.py`, every test can ask for an emulator of the Data Push API:

```python
async def test_a_lost_answer(pushengine_emulator):
    pushengine_emulator.faults = FaultPlan([Fault("upsert", DropAfter(), nth=1)])  # from pushengine.emulator.faults
    ...  # push to pushengine_emulator.url
    assert await pushengine_emulator.query("SELECT count(*) FROM orders") == [(3,)]

def test_without_a_loop(pushengine_emulator_thread):
    assert pushengine_emulator_thread.query("SELECT 1") == [(1,)]

@pytest.fixture
def pushengine_emulator_settings():  # replaces the default, in a test module or in conftest.py
    return EmulatorSettings(submits_per_hour=3)
```

pytest itself is not needed unless the fixtures are used (PYTEST_DONT_REWRITE: this module may be imported before it is a plugin).
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
    from pushengine.emulator import Emulator, EmulatorSettings
    from pushengine.emulator.faults import Fault, FaultPlan, Faults

T = TypeVar("T")
E = TypeVar("E", bound=Event)
_TURN_SECONDS = 1e-6


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what would be waited for is added to the loop's time instead.

    Each turn of the loop takes a microsecond, as a real one does: code that waits for "the rest of a moment" must get there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Ready files now; else let time jump. A loop that waits for ever (`timeout` None) waits for real."""
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.elapsed += max(timeout, 0.0)
        self.elapsed += _TURN_SECONDS
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` jumps to the next timer whenever nothing else is ready."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.elapsed


class VirtualClock:
    """A `Clock` on the running loop's time.

    Args:
        epoch: Wall-clock seconds UTC at the loop's time 0.
    """

    def __init__(self, epoch: float = 1_750_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        """Wall-clock time in seconds since 1970-01-01 UTC."""
        return self.epoch + self.monotonic()

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in the loop's time."""
        await asyncio.sleep(seconds)


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a `VirtualTimeLoop`."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


class RecordingSink:
    """An `EventSink` that keeps every event in `events`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one class, in order."""
        return [event for event in self.events if isinstance(event, kind)]


@dataclasses.dataclass(slots=True)
class MemoryJob:
    """A push job in a `MemoryDestination`; what it holds in the order of arrival."""

    id: JobId
    target: Target
    columns: tuple[TableColumn, ...]
    status: JobStatus = JobStatus.NEW
    chunks: list[RemoteChunk] = dataclasses.field(default_factory=list)
    payloads: list[Payload] = dataclasses.field(default_factory=list)
    logs: tuple[str, ...] = ()


class MemoryDestination:
    """The platform in memory (`interfaces.Destination`), for tests of what pushes into one. No HTTP, no time of its own.

    Every call is an operation (`create`, `get`, `list`, `delete`, `upload`, `list_chunks` or `submit`) with an effect. Override `call()` to
    make the platform slow, unreliable or full: before `effect()` nothing has happened, after it everything.

    ```python
    class LosesEachAnswer(MemoryDestination):
        async def call(self, operation, job_id, effect):
            await super().call(operation, job_id, effect)
            raise OutcomeUnknownError("no answer")
    ```

    Override an effect (`create()` to `submit()`) for another platform, or `execute()` for what becomes of a submitted job.

    Args:
        team: Host of the team.
        checksum: The digest that chunk lists show (`md5`, `sha1`, `sha256` or `crc32`), or None for a platform that shows none.

    Attributes:
        jobs: By id, oldest first.
        calls: Every operation so far.
    """

    def __init__(self, team: str = "acme", *, checksum: str | None = "md5") -> None:
        self.team = team
        self.checksum = checksum
        self.jobs: dict[str, MemoryJob] = {}
        self.calls: list[str] = []
        self._created = 0

    async def call(self, operation: str, job_id: str | None, effect: Callable[[], T]) -> T:
        """Carry out one call."""
        del job_id
        self.calls.append(operation)
        return effect()

    # --- Effects

    def create(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Make a job."""
        job = MemoryJob(self.new_id(), target, tuple(columns))
        self.jobs[job.id] = job
        return self.read(job.id)

    def new_id(self) -> JobId:
        """The id of the next job."""
        self._created += 1
        return JobId(f"job-{self._created}")

    def job(self, job_id: str) -> MemoryJob:
        """A job.

        Raises:
            NotFoundError: There is none.
        """
        if job_id not in self.jobs:
            raise NotFoundError(f"no job {job_id}", status=404)
        return self.jobs[job_id]

    def read(self, job_id: str) -> Job:
        """A job as the platform shows it."""
        job = self.job(job_id)
        return Job(job.id, job.status, target_name=job.target.table, type=job.target.job_type, logs=job.logs)

    def delete(self, job_id: str) -> None:
        """Forget a job; one that is gone already is no error."""
        self.jobs.pop(job_id, None)

    def store(self, job_id: str, payload: Payload, kind: ChunkType) -> None:
        """Take a chunk.

        Raises:
            NotFoundError, ConflictError: The job is gone, or not NEW.
        """
        job = self._new_job(job_id)
        checksum = None if self.checksum is None else payload.digests.get(self.checksum)
        job.chunks.append(RemoteChunk(f"chunk-{len(job.chunks)}", kind, checksum))
        job.payloads.append(payload)

    def listed(self, job_id: str) -> list[RemoteChunk]:
        """What a job holds."""
        return list(self.job(job_id).chunks)

    def submit(self, job_id: str, duplicate_removal_column: str | None) -> None:
        """Take a submit.

        Raises:
            NotFoundError, ConflictError: The job is gone, or not NEW.
        """
        del duplicate_removal_column
        self.execute(self._new_job(job_id))

    def execute(self, job: MemoryJob) -> None:
        """What becomes of a submitted job: it is DONE at once."""
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
        """All jobs."""
        return await self.call("list", None, lambda: [self.read(job_id) for job_id in self.jobs])

    async def delete_job(self, job_id: JobId) -> None:
        """See `delete()`."""
        await self.call("delete", job_id, lambda: self.delete(job_id))

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """See `store()`."""
        await self.call("upload", job_id, lambda: self.store(job_id, payload, kind))

    async def list_chunks(self, job_id: JobId) -> list[RemoteChunk]:
        """See `listed()`."""
        return await self.call("list_chunks", job_id, lambda: self.listed(job_id))

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """See `submit()`."""
        await self.call("submit", job_id, lambda: self.submit(job_id, duplicate_removal_column))

    async def aclose(self) -> None:
        """Nothing is open."""


class EmulatorThread:
    """An `Emulator` on an event loop of its own in a thread: for code without a loop, and for any mixture of loops.

    ```python
    with EmulatorThread() as emulator:
        subprocess.run(["pushengine", "push", "orders.csv", "--url", emulator.url])
        assert emulator.query("SELECT count(*) FROM orders") == [(3,)]
    ```

    Args:
        database: The DuckDB file of the tables; None keeps them in memory.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        settings: What the team looks like.

    Attributes:
        emulator: The emulator. Its attributes and `query` may be used from every thread and loop; `start` and `aclose` not.
    """

    def __init__(
        self,
        database: str | Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: EmulatorSettings | None = None,
    ) -> None:
        from pushengine.emulator import Emulator  # noqa: PLC0415 - not to be paid for by those who only want a clock

        self.emulator = Emulator(database, host=host, port=port, settings=settings)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Future[None] = Future()
        self._end: Future[None] = Future()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The team URL."""
        return self.emulator.url

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self.emulator.port

    @property
    def faults(self) -> Faults:
        """The fault plan at work; assigning a plan, or rules, starts it afresh."""
        return self.emulator.faults

    @faults.setter
    def faults(self, plan: FaultPlan | Iterable[Fault] | None) -> None:
        self.emulator.faults = plan

    def query(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run SQL on the tables; it sees jobs that are DONE. Blocks."""
        if self._loop is None:
            raise RuntimeError("the emulator is not running")
        return asyncio.run_coroutine_threadsafe(self.emulator.query(sql, params), self._loop).result()

    def start(self) -> None:
        """Listen; raises what starting the emulator raises."""
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        listening: Future[None] = Future()
        self._stop, self._end = Future(), Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="pushengine-emulator-loop")
        self._thread.start()
        try:
            listening.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End as `Emulator.aclose` does, and the thread with it; harmless when not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stop.set_result(None)
        thread.join()
        self._end.result()

    def _run(self, listening: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve(listening))
        except BaseException as exc:  # noqa: BLE001 - raised where close() is called
            self._end.set_exception(exc)
        else:
            self._end.set_result(None)

    async def _serve(self, listening: Future[None]) -> None:
        """Run until told to stop; a failure to start is told to the one who waits for it."""
        try:
            await self.emulator.start()
        except BaseException as exc:  # noqa: BLE001 - raised where start() is called
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
except ImportError:  # the fixtures are for pytest; everything above is for everybody
    pass
else:

    @pytest.fixture
    def pushengine_emulator_settings() -> EmulatorSettings:
        """What the emulated team looks like; define a fixture of this name to change it."""
        from pushengine.emulator import EmulatorSettings  # noqa: PLC0415 - see above

        return EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)

    @pytest.fixture
    def pushengine_emulator_thread(pushengine_emulator_settings: EmulatorSettings) -> Iterator[EmulatorThread]:
        """A running emulator for tests without an event loop; the same one that `pushengine_emulator` is."""
        with EmulatorThread(settings=pushengine_emulator_settings) as thread:
            yield thread

    @pytest.fixture
    def pushengine_emulator(pushengine_emulator_thread: EmulatorThread) -> Emulator:
        """A running emulator on a free port, ended after the test.

        It lives on a loop of its own, so that it answers whichever loop a test and its fixtures run on.
        """
        return pushengine_emulator_thread.emulator
