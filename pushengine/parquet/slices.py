"""Parquet files as chunks, without decoding them: whole files, or their row groups behind a footer of their own.

    piece = a file from its first to its last byte
          | "PAR1" row groups (bytes of one file, or of several small ones) footer

The bytes stay on disk until they are sent (`model.FileParts`). The same files give the same pieces, so a push is resumed by their numbers.

What makes a push faithful is checked all the same, before a piece is sent: the length and the encoding of every string, the years of
timestamps, keys without NULL. Only what has to be read for that is read: dictionaries instead of values where a column is in its
dictionary, the statistics of the footer instead of INT64 timestamps; keys are always read. Damage in other columns is for the platform to
find, which reads a file when it takes it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pushengine.errors import SchemaError, SourceChangedError, SourceReadError, unreadable
from pushengine.interfaces import SourceBatch
from pushengine.model import MAX_PAYLOAD_BYTES, FileParts, FileSlice, Payload
from pushengine.parquet.footer import MAGIC, MAX_FOOTER_BYTES, TAIL_BYTES, Chunk, framed, moved_group, spans
from pushengine.parquet.page_checks import has_short_texts, has_sure_stamps
from pushengine.schema.inference import Column, TableSchema, conform

if TYPE_CHECKING:
    from pushengine.interfaces import FileSystem
    from pushengine.parquet.eligibility import Layout

WHOLE_FILE_PIECES = 2
"""A file that is not longer than this many pieces is not cut."""
_FEW_PIECES = 16
"""So many are enough to keep all uploads busy from the first to the last."""
_SMALL_PIECE_BYTES = 8 * 1024 * 1024
"""Smaller ones would only be more requests."""
MEMORY_BYTES = 2 * 1024 * 1024
"""Rows of one check; the producer reserves `RESERVE_FACTOR` times as much, 20 MiB. A glance takes two times a page, of at most 8 MiB each;
Arrow takes two times a page as well, a batch of rows and a buffer. Only pages of more than 8 MiB, which go to Arrow, may take more than
is reserved: it cannot read a part of a page. Writers make pages of 1 MiB."""
_MAX_EXTRA_BYTES = 1024 * 1024
"""What a file may hold outside of row groups and footer, to be sent as a whole: page indexes and the like."""
_MAX_ROW_GROUPS = 32_000
"""Of a piece: their ordinals have 16 bits."""
_MAX_GAP_BYTES = 16 * 1024
_HASHED_BYTES = 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_BATCH_BYTES = 2 * 1024 * 1024
_MAX_BATCH_ROWS = 65_536
_MIN_BATCH_ROWS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Row groups of one file, next to each other.

    Attributes:
        layout: The file.
        first: Number of the first one, from 0.
        end: Number after the last.
        first_row: Row of the file that they begin with.
    """

    layout: Layout
    first: int
    end: int
    first_row: int

    @property
    def nbytes(self) -> int:
        """Bytes of their data."""
        return sum(nbytes for _, nbytes in self.layout.groups[self.first : self.end])

    @property
    def rows(self) -> int:
        """How many."""
        return sum(rows for rows, _ in self.layout.groups[self.first : self.end])

    @property
    def is_whole(self) -> bool:
        """It is all row groups of the file."""
        return self.end - self.first == len(self.layout.groups)

    @property
    def is_file(self) -> bool:
        """It is the file, byte for byte."""
        layout = self.layout
        extra = layout.nbytes - len(MAGIC) - layout.data_bytes - layout.footer.nbytes - TAIL_BYTES
        return self.is_whole and extra <= _MAX_EXTRA_BYTES and layout.nbytes <= MAX_PAYLOAD_BYTES


