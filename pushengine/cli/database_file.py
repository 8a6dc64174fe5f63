"""Checks of the DuckDB file in which an emulator keeps its tables.

pushengine checks the file before DuckDB opens it, because DuckDB guesses the format: it opens a CSV or Parquet file as if it were a
database, with all tables in memory, and for an SQLite file it loads an extension that would write the emulator's tables into that file.
"""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from pushengine.cli.options import DATABASE_SUFFIXES
from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors, status
from pushengine.text import shown_name, storable

_NO_FILE = re.compile(r":memory:|\w{2,}:")  # a single letter before the colon is a Windows drive
_MAGIC_SLICE = slice(8, 12)
_MAGIC = b"DUCK"


def check_database(database: Path, option: str) -> None:
    """Check that a path is a DuckDB database, or that one can be created there. Nothing is written.

    A name without a suffix is accepted.

    Args:
        database: The file.
        option: The option that named the file, for messages.

    Raises:
        ConfigError: The path is not a file name, its suffix is not in `DATABASE_SUFFIXES`, or the file exists but is not a DuckDB file.
    """
    if _NO_FILE.match(str(database)) or storable(str(database)) != str(database):  # DuckDB takes only UTF-8
        raise ConfigError(
            f"{option}: {shown_name(str(database))} is not the name of a file",
            key=option,
            hint="name a file, such as try.duckdb; without one, tables are kept in memory",
        )
    if database.suffix and database.suffix.lower() not in DATABASE_SUFFIXES:
        raise ConfigError(
            f"{option}: {database} is not named like a DuckDB file",
            key=option,
            hint=f"name one that ends in .duckdb, .ddb or .db: {database.with_suffix('.duckdb')}",
        )
    with setting_errors(f"{option}: cannot use", database, key=option, hint="name a DuckDB file, or a new one"):
        found = status(database)
        is_other = found is not None and not (stat.S_ISREG(found.st_mode) and _is_duckdb(database))
    if is_other:
        raise ConfigError(
            f"{option}: cannot use {database}: it is not a DuckDB file",
            key=option,
            hint="it was not changed; name a DuckDB file, or a new one",
        )


def _is_duckdb(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_SLICE.stop)[_MAGIC_SLICE] == _MAGIC


@contextlib.contextmanager
def database_errors(database: Path | None, option: str) -> Iterator[None]:
    """Convert errors that DuckDB raises about its file into `ConfigError`.

    Raises:
        ConfigError: DuckDB cannot open the file.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{option}: cannot use {database}: {reason}",
            key=option,
            hint="name a DuckDB file, or a new one in a folder that exists; only one process at a time can use it",
        ) from error


def try_database(database: Path, option: str) -> None:
    """Check that an emulator can keep its tables in a file, by opening it with DuckDB. Creates the file if it does not exist.

    Raises:
        ConfigError: The file cannot be used.
    """
    import duckdb

    check_database(database, option)
    with database_errors(database, option):
        duckdb.connect(str(database)).close()
