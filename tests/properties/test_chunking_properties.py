"""Concatenated chunks are the input. Each is within its limit, and every pass yields the same chunks."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chunks import chunks_of

from pushengine.interfaces import SourceBatch
from pushengine.pipeline.chunking import Chunk

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-9, 9)), st.one_of(st.none(), st.text(max_size=40))), max_size=40
)
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


class Reader:
    def __init__(self, batches):
        self.batches = batches
        self.rows_read = 0

    def __iter__(self):
        for batch in self.batches:
            self.rows_read += batch.batch.num_rows
            yield batch

    def bytes_read(self):
        return None

    def stop(self):
        pass

    def close(self):
        pass


def leaves(chunk: Chunk, max_bytes: int) -> list[Chunk]:
    if chunk.nbytes <= max_bytes or chunk.rows == 1:
        return [chunk]
    first, second = chunk.halves()
    return leaves(first, max_bytes) + leaves(second, max_bytes)


@settings(max_examples=300, deadline=None)
@given(tables=st.lists(ROWS, max_size=6), max_bytes=st.integers(1, 2000))
def test_concatenated_chunks_are_the_input_and_each_is_within_its_limit(tables, max_bytes):
    batches, row = [], 0
    for table in tables:
        whole = pa.RecordBatch.from_pylist([{"a": a, "b": b} for a, b in table], schema=SCHEMA)
        batches.append(SourceBatch(whole, "f", row))
        row += len(table)
    passes = [chunks_of(Reader(batches), max_bytes) for _ in range(2)]
    assert [(c.chunk_id, c.nbytes) for c in passes[0]] == [(c.chunk_id, c.nbytes) for c in passes[1]]
    rows = []
    for number, chunk in enumerate(passes[0]):
        assert chunk.chunk_id == f"{number:06d}"
        assert chunk.rows == sum(one.batch.num_rows for one in chunk.blocks) > 0
        assert chunk.nbytes <= max_bytes or chunk.rows == 1
        rows += [
            value for part in leaves(chunk, max_bytes // 3) for one in part.blocks for value in one.batch.to_pylist()
        ]
    assert rows == [{"a": a, "b": b} for table in tables for a, b in table]
    assert all(
        one.batch.column("a")[0].as_py() == rows[one.first_row]["a"] for chunk in passes[0] for one in chunk.blocks
    )
