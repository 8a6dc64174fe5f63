"""What makes a push the same push: its identity, the fingerprint of its source, and the recipe of its chunks.

The identity finds a push in the journal. Fingerprint and recipe matter only while chunks remain to be sent: the fingerprint says whether
the source still holds the same rows, the recipe whether the chunks still to be sent would be cut and encoded as those before them.

A fingerprint is a list with an entry for each file, in the order in which they are read:

    [absolute path, size, mtime in ns, SHA-256 of its first, middle and last 64 KiB, device, inode, ctime in ns]

Journals of earlier versions have the first four.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pushengine.config.load import EngineSettings
from pushengine.errors import SourceReadError, unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import ColumnType, Target
from pushengine.schema.inference import Column, TableSchema

FileChange = Literal["same", "touched", "changed"]
Fingerprint = list[list[Any]]

_PROBE_BYTES = 64 * 1024
_READ_BYTES = 1024 * 1024
CHUNKING_VERSION = 2
"""Raised whenever the same source would be cut or encoded differently than by the version before, also by another default."""
_SETTINGS = {
    "file_type": "file_type",
    "compression": "compression",
    "timestamps": "timestamps",
    "as_it_is": "parquet_as_it_is",
}
_CUT = {"chunk_bytes": "chunk_bytes", "encoders": "encoder_threads"}
"""How the source was cut. A push goes on with its own cut, so these are never compared."""
_CSV_SETTINGS = ("csv_delimiter", "csv_encoding")
_AS_IT_IS_KEYS = frozenset({"chunking", "as_it_is"})
"""All that decides about files that are sent as they are."""


# --- Identity -----------------------------------------------------------------------------------------------------------------------


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


# --- Recipe -------------------------------------------------------------------------------------------------------------------------


def chunk_recipe(settings: EngineSettings) -> dict[str, Any]:
    """What decides about the bytes of a chunk, besides its rows and the schema. Settings at their default are left out."""
    told = {
        **{key: getattr(settings, name) for key, name in _SETTINGS.items()},
        "csv": [getattr(settings, name) for name in _CSV_SETTINGS],
    }
    defaults = _defaults()
    return {
        "chunking": CHUNKING_VERSION,
        "chunk_bytes": settings.fitting_chunk_bytes,
        "encoders": settings.encoder_threads,
        **{key: value for key, value in told.items() if value != defaults[key]},
        **library_versions(),
    }


def library_versions() -> dict[str, str]:
    """What encodes chunks, and on what kind of machine."""
    return {"pyarrow": pa.__version__, "machine": platform.machine()}


def planned_settings(recipe: Mapping[str, Any], settings: EngineSettings) -> EngineSettings:
    """Today's settings, but for those that decided about the chunks of an earlier push: with these its source is read again as it was."""
    told = _defaults() | dict(recipe)
    update = {name: told[key] for key, name in (_SETTINGS | _CUT).items() if key in told}
    return settings.model_copy(update=update | dict(zip(_CSV_SETTINGS, told["csv"], strict=True)))


def recipe_change(
    recipe: Mapping[str, Any], settings: EngineSettings, *, is_text: bool, is_as_it_is: bool
) -> str | None:
    """Why the chunks still to be sent would not go together with those of an earlier process, or None.

    Args:
        recipe: Of the earlier process.
        settings: Of this one.
        is_text: The source is text: how Parquet is sent does not matter.
        is_as_it_is: The files are sent as they are: nothing is encoded.
    """
    before, now = _meaning(recipe), _meaning(chunk_recipe(settings))
    changed = {key for key in before | now if before.get(key) != now.get(key)}
    changed -= {"as_it_is"} if is_text else {"csv"}
    if is_as_it_is:
        changed &= _AS_IT_IS_KEYS
    if changed:
        return f"its chunks would be encoded differently now, by another {' and another '.join(sorted(changed))}"
    if not is_as_it_is and planned_settings(recipe, settings).fitting_chunk_bytes != recipe.get("chunk_bytes"):
        return "its chunks do not fit into max_memory_bytes any more"
    return None


