"""What people see: progress while a push runs, and the results of commands afterwards.

Progress is made from events alone (`EventSink.emit`), so it shows what the library tells anyone. `LiveDisplay` redraws a few lines on a
terminal, `PlainDisplay` writes a line per important event and one about every five seconds to anything else. The results of commands are
plain lines made by `describe_*` functions: the same words on a terminal, in a pipe and in a mail from cron.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.highlighter import RegexHighlighter
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from pushengine import events
from pushengine.model import CheckResult, Job, Plan, QuotaStatus, Receipt, RemoteChunk
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.text import clock_time, format_bytes, format_count, format_rows, format_seconds

_PROGRESS_INTERVAL_SECONDS = 5.0
_LABEL_WIDTH = 10


@dataclasses.dataclass(slots=True)
class Progress:
    """What the events of one push add up to.

    Attributes:
        chunks_before: Chunks that an earlier process sent; they are not sent again.
        upload_limit: Uploads at once, once that was changed.
    """

    push_id: str = ""
    table: str = ""
    mode: str = ""
    source: str = ""
    source_bytes: int | None = None
    source_bytes_read: int | None = None
    columns: int = 0
    rows_read: int = 0
    chunks_read: int = 0
    chunks_encoded: int = 0
    chunks_sent: int = 0
    chunks_before: int = 0
    bytes_sent: int = 0
    in_flight: set[str] = dataclasses.field(default_factory=set)
    upload_limit: int | None = None
    phase: str = ""
    job_id: str | None = None
    retries: int = 0
    restarts: int = 0
    first_upload_at: float | None = None
    last_upload_at: float | None = None

    def apply(self, event: events.Event, now: float) -> None:  # noqa: C901, PLR0912 - one flat table of event types
        """Take one event that happened at `now` (monotonic seconds)."""
        match event:
            case events.PushResumed():
                self._begin(event.push_id)
                self.chunks_before, self.job_id, self.phase = event.chunks_acknowledged, event.job_id, "going on"
            case events.PushStarted():
                if event.push_id != self.push_id:
                    self._begin(event.push_id)
                self.table, self.mode, self.source = event.table, event.mode, event.source
                self.source_bytes, self.columns = event.source_bytes, event.columns
            case events.JobCreated():
                self.job_id, self.phase = event.job_id, "uploading"
            case events.ChunkRead():
                self.chunks_read += 1
                self.source_bytes_read = event.source_bytes_read
            case events.ChunkEncoded():
                self.rows_read += event.rows
                self.chunks_encoded += 1
            case events.UploadStarted():
                self.in_flight.add(event.chunk_id)
                self.first_upload_at = self.first_upload_at or now
            case events.ChunkUploaded():
                self._uploaded(event, now)
            case events.ConcurrencyChanged():
                self.upload_limit = event.after
            case events.RetryScheduled():
                self.retries += 1
            case events.PushRestarted():
                self._restart(event.restarts)
            case events.JobVerified():
                self.phase = "verified"
            case events.QuotaWaited():
                self.phase = f"waiting {_WAITING_FOR.get(event.reason, 'for quota until')} {clock_time(event.until)}"
            case events.JobSubmitted():
                self.phase = "submitted"
            case events.JobStatusChanged() | events.JobSettled():
                self.phase = f"job {event.status}"
            case _:
                pass

    def _begin(self, push_id: str) -> None:
        """Forget the push before: one display may see several, one after another."""
        for field, value in dataclasses.asdict(Progress(push_id=push_id)).items():
            setattr(self, field, value)

    def _uploaded(self, event: events.ChunkUploaded, now: float) -> None:
        self.in_flight.discard(event.chunk_id)
        self.chunks_sent += 1
        self.bytes_sent += event.payload_bytes
        self.last_upload_at = now

    def _restart(self, restarts: int) -> None:
        self.rows_read = self.chunks_read = self.chunks_encoded = self.chunks_sent = self.bytes_sent = 0
        self.chunks_before = 0
        self.source_bytes_read = self.first_upload_at = self.last_upload_at = None
        self.in_flight.clear()
        self.restarts = restarts
        self.phase = "starting again"

    @property
    def payload_rate(self) -> float | None:
        """Payload bytes per second from the first upload to the last answer, or None before there is one."""
        if self.first_upload_at is None or self.last_upload_at is None:
            return None
        return self.bytes_sent / max(self.last_upload_at - self.first_upload_at, 1e-3)

    @property
    def fraction_read(self) -> float | None:
        """How much of the source has been read, 0 to 1, or None where that is not known."""
        if not self.source_bytes or self.source_bytes_read is None:
            return None
        return min(self.source_bytes_read / self.source_bytes, 1.0)

    def transfer(self) -> str:
        """Rows, chunks and speed in one line."""
        parts = [format_count(self.rows_read, "row") + " read", f"{format_count(self.chunks_sent, 'chunk')} sent"]
        waiting = self.chunks_encoded - self.chunks_sent - len(self.in_flight)
        if self.chunks_before:
            parts[-1] += f" after {self.chunks_before:,} before"
        if self.in_flight:
            most = f" of {self.upload_limit}" if self.upload_limit and self.upload_limit > len(self.in_flight) else ""
            parts.append(f"{len(self.in_flight)}{most} in flight")
        if waiting > 0:
            parts.append(f"{waiting} encoded")
        if self.payload_rate is not None:
            parts += [format_bytes(self.bytes_sent), f"{format_bytes(self.payload_rate)}/s"]
        return ", ".join(parts)


class Display(events.EventSink, Protocol):
    """An event sink that is shown while its context is open."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; what a terminal showed is wiped away."""
        ...

    def note(self, text: str) -> None:
        """Show a line that is no event."""
        ...


