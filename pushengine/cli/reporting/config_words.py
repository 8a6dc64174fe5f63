"""Flags of `push` that a message names, as the keys of a load in the config file."""

from __future__ import annotations

import json
import re

_FLAG = re.compile(r"--(no-)?([a-z][a-z-]*)(?: ((?:'[^']*'|[^\s'\";()|`])+))?")
_KEYS = {"key": "keys", "column": "columns", "columns": "columns_file"}
_SWITCHES = ("allow_empty", "header", "trim", "zero_date_null")
_LISTS = ("names", "null", "date_format", "keys", "select", "exclude")
_PAIRS = ("columns", "rename")
_NUMBERS = ("skip_lines", "skip_footer", "min_rows", "max_drop", "max_rejects")
_OTHERS = ("columns_file", "mode", "format", "order_by")


def in_config_words(text: str) -> str:
    """Return a message in which flags such as `--skip-lines 2` are keys of the config file: `skip_lines = 2`.

    Flags of other commands, which no load has as a key, stay as they are.
    """
    return _FLAG.sub(_in_config_words, text)


def _in_config_words(found: re.Match[str]) -> str:
    from pushengine.config.csv_settings import CSV_SETTINGS  # noqa: PLC0415 - only a failure needs it
    from pushengine.config.settings import PUSH_SETTINGS  # noqa: PLC0415

    name, value = found[2].replace("-", "_"), found[3]
    key = _KEYS.get(name, name)
    if key in _SWITCHES:  # what follows a switch is not its value
        return f"{key} = {'false' if found[1] else 'true'}{'' if value is None else f' {value}'}"
    if found[1] or key not in {*PUSH_SETTINGS, *CSV_SETTINGS, *_OTHERS, *_LISTS, *_PAIRS}:
        return found[0]
    if value is None:
        return key
    comma = "," if len(value) > 1 and value.endswith(",") else ""
    word = value.removesuffix(comma).strip("'")
    return f"{key} = {_toml(key, word)}{comma}"


def _toml(key: str, word: str) -> str:
    """Return a value as the config file spells it."""
    if key in _PAIRS:
        column, _, other = word.rpartition("=")
        return f"{{ {_quoted(column)} = {_quoted(other)} }}"
    if key in _LISTS:
        return f"[{', '.join(map(_quoted, [word] if key == 'date_format' else word.split(',')))}]"
    return word if key in _NUMBERS and re.fullmatch(r"[0-9]+(\.[0-9]+)?", word) else _quoted(word)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
