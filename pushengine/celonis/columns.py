"""The tables and columns that the platform lists (`PoolTable` and `PoolColumn` of pycelonis 2.20). Pure functions, no I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

from pushengine.celonis import wire
from pushengine.model import RESERVED_NAMES, ColumnType, TableColumn

_BYTES_PER_CHARACTER = 4
_TYPES: Mapping[str, ColumnType] = {name: name for name in get_args(ColumnType)}


def parse_columns(body: bytes, *, operation: str, status: int = 200) -> list[TableColumn]:
    """Parse an array of `PoolColumn` into the columns of a table, without the one that the platform adds.

    Lengths come back as four times the declared characters (fact sheet 1.6). The vendor's client knows only one type of time, DATE; unless
    the list has a DATETIME, it is read as DATETIME. A column is left out if its type is unknown, or if it is listed twice, which must be
    two tables.

    Raises:
        UnexpectedResponseError: The body is not a list of objects with names.
    """
    listed = _listed(body, "a column", operation, status)
    names = [raw["name"].casefold() for raw in listed]
    counts = Counter(names)
    # Every pushed table has a timestamp, the column that the platform adds.
    is_exact = any(raw.get("type") == "DATETIME" for raw in listed)
    columns = [
        _column(raw, is_exact=is_exact)
        for raw, name in zip(listed, names, strict=True)
        if name not in RESERVED_NAMES and counts[name] == 1
    ]
    return [column for column in columns if column is not None]


def parse_table_names(
    body: bytes, table: str, connection_id: str | None, *, operation: str, status: int = 200
) -> list[str]:
    """Parse an array of `PoolTable` and return how the platform spells the name of a table of one data connection; case is ignored.

    Raises:
        UnexpectedResponseError: The body is not a list of objects with names.
    """
    return [
        raw["name"]
        for raw in _listed(body, "a table", operation, status)
        if raw["name"].casefold() == table.casefold() and (raw.get("dataSourceId") or None) == connection_id
    ]


def _listed(body: bytes, what: str, operation: str, status: int) -> list[dict[str, Any]]:
    listed = [raw for raw in wire.parse_list(body, operation, status) if raw is not None]
    for raw in listed:
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"]:
            wire.raise_unusable(operation, status, f"{what} in it has no name")
    return listed


def _column(raw: Mapping[str, Any], *, is_exact: bool) -> TableColumn | None:
    listed = raw.get("type")
    column_type = _TYPES.get(listed) if isinstance(listed, str) else None
    if column_type is None:
        return None
    if column_type == "DATE" and not is_exact:
        column_type = "DATETIME"
    length = raw.get("length")
    if column_type != "STRING" or not isinstance(length, int) or length < _BYTES_PER_CHARACTER:
        return TableColumn(raw["name"], column_type)
    return TableColumn(raw["name"], column_type, length // _BYTES_PER_CHARACTER)
