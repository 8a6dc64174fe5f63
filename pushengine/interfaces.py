"""The replaceable parts of the engine: a test, a simulation or another destination can supply its own implementation.

Only protocols and plain values: this module does no I/O and imports nothing heavy at run time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ParamSpec, Protocol, TypeVar

from pushengine.model import ChunkType, FileRef, Job, JobId, Payload, RemoteChunk, TableColumn, Target

if TYPE_CHECKING:
    import pyarrow as pa
P = ParamSpec("P")
T = TypeVar("T")
B_co = TypeVar("B_co", covariant=True)


class RowBlock(Protocol):
    """Consecutive rows of a source."""

    @property
    def nbytes(self) -> int:
        """Size of the rows as the source holds them, bytes. The chunk size limit applies to it."""
        ...

    @property
    def rows(self) -> int | None:
        """Number of rows; None if it is unknown until the block is decoded."""
        ...


class SourceBlock(RowBlock, Protocol):
    """Rows that have been read but not decoded yet; the encoder threads decode them."""

    def decode(self) -> SourceBatch:
        """Return the decoded rows. Called on encoder threads, possibly more than once.

        Raises:
            SourceReadError: The rows are malformed.
        """
        ...

    def located(self, batch: SourceBatch) -> SourceBatch:
        """Return the batch with its first row and line filled in. Slow: for error messages only."""
        ...

    def readable(self) -> ReadableRows:
        """Return the rows that can be decoded, and the others. Slow: only where rows may be rejected and `decode` or a later check failed.

        Raises:
            SourceReadError: The block cannot be decoded even without some of its rows.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class SourceBatch:
    """A record batch with its origin. It is also a block: one whose rows are already decoded.

    Attributes:
        batch: Rows as the source holds them; in text sources every column is a string column.
        source: File or object name, for error messages.
        first_row: Row number within the file at which the batch begins, from 0.
        first_line: Line number within the file at which the batch begins, from 1; None if unknown or the format has no lines.
        numbers: Number of each row, counted from `first_row`, if rows between them are left out; None if none are.
        nbytes: Arrow bytes that the rows refer to.
    """

    batch: pa.RecordBatch
    source: str
    first_row: int
    first_line: int | None = None
    numbers: Sequence[int] | None = None
    nbytes: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Arrow recounts at each access, so count once, on the thread that reads.
        object.__setattr__(self, "nbytes", int(self.batch.nbytes))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.batch.num_rows)

    def decode(self) -> SourceBatch:
        """Return this batch: it is already decoded."""
        return self

    def located(self, batch: SourceBatch) -> SourceBatch:
        """Return the batch unchanged: its position is already known."""
        return batch

    def readable(self) -> ReadableRows:
        """Return all rows: they are already decoded."""
        return ReadableRows(self)

    def number(self, index: int) -> int:
        """Return the number of the row at `index`, counted from `first_row`."""
        return index if self.numbers is None else int(self.numbers[index])

    def only(self, kept: Sequence[int]) -> SourceBatch:
        """Return the rows at these indices."""
        import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

        numbers = kept if self.numbers is None else [self.numbers[index] for index in kept]
        return dataclasses.replace(self, batch=self.batch.take(pa.array(kept, pa.int64())), numbers=numbers)


