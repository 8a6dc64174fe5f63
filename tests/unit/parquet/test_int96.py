"""INT96 timestamps: every 12 bytes mean the same, or are refused for the same reason, whether the file is sent as it is or decoded."""

import datetime as dt

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.int96 import DAY_NANOS, EPOCH_DAY, int96, micros_of, write_int96
from support.schemas import inference_of

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.parquet.decoding import ParquetDecoder
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.int96_columns import as_bytes
from pushengine.parquet.slices import checked_payload
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.conform import conform
from pushengine.schema.times.int96 import INT96
from pushengine.schema.times.stamps import CUT_TO_MICROS
from pushengine.sources import open_source

FILES = LocalFileSystem()
FIRST, LAST = EPOCH_DAY + (dt.date(1400, 1, 1) - dt.date(1970, 1, 1)).days, EPOCH_DAY + 2_932_896
GOOD = int96(EPOCH_DAY, 0)
FINE = int96(EPOCH_DAY, 1001)


def opened(path, **settings):
    return open_source(path, settings=EngineSettings(**settings), filesystem=FILES)


def schema_of(source, **options):
    inference = inference_of(source.schema(), is_text=False, **options)
    for batch in source.sample(1 << 20):
        inference.observe(batch)
    return inference.infer()


def schema_for(folder, value):
    """Return the schema of a push whose sample holds only this value."""
    return schema_of(opened(write_int96(folder / "sample.parquet", [value]))).schema


def as_it_is(path, schema):
    """Return the values that DuckDB reads from the file, as the emulator does, once the push has accepted it.

    A file whose timestamps have to be cut is never sent as it is.
    """
    if any(column.conversion == CUT_TO_MICROS.name for column in schema.columns):
        with pytest.raises(ReencodeError, match="finer than a microsecond"):
            opened(path).passthrough_blocks(schema)
        return decoded(path, schema)
    for block in opened(path).passthrough_blocks(schema):
        checked_payload("000000", block, schema, digests=(), filesystem=FILES)
    return [row[0] for row in duckdb.sql(f"select epoch_us(t) from '{path}' order by n").fetchall()]


def decoded(path, schema):
    found = [conform(schema, block.decode()).column("t") for block in opened(path).open()]
    return pa.chunked_array(found).cast(pa.int64()).to_pylist()


def outcome(way, path, schema):
    try:
        return way(path, schema)
    except SchemaError as error:
        return type(error), error.message, error.position


days = st.one_of(
    st.integers(0, 2**32 - 1),
    st.integers(FIRST - 2, FIRST + 2),
    st.integers(LAST - 2, LAST + 2),
    st.integers(FIRST, LAST),
)
times = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(DAY_NANOS - 2000, DAY_NANOS + 2000),
    st.integers(0, DAY_NANOS // 1000).map(lambda micros: micros * 1000),
)
any_value = st.binary(min_size=12, max_size=12) | st.builds(int96, days, times)


@pytest.mark.parametrize("encoding", ["PLAIN", "dictionary"])
@pytest.mark.parametrize("first", [GOOD, FINE], ids=["micros", "nanos"])
@settings(deadline=None, max_examples=60)
@given(value=any_value)
@example(value=bytes(12))
@example(value=b"\xff" * 12)
@example(value=int96(EPOCH_DAY, DAY_NANOS))
@example(value=int96(0, 1))
@example(value=int96(LAST, DAY_NANOS - 1))
@example(value=int96(FIRST, 0))
@example(value=int96(FIRST - 1, DAY_NANOS - 1))
def test_both_ways_agree_on_all_12_bytes(tmp_path_factory, encoding, first, value):
    folder = tmp_path_factory.mktemp("int96")
    schema = schema_for(folder, first)
    path = write_int96(folder / "f.parquet", [GOOD, None, value, GOOD], encoding=encoding)
    sent, read = outcome(as_it_is, path, schema), outcome(decoded, path, schema)
    assert sent == read
    micros = micros_of(value)
    if isinstance(micros, int) and (first == FINE or int.from_bytes(value[:8], "little") % 1000 == 0):
        assert sent == [0, None, micros, 0]
        return
    kind, message, position = sent
    assert kind is (ValueMisfitError if isinstance(micros, int) else SchemaError)
    assert message.endswith(micros if isinstance(micros, str) else "it is finer than a microsecond")
    assert position == "row 3, column t"


