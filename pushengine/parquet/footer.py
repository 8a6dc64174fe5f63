"""The footer of a Parquet file: parsed as far as needed, and rewritten for some of its row groups.

    file   = "PAR1" data footer length(4 bytes, little-endian) "PAR1"
    footer = FileMetaData in Thrift's compact protocol

Rewriting a footer loses nothing, not even unknown fields, except for what must change: row counts, data offsets, and pointers to data that
the new file does not contain (page indexes and bloom filters are stored outside the data of a row group).

All functions but `read_page` work on bytes. Footers may be damaged or hostile: every defect raises `FooterError`, and parsing costs no more
than the bytes that are present (`thrift_compact.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from pushengine.parquet.thrift_compact import (
    BINARY,
    FALSE,
    I8,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Fields,
    FooterError,
    bytes_of,
    elements_of,
    field_start,
    integers_of,
    number_of,
    offsets,
    read_struct,
    required_number,
    struct_of,
    text_of,
    write_integer,
    write_struct,
    write_structs,
)

MAGIC = b"PAR1"
TAIL_BYTES = 8
_PAGE_PROBES = (4 * 1024, 64 * 1024, 1024 * 1024)
MAX_FOOTER_BYTES = 64 * 1024 * 1024
PHYSICAL_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW")
PAGES = ("DATA_PAGE", "INDEX_PAGE", "DICTIONARY_PAGE", "DATA_PAGE_V2")
ENCODINGS = {
    0: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    4: "BIT_PACKED",
    5: "DELTA_BINARY_PACKED",
    6: "DELTA_LENGTH_BYTE_ARRAY",
    7: "DELTA_BYTE_ARRAY",
    8: "RLE_DICTIONARY",
    9: "BYTE_STREAM_SPLIT",
}
_LOGICAL_TYPES = {
    1: "STRING",
    2: "MAP",
    3: "LIST",
    4: "ENUM",
    5: "DECIMAL",
    6: "DATE",
    7: "TIME",
    8: "TIMESTAMP",
    10: "INTEGER",
    11: "UNKNOWN",
    12: "JSON",
    13: "BSON",
    14: "UUID",
    15: "FLOAT16",
}
_UTF8, _INT_64 = 0, 18
_CONVERTED_TYPES = (
    *("UTF8", "MAP", "MAP_KEY_VALUE", "LIST", "ENUM", "DECIMAL", "DATE", "TIME_MILLIS", "TIME_MICROS"),
    *("TIMESTAMP_MILLIS", "TIMESTAMP_MICROS", "UINT_8", "UINT_16", "UINT_32", "UINT_64"),
    *("INT_8", "INT_16", "INT_32", "INT_64", "JSON", "BSON", "INTERVAL"),
)
_UNITS = {1: "ms", 2: "us", 3: "ns"}


# --- Contents of a footer -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    """A column of the schema.

    Attributes:
        name: Name of the column.
        kind: Physical type and its meaning: `INT64`, `STRING`, `INT64 TIMESTAMP(us)`, `INT32 DATE`, ...
        is_required: Whether the column cannot contain NULL.
    """

    name: str
    kind: str
    is_required: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column of a row group.

    Attributes:
        name: Name of the column; empty if it is nested.
        codec: Compression codec of its pages.
        encodings: All encodings in use, including those of levels and dictionaries.
        pages: (page kind, encoding) of its pages, each pair once; empty if the writer did not record them.
        values: Number of values, including NULLs.
        start: Offset of its first byte in the file; if it has a dictionary, that is where the dictionary starts.
        data_start: Offset of the first data page.
        end: Offset after its last byte.
        is_readable: Whether the data is in this file and is not encrypted.
        level_counts: Lengths of the recorded histograms of repetition and definition levels; 0 if they are not recorded.
    """

    name: str
    codec: str
    encodings: frozenset[str]
    pages: frozenset[tuple[str, str]]
    values: int
    start: int
    data_start: int
    end: int
    is_readable: bool
    level_counts: tuple[int, int] = (0, 0)

    @property
    def is_dictionary(self) -> bool:
        """Whether all values are certainly in its dictionary."""
        data = {encoding for page, encoding in self.pages if page.startswith("DATA_PAGE")}
        return bool(data) and data <= {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


@dataclasses.dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group.

    Attributes:
        rows: Number of rows.
        chunks: Its columns, in file order.
    """

    rows: int
    chunks: tuple[ColumnChunk, ...]

    @property
    def nbytes(self) -> int:
        """Number of bytes of data in it."""
        return sum(chunk.end - chunk.start for chunk in self.chunks)


_ENCRYPTION = (8, 9)
"""Fields encryption_algorithm and footer_signing_key_metadata."""
_SAME_IN_ALL = (1, 2, 6, 7)
"""Fields version, schema, created_by and column_orders."""
_NEUTRAL_METADATA_KEYS = {b"ARROW:schema", b"pandas"}
"""Metadata keys that may differ. Any other key may define the meaning of values, as Spark's do for the calendar of old timestamps."""


class Footer:
    """The footer of one file.

    Attributes:
        rows: Number of rows in the file.
        leaves: Columns of the file; None if any of them is nested.
        is_encrypted: Whether any of the data is encrypted.
        created_by: Program that wrote the file; empty if the footer does not name it.
        nbytes: Length of the footer in bytes.
        data: Its bytes.
    """

    def __init__(self, data: bytes) -> None:
        """Parse the bytes of a footer.

        Raises:
            FooterError: The bytes are not a valid footer.
        """
        self.data = data
        self._starts = offsets()
        self._fields, _ = read_struct(data, extracted={4: self._starts})
        self.nbytes = len(data)
        self.rows = required_number(self._fields, 3)
        self.leaves = _leaves(self._fields)
        self.created_by = text_of(self._fields, 6) if 6 in self._fields else ""  # noqa: PLR2004 - created_by
        self._metadata = _metadata(self._fields)
        self.is_encrypted = not self._fields.keys().isdisjoint(_ENCRYPTION)

    @property
    def group_count(self) -> int:
        """Number of row groups."""
        return max(len(self._starts) - 1, 0)

    @functools.cached_property
    def key_values(self) -> dict[bytes, bytes]:
        """Key-value metadata."""
        pairs = (read_struct(raw)[0] for raw in elements_of(self._fields, 5, STRUCT))
        return {bytes_of(pair, 1): bytes_of(pair, 2) for pair in pairs}

    @property
    def is_empty(self) -> bool:
        """Whether no row group has any rows."""
        return self.rows == 0 and not any(self.sizes(index)[0] for index in range(self.group_count))

    def group(self, index: int) -> RowGroup:
        """Return the row group at `index`.

        Raises:
            FooterError: The row group is invalid.
        """
        starts = offsets()
        fields, _ = read_struct(self.data, self._starts[self._checked(index)], extracted={1: starts})
        rows = required_number(fields, 3)
        return RowGroup(rows, tuple(chunk_of(read_struct(self.data, at)[0]) for at in starts[:-1]))

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.group_count:
            raise IndexError(index)
        return index

    def sizes(self, index: int) -> tuple[int, int, list[tuple[int, int]]]:
        """Return sizes of a row group. Cheaper than `group`.

        Returns:
            Number of rows, bytes when decompressed, and for each column the number of values and of bytes as stored.

        Raises:
            FooterError: The row group is invalid.
        """
        starts = offsets()
        fields, _ = read_struct(self.data, self._starts[self._checked(index)], extracted={1: starts}, last=3)
        return required_number(fields, 3), required_number(fields, 2), [self._sizes_of(at) for at in starts[:-1]]

    def _sizes_of(self, at: int) -> tuple[int, int]:
        kind, start = field_start(self.data, 3, at)
        if kind != STRUCT:
            raise FooterError("a column of a row group without metadata")
        meta, _ = read_struct(self.data, start, last=7)
        return required_number(meta, 5), required_number(meta, 7)

    def is_like(self, other: Footer) -> bool:
        """Return whether row groups of both files can share one file: same columns, same writer, same meaning of values."""
        is_same = all(self._fields.get(number) == other._fields.get(number) for number in _SAME_IN_ALL)
        return is_same and self._metadata == other._metadata

    def raw_group(self, index: int) -> bytes:
        """Return the bytes of the row group at `index`, as written in the footer."""
        return self.data[self._starts[self._checked(index)] : self._starts[index + 1]]

    def with_groups(self, rows: int, groups: Sequence[bytes]) -> bytes:
        """Return the bytes of this footer with other row groups."""
        new = dict(self._fields)
        new[3] = (I64, write_integer(rows))
        new[4] = (LIST, write_structs(groups))
        return write_struct(new)


def _metadata(footer: Fields) -> list[bytes]:
    """Return the raw key-value pairs, without those that do not affect the meaning of values."""
    pairs = ((raw, read_struct(raw)[0].get(1, (0, b""))[1]) for raw in elements_of(footer, 5, STRUCT))
    return sorted(raw for raw, key in pairs if key[1:] not in _NEUTRAL_METADATA_KEYS)


def _leaves(footer: Fields) -> tuple[Leaf, ...] | None:
    root, *rest = [read_struct(raw)[0] for raw in elements_of(footer, 2, STRUCT)] or [{}]
    if number_of(root, 5) != len(rest) or any(number_of(one, 5) or number_of(one, 3) not in (0, 1) for one in rest):
        return None
    return tuple(Leaf(text_of(element, 4), _kind(element), number_of(element, 3) == 0) for element in rest)


def _kind(element: Fields) -> str:
    index = required_number(element, 1)
    if not 0 <= index < len(PHYSICAL_TYPES):
        raise FooterError(f"unknown type {index}")
    physical = PHYSICAL_TYPES[index]
    logical, converted = struct_of(element, 10) or {}, number_of(element, 6)
    meaning = _meaning(logical, converted)
    plain = {("BYTE_ARRAY", "STRING"): "STRING", ("INT64", "INTEGER(64)"): "INT64", ("INT32", "INTEGER(32)"): "INT32"}
    return plain.get((physical, meaning), f"{physical} {meaning}".rstrip())


def _meaning(logical: Fields, converted: int | None) -> str:
    if not logical:
        names = {_UTF8: "STRING", _INT_64: "INTEGER(64)"}
        if converted is None or converted in names:
            return names.get(converted, "") if converted is not None else ""
        return _CONVERTED_TYPES[converted] if 0 <= converted < len(_CONVERTED_TYPES) else f"converted type {converted}"
    number = next(iter(logical))
    name = _LOGICAL_TYPES.get(number, f"logical type {number}")
    inside = struct_of(logical, number) or {}
    if name == "TIMESTAMP":
        unit = _UNITS.get(next(iter(struct_of(inside, 2) or ()), 0), "?")
        is_utc = inside.get(1, (FALSE, b""))[0] == TRUE
        return f"TIMESTAMP({unit}{', UTC' if is_utc else ''})"
    if name == "INTEGER":
        width = inside.get(1, (I8, b"\0"))[1]
        is_signed = inside.get(2, (FALSE, b""))[0] == TRUE
        return f"{'' if is_signed else 'UNSIGNED '}INTEGER({width[0] if len(width) == 1 else '?'})"
    return name


def _name_of(names: Sequence[str] | Mapping[int, str], index: int) -> str:
    try:
        return names[index] if index >= 0 else str(index)
    except LookupError:
        return str(index)


def chunk_of(fields: Fields) -> ColumnChunk:
    """Return a column of a row group.

    Raises:
        FooterError: It is invalid.
    """
    meta = struct_of(fields, 3)
    if meta is None:
        raise FooterError("a column of a row group without metadata")
    path = list(elements_of(meta, 3, BINARY))
    first, size = required_number(meta, 9), required_number(meta, 7)
    dictionary = number_of(meta, 11)
    start = min(first, dictionary) if dictionary is not None and dictionary > 0 else first
    if start < len(MAGIC) or size < 0:
        raise FooterError("a column that begins before its file")
    return ColumnChunk(
        name=text_of({1: (BINARY, path[0])}, 1) if len(path) == 1 else "",
        codec=_name_of(CODECS, required_number(meta, 4)),
        encodings=_encodings(_cacheable_field(meta, 2)),
        pages=_pages(_cacheable_field(meta, 13)),
        values=required_number(meta, 5),
        start=start,
        data_start=first,
        end=start + size,
        is_readable=not fields.keys() & {1, 8, 9},
        level_counts=_level_counts(struct_of(meta, 16) or {}),
    )


def _level_counts(statistics: Fields) -> tuple[int, int]:
    """Return the lengths of the lists in SizeStatistics."""
    repetition, definition = (sum(1 for _ in elements_of(statistics, number, I64)) for number in (2, 3))
    return repetition, definition


_Field = tuple[int, bytes] | None
_MAX_ENCODINGS_BYTES = 1024


def _cacheable_field(fields: Fields, number: int) -> _Field:
    """Return a field after checking its size, because caches keep it as a key."""
    field = fields.get(number)
    if field is not None and len(field[1]) > _MAX_ENCODINGS_BYTES:
        raise FooterError("a column with hundreds of encodings")
    return field


@functools.lru_cache(maxsize=256)
def _encodings(field: _Field) -> frozenset[str]:
    """Return the encodings in a field. Cached because nearly all columns of all row groups have the same ones."""
    values = integers_of({} if field is None else {2: field}, 2)
    return frozenset(_name_of(ENCODINGS, value) for value in values)


@functools.lru_cache(maxsize=256)
def _pages(field: _Field) -> frozenset[tuple[str, str]]:
    elements = elements_of({} if field is None else {13: field}, 13, STRUCT)
    return frozenset(_page_kind(read_struct(raw)[0]) for raw in elements)


def _page_kind(stats: Fields) -> tuple[str, str]:
    return _name_of(PAGES, required_number(stats, 1)), _name_of(ENCODINGS, required_number(stats, 2))


# --- Pages --------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """The header of a page.

    Attributes:
        kind: `DATA_PAGE`, `DICTIONARY_PAGE`, `DATA_PAGE_V2`, ...
        encoding: Encoding of the values.
        level_encoding: Encoding of the definition levels, which mark NULLs; empty if the header does not contain it.
        values: Number of values, including NULLs.
        header_bytes: Length of the header in bytes.
        stored_bytes: Length of the data after the header, as stored.
        bytes: Length of the same data without compression.
        crc: Checksum of the stored data; None if the header has none.
    """

    kind: str
    encoding: str
    level_encoding: str
    values: int
    header_bytes: int
    stored_bytes: int
    bytes: int
    crc: int | None


def parse_page(data: bytes) -> Page:
    """Parse the page header at the start of `data`.

    Raises:
        FooterError: The bytes are not a page header, or the header is longer than `data`.
    """
    fields, end = read_struct(data)
    kind = _name_of(PAGES, required_number(fields, 1))
    inside = struct_of(fields, {"DATA_PAGE": 5, "DICTIONARY_PAGE": 7}.get(kind, 0)) or {}
    encoding, level = number_of(inside, 2), number_of(inside, 3) if kind == "DATA_PAGE" else None
    page = Page(
        kind=kind,
        encoding="" if encoding is None else _name_of(ENCODINGS, encoding),
        level_encoding="" if level is None else _name_of(ENCODINGS, level),
        values=number_of(inside, 1) or 0,
        header_bytes=end,
        stored_bytes=required_number(fields, 3),
        bytes=required_number(fields, 2),
        crc=number_of(fields, 4),
    )
    if min(page.values, page.stored_bytes, page.bytes) < 0:
        raise FooterError("a page with a negative size")
    return page


def read_page(file: BinaryIO, at: int, end: int) -> Page:
    """Read the page header at offset `at` of a file, in a column that ends at offset `end`.

    A page header does not record its own length, so more and more bytes are read until it can be parsed.

    Raises:
        FooterError: There is no valid page header.
    """
    for nbytes in _PAGE_PROBES:
        file.seek(at)
        try:
            return parse_page(file.read(min(nbytes, end - at)))
        except FooterError:  # the header may be longer: it contains the minimum and the maximum value
            continue
    raise FooterError("no page header")


# --- The end of a file --------------------------------------------------------------------------------------------------------------


def with_trailer(footer: bytes) -> bytes:
    """Return the end of a file: the footer, its length and the magic bytes."""
    return footer + len(footer).to_bytes(4, "little") + MAGIC


def footer_length(tail: bytes, file_bytes: int) -> int:
    """Return the length of the footer, which the last `TAIL_BYTES` bytes of a file record.

    Raises:
        FooterError: The file does not end like a Parquet file, or the footer would be larger than the file or `MAX_FOOTER_BYTES`.
    """
    if len(tail) != TAIL_BYTES or tail[4:] != MAGIC:
        raise FooterError("it does not end like a Parquet file")
    length = int.from_bytes(tail[:4], "little")
    if length > file_bytes - TAIL_BYTES - len(MAGIC):
        raise FooterError("a footer larger than its file")
    if length > MAX_FOOTER_BYTES:
        raise FooterError(f"a footer of {length} bytes")
    return length
