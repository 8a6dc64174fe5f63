"""The examples of the manual and of the README: code blocks, and the commands in them and in the text."""

import dataclasses
import re
import shlex
from pathlib import Path

import typer.main

from pushengine.cli import options
from pushengine.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "pushengine" / "manual").glob("*.md"))}
_BLOCK = re.compile(r"^(<!--[^\n]*-->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(pushengine(?: [^`]*)?)`")
_REDIRECTION = re.compile(r"\d?>{1,2}|<")


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block: its language, its text, and whether a tag says why it is not run."""

    language: str
    text: str
    is_run: bool


def blocks_of(path):
    """Return the code blocks of a page."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(language, body, not (tag or "").startswith("<!-- not run:"))
        for tag, language, body in _BLOCK.findall(text)
    ]


def commands_of(path):
    """Return the commands in the shell blocks of a page, and those in its text, each as a list of words after `pushengine`."""
    text = path.read_text(encoding="utf-8")
    whole = [
        command
        for block in blocks_of(path)
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
        for command in commands_in(line)
    ]
    mentioned = [
        command
        for inline in _INLINE.findall(_BLOCK.sub("", text))
        for command in commands_in(inline.replace("\n", " "))
    ]
    return whole, mentioned


def commands_in(line):
    """Yield the words of each call of pushengine in a line of shell."""
    lexer = shlex.shlex(line.replace("$(", " ; ").replace(")", " ; "), posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    current = None
    for word in [*lexer, ";"]:
        if word in {";", "|", "&&", "||", "then", "&"} or _REDIRECTION.fullmatch(word):
            if current is not None:
                yield current
            current = None
        elif current is not None:
            current.append(word)
        elif word == "pushengine" or word.endswith("/pushengine"):
            current = []


def parse(words, *, is_whole):
    """Parse a command as the command line would, without running it.

    Args:
        words: The words after the program name.
        is_whole: Whether the command is complete; if not, only its name and its flags have to exist.
    """
    command = typer.main.get_command(app)
    path, rest = [], options.join_optional_value([word for word in words if word not in {"[TOPIC]", "..."}])
    while rest and rest[0] in getattr(command, "commands", {}):
        path.append(rest[0])
        command = command.commands[rest.pop(0)]
    if getattr(command, "commands", {}) and rest and not rest[0].startswith("-"):
        assert rest[0].isupper(), f"no command {' '.join([*path, rest[0]])}"  # `pushengine COMMAND --help`
        return
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        name = word.partition("=")[0]
        assert not word.startswith("--") or name in known | {"--help"}, f"{' '.join(path)} has no {name}"
    if is_whole and "--help" not in rest:
        command.make_context(" ".join(path) or "pushengine", list(rest), resilient_parsing=not path)
