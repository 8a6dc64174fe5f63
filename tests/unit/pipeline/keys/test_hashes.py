"""Hashes of key values: equal for equal rows, however they are stored, and different for different ones."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from pushengine.pipeline.keys.hashes import hash_keys

LARGE = 2**63 - 1


def hashes(*columns):
    return [tuple(row) for row in hash_keys(columns).tolist()]


def are_different(*columns):
    found = hashes(*columns)
    return len(set(found)) == len(found)


def test_the_result_has_two_words_for_each_row():
    result = hash_keys([pa.array([1, 2, 3])])
    assert (result.shape, result.dtype) == ((3, 2), np.uint64)
    assert hash_keys([pa.array([], pa.int64()), pa.array([], pa.string())]).shape == (0, 2)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0, 1, -1, 2**32, LARGE, -LARGE - 1]),
        pa.array([True, False]),
        pa.array([0.0, 1.0, -1.0, 5e-324, 1e300, math.inf, -math.inf, math.nan]),
        pa.array(["", " ", "0", "00", "a", "A", "ä", "a\0", "\0", "\0\0", "\0" * 8, "\0" * 8 + "a", "a" + "\0" * 8]),
        pa.array(["x" * length for length in range(70)] + ["x" * 16_250, "x" * 16_249 + "y"]),
        *[pa.array([0, 1, -1, 10**9, LARGE, -LARGE - 1], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")],
        pa.array([0, 1, 999, 1000, 1001, -1, -1000, 1_000_001], pa.timestamp("ns")),
        *[pa.array([0, 2**58, 2**59, -(2**58)], pa.timestamp(unit)) for unit in ("s", "ms")],  # far beyond any calendar
    ],
    ids=lambda values: str(values.type),
)
def test_different_values_have_different_hashes(values):
    assert are_different(values)


def test_small_differences_change_about_half_the_bits_of_both_words():
    result = hash_keys([pa.array(range(20_000))])
    changed = np.unpackbits((result[1:] ^ result[:-1]).view(np.uint8).reshape(-1, 16), axis=1)
    assert (np.abs(changed.mean(axis=0) - 0.5) < 0.05)[1:].all()


def test_the_halves_of_similar_texts_are_all_different():
    """Case keys that differ in two digits of different words, as a real table has them."""
    result = hash_keys([pa.array([f"P2P-{a:03d}-0000-{b:03d}" for a in range(300) for b in range(300)])])
    assert len(np.unique(result[:, 0])) == len(np.unique(result[:, 1])) == 90_000


def test_the_hashes_of_one_column_spread_over_the_whole_range():
    counts = np.bincount((hash_keys([pa.array(range(64_000))])[:, 0] >> np.uint64(58)).astype(int), minlength=64)
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize(
    "columns",
    [
        (["ab", "a", "abc", ""], ["c", "bc", "", "abc"]),
        ([1, 2], [2, 1]),
        (["a\0", "a"], ["b", "\0b"]),
        ([0, 1], [0, 0], [1, 0]),
    ],
)
def test_values_of_different_columns_are_not_mixed_up(columns):
    assert are_different(*map(pa.array, columns))


@pytest.mark.parametrize("units", [("s", "ms"), ("ms", "us"), ("us", "ns"), ("s", "ns")])
def test_the_unit_of_a_timestamp_does_not_matter(units):
    seconds = pa.array([0, 1, -1, 1_700_000_000, -9_000_000_000], pa.timestamp("s"))
    assert hashes(seconds.cast(pa.timestamp(units[0]))) == hashes(seconds.cast(pa.timestamp(units[1])))


def test_all_nan_are_equal_and_so_are_the_two_zeros():
    bits = pa.array(np.array([0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001], np.uint64).view(np.float64))
    assert len(set(hashes(bits))) == 1
    assert len(set(hashes(pa.array([0.0, -0.0])))) == 1


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, None, 1, None], pa.int64()),
        ([0.0, None, 1.0, None], pa.float64()),
        ([False, None, True, None], pa.bool_()),
        (["", None, "a", None], pa.string()),
        ([0, None, 1, None], pa.timestamp("us")),
        ([0, None, 1, None], pa.timestamp("ns")),
    ],
)
def test_null_is_a_value_of_its_own(values, kind):
    found = hashes(pa.array(values, kind))
    assert found[1] == found[3]
    assert len(set(found)) == 3
    two = [pa.array([None, values[0]], kind), pa.array([values[0], None], kind)]
    assert are_different(*two)


def test_a_long_value_among_short_ones_does_not_change_their_hashes():
    short = [f"{number:010d}" for number in range(1000)]
    for length in (33, 100, 16_250):
        assert hashes(pa.array([*short, "ä" * length]))[:1000] == hashes(pa.array(short))


def test_the_end_of_a_buffer_is_not_passed():
    """The bytes after the last value belong to someone else: here, to other values of the same buffer."""
    texts = pa.array(["abc", "defghijk", "l"])
    for start in range(3):
        assert hashes(texts.slice(start, 1)) == [
            hashes(pa.array([text]))[0] for text in texts[start : start + 1].to_pylist()
        ]


def test_more_rows_than_are_mixed_at_once():
    numbers = pa.array(range(30_000))
    texts = numbers.cast(pa.string())
    together = hashes(numbers, texts)
    assert together == hashes(numbers[:9], texts[:9]) + hashes(numbers[9:], texts[9:])


def test_types_that_are_never_sent_are_rejected():
    with pytest.raises(TypeError, match="date32"):
        hash_keys([pa.array([1], pa.date32())])


def test_hashes_are_the_same_in_another_process():
    code = (
        "import pyarrow as pa; from pushengine.pipeline.keys.hashes import hash_keys;"
        "print(hash_keys([pa.array([7]), pa.array(['ä' * 40])]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(hash_keys([pa.array([7]), pa.array(["ä" * 40])]).tolist())
