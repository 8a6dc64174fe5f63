"""What a load pushes of the files that are there, and why it leaves out the others."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import BlockRow, FileRow, LoadedTable
from pushengine.loads.files.discovery import FoundTable
from pushengine.loads.files.generations import Generation, Order, order_of
from pushengine.model import FileRef
from pushengine.text import format_seconds, shown_name, utc

Sha256Of = Callable[[FileRef], Awaitable[str]]
Outcome = Literal["push", "skipped", "failed", "missing", "blocked"]


@dataclasses.dataclass(frozen=True, slots=True)
class Chosen:
    """What a load does about one generation.

    Attributes:
        outcome: `push` it, or why not.
        reason: In words; empty for a push.
    """

    generation: Generation
    outcome: Outcome
    reason: str = ""


@dataclasses.dataclass(slots=True)
class Choice:
    """What a load does.

    Attributes:
        chosen: In order.
        seen: Rows of files to remember: those seen for the first time, and those skipped because their content is loaded.
    """

    chosen: list[Chosen] = dataclasses.field(default_factory=list)
    seen: list[FileRow] = dataclasses.field(default_factory=list)


_LOWEST: Order = (dt.datetime.min, -1)  # noqa: DTZ901 - only compared
FileState = Literal["new", "known", "same", "changed"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a file that is there.

    Attributes:
        state: `known`: loaded or left out before, and unchanged; `same`: the content of another file that is loaded; `changed`: known under
            this path with other content.
        row: The row that says so, or that of the file itself.
    """

    state: FileState
    row: FileRow


async def choose(
    settings: LoadSettings,
    table: FoundTable,
    *,
    files: Sequence[FileRow],
    blocks: Sequence[BlockRow],
    loaded: LoadedTable | None,
    sha256_of: Sha256Of,
    now: float,
) -> Choice:
    """Decide what a load pushes.

    Args:
        settings: The load.
        table: What is there.
        files: What is remembered of its files.
        blocks: What blocks it.
        loaded: What it loaded last; None if it never loaded anything.
        sha256_of: Returns the SHA-256 of the content of a file.
        now: The current time, seconds UTC.
    """
    return await _Chooser(settings, table, files, blocks, loaded, sha256_of, now).choose()


