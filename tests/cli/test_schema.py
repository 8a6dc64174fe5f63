"""`schema show`, `export`, `import` and `forget`, `--columns`, and what `plan`, `history` and `show` say about a table that exists."""

import json
import sqlite3

import pytest
from support.command_line import DATABASE, CommandLine

AT = ("--emulator", DATABASE)
NIGHT = "ID;CODE;X;D\n1;007;1.5;2026-01-31\n"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    return CommandLine(tmp_path, monkeypatch)


@pytest.fixture
def loaded(cli):
    """Load table Orders."""
    cli.loaded(cli.write("night1.csv", NIGHT), table="Orders")
    return cli


def shown(cli, *words):
    found = cli.run("schema", "show", *words, *AT, "--json")
    assert found.code == 0, found.err
    return found.json["tables"]


# --- schema show


def test_show_says_what_is_remembered(loaded):
    text = loaded.run("schema", "show", "ORDERS", *AT)
    assert text.code == 0
    assert text.out.startswith("Orders  4 columns")
    for line in ("ID    INTEGER", "CODE  STRING(255)", "X     FLOAT", "D     DATETIME"):
        assert line in text.out
    assert "1 in the latest replace" in text.out
    (table,) = shown(loaded, "orders")
    assert table["table"] == "Orders"
    assert [(one["name"], one["type"], one["length"]) for one in table["columns"]] == [
        ("ID", "INTEGER", None),
        ("CODE", "STRING", 255),
        ("X", "FLOAT", None),
        ("D", "DATETIME", None),
    ]
    assert (table["rows"], table["keys"], table["is_doubtful"], table["doubt"]) == (1, [], False, None)


def test_show_without_a_name_lists_every_table(loaded):
    loaded.loaded("night1.csv", "--mode", "upsert", "--key", "ID", table="ITEMS")
    assert [(one["table"], one["keys"]) for one in shown(loaded)] == [("ITEMS", ["ID"]), ("Orders", [])]


def test_show_of_a_table_that_nothing_is_known_of_says_so(loaded):
    text = loaded.run("schema", "show", "OTHER", *AT)
    assert "nothing is remembered" in text.out
    assert shown(loaded, "OTHER") == []


def test_show_needs_no_journal(cli):
    assert cli.run("schema", "show").code == 0
    assert not (cli.folder / "state").exists()


# --- export, import, --columns


def test_what_is_exported_can_be_imported_elsewhere(loaded):
    exported = loaded.run("schema", "export", "orders", *AT)
    assert exported.code == 0, exported.err
    assert exported.out.startswith('table = "Orders"\n')
    assert '"CODE" = "STRING(255)"' in exported.out
    assert loaded.run("schema", "export", "Orders", "--output", "o.toml", *AT).code == 0
    assert (loaded.folder / "o.toml").read_text() == exported.out
    again = loaded.run("schema", "export", "Orders", "--output", "o.toml", *AT)
    assert again.code == 2
    assert "o.toml exists" in again.err
    assert loaded.run("schema", "import", "COPY", "o.toml", *AT).code == 0
    assert loaded.run("schema", "export", "COPY", *AT).out == exported.out.replace('"Orders"', '"COPY"')
    receipt = loaded.loaded(loaded.write("night2.csv", "ID;CODE;X;D\n2;8;3;2026-02-01\n"), table="COPY")
    assert receipt["schema_changes"] == []
    assert loaded.types("COPY") == loaded.types("Orders")


def test_names_that_need_quoting_survive_the_file(cli):
    cli.write("odd.csv", 'a b,"q""uote",ü=1,back\\slash,#,.\n1,2,3,4,5,6\n')
    cli.loaded("odd.csv")
    assert cli.run("schema", "export", "T", "--output", "t.toml", *AT).code == 0
    assert cli.run("schema", "import", "U", "t.toml", *AT).code == 0
    first, second = shown(cli)
    assert first["columns"] == second["columns"]


