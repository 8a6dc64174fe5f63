"""Files whose structure the settings describe (`cases/`), through the command line: each is read with the flags for it."""

import pytest


@pytest.mark.parametrize(
    ("name", "flags", "columns", "rows"),
    [
        ("multichar-delimiter-word", ["--delimiter", "@@"], ["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
        ("delim-ctrl-a-hive", ["--dialect", "hive"], ["ID", "NAME", "AMT"], [(1, "a", 2.5), (2, "b", 3.5)]),
        ("delim-ctrl-a-hive", ["--delimiter", r"\x01"], ["ID", "NAME", "AMT"], [(1, "a", 2.5), (2, "b", 3.5)]),
        (
            "colon-delimiter",
            ["--delimiter", ":"],
            ["city", "country", "pop"],
            [("Oslo", "NO", 700000), ("Rome", "IT", 2800000)],
        ),
        ("single-quoted", ["--quote", "'"], ["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
        ("space-before-quote", ["--trim"], ["ID", "NAME", "PRICE"], [(1, "Bolt", 2.5), (2, "Nut", 0.75)]),
        (
            "trailing-delimiter-all",
            ["--trailing-delimiter", "drop"],
            ["EBELN", "EBELP"],
            [(4500000001, "00010")],
        ),
        ("excel-empty-columns", ["--empty-columns", "drop"], ["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
        ("excel-empty-columns", ["--dialect", "excel"], ["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
        ("sep-line-excel", ["--dialect", "excel"], ["ID", "NAME"], [(1, "a")]),
        (
            "sap-list-export",
            ["--dialect", "sap-list"],
            ["MANDT", "EBELN", "NETWR", "WAERS"],
            [(100, 4500000001, "100.00", "EUR"), (100, 4500000002, "50.00-", "EUR")],
        ),
        (
            "sap-list-export",
            ["--dialect", "sap-list", "--locale", "sap"],
            ["MANDT", "EBELN", "NETWR", "WAERS"],
            [(100, 4500000001, 100.0, "EUR"), (100, 4500000002, -50.0, "EUR")],
        ),
        (
            "no-header-file",
            ["--no-header"],
            ["column_1", "column_2", "column_3"],
            [(4500000001, "00010", 100.0), (4500000002, "00020", 50.0), (4500000003, "00030", 75.0)],
        ),
        (
            "no-header-file",
            ["--names", "EBELN,EBELP,NETWR"],
            ["EBELN", "EBELP", "NETWR"],
            [(4500000001, "00010", 100.0), (4500000002, "00020", 50.0), (4500000003, "00030", 75.0)],
        ),
        (
            "no-header-refused-unclear",
            ["--no-header"],
            ["column_1", "column_2", "column_3"],
            [(0, 0, 5), (1, 0, 7)],
        ),
        (
            "preamble-title-semicolon",
            ["--skip-lines", "1"],
            ["EBELN", "EBELP", "NETWR"],
            [(4500000001, "00010", 100.0), (4500000002, "00020", 5.25)],
        ),
        ("title-line-padded", ["--skip-lines", "1"], ["ID", "NAME", "QTY"], [(1, "Bolt", 20)]),
        (
            "delim-header-comma-decimal-comma",
            ["--delimiter", ";"],
            ["Belegnr", "Menge, ST", "Betrag, EUR"],
            [(4711, "1,5", "2,75"), (4712, "3,0", "10,00")],
        ),
        (
            "delim-header-tie",
            ["--delimiter", ";"],
            ["Betrag (EUR, netto)", "Datum"],
            [("100,50", "2024-01-31"), ("7,25", "2024-02-29")],
        ),
    ],
)
def test_a_case_is_read_with_its_flags(cli, case_input, name, flags, columns, rows):
    cli.loaded(case_input(name), *flags)
    assert list(cli.types()) == columns
    found = [tuple(f"{cell:%Y-%m-%d}" if hasattr(cell, "year") else cell for cell in row) for row in cli.rows()]
    assert found == rows


@pytest.mark.parametrize("name", ["trailing-delimiter-all", "excel-empty-columns", "sep-line-excel"])
def test_the_hint_of_a_refusal_reads_the_case(cli, case_input, name):
    source = case_input(name)
    words: list[str] = []
    for _ in range(3):  # a file may need more than one flag
        pushed = cli.push(source, *words, "--json")
        if pushed.code == 0:
            break
        refused = cli.refused(source, *words)
        words += refused.suggestions[0]
    assert pushed.code == 0, pushed.err
    assert len(cli.types()) == 2


def test_columns_aligned_with_blanks_are_not_split_at_each_blank(cli, case_input):
    """No flag splits at gaps of any width; a blank as the delimiter is refused rather than read with shifted rows."""
    refused = cli.refused(case_input("space-aligned"), "--delimiter", " ", "--trim")
    assert "has no name" in refused.error


def test_names_are_refused_with_both_numbers(cli, case_input):
    refused = cli.refused(case_input("no-header-file"), "--names", "A,B")
    assert "2 names are given" in refused.error
    assert "3 fields" in refused.error


def test_the_names_of_the_header_line_are_refused(cli):
    refused = cli.refused(cli.write("1.csv", "ID,NAME\n1,a\n"), "--names", "ID,NAME")
    assert "the first line has these names" in refused.error
    assert "leave out --names" in refused.hint
    cli.loaded("1.csv", "--names", "NO,TEXT", "--header")
    assert list(cli.types()) == ["NO", "TEXT"]


def test_a_file_with_everything_around_its_rows(cli):
    text = "Stock list;\n\n// made by hand\n'ID' ; 'NAME; X';\n1;'a;b' ;\n// '\n\n2 ; N/A;\n3;it\\'s\\;\\\n;\nTotal;3\nEnd\n"
    cli.loaded(
        cli.write("1.csv", text),
        *("--skip-lines", "1", "--skip-footer", "2", "--comment", "//", "--quote", "'", "--escape", "\\"),
        *("--trim", "--null", "N/A", "--trailing-delimiter", "drop", "--delimiter", ";"),
    )
    assert list(cli.types()) == ["ID", "NAME; X"]
    assert cli.rows() == [(1, "a;b"), (2, None), (3, "it's;\n")]
