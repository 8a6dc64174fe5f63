"""Lines of a text file that are neither the header line nor rows: at its start, at its end, and in lists of SAP."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Iterator

from pushengine.sources.text_stream import PIECE_BYTES, Content
from pushengine.text import flag, format_count

NO_ROW = b"\xc0"
"""Marks a line that is no row; UTF-8 never contains it."""
NO_TEXT = b"\xc0\xc1\xf5\xf6\xf7\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"
"""Bytes that UTF-8 never contains: marks for the reader, but for the last."""
_INVALID = bytes.maketrans(NO_TEXT, b"\xff" * len(NO_TEXT))
_LINE_END = re.compile(rb"\r\n|\n|\r")
_SEPARATOR = re.compile(rb'"?sep=([^\r\n]+?)"?(?:\r\n|\n|\r|\Z)', re.IGNORECASE)
_MAX_SEPARATOR_LINE = 32
_MAX_FIRST_ROW = 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024 * 1024
_RULER = re.compile(rb"[-+| \t]*")


class LineError(ValueError):
    """A line that does not fit the settings.

    Attributes:
        line: Number of the line, from 1; None if it is unknown.
        hint: What to do about it.
    """

    def __init__(self, message: str, line: int | None, hint: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


class Pieces:
    """Pieces of text as a stream that `Content` reads."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int, /) -> bytes:
        """Return the next piece, whatever its size; empty only at the end."""
        del size
        return next((piece for piece in self._pieces if piece), b"")


def pieces_of(content: Content) -> Iterator[bytes]:
    """Yield all that is left of a content."""
    while True:
        piece = bytearray(PIECE_BYTES)
        length = content.fill(memoryview(piece))
        if length:
            yield bytes(piece[:length])
        if length < PIECE_BYTES:
            return


def without_marks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield text in which each byte that UTF-8 never contains is 0xff, so that none is taken for a mark of the reader."""
    return (piece.translate(_INVALID) for piece in pieces)


def without_first_lines(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yield text without its first `count` lines, whatever their line ends.

    Raises:
        LineError: There are no more lines than that.
    """
    skipped = 0
    text = b""
    for piece in pieces:
        text += piece
        at = 0
        while skipped < count and (end := _LINE_END.search(text, at)):
            if end[0] == b"\r" and end.end() == len(text):  # it may belong to a CRLF
                break
            at = end.end()
            skipped += 1
        text = text[at:]
        if skipped == count:
            yield text
            yield from pieces
            return
        text = text[-1:]
    found = format_count(skipped + bool(text), "line")
    raise LineError(f"{format_count(count, 'line')} should be skipped, but the file has only {found}", None)


