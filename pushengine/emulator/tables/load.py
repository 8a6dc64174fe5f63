"""Applies the chunks of a job to its table, in one transaction.

REPLACE recreates the table. DELTA appends rows or, with keys, replaces the rows whose keys are equal. Chunks apply in the
order of their upload: a deleted row removes earlier rows with the same keys, and a later upserted row adds them again.
Among upserted rows with equal keys, the one with the highest value in the duplicate removal column wins. Without such a
column, the last uploaded row wins, unless the job allows duplicates.
"""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pushengine.emulator.jobs.model import CHANGE_DATE_COLUMN, Chunk, ChunkType, Job
from pushengine.emulator.settings import EmulatorSettings
from pushengine.emulator.tables.catalog import CATALOG_SQL, catalog_columns
from pushengine.emulator.tables.chunk_files import chunk_relation
from pushengine.emulator.tables.columns import (
    COLUMN_TYPES,
    MAX_COMMENTED_COLUMNS,
    WIDENINGS,
    TargetColumn,
    comment_of_table,
    declared_columns,
    literal,
    quote,
)


class LoadError(Exception):
    """A job that cannot be loaded: it ends with ERROR, and its logs contain this message."""


class Load:
    """One execution of a job on one connection, inside a transaction that the caller owns."""

    def __init__(self, connection: Any, job: Job, schema: str, settings: EmulatorSettings) -> None:
        self._connection = connection
        self._job = job
        self._spec = job.spec
        self._settings = settings
        self._schema = schema
        self._change_date = datetime.fromtimestamp(settings.now(), UTC).replace(tzinfo=None)
        self._table = ""
        self._existing: dict[str, TargetColumn] = {}  # by casefolded name
        self._changed: list[TargetColumn] = []
        self._columns: list[TargetColumn] = []
        self._keys: list[int] = []

    def run(self) -> list[str]:
        """Apply the job and return its logs.

        Raises:
            LoadError: The job cannot be applied.
            duckdb.Error: A value cannot be converted.
        """
        upserted = [chunk for chunk in self._job.chunks if chunk.type is ChunkType.UPSERT]
        if not self._job.chunks:
            raise LoadError("The push job has no chunks.")
        self._find_table()
        if not upserted and not self._existing:
            return [f"The table {self._spec.target_name} does not exist; nothing was deleted."]
        self._determine_columns((upserted or self._job.chunks)[0])
        removal = self._duplicate_removal_index()
        if self._spec.type == "REPLACE" or not self._existing:
            self._create_table()
        if self._keys:
            return self._merge(removal)
        rows = sum(self._insert(self._target(), chunk) for chunk in upserted)
        return [f"{rows} rows of {len(upserted)} chunks were inserted into {self._spec.target_name}."]

    # The table

    def _find_table(self) -> None:
        """Find the existing table and its columns."""
        self._table = self._qualified(self._spec.target_name)
        for known in catalog_columns(self._connection.execute(CATALOG_SQL).fetchall()):
            if known.is_in(self._schema, self._spec.target_name):
                self._schema = known.schema
                self._table = self._qualified(known.table)
                self._existing[known.column.name.casefold()] = known.column

    def _qualified(self, table: str) -> str:
        database = self._scalar("SELECT current_database()")
        return f"{quote(database)}.{quote(self._schema)}.{quote(table)}"

    def _scalar(self, sql: str) -> Any:
        """Run a statement and return its only value. It fetches all rows: DuckDB refuses to register a CSV file before that."""
        return self._connection.execute(sql).fetchall()[0][0]

    def _determine_columns(self, chunk: Chunk) -> None:
        columns = chunk.columns
        if chunk.type is ChunkType.DELETE:  # the job only deletes, so only its keys matter
            keys = {key.casefold() for key in self._spec.keys}
            columns = tuple(column for column in columns if column.name.casefold() in keys)
        declared = declared_columns(columns, self._spec, self._settings.default_varchar_length)
        if self._spec.type == "DELTA" and self._existing:
            declared = [found for column in declared if (found := self._as_in_table(column)) is not None]
            self._store_lengths()
        self._columns = declared
        indexes = {column.name.casefold(): index for index, column in enumerate(declared)}
        self._keys = [indexes[key.casefold()] for key in self._spec.keys]

    def _as_in_table(self, column: TargetColumn) -> TargetColumn | None:
        """Return the existing column of the table, which keeps its type when rows are added; None for a column to ignore.

        Raises:
            LoadError: The table has no such column and may not get it, or its type differs.
        """
        existing = self._existing.get(column.name.casefold())
        if existing is None:
            return self._new_column(column)
        pair = column.duckdb_type, existing.duckdb_type
        if column.duckdb_type != existing.duckdb_type and pair not in WIDENINGS and pair[1] in COLUMN_TYPES:
            raise LoadError(f"Column '{column.name}' is {pair[1]} in the table and {pair[0]} in the push job.")
        if existing.length is None or self._settings.delta_long_strings == "cut":
            return existing
        if self._settings.delta_long_strings == "refuse":
            return dataclasses.replace(existing, refuses_longer=True)
        widened = dataclasses.replace(existing, length=max(existing.length, column.length or 0))
        if widened != existing:
            self._put(widened)
        return widened

    def _new_column(self, column: TargetColumn) -> TargetColumn | None:
        """Treat a column that the table lacks as the setting `delta_new_columns` says."""
        is_ignored = self._settings.delta_new_columns == "ignore"
        is_key = is_ignored and column.name.casefold() in {key.casefold() for key in self._spec.keys}
        if self._settings.delta_new_columns == "refuse" or is_key:
            raise LoadError(f"Column '{column.name}' does not exist in the table {self._spec.target_name}.")
        if is_ignored:
            return None
        self._connection.execute(f"ALTER TABLE {self._table} ADD COLUMN {quote(column.name)} {column.duckdb_type}")
        self._put(column)
        return column

    def _put(self, column: TargetColumn) -> None:
        self._existing[column.name.casefold()] = column
        self._changed.append(column)

    def _duplicate_removal_index(self) -> int | None:
        name = self._job.duplicate_removal_column
        if name is None:
            return None
        for index, column in enumerate(self._columns):
            if column.name.casefold() == name.casefold():
                return index
        raise LoadError(f"The duplicate removal column '{name}' is not a column of the push job.")

    def _create_table(self) -> None:
        run = self._connection.execute
        run(f"DROP TABLE IF EXISTS {self._table}")
        self._table = self._qualified(self._spec.target_name)
        columns = [*self._columns, TargetColumn(CHANGE_DATE_COLUMN, "TIMESTAMP")]
        run(f"CREATE TABLE {self._table} ({', '.join(f'{quote(c.name)} {c.duckdb_type}' for c in columns)})")
        self._existing = {}
        for column in columns:
            self._put(column)
        self._store_lengths()

    def _store_lengths(self) -> None:
        """Store the declared lengths of the columns that are new or changed."""
        changed, self._changed = [column for column in self._changed if column.comment], []
        if changed and len(self._existing) > MAX_COMMENTED_COLUMNS:
            lengths = literal(comment_of_table(list(self._existing.values())))
            self._connection.execute(f"COMMENT ON TABLE {self._table} IS {lengths}")
            return
        for column in changed:
            sql = f"COMMENT ON COLUMN {self._table}.{quote(column.name)} IS {literal(column.comment or '')}"
            self._connection.execute(sql)

    def _target(self) -> str:
        """Return the target of an INSERT: the table with the job's columns and, if it has one, the change date."""
        return f"{self._table} ({', '.join([*(quote(c.name) for c in self._columns), *self._change_date_name()])})"

    def _change_date_name(self) -> list[str]:
        known = self._existing.get(CHANGE_DATE_COLUMN.casefold())
        return [] if known is None else [quote(known.name)]

    # Rows without keys

    def _insert(self, target: str, chunk: Chunk, extra: Sequence[str] | None = None) -> int:
        """Insert the rows of a chunk into a table and return their number."""
        last = extra if extra is not None else [literal(str(self._change_date))] * len(self._change_date_name())
        with chunk_relation(self._connection, chunk, self._spec, self._columns) as (relation, values):
            sql = f"INSERT INTO {target} SELECT {', '.join([*values, *last])} FROM {relation}"  # noqa: S608
            return self._insert_wide(sql)

    def _insert_wide(self, sql: str) -> int:
        """Run an INSERT without DuckDB's optimizer, which takes time quadratic in the number of columns, and return its rows."""
        self._connection.execute("PRAGMA disable_optimizer")
        count: int = self._scalar(sql)
        self._connection.execute("PRAGMA enable_optimizer")
        return count

    # Rows with keys

    def _merge(self, removal: int | None) -> list[str]:
        """Stage all rows, determine which deletes and upserts take effect for each key, apply them and return the logs."""
        self._stage()
        deleted = self._delete_deleted()
        self._choose_winners(removal)
        upserted = self._upsert_winners()
        return [f"{upserted} rows were upserted into {self._spec.target_name}, {deleted} deleted."]

    def _stage(self) -> None:
        """Copy every row to the staging table in upload order, so that its row ids give that order."""
        columns = ", ".join(f"c{index} {column.duckdb_type}" for index, column in enumerate(self._columns))
        self._connection.execute(f"CREATE TEMP TABLE staged ({columns}, is_delete BOOLEAN)")
        for chunk in self._job.chunks:
            self._insert("staged", chunk, ["true" if chunk.type is ChunkType.DELETE else "false"])

    def _key_names(self) -> str:
        return ", ".join(f"c{index}" for index in self._keys)

    def _keys_equal(self, left: str) -> str:
        """Return the SQL condition that keys of the relation `left` equal those of the target table `t`."""
        return " AND ".join(f"{left}.c{index} = t.{quote(self._columns[index].name)}" for index in self._keys)

    def _delete_deleted(self) -> int:
        names = self._key_names()
        self._connection.execute(
            f"CREATE TEMP TABLE deleted AS SELECT {names}, max(rowid) AS last_row FROM staged "  # noqa: S608
            f"WHERE is_delete GROUP BY {names}"
        )
        return self._delete_matching("deleted")

    def _delete_matching(self, relation: str) -> int:
        sql = f"DELETE FROM {self._table} AS t WHERE EXISTS (FROM {relation} AS s WHERE {self._keys_equal('s')})"  # noqa: S608
        count: int = self._scalar(sql)
        return count

    def _choose_winners(self, removal: int | None) -> None:
        names = self._key_names()
        order = "row_order DESC" if removal is None else f"c{removal} DESC NULLS LAST, row_order DESC"
        choice = f"QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY {order}) = 1"
        if self._spec.allow_duplicate and removal is None:
            choice = ""
        needed = sorted({*self._keys, *([] if removal is None else [removal])})
        columns = ", ".join(f"c{index}" for index in needed)
        self._connection.execute(
            f"CREATE TEMP TABLE winners AS SELECT row_order, {names} "  # noqa: S608
            f"FROM (SELECT rowid AS row_order, is_delete, {columns} FROM staged) AS s "
            f"LEFT JOIN deleted AS d USING ({names}) "
            f"WHERE NOT s.is_delete AND (d.last_row IS NULL OR s.row_order > d.last_row) {choice}"
        )

    def _upsert_winners(self) -> int:
        absent = self._kept_columns()
        keys = ", ".join(f"t.{quote(self._columns[index].name)} AS c{index}" for index in self._keys)
        kept = "".join(f", t.{quote(name)} AS k{index}" for index, name in enumerate(absent))
        on_keys = ", ".join(f"t.{quote(self._columns[index].name)}" for index in self._keys)
        self._connection.execute(
            f"CREATE TEMP TABLE kept AS SELECT DISTINCT ON ({on_keys}) {keys}{kept} FROM {self._table} AS t "  # noqa: S608
            f"WHERE EXISTS (FROM winners AS s WHERE {self._keys_equal('s')})"
        )
        self._delete_matching("winners")
        change_date = self._change_date_name()
        names = [*(quote(column.name) for column in self._columns), *(quote(name) for name in absent), *change_date]
        values = [f"w.c{index}" for index in range(len(self._columns))]
        values += [f"kept.k{index}" for index in range(len(absent))]
        values += [literal(str(self._change_date))] * len(change_date)
        return self._insert_wide(
            f"INSERT INTO {self._table} ({', '.join(names)}) SELECT {', '.join(values)} "  # noqa: S608
            f"FROM (SELECT *, rowid AS row_order FROM staged) AS w LEFT JOIN kept USING ({self._key_names()}) "
            "WHERE w.row_order IN (SELECT row_order FROM winners) ORDER BY w.row_order"
        )

    def _kept_columns(self) -> list[str]:
        """Return the table columns that the chunks lack and whose values an upsert keeps."""
        if self._spec.nullifies_absent_columns:
            return []
        written = {column.name.casefold() for column in self._columns} | {CHANGE_DATE_COLUMN.casefold()}
        return [column.name for folded, column in self._existing.items() if folded not in written]
