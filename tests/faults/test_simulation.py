"""Simulated nights, each from a seed: the whole engine against a platform and a network that lose, delay and repeat things.

Mutants, which are engines broken on purpose, prove that the checker detects errors. A failure prints its seed. To replay it, run in `tests`:
`python -c "from support.simulation import simulate; print(simulate(SEED).problems())"`.
`SIMULATED_NIGHTS=100000 pytest -m slow tests/faults/test_simulation.py` tries more seeds than CI does.
"""

import dataclasses
import math
import os
from collections import Counter

import pytest
from support.simulation import CALM, Weather, simulate

from pushengine.errors import EngineClosedError
from pushengine.journal import facts
from pushengine.journal.push_log import PushLog
from pushengine.journal.state import PushState
from pushengine.pipeline import reconciler
from pushengine.pipeline.context import PushContext
from pushengine.push import continuation, ending, job, submission
from pushengine.sources.fingerprint import compare_files

BLOCK = 50
SHORT = 300
LONG = int(os.environ.get("SIMULATED_NIGHTS", "10000"))
MUTANT_SEEDS = 80


def replay(seed, weather=None):
    options = f", weather={weather!r}" if weather else ""
    return f'replay: cd tests && python -c "from support.simulation import *; print(simulate({seed!r}{options}).problems())"'


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
def test_no_row_is_lost_or_duplicated_in_any_weather(first):
    outcomes = check_block(first)
    assert outcomes["DONE"] >= BLOCK * 0.7


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(SHORT, LONG, BLOCK))
def test_no_row_is_lost_or_duplicated_in_ten_thousand_nights(first):
    check_block(first)


STORMS = {
    "every request that is cut off arrives late": Weather(fault=0.4, crash=0.02, late=1.0),
    "chunks can only be counted": Weather(fault=0.3, crash=0.02, late=1.0, checksum="opaque"),
    "stale responses, empty lists after submit": Weather(
        fault=0.3, crash=0.03, late=1.0, stale=0.6, forgets_chunks=True, resubmit="accept", drain=0.3
    ),
    "source changes between runs": Weather(fault=0.1, crash=0.06, late=0.5, change=0.4),
    "source is touched, copied and renamed": Weather(fault=0.1, crash=0.06, late=0.5, touch=0.6, rename=0.3),
    "source changes but keeps its old time": Weather(fault=0.1, crash=0.06, late=0.5, sneak=0.5, touch=0.3),
    "settings, cores and versions change": Weather(fault=0.1, crash=0.06, late=0.5, reconfigure=1.0, touch=0.3),
    "clocks are changed": Weather(fault=0.2, crash=0.04, late=0.5, host_clock=0.7, server_clock=0.3, wrong_date=0.1),
    "impostors respond": Weather(fault=0.1, crash=0.03, late=0.5, impostor=0.15),
    "proxies repeat uploads, strangers add chunks": Weather(fault=0.1, crash=0.01, repeat=0.03, foreign=0.03),
    "schema inferred late, jobs not deletable": Weather(fault=0.1, crash=0.1, late=1.0, undeletable=0.7),
    "disk is full now and then": Weather(fault=0.1, crash=0.0, disk=0.02, drain=0.3),
    "another host spends the quota, jobs are slow": Weather(
        fault=0.1, crash=0.02, late=0.5, other_host=0.5, slow_job=0.05, host_clock=0.2
    ),
    "the list lags by seconds": Weather(fault=0.2, crash=0.02, list_lag_seconds=5.0),
}


@pytest.mark.parametrize("name", STORMS)
def test_no_row_is_lost_or_duplicated_in_a_storm(name):
    check_block(0, STORMS[name], rows=150)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STORMS)
def test_no_row_is_lost_or_duplicated_in_long_storms(name):
    for first in range(0, 500, BLOCK):
        check_block(first, STORMS[name])


def test_a_push_whose_uploads_keep_arriving_late_restarts_once_at_most():
    """The first job sends missing chunks again at once, and may so hold one twice. Later jobs wait until they can no longer arrive."""
    weather = Weather(fault=0.2, crash=0.0, vanish=0.0, late=1.0)
    nights = [simulate(seed, weather=weather, rows=2000) for seed in range(8)]
    assert [(night.outcome, night.problems()) for night in nights] == [("DONE", [])] * len(nights)
    assert {night.restarts for night in nights} == {0, 1}


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


def test_the_same_seed_gives_the_same_night():
    for seed in range(20):
        one, again = simulate(seed), simulate(seed)
        assert (one.trace, one.outcome, one.steps, one.table) == (again.trace, again.outcome, again.steps, again.table)
    assert len({simulate(seed).trace for seed in range(20)}) == 20


# --- The checker works: an engine that is broken on purpose is caught within 50 seeds ---------------------------------------------------

BAD = Weather(fault=0.4, crash=0.02, vanish=0.0, late=1.0)


BETWEEN = Weather(fault=0.05, crash=0.08, late=0.0, vanish=0.0)
"""Many runs, to test what happens between them."""


def first_bad_seed(weather, rows, seeds):
    """Return the first of the seeds whose night has a problem; None if all nights are sound."""
    for seed in range(seeds):
        try:
            problems = simulate(seed, weather=weather, rows=rows).problems()
        except (AssertionError, EngineClosedError) as error:
            problems = [repr(error)]
        if problems:
            return seed
    return None


async def assume_chunk_is_missing(self, chunk_id):
    """Assume that every chunk without a response is missing, and send it again."""
    await self._context.log.record(
        facts.ChunkReconciled(job_id=self._job_id, chunk_id=chunk_id, is_present=False, how="count")
    )
    return False


