"""Each sentence of the section "Config" of the contract of loads, by name."""

import datetime as dt
import io
import json
import logging
from pathlib import Path

import pytest
from support.hostile import run_command

from pushengine import redaction
from pushengine.config.load import Flags, load_config
from pushengine.config.loads.reading import load_loads
from pushengine.errors import ConfigError

PASSWORD = "$a${b}$$"
HEAD = '[state]\ndir = "state"\n[targets.prod]\nurl = "https://acme.eu-1.celonis.cloud"\npool_id = "pool-1"\napi_key = "key-prod"\n'
RULE = '[[load]]\nname = "sap"\nsource = "/data/{table}_{date:%Y%m%d}.csv"\n'


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder and a home without settings of this machine; secrets that a test remembers are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path / "user-config")
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_: tmp_path / "user-state")
    before = set(redaction._secrets)
    yield tmp_path
    redaction._secrets.intersection_update(before)


@pytest.fixture
def load(tmp_path):
    """Read a config file with loads; keyword arguments are environment variables."""

    def read(text, flags=None, wants_credentials=True, **variables):
        path = tmp_path / "pushengine.toml"
        path.write_text(text)
        return load_loads(Flags(config=path, **(flags or {})), variables, wants_credentials=wants_credentials)

    return read


def problems(load, text, **variables):
    with pytest.raises(ConfigError) as caught:
        load(text, **variables)
    return caught.value.problems


def settings_of(loads, rule, table):
    return next(one for one in loads.rules if one.name == rule).settings_for(table)


# --- Precedence -------------------------------------------------------------------------------------------------------------------------


def test_precedence_is_built_in_then_defaults_then_load_then_tables_of_the_load(load):
    def effective(defaults="", rule="", table=""):
        text = f'{HEAD}[defaults]\ntarget = "prod"\n{defaults}\n{RULE}{rule}\n[load.tables.VBAP]\n{table}\n'
        return settings_of(load(text)[1], "sap", "VBAP")

    places = {"defaults": "retries = 1", "rule": "retries = 2", "table": "retries = 3"}
    given = {}
    assert effective().retries == 0
    for number, (place, line) in enumerate(places.items(), 1):
        given[place] = line
        assert effective(**given).retries == number


def test_settings_of_one_table_do_not_leak_into_the_next(load):
    text = (
        f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}[load.tables.VBAP]\nmax_drop = 0.5\nmode = "upsert"\nkeys = ["A"]\n'
    )
    _, loads = load(text)
    assert settings_of(loads, "sap", "VBAP").options == {"max_drop": 0.5}
    other = settings_of(loads, "sap", "VBAK")
    assert (other.mode, other.keys, dict(other.options)) == ("replace", (), {})


def test_flags_and_variables_win_over_the_file_for_the_target_default(load):
    text = f'[state]\ndir = "s"\n[connection]\nurl = "https://file"\npool_id = "file"\n[auth]\napi_key = "key-file"\n{RULE}'
    _, loads = load(text, {"url": "https://flag"}, PUSHENGINE_URL="https://env", PUSHENGINE_POOL_ID="env")
    target = loads.targets["default"]
    assert (target.url, target.pool_id) == ("https://flag", "env")
    assert settings_of(loads, "sap", "A").target == "default"


def test_scalars_and_lists_replace(load):
    text = (
        f'{HEAD}[defaults]\ntarget = "prod"\ntags = ["a", "b"]\nselect = ["X", "Y"]\nmin_rows = 5\n{RULE}tags = ["c"]\n'
        '[load.tables.VBAP]\nselect = ["Z"]\nmin_rows = 0\n'
    )
    found = settings_of(load(text)[1], "sap", "VBAP")
    assert found.tags == ("c",)
    assert found.options == {"select": ["Z"], "min_rows": 0}


