"""The state of a push, derived from its facts. Any prefix of the facts yields a state."""

import itertools

import pytest
from support import simulation
from support.simulation import Weather, simulate

from pushengine.journal.facts import FactRow
from pushengine.journal.state import PushHistory

JOB = "job-1"


class Story:
    """A history to which a test adds facts one by one: `story.job_created(job_id="j")`."""

    def __init__(self):
        self.history, self.at = PushHistory(), 100.0

    def __getattr__(self, kind):
        def add(at=None, **body):
            self.at = self.at + 1 if at is None else at
            fact = FactRow("p", self.at, kind, body).fact
            if fact is not None:
                self.history.apply(fact, self.at)
            return self

        return add

    @property
    def state(self):
        return self.history.state

    def chunk(self, number, rows=10, job_id=JOB, chunk_id=None):
        return self.chunk_sending(
            job_id=job_id,
            chunk_id=chunk_id or f"{number:06d}",
            rows=rows,
            first_row=number * 10,
            end_row=number * 10 + rows,
            payload_bytes=100,
            digests={"sha256": "00"},
            type="UPSERT",
        )

    def state_of(self, number, job_id=JOB):
        return self.state.chunk_of(job_id, f"{number:06d}").state


@pytest.fixture
def story():
    started = Story()
    started.push_planned(schema={"columns": []}, fingerprint=[], recipe={})
    started.session_started(pid=1, resumed=False)
    return started


@pytest.fixture
def staged(story):
    return story.job_intended().job_created(job_id=JOB)


def test_a_job_creation_without_a_recorded_outcome_leaves_no_job(story):
    assert story.job_intended().state.job is None
    assert story.job_created(job_id=JOB).state.job.job_id == JOB


@pytest.mark.parametrize(
    ("last", "body", "state", "is_open"),
    [
        (None, {}, "sending", True),
        ("chunk_unknown", {"error": "lost"}, "unknown", True),
        ("chunk_refused", {"error": "no"}, "refused", False),
        ("chunk_acked", {}, "acked", False),
        ("chunk_settled", {"is_present": True, "how": "checksum"}, "acked", False),
        ("chunk_settled", {"is_present": False, "how": "checksum"}, "absent", False),
    ],
)
def test_a_chunk_has_the_state_of_its_latest_fact(staged, last, body, state, is_open):
    staged.chunk(0)
    if last:
        getattr(staged, last)(job_id=JOB, chunk_id="000000", **body)
    record = staged.state.chunk_of(JOB, "000000")
    assert (record.state, record.is_open, record.attempts) == (state, is_open, 1)
    staged.chunk(0)
    assert (record.state, record.attempts) == ("sending", 2)


def test_the_quarantine_of_an_absent_chunk_starts_when_the_chunk_list_was_checked(staged):
    staged.chunk(0).chunk_unknown(job_id=JOB, chunk_id="000000", error="lost")
    assert staged.state.job.quarantined_since is None
    staged.chunk_settled(at=500.0, job_id=JOB, chunk_id="000000", is_present=False, how="count")
    assert staged.state.job.quarantined_since == 500.0
    staged.chunk(0).chunk_unknown(job_id=JOB, chunk_id="000000", error="lost")
    staged.chunk_settled(at=900.0, job_id=JOB, chunk_id="000000", is_present=True, how="count")
    assert staged.state.job.quarantined_since == 900.0  # it is unknown which of the two attempts arrived


def test_a_chunk_that_can_no_longer_arrive_has_no_quarantine(staged):
    staged.chunk(0).chunk_unknown(job_id=JOB, chunk_id="000000", error="lost")
    staged.chunk_settled(job_id=JOB, chunk_id="000000", is_present=False, how="count", is_final=True)
    assert (staged.state.job.quarantined_since, staged.state.chunk_of(JOB, "000000").state) == (None, "absent")


