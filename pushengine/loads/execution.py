"""Carries out the items of a run: each load on its own, as many at once as there are slots."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from pushengine.celonis.wire import parse_team_url
from pushengine.config.loads.resolved import Loads, LoadSettings, Target
from pushengine.engine import PushEngine
from pushengine.errors import ConfigError, EngineClosedError, JournalLockedError, real_cause
from pushengine.host import EngineHost
from pushengine.journal.loads import RunLoad
from pushengine.loads.items import Item, RunListener, load_id_of
from pushengine.loads.lanes import Lanes, LaneSlot
from pushengine.loads.obstacles import Obstacle, standing_of
from pushengine.loads.outcome import EXIT_INTERRUPTED, EXIT_OUTCOME_UNKNOWN, EXIT_TEMPORARY, Failure, Judge
from pushengine.model import Receipt
from pushengine.text import clock_time, utc

_RETRY_SECONDS = (30.0, 120.0, 600.0)
"""Waits before a load is tried again after a temporary failure, seconds; the last one is repeated."""


def team_of(target: Target) -> str:
    """Return the host of a target's team, whose quota its submits spend; empty if it has no address, which a dry run does not need.

    Raises:
        ConfigError: The URL cannot be used.
    """
    return parse_team_url(target.url)[1] if target.url else ""


class Targets:
    """The engines of the targets of a config file, opened when they are first needed.

    Args:
        host: What they share.
        loads: Names the targets.
    """

    def __init__(self, host: EngineHost, loads: Loads) -> None:
        self._host = host
        self._loads = loads
        self._engines: dict[str, PushEngine] = {}

    async def engine(self, name: str) -> PushEngine:
        """Return the engine of a target.

        Raises:
            ConfigError: The target has no credentials, or its URL cannot be used.
        """
        if name not in self._engines:
            target = self._loads.targets[name]
            if target.credentials is None:
                raise ConfigError(
                    f"target {name} has no credentials", key=f"targets.{name}", hint="set client_id and client_secret"
                )
            self._engines[name] = await self._host.engine(
                target.url, pool_id=target.pool_id, auth=target.credentials, connection_id=target.connection_id
            )
        return self._engines[name]

    async def of_push(self, team: str, pool_id: str) -> PushEngine | None:
        """Return an engine for a team and pool; None if no target is there."""
        for name, target in self._loads.targets.items():
            if target.credentials is None or not target.url:  # such as the target default that no load uses
                continue
            engine = await self.engine(name)
            if (engine.team, engine.pool_id) == (team, pool_id):
                return engine
        return None


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What all loads of a run use.

    Attributes:
        run_id: Id of the run.
        due: Returns when a load is due, seconds UTC, or None.
        judge: Describes exceptions.
    """

    run_id: str
    host: EngineHost
    targets: Targets
    lanes: Lanes
    listener: RunListener
    judge: Judge
    due: Callable[[LoadSettings], float | None]

    def now(self) -> float:
        """Return the current time, seconds UTC."""
        return self.host.runtime.clock.now()

    async def record(self, row: RunLoad) -> None:
        """Store what became of an item."""
        await self.host.write(lambda file: file.loads.set_load(self.run_id, row))


