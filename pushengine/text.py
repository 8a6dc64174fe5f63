"""Format numbers, sizes, times, ids and foreign names for people, parse durations, and compare names."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence

_KILO = 1000.0
_MILLION = 1_000_000
_MINUTE, _HOUR = 60, 3600
_LONGEST_CLOCK_HOURS = 100
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters without an image that `str.isprintable` counts as printable: joiners, fillers, the empty Braille cell, variation selectors."""
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([smhd]?)")
_UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SHORT_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONGEST_LINE = 4_000
_MOST_LINES = 40
_TAIL_SHARE = 4
_CLIP_WORDS = 60
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF
"""Code points that stand for the bytes 0x80 to 0xFF of a file name that is not UTF-8 (PEP 383)."""


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


def format_clock(seconds: float) -> str:
    """Format a duration like a stopwatch: `0:45`, `12:31`, `1:02:05`, and `4 d` from 100 hours onwards."""
    minutes, rest = divmod(max(int(seconds), 0), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    if hours >= _LONGEST_CLOCK_HOURS:
        return f"{hours // 24:,} d"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def parse_duration(text: str) -> float | None:
    """Return the seconds that a duration stands for: `90s`, `30m`, `2h`, `1d`, or a number of seconds; None if it is not one."""
    found = _DURATION.fullmatch(text.strip())
    return None if found is None else float(found[1]) * _UNIT_SECONDS[found[2]]


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
    r"""Return a flag of the command with its value, quoted so that it can be pasted into a shell: `--exclude 'Net Amount'`.

    A value with characters that cannot be seen is written with escapes, as bash and zsh read them: `--exclude $'\u200bID'`.
    """
    return f"--{name} {shell_word(value)}"


def shell_word(value: str) -> str:
    """Return a value quoted so that it can be seen and pasted into a shell."""
    return shlex.quote(value) if _is_visible(value) else f"${_quoted(value)}"


# --- Foreign names and texts --------------------------------------------------------------------------------------------------------


def shown_text(text: str) -> str:
    r"""Return a foreign text for people: whatever cannot be seen, or could control a terminal, is written as an escape.

    A control character becomes `\x1b`, another invisible one `\u200b`, and a byte of a file name that is not UTF-8 `\xe4`.
    """
    return text if _is_visible(text) else "".join(one if _is_visible(one) else _escape(one) for one in text)


def shown_line(text: str, most: int = _LONGEST_LINE) -> str:
    """Return a line for a terminal or a console log: as `shown_text`, and of a line longer than `most` characters the beginning and the end.

    This is the last step on the way there, for whole lines: a foreign text in them can neither forge a line nor flood the terminal.
    """
    return _clipped(shown_text(_clipped(text, most)), most + _CLIP_WORDS)  # escapes may be ten times as long


def _clipped(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    tail = most // _TAIL_SHARE
    return f"{text[: most - tail]} ... {len(text) - most:,} characters left out ... {text[len(text) - tail :]}"


def some_lines(lines: Sequence[str], most: int = _MOST_LINES) -> list[str]:
    """Return the lines of a foreign list, such as a job's log: all, or the first and the last ones of more than `most`."""
    if len(lines) <= most:
        return list(lines)
    half = most // 2
    return [*lines[:half], f"... {format_count(len(lines) - 2 * half, 'line')} left out ...", *lines[-half:]]


def visible_json(text: str) -> str:
    r"""Return JSON in which characters that cannot be seen, or could control a terminal, are written as `\u001b`: the same values."""
    if text.isascii() and "\x7f" not in text:  # JSON escapes the other control characters itself
        return text
    return "".join(one if one == "\n" or _is_visible(one) else _json_escape(one) for one in text)


def _json_escape(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def shown_name(name: str) -> str:
    """Return the name of a column or file for people.

    It is in quotes if it is empty, begins or ends with a blank, or has characters that cannot be seen, which are written as escapes.
    """
    return _quoted(name) if _needs_quotes(name) else name


def shown_names(names: Iterable[str], *, beside: Iterable[str] = ()) -> str:
    """Return names for people, separated by commas. If one of them, or of those `beside`, needs quotes, all have them: `'NAME', 'NAME '`."""
    listed = list(names)
    return ", ".join(map(_quoted, listed) if any(map(_needs_quotes, (*listed, *beside))) else listed)


def shown_some(names: Sequence[str], most: int = 20) -> str:
    """Return the first names for people, separated by commas, and how many there are besides: `A, B, C and 17 more`."""
    shown = shown_names(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def _is_visible(text: str) -> bool:
    return text.isprintable() and (text.isascii() or not _INVISIBLE.search(text))


def _needs_quotes(name: str) -> bool:
    return not name or name != name.strip() or not _is_visible(name)


def _quoted(name: str) -> str:
    return "'" + shown_text(name.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if code < 0x80 or _FIRST_BYTE <= code <= _LAST_BYTE:  # noqa: PLR2004 - ASCII
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - four digits


def storable(text: str) -> str:
    r"""Return a text that UTF-8 can store: the bytes of file names that are not UTF-8 are written as `\udce4`.

    This is JSON's own escape: JSON with it is read back as the same names.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def spelled_like(names: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Return names in the spelling that `wanted` has for them.

    Names are the same if their canonical composed forms (Unicode NFC) are: `ü` is one character on one system, `u` and a mark on another.
    """
    names, wanted = tuple(names), tuple(wanted)
    if names == wanted:  # nearly always, and it is asked for each batch
        return names
    spelling: dict[str, str] = {}
    for name in wanted:
        spelling.setdefault(nfc(name), name)
    return tuple(spelling.get(nfc(name), name) for name in names)


def name_key(name: str) -> str:
    """Return the form in which names of columns are compared: composed (Unicode NFC) and without letter case."""
    return name.casefold() if name.isascii() else nfc(nfc(name).casefold())


def nfc(name: str) -> str:
    """Return a name in its canonical composed form (Unicode NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
