"""The quota ledger: wrong clocks, blocks, and older versions that share the file."""

import contextlib
import sqlite3

import pytest

from pushengine.cli import exit_codes
from pushengine.errors import LedgerError
from pushengine.quota.ledger import SqliteLedger

HOUR, DAY = 3600.0, 24 * 3600.0
NOON = 1_750_000_000.0 - 1_750_000_000.0 % HOUR
TEAM = "acme"


@pytest.fixture
def ledger(tmp_path):
    with contextlib.closing(SqliteLedger(tmp_path / "quota.sqlite3")) as ledger:
        yield ledger


def spend(ledger, count, server_now, host_now=None):
    """Take `count` grants, one second apart; the last one is taken at the given times."""
    host_now = server_now if host_now is None else host_now
    for number in range(count):
        ago = count - 1 - number
        assert ledger.reserve(TEAM, server_now - ago, host_now - ago).granted


def row_of(ledger):
    with contextlib.closing(sqlite3.connect(ledger.path)) as connection:
        return connection.execute("SELECT hour, spent, next_grant, blocked_until FROM quota").fetchone()


# --- A host clock that was wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [5.0, 60.0, HOUR, 20 * HOUR, 90 * DAY])
def test_a_host_clock_that_was_ahead_once_costs_one_spacing_and_is_reported(ledger, ahead):
    spend(ledger, 1, NOON + 600, NOON + 600 + ahead)
    refused = ledger.reserve(TEAM, NOON + 601)
    assert (refused.granted, refused.reason) == (False, "second")
    assert refused.wait_seconds <= ledger.spacing_seconds + 1e-6
    assert "clock" in refused.warning
    too_early = ledger.reserve(TEAM, NOON + 601 + ledger.spacing_seconds / 2)
    assert (too_early.granted, too_early.warning) == (False, "")
    granted = ledger.reserve(TEAM, NOON + 601.001 + ledger.spacing_seconds)
    assert (granted.granted, granted.spent, granted.warning) == (True, 2, "")


def test_a_slightly_old_reading_of_the_clock_is_not_a_wrong_clock(ledger):
    """A thread was delayed between reading the clock and the call, and another process got a grant meanwhile."""
    spend(ledger, 1, NOON + 601.5)
    row = row_of(ledger)
    refused = ledger.reserve(TEAM, NOON + 600)
    assert (refused.granted, refused.warning) == (False, "")
    assert row_of(ledger) == row


def test_a_grant_written_while_waiting_for_the_lock_is_not_taken_for_a_wrong_time(ledger):
    other = sqlite3.connect(ledger.path, isolation_level=None)
    spend(ledger, 1, NOON + 600)
    ledger.reserve(TEAM, NOON + 601)
    written = []

    def write_first():
        """Commit as another process would, between the read without the lock and the read under it."""
        if not written:
            written.append(True)
            other.execute("UPDATE quota SET next_grant = ?", (NOON + 700,))

    real = ledger._transaction
    ledger._transaction = lambda: (write_first(), real())[1]
    refused = ledger.reserve(TEAM, NOON + 602)
    other.close()
    assert (refused.granted, refused.warning, row_of(ledger)[2]) == (False, "", NOON + 700)


@pytest.mark.parametrize("hours_ahead", [1, 20, 90 * 24])
def test_an_hour_written_with_a_wrong_clock_is_this_hour_and_keeps_its_count(ledger, hours_ahead):
    spend(ledger, 250, NOON + hours_ahead * HOUR + 600, NOON + 600)
    refused = ledger.reserve(TEAM, NOON + 601)
    assert (refused.reason, refused.wait_seconds) == ("hour", HOUR - 601 + 2)
    assert ledger.spent(TEAM, NOON + 601) == 250
    granted = ledger.reserve(TEAM, NOON + HOUR + 10)
    assert (granted.granted, granted.spent) == (True, 1)


@pytest.mark.parametrize("ahead", [HOUR, 90 * DAY])
def test_a_full_count_from_a_clock_that_was_ahead_ends_at_the_next_full_hour(ledger, ahead):
    spend(ledger, 250, NOON + 600 + ahead)
    ledger.reserve(TEAM, NOON + 601)
    refused = ledger.reserve(TEAM, NOON + 602)
    assert (refused.reason, refused.wait_seconds) == ("hour", HOUR - 602 + 2)
    assert ledger.reserve(TEAM, NOON + HOUR + 10).granted