class _Chooser:
    def __init__(
        self,
        settings: LoadSettings,
        table: FoundTable,
        files: Sequence[FileRow],
        blocks: Sequence[BlockRow],
        loaded: LoadedTable | None,
        sha256_of: Sha256Of,
        now: float,
    ) -> None:
        self._settings = settings
        self._table = table
        self._files = tuple(file for one in table.generations for file in one.files)
        self._rows = {row.path: row for row in files}
        self._blocks = blocks
        self._loaded = loaded
        self._sha256_of = sha256_of
        self._now = now
        self._known: dict[str, _Known] = {}
        self._choice = Choice()

    async def choose(self) -> Choice:
        for file in self._files:
            self._known[file.uri] = await self._examine(file)
        if self._table.generations:
            if unknown := next((block for block in self._blocks if block.kind == "unknown"), None):
                reason = f"the outcome of push {unknown.push_id} is unknown: `pushengine resolve {unknown.push_id}`"
                self._add(Generation("", self._files), "blocked", reason)
            elif self._settings.mode == "append":
                self._append()
            elif self._needs_order():
                files = self._files
                self._add(
                    Generation("", files),
                    "failed",
                    f"{len(files)} files match ({_shown(files)}), and nothing says which of them is the newest: put {{date}} or {{seq}} into"
                    ' the source, {part} if they belong together, or set pick = "all" to load all of them',
                )
            elif self._settings.mode == "replace":
                self._replace()
            else:
                self._in_order()
        self._note_missing()
        return self._choice

    def _add(self, generation: Generation, outcome: Outcome, reason: str = "") -> None:
        self._choice.chosen.append(Chosen(generation, outcome, reason))

    # --- Files

    async def _examine(self, file: FileRef) -> _Known:
        row = self._rows.get(file.uri)
        if row is not None and row.is_unchanged(file):
            return _Known("new" if row.state == "seen" else "known", row)
        sha256 = ""
        if row is not None and row.state != "seen":
            if row.size == file.size and row.sha256:
                sha256 = await self._sha256_of(file)
                if sha256 == row.sha256:  # only touched
                    touched = dataclasses.replace(row, version=file.version)
                    self._choice.seen.append(touched)
                    return _Known("known", touched)
            return _Known("changed", row)
        if other := await self._same_content(file):
            skipped = self._new_row(
                file, state="skipped", sha256=other.sha256, push_id=other.push_id, loaded_at=self._now
            )
            self._choice.seen.append(skipped)
            return _Known("same", other)
        new = self._new_row(file)
        self._choice.seen.append(new)
        return _Known("new", new)

    async def _same_content(self, file: FileRef) -> FileRow | None:
        """Return the row of a loaded file with the same content under another name."""
        if self._settings.loads_same_content:
            return None
        rows = [
            row
            for row in self._rows.values()
            if row.size == file.size
            and row.sha256
            and row.state == "loaded"
            and row.path != file.uri
            # In a replace, only what the table holds now counts: it may have held the content before, and something else since.
            and (self._settings.mode != "replace" or (self._loaded is not None and row.push_id == self._loaded.push_id))
        ]
        if not rows:
            return None
        sha256 = await self._sha256_of(file)
        return next((row for row in rows if row.sha256 == sha256), None)

    def _new_row(self, file: FileRef, **values: object) -> FileRow:
        fields = {"first_seen_at": self._now, "generation": self._generation_of(file), **values}
        return FileRow(
            load=self._settings.rule,
            table=self._table.name,
            path=file.uri,
            size=file.size,
            version=file.version,
            **fields,  # type: ignore[arg-type]
        )

    def _generation_of(self, file: FileRef) -> str:
        return next((one.key for one in self._table.generations if file in one.files), "")

    def _is(self, file: FileRef, *states: FileState) -> bool:
        return self._known[file.uri].state in states

    def _is_over(self, generation: Generation) -> bool:
        return all(self._is(file, "known", "same") for file in generation.files)

    def _why_over(self, generation: Generation) -> str:
        known = [self._known[file.uri] for file in generation.files]
        same = next((one for one in known if one.state == "same"), None)
        if same is not None:
            return f"same as {same.row.path}, which push {same.row.push_id} loaded"
        row = known[-1].row
        when = f"{utc(row.loaded_at):%Y-%m-%d %H:%M}Z" if row.loaded_at else "before"
        if row.state == "skipped":
            return f"nothing new: {generation.files[-1].name} was left out {when}"
        return f"nothing new: push {row.push_id} loaded {_shown(generation.files)} {when}"

    # --- Modes

    def _append(self) -> None:
        for file in self._files:
            if self._is(file, "changed") and not self._settings.loads_changed_files:
                row = self._known[file.uri].row
                self._add(
                    Generation(file.name, (file,)),
                    "failed",
                    f"{shown_name(file.uri)} has changed since push {row.push_id} loaded it ({row.size:,} bytes then, {file.size:,} now): its old"
                    ' rows would be loaded twice; changed_files = "load" loads the whole file again',
                )
        fresh = [file for file in self._files if self._is(file, "new")]
        if self._settings.loads_changed_files:
            fresh = [file for file in self._files if self._is(file, "new", "changed")]
        if fresh:
            keys = [one.key for one in self._table.generations if any(file in fresh for file in one.files)]
            self._add(Generation(keys[-1], tuple(fresh)), "push")
        elif not self._choice.chosen:
            self._add(self._table.generations[-1], "skipped", self._why_over(self._table.generations[-1]))

    def _needs_order(self) -> bool:
        unordered = [one for one in self._table.generations if not one.is_ordered]
        return len(unordered) > 1 and self._settings.pick != "all"

    def _replace(self) -> None:
        newest = self._table.generations[-1]
        if self._settings.pick == "all":
            newest = Generation(newest.key, self._files, newest.date, newest.seq)
        if self._is_over(newest):
            self._add(newest, "skipped", self._why_over(newest))
        elif self._loaded is not None and _order(newest.key) < _order(self._loaded.generation):
            reason = f"generation {newest.key} is older than {self._loaded.generation}, which push {self._loaded.push_id} loaded"
            self._add(newest, "skipped", reason)
        else:
            self._add(newest, "push")

    def _in_order(self) -> None:
        """Choose the generations of an upsert or a delete."""
        generations: Sequence[Generation] = self._table.generations
        if self._settings.pick == "all":
            generations = [Generation(generations[-1].key, self._files)]
        fresh = [one for one in generations if not self._is_over(one)]
        if not fresh:
            self._add(generations[-1], "skipped", self._why_over(generations[-1]))
            return
        for generation in fresh:
            if block := self._block_of(generation):
                self._add(
                    generation,
                    "blocked",
                    f"{shown_name(block.path)} has to be loaded first, or skipped: push {block.push_id} failed",
                )
            elif self._is_too_late(generation):
                self._add(
                    generation,
                    "failed",
                    f"generation {generation.key} is older than {self._loaded_generation}, which is loaded: its rows would replace newer ones;"
                    f" `pushengine state skip {self._settings.name} FILE` leaves it out",
                )
            else:
                self._add(generation, "push")

    @property
    def _loaded_generation(self) -> str:
        return "" if self._loaded is None else self._loaded.generation

    def _is_too_late(self, generation: Generation) -> bool:
        is_retried = any(file.uri in {block.path for block in self._blocks} for file in generation.files)
        return not is_retried and _order(generation.key) < _order(self._loaded_generation)

    def _block_of(self, generation: Generation) -> BlockRow | None:
        """Return what blocks a generation: a failed file of an earlier one, which is not there anymore to be loaded first."""
        there = {file.uri for file in self._files}
        own = {file.uri for file in generation.files}
        for block in self._blocks:
            if block.path in own or block.path in there:
                continue
            row = self._rows.get(block.path)
            if row is None or _order(row.generation) <= _order(generation.key):
                return block
        return None

    # --- Missing

    def _note_missing(self) -> None:
        """Add that the load is missing: there is nothing, or nothing that is new enough."""
        max_age = self._settings.max_age
        newest = self._newest_at()
        if newest is None:
            if self._loaded is not None and self._settings.cleanup == "leave":
                self._add(
                    Generation("", ()),
                    "missing",
                    f"there is no file; it was last loaded by push {self._loaded.push_id}",
                )
            elif self._loaded is not None:
                self._add(Generation("", ()), "skipped", f"nothing new since push {self._loaded.push_id}")
            return
        if max_age is not None and self._now - newest > max_age:
            reason = f"the newest file is {format_seconds(self._now - newest)} old, more than {format_seconds(max_age)}"
            self._choice.chosen = [one for one in self._choice.chosen if one.outcome != "skipped"]
            self._add(Generation("", ()), "missing", reason)
        elif not self._table.generations:
            self._add(
                Generation("", ()), "skipped", f"nothing new since push {self._loaded.push_id if self._loaded else ''}"
            )

    def _newest_at(self) -> float | None:
        """Return the time of the newest generation, seconds UTC: its date, or when it was first seen; None if there is none."""
        if not self._table.generations:
            if self._loaded is None or self._settings.cleanup == "leave":
                return None
            date = _order(self._loaded.generation)[0]
            return self._loaded.loaded_at if date == dt.datetime.min else self._seconds(date)  # noqa: DTZ901 - only compared
        newest = self._table.generations[-1]
        if newest.date is not None:
            return self._seconds(newest.date)
        return max(
            self._known[file.uri].row.first_seen_at if self._is(file, "known", "new") else self._now
            for file in newest.files
        )

    def _seconds(self, date: dt.datetime) -> float:
        return date.replace(tzinfo=self._settings.timezone).timestamp()


def _order(key: str) -> Order:
    """Return the place of a generation among those of its table; the lowest if its key has none."""
    return order_of(key) or _LOWEST


def _shown(files: Sequence[FileRef]) -> str:
    names = [file.name for file in files]
    more = f" and {len(names) - 2:,} more" if len(names) > 3 else ""  # noqa: PLR2004
    return ", ".join(names[: 2 if more else 3]) + more
