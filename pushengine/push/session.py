"""One process's work on one push: deliver its source, or end it from its journal, and always leave the journal in order.

Until the submit leaves, the table is untouched. So every surprise is handled in the same way: delete the job and start again in a fresh
one with what was learned (`_RESTARTABLE`), or report the cause.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable

from pushengine import events
from pushengine.errors import (
    JobTaintedError,
    JobVanishedError,
    JournalError,
    SourceChangedError,
    SubmitOutcomeUnknownError,
    TableChangedError,
    ValueMisfitError,
    VerificationError,
    real_cause,
)
from pushengine.interfaces import Workers
from pushengine.journal import facts
from pushengine.journal.endings import PushEnd, record_end
from pushengine.journal.state import PushState
from pushengine.journal.store import JournalFile
from pushengine.model import Receipt
from pushengine.pipeline.context import PushContext
from pushengine.pipeline.source_reader import OpenedSource, SourceReader
from pushengine.pipeline.target_table import TargetTable
from pushengine.push.delivery import Delivery
from pushengine.push.ending import Turn, end_job
from pushengine.push.job import JobRunner
from pushengine.push.outcome import (
    ReceiptStatus,
    build_receipt,
    is_resumable,
    may_still_be_running,
    schema_changes,
    status_of,
)
from pushengine.runtime.aio import finish
from pushengine.schema.columns import TableSchema, dump_schema, load_schema
from pushengine.schema.inference import InferredSchema
from pushengine.schema.known import KnownTable
from pushengine.text import shown_text

MAX_RESTARTS = 3
_RESTARTABLE = (ValueMisfitError, TableChangedError, VerificationError, JobVanishedError, JobTaintedError)


class PushSession:
    """The work of one process on one push.

    Args:
        context: The push.

    Attributes:
        find_busy: Called before each submit: returns why it has to wait, see `Turn`.
    """

    def __init__(self, context: PushContext) -> None:
        self.context = context
        self.find_busy: Callable[[], Awaitable[str]] = _find_nothing
        self._jobs = JobRunner(context)
        self._delivery: Delivery | None = None
        self._restarts = 0

    @property
    def _turn(self) -> Turn:
        return Turn(self.find_busy, self._record_finished)

    @property
    def state(self) -> PushState:
        """Current state of the push."""
        return self.context.log.state

    async def deliver(self, source: OpenedSource, workers: Workers, *, rechecks: bool, is_new: bool) -> None:
        """Deliver the source in one job after another until one succeeds, then record the final fact.

        Args:
            source: The source, opened with the settings of the push.
            workers: Threads that read, encode and hash.
            rechecks: Read again what an earlier process sent, and compare it.
            is_new: This process started the push.

        Raises:
            SourceChangedError: The source has changed. A push that is not new is left open then, and a new push takes its place.
            PushEngineError: The cause of the failure, possibly inside an exception group.
        """
        planned = self.state.planned
        if planned is not None and planned.is_empty and self.context.target.mode != "replace":
            await self._record_finished()  # without rows, the other modes change nothing
            return
        self._delivery = Delivery(self.context, source, workers, rechecks=rechecks, turn=self._turn)
        schema = load_schema(self.state.schema or {})
        try:
            while True:
                try:
                    await self._delivery.run(schema)
                except BaseException as error:  # noqa: BLE001 - raised again unless a fresh job can help
                    schema = await self._restart(real_cause(error), source.source_reader, schema)
                else:
                    break
        except BaseException as error:  # every way out leaves the journal in order
            if self.state.is_done:  # cancelled while the last fact was recorded
                raise
            cause = real_cause(error)
            is_replaced = not is_new and isinstance(cause, SourceChangedError)
            is_open = is_replaced or self._is_left_open(cause, can_resume=source.fingerprint is not None)
            await finish(self._record_failure(cause, is_open=is_open))
            if not is_replaced:
                raise
            raise cause from cause.__cause__

    async def end_job(self, *, has_turn: bool = False) -> None:
        """Submit the job if needed, poll it, and record the final fact of the push. Needs nothing from the source.

        Args:
            has_turn: Whether the caller has the turn to submit into the table.

        Raises:
            PushEngineError: The cause of the failure; the journal is in order.
        """
        record = self.state.job
        assert record is not None  # noqa: S101 - it was submitted
        try:
            await end_job(self.context, record, dataclasses.replace(self._turn, is_held=has_turn))
        except BaseException as error:  # every way out leaves the journal in order
            if self.state.is_done:  # cancelled while the last fact was recorded
                raise
            cause = real_cause(error)
            await finish(self._record_failure(cause, is_open=self._is_left_open(cause, can_resume=True)))
            raise

    async def supersede(self, reason: str) -> None:
        """End a push that was not submitted: delete its job and record the reason."""
        if self.state.job is not None:
            await self._jobs.discard(self.state.job.job_id)
        await self.context.log.record(facts.PushSuperseded(reason=reason), final_state="superseded")

    async def infer_schema(
        self, reader: SourceReader, known: KnownTable | None, *, is_exhaustive: bool
    ) -> InferredSchema:
        """Return the schema of the source, inferred from a sample or from every row, for a table of which this is known.

        Raises:
            SourceError: The input is unreadable, malformed or unsuitable.
            EngineClosedError: The engine drains.
        """
        waits = self.context.announce_when_slow(f"the types of {shown_text(reader.label)} are being determined")
        with self.context.timed("plan"), waits:
            return await self.context.drain.guard(reader.infer(known, is_exhaustive=is_exhaustive))

    def receipt(self, status: ReceiptStatus) -> Receipt:
        """Build a receipt of what was done so far."""
        context, measures = self.context, self.context.measures
        nbytes = self._delivery.source_nbytes if self._delivery is not None else None
        return build_receipt(
            status,
            self.state,
            push_id=context.push_id,
            target=context.target,
            source_bytes=measures.source_bytes or nbytes or 0,
            elapsed_seconds=context.clock.monotonic() - measures.start,
            retries=measures.retries,
            resumed=measures.is_resumed,
            timings=measures.timings,
        )

    # --- Restarts

    async def _restart(self, cause: BaseException, reader: SourceReader, schema: TableSchema) -> TableSchema:
        """Abandon the job and return the schema for a fresh one; raise the cause if a fresh job would not help."""
        self._require_repairable(cause, reader)
        self._restarts += 1
        job, log = self.state.job, self.context.log
        if job is not None:
            await self._jobs.discard(job.job_id)
            job.is_abandoned = True
        relearns = isinstance(cause, ValueMisfitError | TableChangedError)
        if not relearns:
            await log.record(self._restarted(cause))
        # After a misfit, all rows are read before the fact is recorded, which may take long: emit the event first.
        self.context.emit(
            events.PushRestarted(
                push_id=self.context.push_id,
                job_id=job.job_id if job else None,
                restarts=self._restarts,
                reason=str(cause),
            )
        )
        if not relearns:
            return schema
        await self.context.take_slot()
        known = None if self.state.known is None else KnownTable.from_dict(self.state.known)
        if isinstance(cause, TableChangedError):
            known = await TargetTable(self.context).known()
        learned = await self.infer_schema(reader, known, is_exhaustive=True)
        changes = schema_changes(schema, learned.schema)
        self.context.emit(events.SchemaLearned(push_id=self.context.push_id, changes=changes))
        await log.record(
            facts.PushRestarted(
                reason=str(cause),
                schema=dump_schema(learned.schema),
                known=None if known is None else known.to_dict(),
                changes=learned.changes,
                decodes=self._delivery is not None and self._delivery.decodes,
                notes=[note for note in learned.notes if note not in self.state.notes],
            )
        )
        return learned.schema

    def _restarted(self, cause: BaseException) -> facts.PushRestarted:
        delivery = self._delivery
        if delivery is None:
            return facts.PushRestarted(reason=str(cause))
        drops, note = delivery.keys.drops_rows, delivery.keys.note
        notes = (note,) if drops and note not in self.state.notes else ()
        return facts.PushRestarted(reason=str(cause), drops_duplicates=drops, notes=notes, decodes=delivery.decodes)

    def _require_repairable(self, cause: BaseException, reader: SourceReader) -> None:
        is_submitted = self.state.job is not None and self.state.job.may_have_run
        if not isinstance(cause, _RESTARTABLE) or is_submitted:
            raise cause
        if self._restarts >= MAX_RESTARTS:
            if not isinstance(cause, VerificationError | JobTaintedError):
                raise cause
            raise cause.replace(
                hint=f"{MAX_RESTARTS} fresh jobs did not help: look for a proxy that repeats or swallows uploads, and for another"
                " program that adds chunks to the jobs of this pool"
            ) from cause.__cause__
        if not reader.is_repeatable:
            raise cause.replace(
                hint="the push would restart in a fresh job, but this source can be read only once: push a file or a table instead"
            ) from cause.__cause__

    # --- The last fact

    async def _record_finished(self) -> None:
        finished = facts.PushFinished(receipt=self.receipt("DONE").to_dict(), is_remembered=True)
        await self.context.log.record(
            finished, final_state="finished", remember=functools.partial(self._remember, finished)
        )

    def _remember(self, last: facts.PushFinished | facts.PushFailed, file: JournalFile, at: float) -> None:
        """Record what the end of the push means to its table, its load and its load id. Called in the transaction of its last fact."""
        error = last.error if isinstance(last, facts.PushFailed) else ""
        is_unknown = bool(error) and last.is_remembered
        if last.is_remembered:
            TargetTable(self.context).remember(file, at, is_unknown=is_unknown)
        context = self.context
        end = PushEnd(
            push_id=context.push_id,
            team=context.destination.team,
            pool_id=context.shared.pool_id,
            at=at,
            state=self.state,
            receipt=last.receipt,
            error=error,
            is_unknown=is_unknown,
        )
        record_end(file, end)

    def _is_left_open(self, cause: BaseException, *, can_resume: bool) -> bool:
        return may_still_be_running(self.state, cause) or (can_resume and is_resumable(cause))

    async def _record_failure(self, cause: BaseException, *, is_open: bool) -> None:
        """Record the final fact of a push that did not reach DONE, and delete its unsubmitted job unless the push stays open."""
        log, receipt = self.context.log, self.receipt(status_of(cause)).to_dict()
        with contextlib.suppress(JournalError):
            if is_open:
                await log.record(facts.PushInterrupted(error=str(cause), receipt=receipt))
                return
            if self.state.job is not None and not self.state.job.may_have_run:
                await self._jobs.discard(self.state.job.job_id)
            is_unknown = isinstance(cause, SubmitOutcomeUnknownError)
            failed = facts.PushFailed(
                error=str(cause), error_type=type(cause).__name__, receipt=receipt, is_remembered=is_unknown
            )
            await log.record(
                failed,
                final_state="unknown" if is_unknown else "failed",
                remember=functools.partial(self._remember, failed),
            )


async def _find_nothing() -> str:
    """Wait for no other push; the default for `PushSession.find_busy`."""
    return ""
