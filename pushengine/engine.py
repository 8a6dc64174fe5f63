"""The library's entry point: `PushEngine`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from pushengine.celonis.checks import run_checks
from pushengine.celonis.data_push import DataPushClient
from pushengine.celonis.wire import parse_team_url
from pushengine.config.options import LoadOptions, PushOptions
from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials
from pushengine.errors import EngineClosedError
from pushengine.events import Event, EventSink
from pushengine.interfaces import Slot
from pushengine.journal.facts import PushRow
from pushengine.model import (
    CheckResult,
    Claim,
    Job,
    JobId,
    Mode,
    QuotaStatus,
    Receipt,
    RemoteChunk,
)
from pushengine.pipeline.context import Place, Shared
from pushengine.push.earlier import supersede_unsubmitted, table_locked
from pushengine.push.opening import PushRequest, checked_load_id, find_request
from pushengine.push.plan import build_target
from pushengine.push.resources import EngineResources, HostResources
from pushengine.push.run import PushRun
from pushengine.push.spooling import SpoolKeeper
from pushengine.runtime.event_bus import EventBus
from pushengine.runtime.runtime import Runtime, system_runtime
from pushengine.sources import check_paths
from pushengine.sources.spool import SpoolHold


class PoolEngine:
    """What an engine does besides pushing: it opens and closes, and reads jobs, quota and permissions of its pool."""

    _owns_host = True
    """Whether closing the engine closes its host."""

    def _attach(
        self,
        host: HostResources,
        url: str,
        pool_id: str,
        auth: Credentials,
        *,
        connection_id: str | None,
        settings: EngineSettings,
    ) -> None:
        """Set up everything but the host, which may serve other engines too."""
        self._url = url
        self._auth = auth
        self._settings = settings
        self._pool_id = pool_id
        self._connection_id = connection_id
        self._host = host
        self._runtime = host.runtime
        self._bus = host.bus
        _, team = parse_team_url(url)
        self._client = DataPushClient(
            url,
            pool_id,
            auth,
            settings=settings,
            filesystem=host.runtime.filesystem,
            clock=host.runtime.clock,
            on_server_date=host.server_clock(team).observe,
        )
        self._resources = EngineResources(host, self._client, pool_id=pool_id, settings=settings)
        self._shared: Shared | None = None
        self._pushes: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    @property
    def team(self) -> str:
        """Host of the team, `<team>.<cluster>.celonis.cloud`: whose quota the submits spend."""
        return self._client.team

    @property
    def pool_id(self) -> str:
        """Id of the data pool."""
        return self._pool_id

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise EngineClosedError("this engine is closed", hint="create a new PushEngine")
        if self._shared is not None:
            return self
        try:
            await self._host.open(self._pool_id)
            self._shared = self._resources.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is not None and self._shared is not None:
            # The caller's block failed, so it may not have used its receipts and may run the same commands again. Since these pushes are
            # not marked as done, they then return their receipts again instead of loading the rows a second time.
            self._shared.finished.clear()
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel running pushes, then close connections and files. Leaves no task, thread or socket; safe to call twice."""
        self._is_closed = True
        current = asyncio.current_task()
        running = {task for task in self._pushes if task is not current}
        for task in running:
            task.cancel()
        try:
            if running:
                await asyncio.wait(running)
            await self._client.aclose()
            if self._owns_host:
                await self._host.aclose()
        finally:
            if self._owns_host:
                self._bus.close()

    def drain(self) -> None:
        """Shut down gracefully: read no new rows and finish the chunks in flight.

        Running pushes end with `EngineClosedError`; pushes of files can be resumed. All engines of one host drain together.
        """
        self._host.drain.set()

    @contextlib.contextmanager
    def _running(self, slot: Slot | None) -> Iterator[None]:
        """Register the current task as working on a push, so that `aclose()` cancels it and waits for it; release its slot at the end."""
        task = asyncio.current_task()
        is_nested = task is None or task in self._pushes
        if task is not None:
            self._pushes.add(task)
        try:
            yield
        finally:
            if slot is not None:
                slot.release()
            if not is_nested:
                self._pushes.discard(task)

    def events(self) -> AsyncIterator[Event]:
        """Iterate over the events emitted after this call, until the engine is closed.

        A reader that falls 10,000 events behind misses the oldest ones.
        """
        return self._bus.subscribe()

    async def list_jobs(self) -> list[Job]:
        """Return all push jobs of the pool, including those created by other tools."""
        self._require_open()
        return await self._client.list_jobs()

    async def get_job(self, job_id: str) -> Job:
        """Return one push job with its logs."""
        self._require_open()
        return await self._client.get_job(JobId(job_id))

    async def list_chunks(self, job_id: str) -> list[RemoteChunk]:
        """Return the chunks that a job holds."""
        self._require_open()
        return await self._client.list_chunks(JobId(job_id))

    async def delete_job(self, job_id: str) -> None:
        """Delete a job and its chunks. A job that no longer exists is not an error."""
        self._require_open()
        await self._client.delete_job(JobId(job_id))

    async def quota(self) -> QuotaStatus:
        """Return what is left of this hour's submit quota, as far as this host's ledger knows."""
        self._require_open()
        return await self._resources.quota()

    async def check(self) -> list[CheckResult]:
        """Check URL, TLS, credentials, scope and pool permission, with a remedy for each failure. Changes nothing on the platform."""
        self._require_open()
        return await run_checks(self._client, self._url, self._auth)

    def _require_open(self) -> Shared:
        if self._shared is None or self._is_closed:
            state = "closed" if self._is_closed else "not open"
            raise EngineClosedError(f"this engine is {state}", hint="use it with `async with`")
        return self._shared

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._pushes)} pushes running"
        memory = f", {self._shared.budget!r}" if self._shared else ""
        return f"<{type(self).__name__} {self._client.team} {state}{memory}>"


