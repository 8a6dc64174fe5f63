"""Parquet files as chunks that need no decoding: what is sent unchanged, how it is cut, and that every value is still checked."""

import dataclasses
import hashlib
import io
import re
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.chunks import chunks_of
from support.schemas import inference_of

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceChangedError, SourceReadError, ValueMisfitError
from pushengine.model import FileSlice
from pushengine.parquet import eligibility, page_checks
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.footer import MAX_FOOTER_BYTES, TAIL_BYTES, Footer, footer_length, with_trailer
from pushengine.parquet.slices import MEMORY_BYTES, PassthroughReader, checked_payload, key_columns
from pushengine.parquet.thrift_compact import (
    BINARY,
    I64,
    LIST,
    FooterError,
    read_struct,
    write_integer,
    write_struct,
    write_structs,
)
from pushengine.parquet.value_checks import _Check
from pushengine.pipeline.encoding import DIGESTS
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source

FILES = LocalFileSystem()


def infer(source, **options):
    inference = inference_of(source.schema(), is_text=False, **options)
    for batch in source.sample(1 << 20):
        inference.observe(batch)
    return inference.infer_schema()


def opened(paths, **settings):
    options = EngineSettings(**{"chunk_bytes": 64 * 1024} | settings)
    return open_source(paths, settings=options, filesystem=FILES)


def blocks_of(paths, **settings):
    source = opened(paths, **settings)
    return source.passthrough_blocks(infer(source))


def bytes_of(data):
    out = b""
    for part in data.parts:
        if isinstance(part, FileSlice):
            with FILES.open(part.file) as file:
                file.seek(part.offset)
                out += file.read(part.nbytes)
        else:
            out += part
    assert len(out) == data.nbytes
    return out


def payload_of(block, schema, **options):
    return checked_payload("000000", block, schema, **({"digests": ("sha256",), "filesystem": FILES} | options))


@pytest.fixture
def write(tmp_path):
    def write(columns, name="f.parquet", *, schema=None, **options):
        path = tmp_path / name
        pq.write_table(pa.table(columns, schema=schema), path, **({"use_deprecated_int96_timestamps": True} | options))
        return path

    return write


def text(value):
    return len(value).to_bytes(1) + value.encode()


def key_values(**pairs):
    """Return field 5 of a footer."""
    entries = [write_struct({1: (BINARY, text(key)), 2: (BINARY, text(value))}) for key, value in pairs.items()]
    return {5: (LIST, write_structs(entries))}


def change_footer(path, fields=None, *, junk=b""):
    """Replace fields in the footer of a file, and insert bytes before the footer that belong to no row group."""
    data = path.read_bytes()
    length = footer_length(data[-TAIL_BYTES:], len(data))
    old, _ = read_struct(data[-TAIL_BYTES - length : -TAIL_BYTES])
    new = dict(sorted((old | (fields or {})).items()))
    path.write_bytes(data[: -TAIL_BYTES - length] + junk + with_trailer(write_struct(new)))
    return path


def noise(count, width=40, seed=1):
    """Return texts that do not compress."""
    return [hashlib.sha256(f"{seed} {i}".encode()).hexdigest()[:width] for i in range(count)]


# ------------------------------------------------------------------------------------------------------------- acceptance

ACCEPTED = {
    "the types that pushengine writes": {
        "i": pa.array([1, None]),
        "x": pa.array([0.5, None]),
        "b": pa.array([True, None]),
        "s": pa.array(["a", None]),
        "t": pa.array([0, None], pa.timestamp("us")),
    },
    "strings in Arrow's other layouts": {
        "l": pa.array(["a"], pa.large_string()),
        "d": pa.array(["a"]).dictionary_encode(),
        "v": pa.array(["a"], pa.string_view()),
    },
}


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "none"}, {"use_dictionary": False}, {"version": "1.0"}, {"write_statistics": False}],
    ids=str,
)
def test_files_that_the_encoder_could_have_written_are_sent_unchanged(write, case, options):
    path = write(ACCEPTED[case], **options)
    source = opened(path)
    (block,) = source.passthrough_blocks(infer(source))
    assert bytes_of(payload_of(block, infer(source)).data) == path.read_bytes()


