"""The life of one job on a scripted destination, in virtual time; every submit that is sent is counted."""

import asyncio
import datetime as dt
import hashlib
import itertools
import random

import pyarrow as pa
import pytest
from support.contexts import push_context
from support.inline import limiter_on

from pushengine import events
from pushengine.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    EngineClosedError,
    ForeignResponseError,
    InvalidRequestError,
    JobDeadlineError,
    JobFailedError,
    JobVanishedError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    RetriesExhaustedError,
    ServerError,
    SubmitOutcomeUnknownError,
    TransportError,
    UnexpectedResponseError,
    VerificationError,
)
from pushengine.journal import facts
from pushengine.model import Job, JobId, JobStatus, RemoteChunk, SentChunk
from pushengine.push.ending import Polling
from pushengine.push.job import JobRunner
from pushengine.push.submission import Submission
from pushengine.quota.ledger import SqliteLedger
from pushengine.runtime.drain import DrainSwitch
from pushengine.schema.columns import Column, TableSchema
from pushengine.testing import MemoryDestination, RecordingSink, VirtualClock, run_in_virtual_time

HOUR = 3600.0
TEN_PAST = 1_750_000_000.0 - 1_750_000_000.0 % HOUR + 600.0
JOB = JobId("job-1")
SCHEMA = TableSchema((Column("A", "INTEGER", pa.int64()),))


async def suitable():
    """The rows of the push suit the table: nothing has changed it."""


class ScriptedDestination(MemoryDestination):
    """One job in memory. Each call takes the next line of its script: an error to raise, or what to do; without a line it succeeds.

    `submit` lines: an exception (nothing happened), or `(exception, status)`: the job has `status` when the exception is raised.
    """

    def __init__(self, **scripts):
        super().__init__()
        self.scripts = {name: list(lines) for name, lines in scripts.items()}
        self.status = JobStatus.NEW
        self.logs = ()
        self.chunks = []
        self.times = []

    def count(self, name):
        return self.calls.count(name)

    def times_of(self, name):
        return [time for call, time in zip(self.calls, self.times, strict=True) if call == name]

    async def call(self, operation, job_id, effect):
        operation = operation.removeprefix("list_")
        self.calls.append(operation)
        self.times.append(asyncio.get_running_loop().time())
        lines = self.scripts.get(operation)
        line = lines.pop(0) if lines else None
        if callable(line) and not isinstance(line, type):
            line = await line()
        if isinstance(line, JobStatus):
            self.status = line
        if isinstance(line, tuple):
            line, self.status = line
        if isinstance(line, BaseException):
            raise line
        return effect()

    def create(self, target, columns):
        return Job(id=self.new_id(), status=JobStatus.NEW)

    def read(self, job_id):
        return Job(id=JOB, status=self.status, logs=self.logs)

    def listed(self, job_id):
        return self.chunks

    def submit(self, job_id, duplicate_removal_column):
        self.status = JobStatus.QUEUED


class Bench:
    """A job runner with everything that it needs; create it inside the event loop."""

    def __init__(self, folder, destination, *, epoch=TEN_PAST, per_hour=250, **options):
        self.destination = destination
        self.clock = VirtualClock(epoch)
        self.drain = DrainSwitch()
        self.sink = RecordingSink()
        self.ledger = SqliteLedger(folder / "quota.sqlite3", submits_per_hour=per_hour)
        rng = random.Random(11)
        limiter = limiter_on(self.ledger, self.clock, rng=rng)
        self.context = push_context(
            destination,
            self.clock,
            limiter=limiter,
            sink=self.sink,
            rng=rng,
            drain=self.drain,
            **{"quarantine_seconds": 60.0, "settle_seconds": 1.0, **options},
        )
        self.log = self.context.log
        self.runner = JobRunner(self.context)
        self.submission = Submission(self.runner, JOB, suitable)

    @property
    def submits(self):
        return self.log.state.submits

    @property
    def may_have_run(self):
        return self.log.state.job_of(JOB).may_have_run

    @property
    def retries(self):
        return [
            (e.operation, e.attempt, e.wait_seconds, e.error)
            for e in self.sink.events
            if isinstance(e, events.RetryScheduled)
        ]

    async def poll(self):
        return await Polling(self.runner, self.submission, JOB).run()

    async def with_job(self):
        """Record in the journal that the job was created; return the runner."""
        await self.log.record(facts.JobCreated(job_id=JOB))
        return self.runner

    @property
    def spent(self):
        return self.ledger.spent("acme", self.clock.now())


def on_bench(folder, use, destination=None, **options):
    """Run `use(bench)` in virtual time; return (bench, its result or error)."""

    async def main():
        bench = Bench(folder, destination or ScriptedDestination(), **options)
        try:
            result = await use(bench)
        except Exception as error:  # noqa: BLE001 - the test checks it
            result = error
        finally:
            bench.spent_at_end = bench.spent
            bench.ledger.close()
        bench.elapsed = asyncio.get_running_loop().time()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return bench, result

    return run_in_virtual_time(main())


def submit(folder, *lines, get=(), **options):
    destination = ScriptedDestination(submit=lines, get=get)

    async def use(bench):
        await bench.with_job()
        return await bench.submission.submit()

    return on_bench(folder, use, destination, **options)


