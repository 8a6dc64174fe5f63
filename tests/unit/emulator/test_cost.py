"""The emulator's work grows with the number of columns and of chunks, not with their square."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine.emulator.chunks.parquet_files import inspect_parquet
from pushengine.emulator.jobs.model import ChunkType, ColumnType, FileColumn
from pushengine.emulator.jobs.service import EmulatorService
from pushengine.emulator.settings import EmulatorSettings
from pushengine.emulator.tables.load import Load
from pushengine.emulator.tables.store import Store

MAX_RATIO = 10
"""Of the CPU time for four times the columns: 4 as it is, 17 with DuckDB's search for common expressions."""


class CountedColumns(tuple):
    __slots__ = ()
    reads = 0

    def __iter__(self):
        CountedColumns.reads += 1
        return super().__iter__()


def test_adding_a_chunk_does_not_read_all_earlier_ones(tmp_path):
    service = EmulatorService(EmulatorSettings())
    job = service.create("p", {"targetName": "t", "type": "DELTA", "keys": ["a"]})
    chunks = 10_000
    CountedColumns.reads = 0
    for index in range(chunks):
        kind = ChunkType.DELETE if index % 2 else ChunkType.UPSERT
        columns = CountedColumns([FileColumn("a", ColumnType.INTEGER)])
        service.add_chunk("p", job.id, kind, path=tmp_path, columns=columns, size_bytes=1, checksum="x")
    assert CountedColumns.reads <= 3 * chunks


class Recorded:
    """A connection that keeps its statements."""

    def __init__(self, connection):
        self._connection = connection
        self.statements = []

    def execute(self, sql, *parameters):
        self.statements.append(sql)
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name):
        return getattr(self._connection, name)


def loaded(tmp_path, count, fields):
    """Load a table of this number of columns, most of them timestamps; return the statements and the CPU time in seconds."""
    time_column = pa.array([0], pa.timestamp("ns"))
    path = tmp_path / f"{count}.parquet"
    table = pa.table({"c0": [1], "c1": ["x"]} | {f"c{index}": time_column for index in range(2, count)})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    settings = EmulatorSettings()
    service = EmulatorService(settings)
    job = service.create("p", {"targetName": f"t{count}"} | fields)
    columns = inspect_parquet(path, settings)
    service.add_chunk("p", job.id, ChunkType.UPSERT, path=path, columns=columns, size_bytes=1, checksum="x")
    recorded = []

    def work(connection):
        recorded.append(Recorded(connection))
        return Load(recorded[0], job, "main", settings).run()

    store = Store(None, tmp_path)
    try:
        started = time.process_time()
        store.transact("main", work)
        seconds = time.process_time() - started
        assert store.query(f"SELECT c0, c1 FROM t{count}") == [(1, "x")]
    finally:
        store.close()
    return recorded[0].statements, seconds


@pytest.mark.parametrize("fields", [{"type": "REPLACE"}, {"type": "DELTA", "keys": ["c0"]}], ids=["replace", "upsert"])
def test_a_load_is_linear_in_the_number_of_columns(tmp_path, fields):
    few, few_seconds = loaded(tmp_path, 750, fields)
    many, many_seconds = loaded(tmp_path, 3000, fields)
    assert len(many) == len(few)
    assert sum(map(len, many)) < 5 * sum(map(len, few))
    assert many_seconds < MAX_RATIO * few_seconds
