"""The calendar of Parquet files that Spark wrote, by the keys that it leaves in their footers.

Spark before 3.0 (for INT96: before 3.1), and later versions on request, count days before 1582-10-15 in the Julian calendar, and instants before
1900 with time zone offsets that only Java knows. Everybody else's readers take them for other days. The rule is that of Spark itself
(`DataSourceUtils.datetimeRebaseSpec` and `int96RebaseSpec`): https://github.com/apache/spark/blob/v3.5.0/sql/core/src/main/scala/org/
apache/spark/sql/execution/datasources/DataSourceUtils.scala
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError
from pushengine.schema.base import PER_SECOND
from pushengine.schema.times import int96
from pushengine.schema.times.limits import integers_of

_VERSION = b"org.apache.spark.version"
_LEGACY_DATES = b"org.apache.spark.legacyDateTime"
_LEGACY_INT96 = b"org.apache.spark.legacyINT96"
_EPOCH = dt.date(1970, 1, 1)
_FIRST_DATE = dt.date(1582, 10, 15)
_FIRST_STAMP = dt.date(1900, 1, 1)
FIRST_INT96_DAY = int96.julian_day(_FIRST_STAMP)
_HINT = "let Spark write it again, with spark.sql.parquet.datetimeRebaseModeInWrite=CORRECTED and int96RebaseModeInWrite=CORRECTED"


@dataclasses.dataclass(frozen=True, slots=True)
class SparkCalendar:
    """Which columns of a file are written in Spark's old calendar.

    Attributes:
        has_old_dates: Whether dates and timestamps other than INT96 are.
        has_old_int96: Whether INT96 timestamps are.
    """

    has_old_dates: bool
    has_old_int96: bool

    @classmethod
    def of(cls, metadata: Mapping[bytes, bytes] | None) -> SparkCalendar:
        """Return the calendar that the key-value metadata of a file tell."""
        found = re.match(rb"(\d+)\.(\d+)", (metadata or {}).get(_VERSION, b""))
        if metadata is None or found is None:
            return cls(has_old_dates=False, has_old_int96=False)
        version = int(found[1]), int(found[2])
        return cls(
            has_old_dates=version < (3, 0) or _LEGACY_DATES in metadata,
            has_old_int96=version < (3, 1) or _LEGACY_INT96 in metadata,
        )

    def first_value(self, arrow_type: pa.DataType) -> dt.date | None:
        """Return the first day from which values of a type mean what they say; None if all of them do."""
        if int96.is_int96(arrow_type):
            return _FIRST_STAMP if self.has_old_int96 else None
        if not self.has_old_dates:
            return None
        if pa.types.is_timestamp(arrow_type):
            return _FIRST_STAMP
        return _FIRST_DATE if pa.types.is_date(arrow_type) else None

    def note(self, schema: pa.Schema, source: str) -> str:
        """Return what the user should know about the file; empty if it has no such column."""
        first = {self.first_value(field.type) for field in schema} - {None}
        if not first:
            return ""
        kinds = [f"{'dates' if day == _FIRST_DATE else 'timestamps'} before {day}" for day in sorted(first - {None})]  # type: ignore[type-var]
        return f"{source} is in Spark's old calendar, as its footer says: {' and '.join(kinds)} are refused"

    def require_new(self, batch: pa.RecordBatch, source: str, first_row: int) -> None:
        """Require that no value is in the old calendar.

        Raises:
            SchemaError: A value is.
        """
        if not (self.has_old_dates or self.has_old_int96):  # nearly always, and a wide batch has many columns
            return
        for field, array in zip(batch.schema, batch.columns, strict=True):
            day = self.first_value(field.type)
            if day is None:
                continue
            is_old = pc.less(*_numbers(array, day))
            index = pc.index(is_old, value=True).as_py()
            if index >= 0:
                raise SchemaError(
                    f"a value before {day} is in Spark's old calendar, as the footer says, and means another time",
                    source=source,
                    position=f"row {first_row + index + 1}, column {field.name}",
                    hint=_HINT,
                )


def _numbers(array: pa.Array, day: dt.date) -> tuple[pa.Array, int]:
    """Return the numbers of an array, and the one of a day in the same unit."""
    days = (day - _EPOCH).days
    if int96.is_int96(array.type):
        return int96.days_of(array), int96.julian_day(day)
    if pa.types.is_date32(array.type):
        return integers_of(array), days
    unit = "ms" if pa.types.is_date64(array.type) else array.type.unit
    return integers_of(array), days * 86_400 * PER_SECOND[unit]
