"""Compares a job's chunk list with what was sent. Pure functions, no I/O.

`verify_chunks` is used just before submit: the list must equal what was sent, as a multiset. `reconcile` determines whether uploads with an
unknown outcome are in the list; the list must have been read while no upload was running.

The algorithm of the platform's `DataPushChunk.checksum` is not documented (fact sheet 1.7), so it is learned: the algorithm and spelling
(hex or base64) under which the sent chunks are found in the list. If none fits, chunks can only be counted.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from pushengine.model import RemoteChunk, SentChunk
from pushengine.text import format_count

_SPELLINGS: dict[str, Callable[[str], str]] = {
    "hex": str.lower,
    "base64": lambda digest: base64.b64encode(bytes.fromhex(digest)).decode("ascii"),
}
Key = tuple[str, str]
LISTED_SURPLUS = 1000
"""A list with this many chunks more than were sent is read no further: its size is known only roughly, and it is wrong anyway."""
_AT_LEAST = {False: "", True: "at least "}


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """The result of the comparison before submit.

    Attributes:
        verified: How the match was established; None if the list does not match what was sent.
        difference: If they do not match: what differs, for people.
        algorithm: The checksum algorithm and spelling that fits, such as `md5/hex`; None if chunks were only counted or do not match.
    """

    verified: Literal["checksum", "count"] | None
    difference: str = ""
    algorithm: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciliation:
    """The result of reconciling uploads with an unknown outcome.

    Attributes:
        present: Ids of the chunks that the job holds.
        absent: Ids of the chunks that the job does not hold. They may still arrive; `verify_chunks` detects that before submit.
        taint: Why the job can no longer be trusted; None if it can.
        is_behind: If `taint` is set: the list lacks acknowledged chunks, so it may merely lag behind.
        how: Whether chunks were compared by `checksum` or by `count`.
    """

    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    taint: str | None = None
    is_behind: bool = False
    how: Literal["checksum", "count"] = "checksum"


def verify_chunks(
    sent: Sequence[SentChunk], listed: Sequence[RemoteChunk], *, known: str | None = None, is_cut: bool = False
) -> Verification:
    """Compare the acknowledged chunks with the job's chunk list, as multisets of (type, checksum).

    Args:
        sent: Every acknowledged chunk of the job.
        listed: Every entry of the job's chunk list.
        known: The algorithm that the platform is known to use, if any. A list that does not fit it then counts as a mismatch, not as a sign
            of an unknown algorithm.
        is_cut: Whether the job may hold more than is listed. More are listed than were sent then.
    """
    sent_types: collections.Counter[str] = collections.Counter(chunk.type for chunk in sent)
    listed_types: collections.Counter[str] = collections.Counter(chunk.type for chunk in listed)
    if sent_types != listed_types:
        return Verification(
            None,
            f"sent {_format_counts(sent_types)}, the job holds {_AT_LEAST[is_cut]}{_format_counts(listed_types)}",
        )
    if not all(chunk.checksum for chunk in listed):
        return Verification("count")
    listed_keys = _listed_keys(listed)
    best = 0
    for algorithm in _algorithms(sent):
        sent_keys = collections.Counter(_key(chunk, algorithm) for chunk in sent)
        if sent_keys == listed_keys:
            return Verification("checksum", algorithm=algorithm)
        best = max(best, (sent_keys & listed_keys).total())
    if best or (known is not None and known in set(_algorithms(sent))):
        return Verification(
            None, f"the checksums of {len(sent) - best} of {format_count(len(sent), 'chunk')} differ from what was sent"
        )
    return Verification("count")


def reconcile(
    acked: Sequence[SentChunk],
    unknown: Sequence[SentChunk],
    listed: Sequence[RemoteChunk],
    *,
    known: str | None = None,
    may_hold_late_chunks: bool = False,
    is_cut: bool = False,
) -> Reconciliation:
    """Determine which uploads without a response have arrived.

    Args:
        acked: Chunks that the platform acknowledged.
        unknown: Chunks whose upload had no response.
        listed: The job's chunk list, read while no upload was running.
        known: The algorithm that the platform is known to use, if any.
        may_hold_late_chunks: Whether chunks were sent again whose first upload may have arrived since. A surplus may then be one of these.
        is_cut: Whether the job may hold more than is listed. More are listed than were sent then.
    """
    ids = frozenset(chunk.chunk_id for chunk in unknown)
    if len(listed) < len(acked):
        return Reconciliation(
            taint=f"{len(acked)} chunks were acknowledged, the job holds {len(listed)}", is_behind=True
        )
    if len(listed) > len(acked) + len(unknown):
        return Reconciliation(
            taint=f"the job holds {_AT_LEAST[is_cut]}{len(listed)} chunks, at most {len(acked) + len(unknown)} were sent"
        )
    algorithm = _fitting_algorithm(acked, unknown, listed, known)
    if algorithm is None:
        return _by_count(ids, surplus=len(listed) - len(acked), may_hold_late_chunks=may_hold_late_chunks)
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
        return Reconciliation(
            taint=f"the job holds {format_count(rest.total(), 'chunk')} too many: not sent by this push, or duplicated"
        )
    return Reconciliation(frozenset(present), ids - present)


def _by_count(ids: frozenset[str], *, surplus: int, may_hold_late_chunks: bool) -> Reconciliation:
    if surplus == 0:
        return Reconciliation(absent=ids, how="count")
    if surplus == len(ids) and not may_hold_late_chunks:
        return Reconciliation(present=ids, how="count")
    return Reconciliation(
        taint=f"{surplus} of {len(ids)} unacknowledged chunks arrived, and counting cannot show which"
    )


def _fitting_algorithm(
    acked: Sequence[SentChunk], unknown: Sequence[SentChunk], listed: Sequence[RemoteChunk], known: str | None
) -> str | None:
    """Return the known algorithm if it applies, otherwise one under which a sent chunk is in the list; None if there is none."""
    if not all(chunk.checksum for chunk in listed):
        return None
    candidates = list(_algorithms([*acked, *unknown]))
    if known in candidates:
        return known
    listed_keys = _listed_keys(listed)
    for algorithm in candidates:
        if any(_key(chunk, algorithm) in listed_keys for chunk in (*acked, *unknown)):
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
    """Return a hex digest in lower case, and anything else unchanged."""
    return checksum.lower() if all(c in "0123456789abcdefABCDEF" for c in checksum) else checksum


def _format_counts(types: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())) or "nothing"
