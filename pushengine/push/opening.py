"""What the user of a push requested, and how its source is opened."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError
from pushengine.interfaces import Workers
from pushengine.journal.facts import PushRow
from pushengine.journal.state import PushHistory, PushState
from pushengine.model import ColumnType, Receipt, Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.source_reader import OpenedSource, SourceReader
from pushengine.push.identity import planned_settings
from pushengine.push.outcome import target_of
from pushengine.schema.inference import SchemaInference
from pushengine.sources.fingerprint import paths_in_earlier_order
from pushengine.sources.threaded import open_async_source


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """What the user of a push requested.

    Attributes:
        spec: Path, pattern, list of these, Arrow object or async iterator of record batches.
        target: Table, mode and keys.
        source_format: Format of the files; None means to go by their names.
        arrow_schema: Schema of an iterator's batches, if it has none of its own.
        column_types: Types set by the user, by column name.
        content: Name of the source's content, if it is spooled: each run writes a new spool file, so its path cannot identify the push.
        resumes: The push to resume, if the user named one. Once it is DONE, no new push is started.
    """

    spec: Any
    target: Target
    source_format: str | None = None
    arrow_schema: Any = None
    column_types: Mapping[str, ColumnType] = dataclasses.field(default_factory=dict)
    content: str | None = None
    resumes: PushRow | None = None


async def find_request(shared: Shared, push_id: str) -> PushRequest | Receipt:
    """Return the request of a push that can be resumed, or its receipt if it is DONE but the process was killed before returning it.

    Raises:
        ConfigError: The push does not exist, is over, cannot be read again, or belongs to another team or pool.
    """
    row = await shared.journal.read(lambda file: file.push(push_id))
    if row is None or row.state not in ("open", "finished") or push_id in shared.finished:
        raise ConfigError(
            f"there is no push {push_id} to resume"
            if row is None
            else f"push {push_id} has ended: there is nothing to resume",
            key="push_id",
            hint="`pushengine history` lists pushes",
        )
    if (row.team, row.pool_id) != (shared.destination.team, shared.pool_id):
        raise ConfigError(
            f"push {push_id} belongs to pool {row.pool_id} of {row.team}, not to this one",
            key="push_id",
            hint="set PUSHENGINE_URL and PUSHENGINE_POOL_ID to match",
        )
    state = PushHistory(await shared.journal.read(lambda file: file.facts(push_id))).state
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
        target=dataclasses.replace(target_of(planned), file_type=shared.engine_settings.file_type),
        source_format=planned.format,
        column_types=planned.column_types,
        resumes=row,
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
        self, settings: EngineSettings, *, keys: tuple[str, ...], files: list[str] | None = None
    ) -> AsyncIterator[OpenedSource]:
        """Open the source, to be read with these settings; if `files` are given, read these, in this order, instead of the requested ones.

        Raises:
            ConfigError, SourceError: It cannot be opened.
        """
        request, filesystem = self._request, self._shared.runtime.filesystem

        def new_inference(source_schema: Any, *, is_text: bool, source: str) -> SchemaInference:
            return SchemaInference(
                source_schema, is_text=is_text, overrides=request.column_types, keys=keys, source=source
            )

        source = await open_async_source(
            files or request.spec,
            read=self._workers.read,
            format=request.source_format,
            schema=request.arrow_schema,
            settings=settings,
            filesystem=filesystem,
        )
        reader = SourceReader(source, settings, new_inference, self._workers)
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
        keys = tuple(state.planned.target["keys"]) if state.planned is not None else ()
        async with contextlib.AsyncExitStack() as stack:
            source = await stack.enter_async_context(self.opened(settings, keys=keys))
            files = paths_in_earlier_order(next(iter(state.fingerprints), None), source.fingerprint)
            if files is not None:  # renamed files sort differently: restore the order
                source = await stack.enter_async_context(self.opened(settings, keys=keys, files=files))
            yield source


def settings_of(state: PushState, settings: EngineSettings) -> EngineSettings:
    """Return the engine's settings, except for those that determined the chunks of a push that is already planned."""
    return settings if state.planned is None else planned_settings(state.planned.recipe, settings)