class LoadExecution:
    """Carries out the items of one load, in their order.

    Args:
        means: What all loads of the run use.
        items: The items of the load that are to be pushed.
    """

    def __init__(self, means: Means, items: Sequence[Item]) -> None:
        self._means = means
        self._items = items
        assert items[0].settings is not None  # noqa: S101 - it has something to push
        self._settings: LoadSettings = items[0].settings

    async def run(self) -> None:
        """Push the items, and record what became of each. Failures are recorded, not raised.

        Raises:
            EngineClosedError: The host drains; what is not done stays as it is, to be continued.
        """
        try:
            engine = await self._means.targets.engine(self._settings.target)
            async with engine.holding_table(self._settings.table, connection_id=self._settings.connection_id):
                await self._run_all(engine)
        except JournalLockedError as error:
            for item in self._items:
                if item.row.state in ("planned", "running"):
                    await self._end(item, state="skipped", reason=f"running: {error.message}", exit_code=EXIT_TEMPORARY)
        except EngineClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - one load must not end the others
            failure = self._means.judge(error)
            for item in self._items:
                if item.row.state in ("planned", "running"):
                    await self._end(item, state="failed", reason=failure.reason, exit_code=failure.exit_code)

    async def _run_all(self, engine: PushEngine) -> None:
        blocker, exit_code = "", 0
        for item in self._items:
            if blocker:
                await self._end(item, state="blocked", reason=blocker, exit_code=exit_code)
                continue
            if obstacle := await self._obstacle(engine, item):
                await self._end(item, state=obstacle.state, reason=obstacle.reason, exit_code=obstacle.exit_code)
                if obstacle.state != "skipped":
                    blocker, exit_code = obstacle.reason, obstacle.exit_code
                continue
            await self._push_patiently(engine, item)
            if item.row.state not in ("done", "rejects"):
                what = f"generation {item.row.generation}" if item.row.generation else "an earlier file"
                blocker, exit_code = f"{what} has to be loaded first: it is {item.row.state}", item.row.exit_code

    async def _obstacle(self, engine: PushEngine, item: Item) -> Obstacle | None:
        """Return why an item must not be pushed now, although it was planned; files that were loaded meanwhile are left out."""
        settings, intended = self._settings, {file.uri for one in self._items for file in one.files}
        team, pool_id = engine.team, engine.pool_id
        standing = await self._means.host.read(
            lambda file: standing_of(file, item, settings, intended=intended, team=team, pool_id=pool_id)
        )
        if standing.obstacle is None and standing.files != item.files:
            item.files = standing.files
            item.update(files=tuple(file.uri for file in standing.files), expected_rows=None)
        return standing.obstacle

    async def _push_patiently(self, engine: PushEngine, item: Item) -> None:
        """Push an item, and again after temporary failures, as often as the load allows."""
        for attempt in range(self._settings.retries + 1):
            failure = await self._push(engine, item)
            if failure is None:
                return
            is_last = attempt == self._settings.retries or failure.exit_code != EXIT_TEMPORARY
            if is_last:
                state = "unknown" if failure.exit_code == EXIT_OUTCOME_UNKNOWN else "failed"
                await self._end(item, state=state, reason=failure.reason, exit_code=failure.exit_code)
                return
            wait = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
            self._means.listener.note(f"{item.name}: {failure.reason}; trying again in {wait:.0f} s")
            await self._means.host.guard(self._means.host.runtime.clock.sleep(wait))

    async def _push(self, engine: PushEngine, item: Item) -> Failure | None:
        """Push an item once; return its failure, or None if it is DONE."""
        settings, claim = self._settings, item.claim(self._means.run_id)
        slot = self._means.lanes.slot(item.nbytes, settings.priority)
        try:
            async with self._holding(slot):
                item.update(state="running", started_at=item.row.started_at or self._means.now())
                await self._means.record(item.row)
                self._means.listener.started(item)
                receipt = await engine.push(
                    [file.uri for file in item.files],
                    table=settings.table,
                    mode=settings.mode,
                    keys=settings.keys,
                    connection_id=settings.connection_id,
                    format=settings.format,
                    duplicate_removal_column=settings.order_by,
                    load_id=item.row.load_id or load_id_of(claim),
                    claim=claim,
                    priority=settings.priority,
                    slot=slot,
                    **settings.options,
                )
        except (JournalLockedError, EngineClosedError):
            raise
        except Exception as error:
            cause = real_cause(error)
            receipt_of_failure = getattr(cause, "receipt", None)
            if isinstance(receipt_of_failure, Receipt):
                item.receipt = receipt_of_failure
                item.update(push_id=receipt_of_failure.push_id)
            failure = self._means.judge(error)
            if failure.exit_code == EXIT_INTERRUPTED:
                raise
            return failure
        await self._done(item, receipt)
        return None

    @contextlib.asynccontextmanager
    async def _holding(self, slot: LaneSlot) -> AsyncIterator[None]:
        await self._means.host.guard(slot.acquire())
        try:
            yield
        finally:
            slot.release()

    async def _done(self, item: Item, receipt: Receipt) -> None:
        item.receipt = receipt
        rejected = int((receipt.rejects or {}).get("rows", 0))
        await self._end(
            item,
            state="rejects" if rejected else "done",
            push_id=receipt.push_id,
            rows=receipt.rows,
            rejected=rejected,
            source_bytes=receipt.source_bytes,
            payload_bytes=receipt.payload_bytes,
            reason="; ".join(_changes_of(receipt)),
        )

    async def _end(self, item: Item, **changes: object) -> None:
        now = self._means.now()
        due = self._means.due(self._settings)
        item.update(ended_at=now, is_late=due is not None and now > due, **changes)
        if item.row.is_late and due is not None:
            late = f"late: due at {clock_time(utc(due).isoformat())}"
            item.update(reason=f"{item.row.reason}; {late}" if item.row.reason else late)
        await asyncio.shield(self._means.record(item.row))
        self._means.listener.ended(item)


def _changes_of(receipt: Receipt) -> Iterator[str]:
    """Yield what a person should know of a push that is DONE: rejected rows, and how the table has changed."""
    if receipt.rejects is not None:
        yield f"{receipt.rejects['rows']:,} rows rejected: {receipt.rejects['file']}"
    if receipt.schema_changes:
        yield f"changed: {', '.join(receipt.schema_changes)}"


def due_at(settings: LoadSettings, started_at: float, loaded_at: float | None) -> float | None:
    """Return when a load of a run is due, seconds UTC; None if it has no deadline.

    The deadline is a time of day. It is the next one after the start of the run, or the one before if the load has not been done for a
    day by then.

    Args:
        settings: The load.
        started_at: Start of the run, seconds UTC.
        loaded_at: When the load was last done, seconds UTC; None if it never was.
    """
    if settings.deadline is None:
        return None
    start = dt.datetime.fromtimestamp(started_at, settings.timezone)
    due = dt.datetime.combine(start.date(), settings.deadline, settings.timezone)
    if due.timestamp() < started_at <= due.replace(fold=1).timestamp():
        due = due.replace(fold=1)  # the clock is put back: the time comes a second time
    elif due.timestamp() < started_at:
        passed, due = due, due + dt.timedelta(days=1)
        if loaded_at is not None and loaded_at < (passed - dt.timedelta(days=1)).timestamp():
            due = passed
    return due.timestamp()
