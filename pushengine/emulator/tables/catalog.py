"""The tables and columns that exist in the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pushengine.emulator.tables.columns import TargetColumn, length_of_comment

CATALOG_SQL = (
    "SELECT schema_name, table_name, table_oid IN (SELECT view_oid FROM duckdb_views()), column_name, data_type, comment "
    "FROM duckdb_columns() WHERE database_name = current_database() AND NOT internal ORDER BY table_oid, column_index"
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
    return [
        CatalogColumn(schema, table, is_view, TargetColumn(name, data_type, length_of_comment(comment)))
        for schema, table, is_view, name, data_type, comment in rows
    ]
