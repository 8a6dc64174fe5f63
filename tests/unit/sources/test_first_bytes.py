"""What the first bytes of a file show, and what they do not."""

import io
import sqlite3
import struct
import tarfile
import zipfile

import duckdb
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from pushengine.sources.first_bytes import (
    HEAD_BYTES,
    TEXT,
    WrongKindError,
    compression_in,
    content_encoding,
    evident_encoding,
    kind_of,
)

TABLE = pa.table({"ID": [1, 2], "TXT": ["a", "b"]})
TEXTS = {
    "ASCII": "ID;N\n1;2\n",
    "German": "ID,GRÖSSE\r\n1,groß\r\n",
    "Russian": "Код,Цена\n1,рубль\n",
    "Chinese": "编号,名称\r\n1,甲\r\n2,乙\r\n",
    "long": "ID,TXT\n" + "1,😀\n" * HEAD_BYTES,
}
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


def zipped(*names, **content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, content.get("text", "x"))
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"A\n1\n"))
    return file.getvalue()


def written(write):
    file = io.BytesIO()
    write(TABLE, file)
    return file.getvalue()


def arrow_file(open_writer):
    file = io.BytesIO()
    with open_writer(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return file.getvalue()


def sqlite_file(folder):
    with sqlite3.connect(folder / "db") as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    return (folder / "db").read_bytes()


def duckdb_file(folder):
    duckdb.connect(str(folder / "duck")).close()
    return (folder / "duck").read_bytes()


KINDS = {
    "a Parquet file": lambda _: written(pq.write_table),
    "an Arrow file": lambda _: arrow_file(pa.ipc.new_file),
    "an Excel workbook": lambda _: zipped("[Content_Types].xml", "xl/workbook.xml"),
    "an OpenDocument file": lambda _: zipped("mimetype", text="application/vnd.oasis.opendocument.spreadsheet"),
    "a zip archive": lambda _: zipped("orders.csv"),
    "an Excel workbook of the old format (xls)": lambda _: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(504),
    "a tar archive": lambda _: tarred(),
    "an SQLite database": sqlite_file,
    "a DuckDB database": duckdb_file,
    "an ORC file": lambda _: written(pa.orc.write_table),
    "a Feather file of version 1": lambda _: b"FEA1\0\0\0\0" + bytes(64),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_format_is_recognized(tmp_path, name):
    kind = kind_of(KINDS[name](tmp_path)[:HEAD_BYTES])
    assert kind.name == name
    assert kind.remedy


def test_the_streaming_layout_of_arrow_is_recognized():
    assert kind_of(arrow_file(pa.ipc.new_stream)).format == "arrow"


@pytest.mark.parametrize(
    "text", ["PAR1,PAR2\n1,2\n", "PK,BZh9\n", "ORC,Obj\n", "ARROW1,B\n", "FEA1\n", "Rar!\n", "7z;x\n", "é,ü\n"]
)
def test_a_text_that_begins_with_the_letters_of_a_format_is_text(text):
    assert kind_of(text.encode()) is TEXT
    assert compression_in(text.encode()) is None


@pytest.mark.parametrize("head", [b"", bytes(30), struct.pack("<8I", *range(8))])
def test_other_bytes_are_nothing_known(head):
    assert kind_of(head) is None


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("name", TEXTS)
def test_nulls_show_an_encoding(name, encoding):
    head = TEXTS[name].encode(encoding)[:HEAD_BYTES]
    assert evident_encoding(head) == encoding
    assert content_encoding(head, encoding) == encoding
    assert content_encoding(head, encoding[:6]) == encoding  # utf-16 does not say the order of the bytes
    for other in {*WIDE, "latin-1", None} - {encoding}:
        with pytest.raises(WrongKindError) as caught:
            content_encoding(head, other)
        assert caught.value.hint == f"--encoding {encoding}"


@pytest.mark.parametrize("name", TEXTS)
def test_other_encodings_are_not_evident(name):
    assert evident_encoding(TEXTS[name].encode()[:HEAD_BYTES]) is None


@pytest.mark.parametrize(
    "data",
    [b"ID,TXT\n1,a\n2,b\0c\n", b"ID,TXT\n1,a\n2,\0bc\n", b"ID,T\n1,\0\0\0\0\n", b"ID\n1\n" + bytes(40), bytes(99), b"A\n\0\n\0\n"],
)  # fmt: skip
def test_a_null_in_a_text_shows_no_encoding(data):
    assert evident_encoding(data) is None
    assert content_encoding(data, None) == "utf-8"


@pytest.mark.parametrize("declared", ["utf-16le", "UTF-16LE", "utf_16_le", "unicodelittleunmarked", "U16"])
def test_an_encoding_may_have_any_of_its_names(declared):
    assert content_encoding("ID,T\n1,a\n".encode("utf-16-le"), declared) in ("utf-16-le", declared)


@pytest.mark.parametrize("declared", ["utf-16", "UTF_16", "utf16", "utf-32"])
def test_an_order_of_bytes_that_nothing_shows_is_asked_for(declared):
    with pytest.raises(WrongKindError, match="no byte order mark") as caught:
        content_encoding("编号".encode("utf-16-le"), declared)
    number = declared[-2:]
    assert caught.value.hint == f"--encoding utf-{number}-le or --encoding utf-{number}-be"
