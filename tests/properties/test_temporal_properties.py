"""Dates, times, timestamps and durations: every number that Arrow can store lands as what it means, or is refused with row and column."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schemas import inference_of

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.schema.conform import conform
from pushengine.schema.misfits import shown
from pushengine.schema.times.limits import cut_to_micros

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
TYPES = [
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    *map(pa.timestamp, UNITS),
    *(pa.timestamp(unit, zone) for unit in ("us", "ns") for zone in ("UTC", "Asia/Tokyo")),
    *map(pa.duration, ("s", "ns")),
]
DAY_SECONDS = 86_400


def array_of(numbers, arrow_type):
    width = pa.int32() if arrow_type.bit_width == 32 else pa.int64()
    return pa.array(numbers, width).view(arrow_type)


def numbers_of(arrow_type):
    """Any number, with the limits of what has a meaning more often."""
    bits = arrow_type.bit_width
    per_second = UNITS[getattr(arrow_type, "unit", "ms")]
    day = 1 if pa.types.is_date32(arrow_type) else DAY_SECONDS * per_second
    first, last = (dt.date(year, 1, 1).toordinal() - dt.date(1970, 1, 1).toordinal() for year in (1, 9999))
    near = [0, day, first * day, (last + 365) * day, -day, -208_188 * day]
    near = [number for number in near if abs(number) < 2 ** (bits - 1) - 5]
    numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return numbers | st.builds(int.__add__, st.sampled_from(near), st.integers(-3, 3))


def landed(array, requested):
    source = SourceBatch(pa.record_batch([array], ["x"]), "frame", 0)
    inference = inference_of(source.batch.schema, overrides={"x": requested} if requested else {})
    inference.observe(source)
    return conform(inference.infer_schema(), source).column("x")


def meaning(number, arrow_type):
    """The value as Python writes it, without the digits that Python cannot hold; None if it means nothing."""
    if pa.types.is_time(arrow_type):
        seconds, rest = divmod(number, UNITS[arrow_type.unit])
        if not 0 <= seconds < DAY_SECONDS:
            return None
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}", rest
    if pa.types.is_date32(arrow_type):
        days, rest = number, 0
    else:
        per_day = DAY_SECONDS * UNITS[getattr(arrow_type, "unit", "ms")]
        days, rest = divmod(number, per_day)
    ordinal = days + dt.date(1970, 1, 1).toordinal()
    return None if not 1 <= ordinal <= dt.date.max.toordinal() else (dt.date.fromordinal(ordinal).isoformat(), rest)


@pytest.mark.parametrize("arrow_type", TYPES, ids=str)
@pytest.mark.parametrize("requested", ["", "STRING"])
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_value_lands_as_what_it_means_or_is_refused(arrow_type, requested, data):
    number = data.draw(numbers_of(arrow_type))
    array = array_of([0, number, None], arrow_type)
    try:
        found = landed(array, requested)
    except SchemaError as error:
        assert error.position in ("row 2, column x", None)
        assert (error.position is None) == (pa.types.is_duration(arrow_type) and not requested)
        assert "<value out of range" not in str(error)
        if error.position is None:
            return
        expected = meaning(number, arrow_type)
        if arrow_type == pa.date64() and expected is not None and expected[1]:
            return  # a date with a time of day
        if ", tz=" in str(arrow_type) and 2**63 - abs(number) < 2 * DAY_SECONDS * 10**9:
            return  # its local time does not fit into 64 bits
        is_stamp = pa.types.is_timestamp(arrow_type) or pa.types.is_date(arrow_type)
        # Only years that the platform lacks are refused, or those whose text would be in another year.
        assert expected is None or (is_stamp and (expected[0] < "1400" or expected[0] > "9999-12-30"))
        return
    assert found[2].as_py() is None
    value = found[1]
    if pa.types.is_string(found.type):
        text = value.as_py()
        assert "<" not in text
        if pa.types.is_duration(arrow_type):
            assert text == str(number)
        elif text < "1900" and "Asia/Tokyo" in str(arrow_type):
            assert abs(int(text[:4]) - int(meaning(number, arrow_type)[0][:4])) <= 1  # an offset of minutes and seconds
        elif arrow_type in (pa.timestamp(unit, "Asia/Tokyo") for unit in UNITS):
            assert (
                dt.datetime.strptime(text[:19] + text[-5:], "%Y-%m-%d %H:%M:%S%z").timestamp() // 1
                == number // UNITS[arrow_type.unit]
            )
        else:
            assert text.startswith(meaning(number, arrow_type)[0])
        return
    per_day = 1 if pa.types.is_date32(arrow_type) else DAY_SECONDS * UNITS[getattr(arrow_type, "unit", "ms")]
    landed_number = value.cast(pa.int64()).as_py()
    landed_day = DAY_SECONDS * UNITS[found.type.unit]
    assert landed_number == number * landed_day // per_day


@pytest.mark.parametrize("arrow_type", TYPES, ids=str)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_messages_show_a_value_as_it_is(arrow_type, data):
    number = data.draw(numbers_of(arrow_type))
    text = shown(array_of([number], arrow_type)[0])
    assert "<" not in text
    if pa.types.is_time(arrow_type):
        unit = UNITS[arrow_type.unit]
        seconds = abs(number) // unit
        assert text.strip("'").startswith(
            f"{'-' if number < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"[:39]
        )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_nanoseconds_are_rounded_down(numbers):
    cut = cut_to_micros(pa.array(numbers, pa.int64()).view(pa.timestamp("ns")))
    assert cut.cast(pa.int64()).to_pylist() == [None if number is None else number // 1000 for number in numbers]
