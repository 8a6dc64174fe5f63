"""Text files of another structure than their header line shows (`cases/`), through the command line.

Each is refused before the submit, with the flag that reads it rightly first and the flag that says that it is right as it is last. The tests
run both.
"""

import datetime as dt

import pytest

# --- Files that are refused, and what they are with the first flag and with the last


CASE = pytest.mark.parametrize(
    ("name", "message", "first", "last"),
    [
        (
            "colon-delimiter",
            "a single column, yet ':' splits the header line and all sampled rows alike",
            (["city", "country", "pop"], [("Oslo", "NO", 700000), ("Rome", "IT", 2800000)]),
            (["city:country:pop"], [("Oslo:NO:700000",), ("Rome:IT:2800000",)]),
        ),
        (
            "delim-ctrl-a-hive",
            r"a single column, yet '\x01' splits the header line and all sampled rows alike",
            (["ID", "NAME", "AMT"], [(1, "a", 2.5), (2, "b", 3.5)]),
            (["ID\x01NAME\x01AMT"], [("1\x01a\x012.5",), ("2\x01b\x013.5",)]),
        ),
        (
            "delim-header-comma-decimal-comma",
            "line 1: two delimiters split the header line and all sampled rows alike: ';' and ','",
            (["Belegnr", "Menge, ST", "Betrag, EUR"], [(4711, "1,5", "2,75"), (4712, "3,0", "10,00")]),
            (["Belegnr;Menge", " ST;Betrag", " EUR"], [("4711;1", "5;2", "75"), ("4712;3", "0;10", "00")]),
        ),
        (
            "delim-header-tie",
            "line 1: two delimiters split the header line and all sampled rows alike: ';' and ','",
            (
                ["Betrag (EUR, netto)", "Datum"],
                [("100,50", dt.datetime(2024, 1, 31)), ("7,25", dt.datetime(2024, 2, 29))],
            ),
            (["Betrag (EUR", " netto);Datum"], [(7, "25;2024-02-29"), (100, "50;2024-01-31")]),
        ),
        (
            "multichar-delimiter-word",
            "a single column, yet '@@' splits the header line and all sampled rows alike",
            (["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
            (["ID@@NAME"], [("1@@Bolt",), ("2@@Nut",)]),
        ),
        (
            "no-header-file",
            "line 1: the header line looks like a row: '4500000001' is a number, like the values of its column",
            (
                ["column_1", "column_2", "column_3"],
                [(4500000001, "00010", 100.0), (4500000002, "00020", 50.0), (4500000003, "00030", 75.0)],
            ),
            (["4500000001", "00010", "100.00"], [(4500000002, "00020", 50.0), (4500000003, "00030", 75.0)]),
        ),
        (
            "preamble-title-semicolon",
            "line 1: a single column, yet ';' splits the sampled rows, but not the header line, alike",
            (["EBELN", "EBELP", "NETWR"], [(4500000001, "00010", 100.0), (4500000002, "00020", 5.25)]),
            (["Purchase Orders"], [("4500000001;00010;100.00",), ("4500000002;00020;5.25",), ("EBELN;EBELP;NETWR",)]),
        ),
        (
            "sap-list-export",
            "line 1: '---------------------------------' has no letters: it is no header line",
            (
                ["MANDT", "EBELN", "NETWR", "WAERS"],
                [(100, 4500000001, "100.00", "EUR"), (100, 4500000002, "50.00-", "EUR")],
            ),
            None,
        ),
        (
            "single-quoted",
            "all sampled values of column NAME are in single quotes",
            (["ID", "NAME"], [(1, "Bolt"), (2, "Nut")]),
            (["ID", "NAME"], [(1, "'Bolt'"), (2, "'Nut'")]),
        ),
        (
            "space-before-quote",
            "a blank stands before the opening quote in column NAME: ' \"Bolt\"', so that the quotes belong to the value",
            (["ID", "NAME", "PRICE"], [(1, "Bolt", 2.5), (2, "Nut", 0.75)]),
            (["ID", " NAME", " PRICE"], [(1, ' "Bolt"', ' "2.50"'), (2, ' "Nut"', ' "0.75"')]),
        ),
        (
            "title-line-padded",
            "line 1: column 2 has no name in the header line; line 1 looks like a title",
            (["ID", "NAME", "QTY"], [(1, "Bolt", 20)]),
            (["Stock list", "column_2", "column_3"], [("1", "Bolt", "20"), ("ID", "NAME", "QTY")]),
        ),
        (
            "trailing-delimiter-all",
            "line 1: column 3 has no name in the header line",
            (["EBELN", "EBELP"], [(4500000001, "00010")]),
            (["EBELN", "EBELP", "column_3"], [(4500000001, "00010", None)]),
        ),
    ],
)


@CASE
def test_a_doubtful_file_is_refused_and_the_first_flag_reads_it_rightly(cli, case_input, name, message, first, last):
    source = case_input(name)
    refused = cli.refused(source)
    assert message in refused.error
    cli.loaded(source, *refused.suggestions[0])
    assert (list(cli.types()), cli.rows()) == first


@CASE
def test_the_last_flag_reads_a_doubtful_file_as_it_is(cli, case_input, name, message, first, last):
    source = case_input(name)
    cli.loaded(source, *cli.refused(source).suggestions[-1])
    if last is not None:
        assert (list(cli.types()), cli.rows()) == last


@pytest.mark.parametrize("name", ["no-header-refused-unclear"])
def test_equal_values_in_the_first_row_are_not_called_equal_names(cli, case_input, name):
    source = case_input(name)
    refused = cli.refused(source)
    assert "line 1: column 0 appears twice in the header line; line 1 looks like a row of data" in refused.error
    assert refused.suggestions == [["--no-header"]]
    cli.loaded(source, "--no-header")
    assert cli.rows() == [(0, 0, 5), (1, 0, 7)]


def test_a_sep_line_is_no_header_line(cli, case_input):
    source = case_input("sep-line-excel")
    for words in cli.refused(source).suggestions:
        cli.loaded(source, *words)
        assert cli.rows() == [(1, "a")]


def test_a_web_page_is_no_table(cli, case_input):
    source = case_input("html-login-page-as-csv")
    cli.loaded(cli.write("before.csv", "ID\n1\n"))
    refused = cli.refused(source)
    assert "line 1: '<!DOCTYPE html>' looks like a web page, XML or JSON, not like a header line" in refused.error
    assert "check how the extract was made" in refused.hint
    cli.loaded(source, *refused.suggestions[-1])
    assert len(cli.rows()) == 6


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0"?>\n<error>\n',
        '{"error": "expired",\n"code": 401}\n',
        '[{"ID": 1},\n{"ID": 2}]\n',
        "<html>\n",
    ],
)
def test_an_error_document_is_no_table(cli, text):
    refused = cli.refused(cli.write("1.csv", text))
    assert "looks like a web page, XML or JSON" in refused.error


