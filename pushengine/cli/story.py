"""Describe a push from its facts alone (see `journal/facts.py`). Nothing in this module reads files or the clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.narrator import Narrator
from pushengine.cli.push_sessions import Session, sessions_of
from pushengine.journal.facts import FactRow, PushFailed, PushInterrupted, PushPlanned, PushRow
from pushengine.journal.state import PushHistory, PushState
from pushengine.text import format_bytes, format_count, format_seconds, iso_utc, labelled

_STATES = {
    "open": "OPEN",
    "finished": "DONE",
    "done": "DONE",
    "failed": "FAILED",
    "superseded": "SUPERSEDED",
    "unknown": "OUTCOME UNKNOWN",
}


@dataclasses.dataclass(frozen=True, slots=True)
class PushSummary:
    """A push as one line of `pushengine history`.

    Attributes:
        rows: Number of rows acknowledged in the latest job of the push.
        seconds: Total duration of the sessions; time between sessions does not count.
        schema_changes: How the push differed from its table; empty if it did not or the table was new.
        error: Why it failed, or stopped; empty if it did not.
        load: The load that asked for it, as `RULE.TABLE`; None if none did.
    """

    push_id: str
    table: str
    mode: str
    state: str
    rows: int
    chunks: int
    started_at: float
    seconds: float
    sessions: int
    schema_changes: tuple[str, ...] = ()
    error: str = ""
    load: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain JSON types, with times in ISO 8601."""
        return {
            **dataclasses.asdict(self),
            "started_at": iso_utc(self.started_at),
            "seconds": round(self.seconds, 3),
            "schema_changes": list(self.schema_changes),
        }


def state_in_words(state: str, *, holder: int | None = None) -> str:
    """Return the state of a push as people read it; `holder` is the process that is working on it, if any."""
    return f"RUNNING, pid {holder}" if holder is not None and state == "open" else _STATES.get(state, state.upper())


def summarise(push: PushRow, rows: Sequence[FactRow], *, holder: int | None = None) -> PushSummary:
    """Summarize a push. `holder` is the process that is working on it, if any."""
    sessions = sessions_of(rows, holder=holder)
    state = PushHistory(rows).state
    acked = state.jobs[-1].acked if state.jobs else []
    return PushSummary(
        push_id=push.push_id,
        table=push.target,
        mode=state.planned.target["mode"] if state.planned else "",
        state="running" if sessions and sessions[-1].ended == "running" else f"{push.state}{_with_rejects(state)}",
        rows=sum(chunk.rows for chunk in acked),
        chunks=len(acked),
        started_at=push.created_at,
        seconds=sum(session.ended_at - session.started_at for session in sessions),
        sessions=len(sessions),
        schema_changes=state.changes,
        error="" if state.is_done else _last_error(rows),
        load=_load_of(state),
    )


def _last_error(rows: Sequence[FactRow]) -> str:
    endings = [row.fact for row in rows if isinstance(row.fact, PushFailed | PushInterrupted)]
    return endings[-1].error if endings else ""


def _load_of(state: PushState) -> str | None:
    claim = None if state.planned is None else state.planned.claim
    return None if claim is None else f"{claim['load']}.{claim['table']}"


def describe_push_story(
    push: PushRow, rows: Sequence[FactRow], *, holder: int | None = None, hints: Hints = PLAIN
) -> list[str]:
    """Describe a push in lines: its table and source, what happened in order, and what can be done now.

    Args:
        push: The push as listed in the journal.
        rows: All facts of the push, in order.
        holder: Id of the process that is working on the push now; None if there is none.
        hints: How to name the command that resumes the push.
    """
    sessions = sessions_of(rows, holder=holder)
    narrator = Narrator(sessions)
    narrator.add_facts(rows)
    head = f"push {push.push_id}  {state_in_words(push.state, holder=holder)}{_with_rejects(narrator.history.state)}"
    outlook = _next_steps(push, narrator.history, holder, hints)
    return [
        head,
        *_summary_lines(push, narrator.history, sessions),
        "",
        *narrator.lines,
        *(["", *outlook] if outlook else []),
    ]


def _with_rejects(state: PushState) -> str:
    return " with rejects" if state.is_done and state.rejects is not None else ""


def _summary_lines(push: PushRow, history: PushHistory, sessions: Sequence[Session]) -> list[str]:
    state = history.state
    acked = state.jobs[-1].acked if state.jobs else []
    size = state.planned.source_bytes if state.planned else None
    rows = [
        ("table", f"{push.target} in pool {push.pool_id} of {push.team}"),
        ("source", f"{push.source}{'' if size is None else f', {format_bytes(size)}'}"),
    ]
    if acked:
        sent = sum(chunk.payload_bytes for chunk in acked)
        count = format_count(sum(chunk.rows for chunk in acked), "row")
        rows.append(("holds", f"{count} in {format_count(len(acked), 'chunk')}, {format_bytes(sent)}"))
    if state.rejects is not None:
        rows.append(("rejected", f"{format_count(state.rejects['rows'], 'row')}: {state.rejects['file']}"))
    rows += labelled("changed", state.changes)
    rows += labelled("note", state.notes)
    if sessions:
        spent = sum(session.ended_at - session.started_at for session in sessions)
        ends = ", ".join(session.ended for session in sessions)
        rows.append(("sessions", f"{len(sessions)} ({ends}), {format_seconds(spent)} of work"))
    return [f"  {label:<10}{value}" for label, value in rows]


def _next_steps(push: PushRow, history: PushHistory, holder: int | None, hints: Hints) -> list[str]:
    """Describe what can be done now; empty if there is nothing to do."""
    state = history.state
    if push.state == "unknown":
        return _steps_to_resolve(push, history, hints)
    if push.state == "open":
        return [_next_step(push, state.planned, holder, hints)]
    if push.state in ("failed", "superseded") and not any(job.may_have_run for job in state.jobs):
        return ["Nothing was submitted: the table is unchanged."]
    return []


def _next_step(push: PushRow, planned: PushPlanned | None, holder: int | None, hints: Hints) -> str:
    if holder is not None:
        return f"Process {holder} is working on it."
    if planned is None:
        return "It ended before it had sent anything: run its command again."
    if not planned.source:
        return "It read an object in memory, which is gone: push it again. Its unsubmitted job is deleted later."
    return f"To continue it: {hints.resume(push.push_id)}, or the same push command again."


def _steps_to_resolve(push: PushRow, history: PushHistory, hints: Hints) -> list[str]:
    state = history.state
    job = state.jobs[-1]
    rows = format_count(sum(chunk.rows for chunk in job.acked), "row")
    mode = "" if state.planned is None else state.planned.target["mode"]
    then = ["If they are not, push again."]
    if mode != "append":
        then = [
            f"If you cannot tell, take them as not loaded, and push again: mode {mode} may",
            "run twice and yields the same table.",
        ]
    return [
        f"It is unknown whether job {job.job_id} ran: it was gone after it had been submitted. A person has to decide:",
        f"  1. Check table {push.target}: its row count, and its highest _CELONIS_CHANGE_DATE.",
        f"  2. The push had {rows}. Are they there, with a change date after the submit?",
        f"  3. If they are: {hints.resolve(push.push_id, is_loaded=True)}",
        f"     If not:      {hints.resolve(push.push_id, is_loaded=False)}",
        *(f"     {line}" for line in then),
    ]
