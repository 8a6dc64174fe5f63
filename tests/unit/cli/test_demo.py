"""The generated event log has the promised properties, and the demo checks which rows arrived."""

import collections
import datetime as dt

import pyarrow.compute as pc
import pytest

from pushengine.cli import demo
from pushengine.errors import PushEngineError
from pushengine.testing import RecordingSink


@pytest.fixture(scope="module")
def log():
    return demo.generate(2000, seed=7)


def test_the_seed_determines_the_log():
    assert demo.generate(50, seed=3).equals(demo.generate(50, seed=3))
    assert not demo.generate(50, seed=3).equals(demo.generate(50, seed=4))


def test_every_case_exists_has_its_creation_and_ends_with_a_final_activity(log):
    cases = collections.defaultdict(list)
    for case, activity in zip(log["CASE_ID"].to_pylist(), log["ACTIVITY"].to_pylist(), strict=True):
        cases[case].append(activity)
    assert len(cases) == 2000
    assert all("Create Purchase Order Item" in path for path in cases.values())
    assert {path[-1] for path in cases.values()} == {"Clear Invoice", "Cancel Purchase Order Item"}
    assert len({tuple(path) for path in cases.values()}) >= 8


def test_events_of_a_case_are_in_order_and_within_working_hours(log):
    times, cases = log["EVENTTIME"].to_pylist(), log["CASE_ID"].to_pylist()
    assert all(time.weekday() < 5 and 8 <= time.hour < 17 for time in times)
    assert all(a < b for a, b, x, y in zip(times, times[1:], cases, cases[1:], strict=False) if x == y)
    assert min(times) >= dt.datetime(2024, 1, 2)


@pytest.mark.parametrize(("column", "width"), [("VENDOR_ID", 10), ("DOCUMENT_ID", 10), ("CASE_ID", 18)])
def test_ids_have_leading_zeros_and_a_fixed_width(log, column, width):
    ids = set(log[column].drop_null().to_pylist())
    assert all(value.startswith("0") and value.isdigit() and len(value) == width for value in ids)


def test_log_contains_the_values_that_make_extracts_difficult(log):
    assert any("ü" in name for name in log["USER_NAME"].drop_null().to_pylist())
    assert any("," in name for name in log["VENDOR_NAME"].to_pylist())
    assert any('"' in name for name in log["VENDOR_NAME"].to_pylist())
    for column in ("USER_NAME", "DOCUMENT_ID", "AMOUNT", "CURRENCY", "CHANGE_TEXT"):
        assert 0 < log[column].null_count < log.num_rows
    assert log["AMOUNT"].type.scale == 2
    assert pc.min(log["AMOUNT"]).as_py() > 0


async def test_demo_pushes_and_finds_every_row(tmp_path):
    sink = RecordingSink()
    result = await demo.run(cases=300, seed=5, database=tmp_path / "demo.duckdb", sinks=[sink])
    expected = demo.generate(300, seed=5)
    assert result.rows == expected.num_rows == result.receipt.rows
    assert result.cases == 300
    assert sum(count for _, count in result.activities) == result.rows
    assert result.vendor_id.startswith("0000104")
    assert (tmp_path / "demo.duckdb").exists()
    lines = "\n".join(demo.describe_demo(result))
    assert f"{result.rows:,} rows of 300 cases" in lines
    assert "DONE  P2P_ACTIVITIES" in lines
    assert result.to_dict()["demo"]["rows"] == result.rows
    assert result.to_dict()["status"] == "DONE"
    assert sink.events


async def test_demo_fails_if_rows_are_missing_from_the_table(monkeypatch):
    async def query_table(_emulator):
        return collections.Counter({"Clear Invoice": 1}), 1, "0"

    monkeypatch.setattr(demo, "_query_table", query_table)
    with pytest.raises(PushEngineError, match="the table holds 1 rows"):
        await demo.run(cases=20)
