"""Which values of a file are in Spark's old calendar."""

import datetime as dt

import pyarrow as pa
import pytest

from pushengine.errors import SchemaError
from pushengine.parquet.spark_calendar import SparkCalendar
from pushengine.schema.times.int96 import INT96, NBYTES, julian_day

OLD = SparkCalendar(has_old_dates=True, has_old_int96=True)


@pytest.mark.parametrize(
    ("version", "keys", "dates", "int96"),
    [
        ("2.4.8", (), True, True),
        ("3.0.3", (), False, True),
        ("3.1.0", (), False, False),
        ("3.5.1", ("legacyINT96",), False, True),
        ("3.5.1", ("legacyDateTime",), True, False),
        ("3.5.1", ("legacyDateTime", "legacyINT96", "timeZone"), True, True),
        ("10.1", (), False, False),
        ("", ("legacyDateTime", "legacyINT96"), False, False),
        ("unknown", (), False, False),
    ],
)
def test_the_calendar_follows_sparks_own_rule(version, keys, dates, int96):
    metadata = {f"org.apache.spark.{key}".encode(): b"" for key in keys}
    metadata |= {b"org.apache.spark.version": version.encode()} if version else {}
    assert SparkCalendar.of(metadata) == SparkCalendar(has_old_dates=dates, has_old_int96=int96)


def test_a_file_without_metadata_is_in_the_new_calendar():
    assert SparkCalendar.of(None) == SparkCalendar(has_old_dates=False, has_old_int96=False)


def int96(days):
    values = [None if day is None else bytes(8) + julian_day(day).to_bytes(4, "little") for day in days]
    return pa.ExtensionArray.from_storage(INT96, pa.array(values, pa.binary(NBYTES)))


DATES = (dt.date(1582, 10, 15), None, dt.date(1582, 10, 14))
STAMPS = (dt.date(1900, 1, 1), None, dt.date(1899, 12, 31))


@pytest.mark.parametrize(
    "array",
    [
        pa.array(DATES, pa.date32()),
        pa.array(DATES, pa.date64()),
        *(pa.array(STAMPS, pa.date32()).cast(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array(STAMPS, pa.date32()).cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC")),
        int96(STAMPS),
    ],
    ids=lambda array: str(array.type),
)
def test_the_first_old_value_is_named(array):
    batch = pa.record_batch([pa.array([1, 2, 3]), array], ["n", "d"])
    OLD.require_new(batch.slice(0, 2), "f", 10)
    SparkCalendar.of(None).require_new(batch, "f", 10)
    with pytest.raises(SchemaError) as caught:
        OLD.require_new(batch, "f", 10)
    assert caught.value.position == "row 13, column d"


def test_the_note_names_the_kinds_of_values():
    schema = pa.schema([("n", pa.int64()), ("d", pa.date32()), ("t", INT96)])
    assert OLD.note(schema, "f") == (
        "f is in Spark's old calendar, as its footer says: dates before 1582-10-15 and timestamps before 1900-01-01 are refused"
    )
    assert OLD.note(schema.remove(2).remove(1), "f") == ""
