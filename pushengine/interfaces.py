"""The seams of the engine: what is passed in so that a test, a simulation or another destination can take its place.

Protocols and plain values only: no I/O, and nothing heavy is imported at run time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, ParamSpec, Protocol, TypeVar

from pushengine.model import ChunkType, FileRef, Job, JobId, Payload, RemoteChunk, TableColumn, Target

if TYPE_CHECKING:
    import pyarrow as pa

P = ParamSpec("P")
T = TypeVar("T")
B_co = TypeVar("B_co", covariant=True)


class RowBlock(Protocol):
    """Some rows of a source, next to each other."""

    @property
    def nbytes(self) -> int:
        """Size as the source has them; what chunks are cut by."""
        ...

    @property
    def rows(self) -> int | None:
        """How many, or None where only decoding tells."""
        ...


class SourceBlock(RowBlock, Protocol):
    """Rows that are read but not decoded yet: that is done where there are threads for it."""

    def decode(self) -> SourceBatch:
        """The rows. Called on encoder threads, possibly more than once.

        Raises:
            SourceReadError: They are malformed.
        """
        ...

    def located(self, batch: SourceBatch) -> SourceBatch:
        """The same batch with the row and line that it begins with: slow, for error messages only."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class SourceBatch:
    """A record batch and where it came from; the block whose rows are decoded already.

    Attributes:
        batch: Rows as the source has them; text sources give all columns as strings.
        source: File or object name, for error messages.
        first_row: Row of the file that the batch begins with, from 0.
        first_line: Line of the file that the batch begins with, from 1, or None where lines mean nothing or are not known.
        nbytes: Arrow bytes that the rows refer to. Counted here, on the thread that reads: Arrow counts anew at each request.
    """

    batch: pa.RecordBatch
    source: str
    first_row: int
    first_line: int | None = None
    nbytes: int = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nbytes", int(self.batch.nbytes))

    @property
    def rows(self) -> int:
        """How many."""
        return int(self.batch.num_rows)

    def decode(self) -> SourceBatch:
        """Itself."""
        return self

    def located(self, batch: SourceBatch) -> SourceBatch:
        """The same: it knows where it begins."""
        return batch


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaGrant:
    """The ledger's answer to a request for one submit.

    Attributes:
        granted: The submit may leave now.
        wait_seconds: Else: ask again after this time.
        reason: Else: `second`, `hour`, `boundary` (too near to the full hour) or `server` (the server said so).
        spent: Submits of this UTC hour so far, this one included.
        warning: What the ledger had to correct in itself, for people; empty if nothing.
    """

    granted: bool
    wait_seconds: float
    reason: str
    spent: int
    warning: str = ""


class Destination(Protocol):
    """Where chunks go. The Data Push API is one; each call is one attempt.

    A destination stages chunks in a job and makes them visible at submit. Every method raises the errors of `pushengine.errors`;
    `OutcomeUnknownError` where the request may have been done although no answer came. Cancelling a call leaves no open socket
    behind it.
    """

    team: str
    """Whose quota a submit spends: the team's host."""

    async def create_job(self, target: Target, columns: Sequence[TableColumn]) -> Job:
        """Open a job; nothing is visible in the table yet."""
        ...

    async def get_job(self, job_id: JobId) -> Job:
        """Read one job."""
        ...

    async def list_jobs(self) -> list[Job]:
        """Read all jobs of the pool."""
        ...

    async def delete_job(self, job_id: JobId) -> None:
        """Delete a job and its chunks; a job that is gone already is no error."""
        ...

    async def upload_chunk(self, job_id: JobId, payload: Payload, kind: ChunkType) -> None:
        """Send one chunk."""
        ...

    async def list_chunks(self, job_id: JobId) -> list[RemoteChunk]:
        """Read what the job holds."""
        ...

    async def submit_job(self, job_id: JobId, *, duplicate_removal_column: str | None) -> None:
        """Start the execution; the call that the quota counts."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class FileSystem(Protocol):
    """Files as sources and uploads see them. All but `read_ranges` blocks and is called on worker threads only; OSError comes as it is."""

    def list(self, pattern: str) -> list[FileRef]:
        """Existing regular files that a path, directory or glob means, sorted; empty if none."""
        ...

    def stat(self, file: FileRef) -> FileRef:
        """The file as it is now."""
        ...

    def open(self, file: FileRef) -> BinaryIO:
        """Open for reading; seekable."""
        ...

    def read_ranges(self, file: FileRef, ranges: Sequence[tuple[int, int]]) -> AsyncGenerator[bytes, None]:
        """The bytes of ranges (offset, length), in their order and some at a time; ends early where the file does."""
        ...


class Lock(Protocol):
    """Held while a push is worked on."""

    def release(self) -> None:
        """Let others have it; safe to call twice."""
        ...


class OffLoop(Protocol):
    """Runs a blocking call on a thread and awaits it; `asyncio.to_thread` is one."""

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run it."""
        ...


