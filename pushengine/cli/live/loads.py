"""Progress of a run of loads: many pushes at once.

A run reports to its display what events do not say: how many loads there are (`expect`), how each ended (`finished`), and the quota. All
else comes from the events of the pushes. On a terminal, `LiveLoads` redraws a line for each push under way; elsewhere, `LoadLines` writes
a line for each load at its end.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
from typing import Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from pushengine import events
from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.live.display import Display, LogDisplay, QuietDisplay
from pushengine.cli.live.lines import describe_event
from pushengine.cli.live.progress import Progress
from pushengine.cli.reporting.cells import fit, pad
from pushengine.journal.loads import RunLoad, RunState
from pushengine.loads.states import STATES, load_name
from pushengine.model import QuotaStatus
from pushengine.runtime.clock import Clock, SystemClock
from pushengine.text import format_bytes, format_clock, format_count, format_rows, format_seconds, shown_line, utc

_GOOD = ("done", "rejects", "skipped")
_SHOWN = (
    events.PushRestarted,
    events.SchemaLearned,
    events.TableCompared,
    events.PushSuperseded,
    events.EarlierPushSettled,
    events.EarlierPushLeft,
    events.JobStayedNew,
    events.RowsRejected,
    events.QuotaLedgerCorrected,
    events.StateFolderTightened,
)
"""Events of one push that a person should see while many run."""
_HOUR = 3600.0
_SAME_WAIT_SECONDS = 60.0
_RATE_SECONDS = 20
_LONGEST_NAME = 24
_LEAST_NAME = 10
_NAME_SHARE = 3
_PERCENT_WIDTH, _RATE_WIDTH, _LEFT_WIDTH = 4, 9, 11
_SPARE_LINES = 2  # one for the cursor, one for what scrolls


class LoadsDisplay(Display, Protocol):
    """A display of many pushes at once."""

    def expect(self, total: int) -> None:
        """Show how many loads there are in all. May be called again when more are known."""
        ...

    def finished(self, load: RunLoad) -> None:
        """Show how a load ended, with or without a push. Each load ends once."""
        ...

    def quota(self, status: QuotaStatus) -> None:
        """Show how much of a team's submit quota is left. As long as there is one team, later submits are counted from their events."""
        ...


class QuietLoads(QuietDisplay):
    """A display of many pushes that shows nothing."""

    def expect(self, total: int) -> None:
        """Ignore the number."""

    def finished(self, load: RunLoad) -> None:
        """Ignore the load."""

    def quota(self, status: QuotaStatus) -> None:
        """Ignore the quota."""


class LogLoads(QuietLoads):
    """A display of many pushes for the JSON log format: events are logged elsewhere; notes and the end of each load are lines of the log."""

    def __init__(self, pool: str | None) -> None:
        self._pool = pool
        self._notes = LogDisplay(pool)

    def note(self, text: str) -> None:
        """Log the text."""
        self._notes.note(text)

    def finished(self, load: RunLoad) -> None:
        """Log how a load ended: `load_finished`."""
        fields = dataclasses.asdict(load)
        name, number = fields.pop("load"), fields.pop("number")
        del number
        from pushengine.logs import log_line  # noqa: PLC0415 - keeps the first frame of a live display fast

        log_line("load_finished", "info" if load.state in _GOOD else "error", **fields, load=name, pool=self._pool)


