"""Recognizes files by their first bytes: compression, other file formats, and UTF-16 or UTF-32 without a byte order mark.

The names of files are often wrong: a program writes gzip into `x.csv`, or a workbook is renamed instead of being saved as CSV.
"""

from __future__ import annotations

import codecs
import dataclasses
import re
from typing import BinaryIO

from pushengine.text import flag

HEAD_BYTES = 4096
"""Number of bytes that `kind_of` and `evident_encoding` should be given; fewer if the file is shorter."""

CONVERT = "convert it to CSV or Parquet"
SAVE_AS_CSV = "save the sheet as CSV"
UNPACK = "unpack it first"
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters other than blanks and ESC, which no text has."""
_LINE_END = re.compile(rb"[\r\n]")
_MAGIC_OF_COMPRESSION = (
    (re.compile(rb"\x1f\x8b\x08"), "gzip"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bz2"),
    (re.compile(rb"\xfd7zXZ\x00"), "xz"),
    (re.compile(rb"\x28\xb5\x2f\xfd"), "zstd"),
    (re.compile(rb"\x04\x22\x4d\x18"), "lz4"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class FileKind:
    """What a file is.

    Attributes:
        name: In words, with an article.
        format: Name of the file format, if pushengine can read it; empty otherwise.
        remedy: What the user can do about such a file.
    """

    name: str
    format: str
    remedy: str


TEXT = FileKind("text", "csv", flag("format", "csv"))
_KINDS = (
    (rb"PAR[1E](?=[\x00-\x08\x0e-\x1f]|\Z)", FileKind("a Parquet file", "parquet", flag("format", "parquet"))),
    (rb"ARROW1\x00\x00|\xff\xff\xff\xff.{3}\x00", FileKind("an Arrow file", "arrow", flag("format", "arrow"))),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", FileKind("an OpenDocument file", "", SAVE_AS_CSV)),
    (rb"PK\x03\x04.*(?:xl/|\[Content_Types\]\.xml|_rels/)", FileKind("an Excel workbook", "", SAVE_AS_CSV)),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", FileKind("a zip archive", "", UNPACK)),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind("an Excel workbook of the old format (xls)", "", SAVE_AS_CSV)),
    (rb".{257}ustar[\x00 ]", FileKind("a tar archive", "", UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", FileKind("a 7-Zip archive", "", UNPACK)),
    (rb"Rar!\x1a\x07", FileKind("a RAR archive", "", UNPACK)),
    (rb"%PDF-\d", FileKind("a PDF document", "", "get the table as CSV")),
    (rb"SQLite format 3\x00", FileKind("an SQLite database", "", CONVERT)),
    (rb".{8}DUCK..\x00{6}", FileKind("a DuckDB database", "", CONVERT)),
    (rb"FEA1\x00", FileKind("a Feather file of version 1", "", CONVERT)),
    (rb"ORC.*[\x00-\x08]", FileKind("an ORC file", "", CONVERT)),
    (rb"Obj\x01", FileKind("an Avro file", "", CONVERT)),
    (rb"\x89HDF\r\n\x1a\n", FileKind("an HDF5 file", "", CONVERT)),
)  # fmt: skip
_KINDS_BY_PATTERN = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _KINDS)


class WrongKindError(ValueError):
    """The content of a file is not what its name or a setting says; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def head_of(file: BinaryIO) -> bytes:
    """Return the first bytes of a file that was just opened; the next read starts at the beginning again."""
    head = file.read(HEAD_BYTES)
    file.seek(0)
    return head


def compression_in(head: bytes) -> str | None:
    """Return the compression that a file begins with, as `sources.files.COMPRESSIONS` names it; None if it begins with none."""
    return next((name for magic, name in _MAGIC_OF_COMPRESSION if magic.match(head)), None)


def compression_of_content(head: bytes, named: str | None) -> str | None:
    """Return how a file is compressed.

    Args:
        head: First bytes of the file.
        named: The compression that the suffix of its name stands for; None if it stands for none.

    Raises:
        WrongKindError: The file is plain text or of a known format, although its name says that it is compressed.
    """
    found = compression_in(head)
    if found is not None or named is None:
        return found
    kind = kind_of(head)
    if kind is TEXT and _LINE_END.search(head):
        raise WrongKindError(f"the name says {named}, but the file is plain text", "rename it without that suffix")
    if kind not in (None, TEXT):
        raise WrongKindError(f"the name says {named}, but the file is {kind.name}", kind.remedy)
    return named


