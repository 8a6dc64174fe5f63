"""A listener of runs of loads that keeps what it is told."""


class Listener:
    """Keeps what a run tells; `on_end` is called after each item that has ended."""

    def __init__(self):
        self.notes, self.ends = [], []
        self.on_end = lambda _item: None

    def planned(self, items, expected):
        self.expected = expected

    def quota(self, status):
        pass

    def started(self, item):
        pass

    def ended(self, item):
        self.ends.append((item.name, item.row.state))
        self.on_end(item)

    def note(self, text):
        self.notes.append(text)
