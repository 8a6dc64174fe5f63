"""Which loads of a config file a command is about."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
from collections.abc import Sequence

from pushengine.config.loads.resolved import Loads, Rule
from pushengine.errors import ConfigError
from pushengine.text import shown_name


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The selected loads.

    Attributes:
        names: The names that were given: `RULE`, `RULE.TABLE`, or a pattern of these; empty for all.
        tag: The tag that was given; empty for none.
        rules: The rules with at least one selected load, in the order of the config file.
    """

    names: tuple[str, ...]
    tag: str
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, loads: Loads, names: Sequence[str] = (), tag: str = "") -> Selection:
        """Select the loads that names and a tag stand for.

        Raises:
            ConfigError: There is no `[[load]]`, or no rule for a name or for the tag.
        """
        if not loads.rules:
            raise ConfigError(
                f"{shown_name(str(loads.path))} has no [[load]]",
                key="load",
                hint="`pushengine init FOLDER` writes a config file from a folder of extracts",
            )
        for name in names:
            if not any(_may_select(name, rule) for rule in loads.rules):
                raise _no_such_load(name, loads)
        rules = tuple(
            rule
            for rule in loads.rules
            if (not names or any(_may_select(name, rule) for name in names)) and (not tag or tag in rule.tags)
        )
        if not rules:
            known = sorted({each for rule in loads.rules for each in rule.tags})
            raise ConfigError(
                f"no load has the tag {shown_name(tag)}",
                key="--tag",
                hint=f"there is: {', '.join(known)}" if known else 'add tags = ["..."] to a [[load]]',
            )
        return cls(tuple(names), tag, rules)

    def has(self, rule: str, table: str) -> bool:
        """Whether a load is selected."""
        if rule not in {each.name for each in self.rules}:
            return False
        return not self.names or any(_selects(name, rule, table) for name in self.names)

    @property
    def is_whole(self) -> bool:
        """Whether every load of every rule of the selection is selected."""
        return not any("." in name for name in self.names)

    def unmatched(self, found: Sequence[tuple[str, str]]) -> list[str]:
        """Return the names that select none of the loads (rule, table) that were found."""
        return [name for name in self.names if not any(_selects(name, *load) for load in found)]


def _may_select(name: str, rule: Rule) -> bool:
    """Whether a name can select a load of a rule, whatever its tables are."""
    if _is_match(rule.name, name):
        return True
    head, dot, table = name.partition(".")
    if not dot or not _is_match(rule.name, head):
        return False
    return rule.table is None or _is_match(rule.table, table)


def _selects(name: str, rule: str, table: str) -> bool:
    return _is_match(rule, name) or _is_match(f"{rule}.{table}", name)


def _is_match(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text.casefold(), pattern.casefold())


def _no_such_load(name: str, loads: Loads) -> ConfigError:
    known = [rule.name for rule in loads.rules]
    close = difflib.get_close_matches(name.partition(".")[0], known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there is: {', '.join(map(shown_name, known))}"
    return ConfigError(f"no load {shown_name(name)} in {shown_name(str(loads.path))}", key="NAME", hint=hint)
