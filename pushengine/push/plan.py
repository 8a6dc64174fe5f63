"""Plans: determine what a push would do without sending anything."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError
from pushengine.model import MODES, ColumnType, Mode, Plan, Target
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.slices import PassthroughBlock
from pushengine.pipeline.source_reader import SourceReader
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.threads import ThreadWorkers
from pushengine.schema.inference import SchemaInference
from pushengine.sources.threaded import open_async_source
from pushengine.text import format_count


def build_target(
    table: str,
    *,
    mode: Mode,
    keys: Sequence[str],
    connection_id: str | None,
    settings: EngineSettings,
    duplicate_removal_column: str | None = None,
) -> Target:
    """Validate the options that depend on each other, and return the target.

    Raises:
        ConfigError: The table name or connection id is empty, the mode is unknown, or the mode requires or rejects keys.
    """
    if not table.strip():
        raise ConfigError("the table name is empty", key="table")
    if connection_id == "":
        raise ConfigError(
            "the data connection id is an empty string",
            key="connection_id",
            hint="None means the global schema of the pool",
        )
    if mode not in MODES:
        raise ConfigError(f"unknown mode {mode!r}", key="mode", hint=f"one of {', '.join(MODES)}")
    if isinstance(keys, str):
        raise ConfigError(
            "keys must be a list of column names, not a single string", key="keys", hint=f'keys=["{keys}"]'
        )
    needs_keys = mode in ("upsert", "delete")
    if needs_keys and not keys:
        raise ConfigError(f"mode {mode} needs keys", key="keys", hint="name the primary key columns: --key COL")
    if keys and not needs_keys:
        raise ConfigError(
            f"mode {mode} takes no keys", key="keys", hint="to replace older rows by key, use --mode upsert"
        )
    return Target(
        table=table,
        mode=mode,
        keys=tuple(keys),
        connection_id=connection_id,
        file_type=settings.file_type,
        duplicate_removal_column=duplicate_removal_column,
    )


async def plan_source(
    source: Any,
    *,
    table: str,
    mode: Mode = "replace",
    keys: Sequence[str] = (),
    format: str | None = None,  # noqa: A002 - the command line option has the same name
    schema: Any = None,
    column_types: Mapping[str, ColumnType] | None = None,
    settings: EngineSettings | None = None,
) -> Plan:
    """Determine what a push would do: read a sample of the source and send nothing.

    An async iterator is closed afterwards, because its first rows have been consumed.

    Raises:
        ConfigError: The arguments are invalid or contradict each other.
        SourceError: The input is unreadable, malformed or unsuitable.
    """
    settings = settings or EngineSettings()
    target = build_target(table, mode=mode, keys=keys, connection_id=None, settings=settings)
    inference = functools.partial(SchemaInference, overrides=dict(column_types or {}), keys=target.keys)
    with ThreadPoolExecutor(1, thread_name_prefix="pushengine-plan") as pool:
        workers = ThreadWorkers(pool)
        try:
            opened = await open_async_source(
                source,
                read=workers.read,
                format=format,
                schema=schema,
                settings=settings,
                filesystem=LocalFileSystem(),
            )
            source_reader = SourceReader(opened, settings, inference, workers)
            async with contextlib.aclosing(source_reader):
                inferred = await source_reader.infer_schema(is_exhaustive=False)
                passthrough = await source_reader.passthrough_blocks(inferred)
        finally:
            await workers.aclose()
    is_complete = source_reader.sampled_bytes < settings.sample_bytes // 2
    chunks = math.ceil(source_reader.sampled_bytes / settings.fitting_chunk_bytes) if is_complete else None
    return Plan(
        table=table,
        mode=mode,
        keys=target.keys,
        files=tuple(file.uri for file in source_reader.files) or (source_reader.label,),
        source_bytes=source_reader.size_bytes,
        columns=tuple(inferred.table_columns()),
        sampled_rows=source_reader.sampled_rows,
        is_sample_complete=is_complete,
        estimated_chunks=len(passthrough) if isinstance(passthrough, list) else chunks,
        notes=(*_plan_notes(target, [column.name for column in inferred.columns]), *_passthrough_notes(passthrough)),
    )


def _passthrough_notes(passthrough: list[PassthroughBlock] | ReencodeError | None) -> list[str]:
    if passthrough is None:
        return []
    return ["sent unchanged" if isinstance(passthrough, list) else f"re-encoded: {passthrough}"]


def _plan_notes(target: Target, names: Sequence[str]) -> list[str]:
    notes = []
    if target.mode == "append":
        notes.append("append adds rows each time it runs; use upsert with keys for a load that may be repeated")
    unusual = [name for name in names if not name.replace("_", "").replace("-", "").isalnum()]
    if unusual:
        notes.append(
            f"{format_count(len(unusual), 'column name')} with characters other than letters, digits, _ and -: {', '.join(unusual[:5])};"
            " the platform accepts them, but queries must quote them"
        )
    return notes
