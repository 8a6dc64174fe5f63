"""Reads a config file with loads, and reports everything that is wrong with it at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pushengine.config.load import (
    Config,
    ConfigFile,
    Flags,
    ReadFile,
    config_of,
    given_variables,
    read_file,
)
from pushengine.config.loads import rules as rules_module
from pushengine.config.loads.checks import TableReader
from pushengine.config.loads.models import DefaultsSection, NotifySection
from pushengine.config.loads.precedence import Given
from pushengine.config.loads.resolved import Loads
from pushengine.config.loads.targets import read_targets
from pushengine.config.problems import Problem
from pushengine.errors import ConfigError
from pushengine.redaction import mask

_MOST_IN_MESSAGE = 20
_FILE_TABLES = tuple(ConfigFile.model_fields)


@dataclasses.dataclass(frozen=True, slots=True)
class LoadsReading:
    """What was read from a config file, whether or not it is right.

    Attributes:
        read: The file.
        config: The settings besides the loads.
        loads: The loads, as far as they can be understood.
        problems: Everything that is wrong, in the order of the file.
        origins: The settings of the loads that the file gives, with where each came from: by name of the rule, and by table; a rule's own
            settings are those of the table "".
    """

    read: ReadFile
    config: Config
    loads: Loads
    problems: tuple[Problem, ...]
    origins: Mapping[str, rules_module.Origins]


def load_loads(
    flags: Flags | None = None, environ: Mapping[str, str] | None = None, *, wants_credentials: bool = True
) -> tuple[Config, Loads]:
    """Read the configuration with its loads from flags, environment and config file.

    Args:
        flags: Values of command line flags. They and environment variables change the target `default` only.
        environ: Environment variables; None means those of this process. Empty ones count as not set.
        wants_credentials: Whether to read credentials, and to require that each target that is used has an address. If False, no secret is
            read or checked.

    Raises:
        ConfigError: There is no config file, or something is wrong with it; `problems` of the error has everything, each with its key and
            load.
    """
    reading = read_loads(flags, environ, wants_credentials=wants_credentials)
    if reading.problems:
        raise error_of(reading)
    return reading.config, reading.loads


def error_of(reading: LoadsReading) -> ConfigError:
    """Return the error that names everything that is wrong with a config file."""
    lines = tuple(map(str, reading.problems))
    more = len(lines) - _MOST_IN_MESSAGE
    text = "; ".join(lines[:_MOST_IN_MESSAGE]) + (f"; and {more:,} more" if more > 0 else "")
    return ConfigError(
        f"{reading.read.path}: {text}",
        key=reading.problems[0].key,
        problems=lines,
        hint="`pushengine help settings` shows every key; pushengine config check checks the file",
    )


def read_loads(
    flags: Flags | None = None, environ: Mapping[str, str] | None = None, *, wants_credentials: bool = True
) -> LoadsReading:
    """Read the configuration as `load_loads` does, and return what is wrong with it beside it.

    Raises:
        ConfigError: There is no config file, or it cannot be read or is not TOML.
    """
    flags = flags or Flags()
    variables = given_variables(environ)
    read = read_file(flags, variables, wants_credentials=wants_credentials)
    if read.path is None:
        raise ConfigError(
            "no config file: loads are described in one",
            key="config",
            hint="pushengine init writes a first one from a folder of files; --config names one",
        )
    reader = TableReader(read)
    values = read.expansion.values
    file = reader.whole_file()
    errors: list[ConfigError] = []
    config = config_of(read, file, flags, variables, wants_credentials=wants_credentials, errors=errors)
    reader.problems += [Problem((error.key or "config",), _without_key(error)) for error in errors]
    targets = read_targets(reader, config, wants_credentials=wants_credentials)
    defaults = reader.level(DefaultsSection, ("defaults",), "[defaults]")
    for number in reader.listed("notify"):
        reader.model(NotifySection, ("notify", number))
    book = rules_module.read_rules(reader, config, targets, defaults)
    if (
        values.get("load")
        and not file.state.dir
        and not any(one.path[:2] == ("state", "dir") for one in reader.problems)
    ):
        reader.problems.append(
            Problem(("state", "dir"), "is required beside [[load]]: the folder that knows what is loaded")
        )
    rules_module.check_places(reader, book, targets, config, wants_credentials=wants_credentials)
    loads = Loads(
        path=read.path,
        targets=targets,
        rules=tuple(one.rule for one in book),
        parallel=defaults.values.get("parallel") or 8,
        daemon_keys=("notify",) if values.get("notify") else (),
    )
    origins = {one.rule.name: one.origins for one in book}
    return LoadsReading(read, config, loads, _sorted_out(reader), origins)


def _sorted_out(reader: TableReader) -> tuple[Problem, ...]:
    """Return the problems, each once and with its load; those of values that could not be expanded are left out."""
    of_expansion = reader.read.expansion.problems
    unexpanded = {one.path[: number + 1] for one in of_expansion for number in range(1, len(one.path))}
    others = [one for one in reader.problems if one not in of_expansion and one.path not in unexpanded]
    listed = [
        dataclasses.replace(one, text=mask(one.text), load=one.load or reader.rule_at(one.path))
        for one in (*of_expansion, *others)
    ]
    return tuple(dict.fromkeys(listed))


def _without_key(error: ConfigError) -> str:
    return error.message.removeprefix(f"{error.key}: ")


__all__ = ["Given", "LoadsReading", "error_of", "load_loads", "read_loads"]
