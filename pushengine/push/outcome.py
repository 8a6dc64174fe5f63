"""The outcome of a push: its receipt, whether it can be resumed, and what its failure means. Pure functions."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pushengine.errors import (
    AuthenticationError,
    EngineClosedError,
    JobFailedError,
    JournalError,
    PermissionDeniedError,
    ProxyRefusedError,
    PushEngineError,
    SubmitOutcomeUnknownError,
    UntrustedServerError,
)
from pushengine.journal.facts import PushPlanned
from pushengine.journal.state import PushState
from pushengine.model import JobStatus, Receipt, Target, type_name
from pushengine.schema.columns import TableSchema
from pushengine.text import name_key

ReceiptStatus = Literal["DONE", "ERROR", "CANCELED", "INTERRUPTED"]


def build_receipt(
    status: ReceiptStatus,
    state: PushState | None,
    *,
    push_id: str,
    target: Target,
    source_bytes: int,
    elapsed_seconds: float,
    retries: int,
    resumed: bool,
    timings: Mapping[str, float],
) -> Receipt:
    """Build the receipt of a push from the journal's facts and from what this process measured."""
    job = state.jobs[-1] if state is not None and state.jobs else None
    sent = [] if job is None else job.acked
    return Receipt(
        push_id=push_id,
        job_id=None if job is None else job.job_id,
        table=target.table,
        mode=target.mode,
        status=status,
        rows=sum(chunk.rows for chunk in sent),
        chunks=len(sent),
        payload_bytes=sum(chunk.payload_bytes for chunk in sent),
        source_bytes=source_bytes,
        elapsed_seconds=elapsed_seconds,
        retries=retries,
        submits=0 if state is None else state.submits,
        submitted=job is not None and job.may_have_run,
        restarts=0 if state is None else state.restarts,
        resumed=resumed,
        verified=None if job is None else job.verified,
        job_logs=() if job is None else job.logs,
        checksums=tuple(chunk.digests["sha256"] for chunk in sent),
        timings=timings,
        schema=() if state is None else _columns_of(state.schema),
        schema_changes=() if state is None else state.changes,
        notes=() if state is None else state.notes,
        rejects=None if state is None else state.rejects,
        dialect=None if state is None or state.planned is None else state.planned.dialect,
        load_id=None if state is None or state.planned is None else state.planned.load_id or None,
    )


def _columns_of(schema: Mapping[str, Any] | None) -> tuple[dict[str, Any], ...]:
    columns = () if schema is None else schema["columns"]
    return tuple({"name": name, "type": kind, "length": length} for name, kind, _, length, *_ in columns)


def schema_changes(before: TableSchema, after: TableSchema) -> tuple[str, ...]:
    """List the columns that changed when a schema was inferred again, as `ID INTEGER -> STRING(80)`.

    Columns come and go only if another push changed the table meanwhile.
    """
    olds = {name_key(column.name): column for column in before.columns}
    names = {name_key(column.name) for column in after.columns}
    changes = []
    for new in after.columns:
        old = olds.get(name_key(new.name))
        if old is None:
            changes.append(f"{new!r}: new column")
        elif (old.type, old.length, old.arrow_type) != (new.type, new.length, new.arrow_type):
            changes.append(f"{old!r} -> {type_name(new.type, new.length)}")
    return (*changes, *(f"{old.name}: gone" for name, old in olds.items() if name not in names))


def target_of(planned: PushPlanned) -> Target:
    """Return the target of a push as it was planned; ignore attributes that only a newer version knows."""
    known = {field.name for field in dataclasses.fields(Target)}
    target = {key: value for key, value in planned.target.items() if key in known}
    return Target(**{**target, "keys": tuple(target.get("keys", ()))})


def may_still_be_running(state: PushState, cause: BaseException) -> bool:
    """Whether the job was submitted and its end was not seen, whatever stopped this process: the next push must check it first."""
    is_submitted = state.job is not None and state.job.may_have_run
    return is_submitted and not isinstance(cause, JobFailedError | SubmitOutcomeUnknownError)


_FIXABLE = (
    EngineClosedError,
    JournalError,
    AuthenticationError,
    PermissionDeniedError,
    UntrustedServerError,
    ProxyRefusedError,
)


def is_resumable(cause: BaseException) -> bool:
    """Whether the push can be resumed later: it was stopped, or the cause of its failure may pass or can be fixed."""
    if isinstance(cause, PushEngineError):
        return (
            isinstance(cause, _FIXABLE)
            or cause.disposition == "transient"
            or (cause.disposition == "outcome_unknown" and not isinstance(cause, SubmitOutcomeUnknownError))
        )
    return True


def status_of(cause: BaseException) -> Literal["ERROR", "CANCELED", "INTERRUPTED"]:
    """Return the receipt status of a push that ended with `cause`."""
    if isinstance(cause, asyncio.CancelledError | KeyboardInterrupt | EngineClosedError):
        return "INTERRUPTED"
    if isinstance(cause, JobFailedError) and cause.status == JobStatus.CANCELED:
        return "CANCELED"
    return "ERROR"
