"""Doubts about the structure of a file, found in its first lines and its sample."""

import pyarrow as pa
import pytest

from pushengine.config.csv_settings import CsvSettings
from pushengine.sources.csv.header import Columns, FirstRow
from pushengine.sources.csv.structure.checks import FileSample, findings, repeated_header
from pushengine.sources.csv.structure.first_lines import lines_of


def sample_of(text, delimiter=",", batches=1, first_line=1, **given):
    """Return the sample of a text that has no quotes, read in some batches."""
    settings = CsvSettings(**given).filled()
    lines = lines_of(text)
    header, *rows = lines[first_line - 1 :]
    cells = tuple(header.split(delimiter))
    first = FirstRow("f.csv", first_line, header.encode(), cells, delimiter, "counted", settings.has_header)
    names = cells if settings.has_header else tuple(f"column_{n}" for n in range(1, len(cells) + 1))
    rows = [row.split(delimiter) for row in (rows if settings.has_header else [header, *rows]) if row]
    sample = FileSample(first, Columns(names), lambda: lines, settings)
    size = max(len(rows) // batches, 1)
    for start in range(0, len(rows), size):
        columns = list(zip(*rows[start : start + size], strict=True))
        sample.observe(
            pa.RecordBatch.from_pydict(
                {
                    n: pa.array([c or None for c in column], pa.string())
                    for n, column in zip(names, columns, strict=True)
                }
            )
        )
    return sample


def messages(*args, **given):
    return [found.message for found in findings(sample_of(*args, **given))]


# --- The delimiter


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ":", "^", "~", "#", "\x01", "@@", "::", "~|~", ";;"])
def test_a_single_column_that_another_delimiter_splits(delimiter):
    text = "\n".join(delimiter.join(row) for row in (["ID", "NAME", "QTY"], ["1", "a", "5"], ["2", "b", "6"]))
    found = next(findings(sample_of(text)))
    assert "splits the header line and all sampled rows alike" in found.message
    assert found.ways[0].settings == {"delimiter": delimiter}
    assert found.keep.settings == {"delimiter": ","}
    assert not messages(text, delimiter=",", quote='"')[1:]


def test_a_given_delimiter_answers_the_doubt():
    settings = {"delimiter": ","}
    text = "ID;NAME\n1;a\n"
    assert messages(text)
    sample = sample_of(text)
    sample.given = CsvSettings(**settings)
    assert not list(findings(sample))


@pytest.mark.parametrize(
    "text",
    [
        "A:B\n1:2\n3\n",
        "TIME\n10:30\n11:45\n",
        "NOTE\na;b\nc\n",
        "REF\n#1\n#2\n",
        "A~B\n1~2\n3\n",
        "NAME\nAda  L\nBob\nCid\n",
    ],
)
def test_a_single_column_that_nothing_else_splits(text):
    assert not messages(text)


def test_a_title_above_rows_of_another_delimiter():
    found = next(findings(sample_of("Stock list\nas of today\nID;NAME\n1;a\n2;b\n3;c\n")))
    assert "';' splits the sampled rows, but not the header line, alike" in found.message
    assert found.ways[0].settings == {"skip_lines": 2}


def test_lines_are_counted_from_the_start_of_the_file():
    found = next(findings(sample_of("x\ny\nStock list\nID;NAME\n1;a\n2;b\n", first_line=3, skip_lines=2)))
    assert found.ways[0].settings == {"skip_lines": 3}


def test_aligned_columns():
    assert "the columns are aligned" in messages("ID  NAME   QTY\n1   Bolt   5\n2   Nut    6\n")[0]
    assert not messages("FULL  NAME\nAda Lovelace\nGrace Hopper\nBob\n")


@pytest.mark.parametrize(
    ("text", "delimiter", "is_doubtful"),
    [
        ("A;B, C\n1;2,5\n2;3,5\n", ",", True),
        ("A;B, C\n1;2,5\n2,3\n", ",", False),
        ("A;B;C, D\n1;2;2,5\n2;3;3,5\n", ";", False),
        ("A,B\n1;2,5\n2;3,5\n", ",", False),
        ("A|B,C\n1|2,5\n2|3,5\n", ",", True),
    ],
)
def test_two_delimiters_that_fit(text, delimiter, is_doubtful):
    assert any("two delimiters" in message for message in messages(text, delimiter)) is is_doubtful


# --- The header line


@pytest.mark.parametrize(
    "text",
    [
        "1,Bolt,5\n2,Nut,6\n",
        "Bolt,2024-01-31\nNut,2024-02-29\n",
        "4711\n4712\n",
        "Bolt,true\nNut,false\n",
        "a@example.com,x\nb@example.com,y\n",
        "DE,2008\nFR,2009\n",
        "1,20,300\n2,25,310\n",
        "4500000001,00010,100.00\n",
    ],
)
def test_a_row_as_header_line(text):
    found = next(findings(sample_of(text)))
    assert found.message.startswith("the header line looks like a row: ")
    assert found.ways[0].settings == {"header": False}
    assert found.keep.settings == {"header": True}
    assert not messages(text, header=True)
    assert not messages(text, header=False)
    assert not messages(text, names=tuple(f"N{n}" for n in range(text.split("\n")[0].count(",") + 1)))


