"""Which types a column may get, before its values are seen: of a new table, of one that a delta cannot change, and of one that is replaced."""

import pyarrow as pa
import pytest

from pushengine.schema.candidates import ColumnRules, candidates
from pushengine.schema.conversions import conversion_named
from pushengine.schema.formats import DateFormat, ValueFormats
from pushengine.schema.known import KnownColumn
from pushengine.schema.rules import RequestedType

TEXT_TYPES = ["INTEGER", "FLOAT", "BOOLEAN", "DATETIME", "STRING"]
DECIMAL = pa.decimal128(20, 2)


def known(kind, conversion=""):
    return KnownColumn("a", kind, 255 if kind == "STRING" else None, conversion)


def is_empty(candidate):
    """Whether the candidate is for a column without values, which fits every type."""
    return candidate.conversion.name.startswith("no_values")


def found(arrow_type, kind=None, *, is_text=False, conversion="", without_values=False, **rules):
    column = None if kind is None else known(kind, conversion)
    every = candidates(arrow_type, ColumnRules(known=column, **rules), is_text=is_text)
    return [one for one in every if is_empty(one) is without_values]


def is_zoned(name):
    return name.startswith("text_utc")


def types(*arguments, **options):
    """Return the types of the candidates in order, each once."""
    return list(dict.fromkeys(one.type for one in found(*arguments, **options)))


# --- Text


def test_a_new_text_column_may_become_anything():
    assert types(pa.string(), is_text=True) == TEXT_TYPES


def test_a_new_key_of_text_is_never_a_float_or_a_boolean():
    assert types(pa.string(), is_text=True, is_key=True) == ["INTEGER", "DATETIME", "STRING"]


@pytest.mark.parametrize("kind", [*TEXT_TYPES, "DATE"])
def test_text_in_a_delta_keeps_the_type_of_the_table(kind):
    assert types(pa.string(), kind, is_text=True, fixed_by="table") == [kind]


@pytest.mark.parametrize(
    ("kind", "wider"),
    [
        ("INTEGER", ["INTEGER", "FLOAT", "STRING"]),
        ("FLOAT", ["FLOAT", "STRING"]),
        ("BOOLEAN", ["BOOLEAN", "STRING"]),
        ("DATETIME", ["DATETIME", "STRING"]),
        ("DATE", ["DATE", "STRING"]),
        ("STRING", ["STRING"]),
    ],
)
def test_text_in_a_replace_keeps_the_type_or_widens(kind, wider):
    assert types(pa.string(), kind, is_text=True) == wider


def test_text_for_an_integer_key_of_a_table_widens_to_string_only():
    assert types(pa.string(), "INTEGER", is_text=True, is_key=True) == ["INTEGER", "STRING"]
    assert types(pa.string(), "INTEGER", is_text=True, is_key=True, fixed_by="table") == ["INTEGER"]


def test_a_float_key_is_used_only_if_it_is_requested():
    assert found(pa.string(), "FLOAT", is_text=True, is_key=True, fixed_by="table") == []
    assert found(pa.float64(), is_key=True) == []
    requested = RequestedType("FLOAT")
    assert types(pa.string(), "FLOAT", is_text=True, is_key=True, fixed_by="table", requested=requested) == ["FLOAT"]
    assert types(pa.float64(), is_key=True, requested=requested) == ["FLOAT"]


def test_the_remembered_reading_comes_first():
    options = {"is_text": True, "conversion": "text_naive_us"}
    assert found(pa.string(), "DATETIME", **options)[0].conversion is conversion_named("text_naive_us")
    assert found(pa.string(), "DATETIME", is_text=True)[0].conversion is conversion_named("text_date")


@pytest.mark.parametrize(
    "remembered",
    [
        *("text_date", "text_naive_us", "text_utc_us", "forced_naive_us", "text_naive_ns", "text_utc_ns"),
        *("text_utc_us@zero=null", "text_date@format=dd.mm.yyyy", "text_utc_us@a_newer=version"),
    ],
)
def test_a_delta_never_guesses_a_time_zone(remembered):
    in_delta = [
        one.conversion for one in found(pa.string(), "DATETIME", is_text=True, fixed_by="table", conversion=remembered)
    ]
    assert {is_zoned(one.name) for one in in_delta} == {is_zoned(remembered)}
    in_replace = [one.conversion for one in found(pa.string(), "DATETIME", is_text=True, conversion=remembered)]
    assert {is_zoned(one.name) for one in in_replace} == {True, False}


def test_a_date_format_never_guesses_a_time_zone():
    formats = ValueFormats(date_formats=(DateFormat.parse("dd.mm.yyyy"),))
    options = {"is_text": True, "fixed_by": "table", "formats": formats}
    for remembered in ("text_utc_us", "text_utc_ns", "text_utc_us@zero=null"):
        names = [one.conversion.name for one in found(pa.string(), "DATETIME", conversion=remembered, **options)]
        assert names
        assert all(is_zoned(name) for name in names)


@pytest.mark.parametrize(("kind", "forced"), [("INTEGER", "forced_integer"), ("FLOAT", "forced_float")])
def test_a_reading_that_loses_what_was_written_is_not_remembered(kind, forced):
    names = [one.conversion.name for one in found(pa.string(), kind, is_text=True, fixed_by="table", conversion=forced)]
    assert forced not in names
    assert names


COMMA = "text_float@decimal=,;thousands=."
GERMAN_DATE = "text_date@format=dd.mm.yyyy"


