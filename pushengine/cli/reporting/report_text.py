"""The report of loads as lines for a terminal or a text mail, and the words that all formats share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from rich.cells import cell_len

from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.reporting.cells import fit_middle, fitted_widths, pad, wrapped
from pushengine.cli.reporting.loads import describe_totals, next_steps
from pushengine.loads.report import LoadReport, Night, Report
from pushengine.loads.states import DONE, OPEN, STATES, is_trouble, load_name
from pushengine.text import format_bytes, format_count, format_seconds, shown_line

COLUMNS = ("LOAD", "STATE", "ROWS", "REJECTED", "TIME", "SIZE")
NUMBERS = (2, 3, 4, 5)
"""The columns that hold numbers."""
_BARS = "▁▂▃▄▅▆▇█"
_NO_RUN, _FAILED = "\u00b7", "\u00d7"
_CHART_NIGHTS = 10
_MOST_RESTING = 5
_SHORT = {"rejects": "rejects", "unknown": "unknown", "planned": "cut off", "running": "cut off"}


def describe_report(report: Report, *, width: int, hints: Hints = PLAIN) -> list[str]:
    """Describe a report in lines of at most `width` cells; only commands may be longer."""
    lines = [*wrapped(headline(report), width), *wrapped(period(report), width)]
    lines += wrapped(totals(report), width) if report.loads else []
    for entry in report.troubles:
        text = f"{trouble_word(entry)}  {load_name(entry.load)}: {trouble_reason(entry)}"
        lines += ["", *wrapped(text, width, "    ", first="")]
        lines += [f"    -> {why}: {command}" for why, command in steps(entry, hints)]
    lines += [line for note in notes(report) for line in ("", *wrapped(note, width))]
    return [*lines, "", *_table(report, width)] if report.loads else lines


def _table(report: Report, width: int) -> list[str]:
    charted = f"{_CHART_NIGHTS} NIGHTS"
    rows = [(*COLUMNS, charted), *((*cells(entry), sparkline(entry.nights[-_CHART_NIGHTS:])) for entry in report.loads)]
    rows = [tuple(shown_line(cell) for cell in row) for row in rows]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths = fitted_widths(widths, width, fixed=range(1, len(widths)))
    return [
        "  ".join(
            pad(fit_middle(cell, widths[column]), widths[column], is_number=column in NUMBERS)
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


# --- Words that all formats share ------------------------------------------------------------------------------------------------------


def headline(report: Report) -> str:
    """Return the result in one line."""
    if not report.runs:
        return "NOTHING RAN: no run of loads has started"
    if not report.troubles:
        return "ALL WELL"
    count, total = len(report.troubles), len(report.loads)
    return f"{count:,} OF {format_count(total, 'LOAD', 'LOADS')} {'NEEDS' if count == 1 else 'NEED'} A LOOK"


def period(report: Report) -> str:
    """Return what the report is about in one line: `since Thu 26 Nov 12:00, until Fri 27 Nov 08:00 (+01:00); 1 run, 02:00 to 03:04`."""
    zone = f"{report.until:%z}"
    line = f"since {_moment(report.since)} until {_moment(report.until)} ({zone[:3]}:{zone[3:5]})"
    if not report.runs:
        return line
    first = dt.datetime.fromtimestamp(report.runs[0].started_at, report.until.tzinfo)
    ends = [run.ended_at for run in report.runs if run.ended_at is not None]
    to = f" to {dt.datetime.fromtimestamp(max(ends), report.until.tzinfo):%H:%M}" if ends else ""
    return f"{line}; {format_count(len(report.runs), 'run')}, {first:%H:%M}{to}"


def _moment(time: dt.datetime) -> str:
    return f"{time:%a} {time.day} {time:%b %H:%M}"


def totals(report: Report) -> str:
    """Return the totals in one line."""
    read = sum(entry.load.source_bytes for entry in report.loads)
    size = f", {format_bytes(read)} read" if read else ""
    return f"{describe_totals([entry.load for entry in report.loads])}{size}"


def notes(report: Report) -> list[str]:
    """Return what else a person should know, one line each."""
    found = []
    if report.working:
        found.append(f"still at work: {format_count(len(report.working), 'run')} ({', '.join(report.working)})")
    changed = [
        entry.load for entry in report.loads if entry.load.state in DONE and entry.load.reason and not entry.is_trouble
    ]
    found += [f"{load_name(load)}: {load.reason}" for load in changed[:_MOST_RESTING]]
    if len(changed) > _MOST_RESTING:
        found.append(f"{len(changed) - _MOST_RESTING:,} more tables have changed: pushengine history")
    if report.resting:
        names = [f"{table.load}.{table.table}" for table in report.resting]
        some = ", ".join(names[:_MOST_RESTING])
        more = f" and {len(names) - _MOST_RESTING:,} more" if len(names) > _MOST_RESTING else ""
        found.append(f"in no run since then, as may be: {some}{more}")
    return found


def trouble_word(entry: LoadReport) -> str:
    """Return in a word or two what is wrong with a load."""
    if entry.is_cut_off:
        return "cut off"
    return STATES[entry.load.state] if is_trouble(entry.load) else "late"


def trouble_reason(entry: LoadReport) -> str:
    """Return why a load needs a look."""
    load = entry.load
    parts = [load.reason] if load.reason else []
    if entry.is_cut_off:
        parts = ["the process of its run ended before it did"]
    elif not is_trouble(load):
        parts = [f"it was {STATES[load.state]} only after its deadline", *parts]
    elif load.is_late:
        parts.append("its deadline has passed")
    if entry.failures:
        parts.append(f"{format_count(entry.failures, 'earlier run')} failed, too")
    where = f" ({load.generation})" if load.generation else ""
    return f"{'; '.join(parts) or 'no reason is recorded'}{where}"


def steps(entry: LoadReport, hints: Hints) -> list[tuple[str, str]]:
    """Return what to do about a load, as (when or why, command)."""
    if entry.is_cut_off:
        return [("finish the run", hints.load(continues=True))]
    return next_steps(entry.load, hints, entry.block)


def cells(entry: LoadReport) -> tuple[str, ...]:
    """Return the cells of a load, one for each of `COLUMNS`."""
    load = entry.load
    state = _SHORT.get(load.state, STATES[load.state]) if entry.is_cut_off or load.state not in OPEN else "running"
    has_rows = load.state in DONE or load.rows
    return (
        load_name(load),
        "late" if load.is_late and load.state in DONE else state,
        f"{load.rows:,}" if has_rows else "-",
        f"{load.rejected:,}" if has_rows or load.rejected else "-",
        format_seconds(entry.seconds) if entry.seconds else "-",
        format_bytes(load.source_bytes) if load.source_bytes else "-",
    )


def sparkline(nights: Sequence[Night]) -> str:
    """Return the rows of some nights as bars, `▁▃▇`; a cross stands for a night that ended with a failure, a dot for one without a run."""
    most = max((night.rows or 0 for night in nights), default=0)
    return "".join(_bar(night, most) for night in nights)


def _bar(night: Night, most: int) -> str:
    if night.has_failed:
        return _FAILED
    if night.rows is None:
        return _NO_RUN
    return _BARS[min(night.rows * len(_BARS) // most, len(_BARS) - 1) if most else 0]
