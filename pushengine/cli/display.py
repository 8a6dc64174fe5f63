"""Console output: progress while a push runs, and the results of commands afterwards.

Progress is derived only from events (`EventSink.emit`), which any application can receive. On a terminal, `LiveDisplay` redraws a few
lines. Elsewhere, `PlainDisplay` writes one line per important event, and a progress line about every five seconds. The results of commands
are plain lines made by `describe_*` functions: the text is the same on a terminal, in a pipe and in a mail from cron.
"""

from __future__ import annotations

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
from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.progress import Progress
from pushengine.logs import log_line
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.text import format_bytes, format_count, format_rows, format_seconds, shown_line, utc

_PROGRESS_INTERVAL_SECONDS = 5.0
_LONGEST_TITLE = 200


class Display(events.EventSink, Protocol):
    """An event sink that shows progress while its context is open."""

    def __enter__(self) -> Self:
        """Start showing progress."""
        ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop showing progress. On a terminal, erase the progress lines."""
        ...

    def note(self, text: str) -> None:
        """Show a line of text that does not come from an event."""
        ...


class QuietDisplay:
    """A display that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Do nothing."""

    def emit(self, event: events.Event) -> None:
        """Ignore the event."""

    def note(self, text: str) -> None:
        """Ignore the text."""


class LogDisplay(QuietDisplay):
    """A display for the JSON log format: events are logged elsewhere, notes are lines of the log."""

    def __init__(self, pool: str | None) -> None:
        self._pool = pool

    def note(self, text: str) -> None:
        """Log the text."""
        log_line("message_printed", "info", message=text, pool=self._pool)


class PlainDisplay(QuietDisplay):
    """A display for logs and pipes: one line per important event, and a progress line about every five seconds. Lines begin with the time."""

    def __init__(self, stream: TextIO, *, clock: Clock | None = None, hints: Hints = PLAIN) -> None:
        self._hints = hints
        self._stream = stream
        self._clock = clock or SystemClock()
        self._progress = Progress()
        self._last_line_at = self._clock.monotonic()

    def emit(self, event: events.Event) -> None:
        """Apply one event, and write a line if the event is important or a progress line is due."""
        now = self._clock.monotonic()
        self._progress.apply(event, now)
        line = describe_event(event, self._progress, self._hints)
        if line is None and isinstance(event, events.ChunkRead | events.ChunkUploaded):
            is_due = now - self._last_line_at >= _PROGRESS_INTERVAL_SECONDS
            line = self._progress.transfer() if is_due else None
        if line is not None:
            self._last_line_at = now
            self.note(line)

    def note(self, text: str) -> None:
        """Write one line."""
        try:
            line = f"{utc(self._clock.now()):%H:%M:%SZ} {self._progress.table or 'pushengine'}: {text}"
            self._stream.write(shown_line(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader has gone: that must not end the push
            return


class LiveDisplay(QuietDisplay):
    """A display for terminals: a few lines that are redrawn in place, with warnings scrolling above them."""

    def __init__(self, console: Console, *, clock: Clock | None = None, hints: Hints = PLAIN) -> None:
        self._hints = hints
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
        """Stop, and erase the progress lines."""
        self._live.stop()

    def emit(self, event: events.Event) -> None:
        """Apply one event; print a line above the progress if it is a warning."""
        self._progress.apply(event, self._clock.monotonic())
        if isinstance(event, _SCROLLING) or (isinstance(event, events.QuotaWaited) and event.reason == "quarantine"):
            line = describe_event(event, self._progress, self._hints)
            if line is not None:
                self._console.print(Text(shown_line(line), style="yellow"))

    def note(self, text: str) -> None:
        """Print a line above the progress."""
        self._console.print(Text(shown_line(text), style="dim"))

    def render(self) -> RenderableType:
        """Render the current progress."""
        progress = self._progress
        elapsed = format_seconds(self._clock.monotonic() - self._started_at)
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(width=1)
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        title = Text.assemble(
            (shown_line(progress.table or "planning", _LONGEST_TITLE), "bold"),
            "  ",
            (progress.mode, "dim"),
            "  ",
            shown_line(progress.phase, _LONGEST_TITLE),
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
        counts = []
        if progress.restarts:
            counts.append(format_count(progress.restarts, "restart"))
        if progress.retries:
            counts.append(f"{progress.retries:,} {'retry' if progress.retries == 1 else 'retries'}")
        lines = [progress.transfer(), ", ".join([f"job {progress.job_id or 'not created yet'}", *counts])]
        return [Text(f"  {shown_line(line)}", style="dim", no_wrap=True, overflow="ellipsis") for line in lines]


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


_SCROLLING = (
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


class _LineHighlighter(RegexHighlighter):
    """Highlights parts of the lines of `describe_*` functions on a terminal."""

    base_style = "line."
    highlights = (
        r"^(?P<good>DONE|ok)(?P<bad> with rejects)?(?=  )(?P<name>  \S+)?",
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
    """Print the lines of a `describe_*` function, with colors if the stream is a terminal that supports them."""
    console = Console(
        file=stream, theme=_THEME, highlighter=_LineHighlighter(), markup=False, emoji=False, soft_wrap=True
    )
    for line in lines:
        console.print(line)
