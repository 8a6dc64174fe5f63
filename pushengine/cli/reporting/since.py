"""The point in time that `--since` names."""

from __future__ import annotations

import datetime as dt

from pushengine.errors import ConfigError
from pushengine.text import parse_duration, shown_name

_HINT = "examples: --since yesterday, --since 2026-11-26, --since 2026-11-26T18:00, --since 12h, --since 2d"


def parse_since(text: str, now: dt.datetime, *, flag: str = "--since") -> dt.datetime:
    """Return the time that a text names, in the machine's timezone; `now` is the current time there (aware).

    `yesterday` is yesterday at noon, so that a report in the morning has one night. `today` and a date are the beginning of that day. A time
    without an offset is local. `12h` or `2d` are so long ago.

    Raises:
        ConfigError: It names no time, or one in the future.
    """
    found = _parsed(text.strip(), now)
    if found is None:
        raise ConfigError(f"{flag} {shown_name(text)} names no time", key=flag, hint=_HINT.replace("--since", flag))
    if found > now:
        raise ConfigError(f"{flag} {shown_name(text)} is in the future", key=flag, hint=_HINT.replace("--since", flag))
    return found


def _parsed(text: str, now: dt.datetime) -> dt.datetime | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    named = {"today": midnight, "yesterday": midnight - dt.timedelta(hours=12)}.get(text.casefold())
    if named is not None:
        return named.astimezone()
    seconds = None if text.isdecimal() else parse_duration(text)
    try:
        if seconds is not None:
            return now - dt.timedelta(seconds=seconds)
        return dt.datetime.fromisoformat(text).astimezone()  # a naive time is local
    except (ValueError, OverflowError, OSError):  # OSError: before the first year of the system's clock
        return None
