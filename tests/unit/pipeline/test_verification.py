"""Verification that a job holds what was sent, whatever checksum the platform uses."""

import base64
import hashlib
import random
import zlib

import pytest

from pushengine.model import RemoteChunk, SentChunk
from pushengine.pipeline.encoding import DIGESTS
from pushengine.pipeline.verification import verify_chunks

SPELLINGS = {
    "hex": lambda digest: digest,
    "HEX": str.upper,
    "base64": lambda digest: base64.b64encode(bytes.fromhex(digest)).decode(),
}
CONTENTS = [b"one", b"two", b"three", b"four"]


def digest(algorithm, content):
    if algorithm == "crc32":
        return f"{zlib.crc32(content):08x}"
    return hashlib.new(algorithm, content).hexdigest()


def sent(contents=CONTENTS, kind="UPSERT"):
    return [
        SentChunk(
            chunk_id=f"{number:06d}",
            rows=1,
            payload_bytes=len(content),
            digests={name: digest(name, content) for name in DIGESTS},
            type=kind,
        )
        for number, content in enumerate(contents)
    ]


def listed(contents=CONTENTS, *, algorithm="md5", spelling="hex", kind="UPSERT"):
    chunks = [
        RemoteChunk(id=str(number), type=kind, checksum=SPELLINGS[spelling](digest(algorithm, content)))
        for number, content in enumerate(contents)
    ]
    random.Random(5).shuffle(chunks)
    return chunks


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("algorithm", DIGESTS)
def test_every_algorithm_is_recognized_in_every_spelling(algorithm, spelling):
    found = verify_chunks(sent(), listed(algorithm=algorithm, spelling=spelling))
    assert (found.verified, found.difference) == ("checksum", "")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("algorithm", DIGESTS)
def test_a_changed_chunk_is_detected_with_every_algorithm_and_spelling(algorithm, spelling):
    found = verify_chunks(sent(), listed([*CONTENTS[:3], b"changed"], algorithm=algorithm, spelling=spelling))
    assert found.verified is None
    assert all(part in found.difference for part in ("checksum", "1 of 4 chunks"))


@pytest.mark.parametrize(
    ("contents", "difference"),
    [
        (CONTENTS[:3], "sent 4 UPSERT, the job holds 3 UPSERT"),
        ([*CONTENTS, b"two"], "sent 4 UPSERT, the job holds 5 UPSERT"),
        ([], "sent 4 UPSERT, the job holds nothing"),
    ],
    ids=["missing", "duplicated", "none"],
)
def test_a_different_number_of_chunks_is_a_mismatch(contents, difference):
    found = verify_chunks(sent(), listed(contents))
    assert (found.verified, found.difference) == (None, difference)


def test_a_list_that_was_cut_has_at_least_that_many_chunks():
    found = verify_chunks(sent(), listed([*CONTENTS, b"two"]), is_cut=True)
    assert (found.verified, found.difference) == (None, "sent 4 UPSERT, the job holds at least 5 UPSERT")


def test_a_different_type_of_chunk_is_a_mismatch():
    found = verify_chunks(sent(kind="DELETE"), listed(kind="UPSERT"))
    assert (found.verified, found.difference) == (None, "sent 4 DELETE, the job holds 4 UPSERT")


def test_identical_chunks_are_counted_separately():
    """Two chunks with the same bytes are two chunks: sets would hide that one chunk arrived twice and another not at all."""
    assert verify_chunks(sent([b"a", b"a", b"b"]), listed([b"a", b"b", b"a"])).verified == "checksum"
    found = verify_chunks(sent([b"a", b"a", b"b"]), listed([b"a", b"b", b"b"]))
    assert found.verified is None
    assert all(part in found.difference for part in ("checksum", "1 of 3 chunks"))


@pytest.mark.parametrize("checksum", [None, ""], ids=["null", "empty"])
def test_without_checksums_the_number_of_chunks_is_compared(checksum):
    some = listed()
    some[1] = RemoteChunk(id="x", type="UPSERT", checksum=checksum)
    assert verify_chunks(sent(), some).verified == "count"
    assert verify_chunks(sent(), some[1:]).verified is None


@pytest.mark.parametrize(
    "foreign",
    [lambda content: hashlib.sha3_256(content).hexdigest(), lambda content: f"etag-{content.hex()}-1"],
    ids=["unknown digest", "opaque"],
)
def test_with_an_unknown_algorithm_the_number_of_chunks_is_compared(foreign):
    chunks = [RemoteChunk(id="x", type="UPSERT", checksum=foreign(content)) for content in CONTENTS]
    assert verify_chunks(sent(), chunks).verified == "count"


def test_mixed_algorithms_are_a_mismatch():
    found = verify_chunks(sent(), [*listed(CONTENTS[:2]), *listed(CONTENTS[2:], algorithm="sha1")])
    assert found.verified is None


def test_an_empty_job_is_verified_if_nothing_was_sent():
    assert verify_chunks([], []).verified is not None
