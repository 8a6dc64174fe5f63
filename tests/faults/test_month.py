"""A month of nightly loads whose extracts drift: each table holds what its policy says, each change was told, and no submit was wasted.

To replay a seed, run in `tests`: `python -c "from support.month import Month; print(Month(SEED).run().problems)"`.
"""

import os

import pytest
from support.month import EVENTS, Month
from support.mutants import break_engine

LONG = int(os.environ.get("SIMULATED_MONTHS", "5"))


def check(month):
    """Check a month that is over: the model found nothing after any push, and the quota was respected."""
    assert month.problems == []
    assert month.quota_problems() == []
    assert month.platform.faults > 0
    pushes = sum(month.outcomes.values())
    assert pushes == month.nights * len(month.feeds)
    assert month.runs > pushes, "no command had to be run again"
    refused = sum(count for (_, outcome), count in month.outcomes.items() if outcome == "refused")
    assert 0.1 < refused / pushes < 0.5


def test_each_table_holds_what_its_policy_says_after_eight_nights():
    month = Month(1, nights=8, tables=27).run()
    check(month)
    assert {event for event, _ in month.outcomes} >= set(EVENTS)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 2 + LONG))
def test_each_table_holds_what_its_policy_says_after_a_month(seed):
    month = Month(seed).run()
    check(month)
    assert {event for event, outcome in month.outcomes if outcome == "done"} >= set(EVENTS) - {
        "0 bytes",
        "key without value",
    }


# --- The checks work: an engine that is broken on purpose is caught within some nights


@pytest.mark.parametrize(
    "name",
    [
        "nothing is remembered",
        "the drift policy is not applied",
        "changes are not told",
        "lengths are not checked",
    ],
)
def test_a_broken_engine_is_caught_within_six_nights(name, monkeypatch):
    break_engine(name, monkeypatch)
    assert Month(4, nights=6, tables=20, is_over_at_problem=True).run().problems
