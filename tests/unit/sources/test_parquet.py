"""Parquet files: one table from several, bounded batches, and every kind of damage rejected."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source


def opened(spec):
    return open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem())


def rows_of(source):
    reader = source.open()
    rows = []
    for one in reader:
        assert one.batch.schema == source.schema()
        rows += one.batch.to_pylist()
    reader.close()
    assert reader.bytes_read() == source.size_bytes()
    return rows


@pytest.fixture
def write(tmp_path):
    def write(columns, name="f.parquet", **options):
        path = tmp_path / name
        pq.write_table(pa.table(columns), path, **options)
        return path

    return write


def test_row_groups_are_read_in_bounded_batches_with_exact_row_numbers(write):
    path = write({"i": range(200_000), "s": [f"text {i % 7}" * 5 for i in range(200_000)]}, row_group_size=70_000)
    source, row = opened(path), 0
    progress = []
    reader = source.open()
    for one in reader:
        assert one.first_row == row == one.batch["i"][0].as_py()
        assert one.first_line is None
        assert one.batch.nbytes < 8 << 20
        row += one.batch.num_rows
        progress.append(reader.bytes_read())
    assert row == 200_000
    assert progress == sorted(progress)
    assert 0 < progress[-1] < reader.bytes_read() == source.size_bytes()


def test_wide_texts_are_read_in_small_batches(write):
    path = write({"s": [("x" * 10_000) + str(i) for i in range(2_000)]})
    assert max(one.batch.nbytes for one in opened(path).open()) < 8 << 20


def test_dictionaries_views_and_metadata_become_plain_columns(write):
    path = write(
        {"d": pa.array(["a", "b", "a"]).dictionary_encode(), "v": pa.array(["x", None, "y"], pa.string_view())}
    )
    source = opened(path)
    assert source.schema() == pa.schema([("d", pa.string()), ("v", pa.string())])
    assert [row["d"] for row in rows_of(source)] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        (pa.array([1], pa.int32()), pa.array([2], pa.int64()), pa.int64()),
        (pa.array([1], pa.int32()), pa.array([2], pa.uint8()), pa.int64()),
        (pa.array([1], pa.uint32()), pa.array([2], pa.uint64()), pa.uint64()),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), pa.large_string()),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), pa.string()),
        (pa.nulls(1), pa.array([2], pa.int64()), pa.int64()),
        (pa.array(["a"]), pa.nulls(1), pa.string()),
        (pa.array([1.0], pa.float32()), pa.array([2.0]), pa.float64()),
        (pa.array([Decimal("1.5")], pa.decimal128(5, 1)), pa.array([Decimal("2.25")], pa.decimal128(5, 2)), pa.decimal128(6, 2)),
        (pa.array([1], pa.timestamp("ms")), pa.array([2], pa.timestamp("us")), pa.timestamp("us")),
        (pa.array([1], pa.timestamp("us", "Europe/Berlin")), pa.array([2], pa.timestamp("us", "UTC")), pa.timestamp("us", "UTC")),
    ],
    ids=str,
)  # fmt: skip
def test_types_of_several_files_widen_to_a_common_type(write, tmp_path, one, other, common):
    for first, second in ((one, other), (other, one)):
        write({"x": first}, "1.parquet")
        write({"x": second}, "2.parquet")
        source = opened(tmp_path)
        assert source.schema() == pa.schema([("x", common)])
        assert len(rows_of(source)) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1]), pa.array([1.5])),
        (pa.array([1]), pa.array(["1"])),
        (pa.array([1]), pa.array([1], pa.uint64())),
        (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", "UTC"))),
        (pa.array([True]), pa.array([1])),
    ],
    ids=str,
)
def test_types_without_a_common_type_are_rejected_with_both_files(write, tmp_path, one, other):
    write({"x": one}, "1.parquet")
    write({"x": other}, "2.parquet")
    with pytest.raises(SchemaError, match=r"column x is .* in .*1\.parquet") as caught:
        opened(tmp_path).schema()
    assert caught.value.source.endswith("2.parquet")


def test_a_value_that_the_common_type_cannot_hold_is_rejected(write, tmp_path):
    write({"x": pa.array([253402300799], pa.timestamp("ms"))}, "1.parquet")
    write({"x": pa.array([2**62], pa.timestamp("ms"))}, "2.parquet")
    write({"x": pa.array([1], pa.timestamp("ns"))}, "3.parquet")
    with pytest.raises(SchemaError, match="common type") as caught:
        list(opened(tmp_path).open())
    assert caught.value.source.endswith("2.parquet")


def test_columns_are_matched_by_name_and_different_columns_are_rejected(write, tmp_path):
    write({"a": [1], "b": ["x"]}, "1.parquet")
    write({"b": ["y"], "a": [2]}, "2.parquet")
    assert rows_of(opened(tmp_path)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    write({"a": [1], "c": ["x"]}, "3.parquet")
    with pytest.raises(SchemaError, match="lacks b and adds c"):
        opened(tmp_path).schema()


def damaged(path, change):
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(change(data)))
    return path


def overwrite_data(data):
    data[200:260] = b"\xff" * 60
    return data


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: b"", id="zero bytes"),
        pytest.param(lambda _: b"id,name\n1,2\n" * 10, id="not Parquet"),
        pytest.param(lambda data: data[: len(data) // 2], id="truncated in the middle"),
        pytest.param(lambda data: data[:-3], id="last bytes missing"),
        pytest.param(lambda data: data[: len(data) // 2] + data[-200:], id="bytes missing in the middle"),
        pytest.param(overwrite_data, id="data overwritten"),
        pytest.param(lambda data: data[:-30] + b"\xff" * 20 + data[-10:], id="footer overwritten"),
    ],
)
def test_damaged_files_are_rejected_by_name(write, change):
    rows = {"i": range(5000), "s": [f"{i * 7919}" for i in range(5000)]}
    path = damaged(write(rows, write_page_checksum=True), change)
    with pytest.raises(SourceReadError) as caught:
        list(opened(path).open())
    assert caught.value.source == str(path)


def test_an_encrypted_file_is_rejected(tmp_path):
    path = tmp_path / "f.parquet"
    path.write_bytes(b"PARE" + b"\0" * 100 + b"\x10\0\0\0PARE")
    with pytest.raises(SourceReadError, match=r"encrypted|not a readable"):
        opened(path).schema()


def test_a_file_that_vanishes_after_it_was_found_is_reported(write, tmp_path):
    path = write({"a": [1]})
    source = opened(path)
    path.unlink()
    with pytest.raises(SourceReadError, match="No such file"):
        source.schema()


def test_the_sample_is_spread_over_files_and_row_groups(write, tmp_path):
    for name in "12":
        write(
            {"i": range(100_000), "s": [f"{i * 7919:050}" for i in range(100_000)]},
            f"{name}.parquet",
            row_group_size=10_000,
        )
    batches = list(opened(tmp_path).sample(2 << 20))
    places = {(one.source[-9:], one.first_row) for one in batches}
    assert {("1.parquet", 0), ("1.parquet", 90_000), ("2.parquet", 0), ("2.parquet", 90_000)} <= places
    assert sum(one.batch.nbytes for one in batches) < 24 << 20
    for one in batches:
        assert one.batch["i"][0].as_py() == one.first_row


def test_a_small_source_is_sampled_completely(write):
    assert (
        sum(one.batch.num_rows for one in opened(write({"i": range(1000)}, row_group_size=10)).sample(16 << 20)) == 1000
    )


def test_files_without_rows_have_columns(write, tmp_path):
    write({"i": pa.array([], pa.int64())}, "1.parquet")
    assert opened(tmp_path).schema().names == ["i"]
    assert rows_of(opened(tmp_path)) == []
    assert sum(one.rows for one in opened(tmp_path).sample(1 << 20)) == 0
    write({"i": [1]}, "2.parquet")
    assert rows_of(opened(tmp_path)) == [{"i": 1}]


def test_a_duplicate_column_name_is_rejected(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(SchemaError, match="twice"):
        opened(tmp_path / "f.parquet").schema()


def test_nothing_stays_open_when_a_pass_is_abandoned(write):
    source = opened(write({"i": range(100_000)}))
    reader = source.open()
    next(iter(reader))
    reader.close()
    reader.close()
    sample = source.sample(1 << 20)
    next(sample)
    sample.close()


def test_tiny_row_groups_are_read_together_and_large_ones_alone(write):
    count = 20_000
    numbers = {"i": range(count), "s": [f"text {number}" for number in range(count)]}
    (tiny, large) = (opened(write(numbers, f"{size}.parquet", row_group_size=size)) for size in (4, 9000))
    batches = list(tiny.open())
    assert len(batches) < 20
    assert [one.first_row for one in batches] == [sum(one.rows for one in batches[:n]) for n in range(len(batches))]
    assert [one.first_row for one in large.open()][:1] == [0]
    assert {one.first_row for one in large.open()} >= {0, 9000, 18_000}
    assert rows_of(tiny) == rows_of(large)
    for start in (1, 9000, count - 1):
        reader = tiny.open(start)
        first, *_ = reader
        assert first.first_row <= start
        assert first.batch["i"][0].as_py() == first.first_row
        reader.close()
