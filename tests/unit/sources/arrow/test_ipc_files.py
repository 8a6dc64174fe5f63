"""Arrow IPC files: both layouts, several files, and damage."""

import pyarrow as pa
import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source

TABLE = pa.table({"N": pa.array(range(1000)), "S": pa.array([f"s{n % 7}" for n in range(1000)]).dictionary_encode()})


def write(path, table=TABLE, *, layout="file"):
    new = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    return path


def opened(*paths):
    return open_source([str(path) for path in paths], settings=EngineSettings(), filesystem=LocalFileSystem())


def rows_of(source):
    reader = source.open()
    rows = [row for batch in reader for row in batch.batch.to_pylist()]
    reader.close()
    return rows


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_both_layouts_yield_the_rows_with_plain_types(tmp_path, layout):
    source = opened(write(tmp_path / "a.arrow", layout=layout))
    assert source.schema() == pa.schema([("N", pa.int64()), ("S", pa.string())])
    assert rows_of(source) == TABLE.to_pylist()
    assert sum(batch.batch.num_rows for batch in source.sample(10**9)) == 1000


def test_several_files_are_one_table_and_their_sizes_add_up(tmp_path):
    source = opened(write(tmp_path / "a.arrow"), write(tmp_path / "b.feather", layout="stream"))
    assert len(rows_of(source)) == 2000
    assert source.size_bytes() == sum(file.size for file in source.files)


def test_files_with_different_columns_are_rejected(tmp_path):
    other = write(tmp_path / "b.arrow", pa.table({"N": [1]}))
    with pytest.raises(SchemaError, match=r"columns .*differ .*a\.arrow"):
        opened(write(tmp_path / "a.arrow"), other).schema()


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_a_truncated_file_is_rejected(tmp_path, layout):
    path = write(tmp_path / "a.arrow", layout=layout)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceReadError, match="not a readable Arrow file"):
        rows_of(opened(path))


def test_a_file_that_is_not_arrow_is_rejected(tmp_path):
    path = tmp_path / "a.arrow"
    path.write_bytes(b"N,S\n1,x\n" * 10)
    with pytest.raises(SourceReadError, match="not an Arrow file, but text"):
        opened(path).schema()


def test_a_file_without_rows_has_columns(tmp_path):
    source = opened(write(tmp_path / "a.arrow", TABLE.slice(0, 0)))
    assert source.schema().names == TABLE.schema.names
    assert rows_of(source) == []


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_damaged_values_are_rejected_with_row_and_column(tmp_path, layout):
    texts = pa.array(["good"] * 5 + ["evil"])
    path = write(tmp_path / "a.arrow", pa.table({"N": range(6), "S": texts}), layout=layout)
    path.write_bytes(path.read_bytes().replace(b"evil", b"ev\xff\xfe"))
    with pytest.raises(SourceReadError, match="not a readable Arrow file: Invalid UTF8") as caught:
        rows_of(opened(path))
    assert caught.value.position == "row 6, column S"


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_a_time_outside_of_a_day_is_no_damage(tmp_path, layout):
    times = pa.array([0, 86_400_000_000], pa.int64()).view(pa.time64("us"))
    source = opened(write(tmp_path / "a.arrow", pa.table({"t": times}), layout=layout))
    (batch,) = source.open()
    assert batch.batch["t"].cast(pa.int64()).to_pylist() == [0, 86_400_000_000]  # the schema decides


@pytest.mark.parametrize("layout", ["file", "stream"])
def test_a_column_name_that_is_not_utf8_is_rejected(tmp_path, layout):
    path = write(tmp_path / "a.arrow", pa.table({"name": [1]}), layout=layout)
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xff\xfee"))
    with pytest.raises(SourceReadError, match="not a readable Arrow file"):
        opened(path).schema()
