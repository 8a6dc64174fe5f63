"""Decide whether a team's row in the quota ledger allows a submit now. Pure functions: they access neither files nor clocks.

Two clocks are involved. The server's clock decides which hour it is; each process has its own estimate of it. The host's clock is the same
for all processes of the host and spaces the submits. Either may be wrong, or may be adjusted after a row was written. Times in the future
are therefore never trusted beyond a bound.
"""

from __future__ import annotations

import dataclasses
import math

from pushengine.interfaces import QuotaGrant
from pushengine.text import format_seconds, iso_utc

HOUR_SECONDS = 3600.0
MAX_NAMED_BLOCK_SECONDS = 24 * HOUR_SECONDS
OLDER_VERSIONS_REASON = "an older version recorded that the server refused a submit (429)"

# Tolerance: a clock reading that is slightly old because the thread was delayed is not a wrong clock, nor is a slower spacing that another
# process is configured with.
_MAX_DELAY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class ClockReading:
    """The current time by both clocks, in seconds UTC."""

    server: float
    host: float

    @property
    def hour(self) -> int:
        """The UTC hour by the server's clock."""
        return math.floor(self.server / HOUR_SECONDS)

    @property
    def seconds_to_full_hour(self) -> float:
        """Seconds until either clock reaches a full hour."""
        return HOUR_SECONDS - max(self.server % HOUR_SECONDS, self.host % HOUR_SECONDS)


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """A period in which the server refuses submits; it ends as soon as either clock (seconds UTC) reaches its end.

    Attributes:
        set_at_host: When the block was set, by the host's clock.
        is_named: Whether the server specified the time.
    """

    server_until: float
    host_until: float
    set_at_host: float
    is_named: bool
    reason: str

    @classmethod
    def for_seconds(cls, seconds: float, now: ClockReading, *, is_named: bool, reason: str) -> Block:
        """Return a block of this length from now: at most a day if the server specified it, otherwise at most to the next full hour."""
        seconds = min(seconds, MAX_NAMED_BLOCK_SECONDS if is_named else now.seconds_to_full_hour)
        return cls(now.server + seconds, now.host + seconds, now.host, is_named, reason)

    @classmethod
    def of_older_version(cls, server_until: float) -> Block:
        """Return a block that an older version recorded only by its end on the server's clock.

        The time when it was set is unknown, so it is treated as set in the future: `corrected` ends it at the next full hour at the latest.
        """
        return cls(server_until, math.inf, math.inf, is_named=False, reason=OLDER_VERSIONS_REASON)

    def seconds_left(self, now: ClockReading) -> float:
        """Return the seconds until the block ends; 0 if it has ended."""
        return max(min(self.server_until - now.server, self.host_until - now.host), 0.0)

    def corrected(self, now: ClockReading) -> Block:
        """Return the block; if it was set in the future by the host's clock, end it at the next full hour at the latest."""
        seconds_left = self.seconds_left(now)
        if not seconds_left or self.set_at_host <= now.host + _MAX_DELAY_SECONDS:
            return self
        seconds_left = min(seconds_left, now.seconds_to_full_hour)
        return Block(now.server + seconds_left, now.host + seconds_left, now.host, self.is_named, self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaRow:
    """The ledger's data for one team; `pushengine.quota.ledger` describes the columns."""

    hour: int = 0
    spent: int = 0
    next_grant: float = 0.0
    block: Block | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaRules:
    """The quota rules for a team.

    Attributes:
        submits_per_hour: Maximum number of grants in a UTC hour.
        spacing_seconds: Minimum time between two grants, in seconds.
        guard_seconds: Seconds before and after each full hour without grants.
    """

    submits_per_hour: int
    spacing_seconds: float
    guard_seconds: float

    def spent(self, row: QuotaRow, now: ClockReading) -> int:
        """Return the number of grants that count for this hour: the row's count, unless a full hour has started since the last grant."""
        # The full hour is judged by the server's clock as the caller reads it. In doubt the grants count: a 429 costs more than a wait, and
        # the doubt ends at the next full hour.
        last_grant = row.next_grant - self.spacing_seconds + now.server - now.host  # by the server's clock
        is_kept = row.hour == now.hour or last_grant >= now.hour * HOUR_SECONDS
        return row.spent if is_kept else 0

    def corrected(self, row: QuotaRow, now: ClockReading) -> tuple[QuotaRow, tuple[str, ...]]:
        """Correct times that a wrong clock put into the future.

        A next grant further ahead than the spacing allows becomes one spacing from now. A row for an hour that has not started is treated
        as one for this hour, with the count that `spent` returns. A block that was set in the future ends at the next full hour at the
        latest.

        Returns:
            The corrected row, and a warning for each correction that people should know about.
        """
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
        """Return the refusal with the longest wait, so that a waiting push reports the right time, or None if a grant is possible now."""
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
        """Return the row after a grant, without a block that has ended by the host's clock, which all processes share."""
        is_blocked = row.block is not None and now.host < row.block.host_until
        return QuotaRow(
            hour=now.hour,
            spent=self.spent(row, now) + 1,
            next_grant=now.host + self.spacing_seconds,
            block=row.block if is_blocked else None,
        )

    def reset(self, row: QuotaRow, now: ClockReading) -> tuple[QuotaRow, tuple[str, ...]]:
        """Return the row without block and implausible future times, and a description of each thing cleared. The count is kept."""
        cleared = []
        if row.block is not None and (seconds := row.block.corrected(now).seconds_left(now)):
            cleared.append(f"a block for another {format_seconds(seconds)}: {row.block.reason}")
        if self._is_ahead(row, now):
            cleared.append(f"the next submit allowed only {_ahead_text(row.next_grant, now)}")
        if row.hour > now.hour:
            cleared.append(
                f"an hour that has not started, {iso_utc(row.hour * HOUR_SECONDS)}; its submits count for this hour"
            )
        row, _ = self.corrected(dataclasses.replace(row, block=None), now)
        return row, tuple(cleared)

    def _is_ahead(self, row: QuotaRow, now: ClockReading) -> bool:
        return row.next_grant - now.host > self.spacing_seconds + _MAX_DELAY_SECONDS


def _ahead_text(host_time: float, now: ClockReading) -> str:
    return f"at {iso_utc(host_time)}, {format_seconds(host_time - now.host)} ahead of this host's clock"
