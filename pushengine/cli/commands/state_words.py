"""What is remembered of loads, in words for people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pushengine.text import format_count, labelled, shown_text

_MOST_FILES = 10


def describe_loads(loads: Sequence[Mapping[str, Any]], state_dir: Path, *, is_short: bool) -> list[str]:
    """Describe loads; `is_short` leaves out files that are loaded."""
    if not loads:
        return [f"nothing is remembered of loads yet in {state_dir}"]
    lines: list[str] = []
    for load in loads:
        lines += [*([""] if lines else []), *_describe(load, is_short=is_short)]
    return lines


def _describe(load: Mapping[str, Any], *, is_short: bool) -> list[str]:
    expected, cursor, files = load["expected"], load["cursor"], load["files"]
    rows: list[tuple[str, str]] = []
    if expected is None:
        rows.append(("expected", "no"))
    else:
        generation = f"generation {expected['generation']}, " if expected["generation"] else ""
        rows.append(("loaded", f"{generation}{expected['loaded_at']}"))
        rows.append(("push", expected["push_id"]))
    if cursor is not None:
        rows.append(("cursor", f"{cursor['value']} ({cursor['type']}), {cursor['at']}"))
    for block in load["blocks"]:
        what = "outcome unknown" if block["kind"] == "unknown" else "failed"
        rows += [("blocked", f"{what}: {block['path'] or 'no file'}"), ("", f"push {block['push_id']}")]
        rows += [("", line) for line in _wrapped(block["reason"])]
    counts = {state: sum(file["state"] == state for file in files) for state in ("loaded", "skipped", "seen")}
    told = [f"{count:,} {state}" for state, count in counts.items() if count]
    rows += [("files", ", ".join(told))] if told else []
    shown = [file for file in files if not (is_short and file["state"] == "loaded")]
    rows += labelled("", [f"{file['state']:<8}{file['path']}" for file in shown[-_MOST_FILES:]])
    if len(shown) > _MOST_FILES:
        rows.append(("", f"and {format_count(len(shown) - _MOST_FILES, 'file')} more: --json lists all"))
    return [load["name"], *(f"  {label:<10}{shown_text(value)}" for label, value in rows)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(shown_text(text), 66, break_on_hyphens=False)
