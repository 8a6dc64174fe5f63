"""Finds tables, dates and numbers of parts in the names of files, and the patterns that several files share."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pushengine.config.patterns import SourcePattern
from pushengine.sources.registry import FORMATS

MOST_FILES = 10_000
SPECIAL = re.compile(r"[*?\[\]{}]")
"""Characters that mean something in the pattern of a source."""
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:(?P<before_time>[T_-]?)(?P<time>(?:[01]\d|2[0-3])[0-5]\d[0-5]\d))?"
_DATES = (
    (re.compile(rf"(?<!\d){_YEAR}(?P<sep>[-_.]?){_MONTH}(?P=sep){_DAY}{_TIME}(?!\d)"), "%Y{0}%m{0}%d"),
    (re.compile(rf"(?<!\d){_DAY}(?P<sep>[-_.]){_MONTH}(?P=sep){_YEAR}{_TIME}(?!\d)"), "%d{0}%m{0}%Y"),
    (re.compile(rf"(?<!\d){_YEAR}(?P<sep>[-_]?){_MONTH}(?!\d)"), "%Y{0}%m"),
)
_NUMBER = re.compile(r"^(?P<sep>[-_.](?:part|p)?[-_]?|(?:part|p)[-_]?)(?P<number>\d{1,6})$", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"^(?P<table>.*?[^\W_])(?P<sep>[-_.](?:part[-_]?)?)(?P<number>\d{1,6})$", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:(?:export|extract|dump|full|delta|incremental|data)[-_.])+", re.IGNORECASE)
_SPARK = re.compile(r"part-\d{5}-")
"""Names of the files that Spark writes into the folder of a table."""
_SEPARATORS = "-_. "


@dataclasses.dataclass(frozen=True, slots=True)
class NamedFile:
    """A file of a folder, and what its name says.

    Attributes:
        path: The file.
        size: Bytes.
        table: The table that it is for.
        template: Its path with placeholders.
        date: The date in its name; None if there is none.
        number: Digits of the part; empty if there is none.
    """

    path: Path
    size: int
    table: str
    template: str
    date: dt.datetime | None = None
    number: str = ""


def list_names(folder: Path) -> tuple[list[NamedFile], list[Path]]:
    """Return the files of a folder and its subfolders that can be loaded, and the others. Hidden ones are left out.

    Raises:
        OSError: The folder cannot be read.
    """
    found: list[NamedFile] = []
    others: list[Path] = []
    for path, size in _walk(folder):
        suffix = next((suffix for one in FORMATS if one.module and (suffix := one.suffix_of(path.name))), "")
        if not suffix or SPECIAL.search(path.relative_to(folder).as_posix()):
            others.append(path)
        else:
            found.append(_matching(_named(folder, path, size, suffix)))
    return _with_parts(found), others


def _walk(folder: Path) -> Iterator[tuple[Path, int]]:
    with os.scandir(folder) as entries:  # the folder itself must be readable
        next(entries, None)
    number = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or not path.is_file():
                continue
            number += 1
            if number > MOST_FILES:
                return
            yield path, path.stat().st_size


def _named(folder: Path, path: Path, size: int, suffix: str) -> NamedFile:
    inner = path.relative_to(folder).as_posix()
    stem = inner[: len(inner) - len(suffix)]
    found = _date_in(stem)
    if found is None and _SPARK.match(path.name):
        parent = stem.rpartition("/")[0]
        table = parent.rpartition("/")[2] or folder.name
        place = f"{parent[: len(parent) - len(table)]}{{table}}/" if parent else ""
        return NamedFile(path, size, table, f"{_in(folder)}{place}part-{{part}}-*{suffix}", number=path.name[5:10])
    if found is None:
        prefix, table = _split_prefix(stem)
        return NamedFile(path, size, table, f"{_in(folder)}{prefix}{{table}}{suffix}")
    start, end, date_format, date = found
    before, after = stem[:start], stem[end:]
    number = _NUMBER.match(after)
    tail = f"{number['sep']}{{part}}" if number else after
    if before.rstrip(_SEPARATORS + "/") and not before.endswith("/"):
        prefix, table = _split_prefix(before.rstrip(_SEPARATORS))
        separator = before[len(before.rstrip(_SEPARATORS)) :]
        inner = f"{prefix}{{table}}{separator}{{date:{date_format}}}{tail}"
    elif after.strip(_SEPARATORS + "/") and not number:  # 20261126_VBAK, or a folder for each day
        bare = after.lstrip(_SEPARATORS + "/")
        prefix, table = _split_prefix(bare)
        inner = f"{before}{{date:{date_format}}}{after[: len(after) - len(bare)]}{prefix}{{table}}"
    else:  # a date only: the folder is the table
        parent, slash, mark = before.rpartition("/")
        table = parent.rpartition("/")[2] or folder.name
        place = f"{parent[: len(parent) - len(table)]}{{table}}{slash}" if parent else ""
        inner = f"{place}{mark}{{date:{date_format}}}{tail}"
    return NamedFile(path, size, table, f"{_in(folder)}{inner}{suffix}", date, number["number"] if number else "")


def _matching(file: NamedFile) -> NamedFile:
    """Return the file with a template that matches it; without placeholders that its name has no room for, as in `VBAK20261126.csv`."""
    literal = file.template.replace("{table}", file.table)
    for template in (file.template, literal):
        try:
            match = SourcePattern.parse(template).match(file.path.as_posix())
        except ValueError:
            continue
        if match is not None and match.table in (None, file.table) and file.table.strip():
            return dataclasses.replace(file, template=template)
    return NamedFile(
        file.path, file.size, file.table.strip() or file.path.stem.strip() or "table", file.path.as_posix()
    )


def _in(folder: Path) -> str:
    return f"{folder.as_posix().rstrip('/')}/"


def _split_prefix(stem: str) -> tuple[str, str]:
    """Return what stands before the name of a table, such as folders and `export_`, and the name."""
    place, slash, name = stem.rpartition("/")
    found = _PREFIX.match(name)
    word = found[0] if found and found[0] != name else ""
    return f"{place}{slash}{word}", name[len(word) :]


def _date_in(stem: str) -> tuple[int, int, str, dt.datetime] | None:
    """Return where a date is in a text, its format and its value."""
    for pattern, written in _DATES:
        for match in pattern.finditer(stem):
            date_format = written.format(match["sep"])
            groups = match.groupdict()
            if groups.get("time"):
                date_format += f"{groups['before_time']}%H%M%S"
            try:
                date = dt.datetime.strptime(match[0], date_format)  # noqa: DTZ007 - only compared with others of its kind
            except ValueError:
                continue
            return match.start(), match.end(), date_format, date
    return None


def _with_parts(files: list[NamedFile]) -> list[NamedFile]:
    """Return the files; those without a date whose names differ only in a number that counts from 0 or 1 are parts of one table."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for file in files:
        match = _LAST_NUMBER.match(file.table) if file.date is None else None
        if match is not None:
            groups.setdefault((file.template, match["table"], match["sep"]), []).append(int(match["number"]))
    found = []
    for file in files:
        match = _LAST_NUMBER.match(file.table) if file.date is None else None
        numbers = sorted(groups[file.template, match["table"], match["sep"]]) if match is not None else []
        if match is None or len(numbers) < 2 or numbers[0] > 1 or numbers[-1] - numbers[0] >= len(numbers):  # noqa: PLR2004
            found.append(file)
            continue
        template = file.template.replace("{table}", f"{{table}}{match['sep']}{{part}}")
        found.append(dataclasses.replace(file, table=match["table"], template=template, number=match["number"]))
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class NamedRule:
    """Files that one rule of the config file is for.

    Attributes:
        name: Name of the rule.
        templates: Their paths with placeholders.
        table: The table, if the templates do not name it; otherwise None.
        files: The files by table, the newest generation first.
    """

    name: str
    templates: tuple[str, ...]
    table: str | None
    files: Mapping[str, list[NamedFile]]


