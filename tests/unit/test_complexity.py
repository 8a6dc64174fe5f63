"""Ten times the chunks, jobs or pushes cost about ten times the work.

Work is counted, not timed: the bytecodes that pushengine's modules execute, and the steps of SQLite's virtual machine. The same run returns
the same numbers on any machine, however busy it is. Work that C code does within one call (a sort, a copy of a list) is not counted.
"""

import asyncio
import contextlib
import datetime as dt
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from support.inline import inline, limiter_on
from support.journals import InlineJournal
from support.lists import read_list
from support.load_files import Load

import pushengine
from pushengine import events
from pushengine.celonis.wire import parse_listed_chunk, parse_listed_job
from pushengine.cli.describe import describe_jobs
from pushengine.cli.live.progress import Progress
from pushengine.cli.story import describe_push_story, summarise
from pushengine.config.settings import EngineSettings
from pushengine.errors import OutcomeUnknownError
from pushengine.interfaces import SourceBatch
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.state import PushHistory
from pushengine.journal.store import JournalFile
from pushengine.model import RemoteChunk, Target
from pushengine.pipeline.context import Shared
from pushengine.pipeline.keys.duplicates import DuplicateSearch
from pushengine.pipeline.keys.hashes import hash_keys
from pushengine.pipeline.keys.runs import KeyRuns
from pushengine.pipeline.memory_budget import ByteBudget
from pushengine.pipeline.retry import RetryPolicy
from pushengine.pipeline.verification import reconcile, verify_chunks
from pushengine.push.cleanup import delete_forgotten_jobs
from pushengine.push.opening import PushRequest
from pushengine.push.run import PushRun
from pushengine.quota.ledger import SqliteLedger
from pushengine.runtime.drain import DrainSwitch
from pushengine.runtime.runtime import Runtime
from pushengine.testing import MemoryDestination, RecordingSink, VirtualClock, run_in_virtual_time

FOLDER = str(Path(pushengine.__file__).parent)
TIMES = 10
MOST_TIMES = 13.0
NOON = 1_750_003_200.0 - 1_750_003_200.0 % 3600.0


class Work:
    """Counts the work that is done within the block."""

    def __init__(self):
        self.done = 0

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_exc):
        sys.settrace(self._before)

    def _on_call(self, frame, _event, _arg):
        if not frame.f_code.co_filename.startswith(FOLDER):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._on_opcode

    def _on_opcode(self, _frame, event, _arg):
        self.done += event == "opcode"
        return self._on_opcode

    def watch(self, connection):
        """Also count the virtual machine steps of an SQLite connection."""

        def step():
            self.done += 1

        connection.set_progress_handler(step, 1)


def assert_in_proportion(measure, small, *, most=MOST_TIMES):
    """Check that the work grows at most in proportion. `measure(n)` returns the work for n things."""
    few, many = measure(small), measure(small * TIMES)
    assert few > 0
    assert many <= few * most, (
        f"{small} took {few:,} steps, {small * TIMES} took {many:,}: {many / few:.1f} times as many"
    )


# --- A whole push -----------------------------------------------------------------------------------------------------------------------


class Destination(MemoryDestination):
    """Accepts everything, but loses the responses of some uploads."""

    def __init__(self, *, lost=()):
        super().__init__()
        self.uploads, self.lost = 0, lost

    async def call(self, operation, job_id, effect):
        response = await super().call(operation, job_id, effect)
        if operation in ("upload", "list_chunks"):
            await asyncio.sleep(0.01)
        if operation == "upload":
            self.uploads += 1
            if self.uploads in self.lost:
                raise OutcomeUnknownError("no response")
        return response


class InlineWorkers:
    async def read(self, function, *args, **kwargs):
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    encode = read

    def rest(self):
        pass

    async def aclose(self):
        pass


class NoLock:
    def __init__(self, *_names):
        pass

    def release(self):
        pass


class ShowingSink(RecordingSink):
    """Does what a display does with each event."""

    def __init__(self):
        super().__init__()
        self.progress = Progress()

    def emit(self, event):
        self.progress.apply(event, 0.0)
        self.progress.transfer()


