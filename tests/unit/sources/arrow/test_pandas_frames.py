"""Pandas frames: every value arrives as it is in the frame, or the frame is refused."""

import datetime as dt
import decimal
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pushengine.errors import SchemaError
from pushengine.sources.arrow.objects import open_object
from pushengine.sources.arrow.pandas_frames import frame_table

UTC = dt.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2024, 1, 31, 12, 30)
DAY = dt.date(2024, 1, 31)
NAN = float("nan")
NANOS = pd.Timestamp("2024-01-31 12:30:00.123456789")


def table_of(values):
    return frame_table(pd.DataFrame({"a": range(len(values)), "x": pd.Series(values, dtype=object)}), "frame")


@pytest.mark.parametrize(
    ("values", "row"),
    [
        ([DAY, NOON], 2),
        ([NOON, NOON.replace(tzinfo=UTC)], 2),
        ([None, NOON.replace(tzinfo=UTC), NOON], 3),
        ([NANOS, pd.Timestamp(NOON)], 1),
        ([dt.time(12, 30, tzinfo=UTC)], 1),
        ([dt.time(12, 30), dt.time(12, 30, tzinfo=UTC)], 2),
        ([1.5, True], 2),
        (["a", b"b"], 1),
    ],
    ids=str,
)
def test_kinds_of_objects_that_would_become_one_are_refused_with_the_row(values, row):
    with pytest.raises(SchemaError, match="would become") as caught:
        table_of(values)
    assert caught.value.position == f"row {row}, column x"


@pytest.mark.parametrize(
    "values",
    [
        [NOON, DAY],
        [decimal.Decimal("1.10"), 0.1],
        [2**53 + 1, 0.5],
        [1, True],
        [np.datetime64("2024-01-31", "D"), np.datetime64("2024-01-31T12:30", "s")],
        [2**64],
        [-(2**63) - 1],
        ["a", 1],
        [pd.Period("2024")],
    ],
    ids=str,
)
def test_objects_without_a_common_type_are_refused_with_the_column(values):
    with pytest.raises(SchemaError, match="column x ") as caught:
        table_of(values)
    assert "frame['x'].astype('string')" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([NOON, None, pd.Timestamp(NOON), pd.NaT], [NOON, None, NOON, None]),
        ([NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=BERLIN)], [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=BERLIN)]),
        ([NANOS.to_datetime64()], [NANOS]),
        ([DAY, NAN, None], [DAY, None, None]),
        ([dt.time(12, 30), None], [dt.time(12, 30), None]),
        ([1, 2.5, None], [1.0, 2.5, None]),
        ([1, NAN, np.int32(5)], [1, None, 5]),
        ([True, NAN, np.bool_(False)], [True, None, False]),
        (["a", NAN, None, pd.NA, np.str_("b")], ["a", None, None, None, "b"]),
        ([decimal.Decimal("1.10"), 1, NAN], [decimal.Decimal("1.10"), decimal.Decimal(1), None]),
        ([decimal.Decimal("1.10"), decimal.Decimal("NaN"), 1], [decimal.Decimal("1.10"), None, decimal.Decimal(1)]),
        ([b"a", None], [b"a", None]),
        ([uuid.UUID(int=7), None], [uuid.UUID(int=7), None]),
    ],
    ids=str,
)  # fmt: skip
def test_other_objects_are_kept(values, expected):
    assert table_of(values)["x"].to_pylist() == expected


def test_a_text_with_half_a_character_is_refused():
    with pytest.raises(SchemaError, match="characters that do not exist"):
        table_of(["\ud800"])


@pytest.mark.parametrize(
    ("series", "name"),
    [(pd.Series([1, 2], name="q"), "q"), (pd.Series([1, 2]), "value"), (pl.Series("q", [1, 2]), "q")],
)
def test_a_series_is_a_table_of_one_column(series, name):
    source = open_object(series, schema=None)
    assert source.schema().names == [name]
    assert [one.batch.to_pydict() for one in source.open()] == [{name: [1, 2]}]


def test_a_frame_without_objects_is_converted_as_pyarrow_does():
    frame = pd.DataFrame({"i": [1, 2], "t": pd.to_datetime(["2024-01-31", None])})
    assert frame_table(frame, "frame").equals(pa.Table.from_pandas(frame, preserve_index=False))
