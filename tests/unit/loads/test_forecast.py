import datetime as dt

from pushengine.cli.reporting.loads import describe_forecast
from pushengine.loads.forecast import Batch, forecast
from pushengine.model import QuotaStatus

NOW = dt.datetime(2026, 11, 27, 2, 10, tzinfo=dt.UTC)


def quota(spent=0, limit=250, blocked=None):
    return QuotaStatus("t", "2026-11-27T02:00:00Z", spent, limit, "2026-11-27T03:00:00Z", blocked)


def hour(number, minute=0):
    return dt.datetime(2026, 11, 27, number, minute, tzinfo=dt.UTC)


def expected(pushes, status, durations=()):
    return forecast({"t": pushes}, {"t": status}, now=NOW, durations=durations, parallel=8)


def test_submits_beyond_the_quota_of_this_hour_leave_in_the_next():
    found = expected(312, quota(), [240.0] * 312)
    assert found.batches == (Batch(None, 250), Batch(hour(3), 62))
    assert describe_forecast(found).startswith("312 tables: 250 this hour, 62 after 03:00Z, about 0")


def test_many_hours():
    assert [batch.submits for batch in expected(600, quota(spent=100)).batches] == [150, 250, 200]


def test_a_block_of_the_platform_is_waited_for():
    found = expected(10, quota(blocked="2026-11-27T02:40:00Z"))
    assert found.batches == (Batch(hour(2, 40), 10),)
    assert found.ends_at >= hour(2, 40)


def test_durations_of_earlier_runs_say_when_it_ends():
    ends = expected(8, quota(), [600.0] * 8).ends_at
    assert dt.timedelta(seconds=600) <= ends - NOW < dt.timedelta(seconds=602)


def test_teams_have_quotas_of_their_own():
    statuses = {"a": quota(spent=250), "b": quota()}
    found = forecast({"a": 5, "b": 7}, statuses, now=NOW, durations=[], parallel=8)
    assert found.batches == (Batch(None, 7), Batch(hour(3), 5))
