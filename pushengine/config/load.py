"""Read flags, environment and config file into one `Config`. Secrets are never shown.

Precedence
    Flags override environment variables, which override the config file, which overrides the defaults. The config file is the one named by
    `--config`, otherwise by `PUSHENGINE_CONFIG`, otherwise `pushengine.toml` in the working directory, otherwise `config.toml` in the user's
    config folder, if it exists. `config.example.toml` shows every key. Paths in the config file are relative to its folder; paths in
    environment variables are relative to the working directory. `~` is the home folder. `${VAR}` and `${file:/path}` in the file are expanded
    (`expansion`). Beside `[[load]]`, the state folder is the one of the file, whatever the environment says: another one would not know what
    is loaded. What the tables of loads mean is in `config.loads`.

Credentials
    The environment and the config file may each hold one way to authenticate: an OAuth client, a user API key or an application key. Two
    ways in the same place are an error. If the two places differ, the environment wins. For an OAuth client they may complete each other
    (the id in the file, the secret in the environment). Any secret can be read from a file named by `PUSHENGINE_<SECRET>_FILE` or
    `<secret>_file`; surrounding whitespace is stripped.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pushengine.config.csv_settings import CsvSettings
from pushengine.config.expansion import Expansion, expand
from pushengine.config.problems import KeyPath, problems_of
from pushengine.config.settings import EngineSettings
from pushengine.credentials import DEFAULT_SCOPE, AppKey, ClientAuthMethod, Credentials, OAuthClient, UserApiKey
from pushengine.errors import ConfigError
from pushengine.redaction import Secret, remember_secrets
from pushengine.state.file_errors import expanded_setting, parse_toml, read_text, setting_errors, status
from pushengine.state.folder import StateFolder, default_state_dir, require_folder
from pushengine.text import flag, shown_name

CONFIG_HINT = "`pushengine help settings` shows every key"
EXPANSION_HINT = "set the variable, or correct the path of the file"
_KEY_FILE_HINT = "the file must hold only the secret"
LOCAL_NAME = "pushengine.toml"
"""The config file that is found in the working directory."""
LOADS_TABLES = ("targets", "defaults", "load", "notify")
"""Tables of the config file that only loads need."""
Model = TypeVar("Model", bound=BaseModel)
T = TypeVar("T")
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Section(BaseModel):
    """Base class for the tables of the config file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ConnectionSection(Section):
    """The `[connection]` table: the target of pushes."""

    url: Annotated[str | None, Field(description="team URL")] = None
    pool_id: Annotated[str | None, Field(description="data pool")] = None
    connection_id: Annotated[str | None, Field(description="data connection; unset: the pool's global schema")] = None


class AuthSection(Section):
    """The `[auth]` table: the credentials; exactly one of OAuth client, user API key or application key."""

    client_id: Annotated[str | None, Field(description="OAuth client")] = None
    client_secret: Annotated[str | None, Field(repr=False, description="secret of the OAuth client")] = None
    client_secret_file: Annotated[str | None, Field(description="file that holds the client secret")] = None
    scope: Annotated[str, Field(description="OAuth scope to request")] = DEFAULT_SCOPE
    method: Annotated[ClientAuthMethod, Field(description="how the client sends its secret to the token endpoint")] = (
        "auto"
    )
    api_key: Annotated[str | None, Field(repr=False, description="user API key")] = None
    api_key_file: Annotated[str | None, Field(description="file that holds the user API key")] = None
    app_key: Annotated[str | None, Field(repr=False, description="application key")] = None
    app_key_file: Annotated[str | None, Field(description="file that holds the application key")] = None


class LogSettings(Section):
    """The `[log]` table: what is written to stderr."""

    format: Annotated[LogFormat, Field(description="console: progress for people; json: one object per event")] = (
        "console"
    )
    level: Annotated[LogLevel | None, Field(description="minimum level of log lines")] = None


