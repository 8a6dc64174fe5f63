"""Fit texts into columns of a terminal. Widths are in cells: a wide character, such as a Chinese one, takes two."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from pushengine.text import shown_line

WIDTH = 80
"""Columns of a line where there is no terminal."""
_NARROWEST_TERMINAL = 40
_GAP = 2
_NARROWEST = 8
_READABLE = 18
_LONGEST_CELL = 300


def terminal_width() -> int:
    """Return the width of the terminal that stdout is, in cells; 80 if stdout is none."""
    return max(shutil.get_terminal_size((WIDTH, 24)).columns, _NARROWEST_TERMINAL)


def fit(text: str, width: int) -> str:
    """Return a text cut to `width` cells, with `…` in place of what is left out."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1).rstrip()}…" if width > 0 else ""


def fit_middle(text: str, width: int) -> str:
    """Return a text cut to `width` cells that keeps its beginning and its end, such as of a path."""
    if cell_len(text) <= width or width < _NARROWEST:
        return fit(text, width)
    tail = text
    while cell_len(tail) > (width - 1) // 2:
        tail = tail[1:]
    return f"{set_cell_size(text, width - 1 - cell_len(tail)).rstrip()}…{tail}"


def pad(text: str, width: int, *, is_number: bool = False) -> str:
    """Return a text that takes exactly `width` cells: cut, or filled up on the right, on the left if it is a number."""
    text = fit(text, width)
    blanks = " " * (width - cell_len(text))
    return f"{blanks}{text}" if is_number else f"{text}{blanks}"


def wrapped(text: str, width: int, indent: str = "", first: str | None = None) -> list[str]:
    """Return a text as lines of at most `width` cells; words that are too long are cut into pieces.

    The lines begin with `indent`, the first of them with `first` if it is given.
    """
    lines: list[str] = []
    line, rest, indent = "", indent, indent if first is None else first
    for word in shown_line(text).split(" "):
        if line and cell_len(f"{indent}{line} {word}") > width:
            lines.append(indent + line)
            line, indent = word, rest
        else:
            line = f"{line} {word}" if line else word
        while cell_len(indent + line) > width:
            head = line[: max(width - len(indent), 1)]
            while len(head) > 1 and cell_len(indent + head) > width:
                head = head[:-1]
            lines.append(indent + head)
            line, indent = line[len(head) :], rest
    return [*lines, indent + line] if line or not lines else lines


def table(
    lines: Sequence[Sequence[str]],
    *,
    width: int = WIDTH,
    numbers: Sequence[int] = (),
    fixed: Sequence[int] = (),
    optional: Sequence[int] = (),
) -> list[str]:
    """Align rows of cells into columns that fit a width.

    Args:
        lines: The rows; the first one holds the headings.
        width: Cells that a line may take. The widest columns are cut, down to `_NARROWEST` cells each.
        numbers: Columns that are aligned to the right.
        fixed: Columns that are never cut, such as ids that a person copies.
        optional: Columns that are left out, the first one first, as long as others would have to be cut to less than `_READABLE` cells.
    """
    shown = [[shown_line(cell, _LONGEST_CELL) for cell in line] for line in lines]
    widths = [max(cell_len(line[column]) for line in shown) for column in range(len(shown[0]))]
    columns = list(range(len(widths)))
    for column in optional:
        if _line_width(widths[one] if one in fixed else min(widths[one], _READABLE) for one in columns) > width:
            columns.remove(column)
    fitted = fitted_widths(
        [widths[column] for column in columns],
        width,
        fixed=[place for place, column in enumerate(columns) if column in fixed],
    )
    return [
        (" " * _GAP)
        .join(
            pad(line[column], size, is_number=column in numbers) for column, size in zip(columns, fitted, strict=True)
        )
        .rstrip()
        for line in shown
    ]


def in_blocks(lines: Sequence[Sequence[str]], *, width: int = WIDTH) -> list[list[str]]:
    """Align rows of many cells into blocks of lines, one below the other, each with as many columns as fit a width."""
    shown = [[shown_line(cell, _LONGEST_CELL) for cell in line] for line in lines]
    blocks: list[list[int]] = []
    taken = 0
    for column in range(len(shown[0])):
        size = min(max(cell_len(line[column]) for line in shown), width)
        if not blocks or taken + _GAP + size > width:
            blocks.append([])
            taken = -_GAP
        blocks[-1].append(column)
        taken += _GAP + size
    return [table([[line[column] for column in block] for line in shown], width=width) for block in blocks]


def _line_width(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def fitted_widths(
    widths: Sequence[int], width: int, *, fixed: Sequence[int] = (), least: Mapping[int, int] | None = None
) -> list[int]:
    """Return the widths of columns, of which the widest are narrowed until all fit a line of `width` cells."""
    found, least = list(widths), least or {}
    while _line_width(found) > width:
        column = max(
            (
                number
                for number in range(len(found))
                if number not in fixed and found[number] > least.get(number, _NARROWEST)
            ),
            key=found.__getitem__,
            default=None,
        )
        if column is None:
            break
        found[column] -= 1
    return found