@pytest.mark.parametrize(("kind", "remembered"), [("FLOAT", COMMA), ("DATETIME", GERMAN_DATE)])
@pytest.mark.parametrize("fixed_by", ["", "table"])
def test_a_format_that_an_earlier_push_was_given_holds_until_another_is_given(kind, remembered, fixed_by):
    def names(**rules):
        every = found(pa.string(), kind, is_text=True, conversion=remembered, fixed_by=fixed_by, **rules)
        return [one.conversion.name for one in every]

    assert names()[0] == remembered
    other = ValueFormats(has_trailing_minus=True, date_formats=(DateFormat.parse("mm/dd/yyyy"),))
    assert remembered not in names(formats=other)
    assert "@" in names(formats=other)[0]


@pytest.mark.parametrize("lossy", ["text_naive_us@subsecond=cut", "text_date@format=dd.mm.yyyy;zero=null"])
def test_a_setting_that_drops_what_is_written_is_not_remembered(lossy):
    names = [one.conversion.name for one in found(pa.string(), "DATETIME", is_text=True, conversion=lossy)]
    assert lossy not in names
    assert "text_naive_us" in names


def test_a_format_is_not_remembered_for_a_key():
    every = found(pa.string(), "DATETIME", is_text=True, conversion=GERMAN_DATE, is_key=True)
    assert GERMAN_DATE not in [one.conversion.name for one in every]


@pytest.mark.parametrize("remembered", ["text_naive_ns", "forced_naive_ns"])
def test_a_reading_finer_than_a_microsecond_is_not_remembered(remembered):
    every = found(pa.string(), "DATETIME", is_text=True, conversion=remembered, fixed_by="table")
    assert every[0].conversion.arrow_type != pa.timestamp("ns")


def test_the_reading_of_a_typed_source_does_not_matter_for_text():
    names = [one.conversion.name for one in found(pa.string(), "DATETIME", is_text=True, conversion="timestamp")]
    assert "timestamp" not in names


# --- Typed values


@pytest.mark.parametrize(
    ("arrow_type", "accepted"),
    [
        (
            pa.int32(),
            (
                "INTEGER",
                "FLOAT",
                "STRING",
            ),
        ),
        (
            pa.uint64(),
            (
                "INTEGER",
                "FLOAT",
                "STRING",
            ),
        ),
        (pa.float64(), ("FLOAT",)),
        (
            DECIMAL,
            (
                "FLOAT",
                "STRING",
            ),
        ),
        (
            pa.decimal128(20, 0),
            (
                "INTEGER",
                "FLOAT",
                "STRING",
            ),
        ),
        (pa.bool_(), ("BOOLEAN",)),
        (pa.timestamp("us"), ("DATETIME",)),
        (
            pa.date32(),
            (
                "DATETIME",
                "DATE",
            ),
        ),
        (pa.time64("us"), ("STRING",)),
        (pa.string(), ("STRING",)),
        (
            pa.null(),
            (
                "INTEGER",
                "FLOAT",
                "BOOLEAN",
                "STRING",
                "DATETIME",
                "DATE",
            ),
        ),
    ],
    ids=str,
)
def test_typed_values_join_only_columns_that_hold_them_exactly(arrow_type, accepted):
    fitting = {kind for kind in [*TEXT_TYPES, "DATE"] if found(arrow_type, kind, fixed_by="table")}
    assert fitting == set(accepted)
    for kind in fitting:
        assert types(arrow_type, kind, fixed_by="table") == [kind]


@pytest.mark.parametrize(
    ("arrow_type", "kind", "wider"),
    [
        (pa.int64(), "INTEGER", ["INTEGER", "STRING"]),
        (pa.int64(), "FLOAT", ["FLOAT", "STRING"]),
        (pa.int64(), "STRING", ["STRING", "INTEGER"]),
        (pa.int64(), "BOOLEAN", ["STRING"]),
        (DECIMAL, "INTEGER", ["FLOAT", "STRING"]),
        (DECIMAL, "FLOAT", ["FLOAT", "STRING"]),
        (pa.float64(), "INTEGER", ["FLOAT"]),
        (pa.float64(), "STRING", ["FLOAT"]),
        (pa.bool_(), "INTEGER", ["BOOLEAN"]),
        (pa.string(), "INTEGER", ["STRING"]),
        (pa.timestamp("us"), "STRING", ["DATETIME"]),
        (pa.date32(), "DATE", ["DATE", "DATETIME"]),
    ],
    ids=str,
)
def test_typed_values_in_a_replace(arrow_type, kind, wider):
    assert types(arrow_type, kind) == wider


@pytest.mark.parametrize("arrow_type", [pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.timestamp("us")], ids=str)
@pytest.mark.parametrize("kind", [*TEXT_TYPES, "DATE", "TIME"])
def test_a_typed_column_may_have_any_type_as_long_as_it_has_no_values(arrow_type, kind):
    every = found(arrow_type, kind, fixed_by="table") + found(arrow_type, kind, fixed_by="table", without_values=True)
    assert {one.type for one in every} == {kind}


def test_a_time_of_day_fits_no_known_time_column():
    assert found(pa.string(), "TIME", is_text=True, fixed_by="table") == []


@pytest.mark.parametrize("is_fixed", [False, True])
def test_a_requested_type_decides(is_fixed):
    assert types(
        pa.string(), "INTEGER", is_text=True, fixed_by="table" if is_fixed else "", requested=RequestedType("STRING")
    ) == ["STRING"]
    assert found(pa.bool_(), requested=RequestedType("FLOAT")) == []
    assert found(pa.list_(pa.int64())) == []
