"""Formats of dates, as users write them."""

import pytest

from pushengine.schema.formats import DateFormat, ValueFormats


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dd.mm.yyyy", "dd.mm.yyyy"),
        ("DD.MM.YYYY", "dd.mm.yyyy"),
        ("%d.%m.%Y", "dd.mm.yyyy"),
        ("yyyymmdd", "yyyymmdd"),
        ("%Y%m%d", "yyyymmdd"),
        ("d.m.yyyy", "d.m.yyyy"),
        ("%-d/%-m/%Y", "d/m/yyyy"),
        ("dd/mm/yyyy HH:MM:SS", "dd/mm/yyyy HH:MM:SS"),
        ("dd/MM/yyyy HH:mm:ss", "dd/mm/yyyy HH:MM:SS"),
        ("DD.MM.YYYY HH24:MI:SS", "dd.mm.yyyy HH:MM:SS"),
        ("%d/%m/%Y %H:%M:%S", "dd/mm/yyyy HH:MM:SS"),
        ("%d/%m/%Y %T", "dd/mm/yyyy HH:MM:SS"),
        ("yyyymmddHHMMSS", "yyyymmddHHMMSS"),
        ("yyyy-mm-ddTHH:MM", "yyyy-mm-ddTHH:MM"),
        ("mm/dd/yyyy HH:MM:SS.fff", "mm/dd/yyyy HH:MM:SS.fff"),
        ("%Y-%m-%d %H:%M:%S,%f", "yyyy-mm-dd HH:MM:SS,ffffff"),
    ],
)
def test_a_format_has_one_name_however_it_is_written(text, name):
    found = DateFormat.parse(text)
    assert found.name == name
    assert DateFormat.parse(name).name == name
    assert found.has_time == ("HH" in name)


@pytest.mark.parametrize(
    "text",
    [
        *("", "dd.mm", "mm.yyyy", "dd.mm.yy", "%d.%m.%y", "dd.mmm.yyyy", "dd.dd.mm.yyyy", "HH:MM:SS", "dd.mm.yyyy MM"),
        *(
            "dd.mm.yyyy HH",
            "dd.mm.yyyy MM:HH",
            "dd.mm.yyyy HH:MM:SS AM",
            "%d.%b.%Y",
            "dmyyyy",
            "day.mm.yyyy",
            "%%d.mm.yyyy",
        ),
        *("dd.mm.yyyy %z", "\\dd.mm.yyyy"),
    ],
)
def test_a_format_without_a_clear_day_is_refused(text):
    with pytest.raises(ValueError, match="is no date format: write it like"):
        DateFormat.parse(text)


@pytest.mark.parametrize(
    ("text", "zero"),
    [
        ("dd.mm.yyyy", "00.00.0000"),
        ("yyyymmddHHMMSS", "0" * 14),
        ("d.m.yyyy", "0.0.0000"),
        ("yyyy-mm-dd HH:MM", "0000-00-00 00:00"),
    ],
)
def test_a_date_of_zeros_has_the_form_of_the_format(text, zero):
    assert DateFormat.parse(text).zero == zero


def test_the_formats_of_a_column_are_its_own_if_it_has_some():
    german, compact = DateFormat.parse("dd.mm.yyyy"), DateFormat.parse("yyyymmdd")
    formats = ValueFormats(date_formats=(german,), column_date_formats={"ERDAT": (compact,)})
    assert formats.for_column("ERDAT").date_formats == (compact,)
    assert formats.for_column("CREATED", "ERDAT").date_formats == (compact,)
    assert formats.for_column("AEDAT").date_formats == (german,)
    assert hash(formats.for_column("ERDAT")) == hash(formats.for_column("ERDAT"))
