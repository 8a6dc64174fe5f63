"""A load over nights, without a server: what is chosen is pushed and remembered as the journal does."""

import asyncio
import dataclasses
import datetime as dt
import hashlib
from pathlib import Path

from pushengine.config.loads.resolved import LoadSettings, Rule
from pushengine.journal.loads import LoadedTable
from pushengine.loads.files.choice import choose
from pushengine.loads.files.discovery import discover
from pushengine.runtime.files import LocalFileSystem

DATED = "{table}_{date:%Y%m%d}_*.csv"
DAY = 86_400.0
NOON = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC).timestamp()


class Load:
    """One load over nights: what is chosen is either pushed and remembered, or not."""

    def __init__(self, folder: Path, source=DATED, table=None, **settings):
        self.folder = folder
        self.settings = LoadSettings(rule="sap", table="A", **settings)
        self.rule = Rule(
            name="sap", sources=(f"{folder}/{source}",), table=table, overrides=(), settings_for=lambda _: self.settings
        )
        self.rows, self.blocks, self.loaded, self.hashed = {}, [], None, []
        self.now = NOON
        self.pushes = 0

    def write(self, name, text="x"):
        path = self.folder / name
        path.write_text(text)
        return path

    async def _hash(self, file):
        self.hashed.append(file.name)
        return hashlib.sha256(Path(file.uri).read_bytes()).hexdigest()

    def choose(self, **options):
        found = discover(self.rule, LocalFileSystem()).table("A")
        choice = asyncio.run(
            choose(
                self.settings,
                found,
                list(self.rows.values()),
                self.blocks,
                self.loaded,
                hasher=self._hash,
                now=self.now,
                **options,
            )
        )
        self.rows |= {row.path: row for row in choice.rows}
        return choice

    def done(self, push):
        self.pushes += 1
        push_id = f"push-{self.pushes}"
        for file in push.files:
            digest = hashlib.sha256(Path(file.uri).read_bytes()).hexdigest()
            row = self.rows.get(file.uri)
            self.rows[file.uri] = dataclasses.replace(
                row,
                size=file.size,
                version=file.version,
                sha256=digest,
                generation=push.generation,
                state="loaded",
                push_id=push_id,
                loaded_at=self.now,
            )
        self.loaded = LoadedTable(
            load="sap",
            table="A",
            team="t",
            pool_id="p",
            connection_id="",
            generation=push.generation,
            push_id=push_id,
            loaded_at=self.now,
        )

    def night(self, **options):
        """Choose, push all, and go to the next day; return the choice."""
        choice = self.choose(**options)
        for push in choice.pushes:
            self.done(push)
        self.now += DAY
        return choice


def pushed(choice):
    return [(push.generation, [file.name for file in push.files]) for push in choice.pushes]


def reasons(left):
    return {file.name: one.reason for one in left for file in one.files}
