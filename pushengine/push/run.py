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

What the same command finds in the journal decides what it does (`_push`):

    a submit may have left    the push is ended from its journal alone; then, if the source holds what was sent, the command is done
    nothing was submitted     it goes on if the source and the recipe of its chunks are what they were, else a new push takes its place
    nothing                   a new push
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from pushengine import events
from pushengine.config.settings import EngineSettings
from pushengine.errors import (
    ConfigError,
    JobFailedError,
    JobTaintedError,
    JobVanishedError,
    JournalError,
    JournalLockedError,
    LedgerError,
    PushEngineError,
    SourceChangedError,
    SourceError,
    SubmitOutcomeUnknownError,
    ValueMisfitError,
    VerificationError,
    real_cause,
)
from pushengine.interfaces import Workers
from pushengine.journal.facts import Fact, PushRow
from pushengine.journal.push_log import PushLog
from pushengine.journal.store import JournalFile
from pushengine.model import ColumnType, Receipt, Target
from pushengine.pipeline.source_reader import AsyncSourceReader, OpenedSource, SourceReader, open_source_reader
from pushengine.push.context import Shared
from pushengine.push.continuation import SOURCE_CHANGED, EarlierPush
from pushengine.push.delivery import Delivery, end_job
from pushengine.push.identity import chunk_recipe, planned_settings, push_identity, source_words
from pushengine.push.job import JobRunner
from pushengine.push.outcome import (
    ReceiptStatus,
    build_receipt,
    is_resumable,
    is_running_on,
    schema_changes,
    status_of,
    target_of,
)
from pushengine.runtime.aio import finish, settled, told_when_slow
from pushengine.schema.columns import TableSchema, dump_schema, load_schema
from pushengine.schema.inference import SchemaInference
from pushengine.sources import open_source
from pushengine.sources.fingerprint import Fingerprint, in_order_of
from pushengine.text import format_rows

T = TypeVar("T")

MAX_RESTARTS = 3
_RESTARTABLE = (ValueMisfitError, VerificationError, JobVanishedError, JobTaintedError)