COLUMNS = {"i": [1, 2], "s": ["a", "b"]}
REFUSED = {
    "column i is INT32": ({"i": pa.array([1], pa.int32())}, {}, {}),
    "column i is INT64 UNSIGNED INTEGER(64)": ({"i": pa.array([1], pa.uint64())}, {}, {}),
    "column x is FLOAT": ({"x": pa.array([1], pa.float32())}, {}, {}),
    "column d is INT32 DATE": ({"d": pa.array([1], pa.date32())}, {}, {}),
    "column c is FIXED_LEN_BYTE_ARRAY DECIMAL": ({"c": pa.array([1], pa.decimal128(5, 2))}, {}, {}),
    "column n is INT32 UNKNOWN": ({"n": pa.array([None], pa.null()), "i": [1]}, {}, {}),
    "column t is INT64 TIMESTAMP(us), but the setting timestamps is INT96": (
        {"t": pa.array([1], pa.timestamp("us"))},
        {"use_deprecated_int96_timestamps": False},
        {},
    ),
    "column t is INT96, but the setting timestamps is INT64": (
        {"t": pa.array([1], pa.timestamp("us"))},
        {},
        {"timestamps": "INT64"},
    ),
    "column t is INT64 TIMESTAMP(us, UTC)": (
        {"t": pa.array([1], pa.timestamp("us", "UTC"))},
        {"use_deprecated_int96_timestamps": False},
        {"timestamps": "INT64"},
    ),
    "column i is compressed with ZSTD": (COLUMNS, {"compression": "zstd"}, {}),
    "column i is compressed with SNAPPY": (COLUMNS, {}, {"compression": "ZSTD"}),
    "column i is encoded as DELTA_BINARY_PACKED": (
        COLUMNS,
        {"use_dictionary": False, "column_encoding": {"i": "DELTA_BINARY_PACKED"}},
        {},
    ),
    "column x is encoded as BYTE_STREAM_SPLIT": (
        {"x": [0.5]},
        {"use_dictionary": False, "use_byte_stream_split": True},
        {},
    ),
    "has pages of kind DATA_PAGE_V2": ({"x": [0.5]}, {"data_page_version": "2.0"}, {}),
    "parquet_as_it_is is off": (COLUMNS, {}, {"parquet_as_it_is": False}),
    "file_type is CSV": (COLUMNS, {}, {"file_type": "CSV"}),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_any_other_file_is_reencoded_for_a_stated_reason(write, reason):
    columns, options, settings = REFUSED[reason]
    with pytest.raises(ReencodeError, match=reason.replace("(", r"\(").replace(")", r"\)")):
        blocks_of(write(columns, **options), **settings)


def test_settings_decide_what_is_sent_unchanged(write):
    timestamps = {"t": pa.array([1], pa.timestamp("ms"))}
    assert blocks_of(write(timestamps, use_deprecated_int96_timestamps=False), timestamps="INT64")
    assert blocks_of(write(COLUMNS, compression="zstd"), compression="ZSTD")
    assert blocks_of(write(COLUMNS, compression="none"), compression="NONE")


@pytest.mark.parametrize(
    ("writer", "is_fine"),
    [
        ("parquet-mr version 1.2.8 (build abc)", False),
        ("parquet-mr version 1.2.8-cdh5", False),
        ("parquet-mr version 0.9.10", False),
        ("parquet-mr", False),
        ("parquet-mr version 1.2.9", True),
        ("parquet-mr version 1.10.0 (build abc)", True),
        ("parquet-cpp version 1.0.0", True),
    ],
)
def test_footers_of_writers_that_recorded_wrong_sizes_are_not_trusted(write, writer, is_fine):
    path = change_footer(write(COLUMNS), {6: (BINARY, text(writer))})
    if is_fine:
        assert blocks_of(path)
    else:
        with pytest.raises(ReencodeError, match=r"parquet-mr before 1\.2\.9"):
            blocks_of(path)


def record_page_reads(monkeypatch):
    page_reads = []
    original = eligibility.read_page
    monkeypatch.setattr(
        "pushengine.parquet.eligibility.read_page", lambda *place: page_reads.append(1) or original(*place)
    )
    return page_reads


def test_only_pages_of_the_first_and_last_row_group_are_read_if_the_footer_describes_all_pages(write, monkeypatch):
    page_reads = record_page_reads(monkeypatch)
    assert blocks_of(write({"i": range(1000), "x": [0.5] * 1000}, row_group_size=100))
    assert len(page_reads) == 2 * 2


def test_pages_of_every_row_group_are_read_if_the_footer_does_not_describe_them(write, monkeypatch):
    page_reads = record_page_reads(monkeypatch)
    original = Footer.group

    def silent(self, index):
        group = original(self, index)
        chunks = tuple(dataclasses.replace(chunk, pages=frozenset()) for chunk in group.chunks)
        return dataclasses.replace(group, chunks=chunks)

    monkeypatch.setattr(Footer, "group", silent)
    assert blocks_of(write({"i": range(1000), "x": [0.5] * 1000}, row_group_size=100))
    assert len(page_reads) == 2 * 10


@pytest.mark.parametrize(("name", "kind"), [("i", "STRING"), ("i", "FLOAT"), ("b", "INTEGER")])
def test_a_column_that_is_sent_as_another_type_is_reencoded(write, name, kind):
    source = opened(write({"i": [1], "b": [True]}))
    with pytest.raises(ReencodeError, match=f"column {name} is (INT64|BOOLEAN) and is sent as {kind}"):
        source.passthrough_blocks(infer(source, overrides={name: kind}))
    assert source.passthrough_blocks(infer(source, overrides={"i": "INTEGER"}))


def test_either_all_files_are_sent_unchanged_or_none(write):
    one = write(COLUMNS, "a.parquet")
    with pytest.raises(ReencodeError, match=r"b\.parquet differ|and .*a\.parquet differ"):
        blocks_of([one, write({"s": ["a"], "i": [1]}, "b.parquet")])
    required = pa.schema([pa.field("i", pa.int64(), nullable=False), ("s", pa.string())])
    with pytest.raises(ReencodeError, match="differ"):
        blocks_of([one, write(COLUMNS, "b.parquet", schema=required)])
    with pytest.raises(ReencodeError, match=r"c\.parquet: column i is INT32"):
        blocks_of([one, write({"i": pa.array([1], pa.int32()), "s": ["a"]}, "c.parquet")])


def test_a_row_group_larger_than_a_chunk_is_reencoded(write, monkeypatch):
    path = write({"s": noise(1000)})
    monkeypatch.setattr("pushengine.parquet.eligibility.MAX_PAYLOAD_BYTES", 64 * 1024 * 1024 + 1000)
    with pytest.raises(ReencodeError, match="more than a chunk may have"):
        blocks_of(path)


def test_a_file_without_rows_is_ignored(write):
    empty = pa.schema([("s", pa.string())]).empty_table()
    paths = [write(empty, "a.parquet"), write({"s": ["x"]}, "b.parquet")]
    (block,) = blocks_of(paths)
    assert block.rows == 1


# ----------------------------------------------------------------------------------------------------------------- cutting


def test_a_large_file_is_cut_at_row_groups(write):
    count = 20_000
    path = write({"i": range(count), "s": noise(count)}, row_group_size=700)
    source = opened(path)
    schema, table = infer(source), pq.read_table(path)
    blocks = source.passthrough_blocks(schema)
    assert len(blocks) > 10
    row = 0
    for block in blocks:
        assert block.source_rows == (row, row + block.rows)
        payload = payload_of(block, schema)
        assert payload.size <= 64 * 1024 + 5000 or block.runs[0].end - block.runs[0].first == 1
        assert payload.memory_bytes < 8 << 20
        assert pq.read_table(io.BytesIO(bytes_of(payload.data))).equals(table.slice(row, block.rows))
        row += block.rows
    assert row == count


def test_a_file_of_up_to_two_blocks_is_sent_whole(write):
    path = write({"s": noise(2500)}, row_group_size=100)
    assert 64 * 1024 < path.stat().st_size < 128 * 1024
    source = opened(path)
    (block,) = source.passthrough_blocks(infer(source))
    assert payload_of(block, infer(source)).data.parts == (FileSlice(*FILES.list(str(path)), 0, path.stat().st_size),)


def test_small_files_are_joined_into_few_blocks(write):
    tables = [pa.table({"i": range(n * 50, n * 50 + 50), "s": noise(50, seed=n)}) for n in range(20)]
    paths = [write(table, f"{n:02d}.parquet", row_group_size=20) for n, table in enumerate(tables)]
    source = opened(paths)
    schema = infer(source)
    blocks = source.passthrough_blocks(schema)
    assert 1 <= len(blocks) < 5
    found = [pq.read_table(io.BytesIO(bytes_of(payload_of(block, schema).data))) for block in blocks]
    assert pa.concat_tables(found).equals(pa.concat_tables(tables))


def test_files_of_different_format_versions_are_not_joined(write):
    paths = [
        write({"s": ["a"]}, "a.parquet"),
        write({"s": ["b"]}, "b.parquet", version="1.0"),
        write({"s": ["c"]}, "c.parquet", version="1.0"),
    ]
    assert [block.rows for block in blocks_of(paths)] == [1, 2]


def spark(write, name, **pairs):
    return change_footer(write(COLUMNS, name, store_schema=False), key_values(**pairs))


def test_files_whose_metadata_gives_the_same_bytes_other_meanings_are_not_joined(write):
    """Spark, for example, records in the footer which calendar its old timestamps use."""
    paths = [
        spark(write, "a.parquet", version="3.5.0", legacyINT96=""),
        spark(write, "b.parquet", version="3.5.0"),
        spark(write, "c.parquet", version="3.5.0"),
        write(COLUMNS, "d.parquet", store_schema=False),
    ]
    assert [block.rows for block in blocks_of(paths)] == [2, 4, 2]


def test_files_that_differ_only_in_arrow_and_pandas_metadata_are_joined(write):
    paths = [
        write(COLUMNS, "a.parquet"),
        spark(write, "b.parquet", pandas="3"),
        write(COLUMNS, "c.parquet", store_schema=False),
    ]
    assert [block.rows for block in blocks_of(paths)] == [6]


def test_files_with_invalid_metadata_are_reencoded(write):
    """Arrow does not detect this damage, or reports it differently."""
    with pytest.raises(FooterError):
        Footer(write_struct({3: (I64, write_integer(0)), 5: (LIST, b"\x15\x02")}))
    path = change_footer(write(COLUMNS, store_schema=False), {6: (BINARY, b"\x01\xff")})
    with pytest.raises(ReencodeError, match="not UTF-8"):
        eligibility.read_layouts(FILES.list(str(path)), FILES, EngineSettings())


def test_a_block_has_no_more_row_groups_than_their_ordinals_can_count(write, monkeypatch):
    monkeypatch.setattr("pushengine.parquet.slices._MAX_ROW_GROUPS", 5)
    paths = [write({"i": range(40)}, f"{number}.parquet", row_group_size=20) for number in range(4)]
    assert [block.rows for block in blocks_of(paths)] == [80, 80]
    many = write({"i": range(120)}, "many.parquet", row_group_size=10)
    assert [block.rows for block in blocks_of(many)] == [50, 50, 20]


def test_a_file_with_more_than_1_mib_outside_its_row_groups_is_not_sent_whole(write):
    lean = change_footer(write(COLUMNS), junk=bytes(1 << 20))
    schema = infer(opened(lean))
    (block,) = opened(lean).passthrough_blocks(schema)
    assert payload_of(block, schema).size == lean.stat().st_size
    stuffed = change_footer(write(COLUMNS, "stuffed.parquet"), junk=bytes((1 << 20) + 1))
    for paths in ([stuffed], [stuffed, lean]):
        (block,) = opened(paths).passthrough_blocks(schema)
        payload = payload_of(block, schema)
        assert payload.size < 5000
        assert pq.read_table(io.BytesIO(bytes_of(payload.data))).num_rows == 2 * len(paths)


def test_a_file_larger_than_a_payload_is_cut_even_if_it_is_no_longer_than_two_blocks(write, monkeypatch):
    path = write({"s": noise(2500)}, row_group_size=100)
    assert 64 * 1024 < path.stat().st_size < 128 * 1024
    assert len(blocks_of(path)) == 1
    monkeypatch.setattr("pushengine.parquet.slices.MAX_PAYLOAD_BYTES", MAX_FOOTER_BYTES + 100_000)
    blocks = blocks_of(path)
    assert len(blocks) == 2


def test_reading_starts_with_the_block_at_which_a_push_resumes(write):
    blocks = blocks_of(write({"s": noise(20_000)}, row_group_size=500))
    reader = PassthroughReader(blocks, label="f", start_row=blocks[3].source_rows[0])
    assert reader.bytes_read() == sum(block.disk_bytes for block in blocks[:3])
    assert list(reader) == blocks[3:]
    assert (reader.rows_read, reader.bytes_read()) == (20_000, sum(block.disk_bytes for block in blocks))
    assert list(PassthroughReader(blocks, label="f", start_row=20_000)) == []
    with pytest.raises(SourceChangedError, match="row 18"):
        PassthroughReader(blocks, label="f", start_row=17)
    chunks = chunks_of(PassthroughReader(blocks, label="f"), MEMORY_BYTES)
    assert [chunk.passthrough for chunk in chunks] == blocks
    assert [chunk.rows for chunk in chunks] == [block.rows for block in blocks]


# ----------------------------------------------------------------------------------------------------------------- digests


def test_digests_are_those_of_the_bytes_that_are_sent(write):
    source = opened(write({"s": noise(20_000)}, row_group_size=500))
    schema = infer(source)
    block = source.passthrough_blocks(schema)[1]
    payload = payload_of(block, schema, digests=DIGESTS)
    data = bytes_of(payload.data)
    assert payload.digests == {
        **{name: hashlib.new(name, data).hexdigest() for name in ("sha256", "md5", "sha1")},
        "crc32": f"{zlib.crc32(data):08x}",
    }
    assert payload_of(block, schema, digests=()).digests == {}


def test_a_file_that_became_shorter_or_is_gone_is_reported(write):
    path = write({"i": range(100_000)}, use_dictionary=False, compression="none")
    source = opened(path)
    schema = infer(source)
    (block, *_) = source.passthrough_blocks(schema)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SourceReadError, match="shorter"):
        payload_of(block, schema)
    path.unlink()
    with pytest.raises(SourceReadError, match="No such file"):
        payload_of(block, schema)


