"""What every conversion of a column is: the class, its errors, and the checks that several conversions share."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.model import ColumnType

MIDNIGHT = pa.timestamp("ms")
MICROS = pa.timestamp("us")
NANOS = pa.timestamp("ns")
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Unit of a temporal type -> how many of them a second has."""
_PREFIX_VALUES = 32
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FIRST_SECOND = int((dt.datetime(1400, 1, 1, tzinfo=dt.UTC) - _EPOCH).total_seconds())
_END_SECOND = int((dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC) - _EPOCH).total_seconds()) + 1


class MisfitError(ValueError):
    """A value that a conversion cannot represent. Arrow's own conversion errors are ValueErrors too."""


class OutOfRangeError(MisfitError):
    """A value that no column type of the target can hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Evidence:
    """What the values of a column must show together before a conversion is chosen, besides that each of them converts.

    Attributes:
        find: Returns what these values show.
        conclusive: What is enough alone; the values after it need not be examined.
        suffices: Whether what was found in the column is enough.
    """

    find: Callable[[pa.Array], frozenset[str]]
    conclusive: str
    suffices: Callable[[frozenset[str]], bool]

    def added(self, facts: frozenset[str], array: pa.Array) -> frozenset[str]:
        """Return facts with those that these values show. The first few values are mostly conclusive, so that the others are not searched."""
        if self.conclusive in facts:
            return facts
        found = self.find(array.slice(0, _PREFIX_VALUES))
        return facts | (found if self.conclusive in found or len(array) <= _PREFIX_VALUES else self.find(array))


@dataclasses.dataclass(frozen=True, slots=True)
class Conversion:
    """A way to read a column.

    Attributes:
        name: Name that `Column.conversion` refers to.
        type: Column type of the result.
        parse: (array, physical type) -> array of that type; raises ValueError if any value does not survive.
        arrow_type: Physical type of the result; None means a timestamp in the unit of the source.
        evidence: What the column must show for inference to choose the conversion; None if it is enough that each value converts.
    """

    name: str
    type: ColumnType
    parse: Callable[[pa.Array, pa.DataType], pa.Array]
    arrow_type: pa.DataType | None = None
    evidence: Evidence | None = None

    def fits(self, array: pa.Array, arrow_type: pa.DataType) -> bool:
        """Return whether all values survive.

        Raises:
            OutOfRangeError: No column type of the target can hold one of the values.
        """
        try:
            # Try a short prefix first: if nothing fits, Arrow builds an error per value, which takes about 100 times as long.
            if len(array) > _PREFIX_VALUES:
                self.parse(array.slice(0, _PREFIX_VALUES), arrow_type)
            self.parse(array, arrow_type)
        except OutOfRangeError:
            raise
        except ValueError:
            return False
        return True

    def read(self, array: pa.Array, to: pa.DataType) -> pa.Array:
        """Return the values as they are sent.

        Raises:
            ValueError: A value does not survive.
        """
        return pa.nulls(len(array), to) if pa.types.is_null(array.type) else self.parse(array, to)

    def first_misfit(self, array: pa.Array, to: pa.DataType) -> int:
        """Return the index of the first value that does not fit, found by bisection: only a batch that failed pays for it."""
        good, bad = 0, len(array)
        while bad - good > 1:
            # Begin with a short prefix, as `fits` does.
            middle = (good + bad) // 2 if good else min(bad // 2, _PREFIX_VALUES)
            try:
                self.read(array.slice(good, middle - good), to)
            except ValueError:
                bad = middle
            else:
                good = middle
        return good


def largest(values: pa.Array) -> int:
    """Return the largest of these numbers, or 0 if there are none."""
    return pc.max(values).as_py() or 0


def any_of(mask: pa.Array) -> bool:
    """Return whether a mask is true anywhere; NULL counts as false."""
    return pc.any(mask).as_py() is True


def is_string(arrow_type: pa.DataType) -> bool:
    """Return whether arrays of this type hold text, in any of Arrow's string layouts."""
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def strings_of(array: pa.Array) -> pa.Array:
    """Return text in Arrow's usual layout."""
    return array if array.type == pa.string() else array.cast(pa.string())


def require_pattern(strings: pa.Array, pattern: str, reason: str) -> None:
    """Require that every string matches a regular expression.

    Raises:
        MisfitError: One does not; its text is `reason`.
    """
    if pc.all(pc.match_substring_regex(strings, pattern)).as_py() is False:
        raise MisfitError(reason)


def require_years(timestamps: pa.Array, error: type[MisfitError]) -> pa.Array:
    """Return the timestamps, which must be of years that the platform supports.

    Raises:
        MisfitError: One is not; of the class `error`.
    """
    factor = PER_SECOND[timestamps.type.unit]
    bounds = pc.min_max(timestamps.view(pa.int64()))
    first, last = bounds["min"].as_py(), bounds["max"].as_py()
    if first is not None and (first < _FIRST_SECOND * factor or last >= _END_SECOND * factor):
        raise error("the platform supports only the years 1400 to 9999")
    return timestamps
