"""Load ids: a name that the caller gives to a push, so that it is loaded once however often it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pushengine.errors import ConfigError, SubmitOutcomeUnknownError
from pushengine.journal.queries import JournalQueries
from pushengine.journal.state import PushHistory
from pushengine.model import Receipt
from pushengine.text import storable

_WORDS = {"order_by": "column for duplicates", "connection": "data connection", "types": "column types"}


class UsedLoadId(NamedTuple):
    """What the journal has about a load id.

    Attributes:
        receipt: The receipt of its push; None unless that is DONE.
        push_id: Its newest push; empty if there is none.
        differs: How that push differs from what is requested now; empty if it does not.
    """

    receipt: Receipt | None = None
    push_id: str = ""
    differs: str = ""


def find_load_id(
    file: JournalQueries, *, team: str, pool_id: str, load_id: str, identity: str, request: Mapping[str, Any]
) -> UsedLoadId:
    """Return what the journal has about a load id.

    Args:
        file: The journal.
        team: Host of the team.
        pool_id: Id of the data pool.
        load_id: The load id.
        identity: Identity of its pushes.
        request: What is requested now.

    Raises:
        SubmitOutcomeUnknownError: It is unknown whether its push was loaded.
    """
    done = file.loads.load_id(team, pool_id, load_id)
    if done is not None:
        receipt = Receipt.from_dict(done.receipt)
        return UsedLoadId(receipt, done.push_id, _difference(done.request, request))
    push = file.newest(identity)
    if push is None:
        return UsedLoadId()
    state = PushHistory(file.facts(push.push_id)).state
    if push.state == "unknown":
        raise SubmitOutcomeUnknownError(
            f"load id {load_id} was used by push {push.push_id}, and whether that was loaded is unknown",
            job_id=state.jobs[-1].job_id if state.jobs else "",
            hint=f"check the table, then: pushengine resolve {push.push_id} --loaded, or --not-loaded",
        )
    before = None if state.planned is None else state.planned.request
    return UsedLoadId(None, push.push_id, "" if before is None else _difference(before, request))


def require_same(load_id: str, used: UsedLoadId) -> None:
    """Require that a load id stands for the same push as before.

    Raises:
        ConfigError: It stands for another one.
    """
    if used.differs:
        raise ConfigError(
            f"load id {load_id} belongs to push {used.push_id}, which has another {used.differs}",
            key="load_id",
            hint="a load id stands for one push: choose another one with --load-id NEW",
        )


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    before, now = (json.loads(storable(json.dumps(one, ensure_ascii=False))) for one in (before, now))
    for key in (*now, *(key for key in before if key not in now)):
        if before.get(key) != now.get(key):
            was, wanted = (_shown(one.get(key)) for one in (before, now))
            return f"{_WORDS.get(key, key)}: {was}, not {wanted}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, {}, "") else str(value)
