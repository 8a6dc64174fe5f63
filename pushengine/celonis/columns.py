"""The tables and columns that the platform lists (`PoolTable` and `PoolColumn` of pycelonis 2.20). Pure functions, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pushengine.celonis import wire
from pushengine.model import RESERVED_NAMES, ColumnType, TableColumn

_BYTES_PER_CHARACTER = 4
_TYPES: Mapping[str, ColumnType] = {name: name for name in get_args(ColumnType)}


class ListedColumn(NamedTuple):
    """A `PoolColumn`, as far as it is used. `type` and `length` are as the platform sent them, or None if they are of no use."""

    name: str
    type: str | None
    length: int | None


def parse_listed_column(raw: object, *, operation: str, status: int = 200) -> ListedColumn | None:
    """Parse an element of a list of columns; return None for null.

    Raises:
        UnexpectedResponseError: It is not an object with a name.
    """
    listed = _named(raw, "a column", operation, status)
    if listed is None:
        return None
    kind, length = listed.get("type"), listed.get("length")
    return ListedColumn(
        listed["name"], kind if isinstance(kind, str) else None, length if isinstance(length, int) else None
    )


def columns_of(listed: Sequence[ListedColumn]) -> list[TableColumn]:
    """Return the columns of a table, without the one that the platform adds.

    Lengths come back as four times the declared characters (fact sheet 1.6). The vendor's client knows only one type of time, DATE; unless
    the list has a DATETIME, it is read as DATETIME. A column is left out if its type is unknown, or if it is listed twice, which must be
    two tables.
    """
    names = [column.name.casefold() for column in listed]
    counts = Counter(names)
    # Every pushed table has a timestamp, the column that the platform adds.
    is_exact = any(column.type == "DATETIME" for column in listed)
    columns = [
        _column(column, is_exact=is_exact)
        for column, name in zip(listed, names, strict=True)
        if name not in RESERVED_NAMES and counts[name] == 1
    ]
    return [column for column in columns if column is not None]


def parse_table_name(
    raw: object, *, table: str, connection_id: str | None, operation: str, status: int = 200
) -> str | None:
    """Parse an element of a list of tables (`PoolTable`). Return its name if it is this table of this data connection; case is ignored.

    Raises:
        UnexpectedResponseError: It is not an object with a name.
    """
    listed = _named(raw, "a table", operation, status)
    if listed is None or (listed.get("dataSourceId") or None) != connection_id:
        return None
    name: str = listed["name"]
    return name if name.casefold() == table.casefold() else None


def _named(raw: object, what: str, operation: str, status: int) -> dict[str, Any] | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"]:
        wire.raise_unusable(operation, status, f"{what} in it has no name")
    return raw


def _column(listed: ListedColumn, *, is_exact: bool) -> TableColumn | None:
    column_type = _TYPES.get(listed.type or "")
    if column_type is None:
        return None
    if column_type == "DATE" and not is_exact:
        column_type = "DATETIME"
    length = listed.length
    if column_type != "STRING" or length is None or length < _BYTES_PER_CHARACTER:
        return TableColumn(listed.name, column_type)
    return TableColumn(listed.name, column_type, length // _BYTES_PER_CHARACTER)
