"""The content of a text file as UTF-8, whatever its compression and encoding."""

from __future__ import annotations

import bz2
import codecs
import functools
import gzip
import io
import lzma
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, TypeAlias

import pyarrow as pa

PIECE_BYTES = 256 * 1024
"""What is read at once. Larger results are new pages from the system each time, which costs more than the calls."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_MemberDecoder: TypeAlias = bz2.BZ2Decompressor | lzma.LZMADecompressor
_MEMBER_DECODERS: dict[str, Callable[[], _MemberDecoder]] = {
    "bz2": bz2.BZ2Decompressor,
    "xz": functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ),
}


class Readable(Protocol):
    """Bytes from a file, or what becomes of them."""

    def read(self, size: int, /) -> bytes:
        """At most so many (files of other encodings may give a little more); none at the end only."""
        ...


class CountedFile(io.RawIOBase):
    """A file that knows how much was read of it. Whoever opened the file closes it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.bytes_read = 0

    def readable(self) -> bool:
        """Asked by `io.BufferedReader`."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Exactly `size` bytes, or all that are left; short reads are completed."""
        if size < 0:
            return self.readall()
        parts = []
        while size > 0:
            data = self._file.read(size)
            if not data:
                break
            size -= len(data)
            self.bytes_read += len(data)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, target: Any, /) -> int:
        """Some bytes; none at the end only."""
        count = self._file.readinto(target) or 0  # type: ignore[attr-defined]
        self.bytes_read += count
        return int(count)


class _Members(io.RawIOBase):
    """The content of a bzip2 or xz file: members with zero bytes between them and nothing else.

    Not `bz2.BZ2File` and `lzma.LZMAFile`: to them, whatever does not begin like a member is the end of the file. They lose every row behind
    padding, or of a second member whose first bytes are damaged, without an error.
    """

    def __init__(self, file: Readable, kind: str) -> None:
        super().__init__()
        self._file = file
        self._new_decoder = _MEMBER_DECODERS[kind]
        self._decoder: _MemberDecoder | None = None

    def readable(self) -> bool:
        """Asked by `io.BufferedReader`."""
        return True

    def readinto(self, target: Any, /) -> int:
        """Some bytes; none at the end only."""
        data = b""
        while not data:
            if self._decoder is None or self._decoder.eof:
                compressed = self._next_member()
                if not compressed:
                    return 0
                self._decoder = self._new_decoder()
            else:
                compressed = self._file.read(PIECE_BYTES) if self._decoder.needs_input else b""
                if self._decoder.needs_input and not compressed:
                    raise EOFError("the compressed file breaks off before its end")
            data = self._decoder.decompress(compressed, len(target))
        target[: len(data)] = data
        return len(data)

    def _next_member(self) -> bytes:
        """The first bytes of the next member; none at the end of the file."""
        if self._decoder is None:
            return self._file.read(PIECE_BYTES)
        trailing = self._decoder.unused_data.lstrip(b"\0")
        while not trailing and (compressed := self._file.read(PIECE_BYTES)):
            trailing = compressed.lstrip(b"\0")
        return trailing


class _ArrowInflated:
    """The content of a zstd or lz4 file."""

    def __init__(self, file: Readable, kind: str) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Raw(file), mode="r"), kind)

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        return data


class _Raw:
    """A counted file with what Arrow asks of a file object."""

    closed = False

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        """The pass owns the file."""


class _Recoded:
    """Text of another encoding as UTF-8."""

    def __init__(self, file: Readable, encoding: str, head: bytes) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._head = head
        self._is_done = False
        self.lines = 0

    def read(self, size: int) -> bytes:
        while not self._is_done:
            raw, self._head = self._head or self._file.read(size), b""
            self._is_done = not raw
            try:
                text = self._decoder.decode(raw, final=self._is_done)
            except UnicodeDecodeError as exc:
                good = exc.object[: exc.start].decode(self._encoding, "ignore")
                raise EncodingError(self.lines + good.count("\n") + 1, self._encoding, exc) from exc
            if text:
                self.lines += text.count("\n")
                return text.encode("utf-8", "surrogatepass")
        return b""


class EncodingError(ValueError):
    """Bytes that are no text in the encoding; `line` is where."""

    def __init__(self, line: int, encoding: str, exc: UnicodeDecodeError) -> None:
        super().__init__(f"not {encoding} text: {exc.reason}")
        self.line = line


class Content:
    """The content of a file, read into memory that the reader brings along.

    Args:
        file: Where it comes from.
        rest: What was read before and belongs in front.
    """

    def __init__(self, file: Readable, rest: bytes = b"") -> None:
        self._file = file
        self._rest = memoryview(rest)
        self._read_into = getattr(file, "readinto", None)

    def fill(self, target: memoryview) -> int:
        """Fill it from the start; returns how far: less than its length at the end of the content only."""
        done = 0
        while done < len(target):
            if not self._rest and self._read_into is None:
                self._rest = memoryview(self._file.read(len(target) - done))
            if self._rest or self._read_into is None:
                taken = min(len(self._rest), len(target) - done)
                target[done : done + taken] = self._rest[:taken]
                self._rest = self._rest[taken:]
            else:
                taken = self._read_into(target[done : done + PIECE_BYTES])
            if not taken:
                break
            done += taken
        return done


def open_content(file: CountedFile, compression: str | None, encoding: str) -> Content:
    """UTF-8 without byte order mark, whatever the file has.

    Args:
        file: The bytes as they lie.
        compression: One of `sources.base.COMPRESSIONS`, or None.
        encoding: What the text is said to be in; a byte order mark wins over it.

    Raises:
        EncodingError: Also while reading: not text in that encoding.
        EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException: Also while reading: the file is damaged.
    """
    plain: Readable = file
    if compression in ("zstd", "lz4"):
        plain = _ArrowInflated(file, compression)
    elif compression == "gzip":
        # reads of 8 KiB and of single bytes of padding must not each be one of the disk
        plain = gzip.GzipFile(fileobj=io.BufferedReader(file, PIECE_BYTES), mode="rb")
    elif compression is not None:
        plain = io.BufferedReader(_Members(file, compression))
    head = plain.read(4)
    for mark, marked_encoding in _BOMS:
        if head.startswith(mark):
            if marked_encoding == "utf-8":
                return Content(plain, head[len(mark) :])
            return Content(_Recoded(plain, marked_encoding, head))
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return Content(plain, head)
    return Content(_Recoded(plain, encoding, head))
