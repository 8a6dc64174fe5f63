"""Every kind of source arrives with exactly its rows."""

import fnmatch
import gzip
import hashlib
import io

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.interrupting import interrupted

from pushengine import events
from pushengine.errors import ConfigError, SchemaError, SourceReadError
from pushengine.model import FileRef


def csv_file(rows, table, folder, save_csv):
    return save_csv("rows.csv", rows)


def csv_text_path(rows, table, folder, save_csv):
    return str(save_csv("rows.csv", rows))


def csv_gzip(rows, table, folder, save_csv):
    return save_csv("rows.csv.gz", rows, open_file=gzip.open)


def csv_glob(rows, table, folder, save_csv):
    for number in range(4):
        save_csv(f"part_{number}.csv", rows[number * 250 : (number + 1) * 250])
    return str(folder / "part_*.csv")


def csv_list(rows, table, folder, save_csv):
    return [save_csv("b.csv", rows[:500]), save_csv("a.csv.gz", rows[500:], open_file=gzip.open)]


def parquet_file(rows, table, folder, save_csv):
    pq.write_table(table, folder / "rows.parquet", row_group_size=300)
    return folder / "rows.parquet"


def parquet_directory(rows, table, folder, save_csv):
    (folder / "parts").mkdir()
    for number in range(4):
        pq.write_table(table.slice(number * 250, 250), folder / "parts" / f"{number}.parquet")
    return folder / "parts"


def arrow_table(rows, table, folder, save_csv):
    return table


def record_batch(rows, table, folder, save_csv):
    return table.combine_chunks().to_batches()[0]


def batch_reader(rows, table, folder, save_csv):
    return table.to_reader(100)


def dataset(rows, table, folder, save_csv):
    return ds.dataset(table)


def pandas_frame(rows, table, folder, save_csv):
    return table.to_pandas()


def polars_frame(rows, table, folder, save_csv):
    return pl.from_arrow(table)


def duckdb_relation(rows, table, folder, save_csv):
    connection = duckdb.connect()
    connection.register("source", table)
    relation = connection.sql("select * from source")
    duckdb_relation.kept = connection
    return relation


async def batches(table):
    for batch in table.to_batches(max_chunksize=130):
        yield batch


def async_batches(rows, table, folder, save_csv):
    return batches(table)


KINDS = [
    *(
        csv_file,
        csv_text_path,
        csv_gzip,
        csv_glob,
        csv_list,
        parquet_file,
        parquet_directory,
        arrow_table,
        record_batch,
    ),
    *(batch_reader, dataset, pandas_frame, polars_frame, duckdb_relation, async_batches),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_every_row_arrives_unchanged(stage, rows, table, *, tmp_path, save_csv, kind):
    receipt = await stage.push(kind(rows, table, tmp_path, save_csv))
    assert await stage.rows() == rows
    assert (receipt.status, receipt.rows, receipt.verified) == ("DONE", 1000, "checksum")
    assert receipt.source_bytes > 0
    if kind is duckdb_relation:
        del duckdb_relation.kept


async def test_an_async_iterator_with_a_given_schema_is_pushed(stage, rows, table):
    receipt = await stage.engine.push(batches(table), table="T", schema=table.schema)
    assert await stage.rows() == rows
    assert receipt.rows == 1000


async def test_an_async_iterator_whose_batches_differ_in_schema_is_rejected(stage, rows, table):
    async def broken():
        yield table.to_batches()[0]
        yield pa.record_batch({"N": [1]})

    with pytest.raises(SchemaError):
        await stage.push(broken())
    assert stage.jobs() == []


async def test_many_small_files_go_into_one_job(stage, rows, save_csv, tmp_path):
    for number in range(50):
        save_csv(f"part_{number:03}.csv", rows[number * 20 : (number + 1) * 20])
    receipt = await stage.push(tmp_path / "part_*.csv")
    assert await stage.rows() == rows
    assert receipt.submits == 1
    assert len(stage.jobs("DONE")) == 1


async def test_times_with_a_zone_arrive_as_utc(stage, save_csv):
    texts = ["2024-03-31T01:59:59+01:00", "2024-03-31T03:00:00+02:00", "2024-12-01T00:00:00Z"]
    await stage.push(save_csv("a.csv", [(n, text) for n, text in enumerate(texts)], ["N", "AT"]))
    stamps = await stage.query("""select strftime("AT", '%Y-%m-%d %H:%M:%S') from T order by N""")
    assert stamps == [("2024-03-31 00:59:59",), ("2024-03-31 01:00:00",), ("2024-12-01 00:00:00",)]


async def test_a_pandas_index_that_is_only_positions_is_not_pushed(stage):
    frame = pd.DataFrame({"A": [1, 2, 3, 4]}).query("A % 2 == 0")
    await stage.push(frame)
    assert await stage.rows() == [(2,), (4,)]


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
@pytest.mark.parametrize("base_path", ["data-ingestion", "integration"])
async def test_both_encodings_work_on_both_base_paths(start, rows, table, base_path, file_type):
    stage = await start(base_path=base_path, file_type=file_type)
    receipt = await stage.push(table)
    assert await stage.rows() == rows
    assert stage.jobs()[0].spec.file_type == file_type
    assert receipt.verified == "checksum"


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
async def test_empty_and_missing_texts_stay_distinct(start, file_type):
    stage = await start(file_type=file_type)
    values = ["", None, " ", "NULL", "null", "NA", "nan", "\\N", '"', '""', "\r\n", "\t", "\\"]
    await stage.push(pa.table({"N": range(len(values)), "S": values}))
    assert await stage.rows() == list(enumerate(values))


async def no_batches():
    return
    yield


@pytest.mark.parametrize(
    "source",
    [
        lambda folder: folder / "empty.csv",
        lambda _: pa.table({"A": pa.array([], pa.int64())}),
        lambda _: no_batches(),
        lambda _: pa.RecordBatchReader.from_batches(pa.schema({"A": pa.int64()}), []),
    ],
    ids=["CSV with only a header", "table", "async iterator", "reader"],
)
async def test_an_empty_source_is_an_error_and_leaves_the_table_unchanged(stage, tmp_path, source):
    """An extract that failed must not empty a table."""
    await stage.push(pa.table({"A": [1]}))
    (tmp_path / "empty.csv").write_text("A,B\n")
    with pytest.raises(SourceReadError, match="no rows"):
        await stage.push(source(tmp_path))
    assert await stage.rows() == [(1,)]
    assert stage.jobs("NEW") == []


@pytest.mark.parametrize(
    ("source", "error"),
    [("missing.csv", SourceReadError), ("*.csv", SourceReadError), (42, ConfigError), ([], ConfigError)],
    ids=["missing file", "glob without files", "number", "empty list"],
)
async def test_an_invalid_source_is_rejected_before_anything_is_sent(stage, tmp_path, monkeypatch, source, error):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        await stage.push(source)
    assert stage.jobs() == []


async def test_rows_in_one_of_many_empty_files_are_found(start, tmp_path):
    stage = await start(sample_bytes=64 * 1024)
    folder = tmp_path / "hours"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:03d}.csv").write_text("A,B\n" + ("1,x\n" if number == 1 else ""))
    receipt = await stage.push(folder)
    assert (receipt.rows, await stage.rows()) == (1, [(1, "x")])


