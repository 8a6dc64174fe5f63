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

A push that ends before it is planned is recorded when it ends, as failed. An unfinished push of the same command is superseded only once
the new one is planned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Awaitable, Callable
from typing import NamedTuple, NoReturn

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
from pushengine.journal.load_ids import find_load_id, require_same
from pushengine.journal.push_log import push_resumed
from pushengine.model import Receipt
from pushengine.pipeline.context import Measures, Shared
from pushengine.pipeline.target_table import TargetTable
from pushengine.push.continuation import SOURCE_CHANGED, ContinuationCheck
from pushengine.push.earlier import EarlierPushes, close_changed, locked, new_session, table_locked
from pushengine.push.identity import resumed_settings
from pushengine.push.opening import NewSchema, PushRecord, PushRequest, SourceOpener
from pushengine.push.outcome import status_of
from pushengine.push.session import PushSession
from pushengine.runtime.aio import finish
from pushengine.sources.fingerprint import Fingerprint
from pushengine.state.file_errors import expanded_setting
from pushengine.text import format_rows


class _Unfinished(NamedTuple):
    """An earlier push of the same command that will be superseded, for this reason, once the new push is planned."""

    session: PushSession
    reason: str


class PushRun:
    """Runs one push, or the rest of one.

    Args:
        request: What the user requested.
        shared: Connections, memory, quota and journal.
        push_id: Id of the push, if it is a new one.

    Raises:
        ConfigError: A setting of the push cannot be used.
    """

    def __init__(self, request: PushRequest, shared: Shared, push_id: str) -> None:
        settings = shared.engine_settings.with_overrides(request.overrides)
        if request.recipe is not None:
            settings = resumed_settings(request.recipe, settings)
        if settings is not shared.engine_settings:
            shared = dataclasses.replace(shared, engine_settings=settings)
        if settings.allows_rejects and settings.rejects is not None:
            shared = dataclasses.replace(shared, rejects=expanded_setting(settings.rejects, key="rejects").absolute())
        self._request = request
        self._shared = shared
        self._new_id = push_id
        self._start = shared.runtime.clock.monotonic()
        self._record = PushRecord(request, shared, push_id)
        self._known_receipt: Receipt | None = None
        # Until a new push has to start, a push that the user resumes by its id is reported under that id.
        self._session = self._new_session(push_id if request.resumes is None else request.resumes.push_id)

    def _new_session(self, push_id: str) -> PushSession:
        request = self._request
        return new_session(self._shared, push_id, Measures(self._start), request.target, place=request.place)

    def _adopt(self, session: PushSession) -> None:
        """Make this the session of the command."""
        self._session = session
        others = EarlierPushes(session.context)
        session.find_busy = functools.partial(others.finish_submitted, self._record.identity, has_turn=True)

    async def run(self, first: Callable[[], Awaitable[None]] | None = None) -> Receipt:
        """Do the whole push, or what an earlier process left of it.

        Args:
            first: Called before anything else; whatever it raises ends the push.

        Returns:
            The receipt of the push, which is DONE.

        Raises:
            PushEngineError: The cause of the failure; its `receipt` says what was done. Nothing of the push is running anymore. The
                push is open in the journal, or its unsubmitted job is deleted.
        """
        workers = self._shared.runtime.new_workers()
        try:
            if first is not None:
                await first()
            await self._push(workers)
        except BaseException as error:  # noqa: BLE001 - fail() raises it or its real cause
            await self.fail(error)
        else:
            receipt = await self._finished_receipt()
            self._shared.finished.add(receipt.push_id)
            self.emit(events.PushFinished(push_id=receipt.push_id, receipt=receipt))
            return receipt
        finally:
            await workers.aclose()

    async def take_slot(self) -> None:
        """Same as `PushContext.take_slot()`."""
        await self._session.context.take_slot()

    def emit(self, event: events.Event) -> None:
        """Send an event of the push to the engine's listeners."""
        self._session.context.emit(event)

    async def fail(self, error: BaseException) -> NoReturn:
        """Report that the push ended with an error; if it was not planned yet, record it too.

        Raises:
            BaseException: The real cause of the error, with the receipt if it is a `PushEngineError`.
        """
        cause = real_cause(error)
        receipt = self._session.receipt(status_of(cause))
        if isinstance(cause, PushEngineError):
            # The error is changed, not copied: callers read the receipt from the error that they catch.
            cause.receipt = receipt
        try:
            if receipt.push_id == self._new_id and self._session.state.planned is None:
                await finish(self._record.add_failed(self._session.context.log, cause, receipt))
        finally:
            self.emit(
                events.PushFailed(
                    push_id=receipt.push_id, error=str(cause), error_type=type(cause).__name__, receipt=receipt
                )
            )
        if cause is error:
            raise cause
        raise cause from cause.__cause__

    async def _finished_receipt(self) -> Receipt:
        if self._known_receipt is not None:
            return dataclasses.replace(self._known_receipt, resumed=True)
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
        identity, resumes = self._record.identity, self._request.resumes
        opener = SourceOpener(self._request, self._shared, workers)
        async with table_locked(self._shared, self._request.target), locked(self._shared, identity):
            is_other = await self._look_up_load_id()
            if self._known_receipt is not None:
                return
            earlier = EarlierPushes(self._session.context)
            found = await earlier.find(identity) if resumes is None else await earlier.find_resumed(resumes.push_id)
            unfinished: _Unfinished | None = None
            if found is None:
                is_finished = False
            elif found.state.may_have_run or found.state.is_done:
                is_finished = await self._end_submitted(found, opener, workers)
            elif is_other:
                unfinished, is_finished = _Unfinished(found, "its load has other settings now"), False
            else:
                unfinished = await self._continue_earlier_push(found, opener, workers)
                is_finished = unfinished is None
            if not is_finished:
                self._adopt(self._new_session(self._new_id))
                await self._start_new_push(identity, opener, workers, unfinished)

    async def _look_up_load_id(self) -> bool:
        """Look for the receipt of an earlier push with the same load id.

        Returns:
            Whether an earlier push with this load id was another one. Only for a push of a load, whose settings may change.

        Raises:
            ConfigError: The load id stands for another push.
            SubmitOutcomeUnknownError: It is unknown whether its push was loaded.
        """
        request, shared = self._request, self._shared
        if not request.load_id or request.resumes is not None:
            return False
        find = functools.partial(
            find_load_id,
            team=shared.destination.team,
            pool_id=shared.pool_id,
            load_id=request.load_id,
            identity=self._record.identity,
            request=self._record.load_request or {},
        )
        used = await shared.journal.read(find)
        if request.claim is None:
            require_same(request.load_id, used)
        self._known_receipt = used.receipt
        return bool(used.differs)

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
        is_named = self._request.resumes is not None or bool(self._request.load_id)
        if is_named or await self._source_is_what_was_sent(session, opener, workers, failure):
            if failure is not None:
                raise failure
            return True
        await close_changed(session, failure)
        return False

    async def _take_over(
        self, session: PushSession, *, has_work: bool = True, fingerprint: Fingerprint | None = None
    ) -> None:
        """Continue an earlier push in this process, or, without `has_work`, only report it."""
        self._adopt(session)
        measures, state = session.context.measures, session.state
        measures.is_resumed = True
        measures.source_bytes = None if state.planned is None else state.planned.source_bytes
        if not has_work:
            self.emit(push_resumed(session.context.push_id, state))
            return
        # The chunks sent from now on come from the files as they are now. If these seem touched, their fingerprint is recorded too.
        touched = None if fingerprint in state.fingerprints else fingerprint
        await session.context.log.record(facts.SessionStarted(pid=os.getpid(), resumed=True, fingerprint=touched))

    async def _source_is_what_was_sent(
        self, session: PushSession, opener: SourceOpener, workers: Workers, failure: JobFailedError | None
    ) -> bool:
        await session.context.take_slot()
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

    # --- Nothing was submitted

    async def _continue_earlier_push(
        self, session: PushSession, opener: SourceOpener, workers: Workers
    ) -> _Unfinished | None:
        """Finish what an earlier process left.

        Returns:
            None if the command is done; otherwise the earlier push, which is still unfinished, and why a new one must replace it.
        """
        if session.state.schema is None:
            return _Unfinished(session, "its planning never finished")
        self._session = session
        session.context.measures.is_resumed = True
        await session.context.take_slot()
        async with opener.opened_as_planned(session.state) as source:
            found = await ContinuationCheck(session.context, source, workers).find_continuation()
            if found.action != "supersede":
                await self._take_over(session, fingerprint=source.fingerprint)
                try:
                    await session.deliver(source, workers, rechecks=found.action == "recheck", is_new=False)
                except SourceChangedError:
                    return _Unfinished(session, SOURCE_CHANGED)
                return None
        return _Unfinished(session, found.reason)

    # --- A new push

    async def _start_new_push(
        self, identity: str, opener: SourceOpener, workers: Workers, unfinished: _Unfinished | None
    ) -> None:
        session, settings = self._session, self._shared.engine_settings
        earlier = EarlierPushes(session.context)
        await earlier.finish_submitted(identity, has_turn=False)  # waiting for DONE takes no slot
        await session.context.take_slot()
        async with opener.opened(settings) as source:
            table = TargetTable(session.context)
            known = await session.context.drain.guard(table.known())
            inferred = await session.infer_schema(source.source_reader, known, is_exhaustive=False)
            source.source_reader.require_rows(inferred)
            if unfinished is not None:
                await unfinished.session.supersede(unfinished.reason)
            await earlier.supersede_unsubmitted(identity)
            await self._record.begin(session.context, source, NewSchema(known, inferred, table.notes))
            await session.deliver(source, workers, rechecks=False, is_new=True)
