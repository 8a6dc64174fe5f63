"""The columns of a table as a file that people can read and edit: what `schema export` writes, and `--columns` and `schema import` read.

```toml
table = "VBAK"
keys = ["VBELN"]

[columns]                  # type of each column, as `--column` takes it
VBELN = "STRING(255)"
NETWR = "FLOAT"

[readings]                 # how the values were read; optional
NETWR = "text_float"
```
"""

from __future__ import annotations

import json
from pathlib import Path

from pushengine.config.columns_file import HINT, read_columns_file, section_of
from pushengine.errors import ConfigError
from pushengine.model import type_name
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.rules import RequestedType


def dump_columns(table: KnownTable) -> str:
    """Return the content of the file for a table."""
    columns = {column.name: type_name(column.type, column.length) for column in table.columns}
    readings = {column.name: column.conversion for column in table.columns if column.conversion}
    lines = [f"table = {_quoted(table.name)}"]
    if table.keys:
        lines.append(f"keys = [{', '.join(map(_quoted, table.keys))}]")
    for section, values in (("columns", columns), ("readings", readings)):
        if values:
            lines += ["", f"[{section}]", *(f"{_quoted(name)} = {_quoted(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return a TOML string; its escapes are those of JSON, and DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_table(path: Path, name: str) -> KnownTable:
    """Return a table of this name with the columns and keys in such a file.

    Raises:
        ConfigError: The file cannot be read, is no such file, or has an unknown type.
    """
    raw = read_columns_file(path)
    readings = section_of(raw, "readings", path)
    columns = []
    for column, text in section_of(raw, "columns", path).items():
        try:
            requested = RequestedType.parse(text)
        except ValueError as error:
            raise ConfigError(f"{path}: column {column}: {error}", key="columns") from None
        columns.append(KnownColumn(column, requested.type, requested.length, readings.get(column, "")))
    if not columns:
        raise ConfigError(f"{path} has no [columns]", key="columns", hint=HINT)
    keys = raw.get("keys", [])
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(f"{path}: keys must be a list of column names", key="keys")
    return KnownTable(name, tuple(columns), tuple(keys))
