"""Reconciliation: which uploads without a response are in a job's chunk list, and when it is read."""

import asyncio
import base64
import dataclasses
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contexts import push_context

from pushengine.journal import facts
from pushengine.model import Payload, RemoteChunk, SentChunk, Target
from pushengine.pipeline.reconciler import Reconciler
from pushengine.pipeline.verification import reconcile
from pushengine.push.job import JobRunner
from pushengine.testing import MemoryDestination, VirtualClock, run_in_virtual_time

A, B, C, D = b"a", b"b", b"c", b"d"


def sent(contents, first=0):
    return [
        SentChunk(
            chunk_id=f"{number:06d}",
            rows=1,
            payload_bytes=1,
            digests={name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha1", "sha256")},
            type="UPSERT",
        )
        for number, content in enumerate(contents, first)
    ]


def checksum(algorithm, content):
    name, _, spelling = algorithm.partition("/")
    digest = hashlib.new(name, content).digest()
    return base64.b64encode(digest).decode() if spelling == "base64" else digest.hex()


def listed(contents, algorithm="md5/hex"):
    return [
        RemoteChunk(str(number), "UPSERT", algorithm and checksum(algorithm, content))
        for number, content in enumerate(contents)
    ]


ALGORITHMS = ["md5/hex", "md5/base64", "sha1/hex", "sha256/hex", "sha256/base64"]

BY_CHECKSUM = [  # acknowledged, unknown, listed, indexes of the unknown chunks that are present (None: taint)
    ([], [A], [], []),
    ([], [A], [A], [0]),
    ([A], [B], [A], []),
    ([A], [B], [A, B], [0]),
    ([A], [B, C], [A, C], [1]),
    ([A], [B, C], [C, A, B], [0, 1]),
    ([A], [A], [A], []),
    ([A], [A], [A, A], [0]),
    ([A], [B, B], [A, B], [0]),
    ([A, B], [C], [A, C], None),
    ([A, B], [C], [A], None),
    ([A], [B], [A, A], None),
    ([A], [B], [A, D], None),
    ([A], [B], [A, B, B], None),
    ([A], [B], [A, B, D], None),
    ([A], [B, C], [A, B, B], None),
    ([], [A, B], [A, A], None),
    ([], [A], [A, A], None),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "learned"])
@pytest.mark.parametrize("case", BY_CHECKSUM, ids=str)
def test_uploads_are_reconciled_by_checksum(case, algorithm, is_known):
    acked, unknown, there, present = case
    unresolved = sent(unknown, len(acked))
    for order in itertools.islice(itertools.permutations(there), 6):
        found = reconcile(sent(acked), unresolved, listed(order, algorithm), known=algorithm if is_known else None)
        if present is None:
            assert found.taint is not None
            assert not found.present
            continue
        assert found.taint is None
        assert found.present == {unresolved[index].chunk_id for index in present}
        assert found.absent == {chunk.chunk_id for chunk in unresolved} - found.present
        if there:
            assert found.how == "checksum"


BY_COUNT = [  # acknowledged, unknown, listed, whether late chunks may be listed -> present: all, none or taint
    (2, 1, 2, False, "none"),
    (2, 1, 3, False, "all"),
    (2, 1, 1, False, "taint"),
    (2, 1, 4, False, "taint"),
    (2, 3, 5, False, "all"),
    (2, 3, 4, False, "taint"),
    (2, 3, 2, False, "none"),
    (0, 2, 0, False, "none"),
    (0, 2, 2, False, "all"),
    (2, 1, 2, True, "none"),
    (2, 1, 3, True, "taint"),
    (2, 3, 5, True, "taint"),
    (2, 3, 4, True, "taint"),
]


