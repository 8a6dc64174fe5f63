"""One push job: create it, list what it holds, compare that with what was sent, read it, delete it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Literal

from pushengine.errors import (
    JobVanishedError,
    NotFoundError,
    PushEngineError,
    SubmitOutcomeUnknownError,
    UnexpectedResponseError,
    VerificationError,
)
from pushengine.journal import facts
from pushengine.model import Job, JobId, RemoteChunk, TableColumn
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.verification import verify_chunks
from pushengine.text import utc

_DELETE_TIMEOUT_SECONDS = 10.0
_MAX_LISTINGS = 6
_CREATE_ATTEMPTS = 5


class JobRunner:
    """What a push does with its job, but for the submit."""

    def __init__(self, context: PushContext) -> None:
        self.context = context

    async def create(self, columns: Sequence[TableColumn]) -> Job:
        """Open the job. A create whose answer is lost is made again: an empty job that nobody knows stays invisible and expires.

        It is the first call of a push, and a wrong address is likelier then than an outage: it gives up sooner than later calls.
        """
        context = self.context

        async def attempt() -> Job:
            await context.log.record(facts.JobIntended())
            try:
                return await context.destination.create_job(context.target, columns)
            except UnexpectedResponseError as error:
                # a redirect, or a page instead of an error: the address is wrong, and asking again does not change it
                is_final = 300 <= error.status < 500  # noqa: PLR2004 - HTTP status classes
                raise error.replace(disposition="terminal" if is_final else "transient") from error.__cause__
            except PushEngineError as error:
                if error.disposition != "outcome_unknown":
                    raise
                raise error.replace(disposition="transient") from error.__cause__

        job = await context.repeat(
            attempt, f"create of a push job for table {context.target.table}", max_attempts=_CREATE_ATTEMPTS
        )
        await context.log.record(facts.JobCreated(job_id=job.id))
        return job

    async def seal(self, job_id: JobId) -> Literal["checksum", "count"]:
        """List the job's chunks and compare them with what was sent: the last look before submit.

        Where an upload without an answer was sent again, its first attempt may still arrive: the look is taken when that is over.

        Raises:
            VerificationError: They differ; the job must not be submitted.
            JobVanishedError: The job is gone.
            EngineClosedError: The engine drains while the quarantine lasts.
        """
        context = self.context
        await self._wait_for_quarantine(job_id)
        sent = [chunk.as_sent() for chunk in context.log.state.job_of(job_id).acked]
        known = await context.log.known_checksum()
        for retry in range(_MAX_LISTINGS):
            listed = await self.list_chunks(job_id)
            found = verify_chunks(sent, listed, known=known)
            if found.verified is not None or len(listed) >= len(sent) or retry == _MAX_LISTINGS - 1:
                break
            wait = context.settings.settle_seconds * 2**retry  # the list may lag behind
            context.emit_wait(f"the list of chunks of job {job_id} is not complete yet", wait)
            await context.sleep(wait)
        if found.verified is None:
            raise VerificationError(f"job {job_id} does not hold what was sent: {found.difference}", job_id=job_id)
        if found.algorithm is not None and found.algorithm != known:
            await context.log.record_checksum(found.algorithm)
        await context.log.record(facts.JobSealed(job_id=job_id, chunks=len(sent), verified=found.verified))
        return found.verified

    async def _wait_for_quarantine(self, job_id: JobId) -> None:
        context = self.context
        missed = [chunk.zombie_since for chunk in context.log.state.job_of(job_id).chunks.values()]
        elapsed = min((context.log.seconds_since(at) for at in missed if at is not None), default=math.inf)
        wait = context.settings.quarantine_seconds - elapsed
        if wait > 0:
            context.emit_quota_wait(job_id, utc(context.clock.now() + wait), wait, "quarantine")
            await context.sleep(wait)

    async def list_chunks(self, job_id: JobId) -> list[RemoteChunk]:
        """What the job holds.

        Raises:
            JobVanishedError: The job is gone.
        """

        async def attempt() -> list[RemoteChunk]:
            try:
                return await self.context.destination.list_chunks(job_id)
            except NotFoundError as error:
                raise self.vanished(job_id) from error

        return await self.context.repeat(attempt, f"listing of the chunks of job {job_id}")

    async def read(self, job_id: JobId) -> Job:
        """The job as it is.

        Raises:
            JobVanishedError: The job is gone.
            SubmitOutcomeUnknownError: The same, after a submit.
        """
        try:
            return await self.context.repeat(
                lambda: self.context.destination.get_job(job_id), f"reading of job {job_id}"
            )
        except NotFoundError as error:
            raise self.vanished(job_id) from error

    def vanished(self, job_id: JobId) -> PushEngineError:
        """The error for a job that is gone."""
        if self.context.log.state.job_of(job_id).may_have_run:
            return SubmitOutcomeUnknownError(
                f"job {job_id} is gone after a submit whose answer was lost: whether it ran cannot be found out",
                job_id=job_id,
                hint="look at the table's row count and _CELONIS_CHANGE_DATE before pushing again",
            )
        return JobVanishedError(f"job {job_id} is gone before its submit", job_id=job_id)

    async def discard(self, job_id: JobId) -> None:
        """Delete the unsubmitted job; a failure is told as an event only, since the platform deletes it in time anyway."""
        error: str | None = None
        try:
            async with asyncio.timeout(_DELETE_TIMEOUT_SECONDS):
                with self.context.announce_when_slow(f"no response yet, deletion of job {job_id}"):
                    await self.context.destination.delete_job(job_id)
        except (PushEngineError, TimeoutError) as caught:
            error = str(caught) or type(caught).__name__
        await self.context.log.record(facts.JobDiscarded(job_id=job_id, error=error))
