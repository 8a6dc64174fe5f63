"""Colors for the results of commands on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.theme import Theme


class _LineHighlighter(RegexHighlighter):
    """Highlights parts of the lines of `describe_*` functions on a terminal."""

    base_style = "line."
    highlights = (
        r"^(?P<good>DONE|ok)(?P<bad> with rejects)?(?=  )(?P<name>  \S+)?",
        r"^(?P<head>PLAN|job)(?=  )",
        r"^(?P<bad>FAILED|error:|bug:|interrupted:)",
        r"^(?P<hint>hint:|state:|skipped)",
        r"^  (?P<label>[a-z][a-z ]{1,8})(?= {2,})",
        r"(?P<bar>[\u2588#]+)$",
        r"^ {8,}(?P<remedy>-> .*)$",
    )


_THEME = Theme(
    {
        "line.good": "bold green",
        "line.name": "bold",
        "line.head": "bold cyan",
        "line.bad": "bold red",
        "line.hint": "bold yellow",
        "line.remedy": "yellow",
        "line.label": "dim",
        "line.bar": "cyan",
    }
)


def print_lines(lines: Sequence[str], stream: TextIO) -> None:
    """Print the lines of a `describe_*` function, with colors if the stream is a terminal that supports them."""
    console = Console(
        file=stream, theme=_THEME, highlighter=_LineHighlighter(), markup=False, emoji=False, soft_wrap=True
    )
    for line in lines:
        console.print(line)
