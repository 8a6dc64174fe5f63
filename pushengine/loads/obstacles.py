"""What has changed since a push of a load was planned, and keeps it from being made. Looked up once this process holds the table's lock."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import LoadedTable, RunState
from pushengine.journal.state import PushHistory
from pushengine.journal.store import JournalFile
from pushengine.loads.files.generations import order_of
from pushengine.loads.items import Item
from pushengine.loads.outcome import EXIT_FAILED, EXIT_TEMPORARY
from pushengine.model import FileRef
from pushengine.text import name_key, shell_word, shown_name


@dataclasses.dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a push must not be made."""

    state: RunState
    reason: str
    exit_code: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """What is left to do of an item.

    Attributes:
        files: The files that are still to be pushed.
        obstacle: Why none of them may be; None if they may.
    """

    files: tuple[FileRef, ...]
    obstacle: Obstacle | None = None


def standing_of(
    file: JournalFile, item: Item, settings: LoadSettings, *, intended: Collection[str], team: str, pool_id: str
) -> Standing:
    """Return what is left to do of an item. Blocking.

    Args:
        file: The journal.
        item: The item, which is about to be pushed.
        settings: The settings of its load.
        intended: The paths of all files that the run intends to push into the table.
        team: Host of the team of its target.
        pool_id: Pool of its target.
    """
    table = next((one for one in file.loads.tables(item.row.load) if _is_same(one.table, item.row.table)), None)
    is_elsewhere = table is not None and not goes_where(settings, pool_id, table)
    table = None if is_elsewhere else table
    obstacle = (
        _submitted(file, item, team, pool_id)
        or _blocked(file, item, settings, intended)
        or _newer(item, settings, table)
    )
    if obstacle is not None:
        return Standing((), obstacle)
    known = [] if is_elsewhere else file.loads.files(item.row.load, item.row.table, [one.uri for one in item.files])
    rows = {row.path: row for row in known}
    # The rows of an append stay in the table: of a file that was loaded and has grown since, nothing may be loaded again.
    refuses_changed = settings.mode == "append" and not settings.loads_changed_files
    loaded = {
        one.uri: rows[one.uri].push_id
        for one in item.files
        if one.uri in rows
        and rows[one.uri].state == "loaded"
        and rows[one.uri].push_id != item.row.push_id
        and (refuses_changed or rows[one.uri].is_unchanged(one))
    }
    by_hand = {
        one.uri
        for one in item.files
        if one.uri in rows
        and (rows[one.uri].state, rows[one.uri].push_id) == ("skipped", "")
        and rows[one.uri].is_unchanged(one)
    }
    if item.files and len(loaded) + len(by_hand) == len(item.files):
        reason = f"loaded by push {next(iter(loaded.values()))} meanwhile" if loaded else "skipped by hand"
        return Standing((), Obstacle("skipped", reason))
    left_out = by_hand | loaded.keys() if settings.mode == "append" else by_hand
    return Standing(tuple(one for one in item.files if one.uri not in left_out))


def goes_where(settings: LoadSettings, pool_id: str, loaded: LoadedTable) -> bool:
    """Whether a load goes into the table that it has loaded before: into the same pool and data connection."""
    return pool_id == loaded.pool_id and settings.connection_id in (None, "", loaded.connection_id)


def _submitted(file: JournalFile, item: Item, team: str, pool_id: str) -> Obstacle | None:
    """Return the push of an earlier run that may have been submitted and has not ended: it may load the same rows."""
    for row in file.announced_pushes():
        if (row.team, row.pool_id) != (team, pool_id) or not _is_same(row.target, item.row.table):
            continue
        state = PushHistory(file.facts(row.push_id)).state
        planned = state.planned
        if planned is None or planned.claim is None or not state.may_have_run:
            continue
        if not _is_same(planned.claim["load"], item.row.load) or planned.load_id == item.row.load_id:
            continue
        return Obstacle(
            "blocked",
            f"push {row.push_id} of an earlier run was submitted and has not ended: pushengine resume {row.push_id}",
            EXIT_TEMPORARY,
        )
    return None


def _blocked(file: JournalFile, item: Item, settings: LoadSettings, intended: Collection[str]) -> Obstacle | None:
    """Return what blocks the load, as `loads.files.choice` does when it plans."""
    blocks = file.loads.blocks(item.row.load, item.row.table)
    for block in blocks:
        if block.kind == "unknown":
            reason = f"pushengine resolve {block.push_id} --loaded, or --not-loaded"
            return Obstacle("blocked", f"the outcome of push {block.push_id} is unknown: {reason}", EXIT_FAILED)
    for block in blocks:
        if settings.mode in ("upsert", "delete") and block.path not in intended:
            skip = f"pushengine state skip {shell_word(settings.name)} {shell_word(block.path)}"
            return Obstacle("blocked", f"{shown_name(block.path)} failed before: {skip}, or put it back", EXIT_FAILED)
    return None


def _newer(item: Item, settings: LoadSettings, table: LoadedTable | None) -> Obstacle | None:
    """Return the generation that was loaded meanwhile and is newer."""
    if settings.mode == "append" or settings.pick == "all" or table is None:
        return None
    order, loaded = order_of(item.row.generation), order_of(table.generation)
    if order is None or loaded is None or order >= loaded:
        return None
    reason = f"older than generation {table.generation}, which push {table.push_id} has loaded meanwhile"
    if settings.mode == "replace":
        return Obstacle("skipped", reason)
    return Obstacle("failed", f"{reason}: its values would overwrite newer ones; skip it", EXIT_FAILED)


def _is_same(one: str, other: str) -> bool:
    return name_key(one) == name_key(other)
