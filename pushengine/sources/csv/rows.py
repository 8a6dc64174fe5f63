"""Delimiter, quotes, comments and line ends of a text file: where its rows end and which rows are malformed."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

_Characters: TypeAlias = npt.NDArray[np.uint8]
_LF, _CR = ord("\n"), ord("\r")
_TAIL_BYTES = 16 * 1024
_SEGMENT_BYTES = 512 * 1024
_STEP_BYTES = 256 * 1024
_MAX_BLANKS = 64
_JOINT = b"\xc1"
BLANKS = " \t\u00a0\u202f\u200b\u2060\ufeff"
"""Characters that are cut off the ends of fields: blanks, tabs, no-break and zero-width spaces."""


def has_nul(block: memoryview) -> bool:
    """Whether a block contains a NUL byte, which never occurs in text."""
    return bool(len(block)) and not np.frombuffer(block, np.uint8).min()


def count_of(text: bytes | memoryview, character: int) -> int:
    """Count one character in a block, seven times as fast as `bytes.count` where it is as frequent as line ends."""
    characters = np.frombuffer(text, np.uint8)
    starts = range(0, len(characters), _SEGMENT_BYTES)
    return sum(int(np.count_nonzero(characters[start : start + _SEGMENT_BYTES] == character)) for start in starts)


class _Positions:
    """The positions of one character in a block.

    They are searched segment by segment: numpy's intermediate arrays then stay small enough to come from memory already allocated.
    """

    def __init__(self, characters: _Characters, character: int, ignored: Sequence[tuple[int, int]] = ()) -> None:
        self._segments = [
            np.flatnonzero(characters[start : start + _SEGMENT_BYTES] == character) + start
            for start in range(0, len(characters), _SEGMENT_BYTES)
        ]
        if ignored:
            bounds = np.array(ignored).ravel()  # between an even and an odd bound is outside, the reverse is inside
            self._segments = [found[np.searchsorted(bounds, found, "right") % 2 == 0] for found in self._segments]
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


class Row(NamedTuple):
    """Where a row stands in a block, without its line end, and the number of its fields: 0 if the line is no row."""

    start: int
    end: int
    fields: int


class Dialect:
    """The marks of a text file, as patterns over bytes.

    `regular_cut` handles most blocks by checking the neighbors of all quotes at once. The patterns match one field at a time under the
    interpreter lock and cost ten times as much, so they are kept for the rest: stray quotes, lone line ends and malformed rows.

    Args:
        delimiter: One ASCII character. `spelling` writes longer delimiters, and escapes, as single bytes.
        line_end: CR if lines end with a lone CR; LF or CRLF otherwise.
        quote: Quote character; empty if quotes are ordinary characters.
        trim: Whether blanks around fields do not belong to them.
        comment: Text at the start of lines that are no rows; empty if there are none.
    """

    def __init__(
        self, delimiter: str, line_end: bytes, *, quote: str = '"', trim: bool = False, comment: bytes = b""
    ) -> None:
        self.delimiter = delimiter
        self.line_end = line_end
        self.quote = quote.encode()
        self.trim = trim
        self.comment = comment
        self.blanks = "".join(blank for blank in BLANKS if blank not in delimiter + quote) if trim else ""
        marks = (ord(delimiter), _LF)
        self._at_start = _character_set(*marks)
        self._at_end = _character_set(*marks, _CR)
        self._may_open = _character_set(*marks, *self.quote)
        self._may_close = _character_set(*marks, _CR, *self.quote)
        self._is_blank = _character_set(*(ord(blank) for blank in self.blanks if blank.isascii()))
        self._build_patterns()

    def _build_patterns(self) -> None:
        d, q, c = (re.escape(mark) for mark in (self.delimiter.encode(), self.quote, self.comment))
        last = rb"\r" if self.line_end == b"\r" else rb"\n"
        end = last if last == rb"\r" else rb"\r?\n"
        blanks = blank_pattern(self.blanks) + b"*+" if self.blanks else b""
        quoted = open_field = rb"(?!)"
        plain = rb"[^%b\r\n]++" % d
        if q:
            inside = rb"%b%b(?:[^%b]++|%b%b)*+" % (blanks, q, q, q, q)
            quoted = rb"%b%b%b" % (inside, q, blanks)
            plain = rb"(?!%b%b)%b" % (blanks, q, plain)
            # A blank of several bytes may be cut off at the end of a block.
            open_field = rb"%b(?:%b%b%b)?" % (inside, q, blanks, rb"[\xc2\xe2\xef]?[\x80-\xbf]?" if blanks else b"")
        field = rb"(?:%b|%b|)" % (quoted, plain)
        row = rb"(?:%b%b)*+%b" % (field, d, field)
        line, or_line, comment_row, no_comment = b"", b"", b"", b""
        if c:
            line, no_comment = rb"%b[^%b]*+" % (c, last), rb"(?!%b)" % c
            or_line, comment_row = rb"|" + line, rb"%b%b|" % (line, last)
        self.field = re.compile(rb"(%b)(%b|%b|\Z)" % (field, d, end))
        self.fields = re.compile(rb"(?:%b%b)*+" % (field, d))
        self.row = re.compile(
            rb"(?P<comment>%b(?:%b|\Z))|%b%b(?:%b|\Z)" % (line or rb"(?!)", last, no_comment, row, end)
        )
        self.rows = re.compile(rb"(?:%b%b%b%b)*+" % (comment_row, no_comment, row, end))
        self.last_row = re.compile(no_comment + row + or_line)
        self.partial_row = re.compile(
            rb"%b(?:%b%b)*+(?:%b|%b)\r?%b" % (no_comment, field, d, field, open_field, or_line)
        )
        self._end_blanks = end_blanks(d, self.blanks)

    def regular_cut(self, block: memoryview, *, is_last: bool) -> int | None:
        """Return the length of the whole rows at the start of a regular block, or None if only the patterns can determine it.

        A block is regular if its quotes alternately open and close and no line end is a lone CR. Each opening quote must stand at the start
        of a field or directly after a closing quote, each closing quote at the end of a field or directly before an opening quote (the two
        are a doubled quote inside a field). Comment lines do not count. The block must begin with the start of a row.
        """
        if self.line_end == b"\r":
            return None
        characters = np.frombuffer(block, np.uint8)
        cut = len(block) if is_last else _last_position(block, _LF) + 1
        if self.quote:
            quotes = _Positions(characters, self.quote[0], self._regular_comments(block))
            if quotes.count:
                before = quotes.before(cut)
                while before % 2:  # the last line end is inside quotes
                    if is_last:
                        return None
                    cut = _last_position(block[: quotes.nth(before - 1)], _LF) + 1
                    before = quotes.before(cut)
                if not cut or not self._are_regular(characters, quotes, cut):
                    return None
        return cut if _has_no_lone_cr(characters, cut) else None

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
            if not (
                self._have_neighbors(characters, opening - 1, -1, self._may_open, self._at_start)
                and self._have_neighbors(characters, closing + 1, 1, self._may_close, self._at_end)
            ):
                return False
        return True

    def _have_neighbors(
        self,
        characters: _Characters,
        positions: npt.NDArray[np.intp],
        step: int,
        allowed: npt.NDArray[np.bool_],
        after_blanks: npt.NDArray[np.bool_],
    ) -> bool:
        """Whether each of the positions holds an allowed character, or blanks that end at one of `after_blanks` or at the block's end."""
        fits = allowed[characters[positions]]
        if not self.trim or fits.all():
            return bool(fits.all())
        positions = positions[~fits]
        for _ in range(_MAX_BLANKS):
            if not self._is_blank[characters[positions]].all():
                return False
            positions = positions + step
            positions = positions[(positions >= 0) & (positions < len(characters))]
            positions = positions[~after_blanks[characters[positions]]]
            if not len(positions):
                return True
        return False

    # Text for Arrow

    def without_comments(self, body: memoryview, *, is_regular: bool) -> bytes | memoryview:
        """Return whole rows without comment lines.

        Args:
            body: Whole rows.
            is_regular: Whether `regular_cut` has found them.
        """
        if not self.comment or self.comment not in (text := bytes(body)):
            return body
        if is_regular or not self.quote or self.quote not in text:
            spans = self._regular_comments(body)
        else:
            spans = [match.span() for match in self.row.finditer(text) if match["comment"] is not None]
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(text)]
        return b"".join(text[end:start] for end, start in zip(ends, starts, strict=True))

    def without_blanks(self, text: bytes, *, is_regular: bool) -> bytes:
        """Return rows without the blanks around their fields.

        Args:
            text: Whole rows without comment lines, valid as UTF-8 but for the bytes of `spelling`.
            is_regular: Whether `regular_cut` has found them.
        """
        if self.quote and self.quote in text and not is_regular:
            return self.field.sub(lambda match: self.stripped(match[1]) + match[2], text)
        # What is inside quotes stands between the odd and the even quotes.
        parts = text.split(self.quote) if self.quote else [text]
        has_longer = any(blank.encode() in text for blank in longer_blanks(self.blanks))
        parts[::2] = self._end_blanks[has_longer].sub(b"", _JOINT.join(parts[::2])).split(_JOINT)
        return self.quote.join(parts)

    def stripped(self, field: bytes) -> bytes:
        """Return a field without the blanks around it, if the dialect trims."""
        if not self.trim or not field:
            return field
        return field.decode(errors="surrogateescape").strip(self.blanks).encode(errors="surrogateescape")

    def _regular_comments(self, block: memoryview) -> list[tuple[int, int]]:
        """Return where the comment lines of a block begin and end, if its quotes are regular."""
        if not self.comment or self.comment not in (text := bytes(block)):
            return []
        found = []
        counted = quotes = 0
        last = self.line_end[-1:]

        def next_after(at: int) -> int:
            before = text.find(last + self.comment, at)
            return before if before < 0 else before + 1

        start = 0 if text.startswith(self.comment) else next_after(0)
        while start >= 0:
            end = text.find(last, start) + 1 or len(text)
            if self.quote:
                quotes += text.count(self.quote, counted, start)
                counted = start
            if quotes % 2 == 0:
                found.append((start, end))
                counted = end
            start = next_after(end - 1)
        return found

    # Single rows

    def split(self, row: bytes) -> list[bytes] | None:
        """Return the unquoted fields of one row, given without its line end, or None if the row is malformed."""
        if not self.last_row.fullmatch(row):
            return None
        fields = []
        for match in self.field.finditer(row):
            field = self.stripped(match[1])
            is_quoted = self.quote and field.startswith(self.quote)
            fields.append(field[1:-1].replace(self.quote * 2, self.quote) if is_quoted else field)
            if not match[2]:
                break
        return fields

    def iter_rows(self, block: bytes) -> Iterator[Row]:
        """Yield the lines and rows of a well-formed block, comment lines and empty lines included."""
        delimiter = self.delimiter.encode()
        at = 0
        while at < len(block):
            line = self.row.match(block, at)
            if line is None or line.end() == at:
                return
            if line["comment"] is not None:
                yield Row(at, at + len(line[0].rstrip(b"\r\n")), 0)
            else:
                fields = 0
                for match in self.field.finditer(block, at, line.end()):
                    fields += 1
                    if match[2] != delimiter:
                        break
                end = match.start(2)
                yield Row(at, end, 0 if not self.stripped(block[at:end]) else fields)
            at = line.end()


