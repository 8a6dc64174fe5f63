"""Two public event logs, compared value by value: the table holds what Python's csv module reads."""

import csv
import datetime as dt
import gzip
from collections import Counter

import pytest

LOGS = [("receipt.csv", 8_577), ("domestic_declarations.csv.gz", 55_628)]


def as_utc(text):
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC).replace(tzinfo=None)


CONVERSIONS = {"VARCHAR": str, "BIGINT": int, "DOUBLE": float, "TIMESTAMP": as_utc}


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
@pytest.mark.parametrize(("name", "count"), LOGS, ids=[name for name, _ in LOGS])
async def test_every_value_of_a_real_log_arrives(start, shared_data, name, count, file_type):
    stage = await start(file_type=file_type, chunk_bytes=1024 * 1024)
    receipt = await stage.push(shared_data / name)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(shared_data / name, "rt", encoding="utf-8", newline="") as file:
        header, *expected = csv.reader(file)
    columns = await stage.query("select column_name, data_type from information_schema.columns where table_name = 'T'")
    types = dict(columns)
    types.pop("_CELONIS_CHANGE_DATE")
    assert list(types) == header
    assert (receipt.rows, len(expected)) == (count, count)
    converts = [CONVERSIONS[kind] for kind in types.values()]
    wanted = Counter(
        tuple(None if text == "" else convert(text) for convert, text in zip(converts, row, strict=True))
        for row in expected
    )
    found = Counter(await stage.rows())
    assert list(wanted - found)[:3] == []
    assert list(found - wanted)[:3] == []


@pytest.mark.parametrize(
    ("name", "stamps", "texts"),
    [
        (
            "receipt.csv",
            {"case:deadline", "case:enddate", "case:enddate_planned", "case:startdate", "time:timestamp"},
            {"case:concept:name", "org:group", "concept:instance"},
        ),
        ("domestic_declarations.csv.gz", {"time:timestamp"}, {"id", "case:concept:name", "(case)_BudgetNumber"}),
    ],
)
async def test_the_columns_of_a_real_log_get_the_right_types(start, shared_data, name, stamps, texts):
    stage = await start()
    await stage.push(shared_data / name)
    columns = dict(
        await stage.query("select column_name, data_type from information_schema.columns where table_name = 'T'")
    )
    columns.pop("_CELONIS_CHANGE_DATE")
    assert {column for column, kind in columns.items() if kind.startswith("TIMESTAMP")} == stamps
    assert {columns[column] for column in texts} == {"VARCHAR"}
