"""What a load pushes, leaves out, refuses and misses, mode by mode. Files are real; what was pushed is remembered as the journal does."""

import dataclasses
import datetime as dt
import os
import zoneinfo

import pytest
from support.load_files import DAY, Load, pushed, reasons

from pushengine.errors import ConfigError
from pushengine.journal.loads import BlockRow

# --- replace


def test_replace_loads_the_newest_generation_whole(tmp_path):
    load = Load(tmp_path)
    for name in ("A_20261126_1.csv", "A_20261127_1.csv", "A_20261127_2.csv"):
        load.write(name, name)

    choice = load.night()

    assert pushed(choice) == [("2026-11-27", ["A_20261127_1.csv", "A_20261127_2.csv"])]
    assert reasons(choice.skipped) == {"A_20261126_1.csv": "older than generation 2026-11-27"}
    assert pushed(load.night()) == []


def test_pick_all_concatenates_all_generations(tmp_path):
    load = Load(tmp_path, pick="all")
    load.write("A_20261127_1.csv", "27")
    load.write("A_20261126_1.csv", "26")

    assert pushed(load.night()) == [("2026-11-27", ["A_20261126_1.csv", "A_20261127_1.csv"])]
    assert pushed(load.night()) == []
    load.write("A_20261128_1.csv", "28")
    assert pushed(load.night()) == [("2026-11-28", ["A_20261126_1.csv", "A_20261127_1.csv", "A_20261128_1.csv"])]


@pytest.mark.parametrize("mode", ["replace", "upsert", "delete"])
def test_several_generations_without_placeholders_are_an_error_never_ordered_by_mtime(tmp_path, mode):
    load = Load(tmp_path, "*.csv", table="A", mode=mode)
    os.utime(load.write("old.csv", "old"), (1, 1))
    load.write("new.csv", "new")

    choice = load.choose()

    assert pushed(choice) == []
    assert isinstance(choice.error, ConfigError)
    assert "found 2 generations (new.csv, old.csv), and nothing in their names says which is newer" in str(choice.error)
    assert 'pick = "all"' in choice.error.hint
    load.settings = dataclasses.replace(load.settings, pick="all")
    assert pushed(load.choose()) == [("", ["new.csv", "old.csv"])]


def test_an_older_generation_delivered_again_after_a_newer_one_is_not_loaded(tmp_path):
    load = Load(tmp_path)
    load.write("A_20261127_1.csv", "27")
    load.night()
    (tmp_path / "A_20261127_1.csv").unlink()
    load.write("A_20261126_1.csv", "26")

    choice = load.night()

    assert pushed(choice) == []
    assert reasons(choice.skipped) == {"A_20261126_1.csv": "older than generation 2026-11-27, which is loaded"}


def test_a_replace_loads_a_generation_again_if_a_file_of_it_changed_or_came_later(tmp_path):
    load = Load(tmp_path)
    load.write("A_20261127_1.csv", "1")
    load.night()
    load.write("A_20261127_1.csv", "one")
    assert pushed(load.night()) == [("2026-11-27", ["A_20261127_1.csv"])]
    load.write("A_20261127_2.csv", "two!")
    assert pushed(load.night()) == [("2026-11-27", ["A_20261127_1.csv", "A_20261127_2.csv"])]


def test_a_replace_whose_content_the_table_holds_already_is_skipped(tmp_path):
    load = Load(tmp_path)
    load.write("A_20261126_1.csv", "same")
    load.night()
    load.write("A_20261127_1.csv", "same")

    choice = load.night()

    assert pushed(choice) == []
    assert reasons(choice.skipped)["A_20261127_1.csv"] == f"same content as {tmp_path}/A_20261126_1.csv"
    assert reasons(load.night().skipped)["A_20261127_1.csv"] == "loaded by push push-1"