@pytest.mark.parametrize(
    "text",
    [
        "ID,NAME\n1,Bolt\n",
        "DE,2008,2009\nx,10,20\ny,20,30\n",
        "NAME,0,1,2\na,1,2,3\nb,2,3,4\n",
        "NAME,1\na,x\nb,y\n",
        "DATE,2024-01-31\n2024-02-29,5\n",
        "1,QTY\n5,6\n",
        "A,B\nx,y\n",
        "A,B\n",
    ],
)
def test_a_header_line_above_rows(text):
    assert not messages(text)


def test_a_name_that_is_a_value_of_its_own_column():
    found = next(findings(sample_of("male,yes\nfemale,no\nmale,no\n")))
    assert "'male' is a value of its own column, too (row 2)" in found.message
    assert not messages("SEX,OK\nSEX,1\nfemale,0\n")  # a text above numbers is a name


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_the_header_line_again(batches):
    text = "ID,NAME\n1,a\n2,b\n3,c\nID,NAME\n4,d\n"
    found = next(findings(sample_of(text, batches=batches)))
    assert found.message == "row 4 repeats the header line: were files joined?"
    assert not messages(text, header=True)
    assert "row 2 repeats" in messages("ID,NAME\n1,a\n\ufeffID,NAME\n")[0]


def test_a_row_repeats_the_header_line_only_as_a_whole():
    batch = pa.RecordBatch.from_pydict({"ID": ["ID", None, "ID"], "NAME": ["x", "NAME", "NAME"]})
    assert repeated_header(batch, {"ID": "ID", "NAME": "NAME"}) == 2
    assert repeated_header(batch, {"ID": "ID", "NAME": "y"}) is None
    assert repeated_header(batch, {"NAME": "y"}) is None


@pytest.mark.parametrize("batches", [1, 3])
def test_a_byte_order_mark_in_mid_file(batches):
    text = "ID,NAME\nx,a\ny,b\n\ufeffz,c\n"
    assert messages(text, batches=batches) == ["row 3 begins with a byte order mark: were files joined?"]
    assert not messages(text, trim=True)
    assert not messages(text, trim=False)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<html>\n<body>\n", "a web page"),
        ("-----\n|ID|\n|1|\n-----\n", "no letters"),
        ("# made by x\nID\n1\n", "a comment"),
        ("// made by x\nID\n1\n", "a comment"),
    ],
)
def test_a_first_line_that_is_no_header_line(text, word):
    assert word in messages(text)[0]
    assert not messages(text, header=True)


def test_names_with_a_number_sign_are_no_comments():
    assert not messages("##0\nx\n")
    assert not messages("#ID\nx\n")
    assert not messages("# made by x\nID\n", comment="//", header=True)


# --- Quotes


def test_a_blank_before_a_quote():
    text = 'ID,NAME\n1, "a"\n2, "b"\n'
    found = next(findings(sample_of(text)))
    assert "a blank stands before the opening quote in column NAME" in found.message
    assert (found.ways[0].settings, found.keep.settings) == ({"trim": True}, {"trim": False})
    assert not messages(text, trim=False)


def test_a_quoted_text_within_a_field_in_quotes_is_no_blank_before_a_quote():
    sample = sample_of('ID,SAID\n1," ""a"""\n')
    sample.values[1][:] = [' "a"']
    assert not list(findings(sample))


def test_single_quotes_around_all_values():
    assert messages("ID,NAME\n1,'a'\n2,'b'\n") == ["all sampled values of column NAME are in single quotes"]
    assert not messages("ID,NAME\n1,'a'\n2,'b'\n", quote='"')
    assert not messages("ID,NAME\n1,'a'\n2,b\n")
    assert not messages("ID,NAME\n1,'a'\n")
    assert messages("'ID','NAME'\nx,'a'\n")


# --- The doubt


def test_a_doubt_names_the_ways_that_lead_on():
    found = next(findings(sample_of("ID;NAME\n1;a\n")))
    doubt = found.doubt("f.csv", lambda settings: "header" in settings)
    assert (
        doubt.hint
        == "if ';' separates the fields: --delimiter ';' --no-header; if there is a single column: --delimiter ','"
    )
    others = list(findings(sample_of("-----\n|ID|\n|1|\n")))
    hint = "if it does hold the column names: --header --delimiter ','"
    assert others[0].doubt("f.csv", lambda _: False, others).hint == hint
    assert found.doubt("f.csv", lambda _: False).hint == "if there is a single column: --delimiter ','"
