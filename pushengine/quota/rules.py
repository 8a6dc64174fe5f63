"""What a team's row of the quota ledger allows at one moment. Pure functions: no file, no clock of their own.

Two clocks count. The server's decides which hour it is, and each process has its own idea of it. The host's is the same for all processes
of the host and spaces the submits. Either may be wrong, or be set while a row lies in the ledger, so no rule waits for what a row says
about the future:

- The count of a row is kept unless a full hour has begun since the last grant, by the server's clock of whoever asks. When in doubt the
  submits count, because a 429 costs more than a wait, and the doubt is over at the next full hour.
- A row for an hour that has not begun was written by a wrong clock: it is taken for this hour, with its count.
- A next grant further ahead than the spacing allows was written by a wrong clock: one spacing from now, and it is right again.
- A block ends as soon as either clock says so; one that was set in the future ends at the next full hour.
"""

from __future__ import annotations

import dataclasses
import math

from pushengine.interfaces import QuotaGrant
from pushengine.text import format_seconds, iso_utc

HOUR_SECONDS = 3600.0
MAX_NAMED_BLOCK_SECONDS = 24 * HOUR_SECONDS
OLDER_VERSIONS_REASON = "an older version noted that the server refused a submit (429)"

# A clock that was read a moment ago, before the thread was held up, is no wrong clock; nor is a slower spacing of another process.
_MAX_DELAY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class ClockReading:
    """Now, by both clocks, in seconds UTC."""

    server: float
    host: float

    @property
    def hour(self) -> int:
        """The UTC hour by the server's clock."""
        return math.floor(self.server / HOUR_SECONDS)

    @property
    def seconds_to_full_hour(self) -> float:
        """Until the first full hour of either clock."""
        return HOUR_SECONDS - max(self.server % HOUR_SECONDS, self.host % HOUR_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """The server refuses submits until either clock (seconds UTC) reaches its end.

    Attributes:
        set_at_host: When it was set, by the host's clock.
        is_named: The server named the time.
    """

    server_until: float
    host_until: float
    set_at_host: float
    is_named: bool
    reason: str

    @classmethod
    def for_seconds(cls, seconds: float, now: ClockReading, *, is_named: bool, reason: str) -> Block:
        """So long from now, within bounds: a day where the server named the time, else the next full hour."""
        seconds = min(seconds, MAX_NAMED_BLOCK_SECONDS if is_named else now.seconds_to_full_hour)
        return cls(now.server + seconds, now.host + seconds, now.host, is_named, reason)

    @classmethod
    def of_older_version(cls, server_until: float) -> Block:
        """One that only names a time of the server's: when it was set is not known, so it counts as set in the future."""
        return cls(server_until, math.inf, math.inf, is_named=False, reason=OLDER_VERSIONS_REASON)

    def seconds_left(self, now: ClockReading) -> float:
        """Until it ends; 0 where it has."""
        return max(min(self.server_until - now.server, self.host_until - now.host), 0.0)

    def corrected(self, now: ClockReading) -> Block:
        """Itself, or what is left of one that was set in the future of the host's clock."""
        seconds_left = self.seconds_left(now)
        if not seconds_left or self.set_at_host <= now.host + _MAX_DELAY_SECONDS:
            return self
        seconds_left = min(seconds_left, now.seconds_to_full_hour)
        return Block(now.server + seconds_left, now.host + seconds_left, now.host, self.is_named, self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaRow:
    """What the ledger holds of a team; see `pushengine.quota.ledger`."""

    hour: int = 0
    spent: int = 0
    next_grant: float = 0.0
    block: Block | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaRules:
    """The quota of a team.

    Attributes:
        submits_per_hour: Grants of a UTC hour.
        spacing_seconds: Least time between two grants.
        guard_seconds: No grant this near to a full hour on either side.
    """

    submits_per_hour: int
    spacing_seconds: float
    guard_seconds: float

    def spent(self, row: QuotaRow, now: ClockReading) -> int:
        """Grants that count for this hour."""
        last_grant = row.next_grant - self.spacing_seconds + now.server - now.host  # by the server's clock
        is_kept = row.hour == now.hour or last_grant >= now.hour * HOUR_SECONDS
        return row.spent if is_kept else 0

    def corrected(self, row: QuotaRow, now: ClockReading) -> tuple[QuotaRow, tuple[str, ...]]:
        """The row without what a wrong clock has put into the future, and a warning for each thing that people should know of."""
        warnings = []
        is_ahead = self._is_ahead(row, now)
        if is_ahead:
            warnings.append(f"it allowed the next submit only {_ahead_text(row.next_grant, now)}")
        if is_ahead or row.hour > now.hour:
            next_grant = now.host + self.spacing_seconds if is_ahead else row.next_grant
            row = dataclasses.replace(row, hour=now.hour, spent=self.spent(row, now), next_grant=next_grant)
        if row.block is not None and (block := row.block.corrected(now)) != row.block:
            if math.isfinite(row.block.set_at_host):
                warnings.append(
                    f"it held a block set {_ahead_text(row.block.set_at_host, now)}, which now ends within the hour"
                )
            row = dataclasses.replace(row, block=block)
        return row, tuple(warnings)

    def refusal(self, row: QuotaRow, now: ClockReading) -> QuotaGrant | None:
        """Why no grant now, or None. The longest wait is told first, so that a waiting push says the right time."""
        into_hour = now.server % HOUR_SECONDS
        to_next_hour = HOUR_SECONDS - into_hour + self.guard_seconds
        spent = self.spent(row, now)
        refusals = [
            ("server", row.block.seconds_left(now) if row.block is not None else 0.0),
            ("hour", to_next_hour if spent >= self.submits_per_hour else 0.0),
            ("boundary", self.guard_seconds - into_hour),
            ("boundary", to_next_hour if into_hour > HOUR_SECONDS - self.guard_seconds else 0.0),
            ("second", self.spacing_seconds if self._is_ahead(row, now) else row.next_grant - now.host),
        ]
        reason, wait = max(refusals, key=lambda refusal: refusal[1])
        return QuotaGrant(granted=False, wait_seconds=wait, reason=reason, spent=spent) if wait > 0 else None

    def granted(self, row: QuotaRow, now: ClockReading) -> QuotaRow:
        """The row after a grant. A block is forgotten once it is over by the clock that all processes share."""
        is_blocked = row.block is not None and now.host < row.block.host_until
        return QuotaRow(
            hour=now.hour,
            spent=self.spent(row, now) + 1,
            next_grant=now.host + self.spacing_seconds,
            block=row.block if is_blocked else None,
        )

    def reset(self, row: QuotaRow, now: ClockReading) -> tuple[QuotaRow, tuple[str, ...]]:
        """The row without block and future times, the count kept; and what was cleared, in words."""
        cleared = []
        if row.block is not None and (seconds := row.block.corrected(now).seconds_left(now)):
            cleared.append(f"a block for another {format_seconds(seconds)}: {row.block.reason}")
        if self._is_ahead(row, now):
            cleared.append(f"a next submit {_ahead_text(row.next_grant, now)}")
        if row.hour > now.hour:
            cleared.append(
                f"an hour that has not begun, {iso_utc(row.hour * HOUR_SECONDS)}; its submits count for this hour"
            )
        row, _ = self.corrected(dataclasses.replace(row, block=None), now)
        return row, tuple(cleared)

    def _is_ahead(self, row: QuotaRow, now: ClockReading) -> bool:
        return row.next_grant - now.host > self.spacing_seconds + _MAX_DELAY_SECONDS


def _ahead_text(host_time: float, now: ClockReading) -> str:
    return f"at {iso_utc(host_time)}, {format_seconds(host_time - now.host)} ahead of this host's clock"
