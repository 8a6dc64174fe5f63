"""Rejected rows of text files as the file holds them, in every dialect."""

import contextlib

import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources.csv import source as csv_source


def blocks_of(tmp_path, data, *, block_bytes=None, **settings):
    """Return the blocks of a file, opened so that rows may be rejected."""
    path = tmp_path / "a.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    chosen = EngineSettings(max_rejects=1).with_overrides(settings)
    if block_bytes is not None:
        chosen = chosen.model_copy(update={"chunk_bytes": block_bytes})
    files = LocalFileSystem()
    source = csv_source.open_files(files.list(str(path)), label="a.csv", settings=chosen, filesystem=files)
    source.schema()
    with contextlib.closing(source.open()) as reader:
        yield from reader


def rejected(tmp_path, data, **settings):
    """Return (line, byte position, text, fields) of the rows with too many or too few fields, and the values of the others."""
    found, values = [], []
    for block in blocks_of(tmp_path, data, **settings):
        readable = block.readable()
        assert readable.rows == readable.batch.rows + len(readable.ragged)
        numbers = sorted(readable.ragged)
        found += [
            (row.line, row.byte_position, row.text, readable.ragged[number])
            for number, row in zip(numbers, readable.raw(numbers), strict=True)
        ]
        values += [tuple(row.values()) for row in readable.batch.batch.to_pylist()]
    return found, values


def test_rows_are_numbered_without_empty_lines_and_found_by_line_and_byte(tmp_path):
    found, values = rejected(tmp_path, 'A,B\r\n\r\n1,"x\r\ny"\r\n2\r\n\r\n3,4,5\r\n6,""')
    assert found == [(5, 17, "2", 1), (7, 22, "3,4,5", 3)]
    assert values == [("1", "x\r\ny"), ("6", "")]


def test_lines_that_end_with_cr_are_counted(tmp_path):
    assert rejected(tmp_path, "A,B\r1,2\r3\r4,5\r") == ([(3, 8, "3", 1)], [("1", "2"), ("4", "5")])


@pytest.mark.parametrize("block_bytes", [8, 16, 40])
def test_positions_do_not_depend_on_the_blocks(tmp_path, block_bytes):
    text = "A,B\n" + "".join(f"{number},ä\n" if number % 7 else f"{number}\n" for number in range(100))
    found, values = rejected(tmp_path, text, block_bytes=block_bytes)
    assert found == [
        (number + 2, len(text[: text.index(f"\n{number}\n") + 1].encode()), str(number), 1)
        for number in range(0, 100, 7)
    ]
    assert len(values) == 100 - len(found)


@pytest.mark.parametrize(
    ("text", "settings", "row"),
    [
        ("# c\nA,B\n1,2\n# 3\n3\n", {"comment": "#"}, (5, 16, "3", 1)),
        ("A , B\n1, 2\n 3 \n", {"trim": True}, (3, 11, " 3 ", 1)),
        ("A||B\n1||2\n3\n4||5||6\n", {"delimiter": "||"}, (3, None, "3", 1)),
        ("A,B\n1\\,x,2\n3\\,x\n", {"escape": "\\"}, (3, None, "3\\,x", 1)),
        ("title\nA,B\n1,2\n3\n", {"skip_lines": 1}, (4, None, "3", 1)),
        ("|A|B|\n|---|\n|1|2|\n|3|\n", {"dialect": "sap-list"}, (4, None, "|3|", 1)),
        ("1,2\n3\n", {"names": ["A", "B"]}, (2, 4, "3", 1)),
    ],
    ids=["comment", "trim", "long delimiter", "escape", "skipped lines", "sap-list", "names"],
)
def test_each_dialect_spells_rows_as_its_file(tmp_path, text, settings, row):
    found, values = rejected(tmp_path, text, **settings)
    assert found[0] == row
    assert len(values) == 1


def test_in_a_file_with_one_column_empty_lines_are_rows_and_comments_are_not(tmp_path):
    found, values = rejected(tmp_path, "A\n1\n\n#x\n2,3\n", comment="#", delimiter=",")
    assert (found, values) == ([(5, 8, "2,3", 2)], [("1",), (None,)])


def test_a_block_of_which_no_row_is_regular_has_all_columns(tmp_path):
    (block,) = blocks_of(tmp_path, "A,B\n1\n2\n")
    readable = block.readable()
    assert (readable.batch.rows, readable.batch.batch.schema.names, readable.rows) == (0, ["A", "B"], 2)


def test_a_column_that_is_left_out_counts_as_a_field(tmp_path):
    found, values = rejected(tmp_path, "A,,B\n1,,2\n3\n", nameless="drop")
    assert (found[0][2:], values) == (("3", 1), [("1", "2")])


def test_text_in_another_encoding_is_not_readable_at_all(tmp_path):
    (block,) = blocks_of(tmp_path, b"A,B\n1\n2,\xff\n")
    with pytest.raises(SourceReadError, match="not UTF-8") as caught:
        block.readable()
    assert caught.value.position == "line 3"


def test_a_batch_is_located_by_its_rows_although_earlier_blocks_have_malformed_ones(tmp_path):
    text = "A,B\n" + "".join(f"{number},x\n" if number % 10 else f"{number}\n" for number in range(100))
    *_, last = blocks_of(tmp_path, text, block_bytes=50)
    readable = last.readable()
    located = last.located(readable.batch)
    first = readable.batch.batch.column("A")[0].as_py()
    assert located.first_row + located.number(0) == int(first)
