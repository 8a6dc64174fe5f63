"""Valid files with random bytes changed: never a crash, never endless work, never a structure that a strict second reader does not see.

The second reader is Python's csv module with `strict=True` and the same dialect. More rounds: `MUTATIONS=100000 pytest -m slow
tests/properties/test_mutated_files.py`. The seed of a failing file is part of the message.
"""

import codecs
import csv
import io
import itertools
import operator
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import feather
from support.landing import landed_from, source_of, texts_of
from support.mutations import CountingFileSystem, mutated
from support.written_tables import CannotWriteError, dialects, tables, written

from pushengine.errors import PushEngineError, SourceError
from pushengine.sources.csv import reading

SHORT, LONG = 300, int(os.environ.get("MUTATIONS", "20000"))
PASSES = 24
"""Times that a small file may be read: header line, first bytes, sample, structure, all rows, and the search for the row of an error."""
MAX_READS = 2_000


def work_for(content):
    return CountingFileSystem(PASSES * (len(content) + 1000), MAX_READS)


def outcome(path, content, names, dialect):
    """Return the names and the texts of all rows, or None if the file is refused; landing them must not fail in another way."""
    path.write_bytes(content)
    given = dialect.given | ({"names": tuple(names)} if "names" in dialect.settings else {})
    try:
        names, rows = texts_of(source_of([path], work_for(content), **given))
    except SourceError:
        return None
    try:
        _, landed = landed_from(source_of([path], work_for(content), **given), **given)
    except SourceError:
        return None
    assert len(landed) == len(rows)
    return names, rows


# --- Text


MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def second_reading(content, dialect):
    """Return the names and rows as Python's csv module reads them, with "" for NULL."""
    encoding = {"utf-8-sig": "utf-8", "utf-16": "utf-8", "utf-32": "utf-8"}.get(
        dialect.file_encoding, dialect.file_encoding
    )
    encoding = next((marked for mark, marked in MARKS.items() if content.startswith(mark)), encoding)
    text = content.decode(encoding)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        escapechar=dialect.escape or None,
        doublequote=True,
        strict=True,
    )
    names, *rows = itertools.dropwhile(operator.not_, reader)
    if len(names) == 1:
        return names, [tuple(row or [""]) for row in rows]
    return names, [tuple(row) for row in rows if row]


TEXTS = {
    "table": tables(("text", "integer", "float")),
    "dialect": dialects(is_strict=True),
    "seed": st.integers(0, 2**32),
    "block_bytes": st.sampled_from([61, 300, reading.BLOCK_BYTES]),
}
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def marks_of(dialect):
    """Return the characters that mean something in a dialect, as the file has them, the quote twice."""
    encoding = _WITHOUT_MARK.get(dialect.file_encoding, dialect.file_encoding)
    marks = [dialect.quote, dialect.quote, dialect.delimiter, dialect.escape, "\n", "\r"]
    return [mark.encode(encoding) for mark in marks if mark]


