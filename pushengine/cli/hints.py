"""The commands that hints name, written so that they can be pasted into the same shell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pushengine.text import shell_word


@dataclasses.dataclass(frozen=True, slots=True)
class Hints:
    """What the hints of one command depend on.

    Attributes:
        config: The file that `--config` named; None if the command was run without it. What the environment names needs no flag.
        database: The file that `--emulator` named; None without one.
        keeps_pushes: Whether unfinished pushes can be resumed. False for a push into an embedded emulator, which ends with the command.
    """

    config: Path | None = None
    keeps_pushes: bool = True
    database: Path | None = None

    def resume(self, push_id: str) -> str:
        """Return the command that resumes a push."""
        return self._command("resume", push_id)

    def load(self, *names: str, continues: bool = False) -> str:
        """Return the command that runs loads, or that continues the newest unfinished run."""
        return self._command("load", *names, *(["--continue"] if continues else []))

    def skip(self, name: str, file: str) -> str:
        """Return the command that leaves a file out of a load, so that later ones are loaded."""
        return self._command("state", "skip", name, file)

    def retire(self, name: str) -> str:
        """Return the command after which a table of a load is no longer expected."""
        return self._command("state", "retire", name)

    def resolve(self, push_id: str, *, is_loaded: bool) -> str:
        """Return the command that says what became of a push whose outcome is unknown."""
        return self._command("resolve", push_id, "--loaded" if is_loaded else "--not-loaded")

    def show(self, push_id: str) -> str:
        """Return the command that shows what happened in a push."""
        return self._command("show", push_id)

    def _command(self, *words: str) -> str:
        flag = "" if self.config is None else f" --config {shell_word(str(self.config))}"
        if self.database is not None and words[0] in _OF_DATABASES:
            flag += f" --emulator {shell_word(str(self.database))}"
        return f"pushengine {' '.join(map(shell_word, words))}{flag}"


_OF_DATABASES = ("load", "show", "state", "resolve")
"""Commands that take `--emulator DATABASE`."""
PLAIN = Hints()
