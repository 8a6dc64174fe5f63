"""Numbers and dates in the formats that settings say."""

import datetime as dt

import pyarrow as pa
import pytest

from pushengine.schema.conversions import conversion_named, conversions_of, forced_conversions, key_conversions
from pushengine.schema.formats import DateFormat, ValueFormats

T = dt.datetime
GERMAN = ValueFormats(decimal=",", thousands=".", has_trailing_minus=True)


def dates(*formats, **options):
    return ValueFormats(date_formats=tuple(map(DateFormat.parse, formats)), **options)


def read(formats, *texts, find=conversions_of, **options):
    """Return the type and the values as the first conversion that fits reads them."""
    array = pa.array(texts, pa.string())
    for one in find(pa.string(), formats=formats, is_text=True, **options):
        if one.fits(array, one.arrow_type):
            values = one.read(array, one.arrow_type)
            values.validate(full=True)
            assert conversion_named(one.name).read(array, one.arrow_type) == values
            return one.type, values.to_pylist()
    return None


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1,5", "-0,25", ",5", "100", None], "FLOAT", [1.5, -0.25, 0.5, 100.0, None]),
        (["1.234,5", "1.234.567,00", "12", "1234,5"], "FLOAT", [1234.5, 1234567.0, 12.0, 1234.5]),
        (["1.000", "950", "-2.500"], "INTEGER", [1000, 950, -2500]),
        (["5-", "1.000-", "7"], "INTEGER", [-5, -1000, 7]),
        (["1,50-", "2,5"], "FLOAT", [-1.5, 2.5]),
        (["1,5E+03", "2,0e-1"], "FLOAT", [1500.0, 0.2]),
        (["1.00", "2"], "STRING", None),
        (["1.0000"], "STRING", None),
        (["1000.000"], "STRING", None),
        (["0.123"], "STRING", None),
        (["01.234"], "STRING", None),
        (["1.234,"], "STRING", None),
        (["1,234.5"], "STRING", None),
        (["1.234,5.6"], "STRING", None),
        (["-5-"], "STRING", None),
        (["-"], "STRING", None),
        (["--5"], "STRING", None),
        (["007,5"], "STRING", None),
        (["99.999.999.999.999,99"], "STRING", None),
        ([".000"], "STRING", None),
        (["1.000", "0x1F"], "STRING", None),
        (["true", "false"], "BOOLEAN", [True, False]),
        (["2024-01-31"], "DATETIME", [T(2024, 1, 31)]),
    ],
)
def test_numbers_with_a_decimal_comma_and_points_between_thousands(texts, kind, values):
    assert read(GERMAN, *texts) == (kind, texts if values is None else values)


def test_separators_need_not_be_points_and_commas():
    swiss = ValueFormats(thousands="'", has_trailing_minus=True)
    assert read(swiss, "1'234.5", "7") == ("FLOAT", [1234.5, 7.0])
    narrow = ValueFormats(decimal=",", thousands="\u202f", has_trailing_minus=True)
    assert read(narrow, "1\u202f234,5") == ("FLOAT", [1234.5])
    odd = ValueFormats(thousands=";", has_trailing_minus=True)
    assert read(odd, "1;234") == ("INTEGER", [1234])


def test_with_a_decimal_comma_a_point_is_no_decimal_sign():
    assert read(ValueFormats(decimal=",", has_trailing_minus=True), "1.5", "2,5")[0] == "STRING"


def test_a_requested_number_is_read_in_the_format_that_is_given():
    (forced,) = forced_conversions(pa.string(), "INTEGER", GERMAN)
    assert forced.read(pa.array(["007", "1.000", "5-"]), pa.int64()).to_pylist() == [7, 1000, -5]
    (forced,) = forced_conversions(pa.string(), "FLOAT", GERMAN)
    assert forced.read(pa.array(["1.000", "+1,5"]), pa.float64()).to_pylist() == [1000.0, 1.5]


@pytest.mark.parametrize(
    ("written", "texts", "values"),
    [
        ("dd.mm.yyyy", ["31.01.2024", None, "29.02.2024"], [T(2024, 1, 31), None, T(2024, 2, 29)]),
        ("yyyymmdd", ["20240131"], [T(2024, 1, 31)]),
        ("mm/dd/yyyy", ["01/02/2024"], [T(2024, 1, 2)]),
        ("dd/mm/yyyy", ["01/02/2024"], [T(2024, 2, 1)]),
        ("d.m.yyyy", ["1.2.2024", None, "11.12.2024"], [T(2024, 2, 1), None, T(2024, 12, 11)]),
        ("dd.mm.yyyy HH:MM:SS", ["31.01.2024 23:59:58"], [T(2024, 1, 31, 23, 59, 58)]),
        ("d/m/yyyy HH:MM", ["1/2/2024 07:05"], [T(2024, 2, 1, 7, 5)]),
        ("yyyymmddHHMMSS", ["20240131235958"], [T(2024, 1, 31, 23, 59, 58)]),
        ("dd.mm.yyyy HH:MM:SS,fff", ["31.01.2024 10:00:00,250"], [T(2024, 1, 31, 10, 0, 0, 250000)]),
        ("d.m.yyyy HH:MM:SS.f", ["1.2.2024 10:00:00.5"], [T(2024, 2, 1, 10, 0, 0, 500000)]),
        ("yyyy年mm月dd日", ["2024年01月31日"], [T(2024, 1, 31)]),
    ],
)
def test_dates_in_a_format(written, texts, values):
    assert read(dates(written), *texts) == ("DATETIME", values)
    assert read(dates(written), *texts, find=key_conversions) == ("DATETIME", values)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("dd.mm.yyyy", "31.02.2024"),
        ("dd.mm.yyyy", "1.2.2024"),
        ("dd.mm.yyyy", "01.02.24"),
        ("dd.mm.yyyy", "01/02/2024"),
        ("dd.mm.yyyy", "01.02.1399"),
        ("dd.mm.yyyy", "0x.02.2024"),
        ("dd.mm.yyyy", " 1.02.2024"),
        ("dd.mm.yyyy", "01.02.2024 00:00"),
        ("dd.mm.yyyy", "01.é.2024"),
        ("d.m.yyyy", "01.02.2024"),
        ("d.m.yyyy", "0.1.2024"),
        ("d.m.yyyy", "32.1.2024"),
        ("dd.mm.yyyy HH:MM", "01.02.2024 24:00"),
        ("dd.mm.yyyy HH:MM", "01.02.2024"),
    ],
)
def test_what_is_no_date_in_the_format_stays_text(written, text):
    assert read(dates(written), text) == ("STRING", [text])


