"""Logging: one line per event on stderr, with UTC times and without secrets.

The event class gives the line its name (`ChunkUploaded` is logged as `chunk_uploaded`) and its attributes are the line's fields. Every
line has `push_id`, `table` and `pool` (null or empty if it is about no push); `job_id` and `chunk_id` are there where they apply. Rows and
payloads are never logged.

Secrets
    Each secret that this process holds is registered with `remember_secrets`. `mask` replaces secrets in text; the log processor
    `mask_secrets` does so in every field, at any depth. This is a second line of defense: no event should contain a secret in the first
    place.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from pushengine import events
from pushengine.config.load import LogFormat, LogLevel
from pushengine.redaction import MASKED, Secret, mask
from pushengine.text import shown_line, visible_json

if TYPE_CHECKING:
    from structlog.typing import Processor


_LEVEL_NUMBERS: Mapping[LogLevel, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_LONGEST_VALUE = 1_000
_MOST_VALUES = 100
_DEBUG = (events.ChunkRead, events.ChunkEncoded, events.UploadStarted, events.ConcurrencyChanged)
_WARNING = (
    events.RetryScheduled,
    events.PushRestarted,
    events.SchemaLearned,
    events.TableCompared,
    events.PushSuperseded,
    events.EarlierPushSettled,
    events.EarlierPushLeft,
    events.JobStayedNew,
    events.QuotaLedgerCorrected,
    events.StateFolderTightened,
)


def mask_secrets(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide secrets in every field of a log line (a structlog processor)."""
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
    """A logger that writes to `sys.stderr`, looked up anew for each line.

    The live display replaces `sys.stderr` while it runs, so that log lines do not garble it on the same terminal.
    """

    def msg(self, message: str) -> None:
        stream = sys.stderr.stream if isinstance(sys.stderr, JsonStderr) else sys.stderr
        stream.write(f"{message}\n")
        stream.flush()

    debug = info = warning = error = msg


class JsonStderr:
    """A replacement of `sys.stderr` that writes each line, whoever writes it, as a JSON object; call `configure_logging` first.

    Attributes:
        stream: The stream that it replaces.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._rest = ""

    def write(self, text: str) -> int:
        """Write the lines that are complete by now."""
        *lines, self._rest = f"{self._rest}{text}".split("\n")
        for line in filter(str.strip, lines):
            log_line("message_printed", "warning", message=line)
        return len(text)

    def flush(self) -> None:
        """Do nothing: each line is flushed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def log_line(event: str, level: LogLevel, **fields: Any) -> None:
    """Log what is no event of a push. A line that cannot be written is dropped."""
    with contextlib.suppress(OSError, ValueError):  # stderr is closed or full
        ids = {"push_id": None, "table": None, "pool": None}
        structlog.get_logger().log(_LEVEL_NUMBERS[level], event, **{**ids, **fields})


def _show_values(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make every field fit for a terminal (a structlog processor)."""
    for key, value in event_dict.items():
        event_dict[key] = _shown(value)
    return event_dict


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown_line(value, _LONGEST_VALUE)
    if isinstance(value, Mapping):
        return {shown_line(str(key), _LONGEST_VALUE): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value[:_MOST_VALUES]]
    return value


def _as_json(event_dict: Mapping[str, Any], **_options: Any) -> str:
    return visible_json(json.dumps(event_dict, ensure_ascii=False))


def configure_logging(format: LogFormat = "console", level: LogLevel = "info") -> None:  # noqa: A002 - named like the setting
    """Make structlog write lines of at least `level` to stderr, as text or as one JSON object per line."""
    renderer: Processor = (
        structlog.processors.JSONRenderer(_as_json)
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=20)
    )
    shown = [] if format == "json" else [_show_values]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets,
            *shown,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVEL_NUMBERS[level]),
        logger_factory=_StderrLogger,
        cache_logger_on_first_use=False,
    )


class LogSink:
    """An `EventSink` that logs each event; call `configure_logging` first."""

    def __init__(self) -> None:
        self._logger = structlog.get_logger()

    def emit(self, event: events.Event) -> None:
        """Log one event. A line that cannot be written is dropped: it must not fail the push."""
        try:
            self._logger.log(_LEVEL_NUMBERS[level_of(event)], event.name, **event.fields())
        except (OSError, ValueError):  # stderr is closed or full
            return


def level_of(event: events.Event) -> LogLevel:
    """Return the log level of an event.

    The steps of a chunk are `debug`, a problem that was repaired is `warning`, a failed push is `error`, and everything else is `info`.
    """
    if isinstance(event, events.PushFailed):
        return "error"
    if isinstance(event, _WARNING) or (isinstance(event, events.JobDeleted) and event.error):
        return "warning"
    return "debug" if isinstance(event, _DEBUG) else "info"