def rules_of(files: Iterable[NamedFile], folder: Path) -> list[NamedRule]:
    """Return the rules for files. Each file is matched by one rule only, which gives it its table."""
    by_template: dict[str, list[NamedFile]] = {}
    for file in files:
        by_template.setdefault(file.template, []).append(file)
    groups = [
        _Group([template], found, None if "{table}" in template else found[0].table)
        for template, found in by_template.items()
    ]
    groups = list(_joined(groups))
    every = [file for group in groups for file in group.files]
    apart: list[_Group] = []
    named = {group.table.casefold() for group in groups if group.table is not None}
    for group in groups:
        is_shared = group.table is None and any(file.table.casefold() in named for file in group.files)
        if _is_exact(group, every) and not is_shared:
            apart.append(group)
        else:  # it would take files or tables of other rules, too
            apart += [_Group([one.template.replace("{table}", one.table)], [one], one.table) for one in group.files]
    names = _names(folder, apart)
    return [
        NamedRule(name, tuple(group.templates), group.table, _by_table(group))
        for name, group in zip(names, _merged_by_table(apart), strict=False)
    ]


@dataclasses.dataclass
class _Group:
    templates: list[str]
    files: list[NamedFile]
    table: str | None = None


def _joined(groups: Iterable[_Group]) -> Iterator[_Group]:
    """Yield the groups; those that have a table in common are one."""
    left = list(groups)
    while left:
        group = left.pop(0)
        tables = {file.table.casefold() for file in group.files}
        common = [one for one in left if one.table is None and tables & {file.table.casefold() for file in one.files}]
        if not common or group.table is not None:
            yield group
            continue
        for one in common:
            left.remove(one)
            group.templates += one.templates
            group.files += one.files
        left.insert(0, group)


