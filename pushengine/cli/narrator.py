"""Convert the facts of a push to lines of text. A long run of acknowledged chunks becomes one line. Times are UTC."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pushengine.cli.push_sessions import RecordedByOthers, Session
from pushengine.journal import facts
from pushengine.journal.facts import Fact, FactRow, SessionStarted
from pushengine.journal.state import ChunkRecord, JobRecord, PushHistory
from pushengine.text import format_bytes, format_count, format_ids, format_rows, format_seconds, some_lines, utc

UploadFact = facts.ChunkSending | facts.ChunkAcked | facts.ChunkRefused | facts.ChunkUnknown
_UPLOAD_WORDS = re.compile(r"^upload chunk \S+ to job \S+ at \S+: ")


@dataclasses.dataclass(slots=True)
class _Uploads:
    """Consecutive upload facts, to be summarized together."""

    sent_at: dict[str, float] = dataclasses.field(default_factory=dict)
    acked: dict[str, float] = dataclasses.field(default_factory=dict)
    refused: dict[str, tuple[float, str]] = dataclasses.field(default_factory=dict)
    unknown: dict[str, tuple[float, str]] = dataclasses.field(default_factory=dict)

    def take(self, fact: UploadFact, at: float) -> None:
        """Add one fact, recorded at time `at` (seconds since 1970)."""
        match fact:
            case facts.ChunkSending():
                self.sent_at.setdefault(fact.chunk_id, at)
            case facts.ChunkAcked():
                self.acked[fact.chunk_id] = at
            case facts.ChunkRefused():
                self.refused[fact.chunk_id] = (at, fact.error)
            case facts.ChunkUnknown():
                self.unknown[fact.chunk_id] = (at, fact.error)

    def lines(self, job: JobRecord) -> list[tuple[float, str]]:
        """Return the outcomes of the uploads as (time, text), sorted by time."""
        lines: list[tuple[float, str]] = []
        if self.acked:
            lines.append(self._acknowledged(job))
        if self.refused:
            at, error = max(self.refused.values())
            lines.append((at, f"{_chunks(self.refused)} refused, so not stored: {_reason(error)}"))
        if self.unknown:
            at, error = max(self.unknown.values())
            lines.append((at, f"{_chunks(self.unknown)} with unknown outcome: {_reason(error)}"))
        return sorted(lines)

    def _acknowledged(self, job: JobRecord) -> tuple[float, str]:
        chunks = [job.chunks[chunk_id] for chunk_id in self.acked]
        last = max(self.acked.values())
        first = min(self.sent_at.get(chunk_id, last) for chunk_id in self.acked)
        rows, sent = sum(chunk.rows for chunk in chunks), sum(chunk.payload_bytes for chunk in chunks)
        text = f"{_chunks(self.acked)} acknowledged, {format_rows(rows)}, {format_bytes(sent)}"
        if int(first) != int(last):
            text += f", {utc(first):%H:%M:%S}-{utc(last):%H:%M:%S}"
        again = [chunk.chunk_id for chunk in chunks if _is_sent_again(chunk)]
        if again:
            text += f"; sent again: {format_ids(again)}"
        return last, text


class Narrator:
    """Converts facts to lines, in order. Related facts are held back until one line can summarize them."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.lines: list[str] = []
        self.history = PushHistory()
        self._sessions = list(sessions)
        self._number = 0
        self._submit_session = 0
        self._is_open = False
        self._day = ""
        self._uploads = _Uploads()
        self._reconciled: list[tuple[float, facts.ChunkReconciled]] = []
        self._refusals: list[tuple[float, str]] = []
        self._polls: list[tuple[float, str]] = []
        self._create_attempts = 0

    def add_facts(self, rows: Iterable[FactRow]) -> None:
        """Convert all facts to lines. Facts of unknown kinds, written by a newer version, are skipped."""
        for row in rows:
            if row.fact is None:
                continue
            if self._is_open and (
                isinstance(row.fact, SessionStarted) or self._is_recorded_by_others(row.fact, row.at)
            ):
                self._end_session()
            self._flush_held_back(row.fact)
            self.history.apply(row.fact, row.at)
            self._write_fact(row.fact, row.at)
        self._flush_held_back(None)
        if self._is_open:
            self._end_session()

    def _is_recorded_by_others(self, fact: Fact, at: float) -> bool:
        session = self._sessions[self._number - 1]
        return session.ended == "killed" and isinstance(fact, RecordedByOthers) and at > session.ended_at

    def _write_fact(self, fact: Fact, at: float) -> None:  # noqa: C901, PLR0912 - one flat table
        match fact:
            case facts.PushPlanned():
                self._write_planned(fact, at)
            case facts.SessionStarted():
                self._begin_session(fact, at)
            case facts.PushInterrupted():
                self._write_interruption(fact, at)
            case facts.PushFailed():
                self._is_open = False
                when = " while it was planned" if self._is_unplanned() else ""
                self._add_line(at, f"failed{when}: {fact.error or 'the process was asked to stop'}")
            case facts.PushFinished(receipt=receipt):
                self._is_open = False
                count = format_count(receipt["chunks"], "chunk")
                sent = format_bytes(receipt["payload_bytes"])
                self._add_line(at, f"done: {format_count(receipt['rows'], 'row')} in {count}, {sent}")
            case facts.PushResolved(is_loaded=is_loaded):
                self._is_open = False
                self._add_line(at, f"resolved: a person found that it was {'' if is_loaded else 'not '}loaded")
            case facts.PushSuperseded(reason=reason):
                what = "abandoned" if reason == facts.NOBODY_RESUMED else "superseded by a new push"
                self._add_line(at, f"{what}: {reason}")
            case facts.PushRestarted():
                self._add_line(at, f"restarted in a fresh job: {fact.reason}")
            case facts.JobIntended():
                self._create_attempts += 1
            case facts.JobCreated():
                self._write_job_created(fact, at)
            case facts.JobDiscarded():
                self._write_job_discarded(fact, at)
            case facts.RowsRejected(rows=rows) if rows:
                self._add_line(at, f"{format_rows(rows)} rejected, listed in {fact.file}")
            case facts.JobSealed():
                self._write_job_sealed(fact, at)
            case facts.ChunkReconciled():
                self._reconciled.append((at, fact))
            case facts.ChunkSending() | facts.ChunkAcked() | facts.ChunkRefused() | facts.ChunkUnknown():
                self._uploads.take(fact, at)
            case facts.SubmitIntended():
                self._submit_session = self._number
            case facts.SubmitRefused():
                self._refusals.append((at, fact.error))
            case facts.SubmitUnknown():
                self._add_line(at, f"submit with unknown outcome: {fact.error}")
            case facts.SubmitAccepted():
                self._write_submit_accepted(fact, at)
            case facts.JobPolled():
                self._polls.append((at, fact.status))
            case facts.JobSettled():
                self._write_job_settled(fact, at)

    def _add_line(self, at: float, text: str) -> None:
        time = utc(at)
        if f"{time:%Y-%m-%d}" != self._day:
            self._day = f"{time:%Y-%m-%d}"
            self.lines.append(f"{self._day}, UTC")
        self.lines.append(f"  {time:%H:%M:%S}  {text}")

    def _flush_held_back(self, coming: Fact | None) -> None:
        if not isinstance(coming, UploadFact):
            self._write_uploads()
        if not isinstance(coming, facts.ChunkReconciled):
            self._write_reconciled()
        if not isinstance(coming, facts.SubmitIntended | facts.SubmitRefused):
            self._write_refusals()
        if not isinstance(coming, facts.JobPolled | facts.JobSettled):
            self._write_polls()

    def _write_planned(self, fact: facts.PushPlanned, at: float) -> None:
        what = _plan_in_words(fact.target)
        if self._is_unplanned():
            self._add_line(at, f"requested: {what}")
            return
        columns = len((fact.schema or {}).get("columns", ()))
        self._add_line(at, f"planned: {what}, {format_count(columns, 'column')}")

    def _is_unplanned(self) -> bool:
        """Whether the push ended while it was planned: its columns are not known."""
        state = self.history.state
        return state.planned is not None and state.schema is None

    # Sessions

    def _begin_session(self, fact: facts.SessionStarted, at: float) -> None:
        self._number += 1
        self._is_open = True
        if self._number > 1:
            self.lines.append("")
        who = f"session {self._number}: process {fact.pid}"
        if not fact.resumed:
            self._add_line(at, f"{who} started")
            return
        job = self.history.state.job
        if job is None:
            self._add_line(at, f"{who} resumed; there was no job yet")
            return
        count, rows = len(job.acked), format_rows(sum(chunk.rows for chunk in job.acked))
        what = f"{format_count(count, 'chunk')}, {rows}, already acknowledged" if count else "nothing acknowledged yet"
        self._add_line(at, f"{who} resumed with job {job.job_id}: {what}")

    def _end_session(self) -> None:
        """End a session whose process recorded no end: it is still running, or it was killed."""
        self._flush_held_back(None)
        self._is_open = False
        session = self._sessions[self._number - 1]
        if session.ended == "running":
            self._add_line(session.ended_at, f"process {session.pid} is running{self._in_flight()}")
        else:
            text = f"killed: process {session.pid} ended without recording why"
            self._add_line(session.ended_at, text + self._left_unknown())

    def _left_unknown(self) -> str:
        """Describe the requests whose outcome was unknown when the process ended; empty if there were none."""
        left = self._in_flight()
        return f"{left}; outcome unknown" if left else ""

    def _in_flight(self) -> str:
        left = []
        job = self.history.state.job
        open_chunks = [] if job is None else [chunk for chunk in job.chunks.values() if chunk.is_open]
        if open_chunks:
            left.append(f"{_chunks(chunk.chunk_id for chunk in open_chunks)} in flight")
        if job is not None and job.submit in ("intended", "unknown"):
            left.append("a submit in flight")
        if self._create_attempts:
            left.append("a job creation in flight")
            self._create_attempts = 0
        if not left:
            return ""
        return f", with {' and '.join(left)}"

    def _write_interruption(self, fact: facts.PushInterrupted, at: float) -> None:
        self._is_open = False
        pid = self._sessions[self._number - 1].pid
        if fact.receipt["status"] == "INTERRUPTED":
            text = f"interrupted: process {pid} was asked to stop before the push was complete"
        else:
            text = f"stopped: process {pid} ended before the push was complete: {fact.error}"
        self._add_line(at, text + self._left_unknown())

    # Jobs

    def _write_job_created(self, fact: facts.JobCreated, at: float) -> None:
        lost = self._create_attempts - 1
        self._create_attempts = 0
        suffix = (
            f"; {format_count(lost, 'earlier attempt')} may have left an empty job, which expires" if lost > 0 else ""
        )
        self._add_line(at, f"job {fact.job_id} created{suffix}")

    def _write_job_discarded(self, fact: facts.JobDiscarded, at: float) -> None:
        job_id, error = fact.job_id, fact.error
        if error is None:
            self._add_line(at, f"unsubmitted job {job_id} deleted")
        else:
            self._add_line(at, f"unsubmitted job {job_id} could not be deleted and is never used again: {error}")

    def _write_job_sealed(self, fact: facts.JobSealed, at: float) -> None:
        job = self._job(fact)
        chunks = format_count(fact.chunks, "chunk")
        text = f"sealed: the job holds {chunks}, exactly what was sent, by {fact.verified}"
        since = job.quarantined_since
        if since is not None:
            waited = format_seconds(max(at - since, 0.0))
            text += f"; listed {waited} after the last upload was found missing, when it could no longer arrive late"
        self._add_line(at, text)

    # Chunks

    def _write_uploads(self) -> None:
        uploads, self._uploads = self._uploads, _Uploads()
        job = self.history.state.jobs[-1] if self.history.state.jobs else None
        if job is None:
            return
        for at, text in uploads.lines(job):
            self._add_line(at, text)

    def _write_reconciled(self) -> None:
        reconciled, self._reconciled = self._reconciled, []
        if not reconciled:
            return
        found = [fact.chunk_id for _, fact in reconciled if fact.is_present]
        missed = [fact.chunk_id for _, fact in reconciled if not fact.is_present]
        parts = []
        if found:
            parts.append(f"found {_chunks(found)}, not sent again")
        if missed:
            parts.append(f"did not find {_chunks(missed)}, to be sent again")
        at, last = reconciled[-1]
        self._add_line(at, f"reconciled by {last.how} from the job's chunk list: {'; '.join(parts)}")

    # Submit and poll

    def _write_refusals(self) -> None:
        refusals, self._refusals = self._refusals, []
        if refusals:
            times = "" if len(refusals) == 1 else f" {len(refusals)} times, the last time"
            at, error = refusals[-1]
            self._add_line(at, f"submit refused{times}: {error}")

    def _write_submit_accepted(self, fact: facts.SubmitAccepted, at: float) -> None:
        repeats = self._job(fact).repeats
        if repeats:
            times = "again" if repeats == 1 else f"again, {repeats} times by now"
            self._add_line(at, f"the job was still NEW: submitted {times}, and accepted")
        elif self._job(fact).has_unknown_submit or self._submit_session != self._number:
            self._add_line(at, "the job is no longer NEW: the submit was accepted after all")
        else:
            self._add_line(at, "submitted: the platform accepted the job")

    def _write_job_settled(self, fact: facts.JobSettled, at: float) -> None:
        seen = [status for _, status in self._polls if status != fact.status]
        self._polls = []
        after = f", after {', '.join(seen)}" if seen else ""
        self._add_line(at, f"the job ended with {fact.status}{after}")
        self.lines += [f"            {line}" for line in some_lines(fact.logs)]

    def _write_polls(self) -> None:
        polls, self._polls = self._polls, []
        if polls:
            self._add_line(polls[-1][0], f"the job was {', '.join(status for _, status in polls)}")

    def _job(self, fact: facts.JobSealed | facts.SubmitAccepted) -> JobRecord:
        return self.history.state.job_of(fact.job_id)


def _reason(error: str) -> str:
    """Strip from an error the prefix that would repeat what the line says."""
    return _UPLOAD_WORDS.sub("", error)


def _is_sent_again(chunk: ChunkRecord) -> bool:
    return chunk.attempts > 1


def _chunks(ids: Iterable[str]) -> str:
    listed = list(ids)
    return f"{'chunk' if len(listed) == 1 else 'chunks'} {format_ids(listed)}"


def _plan_in_words(target: Mapping[str, Any]) -> str:
    table, keys = target["table"], ", ".join(target["keys"])
    return {
        "replace": f"replace table {table}",
        "append": f"append to table {table}",
        "upsert": f"upsert into table {table} by {keys}",
        "delete": f"delete from table {table} by {keys}",  # noqa: S608 - prose, not SQL
    }.get(target["mode"], f"{target['mode']} table {table}")
