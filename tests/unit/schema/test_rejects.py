"""Which rows of a batch are rejected, and what inference learns from the others."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from support.schemas import inference_of

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conform import conform
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.misfits import MAX_LENGTH
from pushengine.schema.rejects import find_problems, sifted


def batch(**columns):
    return SourceBatch(pa.RecordBatch.from_pydict(columns), "f.csv", 0)


def texts(*values):
    return batch(X=pa.array(values, pa.string()))


def infer(*batches, **options):
    inference = inference_of(batches[0].batch.schema, is_text=True, allows_rejects=True, **options)
    for one in batches:
        inference.observe(one)
    return inference.infer_schema()


def problems(schema, source, *, widens=False):
    return [(one.number, one.column, one.kind) for one in find_problems(schema, source, widens=widens)]


def test_every_problem_of_a_row_is_found():
    schema = TableSchema(
        (
            Column("K", "STRING", pa.string(), 5, conversion="text", is_forced=True, has_fixed_length=True),
            Column("N", "INTEGER", pa.int64(), conversion="forced_integer", is_forced=True),
        ),
        keys=("K", "N"),
    )
    source = batch(K=["a", None, "abcdef", "b"], N=["1", "x", None, "2"])
    assert problems(schema, source) == [
        (1, "K", "NULL KEY"),
        (2, "K", "LENGTH"),
        (2, "N", "NULL KEY"),
        (1, "N", "CAST"),
    ]
    rows, readable, found = sifted(source, schema, lambda rows: conform(schema, rows), widens=False)
    assert rows.to_pylist() == [{"K": "a", "N": 1}, {"K": "b", "N": 2}]
    assert (readable.rows, [one.number for one in found]) == (4, [1, 1, 2, 2])


def test_rows_are_counted_as_in_the_block_when_some_are_missing_already():
    schema = TableSchema((Column("N", "INTEGER", pa.int64(), conversion="forced_integer", is_forced=True),))
    source = batch(N=["1", "x", "y", "2"]).only([0, 2, 3])
    assert problems(schema, source) == [(2, "N", "CAST")]


@pytest.mark.parametrize("bad", [1, 31, 32, 33, 63, 99])
def test_bad_values_are_found_wherever_they_are(bad):
    schema = TableSchema((Column("X", "INTEGER", pa.int64(), conversion="forced_integer", is_forced=True),))
    values = [str(number) for number in range(100)]
    for number in range(0, 100, bad):
        values[number] = "x"
    assert [number for number, _, _ in problems(schema, texts(*values))] == list(range(0, 100, bad))


def test_other_columns_types_and_encodings_reject_no_single_row():
    schema = TableSchema((Column("X", "STRING", pa.string(), 9, conversion="text"),))
    with pytest.raises(SchemaError, match="column X is missing"):
        find_problems(schema, batch(Y=["a"]), widens=False)
    broken = pa.array([b"a", b"\xff"]).cast(pa.binary()).view(pa.string())
    with pytest.raises(SchemaError, match="does not fit X"):
        find_problems(schema, batch(X=broken), widens=False)
    check = lambda rows: conform(schema, rows)  # noqa: E731
    with pytest.raises(SchemaError, match="unexpected column Y"):
        sifted(batch(X=["a"], Y=["b"]), schema, check, widens=False)


def test_a_length_that_can_still_grow_is_no_problem_yet():
    schema = TableSchema((Column("X", "STRING", pa.string(), 3, conversion="plain_text"),))
    source = texts("abcd", "x" * (MAX_LENGTH + 1))
    assert problems(schema, source, widens=True) == [(1, "X", "LENGTH")]
    assert problems(schema, source) == [(0, "X", "LENGTH"), (1, "X", "LENGTH")]
    with pytest.raises(ValueMisfitError):
        sifted(source, schema, lambda rows: conform(schema, rows), widens=True)


def test_of_a_row_with_many_problems_the_first_are_listed():
    names = [f"C{number}" for number in range(30)]
    columns = [Column(name, "INTEGER", pa.int64(), conversion="forced_integer", is_forced=True) for name in names]
    source = batch(**{name: ["x", "1"] for name in names})
    assert problems(TableSchema(tuple(columns)), source) == [(0, name, "CAST") for name in names[:10]]


# --- Inference


def test_inference_leaves_out_what_no_requested_type_holds():
    schema = infer(texts("1", "x"), texts("3"), overrides={"X": "INTEGER"})
    assert problems(schema, texts("1", "x", "2")) == [(1, "X", "CAST")]


def test_an_inferred_type_widens_and_rejects_nothing():
    schema = infer(texts("1", "x"))
    assert (schema.columns[0].type, problems(schema, texts("1", "x"))) == ("STRING", [])


def test_a_rejected_row_decides_nothing_about_other_columns():
    schema = infer(batch(K=["a", None], N=["1", "2"], X=["1", "later"]), keys=["K"])
    assert [column.type for column in schema.columns] == ["STRING", "INTEGER", "INTEGER"]
    schema = infer(batch(N=["1", "x"], X=["1", "later"]), overrides={"N": "INTEGER"})
    assert [column.type for column in schema.columns] == ["INTEGER", "INTEGER"]


def test_of_several_spellings_the_one_of_most_values_is_kept():
    day, times = "2026-01-31", ["2026-01-31 10:00:00", "2026-02-01T11:00:00Z", "2026-02-02T11:00:00Z"]
    schema = infer(texts(day, "never", *times), overrides={"X": "DATETIME"})
    assert [number for number, _, _ in problems(schema, texts(day, "never", *times))] == [0, 1, 2]


def test_the_type_of_the_table_is_kept_in_an_append():
    known = KnownTable("T", (KnownColumn("X", "INTEGER"),))
    schema = infer(texts("1", "x"), known=known, mode="append")
    assert problems(schema, texts("1", "x")) == [(1, "X", "CAST")]
    assert infer(texts("1", "x"), known=known).columns[0].type == "STRING"


@pytest.mark.parametrize("longest", [MAX_LENGTH, 10])
def test_strings_that_are_too_long_do_not_make_a_column_longer(longest):
    overrides = {} if longest == MAX_LENGTH else {"X": f"STRING({longest})"}
    schema = infer(texts("abc", "x" * (longest + 1)), overrides=overrides)
    assert schema.columns[0].length == (255 if longest == MAX_LENGTH else longest)
    assert problems(schema, texts("abc", "x" * (longest + 1)))[0][2] == "LENGTH"


def test_typed_values_out_of_range_are_rejected():
    at = [dt.datetime(2026, 1, 31), dt.datetime(1, 1, 1), None]
    source = batch(AT=pa.array(at, pa.timestamp("us")))
    inference = inference_of(source.batch.schema, allows_rejects=True)
    inference.observe(source)
    assert problems(inference.infer_schema(), source) == [(1, "AT", "CAST")]


def test_digits_finer_than_a_microsecond_are_a_misfit_to_a_requested_type():
    values = ["2026-01-31 10:00:00.1234567", "2026-01-31 10:00:00.123456"]
    schema = infer(texts(*values), overrides={"X": "DATETIME"})
    assert problems(schema, texts(*values)) == [(0, "X", "CAST")]


def test_without_rejects_the_first_misfit_is_an_error():
    inference = inference_of(texts("1").batch.schema, is_text=True, overrides={"X": "INTEGER"})
    with pytest.raises(SchemaError, match="'x' does not fit X INTEGER"):
        inference.observe(texts("1", "x"))
