"""Source over an async iterator of record batches."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pushengine.errors import SourceReadError
from pushengine.interfaces import BlockStream, SourceBatch, SourceBlock
from pushengine.model import FileRef
from pushengine.runtime.aio import cancel_and_wait, mark_retrieved

if TYPE_CHECKING:
    import pyarrow as pa


class IteratorSource:
    """An `interfaces.AsyncSource` over an async iterator of record batches. It allows one pass, which starts with the sampled batches.

    Args:
        batches: The batches. One task iterates over them once and then closes the iterator.
        label: Name of the source in messages.
        schema: Arrow schema that the caller gave; None means the schema of the first batch.
    """

    is_text = False
    is_repeatable = False
    files: tuple[FileRef, ...] = ()

    def __init__(self, batches: AsyncIterator[SourceBatch], *, label: str, schema: pa.Schema | None) -> None:
        self.label = label
        self._iteration = _Iteration(batches)
        self._schema = schema
        self._kept: list[SourceBatch] = []
        self._is_opened = False

    async def size_bytes(self) -> None:
        """Return None: the size of an iterator is unknown."""

    async def schema(self) -> pa.Schema:
        """Return the Arrow schema of all batches; without columns if no schema was given and the iterator ended without a batch."""
        if self._schema is None:
            first = await (await self.sample(1)).next_block()
            self._schema = _no_columns() if first is None else first.decode().batch.schema
        return self._schema

    async def sample(self, max_bytes: int) -> BlockStream[SourceBlock]:
        """Return a stream of the first batches, about `max_bytes` in all. They are kept for the pass over all rows."""
        return _IteratorStream(self._iteration, self._kept, keep=self._kept.append, max_bytes=max_bytes)

    async def structure(self, names: Sequence[str] = ()) -> None:
        """Return None: batches have no dialect."""

    async def open(self, start_row: int = 0) -> BlockStream[SourceBlock]:  # noqa: ARG002 - an iterator has no way to skip rows
        """Start the only pass.

        Raises:
            SourceReadError: The pass was started before.
        """
        if self._is_opened:
            raise SourceReadError("can be read only once", source=self.label)
        self._is_opened = True
        kept, self._kept = self._kept, []
        return _IteratorStream(self._iteration, kept)

    async def aclose(self) -> None:
        """Close the iterator if it has an `aclose` method; safe to call twice."""
        await self._iteration.aclose()


class _Iteration:
    """An iteration that runs in a task of its own and fetches one batch per request.

    A generator may keep a timeout, a task group or a context variable open across a `yield`. These belong to one task, so a generator that
    another task resumes fails or hangs.
    """

    def __init__(self, batches: AsyncIterator[SourceBatch]) -> None:
        self._batches = batches
        self._pending: asyncio.Future[SourceBatch | None] | None = None
        self._requests: asyncio.Queue[asyncio.Future[SourceBatch | None]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def request_next(self) -> asyncio.Future[SourceBatch | None]:
        """Return a future of the next batch, or of None at the end. Until `take` is called, every call returns the same future.

        So a caller that stops waiting loses no batch.
        """
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_future()
            self._requests.put_nowait(self._pending)
            if self._task is None:
                self._task = asyncio.create_task(self._iterate(), name="iterate")
        return self._pending

    def take(self) -> SourceBatch | None:
        """Return the requested batch, whose future must be done. An error is kept, so that later calls raise it too."""
        batch = self.request_next().result()
        self._pending = None
        return batch

    async def _iterate(self) -> None:
        try:
            while not self._is_closed:
                request = await self._requests.get()
                try:
                    batch = await anext(self._batches, None)
                except Exception as error:  # noqa: BLE001 - `take` raises it
                    request.set_exception(error)
                except BaseException:
                    request.cancel()
                    raise
                else:
                    request.set_result(batch)
        finally:
            await _close(self._batches)

    async def aclose(self) -> None:
        """Stop the iteration, even while it waits for a batch, and close the iterator."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._task is None:
            await _close(self._batches)
            return
        await cancel_and_wait(self._task)
        if self._pending is not None:
            mark_retrieved(self._pending)
        if not self._task.cancelled():
            self._task.result()


class _IteratorStream:
    """An `interfaces.BlockStream` of the kept batches, then of new ones.

    `stop()` also ends a wait for the next batch, because an iterator may yield nothing for hours.
    """

    def __init__(
        self,
        iteration: _Iteration,
        kept: Iterable[SourceBatch],
        *,
        keep: Callable[[SourceBatch], None] | None = None,
        max_bytes: float = math.inf,
    ) -> None:
        self.rows_read: int | None = 0
        self.bytes_read: int | None = None
        self._iteration = iteration
        self._kept = deque(kept)
        self._keep = keep
        self._remaining_bytes = max_bytes
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def next_block(self) -> SourceBlock | None:
        if self._stopped.done() or self._remaining_bytes <= 0:
            return None
        batch = self._kept.popleft() if self._kept else await self._next_batch()
        if batch is not None:
            self.rows_read = (self.rows_read or 0) + batch.rows
            self._remaining_bytes -= batch.nbytes
        return batch

    async def _next_batch(self) -> SourceBatch | None:
        waits: set[asyncio.Future[Any]] = {self._iteration.request_next(), self._stopped}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if self._stopped.done():
            return None
        batch = self._iteration.take()
        if batch is not None and self._keep is not None:
            self._keep(batch)
        return batch

    def stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def aclose(self) -> None:
        self.stop()
        self._kept.clear()


async def _close(batches: AsyncIterator[SourceBatch]) -> None:
    close = getattr(batches, "aclose", None)
    if close is not None:
        await close()


def _no_columns() -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415 - keep the import of this module cheap

    return pa.schema([])
