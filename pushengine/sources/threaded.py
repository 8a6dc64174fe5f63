"""Adapter of a blocking source for asynchronous code: all calls run on the reader thread, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pushengine.config.settings import EngineSettings
from pushengine.interfaces import (
    AsyncSource,
    BlockReader,
    BlockStream,
    FileSystem,
    OffLoop,
    RowBlock,
    Source,
    SourceBlock,
    Structure,
)
from pushengine.runtime.aio import finish
from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.registry import open_source

if TYPE_CHECKING:
    import pyarrow as pa

B = TypeVar("B", bound=RowBlock)
_STEP_BYTES = 1024 * 1024


async def open_async_source(
    spec: Any,
    *,
    read: OffLoop,
    format: str | None = None,  # noqa: A002 - named like the command line option
    schema: pa.Schema | None = None,
    settings: EngineSettings,
    filesystem: FileSystem,
    allow_empty: bool = False,
    label: str = "",
) -> AsyncSource:
    """Call `registry.open_source` from asynchronous code.

    `read` runs calls on one thread, one after another. The other arguments and the errors raised are those of `registry.open_source`.
    """
    found = await read(
        open_source,
        spec,
        format=format,
        schema=schema,
        settings=settings,
        filesystem=filesystem,
        allow_empty=allow_empty,
        label=label,
    )
    return found if isinstance(found, IteratorSource) else ThreadSource(found, read)


class ThreadSource:
    """An `interfaces.AsyncSource` over a blocking source.

    Args:
        source: The blocking source.
        read: Runs calls on one thread, one after another.

    Attributes:
        source: The blocking source.
    """

    def __init__(self, source: Source, read: OffLoop) -> None:
        self.source = source
        self.label = source.label
        self.is_text = source.is_text
        self.is_repeatable = source.is_repeatable
        self.files = source.files
        self._read = read

    async def size_bytes(self) -> int | None:
        """Return the size in bytes, on disk or in memory, or None if it is unknown."""
        return await self._read(self.source.size_bytes)

    async def schema(self) -> pa.Schema:
        """Return the Arrow schema of all batches."""
        return await self._read(self.source.schema)

    async def sample(self, max_bytes: int) -> BlockStream[SourceBlock]:
        """Return a stream of some batches, about `max_bytes` in all, for schema inference."""
        return ThreadStream(_SampleReader(self.source.sample(max_bytes)), self._read)

    async def structure(self, names: Sequence[str] = ()) -> Structure | None:
        """Return how the text is written; None for sources that are not text."""
        return await self._read(self.source.structure, names)

    async def open(self, start_row: int = 0) -> BlockStream[SourceBlock]:
        """Start a pass over all rows, or over those from `start_row` onwards where the source can seek."""
        return ThreadStream(await self._read(self.source.open, start_row), self._read)

    async def aclose(self) -> None:
        """Do nothing: a blocking source keeps nothing open between passes."""


class _Read(NamedTuple, Generic[B]):
    """The result of one read (a block, an error, or None at the end) and the position of the reader after it."""

    block: B | Exception | None
    rows_read: int | None
    bytes_read: int | None


class ThreadStream(Generic[B]):
    """An `interfaces.BlockStream` over a blocking reader.

    Args:
        reader: The blocking pass.
        read: Runs calls on one thread, one after another.

    Attributes:
        rows_read, bytes_read: Position of the reader after the last block returned.
    """

    def __init__(self, reader: BlockReader[B], read: OffLoop) -> None:
        self.rows_read = reader.rows_read
        self.bytes_read: int | None = 0
        self._reader = reader
        self._read = read
        self._blocks: Iterator[B] | None = None
        self._ahead: deque[_Read[B]] = deque()
        self._is_stopped = False

    async def next_block(self) -> B | None:
        """The next block; None after the last one, or once stopped.

        Raises:
            SourceError: From the source.
        """
        if not self._ahead and not self._is_stopped:
            self._ahead.extend(await self._read(self._read_some))
        if self._is_stopped:
            self._ahead.clear()
            return None
        block, self.rows_read, self.bytes_read = self._ahead[0]
        if isinstance(block, Exception):
            raise block
        if block is not None:  # the end and an error stay in the queue, so that later calls see them too
            self._ahead.popleft()
        return block

    def _read_some(self) -> list[_Read[B]]:
        """Read blocks of 1 MiB in all: a small block would not be worth a thread switch of its own."""
        if self._blocks is None:
            self._blocks = iter(self._reader)
        found: list[_Read[B]] = []
        nbytes = 0
        while nbytes < _STEP_BYTES and not self._is_stopped:
            block: B | Exception | None
            try:
                block = next(self._blocks, None)
            except Exception as error:  # noqa: BLE001 - next_block() raises it, after the blocks before it
                block = error
            found.append(_Read(block, self._reader.rows_read, self._reader.bytes_read()))
            if block is None or isinstance(block, Exception):
                break
            nbytes += block.nbytes
        return found

    def stop(self) -> None:
        """Stop the pass: from now on `next_block()` returns None, and reading ends after the current block."""
        self._is_stopped = True
        self._reader.stop()

    async def aclose(self) -> None:
        """Stop the pass and close the reader on the reader thread, once the read that may still run there has ended."""
        self.stop()
        self._ahead.clear()
        await finish(self._read(self._close))

    def _close(self) -> None:
        try:
            closer = getattr(self._blocks, "close", None)
            if closer is not None:
                closer()
        finally:
            self._reader.close()


class _SampleReader(BlockReader[SourceBlock]):
    """A sample in the form of a pass whose position is unknown."""

    rows_read = None

    def __init__(self, batches: Iterator[SourceBlock]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[SourceBlock]:
        return iter(self._batches)

    def bytes_read(self) -> None:
        """Return None: the position is unknown."""

    def stop(self) -> None:
        """Do nothing: the position of each batch is known, so there is no search to stop."""

    def close(self) -> None:
        """Do nothing: closing the iterator of batches releases the files."""
