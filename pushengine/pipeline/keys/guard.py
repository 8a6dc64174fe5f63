"""Keeps two rows with equal keys out of one upsert: among them, the platform would decide which one stays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pushengine.errors import JobTaintedError, SchemaError
from pushengine.interfaces import Workers
from pushengine.model import JobId
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.keys.check import KeyCheck
from pushengine.pipeline.keys.duplicates import DuplicateSearch, LastRows
from pushengine.pipeline.keys.hashes import Words
from pushengine.pipeline.keys.runs import MEMORY_BYTES, KeyRuns
from pushengine.pipeline.source_reader import SourceReader
from pushengine.schema.columns import TableSchema
from pushengine.text import format_count

_MEMORY_PER_SOURCE_BYTE = 32
_MIN_MEMORY_BYTES = 1024 * 1024


class KeyGuard:
    """The check of a push's keys, in every job that it needs.

    Args:
        context: The push.
        reader: Its source.
        workers: Threads that read and hash.

    Attributes:
        note: What the user should know once a job leaves rows out; empty until then.
    """

    def __init__(self, context: PushContext, reader: SourceReader, workers: Workers) -> None:
        self._context = context
        self._reader = reader
        self._workers = workers
        self._kept: LastRows | None = None
        self._kept_schema: TableSchema | None = None
        self.note = ""

    @property
    def is_checked(self) -> bool:
        """Whether equal keys matter: in an upsert, unless the platform is to choose among rows with equal keys."""
        target = self._context.target
        is_left_to_platform = self._context.settings.duplicate_keys == "allow" or target.duplicate_removal_column
        return target.mode == "upsert" and not is_left_to_platform

    @property
    def drops_rows(self) -> bool:
        """Whether rows are left out, because a later row has the same key."""
        return self._kept is not None

    @contextlib.contextmanager
    def checking(self, schema: TableSchema) -> Iterator[KeyCheck | None]:
        """Return the check for one pass over the source; None if equal keys do not matter."""
        if not self.is_checked:
            yield None
            return
        if schema != self._kept_schema:  # the rows to keep are known by their content, as it was sent under that schema
            self._kept = None
        if self._kept is not None:  # every key is known
            yield KeyCheck(schema.keys, runs=None, kept=self._kept)
            return
        size = self._reader.size_bytes
        wanted = MEMORY_BYTES if size is None else min(_MIN_MEMORY_BYTES + _MEMORY_PER_SOURCE_BYTE * size, MEMORY_BYTES)
        shared = self._context.shared
        with (
            shared.budget.long_held(wanted) as nbytes,
            KeyRuns(shared.scratch, max_memory_bytes=nbytes, source=self._reader.label) as runs,
        ):
            yield KeyCheck(schema.keys, runs=runs, kept=None)

    async def require_unique(self, runs: KeyRuns, schema: TableSchema, job_id: JobId) -> None:
        """Require that no two of the rows sent have equal keys, unless they are equal in every column.

        Args:
            runs: The keys of all rows.
            schema: Schema of the push.
            job_id: The job that holds the rows.

        Raises:
            SchemaError: Two rows have equal keys; it names both.
            JobTaintedError: The same, but a fresh job will hold only the last of them.
        """
        repeated = hashes = await self._workers.encode(runs.duplicates)
        first: DuplicateSearch | None = None
        search: DuplicateSearch | None = None
        while len(hashes):
            search = await self._search(hashes, schema)
            first = first or search
            if search.found is not None:
                break
            hashes = search.unproven
        if first is None or search is None or search.found is None:
            return
        if self._context.settings.duplicate_keys == "refuse":
            raise search.refusal()
        self._kept, self._kept_schema = first.last_rows(), schema
        keys = format_count(max(first.keys_involved, 1), "key")
        self.note = f"{keys} had several rows that differ: only the last row of each was loaded (duplicate_keys = last)"
        raise JobTaintedError(f"job {job_id} holds several rows of {keys} of {len(repeated):,}", job_id=job_id)

    async def _search(self, hashes: Words, schema: TableSchema) -> DuplicateSearch:
        if not self._reader.is_repeatable:
            raise SchemaError(
                f"{format_count(len(hashes), 'key')} of an upsert occur more than once",
                source=self._reader.label,
                hint="spool=True keeps the rows on disk, so that the rows can be named or the last of each loaded;"
                ' duplicate_keys="allow" lets the platform choose',
            )
        search = DuplicateSearch(hashes, schema.keys)
        with (
            self._context.shared.budget.scope() as budget,
            self._context.announce_when_slow(
                "some keys occur more than once; the source is read again to compare their rows"
            ),
        ):
            budget.take(search.memory_bytes)
            await self._context.drain.guard(self._reader.observe_rows(schema, search.observe))
        return search
