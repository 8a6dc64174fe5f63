"""The tables and columns that exist in the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pushengine.emulator.tables.columns import TargetColumn, length_of_comment, lengths_of_comment

CATALOG_SQL = (
    "SELECT c.schema_name, c.table_name, t.table_oid IS NULL, c.column_name, c.data_type, c.comment, "
    "CASE WHEN c.column_index = 1 THEN t.comment END "
    "FROM duckdb_columns() AS c LEFT JOIN duckdb_tables() AS t USING (database_oid, table_oid) "
    "WHERE c.database_name = current_database() AND NOT c.internal ORDER BY c.table_oid, c.column_index"
)


@dataclass(frozen=True)
class CatalogColumn:
    """A column of a table or view that exists."""

    schema: str
    table: str
    is_view: bool
    column: TargetColumn

    def is_in(self, schema: str, table: str) -> bool:
        """Return whether the column is in this table. Names are casefolded, because DuckDB ignores case only in ASCII."""
        return (self.schema.casefold(), self.table.casefold()) == (schema.casefold(), table.casefold())


def catalog_columns(rows: Iterable[tuple[Any, ...]]) -> list[CatalogColumn]:
    """Return the rows of `CATALOG_SQL` as columns, table by table and in the order of the table."""
    columns: list[CatalogColumn] = []
    lengths: dict[tuple[str, str], dict[str, int]] = {}
    for schema, table, is_view, name, data_type, comment, table_comment in rows:
        if table_comment is not None:
            lengths[schema, table] = lengths_of_comment(table_comment)
        length = lengths.get((schema, table), {}).get(name) or length_of_comment(comment)
        columns.append(CatalogColumn(schema, table, is_view, TargetColumn(name, data_type, length)))
    return columns