def _merged_by_table(groups: list[_Group]) -> list[_Group]:
    found: dict[str, _Group] = {}
    merged = []
    for group in groups:
        other = found.get((group.table or "").casefold()) if group.table else None
        if other is None:
            merged.append(group)
            found.setdefault((group.table or "").casefold(), group)
        else:
            other.templates += [one for one in group.templates if one not in other.templates]
            other.files += group.files
    return merged


def _is_exact(group: _Group, every: Iterable[NamedFile]) -> bool:
    """Return whether the templates of a group match its files only, each with its table."""
    own = {file.path: file.table for file in group.files}
    patterns = [SourcePattern.parse(template) for template in group.templates]
    for file in every:
        matches = [match for one in patterns if (match := one.match(file.path.as_posix()))]
        tables = {match.table or group.table for match in matches}
        if tables != ({own[file.path]} if file.path in own else set()):
            return False
    return True


def _names(folder: Path, groups: list[_Group]) -> list[str]:
    """Return a name for each rule."""
    merged = _merged_by_table(groups)
    names: list[str] = []
    for group in merged:
        suffix = re.sub(r"\W+", "", Path(group.templates[0]).suffix)
        wanted = _word(group.table or folder.name)
        tries = [wanted, f"{wanted}-{suffix}", *(f"{wanted}-{number}" for number in range(2, len(merged) + 3))]
        names.append(next(one for one in tries if one.casefold() not in {name.casefold() for name in names}))
    return names


def _word(text: str) -> str:
    """Return a text as a name of a rule may be written."""
    return re.sub(r"[^\w-]+", "-", text).strip("-_") or "files"


def _by_table(group: _Group) -> dict[str, list[NamedFile]]:
    found: dict[str, list[NamedFile]] = {}
    for file in group.files:
        found.setdefault(file.table, []).append(file)
    for files in found.values():
        files.sort(key=lambda one: (one.date.isoformat() if one.date else "", one.number), reverse=True)
    return dict(sorted(found.items()))
