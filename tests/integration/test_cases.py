"""Small inputs after public reports of values and rows that were lost in silence (`cases/`), and their neighbours, through the command line.

Every refusal comes before the submit and names a flag; the tests read the flag from the hint and run it.
"""

import datetime as dt

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

APPEND = ("--mode", "append")


def upsert(*keys):
    return ("--mode", "upsert", *(word for key in keys for word in ("--key", key)))


# --- drift-append-empty-column


def test_an_empty_column_takes_the_type_of_the_table(case):
    cli = case("drift-append-empty-column")
    cli.loaded("input.1.csv")
    assert cli.loaded("input.2.csv", *APPEND)["schema_changes"] == []
    assert cli.types() == {"ID": "BIGINT", "AMT": "DOUBLE", "DAY": "TIMESTAMP"}
    assert cli.rows() == [(1, 10.5, dt.datetime(2024, 1, 31)), (2, None, None)]


@pytest.mark.parametrize("mode", [APPEND, upsert("ID"), ("--mode", "replace")])
@pytest.mark.parametrize("is_typed", [False, True])
def test_a_column_without_values_fits_every_type_in_every_mode(cli, mode, is_typed):
    cli.loaded(cli.write("1.csv", "ID,I,F,B,D,Z,S\n1,1,1.5,true,2024-01-31,2024-01-31T10:00:00Z,x\n"))
    types = cli.types()
    if is_typed:
        source = "2.parquet"
        nulls = {name: pa.nulls(1) for name in "IFBDZS"}
        pq.write_table(pa.table({"ID": [2]} | nulls), cli.folder / source)
    else:
        source = cli.write("2.csv", "ID,I,F,B,D,Z,S\n2,,,,,,\n")
    cli.loaded(source, *mode)
    assert cli.types() == types
    assert cli.rows(order="ID DESC")[0] == (2, *[None] * 6)
    assert len(cli.rows()) == (1 if "replace" in mode else 2)


# --- drift-append-float-then-bigint


def test_an_integer_that_a_float_column_cannot_hold_is_refused(case):
    cli = case("drift-append-float-then-bigint")
    cli.loaded("input.1.csv")
    refused = cli.refused("input.2.csv", *APPEND)
    assert "input.2.csv, row 1 (line 2), column QTY" in refused.error
    assert "'9007199254740993'" in refused.error
    cli.loaded("input.2.csv", *refused.suggestion("--column"))
    assert cli.rows() == [(2, "9007199254740993")]


@pytest.mark.parametrize("mode", [APPEND, upsert("ID")])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("is_typed", [False, True])
def test_integers_join_a_float_column_up_to_the_last_that_it_holds_exactly(cli, mode, sign, is_typed):
    def save(name, value):
        if not is_typed:
            return cli.write(f"{name}.csv", f"ID,QTY\n2,{value}\n")
        pq.write_table(pa.table({"ID": [2], "QTY": [value]}), cli.folder / f"{name}.parquet")
        return f"{name}.parquet"

    cli.loaded(cli.write("1.csv", "ID,QTY\n1,10.5\n"))
    refused = cli.refused(save("large", sign * (2**53 + 1)), *mode)
    assert str(sign * (2**53 + 1)) in refused.error
    assert "column QTY" in refused.error
    cli.loaded(save("fits", sign * (2**53 - 1)), *mode)
    assert cli.rows() == [(1, 10.5), (2, float(sign * (2**53 - 1)))]


# --- drift-append-leading-zero


def test_a_leading_zero_is_refused_with_its_row_and_both_ways_out_work(case):
    cli = case("drift-append-leading-zero")
    cli.loaded("input.1.csv")
    refused = cli.refused("input.2.csv", *APPEND)
    assert "input.2.csv, row 1 (line 2), column ID" in refused.error
    assert "'0007'" in refused.error
    assert "nothing was submitted, the table is unchanged" in refused.err
    as_number, as_text = refused.suggestions
    cli.loaded("input.2.csv", *APPEND, *as_number)
    assert cli.rows() == [(7, "c"), (1001, "a"), (1002, "b")]
    cli.loaded("input.1.csv", *as_text)
    cli.loaded("input.2.csv", *APPEND)
    assert cli.rows() == [("0007", "c"), ("1001", "a"), ("1002", "b")]


def test_a_key_with_a_leading_zero_does_not_meet_the_key_without_it(case):
    cli = case("drift-append-leading-zero")
    cli.loaded("input.1.csv", *upsert("ID"))
    refused = cli.refused("input.2.csv", *upsert("ID"))
    assert "'0007'" in refused.error
    cli.loaded("input.2.csv", *upsert("ID"), *refused.suggestion("ID=INTEGER"))
    assert cli.rows() == [(7, "c"), (1001, "a"), (1002, "b")]


