"""Reads text files of any supported compression and encoding as UTF-8."""

from __future__ import annotations

import bz2
import codecs
import functools
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, TypeAlias

import pyarrow as pa

from pushengine.sources.first_bytes import (
    HEAD_BYTES,
    compression_of_content,
    content_encoding,
    head_of,
    require_text,
)
from pushengine.text import flag

PIECE_BYTES = 256 * 1024
"""Bytes read at once. Larger results need fresh pages from the system each time, which costs more than the extra calls."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NEL = "\x85"
DAMAGE = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What opening and reading the content of a damaged file, or of one that is no text, may raise."""

_MemberDecoder: TypeAlias = bz2.BZ2Decompressor | lzma.LZMADecompressor
_MEMBER_DECODERS: dict[str, Callable[[], _MemberDecoder]] = {
    "bz2": bz2.BZ2Decompressor,
    "xz": functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ),
}


class Readable(Protocol):
    """A stream of bytes: a file, or the result of decompressing or recoding one."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes (a little more if the text is recoded); empty only at the end."""
        ...


class CountedFile(io.RawIOBase):
    """A file that counts the bytes read from it. The code that opened the file must close it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.bytes_read = 0

    def readable(self) -> bool:
        """Return True; `io.BufferedReader` requires it."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return exactly `size` bytes, or all that are left; a short read of the file is continued."""
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
        """Read some bytes into `target` and return their number; 0 only at the end."""
        count = self._file.readinto(target) or 0  # type: ignore[attr-defined]
        self.bytes_read += count
        return int(count)


class _MemberFile(io.RawIOBase):
    """The content of a bzip2 or xz file: members, with nothing but zero bytes between and after them.

    Used instead of `bz2.BZ2File` and `lzma.LZMAFile`, which take any bytes that do not start like a member for the end of the file. They
    silently lose all rows after padding, and the rows of a second member whose first bytes are damaged.
    """

    def __init__(self, file: Readable, kind: str) -> None:
        super().__init__()
        self._file = file
        self._new_decoder = _MEMBER_DECODERS[kind]
        self._decoder: _MemberDecoder | None = None

    def readable(self) -> bool:
        """Return True; `io.BufferedReader` requires it."""
        return True

    def readinto(self, target: Any, /) -> int:
        """Decompress some bytes into `target` and return their number; 0 only at the end.

        Raises:
            EOFError: The file ends within a member.
        """
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
                    raise EOFError("the compressed file is truncated")
            data = self._decoder.decompress(compressed, len(target))
        target[: len(data)] = data
        return len(data)

    def _next_member(self) -> bytes:
        """Return the first bytes of the next member; empty at the end of the file."""
        if self._decoder is None:
            return self._file.read(PIECE_BYTES)
        start = self._decoder.unused_data.lstrip(b"\0")
        while not start and (compressed := self._file.read(PIECE_BYTES)):
            start = compressed.lstrip(b"\0")
        return start


class _ArrowDecompressed:
    """The content of a zstd or lz4 file."""

    def __init__(self, file: Readable, kind: str) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(_ArrowFile(file), mode="r"), kind)

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        return data


class _ArrowFile:
    """A counted file with the interface that Arrow expects of a file object."""

    closed = False

    def __init__(self, file: Readable) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        """Do nothing: the pass that opened the file closes it."""


class _Recoded:
    """Text in another encoding, recoded to UTF-8. The line ends of EBCDIC (NEL) become line feeds."""

    def __init__(self, file: Readable, encoding: str, head: bytes) -> None:
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._head = head
        self._is_done = False
        # EBCDIC ends lines with NEL. An encoding that has another meaning for this byte is not EBCDIC.
        self._line_end = _NEL if codecs.decode(b"\x15", encoding, "replace") == _NEL else "\n"
        self.lines = 0

    def read(self, size: int) -> bytes:
        while not self._is_done:
            raw, self._head = self._head or self._file.read(size), b""
            self._is_done = not raw
            try:
                text = self._decoder.decode(raw, final=self._is_done)
            except UnicodeDecodeError as exc:
                good = exc.object[: exc.start].decode(self._encoding, "ignore")
                raise EncodingError(self.lines + good.count(self._line_end) + 1, self._encoding, exc) from exc
            if text:
                text = text.replace(self._line_end, "\n")
                self.lines += text.count("\n")
                return text.encode("utf-8", "surrogatepass")
        return b""