def test_a_content_that_was_replaced_since_is_loaded_again(tmp_path):
    load = Load(tmp_path)
    for day, content in ((25, "one"), (26, "two"), (27, "one")):
        load.write(f"A_202611{day}_1.csv", content)
        assert pushed(load.night()) == [(f"2026-11-{day}", [f"A_202611{day}_1.csv"])]


def test_a_late_part_does_not_replace_a_generation_whose_other_files_were_cleaned_up(tmp_path):
    load = Load(tmp_path, cleanup="move")
    load.write("A_20261127_1.csv", "1")
    load.night()
    (tmp_path / "A_20261127_1.csv").unlink()
    load.write("A_20261127_2.csv", "two")

    choice = load.night()

    assert pushed(choice) == []
    assert "these files alone would replace it" in reasons(choice.refused)["A_20261127_2.csv"]


# --- append


def test_append_pushes_all_new_files_at_once(tmp_path):
    load = Load(tmp_path, "*.csv", table="A", mode="append")
    load.write("a2.csv", "2")
    load.write("a10.csv", "10")

    assert pushed(load.night()) == [("", ["a2.csv", "a10.csv"])]
    load.write("b.csv", "bb.")
    assert pushed(load.night()) == [("", ["b.csv"])]


def test_a_known_path_with_new_content_is_refused_in_append_as_grown(tmp_path):
    load = Load(tmp_path, "*.csv", table="A", mode="append")
    load.write("a.csv", "1\n")
    load.night()
    load.write("a.csv", "1\n2\n")
    load.write("b.csv", "new")

    choice = load.night()

    assert pushed(choice) == [("", ["b.csv"])]
    assert "it has grown or was rewritten since it was loaded" in reasons(choice.refused)["a.csv"]
    assert f"pushengine state skip sap.A {tmp_path}/a.csv" in reasons(choice.refused)["a.csv"]
    assert "a.csv" in reasons(load.night().refused)  # until somebody decides
    load.settings = dataclasses.replace(load.settings, loads_changed_files=True)
    assert pushed(load.night()) == [("", ["a.csv"])]
    assert pushed(load.night()) == []


def test_the_same_content_under_another_name_is_skipped_in_append(tmp_path):
    load = Load(tmp_path, "*.csv", table="A", mode="append")
    load.write("a.csv", "one")
    load.night()
    load.write("b.csv", "one")
    load.write("c.csv", "two")
    load.write("d.csv", "two")

    choice = load.night()

    assert pushed(choice) == [("", ["c.csv"])]
    skipped = reasons(choice.skipped)
    assert skipped["b.csv"] == f"same content as {tmp_path}/a.csv"
    assert skipped["d.csv"] == f"same content as {tmp_path}/c.csv"
    assert pushed(load.night()) == []
    load.settings = dataclasses.replace(load.settings, loads_same_content=True)
    load.write("e.csv", "one")
    assert pushed(load.night()) == [("", ["e.csv"])]


def test_a_renamed_file_is_not_loaded_twice(tmp_path):
    load = Load(tmp_path, "*.csv", table="A", mode="append")
    load.write("a.csv", "one")
    load.night()
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")

    assert pushed(load.night()) == []


def test_equal_path_and_stat_are_known_without_reading(tmp_path):
    load = Load(tmp_path, "*.csv", table="A", mode="append")
    load.write("a.csv", "one")
    load.night()
    load.write("b.csv", "another size")

    load.night()
    load.night()

    assert load.hashed == []


@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
def test_a_touched_file_is_known_by_its_content_and_read_only_once(tmp_path, mode):
    load = Load(tmp_path, "*.csv", table="A", mode=mode)
    path = load.write("a.csv", "one")
    load.night()
    path.unlink()
    load.write("a.csv", "one")

    assert pushed(load.night()) == []
    assert pushed(load.night()) == []
    assert load.hashed == ["a.csv"]


# --- upsert and delete


