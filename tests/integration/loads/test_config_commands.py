"""`config check`, `show` and `schema` as their users see them."""

import json
import os
from pathlib import Path

import pytest
from support.hostile import run_command

from pushengine.config.loads.json_schema import config_schema
from pushengine.config.loads.places import folder_of

HEAD = '[state]\ndir = "state"\n[connection]\nurl = "https://acme.eu-1.celonis.cloud"\npool_id = "pool-1"\n[auth]\napi_key = "key-of-test"\n'
RULE = '[[load]]\nname = "sap"\nsource = "data/{table}_{date:%Y%m%d}.csv"\n'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PUSHENGINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path / "user-config")
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_: tmp_path / "user-state")
    (tmp_path / "data").mkdir()
    (tmp_path / "file").write_text("x")
    return tmp_path


def check(place, text, *words):
    (place / "pushengine.toml").write_text(text)
    return run_command(["config", "check", *words])


def test_check_changes_nothing(place):
    result = check(place, HEAD + RULE + 'cleanup = "move"\n')
    assert (result.code, result.out) == (0, "pushengine.toml: no problems, 1 load\n")
    assert sorted(path.name for path in place.iterdir()) == ["data", "file", "pushengine.toml"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEAD + RULE.replace("data/", "nowhere/"), "load sap: load.source: there is no folder "),
        (HEAD + RULE.replace("data/", "file/"), "load sap: load.source: "),
        (HEAD.replace('"state"', '"file/state"') + RULE, "state.dir: "),
        (HEAD.replace('"state"', '"/proc/state"') + RULE, "state.dir: "),
        (HEAD + RULE + 'cleanup = "move"\ncleanup_dir = "file/x"\n', "load sap: load.cleanup_dir: "),
        (HEAD + RULE + 'rejects = "file/x"\n', "load sap: load.rejects: "),
        (HEAD + '[engine]\nrejects = "file/x"\n' + RULE, "engine.rejects: "),
        (HEAD + RULE + '[load.tables.A]\ncleanup = "move"\ncleanup_dir = "file/x"\n', "load sap.A: load.cleanup_dir: "),
        (HEAD.replace("https://acme", "http://acme") + RULE, "connection.url: "),
    ],
)
def test_check_names_folders_and_addresses_that_cannot_be_used(place, text, problem):
    if problem == "state.dir: " and "/proc" in text and os.access("/proc", os.W_OK):
        text = text.replace("/proc/state", "file/state")  # root may write anywhere, as far as can be told
    result = check(place, text)
    assert result.code == 2
    assert problem in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read and write everything")
def test_check_names_folders_without_permission(place):
    (place / "data").chmod(0o000)
    assert "cannot read the folder" in check(place, HEAD + RULE).err
    (place / "data").chmod(0o500)
    assert "cannot write to the folder" in check(place, HEAD + RULE + 'cleanup = "delete"\n').err


def test_a_folder_with_characters_of_patterns_is_found(place, monkeypatch):
    odd = place / "a [b] {c} *"
    (odd / "data").mkdir(parents=True)
    monkeypatch.chdir(odd)
    assert check(odd, HEAD + RULE + 'cleanup = "move"\n').code == 0
    assert "there is no folder" in check(odd, HEAD + RULE.replace("data/", "x/")).err


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("/data/{table}.csv", "/data"),
        ("/data/x/", "/data/x"),
        ("/data/{date:%Y}/{table}/x.csv", "/data"),
        ("/a.csv", "/"),
        ("/data/**/a.csv", "/data"),
        ("/data/[[]x]/{table}.csv", "/data/[x]"),
        ("/data/{{x}}/{table}.csv", "/data/{x}"),
    ],
)
def test_the_folder_of_a_source_ends_before_the_first_placeholder(source, folder):
    assert folder_of(source) == Path(folder)


def test_check_prints_every_problem_in_a_line(place):
    result = check(place, HEAD + RULE + "retries = -1\npriority = 'x'\n[load.tables.A]\nmode = 'upsert'\n")
    assert result.err.splitlines()[:4] == [
        "error: pushengine.toml: 3 problems",
        "  load sap: load.priority: input should be a whole number",
        "  load sap: load.retries: input should be greater than or equal to 0",
        '  load sap.A: load.tables.A.mode: mode upsert needs keys: keys = ["COLUMN"]',
    ]


