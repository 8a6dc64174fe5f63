"""The footer of a Parquet file: read as far as needed, and written again for some of its row groups.

    file   = "PAR1" data footer length(4 bytes, little-endian) "PAR1"
    footer = FileMetaData in thrift's compact protocol

A footer is written again without loss, fields unknown here included, except for what has to change: numbers of rows, offsets of data, and
pointers to what the new file does not hold (page indexes and bloom filters lie outside the data of a row group).

Bytes in, bytes out; only `read_page` reads a file, since a page header does not tell how long it is.

Footers may be damaged or hostile: everything wrong is a `FooterError`, and costs no more than the bytes that are there (`thrift_compact.py`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

from pushengine.parquet.thrift_compact import (
    BINARY,
    FALSE,
    I8,
    I16,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Fields,
    FooterError,
    elements_of,
    integers_of,
    needed_number,
    number_of,
    read_struct,
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


# --- What a footer says -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Leaf:
    """A column of the schema.

    Attributes:
        name: Its name.
        kind: Physical type and what it means: `INT64`, `STRING`, `INT64 TIMESTAMP(us)`, `INT32 DATE`, ...
        is_required: It has no NULL.
    """

    name: str
    kind: str
    is_required: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column of a row group.

    Attributes:
        name: Of the column; empty if it is nested.
        codec: Of its pages.
        encodings: All that are used, those of levels and dictionaries included.
        pages: Kind of page and encoding, for each that occurs; empty where the writer does not tell.
        values: Their number, NULLs included.
        start: First byte in the file, that of the dictionary if there is one.
        data_start: First byte of the first data page.
        end: Byte after the last.
        is_here: It is in this file, and not encrypted.
    """

    name: str
    codec: str
    encodings: frozenset[str]
    pages: frozenset[tuple[str, str]]
    values: int
    start: int
    data_start: int
    end: int
    is_here: bool

    @property
    def is_dictionary(self) -> bool:
        """All values are in its dictionary, for certain."""
        data = {encoding for page, encoding in self.pages if page.startswith("DATA_PAGE")}
        return bool(data) and data <= {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}


@dataclasses.dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group.

    Attributes:
        rows: Their number.
        chunks: One for each column.
    """

    rows: int
    chunks: tuple[ColumnChunk, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return sum(chunk.end - chunk.start for chunk in self.chunks)


_ENCRYPTION = (8, 9)
"""encryption_algorithm, footer_signing_key_metadata"""
_SAME_IN_ALL = (1, 2, 6, 7)
"""version, schema, created_by, column_orders"""
_NEUTRAL_METADATA_KEYS = {b"ARROW:schema", b"pandas"}
"""Keys of metadata that may differ; any other may say how values are meant, as Spark's do for the calendar of old timestamps."""


class Footer:
    """The footer of one file.

    Attributes:
        rows: Rows of the file.
        leaves: Columns, or None where some are nested.
        is_encrypted: Some of the data is.
        created_by: Who wrote the file; empty if that is not told.
        nbytes: Length of the footer itself.
    """

    def __init__(self, data: bytes) -> None:
        """Read it.

        Raises:
            FooterError: It is none.
        """
        groups: list[bytes] = []
        self._fields, _ = read_struct(data, taken={4: groups})
        self._groups = tuple(groups)
        self.nbytes = len(data)
        self.rows = needed_number(self._fields, 3)
        self.leaves = _leaves(self._fields)
        self.created_by = text_of(self._fields, 6) if 6 in self._fields else ""  # noqa: PLR2004 - created_by
        self._metadata = _metadata(self._fields)
        self.is_encrypted = not self._fields.keys().isdisjoint(_ENCRYPTION)

    @property
    def group_count(self) -> int:
        """Number of row groups."""
        return len(self._groups)

    @property
    def is_empty(self) -> bool:
        """No row group has rows."""
        return self.rows == 0 and not any(needed_number(read_struct(raw)[0], 3) for raw in self._groups)

    def group(self, index: int) -> RowGroup:
        """A row group.

        Raises:
            FooterError: It makes no sense.
        """
        columns: list[bytes] = []
        fields, _ = read_struct(self._groups[index], taken={1: columns})
        rows = needed_number(fields, 3)
        return RowGroup(rows, tuple(_chunk(read_struct(raw)[0]) for raw in columns))

    def is_like(self, other: Footer) -> bool:
        """Row groups of both may stand in one file: same columns, same writer, same meaning of values."""
        is_same = all(self._fields.get(number) == other._fields.get(number) for number in _SAME_IN_ALL)
        return is_same and self._metadata == other._metadata

    def raw_group(self, index: int) -> bytes:
        """A row group as it was written."""
        return self._groups[index]

    def built(self, rows: int, groups: Sequence[bytes]) -> bytes:
        """This footer, with other row groups."""
        new = dict(self._fields)
        new[3] = (I64, write_integer(rows))
        new[4] = (LIST, write_structs(groups))
        return write_struct(new)