def test_aligned_columns_are_not_a_single_column(cli, case_input):
    source = case_input("space-aligned")
    refused = cli.refused(source)
    assert "line 1: a single column, and the header line has gaps of several blanks" in refused.error
    cli.loaded(source, *refused.suggestions[-1])
    assert cli.rows() == [("1   Bolt   20",), ("2   Nut    30",)]
    wide = cli.write("wide.txt", "ID  NAME  QTY\n1   Bolt  20\n2   Nut   30\n".replace("   ", "  "))
    cli.loaded(wide, *cli.refused(wide).suggestions[0])
    assert cli.rows() == [(1, "Bolt", 20), (2, "Nut", 30)]


# --- What an earlier push has read so is read so again


def test_a_table_with_the_same_columns_turns_a_doubt_into_a_note(cli, case_input):
    source = case_input("no-header-file")
    cli.refused(source)
    cli.loaded(source, "--header")
    note = (
        "input.csv, line 1: the header line looks like a row: '4500000001' is a number, like the values of its column;"
        " read as before, because the table has the same columns"
    )
    assert note in cli.loaded(source)["notes"]
    assert note in cli.loaded(source, "--mode", "append")["notes"]
    assert cli.rows() == [(4500000002, "00020", 50.0)] * 2 + [(4500000003, "00030", 75.0)] * 2


@pytest.mark.parametrize("words", [["--rename", "10=A"], ["--select", "10", "--select", "20"], ["--exclude", "30"]])
def test_renamed_and_selected_columns_are_the_same_columns(cli, words):
    source = cli.write("1.csv", "10,30,20\n1,5,2\n3,4,1\n")
    cli.refused(source, *words)
    cli.loaded(source, *words, "--header")
    assert any("read as before" in note for note in cli.loaded(source, *words)["notes"])


def test_other_columns_do_not_turn_a_doubt_into_a_note(cli):
    cli.loaded(cli.write("1.csv", "ID;NAME\n1;a\n"))
    source = cli.write("2.csv", "List\nID;NAME\n1;a\n")
    refused = cli.refused(source)
    cli.loaded(source, *refused.suggestions[0])
    assert cli.rows() == [(1, "a")]


def test_a_missing_key_is_told_as_what_it_comes_from(cli):
    source = cli.write("1.csv", "List of names\nID;NAME\n1;a\n")
    refused = cli.refused(source, "--mode", "upsert", "--key", "ID")
    assert "';' splits the sampled rows" in refused.error
    cli.loaded(source, "--mode", "upsert", "--key", "ID", *refused.suggestions[0])
    assert cli.rows() == [(1, "a")]


