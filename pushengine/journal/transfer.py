"""All that a journal remembers of loads and tables as one JSON object, so that another host can go on where this one stopped."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pushengine.errors import ConfigError
from pushengine.journal.loads import TABLES
from pushengine.journal.queries import JournalQueries
from pushengine.journal.tables import RememberedTable, TableKey, all_tables
from pushengine.schema.known import KnownTable
from pushengine.text import iso_utc

if TYPE_CHECKING:
    from pushengine.journal.store import JournalFile

_FORMAT = 1


def export_memory(queries: JournalQueries, at: float) -> dict[str, Any]:
    """Return what is remembered of loads and tables as JSON types; `at` is the current time, seconds UTC. The pushes are left out."""
    return {
        "pushengine_state": _FORMAT,
        "exported_at": iso_utc(at),
        "loads": {table: queries.loads.dump(table) for table in TABLES},
        "tables": [
            {**key._asdict(), "known": table.known.to_dict(), "push_id": table.push_id, "at": table.at}
            for key, table in all_tables(queries).items()
        ],
    }


def import_memory(file: JournalFile, raw: Any) -> dict[str, int]:
    """Remember what another host has exported, in place of what is known of the same loads and tables. Needs an open transaction.

    Returns:
        Number of rows for each table of the journal, and of remembered tables (`tables`).

    Raises:
        ConfigError: It is not what `export_memory` returns, or a newer version wrote it.
    """
    if not isinstance(raw, Mapping) or "pushengine_state" not in raw:
        raise _bad("it is not what `pushengine state export` writes")
    if raw["pushengine_state"] != _FORMAT:
        raise _bad(f"it has format {raw['pushengine_state']}, this version reads {_FORMAT}")
    counts = {}
    try:
        for table in TABLES:
            rows = raw["loads"][table]
            file.loads.restore(table, rows)
            counts[table] = len(rows)
        seq = file.tables.last_seq()
        for entry in raw["tables"]:
            known = dataclasses.replace(KnownTable.from_dict(entry["known"]), version=seq)
            key = TableKey(entry["team"], entry["pool_id"], entry["connection_id"], entry["name"])
            # The numbers of facts are those of another journal: every push that this one submits comes later.
            remembered = RememberedTable(known, replaced_seq=seq, push_id=entry["push_id"], at=entry["at"])
            file.tables.put(key, remembered)
        counts["tables"] = len(raw["tables"])
    except (KeyError, TypeError, ValueError, AttributeError, sqlite3.IntegrityError, sqlite3.InterfaceError) as error:
        raise _bad(f"it is damaged: {error}") from error
    return counts


def _bad(why: str) -> ConfigError:
    return ConfigError(
        f"the file cannot be imported: {why}", key="FILE", hint="write it with: pushengine state export --all"
    )
