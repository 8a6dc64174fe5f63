"""Several targets in one process: `EngineHost`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from pushengine.config.settings import EngineSettings
from pushengine.credentials import Credentials
from pushengine.engine import PushEngine
from pushengine.errors import EngineClosedError
from pushengine.events import Event, EventSink
from pushengine.journal.store import Journal, JournalFile
from pushengine.model import QuotaStatus
from pushengine.push.resources import HostResources
from pushengine.runtime.event_bus import EventBus
from pushengine.runtime.runtime import Runtime, system_runtime

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class _Target:
    """What makes two engines of a host the same."""

    url: str
    pool_id: str
    auth: Credentials
    connection_id: str | None
    settings: EngineSettings | None


class HostedEngine(PushEngine):
    """An open engine that shares the resources of an open host.

    Raises:
        ConfigError: The URL or the pool is invalid.
    """

    _owns_host = False

    def __init__(self, host: HostResources, target: _Target) -> None:
        self._attach(
            host,
            target.url,
            target.pool_id,
            target.auth,
            connection_id=target.connection_id,
            settings=target.settings or host.settings,
        )
        self._shared = self._resources.open()


class EngineHost:
    """Runs the engines of several targets with one state folder, journal, quota ledger, memory budget and drain. Use it with `async with`.

    Engines of one team share its queue of submits and its clock.

    Args:
        state_dir: Folder of the journal and the quota ledger; None means `PUSHENGINE_STATE_DIR`, or else the user's state folder.
        settings: Settings of the host, and of engines that name none; None means the defaults.
        sinks: Receive every event of every engine. They are called on the event loop and must return quickly.
        runtime: Clock, random numbers, files and threads; tests and simulations pass their own.

    Raises:
        ConfigError: `state_dir` is empty.
    """

    def __init__(
        self,
        *,
        state_dir: str | os.PathLike[str] | None = None,
        settings: EngineSettings | None = None,
        sinks: Sequence[EventSink] = (),
        runtime: Runtime | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        self._resources = HostResources(
            state_dir=state_dir,
            settings=settings,
            runtime=runtime or system_runtime(settings.encoder_threads),
            bus=EventBus(sinks),
        )
        self._engines: list[tuple[_Target, PushEngine]] = []
        self._is_open = False
        self._is_closed = False

    async def __aenter__(self) -> Self:
        if self._is_closed:
            raise EngineClosedError("this host is closed", hint="create a new EngineHost")
        try:
            await self._resources.open()
            self._is_open = True
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is not None:
            self.finished.clear()  # see `PushEngine.__aexit__`
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel running pushes, then close engines, connections and files. Leaves no task, thread or socket; safe to call twice."""
        self._is_closed = True
        try:
            for _, engine in self._engines:
                await engine.aclose()
            await self._resources.aclose()
        finally:
            self._resources.bus.close()

    async def engine(
        self,
        url: str,
        *,
        pool_id: str,
        auth: Credentials,
        connection_id: str | None = None,
        settings: EngineSettings | None = None,
    ) -> PushEngine:
        """Return the open engine of a target: the same one for the same arguments. The host closes it.

        Args:
            url: Team URL.
            pool_id: Id of the data pool.
            auth: `OAuthClient`, `UserApiKey` or `AppKey`.
            connection_id: Default data connection; None means the pool's global schema.
            settings: Settings of this engine; None means those of the host. Quota and memory are always the host's.

        Raises:
            ConfigError: The URL or the pool is invalid.
            EngineClosedError: The host is not open.
        """
        self._require_open()
        target = _Target(url, pool_id, auth, connection_id, settings)
        for known, engine in self._engines:
            if known == target:
                return engine
        engine = HostedEngine(self._resources, target)
        self._engines.append((target, engine))
        return engine

    def drain(self) -> None:
        """Shut all engines down gracefully: read no new rows and finish the chunks in flight. See `PushEngine.drain()`."""
        self._resources.drain.set()

    def events(self) -> AsyncIterator[Event]:
        """Iterate over the events of all engines emitted after this call, until the host is closed. See `PushEngine.events()`."""
        return self._resources.bus.subscribe()

    @property
    def journal(self) -> Journal:
        """The journal of all engines."""
        self._require_open()
        return self._resources.journal

    @property
    def runtime(self) -> Runtime:
        """Clock, random numbers, files and threads of all engines."""
        return self._resources.runtime

    def new_id(self) -> str:
        """Return a new id of a push or a run: its time and a random number."""
        return self._resources.new_id()

    @contextlib.asynccontextmanager
    async def working_on(self, run_id: str) -> AsyncIterator[None]:
        """Hold the lock of a run of loads, so that no other process works on it.

        Raises:
            JournalLockedError: Another process does.
        """
        lock = await self._resources.runtime.off_loop(self._resources.take_run_lock, run_id)
        try:
            yield
        finally:
            lock.release()

    async def guard(self, wait: Awaitable[T]) -> T:
        """Wait, unless the host drains first.

        Raises:
            EngineClosedError: The host drains.
        """
        return await self._resources.drain.guard(wait)

    @property
    def finished(self) -> set[str]:
        """Ids of the pushes whose receipts were returned; they are marked as done when the host closes cleanly."""
        return self._resources.finished

    async def read(self, call: Callable[[JournalFile], T]) -> T:
        """Run a call that only reads on the journal's thread. It sees all earlier writes of this process.

        Raises:
            JournalError: The journal cannot be read, or the call tried to write.
        """
        return await self.journal.read(call)

    async def write(self, call: Callable[[JournalFile], T]) -> T:
        """Run a call that writes on the journal's thread, as one durable transaction.

        Raises:
            JournalError: The journal cannot be written; nothing was recorded.
        """
        return await self.journal.do(call)

    async def quota(self, team: str) -> QuotaStatus:
        """Return what is left of this hour's submit quota of a team (`PushEngine.team`), as far as this host's ledger knows."""
        self._require_open()
        return await self._resources.quota(team)

    def _require_open(self) -> None:
        if not self._is_open or self._is_closed:
            state = "closed" if self._is_closed else "not open"
            raise EngineClosedError(f"this host is {state}", hint="use it with `async with`")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._engines)} engines"
        return f"<EngineHost {state}, {self._resources.budget!r}>"
