"""The open pushes that earlier runs left: those that were submitted are ended first, the others continue with the same files or are replaced."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable

from pushengine.errors import ConfigError, EngineClosedError, JournalLockedError, PushEngineError
from pushengine.journal.facts import PushRow
from pushengine.journal.state import PushHistory
from pushengine.journal.store import JournalFile
from pushengine.loads.execution import Means
from pushengine.loads.items import Item, load_id_of
from pushengine.model import Claim

_ENDED_AT_ONCE = 32
"""How many submitted pushes are polled at once: the next ones do not wait for the longest job among the first."""


@dataclasses.dataclass(frozen=True, slots=True)
class OpenPush:
    """A push of a load that a killed or interrupted process left open.

    Attributes:
        row: The push.
        claim: What it means to its load.
        may_have_run: Whether its job may have been submitted.
        files: The paths that it reads.
        load_id: Its load id.
    """

    row: PushRow
    claim: Claim
    may_have_run: bool
    files: tuple[str, ...]
    load_id: str


def find_open(file: JournalFile, is_selected: Callable[[str, str], bool]) -> list[OpenPush]:
    """Return the open pushes of the selected loads, oldest first. Blocking."""
    found = []
    for push_id, claim in file.loads.open_pushes():
        row = file.push(push_id)
        if row is None or not is_selected(claim.load, claim.table):
            continue
        state = PushHistory(file.facts(push_id)).state
        planned = state.planned
        source, load_id = ((), None) if planned is None else (tuple(planned.source or ()), planned.load_id)
        found.append(OpenPush(row, claim, state.may_have_run, source, load_id or load_id_of(claim)))
    return found


async def end_submitted(means: Means, pushes: Iterable[OpenPush]) -> list[OpenPush]:
    """Bring the submitted pushes to their end, many at once; return those that were not submitted.

    What became of a push is in the journal afterwards: its files are loaded, its generation is blocked, or it is still open.

    Raises:
        EngineClosedError: The host drains meanwhile.
    """
    pushes = list(pushes)
    turns = asyncio.Semaphore(_ENDED_AT_ONCE)

    async def end(push: OpenPush) -> None:
        async with turns:
            await _end_submitted(means, push)

    ended = await asyncio.gather(*(end(push) for push in pushes if push.may_have_run), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error
    return [push for push in pushes if not push.may_have_run]


async def _end_submitted(means: Means, push: OpenPush) -> None:
    name, push_id = f"{push.claim.load}.{push.claim.table}", push.row.push_id
    engine = await means.targets.of_push(push.row.team, push.row.pool_id)
    if engine is None:
        means.listener.note(f"{name}: push {push_id} is open, but no target is in its pool {push.row.pool_id}")
        return
    try:
        await engine.resume(push_id)
        means.listener.note(f"{name}: push {push_id} of an earlier run was submitted; it has ended now")
    except EngineClosedError:
        raise
    except (ConfigError, JournalLockedError):  # another process has ended it, or works on it: the load is skipped then
        return
    except PushEngineError as error:
        means.listener.note(f"{name}: {means.judge(error).reason}")


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
            if (
                (item.row.generation, item.row.files) == (claim.generation, push.files)
                and item.row.state == "planned"
                and not item.row.push_id
            ):
                item.update(load_id=push.load_id, push_id=push.row.push_id)
                break
        else:
            await _supersede(means, push, by_load.get((claim.load, claim.table), ()))


async def _supersede(means: Means, push: OpenPush, items: Iterable[Item]) -> None:
    """End an unsubmitted push. If that fails, the items of its load wait: whoever resumes that push would load its files a second time."""
    engine = await means.targets.of_push(push.row.team, push.row.pool_id)
    if engine is None:
        return
    name, push_id = f"{push.claim.load}.{push.claim.table}", push.row.push_id
    try:
        await engine.supersede(push_id, f"run {means.run_id} loads other files of {name}")
    except EngineClosedError:
        raise
    except JournalLockedError:  # another process works on it, and holds the table
        return
    except PushEngineError as error:
        failure = means.judge(error)
        reason = f"push {push_id} of an earlier run has to be ended first: {failure.reason}"
        for item in items:
            item.update(state="failed", reason=reason, exit_code=failure.exit_code)
