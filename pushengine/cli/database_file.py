"""The DuckDB file that an emulator keeps its tables in.

Looked at before DuckDB sees it, which guesses: it opens a CSV or Parquet file as if it were a database, with all tables in memory, and loads
an extension for an SQLite file, which would then get the emulator's tables.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from pushengine.cli.options import DATABASE_SUFFIXES
from pushengine.errors import ConfigError

_NO_FILE = re.compile(r":memory:|\w{2,}:")  # a single letter is a drive of Windows
_MAGIC_PLACE = slice(8, 12)
_MAGIC = b"DUCK"


def check_database(database: Path, option: str) -> None:
    """Make sure that a file is a database of DuckDB, or may become one. Nothing is written.

    A name without suffix may be either.

    Args:
        database: The file.
        option: The option that named it, for messages.

    Raises:
        ConfigError: It is named like another kind of file, or it exists and is something else.
    """
    if _NO_FILE.match(str(database)):
        raise ConfigError(
            f"{option}: {database} is not the name of a file",
            key=option,
            hint="name a file, such as try.duckdb; without one, tables are kept in memory",
        )
    if database.suffix and database.suffix.lower() not in DATABASE_SUFFIXES:
        raise ConfigError(
            f"{option}: {database} is not named like a DuckDB file",
            key=option,
            hint=f"name one that ends in .duckdb, .ddb or .db: {database.with_suffix('.duckdb')}",
        )
    try:
        is_other = database.exists() and not (database.is_file() and _is_duckdb(database))
    except OSError as error:
        raise ConfigError(f"{option}: cannot use {database}: {error.strerror}", key=option) from error
    if is_other:
        raise ConfigError(
            f"{option}: cannot use {database}: it is not a DuckDB file",
            key=option,
            hint="it was not changed; name a DuckDB file, or a new one",
        )


def _is_duckdb(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(_MAGIC_PLACE.stop)[_MAGIC_PLACE] == _MAGIC


@contextlib.contextmanager
def database_errors(database: Path | None, option: str) -> Iterator[None]:
    """Turn what DuckDB says of its file into our error.

    Raises:
        ConfigError: DuckDB cannot open it.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{option}: cannot use {database}: {reason}",
            key=option,
            hint="name a DuckDB file, or a new one in a folder that exists; one process at a time may use it",
        ) from error


def try_database(database: Path, option: str) -> None:
    """Make sure that an emulator can keep its tables in a file; makes the file.

    Raises:
        ConfigError: It cannot.
    """
    import duckdb

    check_database(database, option)
    with database_errors(database, option):
        duckdb.connect(str(database)).close()
