"""`schema show`, `export`, `import` and `forget`: what is remembered of the tables that were loaded."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import options, runner, session, terminal
from pushengine.cli.tables.lookup import find_table, find_tables
from pushengine.text import format_count

if TYPE_CHECKING:
    from pushengine.journal.tables import RememberedTable, TableKey

TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="Name of the table, in any letter case.")]
EmulatorDatabase = Annotated[
    Path | None,
    typer.Option(
        "--emulator", metavar="DATABASE", help="The tables of this DuckDB file, as `push --emulator` remembers them."
    ),
]


def show(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Only this table; otherwise all.")] = None,
    *,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    emulator: EmulatorDatabase = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what is remembered of a table: columns, types, lengths, keys. Reads this host's journal; needs no account."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_tables

        loaded = session.load_tables_config(config, url, pool, connection, emulator)
        found = find_tables(loaded, table)
        if as_json:
            terminal.print_json({"tables": [_to_json(key, one) for key, one in found.items()]})
        else:
            terminal.print_result(describe_tables(found, loaded.state.journal))

    runner.run(body, as_json=as_json)


def export(
    table: TableArgument,
    *,
    output: options.Output = None,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    emulator: EmulatorDatabase = None,
) -> None:
    """Write the columns of a table as a file for `push --columns` and `schema import`."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.tables.columns_file import dump_columns

        loaded = session.load_tables_config(config, url, pool, connection, emulator)
        _, remembered = find_table(loaded, table)
        text = dump_columns(remembered.known)
        with terminal.ignoring_broken_pipe(), terminal.writing_to(output) as file:
            file.write(text)

    runner.run(body)


def import_(
    table: TableArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `schema export` wrote.")],
    *,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    emulator: EmulatorDatabase = None,
) -> None:
    """Remember the columns in a file as those of a table, such as one that another host or tool has loaded."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.celonis.wire import parse_team_url
        from pushengine.cli.tables.columns_file import read_table
        from pushengine.journal.tables import RememberedTable, TableKey

        loaded = session.load_tables_config(config, url, pool, connection, emulator)
        known = read_table(file, table)
        team = "emulator" if emulator is not None else parse_team_url(loaded.require_url())[1]
        key = TableKey.of(team, loaded.require_pool_id(), loaded.connection_id, table)
        with session.editing_tables(loaded) as tables:
            seq = tables.last_seq()
            remembered = RememberedTable(dataclasses.replace(known, version=seq), replaced_seq=seq, at=time.time())
            tables.put(key, remembered)
        terminal.print_result([f"remembered: table {table}, {format_count(len(known.columns), 'column')}"])

    runner.run(body)


def forget(
    table: TableArgument,
    *,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    connection: options.Connection = None,
    emulator: EmulatorDatabase = None,
) -> None:
    """Forget a table: the next push into it is free to choose types, as if the table were new. The table itself is not touched."""

    async def body(_interrupts: runner.Interrupts) -> None:
        loaded = session.load_tables_config(config, url, pool, connection, emulator)
        key, _ = find_table(loaded, table)
        with session.editing_tables(loaded) as tables:
            tables.forget(key)
        terminal.print_result([f"forgotten: table {table}; the next push into it chooses its types as for a new table"])

    runner.run(body)


def _to_json(key: TableKey, table: RememberedTable) -> dict[str, Any]:
    from pushengine.text import iso_utc

    known = table.known
    return {
        "table": known.name,
        "team": key.team,
        "pool_id": key.pool_id,
        "connection_id": key.connection_id or None,
        "columns": [
            {"name": column.name, "type": column.type, "length": column.length, "reading": column.conversion or None}
            for column in known.columns
        ],
        "keys": list(known.keys),
        "rows": known.rows,
        "push_id": table.push_id or None,
        "at": iso_utc(table.at) if table.at else None,
        "is_doubtful": bool(known.doubt),
        "doubt": known.doubt or None,
    }
