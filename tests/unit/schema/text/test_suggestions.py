"""Settings that are named where a column would be numbers or dates under them, and only there."""

import pyarrow as pa
import pytest
from support.schemas import inference_of

from pushengine.interfaces import SourceBatch
from pushengine.schema.formats import DateFormat, ValueFormats
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.text.suggestions import flags_for


def notes_of(*batches, known=None, **rules):
    """Return the notes on a column X of a text file that is read in these batches."""
    inference = inference_of(
        pa.schema([("X", pa.string())]),
        is_text=True,
        known=None if known is None else KnownTable("T", (KnownColumn("X", *known),)),
        **rules,
    )
    for texts in batches:
        inference.observe(SourceBatch(pa.RecordBatch.from_pydict({"X": pa.array(texts, pa.string())}), "f.csv", 0))
    return inference.infer().notes


@pytest.mark.parametrize(
    ("texts", "note"),
    [
        (["100,00", "5"], "X looks like numbers with a decimal comma: --decimal ,"),
        (
            ["100,00", "1.050,25"],
            "X looks like numbers with a decimal comma and points between thousands: --decimal , --thousands .",
        ),
        (
            ["1.234.567"],
            "X looks like numbers with a decimal comma and points between thousands: --decimal , --thousands .",
        ),
        (["1,234.50", "5"], "X looks like numbers with commas between thousands: --thousands ,"),
        (
            ["1,000", "2"],
            "X looks like numbers with a decimal comma or numbers with commas between thousands: --decimal , or --thousands ,",
        ),
        (["1.50-", "5.00"], "X looks like numbers with a minus after them: --decimal ."),
        (["31.01.2024", None], "X looks like dd.mm.yyyy: --date-format dd.mm.yyyy"),
        (["1.2.2024"], "X looks like d.m.yyyy: --date-format d.m.yyyy"),
        (["01/31/2024"], "X looks like mm/dd/yyyy: --date-format mm/dd/yyyy"),
        (
            ["01/02/2024"],
            "X looks like dd/mm/yyyy or mm/dd/yyyy: --date-format dd/mm/yyyy or --date-format mm/dd/yyyy",
        ),
        (["31.01.2024 10:00:00"], "X looks like dd.mm.yyyy HH:MM:SS: --date-format 'dd.mm.yyyy HH:MM:SS'"),
        (
            ["20240131", "00000000"],
            "X looks like yyyymmdd but for dates of zeros: --date-format yyyymmdd --zero-date-null",
        ),
        (["2024-01-31", "0000-00-00"], "X is DATETIME but for dates of zeros: --zero-date-null"),
        (["5", "N/A"], "X is INTEGER but for 'N/A': --null N/A"),
        (["5.5", "NULL", "-"], "X is FLOAT but for 'NULL', '-': --null NULL,-"),
        (["true", "\\N"], "X is BOOLEAN but for '\\\\N': --null '\\N'"),
        (["100,00", "NULL"], "X looks like numbers with a decimal comma but for 'NULL': --decimal , --null NULL"),
        (
            ["1.000", "2.500", "950"],
            "X may have points between thousands, or decimal points (1.000 next to 950), and stays STRING: {flags}".format(
                flags="--decimal , --thousands . or --decimal ."
            ),
        ),
    ],
)
def test_a_setting_that_is_missing_is_named(texts, note):
    assert notes_of(texts) == (note,)
    assert notes_of([None], texts) == (note,)
    assert notes_of(texts, texts) == (note,)
    assert notes_of(texts, ["some", "text"]) == ()


