"""Finds in the journal what is remembered of tables, for commands that need no account."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pushengine.errors import ConfigError

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.journal.tables import RememberedTable, TableKey


def find_tables(loaded: Config, table: str | None = None) -> Mapping[TableKey, RememberedTable]:
    """Return the remembered tables, or one of them, of the configured team, pool and connection, as far as these are configured.

    Raises:
        ConfigError: The state folder cannot be read.
        JournalError: The journal cannot be read.
    """
    from pushengine.celonis.wire import parse_team_url  # noqa: PLC0415 - only commands that need them import these
    from pushengine.journal.reader import JournalReader  # noqa: PLC0415
    from pushengine.journal.tables import all_tables  # noqa: PLC0415

    path = loaded.state.find_journal()
    if path is None:
        return {}
    with JournalReader(path) as reader:
        tables = all_tables(reader)
    team = None if loaded.url is None else parse_team_url(loaded.url)[1]
    return {
        key: one
        for key, one in tables.items()
        if (table is None or key.name == table.casefold())
        and team in (None, key.team)
        and loaded.pool_id in (None, key.pool_id)
        and loaded.connection_id in (None, key.connection_id)
    }


def find_table(loaded: Config, table: str) -> tuple[TableKey, RememberedTable]:
    """Return one remembered table.

    Raises:
        ConfigError: Nothing is remembered of it, or it is remembered in more than one place.
        JournalError: The journal cannot be read.
    """
    found = find_tables(loaded, table)
    if not found:
        raise ConfigError(
            f"nothing is remembered of table {table}: {loaded.state.journal}",
            key="TABLE",
            hint="`pushengine schema show` lists the tables; the first push into a table that reaches DONE adds it",
        )
    if len(found) > 1:
        places = "; ".join(
            f"pool {key.pool_id} of {key.team}, connection {key.connection_id or 'none'}" for key in found
        )
        raise ConfigError(
            f"table {table} is remembered in {len(found)} places: {places}",
            key="TABLE",
            hint="choose one with --url, --pool and --connection",
        )
    return next(iter(found.items()))