def test_a_host_clock_that_is_set_back_keeps_the_hours_count(ledger):
    spend(ledger, 250, NOON + 600)
    ledger.reserve(TEAM, NOON + 601, NOON - 2 * HOUR)
    assert ledger.reserve(TEAM, NOON + 602, NOON - 2 * HOUR + 1).reason == "hour"
    assert ledger.reserve(TEAM, NOON + HOUR + 10, NOON - HOUR + 10).granted


def test_processes_that_disagree_about_the_hour_share_one_count(ledger):
    """One of them believes that the server is an hour ahead: both share the same 250 submits of this hour."""
    granted = 0
    for number in range(400):
        host_now = NOON + 10 + number
        granted += ledger.reserve(TEAM, host_now + (HOUR if number % 2 else 0.0), host_now).granted
    assert granted == 250
    assert ledger.reserve(TEAM, NOON + HOUR + 10, NOON + HOUR + 10).spent == 1


# --- Blocks ------------------------------------------------------------------------------------------------------------------------------


def block(ledger, seconds, server_now, host_now=None, *, is_named=False):
    ledger.block(TEAM, seconds, server_now, host_now, is_named=is_named, reason="the reason")


def test_a_block_ends_at_the_full_hour_of_either_clock_at_the_latest(ledger):
    block(ledger, 5000.0, NOON + 600 + 20 * HOUR + 900, NOON + 600)  # the server's clock is 20 h 15 min ahead
    assert ledger.reserve(TEAM, NOON + 700).wait_seconds == pytest.approx(2000)
    assert ledger.reserve(TEAM, NOON + 3000, NOON + 3000).granted


@pytest.mark.parametrize("wrong", [20 * HOUR, 19.3 * HOUR, -20 * HOUR])
def test_a_wrong_server_clock_does_not_block_beyond_the_next_full_hour(ledger, wrong):
    block(ledger, 3600.0, NOON + 600 + wrong, NOON + 600)
    assert ledger.reserve(TEAM, NOON + HOUR + 2.5).granted


def test_a_time_that_the_server_specified_may_pass_the_full_hour_but_not_exceed_a_day(ledger):
    block(ledger, 10_000.0, NOON + 600, is_named=True)
    assert ledger.reserve(TEAM, NOON + 10_500).reason == "server"
    assert ledger.reserve(TEAM, NOON + 10_700).granted
    block(ledger, 90 * DAY, NOON + 10_800, is_named=True)
    assert ledger.status(TEAM, NOON + 10_800).block_seconds == DAY


def test_the_longer_of_two_blocks_applies(ledger):
    block(ledger, 500.0, NOON + 600, is_named=True)
    block(ledger, 1.0, NOON + 601)
    assert ledger.status(TEAM, NOON + 602).block_seconds == pytest.approx(498)
    block(ledger, 900.0, NOON + 602, is_named=True)
    assert ledger.status(TEAM, NOON + 602).block_seconds == pytest.approx(900)


@pytest.mark.parametrize("ahead", [HOUR, 20 * HOUR, 90 * DAY])
def test_a_block_set_with_a_clock_that_was_ahead_is_shortened_and_reported(ledger, ahead):
    block(ledger, 20 * HOUR, NOON + 600 + ahead, is_named=True)
    assert ledger.status(TEAM, NOON + 600).block_seconds == HOUR - 600
    refused = ledger.reserve(TEAM, NOON + 600)
    assert (refused.reason, refused.wait_seconds) == ("server", HOUR - 600)
    assert "clock" in refused.warning
    assert ledger.reserve(TEAM, NOON + 700).warning == ""
    assert ledger.reserve(TEAM, NOON + HOUR + 10).granted


def test_the_status_of_a_block_says_why_and_for_how_long(ledger):
    assert ledger.status(TEAM, NOON).block_reason is None
    block(ledger, 77.0, NOON + 600, is_named=True)
    status = ledger.status(TEAM, NOON + 610)
    assert (status.spent, status.block_seconds, status.block_reason) == (0, 67.0, "the reason")
    assert ledger.status(TEAM, NOON + 700).block_reason is None


# --- Older versions share the file --------------------------------------------------------------------------------------------------------

_OLD_SCHEMA = """
CREATE TABLE quota (
    team TEXT PRIMARY KEY,
    hour INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    next_grant REAL NOT NULL,
    blocked_until REAL NOT NULL
) STRICT
"""


