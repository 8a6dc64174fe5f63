"""Log lines: one per event, with its UTC time and ids, and without secrets."""

import io
import json
import re

import pytest
import structlog

from pushengine import events, logs, redaction
from pushengine.redaction import Secret

RETRY = events.RetryScheduled(push_id="p1", operation="upload", attempt=2, wait_seconds=0.5, error="reset")
READ = events.ChunkRead(push_id="p1", chunk_id="000001", source_bytes_read=None)
CREATED = events.JobCreated(push_id="p1", table="T", pool="pool-1", job_id="j1")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(redaction, "_secrets", set())
    yield
    structlog.reset_defaults()


@pytest.fixture
def lines(capsys):
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_line_is_the_event_with_its_ids_level_and_utc_time(lines):
    logs.configure_logging("json", "debug")
    logs.LogSink().emit(CREATED)
    [line] = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    ids = {"push_id": "p1", "table": "T", "pool": "pool-1", "job_id": "j1"}
    assert line == {"event": "job_created", "level": "info"} | ids


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)],
)
def test_level_decides_which_events_are_logged(lines, level, expected):
    logs.configure_logging("json", level)
    sink = logs.LogSink()
    for event in (READ, CREATED, RETRY):
        sink.emit(event)
    assert len(lines()) == expected


def test_job_that_could_not_be_deleted_is_a_warning():
    assert logs.level_of(events.JobDeleted(push_id="p", job_id="j", error=None)) == "info"
    assert logs.level_of(events.JobDeleted(push_id="p", job_id="j", error="403")) == "warning"


def test_known_secrets_are_masked_at_any_depth(capsys):
    redaction.remember_secrets([Secret("hunter2-hunter2"), Secret("hunter2")])
    logs.configure_logging("json", "info")
    structlog.get_logger().info(
        "x",
        a="is hunter2-hunter2",
        b=["hunter2", {"c": ("hunter2",)}],
        d=Secret("other"),
        e=ValueError("hunter2"),
        f=1,
        g=None,
    )
    text = capsys.readouterr().err
    assert "hunter" not in text
    assert "other" not in text
    line = json.loads(text)
    assert (line["a"], line["b"], line["d"], line["f"], line["g"]) == (
        "is ***",
        ["***", {"c": ["***"]}],
        "***",
        1,
        None,
    )


def test_secrets_in_tracebacks_are_masked(capsys):
    redaction.remember_secrets([Secret("hunter2")])
    logs.configure_logging("json", "info")
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().exception("x")
    assert "hunter2" not in capsys.readouterr().err


def test_very_short_secrets_are_not_masked_in_ordinary_words():
    redaction.remember_secrets([Secret("a")])
    assert logs.mask("banana") == "banana"


def test_console_lines_are_readable_and_masked(capsys):
    redaction.remember_secrets([Secret("hunter2")])
    logs.configure_logging("console", "warning")
    logs.LogSink().emit(events.RetryScheduled(**{**RETRY.fields(), "error": "hunter2 refused"}))
    text = capsys.readouterr().err
    assert "retry_scheduled" in text
    assert "'*** refused'" in text


def test_closed_stderr_does_not_harm_the_push(monkeypatch):
    logs.configure_logging("json", "info")
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr("sys.stderr", stream)
    logs.LogSink().emit(CREATED)
