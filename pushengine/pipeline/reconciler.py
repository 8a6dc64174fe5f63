"""Determines from a job's chunk list whether uploads without a response have arrived."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from pushengine.errors import JobTaintedError
from pushengine.journal import facts
from pushengine.journal.state import JobRecord
from pushengine.model import JobId, RemoteChunk
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.verification import Reconciliation, reconcile

_MAX_LISTINGS = 6


class UploadGate:
    """A readers-writer lock: uploads share it, reconciliation takes it exclusively.

    A waiting reconciliation lets running uploads finish and holds back new ones.
    """

    def __init__(self) -> None:
        self._uploads = 0
        self._exclusive_lock = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Hold the lock for one upload, shared with other uploads."""
        async with self._exclusive_lock:
            self._uploads += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._uploads -= 1
            if not self._uploads:
                self._idle.set()

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold the lock exclusively: no upload is running, and none starts."""
        async with self._exclusive_lock:
            await self._idle.wait()
            yield


class Reconciler:
    """Determines which uploads without a response have arrived.

    Args:
        context: The push. Its log says what was sent and records what arrived.
        job_id: The job to which the chunks were sent.
        list_chunks: Reads the job's chunk list, with retries.

    Attributes:
        gate: The lock that every upload must hold, so that the chunk list can be read while no upload is running.
    """

    def __init__(
        self, context: PushContext, job_id: JobId, list_chunks: Callable[[JobId], Awaitable[list[RemoteChunk]]]
    ) -> None:
        self.gate = UploadGate()
        self._context = context
        self._job_id = job_id
        self._list_chunks = list_chunks

    async def has_arrived(self, chunk_id: str) -> bool:
        """Return whether the job holds this chunk.

        Raises:
            JobTaintedError: This cannot be determined, or the job does not match what was sent.
            EngineClosedError: The engine drains during a wait; the outcome stays unknown.
        """
        await self.reconcile_unknown()
        return self._context.log.state.chunk_of(self._job_id, chunk_id).state == "acked"

    async def reconcile_unknown(self) -> None:
        """Determine and record, for every chunk of the job with an unknown outcome, whether it has arrived.

        Raises:
            JobTaintedError: This cannot be determined, or the job does not match what was sent.
            EngineClosedError: The engine drains during a wait; the outcomes stay unknown.
        """
        log, settle_seconds = self._context.log, self._context.settings.settle_seconds
        async with self.gate.exclusive():
            job = log.state.job_of(self._job_id)
            unknown = [chunk for chunk in job.chunks.values() if chunk.is_open]
            if not unknown:
                return
            for retry in range(_MAX_LISTINGS):
                wait = settle_seconds * 2**retry
                self._context.emit_wait(
                    f"before listing the chunks of job {self._job_id}: the list may lag behind", wait
                )
                await self._context.sleep(wait)
                result = await self._list_and_compare(job)
                if not result.is_behind:
                    break
            if result.taint is not None:
                raise JobTaintedError(
                    f"the contents of job {self._job_id} cannot be trusted: {result.taint}", job_id=self._job_id
                )
            for chunk in unknown:
                await log.record(
                    facts.ChunkReconciled(
                        job_id=self._job_id,
                        chunk_id=chunk.chunk_id,
                        is_present=chunk.chunk_id in result.present,
                        how=result.how,
                    )
                )

    async def _list_and_compare(self, job: JobRecord) -> Reconciliation:
        chunks = job.chunks.values()
        listed = await self._list_chunks(self._job_id)
        return reconcile(
            [chunk.as_sent() for chunk in chunks if chunk.state == "acked"],
            [chunk.as_sent() for chunk in chunks if chunk.is_open],
            listed,
            known=await self._context.log.known_checksum(),
            may_hold_late_chunks=job.quarantined_since is not None,
        )
