"""One push from source to receipt: wires producer, queue, uploaders and job, and owns failure, restart, resume, drain and abort.

```
source --read--> record batches --cut--> chunks --encode--> payloads --asyncio.Queue--> uploaders --> job --seal--> submit --> poll
         reader thread                    encoder threads    bounded        max_uploads             quota
```

Until the submit leaves, the table is untouched, so every surprise has the same repair: delete the job, and start again in a fresh one
with what was learned (`_RESTARTABLE`), or report the cause. A failure in any task stops all of them; the first real cause is what is
raised.

Every step is in the journal before it is taken. A push of files that ends early (killed, drained, cancelled, network gone for too long)
stays open there, with its job: the same command goes on from it. A push that failed for good, or whose rows cannot be read again,
deletes its unsubmitted job.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NoReturn

from pushengine import events
from pushengine.attempt import Attempt
from pushengine.errors import (
    AuthenticationError,
    EngineClosedError,
    JobFailedError,
    JobTaintedError,
    JobVanishedError,
    JournalError,
    JournalLockedError,
    LedgerError,
    PermissionDeniedError,
    PushEngineError,
    SubmitOutcomeUnknownError,
    ValueMisfitError,
    VerificationError,
    real_cause,
)
from pushengine.intake import AsyncIntake, Intake, open_intake
from pushengine.jobs import JobRunner
from pushengine.journal import Fact, PushRow
from pushengine.model import ColumnType, JobStatus, Receipt, Target
from pushengine.pushlog import PushLog
from pushengine.recipe import chunk_recipe, dump_schema, load_schema, push_identity, source_words
from pushengine.runtime import Shared
from pushengine.schema import SchemaSettler, TableSchema
from pushengine.sources import open_source
from pushengine.types import Workers
from pushengine.workers import finish

MAX_RESTARTS = 3
_RESTARTABLE = (ValueMisfitError, VerificationError, JobVanishedError, JobTaintedError)


@dataclasses.dataclass(slots=True)
class _Progress:
    """What the receipt is made of, besides the journal's facts."""

    retries: int = 0
    restarts: int = 0
    is_resumed: bool = False
    source_bytes: int | None = None
    timings: dict[str, float] = dataclasses.field(default_factory=dict)


