"""128-bit hashes of the key values of rows, by which rows with equal keys are found without keeping the keys.

A value becomes one or more 64-bit words. Each word goes through the finalizer of MurmurHash3 (public domain, A. Appleby), a bijection in
which every input bit affects every output bit. A hash is the sum of these words, each multiplied by two odd constants, one for each half
of the hash, that belong to the column and to the word's place in the value. Constants and words do not depend on the process or the
machine, nor on how rows are cut into batches.

| type | words |
|---|---|
| int64, bool | the value |
| float64 | the bits; -0.0 counts as 0.0, and all NaN are the same |
| timestamp | microseconds, and what is left of the value after dividing or multiplying, which is 0 unless there are nanoseconds |
| string | 8 bytes each, the last padded with zeros; and the length, so that padding does not make two values equal |
| NULL | as 0 or an empty string, plus another constant of the column |
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Words: TypeAlias = npt.NDArray[np.uint64]
"""A matrix with one row per row of a batch; a hash is such a row of two words."""

_SEED = 0x9E3779B97F4A7C15
_MICROS = {"s": 1_000_000, "ms": 1000}
_NANOS_PER_MICRO = 1000
_TILE_BYTES = 128 * 1024
"""Words mixed at once: few enough to stay in a core's cache, and what bounds the memory that hashing needs."""
_SHORT_BYTES = 32
"""Strings up to this length are padded to the longest of them; longer ones in groups, to the next power of two."""


def hash_keys(columns: Sequence[pa.Array]) -> Words:
    """Return the hash of the values in each row of some columns. Thread-safe; most of the work runs without the interpreter lock.

    Rows with equal values have equal hashes. Two rows with different values have equal hashes with a probability of about 2**-127.

    Args:
        columns: At least one column, all of the same length, of the types in which keys and values are sent.

    Returns:
        An array of shape (rows, 2).

    Raises:
        TypeError: A column has another type.
    """
    hashes = np.zeros((len(columns[0]), 2), np.uint64)
    for number, column in enumerate(columns):
        if pa.types.is_string(column.type):
            _add_strings(hashes, column, number)
        else:
            _add_numbers(hashes, column, number)
    return hashes


def _add_numbers(hashes: Words, column: pa.Array, number: int) -> None:
    values, unit = _without_nulls(column), column.type.unit if pa.types.is_timestamp(column.type) else None
    size = _TILE_BYTES // 16
    for start in range(0, len(column), size):
        words = _words(values.slice(start, size), unit)
        hashes[start : start + size] += _mixed(words) @ _constants(number, 1, words.shape[1])
    _add_nulls(hashes, column, number)


def _add_strings(hashes: Words, column: pa.Array, number: int) -> None:
    if not len(column):
        return
    _add_nulls(hashes, column, number)
    if column.null_count:
        column = column.fill_null("")
    lengths = pc.binary_length(column).to_numpy()
    # One long value must not make every row of the batch as wide as itself.
    for rows, width in _rows_by_width(lengths):
        strings = column if rows is None else column.take(pa.array(rows))
        size = max(_TILE_BYTES // width, 1)
        constants = _constants(number, 1, width // 8)
        for start in range(0, len(strings), size):
            mixed = _mixed(_padded(strings.slice(start, size), width)) @ constants
            hashes[slice(start, start + size) if rows is None else rows[start : start + size]] += mixed
    if lengths.min() == lengths.max():  # common for keys, and three times as fast
        lengths = lengths[:1]
    words, constants = lengths.astype(np.uint64), _constants(number, 0, 1)
    for half in (0, 1):
        hashes[:, half] += words * constants[0, half]


def _add_nulls(hashes: Words, column: pa.Array, number: int) -> None:
    if column.null_count:
        hashes[column.is_null().to_numpy(zero_copy_only=False)] += _constants(number, 0, 1)[0] << np.uint64(32)


def _rows_by_width(lengths: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[np.intp] | None, int]]:
    """Yield (rows, width): the rows whose strings are padded to `width` bytes, a multiple of 8; None stands for all rows."""
    longest = int(lengths.max())
    shorter, width = 0, min(_SHORT_BYTES, -(-longest // 8) * 8)
    if 0 < longest <= width:
        yield None, width
        return
    while shorter < longest:
        rows = np.flatnonzero((lengths > shorter) & (lengths <= width))
        if len(rows):
            yield rows, width
        shorter, width = width, 2 * width


def _padded(strings: pa.Array, width: int) -> Words:
    """Return the bytes of strings as words, with zeros up to `width` bytes."""
    data = pc.ascii_rpad(strings, width, "\0").buffers()[2]
    return np.frombuffer(data, "<u8", len(strings) * (width // 8)).reshape(len(strings), width // 8)


def _without_nulls(column: pa.Array) -> pa.Array:
    """Return the values as float64, bool or int64 (a timestamp's unit is lost); a NULL becomes 0."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.view(pa.int64())
    elif not (pa.types.is_int64(kind) or pa.types.is_boolean(kind) or pa.types.is_float64(kind)):
        raise TypeError(f"no hash for values of type {kind}")
    return column.fill_null(pa.scalar(0).cast(column.type)) if column.null_count else column


def _words(values: pa.Array, unit: str | None) -> Words:
    """Return the words of values that are not strings, shape (rows, 1 or 2). `unit` is that of a timestamp."""
    numbers: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(values.type):
        return numbers.astype(np.uint64)[:, np.newaxis]
    if pa.types.is_float64(values.type):
        floats = numbers + 0.0  # turns -0.0 into 0.0
        floats[np.isnan(floats)] = np.nan
        return floats.view(np.uint64)[:, np.newaxis]
    if unit is None or unit == "us":
        return numbers.view(np.uint64)[:, np.newaxis]
    if unit == "ns":
        micros = numbers // _NANOS_PER_MICRO
        rest = numbers - micros * _NANOS_PER_MICRO
    else:
        micros = numbers * _MICROS[unit]  # wraps 292,000 years from now; the rest then tells the values apart
        rest = numbers - micros // _MICROS[unit]
    return np.column_stack((micros, rest)).view(np.uint64)


def _mixed(words: Words) -> Words:
    """Return the finalizer of MurmurHash3 for each word; 0 stays 0, so padding adds nothing to a hash."""
    mixed = words ^ (words >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


@functools.lru_cache(maxsize=256)
def _constants(column: int, first: int, count: int) -> Words:
    """Return the constants of a column's words from `first` onwards, shape (count, 2). Word 0 is for lengths and NULL."""
    place = np.arange(2 * first, 2 * (first + count), dtype=np.uint64) + np.uint64(column << 32) + np.uint64(1)
    return (_mixed(place * np.uint64(_SEED)) | np.uint64(1)).reshape(count, 2)
