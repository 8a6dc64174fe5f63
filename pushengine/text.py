"""Format numbers, sizes, times and ids for people."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Iterable

_KILO = 1000.0
_MILLION = 1_000_000
_MINUTE, _HOUR = 60, 3600


def format_bytes(size: float) -> str:
    """Format a size in decimal units, with three significant digits: `512 B`, `1.25 MB`, `45.3 GB`."""
    if size < _KILO:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= _KILO
        if size < _KILO:
            return f"{size:.{2 if size < 10 else 1 if size < 100 else 0}f} {unit}"  # noqa: PLR2004 - three digits
    return f"{size / _KILO:,.2f} TB"


def format_seconds(seconds: float) -> str:
    """Format a duration: `1.2 s`, `45 s`, `2:05 min`, `1:02:05 h`."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - two digits
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // _MINUTE}:{minutes % _MINUTE:02d}:{rest:02d} h"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """Format a count and its noun: `1 chunk`, `2,048 chunks`. Pass `plural` if it is not the noun plus `s`: `2 pushes`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def format_rows(number: int) -> str:
    """Format a number of rows: `12,345 rows`, or `2.1 M rows` from one million onwards."""
    return f"{number / _MILLION:,.1f} M rows" if number >= _MILLION else format_count(number, "row")


def format_ids(ids: Iterable[str]) -> str:
    """Format chunk ids, sorted, with consecutive ones joined into ranges: `000000-000041, 000043, 000044.1`."""
    runs: list[tuple[str, str]] = []
    for chunk_id in sorted(ids):
        if runs and _follows(runs[-1][1], chunk_id):
            runs[-1] = (runs[-1][0], chunk_id)
        else:
            runs.append((chunk_id, chunk_id))
    return ", ".join(first if first == last else f"{first}-{last}" for first, last in runs)


def _follows(one: str, other: str) -> bool:
    return one.isdecimal() and other.isdecimal() and int(other) == int(one) + 1


def first_line(error: BaseException, max_characters: int = 200) -> str:
    """Return the first line of an error's text, cut to `max_characters`, or the name of its class if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0][:max_characters]


def labelled(label: str, values: Iterable[str]) -> list[tuple[str, str]]:
    """Return rows of a table of labels and values, of which only the first has the label."""
    return [(label if number == 0 else "", value) for number, value in enumerate(values)]


def clock_time(iso: str) -> str:
    """Return the time of day from an ISO 8601 UTC time: `14:00:00Z`."""
    return iso.partition("T")[2] or iso


def iso_utc(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC: `2026-01-01T14:00:00Z`."""
    return f"{utc(seconds):%Y-%m-%dT%H:%M:%SZ}"


def utc(seconds: float) -> dt.datetime:
    """Convert seconds since 1970 to a `datetime` in UTC."""
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


def flag(name: str, value: str) -> str:
    """Return a flag of the command with its value, quoted so that it can be pasted into a shell: `--exclude 'Net Amount'`."""
    return f"--{name} {shlex.quote(value)}"
