"""The journal of one push while it runs: each fact durable first, then part of the state, then told."""

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
    """Records facts, holds the state that they add up to, and emits the events that they mean.

    Args:
        journal: Where facts go.
        clock: When they happen.
        push_id: The push.
        team: Whose checksum algorithm is remembered.
        sink: Takes events.
        rows: What is known already, for a resumed push.
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
        """What is known of the push now."""
        return self._history.state

    def seconds_since(self, at: float) -> float:
        """Time since a fact of this push, in seconds; for a fact of an earlier process the time since this one took over.

        Wall clocks are set, and two processes may see two of them: what has to be waited out is measured where nothing is set.
        """
        return self._clock.monotonic() - self._recorded_at.get(at, self._opened_at)

    async def begin(self, row: PushRow, *started: Fact) -> None:
        """List the push, together with its first facts: all of them or nothing is durable.

        Raises:
            JournalError: It could not be recorded.
        """
        await self._write(row.created_at, started, also=lambda file: file.begin_push(row))

    async def record(self, fact: Fact, *, final_state: str | None = None) -> None:
        """Make one fact durable, apply it, and emit its events.

        Args:
            fact: What is intended or was learned.
            final_state: Also set the push's state in the list of pushes.

        Raises:
            JournalError: It could not be recorded; what it announces must not happen.
        """
        at = self._clock.now()

        def set_state(file: JournalFile) -> None:
            if final_state is not None:
                file.set_state(self.push_id, final_state, at)

        await self._write(at, [fact], also=set_state)

    async def _write(self, at: float, recorded: Sequence[Fact], *, also: Callable[[JournalFile], None]) -> None:
        rows = [FactRow.of(self.push_id, at, fact) for fact in recorded]

        def write(file: JournalFile) -> None:
            for row in rows:
                file.append(row)
            also(file)

        async def write_and_apply() -> None:
            with announce_when_slow(self._announce_slow_journal):
                await self._journal.do(write)
            for fact in recorded:
                if isinstance(fact, facts.ChunkReconciled | facts.SubmitAccepted):  # something is measured from these
                    self._recorded_at[at] = self._clock.monotonic()
                self._history.apply(fact, at)
                self.tell(fact)

        # Even if the caller is cancelled meanwhile: what happened has happened, and the clean-up must know of it.
        await finish(write_and_apply())

    def tell(self, fact: Fact) -> None:
        """Emit the events of a fact, one that was just recorded or one that an earlier process has recorded."""
        for event in events_of(fact, self.push_id, self.state):
            self._sink.emit(event)

    def _announce_slow_journal(self) -> None:
        self._sink.emit(events.WaitStarted(push_id=self.push_id, reason=JOURNAL_IS_SLOW))

    async def known_checksum(self) -> str | None:
        """The platform's checksum algorithm as learned for this team."""
        with announce_when_slow(self._announce_slow_journal):
            return await self._journal.read(lambda file: file.checksum_of(self._team))

    async def record_checksum(self, algorithm: str) -> None:
        """Remember it."""
        with announce_when_slow(self._announce_slow_journal):
            await self._journal.do(lambda file: file.record_checksum(self._team, algorithm))


def events_of(fact: Fact, push_id: str, state: PushState) -> Iterator[events.Event]:  # noqa: C901 - one flat table
    """The events that a fact means, once it is part of the state.

    Not here: a restart, which is told before the source is read and its fact written; the end of a push, whose event carries the whole
    receipt; and what no fact holds, such as attempts, waits and how long things took.
    """
    match fact:
        case facts.PushPlanned():
            yield push_started(push_id, fact, state)
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
        case facts.JobSealed():
            yield events.JobVerified(push_id=push_id, job_id=fact.job_id, chunks=fact.chunks, verified=fact.verified)
        case facts.SubmitAccepted() if not state.job_of(fact.job_id).repeats:  # the job is polled already
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
    """The event for a push that is planned."""
    return events.PushStarted(
        push_id=push_id,
        table=str(planned.target.get("table", "")),
        mode=str(planned.target.get("mode", "")),
        source=planned.label,
        source_bytes=planned.source_bytes,
        columns=len((state.schema or {}).get("columns", ())),
    )


def push_resumed(push_id: str, state: PushState) -> events.PushResumed:
    """The event for a push of an earlier process that this one takes over."""
    acked = state.job.acked if state.job else []
    return events.PushResumed(
        push_id=push_id,
        job_id=state.job.job_id if state.job else None,
        chunks_acknowledged=len(acked),
        rows_acknowledged=sum(chunk.rows for chunk in acked),
    )
