"""Delimiter, quotes and line ends of a CSV file: where its rows end, and which of them are malformed.

Most blocks are decided by looking at the neighbours of each quote, all at once (`Dialect.regular_cut`). The patterns, which take each field
by itself under the interpreter lock and so cost ten times as much, are for the rest: stray quotes, lone line ends, malformed rows.
"""

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
    """There is a NUL byte, which no text has."""
    return bool(len(block)) and not np.frombuffer(block, np.uint8).min()


class _Positions:
    """Where a character is, by pieces of a block: what numpy makes of one is small, so that it comes from memory at hand."""

    def __init__(self, characters: _Characters, character: int) -> None:
        self._segments = [
            np.flatnonzero(characters[start : start + _SEGMENT_BYTES] == character) + start
            for start in range(0, len(characters), _SEGMENT_BYTES)
        ]
        self._ends = list(itertools.accumulate(map(len, self._segments)))
        self.count = self._ends[-1] if self._ends else 0

    def before(self, end: int) -> int:
        """How many of them come before a position."""
        number = end // _SEGMENT_BYTES
        if number >= len(self._segments):
            return self.count
        return self._ends[number] - len(self._segments[number]) + int(np.searchsorted(self._segments[number], end))

    def nth(self, index: int) -> int:
        """Position of one of them."""
        number = bisect.bisect_right(self._ends, index)
        return int(self._segments[number][index - self._ends[number]])

    def segments(self, end: int) -> Iterator[tuple[npt.NDArray[np.intp], int]]:
        """Those before a position, and the index of the first of each piece."""
        for number, positions in enumerate(self._segments[: end // _SEGMENT_BYTES + 1]):
            yield positions[: np.searchsorted(positions, end)], self._ends[number] - len(positions)


def _table(*characters: int) -> npt.NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(characters)] = True
    return table


def _last(block: memoryview, character: int) -> int:
    """Where a character is for the last time, or -1."""
    end = len(block)
    while end > 0:
        start = max(end - _TAIL_BYTES, 0)
        at = bytes(block[start:end]).rfind(character)
        if at >= 0:
            return start + at
        end = start
    return -1


class Dialect:
    """Delimiter and line end of a file, as patterns over bytes."""

    def __init__(self, delimiter: str, line_end: bytes) -> None:
        self.delimiter = delimiter
        self.line_end = line_end
        self._may_open = _table(_QUOTE, _LF, ord(delimiter))
        self._may_close = _table(_QUOTE, _LF, _CR, ord(delimiter))
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
        """Length of some whole rows that a block begins with, or None where only the patterns can tell.

        Regular is a block in which quotes open and close in turn, each opening one at the beginning of a field or right behind a closing one
        (a doubled quote inside), each closing one at the end of a field or right before an opening one, and no line end is a lone CR. The
        block begins with a row.
        """
        if self.line_end == b"\r":
            return None
        characters = np.frombuffer(block, np.uint8)
        cut = len(block) if is_last else _last(block, _LF) + 1
        quotes = _Positions(characters, _QUOTE)
        if quotes.count:
            before = quotes.before(cut)
            while before % 2:  # the last line end is inside of quotes
                if is_last:
                    return None
                cut = _last(block[: quotes.nth(before - 1)], _LF) + 1
                before = quotes.before(cut)
            if not cut or not self._are_regular(characters, quotes, cut):
                return None
        return cut if self._has_plain_ends(characters, cut) else None

    def irregular_cut(self, block: bytes) -> int:
        """Length of all whole and well-formed rows that a block begins with; step by step, since nothing else in Python runs meanwhile."""
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
        """A quote next to a quote is one half of a doubled one: whether it is the right half, the other one tells."""
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
    def _has_plain_ends(characters: _Characters, cut: int) -> bool:
        """No CR is there without its LF. One inside of quotes is fine, but not plain."""
        returns = _Positions(characters[:cut], _CR)
        if returns.count and returns.nth(returns.count - 1) == len(characters) - 1:
            return False
        return all((characters[positions + 1] == _LF).all() for positions, _ in returns.segments(cut))

    def split(self, row: bytes) -> list[bytes] | None:
        """Fields of one row without its line end, unquoted; None if it is malformed."""
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
        """(offset, number of fields) of each row of a well-formed block."""
        start = fields = 0
        for match in self.field.finditer(block):
            fields += 1
            if match[2] != self.delimiter.encode():
                if match.end() > start:
                    yield start, fields if match.end() - len(match[2]) > start else 0
                start, fields = match.end(), 0