class StateSection(Section):
    """The `[state]` table: where state is kept between processes."""

    dir: Annotated[str | None, Field(description="folder of journal and quota ledger")] = None


class ConfigFile(Section):
    """The validated content of a config file."""

    connection: ConnectionSection = ConnectionSection()
    auth: AuthSection = AuthSection()
    engine: EngineSettings = EngineSettings()
    csv: CsvSettings = CsvSettings()
    log: LogSettings = LogSettings()
    state: StateSection = StateSection()


class _WholeFile(ConfigFile):
    """A config file whose tables of loads are accepted as they are."""

    targets: Any = None
    defaults: Any = None
    load: Any = None
    notify: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """All settings of one process.

    Attributes:
        path: The config file that was read; None if there was none.
        credentials: The credentials; None if none were found, or if `load_config` was called without `wants_credentials`.
        state_dir: The folder of journal and quota ledger. It need not exist: the engine creates it.
    """

    path: Path | None
    url: str | None
    pool_id: str | None
    connection_id: str | None
    credentials: Credentials | None
    engine: EngineSettings
    log: LogSettings
    state_dir: Path

    @property
    def state(self) -> StateFolder:
        """The state folder and the paths inside it."""
        return StateFolder(self.state_dir)

    def require_url(self) -> str:
        """Return the team URL.

        Raises:
            ConfigError: No team URL is configured.
        """
        if self.url is None:
            raise _missing("team URL", "PUSHENGINE_URL", "[connection] url", "--url")
        return self.url

    def require_pool_id(self) -> str:
        """Return the id of the data pool.

        Raises:
            ConfigError: No data pool is configured.
        """
        if self.pool_id is None:
            raise _missing("data pool", "PUSHENGINE_POOL_ID", "[connection] pool_id", "--pool")
        return self.pool_id

    def require_credentials(self) -> Credentials:
        """Return the credentials.

        Raises:
            ConfigError: No credentials are configured.
        """
        if self.credentials is None:
            raise ConfigError(
                "no credentials",
                key="auth",
                hint="set PUSHENGINE_CLIENT_ID and PUSHENGINE_CLIENT_SECRET (or PUSHENGINE_API_KEY, PUSHENGINE_APP_KEY),"
                " or [auth] in the config file; any secret can come from a file: PUSHENGINE_CLIENT_SECRET_FILE",
            )
        return self.credentials


def _missing(what: str, variable: str, key: str, flag: str | None = None) -> ConfigError:
    places = [variable, f"{key} in the config file", *([flag] if flag else [])]
    return ConfigError(f"no {what}", key=variable, hint=f"set {', '.join(places[:-1])} or {places[-1]}")


@dataclasses.dataclass(frozen=True, slots=True)
class Flags:
    """Values of command line flags; None means not given."""

    config: Path | None = None
    url: str | None = None
    pool_id: str | None = None
    connection_id: str | None = None
    log_format: LogFormat | None = None


def load_config(
    flags: Flags | None = None, environ: Mapping[str, str] | None = None, *, wants_credentials: bool = True
) -> Config:
    """Read the configuration from flags, environment and config file.

    Args:
        flags: Values of command line flags.
        environ: Environment variables; None means those of this process. Empty ones count as not set.
        wants_credentials: Whether to read credentials. If False, secrets are neither read nor checked.

    Raises:
        ConfigError: A file, key or value is bad; the error names it.
    """
    flags = flags or Flags()
    variables = given_variables(environ)
    read = read_file(flags, variables, wants_credentials=wants_credentials, leaves=LOADS_TABLES)
    if read.expansion.problems:
        problem = read.expansion.problems[0]
        raise ConfigError(f"{read.path}: {problem.key}: {problem.text}", key=problem.key, hint=EXPANSION_HINT)
    file = _checked(_WholeFile, read.expansion.values, str(read.path))
    errors: list[ConfigError] = []
    config = config_of(read, file, flags, variables, wants_credentials=wants_credentials, errors=errors)
    if errors:
        raise errors[0] from errors[0].__cause__
    return config


