"""Which files an emulator may keep its tables in. DuckDB does not decide that: it guesses the kind of a file, and may write to it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import duckdb
import pytest

from pushengine.cli.database_file import check_database, try_database
from pushengine.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["new.csv", "new.PARQUET", "a.csv.gz", "try.duckdb.bak", "pool.2024", "folder/x.tsv"])
def test_a_name_that_suggests_another_kind_of_file_is_rejected(name):
    with pytest.raises(ConfigError, match="is not named like a DuckDB file") as caught:
        try_database(Path(name), "--database")
    assert caught.value.key == "--database"
    assert str(Path(name).with_suffix(".duckdb")) in caught.value.hint
    assert not Path(name).exists()


@pytest.mark.parametrize("name", ["x.duckdb", "x.DB", "x", ".duckdb"])
@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"", b"no database at all" * 1000, b"PAR1" + bytes(99) + b"PAR1"])
def test_a_file_of_another_kind_is_rejected_and_left_unchanged(name, content):
    Path(name).write_bytes(content)
    with pytest.raises(ConfigError, match="it is not a DuckDB file"):
        try_database(Path(name), "--database")
    assert Path(name).read_bytes() == content


def test_an_sqlite_database_is_rejected_and_left_unchanged():
    """DuckDB would load an extension for it and create the emulator's tables in it."""
    with contextlib.closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TABLE t(a)")
    before = Path("app.db").read_bytes()
    with pytest.raises(ConfigError, match="it is not a DuckDB file"):
        try_database(Path("app.db"), "--database")
    assert Path("app.db").read_bytes() == before


@pytest.mark.parametrize("name", [":memory:", ":memory:x", "sqlite:app.db", "md:pool"])
def test_a_name_that_duckdb_would_not_treat_as_a_file_is_rejected(name):
    """Tables in memory are lost when the connection is closed, and any other prefix selects another kind of database."""
    with pytest.raises(ConfigError, match="is not the name of a file"):
        check_database(Path(name), "--database")


@pytest.mark.parametrize("name", ["folder.duckdb", "folder", "file/x.duckdb", "nowhere/x.duckdb"])
def test_a_path_where_no_file_can_be_created_is_a_config_error(name):
    Path("folder.duckdb").mkdir()
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(ConfigError, match=f"--database: cannot use {name}: "):
        try_database(Path(name), "--database")


@pytest.mark.parametrize("name", ["pool", "pool.duckdb", "pool.ddb", "pool.DB", "C:pool"])
def test_a_database_is_created_and_accepted_again(name):
    for _ in range(2):
        try_database(Path(name), "--database")
    with duckdb.connect(str(Path(name).absolute()), read_only=True) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