def test_tables_merge_by_key(load):
    text = (
        f'{HEAD}[defaults]\ntarget = "prod"\ncolumns = {{ A = "STRING", B = "STRING" }}\n{RULE}columns = {{ B = "FLOAT" }}\n'
        'rename = { X = "Y" }\n[load.tables.VBAP]\ncolumns = { C = "DATE" }\nrename = { V = "W" }\n'
    )
    options = settings_of(load(text)[1], "sap", "VBAP").options
    assert options["column_types"] == {"A": "STRING", "B": "FLOAT", "C": "DATE"}
    assert options["rename"] == {"X": "Y", "V": "W"}


def test_a_preset_replaces_what_an_earlier_place_says_about_its_settings(load):
    text = f'{HEAD}[defaults]\ntarget = "prod"\ndecimal = ","\nnew_columns = "ignore"\n{RULE}locale = "sap"\ndrift = "freeze"\n'
    assert settings_of(load(text)[1], "sap", "A").options == {"locale": "sap", "drift": "freeze"}


def test_a_stray_pool_id_in_the_environment_redirects_no_load(load):
    stray = {
        "PUSHENGINE_POOL_ID": "stray",
        "PUSHENGINE_URL": "https://stray",
        "PUSHENGINE_CONNECTION_ID": "stray",
        "PUSHENGINE_API_KEY": "key-stray",
    }
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}'
    _, loads = load(text, {"url": "https://flag"}, **stray)
    target = loads.targets[settings_of(loads, "sap", "A").target]
    assert (target.url, target.pool_id, target.connection_id) == ("https://acme.eu-1.celonis.cloud", "pool-1", None)
    assert target.credentials.key.reveal() == "key-prod"


def test_a_stray_state_folder_in_the_environment_does_not_make_loads_forget(load, tmp_path):
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}'
    config, _ = load(text, PUSHENGINE_STATE_DIR=str(tmp_path / "stray"))
    assert config.state_dir == tmp_path / "state"
    by_hand = load_config(Flags(config=tmp_path / "pushengine.toml"), {"PUSHENGINE_STATE_DIR": str(tmp_path / "stray")})
    assert by_hand.state_dir == tmp_path / "state"


# --- Variables --------------------------------------------------------------------------------------------------------------------------


def expanded(load, text, **variables):
    """Return a literal text of the file as it is after expansion."""
    toml = json.dumps(text)
    return (
        load(f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}order_by = {toml}\n', **variables)[1]
        .rules[0]
        .settings_for("A")
        .order_by
    )


def test_only_variables_and_files_are_expanded(load, tmp_path):
    (tmp_path / "word").write_text(" from-file\n")
    assert expanded(load, "a${V}b${V}", V="x") == "axbx"
    assert expanded(load, f"${{file:{tmp_path}/word}}") == "from-file"
    assert expanded(load, "${file:word}") == "from-file"
    for text in ("~${", "$V", "%V%", "$(V)", "`V`", "{V}", "${V-x}", "${V:-x}", "${}", "${a b}", "${V", "$"):
        assert expanded(load, text, V="x") == text


def test_what_a_variable_or_file_holds_is_not_expanded_again(load, tmp_path):
    (tmp_path / "word").write_text("${V}$$")
    assert expanded(load, "${V}", V="${V}$$$x") == "${V}$$$x"
    assert expanded(load, "${file:word}", V="no") == "${V}$$"


def test_two_dollars_are_one(load):
    assert expanded(load, "$$") == "$"
    assert expanded(load, "$${V}") == "${V}"
    assert expanded(load, "a$$$$b") == "a$$b"
    assert expanded(load, "$$${V}", V="x") == "$x"


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_is_an_error(load, value):
    variables = {} if value is None else {"NOWHERE": value}
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}order_by = "${{NOWHERE}}"\n'
    (problem,) = problems(load, text, **variables)
    assert problem == (
        "load sap: load.order_by: the environment variable NOWHERE is not set; for the text itself, write $${NOWHERE}"
    )


def test_a_file_that_cannot_be_read_is_an_error(load):
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}order_by = "${{file:/nowhere/x}}"\n'
    (problem,) = problems(load, text)
    assert problem.startswith("load sap: load.order_by: cannot read /nowhere/x")


