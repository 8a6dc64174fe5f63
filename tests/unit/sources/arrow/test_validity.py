"""Arrow memory that another library filled wrongly is refused before any of its values is read."""

import re

import numpy as np
import pyarrow as pa
import pytest
from support.schemas import inference_of

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source
from pushengine.sources.async_batches import IteratorSource


def buffer(values, kind):
    return pa.py_buffer(np.array(values, kind).tobytes())


def text(offsets, data=b"abcdefgh", arrow_type=None, kind=np.int32):
    return pa.Array.from_buffers(
        arrow_type or pa.string(), len(offsets) - 1, [None, buffer(offsets, kind), pa.py_buffer(data)]
    )


def runs(ends, values):
    memory = bytearray(np.arange(1, len(ends) + 1, dtype=np.int32).tobytes())
    numbers = pa.Array.from_buffers(pa.int32(), len(ends), [None, pa.py_buffer(memory)])
    array = pa.RunEndEncodedArray.from_arrays(numbers, values)
    memory[:] = np.array(ends, np.int32).tobytes()
    return array


def view(length, index):
    head = length.to_bytes(4, "little") + b"abcd" + index.to_bytes(4, "little", signed=True) + bytes(4)
    return pa.Array.from_buffers(pa.string_view(), 1, [None, pa.py_buffer(head), pa.py_buffer(b"abcd" * 5)])


DAMAGED = {
    "descending offsets": (lambda: text([0, 1, 5, 2]), 2),
    "large offsets": (lambda: text([0, 5, 2], arrow_type=pa.large_string(), kind=np.int64), 1),
    "invalid UTF-8": (lambda: text([0, 1, 2], b"a\xff"), 1),
    "view of no buffer": (lambda: view(20, 7), 0),
    "view past its buffer": (lambda: view(2_000_000_000, 0), 0),
    "dictionary index": (lambda: pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int32()), pa.array(["x"]), safe=False), 1),
    "negative dictionary index": (lambda: pa.DictionaryArray.from_arrays(pa.array([0, -7], pa.int32()), pa.array(["x"]), safe=False), 1),
    "dictionary": (lambda: pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int32()), text([0, 5, 2])), 0),
    "run ends": (lambda: runs([2, 2], pa.array(["x", "y"])), 0),
    "negative run ends": (lambda: runs([-1, 2], pa.array(["x", "y"])), 0),
    "decimal": (lambda: pa.Array.from_buffers(pa.decimal128(3, 0), 1, [None, pa.py_buffer((10**10).to_bytes(16, "little"))]), 0),
}  # fmt: skip


class Foreign:
    """An object of another library, as far as the C interface shows it."""

    def __init__(self, *batches):
        self._batches = batches

    def __arrow_c_stream__(self, requested_schema=None):
        reader = pa.RecordBatchReader.from_batches(self._batches[0].schema, self._batches)
        return reader.__arrow_c_stream__(requested_schema)


class ForeignBatch:
    def __init__(self, batch):
        self._batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self._batch.__arrow_c_array__(requested_schema)


async def each(*items):
    for item in items:
        yield item


KINDS = {
    "stream": Foreign,
    "reader": lambda good, bad: pa.RecordBatchReader.from_batches(good.schema, [good, bad]),
    "table": lambda good, bad: pa.Table.from_batches([good, bad]),
    "batch": lambda _good, bad: ForeignBatch(bad),
    "iterator": each,
    "iterator of streams": lambda good, bad: each(Foreign(good), Foreign(bad)),
}


async def read(spec):
    source = open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem())
    if isinstance(source, IteratorSource):
        inference = inference_of(await source.schema())
        blocks = await source.open()
        while (block := await blocks.next_block()) is not None:
            inference.observe(block.decode())
        return
    inference = inference_of(source.schema())
    for batch in source.sample(1 << 20):
        inference.observe(batch)


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("kind", KINDS)
async def test_damaged_memory_is_refused_with_row_and_column(kind, damage):
    build, index = DAMAGED[damage]
    array = build()
    good = pa.record_batch([pa.array([1, 2]), pa.nulls(2, array.type)], ["n", "damaged"])
    bad = pa.record_batch([pa.array(range(len(array))), array], ["n", "damaged"])
    before = 0 if kind == "batch" else 2
    with pytest.raises(SchemaError, match="the memory of the column is damaged") as caught:
        await read(KINDS[kind](good, bad))
    row = int(re.fullmatch("row ([0-9]+), column damaged", caught.value.position)[1])
    # What an object of another library exports has no sizes, so an offset may look damaged before the one that is.
    assert row == before + index + 1 or before < row <= before + index


async def test_a_name_that_is_not_utf8_is_refused():
    # Only foreign memory can hold such a name: take one of the same length and change it in the exported schema.
    schema = pa.schema([("name", pa.int64())])
    with pytest.raises(SchemaError, match="the name of a column is not UTF-8"):
        await read(_Renamed(pa.record_batch([pa.array([1])], schema=schema)))


class _Renamed(Foreign):
    def __arrow_c_stream__(self, requested_schema=None):
        del requested_schema
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._batches[0].schema) as writer:
            writer.write_batch(self._batches[0])
        data = sink.getvalue().to_pybytes().replace(b"name", b"n\xff\xfee")
        return pa.ipc.open_stream(data).__arrow_c_stream__()
