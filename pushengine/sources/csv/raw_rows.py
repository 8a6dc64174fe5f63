"""The rows of a block of text as the file holds them, for rows that are rejected. Much slower than parsing the block."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from pushengine.interfaces import RawRow
from pushengine.sources.csv.layout import Layout


@dataclasses.dataclass(frozen=True, slots=True)
class BlockStart:
    """Where a block begins.

    Attributes:
        line: Its first line in the file, from 1.
        byte_position: Number of bytes of the file's text before it; None if the text is read in another spelling than the file's.
        edge: What the file has before and after each row, and the block has not: the outer delimiters of a list.
    """

    line: int
    byte_position: int | None
    edge: bytes = b""


class RawRows:
    """Finds rows by their number in the block, from 0. Comment lines do not count, nor do empty lines unless there is a single column.

    Args:
        body: Whole, well-formed rows.
        layout: How they are parsed.
        start: Where the block begins.
    """

    def __init__(self, body: bytes, layout: Layout, start: BlockStart) -> None:
        self._body = body
        self._layout = layout
        self._start = start
        expected, comment = len(layout.columns.names), layout.dialect.comment
        lines = list(layout.dialect.iter_rows(body))
        is_row = [
            bool(line.fields) or (expected == 1 and not (comment and body.startswith(comment, line.start)))
            for line in lines
        ]
        self._rows = [line for line, counts in zip(lines, is_row, strict=True) if counts]
        self._ends = [*(line.start for line in lines[1:]), len(body)]
        self._ends = [end for end, counts in zip(self._ends, is_row, strict=True) if counts]
        self.ragged: Mapping[int, int] = {
            number: row.fields for number, row in enumerate(self._rows) if row.fields not in (0, expected)
        }

    @property
    def regular(self) -> list[int]:
        """Numbers of the rows that have as many fields as there are columns."""
        return [number for number in range(len(self._rows)) if number not in self.ragged]

    def text_of(self, numbers: Sequence[int]) -> bytes:
        """Return these rows with their line ends."""
        return b"".join(self._body[self._rows[number].start : self._ends[number]] for number in numbers)

    def raw(self, numbers: Sequence[int]) -> list[RawRow]:
        """Return these rows, given in ascending order, without their line ends."""
        found = []
        at, line, before, edge = 0, self._start.line, self._start.byte_position, self._start.edge
        for number in numbers:
            row = self._rows[number]
            line += self._layout.lines(self._body[at : row.start])
            at = row.start
            text = edge + self._layout.raw(self._body[row.start : row.end]) + edge
            found.append(RawRow(text.decode(), line, None if before is None else before + row.start))
        return found
