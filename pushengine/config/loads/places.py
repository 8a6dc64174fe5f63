"""Checks the folders that a config file names: sources must be there, and folders that are written must be writable. Changes nothing."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pushengine.config.loads.reading import LoadsReading
from pushengine.config.loads.resolved import LoadSettings, Rule
from pushengine.config.patterns import SourcePattern
from pushengine.config.problems import Problem
from pushengine.errors import ConfigError, PushEngineError
from pushengine.state.file_errors import setting_errors, status
from pushengine.state.folder import refuse_network_file_system
from pushengine.text import shown_name

_QUOTED = re.compile(r"\[([*?\[])\]")
"""A character that means itself in a glob."""


def problems_of_places(reading: LoadsReading) -> Iterator[Problem]:
    """Yield what is wrong with the folders that the file names."""
    config = reading.config
    yield from _unwritable(config.state_dir, ("state", "dir"), "")
    try:
        refuse_network_file_system(config.state_dir)
    except PushEngineError as error:
        yield Problem(("state", "dir"), error.message)
    if config.engine.rejects is not None:
        yield from _unwritable(config.engine.rejects, ("engine", "rejects"), "")
    for rule in reading.loads.rules:
        yield from _of_rule(rule)


def folder_of(source: str) -> Path:
    """Return the folder that the files of a path with placeholders are in, or below."""
    fixed = []
    *folders, _ = SourcePattern.parse(source).glob.split("/")
    for name in folders:
        plain = _QUOTED.sub(r"\1", name)
        if glob.escape(plain) != name:
            break
        fixed.append(plain)
    return Path("/".join(fixed) or "/")


def _of_rule(rule: Rule) -> Iterator[Problem]:
    loads = [rule.settings_for(table) for table in (rule.table or "", *rule.overrides)]
    for source in rule.sources:
        folder = folder_of(source)
        found = list(_unreadable(folder, rule.name))
        yield from found
        if found:
            continue
        for load in loads:
            if load.cleanup == "leave":
                continue
            yield from _unwritable(folder, ("load", "cleanup"), _name(load))
            if load.cleanup == "move":
                yield from _unwritable(load.cleanup_dir or folder / "loaded", ("load", "cleanup_dir"), _name(load))
    for load in loads:
        if load.options.get("rejects"):
            yield from _unwritable(Path(load.options["rejects"]), ("load", "rejects"), _name(load))


def _name(load: LoadSettings) -> str:
    return load.name if load.table else load.rule


def _unreadable(folder: Path, load: str) -> Iterator[Problem]:
    path = ("load", "source")
    try:
        with setting_errors("cannot read", folder, key="load.source"):
            found = status(folder)
    except ConfigError as error:
        yield Problem(path, error.message, load)
        return
    if found is None:
        yield Problem(path, f"there is no folder {shown_name(str(folder))}", load)
    elif not folder.is_dir():
        yield Problem(path, f"{shown_name(str(folder))} is no folder", load)
    elif not os.access(folder, os.R_OK | os.X_OK):
        yield Problem(path, f"this user cannot read the folder {shown_name(str(folder))}", load)


def _unwritable(folder: Path, path: tuple[str, ...], load: str) -> Iterator[Problem]:
    """Yield why a folder cannot be written or, if it does not exist, cannot be created."""
    nearest = folder
    try:
        with setting_errors("cannot use", folder, key=".".join(path)):
            while status(nearest) is None and nearest != nearest.parent:
                nearest = nearest.parent
    except ConfigError as error:
        yield Problem(path, error.message, load)
        return
    if not nearest.is_dir():
        yield Problem(path, f"{shown_name(str(nearest))} is no folder", load)
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield Problem(path, f"this user cannot write to the folder {shown_name(str(nearest))}", load)
