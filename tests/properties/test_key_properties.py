"""Hashes of keys are equal exactly when the keys are. Hashes that occur more than once, and last rows, are those of a simple model."""

from __future__ import annotations

import collections
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pushengine.interfaces import SourceBatch
from pushengine.pipeline.keys.duplicates import DuplicateSearch
from pushengine.pipeline.keys.hashes import hash_keys
from pushengine.pipeline.keys.runs import KeyRuns

INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL_TEXT = st.text(st.sampled_from("a0\0ä\U0001f600"), max_size=20)
TEXT = st.one_of(st.text(max_size=80), SMALL_TEXT)
TYPES = [
    (pa.int64(), st.one_of(INT64, st.integers(-2, 2))),
    (pa.string(), TEXT),
    (pa.bool_(), st.booleans()),
    (pa.float64(), st.floats(allow_nan=False)),
    *[(pa.timestamp(unit), st.one_of(INT64, st.integers(-3, 3))) for unit in ("s", "ms", "us", "ns")],
]


@st.composite
def tables(draw):
    """Columns of key values, and the same values as tuples."""
    kinds = draw(st.lists(st.sampled_from(TYPES), min_size=1, max_size=3))
    rows = draw(st.lists(st.tuples(*(values for _, values in kinds)), max_size=30))
    rows += draw(st.lists(st.sampled_from(rows), max_size=5)) if rows else []
    columns = [pa.array([row[i] for row in rows], kind) for i, (kind, _) in enumerate(kinds)]
    return columns, rows


@settings(max_examples=300, deadline=None)
@given(table=tables(), data=st.data())
def test_hashes_are_equal_exactly_if_the_keys_are(table, data):
    columns, rows = table
    hashes = [tuple(row) for row in hash_keys(columns).tolist()]
    by_key, by_hash = {}, {}
    for row, found in zip(rows, hashes, strict=True):
        assert by_key.setdefault(row, found) == found
        assert by_hash.setdefault(found, row) == row
    # cutting the rows anywhere, or storing them among others, changes nothing
    cuts = sorted({0, len(rows), *data.draw(st.lists(st.integers(0, len(rows)), max_size=4))})
    parts = [hash_keys([column[start:end] for column in columns]) for start, end in itertools.pairwise(cuts)]
    assert [tuple(row) for part in parts for row in part.tolist()] == hashes
    around = [pa.concat_arrays([column[:3], column, column[:2]])[len(column[:3]) :][: len(rows)] for column in columns]
    assert [tuple(row) for row in hash_keys(around).tolist()] == hashes


@settings(max_examples=200, deadline=None)
@given(
    calls=st.lists(st.lists(st.integers(0, 60), max_size=60), max_size=12),
    run_rows=st.integers(2, 50),
    halves=st.sampled_from([(2**64, 2**64), (3, 2**64), (2**64, 3), (2, 2), (2**10, 2**10)]),
)
def test_hashes_that_occur_more_than_once_are_those_of_a_counter(calls, run_rows, halves):
    """With hashes of few different halves too, which no real key has."""
    table = hash_keys([pa.array(range(61))])
    for half, size in enumerate(halves):
        if size < 2**64:
            table[:, half] %= np.uint64(size)
    counter = collections.Counter(tuple(table[number].tolist()) for call in calls for number in call)
    with tempfile.TemporaryDirectory() as folder, KeyRuns(Path(folder), max_memory_bytes=run_rows * 96) as runs:
        for call in calls:
            runs.add(table[np.array(call, np.intp)])
        assert [tuple(row) for row in runs.duplicates().tolist()] == sorted(key for key, n in counter.items() if n > 1)
        rows = sum(map(len, calls))
        assert runs.spilled_bytes <= rows * 16
        assert (runs.spilled_bytes > 0) == (rows >= run_rows)


@settings(max_examples=200, deadline=None)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.integers(0, 3), st.integers(0, 1)), max_size=12),
        max_size=5,
    )
)
def test_duplicates_and_last_rows_are_those_of_a_dictionary(batches):
    schema = pa.schema([("A", pa.string()), ("B", pa.int64()), ("V", pa.int64())])
    keys = ("A", "B")
    tables = [
        pa.RecordBatch.from_arrays(
            [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)], schema=schema
        )
        for rows in batches
    ]
    hashes = [hash_keys([table.column(name) for name in keys]) for table in tables]
    with tempfile.TemporaryDirectory() as folder, KeyRuns(Path(folder), max_memory_bytes=10 * 96) as runs:
        for part in hashes:
            runs.add(part)
        search = DuplicateSearch(runs.duplicates(), keys)
    for table in tables:
        search.observe(table, SourceBatch(table, "f", 0))

    rows = [row for rows in batches for row in rows]
    first, last, counts, differing, pair = {}, {}, collections.Counter(), set(), None
    for number, (a, b, value) in enumerate(rows):
        key = (a, b)
        counts[key] += 1
        last[key] = number
        if rows[first.setdefault(key, number)][2] != value:
            differing.add(key)
            pair = pair or (first[key] + 1, number + 1)
    assert (search.found and (search.found.first.row, search.found.second.row)) == pair
    assert search.rows_involved == sum(counts[key] for key in differing)
    assert search.keys_involved == len(differing)
    keep = []
    for batch, part in zip(tables, hashes, strict=True):
        keep += search.last_rows().keep_mask(batch, part).tolist()
    assert keep == [rows[last[row[:2]]] == row for row in rows]