@dataclasses.dataclass(slots=True)
class _Progress:
    """What the receipt is made of, besides the journal's facts."""

    start: float
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
        content: Name of the source's content, where it was a stream that is kept in a file of its own each time.
        resumes: The push to go on with, where its user named it: once it is DONE no other one begins.
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
        content: str | None = None,
        resumes: PushRow | None = None,
    ) -> None:
        self.spec = spec
        self._wanted = self._target = target
        self._shared = shared
        self._settings = shared.settings
        self._clock = shared.runtime.clock
        self._new_id = self._push_id = push_id
        self._source_format = source_format
        self._arrow_schema = arrow_schema
        self._column_types = dict(column_types or {})
        self._content = content
        self._resumes = resumes
        self._progress = _Progress(self._clock.monotonic())
        self._log: PushLog | None = None
        self._attempt: Delivery | None = None

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
        receipt = self._receipt(status_of(cause), self._log)
        if isinstance(cause, PushEngineError):
            cause.receipt = receipt  # the one thing that is known only here, and callers look for it on the very error
        self._emit(
            events.PushFailed(push_id=self._push_id, error=str(cause), error_type=type(cause).__name__, receipt=receipt)
        )
        if cause is error:
            raise cause
        raise cause from cause.__cause__

    async def _push(self, workers: Workers) -> None:
        identity = self._identity()
        async with self._held(identity):
            log = await self._find_resumed() if self._resumes is not None else await self._find_earlier(identity)
            if log is not None and (log.state.may_have_run or log.state.is_done):
                is_finished = await self._end_submitted(log, workers)
            else:
                is_finished = log is not None and await self._go_on(log, workers)
            if not is_finished:
                await self._begin_anew(identity, workers)

    @contextlib.asynccontextmanager
    async def _held(self, identity: str) -> AsyncIterator[None]:
        """Nobody else works on the push of this identity.

        Raises:
            JournalLockedError: Somebody does.
        """
        taking = asyncio.ensure_future(self._shared.runtime.off_loop(self._shared.take_lock, identity))
        try:
            await settled(taking)
        except asyncio.CancelledError:
            if not taking.cancelled() and taking.exception() is None:
                taking.result().release()
            raise
        lock = taking.result()
        try:
            yield
        finally:
            lock.release()

    def _identity(self) -> str:
        """Equal for the same command over files; of its own for objects in memory, which no later process can find."""
        if self._resumes is not None:
            return self._resumes.identity
        return push_identity(
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=self._target,
            source=[self._content] if self._content else source_words(self.spec) or [self._push_id],
            source_format=self._source_format,
            column_types=self._column_types,
        )

    async def _do(self, call: Callable[[JournalFile], T]) -> T:
        """A call on the journal that writes, and does not wait in silence for another process."""
        with told_when_slow(self._tell_journal_is_slow):
            return await self._shared.journal.do(call)

    async def _read(self, call: Callable[[JournalFile], T]) -> T:
        """The same, for a call that only reads."""
        with told_when_slow(self._tell_journal_is_slow):
            return await self._shared.journal.read(call)

    def _tell_journal_is_slow(self) -> None:
        self._emit(
            events.WaitStarted(push_id=self._push_id, reason="the journal is slow, or another process has it locked")
        )

    async def _find_earlier(self, identity: str) -> PushLog | None:
        """The push of this command that an earlier process left, if there is one."""
        row = await self._read(lambda file: file.find_open(identity))
        if row is not None and row.push_id in self._shared.finished:
            await self._mark_done(row.push_id)
            return None
        return None if row is None else await self._load_log(row.push_id)

    async def _find_resumed(self) -> PushLog:
        """The push that is to be resumed, as it is now that nobody else works on it."""
        assert self._resumes is not None  # noqa: S101 - asked before
        push_id = self._resumes.push_id
        row = await self._read(lambda file: file.push(push_id))
        if row is None or row.state not in ("open", "finished"):
            raise ConfigError(
                f"push {push_id} is over: another process has ended it",
                key="push_id",
                hint=f"pushengine show {push_id}",
            )
        return await self._load_log(push_id)

    async def _load_log(self, push_id: str) -> PushLog:
        return self._new_log(push_id, await self._read(lambda file: file.facts(push_id)))

    def _new_log(self, push_id: str, facts: list[Fact]) -> PushLog:
        return PushLog(
            self._shared.journal,
            clock=self._clock,
            push_id=push_id,
            team=self._shared.destination.team,
            facts=facts,
            on_slow=self._tell_journal_is_slow,
        )

    @contextlib.asynccontextmanager
    async def _opened(
        self, settings: EngineSettings, workers: Workers, *, files: list[str] | None = None
    ) -> AsyncIterator[OpenedSource]:
        """The source; where `files` are given, these in this order."""
        shared = self._shared
        source = await workers.read(
            open_source,
            files or self.spec,
            format=self._source_format,
            schema=self._arrow_schema,
            settings=settings,
            filesystem=shared.runtime.filesystem,
        )
        source_reader = open_source_reader(source, settings, self._inference, workers, shared.drain)
        try:
            yield OpenedSource(source_reader, await source_reader.fingerprint(shared.runtime.filesystem))
        finally:
            await source_reader.aclose()

    @contextlib.asynccontextmanager
    async def _opened_as_planned(self, log: PushLog, workers: Workers) -> AsyncIterator[OpenedSource]:
        """The source, to be read and cut as it was for this push."""
        settings = self._settings_of(log)
        async with contextlib.AsyncExitStack() as stack:
            source = await stack.enter_async_context(self._opened(settings, workers))
            files = in_order_of(next(iter(log.state.fingerprints), None), source.fingerprint)
            if files is not None:  # names have changed, and with them the order
                source = await stack.enter_async_context(self._opened(settings, workers, files=files))
            yield source

    def _settings_of(self, log: PushLog) -> EngineSettings:
        """The engine's, but for those that decided about the chunks of this push."""
        return planned_settings(log.state.planned.get("recipe", {}), self._settings)

    # --- A submit may have left

    async def _end_submitted(self, log: PushLog, workers: Workers) -> bool:
        """End a push from its own journal: whatever became of its source, two pushes must not both load it.

        Returns:
            The command is done: the source holds what was sent. Else a new push has to begin.
        """
        failure: JobFailedError | None = None
        is_done = log.state.is_done
        await self._take_over(log, has_work=not is_done)
        if not is_done:
            self._emit_started(log)
            try:
                await self._end_job(log, self._target)
            except JobFailedError as error:
                failure = error
        if self._resumes is not None or await self._is_still_sent(log, workers, failure):
            if failure is not None:
                raise failure
            return True
        await self._leave_settled(log, failure)
        return False

    async def _end_job(self, log: PushLog, target: Target) -> None:
        """Submit where that is needed, and poll; the last fact of the push."""
        record = log.state.job
        assert record is not None  # noqa: S101 - it was submitted
        try:
            await end_job(
                self._job_runner(log, target), record, shared=self._shared, target=target, log=log, timed=self._timed
            )
        except BaseException as error:  # every way out leaves the journal in order
            cause = real_cause(error)
            await finish(self._close_log(log, target, cause, is_open=self._is_left_open(log, cause, can_resume=True)))
            raise
        await self._record_finished(log, target)

    async def _record_finished(self, log: PushLog, target: Target) -> None:
        receipt = self._receipt("DONE", log, target).to_dict()
        await log.record("push_finished", final_state="finished", receipt=receipt)

    async def _is_still_sent(self, log: PushLog, workers: Workers, failure: JobFailedError | None) -> bool:
        try:
            async with self._opened_as_planned(log, workers) as source:
                return await EarlierPush(log, source, self._shared, workers).is_what_was_sent()
        except (SourceError, ConfigError) as error:
            if failure is not None:
                raise failure from error
            rows = format_rows(self._receipt("DONE", log).rows)
            raise error.replace(
                message=f"{error.message}; but push {log.push_id} of the same command is DONE: its {rows} are in the table",
                hint="nothing else was pushed",
            ) from error.__cause__

    async def _leave_settled(self, log: PushLog, failure: JobFailedError | None) -> None:
        """The earlier push is over, and the source holds something else: begin as if it had never been."""
        if failure is None:
            await self._mark_done(log.push_id)
        self._emit(
            events.EarlierPushSettled(
                push_id=log.push_id,
                table=self._target.table,
                mode=self._target.mode,
                status="DONE" if failure is None else failure.status,
                rows=self._receipt("DONE", log).rows,
                reason=SOURCE_CHANGED,
            )
        )
        self._start_over()

    def _start_over(self) -> None:
        self._push_id, self._log, self._attempt, self._target = self._new_id, None, None, self._wanted
        self._progress = _Progress(self._progress.start)

    # --- Nothing was submitted

    async def _go_on(self, log: PushLog, workers: Workers) -> bool:
        """Finish what an earlier process left.

        Returns:
            The command is done. Else the earlier push is over, and a new one has to begin.
        """
        if log.state.schema is None:
            await self._supersede(log, "it was never planned to its end")
            return False
        async with self._opened_as_planned(log, workers) as source:
            found = await EarlierPush(log, source, self._shared, workers).find_continuation()
            if found.way != "supersede":
                await self._take_over(log, fingerprint=source.fingerprint)
                self._emit_started(log, source.source_reader)
                try:
                    await self._finish_push(source, log, workers, rechecks=found.way == "recheck", is_new=False)
                except SourceChangedError:
                    self._start_over()
                else:
                    return True
            await self._supersede(log, found.reason or SOURCE_CHANGED)
        return False

    async def _take_over(self, log: PushLog, *, has_work: bool = True, fingerprint: Fingerprint | None = None) -> None:
        """This process works on a push of an earlier one from here on, or only tells what became of it."""
        self._log, self._push_id, self._target = log, log.push_id, target_of(log.state)
        self._progress.is_resumed = True
        self._progress.source_bytes = log.state.planned.get("source_bytes")
        if has_work:
            # Chunks that are sent from now on are those of the files as they are now: if they look touched, that is not forgotten.
            touched = None if fingerprint in log.state.fingerprints else fingerprint
            await log.record("session_started", pid=os.getpid(), resumed=True, fingerprint=touched)
        acked = log.state.job.acked if log.state.job else []
        self._emit(
            events.PushResumed(
                push_id=self._push_id,
                job_id=log.state.job.job_id if log.state.job else None,
                chunks_acknowledged=len(acked),
                rows_acknowledged=sum(chunk.rows for chunk in acked),
            )
        )

    async def _mark_done(self, push_id: str) -> None:
        """The caller has heard that this push is DONE: the same command means a new one from now on."""
        now = self._clock.now()
        await self._do(lambda file: file.set_state(push_id, "done", now))

    async def _supersede(self, log: PushLog, reason: str) -> None:
        """Bring an earlier push to an end that was not submitted."""
        if log.state.job is not None:
            await self._job_runner(log, self._target).discard(log.state.job.job_id)
        await log.record("push_superseded", final_state="superseded", reason=reason)
        self._emit(events.PushSuperseded(push_id=log.push_id, reason=reason))

    # --- A new push

    async def _begin_anew(self, identity: str, workers: Workers) -> None:
        async with self._opened(self._settings, workers) as source:
            schema = await self._settle(source.source_reader, is_exhaustive=False)
            await self._end_rivals(identity)
            log = await self._begin(identity, source, schema)
            await self._finish_push(source, log, workers, rechecks=False, is_new=True)

    async def _end_rivals(self, identity: str) -> None:
        """An older push into this table that was left unfinished must not undo this one when somebody resumes it.

        Where one of the two replaces the table, the older one is over. One that another process works on right now is left alone.
        """
        shared = self._shared
        rows = await self._read(lambda file: file.pushes(state="open"))
        for row in rows:
            is_same_table = (row.team, row.pool_id, row.target.casefold()) == (
                shared.destination.team,
                shared.pool_id,
                self._target.table.casefold(),
            )
            if not is_same_table or row.identity == identity:
                continue
            with contextlib.suppress(JournalLockedError):
                async with self._held(row.identity):
                    await self._end_rival(row.push_id)

    async def _end_rival(self, push_id: str) -> None:
        log = await self._load_log(push_id)
        theirs = log.state.planned.get("target", {})
        if theirs.get("connection_id") != self._target.connection_id:
            return
        if "replace" not in (theirs.get("mode"), self._target.mode):
            self._emit(events.EarlierPushLeft(push_id=push_id, table=self._target.table, mode=str(theirs.get("mode"))))
            return
        if not log.state.may_have_run:
            await self._supersede(log, f"a newer push into table {self._target.table} began")
            return
        reason = f"push {push_id} into table {self._target.table} was submitted before: it comes to its end first"
        self._emit(events.WaitStarted(push_id=self._push_id, reason=reason))
        # Whatever its end is, the journal has it, and this push comes after it.
        with contextlib.suppress(JobFailedError, SubmitOutcomeUnknownError):
            await self._end_job(log, target_of(log.state))

    async def _begin(self, identity: str, source: OpenedSource, schema: TableSchema) -> PushLog:
        now = self._clock.now()
        source_reader, fingerprint = source.source_reader, source.fingerprint
        row = PushRow(
            push_id=self._push_id,
            identity=identity,
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=self._target.table,
            source=source_reader.label,
            created_at=now,
            updated_at=now,
            state="open",
        )
        self._progress.source_bytes = source_reader.size_bytes
        planned: dict[str, Any] = {
            "target": dataclasses.asdict(self._target),
            "pool_id": self._shared.pool_id,
            "source": source_words(self.spec) if fingerprint is not None else None,
            "label": source_reader.label,
            "format": self._source_format,
            "column_types": self._column_types,
            "source_bytes": source_reader.size_bytes,
            "fingerprint": fingerprint,
            "recipe": chunk_recipe(self._settings),
            "schema": dump_schema(schema),
        }
        self._log = log = self._new_log(self._push_id, [])
        await log.begin(row, push_planned=planned, session_started={"pid": os.getpid(), "resumed": False})
        self._emit_started(log, source_reader)
        return log

    def _emit_started(self, log: PushLog, source_reader: SourceReader | AsyncSourceReader | None = None) -> None:
        planned = log.state.planned
        self._emit(
            events.PushStarted(
                push_id=self._push_id,
                table=self._target.table,
                mode=self._target.mode,
                source=str(planned.get("label", "")) if source_reader is None else source_reader.label,
                source_bytes=self._progress.source_bytes,
                columns=len((log.state.schema or {}).get("columns", ())),
            )
        )

    async def _finish_push(
        self, source: OpenedSource, log: PushLog, workers: Workers, *, rechecks: bool, is_new: bool
    ) -> None:
        """Attempts until one is settled; then the last fact.

        Raises:
            SourceChangedError: Of a push that is not new: it is left open, for a new push to take its place.
        """
        source_reader = source.source_reader
        schema = load_schema(log.state.schema or {})
        attempt = self._attempt = Delivery(
            shared=self._shared,
            target=self._target,
            source_reader=source_reader,
            log=log,
            jobs=self._job_runner(log, self._target),
            workers=workers,
            settings=self._settings_of(log),
            fingerprint=source.fingerprint,
            rechecks=rechecks,
            on_retry=self._on_retry,
            timed=self._timed,
        )
        try:
            while True:
                try:
                    await attempt.run(schema)
                except BaseException as error:  # noqa: BLE001 - raised again unless a fresh job repairs it
                    cause = real_cause(error)
                    self._check_restart(cause, source_reader, log)
                    await self._restart(log, cause)
                    if isinstance(cause, ValueMisfitError):
                        sampled, schema = schema, await self._settle(source_reader, is_exhaustive=True)
                        self._emit(events.SchemaLearned(push_id=self._push_id, changes=schema_changes(sampled, schema)))
                        await log.record("push_restarted", reason=str(cause), schema=dump_schema(schema))
                else:
                    break
        except BaseException as error:  # every way out leaves the journal in order
            cause = real_cause(error)
            is_replaced = not is_new and isinstance(cause, SourceChangedError)
            is_open = is_replaced or self._is_left_open(log, cause, can_resume=source.fingerprint is not None)
            await finish(self._close_log(log, self._target, cause, is_open=is_open))
            if not is_replaced:
                raise
            raise cause from cause.__cause__
        await self._record_finished(log, self._target)

    def _check_restart(
        self, cause: BaseException, source_reader: SourceReader | AsyncSourceReader, log: PushLog
    ) -> None:
        """Raise the cause unless a fresh job can repair it."""
        is_submitted = log.state.job is not None and log.state.job.may_have_run
        if not isinstance(cause, _RESTARTABLE) or self._progress.restarts >= MAX_RESTARTS or is_submitted:
            raise cause
        if not source_reader.is_repeatable:
            raise cause.replace(
                hint="the push would start again in a fresh job, but this source can be read only once:"
                " push a file or a table instead"
            ) from cause.__cause__

    async def _restart(self, log: PushLog, cause: BaseException) -> None:
        self._progress.restarts += 1
        job = log.state.job
        if job is not None:
            await self._job_runner(log, self._target).discard(job.job_id)
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

    @staticmethod
    def _is_left_open(log: PushLog, cause: BaseException, *, can_resume: bool) -> bool:
        return is_running_on(log.state, cause) or (can_resume and is_resumable(cause))

    async def _close_log(self, log: PushLog, target: Target, cause: BaseException, *, is_open: bool) -> None:
        """The last fact of a push that did not get to DONE, and the end of a job that nobody will go on with."""
        receipt = self._receipt(status_of(cause), log, target).to_dict()
        with contextlib.suppress(JournalError):
            if is_open:
                await log.record("push_interrupted", error=str(cause), receipt=receipt)
                return
            if log.state.job is not None and not log.state.job.may_have_run:
                await self._job_runner(log, target).discard(log.state.job.job_id)
            await log.record(
                "push_failed",
                final_state="unknown" if isinstance(cause, SubmitOutcomeUnknownError) else "failed",
                error=str(cause),
                error_type=type(cause).__name__,
                receipt=receipt,
            )

    async def _settle(self, source_reader: SourceReader | AsyncSourceReader, *, is_exhaustive: bool) -> TableSchema:
        with self._timed("plan"):
            return await self._shared.drain.guard(source_reader.settle(is_exhaustive=is_exhaustive))

    def _inference(self, source_schema: Any, *, is_text: bool, source: str) -> SchemaInference:
        return SchemaInference(
            source_schema, is_text=is_text, overrides=self._column_types, keys=self._target.keys, source=source
        )

    def _job_runner(self, log: PushLog, target: Target) -> JobRunner:
        settings, shared = self._settings, self._shared
        return JobRunner(
            shared.destination,
            limiter=shared.limiter,
            target=target,
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
            self._receipt("DONE", self._log), quota_used=quota_used, quota_limit=self._settings.submits_per_hour
        )

    def _receipt(self, status: ReceiptStatus, log: PushLog | None, target: Target | None = None) -> Receipt:
        progress = self._progress
        return build_receipt(
            status,
            None if log is None else log.state,
            push_id=self._push_id if log is None else log.push_id,
            target=target or self._target,
            source_bytes=progress.source_bytes or (self._attempt.source_nbytes if self._attempt else 0) or 0,
            elapsed_seconds=self._clock.monotonic() - progress.start,
            retries=progress.retries,
            resumed=progress.is_resumed,
            timings=progress.timings,
        )
