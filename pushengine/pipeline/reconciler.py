"""What became of uploads without an answer: found out from the job's chunk list."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from pushengine import events
from pushengine.errors import JobTaintedError
from pushengine.events import EventSink
from pushengine.journal.push_log import PushLog
from pushengine.journal.state import JobRecord
from pushengine.model import JobId, RemoteChunk
from pushengine.pipeline.verification import Reconciliation, reconcile
from pushengine.runtime.aio import SILENT_SECONDS
from pushengine.runtime.clock import Clock

_LOOKS = 6


class UploadGate:
    """Many uploads at one time, or one quiet moment: who asks for the quiet waits for the running uploads, new ones wait for him."""

    def __init__(self) -> None:
        self._uploads = 0
        self._is_quiet = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def upload(self) -> AsyncIterator[None]:
        """Take part in the traffic."""
        async with self._is_quiet:
            self._uploads += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._uploads -= 1
            if not self._uploads:
                self._idle.set()

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """No upload is under way, and none begins."""
        async with self._is_quiet:
            await self._idle.wait()
            yield


class Reconciler:
    """Finds out which uploads without an answer have arrived.

    Args:
        job_id: The job that they were meant for.
        list_chunks: Reads the job's chunks, with retries.
        log: Knows what was sent, and learns what arrived.
        gate: Gives the quiet moment.
        clock: Waits.
        settle_seconds: How long the server may take to show what it has received.
        sink: Takes events.
    """

    def __init__(
        self,
        job_id: JobId,
        *,
        list_chunks: Callable[[JobId], Awaitable[list[RemoteChunk]]],
        log: PushLog,
        gate: UploadGate,
        clock: Clock,
        settle_seconds: float,
        sink: EventSink,
    ) -> None:
        self._job_id = job_id
        self._list_chunks = list_chunks
        self._log = log
        self._gate = gate
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._sink = sink

    async def has_arrived(self, chunk_id: str) -> bool:
        """Whether the job holds this chunk.

        Raises:
            JobTaintedError: It cannot be told, or the job holds more than what was sent.
        """
        await self.settle()
        return self._log.state.chunk_of(self._job_id, chunk_id).state == "acked"

    async def settle(self) -> None:
        """Decide all chunks of the job whose outcome is unknown.

        Raises:
            JobTaintedError: It cannot be told, or the job holds more than what was sent.
        """
        async with self._gate.quiet():
            job = self._log.state.job_of(self._job_id)
            unknown = [chunk for chunk in job.chunks.values() if chunk.is_open]
            if not unknown:
                return
            for look in range(_LOOKS):
                await self._wait(self._settle_seconds * 2**look)
                result = await self._look(job)
                if not result.is_behind:
                    break
            if result.taint is not None:
                raise JobTaintedError(
                    f"what job {self._job_id} holds cannot be trusted: {result.taint}", job_id=self._job_id
                )
            for chunk in unknown:
                is_present = chunk.chunk_id in result.present
                await self._log.record(
                    "chunk_settled",
                    job_id=self._job_id,
                    chunk_id=chunk.chunk_id,
                    is_present=is_present,
                    how=result.how,
                )
                self._sink.emit(
                    events.ChunkReconciled(
                        push_id=self._log.push_id,
                        job_id=self._job_id,
                        chunk_id=chunk.chunk_id,
                        is_present=is_present,
                        how=result.how,
                    )
                )

    async def _wait(self, seconds: float) -> None:
        if seconds > SILENT_SECONDS:
            reason = f"before the chunks of job {self._job_id} are listed: the list may lag behind"
            self._sink.emit(events.WaitStarted(push_id=self._log.push_id, reason=reason, seconds=seconds))
        await self._clock.sleep(seconds)

    async def _look(self, job: JobRecord) -> Reconciliation:
        chunks = job.chunks.values()
        listed = await self._list_chunks(self._job_id)
        return reconcile(
            [chunk.as_sent() for chunk in chunks if chunk.state == "acked"],
            [chunk.as_sent() for chunk in chunks if chunk.is_open],
            listed,
            known=await self._log.known_checksum(),
            may_hold_late_ones=job.quarantined_since is not None,
        )
