"""One push from source to receipt: wires producer, queue, uploaders and job, and owns failure, drain and abort.

```
source --read--> record batches --cut--> chunks --encode--> payloads --asyncio.Queue--> uploaders --> job --verify--> submit --> poll
         reader thread                    encoder threads    bounded        max_uploads             quota
```

Until the submit leaves, the table is untouched, so every surprise has the same repair: delete the job, and start again in a fresh one
with what was learned (`_RESTARTABLE`), or report the cause. A failure in any task stops all of them; the first real cause is what is
raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Literal, NoReturn, TypeVar

from pushengine import events
from pushengine.budget import ByteBudget, ReadyChunk
from pushengine.chunking import AsyncChunkReader, ChunkReader
from pushengine.clock import Clock
from pushengine.config import EngineSettings
from pushengine.encoding import EncodingOptions, encode
from pushengine.errors import (
    EngineClosedError,
    JobFailedError,
    JobVanishedError,
    PushEngineError,
    SourceReadError,
    ValueMisfitError,
    VerificationError,
)
from pushengine.jobs import DrainSwitch, JobRunner
from pushengine.limiter import SubmitLimiter
from pushengine.model import ColumnType, Job, JobId, JobStatus, Receipt, SentChunk, Target
from pushengine.producer import BlockingChunkStream, ChunkStream, Producer
from pushengine.retry import RetryPolicy
from pushengine.schema import SchemaSettler, TableSchema
from pushengine.sources import AsyncSource, open_source
from pushengine.types import BatchReader, Destination, FileSystem, OffLoop, Source, SourceBatch, Workers
from pushengine.uploader import Uploader
from pushengine.workers import finish

T = TypeVar("T")

MAX_RESTARTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Runtime:
    """What the engine does not make itself, so that a simulation can own it: time, chance, files and threads."""

    clock: Clock
    rng: random.Random
    filesystem: FileSystem
    off_loop: OffLoop
    new_workers: Callable[[], Workers]


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """What all pushes of one engine share."""

    destination: Destination
    limiter: SubmitLimiter
    budget: ByteBudget
    settings: EngineSettings
    runtime: Runtime
    drain: DrainSwitch
    sink: events.EventSink
    table_locks: dict[str, asyncio.Lock]


@dataclasses.dataclass(slots=True)
class _Progress:
    """What the receipt is made of."""

    job_id: JobId | None = None
    rows: int = 0
    sent: list[SentChunk] = dataclasses.field(default_factory=list)
    retries: int = 0
    submits: int = 0
    restarts: int = 0
    verified: Literal["checksum", "count"] | None = None
    job_logs: tuple[str, ...] = ()
    source_bytes: int | None = None
    timings: dict[str, float] = dataclasses.field(default_factory=dict)


class PushRun:
    """One push.

    Args:
        spec: Path, pattern, list of them, Arrow object or async iterator of record batches.
        target: Table, mode and keys.
        shared: Connections, memory, quota.
        push_id: Name of this push in events and logs.
        source_format: Format of files, or None to go by their names.
        arrow_schema: Schema of an iterator's batches, where it has none of its own.
        column_types: Types that the user set by hand.
    """

    def __init__(
        self,
        spec: Any,
        target: Target,
        shared: Shared,
        *,
        push_id: str,
        source_format: str | None = None,
        arrow_schema: Any = None,
        column_types: Mapping[str, ColumnType] | None = None,
    ) -> None:
        self._spec = spec
        self._target = target
        self._shared = shared
        self._settings = shared.settings
        self._clock = shared.runtime.clock
        self._push_id = push_id
        self._source_format = source_format
        self._arrow_schema = arrow_schema
        self._column_types = dict(column_types or {})
        self._progress = _Progress()
        self._sent_bytes_total = 0
        self._start = self._clock.monotonic()

    async def run(self) -> Receipt:
        """Do all of it.

        Returns:
            The receipt of a push that is DONE.

        Raises:
            PushEngineError: The cause of the failure; `.receipt` tells what was done. Nothing is running any more, and an unsubmitted
                job is deleted.
        """
        workers = self._shared.runtime.new_workers()
        try:
            await self._push(workers)
        except BaseException as error:  # noqa: BLE001 - _fail() raises it, or its real cause
            self._fail(error)
        else:
            receipt = await self._finished_receipt()
            self._shared.sink.emit(events.PushFinished(push_id=self._push_id, receipt=receipt))
            return receipt
        finally:
            await workers.aclose()

    def _fail(self, error: BaseException) -> NoReturn:
        cause = real_cause(error)
        receipt = self._receipt(status_of(cause))
        if isinstance(cause, PushEngineError):
            cause.receipt = receipt
        self._shared.sink.emit(
            events.PushFailed(push_id=self._push_id, error=str(cause), error_type=type(cause).__name__, receipt=receipt)
        )
        if cause is error:
            raise cause
        raise cause from cause.__cause__

    async def _push(self, workers: Workers) -> None:
        source = await workers.read(
            open_source,
            self._spec,
            format=self._source_format,
            schema=self._arrow_schema,
            settings=self._settings,
            filesystem=self._shared.runtime.filesystem,
        )
        intake = open_intake(source, self._settings, self._settler, workers)
        try:
            await self._push_from(intake, workers)
        finally:
            await intake.aclose()

    async def _push_from(self, intake: Intake | AsyncIntake, workers: Workers) -> None:
        schema = await self._settle(intake, is_exhaustive=False)
        self._progress.source_bytes = intake.size_bytes
        self._shared.sink.emit(
            events.PushStarted(
                push_id=self._push_id,
                table=self._target.table,
                mode=self._target.mode,
                source=intake.label,
                source_bytes=intake.size_bytes,
                columns=len(schema.columns),
            )
        )
        while True:
            try:
                job = await self._attempt(intake, schema, workers)
            except BaseException as error:  # noqa: BLE001 - raised again unless a fresh job repairs it
                cause = real_cause(error)
                self._check_restart(cause, intake)
                self._announce_restart(cause)
                if isinstance(cause, ValueMisfitError):
                    schema = await self._settle(intake, is_exhaustive=True)
            else:
                self._progress.job_logs = job.logs
                return

    async def _settle(self, intake: Intake | AsyncIntake, *, is_exhaustive: bool) -> TableSchema:
        with self._timed("plan"):
            return await self._shared.drain.guard(intake.settle(is_exhaustive=is_exhaustive))

    def _settler(self, source_schema: Any, *, is_text: bool, source: str) -> SchemaSettler:
        return SchemaSettler(
            source_schema, is_text=is_text, overrides=self._column_types, keys=self._target.keys, source=source
        )

    def _check_restart(self, cause: BaseException, intake: Intake | AsyncIntake) -> None:
        """Raise the cause unless a fresh job can repair it."""
        is_repairable = isinstance(cause, ValueMisfitError | VerificationError | JobVanishedError) or (
            isinstance(cause, PushEngineError)
            and cause.disposition == "outcome_unknown"
            and self._progress.submits == 0
            and self._progress.job_id is not None
        )
        if not is_repairable or self._progress.restarts >= MAX_RESTARTS:
            raise cause
        if not intake.is_repeatable:
            if isinstance(cause, PushEngineError):
                cause.hint = (
                    "the push would start again in a fresh job, but this source can be read only once:"
                    " push a file or a table instead"
                )
            raise cause

    def _announce_restart(self, cause: BaseException) -> None:
        self._progress.restarts += 1
        self._shared.sink.emit(
            events.PushRestarted(
                push_id=self._push_id,
                job_id=self._progress.job_id,
                restarts=self._progress.restarts,
                reason=str(cause),
            )
        )

    async def _attempt(self, intake: Intake | AsyncIntake, schema: TableSchema, workers: Workers) -> Job:
        """One job, from create to settled; deleted again if anything goes wrong before its submit leaves."""
        progress = self._progress
        progress.job_id, progress.rows, progress.sent, progress.verified = None, 0, [], None
        jobs = self._job_runner()
        try:
            self._shared.drain.check()
            created = await jobs.create(schema.table_columns())
            progress.job_id = created.id
            with self._timed("transfer"):
                await self._transfer(intake, schema, created.id, workers)
            self._shared.drain.check()
            with self._timed("verify"):
                progress.verified = await jobs.verify(created.id, progress.sent)
            async with self._table_lock():
                with self._timed("submit"):
                    await jobs.submit(created.id)
                with self._timed("poll"):
                    return await jobs.poll(created.id)
        except BaseException:
            if progress.job_id is not None and not jobs.may_have_run:
                await jobs.discard(progress.job_id)
            raise
        finally:
            progress.submits += jobs.submits

    async def _transfer(
        self, intake: Intake | AsyncIntake, schema: TableSchema, job_id: JobId, workers: Workers
    ) -> None:
        """The pipeline: all chunks of the source acknowledged by the job, or the first failure of any task."""
        settings, shared = self._settings, self._shared
        queue: asyncio.Queue[ReadyChunk] = asyncio.Queue(maxsize=settings.max_uploads)
        encode_chunk = functools.partial(
            encode,
            schema=schema,
            options=EncodingOptions(
                file_type=settings.file_type,
                compression=settings.compression,
                timestamps=settings.timestamps,
            ),
        )
        with shared.budget.scope() as budget:
            async with intake.chunks() as stream:
                producer = Producer(
                    stream,
                    encode=encode_chunk,
                    queue=queue,
                    budget=budget,
                    chunk_bytes=settings.chunk_bytes,
                    workers=workers,
                    encoders=settings.encoder_threads,
                    push_id=self._push_id,
                    sink=shared.sink,
                )
                uploader = Uploader(
                    shared.destination,
                    job_id=job_id,
                    kind=self._target.chunk_type,
                    queue=queue,
                    budget=budget,
                    policy=self._policy,
                    clock=self._clock,
                    rng=shared.runtime.rng,
                    push_id=self._push_id,
                    sink=shared.sink,
                    on_retry=self._on_retry,
                )
                self._progress.sent = uploader.sent
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
        self._progress.rows = producer.rows
        if not producer.rows and not shared.drain.is_set:
            raise SourceReadError("no rows", source=intake.label, hint="an empty source is not pushed")

    def _job_runner(self) -> JobRunner:
        settings, shared = self._settings, self._shared
        return JobRunner(
            shared.destination,
            limiter=shared.limiter,
            target=self._target,
            policy=self._policy,
            clock=self._clock,
            rng=shared.runtime.rng,
            drain=shared.drain,
            push_id=self._push_id,
            sink=shared.sink,
            on_retry=self._on_retry,
            conflict_wait_seconds=settings.conflict_wait_seconds,
            poll_max_interval_seconds=settings.poll_max_interval_seconds,
            job_deadline_seconds=settings.job_deadline_seconds,
        )

    @property
    def _policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self._settings.max_attempts, max_wait_seconds=self._settings.retry_max_wait_seconds
        )

    def _on_retry(self, operation: str, attempt: int, wait_seconds: float, error: PushEngineError) -> None:
        self._progress.retries += 1
        self._shared.sink.emit(
            events.RetryScheduled(
                push_id=self._push_id,
                operation=operation,
                attempt=attempt,
                wait_seconds=round(wait_seconds, 3),
                error=error.message,
            )
        )

    def _table_lock(self) -> asyncio.Lock:
        """Submits of one table follow one another: the platform answers parallel ones with 409 (fact sheet 3.2)."""
        name = f"{self._target.connection_id or ''}/{self._target.table}".casefold()
        return self._shared.table_locks.setdefault(name, asyncio.Lock())

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = self._clock.monotonic()
        try:
            yield
        finally:
            timings = self._progress.timings
            timings[phase] = timings.get(phase, 0.0) + self._clock.monotonic() - start

    async def _finished_receipt(self) -> Receipt:
        quota_used = await self._shared.limiter.spent()
        return dataclasses.replace(
            self._receipt("DONE"), quota_used=quota_used, quota_limit=self._settings.submits_per_hour
        )

    def _receipt(self, status: Literal["DONE", "ERROR", "CANCELED", "INTERRUPTED"]) -> Receipt:
        progress = self._progress
        sent = sorted(progress.sent, key=lambda chunk: chunk.chunk_id)
        return Receipt(
            push_id=self._push_id,
            job_id=progress.job_id,
            table=self._target.table,
            mode=self._target.mode,
            status=status,
            rows=sum(chunk.rows for chunk in sent),
            chunks=len(sent),
            payload_bytes=sum(chunk.payload_bytes for chunk in sent),
            source_bytes=progress.source_bytes or 0,
            elapsed_seconds=self._clock.monotonic() - self._start,
            retries=progress.retries,
            submits=progress.submits,
            restarts=progress.restarts,
            resumed=False,
            verified=progress.verified,
            job_logs=progress.job_logs,
            checksums=tuple(chunk.digests["sha256"] for chunk in sent),
            timings=progress.timings,
        )


class Intake:
    """A source that can be read on a thread: settles its schema and gives its chunks."""

    def __init__(
        self,
        source: Source,
        settings: EngineSettings,
        new_settler: Callable[..., SchemaSettler],
        workers: Workers,
    ) -> None:
        self._source = source
        self._settings = settings
        self._new_settler = new_settler
        self._workers = workers
        self.label = source.label
        self.is_repeatable = source.is_repeatable
        self.size_bytes: int | None = None
        self.sampled_rows = 0
        self.sampled_bytes = 0

    async def settle(self, *, is_exhaustive: bool) -> TableSchema:
        """One schema for the whole push, from a sample or from every row."""
        read = self._workers.read
        self.size_bytes = await read(self._source.size_bytes)
        schema = await read(self._source.schema)
        settler = self._new_settler(schema, is_text=self._source.is_text, source=self.label)
        reader = await read(self._source.open) if is_exhaustive else None
        batches = iter(reader) if reader is not None else self._source.sample(self._settings.sample_bytes)
        self.sampled_rows = self.sampled_bytes = 0
        try:
            while (batch := await read(_next_or_none, batches)) is not None:
                await self._workers.encode(settler.observe, batch)
                self.sampled_rows += batch.batch.num_rows
                self.sampled_bytes += batch.batch.nbytes
        finally:
            await self._close(batches, reader)
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        return settler.settle()

    async def aclose(self) -> None:
        """Nothing is open between two passes."""

    @contextlib.asynccontextmanager
    async def chunks(self) -> AsyncIterator[ChunkStream]:
        """One pass over all rows in chunks."""
        reader = await self._workers.read(self._source.open)
        chunk_reader = ChunkReader(reader, self._settings.chunk_bytes)
        try:
            yield BlockingChunkStream(
                chunk_reader.next_chunk,
                stop=chunk_reader.stop,
                bytes_read=reader.bytes_read,
                read=self._workers.read,
            )
        finally:
            chunk_reader.stop()
            await self._close(None, reader)

    async def _close(self, batches: Iterator[SourceBatch] | None, reader: BatchReader | None) -> None:
        """Close on the reader thread, behind whatever read is still running there."""

        def close() -> None:
            closer = getattr(batches, "close", None)
            if closer is not None:
                closer()
            if reader is not None:
                reader.close()

        await finish(self._workers.read(close))


class AsyncIntake:
    """An async iterator of record batches: the first ones are kept back to settle the schema."""

    is_repeatable = False
    size_bytes: int | None = None

    def __init__(
        self, source: AsyncSource, settings: EngineSettings, new_settler: Callable[..., SchemaSettler]
    ) -> None:
        self._source = source
        self._settings = settings
        self._new_settler = new_settler
        self._kept: list[SourceBatch] = []
        self.label = source.label
        self.sampled_rows = 0
        self.sampled_bytes = 0

    async def settle(self, *, is_exhaustive: bool) -> TableSchema:
        """One schema for the whole push, from the first batches."""
        del is_exhaustive
        while self.sampled_bytes < self._settings.sample_bytes:
            batch = await anext(self._source.batches, None)
            if batch is None:
                break
            self._kept.append(batch)
            self.sampled_bytes += batch.batch.nbytes
            self.sampled_rows += batch.batch.num_rows
        if not self.sampled_rows:
            raise SourceReadError("no rows", source=self.label, hint="an empty source is not pushed")
        schema = self._source.schema or self._kept[0].batch.schema
        settler = self._new_settler(schema, is_text=False, source=self.label)
        for batch in self._kept:
            settler.observe(batch)
        return settler.settle()

    @contextlib.asynccontextmanager
    async def chunks(self) -> AsyncIterator[ChunkStream]:
        """All batches in chunks."""
        yield AsyncChunkReader(self._batches(), self._settings.chunk_bytes)

    async def aclose(self) -> None:
        """Close the iterator."""
        await self._source.aclose()

    async def _batches(self) -> AsyncIterator[SourceBatch]:
        while self._kept:
            yield self._kept.pop(0)
        async for batch in self._source.batches:
            yield batch


def open_intake(
    source: Source | AsyncSource,
    settings: EngineSettings,
    new_settler: Callable[..., SchemaSettler],
    workers: Workers,
) -> Intake | AsyncIntake:
    """The engine's side of a source."""
    if isinstance(source, AsyncSource):
        return AsyncIntake(source, settings, new_settler)
    return Intake(source, settings, new_settler, workers)


def _next_or_none(batches: Iterator[T]) -> T | None:
    return next(batches, None)


def real_cause(error: BaseException) -> BaseException:
    """The failure that a person should hear of: the first one of a group that is not a cancellation."""
    while isinstance(error, BaseExceptionGroup):
        failures = [inner for inner in error.exceptions if not isinstance(inner, asyncio.CancelledError)]
        error = (failures or list(error.exceptions))[0]
    return error


def status_of(cause: BaseException) -> Literal["ERROR", "CANCELED", "INTERRUPTED"]:
    """Receipt status of a push that ended with `cause`."""
    if isinstance(cause, asyncio.CancelledError | KeyboardInterrupt | EngineClosedError):
        return "INTERRUPTED"
    if isinstance(cause, JobFailedError) and cause.status == JobStatus.CANCELED:
        return "CANCELED"
    return "ERROR"
