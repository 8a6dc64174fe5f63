"""What people read before and after a run of loads: the forecast, the table at the end, and what to do about each failure."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.reporting.cells import fit_middle, fitted_widths, pad, terminal_width, wrapped
from pushengine.journal.loads import RunLoad, RunState
from pushengine.text import format_count, format_rows, format_seconds, shown_line, utc

STATES: Mapping[RunState, str] = {
    "unknown": "outcome unknown",
    "failed": "failed",
    "blocked": "blocked",
    "missing": "missing",
    "rejects": "done with rejects",
    "done": "done",
    "skipped": "skipped",
    "running": "running",
    "planned": "not started",
}
"""The states of a load in words, the most urgent first."""
TROUBLE: tuple[RunState, ...] = ("unknown", "failed", "blocked", "missing")
"""States that a person has to do something about."""
_WELL: tuple[RunState, ...] = ("done", "rejects", "skipped")
_OPEN: tuple[RunState, ...] = ("running", "planned")
_CELLS: Mapping[RunState, str] = {**STATES, "rejects": "rejects", "unknown": "unknown"}
_WITHOUT_ROWS = (*TROUBLE, "skipped", "planned", "running")
_COLUMNS = ("TABLE", "READ", "SENT", "REJECTED", "ERRORS", "TIME", "STATE")
_LEAST_NAME = 8
_LONGEST_NUMBER = 1_000_000_000
_MOST_HOURS = 3
_TEMPORARY = 75


def describe_forecast(
    this_hour: int, later: Sequence[tuple[float, int]] = (), ends_at: float | None = None, *, noun: str = "table"
) -> str:
    """Describe when the submits of a run leave: `312 tables: 250 this hour, 62 after 03:00Z, about 03:04Z`.

    Args:
        this_hour: How many loads are submitted before the next full hour.
        later: For each later hour, when it begins (seconds UTC) and how many loads are submitted in it.
        ends_at: When the run will probably end, seconds UTC; None if that cannot be told.
        noun: What a load is called.
    """
    total = format_count(this_hour + sum(count for _, count in later), noun)
    parts = [f"{this_hour:,} this hour"] if this_hour or not later else []
    parts += [f"{count:,} after {utc(at):%H:%M}Z" for at, count in later[:_MOST_HOURS]]
    rest = sum(count for _, count in later[_MOST_HOURS:])
    parts += [f"{rest:,} later"] if rest else []
    parts += [f"about {utc(ends_at):%H:%M}Z"] if ends_at is not None else []
    return f"{total}: {', '.join(parts)}"


def describe_loads(
    loads: Sequence[RunLoad], *, seconds: float | None = None, width: int | None = None, hints: Hints = PLAIN
) -> list[str]:
    """Describe how the loads of a run ended: a table, the totals, and each failure with its reason and what to do next.

    Args:
        loads: What the run did, in its order.
        seconds: How long the run took; None leaves it out.
        width: Cells of a line; None means the width of the terminal, or 80. Commands are never cut.
        hints: How to name the commands that help.
    """
    width = width or terminal_width()
    if not loads:
        return ["no loads"]
    repeated = collections.Counter((load.load, load.table) for load in loads)
    rows = [_COLUMNS, *(_cells(load, with_generation=repeated[load.load, load.table] > 1) for load in loads)]
    rows = [tuple(shown_line(cell) for cell in row) for row in rows]
    lengths = [max(cell_len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    widths = fitted_widths(lengths, width, fixed=range(1, len(_COLUMNS)), least={0: _LEAST_NAME})
    lines = []
    for name, *cells in rows:
        numbers = [pad(cell, size, is_number=True) for cell, size in zip(cells[:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([pad(fit_middle(name, widths[0]), widths[0]), *numbers, cells[-1]]).rstrip())
    lines += ["", *wrapped(describe_totals(loads, seconds), width)]
    for load in trouble_first(loads):
        if is_trouble(load):
            lines += describe_trouble(load, width=width, hints=hints)
    return lines


def is_trouble(load: RunLoad) -> bool:
    """Whether a person has to do something about a load: it failed, is missing or blocked, or was skipped for another process."""
    return load.state in TROUBLE or load.exit_code != 0


def _cells(load: RunLoad, *, with_generation: bool) -> tuple[str, ...]:
    name = f"{load.load}.{load.table}{f' {load.generation}' if with_generation and load.generation else ''}"
    taken = load.ended_at - load.started_at if load.started_at and load.ended_at else None
    time = "-" if taken is None else format_seconds(taken)
    errors = "1" if is_trouble(load) else "0"
    state = f"{_CELLS[load.state]}{', late' if load.is_late else ''}"
    if load.state in _WITHOUT_ROWS:
        rejected = f"{load.rejected:,}" if load.rejected else "-"
        return (name, "-", "-", rejected, errors, time, state)
    numbers = (_number(count) for count in (load.rows + load.rejected, load.rows, load.rejected))
    return (name, *numbers, errors, time, state)


def _number(count: int) -> str:
    return f"{count:,}" if count < _LONGEST_NUMBER else f"{count / 1e6:,.0f} M"


def describe_totals(loads: Sequence[RunLoad], seconds: float | None = None) -> str:
    """Describe all loads in one line: `312 loads: 310 done, 1 failed, 1 missing; 1.2 M rows, 3 rejected, 12:03 min`."""
    counts = collections.Counter(load.state for load in loads)
    states = [f"{counts[state]:,} {STATES[state]}" for state in (*_WELL, *TROUBLE, *_OPEN) if counts[state]]
    late = sum(load.is_late for load in loads)
    states += [f"{late:,} late"] if late else []
    rejected = sum(load.rejected for load in loads)
    totals = [format_rows(sum(load.rows for load in loads))]
    totals += [f"{rejected:,} rejected"] if rejected else []
    totals += [format_seconds(seconds)] if seconds is not None else []
    return f"{format_count(len(loads), 'load')}: {', '.join(states)}; {', '.join(totals)}"


def trouble_first(loads: Sequence[RunLoad]) -> list[RunLoad]:
    """Return loads with those first that a person has to do something about, otherwise in their order."""
    order = list(STATES)
    return sorted(loads, key=lambda load: order.index(load.state) if is_trouble(load) else len(order))


def describe_trouble(load: RunLoad, *, width: int, hints: Hints = PLAIN) -> list[str]:
    """Describe in lines why a load did not end well and what to do next."""
    generation = f" {load.generation}" if load.generation else ""
    reason = load.reason or "no reason is recorded"
    head, *rest = wrapped(f"{STATES[load.state]}  {load.load}.{load.table}{generation}: {reason}", width)
    more = [line for text in rest for line in wrapped(text, width, "    ")]
    return [head, *more, *(f"    -> {step}" for step in next_steps(load, hints))]


def next_steps(load: RunLoad, hints: Hints = PLAIN) -> list[str]:
    """Return what to do about a load that did not end well: commands, each with a word on when to use it. Empty if it ended well."""
    name = f"{load.load}.{load.table}"
    match load.state:
        case "failed" | "skipped" if load.exit_code == _TEMPORARY:
            return [f"try again: {hints.load(name)}"]
        case "failed":
            seen = [f"see what happened: {hints.show(load.push_id)}"] if load.push_id else []
            return [*seen, f"when it is fixed: {hints.load(name)}"]
        case "unknown":
            return [
                f"find out whether the rows arrived: {hints.show(load.push_id)}",
                f"then say so: {hints.resolve(load.push_id)}",
            ]
        case "blocked":
            file = load.files[0] if load.files else "FILE"
            return [f"load the failed file first, or leave it out: {hints.skip(name, file)}"]
        case "missing":
            return [
                f"when its file is there: {hints.load(name)}",
                f"if it is not expected any more: {hints.retire(name)}",
            ]
    return []
