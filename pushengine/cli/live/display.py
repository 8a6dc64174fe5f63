"""Console output: progress while a push runs, and the results of commands afterwards.

Progress is derived only from events (`EventSink.emit`), which any application can receive. On a terminal, `LiveDisplay` redraws a few
lines. Elsewhere, `PlainDisplay` writes one line per important event, and a progress line about every five seconds. The results of commands
are plain lines made by `describe_*` functions: the text is the same on a terminal, in a pipe and in a mail from cron.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pushengine import events
from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.live.lines import SCROLLING, describe_event
from pushengine.cli.live.progress import Progress
from pushengine.cli.reporting.cells import fit
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.text import format_clock, format_count, shown_line, utc

_PROGRESS_INTERVAL_SECONDS = 5.0
_LONGEST_TITLE = 200
_BAR_MARGIN, _SHORTEST_BAR, _LONGEST_BAR = 26, 10, 54


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
        from pushengine.logs import log_line  # noqa: PLC0415 - keeps the first frame of a live display fast

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
    """A display for terminals: a few lines that are redrawn in place, with warnings scrolling above them.

    Args:
        console: The terminal.
        clock: The clock that elapsed times come from.
        hints: How to name the commands that help.
        title: What the first line names until the table is known.
    """

    def __init__(
        self, console: Console, *, clock: Clock | None = None, hints: Hints = PLAIN, title: str = "pushengine"
    ) -> None:
        self._hints = hints
        self._title = title
        self._console = console
        self._clock = clock or SystemClock()
        self._progress = Progress()
        self._started_at = self._clock.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, and erase the progress lines."""
        self._live.stop()

    def emit(self, event: events.Event) -> None:
        """Apply one event; print a line above the progress if it is a warning."""
        self._progress.apply(event, self._clock.monotonic())
        if isinstance(event, SCROLLING) or (isinstance(event, events.QuotaWaited) and event.reason == "quarantine"):
            line = describe_event(event, self._progress, self._hints)
            if line is not None:
                self._console.print(Text(shown_line(line), style="yellow"))

    def note(self, text: str) -> None:
        """Print a line above the progress."""
        self._console.print(Text(shown_line(text), style="dim"))

    def render(self) -> RenderableType:
        """Render the current progress."""
        progress, now = self._progress, self._clock.monotonic()
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(width=1)
        head.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        head.add_column(justify="right", no_wrap=True)
        title = Text.assemble(
            (fit(shown_line(progress.table or self._title, _LONGEST_TITLE), self._console.width // 2), "bold"),
            "  ",
            (f"{progress.mode}  " if progress.mode else "", "dim"),
            shown_line(progress.describe_phase(now), _LONGEST_TITLE),
        )
        head.add_row(self._spinner, title, Text(format_clock(now - self._started_at), style="dim"))
        return Group(head, self._bar(now), *self._details())

    def _bar(self, now: float) -> RenderableType:
        """Return a bar with percentage and remaining time; it pulses wherever they are unknown, such as while the job runs."""
        percent, left = self._progress.percent, self._progress.seconds_left(now)
        words = [] if percent is None else [f"{percent}%"]
        words += [] if left is None else [f"{format_clock(left)} left"]
        width = max(min(self._console.width - _BAR_MARGIN, _LONGEST_BAR), _SHORTEST_BAR)
        bar = (
            ProgressBar(total=None, pulse=True, width=width, animation_time=now)
            if percent is None
            else ProgressBar(total=100, completed=percent, width=width)
        )
        grid = Table.grid(padding=(0, 0, 0, 2))
        grid.add_row(bar, Text("  ".join(words), no_wrap=True, overflow="ellipsis"))
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
