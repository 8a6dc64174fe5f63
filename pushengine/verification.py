"""Does the job hold what was sent? The comparison before each submit.

The algorithm behind the platform's `DataPushChunk.checksum` is not documented (fact sheet 1.7), so it is learned: the algorithm and
spelling under which the listed checksums and the digests of what was sent are the same multiset. Where none fits, only the number
of chunks of each type can be compared.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pushengine.model import RemoteChunk, SentChunk

_SPELLINGS: dict[str, Callable[[str], str]] = {
    "hex": str.lower,
    "base64": lambda digest: base64.b64encode(bytes.fromhex(digest)).decode("ascii"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What the comparison found.

    Attributes:
        verified: How it was compared, or None: the list is not what was sent.
        difference: Then: what is different, for people.
    """

    verified: Literal["checksum", "count"] | None
    difference: str = ""


def verify_chunks(sent: Sequence[SentChunk], listed: Sequence[RemoteChunk]) -> Verification:
    """Compare what was acknowledged with what the job holds, as multisets of (type, checksum)."""
    sent_types: collections.Counter[str] = collections.Counter(chunk.type for chunk in sent)
    listed_types = collections.Counter(chunk.type for chunk in listed)
    if sent_types != listed_types:
        return Verification(None, f"sent {_spell(sent_types)}, the job holds {_spell(listed_types)}")
    checksums = [chunk.checksum for chunk in listed]
    if not all(checksums):
        return Verification("count")
    expected = collections.Counter((chunk.type, _normal(chunk.checksum or "")) for chunk in listed)
    algorithms = set.intersection(*(set(chunk.digests) for chunk in sent)) if sent else set()
    best_common = 0
    for algorithm in sorted(algorithms):
        for spell in _SPELLINGS.values():
            mine: collections.Counter[tuple[str, str]] = collections.Counter(
                (chunk.type, spell(chunk.digests[algorithm])) for chunk in sent
            )
            if mine == expected:
                return Verification("checksum")
            best_common = max(best_common, (mine & expected).total())
    if best_common:
        return Verification(
            None, f"{len(sent) - best_common} of {len(sent)} chunks have another checksum than what was sent"
        )
    return Verification("count")


def _normal(checksum: str) -> str:
    """Hex digests in lower case; anything else as it is."""
    return checksum.lower() if all(c in "0123456789abcdefABCDEF" for c in checksum) else checksum


def _spell(types: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())) or "nothing"
