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
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from pushengine.config.csv_settings import CsvSettings
from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceError
from pushengine.interfaces import FileSystem, SourceBlock, Structure
from pushengine.model import FileRef
from pushengine.sources.csv import reading
from pushengine.sources.csv.reading import CsvPass
from pushengine.sources.csv.structure.examination import Examination, first_bytes
from pushengine.sources.files import FilesSource, require_same_columns
from pushengine.text import format_count, spelled_like

_MIN_SAMPLE_BYTES = 64 * 1024
_TRIAL_BYTES = 1024 * 1024
_MIN_BLOCK_BYTES = 4096


class CsvSource(FilesSource):
    """CSV files as one table, with every column as text."""

    is_text = True
    knows_rows = False
    min_sample_bytes = _MIN_SAMPLE_BYTES

    def __init__(
        self,
        refs: Sequence[FileRef],
        *,
        label: str,
        settings: EngineSettings,
        filesystem: FileSystem,
        is_trial: bool = False,
    ) -> None:
        super().__init__(refs, label=label, filesystem=filesystem)
        self._settings = settings
        self._names: tuple[str, ...] | None = None
        self._is_trial = is_trial
        self.examination = Examination(settings.csv, self._first_bytes, self._leads_on)
        self._left_out: collections.Counter[str] = collections.Counter()
        self._is_compressed = False
        self._is_sample_complete = False
        self._is_inferring = True

    def schema(self) -> pa.Schema:
        """Return all columns as strings, in the order of the first file. Reads the header line of every file.

        Raises:
            SourceReadError: A file cannot be read or has no header line.
            SchemaError: A column name is empty or duplicated, or the files have different columns.
        """
        self._is_inferring = True
        if self._names is None:
            for ref in self.files:
                with self._explained(ref), contextlib.closing(self._pass(ref, _MIN_SAMPLE_BYTES, ())) as one:
                    self._is_compressed |= one.compression is not None
                    names = one.layout.names
                with self._explained(ref, has_ways=False):
                    self._require_columns(ref, names)
        return pa.schema([pa.field(name, pa.string()) for name in self._names or ()])

    def _require_columns(self, ref: FileRef, names: tuple[str, ...]) -> tuple[str, ...]:
        if self._names is None:
            self._names = names
        require_same_columns(self._names, self.files[0], spelled_like(names, self._names), ref, position="line 1")
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
        # What the watch finds is asked for once the types are inferred, and the search takes time.
        if self._is_inferring:
            one.watch = self.examination.watch(ref, one)
        return one

    def sample(self, max_bytes: int) -> Iterator[SourceBlock]:
        """Yield the start of each file, or of an even selection if there are many: about `max_bytes` of text, or all of a small source."""
        self.schema()
        self._left_out.clear()
        self._is_sample_complete = not self._is_compressed and self.size_bytes() <= max_bytes
        yield from super().sample(max_bytes)

    def structure(self, names: Sequence[str] = ()) -> Structure:
        """Return how the text is written. `names` are those of the table's columns, in order, if it exists."""
        if not self.examination.has_samples:
            for _ in self.sample(_MIN_SAMPLE_BYTES):
                pass
        self._is_inferring = False
        left_out = [format_count(count, kind) for kind, count in self._left_out.items()]
        notes = [f"left out of the sample: {', '.join(left_out)}"] if left_out else []
        return dataclasses.replace(self.examination.structure(names), notes=tuple(notes))

    @contextlib.contextmanager
    def _explained(self, ref: FileRef, *, has_ways: bool = True) -> Iterator[None]:
        """Add to an error what the first lines of the file look like, and how to continue."""
        try:
            yield
        except SourceError as error:
            if self._is_trial:
                raise
            raise self.examination.explained(ref, error, has_ways=has_ways) from error.__cause__

    def _first_bytes(self, ref: FileRef) -> bytes:
        return first_bytes(ref, self._settings, self._filesystem)

    def _leads_on(self, ref: FileRef, changes: Mapping[str, Any]) -> bool:
        """Whether the start of a file can be read without any doubt if some settings are changed."""
        try:
            csv = CsvSettings(**self._settings.csv.with_overrides(changes))
            settings = self._settings.model_copy(update={"csv": csv, "max_rejects": 0})
            trial = CsvSource((ref,), label=ref.shown, settings=settings, filesystem=self._filesystem, is_trial=True)
            for _ in trial.sample(_TRIAL_BYTES):
                pass
        except (SourceError, ValidationError):
            return False
        return not trial.examination.is_doubtful

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBlock]:
        block_bytes = min(reading.BLOCK_BYTES, max(max_bytes, _MIN_BLOCK_BYTES))
        with contextlib.closing(self._open(ref, block_bytes)) as one, self._explained(ref):
            blocks = one.decoded(None if self._is_sample_complete else max(max_bytes, block_bytes))
            yield from self.examination.observed(ref, one, blocks)
            self._left_out.update(one.left_out)


def open_files(refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> CsvSource:
    """Return the source over these files. Called by `registry.open_source`."""
    return CsvSource(refs, label=label, settings=settings, filesystem=filesystem)
