"""Lists are read while they arrive: the same however they are cut, and bounded however hostile."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lists import read_list

from pushengine import errors
from pushengine.celonis.lists import MAX_OBJECT_CHARACTERS, ListReader
from pushengine.celonis.wire import parse_listed_chunk, parse_listed_job

MIB = 1024 * 1024


def whole(raw, *, operation):
    del operation
    return [raw]  # a list, because None would not be kept


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(VALUES), st.sampled_from([None, 1]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16-le"]), st.data())
def test_a_list_is_the_same_however_it_is_cut(listed, indent, encoding, data):
    body = f" {json.dumps(listed, indent=indent, ensure_ascii=False)}\n".encode(encoding, "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    assert read_list(body, whole, pieces=cuts) == [[value] for value in listed]


@given(st.binary(max_size=30) | st.text('[]{},:"1 nul').map(str.encode))
def test_what_is_no_json_list_is_unusable(body):
    try:
        expected = json.loads(body)
    except ValueError:
        expected = None
    if isinstance(expected, list):
        assert read_list(body, whole, pieces=range(1, len(body))) == [[value] for value in expected]
        return
    with pytest.raises(errors.UnexpectedResponseError, match="list: the response cannot be used, it is not") as caught:
        read_list(body, whole)
    assert caught.value.disposition == "transient"


def test_lists_of_jobs_and_chunks_are_parsed():
    assert [job.id for job in read_list(b'[{"id": "a", "status": "NEW"}]', parse_listed_job)] == ["a"]
    chunks = read_list(b'[{"id": "a", "type": "UPSERT", "checksum": "abc"}, {"id": "b"}]', parse_listed_chunk)
    assert [(chunk.id, chunk.type, chunk.checksum) for chunk in chunks] == [("a", "UPSERT", "abc"), ("b", "", None)]
    for body in (b"{}", b"[1]", b"[null]", b'[{"type": "UPSERT"}]'):
        with pytest.raises(errors.UnexpectedResponseError):
            read_list(body, parse_listed_chunk)


def feed_many(reader, item, mib):
    """Feed an endless list of items for some MiB, or until no more is wanted. Return the bytes fed."""
    reader.feed(b"[")
    piece = item * (64 * 1024 // len(item))
    for number in range(mib * 16):
        if not reader.feed(piece):
            return (number + 1) * len(piece)
    reader.finish()
    raise AssertionError


@pytest.mark.parametrize(
    ("item", "limit"),
    [
        pytest.param(b'{"id":"a"},', 1000, id="many"),
        pytest.param(b'{"id":"a"},', None, id="many, without a limit"),
        pytest.param(b"[", None, id="deep"),
        pytest.param(b'"x', None, id="one text"),
        pytest.param(b"7", None, id="one number"),
        pytest.param(b'{"id":"a","type":[[],[],[],[],[],[]]},', None, id="objects in objects"),
        pytest.param(b" ", None, id="blanks"),
    ],
)
def test_a_hostile_list_is_bounded(item, limit):
    reader = ListReader(
        lambda raw: parse_listed_chunk(raw, operation="list"), "list", max_kept_bytes=8 * MIB, limit=limit
    )
    tracemalloc.start()
    try:
        if limit is None:
            with pytest.raises(errors.UnexpectedResponseError):
                feed_many(reader, item, 8)
        else:
            assert feed_many(reader, item, 8) < MIB
            assert len(reader.finish()) == limit
        assert tracemalloc.get_traced_memory()[1] < 24 * MIB
    finally:
        tracemalloc.stop()


def test_a_huge_honest_list_is_read():
    count = 200_000
    reader = ListReader(lambda raw: parse_listed_chunk(raw, operation="list"), "list", max_kept_bytes=256 * MIB)
    for number in range(0, count, 500):
        chunks = [
            {
                "id": str(n),
                "type": "UPSERT",
                "checksum": f"{n:032x}",
                "creationDate": 1_700_000_000_000,
                "pushJobId": "J",
            }
            for n in range(number, number + 500)
        ]
        text = json.dumps(chunks)[1:-1]
        assert reader.feed(f"{',' if number else '['}{text}".encode())
    reader.feed(b"]")
    assert len(reader.finish()) == count
    assert reader.found[-1].checksum == f"{count - 1:032x}"


def test_an_object_may_be_large_but_not_too_large():
    def body(size):
        return json.dumps([{"id": "J", "status": "ERROR", "logs": ["x" * size]}]).encode()

    [job] = read_list(body(MAX_OBJECT_CHARACTERS - 1000), parse_listed_job)
    assert len(job.logs[0]) == MAX_OBJECT_CHARACTERS - 1000
    cut = range(65536, 2 * MAX_OBJECT_CHARACTERS, 65536)
    with pytest.raises(errors.UnexpectedResponseError, match="item 1 of the list"):
        read_list(body(2 * MAX_OBJECT_CHARACTERS), parse_listed_job, pieces=cut)


def test_what_is_kept_of_a_list_is_counted_as_python_stores_it():
    job = json.dumps({"id": "J", "status": "DONE", "targetName": "x" * 10_000 + "\U0001f600"}, ensure_ascii=False)
    reader = ListReader(lambda raw: parse_listed_job(raw, operation="list"), "list", max_kept_bytes=8 * MIB)
    with pytest.raises(errors.UnexpectedResponseError, match="takes more than"):
        feed_many(reader, f"{job},".encode(), 8)
    assert len(reader.found) < 8 * MIB / 40_000


def test_an_empty_list_may_contain_blanks():
    body = b"[" + b" " * 200_000 + b"]"
    assert read_list(body, whole, pieces=range(0, len(body), 65536)) == []
