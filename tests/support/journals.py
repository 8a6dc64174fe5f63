"""A journal in memory for tests that are not about the journal."""

from pushengine.journal.push_log import PushLog
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


def memory_log(clock, *, push_id="p", team="acme", sink=None):
    return PushLog(MemoryJournal(), clock=clock, push_id=push_id, team=team, sink=sink or RecordingSink())
