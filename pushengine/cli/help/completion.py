"""Completion in shells: the scripts that shells load, and the words that they ask for.

A script calls `pushengine` with the words of the line so far as arguments, the last of which is to be completed, and with
`_PUSHENGINE_COMPLETE=1` in the environment. pushengine prints one candidate a line; without candidates, the shell completes names of files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pushengine.cli.help.pages import TOPICS

VARIABLE = "_PUSHENGINE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_BASH = """\
_pushengine() {
    local IFS=$'\\n'
    COMPREPLY=($(_PUSHENGINE_COMPLETE=1 "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _pushengine pushengine
"""
_ZSH = """\
#compdef pushengine
_pushengine() {
    local -a found
    found=("${(@f)$(_PUSHENGINE_COMPLETE=1 "$words[1]" "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then
        compadd -- "${found[@]}"
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _pushengine ]]; then
    _pushengine "$@"
else
    compdef _pushengine pushengine
fi
"""
_FISH = """\
function __pushengine_words
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    env _PUSHENGINE_COMPLETE=1 $words[1] $words[2..-1] "$current" 2>/dev/null
end
complete -c pushengine -a '(__pushengine_words)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def candidates(root: Any, words: Sequence[str]) -> list[str]:
    """Return the words that may stand in the place of the last one.

    Args:
        root: The click command of the whole command line.
        words: The words after the program name; the last one may be empty or incomplete.
    """
    words = _joined(words) or [""]
    *before, last = words
    command, place, pending = _walk(root, before)
    if pending is not None:
        return _values(command, pending, last)
    if last.startswith("--") and "=" in last:
        name, _, value = last.partition("=")
        option = _options(command).get(name)
        takes_value = option is not None and not option.is_flag
        return [f"{name}={one}" for one in _values(command, option, value)] if takes_value else []
    if last.startswith("-"):
        return _fitting([name for name in _options(command) if name.startswith("--")], last)
    children = getattr(command, "commands", None)
    if children:
        return _fitting([name for name, child in children.items() if not child.hidden], last)
    return _fitting(_arguments(place, before), last)


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words of a line that bash has split at `=`: `--mode`, `=`, `up` has the same candidates as `--mode`, `up`."""
    kept = [word for word in words if word != "="]
    return [*kept, ""] if words and words[-1] == "=" else kept


def _walk(root: Any, words: Iterable[str]) -> tuple[Any, str, Any]:
    """Return the command that the words name, its words, and the option that waits for its value, if any."""
    command, place, pending = root, "", None
    for word in words:
        if pending is not None:
            pending = None
        elif word.startswith("-"):
            option = _options(command).get(word.partition("=")[0])
            takes_value = option is not None and not option.is_flag and "=" not in word
            pending = option if takes_value else None
        elif word in getattr(command, "commands", {}):
            command, place = command.commands[word], f"{place} {word}".strip()
    return command, place, pending


def _options(command: Any) -> dict[str, Any]:
    found = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            found.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], parameter))
    help_names = command.context_settings.get("help_option_names", ["--help"])
    return found | {name: _Flag() for name in help_names}


class _Flag:
    is_flag = True


def _values(command: Any, option: Any, start: str) -> list[str]:
    """Return the values that an option may have and that begin with `start`; empty for names of files and all other text."""
    with command.make_context(command.name, [], resilient_parsing=True) as context:
        return [item.value for item in option.shell_complete(context, start) if item.type == "plain"]


def _arguments(place: str, before: Sequence[str]) -> Iterable[str]:
    if place == "help":
        return TOPICS
    if place == "completion":
        return SHELLS
    if place in {"load", "config show"}:
        return _names_of_loads(before)
    return ()


def _names_of_loads(before: Sequence[str]) -> Iterator[str]:
    """Yield the names of the rules of the config file, and of the loads with settings of their own; nothing if it cannot be read."""
    import tomllib

    from pushengine.config.load import find_file, given_variables
    from pushengine.errors import ConfigError

    given = next((after for word, after in itertools.pairwise(before) if word == "--config"), None)
    try:
        path = find_file(Path(given) if given else None, given_variables(None))
        rules = tomllib.loads(path.read_text(encoding="utf-8")).get("load", []) if path else []
        for rule in rules:
            yield str(rule["name"])
            yield from (f"{rule['name']}.{table}" for table in rule.get("tables", {}))
    except (ConfigError, OSError, ValueError, LookupError, TypeError, AttributeError):
        return


def _fitting(words: Iterable[str], start: str) -> list[str]:
    return [word for word in words if word.startswith(start)]
