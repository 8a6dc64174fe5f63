"""The border for errors of files: what the operating system reports about a path becomes an error that says what to do.

Code that touches a file outside of sources runs in one of these blocks (sources have `errors.unreadable`):

    setting_errors      a file or folder that a setting or option names: `ConfigError`
    state_errors        a file in the state folder: `JournalError` or `LedgerError`
    read_text           reads a small file that a setting names
    expanded_setting    replaces `~` in a path that a setting names
    temporary_folder    creates a temporary folder

The cause of such an error decides whether another run may help (`is_temporary`). Errors of SQLite are part of it, because SQLite hides those
of the operating system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pushengine.errors import ConfigError, JournalError, LedgerError
from pushengine.text import first_line, shown_name

STATE_HINT = "the state folder must be on a local disk, writable and not full; set PUSHENGINE_STATE_DIR to use another"
_MAX_TEXT_BYTES = 4 * 1024 * 1024
_MAX_SHOWN = 300
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL = 5, 6, 13  # importing sqlite3 takes time
_SQLITE_VAGUE = frozenset({8, 10, 14})
"""SQLITE_READONLY, SQLITE_IOERR and SQLITE_CANTOPEN: SQLite says what it could not do, but not why."""
_TEMPORARY = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ETIMEDOUT
})  # fmt: skip
_REMEDIES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room: the disk quota of this user is used up",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "wait: this machine has too many open files",
    errno.EACCES: "give this user permission",
    errno.EPERM: "give this user permission",
    errno.ENAMETOOLONG: "shorten the path",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.ENOTDIR: "a part of the path is a file and not a folder",
    errno.EISDIR: "it is a folder",
    errno.EIO: "check the disk",
    errno.EFBIG: "allow larger files (ulimit -f)",
}
_ANY_REMEDY = "name another path"


class Refusal(NamedTuple):
    """Why a path cannot be used.

    Attributes:
        reason: In words.
        remedy: What to do about it; empty if that depends on what the path is for.
    """

    reason: str
    remedy: str


def refusal(error: BaseException, path: str | os.PathLike[str]) -> Refusal | None:
    """Return why a path cannot be used, for an error of the operating system or SQLite; None for any other error."""
    if isinstance(error, OSError):
        return Refusal(error.strerror or first_line(error), _REMEDIES.get(error.errno or 0, ""))
    if isinstance(error, UnicodeEncodeError) and os.fspath(path) in error.object:
        return Refusal("the path is not text that this system can store", "")
    if isinstance(error, ValueError):
        is_nul = "embedded null" in str(error)
        return Refusal("the path contains a NUL character", "") if is_nul else None
    import sqlite3  # noqa: PLC0415 - commands that do not use it start faster

    return Refusal(first_line(error), "") if isinstance(error, sqlite3.Error) else None


def is_temporary(error: BaseException | None) -> bool:
    """Return whether another run may succeed with the same command and configuration: the disk is full or a file is locked."""
    code = result_code(error)
    return code in (_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_FULL) or getattr(error, "errno", None) in _TEMPORARY


def result_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code (without the extended bits), or None for an error that has none."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


@contextlib.contextmanager
def setting_errors(what: str, path: str | os.PathLike[str], *, key: str, hint: str = "") -> Iterator[None]:
    """Convert an error about a path that a setting names.

    Args:
        what: What failed, before the path: "cannot read the config file".
        path: The path.
        key: The setting.
        hint: What to do about it in general; the remedy for the specific reason comes first.

    Raises:
        ConfigError: The path cannot be used.
    """
    try:
        yield
    except Exception as error:
        why = refusal(error, path)
        if why is None:
            raise
        raise ConfigError(f"{what} {_shown(path)}: {why.reason}", key=key, hint=_joined(why.remedy, hint)) from error


@contextlib.contextmanager
def state_errors(
    what: str, path: Path, *, kind: type[JournalError | LedgerError] = JournalError, hint: str = STATE_HINT
) -> Iterator[None]:
    """Convert an error about a file in the state folder.

    Args:
        what: What failed: "cannot write the spool".
        path: The file.
        kind: Class of the error.
        hint: What to do about it in general; the remedy for the specific reason comes first.

    Raises:
        JournalError, LedgerError: The file cannot be used.
    """
    try:
        yield
    except Exception as error:
        found = state_error(what, path, error, kind=kind, hint=hint)
        if found is None:
            raise
        raise found from found.__cause__


def state_error(
    what: str,
    path: Path,
    error: BaseException,
    *,
    kind: type[JournalError | LedgerError] = JournalError,
    hint: str = STATE_HINT,
) -> JournalError | LedgerError | None:
    """Return what `state_errors` raises for an error; None if the error is not about a file."""
    cause = (_system_error(path) if result_code(error) in _SQLITE_VAGUE else None) or error
    why = refusal(cause, path)
    if why is None:
        return None
    found = kind(f"{what} {_shown(path)}: {why.reason}", path=str(path), hint=_joined(why.remedy, hint))
    found.__cause__ = cause
    return found


def _system_error(path: Path) -> OSError | None:
    """Return the error of the operating system that kept SQLite from opening a database; None if it cannot be determined."""
    # The database itself is not opened: closing it would release the locks that this process has on it.
    try:
        _require_descriptors(4)  # what SQLite may open: a database, its log, the log's index and the folder
        found = status(path)
        path.parent.stat()
    except OSError as error:
        return error
    number = 0
    if found is not None and stat.S_ISDIR(found.st_mode):
        number = errno.EISDIR
    elif not os.access(path.parent, os.W_OK | os.X_OK) or (found and not os.access(path, os.R_OK | os.W_OK)):
        is_read_only = hasattr(os, "statvfs") and os.statvfs(path.parent).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
    return OSError(number, os.strerror(number), str(path)) if number else None


def _require_descriptors(number: int) -> None:
    descriptors = []
    try:
        for _ in range(number):
            descriptors.append(os.open(os.devnull, os.O_RDONLY))  # noqa: PERF401 - those opened so far must be closed
    finally:
        for one in descriptors:
            os.close(one)


def status(path: Path) -> os.stat_result | None:
    """Return the status of a file or folder; None if there is none.

    Raises:
        OSError: It is unknown whether there is one, as in a folder that this user cannot search.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def expanded_setting(path: str | os.PathLike[str], *, key: str) -> Path:
    """Return a path that a setting names, with the home folder in place of `~` or `~name`.

    Raises:
        ConfigError: There is no such user.
    """
    text = os.fspath(path)
    expanded = os.path.expanduser(text)  # noqa: PTH111 - the method of `Path` raises RuntimeError
    if expanded == text and text.startswith("~"):
        user = re.split(r"[/\\]", text[1:], maxsplit=1)[0]
        raise ConfigError(
            f"{key}: there is no user {_shown(user)}: {_shown(text)}",
            key=key,
            hint="for a name that begins with ~, write its whole path",
        )
    return Path(expanded)


