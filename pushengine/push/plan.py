"""Plans: determine what a push would do without sending anything."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from pushengine.config.options import LoadOptions, schema_rules
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.model import MODES, Mode, Plan, Target
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.slices import PassthroughBlock
from pushengine.pipeline.source_reader import SourceReader
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.threads import ThreadWorkers
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import conform
from pushengine.schema.inference import describe_columns
from pushengine.schema.known import KnownTable
from pushengine.schema.rejects import sifted
from pushengine.sources.spool import copied_stream
from pushengine.sources.threaded import open_async_source
from pushengine.text import format_count, format_rows, shown_name, shown_names, storable


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
    if storable(table) != table:
        raise ConfigError(f"the table name {shown_name(table)} is not UTF-8 text", key="table")
    if connection_id is not None and storable(connection_id) != connection_id:
        raise ConfigError(f"the data connection id {shown_name(connection_id)} is not UTF-8 text", key="connection_id")
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
            f"mode {mode} takes no keys",
            key="keys",
            hint="leave --key out, or use --mode upsert to replace older rows by key",
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
    duplicate_removal_column: str | None = None,
    options: LoadOptions | None = None,
    settings: EngineSettings | None = None,
    known: KnownTable | None = None,
    notes: Sequence[str] = (),
) -> Plan:
    """Determine what a push would do: read a sample of the source and send nothing.

    An async iterator is closed afterwards, because its first rows have been consumed. A byte stream or pipe is read to its end.

    Args:
        source: As for `PushEngine.push()`.
        table: Target table.
        mode: How the rows would change the table.
        keys: Key columns.
        format: Format of the files.
        schema: Schema of an async iterator.
        duplicate_removal_column: Of the rows with equal keys, the one with the highest value in this column wins.
        options: Column types, selection and more.
        settings: Settings of the push.
        known: What is known of the table; None if nothing is.
        notes: Things that the user should know about the table.

    Raises:
        ConfigError: The arguments are invalid or contradict each other.
        SourceError: The input is unreadable, malformed or unsuitable.
    """
    settings = settings or EngineSettings()
    target = build_target(
        table,
        mode=mode,
        keys=keys,
        connection_id=None,
        settings=settings,
        duplicate_removal_column=duplicate_removal_column,
    )
    options = options or LoadOptions()
    rules = schema_rules(target, options, settings)
    with ThreadPoolExecutor(1, thread_name_prefix="pushengine-plan") as pool:
        workers = ThreadWorkers(pool)
        try:
            async with copied_stream(source, format, workers.read) as copy:
                opened = await open_async_source(
                    source if copy is None else copy.path,
                    read=workers.read,
                    format=format if copy is None else None,
                    label="" if copy is None else copy.name,
                    schema=schema,
                    settings=settings,
                    filesystem=LocalFileSystem(),
                    allow_empty=options.allow_empty,
                )
                source_reader = SourceReader(opened, settings, rules, workers)
                async with contextlib.aclosing(source_reader):
                    inferred = await source_reader.infer(known, explains=True)
                    source_reader.require_rows(inferred)
                    rejects: list[str] = []
                    if settings.allows_rejects and source_reader.is_repeatable:
                        rejects = _reject_notes(*await source_reader.count_rejects(inferred.schema))
                    passthrough = await source_reader.passthrough_blocks(inferred.schema)
        finally:
            await workers.aclose()
    is_complete = source_reader.sampled_bytes < settings.sample_bytes // 2
    chunks = math.ceil(source_reader.sampled_bytes / settings.fitting_chunk_bytes) if is_complete else None
    is_idle = inferred.is_empty and mode != "replace"
    return Plan(
        table=table,
        mode=mode,
        keys=target.keys,
        files=tuple(file.uri for file in source_reader.files if copy is None) or (source_reader.label,),
        source_bytes=source_reader.size_bytes,
        columns=tuple(inferred.schema.table_columns()),
        sampled_rows=source_reader.sampled_rows,
        is_sample_complete=is_complete,
        estimated_chunks=len(passthrough) if isinstance(passthrough, list) else chunks,
        submits=0 if is_idle else 1,
        notes=(
            *notes,
            *rejects,
            *([inferred.question] if inferred.question else []),
            *inferred.notes,
            *(["no rows: there is nothing to do, and no job is created"] if is_idle else []),
            *_plan_notes(target, [column.name for column in inferred.schema.columns]),
            *_passthrough_notes(passthrough),
        ),
        schema=tuple(describe_columns(inferred.columns)),
        schema_changes=inferred.changes,
        first_rows=_landing_rows(inferred.schema, source_reader.first_rows, allows_rejects=settings.allows_rejects),
        dialect=None if source_reader.structure is None else dict(source_reader.structure.dialect),
        dialect_reason="" if source_reader.structure is None else source_reader.structure.reason,
    )


def _reject_notes(rejected: int, rows: int, first: str) -> list[str]:
    if not rejected:
        return []
    return [f"{rejected:,} of {format_rows(rows)} read would be rejected, the first one because: {first}"]


def _landing_rows(
    schema: TableSchema, rows: SourceBatch | None, *, allows_rejects: bool
) -> tuple[dict[str, str | None], ...]:
    """Return the first rows as they will land, as text."""
    if rows is None:
        return ()
    try:
        if allows_rejects:
            batch, _, _ = sifted(rows, schema, functools.partial(conform, schema), widens=True)
        else:
            batch = conform(schema, rows)
    except SchemaError:  # the push would report it, or infer the schema again from all rows
        return ()
    texts = {
        name: [None if value is None else _text(value) for value in _values(column)]
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return tuple({name: values[row] for name, values in texts.items()} for row in range(batch.num_rows))


def _values(column: pa.Array) -> list[Any]:
    """Return the values as Python objects; timestamps in microseconds, because Python's have no nanoseconds."""
    is_timestamp = pa.types.is_timestamp(column.type)
    values: list[Any] = (column.cast(pa.timestamp("us"), safe=False) if is_timestamp else column).to_pylist()
    return values


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
            f"{format_count(len(unusual), 'column name')} with characters other than letters, digits, _ and -: {shown_names(unusual[:5])};"
            " the platform accepts them, but queries must quote them"
        )
    return notes
