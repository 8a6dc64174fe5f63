"""Examines the text files of a source: finds the doubts about their structure, and explains why a file cannot be read."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pushengine.config.csv_settings import CsvSettings
from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceError, SourceReadError
from pushengine.interfaces import FileSystem, SourceBatch, SourceBlock, Structure
from pushengine.model import FileRef
from pushengine.sources.csv.layout import Position
from pushengine.sources.csv.reading import CsvPass, Watch
from pushengine.sources.csv.structure.checks import (
    FileSample,
    Finding,
    count_outside_quotes,
    findings,
    header_cells,
    header_in_mid_file,
    repeated_header,
)
from pushengine.sources.csv.structure.encodings import fitting_encoding, has_both
from pushengine.sources.csv.structure.first_lines import (
    HEADER_LINE,
    PAGE,
    TELLING_KINDS,
    first_row_of,
    kind_of_line,
    lines_of,
    ways_to_read,
)
from pushengine.sources.csv.structure.hints import Way, flags, hint_of, working
from pushengine.sources.files import compression_of
from pushengine.sources.text_stream import DAMAGE, start_of_text
from pushengine.text import first_line

_FIRST_BYTES = 64 * 1024


def first_bytes(ref: FileRef, settings: EngineSettings, filesystem: FileSystem) -> bytes:
    """Return the first 64 KiB of a file as UTF-8, without a line that is cut off; as they are if their encoding is not known.

    Raises:
        SourceReadError: They cannot be read.
    """
    try:
        with filesystem.open(ref) as file:
            text = start_of_text(file, _FIRST_BYTES, compression_of(ref), settings.csv.encoding)
    except DAMAGE as exc:
        raise SourceReadError(first_line(exc), source=ref.shown) from exc
    return text if len(text) < _FIRST_BYTES else text.rpartition(b"\n")[0] or text


class Examination:
    """What the samples of the files of one source show.

    Args:
        given: The settings of the push.
        first_bytes: Returns the start of a file, as UTF-8 if its encoding is known. Raises `SourceError` if it cannot be read.
        leads_on: Whether the start of a file can be read, without any doubt, with these settings in addition to those given.
    """

    def __init__(
        self,
        given: CsvSettings,
        first_bytes: Callable[[FileRef], bytes],
        leads_on: Callable[[FileRef, Mapping[str, Any]], bool],
    ) -> None:
        self._given = given
        self._filled = given.filled()
        self._first_bytes = first_bytes
        self._leads_on = leads_on
        self._first: FileSample | None = None
        self._doubtful: tuple[FileRef, tuple[Finding, ...]] | None = None
        self._repeated: tuple[FileRef, int] | None = None

    @property
    def has_samples(self) -> bool:
        """Whether a file was examined."""
        return self._first is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether there is any doubt."""
        return self._doubtful is not None

    def observed(self, ref: FileRef, one: CsvPass, blocks: Iterator[SourceBlock]) -> Iterator[SourceBlock]:
        """Yield the sampled rows of a file, and examine them on the way."""
        sample = FileSample(one.first, one.layout.columns, lambda: self._first_lines(ref), self._filled)
        for block in blocks:
            sample.observe(block.readable().batch.batch)
            yield block
        if self._first is None:
            self._first = sample
        if self._doubtful is None:
            found = tuple(findings(sample))
            self._doubtful = (ref, found) if found else None

    def _first_lines(self, ref: FileRef) -> list[str]:
        return lines_of(self._first_bytes(ref).decode(errors="replace"))

    def watch(self, ref: FileRef, one: CsvPass) -> Watch | None:
        """Return what searches all rows of a file for the header line, not only the sampled ones; None if it may be among them.

        A header line in mid-file makes numbers a text, so that the push reads all rows once more to infer the types. `structure` then
        reports it. The search takes about a fiftieth of the time for parsing.
        """
        if self._given.header is not None or not one.first.is_header:
            return None
        header = header_cells(one.first, one.layout.columns)

        def search(batch: SourceBatch, position: Position) -> None:
            row = None if self._repeated is not None else repeated_header(batch.batch, header)
            if row is not None:
                with contextlib.suppress(SourceError):  # the pass was stopped
                    self._repeated = (ref, position()[0] + batch.number(row))

        return search

    def _findings(self) -> tuple[FileRef | None, tuple[Finding, ...]]:
        if self._doubtful is None and self._repeated is not None:
            ref, row = self._repeated
            self._doubtful = (ref, (header_in_mid_file(row),))
        return (None, ()) if self._doubtful is None else self._doubtful

    def structure(self, names: Sequence[str] = ()) -> Structure:
        """Return how the text is written. `names` are those of the table's columns, in order, if it exists."""
        if self._first is None:
            return Structure(self._given.to_dict())
        delimiter = self._first.delimiter
        dialect = {
            **self._given.to_dict(),
            "delimiter": delimiter,
            "quote": self._filled.quote_character,
            "encoding": self._given.encoding or "utf-8",
        }
        ref, found = self._findings()
        doubts = tuple(
            one.doubt(ref.shown, lambda settings: self._leads_on(ref, settings), found, names=names)
            for one in found
            if ref is not None
        )
        return Structure(dialect, _reason(self._first, self._given), doubts)

    def explained(self, ref: FileRef, error: SourceError, *, has_ways: bool = True) -> SourceError:
        """Return an error with what the first lines of the file look like and the ways to read it, if there are any.

        Args:
            ref: The file.
            error: Why it cannot be read.
            has_ways: Whether other settings may help. They do not if the file is read rightly, but differs from another file.
        """
        try:
            head = self._first_bytes(ref)
        except SourceError:
            return error
        is_mixed = has_both(head)
        encoding = "" if is_mixed or _is_utf8(head) else fitting_encoding(head)
        lines = lines_of(head.decode(encoding or "utf-8", "replace"))
        ways = [Way(f"if its encoding is {encoding}", {"encoding": encoding})] if encoding else []
        tries = itertools.chain(ways, ways_to_read(lines, self._filled))
        found = working(tries, lambda settings: self._leads_on(ref, settings)) if has_ways else []
        at = first_row_of(lines, self._filled)
        kind = kind_of_line(lines[at:], self._filled) if at < len(lines) else HEADER_LINE
        is_repeated = bool(found) and flags(found[0].settings) in error.hint
        is_told = kind != HEADER_LINE and not is_repeated and (found or not has_ways or kind in TELLING_KINDS)
        words = f"; line {at + 1} looks like {kind}" if is_told else ""
        if is_mixed and "not UTF-8" in error.message:
            return error.replace(
                hint="other lines are UTF-8: two encodings are mixed; repair this line, or make the extract again"
            )
        if kind == PAGE:
            return error.replace(message=f"{error.message}{words}", hint="check how the extract was made")
        if not (found or words):
            return error
        # The ways include the repairs of column names, which the hint of a `SchemaError` is about.
        own = "" if is_repeated or (found and isinstance(error, SchemaError)) else error.hint
        hint = "; ".join(part for part in (hint_of(found), own) if part)
        return error.replace(message=f"{error.message}{words}", hint=hint)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError as problem:
        return problem.start >= len(text) - 3 and problem.reason == "unexpected end of data"
    return True


def _reason(sample: FileSample, given: CsvSettings) -> str:
    """Return why a file is read with its delimiter, and how sure that is."""
    if sample.chosen == "sep line":
        return "as its first line says"
    if sample.chosen == "given":
        return "as given" if given.delimiter is not None else f"as the dialect {given.dialect} says"
    count = count_outside_quotes(sample.header, sample.delimiter)
    line = "the header line" if sample.has_header else "the first line"
    if not count:
        return f"no delimiter in {line}: a single column"
    alike = "and every sampled row splits alike"
    return (
        f"as the file name says, {alike}"
        if sample.chosen == "file name"
        else f"as {line} shows: {count:,} in it, {alike}"
    )
