"""Each setting of the structure of text files: what is read with it, and what is refused."""

import gzip
import threading
from contextlib import closing

import pytest
from support.files import file_ref

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source
from pushengine.sources.csv import lines
from pushengine.sources.csv.lines import without_first_lines, without_last_lines
from pushengine.sources.csv.reading import CsvPass
from pushengine.sources.csv.spelling import Spelling

BLOCKS = pytest.mark.parametrize("block_bytes", [1 << 20, 64, 7, 1])


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text with some settings, and returns names and rows."""

    def read(text, block_bytes=1 << 20, name="f.csv", **csv):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        settings = EngineSettings(csv=csv)
        arguments = (file_ref(path), settings, LocalFileSystem(), block_bytes, (), threading.Event())
        with closing(CsvPass(arguments)) as one:
            rows = [tuple(row.values()) for block in one.decoded() for row in block.batch.to_pylist()]
            with closing(CsvPass(arguments)) as again:  # as a push reads it
                decoded = [block.decode().batch for block in again.blocks()]
                assert all(batch.num_rows for batch in decoded)
                assert [tuple(row.values()) for batch in decoded for row in batch.to_pylist()] == rows
            return list(one.layout.names), rows

    return read


@BLOCKS
@pytest.mark.parametrize(
    ("text", "csv", "rows"),
    [
        pytest.param("a@@b\n1@@x@y\n", {"delimiter": "@@"}, [("1", "x@y")], id="two characters"),
        pytest.param('a||b\n"1||"||"x|"\n2|||y\n', {"delimiter": "||"}, [("1||", "x|"), ("2", "|y")], id="overlapping"),
        pytest.param("a§b\n1§x\x1fy\n", {"delimiter": "§"}, [("1", "x\x1fy")], id="not ASCII, U+001F in a value"),
        pytest.param('a<=>b\n"\x1f<=>"<=>\n', {"delimiter": "<=>"}, [("\x1f<=>", None)], id="quoted long delimiter"),
        pytest.param("a\x01b\n1\x01\\N\n", {"dialect": "hive"}, [("1", None)], id="hive"),
        pytest.param("a,b\n\"x\",'p,q'\n", {"quote": "'"}, [('"x"', "p,q")], id="single quotes"),
        pytest.param("a,b\n'it''s',1\n", {"quote": "'"}, [("it's", "1")], id="doubled single quotes"),
        pytest.param("a|b\n1|2\n", {"quote": "|"}, [("1|2",)], id="the quote is no delimiter"),
        pytest.param("|a;c|,b|x\n|1,|,2|3\n", {"quote": "|"}, [("1,", "2|3")], id="the quote among delimiters"),
        pytest.param('a,b\n"x,5"\n', {"quote": ""}, [('"x', '5"')], id="no quotes"),
        pytest.param('a,b\n"x\\"y",p\\,q\n', {"escape": "\\"}, [('x"y', "p,q")], id="escapes"),
        pytest.param('a,b\n"\\\\",\\\\\n', {"escape": "\\"}, [("\\", "\\")], id="escaped escapes"),
        pytest.param("a,b\n1,x\\\ny\n", {"escape": "\\"}, [("1", "x\ny")], id="escaped line feed"),
        pytest.param("a,b\r\n1,x\\\r\ny\r\n", {"escape": "\\"}, [("1", "x\r\ny")], id="escaped CRLF"),
        pytest.param('a,b\n\\"x,y"\n', {"escape": "\\"}, [('"x', 'y"')], id="an escaped quote opens nothing"),
        pytest.param(
            "a,b\n\\N,\\\\N\n", {"escape": "\\", "null": "\\N"}, [(None, "\\N")], id="words are compared as written"
        ),
        pytest.param(
            "a@@b\n1@@\\@@2\n", {"delimiter": "@@", "escape": "\\"}, [("1", "@@2")], id="escaped long delimiter"
        ),
        pytest.param(
            'a,b\nNULL,"NULL"\n-,x\n',
            {"null": ("NULL", "-")},
            [(None, "NULL"), (None, "x")],
            id="words, only unquoted",
        ),
        pytest.param(
            "a , b\n 1\t,\u00a0x y\u200b\n,  \n", {"trim": True}, [("1", "x y"), (None, None)], id="trim, no quotes"
        ),
        pytest.param(
            'a, b\n1, " x"\t\n "2" ,  y \n', {"trim": True}, [("1", " x"), ("2", "y")], id="trim around quotes"
        ),
        pytest.param(
            'a, b\n1,\u00a0" x"\u200b\n"2", 5" \n', {"trim": True}, [("1", " x"), ("2", '5"')], id="wide blanks"
        ),
        pytest.param('a,b\n NULL ," NULL"\n', {"trim": True, "null": "NULL"}, [(None, " NULL")], id="words after trim"),
        pytest.param("a\tb\n 1 \t \n", {"trim": True}, [("1", None)], id="the delimiter is no blank"),
        pytest.param('a\n"x"\n ', {"trim": True}, [("x",), (None,)], id="a last line of blanks is a NULL"),
        pytest.param("a,b\n1,2\n   \n", {"trim": True}, [("1", "2")], id="a line of blanks is empty"),
        pytest.param(
            "# x\n\na,b\n# y, \"z\n1,2\n#\n3,'#'\n", {"comment": "#"}, [("1", "2"), ("3", "'#'")], id="comments"
        ),
        pytest.param(
            'a,b\n"x\n# y",2\n# "\n3,4\n', {"comment": "#"}, [("x\n# y", "2"), ("3", "4")], id="comments and quotes"
        ),
        pytest.param('a,b\n5" x,2\n# "\n3,4\n', {"comment": "#"}, [('5" x', "2"), ("3", "4")], id="stray quotes"),
        pytest.param("a\n1\n# x\n\n2\n", {"comment": "#"}, [("1",), (None,), ("2",)], id="comments, one column"),
        pytest.param("a,b\n//c\n/,2", {"comment": "//"}, [("/", "2")], id="long comment mark"),
        pytest.param('a "title"\n\na,b\n1,2\n', {"skip_lines": 2}, [("1", "2")], id="first lines"),
        pytest.param('"\r\n"\r\na,b\r\n1,2\r\n', {"skip_lines": 2}, [("1", "2")], id="first lines, CRLF"),
        pytest.param('a,b\n1,2\n3,4\nTotal: "\n\n', {"skip_footer": 2}, [("1", "2"), ("3", "4")], id="last lines"),
        pytest.param('"x\r"\n1\n2\n', {"skip_footer": 1, "names": ("a",)}, [("x\r",), ("1",)], id="CR in row 1"),
        pytest.param("a,b\r1,2\rend", {"skip_footer": 1}, [("1", "2")], id="last line, CR"),
        pytest.param("a,b\n1,2\n", {"skip_footer": 1}, [], id="the last row is a footer"),
        pytest.param("1,2\n3,4\n", {"header": False}, [("1", "2"), ("3", "4")], id="no header line"),
        pytest.param("\n1\n\n", {"header": False}, [(None,), ("1",), (None,)], id="no header line, one column"),
        pytest.param("1;2\n3;4\n", {"names": ("x", "y")}, [("1", "2"), ("3", "4")], id="names"),
        pytest.param("a;b\n3;4\n", {"names": ("x", "y"), "header": True}, [("3", "4")], id="names instead"),
        pytest.param("1,5;2,5\n", {"names": ("x", "y")}, [("1,5", "2,5")], id="names show the delimiter"),
        pytest.param("sep=;\r\na;b\r\n1;2\r\n", {"dialect": "excel"}, [("1", "2")], id="sep line"),
        pytest.param("sep=§\na§b\n1§2\n", {"dialect": "excel"}, [("1", "2")], id="sep line, not ASCII"),
        pytest.param("a;b;;\n1;2;;\n", {"dialect": "excel"}, [("1", "2")], id="empty columns of Excel"),
    ],
)
def test_a_setting_is_read_at_any_block_size(read, text, csv, rows, block_bytes):
    names, found = read(text, block_bytes, **csv)
    assert found == rows
    if not rows:
        assert names == ["a", "b"]


def test_columns_without_names_are_numbered(read):
    assert read("1,2,3\n", header=False)[0] == ["column_1", "column_2", "column_3"]


def test_names_are_trimmed(read):
    assert read('a , "b" \n1,2\n', trim=True)[0] == ["a", "b"]


# --- Names


@pytest.mark.parametrize(
    ("text", "csv", "words"),
    [
        ("1,2\n", {"names": ("x",)}, ["1 name is given", "2 fields", "--names column_1,column_2"]),
        ("a,b\n", {"names": ("a", "b")}, ["the first line has these names", "--names"]),
        ("1,2\n", {"names": ("x", "x")}, ["x is given twice"]),
        ("a,a\n1,2\n", {}, ["column a appears twice", "--duplicate-names rename"]),
        ("\u00fc,u\u0308\n1,2\n", {}, ["appears twice", "--duplicate-names rename"]),
        ("a,,c\n1,x,2\n", {}, ["column 2 has no name", "--nameless rename"]),
        ("a,,c\n1,,2\n", {}, ["column 2 has no name", "--empty-columns drop"]),
        ("a,b,\n1,2,\n", {}, ["column 3 has no name", "--trailing-delimiter drop"]),
        ("a,b,\n1,2,x\n", {}, ["column 3 has no name", "--nameless rename"]),
    ],
)
def test_names_that_do_not_fit_are_refused_with_the_flag(read, text, csv, words):
    with pytest.raises(SchemaError) as caught:
        read(text, **csv)
    assert all(word in f"{caught.value.message} {caught.value.hint}" for word in words)
    assert caught.value.position == "line 1"


@pytest.mark.parametrize(
    ("text", "csv", "names", "rows"),
    [
        ("a,,c\n1,x,2\n", {"nameless": "rename"}, ["a", "column_2", "c"], [("1", "x", "2")]),
        ("column_2,,c\n1,x,2\n", {"nameless": "rename"}, ["column_2", "column_2_2", "c"], [("1", "x", "2")]),
        ("a,,c\n1,x,2\n", {"nameless": "drop"}, ["a", "c"], [("1", "2")]),
        ("a,a,a_2,a\n1,2,3,4\n", {"duplicate_names": "rename"}, ["a", "a_3", "a_2", "a_4"], None),
        ("\u00fc,u\u0308\n1,2\n", {"duplicate_names": "rename"}, ["\u00fc", "u\u0308_2"], None),
        ("a,A,b\n1,2,3\n", {"duplicate_names": "rename"}, ["a", "A_2", "b"], None),
        ("a,A\n1,2\n", {}, ["a", "A"], None),
        ("a,b,a\n1,2,3\n", {"duplicate_names": "drop"}, ["a", "b"], [("1", "2")]),
        ('a,,c\n1,,2\n3,"",4\n', {"empty_columns": "drop"}, ["a", "c"], [("1", "2"), ("3", "4")]),
        ("a,,c\n1,,2\n", {"empty_columns": "rename"}, ["a", "column_2", "c"], [("1", None, "2")]),
        ("a,b,\n1,2,\n", {"trailing_delimiter": "drop"}, ["a", "b"], [("1", "2")]),
        ("a,b\n1,2,\n3,4,\n", {"trailing_delimiter": "drop"}, ["a", "b"], [("1", "2"), ("3", "4")]),
        ("a,b\n1,2\n", {"trailing_delimiter": "drop"}, ["a", "b"], [("1", "2")]),
        ("a,b,\n1,2,\n", {"trailing_delimiter": "rename"}, ["a", "b", "column_3"], [("1", "2", None)]),
        ("1,2,\n", {"trailing_delimiter": "drop", "header": False}, ["column_1", "column_2"], [("1", "2")]),
        ("1,2,\n", {"trailing_delimiter": "drop", "names": ("x", "y")}, ["x", "y"], [("1", "2")]),
        (
            "a,,c,\n1,x,2,\n",
            {"empty_columns": "drop", "trailing_delimiter": "drop", "nameless": "rename"},
            ["a", "column_2", "c"],
            [("1", "x", "2")],
        ),
    ],
)
def test_names_are_repaired(read, text, csv, names, rows):
    found = read(text, **csv)
    assert found == (names, found[1] if rows is None else rows)


@pytest.mark.parametrize(
    ("csv", "flag"),
    [({"empty_columns": "drop"}, "--empty-columns rename"), ({"trailing_delimiter": "drop"}, "--trailing-delimiter")],
)
@pytest.mark.parametrize("block_bytes", [1 << 20, 4096])
def test_a_value_in_a_column_that_is_left_out_as_empty_is_refused_with_its_place(read, csv, flag, block_bytes):
    text = "a,b,\n" + "\n" + "1,2,\n" * 30_000 + "3,4,lost\n" + "1,2,\n" * 10
    with pytest.raises(SchemaError, match="'lost'") as caught:
        read(text, block_bytes, **csv)
    assert caught.value.position == "row 30001 (line 30003), column 3"
    assert flag in caught.value.hint


def test_many_names_are_checked_in_linear_time(read):
    names = [f"n{i}" for i in range(20_000)]
    found, rows = read(",".join([*names, *names]) + "\n", duplicate_names="rename")
    assert rows == []
    assert len(set(found)) == 40_000
    assert found[20_000] == "n0_2"


# --- Lines and errors


@BLOCKS
@pytest.mark.parametrize(
    ("text", "csv", "line", "words"),
    [
        ("x\ny\na,b\n1,2\n3\n", {"skip_lines": 2}, 5, "found 1"),
        ("# x\na,b\n# y\n1,2\n# z\n3\n", {"comment": "#"}, 6, "found 1"),
        ('a,b\n# "\n"1\n",2\n# z\n3\n', {"comment": "#"}, 6, "found 1"),
        ("a,b\n1,x\\\ny\n3\n", {"escape": "\\"}, 4, "found 1"),
        ("a,b\n1,x\\", {"escape": "\\"}, None, "ends with an escape character"),
        ("a@@b\n1@@2@@3\n", {"delimiter": "@@"}, 2, "found 3"),
        ('a,b\n1, "x" y\n', {"trim": True}, 2, "after the closing quote"),
        ('a,b\n1, "x\n', {"trim": True}, 2, "never closed"),
        ("a,b\n1,'x'y\n", {"quote": "'"}, 2, "after the closing quote"),
        (b"a@@b\n1@@\xfb\n", {"delimiter": "@@"}, 2, "not UTF-8"),
        (b"a,b\n\\,,\xf7\n", {"escape": "\\"}, 2, "not UTF-8"),
        ("a,b\n1,2\n", {"skip_lines": 3}, None, "3 lines should be skipped, but the file has only 2 lines"),
        ("a,b\n1,2\n", {"skip_footer": 2}, 1, "empty"),
        ("sep=;\na;b\n", {}, 1, "names the delimiter for Excel"),
        ("a,b\n1,2,\n", {}, 2, "found 3"),
    ],
)
def test_errors_name_the_line(read, text, csv, line, words, block_bytes):
    with pytest.raises(SourceReadError, match=words) as caught:
        read(text, block_bytes, **csv)
    assert caught.value.position == (line and f"line {line}")


def test_refusals_name_the_flag(read):
    with pytest.raises(SourceReadError) as caught:
        read("sep=;\na;b\n")
    assert caught.value.hint == "--dialect excel"
    with pytest.raises(SourceReadError) as caught:
        read("a,b\n1,2,\n")
    assert "--trailing-delimiter drop" in caught.value.hint


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_first_and_last_lines_are_cut_off_whatever_the_pieces(step, line_end, has_end, count):
    texts = [b"one", b"", b"three", b"4", b"fi ve", b"six"]
    text = line_end.join(texts) + line_end * has_end

    def pieces():
        return (text[at : at + step] for at in range(0, len(text), step))

    assert b"".join(without_first_lines(pieces(), count)) == line_end.join(texts[count:]) + line_end * has_end
    assert (
        b"".join(without_last_lines(pieces(), count, lambda text: line_end[-1:] if len(text) > 5 else b""))
        == line_end.join(texts[:-count]) + line_end
    )


@pytest.mark.parametrize("csv", [{"skip_footer": 1}, {"dialect": "sap-list"}])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(read, monkeypatch, csv):
    monkeypatch.setattr(lines, "_MAX_LINE_BYTES", 1_000_000)
    with pytest.raises(SourceReadError, match="a line is longer than 1000000 bytes"):
        read("|a|\n" + "x" * 2_000_000, **csv)


def test_last_lines_of_compressed_files_are_cut_off(read):
    text = "a,b\n" + "1,2\n" * 100_000 + "Total,100000\n"
    assert len(read(gzip.compress(text.encode()), name="f.csv.gz", skip_footer=1)[1]) == 100_000


@pytest.mark.parametrize("delimiters", [("@@",), ("§",), (",",), (",", ";", "\t", "|")])
def test_encoded_text_is_spelled_as_in_the_file_again(delimiters):
    spelling = Spelling(delimiters, '"', "\\")
    text = 'x\x1f,;|@@§\\,\\@@\\§\\\\\\"\\\n\\\r\n\\\r\\ \\\u00a0\\a'.encode()
    assert spelling.raw(spelling.encode(text)) == text


# --- Lists of SAP


LIST = """Report 1
--------------
|ID |NAME |N |
--------------
|1  | a b |- |
|2  |     |3 |
|---|-----|--|
|*  |     |3 |
Page 2
|ID |NAME |N |
|   |     |  |
|3  |\t"x |  |
--------------
"""


@BLOCKS
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_list_of_sap_is_read_without_titles_rulers_and_totals(read, block_bytes, line_end):
    names, rows = read(LIST.replace("\n", line_end), block_bytes, dialect="sap-list")
    assert names == ["ID", "NAME", "N"]
    assert rows == [("1", "a b", "-"), ("2", None, "3"), ("3", '"x', None)]


@BLOCKS
@pytest.mark.parametrize(
    ("row", "words", "hint"),
    [
        ("|4  |x", "does not end with |", ""),
        ("|*4 |x|1|", "may be a row or a total: its first cell is '*4'", "--comment '|*'"),
    ],
)
def test_a_doubtful_line_of_a_list_is_refused(read, row, words, hint, block_bytes):
    with pytest.raises(SourceReadError) as caught:
        read(f"{LIST}{row}\n|5|y|2|\n", block_bytes, dialect="sap-list")
    assert words in caught.value.message
    assert caught.value.position == "line 14"
    assert hint in caught.value.hint


@BLOCKS
def test_a_row_of_a_list_whose_last_delimiter_is_escaped_is_refused(read, block_bytes):
    assert read("|a|b|\n|1|x\\\\|\n|2|y\\|z|\n", block_bytes, dialect="sap-list", escape="\\")[1] == [
        ("1", "x\\"),
        ("2", "y|z"),
    ]
    with pytest.raises(SourceReadError, match=r"does not end with \|") as caught:  # the next line would belong to it
        read("|a|b|\n|1|x\\|\n|--|--|\n", block_bytes, dialect="sap-list", escape="\\")
    assert caught.value.position == "line 2"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_escaped_line_ends_in_the_header_line_count_as_lines(read, line_end):
    with pytest.raises(SourceReadError, match="expected 2 fields") as caught:
        read("a\\\nb,c\n1,2\n3\n".replace("\n", line_end), escape="\\")
    assert caught.value.position == "line 4"


def test_totals_with_a_text_are_left_out_as_comments(read):
    text = f"{LIST}|*4 |x|1|\n|5|y|2|\n"
    assert read(text, dialect="sap-list", comment="|*")[1][-1] == ("5", "y", "2")


def test_lines_left_out_of_a_list_are_told(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text(LIST)
    settings = EngineSettings(csv={"dialect": "sap-list"})
    source = open_source(path, settings=settings, filesystem=LocalFileSystem())
    list(source.sample(1 << 20))
    (note,) = source.structure().notes
    assert note == "left out of the sample: 1 total, 1 other line, 1 repeated header line, 1 empty row"


def test_a_list_may_have_one_column(read):
    assert read("|A|\n|-|\n|x|\n| |\nend\n|y|\n", dialect="sap-list")[1] == [("x",), ("y",)]


@BLOCKS
@pytest.mark.parametrize("delimiter", [None, "||"])
def test_a_list_in_another_encoding_is_refused(read, delimiter, block_bytes):
    text = "|ID|NAME|\n|1|Müller|\n".replace("|", delimiter or "|")  # 0xFC marks an escaped delimiter elsewhere
    with pytest.raises(SourceReadError, match="not UTF-8 text") as caught:
        read(text.encode("cp1252"), block_bytes, dialect="sap-list", delimiter=delimiter)
    assert caught.value.position == "line 2"


@BLOCKS
@pytest.mark.parametrize("csv", [{"delimiter": "||"}, {"delimiter": "§"}, {"delimiter": "|", "escape": "\\"}])
def test_a_list_may_have_a_long_delimiter_or_escapes(read, csv, block_bytes):
    text = LIST.replace("|", csv["delimiter"])
    names, rows = read(text, block_bytes, dialect="sap-list", **csv)
    assert names == ["ID", "NAME", "N"]
    assert rows == [("1", "a b", "-"), ("2", None, "3"), ("3", '"x', None)]


def test_rows_that_do_not_fit_are_refused_with_a_long_delimiter(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("a||b\n1||2||3\n")
    source = open_source(path, settings=EngineSettings(csv={"delimiter": "||"}), filesystem=LocalFileSystem())
    with pytest.raises(SourceReadError, match="expected 2 fields, found 3"):
        list(source.sample(1 << 20))


@pytest.mark.parametrize("csv", [{"nameless": "drop"}, {"empty_columns": "drop"}, {"trailing_delimiter": "drop"}])
def test_a_file_of_which_no_column_is_left_is_refused(read, csv):
    with pytest.raises(SchemaError):
        read(",\n,\n", **csv)


def test_a_header_line_in_mid_file_is_found_next_to_rows_of_other_lengths(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("a,b\n" + "1,2\n" * 50_000 + "3\na,b\n4,5\n")
    source = open_source(path, settings=EngineSettings(max_rejects=1), filesystem=LocalFileSystem())
    list(source.sample(1 << 16))
    assert source.structure().doubts == ()
    source.schema()  # the types are inferred again, from all rows
    assert [sorted(block.readable().ragged) for block in source.open()] == [[50_000]]
    assert [doubt.message for doubt in source.structure().doubts] == [
        "row 50,002 repeats the header line: were files joined?"
    ]


@BLOCKS
def test_a_list_whose_lines_end_with_a_lone_cr_is_refused(read, block_bytes):
    with pytest.raises(SourceReadError, match="a lone carriage return in a list"):
        read(LIST.replace("\n", "\r"), block_bytes, dialect="sap-list", nameless="rename")
