"""The columns and the schema of a table, as one push sends them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pyarrow as pa

from pushengine.model import ColumnType, TableColumn, type_name
from pushengine.text import name_key

FixedBy = Literal["", "table", "policy", "file"]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column with its final type.

    Attributes:
        name: Name in the target.
        type: Column type on the platform.
        arrow_type: Physical type in every chunk.
        length: Declared length in characters; None unless the type is STRING.
        conversion: Name of the conversion that values go through; if empty, the types of source and column decide.
        is_forced: Whether the user requested this type.
        fixed_by: Why the type cannot change: the table exists and keeps it, a policy refuses changes, or a file of columns says so. Empty if
            it can.
        has_fixed_length: Whether the length cannot change, for the same reasons or because the user requested it.
        source: Name in the source, if it differs from `name`.
        is_missing: Whether the source lacks the column, which is then NULL in every row.
    """

    name: str
    type: ColumnType
    arrow_type: pa.DataType
    length: int | None = None
    conversion: str = ""
    is_forced: bool = False
    fixed_by: FixedBy = ""
    has_fixed_length: bool = False
    source: str = ""
    is_missing: bool = False

    @property
    def is_fixed(self) -> bool:
        """Whether the type cannot change."""
        return bool(self.fixed_by)

    @property
    def source_name(self) -> str:
        """Name of the column in the source."""
        return self.source or self.name

    def __repr__(self) -> str:
        return f"{self.name} {type_name(self.type, self.length)}"


@dataclasses.dataclass(frozen=True, slots=True)
class TableSchema:
    """The schema of a push: every chunk has exactly these columns and physical types.

    Attributes:
        columns: The columns, in source order; those that the source lacks come last.
        keys: Names of the key columns, in which no value may be missing.
        ignored: Columns of the source that are not sent.
    """

    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema of every chunk."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    @property
    def is_source_order(self) -> bool:
        """Whether every column of the source is sent, under its own name."""
        return not self.ignored and not any(column.source or column.is_missing for column in self.columns)

    def table_columns(self) -> list[TableColumn]:
        """Return the columns as the platform expects them (`tableSchema.columns`)."""
        return [TableColumn(column.name, column.type, column.length) for column in self.columns]

    def __repr__(self) -> str:
        return f"TableSchema({', '.join(map(repr, self.columns))})"


_FLAGS = ("has_fixed_length", "is_missing")
"""Attributes of a column that are stored as lists of column names, and left out where no column has them."""


def dump_schema(schema: TableSchema) -> dict[str, Any]:
    """Return the schema as JSON-compatible values."""
    dumped: dict[str, Any] = {
        "keys": list(schema.keys),
        "columns": [[c.name, c.type, str(c.arrow_type), c.length, c.conversion, c.is_forced] for c in schema.columns],
    }
    extra = {
        **{flag: [c.name for c in schema.columns if getattr(c, flag)] for flag in _FLAGS},
        "fixed_by": {c.name: c.fixed_by for c in schema.columns if c.fixed_by},
        "sources": {c.name: c.source for c in schema.columns if c.source},
        "ignored": sorted(schema.ignored),
    }
    return dumped | {key: value for key, value in extra.items() if value}


def load_schema(raw: Mapping[str, Any]) -> TableSchema:
    """Restore a schema from the output of `dump_schema`, of this or an earlier version."""
    flags = {flag: frozenset(raw.get(flag, ())) for flag in _FLAGS}
    sources, fixed_by = raw.get("sources", {}), raw.get("fixed_by", {})
    return TableSchema(
        tuple(
            Column(
                name,
                kind,
                _arrow_type(arrow_type),
                length,
                conversion,
                is_forced,
                fixed_by=fixed_by.get(name, ""),
                source=sources.get(name, ""),
                **{flag: name in names for flag, names in flags.items()},
            )
            for name, kind, arrow_type, length, conversion, is_forced in raw["columns"]
        ),
        tuple(raw["keys"]),
        frozenset(raw.get("ignored", ())),
    )


def sent_name(raw: Mapping[str, Any] | None, name: str) -> str:
    """Return the name under which a column is sent.

    Args:
        raw: The schema, as `dump_schema` returned it.
        name: Name of the column, as the user or the source has it.
    """
    if raw is None:
        return name
    for sent, source in raw.get("sources", {}).items():
        if source == name:
            return str(sent)
    return next((str(column[0]) for column in raw["columns"] if name_key(column[0]) == name_key(name)), name)


def _arrow_type(name: str) -> pa.DataType:
    if name.startswith("timestamp["):
        return pa.timestamp(name[len("timestamp[") : -1])
    return pa.type_for_alias(name)