def blank_pattern(blanks: str) -> bytes:
    """Return the pattern of one of the blanks."""
    single = "".join(blank for blank in blanks if blank.isascii()).encode()
    alternatives = [rb"[%b]" % single] if single else []
    alternatives += [re.escape(blank.encode()) for blank in longer_blanks(blanks)]
    return alternatives[0] if len(alternatives) == 1 else rb"(?:%b)" % (b"|".join(alternatives) or b"(?!)")


def longer_blanks(blanks: str) -> str:
    """Return the blanks that take several bytes."""
    return "".join(blank for blank in blanks if not blank.isascii())


def end_blanks(delimiter: bytes, blanks: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return the patterns of the blanks at the ends of fields in text without quotes: of single bytes only, and of all."""
    one = blank_pattern("".join(blank for blank in blanks if blank.isascii()))
    some = blank_pattern(blanks) + b"++"
    # The first one begins with a set of characters, which the interpreter searches ten times as fast as alternatives.
    single = rb"%b(?:(?:(?<=[%b\r\n].)|(?<=\A.))%b*+|%b*+(?=[%b\r\n]|\Z))" % (one, delimiter, one, one, delimiter)
    every = rb"(?:(?<=[%b\r\n])|\A)%b|%b(?=[%b\r\n]|\Z)" % (delimiter, some, some, delimiter)
    return re.compile(single, re.DOTALL), re.compile(every)


def leading_lines(comment: bytes, blanks: str, *, has_empty: bool = True) -> re.Pattern[bytes]:
    """Return the pattern of the lines before a row that are no rows.

    Args:
        comment: Text at the start of comment lines; empty if there are none.
        blanks: Blanks of which a line may consist that counts as empty.
        has_empty: Whether empty lines are no rows; they are rows of a table of one column.
    """
    skipped = blank_pattern(blanks) + b"*+" if blanks else b""
    kinds = [rb"%b(?:[\r\n]|(?<=.)\Z)" % skipped] if has_empty else []
    kinds += [rb"%b[^\r\n]*+(?:\r\n|\n|\r|\Z)" % re.escape(comment)] if comment else []
    return re.compile(rb"(?:%b)*+" % b"|".join(kinds))


def _has_no_lone_cr(characters: _Characters, cut: int) -> bool:
    """Whether every CR is followed by LF. A lone CR inside quotes is valid, but it is left to the patterns."""
    returns = _Positions(characters[:cut], _CR)
    if returns.count and returns.nth(returns.count - 1) == len(characters) - 1:
        return False
    return all((characters[positions + 1] == _LF).all() for positions, _ in returns.segments(cut))


def header_row(quote: bytes, delimiters: bytes, blanks: str) -> re.Pattern[bytes]:
    """Return the pattern of a first row and its line end. The row may be malformed, but a quote that it opens must be closed.

    Args:
        quote: Quote character; empty if there is none.
        delimiters: Characters each of which may be the delimiter.
        blanks: Blanks that may stand before an opening quote.
    """
    d, q = re.escape(delimiters), re.escape(quote)
    skipped = blank_pattern(blanks) + b"*+" if blanks else b""
    quoted = rb"%b%b(?:[^%b]++|%b%b)*+%b" % (skipped, q, q, q, q, q) if q else rb"(?!)"
    opening = rb"(?!%b%b)" % (skipped, q) if q else b""
    field = rb"(?:%b[^%b\r\n]*+|%b[^%b\r\n]*+)" % (quoted, d, opening, d)
    return re.compile(rb"(%b(?:[%b]%b)*+)(\r\n|\n|\r|\Z)" % (field, d, field))


def quoted_part(quote: bytes, delimiters: bytes, blanks: str) -> re.Pattern[bytes]:
    """Return the pattern of a quoted field."""
    if not quote:
        return re.compile(b"(?!)")
    d, q = re.escape(delimiters), re.escape(quote)
    skipped = blank_pattern(blanks) + b"*+" if blanks else b""
    return re.compile(rb"(?:(?<=[%b])|\A)%b%b(?:[^%b]++|%b%b)*+%b" % (d, skipped, q, q, q, q, q))