async def seal_without_listing(self, job_id):
    await self.context.log.record(facts.JobSealed(job_id=job_id, chunks=0, verified="count"))
    return "count"


async def skip_quarantine(self, job_id):
    """Assume that no request arrives late."""


async def submit_again_without_reading_the_job(self):
    """Assume that a submit without a response was not accepted."""
    return False


real_reconcile = reconciler.reconcile


def count_despite_possible_late_chunks(*args, may_hold_late_chunks=False, **kwargs):
    return real_reconcile(*args, **kwargs, may_hold_late_chunks=False)


def reconcile_all_as_absent(acked, unknown, listed, **kwargs):
    found = real_reconcile(acked, unknown, listed, **kwargs)
    return dataclasses.replace(
        found, present=frozenset(), absent=found.present | found.absent, taint=None, is_behind=False
    )


def reconcile_all_as_present(acked, unknown, listed, **kwargs):
    found = real_reconcile(acked, unknown, listed, **kwargs)
    return dataclasses.replace(
        found, present=found.present | found.absent, absent=frozenset(), taint=None, is_behind=False
    )


def last_job_unless_discarded(state):
    return state.jobs[-1] if state.jobs and not state.jobs[-1].is_discarded else None


async def treat_touched_files_as_changed(self):
    """Assume that a touched file has different content than what was submitted."""
    return self._file_change() == "same"


async def trust_sizes_and_probes(self):
    return self._file_change() != "changed"


def compare_by_size_and_probes(before, now):
    """Assume that touched files have the same content as before."""
    found = compare_files(before, now)
    return "same" if found == "touched" else found


async def trust_acknowledged_submit(self):
    """Assume that an acknowledged submit has certainly arrived at the platform."""


def seconds_by_wall_clock(self, at):
    return self._clock.now() - at


def say_nothing(self, *wait):
    """Wait silently."""


real_polling = ending.Polling.run


async def poll_without_a_deadline(self):
    settings = self._context.settings.model_copy(update={"job_deadline_seconds": math.inf})
    self._context = dataclasses.replace(self._context, settings=settings)
    return await real_polling(self)


UNSEALED = (job.JobRunner, "seal", seal_without_listing)
MUTANTS = {
    "blind retry, no seal": ([(reconciler.Reconciler, "has_arrived", assume_chunk_is_missing), UNSEALED], BAD),
    "all chunks without a response assumed absent, no seal": (
        [(reconciler, "reconcile", reconcile_all_as_absent), UNSEALED],
        BAD,
    ),
    "all chunks without a response assumed present, no seal": (
        [(reconciler, "reconcile", reconcile_all_as_present), UNSEALED],
        BAD,
    ),
    "no quarantine": (
        [(job.JobRunner, "_wait_for_quarantine", skip_quarantine)],
        dataclasses.replace(BAD, crash=0.0, list_lag_seconds=5.0),
    ),
    "no seal": ([UNSEALED], dataclasses.replace(BAD, crash=0.03, list_lag_seconds=5.0)),
    "counting although late chunks may arrive": (
        [(reconciler, "reconcile", count_despite_possible_late_chunks)],
        dataclasses.replace(BAD, crash=0.005, checksum="none"),
    ),
    "submit repeated without reading the job": (
        [(submission.Submission, "_has_left_new", submit_again_without_reading_the_job)],
        dataclasses.replace(BAD, resubmit="rerun", late=0.0),
    ),
    "a touched file counts as changed after the submit": (
        [(continuation.ContinuationCheck, "matches_what_was_sent", treat_touched_files_as_changed)],
        dataclasses.replace(BETWEEN, touch=1.0),
    ),
    "size and probes identify the content after the submit": (
        [(continuation.ContinuationCheck, "matches_what_was_sent", trust_sizes_and_probes)],
        dataclasses.replace(BETWEEN, sneak=1.0),
    ),
    "size and probes identify the content while chunks remain": (
        [(continuation, "compare_files", compare_by_size_and_probes)],
        dataclasses.replace(BETWEEN, sneak=0.5),
    ),
    "an acknowledged submit is never repeated": (
        [(submission.Submission, "repeat_if_due", trust_acknowledged_submit)],
        Weather(fault=0.0, crash=0.0, impostor=0.3),
    ),
    "the wait for late requests uses the wall clock": (
        [(PushLog, "seconds_since", seconds_by_wall_clock)],
        dataclasses.replace(BAD, crash=0.02, list_lag_seconds=5.0, host_clock=1.0),
    ),
    "the wait for the next hour's quota is not announced": (
        [(PushContext, "emit_quota_wait", say_nothing), (PushContext, "on_retry", say_nothing)],
        Weather(fault=0.0, crash=0.0, vanish=0.0, other_host=1.0),
    ),
    "a job is polled forever": (
        [(ending.Polling, "run", poll_without_a_deadline)],
        Weather(fault=0.0, crash=0.0, vanish=0.0, slow_job=0.5),
    ),
    "a job whose deletion failed is used again": (
        [(PushState, "job", property(last_job_unless_discarded))],
        Weather(fault=0.05, crash=0.1, late=0.0, vanish=0.0, undeletable=1.0),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_is_caught_within_eighty_seeds(name, monkeypatch):
    patches, weather = MUTANTS[name]
    rows = 600 if weather.only_counts else 300  # more chunks, so that some are counted wrongly
    with monkeypatch.context() as broken:
        for place, attribute, mutant in patches:
            broken.setattr(place, attribute, mutant)
        caught = first_bad_seed(weather, rows, MUTANT_SEEDS)
    assert caught is not None
    assert first_bad_seed(weather, rows, caught + 1) is None, "the unchanged engine fails in the same nights"
