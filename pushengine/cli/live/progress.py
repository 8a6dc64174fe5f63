"""Progress of a push, computed from its events."""

from __future__ import annotations

import dataclasses

from pushengine import events
from pushengine.text import clock_time, format_bytes, format_clock, format_count

_WAITING_FOR = {"quarantine": "until", "turn": "for earlier submits until about"}
_MOST_PERCENT = 99
_TRANSFERRING = ("reading", "uploading")


@dataclasses.dataclass(slots=True)
class Progress:
    """Totals over the events of one push.

    Attributes:
        rows_sent: Number of rows acknowledged in this session.
        chunks_before: Number of chunks that an earlier process sent; they are not sent again.
        upload_limit: Current limit of concurrent uploads; None until it changes for the first time.
        phase: What the push does at present; empty while it is planned.
        phase_since: Since when it does so, monotonic seconds.
        shares: Bytes of the source in each chunk that was read and is not acknowledged.
        start: Monotonic seconds and fraction of the source at which this session began to read; None before it does.
    """

    push_id: str = ""
    table: str = ""
    mode: str = ""
    source: str = ""
    source_bytes: int | None = None
    source_bytes_read: int | None = None
    source_bytes_sent: int = 0
    columns: int = 0
    rows_read: int = 0
    rows_sent: int = 0
    chunks_encoded: int = 0
    chunks_sent: int = 0
    chunks_before: int = 0
    bytes_sent: int = 0
    in_flight: set[str] = dataclasses.field(default_factory=set)
    upload_limit: int | None = None
    phase: str = ""
    phase_since: float = 0.0
    job_id: str | None = None
    retries: int = 0
    restarts: int = 0
    first_upload_at: float | None = None
    last_upload_at: float | None = None
    shares: dict[str, int] = dataclasses.field(default_factory=dict)
    start: tuple[float, float] | None = None

    def apply(self, event: events.Event, now: float) -> None:  # noqa: C901, PLR0912 - one flat table of event types
        """Add one event that happened at `now` (monotonic seconds)."""
        match event:
            case events.PushResumed():
                self._begin(event.push_id)
                self.chunks_before, self.job_id = event.chunks_acknowledged, event.job_id
                self._enter("resuming", now)
            case events.PushStarted():
                if event.push_id != self.push_id:
                    self._begin(event.push_id)
                self.table, self.mode, self.source = event.table, event.mode, event.source
                self.source_bytes, self.columns = event.source_bytes, event.columns
                self._enter("reading", now)
            case events.JobCreated():
                self.job_id = event.job_id
                self._enter("reading", now)
            case events.ChunkRead():
                self._read(event, now)
            case events.ChunkEncoded():
                self.rows_read += event.rows
                self.chunks_encoded += 1
            case events.UploadStarted():
                self.in_flight.add(event.chunk_id)
                self.first_upload_at = self.first_upload_at or now
                self._enter("uploading", now)
            case events.ChunkUploaded():
                self._uploaded(event, now)
            case events.ConcurrencyChanged():
                self.upload_limit = event.after
            case events.RetryScheduled():
                self.retries += 1
            case events.PushRestarted():
                self._restart(event.restarts)
                self._enter("restarting", now)
            case events.SourceAcknowledged():
                self._enter("verifying", now)
            case events.JobVerified():
                self._enter("submitting", now)
            case events.QuotaWaited():
                self._enter(
                    f"waiting {_WAITING_FOR.get(event.reason, 'for quota until')} {clock_time(event.until)}", now
                )
            case events.WaitStarted():
                self._enter(f"waiting: {event.reason}", now)
            case events.JobSubmitted():
                self._enter("submitted", now)
            case events.JobStatusChanged() | events.JobSettled():
                self._enter(f"job {event.status}", now)
            case _:
                pass

    def _begin(self, push_id: str) -> None:
        """Reset all totals for another push: one display may show several pushes in turn."""
        fresh = Progress(push_id=push_id)
        for field in dataclasses.fields(Progress):
            setattr(self, field.name, getattr(fresh, field.name))

    def _enter(self, phase: str, now: float) -> None:
        if phase != self.phase:
            self.phase, self.phase_since = phase, now

    def _read(self, event: events.ChunkRead, now: float) -> None:
        before, self.source_bytes_read = self.source_bytes_read or 0, event.source_bytes_read
        self._enter("uploading" if self.in_flight else "reading", now)
        if event.source_bytes_read is None:
            return
        share = max(event.source_bytes_read - before, 0)
        if self.chunks_before:  # whether an earlier process sent this chunk is not known here
            self.source_bytes_sent += share
        else:
            self.shares[event.chunk_id] = share
        if self.start is None:
            self.start = (now, self.fraction_sent or 0.0)

    def _uploaded(self, event: events.ChunkUploaded, now: float) -> None:
        self.in_flight.discard(event.chunk_id)
        self.chunks_sent += 1
        self.rows_sent += event.rows
        self.bytes_sent += event.payload_bytes
        self.last_upload_at = now
        # A chunk that had to be split into parts (`000017.1`) counts when the first of them has arrived.
        self.source_bytes_sent += self.shares.pop(event.chunk_id.partition(".")[0], 0)
        self._enter("uploading" if self.in_flight else "reading", now)

    def _restart(self, restarts: int) -> None:
        self.rows_read = self.rows_sent = self.chunks_encoded = self.chunks_sent = self.bytes_sent = 0
        self.chunks_before = self.source_bytes_sent = 0
        self.source_bytes_read = self.first_upload_at = self.last_upload_at = self.start = None
        self.in_flight.clear()
        self.shares.clear()
        self.restarts = restarts

    @property
    def is_transferring(self) -> bool:
        """Whether rows are being read or sent."""
        return self.phase in _TRANSFERRING

    @property
    def payload_rate(self) -> float | None:
        """Payload bytes per second between the start of the first upload and the latest response; None until there is a response."""
        if self.first_upload_at is None or self.last_upload_at is None:
            return None
        return self.bytes_sent / max(self.last_upload_at - self.first_upload_at, 1e-3)

    @property
    def fraction_sent(self) -> float | None:
        """The fraction of the source that is acknowledged, 0 to 1; None if it is unknown."""
        if not self.source_bytes or self.source_bytes_read is None:
            return None
        return min(self.source_bytes_sent / self.source_bytes, 1.0)

    @property
    def percent(self) -> int | None:
        """Percentage of the source that is acknowledged while rows are transferred, at most 99: the job follows. None if it is unknown."""
        fraction = self.fraction_sent if self.is_transferring else None
        return None if fraction is None else min(int(fraction * 100), _MOST_PERCENT)

    def seconds_left(self, now: float) -> float | None:
        """Return how long the transfer will probably take from `now` (monotonic seconds) onwards, seconds; None if it is unknown."""
        fraction = self.fraction_sent
        if not self.is_transferring or fraction is None or self.start is None:
            return None
        since, before = self.start
        return (1.0 - fraction) * (now - since) / (fraction - before) if fraction > before else None

    def describe_phase(self, now: float) -> str:
        """Describe what the push does at `now` (monotonic seconds), with how long the job has been doing it: `job RUNNING 0:34`."""
        if self.phase == "submitted" or self.phase.startswith("job "):
            return f"{self.phase} {format_clock(now - self.phase_since)}"
        return self.phase or "planning"

    def transfer(self) -> str:
        """Describe rows, chunks and speed in one line."""
        parts = [format_count(self.rows_read, "row") + " read", f"{format_count(self.chunks_sent, 'chunk')} sent"]
        waiting = self.chunks_encoded - self.chunks_sent - len(self.in_flight)
        if self.chunks_before:
            parts[-1] += f" (and {self.chunks_before:,} before this session)"
        if self.in_flight:
            most = f" of {self.upload_limit}" if self.upload_limit and self.upload_limit > len(self.in_flight) else ""
            parts.append(f"{len(self.in_flight)}{most} in flight")
        if waiting > 0:
            parts.append(f"{waiting} encoded")
        if self.payload_rate is not None:
            parts += [format_bytes(self.bytes_sent), f"{format_bytes(self.payload_rate)}/s"]
        return ", ".join(parts)
