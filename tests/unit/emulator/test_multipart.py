"""Parsing of the upload form, however the network splits it."""

from __future__ import annotations

import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushengine.emulator.chunks.multipart import MAX_HEADER_BYTES, MultipartError, SingleFileForm, boundary_of

DELIMITER = b"\r\n--boundary"
HEAD = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a;b.parquet"\r\nContent-Type: x/y\r\n\r\n'
TAIL = DELIMITER + b"--\r\n"
NEARLY = st.sampled_from([b"\r\n--boundar", b"\r\n--", b"\r\n", b"\r", b"\n", b"--boundary--", b"boundary", b"-", b"x"])
CONTENT = st.lists(st.one_of(NEARLY, st.binary(max_size=8)), max_size=20).map(b"".join)


def content_of(pieces: list[bytes]) -> bytes:
    form = SingleFileForm(b"boundary")
    content = b"".join([form.feed(piece) for piece in pieces])
    form.finish()
    return content


@given(
    content=CONTENT.filter(lambda content: DELIMITER not in content + b"\r\n"),
    preamble=st.sampled_from([b"", b"\r\n", b"preamble - of - some words\r\n", b"--bound\r\n"]),
    epilogue=st.sampled_from([b"", b"epilogue", DELIMITER]),
    cuts=st.lists(st.integers(0, 300), max_size=12),
)
@settings(max_examples=300, deadline=None)
def test_every_split_of_the_body_yields_the_bytes_of_the_file(content, preamble, epilogue, cuts):
    body = preamble + HEAD + content + TAIL + epilogue
    offsets = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    assert content_of([body[a:b] for a, b in itertools.pairwise(offsets)]) == content


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"p" * (MAX_HEADER_BYTES + 1), id="no delimiter"),
        pytest.param(HEAD.replace(b"x/y", b"x" * (MAX_HEADER_BYTES + 1)) + TAIL, id="header too long"),
        pytest.param(HEAD.replace(b"\r\n\r\n", b"\r\na: b" * 1000 + b"\r\n\r\n") + TAIL, id="too many headers"),
        pytest.param(HEAD.replace(b"Content-Type", b"Content Type") + TAIL, id="no header name"),
        pytest.param(b"--boundary\r\n\r\nx" + TAIL, id="no headers"),
        pytest.param(b"--boundaryx\r\n" + HEAD + TAIL, id="another boundary"),
        pytest.param(b"--boundary--\r\n", id="no part"),
        pytest.param(HEAD + b"x\r\n" + HEAD + b"y" + TAIL, id="two parts"),
        pytest.param(HEAD + b"x" + TAIL[:-3], id="one hyphen"),
    ],
)
def test_any_other_form_is_rejected_and_not_logged(body, caplog):
    """The caller receives the error; a log record would be noise on stderr of `pushengine emulator`."""
    with caplog.at_level(logging.DEBUG):
        for size in (1, 100_000):
            with pytest.raises(MultipartError):
                content_of([body[at : at + size] for at in range(0, len(body), size)])
    assert caplog.records == []


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b;c"', b"a b;c"),
    ],
)
def test_the_boundary_is_found(content_type, boundary):
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "multipart/form-data", "multipart/form-data; boundary=", "a/b; boundary=b"]
)
def test_a_content_type_without_a_boundary_is_rejected(content_type):
    with pytest.raises(MultipartError):
        boundary_of(content_type)


def test_a_boundary_longer_than_any_client_sends_is_rejected():
    with pytest.raises(MultipartError):
        SingleFileForm(b"b" * 10_000)
