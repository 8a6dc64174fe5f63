"""Which decimal numbers a double holds.

A number of n significant digits (zeros at either end do not count) survives if printing the double with n digits yields the same digits. Up to
15 digits that is always so, from 18 on never. With 16 or 17 digits it depends on the number: what another program printed from a double
(`repr`, `%.17g`) survives, 99999999999999.99 comes back as 99999999999999.98.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pushengine.schema.base import MisfitError, any_of, largest

MAX_DIGITS = 17
"""No double needs more digits."""
SAFE_DIGITS = 15
"""A decimal number with at most this many digits survives the conversion to a double and back."""
MAX_EXACT_INTEGER = 2**53
_POWERS = np.array([float(10**exponent) for exponent in range(23)])
"""The powers of ten that doubles hold exactly."""
_SPLITTER = float(2**27 + 1)
_NEAR = 0.4999
"""Half of the distance of two numbers, less some room: where it is closer, the exact digits are compared."""
_SIGNS = re.compile(r"[eE].*|[-+.]")
_TOO_MANY = f"more than {MAX_DIGITS} significant digits"


def require_precision(strings: pa.Array, values: pa.Array, *, has_exponents: bool) -> None:
    """Require that doubles hold the numbers that these texts were converted from.

    Args:
        strings: The numbers.
        values: The doubles.
        has_exponents: Whether numbers may have exponents or plus signs.

    Raises:
        MisfitError: A number overflows or underflows, has digits that do not survive, or is an integer of magnitude 2**53 or more without a
            point or an exponent, which a double may not hold exactly.
    """
    if pc.all(pc.is_finite(values)).as_py() is False:
        raise MisfitError("not a finite number")
    large = pc.greater_equal(pc.abs(values), float(MAX_EXACT_INTEGER))
    if any_of(large) and any_of(pc.invert(pc.match_substring_regex(strings.filter(large), "[.eE]"))):
        raise MisfitError("an integer that a double cannot represent exactly")
    # 16 characters are at most 15 digits and a point, or an integer that was checked above.
    lengths = pc.binary_length(strings)
    is_doubtful = pc.greater(lengths, SAFE_DIGITS + 1)
    has_long = largest(lengths) > SAFE_DIGITS + 1
    if has_exponents:
        is_tiny = pc.less(pc.abs(values), sys.float_info.min)
        if any_of(is_tiny):  # below this, doubles have fewer digits
            is_doubtful, has_long = pc.or_(is_doubtful, is_tiny), True
    if has_long:
        require_digits(strings.filter(is_doubtful), values.filter(is_doubtful), has_exponents=has_exponents)


def require_digits(strings: pa.Array, values: pa.Array, *, has_exponents: bool) -> None:
    """Require that the digits of these numbers survive.

    Args:
        strings: The numbers, not NULL.
        values: The doubles that they were converted to.
        has_exponents: Whether numbers may have exponents or plus signs.

    Raises:
        MisfitError: Those of a number do not.
    """
    differs = pc.not_equal(strings, values.cast(pa.string()))  # what most programs print is as short as this
    strings, values = strings.filter(differs), values.filter(differs)
    if has_exponents:
        is_scientific = pc.or_(pc.match_substring(strings, "e"), pc.match_substring(strings, "E"))
        texts, doubles = strings.filter(is_scientific).to_pylist(), values.filter(is_scientific).to_pylist()
        _require_each(map(_significant, texts), doubles)
        strings, values = strings.filter(pc.invert(is_scientific)), values.filter(pc.invert(is_scientific))
    digits = pc.ascii_trim(pc.replace_substring(strings, ".", ""), "-+0")
    counts = pc.binary_length(digits)
    if largest(counts) > MAX_DIGITS:
        raise MisfitError(_TOO_MANY)
    is_doubtful = pc.greater(counts, SAFE_DIGITS)
    if any_of(pc.equal(values, 0.0)):
        is_doubtful = pc.or_(is_doubtful, pc.and_(pc.less(pc.abs(values), sys.float_info.min), pc.greater(counts, 0)))
    strings, values, digits = (one.filter(is_doubtful) for one in (strings, values, digits))
    is_doubtful = pa.array(~_is_nearest(strings, values, digits))
    _require_each(digits.filter(is_doubtful).to_pylist(), values.filter(is_doubtful).to_pylist())


def _require_each(digits: Iterable[str], values: Iterable[float]) -> None:
    for text, value in zip(digits, values, strict=True):
        if len(text) > MAX_DIGITS:
            raise MisfitError(_TOO_MANY)
        # The shortest form differs from that of so many digits where two numbers are equally near.
        if text and text not in (_printed(value, len(text)), _significant(repr(value))):
            raise MisfitError(f"its {len(text)} significant digits do not survive as a double")


def _significant(text: str) -> str:
    """Return the significant digits of a number."""
    return _SIGNS.sub("", text).strip("0")


def _is_nearest(strings: pa.Array, values: pa.Array, digits: pa.Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for which plain numbers it is certain that printing the double yields the digits: no other number of so many digits is nearer.

    Vectorized; false for whole numbers, among others.
    """
    point = pc.find_substring(strings, ".").to_numpy()
    scale = pc.binary_length(pc.ascii_rtrim(strings, "0")).to_numpy() - point - 1
    is_usual = (point >= 0) & (scale > 0) & (scale < len(_POWERS))
    wanted = digits.cast(pa.int64()).to_numpy()
    value = np.where(is_usual, np.abs(values.to_numpy()), 0.0)
    power = _POWERS[np.where(is_usual, scale, 0)]
    # value * power = product + error, exactly (Dekker's product).
    product = value * power
    (high, low), (high_power, low_power) = _split(value), _split(power)
    error = ((high * high_power - product) + high * low_power + low * high_power) + low * low_power
    whole = np.floor(product)
    distance = (wanted - whole.astype(np.int64)) - (product - whole) - error
    result: np.ndarray[Any, np.dtype[np.bool_]] = is_usual & (np.abs(distance) < _NEAR)
    return result


def _split(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Any, Any]:
    """Return two halves of doubles, each of at most 26 bits, whose sum they are."""
    scaled = values * _SPLITTER
    high = scaled - (scaled - values)
    return high, values - high


def _printed(value: float, digits: int) -> str:
    """Return this number of significant digits of a double."""
    text = f"{abs(value):.{digits - 1}e}"
    return text[0] + text[2 : digits + 1]
