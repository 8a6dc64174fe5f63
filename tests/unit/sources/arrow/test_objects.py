"""Sources that are Python objects: frames, relations, tables, readers, datasets and async iterators."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SchemaError, SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import IteratorSource, open_source
from pushengine.sources.arrow.objects import SLICE_ROWS

TABLE = pa.table({"i": [1, 2, None], "s": ["a", None, "c"], "d": pa.array(["x", "y", "x"]).dictionary_encode()})
ROWS = TABLE.to_pylist()


def opened(spec, **options):
    return open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem(), **options)


def rows_of(source):
    reader = source.open()
    rows = [row for one in reader for row in one.batch.to_pylist()]
    reader.close()
    return rows


class OnlyArray:
    def __arrow_c_array__(self, requested_schema=None):
        return TABLE.combine_chunks().to_batches()[0].__arrow_c_array__(requested_schema)


class OnlyStream:
    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


def dataset(tmp_path):
    pq.write_table(TABLE, tmp_path / "f.parquet")
    return pa.dataset.dataset(tmp_path / "f.parquet")


def relation(tmp_path):
    return duckdb.from_arrow(TABLE)


KINDS = [
    pytest.param(lambda _: TABLE, True, id="pyarrow table"),
    pytest.param(lambda _: TABLE.combine_chunks().to_batches()[0], True, id="pyarrow batch"),
    pytest.param(lambda _: TABLE.to_reader(), False, id="pyarrow reader"),
    pytest.param(dataset, True, id="pyarrow dataset"),
    pytest.param(lambda _: pl.from_arrow(TABLE), True, id="polars"),
    pytest.param(lambda _: TABLE.to_pandas(types_mapper=pd.ArrowDtype), True, id="pandas"),
    pytest.param(relation, True, id="DuckDB relation"),
    pytest.param(lambda _: OnlyArray(), True, id="object with __arrow_c_array__"),
    pytest.param(lambda _: OnlyStream(), False, id="object with __arrow_c_stream__"),
]


@pytest.mark.parametrize(("build", "is_repeatable"), KINDS)
def test_every_kind_yields_its_rows_when_sampled_and_when_read(tmp_path, build, is_repeatable):
    source = opened(build(tmp_path))
    assert (source.is_text, source.is_repeatable) == (False, is_repeatable)
    assert source.schema().names == ["i", "s", "d"]
    assert not any(pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) for kind in source.schema().types)
    sampled = [row for one in source.sample(1 << 20) for row in one.batch.to_pylist()]
    assert sampled == ROWS
    assert rows_of(source) == ROWS
    if is_repeatable:
        assert rows_of(source) == ROWS
    else:
        with pytest.raises(SourceReadError, match="only once"):
            source.open()


@pytest.mark.parametrize(("build", "is_repeatable"), KINDS)
def test_every_kind_can_be_read_without_a_sample(tmp_path, build, is_repeatable):
    assert rows_of(opened(build(tmp_path))) == ROWS


def test_a_second_sample_of_a_stream_continues_the_first_and_the_pass_has_every_row():
    table = pa.table({"i": range(500_000)})
    source = opened(table.to_reader(max_chunksize=10_000))
    sampled = list(source.sample(200_000))
    assert 0 < sum(one.batch.num_rows for one in sampled) < 100_000
    more = list(source.sample(200_000))
    assert more[0].first_row == sum(one.batch.num_rows for one in sampled)
    row = 0
    for one in source.open():
        assert one.first_row == row == one.batch["i"][0].as_py()
        row += one.batch.num_rows
    assert row == 500_000


def test_a_large_batch_is_read_in_slices():
    batch = pa.RecordBatch.from_pydict({"i": range(200_000)})
    assert [one.batch.num_rows for one in opened(batch).open()] == [SLICE_ROWS] * 3 + [200_000 - 3 * SLICE_ROWS]


def test_the_sample_of_a_large_table_is_spread_over_all_of_it():
    table = pa.table({"i": range(1_000_000)})
    source = opened(table)
    batches = list(source.sample(800_000))
    assert all(one.batch["i"][0].as_py() == one.first_row for one in batches)
    assert batches[-1].first_row > 900_000
    assert 50_000 < sum(one.batch.num_rows for one in batches) < 150_000
    assert source.size_bytes() == 8_000_000


def test_a_pandas_index_becomes_a_column_only_if_it_has_a_name():
    frame = pd.DataFrame({"x": [1, 2, 3]})
    assert rows_of(opened(frame[frame.x > 1])) == [{"x": 2}, {"x": 3}]
    assert rows_of(opened(frame.set_index(pd.Index([7, 8, 9], name="key")))) == [
        {"x": 1, "key": 7},
        {"x": 2, "key": 8},
        {"x": 3, "key": 9},
    ]


def test_missing_pandas_values_become_null_and_time_zones_are_kept():
    frame = pd.DataFrame({"f": [1.5, None], "t": pd.to_datetime(["2024-01-01", None]).tz_localize("Europe/Berlin")})
    source = opened(frame)
    assert source.schema().field("t").type.tz == "Europe/Berlin"
    assert [row["f"] for row in rows_of(source)] == [1.5, None]


def test_a_pandas_column_of_mixed_objects_is_rejected_by_name():
    with pytest.raises(SchemaError, match="column x"):
        opened(pd.DataFrame({"x": pd.Series(["a", 1, dt.date(2024, 1, 1)], dtype=object)})).schema()


@pytest.mark.parametrize(
    "spec", [None, 5, {"a": 1}, [], [1], object(), b"x", pa.array([1])], ids=lambda spec: type(spec).__name__
)
def test_specs_that_are_not_sources_are_rejected(spec):
    with pytest.raises((ConfigError, SchemaError)):
        opened(spec).schema()


def test_options_that_do_not_apply_are_rejected(tmp_path):
    with pytest.raises(ConfigError, match="format csv is for files"):
        opened(TABLE, format="csv")
    with pytest.raises(ConfigError, match="schema="):
        opened(TABLE, schema=TABLE.schema)
    (tmp_path / "f.csv").write_text("a\n1\n")
    with pytest.raises(ConfigError, match="schema="):
        opened(tmp_path / "f.csv", schema=TABLE.schema)


def test_a_source_without_rows_has_columns():
    for make in (lambda: TABLE.slice(0, 0), lambda: TABLE.slice(0, 0).to_reader()):
        assert opened(make()).schema().names == TABLE.schema.names
        assert rows_of(opened(make())) == []
        assert sum(one.decode().rows for one in opened(make()).sample(1 << 20)) == 0


def test_the_error_of_a_failing_stream_states_its_cause():
    def batches():
        yield from TABLE.to_batches()
        raise RuntimeError("cursor is gone")

    source = opened(pa.RecordBatchReader.from_batches(TABLE.schema, batches()))
    with pytest.raises(SourceReadError, match="cursor is gone"):
        rows_of(source)


async def stream(*items):
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


async def batches_of(source):
    blocks = await source.open()
    return [block async for block in each(blocks)]


async def each(blocks):
    while (block := await blocks.next_block()) is not None:
        yield block


async def test_async_batches_tables_and_frames_are_read_in_order():
    batch = pa.RecordBatch.from_pydict({"i": [1, 2]})
    source = opened(stream(batch, pa.table({"i": [3]}), pl.DataFrame({"i": [4, 5]})))
    assert isinstance(source, IteratorSource)
    assert (await source.schema()).field("i").type == pa.int64()
    got = [(one.first_row, one.batch["i"].to_pylist()) for one in await batches_of(source)]
    assert got == [(0, [1, 2]), (2, [3]), (3, [4, 5])]
    await source.aclose()


async def test_an_async_source_can_be_closed_before_its_end():
    closed = []

    async def endless():
        try:
            while True:
                yield pa.RecordBatch.from_pydict({"i": [1]})
        finally:
            closed.append(True)

    source = opened(endless())
    assert (await (await source.open()).next_block()).batch.num_rows == 1
    await source.aclose()
    assert closed == [True]


@pytest.mark.parametrize(
    ("items", "error", "text"),
    [
        pytest.param([5], SchemaError, "int is .* record batch", id="not a batch"),
        pytest.param([pa.RecordBatch.from_pydict({"i": [1]}), pa.RecordBatch.from_pydict({"j": [1]})], SchemaError, "columns j instead of i", id="other columns"),
        pytest.param([pa.RecordBatch.from_pydict({"i": [1]}), pa.RecordBatch.from_pydict({"i": ["x"]})], SchemaError, "does not match the schema", id="other types"),
        pytest.param([pa.RecordBatch.from_pydict({"i": [1]}), pa.RecordBatch.from_pydict({"i": [1.5]})], SchemaError, "does not match the schema", id="floats after integers"),
        pytest.param([RuntimeError("gone")], SourceReadError, "RuntimeError: gone", id="error of the iterator"),
    ],
)  # fmt: skip
async def test_faults_of_an_async_source_are_reported(items, error, text):
    source = opened(stream(*items))
    with pytest.raises(error, match=text):
        await batches_of(source)


UTC_NOON = dt.datetime(2024, 1, 31, 12, 30, tzinfo=dt.UTC)
NOON = UTC_NOON.replace(tzinfo=None)
LOSSY = {
    "text for integers": ([1], ["007"]),
    "integers for text": (["x"], [1]),
    "doubles for floats": (pa.array([0.5], pa.float32()), [0.1]),
    "doubles past floats": (pa.array([0.5], pa.float32()), [1e300]),
    "floats for integers": ([1], [2.0]),
    "integers for floats": ([1.5], [2]),
    "booleans for integers": ([1], [True]),
    "timestamps for dates": ([dt.date(2024, 1, 31)], [NOON]),
    "dates for timestamps": ([NOON], [dt.date(2024, 1, 31)]),
    "date64 for date32": (pa.array([0], pa.date32()), pa.array([5], pa.date64())),
    "a zone for none": ([NOON], [UTC_NOON]),
    "no zone for one": ([UTC_NOON], [NOON]),
    "finer timestamps": (pa.array([1], pa.timestamp("us")), pa.array([1001], pa.timestamp("ns"))),
    "finer times": (pa.array([1], pa.time64("us")), pa.array([1001], pa.time64("ns"))),
    "times for timestamps": ([NOON], [dt.time(12)]),
    "larger integers": (pa.array([1], pa.int8()), [300]),
    "negative integers": (pa.array([1], pa.uint8()), [-1]),
    "more digits": (pa.array(["1.5"]).cast(pa.decimal128(5, 1)), pa.array(["1.25"]).cast(pa.decimal128(5, 2))),
    "decimals for integers": ([1], pa.array(["2"]).cast(pa.decimal128(5, 0))),
    "bytes for text": (["x"], [b"y"]),
    "values after NULLs only": (pa.nulls(1), [1]),
}
SAME = {
    "dictionary": (["x"], pa.array(["y"]).dictionary_encode(), ["y"]),
    "views": (["x"], pa.array(["y"], pa.string_view()), ["y"]),
    "large strings": (["x"], pa.array(["y"], pa.large_string()), ["y"]),
    "strings for large ones": (pa.array(["x"], pa.large_string()), ["y"], ["y"]),
    "runs": (["x"], pa.RunEndEncodedArray.from_arrays([2], pa.array(["y"], pa.string_view())), ["y", "y"]),
    "NULLs": ([1], pa.nulls(2), [None, None]),
    "small integers": ([1], pa.array([7], pa.uint8()), [7]),
    "integers that fit": (pa.array([1], pa.int8()), [7], [7]),
    "floats": ([1.5], pa.array([0.5], pa.float32()), [0.5]),
    "another zone": ([UTC_NOON], pa.array([NOON]).cast(pa.timestamp("ms", "Asia/Tokyo")), [UTC_NOON]),
    "coarser timestamps": ([NOON], pa.array([NOON]).cast(pa.timestamp("s")), [NOON]),
    "another scale": (pa.array(["1.25"]).cast(pa.decimal128(5, 2)), pa.array(["2.50"]).cast(pa.decimal128(9, 3)), [Decimal("2.50")]),
    "date32 for date64": (pa.array([0], pa.date64()), pa.array([1], pa.date32()), [dt.date(1970, 1, 2)]),
}  # fmt: skip


def batch_of(values):
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.record_batch([pa.array(range(len(array))), array], ["n", "x"])


@pytest.mark.parametrize("name", LOSSY)
async def test_a_later_batch_with_values_of_another_kind_is_refused(name):
    first, second = map(batch_of, LOSSY[name])
    with pytest.raises(SchemaError, match="the batch does not match the schema: ") as caught:
        await batches_of(opened(stream(first, second)))
    assert caught.value.position == "after row 1"
    with pytest.raises(SchemaError, match="the batch does not match the schema: "):
        list(opened(pa.RecordBatchReader.from_batches(first.schema, iter([first, second]))).open())


@pytest.mark.parametrize(
    "name",
    sorted(
        LOSSY.keys()
        - {
            "finer timestamps",
            "finer times",
            "larger integers",
            "negative integers",
            "more digits",
            "values after NULLs only",
        }
    ),
)
def test_a_dataset_whose_files_have_columns_of_other_kinds_is_refused(tmp_path, name):
    for number, values in enumerate(LOSSY[name]):
        batch = batch_of(values)
        with pa.ipc.new_file(str(tmp_path / f"{number}.arrow"), batch.schema) as writer:
            writer.write_batch(batch)
    dataset = pa.dataset.dataset(tmp_path, format="ipc")
    with pytest.raises(SchemaError, match=r"1\.arrow: column x is .*, but .* in the dataset"):
        opened(dataset).schema()


def test_a_dataset_whose_files_have_smaller_types_is_read(tmp_path):
    for number, kind in enumerate((pa.int64(), pa.int8())):
        pq.write_table(pa.table({"x": pa.array([number], kind)}), tmp_path / f"{number}.parquet")
    assert [row["x"] for row in rows_of(opened(pa.dataset.dataset(tmp_path)))] == [0, 1]
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text("x\n1\n")
    (tmp_path / "csv" / "b.csv").write_text("x\n2.5\n")
    schema = pa.schema([("x", pa.float64())])
    dataset = pa.dataset.dataset(tmp_path / "csv", format="csv", schema=schema)
    assert [row["x"] for row in rows_of(opened(dataset))] == [1.0, 2.5]


@pytest.mark.parametrize("name", SAME)
async def test_a_later_batch_in_another_representation_is_read_with_the_same_values(name):
    first, second, expected = SAME[name]
    source = opened(stream(batch_of(first), batch_of(second)))
    schema = await source.schema()
    found = await batches_of(source)
    assert [one.batch.schema for one in found] == [schema, schema]
    assert found[1].batch["x"].to_pylist() == expected


def test_times_with_a_zone_of_duckdb_are_refused():
    with duckdb.connect() as connection:
        relation = connection.sql("select 1 as n, '12:30:00+02'::timetz as \"at\"")
        with pytest.raises(SchemaError, match="column at has times with a zone") as caught:
            opened(relation).schema()
        assert "CAST(at AS VARCHAR)" in caught.value.hint
        assert opened(connection.sql("select '12:30:00'::time as t")).schema().names == ["t"]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None, "b"], pa.string_view()),
        pa.array([uuid.UUID(int=1), None, uuid.UUID(int=2)], pa.uuid()),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", None, "[]"])),
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())),
        pa.array([b"a", None, b"b"], pa.binary_view()),
        pa.array(["1.5", None, "2.5"]).cast(pa.decimal128(5, 1)),
        pa.array(["a", None, "b"]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_runs_and_dictionaries_of_every_type_are_decoded(values):
    expected = values.to_pylist()
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3, 7], pa.int32()), values)
    for array, indexes in ((runs, [0, 0, 1, 2, 2, 2, 2]), (runs.slice(1, 4), [0, 1, 2, 2])):
        table = pa.Table.from_batches([pa.record_batch([array], ["x"])])
        found = [row["x"] for row in rows_of(opened(table))]
        assert found == [expected[index] for index in indexes]


async def test_an_async_source_without_batches_has_the_declared_columns():
    for schema, names in ((None, []), (pa.schema([("i", pa.int64())]), ["i"])):
        source = opened(stream(), schema=schema)
        assert (await source.schema()).names == names
        assert await batches_of(source) == []


async def test_batches_are_converted_to_the_declared_schema():
    schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
    source = opened(stream(pa.RecordBatch.from_pydict({"s": ["a"], "i": pa.array([1], pa.int8())})), schema=schema)
    assert await source.schema() == schema
    assert [one.batch.schema for one in await batches_of(source)] == [schema]