@dataclasses.dataclass(frozen=True, slots=True)
class FilePiece:
    """A chunk that lies in files; flows like a `chunking.Chunk`.

    Attributes:
        chunk_id: `000000`, `000001`, ...
        runs: What it holds.
        source_rows: Half-open range of rows of the whole source.
    """

    chunk_id: str
    runs: tuple[Run, ...]
    source_rows: tuple[int, int]

    @property
    def rows(self) -> int:
        """Number of rows; at least one."""
        return self.source_rows[1] - self.source_rows[0]

    @property
    def nbytes(self) -> int:
        """What it takes in memory, not on disk."""
        return MEMORY_BYTES

    @property
    def disk_bytes(self) -> int:
        """What it takes on disk."""
        return sum(run.nbytes for run in self.runs)


# --- Cutting ------------------------------------------------------------------------------------------------------------------------


def cut(layouts: Sequence[Layout], max_piece_bytes: int) -> list[FilePiece]:
    """The pieces of all files, in order.

    A file is one piece, but for large ones, which are cut at row groups, and small ones next to each other, which are joined if their
    footers allow it. Pieces are as large as a chunk may be, or smaller where there would be few: several connections are faster than one.
    """
    total = sum(layout.data_bytes for layout in layouts)
    piece_bytes = min(max(total // _FEW_PIECES, _SMALL_PIECE_BYTES), max_piece_bytes)
    pieces: list[FilePiece] = []
    row = 0
    for runs in _joined([run for layout in layouts for run in _runs(layout, piece_bytes)], piece_bytes):
        rows = sum(run.rows for run in runs)
        pieces.append(FilePiece(f"{len(pieces):06d}", tuple(runs), (row, row + rows)))
        row += rows
    return pieces


def _runs(layout: Layout, piece_bytes: int) -> Iterator[Run]:
    most = min(piece_bytes * WHOLE_FILE_PIECES, MAX_PAYLOAD_BYTES - MAX_FOOTER_BYTES)
    limit = most if layout.data_bytes <= most else piece_bytes
    first = first_row = rows = total = 0
    for index, (group_rows, nbytes) in enumerate(layout.groups):
        if index > first and (total + nbytes > limit or index - first == _MAX_ROW_GROUPS):
            yield Run(layout, first, index, first_row)
            first, first_row, total = index, rows, 0
        rows += group_rows
        total += nbytes
    if rows:
        yield Run(layout, first, len(layout.groups), first_row)


def _joined(runs: Sequence[Run], piece_bytes: int) -> Iterator[list[Run]]:
    waiting: list[Run] = []
    total = groups = 0
    for run in runs:
        nbytes, count = run.nbytes, run.end - run.first
        if waiting and not (
            total + nbytes <= piece_bytes
            and groups + count <= _MAX_ROW_GROUPS
            and run.is_whole
            and waiting[0].is_whole
            and run.layout.footer.is_like(waiting[0].layout.footer)
        ):
            yield waiting
            waiting, total, groups = [], 0, 0
        waiting.append(run)
        total += nbytes
        groups += count
    if waiting:
        yield waiting


class PieceReader:
    """The pieces one after the other, as a `chunking.ChunkReader` gives chunks."""

    def __init__(self, pieces: Sequence[FilePiece], *, first_index: int = 0, first_row: int = 0) -> None:
        self.first_row = first_row
        self._pieces = pieces
        self._next = first_index
        self._bytes_read = sum(piece.disk_bytes for piece in pieces[:first_index])
        self._is_stopped = False

    def next_chunk(self) -> FilePiece | None:
        """The next one; None at the end, or once stopped."""
        if self._is_stopped or self._next >= len(self._pieces):
            return None
        piece = self._pieces[self._next]
        self._next += 1
        self._bytes_read += piece.disk_bytes
        return piece

    def stop(self) -> None:
        """Let `next_chunk()` return None; from any thread."""
        self._is_stopped = True

    def bytes_read(self) -> int:
        """Bytes of the pieces given so far."""
        return self._bytes_read


# --- What is sent -------------------------------------------------------------------------------------------------------------------


def checked_payload(
    piece: FilePiece, schema: TableSchema, *, digests: Sequence[str], filesystem: FileSystem
) -> Payload:
    """Check every value of a piece that needs it, and say where its bytes are. Runs on encoder threads.

    Raises:
        ValueMisfitError: A value outside this schema, which a schema settled from the whole source would hold.
        SchemaError: A key without value, or a value that the target cannot hold.
        SourceReadError: A file is damaged, gone, or shorter than it was.
    """
    for run in piece.runs:
        _check(run, schema, filesystem)
    data = parts_of(piece)
    return Payload(
        chunk_id=piece.chunk_id,
        data=data,
        rows=piece.rows,
        source_rows=piece.source_rows,
        digests=_digests(data, digests, filesystem),
    )


def parts_of(piece: FilePiece) -> FileParts:
    """The bytes of a piece."""
    first = piece.runs[0]
    if len(piece.runs) == 1 and first.is_file:
        return FileParts((FileSlice(first.layout.path, 0, first.layout.nbytes),))
    parts: list[bytes | FileSlice] = [MAGIC]
    groups: list[bytes] = []
    at = len(MAGIC)
    for run in piece.runs:
        footer = run.layout.footer
        numbers = range(run.first, run.end)
        places: dict[tuple[int, int], int] = {}
        for start, end in spans(map(footer.group, numbers), max_gap=_MAX_GAP_BYTES):
            parts.append(FileSlice(run.layout.path, start, end - start))
            places[start, end] = at
            at += end - start
        for number in numbers:
            groups.append(moved_group(footer.raw_group(number), len(groups), places))
    return FileParts((*parts, framed(first.layout.footer.built(piece.rows, groups))))


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
    with _reading(part.path, filesystem) as file:
        file.seek(part.offset)
        while left and (size := file.readinto(buffer[:left])):  # type: ignore[attr-defined]
            left -= size
            yield buffer[:size]
    if left:
        raise SourceReadError("the file became shorter", source=str(part.path), hint="push it when it is complete")


@contextlib.contextmanager
def _reading(path: Any, filesystem: FileSystem) -> Iterator[BinaryIO]:
    try:
        with filesystem.open_binary(path) as file:
            yield file
    except OSError as exc:
        raise unreadable(str(path), exc) from exc


# --- What is checked ----------------------------------------------------------------------------------------------------------------


def _check(run: Run, schema: TableSchema, filesystem: FileSystem) -> None:
    with _reading(run.layout.path, filesystem) as file:
        _Check(run, schema, file).run()


class _Check:
    """The values of a run that have to be looked at."""

    def __init__(self, run: Run, schema: TableSchema, file: BinaryIO) -> None:
        self._run = run
        self._schema = schema
        self._source = str(run.layout.path)
        self._file = file
        self._leaves = run.layout.footer.leaves or ()

    @functools.cached_property
    def _plain(self) -> Any:
        return self._opened(None, [])

    @functools.cached_property
    def _dictionaries(self) -> Any:
        return self._opened(self._plain.metadata, [leaf.name for leaf in self._leaves if leaf.kind == "STRING"])

    def _opened(self, metadata: Any, dictionaries: list[str]) -> Any:
        return pq.ParquetFile(
            self._file,
            metadata=metadata,
            read_dictionary=dictionaries,
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES,
            coerce_int96_timestamp_unit="ms",  # holds every INT96 without wrapping around
            page_checksum_verification=True,
        )

    def run(self) -> None:
        """All of it.

        Raises:
            SchemaError: A value does not fit.
            SourceReadError: Damaged data.
        """
        row = self._run.first_row
        for number in range(self._run.first, self._run.end):
            try:
                self._row_group(number, row)
            except IndexError as exc:  # it has been replaced by a shorter one
                raise SourceChangedError(
                    "changed while it was read", source=self._source, hint="push it when it is complete"
                ) from exc
            except (pa.ArrowException, OSError) as exc:
                raise self._damaged(str(exc).splitlines()[0][:200], number) from exc
            row += self._run.layout.groups[number][0]

    def _damaged(self, what: str, number: int) -> SourceReadError:
        return SourceReadError(
            f"not a readable Parquet file: {what}",
            source=self._source,
            position=f"row group {number + 1}",
            hint="is it complete?",
        )

    def _row_group(self, number: int, first_row: int) -> None:
        group = self._run.layout.footer.group(number)
        for index, (column, chunk) in enumerate(zip(self._schema.columns, group.chunks, strict=True)):
            if self._needs_reading(number, index, column) and not self._is_fine_at_a_glance(index, chunk):
                rows = self._column(number, index, chunk, first_row)
                if rows != group.rows:
                    raise self._damaged(
                        f"{rows} rows in column {column.name}, the footer promises {group.rows}", number
                    )

    def _needs_reading(self, number: int, index: int, column: Column) -> bool:
        leaf = self._leaves[index]
        if leaf.kind in ("STRING", "INT96"):
            return True
        if self._may_lack_key(index):
            return True
        if column.type != "DATETIME":
            return False
        told = self._plain.metadata.row_group(number).column(index).statistics
        return told is None or not _holds(column, told)

    def _is_fine_at_a_glance(self, index: int, chunk: Chunk) -> bool:
        column, leaf = self._schema.columns[index], self._leaves[index]
        if self._may_lack_key(index):
            return False
        if leaf.kind == "STRING":
            return has_short_texts(self._file, chunk, column.length or 0, is_required=leaf.is_required)
        return leaf.kind == "INT96" and has_sure_stamps(self._file, chunk, is_required=leaf.is_required)

    def _may_lack_key(self, index: int) -> bool:
        """A key is read whatever statistics say: they may be wrong, and keys are few."""
        return self._schema.columns[index].name in self._schema.keys and not self._leaves[index].is_required

    def _column(self, number: int, index: int, chunk: Chunk, first_row: int) -> int:
        """Check one column of a row group; returns how many rows it has."""
        column, leaf = self._schema.columns[index], self._leaves[index]
        if leaf.kind == "INT96":
            column = dataclasses.replace(column, arrow_type=pa.timestamp("ms"))
        schema = TableSchema((column,), tuple(key for key in self._schema.keys if key == column.name))
        file = self._dictionaries if leaf.kind == "STRING" and chunk.is_dictionary else self._plain
        told = self._plain.metadata.row_group(number).column(index)
        batch_rows = _BATCH_BYTES * max(told.num_values, 1) // max(told.total_uncompressed_size, 1)
        rows = 0
        for batch in file.iter_batches(
            batch_size=min(max(batch_rows, _MIN_BATCH_ROWS), _MAX_BATCH_ROWS),
            row_groups=[number],
            columns=[column.name],
            use_threads=False,
        ):
            array = batch.column(batch.schema.get_field_index(column.name))
            self._values(array, schema, first_row + rows)
            rows += len(array)
        return rows

    def _values(self, array: pa.Array, schema: TableSchema, first_row: int) -> None:
        name = schema.columns[0].name
        if pa.types.is_dictionary(array.type) and not (schema.keys and array.null_count):
            with contextlib.suppress(SchemaError):  # found again below, with its row, unless no row has it
                conform(TableSchema(schema.columns), SourceBatch(_named(name, array.dictionary), self._source, 0))
                return
        conform(schema, SourceBatch(_named(name, array), self._source, first_row))


def _holds(column: Column, told: Any) -> bool:
    """The least and the largest timestamp are there, and all right."""
    if not told.has_min_max:
        return False
    bounds = pa.array([told.min_raw, told.max_raw], pa.int64()).view(column.arrow_type)
    try:
        conform(TableSchema((column,)), SourceBatch(_named(column.name, bounds), "", 0))
    except SchemaError:
        return False
    return True


def _named(name: str, array: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([array], names=[name])
