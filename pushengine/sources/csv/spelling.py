"""Escapes and long delimiters as single bytes, so that rows are found and parsed in one way in every dialect.

A delimiter of several bytes becomes one ASCII character (U+001F). An escape and the character after it become a byte that UTF-8 never
contains, which is an ordinary character for the rest of the reader; parsed columns and raw rows are spelled as in the file again.

=======  ====================================================================
0xc0     a line that is no row (`lines.py`)
0xc1     free for the reader (`rows.py`)
0xf5     U+001F of the file, if U+001F is the delimiter of the text
0xf6     an escaped escape character
0xf7     an escaped quote
0xf8     an escaped line feed
0xf9     an escaped carriage return
0xfa     an escape character before any other character; an escaped blank stands between two of them, so that it is not cut off
0xfb-fe  an escaped delimiter, or the first character of one
0xff     a byte of the file that is not valid in UTF-8
=======  ====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.sources.csv.lines import NO_TEXT, LineError
from pushengine.sources.csv.rows import BLANKS

_MARKS = "\x1f\x1e\x1d\x1c"
_UNIT, _ESCAPE, _QUOTE, _LF, _CR, _OTHER = (bytes([byte]) for byte in range(0xF5, 0xFB))
_DELIMITERS = [bytes([byte]) for byte in range(0xFB, 0xFF)]
_VALID = bytes.maketrans(NO_TEXT[:-1], b"x" * (len(NO_TEXT) - 1))
_MAX_HELD_BYTES = 64 * 1024 * 1024


class Spelling:
    """How escapes and delimiters are spelled in a file, and as what bytes.

    Args:
        delimiters: The delimiter, or those of one character each that it may be.
        quote: Quote character; empty if there is none.
        escape: Escape character; empty if there is none.

    Attributes:
        mark: The delimiter in the text that the rest of the reader sees; None if the header line shows it.
    """

    def __init__(self, delimiters: tuple[str, ...], quote: str, escape: str) -> None:
        self._escape = escape.encode()
        self._delimiter = b""
        self.mark = delimiters[0] if len(delimiters) == 1 else None
        if self.mark is not None and (len(self.mark) > 1 or not self.mark.isascii()):
            self._delimiter = self.mark.encode()
            self.mark = next(mark for mark in _MARKS if mark not in delimiters[0] + quote + escape)
        self._mark = (self.mark or "").encode()
        # Pairs of a spelling in the file and the byte that stands for it, in the order in which they are replaced.
        self._escaped: list[tuple[bytes, bytes]] = []
        if escape:
            e = self._escape
            self._escaped = [(e + e, _ESCAPE)] + ([(e + quote.encode(), _QUOTE)] if quote else [])
            self._escaped += [(e + b"\r\n", _CR + _LF), (e + b"\n", _LF), (e + b"\r", _CR)]
            firsts = [delimiter[0].encode() for delimiter in delimiters]
            self._escaped += [(e + first, byte) for first, byte in zip(firsts, _DELIMITERS, strict=False)]
            self._escaped += [(e + blank.encode(), _OTHER + blank.encode() + _OTHER) for blank in BLANKS]
            self._escaped += [(e, _OTHER)]
        # The bytes that stand for something in values, and what they stand for.
        self._values = [(self._mark, self._delimiter), (_UNIT, self._mark)] if self._delimiter else []
        self._values += [(_ESCAPE, self._escape), (_QUOTE, quote.encode()), (_LF, b"\n"), (_CR, b"\r"), (_OTHER, b"")]
        self._values += [(byte, one[0].encode()) for byte, one in zip(_DELIMITERS, delimiters, strict=False)]
        self._ordinary = bytes(set(range(256)) - set(b"".join(byte for byte, _ in self._values)))

    def encode(self, text: bytes) -> bytes:
        """Return text of the file (`lines.without_marks`), up to the end of a line, as the rest of the reader sees it."""
        if self._delimiter:
            text = text.replace(self._mark, _UNIT)
        for spelled, byte in self._escaped:
            if self._escape not in text:
                break
            text = text.replace(spelled, byte)
        return text.replace(self._delimiter, self._mark) if self._delimiter else text

    def raw(self, text: bytes) -> bytes:
        """Return encoded text as the file spells it."""
        if self._delimiter:
            text = text.replace(self._mark, self._delimiter)
        for spelled, byte in self._escaped:
            text = text.replace(byte, spelled)
        return text.replace(_UNIT, self._mark)

    def decode(self, array: pa.Array) -> pa.Array:
        """Return an array of encoded values as the values that they stand for."""
        present = set(bytes(array.buffers()[2] or b"").translate(None, self._ordinary))
        for byte, value in self._values:
            if byte[0] in present:
                array = pc.replace_substring(array, pattern=byte, replacement=value)
        return array

    def value(self, field: bytes) -> bytes:
        """Return an encoded value as the value that it stands for."""
        for byte, value in self._values:
            field = field.replace(byte, value)
        return field

    def encoded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield text of the file encoded, in pieces of whole lines.

        An escape ends with its line and a delimiter contains no line end, so none of them is cut.

        Raises:
            LineError: The text ends with an escape character.
        """
        held: list[bytes] = []
        held_bytes = 0
        for piece in pieces:
            cut = _end_of_lines(piece)
            held_bytes += len(piece)
            if not cut and held_bytes < _MAX_HELD_BYTES:
                held.append(piece)
                continue
            yield self.encode(b"".join((*held, piece[:cut])))
            held, held_bytes = [piece[cut:]], len(piece) - cut
        rest = b"".join(held)
        if rest:
            text = self.encode(rest)
            if self._escape and rest.endswith(self._escape) and text.endswith(_OTHER):
                raise LineError("the file ends with an escape character", None)
            yield text

    @staticmethod
    def as_utf8(text: bytes) -> bytes:
        """Return encoded text as valid UTF-8 of the same length, provided that the file is UTF-8."""
        return text.translate(_VALID)

    @staticmethod
    def escaped_line_ends(text: bytes, line_end: bytes) -> int:
        """Count the escaped line ends in encoded text."""
        return text.count(_CR if line_end == b"\r" else _LF)


def _end_of_lines(piece: bytes) -> int:
    """Return the length of the whole lines at the start of a piece; 0 if there are none."""
    end = piece.rfind(b"\n") + 1
    if end:
        return end
    return piece.rfind(b"\r", 0, -1) + 1  # a CR at the very end may belong to a CRLF
