"""What a report says of the runs of loads: a load counts as its newest run left it, and silence is no good news."""

import datetime as dt

import pytest
from support.run_memory import NOW, TWO, RunMemory, run_load

from pushengine.loads.report import make_report

SINCE = NOW - dt.timedelta(hours=20)
NIGHT = dt.timedelta(days=1)


def report(memory, **options):
    return make_report(memory, since=SINCE, until=NOW, **options)


def states(found):
    return [(entry.load.table, entry.load.state, entry.is_trouble) for entry in found.loads]


def test_all_well():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A", rows=5, rejected=1, source_bytes=10, payload_bytes=7), run_load("B", "skipped"))
    found = report(memory)
    assert states(found) == [("A", "done", False), ("B", "skipped", False)]
    assert (found.exit_code, found.loads[0].seconds, found.loads[0].runs) == (0, 60.0, 1)


@pytest.mark.parametrize(
    "load",
    [
        run_load("A", "failed", exit_code=3),
        run_load("A", "missing", exit_code=3),
        run_load("A", "blocked", exit_code=3),
        run_load("A", "unknown", exit_code=6),
        run_load("A", "skipped", exit_code=75),
        run_load("A", "done", is_late=True),
        run_load("A", "rejects", is_late=True),
    ],
    ids=lambda load: f"{load.state}{'-late' if load.is_late else ''}",
)
def test_each_trouble_makes_the_exit_code_3_and_comes_first(load):
    memory = RunMemory()
    memory.add_run(TWO, run_load("0"), load, run_load("Z"))
    found = report(memory)
    assert found.exit_code == 3
    assert [entry.load.table for entry in found.loads] == ["A", "0", "Z"]
    assert [entry.load.table for entry in found.troubles] == ["A"]


def test_the_most_urgent_comes_first():
    memory = RunMemory()
    late = run_load("E", is_late=True)
    urgent = [
        run_load(name, state, exit_code=3)
        for name, state in zip("DCBA", ("unknown", "failed", "blocked", "missing"), strict=True)
    ]
    memory.add_run(TWO, run_load("0"), late, *reversed(urgent))
    assert [entry.load.table for entry in report(memory).loads] == ["D", "C", "B", "A", "E", "0"]


def test_a_report_without_any_run_is_no_good_news():
    memory = RunMemory()
    memory.add_run(TWO - NIGHT, run_load("A"))
    found = report(memory)
    assert (found.runs, found.exit_code) == ((), 3)


def test_a_run_that_was_skipped_for_another_one_is_no_trouble_once_that_is_done():
    memory = RunMemory()
    start = TWO.timestamp()
    memory.add_run(TWO, run_load("A", started_at=start, ended_at=start + 600))
    memory.add_run(
        TWO + dt.timedelta(minutes=1),
        run_load("A", "skipped", exit_code=75, started_at=start + 60, ended_at=start + 61),
    )
    found = report(memory)
    assert (states(found), found.exit_code) == ([("A", "done", False)], 0)


def test_what_failed_at_two_and_was_done_at_three_is_done():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A", "failed", exit_code=3), run_load("B", rows=3))
    memory.add_run(TWO.replace(hour=3), run_load("a", rows=7))
    found = report(memory)
    assert found.exit_code == 0
    assert [(entry.load.rows, entry.runs, entry.failures) for entry in found.loads] == [(3, 1, 0), (7, 2, 1)]


def test_rows_of_all_runs_and_generations_count_and_the_worst_generation_of_the_newest_run_decides():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A", rows=10, generation="1"))
    memory.add_run(
        TWO.replace(hour=3),
        run_load("A", rows=5, generation="2"),
        run_load("A", "failed", generation="3", reason="bad", exit_code=3),
        run_load("A", "blocked", generation="4", reason="3 failed", exit_code=3),
    )
    (entry,) = report(memory).loads
    assert (entry.load.state, entry.load.generation, entry.load.reason, entry.load.rows) == ("failed", "3", "bad", 15)


def test_a_run_whose_process_has_gone_left_its_loads_cut_off():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A"), run_load("B", "running"), run_load("C", "planned"), ended=False, pid=7)
    found = report(memory)
    assert [(entry.load.table, entry.is_cut_off) for entry in found.troubles] == [("B", True), ("C", True)]
    assert found.exit_code == 3
    asked = []
    found = report(memory, is_working=lambda run: asked.append(run.pid) or True)
    assert (found.exit_code, found.working, asked) == (0, ("run0",), [7])