@pytest.mark.parametrize(
    ("first", "second", "forced"),
    [
        ("1001", "0007", 7),
        ("1001", "x", None),
        ("1001", "1.5", None),
        ("1001", "9223372036854775808", None),
        ("1001", "true", None),
        ("1001", "2024-01-31", None),
        ("1.5", "007.5", 7.5),
        ("1.5", "1,5", 1.5),
        ("1.5", "nan", None),
        ("true", "yes", None),
        ("true", "tRue", True),
        ("true", "1", None),
        ("2024-01-31", "31.01.2024", dt.datetime(2024, 1, 31)),
        ("2024-01-31", "2024-02-30", None),
        ("2024-01-31", "1399-01-01", None),
        ("2024-01-31 10:00:00", "2024-01-31T10:00:00Z", dt.datetime(2024, 1, 31, 10)),
        ("2024-01-31T10:00:00Z", "2024-01-31 10:00:00", dt.datetime(2024, 1, 31, 10)),
    ],
)
def test_a_text_that_does_not_fit_its_column_is_refused_and_the_flags_of_the_hint_work(cli, first, second, forced):
    cli.loaded(cli.write("1.csv", f"ID;V\n1;{first}\n"))
    delta = cli.write("2.csv", f"ID;V\n2;\n3;{second}\n")
    refused = cli.refused(delta, *APPEND)
    assert "2.csv, row 2 (line 3), column V" in refused.error
    assert repr(second) in refused.error
    flags = [words for words in refused.suggestions if "--mode" not in words]
    assert len(flags) == (forced is not None)
    for words in flags:
        cli.loaded(delta, *APPEND, *words)
        assert cli.rows(columns="V", order="ID DESC")[0] == (forced,)
    cli.loaded(delta, *refused.suggestion("--mode"))
    assert cli.rows() == [(2, None), (3, second)]


# --- drift-append-longer-string, cut-upsert-longer-string


def test_a_string_longer_than_its_column_is_refused_and_each_way_out_works(case):
    cli = case("drift-append-longer-string")
    long = (cli.folder / "input.2.csv").read_text().split(",")[-1].strip()
    assert len(long) == 500
    cli.loaded("input.1.csv")
    refused = cli.refused("input.2.csv", *APPEND)
    assert "input.2.csv, row 1 (line 2), column TXT" in refused.error
    assert "500 characters, column TXT of the table holds 255" in refused.error
    grown, left_out = refused.suggestions
    left = cli.loaded("input.2.csv", *APPEND, *left_out)
    assert left["schema_changes"] == ["TXT: not in the source, NULL"]
    assert cli.rows() == [(1, "abc"), (2, None)]
    cli.loaded("input.1.csv", *grown)
    assert cli.types()["TXT"] == "VARCHAR(1000)"
    cli.loaded("input.2.csv", *APPEND)
    assert cli.rows() == [(1, "abc"), (2, long)]


def test_a_delta_within_the_room_of_a_new_column_lands_whole(case):
    cli = case("cut-upsert-longer-string")
    long = (cli.folder / "input.2.csv").read_text().split(",")[-1].rstrip("\n")
    assert len(long) > 80
    cli.loaded("input.1.csv", *upsert("ID"))
    cli.loaded("input.2.csv", *upsert("ID"))
    assert cli.rows() == [(1, "short"), (2, long)]


@pytest.mark.parametrize("mode", [APPEND, upsert("ID")])
@pytest.mark.parametrize("letter", ["x", "ü", "日", "😀"])
@pytest.mark.parametrize("is_typed", [False, True])
def test_length_counts_in_characters(cli, mode, letter, is_typed):
    def save(count):
        if not is_typed:
            return cli.write(f"{count}.csv", f"ID,TXT\n2,{letter * count}\n")
        pq.write_table(pa.table({"ID": [2], "TXT": [letter * count]}), cli.folder / f"{count}.parquet")
        return f"{count}.parquet"

    cli.loaded(cli.write("1.csv", "ID,TXT\n1,short\n"))
    refused = cli.refused(save(256), *mode)
    assert "256 characters, column TXT of the table holds 255" in refused.error
    assert "row 1" in refused.error
    cli.loaded(save(255), *mode)
    assert cli.rows(order="ID") == [(1, "short"), (2, letter * 255)]


@pytest.mark.parametrize(("behaviour", "length"), [("cut", 255), ("widen", 500)])
def test_a_team_that_knows_what_its_platform_does_may_send_longer_strings(case, behaviour, length):
    cli = case("drift-append-longer-string")
    cli.switch(delta_long_strings=behaviour)
    cli.loaded("input.1.csv")
    setting = cli.refused("input.2.csv", *APPEND).hint.partition("or set ")[2].partition(" if ")[0]
    cli.write("c.toml", f"[engine]\n{setting}\n")
    cli.loaded("input.2.csv", *APPEND, "--config", "c.toml")
    assert cli.rows() == [(1, "abc"), (2, "x" * length)]


def test_a_column_that_the_user_made_short_stays_short(cli):
    cli.loaded(cli.write("1.csv", "ID,TXT\n1,abc\n"), "--column", "TXT=STRING(3)")
    refused = cli.refused(cli.write("2.csv", "ID,TXT\n2,abcd\n"), *APPEND)
    assert "4 characters, column TXT of the table holds 3" in refused.error
    refused = cli.refused("2.csv", *APPEND, "--column", "TXT=STRING(4)")
    assert "holds 3" in refused.error


