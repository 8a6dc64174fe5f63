"""What is known of a table that exists: from the pushes that reached DONE, and from the platform where it lets us read the columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pushengine.model import ColumnType, TableColumn, may_be_listed_as, type_name
from pushengine.text import name_key


def had_no_values(conversion: str) -> bool:
    """Return whether this is the name of a conversion of a column without a value."""
    return conversion.startswith("no_values")


@dataclasses.dataclass(frozen=True, slots=True)
class KnownColumn:
    """A column of a table that exists.

    Attributes:
        name: Name, as the table spells it.
        type: Column type on the platform.
        length: Declared length in characters; None unless the type is STRING, or if it is not known.
        conversion: Name of the conversion that its last values went through (`schema.conversions`); empty if it is not known.
    """

    name: str
    type: ColumnType
    length: int | None = None
    conversion: str = ""

    def __repr__(self) -> str:
        return f"{self.name} {type_name(self.type, self.length)}"


@dataclasses.dataclass(frozen=True, slots=True)
class KnownTable:
    """A table that exists, as far as it is known.

    Attributes:
        name: Name, as the table spells it.
        columns: The columns, in table order.
        keys: Key columns of the latest upsert; empty if there was none.
        rows: Rows of the latest replace; None if none is known.
        doubt: Id of a push whose outcome is unknown: it may have changed the table. Empty if there is none.
        version: Changes with every push that changed what is remembered.
        origin: Where the columns come from.
    """

    name: str
    columns: tuple[KnownColumn, ...]
    keys: tuple[str, ...] = ()
    rows: int | None = None
    doubt: str = ""
    version: int = 0
    origin: Literal["memory", "platform"] = "memory"

    def by_name(self) -> dict[str, KnownColumn]:
        """Return the name as it is compared (`text.name_key`) -> column."""
        return {name_key(column.name): column for column in self.columns}

    def with_platform_columns(self, columns: Sequence[TableColumn]) -> KnownTable:
        """Return the table with the columns that the platform lists. They win over those remembered, which fill the gaps.

        The platform may list a type less exactly than it stores it: the remembered type stays if it may be listed so. A remembered column
        that the platform does not list stays, too: pushengine does not understand the types of all columns that may be listed.
        """
        merged = []
        remembered = self.by_name()
        for column in columns:
            known = remembered.get(name_key(column.name))
            if known is None or not may_be_listed_as(known.type, column.type):
                merged.append(KnownColumn(column.name, column.type, column.length))
            else:
                length = column.length if known.type == "STRING" and column.length is not None else known.length
                merged.append(dataclasses.replace(known, name=column.name, length=length))
        listed = {name_key(column.name) for column in columns}
        unlisted = [column for column in self.columns if name_key(column.name) not in listed]
        return dataclasses.replace(self, columns=(*merged, *unlisted), origin="platform")

    def to_dict(self) -> dict[str, Any]:
        """Return the table as JSON-compatible values."""
        raw = dataclasses.asdict(self)
        raw["columns"] = [[c.name, c.type, c.length, c.conversion] for c in self.columns]
        raw["keys"] = list(self.keys)
        return raw

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> KnownTable:
        """Restore a table from the result of `to_dict()`; keys that a newer version added are ignored."""
        names = {field.name for field in dataclasses.fields(cls)}
        values = {key: value for key, value in raw.items() if key in names}
        columns = tuple(KnownColumn(*column) for column in raw["columns"])
        return cls(**{**values, "columns": columns, "keys": tuple(raw.get("keys", ()))})
