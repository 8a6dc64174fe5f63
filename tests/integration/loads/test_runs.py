"""What `pushengine load` does, each sentence of the contract's section on runs."""

import contextlib
import json
import sqlite3

import pytest
from support.command_line import DATABASE

from pushengine.journal.loads import BlockRow
from pushengine.journal.store import JournalFile

REPLACE = """
[[load]]
name = "sap"
source = "in/{table}_{date:%Y%m%d}.csv"
mode = "replace"
"""
UPSERT = """
[[load]]
name = "orders"
source = "in/{table}_{date:%Y%m%d}.csv"
mode = "upsert"
keys = ["ID"]
"""
DRY_RUN_RULES = """
[[load]]
name = "a"
source = "in/a/{table}_{date:%Y%m%d}.csv"
mode = "replace"

[[load]]
name = "b"
source = "in/b/{table}-*.csv"
mode = "replace"
"""
APPEND = """
[[load]]
name = "events"
source = "in/events_*.csv"
table = "EVENTS"
mode = "append"
"""


def test_one_rule_is_a_load_for_each_table_found(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a", "2,b")
    line.extract("Z_MY_TABLE_20261126.csv", "7,z")
    done = line.load(code=0).json
    assert {one["name"]: (one["state"], one["rows"]) for one in done["loads"]} == {
        "sap.VBAK": ("done", 2),
        "sap.Z_MY_TABLE": ("done", 1),
    }
    assert line.ids("VBAK") == ["1", "2"]
    assert line.ids("Z_MY_TABLE") == ["7"]


def test_every_load_is_a_run_with_an_id(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a")
    first, second = line.load(code=0).json, line.load(code=0).json
    assert first["run_id"] != second["run_id"]
    assert [run for (run,) in line.journal("SELECT run_id FROM runs ORDER BY started_at")] == [
        first["run_id"],
        second["run_id"],
    ]


def test_pushes_start_under_a_load_id_of_run_load_and_generation(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a")
    done = line.load(code=0).json
    (load,) = done["loads"]
    assert load["load_id"] == f"{done['run_id']}/sap.VBAK/{load['generation']}"
    assert load["receipt"]["load_id"] == load["load_id"]


def test_a_second_run_loads_nothing_twice(line):
    line.config(REPLACE + APPEND)
    line.extract("VBAK_20261126.csv", "1,a")
    line.extract("events_1.csv", "1,a", "2,b")
    assert line.states(code=0) == {"sap.VBAK": "done", "events.EVENTS": "done"}
    assert line.states(code=0) == {"sap.VBAK": "skipped", "events.EVENTS": "skipped"}
    assert line.ids("EVENTS") == ["1", "2"]
    assert line.spent() == 2


def test_failures_are_isolated(line):
    line.config(REPLACE)
    line.extract("GOOD_20261126.csv", "1,a")
    (line.folder / "in" / "BAD_20261126.csv").write_text('ID,NAME\n1,"open\n')
    done = line.load(code=3).json
    assert {one["name"]: one["state"] for one in done["loads"]} == {"sap.GOOD": "done", "sap.BAD": "failed"}
    bad = next(one for one in done["loads"] if one["name"] == "sap.BAD")
    assert "BAD_20261126.csv" in bad["reason"]
    assert line.ids("GOOD") == ["1"]


def test_a_failed_file_of_an_upsert_blocks_the_later_ones_wherever_it_lies(line):
    line.config(UPSERT)
    line.extract("ORDERS_20261124.csv", "1,a")
    bad = line.folder / "in" / "ORDERS_20261125.csv"
    bad.write_text('ID,NAME\n2,"open\n')
    line.extract("ORDERS_20261126.csv", "3,c")
    done = line.load(code=3).json
    assert [(one["generation"], one["state"]) for one in done["loads"]] == [
        ("2026-11-24", "done"),
        ("2026-11-25", "failed"),
        ("2026-11-26", "blocked"),
    ]
    bad.rename(line.folder / "taken-away.csv")
    again = line.load(code=3).json
    assert [one["state"] for one in again["loads"] if one["generation"] == "2026-11-26"] == ["blocked"]
    assert line.ids("ORDERS") == ["1"]


def test_the_done_of_a_failed_file_lifts_its_block(line):
    line.config(UPSERT)
    bad = line.folder / "in" / "ORDERS_20261125.csv"
    bad.parent.mkdir()
    bad.write_text('ID,NAME\n2,"open\n')
    line.extract("ORDERS_20261126.csv", "3,c")
    line.load(code=3)
    line.extract("ORDERS_20261125.csv", "2,b")
    assert [one["state"] for one in line.load(code=0).json["loads"]] == ["done", "done"]
    assert line.ids("ORDERS") == ["2", "3"]
    assert line.journal("SELECT * FROM load_blocks") == []


def test_a_rule_that_matches_nothing_at_all_is_a_failure(line):
    line.config(REPLACE)
    (line.folder / "in").mkdir()
    done = line.load(code=3).json
    assert [(one["name"], one["state"]) for one in done["loads"]] == [("sap", "failed")]


def test_a_table_once_loaded_is_expected(line):
    line.config(REPLACE)
    old = line.extract("VBAK_20261125.csv", "1,a")
    line.extract("VBAP_20261125.csv", "1,a")
    line.load(code=0)
    old.unlink()
    states = line.states(code=3)
    assert states["sap.VBAK"] == "missing"


def test_names_and_tags_select_loads(line):
    line.config(REPLACE.replace('mode = "replace"', 'mode = "replace"\ntags = ["night"]') + APPEND)
    line.extract("VBAK_20261126.csv", "1,a")
    line.extract("VBAP_20261126.csv", "1,a")
    line.extract("events_1.csv", "1,a")
    assert line.states("sap.VBAK", code=0) == {"sap.VBAK": "done"}
    assert line.states("--tag", "night", code=0) == {"sap.VBAK": "skipped", "sap.VBAP": "done"}
    assert line.states("ev*", code=0) == {"events.EVENTS": "done"}
    unknown = line.run("load", "spa")
    assert unknown.code == 2
    assert "did you mean sap?" in unknown.err


def test_a_dry_run_changes_nothing(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a")
    done = line.load("--dry-run", code=0).json
    assert [one["state"] for one in done["loads"]] == ["planned"]
    assert done["forecast"]["tables"] == 1
    assert line.contents() == {}
    assert line.spent() == 0
    assert line.states(code=0) == {"sap.VBAK": "done"}


def test_a_dry_run_exits_as_the_run_would_for_what_is_known_already(line):
    line.config(DRY_RUN_RULES)
    line.extract("a/A_20261127.csv", "1,a")
    line.extract("b/B-1.csv", "1,a")
    line.extract("b/B-2.csv", "2,a")

    planned = line.load("--dry-run", code=3).json

    assert planned["status"] == "PLANNED"
    assert {(one["name"], one["state"]) for one in planned["loads"]} == {("a.A", "planned"), ("b.B", "failed")}
    assert line.spent() == 0


def test_the_forecast_comes_first(line):
    line.config(REPLACE)
    for number in range(3):
        line.extract(f"T{number}_20261126.csv", "1,a")
    done = line.run("load", "--emulator", "out.duckdb")
    assert done.code == 0
    assert "3 tables: 3 this hour" in done.err
    assert "3 loads: 3 done" in done.out


@pytest.mark.parametrize("kind", ["late", "in time"])
def test_late_is_an_attribute_beside_the_state(line, kind):
    line.config(REPLACE.replace('mode = "replace"', 'mode = "replace"\ndeadline = "23:59"\ntimezone = "UTC"'))
    line.extract("VBAK_20261126.csv", "1,a")
    (load,) = line.load(code=0).json["loads"]
    assert load["state"] == "done"
    assert json.dumps(load["is_late"]) in ("true", "false")


def test_a_missing_load_that_has_come_is_not_missing_after_continue(line):
    line.config(REPLACE)
    old = line.extract("VBAK_20261125.csv", "1,a")
    line.load(code=0)
    old.unlink()
    assert line.states(code=3) == {"sap.VBAK": "missing"}
    line.extract("VBAK_20261126.csv", "2,b")
    done = line.load("--continue", code=0).json
    assert [(one["generation"], one["state"]) for one in done["loads"]] == [("2026-11-26", "done")]
    stored = line.journal("SELECT generation, state FROM run_loads WHERE run_id = ?", done["run_id"])
    assert stored == [("2026-11-26", "done")]


def test_continue_blocks_what_follows_a_push_that_has_failed_since(line):
    line.config(UPSERT)
    line.extract("ORDERS_20261126.csv", "1,a")
    run_id = line.load(code=0).json["run_id"]
    path = line.folder / f"{DATABASE}.state" / "journal.sqlite3"
    with (
        contextlib.closing(sqlite3.connect(path)) as db,
        db,
    ):  # as a run leaves it that was killed while it waited for 20261125
        db.execute("UPDATE runs SET ended_at = NULL, exit_code = NULL")
        db.execute("UPDATE run_loads SET state = 'planned'")
        db.execute("DELETE FROM load_files")
    failed = str(line.folder / "in" / "ORDERS_20261125.csv")
    block = BlockRow(load="orders", table="ORDERS", path=failed, kind="failed", push_id="p", reason="bad", at=0.0)
    with contextlib.closing(JournalFile(path)) as file, file.transaction():
        file.loads.put_block(block)
    done = line.load("--continue", code=3).json
    assert done["run_id"] == run_id
    (blocked,) = done["loads"]
    assert (blocked["state"], blocked["reason"].split(":")[0]) == ("blocked", f"{failed} failed before")
    assert line.spent() == 1


def test_a_target_in_another_pool_gets_the_files_that_the_first_one_has(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a")
    line.load(code=0)
    other = line.folder / "pushengine.toml"
    other.write_text(other.read_text().replace("8000-000000000001", "8000-000000000002"))
    assert line.states(code=0) == {"sap.VBAK": "done"}
    assert line.states(code=0) == {"sap.VBAK": "skipped"}


def test_a_table_that_has_changed_is_told_in_the_run_and_in_the_report(line):
    line.config(REPLACE)
    line.extract("VBAK_20261126.csv", "1,a")
    line.load(code=0)
    line.extract("VBAK_20261127.csv", "one,a")
    done = line.run("load", "--emulator", DATABASE)
    assert done.code == 0
    assert "sap.VBAK: changed: " in done.out
    assert "sap.VBAK: changed: " in done.err
    assert "sap.VBAK: changed: " in line.run("report", "--emulator", DATABASE, "--since", "1h").out
