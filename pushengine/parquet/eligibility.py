"""Decides which Parquet files are passed through: sent to the platform unchanged, without decoding and encoding them again.

Eligible are files that pushengine's own encoder could have written for the schema of the push: its types, its codec, V1 pages, PLAIN or
dictionary encoding, no nested columns. Nothing else has been seen to work on the platform. Either all files of a push are passed through or
none, so that all chunks of a job are of one kind. The reason why not (`ReencodeError`) is a sentence for users.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from pushengine.model import MAX_PAYLOAD_BYTES, FileRef
from pushengine.parquet.footer import (
    MAX_FOOTER_BYTES,
    TAIL_BYTES,
    ColumnChunk,
    Footer,
    Leaf,
    RowGroup,
    footer_length,
    read_page,
)
from pushengine.parquet.thrift_compact import FooterError
from pushengine.schema.times.stamps import CUT_TO_MICROS

if TYPE_CHECKING:
    from pushengine.config.settings import EngineSettings
    from pushengine.interfaces import FileSystem
    from pushengine.model import ColumnType
    from pushengine.schema.columns import TableSchema

_PLAIN_OR_DICTIONARY = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
_ENCODINGS = _PLAIN_OR_DICTIONARY | {"RLE", "BIT_PACKED"}
_SCHEMA_TYPES: dict[str, tuple[ColumnType, tuple[pa.DataType, ...]]] = {
    "BOOLEAN": ("BOOLEAN", (pa.bool_(),)),
    "INT64": ("INTEGER", (pa.int64(),)),
    "DOUBLE": ("FLOAT", (pa.float64(),)),
    "STRING": ("STRING", (pa.string(),)),
    "INT96": ("DATETIME", (pa.timestamp("us"),)),
    "INT64 TIMESTAMP(ms)": ("DATETIME", (pa.timestamp("ms"),)),
    "INT64 TIMESTAMP(us)": ("DATETIME", (pa.timestamp("us"),)),
    # Whole microseconds, which earlier versions planned as nanoseconds. Finer ones are cut, so their file is encoded again.
    "INT64 TIMESTAMP(ns)": ("DATETIME", (pa.timestamp("us"), pa.timestamp("ns"))),
}
_TIMESTAMPS = {
    "INT96": {"INT96"},
    "INT64": {f"INT64 TIMESTAMP({unit})" for unit in ("ms", "us", "ns")},
}
_ALL_TIMESTAMPS = _TIMESTAMPS["INT96"] | _TIMESTAMPS["INT64"]
_MANY_GROUPS = 256
_TINY_GROUP_BYTES = 16 * 1024
"""Row groups of fewer bytes are decoded and joined if there are many: each costs about as much as a thousand rows."""
_LARGE_FOOTER_BYTES = 1024 * 1024
_PARQUET_MR = re.compile(r"parquet-mr(?: version (\d+)\.(\d+)\.(\d+))?")
_FIRST_CORRECT_PARQUET_MR = (1, 2, 9)
"""Version 1.2.9. Before it, the size of a column did not include the header of its dictionary (PARQUET-816)."""


class ReencodeError(Exception):
    """The reason why Parquet files are decoded and encoded again."""


@dataclasses.dataclass(frozen=True, slots=True)
class ParquetLayout:
    """A file that can be passed through.

    Attributes:
        file: The file, as it was when its footer was read.
        footer: The footer of the file.
        groups: (rows, bytes of data) of each row group.
    """

    file: FileRef
    footer: Footer
    groups: tuple[tuple[int, int], ...]

    @property
    def data_bytes(self) -> int:
        """Number of bytes of data in all row groups."""
        return sum(nbytes for _, nbytes in self.groups)


def read_layouts(refs: Sequence[FileRef], filesystem: FileSystem, settings: EngineSettings) -> list[ParquetLayout]:
    """Read the footers of files and check them, along with some of the first pages. Blocking.

    Raises:
        ReencodeError: A file cannot be passed through.
        OSError: A file cannot be read.
    """
    if not settings.parquet_as_it_is:
        raise ReencodeError("parquet_as_it_is is off")
    if settings.file_type != "PARQUET":
        raise ReencodeError(f"file_type is {settings.file_type}")
    layouts: list[ParquetLayout] = []
    for ref in refs:
        layout = _read_layout(ref, filesystem, settings)
        if layouts and layout.footer.leaves != layouts[0].footer.leaves:
            raise ReencodeError(f"{ref.shown} and {layouts[0].file.shown} differ in column types or order")
        layouts.append(layout)
    return layouts


def require_schema(layouts: Sequence[ParquetLayout], schema: TableSchema) -> None:
    """Check that the columns of the files have the names and types of the push's schema.

    Raises:
        ReencodeError: The names differ, or a column is to be sent as another type.
    """
    leaves = layouts[0].footer.leaves or ()
    if not schema.is_source_order:
        raise ReencodeError("columns are renamed, left out or added")
    if [leaf.name for leaf in leaves] != [column.name for column in schema.columns]:
        raise ReencodeError("the column names in the file differ from those in the schema")
    for leaf, column in zip(leaves, schema.columns, strict=True):
        kind, arrow_types = _SCHEMA_TYPES[leaf.kind]
        if column.type != kind or column.arrow_type not in arrow_types:
            raise ReencodeError(f"column {leaf.name} is {leaf.kind} and is sent as {column.type}")
        if column.conversion == CUT_TO_MICROS.name:
            raise ReencodeError(f"column {leaf.name} has timestamps finer than a microsecond, which are cut")


def _read_layout(ref: FileRef, filesystem: FileSystem, settings: EngineSettings) -> ParquetLayout:
    try:
        ref = dataclasses.replace(filesystem.stat(ref), label=ref.label)
        with filesystem.open(ref) as file:
            file.seek(max(ref.size - TAIL_BYTES, 0))
            length = footer_length(file.read(TAIL_BYTES), ref.size)
            _require_small_footer(length, ref)
            file.seek(ref.size - TAIL_BYTES - length)
            footer = Footer(file.read(length))
            leaves = _checked_leaves(footer, settings)
            _require_large_groups(footer, ref)
            data_end = ref.size - TAIL_BYTES - length
            count = 0 if footer.is_empty else footer.group_count
            groups = [
                _checked_group(file, footer.group(i), leaves, data_end, settings, is_first_or_last=i in (0, count - 1))
                for i in range(count)
            ]
    except FooterError as exc:
        raise ReencodeError(f"the footer of {ref.shown} is not understood: {exc}") from exc
    except ReencodeError as exc:
        raise ReencodeError(f"{ref.shown}: {exc}") from None
    if sum(rows for rows, _ in groups) != footer.rows:
        raise ReencodeError(f"{ref.shown}: row groups and footer record different numbers of rows")
    return ParquetLayout(ref, footer, tuple(groups))


def _require_small_footer(length: int, ref: FileRef) -> None:
    """Reject a file that is not even worth parsing its footer, because that is much of the file.

    Raises:
        ReencodeError: It is such a file.
    """
    if length > max(_LARGE_FOOTER_BYTES, ref.size // 4):
        raise ReencodeError(f"{length:,} of its {ref.size:,} bytes describe tiny row groups or columns")


def _require_large_groups(footer: Footer, ref: FileRef) -> None:
    """Reject a file of many tiny row groups: with their rows joined, it is smaller and read faster.

    Raises:
        ReencodeError: It is such a file.
    """
    if footer.group_count > _MANY_GROUPS and ref.size < footer.group_count * _TINY_GROUP_BYTES:
        raise ReencodeError(f"there are {footer.group_count:,} tiny row groups")


def _checked_leaves(footer: Footer, settings: EngineSettings) -> tuple[Leaf, ...]:
    footer.key_values  # noqa: B018 - parsed here, where a defect is a reason
    if footer.is_encrypted:
        raise ReencodeError("there are encrypted columns")
    if footer.leaves is None:
        raise ReencodeError("there are nested columns")
    if (writer := _PARQUET_MR.match(footer.created_by)) and tuple(
        int(part or 0) for part in writer.groups()
    ) < _FIRST_CORRECT_PARQUET_MR:
        raise ReencodeError("parquet-mr before 1.2.9 may have recorded wrong column sizes")
    for leaf in footer.leaves:
        if leaf.kind not in _SCHEMA_TYPES:
            raise ReencodeError(f"column {leaf.name} is {leaf.kind}")
        if leaf.kind in _ALL_TIMESTAMPS and leaf.kind not in _TIMESTAMPS[settings.timestamps]:
            raise ReencodeError(
                f"column {leaf.name} is {leaf.kind}, but the setting timestamps is {settings.timestamps}"
            )
    return footer.leaves


def _checked_group(
    file: BinaryIO,
    group: RowGroup,
    leaves: Sequence[Leaf],
    data_end: int,
    settings: EngineSettings,
    *,
    is_first_or_last: bool,
) -> tuple[int, int]:
    if [chunk.name for chunk in group.chunks] != [leaf.name for leaf in leaves]:
        raise ReencodeError("a row group has different columns")
    for chunk, leaf in zip(group.chunks, leaves, strict=True):
        reason = _why_not_chunk(chunk, group.rows, data_end, settings) or _why_not_levels(chunk, leaf)
        # The footer is trusted, but some writers record a wrong version of pages, or none. So check the first data page of each column
        # in the first and the last row group, and wherever the footer lists no data pages.
        if not reason and (is_first_or_last or not any(kind == "DATA_PAGE" for kind, _ in chunk.pages)):
            reason = _why_not_page(file, chunk, leaf)
        if reason:
            raise ReencodeError(f"column {chunk.name} {reason}")
    if group.nbytes > MAX_PAYLOAD_BYTES - MAX_FOOTER_BYTES:
        raise ReencodeError(f"a row group has {group.nbytes} bytes, more than a chunk may have")
    return group.rows, group.nbytes


def _why_not_levels(chunk: ColumnChunk, leaf: Leaf) -> str | None:
    """Return why Arrow cannot be asked about a column: if the histograms have other lengths, it ends the process (Arrow 26)."""
    repetition, definition = chunk.level_counts
    fits = repetition in (0, 1) and definition in (0, 1 if leaf.is_required else 2)
    return None if fits else "has size statistics that contradict the schema"


def _why_not_chunk(chunk: ColumnChunk, rows: int, data_end: int, settings: EngineSettings) -> str | None:
    codec = "UNCOMPRESSED" if settings.compression == "NONE" else settings.compression
    pages = {kind for kind, _ in chunk.pages} - {"DATA_PAGE", "DICTIONARY_PAGE"}
    encodings = (chunk.encodings - _ENCODINGS) | ({encoding for _, encoding in chunk.pages} - _PLAIN_OR_DICTIONARY)
    if not chunk.is_readable:
        return "is encrypted or in another file"
    if chunk.codec not in ("UNCOMPRESSED", codec):
        return f"is compressed with {chunk.codec}"
    if encodings:
        return f"is encoded as {min(encodings)}"
    if pages:
        return f"has pages of kind {min(pages)}"
    if chunk.values != rows or rows <= 0:
        return f"has {chunk.values} values for {rows} rows"
    return None if chunk.start < chunk.end <= data_end and chunk.data_start < chunk.end else "lies outside its file"


def _why_not_page(file: BinaryIO, chunk: ColumnChunk, leaf: Leaf) -> str | None:
    try:
        page = read_page(file, chunk.data_start, chunk.end)
    except FooterError:
        return "has a page that is not understood"
    if page.kind != "DATA_PAGE":
        return f"has pages of kind {page.kind}"
    if page.encoding not in _PLAIN_OR_DICTIONARY:
        return f"is encoded as {page.encoding}"
    if page.level_encoding != "RLE" and not leaf.is_required:
        return f"has levels encoded as {page.level_encoding}"
    return None