class Workers(Protocol):
    """Threads for blocking and CPU-bound work. A simulation runs the calls inline.

    Cancelling the awaiting task does not stop the running call; `aclose()` waits for it.
    """

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run on the one reader thread, in order."""
        ...

    async def encode(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run on one of the encoder threads."""
        ...

    async def aclose(self) -> None:
        """Wait for running calls and end the threads."""
        ...


class BlockReader(Protocol[B_co]):
    """One pass over a source, in order. Blocking; used on the reader thread only."""

    def __iter__(self) -> Iterator[B_co]:
        """The blocks from the start to the end."""
        ...

    rows_read: int | None
    """Rows of the whole source up to the end of the last block given; rows that `open(start_row)` skipped count too. None where blocks do
    not know their rows before they are decoded: then nothing was skipped."""

    def bytes_read(self) -> int | None:
        """How far the source has been read in its own bytes, or None where that is not known."""
        ...

    def stop(self) -> None:
        """Cancel: the search for the row of an error may stop. From any thread."""
        ...

    def close(self) -> None:
        """Release files; safe to call twice."""
        ...


class Source(Protocol):
    """Rows to be pushed. Methods block; they are called on the reader thread only."""

    label: str
    """What messages call it: a path, a pattern or a type name."""
    is_text: bool
    """All columns come as strings and their types are to be found out from the values (CSV)."""
    is_repeatable: bool
    """Can be read a second time and gives the same rows."""
    files: tuple[FileRef, ...]
    """The files behind it; none for objects in memory."""

    def size_bytes(self) -> int | None:
        """Size on disk or in memory, or None where unknown."""
        ...

    def schema(self) -> pa.Schema:
        """The Arrow schema of all batches, of all files as one table."""
        ...

    def sample(self, max_bytes: int) -> Iterator[SourceBatch]:
        """Some batches from which a schema is inferred: all of a small source, parts of each file of a large one."""
        ...

    def open(self, start_row: int = 0) -> BlockReader[SourceBlock]:
        """Begin a pass over all rows, or over those from `start_row` on.

        A source that can find a row without reading all before it begins near it, with the blocks that a full pass would give there;
        others begin with the first row.
        """
        ...


class BlockStream(Protocol[B_co]):
    """One pass over a source, in order, for asynchronous code and one task."""

    rows_read: int | None
    """As `BlockReader.rows_read`."""
    bytes_read: int | None
    """How far the source has been read in its own bytes, up to the end of the last block given; None where that is not known."""

    async def next_block(self) -> B_co | None:
        """The next block; None after the last one, or once stopped.

        Raises:
            SourceError: From the source.
        """
        ...

    def stop(self) -> None:
        """Let `next_block()` return None: at once, or after the block that is being read."""
        ...

    async def aclose(self) -> None:
        """Stop, and release files once no read is running any more. Safe to call twice."""
        ...


class AsyncSource(Protocol):
    """Rows to be pushed, for asynchronous code: a `Source` behind the reader thread, or an asynchronous iterator."""

    label: str
    is_text: bool
    is_repeatable: bool
    files: tuple[FileRef, ...]

    async def size_bytes(self) -> int | None:
        """As `Source.size_bytes`."""
        ...

    async def schema(self) -> pa.Schema:
        """As `Source.schema`."""
        ...

    async def sample(self, max_bytes: int) -> BlockStream[SourceBlock]:
        """As `Source.sample`."""
        ...

    async def open(self, start_row: int = 0) -> BlockStream[SourceBlock]:
        """As `Source.open`."""
        ...

    async def aclose(self) -> None:
        """Close what outlives a pass: an iterator that was given. Safe to call twice."""
        ...


class QuotaLedger(Protocol):
    """Who has spent what of a team's submit quota. Blocking; called off the event loop."""

    @property
    def submits_per_hour(self) -> int:
        """Grants of a UTC hour."""
        ...

    @property
    def spacing_seconds(self) -> float:
        """Least time between two grants."""
        ...

    def reserve(self, team: str, server_now: float, host_now: float | None = None) -> QuotaGrant:
        """Take one submit of the hour (by the server's clock) and the second (by the host's), or say how long to wait. Never refunded."""
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
        """Grant nothing for so long: the server refused a submit. It named the time, or it ends at the next full hour."""
        ...

    def spent(self, team: str, server_now: float, host_now: float | None = None) -> int:
        """Submits of this hour so far."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...
