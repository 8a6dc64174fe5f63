"""File formats, and the choice of the source that a specification describes."""

from __future__ import annotations

import dataclasses
import glob
import importlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SourceReadError, unreadable
from pushengine.interfaces import FileSystem, Source
from pushengine.model import FileRef
from pushengine.runtime.files import scheme_of
from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.files import COMPRESSION_NAMES, COMPRESSIONS, EmptySource

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A file format. `module` defines `open_files(files, *, label, settings, filesystem) -> Source`; empty if the format is unsupported."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    is_compressible: bool = False


FORMATS = (
    Format("csv", (".csv", ".tsv", ".txt"), "pushengine.sources.csv.source", is_compressible=True),
    Format("parquet", (".parquet", ".pq"), "pushengine.sources.parquet"),
    Format("jsonl", (".jsonl", ".ndjson"), "", is_compressible=True),
    Format("arrow", (".arrow", ".feather", ".ipc"), "pushengine.sources.arrow_files"),
)


def open_source(
    spec: Any,
    *,
    format: str | None = None,  # noqa: A002 - named like the command line option
    schema: pa.Schema | None = None,
    settings: EngineSettings,
    filesystem: FileSystem,
    allow_empty: bool = False,
) -> Source | IteratorSource:
    """Return the source that `spec` describes. Blocking: lists files, but does not read them.

    Args:
        spec: A path, glob or directory or a list of them; an object with `__arrow_c_stream__` or `__arrow_c_array__`; a pyarrow
            table, batch, reader or dataset; or an async iterator of record batches.
        format: Name of the file format, needed if the file names do not show it.
        schema: Arrow schema of an async iterator, if it is known beforehand or the iterator may be empty.
        settings: Settings for the source, such as the CSV dialect.
        filesystem: Lists and opens the files that paths refer to.
        allow_empty: Whether files of 0 bytes, or none at all, are a source without rows and not an error.

    Raises:
        ConfigError: `spec` is not a source, is an empty text, names a file twice or mixes formats; or the format is unknown.
        SourceReadError: A file does not exist.
    """
    check_paths(spec)
    if isinstance(spec, str | os.PathLike):
        spec = [spec]
    if isinstance(spec, list | tuple) and spec and all(isinstance(one, str | os.PathLike) for one in spec):
        if schema is not None:
            raise ConfigError("schema= is only for async iterators; files have their own schema", key="schema")
        return _open_paths(spec, format, settings, filesystem, allow_empty=allow_empty)
    if format is not None:
        raise ConfigError(f"format {format} is for files, not for {_type_name(spec)}", key="format")
    source: Source | IteratorSource | None = importlib.import_module("pushengine.sources.arrow").open_object(
        spec, schema=schema
    )
    if source is None:
        raise ConfigError(
            f"{_type_name(spec)} is not a source of rows",
            key="source",
            hint="pass paths, an object with __arrow_c_stream__, or an async iterator of record batches",
        )
    return source


def _type_name(spec: Any) -> str:
    kind = type(spec)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _open_paths(
    words: Sequence[str | os.PathLike[str]],
    name: str | None,
    settings: EngineSettings,
    filesystem: FileSystem,
    *,
    allow_empty: bool,
) -> Source:
    files: dict[str, FileRef] = {}
    for word in words:
        for file in _listed(word, filesystem, allow_none=allow_empty):
            if files.setdefault(os.path.normcase(file.uri), file) is not file:
                raise ConfigError(f"{file.uri} is named twice", key="source", hint="its rows would be loaded twice")
    label = os.fspath(words[0]) if len(words) == 1 else f"{os.fspath(words[0])} and {len(words) - 1} more"
    if allow_empty and not any(file.size for file in files.values()):
        return EmptySource(list(files.values()), label=label, filesystem=filesystem)
    chosen = _named_format(name) if name else _common_format(list(files.values()))
    if not chosen.module:
        raise ConfigError(f"format {chosen.name} is not supported yet", key="format", hint="convert to parquet or csv")
    source: Source = importlib.import_module(chosen.module).open_files(
        list(files.values()), label=label, settings=settings, filesystem=filesystem
    )
    return source


def _listed(word: str | os.PathLike[str], filesystem: FileSystem, *, allow_none: bool) -> list[FileRef]:
    pattern = os.fspath(word)
    try:
        found = filesystem.list(pattern)
    except OSError as exc:
        raise unreadable(pattern, exc) from exc
    if found or allow_none:
        return found
    if Path(pattern).is_dir():
        raise SourceReadError("no data files in this directory", source=pattern, hint="subdirectories are not searched")
    if isinstance(word, PurePath) and (scheme := scheme_of(address := pattern.replace(":/", "://", 1))):
        raise _unsupported_scheme(address, scheme)  # `pathlib` collapses `//` into `/`
    is_pattern = glob.has_magic(pattern)
    raise SourceReadError("no file matches this pattern" if is_pattern else "no such file", source=pattern)


def _named_format(name: str) -> Format:
    for candidate in FORMATS:
        if candidate.name == name.lower():
            return candidate
    raise ConfigError(f"unknown format {name}", key="format", hint=f"one of {', '.join(one.name for one in FORMATS)}")


def _common_format(files: Sequence[FileRef]) -> Format:
    first = _format_of(files[0])
    for file in files[1:]:
        other = _format_of(file)
        if other is not first:
            raise ConfigError(
                f"{files[0].uri} is {first.name} and {file.uri} is {other.name}: one push reads one format",
                key="source",
                hint="push them separately",
            )
    return first


def _format_of(file: FileRef) -> Format:
    name = file.name.lower()
    bare, dot, compression = name.rpartition(".")
    is_compressed = f"{dot}{compression}" in COMPRESSIONS
    for candidate in FORMATS:
        if name.endswith(candidate.suffixes) or (
            candidate.is_compressible and is_compressed and bare.endswith(candidate.suffixes)
        ):
            return candidate
    known = ", ".join(suffix for candidate in FORMATS if candidate.module for suffix in candidate.suffixes)
    raise ConfigError(
        f"the name {file.uri} does not show the format ({known}; compressed CSV: {COMPRESSION_NAMES})",
        key="format",
        hint="set it with --format",
    )


def check_paths(spec: Any) -> None:
    """Reject texts that are not paths on this machine. Checks the texts only, without access to files.

    Raises:
        ConfigError: A text is empty and would mean the current directory, or is the address of an object store or a web server.
            (An empty `Path("")` cannot be recognized here: it is already `Path(".")`.)
    """
    for word in spec if isinstance(spec, list | tuple) else (spec,):
        text = os.fspath(word) if isinstance(word, str | os.PathLike) else None
        if text == "":
            raise ConfigError("a source is an empty string", key="source", hint="pass a path; is a variable unset?")
        if isinstance(text, str) and (scheme := scheme_of(text)) is not None:
            raise _unsupported_scheme(text, scheme)


def _unsupported_scheme(word: str, scheme: str) -> ConfigError:
    return ConfigError(
        f"{word} cannot be read: {scheme}:// is not supported yet",
        key="source",
        hint="pass its path instead"
        if scheme == "file"
        else "copy the files to this machine first, or push an Arrow object",
    )
