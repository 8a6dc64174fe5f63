"""The rows of a block of text as the file holds them, for rows that are rejected. Much slower than parsing the block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pushengine.interfaces import RawRow
from pushengine.sources.csv.rows import Dialect


class RawRows:
    """Finds rows by their number in the block, from 0; empty lines count only in a file with one column.

    Args:
        body: Whole, well-formed rows, UTF-8.
        dialect: Delimiter and line end.
        fields: Number of fields of the header line.
        line: First line of the block in the file, from 1.
        byte_position: Number of bytes of the file's text before the block.
    """

    def __init__(self, body: bytes, dialect: Dialect, *, fields: int, line: int, byte_position: int) -> None:
        self._body = body
        self._line = line
        self._line_end = dialect.line_end[-1:]
        self._byte_position = byte_position
        found = [(start, count) for start, count in dialect.iter_rows(body) if count or fields == 1]
        self._starts = [start for start, _ in found] + [len(body)]
        self.ragged: Mapping[int, int] = {
            number: count
            for number, (_, count) in enumerate(found)
            if count != fields and not (fields == 1 and not count)
        }

    @property
    def regular(self) -> list[int]:
        """Numbers of the rows that have as many fields as the header line."""
        return [number for number in range(len(self._starts) - 1) if number not in self.ragged]

    def text_of(self, numbers: Sequence[int]) -> bytes:
        """Return these rows with their line ends."""
        return b"".join(self._body[self._starts[number] : self._starts[number + 1]] for number in numbers)

    def raw(self, numbers: Sequence[int]) -> list[RawRow]:
        """Return these rows, given in ascending order, without their line ends."""
        rows = []
        at, line = 0, self._line
        for number in numbers:
            start, end = self._starts[number], self._starts[number + 1]
            line += self._body.count(self._line_end, at, start)
            at = start
            rows.append(RawRow(self._body[start:end].rstrip(b"\r\n").decode(), line, self._byte_position + start))
        return rows
