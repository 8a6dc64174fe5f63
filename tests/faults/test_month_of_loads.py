"""A month of nights of `pushengine load`: each generation is loaded once, the quota is never passed, and what is wrong is told.

To replay a seed, run in `tests`: `python -c "from support.loads_month import LoadsMonth; print(LoadsMonth(SEED).run().problems)"`.
"""

import os

import pytest
from support.loads_month import LoadsMonth

LONG = int(os.environ.get("SIMULATED_LOAD_MONTHS", "2"))


def check(month):
    assert month.problems == []
    assert month.kills > 0
    assert month.platform.faults > 0
    assert {"done", "failed", "skipped", "missing"} <= set(month.states)


@pytest.mark.parametrize("seed", [3, 5])
def test_everything_is_loaded_once_and_told_in_six_nights(seed):
    check(LoadsMonth(seed, nights=6, tables=24, kill=0.6).run())


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 2 + LONG))
def test_everything_is_loaded_once_and_told_in_a_month_of_300_tables(seed):
    month = LoadsMonth(seed).run()
    check(month)
    assert "blocked" in month.states
    assert month.platform.refused > 0
