"""Rows with equal keys: which are duplicates, where they are, and which one is the last."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.pipeline.keys import duplicates as duplicate_keys
from pushengine.pipeline.keys.duplicates import DuplicateSearch, RowPosition
from pushengine.pipeline.keys.hashes import hash_keys
from pushengine.pipeline.keys.runs import KeyRuns


def table(*rows):
    ids, values = zip(*rows, strict=True)
    return pa.RecordBatch.from_pydict({"ID": pa.array(ids, pa.string()), "V": pa.array(values, pa.int64())})


def suspects(folder, batches, keys):
    with KeyRuns(folder) as runs:
        for batch in batches:
            runs.add(hash_keys([batch.column(name) for name in keys]))
        return runs.duplicates()


def search(folder, *batches, keys=("ID",), lines=False):
    """Search batches, each of which is a file of its own, for rows with equal keys."""
    found = DuplicateSearch(suspects(folder, batches, keys), keys)
    observe(found, batches, lines=lines)
    return found


def observe(found, batches, *, lines=False):
    for number, batch in enumerate(batches):
        found.observe(batch, SourceBatch(batch, f"{number}.csv", 0, 2 if lines else None))


def test_different_keys(tmp_path):
    found = search(tmp_path, table(("1", 10), ("2", 10)), table(("3", 10)))
    assert found.found is None
    assert (found.rows, found.rows_involved, found.keys_involved, len(found.unproven)) == (3, 0, 0, 0)


def test_the_first_two_rows_that_differ_are_found(tmp_path):
    found = search(tmp_path, table(("1", 10), ("2", 20), ("3", 30), ("2", 20), ("2", 21), ("1", 11)), lines=True)
    assert found.found.first == RowPosition("0.csv", 2, 3)
    assert found.found.second == RowPosition("0.csv", 5, 6)
    assert found.found.key == "ID '2'"
    assert (found.rows_involved, found.keys_involved) == (5, 2)
    with pytest.raises(SchemaError) as caught:
        raise found.refusal()
    message = str(caught.value)
    assert message.startswith(
        "0.csv, row 5 (line 6): has the same key as row 2 (line 3) (ID '2') and differs from it; 5 rows"
    )
    assert "--duplicate-keys last" in message
    assert "--order-by" in message


def test_rows_in_different_files(tmp_path):
    found = search(tmp_path, table(("0", 0), ("1", 10)), table(("2", 20)), table(("3", 30), ("4", 40), ("1", 11)))
    assert (found.found.first, found.found.second) == (RowPosition("0.csv", 2, None), RowPosition("2.csv", 3, None))
    assert "the same key as row 2 of 0.csv (ID '1')" in str(found.refusal())
    assert (found.refusal().source, found.refusal().position) == ("2.csv", "row 3")


def test_blocks_of_one_file_are_counted_on(tmp_path):
    """Blocks of a text file do not know their first row."""
    batches = [table(("1", 1)), table(("2", 2), ("3", 3)), table(("1", 4))]
    found = DuplicateSearch(suspects(tmp_path, batches, ["ID"]), ["ID"])
    for batch in batches:
        found.observe(batch, SourceBatch(batch, "f.csv", 0))
    assert (found.found.first.row, found.found.second.row) == (1, 4)


def test_rows_that_are_equal_in_every_column_are_no_duplicates(tmp_path):
    columns = {
        "ID": pa.array(["1", "1", "2", "2"]),
        "T": pa.array([None, None, 5, 5], pa.timestamp("ns")),
        "F": pa.array([float("nan"), float("nan"), 0.0, -0.0]),
        "B": pa.array([True, True, None, None]),
        "S": pa.array(["x" * 100, "x" * 100, "", ""]),
    }
    found = search(tmp_path, pa.RecordBatch.from_pydict(columns))
    assert found.found is None
    assert (found.rows_involved, found.keys_involved, len(found.unproven)) == (0, 0, 0)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([None, 0]),
        pa.array([0, 1]),
        pa.array(["", None]),
        pa.array(["a", "a "]),
        pa.array([0.0, None]),
        pa.array([float("nan"), 1.0]),
        pa.array([False, None]),
        pa.array([1000, 1001], pa.timestamp("ns")),
    ],
    ids=str,
)
def test_any_difference_in_any_column_counts(tmp_path, values):
    batch = pa.RecordBatch.from_pydict({"ID": pa.array([7, 7]), "A": pa.array([1, 1]), "V": values})
    found = search(tmp_path, batch)
    assert (found.found.first.row, found.found.second.row, found.rows_involved) == (1, 2, 2)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([5, 5]),
        pa.array([True, True]),
        pa.array([float("nan"), float("nan")]),
        pa.array([0.0, -0.0]),
        pa.array([1, 1], pa.timestamp("ns")),
        pa.array(["", ""]),
    ],
    ids=str,
)
def test_keys_of_every_type_are_compared_and_shown(tmp_path, values):
    batch = pa.RecordBatch.from_pydict({"A": pa.array(["x", "x"]), "B": values, "V": pa.array([1, 2])})
    found = search(tmp_path, batch, keys=("A", "B"))
    assert found.found.key.startswith("A 'x', B '")


def test_a_long_key_is_shown_shortened(tmp_path):
    found = search(tmp_path, table(("k" * 16_250, 1), ("k" * 16_250, 2)))
    assert found.found.key == f"ID '{'k' * 39}…'"


@pytest.fixture
def colliding(monkeypatch):
    """All keys have the same hash; whole rows still have different ones."""

    def collide(columns):
        return hash_keys(columns) * np.uint64(len(columns) > 1)

    monkeypatch.setattr(duplicate_keys, "hash_keys", collide)
    return np.zeros((1, 2), np.uint64)


def test_keys_that_only_share_a_hash_are_never_refused(colliding):
    found = DuplicateSearch(colliding, ["ID"])
    observe(found, [table(("1", 10), ("2", 20), ("3", 30))])
    assert found.found is None
    assert len(found.unproven) == 0


def test_equal_keys_among_those_that_share_a_hash_are_found(colliding):
    found = DuplicateSearch(colliding, ["ID"])
    observe(found, [table(("1", 10), ("2", 20), ("1", 11))])
    assert (found.found.first.row, found.found.second.row) == (1, 3)


def test_more_keys_than_are_held_need_another_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicate_keys, "_HELD_KEYS", 5)
    monkeypatch.setattr(duplicate_keys, "_UNPROVEN_KEYS", 3)
    rows = [(str(number), 0) for number in range(20)]
    later = [(str(number), int(number in {7, 11, 13, 17, 19})) for number in range(20)]
    batches = [table(*rows), table(*later)]
    first = DuplicateSearch(suspects(tmp_path, batches, ["ID"]), ["ID"])
    observe(first, batches)
    assert first.found is None
    assert first.rows_involved == 10
    assert len(first.unproven) == 3
    second = DuplicateSearch(first.unproven, ["ID"])
    observe(second, batches)
    assert second.found.first.row == second.found.second.row
    assert second.found.key in {f"ID '{number}'" for number in (7, 11, 13, 17, 19)}
    assert len(second.unproven) == 0
    again = DuplicateSearch(second.found.hash, ["ID"])
    observe(again, batches, lines=True)
    assert again.found.key == second.found.key
    assert again.found.second.line == second.found.second.row + 1


def test_held_values_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(duplicate_keys, "_HELD_BYTES", 100_000)
    monkeypatch.setattr(duplicate_keys, "_UNPROVEN_KEYS", 10)
    batches = [table((str(number) * 1000, 0), (str(number) * 1000, 0)) for number in range(1000)]
    found = search(tmp_path, *batches)
    assert len(found._held) < 120
    assert found.memory_bytes < 200_000


# --- The last row of each key -----------------------------------------------------------------------------------------------------------


def test_the_last_row_of_each_key_is_kept(tmp_path):
    batches = [table(("1", 10), ("2", 20), ("1", 11)), table(("3", 30), ("2", 21), ("2", 22))]
    found = search(tmp_path, *batches)
    last, kept = found.last_rows(), []
    for batch in reversed(batches):  # chunks are encoded in any order
        mask = last.keep_mask(batch, hash_keys([batch.column("ID")]))
        kept = [*batch.filter(pa.array(mask)).to_pylist(), *kept]
    assert kept == [{"ID": "1", "V": 11}, {"ID": "3", "V": 30}, {"ID": "2", "V": 22}]
    assert found.keys_involved == 2


def test_copies_of_the_last_row_are_kept(tmp_path):
    batch = table(("1", 10), ("1", 11), ("1", 10))
    mask = search(tmp_path, batch).last_rows().keep_mask(batch, hash_keys([batch.column("ID")]))
    assert mask.tolist() == [True, False, True]


def test_without_equal_keys_all_rows_are_kept(tmp_path):
    batch = table(("1", 10), ("2", 20))
    last = search(tmp_path, batch).last_rows()
    assert last.keep_mask(batch, hash_keys([batch.column("ID")])).tolist() == [True, True]
    assert last.keep_mask(batch.slice(2), hash_keys([pa.array([], pa.string())])).tolist() == []


def test_hashes_that_share_their_first_half_are_told_apart():
    hashes = np.array([[5, 1], [5, 3], [5, 7], [6, 1]], np.uint64)
    index = duplicate_keys._HashIndex(hashes)
    wanted = np.array([[5, 7], [5, 2], [6, 1], [5, 1], [5, 8], [7, 1], [4, 1], [5, 3], [6, 2]], np.uint64)
    assert index.find(wanted).tolist() == [2, -1, 3, 0, -1, -1, -1, 1, -1]
