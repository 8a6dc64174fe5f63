"""Finds the tables of a rule and the files of each, and tables that two rules claim."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Mapping

from pushengine.config.loads.resolved import Rule
from pushengine.config.patterns import SourcePattern
from pushengine.errors import SourceReadError, unreadable
from pushengine.interfaces import FileSystem
from pushengine.loads.files.cleanup import is_moved_away
from pushengine.loads.files.generations import FoundFile, Generation, group
from pushengine.model import FileRef
from pushengine.sources.listing import list_files
from pushengine.text import format_count, shown_name, shown_some

_UNFINISHED = re.compile(r"(\.(tmp|temp|part|partial|filepart|crdownload|writing|inprogress|swp)|~)$", re.IGNORECASE)
"""Names that tools give to files that they are still writing."""
_SHOWN = 3


@dataclasses.dataclass(frozen=True, slots=True)
class FoundTable:
    """A table of a rule with its files.

    Attributes:
        name: The table, as spelled.
        generations: In their order.
    """

    name: str
    generations: tuple[Generation, ...]

    @property
    def unfinished(self) -> list[FileRef]:
        """The files that are still being written."""
        return [file for one in self.generations for file in one.unfinished]


@dataclasses.dataclass(frozen=True, slots=True)
class Discovery:
    """What a rule found.

    Attributes:
        rule: The rule.
        tables: The tables, sorted by name.
        unmatched: Files that the glob of a source finds, but its placeholders do not match.
        without_files: Tables with settings of their own (`[load.tables.X]`) that have no file.
        error: Why nothing was found, and where the rule looked; None if something was.
    """

    rule: Rule
    tables: tuple[FoundTable, ...]
    unmatched: tuple[FileRef, ...] = ()
    without_files: tuple[str, ...] = ()
    error: SourceReadError | None = None

    def table(self, name: str) -> FoundTable | None:
        """Return a table by its name in any letter case; None if it was not found."""
        return next((one for one in self.tables if folded(one.name) == folded(name)), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Conflict:
    """Two claims on one table, neither of which may be loaded.

    Attributes:
        loads: The loads, as (rule, table).
        message: Names both, and says what to do.
    """

    loads: tuple[tuple[str, str], tuple[str, str]]
    message: str


def folded(name: str) -> str:
    """Return a table's name in the form in which names are compared."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def discover(rule: Rule, filesystem: FileSystem) -> Discovery:
    """Find the tables of a rule and their files. Blocking."""
    found: dict[str, list[FoundFile]] = {}
    unmatched: dict[str, FileRef] = {}
    seen: dict[str, FileRef] = {}
    problems: list[SourceReadError] = []
    for source in rule.sources:
        pattern = SourcePattern.parse(source)
        try:
            # `list_files` refuses links and compressed twins, which concern one table and not the rule. It knows why there is no file.
            files = filesystem.list(pattern.glob) or list_files([pattern.glob], filesystem)
        except OSError as error:
            problems.append(unreadable(source, error))
            continue
        except SourceReadError as error:
            problems.append(error)
            continue
        for file in files:
            if file.uri in seen:
                continue
            match = pattern.match(file.uri)
            table = rule.table if rule.table is not None or match is None else match.table
            if match is None or table is None:
                unmatched[file.uri] = file
                continue
            seen[file.uri] = file
            if is_moved_away(rule.settings_for(table), file.uri):
                continue
            one = FoundFile(file, match, _is_unfinished(file, pattern, filesystem))
            found.setdefault(table, []).append(one)
    tables = tuple(FoundTable(name, group(found[name])) for name in sorted(found))
    names = set(map(folded, found))
    return Discovery(
        rule=rule,
        tables=tables,
        unmatched=tuple(file for uri, file in unmatched.items() if uri not in seen),
        without_files=tuple(name for name in rule.overrides if folded(name) not in names),
        error=None if tables else _nothing(rule, list(unmatched.values()), problems),
    )


def find_conflicts(
    discoveries: Iterable[Discovery], connections: Mapping[str, tuple[str, str, str | None]]
) -> list[Conflict]:
    """Return each pair of loads that claim one table, or whose names differ only in letter case.

    Args:
        discoveries: What each rule found.
        connections: Name of a target -> its team, pool and data connection.
    """
    claimed: dict[tuple[str, str, str | None, str], tuple[str, str, str]] = {}
    conflicts = []
    for discovery in discoveries:
        for table in discovery.tables:
            settings = discovery.rule.settings_for(table.name)
            team, pool, connection = connections.get(settings.target, (settings.target, "", None))
            key = (team, pool, settings.connection_id or connection, folded(table.name))
            claim = (discovery.rule.name, table.name, _example(table))
            other = claimed.setdefault(key, claim)
            if other is not claim:
                conflicts.append(Conflict((other[:2], claim[:2]), _conflict_message(other, claim)))
    return conflicts


def unclaimed(discoveries: Iterable[Discovery]) -> list[FileRef]:
    """Return the files that the globs of rules find, but the placeholders of none of them match."""
    listed = list(discoveries)
    claimed = {
        file.uri
        for discovery in listed
        for table in discovery.tables
        for one in table.generations
        for file in (*one.files, *one.unfinished)
    }
    files = {file.uri: file for discovery in listed for file in discovery.unmatched if file.uri not in claimed}
    return [files[uri] for uri in sorted(files)]


def _is_unfinished(file: FileRef, pattern: SourcePattern, filesystem: FileSystem) -> bool:
    """Whether a file is still being written. A pattern that ends in such a suffix is for files that are finished."""
    if _UNFINISHED.search(file.uri) and not _UNFINISHED.search(pattern.text):
        return True
    try:
        return filesystem.stat(file) != file
    except OSError:  # it vanished, or was renamed
        return True


def _nothing(rule: Rule, unmatched: list[FileRef], problems: list[SourceReadError]) -> SourceReadError:
    """Return the error of a rule that matches nothing at all."""
    where = ", ".join(rule.sources)
    if unmatched:
        names = shown_some([file.name for file in unmatched], _SHOWN)
        return SourceReadError(
            f"none of {format_count(len(unmatched), 'file')} in the folder has a name that matches",
            source=where,
            hint=f"found were {names}; compare the placeholders, above all the format of {{date:...}}",
        )
    first = problems[0] if problems else unreadable(where, FileNotFoundError())
    return SourceReadError(first.message, source=where, hint=first.hint or "")


def _example(table: FoundTable) -> str:
    return shown_name(next(file for one in table.generations for file in (*one.files, *one.unfinished)).name)


def _conflict_message(one: tuple[str, str, str], other: tuple[str, str, str]) -> str:
    both = f"{shown_name(f'{one[0]}.{one[1]}')} ({one[2]}) and {shown_name(f'{other[0]}.{other[1]}')} ({other[2]})"
    if one[1] != other[1]:
        return f"{both} are one table: their names differ only in letter case; rename one of them"
    return (
        f"{both} are one table of one target: narrow the source of one rule, or send it to another table or connection"
    )