def test_a_file_of_columns_gives_a_new_table_its_types(loaded):
    loaded.run("schema", "export", "Orders", "--output", "o.toml", *AT)
    loaded.loaded(loaded.write("plain.csv", "ID;CODE;X;D\n2;8;3;2026-02-01\n"), "--columns", "o.toml", table="NEW")
    assert loaded.types("NEW") == loaded.types("Orders")
    assert loaded.rows("NEW", columns="ID, CODE, X") == [(2, "8", 3.0)]


def test_a_flag_wins_over_the_file_of_columns(loaded):
    loaded.run("schema", "export", "Orders", "--output", "o.toml", *AT)
    words = ("--columns", "o.toml", "--column", "X=STRING(9)")
    loaded.loaded("night1.csv", *words, table="NEW")
    assert loaded.types("NEW")["X"] == "VARCHAR(9)"
    assert loaded.types("NEW")["CODE"] == "VARCHAR(255)"


def test_a_file_of_columns_suits_the_append_that_follows(loaded):
    loaded.run("schema", "export", "Orders", "--output", "o.toml", *AT)
    loaded.loaded("night1.csv", "--mode", "append", "--columns", "o.toml", table="Orders")
    assert len(loaded.rows("Orders")) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not TOML"),
        ("", "has no [columns]"),
        ("[columns]\nA = 1\n", "must hold column names and texts"),
        ('[columns]\nA = "NUMBER"\n', "column A: no such type 'NUMBER'"),
        ('keys = "A"\n[columns]\nA = "FLOAT"\n', "keys must be a list"),
        ("columns = 1\n", "must hold column names and texts"),
    ],
)
def test_a_bad_file_of_columns_is_named(cli, text, message):
    cli.write("bad.toml", text)
    failed = cli.run("schema", "import", "T", "bad.toml", *AT)
    assert (failed.code, failed.out) == (2, "")
    assert message in failed.err
    assert cli.run("schema", "import", "T", "nowhere.toml", *AT).code == 2


def test_a_push_with_a_bad_file_of_columns_sends_nothing(loaded):
    loaded.write("bad.toml", '[columns]\nX = "NUMBER"\n')
    refused = loaded.refused("night1.csv", "--columns", "bad.toml", table="Orders", code=2)
    assert "no such type 'NUMBER'" in refused.err
    loaded.refused("night1.csv", "--columns", "nowhere.toml", table="Orders", code=2)


# --- forget


def test_a_forgotten_table_chooses_its_types_anew(loaded):
    assert loaded.run("schema", "forget", "orders", *AT).code == 0
    assert shown(loaded) == []
    again = loaded.run("schema", "forget", "orders", *AT)
    assert again.code == 2
    assert "nothing is remembered of table orders" in again.err
    receipt = loaded.loaded(loaded.write("night2.csv", "ID;CODE;X;D\n2;8;3;2026-02-01\n"), table="Orders")
    assert receipt["schema_changes"] == []
    assert loaded.types("Orders")["CODE"] == "BIGINT"


# --- A team


TEAM = ("--url", "https://acme.celonis.cloud", "--pool", "p1")


def test_the_tables_of_a_team_are_told_apart(cli):
    cli.write("t.toml", '[columns]\nA = "FLOAT"\n')
    for pool in ("p1", "p2"):
        assert cli.run("schema", "import", "T", "t.toml", "--url", TEAM[1], "--pool", pool).code == 0
    assert cli.run("schema", "import", "T", "t.toml", *TEAM, "--connection", "c1").code == 0
    ambiguous = cli.run("schema", "export", "T")
    assert ambiguous.code == 2
    assert "table T is remembered in 3 places" in ambiguous.err
    assert "--pool" in ambiguous.err
    assert cli.run("schema", "export", "T", "--pool", "p2").code == 0
    assert cli.run("schema", "export", "T", "--pool", "p1", "--connection", "c1").code == 0
    found = cli.run("schema", "show", "t", *TEAM, "--json").json["tables"]
    assert [(one["team"], one["pool_id"], one["connection_id"]) for one in found] == [
        ("acme.celonis.cloud", "p1", None),
        ("acme.celonis.cloud", "p1", "c1"),
    ]
    assert cli.run("schema", "forget", "T", "--pool", "p2").code == 0
    assert len(cli.run("schema", "show", "--json").json["tables"]) == 2


