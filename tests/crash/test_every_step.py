"""The process dies at every single step of a small push (before and after each journal write, and before, during and after each request),
and once more while it recovers. Each time, the rows arrive once, in one execution, and only what was in flight is sent again."""

import dataclasses
import random

import pytest
from support.simulation import CALM, simulate

ROWS = 200
SEEDS = {"csv": 8, "parquet": 8}
MAX_STEPS = 1000

AFTERMATHS = {
    "requests in flight never arrive": CALM,
    "requests in flight arrive later": dataclasses.replace(CALM, late=1.0),
    "requests in flight arrive later, without checksums": dataclasses.replace(CALM, late=1.0, checksum="none"),
}


def simulate_crashes(kind, weather, crashes):
    return simulate(SEEDS[kind], weather=weather, crash_after=crashes, kind=kind, rows=ROWS, mode="append")


def check(night, crashes):
    """Check everything that must hold after these crashes."""
    place = f"crashes {crashes} of seed {night.seed}"
    assert night.problems() == [], place
    assert night.outcome == "DONE", place
    assert len(night.platform.executions) == 1, place
    assert night.platform.is_whole(night.platform.table), place
    assert len(night.platform.submit_times) <= 1 + len(crashes), place
    if not night.restarts:
        assert night.resent_bytes <= len(crashes) * night.in_flight_bytes, place


def steps_of(kind, weather):
    night = simulate_crashes(kind, weather, (0,))
    assert (night.runs, night.crashes, night.restarts) == (1, 0, 0)
    assert night.max_uploads > 1
    return night.steps


@pytest.mark.parametrize("aftermath", AFTERMATHS)
@pytest.mark.parametrize("kind", SEEDS)
def test_a_push_that_dies_at_any_step_is_finished_by_the_next_run(kind, aftermath):
    weather = AFTERMATHS[aftermath]
    died = 0
    for step in range(1, MAX_STEPS):
        night = simulate_crashes(kind, weather, (step,))
        check(night, (step,))
        if not night.crashes:
            break
        assert night.runs == 2
        died += 1
    assert died == steps_of(kind, weather) > 40


@pytest.mark.parametrize("kind", SEEDS)
def test_a_push_that_dies_again_while_it_recovers_is_finished_by_the_third_run(kind):
    weather = AFTERMATHS["requests in flight arrive later"]
    steps = steps_of(kind, weather)
    rng = random.Random(
        7
    )  # a sample; `test_a_push_that_dies_at_any_two_steps_is_finished_by_a_later_run`, which is marked slow, runs all pairs
    for _ in range(60):
        crashes = (rng.randint(1, steps), rng.randint(1, steps))
        check(simulate_crashes(kind, weather, crashes), crashes)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("aftermath", AFTERMATHS)
@pytest.mark.parametrize("kind", SEEDS)
def test_a_push_that_dies_at_any_two_steps_is_finished_by_a_later_run(kind, aftermath):
    weather = AFTERMATHS[aftermath]
    for first in range(1, steps_of(kind, weather) + 1):
        for second in range(1, MAX_STEPS):
            night = simulate_crashes(kind, weather, (first, second))
            check(night, (first, second))
            if night.crashes < 2:
                break


@pytest.mark.parametrize("mode", ["append", pytest.param("replace", marks=pytest.mark.slow)])
def test_a_crash_at_any_step_and_a_source_that_changes_after_it_never_mix_rows(mode):
    weather = dataclasses.replace(CALM, late=1.0, change=1.0)
    for step in range(1, MAX_STEPS):
        night = simulate(3, weather=weather, crash_after=step, rows=150, mode=mode)
        assert night.problems() == []
        assert all(len(versions) == 1 for _, versions in night.platform.executions)
        if not night.crashes:
            break