def test_a_table_that_no_run_looked_for_is_missing_if_it_usually_runs_more_often():
    memory = RunMemory()
    for back in (3, 2, 1):
        memory.add_run(TWO - back * NIGHT, run_load("NIGHTLY"))
    memory.add_run(TWO, run_load("OTHER"))
    memory.add_table("NIGHTLY")
    found = report(memory)
    (entry,) = found.troubles
    assert (entry.load.table, entry.load.state) == ("NIGHTLY", "missing")
    assert (
        entry.load.reason
        == "no run has looked for it since 2026-11-26 02:00; before, at most 24 h passed between two runs"
    )


def test_a_table_that_runs_less_often_is_not_missing_but_named():
    memory = RunMemory()
    for back in (10, 3):
        memory.add_run(TWO - back * NIGHT, run_load("WEEKLY"))
    memory.add_run(TWO, run_load("OTHER"))
    for name in ("WEEKLY", "NEW"):
        memory.add_table(name)
    found = report(memory)
    assert found.exit_code == 0
    assert [table.table for table in found.resting] == ["WEEKLY", "NEW"]


def test_what_runs_from_monday_to_friday_is_not_overdue_on_sunday():
    sunday = NOW + 2 * NIGHT
    memory = RunMemory()
    for back in (9, 6, 5, 4, 3, 2):  # Friday, Monday to Friday
        memory.add_run(sunday.replace(hour=2) - back * NIGHT, run_load("A"))
    memory.add_run(sunday.replace(hour=2), run_load("OTHER"))
    memory.add_table("A")
    assert make_report(memory, since=sunday - dt.timedelta(hours=20), until=sunday).exit_code == 0


def test_a_block_stands_until_it_is_lifted_even_if_no_run_met_it():
    memory = RunMemory()
    memory.add_run(TWO, run_load("OTHER"), run_load("A", "blocked", exit_code=3))
    memory.add_block("a", "/data/1.csv")
    memory.add_block("A", "/data/2.csv")
    memory.add_block("B", "", kind="unknown", push_id="p9", reason="unknown outcome")
    found = report(memory)
    assert [(entry.load.table, entry.load.state, entry.block.path) for entry in found.troubles] == [
        ("A", "blocked", "/data/1.csv"),
        ("B", "blocked", ""),
    ]
    assert found.troubles[1].load.push_id == "p9"


def test_nights_go_from_noon_to_noon_and_the_chart_has_the_latest_fourteen():
    memory = RunMemory()
    for back in range(20, 0, -1):
        evening = (NOW - back * NIGHT).replace(hour=23)
        memory.add_run(evening, run_load("A", rows=back))
        memory.add_run(
            evening + dt.timedelta(hours=2), run_load("A", "failed" if back == 3 else "done", rows=back * 10)
        )
    (entry,) = report(memory).loads
    assert [night.begins.isoformat() for night in (entry.nights[0], entry.nights[-1])] == ["2026-11-13", "2026-11-26"]
    assert [night.rows for night in entry.nights] == [
        back + (0 if back == 3 else back * 10) for back in range(14, 0, -1)
    ]
    assert [night.has_failed for night in entry.nights] == [back == 3 for back in range(14, 0, -1)]
    assert entry.nights[-1].seconds == 120.0


def test_a_night_without_a_run_has_no_rows():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A", rows=0))
    (entry,) = report(memory).loads
    assert [night.rows for night in entry.nights] == [None] * 13 + [0]


@pytest.mark.parametrize(
    ("names", "tables"),
    [(["sap"], ["A", "B1", "B2"]), (["SAP.b*"], ["B1", "B2"]), (["sap.A", "sap.B2"], ["A", "B2"]), (["other"], [])],
)
def test_only_the_loads_that_are_named(names, tables):
    memory = RunMemory()
    memory.add_run(TWO, *(run_load(table) for table in ("A", "B1", "B2")))
    memory.add_block("A", "/x") if "A" not in tables else None
    found = report(memory, names=names)
    assert [entry.load.table for entry in found.loads] == tables
    assert found.exit_code == (0 if tables else 3)  # no run of these
