"""Determines from a job's chunk list whether uploads without a response have arrived.

An upload that is not listed may still arrive. In the first job of a push, its chunk is sent again at once, because such uploads are rare;
if one arrives after all, the job holds a chunk twice, and the push restarts. On a bad network that would happen to every job in turn, so
in the later jobs of a push, a chunk that is not listed is sent again only when its upload can no longer arrive (`quarantine_seconds`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from pushengine.errors import JobTaintedError
from pushengine.journal import facts
from pushengine.journal.state import ChunkRecord, JobRecord
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
        list_chunks: Reads the job's chunk list, with retries. Returns the chunks, and whether the end of the list may be left out.

    Attributes:
        gate: The lock that every upload must hold, so that the chunk list can be read while no upload is running.
    """

    def __init__(
        self,
        context: PushContext,
        job_id: JobId,
        list_chunks: Callable[[JobId], Awaitable[tuple[list[RemoteChunk], bool]]],
    ) -> None:
        self.gate = UploadGate()
        self._context = context
        self._job_id = job_id
        self._list_chunks = list_chunks
        self._waits_for_late_uploads = context.log.state.restarts > 0
        self._certain_at: dict[str, float] = {}
        """When the last upload of a chunk can no longer arrive, by the monotonic clock. For uploads of an earlier process, that is counted
        from the first time that it matters."""
        self._missed: set[str] = set()
        """The chunks that a list read since then lacks, although they may still arrive."""

    async def has_arrived(self, chunk_id: str) -> bool:
        """Return whether the job holds this chunk, whose upload has just ended without a response.

        Raises:
            JobTaintedError: This cannot be determined, or the job does not match what was sent.
            EngineClosedError: The engine drains during a wait; the outcome stays unknown.
        """
        self._certain_at[chunk_id] = self._end_of_quarantine()
        self._missed.discard(chunk_id)
        chunk = self._context.log.state.chunk_of(self._job_id, chunk_id)
        await self._reconcile()  # most often the chunk has arrived, and only the response is lost
        while chunk.is_open:
            await self._wait_for_late_uploads([chunk_id])
            await self._reconcile()
        return chunk.state == "acked"

    async def reconcile_unknown(self) -> None:
        """Determine and record, for every chunk whose outcome an earlier process left unknown, whether it has arrived.

        Raises:
            JobTaintedError: This cannot be determined, or the job does not match what was sent.
            EngineClosedError: The engine drains during a wait; the outcomes stay unknown.
        """
        await self._reconcile()
        while unknown := self._unknown():
            await self._wait_for_late_uploads(chunk.chunk_id for chunk in unknown)
            await self._reconcile()

    async def _wait_for_late_uploads(self, chunk_ids: Iterable[str]) -> None:
        """Wait until missing uploads of these chunks can no longer arrive.

        Raises:
            EngineClosedError: The engine drains meanwhile.
        """
        wait = max(map(self._seconds_until_certain, chunk_ids), default=0.0)
        if wait > 0:
            self._context.emit_wait(
                f"uploads to job {self._job_id} without a response may still arrive: their chunks are not sent again before",
                wait,
            )
            await self._context.sleep(wait)

    def _seconds_until_certain(self, chunk_id: str) -> float:
        """Return the seconds until a missing upload of the chunk can no longer arrive; 0 in the first job of a push, see the module."""
        if not self._waits_for_late_uploads:
            return 0.0
        certain_at = self._certain_at.setdefault(chunk_id, self._end_of_quarantine())
        return max(certain_at - self._context.clock.monotonic(), 0.0)

    def _end_of_quarantine(self) -> float:
        """Return when an upload that ends now can no longer arrive."""
        return self._context.clock.monotonic() + self._context.settings.quarantine_seconds

    def _unknown(self) -> list[ChunkRecord]:
        chunks = self._context.log.state.job_of(self._job_id).chunks.values()
        return [chunk for chunk in chunks if chunk.is_open]

    async def _reconcile(self) -> None:
        """Record which chunks with an unknown outcome have arrived, and which have not and never will."""
        log, settle_seconds = self._context.log, self._context.settings.settle_seconds
        async with self.gate.exclusive():
            unknown = self._unknown()
            is_certain = {chunk.chunk_id: not self._seconds_until_certain(chunk.chunk_id) for chunk in unknown}
            if not any(certain or chunk_id not in self._missed for chunk_id, certain in is_certain.items()):
                return  # another reconciliation has found out what a list can show now
            for retry in range(_MAX_LISTINGS):
                wait = settle_seconds * 2**retry
                self._context.emit_wait(
                    f"before listing the chunks of job {self._job_id}: the list may lag behind", wait
                )
                await self._context.sleep(wait)
                result = await self._list_and_compare(log.state.job_of(self._job_id))
                if not result.is_behind:
                    break
            if result.taint is not None:
                raise JobTaintedError(
                    f"the contents of job {self._job_id} cannot be trusted: {result.taint}", job_id=self._job_id
                )
            for chunk in unknown:
                is_present = chunk.chunk_id in result.present
                if is_present or is_certain[chunk.chunk_id]:
                    await log.record(
                        facts.ChunkReconciled(
                            job_id=self._job_id,
                            chunk_id=chunk.chunk_id,
                            is_present=is_present,
                            how=result.how,
                            is_final=self._waits_for_late_uploads,
                        )
                    )
                else:
                    self._missed.add(chunk.chunk_id)

    async def _list_and_compare(self, job: JobRecord) -> Reconciliation:
        chunks = job.chunks.values()
        listed, is_cut = await self._list_chunks(self._job_id)
        return reconcile(
            [chunk.as_sent() for chunk in chunks if chunk.state == "acked"],
            [chunk.as_sent() for chunk in chunks if chunk.is_open],
            listed,
            known=await self._context.log.known_checksum(),
            may_hold_late_chunks=job.quarantined_since is not None,
            is_cut=is_cut,
        )
