"""A platform that does not respond for minutes: what a push waits for, for how long, and what ends the wait. In virtual time."""

import asyncio
import contextlib
import itertools
import random
import re
from pathlib import Path

import pytest
from support.inline import inline, limiter_on
from support.journals import InlineJournal
from support.simulation import NoLock, SimWorkers

from pushengine import EngineSettings, events
from pushengine.errors import (
    ConfigError,
    ConnectionFailedError,
    EngineClosedError,
    OutcomeUnknownError,
    RequestTimeoutError,
    RetriesExhaustedError,
    ServerError,
    UnexpectedResponseError,
    UntrustedServerError,
)
from pushengine.journal.store import JournalFile
from pushengine.model import Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.push.opening import PushRequest
from pushengine.push.run import PushRun
from pushengine.quota.ledger import SqliteLedger
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.testing import MemoryDestination, RecordingSink, VirtualClock, run_in_virtual_time

MINUTE = 60.0
PATIENCE = 30 * MINUTE
ROWS = 300
OPERATIONS = ["columns", "create", "upload", "list_chunks", "submit", "get"]
NOT_IDEMPOTENT = ("create", "upload", "submit")


def refused(_operation):
    return ConnectionFailedError("no connection: Connection refused")


def unresolved(_operation):
    return ConnectionFailedError("the host name cannot be resolved", phase="name")


def no_handshake(_operation):
    return ConnectionFailedError("the TLS handshake failed", phase="tls")


def untrusted(_operation):
    return UntrustedServerError("the server's certificate is not trusted", phase="tls")


def unavailable(operation):
    disposition = "outcome_unknown" if operation in NOT_IDEMPOTENT else "transient"
    return ServerError("status 503", status=503, disposition=disposition)


def silent(operation):
    return OutcomeUnknownError("lost") if operation in NOT_IDEMPOTENT else RequestTimeoutError("slow", phase="read")


def login_page(operation):
    disposition = "outcome_unknown" if operation in NOT_IDEMPOTENT else "transient"
    return UnexpectedResponseError("HTML", status=200, disposition=disposition)


class FailingDestination(MemoryDestination):
    """A platform that fails from the n-th call of an operation onwards, for a while.

    Attributes:
        failed_at: Times of the calls that failed.
        down: Set once it fails.
    """

    def __init__(self, operation=None, seconds=0.0, error=refused, *, nth=1):
        super().__init__()
        self.operation, self.seconds, self.error, self.nth = operation, seconds, error, nth
        self.until = None
        self.failed_at = []
        self.down = asyncio.Event()
        self.executed = []

    async def call(self, operation, job_id, effect):
        await asyncio.sleep(0.01)
        now = asyncio.get_running_loop().time()
        if self.until is None and operation == self.operation:
            self.nth -= 1
            if self.nth == 0:
                self.until = now + self.seconds
        if self.until is not None and now < self.until:
            self.failed_at.append(now)
            self.down.set()
            raise self.error(operation)
        return await super().call(operation, job_id, effect)

    def execute(self, job):
        self.executed.append(job.id)
        super().execute(job)


