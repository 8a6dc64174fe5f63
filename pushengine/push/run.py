"""One push command, from source to receipt: what it finds in the journal, and what it does about it.

```
source --read--> record batches --cut--> chunks --encode--> payloads --asyncio.Queue--> uploaders --> job --seal--> submit --> poll
         reader thread                    encoder threads    bounded        max_uploads             quota
```

Every step is recorded in the journal before it is taken. If a push of files ends early (killed, drained, cancelled, network down for too
long), it stays open in the journal, with its job, and the same command resumes it. If a push fails for good, or its rows cannot be read
again, its unsubmitted job is deleted.

What the journal has about the same command decides what happens (`_push`):

    a submit may have left    end that push from its journal alone; if the source still holds what was sent, the command is done
    nothing was submitted     resume that push if its source and chunk recipe are unchanged; otherwise start a new one
    nothing                   start a new push
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from typing import NoReturn

from pushengine import events
from pushengine.errors import (
    ConfigError,
    JobFailedError,
    LedgerError,
    PushEngineError,
    SourceChangedError,
    SourceError,
    real_cause,
)
from pushengine.interfaces import Workers
from pushengine.journal import facts
from pushengine.journal.facts import PushRow
from pushengine.journal.push_log import push_resumed
from pushengine.model import Receipt
from pushengine.pipeline.context import Measures, Shared
from pushengine.pipeline.source_reader import OpenedSource
from pushengine.push.continuation import SOURCE_CHANGED, ContinuationCheck
from pushengine.push.earlier import EarlierPushes, locked, mark_done, new_session
from pushengine.push.identity import chunk_recipe, push_identity, source_patterns
from pushengine.push.opening import PushRequest, SourceOpener
from pushengine.push.outcome import status_of
from pushengine.push.session import PushSession
from pushengine.schema.columns import TableSchema, dump_schema
from pushengine.sources.fingerprint import Fingerprint
from pushengine.text import format_rows


class PushRun:
    """Runs one push, or the rest of one.

    Args:
        request: What the user requested.
        shared: Connections, memory, quota and journal.
        push_id: Id of the push, if it is a new one.
    """

    def __init__(self, request: PushRequest, shared: Shared, push_id: str) -> None:
        self._request = request
        self._shared = shared
        self._new_id = push_id
        self._start = shared.runtime.clock.monotonic()
        self._session = self._new_session()

    def _new_session(self) -> PushSession:
        return new_session(self._shared, self._new_id, Measures(self._start), self._request.target)

    async def run(self) -> Receipt:
        """Do the whole push, or what an earlier process left of it.

        Returns:
            The receipt of the push, which is DONE.

        Raises:
            PushEngineError: The cause of the failure; its `receipt` says what was done. Nothing of the push is running anymore. The
                push is open in the journal, or its unsubmitted job is deleted.
        """
        workers = self._shared.runtime.new_workers()
        try:
            await self._push(workers)
        except BaseException as error:  # noqa: BLE001 - _fail() raises it or its real cause
            self._fail(error)
        else:
            receipt = await self._finished_receipt()
            self._shared.finished.add(receipt.push_id)
            self._emit(events.PushFinished(push_id=receipt.push_id, receipt=receipt))
            return receipt
        finally:
            await workers.aclose()

    def _emit(self, event: events.Event) -> None:
        self._shared.sink.emit(event)

    def _fail(self, error: BaseException) -> NoReturn:
        cause = real_cause(error)
        receipt = self._session.receipt(status_of(cause))
        if isinstance(cause, PushEngineError):
            # The error is changed, not copied: callers read the receipt from the error that they catch.
            cause.receipt = receipt
        self._emit(
            events.PushFailed(
                push_id=receipt.push_id, error=str(cause), error_type=type(cause).__name__, receipt=receipt
            )
        )
        if cause is error:
            raise cause
        raise cause from cause.__cause__

    async def _finished_receipt(self) -> Receipt:
        quota_used: int | None = None
        # The rows are loaded: a broken ledger must not fail this push, only the next one.
        with contextlib.suppress(LedgerError):
            quota_used = await self._shared.limiter.spent()
        return dataclasses.replace(
            self._session.receipt("DONE"),
            quota_used=quota_used,
            quota_limit=self._shared.engine_settings.submits_per_hour,
        )

    async def _push(self, workers: Workers) -> None:
        identity, resumes = self._identity(), self._request.resumes
        opener = SourceOpener(self._request, self._shared, workers)
        async with locked(self._shared, identity):
            earlier = EarlierPushes(self._session.context)
            found = await earlier.find(identity) if resumes is None else await earlier.find_resumed(resumes.push_id)
            if found is None:
                is_finished = False
            elif found.state.may_have_run or found.state.is_done:
                is_finished = await self._end_submitted(found, opener, workers)
            else:
                is_finished = await self._continue_earlier_push(found, opener, workers)
            if not is_finished:
                self._session = self._new_session()
                await self._start_new_push(identity, opener, workers)

    def _identity(self) -> str:
        """Return the identity of the push: equal for the same command over files, unique for an object in memory.

        No later process can find such an object again.
        """
        request = self._request
        if request.resumes is not None:
            return request.resumes.identity
        return push_identity(
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=request.target,
            source=[request.content] if request.content else source_patterns(request.spec) or [self._new_id],
            source_format=request.source_format,
            column_types=request.column_types,
        )

    # --- A submit may have left

    async def _end_submitted(self, session: PushSession, opener: SourceOpener, workers: Workers) -> bool:
        """End a push from its own journal, whatever became of its source: two pushes must not both load it.

        Returns:
            The command is done: True if the source holds what was sent, False if a new push must start.
        """
        failure: JobFailedError | None = None
        is_done = session.state.is_done
        await self._take_over(session, has_work=not is_done)
        if not is_done:
            try:
                await session.end_job()
            except JobFailedError as error:
                failure = error
        if self._request.resumes is not None or await self._source_is_what_was_sent(session, opener, workers, failure):
            if failure is not None:
                raise failure
            return True
        await self._close_earlier_push(session, failure)
        return False

    async def _take_over(
        self, session: PushSession, *, has_work: bool = True, fingerprint: Fingerprint | None = None
    ) -> None:
        """Continue an earlier push in this process, or, without `has_work`, only report it."""
        self._session = session
        measures, state = session.context.measures, session.state
        measures.is_resumed = True
        measures.source_bytes = None if state.planned is None else state.planned.source_bytes
        if not has_work:
            self._emit(push_resumed(session.context.push_id, state))
            return
        # The chunks sent from now on come from the files as they are now. If these seem touched, their fingerprint is recorded too.
        touched = None if fingerprint in state.fingerprints else fingerprint
        await session.context.log.record(facts.SessionStarted(pid=os.getpid(), resumed=True, fingerprint=touched))

    async def _source_is_what_was_sent(
        self, session: PushSession, opener: SourceOpener, workers: Workers, failure: JobFailedError | None
    ) -> bool:
        try:
            async with opener.opened_as_planned(session.state) as source:
                return await ContinuationCheck(session.context, source, workers).matches_what_was_sent()
        except (SourceError, ConfigError) as error:
            if failure is not None:
                raise failure from error
            push_id, rows = session.context.push_id, format_rows(session.receipt("DONE").rows)
            raise error.replace(
                message=f"{error.message}; but push {push_id} of the same command is DONE: its {rows} are in the table",
                hint="nothing else was pushed",
            ) from error.__cause__

    async def _close_earlier_push(self, session: PushSession, failure: JobFailedError | None) -> None:
        """Close an earlier push whose source holds something else now, so that a new push can start."""
        push_id, target = session.context.push_id, session.context.target
        if failure is None:
            await mark_done(session.context, push_id)
        self._emit(
            events.EarlierPushSettled(
                push_id=push_id,
                table=target.table,
                mode=target.mode,
                status="DONE" if failure is None else failure.status,
                rows=session.receipt("DONE").rows,
                reason=SOURCE_CHANGED,
            )
        )

    # --- Nothing was submitted

    async def _continue_earlier_push(self, session: PushSession, opener: SourceOpener, workers: Workers) -> bool:
        """Finish what an earlier process left.

        Returns:
            True if the command is done; False if the earlier push was superseded and a new one must start.
        """
        if session.state.schema is None:
            await session.supersede("its planning never finished")
            return False
        async with opener.opened_as_planned(session.state) as source:
            found = await ContinuationCheck(session.context, source, workers).find_continuation()
            if found.action != "supersede":
                await self._take_over(session, fingerprint=source.fingerprint)
                try:
                    await session.deliver(source, workers, rechecks=found.action == "recheck", is_new=False)
                except SourceChangedError:
                    # The command continues with a new push, even if superseding this one fails below.
                    self._session = self._new_session()
                else:
                    return True
            await session.supersede(found.reason or SOURCE_CHANGED)
        return False

    # --- A new push

    async def _start_new_push(self, identity: str, opener: SourceOpener, workers: Workers) -> None:
        session, settings = self._session, self._shared.engine_settings
        async with opener.opened(settings, keys=self._request.target.keys) as source:
            schema = await session.infer_schema(source.source_reader, is_exhaustive=False)
            await EarlierPushes(session.context).end_earlier_pushes(identity)
            await self._begin(session, identity, source, schema)
            await session.deliver(source, workers, rechecks=False, is_new=True)

    async def _begin(self, session: PushSession, identity: str, source: OpenedSource, schema: TableSchema) -> None:
        context, reader = session.context, source.source_reader
        now = context.clock.now()
        row = PushRow(
            push_id=context.push_id,
            identity=identity,
            team=self._shared.destination.team,
            pool_id=self._shared.pool_id,
            target=context.target.table,
            source=reader.label,
            created_at=now,
            updated_at=now,
            state="open",
        )
        context.measures.source_bytes = reader.size_bytes
        planned = facts.PushPlanned(
            target=dataclasses.asdict(context.target),
            pool_id=self._shared.pool_id,
            source=source_patterns(self._request.spec) if source.fingerprint is not None else None,
            label=reader.label,
            format=self._request.source_format,
            column_types=self._request.column_types,
            source_bytes=reader.size_bytes,
            fingerprint=source.fingerprint,
            recipe=chunk_recipe(self._shared.engine_settings),
            schema=dump_schema(schema),
        )
        await context.log.begin(row, planned, facts.SessionStarted(pid=os.getpid(), resumed=False))
