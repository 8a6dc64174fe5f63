"""How many submits a run needs, in which hours they leave, and when the run ends."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence

from pushengine.model import QuotaStatus

HOUR_SECONDS = 3600.0
SUBMIT_SECONDS = 0.11
"""Time between two submits, seconds: at most ten leave within a second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Submits that leave in one hour.

    Attributes:
        at: When the first of them can leave, UTC; None for at once.
        submits: Their number.
    """

    at: dt.datetime | None
    submits: int


@dataclasses.dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a run.

    Attributes:
        tables: Number of pushes.
        batches: Their submits, by hour. Other tools of the team may spend quota meanwhile.
        ends_at: When the run will end, UTC, judged by the quota and by how long the same loads took before.
    """

    tables: int
    batches: tuple[Batch, ...]
    ends_at: dt.datetime


def forecast(
    pushes: Mapping[str, int],
    quotas: Mapping[str, QuotaStatus],
    *,
    now: dt.datetime,
    durations: Sequence[float],
    parallel: int,
) -> Forecast:
    """Return what is to be expected of a run.

    Args:
        pushes: Number of pushes by team.
        quotas: Quota by team.
        now: The current time, UTC.
        durations: How long each push took the last time, seconds; those that never ran are left out.
        parallel: How many of them work at once.
    """
    total = sum(pushes.values())
    typical = sorted(durations)[len(durations) // 2] if durations else 0.0
    work = (sum(durations) + typical * (total - len(durations))) / max(parallel, 1)
    ends = [now + dt.timedelta(seconds=max(work, max(durations, default=0.0)))]
    by_hour: dict[dt.datetime | None, int] = {}
    for team, count in pushes.items():
        for batch in _batches(count, quotas[team]):
            by_hour[batch.at] = by_hour.get(batch.at, 0) + batch.submits
            ends.append((batch.at or now) + dt.timedelta(seconds=batch.submits * SUBMIT_SECONDS + typical))
    batches = [Batch(at, submits) for at, submits in sorted(by_hour.items(), key=lambda item: item[0] or now)]
    return Forecast(total, tuple(batches), max(ends))


def _batches(count: int, quota: QuotaStatus) -> list[Batch]:
    batches = []
    at: dt.datetime | None = None
    left, next_hour = quota.remaining, dt.datetime.fromisoformat(quota.resets_at)
    if quota.blocked_until:
        at = dt.datetime.fromisoformat(quota.blocked_until)
        left = quota.limit - (quota.spent if at < next_hour else 0)
        next_hour = max(next_hour, _full_hour_after(at))
    while count > 0:
        submits = min(count, left)
        if submits > 0:
            batches.append(Batch(at, submits))
        count -= submits
        at, left = next_hour, max(quota.limit, 1)
        next_hour += dt.timedelta(seconds=HOUR_SECONDS)
    return batches


def _full_hour_after(at: dt.datetime) -> dt.datetime:
    return at.replace(minute=0, second=0, microsecond=0) + dt.timedelta(seconds=HOUR_SECONDS)
