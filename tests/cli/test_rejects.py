"""`--max-rejects` and `--rejects`: the exit code, what the command prints, and what the history says afterwards."""

import csv
import json
from pathlib import Path

import pytest

ROWS = "ID,QTY\n1,5\n2,x\n3\n4,7\n"
WORDS = ("push", "a.csv", "--table", "T", "--column", "QTY=INTEGER")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    return path


def listed(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [line["csv_line"] for line in csv.DictReader(file)]


def test_a_push_within_its_limit_is_done_with_rejects(pushengine, rows, tmp_path):
    done = pushengine(*WORDS, "--emulator", "o.duckdb", "--max-rejects", "2")
    assert done.code == 0
    (path,) = (tmp_path / "o.duckdb.state" / "rejects").iterdir()
    lines = done.out.splitlines()
    assert lines[0].startswith("DONE with rejects  T  replace, ")
    assert f"  rejected  2 rows: {path}" in lines
    assert f"T: 2 rows rejected: {path}" in done.err
    assert listed(path) == ["2,x", "3"]
    state = {"PUSHENGINE_STATE_DIR": str(tmp_path / "o.duckdb.state")}
    shown = pushengine("show", "T", **state).out
    assert " DONE with rejects" in shown.splitlines()[0]
    assert f"2 rows rejected, listed in {path}" in shown
    history = pushengine("history", **state)
    assert "done with rejects" in history.out
    assert [push["state"] for push in pushengine("history", "--json", **state).json["pushes"]] == ["done with rejects"]


def test_the_receipt_names_the_list_in_the_folder_of_the_flag(pushengine, rows, tmp_path):
    done = pushengine(*WORDS, "--emulator", "--max-rejects", "50%", "--rejects", "lists", "--json")
    assert (done.code, done.json["status"], done.json["rows"]) == (0, "DONE", 2)
    assert done.json["rejects"] == {"rows": 2, "file": str(tmp_path / "lists" / f"{done.json['push_id']}.csv")}
    assert listed(done.json["rejects"]["file"]) == ["2,x", "3"]


def test_the_list_outlives_an_emulator_in_memory(pushengine, rows, tmp_path):
    done = pushengine(*WORDS, "--emulator", "--max-rejects", "2", "--json")
    assert Path(done.json["rejects"]["file"]).parent == tmp_path / "state" / "rejects"
    assert listed(done.json["rejects"]["file"]) == ["2,x", "3"]


def test_above_its_limit_a_push_fails_and_names_the_first_row_the_limit_and_the_list(pushengine, rows, tmp_path):
    done = pushengine(*WORDS, "--emulator", "o.duckdb", "--max-rejects", "1", "--json")
    assert done.code == 3
    assert (done.json["submits"], done.json["rejects"]["rows"]) == (0, 2)
    assert "a.csv, line 3, column QTY: 'x' does not fit QTY INTEGER" in done.json["error"]["message"]
    assert "2 of 4 rows cannot be loaded, and max_rejects allows 1" in done.json["error"]["message"]
    assert done.json["rejects"]["file"] in done.json["error"]["message"]
    assert "--max-rejects 2" in done.json["error"]["hint"]
    assert "nothing was submitted, the table is unchanged" in done.err


def test_a_limit_and_a_folder_can_be_set_in_the_config_file(pushengine, rows, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "c.toml").write_text('[engine]\nmax_rejects = "50%"\nrejects = "lists"\n')
    done = pushengine(*WORDS, "--emulator", "--config", "conf/c.toml", "--json")
    assert (done.code, Path(done.json["rejects"]["file"]).parent) == (0, tmp_path / "conf" / "lists")
    (tmp_path / "conf" / "c.toml").write_text("[engine]\nmax_rejects = 2\n")
    assert pushengine(*WORDS, "--emulator", "--config", "conf/c.toml", "--json").json["rejects"]["rows"] == 2


@pytest.mark.parametrize("value", ["x", "-1", "150%", "1.5"])
def test_a_limit_that_makes_no_sense_is_a_usage_error(pushengine, rows, value):
    done = pushengine(*WORDS, "--emulator", "--max-rejects", value)
    assert done.code == 2
    assert "max_rejects" in done.err


def test_a_plan_notes_how_many_rows_of_its_sample_would_be_rejected(pushengine, rows):
    done = pushengine("plan", "a.csv", "--table", "T", "--column", "QTY=INTEGER", "--max-rejects", "5", "--json")
    assert any(note.startswith("2 of 4 rows read would be rejected") for note in done.json["notes"])
    assert json.dumps(done.json)
