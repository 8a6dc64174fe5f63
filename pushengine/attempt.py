"""One job of a push, from create (or from where an earlier process left it) to settled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from pushengine.budget import ReadyChunk
from pushengine.concurrency import START_LIMIT, ConcurrencyController
from pushengine.encoding import DIGESTS, JOURNAL_DIGEST, EncodingOptions, encode
from pushengine.errors import JobTaintedError, SourceReadError
from pushengine.history import JobRecord
from pushengine.intake import AsyncIntake, Intake
from pushengine.jobs import JobRunner
from pushengine.model import Job, Payload, Target
from pushengine.pieces import FilePiece, checked_payload
from pushengine.producer import Producer, Rows
from pushengine.pushlog import PushLog
from pushengine.runtime import Shared
from pushengine.schema import TableSchema
from pushengine.types import Workers
from pushengine.uploader import OnRetry, Reconciler, Uploader, UploadGate, UploadSlots


class Attempt:
    """One job of a push, from create (or from where an earlier process left it) to settled."""

    def __init__(
        self,
        *,
        shared: Shared,
        target: Target,
        intake: Intake | AsyncIntake,
        log: PushLog,
        jobs: JobRunner,
        workers: Workers,
        fingerprint: list[Any] | None,
        on_retry: OnRetry,
        timed: Callable[[str], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._shared = shared
        self._target = target
        self._intake = intake
        self._log = log
        self._jobs = jobs
        self._workers = workers
        self._fingerprint = fingerprint
        self._on_retry = on_retry
        self._timed = timed
        self.source_nbytes: int | None = None
        self._slots = UploadSlots(
            ConcurrencyController(lowest=shared.settings.min_uploads, highest=shared.settings.max_uploads),
            clock=shared.runtime.clock,
            push_id=log.push_id,
            sink=shared.sink,
        )

    async def run(self, schema: TableSchema) -> Job:
        """Take the job to its end.

        Raises:
            PushEngineError: Or a group of them: the cause; the job is as it was then.
        """
        jobs, drain = self._jobs, self._shared.drain
        drain.check()
        record = self._log.state.job or self._log.state.job_of((await jobs.create(schema.table_columns())).id)
        if not record.is_complete:
            with self._timed("transfer"):
                await self._transfer(record, schema)
        drain.check()
        async with self._table_lock():
            if not await jobs.was_accepted_before(record.job_id):
                # Once a submit left, the job may run and its list tells nothing; it was compared before that submit.
                if not record.submits:
                    with self._timed("verify"):
                        await jobs.seal(record.job_id)
                with self._timed("submit"):
                    await jobs.submit(record.job_id)
            with self._timed("poll"):
                return await jobs.poll(record.job_id)

    async def _transfer(self, record: JobRecord, schema: TableSchema) -> None:
        """The pipeline: all chunks of the source acknowledged by the job, or the first failure of any task."""
        shared, settings = self._shared, self._shared.settings
        gate = UploadGate()
        reconciler = Reconciler(
            record.job_id,
            list_chunks=self._jobs.list_chunks,
            log=self._log,
            gate=gate,
            clock=shared.runtime.clock,
            settle_seconds=settings.settle_seconds,
            sink=shared.sink,
        )
        await reconciler.settle()
        index, first_row = record.resume_point()
        # Enough for uploads that end at one moment; more would only be memory that waits.
        queue: asyncio.Queue[ReadyChunk] = asyncio.Queue(maxsize=min(START_LIMIT, settings.max_uploads))
        options = EncodingOptions(
            file_type=settings.file_type, compression=settings.compression, timestamps=settings.timestamps
        )
        digests = await self._digests()
        with shared.budget.scope() as budget:
            async with self._intake.chunks(index, first_row, schema) as stream:
                producer = Producer(
                    stream,
                    encode=functools.partial(self._payload, schema=schema, options=options, digests=digests),
                    queue=queue,
                    budget=budget,
                    workers=self._workers,
                    encoders=settings.encoder_threads,
                    push_id=self._log.push_id,
                    sink=shared.sink,
                    acked_rows=functools.partial(self._acked_rows, record),
                )
                uploader = Uploader(
                    shared.destination,
                    job_id=record.job_id,
                    kind=self._target.chunk_type,
                    queue=queue,
                    budget=budget,
                    slots=self._slots,
                    policy=shared.policy,
                    clock=shared.runtime.clock,
                    rng=shared.runtime.rng,
                    log=self._log,
                    gate=gate,
                    reconciler=reconciler,
                    drain=shared.drain,
                    sink=shared.sink,
                    on_retry=self._on_retry,
                )
                async with asyncio.TaskGroup() as pipeline:
                    stopper = pipeline.create_task(shared.drain.when_set(stream.stop), name="drain")
                    uploads = [
                        pipeline.create_task(uploader.run(), name=f"upload {number}")
                        for number in range(settings.max_uploads)
                    ]
                    await producer.run()
                    await queue.join()
                    for task in (stopper, *uploads):
                        task.cancel()
        shared.drain.check()
        self.source_nbytes = producer.nbytes
        await self._check_whole(record, producer.end_row)

    async def _digests(self) -> Sequence[str]:
        """Which checksums a chunk needs: ours and the platform's.

        All that it may use in a team's first push, and after a job was given up: perhaps because the platform uses another one now.
        """
        known = await self._log.known_checksum()
        if known is None or len(self._log.state.jobs) > 1:
            return DIGESTS
        return tuple(name for name in DIGESTS if name in (JOURNAL_DIGEST, known.partition("/")[0]))

    def _payload(self, chunk: Rows, schema: TableSchema, options: EncodingOptions, digests: Sequence[str]) -> Payload:
        """Runs on encoder threads."""
        if isinstance(chunk, FilePiece):
            return checked_payload(chunk, schema, digests=digests, filesystem=self._shared.runtime.filesystem)
        return encode(chunk, schema, options, digests)

    @staticmethod
    def _acked_rows(record: JobRecord, chunk_id: str) -> int | None:
        known = record.chunks.get(chunk_id)
        return known.rows if known is not None and known.state == "acked" else None

    async def _check_whole(self, record: JobRecord, rows: int) -> None:
        """The acknowledged chunks are the source, row for row, and the source is still what it was."""
        if not rows:
            raise SourceReadError("no rows", source=self._intake.label, hint="an empty source is not pushed")
        covered = 0
        for chunk in record.acked:
            if chunk.source_rows[0] != covered:
                break
            covered = chunk.source_rows[1]
        if covered != rows or sum(chunk.rows for chunk in record.acked) != rows:
            raise JobTaintedError(
                f"job {record.job_id} holds rows up to {covered} of {rows} without a gap", job_id=record.job_id
            )
        if await self._intake.fingerprint(self._shared.runtime.filesystem) != self._fingerprint:
            raise SourceReadError(
                "changed while it was read", source=self._intake.label, hint="push it when it is complete"
            )

    def _table_lock(self) -> asyncio.Lock:
        """Submits of one table follow one another: the platform answers parallel ones with 409 (fact sheet 3.2)."""
        name = f"{self._target.connection_id or ''}/{self._target.table}".casefold()
        return self._shared.table_locks.setdefault(name, asyncio.Lock())