def test_an_unset_variable_of_loads_does_not_hinder_a_push_by_hand(load, tmp_path):
    (tmp_path / "c.toml").write_text('[connection]\nurl = "https://${TEAM}"\n[[load]]\nname = "${NOWHERE}"\n')
    assert load_config(Flags(config=tmp_path / "c.toml"), {"TEAM": "acme"}).url == "https://acme"
    with pytest.raises(ConfigError, match=r"connection\.url: the environment variable TEAM is not set"):
        load_config(Flags(config=tmp_path / "c.toml"), {})


def test_any_other_dollar_is_literal_in_every_table(load, tmp_path):
    config, loads = load(
        '[state]\ndir = "st$te"\n[connection]\nurl = "https://x"\npool_id = "a$b$"\n[auth]\napi_key = "k$1$"\n' + RULE
    )
    assert config.state_dir == tmp_path / "st$te"
    assert loads.targets["default"].pool_id == "a$b$"
    assert loads.targets["default"].credentials.key.reveal() == "k$1$"


# --- Secrets ----------------------------------------------------------------------------------------------------------------------------

SECRETS = f"""
[state]
dir = "state"
[connection]
url = "https://user:{PASSWORD.replace("$", "$$")}@acme.eu-1.celonis.cloud"
pool_id = "p"
[auth]
api_key = "${{DB_PASSWORD}}"
[targets.a]
url = "https://acme.eu-1.celonis.cloud"
pool_id = "p"
client_id = "id"
client_secret = "${{file:secret}}"
[targets.b]
url = "https://acme.eu-1.celonis.cloud"
pool_id = "p"
app_key = "{PASSWORD.replace("$", "$$")}"
[[load]]
name = "sap"
source = "SOURCE/{{table}}.csv"
target = "a"
order_by = "x-${{DB_PASSWORD}}-x"
[load.tables.A]
rename = {{ A = "${{DB_PASSWORD}}" }}
[[notify]]
webhook = "https://hooks/${{DB_PASSWORD}}"
"""
COMMANDS = (
    ["config", "show"],
    ["config", "show", "--json"],
    ["config", "show", "sap"],
    ["config", "show", "sap.A", "--json"],
    ["config", "check"],
    ["config", "check", "--json"],
    ["history"],
    ["history", "--json"],
    ["check", "--log-format", "json"],
    ["push", "A.csv", "--table", "A", "--emulator", "out.duckdb", "--log-format", "json"],
)


BREAKAGES = (
    "mode = 3",
    "order_b = '${DB_PASSWORD}'",
    "max_drop = '${DB_PASSWORD}'",
    "mode = '${DB_PASSWORD}'",
    "target = '${DB_PASSWORD}'",
    "columns = { A = '${DB_PASSWORD}' }",
    "date_format = '${DB_PASSWORD}'",
    "columns_file = '${DB_PASSWORD}'",
    "control = '{${DB_PASSWORD}'",
    "table = '${DB_PASSWORD}'",
    "x = [",
)


@pytest.mark.parametrize("breakage", ["", *(f"{one}\n" for one in BREAKAGES)])
def test_a_password_is_in_no_sink(place, monkeypatch, breakage):
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    (place / "secret").write_text(f"{PASSWORD}\n")
    (place / "A.csv").write_text("A\n1\n")
    text = SECRETS.replace("SOURCE", str(place)).replace(
        'target = "a"\n', f'target = "a"\n{breakage}' if "target" not in breakage else breakage
    )
    (place / "pushengine.toml").write_text(text)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        for words in COMMANDS:
            result = run_command(words)
            for sink in (result.out, result.err, stream.getvalue()):
                for form in (PASSWORD, json.dumps(PASSWORD)[1:-1], "%24a%24", PASSWORD[:6]):
                    assert form not in sink, (words, sink)
            if words == ["config", "show"] and not breakage:
                assert result.code == 0
                assert "api_key = " in result.out
    finally:
        logging.getLogger().removeHandler(handler)
    assert breakage == "x = [\n" or (place / "out.duckdb.state" / "journal.sqlite3").exists()
    for file in place.rglob("*"):
        if file.is_file() and file.name not in ("pushengine.toml", "secret"):
            assert PASSWORD.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_password_is_in_no_error_of_the_library(load, tmp_path, breakage):
    (tmp_path / "secret").write_text(PASSWORD)
    text = SECRETS.replace("SOURCE", str(tmp_path)).replace('target = "a"\n', f"{breakage}\n")
    with pytest.raises(ConfigError) as caught:
        load(text, DB_PASSWORD=PASSWORD)
    assert PASSWORD not in "".join([str(caught.value), *caught.value.problems])


