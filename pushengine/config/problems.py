"""Describes what is wrong with settings, in the words of a config file and without their values, which may be secrets."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pushengine.text import shown_name

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_MAX_SHOWN = 5
_MAX_KEY = 80
_KINDS: Mapping[str, str] = {
    "model_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "a text",
    "string_unicode": "UTF-8 text",
    "path_type": "a path",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
_BRANCHES = ("int", "float")
"""Names that pydantic adds to the place of a value that may have several types."""

KeyPath = tuple[str | int, ...]
"""Where a value stands in a config file: `("load", 0, "tables", "VBAP", "keys")`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config file.

    Attributes:
        path: Where it is.
        text: What is wrong, without the value.
        load: Name of the load or rule that it is about; empty for none.
    """

    path: KeyPath
    text: str
    load: str = ""

    def below(self, *path: str | int) -> Problem:
        """Return the same problem of a value that stands below another."""
        return dataclasses.replace(self, path=(*path, *self.path))

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.load and f"load {shown_name(self.load)}", self.key, self.text]))

    @property
    def key(self) -> str:
        """The key for people, without the numbers of lists: `load.tables.VBAP.keys`."""
        return ".".join(_shown_key(part) for part in self.path if isinstance(part, str))


def problems_of(model: type[BaseModel], error: ValidationError) -> tuple[str, str]:
    """Return the key of the first problem, and a description of the first few."""
    found = listed_problems(model, error)
    texts = [_described(one) for one in itertools.islice(found, _MAX_SHOWN)]
    more = len(found) - _MAX_SHOWN
    return _joined(found[0].path), "; ".join(texts) + (f"; and {more:,} more" if more > 0 else "")


def listed_problems(model: type[BaseModel], error: ValidationError) -> list[Problem]:
    """Return all problems that a model has found with its values, one for each key."""
    found: dict[str, Problem] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        loc = tuple(part for number, part in enumerate(problem["loc"]) if not number or part not in _BRANCHES)
        message, kind = problem["msg"], problem["type"]
        if kind == "extra_forbidden":
            text = f"unknown key{_suggestion(model, loc)}"
        else:
            text = f"input should be {_KINDS[kind]}" if kind in _KINDS else f"{message[:1].lower()}{message[1:]}"
        found.setdefault(_joined(loc), Problem(loc, text))
    return list(found.values())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion for a name that is not known; empty if no known name is like it."""
    close = difflib.get_close_matches(name[:_MAX_KEY], list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _described(problem: Problem) -> str:
    key = _joined(problem.path)
    if problem.text.startswith("unknown key"):
        return f"unknown key {key}{problem.text.removeprefix('unknown key')}"
    return f"{key}: {problem.text}" if key else problem.text


def _joined(loc: KeyPath) -> str:
    return ".".join(_shown_key(str(part)) for part in loc)


def _shown_key(part: str) -> str:
    return shown_name(part if len(part) <= _MAX_KEY else f"{part[:_MAX_KEY]}…")


def _suggestion(model: type[BaseModel], loc: KeyPath) -> str:
    known: Any = model.model_fields
    for part in loc[:-1]:
        known = getattr(known[str(part)].annotation, "model_fields", None) if str(part) in known else None
        if known is None:
            return ""
    return did_you_mean(str(loc[-1]), known)