def kind_of(head: bytes) -> FileKind | None:
    """Return what a file is, by its first bytes; None if they do not show it, or the file is empty."""
    for pattern, kind in _KINDS_BY_PATTERN:
        if pattern.match(head):
            return kind
    return TEXT if head and not _CONTROLS.search(head) else None


def kind_named(format_name: str) -> str:
    """Return a file format in words, with an article: `a Parquet file` for `parquet`."""
    return next(kind.name for _, kind in _KINDS_BY_PATTERN if kind.format == format_name)


def require_text(head: bytes) -> None:
    """Require that the content of a file that is read as text is not another file format.

    Raises:
        WrongKindError: It is one.
    """
    kind = kind_of(head)
    if kind not in (None, TEXT):
        raise WrongKindError(f"not text, but {kind.name}", kind.remedy)


_MIN_ASCII = 1 / 8
"""Smallest share of ASCII characters in a text of any script: its delimiters, digits and line ends."""
_MIN_ASCII_AFTER_NULS = 0.9
"""The same for bytes that are text without their NULs, too, and may therefore be a text with NULs in its cells."""


def evident_encoding(head: bytes) -> str | None:
    """Return the encoding of a text without byte order mark in which NULs show that it is UTF-16 or UTF-32; None if nothing shows it.

    A NUL in the cell of another text is not enough: the whole head must be valid, without control characters.
    Nor is a short text without a line end, which may be valid in either order of bytes.
    """
    if b"\0" not in head:
        return None
    least = _MIN_ASCII if _plain_text(head.replace(b"\0", b""), "utf-8") is None else _MIN_ASCII_AFTER_NULS
    shares = {}
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        text = _plain_text(head, encoding)
        if text and (len(head) >= HEAD_BYTES or "\n" in text or "\r" in text):
            shares[encoding] = len(text.encode("ascii", "ignore")) / len(text)
    best = max(shares, key=shares.__getitem__, default="")
    return best if best and shares[best] >= least else None


def _plain_text(data: bytes, encoding: str) -> str | None:
    """Return the text that bytes are in an encoding; None if they are invalid or have control characters. The last character may be cut."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:
            return None
        text = data[: error.start].decode(encoding)
    return None if _CONTROLS.search(text.encode("utf-8", "surrogatepass")) else text


_MIN_ALPHANUMERIC = 1 / 2
"""Smallest share of letters and digits in a text that is taken for EBCDIC."""


def _looks_like_ebcdic(head: bytes) -> bool:
    """Whether the first bytes are a text of lines in EBCDIC, and no text in UTF-8 or in an extension of ASCII."""
    if _LINE_END.search(head) or not re.search(rb"[\x15\x25]", head) or _plain_text(head, "utf-8") is not None:
        return False
    text = re.sub("[\r\n\x85]", "", head.decode("cp037"))
    ascii_letters = sum(one.isascii() and one.isalnum() for one in text)
    return text.isprintable() and ascii_letters >= len(text) * _MIN_ALPHANUMERIC


def content_encoding(head: bytes, declared: str | None) -> str:
    """Return the encoding to read a text with that has no byte order mark.

    Args:
        head: First bytes of the text.
        declared: The encoding that the user names; None if none is named.

    Raises:
        WrongKindError: The text is in EBCDIC, but no encoding is declared; it is in UTF-16 or UTF-32, but another encoding is declared or
            none; or UTF-16 or UTF-32 is declared without the order of its bytes, and the text does not show it.
    """
    if not head:
        return "utf-8"
    evident = evident_encoding(head)
    name = codecs.lookup(declared or "utf-8").name
    if name in ("utf-16", "utf-32"):
        if evident is not None and evident.startswith(name):
            return evident
        raise WrongKindError(
            f"no byte order mark, so {name} does not say the order of the bytes",
            f"{flag('encoding', f'{name}-le')} or {flag('encoding', f'{name}-be')}",
        )
    if declared is None and _looks_like_ebcdic(head):
        raise WrongKindError(
            "EBCDIC text", f"{flag('encoding', 'cp037')}, or another code page such as {flag('encoding', 'cp273')}"
        )
    if evident is not None and name != evident:
        raise WrongKindError(f"{evident.upper()} text without a byte order mark", flag("encoding", evident))
    return declared or "utf-8"
