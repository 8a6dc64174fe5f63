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
from typing import Any

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.model import ColumnType, Target
from pushengine.runtime.files import absolute_uri

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
    return [absolute_uri(os.fspath(word)) for word in words]


# --- Recipe -------------------------------------------------------------------------------------------------------------------------


def chunk_recipe(settings: EngineSettings) -> dict[str, Any]:
    """What decides about the bytes of a chunk, besides its rows and the schema. Settings at their default are left out."""
    options = {
        **{key: getattr(settings, name) for key, name in _SETTINGS.items()},
        "csv": [getattr(settings, name) for name in _CSV_SETTINGS],
    }
    defaults = _defaults()
    return {
        "chunking": CHUNKING_VERSION,
        "chunk_bytes": settings.fitting_chunk_bytes,
        "encoders": settings.encoder_threads,
        **{key: value for key, value in options.items() if value != defaults[key]},
        **library_versions(),
    }


def library_versions() -> dict[str, str]:
    """What encodes chunks, and on what kind of machine."""
    return {"pyarrow": pa.__version__, "machine": platform.machine()}


def planned_settings(recipe: Mapping[str, Any], settings: EngineSettings) -> EngineSettings:
    """Today's settings, but for those that decided about the chunks of an earlier push: with these its source is read again as it was.

    A newer version may have written more of its CSV settings. What it meant by them is not known here: `recipe_change` says that they differ.
    """
    options = _defaults() | dict(recipe)
    update = {name: options[key] for key, name in (_SETTINGS | _CUT).items() if key in options}
    return settings.model_copy(update=update | dict(zip(_CSV_SETTINGS, options["csv"], strict=False)))


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


# --- Schema -------------------------------------------------------------------------------------------------------------------------


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
