"""What nobody will go on with: found at the next start, and brought to its end.

- Open pushes without a job that were not touched for too long: they are over.
- Jobs that the journal knows to be ours, never submitted, whose push failed, was replaced, or was left open for too long: deleted.
- Spool files, the only copy of what came from a stream: deleted when they are old, nobody holds them, and no push needs them.

Age alone proves nothing: a push may run for days, and a clock may be wrong. What another process holds is left alone.
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
from pushengine.sources.spool import SpoolHold, list_old_spools


async def abandon_stale_pushes(
    *, journal: Journal, take_lock: Callable[[str], Lock], clock: Clock, stale_seconds: float
) -> int:
    """End open pushes that have no job and were not touched for so long; one that another process holds is left alone.

    Returns:
        How many were ended.
    """
    before = clock.now() - stale_seconds
    ended = 0
    for push in await journal.read(lambda file: file.stale_pushes(before)):
        try:
            lock = take_lock(push.identity)
        except JournalError:  # another process works on it, or the lock cannot be taken
            continue
        try:
            ended += await journal.do(_giving_up(push, before, clock.now()))
        finally:
            lock.release()
    return ended


def _giving_up(push: PushRow, before: float, at: float) -> Callable[[JournalFile], bool]:
    def write(file: JournalFile) -> bool:
        if push not in file.stale_pushes(before):  # somebody worked on it before the lock was ours
            return False
        _end(file, push, at)
        return True

    return write


def _end(file: JournalFile, push: PushRow, at: float) -> None:
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
    """Delete jobs that nobody will go on with; a push that another process holds is left alone, and so is what cannot be deleted now.

    Where the platform cannot be reached the rest is left for the next start: each call would wait for its time-out.

    Returns:
        How many were deleted.
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
                # whoever had the lock before may have gone on with it
                if not await journal.read(functools.partial(_is_forgotten, push.push_id, job_id, before)):
                    continue
                await destination.delete_job(JobId(job_id))
                await journal.do(_deletion(push, job_id, clock.now()))
                sink.emit(events.JobDeleted(push_id=push.push_id, job_id=job_id, error=None))
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


def _deletion(push: PushRow, job_id: str, at: float) -> Callable[[JournalFile], None]:
    def write(file: JournalFile) -> None:
        file.append(FactRow.of(push.push_id, at, facts.JobDiscarded(job_id=job_id)))
        if push.state == "open":
            _end(file, push, at)

    return write


async def delete_old_spools(folder: Path, *, journal: Journal, before: float, off_loop: OffLoop) -> int:
    """Delete spool files that were last changed before this time (seconds UTC) and that no push needs, or needed since.

    What the file system refuses is left for the next start.

    Returns:
        How many were deleted.

    Raises:
        JournalError: It cannot say which are needed.
    """
    old = await off_loop(list_old_spools, folder, before)
    return sum([await delete_spool(path, journal=journal, off_loop=off_loop, ended_since=before) for path in old])


async def delete_spool(path: Path, *, journal: Journal, off_loop: OffLoop, ended_since: float | None = None) -> bool:
    """Delete one spool file, unless somebody holds it or the journal says that a push needs it; returns whether it did.

    Args:
        path: The file.
        journal: Knows the pushes that are open or unknown.
        off_loop: For what blocks.
        ended_since: Pushes that ended at this time or later (seconds UTC) need it too.

    Raises:
        JournalError: It cannot say.
    """
    with SpoolHold() as hold, contextlib.suppress(OSError):
        # The lock first: a push holds its file before it is in the journal and until it is over, so what the journal says now stays true.
        if not hold.take_exclusively(path) or await journal.read(
            lambda file: file.needs_file(path.name, ended_since=ended_since)
        ):
            return False
        hold.release_name()
        await off_loop(path.unlink)
        return True
    return False