# --- Rows that do not fit


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("Stock list\nID,NAME\n1,a\n2,b\n", ["--skip-lines", "1"]),
        ("Stock list\nDate: 2024-01-31\n\nID,NAME\n1,a\n2,b\n", ["--skip-lines", "3"]),
        ("# made by x\n# on Monday\nID,NAME\n1,a\n2,b\n", ["--comment", "#"]),
        ("# made by x\nID;NAME\n1;a\n2;b\n", ["--comment", "#"]),
        ("ID,NAME\n1,a\n2,b\nTotal: 2\n", ["--skip-footer", "1"]),
        ("ID,NAME\n1,a\n2,b\n\nTotal: 2\nEnd\n", ["--skip-footer", "2"]),
        ("ID||NAME\n1||a\n2||b\n", ["--delimiter", "||"]),
        ("ID,NAME (a;b;c)\n1,a\n2,b\n", ["--delimiter", ","]),
        ("|ID|NAME|\n|1|a|\n|2|b|\n", ["--dialect", "sap-list"]),
        ("ID,NAME\n1,'a'\n2,'b'\n", ["--quote", "'"]),
        ('"ID" "NAME"\n1 "a"\n2 "b"\n', ["--delimiter", " "]),
        ("ID,,NAME\n1,,a\n2,,b\n", ["--empty-columns", "drop"]),
    ],
)
def test_the_first_flag_of_a_refusal_reads_the_rows(cli, text, flags):
    source = cli.write("1.csv", text)
    refused = cli.refused(source)
    assert refused.suggestions[0] == flags
    cli.loaded(source, *flags)
    assert cli.rows() == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("NAME,QTY\nr1,a,1\nr2,b,2\n", ["column_1", "NAME", "QTY"]),
        ("List\n\nID,NAME,QTY,\nr1,a,1\nr2,b,2\n", ["ID", "NAME", "QTY"]),
    ],
)
def test_names_are_given_for_a_header_line_with_another_number_of_cells_than_the_rows(cli, text, names):
    source = cli.write("1.csv", text)
    cli.loaded(source, *cli.refused(source).suggestions[0])
    assert list(cli.types()) == names
    assert cli.rows() == [("r1", "a", 1), ("r2", "b", 2)]


def test_texts_with_commas_in_a_single_column(cli):
    source = cli.write("1.csv", "NOTE\nDear all, hello\nbye\n")
    refused = cli.refused(source)
    assert "line 2: expected 1 fields, found 2" in refused.error
    cli.loaded(source, *refused.suggestions[0])
    assert cli.rows() == [("Dear all, hello",), ("bye",)]


def test_quotes_after_a_backslash_and_delimiters_in_single_quotes(cli):
    source = cli.write("1.csv", 'ID,NAME\n1,"5\\" pipe, long"\n2,"b"\n')
    cli.loaded(source, *cli.refused(source).suggestions[0])
    assert cli.rows() == [(1, '5" pipe, long'), (2, "b")]
    source = cli.write("2.csv", "ID,NAME\n1,'Bolt, long'\n2,'Nut'\n")
    cli.loaded(source, *cli.refused(source).suggestions[0])
    assert cli.rows() == [(1, "Bolt, long"), (2, "Nut")]


@pytest.mark.parametrize("encoding", ["cp1252", "cp1250", "cp850", "cp1251", "shift_jis"])
def test_the_encoding_that_fits_is_named(cli, encoding):
    names = {"cp1250": "Łódź Wrocław", "cp1251": "Привет мир", "shift_jis": "東京都 こんにちは"}
    name = names.get(encoding, "Müller Straße")
    (cli.folder / "1.csv").write_bytes(f"ID,NAME\n1,{name}\n".encode(encoding))
    refused = cli.refused("1.csv")
    assert refused.suggestions[0] == ["--encoding", encoding]
    cli.loaded("1.csv", "--encoding", encoding)
    assert cli.rows() == [(1, name)]


# --- Joined files


def test_files_joined_to_one_are_refused(cli):
    source = cli.write("1.csv", "ID,NAME\n1,a\nID,NAME\n2,b\n")
    refused = cli.refused(source)
    assert "row 2 repeats the header line" in refused.error
    cli.loaded(source, *refused.suggestions[-1])
    assert cli.rows() == [("1", "a"), ("2", "b"), ("ID", "NAME")]


