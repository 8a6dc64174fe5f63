"""Delimiter, quotes and line ends of a CSV file: where its rows end and which rows are malformed."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Characters: TypeAlias = npt.NDArray[np.uint8]
_QUOTE, _LF, _CR = ord('"'), ord("\n"), ord("\r")
_TAIL_BYTES = 16 * 1024
_SEGMENT_BYTES = 512 * 1024
_STEP_BYTES = 256 * 1024
HEADER_ROW = re.compile(rb'((?:(?:(?<=[,;\t|])|\A)"(?:[^"]++|"")*+"|[^"\r\n]++|(?<=[^,;\t|])")*+)(\r\n|\n|\r|\Z)')
QUOTED_PART = re.compile(rb'(?:(?<=[,;\t|])|\A)"(?:[^"]++|"")*+"')


def has_nul(block: memoryview) -> bool:
    """Whether a block contains a NUL byte, which never occurs in text."""
    return bool(len(block)) and not np.frombuffer(block, np.uint8).min()


class _Positions:
    """The positions of one character in a block.

    They are searched segment by segment: numpy's intermediate arrays then stay small enough to come from memory already allocated.
    """

    def __init__(self, characters: _Characters, character: int) -> None:
        self._segments = [
            np.flatnonzero(characters[start : start + _SEGMENT_BYTES] == character) + start
            for start in range(0, len(characters), _SEGMENT_BYTES)
        ]
        self._ends = list(itertools.accumulate(map(len, self._segments)))
        self.count = self._ends[-1] if self._ends else 0

    def before(self, end: int) -> int:
        """Return the number of occurrences before position `end`."""
        number = end // _SEGMENT_BYTES
        if number >= len(self._segments):
            return self.count
        return self._ends[number] - len(self._segments[number]) + int(np.searchsorted(self._segments[number], end))

    def nth(self, index: int) -> int:
        """Return the position of occurrence `index`, counted from 0."""
        number = bisect.bisect_right(self._ends, index)
        return int(self._segments[number][index - self._ends[number]])

    def segments(self, end: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Yield, per segment, the positions before `end` and the index of the segment's first occurrence."""
        for number, positions in enumerate(self._segments[: end // _SEGMENT_BYTES + 1]):
            yield positions[: np.searchsorted(positions, end)], self._ends[number] - len(positions)


def _character_set(*characters: int) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(characters)] = True
    return table


def _last_position(block: memoryview, character: int) -> int:
    """Return the position of the last occurrence of a character, or -1."""
    end = len(block)
    while end > 0:
        start = max(end - _TAIL_BYTES, 0)
        at = bytes(block[start:end]).rfind(character)
        if at >= 0:
            return start + at
        end = start
    return -1


class Dialect:
    """The delimiter and line end of a file, as patterns over bytes.

    `regular_cut` handles most blocks by checking the neighbors of all quotes at once. The patterns match one field at a time under the
    interpreter lock and cost ten times as much, so they are kept for the rest: stray quotes, lone line ends and malformed rows.
    """

    def __init__(self, delimiter: str, line_end: bytes) -> None:
        self.delimiter = delimiter
        self.line_end = line_end
        self._may_open = _character_set(_QUOTE, _LF, ord(delimiter))
        self._may_close = _character_set(_QUOTE, _LF, _CR, ord(delimiter))
        d = re.escape(delimiter.encode())
        end = rb"\r" if line_end == b"\r" else rb"\r?\n"
        quoted = rb'"(?:[^"]++|"")*+"'
        plain = rb"[^\"%b\r\n][^%b\r\n]*+" % (d, d)
        field = rb"(?:%b|%b|)" % (quoted, plain)
        self.field = re.compile(rb"(%b)(%b|%b|\Z)" % (field, d, end))
        self.fields = re.compile(rb"(?:%b%b)*+" % (field, d))
        self.rows = re.compile(rb"(?:(?:%b%b)*+%b%b)*+" % (field, d, field, end))
        self.last_row = re.compile(rb"(?:%b%b)*+%b" % (field, d, field))
        self.partial_row = re.compile(rb'(?:%b%b)*+(?:%b|"(?:[^"]++|"")*+"?)\r?' % (field, d, field))

    def regular_cut(self, block: memoryview, *, is_last: bool) -> int | None:
        """Return the length of the whole rows at the start of a regular block, or None if only the patterns can determine it.

        A block is regular if its quotes alternately open and close and no line end is a lone CR. Each opening quote must stand at the start
        of a field or directly after a closing quote, each closing quote at the end of a field or directly before an opening quote (the two
        are a doubled quote inside a field). The block must begin with the start of a row.
        """
        if self.line_end == b"\r":
            return None
        characters = np.frombuffer(block, np.uint8)
        cut = len(block) if is_last else _last_position(block, _LF) + 1
        quotes = _Positions(characters, _QUOTE)
        if quotes.count:
            before = quotes.before(cut)
            while before % 2:  # the last line end is inside quotes
                if is_last:
                    return None
                cut = _last_position(block[: quotes.nth(before - 1)], _LF) + 1
                before = quotes.before(cut)
            if not cut or not self._are_regular(characters, quotes, cut):
                return None
        return cut if self._has_no_lone_cr(characters, cut) else None

    def irregular_cut(self, block: bytes) -> int:
        """Return the length of all whole, well-formed rows at the start of a block."""
        # Match in steps: no other Python thread runs during a match.
        cut, step = 0, _STEP_BYTES
        while True:
            matched = self.rows.match(block, cut, cut + step)
            end = matched.end() if matched else cut
            if end == cut:
                if cut + step >= len(block):
                    return cut
                step *= 2
            else:
                cut, step = end, _STEP_BYTES

    def _are_regular(self, characters: _Characters, quotes: _Positions, cut: int) -> bool:
        """Whether every quote stands where it may open or close a field.

        The opening and closing quotes alternate, so a quote directly before an opening quote is a closing one. The pair is a doubled
        quote inside a field, and each of the two passes as the neighbor of the other.
        """
        for positions, index in quotes.segments(cut):
            opening, closing = positions[index % 2 :: 2], positions[1 - index % 2 :: 2]
            if len(opening) and opening[0] == 0:
                opening = opening[1:]
            if len(closing) and closing[-1] == len(characters) - 1:
                closing = closing[:-1]
            if not (self._may_open[characters[opening - 1]].all() and self._may_close[characters[closing + 1]].all()):
                return False
        return True

    @staticmethod
    def _has_no_lone_cr(characters: _Characters, cut: int) -> bool:
        """Whether every CR is followed by LF. A lone CR inside quotes is valid, but it is left to the patterns."""
        returns = _Positions(characters[:cut], _CR)
        if returns.count and returns.nth(returns.count - 1) == len(characters) - 1:
            return False
        return all((characters[positions + 1] == _LF).all() for positions, _ in returns.segments(cut))

    def split(self, row: bytes) -> list[bytes] | None:
        """Return the unquoted fields of one row, given without its line end, or None if the row is malformed."""
        if not self.last_row.fullmatch(row):
            return None
        fields = []
        for match in self.field.finditer(row):
            is_quoted = match[1].startswith(b'"')
            fields.append(match[1][1:-1].replace(b'""', b'"') if is_quoted else match[1])
            if not match[2]:
                break
        return fields

    def iter_rows(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield (offset, number of fields) for each row of a well-formed block."""
        start = fields = 0
        for match in self.field.finditer(block):
            fields += 1
            if match[2] != self.delimiter.encode():
                if match.end() > start:
                    yield start, fields if match.end() - len(match[2]) > start else 0
                start, fields = match.end(), 0
