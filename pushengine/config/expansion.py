"""Expands `${VAR}`, `${file:/path}` and `$$` in the texts of a config file, and finds the secrets in them.

Each text is expanded once: what a variable or a file holds is taken as it is. `$$` is `$`, and any other `$` is an ordinary character. Beside
the expanded value, `Expansion` keeps a form that may be shown, in which secrets are masked.

Secrets are: the values of the keys in `SECRET_KEYS`; what `${file:...}` holds; variables whose names say so; and `user:password@` of a URL.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pushengine.config.problems import KeyPath, Problem
from pushengine.errors import ConfigError
from pushengine.redaction import MASKED, Secret
from pushengine.state.file_errors import expanded_setting, read_text

SECRET_KEYS = frozenset({"client_secret", "api_key", "app_key", "webhook", "password", "token"})
"""Keys whose values are shown nowhere."""
_REFERENCE = re.compile(r"\$(?:\$|\{(?:file:(?P<file>[^{}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\})")
_SECRET_NAME = re.compile(r"PASS|PWD|PW$|SECRET|TOKEN|KEY|CREDENTIAL|WEBHOOK|PRIVATE", re.IGNORECASE)
_USER = re.compile(r"://(?:[^\s/?#:@]*:.*|[^\s/?#]*)@", re.DOTALL)
_DEEPEST = 20
"""Levels of tables and lists that are searched for texts; no setting is nested that deeply."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expansion:
    """A config file with all variables expanded.

    Attributes:
        values: The content of the file.
        shown: The same content, with secrets masked.
        secrets: The secrets in it.
        problems: What cannot be expanded. The values then keep the reference.
    """

    values: dict[str, Any]
    shown: dict[str, Any]
    secrets: tuple[Secret, ...]
    problems: tuple[Problem, ...]


def expand(
    raw: Mapping[str, Any],
    variables: Mapping[str, str],
    folder: Path,
    *,
    skips: Callable[[KeyPath], bool] = lambda _path: False,
) -> Expansion:
    """Expand all texts of a config file.

    Args:
        raw: The content of the file.
        variables: Environment variables; those that are empty are left out.
        folder: The folder of the config file, which relative paths of `${file:...}` start from.
        skips: Called with the path of each text; True leaves it as it is, and masks it.
    """
    expander = _Expander(variables, folder, skips)
    values, shown = expander.pair(dict(raw), ())
    return Expansion(values, shown, tuple(expander.secrets), tuple(expander.problems))


def redacted(text: str) -> str:
    """Return a text without the user and password of URLs in it."""
    return _USER.sub(f"://{MASKED}@", text)


class _Expander:
    """Expands the values of one file, and collects secrets and problems."""

    def __init__(self, variables: Mapping[str, str], folder: Path, skips: Callable[[KeyPath], bool]) -> None:
        self._variables = variables
        self._folder = folder
        self._skips = skips
        self.secrets: list[Secret] = []
        self.problems: list[Problem] = []

    def pair(self, value: Any, path: KeyPath) -> tuple[Any, Any]:
        """Return a value expanded, and the form of it that may be shown."""
        if isinstance(value, str):
            return self._text(value, path)
        if len(path) > _DEEPEST:
            return value, MASKED
        if isinstance(value, dict):
            pairs = {key: self.pair(one, (*path, key)) for key, one in value.items()}
            return {key: real for key, (real, _) in pairs.items()}, {key: shown for key, (_, shown) in pairs.items()}
        if isinstance(value, list):
            found = [self.pair(one, (*path, number)) for number, one in enumerate(value)]
            return [real for real, _ in found], [shown for _, shown in found]
        return value, MASKED if path and str(path[-1]) in SECRET_KEYS else value

    def _text(self, text: str, path: KeyPath) -> tuple[str, str]:
        is_secret = any(str(part) in SECRET_KEYS for part in path)
        if self._skips(path):
            return text, MASKED if is_secret else redacted(text)
        real, shown = [], []
        end = 0
        for match in _REFERENCE.finditer(text):
            literal = text[end : match.start()]
            value, is_hidden = self._value(match, path)
            real += [literal, value]
            shown += [literal, MASKED if is_hidden else value]
            if is_hidden:
                self.secrets.append(Secret(value))
            end = match.end()
        expanded, visible = "".join([*real, text[end:]]), "".join([*shown, text[end:]])
        if is_secret:
            self.secrets.append(Secret(expanded.strip()))
            return expanded, MASKED
        for user in _USER.findall(expanded):
            password = user[3:-1].partition(":")[2]
            self.secrets += [Secret(password)] if password else []
        return expanded, redacted(visible)

    def _value(self, match: re.Match[str], path: KeyPath) -> tuple[str, bool]:
        """Return what a reference stands for, and whether it is secret."""
        if match["name"]:
            value = self._variables.get(match["name"])
            if value is None:
                text = f"the environment variable {match['name']} is not set; for the text itself, write ${match[0]}"
                self.problems.append(Problem(path, text))
                return match[0], False
            return value, bool(_SECRET_NAME.search(match["name"]))
        if match["file"]:
            key = ".".join(map(str, path))
            try:
                file = self._folder / expanded_setting(match["file"], key=key)
                return read_text("cannot read", file, key=key).strip(), True
            except ConfigError as error:
                self.problems.append(Problem(path, error.message.removeprefix(f"{key}: ")))
                return match[0], False
        return "$", False
