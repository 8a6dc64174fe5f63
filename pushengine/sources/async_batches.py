"""Record batches from an asynchronous iterator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from pushengine.errors import EngineClosedError, SourceReadError
from pushengine.interfaces import BlockStream, SourceBatch, SourceBlock
from pushengine.model import FileRef
from pushengine.runtime.drain import DrainSwitch

if TYPE_CHECKING:
    import pyarrow as pa


class IteratorSource:
    """`interfaces.AsyncSource` over an async iterator of record batches: one pass, which begins with the rows of the sample.

    Args:
        batches: The batches; iterated once, by one task at a time, and closed with `aclose()`.
        label: What messages call it.
        schema: Arrow schema where the caller gave one; None is that of the first batch.
    """

    is_text = False
    is_repeatable = False
    files: tuple[FileRef, ...] = ()

    def __init__(self, batches: AsyncIterator[SourceBatch], *, label: str, schema: pa.Schema | None) -> None:
        self.label = label
        self._batches = batches
        self._schema = schema
        self._kept: list[SourceBatch] = []
        self._is_opened = False

    async def size_bytes(self) -> None:
        """Not known."""

    async def schema(self) -> pa.Schema:
        """The Arrow schema of all batches.

        Raises:
            SourceReadError: There is no batch.
        """
        if self._schema is None:
            batch = self._kept[0] if self._kept else await self._keep_next()
            if batch is None:
                raise SourceReadError("no rows", source=self.label, hint="nothing was pushed")
            self._schema = batch.batch.schema
        return self._schema

    async def sample(self, max_bytes: int) -> BlockStream[SourceBlock]:
        """The first batches; they are kept for the pass."""
        return _IteratorStream(self._sampled(max_bytes))

    async def open(self, start_row: int = 0) -> BlockStream[SourceBlock]:  # noqa: ARG002 - it begins at the beginning
        """Begin the only pass.

        Raises:
            SourceReadError: It was begun before.
        """
        if self._is_opened:
            raise SourceReadError("can be read only once", source=self.label)
        self._is_opened = True
        return _IteratorStream(self._all())

    async def _keep_next(self) -> SourceBatch | None:
        batch = await anext(self._batches, None)
        if batch is not None:
            self._kept.append(batch)
        return batch

    async def _sampled(self, max_bytes: int) -> AsyncIterator[SourceBatch]:
        nbytes = number = 0
        while nbytes < max_bytes:
            batch = self._kept[number] if number < len(self._kept) else await self._keep_next()
            if batch is None:
                return
            number += 1
            nbytes += batch.nbytes
            yield batch

    async def _all(self) -> AsyncIterator[SourceBatch]:
        while self._kept:
            yield self._kept.pop(0)
        async for batch in self._batches:
            yield batch

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed."""
        close = getattr(self._batches, "aclose", None)
        if close is not None:
            await close()


class _IteratorStream:
    """`interfaces.BlockStream` over batches. What is awaited is given up when it is stopped: an iterator may say nothing for hours."""

    def __init__(self, batches: AsyncIterator[SourceBatch]) -> None:
        self.rows_read: int | None = 0
        self.bytes_read: int | None = None
        self._batches = batches
        self._stopped = DrainSwitch()

    async def next_block(self) -> SourceBlock | None:
        if self._stopped.is_set:
            return None
        try:
            batch = await self._stopped.guard(anext(self._batches, None))
        except EngineClosedError:
            return None
        if batch is not None:
            self.rows_read = (self.rows_read or 0) + batch.rows
        return batch

    def stop(self) -> None:
        self._stopped.set()

    async def aclose(self) -> None:
        close = getattr(self._batches, "aclose", None)
        if close is not None:
            await close()