# --- Submit


def test_an_accepted_submit_is_sent_once(tmp_path):
    bench, result = submit(tmp_path)
    assert result is None
    assert bench.destination.calls == ["submit"]
    assert (bench.submits, bench.spent_at_end, bench.may_have_run) == (1, 1, True)
    assert [event.submits for event in bench.sink.of(events.JobSubmitted)] == [1]


def test_after_a_rate_limit_with_a_time_the_next_submit_waits_that_long_and_is_counted_too(tmp_path):
    bench, result = submit(tmp_path, RateLimitedError("no", retry_after_seconds=120.0))
    assert result is None
    first, second = bench.destination.times_of("submit")
    assert 120.0 <= second - first <= 125.0
    assert (bench.submits, bench.spent_at_end) == (2, 2)
    (waited,) = bench.sink.of(events.QuotaWaited)
    assert waited.reason == "server"
    until = dt.datetime.fromisoformat(waited.until).timestamp()
    assert until == pytest.approx(TEN_PAST + second, abs=1.0)


def test_rate_limits_without_a_time_are_attributed_first_to_the_second_and_finally_to_the_hour(tmp_path):
    bench, result = submit(tmp_path, *(RateLimitedError("no") for _ in range(4)))
    assert result is None
    times = bench.destination.times_of("submit")
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits[0] == pytest.approx(1.0, abs=0.5)
    assert waits[1] == pytest.approx(5.0, abs=1.0)
    assert waits[2] == pytest.approx(30.0, abs=3.0)
    assert TEN_PAST + times[4] > TEN_PAST - 600 + HOUR
    assert bench.destination.count("submit") == 5


def test_a_job_whose_submit_was_refused_may_still_be_deleted(tmp_path):
    async def use(bench):
        await bench.with_job()
        submitting = asyncio.create_task(bench.submission.submit())
        await bench.clock.sleep(10)
        assert not bench.may_have_run
        bench.drain.set()
        await submitting

    destination = ScriptedDestination(submit=[RateLimitedError("no", retry_after_seconds=1000.0)])
    bench, result = on_bench(tmp_path, use, destination)
    assert isinstance(result, EngineClosedError)
    assert bench.destination.count("submit") == 1


def test_after_a_conflict_a_job_that_is_still_new_is_submitted_again_after_a_wait(tmp_path):
    """Another job of the table is running; this job has not run."""
    bench, result = submit(tmp_path, ConflictError("busy", status=409), ConflictError("busy", status=409))
    assert result is None
    # The status is read at once and after the wait.
    assert bench.destination.calls == [*["submit", "get", "get"] * 2, "submit"]
    times = bench.destination.times_of("submit")
    assert all(15.0 <= after - before <= 46.0 for before, after in itertools.pairwise(times))
    assert (bench.submits, bench.spent_at_end) == (3, 3)


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE, JobStatus.ERROR])
def test_a_conflict_for_a_job_that_has_left_new_means_accepted(tmp_path, status):
    bench, result = submit(tmp_path, (ConflictError("busy", status=409), status))
    assert result is None
    assert bench.destination.calls == ["submit", "get"]
    assert (bench.submits, bench.may_have_run) == (1, True)


UNKNOWN = {
    "no response": lambda: OutcomeUnknownError("lost"),
    "a 500": lambda: ServerError("broken", status=500),
    "nonsense": lambda: UnexpectedResponseError("?", status=200),
}


def timed_out_request():
    return InvalidRequestError("the server gave up waiting", status=408, disposition="outcome_unknown")


UNKNOWN["a 408"] = timed_out_request


@pytest.mark.parametrize("lost", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE])
def test_a_submit_that_took_effect_despite_a_lost_response_is_not_sent_again(tmp_path, lost, status):
    bench, result = submit(tmp_path, (lost(), status))
    assert result is None
    assert bench.destination.calls == ["submit", "get"]
    assert (bench.submits, bench.may_have_run) == (1, True)
    assert len(bench.sink.of(events.JobSubmitted)) == 1


@pytest.mark.parametrize("lost", UNKNOWN.values(), ids=UNKNOWN)
def test_after_a_lost_response_a_job_that_is_still_new_is_submitted_again_after_a_wait(tmp_path, lost):
    bench, result = submit(tmp_path, lost())
    assert result is None
    assert bench.destination.calls == ["submit", "get", "get", "submit"]
    first, second = bench.destination.times_of("submit")
    assert second - first >= 5.0
    assert (bench.submits, bench.may_have_run) == (2, True)


def test_a_lost_submit_that_takes_effect_during_the_wait_is_not_sent_again(tmp_path):
    bench, result = submit(tmp_path, OutcomeUnknownError("lost"), get=[JobStatus.NEW, JobStatus.QUEUED])
    assert result is None
    assert bench.destination.calls == ["submit", "get", "get"]
    assert bench.submits == 1


def test_a_conflict_at_the_second_submit_after_a_lost_one_that_ran_means_accepted(tmp_path):
    bench, result = submit(tmp_path, OutcomeUnknownError("lost"), (ConflictError("busy", status=409), JobStatus.DONE))
    assert result is None
    assert bench.destination.count("submit") == 2
    assert bench.destination.status is JobStatus.DONE