class PushEngine(PoolEngine):
    """Loads tables into one data pool. Use it with `async with`.

    Many pushes can run on one engine at the same time: they share connections, memory budget, encoder threads and quota.

    Args:
        url: Team URL, `https://<team>.<cluster>.celonis.cloud`; `http://` is accepted for loopback addresses only.
        pool_id: Id of the data pool.
        auth: `OAuthClient` (recommended), `UserApiKey` or `AppKey`.
        connection_id: Default data connection; None means the pool's global schema.
        settings: Engine settings; None means the defaults.
        state_dir: Folder of the journal and the quota ledger; None means `PUSHENGINE_STATE_DIR`, or else the user's state folder.
        sinks: Receive every event. They are called on the event loop and must return quickly.
        runtime: Clock, random numbers, files and threads; tests and simulations pass their own.

    Raises:
        ConfigError: The URL, the pool or a setting is invalid, or `state_dir` is empty.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_id: str,
        auth: Credentials,
        connection_id: str | None = None,
        settings: EngineSettings | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        sinks: Sequence[EventSink] = (),
        runtime: Runtime | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        host = HostResources(
            state_dir=state_dir,
            settings=settings,
            runtime=runtime or system_runtime(settings.encoder_threads),
            bus=EventBus(sinks),
        )
        self._attach(host, url, pool_id, auth, connection_id=connection_id, settings=settings)

    async def push(
        self,
        source: Any,
        *,
        table: str,
        mode: Mode = "replace",
        keys: Sequence[str] = (),
        connection_id: str | None = None,
        format: str | None = None,  # noqa: A002 - the command line option has the same name
        schema: Any = None,
        duplicate_removal_column: str | None = None,
        spool: bool = False,
        priority: int = 0,
        slot: Slot | None = None,
        load_id: str | None = None,
        claim: Claim | None = None,
        **options: Unpack[PushOptions],
    ) -> Receipt:
        """Push one source into one table and wait until the platform has loaded it.

        Args:
            source: A path, glob or directory, or a list of them; any object with `__arrow_c_stream__` (pandas, polars, DuckDB, pyarrow); an
                async iterator of `pyarrow.RecordBatch`; or a binary file object such as standard input, which also needs `format`, as
                does a pipe (a FIFO, `/dev/stdin` or `/dev/fd/N`) whose name does not show it.
            table: Target table.
            mode: replace, append, upsert or delete.
            keys: Primary key columns, for upsert and delete.
            connection_id: Data connection; None means the engine's default.
            format: csv, parquet or arrow; None means to go by the file names.
            schema: `pyarrow.Schema` of the batches of an async iterator.
            duplicate_removal_column: Of the rows with equal keys, the one with the highest value in this column wins; the platform decides.
            spool: Keep a source that can be read only once on disk until it is loaded, so that the push can restart, or be resumed after a
                crash. File objects and pipes are always spooled.
            priority: Of the submits that wait for quota in this process, those of a higher priority leave first.
            slot: Acquired before the source is read; released as soon as the platform has all rows, and in every way out. With it, a
                caller limits how many pushes read and upload at once.
            load_id: A name for this push, such as an id of the caller's run. A push that is DONE under this name is not repeated: its
                receipt is returned, however long ago that was and whatever its files hold now. A push that failed may be tried again.
            claim: What the push means to a load of the config file; recorded with it.
            options: Column types, selection, drift policy and more: see `pushengine.config.PushOptions`.

        Returns:
            The receipt of the push, which is DONE.

        Raises:
            ConfigError: The arguments are invalid or contradict each other.
            SourceError: The input is unreadable, malformed or unsuitable; nothing was submitted.
            ApiError: The platform refused a request; AuthenticationError and PermissionDeniedError name a remedy.
            TransportError: The platform cannot be reached.
            JobError: The job failed, timed out or vanished.
            EngineClosedError: The engine was drained or closed.
        """
        check_paths(source)
        target = build_target(
            table,
            mode=mode,
            keys=keys,
            connection_id=self._connection_id if connection_id is None else connection_id,
            settings=self._settings,
            duplicate_removal_column=duplicate_removal_column,
        )
        load_options, overrides = LoadOptions.split(options)
        shared = self._require_open()
        push_id = self._new_push_id()
        keeper = SpoolKeeper(self._resources.spool_folder, shared)
        request = PushRequest(
            spec=source,
            target=target,
            source_format=format,
            arrow_schema=schema,
            options=load_options,
            overrides=overrides,
            place=Place(slot, priority),
            claim=claim,
            load_id=checked_load_id(load_id),
        )
        with self._running(slot), SpoolHold() as hold:
            request = await keeper.keep(request, push_id, hold, always=spool)
            run = PushRun(request, shared, push_id)  # starts measuring the elapsed time
            async with keeper.held(request.spec, hold):
                return await run.run(first=self._resources.sweep)

    async def resume(self, push_id: str, *, priority: int = 0, slot: Slot | None = None) -> Receipt:
        """Resume a push of files that a killed or interrupted process left unfinished, like running its command again.

        Unlike its command, it continues with the settings that the push was planned with, as far as they determine its rows or bytes. If
        that is impossible (another version of pyarrow, or less memory), or if the files have changed, a new push with these settings
        replaces it; its `PushSuperseded` event has the reason.

        Args:
            push_id: Id of the push.
            priority: Same as for `push()`.
            slot: Same as for `push()`.

        Raises:
            ConfigError: The push does not exist, is over, or belongs to another team or pool.
            PushEngineError: As for `push()`.
        """
        shared = self._require_open()
        found = await find_request(shared, push_id)
        if isinstance(found, Receipt):
            shared.finished.add(push_id)
            return found
        self._resources.skip_sweep()
        keeper = SpoolKeeper(self._resources.spool_folder, shared)
        found = dataclasses.replace(found, place=Place(slot, priority))
        with self._running(slot), SpoolHold() as hold:
            async with keeper.held(found.spec, hold):
                return await PushRun(found, shared, self._new_push_id()).run()

    async def open_pushes(self) -> list[PushRow]:
        """Return the pushes into this pool that a killed or interrupted process left unfinished, oldest first."""
        shared = self._require_open()
        rows = await shared.journal.read(lambda file: file.pushes(state="open"))
        return [row for row in reversed(rows) if (row.team, row.pool_id) == (self._client.team, self._pool_id)]

    async def supersede(self, push_id: str, reason: str) -> bool:
        """End a push that a killed or interrupted process left unfinished and that was not submitted; its job is deleted.

        Returns:
            Whether it has ended; False if it was submitted, or is over already.

        Raises:
            JournalLockedError: Another process works on it.
        """
        return await supersede_unsubmitted(self._require_open(), push_id, reason)

    @contextlib.asynccontextmanager
    async def holding_table(self, table: str, *, connection_id: str | None = None) -> AsyncIterator[None]:
        """Hold the lock of a table, so that no other process loads it between several pushes of this one.

        Args:
            table: The table.
            connection_id: Data connection; None means the engine's default.

        Raises:
            JournalLockedError: Another process is loading the table.
        """
        target = build_target(
            table,
            mode="replace",
            keys=(),
            connection_id=self._connection_id if connection_id is None else connection_id,
            settings=self._settings,
            duplicate_removal_column=None,
        )
        async with table_locked(self._require_open(), target):
            yield

    def _new_push_id(self) -> str:
        return self._host.new_id()
