"""Control files say when a generation is complete and how many rows it has."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from pushengine.config.loads.resolved import LoadSettings, Rule
from pushengine.loads.files.choice import choose
from pushengine.loads.files.control import control_patterns, with_control
from pushengine.loads.files.discovery import discover
from pushengine.runtime.files import LocalFileSystem


def chosen(folder, *, control="{table}_{date}.ctl", source="{table}_{date:%Y%m%d}_{part}.csv", mode="replace"):
    settings = LoadSettings(rule="sap", table="A", control=control, mode=mode)
    rule = Rule(name="sap", sources=(f"{folder}/{source}",), table=None, overrides=(), settings_for=lambda _: settings)
    found = discover(rule, LocalFileSystem()).table("A")

    async def hasher(file):
        return hashlib.sha256(Path(file.uri).read_bytes()).hexdigest()

    found = with_control(settings, found, rule.sources, LocalFileSystem())
    return asyncio.run(choose(settings, found, [], [], None, hasher=hasher, now=0.0))


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_generation_is_complete_when_its_control_file_says_so(tmp_path):
    write(tmp_path, A_20261127_1__csv="1", A_20261127_2__csv="2!")
    assert "not complete: no control file {table}_{date}.ctl" in chosen(tmp_path).skipped[0].reason
    write(tmp_path, A_20261127__ctl="")
    assert "control file A_20261127.ctl is empty" in chosen(tmp_path).skipped[0].reason
    write(tmp_path, A_20261127__ctl="A_20261127_1.csv\nA_20261127_2.csv\nA_20261127_3.csv\n")
    assert "A_20261127.ctl names A_20261127_3.csv, which is not there" in chosen(tmp_path).skipped[0].reason
    assert chosen(tmp_path).pushes == ()
    write(tmp_path, A_20261127_3__csv="3!!")
    [push] = chosen(tmp_path).pushes
    assert ([file.name[-5] for file in push.files], push.expected_rows) == (["1", "2", "3"], None)


def test_a_number_of_rows_is_that_of_the_generation(tmp_path):
    write(
        tmp_path, A_20261126_1__csv="0", A_20261126__ctl="\ufeff 7\r\n", A_20261127_1__csv="1", A_20261127_2__csv="2!"
    )
    write(tmp_path, A_20261127__ctl="12\n")

    assert [(push.generation, push.expected_rows) for push in chosen(tmp_path).pushes] == [("2026-11-27", 12)]
    assert [push.expected_rows for push in chosen(tmp_path, mode="upsert").pushes] == [7, 12]
    assert [push.expected_rows for push in chosen(tmp_path, mode="append").pushes] == [19]


def test_a_different_number_of_parts_is_refused(tmp_path):
    write(tmp_path, A_20261127_1__csv="1", A_20261127_2__csv="2!", A_20261127__ctl="A_20261127_1.csv")

    choice = chosen(tmp_path)

    assert choice.pushes == ()
    assert "control file A_20261127.ctl does not name A_20261127_2.csv" in choice.refused[0].reason


def test_an_older_complete_generation_is_loaded_while_the_newest_is_not_complete(tmp_path):
    write(tmp_path, A_20261126_1__csv="0", A_20261126__ctl="1", A_20261127_1__csv="1")

    assert [push.generation for push in chosen(tmp_path).pushes] == ["2026-11-26"]


def test_control_files_are_found_by_an_absolute_path_and_are_no_data(tmp_path):
    (tmp_path / "ctl").mkdir()
    write(tmp_path, A_20261127_1__csv="1")
    (tmp_path / "ctl" / "A-27.11.2026").write_text("1")
    control = f"{tmp_path}/ctl/{{table}}-{{date:%d.%m.%Y}}"
    assert [push.expected_rows for push in chosen(tmp_path, control=control).pushes] == [1]
    write(tmp_path, A_20261127_1__ctl="1")

    [push] = chosen(tmp_path, control="{table}_{date}_*.ctl", source="{table}_{date:%Y%m%d}_*").pushes

    assert [file.name for file in push.files] == ["A_20261127_1.csv"]


def test_two_control_files_or_one_that_cannot_be_read_keep_a_generation_back(tmp_path):
    write(tmp_path, A_20261127_1__csv="1", A_20261127_a__ctl="1", A_20261127_b__ctl="1")
    assert "it has 2 control files" in chosen(tmp_path, control="{table}_{date}_*.ctl").skipped[0].reason
    (tmp_path / "A_20261127.ctl").write_bytes(b"\xff\xfe")
    assert "A_20261127.ctl cannot be read" in chosen(tmp_path).skipped[0].reason


def test_a_control_file_for_a_part_is_refused():
    with pytest.raises(ValueError, match=r"leave \{part\} out"):
        control_patterns("{table}_{part}.ctl", ["/d/{table}_{part}.csv"])