def test_a_job_that_is_gone_before_its_submit_has_vanished(tmp_path):
    bench, result = submit(tmp_path, NotFoundError("gone", status=404))
    assert isinstance(result, JobVanishedError)
    assert (result.job_id, bench.submits, bench.may_have_run) == (JOB, 1, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ConflictError("busy", status=409), NotFoundError("gone", status=404)),
        (RateLimitedError("no", retry_after_seconds=1.0), NotFoundError("gone", status=404)),
        (ConnectionFailedError("refused"), NotFoundError("gone", status=404)),
    ],
    ids=["conflict", "rate limit", "no connection"],
)
def test_a_job_that_is_gone_after_refused_submits_has_vanished(tmp_path, first, second):
    bench, result = submit(tmp_path, first, second)
    assert isinstance(result, JobVanishedError)
    assert bench.destination.count("submit") == 2


@pytest.mark.parametrize("lost", UNKNOWN.values(), ids=UNKNOWN)
def test_a_job_that_is_gone_after_a_lost_submit_has_an_unknown_outcome(tmp_path, lost):
    bench, result = submit(tmp_path, lost(), get=[NotFoundError("gone", status=404)] * 6)
    assert isinstance(result, SubmitOutcomeUnknownError)
    assert (bench.destination.count("submit"), bench.may_have_run) == (1, True)
    assert "_CELONIS_CHANGE_DATE" in result.hint


def test_a_job_that_is_gone_at_the_submit_after_a_lost_one_has_an_unknown_outcome(tmp_path):
    missing = NotFoundError("gone", status=404)
    read = [JobStatus.NEW, JobStatus.NEW, *[missing] * 6]
    bench, result = submit(tmp_path, OutcomeUnknownError("lost"), missing, get=read)
    assert isinstance(result, SubmitOutcomeUnknownError)
    assert bench.destination.count("submit") == 2


def test_a_submit_that_got_no_connection_is_sent_again(tmp_path):
    bench, result = submit(tmp_path, ConnectionFailedError("refused"), ConnectionFailedError("refused"))
    assert result is None
    assert bench.destination.calls == ["submit", "get", "submit", "get", "submit"]
    assert [retry[:2] for retry in bench.retries] == [(f"submit of job {JOB}", 1), (f"submit of job {JOB}", 2)]


def test_a_platform_that_does_not_respond_is_waited_for_with_reads_not_with_submits(tmp_path):
    """Each submit spends one of the hour, whatever becomes of it."""
    refused = [ConnectionFailedError("refused") for _ in range(50)]
    bench, result = submit(tmp_path, *refused, get=refused)
    assert isinstance(result, RetriesExhaustedError)
    assert bench.destination.count("submit") == bench.submits == bench.spent_at_end == 1
    assert not bench.may_have_run


def token_refused(seconds=None):
    """A 429 of the token endpoint: the call that needs the token was not sent."""
    error = RateLimitedError("get an access token: status 429", retry_after_seconds=seconds)
    error.is_unsent = True
    return error


def test_a_token_that_is_refused_for_too_many_requests_is_no_refused_submit(tmp_path):
    """The submits of the other pushes of this host go on, and this one waits as the token endpoint asks."""
    bench, result = submit(tmp_path, token_refused(), token_refused(20.0), token_refused(), token_refused())
    assert result is None
    times = bench.destination.times_of("submit")
    assert [after - before >= 20.0 for before, after in itertools.pairwise(times)] == [False, True, False, False]
    assert bench.elapsed < 60.0
    assert bench.sink.of(events.QuotaWaited) == []


def test_an_outage_of_the_token_endpoint_spends_one_submit(tmp_path):
    bench, result = submit(tmp_path, token_refused(), get=[token_refused() for _ in range(50)])
    assert isinstance(result, RetriesExhaustedError)
    assert bench.submits == bench.spent_at_end == 1


def test_a_token_that_is_refused_at_a_repeated_submit_does_not_block_submits(tmp_path):
    destination = IgnoringDestination(2, submit=[None, token_refused(1000.0)])
    bench, job = on_bench(tmp_path, submit_and_poll, destination)
    assert job.status is JobStatus.DONE
    assert bench.elapsed < 150.0


def test_a_connection_that_can_never_be_made_is_not_retried(tmp_path):
    """An untrusted certificate stays untrusted, and each attempt would spend a submit of the hour."""
    error = ConnectionFailedError("certificate", disposition="terminal")
    bench, result = submit(tmp_path, error)
    assert result is error
    assert (bench.destination.count("submit"), bench.may_have_run) == (1, False)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("who?", status=401),
        PermissionDeniedError("no", status=403),
        InvalidRequestError("bad", status=400),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_rejected_submit_is_final_and_the_job_has_not_run(tmp_path, error):
    bench, result = submit(tmp_path, error)
    assert result is error
    assert (bench.destination.calls, bench.may_have_run) == (["submit"], False)


def test_a_submit_that_never_gets_a_connection_is_abandoned_after_twelve_attempts(tmp_path):
    bench, result = submit(tmp_path, *(ConnectionFailedError(f"refused {number}") for number in range(50)))
    assert isinstance(result, RetriesExhaustedError)
    assert str(result.__cause__) == "refused 11"
    assert result.attempts == bench.destination.count("submit") == bench.submits == bench.spent_at_end == 12