def _meaning(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its cut and without what is at its default, which earlier versions wrote down too."""
    defaults = _defaults()
    return {
        key: value
        for key, value in recipe.items()
        if key not in _CUT and not (key in defaults and value == defaults[key])
    }


def _defaults() -> dict[str, Any]:
    fields = EngineSettings.model_fields
    return {
        **{key: fields[name].default for key, name in _SETTINGS.items()},
        "csv": [fields[name].default for name in _CSV_SETTINGS],
    }


# --- Fingerprint --------------------------------------------------------------------------------------------------------------------


def fingerprint_files(filesystem: FileSystem, paths: Sequence[Path]) -> Fingerprint:
    """What tells the same files from changed ones without reading all of them. Blocking.

    Raises:
        SourceReadError: A file is gone or unreadable.
    """
    return [_fingerprint(filesystem, path) for path in paths]


def _fingerprint(filesystem: FileSystem, path: Path) -> list[Any]:
    try:
        found = filesystem.stat(path)
        size = found.size_bytes
        digest = hashlib.sha256()
        with filesystem.open_binary(path) as file:
            for offset in sorted({0, max(size // 2 - _PROBE_BYTES // 2, 0), max(size - _PROBE_BYTES, 0)}):
                file.seek(offset)
                digest.update(file.read(_PROBE_BYTES))
    except OSError as error:
        raise SourceReadError(
            f"cannot be read: {error.strerror or error}", source=str(path), hint="was it moved or deleted?"
        ) from error
    return [
        str(path.absolute()),
        size,
        found.modified_at_ns,
        digest.hexdigest(),
        found.device,
        found.inode,
        found.changed_at_ns,
    ]


def compare_files(before: Fingerprint | None, now: Fingerprint | None) -> FileChange:
    """Whether files are what they were.

    Returns:
        `same`; `changed`; or `touched`: only what lies between the probes could differ, so the content has to be read to know. Touched,
        copied, renamed and restored files look like this, and so does another content under a restored time.
    """
    if before == now:
        return "same"
    if before is None or now is None or sizes_and_probes(before) != sizes_and_probes(now):
        return "changed"
    return "touched"


def sizes_and_probes(files: Fingerprint) -> list[tuple[int, str]]:
    """Size and hash of the probes of each file."""
    return [(file[1], file[3]) for file in files]


def in_order_of(before: Fingerprint | None, now: Fingerprint | None) -> list[str] | None:
    """The paths of today's files in the order in which they were read before, where names have changed so that it is another one; or None.

    Files are known by their sizes and probes.
    """
    if before is None or now is None or sizes_and_probes(before) == sizes_and_probes(now):
        return None
    if sorted(sizes_and_probes(before)) != sorted(sizes_and_probes(now)):
        return None
    places: dict[tuple[int, str], list[int]] = {}
    for place, known in enumerate(sizes_and_probes(before)):
        places.setdefault(known, []).append(place)
    placed = sorted((places[known].pop(0), file[0]) for known, file in zip(sizes_and_probes(now), now, strict=True))
    return [path for _, path in placed]


def is_same_but_for_inode(before: Fingerprint | None, now: Fingerprint | None) -> bool:
    """All but device, inode and change time: some file systems give these anew at every look."""
    return before is not None and now is not None and [file[:4] for file in before] == [file[:4] for file in now]


class FileHash:
    """SHA-256 of one file, a part after the other. Blocking; one call at a time, from any thread.

    Attributes:
        position: Bytes hashed so far.
        is_complete: The end of the file is reached.
    """

    def __init__(self, path: Path, filesystem: FileSystem) -> None:
        self.position = 0
        self.is_complete = False
        self._path = path
        self._filesystem = filesystem
        self._hash = hashlib.sha256()

    def advance(self, nbytes: int) -> None:
        """Hash the next bytes of the file.

        Raises:
            SourceReadError: It is gone or unreadable.
        """
        buffer = memoryview(bytearray(_READ_BYTES))
        end = self.position + nbytes
        try:
            with self._filesystem.open_binary(self._path) as file:
                file.seek(self.position)
                while self.position < end:
                    size = file.readinto(buffer[: end - self.position])  # type: ignore[attr-defined]
                    if not size:
                        self.is_complete = True
                        return
                    self._hash.update(buffer[:size])
                    self.position += size
        except OSError as error:
            raise unreadable(str(self._path), error) from error

    def hexdigest(self) -> str:
        """Of what was hashed so far."""
        return self._hash.hexdigest()


# --- Schema -------------------------------------------------------------------------------------------------------------------------


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
