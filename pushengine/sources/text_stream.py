"""The content of a text file as UTF-8, whatever its compression and encoding."""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

PIECE_BYTES = 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Readable(Protocol):
    """Bytes from a file, or what becomes of them."""

    def read(self, size: int, /) -> bytes:
        """At most so many (files of other encodings may give a little more); none at the end only."""
        ...


class CountedFile:
    """A file that knows how much was read of it; short reads are completed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or all that are left."""
        parts = []
        while size > 0:
            data = self._file.read(size)
            if not data:
                break
            size -= len(data)
            self.bytes_read += len(data)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, target: memoryview) -> int:
        """Some bytes; none at the end only."""
        count = self._file.readinto(target) or 0  # type: ignore[attr-defined]
        self.bytes_read += count
        return int(count)


class _Inflated:
    """The content of a gzip, bzip2 or xz file, of several members too; a file that breaks off is an error."""

    def __init__(self, file: Readable, kind: str) -> None:
        self._file = file
        self._kind = kind
        self._decoder = self._new()
        self._is_fresh = True
        self._input = b""

    def _new(self) -> Any:
        if self._kind == "gzip":
            return zlib.decompressobj(wbits=31)
        return bz2.BZ2Decompressor() if self._kind == "bz2" else lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            data = self._some(size)
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        while True:
            if self._decoder.eof:
                self._input = self._decoder.unused_data.lstrip(b"\0") or self._file.read(PIECE_BYTES).lstrip(b"\0")
                if not self._input:
                    return b""
                self._decoder, self._is_fresh = self._new(), True
            elif self._kind == "gzip":
                self._input = self._decoder.unconsumed_tail or self._file.read(PIECE_BYTES)
            else:
                self._input = self._file.read(PIECE_BYTES) if self._decoder.needs_input else b""
            if not self._input and (self._kind == "gzip" or self._decoder.needs_input):
                if self._is_fresh:
                    return b""
                raise EOFError("the compressed file breaks off before its end")
            self._is_fresh = False
            data: bytes = self._decoder.decompress(self._input, size)
            if data:
                return data


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
        self._read_into = getattr(file, "read_into", None)

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
                taken = self._read_into(target[done:])
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
    elif compression is not None:
        plain = _Inflated(file, compression)
    head = plain.read(4)
    for mark, marked_encoding in _BOMS:
        if head.startswith(mark):
            if marked_encoding == "utf-8":
                return Content(plain, head[len(mark) :])
            return Content(_Recoded(plain, marked_encoding, head))
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return Content(plain, head)
    return Content(_Recoded(plain, encoding, head))