def test_a_submit_waits_until_a_spent_hour_is_over_and_reports_the_wait(tmp_path):
    async def use(bench):
        await bench.with_job()
        for _ in range(3):
            bench.destination.status = JobStatus.NEW
            await bench.submission.submit()

    bench, result = on_bench(tmp_path, use, per_hour=2)
    assert result is None
    times = bench.destination.times_of("submit")
    assert times[1] < 10
    assert 50 * 60 <= times[2] <= 50 * 60 + 10
    (waited,) = bench.sink.of(events.QuotaWaited)
    assert (waited.reason, waited.job_id) == ("hour", JOB)


def test_a_correction_of_the_ledger_is_reported(tmp_path):
    async def use(bench):
        await bench.with_job()
        assert bench.ledger.reserve("acme", bench.clock.now() + 24 * HOUR).granted
        await bench.submission.submit()

    bench, result = on_bench(tmp_path, use)
    assert result is None
    (corrected,) = bench.sink.of(events.QuotaLedgerCorrected)
    assert (corrected.push_id, corrected.job_id) == (bench.log.push_id, JOB)
    assert "clock" in corrected.message
    assert bench.destination.times_of("submit")[0] < 1


def test_a_drain_ends_the_wait_for_quota(tmp_path):
    async def use(bench):
        await bench.with_job()
        await bench.submission.submit()
        waiting = asyncio.create_task(bench.submission.submit())
        await bench.clock.sleep(5)
        bench.drain.set()
        await waiting

    bench, result = on_bench(tmp_path, use, per_hour=1)
    assert isinstance(result, EngineClosedError)
    assert bench.elapsed < 10
    assert bench.destination.count("submit") == 1


def test_a_drain_before_the_submit_sends_nothing(tmp_path):
    async def use(bench):
        await bench.with_job()
        bench.drain.set()
        await bench.submission.submit()

    bench, result = on_bench(tmp_path, use)
    assert isinstance(result, EngineClosedError)
    assert (bench.destination.calls, bench.spent_at_end, bench.may_have_run) == ([], 0, False)


def test_a_drain_does_not_interrupt_a_submit_in_flight(tmp_path):
    async def slow():
        await asyncio.sleep(20)

    async def use(bench):
        await bench.with_job()
        submitting = asyncio.create_task(bench.submission.submit())
        await bench.clock.sleep(5)
        bench.drain.set()
        await submitting

    bench, result = on_bench(tmp_path, use, ScriptedDestination(submit=[slow]))
    assert result is None
    assert bench.elapsed == pytest.approx(20, abs=1)
    assert len(bench.sink.of(events.JobSubmitted)) == 1


def test_cancelling_a_wait_for_quota_leaves_nothing_behind(tmp_path):
    async def use(bench):
        await bench.with_job()
        await bench.submission.submit()
        waiting = asyncio.create_task(bench.submission.submit())
        await bench.clock.sleep(5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    bench, result = on_bench(tmp_path, use, per_hour=1)
    assert result is None
    assert bench.destination.count("submit") == 1


# --- Poll


def poll(folder, *get, logs=(), **options):
    destination = ScriptedDestination(get=get)
    destination.logs = logs
    destination.status = JobStatus.RUNNING
    return on_bench(folder, poll_submitted, destination, **options)


async def poll_submitted(bench):
    await bench.with_job()
    await bench.log.record(facts.SubmitIntended(job_id=JOB))
    await bench.log.record(facts.SubmitAccepted(job_id=JOB))
    return await bench.poll()


def test_a_job_is_polled_until_it_is_done(tmp_path):
    bench, job = poll(
        tmp_path, JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.DONE, logs=("8 rows", "fine")
    )
    assert (job.status, job.logs) == (JobStatus.DONE, ("8 rows", "fine"))
    assert [event.status for event in bench.sink.of(events.JobStatusChanged)] == ["QUEUED", "RUNNING", "DONE"]
    (settled,) = bench.sink.of(events.JobSettled)
    assert (settled.status, settled.logs) == ("DONE", ("8 rows", "fine"))


@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.CANCELED])
def test_the_error_of_a_failed_job_says_why(tmp_path, status):
    bench, error = poll(tmp_path, status, logs=("column AMOUNT is too narrow", "rolled back"))
    assert isinstance(error, JobFailedError)
    assert (error.status, error.job_id) == (status, JOB)
    assert error.server_message == "column AMOUNT is too narrow; rolled back"
    assert "column AMOUNT is too narrow" in str(error)
    assert [event.status for event in bench.sink.of(events.JobSettled)] == [status]


def test_the_error_of_a_failed_job_without_logs_says_so(tmp_path):
    _, error = poll(tmp_path, JobStatus.ERROR)
    assert "no logs" in str(error)


def test_the_polling_interval_grows_up_to_its_maximum(tmp_path):
    bench, _ = poll(tmp_path, *[JobStatus.RUNNING] * 40, JobStatus.DONE)
    waits = [after - before for before, after in itertools.pairwise(bench.destination.times)]
    assert waits[0] <= 0.5
    assert all(after >= before - 0.01 for before, after in itertools.pairwise(waits))
    assert max(waits) == pytest.approx(15.0, abs=0.01)