# ------------------------------------------------------------------------------------------------------------------ checks

LATE = 7 * 1000 + 321


def check_file(path, *, keys=(), **settings):
    source = opened(path, chunk_bytes=1 << 20, **settings)
    schema = infer(opened(path.parent / "sample.parquet", **settings), keys=keys)
    for block in source.passthrough_blocks(schema):
        payload_of(block, schema)


WRITERS = {
    "dictionary": {},
    "plain": {"use_dictionary": False},
    "dictionary, then plain": {"dictionary_pagesize_limit": 1000},
    "no statistics": {"write_statistics": False},
    "small pages": {"data_page_size": 1000},
}
COLUMN_KINDS = {
    "few distinct texts": [f"text {i % 9}" for i in range(10_000)],
    "texts of equal length": [f"{i:010d}" for i in range(10_000)],
    "texts of different lengths": [f"{i}" * (1 + i % 5) for i in range(10_000)],
    "not ASCII": [f"größe {i % 900}" for i in range(10_000)],
    "some nulls": [None if i % 3 else f"text {i % 9}" for i in range(10_000)],
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", COLUMN_KINDS)
def test_every_length_is_measured(write, kind, writer):
    values = list(COLUMN_KINDS[kind])
    write({"s": values, "i": range(10_000)}, "sample.parquet")
    check_file(write({"s": values, "i": range(10_000)}, row_group_size=1000, **WRITERS[writer]))
    values[LATE] = "ß" * 255
    check_file(write({"s": values, "i": range(10_000)}, row_group_size=1000, **WRITERS[writer]))
    values[LATE] = "ß" * 256
    path = write({"s": values, "i": range(10_000)}, row_group_size=1000, **WRITERS[writer])
    with pytest.raises(ValueMisfitError) as caught:
        check_file(path)
    assert f"row {LATE + 1}, column s" in str(caught.value)
    assert re.search(r"has 256 characters.*\b255\b", str(caught.value))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("writer", WRITERS)
def test_texts_that_are_not_utf8_are_rejected(write, writer):
    values = [b"good"] * 10_000
    write({"s": ["good"]}, "sample.parquet")
    values[LATE] = b"ba\xff"
    bad = pa.array(values, pa.binary()).view(pa.string())
    with pytest.raises(SchemaError, match=f"row {LATE + 1}, column s"):
        check_file(write({"s": bad}, row_group_size=1000, **WRITERS[writer]))


@pytest.mark.parametrize("year", [1399, 10_000, 999_999])
@pytest.mark.parametrize("writer", WRITERS)
def test_years_that_the_platform_does_not_support_are_rejected(write, writer, year):
    kind = pa.timestamp("ms")
    timestamps = [i * 10_000_000_000 for i in range(10_000)]
    write({"t": pa.array(timestamps, kind)}, "sample.parquet")
    check_file(write({"t": pa.array([None, *timestamps], kind)}, row_group_size=1000, **WRITERS[writer]))
    timestamps[LATE] = (year - 1970) * 31_556_952_000
    path = write({"t": pa.array(timestamps, kind)}, row_group_size=1000, **WRITERS[writer])
    with pytest.raises(SchemaError, match=f"row {LATE + 1}, column t"):
        check_file(path)


@pytest.mark.parametrize("writer", WRITERS)
def test_years_of_int64_timestamps_are_checked_by_statistics_or_values(write, writer):
    timestamps = [i * 10_000_000_000 for i in range(10_000)]
    options = {"use_deprecated_int96_timestamps": False, "row_group_size": 1000, **WRITERS[writer]}
    write({"t": pa.array(timestamps, pa.timestamp("ms"))}, "sample.parquet", use_deprecated_int96_timestamps=False)
    check_file(write({"t": pa.array(timestamps, pa.timestamp("ms"))}, **options), timestamps="INT64")
    timestamps[LATE] = -18_000_000_000_000
    with pytest.raises(SchemaError, match=f"row {LATE + 1}, column t"):
        check_file(write({"t": pa.array(timestamps, pa.timestamp("ms"))}, **options), timestamps="INT64")


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "values", [list(range(10_000)), [f"{i:08d}" for i in range(10_000)], [f"key {i % 9}" for i in range(10_000)]]
)
def test_keys_without_a_value_are_rejected(write, values, writer):
    values = list(values)
    write({"k": values, "i": [1] * 10_000}, "sample.parquet")
    check_file(write({"k": values, "i": [1] * 10_000}, row_group_size=1000, **WRITERS[writer]), keys=["k"])
    values[LATE] = None
    path = write({"k": values, "i": [1] * 10_000}, row_group_size=1000, **WRITERS[writer])
    with pytest.raises(SchemaError, match=f"row {LATE + 1}, column k"):
        check_file(path, keys=["k"])


