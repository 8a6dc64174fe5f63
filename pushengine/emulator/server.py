"""The complete emulator: its HTTP server, the threads for its blocking work, and the execution of jobs."""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
import pyarrow as pa
from aiohttp import web

from pushengine.emulator.chunks.uploads import Spool
from pushengine.emulator.faults import Fault, FaultPlan, Faults
from pushengine.emulator.http.app import EmulatorApp
from pushengine.emulator.http.connections import SERVER_LOG, Connections
from pushengine.emulator.http.fault_injection import Injection
from pushengine.emulator.http.pools import PoolRoutes
from pushengine.emulator.jobs.model import Job, JobStatus
from pushengine.emulator.jobs.service import EmulatorService
from pushengine.emulator.settings import EmulatorSettings
from pushengine.emulator.tables.catalog import CATALOG_SQL, CatalogColumn, catalog_columns
from pushengine.emulator.tables.load import Load, LoadError
from pushengine.emulator.tables.store import Store
from pushengine.emulator.tls import LocalCertificate

_THREADS = 8
_LOAD_THREADS = 4
_READ_BUFFER_BYTES = 1024 * 1024
_SHUTDOWN_SECONDS = 1.0
_LINGERING_SECONDS = 10.0  # time to read on after an early response, so that a client that still sends can read it
_JOIN_POLL_SECONDS = 0.001

_log = logging.getLogger("pushengine.emulator")
_Result = TypeVar("_Result")