def test_a_job_that_never_ends_is_polled_until_the_deadline_and_not_deleted(tmp_path):
    bench, error = poll(tmp_path, job_deadline_seconds=100.0)
    assert isinstance(error, JobDeadlineError)
    assert error.job_id == JOB
    assert "RUNNING" in str(error)
    assert 80 <= bench.elapsed <= 100.1
    assert bench.destination.count("delete") == 0


TRANSIENT = {
    "no connection": lambda: ConnectionFailedError("refused"),
    "no response in time": lambda: RequestTimeoutError("slow", phase="read"),
    "a reset": lambda: TransportError("reset"),
    "a 503": lambda: ServerError("broken", status=503),
    "a 429": lambda: RateLimitedError("no", retry_after_seconds=7.0),
    "nonsense": lambda: UnexpectedResponseError("?", status=200),
}


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_a_transient_error_of_a_poll_does_not_end_the_push(tmp_path, error):
    bench, job = poll(tmp_path, *(error() for _ in range(8)), JobStatus.RUNNING, error(), JobStatus.DONE)
    assert job.status is JobStatus.DONE
    assert len(bench.retries) == 9
    assert len(bench.sink.of(events.JobSettled)) == 1


@pytest.mark.parametrize("error", TRANSIENT.values(), ids=TRANSIENT)
def test_polls_that_always_fail_end_at_the_deadline(tmp_path, error):
    bench, result = poll(tmp_path, *(error() for _ in range(1000)), job_deadline_seconds=100.0)
    assert isinstance(result, JobDeadlineError)
    assert bench.elapsed <= 130


@pytest.mark.parametrize(
    "error", [AuthenticationError("who?", status=401), PermissionDeniedError("no", status=403)], ids=["401", "403"]
)
def test_a_rejected_poll_ends_the_push(tmp_path, error):
    bench, result = poll(tmp_path, error)
    assert result is error
    assert bench.destination.count("get") == 1


def test_a_submitted_job_that_is_gone_has_an_unknown_outcome(tmp_path):
    _, error = poll(tmp_path, JobStatus.RUNNING, *[NotFoundError("gone", status=404)] * 6)
    assert isinstance(error, SubmitOutcomeUnknownError)


def test_a_submitted_job_that_is_not_found_for_a_while_is_not_gone(tmp_path):
    """Something between this host and the platform may respond with 404, or a part of the platform that does not know the job yet."""
    bench, job = poll(tmp_path, JobStatus.RUNNING, *[NotFoundError("gone", status=404)] * 5, JobStatus.DONE)
    assert job.status is JobStatus.DONE
    assert [event.seconds for event in bench.sink.of(events.WaitStarted)] == [2.0, 4.0, 8.0, 16.0]


@pytest.mark.parametrize("status", [400, 409, 413, 421, 418])
def test_a_poll_that_is_refused_says_nothing_about_the_job(tmp_path, status):
    _, job = poll(tmp_path, *[InvalidRequestError("no", status=status)] * 3, JobStatus.DONE)
    assert job.status is JobStatus.DONE


def test_the_waits_between_failed_polls_grow_and_their_attempts_are_counted(tmp_path):
    bench, _ = poll(tmp_path, *[ServerError("down", status=503)] * 40, JobStatus.DONE)
    retries = bench.sink.of(events.RetryScheduled)
    assert [event.attempt for event in retries] == [*range(1, 41)]
    assert max(event.wait_seconds for event in retries[:2]) <= 8.0
    assert 8.0 < max(event.wait_seconds for event in retries[2:]) <= 30.0


def test_submits_and_polls_spend_no_retries_and_earn_none(tmp_path):
    """A few jobs that run for long must not refill the budget that ends a retry storm of the uploads."""

    async def use(bench):
        bench.context.shared.policy.budget.left = 50.0
        await bench.with_job()
        await bench.submission.submit()
        await bench.poll()
        return bench.context.shared.policy

    destination = ScriptedDestination(get=[JobStatus.RUNNING] * 100 + [JobStatus.DONE])
    bench, policy = on_bench(tmp_path, use, destination)
    assert bench.destination.count("get") == 101
    assert policy.budget.left == 50.0
    assert policy.last_success.at == pytest.approx(bench.elapsed, abs=0.1)


def test_a_poll_whose_response_is_too_large_says_nothing_about_the_job(tmp_path):
    too_large = UnexpectedResponseError("larger than 4194304 bytes", status=200, disposition="terminal")
    bench, error = poll(tmp_path, *[too_large] * 1000, job_deadline_seconds=100.0)
    assert isinstance(error, JobDeadlineError)
    assert bench.may_have_run


def test_a_drain_ends_the_polling_and_does_not_delete_the_job(tmp_path):
    async def use(bench):
        polling = asyncio.create_task(poll_submitted(bench))
        await bench.clock.sleep(50)
        bench.drain.set()
        await polling

    destination = ScriptedDestination()
    destination.status = JobStatus.RUNNING
    bench, error = on_bench(tmp_path, use, destination)
    assert isinstance(error, EngineClosedError)
    assert bench.elapsed == pytest.approx(50, abs=0.1)
    assert bench.destination.count("delete") == 0