class Desk:
    """One source and one state folder; each `push` is a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.source = folder / "rows.csv"
        self.source.write_text("ID,TEXT\n" + "".join(f"{row:06d},{row % 10}{'x' * 1199}\n" for row in range(ROWS)))
        self.file = JournalFile(folder / "journal.sqlite3")
        self.ledger = SqliteLedger(folder / "quota.sqlite3")
        self.clock = VirtualClock(1_750_000_000.0 - 1_750_000_000.0 % 3600.0 + 300.0)
        self.sink = RecordingSink()
        self.drain = DrainSwitch()
        self.numbers = itertools.count()

    def close(self):
        self.ledger.close()
        self.file.close()

    def process(self, destination, **settings):
        """Return what one process shares among its pushes."""
        settings = EngineSettings(chunk_bytes=64 * 1024, sample_bytes=64 * 1024, encoder_threads=2, **settings)
        self.sink, self.drain = RecordingSink(), DrainSwitch()
        rng = random.Random(3)
        return Shared(
            destination=destination,
            pool_id="pool",
            limiter=limiter_on(self.ledger, self.clock, rng=rng),
            journal=InlineJournal(self.file),
            take_lock=NoLock,
            take_table_lock=NoLock,
            policy=RetryPolicy(max_attempts=settings.max_attempts, max_wait_seconds=settings.retry_max_wait_seconds),
            budget=ByteBudget(settings.max_memory_bytes),
            engine_settings=settings,
            runtime=Runtime(
                clock=self.clock, rng=rng, filesystem=LocalFileSystem(), off_loop=inline, new_workers=SimWorkers
            ),
            drain=self.drain,
            sink=self.sink,
            table_locks={},
            scratch=Path("never used"),
            rejects=Path("never used"),
            said=set(),
            finished=set(),
        )

    async def push(self, destination, *, shared=None, mode="append", **settings):
        shared = shared or self.process(destination, **settings)
        request = PushRequest(spec=str(self.source), target=Target("T", mode))
        return await PushRun(request, shared, f"push-{next(self.numbers)}").run()

    def spent(self):
        return self.ledger.spent("acme", self.clock.now(), self.clock.now())


def at_the_desk(tmp_path, scenario):
    """Run a scenario, which is called with a desk, in virtual time."""

    async def main():
        with contextlib.closing(Desk(tmp_path)) as desk:
            return await scenario(desk)

    return run_in_virtual_time(main())


def require_loaded_once(destination, receipt):
    assert (receipt.status, receipt.rows) == ("DONE", ROWS)
    assert len(destination.executed) == 1
    job = destination.jobs[destination.executed[0]]
    assert sum(payload.rows for payload in job.payloads) == ROWS


@pytest.mark.parametrize("error", [refused, unavailable, silent, login_page], ids=lambda one: one.__name__)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("minutes", [1, 20])
def test_an_outage_that_is_shorter_than_the_patience_is_ridden_out(tmp_path, operation, error, minutes):
    if (operation, error) == ("columns", login_page):
        pytest.skip("reading the columns is optional: a page that is not the platform's ends it")

    async def scenario(desk):
        destination = FailingDestination(operation, minutes * MINUTE, error)
        receipt = await desk.push(destination, patience=PATIENCE, job_deadline_seconds=PATIENCE)
        require_loaded_once(destination, receipt)
        assert receipt.submits <= 2
        assert desk.spent() <= 2  # an outage must not spend the quota of the hour
        assert desk.clock.monotonic() > minutes * MINUTE
        if operation == "get":  # polling has a deadline of its own
            return
        waits = [event for event in desk.sink.of(events.WaitStarted) if event.reason.startswith("no call to")]
        assert len(waits) == 1
        assert re.fullmatch("no call to the platform has succeeded since [0-9]{2}:05:0[0-6]Z", waits[0].reason)
        assert PATIENCE - 31 < waits[0].seconds <= PATIENCE

    at_the_desk(tmp_path, scenario)


@pytest.mark.parametrize("error", [refused, unavailable, silent], ids=lambda one: one.__name__)
@pytest.mark.parametrize("operation", OPERATIONS[:-1])
def test_a_longer_outage_ends_the_push_when_the_patience_is_over_and_the_next_run_finishes_it(
    tmp_path, operation, error
):
    async def scenario(desk):
        destination = FailingDestination(operation, 31 * MINUTE, error)
        with pytest.raises(RetriesExhaustedError) as caught:
            await desk.push(destination, patience=PATIENCE)
        first, last = destination.failed_at[0], destination.failed_at[-1]
        assert PATIENCE - 1 < last - first < PATIENCE + 3  # the last attempt is made when the time is over
        assert caught.value.receipt.status == "ERROR"
        assert destination.executed == []
        gaps = [
            later - earlier for earlier, later in zip(destination.failed_at, destination.failed_at[1:], strict=False)
        ]
        assert max(gaps) <= 31 + 5
        await desk.clock.sleep(2 * MINUTE)
        require_loaded_once(destination, await desk.push(destination))

    at_the_desk(tmp_path, scenario)


@pytest.mark.parametrize("operation", OPERATIONS[:-1])
def test_without_patience_a_push_gives_up_soon(tmp_path, operation):
    async def scenario(desk):
        destination = FailingDestination(operation, 20 * MINUTE)
        with pytest.raises(RetriesExhaustedError):
            await desk.push(destination)
        assert destination.failed_at[-1] - destination.failed_at[0] < 5 * MINUTE
        assert desk.spent() <= 1
        assert not [one for one in desk.sink.of(events.WaitStarted) if one.reason.startswith("no call to")]

    at_the_desk(tmp_path, scenario)


class Deaf(MemoryDestination):
    """Requests get through, and responses do not: of these operations, until a time."""

    def __init__(self, until, *operations):
        super().__init__()
        self.until, self.operations = until, operations
        self.executed = []

    async def call(self, operation, job_id, effect):
        await asyncio.sleep(1.0)
        result = await super().call(operation, job_id, effect)
        if operation in self.operations and asyncio.get_running_loop().time() < self.until:
            raise silent(operation)
        return result

    def execute(self, job):
        self.executed.append(job.id)
        super().execute(job)


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_an_outage_in_which_only_requests_get_through_leaves_few_empty_jobs(tmp_path, mode):
    async def scenario(desk):
        destination = Deaf(25 * MINUTE, *OPERATIONS)
        require_loaded_once(destination, await desk.push(destination, mode=mode, patience=PATIENCE))
        assert len(destination.jobs) <= 2

    at_the_desk(tmp_path, scenario)


def test_creates_that_are_lost_while_all_else_works_are_soon_given_up(tmp_path):
    async def scenario(desk):
        destination = Deaf(25 * MINUTE, "create")
        with pytest.raises(RetriesExhaustedError):
            await desk.push(destination, patience=PATIENCE)
        assert destination.calls.count("create") <= 6

    at_the_desk(tmp_path, scenario)


def test_only_calls_that_spend_retries_earn_them(tmp_path):
    async def scenario(desk):
        destination = MemoryDestination()
        shared = desk.process(destination)
        shared.policy.budget.left = 50.0
        await desk.push(destination, shared=shared)
        earning = [name for name in destination.calls if name not in ("submit", "get")]
        assert earning.count("upload") > 1
        assert shared.policy.budget.left == pytest.approx(50.0 + 0.2 * len(earning))

    at_the_desk(tmp_path, scenario)


def test_a_folder_for_rejects_that_cannot_be_is_reported_before_anything_is_sent(tmp_path):
    async def scenario(desk):
        destination = MemoryDestination()
        with pytest.raises(ConfigError, match="there is no user nosuchuser"):
            await desk.push(destination, max_rejects=5, rejects="~nosuchuser/lists")
        assert destination.calls == []

    at_the_desk(tmp_path, scenario)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(unresolved, RetriesExhaustedError), (no_handshake, RetriesExhaustedError), (untrusted, UntrustedServerError)],
    ids=lambda one: one.__name__,
)
@pytest.mark.parametrize("mode", ["append", "replace"])  # the first call reads the columns, or creates the job
def test_a_wrong_address_is_not_waited_for(tmp_path, mode, error, raised):
    """Before the first response, a name that does not resolve or a failed handshake is likelier to be a mistake than an outage."""

    async def scenario(desk):
        destination = FailingDestination("columns" if mode == "append" else "create", 20 * MINUTE, error)
        with pytest.raises(raised):
            await desk.push(destination, mode=mode, patience=PATIENCE)
        assert desk.clock.monotonic() < MINUTE

    at_the_desk(tmp_path, scenario)


@pytest.mark.parametrize("error", [unresolved, no_handshake], ids=lambda one: one.__name__)
@pytest.mark.parametrize("operation", OPERATIONS[1:])
def test_after_the_first_response_a_name_that_does_not_resolve_is_an_outage(tmp_path, operation, error):
    async def scenario(desk):
        destination = FailingDestination(operation, 20 * MINUTE, error)
        receipt = await desk.push(destination, patience=PATIENCE)
        require_loaded_once(destination, receipt)

    at_the_desk(tmp_path, scenario)


def test_a_response_to_another_push_of_the_engine_counts(tmp_path):
    async def scenario(desk):
        destination = FailingDestination("columns", 20 * MINUTE, unresolved, nth=2)
        shared = desk.process(destination, patience=PATIENCE)
        first = await desk.push(destination, shared=shared)
        desk.file.set_state(first.push_id, "done", desk.clock.now())
        second = await desk.push(destination, shared=shared)
        assert (first.rows, second.rows) == (ROWS, ROWS)
        assert len(destination.executed) == 2

    at_the_desk(tmp_path, scenario)


def test_the_patience_counts_from_the_last_response_not_from_the_first_failure(tmp_path):
    """Three outages of 20 minutes with a response in between are three outages."""

    class Flapping(FailingDestination):
        rounds = 3

        async def call(self, operation, job_id, effect):
            done = await super().call(operation, job_id, effect)
            if operation in ("create", "upload", "list_chunks") and self.rounds:
                self.rounds -= 1
                self.until = asyncio.get_running_loop().time() + 20 * MINUTE
            return done

    async def scenario(desk):
        destination = Flapping("columns", 20 * MINUTE, refused)
        require_loaded_once(destination, await desk.push(destination, patience=PATIENCE))
        assert desk.clock.monotonic() > 60 * MINUTE

    at_the_desk(tmp_path, scenario)


@pytest.mark.parametrize("patience", [0.0, PATIENCE])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_drain_ends_the_wait_at_once(tmp_path, operation, patience):
    async def scenario(desk):
        destination = FailingDestination(operation, 20 * MINUTE)
        push = asyncio.create_task(desk.push(destination, patience=patience))
        await destination.down.wait()
        await asyncio.sleep(0.05)
        before = desk.clock.monotonic()
        desk.drain.set()
        with pytest.raises(EngineClosedError) as caught:
            await push
        assert desk.clock.monotonic() - before < 1.0
        assert caught.value.receipt.status == "INTERRUPTED"
        destination.until = 0.0
        require_loaded_once(destination, await desk.push(destination))

    at_the_desk(tmp_path, scenario)


def test_a_drain_ends_the_wait_before_a_chunk_list_is_read(tmp_path):
    async def scenario(desk):
        destination = FailingDestination("upload", 0.02, silent)
        push = asyncio.create_task(desk.push(destination, settle_seconds=60.0))
        await destination.down.wait()
        await asyncio.sleep(1.0)
        before = desk.clock.monotonic()
        desk.drain.set()
        with pytest.raises(EngineClosedError):
            await push
        assert desk.clock.monotonic() - before < 1.0
        require_loaded_once(destination, await desk.push(destination))

    at_the_desk(tmp_path, scenario)


def test_a_call_that_never_succeeds_is_not_repeated_for_ever_while_others_succeed(tmp_path):
    """An upload that the platform cannot process: between its attempts, the chunk list is read."""

    class Poisoned(FailingDestination):
        async def call(self, operation, job_id, effect):
            if operation == "upload":
                self.calls.append(operation)
                await asyncio.sleep(0.01)
                raise unavailable(operation)
            return await super().call(operation, job_id, effect)

    async def scenario(desk):
        destination = Poisoned()
        with pytest.raises(RetriesExhaustedError):
            await desk.push(destination, patience=PATIENCE, max_attempts=4)
        assert desk.clock.monotonic() < PATIENCE

    at_the_desk(tmp_path, scenario)


def test_a_cancellation_ends_the_wait(tmp_path):
    async def scenario(desk):
        destination = FailingDestination("create", 20 * MINUTE)
        push = asyncio.create_task(desk.push(destination, patience=PATIENCE))
        await destination.down.wait()
        push.cancel()
        with pytest.raises(asyncio.CancelledError):
            await push
        assert desk.clock.monotonic() < MINUTE

    at_the_desk(tmp_path, scenario)