class PushRun:
    """One push, or the rest of one.

    Args:
        spec: Path, pattern, list of them, Arrow object or async iterator of record batches.
        target: Table, mode and keys.
        shared: Connections, memory, quota, journal.
        push_id: Name of this push, if it is a new one.
        source_format: Format of files, or None to go by their names.
        arrow_schema: Schema of an iterator's batches, where it has none of its own.
        column_types: Types that the user set by hand.
    """

    def __init__(
        self,
        spec: Any,
        target: Target,
        shared: Shared,
        *,
        push_id: str,
        source_format: str | None = None,
        arrow_schema: Any = None,
        column_types: Mapping[str, ColumnType] | None = None,
    ) -> None:
        self.spec = spec
        self._target = target
        self._shared = shared
        self._settings = shared.settings
        self._clock = shared.runtime.clock
        self._push_id = push_id
        self._source_format = source_format
        self._arrow_schema = arrow_schema
        self._column_types = dict(column_types or {})
        self._progress = _Progress()
        self._log: PushLog | None = None
        self._attempt: Attempt | None = None
        self._start = self._clock.monotonic()

    async def run(self) -> Receipt:
        """Do all of it, or all that an earlier process left.

        Returns:
            The receipt of a push that is DONE.

        Raises:
            PushEngineError: The cause of the failure; `.receipt` tells what was done. Nothing is running any more; the push is open in the
                journal, or its unsubmitted job is deleted.
        """
        workers = self._shared.runtime.new_workers()
        try:
            await self._push(workers)
        except BaseException as error:  # noqa: BLE001 - _fail() raises it, or its real cause
            self._fail(error)
        else:
            receipt = await self._finished_receipt()
            self._shared.finished.add(self._push_id)
            self._emit(events.PushFinished(push_id=self._push_id, receipt=receipt))
            return receipt
        finally:
            await workers.aclose()

    def _fail(self, error: BaseException) -> NoReturn:
        cause = real_cause(error)
        receipt = self._receipt(status_of(cause))
        if isinstance(cause, PushEngineError):
            cause.receipt = receipt
        self._emit(
            events.PushFailed(push_id=self._push_id, error=str(cause), error_type=type(cause).__name__, receipt=receipt)
        )
        if cause is error:
            raise cause
        raise cause from cause.__cause__

    async def _push(self, workers: Workers) -> None:
        shared = self._shared
        source = await workers.read(
            open_source,
            self.spec,
            format=self._source_format,
            schema=self._arrow_schema,
            settings=self._settings,
            filesystem=shared.runtime.filesystem,
        )
        intake = open_intake(source, self._settings, self._settler, workers, shared.drain)
        try:
            fingerprint = await intake.fingerprint(shared.runtime.filesystem)
            identity = self._identity(fingerprint)
            lock = await shared.runtime.off_loop(shared.take_lock, identity)
            try:
                log, schema = await self._open_log(intake, identity, fingerprint)
                told = log.state.receipt
                is_told_again = told is not None and told["status"] == "DONE"  # killed before it said so
                if not is_told_again:
                    await self._finish_push(intake, log, schema, workers, fingerprint)
            finally:
                lock.release()
        finally:
            await intake.aclose()

    def _identity(self, fingerprint: list[Any] | None) -> str:
        """Equal for the same command over files; of its own for objects in memory, which no later process can find."""
        words = source_words(self.spec)
        if fingerprint is None or words is None:
            words = [self._push_id]
        return push_identity(
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=self._target,
            source=words,
            source_format=self._source_format,
            column_types=self._column_types,
        )

    async def _open_log(
        self, intake: Intake | AsyncIntake, identity: str, fingerprint: list[Any] | None
    ) -> tuple[PushLog, TableSchema]:
        """The journal of the push that an earlier process left, or of a new one."""
        journal = self._shared.journal
        row = await journal.do(lambda file: file.find_open(identity))
        if row is not None and row.push_id in self._shared.finished:
            await self._mark_done(row.push_id)
            row = None
        if row is not None:
            facts = await journal.do(lambda file: file.facts(row.push_id))
            log = self._new_log(row.push_id, facts)
            reason = self._why_not_resumable(log, fingerprint)
            if reason is None and log.state.schema is not None:
                return await self._resume(log, intake), load_schema(log.state.schema)
            await self._supersede(log, reason or "it was never planned to its end")
        schema = await self._settle(intake, is_exhaustive=False)
        await self._end_rivals(identity)
        return await self._begin(identity, intake, fingerprint, schema), schema

    def _new_log(self, push_id: str, facts: list[Fact]) -> PushLog:
        return PushLog(
            self._shared.journal,
            clock=self._clock,
            push_id=push_id,
            team=self._shared.destination.team,
            facts=facts,
        )

    def _why_not_resumable(self, log: PushLog, fingerprint: list[Any] | None) -> str | None:
        planned = log.state.planned
        if planned.get("fingerprint") != fingerprint:
            return "the source has changed since"
        if planned.get("recipe") != chunk_recipe(self._settings):
            return "settings or versions that decide about the bytes of a chunk have changed since"
        return None

    async def _resume(self, log: PushLog, intake: Intake | AsyncIntake) -> PushLog:
        self._log, self._push_id = log, log.push_id
        self._progress.is_resumed = True
        self._progress.source_bytes = log.state.planned.get("source_bytes")
        await log.record("session_started", pid=os.getpid(), resumed=True)
        acked = log.state.job.acked if log.state.job else []
        self._emit(
            events.PushResumed(
                push_id=self._push_id,
                job_id=log.state.job.job_id if log.state.job else None,
                chunks_acknowledged=len(acked),
                rows_acknowledged=sum(chunk.rows for chunk in acked),
            )
        )
        self._emit_started(intake, len((log.state.schema or {})["columns"]))
        return log

    async def _mark_done(self, push_id: str) -> None:
        """The caller has heard that this push is DONE: the same command means a new one from now on."""
        now = self._clock.now()
        await self._shared.journal.do(lambda file: file.set_state(push_id, "done", now))

    async def _supersede(self, log: PushLog, reason: str) -> None:
        """Bring the earlier push to an end: a submitted job is awaited, since two jobs must not race for one table."""
        if log.state.receipt is not None and log.state.receipt["status"] == "DONE":
            await self._mark_done(log.push_id)
            return
        jobs = self._job_runner(log)
        job = log.state.job
        if job is not None and job.may_have_run and await jobs.was_accepted_before(job.job_id):
            with contextlib.suppress(JobFailedError, SubmitOutcomeUnknownError):
                await jobs.poll(job.job_id)
        elif job is not None:
            await jobs.discard(job.job_id)
        await log.record("push_superseded", final_state="superseded", reason=reason)
        self._emit(events.PushSuperseded(push_id=log.push_id, reason=reason))

    async def _end_rivals(self, identity: str) -> None:
        """An older push into this table that was left unfinished must not undo this one when somebody resumes it.

        Where one of the two replaces the table, the older one is over. One that another process works on right now is left alone.
        """
        shared = self._shared
        rows = await shared.journal.do(lambda file: file.pushes(state="open"))
        for row in rows:
            is_same_table = (row.team, row.pool_id, row.target.casefold()) == (
                shared.destination.team,
                shared.pool_id,
                self._target.table.casefold(),
            )
            if not is_same_table or row.identity == identity:
                continue
            with contextlib.suppress(JournalLockedError):
                lock = await shared.runtime.off_loop(shared.take_lock, row.identity)
                try:
                    await self._end_rival(row.push_id)
                finally:
                    lock.release()

    async def _end_rival(self, push_id: str) -> None:
        log = self._new_log(push_id, await self._shared.journal.do(lambda file: file.facts(push_id)))
        theirs = log.state.planned.get("target", {})
        is_same_schema = theirs.get("connection_id") == self._target.connection_id
        if is_same_schema and "replace" in (theirs.get("mode"), self._target.mode):
            await self._supersede(log, f"a newer push into table {self._target.table} began")

    async def _begin(
        self, identity: str, intake: Intake | AsyncIntake, fingerprint: list[Any] | None, schema: TableSchema
    ) -> PushLog:
        now = self._clock.now()
        team = self._shared.destination.team
        row = PushRow(
            push_id=self._push_id,
            identity=identity,
            team=team,
            pool_id=self._shared.pool_id,
            target=self._target.table,
            source=intake.label,
            created_at=now,
            updated_at=now,
            state="open",
        )
        self._progress.source_bytes = intake.size_bytes
        planned: dict[str, Any] = {
            "target": dataclasses.asdict(self._target),
            "pool_id": self._shared.pool_id,
            "source": source_words(self.spec) if fingerprint is not None else None,
            "format": self._source_format,
            "column_types": self._column_types,
            "source_bytes": intake.size_bytes,
            "fingerprint": fingerprint,
            "recipe": chunk_recipe(self._settings),
            "schema": dump_schema(schema),
        }
        self._log = log = self._new_log(self._push_id, [])
        await log.begin(row, push_planned=planned, session_started={"pid": os.getpid(), "resumed": False})
        self._emit_started(intake, len(schema.columns))
        return log

    def _emit_started(self, intake: Intake | AsyncIntake, columns: int) -> None:
        self._emit(
            events.PushStarted(
                push_id=self._push_id,
                table=self._target.table,
                mode=self._target.mode,
                source=intake.label,
                source_bytes=self._progress.source_bytes,
                columns=columns,
            )
        )

    async def _finish_push(
        self,
        intake: Intake | AsyncIntake,
        log: PushLog,
        schema: TableSchema,
        workers: Workers,
        fingerprint: list[Any] | None,
    ) -> None:
        """Attempts until one is settled; then the last fact."""
        attempt = self._attempt = Attempt(
            shared=self._shared,
            target=self._target,
            intake=intake,
            log=log,
            jobs=self._job_runner(log),
            workers=workers,
            fingerprint=fingerprint,
            on_retry=self._on_retry,
            timed=self._timed,
        )
        try:
            while True:
                try:
                    await attempt.run(schema)
                except BaseException as error:  # noqa: BLE001 - raised again unless a fresh job repairs it
                    cause = real_cause(error)
                    self._check_restart(cause, intake, log)
                    await self._restart(log, cause)
                    if isinstance(cause, ValueMisfitError):
                        sampled, schema = schema, await self._settle(intake, is_exhaustive=True)
                        self._emit(events.SchemaLearned(push_id=self._push_id, changes=schema_changes(sampled, schema)))
                        await log.record("push_restarted", reason=str(cause), schema=dump_schema(schema))
                else:
                    break
        except BaseException as error:  # every way out leaves the journal in order
            await finish(self._close_log(log, real_cause(error), can_resume=fingerprint is not None))
            raise
        await log.record("push_finished", final_state="finished", receipt=self._receipt("DONE").to_dict())

    def _check_restart(self, cause: BaseException, intake: Intake | AsyncIntake, log: PushLog) -> None:
        """Raise the cause unless a fresh job can repair it."""
        is_submitted = log.state.job is not None and log.state.job.may_have_run
        if not isinstance(cause, _RESTARTABLE) or self._progress.restarts >= MAX_RESTARTS or is_submitted:
            raise cause
        if not intake.is_repeatable:
            if isinstance(cause, PushEngineError):
                cause.hint = (
                    "the push would start again in a fresh job, but this source can be read only once:"
                    " push a file or a table instead"
                )
            raise cause

    async def _restart(self, log: PushLog, cause: BaseException) -> None:
        self._progress.restarts += 1
        job = log.state.job
        if job is not None:
            await self._job_runner(log).discard(job.job_id)
            job.is_abandoned = True
        if not isinstance(cause, ValueMisfitError):
            await log.record("push_restarted", reason=str(cause))
        self._emit(
            events.PushRestarted(
                push_id=self._push_id,
                job_id=job.job_id if job else None,
                restarts=self._progress.restarts,
                reason=str(cause),
            )
        )

    async def _close_log(self, log: PushLog, cause: BaseException, *, can_resume: bool) -> None:
        """The last fact of a push that did not get to DONE, and the end of a job that nobody will go on with."""
        receipt = self._receipt(status_of(cause)).to_dict()
        with contextlib.suppress(JournalError):
            if can_resume and (is_resumable(cause) or is_running_on(log, cause)):
                await log.record("push_interrupted", error=str(cause), receipt=receipt)
                return
            if log.state.job is not None and not log.state.job.may_have_run:
                await self._job_runner(log).discard(log.state.job.job_id)
            await log.record(
                "push_failed",
                final_state="unknown" if isinstance(cause, SubmitOutcomeUnknownError) else "failed",
                error=str(cause),
                error_type=type(cause).__name__,
                receipt=receipt,
            )

    async def _settle(self, intake: Intake | AsyncIntake, *, is_exhaustive: bool) -> TableSchema:
        with self._timed("plan"):
            return await self._shared.drain.guard(intake.settle(is_exhaustive=is_exhaustive))

    def _settler(self, source_schema: Any, *, is_text: bool, source: str) -> SchemaSettler:
        return SchemaSettler(
            source_schema, is_text=is_text, overrides=self._column_types, keys=self._target.keys, source=source
        )

    def _job_runner(self, log: PushLog) -> JobRunner:
        settings, shared = self._settings, self._shared
        return JobRunner(
            shared.destination,
            limiter=shared.limiter,
            target=self._target,
            policy=shared.policy,
            clock=self._clock,
            rng=shared.runtime.rng,
            drain=shared.drain,
            log=log,
            sink=shared.sink,
            on_retry=self._on_retry,
            conflict_wait_seconds=settings.conflict_wait_seconds,
            poll_max_interval_seconds=settings.poll_max_interval_seconds,
            job_deadline_seconds=settings.job_deadline_seconds,
            quarantine_seconds=settings.quarantine_seconds,
            settle_seconds=settings.settle_seconds,
        )

    def _on_retry(self, operation: str, attempt: int, wait_seconds: float, error: PushEngineError) -> None:
        """Count and tell a wait before another attempt."""
        self._progress.retries += 1
        self._emit(
            events.RetryScheduled(
                push_id=self._push_id,
                operation=operation,
                attempt=attempt,
                wait_seconds=round(wait_seconds, 3),
                error=error.message,
            )
        )

    def _emit(self, event: events.Event) -> None:
        self._shared.sink.emit(event)

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Add the time of the block to the receipt's timings."""
        start = self._clock.monotonic()
        try:
            yield
        finally:
            timings = self._progress.timings
            timings[phase] = timings.get(phase, 0.0) + self._clock.monotonic() - start

    async def _finished_receipt(self) -> Receipt:
        quota_used: int | None = None
        with contextlib.suppress(LedgerError):  # the rows are loaded: a broken ledger stops the next push, not this one
            quota_used = await self._shared.limiter.spent()
        return dataclasses.replace(
            self._receipt("DONE"), quota_used=quota_used, quota_limit=self._settings.submits_per_hour
        )

    def _receipt(self, status: Literal["DONE", "ERROR", "CANCELED", "INTERRUPTED"]) -> Receipt:
        progress = self._progress
        state = self._log.state if self._log is not None else None
        job = state.jobs[-1] if state is not None and state.jobs else None
        sent = [] if job is None else job.acked
        return Receipt(
            push_id=self._push_id,
            job_id=None if job is None else job.job_id,
            table=self._target.table,
            mode=self._target.mode,
            status=status,
            rows=sum(chunk.rows for chunk in sent),
            chunks=len(sent),
            payload_bytes=sum(chunk.payload_bytes for chunk in sent),
            source_bytes=progress.source_bytes or (self._attempt.source_nbytes if self._attempt else 0) or 0,
            elapsed_seconds=self._clock.monotonic() - self._start,
            retries=progress.retries,
            submits=0 if state is None else state.submits,
            restarts=0 if state is None else state.restarts,
            resumed=progress.is_resumed,
            verified=None if job is None else job.verified,
            job_logs=() if job is None else job.logs,
            checksums=tuple(chunk.digests["sha256"] for chunk in sent),
            timings=progress.timings,
        )


