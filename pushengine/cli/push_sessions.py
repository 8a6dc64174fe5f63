"""The sessions of a push: one for each process that worked on it.

How a session ended is often nowhere written down: a process that was killed leaves no last word. So a session was killed if another one
follows it, or nobody holds the push, and no fact says that it ended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from pushengine.journal.facts import (
    Fact,
    FactRow,
    JobDiscarded,
    PushFailed,
    PushFinished,
    PushInterrupted,
    PushSuperseded,
    SessionStarted,
)
from pushengine.text import iso_utc

SessionEnd = Literal["killed", "interrupted", "stopped", "failed", "done", "running"]
Ending = PushInterrupted | PushFailed | PushFinished
ByOthers = JobDiscarded | PushSuperseded
"""What another process may record of a push that a killed one left."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """One process's work on a push; `ended_at` is its last fact."""

    pid: int
    is_resumed: bool
    started_at: float
    ended_at: float
    ended: SessionEnd

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**dataclasses.asdict(self), "started_at": iso_utc(self.started_at), "ended_at": iso_utc(self.ended_at)}


def sessions_of(rows: Sequence[FactRow], *, holder: int | None = None) -> list[Session]:
    """The sessions of a push, oldest first.

    Args:
        rows: All its facts, in order.
        holder: The process that works on the push at this moment, if one does.
    """
    sessions: list[Session] = []
    groups: list[tuple[SessionStarted, list[FactRow]]] = []
    for row in rows:
        if isinstance(row.fact, SessionStarted):
            groups.append((row.fact, []))
        if groups:
            groups[-1][1].append(row)
    for number, (start, group) in enumerate(groups, 1):
        last = next((row for row in group if isinstance(row.fact, Ending)), None)
        is_last = number == len(groups)
        ended: SessionEnd = "running" if is_last and holder == start.pid else "killed"
        if last is not None:
            ended = _ended(last.fact)
        own = [row for row in group if not isinstance(row.fact, ByOthers)] if last is None and is_last else group
        sessions.append(Session(start.pid, start.resumed, group[0].at, (last or own[-1]).at, ended))
    return sessions


def _ended(fact: Fact | None) -> SessionEnd:
    match fact:
        case PushInterrupted(receipt={"status": "INTERRUPTED"}):
            return "interrupted"
        case PushInterrupted():
            return "stopped"
        case PushFinished():
            return "done"
    return "failed"
