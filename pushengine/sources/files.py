"""What the source kinds share: the registry of formats, `open_source`, and reading several files as one table."""

from __future__ import annotations

import dataclasses
import importlib
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pushengine.config.load import EngineSettings
from pushengine.errors import ConfigError, SourceReadError, unreadable
from pushengine.interfaces import BlockReader, FileSystem, Source, SourceBatch, SourceBlock

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz", ".lz4": "lz4"}
_COMPRESSION_NAMES = ", ".join(COMPRESSIONS)


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A file format: `module` has `open_files(paths, *, label, settings, filesystem) -> Source`; empty if not supported yet."""

    name: str
    suffixes: tuple[str, ...]
    module: str
    is_compressible: bool = False


FORMATS = (
    Format("csv", (".csv", ".tsv", ".txt"), "pushengine.sources.csv", is_compressible=True),
    Format("parquet", (".parquet", ".pq"), "pushengine.sources.parquet"),
    Format("jsonl", (".jsonl", ".ndjson"), "", is_compressible=True),
    Format("arrow", (".arrow", ".feather", ".ipc"), "pushengine.sources.arrow_files"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class AsyncSource:
    """Rows from an async iterator of record batches: one pass, in order.

    Attributes:
        label: What messages call it.
        schema: Arrow schema where the caller gave one, else None: look at the first batch.
        batches: The batches; to be iterated once, by one task, and closed with `aclose()`.
    """

    label: str
    schema: pa.Schema | None
    batches: AsyncIterator[SourceBatch]
    is_text: bool = False
    is_repeatable: bool = False

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed."""
        close = getattr(self.batches, "aclose", None)
        if close is not None:
            await close()


def open_source(
    spec: Any,
    *,
    format: str | None = None,  # noqa: A002 - the word of the command line
    schema: pa.Schema | None = None,
    settings: EngineSettings,
    filesystem: FileSystem,
) -> Source | AsyncSource:
    """Find out what `spec` is. Blocking: looks at file names, not into files.

    Args:
        spec: A path, glob or directory or a list of them; an object with `__arrow_c_stream__` or `__arrow_c_array__`; a pyarrow
            table, batch, reader or dataset; or an async iterator of record batches.
        format: Format of files whose names do not tell it.
        schema: Arrow schema of an async iterator, for when it may be empty or is known before.
        settings: CSV dialect.
        filesystem: Where paths lead.

    Raises:
        ConfigError: Not a source, an empty word, an unknown format, several formats at once, or a file named twice.
        SourceReadError: No such file.
    """
    check_words(spec)
    if isinstance(spec, str | os.PathLike):
        return _open_paths([os.fspath(spec)], format, schema, settings, filesystem)
    if isinstance(spec, list | tuple) and spec and all(isinstance(one, str | os.PathLike) for one in spec):
        return _open_paths([os.fspath(one) for one in spec], format, schema, settings, filesystem)
    if format is not None:
        raise ConfigError(f"format {format} is for files, not for {_type_name(spec)}", key="format")
    source: Source | AsyncSource | None = importlib.import_module("pushengine.sources.arrow").open_object(
        spec, schema=schema
    )
    if source is None:
        raise ConfigError(
            f"{_type_name(spec)} is no source of rows",
            key="source",
            hint="give paths, an object with __arrow_c_stream__, or an async iterator of record batches",
        )
    return source


def check_words(spec: Any) -> None:
    """Refuse an empty text as a path, which would become the current directory. Looks at words only, not at files.

    Raises:
        ConfigError: There is one. (`Path("")` is `Path(".")` already when it gets here.)
    """
    words = spec if isinstance(spec, list | tuple) else (spec,)
    if any(isinstance(word, str) and not word for word in words):
        raise ConfigError("a source is an empty text", key="source", hint="give a path; is a variable unset?")


def _type_name(spec: Any) -> str:
    kind = type(spec)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _open_paths(
    patterns: Sequence[str],
    name: str | None,
    schema: pa.Schema | None,
    settings: EngineSettings,
    filesystem: FileSystem,
) -> Source:
    if schema is not None:
        raise ConfigError("schema= is for async iterators; files have their own", key="schema")
    paths: list[Path] = []
    for pattern in patterns:
        found = _expanded(pattern, filesystem)
        twice = next((path for path in found if path in paths), None)
        if twice is not None:
            raise ConfigError(f"{twice} is named twice", key="source", hint="its rows would be loaded twice")
        paths += found
    label = patterns[0] if len(patterns) == 1 else f"{patterns[0]} and {len(patterns) - 1} more"
    chosen = _named_format(name) if name else _common_format(paths)
    if not chosen.module:
        raise ConfigError(f"format {chosen.name} is not supported yet", key="format", hint="convert to parquet or csv")
    source: Source = importlib.import_module(chosen.module).open_files(
        paths, label=label, settings=settings, filesystem=filesystem
    )
    return source


def _expanded(pattern: str, filesystem: FileSystem) -> list[Path]:
    try:
        found = filesystem.expand(pattern)
    except OSError as exc:
        raise unreadable(pattern, exc) from exc
    if found:
        return found
    if Path(pattern).is_dir():
        raise SourceReadError("no data files in this directory", source=pattern, hint="subdirectories are not searched")
    raise SourceReadError("no such file", source=pattern)


def _named_format(name: str) -> Format:
    for candidate in FORMATS:
        if candidate.name == name.lower():
            return candidate
    raise ConfigError(f"unknown format {name}", key="format", hint=f"one of {', '.join(one.name for one in FORMATS)}")


