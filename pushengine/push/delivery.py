"""Delivery of a push in one job: send all rows, verify, submit, and poll to the final status."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

from pushengine.errors import JobTaintedError, SourceChangedError, SourceError, no_rows
from pushengine.interfaces import FileSystem, Workers
from pushengine.journal import facts
from pushengine.journal.state import JobRecord
from pushengine.model import Payload
from pushengine.parquet.slices import checked_payload, key_columns
from pushengine.pipeline.chunking import Chunk, Chunker
from pushengine.pipeline.concurrency import START_LIMIT, ConcurrencyController
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.encoding import DIGESTS, JOURNAL_DIGEST, EncodingOptions, encode
from pushengine.pipeline.keys.check import KeyCheck
from pushengine.pipeline.keys.guard import KeyGuard
from pushengine.pipeline.memory_budget import ReadyChunk
from pushengine.pipeline.producer import MAX_EXPANSION, AlreadySent, Producer
from pushengine.pipeline.reconciler import Reconciler
from pushengine.pipeline.rejects import RejectedRows, RejectLimit, delete_old_files
from pushengine.pipeline.source_reader import OpenedSource
from pushengine.pipeline.uploader import Uploader, UploadSlots
from pushengine.push.ending import Turn, end_job
from pushengine.push.job import JobRunner
from pushengine.schema.columns import TableSchema
from pushengine.sources.file_hash import FileHasher
from pushengine.sources.fingerprint import compare_files, is_same_except_inode
from pushengine.text import format_rows

_MAX_PASSES = 3
"""A file that is touched during each of these passes is assumed to be still being written."""


class Delivery:
    """One job of a push, from its creation (or where an earlier process left it) to its final status.

    Args:
        context: The push.
        source: The open source, with the fingerprint that its files had when it was opened.
        workers: Threads that read, encode and hash.
        rechecks: Read again what an earlier process sent, and compare it: the files seem to have been touched since.
        turn: What happens around the submit.

    Attributes:
        source_nbytes: Number of source bytes read; None until the source was read.
        keys: The check of the keys.
        decodes: Whether files that could be passed through are decoded, because rows of them are rejected.
    """

    def __init__(
        self,
        context: PushContext,
        source: OpenedSource,
        workers: Workers,
        *,
        rechecks: bool,
        turn: Turn,
    ) -> None:
        self._context = context
        self._jobs = JobRunner(context)
        self._reader = source.source_reader
        self._fingerprint = source.fingerprint
        self._workers = workers
        self._rechecks = rechecks
        self._turn = turn
        self.source_nbytes: int | None = None
        limits = context.shared.engine_settings
        planned = context.log.state.planned
        self.keys = KeyGuard(context, source.source_reader, workers)
        self._allows_empty = (
            context.target.mode == "replace" and planned is not None and bool(planned.options.get("allow_empty"))
        )
        self.decodes = context.log.state.decodes
        self._slots = UploadSlots(context, ConcurrencyController(lowest=limits.min_uploads, highest=limits.max_uploads))

    async def run(self, schema: TableSchema) -> None:
        """Bring the job to its end.

        Raises:
            PushEngineError: The cause of the failure, possibly inside an exception group; the job is left as it is.
        """
        self._context.drain.check()
        log = self._context.log
        record = log.state.job or log.state.job_of((await self._jobs.create(schema)).id)
        if not record.is_complete:
            await self._context.take_slot()
            with self._context.timed("transfer"):
                await self._send_source(record, schema)
        self._workers.rest()
        self._context.give_slot_back()
        await end_job(self._context, record, self._turn)

    async def _send_source(self, record: JobRecord, schema: TableSchema) -> None:
        """Send all rows of the source to the job; if files were touched meanwhile, read and compare them again, without uploads.

        Raises:
            SourceChangedError: A file has changed, or is still touched after `_MAX_PASSES` passes.
        """
        filesystem = self._context.shared.runtime.filesystem
        for _ in range(_MAX_PASSES):
            rows, sha256 = await self._transfer(record, schema)
            before, self._fingerprint = self._fingerprint, await self._reader.fingerprint(filesystem)
            change = compare_files(before, self._fingerprint)
            if change == "changed":
                break
            # If a pass has compared everything and found it equal, device, inode and change time need not match: some file systems
            # report new ones on every stat.
            is_certain = change == "same" or (self._rechecks and is_same_except_inode(before, self._fingerprint))
            self._rechecks = not is_certain
            if is_certain:
                await self._context.log.record(
                    facts.SourceAcked(job_id=record.job_id, rows=rows, fingerprint=self._fingerprint, sha256=sha256)
                )
                return
        raise SourceChangedError(
            "changed while it was read", source=self._reader.label, hint="push it when it is complete"
        )

    async def _transfer(self, record: JobRecord, schema: TableSchema) -> tuple[int, list[str] | None]:
        """Run the pipeline until the job has acknowledged all chunks of the source, or until a task fails.

        Returns:
            Number of rows of the source, and the SHA-256 of each of its files (None if they were not hashed, see `_hasher`).
        """
        context, settings = self._context, self._context.settings
        reconciler = Reconciler(context, record.job_id, self._jobs.list_chunks)
        await reconciler.reconcile_unknown()
        # The keys and the rejected rows of chunks that an earlier process sent have to be known, too: encode these chunks again.
        lacks_rows = any(chunk.rejected for chunk in record.acked)
        self._rechecks = self._rechecks or lacks_rows or (self.keys.is_checked and bool(record.acked))
        index, first_row = (0, 0) if self._rechecks else record.resume_point()
        # Enough for uploads that end at the same time; a longer queue would only hold more memory.
        queue: asyncio.Queue[ReadyChunk] = asyncio.Queue(maxsize=min(START_LIMIT, settings.max_uploads))
        digests = await self._digests()
        with (
            self.keys.checking(schema) as keys,
            self._rejecting(record) as rejects,
            context.shared.budget.scope() as budget,
        ):
            async with self._reader.chunks(
                index,
                first_row,
                schema,
                allow_empty=self._allows_empty,
                allow_passthrough=not (self.keys.drops_rows or self.decodes),
            ) as chunks:
                if rejects is not None:
                    rejects.stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, chunks.stop)
                hasher = self._hasher(chunks)
                if hasher is not None:
                    chunks.on_read = hasher.follow
                producer = Producer(
                    context,
                    chunks,
                    encode=payload_builder(context, schema, digests, keys, rejects),
                    queue=queue,
                    budget=budget,
                    workers=self._workers,
                    before=AlreadySent(record, self._reader.label, rechecks=self._rechecks),
                )
                uploader = Uploader(
                    context, record.job_id, queue=queue, budget=budget, slots=self._slots, reconciler=reconciler
                )
                async with asyncio.TaskGroup() as pipeline:
                    stopper = pipeline.create_task(context.drain.when_set(chunks.stop), name="drain")
                    uploads = [
                        pipeline.create_task(uploader.run(), name=f"upload {number}")
                        for number in range(min(settings.max_uploads, self._most_chunks(chunks.chunk_bytes)))
                    ]
                    hashing = None if hasher is None else pipeline.create_task(hasher.run(), name="hash")
                    await producer.run()
                    await queue.join()
                    if hashing is not None and not context.drain.is_set:
                        await hashing
                    for task in (stopper, *uploads, *([hashing] if hashing else [])):
                        task.cancel()
            context.drain.check()
            self.source_nbytes = producer.nbytes
            if rejects is not None:
                await self._decide_on_rejects(rejects, record, producer.end_row)
            self._require_complete(record, producer.end_row)
            _require_enough(context, producer.end_row, self._reader.label)
            if not self.keys.drops_rows:
                _require_expected(
                    context, producer.end_row + (0 if rejects is None else rejects.rows), self._reader.label
                )
            if keys is not None and keys.runs is not None:
                await self.keys.require_unique(keys.runs, schema, record.job_id)
        return producer.end_row, None if hashing is None else hashing.result()

    def _most_chunks(self, chunk_bytes: int) -> int:
        """Return how many chunks the source can have, as far as its size shows: a small one needs few uploads at a time."""
        source_bytes = self._context.measures.source_bytes
        if source_bytes is None:
            return self._context.settings.max_uploads
        return 1 + len(self._reader.files) + source_bytes * MAX_EXPANSION // chunk_bytes

    @contextlib.contextmanager
    def _rejecting(self, record: JobRecord) -> Iterator[RejectedRows | None]:
        """Return what collects the rows that one pass rejects; None if none may be rejected."""
        shared = self._context.shared
        if not shared.engine_settings.allows_rejects:
            yield None
            return
        rejects = RejectedRows(
            RejectLimit(shared.engine_settings.max_rejects),
            widens=not self._context.log.state.knows_all_rows,
            job_id=record.job_id,
            scratch=shared.scratch,
        )
        try:
            with rejects:
                yield rejects
        finally:
            self.decodes = self.decodes or rejects.must_decode

    async def _decide_on_rejects(self, rejects: RejectedRows, record: JobRecord, loaded: int) -> None:
        """List the rejected rows, record their number, and require that they are not too many.

        Raises:
            SchemaError: They are.
            ConfigError: They cannot be listed.
        """
        log, shared = self._context.log, self._context.shared
        path = shared.rejects / f"{log.push_id}.csv"
        await shared.runtime.off_loop(rejects.write, path)
        if rejects.rows or log.state.rejects is not None:
            await log.record(
                facts.RowsRejected(job_id=record.job_id, rows=rejects.rows, file=str(path) if rejects.rows else "")
            )
        if rejects.rows:
            before = self._context.clock.now() - self._context.settings.history_days * 86_400.0
            await shared.runtime.off_loop(delete_old_files, shared.rejects, before)
        rejects.require_allowed(loaded, path)

    def _hasher(self, chunks: Chunker) -> FileHasher | None:
        """Return a hasher for the files of a load, which knows them by their content, and of an append, which would add rows twice.

        Passthrough chunks of an append need none, since they have digests of the files' bytes.
        """
        planned = self._context.log.state.planned
        has_load = planned is not None and planned.claim is not None
        is_append = self._context.target.mode == "append" and not chunks.is_passthrough
        if not self._reader.files or not (has_load or is_append):
            return None
        return FileHasher(self._reader.files, filesystem=self._context.shared.runtime.filesystem, workers=self._workers)

    async def _digests(self) -> Sequence[str]:
        """Return the names of the digests that each chunk needs: the journal's and the platform's.

        All digests that the platform may use are needed in a team's first push, and after a job was abandoned: the platform may have
        changed its algorithm.
        """
        known = await self._context.log.known_checksum()
        if known is None or len(self._context.log.state.jobs) > 1:
            return DIGESTS
        return tuple(name for name in DIGESTS if name in (JOURNAL_DIGEST, known.partition("/")[0]))

    def _require_complete(self, record: JobRecord, rows: int) -> None:
        """Require that the acknowledged chunks cover the source exactly, row for row.

        Raises:
            SourceReadError: The source has no rows.
            JobTaintedError: The chunks have a gap or an overlap.
        """
        if not rows and not self._allows_empty:
            raise no_rows(self._reader.label)
        covered = 0
        for chunk in record.acked:
            if chunk.source_rows[0] != covered:
                break
            covered = chunk.source_rows[1]
        if covered != rows or sum(chunk.rows for chunk in record.acked) != rows:
            raise JobTaintedError(
                f"job {record.job_id} holds rows up to {covered} of {rows} without a gap", job_id=record.job_id
            )


def _require_expected(context: PushContext, rows: int, source: str) -> None:
    """Require that the files of a load hold as many rows as their control file says.

    Args:
        context: The push.
        rows: Rows read, those that were rejected among them.
        source: Name of the source.

    Raises:
        SourceError: They hold more or fewer.
    """
    planned = context.log.state.planned
    expected = None if planned is None or planned.claim is None else planned.claim.get("expected_rows")
    if expected is not None and rows != expected:
        raise SourceError(
            f"{format_rows(rows)}, but the control file says {expected:,}",
            source=source,
            hint="check the extract and its control file",
        )


def _require_enough(context: PushContext, rows: int, source: str) -> None:
    """Require that a replace has as many rows as its guards demand.

    Raises:
        SourceError: It has fewer.
    """
    settings, state = context.settings, context.log.state
    if context.target.mode != "replace":
        return
    if rows < settings.min_rows:
        raise SourceError(
            f"{format_rows(rows)}, fewer than the {settings.min_rows:,} that min_rows demands",
            source=source,
            hint="check the extract, or lower min_rows (--min-rows)",
        )
    before = (state.known or {}).get("rows")
    if settings.max_drop is None or not before or rows >= before * (1 - settings.max_drop):
        return
    raise SourceError(
        f"{format_rows(rows)}, {1 - rows / before:.0%} fewer than the {before:,} of the last replace; max_drop allows"
        f" {settings.max_drop:.0%}",
        source=source,
        hint="check the extract; if it is right, push it with --max-drop 1",
    )


def payload_builder(
    context: PushContext,
    schema: TableSchema,
    digests: Sequence[str],
    keys: KeyCheck | None = None,
    rejects: RejectedRows | None = None,
) -> Callable[[Chunk], Payload]:
    """Return a function that builds the payloads of a push's chunks; call it on encoder threads."""
    return functools.partial(
        build_payload,
        schema=schema,
        options=EncodingOptions.of(context.settings),
        digests=digests,
        filesystem=context.shared.runtime.filesystem,
        keys=keys,
        rejects=rejects,
    )


