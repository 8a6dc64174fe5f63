"""What the user of a push requested, how it is recorded, and how its source is opened."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pushengine.config.options import LoadOptions, schema_rules
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, JournalLockedError
from pushengine.interfaces import Workers
from pushengine.journal import facts
from pushengine.journal.endings import PushEnd, record_end
from pushengine.journal.facts import PushRow
from pushengine.journal.push_log import PushLog
from pushengine.journal.state import PushHistory, PushState
from pushengine.journal.store import JournalFile
from pushengine.model import Claim, Receipt, Target
from pushengine.pipeline.context import Place, PushContext, Shared
from pushengine.pipeline.source_reader import OpenedSource, SourceReader
from pushengine.push.identity import (
    chunk_recipe,
    load_identity,
    load_request,
    planned_settings,
    push_identity,
    source_patterns,
)
from pushengine.push.outcome import target_of
from pushengine.schema.columns import dump_schema
from pushengine.schema.inference import InferredSchema
from pushengine.schema.known import KnownTable
from pushengine.sources.fingerprint import paths_in_earlier_order
from pushengine.sources.threaded import open_async_source
from pushengine.text import shown_name, shown_text, storable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """What the user of a push requested.

    Attributes:
        spec: Path, pattern, list of these, Arrow object or async iterator of record batches.
        target: Table, mode and keys.
        source_format: Format of the files; None means to go by their names.
        arrow_schema: Schema of an iterator's batches, if it has none of its own.
        options: Column types, selection and more.
        overrides: Settings of this push that differ from the engine's.
        content: Name of the source's content, if it is spooled: each run writes a new spool file, so its path cannot identify the push.
        name: What the user calls the source, if `spec` is a spooled copy of it.
        resumes: The push to resume, if the user named one. Once it is DONE, no new push is started.
        recipe: Chunk recipe of the push to resume: what it sends, and what a push that must replace it sends, is made with the settings that
            were recorded, whatever today's are. None for a push that the user requests now.
        place: The place of the push among the others of its process.
        claim: What the push means to a load of the config file.
        load_id: The name that the caller gives to the push; empty for none.
        load_request: What the load id stands for, if the push is resumed; None if it follows from this request.
    """

    spec: Any
    target: Target
    source_format: str | None = None
    arrow_schema: Any = None
    options: LoadOptions = dataclasses.field(default_factory=LoadOptions)
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    content: str | None = None
    name: str = ""
    resumes: PushRow | None = None
    recipe: Mapping[str, Any] | None = None
    place: Place = dataclasses.field(default_factory=Place)
    claim: Claim | None = None
    load_id: str = ""
    load_request: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """What the user named as the source; the source itself, once it is open, has a better label."""
        if self.name:
            return self.name
        words = self.spec if isinstance(self.spec, list | tuple) else [self.spec]
        return ", ".join(
            os.fspath(word) if isinstance(word, str | os.PathLike) else type(word).__name__ for word in words
        )


def checked_load_id(load_id: str | None) -> str:
    """Return a load id; empty for none.

    Raises:
        ConfigError: It is empty, or it is not text that can be stored.
    """
    if load_id is None:
        return ""
    if not load_id.strip():
        raise ConfigError("the load id is empty", key="load_id", hint="leave it out, or name the push: --load-id ID")
    if storable(load_id) != load_id:
        raise ConfigError(f"the load id {shown_name(load_id)} is not UTF-8 text", key="load_id")
    return load_id


async def find_request(shared: Shared, push_id: str) -> PushRequest | Receipt:
    """Return the request of a push that can be resumed, or its receipt if it is DONE but the process was killed before returning it.

    Raises:
        ConfigError: The push does not exist, is over, cannot be read again, or belongs to another team or pool.
    """
    row = await shared.journal.read(lambda file: file.push(push_id))
    if row is None:
        raise ConfigError(
            f"there is no push {push_id} to resume", key="push_id", hint="`pushengine history` lists pushes"
        )
    state = PushHistory(await shared.journal.read(lambda file: file.facts(push_id))).state
    if row.state not in ("open", "finished") or push_id in shared.finished:
        raise _nothing_to_resume(row, state)
    if (row.team, row.pool_id) != (shared.destination.team, shared.pool_id):
        raise ConfigError(
            f"push {push_id} belongs to pool {row.pool_id} of {row.team}, not to this one",
            key="push_id",
            hint="set PUSHENGINE_URL and PUSHENGINE_POOL_ID to match",
        )
    if row.state == "finished" and state.receipt is not None:
        return dataclasses.replace(Receipt.from_dict(state.receipt), resumed=True)
    planned = state.planned
    if planned is None:
        raise ConfigError(
            f"push {push_id} was ended before it sent anything", key="push_id", hint="run its command again"
        )
    if not planned.source and not state.may_have_run:
        raise ConfigError(
            f"push {push_id} read an object in memory, which is gone", key="push_id", hint="push it again"
        )
    source = planned.source
    return PushRequest(
        spec=source[0] if source and len(source) == 1 else source,
        target=target_of(planned),
        source_format=planned.format,
        name=_name_of_copy(planned, shared.scratch),
        options=LoadOptions.from_dict(planned.options, planned.column_types),
        resumes=row,
        recipe=planned.recipe,
        claim=None if planned.claim is None else Claim.from_dict(planned.claim),
        load_id=planned.load_id,
        load_request=planned.request,
    )


def _name_of_copy(planned: facts.PushPlanned, spool: Path) -> str:
    """Return what the user called the source of a push, if it is a copy in the spool; empty otherwise."""
    is_copy = len(planned.source or ()) == 1 and Path((planned.source or [""])[0]).parent == spool
    return planned.label if is_copy else ""


def _nothing_to_resume(row: PushRow, state: PushState) -> ConfigError:
    if row.state != "failed":
        return ConfigError(
            f"push {row.push_id} has ended: there is nothing to resume",
            key="push_id",
            hint="`pushengine history` lists pushes",
        )
    when = "it failed" if state.jobs else "it failed while it was planned"
    return ConfigError(
        f"push {row.push_id} has ended: {when}; there is nothing to resume", key="push_id", hint="run its command again"
    )


def _empty_note(target: Target) -> str:
    if target.mode == "replace":
        return "the source has no rows: the table is empty after this push"
    return "the source has no rows: there was nothing to do, and no job was created"


class NewSchema(NamedTuple):
    """The schema of a new push.

    Attributes:
        known: What was known of the table.
        inferred: The schema, inferred from the source.
        table_notes: What the user should know about the table.
    """

    known: KnownTable | None
    inferred: InferredSchema
    table_notes: tuple[str, ...]


class PushRecord:
    """What the journal first records of a new push: its row in the list of pushes, and its plan.

    Args:
        request: What the user requested.
        shared: The journal, and the settings of the push.
        push_id: Id of the push.

    Attributes:
        identity: Equal for the same command over files, or for the same load id; otherwise unique for an object in memory, which no later
            process can find again.
        load_request: What the load id of the push stands for; None if it has none.
    """

    def __init__(self, request: PushRequest, shared: Shared, push_id: str) -> None:
        self._request = request
        self._shared = shared
        self._push_id = push_id
        self._created_at = shared.runtime.clock.now()
        source = [request.content] if request.content else source_patterns(request.spec)
        self.identity = self._identity(source or [push_id])
        self.load_request: Mapping[str, Any] | None = None
        if request.load_id:
            self.load_request = request.load_request or load_request(
                request.target, source, request.source_format, request.options
            )

    def _identity(self, source: list[str]) -> str:
        request, team, pool_id = self._request, self._shared.destination.team, self._shared.pool_id
        if request.resumes is not None:
            return request.resumes.identity
        if request.load_id:
            return load_identity(team, pool_id, request.load_id)
        return push_identity(
            team=team,
            pool_id=pool_id,
            target=request.target,
            source=source,
            source_format=request.source_format,
            options=request.options,
        )

    async def begin(self, context: PushContext, source: OpenedSource, schema: NewSchema) -> None:
        """Record that the push is planned, and that this process works on it.

        Raises:
            JournalError: The journal cannot be written; nothing was recorded.
        """
        reader, inferred = source.source_reader, schema.inferred
        context.measures.source_bytes = reader.size_bytes
        planned = dataclasses.replace(
            self._planned(reader.label),
            source=source_patterns(self._request.spec) if source.fingerprint is not None else None,
            source_bytes=reader.size_bytes,
            fingerprint=source.fingerprint,
            schema=dump_schema(inferred.schema),
            known=None if schema.known is None else schema.known.to_dict(),
            changes=inferred.changes,
            is_empty=inferred.is_empty,
            dialect=None if reader.structure is None else dict(reader.structure.dialect),
            notes=(
                *schema.table_notes,
                *await self._notes_of_loads(),
                *([inferred.question] if inferred.question else []),
                *inferred.notes,
                *([_empty_note(self._request.target)] if inferred.is_empty else []),
            ),
        )
        row = self._row(reader.label, state="open")
        await context.log.begin(row, planned, facts.SessionStarted(pid=os.getpid(), resumed=False))

    async def _notes_of_loads(self) -> list[str]:
        """Return a note for a push that no load asked for, into a table that a load has loaded."""
        if self._request.claim is not None:
            return []
        team, pool_id, target = self._shared.destination.team, self._shared.pool_id, self._request.target
        names = await self._shared.journal.read(
            lambda file: file.loads.loaders(team, pool_id, target.connection_id, target.table)
        )
        which = f"load{'s' if len(names) > 1 else ''} {', '.join(names)}"
        note = f"table {target.table} is loaded by {which}: this push changes neither its files nor its cursor"
        return [note] if names else []

    async def add_failed(self, log: PushLog, cause: BaseException, receipt: Receipt) -> None:
        """Record a push that failed before it was planned. Raises nothing: whatever goes wrong here must not hide the cause."""
        with contextlib.suppress(Exception):  # such as a full disk
            row, planned = self._row(self._request.label, state="failed"), self._planned(self._request.label)
            receipt = dataclasses.replace(receipt, load_id=planned.load_id or None)
            failed = facts.PushFailed(error=str(cause), error_type=type(cause).__name__, receipt=receipt.to_dict())
            end = PushEnd(
                push_id=row.push_id,
                team=row.team,
                pool_id=row.pool_id,
                at=row.updated_at,
                state=PushState(planned=planned),
                receipt=failed.receipt,
                error=failed.error,
            )

            def remember(file: JournalFile) -> None:
                if not isinstance(cause, JournalLockedError):  # then another process is about to load these files
                    record_end(file, end)

            await log.begin(
                row,
                planned,
                facts.SessionStarted(pid=os.getpid(), resumed=False),
                ended_with=failed,
                remember=remember,
            )

    def _row(self, label: str, *, state: str) -> PushRow:
        now = self._shared.runtime.clock.now()
        return PushRow(
            push_id=self._push_id,
            identity=self.identity,
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=self._request.target.table,
            source=shown_text(label),
            created_at=self._created_at if state == "failed" else now,
            updated_at=now,
            state=state,
        )

    def _planned(self, label: str) -> facts.PushPlanned:
        """Return the plan without what only the source can say."""
        request = self._request
        return facts.PushPlanned(
            target=dataclasses.asdict(request.target),
            pool_id=self._shared.pool_id,
            source=source_patterns(request.spec),
            label=label,
            format=request.source_format,
            column_types=request.options.column_types,
            options=request.options.to_dict(),
            recipe=chunk_recipe(self._shared.engine_settings),
            claim=None if request.claim is None else request.claim.to_dict(),
            load_id=request.load_id,
            request=self.load_request,
        )


class SourceOpener:
    """Opens the source of a push.

    Args:
        request: Names the source.
        shared: Provides the file system and the engine's settings.
        workers: Threads that read and encode.
    """

    def __init__(self, request: PushRequest, shared: Shared, workers: Workers) -> None:
        self._request = request
        self._shared = shared
        self._workers = workers

    @contextlib.asynccontextmanager
    async def opened(
        self, settings: EngineSettings, *, target: Target | None = None, files: list[str] | None = None
    ) -> AsyncIterator[OpenedSource]:
        """Open the source, to be read with these settings.

        Args:
            settings: Settings of the push.
            target: Target of the push, if it is not the requested one.
            files: Files to read, in this order, instead of the requested ones.

        Raises:
            ConfigError, SourceError: It cannot be opened.
        """
        request, filesystem = self._request, self._shared.runtime.filesystem
        source = await open_async_source(
            files or request.spec,
            read=self._workers.read,
            format=request.source_format,
            schema=request.arrow_schema,
            settings=settings,
            filesystem=filesystem,
            allow_empty=request.options.allow_empty,
            label=request.name,
        )
        rules = schema_rules(target or request.target, request.options, settings)
        reader = SourceReader(source, settings, rules, self._workers)
        try:
            yield OpenedSource(reader, await reader.fingerprint(filesystem))
        finally:
            await reader.aclose()

    @contextlib.asynccontextmanager
    async def opened_as_planned(self, state: PushState) -> AsyncIterator[OpenedSource]:
        """Open the source so that it is read and cut as it was for an earlier push.

        Raises:
            ConfigError, SourceError: It cannot be opened.
        """
        settings = settings_of(state, self._shared.engine_settings)
        if state.has_rejects:  # whatever is allowed today, the blocks must be able to say which rows those were
            settings = settings.model_copy(update={"max_rejects": 1.0})
        target = None if state.planned is None else target_of(state.planned)
        async with contextlib.AsyncExitStack() as stack:
            source = await stack.enter_async_context(self.opened(settings, target=target))
            files = paths_in_earlier_order(next(iter(state.fingerprints), None), source.fingerprint)
            if files is not None:  # renamed files sort differently: restore the order
                source = await stack.enter_async_context(self.opened(settings, target=target, files=files))
            yield source


def settings_of(state: PushState, settings: EngineSettings) -> EngineSettings:
    """Return the engine's settings, except for those that determined the chunks of a push that is already planned."""
    return settings if state.planned is None else planned_settings(state.planned.recipe, settings)
