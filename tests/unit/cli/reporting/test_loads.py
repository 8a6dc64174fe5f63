"""What people read before and after a run of loads."""

import datetime as dt

import pytest
from rich.cells import cell_len

from pushengine.cli.hints import Hints
from pushengine.cli.reporting.loads import describe_forecast, describe_loads
from pushengine.journal.loads import BlockRow, RunLoad
from pushengine.loads.forecast import Batch, Forecast

THREE = dt.datetime(2026, 11, 27, 3, tzinfo=dt.UTC)
LONG = "EINE_TABELLE_MIT_EINEM_SEHR_LANGEN_NAMEN_" * 4
WIDE = "売上明細テーブル" * 6


def load(table="VBAP", state="done", **fields):
    return RunLoad(**{"load": "sap", "table": table, "state": state, **fields})


@pytest.mark.parametrize(
    ("batches", "line"),
    [
        ([(None, 250), (THREE, 62)], "312 tables: 250 this hour, 62 after 03:00Z, about 03:04Z"),
        ([(None, 1)], "1 table: 1 this hour, about 03:04Z"),
        ([(THREE, 2)], "2 tables: 2 after 03:00Z, about 03:04Z"),
        ([], "0 tables: nothing to load"),
        (
            [(None, 250), *((THREE + dt.timedelta(hours=hour), 250) for hour in range(5))],
            "1,500 tables: 250 this hour, 250 after 03:00Z, 250 after 04:00Z, 250 after 05:00Z, 500 later, about 03:04Z",
        ),
    ],
)
def test_the_forecast_says_how_many_leave_when(batches, line):
    expected = Forecast(
        sum(count for _, count in batches),
        tuple(Batch(*one) for one in batches),
        THREE + dt.timedelta(minutes=4),
    )
    assert describe_forecast(expected) == line


def test_the_table_at_the_end_has_what_people_know_and_the_trouble_below():
    ran = [
        load(rows=1_234_567, started_at=100.0, ended_at=134.0),
        load("VBAK", "rejects", rows=88, rejected=12, started_at=100.0, ended_at=101.2),
        load("MSEG", "failed", reason="3 rows do not fit", push_id="p1", started_at=1.0, ended_at=2.0, exit_code=3),
        load("MARA", "missing", reason="no generation newer than 26 h", is_late=True, exit_code=3),
        load("EV", "skipped", reason="loaded already"),
    ]
    assert describe_loads(ran, seconds=723.0) == [
        "TABLE          READ       SENT  REJECTED  ERRORS   TIME  STATE",
        "sap.VBAP  1,234,567  1,234,567         0       0   34 s  done",
        "sap.VBAK        100         88        12       0  1.2 s  rejects",
        "sap.MSEG          -          -         -       1  1.0 s  failed",
        "sap.MARA          -          -         -       1      -  missing, late",
        "sap.EV            -          -         -       0      -  skipped",
        "",
        "5 loads: 1 done, 1 done with rejects, 1 skipped, 1 failed, 1 missing, 1 late;",
        "1.2 M rows, 12 rejected, 12:03 min",
        "failed  sap.MSEG: 3 rows do not fit",
        "    -> see what happened: pushengine show p1",
        "    -> when it is fixed: pushengine load sap.MSEG",
        "missing  sap.MARA: no generation newer than 26 h",
        "    -> when its file is there: pushengine load sap.MARA",
        "    -> if it is not expected any more: pushengine state retire sap.MARA",
    ]


@pytest.mark.parametrize(
    ("ended", "steps"),
    [
        (load("T", "failed", exit_code=75), ["try again: pushengine load sap.T --config 'a b.toml'"]),
        (load("T", "skipped", exit_code=75), ["try again: pushengine load sap.T --config 'a b.toml'"]),
        (
            load("T", "unknown", push_id="p1", exit_code=6),
            [
                "find out whether the rows arrived: pushengine show p1 --config 'a b.toml'",
                "if they did: pushengine resolve p1 --loaded --config 'a b.toml'",
                "if not: pushengine resolve p1 --not-loaded --config 'a b.toml'",
            ],
        ),
        (
            load("T", "blocked", exit_code=3),
            [
                "when the failed file is right: pushengine load sap.T --config 'a b.toml'",
                "or leave it out: pushengine state skip sap.T '/data/a b.csv' --config 'a b.toml'",
            ],
        ),
        (
            load("U", "blocked", exit_code=3),
            [
                "find out whether the rows arrived: pushengine show p0 --config 'a b.toml'",
                "if they did: pushengine resolve p0 --loaded --config 'a b.toml'",
                "if not: pushengine resolve p0 --not-loaded --config 'a b.toml'",
            ],
        ),
    ],
    ids=["temporary", "locked", "unknown", "blocked", "blocked-by-unknown"],
)
def test_each_trouble_says_what_to_do_next_with_the_config_file_that_was_named(ended, steps):
    of = {"load": "sap", "push_id": "p0", "reason": "", "at": 0.0}
    blocks = [
        BlockRow(**of, table="t", path="/data/a b.csv", kind="failed"),
        BlockRow(**of, table="U", path="", kind="unknown"),
    ]
    lines = describe_loads([ended], hints=Hints(config="a b.toml"), blocks=blocks)
    assert [line for line in lines if "->" in line] == [f"    -> {step}" for step in steps]


def test_generations_of_one_table_are_told_apart():
    lines = describe_loads([load(generation="2026-11-26"), load(generation="2026-11-27"), load("X", generation="1")])
    assert [line.split("  ")[0] for line in lines[1:4]] == ["sap.VBAP 2026-11-26", "sap.VBAP 2026-11-27", "sap.X"]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_it_fits_the_width_with_any_name_and_number(width):
    ran = [
        load(
            table,
            state,
            rows=10**11,
            rejected=10**6,
            reason="x" * 300 + f" {WIDE} " * 5 + "\x1b[2J",
            ended_at=9e5,
            started_at=1.0,
        )
        for table in (LONG, WIDE, "", "A\nB")
        for state in ("done", "failed", "missing", "unknown")
    ]
    lines = describe_loads(ran, seconds=1e6, width=width)
    assert max(cell_len(line) for line in lines if "->" not in line) <= width
    assert not any(set(line) & set("\n\x1b") for line in lines if "->" not in line)


def test_a_run_without_loads_says_so():
    assert describe_loads([]) == ["no loads"]


def test_a_run_that_was_interrupted_says_how_to_finish_it():
    lines = describe_loads([load(rows=1), load("VBAK", "running"), load("VBAP", "planned")])
    assert [line.split()[-1] for line in lines[1:4]] == ["done", "running", "started"]
    assert lines[-1] == "to finish the run: pushengine load --continue"
