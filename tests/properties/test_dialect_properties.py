"""Any table that is written in any dialect that the settings can say is read back, cell by cell."""

import random
import threading
from contextlib import closing

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.dialects import UnsayableError, Writer, dialects, tables
from support.files import file_ref

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources.csv.reading import CsvPass


def read(path, csv, block_bytes):
    """Return the names and the rows of a file."""
    engine = EngineSettings(csv=csv)
    arguments = (file_ref(path), engine, LocalFileSystem(), block_bytes, (), threading.Event())
    with closing(CsvPass(arguments)) as one:
        rows = [list(row.values()) for batch in one.decoded() for row in batch.batch.to_pylist()]
        return list(one.layout.names), rows


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 2**32), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_table_in_any_dialect_is_read_back_at_any_block_size(tmp_path, data, seed, line_end):
    csv = data.draw(dialects())
    names, rows = data.draw(tables(csv))
    try:
        text = Writer(csv, line_end, random.Random(seed)).table(names, rows)
    except UnsayableError:
        assume(False)
    path = tmp_path / "p.csv"
    path.write_bytes(text.encode())
    for block_bytes in (1 << 20, 64, 5, 1):
        assert read(path, csv, block_bytes) == (names, rows), (text, csv.given())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), seed=st.integers(0, 2**32), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_a_row_with_a_field_too_many_is_refused_with_its_line(tmp_path, data, seed, line_end):
    csv = data.draw(dialects())
    names, rows = data.draw(tables(csv))
    assume(len(rows) > 1)
    try:
        lines = Writer(csv, line_end, random.Random(seed)).lines(names, rows)
    except UnsayableError:
        assume(False)
    wrong = data.draw(st.integers(1, len(rows) - 1))
    position = next(place[1] for _, _, place in lines if place is not None and place[0] == wrong)
    path = tmp_path / "p.csv"
    text = "".join(
        line + (csv.delimiter if place is not None and place[0] == wrong else "") + end for line, end, place in lines
    )
    path.write_bytes(text.encode())
    for block_bytes in (1 << 20, 64, 5):
        with pytest.raises(SourceReadError, match=f"found {len(names) + 1}") as caught:
            read(path, csv, block_bytes)
        assert caught.value.position == f"line {position}", text
