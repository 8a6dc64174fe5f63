"""Blocks of a Parquet file hold its rows, however it was written. A damaged footer is an error of the source, or its rows are decoded."""

import functools
import io
import tracemalloc

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.schemas import inference_of

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceError
from pushengine.model import FileSlice
from pushengine.parquet.eligibility import ReencodeError
from pushengine.parquet.footer import Footer, parse_page
from pushengine.parquet.slices import checked_payload
from pushengine.parquet.thrift_compact import FooterError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import open_source

MICROS = 10**6
KINDS = {
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "x": (pa.float64(), st.floats(allow_nan=False)),
    "b": (pa.bool_(), st.booleans()),
    "s": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=60)),
    "k": (pa.string(), st.sampled_from(["A", "BB", "größe", "", "日本"])),
    "t": (pa.timestamp("us"), st.integers(-10_000_000_000 * MICROS, 200_000_000_000 * MICROS)),
}


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 60))
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True))
    columns = {}
    for name in names:
        kind, values = KINDS[name]
        if draw(st.booleans()):
            values = st.none() | values
        columns[name] = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


OPTIONS = st.fixed_dictionaries(
    {
        "row_group_size": st.integers(1, 40),
        "compression": st.sampled_from(["snappy", "none"]),
        "use_dictionary": st.booleans(),
        "data_page_size": st.sampled_from([64, 1 << 20]),
        "write_statistics": st.booleans(),
        "write_page_index": st.booleans(),
        "write_page_checksum": st.booleans(),
        "store_schema": st.booleans(),
        "version": st.sampled_from(["1.0", "2.4", "2.6"]),
    }
)


def bytes_of(data):
    def read(part):
        if not isinstance(part, FileSlice):
            return part
        with LocalFileSystem().open(part.file) as file:
            file.seek(part.offset)
            return file.read(part.nbytes)

    return b"".join(map(read, data.parts))


def opened(paths):
    # Blocks of a few row groups: model_copy does not validate, so chunks can be smaller than the setting allows.
    options = EngineSettings().model_copy(update={"chunk_bytes": 2000})
    return open_source(paths, settings=options, filesystem=LocalFileSystem())


def infer(source):
    inference = inference_of(source.schema(), is_text=False)
    for batch in source.sample(1 << 20):
        inference.observe(batch)
    return inference.infer_schema()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), options=st.lists(OPTIONS, min_size=1, max_size=3), copies=st.integers(1, 4))
def test_blocks_of_any_file_hold_its_rows_in_order(folder, table, options, copies):
    paths = []
    for number in range(copies):
        paths.append(folder / f"{number}.parquet")
        writer_options = options[number % len(options)]
        pq.write_table(table, paths[-1], use_deprecated_int96_timestamps=True, **writer_options)
    source = opened(paths)
    schema = infer(source)
    expected = pa.concat_tables([table] * copies)
    found, read_by_duckdb = [], []
    for block in source.passthrough_blocks(schema):
        payload = checked_payload("000000", block, schema, digests=("md5",), filesystem=LocalFileSystem())
        data = bytes_of(payload.data)
        assert len(data) == payload.size
        found.append(pq.ParquetFile(io.BytesIO(data), coerce_int96_timestamp_unit="us").read().cast(table.schema))
        assert found[-1].equals(expected.slice(block.source_rows[0], block.rows))
        read_by_duckdb.append(duckdb_table(data, folder, table.schema))
    assert pa.concat_tables(found).equals(expected)
    parts = pa.concat_tables(read_by_duckdb)
    whole = pa.concat_tables([duckdb_table(path.read_bytes(), folder, table.schema) for path in paths])
    assert parts.equals(whole)


def duckdb_table(data, folder, schema):
    path = folder / "block.parquet"
    path.write_bytes(data)
    with duckdb.connect() as database:
        return database.sql(f"from '{path}'").to_arrow_table().cast(schema)


@functools.cache
def sound_file(has_dictionary):
    sink = io.BytesIO()
    table = pa.table({"i": range(300), "s": [f"text {i % 9}" for i in range(300)], "x": [i / 3 for i in range(300)]})
    pq.write_table(
        table,
        sink,
        row_group_size=60,
        use_dictionary=has_dictionary,
        write_page_index=True,
        compression="none",
    )
    return sink.getvalue()


EDITS = st.tuples(
    st.sampled_from(["change", "flip", "insert", "remove", "repeat"]),
    st.integers(0, 2000),
    st.integers(1, 255),
    st.binary(min_size=1, max_size=12),
)
DAMAGE = st.tuples(st.booleans(), st.lists(EDITS, min_size=1, max_size=4))


def damaged(damage):
    """Return a file with some bytes of its footer changed, inserted or removed."""
    has_dictionary, edits = damage
    data = bytearray(sound_file(has_dictionary))
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[start:-8]
    for what, position, number, some in edits:
        at = position % max(len(footer), 1)
        if what == "change":
            footer[at : at + 1] = bytes([number])
        elif what == "flip":
            footer[at : at + 1] = bytes([footer[at] ^ 1 << number % 8]) if footer else b""
        elif what == "insert":
            footer[at:at] = some
        elif what == "remove":
            del footer[at : at + number % 12 + 1]
        else:
            footer[at:at] = footer[at : at + number]
    return bytes(data[:start] + footer) + len(footer).to_bytes(4, "little") + b"PAR1"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE)
def test_a_file_with_a_damaged_footer_is_rejected_or_reencoded_or_sent_in_bounded_payloads(folder, damage):
    data = damaged(damage)
    path = folder / "damaged.parquet"
    path.write_bytes(data)
    source = opened([path])
    try:
        schema = infer(source)
        for block in source.passthrough_blocks(schema):
            payload = checked_payload("000000", block, schema, digests=(), filesystem=LocalFileSystem())
            assert payload.size < 2 * len(data)
            assert payload.rows > 0
    except (SourceError, SchemaError, ReencodeError):
        pass


@settings(max_examples=400, deadline=None)
@given(found=st.binary(max_size=300) | DAMAGE)
def test_any_bytes_are_a_footer_or_an_error_and_need_little_memory(found):
    data = found if isinstance(found, bytes) else damaged(found)
    data = data[-8 - int.from_bytes(data[-8:-4], "little") : -8] if data[-4:] == b"PAR1" else data
    tracemalloc.start()
    try:
        footer = Footer(data)
        for index in range(footer.group_count):
            footer.group(index)
    except FooterError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_page_header_or_an_error(data):
    try:
        parse_page(data)
    except FooterError:
        pass