def push_concurrently(folder, sources, *, lost=()):
    """Push some tables on one engine, all started together, in virtual time. Return the work and the receipts."""
    work = Work()

    async def main():
        clock = VirtualClock(NOON + 600)
        file, ledger = JournalFile(folder / "journal.sqlite3"), SqliteLedger(folder / "quota.sqlite3")
        work.watch(file._db)
        settings = EngineSettings(chunk_bytes=64 * 1024)
        shared = Shared(
            destination=Destination(lost=lost),
            pool_id="pool",
            limiter=limiter_on(ledger, clock),
            policy=RetryPolicy(),
            journal=InlineJournal(file),
            take_lock=NoLock,
            take_table_lock=NoLock,
            budget=ByteBudget(settings.max_memory_bytes),
            engine_settings=settings,
            runtime=Runtime(clock, random.Random(1), None, inline, InlineWorkers),
            drain=DrainSwitch(),
            sink=ShowingSink(),
            table_locks={},
            scratch=Path("never used"),
            rejects=Path("never used"),
            said=set(),
            finished=set(),
        )
        runs = [
            PushRun(PushRequest(spec=source, target=Target(f"T{number}", "replace")), shared, f"push-{number}")
            for number, source in enumerate(sources)
        ]
        with work:
            receipts = await asyncio.gather(*(run.run() for run in runs))
        ledger.close()
        file.close()
        return receipts

    receipts = run_in_virtual_time(main())
    assert all(receipt.status == "DONE" for receipt in receipts)
    return work.done, receipts


def table_of(batches, rows):
    """Return a table of this many batches of one column. A batch of 8,000 rows is nearly a chunk."""
    return pa.Table.from_batches([pa.record_batch({"N": pa.array(range(rows))})] * batches)


def test_a_push_scales_with_its_chunks(tmp_path_factory):
    def measure(chunks):
        work, (receipt,) = push_concurrently(tmp_path_factory.mktemp("push"), [table_of(chunks, 8000)], lost={3, 5, 9})
        assert receipt.chunks == chunks
        return work

    assert_in_proportion(measure, 25)


def test_a_chunk_scales_with_its_batches(tmp_path_factory):
    def measure(batches):
        work, (receipt,) = push_concurrently(tmp_path_factory.mktemp("push"), [table_of(batches, 10)])
        assert receipt.rows == batches * 10
        return work

    assert_in_proportion(measure, 60)


def test_concurrent_pushes_on_one_engine_scale_with_their_number(tmp_path_factory):
    def measure(pushes):
        work, receipts = push_concurrently(tmp_path_factory.mktemp("push"), [table_of(1, 10)] * pushes)
        assert len(receipts) == pushes
        return work

    assert_in_proportion(measure, 10)


# --- The journal ------------------------------------------------------------------------------------------------------------------------


def facts_of(chunks, push_id="push-0"):
    """Yield the facts of a push that created a job, sent its chunks (some twice, some with an unknown outcome at first) and was killed once."""
    at = iter(range(10**9))

    def fact(kind, **body):
        return FactRow(push_id, NOON + next(at), kind, body)

    target = {"table": "T", "mode": "replace", "keys": []}
    yield fact("push_planned", schema={"columns": []}, target=target, source=["a.csv"])
    yield fact("session_started", pid=1, resumed=False)
    yield fact("job_intended")
    yield fact("job_created", job_id="job-0")
    for number in range(chunks):
        ids = {"job_id": "job-0", "chunk_id": f"{number:06d}"}
        sending = ids | {"rows": 10, "first_row": number * 10, "end_row": number * 10 + 10, "payload_bytes": 100}
        sending |= {"digests": {"sha256": f"{number:064x}", "md5": f"{number:032x}"}, "type": "UPSERT"}
        yield fact("chunk_sending", **sending)
        if number == chunks // 2:
            yield fact("session_started", pid=2, resumed=True)
            yield fact("chunk_settled", **ids, is_present=False, how="checksum")
            yield fact("chunk_sending", **sending)
        if number % 5 == 0:
            yield fact("chunk_unknown", **ids, error="no response")
            yield fact("chunk_settled", **ids, is_present=True, how="checksum")
        else:
            yield fact("chunk_acked", **ids)
    yield fact("job_sealed", job_id="job-0", chunks=chunks, verified="checksum")


def row(number=0, state="done", at=NOON):
    return PushRow(f"push-{number}", f"identity-{number}", "acme", "pool", f"T{number}", "a.csv", at, at, state)


def counted(call):
    with Work() as work:
        call()
    return work.done


def test_folding_facts_and_querying_the_state_scales_with_the_chunks():
    def fold(chunks):
        facts = list(facts_of(chunks))

        def read():
            history = PushHistory()
            for fact in facts:  # like a live push, query the state after each fact
                history.apply(fact.fact, fact.at)
                assert history.state.job is None or history.state.job.may_have_run is False
            job = history.state.job
            assert job.resume_point() == (chunks, chunks * 10)
            assert len(job.acked) == chunks
            assert job.quarantined_since is not None

        return counted(read)

    assert_in_proportion(fold, 100)


