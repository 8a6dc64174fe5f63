"""Cleanup at startup of what earlier processes left behind and will not continue.

- Open pushes that have no job and were not touched for too long are ended.
- Unsubmitted jobs that this journal recorded are deleted if their push failed, was replaced, or was left open for too long.
- Old spool files, each the only copy of a stream's content, are deleted if no process holds them and no push needs them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

from pushengine import events
from pushengine.errors import JournalError, PushEngineError, TransportError
from pushengine.interfaces import Destination, Lock, OffLoop
from pushengine.journal import facts
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.store import Journal, JournalFile
from pushengine.model import JobId
from pushengine.runtime.clock import Clock
from pushengine.runtime.event_bus import PushSink
from pushengine.sources.spool import SpoolHold, list_old_spools


async def abandon_stale_pushes(
    *, journal: Journal, take_lock: Callable[[str], Lock], clock: Clock, stale_seconds: float
) -> int:
    """End open pushes that have no job and were not touched for `stale_seconds`; skip those that another process holds.

    Returns:
        Number of pushes ended.
    """
    before = clock.now() - stale_seconds
    ended = 0
    # Age alone proves nothing: a push may run for days, and a clock may be wrong. The lock shows whether another process works on it.
    for push in await journal.read(lambda file: file.stale_pushes(before)):
        try:
            lock = take_lock(push.identity)
        except JournalError:  # another process works on it, or the lock is unavailable
            continue
        try:
            ended += await journal.do(_abandon_if_stale(push, before, clock.now()))
        finally:
            lock.release()
    return ended


def _abandon_if_stale(push: PushRow, before: float, at: float) -> Callable[[JournalFile], bool]:
    def write(file: JournalFile) -> bool:
        if push not in file.stale_pushes(before):  # another process worked on it before this one got the lock
            return False
        _append_superseded(file, push, at)
        return True

    return write


def _append_superseded(file: JournalFile, push: PushRow, at: float) -> None:
    file.append(FactRow.of(push.push_id, at, facts.PushSuperseded(reason=facts.NOBODY_RESUMED)))
    file.set_state(push.push_id, "superseded", at)


async def delete_forgotten_jobs(
    destination: Destination,
    *,
    pool_id: str,
    journal: Journal,
    take_lock: Callable[[str], Lock],
    clock: Clock,
    stale_seconds: float,
    sink: events.EventSink,
) -> int:
    """Delete jobs that will not be continued; skip pushes that another process holds and jobs that cannot be deleted now.

    If the platform cannot be reached, the remaining jobs are left for the next start, since each call would wait for its timeout.

    Returns:
        Number of jobs deleted.
    """
    before = clock.now() - stale_seconds
    forgotten = await journal.read(lambda file: file.forgotten_jobs(destination.team, pool_id, before))
    deleted = 0
    with contextlib.suppress(TransportError):
        for push, job_id in forgotten:
            try:
                lock = take_lock(push.identity)
            except JournalError:
                continue
            try:
                # The previous holder of the lock may have continued the push.
                if not await journal.read(functools.partial(_is_forgotten, push.push_id, job_id, before)):
                    continue
                await destination.delete_job(JobId(job_id))
                await journal.do(_record_deletion(push, job_id, clock.now()))
                of_push = PushSink(sink, table=push.target, pool=push.pool_id)
                of_push.emit(events.JobDeleted(push_id=push.push_id, job_id=job_id, error=None))
                deleted += 1
            except TransportError:
                raise
            except PushEngineError:
                continue
            finally:
                lock.release()
    return deleted


def _is_forgotten(push_id: str, job_id: str, before: float, file: JournalFile) -> bool:
    return file.is_forgotten(push_id, job_id, before)


def _record_deletion(push: PushRow, job_id: str, at: float) -> Callable[[JournalFile], None]:
    def write(file: JournalFile) -> None:
        file.append(FactRow.of(push.push_id, at, facts.JobDiscarded(job_id=job_id)))
        if push.state == "open":
            _append_superseded(file, push, at)

    return write


async def delete_old_spools(folder: Path, *, journal: Journal, before: float, off_loop: OffLoop) -> int:
    """Delete spool files last changed before `before` (seconds UTC), unless a push needs them or ended at `before` or later.

    Files that the file system refuses to delete are left for the next start.

    Returns:
        Number of files deleted.

    Raises:
        JournalError: The journal cannot say which files are needed.
    """
    old = await off_loop(list_old_spools, folder, before)
    return sum([await delete_spool(path, journal=journal, off_loop=off_loop, ended_since=before) for path in old])


async def delete_spool(path: Path, *, journal: Journal, off_loop: OffLoop, ended_since: float | None = None) -> bool:
    """Delete one spool file, unless it is held or the journal says that a push needs it; return whether it was deleted.

    Args:
        path: The spool file.
        journal: Knows which pushes are open or have an unknown outcome.
        off_loop: Runs blocking calls.
        ended_since: Pushes that ended at this time or later (seconds UTC) also need the file.

    Raises:
        JournalError: The journal cannot say whether the file is needed.
    """
    with SpoolHold() as hold, contextlib.suppress(OSError):
        # Take the lock first: a push holds its file from before it is in the journal until it is over, so what the journal says under the
        # lock stays true.
        if not hold.take_exclusively(path) or await journal.read(
            lambda file: file.needs_file(path.name, ended_since=ended_since)
        ):
            return False
        hold.release_name()
        await off_loop(path.unlink)
        return True
    return False
