"""The limit of rejected rows, and the file that lists them in the order of the source."""

from __future__ import annotations

import csv
import os
import stat

import pyarrow as pa
import pytest

from pushengine.errors import ConfigError, JobTaintedError, SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.pipeline.rejects import FirstReject, RejectedRows, RejectLimit, delete_old_files
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conform import conform

SCHEMA = TableSchema((Column("N", "INTEGER", pa.int64(), conversion="forced_integer", is_forced=True),))


def collected(tmp_path, limit=100, *, widens=False):
    return RejectedRows(RejectLimit(limit), widens=widens, job_id="j", scratch=tmp_path / "scratch")


def load(rejects, chunk_id, *blocks):
    """Load the blocks of one chunk, and return its rows."""
    chunk = rejects.chunk()
    found = []
    for first_row, values in blocks:
        batch = SourceBatch(pa.RecordBatch.from_pydict({"N": pa.array(values, pa.string())}), "memory", first_row)
        found += chunk.load(batch, SCHEMA, lambda source: conform(SCHEMA, source)).column("N").to_pylist()
    chunk.commit(chunk_id)
    return found


def listed(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [line["csv_line"] for line in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("limit", "rejected", "rows", "is_allowed"),
    [
        (3, 3, 3, True),
        (3, 4, 1000, False),
        (0.1, 3, 30, True),
        (0.1, 4, 39, False),
        (0.07, 7, 100, True),
        (1e-7, 1, 10_000_000, True),
        (1e-7, 1, 9_999_999, False),
        (1.0, 5, 5, True),
    ],
)
def test_a_limit_is_a_number_of_rows_or_an_exact_share(limit, rejected, rows, is_allowed):
    assert RejectLimit(limit).allows(rejected, rows) is is_allowed


@pytest.mark.parametrize(
    ("limit", "text"), [(1200, "1,200"), (0.5, "50%"), (0.001, "0.1%"), (1.0, "100%"), (1e-7, "0.00001%")]
)
def test_a_limit_reads_as_its_user_wrote_it(limit, text):
    assert str(RejectLimit(limit)) == text


def test_chunks_are_listed_in_the_order_of_the_source_whenever_they_are_encoded(tmp_path):
    path = tmp_path / "lists" / "p.csv"
    with collected(tmp_path) as rejects:
        assert load(rejects, "000010", (9, ["9", "j"])) == [9]
        assert load(rejects, "000002.1", (4, ["d", "e"])) == []
        assert load(rejects, "000000", (0, ["a"]), (1, ["1", None, "b"])) == [1, None]
        assert load(rejects, "000001", (8, ["5"])) == [5]
        assert load(rejects, "000002.0", (3, ["3", "c"])) == [3]
        assert rejects.rows == 6
        rejects.write(path)
    assert listed(path) == [f'{{"N": "{text}"}}' for text in "abcdej"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list((tmp_path / "scratch").iterdir()) == []
    assert [entry.name for entry in path.parent.iterdir()] == ["p.csv"]


def test_a_chunk_that_is_split_counts_once(tmp_path):
    with collected(tmp_path) as rejects:
        rejects.chunk().load(
            SourceBatch(pa.RecordBatch.from_pydict({"N": ["x"]}), "memory", 0),
            SCHEMA,
            lambda rows: conform(SCHEMA, rows),
        )  # never committed: its payload was too large
        load(rejects, "000000.0", (0, ["x"]))
        assert rejects.rows == 1


def test_a_pass_without_rejects_removes_the_list_of_an_earlier_one(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("old")
    with collected(tmp_path) as rejects:
        rejects.write(path)
        rejects.require_allowed(0, path)
    assert not path.exists()


def test_the_error_names_the_first_reject_of_the_source(tmp_path):
    with collected(tmp_path, 1) as rejects:
        load(rejects, "000001", (7, ["y"]))
        load(rejects, "000000", (0, ["1", "x"]))
        with pytest.raises(SchemaError) as caught:
            rejects.require_allowed(1, tmp_path / "p.csv")
    assert (caught.value.source, caught.value.position) == ("memory", "row 2, column N")
    assert caught.value.message.startswith("'x' does not fit N INTEGER: not an integer; 2 of 3 rows cannot be loaded")


def test_a_pass_ends_early_a_thousand_rows_above_a_number_of_rows_but_never_for_a_share(tmp_path):
    for limit, calls in ((2, 1), (0.0001, 0)):
        stopped = []
        with collected(tmp_path, limit) as rejects:
            rejects.stop = lambda stopped=stopped: stopped.append(1)
            load(rejects, "000000", (0, ["x"] * 1002))
            assert not stopped
            load(rejects, "000001", (0, ["x"]))
            load(rejects, "000002", (0, ["x"]))
        assert len(stopped) == calls


def test_a_value_for_which_a_wider_type_may_be_inferred_is_no_reason_to_reject(tmp_path):
    column = Column("N", "INTEGER", pa.int64(), conversion="text_integer")
    schema = TableSchema((column,))
    batch = SourceBatch(pa.RecordBatch.from_pydict({"N": ["1", "x"]}), "memory", 0)
    with collected(tmp_path, widens=True) as rejects, pytest.raises(ValueMisfitError):
        rejects.chunk().load(batch, schema, lambda source: conform(schema, source))
    with collected(tmp_path) as rejects:
        rows = rejects.chunk().load(batch, schema, lambda source: conform(schema, source))
    assert rows.column(0).to_pylist() == [1]


def test_files_that_are_passed_through_have_to_be_decoded_before_rows_are_rejected(tmp_path):
    rejects = collected(tmp_path, widens=True)
    with pytest.raises(ValueMisfitError), rejects.passing_through():
        raise ValueMisfitError("wider", source="f")
    assert not rejects.must_decode
    with pytest.raises(JobTaintedError, match="no key"), rejects.passing_through():
        raise SchemaError("no key", source="f")
    assert rejects.must_decode


def test_a_place_that_cannot_be_written_is_an_error_of_the_setting(tmp_path):
    (tmp_path / "scratch").write_text("")
    with collected(tmp_path) as rejects, pytest.raises(ConfigError) as caught:
        rejects.add("000000", 1, b"", FirstReject("f", "row 1", "m"))
    assert caught.value.key == "rejects"


def test_only_lists_of_pushes_are_deleted_once_they_are_old(tmp_path):
    names = {
        "20260131T000000Z-0123abcd.csv": 10,
        "20260131T000000Z-0123abcd.part": 10,
        "20260131T000001Z-0123abcd.csv": 30,
        "orders.csv": 10,
    }
    for name, at in names.items():
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (at, at))
    delete_old_files(tmp_path, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20260131T000001Z-0123abcd.csv", "orders.csv"]
    delete_old_files(tmp_path / "missing", 20)
