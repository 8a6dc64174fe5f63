"""CSV files as found in practice: what is read, and how each kind of damage is rejected."""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import gzip
import io
import lzma
import random
import threading
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from support.files import file_ref
from support.schemas import inference_of

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SchemaError, SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.conform import conform
from pushengine.sources import open_source
from pushengine.sources.csv import reading
from pushengine.sources.csv import rows as csv_rows
from pushengine.sources.csv.rows import Dialect

DATA = Path(__file__).parents[3].parent / "shared/data"


def opened(spec, format=None, **options):  # noqa: A002
    return open_source(spec, format=format, settings=EngineSettings(**options), filesystem=LocalFileSystem())


def batches_of(reader):
    """Yield each block decoded and with its position, as error messages need it."""
    for block in reader:
        yield block.located(block.decode())


def rows_of(source) -> list[tuple]:
    reader = source.open()
    try:
        rows = [tuple(row.values()) for block in reader for row in block.decode().batch.to_pylist()]
        assert reader.bytes_read() == source.size_bytes()
    finally:
        reader.close()
    return rows


@pytest.fixture
def write(tmp_path):
    def write(content: bytes | str, name: str = "f.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        pytest.param('a,b\n1,""\n,x\n', [("1", ""), (None, "x")], id="empty unquoted is null, quoted is empty"),
        pytest.param("a,b\r\n1,2\r\n3,4", [("1", "2"), ("3", "4")], id="CRLF, none after the last row"),
        pytest.param("a,b\r1,2\r3,4\r", [("1", "2"), ("3", "4")], id="CR only"),
        pytest.param('a,b\n"x\ny","p,q"\n', [("x\ny", "p,q")], id="line feed and delimiter inside quotes"),
        pytest.param('a,b\n"x\ry",2\n', [("x\ry", "2")], id="carriage return inside quotes"),
        pytest.param('a,b\n"say ""hi""",2\n', [('say "hi"', "2")], id="doubled quotes"),
        pytest.param('a,b\n5" pipe,6"\n', [('5" pipe', '6"')], id="inch marks"),
        pytest.param('a,b\n "x",y\n', [(' "x"', "y")], id="quote after a space is an ordinary character"),
        pytest.param("a,b\n\n1,2\n\n\n3,4\n\n", [("1", "2"), ("3", "4")], id="blank lines are not rows"),
        pytest.param("a\n1\n\n2\n", [("1",), (None,), ("2",)], id="blank line is a null in a table of one column"),
        pytest.param("\n\r\na,b\n1,2\n", [("1", "2")], id="blank lines before the header"),
        pytest.param("a;b\n1,5;2\n", [("1,5", "2")], id="semicolons"),
        pytest.param("a\tb\n1\t2\n", [("1", "2")], id="tabs"),
        pytest.param("a|b\n1|2\n", [("1", "2")], id="pipes"),
        pytest.param('"a;x",b\n1,2\n', [("1", "2")], id="delimiter inside a quoted name does not count"),
        pytest.param('"a\nb",c\n1,2\n', [("1", "2")], id="name with a line feed"),
        pytest.param("\ufeffa,b\n1,2\n", [("1", "2")], id="UTF-8 byte order mark"),
        pytest.param("a,b\n1,é\n".encode("utf-16"), [("1", "é")], id="UTF-16 byte order mark"),
        pytest.param('a,b\n1,"x\n"', [("1", "x\n")], id="quoted line feed at the end"),
        pytest.param('a,b\n"",""\n', [("", "")], id="row of empty strings"),
        pytest.param("a,b\n,\n", [(None, None)], id="row of nulls"),
        pytest.param('a,b\n"1",', [("1", None)], id="null at the end of the file, without line end"),
        pytest.param('a,b\r\n"1",', [("1", None)], id="null at the end of a CRLF file, without line end"),
        pytest.param("a,b\n007,+1\n", [("007", "+1")], id="texts are unchanged"),
        pytest.param("a,b\n x , y \n", [(" x ", " y ")], id="spaces are kept"),
    ],
)
@pytest.mark.parametrize("block_bytes", [1 << 20, 7, 1])
def test_rows_are_read_as_written_at_any_block_size(write, monkeypatch, content, rows, block_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    assert rows_of(opened(write(content))) == rows


MALFORMED = [
    pytest.param("a,b\n1,2\n3\n4,5\n", SourceReadError, "line 3", "expected 2 fields, found 1", id="too few fields"),
    pytest.param(
        "a,b\n1,2\n\n3,4,5\n",
        SourceReadError,
        "line 4",
        "expected 2 fields, found 3",
        id="too many, after a blank line",
    ),
    pytest.param('a,b\n"x\ny",2\n3\n', SourceReadError, "line 4", "found 1", id="too few, after a quoted line feed"),
    pytest.param("a,b\n1,2,\n", SourceReadError, "line 2", "found 3", id="trailing delimiter in rows"),
    pytest.param("a,b,\n1,2,\n", SchemaError, "line 1", "column 3 has no name", id="trailing delimiter everywhere"),
    pytest.param('a,b\n1,"2\n3,4\n', SourceReadError, "line 2", "never closed", id="quote never closed"),
    pytest.param('a,b\n1,2\n"3,4', SourceReadError, "line 3", "never closed", id="quote never closed in the last row"),
    pytest.param(
        'a\nx\n"y\nz\n', SourceReadError, "line 3", "never closed", id="quote never closed in a table of one column"
    ),
    pytest.param(
        'a,b\n"1"x,2\n', SourceReadError, "line 2", "after the closing quote", id="text after a closing quote"
    ),
    pytest.param(
        'a,b\n1,"x\ny" \n', SourceReadError, "line 3", "after the closing quote", id="space after a closing quote"
    ),
    pytest.param("a,b\n1,2\r3,4\n", SourceReadError, "line 2", "lone carriage return", id="mixed line ends"),
    pytest.param(
        'a,b\n"",2\n1,2\r3,4\n', SourceReadError, "line 3", "lone carriage return", id="mixed line ends and quotes"
    ),
    pytest.param("a\rb\nc\r", SourceReadError, "line 2", "lone line feed", id="line feed in a CR file"),
    pytest.param(
        "a\n1\r2\n", SourceReadError, "line 2", "lone carriage return", id="carriage return in a table of one column"
    ),
    pytest.param(b"a,b\n1,2\n3,\xff\n", SourceReadError, "line 3", "not UTF-8", id="not UTF-8"),
    pytest.param(b"a\xe9,b\n1,2\n", SourceReadError, "line 1", "not UTF-8", id="header not UTF-8"),
    pytest.param(b"a,b\n1,2\n3,\0\n", SourceReadError, "line 3", "NUL", id="NUL byte"),
    pytest.param(
        "a,b\n1,2\n".encode("utf-16-le"),
        SourceReadError,
        None,
        "--encoding utf-16-le",
        id="UTF-16 without byte order mark",
    ),
    pytest.param(b"PK\x03\x04\0\0\0\0", SourceReadError, None, "a zip archive", id="a zip archive"),
    pytest.param("a,b\n1,é\n".encode("utf-16")[:-1], SourceReadError, "line 2", "utf-16", id="truncated UTF-16"),
    pytest.param("", SourceReadError, "line 1", "empty", id="zero bytes"),
    pytest.param("\n\n", SourceReadError, "line 1", "empty", id="blank lines only"),
    pytest.param('"a,b\n1,2\n', SourceReadError, "line 1", "header .*quotes", id="quote never closed in the header"),
    pytest.param(
        '"a"x,b\n1,2\n', SourceReadError, "line 1", "malformed", id="text after a closing quote in the header"
    ),
    pytest.param("a,a\n1,2\n", SchemaError, "line 1", "column a .*twice", id="duplicate name"),
    pytest.param("a,,b\n1,2,3\n", SchemaError, "line 1", "column 2 has no name", id="empty name"),
    pytest.param('\na," "\n1,2\n', SchemaError, "line 2", "column 2 has no name", id="blank name"),
]


@pytest.mark.parametrize(("content", "error", "position", "text"), MALFORMED)
@pytest.mark.parametrize("block_bytes", [1 << 20, 7, 1])
def test_damage_is_rejected_with_file_and_line(write, monkeypatch, content, error, position, text, block_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    path = write(content)
    source = opened(path)
    reader = source.open()
    with pytest.raises(error, match=text) as caught:
        list(batches_of(reader))
    reader.close()
    assert caught.value.source == str(path)
    assert caught.value.position == position


@pytest.mark.parametrize(("content", "error", "position", "text"), MALFORMED)
def test_the_sample_rejects_the_same_damage(write, content, error, position, text):
    with pytest.raises(error, match=text) as caught:
        list(opened(write(content)).sample(1 << 20))
    assert caught.value.position == position


@pytest.mark.parametrize("content", ["a,b\n", "a,b", "a,b\n\n\n"])
@pytest.mark.parametrize("block_bytes", [1 << 20, 7, 1])
def test_a_header_alone_is_a_table_without_rows(write, monkeypatch, content, block_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    source = opened(write(content))
    assert source.schema().names == ["a", "b"]
    assert rows_of(source) == []
    assert sum(one.decode().rows for one in source.sample(1 << 20)) == 0


def test_bytes_that_are_invalid_in_the_set_encoding_are_reported_with_their_line(write):
    path = write(b"a,b\n1,2\n3,\x81\n")
    with pytest.raises(SourceReadError, match="not cp1252") as caught:
        rows_of(opened(path, csv_encoding="cp1252"))
    assert caught.value.position == "line 3"


def test_latin_1_is_read_if_it_is_the_set_encoding(write):
    assert rows_of(opened(write("a,b\nMüller,ß\n".encode("latin-1")), csv_encoding="latin-1")) == [("Müller", "ß")]


def test_a_set_delimiter_is_used_without_detection(write):
    assert rows_of(opened(write("a,b~c\n1,2~3\n"), csv_delimiter="~")) == [("1,2", "3")]


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", "\0", ""])
def test_an_impossible_delimiter_is_rejected(delimiter):
    with pytest.raises(ValidationError, match="delimiter"):
        EngineSettings(csv={"delimiter": delimiter})


def test_an_unknown_encoding_is_rejected():
    with pytest.raises(ValidationError, match="known character encoding"):
        EngineSettings(csv={"encoding": "klingon"})


def arrow_compressed(kind):
    def compress(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, kind) as stream:
            stream.write(data)
        return sink.getvalue().to_pybytes()

    return compress


COMPRESSORS = [
    pytest.param("gz", gzip.compress, id="gzip"),
    pytest.param("bz2", bz2.compress, id="bzip2"),
    pytest.param("xz", lzma.compress, id="xz"),
    pytest.param("zst", arrow_compressed("zstd"), id="zstd"),
    pytest.param("lz4", arrow_compressed("lz4"), id="lz4"),
]
MANY_ROWS = b"id,text\n" + b"".join(b"%d,%d text\n" % (i, i * 7919 % 10007) for i in range(100_000))


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
def test_compressed_files_are_read_completely(write, suffix, compress):
    rows = rows_of(opened(write(compress(MANY_ROWS), f"f.csv.{suffix}")))
    assert len(rows) == 100_000
    assert rows[-1] == ("99999", f"{99999 * 7919 % 10007} text")


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
def test_a_truncated_compressed_file_is_rejected(write, suffix, compress, kept):
    data = compress(MANY_ROWS)
    path = write(data[: int(len(data) * kept)], f"f.csv.{suffix}")
    with pytest.raises(SourceReadError, match=r"damaged .* file after line \d+") as caught:
        rows_of(opened(path))
    assert caught.value.source == str(path)


@pytest.mark.parametrize(
    ("suffix", "compress"), COMPRESSORS[:3]
)  # most tools write zstd and lz4 frames without checksums
def test_damaged_compressed_bytes_never_yield_wrong_rows(write, suffix, compress):
    data = bytearray(compress(MANY_ROWS))
    expected = rows_of(opened(write(bytes(data), f"good.csv.{suffix}")))
    rng = random.Random(7)
    for number in range(5):
        bad = bytearray(data)
        bad[rng.randrange(len(bad) // 10, len(bad))] ^= 0x55
        with suppress(SourceReadError, SchemaError):
            assert rows_of(opened(write(bytes(bad), f"bad{number}.csv.{suffix}"))) == expected


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
def test_files_of_several_members_are_read_to_the_end(write, suffix, compress):
    half = MANY_ROWS.index(b"\n", len(MANY_ROWS) // 2) + 1
    path = write(compress(MANY_ROWS[:half]) + compress(MANY_ROWS[half:]), f"f.csv.{suffix}")
    assert len(rows_of(opened(path))) == 100_000


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSORS)
def test_an_empty_or_uncompressed_file_with_a_compressed_name_is_rejected(write, suffix, compress):
    for content in (b"", b"a,b\n1,2\n" * 1000):
        with pytest.raises(SourceReadError):
            rows_of(opened(write(content, f"f.csv.{suffix}")))


def test_a_row_of_several_megabytes_is_read(write):
    long = "x" * 5_000_000
    assert rows_of(opened(write(f'a,b\n1,{long}\n2,"{long}\n"\n3,4\n'))) == [
        ("1", long),
        ("2", long + "\n"),
        ("3", "4"),
    ]


def test_an_endless_row_is_rejected_before_it_fills_the_memory(write, monkeypatch):
    monkeypatch.setattr(reading, "MAX_ROW_BYTES", 3_000_000)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1_000_000)
    path = write('a,b\n1,2\n3,"' + "4,5\n" * 2_000_000)
    with pytest.raises(SourceReadError, match="a row of more than") as caught:
        rows_of(opened(path))
    assert caught.value.position == "line 3"


def test_rows_and_lines_are_counted_across_blocks(write):
    path = write("a,b\n" + "".join(f"{i},{'x' * 50}\n" for i in range(100_000)))
    rows = 0
    for one in batches_of(opened(path).open()):
        assert one.first_row == rows
        assert one.first_line == rows + 2
        assert one.batch.column(0)[0].as_py() == str(rows)
        rows += one.batch.num_rows
    assert rows == 100_000


def test_blocks_of_blank_lines_count_as_lines_only(write, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100)
    path = write("a,b\n" + "1,2\n" * 100 + "\n" * 1000 + "3,4\n" * 100)
    found = [(one.first_row, one.first_line) for one in batches_of(opened(path).open())]
    assert found == sorted(found)
    assert all(line == row + (2 if row < 100 else 1002) for row, line in found if line is not None)
    assert len([line for _, line in found if line]) > 5


def test_a_nul_byte_in_a_long_field_is_reported_with_its_line(write, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 100)
    with pytest.raises(SourceReadError, match="NUL byte") as caught:
        rows_of(opened(write('a,b\n1,"' + "x\n" * 500 + '\0"\n')))
    assert caught.value.position == "line 502"


def test_many_small_files_take_no_more_memory_than_their_text(write, tmp_path):
    for number in range(50):
        write(f"a,b\n{number},x\n", f"{number:03d}.csv")
    before = pa.total_allocated_bytes()
    blocks = list(opened(tmp_path).open())
    assert len(blocks) == 50
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_stop_ends_the_search_for_the_position_of_a_block(write):
    reader = opened(write(MANY_ROWS * 10)).open()
    block = list(reader)[-1]
    assert block.located(block.decode()).first_row > 0
    reader.stop()
    with pytest.raises(SourceReadError, match="stopped"):
        block.located(block.decode())


def test_line_numbers_are_known_only_if_each_row_is_one_line(write):
    (one,) = batches_of(opened(write('a,b\n"x\ny",1\n2,3\n')).open())
    assert (one.first_row, one.first_line) == (0, None)


def test_several_files_are_one_table_whatever_the_order_of_their_columns(write, tmp_path):
    write("a,b\n1,2\n", "1.csv")
    write("b;a\n4;3\n", "2.csv")
    write("a,b\n", "3.csv")
    assert rows_of(opened(tmp_path)) == [("1", "2"), ("3", "4")]


def test_files_with_different_columns_are_rejected_by_name(write, tmp_path):
    write("a,b\n1,2\n", "1.csv")
    write("a,c\n1,2\n", "2.csv")
    with pytest.raises(SchemaError, match=r"columns .*1\.csv: lacks b and adds c") as caught:
        opened(tmp_path).schema()
    assert caught.value.source.endswith("2.csv")


def test_the_sample_has_the_start_of_each_file_and_keeps_its_size_limit(write, tmp_path):
    for number in range(4):
        write("a,b\n" + f"{number},{'x' * 100}\n" * 20_000, f"{number}.csv")
    batches = list(opened(tmp_path).sample(1 << 20))
    assert {one.source[-5:] for one in batches} == {"0.csv", "1.csv", "2.csv", "3.csv"}
    assert all(one.first_row == 0 for one in batches)
    assert sum(one.batch.nbytes for one in batches) < 2 << 20


def test_the_sample_of_very_many_files_takes_the_first_and_the_last(write, tmp_path):
    for number in range(100):
        write("a,b\n" + f"{number},{'x' * 100}\n" * 1000, f"{number:02}.csv")
    sources = {one.source[-6:] for one in opened(tmp_path).sample(512 * 1024)}
    assert len(sources) == 8
    assert {"00.csv", "99.csv"} <= sources


def test_a_small_source_is_sampled_completely(write, tmp_path):
    write("a\n" + "1\n" * 100_000, "1.csv")
    write("a\n2\n", "2.csv")
    assert sum(one.batch.num_rows for one in opened(tmp_path).sample(1 << 20)) == 100_001


def test_missing_files_and_empty_directories_are_reported(tmp_path, write):
    with pytest.raises(SourceReadError, match="no such file"):
        opened(tmp_path / "none.csv")
    with pytest.raises(SourceReadError, match="no file matches"):
        opened(str(tmp_path / "*.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceReadError, match="no data files"):
        opened(tmp_path / "empty")


class Forbidden(LocalFileSystem):
    def open(self, file):
        raise PermissionError(13, "Permission denied")


class Failing(LocalFileSystem):
    def open(self, file):
        class File(io.BytesIO):
            def read(self, size=-1):
                data = super().read(min(size, 1000))
                if not data:
                    raise OSError(5, "Input/output error")
                return data

            def readinto(self, buffer):
                data = self.read(len(buffer))
                buffer[: len(data)] = data
                return len(data)

        return File(Path(file.uri).read_bytes())


def test_a_file_without_permission_is_reported(write):
    path = write("a\n1\n")
    source = open_source(path, settings=EngineSettings(), filesystem=Forbidden())
    with pytest.raises(SourceReadError, match="Permission denied") as caught:
        source.schema()
    assert caught.value.source == str(path)


def test_a_failing_disk_is_reported(write):
    source = open_source(write("a\n" + "1\n" * 5000), settings=EngineSettings(), filesystem=Failing())
    with pytest.raises(SourceReadError, match="Input/output error"):
        list(batches_of(source.open()))


def test_hidden_files_and_markers_of_a_directory_are_skipped(write, tmp_path):
    for name in ("a.csv", "_SUCCESS", ".a.csv.crc"):
        write("a\n1\n", name)
    assert rows_of(opened(tmp_path)) == [("1",)]


def test_mixed_formats_unknown_names_and_repeated_files_are_rejected(write, tmp_path):
    a, b, c = write("a\n1\n", "a.csv"), write("a\n1\n", "b.dat"), write("{}", "c.jsonl")
    with pytest.raises(ConfigError, match="one push reads one format"):
        opened([a, c])
    with pytest.raises(ConfigError, match="--format"):
        opened(b)
    with pytest.raises(ConfigError, match="not supported yet"):
        opened(c)
    with pytest.raises(ConfigError, match="named twice"):
        opened([a, str(tmp_path / "a*")])
    with pytest.raises(ConfigError, match="unknown format"):
        opened(b, format="xml")
    assert rows_of(opened(b, format="csv")) == [("1",)]


def test_a_name_with_glob_characters_is_a_file_if_that_file_exists(write):
    assert rows_of(opened(write("a\n1\n", "a[1].csv"))) == [("1",)]


def test_a_file_that_is_closed_early_leaves_nothing_open(write):
    source = opened(write(MANY_ROWS))
    reader = source.open()
    assert next(iter(reader)).decode().rows
    reader.close()
    reader.close()
    sample = source.sample(1 << 20)
    next(sample)
    sample.close()


def csv_pass(path, delimiter, block_bytes):
    settings = EngineSettings(csv_delimiter=delimiter)
    return reading.CsvPass((file_ref(path), settings, LocalFileSystem(), block_bytes, (), threading.Event()))


FIELDS = st.text(st.sampled_from(list('ab0 ,;"\n\ré\t|')), max_size=6)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1, max_size=30)
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    block_bytes=st.sampled_from([1, 5, 64, 1 << 20]),
)
def test_what_pythons_csv_writer_writes_is_read_back_cell_by_cell(
    tmp_path, table, quoting, line_end, delimiter, block_bytes
):
    names = [f"c{i}" for i in range(len(table[0]))]
    if quoting == csv.QUOTE_MINIMAL:  # Python does not quote a lone CR, so that it is ambiguous
        table = [[cell.replace("\r", "") for cell in row] for row in table]
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=line_end, delimiter=delimiter)
    writer.writerows([names, *table])
    path = tmp_path / "p.csv"
    path.write_bytes(text.getvalue().encode())
    source = opened(path, csv_delimiter=delimiter)
    with closing(csv_pass(path, delimiter, block_bytes)) as one_pass:
        rows = [[cell or "" for cell in row.values()] for one in one_pass.decoded() for row in one.batch.to_pylist()]
    assert rows == table
    assert source.schema().names == names


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.text(st.sampled_from(list('ab,"\n\r')), max_size=40),
    width=st.integers(1, 3),
    block_bytes=st.sampled_from([1, 3, 8, 1 << 20]),
)
def test_any_text_is_rejected_or_read_as_pythons_csv_reads_it(tmp_path, body, width, block_bytes):
    """No malformed file silently loses, merges or splits rows, wherever the blocks end."""
    path = tmp_path / "p.csv"
    path.write_bytes((",".join(f"c{i}" for i in range(width)) + "\n" + body).encode())
    one_pass = csv_pass(path, ",", block_bytes)
    try:
        rows = [[cell or "" for cell in row.values()] for one in one_pass.decoded() for row in one.batch.to_pylist()]
    except SourceReadError:
        return
    finally:
        one_pass.close()
    expected = list(csv.reader(io.StringIO(body, newline=""), strict=True))
    expected = [row or [""] for row in expected if row or width == 1]
    assert rows == expected


@settings(max_examples=2000, deadline=None)
@given(
    block=st.lists(
        st.sampled_from(['"', '"', '""', ',"', '",', '"\n', '\n"', "\n", "\r\n", "\r", ",", "a"]), max_size=25
    ),
    is_last=st.booleans(),
)
def test_a_regular_block_ends_where_the_patterns_say(block, is_last):
    block = "".join(block).encode()
    dialect = Dialect(",", b"\n")
    cut = dialect.regular_cut(memoryview(block), is_last=is_last)
    if cut is None:
        return
    if is_last:
        assert dialect.last_row.fullmatch(block[dialect.rows.match(block).end() :])
        assert cut == len(block)
    else:
        assert dialect.rows.fullmatch(block[:cut])
        assert cut <= dialect.irregular_cut(block)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_end_of_irregular_rows_is_found_at_any_step_size(monkeypatch, step):
    monkeypatch.setattr(csv_rows, "_STEP_BYTES", step)
    rows = b'5" pipe,"quoted, and\nlong"\r\n"a ""b""",c\n' * 20
    assert Dialect(",", b"\n").irregular_cut(rows + b'6" pi') == len(rows)
    assert Dialect(",", b"\n").irregular_cut(rows + b'"a"x,y\n' + rows) == len(rows)


@pytest.mark.parametrize(
    ("block", "cut"),
    [
        pytest.param(b'"a","b"\n"c"\n"d', 12, id="all quoted"),
        pytest.param(b'"say ""hi""","x\ny"\n"un\nfin', 19, id="doubled quotes and line ends inside"),
        pytest.param(b'"a",b\r\n"c\r\nd",e\r\nf', 17, id="CRLF"),
        pytest.param(b'5" pipe\n', None, id="inch marks"),
        pytest.param(b'"a"x\n', None, id="text after a quote"),
        pytest.param(b'"a\rb"\n', None, id="a lone CR inside"),
    ],
)
def test_regular_blocks_are_distinguished_from_others(block, cut):
    assert Dialect(",", b"\n").regular_cut(memoryview(block), is_last=False) == cut


@pytest.mark.parametrize(("name", "count"), [("receipt.csv", 8_577), ("domestic_declarations.csv.gz", 55_628)])
def test_public_event_logs_keep_every_row_and_instant(name, count):
    path = DATA / name
    if not path.exists():
        pytest.skip("no sample data here")
    source = opened(path)
    inference = inference_of(source.schema(), is_text=True)
    for one in source.sample(1 << 20):
        inference.observe(one)
    schema = inference.infer_schema()
    timestamp_columns = [column.name for column in schema.columns if column.type == "DATETIME"]
    assert "time:timestamp" in timestamp_columns
    with (gzip.open if name.endswith("gz") else open)(path, "rt", newline="", encoding="utf-8") as file:
        plain = csv.DictReader(file)
        rows = 0
        for one in batches_of(source.open()):
            batch = conform(schema, one)
            rows += batch.num_rows
            columns = {column: batch.column(column).to_pylist() for column in timestamp_columns}
            for index, row in zip(range(batch.num_rows), plain, strict=False):
                for column in timestamp_columns:
                    expected = (
                        dt.datetime.fromisoformat(row[column]).astimezone(dt.UTC).replace(tzinfo=None)
                        if row[column]
                        else None
                    )
                    assert columns[column][index] == expected
        assert next(plain, None) is None
    assert rows == count


class _CountingFiles(LocalFileSystem):
    opened = 0

    def open(self, file):
        self.opened += 1
        return super().open(file)


@pytest.mark.parametrize("text", ["ID,NAME\n1,a\n2,b\n", "ID;NAME\n1,5;a\n", 'ID,NAME\n1,"a, b"\n'])
def test_the_first_lines_of_a_file_are_not_read_again_if_its_header_line_is_not_doubtful(write, text):
    """Planning opens each file twice: for its columns and for its sample."""
    files = _CountingFiles()
    source = open_source(write(text), settings=EngineSettings(), filesystem=files)
    source.schema()
    assert [block.rows for block in source.sample(10_000_000)]
    assert not source.structure().doubts
    assert files.opened == 2
