"""What people read before and after a run of loads: the forecast, the table at the end, and what to do about each failure."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.reporting.cells import fit_middle, fitted_widths, pad, terminal_width, wrapped
from pushengine.journal.loads import BlockRow, RunLoad, RunState
from pushengine.loads.forecast import Forecast
from pushengine.loads.states import OPEN, STATES, TROUBLE, is_trouble, load_name, trouble_first
from pushengine.text import format_count, format_rows, format_seconds, shown_line

_WELL: tuple[RunState, ...] = ("done", "rejects", "skipped")
_CELLS: Mapping[RunState, str] = {**STATES, "rejects": "rejects", "unknown": "unknown"}
_WITHOUT_ROWS = (*TROUBLE, *OPEN, "skipped")
_COLUMNS = ("TABLE", "READ", "SENT", "REJECTED", "ERRORS", "TIME", "STATE")
_LEAST_NAME = 8
_LONGEST_NUMBER = 1_000_000_000
_MOST_HOURS = 4
_TEMPORARY = 75


def describe_forecast(expected: Forecast) -> str:
    """Describe when the submits of a run leave and when it ends: `312 tables: 250 this hour, 62 after 03:00Z, about 03:04Z`."""
    first, rest = expected.batches[:_MOST_HOURS], expected.batches[_MOST_HOURS:]
    parts = [f"{one.submits:,} {'this hour' if one.at is None else f'after {one.at:%H:%M}Z'}" for one in first]
    parts += [f"{sum(one.submits for one in rest):,} later"] if rest else []
    parts += [f"about {expected.ends_at:%H:%M}Z"] if first else []
    return f"{format_count(expected.tables, 'table')}: {', '.join(parts) or 'nothing to load'}"


def describe_loads(
    loads: Sequence[RunLoad],
    *,
    seconds: float | None = None,
    width: int | None = None,
    hints: Hints = PLAIN,
    blocks: Sequence[BlockRow] = (),
) -> list[str]:
    """Describe how the loads of a run ended: a table, the totals, and each failure with its reason and what to do next.

    Args:
        loads: What the run did, in its order.
        seconds: How long the run took; None leaves it out.
        width: Cells of a line; None means the width of the terminal, or 80. Commands are never cut.
        hints: How to name the commands that help.
        blocks: What blocks loads at the end of the run (`LoadMemory.blocks`); without it, hints about blocked loads name no file.
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
            lines += describe_trouble(load, width=width, hints=hints, block=block_of(load, blocks))
    if any(load.state in OPEN for load in loads):
        lines.append(f"to finish the run: {hints.load(continues=True)}")
    return lines


def block_of(load: RunLoad, blocks: Sequence[BlockRow]) -> BlockRow | None:
    """Return the oldest of these blocks that is about a load; None if there is none."""
    key = (load.load, load.table.casefold())
    return next((block for block in blocks if (block.load, block.table.casefold()) == key), None)


def _cells(load: RunLoad, *, with_generation: bool) -> tuple[str, ...]:
    name = f"{load_name(load)}{f' {load.generation}' if with_generation and load.generation else ''}"
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
    states = [f"{counts[state]:,} {STATES[state]}" for state in (*_WELL, *TROUBLE, *OPEN) if counts[state]]
    late = sum(load.is_late for load in loads)
    states += [f"{late:,} late"] if late else []
    rejected = sum(load.rejected for load in loads)
    totals = [format_rows(sum(load.rows for load in loads))]
    totals += [f"{rejected:,} rejected"] if rejected else []
    totals += [format_seconds(seconds)] if seconds is not None else []
    return f"{format_count(len(loads), 'load')}: {', '.join(states)}; {', '.join(totals)}"


def describe_trouble(load: RunLoad, *, width: int, hints: Hints = PLAIN, block: BlockRow | None = None) -> list[str]:
    """Describe in lines why a load did not end well and what to do next."""
    generation = f" {load.generation}" if load.generation else ""
    reason = load.reason or "no reason is recorded"
    text = f"{STATES[load.state]}  {load_name(load)}{generation}: {reason}"
    return [
        *wrapped(text, width, "    ", first=""),
        *(f"    -> {why}: {command}" for why, command in next_steps(load, hints, block)),
    ]


def next_steps(  # noqa: PLR0911 - one case for each state
    load: RunLoad, hints: Hints = PLAIN, block: BlockRow | None = None
) -> list[tuple[str, str]]:
    """Return what to do about a load that did not end well, as (when or why, command); empty if it ended well.

    Args:
        load: The load.
        hints: How to name the commands.
        block: What blocks the load; None if that is not known.
    """
    name = load_name(load)
    match load.state:
        case "failed" | "skipped" if load.exit_code == _TEMPORARY:
            return [("try again", hints.load(name))]
        case "failed":
            seen = [("see what happened", hints.show(load.push_id))] if load.push_id else []
            return [*seen, ("when it is fixed", hints.load(name))]
        case "unknown":
            return _resolving(load.push_id, hints)
        case "blocked" if block is not None and block.kind == "unknown":
            return _resolving(block.push_id, hints)
        case "blocked":
            file = "FILE" if block is None else block.path
            return [("when the failed file is right", hints.load(name)), ("or leave it out", hints.skip(name, file))]
        case "missing":
            retired = [("if it is not expected any more", hints.retire(name))] if load.table else []
            return [("when its file is there", hints.load(name)), *retired]
        case "planned" | "running":
            return [("finish the run", hints.load(continues=True))]
    return []


def _resolving(push_id: str, hints: Hints) -> list[tuple[str, str]]:
    return [
        ("find out whether the rows arrived", hints.show(push_id)),
        ("if they did", hints.resolve(push_id, is_loaded=True)),
        ("if not", hints.resolve(push_id, is_loaded=False)),
    ]
