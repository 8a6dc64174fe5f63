"""`help` and `completion`: the manual that ships with the package, and what shells need to complete words."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pushengine.cli import options, runner, terminal
from pushengine.cli.help import completion, pages
from pushengine.errors import ConfigError
from pushengine.text import shown_name

_NARROWEST = 40
TopicArgument = Annotated[
    str | None, typer.Argument(metavar="[TOPIC]", help="What to read; otherwise a list of topics.")
]


def manual(topic: TopicArgument = None) -> None:
    """Show a page of the manual: files, types, tables, loads, quota, exit codes, every setting and more."""

    async def body(_interrupts: runner.Interrupts) -> None:
        if topic is None:
            terminal.print_result(_list())
            return
        word = topic.casefold().removesuffix(".md")
        if word not in pages.TOPICS:
            from pushengine.config.problems import did_you_mean

            raise ConfigError(
                f"no topic {shown_name(topic)}{did_you_mean(word, pages.TOPICS)}",
                key="TOPIC",
                hint=f"one of {', '.join(pages.TOPICS)}; pushengine COMMAND --help explains a command",
            )
        _show(pages.page(word))

    runner.run(body)


def complete(
    shell: Annotated[options.ShellName, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print a script with which a shell completes commands, options and names of loads."""

    async def body(_interrupts: runner.Interrupts) -> None:
        terminal.print_result(completion.SCRIPTS[shell.value].splitlines())

    runner.run(body)


def _list() -> list[str]:
    titles = pages.titles()
    width = max(map(len, titles))
    return [
        "pushengine help TOPIC shows a page of the manual:",
        "",
        *(f"  {topic:<{width}}  {title}" for topic, title in titles.items()),
        "",
        "pushengine COMMAND --help explains a command.",
    ]


def _show(text: str) -> None:
    """Show Markdown: rendered and with a pager on a terminal, otherwise as it is."""
    if not sys.stdout.isatty():
        terminal.print_result(text.rstrip("\n").splitlines())
        return
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "FRX")  # as git sets it: colors, and no pager for a text that fits the screen
    console = Console()
    console.width = max(min(console.width, 120), _NARROWEST)
    with terminal.ignoring_broken_pipe(), console.pager(styles=console.is_terminal and "NO_COLOR" not in os.environ):
        console.print(Markdown(text))