class Emulator:
    """An emulator of the Data Push API of one team, on this machine.

    Args:
        database: DuckDB file for the tables; None keeps them in memory.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        settings: Limits, credentials and behavior of the team; None uses the defaults.
        tls: Certificate to serve https with; None serves http.

    Attributes:
        service: The state machine, for tests that inspect the state of the emulator.
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
        self.settings = settings or EmulatorSettings()
        self.service = EmulatorService(self.settings)
        self._database = None if database is None else Path(database)
        self._host = host
        self._port = port
        self._tls = tls
        self._spool: Spool | None = None
        self._store: Store | None = None
        self._threads: ThreadPoolExecutor | None = None
        # Loads have threads of their own, so that no other work waits for a large one.
        self._load_threads: ThreadPoolExecutor | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._connections: Connections | None = None
        self._executions: set[asyncio.Task[None]] = set()
        self._table_locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._closing = asyncio.Event()
        self._injection = Injection(
            self.service, faults=Faults(self.settings.fault_plan), pause=self._pause, sweep=self.sweep
        )

    def __repr__(self) -> str:
        where = "memory" if self._database is None else str(self._database)
        state = f"listening on {self.url}" if self._runner is not None else "closed"
        return f"<Emulator {state}, tables in {where}, {len(self.service.jobs)} jobs>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def port(self) -> int:
        """The port that the emulator listens on, once started."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL of the emulated team."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._tls is None else 'https'}://{host}:{self._port}"

    @property
    def faults(self) -> Faults:
        """The active fault plan, with its counters and the faults that have fired.

        Assigning a plan, or rules, replaces it and resets the counters; None removes all faults.
        """
        return self._injection.faults

    @faults.setter
    def faults(self, plan: FaultPlan | Iterable[Fault] | None) -> None:
        rules = plan if plan is None or isinstance(plan, FaultPlan) else FaultPlan(tuple(plan))
        self._injection.faults = Faults(rules)

    @property
    def pending_commits(self) -> int:
        """Number of calls that a fault cut off from their caller and that are still to be processed."""
        return self._injection.pending

    @property
    def connections(self) -> int:
        """Number of connections that are open."""
        return 0 if self._connections is None else len(self._connections)

    async def start(self) -> None:
        """Open the database and start listening."""
        if self._runner is not None:
            raise RuntimeError("the emulator is already running")
        self._closing = asyncio.Event()  # a new one: an Event stays bound to the loop that first waited on it
        self._table_locks.clear()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pushengine-emulator")
        self._load_threads = ThreadPoolExecutor(_LOAD_THREADS, thread_name_prefix="pushengine-emulator-load")
        try:
            self._spool = await self.run_blocking(Spool)
            self._store = Store(self._database, self._spool.path)
            await self.run_blocking(self._store.open)
            await self._listen(self._spool)
        except BaseException:
            await self.aclose()
            raise
        _log.info("emulator_started url=%s", self.url)

    async def aclose(self) -> None:
        """Stop listening, finish submitted jobs without further delay, and release all files and threads.

        Calls that a fault has scheduled for later are dropped.
        """
        self._closing.set()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._injection.finish()
        while self._executions:
            await asyncio.wait(self._executions)
        load_threads, self._load_threads = self._load_threads, None
        if load_threads is not None:
            await _join_threads(load_threads)
        threads, self._threads = self._threads, None
        if threads is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(threads, self._close_storage)
            finally:
                await _join_threads(threads)

    async def query(self, sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run SQL on the tables, off the event loop; it sees the rows of a job only after they are committed."""
        if self._store is None:
            raise RuntimeError("the emulator is not running")
        return await self.run_blocking(self._store.query, sql, params)

    async def run_blocking(self, function: Callable[..., _Result], *args: Any) -> _Result:
        """Run a blocking function on one of the emulator's threads and return its result."""
        if self._threads is None:
            raise RuntimeError("the emulator is not running")
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    def execute(self, job: Job) -> None:
        """Start the execution of a queued job in the background."""
        task = asyncio.get_running_loop().create_task(self._execute(job), name=f"emulator-job-{job.id}")
        self._executions.add(task)
        task.add_done_callback(self._executions.discard)

    async def sweep(self) -> None:
        """Delete the spool files that no job needs anymore."""
        garbage = self.service.take_garbage()
        if garbage:
            await self.run_blocking(_unlink, garbage)

    async def _listen(self, spool: Spool) -> None:
        app = EmulatorApp(
            self.service,
            spool,
            pools=PoolRoutes(self.service, self._read_catalog),
            run_blocking=self.run_blocking,
            execute=self.execute,
            sweep=self.sweep,
            injection=self._injection,
        )
        self._runner = web.AppRunner(
            app.application,
            access_log=None,
            logger=SERVER_LOG,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            read_bufsize=_READ_BUFFER_BYTES,
            auto_decompress=False,
            lingering_time=min(_LINGERING_SECONDS, self.settings.stall_timeout_seconds),
        )
        await self._runner.setup()
        context = None if self._tls is None else self._tls.context
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp has no server")
        self._connections = app.connections
        build = self._connections.watched(server)
        self._listener = await asyncio.get_running_loop().create_server(build, self._host, self._port, ssl=context)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _read_catalog(self) -> list[CatalogColumn]:
        return catalog_columns(await self.query(CATALOG_SQL))

    async def _execute(self, job: Job) -> None:
        await self._pause(self.settings.queue_seconds)
        self.service.begin(job)
        await self._pause(self.settings.run_seconds)
        if job.is_lost:
            self.service.discard(job)
        else:
            table = self.service.schema_name(job).casefold(), job.spec.target_name.casefold()
            async with self._table_locks[table]:
                status, logs = await asyncio.get_running_loop().run_in_executor(self._load_threads, self._apply, job)
            self.service.finish(job, status, logs)
        await self.sweep()

    async def _pause(self, seconds: float) -> bool:
        """Wait for `seconds`, or until the emulator closes; return False in the second case."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return True
        return False

    def _apply(self, job: Job) -> tuple[JobStatus, list[str]]:
        if self._store is None:
            raise RuntimeError("the emulator is not running")
        schema = self.service.schema_name(job)
        try:
            logs = self._store.transact(schema, lambda connection: Load(connection, job, schema, self.settings).run())
        except (LoadError, duckdb.Error, pa.ArrowException, OSError, ValueError) as exc:
            return JobStatus.ERROR, [f"The data could not be loaded: {exc}"]
        except Exception as exc:  # noqa: BLE001 - a bug here must end the job with ERROR, not leave it RUNNING forever
            _log.exception("execution_failed job_id=%s", job.id)
            return JobStatus.ERROR, [f"Internal error: {exc!r}"]
        return JobStatus.DONE, logs

    def _close_storage(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None


async def _join_threads(threads: ThreadPoolExecutor) -> None:
    """Wait for the threads to end without blocking the event loop, which other servers and clients may share."""
    waiting = threading.Thread(target=threads.shutdown, name="pushengine-emulator-end")
    waiting.start()
    while waiting.is_alive():  # noqa: ASYNC110 - a thread that sets an event is itself still alive at that point
        await asyncio.sleep(_JOIN_POLL_SECONDS)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