def test_an_upsert_skips_the_content_that_the_generation_before_loads_and_keeps_one_that_sets_values_back(tmp_path):
    load = Load(tmp_path, mode="upsert")
    load.write("A_20261124_1.csv", "one")
    load.night()
    load.write("A_20261125_1.csv", "two")
    load.write("A_20261126_1.csv", "two")
    load.write("A_20261127_1.csv", "one")

    choice = load.night()

    assert pushed(choice) == [("2026-11-25", ["A_20261125_1.csv"]), ("2026-11-27", ["A_20261127_1.csv"])]
    assert reasons(choice.skipped)["A_20261126_1.csv"] == f"same content as {tmp_path}/A_20261125_1.csv"


@pytest.mark.parametrize("mode", ["upsert", "delete"])
def test_upsert_and_delete_push_one_generation_at_a_time_in_order(tmp_path, mode):
    load = Load(tmp_path, mode=mode)
    for name in ("A_20261127_1.csv", "A_20261126_1.csv", "A_20261126_2.csv"):
        load.write(name, name)

    assert pushed(load.night()) == [
        ("2026-11-26", ["A_20261126_1.csv", "A_20261126_2.csv"]),
        ("2026-11-27", ["A_20261127_1.csv"]),
    ]
    load.write("A_20261128_1.csv", "28")
    assert pushed(load.night()) == [("2026-11-28", ["A_20261128_1.csv"])]


def test_a_generation_older_than_the_loaded_one_is_refused_in_upsert(tmp_path):
    load = Load(tmp_path, mode="upsert")
    load.write("A_20261127_1.csv", "27")
    load.night()
    load.write("A_20261126_1.csv", "26")

    choice = load.night()

    assert pushed(choice) == []
    assert reasons(choice.refused)["A_20261126_1.csv"].startswith(
        "older than generation 2026-11-27, which is loaded: its values"
    )


def test_a_file_that_comes_later_to_the_loaded_generation_is_loaded_alone(tmp_path):
    load = Load(tmp_path, mode="upsert")
    load.write("A_20261127_1.csv", "1")
    load.night()
    load.write("A_20261127_2.csv", "two")

    assert pushed(load.night()) == [("2026-11-27", ["A_20261127_2.csv"])]


def test_a_failed_file_blocks_later_ones_until_it_is_done_wherever_it_lies(tmp_path):
    load = Load(tmp_path, mode="upsert")
    failed = load.write("A_20261126_1.csv", "26")
    load.write("A_20261127_1.csv", "27")
    load.blocks = [BlockRow(load="sap", table="A", path=str(failed), kind="failed", push_id="p", reason="bad", at=0)]

    assert [key for key, _ in pushed(load.choose())] == [
        "2026-11-26",
        "2026-11-27",
    ]  # it is tried again, and comes first
    failed.unlink()
    choice = load.choose()

    assert pushed(choice) == []
    assert f"pushengine state skip sap.A {failed}" in reasons(choice.blocked)["A_20261127_1.csv"]


@pytest.mark.parametrize("mode", ["replace", "append", "upsert", "delete"])
def test_an_unknown_outcome_blocks_every_mode(tmp_path, mode):
    load = Load(tmp_path, mode=mode)
    load.write("A_20261127_1.csv", "27")
    load.blocks = [BlockRow(load="sap", table="A", path="", kind="unknown", push_id="p-9", reason="?", at=0)]

    choice = load.choose()

    assert pushed(choice) == []
    assert "pushengine resolve p-9 --loaded, or --not-loaded" in reasons(choice.blocked)["A_20261127_1.csv"]


def test_what_a_person_skipped_is_not_loaded(tmp_path):
    for mode in ("replace", "append", "upsert"):
        load = Load(tmp_path, mode=mode)
        path = str(load.write("A_20261127_1.csv", "27"))
        load.choose()
        load.rows[path] = dataclasses.replace(load.rows[path], state="skipped", loaded_at=1.0)

        choice = load.choose()

        assert pushed(choice) == []
        assert reasons(choice.skipped) == {"A_20261127_1.csv": "skipped by hand"}


