"""What the journal remembers of loads: their files, cursors and blocks, the runs, and the load ids.

Tables of the journal's database, since format 2:

```
runs(run_id TEXT PRIMARY KEY,
     started_at REAL, ended_at REAL,       -- seconds UTC; `ended_at` is NULL while the run is unfinished
     pid INTEGER, selection TEXT,          -- JSON: the names and the tag that were given
     exit_code INTEGER)
run_loads(run_id TEXT, load TEXT, tbl TEXT, generation TEXT,   -- one row for each push that a run intends, and for each load without one
     number INTEGER,                       -- order within the run
     state TEXT,                           -- planned | running | done | rejects | failed | missing | skipped | blocked | unknown
     body TEXT,                            -- JSON, see `RunLoad`
     PRIMARY KEY (run_id, load, tbl, generation))
load_files(load TEXT, tbl TEXT, path TEXT, size INTEGER, version TEXT,   -- `version`: JSON of `FileRef.version`
     sha256 TEXT, generation TEXT, state TEXT, push_id TEXT, first_seen_at REAL, loaded_at REAL, cleanup TEXT,
     PRIMARY KEY (load, tbl, path))
load_tables(load TEXT, tbl TEXT,           -- the tables that a rule has loaded: expected until they are retired
     team TEXT, pool_id TEXT, connection_id TEXT, generation TEXT, push_id TEXT, loaded_at REAL, PRIMARY KEY (load, tbl))
load_cursors(load TEXT, tbl TEXT, value TEXT, type TEXT, push_id TEXT, at REAL, PRIMARY KEY (load, tbl))
load_blocks(load TEXT, tbl TEXT, path TEXT, kind TEXT, push_id TEXT, reason TEXT, at REAL, PRIMARY KEY (load, tbl, path))
load_ids(team TEXT, pool_id TEXT, load_id TEXT, push_id TEXT, request TEXT, receipt TEXT, at REAL, PRIMARY KEY (team, pool_id, load_id))
```

What a push changes here is written in the transaction of its last fact. Names are stored as they are spelled and compared case-folded.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pushengine.model import Claim, FileRef

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
    """A load id. `request` describes the push (source, table, mode, keys, options) as JSON types; `receipt` is None until it is DONE."""

    load_id: str
    push_id: str
    request: Mapping[str, Any]
    receipt: Mapping[str, Any] | None
    at: float


class LoadMemory:
    """What is remembered of loads, in an open journal. Every method blocks on disk; those that write need an open transaction.

    Args:
        db: Connection to the journal. Where it has format 1, nothing is remembered.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # --- Runs

    def begin_run(self, run: Run, loads: Sequence[RunLoad]) -> None:
        """Add a run with what it intends."""
        raise NotImplementedError

    def set_load(self, run_id: str, load: RunLoad) -> None:
        """Add or replace what a run did about one generation."""
        raise NotImplementedError

    def take_run(self, run_id: str, pid: int) -> None:
        """Note that this process works on an unfinished run."""
        raise NotImplementedError

    def end_run(self, run_id: str, at: float, exit_code: int) -> None:
        """Note the end of a run."""
        raise NotImplementedError

    def run(self, run_id: str) -> Run | None:
        """Return a run; None if there is none."""
        raise NotImplementedError

    def runs(self, *, since: float = 0.0, limit: int = -1) -> list[Run]:
        """Return the runs that started at or after `since` (seconds UTC), newest first."""
        raise NotImplementedError

    def run_loads(self, run_id: str) -> list[RunLoad]:
        """Return what a run did, in its order."""
        raise NotImplementedError

    # --- Files

    def files(self, load: str, table: str | None = None) -> list[FileRow]:
        """Return the files of a rule or of one of its tables."""
        raise NotImplementedError

    def put_file(self, row: FileRow) -> None:
        """Add or replace a file; its path is unique within the load."""
        raise NotImplementedError

    def delete_file(self, load: str, table: str, path: str) -> None:
        """Forget a file."""
        raise NotImplementedError

    # --- Tables, blocks, cursors

    def tables(self, load: str | None = None) -> list[LoadedTable]:
        """Return the tables that a rule, or any, has loaded and that are not retired."""
        raise NotImplementedError

    def retire(self, load: str, table: str) -> bool:
        """Expect a table no longer; return whether it was expected."""
        raise NotImplementedError

    def blocks(self, load: str | None = None, table: str | None = None) -> list[BlockRow]:
        """Return what blocks loads, oldest first."""
        raise NotImplementedError

    def put_block(self, row: BlockRow) -> None:
        """Add or replace a block."""
        raise NotImplementedError

    def lift(self, load: str, table: str, path: str) -> bool:
        """Remove a block; return whether there was one."""
        raise NotImplementedError

    def cursor(self, load: str, table: str) -> CursorRow | None:
        """Return the cursor of a load; None if it has none."""
        raise NotImplementedError

    def put_cursor(self, row: CursorRow) -> None:
        """Set the cursor of a load."""
        raise NotImplementedError

    # --- The end of a push

    def open_pushes(self, load: str | None = None) -> list[tuple[str, Claim]]:
        """Return (push id, claim) of the open pushes of loads, oldest first."""
        raise NotImplementedError

    # --- Load ids

    def load_id(self, team: str, pool_id: str, load_id: str) -> LoadIdRow | None:
        """Return what is known of a load id; None if it was never used."""
        raise NotImplementedError
