"""Check and export a journal even if it is damaged: `journal check` and `journal export`.

A sound journal is read in place. A damaged one is copied with its write-ahead log into a temporary folder and read there row by row, so
that a bad page costs only its own rows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pushengine.errors import JournalCorruptError
from pushengine.journal.queries import FORMAT_VERSION
from pushengine.journal.sqlite_errors import translated
from pushengine.state.file_errors import temporary_folder
from pushengine.state.sqlite import open_read_only, wal_of
from pushengine.text import format_count, storable

_FACT_COLUMNS = "seq, push_id, at, kind, body"
_MAX_PROBLEMS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class JournalCheck:
    """The result of `pushengine journal check`.

    Attributes:
        problems: Description of each problem; empty for a sound journal.
        format: Format number, or None if it cannot be read.
        pushes: Number of readable pushes in each state.
        facts: Number of readable facts.
        unreadable: Number of facts that are known to exist but cannot be read.
    """

    path: Path
    size_bytes: int
    problems: tuple[str, ...]
    format: int | None
    pushes: dict[str, int]
    facts: int
    unreadable: int

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON types."""
        return {**dataclasses.asdict(self), "path": str(self.path), "problems": list(self.problems)}


def check_journal(path: Path) -> JournalCheck:
    """Run the full integrity check and read every fact and push.

    Raises:
        JournalError: The file cannot be read at all, for a reason other than damage.
    """
    with _opened_or_copied(path) as (db, problems):
        salvage = Salvage(db)
        facts = sum(1 for _ in salvage.facts())
        pushes = salvage.push_states()
        version = None
        with contextlib.suppress(sqlite3.Error):
            version = db.execute("PRAGMA user_version").fetchone()[0] if db is not None else None
    if salvage.unreadable and not problems:
        problems = [f"{format_count(salvage.unreadable, 'fact')} cannot be read"]
    if version is not None and version > FORMAT_VERSION and not problems:
        problems = [f"format {version} is newer than {FORMAT_VERSION}, the newest that this version supports"]
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
    """The result of `export_facts`: numbers of exported and unreadable facts, and the problems found."""

    facts: int
    unreadable: int
    problems: tuple[str, ...]


def export_facts(path: Path, write: Callable[[str], object]) -> ExportResult:
    """Call `write` with every readable fact as one line of JSON.

    Raises:
        JournalError: The file cannot be read at all, for a reason other than damage.
    """
    written = 0
    with _opened_or_copied(path) as (db, problems):
        salvage = Salvage(db)
        for seq, push_id, at, kind, body in salvage.facts():
            line = {"seq": seq, "push_id": push_id, "at": at, "kind": kind, "body": body}
            write(storable(json.dumps(line, ensure_ascii=False)) + "\n")
            written += 1
    return ExportResult(written, salvage.unreadable, tuple(problems))


class Salvage:
    """Reads all readable rows over a connection that may fail at any row; without a connection (None) there are none.

    Attributes:
        unreadable: Number of facts that are known to exist but could not be read.
    """

    def __init__(self, db: sqlite3.Connection | None) -> None:
        self._db = db
        self.unreadable = 0

    def facts(self) -> Iterator[tuple[int, str, float, str, Any]]:
        """Yield the readable facts in order, as (seq, push id, time in seconds UTC, kind, body).

        Reads from the front up to the first row that fails, and from the back down to the last one; rows between are read one by one.
        """
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
            yield from self._read_fact(seq)
        for row in reversed(back):
            yield from self._decoded(row)

    def _scan(self, direction: str, above: int) -> Iterator[tuple[Any, ...] | None]:
        """Yield rows up to the first one that cannot be read, and None at the end if there was no such row."""
        assert self._db is not None  # noqa: S101 - facts() has checked it
        with contextlib.suppress(sqlite3.Error):
            yield from self._db.execute(
                f"SELECT {_FACT_COLUMNS} FROM facts NOT INDEXED WHERE seq > ? ORDER BY seq {direction}",  # noqa: S608 - only constants
                (above,),
            )
            yield None

    def _between(self, last: int, end: int | None) -> Sequence[int]:
        """Return the `seq` of the facts that neither scan reached: from the index if it is sound, otherwise the whole range."""
        assert self._db is not None  # noqa: S101 - facts() has checked it
        try:
            rows = self._db.execute(
                "SELECT seq FROM facts INDEXED BY facts_by_push WHERE push_id > '' AND seq > ?", (last,)
            )
            return sorted(seq for (seq,) in rows if end is None or seq < end)
        except sqlite3.Error:
            return range(last + 1, end or last + 1)

    def _read_fact(self, seq: int) -> Iterator[tuple[int, str, float, str, Any]]:
        assert self._db is not None  # noqa: S101 - facts() has checked it
        try:
            row = self._db.execute(
                f"SELECT {_FACT_COLUMNS} FROM facts WHERE seq = ?",  # noqa: S608 - only constants
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
        """Return the number of readable pushes in each state."""
        states: dict[str, int] = {}
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                for (state,) in self._db.execute("SELECT state FROM pushes NOT INDEXED"):
                    states[state] = states.get(state, 0) + 1
        return states


@contextlib.contextmanager
def _opened_or_copied(path: Path) -> Iterator[tuple[sqlite3.Connection | None, list[str]]]:
    """Yield a connection and the list of problems.

    The connection reads a sound journal in place, and a copy of a damaged one. It is None if not even the copy can be opened.
    """
    with contextlib.ExitStack() as stack:
        db: sqlite3.Connection | None = None
        try:
            with translated(path):
                db = stack.enter_context(contextlib.closing(open_read_only(path)))
                problems = _integrity(db)
        except JournalCorruptError as error:
            problems = [str(error.__cause__ or error.message)]
        if problems:
            folder = stack.enter_context(temporary_folder("pushengine-journal-"))
            with translated(path):
                db = _copied(path, folder)
            if db is not None:
                stack.enter_context(contextlib.closing(db))
        yield db, problems


def _copied(path: Path, folder: Path) -> sqlite3.Connection | None:
    """Copy the journal into `folder` and return a connection to the copy, or None if not even its first page can be read."""
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
