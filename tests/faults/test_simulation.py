"""Nights from seeds: the whole engine against a platform and a network that lose, delay and repeat things; and proof that the checker sees.

A failure prints its seed; to replay one: `python -c "from support.simulation import simulate; print(simulate(SEED).problems())"` in `tests`.
`SIMULATED_NIGHTS=100000 pytest -m slow tests/faults/test_simulation.py` looks further than CI does.
"""

import dataclasses
import functools
import os
from collections import Counter

import pytest
from support.simulation import CALM, Weather, simulate

from pushengine.errors import EngineClosedError
from pushengine.journal import facts
from pushengine.journal.push_log import PushLog
from pushengine.journal.state import PushState
from pushengine.pipeline import reconciler
from pushengine.push import continuation, job, submission
from pushengine.sources.fingerprint import compare_files

BLOCK = 50
SHORT = 300
LONG = int(os.environ.get("SIMULATED_NIGHTS", "10000"))
MUTANT_SEEDS = 50


def replay(seed, weather=None):
    told = f", weather={weather!r}" if weather else ""
    return (
        f'replay: cd tests && python -c "from support.simulation import *; print(simulate({seed!r}{told}).problems())"'
    )


def check_block(first, weather=None, **options):
    outcomes = Counter()
    for seed in range(first, first + BLOCK):
        try:
            night = simulate(seed, weather=weather, **options)
        except BaseException as error:
            error.add_note(f"{replay(seed, weather)} {options}")
            raise
        assert not night.problems(), f"{night.problems()}\n{replay(seed, weather)} {options}"
        outcomes[night.outcome] += 1
    return outcomes


@pytest.mark.parametrize("first", range(0, SHORT, BLOCK))
def test_no_row_is_lost_or_doubled_in_any_weather(first):
    outcomes = check_block(first)
    assert outcomes["DONE"] >= BLOCK * 0.7


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(SHORT, LONG, BLOCK))
def test_no_row_is_lost_or_doubled_in_ten_thousand_nights(first):
    check_block(first)


STORMS = {
    "every cut request arrives late": Weather(fault=0.4, crash=0.02, late=1.0),
    "nothing but counting": Weather(fault=0.3, crash=0.02, late=1.0, checksum="opaque"),
    "stale answers, empty lists after submit": Weather(
        fault=0.3, crash=0.03, late=1.0, stale=0.6, forgets_chunks=True, resubmit="accept", drain=0.3
    ),
    "source changes between runs": Weather(fault=0.1, crash=0.06, late=0.5, change=0.4),
    "source is touched, copied and renamed": Weather(fault=0.1, crash=0.06, late=0.5, touch=0.6, rename=0.3),
    "source changes under an old time": Weather(fault=0.1, crash=0.06, late=0.5, sneak=0.5, touch=0.3),
    "settings, cores and versions change": Weather(fault=0.1, crash=0.06, late=0.5, reconfigure=1.0, touch=0.3),
    "clocks are set": Weather(fault=0.2, crash=0.04, late=0.5, host_clock=0.7, server_clock=0.3, wrong_date=0.1),
    "impostors answer": Weather(fault=0.1, crash=0.03, late=0.5, impostor=0.15),
    "proxies repeat, strangers write": Weather(fault=0.1, crash=0.01, repeat=0.03, foreign=0.03),
    "schema learned late, jobs not deletable": Weather(fault=0.1, crash=0.1, late=1.0, undeletable=0.7),
    "disk full now and then": Weather(fault=0.1, crash=0.0, disk=0.02, drain=0.3),
    "the list lags by seconds": Weather(fault=0.2, crash=0.02, list_lag_seconds=5.0),
}


@pytest.mark.parametrize("name", STORMS)
def test_no_row_is_lost_or_doubled_in_a_storm(name):
    check_block(0, STORMS[name], rows=150)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STORMS)
def test_no_row_is_lost_or_doubled_in_long_storms(name):
    for first in range(0, 500, BLOCK):
        check_block(first, STORMS[name])


def test_a_calm_night_needs_one_run_and_sends_each_byte_once():
    for seed in range(20):
        night = simulate(seed, weather=CALM)
        assert (night.outcome, night.runs, len(night.platform.executions), night.problems()) == ("DONE", 1, 1, [])
        assert night.restarts or night.resent_bytes == 0


def test_a_stop_in_calm_weather_leaves_a_push_that_the_next_run_finishes():
    stopping = dataclasses.replace(CALM, drain=1.0)
    nights = [simulate(seed, weather=stopping, rows=400) for seed in range(20)]
    assert all(night.outcome == "DONE" and not night.problems() for night in nights)
    assert any(night.runs > 1 and night.resumed for night in nights)
    assert all(night.resent_bytes == 0 for night in nights if not night.restarts)


def test_the_same_seed_is_the_same_night():
    for seed in range(20):
        one, again = simulate(seed), simulate(seed)
        assert (one.trace, one.outcome, one.steps, one.table) == (again.trace, again.outcome, again.steps, again.table)
    assert len({simulate(seed).trace for seed in range(20)}) == 20


# --- The checker sees: an engine that is broken on purpose is caught within 50 seeds ----------------------------------------------------

BAD = Weather(fault=0.4, crash=0.02, vanish=0.0, late=1.0)