@pytest.mark.parametrize(
    ("acked", "point"),
    [
        ([], (0, 0)),
        ([0], (1, 10)),
        ([0, 1, 2], (3, 30)),
        ([1, 2], (0, 0)),
        ([0, 2, 3], (1, 10)),
        ([2, 0, 1], (3, 30)),
    ],
)
def test_the_resume_point_is_the_end_of_the_chunks_acknowledged_without_a_gap(staged, acked, point):
    for number in acked:
        staged.chunk(number).chunk_acked(job_id=JOB, chunk_id=f"{number:06d}")
    staged.chunk(9)
    assert staged.state.job.resume_point() == point


def test_the_resume_point_is_never_between_the_parts_of_a_split_chunk(staged):
    for number, chunk_id in ((0, "000000"), (1, "000001.0"), (2, "000001.1"), (3, "000002")):
        staged.chunk(number, chunk_id=chunk_id).chunk_acked(job_id=JOB, chunk_id=chunk_id)
        assert staged.state.job.resume_point() == {0: (1, 10), 1: (1, 10), 2: (1, 10), 3: (3, 40)}[number]


def test_the_resume_point_is_before_a_chunk_of_which_every_row_was_rejected(staged):
    for number, first_row in ((0, 0), (2, 10)):
        ids = {"job_id": JOB, "chunk_id": f"{number:06d}"}
        staged.chunk_sending(
            **ids, rows=10, first_row=first_row, end_row=first_row + 10, payload_bytes=1, digests={}
        ).chunk_acked(**ids)
    assert staged.state.job.resume_point() == (1, 10)


def test_rejected_rows_are_those_of_the_latest_pass(staged):
    assert (staged.state.rejects, staged.state.has_rejects) == (None, False)
    staged.rows_rejected(job_id=JOB, rows=3, file="/r.csv")
    assert (staged.state.rejects, staged.state.has_rejects) == ({"rows": 3, "file": "/r.csv"}, True)
    staged.rows_rejected(job_id=JOB, rows=0)
    assert staged.state.rejects is None
    staged.rows_rejected(job_id=JOB, rows=1, file="/r.csv").push_restarted(
        reason="r", schema={"columns": []}, decodes=True
    )
    assert (staged.state.rejects, staged.state.decodes, staged.state.knows_all_rows) == (None, True, True)


def test_the_facts_of_a_submit_update_the_state_of_its_job(staged):
    job = staged.state.job
    assert not job.is_complete
    staged.job_sealed(job_id=JOB, chunks=1, verified="checksum")
    assert (job.verified, job.is_complete, job.may_have_run) == ("checksum", True, False)
    staged.submit_intended(job_id=JOB)
    assert (job.submit, job.submits, job.may_have_run) == ("intended", 1, True)
    staged.submit_refused(job_id=JOB, error="429")
    assert (job.submit, job.may_have_run) == ("none", False)
    staged.submit_intended(job_id=JOB).submit_unknown(job_id=JOB, error="lost")
    staged.submit_intended(job_id=JOB).submit_refused(job_id=JOB, error="429")
    assert job.may_have_run  # the submit with the lost response may have taken effect
    staged.submit_intended(job_id=JOB).submit_accepted(job_id=JOB)
    staged.job_polled(job_id=JOB, status="RUNNING").job_settled(job_id=JOB, status="DONE", logs=["ok"])
    assert (job.submit, job.status, job.logs, staged.state.submits) == ("accepted", "DONE", ("ok",), 4)


def test_after_a_restart_the_earlier_job_is_not_used_again_even_if_it_could_not_be_deleted(staged):
    staged.job_discarded(job_id=JOB, error="bad gateway")
    assert staged.state.job is not None
    staged.push_restarted(reason="a value does not fit", schema={"columns": [1]})
    assert staged.state.job is None
    assert staged.state.schema == {"columns": [1]}
    staged.job_created(job_id="job-2")
    assert (staged.state.job.job_id, staged.state.restarts) == ("job-2", 1)
    staged.push_restarted(reason="tainted")
    assert staged.state.schema == {"columns": [1]}