class EncodingError(ValueError):
    """Bytes that are not valid in the encoding of the text; `line` is the number of the line, `hint` says what to do."""

    def __init__(self, line: int, encoding: str, exc: UnicodeDecodeError) -> None:
        super().__init__(f"not {encoding} text: {exc.reason}")
        self.line = line
        is_cut = "truncated" in exc.reason or "end of data" in exc.reason
        self.hint = "is the file complete?" if is_cut else encoding_hint(encoding)


def encoding_hint(encoding: str = "utf-8") -> str:
    """Return what to do about a text that is not valid in an encoding, with a flag to try."""
    other = "latin-1" if codecs.lookup(encoding).name == "cp1252" else "cp1252"
    return f"name its encoding, such as {flag('encoding', other)}"


class Content:
    """The content of a file, read into memory that the caller provides.

    Args:
        file: The stream to read.
        rest: Bytes that were already read and come first.
    """

    def __init__(self, file: Readable, rest: bytes = b"") -> None:
        self._file = file
        self._rest = memoryview(rest)
        self._read_into = getattr(file, "readinto", None)

    def fill(self, target: memoryview) -> int:
        """Fill `target` from its start and return the number of bytes written: fewer than its length only at the end of the content."""
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


def has_content(file: BinaryIO, named: str | None, declared: str | None) -> bool:
    """Return whether a text file has any content, also once it is decompressed. A damaged one is taken to have some.

    Args:
        file: The file, just opened.
        named: The compression that its name stands for.
        declared: Encoding that the user names, or None.
    """
    try:
        return bool(start_of_text(file, 1, named, declared))
    except DAMAGE:
        return True


def start_of_text(file: BinaryIO, max_bytes: int, named: str | None, declared: str | None) -> bytes:
    """Return the first bytes of a text file as UTF-8, without a byte order mark.

    Args:
        file: The file, just opened.
        max_bytes: Number of bytes; the result is shorter only if the text is.
        named: The compression that its name stands for.
        declared: Encoding that the user names, or None.

    Raises:
        The classes in `DAMAGE`: The file is damaged, or no text in that encoding.
    """
    start = memoryview(bytearray(max_bytes))
    content = open_content(CountedFile(file), compression_of_content(head_of(file), named), declared)
    return bytes(start[: content.fill(start)])


def open_content(file: CountedFile, compression: str | None, declared: str | None) -> Content:
    """Return the content of a file as UTF-8 without a byte order mark.

    Args:
        file: The file as stored on disk.
        compression: A value of `sources.files.COMPRESSIONS`, or None if the file is not compressed.
        declared: Encoding that the user names, or None; a byte order mark takes precedence over it.

    Raises:
        WrongKindError: The content is another file format, or in another encoding than the declared one (`sources.first_bytes`).
        EncodingError: The text is not valid in that encoding. Reading the content may raise this too.
        EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException: The file is damaged. Reading the content may raise these too.
    """
    plain: Readable = file
    if compression in ("zstd", "lz4"):
        plain = _ArrowDecompressed(file, compression)
    elif compression == "gzip":
        # Buffered, so that gzip's reads of 8 KiB, and of padding byte by byte, do not each become a read from disk.
        plain = gzip.GzipFile(fileobj=io.BufferedReader(file, PIECE_BYTES), mode="rb")
    elif compression is not None:
        plain = io.BufferedReader(_MemberFile(file, compression))
    head = plain.read(HEAD_BYTES)
    for mark, marked_encoding in _BOMS:
        if head.startswith(mark):
            if marked_encoding == "utf-8":
                return Content(plain, head[len(mark) :])
            return Content(_Recoded(plain, marked_encoding, head))
    require_text(head)
    encoding = content_encoding(head, declared)
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return Content(plain, head)
    return Content(_Recoded(plain, encoding, head))
