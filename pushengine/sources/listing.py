"""Finds the files that a source names, and explains why there are none or why they cannot be one source."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pushengine.errors import ConfigError, SourceReadError, unreadable
from pushengine.interfaces import FileSystem
from pushengine.model import FileRef
from pushengine.runtime.files import expanded
from pushengine.sources.files import compression_of
from pushengine.text import shell_word, shown_name, shown_names, spelled_like

_TWICE = "its rows would be loaded twice"
_SHOWN_FILES = 3
_MAX_SEARCHED = 1000
"""Entries of subfolders that are looked at for a hint."""


def list_files(
    words: Sequence[str | os.PathLike[str]], filesystem: FileSystem, *, allow_none: bool = False
) -> list[FileRef]:
    """Return the files that paths, patterns and folders stand for, in their order. Blocking.

    Raises:
        ConfigError: A file is listed twice: by two spellings, through a link, or once more compressed.
        SourceReadError: There is no such file, unless `allow_none` is set; or a folder cannot be read.
    """
    files: dict[str, FileRef] = {}
    by_inode: dict[tuple[int | str, ...], FileRef] = {}
    by_plain_name: dict[str, FileRef] = {}
    for file in _each_file(words, filesystem, allow_none=allow_none):
        name = os.path.normcase(file.uri)
        if name in files:
            raise ConfigError(f"{shown_name(file.uri)} is named twice", key="source", hint=_TWICE)
        if file.inode is not None and (other := by_inode.setdefault(file.inode, file)) is not file:
            raise ConfigError(f"{_both(other, file)} are the same file", key="source", hint=f"name one: {_TWICE}")
        if (other := by_plain_name.setdefault(_plain_name(name, file), file)) is not file:
            raise ConfigError(
                f"{_both(other, file)} have the same name but for the compression",
                key="source",
                hint=f"name one of them: if they hold the same, {_TWICE}; if not, rename one",
            )
        files[name] = file
    return list(files.values())


def _both(one: FileRef, other: FileRef) -> str:
    return f"{shown_name(one.uri)} and {shown_name(other.uri)}"


def _plain_name(name: str, file: FileRef) -> str:
    """Return a path without the suffix of a compression."""
    return os.path.splitext(name)[0] if compression_of(file) else name  # noqa: PTH122 - a text, not a path


def _each_file(
    words: Sequence[str | os.PathLike[str]], filesystem: FileSystem, *, allow_none: bool
) -> Iterator[FileRef]:
    for word in words:
        pattern = os.fspath(word)
        try:
            found = filesystem.list(pattern)
            if not found and (other := _composed_alike(pattern)) != pattern:
                found = filesystem.list(other)
            if not found and not allow_none:
                raise _nothing_found(pattern)
        except OSError as exc:
            raise unreadable(pattern, exc) from exc
        yield from found


def _composed_alike(pattern: str) -> str:
    """Return the path of the file whose name differs only in how accents are encoded (Unicode NFC); the same path if there is none."""
    path = expanded(pattern)
    if path.name.isascii() or not path.parent.is_dir():
        return pattern
    return str(path.parent / spelled_like([path.name], (entry.name for entry in path.parent.iterdir()))[0])


def _nothing_found(pattern: str) -> SourceReadError:
    """Return the error for a path, pattern or folder that stands for no file, with the nearest that exists."""
    path = expanded(pattern)
    if path.is_dir():
        return SourceReadError("no data files in this directory", source=pattern, hint=_hint_in_folder(path))
    if path.is_symlink() and not path.exists():
        target = shown_name(str(path.readlink()))
        return SourceReadError("no such file", source=pattern, hint=f"it is a link to {target}, which does not exist")
    if path.exists():
        return SourceReadError("not a file, but a device or a socket", source=pattern, hint="name a file or a pipe")
    is_pattern = glob.has_magic(pattern)
    message = "no file matches this pattern" if is_pattern else "no such file"
    return SourceReadError(message, source=pattern, hint=_hint_for_missing(path, is_pattern=is_pattern))


def _hint_for_missing(path: Path, *, is_pattern: bool) -> str:
    folder = path.parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
        missing = next(one for one in (*reversed(folder.parents), folder) if not one.is_dir())
        nearest = _nearest(missing)
        suggestion = f"; did you mean {shell_word(nearest)}?" if nearest else ""
        return f"there is no folder {shown_name(str(missing))}{suggestion}"
    if not is_pattern and (nearest := _nearest(path)):
        return f"did you mean {shell_word(nearest)}?"
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    has = f"has {shown_names(names[:_SHOWN_FILES])}{more}" if names else "has no files"
    return f"folder {shown_name(str(folder.absolute()))} {has}"


def _nearest(path: Path) -> str:
    """Return the path beside this one with the most similar name; empty if none is similar."""
    if not path.parent.is_dir():
        return ""
    by_folded = {entry.name.casefold(): entry for entry in path.parent.iterdir()}
    found = difflib.get_close_matches(path.name.casefold(), by_folded, n=1)
    return str(by_folded[found[0]]) if found else ""


def _hint_in_folder(folder: Path) -> str:
    hidden = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    if hidden:
        return f"names that start with . or _ are left out; to read one, name it: {shell_word(str(folder / hidden[0]))}"
    for number, (where, _, names) in enumerate(os.walk(folder)):
        if number > _MAX_SEARCHED:
            break
        if names:
            suffixes = "".join(Path(min(names)).suffixes[-2:])
            return (
                f"subdirectories are not searched, but {shown_name(where)} has files:"
                f" {shell_word(f'{folder}/**/*{suffixes}')}"
            )
    return "is it the right one? --allow-empty takes it for an empty extract"