class LoadLines(QuietLoads):
    """A display of many pushes for logs and pipes: a line for each load at its end, and one for each wait that they share."""

    def __init__(self, stream: TextIO, *, clock: Clock | None = None, hints: Hints = PLAIN) -> None:
        self._stream = stream
        self._clock = clock or SystemClock()
        self._waits = _SharedWaits()
        self._hints = hints

    def emit(self, event: events.Event) -> None:
        """Write a line if the event is a wait that has not been told, or about the whole host."""
        line = self._waits.line_for(event, self._clock.monotonic())
        if line is None and isinstance(event, events.QuotaLedgerCorrected | events.StateFolderTightened):
            line = event.message
        if line is not None:
            self.note(line)

    def finished(self, load: RunLoad) -> None:
        """Write how a load ended."""
        self._write(describe_end(load))

    def note(self, text: str) -> None:
        """Write one line."""
        self._write(f"pushengine: {text}")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(shown_line(f"{utc(self._clock.now()):%H:%M:%SZ} {text}") + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader has gone: that must not end the run
            return


class LiveLoads(QuietLoads):
    """A display of many pushes for terminals: totals, the quota, and a line for each push under way; failures and notes scroll above."""

    def __init__(self, console: Console, *, clock: Clock | None = None, hints: Hints = PLAIN) -> None:
        self._hints = hints
        self._console = console
        self._clock = clock or SystemClock()
        self._started_at = self._clock.monotonic()
        self._pushes: dict[str, Progress] = {}
        self._waits = _SharedWaits()
        self._totals = _Totals()
        self._quotas: dict[str, _Quota] = {}
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop, and erase the lines."""
        self._live.stop()

    def expect(self, total: int) -> None:
        """Show how many loads there are in all."""
        self._totals.expected = total

    def quota(self, status: QuotaStatus) -> None:
        """Show how much of the submit quota is left."""
        self._quotas.pop("", None)
        self._quotas.setdefault(status.team, _Quota()).set(status)

    def finished(self, load: RunLoad) -> None:
        """Count a load; print a line above the others unless it ended well."""
        self._pushes.pop(load.push_id, None)
        self._totals.add(load)
        if load.state not in _GOOD:
            self._print(describe_end(load), "bold red")

    def emit(self, event: events.Event) -> None:
        """Apply one event; print a line above the others if a person should see it."""
        now = self._clock.monotonic()
        line, style = self._waits.line_for(event, now), "yellow"
        match event:
            case events.PushFinished() | events.PushFailed():
                for quota in self._counted():
                    quota.spent(event.receipt.quota_used, event.receipt.quota_limit, self._clock.now())
                self._pushes.pop(event.push_id, None)
            case events.PushSuperseded() | events.EarlierPushLeft() | events.EarlierPushSettled():
                self._pushes.pop(event.push_id, None)
            case _ if event.push_id:
                self._apply(event, now)
        if isinstance(event, _SHOWN):
            text = describe_event(event, Progress(table=event.table), self._hints)
            line = text if not event.table or text is None else f"{event.table}: {text}"
        if line is not None:
            self._print(line, style)

    def note(self, text: str) -> None:
        """Print a line above the others."""
        self._print(text, "dim")

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(shown_line(text), style=style))

    def _apply(self, event: events.Event, now: float) -> None:
        push = self._pushes.get(event.push_id)
        if push is None:
            push = self._pushes[event.push_id] = Progress(push_id=event.push_id, phase_since=now)
        push.table = event.table or push.table
        push.apply(event, now)
        if isinstance(event, events.ChunkUploaded):
            self._totals.sent(event.payload_bytes, now)
        elif isinstance(event, events.JobSubmitted):
            for quota in self._counted():
                quota.add_submit()

    def _counted(self) -> list[_Quota]:
        """Return the quota that events are about: they do not name a team, so there is none if there are several."""
        if not self._quotas:
            self._quotas[""] = _Quota()
        return [*self._quotas.values()] if len(self._quotas) == 1 else []

    def _quota_line(self) -> str:
        """Return the quota of the team that has the least left."""
        quotas = list(self._quotas.items())
        if not quotas:
            return ""
        team, quota = min(quotas, key=lambda item: item[1].left)
        line = quota.describe(self._clock.now())
        return f"{line}, {team}" if len(quotas) > 1 else line

    def render(self) -> RenderableType:
        """Render the current progress in at most the lines and columns of the terminal."""
        size, now = self._console.size, self._clock.monotonic()
        width, lines = size.width, max(size.height - _SPARE_LINES, 1)
        pushes = list(self._pushes.values())  # a copy: the display is drawn on a thread of its own
        head = self._totals.describe(sum(push.rows_sent for push in pushes), now, now - self._started_at)
        shown = [Text(head, style="bold")]
        quota = self._quota_line()
        if quota and lines > 1:
            shown.append(Text(f"  {quota}", style="dim"))
        room = lines - len(shown)
        if room > 0:
            shown += [Text(line, style=style) for line, style in self._lines(pushes, room, width, now)]
        for line in shown:
            line.plain = fit(line.plain, width)
            line.no_wrap, line.overflow = True, "crop"
        return Group(*shown)

    def _lines(self, pushes: list[Progress], room: int, width: int, now: float) -> list[tuple[str, str]]:
        pushes.sort(key=_urgency)  # stable: among equals, those that began first
        if len(pushes) > room:
            pushes, others = pushes[: room - 1], pushes[room - 1 :]
        else:
            others = []
        lines = [(describe_push(push, width, now), "" if push.is_transferring else "dim") for push in pushes]
        if others:
            waiting = sum(push.phase.startswith("waiting") for push in others)
            some = (
                "" if not waiting else ", all waiting" if waiting == len(others) else f", {waiting:,} of them waiting"
            )
            lines.append((f"  ... and {len(others):,} more{some}", "dim"))
        return lines


def _urgency(push: Progress) -> int:
    """Return where a push stands among the lines: those that transfer first, those that wait last."""
    return 0 if push.is_transferring else 2 if push.phase.startswith("waiting") else 1


def describe_push(push: Progress, width: int, now: float) -> str:
    """Describe a push in one line of at most `width` cells: table, phase, percent, speed and how long it will take."""
    name_width = min(max(width // _NAME_SHARE, _LEAST_NAME), _LONGEST_NAME)
    name = pad(shown_line(push.table or "planning", _LONGEST_NAME * 4), name_width)
    phase = shown_line(push.describe_phase(now), 200)
    if not push.is_transferring:
        return fit(f"  {name}  {phase}", width)
    percent = "" if push.percent is None else f"{push.percent}%"
    rate = "" if push.payload_rate is None else f"{format_bytes(push.payload_rate)}/s"
    left = push.seconds_left(now)
    numbers = [
        pad(percent, _PERCENT_WIDTH, is_number=True),
        pad(rate, _RATE_WIDTH + 2, is_number=True),
        pad("" if left is None else f"{format_clock(left)} left", _LEFT_WIDTH, is_number=True),
    ]
    tail = "  ".join(numbers)
    return fit(f"  {name}  {pad(phase, max(width - name_width - len(tail) - 6, 9))}  {tail}", width)


def describe_end(load: RunLoad) -> str:
    """Describe in one line how a load ended: `sap.VBAP: done, 1,234 rows in 12 s, push 01J...`."""
    parts = [f"{STATES[load.state]}{' (late)' if load.is_late else ''}"]
    if load.state in ("done", "rejects"):
        taken = load.ended_at - load.started_at
        parts.append(f"{format_count(load.rows, 'row')}{f' in {format_seconds(taken)}' if load.started_at else ''}")
    if load.rejected:
        parts.append(f"{load.rejected:,} rejected")
    if load.push_id:
        parts.append(f"push {load.push_id}")
    generation = f" {load.generation}" if load.generation else ""
    reason = f": {load.reason}" if load.reason else ""
    return f"{load_name(load)}{generation}: {', '.join(parts)}{reason}"


class _SharedWaits:
    """The waits that many pushes share, such as for the quota or through an outage: each is told once."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def line_for(self, event: events.Event, now: float) -> str | None:
        """Return a line for a wait that was not told yet; None for other events and waits of a push alone."""
        match event:
            case events.QuotaWaited(reason="hour" | "boundary" | "server"):
                waiting = Progress()
                waiting.apply(event, now)
                line = describe_event(event, waiting)
                key = f"{event.reason} {event.until[:16]}"  # pushes wake some seconds apart
            case events.WaitStarted():
                line, key = describe_event(event, Progress()), event.reason
            case _:
                return None
        told = self._told.get(key)
        self._told[key] = now
        return line if told is None or now - told > _SAME_WAIT_SECONDS else None


class _Totals:
    """How many loads ended, and how fast all together are.

    Attributes:
        expected: Number of loads in all; 0 until it is known.
    """

    def __init__(self) -> None:
        self.expected = 0
        self._states: collections.Counter[RunState] = collections.Counter()
        self._rows = 0
        self._sent: dict[int, int] = {}  # payload bytes by second

    def add(self, load: RunLoad) -> None:
        """Count a load that ended."""
        self._states[load.state] += 1
        self._rows += load.rows

    def sent(self, payload_bytes: int, now: float) -> None:
        """Count bytes that were acknowledged at `now` (monotonic seconds)."""
        second = int(now)
        self._sent[second] = self._sent.get(second, 0) + payload_bytes
        for old in [at for at in self._sent if at < second - _RATE_SECONDS]:
            del self._sent[old]

    def describe(self, rows_under_way: int, now: float, elapsed: float) -> str:
        """Describe the totals in one line."""
        states = dict(self._states)
        ended = sum(states.values())
        done = states.pop("done", 0) + states.pop("rejects", 0)
        total = max(self.expected, ended)
        parts = [f"{done:,} of {total:,} done" if total else "starting"]
        failed = states.pop("failed", 0) + states.pop("unknown", 0)
        parts += [f"{failed:,} failed"] if failed else []
        parts += [f"{count:,} {STATES[state]}" for state, count in sorted(states.items()) if count]
        parts += [f"{total - ended:,} left"] if total else []
        rows = self._rows + rows_under_way
        parts += [format_rows(rows)] if rows else []
        recent = sum(size for at, size in list(self._sent.items()) if at > now - _RATE_SECONDS)
        parts += [f"{format_bytes(recent / min(max(elapsed, 1.0), _RATE_SECONDS))}/s"] if recent else []
        return ", ".join([*parts, format_clock(elapsed)])


class _Quota:
    """The submit quota as far as it is known: from the run, from receipts, and counted from submits."""

    def __init__(self) -> None:
        self._spent = 0
        self._limit = 0
        self._resets_at = 0.0
        self._blocked_until = 0.0

    def set(self, status: QuotaStatus) -> None:
        """Take over what the ledger says."""
        self._spent, self._limit = status.spent, status.limit
        self._resets_at = _seconds(status.resets_at)
        self._blocked_until = _seconds(status.blocked_until) if status.blocked_until else 0.0

    def spent(self, spent: int | None, limit: int | None, now: float) -> None:
        """Take over what a receipt says; `now` is in seconds UTC."""
        if spent is None or not limit:
            return
        hour = now - now % _HOUR + _HOUR
        if hour > self._resets_at or spent > self._spent:
            self._spent = spent
        self._limit, self._resets_at = limit, max(hour, self._resets_at)

    @property
    def left(self) -> int:
        """Number of submits left in this hour."""
        return max(self._limit - self._spent, 0)

    def add_submit(self) -> None:
        """Count one submit."""
        self._spent += 1

    def describe(self, now: float) -> str:
        """Describe what is left at `now` (seconds UTC): `quota 118 of 250 left, next hour in 12:31`. Empty if nothing is known."""
        if not self._limit:
            return ""
        if now >= self._resets_at:
            self._spent, self._resets_at = 0, now - now % _HOUR + _HOUR
        left = f"quota {self.left:,} of {self._limit:,} left"
        if self._blocked_until > now:
            return f"{left}, the platform refuses submits for {format_clock(self._blocked_until - now)}"
        return f"{left}, next hour in {format_clock(self._resets_at - now)}"


def _seconds(iso: str) -> float:
    return dt.datetime.fromisoformat(iso).timestamp()
