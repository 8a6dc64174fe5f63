"""What makes a push the same push: its identity, the fingerprint of its source, and the recipe of its chunks.

A push is resumed only if all three are as they were: the identity finds it in the journal, the fingerprint says that the source still
holds the same rows, the recipe that the same rows would be cut and encoded into the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pushengine.config import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.model import ColumnType, Target
from pushengine.schema import Column, TableSchema
from pushengine.types import FileSystem

_PROBE_BYTES = 64 * 1024
CHUNKING_VERSION = 2
"""Raised whenever the same source would be cut or encoded differently than by the version before."""


def push_identity(
    *,
    team: str,
    pool_id: str,
    target: Target,
    source: Sequence[str],
    source_format: str | None,
    column_types: Mapping[str, ColumnType],
) -> str:
    """A hash that is equal for the same command: where to, what, and which files (by the words that name them, made absolute)."""
    return _digest(
        {
            "team": team,
            "pool": pool_id,
            "table": target.table.casefold(),
            "mode": target.mode,
            "keys": list(target.keys),
            "connection": target.connection_id,
            "order": target.duplicate_removal_column,
            "source": list(source),
            "format": source_format,
            "types": dict(sorted(column_types.items())),
        }
    )


def source_words(spec: Any) -> list[str] | None:
    """The words that name files, as absolute paths and patterns; None for objects, which no later process can find again."""
    words = list(spec) if isinstance(spec, list | tuple) else [spec]
    if not words or not all(isinstance(word, str | os.PathLike) for word in words):
        return None
    return [str(Path(word).absolute()) for word in words]


def chunk_recipe(settings: EngineSettings) -> dict[str, Any]:
    """What decides about the bytes of a chunk, besides its rows and the schema."""
    return {
        "chunking": CHUNKING_VERSION,
        "chunk_bytes": settings.fitting_chunk_bytes,
        "encoders": settings.encoder_threads,
        "file_type": settings.file_type,
        "compression": settings.compression,
        "timestamps": settings.timestamps,
        "as_it_is": settings.parquet_as_it_is,
        "csv": [settings.csv_delimiter, settings.csv_encoding],
        "pyarrow": pa.__version__,
        "machine": platform.machine(),
    }


def fingerprint_files(filesystem: FileSystem, paths: Sequence[Path]) -> list[list[Any]]:
    """Path, size, time of change and a hash of the beginning, middle and end of each file. Blocking.

    Raises:
        SourceReadError: A file is gone or unreadable.
    """
    return [_fingerprint(filesystem, path) for path in paths]


def _fingerprint(filesystem: FileSystem, path: Path) -> list[Any]:
    try:
        size = filesystem.size_bytes(path)
        digest = hashlib.sha256()
        with filesystem.open_binary(path) as file:
            for offset in sorted({0, max(size // 2 - _PROBE_BYTES // 2, 0), max(size - _PROBE_BYTES, 0)}):
                file.seek(offset)
                digest.update(file.read(_PROBE_BYTES))
        return [str(path.absolute()), size, filesystem.changed_at_ns(path), digest.hexdigest()]
    except OSError as error:
        raise SourceReadError(
            f"cannot be read: {error.strerror or error}", source=str(path), hint="was it moved or deleted?"
        ) from error


def dump_schema(schema: TableSchema) -> dict[str, Any]:
    """The settled schema as JSON types."""
    return {
        "keys": list(schema.keys),
        "columns": [[c.name, c.type, str(c.arrow_type), c.length, c.reading, c.is_forced] for c in schema.columns],
    }


def load_schema(raw: Mapping[str, Any]) -> TableSchema:
    """What `dump_schema` wrote."""
    return TableSchema(
        tuple(
            Column(name, kind, _arrow_type(arrow_type), length, reading, is_forced)
            for name, kind, arrow_type, length, reading, is_forced in raw["columns"]
        ),
        tuple(raw["keys"]),
    )


def _arrow_type(name: str) -> pa.DataType:
    if name.startswith("timestamp["):
        return pa.timestamp(name[len("timestamp[") : -1])
    return pa.type_for_alias(name)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
