"""INT96 timestamps of Parquet files, as they are stored: 12 bytes, of which Arrow checks none.

    nanoseconds of the day (unsigned, 8 bytes, little-endian), Julian day (unsigned, 4 bytes)

Read by Arrow, a time of day past 24 hours moves the date, Julian day 0 becomes 1970, digits disappear, and large values wrap around. So the
bytes are read unchanged, as arrays of the extension type `INT96`, and checked here.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa

NBYTES = 12
_LAYOUT = np.dtype([("nanos", "<u8"), ("day", "<u4")])
_EPOCH_DAY = 2_440_588
"""Julian day of 1970-01-01."""
_EPOCH = dt.date(1970, 1, 1)
_DAY_NANOS = 86_400 * 10**9
_DAY_MICROS = 86_400 * 10**6
_NANOS_PER_MICRO = np.uint64(1000)


def julian_day(day: dt.date) -> int:
    """Return the Julian day of a date."""
    return (day - _EPOCH).days + _EPOCH_DAY


FIRST_DAY = julian_day(dt.date(1400, 1, 1))
LAST_DAY = julian_day(dt.date(9999, 12, 31))


class _Int96Type(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.binary(NBYTES), "pushengine.int96")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> _Int96Type:
        del storage_type, serialized
        return cls()

    def __str__(self) -> str:
        return "int96"


INT96 = _Int96Type()


def is_int96(arrow_type: pa.DataType) -> bool:
    """Return whether arrays of this type hold INT96 timestamps."""
    return isinstance(arrow_type, _Int96Type)


@dataclasses.dataclass(frozen=True, slots=True)
class Stamps:
    """INT96 timestamps, read.

    Attributes:
        micros: The timestamps in microseconds, later digits cut off; meaningless if one of them is wrong.
        has_wrong_time: Whether the time of day of one is not within a day.
        has_wrong_day: Whether one is not in the years 1400 to 9999, which the platform supports, or before the day that was asked for.
        is_finer: Whether one has digits after the sixth.
    """

    micros: Any
    has_wrong_time: bool
    has_wrong_day: bool
    is_finer: bool

    @property
    def is_valid(self) -> bool:
        """Whether the platform can hold all of them, at least without later digits."""
        return not self.has_wrong_time and not self.has_wrong_day


def read_bytes(data: bytes, *, first_day: int) -> Stamps:
    """Read timestamps that are stored one after another, without NULLs, and that must be from this Julian day onwards.

    Raises:
        ValueError: The number of bytes is not a multiple of 12.
    """
    return _read(np.frombuffer(data, _LAYOUT), first_day)


def read(array: pa.Array) -> Stamps:
    """Read an array of the type `INT96`; `micros` is an array of timestamps."""
    values, is_null = _values(array)
    if is_null is not None:
        values = values.copy() if len(values) else np.zeros(len(array), _LAYOUT)
        values[is_null] = (0, _EPOCH_DAY)
    stamps = _read(values)
    micros = pa.array(stamps.micros, pa.int64(), mask=is_null).view(pa.timestamp("us"))
    return dataclasses.replace(stamps, micros=micros)


def days_of(array: pa.Array) -> pa.Array:
    """Return the Julian days of an array of the type `INT96`."""
    values, is_null = _values(array)
    days = values["day"] if len(values) else np.zeros(len(array))
    return pa.array(days.astype(np.int64), mask=is_null)


def _values(array: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Return the stored values (none if there is no buffer, as all are NULL), and which of them are NULL (None if none is)."""
    storage = array.storage
    data = storage.buffers()[1]
    is_null = storage.is_null().to_numpy(zero_copy_only=False) if storage.null_count else None
    if not len(storage) or data is None or not data.size:
        return np.empty(0, _LAYOUT), is_null
    return np.frombuffer(data, _LAYOUT, count=len(storage), offset=storage.offset * NBYTES), is_null


def _read(values: np.ndarray[Any, Any], first_day: int = FIRST_DAY) -> Stamps:
    if not len(values):
        return Stamps(np.empty(0, np.int64), has_wrong_time=False, has_wrong_day=False, is_finer=False)
    nanos, days = np.ascontiguousarray(values["nanos"]), values["day"].astype(np.int64)
    has_wrong_time = bool(nanos.max() >= _DAY_NANOS)
    has_wrong_day = bool(days.min() < first_day or days.max() > LAST_DAY)
    micros = nanos // _NANOS_PER_MICRO
    is_finer = not np.array_equal(micros * _NANOS_PER_MICRO, nanos)
    days -= _EPOCH_DAY
    days *= _DAY_MICROS
    micros = np.add(days, micros.view(np.int64), out=days)
    return Stamps(micros, has_wrong_time=has_wrong_time, has_wrong_day=has_wrong_day, is_finer=is_finer)


def text_of(value: bytes) -> str:
    """Return a timestamp as messages show it."""
    nanos, day = int.from_bytes(value[:8], "little"), int.from_bytes(value[8:], "little")
    try:
        date = (_EPOCH + dt.timedelta(days=day - _EPOCH_DAY)).isoformat()
    except OverflowError:
        date = f"Julian day {day}"
    if nanos >= _DAY_NANOS:
        return f"{date} + {nanos} ns"
    seconds, fraction = divmod(nanos, 10**9)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{date} {clock}" + (f".{fraction:09d}".rstrip("0") if fraction else "")
