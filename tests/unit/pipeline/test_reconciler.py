"""Reconciliation: which uploads without a response are in a job's chunk list."""

import base64
import dataclasses
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushengine.model import RemoteChunk, SentChunk
from pushengine.pipeline.verification import reconcile

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