def test_an_import_without_a_team_says_what_is_missing(cli):
    cli.write("t.toml", '[columns]\nA = "FLOAT"\n')
    failed = cli.run("schema", "import", "T", "t.toml")
    assert failed.code == 2
    assert "PUSHENGINE_URL" in failed.err


def test_plan_compares_with_the_remembered_table_without_an_account(cli):
    cli.write("t.toml", '[columns]\nA = "STRING(40)"\n')
    cli.run("schema", "import", "T", "t.toml", *TEAM)
    cli.write("a.csv", "A,B\n1,2\n")
    planned = cli.run("plan", "a.csv", "--table", "T", *TEAM, "--json").json
    assert planned["schema_changes"] == ["B INTEGER: new column"]
    other = cli.run("plan", "a.csv", "--table", "T", "--url", TEAM[1], "--pool", "p9", "--json").json
    assert other["schema_changes"] == []
    other = cli.run("plan", "a.csv", "--table", "T", *TEAM, "--connection", "c1", "--json").json
    assert other["schema_changes"] == []


def test_a_plan_without_a_connection_is_not_compared_with_the_table_of_one(cli):
    cli.write("t.toml", '[columns]\nA = "STRING(40)"\n')
    assert cli.run("schema", "import", "T", "t.toml", *TEAM, "--connection", "c1").code == 0
    cli.write("a.csv", "A,B\n1,2\n")
    for words, changes in (((), []), (("--connection", "c1"), ["B INTEGER: new column"])):
        planned = cli.run("plan", "a.csv", "--table", "T", *TEAM, *words, "--json").json
        assert planned["schema_changes"] == changes


# --- The emulator's database


def test_the_memory_of_a_database_is_gone_with_the_database(loaded):
    (loaded.folder / DATABASE).unlink()
    receipt = loaded.loaded(loaded.write("night2.csv", "ID;CODE;X;D\n2;8;3;2026-02-01\n"), table="Orders")
    assert receipt["schema_changes"] == []
    assert loaded.types("Orders")["CODE"] == "BIGINT"


def test_the_memory_lies_beside_the_database(loaded):
    assert (loaded.folder / f"{DATABASE}.state" / "journal.sqlite3").exists()
    assert not (loaded.folder / "state").exists()


# --- plan, push --dry-run


CHANGED = "ID;CODE;X;NEW\n0x;9;2.5;a\n2;10;;\n"


@pytest.mark.parametrize("command", ["plan", "push"])
def test_a_plan_shows_types_with_reasons_rows_and_differences(loaded, command):
    loaded.write("night2.csv", CHANGED)
    before = loaded.contents()
    dry = ("--dry-run",) if command == "push" else ()
    words = (command, "night2.csv", "--table", "ORDERS", *AT, *dry)
    text = loaded.run(*words)
    assert text.code == 0, text.err
    assert "nothing was sent" in text.out
    for part in ("not INTEGER: '0x'", "as in the table", "NULL", "was D renamed to NEW? --rename NEW=D"):
        assert part in text.out
    planned = loaded.run(*words, "--json").json
    assert planned["schema_changes"] == [
        "ID INTEGER -> STRING(255)",
        "NEW STRING(255): new column",
        "D: not in the source, NULL",
    ]
    assert [(one["name"], one["type"], one["length"], one["reason"]) for one in planned["schema"]] == [
        ("ID", "STRING", 255, "not INTEGER"),
        ("CODE", "STRING", 255, "as in the table"),
        ("X", "FLOAT", None, "as in the table"),
        ("NEW", "STRING", 255, "not INTEGER"),
        ("D", "DATETIME", None, "not in the source"),
    ]
    assert planned["schema"][0]["value"] == "'0x'"
    assert planned["first_rows"] == [
        {"ID": "0x", "CODE": "9", "X": "2.5", "NEW": "a", "D": None},
        {"ID": "2", "CODE": "10", "X": None, "NEW": None, "D": None},
    ]
    assert any("--rename NEW=D" in note for note in planned["notes"])
    assert loaded.contents() == before