# --- A job that stays NEW


class IgnoringDestination(ScriptedDestination):
    """Acknowledges every submit, but the first `ignored` of them have no effect."""

    def __init__(self, ignored, **scripts):
        super().__init__(**scripts)
        self.ignored = ignored

    def submit(self, job_id, duplicate_removal_column):
        if self.count("submit") > self.ignored:
            self.status = JobStatus.DONE


async def submit_and_poll(bench):
    await bench.with_job()
    await bench.submission.submit()
    return await bench.poll()


@pytest.mark.parametrize("ignored", [1, 2, 3, 4])
def test_a_job_that_stays_new_is_submitted_again(tmp_path, ignored):
    """A proxy may have acknowledged the submit: an empty 200 does not show who sent it."""
    bench, job = on_bench(tmp_path, submit_and_poll, IgnoringDestination(ignored))
    assert job.status is JobStatus.DONE
    first, *again = bench.destination.times_of("submit")
    waits = [time - first for time in again]
    assert [wait - due for wait, due in zip(waits, (30, 120, 480, 1800), strict=False)] == pytest.approx(
        [8] * ignored, abs=8
    )
    assert bench.submits == bench.spent_at_end == ignored + 1
    repeats = bench.sink.of(events.JobStayedNew)
    assert [event.is_submitted_again for event in repeats] == [True] * ignored


def test_a_job_that_stays_new_forever_is_finally_only_polled_and_that_is_reported_once(tmp_path):
    bench, error = on_bench(tmp_path, submit_and_poll, IgnoringDestination(99))
    assert isinstance(error, JobDeadlineError)
    assert bench.destination.count("submit") == bench.submits == 5
    *again, last = bench.sink.of(events.JobStayedNew)
    assert [event.is_submitted_again for event in again] == [True] * 4
    assert (last.is_submitted_again, last.submits) == (False, 5)


@pytest.mark.parametrize("submits", [1, 5])
def test_a_later_process_repeats_a_submit_that_an_earlier_process_saw_acknowledged(tmp_path, submits):
    async def use(bench):
        await bench.with_job()
        for _ in range(submits):
            await bench.log.record(facts.SubmitIntended(job_id=JOB))
            await bench.log.record(facts.SubmitAccepted(job_id=JOB))
        assert await bench.submission.was_accepted_before()
        return await bench.poll()

    bench, job = on_bench(tmp_path, use, IgnoringDestination(0))
    assert job.status is JobStatus.DONE
    (time,) = bench.destination.times_of("submit")
    assert 30 <= time <= 46


@pytest.mark.parametrize(
    "line",
    [
        ConflictError("not NEW", status=409),
        OutcomeUnknownError("lost"),
        InvalidRequestError("no", status=400),
        RateLimitedError("no", retry_after_seconds=5.0),
        NotFoundError("gone", status=404),
        UnexpectedResponseError("a login page", status=200),
    ],
    ids=lambda error: type(error).__name__,
)
def test_polling_continues_whatever_the_response_to_a_repeated_submit(tmp_path, line):
    destination = IgnoringDestination(2, submit=[None, line])
    bench, job = on_bench(tmp_path, submit_and_poll, destination)
    assert job.status is JobStatus.DONE
    assert bench.destination.count("submit") == 3
    assert bench.log.state.job_of(JOB).accepted_at is not None


def test_a_repeated_submit_does_not_wait_for_quota_and_polling_continues(tmp_path):
    bench, error = on_bench(tmp_path, submit_and_poll, IgnoringDestination(99), per_hour=1, job_deadline_seconds=1000.0)
    assert isinstance(error, JobDeadlineError)
    assert bench.destination.count("submit") == 1
    times = bench.destination.times_of("get")
    assert max(after - before for before, after in itertools.pairwise(times)) < 17


def test_a_quarantine_keeps_its_length_if_the_hosts_clock_is_set_back_meanwhile(tmp_path):
    async def miss(bench, chunk_id):
        ids = {"job_id": JOB, "chunk_id": chunk_id}
        await bench.log.record(
            facts.ChunkSending(**ids, rows=1, first_row=0, end_row=1, payload_bytes=1, digests={}, type="UPSERT")
        )
        await bench.log.record(facts.ChunkReconciled(**ids, is_present=False, how="checksum"))

    async def use(bench):
        runner = await bench.with_job()
        await miss(bench, "000000")
        await bench.clock.sleep(50)
        bench.clock.epoch -= 3600
        await miss(bench, "000001")
        await runner._wait_for_quarantine(JOB)

    bench, _ = on_bench(tmp_path, use, quarantine_seconds=60.0)
    assert bench.elapsed == pytest.approx(110, abs=0.5)


# --- Every long wait is reported


def wait_reasons(bench):
    return [event.reason for event in bench.sink.of(events.WaitStarted)]


