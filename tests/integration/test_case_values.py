"""Small inputs after public reports of numbers, dates and words that came out changed or stayed text (`cases/`), through the command line."""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

APPEND = ("--mode", "append")
T = dt.datetime


def column_notes(cli, source, *words):
    """Return the notes of `plan` on columns."""
    done = cli.run("plan", source, "--table", "T", "--emulator", "out.duckdb", "--json", *words)
    assert done.code == 0, done.err
    return [note for note in done.json["notes"] if ": --" in note]


# --- amount-16-digits


def test_amounts_whose_digits_a_double_does_not_hold_are_kept_as_text(case):
    cli = case("amount-16-digits")
    cli.loaded("input.csv")
    assert cli.rows(columns="WRBTR", order="BELNR") == [("99999999999999.99",), ("90071992547409.93",), ("1.00",)]
    refused = cli.refused("input.csv", "--column", "WRBTR=FLOAT")
    assert "input.csv, row 1 (line 2), column WRBTR: '99999999999999.99'" in refused.error
    assert "its 16 significant digits do not survive" in refused.error
    assert "declare the column STRING" in refused.hint


def test_digits_that_come_after_the_sample_count_too(cli):
    rows = "".join(f"{number},1.25\n" for number in range(40_000))
    cli.write("big.csv", f"N,X\n{rows}40000,90071992547409.93\n")
    (cli.folder / "c.toml").write_text("[engine]\nsample_bytes = 65536\n")
    done = cli.loaded("big.csv", "--config", "c.toml")
    assert done["rows"] == 40_001
    assert cli.rows(columns="X", order="N DESC")[0] == ("90071992547409.93",)


def test_decimals_of_parquet_follow_the_same_rule(cli):
    numbers = pa.array(["99999999999999.99", "1.00"]).cast(pa.decimal128(18, 2))
    pq.write_table(pa.table({"X": numbers}), cli.folder / "1.parquet")
    cli.loaded("1.parquet")
    assert cli.rows() == [("1.00",), ("99999999999999.99",)]


# --- bin-location-1E-02


def test_bin_locations_are_text_where_no_value_has_a_point(case):
    cli = case("bin-location-1E-02")
    cli.loaded("input.csv")
    assert cli.rows() == [("1E-02", 5), ("1E-03", 9), ("2E-03", 7)]
    cli.loaded(cli.write("2.csv", "X\n12E4\n1E-02\n0.5\n"), table="U")
    assert cli.rows("U") == [(0.01,), (0.5,), (120000.0,)]
    cli.loaded("input.csv", "--column", "LGPLA=FLOAT", table="V")
    assert cli.rows("V") == [(0.001, 9), (0.002, 7), (0.01, 5)]


def test_a_bin_location_after_the_sample_does_not_become_a_number(cli):
    rows = "".join(f"{number}\n" for number in range(40_000))
    cli.write("big.csv", f"X\n{rows}1E-02\n")
    (cli.folder / "c.toml").write_text("[engine]\nsample_bytes = 65536\n")
    cli.loaded("big.csv", "--config", "c.toml")
    assert cli.query("SELECT X FROM T WHERE X LIKE '%E%'") == [("1E-02",)]


# --- decimal-comma


def test_a_decimal_comma_is_refused_as_a_number_with_the_flags_that_read_it(case):
    cli = case("decimal-comma")
    refused = cli.refused("input.csv", "--column", "DMBTR=FLOAT")
    assert "not a number with a point as decimal sign" in refused.error
    cli.loaded("input.csv", "--column", "DMBTR=FLOAT", *refused.suggestion("--decimal"))
    assert cli.rows() == [(1, 100.0), (2, 1050.25)]


def test_a_decimal_comma_stays_text_and_the_note_names_the_flags(case):
    cli = case("decimal-comma")
    note = "DMBTR looks like numbers with a decimal comma and points between thousands: --decimal , --thousands ."
    assert note in column_notes(cli, "input.csv")
    assert note in cli.loaded("input.csv")["notes"]
    assert cli.rows() == [(1, "100,00"), (2, "1.050,25")]
    cli.loaded("input.csv", "--decimal", ",", "--thousands", ".", table="U")
    cli.loaded("input.csv", "--locale", "de", table="V")
    assert cli.rows("U") == cli.rows("V") == [(1, 100.0), (2, 1050.25)]


