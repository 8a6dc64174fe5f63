"""Parquet footers are read, cut and rewritten without loss. Hostile ones are rejected with bounded effort."""

import io
import json
import tracemalloc

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine.parquet.footer import (
    MAGIC,
    MAX_FOOTER_BYTES,
    TAIL_BYTES,
    Footer,
    _cacheable_field,
    footer_length,
    parse_page,
    with_trailer,
)
from pushengine.parquet.moving import Places, moved_group, spans
from pushengine.parquet.thrift_compact import LIST, FooterError, _list_head

STOP = b"\0"


def written(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def footer_of(data):
    length = footer_length(data[-TAIL_BYTES:], len(data))
    return data[-TAIL_BYTES - length : -TAIL_BYTES]


def cut(data, first, end, *, max_gap=0):
    """Return row groups `first` to `end` (excluded) as a file of their own."""
    footer = Footer(footer_of(data))
    numbers = range(first, end)
    groups = [footer.group(number) for number in numbers]
    places, out = {}, bytearray(MAGIC)
    for start, stop in spans(groups, max_gap=max_gap):
        places[start, stop] = len(out)
        out += data[start:stop]
    moved = [moved_group(footer.raw_group(number), number - first, Places(places)) for number in numbers]
    return bytes(out) + with_trailer(footer.with_groups(sum(group.rows for group in groups), moved))


TABLE = pa.table(
    {
        "I": pa.array([None if i % 7 == 0 else i for i in range(1000)], pa.int64()),
        "S": [f"text {i % 50}" for i in range(1000)],
        "X": [i / 3 for i in range(1000)],
        "T": pa.array([i * 10**9 for i in range(1000)], pa.timestamp("us")),
        "B": [i % 3 == 0 for i in range(1000)],
    }
)
WRITERS = {
    "defaults": {},
    "no dictionaries": {"use_dictionary": False},
    "page indexes and checksums": {"write_page_index": True, "write_page_checksum": True},
    "bloom filters": {"bloom_filter_options": {"S": True, "I": {"ndv": 500, "fpp": 0.05}}},
    "sorted": {"sorting_columns": [pq.SortingColumn(0)]},
    "no statistics": {"write_statistics": False},
    "no Arrow schema": {"store_schema": False},
    "int96": {"use_deprecated_int96_timestamps": True},
    "small pages": {"data_page_size": 200, "write_batch_size": 10},
    "format 1": {"version": "1.0"},
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_footer_is_rewritten_byte_for_byte(writer):
    try:
        raw = footer_of(written(TABLE, row_group_size=90, **WRITERS[writer]))
    except TypeError:
        pytest.skip("this version of pyarrow cannot write such a file")
    footer = Footer(raw)
    assert footer.with_groups(footer.rows, [footer.raw_group(i) for i in range(footer.group_count)]) == raw


@pytest.mark.parametrize("max_gap", [0, 1 << 20])
@pytest.mark.parametrize("writer", WRITERS)
def test_row_groups_that_are_cut_out_keep_their_rows(writer, max_gap, tmp_path):
    try:
        data = written(TABLE, row_group_size=90, **WRITERS[writer])
    except TypeError:
        pytest.skip("this version of pyarrow cannot write such a file")
    source = pq.read_table(io.BytesIO(data))
    for first, end in ((0, 3), (3, 4), (5, 12), (0, 12)):
        part = cut(data, first, end, max_gap=max_gap)
        rows = source.slice(first * 90, (end - first) * 90)
        with pq.ParquetFile(io.BytesIO(part), page_checksum_verification=True) as file:
            assert file.read().equals(rows)
            assert file.metadata.num_rows == rows.num_rows
            assert file.metadata.row_group(0).column(0).file_path == ""
        path = tmp_path / "part.parquet"
        path.write_bytes(part)
        with duckdb.connect() as database:
            assert database.sql(f"from '{path}'").to_arrow_table().cast(rows.schema).to_pylist() == rows.to_pylist()


def test_a_cut_file_has_no_pointers_to_bytes_outside_its_row_groups():
    data = written(TABLE, row_group_size=90, write_page_index=True)
    with pq.ParquetFile(io.BytesIO(data)) as file:
        assert file.metadata.row_group(0).column(0).has_column_index
    with pq.ParquetFile(io.BytesIO(cut(data, 2, 4))) as file:
        column = file.metadata.row_group(0).column(0)
        assert not column.has_column_index
        assert not column.has_offset_index
        assert column.statistics.min is not None


def test_the_metadata_of_the_file_is_kept():
    schema = TABLE.schema.with_metadata({"made by": "us"})
    data = written(TABLE.cast(schema), row_group_size=90)
    with pq.ParquetFile(io.BytesIO(cut(data, 0, 2))) as part:
        assert part.schema_arrow == schema
        assert part.schema_arrow.metadata == {b"made by": b"us"}
        assert part.metadata.created_by == pq.read_metadata(io.BytesIO(data)).created_by


def test_the_kinds_of_all_columns_are_recognized():
    table = pa.table(
        {
            "I": pa.array([1], pa.int64()),
            "N": pa.array([1], pa.int32()),
            "U": pa.array([1], pa.uint64()),
            "H": pa.array([1], pa.int16()),
            "X": [0.5],
            "F": pa.array([0.5], pa.float32()),
            "B": [True],
            "S": ["a"],
            "L": pa.array(["a"], pa.large_string()),
            "D": pa.array(["a"]).dictionary_encode(),
            "Y": pa.array([b"a"]),
            "T": pa.array([0], pa.timestamp("us")),
            "Z": pa.array([0], pa.timestamp("ms", "UTC")),
            "W": pa.array([0], pa.timestamp("ns")),
            "A": pa.array([0], pa.date32()),
            "C": pa.array([1], pa.decimal128(5, 2)),
            "O": pa.array([None], pa.null()),
        }
    )
    leaves = Footer(footer_of(written(table))).leaves
    assert {leaf.name: leaf.kind for leaf in leaves} == {
        "I": "INT64",
        "N": "INT32",
        "U": "INT64 UNSIGNED INTEGER(64)",
        "H": "INT32 INTEGER(16)",
        "X": "DOUBLE",
        "F": "FLOAT",
        "B": "BOOLEAN",
        "S": "STRING",
        "L": "STRING",
        "D": "STRING",
        "Y": "BYTE_ARRAY",
        "T": "INT64 TIMESTAMP(us)",
        "Z": "INT64 TIMESTAMP(ms, UTC)",
        "W": "INT64 TIMESTAMP(ns)",
        "A": "INT32 DATE",
        "C": "FIXED_LEN_BYTE_ARRAY DECIMAL",
        "O": "INT32 UNKNOWN",
    }
    assert not any(leaf.is_required for leaf in leaves)


def test_required_and_nested_columns_are_recognized():
    schema = pa.schema([pa.field("I", pa.int64(), nullable=False)])
    assert Footer(footer_of(written(pa.table({"I": [1]}, schema=schema)))).leaves[0].is_required
    assert Footer(footer_of(written(pa.table({"L": [[1]]})))).leaves is None
    assert Footer(footer_of(written(pa.table({"M": [{"a": 1}]})))).leaves is None


def test_duckdb_files_are_understood(tmp_path):
    path = tmp_path / "d.parquet"
    duckdb.sql(
        f"copy (select i, 'text ' || i % 9 s, i::double x from range(5000) t(i)) to '{path}' (row_group_size 2048)"
    )
    data = path.read_bytes()
    footer = Footer(footer_of(data))
    assert [(leaf.name, leaf.kind) for leaf in footer.leaves] == [("i", "INT64"), ("s", "STRING"), ("x", "DOUBLE")]
    assert pq.read_table(io.BytesIO(cut(data, 1, 2))).equals(pq.ParquetFile(path).read_row_group(1))


def test_a_page_header_shows_version_and_encoding():
    for version, kind in (("1.0", "DATA_PAGE"), ("2.0", "DATA_PAGE_V2")):
        data = written(TABLE.select(["X"]), use_dictionary=False, data_page_version=version)
        chunk = Footer(footer_of(data)).group(0).chunks[0]
        assert parse_page(data[chunk.data_start :][:200]).kind == kind
    page = parse_page(written(TABLE.select(["X"]), use_dictionary=False)[4:])
    assert (page.encoding, page.level_encoding, page.values) == ("PLAIN", "RLE", 1000)


HOSTILE = {
    "no bytes": b"",
    "no row count": STOP,
    "truncated in a field": b"\x15",
    "truncated in a varint": b"\x15\x80",
    "an endless varint": b"\x15" + b"\xff" * 40,
    "a text longer than the file": b"\x18\xff\xff\xff\xff\x0f",
    "a list longer than the file": b"\x19\xfc\xff\xff\xff\xff\x0f",
    "a list of a billion structs": b"\x19\xfc\x80\x94\xeb\xdc\x03",
    "a map longer than the file": b"\x1b\xff\xff\xff\xff\x0f\x88",
    "endlessly nested structs": b"\x1c" * 100_000,
    "endlessly nested lists": b"\x19" * 100_000,
    "lists of lists": b"\x19" + b"\x19" * 50_000 + b"\0" * 50_000,
    "an unknown type": b"\x1f\0\0",
    "a duplicate field": b"\x36\x02\x05\x06\x04" + STOP,
    "a row count that is text": b"\x38\x01\x41" + STOP,
    "row groups that are an integer": b"\x36\x02\x16\x02" + STOP,
    "row groups that are integers": b"\x36\x02\x19\x15\x02" + STOP,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_footers_are_rejected(case):
    with pytest.raises(FooterError):
        Footer(HOSTILE[case])


def test_hostile_tails_are_rejected():
    for tail, size in (
        (b"\0\0\0\0PAR", 100),
        (b"\0\0\0\0PARE", 100),
        (b"\xff\xff\xff\xffPAR1", 10**6),
        ((MAX_FOOTER_BYTES + 1).to_bytes(4, "little") + MAGIC, 10**12),
    ):
        with pytest.raises(FooterError):
            footer_length(tail, size)


def test_the_size_of_cached_column_fields_is_bounded():
    with pytest.raises(FooterError, match="hundreds of encodings"):
        _cacheable_field({2: (LIST, bytes(1025))}, 2)
    assert _cacheable_field({2: (LIST, bytes(1024))}, 2) == (LIST, bytes(1024))


def test_the_length_of_a_list_is_bounded_by_the_bytes_that_follow():
    with pytest.raises(FooterError):
        _list_head(b"\xfc\xff\xff\xff\xff\x0f" + bytes(100), 0)


def test_row_groups_are_held_in_memory_only_once():
    raw = footer_of(written(TABLE, row_group_size=5))
    tracemalloc.start()
    try:
        footer = Footer(raw)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert footer.group_count == 200
    assert held < len(raw) * 1.3


def test_fields_of_later_format_versions_are_kept():
    """Field 99 has a type that no footer field has today: a map."""
    raw = footer_of(written(TABLE, row_group_size=400))
    unknown = b"\x0b\xc6\x01\x01\x88\x01A\x01B"  # field header in long form, a map of strings
    later = raw[:-1] + unknown + STOP
    footer = Footer(later)
    assert footer.with_groups(footer.rows, [footer.raw_group(i) for i in range(3)]) == later
    assert json.dumps([leaf.name for leaf in footer.leaves]) == '["I", "S", "X", "T", "B"]'
