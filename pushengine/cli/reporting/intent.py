"""What a run of loads would do, for `load --dry-run`."""

from __future__ import annotations

from collections.abc import Sequence

from pushengine.cli.reporting.cells import table, terminal_width, wrapped
from pushengine.loads.items import Item
from pushengine.text import format_bytes, format_count

_WORDS = {"planned": "would load"}


def describe_intent(items: Sequence[Item], *, width: int | None = None) -> list[str]:
    """Describe what each load would do, and why some would do nothing.

    Args:
        items: What a run would do, in its order.
        width: Cells of a line; None means the width of the terminal, or 80.
    """
    width = width or terminal_width()
    rows = [("LOAD", "MODE", "GENERATION", "FILES", "SIZE", "WHAT")]
    for item in items:
        mode = "-" if item.settings is None else item.settings.mode
        size = format_bytes(item.nbytes) if item.files else "-"
        what = _WORDS.get(item.row.state, item.row.state)
        rows.append((item.name, mode, item.row.generation or "-", f"{len(item.row.files):,}", size, what))
    lines = table(rows, width=width, numbers=(3, 4), fixed=(5,), optional=(1,))
    planned = [item for item in items if item.row.state == "planned"]
    nbytes = sum(item.nbytes for item in planned)
    lines += ["", f"{format_count(len(planned), 'push', 'pushes')}, {format_bytes(nbytes)}; nothing was sent"]
    for item in items:
        if item.row.reason:
            lines += wrapped(f"{item.row.state}  {item.name}: {item.row.reason}", width, "    ", first="")
    return lines
