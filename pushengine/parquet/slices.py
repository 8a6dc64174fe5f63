"""Cuts Parquet files into chunks without decoding them: whole files, or some of their row groups followed by a new footer.

    block = a file from its first to its last byte
          | "PAR1" row groups (bytes of one file, or of several small ones) footer

The bytes stay on disk until they are sent (`model.FileParts`). The same files always yield the same blocks, so that a resumed push finds
its chunks again. Before a block is sent, its values are checked as far as a faithful push requires (`value_checks.py`).
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
from pushengine.parquet.footer import MAGIC, MAX_FOOTER_BYTES, with_trailer
from pushengine.parquet.moving import Places, moved_group, spans
from pushengine.parquet.value_checks import Run, check_values, iter_columns
from pushengine.schema.columns import TableSchema

if TYPE_CHECKING:
    import pyarrow as pa

    from pushengine.parquet.eligibility import ParquetLayout

WHOLE_FILE_BLOCKS = 2
"""A file no larger than this number of blocks is not cut."""
_FEW_BLOCKS = 16
"""Number of blocks that is enough to keep all uploads busy from the first to the last."""
_SMALL_BLOCK_BYTES = 8 * 1024 * 1024
"""Blocks are not made smaller than this: that would only add requests."""
MEMORY_BYTES = 2 * 1024 * 1024
"""Size of the rows that a check decodes at a time. The producer reserves `RESERVE_FACTOR` times as much, 20 MiB. A check of raw pages
(`page_checks.py`) holds a page of at most 8 MiB twice; Arrow also holds a page twice, plus a batch of rows and a buffer. Only pages of more
than 8 MiB, which go to Arrow, may exceed the reservation, because Arrow cannot read part of a page. Writers usually make pages of 1 MiB."""
_MAX_ROW_GROUPS = 32_000
"""Most row groups in a block: their ordinals have 16 bits."""
_MAX_GAP_BYTES = 16 * 1024
_HASHED_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class PassthroughBlock:
    """Rows that are stored in files and sent unchanged: the content of one chunk (an `interfaces.RowBlock`).

    Attributes:
        runs: Row groups in the block, in order.
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
        """Memory that checking the block takes, not its size on disk. It fills a chunk, so that no two blocks are put into one."""
        return MEMORY_BYTES

    @property
    def disk_bytes(self) -> int:
        """Number of bytes of data on disk."""
        return sum(run.nbytes for run in self.runs)


# --- Cutting ------------------------------------------------------------------------------------------------------------------------


def cut(layouts: Sequence[ParquetLayout], max_block_bytes: int) -> list[PassthroughBlock]:
    """Return the blocks of all files, in order.

    A file becomes one block, with two exceptions. Large files are cut at row groups; adjacent small files are joined if their footers
    allow it. Blocks are as large as a chunk may be, or smaller if there would be only a few: several connections are faster than one.
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
    """An iterator over the blocks, from the one that begins at `start_row` onwards.

    Raises:
        SourceChangedError: No block begins there: the files have changed since the rows before `start_row` were sent.
    """

    def __init__(self, blocks: Sequence[PassthroughBlock], *, label: str, start_row: int = 0) -> None:
        starts = [*(block.source_rows[0] for block in blocks), blocks[-1].source_rows[1] if blocks else 0]
        if start_row not in starts:
            raise SourceChangedError(f"cannot continue at row {start_row + 1}", source=label, hint="push it again")
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
        """Return the number of bytes on disk of the blocks returned so far."""
        return self._bytes_read

    def stop(self) -> None:
        """Do nothing: there is no search that could stop."""

    def close(self) -> None:
        """Do nothing: no file is open."""


# --- Payloads -----------------------------------------------------------------------------------------------------------------------


def checked_payload(
    chunk_id: str, block: PassthroughBlock, schema: TableSchema, *, digests: Sequence[str], filesystem: FileSystem
) -> Payload:
    """Check the values of a block and return a payload that refers to its bytes on disk. Runs on encoder threads.

    Raises:
        ValueMisfitError: A value does not fit this schema, but would fit one inferred from the whole source.
        SchemaError: A key has no value, or the target cannot hold a value.
        SourceReadError: A file is damaged, has disappeared, or is shorter than it was.
    """
    # Damage in columns that this does not read is found by the platform, which reads a file when it accepts it.
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


def key_columns(block: PassthroughBlock, schema: TableSchema, filesystem: FileSystem) -> Iterator[pa.RecordBatch]:
    """Yield the key columns of a block's rows, as they would be sent. Runs on encoder threads.

    Raises:
        SourceReadError: A file is damaged, has disappeared, or is shorter than it was.
    """
    keys = TableSchema(tuple(column for column in schema.columns if column.name in schema.keys))
    for run in block.runs:
        yield from iter_columns(run, keys, filesystem)


def parts_of(block: PassthroughBlock) -> FileParts:
    """Return the bytes of a block, as slices of files and a new footer if it needs one."""
    first = block.runs[0]
    if len(block.runs) == 1 and first.is_file:
        return FileParts((FileSlice(first.layout.file, 0, first.layout.file.size),))
    parts: list[bytes | FileSlice] = [MAGIC]
    groups: list[bytes] = []
    at = len(MAGIC)
    for run in block.runs:
        footer = run.layout.footer
        numbers = range(run.first, run.end)
        at_of: dict[tuple[int, int], int] = {}
        for start, end in spans(map(footer.group, numbers), max_gap=_MAX_GAP_BYTES):
            parts.append(FileSlice(run.layout.file, start, end - start))
            at_of[start, end] = at
            at += end - start
        places = Places(at_of)
        for number in numbers:
            groups.append(moved_group(footer.raw_group(number), len(groups), places))
    return FileParts((*parts, with_trailer(first.layout.footer.with_groups(block.rows, groups))))


def _digests(data: FileParts, names: Sequence[str], filesystem: FileSystem) -> dict[str, str]:
    """Compute all digests in one pass over the bytes."""
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
        raise SourceReadError("the file became shorter", source=part.file.shown, hint="push it when it is complete")