def test_the_password_arrives_as_it_is(load, tmp_path):
    (tmp_path / "secret").write_text(PASSWORD)
    _, loads = load(SECRETS.replace("SOURCE", str(tmp_path)), DB_PASSWORD=PASSWORD)
    assert loads.targets["a"].credentials.client_secret.reveal() == PASSWORD
    assert loads.targets["b"].credentials.key.reveal() == PASSWORD
    assert loads.targets["default"].credentials.key.reveal() == PASSWORD


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:s3cr3t-word@db/shop",
        "https://s3cr3t-word@host/x",
        "https://reader:s3cr3t-word/with@slash@host/x?y=1",
        "https://reader:s3cr3t-word with blank@host",
    ],
)
def test_config_show_redacts_user_and_password_on_every_path(place, url):
    text = f'{HEAD}[connection]\nconnection_id = "{url}"\n[engine]\nrejects = "{url}"\n[defaults]\ntarget = "prod"\norder_by = "{url}"\n'
    rule = f'{RULE}tags = ["{url}"]\ncontrol = "{url}"\n[load.tables.X]\ncolumns_file = "c.toml"\nrename = {{ A = "{url}" }}\n'
    (place / "c.toml").write_text("[columns]\n")
    (place / "pushengine.toml").write_text(text + rule)
    for words in (["config", "show"], ["config", "show", "--json"], ["config", "show", "sap.X"], ["config", "check"]):
        result = run_command(words)
        assert "s3cr3t-word" not in result.out + result.err, (words, result)
    shown = run_command(["config", "show", "sap.X"])
    assert shown.code == 0
    assert "***@" in shown.out


# --- Errors -----------------------------------------------------------------------------------------------------------------------------


def test_errors_come_all_at_once_each_with_its_key_path_and_load(load):
    text = """
[engine]
max_upload = 3
[targets.prod]
url = "https://x"
[defaults]
target = "prd"
timezone = "Europe/Berln"
[[load]]
name = "sap"
source = "/data/{table}.csv"
max_drop = 5
deadline = "25:00"
max_agee = "26h"
[load.tables.VBAP]
mode = "upsert"
columns = { MATNR = "STRIN(40)" }
[[load]]
name = "orders"
source = "/data/*.csv"
mode = "nonsense"
"""
    found = problems(load, text)
    for start in (
        "engine.max_upload: unknown key (did you mean max_uploads?)",
        "targets.prod.pool_id: is required",
        "targets.prod",
        "defaults.target: no target prd (did you mean prod?)",
        "defaults.timezone: input should be a time zone",
        "load sap: load.max_drop: input should be less than or equal to 1",
        "load sap: load.deadline: input should be a time of day",
        "load sap: load.max_agee: unknown key (did you mean max_age?)",
        "load sap.VBAP: load.tables.VBAP.columns.MATNR: no such type",
        "load sap.VBAP: load.tables.VBAP.mode: mode upsert needs keys",
        "load orders: load.mode: input should be 'replace'",
        "load orders: load.source: it needs {table}",
        "state.dir: is required beside [[load]]",
    ):
        assert any(one.startswith(start) for one in found), (start, found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nb = = 2\n", 2),
        ("[x]\n[x]\n", 2),
        ('a = 1\n\nb = "x\n', 3),
        ('a = """\nx\n', 2),
        ("a = [1,\n2,\n", 2),
    ],
)
def test_a_syntax_error_has_its_line(load, text, line):
    with pytest.raises(ConfigError, match=rf"is not TOML: .*line {line}\b"):
        load(text)


