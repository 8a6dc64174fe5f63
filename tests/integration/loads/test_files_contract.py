"""The sentences of the contract's section on files, each through the command."""

import datetime as dt

import pytest

DATED = """
[[load]]
name = "sap"
source = "in/{table}_{date:%Y%m%d}_*.csv"
mode = MODE
"""
ARRIVALS = """
[[load]]
name = "events"
source = "in/*.csv"
table = "EVENTS"
mode = MODE
"""


REPLACE, UPSERT, APPEND = '"replace"', '"upsert"\nkeys = ["ID"]', '"append"'

EVENTS = ARRIVALS.replace("MODE", APPEND)


def today(days=0):
    return (dt.datetime.now(dt.UTC) - dt.timedelta(days=days)).strftime("%Y%m%d")


def test_files_that_differ_only_in_a_star_are_one_generation_and_replace_loads_the_newest(line):
    line.config(DATED.replace("MODE", REPLACE))
    line.extract("T_20261126_1.csv", "1,a")
    line.extract("T_20261127_1.csv", "2,a")
    line.extract("T_20261127_2.csv", "3,a")

    assert line.states(code=0) == {"sap.T": "done"}
    assert sorted(line.ids("T")) == ["2", "3"]


def test_pick_all_concatenates(line):
    line.config(DATED.replace("MODE", REPLACE) + 'pick = "all"\n')
    line.extract("T_20261127_1.csv", "2,a")
    line.extract("T_20261126_1.csv", "1,a")

    assert line.states(code=0) == {"sap.T": "done"}
    assert line.ids("T") == ["1", "2"]


@pytest.mark.parametrize("mode", [REPLACE, UPSERT])
def test_several_generations_without_placeholders_are_an_error(line, mode):
    line.config(ARRIVALS.replace("MODE", mode))
    line.extract("one.csv", "1,a")
    line.extract("two.csv", "2,a")

    done = line.load(code=3)

    [load] = done.json["loads"]
    assert load["state"] == "failed"
    assert "nothing in their names says which is newer" in load["reason"]
    assert line.spent() == 0


def test_append_loads_all_new_files_in_one_push(line):
    line.config(EVENTS)
    line.extract("one.csv", "1,a")
    line.extract("two.csv", "2,b")

    assert line.states(code=0) == {"events.EVENTS": "done"}
    assert line.spent() == 1
    line.extract("three.csv", "3,cc")
    assert line.states(code=0) == {"events.EVENTS": "done"}
    assert sorted(line.ids("EVENTS")) == ["1", "2", "3"]


def test_upsert_loads_one_push_a_generation_in_order(line):
    line.config(DATED.replace("MODE", UPSERT))
    line.extract("T_20261127_1.csv", "1,new")
    line.extract("T_20261126_1.csv", "1,old")

    line.load(code=0)

    assert line.spent() == 2
    assert line.rows("T", columns="ID, NAME") == [(1, "new")]


def test_a_known_path_with_new_content_is_refused_in_append(line):
    line.config(EVENTS)
    line.extract("one.csv", "1,a")
    line.load(code=0)
    line.extract("one.csv", "1,a", "2,b")

    done = line.load(code=3)

    [load] = done.json["loads"]
    assert load["state"] == "failed"
    assert "grown or was rewritten" in load["reason"]
    assert line.ids("EVENTS") == ["1"]
    line.config(EVENTS + 'changed_files = "load"\n')
    line.load(code=0)
    assert sorted(line.ids("EVENTS")) == ["1", "1", "2"]


def test_the_same_content_under_another_name_is_skipped(line):
    line.config(EVENTS)
    line.extract("one.csv", "1,a")
    line.load(code=0)
    line.extract("copy.csv", "1,a")

    done = line.load(code=0)

    [load] = done.json["loads"]
    assert load["state"] == "skipped"
    assert line.ids("EVENTS") == ["1"]
    line.config(EVENTS + 'same_content = "load"\n')
    line.extract("copy2.csv", "1,a")
    line.load(code=0)
    assert line.ids("EVENTS") == ["1", "1"]


def test_a_load_without_a_generation_newer_than_max_age_is_missing(line):
    line.config(DATED.replace("MODE", REPLACE) + 'max_age = "26h"\n')
    line.extract(f"T_{today()}_1.csv", "1,a")
    line.extract(f"U_{today(3)}_1.csv", "1,a")

    done = line.load(code=3).json

    states = {(one["name"], one["state"]) for one in done["loads"]}
    assert states == {("sap.T", "done"), ("sap.U", "done"), ("sap.U", "missing")}


def test_loaded_files_are_moved_to_dated_folders_and_never_over_others(line):
    line.config(EVENTS + 'cleanup = "move"\n')
    for rows in (["1,a"], ["2,b"]):
        line.extract("one.csv", *rows)
        line.load(code=0)

    assert sorted(line.ids("EVENTS")) == ["1", "2"]
    moved = sorted(path.name for path in (line.folder / "in" / "loaded").rglob("*.csv"))
    assert moved == ["one-2.csv", "one.csv"]
    assert not (line.folder / "in" / "one.csv").exists()
    line.extract("one.csv", "1,a")  # delivered once more
    assert line.states(code=0) == {"events.EVENTS": "skipped"}
    assert sorted(line.ids("EVENTS")) == ["1", "2"]


def test_a_file_that_failed_is_not_cleaned_up(line):
    line.config(EVENTS + 'cleanup = "delete"\n')
    (line.folder / "in").mkdir()
    bad = line.folder / "in" / "bad.csv"
    bad.write_text('ID,NAME\n1,"open\n')

    line.load(code=3)

    assert bad.exists()
    line.extract("bad.csv", "1,a")
    line.load(code=0)
    assert not bad.exists()


def test_a_generation_is_complete_when_its_control_file_says_so_and_a_different_count_is_refused(line):
    line.config(DATED.replace("MODE", REPLACE) + 'control = "{table}_{date}.ctl"\n')
    line.extract("T_20261127_1.csv", "1,a")
    line.extract("T_20261127_2.csv", "2,b")
    assert line.states() == {"sap.T": "skipped"}
    control = line.folder / "in" / "T_20261127.ctl"
    control.write_text("3\n")

    done = line.load(code=3)

    assert "2 rows, but the control file says 3" in done.json["loads"][0]["reason"]
    assert line.spent() == 0
    control.write_text("2\n")
    assert line.states(code=0) == {"sap.T": "done"}
    assert line.ids("T") == ["1", "2"]
