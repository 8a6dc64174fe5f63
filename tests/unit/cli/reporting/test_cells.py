"""Texts are fitted to columns of a terminal, whatever characters they have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pushengine.cli import describe
from pushengine.cli.reporting import cells
from pushengine.cli.story import PushSummary
from pushengine.model import Job, JobId, JobStatus, Plan, TableColumn

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=120)


@given(text=TEXTS, width=st.integers(0, 100))
def test_a_fitted_text_is_never_wider_and_is_unchanged_if_it_fits(text, width):
    for fitted in (cells.fit(text, width), cells.fit_middle(text, width)):
        assert cell_len(fitted) <= width
        assert (fitted == text) == (cell_len(text) <= width)
    assert cell_len(cells.pad(text, width)) == width


def test_the_middle_of_a_long_name_is_left_out():
    assert cells.fit_middle("SAP_TABLE_2026_01", 11) == "SAP_T…26_01"
    assert cells.fit("SAP_TABLE_2026_01", 6) == "SAP_T…"


def test_wrapped_lines_hang_below_the_first():
    assert cells.wrapped("one two three four", 9, "  ", first="") == ["one two", "  three", "  four"]


@given(
    text=TEXTS,
    width=st.integers(10, 100),
    indent=st.sampled_from(["", "    "]),
    first=st.sampled_from([None, "", "   "]),
)
def test_wrapped_lines_fit_and_keep_every_word(text, width, indent, first):
    lines = cells.wrapped(text, width, indent, first)
    assert max(map(cell_len, lines)) <= width
    words = "".join("".join(lines).split())
    assert words == "".join(cells.shown_line(text).split())


@given(rows=st.lists(st.lists(TEXTS, min_size=4, max_size=4), min_size=1, max_size=5), width=st.integers(40, 120))
def test_a_table_fits_and_keeps_its_rows(rows, width):
    lines = cells.table(rows, width=width)
    assert len(lines) == len(rows)
    assert max(map(cell_len, lines)) <= width


def test_columns_are_left_out_before_others_are_cut():
    rows = [("ID", "NAME", "SINCE", "N"), ("x" * 25, "y" * 30, "2026-11-27 02:00", "1")]
    assert cells.table(rows, width=200, fixed=(0, 2, 3), optional=(3, 2))[1].endswith("1")
    assert cells.table(rows, width=64, fixed=(0, 2, 3), optional=(3, 2))[0].split() == ["ID", "NAME", "SINCE"]
    assert cells.table(rows, width=40, fixed=(0, 2, 3), optional=(3, 2))[1] == f"{'x' * 25}  {'y' * 12}…"


@given(rows=st.lists(st.lists(TEXTS, min_size=6, max_size=6), min_size=1, max_size=3), width=st.integers(20, 80))
def test_blocks_have_every_column_once(rows, width):
    blocks = cells.in_blocks(rows, width=width)
    assert all(cell_len(line) <= width for block in blocks for line in block)
    assert all(len(block) == len(rows) for block in blocks)


LONG = "EINE_TABELLE_MIT_EINEM_SEHR_LANGEN_NAMEN_" * 3
WIDE = "売上明細テーブル" * 6


def lists():
    """Yield each list with long values, and the ids that must be whole."""
    for name in (LONG, WIDE):
        push = PushSummary("20261127T020045Z-189e8d60", name, "replace", "done with rejects", 10**11, 9, 0.0, 9e5, 12)
        yield describe.describe_history([push], "state"), push.push_id
        job = Job(JobId("3f2a5b10-0000-4000-8000-000000000001"), JobStatus.RUNNING, name, "REPLACE")
        yield describe.describe_jobs([job]), job.id
        schema = tuple(
            {"name": f"{name}{number}", "type": "STRING", "length": 65000, "reason": name, "value": "x" * 99}
            for number in range(5)
        )
        columns = tuple(TableColumn(column["name"], "STRING", 65000) for column in schema)
        plan = Plan(
            table="T",
            mode="replace",
            keys=(),
            files=("a.csv",),
            source_bytes=1,
            columns=columns,
            sampled_rows=1,
            is_sample_complete=True,
            estimated_chunks=1,
            notes=(),
            schema=schema,
            first_rows=({column["name"]: "v" * 50 for column in schema},),
        )
        yield describe.describe_plan(plan), "STRING(65000)"


@pytest.mark.parametrize("number", range(6))
def test_every_list_fits_80_columns_and_cuts_no_id(number, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    lines, whole = list(lists())[number]
    assert max(map(cell_len, lines)) <= 80
    assert any(whole in line for line in lines)


def test_a_wider_terminal_shows_more(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    push = PushSummary("p1", LONG, "replace", "done", 1, 1, 0.0, 1.0, 2)
    assert LONG in describe.describe_history([push], "state")[1]
