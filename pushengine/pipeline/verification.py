"""Does the job hold what was sent? Decisions from a job's chunk list, pure.

The algorithm behind the platform's `DataPushChunk.checksum` is not documented (fact sheet 1.7), so it is learned: an algorithm and spelling
under which every acknowledged chunk stands in the list. Where none fits, chunks can only be counted.

`verify_chunks` is the seal: just before submit, the list must equal what was sent, as a multiset. `reconcile` answers for uploads
whose outcome is unknown: is the chunk in the list or not? It needs a quiet moment, with no other upload under way.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from pushengine.model import RemoteChunk, SentChunk

_SPELLINGS: dict[str, Callable[[str], str]] = {
    "hex": str.lower,
    "base64": lambda digest: base64.b64encode(bytes.fromhex(digest)).decode("ascii"),
}
Key = tuple[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What the comparison before submit found.

    Attributes:
        verified: How it was compared, or None: the list is not what was sent.
        difference: Then: what is different, for people.
        algorithm: The checksum algorithm and spelling that fits, such as `md5/hex`, or None.
    """

    verified: Literal["checksum", "count"] | None
    difference: str = ""
    algorithm: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the list says of uploads whose outcome was unknown.

    Attributes:
        present: Chunk ids that the job holds.
        absent: Chunk ids that it does not hold (yet: a late one shows at the seal).
        taint: Why the job can no longer be trusted, or None.
        is_behind: Then: the list lacks what was acknowledged, so it may just lag behind.
        how: By `checksum` or by `count`.
    """

    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    taint: str | None = None
    is_behind: bool = False
    how: Literal["checksum", "count"] = "checksum"


def verify_chunks(
    sent: Sequence[SentChunk], listed: Sequence[RemoteChunk], *, known: str | None = None
) -> Verification:
    """Compare what was acknowledged with what the job holds, as multisets of (type, checksum).

    Args:
        sent: Every chunk of the push.
        listed: Every chunk of the job.
        known: The algorithm that the platform is known to use; a list that does not fit it then is a difference, not a riddle.
    """
    sent_types: collections.Counter[str] = collections.Counter(chunk.type for chunk in sent)
    listed_types: collections.Counter[str] = collections.Counter(chunk.type for chunk in listed)
    if sent_types != listed_types:
        return Verification(None, f"sent {_spell(sent_types)}, the job holds {_spell(listed_types)}")
    if not all(chunk.checksum for chunk in listed):
        return Verification("count")
    theirs = _listed_keys(listed)
    best = 0
    for algorithm in _algorithms(sent):
        ours = collections.Counter(_key(chunk, algorithm) for chunk in sent)
        if ours == theirs:
            return Verification("checksum", algorithm=algorithm)
        best = max(best, (ours & theirs).total())
    if best or (known is not None and known in set(_algorithms(sent))):
        return Verification(None, f"{len(sent) - best} of {len(sent)} chunks have another checksum than what was sent")
    return Verification("count")


def reconcile(
    acked: Sequence[SentChunk],
    unknown: Sequence[SentChunk],
    listed: Sequence[RemoteChunk],
    *,
    known: str | None = None,
    may_hold_late_ones: bool = False,
) -> Reconciliation:
    """Decide which uploads without an answer have arrived.

    Args:
        acked: Chunks that the platform acknowledged.
        unknown: Chunks whose upload had no answer.
        listed: The job's chunks, read while no upload was under way.
        known: The algorithm that the platform is known to use, or None.
        may_hold_late_ones: Chunks were sent again whose first upload may have arrived since: a surplus may be one of those.
    """
    ids = frozenset(chunk.chunk_id for chunk in unknown)
    if len(listed) < len(acked):
        return Reconciliation(
            taint=f"{len(acked)} chunks were acknowledged, the job holds {len(listed)}", is_behind=True
        )
    if len(listed) > len(acked) + len(unknown):
        return Reconciliation(
            taint=f"the job holds {len(listed)} chunks, at most {len(acked) + len(unknown)} were sent"
        )
    algorithm = _fitting_algorithm(acked, unknown, listed, known)
    if algorithm is None:
        return _by_count(ids, surplus=len(listed) - len(acked), may_hold_late_ones=may_hold_late_ones)
    rest = _listed_keys(listed)
    rest.subtract(_key(chunk, algorithm) for chunk in acked)
    if any(count < 0 for count in rest.values()):
        return Reconciliation(taint="an acknowledged chunk is not in the job's list", is_behind=True)
    present = set()
    for chunk in unknown:
        if rest[_key(chunk, algorithm)] > 0:
            rest[_key(chunk, algorithm)] -= 1
            present.add(chunk.chunk_id)
    if rest.total():
        return Reconciliation(taint=f"the job holds {rest.total()} chunks that are not ours or are there twice")
    return Reconciliation(frozenset(present), ids - present)


def _by_count(ids: frozenset[str], *, surplus: int, may_hold_late_ones: bool) -> Reconciliation:
    if surplus == 0:
        return Reconciliation(absent=ids, how="count")
    if surplus == len(ids) and not may_hold_late_ones:
        return Reconciliation(present=ids, how="count")
    return Reconciliation(taint=f"{surplus} of {len(ids)} unanswered chunks arrived, and counting cannot tell which")


def _fitting_algorithm(
    acked: Sequence[SentChunk], unknown: Sequence[SentChunk], listed: Sequence[RemoteChunk], known: str | None
) -> str | None:
    """The known algorithm, else one under which a chunk that was sent is found."""
    if not all(chunk.checksum for chunk in listed):
        return None
    candidates = list(_algorithms([*acked, *unknown]))
    if known in candidates:
        return known
    theirs = _listed_keys(listed)
    for algorithm in candidates:
        if any(_key(chunk, algorithm) in theirs for chunk in (*acked, *unknown)):
            return algorithm
    return None


def _algorithms(sent: Sequence[SentChunk]) -> Iterator[str]:
    names = set.intersection(*(set(chunk.digests) for chunk in sent)) if sent else set()
    for name in sorted(names):
        for spelling in _SPELLINGS:
            yield f"{name}/{spelling}"


def _key(chunk: SentChunk, algorithm: str) -> Key:
    name, _, spelling = algorithm.partition("/")
    return chunk.type, _SPELLINGS[spelling](chunk.digests[name])


def _listed_keys(listed: Sequence[RemoteChunk]) -> collections.Counter[Key]:
    return collections.Counter((chunk.type, _normal(chunk.checksum or "")) for chunk in listed)


def _normal(checksum: str) -> str:
    """Hex digests in lower case; anything else as it is."""
    return checksum.lower() if all(c in "0123456789abcdefABCDEF" for c in checksum) else checksum


def _spell(types: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())) or "nothing"
