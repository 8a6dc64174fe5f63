"""Decides whether an earlier push of the same command continues, and whether the source still holds what was sent.

A push that may have been submitted is always ended from its own journal, without the source. The source matters in two cases: while
chunks remain to be sent, and after such a push has ended, to determine whether the command is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Literal

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceChangedError, real_cause
from pushengine.interfaces import Workers
from pushengine.journal.state import JobRecord, PushState
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.encoding import JOURNAL_DIGEST
from pushengine.pipeline.memory_budget import ReadyChunk
from pushengine.pipeline.producer import AlreadySent, Producer
from pushengine.pipeline.rejects import RejectedRows, RejectLimit
from pushengine.pipeline.source_reader import OpenedSource
from pushengine.push.delivery import payload_builder
from pushengine.push.identity import recipe_change
from pushengine.schema.columns import load_schema
from pushengine.sources.file_hash import FileHasher
from pushengine.sources.fingerprint import FileChange, Fingerprint, compare_files, sizes_and_probes

SOURCE_CHANGED = "the source has changed since"
Content = Literal["same", "another", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class Continuation:
    """The decision about an earlier push that was not submitted.

    Attributes:
        action: `resume` the push; `recheck` what it sent while resuming it; or `supersede` it by a new push.
        reason: Why it is superseded.
    """

    action: Literal["resume", "recheck", "supersede"]
    reason: str = ""


class ContinuationCheck:
    """Compares an earlier push of the same command with its source as it is now.

    Args:
        context: The earlier push.
        source: The source, opened with the settings that the push was planned with.
        workers: Threads that read, encode and hash.
    """

    def __init__(self, context: PushContext, source: OpenedSource, workers: Workers) -> None:
        self._context = context
        self._reader = source.source_reader
        self._fingerprint = source.fingerprint
        self._workers = workers

    @property
    def _state(self) -> PushState:
        return self._context.log.state

    async def find_continuation(self) -> Continuation:
        """Decide how the push continues; only for a push that was not submitted.

        Raises:
            SourceReadError: A file is gone or unreadable.
        """
        state = self._state
        if state.job is not None and state.job.is_complete:
            # No chunk remains to be sent, so settings and versions no longer matter.
            is_same = await self._compare() == "same"
            return Continuation("resume") if is_same else Continuation("supersede", SOURCE_CHANGED)
        if state.drops_duplicates:
            return Continuation("supersede", "which of its rows are left out has to be determined again")
        change = self._file_change()
        if change == "changed":
            return Continuation("supersede", SOURCE_CHANGED)
        reason = await self._recipe_change(self._context.shared.engine_settings)
        if reason is not None:
            return Continuation("supersede", reason)
        return Continuation("recheck" if change == "touched" else "resume")

    def _file_change(self) -> FileChange:
        """Return how the files changed since any process sent chunks of them."""
        known: list[Fingerprint | None] = [*self._state.fingerprints] or [None]
        changes = {compare_files(before, self._fingerprint) for before in known}
        return "changed" if "changed" in changes else "touched" if "touched" in changes else "same"

    async def _recipe_change(self, settings: EngineSettings) -> str | None:
        passthrough = await self._reader.passthrough_blocks(load_schema(self._state.schema or {}))
        return recipe_change(
            {} if self._state.planned is None else self._state.planned.recipe,
            settings,
            is_text=self._reader.is_text,
            is_passthrough=isinstance(passthrough, list) and not self._state.decodes,
        )

    async def matches_what_was_sent(self) -> bool:
        """Whether the source has exactly the content that the push sent and submitted.

        If that cannot be determined (the journal of an earlier version has no file digests), equal sizes and probes are enough for an
        append, because its rows would be duplicated. The other modes may run twice and yield the same table.

        Raises:
            SourceReadError: A file is gone, unreadable or malformed.
        """
        content = await self._compare()
        is_append = self._context.target.mode == "append"
        return content == "same" or (content == "unknown" and is_append)

    async def _compare(self) -> Content:
        """Compare the source with what was sent, by size and digest, whatever its files are called now."""
        if self._file_change() == "same":
            return "same"
        before, now = next(iter(self._state.fingerprints), None), self._fingerprint
        if before is None or now is None or sorted(sizes_and_probes(before)) != sorted(sizes_and_probes(now)):
            return "another"
        self._context.emit_wait(f"the files look touched; comparing them with what push {self._context.push_id} sent")
        if self._state.sha256 is not None:
            is_same = await self._has_digests(self._state.sha256)
        elif await self._recipe_change(self._context.settings) is None:
            # The encoder is the one that encoded the chunks then. Today's settings do not matter: the settings of the push are used.
            is_same = await self._encodes_to_sent_chunks()
        else:
            return "unknown"
        return "same" if is_same else "another"

    async def _has_digests(self, sha256: tuple[str, ...]) -> bool:
        hasher = FileHasher(
            self._reader.files, filesystem=self._context.shared.runtime.filesystem, workers=self._workers
        )
        hasher.follow(None)
        return sorted(sha256) == sorted(await hasher.run())

    async def _encodes_to_sent_chunks(self) -> bool:
        """Whether the source yields exactly the chunks whose digests are in the journal. Sends nothing."""
        context, record = self._context, self._state.jobs[-1]
        schema = load_schema(self._state.schema or {})
        queue: asyncio.Queue[ReadyChunk] = asyncio.Queue()
        try:
            with context.shared.budget.scope() as budget, self._rejecting(record) as rejects:
                pass_over = self._reader.chunks(0, 0, schema, allow_passthrough=not self._state.decodes)
                async with pass_over as chunks, asyncio.TaskGroup() as group:
                    producer = Producer(
                        context,
                        chunks,
                        encode=payload_builder(context, schema, (JOURNAL_DIGEST,), rejects=rejects),
                        queue=queue,
                        budget=budget,
                        workers=self._workers,
                        before=AlreadySent(record, self._reader.label, rechecks=True),
                    )
                    guards = [
                        group.create_task(context.drain.when_set(chunks.stop), name="drain"),
                        group.create_task(self._fail_on_extra_chunk(queue), name="compare"),
                    ]
                    await producer.run()
                    for task in guards:
                        task.cancel()
        except BaseException as error:
            cause = real_cause(error)
            if isinstance(cause, SchemaError | SourceChangedError):
                return False
            if cause is error:
                raise
            raise cause from cause.__cause__  # an unreadable source does not prove that the content changed
        context.drain.check()
        return producer.end_row == sum(chunk.rows for chunk in record.acked) and queue.empty()

    @contextlib.contextmanager
    def _rejecting(self, record: JobRecord) -> Iterator[RejectedRows | None]:
        """Return what leaves out the rows that the push rejected; None if it rejected none."""
        state = self._state
        if not state.has_rejects:
            yield None
            return
        with RejectedRows(
            RejectLimit(1.0),
            widens=not state.knows_all_rows,
            job_id=record.job_id,
            scratch=self._context.shared.scratch,
        ) as rejects:
            yield rejects

    async def _fail_on_extra_chunk(self, queue: asyncio.Queue[ReadyChunk]) -> None:
        """Fail at the first chunk that the job does not hold."""
        await queue.get()
        raise SourceChangedError(SOURCE_CHANGED, source=self._reader.label)
