"""The journal of one running push. Each fact is first made durable, then applied to the state, then emitted as events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pushengine import events
from pushengine.journal import facts
from pushengine.journal.facts import Fact, FactRow, PushRow
from pushengine.journal.state import PushHistory, PushState
from pushengine.journal.store import Journal, JournalFile
from pushengine.runtime.aio import announce_when_slow, finish
from pushengine.runtime.clock import Clock

JOURNAL_IS_SLOW = "the journal is slow, or another process has it locked"


class PushLog:
    """Records the facts of one push, keeps its state, and emits the corresponding events.

    Args:
        journal: The journal that stores the facts.
        clock: Source of the facts' timestamps.
        push_id: Id of the push.
        team: Host of the team, for which the platform's checksum algorithm is stored.
        sink: Receives the events and knows table and pool (`runtime.event_bus.PushSink`).
        rows: Facts that are already in the journal, if the push is resumed.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock,
        push_id: str,
        team: str,
        sink: events.EventSink,
        rows: Iterable[FactRow] = (),
    ) -> None:
        self.push_id = push_id
        self._journal = journal
        self._clock = clock
        self._team = team
        self._sink = sink
        self._history = PushHistory(rows)
        self._opened_at = clock.monotonic()
        self._recorded_at: dict[float, float] = {}

    @property
    def state(self) -> PushState:
        """The current state of the push."""
        return self._history.state

    def seconds_since(self, at: float) -> float:
        """Return the seconds since the fact recorded at `at`; for a fact of an earlier process, since this process took over the push.

        Measured with the monotonic clock: a wall clock may be adjusted, and two processes may see different ones. Only times of
        `ChunkReconciled` and `SubmitAccepted` facts are tracked.
        """
        return self._clock.monotonic() - self._recorded_at.get(at, self._opened_at)

    async def begin(
        self,
        row: PushRow,
        *first_facts: Fact,
        ended_with: Fact | None = None,
        remember: Callable[[JournalFile], None] | None = None,
    ) -> None:
        """Add the push to the list of pushes together with its first facts, in one transaction.

        Args:
            row: The push. Its first facts get the time `created_at`.
            first_facts: What the push begins with.
            ended_with: The last fact of a push that is over already; it gets the time `updated_at`.
            remember: If given, called in the same transaction.

        Raises:
            JournalError: The journal could not be written; nothing was recorded.
        """
        recorded = [(row.created_at, fact) for fact in first_facts]
        if ended_with is not None:
            recorded.append((row.updated_at, ended_with))

        def also(file: JournalFile) -> None:
            file.begin_push(row)
            if remember is not None:
                remember(file)

        await self._write(recorded, also=also)

    async def record(
        self,
        fact: Fact,
        *,
        final_state: str | None = None,
        remember: Callable[[JournalFile, float], None] | None = None,
    ) -> None:
        """Make one fact durable, apply it, and emit its events.

        Args:
            fact: The fact to record.
            final_state: If given, also set the push's state in the list of pushes, in the same transaction.
            remember: If given, called in the same transaction with the journal and the time of the fact, seconds UTC.

        Raises:
            JournalError: The fact could not be recorded; the caller must not do what the fact announces.
        """
        at = self._clock.now()

        def also(file: JournalFile) -> None:
            if final_state is not None:
                file.set_state(self.push_id, final_state, at)
            if remember is not None:
                remember(file, at)

        await self._write([(at, fact)], also=also)

    async def _write(self, recorded: Sequence[tuple[float, Fact]], *, also: Callable[[JournalFile], None]) -> None:
        rows = [FactRow.of(self.push_id, at, fact) for at, fact in recorded]

        def write(file: JournalFile) -> None:
            for row in rows:
                file.append(row)
            also(file)

        async def write_and_apply() -> None:
            with announce_when_slow(self._announce_slow_journal):
                await self._journal.do(write)
            for at, fact in recorded:
                if isinstance(fact, facts.ChunkReconciled | facts.SubmitAccepted):  # `seconds_since` needs these
                    self._recorded_at[at] = self._clock.monotonic()
                self._history.apply(fact, at)
                self.emit_events_of(fact)

        # Finish even if the caller is cancelled meanwhile: the fact is true, and clean-up relies on it.
        await finish(write_and_apply())

    def emit_events_of(self, fact: Fact) -> None:
        """Emit the events of a fact that was just recorded, or that an earlier process recorded."""
        for event in events_of(fact, self.push_id, self.state):
            self.emit(event)

    def emit(self, event: events.Event) -> None:
        """Pass an event of the push, which no fact records, to the listeners."""
        self._sink.emit(event)

    def _announce_slow_journal(self) -> None:
        self.emit(events.WaitStarted(push_id=self.push_id, reason=JOURNAL_IS_SLOW))

    async def known_checksum(self) -> str | None:
        """Return the checksum algorithm that the platform uses for this team, or None if it is not known yet."""
        with announce_when_slow(self._announce_slow_journal):
            return await self._journal.read(lambda file: file.checksum_of(self._team))

    async def record_checksum(self, algorithm: str) -> None:
        """Store the checksum algorithm that the platform uses for this team."""
        with announce_when_slow(self._announce_slow_journal):
            await self._journal.do(lambda file: file.record_checksum(self._team, algorithm))


