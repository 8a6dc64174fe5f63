"""Which tables a rule finds, their generations, and which tables two rules claim."""

import datetime as dt
import os
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushengine.config.loads.resolved import LoadSettings, Rule
from pushengine.loads.files.discovery import discover, find_conflicts, unclaimed
from pushengine.loads.files.generations import age_of, date_of, key_of, order_of
from pushengine.runtime.files import LocalFileSystem


def rule(*sources, name="sap", table=None, overrides=(), **settings):
    return Rule(
        name=name,
        sources=tuple(map(str, sources)),
        table=table,
        overrides=overrides,
        settings_for=lambda found: LoadSettings(rule=name, table=found, **settings),
    )


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def found(discovery):
    return {
        table.name: [(one.key, [file.name for file in one.files]) for one in table.generations if one.files]
        for table in discovery.tables
    }


def test_files_equal_in_all_placeholders_but_part_are_one_generation_in_order(tmp_path):
    write(tmp_path, "A_20261126_2.csv", "A_20261127_2.csv", "A_20261127_10.csv", "Z_B_20261127_1.csv")

    discovery = discover(rule(tmp_path / "{table}_{date:%Y%m%d}_{part}.csv"), LocalFileSystem())

    assert found(discovery) == {
        "A": [("2026-11-26", ["A_20261126_2.csv"]), ("2026-11-27", ["A_20261127_2.csv", "A_20261127_10.csv"])],
        "Z_B": [("2026-11-27", ["Z_B_20261127_1.csv"])],
    }


def test_files_that_differ_only_in_a_star_are_one_generation(tmp_path):
    write(tmp_path, "A_20261127_x.csv", "A_20261127_y.csv")

    discovery = discover(rule(tmp_path / "{table}_{date:%Y%m%d}_*.csv"), LocalFileSystem())

    assert found(discovery) == {"A": [("2026-11-27", ["A_20261127_x.csv", "A_20261127_y.csv"])]}


def test_numbers_order_generations_as_numbers(tmp_path):
    write(tmp_path, "A_10.csv", "A_9.csv", "A_009.csv")

    discovery = discover(rule(tmp_path / "{table}_{seq}.csv"), LocalFileSystem())

    assert found(discovery) == {"A": [("9", ["A_009.csv", "A_9.csv"]), ("10", ["A_10.csv"])]}


def test_without_date_and_seq_files_with_part_are_one_generation_and_others_are_several(tmp_path):
    write(tmp_path, "p/A_1.csv", "p/A_2.csv", "s/B_1.csv", "s/B_2.csv")

    parts = discover(rule(tmp_path / "p" / "{table}_{part}.csv"), LocalFileSystem())
    stars = discover(rule(tmp_path / "s" / "*.csv", table="T"), LocalFileSystem())

    assert found(parts) == {"A": [("", ["A_1.csv", "A_2.csv"])]}
    assert found(stars) == {"T": [("", ["B_1.csv"]), ("", ["B_2.csv"])]}


def test_files_of_a_list_of_sources_are_counted_once(tmp_path):
    write(tmp_path, "A_20261127.csv", "A_20261128.csv.gz")

    discovery = discover(
        rule(tmp_path / "{table}_{date:%Y%m%d}.csv", tmp_path / "{table}_{date:%Y%m%d}.csv*"), LocalFileSystem()
    )

    assert found(discovery) == {"A": [("2026-11-27", ["A_20261127.csv"]), ("2026-11-28", ["A_20261128.csv.gz"])]}


def test_a_file_that_the_placeholders_do_not_match_is_told_unless_another_rule_takes_it(tmp_path):
    write(tmp_path, "A_20261127.csv", "A_20261399.csv", "B_x.csv")
    dated = discover(rule(tmp_path / "{table}_{date:%Y%m%d}.csv"), LocalFileSystem())
    other = discover(rule(tmp_path / "{table}_x.csv", name="x"), LocalFileSystem())

    assert [file.name for file in dated.unmatched] == ["A_20261399.csv", "B_x.csv"]
    assert [file.name for file in unclaimed([dated, other])] == ["A_20261399.csv"]


def test_a_rule_that_matches_nothing_at_all_says_where_it_looked(tmp_path):
    write(tmp_path, "VBAP_2026-11-27.csv")

    wrong_format = discover(rule(tmp_path / "{table}_{date:%Y%m%d}.csv"), LocalFileSystem())
    no_folder = discover(rule(tmp_path / "extract" / "{table}.csv"), LocalFileSystem())

    assert "none of 1 file in the folder has a name that matches" in str(wrong_format.error)
    assert "VBAP_2026-11-27.csv" in str(wrong_format.error)
    assert f"{tmp_path}/extract/{{table}}.csv" in str(no_folder.error)
    assert "there is no folder" in str(no_folder.error)


def test_a_folder_that_cannot_be_listed_fails_its_rule_only():
    class Refusing(LocalFileSystem):
        def list(self, pattern):
            raise PermissionError(13, "Permission denied", pattern)

    assert "Permission denied" in str(discover(rule("/data/{table}.csv"), Refusing()).error)


