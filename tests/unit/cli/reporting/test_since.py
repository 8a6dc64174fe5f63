"""The times that `--since` takes, in the timezone of the machine."""

import datetime as dt
import time

import pytest

from pushengine.cli.reporting.since import parse_since
from pushengine.errors import ConfigError


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def now():
    return dt.datetime(2026, 11, 27, 8, 0).astimezone()


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("yesterday", "2026-11-26T12:00:00+01:00"),
        ("Today", "2026-11-27T00:00:00+01:00"),
        ("2026-11-26", "2026-11-26T00:00:00+01:00"),
        ("2026-10-20", "2026-10-20T00:00:00+02:00"),  # summer time
        ("2026-11-26T18:30", "2026-11-26T18:30:00+01:00"),
        ("2026-11-26T18:30:00Z", "2026-11-26T19:30:00+01:00"),
        ("12h", "2026-11-26T20:00:00+01:00"),
        ("2d", "2026-11-25T08:00:00+01:00"),
    ],
)
def test_each_form(text, iso):
    assert parse_since(text, now()).isoformat() == iso


@pytest.mark.parametrize("text", ["", "tomorrow", "12", "-1d", "999999999d", "0001-01-01", "2026-13-01", "\x1b[2J"])
def test_what_names_no_time_is_refused(text):
    with pytest.raises(ConfigError, match="names no time") as refused:
        parse_since(text, now())
    assert refused.value.key == "--since"
    assert "\x1b" not in str(refused.value)


def test_the_future_is_refused():
    with pytest.raises(ConfigError, match="in the future"):
        parse_since("2026-11-28", now())
