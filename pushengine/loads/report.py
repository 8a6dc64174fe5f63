"""What the runs of loads did since a point in time: the night in one look.

A load counts as its newest run left it: what failed at two and was done at three is done. Rows, sizes and durations are those of all runs
since then. Nights go from noon to noon, so that one that begins before midnight is one night.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import fnmatch
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pushengine.journal.loads import BlockRow, LoadedTable, Run, RunLoad
from pushengine.loads.states import DONE, OPEN, TROUBLE, is_trouble, trouble_first, worst

NIGHTS = 14
"""How many nights the chart of a load shows."""
_HALF_DAY = dt.timedelta(hours=12)
_DAY_SECONDS = 86_400.0
_TOLERANCE = 1.1
EXIT_TROUBLE = 3

Key = tuple[str, str]
"""Rule and table, the table case-folded."""


class RunMemory(Protocol):
    """What is read of the journal; `journal.loads.LoadMemory` has it."""

    def runs(self, *, since: float = 0.0, limit: int = -1) -> list[Run]:
        """Return the runs that started at or after `since` (seconds UTC), newest first."""
        ...

    def run_loads(self, run_id: str) -> list[RunLoad]:
        """Return what a run did, in its order."""
        ...

    def tables(self, load: str | None = None) -> list[LoadedTable]:
        """Return the tables that are expected."""
        ...

    def blocks(self, load: str | None = None, table: str | None = None) -> list[BlockRow]:
        """Return what blocks loads."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Night:
    """What a load did in one night.

    Attributes:
        begins: The day on which the night begins, in local time.
        rows: Rows loaded; None if the load did not run.
        seconds: How long its pushes took.
        has_failed: Whether the night ended with a failure.
    """

    begins: dt.date
    rows: int | None = None
    seconds: float = 0.0
    has_failed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class LoadReport:
    """One load in a report.

    Attributes:
        load: Its state, reason and push as the newest run left them; rows, rejected rows, bytes of all runs.
        seconds: How long its pushes took, in all runs.
        runs: In how many runs it was.
        failures: How many earlier runs it failed in.
        is_cut_off: Whether its run ended before the load did.
        nights: The latest nights, oldest first.
        block: What blocks it; None if nothing does.
    """

    load: RunLoad
    seconds: float = 0.0
    runs: int = 1
    failures: int = 0
    is_cut_off: bool = False
    nights: tuple[Night, ...] = ()
    block: BlockRow | None = None

    @property
    def is_trouble(self) -> bool:
        """Whether a person has to look at it: as `states.is_trouble`, or it is late or was cut off."""
        return is_trouble(self.load) or self.load.is_late or self.is_cut_off


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What the runs of loads did.

    Attributes:
        since: Beginning of the report, in local time.
        until: End of the report: now, in local time.
        runs: The runs, oldest first.
        working: Ids of the runs that a process works on now.
        loads: The loads; those that a person has to look at come first, the most urgent of them at the top.
        resting: Tables that are expected but were in no run, as may be: they run less often.
    """

    since: dt.datetime
    until: dt.datetime
    runs: tuple[Run, ...] = ()
    working: tuple[str, ...] = ()
    loads: tuple[LoadReport, ...] = ()
    resting: tuple[LoadedTable, ...] = ()

    @property
    def troubles(self) -> tuple[LoadReport, ...]:
        """The loads that a person has to look at."""
        return tuple(entry for entry in self.loads if entry.is_trouble)

    @property
    def exit_code(self) -> int:
        """0 if all is well; 3 if something failed, is missing, blocked, late or was cut off, or if nothing ran."""
        return EXIT_TROUBLE if self.troubles or not self.runs else 0


def make_report(
    memory: RunMemory,
    *,
    since: dt.datetime,
    until: dt.datetime,
    names: Sequence[str] = (),
    is_working: Callable[[Run], bool] = lambda _run: False,
) -> Report:
    """Return what the runs did between two times.

    Args:
        memory: The journal's memory of loads.
        since: Beginning, in local time (aware).
        until: End: now, in local time (aware).
        names: The loads to report on: `RULE`, `RULE.TABLE` or patterns of these; empty for all.
        is_working: Whether a process works on a run that has not ended.
    """
    begins = since.timestamp()
    earliest = min(begins, until.timestamp() - (NIGHTS + 1) * _DAY_SECONDS)
    done = []
    for run in sorted(memory.runs(since=earliest), key=lambda run: run.started_at):
        loads = [load for load in memory.run_loads(run.run_id) if _is_selected(load.load, load.table, names)]
        done += [(run, loads)] if loads or not names else []
    recent = [(run, loads) for run, loads in done if run.started_at >= begins]
    working = tuple(run.run_id for run, _ in recent if run.ended_at is None and is_working(run))
    every = _by_load(done)
    blocks = {
        (block.load, block.table.casefold()): block
        for block in reversed(memory.blocks())  # the oldest one of a load counts
        if _is_selected(block.load, block.table, names)
    }
    entries = {key: _load_report(runs, frozenset(working)) for key, runs in _by_load(recent).items()}
    resting = []
    for table in memory.tables():
        key = (table.load, table.table.casefold())
        if key in entries or not _is_selected(table.load, table.table, names):
            continue
        overdue = _overdue(table, [run.started_at for run, _ in every.get(key, ())], until)
        if overdue is None:
            resting.append(table)
        else:
            entries[key] = LoadReport(overdue, runs=0)
    for key, block in blocks.items():
        entry = entries.get(key)
        if entry is None or not entry.is_trouble:
            entries[key] = LoadReport(_blocked(block, entry), runs=0)
    full = [
        dataclasses.replace(entry, nights=_nights(every.get(key, ()), until), block=blocks.get(key))
        for key, entry in entries.items()
    ]
    return Report(since, until, tuple(run for run, _ in recent), working, _ordered(full), tuple(resting))


def known_names(memory: RunMemory) -> set[Key]:
    """Return (rule, table) of all loads that the journal has ever seen run or loaded."""
    found = {(table.load, table.table) for table in memory.tables()}
    for run in memory.runs():
        found.update((load.load, load.table) for load in memory.run_loads(run.run_id))
    return found


def matches(rule: str, table: str, name: str) -> bool:
    """Whether a name or pattern stands for a load: `sap`, `sap.VBAP`, `sap.VB*`. Letter case does not matter."""
    return any(fnmatch.fnmatchcase(text.casefold(), name.casefold()) for text in (rule, f"{rule}.{table}"))


def _is_selected(rule: str, table: str, names: Sequence[str]) -> bool:
    return not names or any(matches(rule, table, name) for name in names)


def _key(load: RunLoad) -> Key:
    return (load.load, load.table.casefold())


def _by_load(runs: Sequence[tuple[Run, list[RunLoad]]]) -> dict[Key, list[tuple[Run, list[RunLoad]]]]:
    """Return for each load the runs that it was in, with its rows in each."""
    found: dict[Key, list[tuple[Run, list[RunLoad]]]] = {}
    for run, loads in runs:
        for key, group in itertools.groupby(sorted(loads, key=_key), key=_key):
            found.setdefault(key, []).append((run, list(group)))
    return found


def _load_report(runs: Sequence[tuple[Run, list[RunLoad]]], working: frozenset[str]) -> LoadReport:
    # Of two runs at the same time, the one counts that ended later: the other was skipped because of it.
    runs = sorted(runs, key=lambda one: max([one[0].started_at, *(load.ended_at for load in one[1])]))
    run, newest = runs[-1]
    every = [load for _, loads in runs for load in loads]
    chosen = worst(newest)
    total = dataclasses.replace(
        chosen,
        rows=sum(load.rows for load in every if load.state in DONE),
        rejected=sum(load.rejected for load in every),
        source_bytes=sum(load.source_bytes for load in every),
        payload_bytes=sum(load.payload_bytes for load in every),
        is_late=any(load.is_late for load in newest),
    )
    return LoadReport(
        load=total,
        seconds=_seconds(every),
        runs=len(runs),
        failures=sum(any(map(is_trouble, loads)) for _, loads in runs[:-1]),
        is_cut_off=run.run_id not in working and any(load.state in OPEN for load in newest),
    )


def _seconds(loads: Sequence[RunLoad]) -> float:
    return sum(max(load.ended_at - load.started_at, 0.0) for load in loads if load.started_at)


def _ordered(entries: Iterable[LoadReport]) -> tuple[LoadReport, ...]:
    """Return those first that a person has to look at: by state, then those that are only late or cut off, then all others by name."""
    by_name = sorted(entries, key=lambda entry: (entry.load.load, entry.load.table))
    place = {id(load): number for number, load in enumerate(trouble_first(entry.load for entry in by_name))}
    return tuple(
        sorted(by_name, key=lambda entry: (not is_trouble(entry.load), not entry.is_trouble, place[id(entry.load)]))
    )


def _blocked(block: BlockRow, entry: LoadReport | None) -> RunLoad:
    """Return the state of a load that was in no run, or ended well in the newest, and is blocked nevertheless."""
    load = RunLoad(load=block.load, table=block.table) if entry is None else entry.load
    return dataclasses.replace(
        load, state="blocked", reason=block.reason, push_id=block.push_id, exit_code=EXIT_TROUBLE
    )


def _overdue(table: LoadedTable, started: Sequence[float], until: dt.datetime) -> RunLoad | None:
    """Return the state of a table that no run has looked for, if it usually runs more often than that; None if it may be so.

    `started` holds when the runs with it began in the last nights (seconds UTC), oldest first. The longest time between two of them counts:
    what runs from Monday to Friday is not overdue on Sunday.
    """
    gaps = [after - before for before, after in itertools.pairwise(started)]
    if not gaps or until.timestamp() - started[-1] <= max(gaps) * _TOLERANCE:
        return None
    last = dt.datetime.fromtimestamp(started[-1], until.tzinfo)
    reason = f"no run has looked for it since {last:%Y-%m-%d %H:%M}; before, at most {_in_words(max(gaps))} passed between two runs"
    return RunLoad(load=table.load, table=table.table, state="missing", reason=reason, exit_code=EXIT_TROUBLE)


def _in_words(seconds: float) -> str:
    hours = max(round(seconds / 3600.0), 1)
    return f"{hours} h" if hours < 48 else f"{round(seconds / _DAY_SECONDS)} days"  # noqa: PLR2004 - two days


# --- Nights


def _night_of(at: float, timezone: dt.tzinfo | None) -> dt.date:
    return (dt.datetime.fromtimestamp(at, timezone) - _HALF_DAY).date()


def _nights(runs: Sequence[tuple[Run, list[RunLoad]]], until: dt.datetime) -> tuple[Night, ...]:
    """Return the latest nights of a load, from its rows in each run."""
    known: dict[dt.date, Night] = {}
    for run, loads in runs:
        begins = _night_of(run.started_at, until.tzinfo)
        before = known.get(begins, Night(begins))
        known[begins] = Night(
            begins,
            rows=(before.rows or 0) + sum(load.rows for load in loads if load.state in DONE),
            seconds=before.seconds + _seconds(loads),
            has_failed=any(load.state in TROUBLE for load in loads),
        )
    last = _night_of(until.timestamp(), until.tzinfo)
    days = [last - dt.timedelta(days=back) for back in range(NIGHTS - 1, -1, -1)]
    return tuple(known.get(day, Night(day)) for day in days)