def test_describing_a_push_scales_with_its_chunks(tmp_path):
    def describe(chunks):
        facts = list(facts_of(chunks))
        return counted(lambda: (describe_push_story(row(state="open"), facts), summarise(row(), facts)))

    assert_in_proportion(describe, 100)


def sent_and_listed(chunks):
    history = PushHistory(facts_of(chunks))
    sent = [chunk.as_sent() for chunk in history.state.jobs[0].chunks.values()]
    return sent, [RemoteChunk(chunk.chunk_id, chunk.type, chunk.digests["md5"]) for chunk in sent]


def test_comparing_the_chunk_list_with_what_was_sent_scales_with_the_chunks():
    def compare(chunks):
        sent, listed = sent_and_listed(chunks)
        half = chunks // 2

        def check():
            assert verify_chunks(sent, listed).verified == "checksum"
            assert len(reconcile(sent[:half], sent[half:], listed).present) == chunks - half

        return counted(check)

    assert_in_proportion(compare, 100)


@pytest.fixture
def journal_of(tmp_path_factory):
    """Return a function that creates a journal of n pushes in one state, each with the facts of some chunks."""
    with contextlib.ExitStack() as stack:

        def make(pushes, *, state="done", facts=0):
            file = stack.enter_context(
                contextlib.closing(JournalFile(tmp_path_factory.mktemp("j") / "journal.sqlite3"))
            )
            with file.transaction():
                for number in range(pushes):
                    file.begin_push(row(number, state, at=NOON + number))
                    for fact in facts_of(facts, f"push-{number}") if facts else ():
                        file.append(fact)
            return file

        yield make


def steps(file, call):
    with Work() as work:
        work.watch(file._db)
        call(file)
        file._db.set_progress_handler(None, 0)
    return work.done


@pytest.mark.parametrize(
    "call_journal",
    [
        pytest.param(lambda file: file.find_open("identity-7"), id="find_open"),
        pytest.param(lambda file: file.pushes(state="open"), id="open_pushes"),
        pytest.param(lambda file: file.announced_pushes(), id="announced_pushes"),
        pytest.param(lambda file: file.facts("push-7"), id="facts"),
        pytest.param(lambda file: file.set_state("push-7", "done", NOON), id="set_state"),
        pytest.param(lambda file: file.append(FactRow("push-7", NOON, "k", {})), id="append"),
        pytest.param(lambda file: file.stale_pushes(NOON), id="stale_pushes"),
    ],
)
def test_journal_calls_of_one_push_cost_the_same_however_many_pushes_the_journal_holds(journal_of, call_journal):
    few, many = (steps(journal_of(pushes, facts=2), call_journal) for pushes in (20, 20 * TIMES))
    assert many <= few * 1.5, (few, many)


@pytest.mark.parametrize(
    "call_journal",
    [
        pytest.param(lambda file: file.pushes(), id="history"),
        pytest.param(lambda file: file.prune(NOON + 10**6), id="prune"),
        pytest.param(lambda file: file.forgotten_jobs("acme", "pool", NOON), id="forgotten_jobs"),
        pytest.param(lambda file: file.needs_file("p.csv", ended_since=NOON), id="needs_file"),
    ],
)
def test_journal_calls_about_all_pushes_scale_with_the_pushes(journal_of, call_journal):
    assert_in_proportion(lambda pushes: steps(journal_of(pushes, state="failed", facts=5), call_journal), 20)


@pytest.mark.parametrize(
    "call_journal", [JournalFile.facts, lambda file, push: file.forgotten_jobs("acme", "pool", NOON)]
)
def test_reading_a_push_from_the_journal_scales_with_its_chunks(journal_of, call_journal):
    assert_in_proportion(
        lambda chunks: steps(journal_of(1, state="failed", facts=chunks), lambda file: call_journal(file, "push-0")), 50
    )


def test_deleting_the_jobs_of_old_pushes_scales_with_the_pushes(journal_of):
    def sweep(pushes):
        file, work = journal_of(pushes, state="failed", facts=2), Work()
        work.watch(file._db)

        async def main():
            with work:
                return await delete_forgotten_jobs(
                    Destination(),
                    pool_id="pool",
                    journal=InlineJournal(file),
                    take_lock=NoLock,
                    clock=VirtualClock(NOON),
                    stale_seconds=3600.0,
                    sink=RecordingSink(),
                )

        assert run_in_virtual_time(main()) == pushes
        return work.done

    assert_in_proportion(sweep, 20)


