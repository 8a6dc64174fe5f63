"""The command line in this process, against an emulator that keeps its tables in a DuckDB file: much faster than a process a command."""

import asyncio
import contextlib
import dataclasses
import functools
import io
import json
import re
import shlex
import sqlite3

import duckdb

from pushengine.cli import app, session
from pushengine.emulator import EmulatorSettings
from pushengine.runtime.clock import SystemClock

DATABASE = "out.duckdb"
_WORD = r"""(?:'[^']*'(?:"'"'[^']*')*|[^\s,;()'-][^\s,;()]*|,(?=[\s;)]|$))"""  # as `shlex.quote` writes it
_FLAGS = re.compile(rf"(?:--[a-z][a-z-]*(?:[ ]{_WORD})?[ ]?)+")


async def _sleep_briefly(_clock, seconds):
    await asyncio.sleep(min(seconds, 0.005))


@dataclasses.dataclass
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """Standard output parsed as one JSON value. Any other text in it is an error."""
        return json.loads(self.out)

    @property
    def error(self):
        """The line with the error."""
        return next(line for line in self.err.splitlines() if line.startswith("error: "))

    @property
    def hint(self):
        """The line with the hint."""
        return next(line for line in self.err.splitlines() if line.startswith("hint: "))

    @property
    def suggestions(self):
        """The alternatives that the hint names, each as a list of arguments."""
        return [shlex.split(found) for found in _FLAGS.findall(self.hint)]

    def suggestion(self, flag):
        """The alternative of the hint that contains the flag and is the shortest."""
        return min((words for words in self.suggestions if flag in words), key=len)


class CommandLine:
    """Runs commands in a folder, with a home and a state folder of their own.

    Args:
        folder: An empty folder, which becomes the current one.
        monkeypatch: The fixture.
    """

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(folder / "state"))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "400")
        for name in ("PUSHENGINE_CONFIG", "PUSHENGINE_URL", "PUSHENGINE_POOL_ID", "PUSHENGINE_LOG", "XDG_CONFIG_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(SystemClock, "sleep", _sleep_briefly)  # between two polls of a job
        self._open_emulator = session.open_emulator
        self.switch()

    def switch(self, **switches):
        """Change the settings of the emulators that later commands start."""
        settings = EmulatorSettings(**{"queue_seconds": 0.0, "run_seconds": 0.0} | switches)
        opened = functools.partial(self._open_emulator, settings=settings)
        self._monkeypatch.setattr(session, "open_emulator", opened)

    def run(self, *words):
        """Run a command."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = app.main([str(word) for word in words])
            except SystemExit as exit_:
                code = exit_.code
        assert "Traceback" not in err.getvalue(), err.getvalue()
        return Result(code, out.getvalue(), err.getvalue())

    def push(self, source, *words, table="T"):
        """Push a file into a table of the database."""
        return self.run("push", source, "--table", table, "--emulator", DATABASE, *words)

    def loaded(self, source, *words, table="T"):
        """Push a file and return the receipt, which must be DONE."""
        done = self.push(source, *words, "--json", table=table)
        assert done.code == 0, done.err
        assert done.json["status"] == "DONE"
        return done.json

    def refused(self, source, *words, table="T", code=3):
        """Push a file that must be refused before the submit; the table and the quota must be as before."""
        before, spent = self.contents(), self.spent()
        refused = self.push(source, *words, table=table)
        assert refused.code == code, (refused.out, refused.err)
        assert self.contents() == before
        assert self.spent() == spent
        return refused

    def write(self, name, text):
        """Write a file into the folder and return its name."""
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def query(self, sql):
        """Return the rows of a query over the database."""
        with duckdb.connect(str(self.folder / DATABASE), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def rows(self, table="T", columns="* EXCLUDE (_CELONIS_CHANGE_DATE)", order="ALL"):
        """Return the rows of a table without the column that the platform adds."""
        return self.query(f'SELECT {columns} FROM "{table}" ORDER BY {order}')

    def types(self, table="T"):
        """Return column name -> type as the database has it, with the declared length of strings."""
        found = self.query(
            f"SELECT column_name, coalesce(comment, data_type) FROM duckdb_columns() WHERE table_name = '{table}'"
            " ORDER BY column_index"
        )
        return {name: kind for name, kind in found if name != "_CELONIS_CHANGE_DATE"}

    def contents(self):
        """Return everything that the tables hold."""
        if not (self.folder / DATABASE).exists():
            return {}
        names = [name for (name,) in self.query("SELECT table_name FROM duckdb_tables() ORDER BY 1")]
        return {name: (self.types(name), self.query(f'SELECT * FROM "{name}" ORDER BY ALL')) for name in names}

    def spent(self):
        """Return the number of jobs that were submitted for tables of the database."""
        journal = self.folder / f"{DATABASE}.state" / "journal.sqlite3"
        if not journal.exists():
            return 0
        with contextlib.closing(sqlite3.connect(journal)) as db:
            return db.execute("SELECT count(*) FROM facts WHERE kind = 'submit_intended'").fetchone()[0]
