"""Decides what a load pushes: which files, in which order, and which are left out, and why.

| mode | what is pushed |
|---|---|
| replace | the newest generation, whole, unless that is what the table holds already |
| append | all new files, in one push; a known path with new content is refused as grown |
| upsert, delete | the new files of each generation, in order, one push a generation |

With `pick = "all"`, replace, upsert and delete push what is to be loaded of all generations at once.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from pushengine.config.loads.resolved import LoadSettings
from pushengine.errors import ConfigError, PushEngineError
from pushengine.journal.loads import BlockRow, FileRow, LoadedTable
from pushengine.loads.files.discovery import FoundTable
from pushengine.loads.files.generations import order_of
from pushengine.loads.files.known import Contents, Examined, Hasher, KnownFiles
from pushengine.loads.files.missing import missing_reason
from pushengine.loads.files.record import IntendedPush, LeftOut, Record, Unit, files_of, names_of
from pushengine.model import FileRef
from pushengine.text import format_count


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a load does.

    Attributes:
        pushes: What to push, in order. Where one of an upsert or delete fails, the later ones are blocked.
        skipped: What is left out as it should be: known files, older generations, generations that are not complete yet.
        refused: What a person has to decide on: the load has failed, whatever else it pushes.
        blocked: What waits for a block to be lifted.
        missing: Why the load counts as missing; empty if it does not.
        error: Why nothing can be chosen at all; None if it can.
        rows: What is to be remembered of files now. A row of `pushes` is replaced when its push ends.
    """

    pushes: tuple[IntendedPush, ...] = ()
    skipped: tuple[LeftOut, ...] = ()
    refused: tuple[LeftOut, ...] = ()
    blocked: tuple[LeftOut, ...] = ()
    missing: str = ""
    error: PushEngineError | None = None
    rows: tuple[FileRow, ...] = ()


async def choose(  # noqa: D417 - `settings` says it
    settings: LoadSettings,
    found: FoundTable | None,
    rows: Sequence[FileRow],
    blocks: Sequence[BlockRow],
    loaded: LoadedTable | None,
    *,
    hasher: Hasher,
    now: float,
    is_expected: bool = False,
) -> Choice:
    """Decide what a load pushes.

    Args:
        found: Its files; None if it has none.
        rows: What is remembered of its files.
        blocks: Its blocks.
        loaded: What is remembered of its table; None if the rule never loaded it, or it was retired.
        hasher: Returns the SHA-256 of a file.
        now: Seconds UTC.
        is_expected: Whether the config file names the table.
    """
    known = KnownFiles(settings.rule, settings.table, rows, hasher=hasher, now=now)
    choosing = _Choosing(settings, known, blocks, loaded)
    units = [
        Unit(one, [await known.examine(file, one.key) for file in one.files])
        for one in (found.generations if found is not None else ())
    ]
    for unit in units:
        for one in unit.files:
            choosing.remember(one)
    complete = [
        (unit.generation, [choosing.arrived(one) for one in unit.files])
        for unit in units
        if not choosing.why_held(unit)
    ]
    try:
        await choosing.run(units)
    except PushEngineError as error:
        return Choice(error=error, rows=choosing.rows())
    missing = missing_reason(settings, complete, rows, loaded, now=now, is_expected=is_expected)
    if missing:
        held = [left for left in choosing.skipped if left.is_incomplete]
        missing = "; ".join([missing, *(f"{one.generation or 'what is there'} is {one.reason}" for one in held)])
    return Choice(
        pushes=tuple(choosing.pushes),
        skipped=tuple(choosing.skipped),
        refused=tuple(choosing.refused),
        blocked=tuple(choosing.blocked),
        missing=missing,
        rows=choosing.rows(),
    )


