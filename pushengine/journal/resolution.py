"""A person says what became of a push whose outcome is unknown: whether the platform loaded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pushengine.errors import ConfigError
from pushengine.journal.endings import PushEnd, record_end
from pushengine.journal.facts import FactRow, PushResolved
from pushengine.journal.state import PushHistory
from pushengine.journal.tables import LoadedPush, table_of

if TYPE_CHECKING:
    from pushengine.journal.store import JournalFile

NOT_LOADED = "a person found that it was not loaded"
_IN_ORDER = ("upsert", "delete")


def resolve_push(file: JournalFile, push_id: str, *, is_loaded: bool, at: float) -> list[str]:
    """Record what became of a push of unknown outcome, with all that follows from it. Needs an open transaction.

    Loaded, it counts as DONE: its table's memory, its load and its load id are as if its job had been seen to end. Not loaded, it counts as
    failed; the files of an upsert or delete then block later ones as those of every failed push do.

    Args:
        file: The journal.
        push_id: Id of the push.
        is_loaded: Whether its rows are in the table.
        at: The current time, seconds UTC.

    Returns:
        Names of the loads whose blocks are lifted.

    Raises:
        ConfigError: There is no such push, or its outcome is known.
        JournalCorruptError: Its facts cannot be read.
    """
    push = file.push(push_id)
    if push is None or push.state != "unknown":
        why = "there is no such push" if push is None else f"it is {push.state}"
        raise ConfigError(
            f"push {push_id} has no unknown outcome: {why}", key="push_id", hint="`pushengine history` lists pushes"
        )
    state = PushHistory(file.facts(push_id)).state
    receipt = {**(state.receipt or {}), "status": "DONE" if is_loaded else "ERROR"}
    file.append(FactRow.of(push_id, at, PushResolved(is_loaded=is_loaded, receipt=receipt)))
    file.set_state(push_id, "done" if is_loaded else "failed", at)
    key = table_of(state, push.team, push.pool_id)
    if key is not None:
        seq = file.tables.submit_seq(push_id, state.jobs[-1].job_id) if state.jobs else 0
        loaded = LoadedPush.of(push_id, at, seq, state, is_unknown=False) if is_loaded and seq else None
        file.tables.resolve(key, push_id, loaded)
    blocks = [block for block in file.loads.blocks() if block.push_id == push_id]
    for block in blocks:
        file.loads.lift(block.load, block.table, block.path)
    error = "" if is_loaded else NOT_LOADED
    end = PushEnd(
        push_id=push_id, team=push.team, pool_id=push.pool_id, at=at, state=state, receipt=receipt, error=error
    )
    record_end(file, end)
    mode = None if state.planned is None else state.planned.target.get("mode")
    lifted = [] if not is_loaded and mode in _IN_ORDER else [f"{block.load}.{block.table}" for block in blocks]
    return list(dict.fromkeys(lifted))
