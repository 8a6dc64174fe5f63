"""When a load is due."""

import datetime as dt
import zoneinfo

import pytest

from pushengine.config.loads.resolved import LoadSettings
from pushengine.loads.execution import due_at

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def at(text, fold=0):
    return dt.datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("deadline", "start", "due"),
    [
        ("05:00", at("2026-11-27T02:00"), at("2026-11-27T05:00")),
        ("05:00", at("2026-11-27T06:00"), at("2026-11-28T05:00")),
        ("00:00", at("2026-11-26T23:00"), at("2026-11-27T00:00")),
        ("02:45", at("2026-10-25T02:30", fold=1), at("2026-10-25T02:45", fold=1)),
        ("02:10", at("2026-10-25T02:50"), at("2026-10-25T02:10", fold=1)),
        ("02:45", at("2026-10-25T02:50", fold=1), at("2026-10-26T02:45")),
        ("05:00", at("2026-03-28T06:00"), at("2026-03-29T05:00")),  # a day of 23 hours
        ("02:30", at("2026-03-29T01:00"), at("2026-03-29T03:30")),  # there is no half past two
    ],
)
def test_a_load_is_due_at_the_next_deadline_by_the_clock_of_its_time_zone(deadline, start, due):
    settings = LoadSettings(
        rule="r", table="T", mode="replace", deadline=dt.time.fromisoformat(deadline), timezone=BERLIN
    )
    assert due_at(settings, start, None) == due
