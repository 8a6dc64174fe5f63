"""Ways to continue with a text file, as flags of the command line."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pushengine.config.csv_settings import NO_QUOTE
from pushengine.text import shown_text

_WORD = re.compile(r"[A-Za-z0-9][\w.-]*")
_NAMES = {"\t": "tab", " ": "blank"}


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to read a file.

    Attributes:
        purpose: When it is the right one: `if line 1 is a row`.
        settings: Names of `config.CsvSettings` and their values.
        is_last_resort: Whether it is worth a try only if the ways before it do not work.
    """

    purpose: str
    settings: Mapping[str, Any]
    is_last_resort: bool = False


def working(ways: Iterable[Way], leads_on: Callable[[Mapping[str, Any]], bool], *, most: int = 2) -> list[Way]:
    """Return the first ways that work.

    Args:
        ways: The ways, the most likely first.
        leads_on: Whether the file can be read with these settings in addition to those given.
        most: Maximum number of ways.
    """
    found: list[Way] = []
    tried: list[Mapping[str, Any]] = []
    for way in ways:
        if len(found) == most:
            break
        if (way.is_last_resort and found) or way.settings in tried:
            continue
        tried.append(way.settings)
        if leads_on(way.settings):
            found.append(way)
    return found


def with_names(
    ways: Iterable[Way], names: Sequence[str], leads_on: Callable[[Mapping[str, Any]], bool]
) -> Iterator[Way]:
    """Yield the ways; those that number the columns of a file without a header line name them like the table's, where that works."""
    for way in ways:
        named = {name: value for name, value in way.settings.items() if name != "header"} | {"names": tuple(names)}
        can_be_named = way.settings.get("header") is False and names and not any("," in name for name in names)
        yield dataclasses.replace(way, settings=named) if can_be_named and leads_on(named) else way


def hint_of(ways: Iterable[Way]) -> str:
    """Return ways as a hint: `if line 1 is a row: --no-header; if it does hold the column names: --header`."""
    return "; ".join(f"{way.purpose}: {flags(way.settings)}" for way in ways)


def flags(settings: Mapping[str, Any]) -> str:
    """Return settings as flags that can be pasted into a shell: `--skip-lines 2 --delimiter ';'`."""
    return " ".join(_flag(name.replace("_", "-"), value) for name, value in settings.items())


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    text = _escaped(",".join(value) if isinstance(value, list | tuple) else str(value)) or NO_QUOTE
    if text == "'":
        return f'--{name} "{text}"'
    plain = shlex.quote(text)
    return f"--{name} {plain}" if plain != text or _WORD.fullmatch(text) else f"--{name} '{text}'"


def _escaped(text: str) -> str:
    r"""Return a text without characters that a terminal does not show: a tab is `\t`, ^A is `\x01`."""
    return "".join(c if c.isprintable() else r"\t" if c == "\t" else f"\\x{ord(c):02x}" for c in text)


def quoted(text: str) -> str:
    """Return a text of a file as a message shows it: in single quotes, with escapes for what cannot be seen."""
    return _NAMES.get(text) or f"'{shown_text(text)}'"
