"""Cheap checks on raw Parquet pages, for a fraction of the cost of decoding them.

True means that every value is valid. False does not mean that a value is invalid: Arrow has to decode the values and check them. That
includes damaged pages.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import pyarrow as pa

from pushengine.parquet.footer import ColumnChunk, Page, read_page
from pushengine.parquet.thrift_compact import FooterError
from pushengine.schema.times import int96

_MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Largest page checked here. A page is held twice: compressed and decompressed, or with and without its levels. `slices.MEMORY_BYTES`
relies on this limit."""
_MAX_STRINGS_ONE_BY_ONE = 5_000
"""Most strings of a page that are checked one by one; Arrow is faster for more."""
_CODECS = {"SNAPPY": "snappy", "ZSTD": "zstd"}


def has_short_strings(file: BinaryIO, chunk: ColumnChunk, max_length: int, *, is_required: bool) -> bool:
    """Return whether all values are certainly UTF-8 strings of at most `max_length` bytes."""
    return _all_pages(file, chunk, lambda values: _are_short_strings(values, max_length), is_required=is_required)


def has_safe_timestamps(
    file: BinaryIO, chunk: ColumnChunk, *, is_required: bool, allows_finer: bool, first_day: int
) -> bool:
    """Return whether all INT96 timestamps are certainly such that the platform can hold them.

    Args:
        file: The open file.
        chunk: The column of a row group.
        is_required: Whether the column cannot contain NULL.
        allows_finer: Whether they may be finer than a microsecond.
        first_day: First Julian day that they may have.
    """

    def are_safe(values: bytes) -> bool:
        if len(values) % int96.NBYTES:
            return False
        stamps = int96.read_bytes(values, first_day=first_day)
        return stamps.is_valid and (allows_finer or not stamps.is_finer)

    return _all_pages(file, chunk, are_safe, is_required=is_required)


def _all_pages(file: BinaryIO, chunk: ColumnChunk, are_fine: Callable[[bytes], bool], *, is_required: bool) -> bool:
    try:
        return all(are_fine(values) for values in _stored(file, chunk, is_required=is_required))
    except (FooterError, pa.ArrowException, OSError):
        return False


def _stored(file: BinaryIO, chunk: ColumnChunk, *, is_required: bool) -> Iterator[bytes]:
    """Yield the PLAIN values page by page, and those of a dictionary once."""
    at, values, has_dictionary = chunk.start, 0, False
    while values < chunk.values:
        page = _page_at(file, at, chunk.end)
        is_dictionary = page.kind == "DICTIONARY_PAGE"
        has_dictionary = has_dictionary or is_dictionary
        if is_dictionary and chunk.is_dictionary:
            # All values are in the dictionary: the data pages need not be read.
            yield _payload(file, page, at, chunk.codec)
            return
        if is_dictionary or page.encoding == "PLAIN":
            payload = _payload(file, page, at, chunk.codec)
            yield payload if is_dictionary or is_required else _without_levels(page, payload)
        elif page.encoding not in ("RLE_DICTIONARY", "PLAIN_DICTIONARY") or not has_dictionary:
            raise FooterError("values of another encoding, or without their dictionary")
        values += 0 if is_dictionary else page.values
        at += page.header_bytes + page.stored_bytes


def _page_at(file: BinaryIO, at: int, end: int) -> Page:
    page = read_page(file, at, end)
    if page.kind not in ("DATA_PAGE", "DICTIONARY_PAGE") or at + page.header_bytes + page.stored_bytes > end:
        raise FooterError("no page of values")
    return page


def _payload(file: BinaryIO, page: Page, at: int, codec: str) -> bytes:
    if max(page.stored_bytes, page.bytes) > _MAX_PAGE_BYTES:
        raise FooterError("a huge page")
    file.seek(at + page.header_bytes)
    data = file.read(page.stored_bytes)
    if len(data) != page.stored_bytes:
        raise FooterError("a page that ends early")
    if page.crc is not None and zlib.crc32(data) != page.crc & 0xFFFFFFFF:
        raise FooterError("a damaged page")
    if codec in _CODECS:
        plain: bytes = pa.Codec(_CODECS[codec]).decompress(data, page.bytes, asbytes=True)
        return plain
    return data


def _without_levels(page: Page, payload: bytes) -> bytes:
    start = 4 + int.from_bytes(payload[:4], "little")
    if page.level_encoding != "RLE" or start > len(payload):
        raise FooterError("levels of another kind")
    return payload[start:]


def _are_short_strings(values: bytes, max_length: int) -> bool:
    if not values:
        return True
    length = int.from_bytes(values[:4], "little")
    # Strings of equal length, as keys and codes are, can be checked by a few bytes at fixed distances.
    stride = length + 4
    if length > max_length or stride > len(values):
        return False
    count, rest = divmod(len(values), stride)
    has_equal_lengths = not rest and all(values[at::stride] == values[at : at + 1] * count for at in range(4))
    if has_equal_lengths and values.isascii():  # includes the length bytes: one above 127 leads to the slower check
        return True
    return len(values) // 4 <= _MAX_STRINGS_ONE_BY_ONE * 8 and _are_valid_strings(values, max_length)


def _are_valid_strings(values: bytes, max_length: int) -> bool:
    """Check strings one by one."""
    is_ascii = values.isascii()
    at = count = 0
    while at < len(values):
        start = at + 4
        at = start + int.from_bytes(values[at:start], "little")
        count += 1
        if at - start > max_length or at > len(values) or count > _MAX_STRINGS_ONE_BY_ONE:
            return False
        if not is_ascii:
            try:
                values[start:at].decode()
            except UnicodeDecodeError:
                return False
    return True