@dataclasses.dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file holds it.

    Attributes:
        text: The whole row without its line end, decoded.
        line: Line at which it begins, from 1.
        byte_position: Number of bytes of the file's text before it, after decompression and as UTF-8; None if it is not known.
    """

    text: str
    line: int
    byte_position: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class ReadableRows:
    """The rows of a block, where some may not be decodable.

    Attributes:
        batch: The rows that are decoded, with their numbers.
        ragged: Number within the block -> number of fields, for each row that has more or fewer than the header.
        fields: Number of fields that a row must have; 0 if no row can have another number.
        raw: Returns the rows with these numbers (ascending) as the file holds them; None if the source is not text.
    """

    batch: SourceBatch
    ragged: Mapping[int, int] = dataclasses.field(default_factory=dict)
    fields: int = 0
    raw: Callable[[Sequence[int]], list[RawRow]] | None = None

    @property
    def rows(self) -> int:
        """Number of rows, whether decoded or not."""
        return self.batch.rows + len(self.ragged)


@dataclasses.dataclass(frozen=True, slots=True)
class Doubt:
    """Something that speaks against the way in which a text file is read.

    Attributes:
        message: What was found.
        source: Name of the file.
        hint: The flags to go on with, each with its value.
        line: Line of the file, from 1; None if it is not about a single line.
    """

    message: str
    source: str
    hint: str
    line: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Structure:
    """How a text source is written, as far as its sample shows.

    Attributes:
        dialect: What was found or given: names of `config.CsvSettings` and their values, as plain JSON types.
        reason: Why the source is read so, and how sure that is, in a few words.
        doubts: What speaks against it, the worst first.
        notes: What the user should know about it.
    """

    dialect: Mapping[str, Any]
    reason: str = ""
    doubts: tuple[Doubt, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaGrant:
    """The ledger's reply to a request for one submit: a grant or a refusal.

    Attributes:
        granted: Whether the submit may be sent now.
        wait_seconds: If refused: time after which to ask again.
        reason: If refused: `second`, `hour`, `boundary` (too close to the full hour) or `server` (the server refuses submits).
        spent: Submits so far in this UTC hour, including this one if it was granted.
        warning: Message for people about anything that the ledger corrected in its own data; empty if nothing.
    """

    granted: bool
    wait_seconds: float
    reason: str
    spent: int
    warning: str = ""


class Destination(Protocol):
    """The service that receives chunks, such as the Data Push API. Each call is one attempt.

    A destination stages chunks in a job and makes them visible after submit. Every method raises the errors of `pushengine.errors`;
    `OutcomeUnknownError` means that the request may have taken effect although no response came. Cancelling a call leaves no
    socket open.
    """

    team: str
    """Host name of the team whose quota a submit spends."""

    async def create_job(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Create a job. The table does not change yet."""
        ...

    async def get_job(self, job_id: JobId) -> Job:
        """Read one job."""
        ...

    async def list_jobs(self) -> list[Job]:
        """Read all jobs of the pool."""
        ...

    async def delete_job(self, job_id: JobId) -> None:
        """Delete a job and its chunks. It is not an error if the job no longer exists."""
        ...

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """Send one chunk."""
        ...

    async def list_chunks(self, job_id: JobId, *, limit: int | None = None) -> list[RemoteChunk]:
        """Read the list of chunks that the job holds. What follows `limit` chunks may be left out: so many are too many already."""
        ...

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """Start the execution of a job. This is the call that counts against the quota."""
        ...

    async def table_columns(self, table: str, connection_id: str | None) -> list[TableColumn]:
        """Read the columns of a table that exists, in the order of the table; empty if there is no such table.

        The platform's own columns are left out, and so are columns whose type is not known. Lengths are in characters. A destination may
        know the types only roughly: see `model.may_be_listed_as`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


class FileSystem(Protocol):
    """The files that sources and uploads read.

    All methods except `read_ranges` block and are called on worker threads only. An OSError is passed on unchanged.
    """

    def list(self, pattern: str) -> list[FileRef]:
        """List the existing regular files that match a path, directory or glob, sorted; empty if there are none."""
        ...

    def stat(self, file: FileRef) -> FileRef:
        """Return the file's current size and version."""
        ...

    def open(self, file: FileRef) -> BinaryIO:
        """Open the file for reading; the result is seekable."""
        ...

    def read_ranges(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of ranges (offset, length) piece by piece, in the given order; ends early at the end of the file."""
        ...


class Lock(Protocol):
    """A lock that a process holds while it works on a push."""

    def release(self) -> None:
        """Release the lock; safe to call twice."""
        ...


class Slot(Protocol):
    """Permission of one push to read and upload, if only some pushes may do so at once. Waiting for quota or for DONE needs none."""

    async def acquire(self) -> None:
        """Wait for the permission; returns at once if it is held."""
        ...

    def release(self) -> None:
        """Give the permission back; safe to call twice."""
        ...


class OffLoop(Protocol):
    """A function that runs a blocking call on a thread and awaits it, such as `asyncio.to_thread`."""

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a thread and return its result."""
        ...


class Workers(Protocol):
    """Threads for blocking and CPU-bound work. A simulation runs the calls inline.

    Cancelling the awaiting task does not stop the running call; `aclose()` waits for it.
    """

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the single reader thread. Calls run in order; until `rest()`, they run on the same thread."""
        ...

    async def encode(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on one of the encoder threads."""
        ...

    def rest(self) -> None:
        """Keep no reader thread until the next read: a pass has ended, and the push may wait for hours."""
        ...

    async def aclose(self) -> None:
        """Wait for running calls and end the threads."""
        ...


class BlockReader(Protocol[B_co]):
    """One pass over a source, in order. Blocking; used on the reader thread only."""

    def __iter__(self) -> Iterator[B_co]:
        """Iterate over the blocks of the pass, in order."""
        ...

    rows_read: int | None
    """Number of rows from the start of the source to the end of the last block returned, including rows that `open(start_row)` skipped.
    None if row counts are unknown until blocks are decoded; no rows were skipped in that case."""

    def bytes_read(self) -> int | None:
        """Return how far the source has been read, in bytes of the source; None if unknown."""
        ...

    def stop(self) -> None:
        """Cancel: the search for a failing row may stop. Callable from any thread."""
        ...

    def close(self) -> None:
        """Close the files; safe to call twice."""
        ...


class Source(Protocol):
    """Rows to be pushed. Methods block; they are called on the reader thread only."""

    label: str
    """The source's name in messages: a path, a pattern or a type name."""
    is_text: bool
    """Whether all columns are read as strings and their types have to be inferred from the values (CSV)."""
    is_repeatable: bool
    """Whether the source can be read again and returns the same rows."""
    files: tuple[FileRef, ...]
    """The files that the source consists of; empty for objects in memory."""

    def size_bytes(self) -> int | None:
        """Return the size on disk or in memory; None if unknown."""
        ...

    def schema(self) -> pa.Schema:
        """Return the Arrow schema that all batches of all files share."""
        ...

    def sample(self, max_bytes: int) -> Iterator[SourceBlock]:
        """Yield batches for schema inference: all of a small source, parts of the files of a large one."""
        ...

    def structure(self, names: Sequence[str] = ()) -> Structure | None:
        """Return how the text is written, as far as the last sample showed; None for sources that are not text.

        Call it when the sample has been read.

        Args:
            names: Names of the table's columns, in order, if it exists: what a file without a header line may hold.
        """
        ...

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:
        """Start a pass over all rows, or over the rows from `start_row` onwards.

        A source that can seek starts at or shortly before `start_row` and returns the same blocks as a full pass would from there.
        Other sources start at the first row.
        """
        ...


class BlockStream(Protocol[B_co]):
    """One pass over a source, in order, for asynchronous code. Used by one task only."""

    rows_read: int | None
    """Same as `BlockReader.rows_read`."""
    bytes_read: int | None
    """How far the source has been read, in bytes of the source, up to the end of the last block returned; None if unknown."""

    async def next_block(self) -> B_co | None:
        """Return the next block; None after the last one or once stopped.

        Raises:
            SourceError: Raised by the source.
        """
        ...

    def stop(self) -> None:
        """Make `next_block()` return None, either at once or after the block being read."""
        ...

    async def aclose(self) -> None:
        """Stop, wait until no read is running, and close the files. Safe to call twice."""
        ...


class AsyncSource(Protocol):
    """Rows to be pushed, for asynchronous code: a `Source` run on the reader thread, or an asynchronous iterator."""

    label: str
    is_text: bool
    is_repeatable: bool
    files: tuple[FileRef, ...]

    async def size_bytes(self) -> int | None:
        """Same as `Source.size_bytes`."""
        ...

    async def schema(self) -> pa.Schema:
        """Same as `Source.schema`."""
        ...

    async def sample(self, max_bytes: int) -> BlockStream[SourceBlock]:
        """Same as `Source.sample`."""
        ...

    async def structure(self, names: Sequence[str] = ()) -> Structure | None:
        """Same as `Source.structure`."""
        ...

    async def open(self, start_row: int = 0) -> BlockStream[SourceBlock]:
        """Same as `Source.open`."""
        ...

    async def aclose(self) -> None:
        """Close what outlives a pass, such as the iterator that the caller passed in. Safe to call twice."""
        ...


class QuotaLedger(Protocol):
    """A record of how much of each team's submit quota is spent. Blocking; called off the event loop."""

    @property
    def submits_per_hour(self) -> int:
        """Number of grants per UTC hour."""
        ...

    @property
    def spacing_seconds(self) -> float:
        """Minimum time between two grants."""
        ...

    def reserve(self, team: str, server_now: float, host_now: float | None = None) -> QuotaGrant:
        """Grant one submit, or say how long to wait. A grant is never refunded.

        Hours follow the server's clock; the spacing between grants follows the host's clock.
        """
        ...

    def block(
        self,
        team: str,
        seconds: float,
        server_now: float,
        host_now: float | None = None,
        *,
        is_named: bool,
        reason: str,
    ) -> None:
        """Grant nothing for `seconds`, because the server refused a submit. A longer block stays in force.

        If the server did not name the time (`is_named` is false), this block ends at the next full hour at the latest.
        """
        ...

    def spent(self, team: str, server_now: float, host_now: float | None = None) -> int:
        """Return the number of submits so far in this hour."""
        ...

    def close(self) -> None:
        """Close the ledger's file."""
        ...
