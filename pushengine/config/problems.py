"""Describes what is wrong with settings, in the words of a config file and without their values, which may be secrets."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping
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


def problems_of(model: type[BaseModel], error: ValidationError) -> tuple[str, str]:
    """Return the key of the first problem, and a description of the first few."""
    found: dict[str, Any] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        loc = [part for number, part in enumerate(problem["loc"]) if not number or part not in _BRANCHES]
        found.setdefault(".".join(_shown_key(str(part)) for part in loc), {**problem, "loc": loc})
    texts = [_described(model, key, problem) for key, problem in itertools.islice(found.items(), _MAX_SHOWN)]
    more = len(found) - _MAX_SHOWN
    return next(iter(found)), "; ".join(texts) + (f"; and {more:,} more" if more > 0 else "")


def _described(model: type[BaseModel], key: str, problem: Mapping[str, Any]) -> str:
    message, kind = problem["msg"], problem["type"]
    if kind == "extra_forbidden":
        return f"unknown key {key}{_suggestion(model, problem['loc'])}"
    text = f"input should be {_KINDS[kind]}" if kind in _KINDS else f"{message[:1].lower()}{message[1:]}"
    return f"{key}: {text}" if key else text


def _shown_key(part: str) -> str:
    return shown_name(part if len(part) <= _MAX_KEY else f"{part[:_MAX_KEY]}…")


def _suggestion(model: type[BaseModel], loc: list[int | str]) -> str:
    known: Mapping[str, Any] = model.model_fields
    for part in loc[:-1]:
        known = known[str(part)].annotation.model_fields
    close = difflib.get_close_matches(str(loc[-1])[:_MAX_KEY], known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
