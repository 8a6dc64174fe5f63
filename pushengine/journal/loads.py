"""What the journal remembers of loads, since format 2, in these tables: files, cursors, blocks, runs and load ids.

```
runs(run_id TEXT PRIMARY KEY,
     started_at REAL, ended_at REAL,       -- seconds UTC; `ended_at` is NULL while the run is unfinished
     pid INTEGER, selection TEXT,          -- JSON: the names and the tag that were given
     exit_code INTEGER)
run_loads(run_id, load, tbl, generation,   -- one row for each push that a run intends, and for each load without one
          number INTEGER,                  -- order within the run
          state TEXT,                      -- planned | running | done | rejects | failed | missing | skipped | blocked | unknown
          body TEXT)                       -- JSON, see `RunLoad`
load_files(load, tbl, path,                -- `path`: a JSON string
           size INTEGER, version TEXT,     -- `version`: JSON of `FileRef.version`
           sha256, generation, state, push_id TEXT, first_seen_at, loaded_at REAL, cleanup TEXT)
load_tables(load, tbl,                     -- the tables that a rule has loaded: expected until they are retired
            team, pool_id, connection_id TEXT,   -- '' for the global schema of the pool
            generation, push_id TEXT, loaded_at REAL)
load_cursors(load, tbl, value, type, push_id TEXT, at REAL)
load_blocks(load, tbl, path, kind, push_id, reason TEXT, at REAL)   -- oldest first by rowid
load_ids(team, pool_id, load_id, push_id TEXT, request, receipt TEXT, at REAL)   -- see `LoadIdRow`; never pruned
```

Names of rules and tables are stored as they are spelled. They are compared case-folded: each table has `load_key` and `tbl_key` for that.
What a push changes here is written in the transaction of its last fact, see `journal/endings.py`.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pushengine.model import Claim, FileRef
from pushengine.text import storable

_PLACE = "load TEXT NOT NULL, tbl TEXT NOT NULL, load_key TEXT NOT NULL, tbl_key TEXT NOT NULL"
LOADS_SCHEMA = f"""
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL, pid INTEGER NOT NULL, selection TEXT NOT NULL, exit_code INTEGER
) STRICT;
CREATE INDEX runs_by_time ON runs (started_at);
CREATE TABLE run_loads (
    run_id TEXT NOT NULL, {_PLACE}, generation TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (run_id, load_key, tbl_key, generation)
) STRICT;
CREATE INDEX run_loads_by_load ON run_loads (load_key, tbl_key);
CREATE TABLE load_files (
    {_PLACE}, path TEXT NOT NULL, size INTEGER NOT NULL, version TEXT NOT NULL, sha256 TEXT NOT NULL, generation TEXT NOT NULL,
    state TEXT NOT NULL, push_id TEXT NOT NULL, first_seen_at REAL NOT NULL, loaded_at REAL NOT NULL, cleanup TEXT NOT NULL,
    PRIMARY KEY (load_key, tbl_key, path)
) STRICT;
CREATE TABLE load_tables (
    {_PLACE}, team TEXT NOT NULL, pool_id TEXT NOT NULL, connection_id TEXT NOT NULL, generation TEXT NOT NULL, push_id TEXT NOT NULL,
    loaded_at REAL NOT NULL, PRIMARY KEY (load_key, tbl_key)
) STRICT;
CREATE INDEX load_tables_by_table ON load_tables (tbl_key);
CREATE TABLE load_cursors (
    {_PLACE}, value TEXT NOT NULL, type TEXT NOT NULL, push_id TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (load_key, tbl_key)
) STRICT;
CREATE TABLE load_blocks (
    {_PLACE}, path TEXT NOT NULL, kind TEXT NOT NULL, push_id TEXT NOT NULL, reason TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (load_key, tbl_key, path)
) STRICT;
CREATE TABLE load_ids (
    team TEXT NOT NULL, pool_id TEXT NOT NULL, load_id TEXT NOT NULL, push_id TEXT NOT NULL, request TEXT NOT NULL, receipt TEXT NOT NULL,
    at REAL NOT NULL, PRIMARY KEY (team, pool_id, load_id)
) STRICT
"""
TABLES = ("runs", "run_loads", "load_files", "load_tables", "load_cursors", "load_blocks", "load_ids")
"""The tables of `LOADS_SCHEMA`."""
_PRUNED_RUN_LOADS = """
DELETE FROM run_loads AS old WHERE EXISTS (
    SELECT 1 FROM runs JOIN run_loads AS newer ON (newer.load_key, newer.tbl_key) = (old.load_key, old.tbl_key)
    JOIN runs AS later ON later.run_id = newer.run_id
    WHERE runs.run_id = old.run_id AND coalesce(runs.ended_at, runs.started_at) < ?1
      AND (later.started_at, later.run_id) > (runs.started_at, runs.run_id))
