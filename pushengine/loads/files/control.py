"""Control files: which generations are complete, and how many rows each has.

`control = "{table}_{date}.ctl"` names one control file for each generation. It is beside the files, or in the folder that the pattern
names. It holds either

- one whole number: the number of rows of the generation, or
- the names of its files, one a line.

Without a format, `{date}` is written as in the source. A generation whose control file is not there, is empty, or names a file that is not
there is not complete. One with a file that the control file does not name is refused, and so is, before its submit, one with another
number of rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from pushengine.config.loads.resolved import LoadSettings
from pushengine.config.patterns import SourcePattern
from pushengine.interfaces import FileSystem
from pushengine.loads.files.discovery import FoundTable
from pushengine.loads.files.generations import Generation
from pushengine.model import FileRef
from pushengine.text import shown_name, shown_names

_MAX_BYTES = 1024 * 1024
_SHOWN = 3


def with_control(
    settings: LoadSettings, found: FoundTable, sources: Sequence[str], filesystem: FileSystem
) -> FoundTable:
    """Return a table whose generations are as its control files say. Blocking.

    Args:
        settings: The settings of the load.
        found: Its files.
        sources: The sources of its rule, for the format of `{date}`.
        filesystem: Finds and reads the control files.

    Raises:
        ValueError: The pattern of the control files cannot be used; the message says why.
    """
    if settings.control is None:
        return found
    patterns = control_patterns(settings.control, sources)
    generations = []
    for generation in found.generations:
        files = [*generation.files, *generation.unfinished]
        folders = dict.fromkeys(str(Path(file.uri).parent) for file in files)
        controls: dict[str, FileRef] = {}
        for pattern in patterns:
            for folder in folders:
                controls |= {
                    one.uri: one for one in _control_files(pattern, folder, found.name, generation, filesystem)
                }
        # A source such as `{table}_{date}*` finds the control files, too.
        data = tuple(file for file in generation.files if file.uri not in controls)
        if data or generation.unfinished:
            generations.append(
                _checked(
                    dataclasses.replace(generation, files=data), list(controls.values()), settings.control, filesystem
                )
            )
    return dataclasses.replace(found, generations=tuple(generations))


def control_patterns(control: str, sources: Sequence[str]) -> list[SourcePattern]:
    """Return the patterns of control files: one for each format of `{date}` that the sources have.

    Raises:
        ValueError: The pattern cannot be used.
    """
    formats = [one.date_format for one in map(SourcePattern.parse, sources) if one.date_format is not None]
    texts = dict.fromkeys(control.replace("{date}", f"{{date:{one}}}") for one in formats if "/" not in one)
    patterns = [SourcePattern.parse(text) for text in texts or (control,)]
    if "part" in patterns[0].placeholders:
        raise ValueError("a control file is for a whole generation: leave {part} out")
    return patterns


def _control_files(
    pattern: SourcePattern, folder: str, table: str, generation: Generation, filesystem: FileSystem
) -> list[FileRef]:
    is_beside = "/" not in pattern.text
    places = SourcePattern.parse(f"{_escaped(folder)}/{pattern.text}") if is_beside else pattern
    found = []
    for file in filesystem.list(places.glob):
        match = places.match(file.uri)
        if match is not None and (
            match.table in {None, table}
            and match.date in {None, generation.date}
            and match.seq in {None, generation.seq}
        ):
            found.append(file)
    return found


def _escaped(folder: str) -> str:
    """Return the path of a folder as a pattern that matches only it."""
    text = folder.replace("{", "{{").replace("}", "}}")
    return "".join(f"[{one}]" if one in "*?[" else one for one in text)


def _checked(generation: Generation, controls: list[FileRef], control: str, filesystem: FileSystem) -> Generation:
    if not controls:
        return dataclasses.replace(generation, incomplete=f"no control file {control}")
    if len(controls) > 1:
        names = shown_names([file.name for file in controls[:_SHOWN]])
        return dataclasses.replace(generation, incomplete=f"it has {len(controls)} control files: {names}")
    try:
        lines = _lines(controls[0], filesystem)
    except (OSError, ValueError) as error:
        return dataclasses.replace(
            generation, incomplete=f"control file {shown_name(controls[0].name)} cannot be read: {error}"
        )
    return _compared(generation, shown_name(controls[0].name), lines)


def _compared(generation: Generation, name: str, lines: list[str]) -> Generation:
    """Return a generation as the lines of its control file say."""
    here = {file.name for file in generation.files}
    listed = {Path(line).name for line in lines}
    if not lines:
        return dataclasses.replace(generation, incomplete=f"control file {name} is empty")
    if len(lines) == 1 and lines[0].isascii() and lines[0].isdecimal():
        return dataclasses.replace(generation, expected_rows=int(lines[0]))
    if missing := sorted(listed - here):
        return dataclasses.replace(generation, incomplete=f"{name} names {_some(missing)}, which is not there")
    if extra := sorted(here - listed):
        return dataclasses.replace(generation, wrong=f"control file {name} does not name {_some(extra)}")
    return generation


def _lines(file: FileRef, filesystem: FileSystem) -> list[str]:
    if file.size > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
    with filesystem.open(file) as opened:
        text = opened.read(_MAX_BYTES + 1).decode("utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _some(names: Sequence[str]) -> str:
    return shown_names(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