@pytest.mark.parametrize(
    "key", ["schedule = '0 2 * * *'", "watch = true", "settle = '30s'", "batch = '10m'", "missed = 'run'"]
)
def test_a_key_that_needs_the_daemon_is_accepted_and_says_so(load, place, key):
    (place / "data").mkdir()
    rule = f'[[load]]\nname = "sap"\nsource = "data/{{table}}.csv"\n{key}\n'
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{rule}[[notify]]\non = ["failed"]\n'
    _, loads = load(text)
    name = key.partition(" ")[0]
    assert loads.rules[0].settings_for("A").daemon_keys == (name,)
    assert loads.daemon_keys == ("notify",)
    shown = run_command(["config", "check"])
    assert shown.code == 0, shown
    assert f"load sap: {name} needs the daemon" in shown.out
    assert "[[notify]] needs the daemon" in shown.out


@pytest.mark.parametrize("key", ["sql", "cursor", "lag", "full_every", "on_cursor_null", "cursor_is_unique"])
def test_a_key_of_databases_says_that_it_needs_a_later_version(load, key):
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}mode = "append"\n{key} = "x"\n'
    (problem,) = problems(load, text)
    assert problem.startswith(f"load sap: load.{key}: ")
    assert "a later version" in problem


def test_a_cursor_with_replace_is_an_error(load):
    found = problems(load, f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}cursor = "X"\n')
    assert any("a cursor with mode replace" in one for one in found)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('control = "{x}"', "load.control: no placeholder {x}"),
        ('max_age = "26x"', "load.max_age: input should be a duration"),
        ("max_age = -1", "load.max_age: input should be between 0 and"),
        ('deadline = "5"', "load.deadline: input should be a time of day"),
        ('timezone = "Europe"', "load.timezone: input should be a time zone"),
        ('timezone = "../etc/passwd"', "load.timezone: input should be a time zone"),
        ('schedule = "* *"', "load.schedule: input should be five fields"),
        ('patience = "x"', "load.patience: input should be a duration"),
        ('max_rejects = "x"', "load.max_rejects: input should be a number of rows"),
        ('date_format = "qq"', "load.date_format: "),
        ('delimiter = ""', "load.delimiter: input should have 1 to"),
        ('pick = "oldest"', "load.pick: input should be 'newest' or 'all'"),
        ('columns_file = "nowhere.toml"', "load.columns_file: cannot read"),
        ('keys = "ID"', "load.keys: input should be a list"),
        ('keys = ["ID"]', "load.keys: mode replace takes no keys"),
        ('target = "nowhere"', "load.target: no target nowhere"),
        ("tables = 3", "load.tables: input should be a table"),
    ],
)
def test_a_bad_value_is_named(load, line, text):
    (problem,) = problems(load, f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}{line}\n')
    assert problem.startswith(f"load sap: {text}"), problem


def test_values_that_contradict_each_other_across_places_are_named_with_the_load(load):
    text = f'{HEAD}[defaults]\ntarget = "prod"\ndelimiter = "|"\n{RULE}quote = "|"\n'
    (problem,) = problems(load, text)
    assert problem == "load sap: load: delimiter, quote and escape should differ"


def test_two_loads_of_one_name_are_an_error_naming_both(load):
    text = f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}{RULE.replace("sap", "SAP")}'
    (problem,) = problems(load, text)
    assert problem == "load SAP: load.name: another load has the name sap: names must differ, also without letter case"


def test_two_claims_on_one_table_are_an_error_naming_both(load):
    rules = "".join(
        f'[[load]]\nname = "{name}"\nsource = "/data/{name}.csv"\ntable = "{table}"\n'
        for name, table in [("a", "ORDERS"), ("b", "orders")]
    )
    (problem,) = problems(load, f'{HEAD}[defaults]\ntarget = "prod"\n{rules}')
    assert problem.startswith("load b: load.table: load a is of table")
    load(f'{HEAD}[defaults]\ntarget = "prod"\n' + rules.replace('"orders"\n', '"orders"\nconnection_id = "other"\n'))


