"""`pushengine init` writes a config file that fits the files, passes the check and says why it is as it is."""

import contextlib
import gzip
import random
import tomllib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile import run_command

from pushengine.config.load import Flags
from pushengine.config.loads.reading import load_loads

TEAM = {
    "PUSHENGINE_URL": "https://acme.eu-1.celonis.cloud",
    "PUSHENGINE_POOL_ID": "3f2a5b10-0000-4000-8000-000000000001",
    "PUSHENGINE_API_KEY": "a-key-of-this-test",
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in TEAM:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path / "user-config")
    (tmp_path / "extracts").mkdir()
    return tmp_path


def german_rows(number):
    numbers = random.Random(number)
    yield "BELNR;NAME;BETRAG;DATUM"
    for row in range(60):
        amount = f"{numbers.randint(1, 9)}.{numbers.randint(100, 999)},{numbers.randint(10, 99)}"
        yield f"{row + 1:010d};Müller {row};{amount};{numbers.randint(13, 28)}.{numbers.randint(1, 12):02d}.2026"


def german_extracts(folder):
    """Write 60 extracts with German dates and decimals, named in three ways."""
    for number in range(60):
        text = "\n".join(german_rows(number))
        if number < 30:
            (folder / f"TAB{number:02d}_20261126.csv").write_bytes(text.encode("cp1252"))
        elif number < 50:
            (folder / f"TAB{number:02d}-2026-11-26_001.csv.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"tab{number:02d}.txt").write_text(text, encoding="utf-8")


def read(variables=None):
    return load_loads(Flags(config=Path("pushengine.toml")), variables or {}, wants_credentials=variables is not None)


def test_sixty_german_extracts_become_loads_that_pass_the_check(place, monkeypatch):
    german_extracts(place / "extracts")
    for name, value in TEAM.items():
        monkeypatch.setenv(name, value)
    written = run_command(["init", "extracts"])
    assert written.code == 0, written.err
    assert "60 tables in 3 loads" in written.out
    _, loads = read(TEAM)
    for rule in loads.rules:
        for source in rule.sources:
            assert source.startswith(str(place / "extracts"))
        found = rule.settings_for("ANY")
        assert (found.mode, found.options["locale"]) == ("replace", "de")
        assert not rule.overrides
    assert {rule.settings_for("A").options.get("encoding") for rule in loads.rules} == {None, "cp1252"}
    assert loads.targets["default"].credentials.key.reveal() == TEAM["PUSHENGINE_API_KEY"]
    text = (place / "pushengine.toml").read_text()
    assert TEAM["PUSHENGINE_API_KEY"] not in text
    assert "FILL IN" not in text
    checked = run_command(["config", "check"])
    assert checked.code == 0, checked.err
    assert "no problems, 3 loads" in checked.out


def test_the_written_file_loads_german_numbers_and_dates_without_another_word(place):
    german_extracts(place / "extracts")
    for path in sorted((place / "extracts").iterdir())[3:50]:
        path.unlink()
    assert run_command(["init", "extracts"]).code == 0
    planned = run_command(["load", "--dry-run"])
    assert planned.code == 0, planned.err
    count = len(list((place / "extracts").iterdir()))
    assert planned.out.count("would load") == count
    loaded = run_command(["load", "--emulator", "out.duckdb", "--json"])
    assert loaded.code == 0, loaded.err
    with contextlib.closing(duckdb.connect(str(place / "out.duckdb"), read_only=True)) as database:
        rows = database.execute("select table_name, column_name, data_type from information_schema.columns").fetchall()
    types = {(table, column): kind for table, column, kind in rows}
    for table in {table for table, _ in types if table.casefold().startswith("tab")}:
        assert types[table, "BETRAG"] == "DOUBLE", table
        assert types[table, "DATUM"].startswith(("TIMESTAMP", "DATE")), table
        assert types[table, "BELNR"] == "VARCHAR", table
    assert len({table for table, _ in types if table.casefold().startswith("tab")}) == count


def test_without_a_team_the_lines_to_fill_in_are_marked_and_the_loads_are_right(place):
    (place / "extracts" / "VBAK_20261126.csv").write_text("A;B\n1;2\n")
    written = run_command(["init", "extracts"])
    assert "fill in the lines marked FILL IN" in written.out
    text = (place / "pushengine.toml").read_text()
    assert text.count("FILL IN") == 4
    read()  # without credentials, as for --dry-run and --emulator
    checked = run_command(["config", "check"])
    assert checked.code == 2
    assert "[connection] url" in checked.err
    assert run_command(["load", "--dry-run"]).code == 0


def test_a_table_that_is_written_otherwise_has_settings_of_its_own(place):
    german_extracts(place / "extracts")
    (place / "extracts" / "PLAIN_20261126.csv").write_text("ID,W\n1,1.234\n2,2.5\n3,7.25\n")
    assert run_command(["init", "extracts"]).code == 0
    _, loads = read()
    rule = next(one for one in loads.rules if "PLAIN" in one.overrides)
    assert rule.settings_for("PLAIN").options["decimal"] == "."
    assert rule.settings_for("TAB01").options["locale"] == "de"
    assert "decimal" not in rule.settings_for("TAB01").options


def test_what_a_person_has_to_decide_is_said_in_a_comment(place):
    folder = place / "extracts"
    (folder / "AMBIGUOUS_20261126.csv").write_text("ID,D\n1,01/02/2026\n2,03/04/2026\n")
    (folder / "DAMAGED_20261126.csv").write_bytes(b"")
    (folder / "SMALL_20261125.csv").write_text("ID\n" + "1\n" * 5000)
    (folder / "SMALL_20261126.csv").write_text("ID\n1\n")
    (folder / "notes.xlsx").write_bytes(b"")
    written = run_command(["init", "extracts"])
    assert written.code == 0
    assert "cannot be read yet, see the comments: DAMAGED" in written.out
    text = (place / "pushengine.toml").read_text()
    assert '# AMBIGUOUS: D looks like dd/mm/yyyy or mm/dd/yyyy: date_format = "dd/mm/yyyy" or' in text
    assert "# DAMAGED cannot be read as it is: " in text
    assert "# SMALL: the newest files (5 B) are much smaller" in text
    assert "notes.xlsx" in text
    read()


def test_names_that_say_that_files_hold_changes_are_appended(place):
    (place / "extracts" / "VBAK_delta_20261126.csv").write_text("A,B\n1,2\n")
    assert run_command(["init", "extracts"]).code == 0
    _, loads = read()
    assert loads.rules[0].settings_for("VBAK").mode == "append"


def test_parquet_needs_no_settings(place):
    pq.write_table(pa.table({"A": [1, 2]}), place / "extracts" / "bkpf.parquet")
    assert run_command(["init", "extracts"]).code == 0
    _, loads = read()
    assert loads.rules[0].settings_for("bkpf").options == {}
    assert loads.rules[0].sources == (f"{place}/extracts/{{table}}.parquet",)


def test_a_file_is_never_overwritten(place):
    (place / "extracts" / "A.csv").write_text("A\n1\n")
    (place / "pushengine.toml").write_text("# mine\n")
    refused = run_command(["init", "extracts"])
    assert refused.code == 2
    assert "pushengine.toml exists" in refused.err
    assert (place / "pushengine.toml").read_text() == "# mine\n"
    assert run_command(["init", "extracts", "--output", "other.toml"]).code == 0
    assert (place / "other.toml").exists()


@pytest.mark.parametrize("folder", ["nowhere", "empty", "file"])
def test_a_folder_without_extracts_writes_nothing(place, folder):
    (place / "empty").mkdir()
    (place / "file").write_text("x")
    assert run_command(["init", folder]).code == 2
    assert not (place / "pushengine.toml").exists()


def test_odd_names_of_folders_files_and_columns_stay_valid(place):
    folder = place / 'odd $name $$ "q" é'
    folder.mkdir()
    (place / "curly{x}").mkdir()
    (place / "curly{x}" / "A.csv").write_text("A\n1\n")
    refused = run_command(["init", "curly{x}"])
    assert refused.code == 2
    assert "mean something in a pattern" in refused.err
    (folder / "TAB é$x_20261126.csv").write_text('"A\x1b[31m";B $$\n1;01/02/2026\n', encoding="utf-8")
    (folder / "20261126.csv").write_text("A\n1\n")
    assert run_command(["init", str(folder)]).code == 0
    raw = tomllib.loads((place / "pushengine.toml").read_text())
    assert raw["load"]
    _, loads = read()
    assert all(source.startswith(f"{folder}/") for rule in loads.rules for source in rule.sources)