def test_a_column_has_one_of_several_formats_and_iso_is_one_of_them():
    both = dates("dd.mm.yyyy", "yyyymmdd")
    assert read(both, "31.01.2024")[0] == read(both, "20240131")[0] == read(both, "2024-01-31")[0] == "DATETIME"
    assert read(both, "31.01.2024", "20240131")[0] == "STRING"
    assert read(both, "31.01.2024", "2024-01-31")[0] == "STRING"


def test_compact_dates_are_dates_only_if_all_are():
    assert read(dates("yyyymmdd"), "20240131", "20240230") == ("INTEGER", [20240131, 20240230])
    assert read(ValueFormats(), "20240131") == ("INTEGER", [20240131])


@pytest.mark.parametrize(
    ("written", "text", "zero"),
    [
        ("yyyymmdd", "20240131", "00000000"),
        ("dd.mm.yyyy", "31.01.2024", "00.00.0000"),
        ("dd.mm.yyyy", "31.01.2024", "00000000"),
        ("dd.mm.yyyy HH:MM", "31.01.2024 00:00", "00.00.0000 00:00"),
        ("d.m.yyyy", "31.1.2024", "00.00.0000"),
        ("d.m.yyyy", "31.1.2024", "0.0.0000"),
        ("", "2024-01-31", "0000-00-00"),
        ("", "2024-01-31 00:00:00", "0000-00-00 00:00:00"),
        ("", "2024-01-31T00:00:00", "0000-00-00T00:00:00"),
    ],
)
def test_a_date_of_zeros_is_null_if_a_setting_says_so(written, text, zero):
    formats = dates(*([written] if written else []), zero_date_null=True)
    assert read(formats, text, zero) == ("DATETIME", [T(2024, 1, 31), None])
    assert read(dates(*([written] if written else [])), text, zero)[0] == "STRING"
    assert read(formats, text, zero, find=key_conversions) == ("STRING", [text, zero])


def test_zeros_are_null_in_dates_only():
    assert read(dates("yyyymmdd", zero_date_null=True), "00000000", "12") == ("STRING", ["00000000", "12"])


def test_digits_beyond_microseconds_are_cut_if_a_setting_says_so():
    cut = ValueFormats(cuts_subseconds=True)
    values = [T(2024, 1, 1, 10, 0, 0, 123456), T(2024, 1, 1, 10)]
    assert read(cut, "2024-01-01 10:00:00.1234567", "2024-01-01 10:00:00") == ("DATETIME", values)
    assert read(cut, "2024-01-01T11:00:00.123456789+01:00", "2024-01-01T10:00:00Z") == ("DATETIME", values)
    fine = ("2024-01-01 10:00:00.1234567", "2024-01-01 10:00:00.1234561")
    assert read(cut, *fine, find=key_conversions) == ("STRING", list(fine))


def test_a_key_is_never_a_number_of_two_spellings():
    assert read(GERMAN, "1.000", "1000", find=key_conversions)[0] == "STRING"
    assert read(GERMAN, "5-", "-5", find=key_conversions)[0] == "STRING"
    assert read(GERMAN, "5", "-5", find=key_conversions)[0] == "INTEGER"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "text_float@",
            "text_float@x",
            "nothing@decimal=,",
            "text_date@format=xyz",
            "text_date@format=",
            "@decimal=,",
            "@",
        ),
        "",
    ],
)
def test_a_name_of_no_conversion_is_none(name):
    found = conversion_named(name)
    assert found is None or "@" not in found.name


@pytest.mark.parametrize(
    "name", ["text_naive_ns", "text_utc_ns", "forced_naive_ns", "key_t_7", "text_float", "text_date"]
)
def test_conversions_that_earlier_journals_name_are_still_there(name):
    found = conversion_named(name)
    text = "2024-01-01T10:00:00.1234567" + ("Z" if "utc" in name else "")
    if "ns" in name or name == "key_t_7":
        assert found.read(pa.array([text]), pa.timestamp("ns"))[0].value % 10**9 == 123456700
    else:
        assert found is not None


def test_a_slice_with_nulls_is_read_as_its_values():
    formats = dates("dd.mm.yyyy")
    (first, *_) = conversions_of(pa.string(), is_text=True, formats=formats)
    whole = pa.array(
        [None, "01.01.2024", None, "02.01.2024", None, None, "03.01.2024", "04.01.2024", None, "05.01.2024"]
    )
    for start in range(len(whole)):
        part = whole.slice(start, 7)
        expected = [None if text is None else T(2024, 1, int(text[:2])) for text in part.to_pylist()]
        assert first.read(part, pa.timestamp("ms")).to_pylist() == expected