def test_the_length_of_an_unused_dictionary_text_does_not_matter(write):
    write({"s": ["a"]}, "sample.parquet")
    unused = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), ["a", "x" * 500])
    check_file(write({"s": unused}, row_group_size=1000))


@pytest.mark.parametrize("kind", ["dictionary", "plain"])
def test_damage_in_a_column_that_is_read_is_reported(write, kind):
    path = write(
        {"s": noise(2000) if kind == "plain" else [f"text {i % 900}" for i in range(2000)]},
        use_dictionary=kind == "dictionary",
        write_page_checksum=True,
    )
    write({"s": ["a"]}, "sample.parquet")
    data = bytearray(path.read_bytes())
    data[300] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises((SourceReadError, SchemaError)):
        check_file(path)


def test_most_columns_are_checked_without_decoding(write, monkeypatch):
    """Otherwise passthrough would save nothing: Arrow decodes only the columns that the page checks cannot clear."""
    decoded_columns = []
    monkeypatch.setattr(
        "pushengine.parquet.value_checks._Check._column",
        lambda self, number, index, chunk, row: decoded_columns.append(index),
    )
    columns = {
        "ids": [f"{i:012d}" for i in range(10_000)],
        "codes": [f"code {i % 40}" * (i % 3) for i in range(10_000)],
        "words": [f"größe {i % 40}" for i in range(10_000)],
        "at": pa.array([i * 10**10 for i in range(10_000)], pa.timestamp("us")),
        "day": pa.array([i % 30 * 86_400_000_000 for i in range(10_000)], pa.timestamp("us")),
        "n": range(10_000),
    }
    write(columns, "sample.parquet")
    check_file(write(columns, dictionary_pagesize_limit=20_000))
    assert decoded_columns == []