def test_a_deleted_job_is_no_longer_used(staged):
    assert staged.job_discarded(job_id=JOB, error=None).state.job is None


@pytest.mark.parametrize("kind", ["push_finished", "push_failed", "push_interrupted"])
def test_every_fact_that_ends_a_session_sets_the_receipt(staged, kind):
    getattr(staged, kind)(receipt={"status": "X"})
    assert staged.state.receipt == {"status": "X"}


def test_facts_of_kinds_from_newer_versions_are_ignored(staged):
    staged.chunk(0).future_kind(job_id="other", anything=1)
    assert staged.state_of(0) == "sending"


BAD_WEATHERS = [
    Weather(fault=0.3, crash=0.03, late=1.0, vanish=0.01, undeletable=0.3),
    Weather(fault=0.3, crash=0.05, change=0.3, drain=0.3, checksum="none"),
]


@pytest.mark.parametrize("weather", BAD_WEATHERS)
def test_every_prefix_of_a_recorded_history_yields_the_same_state_however_it_is_read(weather, monkeypatch):
    """Applying all facts at once, or one by one while reading the state after each, yields the same state. No prefix raises an error."""
    recorded = []

    def keep(file):
        recorded.extend(file.facts(push.push_id) for push in file.pushes())

    monkeypatch.setattr(simulation, "check_facts", keep)
    for seed in range(25):
        simulate(seed, weather=weather, rows=200)
    assert sum(map(len, recorded)) > 500
    kinds = set()
    for facts in recorded:
        live = PushHistory()
        for number, fact in enumerate(facts, 1):
            live.apply(fact.fact, fact.at)
            kinds.add(fact.kind)
            state = live.state
            if state.job is not None:
                index, row = state.job.resume_point()
                assert index >= 0
                assert row >= 0
                assert all(chunk.rows == chunk.source_rows[1] - chunk.source_rows[0] for chunk in state.job.acked)
            if number % 7 == 0:
                assert PushHistory(itertools.islice(facts, number)).state == state
        assert PushHistory(facts).state == live.state
    assert {"chunk_settled", "submit_unknown", "push_restarted", "job_discarded", "chunk_refused"} <= kinds


def test_a_history_can_be_built_from_rows_of_the_journal(staged):
    facts = [FactRow("p", 1.0, "push_planned", {"schema": None}), FactRow("p", 2.0, "job_created", {"job_id": JOB})]
    assert PushHistory(facts).state.job.job_id == JOB


def test_the_fingerprints_of_all_sessions_are_kept_until_one_content_of_the_source_is_acknowledged(staged):
    a, b = [["/f", 1, 2, "x", 1, 1, 1]], [["/f", 1, 2, "x", 1, 2, 3]]
    staged.push_planned(schema={"columns": []}, fingerprint=a)
    staged.session_started(pid=2, resumed=True, fingerprint=b)
    staged.session_started(pid=3, resumed=True, fingerprint=None)
    staged.session_started(pid=4, resumed=True)  # written by an earlier version
    assert staged.state.fingerprints == [a, b]
    staged.source_acked(job_id=JOB, rows=1, fingerprint=b, sha256=["00"])
    assert (staged.state.fingerprints, staged.state.sha256, staged.state.job.is_complete) == ([b], ("00",), True)


def test_a_job_whose_submit_was_accepted_may_have_run_even_if_a_repeated_submit_is_refused(staged):
    staged.submit_intended(job_id=JOB).submit_accepted(job_id=JOB, at=500.0)
    staged.submit_intended(job_id=JOB).submit_refused(job_id=JOB, error="no")
    assert (staged.state.job.accepted_at, staged.state.job.repeats, staged.state.submits) == (500.0, 1, 2)
    assert staged.state.may_have_run
