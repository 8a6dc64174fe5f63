"""Where settings come from, which source takes precedence, and that errors name the mistake without showing a secret."""

import re
import stat
import tomllib
from pathlib import Path

import pytest

from pushengine.config.load import ConfigFile, Flags, load_config
from pushengine.config.settings import EngineSettings
from pushengine.credentials import AppKey, OAuthClient, UserApiKey
from pushengine.errors import ConfigError
from pushengine.state.folder import StateFolder, default_state_dir

EXAMPLE = Path(__file__).parents[3] / "config.example.toml"


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load without any settings of this machine. Keyword arguments are environment variables without their prefix."""
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path / "user-config")
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_: tmp_path / "user-state")

    def run(text=None, flags=None, wants_credentials=True, **environment):
        variables = {f"PUSHENGINE_{name}": str(value) for name, value in environment.items()}
        if text is not None:
            path = tmp_path / "conf" / "pushengine.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            flags = Flags(**{**(flags or {}), "config": path})
        else:
            flags = Flags(**(flags or {}))
        return load_config(flags, variables, wants_credentials=wants_credentials)

    return run


def test_without_file_and_environment_everything_is_default(load, tmp_path):
    config = load()
    assert (config.path, config.url, config.pool_id, config.credentials) == (None, None, None, None)
    assert config.engine == EngineSettings()
    assert (config.log.format, config.log.level) == ("console", None)
    assert config.state_dir == tmp_path / "user-state"


def test_flag_beats_environment_beats_file(load):
    text = '[connection]\nurl = "https://file"\npool_id = "file"\nconnection_id = "file"'
    config = load(text, {"url": "https://flag"}, URL="https://env", POOL_ID="env")
    assert (config.url, config.pool_id, config.connection_id) == ("https://flag", "env", "file")


def test_empty_environment_variable_is_not_set(load):
    assert load('[connection]\nurl = "https://file"', URL="").url == "https://file"


def test_log_format_follows_the_same_order(load):
    text = '[log]\nformat = "console"\nlevel = "info"'
    assert load(text, LOG="json").log.format == "json"
    assert load(text, {"log_format": "console"}, LOG="json").log.format == "console"
    assert load(text).log.level == "info"
    with pytest.raises(ConfigError, match=r"PUSHENGINE_LOG: format: input should be 'console' or 'json'"):
        load(LOG="xml")


def test_user_config_file_is_found_and_the_variable_names_another(load, tmp_path):
    (tmp_path / "user-config").mkdir()
    (tmp_path / "user-config" / "config.toml").write_text('[connection]\nurl = "https://user"')
    other = tmp_path / "other.toml"
    other.write_text('[connection]\nurl = "https://other"')
    assert load().url == "https://user"
    assert load(CONFIG=other).url == "https://other"


@pytest.mark.parametrize("environment", [{"CONFIG": "nowhere.toml"}, {}], ids=["variable", "flag"])
def test_missing_config_file_names_the_flag_or_variable_that_set_it(load, environment):
    flags = {} if environment else {"config": Path("nowhere.toml")}
    with pytest.raises(ConfigError, match=r"(PUSHENGINE_CONFIG|--config): no config file nowhere\.toml"):
        load(None, flags, **environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[engine]\nmax_upload = 3", r"unknown key engine.max_upload \(.*\bmax_uploads\?\)"),
        ("[conection]\nurl = 'x'", r"unknown key conection \(.*\bconnection\?\)"),
        ("[zzz]", "unknown key zzz$"),
        ("[engine]\nmax_uploads = 99", "engine.max_uploads: input should be less than or equal to 32"),
        ("[engine]\nfile_type = 'XML'", "engine.file_type: input should be 'PARQUET' or 'CSV'"),
        ("[engine", "is not TOML"),
        ("[log]\nlevel = 'loud'", "log.level"),
    ],
    ids=["near-miss", "table", "unknown", "bound", "choice", "syntax", "level"],
)
def test_mistake_in_the_file_names_key_and_file(load, text, message):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert "pushengine.toml" in caught.value.message
    assert re.search(message, caught.value.message)


def test_file_that_is_not_text_is_a_config_error(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        load_config(Flags(config=path), {})


def test_secret_in_a_wrong_place_is_not_shown(load):
    with pytest.raises(ConfigError) as caught:
        load("[auth]\nclient_secret = ['hunter2-hunter2']\nclient_secrt = 'hunter3-hunter3'")
    assert "hunter" not in str(caught.value)
    assert "hunter" not in repr(caught.value.__context__)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CLIENT_ID": "id", "CLIENT_SECRET": "secret"}, OAuthClient("id", "secret")),
        ({"CLIENT_ID": "id", "CLIENT_SECRET": "secret", "SCOPE": "a b"}, OAuthClient("id", "secret", scope="a b")),
        ({"API_KEY": "key"}, UserApiKey("key")),
        ({"APP_KEY": "key"}, AppKey("key")),
    ],
    ids=["oauth", "oauth-scope", "user-key", "app-key"],
)
def test_each_way_to_authenticate_from_the_environment(load, environment, expected):
    assert load(**environment).credentials == expected


def test_way_to_authenticate_in_the_environment_wins_over_the_file(load):
    assert load("[auth]\nclient_id = 'id'\nclient_secret = 's1'", API_KEY="key").credentials == UserApiKey("key")


def test_client_id_in_the_file_and_secret_in_the_environment_make_one_client(load):
    text = "[auth]\nclient_id = 'id'\nmethod = 'post'\nscope = 'x'"
    assert load(text, CLIENT_SECRET="s1").credentials == OAuthClient("id", "s1", scope="x", method="post")


@pytest.mark.parametrize(
    ("text", "environment", "names"),
    [
        (None, {"API_KEY": "a", "CLIENT_ID": "b"}, ("PUSHENGINE_API_KEY", "PUSHENGINE_CLIENT_ID")),
        (None, {"APP_KEY_FILE": "a", "API_KEY": "b"}, ("PUSHENGINE_APP_KEY_FILE", "PUSHENGINE_API_KEY")),
        ("[auth]\napi_key = 'a'\napp_key = 'b'", {}, ("[auth] api_key", "[auth] app_key")),
        ("[auth]\napi_key = 'a'\napp_key = 'b'", {"API_KEY": "c"}, ("[auth] api_key", "[auth] app_key")),
    ],
    ids=["environment", "environment-files", "file", "file-although-environment-wins"],
)
def test_two_ways_to_authenticate_in_one_place_are_refused_by_name(load, text, environment, names):
    with pytest.raises(ConfigError, match="two ways to authenticate") as caught:
        load(text, **environment)
    assert all(name in caught.value.message for name in names)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CLIENT_ID": "id"}, "no secret of the OAuth client id"),
        ({"CLIENT_SECRET": "secret-x"}, "no OAuth client id"),
    ],
    ids=["no-secret", "no-id"],
)
def test_incomplete_oauth_client_says_what_is_missing(load, environment, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(**environment)
    assert "secret-x" not in str(caught.value)


@pytest.mark.parametrize("name", ["CLIENT_SECRET", "API_KEY", "APP_KEY"])
def test_every_secret_can_come_from_a_file_without_its_line_break(load, tmp_path, name):
    path = tmp_path / "secret"
    path.write_text("the-secret\r\n")
    environment = {f"{name}_FILE": path} | ({"CLIENT_ID": "id"} if name == "CLIENT_SECRET" else {})
    credentials = load(**environment).credentials
    secret = credentials.client_secret if isinstance(credentials, OAuthClient) else credentials.key
    assert secret.reveal() == "the-secret"
    assert "the-secret" not in repr(load(**environment))


def test_secret_file_in_the_config_is_relative_to_it(load, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "key").write_text("k1\n")
    assert load("[auth]\napi_key_file = 'key'").credentials == UserApiKey("k1")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), (b"", "empty"), (b"two\nlines", "whitespace"), (b"\xff\xfe", "it is not UTF-8 text")],
    ids=["missing", "empty", "two-lines", "binary"],
)
def test_bad_secret_file_names_the_variable_and_not_the_content(load, tmp_path, content, message):
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load(API_KEY_FILE=path)
    assert caught.value.key == "PUSHENGINE_API_KEY_FILE"
    assert "PUSHENGINE_API_KEY_FILE" in caught.value.message
    assert "two" not in str(caught.value)


def test_secret_and_its_file_together_are_refused(load):
    with pytest.raises(ConfigError, match="both PUSHENGINE_API_KEY and PUSHENGINE_API_KEY_FILE"):
        load(API_KEY="a", API_KEY_FILE="b")


def test_credentials_are_not_read_unless_wanted(load):
    assert load(API_KEY_FILE="/nowhere", wants_credentials=False).credentials is None


def test_missing_setting_is_reported_with_every_way_to_set_it(load):
    config = load()
    for require, names in (
        (config.require_url, ("PUSHENGINE_URL", "--url", "[connection] url")),
        (config.require_pool_id, ("PUSHENGINE_POOL_ID", "--pool", "[connection] pool_id")),
        (config.require_credentials, ("PUSHENGINE_CLIENT_ID", "PUSHENGINE_API_KEY", "_FILE", "[auth]")),
    ):
        with pytest.raises(ConfigError) as caught:
            require()
        assert all(name in caught.value.hint for name in names)


def test_state_folder_of_variable_beats_file_beats_platform(load, tmp_path):
    text = "[state]\ndir = 'state'"
    assert load(text).state_dir == tmp_path / "conf" / "state"
    assert load(text, STATE_DIR=tmp_path / "s").state_dir == tmp_path / "s"
    assert default_state_dir({"PUSHENGINE_STATE_DIR": "~/x"}) == Path.home() / "x"


def test_state_folder_is_accessible_only_to_its_owner(tmp_path):
    StateFolder(tmp_path / "a" / "state").make()
    assert stat.S_IMODE((tmp_path / "a" / "state").stat().st_mode) == 0o700


def test_state_folder_that_is_a_file_is_refused(load, tmp_path):
    (tmp_path / "s").write_text("x")
    with pytest.raises(ConfigError, match=r"PUSHENGINE_STATE_DIR: the state folder .* is a file"):
        load("", STATE_DIR=tmp_path / "s")


def test_private_ca_is_relative_to_the_file_and_must_exist(load, tmp_path):
    with pytest.raises(ConfigError, match=r"engine.ca_file: no such file"):
        load("[engine]\nca_file = 'ca.pem'")
    (tmp_path / "conf" / "ca.pem").write_text("x")
    assert load("[engine]\nca_file = 'ca.pem'").engine.ca_file == tmp_path / "conf" / "ca.pem"


def _example_lines():
    """Return the lines of the settings besides those of loads."""
    return [
        line for line in _example_parts()[0].splitlines() if line.startswith("#") and " = " in line and line[1] != " "
    ]


def _example_parts():
    before, mark, after = EXAMPLE.read_text().partition("# --- Loads")
    return before, mark + after


def test_settings_of_text_files_that_contradict_those_of_earlier_names_are_refused(load):
    assert load('[engine]\ncsv_delimiter = "|"\n[csv]\nquote = ""').engine.csv.given() == {
        "delimiter": "|",
        "quote": "",
    }
    with pytest.raises(ConfigError, match="csv: delimiter, quote and escape should differ"):
        load('[engine]\ncsv_delimiter = "|"\n[csv]\nquote = "|"')


@pytest.mark.parametrize(
    ("text", "variables", "key"),
    [
        ('[engine]\nrejects = "~nobody-/rejects"', {}, "engine.rejects"),
        ('[engine]\nca_file = "~nobody-/ca.pem"', {}, "engine.ca_file"),
        ('[state]\ndir = "~nobody-"', {}, "state.dir"),
        ('[auth]\napi_key_file = "~nobody-/key"', {}, "[auth] api_key_file in"),
        ("", {"STATE_DIR": "~nobody-/state"}, "PUSHENGINE_STATE_DIR"),
        ("", {"API_KEY_FILE": "~nobody-"}, "PUSHENGINE_API_KEY_FILE"),
        (None, {"CONFIG": "~nobody-/config.toml"}, "PUSHENGINE_CONFIG"),
    ],
)
def test_the_home_of_a_user_who_does_not_exist_is_refused(load, text, variables, key):
    with pytest.raises(ConfigError, match="there is no user nobody-: ~nobody-") as caught:
        load(text, **variables)
    assert str(caught.value.key).startswith(key)


def test_example_shows_every_key_with_its_real_default():
    text = "\n".join(line[1:] if line in set(_example_lines()) else line for line in _example_parts()[0].splitlines())
    raw = tomllib.loads(text)
    shown, real = ConfigFile.model_validate(raw), ConfigFile()
    unset = {line[1:].partition(" ")[0] for line in _example_lines() if "# unset" in line}
    for section in ConfigFile.model_fields:
        defaults = getattr(real, section).model_dump()
        defaults.pop("csv", None)  # it has a table of its own
        assert set(raw[section]) == set(defaults), section
        fields = type(getattr(real, section)).model_fields
        for key, default in defaults.items():
            if default is None or fields[key].default_factory is not None:
                assert key in unset, key
            else:
                assert getattr(getattr(shown, section), key) == default, key
                assert key not in unset, key


def test_example_explains_every_key_on_its_line():
    assert all(len(line.partition("  # ")[2]) > 15 for line in _example_lines())


def test_example_without_edits_changes_nothing():
    assert ConfigFile.model_validate(tomllib.loads(EXAMPLE.read_text())) == ConfigFile()
