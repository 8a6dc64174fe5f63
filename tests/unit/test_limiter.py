import random

import pytest

from pushengine.errors import LedgerError
from pushengine.ledger import SqliteLedger
from pushengine.limiter import ServerClock, SubmitLimiter
from pushengine.testing import VirtualClock, run_in_virtual_time

HOUR = 3600.0
NOON = 1_750_000_000.0 - 1_750_000_000.0 % HOUR


async def inline(function, /, *args, **kwargs):
    return function(*args, **kwargs)


def limiter_on(path, clock):
    ledger = SqliteLedger(path)
    return ledger, SubmitLimiter(
        ledger,
        team="acme",
        server_clock=ServerClock(clock),
        clock=clock,
        off_loop=inline,
        rng=random.Random(1),
        spacing_seconds=ledger.spacing_seconds,
        submits_per_hour=250,
    )


def waits_after_refusals(tmp_path, count, *, retry_after=None, spent_before=0):
    waits = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = limiter_on(tmp_path / "quota.sqlite3", clock)
        for number in range(spent_before):
            assert ledger.reserve("acme", NOON + 10 + number).granted
        for _ in range(count):
            await limiter.acquire(lambda *wait: None)
            refused_at = clock.now()
            await limiter.refused(retry_after)
            await limiter.acquire(lambda *wait: None)
            waits.append(clock.now() - refused_at)
        ledger.close()

    run_in_virtual_time(main())
    return waits


def test_a_429_without_a_time_waits_a_second_first_and_for_the_full_hour_in_the_end(tmp_path):
    waits = waits_after_refusals(tmp_path, 4)
    assert waits[0] == pytest.approx(1, abs=0.5)
    assert waits[1] == pytest.approx(5, abs=1)
    assert waits[2] == pytest.approx(30, abs=4)
    assert waits[3] == pytest.approx(HOUR - 600 - 36 + 2, abs=15)


def test_a_429_when_our_own_count_is_nearly_full_waits_for_the_next_hour(tmp_path):
    (wait,) = waits_after_refusals(tmp_path, 1, spent_before=245)
    assert wait == pytest.approx(HOUR - 600 + 2, abs=4)


def test_a_429_with_a_time_waits_just_that(tmp_path):
    (wait,) = waits_after_refusals(tmp_path, 1, retry_after=77.0)
    assert wait == pytest.approx(77, abs=3)


def test_the_waiting_push_says_until_when(tmp_path):
    announced = []

    async def main():
        clock = VirtualClock(NOON + 600)
        ledger, limiter = limiter_on(tmp_path / "quota.sqlite3", clock)
        for number in range(250):
            assert ledger.reserve("acme", NOON + 10 + number).granted
        spent = await limiter.acquire(lambda *wait: announced.append(wait))
        ledger.close()
        return spent

    assert run_in_virtual_time(main()) == 1
    ((until, wait, reason),) = announced
    assert reason == "hour"
    assert until.timestamp() == pytest.approx(NOON + HOUR + 2, abs=3)
    assert wait == pytest.approx(HOUR - 600 + 2, abs=3)


def test_an_unusable_ledger_grants_nothing_and_names_the_file(tmp_path):
    path = tmp_path / "quota.sqlite3"
    path.write_bytes(b"this is not a database, but it is long enough to look like one" * 100)
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(path)
    assert caught.value.path == str(path)
    assert "PUSHENGINE_STATE_DIR" in caught.value.hint


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path):
    import sqlite3

    path = tmp_path / "quota.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(LedgerError, match="format 99"):
        SqliteLedger(path)


def test_a_closed_ledger_says_so(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.reserve("acme", NOON)


def test_the_ledger_file_is_private(tmp_path):
    ledger = SqliteLedger(tmp_path / "quota.sqlite3")
    assert (tmp_path / "quota.sqlite3").stat().st_mode & 0o077 == 0
    ledger.close()