def test_the_format_of_a_table_is_remembered_until_another_is_given(case):
    cli = case("decimal-comma")
    cli.loaded("input.csv", "--locale", "de")
    delta = cli.write("2.csv", "BELNR;DMBTR\n3;1.000\n4;7,5-\n")
    cli.loaded(delta, *APPEND)
    assert cli.rows() == [(1, 100.0), (2, 1050.25), (3, 1000.0), (4, -7.5)]
    refused = cli.refused(delta, *APPEND, "--decimal", ".")
    assert "'7,5-'" in refused.error


@pytest.mark.parametrize("mode", [APPEND, ("--mode", "upsert", "--key", "BELNR")])
def test_a_delta_in_another_format_is_refused_with_the_flag_that_reads_it(cli, mode):
    cli.loaded(cli.write("1.csv", "BELNR;DMBTR;ERDAT;QTY\n1;1.5;2024-01-31;5\n"))
    for number, column, value, flags in [
        (2, "DMBTR", "1.234,50;2024-02-01;5", ("--decimal", ",", "--thousands", ".")),
        (3, "ERDAT", "2.5;01.02.2024;5", ("--date-format", "dd.mm.yyyy")),
        (4, "QTY", "2.5;2024-02-01;N/A\n5;2.5;2024-02-01;7", ("--null", "N/A")),
    ]:
        delta = cli.write(f"{number}.csv", f"BELNR;DMBTR;ERDAT;QTY\n{number};{value}\n")
        refused = cli.refused(delta, *mode)
        assert f"column {column}" in refused.error
        assert list(flags) in refused.suggestions
        cli.loaded(delta, *mode, *flags)
    first, day = T(2024, 1, 31), T(2024, 2, 1)
    assert cli.rows() == [
        (1, 1.5, first, 5),
        (2, 1234.5, day, 5),
        (3, 2.5, day, 5),
        (4, 2.5, day, None),
        (5, 2.5, day, 7),
    ]


# --- german-thousands-dot


def test_a_point_that_may_stand_between_thousands_is_kept_and_told(case):
    cli = case("german-thousands-dot")
    (note,) = column_notes(cli, "input.csv")
    assert note.startswith("LABST may have points between thousands, or decimal points")
    assert cli.loaded("input.csv")["notes"] == [note]
    assert cli.rows(columns="LABST") == [("1.000",), ("2.500",), ("950",)]
    cli.loaded("input.csv", "--decimal", ",", "--thousands", ".", table="U")
    assert cli.rows("U", columns="LABST") == [(950,), (1000,), (2500,)]
    cli.loaded("input.csv", "--decimal", ".", table="V")
    assert cli.rows("V", columns="LABST") == [(1.0,), (2.5,), (950.0,)]


# --- ts-datetime2-7-digits


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
@pytest.mark.parametrize("timestamps", ["INT96", "INT64"])
def test_times_finer_than_a_microsecond_are_refused_cut_or_kept_as_text(case, file_type, timestamps):
    cli = case("ts-datetime2-7-digits")
    assert 'timestamps = "INT64"' in (cli.folder / "config.toml").read_text()
    (cli.folder / "config.toml").write_text(f'[engine]\ntimestamps = "{timestamps}"\nfile_type = "{file_type}"\n')
    cli.switch(accepts_int64_timestamps=True)
    config = ("--config", "config.toml")
    refused = cli.refused("input.csv", *config)
    assert "input.csv, row 1 (line 2), column TS: '2024-01-01 10:00:00.1234567'" in refused.error
    assert "finer than a microsecond" in refused.error
    cut, text = refused.suggestions
    cli.loaded("input.csv", *config, *cut)
    at = T(2024, 1, 1, 10)
    assert cli.rows() == [(1, at.replace(microsecond=123456)), (2, at.replace(microsecond=123456)), (3, at)]
    cli.loaded("input.csv", *config, *text, table="U")
    assert [row[1][-7:] for row in cli.rows("U")] == ["1234567", "1234561", "0000009"]


