"""The resources of an open host (journal, quota ledger, memory budget) and of its engines, and the cleanup when they open and close."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
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
from pushengine.runtime.event_bus import EventBus
from pushengine.runtime.runtime import Runtime
from pushengine.state.folder import StateFolder, resolve_state_dir
from pushengine.state.lock import PushLock, TableLock
from pushengine.text import utc


class HostResources:
    """Opens and closes what all engines of a host share: state folder, journal, quota ledger, memory, events; and a limiter for each team.

    Args:
        state_dir: State folder, created if missing; None means the default folder.
        settings: Settings of the host.
        runtime: Clock, random numbers, files and threads; closed at the end.
        bus: Receives events; closed at the end.

    Attributes:
        drain: Switch that ends the waits of all pushes.
        finished: Same as `Shared.finished`.

    Raises:
        ConfigError: `state_dir` is empty.
    """

    def __init__(
        self, *, state_dir: str | os.PathLike[str] | None, settings: EngineSettings, runtime: Runtime, bus: EventBus
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self.bus = bus
        self.folder = StateFolder(resolve_state_dir(state_dir))
        self.drain = DrainSwitch()
        self.finished: set[str] = set()
        self.table_locks: dict[str, asyncio.Lock] = {}
        self.budget = ByteBudget(settings.max_memory_bytes)
        self.take_lock = functools.partial(PushLock, self.folder.locks)
        self.take_table_lock = functools.partial(TableLock, self.folder.locks)
        self._server_clocks: dict[str, ServerClock] = {}
        self._limiters: dict[str, SubmitLimiter] = {}
        self._ledger: SqliteLedger | None = None
        self._journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal, once it is open."""
        assert self._journal is not None  # noqa: S101 - `open()` was called
        return self._journal

    def take_run_lock(self, run_id: str) -> PushLock:
        """Lock a run of loads. Blocking.

        Raises:
            JournalLockedError: Another process works on it.
        """
        return PushLock(self.folder.locks, f"run-{run_id}", refusal=f"run {run_id} is under way")

    def new_id(self) -> str:
        """Return a new id of a push or a run: its time and a random number."""
        return f"{utc(self.runtime.clock.now()):%Y%m%dT%H%M%SZ}-{self.runtime.rng.getrandbits(32):08x}"

    async def open(self, pool_id: str = "") -> None:
        """Open the files, and clean up what earlier processes left in them.

        Args:
            pool_id: Pool that the events name.

        Raises:
            ConfigError: The state folder cannot be created, or belongs to another user.
            LedgerError, JournalError: A file in it cannot be used; what was opened until then is left for `aclose()` to close.
        """
        settings, runtime, folder = self.settings, self.runtime, self.folder
        for note in await runtime.off_loop(folder.make):
            self.bus.emit(events.StateFolderTightened(push_id="", pool=pool_id, message=note))
        self._ledger = await runtime.off_loop(open_ledger, settings, folder.quota)
        self._journal = journal = Journal(folder.journal)
        with self.announce_when_slow(JOURNAL_IS_SLOW, pool_id):
            await journal.open()
            await self._prune(journal)

    async def _prune(self, journal: Journal) -> None:
        folder, settings, clock = self.folder, self.settings, self.runtime.clock
        stale_seconds = settings.stale_hours * 3600.0
        before = clock.now() - settings.history_days * 86_400.0
        await journal.do(lambda file: file.prune(before))
        for listed in {folder.rejects, settings.rejects or folder.rejects}:
            await self.runtime.off_loop(delete_old_files, listed, before)
        await abandon_stale_pushes(journal=journal, take_lock=self.take_lock, clock=clock, stale_seconds=stale_seconds)
        await delete_old_spools(
            folder.spool,
            journal=journal,
            before=clock.now() - stale_seconds,
            off_loop=self.runtime.off_loop,
        )

    def server_clock(self, team: str) -> ServerClock:
        """Return the platform's time, as far as the responses of a team show it."""
        return self._server_clocks.setdefault(team, ServerClock(self.runtime.clock))

    def limiter(self, team: str) -> SubmitLimiter:
        """Return what grants the submits of a team, once the host is open."""
        assert self._ledger is not None  # noqa: S101 - `open()` was called
        if team not in self._limiters:
            runtime = self.runtime
            self._limiters[team] = SubmitLimiter(
                self._ledger,
                team=team,
                server_clock=self.server_clock(team),
                clock=runtime.clock,
                off_loop=runtime.off_loop,
                rng=runtime.rng,
            )
        return self._limiters[team]

    async def quota(self, team: str) -> QuotaStatus:
        """Return what is left of this hour's submit quota of a team, as far as this host's ledger knows."""
        assert self._ledger is not None  # noqa: S101 - `open()` was called
        now, host_now = self.server_clock(team).now(), self.runtime.clock.now()
        return await self.runtime.off_loop(quota_status, self._ledger, team, now, host_now)

    def announce_when_slow(self, reason: str, pool_id: str) -> contextlib.AbstractContextManager[None]:
        """Emit a `WaitStarted` event if the block takes long."""
        return announce_when_slow(
            functools.partial(self.bus.emit, events.WaitStarted(push_id="", pool=pool_id, reason=reason))
        )

    async def aclose(self) -> None:
        """Close what is open; safe to call twice. No push may be running anymore."""
        if self._journal is not None:
            await self._mark_reported_pushes_done(self._journal)
            await self._journal.aclose()
        if self._ledger is not None:
            await self.runtime.off_loop(self._ledger.close)
        self.runtime.close()

    async def _mark_reported_pushes_done(self, journal: Journal) -> None:
        """Their receipts were returned: the same command now means a new push."""
        finished, now = list(self.finished), self.runtime.clock.now()
        if not finished:
            return

        def write(file: JournalFile) -> None:
            for push_id in finished:
                file.set_state(push_id, "done", now)

        with contextlib.suppress(JournalError):
            await journal.do(write)


