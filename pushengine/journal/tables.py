"""What the journal remembers of the tables that were loaded: columns, types, lengths and keys.

Two tables of the journal's database, created if absent, in every format:

```
tables(team TEXT, pool_id TEXT, connection_id TEXT,   -- '' for the global schema of the pool
       name TEXT,                                     -- case-folded
       body TEXT)                                     -- JSON, see `RememberedTable`
tables_examined(seq INTEGER)                          -- every push that ended at or before this fact is remembered
```

A push is remembered in the transaction of its last fact, which says so (`is_remembered`). A last fact that does not was written by an older
version; its push is applied when the journal is opened the next time. History may be pruned; what is remembered stays.

Pushes into one table count in the order of their submits, whatever order they end in: each remembered column has the number of the
`submit_intended` fact of the push that defined it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pushengine.errors import JournalError
from pushengine.journal.queries import JournalQueries
from pushengine.journal.state import PushHistory, PushState
from pushengine.model import Mode
from pushengine.schema.known import KnownColumn, KnownTable, had_no_values
from pushengine.text import name_key, storable

TABLES_SCHEMA = """
CREATE TABLE IF NOT EXISTS tables (
    team TEXT NOT NULL, pool_id TEXT NOT NULL, connection_id TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (team, pool_id, connection_id, name)
) STRICT;
CREATE TABLE IF NOT EXISTS tables_examined (seq INTEGER NOT NULL) STRICT
"""
_UNREMEMBERED = """
SELECT facts.seq, facts.push_id, facts.at, pushes.team, pushes.pool_id, pushes.state
FROM facts JOIN pushes USING (push_id)
WHERE facts.seq > ? AND facts.kind IN ('push_finished', 'push_failed') AND pushes.state IN ('finished', 'done', 'unknown')
  AND CASE WHEN json_valid(facts.body) THEN coalesce(json_extract(facts.body, '$.is_remembered'), 0) = 0 ELSE 0 END
