"""Source over CSV and other delimited text, read strictly.

The reader thread cuts a file into blocks of whole rows. An encoder thread then parses each block with Arrow, with every column as text;
`pushengine.schema.inference` determines the column types.

File format, unless the settings (`config.CsvSettings`) say otherwise:

- A quote is special only at the start of a field; a quote inside a quoted field is doubled. Any other quote (`5" pipe`) is an ordinary
  character. Text after a closing quote and a quote that is never closed are errors; other readers drop the quotes or lose rows there.
- Rows end with LF or CRLF, or with CR in a file whose first line ends with a lone CR. Outside quotes, any other line end is an error.
- An empty line is not a row, except in a file with one column, where it is a NULL.
- An unquoted empty field is NULL; `""` is an empty string.
- The first line that is not empty holds the column names.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError
from pushengine.interfaces import FileSystem, SourceBatch, Structure
from pushengine.model import FileRef
from pushengine.sources.csv import reading
from pushengine.sources.csv.header import FirstRow
from pushengine.sources.csv.reading import CsvPass
from pushengine.sources.files import FilesSource, compression_of
from pushengine.text import format_count

_MIN_SAMPLE_BYTES = 64 * 1024
_MIN_BLOCK_BYTES = 4096


class CsvSource(FilesSource):
    """CSV files as one table, with every column as text."""

    is_text = True
    knows_rows = False
    min_sample_bytes = _MIN_SAMPLE_BYTES

    def __init__(
        self, refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem
    ) -> None:
        super().__init__(refs, label=label, filesystem=filesystem)
        self._settings = settings
        self._names: tuple[str, ...] | None = None
        self.first_rows: dict[str, FirstRow] = {}
        """The first row of each file, by its name."""
        self._left_out: collections.Counter[str] = collections.Counter()
        self._is_sample_complete = False

    def schema(self) -> pa.Schema:
        """Return all columns as strings, in the order of the first file. Reads the header line of every file.

        Raises:
            SourceReadError: A file cannot be read or has no header line.
            SchemaError: A column name is empty or duplicated, or the files have different columns.
        """
        if self._names is None:
            for ref in self.files:
                with contextlib.closing(self._pass(ref, 64 * 1024, ())) as one:
                    self.first_rows[ref.uri] = one.first
                    self._require_columns(ref, one.layout.names)
        return pa.schema([pa.field(name, pa.string()) for name in self._names or ()])

    def _require_columns(self, ref: FileRef, names: tuple[str, ...]) -> tuple[str, ...]:
        if self._names is None:
            self._names = names
        known, found_names = set(self._names), set(names)
        missing = [name for name in self._names if name not in found_names]
        extra = [name for name in names if name not in known]
        if missing or extra:
            parts = [f"{word} {', '.join(found[:5])}" for word, found in (("lacks", missing), ("adds", extra)) if found]
            raise SchemaError(
                f"columns differ from those in {self.files[0].uri}: {' and '.join(parts)}",
                source=ref.uri,
                position="line 1",
            )
        return self._names

    def _pass(self, ref: FileRef, block_bytes: int, wanted_names: Sequence[str]) -> CsvPass:
        return CsvPass((ref, self._settings, self._filesystem, block_bytes, wanted_names, self.stopped))

    def _open(self, ref: FileRef, max_block_bytes: int | None = None) -> CsvPass:
        block_bytes = min(max_block_bytes or reading.BLOCK_BYTES, self._settings.fitting_chunk_bytes)
        one = self._pass(ref, block_bytes, self._names or ())
        try:
            self._require_columns(ref, one.layout.names)
        except BaseException:
            one.close()
            raise
        return one

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Yield the start of each file, or of an even selection if there are many: about `max_bytes` of text, or all of a small source."""
        self.schema()
        self._is_sample_complete = not any(map(compression_of, self.files)) and self.size_bytes() <= max_bytes
        yield from super().sample(max_bytes)

    def structure(self) -> Structure:
        """Return how the text is written."""
        first = next(iter(self.first_rows.values()), None)
        found: dict[str, Any] = {} if first is None else {"delimiter": first.delimiter, "header": first.is_header}
        left_out = [format_count(count, kind) for kind, count in self._left_out.items()]
        notes = [f"left out of the sample: {', '.join(left_out)}"] if left_out else []
        return Structure({**self._settings.csv.filled().to_dict(), **found}, notes=tuple(notes))

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        block_bytes = min(reading.BLOCK_BYTES, max(max_bytes, _MIN_BLOCK_BYTES))
        with contextlib.closing(self._open(ref, block_bytes)) as one:
            yield from one.decoded(None if self._is_sample_complete else max(max_bytes, block_bytes))
            self._left_out.update(one.left_out)


def open_files(refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> CsvSource:
    """Return the source over these files. Called by `registry.open_source`."""
    return CsvSource(refs, label=label, settings=settings, filesystem=filesystem)
