"""One run of loads: settle what earlier runs left, plan, push, and record what became of each load.

    1. Open pushes of the loads that may have been submitted are brought to their end.
    2. The rules are matched with the files that are there, and each load decides what is new (`planning.py`).
    3. The run is recorded with all that it intends, before the first push.
    4. Each load pushes its generations in their order (`execution.py`), as many loads at once as there are slots. A failure ends no other
       load.

A run that was killed is finished by the same steps, with the files as recorded (`LoadRun.continue_run`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from pushengine.config.loads.resolved import Loads, LoadSettings
from pushengine.errors import EngineClosedError
from pushengine.host import EngineHost
from pushengine.journal.loads import FileRow, LoadMemory, Run, RunLoad
from pushengine.journal.store import JournalFile
from pushengine.loads.execution import LoadExecution, Means, Targets, due_at, team_of
from pushengine.loads.files.cleanup import clean_up
from pushengine.loads.forecast import Forecast, forecast
from pushengine.loads.items import Item, RunListener
from pushengine.loads.lanes import Lanes
from pushengine.loads.outcome import EXIT_TEMPORARY, Judge, RunResult, exit_code_of
from pushengine.loads.planning import Plan, Planner, Read
from pushengine.loads.selection import Selection
from pushengine.loads.settling import OpenPush, adopt, end_submitted, find_open
from pushengine.model import QuotaStatus
from pushengine.runtime.runtime import Runtime
from pushengine.text import name_key, utc

T = TypeVar("T")


class LoadRun:
    """Runs the selected loads of a config file.

    Args:
        host: Journal, quota, memory and connections; it is open.
        loads: The loads of the config file.
        selection: Those to run.
        listener: Is told what happens.
        judge: Describes failures.
        parallel: How many loads read or upload at once; None means as the config file says.
    """

    def __init__(
        self,
        host: EngineHost,
        loads: Loads,
        selection: Selection,
        *,
        listener: RunListener,
        judge: Judge,
        parallel: int | None = None,
    ) -> None:
        self._host = host
        self._loads = loads
        self._selection = selection
        self._listener = listener
        self._judge = judge
        self._parallel = parallel or loads.parallel
        self._targets = Targets(host, loads)
        self._planner = Planner(loads, selection, host.runtime, judge)

    async def run(self) -> RunResult:
        """Start a run and carry it out.

        Returns:
            What became of each load. If the host drains meanwhile, what is not done is planned or running still.

        Raises:
            EngineClosedError: The host drains before the run is recorded; nothing was pushed.
            ConfigError: Two rules claim one table, or a target cannot be used; nothing was pushed.
            JournalError: The journal cannot be used.
        """
        run = Run(
            run_id=self._host.new_id(),
            started_at=self._host.runtime.clock.now(),
            names=self._selection.names,
            tag=self._selection.tag,
            pid=os.getpid(),
        )
        async with self._host.working_on(run.run_id):
            unsubmitted = await self._settle(run)
            plan = await self._host.guard(self._planner.plan(self._read, run.run_id, run.started_at))
            means = self._means(run, plan)
            await adopt(means, unsubmitted, plan.pushes)

            def begin(memory: LoadMemory) -> None:
                plan.store(memory)
                memory.begin_run(run, [item.row for item in plan.items])

            await self._write(begin)
            for note in plan.notes:
                self._listener.note(note)
            return await self._carry_out(means, run, plan.items)

    async def continue_run(self) -> RunResult | None:
        """Finish the newest unfinished run over the selected loads; return None if there is none.

        Files are those that were recorded. Those of loads that were missing, or whose files are gone, are searched again. Settings are
        those of today.

        Raises:
            ConfigError, JournalError: As for `run`.
            JournalLockedError: Another process works on it.
        """
        unfinished = await self._read(self._newest_unfinished)
        if unfinished is None:
            return None
        run, names = unfinished
        async with self._host.working_on(run.run_id):
            return await self._finish(run, names)

    async def _finish(self, run: Run, names: set[tuple[str, str]]) -> RunResult:
        run_id = run.run_id
        unsubmitted = await self._settle(run)
        rows = [row for row in await self._read(lambda memory: memory.run_loads(run_id)) if self._has(row)]
        left = [row for row in rows if _is_left(row) and _name(row) in names]
        now = self._host.runtime.clock.now()
        plan = await self._host.guard(self._planner.plan_rest(left, self._read, run_id, now))
        over, dropped = _merge(plan, rows, left)
        means = self._means(run, plan)
        await adopt(means, unsubmitted, plan.pushes)

        def take(memory: LoadMemory) -> None:
            plan.store(memory)
            memory.take_run(run_id, os.getpid())
            for row in dropped:  # what was missing has another generation once it is found
                memory.drop_load(run_id, row)
            for item in (*over, *plan.items):
                memory.set_load(run_id, item.row)

        await self._write(take)
        return await self._carry_out(means, run, sorted([*over, *plan.items], key=lambda item: item.row.number))

    # --- Before the pushes

    async def _settle(self, run: Run) -> list[OpenPush]:
        """Bring the submitted pushes of the loads to their end; return the open ones that were not submitted."""
        found = await self._host.read(lambda file: find_open(file, self._selection.has))
        return await end_submitted(self._means(run, Plan()), found)

    def _newest_unfinished(self, memory: LoadMemory) -> tuple[Run, set[tuple[str, str]]] | None:
        """Return the newest run with something left of the selected loads, and which: those that no later run was about."""
        later: set[tuple[str, str]] = set()
        for run in memory.runs():
            rows = [row for row in memory.run_loads(run.run_id) if self._has(row)]
            if left := {_name(row) for row in rows if _is_left(row)} - later:
                return run, left
            later.update(_name(row) for row in rows)
        return None

    def _has(self, row: RunLoad) -> bool:
        return self._selection.has(row.load, row.table)

    async def _forecast(self, items: Sequence[Item]) -> Forecast | None:
        """Return what is to be expected of the items; None if nothing is to be pushed."""

        async def quota_of(team: str) -> QuotaStatus:
            status = await self._host.quota(team)
            self._listener.quota(status)
            return status

        now = self._host.runtime.clock.now()
        return await expect(items, self._loads, quota_of, self._read, now=now, parallel=self._parallel)

    def _means(self, run: Run, plan: Plan) -> Means:
        def due(settings: LoadSettings) -> float | None:
            loaded_at = plan.loaded_at.get((settings.rule, name_key(settings.table)))
            return due_at(settings, run.started_at, loaded_at)

        return Means(
            run_id=run.run_id,
            host=self._host,
            targets=self._targets,
            lanes=Lanes(self._parallel),
            listener=self._listener,
            judge=self._judge,
            due=due,
        )

    # --- The pushes

    async def _carry_out(self, means: Means, run: Run, items: Sequence[Item]) -> RunResult:
        expected = await self._forecast(items)
        self._listener.planned(items, expected)
        by_load: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            if item.row.state == "planned":
                by_load.setdefault((item.row.load, name_key(item.row.table)), []).append(item)
            else:
                self._listener.ended(item)
        executions = [LoadExecution(means, group) for group in by_load.values()]
        is_interrupted = False
        for outcome in await asyncio.gather(*(one.run() for one in executions), return_exceptions=True):
            if isinstance(outcome, EngineClosedError):
                is_interrupted = True
            elif outcome is not None:
                raise outcome
        names = {item.row.load for item in items}
        blocks = await self._read(lambda memory: [one for one in memory.blocks() if one.load in names])
        result = RunResult(run, tuple(items), expected, tuple(blocks))
        if not is_interrupted:
            await self._clean_up(means, items)
            now, code = self._host.runtime.clock.now(), exit_code_of(result.loads)
            await self._write(lambda memory: memory.end_run(run.run_id, now, code))
        return result

    async def _clean_up(self, means: Means, items: Iterable[Item]) -> None:
        """Move or delete the files that the loads have loaded, and finish what a killed run began."""
        for settings in {item.settings.name: item.settings for item in items if item.settings is not None}.values():
            rows = await self._read(functools.partial(_files_of, settings))
            for cleaned in await clean_up(
                settings,
                rows,
                store=self._store_file,
                off_loop=self._host.runtime.off_loop,
                now=means.now(),
            ):
                if cleaned.problem:
                    means.listener.note(f"{settings.name}: {cleaned.row.path} is left: {cleaned.problem}")

    async def _store_file(self, row: FileRow, former_path: str) -> None:
        def store(memory: LoadMemory) -> None:
            if row.path != former_path:
                memory.delete_file(row.load, row.table, former_path)
            memory.put_file(row)

        await self._write(store)

    async def _read(self, call: Callable[[LoadMemory], T]) -> T:
        return await self._host.read(lambda file: call(file.loads))

    async def _write(self, call: Callable[[LoadMemory], T]) -> T:
        def write(file: JournalFile) -> T:
            return call(file.loads)

        return await self._host.write(write)


def _name(row: RunLoad) -> tuple[str, str]:
    return row.load, name_key(row.table)


def _key(row: RunLoad) -> tuple[str, str, str]:
    return (*_name(row), row.generation)


def _is_left(row: RunLoad) -> bool:
    """Whether something is left to do: it is not over, failed only for the moment, or its files were missing."""
    is_temporary = row.state in ("failed", "skipped", "blocked") and row.exit_code == EXIT_TEMPORARY
    return row.state in ("planned", "running", "missing") or is_temporary


def _merge(plan: Plan, rows: Sequence[RunLoad], left: Sequence[RunLoad]) -> tuple[list[Item], list[RunLoad]]:
    """Fit what is planned now into a run that goes on.

    Args:
        plan: Its items are changed.
        rows: What the run did and intended.
        left: Those of the rows that were planned again.

    Returns:
        What is over, and the rows in whose place other files were found.
    """
    before = {_key(row): row for row in rows}
    planned_again = {_key(row) for row in left}
    done = {key for key, row in before.items() if key not in planned_again and row.state in ("done", "rejects")}
    # Whatever else a load has done stays in the run.
    plan.items = [item for item in plan.items if item.row.state == "planned" or _key(item.row) not in done]
    for item in plan.items:
        if _key(item.row) in done:  # other files that came since: another push, and so another load id
            item.update(load_id=f"{item.row.load_id} after {before[_key(item.row)].push_id}")
    again = {_key(item.row) for item in plan.items}
    over, dropped = [], []
    for key, row in before.items():
        if key in again:
            continue
        if key in planned_again:
            dropped.append(row)  # its files were searched again
        elif _is_left(row):
            over.append(Item(_passed(row, "a later run was about it")))
        else:
            over.append(Item(row))
    return over, dropped


def _passed(row: RunLoad, reason: str) -> RunLoad:
    return dataclasses.replace(row, state="skipped", reason=reason, exit_code=0)


def _files_of(settings: LoadSettings, memory: LoadMemory) -> list[FileRow]:
    return memory.files(settings.rule, settings.table)


async def plan_only(
    loads: Loads,
    selection: Selection,
    *,
    runtime: Runtime,
    judge: Judge,
    memory: LoadMemory,
    quota_of: Callable[[str], Awaitable[QuotaStatus]],
    parallel: int | None = None,
) -> RunResult:
    """Return what a run would do now. Does nothing.

    Args:
        loads: The loads of the config file.
        selection: Those to plan.
        runtime: Clock, files and threads.
        judge: Describes failures.
        memory: What is remembered of loads.
        quota_of: Returns the quota of a team.
        parallel: How many loads read or upload at once; None means as the config file says.
    """

    async def read(call: Callable[[LoadMemory], T]) -> T:
        return call(memory)

    now = runtime.clock.now()
    plan = await Planner(loads, selection, runtime, judge).plan(read, "", now)
    run = Run(run_id="", started_at=now, names=selection.names, tag=selection.tag)
    expected = await expect(plan.items, loads, quota_of, read, now=now, parallel=parallel or loads.parallel)
    return RunResult(run, tuple(plan.items), expected, notes=tuple(plan.notes), is_dry=True)


async def expect(
    items: Sequence[Item],
    loads: Loads,
    quota_of: Callable[[str], Awaitable[QuotaStatus]],
    read: Read,
    *,
    now: float,
    parallel: int,
) -> Forecast | None:
    """Return what is to be expected of the items of a run; None if nothing is to be pushed."""
    pushes: dict[str, int] = {}
    for item in items:
        if item.row.state == "planned" and item.settings is not None:
            team = team_of(loads.targets[item.settings.target])
            pushes[team] = pushes.get(team, 0) + 1
    if not pushes:
        return None
    quotas = {team: await quota_of(team) for team in pushes}
    names = {(item.row.load, name_key(item.row.table)) for item in items if item.row.state == "planned"}
    durations = await read(lambda memory: _durations(memory, names))
    return forecast(pushes, quotas, now=utc(now), durations=durations, parallel=parallel)


def _durations(memory: LoadMemory, names: set[tuple[str, str]]) -> list[float]:
    """Return how long the pushes of loads took the last time, seconds."""
    found: dict[tuple[str, str], float] = {}
    for run in memory.runs(limit=_RUNS_LOOKED_AT):
        for row in memory.run_loads(run.run_id):
            name = (row.load, name_key(row.table))
            if name in names and row.state in ("done", "rejects") and row.started_at:
                found.setdefault(name, row.ended_at - row.started_at)
    return list(found.values())


_RUNS_LOOKED_AT = 3