def _metadata(footer: Fields) -> list[bytes]:
    """Raw pairs of key and value, but for those that say nothing of values."""
    pairs = ((raw, read_struct(raw)[0].get(1, (0, b""))[1]) for raw in elements_of(footer, 5, STRUCT))
    return sorted(raw for raw, key in pairs if key[1:] not in _NEUTRAL_METADATA_KEYS)


def _leaves(footer: Fields) -> tuple[Leaf, ...] | None:
    root, *rest = [read_struct(raw)[0] for raw in elements_of(footer, 2, STRUCT)] or [{}]
    if number_of(root, 5) != len(rest) or any(number_of(one, 5) or number_of(one, 3) not in (0, 1) for one in rest):
        return None
    return tuple(Leaf(text_of(element, 4), _kind(element), number_of(element, 3) == 0) for element in rest)


def _kind(element: Fields) -> str:
    index = needed_number(element, 1)
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


def _chunk(fields: Fields) -> ColumnChunk:
    meta = struct_of(fields, 3)
    if meta is None:
        raise FooterError("a column of a row group without metadata")
    path = list(elements_of(meta, 3, BINARY))
    first, size = needed_number(meta, 9), needed_number(meta, 7)
    dictionary = number_of(meta, 11)
    start = min(first, dictionary) if dictionary is not None and dictionary > 0 else first
    if start < len(MAGIC) or size < 0:
        raise FooterError("a column that begins before its file")
    return ColumnChunk(
        name=text_of({1: (BINARY, path[0])}, 1) if len(path) == 1 else "",
        codec=_name_of(CODECS, needed_number(meta, 4)),
        encodings=_encodings(_short(meta, 2)),
        pages=_pages(_short(meta, 13)),
        values=needed_number(meta, 5),
        start=start,
        data_start=first,
        end=start + size,
        is_here=not fields.keys() & {1, 8, 9},
    )


_Field = tuple[int, bytes] | None
_MAX_ENCODINGS_BYTES = 1024


def _short(fields: Fields, number: int) -> _Field:
    """A field to be remembered."""
    field = fields.get(number)
    if field is not None and len(field[1]) > _MAX_ENCODINGS_BYTES:
        raise FooterError("a column with hundreds of encodings")
    return field


@functools.lru_cache(maxsize=256)
def _encodings(field: _Field) -> frozenset[str]:
    """Nearly all columns of all row groups say the same."""
    values = integers_of({} if field is None else {2: field}, 2)
    return frozenset(_name_of(ENCODINGS, value) for value in values)


@functools.lru_cache(maxsize=256)
def _pages(field: _Field) -> frozenset[tuple[str, str]]:
    elements = elements_of({} if field is None else {13: field}, 13, STRUCT)
    return frozenset(_page_kind(read_struct(raw)[0]) for raw in elements)


def _page_kind(stats: Fields) -> tuple[str, str]:
    return _name_of(PAGES, needed_number(stats, 1)), _name_of(ENCODINGS, needed_number(stats, 2))


# --- Pages --------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """The header of a page.

    Attributes:
        kind: `DATA_PAGE`, `DICTIONARY_PAGE`, `DATA_PAGE_V2`, ...
        encoding: Of its values.
        level_encoding: Of what says which values are NULL; empty for pages without.
        values: Their number, NULLs included.
        header_bytes: Length of the header itself.
        stored_bytes: Length of what follows it.
        bytes: The same, not compressed.
        crc: Of what follows it, or None.
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
    """The page header that `data` begins with.

    Raises:
        FooterError: It is none, or longer than `data`.
    """
    fields, end = read_struct(data)
    kind = _name_of(PAGES, needed_number(fields, 1))
    inside = struct_of(fields, {"DATA_PAGE": 5, "DICTIONARY_PAGE": 7}.get(kind, 0)) or {}
    encoding, level = number_of(inside, 2), number_of(inside, 3) if kind == "DATA_PAGE" else None
    page = Page(
        kind=kind,
        encoding="" if encoding is None else _name_of(ENCODINGS, encoding),
        level_encoding="" if level is None else _name_of(ENCODINGS, level),
        values=number_of(inside, 1) or 0,
        header_bytes=end,
        stored_bytes=needed_number(fields, 3),
        bytes=needed_number(fields, 2),
        crc=number_of(fields, 4),
    )
    if min(page.values, page.stored_bytes, page.bytes) < 0:
        raise FooterError("a page of less than no bytes")
    return page