@pytest.mark.parametrize("call", ["create", "chunks", "submit", "delete", "get"])
def test_a_call_without_a_response_is_reported_within_two_seconds(tmp_path, call):
    async def slowly():
        await asyncio.sleep(5)

    async def use(bench):
        runner = await bench.with_job()
        bench.started_at = asyncio.get_running_loop().time()
        reported_at = []
        bench.sink.emit = lambda event: (
            reported_at.append(asyncio.get_running_loop().time()),
            bench.sink.events.append(event),
        )
        await {
            "create": lambda: runner.create(SCHEMA),
            "chunks": lambda: runner.list_chunks(JOB),
            "submit": bench.submission.submit,
            "delete": lambda: runner.discard(JOB),
            "get": bench.poll,
        }[call]()
        return reported_at[0] - bench.started_at

    destination = ScriptedDestination(**{call: [slowly]})
    if call == "get":
        destination.status = JobStatus.DONE
    bench, first_report = on_bench(tmp_path, use, destination)
    assert first_report <= 2.0
    assert [reason.startswith("no response yet, ") for reason in wait_reasons(bench)] == [True]


def test_a_call_with_a_quick_response_is_not_reported(tmp_path):
    bench, _ = on_bench(tmp_path, submit_and_poll, IgnoringDestination(0))
    assert wait_reasons(bench) == []


def test_waits_for_a_list_that_lags_behind_are_reported(tmp_path):
    async def use(bench):
        await bench.with_job()
        await record_chunk(bench.log)
        return await bench.runner.seal(JOB)

    bench, error = on_bench(tmp_path, use, settle_seconds=1.0)
    assert isinstance(error, VerificationError)
    assert len(wait_reasons(bench)) == 4  # of the waits of 1, 2, 4, 8 and 16 s, all but the first


# --- Create, verify, discard


async def record_chunk(log):
    await log.record(
        facts.ChunkSending(
            job_id=JOB,
            chunk_id="000000",
            rows=1,
            first_row=0,
            end_row=1,
            payload_bytes=1,
            digests={"sha256": "00"},
            type="UPSERT",
        )
    )
    await log.record(facts.ChunkAcked(job_id=JOB, chunk_id="000000"))


@pytest.mark.parametrize("lost", UNKNOWN.values(), ids=UNKNOWN)
def test_a_create_whose_response_is_lost_is_repeated(tmp_path, lost):
    """The job whose id was lost is empty and invisible, and the platform deletes it in time."""
    destination = ScriptedDestination(create=[lost(), lost()])
    bench, job = on_bench(tmp_path, lambda bench: bench.runner.create(SCHEMA), destination)
    assert job.id == "job-1"
    assert bench.destination.count("create") == 3
    assert [event.job_id for event in bench.sink.of(events.JobCreated)] == [job.id]


def test_a_create_that_is_lost_is_repeated_when_the_platform_responds(tmp_path):
    """Each create whose response is lost may leave a job, so a read waits for the end of the outage."""
    refused = [ConnectionFailedError("refused") for _ in range(3)]
    destination = ScriptedDestination(
        create=[OutcomeUnknownError("lost")], columns=[*refused, NotFoundError("none", status=404)]
    )
    bench, job = on_bench(tmp_path, lambda bench: bench.runner.create(SCHEMA), destination)
    assert bench.destination.calls == ["create", *["columns"] * 4, "create"]
    assert job.id == "job-1"


def test_a_create_that_keeps_failing_is_abandoned(tmp_path):
    destination = ScriptedDestination(create=[ConnectionFailedError("refused") for _ in range(50)])
    bench, error = on_bench(tmp_path, lambda bench: bench.runner.create(SCHEMA), destination)
    assert isinstance(error, RetriesExhaustedError)
    assert bench.destination.count("create") == error.attempts == 5
    assert bench.sink.of(events.JobCreated) == []


def test_a_rejected_create_is_final(tmp_path):
    destination = ScriptedDestination(create=[PermissionDeniedError("no", status=403)])
    bench, error = on_bench(tmp_path, lambda bench: bench.runner.create(SCHEMA), destination)
    assert isinstance(error, PermissionDeniedError)
    assert bench.destination.count("create") == 1


def test_a_redirect_in_response_to_a_create_is_final(tmp_path):
    redirect = ForeignResponseError("a redirect", status=302)
    destination = ScriptedDestination(create=[redirect])
    bench, error = on_bench(tmp_path, lambda bench: bench.runner.create(SCHEMA), destination)
    assert (type(error), str(error), error.disposition) == (ForeignResponseError, "a redirect", "terminal")
    assert bench.destination.count("create") == 1


def chunk(content):
    digests = {"md5": hashlib.md5(content).hexdigest()}
    return (
        SentChunk(chunk_id=content.decode(), rows=1, payload_bytes=1, digests=digests, type="UPSERT"),
        RemoteChunk(id=content.decode(), type="UPSERT", checksum=digests["md5"]),
    )


SENT, LISTED = map(list, zip(chunk(b"a"), chunk(b"b"), strict=True))


def verify(folder, listed, *lines):
    destination = ScriptedDestination(chunks=lines)
    destination.chunks = listed

    async def use(bench):
        await bench.with_job()
        for number, chunk in enumerate(SENT):
            await bench.log.record(
                facts.ChunkSending(
                    job_id=JOB,
                    chunk_id=chunk.chunk_id,
                    rows=1,
                    first_row=number,
                    end_row=number + 1,
                    payload_bytes=1,
                    digests=chunk.digests,
                    type="UPSERT",
                )
            )
            await bench.log.record(facts.ChunkAcked(job_id=JOB, chunk_id=chunk.chunk_id))
        return await bench.runner.seal(JOB)

    return on_bench(folder, use, destination)


