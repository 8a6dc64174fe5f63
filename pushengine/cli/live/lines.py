"""Describe events in one line each."""

from __future__ import annotations

from pushengine import events
from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.live.progress import Progress
from pushengine.text import format_bytes, format_count, format_rows, format_seconds


def describe_event(event: events.Event, progress: Progress, hints: Hints = PLAIN) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one flat table of event types
    """Describe an important event in one line.

    Returns:
        The line, or None for frequent minor events and for the end of the push, which the receipt reports.
    """
    match event:
        case events.PushStarted():
            size = f", {format_bytes(event.source_bytes)}" if event.source_bytes is not None else ""
            return f"{event.mode} from {event.source}{size}, {format_count(event.columns, 'column')}"
        case events.JobCreated():
            return f"job {event.job_id} created"
        case events.PushResumed():
            return f"resuming push {event.push_id}: {_acknowledged(event)}"
        case events.PushSuperseded():
            return f"the unfinished push {event.push_id} is superseded by a new one: {event.reason}"
        case events.EarlierPushSettled():
            return _earlier_push_settled(event)
        case events.EarlierPushLeft():
            return (
                f"another push ({event.mode}) into table {event.table} was left unfinished and is not changed by this one; to resume it:"
                f" {hints.resume(event.push_id)}"
            )
        case events.WaitStarted():
            until = "" if event.seconds is None else f", at most {format_seconds(event.seconds)}"
            return f"waiting: {event.reason}{until}"
        case events.JobStayedNew():
            then = "submitting it again" if event.is_submitted_again else "only polling it from now on"
            return (
                f"job {event.job_id} is still NEW {format_seconds(event.seconds)} after its submit was acknowledged: {then}"
                f" ({format_count(event.submits, 'submit')} so far)"
            )
        case events.ChunkReconciled():
            found = "has arrived" if event.is_present else "has not arrived"
            then = "" if event.is_present else "; sending it again"
            return f"chunk {event.chunk_id}, whose upload was not acknowledged, {found} (compared by {event.how}){then}"
        case events.RetryScheduled():
            return f"{event.operation}: attempt {event.attempt} failed, retrying in {event.wait_seconds:.1f} s: {event.error}"
        case events.PushRestarted():
            return f"restarting in a fresh job: {event.reason}"
        case events.TableCompared():
            return "; ".join([*(f"table {event.table}: {change}" for change in event.changes), *event.notes])
        case events.SchemaLearned():
            return f"the whole source was read to infer its types; changed: {', '.join(event.changes)}"
        case events.RowsRejected():
            return f"{format_rows(event.rows)} rejected: {event.file}"
        case events.JobVerified():
            return f"{progress.transfer()}; chunk list verified by {event.verified}"
        case events.QuotaWaited(reason="quarantine"):
            return f"{progress.phase} so that a lost upload cannot arrive late ({format_seconds(event.wait_seconds)})"
        case events.QuotaWaited(reason="turn"):
            return f"{progress.phase} ({format_seconds(event.wait_seconds)})"
        case events.PushFailed():  # the lines of the error have neither time nor table
            return f"push {event.push_id} {'was interrupted' if event.receipt.status == 'INTERRUPTED' else 'failed'}"
        case events.QuotaLedgerCorrected() | events.StateFolderTightened():
            return event.message
        case events.QuotaWaited():
            return f"{progress.phase} ({format_seconds(event.wait_seconds)}, {_QUOTA_REASONS.get(event.reason, event.reason)})"
        case events.JobStatusChanged():
            return f"job is {event.status}"
        case events.JobDeleted(error=error):
            return f"job {event.job_id} could not be deleted: {error}" if error else "unsubmitted job deleted"
        case _:
            return None


def _acknowledged(event: events.PushResumed) -> str:
    if not event.chunks_acknowledged:
        return "none of its chunks is acknowledged yet"
    verb = "is" if event.chunks_acknowledged == 1 else "are"
    return f"{event.chunks_acknowledged:,} of its chunks, {format_rows(event.rows_acknowledged)}, {verb} already acknowledged"


def _earlier_push_settled(event: events.EarlierPushSettled) -> str:
    ended = f"push {event.push_id} of the same command had been submitted and ended with {event.status}"
    if event.status != "DONE":
        return f"{ended}; {event.reason}, and a new push starts"
    rows = format_rows(event.rows)
    if event.mode == "append":
        return f"{ended}: its {rows} are in table {event.table} and stay there; {event.reason}, and all rows of the source are appended"
    return f"{ended}, with {rows}; {event.reason}, and a new push starts"


SCROLLING = (
    events.RetryScheduled,
    events.PushRestarted,
    events.SchemaLearned,
    events.TableCompared,
    events.PushResumed,
    events.PushSuperseded,
    events.EarlierPushSettled,
    events.EarlierPushLeft,
    events.WaitStarted,
    events.JobStayedNew,
    events.ChunkReconciled,
    events.RowsRejected,
    events.JobDeleted,
    events.QuotaLedgerCorrected,
    events.StateFolderTightened,
)

_QUOTA_REASONS = {
    "second": "minimum interval between submits",
    "hour": "this hour's quota is used up",
    "boundary": "too close to the full hour",
    "server": "requested by the platform",
    "turn": "queued behind earlier submits",
}