def build_payload(
    chunk: Chunk,
    *,
    schema: TableSchema,
    options: EncodingOptions,
    digests: Sequence[str],
    filesystem: FileSystem,
    keys: KeyCheck | None = None,
    rejects: RejectedRows | None = None,
) -> Payload:
    """Build the payload of a chunk. Runs on encoder threads.

    Raises:
        SourceError: A value does not fit, or the source is damaged.
        JournalError: The keys cannot be kept on disk.
        ConfigError: The rejected rows cannot be kept on disk.
        JobTaintedError: Rows have to be rejected that are passed through.
    """
    watched = None if keys is None else keys.chunk()
    observe = None if watched is None else watched.observe
    rejected = None if rejects is None else rejects.chunk()
    if chunk.passthrough is None:
        load = None if rejected is None else rejected.load
        payload = encode(chunk, schema, options, digests, observe=observe, load=load)
    else:
        with contextlib.nullcontext() if rejects is None else rejects.passing_through():
            payload = checked_payload(chunk.chunk_id, chunk.passthrough, schema, digests=digests, filesystem=filesystem)
        if observe is not None:
            for rows in key_columns(chunk.passthrough, schema, filesystem):
                observe(rows)
    if watched is not None:
        watched.commit()
    if rejected is None or not rejected.rows:
        return payload
    rejected.commit(chunk.chunk_id)
    return dataclasses.replace(payload, rejected=rejected.rows)
