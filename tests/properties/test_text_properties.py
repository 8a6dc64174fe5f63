"""Any table, written as text in any way that the settings can say, comes back equal: names, types and every value."""

import random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.landing import landed_from, source_of
from support.written_tables import KINDS, CannotWriteError, dialects, landed_value, tables, written

from pushengine.sources.csv import reading

BLOCKS = [61, 300, reading.BLOCK_BYTES]


def files_of(folder, names, parts, dialect, seed):
    """Write each part of the rows into a file of its own, with its columns in an order of its own."""
    rng = random.Random(seed)
    paths = []
    for number, rows in enumerate(parts):
        order = list(range(len(names)))
        if number and not dialect.is_by_position:
            rng.shuffle(order)
        columns = list(names.items())
        shuffled = dict(columns[index] for index in order)
        try:
            content = written(shuffled, [tuple(row[index] for index in order) for row in rows], dialect, seed + number)
        except CannotWriteError:
            assume(False)
        path = folder / f"{number}.{dialect.name}"
        path.write_bytes(content)
        paths.append(path)
    return paths


def check(folder, monkeypatch, table, dialect, parts, block_bytes, seed):
    names, rows = table
    cuts = [rows[: len(rows) // 2], rows[len(rows) // 2 :]] if parts == 2 and len(rows) > 1 else [rows]
    paths = files_of(folder, names, cuts, dialect, seed)
    monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
    given = dialect.given | ({"names": tuple(names)} if "names" in dialect.settings else {})
    columns, values = landed_from(source_of(paths, **given), **given)
    landed_names = dialect.column_names(list(names))
    assert columns == {name: KINDS[kind].type for name, kind in zip(landed_names, names.values(), strict=True)}
    assert values == [
        tuple(landed_value(kind, value) for value, kind in zip(row, names.values(), strict=True)) for row in rows
    ]


EXAMPLE = {
    "table": tables(),
    "dialect": dialects(),
    "parts": st.sampled_from([1, 1, 2]),
    "block_bytes": st.sampled_from(BLOCKS),
    "seed": st.integers(0, 2**32),
}
CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


@settings(max_examples=250, deadline=None, suppress_health_check=CHECKS)
@given(**EXAMPLE)
def test_any_table_in_any_dialect_comes_back_equal(tmp_path, monkeypatch, table, dialect, parts, block_bytes, seed):
    check(tmp_path, monkeypatch, table, dialect, parts, block_bytes, seed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=20_000, deadline=None, suppress_health_check=CHECKS)
@given(**EXAMPLE)
def test_any_table_in_any_dialect_comes_back_equal_for_long(
    tmp_path, monkeypatch, table, dialect, parts, block_bytes, seed
):
    check(tmp_path, monkeypatch, table, dialect, parts, block_bytes, seed)