# --- Waiting ----------------------------------------------------------------------------------------------------------------------------


def test_waiting_for_the_quota_scales_with_the_jobs(tmp_path_factory):
    def wait(jobs):
        work = Work()

        async def main():
            clock = VirtualClock(NOON + 600)
            ledger = SqliteLedger(tmp_path_factory.mktemp("ledger") / "quota.sqlite3")
            limiter = limiter_on(ledger, clock)
            with work:
                await asyncio.gather(*(limiter.acquire(lambda *wait: None) for _ in range(jobs)))
            ledger.close()

        run_in_virtual_time(main())
        return work.done

    assert_in_proportion(wait, 24)


@pytest.mark.parametrize(
    "is_cancelled",
    [
        pytest.param(False, id="granted"),
        pytest.param(True, id="cancelled"),
    ],
)
def test_waiting_for_memory_scales_with_the_waiters(is_cancelled):
    def wait(count):
        work = Work()

        async def one(budget):
            reservation = await budget.acquire(60)
            await asyncio.sleep(0)
            reservation.release()

        async def main():
            budget = ByteBudget(100)
            with work:
                held = await budget.acquire(100)
                waiting = [asyncio.ensure_future(one(budget)) for _ in range(count)]
                await asyncio.sleep(0)
                for task in waiting if is_cancelled else ():
                    task.cancel()
                if is_cancelled:
                    await asyncio.wait(waiting)
                held.release()
                await asyncio.wait(waiting)
            assert budget.reserved == 0

        run_in_virtual_time(main())
        return work.done

    assert_in_proportion(wait, 30)


# --- Display ----------------------------------------------------------------------------------------------------------------------------


def test_reading_and_showing_jobs_scales_with_their_number():
    def show(jobs):
        one = '{"id": "%d", "status": "DONE", "targetName": "T", "type": "REPLACE", "lastModified": "2026-11-23T12:00:00Z"}'
        body = f"[{','.join(one % number for number in range(jobs))}]".encode()
        return counted(lambda: describe_jobs(read_list(body, parse_listed_job)))

    assert_in_proportion(show, 50)


def test_reading_the_chunks_of_a_job_scales_with_their_number():
    def read(chunks):
        one = '{"id": "%d", "type": "UPSERT", "checksum": "00"}'
        body = f"[{','.join(one % number for number in range(chunks))}]".encode()
        return counted(lambda: read_list(body, parse_listed_chunk))

    assert_in_proportion(read, 50)


def test_showing_progress_scales_with_the_chunks():
    def show(chunks):
        emitted = [
            event
            for number in range(chunks)
            for event in (
                events.UploadStarted(push_id="p", job_id="j", chunk_id=str(number), attempt=1, payload_bytes=1),
                events.ChunkUploaded(
                    push_id="p", job_id="j", chunk_id=str(number), rows=1, payload_bytes=1, elapsed_seconds=1.0
                ),
            )
        ]
        sink = ShowingSink()
        return counted(lambda: [sink.emit(event) for event in emitted])

    assert_in_proportion(show, 50)


# --- Loads ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_finding_nothing_new_scales_with_the_files_that_were_loaded(tmp_path_factory, mode):
    def choose(files):
        load = Load(tmp_path_factory.mktemp("in"), mode=mode)
        for number in range(files):
            day = dt.date(2020, 1, 1) + dt.timedelta(days=number)
            load.write(f"A_{day:%Y%m%d}_1.csv", f"content {number}")
        load.night()
        return counted(load.choose)

    assert_in_proportion(choose, 20)


# --- Equal keys -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["different", "equal"])
def test_finding_rows_with_equal_keys_scales_with_the_batches_not_the_rows(tmp_path, kind):
    def find(batches, rows):
        numbers = [pa.array(range(row, row + rows)) for row in range(0, batches * rows, rows)]
        if kind == "equal":
            numbers = numbers[:1] * batches
        tables = [pa.RecordBatch.from_pydict({"ID": values, "V": values.cast(pa.string())}) for values in numbers]

        def whole():
            with KeyRuns(tmp_path) as runs:
                for table in tables:
                    runs.add(hash_keys([table["ID"]]))
                search = DuplicateSearch(runs.duplicates(), ["ID"])
            for table in tables:
                search.observe(table, SourceBatch(table, "f", 0))
                search.last_rows().keep_mask(table, hash_keys([table["ID"]]))
            assert search.found is None

        return counted(whole)

    assert_in_proportion(lambda batches: find(batches, 100), 20)
    if kind == "different":
        assert find(20, 1000) <= find(20, 100) * 1.2