ORDER BY facts.seq
"""


class TableKey(NamedTuple):
    """What a table is remembered under; the name is case-folded."""

    team: str
    pool_id: str
    connection_id: str
    name: str

    @classmethod
    def of(cls, team: str, pool_id: str, connection_id: str | None, table: str) -> TableKey:
        """Return the key of a table."""
        return cls(team, pool_id, connection_id or "", table.casefold())


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPush:
    """A push that changed a table, or may have.

    Attributes:
        push_id: Id of the push.
        at: When it ended, seconds UTC.
        seq: Number of the fact that announced the submit of its job.
        table: Name of the table, as the push spelled it.
        mode: How its rows changed the table.
        keys: Key columns of an upsert.
        columns: Its columns, in the table's spelling, each with whether the source had it.
        rows: Number of rows.
        is_unknown: Whether it is unknown if its job ran.
    """

    push_id: str
    at: float
    seq: int
    table: str
    mode: Mode
    keys: tuple[str, ...]
    columns: tuple[tuple[KnownColumn, bool], ...]
    rows: int
    is_unknown: bool = False

    @classmethod
    def of(cls, push_id: str, at: float, seq: int, state: PushState, *, is_unknown: bool) -> LoadedPush | None:
        """Return the push with this state, or None if it defined no columns."""
        planned, schema = state.planned, state.schema
        if planned is None or schema is None or not state.jobs:
            return None
        missing = frozenset(schema.get("is_missing", ()))
        return cls(
            push_id=push_id,
            at=at,
            seq=seq,
            table=planned.target["table"],
            mode=planned.target["mode"],
            keys=tuple(schema.get("keys", ())),
            columns=tuple(
                (KnownColumn(name, kind, length, conversion), name not in missing)
                for name, kind, _, length, conversion, *_ in schema["columns"]
            ),
            rows=sum(chunk.rows for chunk in state.jobs[-1].acked),
            is_unknown=is_unknown,
        )


@dataclasses.dataclass(slots=True)
class RememberedTable:
    """A remembered table.

    Attributes:
        known: What a push needs to know of it.
        seqs: Case-folded column name -> number of the submit that defined the column.
        sent_seqs: Case-folded column name -> number of the latest submit with the column.
        keys_seq: Number of the submit that `known.keys` are from.
        doubt_seq: Number of the submit of the push that `known.doubt` names, if there is one.
        is_guess: Whether the columns are those of a push whose outcome is unknown, because nothing else is known.
        replaced_seq: Number of the submit of the latest replace, or of the newest fact when the table was imported; 0 if none is known.
        push_id: The push that was applied last; empty if the table was imported.
        at: When that push ended, or when the table was imported, seconds UTC.
    """

    known: KnownTable
    seqs: dict[str, int] = dataclasses.field(default_factory=dict)
    sent_seqs: dict[str, int] = dataclasses.field(default_factory=dict)
    keys_seq: int = 0
    doubt_seq: int = 0
    is_guess: bool = False
    replaced_seq: int = 0
    push_id: str = ""
    at: float = 0.0

    @classmethod
    def new(cls, name: str) -> RememberedTable:
        """Return a table without columns."""
        return cls(KnownTable(name, ()))

    @classmethod
    def from_body(cls, body: str) -> RememberedTable:
        """Restore a table from the journal."""
        raw = json.loads(body)
        names = {field.name for field in dataclasses.fields(cls)} - {"known"}
        return cls(KnownTable.from_dict(raw["known"]), **{key: value for key, value in raw.items() if key in names})

    def to_body(self) -> str:
        """Return the table as the journal stores it."""
        raw = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return storable(json.dumps({**raw, "known": self.known.to_dict()}, ensure_ascii=False, separators=(",", ":")))

    def apply(self, push: LoadedPush) -> None:
        """Apply a push. If two pushes end in another order than they were submitted in, the result is the same."""
        self.push_id, self.at = push.push_id, push.at
        if push.keys and push.mode == "upsert" and not push.is_unknown and push.seq >= self.keys_seq:
            self.keys_seq = push.seq
            self.known = dataclasses.replace(self.known, keys=push.keys)
        if push.seq <= self.replaced_seq:
            return
        if push.is_unknown:
            self._doubt(push)
            return
        if push.mode == "delete":
            return
        if self.is_guess:
            self.is_guess, self.seqs, self.sent_seqs = False, {}, {}
            self.known = dataclasses.replace(self.known, columns=())
        if push.mode == "replace":
            self._replace(push)
        else:
            self._add(push)

    def _doubt(self, push: LoadedPush) -> None:
        if push.mode != "delete" and (
            not self.known.columns or (self.is_guess and push.seq > max(self.seqs.values(), default=0))
        ):
            self.known = dataclasses.replace(self.known, columns=())
            self.seqs = {}
            self._add(push)
            self.is_guess = True
        if push.seq > self.doubt_seq:
            self.doubt_seq = push.seq
            self.known = dataclasses.replace(self.known, doubt=push.push_id)

    def settle(self, push_id: str, loaded: LoadedPush | None) -> None:
        """End the doubt about a push. `loaded` is the push if it was loaded, None if it was not; columns that were only its guess go then."""
        if loaded is not None:
            self.apply(loaded)
        elif self.is_guess and self.known.doubt == push_id:
            self.is_guess, self.seqs, self.sent_seqs = False, {}, {}
            self.known = dataclasses.replace(self.known, columns=())
        if self.known.doubt == push_id:
            self.doubt_seq = 0
            self.known = dataclasses.replace(self.known, doubt="")

    def _replace(self, push: LoadedPush) -> None:
        before = _structure(self.known.columns)
        replaced = {name_key(column.name) for column, _ in push.columns}
        later = {
            name_key(column.name): column
            for column in self.known.columns
            if self.sent_seqs.get(name_key(column.name), 0) > push.seq and name_key(column.name) not in replaced
        }
        columns = (*(column for column, _ in push.columns), *later.values())
        self.sent_seqs = dict.fromkeys(replaced, push.seq) | {name: self.sent_seqs[name] for name in later}
        self.seqs = dict.fromkeys(replaced, push.seq) | {
            name: max(self.seqs.get(name, 0), push.seq + 1) for name in later
        }
        self.replaced_seq = push.seq
        self.known = dataclasses.replace(
            self.known,
            name=push.table,
            columns=columns,
            rows=push.rows,
            doubt=self.known.doubt if self.doubt_seq > push.seq else "",
            version=self.known.version if _structure(columns) == before else max(push.seq, self.known.version + 1),
        )

    def _add(self, push: LoadedPush) -> None:
        columns = self.known.by_name()
        version = self.known.version
        for column, is_in_source in push.columns:
            folded = name_key(column.name)
            self.sent_seqs[folded] = max(self.sent_seqs.get(folded, 0), push.seq)
            # Of two pushes that add a column, the one submitted first did.
            if folded not in columns or self.seqs.get(folded, 0) > push.seq:
                columns[folded] = column
                self.seqs[folded] = push.seq
                version = max(push.seq, version + 1)
            elif is_in_source and column.type == columns[folded].type and not _is_read(columns[folded]):
                columns[folded] = dataclasses.replace(columns[folded], conversion=column.conversion)
        self.known = dataclasses.replace(self.known, columns=tuple(columns.values()), version=version)


def _is_read(column: KnownColumn) -> bool:
    """Return whether values were read when the column was defined. How they were read then holds for all of the table, such as their zone."""
    return bool(column.conversion) and not had_no_values(column.conversion)


def _structure(columns: Iterable[KnownColumn]) -> list[tuple[str, str, int | None]]:
    return [(name_key(column.name), column.type, column.length) for column in columns]


class TableMemory:
    """The remembered tables in an open journal. Every method blocks on disk.

    Args:
        db: Connection to the journal. If it is read-only, what older versions left unapplied is applied in memory only.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._is_there = bool(db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tables'").fetchone())

    def get(self, key: TableKey) -> RememberedTable | None:
        """Return a table, or None if nothing is remembered of it."""
        if not self._is_there:
            return None
        row = self._db.execute(
            "SELECT body FROM tables WHERE (team, pool_id, connection_id, name) = (?, ?, ?, ?)", key
        ).fetchone()
        return RememberedTable.from_body(row[0]) if row else None

    def all(self) -> dict[TableKey, RememberedTable]:
        """Return every table."""
        if not self._is_there:
            return {}
        rows = self._db.execute(
            "SELECT team, pool_id, connection_id, name, body FROM tables ORDER BY name, team, pool_id"
        )
        return {TableKey(*key): RememberedTable.from_body(body) for *key, body in rows}

    def put(self, key: TableKey, table: RememberedTable) -> None:
        """Store a table."""
        self._db.execute("INSERT OR REPLACE INTO tables VALUES (?, ?, ?, ?, ?)", (*key, table.to_body()))

    def forget(self, key: TableKey) -> bool:
        """Forget a table; return whether anything was remembered of it."""
        deleted = self._db.execute("DELETE FROM tables WHERE (team, pool_id, connection_id, name) = (?, ?, ?, ?)", key)
        return deleted.rowcount > 0

    def move_to(self, team: str) -> None:
        """Remember all tables as those of `team`: the tables of one database file, which an emulator serves under another port each time."""
        self._db.execute("UPDATE OR REPLACE tables SET team = ?", (team,))

    def forget_loaded(self) -> None:
        """Forget every table but those that were imported and not loaded since."""
        for key, table in self.all().items():
            if table.push_id:
                self.forget(key)

    def apply(self, key: TableKey, push: LoadedPush) -> None:
        """Apply a push that has ended."""
        table = self.get(key) or RememberedTable.new(push.table)
        table.apply(push)
        if table.known.columns:  # a delete says nothing of a table that is not known
            self.put(key, table)

    def resolve(self, key: TableKey, push_id: str, loaded: LoadedPush | None) -> None:
        """End the doubt about a push; `loaded` is the push if it was loaded, None if it was not."""
        table = self.get(key) or (None if loaded is None else RememberedTable.new(loaded.table))
        if table is None:
            return
        table.settle(push_id, loaded)
        if table.known.columns:
            self.put(key, table)
        else:
            self.forget(key)

    def submit_seq(self, push_id: str, job_id: str) -> int:
        """Return the number of the fact that announced the last submit of a job that was not refused; 0 if it was not submitted.

        A job is submitted again only if it was still NEW after the submit before, which therefore had no effect.
        """
        facts = self._db.execute(
            "SELECT seq, kind FROM facts WHERE push_id = ? AND kind IN ('submit_intended', 'submit_refused')"
            " AND json_extract(body, '$.job_id') = ? ORDER BY seq",
            (push_id, job_id),
        ).fetchall()
        sent = [
            number
            for (number, kind), (_, after) in itertools.zip_longest(facts, facts[1:], fillvalue=(0, ""))
            if kind == "submit_intended" and after != "submit_refused"
        ]
        return max(sent or [number for number, _ in facts], default=0)

    def examined_seq(self) -> int:
        """Return the number of a fact up to which every ended push is remembered."""
        row = self._db.execute("SELECT max(seq) FROM tables_examined").fetchone() if self._is_there else None
        return int(row[0] or 0) if row else 0

    def set_examined(self, seq: int) -> None:
        """Set the number that `examined_seq` returns."""
        self._db.execute("DELETE FROM tables_examined")
        self._db.execute("INSERT INTO tables_examined VALUES (?)", (seq,))

    def unremembered(self, after_seq: int) -> Sequence[tuple[int, str, float, str, str, str]]:
        """Return (number of the last fact, push id, time, team, pool id, state) of the ended pushes that are not remembered."""
        rows: list[tuple[int, str, float, str, str, str]] = self._db.execute(_UNREMEMBERED, (after_seq,)).fetchall()
        return rows

    def last_seq(self) -> int:
        """Return the number of the newest fact."""
        (seq,) = self._db.execute("SELECT max(seq) FROM facts").fetchone()
        return int(seq or 0)


def all_tables(queries: JournalQueries) -> dict[TableKey, RememberedTable]:
    """Return every remembered table of a journal, with the pushes of older versions applied, without writing to it."""
    memory = TableMemory(queries.connection)
    tables = memory.all()
    for key, push in unremembered_pushes(queries, memory, memory.examined_seq()):
        tables.setdefault(key, RememberedTable.new(push.table)).apply(push)
    return {key: table for key, table in tables.items() if table.known.columns}


def unremembered_pushes(
    queries: JournalQueries, memory: TableMemory, after_seq: int
) -> Iterator[tuple[TableKey, LoadedPush]]:
    """Yield the ended pushes that are not remembered, in the order in which they ended, with their tables."""
    for _, push_id, at, team, pool_id, push_state in memory.unremembered(after_seq):
        try:
            state = PushHistory(queries.facts(push_id)).state
        except (JournalError, KeyError):  # a damaged fact: nothing is known of this push
            continue
        key = table_of(state, team, pool_id)
        if key is None or not state.jobs:
            continue
        seq = memory.submit_seq(push_id, state.jobs[-1].job_id)
        push = LoadedPush.of(push_id, at, seq, state, is_unknown=push_state == "unknown")
        if push is not None:
            yield key, push


def table_of(state: PushState, team: str, pool_id: str) -> TableKey | None:
    """Return the key of the table that a push is for; None if the push was not planned."""
    target: Mapping[str, Any] | None = None if state.planned is None else state.planned.target
    if target is None:
        return None
    return TableKey.of(team, pool_id, target.get("connection_id"), target["table"])