@pytest.mark.parametrize("spec", ["", ["a.csv", ""], [""]], ids=repr)
@pytest.mark.parametrize("is_spooled", [False, True], ids=["", "spool"])
async def test_an_empty_path_is_rejected_before_spooling_or_sending(stage, tmp_path, monkeypatch, spec, is_spooled):
    """It would mean the current directory, and so load all its files into a table that was meant for one."""
    (tmp_path / "a.csv").write_text("N\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="empty") as caught:
        await stage.push(spec, spool=is_spooled)
    assert caught.value.key == "source"
    assert stage.jobs() == []
    assert not (stage.folder / "state" / "spool").exists()


async def test_an_empty_connection_id_does_not_mean_the_default_connection(start):
    stage = await start()
    with pytest.raises(ConfigError, match="empty") as caught:
        await stage.push(pa.table({"N": [1]}), connection_id="")
    assert caught.value.key == "connection_id"
    assert stage.jobs() == []


# --- Files on another file system


class Bucket:
    """An `interfaces.FileSystem` without a disk. Everything that reads a file goes through it, including uploads."""

    def __init__(self, **objects):
        self.objects = {f"bucket/{name}": data for name, data in objects.items()}
        self.ranges = []

    def list(self, pattern):
        return [self.ref(uri) for uri in sorted(self.objects) if fnmatch.fnmatch(uri, pattern)]

    def ref(self, uri):
        return FileRef(uri, len(self.objects[uri]), (hashlib.md5(self.objects[uri]).hexdigest(),))

    def stat(self, file):
        return self.ref(file.uri)

    def open(self, file):
        return io.BytesIO(self.objects[file.uri])

    async def read_ranges(self, file, ranges):
        for offset, nbytes in ranges:
            self.ranges.append((file.uri, offset, nbytes))
            yield self.objects[file.uri][offset : offset + nbytes]


@pytest.mark.parametrize(("is_passthrough", "ranges"), [(True, 1), (False, 0)])
async def test_files_of_another_file_system_are_read_hashed_and_sent_through_it(stage, is_passthrough, ranges):
    sink = io.BytesIO()
    pq.write_table(pa.table({"N": range(100), "S": [f"x{n}" for n in range(100)]}), sink, store_schema=False)
    bucket = Bucket(**{"a.parquet": sink.getvalue()})
    stage.engine = await stage.open_engine(
        filesystem=bucket, state_dir=stage.folder / "other", parquet_as_it_is=is_passthrough
    )
    receipt = await stage.push("bucket/*.parquet")
    assert (receipt.status, receipt.rows, receipt.source_bytes) == ("DONE", 100, len(sink.getvalue()))
    assert await stage.rows() == [(n, f"x{n}") for n in range(100)]
    assert len(bucket.ranges) == ranges


async def test_a_push_from_another_file_system_is_resumed(stage):
    bucket = Bucket(**{"a.csv": b"N\n" + b"".join(b"%d\n" % n for n in range(100))})
    options = {"filesystem": bucket, "state_dir": stage.folder / "other"}
    stage.engine = await stage.open_engine(**options)
    await interrupted(stage, stage.push("bucket/a.csv", mode="append"), events.ChunkUploaded, **options)
    receipt = await stage.push("bucket/a.csv", mode="append")
    assert (receipt.resumed, await stage.query("select count(*) from T")) == (True, [(100,)])
