"""Progress of a push, computed from its events."""

from __future__ import annotations

import dataclasses

from pushengine import events
from pushengine.text import clock_time, format_bytes, format_count

_WAITING_FOR = {"quarantine": "until", "turn": "for earlier submits until about"}


@dataclasses.dataclass(slots=True)
class Progress:
    """Totals over the events of one push.

    Attributes:
        chunks_before: Number of chunks that an earlier process sent; they are not sent again.
        upload_limit: Current limit of concurrent uploads; None until it changes for the first time.
    """

    push_id: str = ""
    table: str = ""
    mode: str = ""
    source: str = ""
    source_bytes: int | None = None
    source_bytes_read: int | None = None
    columns: int = 0
    rows_read: int = 0
    chunks_encoded: int = 0
    chunks_sent: int = 0
    chunks_before: int = 0
    bytes_sent: int = 0
    in_flight: set[str] = dataclasses.field(default_factory=set)
    upload_limit: int | None = None
    phase: str = ""
    job_id: str | None = None
    retries: int = 0
    restarts: int = 0
    first_upload_at: float | None = None
    last_upload_at: float | None = None

    def apply(self, event: events.Event, now: float) -> None:  # noqa: C901, PLR0912 - one flat table of event types
        """Add one event that happened at `now` (monotonic seconds)."""
        match event:
            case events.PushResumed():
                self._begin(event.push_id)
                self.chunks_before, self.job_id, self.phase = event.chunks_acknowledged, event.job_id, "resuming"
            case events.PushStarted():
                if event.push_id != self.push_id:
                    self._begin(event.push_id)
                self.table, self.mode, self.source = event.table, event.mode, event.source
                self.source_bytes, self.columns = event.source_bytes, event.columns
            case events.JobCreated():
                self.job_id, self.phase = event.job_id, "uploading"
            case events.ChunkRead():
                self.source_bytes_read = event.source_bytes_read
            case events.ChunkEncoded():
                self.rows_read += event.rows
                self.chunks_encoded += 1
            case events.UploadStarted():
                self.in_flight.add(event.chunk_id)
                self.first_upload_at = self.first_upload_at or now
            case events.ChunkUploaded():
                self._uploaded(event, now)
            case events.ConcurrencyChanged():
                self.upload_limit = event.after
            case events.RetryScheduled():
                self.retries += 1
            case events.PushRestarted():
                self._restart(event.restarts)
            case events.JobVerified():
                self.phase = "verified"
            case events.QuotaWaited():
                self.phase = f"waiting {_WAITING_FOR.get(event.reason, 'for quota until')} {clock_time(event.until)}"
            case events.JobSubmitted():
                self.phase = "submitted"
            case events.JobStatusChanged() | events.JobSettled():
                self.phase = f"job {event.status}"
            case _:
                pass

    def _begin(self, push_id: str) -> None:
        """Reset all totals for another push: one display may show several pushes in turn."""
        for field, value in dataclasses.asdict(Progress(push_id=push_id)).items():
            setattr(self, field, value)

    def _uploaded(self, event: events.ChunkUploaded, now: float) -> None:
        self.in_flight.discard(event.chunk_id)
        self.chunks_sent += 1
        self.bytes_sent += event.payload_bytes
        self.last_upload_at = now

    def _restart(self, restarts: int) -> None:
        self.rows_read = self.chunks_encoded = self.chunks_sent = self.bytes_sent = 0
        self.chunks_before = 0
        self.source_bytes_read = self.first_upload_at = self.last_upload_at = None
        self.in_flight.clear()
        self.restarts = restarts
        self.phase = "restarting"

    @property
    def payload_rate(self) -> float | None:
        """Payload bytes per second between the start of the first upload and the latest response; None until there is a response."""
        if self.first_upload_at is None or self.last_upload_at is None:
            return None
        return self.bytes_sent / max(self.last_upload_at - self.first_upload_at, 1e-3)

    @property
    def fraction_read(self) -> float | None:
        """The fraction of the source that has been read, 0 to 1; None if it is unknown."""
        if not self.source_bytes or self.source_bytes_read is None:
            return None
        return min(self.source_bytes_read / self.source_bytes, 1.0)

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
