"""Validation of uploaded Parquet files from their metadata and page headers; only key columns are decoded.

The accepted types are those that clients in production are known to send: BOOLEAN, signed INT32 and INT64, FLOAT and
DOUBLE, UTF-8 strings and INT96 timestamps. A type that is not known to work is rejected unless a setting accepts it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pushengine.emulator.jobs.model import ColumnType, FileColumn
from pushengine.emulator.refusals import invalid_file
from pushengine.emulator.settings import EmulatorSettings

# A page header starts with the page type: Thrift field 1, an i32, zigzag-encoded; DATA_PAGE_V2 is 3.
_DATA_PAGE_V2_HEADER = b"\x15\x06"

_PLAIN_TYPES = {
    "BOOLEAN": ColumnType.BOOLEAN,
    "INT32": ColumnType.INTEGER,
    "INT64": ColumnType.INTEGER,
    "INT96": ColumnType.DATETIME,
    "FLOAT": ColumnType.FLOAT,
    "DOUBLE": ColumnType.FLOAT,
}


def inspect_parquet(path: Path, settings: EmulatorSettings) -> tuple[FileColumn, ...]:
    """Return the columns of a Parquet file, after validating their types and storage.

    Raises:
        Refusal: 400 that says what is wrong with the file.
    """
    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            columns = _columns(file, settings)
            if not file.metadata.num_rows and not settings.accepts_empty_chunks:
                raise invalid_file("The file contains no rows.")
            _check_storage(file.metadata, stream, settings)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise invalid_file(f"An internal error occurred while validating the Parquet file: {exc}") from exc
    return columns


def refuse_null_keys(path: Path, keys: Sequence[str]) -> None:
    """Check that the key columns of an inspected file contain no nulls.

    Raises:
        Refusal: 400 if a key column contains a null or cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            nulls = next(
                (name for batch in file.iter_batches(columns=list(keys)) for name in _null_columns(batch, keys)), None
            )
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise invalid_file(f"The Parquet file cannot be read: {exc}") from exc
    if nulls is not None:
        raise invalid_file(f"The key column '{nulls}' contains nulls.")


def _null_columns(batch: Any, names: Sequence[str]) -> list[str]:
    return [name for name in names if batch.column(name).null_count]


def _columns(file: Any, settings: EmulatorSettings) -> tuple[FileColumn, ...]:
    for column in file.schema_arrow:
        if pa.types.is_nested(column.type):
            raise invalid_file(f"Column '{column.name}' is nested; only primitive types are supported.")
    leaves = (file.schema.column(index) for index in range(len(file.schema)))
    return tuple(FileColumn(leaf.name, _column_type(leaf, settings)) for leaf in leaves)


def _column_type(leaf: Any, settings: EmulatorSettings) -> ColumnType:
    logical: str = leaf.logical_type.type
    kind: ColumnType | None = None
    if logical == "NONE":
        kind = _PLAIN_TYPES.get(leaf.physical_type)
    elif logical == "INT" and json.loads(leaf.logical_type.to_json())["isSigned"]:
        kind = ColumnType.INTEGER
    elif logical == "STRING":
        kind = ColumnType.STRING
    elif logical == "TIMESTAMP" and settings.accepts_int64_timestamps:
        kind = ColumnType.DATETIME
    elif logical == "DATE" and settings.accepts_dates:
        kind = ColumnType.DATE
    if kind is None:
        type_name = leaf.physical_type if logical == "NONE" else f"{leaf.physical_type} {leaf.logical_type}"
        raise invalid_file(f"Column '{leaf.name}' has the unsupported type {type_name}.")
    return kind


def _check_storage(metadata: Any, stream: BinaryIO, settings: EmulatorSettings) -> None:
    for group_index in range(metadata.num_row_groups):
        group = metadata.row_group(group_index)
        for column_index in range(group.num_columns):
            column = group.column(column_index)
            if column.compression not in settings.accepted_codecs:
                raise invalid_file(f"Column '{column.path_in_schema}' uses the unsupported codec {column.compression}.")
            stream.seek(column.data_page_offset)
            if not settings.accepts_data_page_v2 and stream.read(2) == _DATA_PAGE_V2_HEADER:
                raise invalid_file(f"Column '{column.path_in_schema}' has data pages of version 2.")