def test_check_as_json_has_problems_with_key_and_load(place):
    result = check(place, HEAD + RULE + "retries = -1\n", "--json")
    found = json.loads(result.out)
    assert (result.code, found["status"], found["error"]["type"]) == (2, "ERROR", "ConfigError")
    assert found["problems"] == [
        {"key": "load.retries", "load": "sap", "message": "input should be greater than or equal to 0"}
    ]
    found = json.loads(check(place, HEAD + RULE, "--json").out)
    assert found == {"status": "OK", "path": "pushengine.toml", "problems": [], "notes": [], "loads": ["sap"]}


def test_check_says_that_the_state_folder_of_the_environment_has_no_effect(place, monkeypatch):
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(place / "other"))
    assert "PUSHENGINE_STATE_DIR has no effect" in check(place, HEAD + RULE).out


def test_without_a_config_file_the_error_names_init(place):
    result = run_command(["config", "check"])
    assert result.code == 2
    assert "pushengine init" in result.err


def settings(*words):
    found = json.loads(run_command(["config", "show", "--json", *words]).out)["settings"]
    return {table: {one["key"]: (one["value"], one["origin"]) for one in listed} for table, listed in found.items()}


def test_show_says_where_each_value_came_from(place, monkeypatch):
    monkeypatch.setenv("PUSHENGINE_POOL_ID", "pool-2")
    text = (
        HEAD
        + '[csv]\ntrim = true\n[engine]\nmin_rows = 2\n[defaults]\nretries = 1\ncolumns = { A = "STRING" }\n'
        + RULE
        + 'locale = "de"\ncolumns = { B = "DATE" }\n[load.tables.VBAP]\nmode = "append"\nretries = 2\n'
    )
    (place / "pushengine.toml").write_text(text)
    whole = settings("--url", "https://flag")
    assert whole["connection"] == {
        "url": ("https://flag", "flag --url"),
        "pool_id": ("pool-2", "environment PUSHENGINE_POOL_ID"),
        "connection_id": (None, "built-in"),
    }
    assert whole["auth"]["api_key"] == ("***", "[auth]")
    assert whole["state"] == {"dir": (str(place / "state"), "[state]")} or whole["state"] == {
        "dir": ("state", "[state]")
    }
    assert whole["load sap"]["retries"] == (1, "[defaults]")
    assert whole["load sap.VBAP"]["retries"] == (2, "[load.tables.VBAP]")
    one = settings("sap.vbap")["load sap.vbap"]
    assert one["source"] == ("data/{table}_{date:%Y%m%d}.csv", "[[load]] sap")
    assert one["mode"] == ("append", "[load.tables.VBAP]")
    assert one["columns.A"] == ("STRING", "[defaults]")
    assert one["columns.B"] == ("DATE", "[[load]] sap")
    assert one["trim"] == (True, "[csv]")
    assert one["min_rows"] == (2, "[engine]")
    assert one["decimal"] == (",", 'locale = "de"')
    assert one["pick"] == ("newest", "built-in")
    assert settings("sap.OTHER")["load sap.OTHER"]["mode"] == ("replace", "built-in")


@pytest.mark.parametrize(
    ("load", "text"), [("sa", "did you mean sap?"), ("x.y", "no load x"), ("one.B", "of table A only")]
)
def test_show_of_a_load_that_does_not_exist_is_refused(place, load, text):
    (place / "pushengine.toml").write_text(HEAD + RULE + '[[load]]\nname = "one"\nsource = "data/a.csv"\ntable = "A"\n')
    result = run_command(["config", "show", load])
    assert result.code == 2
    assert text in result.err


def test_schema_is_one_json_value(place):
    assert json.loads(run_command(["config", "schema"]).out) == config_schema()
    assert run_command(["config", "schema", "--output", "schema.json"]).code == 0
    assert json.loads((place / "schema.json").read_text()) == config_schema()
