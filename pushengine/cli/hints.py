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
        keeps_pushes: Whether unfinished pushes can be resumed. False for a push into an embedded emulator, which ends with the command.
    """

    config: Path | None = None
    keeps_pushes: bool = True

    def resume(self, push_id: str) -> str:
        """Return the command that resumes a push."""
        return self._command("resume", push_id)

    def show(self, push_id: str) -> str:
        """Return the command that shows what happened in a push."""
        return self._command("show", push_id)

    def _command(self, name: str, push_id: str) -> str:
        flag = "" if self.config is None else f" --config {shell_word(str(self.config))}"
        return f"pushengine {name} {shell_word(push_id)}{flag}"


PLAIN = Hints()
