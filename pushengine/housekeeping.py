"""Jobs of ours that nobody will go on with: found in the journal at the next start, and deleted.

Only jobs that the journal knows to be ours, never submitted, whose push failed, was replaced, or was left open for too long.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pushengine import events
from pushengine.clock import Clock
from pushengine.errors import PushEngineError
from pushengine.journal import Fact, Journal, JournalFile, PushRow
from pushengine.model import JobId
from pushengine.types import Destination, Lock


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
    """Delete them; a push that another process holds is left alone, and so is what cannot be deleted now.

    Returns:
        How many were deleted.
    """
    before = clock.now() - stale_seconds
    forgotten = await journal.do(lambda file: file.forgotten_jobs(destination.team, pool_id, before))
    deleted = 0
    for push, job_id in forgotten:
        with contextlib.suppress(PushEngineError):
            lock = take_lock(push.identity)
            try:
                await destination.delete_job(JobId(job_id))
                await journal.do(_deletion(push, job_id, clock.now()))
                sink.emit(events.JobDeleted(push_id=push.push_id, job_id=job_id, error=None))
                deleted += 1
            finally:
                lock.release()
    return deleted


def _deletion(push: PushRow, job_id: str, at: float) -> Callable[[JournalFile], None]:
    def write(file: JournalFile) -> None:
        file.append(Fact(push.push_id, at, "job_discarded", {"job_id": job_id, "error": None}))
        if push.state == "open":
            file.append(Fact(push.push_id, at, "push_superseded", {"reason": "nobody resumed it in time"}))
            file.set_state(push.push_id, "superseded", at)

    return write
