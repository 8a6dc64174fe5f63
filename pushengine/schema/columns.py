"""What a table's columns are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pushengine.model import ColumnType, TableColumn


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One settled column.

    Attributes:
        name: As the source and the target call it.
        type: The platform's type.
        arrow_type: Physical type in every chunk.
        length: Declared length in characters, for STRING.
        conversion: Name of the conversion that values go through; empty for the obvious one.
        is_forced: The user asked for this type.
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
    """The one schema of a push: every chunk has exactly these columns and physical types.

    Attributes:
        columns: In the order of the source.
        keys: Key columns; no value of theirs may be missing.
    """

    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Physical schema of every chunk."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    def table_columns(self) -> list[TableColumn]:
        """What the platform is told (`tableSchema.columns`)."""
        return [TableColumn(column.name, column.type, column.length) for column in self.columns]

    def __repr__(self) -> str:
        return f"TableSchema({', '.join(map(repr, self.columns))})"


def dump_schema(schema: TableSchema) -> dict[str, Any]:
    """The settled schema as JSON types."""
    return {
        "keys": list(schema.keys),
        "columns": [[c.name, c.type, str(c.arrow_type), c.length, c.conversion, c.is_forced] for c in schema.columns],
    }


def load_schema(raw: Mapping[str, Any]) -> TableSchema:
    """What `dump_schema` wrote."""
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
