"""The file that an emulator keeps its tables in: a source file is never mistaken for it, and no other file is changed."""

import duckdb
import pytest

COMMANDS = [
    pytest.param(("emulator", "--database={}"), "--database", id="emulator"),
    pytest.param(("demo", "--cases=50", "--database={}"), "--database", id="demo"),
    pytest.param(("push", "rows.csv", "--table=T", "--emulator={}"), "--emulator", id="push"),
]
CSV = b"a,b\n1,2\n"


def content_of(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("rows.csv", "rows.csv is not named like a DuckDB file", "ends in .duckdb, .ddb or .db: rows.duckdb"),
        ("new.csv.gz", "new.csv.gz is not named like a DuckDB file", "ends in .duckdb, .ddb or .db: new.csv.duckdb"),
        ("plain", "cannot use plain: it is not a DuckDB file", "it was not changed"),
        ("app.db", "cannot use app.db: it is not a DuckDB file", "it was not changed"),
        (":memory:", ":memory: is not the name of a file", "without one, tables are kept in memory"),
        ("nowhere/x.duckdb", "cannot use nowhere/x.duckdb: ", "in a folder that exists"),
    ],
)
@pytest.mark.parametrize(("words", "option"), COMMANDS)
def test_a_name_that_cannot_be_the_database_is_rejected_with_a_reason_and_a_hint(
    pushengine, tmp_path, words, option, name, message, hint
):
    (tmp_path / "rows.csv").write_bytes(CSV)
    (tmp_path / "plain").write_bytes(CSV)
    (tmp_path / "app.db").write_bytes(b"SQLite format 3\0" + bytes(84))
    before = content_of(tmp_path)
    done = pushengine(*(word.format(name) for word in words))
    assert (done.code, done.out) == (2, ""), done.err
    assert f"error: {option}: {message}" in done.err
    assert hint in done.err
    assert content_of(tmp_path) == before


@pytest.mark.parametrize("name", ["pool", "pool.duckdb", "pool.ddb", "pool.DB"])
def test_a_database_is_created_and_used_again(pushengine, orders, tmp_path, name):
    for table in ("FIRST", "SECOND"):
        done = pushengine("push", orders, "--table", table, f"--emulator={name}")
        assert done.code == 0, done.err
        assert f"the table is in {name}: open it with DuckDB" in done.out
    with duckdb.connect(str(tmp_path / name), read_only=True) as connection:
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    assert [table for (table,) in tables if table in {"FIRST", "SECOND"}] == ["FIRST", "SECOND"]


def test_with_json_the_error_is_one_object(pushengine, orders):
    for words in (("push", orders, "--table", "T", "--emulator=x.csv"), ("demo", "--database", "x.csv")):
        done = pushengine(*words, "--json")
        assert done.code == 2
        assert done.json["error"]["type"] == "ConfigError"
        assert "x.csv" in done.json["error"]["message"]
        assert "x.duckdb" in done.json["error"]["hint"]
