"""Log lines: one per event, on stderr, with UTC times and without secrets.

The event class is the line's name (`ChunkUploaded` is `chunk_uploaded`), its attributes are the line's fields; `push_id` is in each line,
`job_id` and `chunk_id` where there is one. Rows and payloads are never logged.

Secrets
    `remember_secrets` is told each secret this process holds. `mask` replaces them in text, the log processor in every field, however
    deep. It is the second net: nothing is supposed to put a secret into an event in the first place.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from pushengine import events
from pushengine.config.load import LogFormat, LogLevel
from pushengine.redaction import MASKED, Secret, mask

if TYPE_CHECKING:
    from structlog.typing import Processor


_NUMBERS: Mapping[LogLevel, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_DEBUG = (events.ChunkRead, events.ChunkEncoded, events.UploadStarted, events.ConcurrencyChanged)
_WARNING = (
    events.RetryScheduled,
    events.PushRestarted,
    events.SchemaLearned,
    events.PushSuperseded,
    events.EarlierPushSettled,
    events.EarlierPushLeft,
    events.JobStayedNew,
    events.QuotaLedgerCorrected,
)


def mask_secrets(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor that hides secrets in every field of a line."""
    for key, value in event_dict.items():
        event_dict[key] = _masked(value)
    return event_dict


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Secret):
        return MASKED
    if isinstance(value, Mapping):
        return {key: _masked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else mask(str(value))


class _StderrLogger:
    """Writes to what `sys.stderr` is at that moment, so that lines and a live display on the same terminal do not mix."""

    def msg(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()

    debug = info = warning = error = msg


def configure_logging(format: LogFormat = "console", level: LogLevel = "info") -> None:  # noqa: A002 - the option's name
    """Send structlog lines of at least `level` to stderr, as text or as one JSON object each."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=20)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )


class LogSink:
    """An `EventSink` that logs each event; call `configure_logging` first."""

    def __init__(self) -> None:
        self._logger = structlog.get_logger()

    def emit(self, event: events.Event) -> None:
        """Log one event; a log line that cannot be written never harms the push."""
        try:
            self._logger.log(_NUMBERS[level_of(event)], event.name, **event.fields())
        except (OSError, ValueError):  # stderr is closed or full
            return


def level_of(event: events.Event) -> LogLevel:
    """How much a line matters: debug for the steps of a chunk, warning for what went wrong and was repaired."""
    if isinstance(event, events.PushFailed):
        return "error"
    if isinstance(event, _WARNING) or (isinstance(event, events.JobDeleted) and event.error):
        return "warning"
    return "debug" if isinstance(event, _DEBUG) else "info"
