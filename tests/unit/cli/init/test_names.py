"""What names of files say: tables, dates and parts, and which files one pattern is for."""

from pathlib import Path

import pytest

from pushengine.cli.init.names import list_names, rules_of
from pushengine.config.patterns import SourcePattern


def found(tmp_path, *names):
    folder = tmp_path / "extracts"
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"A\n1\n")
    files, others = list_names(folder)
    return rules_of(files, folder), others


def patterns(folder, *names):
    """Return {pattern below the folder: its tables} of the rules for files."""
    rules, _ = found(folder, *names)
    start = f"{folder.as_posix()}/extracts/"
    for rule in rules:
        for file in [file for files in rule.files.values() for file in files]:
            assert any(SourcePattern.parse(one).match(file.path.as_posix()) for one in rule.templates), file
    return {
        " ".join(one.removeprefix(start) for one in rule.templates): [rule.table] if rule.table else list(rule.files)
        for rule in rules
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["VBAK_20261126.csv", "VBAP_20261126.csv"], {"{table}_{date:%Y%m%d}.csv": ["VBAK", "VBAP"]}),
        (["VBAK-2026-11-26_001.csv.gz"], {"{table}-{date:%Y-%m-%d}_{part}.csv.gz": ["VBAK"]}),
        (["bkpf.parquet", "bseg.parquet"], {"{table}.parquet": ["bkpf", "bseg"]}),
        (["SALES_ORDERS_20261126.csv"], {"{table}_{date:%Y%m%d}.csv": ["SALES_ORDERS"]}),
        (["20261126_VBAK.csv"], {"{date:%Y%m%d}_{table}.csv": ["VBAK"]}),
        (["VBAK_26.11.2026.csv"], {"{table}_{date:%d.%m.%Y}.csv": ["VBAK"]}),
        (["VBAK_20261126_235959.csv"], {"{table}_{date:%Y%m%d_%H%M%S}.csv": ["VBAK"]}),
        (["VBAK_20261126235959.csv"], {"{table}_{date:%Y%m%d%H%M%S}.csv": ["VBAK"]}),
        (["VBAK_202611.csv"], {"{table}_{date:%Y%m}.csv": ["VBAK"]}),
        (["export_VBAK_20261126.csv"], {"export_{table}_{date:%Y%m%d}.csv": ["VBAK"]}),
        (["VBAK_20261126_full.csv"], {"{table}_{date:%Y%m%d}_full.csv": ["VBAK"]}),
        (["VBAK_001.csv", "VBAK_002.csv"], {"{table}_{part}.csv": ["VBAK"]}),
        (["KNA1.csv", "EKKO_2.csv"], {"{table}.csv": ["EKKO_2", "KNA1"]}),
        (["VBAK_99999999.csv"], {"{table}.csv": ["VBAK_99999999"]}),
        (["2026-11-26/VBAK.csv", "2026-11-27/VBAK.csv"], {"{date:%Y-%m-%d}/{table}.csv": ["VBAK"]}),
        (["VBAK/20261126.csv", "VBAP/20261126.csv"], {"{table}/{date:%Y%m%d}.csv": ["VBAK", "VBAP"]}),
        (["VBAK/part-00000-aa-bb.c000.parquet", "VBAK/part-00001-cc.c000.parquet"], {"{table}/part-{part}-*.parquet": ["VBAK"]}),
        (["VBAK20261126.csv"], {"VBAK{date:%Y%m%d}.csv": ["VBAK"]}),
        (["20261125.csv", "20261126.csv"], {"{date:%Y%m%d}.csv": ["extracts"]}),
        (["VBAK_20261126.csv", "VBAK_20261127.csv.gz"], {"{table}_{date:%Y%m%d}.csv {table}_{date:%Y%m%d}.csv.gz": ["VBAK"]}),
    ],
)  # fmt: skip
def test_names_become_patterns(tmp_path, names, expected):
    assert patterns(tmp_path, *names) == expected


def test_a_pattern_that_would_take_files_of_another_names_its_table(tmp_path):
    rules, _ = found(tmp_path, "VBAK_20261126.csv", "VBAP_20261126.csv", "T001.csv", "T002.csv")
    assert sorted((rule.table or "", [Path(one).name for one in rule.templates]) for rule in rules) == [
        ("", ["{table}_{date:%Y%m%d}.csv"]),
        ("T001", ["T001.csv"]),
        ("T002", ["T002.csv"]),
    ]


def test_names_of_rules_differ_without_letter_case(tmp_path):
    rules, _ = found(tmp_path, "a_20261126.csv", "b_20261126.parquet", "c-2026-11-26.csv", "x.csv", "X_20261126.arrow")
    names = [rule.name.casefold() for rule in rules]
    assert len(names) == len(set(names))


def test_other_files_and_hidden_ones_are_no_tables(tmp_path):
    rules, others = found(tmp_path, "VBAK.csv", "notes.xlsx", "a.jsonl", ".hidden.csv", ".git/x.csv", "odd{name}.csv")
    assert [list(rule.files) for rule in rules] == [["VBAK"]]
    assert sorted(path.name for path in others) == ["a.jsonl", "notes.xlsx", "odd{name}.csv"]


def test_the_newest_file_of_a_table_comes_first(tmp_path):
    rules, _ = found(tmp_path, "V_20251126.csv", "V_20261126.csv", "V_20260101.csv")
    assert [file.path.name for file in rules[0].files["V"]] == ["V_20261126.csv", "V_20260101.csv", "V_20251126.csv"]
