"""Operations on one push job: create it, list and verify its chunks, read it, delete it."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from typing import Literal

from pushengine.errors import (
    ApiError,
    AuthenticationError,
    JobVanishedError,
    NotFoundError,
    PermissionDeniedError,
    PushEngineError,
    SubmitOutcomeUnknownError,
    UnexpectedResponseError,
    VerificationError,
    is_wrong_address,
)
from pushengine.journal import facts
from pushengine.model import Job, JobId, RemoteChunk
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.verification import LISTED_SURPLUS, verify_chunks
from pushengine.schema.columns import TableSchema
from pushengine.text import utc

_DELETE_TIMEOUT_SECONDS = 10.0
_MAX_LISTINGS = 6
_MAX_READS = 6
# The create is the first call of a push, when a wrong address is likelier than an outage: give up sooner than in later calls.
_CREATE_ATTEMPTS = 5


class JobRunner:
    """The operations of a push on its job, except for the submit."""

    def __init__(self, context: PushContext) -> None:
        self.context = context

    async def create(self, schema: TableSchema) -> Job:
        """Create the job. A create whose response is lost is repeated: the empty job it may have left stays invisible and expires.

        It makes fewer attempts than later calls. The end of an outage is waited for with reads, so that it does not leave many jobs.
        """
        context = self.context
        target = dataclasses.replace(context.target, keys=schema.keys)  # as the columns are named in the table
        is_lost = False

        async def attempt() -> Job:
            nonlocal is_lost
            is_lost = False
            await context.log.record(facts.JobIntended())
            try:
                return await context.destination.create_job(target, schema.table_columns())
            except UnexpectedResponseError as error:
                # A redirect, or a web page instead of an API error: the address is wrong, and another attempt does not change that.
                is_lost = not error.is_unsent
                raise error.replace(
                    disposition="terminal" if is_wrong_address(error) else "transient"
                ) from error.__cause__
            except PushEngineError as error:
                if error.disposition != "outcome_unknown":
                    raise
                is_lost = not error.is_unsent
                raise error.replace(disposition="transient") from error.__cause__

        async def wait(seconds: float) -> None:
            await context.sleep(seconds)
            if is_lost:
                await self._wait_for_response()

        operation = f"creating a push job for table {target.table}"
        job = await context.repeat(attempt, operation, max_attempts=_CREATE_ATTEMPTS, sleep=wait)
        await context.log.record(facts.JobCreated(job_id=job.id))
        return job

    async def _wait_for_response(self) -> None:
        """Wait until the platform responds to a read of the table's columns, whatever the response says.

        Raises:
            RetriesExhaustedError: It does not.
            EngineClosedError: The engine drains during a wait.
        """
        context, target = self.context, self.context.target

        async def attempt() -> None:
            try:
                await context.destination.table_columns(target.table, target.connection_id)
            except ApiError as error:
                if error.disposition == "transient":
                    raise

        await context.repeat(attempt, f"reading the columns of table {target.table}")

    async def seal(self, job_id: JobId) -> Literal["checksum", "count"]:
        """List the job's chunks and verify that they equal what was sent: the last check before submit.

        If an upload with an unknown outcome was sent again, its first attempt may still arrive, so the list is read after its quarantine.

        Raises:
            VerificationError: They differ; the job must not be submitted.
            JobVanishedError: The job is gone.
            EngineClosedError: The engine drains during the quarantine or while waiting for a complete list.
        """
        context = self.context
        await self._wait_for_quarantine(job_id)
        sent = [chunk.as_sent() for chunk in context.log.state.job_of(job_id).acked]
        known = await context.log.known_checksum()
        for retry in range(_MAX_LISTINGS):
            listed, is_cut = await self.list_chunks(job_id)
            found = verify_chunks(sent, listed, known=known, is_cut=is_cut)
            if found.verified is not None or len(listed) >= len(sent) or retry == _MAX_LISTINGS - 1:
                break
            wait = context.settings.settle_seconds * 2**retry  # the list may lag behind
            context.emit_wait(f"the chunk list of job {job_id} is not complete yet", wait)
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

    async def list_chunks(self, job_id: JobId) -> tuple[list[RemoteChunk], bool]:
        """List the chunks that the job holds. Of a list that is far longer than what was sent, the end is left out.

        Returns:
            The chunks, and whether the end may be left out.

        Raises:
            JobVanishedError: The job is gone.
        """
        limit = len(self.context.log.state.job_of(job_id).chunks) + LISTED_SURPLUS

        async def attempt() -> list[RemoteChunk]:
            try:
                return await self.context.destination.list_chunks(job_id, limit=limit)
            except NotFoundError as error:
                raise self.vanished(job_id) from error

        listed = await self.context.repeat(attempt, f"listing the chunks of job {job_id}")
        return listed, len(listed) >= limit

    async def read(self, job_id: JobId) -> Job:
        """Read the job's current status.

        Raises:
            JobVanishedError: The job is gone, and it cannot have run.
            SubmitOutcomeUnknownError: The job is gone after a submit that may have taken effect.
        """
        return await self.context.repeat(lambda: self.read_once(job_id), f"reading job {job_id}")

    async def read_once(self, job_id: JobId) -> Job:
        """Make one attempt to read the job. A response that does not show it proves nothing about it, so another attempt may.

        Only a job that is missing again and again is gone: one 404 may come from something between this host and the platform.

        Raises:
            JobVanishedError, SubmitOutcomeUnknownError: As for `read`.
            AuthenticationError, PermissionDeniedError, TransportError: It cannot be read.
            ApiError: The same, and its disposition is `transient`.
        """
        context = self.context
        for retry in range(_MAX_READS):
            try:
                return await context.destination.get_job(job_id)
            except NotFoundError as error:
                missing = error
            except (AuthenticationError, PermissionDeniedError):
                raise
            except ApiError as error:
                raise error.replace(disposition="transient") from error.__cause__
            if retry < _MAX_READS - 1:
                wait = context.settings.settle_seconds * 2**retry
                context.emit_wait(f"job {job_id} is not found; it is read again", wait)
                await context.sleep(wait)
        raise self.vanished(job_id) from missing

    def vanished(self, job_id: JobId) -> PushEngineError:
        """Return the error for a job that is gone."""
        if self.context.log.state.job_of(job_id).may_have_run:
            return SubmitOutcomeUnknownError(
                f"job {job_id} is gone after it was submitted: whether it ran is unknown",
                job_id=job_id,
                hint="check the table's row count and _CELONIS_CHANGE_DATE, then say what you found:"
                f" pushengine resolve {self.context.push_id} --loaded, or --not-loaded",
            )
        return JobVanishedError(f"job {job_id} disappeared before a submit was accepted", job_id=job_id)

    async def discard(self, job_id: JobId) -> None:
        """Delete the unsubmitted job. A failure is only recorded and emitted as an event: the platform deletes the job in time anyway."""
        error: str | None = None
        try:
            async with asyncio.timeout(_DELETE_TIMEOUT_SECONDS):
                with self.context.announce_when_slow(f"no response yet, deletion of job {job_id}"):
                    await self.context.destination.delete_job(job_id)
        except (PushEngineError, TimeoutError) as caught:
            error = str(caught) or type(caught).__name__
        await self.context.log.record(facts.JobDiscarded(job_id=job_id, error=error))
