"""Which of the first lines is the header line, and how to read a file that is refused."""

import pytest

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv.structure.first_lines import (
    comment_mark,
    first_row_of,
    header_lines,
    is_page,
    is_ruler,
    kind_of_line,
    lines_of,
    several_characters,
    skipping,
    ways_to_read,
)

NOTHING = CsvSettings()


@pytest.mark.parametrize(
    "line", ["<!doctype html>", " <HTML lang='en'>", "<?xml version='1.0'?>", '{"error": 1}', '[ {"ID": 1}]']
)
def test_pages_and_documents(line):
    assert is_page(line)


@pytest.mark.parametrize("line", ["<name>,ID", "{ID},NAME", "[ID],NAME", "ID,NAME", ""])
def test_header_lines_are_no_pages(line):
    assert not is_page(line)


def test_rulers_comments_and_long_delimiters():
    assert all(map(is_ruler, ["-----", "+--+--+", "= = =", "|----|"]))
    assert not any(map(is_ruler, ["", "-", "--a", "---1---", "Ä--"]))
    assert [comment_mark(line) for line in ("# a", "#ID", "// a", "-- a", "% a", "--a", "ID #1")] == [
        "#",
        "#",
        "//",
        "--",
        "%",
        "",
        "",
    ]
    assert several_characters("ID||NAME@@QTY::A--B") == ["::", "@@", "||"]
    assert several_characters('ID,"NAME",QTY (a)') == []


def test_lines_end_with_line_feeds_and_carriage_returns_only():
    assert lines_of("\ufeffa\x1cb\x0bc\r\nd\re\n\nf\u2028g") == ["a\x1cb\x0bc", "d", "e", "", "f\u2028g"]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["ID,NAME", "1,a"], "the header line"),
        (["Stock list", "ID,NAME", "1,a"], "a title"),
        (["Stock list,,", "ID,NAME,QTY", "1,a,5"], "a title"),
        (["4500000001;a", "4500000002;b"], "a row of data"),
        (["NAME,2008,2009", "a,1,2"], "the header line"),
        (["# made by x", "ID,NAME"], "a comment"),
        (["----", "|ID|"], "a ruler"),
        (["sep=;", "ID;NAME"], "a sep= line of Excel"),
        (["<html>"], "a web page, XML or JSON"),
        (["NAME", "a", "b"], "the header line"),
    ],
)
def test_what_the_first_line_looks_like(lines, kind):
    assert kind_of_line(lines, NOTHING) == kind


@pytest.mark.parametrize("delimiter", ["||", "§"])
def test_what_the_first_line_looks_like_with_a_delimiter_that_is_given(delimiter):
    settings = NOTHING.model_copy(update={"delimiter": delimiter})
    assert kind_of_line([f"ID{delimiter}NAME"], settings) == "the header line"
    assert kind_of_line([f"1{delimiter}2024-01-31"], settings) == "a row of data"


@pytest.mark.parametrize(
    ("lines", "line", "delimiter"),
    [
        (["Report", "Created: 2024-01-31", "", "ID;NAME", "1;a", "2;b"], 4, ";"),
        (["Report,,", "ID,NAME,QTY", "1,a,5", "2,b,"], 2, ","),
        (["ID\tNAME", "1\ta, b", "2\tc, d"], 1, "\t"),
        (['Said "so"', 'ID,"NA', 'ME"', "1,a"], 2, ","),
        (["Belegnr;Betrag, EUR", "1;2,75", "2;10,00"], 1, ";"),
    ],
)
def test_the_line_with_as_many_cells_as_the_rows_is_the_header_line(lines, line, delimiter):
    likeliest = header_lines(lines)[0]
    assert (likeliest.line, likeliest.delimiter) == (line, delimiter)


def test_lines_before_the_first_row_do_not_count():
    lines = ["a", "b", "", "# c", "ID"]
    assert first_row_of(lines, CsvSettings(skip_lines=2, comment="#")) == 4
    assert first_row_of(lines, CsvSettings(skip_lines=9)) == 5
    assert first_row_of(["sep=;", "ID"], CsvSettings(dialect="excel")) == 1
    assert first_row_of(["List", "----", "|ID|"], CsvSettings(dialect="sap-list").filled()) == 2


def test_a_line_with_half_as_many_cells_as_the_rows_is_no_title_to_skip():
    assert not list(skipping(["ID;NAME;QTY", "1;a;5;", "2;b;6;"], 1))
    ways = [dict(way.settings) for way in skipping(["Stock list", "1;a;5", "2;b;6"], 1)]
    assert ways[0] == {"skip_lines": 1, "header": False}


@pytest.mark.parametrize(
    ("lines", "settings"),
    [
        (["Stock list", "ID,NAME", "1,a"], {"skip_lines": 1}),
        (["# made by x", "ID,NAME", "1,a"], {"comment": "#"}),
        (["1,1,a", "2,2,b"], {"header": False}),
        (["no,no,a", "no,yes,b"], {"header": False}),
        (["sep=;", "ID;NAME"], {"dialect": "excel"}),
        (["----", "|ID|", "----", "|1|"], {"dialect": "sap-list"}),
        (["ID||NAME", "1||a"], {"delimiter": "||"}),
        (["ID,NAME,", "1,a,"], {"delimiter": ","}),
        (["ID,NAME", "1,'a, b'"], {"delimiter": ","}),
    ],
)
def test_the_likeliest_way_comes_first(lines, settings):
    assert next(ways_to_read(lines, NOTHING)).settings == settings


def test_there_is_no_way_to_read_a_page_and_none_that_was_given():
    assert not list(ways_to_read(["<html>", "a,b"], NOTHING))
    given = CsvSettings(
        delimiter=",",
        quote='"',
        trim=True,
        nameless="drop",
        duplicate_names="drop",
        trailing_delimiter="drop",
        empty_columns="drop",
        escape="\\",
    )
    names = {name for way in ways_to_read(["ID,NAME", "1,'a\\\"'", "2,b"], given) for name in way.settings}
    assert not names
    assert [dict(way.settings) for way in ways_to_read(["ID,NAME", "1,a", "2,b", "Total: 2", ""], given)] == [
        {"skip_footer": 1}
    ]


@pytest.mark.parametrize("last", ["3", "3,c", '3,"c', '"Clip'])
def test_a_row_that_is_cut_off_is_no_footer(last):
    ways = ways_to_read(["ID,NAME,QTY", "1,a,5", "2,b,6", last], NOTHING)
    assert not any("skip_footer" in way.settings for way in ways)