def _common_format(paths: Sequence[Path]) -> Format:
    first = _format_of(paths[0])
    for path in paths[1:]:
        other = _format_of(path)
        if other is not first:
            raise ConfigError(
                f"{paths[0]} is {first.name} and {path} is {other.name}: one push reads one format",
                key="source",
                hint="push them apart",
            )
    return first


def _format_of(path: Path) -> Format:
    name = path.name.lower()
    bare, dot, compression = name.rpartition(".")
    is_compressed = f"{dot}{compression}" in COMPRESSIONS
    for candidate in FORMATS:
        if name.endswith(candidate.suffixes) or (
            candidate.is_compressible and is_compressed and bare.endswith(candidate.suffixes)
        ):
            return candidate
    known = ", ".join(suffix for candidate in FORMATS if candidate.module for suffix in candidate.suffixes)
    raise ConfigError(
        f"the name {path} does not tell the format ({known}; compressed CSV: {_COMPRESSION_NAMES})",
        key="format",
        hint="give it with --format",
    )


def compression_of(path: Path) -> str | None:
    """Compression by the file's name, or None."""
    return COMPRESSIONS.get(path.suffix.lower())


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema without metadata, of types whose slices tell their size."""
    import pyarrow as pa  # noqa: PLC0415 - this module stays light

    from pushengine.schema.conversions import decoded_type  # noqa: PLC0415

    return pa.schema([pa.field(field.name, decoded_type(field.type)) for field in schema])


def plain_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns of a batch in the order and the types of `schema`.

    Raises:
        ValueError: A value does not survive the change of type.
        NotImplementedError: There is no way from the one type to the other.
    """
    import pyarrow as pa  # noqa: PLC0415 - this module stays light

    from pushengine.schema.conversions import decoded  # noqa: PLC0415

    columns = []
    for position, field in enumerate(schema):
        is_here = batch.schema.names[position] == field.name
        column = decoded(batch.column(position if is_here else batch.schema.get_field_index(field.name)))
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of the numbers below `count`, evenly spread, the first and the last included."""
    if wanted >= count:
        return list(range(count))
    if wanted <= 1:
        return [0]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


class FilePass(Protocol):
    """One file being read."""

    def skip(self, rows: int) -> int:
        """Leave out at most so many rows from the start without reading them; returns how many were left out."""
        ...

    def blocks(self) -> Iterator[SourceBlock]:
        """Its rows, without those left out."""
        ...

    def bytes_read(self) -> int:
        """How far."""
        ...

    def close(self) -> None:
        """Close the file; safe to call twice."""
        ...


class FilesReader(BlockReader):
    """One pass over several files as one table; rows before `start_row` are left out where a file can do that."""

    def __init__(
        self,
        label: str,
        paths: Sequence[Path],
        sizes: Sequence[int],
        open_pass: Callable[[Path], FilePass],
        *,
        start_row: int = 0,
        knows_rows: bool = True,
        stopped: threading.Event | None = None,
    ) -> None:
        self.rows_read = 0 if knows_rows else None
        self._start_row = start_row
        self._label = label
        self._files = list(zip(paths, sizes, strict=True))
        self._open_pass = open_pass
        self._stopped = stopped or threading.Event()
        self._current: FilePass | None = None
        self._bytes_before = 0

    def __iter__(self) -> Iterator[SourceBlock]:
        has_rows = self._start_row > 0
        try:
            for path, size in self._files:
                current = self._current = self._open_pass(path)
                if self.rows_read is not None:
                    self.rows_read += current.skip(max(self._start_row - self.rows_read, 0))
                for block in current.blocks():
                    has_rows = True
                    if self.rows_read is not None:
                        self.rows_read += block.rows or 0
                    yield block
                self.close()
                self._bytes_before += size
        finally:
            self.close()
        require_rows(has_rows, self._label)

    def bytes_read(self) -> int:
        """Bytes of the files as they lie, compressed where they are."""
        current = self._current
        return self._bytes_before + (0 if current is None else current.bytes_read())

    def stop(self) -> None:
        """Looking for the row of an error may end."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file that is open."""
        current, self._current = self._current, None
        if current is not None:
            current.close()


class FilesSource:
    """What sources over files share. A kind of file adds `is_text`, `schema`, `sample` and `_open`."""

    is_repeatable = True
    knows_rows = True
    """Blocks tell their rows before they are decoded."""

    def __init__(self, paths: Sequence[Path], *, label: str, filesystem: FileSystem) -> None:
        self.label = label
        self.files = tuple(paths)
        self._filesystem = filesystem
        self.stopped = threading.Event()

    def size_bytes(self) -> int:
        """Length of all files, compressed where they are.

        Raises:
            SourceReadError: A file is gone.
        """
        return sum(self._sizes())

    def _sizes(self) -> list[int]:
        sizes = []
        for path in self.files:
            try:
                sizes.append(self._filesystem.size_bytes(path))
            except OSError as exc:
                raise unreadable(str(path), exc) from exc
        return sizes

    def open(self, start_row: int = 0) -> BlockReader:
        """Begin a pass over all rows; those before `start_row` are left out where a file can do that without reading them."""
        self.stopped = threading.Event()
        return FilesReader(
            self.label,
            self.files,
            self._sizes(),
            self._open,
            start_row=start_row,
            knows_rows=self.knows_rows,
            stopped=self.stopped,
        )

    def _open(self, path: Path) -> FilePass:
        raise NotImplementedError


def require_rows(rows: int, label: str) -> None:
    """Refuse a source without rows: a replaced table would be emptied by an extract that failed.

    Raises:
        SourceReadError: No rows.
    """
    if not rows:
        raise SourceReadError("no rows", source=label, hint="nothing was pushed")