def without_last_lines(pieces: Iterator[bytes], count: int, line_end_of: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Yield text without its last `count` lines. A line end at the very end of the text does not begin another line.

    Args:
        pieces: The text.
        count: Number of lines.
        line_end_of: Returns the last byte of a line end of some text from the start, or nothing if the text is too short to know.

    Raises:
        LineError: A line is too long to be held in memory.
    """
    text = line_end = b""
    for piece in pieces:
        text += piece
        line_end = line_end_of(text)
        if line_end or len(text) > _MAX_FIRST_ROW:
            break
    if not line_end:
        end = _LINE_END.search(text)
        line_end = end[0][-1:] if end is not None else b"\n"
    held: list[bytes] = []
    for piece in itertools.chain([text], pieces):
        first, *others = piece.split(line_end)
        lines = [*held[:-1], (held[-1] if held else b"") + first, *others]
        kept = max(len(lines) - count - 1, 0)
        held = lines[kept:]
        _require_line(held[-1])
        if kept:
            yield line_end.join(lines[:kept]) + line_end
    if held and not held[-1]:
        held.pop()
    if len(held) > count:
        yield line_end.join(held[: len(held) - count]) + line_end


def _require_line(text: bytes) -> None:
    """Require that a line that is not whole yet is not endless.

    Raises:
        LineError: It is too long to be held in memory.
    """
    if len(text) > _MAX_LINE_BYTES:
        raise LineError(f"a line is longer than {_MAX_LINE_BYTES} bytes", None, "is it a text file?")


def separator_of(text: bytes) -> tuple[str, bytes] | None:
    """Return the delimiter that a `sep=` line at the start of a text names, and that line; None if it does not begin with one."""
    match = _SEPARATOR.match(text[:_MAX_SEPARATOR_LINE])
    if match is None:
        return None
    try:
        delimiter = match[1].decode()
    except UnicodeDecodeError:
        return None
    return (delimiter, match[0]) if len(delimiter) == 1 else None


class ListLines:
    """The lines of a list as SAP writes it: rows stand between two delimiters, among titles, rulers, totals and page headers.

    Each other line becomes one that begins with `NO_ROW`. Lines are counted from the first one that is read.

    Args:
        delimiter: The delimiter.
        comment: Text at the start of lines that are no rows; empty if there are none.
        line: Number of the first line.
        escape: Escape character; empty if there is none.

    Attributes:
        delimiter: The delimiter.
        left_out: Number of lines after the header line that are no rows, by kind; rulers and empty lines are not counted.
    """

    def __init__(self, delimiter: str, comment: bytes, line: int, escape: str = "") -> None:
        self.delimiter = delimiter.encode()
        self._escape = escape.encode()
        self._comment = comment
        self._line = line
        self._header: bytes | None = None
        self.left_out: collections.Counter[str] = collections.Counter()

    def rows(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the text with the outer delimiters of rows removed.

        Raises:
            LineError: A row does not end with a delimiter, or may be a row or a total; or a line has a lone CR or is longer than any row.
        """
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            _require_line(rest)
            if lines:
                yield b"\n".join(map(self._row, lines)) + b"\n"
        if rest:
            yield self._row(rest)

    def _row(self, line: bytes) -> bytes:
        number, self._line = self._line, self._line + 1
        text = line.strip(b" \t\r")
        d = self.delimiter
        if b"\r" in text:
            raise LineError("a lone carriage return in a list", number, "its lines must end with LF or CRLF")
        if not text.startswith(d):
            is_ruler = not text or _is_ruler(text, d)
            return self._no_row(line, "" if is_ruler or self._header is None else "other line")
        if _is_ruler(text, d) or (self._comment and line.startswith(self._comment)):
            return self._no_row(line, "")
        if not text.replace(d, b"").strip(b" \t"):
            return self._no_row(line, "empty row")
        if len(text) < 2 * len(d) or not text.endswith(d) or self._is_escaped(text[: -len(d)]):
            raise LineError(f"a row of the list does not end with {d.decode()}", number, "is its last cell cut off?")
        if self._header is None:
            self._header = text
        elif text == self._header:
            return self._no_row(line, "repeated header line")
        elif text[len(d) :].lstrip(b" \t").startswith(b"*"):
            cell = text[len(d) :].partition(d)[0].strip(b" \t")
            if cell.strip(b"*"):
                hint = f"if it is a total, leave it out with {flag('comment', (d + b'*').decode())}"
                shown = repr(cell[:40].decode(errors="replace"))
                raise LineError(f"this may be a row or a total: its first cell is {shown}", number, hint)
            return self._no_row(line, "total")
        return text[len(d) : -len(d)] + (b"\r" if line.endswith(b"\r") else b"")

    def _is_escaped(self, before: bytes) -> bool:
        """Whether what follows this text is escaped."""
        return bool(self._escape) and (len(before) - len(before.rstrip(self._escape))) % 2 == 1

    def _no_row(self, line: bytes, kind: str) -> bytes:
        if kind:
            self.left_out[kind] += 1
        return NO_ROW + (b"\r" if line.endswith(b"\r") else b"")


def _is_ruler(text: bytes, delimiter: bytes) -> bool:
    """Whether a line only draws. A single `-` in a cell that is wider may be a value."""
    plain = text.replace(delimiter, b"|")
    if not _RULER.fullmatch(plain) or b"-" not in plain:
        return False
    return b"--" in plain or b" " not in plain
