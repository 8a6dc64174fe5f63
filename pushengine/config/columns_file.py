"""Reads the types in a file of columns, as `schema export` writes it: `--columns`, and `columns_file` of a load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pushengine.errors import ConfigError
from pushengine.state.file_errors import parse_toml, read_text

HINT = "`pushengine schema export` writes such a file"


def read_types(path: Path) -> dict[str, str]:
    """Return column name -> type from such a file.

    Raises:
        ConfigError: The file cannot be read, or is no such file.
    """
    return section_of(read_columns_file(path), "columns", path)


def read_columns_file(path: Path) -> dict[str, Any]:
    """Return the content of such a file.

    Raises:
        ConfigError: It cannot be read, or is not TOML.
    """
    return parse_toml(read_text("cannot read the file of columns", path, key="--columns", hint=HINT), path, hint=HINT)


def section_of(raw: Mapping[str, Any], name: str, path: Path) -> dict[str, str]:
    """Return one of the tables in such a file, which hold a text for each column.

    Raises:
        ConfigError: It holds something else.
    """
    section = raw.get(name, {})
    if not isinstance(section, dict) or not all(isinstance(value, str) for value in section.values()):
        raise ConfigError(
            f'{path}: [{name}] must hold column names and texts, as in VBELN = "STRING(40)"',
            key=name,
            hint=HINT,
        )
    return section
