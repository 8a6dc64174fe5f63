"""Reads the files of chunks in DuckDB."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from pushengine.emulator.chunks.csv_files import open_csv
from pushengine.emulator.jobs.model import Chunk, ColumnType, JobSpec
from pushengine.emulator.tables.columns import TargetColumn, csv_expression, literal, parquet_expression, quote

_CSV_RELATION = "csv_chunk"


@contextlib.contextmanager
def chunk_relation(
    connection: Any, chunk: Chunk, spec: JobSpec, columns: Sequence[TargetColumn]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the relation that reads a chunk's file, and an SQL expression on it for each of these columns."""
    by_name = {column.name.casefold(): column for column in chunk.columns}
    is_parquet = spec.file_type == "PARQUET"
    relation = f"read_parquet({literal(str(chunk.path))})" if is_parquet else _CSV_RELATION
    has_times = any(column.type is ColumnType.DATETIME for column in chunk.columns)
    types = _types(connection, relation) if is_parquet and has_times else {}
    values = []
    for target in columns:
        column = by_name.get(target.name.casefold())
        if column is None:
            values.append(f"CAST(NULL AS {target.duckdb_type})")
        elif is_parquet:
            values.append(parquet_expression(quote(column.name), types.get(column.name, ""), target))
        else:
            values.append(csv_expression(quote(column.name), column.name, target, spec.csv))
    if is_parquet:
        yield relation, values
        return
    with open_csv(chunk.path, spec.csv) as reader:
        connection.register(_CSV_RELATION, reader)
        try:
            yield relation, values
        finally:
            with contextlib.suppress(duckdb.Error):  # fails in an aborted transaction, whose own error matters more
                connection.unregister(_CSV_RELATION)


def _types(connection: Any, relation: str) -> dict[str, str]:
    """Return the types in DuckDB of the columns of a relation."""
    sql = f"SELECT column_name, column_type FROM (DESCRIBE FROM {relation})"  # noqa: S608
    return dict(connection.execute(sql).fetchall())
