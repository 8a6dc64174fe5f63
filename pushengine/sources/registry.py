"""File formats, and the choice of the source that a specification describes."""

from __future__ import annotations

import dataclasses
import importlib
import os
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SourceReadError
from pushengine.interfaces import FileSystem, Source
from pushengine.model import FileRef
from pushengine.runtime.files import scheme_of
from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.files import COMPRESSION_NAMES, COMPRESSIONS, EmptySource, compression_of
from pushengine.sources.first_bytes import (
    CONVERT,
    SAVE_AS_CSV,
    TEXT,
    UNPACK,
    compression_in,
    evident_encoding,
    head_of,
    kind_named,
    kind_of,
)
from pushengine.sources.listing import list_files
from pushengine.text import flag, shell_word, shown_name

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A file format. `module` defines `open_files(files, *, label, settings, filesystem) -> Source`; empty if the format is unsupported."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    is_compressible: bool = False

    def suffix_of(self, name: str) -> str:
        """Return the suffix by which the name of a file shows this format, with that of a compression; empty if it does not."""
        bare, dot, last = name.lower().rpartition(".")
        compression = f"{dot}{last}" if self.is_compressible and f"{dot}{last}" in COMPRESSIONS else ""
        stem = bare if compression else name.lower()
        suffix = next((suffix for suffix in self.suffixes if stem.endswith(suffix)), "")
        return name[len(name) - len(suffix + compression) :] if suffix else ""


FORMATS = (
    Format("csv", (".csv", ".tsv", ".txt"), "pushengine.sources.csv.source", is_compressible=True),
    Format("parquet", (".parquet", ".pq"), "pushengine.sources.parquet"),
    Format("jsonl", (".jsonl", ".ndjson"), "", is_compressible=True),
    Format("arrow", (".arrow", ".feather", ".ipc"), "pushengine.sources.arrow.ipc_files"),
)


def open_source(
    spec: Any,
    *,
    format: str | None = None,  # noqa: A002 - named like the command line option
    schema: pa.Schema | None = None,
    settings: EngineSettings,
    filesystem: FileSystem,
    allow_empty: bool = False,
    label: str = "",
) -> Source | IteratorSource:
    """Return the source that `spec` describes. Blocking: lists files, and reads at most their first bytes.

    Args:
        spec: A path, glob or directory or a list of them; an object with `__arrow_c_stream__` or `__arrow_c_array__`; a pyarrow
            table, batch, reader or dataset; or an async iterator of record batches.
        format: Name of the file format, needed if the file names do not show it.
        schema: Arrow schema of an async iterator, if it is known beforehand or the iterator may be empty.
        settings: Settings for the source, such as the CSV dialect.
        filesystem: Lists and opens the files that paths refer to.
        label: Name of the source in messages, if its path is that of a copy.
        allow_empty: Whether files of 0 bytes, or none at all, are a source without rows and not an error.

    Raises:
        ConfigError: `spec` is not a source, is an empty text, names a file twice or mixes formats; or the format is unknown.
        SourceReadError: A file does not exist, or is of another format than its name or `format` says.
    """
    check_paths(spec)
    if names_paths(spec):
        if schema is not None:
            raise ConfigError("schema= is only for async iterators; files have their own schema", key="schema")
        words = spec if isinstance(spec, list | tuple) else [spec]
        return _open_paths(words, format, settings, filesystem, allow_empty=allow_empty, label=label)
    if format is not None:
        raise ConfigError(f"format {format} is for files, not for {_type_name(spec)}", key="format")
    source: Source | IteratorSource | None = importlib.import_module("pushengine.sources.arrow.objects").open_object(
        spec, schema=schema
    )
    if source is None:
        raise ConfigError(
            f"{_type_name(spec)} is not a source of rows",
            key="source",
            hint="pass paths, an object with __arrow_c_stream__, or an async iterator of record batches",
        )
    return source


def names_paths(source: Any) -> bool:
    """Whether a source is a path or a list of paths."""
    words = source if isinstance(source, list | tuple) else [source]
    return bool(words) and all(isinstance(word, str | os.PathLike) for word in words)


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
    label: str,
) -> Source:
    try:
        files = list_files(words, filesystem, allow_none=allow_empty)
    except SourceReadError:
        for word in words:
            if isinstance(word, PurePath) and (scheme := scheme_of(address := str(word).replace(":/", "://", 1))):
                raise _unsupported_scheme(address, scheme) from None  # `pathlib` collapses `//` into `/`
        raise
    files = [dataclasses.replace(file, label=label) for file in files]
    label = label or (os.fspath(words[0]) if len(words) == 1 else f"{os.fspath(words[0])} and {len(words) - 1} more")
    if allow_empty and not any(file.size for file in files):
        return EmptySource(files, label=label, filesystem=filesystem)
    chosen = _named_format(name) if name else _common_format(files, filesystem)
    if not chosen.module:
        raise ConfigError(f"format {chosen.name} is not supported yet", key="format", hint="convert to parquet or csv")
    if chosen.is_compressible and allow_empty:
        full = [file for file in files if not _is_empty_text(file, settings, filesystem)]
        if not full:
            return EmptySource(files, label=label, filesystem=filesystem)
        files = full
    if not chosen.is_compressible:
        for file in files:
            _require_kind(file, chosen, filesystem)
    source: Source = importlib.import_module(chosen.module).open_files(
        files, label=label, settings=settings, filesystem=filesystem
    )
    return source


