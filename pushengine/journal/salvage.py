"""What can still be read of a damaged journal."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pushengine.errors import JournalCorruptError
from pushengine.journal.queries import FORMAT_VERSION
from pushengine.journal.sqlite_errors import translated
from pushengine.state.sqlite import open_read_only, wal_of

_FACT_COLUMNS = "seq, push_id, at, kind, body"
_MAX_PROBLEMS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class JournalCheck:
    """What `pushengine journal check` found.

    Attributes:
        problems: What is wrong; empty for a sound journal.
        format: Format number, or None if it cannot be told.
        pushes: Pushes that can be read, by state.
        facts: Facts that can be read.
        unreadable: Facts whose place is known and that cannot be read.
    """

    path: Path
    size_bytes: int
    problems: tuple[str, ...]
    format: int | None
    pushes: dict[str, int]
    facts: int
    unreadable: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**dataclasses.asdict(self), "path": str(self.path), "problems": list(self.problems)}


def check_journal(path: Path) -> JournalCheck:
    """Look at everything.

    Raises:
        JournalError: The file cannot be read at all, for a reason that is not damage.
    """
    with _opened_or_copied(path) as (db, problems):
        salvage = Salvage(db)
        facts = sum(1 for _ in salvage.facts())
        pushes = salvage.push_states()
        version = None
        with contextlib.suppress(sqlite3.Error):
            version = db.execute("PRAGMA user_version").fetchone()[0] if db is not None else None
    if salvage.unreadable and not problems:
        problems = [f"{salvage.unreadable} facts cannot be read"]
    if version is not None and version > FORMAT_VERSION and not problems:
        problems = [f"format {version} is newer than {FORMAT_VERSION}, which this version knows"]
    return JournalCheck(
        path=path,
        size_bytes=path.stat().st_size,
        problems=tuple(problems),
        format=version,
        pushes=pushes,
        facts=facts,
        unreadable=salvage.unreadable,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ExportResult:
    """What `export_facts` wrote."""

    facts: int
    unreadable: int
    problems: tuple[str, ...]


def export_facts(path: Path, write: Callable[[str], object]) -> ExportResult:
    """Give every fact that can be read, as a line of JSON, to `write`.

    Raises:
        JournalError: The file cannot be read at all, for a reason that is not damage.
    """
    written = 0
    with _opened_or_copied(path) as (db, problems):
        salvage = Salvage(db)
        for seq, push_id, at, kind, body in salvage.facts():
            line = {"seq": seq, "push_id": push_id, "at": at, "kind": kind, "body": body}
            write(json.dumps(line, ensure_ascii=False) + "\n")
            written += 1
    return ExportResult(written, salvage.unreadable, tuple(problems))


class Salvage:
    """Reads whatever rows can be read, from a connection that may fail at any of them, or from none.

    Attributes:
        unreadable: Facts that are known to be there and could not be read.
    """

    def __init__(self, db: sqlite3.Connection | None) -> None:
        self._db = db
        self.unreadable = 0

    def facts(self) -> Iterator[tuple[int, str, float, str, Any]]:
        """Facts in their order: from the front to the first bad place, then one by one up to where reading from the back stops."""
        if self._db is None:
            return
        last = 0
        is_complete = False
        for row in self._scan("ASC", 0):
            if row is None:
                is_complete = True
            else:
                last = row[0]
                yield from self._decoded(row)
        if is_complete:
            return
        back = [row for row in self._scan("DESC", last) if row is not None]
        for seq in self._between(last, back[-1][0] if back else None):
            yield from self._one(seq)
        for row in reversed(back):
            yield from self._decoded(row)

    def _scan(self, direction: str, above: int) -> Iterator[tuple[Any, ...] | None]:
        """Rows up to the first that cannot be read; None at the end if all could."""
        assert self._db is not None  # noqa: S101 - facts() has asked
        with contextlib.suppress(sqlite3.Error):
            yield from self._db.execute(
                f"SELECT {_FACT_COLUMNS} FROM facts NOT INDEXED WHERE seq > ? ORDER BY seq {direction}",  # noqa: S608 - constants
                (above,),
            )
            yield None

    def _between(self, last: int, end: int | None) -> Sequence[int]:
        """Numbers of the facts that neither end reached; from the index where that is sound."""
        assert self._db is not None  # noqa: S101 - facts() has asked
        try:
            rows = self._db.execute(
                "SELECT seq FROM facts INDEXED BY facts_by_push WHERE push_id > '' AND seq > ?", (last,)
            )
            return sorted(seq for (seq,) in rows if end is None or seq < end)
        except sqlite3.Error:
            return range(last + 1, end or last + 1)

    def _one(self, seq: int) -> Iterator[tuple[int, str, float, str, Any]]:
        assert self._db is not None  # noqa: S101 - facts() has asked
        try:
            row = self._db.execute(
                f"SELECT {_FACT_COLUMNS} FROM facts WHERE seq = ?",  # noqa: S608 - constants
                (seq,),
            ).fetchone()
        except sqlite3.Error:
            row = None
        if row is None:
            self.unreadable += 1
        else:
            yield from self._decoded(row)

    def _decoded(self, row: tuple[Any, ...]) -> Iterator[tuple[int, str, float, str, Any]]:
        seq, push_id, at, kind, body = row
        try:
            yield seq, push_id, at, kind, json.loads(body)
        except (ValueError, TypeError):
            self.unreadable += 1

    def push_states(self) -> dict[str, int]:
        """How many pushes can be read, by their state."""
        states: dict[str, int] = {}
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                for (state,) in self._db.execute("SELECT state FROM pushes NOT INDEXED"):
                    states[state] = states.get(state, 0) + 1
        return states


@contextlib.contextmanager
def _opened_or_copied(path: Path) -> Iterator[tuple[sqlite3.Connection | None, list[str]]]:
    """A connection to a sound journal in place, else one to a copy of it and what is wrong; None if not even that opens."""
    with contextlib.ExitStack() as stack:
        db: sqlite3.Connection | None = None
        try:
            with translated(path):
                db = stack.enter_context(contextlib.closing(open_read_only(path)))
                problems = _integrity(db)
        except JournalCorruptError as error:
            problems = [str(error.__cause__ or error.message)]
        if problems:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushengine-journal-")))
            with translated(path):
                db = _copied(path, folder)
            if db is not None:
                stack.enter_context(contextlib.closing(db))
        yield db, problems


def _copied(path: Path, folder: Path) -> sqlite3.Connection | None:
    """A connection to a copy, or None where even its first page is beyond reading."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(wal_of(path), wal_of(copy))
    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        return None
    return db


def _integrity(db: sqlite3.Connection) -> list[str]:
    rows: Sequence[tuple[str]] = db.execute(f"PRAGMA integrity_check({_MAX_PROBLEMS})").fetchall()
    return [] if rows == [("ok",)] else [line for (text,) in rows for line in text.splitlines()[:_MAX_PROBLEMS]]