def test_a_job_that_holds_what_was_sent_is_verified(tmp_path):
    bench, verified = verify(tmp_path, LISTED[::-1])
    assert verified == "checksum"
    (event,) = bench.sink.of(events.JobVerified)
    assert (event.chunks, event.verified) == (2, "checksum")


@pytest.mark.parametrize(
    "listed", [LISTED[:1], [*LISTED, LISTED[0]], [LISTED[0], LISTED[0]], []], ids=["missing", "extra", "other", "none"]
)
def test_a_job_that_does_not_hold_what_was_sent_is_never_submitted(tmp_path, listed):
    bench, error = verify(tmp_path, listed)
    assert isinstance(error, VerificationError)
    assert error.job_id == JOB
    assert bench.sink.of(events.JobVerified) == []


@pytest.mark.parametrize(("count", "holds"), [(1002, "1002"), (2000, "at least 1005")])
def test_only_a_list_that_was_cut_has_at_least_that_many_chunks(tmp_path, count, holds):
    """It is cut at 1,000 more than were sent, and what was refused was sent, too."""

    class Cutting(ScriptedDestination):
        async def list_chunks(self, job_id, *, limit=None):
            return (await super().list_chunks(job_id))[:limit]

    async def use(bench):
        await bench.with_job()
        await record_chunk(bench.log)
        for number in range(1, 5):
            ids = {"job_id": JOB, "chunk_id": f"{number:06d}"}
            await bench.log.record(
                facts.ChunkSending(**ids, rows=1, first_row=0, end_row=1, payload_bytes=1, digests={}, type="UPSERT")
            )
            await bench.log.record(facts.ChunkRefused(**ids, error="no"))
        return await bench.runner.seal(JOB)

    destination = Cutting()
    destination.chunks = [RemoteChunk(str(number), "UPSERT", "") for number in range(count)]
    _, error = on_bench(tmp_path, use, destination)
    assert isinstance(error, VerificationError)
    assert f"sent 1 UPSERT, the job holds {holds} UPSERT" in error.message


def test_a_listing_with_transient_errors_is_retried(tmp_path):
    bench, verified = verify(tmp_path, LISTED, TransportError("reset"), ServerError("broken", status=502))
    assert (verified, bench.destination.count("chunks")) == ("checksum", 3)


def test_a_job_that_is_gone_when_its_chunks_are_listed_has_vanished(tmp_path):
    _, error = verify(tmp_path, LISTED, NotFoundError("gone", status=404))
    assert isinstance(error, JobVanishedError)


async def hang():
    await asyncio.sleep(HOUR)


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        (None, None),
        (ServerError("broken", status=500), "broken"),
        (ConnectionFailedError("refused"), "refused"),
        (hang, "TimeoutError"),
    ],
    ids=["deleted", "a 500", "no connection", "no response"],
)
def test_a_failed_delete_is_reported_and_raises_nothing(tmp_path, line, reported):
    destination = ScriptedDestination(delete=[line])

    async def use(bench):
        return await (await bench.with_job()).discard(JOB)

    bench, result = on_bench(tmp_path, use, destination)
    assert result is None
    assert [(event.job_id, event.error) for event in bench.sink.of(events.JobDeleted)] == [(JOB, reported)]
    assert bench.elapsed <= 11


# --- Drain


def drained(use):
    async def main():
        drain = DrainSwitch()
        result = await use(drain)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return run_in_virtual_time(main())


def test_the_guard_passes_on_the_result_or_the_error_of_its_coroutine():
    async def use(drain):
        async def work():
            await asyncio.sleep(1)
            return 7

        async def fail():
            await asyncio.sleep(1)
            raise ConflictError("busy", status=409)

        with pytest.raises(ConflictError):
            await drain.guard(fail())
        return await drain.guard(work())

    assert drained(use) == 7


def test_a_cancelled_guard_cancels_its_coroutine():
    seen = []

    async def use(drain):
        async def work():
            try:
                await asyncio.sleep(100)
            finally:
                seen.append("ended")

        task = asyncio.create_task(drain.guard(work()))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drained(use)
    assert seen == ["ended"]


def test_a_cancel_while_a_drained_wait_ends_is_not_swallowed():
    async def use(drain):
        async def slow_to_end():
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(10)

        task = asyncio.create_task(drain.guard(slow_to_end()))
        await asyncio.sleep(1)
        drain.set()
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drained(use)


def test_an_error_during_the_cleanup_does_not_hide_the_cancel():
    async def use(drain):
        async def fails_to_end():
            try:
                await asyncio.sleep(100)
            finally:
                raise ConflictError("busy", status=409)

        task = asyncio.create_task(drain.guard(fails_to_end()))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    drained(use)


def test_a_drained_guard_starts_nothing():
    async def use(drain):
        drain.set()
        with pytest.raises(EngineClosedError):
            await drain.guard(asyncio.sleep(5))
        return asyncio.get_running_loop().time()

    assert drained(use) < 1
