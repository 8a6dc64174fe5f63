"""Numbers and dates come back equal in whatever format they are written, and what does not stays the text that it was."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.schemas import inference_of

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.schema.conform import conform
from pushengine.schema.conversions import conversion_named
from pushengine.schema.formats import DateFormat, ValueFormats

DIGITS = "0123456789"
SEPARATORS = [(",", "."), (",", ""), (".", ","), (".", "'"), (",", " "), (",", "\u202f"), (".", "")]
DATES = ["dd.mm.yyyy", "yyyymmdd", "mm/dd/yyyy", "dd-mm-yyyy", "yyyy/mm/dd", "d.m.yyyy", "m/d/yyyy", "%Y%m%d"]
TIMES = ["", " HH:MM:SS", "THH:MM:SS", " HH:MM:SS.ffffff", " HHMMSS"]
FORMATS = st.builds(
    ValueFormats,
    decimal=st.just(","),
    thousands=st.sampled_from(["", "."]),
    has_trailing_minus=st.booleans(),
    date_formats=st.lists(st.sampled_from(DATES).map(DateFormat.parse), max_size=2).map(tuple),
    zero_date_null=st.booleans(),
    cuts_subseconds=st.booleans(),
)


def landed(texts, **options):
    """Infer a column from texts, all in one batch, and return its type and its values."""
    batch = SourceBatch(pa.RecordBatch.from_pydict({"x": pa.array(texts, pa.string())}), "f.csv", 0, 2)
    inference = inference_of(batch.batch.schema, is_text=True, **options)
    inference.observe(batch)
    schema = inference.infer_schema()
    column = conform(schema, batch).column(0)
    column.validate(full=True)
    return schema.columns[0], column.to_pylist()


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    digits=st.sampled_from([0, 15, 16, 17]),
)
@example(numbers=[5e-324, 1.7976931348623157e308, 0.1, -0.0, 9007199254740993.0], digits=17)
def test_what_another_program_printed_from_a_double_stays_a_number(numbers, digits):
    texts = [repr(number) if digits == 0 else f"{number:.{digits}g}" for number in numbers]
    assume(all(math.isfinite(float(text)) for text in texts))
    # A whole number without a point or an exponent must be below 2**53.
    texts = [f"{text}.0" if text.lstrip("-").isdigit() else text for text in texts]
    column, values = landed([*texts, "0.5"])
    assert column.type == "FLOAT"
    assert values[:-1] == [float(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(number=st.text(DIGITS, min_size=16, max_size=18), scale=st.integers(0, 18))
def test_a_number_that_is_sent_as_a_double_prints_as_it_was_written(number, scale):
    text = f"{Decimal(number).scaleb(-scale):f}"
    column, values = landed([text, "0.5"])
    if column.type == "FLOAT":
        digits = len(text.replace(".", "").strip("0"))
        assert Decimal(text) in (Decimal(f"{values[0]:.{max(digits - 1, 0)}e}"), Decimal(repr(values[0])))
        assert digits <= 17
    else:
        assert values == [text, "0.5"]


def written(number: Decimal, decimal: str, thousands: str, *, is_grouped: bool, is_trailing: bool) -> str:
    """Write a number as people do."""
    text = f"{abs(number):{',' if is_grouped and thousands else ''}f}"
    text = text.replace(",", "\0").replace(".", decimal).replace("\0", thousands)
    return text if number >= 0 else f"{text}-" if is_trailing else f"-{text}"


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.decimals(-(10**12), 10**12, places=2), min_size=1, max_size=10),
    separators=st.sampled_from(SEPARATORS),
    spelling=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=10),
)
def test_a_number_written_in_a_locale_comes_back_equal(numbers, separators, spelling):
    decimal, thousands = separators
    texts = [
        written(number, decimal, thousands, is_grouped=is_grouped, is_trailing=is_trailing)
        for number, (is_grouped, is_trailing) in zip(numbers, spelling, strict=False)
    ]
    formats = ValueFormats(decimal=decimal, thousands=thousands, has_trailing_minus=True)
    column, values = landed(texts, formats=formats)
    assert column.type == "FLOAT"
    assert values == [float(number) for number in numbers]


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=10),
    thousands=st.sampled_from([".", "'", " "]),
    is_trailing=st.booleans(),
)
def test_a_whole_number_with_groups_comes_back_equal(numbers, thousands, is_trailing):
    texts = [written(Decimal(number), ",", thousands, is_grouped=True, is_trailing=is_trailing) for number in numbers]
    column, values = landed(texts, formats=ValueFormats(decimal=",", thousands=thousands, has_trailing_minus=True))
    assert column.type == "INTEGER"
    assert values == numbers


def in_format(value: dt.datetime, written_format: str) -> str:
    """Write a date in a format, part by part."""
    fields = {
        "year": value.year,
        "month": value.month,
        "day": value.day,
        "hour": value.hour,
        "minute": value.minute,
        "second": value.second,
        "fraction": value.microsecond,
    }
    return "".join(
        part.text
        if not part.field
        else f"{fields[part.field]:0{part.width}d}"
        if part.width
        else str(fields[part.field])
        for part in DateFormat.parse(written_format).parts
    )


@settings(max_examples=300, deadline=None)
@given(
    days=st.lists(st.one_of(st.none(), st.datetimes(dt.datetime(1400, 1, 1))), min_size=1, max_size=10),
    date=st.sampled_from(DATES),
    time=st.sampled_from(TIMES),
    is_key=st.booleans(),
)
def test_a_date_in_any_format_comes_back_equal(days, date, time, is_key):
    assume(any(days) and not (is_key and None in days))
    written_format = date + (time.replace("HHMMSS", "%H%M%S") if "%" in date else time)
    if "%" in date:
        written_format = date + time.replace("HH", "%H").replace("MM", "%M").replace("SS", "%S").replace("ffffff", "%f")
    texts = [None if day is None else in_format(day, written_format) for day in days]
    formats = ValueFormats(date_formats=(DateFormat.parse(written_format),))
    column, values = landed(texts, formats=formats, keys=["x"] if is_key else [])
    assert column.type == "DATETIME"
    cut = {"": "%Y%m%d", " HH:MM:SS.ffffff": "%Y%m%d%H%M%S%f"}.get(time, "%Y%m%d%H%M%S")
    assert [value and value.strftime(cut) for value in values] == [day and day.strftime(cut) for day in days]
    assert all(value is None or day is None or value <= day for value, day in zip(values, days, strict=True))


NUMBERS = st.from_regex(r"-?[0-9]{1,4}([.,][0-9]{1,4}){0,3}-?", fullmatch=True)
MAYBE_DATES = st.from_regex(
    r"[0-3][0-9][./-]?[01][0-9][./-]?(00|19|20)[0-9]{2}|[0-9]{8}|[1-9]\.[1-9]\.2024|0{8}", fullmatch=True
)
FINE = st.from_regex(r"2024-0[1-9]-1[0-9][T ]1[0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z?", fullmatch=True)
KINDS = [NUMBERS, MAYBE_DATES, FINE, st.sampled_from(["N/A", "", "true", "1E5", "1E-02", "-", ".", ",", "0000-00-00"])]
CELLS = st.one_of(
    *(st.lists(st.one_of(st.none(), kind), min_size=1, max_size=8) for kind in KINDS),
    st.lists(st.one_of(*KINDS), min_size=1, max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(cells=CELLS, formats=FORMATS)
def test_text_that_is_no_number_and_no_date_is_unchanged_and_a_name_reads_as_its_conversion(cells, formats):
    try:
        column, values = landed(cells, formats=formats)
    except SchemaError as error:
        assert "--subsecond cut" in str(error)
        assert not formats.cuts_subseconds
        return
    if column.type == "STRING":
        assert values == cells
        return
    again = conversion_named(column.conversion)
    assert again.read(pa.array(cells, pa.string()), column.arrow_type).to_pylist() == values
    for text, value in zip(cells, values, strict=True):
        if text is None or value is None:
            assert text is None or (formats.zero_date_null and not text.strip("0.-: T"))
        elif isinstance(value, float | int) and not isinstance(value, bool):
            plain = text.replace(".", "" if formats.thousands == "." else "x").replace(",", ".")
            assert Decimal(f"-{plain[:-1]}" if plain.endswith("-") else plain) == Decimal(repr(value))


@settings(max_examples=300, deadline=None)
@given(cells=st.lists(st.one_of(*KINDS), min_size=1, max_size=8, unique=True), formats=FORMATS)
def test_two_keys_that_are_written_differently_are_never_one(cells, formats):
    column, values = landed(cells, formats=formats, keys=["x"])
    assert None not in values
    assert len(set(values)) == len(cells), column.conversion