def _is_empty_text(file: FileRef, settings: EngineSettings, filesystem: FileSystem) -> bool:
    """Whether a text file has no content, also once it is decompressed. A file that cannot be read is not empty."""
    if not file.size:
        return True
    has_content = importlib.import_module("pushengine.sources.text_stream").has_content
    try:
        with filesystem.open(file) as opened:
            return not has_content(opened, compression_of(file), settings.csv.encoding)
    except OSError:
        return False


def _head_of(file: FileRef, filesystem: FileSystem) -> bytes:
    """Return the first bytes of a file; none if it cannot be read, which its reader reports."""
    try:
        with filesystem.open(file) as opened:
            return head_of(opened)
    except OSError:
        return b""


def _require_kind(file: FileRef, chosen: Format, filesystem: FileSystem) -> None:
    """Require that a file that is not text is not a file of another format, as far as its first bytes show that.

    Raises:
        SourceReadError: It is one; the message says of which, the hint what to do.
    """
    head = _head_of(file, filesystem)
    compression, kind = compression_in(head), kind_of(head)
    if compression is not None:
        raise SourceReadError(
            f"not {kind_named(chosen.name)}, but a file compressed with {compression}",
            source=file.shown,
            hint="decompress it first",
        )
    if kind is not None and kind.format != chosen.name:
        raise SourceReadError(f"not {kind_named(chosen.name)}, but {kind.name}", source=file.shown, hint=kind.remedy)


def _named_format(name: str) -> Format:
    for candidate in FORMATS:
        if candidate.name == name.lower():
            return candidate
    raise ConfigError(f"unknown format {name}", key="format", hint=f"one of {', '.join(one.name for one in FORMATS)}")


def _common_format(files: Sequence[FileRef], filesystem: FileSystem) -> Format:
    found = [(file, _format_of(file.uri)) for file in files]
    known = next(((file, one) for file, one in found if one is not None), None)
    if known is None:
        raise _unknown_format(files[0], filesystem)
    for file, other in found:
        if other is not known[1]:
            kind = "does not show its format" if other is None else f"is {other.name}"
            pattern = str(PurePath(known[0].uri).parent / f"*{known[1].suffix_of(known[0].name)}")
            raise ConfigError(
                f"{shown_name(known[0].shown)} is {known[1].name} and {shown_name(file.shown)} {kind}: one push reads one format",
                key="source",
                hint=f"push them separately, such as {shell_word(pattern)}",
            )
    return known[1]


def _format_of(path: str) -> Format | None:
    """Return the format that the name of a file shows; None if it shows none."""
    return next((candidate for candidate in FORMATS if candidate.suffix_of(PurePath(path).name)), None)


def format_named(path: str) -> str | None:
    """Return the name of the format that the name of a file shows; None if it shows none."""
    found = _format_of(path)
    return None if found is None else found.name


_REMEDIES = {
    (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"): SAVE_AS_CSV,
    (".zip", ".tar", ".tgz", ".7z", ".rar"): UNPACK,
}


def _unknown_format(file: FileRef, filesystem: FileSystem) -> ConfigError:
    suffixes = ", ".join(suffix for candidate in FORMATS if candidate.module for suffix in candidate.suffixes)
    remedy = next((text for names, text in _REMEDIES.items() if file.name.lower().endswith(names)), "")
    head = _head_of(file, filesystem)
    kind = TEXT if compression_in(head) or evident_encoding(head) else kind_of(head)
    if not remedy and kind is not None:
        remedy = kind.remedy if kind.format else f"it is {kind.name}: {kind.remedy}"
        if kind is TEXT and file.name.lower().endswith((".json", ".jsonl", ".xml", ".html", ".sql")):
            remedy = CONVERT
    return ConfigError(
        f"the name {shown_name(file.shown)} does not show the format ({suffixes}; compressed CSV: {COMPRESSION_NAMES})",
        key="format",
        hint=remedy or " or ".join(flag("format", candidate.name) for candidate in FORMATS if candidate.module),
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