@pytest.mark.parametrize("command", ["plan", "push"])
def test_a_plan_refuses_what_the_push_would_refuse(loaded, command):
    loaded.write("night2.csv", CHANGED)
    dry = ("--dry-run",) if command == "push" else ()
    for words in (
        ("--mode", "append"),
        ("--drift", "freeze"),
        ("--mode", "upsert", "--key", "ID", "--exclude", "NEW", "--order-by", "GONE"),
    ):
        planned = loaded.run(command, "night2.csv", "--table", "Orders", *AT, *dry, *words)
        pushed = loaded.refused("night2.csv", *words, table="Orders")
        assert planned.code == pushed.code == 3
        assert (planned.error, planned.hint) == (pushed.error, pushed.hint)


def test_the_plan_of_an_empty_delta_spends_nothing(loaded):
    loaded.write("empty.csv", "ID;CODE\n")
    planned = loaded.run("plan", "empty.csv", "--table", "Orders", "--mode", "append", *AT, "--json").json
    assert (planned["submits"], planned["schema_changes"]) == (0, [])
    assert any("nothing to do" in note for note in planned["notes"])


def test_plan_leaves_no_state_behind(cli):
    cli.write("a.csv", "A\n1\n")
    assert cli.run("plan", "a.csv", "--table", "T").code == 0
    assert sorted(path.name for path in cli.folder.iterdir()) == ["a.csv"]


# --- history, show


def journaled(cli, monkeypatch):
    """Let `history` and `show` read the journal of the database."""
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(cli.folder / f"{DATABASE}.state"))


def test_history_and_show_tell_a_change(loaded, monkeypatch):
    receipt = loaded.loaded(loaded.write("night2.csv", CHANGED), table="Orders")
    told = loaded.push("night2.csv", table="Orders")
    assert "INTEGER -> STRING" not in told.out  # the table is like this now
    journaled(loaded, monkeypatch)
    history = loaded.run("history").out
    assert "changed: ID INTEGER -> STRING(255)" in history
    story = loaded.run("show", receipt["push_id"])
    assert "ID INTEGER -> STRING(255)" in story.out
    listed = json.loads(loaded.run("history", "--json").out)
    assert any("ID INTEGER -> STRING(255)" in json.dumps(push) for push in listed["pushes"])


def test_a_change_is_on_the_console(loaded):
    told = loaded.push(loaded.write("night2.csv", CHANGED), table="Orders")
    assert told.code == 0
    assert "changed   ID INTEGER -> STRING(255)" in told.out
    assert "ID INTEGER -> STRING(255)" in told.err
    assert "D: not in the source, NULL" in told.out


def test_a_doubtful_table_is_shown_as_one(loaded):
    with sqlite3.connect(loaded.folder / f"{DATABASE}.state" / "journal.sqlite3") as db:
        (body,) = db.execute("SELECT body FROM tables").fetchone()
        db.execute("UPDATE tables SET body = ?", (body.replace('"doubt":""', '"doubt":"push-7"'),))
    db.close()
    assert "the outcome of push push-7 is unknown" in loaded.run("schema", "show", *AT).out
    assert shown(loaded)[0]["doubt"] == "push-7"
    planned = loaded.run("plan", "night1.csv", "--table", "Orders", *AT, "--json").json
    assert any("push-7" in note for note in planned["notes"])


@pytest.mark.parametrize("words", [("schema", "show"), ("schema", "export", "T"), ("plan", "a.csv", "--table", "T")])
def test_a_bare_emulator_option_names_no_tables(pushengine, words):
    done = pushengine(*words, "--emulator")
    assert done.code == 2
    assert "name the database file" in done.err