def check_text(folder, monkeypatch, table, dialect, seed, block_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    try:
        content = written(*table, dialect, seed)
    except CannotWriteError:
        return
    changed = mutated(content, random.Random(seed), marks_of(dialect))
    found = outcome(folder / f"f.{dialect.name}", changed, table[0], dialect)
    if found is None:
        return
    names, rows = found
    try:
        seen_names, seen_rows = second_reading(changed, dialect)
    except UnicodeDecodeError:
        # To do: an escape within the bytes of one character is taken out before the encoding is checked.
        assert dialect.settings.get("escape")
        return
    assert names == seen_names
    assert [tuple(value or "" for value in row) for row in rows] == seen_rows


@settings(max_examples=SHORT, deadline=None, suppress_health_check=CHECKS)
@given(**TEXTS)
def test_a_text_file_with_changed_bytes_is_refused_or_read_as_a_strict_reader_reads_it(
    tmp_path, monkeypatch, table, dialect, seed, block_bytes
):
    check_text(tmp_path, monkeypatch, table, dialect, seed, block_bytes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=LONG, deadline=None, suppress_health_check=CHECKS)
@given(**TEXTS)
def test_many_text_files_with_changed_bytes(tmp_path, monkeypatch, table, dialect, seed, block_bytes):
    check_text(tmp_path, monkeypatch, table, dialect, seed, block_bytes)


ANY_TEXT = TEXTS | {"table": tables(), "dialect": dialects()}


def check_any_text(folder, monkeypatch, table, dialect, seed, block_bytes):
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    try:
        content = written(*table, dialect, seed)
    except CannotWriteError:
        return
    outcome(folder / f"f.{dialect.name}", mutated(content, random.Random(seed)), table[0], dialect)


@settings(max_examples=SHORT, deadline=None, suppress_health_check=CHECKS)
@given(**ANY_TEXT)
def test_a_text_file_of_any_dialect_with_changed_bytes_does_not_crash_or_hang(
    tmp_path, monkeypatch, table, dialect, seed, block_bytes
):
    check_any_text(tmp_path, monkeypatch, table, dialect, seed, block_bytes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=LONG, deadline=None, suppress_health_check=CHECKS)
@given(**ANY_TEXT)
def test_many_text_files_of_any_dialect_with_changed_bytes(tmp_path, monkeypatch, table, dialect, seed, block_bytes):
    check_any_text(tmp_path, monkeypatch, table, dialect, seed, block_bytes)


# --- Parquet and Arrow


def some_table():
    return pa.table(
        {
            "I": pa.array([1, None, -(2**40)] * 20),
            "F": pa.array([0.5, None, -1e300] * 20),
            "S": pa.array(["", None, "Nuß"] * 20),
            "D": pa.array([0, None, 10**9] * 20, pa.timestamp("us")),
            "T": pa.array([0, None, 86_399_000_000] * 20, pa.time64("us")),
            "B": pa.array([True, None, False] * 20),
            "C": pa.array(["a", "b", None] * 20).dictionary_encode(),
            "N": pa.array([100, None, -250] * 20, pa.int64()).cast(pa.decimal128(19, 0)),
        }
    )


def parquet(**options):
    file = io.BytesIO()
    pq.write_table(some_table(), file, **options)
    return file.getvalue()


def ipc(**options):
    file = io.BytesIO()
    feather.write_feather(some_table(), file, **options)
    return file.getvalue()


BINARY = {
    "plain.parquet": lambda: parquet(compression="none", use_dictionary=False),
    "snappy.parquet": lambda: parquet(compression="snappy", row_group_size=25),
    "int96.parquet": lambda: parquet(use_deprecated_int96_timestamps=True, store_schema=False, write_statistics=False),
    "v2.parquet": lambda: parquet(data_page_version="2.0", compression="zstd"),
    "plain.arrow": lambda: ipc(compression="uncompressed"),
    "chunked.arrow": lambda: ipc(compression="lz4", chunksize=25),
}


DAMAGED_STATISTICS = {
    "v2.parquet": (522, 971),
    "int96.parquet": (0, 812),
    "snappy.parquet": (1298,),
    "plain.parquet": (560,),
}
"""Seeds of footers whose size statistics contradict their schema: pyarrow 26 ends the process if it is asked about such a column."""


def check_binary(path, content, seed):
    changed = mutated(content, random.Random(seed))
    path.write_bytes(changed)
    try:
        landed_from(source_of([path], work_for(changed)))
    except PushEngineError:
        return
    except Exception as error:
        raise AssertionError(f"{path.name}, seed {seed}: {error!r}") from error


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_file_with_changed_bytes_does_not_crash_or_hang(tmp_path, name):
    content = BINARY[name]()
    for seed in (*range(SHORT), *DAMAGED_STATISTICS.get(name, ())):
        check_binary(tmp_path / name, content, seed)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", BINARY)
def test_many_binary_files_with_changed_bytes(tmp_path, name):
    content = BINARY[name]()
    for seed in range(SHORT, SHORT + LONG):
        check_binary(tmp_path / name, content, seed)