def read_page(file: BinaryIO, at: int, end: int) -> Page:
    """The page header at a place of a file, of a column that ends at `end`.

    Raises:
        FooterError: There is none.
    """
    for nbytes in _PAGE_PROBES:
        file.seek(at)
        try:
            return parse_page(file.read(min(nbytes, end - at)))
        except FooterError:  # it may be longer: it holds the least and the largest value
            continue
    raise FooterError("no page")


# --- Cutting ------------------------------------------------------------------------------------------------------------------------


def spans(groups: Iterable[RowGroup], *, max_gap: int) -> list[tuple[int, int]]:
    """The bytes of row groups, first and after the last, in the order of the file; gaps of up to `max_gap` bytes are not left out."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((chunk.start, chunk.end) for group in groups for chunk in group.chunks):
        if found and start <= found[-1][1] + max_gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def moved_group(raw: bytes, ordinal: int, spans_at: Mapping[tuple[int, int], int]) -> bytes:
    """A row group whose data is elsewhere now.

    Args:
        raw: As it was written.
        ordinal: Its new number.
        spans_at: Bytes of the old file (first, after the last) -> where they are in the new one.
    """
    raw_columns: list[bytes] = []
    new, _ = read_struct(raw, taken={1: raw_columns})
    columns = [_moved_chunk(read_struct(column)[0], spans_at) for column in raw_columns]
    new[1] = (LIST, write_structs([column for column, _ in columns]))
    if 5 in new:  # noqa: PLR2004 - file_offset
        new[5] = (I64, write_integer(min(start for _, start in columns)))
    if 7 in new:  # noqa: PLR2004 - ordinal
        new[7] = (I16, write_integer(ordinal))
    return write_struct(new)


_ELSEWHERE_OF_CHUNK = (4, 5, 6, 7)
"""offset_index_offset, offset_index_length, column_index_offset, column_index_length"""
_ELSEWHERE_OF_META = (14, 15)
"""bloom_filter_offset, bloom_filter_length"""
_OFFSETS_OF_META = (9, 10, 11)
"""data_page_offset, index_page_offset, dictionary_page_offset"""


def _moved_chunk(fields: Fields, spans_at: Mapping[tuple[int, int], int]) -> tuple[bytes, int]:
    """As it is written now, and where its data begins now."""
    chunk = _chunk(fields)
    shift = next(at - start for (start, end), at in spans_at.items() if start <= chunk.start and chunk.end <= end)
    meta = {number: value for number, value in (struct_of(fields, 3) or {}).items() if number not in _ELSEWHERE_OF_META}
    for number in _OFFSETS_OF_META:
        offset = number_of(meta, number)
        if offset is not None and offset > 0:
            meta[number] = (I64, write_integer(offset + shift))
    new = {number: value for number, value in fields.items() if number not in _ELSEWHERE_OF_CHUNK}
    new[3] = (STRUCT, write_struct(meta))
    offset = number_of(new, 2)
    if offset:  # deprecated; writers mean different things by it, all of them at or in the chunk
        new[2] = (I64, write_integer(offset + shift if chunk.start <= offset <= chunk.end else 0))
    return write_struct(new), chunk.start + shift


def framed(footer: bytes) -> bytes:
    """A footer as the end of a file."""
    return footer + len(footer).to_bytes(4, "little") + MAGIC


def footer_length(tail: bytes, file_bytes: int) -> int:
    """Length of the footer that the last `TAIL_BYTES` of a file tell.

    Raises:
        FooterError: It does not end like a Parquet file, or the footer would be larger than the file or than `MAX_FOOTER_BYTES`.
    """
    if len(tail) != TAIL_BYTES or tail[4:] != MAGIC:
        raise FooterError("it does not end like a Parquet file")
    length = int.from_bytes(tail[:4], "little")
    if length > file_bytes - TAIL_BYTES - len(MAGIC):
        raise FooterError("a footer larger than its file")
    if length > MAX_FOOTER_BYTES:
        raise FooterError(f"a footer of {length} bytes")
    return length
