"""Chunks of a blocking pass over a source, without threads."""

import asyncio

import pyarrow as pa
from support.inline import inline

from pushengine.interfaces import SourceBatch
from pushengine.pipeline.chunking import Chunker
from pushengine.sources.threaded import ThreadStream


class Batches:
    """One pass over batches of consecutive numbers; it also counts the calls that it received."""

    def __init__(self, *sizes: int, first_line: int | None = 2) -> None:
        self.batches, row = [], 0
        for size in sizes:
            batch = pa.RecordBatch.from_pydict({"x": pa.array(range(row, row + size), pa.int64())})
            self.batches.append(SourceBatch(batch, "f", row, None if first_line is None else row + first_line))
            row += size
        self.closed = self.stopped = self.taken = self.rows_read = 0

    def __iter__(self):
        for one in self.batches:
            self.taken += 1
            if self.rows_read is not None:
                self.rows_read += one.rows
            yield one

    def bytes_read(self):
        return self.taken

    def stop(self):
        self.stopped += 1

    def close(self):
        self.closed += 1


def rows_of(chunk):
    return [value for one in chunk.blocks for value in one.batch.column(0).to_pylist()]


def chunker(reader, max_bytes, **options):
    return Chunker(ThreadStream(reader, inline), max_bytes, read=inline, **options)


async def all_chunks(chunks):
    found = []
    while (chunk := await chunks.next_chunk()) is not None:
        found.append(chunk)
    return found


def chunks_of(reader, max_bytes, **options):
    return asyncio.run(all_chunks(chunker(reader, max_bytes, **options)))