# --- float-key-1-and-1.0, version-trailing-zero


def test_keys_that_are_written_differently_stay_different(case):
    cli = case("float-key-1-and-1.0")
    cli.loaded("input.csv", *upsert("POS"))
    assert cli.rows() == [("1", "a"), ("1.0", "b"), ("1.00", "c"), ("2.5", "d")]
    cli.loaded("input.csv", *upsert("POS"))
    assert len(cli.rows()) == 4


def test_versions_with_trailing_zeros_stay_different(case):
    cli = case("version-trailing-zero")
    cli.loaded("input.csv", *upsert("PRODUCT", "VERSION"))
    assert [version for _, version in cli.rows()] == ["1.1", "1.10", "1.2", "1.20"]


def test_a_float_key_of_a_table_that_exists_is_used_only_if_the_user_says_so(cli):
    cli.loaded(cli.write("1.csv", "POS,V\n1.5,a\n2.5,b\n"))
    refused = cli.refused("1.csv", *upsert("POS"))
    assert "column POS: a key cannot be FLOAT" in refused.error
    cli.loaded(cli.write("2.csv", "POS,V\n1.50,c\n"), *upsert("POS"), *refused.suggestion("--column"))
    assert cli.rows() == [(1.5, "c"), (2.5, "b")]


def test_typed_float_keys_are_refused_with_the_flag_that_allows_them(cli):
    pq.write_table(pa.table({"POS": [1.5, 2.5], "V": ["a", "b"]}), cli.folder / "1.parquet")
    refused = cli.refused("1.parquet", *upsert("POS"))
    cli.loaded("1.parquet", *upsert("POS"), *refused.suggestion("--column"))
    assert cli.rows() == [(1.5, "a"), (2.5, "b")]


def test_a_later_key_of_another_spelling_does_not_change_the_type_of_the_key(cli):
    cli.loaded(cli.write("1.csv", "POS,V\n1,a\n2,b\n"), *upsert("POS"))
    refused = cli.refused(cli.write("2.csv", "POS,V\n1.0,c\n"), *upsert("POS"))
    assert "'1.0'" in refused.error
    assert "row 1 (line 2), column POS" in refused.error


# --- Names that a shell would split


def test_hints_can_be_pasted_into_a_shell(cli):
    name, text = "Net $Amount's", "Item (long) text"
    cli.loaded(cli.write("1.csv", f"ID;{name};{text}\n1;1.5;a\n"))
    delta = cli.write("2.csv", f"ID;{name};{text}\n2;007.5;b\n")
    for words in cli.refused(delta, *APPEND).suggestions:
        cli.loaded(delta, *APPEND, *words)
        assert cli.rows(order="ID DESC")[0] in ((2, 7.5, "b"), (2, "007.5", "b"))
    delta = cli.write("3.csv", f"ID;{name};{text}\n3;x;{'x' * 300}\n")
    for words in cli.refused(delta, *APPEND).suggestions:
        cli.loaded(delta, *APPEND, *words)
        assert cli.rows(order="ID DESC")[0][0] == 3
    delta = cli.write("4.csv", f"ID;{name};{text};New one\n4;x;y;z\n")
    refused = cli.refused(delta, *APPEND)
    cli.loaded(delta, *APPEND, *refused.suggestion("--exclude"))
    delta = cli.write("5.csv", f"ID;{name};New one\n5;x;z\n")
    refused = cli.refused(delta, *APPEND)
    cli.loaded(delta, *APPEND, *refused.suggestion("--rename"))
    assert cli.rows(order="ID DESC")[0] == (5, "x", "z")


# --- night-sap-delta


def test_a_nightly_delta_of_an_sap_table_lands_whole(case):
    cli = case("night-sap-delta")
    text = "Reversal of a very long invoice text that an accountant wrote with much care and detail"
    cli.loaded("input.1.csv")
    types = cli.types()
    assert cli.loaded("input.2.csv", *APPEND)["schema_changes"] == []
    last = (1800000003, 20260201, "143000", 15.0, text, None)
    assert cli.rows(order="BELNR DESC")[0] == last
    forced = ("--column", "CPUTM=STRING", "--column", "DMBTR=FLOAT", "--column", "AUGBL=INTEGER")
    cli.loaded("input.2.csv", *APPEND, *forced)
    assert cli.rows(order="BELNR DESC")[:2] == [last, last]
    assert len(cli.rows()) == 4
    assert cli.types() == types


def test_the_full_extract_of_a_later_night_keeps_the_types(case):
    cli = case("night-sap-delta")
    cli.loaded("input.1.csv")
    types = cli.types()
    assert cli.loaded("input.2.csv")["schema_changes"] == []
    assert cli.types() == types
    assert cli.rows(columns="CPUTM, DMBTR") == [("143000", 15.0)]