@pytest.mark.parametrize("cut", [(), ("--subsecond", "cut")])
def test_keys_that_differ_in_the_seventh_digit_stay_two(case, cut):
    cli = case("ts-datetime2-7-digits")
    cli.loaded("input.csv", "--mode", "upsert", "--key", "TS", *cut)
    assert len(cli.rows()) == 3
    assert cli.types()["TS"] == "VARCHAR(255)"


def test_zeros_after_the_sixth_digit_are_no_loss(cli):
    cli.loaded(cli.write("1.csv", "TS\n2024-01-01 10:00:00.1234560\n2024-01-01 10:00:00.500000000\n"))
    assert cli.rows() == [(T(2024, 1, 1, 10, 0, 0, 123456),), (T(2024, 1, 1, 10, 0, 0, 500000),)]


def test_a_time_after_the_sample_is_refused_with_its_line(cli):
    rows = "2024-01-01 10:00:00.123456\n" * 40_000
    cli.write("big.csv", f"TS\n{rows}2024-01-01 10:00:00.1234567\n")
    (cli.folder / "c.toml").write_text("[engine]\nsample_bytes = 65536\n")
    refused = cli.refused("big.csv", "--config", "c.toml")
    assert "row 40001 (line 40002), column TS" in refused.error
    cli.loaded("big.csv", "--config", "c.toml", *refused.suggestion("--subsecond"))
    assert cli.query("SELECT count(*), count(DISTINCT TS) FROM T") == [(40001, 1)]


# --- Dates and words


def test_dates_of_sap_in_a_delta_and_in_a_replace(cli):
    first = cli.write("1.csv", "VBELN;ERDAT;NETWR\n0001;20240131;10.50-\n0002;00000000;3.00\n")
    cli.loaded(first, "--locale", "sap")
    assert cli.rows() == [("0001", T(2024, 1, 31), -10.5), ("0002", None, 3.0)]
    cli.loaded(cli.write("2.csv", "VBELN;ERDAT;NETWR\n0003;00000000;1.00\n"), "--locale", "sap", *APPEND)
    assert cli.rows()[2] == ("0003", None, 1.0)
    cli.loaded(first, "--locale", "sap")
    assert cli.rows() == [("0001", T(2024, 1, 31), -10.5), ("0002", None, 3.0)]


def test_a_format_for_one_column_and_keys_in_a_format(cli):
    source = cli.write("1.csv", "DAY;OTHER\n31.01.2024;20240131\n01.02.2024;20240201\n")
    words = ("--date-format", "DAY=dd.mm.yyyy", "--mode", "upsert", "--key", "DAY")
    cli.loaded(source, *words)
    assert cli.rows() == [(T(2024, 1, 31), 20240131), (T(2024, 2, 1), 20240201)]
    cli.loaded(cli.write("2.csv", "DAY;OTHER\n01.02.2024;7\n"), *words)
    assert cli.rows() == [(T(2024, 1, 31), 20240131), (T(2024, 2, 1), 7)]
    refused = cli.refused(cli.write("3.csv", "DAY;OTHER\n1.2.2024;7\n"), *words)
    assert "'1.2.2024'" in refused.error


def test_each_setting_that_plan_names_gives_the_column_its_type(cli):
    source = cli.write("1.csv", "ID;A;B;C;D;E\n1;1,5;31.01.2024;N/A;00000000;5-\n2;2;01.02.2024;7;20240131;3\n")
    notes = column_notes(cli, source)
    assert [note.partition(" ")[0] for note in notes] == ["A", "B", "C", "D", "E"]
    dates = ("--date-format", "dd.mm.yyyy", "--date-format", "yyyymmdd", "--zero-date-null")
    words = ("--decimal", ",", "--null", "N/A", *dates)
    assert column_notes(cli, source, *words) == []
    cli.loaded(source, *words)
    assert cli.rows() == [
        (1, 1.5, T(2024, 1, 31), None, None, -5),
        (2, 2.0, T(2024, 2, 1), 7, T(2024, 1, 31), 3),
    ]