class EngineResources:
    """What all pushes of one engine share, and the cleanup before the first of them.

    Args:
        host: What the engine shares with the other engines of its host.
        destination: The platform; not closed here.
        pool_id: Id of the data pool.
        settings: Engine settings.
    """

    def __init__(
        self, host: HostResources, destination: Destination, *, pool_id: str, settings: EngineSettings
    ) -> None:
        self._host = host
        self._destination = destination
        self._pool_id = pool_id
        self._settings = settings
        self._is_swept = False

    @property
    def spool_folder(self) -> Path:
        """The folder for sources that can be read only once."""
        return self._host.folder.spool

    def open(self) -> Shared:
        """Return what the pushes share; the host is open."""
        host, settings = self._host, self._settings
        return Shared(
            destination=self._destination,
            pool_id=self._pool_id,
            journal=host.journal,
            take_lock=host.take_lock,
            take_table_lock=host.take_table_lock,
            limiter=host.limiter(self._destination.team),
            policy=RetryPolicy(max_attempts=settings.max_attempts, max_wait_seconds=settings.retry_max_wait_seconds),
            budget=host.budget,
            engine_settings=settings,
            runtime=host.runtime,
            drain=host.drain,
            sink=host.bus,
            table_locks=host.table_locks,
            scratch=host.folder.spool,
            rejects=host.folder.rejects,
            said=set(),
            finished=host.finished,
        )

    async def sweep(self) -> None:
        """Delete the jobs that earlier processes of this host left behind. Runs once, before the first push."""
        if self._is_swept:
            return
        self._is_swept = True
        host = self._host
        with (
            contextlib.suppress(PushEngineError),
            host.announce_when_slow("jobs left behind by earlier pushes are being deleted first", self._pool_id),
        ):
            await delete_forgotten_jobs(
                self._destination,
                pool_id=self._pool_id,
                journal=host.journal,
                take_lock=host.take_lock,
                clock=host.runtime.clock,
                stale_seconds=self._settings.stale_hours * 3600.0,
                sink=host.bus,
            )

    def skip_sweep(self) -> None:
        """Never sweep: a caller that resumes one old push may resume others too, so their jobs must not be deleted."""
        self._is_swept = True

    async def quota(self) -> QuotaStatus:
        """Return what is left of this hour's submit quota, as far as this host's ledger knows."""
        return await self._host.quota(self._destination.team)
