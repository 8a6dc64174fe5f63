"""The journal for those who only look: `history`, `show`, `journal check` and `journal export`.

Nothing here writes to the journal. A sound one is read in place, beside the processes that work with it. A damaged one is copied with its
write-ahead log into a temporary folder, and read there row by row, so that one bad page costs its own rows only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pushengine.errors import ConfigError, JournalCorruptError, JournalVersionError
from pushengine.journal.store import FORMAT_VERSION, Fact, PushRow, corrupt, translated

_FACT_COLUMNS = "seq, push_id, at, kind, body"
_PROBLEMS_TOLD = 5
_SQLITE_MAGIC = b"SQLite format 3\0"


class JournalReader:
    """Reads a sound journal in place; to be used in a `with` statement.

    Args:
        path: The database file.

    Raises:
        JournalCorruptError: It is damaged.
        JournalVersionError: A newer version wrote it.
        JournalError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated(path):
            self._db = _connect(path)
            try:
                self._check()
            except BaseException:
                self._db.close()
                raise

    def _check(self) -> None:
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise corrupt(self.path, verdict)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > FORMAT_VERSION:
            raise JournalVersionError(
                f"the journal has format {version}, this version knows {FORMAT_VERSION}",
                path=str(self.path),
                hint="use the newer pushengine that wrote it",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._db.close()

    def pushes(self, limit: int = -1) -> list[PushRow]:
        """Pushes, newest first."""
        with translated(self.path):
            rows = self._db.execute("SELECT * FROM pushes ORDER BY created_at DESC, rowid DESC LIMIT ?", (limit,))
            return [PushRow(*row) for row in rows]

    def find(self, prefix: str) -> PushRow:
        """The one push whose id begins like this.

        Raises:
            ConfigError: There is none, or more than one.
        """
        with translated(self.path):
            rows = self._db.execute(
                "SELECT * FROM pushes WHERE substr(push_id, 1, ?) = ? ORDER BY created_at DESC", (len(prefix), prefix)
            ).fetchall()
        found = [PushRow(*row) for row in rows]
        exact = [row for row in found if row.push_id == prefix]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if not found:
            raise ConfigError(
                f"the journal knows no push {prefix}", key="push_id", hint="`pushengine history` lists pushes"
            )
        some = ", ".join(row.push_id for row in found[:_PROBLEMS_TOLD])
        raise ConfigError(f"{len(found)} pushes begin with {prefix!r}", key="push_id", hint=f"which one: {some}")

    def facts(self, push_id: str) -> list[Fact]:
        """What is known of a push, in order."""
        with translated(self.path):
            rows = self._db.execute(
                "SELECT push_id, at, kind, body FROM facts WHERE push_id = ? ORDER BY seq", (push_id,)
            )
            return [Fact(push, at, kind, json.loads(body)) for push, at, kind, body in rows]


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
        is_whole = False
        for row in self._scan("ASC", 0):
            if row is None:
                is_whole = True
            else:
                last = row[0]
                yield from self._decoded(row)
        if is_whole:
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
                db = stack.enter_context(contextlib.closing(_connect(path)))
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
        shutil.copyfile(_wal_of(path), _wal_of(copy))
    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        db.close()
        return None
    return db


def holder_of(folder: Path, identity: str) -> int | None:
    """The process that works on a push at this moment, or None: asks the operating system for the push's lock (`journal.PushLock`)."""
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        descriptor = os.open(folder / f"{identity[:32]}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(pid) if pid.isdecimal() else None
    finally:
        os.close(descriptor)
    return None


def _integrity(db: sqlite3.Connection) -> list[str]:
    rows: Sequence[tuple[str]] = db.execute(f"PRAGMA integrity_check({_PROBLEMS_TOLD})").fetchall()
    return [] if rows == [("ok",)] else [line for (text,) in rows for line in text.splitlines()[:_PROBLEMS_TOLD]]


def _connect(path: Path) -> sqlite3.Connection:
    """Read-only; where not even the files of the write-ahead log can be made beside it, as one that nobody changes."""
    if not path.is_file():
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    with path.open("rb") as file:
        start = file.read(len(_SQLITE_MAGIC))
    if start != _SQLITE_MAGIC[: len(start)] or (0 < len(start) < len(_SQLITE_MAGIC)):
        raise corrupt(path, "file is not a database")
    name = path.absolute().as_uri()
    try:
        return _tried(sqlite3.connect(f"{name}?mode=ro", uri=True, isolation_level=None, timeout=30))
    except sqlite3.OperationalError:
        if _wal_of(path).exists() and _wal_of(path).stat().st_size:
            raise
        return _tried(sqlite3.connect(f"{name}?immutable=1", uri=True, isolation_level=None))


def _tried(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        db.close()
        raise
    return db


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")
