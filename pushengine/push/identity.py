"""What makes two pushes the same push: identity, source fingerprint, and chunk recipe.

The identity finds a push in the journal. Fingerprint and recipe matter only while chunks remain to be sent: the fingerprint says whether
the source still holds the same rows, the recipe whether the remaining chunks would be cut and encoded like the ones before them.

A fingerprint (see `sources.fingerprint`) is a list with one entry per file, in the order in which the files are read:

    [absolute path, size, mtime in ns, SHA-256 of its first, middle and last 64 KiB, device, inode, ctime in ns]

Journals of earlier versions have only the first four elements.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from pushengine.config.csv_settings import CSV_SETTINGS, CsvSettings
from pushengine.config.options import LoadOptions
from pushengine.config.settings import PUSH_SETTINGS, EngineSettings
from pushengine.model import Target
from pushengine.runtime.files import absolute_uri
from pushengine.text import storable

CHUNKING_VERSION = 2
"""Raised whenever a version cuts or encodes the same source differently than the version before, even if only a default changed."""
DECODING_VERSION = 3
"""Raised whenever a version cuts the same decoded files differently than the version before. It does not matter for text and passthrough."""
_GUARDS = ("min_rows", "max_drop", "max_rejects", "rejects", "patience")
_RECORDED_PUSH_SETTINGS = tuple(name for name in PUSH_SETTINGS if name not in _GUARDS and name not in CSV_SETTINGS)
"""The guards and the patience change nothing in a chunk that a job holds: those of today apply. Where chunks lack rejected rows, the
journal says so."""
_SETTINGS = {
    "file_type": "file_type",
    "compression": "compression",
    "timestamps": "timestamps",
    "as_it_is": "parquet_as_it_is",
    **{name: name for name in _RECORDED_PUSH_SETTINGS},
}
_CUT_SETTINGS = {"chunk_bytes": "chunk_bytes", "encoders": "encoder_threads"}
"""Settings that determine how the source is cut. A push resumes with the cut it started with, so these are never compared."""
_REJECTS = "rejects"
"""The settings of rejected rows in a recipe: `max_rejects` and the folder. Never compared; only a push resumed by its id keeps them."""
_VALUE_SETTINGS = ("locale", "decimal", "thousands", "date_format", "zero_date_null", "subsecond")
"""The settings of text files that matter for other sources, too: for a column of text whose type is requested."""
_EARLIER_CSV_SETTINGS = ("delimiter", "encoding")
"""The settings of text files that earlier versions recorded, as a list."""
_PASSTHROUGH_KEYS = frozenset({"chunking", "as_it_is", *_RECORDED_PUSH_SETTINGS})
"""The only recipe keys that matter for files sent by passthrough."""


# --- Identity -----------------------------------------------------------------------------------------------------------------------


def push_identity(
    *,
    team: str,
    pool_id: str,
    target: Target,
    source: Sequence[str],
    source_format: str | None,
    options: LoadOptions,
) -> str:
    """Return a hash that is equal for the same command: same destination, same options, and same files.

    Files count by the words that name them, made absolute.
    """
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
            "types": dict(sorted(options.column_types.items())),
            **options.to_dict(),
        }
    )


def load_identity(team: str, pool_id: str, load_id: str) -> str:
    """Return the identity of all pushes with a load id: one at a time works on them, whatever they load."""
    return _digest({"team": team, "pool": pool_id, "load_id": load_id})


def load_request(
    target: Target, source: Sequence[str] | None, source_format: str | None, options: LoadOptions
) -> dict[str, Any]:
    """Return what a load id stands for, as JSON types; None for a source in memory, which cannot be compared with another one."""
    return {
        "table": target.table.casefold(),
        "source": None if source is None else list(source),
        "mode": target.mode,
        "keys": list(target.keys),
        "connection": target.connection_id,
        "format": source_format,
        "order_by": target.duplicate_removal_column,
        "types": dict(sorted(options.column_types.items())),
        "options": options.to_dict(),
    }


def source_patterns(spec: Any) -> list[str] | None:
    """Return the words that name the files, as absolute paths and patterns.

    Return None for objects in memory, which no later process can find again.
    """
    words = list(spec) if isinstance(spec, list | tuple) else [spec]
    if not words or not all(isinstance(word, str | os.PathLike) for word in words):
        return None
    return [absolute_uri(os.fspath(word)) for word in words]


# --- Recipe -------------------------------------------------------------------------------------------------------------------------


def chunk_recipe(settings: EngineSettings) -> dict[str, Any]:
    """Return everything, besides its rows and the schema, that determines the bytes of a chunk. Options at their default are left out."""
    options = {
        **{key: getattr(settings, name) for key, name in _SETTINGS.items()},
        "csv": settings.csv.to_dict(),
    }
    defaults = _defaults()
    return {
        "chunking": CHUNKING_VERSION,
        "decoding": DECODING_VERSION,
        "chunk_bytes": settings.fitting_chunk_bytes,
        "encoders": settings.encoder_threads,
        **{key: value for key, value in options.items() if value != defaults[key]},
        **({_REJECTS: _rejects(settings)} if settings.allows_rejects else {}),
        **library_versions(),
    }


def _rejects(settings: EngineSettings) -> list[Any]:
    folder = settings.rejects
    return [settings.max_rejects, None if folder is None else absolute_uri(os.fspath(folder))]


def library_versions() -> dict[str, str]:
    """Return the version of the library that encodes chunks, and the machine type."""
    return {"pyarrow": pa.__version__, "machine": platform.machine()}


def planned_settings(recipe: Mapping[str, Any], settings: EngineSettings) -> EngineSettings:
    """Return today's settings, except for those that determined the chunks of an earlier push.

    With these, its source is read and cut exactly as it was then. A newer version may have recorded settings of text files, or values of
    them, that this version does not know; they are ignored here, and `recipe_change` reports that they differ.
    """
    options = _defaults() | dict(recipe)
    update: dict[str, Any] = {name: options[key] for key, name in (_SETTINGS | _CUT_SETTINGS).items() if key in options}
    known = {name: value for name, value in _csv_settings(options["csv"]).items() if name in CSV_SETTINGS}
    with contextlib.suppress(ValidationError):
        update["csv"] = CsvSettings.model_validate(known)
    return settings.model_copy(update=update)


def _csv_settings(recorded: Any) -> dict[str, Any]:
    """Return the recorded settings of text files by name, without those that say nothing."""
    if isinstance(recorded, Mapping):
        return dict(recorded)
    named = dict(zip((*_EARLIER_CSV_SETTINGS, *range(len(recorded))), recorded, strict=False))
    return {
        str(name): value
        for name, value in named.items()
        if (name, value) not in (("delimiter", None), ("encoding", "utf-8"))
    }


def resumed_settings(recipe: Mapping[str, Any], settings: EngineSettings) -> EngineSettings:
    """Return the settings of a push that is resumed by its id: the planned ones, with its `max_rejects` and `rejects`."""
    max_rejects, folder = recipe.get(_REJECTS) or (0, None)
    update = {"max_rejects": max_rejects, "rejects": None if folder is None else Path(folder)}
    return planned_settings(recipe, settings).model_copy(update=update)


def recipe_change(
    recipe: Mapping[str, Any], settings: EngineSettings, *, is_text: bool, is_passthrough: bool
) -> str | None:
    """Return why the remaining chunks would not match those of an earlier process; None if they match.

    Args:
        recipe: Recipe of the earlier process.
        settings: Settings of this process.
        is_text: The source is text, so the Parquet passthrough setting does not matter.
        is_passthrough: The files are sent by passthrough, so nothing is encoded.
    """
    before, now = (_comparable_recipe(one, is_text=is_text) for one in (recipe, chunk_recipe(settings)))
    changed = {key for key in before | now if before.get(key) != now.get(key)}
    changed -= {"as_it_is", "decoding"} if is_text else set()
    if is_passthrough:
        changed &= _PASSTHROUGH_KEYS
    if changed:
        return f"its chunks would be encoded differently now, because of a changed {' and a changed '.join(sorted(changed))}"
    if not is_passthrough and planned_settings(recipe, settings).fitting_chunk_bytes != recipe.get("chunk_bytes"):
        return "its chunks no longer fit into max_memory_bytes"
    return None


def _comparable_recipe(recipe: Mapping[str, Any], *, is_text: bool) -> dict[str, Any]:
    """Return a recipe without its cut and without options at their default, which earlier versions recorded too."""
    defaults = _defaults()
    csv = _csv_settings(recipe.get("csv", {}))
    comparable = {**recipe, "csv": csv if is_text else {name: csv[name] for name in _VALUE_SETTINGS if name in csv}}
    return {
        key: value
        for key, value in comparable.items()
        if key not in _CUT_SETTINGS and key != _REJECTS and not (key in defaults and value == defaults[key])
    }


def _defaults() -> dict[str, Any]:
    fields = EngineSettings.model_fields
    return {
        **{key: fields[name].default for key, name in _SETTINGS.items()},
        "csv": {},
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(storable(json.dumps(value, sort_keys=True, ensure_ascii=False)).encode()).hexdigest()
