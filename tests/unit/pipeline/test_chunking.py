"""Chunk sizes, ids and halves, and stopping before the end of a source."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest
from support.chunks import Batches, all_chunks, chunker, chunks_of, rows_of

from pushengine.errors import SourceReadError
from pushengine.interfaces import SourceBatch
from pushengine.pipeline import chunking
from pushengine.pipeline.chunking import Chunker, Taper
from pushengine.sources.threaded import ThreadStream


@pytest.mark.parametrize("encoders", [1, 2, 8])
def test_the_first_and_last_chunks_are_small_enough_for_all_encoders_to_share(monkeypatch, encoders):
    monkeypatch.setattr(chunking, "_MIN_TAPERED_BYTES", 160)

    class Texts(Batches):
        """A source of 80,000 bytes, in blocks of 80 bytes whose row counts are unknown."""

        def __init__(self):
            super().__init__(*[10] * 1000)
            self.batches = [Unparsed(one) for one in self.batches]
            self.rows_read = None

        def bytes_read(self):
            return self.taken * 80

    def sizes():
        return [chunk.nbytes for chunk in chunks_of(Texts(), 8000, taper=Taper(80_000, encoders))]

    assert sum(sizes()) == 80_000
    assert sizes() == sizes()
    left = 80_000
    for index, size in enumerate(sizes()):
        assert size <= min(8000, 160 << index // encoders)
        assert size <= max(left / 2 / encoders, 160)
        left -= size
    assert max(sizes()) >= min(8000, 80_000 // 4 // encoders)


def test_a_source_with_known_row_counts_is_not_tapered():
    chunks = chunks_of(Batches(*[10] * 100), 800, taper=Taper(8000, 8))
    assert {chunk.rows for chunk in chunks} == {100}


class Unparsed:
    """A block whose number of rows is known only after decoding."""

    rows = None

    def __init__(self, batch: SourceBatch) -> None:
        self.decode = lambda: batch
        self.nbytes = batch.nbytes


def test_whole_batches_fill_a_chunk_up_to_the_limit():
    chunks = chunks_of(Batches(10, 10, 10, 10, 6), 200)
    assert [chunk.chunk_id for chunk in chunks] == ["000000", "000001", "000002"]
    assert [chunk.rows for chunk in chunks] == [20, 20, 6]
    assert [chunk.nbytes for chunk in chunks] == [160, 160, 48]


def test_a_batch_larger_than_a_chunk_is_cut_and_keeps_its_positions():
    chunks = chunks_of(Batches(1000), 800)
    assert [chunk.rows for chunk in chunks] == [100] * 10
    assert [chunk.blocks[0].first_row for chunk in chunks] == list(range(0, 1000, 100))
    assert [chunk.blocks[0].first_line for chunk in chunks] == list(range(2, 1002, 100))
    assert [row for chunk in chunks for row in rows_of(chunk)] == list(range(1000))


def test_a_row_larger_than_a_chunk_is_a_chunk_by_itself():
    assert [chunk.rows for chunk in chunks_of(Batches(3), 1)] == [1, 1, 1]


def test_the_size_of_a_slice_counts_only_the_bytes_it_refers_to():
    shared = pa.RecordBatch.from_pydict({"x": ["x" * 100] * 10_000})
    batches = Batches()
    batches.batches = [SourceBatch(shared.slice(start, 100), "f", start) for start in range(0, 10_000, 100)]
    chunks = chunks_of(batches, 105_000)
    assert all(chunk.rows == 1000 for chunk in chunks)


def test_empty_batches_make_no_chunks():
    assert chunks_of(Batches(0, 0), 100) == []
    assert [chunk.rows for chunk in chunks_of(Batches(0, 1, 0), 100)] == [1]


def test_halves_split_the_rows_and_show_their_place_in_the_id():
    (chunk,) = chunks_of(Batches(3, 3, 1, first_line=None), 10_000)
    first, second = chunk.halves()
    assert (first.chunk_id, second.chunk_id) == ("000000.0", "000000.1")
    assert rows_of(first) + rows_of(second) == list(range(7))
    assert (first.rows, second.rows) == (3, 4)
    assert second.halves()[0].chunk_id == "000000.1.0"
    single = first.halves()[0]
    assert single.rows == 1
    assert single.halves() == ()


async def test_after_a_stop_there_are_no_more_chunks_and_no_more_blocks_are_read():
    batches = Batches(*[200_000] * 4)
    chunks = chunker(batches, 1_600_000)
    assert rows_of(await chunks.next_chunk()) == list(range(200_000))
    chunks.stop()
    assert await chunks.next_chunk() is None
    assert await chunks.next_chunk() is None
    assert (batches.taken, batches.stopped, chunks.bytes_read) == (1, 1, 1)


async def test_an_error_is_raised_after_the_chunks_before_it():
    class Failing(Batches):
        def __iter__(self):
            yield from super().__iter__()
            raise SourceReadError("gone")

    chunks = chunker(Failing(10, 0, 10, 5), 80)
    assert [(await chunks.next_chunk()).chunk_id for _ in range(2)] == ["000000", "000001"]
    for _ in range(2):
        with pytest.raises(SourceReadError, match="gone"):
            await chunks.next_chunk()


async def test_a_stop_while_a_block_is_being_read_drops_the_block():
    chunks = None

    async def read_and_stop(function, /, *args):
        result = function(*args)
        chunks.stop()
        return result

    chunks = Chunker(ThreadStream(Batches(10), read_and_stop), 80, read=read_and_stop)
    assert await chunks.next_chunk() is None


@pytest.mark.parametrize("max_bytes", [40, 80, 500])
def test_a_resumed_push_cuts_the_remaining_rows_as_the_first_pass_did(max_bytes):
    sizes = (10, 3, 7, 30, 1, 5)
    whole = chunks_of(Batches(*sizes), max_bytes)
    first_row = 0
    for index, chunk in enumerate(whole):
        chunks = chunker(Batches(*sizes), max_bytes, first_index=index, first_row=first_row)
        assert chunks.first_row == first_row
        rest = asyncio.run(all_chunks(chunks))
        assert [(c.chunk_id, rows_of(c)) for c in rest] == [(c.chunk_id, rows_of(c)) for c in whole[index:]]
        first_row += chunk.rows


def test_a_source_with_unknown_row_counts_is_read_from_the_start():
    batches = Batches(10, 10, 10)
    batches.rows_read = None
    batches.batches = [Unparsed(one) for one in batches.batches]
    reader = chunker(batches, 80, first_index=2, first_row=20)
    assert reader.first_row == 0
    chunks = asyncio.run(all_chunks(reader))
    assert [(chunk.chunk_id, chunk.rows) for chunk in chunks] == [("000000", None), ("000001", None), ("000002", None)]
    first, second = chunks[0].halves()
    assert (rows_of(first), rows_of(second)) == (list(range(5)), list(range(5, 10)))
