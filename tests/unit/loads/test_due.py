"""When a load with a deadline is due."""

import datetime as dt
import zoneinfo

import pytest

from pushengine.config.loads.resolved import LoadSettings
from pushengine.loads.execution import due_at

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def at(text):
    return dt.datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


@pytest.mark.parametrize(
    ("started", "loaded", "due"),
    [
        ("2026-11-27 02:00", "2026-11-26 02:30", "2026-11-27 05:00"),
        ("2026-11-26 22:00", "2026-11-26 02:30", "2026-11-27 05:00"),
        ("2026-11-27 06:00", "2026-11-27 02:30", "2026-11-28 05:00"),  # done in time today: the next one counts
        ("2026-11-27 06:00", "2026-11-26 02:30", "2026-11-27 05:00"),  # today's was not done: it is late
        ("2026-11-27 06:00", None, "2026-11-28 05:00"),
        ("2026-03-29 01:00", "2026-03-28 02:30", "2026-03-29 05:00"),  # the clocks change in between
    ],
)
def test_the_deadline_is_the_next_one_or_the_one_that_passed_without_a_load(started, loaded, due):
    settings = LoadSettings(rule="r", table="T", deadline=dt.time(5), timezone=BERLIN)
    found = due_at(settings, at(started), None if loaded is None else at(loaded))
    assert found == at(due)


def test_without_a_deadline_nothing_is_due():
    assert due_at(LoadSettings(rule="r", table="T"), 0.0, None) is None