BETWEEN = Weather(fault=0.05, crash=0.08, late=0.0, vanish=0.0)
"""Many runs, for what happens between them."""


@functools.cache
def is_survived(weather):
    return caught(weather) is None


def caught(weather):
    """The first seed that shows it, and how."""
    for seed in range(MUTANT_SEEDS):
        try:
            problems = simulate(seed, weather=weather, rows=300).problems()
        except (AssertionError, EngineClosedError) as error:
            problems = [repr(error)]
        if problems:
            return seed, problems[0]
    return None


async def has_arrived_blind(self, chunk_id):
    """Whatever has no answer is sent again."""
    await self._context.log.record(
        facts.ChunkReconciled(job_id=self._job_id, chunk_id=chunk_id, is_present=False, how="count")
    )
    return False


async def seal_unseen(self, job_id):
    await self.context.log.record(facts.JobSealed(job_id=job_id, chunks=0, verified="count"))
    return "count"


async def no_wait(self, job_id):
    """As if nothing could come late."""


async def submit_again_unseen(self):
    """Whatever has no answer was not accepted."""
    return False


real_reconcile = reconciler.reconcile


def count_although_late_ones_may_come(*args, may_hold_late_chunks=False, **kwargs):
    return real_reconcile(*args, **kwargs, may_hold_late_chunks=False)


def reconcile_nothing_is_there(acked, unknown, listed, **kwargs):
    found = real_reconcile(acked, unknown, listed, **kwargs)
    return dataclasses.replace(
        found, present=frozenset(), absent=found.present | found.absent, taint=None, is_behind=False
    )


def reconcile_all_is_there(acked, unknown, listed, **kwargs):
    found = real_reconcile(acked, unknown, listed, **kwargs)
    return dataclasses.replace(
        found, present=found.present | found.absent, absent=frozenset(), taint=None, is_behind=False
    )


def job_even_if_abandoned(state):
    return state.jobs[-1] if state.jobs and not state.jobs[-1].is_discarded else None


async def other_files_are_another_content(self):
    """What was submitted counts for nothing once a file was touched."""
    return self._file_change() == "same"


async def sizes_and_probes_tell_all(self):
    return self._file_change() != "changed"


def probes_tell_all(before, now):
    """Touched files are what they were."""
    found = compare_files(before, now)
    return "same" if found == "touched" else found


async def believe_for_ever(self):
    """Who took a submit has taken it."""


def by_the_wall_clock(self, at):
    return self._clock.now() - at


UNSEALED = (job.JobRunner, "seal", seal_unseen)
MUTANTS = {
    "blind retry, no seal": ([(reconciler.Reconciler, "has_arrived", has_arrived_blind), UNSEALED], BAD),
    "all unanswered chunks taken for absent, no seal": (
        [(reconciler, "reconcile", reconcile_nothing_is_there), UNSEALED],
        BAD,
    ),
    "all unanswered chunks taken for present, no seal": (
        [(reconciler, "reconcile", reconcile_all_is_there), UNSEALED],
        BAD,
    ),
    "no quarantine": (
        [(job.JobRunner, "_wait_for_quarantine", no_wait)],
        dataclasses.replace(BAD, crash=0.0, list_lag_seconds=5.0),
    ),
    "no seal": ([UNSEALED], dataclasses.replace(BAD, crash=0.03, list_lag_seconds=5.0)),
    "counting although late ones may come": (
        [(reconciler, "reconcile", count_although_late_ones_may_come)],
        dataclasses.replace(BAD, checksum="none"),
    ),
    "submit repeated without reading the job": (
        [(submission.Submission, "_has_left_new", submit_again_unseen)],
        dataclasses.replace(BAD, resubmit="rerun", late=0.0),
    ),
    "a touched file is another content after the submit": (
        [(continuation.ContinuationCheck, "matches_what_was_sent", other_files_are_another_content)],
        dataclasses.replace(BETWEEN, touch=1.0),
    ),
    "size and probes tell the content after the submit": (
        [(continuation.ContinuationCheck, "matches_what_was_sent", sizes_and_probes_tell_all)],
        dataclasses.replace(BETWEEN, sneak=1.0),
    ),
    "size and probes tell the content while chunks remain": (
        [(continuation, "compare_files", probes_tell_all)],
        dataclasses.replace(BETWEEN, sneak=0.5),
    ),
    "an acknowledgement counts for ever": (
        [(submission.Submission, "repeat_if_due", believe_for_ever)],
        Weather(fault=0.0, crash=0.0, impostor=0.3),
    ),
    "what comes late is waited for by the wall clock": (
        [(PushLog, "seconds_since", by_the_wall_clock)],
        dataclasses.replace(BAD, crash=0.02, list_lag_seconds=5.0, host_clock=1.0),
    ),
    "a job whose deletion failed is used again": (
        [(PushState, "job", property(job_even_if_abandoned))],
        Weather(fault=0.05, crash=0.1, late=0.0, vanish=0.0, undeletable=1.0),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_caught_within_fifty_seeds(name, monkeypatch):
    patches, weather = MUTANTS[name]
    assert is_survived(weather), "the engine itself fails here"
    for place, attribute, mutant in patches:
        monkeypatch.setattr(place, attribute, mutant)
    assert caught(weather) is not None
