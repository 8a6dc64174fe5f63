"""Checks the tables of a config file one by one, and collects everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pushengine.config.load import LOADS_TABLES, ConfigFile, ReadFile
from pushengine.config.loads.models import LATER_KEYS
from pushengine.config.loads.precedence import Level
from pushengine.config.problems import KeyPath, Problem, did_you_mean, listed_problems
from pushengine.config.settings import PUSH_SETTINGS, EngineSettings
from pushengine.errors import ConfigError
from pushengine.schema.rules import RequestedType

Model = TypeVar("Model", bound=BaseModel)
_LATER = "is not known yet: loads from databases need a later version"


class TableReader:
    """Reads tables of a config file. A value that is wrong is left out, so that the others can be checked.

    Attributes:
        read: The file.
        problems: Everything that was found to be wrong.
    """

    def __init__(self, read: ReadFile) -> None:
        self.read = read
        self.problems: list[Problem] = []
        self._settings = EngineSettings()

    def whole_file(self) -> ConfigFile:
        """Return the settings besides the loads."""
        values = dict(self.read.expansion.values)
        tables = (*ConfigFile.model_fields, *LOADS_TABLES)
        for name in set(values) - set(tables):
            del values[name]
            self.problems.append(Problem((name,), f"unknown key{did_you_mean(name, tables)}"))
        return self._valid(ConfigFile, {name: one for name, one in values.items() if name not in LOADS_TABLES}, ())

    def found(self, path: KeyPath) -> tuple[Any, Any]:
        """Return the value that stands somewhere in the file, and the form of it that may be shown; None if there is none."""
        values: Any = self.read.expansion.values
        shown: Any = self.read.expansion.shown
        for part in path:
            try:
                values, shown = values[part], shown[part]
            except (KeyError, IndexError, TypeError):
                return None, None
        return values, shown

    def listed(self, name: str) -> Iterator[int]:
        """Iterate over the numbers of the tables in a list of tables, such as `[[load]]`."""
        value, _ = self.found((name,))
        if value is None:
            return
        if not isinstance(value, list):
            self.problems.append(Problem((name,), f"input should be a list of tables: write [[{name}]]"))
            return
        yield from range(len(value))

    def rule_at(self, path: KeyPath) -> str:
        """Return the name of the load that a place in the file belongs to, or its number; empty if it belongs to none."""
        if len(path) < 2 or path[0] != "load" or not isinstance(path[1], int):  # noqa: PLR2004
            return ""
        name, _ = self.found((*path[:2], "name"))
        return name if isinstance(name, str) and name else f"{path[1] + 1} (without a name)"

    def named(self, path: KeyPath) -> Iterator[str]:
        """Iterate over the names of the tables in a table, such as `[targets.X]`."""
        value, _ = self.found(path)
        if isinstance(value, Mapping):
            yield from value
        elif value is not None:
            self.problems.append(Problem(path, "input should be a table of tables"))

    def model(self, model: type[Model], path: KeyPath, load: str = "") -> Model | None:
        """Return a table as a model, without the values that are wrong; None if it is not a table or lacks a required key."""
        values, _ = self.found(path)
        if not isinstance(values, Mapping):
            self.problems.append(Problem(path, "input should be a table", load))
            return None
        try:
            # Tables within a table of this kind are read one by one, each as the table that it is.
            return self._valid(model, {name: one for name, one in values.items() if name != "tables"}, path, load)
        except ValidationError:  # a required key is missing or wrong
            return None

    def level(self, model: type[BaseModel], path: KeyPath, origin: str, load: str = "") -> Level:
        """Return the settings of loads that a table gives; none if it does not exist."""
        values, shown = self.found(path)
        if values is None:
            return Level(path, origin, {}, {})
        given = self._settings_of(path, load) if isinstance(values, Mapping) else {}
        checked = self.model(model, path, load)
        if checked is not None:
            own = {name: getattr(checked, name) for name in checked.model_fields_set - set(PUSH_SETTINGS)}
            given.update({name: value for name, value in own.items() if value is not None})
        self._check_types(given, path, load)
        return Level(path, origin, given, shown if isinstance(shown, Mapping) else {})

    def _valid(self, model: type[Model], values: dict[str, Any], path: KeyPath, load: str = "") -> Model:
        """Return a model without the values that are wrong.

        Raises:
            ValidationError: A required value is missing or wrong.
        """
        later = [name for name in LATER_KEYS if name in values and name not in model.model_fields]
        for name in later if path and path[0] in ("defaults", "load") else ():
            del values[name]
            self.problems.append(Problem((*path, name), _LATER, load))
        try:
            return model.model_validate(values)
        except ValidationError as error:
            found = listed_problems(model, error)
            self.problems += [Problem((*path, *one.path), one.text, load) for one in found]
            wrong = {one.path[0] for one in found if one.path}
            return model.model_validate({name: one for name, one in values.items() if name not in wrong and wrong})

    def _settings_of(self, path: KeyPath, load: str) -> dict[str, Any]:
        """Return those settings of a push that are right."""
        values, _ = self.found(path)
        given: dict[str, Any] = {}
        for name in PUSH_SETTINGS:
            if name not in values:
                continue
            try:
                self._settings.with_overrides({name: values[name]})
            except ConfigError as error:
                text = error.message.removeprefix(f"{name}: ")
                self.problems.append(Problem((*path, name), text, load))
            else:
                given[name] = values[name]
        return given

    def _check_types(self, given: dict[str, Any], path: KeyPath, load: str) -> None:
        types = given.get("columns") or {}
        for name, text in list(types.items()):
            try:
                RequestedType.parse(text)
            except ValueError as error:
                self.problems.append(Problem((*path, "columns", name), str(error), load))
                del types[name]
