"""The columns and the schema of a table, as one push sends them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pushengine.model import ColumnType, TableColumn


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column with its final type.

    Attributes:
        name: Name in the source and in the target.
        type: Column type on the platform.
        arrow_type: Physical type in every chunk.
        length: Declared length in characters; None unless the type is STRING.
        conversion: Name of the conversion that values go through; if empty, the types of source and column decide.
        is_forced: Whether the user requested this type.
    """

    name: str
    type: ColumnType
    arrow_type: pa.DataType
    length: int | None = None
    conversion: str = ""
    is_forced: bool = False

    def __repr__(self) -> str:
        return f"{self.name} {self.type}" + ("" if self.length is None else f"({self.length})")


@dataclasses.dataclass(frozen=True, slots=True)
class TableSchema:
    """The schema of a push: every chunk has exactly these columns and physical types.

    Attributes:
        columns: The columns, in source order.
        keys: Names of the key columns, in which no value may be missing.
    """

    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema of every chunk."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    def table_columns(self) -> list[TableColumn]:
        """Return the columns as the platform expects them (`tableSchema.columns`)."""
        return [TableColumn(column.name, column.type, column.length) for column in self.columns]

    def __repr__(self) -> str:
        return f"TableSchema({', '.join(map(repr, self.columns))})"


def dump_schema(schema: TableSchema) -> dict[str, Any]:
    """Return the schema as JSON-compatible values."""
    return {
        "keys": list(schema.keys),
        "columns": [[c.name, c.type, str(c.arrow_type), c.length, c.conversion, c.is_forced] for c in schema.columns],
    }


def load_schema(raw: Mapping[str, Any]) -> TableSchema:
    """Restore a schema from the output of `dump_schema`."""
    return TableSchema(
        tuple(
            Column(name, kind, _arrow_type(arrow_type), length, conversion, is_forced)
            for name, kind, arrow_type, length, conversion, is_forced in raw["columns"]
        ),
        tuple(raw["keys"]),
    )


def _arrow_type(name: str) -> pa.DataType:
    if name.startswith("timestamp["):
        return pa.timestamp(name[len("timestamp[") : -1])
    return pa.type_for_alias(name)
