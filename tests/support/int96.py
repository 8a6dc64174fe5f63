"""Parquet files with any 12 bytes as an INT96 timestamp."""

import datetime as dt
import struct

import pyarrow as pa
import pyarrow.parquet as pq

EPOCH_DAY = 2_440_588
DAY_NANOS = 86_400 * 10**9
_EPOCH = dt.datetime(1970, 1, 1)


def int96(day, nanos):
    """Return the bytes of a timestamp: Julian day and nanoseconds of the day."""
    return struct.pack("<QI", nanos, day)


def write_int96(path, values, *, encoding="PLAIN", metadata=None, **options):
    """Write the values (bytes, or None for NULL) as column `t`, after their numbers as column `n`."""
    # The values are first written as stamps that occur nowhere else in the file, and then replaced.
    stamps = [
        None if value is None else _EPOCH + dt.timedelta(days=20_000, microseconds=7_919 * (number + 1))
        for number, value in enumerate(values)
    ]
    table = pa.table({"n": pa.array(range(len(values)), pa.int64()), "t": pa.array(stamps, pa.timestamp("us"))})
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        **{"compression": "NONE", "use_dictionary": ["t"] if encoding == "dictionary" else False, "store_schema": False}
        | options,
        use_deprecated_int96_timestamps=True,
        write_statistics=False,
    )
    data = path.read_bytes()
    for number, value in enumerate(values):
        if value is not None:
            old = int96(EPOCH_DAY + 20_000, 7_919_000 * (number + 1))
            assert data.count(old) == 1
            data = data.replace(old, value)
    path.write_bytes(data)
    return path


def micros_of(value):
    """Return what a value means, in microseconds since 1970, or why the platform cannot hold it."""
    nanos, day = struct.unpack("<QI", value)
    if nanos >= DAY_NANOS:
        return "its time of day is not within 24 hours"
    if not dt.date(1400, 1, 1).toordinal() <= day - EPOCH_DAY + _EPOCH.toordinal() <= dt.date.max.toordinal():
        return "the platform supports only the years 1400 to 9999"
    return (day - EPOCH_DAY) * 86_400_000_000 + nanos // 1000
