"""Gzip, bzip2 and xz files as found on disk: several members, padding, and every kind of damage at the border of a member.

Whatever follows a member is another member, zero bytes, or damage. Silently losing rows would be the worst outcome.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source
from pushengine.sources.text_stream import CountedFile, open_content

COMPRESS = {"gzip": lambda data: gzip.compress(data, mtime=0), "bz2": bz2.compress, "xz": lzma.compress}
SUFFIXES = {"gzip": "gz", "bz2": "bz2", "xz": "xz"}
DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)

HEADER = b"id,text\n"
FIRST = b"".join(b"%d,first\n" % number for number in range(3000))
SECOND = b"".join(b"%d,second\n" % number for number in range(3000))


def content_of(kind: str, data: bytes, piece_bytes: int = 10_007) -> bytes:
    """Return what a reader gets from a compressed file that it reads in pieces of `piece_bytes`."""
    file = CountedFile(io.BytesIO(data))
    content = open_content(file, kind, "utf-8")
    target = memoryview(bytearray(piece_bytes))
    whole = b""
    while taken := content.fill(target):
        whole += target[:taken]
    assert file.bytes_read == len(data)
    return whole


def with_wrong_magic(member: bytes) -> bytes:
    return member[:1] + bytes([member[1] ^ 0xFF]) + member[2:]


WHOLE = {
    "one member": lambda c: c(HEADER + FIRST + SECOND),
    "two members": lambda c: c(HEADER + FIRST) + c(SECOND),
    "a member that ends within a line": lambda c: c(HEADER + FIRST + SECOND[:100]) + c(SECOND[100:]),
    "empty members": lambda c: c(b"") + c(HEADER + FIRST) + c(b"") + c(SECOND) + c(b""),
    "zeros at the end": lambda c: c(HEADER + FIRST + SECOND) + bytes(1000),
    "zeros between members": lambda c: c(HEADER + FIRST) + bytes(8) + c(SECOND),
    "many zeros between members": lambda c: c(HEADER + FIRST) + bytes(3_000_000) + c(SECOND),
}
DAMAGED = {
    "the only member truncated": lambda c: c(HEADER + FIRST)[:-1],
    "a single byte": lambda c: c(HEADER + FIRST)[:1],
    "the second member truncated": lambda c: c(HEADER + FIRST) + c(SECOND)[:-20],
    "the second member truncated after a byte": lambda c: c(HEADER + FIRST) + c(SECOND)[:1],
    "the second member with wrong first bytes": lambda c: c(HEADER + FIRST) + with_wrong_magic(c(SECOND)),
    "the second member with wrong first bytes after zeros": lambda c: (
        c(HEADER + FIRST) + bytes(8) + with_wrong_magic(c(SECOND))
    ),
    "text after the end": lambda c: c(HEADER + FIRST) + SECOND,
    "a byte after the end": lambda c: c(HEADER + FIRST) + b"x",
    "a byte after zeros": lambda c: c(HEADER + FIRST) + bytes(9) + b"x",
    "many bytes after the end": lambda c: c(HEADER + FIRST) + b"garbage" * 300_000,
    "zeros before the first member": lambda c: bytes(4) + c(HEADER + FIRST),
    "zeros only": lambda _: bytes(20),
}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("case", WHOLE)
def test_all_members_are_read(kind, case):
    assert content_of(kind, WHOLE[case](COMPRESS[kind])) == HEADER + FIRST + SECOND


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("case", DAMAGED)
def test_anything_but_members_and_padding_is_damage(tmp_path, kind, case):
    path: Path = tmp_path / f"f.csv.{SUFFIXES[kind]}"
    path.write_bytes(DAMAGED[case](COMPRESS[kind]))
    with pytest.raises(SourceReadError, match=rf"damaged {kind} file after line \d+: \w") as caught:
        list(open_source(path, settings=EngineSettings(), filesystem=LocalFileSystem()).open())
    assert caught.value.source == str(path)
    assert caught.value.hint == "fetch it again"


@pytest.mark.parametrize("kind", COMPRESS)
def test_plain_text_under_the_name_of_a_compressed_file_is_not_called_damaged(tmp_path, kind):
    path = tmp_path / f"f.csv.{SUFFIXES[kind]}"
    path.write_bytes(HEADER + FIRST)
    with pytest.raises(SourceReadError, match=f"the name says {kind}, but the file is plain text"):
        open_source(path, settings=EngineSettings(), filesystem=LocalFileSystem()).schema()


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_the_first_bytes_say_how_a_file_is_compressed_whatever_its_name_is(tmp_path, kind, suffix):
    path = tmp_path / f"f.csv{suffix}"
    path.write_bytes(COMPRESS[kind](b"A\n1\n2\n"))
    source = open_source(path, settings=EngineSettings(), filesystem=LocalFileSystem())
    assert [batch.batch.column(0).to_pylist() for batch in source.sample(1)] == [["1", "2"]]
    assert not source._is_sample_complete


@pytest.mark.parametrize("kind", COMPRESS)
def test_an_empty_file_has_no_content(kind):
    """A file that `touch` made is empty, not damaged."""
    assert content_of(kind, b"") == b""


MEMBERS = st.lists(
    st.tuples(
        st.one_of(st.binary(max_size=50), st.integers(0, 60_000).map(lambda size: b"some text, " * (size // 11))),
        st.sampled_from([0, 0, 0, 1, 4, 511, 9000]),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("kind", COMPRESS)
@given(members=MEMBERS, piece_bytes=st.sampled_from([1000, 8192, 100_000]))
@settings(max_examples=30, deadline=None)
def test_the_content_is_that_of_all_members_without_the_padding(kind, members, piece_bytes):
    data = b"".join(COMPRESS[kind](content) + bytes(padding) for content, padding in [(HEADER, 0), *members])
    assert content_of(kind, data, piece_bytes) == HEADER + b"".join(content for content, _ in members)


@pytest.mark.parametrize("kind", COMPRESS)
@given(members=MEMBERS, where=st.floats(0, 1, exclude_max=True))
@settings(max_examples=30, deadline=None)
def test_a_truncated_member_is_never_taken_for_the_end(kind, members, where):
    *whole, (content, _) = members
    data = b"".join(COMPRESS[kind](one) + bytes(padding) for one, padding in whole)
    last = COMPRESS[kind](content)
    with pytest.raises(DAMAGE):
        content_of(kind, data + last[: max(1, int(len(last) * where))])


@pytest.mark.parametrize("kind", COMPRESS)
@given(members=MEMBERS, garbage=st.binary(min_size=1, max_size=40).filter(lambda data: data[0] != 0))
@settings(max_examples=30, deadline=None)
def test_garbage_after_the_end_is_never_taken_for_padding(kind, members, garbage):
    data = b"".join(COMPRESS[kind](content) + bytes(padding) for content, padding in members)
    with pytest.raises(DAMAGE):
        content_of(kind, data + garbage)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_file_that_expands_a_thousandfold_is_read_in_the_memory_of_a_few_pieces(kind):
    data = COMPRESS[kind](bytes(64_000_000))
    content = open_content(CountedFile(io.BytesIO(data)), kind, "utf-8")
    target = memoryview(bytearray(1_000_000))
    tracemalloc.start()
    try:
        size = 0
        while taken := content.fill(target):
            size += taken
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64_000_000
    assert peak_bytes < 6_000_000
