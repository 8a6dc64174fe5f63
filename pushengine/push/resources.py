"""The resources of an open engine (journal, quota ledger, memory budget), and the cleanup when it opens and closes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import JournalError, PushEngineError
from pushengine.interfaces import Destination
from pushengine.journal.push_log import JOURNAL_IS_SLOW
from pushengine.journal.store import Journal, JournalFile
from pushengine.model import QuotaStatus
from pushengine.pipeline.context import Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.rejects import delete_old_files
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push.cleanup import abandon_stale_pushes, delete_forgotten_jobs, delete_old_spools
from pushengine.quota.ledger import SqliteLedger, open_ledger, quota_status
from pushengine.quota.limiter import SubmitLimiter
from pushengine.quota.server_clock import ServerClock
from pushengine.runtime.aio import announce_when_slow
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime
from pushengine.state.folder import StateFolder, resolve_state_dir
from pushengine.state.lock import PushLock


class EngineResources:
    """Opens and closes what all pushes of an engine share.

    Args:
        destination: The platform; not closed here.
        pool_id: Id of the data pool.
        state_dir: State folder, created if missing; None means the default folder.
        settings: Engine settings.
        runtime: Clock, random numbers, files and threads.
        server_clock: The platform's time.
        sink: Receives events.

    Raises:
        ConfigError: `state_dir` is empty.
    """

    def __init__(
        self,
        destination: Destination,
        pool_id: str,
        *,
        state_dir: str | os.PathLike[str] | None,
        settings: EngineSettings,
        runtime: Runtime,
        server_clock: ServerClock,
        sink: events.EventSink,
    ) -> None:
        self._destination = destination
        self._pool_id = pool_id
        self._folder = StateFolder(resolve_state_dir(state_dir))
        self._settings = settings
        self._runtime = runtime
        self._server_clock = server_clock
        self._sink = sink
        self._ledger: SqliteLedger | None = None
        self._journal: Journal | None = None
        self._shared: Shared | None = None
        self._is_swept = False

    @property
    def spool_folder(self) -> Path:
        """The folder for sources that can be read only once."""
        return self._folder.spool

    async def open(self, drain: DrainSwitch) -> Shared:
        """Open everything and return it.

        Args:
            drain: Switch that ends the waits of all pushes.

        Raises:
            ConfigError: The state folder cannot be created, or belongs to another user.
            LedgerError, JournalError: A file in it cannot be used; what was opened until then is left for `aclose()` to close.
        """
        settings, runtime = self._settings, self._runtime
        folder = self._folder
        for note in await runtime.off_loop(folder.make):
            self._sink.emit(events.StateFolderTightened(push_id="", pool=self._pool_id, message=note))
        self._ledger = ledger = await runtime.off_loop(open_ledger, settings, folder.quota)
        self._journal = journal = Journal(folder.journal)
        take_lock = functools.partial(PushLock, folder.locks)
        with self.announce_when_slow(JOURNAL_IS_SLOW):
            await journal.open()
            await self._prune(folder, journal, take_lock)
        self._shared = Shared(
            destination=self._destination,
            pool_id=self._pool_id,
            journal=journal,
            take_lock=take_lock,
            limiter=SubmitLimiter(
                ledger,
                team=self._destination.team,
                server_clock=self._server_clock,
                clock=runtime.clock,
                off_loop=runtime.off_loop,
                rng=runtime.rng,
            ),
            policy=RetryPolicy(max_attempts=settings.max_attempts, max_wait_seconds=settings.retry_max_wait_seconds),
            budget=ByteBudget(settings.max_memory_bytes),
            engine_settings=settings,
            runtime=runtime,
            drain=drain,
            sink=self._sink,
            table_locks={},
            scratch=folder.spool,
            rejects=folder.rejects,
            said=set(),
            finished=set(),
        )
        return self._shared

    async def _prune(self, folder: StateFolder, journal: Journal, take_lock: Callable[[str], PushLock]) -> None:
        clock, stale_seconds = self._runtime.clock, self._settings.stale_hours * 3600.0
        before = clock.now() - self._settings.history_days * 86_400.0
        await journal.do(lambda file: file.prune(before))
        for listed in {folder.rejects, self._settings.rejects or folder.rejects}:
            await self._runtime.off_loop(delete_old_files, listed, before)
        await abandon_stale_pushes(journal=journal, take_lock=take_lock, clock=clock, stale_seconds=stale_seconds)
        await delete_old_spools(
            folder.spool,
            journal=journal,
            before=clock.now() - stale_seconds,
            off_loop=self._runtime.off_loop,
        )

    async def sweep(self) -> None:
        """Delete the jobs that earlier processes of this host left behind. Runs once, before the first push."""
        shared = self._shared
        if self._is_swept or shared is None:
            return
        self._is_swept = True
        with (
            contextlib.suppress(PushEngineError),
            self.announce_when_slow("jobs left behind by earlier pushes are being deleted first"),
        ):
            await delete_forgotten_jobs(
                self._destination,
                pool_id=self._pool_id,
                journal=shared.journal,
                take_lock=shared.take_lock,
                clock=self._runtime.clock,
                stale_seconds=self._settings.stale_hours * 3600.0,
                sink=self._sink,
            )

    def skip_sweep(self) -> None:
        """Never sweep: a caller that resumes one old push may resume others too, so their jobs must not be deleted."""
        self._is_swept = True

    def announce_when_slow(self, reason: str, push_id: str = "") -> contextlib.AbstractContextManager[None]:
        """Emit a `WaitStarted` event if the block takes long."""
        return announce_when_slow(
            functools.partial(self._sink.emit, events.WaitStarted(push_id=push_id, pool=self._pool_id, reason=reason))
        )

    async def quota(self) -> QuotaStatus:
        """Return what is left of this hour's submit quota, as far as this host's ledger knows."""
        assert self._ledger is not None  # noqa: S101 - `open()` was called
        now, host_now = self._server_clock.now(), self._runtime.clock.now()
        return await self._runtime.off_loop(quota_status, self._ledger, self._destination.team, now, host_now)

    async def aclose(self) -> None:
        """Close what is open; safe to call twice. No push may be running anymore."""
        if self._journal is not None:
            await self._mark_reported_pushes_done(self._journal)
            await self._journal.aclose()
        if self._ledger is not None:
            await self._runtime.off_loop(self._ledger.close)

    async def _mark_reported_pushes_done(self, journal: Journal) -> None:
        """Their receipts were returned: the same command now means a new push."""
        finished, now = list(self._shared.finished) if self._shared else [], self._runtime.clock.now()
        if not finished:
            return

        def write(file: JournalFile) -> None:
            for push_id in finished:
                file.set_state(push_id, "done", now)

        with contextlib.suppress(JournalError):
            await journal.do(write)