def test_a_refusal_shows_the_value_as_it_is_stored(tmp_path):
    for value, shown in (
        (bytes(12), "Julian day 0 00:00:00"),
        (int96(EPOCH_DAY, DAY_NANOS + 5), rf"1970-01-01 \+ {DAY_NANOS + 5} ns"),
        (int96(EPOCH_DAY - 300_000, 1_500_000_000), "1148-08-18 00:00:01.5"),
    ):
        with pytest.raises(SchemaError, match=shown) as caught:
            schema_for(tmp_path, value)
        assert caught.value.position == "row 1, column t"


def test_finer_timestamps_are_cut_and_noted(tmp_path):
    inferred = schema_of(opened(write_int96(tmp_path / "f.parquet", [GOOD, FINE])))
    assert inferred.schema.columns[1].conversion == CUT_TO_MICROS.name
    assert inferred.notes == ("t: timestamps finer than a microsecond are cut to microseconds",)
    assert schema_of(opened(write_int96(tmp_path / "g.parquet", [GOOD]))).notes == ()


def test_finer_timestamps_are_no_keys_unless_the_user_says_so(tmp_path):
    source = opened(write_int96(tmp_path / "f.parquet", [GOOD, FINE]))
    with pytest.raises(SchemaError, match="finer than a microsecond") as caught:
        schema_of(source, keys=("t",))
    assert "--column t=DATETIME" in caught.value.hint
    assert schema_of(source, keys=("t",), overrides={"t": "DATETIME"}).notes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "snappy"},
        {"compression": "gzip"},
        {"data_page_version": "2.0"},
        {"row_group_size": 7},
        {"store_schema": True},
        {"write_statistics": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("unit", ["ns", "us"])
def test_files_of_other_layouts_are_decoded_alike(tmp_path, unit, options):
    per_micro = 1000 if unit == "ns" else 1
    numbers = [None if number % 5 == 0 else number * 86_399_999_993 * per_micro for number in range(50)]
    stamps = pa.array(numbers, pa.timestamp(unit))
    nested = pa.array([[1, 2], None] * 25).cast(pa.list_(pa.timestamp("us")))
    table = pa.table({"l": nested, "t": stamps, "s": pa.array([{"x": 1}] * 50), "u": stamps})
    path = tmp_path / "f.parquet"
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, **options)
    with path.open("rb") as file:
        decoder = ParquetDecoder(file)
        assert [str(kind) for kind in decoder.schema.types] == [
            "list<element: timestamp[ns]>",
            "int96",
            "struct<x: int64>",
            "int96",
        ]
        batches = list(decoder.iter_batches(range(decoder.metadata.num_row_groups), 11))
    found = pa.Table.from_batches(batches)
    for name in "tu":
        values = [CUT_TO_MICROS.parse(chunk, pa.timestamp("us")) for chunk in found[name].chunks]
        expected = [None if number is None else number // per_micro for number in numbers]
        assert pa.chunked_array(values).cast(pa.int64()).to_pylist() == expected
    assert found["s"].to_pylist() == table["s"].to_pylist()


def test_files_mixed_with_other_timestamps_have_a_common_type(tmp_path):
    write_int96(tmp_path / "1.parquet", [int96(EPOCH_DAY, 5000)])
    pq.write_table(pa.table({"n": [1], "t": pa.array([7], pa.timestamp("ms"))}), tmp_path / "2.parquet")
    source = opened(tmp_path)
    assert source.schema().field("t").type == pa.timestamp("us")
    assert [one.batch["t"].cast(pa.int64()).to_pylist() for one in source.open()] == [[5], [7000]]
    write_int96(tmp_path / "1.parquet", [FINE])
    with pytest.raises(SchemaError, match="finer than a microsecond"):
        list(opened(tmp_path).open())


def test_a_footer_without_int96_stays_the_same(tmp_path):
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), tmp_path / "f.parquet")
    data = (tmp_path / "f.parquet").read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") : -8]
    assert as_bytes(footer) == footer


def test_empty_and_null_columns(tmp_path):
    assert decoded(write_int96(tmp_path / "f.parquet", [None, None]), schema_for(tmp_path, GOOD)) == [None, None]
    assert list(opened(write_int96(tmp_path / "g.parquet", [])).open()) == []
    assert pa.ExtensionArray.from_storage(INT96, pa.array([], pa.binary(12))).to_pylist() == []
