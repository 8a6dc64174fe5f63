"""What a run intends: the files that are there, what is new among them for each load, and what is missing."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from pushengine.config.loads.resolved import Loads, LoadSettings, Rule
from pushengine.errors import ConfigError
from pushengine.journal.loads import BlockRow, FileRow, LoadedTable, LoadMemory, RunLoad, RunState
from pushengine.loads.files.choice import Choice, choose
from pushengine.loads.files.control import with_control
from pushengine.loads.files.discovery import Discovery, discover, find_conflicts, unclaimed
from pushengine.loads.files.record import LeftOut
from pushengine.loads.items import Item, load_id_of
from pushengine.loads.obstacles import goes_where
from pushengine.loads.outcome import EXIT_FAILED, Judge
from pushengine.loads.selection import Selection
from pushengine.model import FileRef
from pushengine.runtime.runtime import Runtime
from pushengine.text import format_count, name_key, shown_some

T = TypeVar("T")
_PIECE_BYTES = 1024 * 1024
_SHOWN_FILES = 3


class Read(Protocol):
    """Reads what is remembered of loads, as `EngineHost.read` does."""

    def __call__(self, call: Callable[[LoadMemory], T], /) -> Awaitable[T]:
        """Run a call on the journal's thread."""
        ...


@dataclasses.dataclass(slots=True)
class Plan:
    """What a run intends.

    Attributes:
        items: The items in their order: those to push, and those that are over already, such as missing ones.
        seen: What to remember of files, each with what was remembered when the run was planned.
        loaded_at: When each load was last done, seconds UTC.
        notes: What people should know of the files.
    """

    items: list[Item] = dataclasses.field(default_factory=list)
    seen: list[tuple[FileRow, FileRow | None]] = dataclasses.field(default_factory=list)
    loaded_at: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    def store(self, memory: LoadMemory) -> None:
        """Remember the files that were seen, except those of which another process has recorded something since."""
        by_load: dict[tuple[str, str], list[tuple[FileRow, FileRow | None]]] = {}
        for row, before in self.seen:
            by_load.setdefault((row.load, row.table), []).append((row, before))
        for load, rows in by_load.items():
            now = {row.path: row for row in memory.files(*load, [row.path for row, _ in rows])}
            for row, before in rows:
                if now.get(row.path) == before:
                    memory.put_file(row)

    @property
    def pushes(self) -> list[Item]:
        """The items that are to be pushed."""
        return [item for item in self.items if item.row.state == "planned"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Memory:
    """What is remembered of the selected rules."""

    files: Mapping[tuple[str, str], list[FileRow]]
    blocks: Mapping[tuple[str, str], list[BlockRow]]
    tables: Mapping[tuple[str, str], LoadedTable]

    @classmethod
    def of(cls, memory: LoadMemory, rules: Iterable[str]) -> _Memory:
        files: dict[tuple[str, str], list[FileRow]] = {}
        blocks: dict[tuple[str, str], list[BlockRow]] = {}
        tables: dict[tuple[str, str], LoadedTable] = {}
        for rule in rules:
            for row in memory.files(rule):
                files.setdefault((rule, name_key(row.table)), []).append(row)
            for block in memory.blocks(rule):
                blocks.setdefault((rule, name_key(block.table)), []).append(block)
            for table in memory.tables(rule):
                tables[rule, name_key(table.table)] = table
        return cls(files, blocks, tables)


class Planner:
    """Plans the runs of the selected loads.

    Args:
        loads: The loads of the config file.
        selection: Those that are selected.
        runtime: Files and threads.
        judge: Describes failures.
    """

    def __init__(self, loads: Loads, selection: Selection, runtime: Runtime, judge: Judge) -> None:
        self._loads = loads
        self._selection = selection
        self._runtime = runtime
        self._judge = judge

    async def plan(self, read: Read, run_id: str, now: float) -> Plan:
        """Find what is new.

        Args:
            read: Reads what is remembered of loads.
            run_id: Id of the run, for its load ids.
            now: The current time, seconds UTC.

        Raises:
            ConfigError: Two rules claim one table, or a name selects no load.
        """
        found = await self._discover()
        conflicts = {
            (rule, name_key(table)): one.message
            for one in find_conflicts(found.values(), self._connections())
            for rule, table in one.loads
        }
        rules = self._selection.rules
        memory = await read(lambda one: _Memory.of(one, [rule.name for rule in rules]))
        plan = Plan(loaded_at={key: table.loaded_at for key, table in memory.tables.items()})
        if files := unclaimed(found[rule.name] for rule in rules):
            names = shown_some([file.name for file in files], _SHOWN_FILES)
            plan.notes.append(f"no load takes {format_count(len(files), 'file')} beside the others: {names}")
        for rule in rules:
            await self._plan_rule(plan, rule, found[rule.name], memory, conflicts, now)
        if unmatched := self._selection.unmatched([(item.row.load, item.row.table) for item in plan.items]):
            raise ConfigError(
                f"no load {unmatched[0]}: its rule has found no such table",
                key="NAME",
                hint=f"`pushengine load {unmatched[0].partition('.')[0]} --dry-run` lists what was found",
            )
        _number(plan.items, run_id)
        return plan

    async def plan_rest(self, left: Sequence[RunLoad], read: Read, run_id: str, now: float) -> Plan:
        """Plan what is left of a run, with the files that were recorded.

        The files of loads that were missing, or that have lost a file since, are searched again.

        Args:
            left: What is left, in its order.
            read: Reads what is remembered of loads.
            run_id: Id of the run.
            now: The current time, seconds UTC.

        Raises:
            ConfigError: Two rules claim one table.
        """
        rules = {rule.name: rule for rule in self._loads.rules}
        plan = Plan()
        searched: set[tuple[str, str]] = set()
        for row in left:
            rule = rules.get(row.load)
            if rule is None:
                plan.items.append(
                    Item(dataclasses.replace(row, state="failed", reason="the config file has no such load"))
                )
                continue
            files = await self._runtime.off_loop(self._listed, row.files)
            if row.state == "missing" or files is None or not row.files:
                searched.add((row.load, name_key(row.table)))
                continue
            item = Item(
                dataclasses.replace(row, state="planned", reason="", exit_code=0), rule.settings_for(row.table), files
            )
            plan.items.append(item)
        if searched:
            self._add_found(plan, await self.plan(read, run_id, now), searched, left)
        tables = await read(lambda memory: memory.tables())
        plan.loaded_at = {(table.load, name_key(table.table)): table.loaded_at for table in tables}
        return plan

    @staticmethod
    def _add_found(plan: Plan, found: Plan, searched: Collection[tuple[str, str]], left: Sequence[RunLoad]) -> None:
        """Add what is found now of the loads whose files are searched again."""
        numbers = {(row.load, name_key(row.table)): row.number for row in left}
        chosen = [item for item in found.items if (item.row.load, name_key(item.row.table)) in searched]
        for item in chosen:
            item.update(number=numbers[item.row.load, name_key(item.row.table)])
        plan.items = [item for item in plan.items if (item.row.load, name_key(item.row.table)) not in searched] + chosen
        plan.seen += found.seen

    def _listed(self, paths: Sequence[str]) -> tuple[FileRef, ...] | None:
        """Return files as they are now; None if one is gone. Blocking."""
        found = [self._runtime.filesystem.list(glob.escape(path)) for path in paths]
        return tuple(files[0] for files in found) if all(len(files) == 1 for files in found) else None

    async def _discover(self) -> dict[str, Discovery]:
        """Return what each rule finds: also those that are not selected, since they may claim the same tables."""
        return {
            rule.name: await self._runtime.off_loop(discover, rule, self._runtime.filesystem)
            for rule in self._loads.rules
        }

    def _connections(self) -> dict[str, tuple[str, str, str | None]]:
        """Return for each target its team, pool and data connection."""
        return {
            name: (target.url, target.pool_id, target.connection_id) for name, target in self._loads.targets.items()
        }

    async def _plan_rule(  # noqa: PLR0917 - all of it is known of a rule
        self,
        plan: Plan,
        rule: Rule,
        found: Discovery,
        memory: _Memory,
        conflicts: Mapping[tuple[str, str], str],
        now: float,
    ) -> None:
        tables = {name_key(table.name): table for table in found.tables}
        expected = {key: table for (name, key), table in memory.tables.items() if name == rule.name}
        named = {name_key(name): name for name in (*rule.overrides, *([rule.table] if rule.table else []))}
        if found.error is not None and self._selection.is_whole and not expected:
            reason = self._judge(found.error).reason
            row = RunLoad(load=rule.name, table=rule.table or "", state="failed", reason=reason, exit_code=EXIT_FAILED)
            plan.items.append(Item(row))
            return
        for key in dict.fromkeys((*tables, *expected, *named)):
            table = tables[key].name if key in tables else expected[key].table if key in expected else named[key]
            if not self._selection.has(rule.name, table):
                continue
            settings = rule.settings_for(table)
            if message := conflicts.get((rule.name, key)):
                row = RunLoad(load=rule.name, table=table, state="failed", reason=message, exit_code=EXIT_FAILED)
                plan.items.append(Item(row, settings))
                continue
            here = tables.get(key)
            if here is not None and settings.control is not None:
                try:
                    here = await self._runtime.off_loop(
                        with_control, settings, here, rule.sources, self._runtime.filesystem
                    )
                except ValueError as error:
                    row = _row(settings, "failed", reason=f"control: {error}")
                    plan.items.append(Item(row, settings))
                    continue
            pool_id, loaded = self._loads.targets[settings.target].pool_id, expected.get(key)
            rows = memory.files.get((rule.name, key), [])
            known = rows
            if loaded is not None and pool_id and not goes_where(settings, pool_id, loaded):
                known, loaded = [], None  # what another pool or connection holds is not in this one
            choice = await choose(
                settings,
                here,
                known,
                memory.blocks.get((rule.name, key), ()),
                loaded,
                hasher=self._sha256_of,
                now=now,
                is_expected=key in named,
            )
            before = {row.path: row for row in rows}
            plan.seen += [(row, before.get(row.path)) for row in choice.rows]
            plan.items += self._items_of(settings, choice)

    def _items_of(self, settings: LoadSettings, choice: Choice) -> list[Item]:
        """Return an item for each push, and for each generation that is left out."""
        if choice.error is not None:
            return [Item(_row(settings, "failed", reason=self._judge(choice.error).reason), settings)]
        items = [
            Item(
                dataclasses.replace(
                    _row(settings, "planned", generation=push.generation, files=push.files),
                    expected_rows=push.expected_rows,
                ),
                settings,
                push.files,
            )
            for push in choice.pushes
        ]
        left_out: tuple[tuple[RunState, Sequence[LeftOut]], ...] = (
            ("failed", choice.refused),
            ("blocked", choice.blocked),
            ("skipped", choice.skipped),
        )
        taken = {item.row.generation for item in items}
        for state, group in left_out:
            by_generation: dict[str, list[LeftOut]] = {}
            for one in group:
                by_generation.setdefault(one.generation, []).append(one)
            if state == "skipped" and (items or choice.missing):  # what is new or wrong says enough
                continue
            for generation, ones in by_generation.items():
                files = tuple(file for one in ones for file in one.files)
                reason = "; ".join(dict.fromkeys(one.reason for one in ones))
                key = generation if generation not in taken else f"{generation} ({state})".strip()
                items.append(Item(_row(settings, state, generation=key, reason=reason, files=files), settings))
                taken.add(key)
        if choice.missing:
            items.append(Item(_row(settings, "missing", generation=_free("", taken), reason=choice.missing), settings))
        return items or [Item(_row(settings, "skipped", reason="nothing new"), settings)]

    async def _sha256_of(self, file: FileRef) -> str:
        """Return the SHA-256 of the content of a file."""

        def hashed() -> str:
            digest = hashlib.sha256()
            with self._runtime.filesystem.open(file) as opened:
                while piece := opened.read(_PIECE_BYTES):
                    digest.update(piece)
            return digest.hexdigest()

        return await self._runtime.off_loop(hashed)


def _row(
    settings: LoadSettings,
    state: RunState,
    *,
    generation: str = "",
    reason: str = "",
    files: Sequence[FileRef] = (),
) -> RunLoad:
    return RunLoad(
        load=settings.rule,
        table=settings.table,
        generation=generation,
        state=state,
        reason=reason,
        files=tuple(file.uri for file in files),
        exit_code=0 if state in ("planned", "skipped") else EXIT_FAILED,
    )


def _free(key: str, taken: Collection[str]) -> str:
    """Return a key that no other item of the load has."""
    return key if key not in taken else "(missing)"


def _number(items: Sequence[Item], run_id: str) -> None:
    for number, item in enumerate(items):
        item.update(number=number)
        if item.row.state == "planned":
            item.update(load_id=load_id_of(item.claim(run_id)))
