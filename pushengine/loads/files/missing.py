"""Decides whether a load is missing: whether no generation newer than `max_age` has come."""

from __future__ import annotations

from collections.abc import Sequence

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import FileRow, LoadedTable
from pushengine.loads.files.generations import Generation, age_of, date_of
from pushengine.text import format_seconds


def missing_reason(
    settings: LoadSettings,
    found: Sequence[tuple[Generation, Sequence[FileRow]]],
    rows: Sequence[FileRow],
    loaded: LoadedTable | None,
    *,
    now: float,
    is_expected: bool = False,
) -> str:
    """Return why a load counts as missing; empty if it does not.

    The age of a generation is the time since its `{date}` began in the time zone of the load; without one, since its content was first
    seen. So the unchanged file of yesterday is as old as it was yesterday, plus a day. Files that were loaded and have gone count, too.

    Args:
        settings: The settings of the load.
        found: The complete generations that are there, with the rows of their files as they are now.
        rows: What is remembered of files, whether they are there or not.
        loaded: What is remembered of the table.
        now: Seconds UTC.
        is_expected: Whether the config file names the table, so that it is missing even if it was never loaded.
    """
    expected = loaded is not None or is_expected
    if settings.max_age is None:
        # Where loaded files are moved or deleted, a folder without files is nothing unusual.
        if found or not expected or (loaded is not None and settings.cleanup != "leave"):
            return ""
        return _no_file(loaded)
    here = {row.path for _, files in found for row in files}
    ages = [_age(settings, generation.key, list(files), now) for generation, files in found]
    ages += [_age(settings, row.generation, [row], now) for row in rows if row.path not in here and row.state != "seen"]
    if loaded is not None:
        date = date_of(loaded.generation)
        if date is not None or not ages:
            ages.append(now - loaded.loaded_at if date is None else age_of(date, settings.timezone, now))
    if not ages:
        return _no_file(loaded) if expected else ""
    age = min(ages)
    if age <= settings.max_age:
        return ""
    return f"no generation newer than {format_seconds(settings.max_age)}: the newest is {format_seconds(age)} old"


def _age(settings: LoadSettings, key: str, files: list[FileRow], now: float) -> float:
    date = date_of(key)
    if date is not None:
        return age_of(date, settings.timezone, now)
    return now - max((row.first_seen_at for row in files), default=now)


def _no_file(loaded: LoadedTable | None) -> str:
    if loaded is None:
        return "no file: the config file names this table, and it was never loaded"
    return (
        f"no file: push {loaded.push_id} loaded this table, so it is expected until it is retired: pushengine state retire"
        f" {loaded.load}.{loaded.table}"
    )
