"""Record batches from an asynchronous iterator."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from pushengine.interfaces import SourceBatch

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True, slots=True)
class AsyncSource:
    """Rows from an async iterator of record batches: one pass, in order.

    Attributes:
        label: What messages call it.
        schema: Arrow schema where the caller gave one, else None: look at the first batch.
        batches: The batches; to be iterated once, by one task, and closed with `aclose()`.
    """

    label: str
    schema: pa.Schema | None
    batches: AsyncIterator[SourceBatch]

    async def aclose(self) -> None:
        """Close the iterator, if it can be closed."""
        close = getattr(self.batches, "aclose", None)
        if close is not None:
            await close()
