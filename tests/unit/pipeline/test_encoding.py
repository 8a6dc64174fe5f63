"""Payloads: their content, that they are the same each time, and which values are rejected."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import hashlib
import io
import random
import zlib

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from support.schemas import inference_of

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.pipeline.chunking import Chunk
from pushengine.pipeline.encoding import EncodingOptions, OversizedPayloadError, encode
from pushengine.schema.columns import TableSchema

CSV = EncodingOptions(file_type="CSV")


def chunk_of(columns, parts=1) -> Chunk:
    batch = pa.RecordBatch.from_pydict(columns)
    size = -(-batch.num_rows // parts)
    batches = tuple(SourceBatch(batch.slice(at, size), "f", at) for at in range(0, batch.num_rows, size))
    return Chunk("000007", batches, batch.nbytes)


def schema_of(chunk, **options):
    inference = inference_of(chunk.blocks[0].batch.schema, is_text=False, **options)
    for one in chunk.blocks:
        inference.observe(one)
    return inference.infer_schema()


def parquet_of(payload):
    return pq.ParquetFile(pa.BufferReader(payload.data), coerce_int96_timestamp_unit="us")


EVERYTHING = {
    "i": pa.array([1, None, -3, 4], pa.int32()),
    "f": pa.array([0.1, None, 1e300, -0.0]),
    "b": pa.array([True, None, False, True]),
    "s": pa.array(["", None, 'q"q', "l\nl,;é"]),
    "t": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 678), None, dt.datetime(1400, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999999)]),
    "d": pa.array([dt.date(2024, 1, 2), None, dt.date(1969, 1, 1), dt.date(9999, 12, 31)]),
    "n": pa.nulls(4),
}  # fmt: skip


@pytest.mark.parametrize("timestamps", ["INT96", "INT64"])
@pytest.mark.parametrize("compression", ["SNAPPY", "ZSTD", "NONE"])
@pytest.mark.parametrize("parts", [1, 3])
def test_a_parquet_payload_reads_back_as_the_same_rows(timestamps, compression, parts):
    chunk = chunk_of(EVERYTHING, parts)
    payload = encode(chunk, schema_of(chunk), EncodingOptions(timestamps=timestamps, compression=compression))
    file = parquet_of(payload)
    expected = {name: array.to_pylist() for name, array in EVERYTHING.items()}
    expected["d"] = [None if day is None else dt.datetime(day.year, day.month, day.day) for day in expected["d"]]
    assert file.read().to_pydict() == expected
    assert file.metadata.num_row_groups == 1
    physical = {file.schema.column(i).name: file.schema.column(i).physical_type for i in range(7)}
    assert physical["t"] == physical["d"] == timestamps
    assert (physical["i"], physical["f"], physical["b"], physical["n"]) == ("INT64", "DOUBLE", "BOOLEAN", "BYTE_ARRAY")
    codec = {"NONE": "UNCOMPRESSED"}.get(compression, compression)
    assert file.metadata.row_group(0).column(0).compression == codec
    assert not file.metadata.metadata
    assert (payload.chunk_id, payload.rows, payload.source_rows) == ("000007", 4, (0, 4))


def test_digests_are_computed_from_the_payload_bytes():
    chunk = chunk_of({"x": [1, 2, 3]})
    payload = encode(chunk, schema_of(chunk), EncodingOptions())
    data = bytes(payload.data)
    assert payload.size == len(data)
    assert payload.digests == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "sha1": hashlib.sha1(data).hexdigest(),
        "crc32": f"{zlib.crc32(data):08x}",
    }


@pytest.mark.parametrize("options", [EncodingOptions(), CSV])
def test_the_same_rows_are_encoded_to_the_same_bytes(options):
    rng = random.Random(5)
    columns = {"a": [rng.random() for _ in range(5000)], "b": [str(rng.randrange(50)) for _ in range(5000)]}
    payloads = [
        bytes(encode(chunk, schema_of(chunk), options).data) for chunk in (chunk_of(columns, 3), chunk_of(columns, 3))
    ]
    assert payloads[0] == payloads[1]


def test_nanoseconds_are_cut_in_both_kinds_of_timestamps():
    chunk = chunk_of({"t": pa.array([1_234_567_891, -1, None], pa.timestamp("ns"))})
    for timestamps in ("INT96", "INT64"):
        payload = encode(chunk, schema_of(chunk), EncodingOptions(timestamps=timestamps))
        found = pq.ParquetFile(pa.BufferReader(payload.data)).read()["t"]
        assert found.cast(pa.timestamp("ns")).cast(pa.int64()).to_pylist() == [1_234_567_000, -1000, None]


def test_a_schema_of_an_earlier_version_keeps_nanoseconds():
    chunk = chunk_of({"t": pa.array([1_234_567_891, None], pa.timestamp("ns"))})
    (column,) = schema_of(chunk).columns
    column = dataclasses.replace(column, arrow_type=pa.timestamp("ns"), conversion="timestamp")
    payload = encode(chunk, TableSchema((column,)), EncodingOptions())
    assert pq.ParquetFile(pa.BufferReader(payload.data)).read()["t"].cast(pa.int64()).to_pylist() == [
        1_234_567_891,
        None,
    ]
    with pytest.raises(SchemaError, match="finer than a microsecond"):
        encode(
            chunk_of({"x": chunk.blocks[0].batch["t"], "t": chunk.blocks[0].batch["t"]}),
            TableSchema((column, dataclasses.replace(column, name="x"))),
            CSV,
        )


def test_pages_are_v1():
    chunk = chunk_of({"x": ["a"] * 10})
    file = parquet_of(encode(chunk, schema_of(chunk), EncodingOptions()))
    assert "RLE_DICTIONARY" in file.metadata.row_group(0).column(0).encodings
    assert file.metadata.format_version in ("2.4", "2.6")


def test_many_small_batches_become_one_row_group():
    chunk = chunk_of({"x": list(range(150_000))}, parts=40)
    assert parquet_of(encode(chunk, schema_of(chunk), EncodingOptions())).metadata.num_row_groups == 1


def test_a_csv_payload_has_a_header_quoted_texts_and_iso_timestamps():
    chunk = chunk_of({**EVERYTHING, 'h"x': ["a"] * 4}, 2)
    text = bytes(encode(chunk, schema_of(chunk), CSV).data).decode()
    assert text.startswith(
        '"i","f","b","s","t","d","n","h""x"\n1,0.1,true,"","2024-01-02T03:04:05.000678","2024-01-02T00:00:00.000000",,"a"\n,,,,,,,"a"\n'
    )
    assert text.endswith("\n")
    assert "\r" not in text
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert len(rows) == 5
    assert rows[3] == [
        "-3",
        "1e+300",
        "false",
        'q"q',
        "1400-01-01T00:00:00.000000",
        "1969-01-01T00:00:00.000000",
        "",
        "a",
    ]
    back = arrow_csv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
    )
    assert back["s"].to_pylist() == EVERYTHING["s"].to_pylist()
    assert back["t"].cast(pa.timestamp("us")).to_pylist() == EVERYTHING["t"].to_pylist()


@pytest.mark.parametrize(
    ("columns", "text", "row"),
    [
        pytest.param({"x": ["a", None]}, "empty line", 2, id="NULL in one column"),
        pytest.param({"x": [1.0, float("nan")], "y": [1, 2]}, "finite", 2, id="nan"),
        pytest.param({"x": [float("-inf"), 1.0], "y": [1, 2]}, "finite", 1, id="infinity"),
    ],
)
def test_values_that_csv_cannot_represent_are_rejected(columns, text, row):
    chunk = chunk_of(columns)
    with pytest.raises(SchemaError, match=text) as caught:
        encode(chunk, schema_of(chunk), CSV)
    assert caught.value.position == f"row {row}, column x"
    encode(chunk, schema_of(chunk), EncodingOptions())


def test_a_payload_over_the_limit_is_rejected():
    chunk = chunk_of({"x": list(range(1000))})
    with pytest.raises(OversizedPayloadError, match="1000 rows make a payload of"):
        encode(chunk, schema_of(chunk), EncodingOptions(max_payload_bytes=100))


def test_values_are_checked_while_encoding():
    chunk, later = chunk_of({"x": ["a"]}), chunk_of({"x": ["a", "b" * 256]})
    with pytest.raises(ValueMisfitError):
        encode(later, schema_of(chunk), EncodingOptions())
