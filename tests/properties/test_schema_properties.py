"""Sample and push agree: a schema inferred from all rows fits all rows, however they are cut into batches."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schemas import inference_of

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import conform

DIGITS = st.text("0123456789", min_size=1, max_size=22)
INTEGERS = st.one_of(st.integers(-(2**65), 2**65).map(str), DIGITS, DIGITS.map("-{}".format))
NUMBERS = st.one_of(
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.from_regex(r"-?[0-9]{0,4}\.?[0-9]{0,20}([eE][+-]?[0-9]{1,4})?", fullmatch=True),
)
NAIVE = st.datetimes().map(dt.datetime.isoformat)
ZONED = st.datetimes(dt.datetime(1000, 1, 2), timezones=st.timezones()).map(lambda time: time.isoformat())
FINE = st.from_regex(
    r"20[0-9]{2}-0[1-9]-1[0-9][T ]1[0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{1,9}(Z|[+-]0[0-9]:?[03]0)?", fullmatch=True
)
DATES = st.dates().map(dt.date.isoformat)
WORDS = st.sampled_from(["true", "false", "True", "False", "TRUE", "FALSE"])
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
KINDS = [INTEGERS, NUMBERS, NAIVE, ZONED, FINE, DATES, WORDS, ANY]
CELLS = st.one_of(
    *(st.lists(st.one_of(st.none(), kind), max_size=12) for kind in KINDS),
    st.lists(st.one_of(st.none(), *KINDS), max_size=12),
    st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)).flatmap(
        lambda two: st.lists(st.one_of(*two), max_size=8)
    ),
)


def batches_of(cells: list, cut: int) -> list[SourceBatch]:
    whole = pa.RecordBatch.from_pydict({"x": pa.array(cells, pa.string())})
    return [SourceBatch(whole.slice(at, cut), "f.csv", at, at + 2) for at in range(0, len(cells), cut)]


def infer(batches: list[SourceBatch], **options) -> TableSchema:
    inference = inference_of(pa.schema([("x", pa.string())]), is_text=True, **options)
    for one in batches:
        inference.observe(one)
    return inference.infer_schema()


def is_refused(cells: list, error: SchemaError) -> bool:
    """Return whether inference may refuse these cells: there is a time finer than a microsecond."""
    return "finer than a microsecond" in str(error) and any(
        re.search(r":[0-9]{2}\.[0-9]{6}[0-9]*[1-9]", text) for text in cells if text is not None
    )


def means_the_same(text: str, value) -> bool:
    """Return whether a text and the value that it became mean the same."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, int):
        return str(value) == text
    if isinstance(value, float):
        return math.isfinite(value) and float(text) == value and (value != 0 or Decimal(text) == 0)
    base, fraction = text.replace("T", " "), ""
    timestamp = dt.datetime.fromisoformat(base + fraction) if len(text) > 10 else dt.datetime.fromisoformat(text)
    if timestamp.tzinfo is not None:
        timestamp = timestamp.astimezone(dt.UTC).replace(tzinfo=None)
    return timestamp == value


@settings(max_examples=600, deadline=None)
@given(cells=CELLS, inference_cut=st.integers(1, 12), push_cut=st.integers(1, 12))
def test_a_schema_inferred_from_all_rows_fits_all_rows_and_every_value_survives(cells, inference_cut, push_cut):
    try:
        schema = infer(batches_of(cells, inference_cut))
    except SchemaError as error:
        assert is_refused(cells, error)
        return
    values = []
    for one in batches_of(cells, push_cut):
        batch = conform(schema, one)
        batch.validate(full=True)
        values += batch.column(0).to_pylist()
    assert len(values) == len(cells)
    for text, value in zip(cells, values, strict=True):
        assert (text is None) == (value is None)
        if text is not None:
            assert means_the_same(text, value), (text, value)


@settings(max_examples=300, deadline=None)
@given(cells=CELLS, seen=st.integers(0, 12))
def test_a_value_that_the_sample_did_not_show_is_a_misfit_and_never_becomes_a_wrong_value(cells, seen):
    try:
        schema = infer(batches_of(cells[:seen], 3))
    except SchemaError as error:
        assert is_refused(cells[:seen], error)
        return
    for one in batches_of(cells, 5):
        try:
            array = conform(schema, one).column(0)
        except ValueMisfitError:
            return
        for text, value in zip(one.batch.column(0).to_pylist(), array.to_pylist(), strict=True):
            assert (text is None) == (value is None)
            assert text is None or means_the_same(text, value)


@settings(max_examples=300, deadline=None)
@given(cells=CELLS, wanted=st.sampled_from(["INTEGER", "FLOAT", "BOOLEAN", "DATETIME", "DATE", "STRING"]))
def test_a_forced_type_that_inference_accepts_for_all_rows_fits_all_rows(cells, wanted):
    try:
        schema = infer(batches_of(cells, 4), overrides={"x": wanted})
    except SchemaError:
        return
    assert schema.columns[0].type == wanted
    for one in batches_of(cells, 3):
        assert conform(schema, one).column(0).null_count == one.batch.column(0).null_count


@settings(max_examples=200, deadline=None)
@given(numbers=st.lists(st.one_of(st.none(), st.decimals(-(10**20), 10**20, places=6)), min_size=1, max_size=10))
def test_decimals_keep_their_value(numbers):
    batch = SourceBatch(pa.RecordBatch.from_pydict({"x": pa.array(numbers, pa.decimal128(38, 6))}), "t", 0)
    inference = inference_of(batch.batch.schema, is_text=False)
    inference.observe(batch)
    schema = inference.infer_schema()
    for number, value in zip(numbers, conform(schema, batch).column(0).to_pylist(), strict=True):
        assert (number is None) == (value is None)
        if isinstance(value, float):
            assert value == float(number)
            assert any(Decimal(format(value, f".{digits}g")) == number for digits in (15, 16, 17))
        elif value is not None:
            assert Decimal(value) == number
