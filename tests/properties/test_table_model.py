"""Tables are as a simple model says after any sequence of pushes: every value lands unchanged, or its push is refused and nothing happens.

Mutants, which are engines broken on purpose, prove that the model detects errors. `TABLE_EXAMPLES=20000 pytest -m slow
tests/properties/test_table_model.py` tries more sequences than CI does.
"""

import asyncio
import os
import tempfile
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support.mutants import MUTANTS, break_engine
from support.simulation import SCRATCH
from support.table_checks import Checker
from support.table_stage import EmulatorStage, MemoryStage
from support.table_steps import worlds

from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.runtime.clock import SystemClock
from pushengine.testing import run_in_virtual_time

SHORT = 120
LONG = int(os.environ.get("TABLE_EXAMPLES", "5000"))
MUTANT_EXAMPLES = 150
MUTANT_SEEDS = 12
"""Whether a sequence of pushes meets a fault is a matter of chance: another seed is tried until one does."""
WEEK_SECONDS = 7 * 86_400.0
LISTINGS = st.sampled_from(["exact", "coarse", "denied"])
KINDS = ("alone",) * 6 + ("killed", "killed", "together")
SEVERAL = ("alone", "overtaken", "two engines", "one of two dies")
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}
UNSHRUNK = {"phases": [Phase.generate], "database": None, "report_multiple_bugs": False}


def problems_of(actions, listing="exact", outcomes=None):
    """Run actions in memory and in virtual time. Return what must not be so."""

    async def run():
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            stage = MemoryStage(folder, listing=listing, min_string_length=8, string_headroom=2.0)
            try:
                checker = Checker(stage)
                async with asyncio.timeout(WEEK_SECONDS):  # of virtual time: a push that waits forever fails
                    found = await checker.run(actions)
                if outcomes is not None:
                    outcomes.update(checker.outcomes)
                return found
            finally:
                stage.close()

    return run_in_virtual_time(run())


@settings(max_examples=SHORT, derandomize=True, **QUIET)
@given(actions=worlds(kinds=KINDS), listing=LISTINGS)
def test_each_table_is_as_the_model_says_after_any_pushes(actions, listing):
    assert problems_of(actions, listing) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=LONG, **QUIET)
@given(actions=worlds(kinds=KINDS + SEVERAL), listing=LISTINGS)
def test_each_table_is_as_the_model_says_after_many_more_pushes(actions, listing):
    assert problems_of(actions, listing) == []


@settings(max_examples=SHORT, derandomize=True, **QUIET)
@given(actions=worlds(kinds=SEVERAL), listing=LISTINGS)
def test_each_table_is_as_the_model_says_after_pushes_of_several_processes(actions, listing):
    assert problems_of(actions, listing) == []


def test_pushes_of_each_mode_are_loaded_and_refused_about_equally_often():
    outcomes = Counter()

    @settings(max_examples=60, derandomize=True, **QUIET, **UNSHRUNK)
    @given(actions=worlds(kinds=("alone",)))
    def count(actions):
        problems_of(actions, outcomes=outcomes)

    count()
    for mode in ("append", "upsert", "replace", "delete"):
        done, refused = outcomes[mode, "done"], outcomes[mode, "refused"]
        assert min(done, refused) > 0.1 * (done + refused), (mode, outcomes)


# --- The real emulator, over real HTTP


class HurriedClock(SystemClock):
    """A clock that is always far from a full hour and sleeps only for a moment."""

    def now(self):
        return super().now() // 3600 * 3600 + 600.0 + super().now() % 600

    async def sleep(self, seconds):
        await asyncio.sleep(min(seconds, 0.002))


def problems_on_emulator(actions, **emulator_settings):
    async def run():
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            options = {"queue_seconds": 0.0, "run_seconds": 0.0, "submits_per_hour": 10**6, "submits_per_second": 10**6}
            emulator = EmulatorSettings(**options, delta_new_columns="add", **emulator_settings)
            async with Emulator(settings=emulator) as running:
                return await Checker(EmulatorStage(running, folder, HurriedClock)).run(actions)

    return asyncio.run(run())


@pytest.mark.timeout(120)
@settings(max_examples=12, derandomize=True, **QUIET, **UNSHRUNK)
@given(
    actions=worlds(kinds=("alone", "alone", "killed"), size=5),
    columns_readable=st.booleans(),
    lists_exact_types=st.booleans(),
)
def test_each_table_of_the_emulator_is_as_the_model_says_after_any_pushes(actions, columns_readable, lists_exact_types):
    problems = problems_on_emulator(actions, columns_readable=columns_readable, lists_exact_types=lists_exact_types)
    assert problems == []


# --- The model works: an engine that is broken on purpose is caught


class CaughtError(Exception):
    pass


def is_caught_by(number, kinds):
    """Run the sequences of one seed, the same on every machine."""

    @seed(number)
    @settings(max_examples=MUTANT_EXAMPLES, **QUIET, **UNSHRUNK)
    @given(actions=worlds(kinds=kinds), listing=LISTINGS)
    def run(actions, listing):
        try:
            problems = problems_of(actions, listing)
        except Exception as error:
            raise CaughtError from error
        if problems:
            raise CaughtError(problems[0])

    try:
        run()
    except CaughtError:
        return True
    return False


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_caught(name, monkeypatch):
    break_engine(name, monkeypatch)
    kinds = ("together",) if "meanwhile" in name else ("alone",)
    assert any(is_caught_by(number, kinds) for number in range(MUTANT_SEEDS))
