"""The library surface: `PushEngine`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pushengine.celonis.checks import run_checks
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials
from pushengine.errors import ConfigError, EngineClosedError, JournalError, PushEngineError
from pushengine.events import Event, EventSink, WaitStarted
from pushengine.journal.facts import PushRow
from pushengine.journal.state import PushHistory
from pushengine.journal.store import Journal, JournalFile
from pushengine.model import (
    CheckResult,
    ColumnType,
    Job,
    JobId,
    Mode,
    QuotaStatus,
    Receipt,
    RemoteChunk,
)
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push.cleanup import delete_forgotten_jobs, delete_old_spools, delete_spool, give_up_stale_pushes
from pushengine.push.context import Shared
from pushengine.push.outcome import target_of
from pushengine.push.plan import build_target
from pushengine.push.run import PushRun
from pushengine.quota.ledger import SqliteLedger, open_ledger, quota_status
from pushengine.quota.limiter import SubmitLimiter
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.aio import finish, told_when_slow
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers
from pushengine.sources import check_words, open_source
from pushengine.sources.spool import Spooled, SpoolHold, is_byte_stream, spool_source
from pushengine.state.folder import StateFolder, default_state_dir
from pushengine.state.lock import PushLock

_MAX_BUFFERED_EVENTS = 10_000


class PushEngine:
    """Pushes tables into one data pool. Use with `async with`.

    Many pushes may run at once on one engine: they share connections, memory budget, encoder threads and quota.

    Args:
        url: Team URL, `https://<team>.<cluster>.celonis.cloud`; `http://` for loopback addresses only.
        pool_id: Data pool.
        auth: `OAuthClient` (recommended), `UserApiKey` or `AppKey`.
        connection_id: Default data connection; None is the pool's global schema.
        settings: How to work.
        state_dir: Folder of the journal and the quota ledger; None is `PUSHENGINE_STATE_DIR` or the platform's user state folder.
        sinks: Take every event; called on the event loop, must be quick.
        runtime: Time, chance, files and threads, for tests and simulations.

    Raises:
        ConfigError: A bad URL, pool or setting.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_id: str,
        auth: Credentials,
        connection_id: str | None = None,
        settings: EngineSettings | None = None,
        state_dir: Path | None = None,
        sinks: Sequence[EventSink] = (),
        runtime: Runtime | None = None,
    ) -> None:
        self._url = url
        self._auth = auth
        self._settings = settings or EngineSettings()
        self._connection_id = connection_id
        self._state_dir = state_dir
        self._sinks = list(sinks)
        self._subscribers: set[asyncio.Queue[Event | None]] = set()
        self._encoders: ThreadPoolExecutor | None = None
        self._runtime = runtime or self._system_runtime()
        self._server_clock = ServerClock(self._runtime.clock)
        self._client = DataPushClient(
            url,
            pool_id,
            auth,
            settings=self._settings,
            clock=self._runtime.clock,
            on_server_date=self._server_clock.observe,
        )
        self._pool_id = pool_id
        self._shared: Shared | None = None
        self._journal: Journal | None = None
        self._spool_folder = Path()
        self._ledger: SqliteLedger | None = None
        self._drain: DrainSwitch | None = None
        self._pushes: set[asyncio.Task[Any]] = set()
        self._is_closed = False
        self._is_swept = False

    def _system_runtime(self) -> Runtime:
        self._encoders = ThreadPoolExecutor(self._settings.encoder_threads, thread_name_prefix="pushengine-encode")
        return Runtime(
            clock=SystemClock(),
            rng=random.SystemRandom(),
            filesystem=LocalFileSystem(),
            off_loop=asyncio.to_thread,
            new_workers=functools.partial(ThreadWorkers, self._encoders),
        )

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise EngineClosedError("this engine is closed", hint="make a new one")
        settings = self._settings
        self._drain = DrainSwitch()
        folder = StateFolder(self._state_dir or default_state_dir())
        await self._runtime.off_loop(folder.make)
        self._ledger = await self._runtime.off_loop(open_ledger, settings, folder.quota)
        self._journal = Journal(folder.journal)
        self._spool_folder = folder.spool
        take_lock = functools.partial(PushLock, folder.locks)
        try:
            with self._told_when_slow("the journal is slow, or another process has it locked"):
                await self._journal.open()
                await self._prune(self._journal, take_lock)
        except BaseException:
            await self.aclose()
            raise
        self._shared = Shared(
            destination=self._client,
            pool_id=self._pool_id,
            journal=self._journal,
            take_lock=take_lock,
            limiter=SubmitLimiter(
                self._ledger,
                team=self._client.team,
                server_clock=self._server_clock,
                clock=self._runtime.clock,
                off_loop=self._runtime.off_loop,
                rng=self._runtime.rng,
                spacing_seconds=self._ledger.spacing_seconds,
                submits_per_hour=settings.submits_per_hour,
            ),
            policy=RetryPolicy(max_attempts=settings.max_attempts, max_wait_seconds=settings.retry_max_wait_seconds),
            budget=ByteBudget(settings.max_memory_bytes),
            settings=settings,
            runtime=self._runtime,
            drain=self._drain,
            sink=self,
            table_locks={},
            finished=set(),
        )
        return self

    async def _prune(self, journal: Journal, take_lock: Callable[[str], PushLock]) -> None:
        clock, stale_seconds = self._runtime.clock, self._settings.stale_hours * 3600.0
        before = clock.now() - self._settings.history_days * 86_400.0
        await journal.do(lambda file: file.prune(before))
        await give_up_stale_pushes(journal=journal, take_lock=take_lock, clock=clock, stale_seconds=stale_seconds)
        await delete_old_spools(
            self._spool_folder,
            journal=journal,
            before=clock.now() - stale_seconds,
            off_loop=self._runtime.off_loop,
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is not None and self._shared is not None:
            # Whoever asked for these pushes has not come to the end of what it wanted with them, and may ask again: then it is told again.
            self._shared.finished.clear()
        await self.aclose()

    async def aclose(self) -> None:
        """Abort what still runs, close connections and files. Leaves no task, thread or socket; safe to call twice."""
        self._is_closed = True
        current = asyncio.current_task()
        running = {task for task in self._pushes if task is not current}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        await self._client.aclose()
        if self._journal is not None:
            await self._tell_journal_who_was_told(self._journal)
            await self._journal.aclose()
        if self._ledger is not None:
            await self._runtime.off_loop(self._ledger.close)
        if self._encoders is not None:
            self._encoders.shutdown(wait=True)
        for queue in self._subscribers:
            _put_dropping_oldest(queue, None)

    async def _tell_journal_who_was_told(self, journal: Journal) -> None:
        """Callers have the receipts of these pushes: the same command means a new push from now on."""
        finished, now = list(self._shared.finished) if self._shared else [], self._runtime.clock.now()
        if not finished:
            return

        def write(file: JournalFile) -> None:
            for push_id in finished:
                file.set_state(push_id, "done", now)

        with contextlib.suppress(JournalError):
            await journal.do(write)

    def drain(self) -> None:
        """Take no new rows, finish chunks in flight; running pushes end with `EngineClosedError`, those of files can be resumed."""
        if self._drain is not None:
            self._drain.set()

    async def push(
        self,
        source: Any,
        *,
        table: str,
        mode: Mode = "replace",
        keys: Sequence[str] = (),
        connection_id: str | None = None,
        format: str | None = None,  # noqa: A002 - the option's name on the command line too
        schema: Any = None,
        column_types: Mapping[str, ColumnType] | None = None,
        duplicate_removal_column: str | None = None,
        spool: bool = False,
    ) -> Receipt:
        """Push one source into one table and wait until the platform has loaded it.

        Args:
            source: Path, glob, directory or a list of them; anything with `__arrow_c_stream__` (pandas, polars, DuckDB, pyarrow); or an async
                iterator of `pyarrow.RecordBatch`; or a binary file object (standard input), with its format.
            table: Target table.
            mode: replace, append, upsert or delete.
            keys: Primary key columns, for upsert and delete.
            connection_id: Data connection, else the engine's.
            format: csv, parquet or arrow; by the files' names if not given.
            schema: `pyarrow.Schema` of an iterator's batches.
            column_types: Types by column name, where the found ones are not wanted.
            duplicate_removal_column: Of rows with equal keys the one with the highest value here wins.
            spool: Keep a source that can be read only once on disk until it is loaded, so that the push can start again or be resumed after
                a crash. A file object always is.

        Returns:
            The receipt of a push that is DONE.

        Raises:
            ConfigError: Arguments that do not fit together.
            SourceError: Unreadable, malformed or unsuitable input; nothing was submitted.
            ApiError: The platform refused; AuthenticationError and PermissionDeniedError with remedies.
            TransportError: The platform cannot be reached.
            JobError: The job failed, timed out or vanished.
            EngineClosedError: The engine was drained or closed.
        """
        check_words(source)
        target = build_target(
            table,
            mode=mode,
            keys=keys,
            connection_id=self._connection_id if connection_id is None else connection_id,
            settings=self._settings,
            duplicate_removal_column=duplicate_removal_column,
        )
        shared = self._opened()
        push_id = self._new_push_id()
        with self._running(), SpoolHold() as hold:
            content = None
            if spool or is_byte_stream(source):
                source, digest = await self._spool(source, push_id, hold, format=format, schema=schema)
                content = f"stream {source.suffix} {digest}"  # the same command with the same content is the same push
                format = schema = None  # noqa: A001 - the file's name tells
            run = PushRun(
                source,
                target,
                shared,
                push_id=push_id,
                source_format=format,
                arrow_schema=schema,
                column_types=column_types,
                content=content,
            )
            return await self._run(run, shared.journal, hold)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """The current task works on a push: `aclose()` cancels it and waits for it."""
        task = asyncio.current_task()
        is_nested = task is None or task in self._pushes
        if task is not None:
            self._pushes.add(task)
        try:
            yield
        finally:
            if not is_nested:
                self._pushes.discard(task)

    async def _spool(
        self,
        source: Any,
        push_id: str,
        hold: SpoolHold,
        *,
        format: str | None,  # noqa: A002 - as in `push`
        schema: Any,
    ) -> Spooled:
        open_rows = functools.partial(
            open_source,
            source,
            format=format,
            schema=schema,
            settings=self._settings,
            filesystem=self._runtime.filesystem,
        )
        with self._told_when_slow("the stream is read and kept on disk first", push_id):
            return await spool_source(
                source,
                self._spool_folder,
                push_id,
                hold=hold,
                source_format=format,
                open_rows=open_rows,
                off_loop=self._runtime.off_loop,
            )

    def _told_when_slow(self, reason: str, push_id: str = "") -> contextlib.AbstractContextManager[None]:
        return told_when_slow(functools.partial(self.emit, WaitStarted(push_id=push_id, reason=reason)))

    def _spooled(self, spec: Any) -> Path | None:
        path = Path(spec) if isinstance(spec, str | Path) else None
        return path if path is not None and path.parent == self._spool_folder else None

    async def _forget_spool(self, path: Path, journal: Journal) -> None:
        """What was kept of a source is not needed any more, unless an open or unknown push reads it; if the journal cannot say, it stays."""
        with contextlib.suppress(JournalError):
            await delete_spool(path, journal=journal, off_loop=self._runtime.off_loop)

    async def resume(self, push_id: str) -> Receipt:
        """Go on with a push of files that a killed or interrupted process left; as running its command again.

        Raises:
            ConfigError: No such push, it is over, or it belongs to another team or pool.
            PushEngineError: As `push()`.
        """
        shared = self._opened()
        row = await shared.journal.read(lambda file: file.push(push_id))
        if row is None or row.state not in ("open", "finished") or push_id in shared.finished:
            raise ConfigError(
                f"there is no push {push_id} to go on with" if row is None else f"push {push_id} is over",
                key="push_id",
                hint="`pushengine history` lists pushes",
            )
        if (row.team, row.pool_id) != (self._client.team, self._pool_id):
            raise ConfigError(
                f"push {push_id} goes to pool {row.pool_id} of {row.team}, not to this one",
                key="push_id",
                hint="set PUSHENGINE_URL and PUSHENGINE_POOL_ID to those",
            )
        state = PushHistory(await shared.journal.read(lambda file: file.facts(push_id))).state
        if (
            row.state == "finished" and state.receipt is not None
        ):  # a process got to DONE and was killed before it said so
            shared.finished.add(push_id)
            return dataclasses.replace(Receipt.from_dict(state.receipt), resumed=True)
        planned = state.planned
        if not planned:
            raise ConfigError(
                f"push {push_id} was ended before it sent anything", key="push_id", hint="run its command again"
            )
        source = planned.get("source")
        if not source and not state.may_have_run:
            raise ConfigError(
                f"push {push_id} read an object in memory, which is gone", key="push_id", hint="push it again"
            )
        run = PushRun(
            source[0] if source and len(source) == 1 else source,
            dataclasses.replace(target_of(state), file_type=self._settings.file_type),
            shared,
            push_id=self._new_push_id(),
            source_format=planned["format"],
            column_types=planned["column_types"],
            resumes=row,
        )
        self._is_swept = True  # who resumes asks for old pushes too: they are not forgotten
        with self._running(), SpoolHold() as hold:
            return await self._run(run, shared.journal, hold)

    async def open_pushes(self) -> list[PushRow]:
        """Pushes into this pool that a killed or interrupted process left, oldest first."""
        shared = self._opened()
        rows = await shared.journal.read(lambda file: file.pushes(state="open"))
        return [row for row in reversed(rows) if (row.team, row.pool_id) == (self._client.team, self._pool_id)]

    async def _run(self, run: PushRun, journal: Journal, hold: SpoolHold) -> Receipt:
        spooled = self._spooled(run.spec)
        if spooled is not None:
            hold.take(spooled)
        try:
            await self._sweep()
            return await run.run()
        finally:
            hold.release()
            if spooled is not None:
                await finish(self._forget_spool(spooled, journal))

    async def _sweep(self) -> None:
        """Once, before the first push: delete jobs of ours that earlier processes could not."""
        shared = self._opened()
        if self._is_swept:
            return
        self._is_swept = True
        sweeping = self._told_when_slow("jobs that earlier pushes left behind are deleted first")
        with contextlib.suppress(PushEngineError), sweeping:
            await delete_forgotten_jobs(
                self._client,
                pool_id=self._pool_id,
                journal=shared.journal,
                take_lock=shared.take_lock,
                clock=self._runtime.clock,
                stale_seconds=self._settings.stale_hours * 3600.0,
                sink=self,
            )

    def _new_push_id(self) -> str:
        now = dt.datetime.fromtimestamp(self._runtime.clock.now(), tz=dt.UTC)
        return f"{now:%Y%m%dT%H%M%SZ}-{self._runtime.rng.getrandbits(32):08x}"

    async def events(self) -> AsyncIterator[Event]:
        """What happens from now on until the engine is closed. A reader that falls 10,000 events behind misses the oldest."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_MAX_BUFFERED_EVENTS)
        if self._is_closed:
            return
        self._subscribers.add(queue)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._subscribers.discard(queue)

    def emit(self, event: Event) -> None:
        """Give an event to all sinks and subscribers (the engine's own pushes call this)."""
        for sink in self._sinks:
            sink.emit(event)
        for queue in self._subscribers:
            _put_dropping_oldest(queue, event)

    async def list_jobs(self) -> list[Job]:
        """All push jobs of the pool, whoever made them."""
        self._opened()
        return await self._client.list_jobs()

    async def get_job(self, job_id: str) -> Job:
        """One push job with its logs."""
        self._opened()
        return await self._client.get_job(JobId(job_id))

    async def list_chunks(self, job_id: str) -> list[RemoteChunk]:
        """What a job holds."""
        self._opened()
        return await self._client.list_chunks(JobId(job_id))

    async def delete_job(self, job_id: str) -> None:
        """Delete a job and its chunks; a job that is gone already is no error."""
        self._opened()
        await self._client.delete_job(JobId(job_id))

    async def quota(self) -> QuotaStatus:
        """What is left of this hour, as far as this host's ledger knows."""
        self._opened()
        ledger = self._ledger
        assert ledger is not None  # noqa: S101 - set together with what _opened() checks
        now, host_now = self._server_clock.now(), self._runtime.clock.now()
        return await self._runtime.off_loop(quota_status, ledger, self._client.team, now, host_now)

    async def check(self) -> list[CheckResult]:
        """URL, TLS, credentials, scope and pool permission, each with its remedy; sends nothing that changes anything."""
        self._opened()
        return await run_checks(self._client, self._url, self._auth)

    def _opened(self) -> Shared:
        if self._shared is None or self._is_closed:
            raise EngineClosedError(
                "this engine is closed" if self._is_closed else "this engine is not open",
                hint="use it with `async with`",
            )
        return self._shared

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._pushes)} pushes running"
        memory = f", {self._shared.budget!r}" if self._shared else ""
        return f"<PushEngine {self._client.team} {state}{memory}>"


def _put_dropping_oldest(queue: asyncio.Queue[Any], item: Any) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