# --- Files that are still being written


def test_a_generation_with_an_unfinished_file_waits_and_so_do_later_ones_of_an_upsert(tmp_path):
    for mode, expected in (("replace", []), ("upsert", []), ("append", ["A_20261127_1.csv"])):
        load = Load(tmp_path, "{table}_{date:%Y%m%d}_*", mode=mode)
        load.write("A_20261127_1.csv", "1")
        load.write("A_20261127_2.csv.tmp", "2")

        choice = load.choose()

        assert [file for _, files in pushed(choice) for file in files] == expected
        if mode != "append":
            assert "A_20261127_2.csv.tmp is still being written" in reasons(choice.skipped)["A_20261127_1.csv"]
    load.settings = dataclasses.replace(load.settings, mode="upsert")
    load.write("A_20261128_1.csv", "28")
    assert "waits for generation 2026-11-27" in reasons(load.choose().blocked)["A_20261128_1.csv"]


# --- missing


def test_a_load_is_missing_without_a_generation_newer_than_max_age_by_its_date_in_the_time_zone_of_the_load(tmp_path):
    load = Load(tmp_path, max_age=26 * 3600.0, timezone=zoneinfo.ZoneInfo("Europe/Berlin"))
    load.write("A_20261127_1.csv")
    midnight = dt.datetime(2026, 11, 26, 23, tzinfo=dt.UTC).timestamp()  # in Berlin

    load.now = midnight + 26 * 3600.0
    assert load.choose().missing == ""
    load.now += 1
    assert load.choose().missing == "no generation newer than 26:00:00 h: the newest is 26:00:01 h old"


def test_the_unchanged_file_of_yesterday_counts_as_missing_even_if_touched(tmp_path):
    load = Load(tmp_path, "{table}.csv", max_age=20 * 3600.0)
    path = load.write("A.csv", "one")
    assert load.night().missing == ""
    os.utime(path)
    assert "no generation newer than 20:00:00 h: the newest is 24:00:00 h old" in load.night().missing
    load.write("A.csv", "new!")
    assert load.night().missing == ""


def test_a_generation_that_was_loaded_and_cleaned_up_is_not_missing(tmp_path):
    load = Load(tmp_path, max_age=26 * 3600.0, cleanup="move")
    path = load.write("A_20261127_1.csv")
    load.choose()
    load.done(load.choose().pushes[0])
    path.unlink()

    assert load.choose().missing == ""
    load.now += DAY
    assert "no generation newer" in load.choose().missing


def test_a_table_once_loaded_is_expected_until_it_is_retired(tmp_path):
    load = Load(tmp_path)
    path = load.write("A_20261127_1.csv")
    load.night()
    path.unlink()

    assert load.choose().missing.endswith("pushengine state retire sap.A")
    load.loaded = None
    assert load.choose().missing == ""


def test_a_table_that_the_config_file_names_is_expected(tmp_path):
    load = Load(tmp_path, max_age=DAY)

    assert load.choose().missing == ""
    assert "the config file names this table" in load.choose(is_expected=True).missing


def test_a_generation_that_is_not_complete_does_not_end_the_wait(tmp_path):
    load = Load(tmp_path, "{table}_{date:%Y%m%d}*", max_age=26 * 3600.0)
    load.write("A_20261127.csv.tmp")

    assert "no file" in load.choose(is_expected=True).missing


def test_a_file_that_is_refused_as_grown_does_not_hide_that_nothing_came(tmp_path):
    load = Load(tmp_path, "{table}-*.csv", mode="append", max_age=25 * 3600.0)
    load.write("A-1.csv")
    assert load.night().missing == ""
    load.write("A-1.csv", "xy")
    choice = load.night()
    assert reasons(choice.refused).keys() == {"A-1.csv"}
    assert choice.missing == ""
    choice = load.night()
    assert reasons(choice.refused).keys() == {"A-1.csv"}
    assert "the newest is" in choice.missing