def read_text(what: str, path: Path, *, key: str, hint: str = "") -> str:
    """Return the content of a file that a setting names. For small files: one of more than 4 MiB is refused.

    Args:
        what: What failed, before the path: "cannot read the config file".
        path: The file.
        key: The setting.
        hint: What to do about it in general.

    Raises:
        ConfigError: The file cannot be read, is too large, or is not UTF-8 text.
    """
    with setting_errors(what, path, key=key, hint=hint), path.open("rb") as file:
        content = file.read(_MAX_TEXT_BYTES + 1)
    if len(content) > _MAX_TEXT_BYTES:
        raise _unusable(what, path, f"it is larger than {_MAX_TEXT_BYTES // 1024 // 1024} MiB", key=key, hint=hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    raise _unusable(what, path, reason, key=key, hint=hint)


def parse_toml(text: str, path: Path, *, hint: str = "correct that place") -> dict[str, Any]:
    """Parse the content of a TOML file.

    Raises:
        ConfigError: It is not TOML.
    """
    import tomllib  # noqa: PLC0415 - few commands read such a file

    try:
        return tomllib.loads(text)
    except ValueError as error:  # also an integer of thousands of digits
        end = f"at line {max(len(text.splitlines()), 1)}, the end of the file"  # which Python's parser leaves for the reader to count
        reason = first_line(error).replace("at end of document", end)
    except RecursionError:
        reason = "it is nested too deeply"
    raise ConfigError(f"{_shown(path)} is not TOML: {reason}", key=str(path), hint=hint)


def _unusable(what: str, path: Path, reason: str, *, key: str, hint: str) -> ConfigError:
    return ConfigError(f"{what} {_shown(path)}: {reason}", key=key, hint=hint)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Create a folder that only this user can read, and delete it with all of its content at the end of the block.

    Raises:
        ConfigError: It cannot be created.
    """
    import tempfile  # noqa: PLC0415 - few commands need it

    hint = "set TMPDIR to a folder that this user can write to"
    with contextlib.ExitStack() as stack:
        with setting_errors(
            "cannot create a temporary folder in",
            os.environ.get("TMPDIR", "the system's folder"),
            key="TMPDIR",
            hint=hint,
        ):
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix))
        yield Path(name)


def _shown(path: str | os.PathLike[str]) -> str:
    """Return a path for people, without the middle of an absurdly long one."""
    text = shown_name(os.fspath(path))
    half = _MAX_SHOWN // 2
    return text if len(text) <= _MAX_SHOWN else f"{text[:half]}...{text[-half:]}"


def _joined(remedy: str, hint: str) -> str:
    return "; ".join(filter(None, [remedy, hint])) or _ANY_REMEDY
