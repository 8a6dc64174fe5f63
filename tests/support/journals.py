"""Journals for tests that are not about the journal: one in memory, and one that uses its file without a thread."""

import contextlib

from pushengine.journal.facts import PushRow
from pushengine.journal.loads import TABLES
from pushengine.journal.push_log import PushLog
from pushengine.journal.store import JournalFile
from pushengine.testing import RecordingSink


class MemoryJournal:
    """A journal with the methods that `PushLog` needs; it keeps the recorded facts, states and checksums."""

    def __init__(self):
        self.facts = []
        self.states = {}
        self.checksums = {}

    async def do(self, call):
        return call(self)

    read = do

    def append(self, fact):
        self.facts.append(fact)

    def set_state(self, push_id, state, at):
        self.states[push_id] = state

    def checksum_of(self, team):
        return self.checksums.get(team)

    def record_checksum(self, team, checksum):
        self.checksums[team] = checksum

    @property
    def kinds(self):
        return [fact.kind for fact in self.facts]


class InlineJournal:
    """The journal's file, used without its thread."""

    def __init__(self, file):
        self.file = file

    async def do(self, call):
        with self.file.transaction():
            return call(self.file)

    async def read(self, call):
        with self.file.snapshot():
            return call(self.file)


def memory_log(clock, *, push_id="p", team="acme", sink=None):
    return PushLog(MemoryJournal(), clock=clock, push_id=push_id, team=team, sink=sink or RecordingSink())


def make_format_1(path):
    """Write a journal as a version that knew format 1 only did, with one push, which is returned."""
    push = PushRow("old", "i", "acme", "p", "T", "a.csv", 1.0, 2.0, "done")
    with contextlib.closing(JournalFile(path)) as file:
        with file.transaction():
            file.begin_push(push)
        for table in TABLES:
            file.connection.execute(f"DROP TABLE {table}")
        file.connection.execute("PRAGMA user_version=1")
        file.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return push
