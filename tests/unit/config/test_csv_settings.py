"""Settings of text files: presets, what wins over what, the earlier names, and values that cannot be."""

import pytest
from pydantic import ValidationError

from pushengine.config.csv_settings import CsvSettings
from pushengine.config.load import Flags, load_config
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError
from pushengine.schema.formats import DateFormat


def test_nothing_is_given_by_default():
    assert CsvSettings().given() == {}
    assert CsvSettings().filled() == CsvSettings()
    assert (CsvSettings().quote_character, CsvSettings().has_header) == ('"', True)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({"dialect": "hive"}, {"delimiter": "\x01", "quote": "", "null": ("\\N",)}),
        ({"dialect": "hive", "delimiter": ";", "null": "x"}, {"delimiter": ";", "quote": "", "null": ("x",)}),
        (
            {"dialect": "sap-list", "locale": "sap"},
            {"delimiter": "|", "trim": True, "decimal": ".", "zero_date_null": True},
        ),
        ({"locale": "de"}, {"decimal": ",", "thousands": ".", "date_format": ("dd.mm.yyyy",)}),
        ({"locale": "de", "thousands": " "}, {"decimal": ",", "thousands": " "}),
    ],
    ids=str,
)
def test_a_preset_stands_for_settings_that_are_not_given(given, filled):
    settings = CsvSettings(**given).filled()
    assert {name: getattr(settings, name) for name in filled} == filled


@pytest.mark.parametrize(
    ("text", "delimiter"), [("\\t", "\t"), ("tab", "\t"), ("\\x01", "\x01"), ("@@", "@@"), ("§", "§"), ("space", " ")]
)
def test_a_delimiter_may_be_written_as_an_escape(text, delimiter):
    assert CsvSettings(delimiter=text).delimiter == delimiter


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delimiter": '"'}, "none of them a quote"),
        ({"delimiter": "'", "quote": "'"}, "should differ"),
        ({"delimiter": "|'|", "quote": "'"}, "should not contain the quote"),
        ({"delimiter": "|^|", "escape": "^"}, "should not contain the quote or escape"),
        ({"quote": "''"}, "one character"),
        ({"quote": "x"}, "no letter"),
        ({"escape": "§"}, "ASCII"),
        ({"decimal": ",", "thousands": ","}, "should differ"),
        ({"thousands": "."}, "should differ"),
        ({"encoding": "klingon"}, "known character encoding"),
        ({"encoding": "idna"}, "known character encoding"),
        ({"encoding": "punycode"}, "known character encoding"),
        ({"skip_lines": -1}, "greater than or equal to 0"),
        ({"comment": ""}, "empty"),
        ({"comment": '"x'}, "comment should not begin with the quote"),
        ({"names": ["A", ""]}, "empty"),
        ({"date_format": "yyyy"}, "is no date format"),
        ({"date_format": "COL=mm.dd"}, "is no date format"),
        ({"dialect": "lotus"}, "sap-list"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        CsvSettings(**given)


def test_the_word_none_means_that_there_are_no_quotes():
    assert CsvSettings(quote="none") == CsvSettings(quote="")
    assert CsvSettings(quote="none").quote_character == ""


def test_names_mean_that_there_is_no_header_line():
    assert not CsvSettings(names="A").has_header
    assert CsvSettings(names="A", header=True).has_header
    assert not CsvSettings(header=False).has_header


def test_the_formats_of_values():
    formats = CsvSettings(date_format=["dd.mm.yyyy", "AEDAT=yyyymmdd", "AEDAT=%Y-%m-%d"], locale="de").formats()
    assert (formats.decimal, formats.thousands, formats.has_trailing_minus) == (",", ".", True)
    assert formats.date_formats == (DateFormat.parse("dd.mm.yyyy"),)
    assert [one.text for one in formats.column_date_formats["AEDAT"]] == ["yyyymmdd", "%Y-%m-%d"]
    assert not CsvSettings().formats().has_trailing_minus


# --- Of a push, and of the config file


def test_a_push_overrides_single_settings():
    engine = EngineSettings(csv=CsvSettings(delimiter=";", encoding="cp1252"))
    csv = engine.with_overrides({"delimiter": "|", "max_drop": 0.5}).csv
    assert csv == CsvSettings(delimiter="|", encoding="cp1252")
    assert engine.with_overrides({"delimiter": None}).csv == CsvSettings(encoding="cp1252")


def test_a_preset_of_a_push_wins_over_the_settings_of_the_engine():
    engine = EngineSettings(csv=CsvSettings(delimiter=";", encoding="cp1252", decimal=","))
    csv = engine.with_overrides({"dialect": "sap-list", "locale": "sap"}).csv.filled()
    assert (csv.delimiter, csv.encoding, csv.decimal) == ("|", "cp1252", ".")


def test_a_bad_setting_of_a_push_is_named():
    with pytest.raises(ConfigError, match="delimiter") as caught:
        EngineSettings().with_overrides({"delimiter": '"'})
    assert caught.value.key == "delimiter"


def test_the_csv_table_of_a_config_file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[csv]\ndelimiter = ";"\nnull = "N/A"\nnames = ["A", "B"]\n[engine]\nmin_rows = 5\n')
    csv = load_config(Flags(config=path), {}).engine.csv
    assert csv == CsvSettings(delimiter=";", null=("N/A",), names=("A", "B"))


def test_the_earlier_names_still_work(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[engine]\ncsv_delimiter = ";"\ncsv_encoding = "cp1252"\n[csv]\nencoding = "utf-16"\n')
    assert load_config(Flags(config=path), {}).engine.csv == CsvSettings(delimiter=";", encoding="utf-16")
    assert EngineSettings(csv_delimiter="|").csv == CsvSettings(delimiter="|")


def test_an_unknown_key_of_the_csv_table_is_named(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[csv]\ndelimeter = ";"\n')
    with pytest.raises(ConfigError, match=r"unknown key csv.delimeter \(did you mean delimiter\?\)"):
        load_config(Flags(config=path), {})