def test_a_large_footer_is_not_parsed_again_to_check_values(write, monkeypatch):
    schema = infer(opened(write({"ids": ["a"]}, "sample.parquet")), keys=["ids"])
    path = write({"ids": noise(1000)}, row_group_size=10, write_statistics=False)
    monkeypatch.setattr("pushengine.parquet.decoding._LARGE_FOOTER_BYTES", 0)
    (block,) = opened(path, chunk_bytes=1 << 20).passthrough_blocks(schema)
    parsed = []
    monkeypatch.setattr("pushengine.parquet.decoding.Footer", lambda raw: parsed.append(len(raw)) or Footer(raw))
    payload_of(block, schema)
    assert sum(batch.num_rows for batch in key_columns(block, schema, FILES)) == 1000
    assert parsed == []


@pytest.mark.parametrize("compression", ["none", "snappy"])
@pytest.mark.parametrize(("rows", "is_certain"), [(500_000, True), (650_000, False)])
def test_huge_pages_are_not_loaded_for_the_page_check(write, rows, is_certain, compression):
    options = {"use_dictionary": False, "data_page_size": 1 << 30, "max_rows_per_page": rows}
    path = write({"s": ["abcdefghij"] * rows}, compression=compression, **options)
    (layout,) = opened(path)._passthrough_layouts()
    (chunk,) = layout.footer.group(0).chunks
    with path.open("rb") as file:
        assert page_checks.has_short_strings(file, chunk, 80, is_required=False) is is_certain