class QuietDisplay:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def emit(self, event: events.Event) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""


class PlainDisplay(QuietDisplay):
    """Lines for logs and pipes: one per important event, and about every five seconds one on how far it is."""

    def __init__(self, stream: TextIO, *, clock: Clock | None = None) -> None:
        self._stream = stream
        self._clock = clock or SystemClock()
        self._progress = Progress()
        self._last_line_at = self._clock.monotonic()

    def emit(self, event: events.Event) -> None:
        """Take one event."""
        now = self._clock.monotonic()
        self._progress.apply(event, now)
        line = describe_event(event, self._progress)
        if line is None and isinstance(event, events.ChunkRead | events.ChunkUploaded):
            is_due = now - self._last_line_at >= _PROGRESS_INTERVAL_SECONDS
            line = self._progress.transfer() if is_due else None
        if line is not None:
            self._last_line_at = now
            self.note(line)

    def note(self, text: str) -> None:
        """Write one line."""
        try:
            self._stream.write(f"{self._progress.table or 'pushengine'}: {text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads any more: a push does not end for that
            return


class LiveDisplay(QuietDisplay):
    """A few lines on a terminal that are redrawn in place; warnings scroll by above them."""

    def __init__(self, console: Console, *, clock: Clock | None = None) -> None:
        self._console = console
        self._clock = clock or SystemClock()
        self._progress = Progress()
        self._started_at = self._clock.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wipe the lines away."""
        self._live.stop()

    def emit(self, event: events.Event) -> None:
        """Take one event."""
        self._progress.apply(event, self._clock.monotonic())
        if isinstance(event, _SCROLLING) or (isinstance(event, events.QuotaWaited) and event.reason == _QUARANTINE):
            line = describe_event(event, self._progress)
            if line is not None:
                self._console.print(Text(line, style="yellow"))

    def note(self, text: str) -> None:
        """Show a line above."""
        self._console.print(Text(text, style="dim"))

    def render(self) -> RenderableType:
        """The lines of this moment."""
        progress = self._progress
        elapsed = format_seconds(self._clock.monotonic() - self._started_at)
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(width=1)
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        title = Text.assemble(
            (progress.table or "planning", "bold"), "  ", (progress.mode, "dim"), "  ", progress.phase
        )
        head.add_row(self._spinner, title, Text(elapsed, style="dim"))
        return Group(head, self._bar(), *self._details())

    def _bar(self) -> RenderableType:
        fraction = self._progress.fraction_read
        width = max(min(self._console.width - 4, 76), 10)
        bar = (
            ProgressBar(total=None, pulse=True, width=width, animation_time=self._clock.monotonic())
            if fraction is None
            else ProgressBar(total=1.0, completed=fraction, width=width)
        )
        grid = Table.grid(padding=(0, 0, 0, 2))
        grid.add_row(bar)
        return grid

    def _details(self) -> list[Text]:
        progress = self._progress
        told = []
        if progress.restarts:
            told.append(format_count(progress.restarts, "restart"))
        if progress.retries:
            told.append(f"{progress.retries:,} {'retry' if progress.retries == 1 else 'retries'}")
        lines = [progress.transfer(), ", ".join([f"job {progress.job_id or 'not created yet'}", *told])]
        return [Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in lines]


def describe_event(event: events.Event, progress: Progress) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one flat table of event types
    """An important event in one line; None for the many small ones and for the end, which the receipt tells."""
    match event:
        case events.PushStarted():
            size = f", {format_bytes(event.source_bytes)}" if event.source_bytes is not None else ""
            return f"{event.mode} from {event.source}{size}, {format_count(event.columns, 'column')}"
        case events.JobCreated():
            return f"job {event.job_id} created"
        case events.PushResumed():
            return f"going on with push {event.push_id}: {_acknowledged(event)}"
        case events.PushSuperseded():
            return f"the unfinished push {event.push_id} cannot go on, a new one takes its place: {event.reason}"
        case events.EarlierPushSettled():
            return _settled(event)
        case events.EarlierPushLeft():
            return (
                f"another push ({event.mode}) into table {event.table} was left unfinished and stays as it is:"
                f" pushengine resume {event.push_id}"
            )
        case events.WaitStarted():
            until = "" if event.seconds is None else f", at most {format_seconds(event.seconds)}"
            return f"waiting: {event.reason}{until}"
        case events.JobStayedNew():
            then = "it is submitted again" if event.is_submitted_again else "it is only polled from now on"
            return (
                f"job {event.job_id} is still NEW {format_seconds(event.seconds)} after its submit was acknowledged: {then}"
                f" ({format_count(event.submits, 'submit')} so far)"
            )
        case events.ChunkReconciled():
            found = "has arrived" if event.is_present else "has not arrived, it is sent again"
            return f"chunk {event.chunk_id}, whose upload was not acknowledged, {found} (by {event.how})"
        case events.RetryScheduled():
            return (
                f"{event.operation}: attempt {event.attempt} failed, next in {event.wait_seconds:.1f} s: {event.error}"
            )
        case events.PushRestarted():
            return f"starting again in a fresh job: {event.reason}"
        case events.SchemaLearned():
            return f"the whole source was read for its types; changed: {', '.join(event.changes)}"
        case events.JobVerified():
            return f"{progress.transfer()}; chunk list verified by {event.verified}"
        case events.QuotaWaited(reason="quarantine"):
            return f"{progress.phase} so that a lost upload cannot arrive late ({format_seconds(event.wait_seconds)})"
        case events.QuotaWaited(reason="turn"):
            return f"{progress.phase} ({format_seconds(event.wait_seconds)})"
        case events.QuotaLedgerCorrected():
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


def _settled(event: events.EarlierPushSettled) -> str:
    ended = f"push {event.push_id} of the same command had been submitted and ended with {event.status}"
    if event.status != "DONE":
        return f"{ended}; {event.reason}, and a new push begins"
    rows = format_rows(event.rows)
    if event.mode == "append":
        return f"{ended}: its {rows} are in table {event.table} and stay there; {event.reason}, and all that it holds now is appended"
    return f"{ended}, with {rows}; {event.reason}, and a new push begins"


_QUARANTINE = "quarantine"
_WAITING_FOR = {_QUARANTINE: "until", "turn": "for earlier submits until about"}
_SCROLLING = (
    events.RetryScheduled,
    events.PushRestarted,
    events.SchemaLearned,
    events.PushResumed,
    events.PushSuperseded,
    events.EarlierPushSettled,
    events.EarlierPushLeft,
    events.WaitStarted,
    events.JobStayedNew,
    events.ChunkReconciled,
    events.JobDeleted,
    events.QuotaLedgerCorrected,
)

_QUOTA_REASONS = {
    "second": "submits are spaced",
    "hour": "this hour's submits are spent",
    "boundary": "too near to the full hour",
    "server": "the platform asked for it",
}


class _LineHighlighter(RegexHighlighter):
    """Colours for the lines of `describe_*` on a terminal."""

    base_style = "line."
    highlights = (
        r"^(?P<good>DONE|ok)(?=  )(?P<name>  \S+)?",
        r"^(?P<head>PLAN|job)(?=  )",
        r"^(?P<bad>FAILED|error:|bug:|interrupted:)",
        r"^(?P<hint>hint:|state:|skipped)",
        r"^  (?P<label>[a-z][a-z ]{1,8})(?= {2,})",
        r"(?P<bar>[\u2588#]+)$",
        r"^ {8,}(?P<remedy>-> .*)$",
    )


_THEME = Theme(
    {
        "line.good": "bold green",
        "line.name": "bold",
        "line.head": "bold cyan",
        "line.bad": "bold red",
        "line.hint": "bold yellow",
        "line.remedy": "yellow",
        "line.label": "dim",
        "line.bar": "cyan",
    }
)


def print_lines(lines: Sequence[str], stream: TextIO) -> None:
    """Print the lines of a `describe_*` function, with colours where the stream is a terminal that wants them."""
    console = Console(
        file=stream, theme=_THEME, highlighter=_LineHighlighter(), markup=False, emoji=False, soft_wrap=True
    )
    for line in lines:
        console.print(line)


def _rows(*rows: tuple[str, str]) -> list[str]:
    """Labels and values as aligned lines; a value without a label continues the one above."""
    return [f"  {label:<{_LABEL_WIDTH}}{value}" for label, value in rows]


def describe_receipt(
    receipt: Receipt, quota: QuotaStatus | None = None, resumed: events.PushResumed | None = None
) -> list[str]:
    """The receipt that a person is glad to read; `resumed` tells what an earlier process had done."""
    seconds = max(receipt.elapsed_seconds, 1e-3)
    speed = f"{format_bytes((receipt.source_bytes or receipt.payload_bytes) / seconds)}/s"
    rows = [
        ("rows", f"{receipt.rows:,} in {format_count(receipt.chunks, 'chunk')}, {receipt.rows / seconds:,.0f} rows/s"),
        ("bytes", f"{format_bytes(receipt.source_bytes)} read -> {format_bytes(receipt.payload_bytes)} sent, {speed}"),
        ("verified", _verification(receipt)),
        *([("resumed", _resumption(receipt, resumed))] if receipt.resumed else []),
        ("job", receipt.job_id or "none"),
    ]
    if receipt.quota_used is not None:
        limit = f" of {receipt.quota_limit}" if receipt.quota_limit else ""
        reset = f" (resets {clock_time(quota.resets_at)[:5]}Z)" if quota else ""
        rows.append(("quota", f"{receipt.quota_used}{limit} submits this hour{reset}"))
    if receipt.retries or receipt.restarts:
        retries = f"{receipt.retries:,} {'retry' if receipt.retries == 1 else 'retries'}"
        rows.append(("repaired", f"{retries}, {format_count(receipt.restarts, 'restart')}"))
    rows += [("job log" if number == 0 else "", line) for number, line in enumerate(receipt.job_logs)]
    head = f"{receipt.status}  {receipt.table}  {receipt.mode}, {format_seconds(receipt.elapsed_seconds)}"
    return [head, *_rows(*rows)]


def _verification(receipt: Receipt) -> str:
    if receipt.verified == "checksum":
        return "the platform's checksum of every chunk equals ours"
    if receipt.verified == "count":
        return f"the platform holds {format_count(receipt.chunks, 'chunk')}, as sent (it gave no checksum to compare)"
    return "no"


def _resumption(receipt: Receipt, resumed: events.PushResumed | None) -> str:
    if resumed is None or resumed.push_id != receipt.push_id:
        return f"push {receipt.push_id}, which an earlier process began"
    if resumed.chunks_acknowledged > receipt.chunks:
        return f"push {receipt.push_id}; its chunks of before could not be used"
    before, rows = resumed.chunks_acknowledged, format_count(resumed.rows_acknowledged, "row")
    return f"push {receipt.push_id}: {before:,} of {format_count(receipt.chunks, 'chunk')}, {rows}, were there already"


def describe_plan(plan: Plan) -> list[str]:
    """What a push would do."""
    size = format_bytes(plan.source_bytes) if plan.source_bytes is not None else "unknown size"
    sample = f"{format_count(plan.sampled_rows, 'row')}" + (
        ", the whole source" if plan.is_sample_complete else " sampled"
    )
    chunks = "number found out while reading" if plan.estimated_chunks is None else f"about {plan.estimated_chunks:,}"
    files = plan.files[:5]
    rows = [("files" if number == 0 else "", name) for number, name in enumerate(files)]
    if len(plan.files) > len(files):
        rows.append(("", f"... {len(plan.files) - len(files):,} more"))
    rows += [
        ("size", size),
        ("read", sample),
        *([("keys", ", ".join(plan.keys))] if plan.keys else []),
        ("chunks", chunks),
        ("quota", format_count(plan.submits, "submit")),
        *[("note", note) for note in plan.notes],
    ]
    width = max((len(column.name) for column in plan.columns), default=0)
    columns = [
        f"    {column.name:<{width}}  {column.type}{f'({column.length})' if column.length else ''}"
        for column in plan.columns
    ]
    head = f"PLAN  {plan.table}  {plan.mode}, nothing was sent"
    return [head, *_rows(*rows), f"  {format_count(len(plan.columns), 'column')}", *columns]


def describe_quota(quota: QuotaStatus) -> list[str]:
    """What is left of the hour."""
    left = f"{quota.remaining} of {quota.limit} submits left this hour, {quota.spent} spent"
    lines = [f"{quota.team}: {left}, resets {clock_time(quota.resets_at)}"]
    if quota.blocked_until:
        until = clock_time(quota.blocked_until)
        if quota.blocked_until[:10] != quota.hour_start[:10]:  # another day
            until = f"{quota.blocked_until[:10]} {until}"
        reason = quota.blocked_reason or "the server refused a submit"
        lines.append(f"  no submits until {until}: {reason}")
        lines.append("  if that is wrong: `pushengine quota reset`")
    return [*lines, "  as this host knows it: other hosts and tools of the team spend from the same quota"]


def describe_checks(results: Sequence[CheckResult]) -> list[str]:
    """A line for each check, the remedy under those that failed."""
    width = max((len(result.name) for result in results), default=0)
    words = {True: "ok", False: "FAILED", None: "skipped"}
    lines = []
    for result in results:
        lines.append(f"{words[result.is_ok]:<8}{result.name:<{width}}  {result.detail}")
        if result.remedy and not result.is_ok:
            lines.append(f"{'':<8}{'':<{width}}  -> {result.remedy}")
    return lines


def describe_jobs(jobs: Sequence[Job]) -> list[str]:
    """A table of jobs, one line each."""
    if not jobs:
        return ["no push jobs in this pool"]
    lines = [("JOB", "STATUS", "TYPE", "TABLE", "LAST CHANGE")]
    lines += [
        (
            job.id,
            job.status.value,
            job.type or "-",
            job.target_name or "-",
            f"{job.last_modified:%Y-%m-%d %H:%M:%SZ}" if job.last_modified else "-",
        )
        for job in jobs
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def describe_job(job: Job, chunks: Sequence[RemoteChunk]) -> list[str]:
    """One job with its chunks and logs."""
    rows = [
        ("status", job.status.value),
        ("table", job.target_name or "-"),
        ("type", job.type or "-"),
        ("chunks", f"{len(chunks):,}"),
        *[("", f"{chunk.id}  {chunk.type}  {chunk.checksum or '-'}") for chunk in chunks],
        *[("log" if number == 0 else "", line) for number, line in enumerate(job.logs)],
    ]
    return [f"job {job.id}", *_rows(*rows)]
