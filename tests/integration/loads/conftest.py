"""A folder of extracts, a config file with loads, and the command that runs them into an emulator's database file."""

import contextlib
import sqlite3
import textwrap

import pytest
from support.command_line import DATABASE, CommandLine

HEAD = """
[state]
dir = "state"

[connection]
url = "https://acme.eu-1.celonis.cloud"
pool_id = "00000000-0000-4000-8000-000000000001"

[auth]
api_key = "test-key-1"

[engine]
hour_guard_seconds = 0
max_attempts = 2
"""


class LoadLine(CommandLine):
    """Runs loads in a folder."""

    def config(self, text, head=HEAD):
        """Write the config file: the head, and the loads."""
        (self.folder / "pushengine.toml").write_text(head + textwrap.dedent(text), encoding="utf-8")

    def extract(self, name, *rows, header="ID,NAME"):
        """Write a file of rows into the folder `in`, and return its path."""
        path = self.folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return path

    def load(self, *words, code=None):
        """Run `load --json` and return what it printed; without `code`, the exit code is not checked."""
        done = self.run("load", *words, "--emulator", DATABASE, "--json")
        if code is not None:
            assert done.code == code, (done.out, done.err)
        return done

    def states(self, *words, code=None):
        """Run `load` and return the state of each load by its name; of several generations, the state of the last."""
        return {one["name"]: one["state"] for one in self.load(*words, code=code).json["loads"]}

    def ids(self, table):
        """Return the ids in a table of the database, as text."""
        return [str(row[0]) for row in self.rows(table, columns="ID")]

    def journal(self, sql, *arguments):
        """Return the rows of a query over the journal."""
        path = self.folder / f"{DATABASE}.state" / "journal.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as db:
            return db.execute(sql, arguments).fetchall()


@pytest.fixture
def line(tmp_path, monkeypatch):
    return LoadLine(tmp_path, monkeypatch)
