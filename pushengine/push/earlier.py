"""Earlier pushes in the journal: find them, lock them against other processes, and load them as sessions of this process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from pushengine import events
from pushengine.errors import (
    ConfigError,
    JobDeadlineError,
    JobFailedError,
    JournalLockedError,
    SubmitOutcomeUnknownError,
    TableChangedError,
)
from pushengine.interfaces import Lock
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.push_log import JOURNAL_IS_SLOW, PushLog
from pushengine.journal.store import JournalFile
from pushengine.model import Target
from pushengine.pipeline.context import Measures, Place, PushContext, Shared
from pushengine.push.continuation import SOURCE_CHANGED
from pushengine.push.opening import settings_of
from pushengine.push.outcome import target_of
from pushengine.push.session import PushSession
from pushengine.runtime.aio import wait_until_done
from pushengine.runtime.event_bus import PushSink

T = TypeVar("T")


@contextlib.asynccontextmanager
async def locked(shared: Shared, identity: str) -> AsyncIterator[None]:
    """Hold the lock of a push identity, so that no other process works on that push.

    Raises:
        JournalLockedError: Another process holds it.
    """
    async with _held(shared, functools.partial(shared.take_lock, identity)):
        yield


@contextlib.asynccontextmanager
async def table_locked(shared: Shared, target: Target) -> AsyncIterator[None]:
    """Hold the lock of a table, so that no other process loads it.

    Raises:
        JournalLockedError: Another process holds it.
    """
    place = f"{shared.destination.team}/{shared.pool_id}/{target.connection_id or ''}/{target.table}"
    async with _held(shared, functools.partial(shared.take_table_lock, place, target.table)):
        yield


@contextlib.asynccontextmanager
async def _held(shared: Shared, take: Callable[[], Lock]) -> AsyncIterator[None]:
    taking = asyncio.ensure_future(shared.runtime.off_loop(take))
    try:
        await wait_until_done(taking)
    except asyncio.CancelledError:
        if not taking.cancelled() and taking.exception() is None:
            taking.result().release()
        raise
    lock = taking.result()
    try:
        yield
    finally:
        lock.release()


def new_session(
    shared: Shared,
    push_id: str,
    measures: Measures,
    target: Target,
    rows: Sequence[FactRow] = (),
    *,
    place: Place | None = None,
) -> PushSession:
    """Return this process's session of a push: of the one that `rows` describe, or of a new one.

    Args:
        shared: What all pushes of the engine share.
        push_id: Id of the push.
        measures: Measurements for its receipt.
        target: Target of the push, unless `rows` name it; the table is the same.
        rows: What the journal has about the push.
        place: The place of the push among the others of its process; None for one that needs no slot.
    """
    log = PushLog(
        shared.journal,
        clock=shared.runtime.clock,
        push_id=push_id,
        team=shared.destination.team,
        sink=PushSink(shared.sink, table=target.table, pool=shared.pool_id),
        rows=rows,
    )
    state = log.state
    return PushSession(
        PushContext(
            shared=shared,
            target=target if state.planned is None else target_of(state.planned),
            log=log,
            settings=settings_of(state, shared.engine_settings),
            measures=measures,
            place=place or Place(),
        )
    )


async def mark_done(context: PushContext, push_id: str) -> None:
    """Record that the caller has received the receipt of this push: from now on the same command means a new push."""
    now = context.clock.now()
    with context.announce_when_slow(JOURNAL_IS_SLOW):
        await context.shared.journal.do(lambda file: file.set_state(push_id, "done", now))


async def close_changed(session: PushSession, failure: JobFailedError | None) -> None:
    """Close a push that was submitted and whose source holds something else now, so that a new push can start."""
    context = session.context
    if failure is None:
        await mark_done(context, context.push_id)
    context.emit(
        events.EarlierPushSettled(
            push_id=context.push_id,
            mode=context.target.mode,
            status="DONE" if failure is None else failure.status,
            rows=session.receipt("DONE").rows,
            reason=SOURCE_CHANGED,
        )
    )


async def _submit_seq(context: PushContext) -> int:
    """Return the number of the fact that announced the submit of a push."""
    job_id = context.log.state.jobs[-1].job_id
    return await context.shared.journal.read(lambda file: file.tables.submit_seq(context.push_id, job_id))


async def supersede_unsubmitted(shared: Shared, push_id: str, reason: str) -> bool:
    """End an open push that was not submitted, so that nobody resumes it; its job is deleted.

    Returns:
        Whether it has ended; False if it was submitted, or is over already.

    Raises:
        JournalLockedError: Another process works on it.
    """
    row = await shared.journal.read(lambda file: file.push(push_id))
    if row is None:
        return False
    async with locked(shared, row.identity):
        row = await shared.journal.read(lambda file: file.push(push_id))
        rows = await shared.journal.read(lambda file: file.facts(push_id))
        if row is None or row.state != "open":
            return False
        target = Target(table=row.target, mode="replace")  # that of the plan counts, if there is one
        session = new_session(shared, push_id, Measures(shared.runtime.clock.monotonic()), target, rows, place=Place())
        if session.state.may_have_run:
            return False
        await session.supersede(reason)
        return True


class EarlierPushes:
    """The other pushes in the journal, from the point of view of one push.

    Args:
        context: The push; its waits for the journal are announced as events.
    """

    def __init__(self, context: PushContext) -> None:
        self._context = context
        self._shared = context.shared

    async def _read(self, call: Callable[[JournalFile], T]) -> T:
        with self._context.announce_when_slow(JOURNAL_IS_SLOW):
            return await self._shared.journal.read(call)

    async def find(self, identity: str) -> PushSession | None:
        """Return the newest push of this command that is unfinished, or DONE without its receipt having reached the caller; None if none."""
        row = await self._read(lambda file: file.find_open(identity))
        if row is None:
            return None
        if row.push_id in self._shared.finished:
            await mark_done(self._context, row.push_id)
            return None
        return await self._load(row.push_id, self._context.measures)

    async def find_resumed(self, push_id: str) -> PushSession:
        """Load the push to resume, as it is now that this process holds its lock.

        Raises:
            ConfigError: Another process has ended it.
        """
        row = await self._read(lambda file: file.push(push_id))
        if row is None or row.state not in ("open", "finished"):
            raise ConfigError(
                f"push {push_id} is over: another process has ended it",
                key="push_id",
                hint=f"pushengine show {push_id}",
            )
        return await self._load(push_id, self._context.measures)

    async def _load(self, push_id: str, measures: Measures) -> PushSession:
        rows = await self._read(lambda file: file.facts(push_id))
        return new_session(self._shared, push_id, measures, self._context.target, rows, place=self._context.place)

    async def finish_submitted(self, identity: str, *, has_turn: bool) -> str:
        """Bring the submitted pushes into this table to their end: what they did decides what this push finds there.

        Args:
            identity: Identity of this push.
            has_turn: Whether this push has the turn to submit into the table.

        Returns:
            Why there is one left, on which another process or another task works; empty if there is none.

        Raises:
            EngineClosedError: The engine drains meanwhile.
        """
        busy = [
            row
            for row in await self._others(identity, JournalFile.announced_pushes)
            if not await self._finish_if_submitted(row, has_turn=has_turn)
        ]
        if not busy:
            return ""
        return f"push {busy[0].push_id} into table {busy[0].target} was submitted elsewhere and has to finish first"

    async def supersede_unsubmitted(self, identity: str) -> None:
        """End older unfinished pushes into this table that were not submitted: resuming one later must not undo this push.

        An older push is ended if it or this push replaces the table; otherwise it is left open and reported (`EarlierPushLeft`). A push
        that another process works on right now is left alone.

        Args:
            identity: Identity of this push, which is not ended.
        """
        for row in await self._others(identity, lambda file: file.pushes(state="open")):
            with contextlib.suppress(JournalLockedError):
                async with locked(self._shared, row.identity):
                    await self._supersede_if_unsubmitted(row.push_id)

    async def _others(self, identity: str, find: Callable[[JournalFile], list[PushRow]]) -> list[PushRow]:
        """Return those of the pushes found that load the table and belong to other commands."""
        rows = await self._read(find)
        place = (self._shared.destination.team, self._shared.pool_id, self._context.target.table.casefold())
        return [
            row for row in rows if (row.team, row.pool_id, row.target.casefold()) == place and row.identity != identity
        ]

    async def _finish_if_submitted(self, row: PushRow, *, has_turn: bool) -> bool:
        """Finish a push if it was submitted; return False if another process works on it."""
        if await self._submitted_here(row.push_id) is None:
            return True
        try:
            async with locked(self._shared, row.identity):
                other = await self._submitted_here(row.push_id)
                if other is None:
                    return True
                self._context.emit_wait(
                    f"push {row.push_id} into table {row.target} was submitted earlier and has to finish first"
                )
                # Either outcome is in the journal, and this push runs after it.
                with contextlib.suppress(
                    JobFailedError, SubmitOutcomeUnknownError, JobDeadlineError, TableChangedError
                ):
                    await other.end_job(has_turn=has_turn)
        except JournalLockedError:
            return False
        return True

    async def _submitted_here(self, push_id: str) -> PushSession | None:
        """Load a push if it was submitted before this one and has not ended, over the same data connection as this one."""
        other = await self._load_other(push_id)
        state, target = other.state, other.context.target
        if not state.may_have_run or state.is_done or target.connection_id != self._context.target.connection_id:
            return None
        # Of two pushes whose first submits may both have arrived, only the later one waits for the other.
        if self._context.log.state.may_have_run and await _submit_seq(other.context) >= await _submit_seq(
            self._context
        ):
            return None
        return other

    async def _load_other(self, push_id: str) -> PushSession:
        return await self._load(push_id, Measures(self._context.clock.monotonic()))

    async def _supersede_if_unsubmitted(self, push_id: str) -> None:
        target = self._context.target
        earlier = await self._load_other(push_id)
        if earlier.state.may_have_run:
            return
        earlier_target = earlier.context.target
        if earlier.state.planned is None:  # it sent nothing, so its target does not matter
            await earlier.supersede("its planning never finished")
        elif earlier_target.connection_id != target.connection_id:
            return
        elif "replace" not in (earlier_target.mode, target.mode):
            self._context.emit(events.EarlierPushLeft(push_id=push_id, mode=earlier_target.mode))
        else:
            await earlier.supersede(f"a newer push into table {target.table} was started")
