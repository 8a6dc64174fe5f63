"""What the journal holds: pushes, and facts about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was intended or learned."""

    push_id: str
    at: float
    kind: str
    body: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class PushRow:
    """A push as the journal lists it; times in seconds UTC."""

    push_id: str
    identity: str
    team: str
    pool_id: str
    target: str
    source: str
    created_at: float
    updated_at: float
    state: str