def test_statistics_are_not_trusted_about_missing_keys(write, monkeypatch):
    """Statistics may be wrong, and a row without its key is lost."""
    decoded_columns = []
    original = _Check._column
    monkeypatch.setattr(
        "pushengine.parquet.value_checks._Check._column",
        lambda self, *rest: decoded_columns.append(rest[1]) or original(self, *rest),
    )
    columns = {"k": range(1000), "c": [f"{i:05d}" for i in range(1000)], "n": range(1000)}
    write(columns, "sample.parquet")
    check_file(write(columns), keys=["k", "c"])
    assert decoded_columns == [0, 1]
    decoded_columns.clear()
    required = pa.schema([pa.field("k", pa.int64(), nullable=False), ("c", pa.string()), ("n", pa.int64())])
    check_file(write(columns, schema=required), keys=["k"])
    assert decoded_columns == []


@pytest.mark.parametrize(
    ("values", "is_fine"),
    [
        (b"", True),
        (b"\2\0\0\0ab\2\0\0\0cd", True),
        (b"\2\0\0\0ab\1\0\0\0c", True),
        (b"\0\0\0\0\0\0\0\0", True),
        (b"\2\0\0\0ab\3\0\0\0cd", False),
        (b"\2\0\0\0ab\2\0\0", False),
        (b"\4\0\0\0abcd", False),
        (b"\2\0\0\0\xc3\x9f", True),
        (b"\2\0\0\0\xff\xff", False),
        (b"\1\0\0\0\xc3\1\0\0\0\x9f", False),  # joined, they would be one letter
        (b"\xff\xff\xff\xff", False),
        (b"ab", False),
    ],
)
def test_a_page_of_short_strings_is_recognized(values, is_fine):
    assert page_checks._are_short_strings(values, 3) is is_fine


def test_files_of_many_tiny_row_groups_are_decoded(write):
    tiny = opened(write({"i": range(600)}, row_group_size=1))
    with pytest.raises(ReencodeError, match="there are 600 tiny row groups"):
        tiny.passthrough_blocks(infer(tiny))
    assert blocks_of(write({"i": range(200)}, "few.parquet", row_group_size=1))
    described = opened(write({f"column {number}": [1] for number in range(9000)}, "wide.parquet"))
    with pytest.raises(ReencodeError, match="bytes describe tiny row groups or columns"):
        described.passthrough_blocks(infer(described))