def schema_changes(before: TableSchema, after: TableSchema) -> tuple[str, ...]:
    """What all rows taught beyond the sample, column by column, as `ID INTEGER -> STRING(80)`."""
    return tuple(
        f"{old!r} -> {new.type}" + ("" if new.length is None else f"({new.length})")
        for old, new in zip(before.columns, after.columns, strict=True)
        if (old.type, old.length, old.arrow_type) != (new.type, new.length, new.arrow_type)
    )


def is_running_on(log: PushLog, cause: BaseException) -> bool:
    """The job was submitted and its end was not seen: pushing again must look at it first, whatever stopped us."""
    is_submitted = log.state.job is not None and log.state.job.may_have_run
    return is_submitted and not isinstance(cause, JobFailedError | SubmitOutcomeUnknownError)


def is_resumable(cause: BaseException) -> bool:
    """The push may go on later from where it stands: it was stopped, or what failed may pass or be put right."""
    if isinstance(cause, PushEngineError):
        return (
            isinstance(cause, EngineClosedError | JournalError | AuthenticationError | PermissionDeniedError)
            or cause.disposition == "transient"
            or (cause.disposition == "outcome_unknown" and not isinstance(cause, SubmitOutcomeUnknownError))
        )
    return True


def status_of(cause: BaseException) -> Literal["ERROR", "CANCELED", "INTERRUPTED"]:
    """Receipt status of a push that ended with `cause`."""
    if isinstance(cause, asyncio.CancelledError | KeyboardInterrupt | EngineClosedError):
        return "INTERRUPTED"
    if isinstance(cause, JobFailedError) and cause.status == JobStatus.CANCELED:
        return "CANCELED"
    return "ERROR"
