"""Examines the text files of a source: finds the doubts about their structure, and explains why a file cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pushengine.config.csv_settings import CsvSettings
from pushengine.errors import SourceError
from pushengine.interfaces import Doubt, SourceBatch, Structure
from pushengine.model import FileRef
from pushengine.sources.csv.first_lines import TELLING_KINDS, FirstText, kind_of_line, ways_to_read
from pushengine.sources.csv.hints import hint_of, working
from pushengine.sources.csv.structure import FileSample, Finding, count_outside_quotes, findings


class Examination:
    """What the samples of the files of one source show.

    Args:
        given: The settings of the push.
        first_text: Returns the first lines of a file. Raises `SourceError` if they cannot be read.
        leads_on: Whether the start of a file can be read, without any doubt, with these settings in addition to those given.
    """

    def __init__(
        self,
        given: CsvSettings,
        first_text: Callable[[FileRef], str],
        leads_on: Callable[[FileRef, Mapping[str, Any]], bool],
    ) -> None:
        self._given = given
        self._filled = given.filled()
        self._first_text = first_text
        self._leads_on = leads_on
        self._first: FileSample | None = None
        self._doubtful: tuple[FileRef, tuple[Finding, ...]] | None = None

    @property
    def has_samples(self) -> bool:
        """Whether a file was examined."""
        return self._first is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether there is any doubt."""
        return self._doubtful is not None

    def observed(
        self, ref: FileRef, names: Sequence[str], delimiter: str, batches: Iterator[SourceBatch]
    ) -> Iterator[SourceBatch]:
        """Yield the sampled rows of a file, and examine them on the way."""
        sample = FileSample(FirstText(ref.uri, self._first_text(ref), self._filled), names, delimiter)
        for batch in batches:
            sample.observe(batch.batch)
            yield batch
        if self._first is None:
            self._first = sample
        if self._doubtful is None:
            found = tuple(findings(sample))
            self._doubtful = (ref, found) if found else None

    def structure(self) -> Structure:
        """Return how the text is written."""
        if self._first is None:
            return Structure(self._given.to_dict())
        delimiter = self._first.delimiter
        dialect = {
            **self._given.to_dict(),
            "delimiter": delimiter,
            "quote": self._filled.quote_character,
            "encoding": self._given.encoding or "utf-8",
        }
        doubts: tuple[Doubt, ...] = ()
        if self._doubtful is not None:
            ref, found = self._doubtful
            doubts = tuple(one.doubt(ref.uri, lambda settings: self._leads_on(ref, settings)) for one in found)
        return Structure(dialect, _reason(self._first), doubts)

    def explained(self, ref: FileRef, error: SourceError) -> SourceError:
        """Return an error with what the first lines of the file look like and the ways to read it, if there are any."""
        try:
            text = FirstText(ref.uri, self._first_text(ref), self._filled)
        except SourceError:
            return error
        found = working(ways_to_read(text.lines, self._filled), lambda settings: self._leads_on(ref, settings))
        kind = kind_of_line(text.header, self._filled.delimiter or ",") if text.header else ""
        words = f"; line {text.line} looks like {kind}" if found or kind in TELLING_KINDS else ""
        if "\0" in text.header or not (found or words):
            return error
        hint = "; ".join(part for part in (hint_of(found), error.hint) if part)
        return error.replace(message=f"{error.message}{words}", hint=hint)


def _reason(sample: FileSample) -> str:
    """Return why a file is read with its delimiter, and how sure that is."""
    if sample.given.dialect is not None:
        return f"as the dialect {sample.given.dialect} says"
    if sample.given.delimiter is not None:
        return "as given"
    count = count_outside_quotes(sample.header, sample.delimiter)
    if not count:
        return "no delimiter in the header line: a single column"
    if sample.delimiter == "\t" and ".tsv" in sample.text.source.lower():
        return "as the name of the file says, and every sampled row splits alike"
    return f"as the header line shows: {count:,} in it, and every sampled row splits alike"
