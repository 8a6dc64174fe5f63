"""Reads a JSON array of objects while it arrives, so that neither the response nor its objects are held as a whole.

The list of jobs and the list of chunks grow without bound, and a response may be hostile: `[{},{},...` takes twenty times its size once it is
parsed. So only what a call needs of each object is kept, and everything is bounded: the size of an object, and what is kept of all of them.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pushengine.celonis import wire
from pushengine.errors import UnexpectedResponseError
from pushengine.text import format_bytes

T = TypeVar("T")

MAX_OBJECT_CHARACTERS = 4 * 1024 * 1024
"""Maximum size of an object, as for a job that is read alone. A job has its logs in it."""
_FIRST_CHARACTERS = 64 * 1024
"""Number of characters after which they are parsed for the first time."""
_BYTES_PER_OBJECT = 300
"""Memory of an object that is kept, besides its texts: a dataclass with three short strings."""
_NOT_BLANK = re.compile(r"[^ \t\n\r]")
_MARK_BYTES = 4
"""Number of bytes that show the encoding of JSON."""
_STATUS = 200
_OTHER_JSON = '{"-0123456789tfnNI'
"""The characters with which JSON other than an array begins."""


class ListReader(Generic[T]):
    """Reads one list, piece by piece. All errors are transient: lists are only read, and the next response may be good.

    Args:
        parse: Returns what is kept of an object, or None if that is nothing. It raises UnexpectedResponseError for an unusable object.
        operation: Description of the call, for messages.
        max_kept_bytes: Memory that the kept objects may take, bytes.
        limit: Number of kept objects after which the rest of the list is not read; None for no limit.

    Attributes:
        found: What was kept, in the order of the list.
    """

    def __init__(
        self, parse: Callable[[Any], T | None], operation: str, *, max_kept_bytes: int, limit: int | None = None
    ) -> None:
        self.found: list[T] = []
        self._parse = parse
        self._operation = operation
        self._max_kept_bytes = max_kept_bytes
        self._limit = limit
        self._decoder: codecs.IncrementalDecoder | None = None
        self._scan = json.JSONDecoder().raw_decode
        self._head = b""
        self._text = ""
        self._pieces: list[str] = []
        self._waiting = 0
        self._enough = _FIRST_CHARACTERS
        self._kept_bytes = 0
        self._items = 0
        self._is_begun = self._is_ended = False

    @property
    def is_full(self) -> bool:
        """Whether the rest of the list is not needed."""
        return self._limit is not None and len(self.found) >= self._limit

    def feed(self, piece: bytes) -> bool:
        """Take the next bytes of the response. Return whether more are needed.

        Raises:
            UnexpectedResponseError: This is not such a list, or it is too large.
        """
        self._take(piece, is_last=False)
        return not self.is_full

    def finish(self) -> list[T]:
        """Return what was kept, after the last piece.

        Raises:
            UnexpectedResponseError: This is not such a list, or it is too large.
        """
        if not self.is_full:
            self._take(b"", is_last=True)
        return self.found

    def _take(self, piece: bytes, *, is_last: bool) -> None:
        try:
            self._pieces.append(self._decoded(piece, is_last=is_last))
            self._waiting += len(self._pieces[-1])
            if self._waiting >= self._enough or is_last:
                self._text, self._pieces = "".join((self._text, *self._pieces)), []
                self._read_objects()
                if is_last and not self._is_ended and not self.is_full:
                    wire.raise_unusable(self._operation, _STATUS, "it is not JSON")
                if len(self._text) > MAX_OBJECT_CHARACTERS:
                    reason = (
                        f"from item {self._items + 1:,} of the list onwards, it is not JSON, or the item is too large"
                    )
                    wire.raise_unusable(self._operation, _STATUS, reason)
                # What is left is the beginning of an item. It is parsed again once it has doubled, which keeps the cost linear.
                self._enough = min(max(_FIRST_CHARACTERS, 2 * len(self._text)), MAX_OBJECT_CHARACTERS + 1)
                self._waiting = len(self._text)
        except UnexpectedResponseError as error:
            if error.disposition == "terminal":
                raise
            raise error.replace(disposition="transient") from None

    def _decoded(self, piece: bytes, *, is_last: bool) -> str:
        if self._decoder is None:
            self._head += piece
            if len(self._head) < _MARK_BYTES and not is_last:
                return ""
            piece, self._head = self._head, b""
            self._decoder = codecs.getincrementaldecoder(json.detect_encoding(piece))("surrogatepass")
        try:
            return self._decoder.decode(piece, is_last)
        except UnicodeDecodeError:
            wire.raise_unusable(self._operation, _STATUS, "it is not JSON")

    def _read_objects(self) -> None:
        """Parse the items that have arrived whole, and drop their text."""
        text, at = self._text, self._after_blanks(0)
        if not self._is_begun and at < len(text):
            if text[at] != "[":
                reason = "it is not a list" if text[at] in _OTHER_JSON else "it is not JSON"
                wire.raise_unusable(self._operation, _STATUS, reason)
            self._is_begun = True
            at = self._after_blanks(at + 1)
        if self._is_begun and not self._items and text[at : at + 1] == "]":
            self._is_ended, at = True, self._after_blanks(at + 1)
        while self._is_begun and not self._is_ended and at < len(text) and not self.is_full:
            try:
                raw, end = self._scan(text, at)
            except (ValueError, RecursionError):
                break
            end = self._after_blanks(end)
            if end == len(text):
                break  # what follows decides whether it is whole
            if text[end] not in ",]":
                wire.raise_unusable(self._operation, _STATUS, "it is not JSON")
            self._keep(raw, text[at:end])
            self._is_ended = text[end] == "]"
            at = self._after_blanks(end + 1)
        if self._is_ended and at < len(text):
            wire.raise_unusable(self._operation, _STATUS, "it is not JSON")
        self._text = text[at:]

    def _after_blanks(self, at: int) -> int:
        found = _NOT_BLANK.search(self._text, at)
        return len(self._text) if found is None else found.start()

    def _keep(self, raw: Any, item: str) -> None:
        self._items += 1
        try:
            kept = self._parse(raw)
        except RecursionError:  # its text needs a deeper stack than its parsing
            wire.raise_unusable(self._operation, _STATUS, "it is nested too deeply")
        if kept is None:
            return
        self.found.append(kept)
        # Python stores each character of a text with as many bytes as the widest one needs.
        self._kept_bytes += sys.getsizeof(item) + _BYTES_PER_OBJECT
        if self._kept_bytes > self._max_kept_bytes:
            raise UnexpectedResponseError(
                f"{self._operation}: the list takes more than {format_bytes(self._max_kept_bytes)} of memory",
                status=_STATUS,
                disposition="terminal",
            )
