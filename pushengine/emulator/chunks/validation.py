"""Checks that an uploaded file can become a chunk of its job; the platform makes them while the client waits."""

from collections.abc import Sequence
from pathlib import Path

from pushengine.emulator.chunks.csv_files import inspect_csv
from pushengine.emulator.chunks.parquet_files import inspect_parquet, refuse_null_keys
from pushengine.emulator.jobs.model import (
    CHANGE_DATE_COLUMN,
    ChunkType,
    ColumnType,
    FileColumn,
    JobSpec,
    SchemaColumn,
    first_duplicate,
)
from pushengine.emulator.refusals import invalid_file
from pushengine.emulator.settings import EmulatorSettings

_READABLE_AS = {
    ColumnType.INTEGER: {ColumnType.INTEGER},
    ColumnType.FLOAT: {ColumnType.FLOAT, ColumnType.INTEGER},
    ColumnType.BOOLEAN: {ColumnType.BOOLEAN},
    ColumnType.STRING: {ColumnType.STRING},
    ColumnType.DATETIME: {ColumnType.DATETIME, ColumnType.DATE},
    ColumnType.DATE: {ColumnType.DATE, ColumnType.DATETIME},
    ColumnType.TIME: {ColumnType.TIME, ColumnType.STRING},
}


def inspect_file(
    path: Path, spec: JobSpec, chunk_type: ChunkType, settings: EmulatorSettings
) -> tuple[FileColumn, ...]:
    """Return the columns of an uploaded file, after checking that the job can take it; blocks.

    Raises:
        Refusal: 400 that says what is wrong with the file.
    """
    if path.stat().st_size == 0:
        raise invalid_file("The file is empty.")
    is_csv = spec.file_type == "CSV"
    columns = inspect_csv(path, spec.csv, spec.keys) if is_csv else inspect_parquet(path, settings)
    _check_names(columns)
    _check_table_schema(columns, spec, chunk_type)
    keys = _key_columns(columns, spec.keys)
    if keys and not is_csv:
        refuse_null_keys(path, keys)
    return columns


def _check_names(columns: Sequence[FileColumn]) -> None:
    names = [column.name for column in columns]
    if not names or not all(name.strip() for name in names):
        raise invalid_file("Every column needs a name.")
    duplicate = first_duplicate([CHANGE_DATE_COLUMN, *names])
    if duplicate is not None:
        raise invalid_file(f"DUPLICATE_COLUMN_DETECTED: '{duplicate}' equals another column when case is ignored.")


def _check_table_schema(columns: Sequence[FileColumn], spec: JobSpec, chunk_type: ChunkType) -> None:
    if spec.schema is None:
        return
    declared = {column.name.casefold(): column for column in spec.schema}
    present = {column.name.casefold() for column in columns}
    extra = [column.name for column in columns if column.name.casefold() not in declared]
    if extra:
        raise invalid_file(f"The columns {extra} are not in the table schema.")
    missing = [column.name for name, column in declared.items() if name not in present]
    if missing and chunk_type is ChunkType.UPSERT:
        raise invalid_file(f"The columns {missing} of the table schema are missing.")
    if spec.file_type == "PARQUET":
        for column in columns:
            _check_type(column, declared[column.name.casefold()])


def _check_type(column: FileColumn, declared: SchemaColumn) -> None:
    if column.type not in _READABLE_AS[declared.type]:
        raise invalid_file(
            f"Column '{column.name}' contains {column.type} values, which cannot be read as {declared.type}."
        )


def _key_columns(columns: Sequence[FileColumn], keys: Sequence[str]) -> list[str]:
    by_name = {column.name.casefold(): column.name for column in columns}
    missing = [key for key in keys if key.casefold() not in by_name]
    if missing:
        raise invalid_file(f"The keys {missing} are not columns of the file.")
    return [by_name[key.casefold()] for key in keys]
