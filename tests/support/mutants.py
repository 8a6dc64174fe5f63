"""Mutants: ways to break the engine on purpose, which show that a model detects errors."""

from pushengine.pipeline import target_table
from pushengine.pipeline.keys.guard import KeyGuard
from pushengine.schema import candidates, conform, conversions, drift, inference


async def know_no_table(self):
    """Treat every table as new."""


real_known = target_table.TargetTable.known


async def know_no_table_that_is_replaced(self):
    return None if self._context.target.mode == "replace" else await real_known(self)


def nothing(*args, **kwargs):
    """Do nothing, and find nothing wrong."""


async def nothing_async(*args, **kwargs):
    """Do nothing, as a coroutine function."""


def any_type_is_a_key(arrow_type, *, is_text, formats):
    return conversions.conversions_of(arrow_type, is_text=is_text, formats=formats)


real_position = inference.position_of


def position_of_the_next_row(source, index, name):
    return real_position(source, index + 1, name)


def not_renamed(self, names):
    return {}


MUTANTS = {
    "every table is new": [(target_table.TargetTable, "known", know_no_table)],
    "a replaced table is new": [(target_table.TargetTable, "known", know_no_table_that_is_replaced)],
    "nothing is remembered": [(target_table.TargetTable, "remember", nothing)],
    "a table that was changed meanwhile is not noticed": [
        (target_table.TargetTable, "require_unchanged", nothing_async)
    ],
    "lengths are not checked": [(inference, "too_long", nothing), (conform, "too_long", nothing)],
    "any type may be a key": [(candidates, "key_conversions", any_type_is_a_key)],
    "missing keys are not noticed": [(inference, "require_key", nothing), (conform, "require_key", nothing)],
    "equal keys are not noticed": [(KeyGuard, "is_checked", property(nothing))],
    "the drift policy is not applied": [(drift.ColumnMatcher, "require_allowed", nothing)],
    "renames are ignored": [(drift.ColumnMatcher, "_renamed", not_renamed)],
    "errors name the next row": [(inference, "position_of", position_of_the_next_row)],
    "changes are not told": [(inference, "describe_changes", lambda *args: ())],
}
"""What is broken -> (module or class, attribute, replacement) of each part."""


def break_engine(name, monkeypatch):
    """Break the engine in one of these ways until the end of the test."""
    for place, attribute, mutant in MUTANTS[name]:
        monkeypatch.setattr(place, attribute, mutant)