@pytest.mark.parametrize("spelled", ["none", "opaque"])
@pytest.mark.parametrize("case", BY_COUNT, ids=str)
def test_uploads_are_reconciled_by_count(case, spelled):
    acked, unknown, there, late, verdict = case
    names = [bytes([number]) for number in range(10)]
    unresolved = sent(names[acked : acked + unknown], acked)
    chunks = listed(names[:there], None)
    if spelled == "opaque":
        chunks = [dataclasses.replace(chunk, checksum=f"etag-{chunk.id}-x") for chunk in chunks]
    found = reconcile(sent(names[:acked]), unresolved, chunks, may_hold_late_chunks=late)
    everything = frozenset(chunk.chunk_id for chunk in unresolved)
    if verdict == "taint":
        assert found.taint is not None
        assert not found.present
    else:
        assert (found.taint, found.how) == (None, "count")
        assert found.present == (everything if verdict == "all" else frozenset())
        assert found.absent == everything - found.present


def test_a_list_that_lacks_acknowledged_chunks_may_lag_behind():
    assert reconcile(sent([A, B]), sent([C], 2), listed([A])).is_behind
    assert reconcile(sent([A, B]), sent([C], 2), listed([A, C])).is_behind
    assert reconcile(sent([A, B]), sent([C], 2), listed([C, D])).is_behind
    assert not reconcile(sent([A]), sent([B], 1), listed([A, B, C])).is_behind
    assert not reconcile(sent([A]), sent([B], 1), listed([A, B])).is_behind


contents = st.lists(st.sampled_from([A, B, C, D]), max_size=6)