@pytest.fixture
def old(tmp_path):
    """The connection of an older version, which created the file."""
    with contextlib.closing(sqlite3.connect(tmp_path / "quota.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(_OLD_SCHEMA)
        connection.execute("PRAGMA user_version=1")
        yield connection


def old_block(old, until):
    old.execute(
        "INSERT INTO quota VALUES (:team, 0, 0, 0.0, :until)"
        " ON CONFLICT (team) DO UPDATE SET blocked_until = max(blocked_until, :until)",
        {"team": TEAM, "until": until},
    )


def test_a_file_of_an_older_version_is_continued_and_keeps_its_format(old, ledger):
    old.execute("INSERT INTO quota VALUES (?, ?, 249, ?, 0.0)", (TEAM, NOON // HOUR, NOON + 10))
    assert ledger.reserve(TEAM, NOON + 20).spent == 250
    assert ledger.reserve(TEAM, NOON + 21).reason == "hour"
    assert old.execute("PRAGMA user_version").fetchone() == (1,)
    assert old.execute("SELECT hour, spent FROM quota").fetchone() == (NOON // HOUR, 250)


def test_an_older_version_sees_the_blocks_of_this_version(old, ledger):
    block(ledger, 500.0, NOON + 600, is_named=True)
    assert old.execute("SELECT blocked_until FROM quota").fetchone() == (NOON + 1100,)
    ledger.reserve(TEAM, NOON + 1200)
    assert old.execute("SELECT blocked_until FROM quota").fetchone() == (0.0,)


def test_a_block_of_an_older_version_lasts_until_the_next_full_hour_and_not_until_the_one_after(old, ledger):
    old_block(old, NOON + 20 * HOUR)
    assert (
        ledger.status(TEAM, NOON + 600).block_reason
        == "an older version recorded that the server refused a submit (429)"
    )
    refused = ledger.reserve(TEAM, NOON + 600)
    assert (refused.reason, refused.wait_seconds, refused.warning) == ("server", HOUR - 600, "")
    assert ledger.reserve(TEAM, NOON + HOUR + 10).granted


def test_a_block_that_an_older_version_adds_to_one_of_this_version_counts_too(old, ledger):
    block(ledger, 100.0, NOON + 600, is_named=True)
    old_block(old, NOON + 900)
    assert ledger.reserve(TEAM, NOON + 650).wait_seconds == 250
    old_block(old, NOON + 800)
    assert ledger.reserve(TEAM, NOON + 650).wait_seconds == 250


# --- Reset --------------------------------------------------------------------------------------------------------------------------------


def test_reset_clears_blocks_and_future_times_and_keeps_the_count(ledger):
    spend(ledger, 3, NOON + 20 * HOUR + 600)
    block(ledger, 20 * HOUR, NOON + 600, is_named=True)
    cleared = ledger.reset(TEAM, NOON + 610)
    assert len(cleared) == 3
    assert "the reason" in cleared[0]
    assert ledger.spent(TEAM, NOON + 610) == 3
    granted = ledger.reserve(TEAM, NOON + 610.2)
    assert (granted.granted, granted.spent) == (True, 4)


def test_reset_of_a_sound_ledger_clears_nothing(ledger):
    assert ledger.reset(TEAM, NOON + 600) == ()
    spend(ledger, 250, NOON + 600)
    row = row_of(ledger)
    assert ledger.reset(TEAM, NOON + 600.05) == ()
    assert row_of(ledger) == row
    assert ledger.reserve(TEAM, NOON + 601).reason == "hour"


def test_a_correction_is_on_disk_before_it_is_reported(tmp_path):
    flushed = []
    with contextlib.closing(SqliteLedger(tmp_path / "quota.sqlite3", flush=flushed.append)) as ledger:
        spend(ledger, 1, NOON + HOUR + 600)
        assert ledger.reserve(TEAM, NOON + 600).warning
        assert len(flushed) == 2


# --- A file that fails ------------------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_reported_as_such_and_changes_nothing(ledger):
    """SQLite rolls the transaction back by itself, so there is none left to roll back."""
    spend(ledger, 1, NOON + 600)
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count={pages}")
    before = row_of(ledger)
    with pytest.raises(LedgerError, match="disk is full") as caught:
        ledger.block(TEAM, 60.0, NOON + 601, is_named=True, reason="x" * 100_000)
    assert exit_codes.exit_code_for(caught.value) == 75
    assert row_of(ledger) == before
    spend(ledger, 1, NOON + 602)
