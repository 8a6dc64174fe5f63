"""The sessions of a push: one for each process that worked on it.

A process that is killed cannot record its end. A session without a fact about its end is therefore taken as killed, unless it is the latest
session and its process still holds the push: then it is running.
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
    PushResolved,
    PushSuperseded,
    SessionStarted,
)
from pushengine.text import iso_utc

SessionEnd = Literal["killed", "interrupted", "stopped", "failed", "done", "running"]
Ending = PushInterrupted | PushFailed | PushFinished
RecordedByOthers = JobDiscarded | PushSuperseded | PushResolved
"""Facts that another process may record about a push after its own process was killed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The work of one process on a push. Times are in seconds since 1970; `ended_at` is the time of the last fact."""

    pid: int
    is_resumed: bool
    started_at: float
    ended_at: float
    ended: SessionEnd

    def to_dict(self) -> dict[str, Any]:
        """Return the session as plain JSON types, with times in ISO 8601."""
        return {**dataclasses.asdict(self), "started_at": iso_utc(self.started_at), "ended_at": iso_utc(self.ended_at)}


def sessions_of(rows: Sequence[FactRow], *, holder: int | None = None) -> list[Session]:
    """Return the sessions of a push, oldest first.

    Args:
        rows: All facts of the push, in order.
        holder: Id of the process that is working on the push now; None if there is none.
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
        # Other processes may clean up after the latest session: their facts do not extend it.
        own = (
            [row for row in group if not isinstance(row.fact, RecordedByOthers)] if last is None and is_last else group
        )
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
