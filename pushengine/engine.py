"""The library surface: `PushEngine`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pushengine.celonis.checks import run_checks
from pushengine.celonis.data_push import DataPushClient
from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials
from pushengine.errors import EngineClosedError
from pushengine.events import Event, EventSink
from pushengine.journal.facts import PushRow
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
from pushengine.pipeline.context import Shared
from pushengine.push.opening import PushRequest, find_request
from pushengine.push.plan import build_target
from pushengine.push.resources import EngineResources
from pushengine.push.run import PushRun
from pushengine.push.spooling import SpoolKeeper
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.event_bus import EventBus
from pushengine.runtime.runtime import Runtime, system_runtime
from pushengine.sources import check_words
from pushengine.sources.spool import SpoolHold, is_byte_stream


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
        self._pool_id = pool_id
        self._connection_id = connection_id
        self._runtime = runtime or system_runtime(self._settings.encoder_threads)
        self._bus = EventBus(sinks)
        server_clock = ServerClock(self._runtime.clock)
        self._client = DataPushClient(
            url,
            pool_id,
            auth,
            settings=self._settings,
            filesystem=self._runtime.filesystem,
            clock=self._runtime.clock,
            on_server_date=server_clock.observe,
        )
        self._resources = EngineResources(
            self._client,
            pool_id,
            state_dir=state_dir,
            settings=self._settings,
            runtime=self._runtime,
            server_clock=server_clock,
            sink=self._bus,
        )
        self._shared: Shared | None = None
        self._drain = DrainSwitch()
        self._pushes: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise EngineClosedError("this engine is closed", hint="make a new one")
        try:
            self._shared = await self._resources.open(self._drain)
        except BaseException:
            await self.aclose()
            raise
        return self

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
        try:
            if running:
                await asyncio.wait(running)
            await self._client.aclose()
            await self._resources.aclose()
            self._runtime.close()
        finally:
            self._bus.close()

    def drain(self) -> None:
        """Take no new rows, finish chunks in flight; running pushes end with `EngineClosedError`, those of files can be resumed."""
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
        keeper = SpoolKeeper(self._resources.spool_folder, shared)
        with self._running(), SpoolHold() as hold:
            content = None
            if spool or is_byte_stream(source):
                with self._resources.announce_when_slow("the stream is read and kept on disk first", push_id):
                    source, digest = await keeper.keep(source, push_id, hold, source_format=format, schema=schema)
                content = f"stream {source.suffix} {digest}"  # the same command with the same content is the same push
                format = schema = None  # noqa: A001 - the file's name tells
            request = PushRequest(
                spec=source,
                target=target,
                source_format=format,
                arrow_schema=schema,
                column_types=dict(column_types or {}),
                content=content,
            )
            run = PushRun(request, shared, push_id)  # its time begins here
            async with keeper.held(source, hold):
                await self._resources.sweep()
                return await run.run()

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

    async def resume(self, push_id: str) -> Receipt:
        """Go on with a push of files that a killed or interrupted process left; as running its command again.

        Raises:
            ConfigError: No such push, it is over, or it belongs to another team or pool.
            PushEngineError: As `push()`.
        """
        shared = self._opened()
        found = await find_request(shared, push_id)
        if isinstance(found, Receipt):
            shared.finished.add(push_id)
            return found
        self._resources.skip_sweep()
        keeper = SpoolKeeper(self._resources.spool_folder, shared)
        with self._running(), SpoolHold() as hold:
            async with keeper.held(found.spec, hold):
                return await PushRun(found, shared, self._new_push_id()).run()

    async def open_pushes(self) -> list[PushRow]:
        """Pushes into this pool that a killed or interrupted process left, oldest first."""
        shared = self._opened()
        rows = await shared.journal.read(lambda file: file.pushes(state="open"))
        return [row for row in reversed(rows) if (row.team, row.pool_id) == (self._client.team, self._pool_id)]

    def _new_push_id(self) -> str:
        now = dt.datetime.fromtimestamp(self._runtime.clock.now(), tz=dt.UTC)
        return f"{now:%Y%m%dT%H%M%SZ}-{self._runtime.rng.getrandbits(32):08x}"

    def events(self) -> AsyncIterator[Event]:
        """What happens from now on until the engine is closed. A reader that falls 10,000 events behind misses the oldest."""
        return self._bus.subscribe()

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
        return await self._resources.quota()

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