"""
_PRUNED_RUNS = """
DELETE FROM runs WHERE coalesce(ended_at, started_at) < ?1 AND NOT EXISTS (SELECT 1 FROM run_loads WHERE run_loads.run_id = runs.run_id)
"""

RunState = Literal["planned", "running", "done", "rejects", "failed", "missing", "skipped", "blocked", "unknown"]
FileState = Literal["seen", "loaded", "skipped"]
BlockKind = Literal["failed", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file of a load, as it was when it was first seen, skipped or loaded.

    Attributes:
        path: Absolute path.
        size: Bytes.
        version: `FileRef.version`.
        sha256: SHA-256 of its content in hex; empty if unknown.
        generation: Key of its generation.
        state: `seen`: not loaded yet; `loaded`; `skipped`: by a person (`state skip`) or because its content is loaded already.
        push_id: The push that loaded it; empty if none has.
        first_seen_at: When this content was first seen under this path, seconds UTC.
        loaded_at: When it was loaded or skipped, seconds UTC; 0 if it was not.
        cleanup: What remains to be done with the file, JSON; empty if nothing does.
    """

    load: str
    table: str
    path: str
    size: int
    version: tuple[int | str, ...]
    sha256: str = ""
    generation: str = ""
    state: FileState = "seen"
    push_id: str = ""
    first_seen_at: float = 0.0
    loaded_at: float = 0.0
    cleanup: str = ""

    def is_unchanged(self, file: FileRef) -> bool:
        """Whether a file has the size and version of this row, so that its content is known without reading it."""
        return (self.size, self.version) == (file.size, file.version)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """What keeps a load from loading later generations. `path` is the failed file; empty for an unknown outcome without files."""

    load: str
    table: str
    path: str
    kind: BlockKind
    push_id: str
    reason: str
    at: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTable:
    """A table that a rule has loaded, which is therefore expected."""

    load: str
    table: str
    team: str
    pool_id: str
    connection_id: str
    generation: str
    push_id: str
    loaded_at: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CursorRow:
    """How far a table was read: the highest value of the rows sent, as text with its type."""

    load: str
    table: str
    value: str
    type: str
    push_id: str
    at: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One `pushengine load`.

    Attributes:
        names: The names that were given; empty for all loads.
        ended_at: None while the run is unfinished.
        pid: The process that works, or worked, on it.
    """

    run_id: str
    started_at: float
    names: tuple[str, ...] = ()
    tag: str = ""
    pid: int = 0
    ended_at: float | None = None
    exit_code: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunLoad:
    """What a run did about one generation of one load, or about a load without any.

    Attributes:
        number: Order within the run.
        reason: Why it was skipped, blocked or missing, or how it failed.
        files: Paths of the files, in their order.
        load_id: Load id of the push.
        expected_rows: Number of rows according to the control files; None if that is not known.
        is_late: Whether the deadline passed before it was done.
        rows: Rows loaded.
        source_bytes: Bytes read.
        payload_bytes: Bytes sent.
        exit_code: What the failure alone would exit with; 0 without a failure.
    """

    load: str
    table: str
    generation: str = ""
    number: int = 0
    state: RunState = "planned"
    reason: str = ""
    files: tuple[str, ...] = ()
    push_id: str = ""
    load_id: str = ""
    expected_rows: int | None = None
    is_late: bool = False
    rows: int = 0
    rejected: int = 0
    source_bytes: int = 0
    payload_bytes: int = 0
    started_at: float = 0.0
    ended_at: float = 0.0
    exit_code: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadIdRow:
    """A load id of a push that is DONE.

    Attributes:
        request: The push (source, table, mode, keys, options) as JSON types.
        receipt: Its receipt as JSON types.
        at: When it ended, seconds UTC.
    """

    load_id: str
    push_id: str
    request: Mapping[str, Any]
    receipt: Mapping[str, Any]
    at: float


_FILE = "load, tbl, path, size, version, sha256, generation, state, push_id, first_seen_at, loaded_at, cleanup"
_RUN = "run_id, started_at, selection, pid, ended_at, exit_code"


class LoadMemory:
    """What is remembered of loads, in an open journal. Every method blocks on disk; those that write need an open transaction.

    Args:
        db: Connection to the journal. Where it has format 1, nothing is remembered.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._is_there = bool(db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'load_ids'").fetchone())

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall() if self._is_there else []

    def _selected(
        self, sql: str, load: str | None, table: str | None, order: str = "", paths: Sequence[str] | None = None
    ) -> list[Any]:
        """Return the rows of a rule, of one of its tables, or all; both names are compared case-folded."""
        given = {"load_key = ?": load, "tbl_key = ?": table}
        terms = {term: _key(value) for term, value in given.items() if value is not None}
        if paths is not None:
            terms["path IN (SELECT value FROM json_each(?))"] = json.dumps([_json(path) for path in paths])
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        return self._rows(f"{sql}{where} {order}", *terms.values())

    def _put(self, table: str, load: str, tbl: str, *, first: Sequence[Any] = (), rest: Sequence[Any] = ()) -> None:
        values = [*first, *_place(load, tbl), *rest]
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)  # noqa: S608 - only constants

    def _delete(self, table: str, load: str, tbl: str, path: str | None = None) -> bool:
        where, values = "(load_key, tbl_key) = (?, ?)", [_key(load), _key(tbl)]
        if path is not None:
            where, values = f"{where} AND path = ?", [*values, _json(path)]
        return self._db.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount > 0  # noqa: S608 - only constants

    # --- Runs

    def begin_run(self, run: Run, loads: Sequence[RunLoad]) -> None:
        """Add a run with what it intends."""
        selection = _json({"names": run.names, "tag": run.tag})
        self._db.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)",
            (run.run_id, run.started_at, run.ended_at, run.pid, selection, run.exit_code),
        )
        for load in loads:
            self.set_load(run.run_id, load)

    def set_load(self, run_id: str, load: RunLoad) -> None:
        """Add or replace what a run did about one generation."""
        body = {key: value for key, value in dataclasses.asdict(load).items() if key not in _RUN_LOAD_COLUMNS}
        self._put(
            "run_loads",
            load.load,
            load.table,
            first=[run_id],
            rest=[storable(load.generation), load.number, load.state, _json(body)],
        )

    def drop_load(self, run_id: str, load: RunLoad) -> None:
        """Forget what a run did about one generation."""
        sql = "DELETE FROM run_loads WHERE (run_id, load_key, tbl_key, generation) = (?, ?, ?, ?)"
        self._db.execute(sql, (run_id, *_place(load.load, load.table)[2:], storable(load.generation)))

    def take_run(self, run_id: str, pid: int) -> None:
        """Note that this process works on a run, which is unfinished again if it had ended."""
        self._db.execute("UPDATE runs SET pid = ?, ended_at = NULL, exit_code = NULL WHERE run_id = ?", (pid, run_id))

    def end_run(self, run_id: str, at: float, exit_code: int) -> None:
        """Note the end of a run."""
        self._db.execute("UPDATE runs SET ended_at = ?, exit_code = ? WHERE run_id = ?", (at, exit_code, run_id))

    def run(self, run_id: str) -> Run | None:
        """Return a run; None if there is none."""
        return next((_run(row) for row in self._rows(f"SELECT {_RUN} FROM runs WHERE run_id = ?", run_id)), None)  # noqa: S608 - only constants

    def runs(self, *, since: float = 0.0, limit: int = -1) -> list[Run]:
        """Return the runs that started at or after `since` (seconds UTC), newest first."""
        order = "ORDER BY started_at DESC, rowid DESC LIMIT ?"
        rows = self._rows(f"SELECT {_RUN} FROM runs WHERE started_at >= ? {order}", since, limit)  # noqa: S608 - only constants
        return [_run(row) for row in rows]

    def run_loads(self, run_id: str, load: str | None = None, table: str | None = None) -> list[RunLoad]:
        """Return what a run did, in its order: about all loads, those of a rule, or one of its tables."""
        given = {"run_id = ?": run_id, "load_key = ?": load and _key(load), "tbl_key = ?": table and _key(table)}
        terms = {term: value for term, value in given.items() if value is not None}
        columns, where = "load, tbl, generation, number, state, body", " AND ".join(terms)
        rows = self._rows(f"SELECT {columns} FROM run_loads WHERE {where} ORDER BY number, rowid", *terms.values())  # noqa: S608 - only constants
        return [_run_load(row) for row in rows]

    # --- Files

    def files(
        self, load: str | None = None, table: str | None = None, paths: Sequence[str] | None = None
    ) -> list[FileRow]:
        """Return the files of a rule, of one of its tables, or of all; with `paths`, those of them."""
        rows = self._selected(f"SELECT {_FILE} FROM load_files", load, table, "ORDER BY load_key, tbl_key, path", paths)  # noqa: S608 - only constants
        return [
            FileRow(
                **dict(
                    zip(
                        _FILE_FIELDS,
                        (load, table, json.loads(path), size, tuple(json.loads(version)), *rest),
                        strict=True,
                    )
                )
            )
            for load, table, path, size, version, *rest in rows
        ]

    def put_file(self, row: FileRow) -> None:
        """Add or replace a file; its path is unique within the load."""
        rest = [
            storable(row.generation),
            row.state,
            row.push_id,
            row.first_seen_at,
            row.loaded_at,
            storable(row.cleanup),
        ]
        values = [_json(row.path), row.size, _json(row.version), row.sha256, *rest]
        self._put("load_files", row.load, row.table, rest=values)

    def delete_file(self, load: str, table: str, path: str) -> bool:
        """Forget a file; return whether it was known."""
        return self._delete("load_files", load, table, path)

    # --- Tables, blocks, cursors

    def tables(self, load: str | None = None) -> list[LoadedTable]:
        """Return the tables that a rule, or any, has loaded and that are not retired."""
        sql = "SELECT load, tbl, team, pool_id, connection_id, generation, push_id, loaded_at FROM load_tables"
        return [
            LoadedTable(**dict(zip(_TABLE_FIELDS, row, strict=True)))
            for row in self._selected(sql, load, None, "ORDER BY load_key, tbl_key")
        ]

    def loaders(self, team: str, pool_id: str, connection_id: str | None, table: str) -> list[str]:
        """Return the names of the rules that have loaded a table of a pool."""
        rows = self._rows(
            "SELECT load FROM load_tables WHERE (tbl_key, team, pool_id, connection_id) = (?, ?, ?, ?) ORDER BY load_key",
            *(_key(table), team, pool_id, connection_id or ""),
        )
        return [name for (name,) in rows]

    def put_table(self, row: LoadedTable) -> None:
        """Expect a table."""
        rest = [row.team, row.pool_id, row.connection_id, storable(row.generation), row.push_id, row.loaded_at]
        self._put("load_tables", row.load, row.table, rest=rest)

    def retire(self, load: str, table: str) -> bool:
        """Expect a table no longer; return whether it was expected."""
        return self._delete("load_tables", load, table)

    def blocks(self, load: str | None = None, table: str | None = None) -> list[BlockRow]:
        """Return what blocks loads, oldest first."""
        sql = "SELECT load, tbl, path, kind, push_id, reason, at FROM load_blocks"
        return [
            BlockRow(load=name, table=tbl, path=json.loads(path), kind=kind, push_id=push_id, reason=reason, at=at)
            for name, tbl, path, kind, push_id, reason, at in self._selected(sql, load, table, "ORDER BY at, rowid")
        ]

    def put_block(self, row: BlockRow) -> None:
        """Add or replace a block."""
        rest = [_json(row.path), row.kind, row.push_id, storable(row.reason), row.at]
        self._put("load_blocks", row.load, row.table, rest=rest)

    def lift(self, load: str, table: str, path: str) -> bool:
        """Remove a block; return whether there was one."""
        return self._delete("load_blocks", load, table, path)

    def cursor(self, load: str, table: str) -> CursorRow | None:
        """Return the cursor of a load; None if it has none."""
        return next(iter(self.cursors(load, table)), None)

    def cursors(self, load: str | None = None, table: str | None = None) -> list[CursorRow]:
        """Return the cursors of a rule, of one of its tables, or of all."""
        rows = self._selected("SELECT load, tbl, value, type, push_id, at FROM load_cursors", load, table)
        return [CursorRow(**dict(zip(_CURSOR_FIELDS, row, strict=True))) for row in rows]

    def put_cursor(self, row: CursorRow) -> None:
        """Set the cursor of a load."""
        self._put(
            "load_cursors", row.load, row.table, rest=[storable(row.value), storable(row.type), row.push_id, row.at]
        )

    # --- Pushes of loads

    def open_pushes(self, load: str | None = None) -> list[tuple[str, Claim]]:
        """Return (push id, claim) of the open pushes of loads, oldest first."""
        rows = self._db.execute(
            "SELECT push_id, json_extract(body, '$.claim') FROM pushes JOIN facts USING (push_id)"
            " WHERE state = 'open' AND kind = 'push_planned' AND CASE WHEN json_valid(body) THEN json_extract(body, '$.claim') END IS NOT NULL"
            " ORDER BY created_at, pushes.rowid"
        )
        found = [(push_id, Claim.from_dict(json.loads(claim))) for push_id, claim in rows]
        return [(push_id, claim) for push_id, claim in found if load is None or _key(claim.load) == _key(load)]

    # --- Load ids

    def load_id(self, team: str, pool_id: str, load_id: str) -> LoadIdRow | None:
        """Return what is known of a load id; None if no push with it is DONE."""
        columns = (
            "SELECT load_id, push_id, request, receipt, at FROM load_ids WHERE (team, pool_id, load_id) = (?, ?, ?)"
        )
        for name, push_id, request, receipt, at in self._rows(columns, team, pool_id, storable(load_id)):
            return LoadIdRow(
                load_id=name, push_id=push_id, request=json.loads(request), receipt=json.loads(receipt), at=at
            )
        return None

    def put_load_id(self, team: str, pool_id: str, row: LoadIdRow) -> None:
        """Remember the load id of a push that is DONE."""
        values = (team, pool_id, storable(row.load_id), row.push_id, _json(row.request), _json(row.receipt), row.at)
        self._db.execute("INSERT OR REPLACE INTO load_ids VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    # --- Maintenance

    def names(self) -> list[tuple[str, str]]:
        """Return (rule, table) of every load of which something is remembered, in every spelling."""
        sources = [name for name in TABLES if name not in ("runs", "load_ids")]
        return self._rows(" UNION ".join(f"SELECT load, tbl FROM {name} WHERE tbl != ''" for name in sources))  # noqa: S608 - `TABLES`

    def dump(self, table: str) -> list[dict[str, Any]]:
        """Return all rows of one of `TABLES`, as column -> value."""
        if not self._is_there:
            return []
        found = self._db.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608 - one of `TABLES`
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]

    def restore(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add or replace rows that `dump` returned.

        Raises:
            KeyError: A row lacks a column.
            sqlite3.Error: A value is of a wrong type.
        """
        names = [name for _, name, *_ in self._db.execute(f"PRAGMA table_info({table})")]
        marks = ", ".join("?" * len(names))
        values = [[row[name] for name in names] for row in rows]
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values)  # noqa: S608 - one of `TABLES`

    def prune(self, before: float) -> int:
        """Delete the runs that ended before this time (seconds UTC), except for the newest of each load; return how many."""
        self._db.execute(_PRUNED_RUN_LOADS, (before,))
        return self._db.execute(_PRUNED_RUNS, (before,)).rowcount


def fields_of(row: type) -> tuple[str, ...]:
    """Return the names of the attributes of a row."""
    return tuple(field.name for field in dataclasses.fields(row))


_FILE_FIELDS, _TABLE_FIELDS, _CURSOR_FIELDS = fields_of(FileRow), fields_of(LoadedTable), fields_of(CursorRow)
_RUN_LOAD_FIELDS = frozenset(fields_of(RunLoad))
_RUN_LOAD_COLUMNS = ("load", "table", "generation", "number", "state")


def _key(name: str) -> str:
    return storable(name).casefold()


def _place(load: str, table: str) -> list[str]:
    return [storable(load), storable(table), _key(load), _key(table)]


def _json(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _run(row: Sequence[Any]) -> Run:
    run_id, started_at, selection, pid, ended_at, exit_code = row
    chosen = json.loads(selection)
    return Run(
        run_id=run_id,
        started_at=started_at,
        names=tuple(chosen["names"]),
        tag=chosen["tag"],
        pid=pid,
        ended_at=ended_at,
        exit_code=exit_code,
    )


def _run_load(row: Sequence[Any]) -> RunLoad:
    load, table, generation, number, state, body = row
    known = {key: value for key, value in json.loads(body).items() if key in _RUN_LOAD_FIELDS}
    values = {**known, "files": tuple(known.get("files", ()))}
    return RunLoad(load=load, table=table, generation=generation, number=number, state=state, **values)