def test_two_names_equal_after_case_folding_are_an_error_naming_both(load):
    (problem,) = problems(load, f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}[load.tables.Vbap]\n[load.tables.VBAP]\n')
    assert (
        problem == "load sap: load.tables.VBAP: Vbap and VBAP are the same table: names are equal without letter case"
    )


def test_an_override_holds_for_its_table_in_any_letter_case(load):
    _, loads = load(f'{HEAD}[defaults]\ntarget = "prod"\n{RULE}[load.tables.VBAP]\nretries = 2\n')
    found = settings_of(loads, "sap", "vbap")
    assert (found.table, found.name, found.retries) == ("vbap", "sap.vbap", 2)


def test_the_state_folder_is_required_beside_loads(load):
    text = HEAD.partition("[targets")[2]
    (problem,) = problems(load, f'[targets{text}[defaults]\ntarget = "prod"\n{RULE}')
    assert problem.startswith("state.dir: is required beside [[load]]")


def test_a_target_that_is_used_must_be_complete(load):
    found = problems(load, f'[state]\ndir = "s"\n{RULE}')
    assert [one.partition(" for the target default")[0] for one in found] == [
        "load sap: connection.url: no team URL",
        "load sap: connection.pool_id: no data pool",
        "load sap: auth: no credentials",
    ]
    load(f'[state]\ndir = "s"\n{RULE}', wants_credentials=False)


def test_the_example_of_the_contract_is_understood(load):
    text = (Path(__file__).parent / "contract.toml").read_text()
    _, loads = load(text, CHAT_WEBHOOK="https://hooks/x", SECRET="secret-1")
    vbap, vbak = (settings_of(loads, "sap", table) for table in ("VBAP", "VBAK"))
    assert (vbap.mode, vbap.keys, vbap.target, vbap.max_age) == ("upsert", ("VBELN", "POSNR"), "prod", 26 * 3600)
    assert (vbak.mode, vbak.keys, vbak.deadline, vbak.cleanup) == ("replace", (), dt.time(5), "move")
    assert vbap.options == {"max_drop": 0.5, "locale": "sap", "patience": "1h", "column_types": {"MATNR": "STRING(40)"}}
    assert str(vbap.timezone) == "Europe/Berlin"
    assert settings_of(loads, "events", "EVENTS").daemon_keys == ("watch", "settle", "batch")


# --- Where the file is found ------------------------------------------------------------------------------------------------------------


def test_the_file_in_the_current_folder_is_found_before_that_of_the_user(place):
    (place / "user-config").mkdir()
    (place / "user-config" / "config.toml").write_text('[connection]\nurl = "https://user"')
    assert load_config(Flags(), {}).url == "https://user"
    (place / "pushengine.toml").write_text('[connection]\nurl = "https://here"')
    assert load_config(Flags(), {}).url == "https://here"
    (place / "other.toml").write_text('[connection]\nurl = "https://other"')
    assert load_config(Flags(), {"PUSHENGINE_CONFIG": "other.toml"}).url == "https://other"
    (place / "flag.toml").write_text('[connection]\nurl = "https://flag"')
    assert load_config(Flags(config=Path("flag.toml")), {"PUSHENGINE_CONFIG": "other.toml"}).url == "https://flag"


def test_a_file_of_another_user_in_the_current_folder_gets_no_credentials(place, monkeypatch):
    (place / "pushengine.toml").write_text('[connection]\nurl = "https://evil"')
    monkeypatch.setattr("os.geteuid", lambda: (place / "pushengine.toml").stat().st_uid + 1)
    if (place / "pushengine.toml").stat().st_uid == 0:
        import os

        os.chown(place / "pushengine.toml", 1234, -1)
        monkeypatch.setattr("os.geteuid", lambda: 4321)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load_config(Flags(), {})
    assert load_config(Flags(config=Path("pushengine.toml")), {}).url == "https://evil"