@pytest.mark.parametrize(
    "texts",
    [
        ["5"],
        ["1.5", "2.25"],
        ["1.000", "2.000"],
        ["0.500", "950"],
        ["1.125", "1.5", "950"],
        ["2024-01-31"],
        ["20240131"],
        ["007", "008"],
        ["a", "b"],
        ["NULL", "N/A"],
        ["-"],
        ["00000000"],
        ["31.02.2024"],
        ["1E-02", "NULL"],
        ["99999999999999.99"],
        ["1.2.3"],
        [None],
        ["", ""],
        ["31.01.2024", "2024-01-31"],
        ["31.01.2024", "01/31/2024"],
    ],
)
def test_nothing_is_named_where_no_setting_helps_or_none_is_needed(texts):
    assert notes_of(texts) == ()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["5"], ["1,5"], "--decimal ,"),
        (["1.5"], ["1,5"], None),
        (["1.5"], ["1,234.5"], "--thousands ,"),
        (["5"], ["N/A"], "--null N/A"),
        (["1.5", "7"], ["N/A"], "--null N/A"),
        (["2024-01-31"], ["0000-00-00"], "--zero-date-null"),
        (["2024-01-31"], ["31.01.2024"], None),
        (["31.01.2024"], ["x"], None),
    ],
)
def test_the_values_before_the_first_text_count_too(first, second, expected):
    found = notes_of(first, second)
    assert found == () if expected is None else found[0].endswith(f": {expected}")


def test_what_the_setting_says_is_not_named_again():
    assert notes_of(["1.000", "950"], formats=ValueFormats(has_trailing_minus=True)) == ()
    assert notes_of(["100,00"], formats=ValueFormats(decimal=",", has_trailing_minus=True)) == ()


def test_a_key_is_never_suggested_to_lose_what_is_written():
    keys = {"keys": ["X"]}
    assert notes_of(["1,5"], **keys) == ()
    assert notes_of(["5", "N/A"], **keys) == ()
    assert notes_of(["20240131", "00000000"], **keys) == ()
    assert notes_of(["31.01.2024"], **keys) == ("X looks like dd.mm.yyyy: --date-format dd.mm.yyyy",)


@pytest.mark.parametrize(
    ("known", "texts", "note"),
    [
        (
            ("STRING", 255),
            ["31.01.2024"],
            "X looks like DATETIME, but stays STRING as in the table: --column X=DATETIME",
        ),
        (("INTEGER",), ["20240131"], "X looks like DATETIME, but stays INTEGER as in the table: --column X=DATETIME"),
        (("STRING", 255), ["some text"], None),
        (("DATETIME", None, "text_date"), ["31.01.2024"], None),
    ],
)
def test_a_format_that_the_type_of_the_table_keeps_out_is_named(known, texts, note):
    formats = ValueFormats(date_formats=(DateFormat.parse("dd.mm.yyyy"), DateFormat.parse("yyyymmdd")))
    assert notes_of(texts, known=known, formats=formats) == (() if note is None else (note,))
    assert notes_of(texts, known=known) == () or known[0] != "STRING"


def test_a_format_for_a_column_that_is_not_there_is_named():
    formats = ValueFormats(column_date_formats={"Y": (DateFormat.parse("dd.mm.yyyy"),)})
    assert notes_of(["5"], formats=formats) == ("there is no column Y, for which a date format is given",)


@pytest.mark.parametrize(
    ("text", "kind", "flags"),
    [
        ("100,00", "FLOAT", "--decimal ,"),
        ("100,00", "INTEGER", ""),
        ("1.000", "INTEGER", "--decimal , --thousands ."),
        ("5-", "FLOAT", "--decimal ."),
        ("31.01.2024", "DATETIME", "--date-format dd.mm.yyyy"),
        ("31.01.2024", "DATE", "--date-format dd.mm.yyyy"),
        ("2024-01-01 10:00:00.1234567", "DATETIME", "--subsecond cut"),
        ("2024-01-01 10:00:00", "DATETIME", ""),
        ("N/A", "INTEGER", ""),
        ("x", "FLOAT", ""),
    ],
)
def test_the_flags_under_which_a_value_fits_a_type(text, kind, flags):
    assert flags_for(pa.array([text]), kind) == flags
    assert flags_for(pa.array([5]), kind) == ""