def events_of(fact: Fact, push_id: str, state: PushState) -> Iterator[events.Event]:  # noqa: C901, PLR0912 - one flat table
    """Yield the events of a fact that has already been applied to the state.

    Other code emits the events of a restart (before the source is read again and the fact is recorded), of the end of a push
    (they carry the whole receipt), and of everything that no fact records, such as attempts, waits and timings.
    """
    match fact:
        case facts.PushPlanned() if fact.schema is not None:  # otherwise it failed while it was planned
            yield push_started(push_id, fact, state)
            if fact.changes or fact.notes:
                yield events.TableCompared(
                    push_id=push_id,
                    changes=tuple(fact.changes),
                    notes=tuple(fact.notes),
                )
        case facts.SessionStarted(resumed=True):
            yield push_resumed(push_id, state)
            if state.planned is not None:
                yield push_started(push_id, state.planned, state)
        case facts.JobCreated():
            yield events.JobCreated(push_id=push_id, job_id=fact.job_id)
        case facts.ChunkReconciled():
            yield events.ChunkReconciled(
                push_id=push_id,
                job_id=fact.job_id,
                chunk_id=fact.chunk_id,
                is_present=fact.is_present,
                how=fact.how,
            )
        case facts.RowsRejected() if fact.rows:
            yield events.RowsRejected(push_id=push_id, job_id=fact.job_id, rows=fact.rows, file=fact.file)
        case facts.SourceAcked():
            yield events.SourceAcknowledged(push_id=push_id, job_id=fact.job_id, rows=fact.rows)
        case facts.JobSealed():
            yield events.JobVerified(push_id=push_id, job_id=fact.job_id, chunks=fact.chunks, verified=fact.verified)
        # A repeated submit has no event: the job is already being polled.
        case facts.SubmitAccepted() if not state.job_of(fact.job_id).repeats:
            yield events.JobSubmitted(push_id=push_id, job_id=fact.job_id, submits=state.submits)
        case facts.JobPolled():
            yield events.JobStatusChanged(push_id=push_id, job_id=fact.job_id, status=fact.status)
        case facts.JobSettled():
            yield events.JobSettled(push_id=push_id, job_id=fact.job_id, status=fact.status, logs=tuple(fact.logs))
        case facts.JobDiscarded():
            yield events.JobDeleted(push_id=push_id, job_id=fact.job_id, error=fact.error)
        case facts.PushSuperseded():
            yield events.PushSuperseded(push_id=push_id, reason=fact.reason)


def push_started(push_id: str, planned: facts.PushPlanned, state: PushState) -> events.PushStarted:
    """Return the event for a planned push."""
    return events.PushStarted(
        push_id=push_id,
        mode=str(planned.target.get("mode", "")),
        source=planned.label,
        source_bytes=planned.source_bytes,
        columns=len((state.schema or {}).get("columns", ())),
    )


def push_resumed(push_id: str, state: PushState) -> events.PushResumed:
    """Return the event for a push that this process takes over from an earlier one."""
    acked = state.job.acked if state.job else []
    return events.PushResumed(
        push_id=push_id,
        job_id=state.job.job_id if state.job else None,
        chunks_acknowledged=len(acked),
        rows_acknowledged=sum(chunk.rows for chunk in acked),
    )