class _Choosing(Record):
    """One decision, while it is made."""

    def __init__(
        self, settings: LoadSettings, known: KnownFiles, blocks: Sequence[BlockRow], loaded: LoadedTable | None
    ) -> None:
        super().__init__(settings, known, blocks)
        self._loaded = loaded
        self._order = None if loaded is None else order_of(loaded.generation)

    async def run(self, units: list[Unit]) -> None:
        """Decide.

        Raises:
            ConfigError: Nothing says in which order to load the files.
        """
        for unit in units:
            if unit.generation.wrong and unit.pending:
                self.refuse(unit, unit.pending, f"{unit.generation.wrong}; mend it")
        units = [unit for unit in units if not unit.generation.wrong]
        if self._settings.mode == "append":
            await self._append(units)
        elif self._settings.mode == "replace":
            await self._replace(units)
        else:
            await self._in_order(units)
        self.skip_all_known()
        self.hold_back()

    def why_held(self, unit: Unit) -> str:
        """Return why a generation may not be loaded yet; empty if it may."""
        if unit.generation.incomplete:
            return unit.generation.incomplete
        # Rows of an append do not depend on each other: a file that is still being written waits alone.
        if unit.generation.unfinished and (self._settings.mode != "append" or not unit.files):
            return (
                f"{names_of(unit.generation.unfinished)} {_is_or_are(unit.generation.unfinished)} still being written"
            )
        return ""

    # --- replace

    async def _replace(self, units: list[Unit]) -> None:
        ready = self._without_held(units)
        if not ready:
            return
        if self._settings.pick == "all":
            unit = _merged(ready)
        else:
            self._require_order(ready)
            unit = ready[-1]
            for other in ready[:-1]:
                self.skip(other, other.pending, f"older than generation {unit.key}")
        unit.files = await self._without_twins(unit, self._without_skipped(unit), Contents(self._known, ()))
        if not unit.files:
            return
        if self._is_older(unit):
            self.skip(unit, unit.files, self._older_than_loaded())
        elif self._is_loaded(unit):
            self.skip(unit, unit.files, f"loaded by push {unit.files[0].row.push_id}")
        elif not self._settings.loads_same_content and (twins := await self._table_content(unit)):
            for one, twin in zip(unit.files, twins, strict=True):
                self.skip_same(unit, one, twin)
        elif gone := self._cleaned_up(unit):
            self.refuse(
                unit,
                unit.files,
                f"generation {unit.key} was loaded with {names_of(gone)}, which cleanup has moved or deleted: these files alone"
                " would replace it; put the others back, or skip these",
            )
        else:
            self.push(unit.key, unit.files, [unit])

    def _without_skipped(self, unit: Unit) -> list[Examined]:
        """Return the files without those that a person has skipped."""
        by_hand = [one for one in unit.files if one.knowledge == "skipped" and not one.row.push_id]
        self.skip(unit, by_hand, "skipped by hand")
        return [one for one in unit.files if one not in by_hand]

    def _is_loaded(self, unit: Unit) -> bool:
        """Whether the files of a generation, all of them, are what the table holds."""
        pushes = {one.row.push_id for one in unit.files}
        if any(one.is_pending for one in unit.files) or len(pushes) != 1:
            return False
        return self._loaded is None or pushes == {self._loaded.push_id}

    async def _table_content(self, unit: Unit) -> list[FileRow]:
        """Return the rows of the last push that have the contents of these files; none if the contents differ."""
        if self._loaded is None:
            return []
        rows = [row for row in self._known.loaded if row.push_id == self._loaded.push_id]
        if collections.Counter(row.size for row in rows) != collections.Counter(one.file.size for one in unit.files):
            return []
        twins = []
        for one in unit.files:
            digest = await self._known.digest(one.file)
            twin = next((row for row in rows if row.sha256 == digest), None)
            if twin is None:
                return []
            rows.remove(twin)
            twins.append(twin)
        return twins

    def _cleaned_up(self, unit: Unit) -> list[FileRow]:
        """Return the files that were loaded as this generation and that a cleanup has removed."""
        if self._settings.cleanup == "leave" or not unit.key or self._settings.pick == "all":
            return []
        here = {one.file.uri for one in unit.files}
        return [row for row in self._known.loaded if row.generation == unit.key and row.path not in here]

    # --- upsert and delete

    async def _in_order(self, units: list[Unit]) -> None:
        pending: list[Unit] = []
        before: list[Examined] = []
        for unit in units:
            if await self._drop_known(unit, before):
                before = before if self._is_older(unit) else unit.files
                pending.append(unit)
            elif unit.generation.unfinished:
                pending.append(unit)
        if self._settings.pick == "all":
            ready = self._without_held(pending)
            pending = [_merged(ready)] if ready else []
        else:
            self._require_order([unit for unit in pending if not self.why_held(unit)])
        waiting = ""
        for unit in pending:
            held = self.why_held(unit)
            if held:
                self._skip_held(unit, held)
                waiting = (
                    waiting or f"generation {unit.key or names_of(unit.generation.unfinished)}, which is not complete"
                )
            elif self._settings.pick != "all" and self._is_older(unit):
                self.refuse(
                    unit, unit.pending, f"{self._older_than_loaded()}: its values would overwrite newer ones; skip it"
                )
            elif waiting:
                self.blocked.append(LeftOut(unit.key, files_of(unit.pending), f"waits for {waiting}"))
            else:
                self.push(unit.key, unit.pending, [unit])

    async def _drop_known(self, unit: Unit, before: Sequence[Examined]) -> bool:
        """Skip the known files of a generation, and those whose content the push before it loads; return whether others are left.

        A content that another one has followed since is loaded again: it sets values back.

        Args:
            unit: The generation.
            before: The files of the pending generation before this one, which are not loaded yet; empty if none is pending.
        """
        self.skip_known(unit)
        unit.files = unit.pending
        if not unit.files:  # nearly all of a folder that keeps its files: what they hold is compared with nothing
            return False
        push_before = "" if before else self._push_before(unit)
        rows = [
            row
            for row in self._known.loaded
            if (unit.key and row.generation == unit.key) or (push_before and row.push_id == push_before)
        ]
        contents = Contents(self._known, rows)
        for one in before:
            contents.add(one)
        unit.files = await self._without_twins(unit, unit.files, contents)
        return bool(unit.files)

    def _push_before(self, unit: Unit) -> str:
        """Return the push that has loaded the generation before this one; empty if none has."""
        if self._loaded is None or self._order is None or unit.generation.order > self._order:
            return self._loaded.push_id if self._loaded is not None else ""
        # A copy of its predecessor may have waited while that one and later files were loaded: in its place it changes nothing.
        orders = [(order, row.push_id) for row in self._known.loaded if (order := order_of(row.generation))]
        return max((one for one in orders if one[0] < unit.generation.order), default=(None, ""))[1]

    # --- append

    async def _append(self, units: list[Unit]) -> None:
        chosen: list[Examined] = []
        contents = Contents(self._known, self._known.loaded)
        newest = ""
        for unit in self._without_held(units):
            self.skip_known(unit)
            for one in unit.pending:
                if self.is_grown(one):
                    self.refuse(
                        unit,
                        [one],
                        "it has grown or was rewritten since it was loaded, and its old rows would load twice; set"
                        ' changed_files = "load" to load it whole, or skip it',
                    )
                elif new := await self._without_twins(unit, [one], contents):
                    chosen += new
                    newest = unit.key
        if chosen:
            self.push(newest, chosen, units)

    # --- What all modes share

    def _require_order(self, units: list[Unit]) -> None:
        """Require that something says which generation comes first.

        Raises:
            ConfigError: Nothing does.
        """
        unordered = [unit for unit in units if not unit.generation.is_ordered]
        if len(units) < 2 or not unordered:  # noqa: PLR2004 - one alone needs no order
            return
        shown = names_of([file for unit in units for file in files_of(unit.files)])
        raise ConfigError(
            f"{self._settings.mode} found {format_count(len(units), 'generation')} ({shown}), and nothing in their names says"
            " which is newer",
            key=f"load.{self._settings.rule}.source",
            hint='put {date:...} or {seq} into source, or set pick = "all" to load them together',
        )

    def _without_held(self, units: Iterable[Unit]) -> list[Unit]:
        ready = []
        for unit in units:
            if held := self.why_held(unit):
                self._skip_held(unit, held)
            else:
                ready.append(unit)
        return ready

    def _skip_held(self, unit: Unit, held: str) -> None:
        files = (*files_of(unit.files), *unit.generation.unfinished)
        self.skipped.append(LeftOut(unit.key, files, f"not complete: {held}", is_incomplete=True))

    def _is_older(self, unit: Unit) -> bool:
        return unit.generation.is_ordered and self._order is not None and unit.generation.order < self._order

    def _older_than_loaded(self) -> str:
        return f"older than generation {self._loaded.generation if self._loaded else ''}, which is loaded"

    async def _without_twins(self, unit: Unit, files: Sequence[Examined], contents: Contents) -> list[Examined]:
        """Skip files whose content is loaded under another name, or is that of a file before it.

        Args:
            unit: Their generation.
            files: The files.
            contents: What was loaded, and what is going to be loaded beside them.

        Returns:
            The other files.
        """
        if self._settings.loads_same_content:
            return list(files)
        kept: list[Examined] = []
        for one in files:
            twin = await contents.twin(one)
            if twin is None:
                kept.append(one)
                contents.add(one)
            else:
                self.skip_same(unit, one, twin)
        return kept


def _merged(units: Sequence[Unit]) -> Unit:
    """Return several generations as one, with the key of the newest."""
    files = [one for unit in units for one in unit.files]
    counts = [unit.generation.expected_rows for unit in units]
    known = [one for one in counts if one is not None]
    whole = tuple(file for unit in units for file in unit.generation.files)
    expected = sum(known) if len(known) == len(counts) else None
    return Unit(dataclasses.replace(units[-1].generation, files=whole, expected_rows=expected), files)


def _is_or_are(files: Sequence[FileRef]) -> str:
    return "is" if len(files) == 1 else "are"