@given(
    acked=contents,
    unknown=st.lists(st.tuples(st.sampled_from([A, B, C, D]), st.booleans()), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_arrived_chunks_are_found_even_if_other_chunks_are_identical(acked, unknown, order, algorithm):
    there = acked + [content for content, has_arrived in unknown if has_arrived]
    order.shuffle(there)
    unresolved = sent([content for content, _ in unknown], len(acked))
    found = reconcile(sent(acked), unresolved, listed(there, algorithm), known=algorithm)
    assert found.taint is None
    assert found.present | found.absent == {chunk.chunk_id for chunk in unresolved}
    assert not found.present & found.absent
    by_id = {chunk.chunk_id: content for chunk, (content, _) in zip(unresolved, unknown, strict=True)}
    assert sorted(by_id[name] for name in found.present) == sorted(content for content, arrived in unknown if arrived)


@given(acked=contents, unknown=contents, there=contents, late=st.booleans(), known=st.booleans())
def test_a_verdict_never_invents_chunks(acked, unknown, there, late, known):
    """Whatever is listed, the acknowledged and the present chunks together are exactly the list, or the job is abandoned."""
    unresolved = sent(unknown, len(acked))
    found = reconcile(
        sent(acked), unresolved, listed(there), known="md5/hex" if known else None, may_hold_late_chunks=late
    )
    if found.taint is not None:
        return
    by_id = {chunk.chunk_id: content for chunk, content in zip(unresolved, unknown, strict=True)}
    assert len(acked) + len(found.present) == len(there)
    if known and (acked or unknown):
        assert sorted([*acked, *(by_id[name] for name in found.present)]) == sorted(there)


# --- When the list is read: the later jobs of a push wait for late uploads, but only for chunks that are missing

QUARANTINE = 60.0


class Job:
    """A job of a push whose uploads had no response, in virtual time; create it inside the event loop."""

    def __init__(self, *, is_later=True):
        self.destination = MemoryDestination()
        self.clock = VirtualClock()
        self.context = push_context(self.destination, self.clock, settle_seconds=1.0, quarantine_seconds=QUARANTINE)
        self.is_later = is_later
        self.id = None

    async def open(self):
        if self.is_later:
            await self.context.log.record(facts.JobCreated(job_id="abandoned"))
            await self.context.log.record(facts.PushRestarted(reason="a chunk twice"))
        self.id = self.destination.create(Target("T"), ()).id
        await self.context.log.record(facts.JobCreated(job_id=self.id))
        return self

    def reconciler(self):
        return Reconciler(self.context, self.id, JobRunner(self.context).list_chunks)

    async def send(self, *chunk_ids):
        """Send chunks, which are lost until they `arrive`."""
        for chunk_id in chunk_ids:
            payload = self.payload(chunk_id)
            ids = {"job_id": self.id, "chunk_id": chunk_id}
            await self.context.log.record(
                facts.ChunkSending(
                    **ids, rows=1, first_row=0, end_row=1, payload_bytes=1, digests=payload.digests, type="UPSERT"
                )
            )
            await self.context.log.record(facts.ChunkUnknown(**ids, error="lost"))

    def arrive(self, *chunk_ids):
        for chunk_id in chunk_ids:
            self.destination.store(self.id, self.payload(chunk_id), "UPSERT")

    @staticmethod
    def payload(chunk_id):
        digest = hashlib.md5(chunk_id.encode()).hexdigest()
        return Payload(chunk_id, memoryview(chunk_id.encode()), 1, (0, 1), {"md5": digest})

    @property
    def listings(self):
        return self.destination.calls.count("list_chunks")

    def state_of(self, chunk_id):
        return self.context.log.state.chunk_of(self.id, chunk_id).state


def with_job(use, **kind):
    async def main():
        return await use(await Job(**kind).open())

    return run_in_virtual_time(main())


@pytest.mark.parametrize("is_later", [False, True], ids=["first job", "later job"])
def test_a_chunk_that_arrived_without_a_response_is_found_at_once(is_later):
    async def use(job):
        await job.send("a")
        job.arrive("a")
        assert await job.reconciler().has_arrived("a")
        assert job.clock.monotonic() < 2.0

    with_job(use, is_later=is_later)


@pytest.mark.parametrize(("is_later", "seconds"), [(False, 1), (True, QUARANTINE + 1)], ids=["first job", "later job"])
def test_a_chunk_is_sent_again_only_when_a_later_jobs_quarantine_is_over(is_later, seconds):
    async def use(job):
        await job.send("a")
        assert not await job.reconciler().has_arrived("a")
        assert job.clock.monotonic() == pytest.approx(seconds, abs=0.5)
        assert job.state_of("a") == "absent"

    with_job(use, is_later=is_later)


def test_an_upload_that_arrives_during_the_quarantine_is_found_after_it():
    async def use(job):
        await job.send("a")
        asyncio.get_running_loop().call_later(30.0, job.arrive, "a")
        assert await job.reconciler().has_arrived("a")
        assert job.state_of("a") == "acked"
        assert job.clock.monotonic() == pytest.approx(QUARANTINE + 1, abs=0.5)

    with_job(use)


def test_uploads_that_are_lost_together_share_their_lists():
    """While the list is read no chunk is sent, so it is not read once for each of them."""

    async def use(job):
        names = [str(number) for number in range(16)]
        await job.send(*names)
        job.arrive(*names[:8])
        reconciler = job.reconciler()
        found = await asyncio.gather(*map(reconciler.has_arrived, names))
        assert found == [True] * 8 + [False] * 8
        assert job.listings == 2
        assert job.clock.monotonic() == pytest.approx(QUARANTINE + 1, abs=0.5)

    with_job(use)


def test_a_chunk_that_is_lost_again_is_looked_for_again():
    async def use(job):
        await job.send("a")
        reconciler = job.reconciler()
        assert not await reconciler.has_arrived("a")
        await job.send("a")
        job.arrive("a")
        before = job.clock.monotonic()
        assert await reconciler.has_arrived("a")
        assert job.clock.monotonic() - before < 2.0

    with_job(use)


def test_what_an_earlier_process_sent_is_looked_for_before_any_wait():
    async def use(job):
        await job.send("a", "b")
        job.arrive("a", "b")
        await job.reconciler().reconcile_unknown()
        assert (job.state_of("a"), job.state_of("b")) == ("acked", "acked")
        assert job.clock.monotonic() < 2.0

    with_job(use)


def test_what_an_earlier_process_sent_and_is_missing_is_waited_for():
    async def use(job):
        await job.send("a", "b")
        job.arrive("a")
        await job.reconciler().reconcile_unknown()
        assert (job.state_of("a"), job.state_of("b")) == ("acked", "absent")
        assert job.clock.monotonic() == pytest.approx(QUARANTINE + 1, abs=0.5)

    with_job(use)