@dataclasses.dataclass(frozen=True, slots=True)
class ReadFile:
    """A config file that was read but not checked. Without a file, it is empty.

    Attributes:
        path: The file; None if there is none.
        folder: The folder that its paths are relative to.
        raw: Its content.
        expansion: The same content, with variables expanded.
    """

    path: Path | None
    folder: Path
    raw: Mapping[str, Any]
    expansion: Expansion


def given_variables(environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment variables that are set; None means those of this process. Empty ones count as not set."""
    return {name: value for name, value in (os.environ if environ is None else environ).items() if value}


def read_file(
    flags: Flags, variables: Mapping[str, str], *, wants_credentials: bool, leaves: Sequence[str] = ()
) -> ReadFile:
    """Find and read the config file, expand its variables, and remember the secrets in it for masking.

    Args:
        flags: Name the file, or not.
        variables: Environment variables that are set.
        wants_credentials: Whether to expand credentials; if not, no file of a secret is read.
        leaves: Tables that are not expanded.

    Raises:
        ConfigError: There is no such file, or it cannot be read or is not TOML.
    """
    path = find_file(flags.config, variables)
    folder = path.parent if path else Path()
    raw = _parsed(path) if path else {}

    def skips(place: KeyPath) -> bool:
        is_of_target = len(place) > 2 and place[0] == "targets" and place[2] in AuthSection.model_fields  # noqa: PLR2004
        return place[0] in leaves or (not wants_credentials and (place[0] == "auth" or is_of_target))

    expansion = expand(raw, variables, folder, skips=skips)
    remember_secrets(expansion.secrets)
    return ReadFile(path, folder, raw, expansion)


def config_of(
    read: ReadFile,
    file: ConfigFile,
    flags: Flags,
    variables: Mapping[str, str],
    *,
    wants_credentials: bool,
    errors: list[ConfigError],
) -> Config:
    """Return the settings of one process. What is wrong is added to `errors`; the setting then has its default."""

    def attempt(build: Callable[[], T], default: T) -> T:
        try:
            return build()
        except ConfigError as error:
            errors.append(error)
            return default

    def label(name: str) -> str:
        return f"[auth] {name} in {read.path}"

    connection, log = file.connection, file.log.model_dump()
    if log_format := flags.log_format or variables.get("PUSHENGINE_LOG"):
        log["format"] = log_format
    has_loads = "load" in read.raw
    credentials = (
        attempt(lambda: _credentials(variables, file.auth, read.folder, label), None) if wants_credentials else None
    )
    return Config(
        path=read.path,
        url=flags.url or variables.get("PUSHENGINE_URL") or connection.url,
        pool_id=flags.pool_id or variables.get("PUSHENGINE_POOL_ID") or connection.pool_id,
        connection_id=flags.connection_id or variables.get("PUSHENGINE_CONNECTION_ID") or connection.connection_id,
        credentials=credentials,
        engine=attempt(lambda: _resolve_paths(_with_csv(file, read.path), read.folder), file.engine),
        log=attempt(lambda: _checked(LogSettings, log, "PUSHENGINE_LOG"), file.log),
        state_dir=attempt(lambda: _state_dir(variables, file.state, read.folder, has_loads=has_loads), read.folder),
    )


def find_file(flag: Path | None, variables: Mapping[str, str]) -> Path | None:
    """Return the config file to read; None if there is none.

    Raises:
        ConfigError: The one that is named does not exist, or one in the working directory belongs to another user.
    """
    if flag is not None:
        chosen, name = flag, "--config"
    elif "PUSHENGINE_CONFIG" in variables:
        name = "PUSHENGINE_CONFIG"
        chosen = expanded_setting(variables[name], key=name)
    else:
        default = platformdirs.user_config_path("pushengine") / "config.toml"
        with setting_errors("cannot read the config file", default, key="config", hint=CONFIG_HINT):
            return _local_file() or (default if status(default) is not None else None)
    with setting_errors(f"{name}: cannot read the config file", chosen, key=name, hint=CONFIG_HINT):
        is_file = _is_file(chosen)
    if not is_file:
        raise ConfigError(f"{name}: no config file {shown_name(str(chosen))}", key=name, hint=CONFIG_HINT)
    return chosen


def _local_file() -> Path | None:
    """Return the config file in the working directory, if there is one.

    Raises:
        ConfigError: Another user could have put it there, to send this user's credentials to an address of theirs.
    """
    path = Path(LOCAL_NAME)
    with setting_errors("cannot read the config file", path, key="config", hint=CONFIG_HINT):
        found = status(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    if hasattr(os, "geteuid") and found.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{LOCAL_NAME} in this folder belongs to another user",
            key="config",
            hint=f"if you trust it, name it: {flag('config', LOCAL_NAME)}",
        )
    return path


def log_format_in(path: Path | None) -> LogFormat | None:
    """Return the log format in a config file, or in the one of this user; None if it cannot be told, such as in a damaged file."""
    try:
        found = find_file(path, {})
        text = "" if found is None else read_text("cannot read the config file", found, key="config")
        raw = parse_toml(text, found or Path()).get("log")
    except ConfigError:
        return None
    named = raw.get("format") if isinstance(raw, dict) else None
    return named if named in get_args(LogFormat) else None


def _is_file(path: Path) -> bool:
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def _parsed(path: Path) -> dict[str, Any]:
    return parse_toml(read_text("cannot read the config file", path, key=str(path), hint=CONFIG_HINT), path)


def _checked(model: type[Model], raw: Mapping[str, Any], place: str) -> Model:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        key, text = problems_of(model, error)
        raise ConfigError(f"{place}: {text}", key=key, hint=CONFIG_HINT) from None


def _state_dir(variables: Mapping[str, str], state: StateSection, folder: Path, *, has_loads: bool) -> Path:
    is_from_file = bool(state.dir) and (has_loads or "PUSHENGINE_STATE_DIR" not in variables)
    if not is_from_file:
        return default_state_dir(variables)
    return require_folder(folder / expanded_setting(state.dir or "", key="state.dir"), key="state.dir")


def _with_csv(file: ConfigFile, path: Path | None) -> EngineSettings:
    """Return the engine's settings with those of `[csv]`.

    Raises:
        ConfigError: They contradict each other.
    """
    csv = {**file.engine.csv.given(), **file.csv.given()}  # `[engine] csv_delimiter` is an earlier name
    return file.engine.model_copy(update={"csv": _checked(ConfigFile, {"csv": csv}, str(path)).csv})


def _resolve_paths(engine: EngineSettings, folder: Path) -> EngineSettings:
    """Return the settings with paths that are relative to the folder of the config file made absolute.

    Raises:
        ConfigError: The CA file does not exist.
    """
    if engine.rejects is not None:
        engine = engine.model_copy(update={"rejects": folder / expanded_setting(engine.rejects, key="engine.rejects")})
    if engine.ca_file is None:
        return engine
    key = "engine.ca_file"
    path = folder / expanded_setting(engine.ca_file, key=key)
    with setting_errors(f"{key}: cannot read", path, key=key):
        is_file = _is_file(path)
    if not is_file:
        raise ConfigError(f"{key}: no such file {shown_name(str(path))}", key=key, hint="name a PEM file")
    return engine.model_copy(update={"ca_file": path})


@dataclasses.dataclass(frozen=True, slots=True)
class _CredentialSource:
    """One place where credentials can be configured: the environment or the config file."""

    values: Mapping[str, str]
    folder: Path
    label: Callable[[str], str]

    def has(self, name: str) -> bool:
        return name in self.values or f"{name}_file" in self.values

    def methods(self) -> Iterator[tuple[str, str]]:
        """Yield each way to authenticate that is configured here, with the key that configures it."""
        for method, names in (
            ("client", ("client_id", "client_secret")),
            ("api_key", ("api_key",)),
            ("app_key", ("app_key",)),
        ):
            found = next((name for name in names if self.has(name)), None)
            if found is not None:
                yield method, found if found in self.values else f"{found}_file"

    def method(self) -> str | None:
        methods = list(self.methods())
        if len(methods) > 1:
            (_, one), (_, other) = methods[:2]
            raise ConfigError(
                f"two ways to authenticate: {self.label(one)} and {self.label(other)}",
                key=self.label(other),
                hint="keep one of them",
            )
        return methods[0][0] if methods else None

    def secret(self, name: str) -> Secret | None:
        file_key = f"{name}_file"
        if name in self.values and file_key in self.values:
            raise ConfigError(
                f"both {self.label(name)} and {self.label(file_key)} are set",
                key=self.label(file_key),
                hint="keep one of them",
            )
        if name in self.values:
            return _checked_secret(self.values[name], self.label(name))
        if file_key in self.values:
            label = self.label(file_key)
            path = self.folder / expanded_setting(self.values[file_key], key=label)
            return _checked_secret(read_text(f"{label}: cannot read", path, key=label, hint=_KEY_FILE_HINT), label)
        return None


def _checked_secret(text: str, label: str) -> Secret:
    """Strip whitespace around a secret and reject one that cannot be sent in an HTTP header.

    A line break inside it would end the header; most likely the wrong file was given.
    """
    text = text.strip()
    if not text or not text.isprintable() or any(character.isspace() for character in text):
        raise ConfigError(
            f"{label}: the secret is empty, or has whitespace or control characters inside it",
            key=label,
            hint="give only the value, exactly as it was issued",
        )
    return Secret(text)


def auth_of_file(auth: AuthSection, folder: Path, label: Callable[[str], str]) -> Credentials | None:
    """Return the credentials that a table of a config file holds; None if it has none.

    Args:
        auth: The table.
        folder: The folder of the config file.
        label: Returns the name of a key for messages.

    Raises:
        ConfigError: A key is missing, there are two ways to authenticate, or a secret cannot be read.
    """
    return _credentials({}, auth, folder, label)


def _credentials(
    variables: Mapping[str, str], auth: AuthSection, folder: Path, label: Callable[[str], str]
) -> Credentials | None:
    found = {name: variables.get(f"PUSHENGINE_{name.upper()}") for name in AuthSection.model_fields if name != "method"}
    environment = _CredentialSource(_set_values(found), Path(), lambda name: f"PUSHENGINE_{name.upper()}")
    given = auth.model_dump(include=set(AuthSection.model_fields))
    file = _CredentialSource(_set_values(given), folder, label)
    in_file = file.method()  # checked even if the environment wins: the next run may lack those variables
    method = environment.method() or in_file
    if method is None:
        return None
    places = (environment, file) if in_file == method else (environment,)
    if method != "client":
        key = next(secret for place in places if (secret := place.secret(method)))
        return UserApiKey(key) if method == "api_key" else AppKey(key)
    client_id = next((place.values["client_id"] for place in places if "client_id" in place.values), None)
    client_secret = next((secret for place in places if (secret := place.secret("client_secret"))), None)
    if client_id is None:
        raise _missing("OAuth client id", "PUSHENGINE_CLIENT_ID", "[auth] client_id")
    if client_secret is None:
        raise _missing(
            f"secret of the OAuth client {client_id}",
            "PUSHENGINE_CLIENT_SECRET (or PUSHENGINE_CLIENT_SECRET_FILE)",
            "[auth] client_secret",
        )
    scope = environment.values.get("scope", auth.scope)
    return OAuthClient(client_id, client_secret, scope=scope, method=auth.method)


def _set_values(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}
