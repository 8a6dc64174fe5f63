"""Parquet files as chunks, without decoding them: whole files, or their row groups behind a footer of their own.

    block = a file from its first to its last byte
          | "PAR1" row groups (bytes of one file, or of several small ones) footer

The bytes stay on disk until they are sent (`model.FileParts`). The same files give the same blocks, so a push is resumed by their numbers.

What makes a push faithful is checked all the same, before a block is sent: the length and the encoding of every string, the years of
timestamps, keys without NULL. Only what has to be read for that is read: dictionaries instead of values where a column is in its
dictionary, the statistics of the footer instead of INT64 timestamps; keys are always read. Damage in other columns is for the platform to
find, which reads a file when it takes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pushengine.errors import SourceChangedError, SourceReadError
from pushengine.interfaces import BlockReader, FileSystem
from pushengine.model import MAX_PAYLOAD_BYTES, FileParts, FileSlice, Payload
from pushengine.parquet.decoding import reading
from pushengine.parquet.footer import MAGIC, MAX_FOOTER_BYTES, framed, moved_group, spans
from pushengine.parquet.value_checks import Run, check_values
from pushengine.schema.columns import TableSchema

if TYPE_CHECKING:
    from pushengine.parquet.eligibility import ParquetLayout

WHOLE_FILE_BLOCKS = 2
"""A file that is not longer than this many blocks is not cut."""
_FEW_BLOCKS = 16
"""So many are enough to keep all uploads busy from the first to the last."""
_SMALL_BLOCK_BYTES = 8 * 1024 * 1024
"""Smaller ones would only be more requests."""
MEMORY_BYTES = 2 * 1024 * 1024
"""Rows of one check; the producer reserves `RESERVE_FACTOR` times as much, 20 MiB. A glance takes two times a page, of at most 8 MiB each;
Arrow takes two times a page as well, a batch of rows and a buffer. Only pages of more than 8 MiB, which go to Arrow, may take more than
is reserved: it cannot read a part of a page. Writers make pages of 1 MiB."""
_MAX_ROW_GROUPS = 32_000
"""Of a block: their ordinals have 16 bits."""
_MAX_GAP_BYTES = 16 * 1024
_HASHED_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class PassthroughBlock:
    """Rows that lie in files and are sent as they are: the content of one chunk (`interfaces.RowBlock`).

    Attributes:
        runs: What it holds.
        source_rows: Half-open range of rows of the whole source.
    """

    runs: tuple[Run, ...]
    source_rows: tuple[int, int]

    @property
    def rows(self) -> int:
        """Number of rows; at least one."""
        return self.source_rows[1] - self.source_rows[0]

    @property
    def nbytes(self) -> int:
        """What checking it takes in memory, not what it takes on disk. A block is as large as a chunk: none is joined with another."""
        return MEMORY_BYTES

    @property
    def disk_bytes(self) -> int:
        """What it takes on disk."""
        return sum(run.nbytes for run in self.runs)


# --- Cutting ------------------------------------------------------------------------------------------------------------------------


def cut(layouts: Sequence[ParquetLayout], max_block_bytes: int) -> list[PassthroughBlock]:
    """The blocks of all files, in order.

    A file is one block, but for large ones, which are cut at row groups, and small ones next to each other, which are joined if their
    footers allow it. Blocks are as large as a chunk may be, or smaller where there would be few: several connections are faster than one.
    """
    total = sum(layout.data_bytes for layout in layouts)
    block_bytes = min(max(total // _FEW_BLOCKS, _SMALL_BLOCK_BYTES), max_block_bytes)
    blocks: list[PassthroughBlock] = []
    row = 0
    for runs in _joined([run for layout in layouts for run in _runs(layout, block_bytes)], block_bytes):
        rows = sum(run.rows for run in runs)
        blocks.append(PassthroughBlock(tuple(runs), (row, row + rows)))
        row += rows
    return blocks


def _runs(layout: ParquetLayout, block_bytes: int) -> Iterator[Run]:
    most = min(block_bytes * WHOLE_FILE_BLOCKS, MAX_PAYLOAD_BYTES - MAX_FOOTER_BYTES)
    limit = most if layout.data_bytes <= most else block_bytes
    first = first_row = rows = total = 0
    for index, (group_rows, nbytes) in enumerate(layout.groups):
        if index > first and (total + nbytes > limit or index - first == _MAX_ROW_GROUPS):
            yield Run(layout, first, index, first_row)
            first, first_row, total = index, rows, 0
        rows += group_rows
        total += nbytes
    if rows:
        yield Run(layout, first, len(layout.groups), first_row)


def _joined(runs: Sequence[Run], block_bytes: int) -> Iterator[list[Run]]:
    waiting: list[Run] = []
    total = groups = 0
    for run in runs:
        nbytes, count = run.nbytes, run.end - run.first
        if waiting and not (
            total + nbytes <= block_bytes
            and groups + count <= _MAX_ROW_GROUPS
            and run.is_complete
            and waiting[0].is_complete
            and run.layout.footer.is_like(waiting[0].layout.footer)
        ):
            yield waiting
            waiting, total, groups = [], 0, 0
        waiting.append(run)
        total += nbytes
        groups += count
    if waiting:
        yield waiting


class PassthroughReader(BlockReader[PassthroughBlock]):
    """The blocks one after the other, from the one that begins with `start_row` on.

    Raises:
        SourceChangedError: None does: the files are not what they were when rows up to there were sent.
    """

    def __init__(self, blocks: Sequence[PassthroughBlock], *, label: str, start_row: int = 0) -> None:
        starts = [*(block.source_rows[0] for block in blocks), blocks[-1].source_rows[1] if blocks else 0]
        if start_row not in starts:
            raise SourceChangedError(f"cannot go on at row {start_row + 1}", source=label, hint="push it again")
        first = starts.index(start_row)
        self.rows_read = start_row
        self._blocks = blocks[first:]
        self._bytes_read = sum(block.disk_bytes for block in blocks[:first])

    def __iter__(self) -> Iterator[PassthroughBlock]:
        for block in self._blocks:
            self.rows_read = block.source_rows[1]
            self._bytes_read += block.disk_bytes
            yield block

    def bytes_read(self) -> int:
        """Bytes on disk of the blocks given so far."""
        return self._bytes_read

    def stop(self) -> None:
        """Nothing is looked for."""

    def close(self) -> None:
        """No file is open."""


# --- What is sent -------------------------------------------------------------------------------------------------------------------


def checked_payload(
    chunk_id: str, block: PassthroughBlock, schema: TableSchema, *, digests: Sequence[str], filesystem: FileSystem
) -> Payload:
    """Check every value of a block that needs it, and say where its bytes are. Runs on encoder threads.

    Raises:
        ValueMisfitError: A value outside this schema, which a schema settled from the whole source would hold.
        SchemaError: A key without value, or a value that the target cannot hold.
        SourceReadError: A file is damaged, gone, or shorter than it was.
    """
    for run in block.runs:
        check_values(run, schema, filesystem)
    data = parts_of(block)
    return Payload(
        chunk_id=chunk_id,
        data=data,
        rows=block.rows,
        source_rows=block.source_rows,
        digests=_digests(data, digests, filesystem),
    )


def parts_of(block: PassthroughBlock) -> FileParts:
    """The bytes of a block."""
    first = block.runs[0]
    if len(block.runs) == 1 and first.is_file:
        return FileParts((FileSlice(first.layout.file, 0, first.layout.file.size),))
    parts: list[bytes | FileSlice] = [MAGIC]
    groups: list[bytes] = []
    at = len(MAGIC)
    for run in block.runs:
        footer = run.layout.footer
        numbers = range(run.first, run.end)
        places: dict[tuple[int, int], int] = {}
        for start, end in spans(map(footer.group, numbers), max_gap=_MAX_GAP_BYTES):
            parts.append(FileSlice(run.layout.file, start, end - start))
            places[start, end] = at
            at += end - start
        for number in numbers:
            groups.append(moved_group(footer.raw_group(number), len(groups), places))
    return FileParts((*parts, framed(first.layout.footer.built(block.rows, groups))))


def _digests(data: FileParts, names: Sequence[str], filesystem: FileSystem) -> dict[str, str]:
    """One pass over the bytes for all of them."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names if name != "crc32"}
    crc = 0
    buffer = memoryview(bytearray(_HASHED_BYTES))
    for part in data.parts:
        for piece in [memoryview(part)] if isinstance(part, bytes) else _read(part, buffer, filesystem):
            for one in hashes.values():
                one.update(piece)
            crc = zlib.crc32(piece, crc) if "crc32" in names else crc
    return {name: f"{crc:08x}" if name == "crc32" else hashes[name].hexdigest() for name in names}


def _read(part: FileSlice, buffer: memoryview, filesystem: FileSystem) -> Iterator[memoryview]:
    left = part.nbytes
    with reading(part.file, filesystem) as file:
        file.seek(part.offset)
        while left and (size := file.readinto(buffer[:left])):  # type: ignore[attr-defined]
            left -= size
            yield buffer[:size]
    if left:
        raise SourceReadError("the file became shorter", source=part.file.uri, hint="push it when it is complete")


# --- What is checked ----------------------------------------------------------------------------------------------------------------
