"""Row groups that move from one file to another: which bytes they are, and their part of the footer rewritten."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Iterable, Mapping

from pushengine.parquet.footer import RowGroup, chunk_of
from pushengine.parquet.thrift_compact import (
    I16,
    I64,
    LIST,
    STRUCT,
    Fields,
    FooterError,
    number_of,
    offsets,
    read_struct,
    struct_of,
    write_integer,
    write_struct,
    write_structs,
)


def spans(groups: Iterable[RowGroup], *, max_gap: int) -> list[tuple[int, int]]:
    """Return the byte ranges of row groups as (first, after the last), in file order.

    Ranges that are at most `max_gap` bytes apart are merged into one, including the gap.
    """
    found: list[tuple[int, int]] = []
    for start, end in sorted((chunk.start, chunk.end) for group in groups for chunk in group.chunks):
        if found and start <= found[-1][1] + max_gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


class Places:
    """Where byte ranges of one file are in another file.

    Args:
        at: Byte range in the old file (first, after the last) -> its offset in the new one. Ranges do not overlap.
    """

    def __init__(self, at: Mapping[tuple[int, int], int]) -> None:
        self._ranges = sorted((start, end, new) for (start, end), new in at.items())

    def shift(self, start: int, end: int) -> int:
        """Return how far a range of bytes has moved.

        Raises:
            FooterError: It is not within one of the ranges.
        """
        index = bisect.bisect_right(self._ranges, start, key=operator.itemgetter(0)) - 1
        if index < 0 or end > self._ranges[index][1]:
            raise FooterError("a column outside of the bytes that are sent")
        return self._ranges[index][2] - self._ranges[index][0]


def moved_group(raw: bytes, ordinal: int, places: Places) -> bytes:
    """Return a row group rewritten for a file to which its data has moved.

    Args:
        raw: The row group as written in the old file.
        ordinal: Number of the row group in the new file.
        places: Where its data is in the new file.
    """
    starts = offsets()
    new, _ = read_struct(raw, extracted={1: starts})
    columns = [_moved_chunk(read_struct(raw, at)[0], places) for at in starts[:-1]]
    new[1] = (LIST, write_structs([column for column, _ in columns]))
    if 5 in new:  # noqa: PLR2004 - file_offset
        new[5] = (I64, write_integer(min(start for _, start in columns)))
    if 7 in new:  # noqa: PLR2004 - ordinal
        new[7] = (I16, write_integer(ordinal))
    return write_struct(new)


_CHUNK_POINTERS_OUTSIDE = (4, 5, 6, 7)
"""Fields offset_index_offset, offset_index_length, column_index_offset and column_index_length."""
_META_POINTERS_OUTSIDE = (14, 15)
"""Fields bloom_filter_offset and bloom_filter_length."""
_META_OFFSETS = (9, 10, 11)
"""Fields data_page_offset, index_page_offset and dictionary_page_offset."""


def _moved_chunk(fields: Fields, places: Places) -> tuple[bytes, int]:
    """Return the rewritten column of a row group, and the offset of its data in the new file."""
    chunk = chunk_of(fields)
    shift = places.shift(chunk.start, chunk.end)
    meta = {
        number: value for number, value in (struct_of(fields, 3) or {}).items() if number not in _META_POINTERS_OUTSIDE
    }
    for number in _META_OFFSETS:
        offset = number_of(meta, number)
        if offset is not None and offset > 0:
            meta[number] = (I64, write_integer(offset + shift))
    new = {number: value for number, value in fields.items() if number not in _CHUNK_POINTERS_OUTSIDE}
    new[3] = (STRUCT, write_struct(meta))
    offset = number_of(new, 2)
    # Deprecated file_offset: writers disagree on where it points, but it is always in the column or at its end.
    if offset:
        new[2] = (I64, write_integer(offset + shift if chunk.start <= offset <= chunk.end else 0))
    return write_struct(new), chunk.start + shift