def test_overrides_without_files_are_told(tmp_path):
    write(tmp_path, "vbap.csv")

    discovery = discover(rule(tmp_path / "{table}.csv", overrides=("VBAP", "KNA1")), LocalFileSystem())

    assert discovery.without_files == ("KNA1",)


@pytest.mark.parametrize("name", ["A.csv.tmp", "A.csv.filepart", "A.csv.PART", "A.csv~", "A.csv.crdownload"])
def test_files_whose_names_say_that_they_are_unfinished_are_left_alone(tmp_path, name):
    write(tmp_path, "A.csv", name)

    [table] = discover(rule(tmp_path / "*", table="A"), LocalFileSystem()).tables

    assert [file.name for one in table.generations for file in one.files] == ["A.csv"]
    assert [file.name for file in table.unfinished] == [name]


def test_a_pattern_may_ask_for_a_suffix_that_looks_unfinished(tmp_path):
    write(tmp_path, "A.part")

    assert found(discover(rule(tmp_path / "{table}.part"), LocalFileSystem())) == {"A": [("", ["A.part"])]}


def test_a_file_that_grows_between_two_looks_is_left_alone(tmp_path):
    write(tmp_path, "A.csv", "B.csv", "C.csv")

    class Growing(LocalFileSystem):
        def list(self, pattern):
            files = super().list(pattern)
            with (tmp_path / "A.csv").open("a") as file:
                file.write("more")
            (tmp_path / "B.csv").unlink()
            return files

    discovery = discover(rule(tmp_path / "{table}.csv"), Growing())

    assert [name for name, generations in found(discovery).items() if generations] == ["C"]
    assert [file.name for table in discovery.tables for file in table.unfinished] == ["A.csv", "B.csv"]


TARGETS = {"default": ("acme", "pool", None), "test": ("acme", "other", None)}


def test_two_claims_on_one_table_name_both(tmp_path):
    write(tmp_path, "one/VBAP.csv", "two/VBAP_1.csv")
    rules = [
        discover(rule(tmp_path / "one" / "{table}.csv"), LocalFileSystem()),
        discover(rule(tmp_path / "two" / "{table}_*.csv", name="more"), LocalFileSystem()),
    ]

    [conflict] = find_conflicts(rules, TARGETS)

    assert conflict.loads == (("sap", "VBAP"), ("more", "VBAP"))
    assert conflict.message.startswith("sap.VBAP (VBAP.csv) and more.VBAP (VBAP_1.csv) are one table of one target")


def test_the_same_table_of_two_targets_or_connections_is_no_conflict(tmp_path):
    write(tmp_path, "VBAP.csv")
    rules = [
        discover(rule(tmp_path / "{table}.csv", name=name, **settings), LocalFileSystem())
        for name, settings in (("a", {}), ("b", {"target": "test"}), ("c", {"connection_id": "x"}))
    ]

    assert find_conflicts(rules, TARGETS) == []


@pytest.mark.parametrize("names", [("VBAP.csv", "vbap.csv"), ("STRASSE.csv", "straße.csv"), ("é.csv", "e\u0301.csv")])
def test_names_equal_after_case_folding_are_an_error_naming_both(tmp_path, names):
    write(tmp_path, *names)
    discovery = discover(rule(tmp_path / "{table}.csv"), LocalFileSystem())

    [conflict] = find_conflicts([discovery], TARGETS)

    assert all(name in conflict.message for name in names)
    assert "differ only in letter case" in conflict.message


@given(
    st.none()
    | st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)).map(lambda one: one.replace(microsecond=0)),
    st.none() | st.integers(0, 10**9),
)
def test_a_key_stands_for_its_place(date, seq):
    key = key_of(date, seq)

    assert date_of(key) == date
    assert order_of(key) == (None if not key else (date or dt.datetime.min, -1 if seq is None else seq))


def test_the_age_of_a_date_is_counted_in_the_time_zone_of_the_load():
    now = dt.datetime(2026, 11, 27, 4, tzinfo=dt.UTC).timestamp()

    assert age_of(dt.datetime(2026, 11, 27), zoneinfo.ZoneInfo("Europe/Berlin"), now) == 5 * 3600


def test_a_link_that_leads_nowhere_is_no_file(tmp_path):
    write(tmp_path, "A.csv")
    os.symlink(tmp_path / "gone", tmp_path / "B.csv")

    assert found(discover(rule(tmp_path / "{table}.csv"), LocalFileSystem())) == {"A": [("", ["A.csv"])]}


def test_moved_files_are_not_found_again_by_a_pattern_over_all_folders(tmp_path):
    write(tmp_path, "A.csv", "loaded/2026-11-26/B.csv")

    assert found(discover(rule(tmp_path / "**" / "{table}.csv", cleanup="move"), LocalFileSystem())) == {
        "A": [("", ["A.csv"])]
    }
