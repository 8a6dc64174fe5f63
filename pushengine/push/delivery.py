"""One job of a push, from create (or from where an earlier process left it) to settled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import JobTaintedError, SourceChangedError, SourceReadError
from pushengine.interfaces import FileSystem, Workers
from pushengine.journal.push_log import PushLog
from pushengine.journal.state import JobRecord
from pushengine.model import Job, Payload, Target
from pushengine.parquet.slices import PassthroughChunk, checked_payload
from pushengine.pipeline.concurrency import START_LIMIT, ConcurrencyController
from pushengine.pipeline.encoding import DIGESTS, JOURNAL_DIGEST, EncodingOptions, encode
from pushengine.pipeline.memory_budget import BudgetScope, ReadyChunk
from pushengine.pipeline.producer import Producer
from pushengine.pipeline.reconciler import Reconciler, UploadGate
from pushengine.pipeline.source_reader import AsyncSourceReader, SourceReader
from pushengine.pipeline.streams import ChunkStream, Rows
from pushengine.pipeline.uploader import OnRetry, Uploader, UploadSlots
from pushengine.push.context import Shared
from pushengine.push.job import JobRunner
from pushengine.runtime.aio import told_when_slow
from pushengine.schema.columns import TableSchema
from pushengine.sources.file_hash import FileHasher
from pushengine.sources.fingerprint import Fingerprint, compare_files, is_same_but_for_inode

_MAX_PASSES = 3
"""A file that is touched each time it is read is not complete."""
Timed = Callable[[str], contextlib.AbstractContextManager[None]]


class Delivery:
    """One job of a push, from create (or from where an earlier process left it) to settled.

    Args:
        settings: The engine's, but for those that decide about the bytes of this push's chunks.
        fingerprint: Of the source's files as they were when they were opened.
        rechecks: What an earlier process sent of them is read again and compared: they look touched since.
    """

    def __init__(
        self,
        *,
        shared: Shared,
        target: Target,
        source_reader: SourceReader | AsyncSourceReader,
        log: PushLog,
        jobs: JobRunner,
        workers: Workers,
        settings: EngineSettings,
        fingerprint: Fingerprint | None,
        rechecks: bool,
        on_retry: OnRetry,
        timed: Timed,
    ) -> None:
        self._shared = shared
        self._settings = settings
        self._target = target
        self._intake = source_reader
        self._log = log
        self._jobs = jobs
        self._workers = workers
        self._fingerprint = fingerprint
        self._rechecks = rechecks
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
                await self._send_source(record, schema)
        return await end_job(jobs, record, shared=self._shared, target=self._target, log=self._log, timed=self._timed)

    async def _send_source(self, record: JobRecord, schema: TableSchema) -> None:
        """All rows of the source into the job; again, without uploads, while files are touched meanwhile, until that is certain."""
        filesystem = self._shared.runtime.filesystem
        for _ in range(_MAX_PASSES):
            rows, sha256 = await self._transfer(record, schema)
            before, self._fingerprint = self._fingerprint, await self._intake.fingerprint(filesystem)
            change = compare_files(before, self._fingerprint)
            if change == "changed":
                break
            # A pass that compared everything has found it equal: then no more is asked for than what a file system can promise.
            is_certain = change == "same" or (self._rechecks and is_same_but_for_inode(before, self._fingerprint))
            self._rechecks = not is_certain
            if is_certain:
                await self._log.record(
                    "source_acked", job_id=record.job_id, rows=rows, fingerprint=self._fingerprint, sha256=sha256
                )
                return
        raise SourceChangedError(
            "changed while it was read", source=self._intake.label, hint="push it when it is complete"
        )

    async def _transfer(self, record: JobRecord, schema: TableSchema) -> tuple[int, list[str] | None]:
        """The pipeline: all chunks of the source acknowledged by the job, or the first failure of any task.

        Returns:
            Rows of the source, and the SHA-256 of its files where they are not sent as they are: their chunks have digests of their own.
        """
        shared, settings = self._shared, self._settings
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
        index, first_row = (0, 0) if self._rechecks else record.resume_point()
        # Enough for uploads that end at one moment; more would only be memory that waits.
        queue: asyncio.Queue[ReadyChunk] = asyncio.Queue(maxsize=min(START_LIMIT, settings.max_uploads))
        digests = await self._digests()
        with shared.budget.scope() as budget:
            async with self._intake.chunks(index, first_row, schema) as stream:
                hasher = self._hasher(stream)
                producer = build_producer(
                    stream if hasher is None else _FollowedStream(stream, hasher),
                    record,
                    self._intake.label,
                    shared=shared,
                    settings=settings,
                    workers=self._workers,
                    push_id=self._log.push_id,
                    schema=schema,
                    digests=digests,
                    queue=queue,
                    budget=budget,
                    rechecks=self._rechecks,
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
                    hashing = None if hasher is None else pipeline.create_task(hasher.run(), name="hash")
                    await producer.run()
                    await queue.join()
                    if hashing is not None and not shared.drain.is_set:
                        await hashing
                    for task in (stopper, *uploads, *([hashing] if hashing else [])):
                        task.cancel()
        shared.drain.check()
        self.source_nbytes = producer.nbytes
        self._require_whole(record, producer.end_row)
        return producer.end_row, None if hashing is None else hashing.result()

    def _hasher(self, stream: ChunkStream) -> FileHasher | None:
        """For append alone: only there would the same rows be added once more. What is sent as it is has digests of its bytes already."""
        if self._target.mode != "append" or stream.sends_files or not self._intake.files:
            return None
        return FileHasher(self._intake.files, filesystem=self._shared.runtime.filesystem, workers=self._workers)

    async def _digests(self) -> Sequence[str]:
        """Which checksums a chunk needs: ours and the platform's.

        All that it may use in a team's first push, and after a job was given up: perhaps because the platform uses another one now.
        """
        known = await self._log.known_checksum()
        if known is None or len(self._log.state.jobs) > 1:
            return DIGESTS
        return tuple(name for name in DIGESTS if name in (JOURNAL_DIGEST, known.partition("/")[0]))

    def _require_whole(self, record: JobRecord, rows: int) -> None:
        """The acknowledged chunks are the source, row for row."""
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


def build_payload(
    chunk: Rows, *, schema: TableSchema, options: EncodingOptions, digests: Sequence[str], filesystem: FileSystem
) -> Payload:
    """A chunk as it is sent. Runs on encoder threads.

    Raises:
        SourceError: A value does not fit, or the source is damaged.
    """
    if isinstance(chunk, PassthroughChunk):
        return checked_payload(chunk, schema, digests=digests, filesystem=filesystem)
    return encode(chunk, schema, options, digests)


def build_producer(
    stream: ChunkStream,
    record: JobRecord,
    label: str,
    *,
    shared: Shared,
    settings: EngineSettings,
    workers: Workers,
    push_id: str,
    schema: TableSchema,
    digests: Sequence[str],
    queue: asyncio.Queue[ReadyChunk],
    budget: BudgetScope,
    rechecks: bool,
) -> Producer:
    """A producer of the chunks that the job of `record` lacks.

    With `rechecks`, what the job holds is encoded too and compared, so the stream has to begin at the beginning; another chunk than was sent
    is a `SourceChangedError`.
    """

    def acked_rows(chunk_id: str) -> int | None:
        known = record.chunks.get(chunk_id)
        return known.rows if known is not None and known.state == "acked" else None

    return Producer(
        stream,
        encode=functools.partial(
            build_payload,
            schema=schema,
            options=EncodingOptions.of(settings),
            digests=digests,
            filesystem=shared.runtime.filesystem,
        ),
        queue=queue,
        budget=budget,
        workers=workers,
        encoders=shared.settings.encoder_threads,
        push_id=push_id,
        sink=shared.sink,
        acked_rows=acked_rows,
        recheck=functools.partial(_recheck, record, label) if rechecks else None,
    )


def _recheck(record: JobRecord, label: str, payload: Payload) -> None:
    """Compare a chunk of the source as it is now with what an earlier process sent of it."""
    sent = record.chunks[payload.chunk_id]
    if (payload.rows, payload.digests[JOURNAL_DIGEST]) != (sent.rows, sent.digests[JOURNAL_DIGEST]):
        raise SourceChangedError(
            "changed since its first rows were sent",
            source=label,
            position=f"rows {sent.source_rows[0] + 1} to {sent.source_rows[1]}",
            hint="push it when it is complete",
        )


class _FollowedStream:
    """A `ChunkStream` that tells a hasher how far it has read."""

    def __init__(self, stream: ChunkStream, hasher: FileHasher) -> None:
        self.first_row = stream.first_row
        self.chunk_bytes = stream.chunk_bytes
        self.sends_files = stream.sends_files
        self.stop = stream.stop
        self.bytes_read = stream.bytes_read
        self._stream = stream
        self._hasher = hasher

    async def next_chunk(self) -> Rows | None:
        """The next one, or None after the last or after `stop()`."""
        chunk = await self._stream.next_chunk()
        if chunk is None:
            self._hasher.finish()
        else:
            self._hasher.follow(self._stream.bytes_read() or 0)
        return chunk


async def end_job(
    jobs: JobRunner, record: JobRecord, *, shared: Shared, target: Target, log: PushLog, timed: Timed
) -> Job:
    """From all rows acknowledged to the end: look, submit, poll. Needs nothing of the source.

    Raises:
        PushEngineError: The cause; the job is as it was then.
    """
    shared.drain.check()
    settled = jobs.settled_before(record.job_id)
    if settled is not None:
        return settled
    async with _submit_turn(shared, target, log):
        if not await jobs.was_accepted_before(record.job_id):
            # Once a submit left, the job may run and its list tells nothing; it was compared before that submit.
            if not record.submits:
                with timed("verify"):
                    await jobs.seal(record.job_id)
            with timed("submit"):
                await jobs.submit(record.job_id)
        with timed("poll"):
            return await jobs.poll(record.job_id)


@contextlib.asynccontextmanager
async def _submit_turn(shared: Shared, target: Target, log: PushLog) -> AsyncIterator[None]:
    """Submits of one table follow one another: the platform answers parallel ones with 409 (fact sheet 3.2)."""
    name = f"{target.connection_id or ''}/{target.table}".casefold()
    lock = shared.table_locks.setdefault(name, asyncio.Lock())
    reason = f"another push into table {target.table} comes to its end first"
    with told_when_slow(lambda: shared.sink.emit(events.WaitStarted(push_id=log.push_id, reason=reason))):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()
