"""The open pushes that earlier runs left: those that were submitted are ended first, the others continue with the same files or are replaced."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable

from pushengine.errors import ConfigError, EngineClosedError, JournalLockedError, PushEngineError
from pushengine.journal.facts import PushRow
from pushengine.journal.state import PushHistory
from pushengine.journal.store import JournalFile
from pushengine.loads.execution import Means
from pushengine.loads.items import Item, load_id_of
from pushengine.model import Claim


@dataclasses.dataclass(frozen=True, slots=True)
class OpenPush:
    """A push of a load that a killed or interrupted process left open.

    Attributes:
        row: The push.
        claim: What it means to its load.
        may_have_run: Whether its job may have been submitted.
        files: The paths that it reads.
    """

    row: PushRow
    claim: Claim
    may_have_run: bool
    files: tuple[str, ...]


def find_open(file: JournalFile, is_selected: Callable[[str, str], bool]) -> list[OpenPush]:
    """Return the open pushes of the selected loads, oldest first. Blocking."""
    found = []
    for push_id, claim in file.loads.open_pushes():
        row = file.push(push_id)
        if row is None or not is_selected(claim.load, claim.table):
            continue
        state = PushHistory(file.facts(push_id)).state
        source = () if state.planned is None else tuple(state.planned.source or ())
        found.append(OpenPush(row, claim, state.may_have_run, source))
    return found


async def end_submitted(means: Means, pushes: Iterable[OpenPush]) -> list[OpenPush]:
    """Bring the submitted pushes to their end; return those that were not submitted.

    What became of a push is in the journal afterwards: its files are loaded, its generation is blocked, or it is still open.

    Raises:
        EngineClosedError: The host drains meanwhile.
    """
    unsubmitted = []
    for push in pushes:
        if not push.may_have_run:
            unsubmitted.append(push)
            continue
        name = f"{push.claim.load}.{push.claim.table}"
        engine = await means.targets.of_push(push.row.team, push.row.pool_id)
        if engine is None:
            means.listener.note(
                f"{name}: push {push.row.push_id} is open, but no target is in its pool {push.row.pool_id}"
            )
            continue
        try:
            await engine.resume(push.row.push_id)
            means.listener.note(f"{name}: push {push.row.push_id} of an earlier run was submitted; it has ended now")
        except EngineClosedError:
            raise
        except (
            ConfigError,
            JournalLockedError,
        ):  # another process has ended it, or works on it: the load is skipped then
            continue
        except PushEngineError as error:
            means.listener.note(f"{name}: {means.judge(error).reason}")
    return unsubmitted


async def adopt(means: Means, pushes: Iterable[OpenPush], items: Iterable[Item]) -> None:
    """Let the items continue unsubmitted pushes of the same files, and end the pushes that no item continues.

    Args:
        means: What the run uses.
        pushes: Unsubmitted open pushes of the loads.
        items: The items that will be pushed; their load ids are set.
    """
    by_load: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        by_load.setdefault((item.row.load, item.row.table), []).append(item)
    for push in pushes:
        claim = push.claim
        for item in by_load.get((claim.load, claim.table), ()):
            if (item.row.generation, item.row.files) == (claim.generation, push.files) and not item.row.push_id:
                item.update(load_id=load_id_of(claim), push_id=push.row.push_id)
                break
        else:
            engine = await means.targets.of_push(push.row.team, push.row.pool_id)
            if engine is not None:
                with contextlib.suppress(JournalLockedError):
                    await engine.supersede(
                        push.row.push_id, f"run {means.run_id} loads other files of {claim.load}.{claim.table}"
                    )