def test_a_header_line_far_beyond_the_sample_is_found_when_it_makes_numbers_a_text(cli):
    rows = "".join(f"{number},{number * 7}\n" for number in range(600_000))
    source = cli.write("1.csv", f"ID,QTY\n{rows}ID,QTY\n1,2\n")
    refused = cli.refused(source)
    assert "row 600,001 repeats the header line: were files joined?" in refused.error
    cli.loaded(source, *refused.suggestions[-1])
    assert cli.types() == {"ID": "VARCHAR(255)", "QTY": "VARCHAR(255)"}


def test_a_byte_order_mark_in_mid_file_is_refused(cli):
    source = cli.write("1.csv", "ID,NAME\nx1,a\n\ufeffx2,b\n")
    refused = cli.refused(source)
    assert "row 2 begins with a byte order mark" in refused.error
    cut, kept = refused.suggestions
    cli.loaded(source, *cut)
    assert cli.rows() == [("x1", "a"), ("x2", "b")]
    cli.loaded(source, *kept)
    assert cli.rows() == [("x1", "a"), ("\ufeffx2", "b")]


# --- Files that are right as they are


@pytest.mark.parametrize(
    "text",
    [
        "Country,2008,2009\nDE,1.5,2.5\nFR,2.5,3.5\n",
        "Country,2008,2009\nDE,10,20\nFR,20,30\n",
        "Country,Jan,Feb,Mar\nDE,1,2,3\n",
        "Country,2024-01,2024-02\nDE,1,2\n",
        "NAME,1,2,3,4\na,4,3,2,1\nb,1,1,1,1\n",
        "NAME,10,50,90\na,4,3,2\nb,1,1,1\n",
        "##0\n1\n2\n",
        "#ID,NAME\n1,a\n",
        "ID,name\n1,name\n2,test\n",
        "FIRST,LAST\nAda,Lovelace\nGrace,Hopper\n",
        "NOTE\nDear all; bye\nshort\n",
        "ID,TIME\n1,12:30\n2,13:45\n",
        "FULL NAME\nAda  Lovelace\nGrace Hopper\n",
        "ID,NAME\n1,'tis\n2,'twas'\n",
        "ID,NAME\n1,'a'\n2,b\n",
        'ID,SAID\n1," ""quoted"""\n2,b\n',
        "ID,TAGS\n1,a;b\n2,c;d\n",
        "ID;AMOUNT;NOTE\n1;1,5;a\n2;2,5;b\n",
        "A,B\n\n1,2\n",
        "EMPTY,COLUMNS\n",
        "ID,URL\n1,https://example.com/a:b\n",
        "A,B,C\nx,y,z\n",
    ],
)
def test_no_doubt_about(cli, text):
    cli.loaded(cli.write("1.csv", text), "--allow-empty")


# --- The plan and the receipt


def test_plan_and_receipt_name_the_dialect(cli):
    source = cli.write("1.csv", "A;B;C\n1;2;3\n")
    plan = cli.run("plan", source, "--table", "T").out
    assert (
        "  dialect   delimiter ';' (as the header line shows: 2 in it, and every sampled row splits alike), quote '\"', encoding utf-8"
    ) in plan.splitlines()
    assert cli.run("plan", source, "--table", "T", "--json").json["dialect"] == {
        "delimiter": ";",
        "quote": '"',
        "encoding": "utf-8",
    }
    pushed = cli.push(source)
    assert "  dialect   delimiter ';'" in pushed.out.splitlines()
    assert cli.loaded(source)["dialect"]["delimiter"] == ";"


def test_a_receipt_does_not_name_the_dialect_of_plain_csv(cli):
    pushed = cli.push(cli.write("1.csv", "A,B\n1,2\n"))
    assert "dialect" not in pushed.out


@pytest.mark.parametrize(
    ("name", "words", "reason"),
    [
        ("1.csv", ["--delimiter", ";"], "delimiter ';' (as given)"),
        ("1.csv", ["--dialect", "hive"], r"delimiter '\x01' (as the dialect hive says)"),
        ("1.tsv", [], r"delimiter '\t' (as the file name says, and every sampled row splits alike)"),
        ("2.csv", [], "delimiter ',' (no delimiter in the header line: a single column)"),
        ("3.csv", ["--dialect", "excel"], "delimiter ';' (as its first line says)"),
        (
            "1.csv",
            ["--no-header"],
            "delimiter ';' (as the first line shows: 1 in it, and every sampled row splits alike)",
        ),
    ],
)
def test_plan_says_why_a_file_is_read_so(cli, name, words, reason):
    texts = {"1.csv": "A;B\nx;y\n", "1.tsv": "A\tB,C\nx\ty\n", "2.csv": "A\nx\n", "3.csv": "sep=;\nA;B\nx;y\n"}
    if "hive" in words:
        texts["1.csv"] = "A\x01B\nx\x01y\n"
    planned = cli.run("plan", cli.write(name, texts[name]), "--table", "T", *words)
    assert reason in planned.out, planned.err
